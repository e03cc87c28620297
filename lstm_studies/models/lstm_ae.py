"""LSTM and ConvLSTM autoencoders.

An encoder LSTM reads a sequence; its last hidden state is the code z; a decoder LSTM gets the same z as its input at
every step and writes the sequence again (Srivastava, Mansimov, Salakhutdinov 2015, "Unsupervised learning of video
representations using LSTMs", section 2, unconditioned decoder). z is all that the decoder sees: no encoder output, no
encoder state and no previous target goes around it.

Letters: B batch, T time steps, I input size, H hidden size, Z code size, K classes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils import _pytree
from torch.utils.checkpoint import checkpoint

from lstm_studies.models.arguments import constructor_arguments
from lstm_studies.models.conv_lstm import CONVOLUTIONS, ConvLSTM
from lstm_studies.models.initialisation import initialise_lstm
from lstm_studies.models.lengths import checked_lengths
from lstm_studies.models.recording import is_transformed
from lstm_studies.models.recurrence import run_lstm

HEADS = ("shared", "deep", "separate")
HEAD_WIDTH = 128  # units of the hidden layer of the head "deep"
OUTPUT_LAYERS = ("sigmoid", "linear")


class AutoencoderOutput(NamedTuple):
    """Output of a forward pass. Heads that the model does not have are None."""

    reconstruction: Tensor  # (B, T, I), in [0, 1] but for a linear output layer
    code: Tensor  # (B, Z)
    logits: Tensor | None  # (B, K); log-probabilities if the model has `log_probabilities`
    prediction: Tensor | None  # (B, T, P), in [0, 1]: step t holds the estimate of step t + 1


# so that an exported autoencoder can be saved
_pytree._register_namedtuple(AutoencoderOutput, serialized_type_name="lstm_studies.AutoencoderOutput")


class Autoencoder(nn.Module):
    """Base class of both autoencoders: encode, unroll, reconstruct, and the output heads.

    A subclass gives `encode(x, lengths) -> z`, `unroll(decoder, z, steps) -> (B, T, ...)` for one of its decoders, and
    `reconstruct(states) -> (B, T, I)`. It sets `decoder` and, for the head "separate", `class_decoder`.

    Args:
        features: values of the decoder's state at one step, all of which the heads read.
        num_classes: K, 0 for no class head.
        prediction_size: P, values of the next-step head, 0 for none.
        dropout: dropout rate before the class head's last layer.
        head: what gives the class. "shared": a linear layer on the decoder's last state. "deep": the same with a
            hidden layer of HEAD_WIDTH rectified units. "separate": a linear layer on the last state of a decoder of its
            own, so that reconstruction and class share the code and the encoder only.
        log_probabilities: the logits are normalised: they are log-probabilities.
    """

    decoder: nn.Module

    def __init__(
        self,
        features: int,
        num_classes: int,
        prediction_size: int,
        dropout: float,
        head: str = "shared",
        log_probabilities: bool = False,
    ):
        super().__init__()
        check_at_least(0, num_classes=num_classes, prediction_size=prediction_size)
        if head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}, not {head!r}")
        self.head, self.log_probabilities = head, log_probabilities
        self.class_decoder: nn.Module | None = None
        self.hidden_layer = nn.Linear(features, HEAD_WIDTH) if num_classes and head == "deep" else None
        width = features if self.hidden_layer is None else HEAD_WIDTH
        self.class_head = nn.Linear(width, num_classes) if num_classes else None
        self.prediction_head = nn.Linear(features, prediction_size) if prediction_size else None
        if self.prediction_head is not None:  # starts at 1/2 everywhere: at persistence, if that is where x_T is put
            nn.init.zeros_(self.prediction_head.weight)
            nn.init.zeros_(self.prediction_head.bias)
        self.dropout = nn.Dropout(dropout)

    def decode(self, z: Tensor, steps: int) -> Tensor:
        """Codes z (B, Z) to sequences (B, steps, I)."""
        return self.reconstruct(self.unroll(self.decoder, z, steps))

    def forward(self, x: Tensor, lengths: Sequence[int] | Tensor | None = None) -> AutoencoderOutput:
        """Encodes and decodes x (B, T, I). With `lengths` (B,), steps past a sequence's own length are padding: they do
        not reach the code, and the class head reads its decoder at each sequence's own last step.
        """
        code = self.encode(x, lengths)
        states = self.unroll(self.decoder, code, x.shape[1])  # (B, T, ...)
        logits = prediction = None
        if self.class_head is not None:
            own = states if self.class_decoder is None else self.unroll(self.class_decoder, code, x.shape[1])
            last = own[:, -1]
            if lengths is not None:
                last = last_states(own, checked_lengths(lengths, *x.shape[:2]))
            logits = self.classify(last.flatten(1))
        if self.prediction_head is not None:
            prediction = torch.sigmoid(self.prediction_head(states))
        return AutoencoderOutput(self.reconstruct(states), code, logits, prediction)

    def classify(self, state: Tensor) -> Tensor:
        """A decoder's last state (B, features) to logits (B, K)."""
        if self.hidden_layer is not None:
            state = torch.relu(self.hidden_layer(state))
        logits = self.class_head(self.dropout(state))
        working = torch.promote_types(logits.dtype, torch.float32)
        return logits.to(working).log_softmax(1) if self.log_probabilities else logits


