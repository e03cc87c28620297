"""Settings and presets of lstm_ae_snp500.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from lstm_studies.training.presets import Script
from lstm_studies.training.settings import (
    Anomalies,
    Application,
    Count,
    DataFolder,
    DownloadedData,
    PositiveInt,
    Range,
    Share,
    Training,
    UsageError,
    choice_flag,
    data_flag,
    model_flag,
    training_flag,
)


@dataclass(frozen=True)
class PlotPrices(DownloadedData):
    """plots the daily highs of some stocks, by default AMZN and GOOGL"""

    data: Path | None = data_flag(None, "file or folder of your own daily prices or other series, a column each")
    symbols: tuple[str, ...] = choice_flag(
        (), "stocks to draw; default: AMZN, GOOGL, GOOG, AAPL, as far as the data have them"
    )

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "source", self.data is None, "the S&P 500")


@dataclass(frozen=True)
class PriceTraining(Training, PlotPrices):
    """Settings of both functions that train."""

    hidden_size: PositiveInt = model_flag(128, "units of the LSTMs", "grid")
    num_layers: PositiveInt = model_flag(1, "stacked LSTM layers")
    code_size: Count = model_flag(16, "values of the bottleneck; 0: the encoder's last hidden state")
    window: Annotated[int, Range(2)] = data_flag(50, "days per sequence")
    stride: PositiveInt = data_flag(5, "days between the starts of training windows")
    folds: PositiveInt = training_flag(
        1,
        "1: the 60/20/20 split; more: blocks of time (reconstruct, 3 or more), or periods after the training dates "
        "(predict)",
    )
    fold: int | None = None  # the one whose dates are test data; None: the 60/20/20 split

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "seeds", self.folds == 1, "--folds 1")
        if self.fold is not None and not 0 <= self.fold < self.folds:
            raise UsageError(f"expected one of {self.folds} folds, found {self.fold}")


@dataclass(frozen=True)
class Reconstruct(PriceTraining):
    """trains on windows of highs; reconstructions of three stocks; --folds for cross-validation"""

    input_size: PositiveInt = model_flag(25, "days per step, a divisor of --window")
    positional_harmonics: Count = model_flag(
        4, "sine and cosine pairs in the decoder's positional encoding; 0: no positional encoding"
    )
    output_layer: Literal["sigmoid", "linear"] = model_flag("sigmoid", "last layer of the decoder")
    mirror: bool = training_flag(False, "augmentation: reversal in time and in sign, each with probability 1/2")
    split: Literal["time", "random"] = data_flag(
        "time", "folds: blocks of time, or windows at random, which share days with those of other folds"
    )

    def check(self, given) -> None:
        super().check(given)
        if self.folds == 2:
            raise UsageError("--folds: expected 1, or at least 3 (test, validation and training blocks), found 2")
        self.need(given, "split", self.folds > 1, "--folds")
        if self.window % self.input_size:
            raise UsageError(f"--input_size: expected a divisor of --window {self.window}, found {self.input_size}")


@dataclass(frozen=True)
class Predict(PriceTraining):
    """trains reconstruction and next-day prediction together; losses, predicted and true highs, relative MAE"""

    inputs: Literal["high", "ohlcv", "market"] = model_flag(
        "ohlcv", "inputs of a day: high; open to volume; these and their means over all stocks"
    )
    line: bool = model_flag(False, "a linear model, fitted first, on whose residual the LSTM trains")
    predict_every_step: bool = training_flag(
        False, "prediction loss at every step, squared, instead of the last step's absolute error"
    )
    reconstruction_dominance: Share = training_flag(
        0.5, "weight d of reconstruction beside 1 - d of prediction", "grid"
    )


@dataclass(frozen=True)
class Encode(Application, DataFolder):
    """writes the codes of the test windows, or of the windows in --data, as CSV"""

    data: Path | None = data_flag(None, "file or folder of prices; default: those of the training")


@dataclass(frozen=True)
class FindAnomalies(Anomalies, Encode):
    """ranks windows by reconstruction error; reports detection of planted anomalies"""


@dataclass(frozen=True)
class Tomorrow(Encode):
    """predicts the next day's high of each stock from the newest rows of the training data or of --data"""


def best(asked) -> dict[str, Any]:
    if asked.function == "reconstruct":
        usual = {"hidden_size": 128, "stride": 1, "mirror": True}
        if asked.data:
            return {**usual, "batch_size": 64, "learning_rate": 3e-3, "epochs": 60}
        return {**usual, "batch_size": 256, "learning_rate": 5e-3, "epochs": 5 if asked.folds == 5 else 8}
    if asked.function == "predict":
        usual = {"hidden_size": 64, "code_size": 0, "window": 20, "stride": 1}
        if asked.data:
            return {**usual, "line": True, "batch_size": 64, "learning_rate": 1e-3, "epochs": 30}
        usual["batch_size"] = 512
        if asked.inputs == "high":
            return {**usual, "code_size": 16, "learning_rate": 1e-3, "epochs": 5}
        usual |= {"inputs": "market", "line": True}
        return {**usual, "hidden_size": 32, "learning_rate": 3e-3, "epochs": 2}
    return {}


def published(asked) -> dict[str, Any]:
    usual = {
        **{"hidden_size": 32, "code_size": 0},
        **{"schedule": "constant", "learning_rate": 1e-3, "batch_size": 128, "epochs": 10},
    }
    if asked.function == "reconstruct":
        return {**usual, "input_size": 1, "positional_harmonics": 0}
    if asked.function == "predict":
        return {**usual, "window": 15, "inputs": "high", "predict_every_step": True}
    return {}


def quick(asked) -> dict[str, Any]:
    if asked.function == "reconstruct":
        return {"hidden_size": 64, "batch_size": 128, "learning_rate": 3e-3, "epochs": 4, "limit": 12800}
    if asked.function == "predict":
        usual = {"hidden_size": 32, "code_size": 0, "window": 20, "line": True}
        return {**usual, "batch_size": 256, "learning_rate": 3e-3, "epochs": 4, "limit": 25600}
    return {}


SCRIPT = Script(
    "lstm_ae_snp500",
    {
        "plot_prices": PlotPrices,
        "reconstruct": Reconstruct,
        "predict": Predict,
        "encode": Encode,
        "anomalies": FindAnomalies,
        "tomorrow": Tomorrow,
    },
    {"best": best, "published": published, "quick": quick},
    study=("plot_prices", "reconstruct", "predict"),
)
