"""Settings and presets of lstm_ae_toy.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstm_studies.training.presets import Script
from lstm_studies.training.settings import (
    Anomalies,
    Application,
    Count,
    NotNegative,
    PositiveInt,
    Seed,
    Settings,
    Share,
    Training,
    UsageError,
    choice_flag,
    data_flag,
    model_flag,
    training_flag,
)

SEQUENCES, STEPS = 10_000, 50  # generated ones, and the values of each


@dataclass(frozen=True)
class PlotExamples(Settings):
    """three sequences against time"""

    signal: Literal["waves", "uniform", "walk"] = data_flag("waves", "kind of sequence")
    data: Path | None = data_flag(None, "CSV file with one sequence per row")
    data_seed: Seed = data_flag(0, "seed of the sequences, or of the split of --data")
    limit: PositiveInt | None = data_flag(None, "first N training sequences only")

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "signal", self.data is None, "generated sequences")


@dataclass(frozen=True)
class Reconstruct(Training, PlotExamples):
    """train and test; draw two test sequences beside their reconstructions, losses, and the grid"""

    hidden_size: PositiveInt = model_flag(128, "units of the LSTMs", "grid")
    num_layers: PositiveInt = model_flag(1, "stacked LSTM layers")
    input_size: PositiveInt = model_flag(10, "values per step, a divisor of the sequences' length")
    code_size: Count = model_flag(16, "values of the code; 0: last hidden state", "each")
    positional_harmonics: Count = model_flag(4, "sine and cosine pairs of the positional encoding; 0: none")
    output_layer: Literal["sigmoid", "linear"] = model_flag("sigmoid", "last layer of the decoder")

    fresh: bool = training_flag(False, "new training sequences in every batch")
    extension: Count = training_flag(0, "steps extrapolated at both ends before augmentation")
    stretch: Share = training_flag(
        1.0, "time-stretch by up to 1/X (with --extension, compress by up to 2 - X); 1: none"
    )
    filtering: NotNegative = training_flag(0.0, "standard deviation of a random filter's coefficients; 0: none")
    mirror: bool = training_flag(False, "random reversal and sign flip")

    mlp: bool = choice_flag(False, "an autoencoder of linear layers as an opponent")
    network: str = "lstm"  # or "mlp"

    @property
    def step_shape(self) -> tuple[int]:
        return (self.input_size,)

    def check(self, given) -> None:
        super().check(given)
        if self.data is None and STEPS % self.input_size:
            raise UsageError(f"--input_size: expected a divisor of {STEPS}, found {self.input_size}")
        if self.data is not None and self.fresh:
            raise UsageError("--fresh: used with generated sequences only, not with --data")
        self.need(given, "mlp", self.data is None, "generated sequences")
        self.need(given, "extension", not self.fresh, "a fixed training part, without --fresh,")
        if self.extension and not (self.filtering or self.stretch < 1):
            raise UsageError("--extension: used with --filtering or --stretch only; without both, --extension 0")


@dataclass(frozen=True)
class Encode(Application):
    """codes of the test sequences, or of those in --data, as CSV"""

    data: Path | None = data_flag(None, "CSV file with one sequence per row; default: the test sequences")


@dataclass(frozen=True)
class FindAnomalies(Anomalies, Encode):
    """ranks sequences by reconstruction error; reports detection of planted anomalies"""


@dataclass(frozen=True)
class Export(Anomalies):
    """the model with its scaling and threshold for other software: torch.export (.pt2) and ONNX"""


def best(asked) -> dict[str, Any]:
    if asked.function != "reconstruct":
        return {}
    usual = {"batch_size": 64, "learning_rate": 3e-3, "epochs": 100}
    if asked.data:
        return usual
    if asked.signal == "uniform":
        return {**usual, "mirror": True, "epochs": 60}
    steps = {"input_size": 25, "output_layer": "linear", "precision": "bfloat16", "learning_rate": 5e-3}
    if asked.signal == "walk":
        return {**steps, "mirror": True, "hidden_size": 256, "batch_size": 128, "epochs": 120}
    waves = {**steps, "hidden_size": 192, "num_layers": 2, "batch_size": 256, "epochs": 240, "mlp": True}
    if asked.input_size == 1:
        waves |= {"positional_harmonics": 12, "hidden_size": 160, "num_layers": 1, "gradient_clipping": 0.1}
        waves |= {"batch_size": 64, "learning_rate": 6e-3, "epochs": 500, "mlp": False}
    if asked.fresh:
        return waves
    return {**waves, "mirror": True, "filtering": 0.3, "stretch": 0.9, "extension": 6}


def published(asked) -> dict[str, Any]:
    if asked.function != "reconstruct":
        return {}
    noise = asked.signal == "uniform" and not asked.data
    return {
        **{"input_size": 1, "code_size": 0, "hidden_size": 32, "positional_harmonics": 0},
        **{"schedule": "constant", "batch_size": 64, "learning_rate": 1e-3, "epochs": 10 if noise else 100},
    }


def quick(asked) -> dict[str, Any]:
    if asked.function != "reconstruct":
        return {}
    return {"batch_size": 64, "learning_rate": 3e-3, "epochs": 40, "limit": 2000, "mirror": not asked.data}


MLP = {  # the settings of the autoencoder of --mlp that are not those of the LSTM's
    **{"network": "mlp", "hidden_size": [512], "fresh": True, "learning_rate": [3e-3], "gradient_clipping": [1.0]},
    **{"filtering": 0.0, "stretch": 1.0, "extension": 0, "mirror": False, "seeds": 1},
}

SCRIPT = Script(
    "lstm_ae_toy",
    {
        "plot_examples": PlotExamples,
        "reconstruct": Reconstruct,
        "encode": Encode,
        "anomalies": FindAnomalies,
        "export": Export,
    },
    {"best": best, "published": published, "quick": quick},
    study=("plot_examples", "reconstruct"),
)
