"""Settings and presets of lstm_ae_mnist.py."""

import math
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
    Rate,
    Share,
    Training,
    UsageError,
    data_flag,
    model_flag,
    training_flag,
)

TRAIN = ("reconstruct", "classify")
SIDE, PIXELS = 28, 784
STEPS = {"rows": (SIDE,), "patches": (7, 7), "pixels": (1,)}  # the map of pixels that one step of the sequence is
# Choices of --model, with the flags that not all of them have. A new model is an entry here, and one in MODELS of the
# script: its class, and the arguments that only this class takes.
MODEL_FLAGS = {
    "fc": ("num_layers", "checkpoint_steps"),
    "conv": ("channels", "kernel_size"),
    "both": ("channels", "kernel_size"),
}


@dataclass(frozen=True)
class Reconstruct(Training, DownloadedData):
    """trains autoencoders; reconstructed digits beside PCA; with several --code_size the error against them"""

    model: Literal[*MODEL_FLAGS] = model_flag("both", "LSTMs, convolutional LSTMs, or both")
    sequence: Literal[*STEPS] | None = model_flag(
        None, "step: a row, a patch of 7 x 7 pixels or a pixel; default: by --input_size"
    )
    input_size: PositiveInt | None = model_flag(
        None, "pixels per step, a divisor of 784; default: 28, or by --sequence"
    )
    code_size: Count = model_flag(128, "code size; 0: --hidden_size", "each")
    hidden_size: PositiveInt = model_flag(128, "units of the LSTMs (fc)", "grid")
    num_layers: PositiveInt = model_flag(1, "stacked LSTM layers (fc)")
    positional_harmonics: Count = model_flag(4, "sine and cosine pairs in the decoder's positional encoding; 0: none")
    channels: PositiveInt = model_flag(16, "channels of the hidden maps (conv)")
    kernel_size: PositiveInt = model_flag(5, "odd size of the convolutions (conv)")

    checkpoint_steps: Count = training_flag(0, "gradient checkpointing in chunks of N steps (fc); 0: none")
    shift: Annotated[int, Range(0, 28)] = training_flag(0, "augmentation: random shift of up to N pixels; 0: none")
    data: Path | None = data_flag(None, "folder of four IDX files (28 x 28 images, labels) instead of MNIST")

    @property
    def step_shape(self) -> tuple[int, ...]:
        """The map that one step of the sequence is: (W,), part of a row or a row; (H, W), several rows or a patch."""
        if self.sequence or not self.input_size:
            return STEPS[self.sequence or "rows"]
        rows, rest = divmod(self.input_size, SIDE)
        return (rows, SIDE) if rows > 1 and not rest else (self.input_size,)

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "source", self.data is None, "MNIST")
        for name in sorted({name for names in MODEL_FLAGS.values() for name in names}):
            users = [model for model, names in MODEL_FLAGS.items() if name in names]
            self.need(given, name, self.model in users, f"--model {' or '.join(users)}")
        uses_units = self.model != "conv" or not self.code_size
        self.need(given, "hidden_size", uses_units, "--model fc or both, or with --code_size 0,")
        if PIXELS % (self.input_size or 1):
            raise UsageError(f"--input_size: expected a divisor of {PIXELS}, found {self.input_size}")
        named = math.prod(self.step_shape)
        if self.input_size not in (None, named):
            raise UsageError(f"--input_size: --sequence {self.sequence} has {named}, found {self.input_size}")
        if self.kernel_size % 2 == 0:
            raise UsageError(f"--kernel_size: expected an odd number, found {self.kernel_size}")


@dataclass(frozen=True)
class Classify(Reconstruct):
    """trains reconstruction and classification together; losses, accuracy, digits, confusion matrix"""

    head: Literal["shared", "deep", "separate"] = model_flag(
        "shared", "class head: linear, with a hidden layer, or on a second decoder"
    )
    dropout: Rate = model_flag(0.0, "dropout rate before the class head's last layer")
    class_loss: Literal["cross_entropy", "nll"] = training_flag(
        "cross_entropy", "cross-entropy of logits, or negative log-likelihood"
    )
    reconstruction_dominance: Share = training_flag(0.5, "weight d of reconstruction beside 1 - d of the class", "grid")