class LSTMAutoencoder(Autoencoder):
    """Encoder LSTM -> z -> decoder LSTM -> x~_t = sigmoid(U h~_t + b), or with a linear output layer 1/2 + U h~_t + b.

    Args:
        input_size: I, values per step.
        hidden_size: H, units of encoder and decoder.
        code_size: Z. None: z is the encoder's last hidden state itself and Z = H. A number: z is a linear map of it to
            Z values, so that the width of the LSTMs and that of the bottleneck can be chosen apart.
        num_layers: stacked layers in encoder and decoder; the code comes from the top one.
        num_classes, prediction_size, dropout, head, log_probabilities: as in `Autoencoder`.
        timescale: for `initialise_lstm` of the encoder; the sequence length is a good value when sequences are long.
        encoding_periods: periods, in steps, of the positional encoding that the decoder reads beside z. It is the same
            for every sequence, so z stays the only thing that the decoder knows of x. Empty: none. A decoder of
            hundreds of steps with a constant input does not learn to count them.
        input_mean, input_std: the encoder reads (x - input_mean) / input_std, which should have about unit variance;
            a number each, or one for each of the I values of a step.
        checkpoint_steps: steps of a chunk of time. Only the states between chunks are kept for the backward pass, which
            computes what is inside of them again (Chen et al. 2016): memory for T / N + N steps instead of T, least at
            N = sqrt(T), for one more forward pass. 0: everything is kept. Without `lengths` and `prediction_size` only.
        output_layer: "sigmoid" or "linear". A sigmoid reaches 0 and 1 at infinite arguments only, which costs it more
            where the sequences reach these than a linear layer, whose values may leave [0, 1].
        clock_periods: the name of `encoding_periods` in older checkpoints.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        code_size: int | None = None,
        num_layers: int = 1,
        num_classes: int = 0,
        prediction_size: int = 0,
        dropout: float = 0.0,
        timescale: int | None = None,
        encoding_periods: Sequence[float] = (),
        input_mean: float | Sequence[float] | Tensor = 0.5,
        input_std: float | Sequence[float] | Tensor = 0.25,
        head: str = "shared",
        log_probabilities: bool = False,
        checkpoint_steps: int = 0,
        output_layer: str = "sigmoid",
        *,
        clock_periods: Sequence[float] = (),
    ):
        check_at_least(1, input_size=input_size, hidden_size=hidden_size, code_size=code_size, num_layers=num_layers)
        check_at_least(0, checkpoint_steps=checkpoint_steps)
        super().__init__(hidden_size, num_classes, prediction_size, dropout, head, log_probabilities)
        input_mean, input_std = scale_of_inputs(input_mean, input_std, input_size)
        encoding_periods = checked_periods(encoding_periods, clock_periods)
        self.arguments = constructor_arguments(locals(), without="clock_periods")
        if output_layer not in OUTPUT_LAYERS:
            raise ValueError(f"output_layer must be one of {', '.join(OUTPUT_LAYERS)}, not {output_layer!r}")
        self.checkpoint_steps = checkpoint_steps
        self.encoding_periods = tuple(encoding_periods)
        for name, value in (("input_mean", input_mean), ("input_std", input_std)):
            if isinstance(value, list):
                self.register_buffer(name, torch.tensor(value), persistent=False)
            else:
                setattr(self, name, value)
        self.code_size = hidden_size if code_size is None else code_size
        decoder_inputs = self.code_size + 2 * len(self.encoding_periods)
        self.encoder = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.to_code = nn.Identity() if code_size is None else nn.Linear(hidden_size, code_size)
        self.decoder = nn.LSTM(decoder_inputs, hidden_size, num_layers, batch_first=True)
        self.output = nn.Linear(hidden_size, input_size)
        initialise_lstm(self.encoder, timescale)
        initialise_lstm(self.decoder)
        if num_classes and head == "separate":
            self.class_decoder = nn.LSTM(decoder_inputs, hidden_size, num_layers, batch_first=True)
            initialise_lstm(self.class_decoder)

    def forward(self, x: Tensor, lengths: Sequence[int] | Tensor | None = None) -> AutoencoderOutput:
        """As `Autoencoder.forward`, in chunks of time while gradients are recorded if there are `checkpoint_steps`."""
        whole = not self.checkpoint_steps or lengths is not None or self.prediction_head is not None
        whole = whole or not torch.is_grad_enabled() or is_transformed(x)
        return super().forward(x, lengths) if whole else self.in_chunks(x)

    def in_chunks(self, x: Tensor) -> AutoencoderOutput:
        """Encodes and decodes x (B, T, I); the backward pass computes each chunk of time again."""
        check_sequences(x, self.encoder.input_size)
        state = None
        for chunk in ((x - self.input_mean) / self.input_std).split(self.checkpoint_steps, 1):
            _, *state = recomputed(self.read, self.encoder, chunk, state)
        code = self.to_code(state[0][-1])
        reconstruction, last = self.write_in_chunks(self.decoder, code, x.shape[1])
        if self.class_decoder is not None:
            _, last = self.write_in_chunks(self.class_decoder, code, x.shape[1])
        logits = None if self.class_head is None else self.classify(last)
        return AutoencoderOutput(reconstruction, code, logits, None)

    def write_in_chunks(self, decoder: nn.LSTM, z: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """What a decoder writes, (B, steps, I), and its last hidden state (B, H)."""
        written, state = [], None
        for start in range(0, steps, self.checkpoint_steps):
            inputs = self.decoder_inputs(z, steps, start, min(start + self.checkpoint_steps, steps))
            own, *state = recomputed(self.read, decoder, inputs, state, self.reconstruct)
            written.append(own)
        return torch.cat(written, 1), state[0][-1]

    @staticmethod
    def read(
        lstm: nn.LSTM, x: Tensor, state: Sequence[Tensor] | None, then: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """`then` of the hidden states over a chunk x (B, n, inputs), and the state (h, c) after it."""
        states, (h, c) = lstm(x, None if state is None else tuple(state))
        return None if then is None else then(states), h, c

    def encode(self, x: Tensor, lengths: Sequence[int] | Tensor | None = None) -> Tensor:
        """Sequences x (B, T, I), padded if `lengths` (B,) are given, to codes (B, Z)."""
        check_sequences(x, self.encoder.input_size)
        x = (x - self.input_mean) / self.input_std
        if lengths is None:
            _, (h, _) = run_lstm(self.encoder, x)
            return self.to_code(h[-1])
        lengths = checked_lengths(lengths, *x.shape[:2])
        if is_transformed(x) or not len(x):  # PyTorch packs neither there nor an empty batch
            return self.to_code(last_states(run_lstm(self.encoder, x)[0], lengths))
        _, (h, _) = self.encoder(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))
        return self.to_code(h[-1])

    def unroll(self, decoder: nn.LSTM, z: Tensor, steps: int) -> Tensor:
        """Codes (B, Z) to the hidden states (B, steps, H) of a decoder."""
        states, _ = run_lstm(decoder, self.decoder_inputs(z, steps, 0, steps))
        return states

    def decoder_inputs(self, z: Tensor, steps: int, start: int, stop: int) -> Tensor:
        """What a decoder reads at the n steps from `start` to `stop`: codes (B, Z) and positional encoding,
        (B, n, Z + 2 periods).
        """
        inputs = z.unsqueeze(1).expand(-1, stop - start, -1)
        if not self.encoding_periods:
            return inputs
        encoding = positional_encoding(steps, self.encoding_periods, z.device).to(z.dtype)[start:stop]
        return torch.cat([inputs, encoding.expand(z.shape[0], -1, -1)], 2)

    def reconstruct(self, states: Tensor) -> Tensor:
        x = self.output(states)
        return torch.sigmoid(x) if self.arguments["output_layer"] == "sigmoid" else 0.5 + x


def last_states(states: Tensor, lengths: Tensor) -> Tensor:
    """Of states (B, T, ...), each sequence's own last one (B, ...)."""
    return states[torch.arange(states.shape[0], device=states.device), lengths.to(states.device) - 1]


