"""What an exported program computes: a trained model together with its scaling, its threshold or its other seeds.

Each program has `outputs`, what each of its outputs is, `description`, what else a person has to know of it, and
`inputs`, random ones of which all sizes that may vary differ with their number.

Letters in shapes: B batch, T time steps, C columns or features, Z values of a code, K classes.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from Classifier import LSTMClassifier
from lstm_studies.models.lstm_ae import LSTMAutoencoder
from lstm_studies.models.series_autoencoder import SeriesAutoencoder


class SeriesProgram(nn.Module):
    """Windows (B, T, C) of a series, in its units."""

    outputs: ClassVar[dict[str, str]] = {
        "reconstruction": "windows (batch, steps, columns) as the model restores them, in the units of x",
        "code": "codes (batch, values)",
        "error": "squared errors (batch, steps) of records in standard deviations of the training part, means over "
        "columns; the score of a record is the mean over all windows that hold it",
        "anomaly": "whether these errors are above the threshold",
    }

    def __init__(self, model: SeriesAutoencoder):
        super().__init__()
        self.model = model
        self.description = {
            "columns": list(model.arguments["column_names"]),
            "window": model.window,
            "threshold": model.threshold.item(),
        }

    def inputs(self, batch: int) -> dict[str, Tensor]:
        noise = torch.randn(batch, self.model.window + batch, self.model.arguments["columns"])
        return {"x": self.model.mean + self.model.std * noise}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstructions (B, T, C), codes (B, Z), errors (B, T) and whether these are above the threshold."""
        z = self.model.encode(x)
        restored = self.model.autoencoder.decode(z, x.shape[1])
        error = (restored - self.model.scaled(x)).square().mean(2)
        return restored * self.model.std + self.model.mean, z, error, error > self.model.threshold


class SequenceProgram(nn.Module):
    """Sequences (B, T) in any unit, each of which is scaled into [0, 1] around 1/2, as `loaders.toy` does.

    steps: T. threshold: the error above which a sequence is an anomaly.
    """

    outputs: ClassVar[dict[str, str]] = {
        "reconstruction": "sequences (batch, steps) as the model restores them, in the units of x",
        "code": "codes (batch, values)",
        "error": "mean squared errors (batch) of the sequences scaled into [0, 1]",
        "anomaly": "whether these errors are above the threshold",
    }

    def __init__(self, model: LSTMAutoencoder, steps: int, threshold: float):
        super().__init__()
        self.model, self.steps, self.input_size = model, steps, model.arguments["input_size"]
        self.register_buffer("threshold", torch.tensor(threshold))
        self.description = {"threshold": threshold}

    def inputs(self, batch: int) -> dict[str, Tensor]:
        return {"x": torch.randn(batch, self.steps).cumsum(1)}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstructions (B, T), codes (B, Z), errors (B,) and whether these are above the threshold."""
        x = x.double()
        mean = x.mean(1, keepdim=True)
        extent = 2 * (x - mean).abs().amax(1, keepdim=True)
        extent = torch.where(extent > 0, extent, 1.0)
        scaled = ((x - mean) / extent + 0.5).float()
        z = self.model.encode(scaled.unflatten(1, (-1, self.input_size)))
        restored = self.model.decode(z, self.steps // self.input_size).flatten(1)
        error = (restored - scaled).square().mean(1)
        return ((restored - 0.5) * extent + mean).float(), z, error, error > self.threshold


class ClassifierProgram(nn.Module):
    """Sequences (B, T, C), padded behind their lengths (B,), by the classifiers of all seeds."""

    outputs: ClassVar[dict[str, str]] = {"probabilities": "means over the seeds (batch, classes)"}

    def __init__(self, models: Sequence[LSTMClassifier]):
        super().__init__()
        self.models, self.arguments = nn.ModuleList(models), models[0].arguments
        classes = list(models[0].class_names or map(str, range(self.arguments["classes"])))
        least = self.arguments["kernel_size"]
        self.description = {"seeds": len(models), "classes": classes, "least_steps": least}

    def inputs(self, batch: int) -> dict[str, Tensor]:
        steps = self.arguments["kernel_size"] + 3 * batch
        lengths = torch.arange(steps, steps - batch, -1)
        return {"x": torch.randn(batch, steps, self.arguments["input_size"]), "lengths": lengths}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Mean probabilities (B, K)."""
        return sum(model(x, lengths).softmax(1) for model in self.models) / len(self.models)
