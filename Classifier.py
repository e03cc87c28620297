"""A classifier of sequences, normalised, convolved and read by an LSTM, and the three ways to train it.

plain: the model as it stands. AdvLSTM: adversarial training on the inputs of the LSTM (see adversarial.py). ProxLSTM:
the proximal LSTM in the place of the LSTM (see ProxLSTM.py). All three have the same parameters under the same names,
so that a checkpoint of one is a start for another.

Letters in shapes: B batch, T time steps, I input size, C channels, H hidden size, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.nn.utils.rnn import pack_padded_sequence

from models.adversarial import compute_perturbation
from ProxLSTM import ProxLSTM

MODES = ("plain", "AdvLSTM", "ProxLSTM")
PLACES = ("input", "convolution", "lstm")
NORMALIZATIONS = ("standard", "l2")


class LSTMClassifier(nn.Module):
    """Normalised steps, convolution over time, ReLU = v, LSTM over v, its state at the sequence's end, logits.

    normalization "l2" brings each step to length 1 over its features, which drops how large it was; "standard" each
    feature to mean 0 and standard deviation 1 over the training data, once `set_scale` has been called.

    The convolution has no padding: `kernel_size` - 1 steps are lost. With `bidirectional`, the states of both
    directions at their ends are joined. epsilon is the length of the perturbation of a sequence v (AdvLSTM) or the
    weight of the proximal problem (ProxLSTM); with epsilon = 0 both are the plain model.

    dropout and batch_norm act at the places named in `dropout_places` and `batch_norm_places`, out of
    "input" (before the convolution), "convolution" (after the ReLU) and "lstm" (before the last layer), in this order:
    batch norm, then dropout. Batch norm sees the steps of the sequences only, not those of padding. noise is the
    standard deviation of Gaussian noise that is added to x in training.
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
    ):
        super().__init__()
        self.arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, not {normalization!r}")
        if unknown := {*dropout_places, *batch_norm_places} - {*PLACES}:
            raise ValueError(f"places must be among {', '.join(PLACES)}, not {', '.join(sorted(unknown))}")
        if epsilon < 0 or noise < 0:
            raise ValueError(f"epsilon and noise must not be negative, not {epsilon} and {noise}")
        self.mode, self.epsilon, self.noise, self.dropout_places = mode, epsilon, noise, dropout_places
        if normalization == "standard":
            self.register_buffer("mean", torch.zeros(input_size))
            self.register_buffer("std", torch.ones(input_size))
        self.normalization = normalization
        self.convolution = nn.Conv1d(input_size, channels, kernel_size)
        options = {"batch_first": True, "bidirectional": bidirectional}
        if mode == "ProxLSTM":
            self.lstm = ProxLSTM(channels, hidden_size, epsilon, method, **options)
        else:
            self.lstm = nn.LSTM(channels, hidden_size, **options)
        outputs = hidden_size * (1 + bidirectional)
        self.linear = nn.Linear(outputs, classes)
        self.dropout = nn.Dropout(dropout)
        sizes = dict(zip(PLACES, (input_size, channels, outputs), strict=True))
        self.batch_norms = nn.ModuleDict({place: nn.BatchNorm1d(sizes[place]) for place in batch_norm_places})

    def set_scale(self, steps: Tensor) -> None:
        """Takes mean and standard deviation of each feature from the training data's steps (N, I), padding left out."""
        self.mean.copy_(steps.mean(0))
        self.std.copy_(steps.std(0).clamp_min(1e-6))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, K) of x (B, T, I), of which the first `lengths` (B,) steps count; at least `kernel_size` each."""
        v, lengths = self.features(x, lengths)
        return self.classify(v, lengths)

    def features(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, T - kernel_size + 1, C), the input of the LSTM, and how many of its steps count (B,)."""
        lost = self.convolution.kernel_size[0] - 1
        if x.dim() != 3 or x.shape[2] != self.convolution.in_channels or lengths.shape != x.shape[:1]:
            raise ValueError(
                f"x must be (B, T, {self.convolution.in_channels}) and lengths (B,), "
                f"not {tuple(x.shape)} and {tuple(lengths.shape)}"
            )
        if lengths.min() <= lost or lengths.max() > x.shape[1]:
            raise ValueError(f"lengths must be from {lost + 1} to {x.shape[1]}, not {lengths.tolist()}")
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        x = normalize(x, dim=2) if self.normalization == "l2" else (x - self.mean) / self.std
        x = self.regularize(x, lengths, "input")
        return torch.relu(self.convolution(x.mT)).mT, lengths - lost  # convolved over T

    def classify(self, v: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, K) of v (B, T, C); what follows a sequence's own length never enters."""
        v = self.regularize(v, lengths, "convolution")
        packed = pack_padded_sequence(v, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)  # (directions, B, H), at each sequence's own end
        h = h.transpose(0, 1).flatten(1)
        return self.linear(self.regularize(h.unsqueeze(1), torch.ones_like(lengths), "lstm").squeeze(1))

    def regularize(self, x: Tensor, lengths: Tensor, place: str) -> Tensor:
        """x (B, T, features) after the batch norm and the dropout of this place, if there are any."""
        if place in self.batch_norms:
            counts = torch.arange(x.shape[1], device=x.device) < lengths.unsqueeze(1)  # (B, T)
            x = torch.zeros_like(x).masked_scatter(counts.unsqueeze(2), self.batch_norms[place](x[counts]))
        return self.dropout(x) if place in self.dropout_places else x

    def loss(self, x: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy, and logits (B, K) of the clean sequences. Labels (B,) in 0..K-1.

        In training, AdvLSTM takes the mean over the batch of all v and all v + epsilon r, r = g / ||g|| with g the
        gradient of a sample's loss with respect to its whole sequence v, constant.
        """
        v, lengths = self.features(x, lengths)
        logits = self.classify(v, lengths)
        loss = cross_entropy(logits, labels)
        if self.mode != "AdvLSTM" or not self.training or not self.epsilon:
            return loss, logits
        perturbed = v + self.epsilon * compute_perturbation(loss, v)
        return (loss + cross_entropy(self.classify(perturbed, lengths), labels)) / 2, logits