@dataclass(frozen=True)
class Opponents(Training, DownloadedData):
    """opponents: logistic regression, a small convolutional network, and an MLP autoencoder for each --code_size"""

    code_size: PositiveInt = model_flag(128, "code size of the MLP autoencoder", "each")
    shift: Annotated[int, Range(0, 28)] = training_flag(
        0, "augmentation of the convolutional network: random shift of up to N pixels; 0: none"
    )
    network: str = "cnn"  # or "mlp"
    data: Path | None = data_flag(None, "folder of four IDX files (28 x 28 images, labels) instead of MNIST")

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "source", self.data is None, "MNIST")


@dataclass(frozen=True)
class Encode(Application, DataFolder):
    """writes the codes of the test images, or of the images in --data, as CSV"""

    data: Path | None = data_flag(
        None,
        "IDX file of images, or folder of four IDX files, whose test images are taken; default: the test images of "
        "the training",
    )


@dataclass(frozen=True)
class FindAnomalies(Anomalies, Encode):
    """ranks images by reconstruction error; reports detection of planted anomalies"""


def by_pixels(asked) -> bool:
    return asked.sequence == "pixels" or asked.input_size == 1


def best(asked) -> dict[str, Any]:
    if asked.function == "opponents":
        usual = {"batch_size": 128, "learning_rate": 2e-3, "code_size": [128, 64, 32, 16, 8]}
        return {**usual, "epochs": 20} if asked.network == "mlp" else {**usual, "epochs": 12, "shift": 1}
    usual, conv = {"batch_size": 64, "precision": "bfloat16"}, asked.model == "conv"
    if by_pixels(asked):
        usual = {**usual, "model": "fc", "code_size": 0, "batch_size": 32, "learning_rate": 2e-3}
        weight = {"reconstruction_dominance": 0.9, "epochs": 20}
        return {**usual, **weight} if asked.function == "classify" else {**usual, "epochs": 12}
    if asked.function == "reconstruct":
        if conv:
            return {**usual, "channels": 32, "learning_rate": 4e-3, "epochs": 6}
        return {**usual, "learning_rate": 1e-2, "epochs": 12}
    usual = {**usual, "code_size": 64, "reconstruction_dominance": 0.97, "shift": 1}
    if conv:
        return {**usual, "learning_rate": 4e-3, "epochs": 30}
    return {**usual, "learning_rate": 5e-3, "epochs": 24}


def published(asked) -> dict[str, Any]:
    if asked.function == "opponents":
        return {}
    usual = {
        **{"code_size": 0, "positional_harmonics": 0, "schedule": "constant"},
        **{"batch_size": 64, "learning_rate": 1e-3, "epochs": 10},
    }
    if asked.function == "classify":
        usual["class_loss"] = "nll"
    if by_pixels(asked):  # 860 batches of 784 steps in each epoch
        return {**usual, "model": "fc", "epochs": 3, "precision": "bfloat16"}
    return usual


def quick(asked) -> dict[str, Any]:
    if asked.function == "opponents":
        return {**best(asked), "epochs": 3, "limit": 2000, "code_size": [128, 16]}
    usual = {"batch_size": 64, "precision": "bfloat16", "learning_rate": 5e-3, "epochs": 12, "limit": 6000}
    if asked.function == "reconstruct":
        return usual
    return {**usual, "code_size": 64, "reconstruction_dominance": 0.97}


SCRIPT = Script(
    "lstm_ae_mnist",
    {
        "reconstruct": Reconstruct,
        "classify": Classify,
        "opponents": Opponents,
        "encode": Encode,
        "anomalies": FindAnomalies,
    },
    {"best": best, "published": published, "quick": quick},
    study=TRAIN,
    shorthands={"--classification": ("--function", "classify")},
)
