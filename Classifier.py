"""A classifier of sequences, normalised, convolved and read by an LSTM, and the three ways to train it.

plain: the model as it is. AdvLSTM: adversarial training on the inputs of the LSTM (models/adversarial.py). ProxLSTM:
the proximal LSTM instead of the LSTM (ProxLSTM.py). All three have the same parameters under the same names, so that a
checkpoint of one initialises another. docs/jv_training.md lists the names of the course beside those used here.

Letters in shapes: B batch, T time steps, T' those left by the convolution, I input size, C channels, H hidden size,
K classes, D directions, F features of any kind.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, cross_entropy, normalize
from torch.nn.utils.rnn import pack_padded_sequence

from lstm_studies.models.adversarial import compute_perturbation, find_perturbation, note_inputs
from lstm_studies.models.arguments import constructor_arguments
from lstm_studies.models.lengths import checked_lengths, is_step, reversed_within
from lstm_studies.models.recording import is_transformed
from lstm_studies.models.recurrence import next_state, run_steps
from ProxLSTM import ProxLSTM

MODES = ("plain", "AdvLSTM", "ProxLSTM")
PLACES = ("input", "convolution", "lstm")
NORMALIZATIONS = ("standard", "l2")


class LSTMClassifier(nn.Module):
    """Classifier: normalised steps, convolution over time and ReLU (v), LSTM over v, its last state, linear layer.

    Args:
        input_size, classes: I features per step, K classes.
        hidden_size, channels, kernel_size, stride: of the LSTM and of the convolution, which has no padding, so that
            `kernel_size` - 1 steps are lost.
        mode: "plain", "AdvLSTM" or "ProxLSTM".
        epsilon: length of the perturbation of a sequence v (AdvLSTM), weight of the proximal problem (ProxLSTM); with
            epsilon = 0 both are the plain model.
        normalization: "l2" divides each step by its norm over the features, which discards its magnitude; "standard"
            gives each feature mean 0 and standard deviation 1 over the training data, once `set_scale` was called.
        bidirectional: concatenates the last states of both directions.
        noise: standard deviation of Gaussian noise added to every value of x, in training.
        offset: standard deviation of Gaussian noise added to the normalised features, in training: one draw per
            sequence and feature, the same for all of its steps.
        dropout, dropout_places: rate, and layers out of "input" (before the convolution), "convolution" (after the
            ReLU) and "lstm" (before the last layer).
        batch_norm_places: out of the same; batch norm acts before dropout and ignores padding. Its running statistics
            are those of clean sequences: AdvLSTM normalises the perturbed ones by their own, as in Xie et al.,
            "Adversarial examples improve image recognition", CVPR 2020.
        method: how the proximal map is computed, see ProxLSTM.
        class_names: names of the K classes, or none.
        attack_steps: gradient steps by which AdvLSTM finds the perturbation of v. One has the length epsilon; several
            are projected to that length at most (Madry et al. 2018).

    Raises ValueError for an unknown mode, normalization or place, for negative numbers and for no attack step.
    """

    def __init__(
        self,
        input_size: int = 12,
        hidden_size: int = 64,
        classes: int = 9,
        channels: int = 64,
        kernel_size: int = 3,
        mode: str = "plain",
        epsilon: float = 0.0,
        normalization: str = "l2",
        bidirectional: bool = False,
        noise: float = 0.0,
        dropout: float = 0.0,
        dropout_places: tuple[str, ...] = ("lstm",),
        batch_norm_places: tuple[str, ...] = (),
        method: str = "auto",
        offset: float = 0.0,
        stride: int = 1,
        class_names: tuple[str, ...] = (),
        attack_steps: int = 1,
    ):
        super().__init__()
        self.arguments = constructor_arguments(locals())
        check_choice("mode", mode, MODES)
        check_choice("normalization", normalization, NORMALIZATIONS)
        if unknown := {*dropout_places, *batch_norm_places} - {*PLACES}:
            raise ValueError(f"places must be among {', '.join(PLACES)}, not {', '.join(sorted(unknown))}")
        if min(epsilon, noise, offset) < 0:
            raise ValueError(f"epsilon, noise and offset must not be negative, not {epsilon}, {noise} and {offset}")
        if attack_steps < 1:
            raise ValueError(f"attack_steps must be at least 1, not {attack_steps}")
        if class_names and len(class_names) != classes:
            raise ValueError(f"class_names must be {classes} names or none, not {len(class_names)}")
        self.mode, self.epsilon, self.dropout_places, self.attack_steps = mode, epsilon, dropout_places, attack_steps
        self.normalization, self.noise, self.offset, self.class_names = normalization, noise, offset, class_names
        if normalization == "standard":
            self.register_buffer("mean", torch.zeros(input_size))
            self.register_buffer("std", torch.ones(input_size))
        self.convolution = nn.Conv1d(input_size, channels, kernel_size, stride)
        options = {"batch_first": True, "bidirectional": bidirectional}
        if mode == "ProxLSTM":
            self.lstm = ProxLSTM(channels, hidden_size, epsilon=epsilon, method=method, **options)
        else:
            self.lstm = nn.LSTM(channels, hidden_size, **options)
        outputs = hidden_size * (1 + bidirectional)
        self.linear = nn.Linear(outputs, classes)
        self.dropout = nn.Dropout(dropout)
        sizes = dict(zip(PLACES, (input_size, channels, outputs), strict=True))
        self.batch_norms = nn.ModuleDict({place: nn.BatchNorm1d(sizes[place]) for place in batch_norm_places})

    def set_scale(self, steps: Tensor) -> None:
        """Takes mean and standard deviation of each feature from the training data's steps (N, I), without padding."""
        for buffer, value in zip((self.mean, self.std), mean_and_deviation(steps), strict=True):
            buffer.copy_(value)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        batch_size: int | None = None,
        mode: str | None = None,
        r: Tensor | float | None = None,
    ) -> Tensor:
        """Logits (B, K) of x (B, T, I), of which the first `lengths` (B,) steps count; at least `kernel_size` each.

        The lengths are a tensor, an array or a list of whole numbers. The course's call, model(x, r, batch_size, mode),
        is accepted, too: see `forward_perturbed`. ValueError for both lengths and r.
        """
        if r is not None and lengths is not None:
            raise ValueError("expected lengths or r, not both: with r, x ends where it is padded with zeros")
        if lengths is None or np.ndim(lengths) != 1 or batch_size is not None or mode is not None:
            return self.forward_perturbed(x, lengths if r is None else r, batch_size, mode)
        return self.classify(*self.features(x, lengths))

    def forward_perturbed(
        self, x: Tensor, r: Tensor | float | None = None, batch_size: int | None = None, mode: str | None = None
    ) -> Tensor:
        """Logits (B, K) of v + epsilon r with r (B, T', C), or of v if r is None or 0, for x padded with zeros.

        The graph of the logits remembers v, from which `compute_perturbation(loss, model)` makes the next r; the model
        does not. `batch_size` and `mode` are only compared with x and with the model, which knows both: ValueError if
        they differ.
        """
        if batch_size not in (None, len(x)):
            raise ValueError(f"batch_size must be {len(x)}, as x has it, not {batch_size}")
        if mode == "ProxLSTM" and self.mode != mode:
            raise ValueError(
                f'mode is "{self.mode}": for the proximal LSTM make LSTMClassifier(mode="ProxLSTM", epsilon=...) and '
                "load the state_dict of this model into it"
            )
        check_choice("mode", mode or self.mode, MODES)
        v, lengths = self.features(x, lengths_without_padding(x))
        if torch.is_grad_enabled() and not v.requires_grad:  # a model whose weights are constant
            v.requires_grad_()
        r = None if np.ndim(r) == 0 and r == 0 else r
        if r is not None and np.shape(r) != v.shape:
            raise ValueError(f"r must be 0 or a perturbation of v {tuple(v.shape)}, not {tuple(np.shape(r))}")
        logits = self.classify(v if r is None else v + self.epsilon * r, lengths, perturbed=r is not None)
        note_inputs(logits, self, v)
        return logits

    def features(self, x: Tensor, lengths: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """v (B, T', C), the input of the LSTM, and how many of its steps count (B,)."""
        kernel, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        if x.dim() != 3 or x.shape[2] != self.convolution.in_channels:
            raise ValueError(f"x must be (B, T, {self.convolution.in_channels}), not {tuple(x.shape)}")
        if not torch.compiler.is_compiling():  # where no value is known
            lengths = checked_lengths(lengths, len(x), x.shape[1], least=kernel).to(x.device)
        x = x.masked_fill(~is_step(x, lengths).unsqueeze(2), 0.0)  # whatever padding holds, such as NaN
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        x = normalize(x, dim=2) if self.normalization == "l2" else (x - self.mean) / self.std
        if self.training and self.offset:
            x = x + self.offset * torch.randn_like(x[:, :1])
        x = self.regularize(x, "input", lengths)
        return torch.relu(self.convolution(x.mT)).mT, (lengths - kernel) // stride + 1  # convolved over T

    def classify(self, v: Tensor, lengths: Tensor, perturbed: bool = False) -> Tensor:
        """Logits (B, K) of v (B, T', C); what follows a sequence's own length does not count."""
        v = self.regularize(v, "convolution", lengths, perturbed)
        return self.linear(self.regularize(self.last_states(v, lengths), "lstm", perturbed=perturbed))

    def last_states(self, v: Tensor, lengths: Tensor) -> Tensor:
        """(B, D H): the LSTM's state after each sequence's own last step, and in the other direction after its first.

        Packed, padding never enters. On a CPU, PyTorch has its fast kernel for padded sequences only, which then take
        half the time: the LSTM reads on into the padding, which changes no state before it. Backwards, it reads each
        sequence reversed within its length.
        """
        is_padded = is_transformed(v) or (not self.is_proximal and v.device.type == "cpu")
        if not is_padded and not torch.compiler.is_compiling():  # in both, no lengths are known by which to pack
            packed = pack_padded_sequence(v, lengths.cpu(), batch_first=True, enforce_sorted=False)
            _, (h, _) = self.lstm(packed)  # (D, B, H)
            return h.transpose(0, 1).flatten(1)
        rows, states = torch.arange(v.shape[0], device=v.device), []
        for weights in self.lstm.all_weights:  # of one direction each
            if states:
                v = reversed_within(v, lengths)
            states.append(self.run_lstm(v, weights)[rows, lengths - 1])
        return torch.cat(states, 1)

    def run_lstm(self, v: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """h (B, T', H) of padded v in one direction, with the weights [W_ih, W_hh, b_ih, b_hh]."""
        state = (v.new_zeros(1, v.shape[0], self.lstm.hidden_size),) * 2
        fixed = not isinstance(v.shape[1], torch.SymInt) if torch.compiler.is_compiling() else not is_transformed(v)
        if not self.is_proximal and fixed:
            return torch.lstm(v, state, weights, True, 1, 0.0, False, False, True)[0]
        # a program for any number of steps, or torch.func, cannot have torch.lstm
        state, v = [part[0] for part in state], v.transpose(0, 1)
        if self.is_proximal:
            return self.lstm.run(v, state, weights)[0].transpose(0, 1)
        return run_steps(next_state, [v], state, weights)[0].transpose(0, 1)

    @property
    def is_proximal(self) -> bool:
        return self.mode == "ProxLSTM" and self.epsilon > 0

    def regularize(self, x: Tensor, place: str, lengths: Tensor | None = None, perturbed: bool = False) -> Tensor:
        """x (B, T, F), or (B, F) without lengths, after the batch norm and the dropout of this layer, if any."""
        if place in self.batch_norms:
            norm = self.batch_norms[place]
            if not self.training:
                x = norm(x.flatten(0, -2)).view_as(x)
            elif lengths is None:
                x = normalize_batch(norm, x, perturbed)
            else:
                counts = is_step(x, lengths)
                x = torch.zeros_like(x).masked_scatter(counts.unsqueeze(2), normalize_batch(norm, x[counts], perturbed))
        return self.dropout(x) if place in self.dropout_places else x

    def loss(self, x: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy, and logits (B, K) of the clean sequences. Labels (B,) in 0..K-1.

        In training, AdvLSTM takes the mean over the batch of all v and all v + epsilon r, r = g / ||g|| with g the
        gradient of a sample's loss with respect to its whole sequence v, constant. With several `attack_steps`, the
        perturbation is that of projected gradient ascent within ||.|| <= epsilon.
        """
        v, lengths = self.features(x, lengths)
        if self.mode == "AdvLSTM" and torch.is_grad_enabled() and not v.requires_grad:
            v.requires_grad_()  # its convolution is frozen
        logits = self.classify(v, lengths)
        loss = cross_entropy(logits, labels)
        if self.mode != "AdvLSTM" or not self.training or not self.epsilon:
            return loss, logits

        def perturbed_loss(v: Tensor) -> Tensor:
            return cross_entropy(self.classify(v, lengths, perturbed=True), labels)

        if self.attack_steps == 1:
            perturbed = v + self.epsilon * compute_perturbation(loss, v)
        else:
            perturbed = v + find_perturbation(perturbed_loss, v.detach(), self.epsilon, self.attack_steps)
        return (loss + perturbed_loss(perturbed)) / 2, logits


def mean_and_deviation(steps: Tensor) -> tuple[Tensor, Tensor]:
    """(I,) each, of steps (N, I). Of a constant feature, whose deviation is that of rounding at most, 1 or that."""
    std, rounding = steps.std(0), 1e-6 * steps.abs().amax(0)
    return steps.mean(0), torch.where(std > rounding, std, rounding.clamp_min(1.0))


def normalize_batch(norm: nn.BatchNorm1d, x: Tensor, perturbed: bool) -> Tensor:
    """x (N, F) normalised by its mean and variance, which update the running ones if the sequences are clean."""
    if len(x) < 2:
        raise ValueError("batch norm needs at least two sequences or steps per training batch, not 1")
    if perturbed:
        return batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    return norm(x)


def lengths_without_padding(x: Tensor) -> Tensor:
    """(B,): the steps of each of x (B, T, I) up to its last one that is not all zero, at least 1."""
    steps = torch.arange(1, x.shape[1] + 1, device=x.device)
    return (x.any(2) * steps).amax(1).clamp_min(1)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