def recomputed(function: Callable, *arguments: object) -> tuple:
    """`function(*arguments)`, whose intermediate values are not kept but computed again in the backward pass."""
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def harmonic_periods(steps: float, harmonics: int) -> list[float]:
    """Periods for `positional_encoding`: steps / 1, steps / 2, ..., steps / harmonics, in steps, none below two."""
    return [steps / k for k in range(1, harmonics + 1) if steps / k >= 2]


def checked_periods(encoding_periods: Sequence[float], clock_periods: Sequence[float]) -> list[float]:
    """The periods, which older checkpoints have under the second name. Raises ValueError unless all are positive."""
    periods = [float(period) for period in (encoding_periods if len(encoding_periods) else clock_periods)]
    if not all(0 < period < math.inf for period in periods):
        raise ValueError(f"encoding_periods must be positive and finite, not {tuple(periods)}")
    return periods


def scale_of_inputs(mean: Any, std: Any, input_size: int) -> list[float | list[float]]:
    """Mean and deviation as numbers, or as lists of one per value of a step. Raises ValueError for others."""
    values = []
    for name, given in (("input_mean", mean), ("input_std", std)):
        value = np.asarray(given.tolist() if isinstance(given, Tensor) else given)
        if value.dtype.kind not in "iuf" or value.shape not in ((), (input_size,)):
            raise ValueError(f"{name} must be a number or {input_size} numbers, not {str(given)[:80]}")
        if not np.isfinite(value).all() or (name == "input_std" and (value <= 0).any()):
            raise ValueError(f"input_std must be positive, both finite, not {std} and {mean}")
        values.append(value.astype(float).tolist())
    return values


