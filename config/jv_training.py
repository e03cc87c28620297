"""Settings and presets of jv_training.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from lstm_studies.training.presets import Script
from lstm_studies.training.settings import (
    Application,
    DownloadedData,
    NotNegative,
    PositiveInt,
    Range,
    Rate,
    Seed,
    Training,
    UsageError,
    data_flag,
    model_flag,
    training_flag,
)

Place = Literal["input", "convolution", "lstm", "none"]
DROPOUT_HELP = "dropout after input, convolution or lstm, or none"
BATCH_NORM_HELP = "batch norm after input, convolution or lstm, or none"


@dataclass(frozen=True)
class Vowels(DownloadedData):
    """Settings of all functions that read the data."""

    course_file: bool = data_flag(False, "JV_data.mat, 60 of whose test utterances are also in its training part")
    train: Path | None = data_flag(None, "training data, a .ts file, instead of the vowels")
    test: Path | None = data_flag(None, "test data, a .ts file, instead of the vowels")

    def check(self, given) -> None:
        super().check(given)
        if (self.train is None) != (self.test is None):
            missing = "--train" if self.train is None else "--test"
            raise UsageError(f"{missing}: expected together with the other one, --train FILE.ts --test FILE.ts")
        if self.train and (self.course_file or self.source != "auto"):
            flag = "--course_file" if self.course_file else f"--source {self.source}"
            raise UsageError(f"--train: a data set of your own, expected without {flag}")


@dataclass(frozen=True)
class Classify(Vowels, Training):
    """Settings of all functions that train. The fields without a flag differ between the models of a study."""

    mode: str = "plain"
    epsilon: float = 0.0
    dropout_places: tuple[str, ...] = ("lstm",)
    batch_norm_places: tuple[str, ...] = ("convolution",)
    from_plain: bool = False  # whether the training starts from a plain model of the same fold or seed
    fold: int | None = None  # of the cross-validation; None: all training sequences

    hidden_size: PositiveInt = model_flag(64, "units of the LSTM", "grid")
    channels: PositiveInt = model_flag(64, "channels of the convolution")
    kernel_size: PositiveInt | None = model_flag(
        3, "steps per convolution kernel; with --train, best has 2 x stride + 1"
    )
    stride: PositiveInt | None = model_flag(1, "stride of the convolution; with --train, best leaves about 32 steps")
    normalization: Literal["standard", "l2"] = model_flag(
        "standard", "standard: mean 0, deviation 1 per feature; l2: unit-norm steps"
    )
    bidirectional: bool = model_flag(True, "bidirectional LSTM")
    dropout: Rate = model_flag(0.4, "dropout rate at --dropout_places", "grid")
    noise: NotNegative = model_flag(0.0, "augmentation: Gaussian noise of this deviation", "grid")
    offset: NotNegative = model_flag(0.3, "augmentation: deviation of feature offsets", "grid")

    limit: PositiveInt | None = data_flag(None, "number of training sequences, evenly spaced; default: all")
    gradient_clipping: NotNegative = training_flag(0.0, "maximum gradient norm; 0: no clipping", "grid")
    folds: Annotated[int, Range(2, 100)] = training_flag(5, "folds of the cross-validation")
    repeats: PositiveInt = training_flag(5, "repeats of the cross-validation, each with other folds")
    length_shift: NotNegative = training_flag(3.0, "noise on the lengths, in steps, so that batches by length vary")

    def check(self, given) -> None:
        super().check(given)
        for name in ("dropout_places", "batch_norm_places"):
            if "none" in getattr(self, name) and len(getattr(self, name)) > 1:
                raise UsageError(f"--{name}: expected none alone, or places, found {' '.join(getattr(self, name))}")
        if self.batch_size == 1 and self.batch_norm_places != ("none",):
            raise UsageError("--batch_size: expected at least 2 with batch norm, found 1")


@dataclass(frozen=True)
class Basic(Classify):
    """the plain model, trained from scratch: accuracy and loss against epochs"""

    dropout_places: tuple[Place, ...] = model_flag(("lstm",), DROPOUT_HELP)
    batch_norm_places: tuple[Place, ...] = model_flag(("convolution",), BATCH_NORM_HELP)


@dataclass(frozen=True)
class FromPlain(Classify):
    """Settings of the functions that continue the training of a plain model."""

    pretrained: Path | None = training_flag(
        None, "initial plain model: checkpoint or run folder; default: basic's, else trained"
    )
    basic_epochs: PositiveInt = training_flag(60, "epochs of the initial plain model")
    basic_updates: PositiveInt | None = training_flag(
        None, "optimizer steps of the initial plain model, instead of --basic_epochs"
    )

    def check(self, given) -> None:
        super().check(given)
        if "basic_epochs" in given and self.basic_updates:
            raise UsageError("--basic_epochs: not used with --basic_updates, which counts optimizer steps")


@dataclass(frozen=True)
class Adversarial(Basic, FromPlain):
    """AdvLSTM for every epsilon and a plain model with as many epochs, both from the basic model"""

    epsilon: NotNegative = model_flag(1.0, "length of v's perturbation", "each")
    attack_steps: PositiveInt = training_flag(1, "gradient steps of the perturbation, within --epsilon")


@dataclass(frozen=True)
class Proximal(Basic, FromPlain):
    """ProxLSTM for every epsilon and a plain model with as many epochs, both from the basic model"""

    epsilon: NotNegative = model_flag(1.0, "weight of ||G^T c||^2 in the proximal map", "each")


@dataclass(frozen=True)
class FreshSplits(Basic):
    """the plain model and LDA on other splits, with other consecutive utterances of each speaker as test data"""

    folds: int = 0  # no cross-validation
    repeats: int = 0

    splits: PositiveInt = data_flag(3, "number of splits")
    split: int | None = None  # of the model that is trained


@dataclass(frozen=True)
class Compared(FromPlain):
    """Settings of the comparisons of the three modes."""

    initial: Literal["random", "basic"] = training_flag("random", "initial weights: random, or basic (the plain model)")
    adversarial_epsilon: NotNegative = model_flag(0.3, "length of the perturbation, AdvLSTM")
    proximal_epsilon: NotNegative = model_flag(1.0, "weight of ||G^T c||^2 in the proximal map, ProxLSTM")

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "pretrained basic_epochs basic_updates", self.initial == "basic", "--initial basic")


def one_rate(rates: list[float]) -> float:
    """The `--dropout` of every layer that a comparison tries, .3 by default. Raises UsageError for several."""
    if len(rates) > 1:
        raise UsageError(f"--dropout: expected one value, the rate at every layer compared, found {len(rates)}")
    return rates[0] or 0.3


@dataclass(frozen=True)
class Dropout(Compared):
    """dropout before the convolution, after it, before the last layer, or at all three; each mode"""

    batch_norm_places: tuple[Place, ...] = model_flag(("convolution",), BATCH_NORM_HELP)


@dataclass(frozen=True)
class BatchNorm(Compared):
    """batch norm at the same layers, and after the convolution with dropout; each mode"""

    dropout_places: tuple[Place, ...] = model_flag(("lstm",), DROPOUT_HELP)


@dataclass(frozen=True)
class Robustness(Vowels):
    """accuracy of the models of adversarial, proximal or both on attacked, noisy and shortened utterances"""

    seed: Seed = data_flag(0, "seed of the noise and of the missing steps")


@dataclass(frozen=True)
class Predict(Application):
    """classes and probabilities of the sequences in a .ts file, by the trained models of a run"""

    data: Path | None = data_flag(None, "sequences to classify, a .ts file")

    def check(self, given) -> None:
        super().check(given)
        if self.data is None:
            raise UsageError("--data: expected the sequences to classify, --data FILE.ts")


@dataclass(frozen=True)
class Export(Application):
    """the models of a run with their scaling for other software: torch.export (.pt2) and ONNX"""


def best(asked) -> dict[str, Any]:
    if asked.function in ("robustness", "predict", "export"):
        return {}
    values = {"batch_size": 27, "learning_rate": 3e-3, "epochs": 60}
    if asked.function == "adversarial":
        values |= {"epochs": 30, "repeats": 2, "epsilon": (0.01, 0.1, 0.3, 1.0, 3.0)}
    if asked.function == "proximal":
        values |= {"epochs": 30, "repeats": 2, "epsilon": (0.1, 1.0, 5.0, 20.0, 100.0)}
    if asked.function in ("dropout", "batch_norm"):
        values |= {"repeats": 1}
    return values | own_data(asked, values["epochs"]) if asked.train else values


def own_data(asked, epochs: int) -> dict[str, Any]:
    """For data of any size and length: as many optimizer steps as on the vowels, which have ten batches, and as many
    steps of the LSTM. The random offset, which imitates differences between recordings of a voice, is left out.
    """
    values = {"stride": None, "kernel_size": None, "offset": 0.0}
    if "epochs" not in asked.given:
        values["updates"] = 10 * epochs
    if asked.function in ("adversarial", "proximal") and "basic_epochs" not in asked.given:
        values["basic_updates"] = 600
    return values


def published(asked) -> dict[str, Any]:
    """The models of the assignment, on unit-norm steps."""
    values = {
        **{"normalization": "l2", "bidirectional": False, "dropout": 0.0, "offset": 0.0},
        **{"dropout_places": ("none",), "batch_norm_places": ("none",)},
        **{"batch_size": 27, "learning_rate": 1e-3, "schedule": "constant", "epochs": 60},
    }
    if asked.function in ("basic", "fresh_splits"):
        return values
    if asked.function == "adversarial":
        return {**values, "epochs": 50, "repeats": 2, "epsilon": (0.01, 0.1, 0.3, 1.0, 3.0)}
    if asked.function == "proximal":
        return {**values, "epochs": 100, "repeats": 1, "epsilon": (0.1, 1.0, 5.0, 20.0, 100.0)}
    if asked.function == "dropout":
        return {**values, "repeats": 1, "dropout": 0.3}
    return (
        {**values, "repeats": 1, "dropout": 0.3, "dropout_places": ("lstm",)} if asked.function == "batch_norm" else {}
    )


def quick(asked) -> dict[str, Any]:
    values = {"batch_size": 27, "learning_rate": 3e-3, "epochs": 10, "folds": 2, "repeats": 1, "hidden_size": 32}
    if asked.function in ("adversarial", "proximal"):
        return {**values, "basic_epochs": 10, "epsilon": (0.1, 1.0)}
    return {} if asked.function in ("robustness", "predict", "export") else values


SCRIPT = Script(
    "jv_training",
    {
        "basic": Basic,
        "adversarial": Adversarial,
        "proximal": Proximal,
        "dropout": Dropout,
        "batch_norm": BatchNorm,
        "fresh_splits": FreshSplits,
        "robustness": Robustness,
        "predict": Predict,
        "export": Export,
    },
    {"best": best, "published": published, "quick": quick},
    study=("basic", "adversarial", "proximal", "dropout", "batch_norm", "fresh_splits", "robustness"),
)
