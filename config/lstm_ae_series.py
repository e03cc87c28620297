"""Settings and presets of lstm_ae_series.py."""

from dataclasses import dataclass
from typing import Annotated, Any

from lstm_studies.training.presets import Script
from lstm_studies.training.settings import (
    Application,
    Count,
    DataFolder,
    NotNegative,
    PositiveInt,
    Range,
    Seed,
    Training,
    UsageError,
    data_flag,
    model_flag,
    training_flag,
)

Part = Annotated[float, Range(0, 0.95)]  # of a series
DATA = "a CSV or Parquet file, a folder of them, or an example: machine_temperature, nyc_taxi, sensors (generated)"


@dataclass(frozen=True)
class Fit(Training):
    """Settings of the functions that train a model for each series."""

    series: str = ""  # name of the series that this training reads

    hidden_size: PositiveInt = model_flag(32, "units of the LSTMs", "grid")
    num_layers: PositiveInt = model_flag(1, "stacked LSTM layers")
    code_size: PositiveInt = model_flag(4, "values of the code", "grid")
    window: Annotated[int, Range(2)] = model_flag(32, "records of a window", "grid")
    positional_harmonics: Count = model_flag(4, "sine and cosine pairs of the positional encoding; 0: none")
    noise: NotNegative = training_flag(0.0, "Gaussian noise on the encoder's input in training, in standard deviations")


@dataclass(frozen=True)
class Train(Fit):
    """trains a model for each series and sets its anomaly threshold on validation data"""

    data: str = data_flag("machine_temperature", DATA, "each")
    train_share: Part = data_flag(0.6, "fraction of each series that trains: its first records")
    validation_share: Part = data_flag(0.2, "fraction after it that validates and sets the threshold; the rest tests")
    quantile: Annotated[float, Range(0, 1)] = data_flag(
        0.99, "quantile of the validation errors that is the anomaly threshold"
    )

    def check(self, given) -> None:
        super().check(given)
        if not 0 < self.train_share <= 1 - self.validation_share:
            raise UsageError(
                f"--train_share: expected above 0, and with --validation_share at most 1, found {self.train_share:g} "
                f"and {self.validation_share:g}"
            )


@dataclass(frozen=True)
class Benchmark(DataFolder, Fit):
    """the Numenta Anomaly Benchmark (data_dir/nab, else downloaded): 58 series, a model for each"""


@dataclass(frozen=True)
class Encode(Application):
    """codes of all windows, as CSV"""

    data: str | None = data_flag(None, f"series to read: {DATA}; default: those of the training")


@dataclass(frozen=True)
class FindAnomalies(Encode):
    """score, threshold and events of each series, as CSV and in a figure"""


@dataclass(frozen=True)
class Planted(Application):
    """F1 of detecting four kinds of planted anomalies, beside simple detectors"""

    seed: Seed = data_flag(0, "seed of the times and columns of the anomalies")
    plantings: PositiveInt = data_flag(5, "how often anomalies of each kind are planted anew")


@dataclass(frozen=True)
class Export(Application):
    """the model with its scaling and threshold for other software: torch.export (.pt2) and ONNX"""


def best(asked) -> dict[str, Any]:
    usual = {"batch_size": 64, "learning_rate": 5e-3, "updates": None if "epochs" in asked.given else 1000}
    return {**usual, "updates": usual["updates"] and 300} if asked.function == "benchmark" else usual


def quick(asked) -> dict[str, Any]:
    values = best(asked)
    return {**values, "updates": 200} if values.get("updates") else values


SCRIPT = Script(
    "lstm_ae_series",
    {
        "train": Train,
        "anomalies": FindAnomalies,
        "encode": Encode,
        "planted": Planted,
        "export": Export,
        "benchmark": Benchmark,
    },
    {"best": best, "quick": quick},
    study=("train", "anomalies"),
)