def positional_encoding(steps: int, periods: Sequence[float], device: torch.device | None = None) -> Tensor:
    """Sines and cosines of the step number, (steps, 2 * len(periods)); periods in steps."""
    angles = 2 * math.pi * torch.arange(steps, device=device).unsqueeze(1) / torch.tensor(periods, device=device)
    return torch.cat([angles.sin(), angles.cos()], 1)


def check_sequences(x: Tensor, input_size: int) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a padded tensor (B, T, {input_size}), with `lengths`, not {type(x).__name__}")
    if x.dim() != 3 or x.shape[2] != input_size or x.shape[1] == 0:
        raise ValueError(f"x must be (B, T, {input_size}) with T >= 1, not {tuple(x.shape)}")


def check_at_least(least: int, **numbers: int | None) -> None:
    """Raises ValueError unless all numbers that are given are whole and at least `least`."""
    for name, number in numbers.items():
        if number is not None and (int(number) != number or number < least):
            raise ValueError(f"{name} must be a whole number of at least {least}, not {number}")


class ConvLSTMAutoencoder(Autoencoder):
    """Convolutional LSTM autoencoder: each step of the sequence is a map of `map_shape` (I = the product of its sizes).

    The encoder's last hidden map is flattened and mapped linearly to the code z (B, Z); a second linear map makes z the
    decoder's constant input map. A convolution reads each step's output map from the decoder's hidden map.

    A step of a single value has no space to convolve over. There the encoder's convolution is over time instead: at
    each step it reads the last `kernel_size` values, zeros before the first one.

    Args:
        map_shape: (W,) or (H, W), the map that one step of the sequence is.
        code_size: Z.
        channels: hidden channels of encoder and decoder.
        kernel_size: odd, of all convolutions; with one value per step, the values that the encoder reads at each step.
        num_classes, dropout, head, log_probabilities: as in `Autoencoder`.
        timescale, encoding_periods: as in `LSTMAutoencoder`; the positional encoding reaches the gates through a linear
            map, the same for all places of the map.
        clock_periods: the name of `encoding_periods` in older checkpoints.
    """

    def __init__(
        self,
        map_shape: tuple[int, ...],
        code_size: int,
        channels: int = 16,
        kernel_size: int = 3,
        num_classes: int = 0,
        dropout: float = 0.0,
        timescale: int | None = None,
        encoding_periods: Sequence[float] = (),
        head: str = "shared",
        log_probabilities: bool = False,
        *,
        clock_periods: Sequence[float] = (),
    ):
        if len(map_shape) not in CONVOLUTIONS or min(map_shape) < 1:
            raise ValueError(f"map_shape must be one or two positive sizes, not {tuple(map_shape)}")
        check_at_least(1, code_size=code_size, channels=channels)
        super().__init__(channels * math.prod(map_shape), num_classes, 0, dropout, head, log_probabilities)
        map_shape, encoding_periods = list(map_shape), checked_periods(encoding_periods, clock_periods)
        self.arguments = constructor_arguments(locals(), without="clock_periods")
        pixels = math.prod(map_shape)
        self.map_shape, self.input_size, self.code_size = tuple(map_shape), pixels, code_size
        dims = len(map_shape)
        self.window = kernel_size if pixels == 1 else 1
        kernel_size = 1 if pixels == 1 else kernel_size
        self.encoder = ConvLSTM(self.window, channels, kernel_size, dims, timescale)
        self.to_code = nn.Linear(channels * pixels, code_size)
        self.from_code = nn.Linear(code_size, channels * pixels)
        self.decoder = ConvLSTM(channels, channels, kernel_size, dims)
        if num_classes and head == "separate":
            self.class_decoder = ConvLSTM(channels, channels, kernel_size, dims)
        self.encoding_periods = tuple(encoding_periods)
        self.encoding_to_gates = (
            nn.Linear(2 * len(self.encoding_periods), 4 * channels, bias=False) if encoding_periods else None
        )
        self.output_conv = CONVOLUTIONS[dims](channels, 1, kernel_size, padding="same")
        self.register_load_state_dict_pre_hook(rename_old_weights)

    def encode(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Sequences x (B, T, I) of flattened maps to codes (B, Z). Variable lengths are not supported."""
        if lengths is not None:
            raise ValueError("the convolutional autoencoder takes sequences of one length; lengths must be None")
        check_sequences(x, self.input_size)
        if self.window == 1:
            maps = x.unflatten(2, (1, *self.map_shape))
        else:  # the last values up to each step, the oldest first
            maps = pad(x, (0, 0, self.window - 1, 0)).unfold(1, self.window, 1).transpose(2, 3)
            maps = maps.unflatten(3, self.map_shape)  # (B, T, window, *map_shape)
        _, h = self.encoder(maps)
        return self.to_code(h.flatten(1))

    def unroll(self, decoder: ConvLSTM, z: Tensor, steps: int) -> Tensor:
        """Codes (B, Z) to the hidden maps (B, steps, channels, *map_shape) of a decoder."""
        z_map = self.from_code(z).unflatten(1, (-1, *self.map_shape))  # (B, channels, *map_shape)
        bias = None
        if self.encoding_to_gates is not None:
            encoding = positional_encoding(steps, self.encoding_periods, z.device).to(z.dtype)
            bias = self.encoding_to_gates(encoding)  # (steps, 4 channels)
        states, _ = decoder(z_map, steps, bias)
        return states

    def reconstruct(self, states: Tensor) -> Tensor:
        by_time = states.transpose(0, 1)  # as they lie in memory
        maps = torch.sigmoid(self.output_conv(by_time.flatten(0, 1)))  # (T * B, 1, *map_shape)
        return maps.flatten(1).unflatten(0, by_time.shape[:2]).transpose(0, 1)


def rename_old_weights(module: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Gives the weights of older checkpoints their present names."""
    if (old := f"{prefix}clock.weight") in weights:
        weights[f"{prefix}encoding_to_gates.weight"] = weights.pop(old)
