"""Settings and presets of adv_alstm.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstm_studies.training.presets import Script
from lstm_studies.training.settings import (
    Application,
    DownloadedData,
    NotNegative,
    PositiveInt,
    Rate,
    Training,
    UsageError,
    choice_flag,
    data_flag,
    model_flag,
    training_flag,
)

PUBLISHED_SETS = ("acl18", "kdd17")
DATES = ("train_from", "validation_from", "test_from", "test_until")  # flags of the split
PERTURBED = ("rand_alstm", "adv_alstm")  # the models that are trained on perturbed samples
PUBLISHED_DATES = "default: the published date; for your own prices,"
DATASET_HELP = "acl18, kdd17, or your CSV file or folder of daily prices"
START_HELP = "initial weights: random, own (an ALSTM trained here first), published (the authors' ALSTM), or a file"


@dataclass(frozen=True)
class Movement(DownloadedData, Training):
    """Settings of all functions that train models of stock movement."""

    model: str = ""  # what the script trains
    first: str | None = None  # where the weights of the start are: "published", a file, or a folder of trained models

    hidden_size: PositiveInt = model_flag(4, "units of the LSTM and of the attention", "grid")
    dropout: Rate = model_flag(0.0, "dropout rate before the class head")
    epsilon: NotNegative = training_flag(0.05, "length of the perturbation of e", "grid")
    beta: NotNegative = training_flag(0.01, "weight of the loss on perturbed samples", "grid")
    l2: NotNegative = training_flag(1.0, "weight of the L2 penalty on the last layer", "grid")
    loss: Literal["hinge", "cross_entropy"] = training_flag("hinge", "loss of one sample")
    dataset: str = data_flag("acl18", DATASET_HELP, aliases=["data"])
    steps: PositiveInt = data_flag(5, "days per window")
    train_from: str | None = data_flag(None, f"first training date, YYYY-MM-DD; {PUBLISHED_DATES} the first")
    validation_from: str | None = data_flag(None, f"first validation date; {PUBLISHED_DATES} after 70 % of the dates")
    test_from: str | None = data_flag(None, f"first test date; {PUBLISHED_DATES} after 85 % of the dates")
    test_until: str | None = data_flag(None, "last test date; default: the last one")

    def check(self, given) -> None:
        super().check(given)
        check_dataset(self.dataset)

    def check_start(self, start: str) -> None:
        if start not in ("random", "own", "published") and not Path(start).is_file():
            raise UsageError(f"--start: expected random, own, published or a file, found {start!r}")
        if start == "published" and self.dataset not in PUBLISHED_SETS:
            raise UsageError(f"--start: published weights are those of {', '.join(PUBLISHED_SETS)}, not {self.dataset}")
        if start == "published" and other_dates(self):
            raise UsageError("--start: the published weights belong to the published dates; expected random or own")


@dataclass(frozen=True)
class Train(Movement):
    """one model, or a grid search scored on validation data"""

    model: Literal["lstm", "alstm", "rand_alstm", "adv_alstm"] = model_flag(
        "adv_alstm", "lstm, alstm, rand_alstm or adv_alstm"
    )
    start: str = choice_flag("random", START_HELP, "each")

    def check(self, given) -> None:
        super().check(given)
        self.check_start(self.start)
        self.need(given, "epsilon beta", self.model in PERTURBED, f"--model {' or '.join(PERTURBED)}")
        if self.start != "random" and self.model == "lstm":
            raise UsageError(f"--start: {self.start} has an attention, which --model lstm has not; expected random")


@dataclass(frozen=True)
class Compare(Movement):
    """LSTM, ALSTM, Rand-ALSTM and Adv-ALSTM with each kind of initial weights, and simple opponents, in one table"""

    start: str = choice_flag("random", START_HELP, "each")

    def check(self, given) -> None:
        super().check(given)
        self.check_start(self.start)


@dataclass(frozen=True)
class Starts(Movement):
    """Adv-ALSTM from --seeds random ALSTMs and from the published one"""

    def check(self, given) -> None:
        super().check(given)
        if self.dataset not in PUBLISHED_SETS:
            raise UsageError(
                f"--dataset: the published weights are those of {', '.join(PUBLISHED_SETS)}, not {self.dataset}"
            )
        self.check_start("published")
        if self.seeds < 2:
            raise UsageError(f"--seeds: expected at least 2 ALSTMs, found {self.seeds}")


@dataclass(frozen=True)
class Plot(Movement):
    """attention over days, validation accuracy against epsilon and beta, scores of perturbed samples"""


@dataclass(frozen=True)
class Quarters(Movement):
    """ALSTM, Adv-ALSTM and simple opponents on the quarters before the usual test part, each with its own past"""

    quarters: PositiveInt = data_flag(4, "number of test quarters")

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "validation_from test_until", False, "the other functions")


@dataclass(frozen=True)
class Predict(DownloadedData, Application):
    """score, probability and direction of each stock for the day after the newest one"""

    every_day: bool = choice_flag(False, "predictions for every day instead of the newest one")
    dataset: str = data_flag("acl18", DATASET_HELP, aliases=["data"])

    def check(self, given) -> None:
        super().check(given)
        check_dataset(self.dataset)


def other_dates(asked) -> bool:
    """Whether any date of the split was given."""
    return any(getattr(asked, name) for name in DATES)


def check_dataset(dataset: str) -> None:
    if dataset not in PUBLISHED_SETS and not Path(dataset).exists():
        names = ", ".join(PUBLISHED_SETS)
        raise UsageError(f"--dataset: expected {names}, a CSV file or a folder of them, found {dataset!r}")


# ---- presets ---------------------------------------------------------------------------------------------------------


def published_values(asked) -> dict[str, Any]:
    """Table 1 of the publication and its code; own prices take the values of ACL18."""
    values = {
        "batch_size": 1024,
        "learning_rate": 1e-2,
        "epochs": 150,
        "schedule": "constant",
        "gradient_clipping": 0.0,
    }
    kdd17 = asked.dataset == "kdd17"
    if asked.model == "lstm":
        sizes = {"steps": 5, "hidden_size": 4, "l2": 0.001} if kdd17 else {"steps": 10, "hidden_size": 32, "l2": 10.0}
        return {**values, **sizes, "epsilon": 0.0, "beta": 0.0}
    if kdd17:
        values |= {"steps": 15, "hidden_size": 16, "l2": 0.001, "epsilon": 0.001, "beta": 0.05}
    return values | ({"epsilon": 0.0, "beta": 0.0} if asked.model == "alstm" else {})


def best(asked) -> dict[str, Any]:
    values, sample = published_values(asked), asked.source == "sample"
    if asked.function == "compare":
        has_published = asked.dataset in PUBLISHED_SETS and not sample and not other_dates(asked)
        values["start"] = ("random", "own", "published") if has_published else ("random", "own")
    return values | ({"epochs": 40} if sample and asked.function != "starts" else {})


def published(asked) -> dict[str, Any]:
    values = published_values(asked)
    if asked.function == "train" and asked.model in PERTURBED:
        values["start"] = "own"
    if asked.function == "compare":
        values["start"] = ("random", "own", "published")
    return values


def quick(asked) -> dict[str, Any]:
    start = {"start": ("random", "own")} if asked.function == "compare" else {}
    return {**published_values(asked), **start, "epochs": 15}


SCRIPT = Script(
    "adv_alstm",
    {"train": Train, "compare": Compare, "starts": Starts, "plot": Plot, "quarters": Quarters, "predict": Predict},
    {"best": best, "published": published, "quick": quick},
    study=("train", "compare", "plot", "predict"),
)
