"""The LSTM autoencoder for windows of a series in its own units, with its scaling and a threshold of anomalies."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lstm_studies.models.arguments import constructor_arguments
from lstm_studies.models.lstm_ae import LSTMAutoencoder, harmonic_periods

LIMIT = 20.0  # standard deviations at which values are cut off


def check_offsets(low: np.ndarray, high: np.ndarray) -> None:
    """Raises ValueError if float32 holds fewer than about 100 values from `low` to `high` (C,) of a column.

    A range of rounding errors, less than 1e-12 of the values, is that of a constant column.
    """
    size = np.maximum(np.abs(low), np.abs(high))
    for k in np.flatnonzero((high - low > 1e-12 * size) & (high - low < 1e-5 * size))[:1]:
        raise ValueError(
            f"column {k + 1}: expected a range that float32 resolves, at least 1e-5 of the values, found values from "
            f"{low[k]:.17g} to {high[k]:.17g}; subtract an offset such as their mean"
        )


class SeriesAutoencoder(nn.Module):
    """Windows (B, T, C) of a series of C columns, scaled by the training part, through an LSTM autoencoder.

    Args:
        columns: C. window: T, records of a window. hidden_size, code_size, num_layers: as of LSTMAutoencoder.
        harmonics: sine and cosine pairs in the decoder's positional encoding. column_names: C names, or none.

    Buffers: `mean` and `std` (C,) of the training part, `threshold`, the error above which a record is an anomaly,
    0 until the end of the training.
    """

    def __init__(
        self,
        columns: int,
        window: int,
        hidden_size: int = 32,
        code_size: int = 4,
        num_layers: int = 1,
        harmonics: int = 4,
        column_names: tuple[str, ...] = (),
    ):
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.autoencoder = LSTMAutoencoder(
            columns,
            hidden_size,
            code_size,
            num_layers,
            encoding_periods=harmonic_periods(window, harmonics),
            input_mean=0.0,
            input_std=1.0,
            output_layer="linear",
        )
        self.window = window
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))
        self.register_buffer("threshold", torch.tensor(0.0))

    @torch.no_grad()
    def set_scale(self, values: Sequence) -> None:
        """Takes mean and standard deviation from the training records (N, C); a constant column is not divided."""
        values = torch.tensor(values, dtype=torch.float64)
        std = values.std(0, correction=0)
        self.mean.copy_(values.mean(0))
        self.std.copy_(torch.where(std > 1e-9 * values.abs().amax(0).clamp_min(1e-9), std, 1.0))

    def set_threshold(self, errors: np.ndarray, quantile: float) -> None:
        """The quantile of errors (N,) without those that are not a number, rounded up, so that of none of them the
        rounding alone makes an anomaly."""
        exact = np.nanquantile(errors, quantile)
        rounded = np.float32(exact)
        self.threshold.fill_(float(rounded if rounded >= exact else np.nextafter(rounded, np.float32(np.inf))))

    def scaled(self, x: Tensor) -> Tensor:
        """x (..., C) in standard deviations of the training part, at most LIMIT of them."""
        return ((x - self.mean) / self.std).clamp(-LIMIT, LIMIT)

    def encode(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codes (B, Z) of windows x (B, T, C); with `lengths` (B,), of their first steps."""
        return self.autoencoder.encode(self.scaled(x), lengths)

    def decode(self, z: Tensor, steps: int) -> Tensor:
        """Windows (B, steps, C), in the units of the series, of codes z (B, Z)."""
        return self.autoencoder.decode(z, steps) * self.std + self.mean

    def forward(self, x: Tensor, noise: float = 0.0, lengths: Tensor | None = None) -> Tensor:
        """Squared errors (B, T, C) of windows x (B, T, C), in squared standard deviations of the training part.

        noise: standard deviation, in those of the training part, of what is added to what the encoder reads.
        lengths (B,): steps past them are padding, which does not reach the code; their errors mean nothing.
        """
        scaled = self.scaled(x)
        read = scaled + noise * torch.randn_like(scaled) if noise else scaled
        return (self.autoencoder(read, lengths).reconstruction.float() - scaled).square()
