"""Settings of one training, each declared once with its flag: type, default, help.

The settings of a function are a frozen dataclass, and its flags are the fields: the type of a flag is its annotation.

    @dataclass(frozen=True)
    class Reconstruct(Training):
        "train; two test signals with their reconstructions"
        code_size: Count = model_flag(16, "values of the bottleneck", several="each")

One object of such a class is one training and holds scalars only; what a person asks for may hold several values of a
flag (`training.presets.Request`). This module, `training.presets` and `training.flags` import nothing slow: `--help`
and wrong flags answer at once.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parents[2]
PYTHON, PACKAGES = (3, 11), {"torch": (2, 13), "numpy": (2, 4), "pandas": (3, 1)}  # the least that has been tried
BACKENDS = {"loky": "joblib", "dask": "distributed", "ray": "ray"}  # and the package that each needs


class UsageError(ValueError):
    """Flags that do not go together, or a folder that cannot be used. The message is one line."""


# ---- types -----------------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """The numbers from `low` to `high`; without `low` itself if it is excluded."""

    low: float
    high: float = math.inf
    low_excluded: bool = False

    def holds(self, value: float) -> bool:
        return (self.low < value if self.low_excluded else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        limit = f" and at most {self.high}" if self.high < math.inf else ""
        return f"{'above' if self.low_excluded else 'of at least'} {self.low}{limit}"


PositiveInt = Annotated[int, Range(1)]
Count = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**31)]
Positive = Annotated[float, Range(0, low_excluded=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 0.99)]  # of dropout


class Kind(NamedTuple):
    """What an annotation says of a flag."""

    type: type  # of one value: bool, int, float, str or Path
    choices: tuple[str, ...] = ()
    range: Range | None = None
    is_list: bool = False  # several values belong together
    optional: bool = False  # None: not set

    def convert(self, text: str) -> Any:
        """The value of a text on the command line. Raises ValueError: expected ..., found ..."""
        if self.choices:
            for name in self.choices:
                if name.lower() == text.lower():
                    return name
            raise ValueError(f"expected one of {', '.join(self.choices)}, found {text!r}")
        if self.type is Path and not text:  # an unset variable of a shell; Path("") is the current folder
            raise ValueError("expected a path, found ''")
        if self.type not in (int, float):
            return self.type(text)
        try:
            value = self.type(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (self.range and not self.range.holds(value)):
            expected = "a whole number" if self.type is int else "a number"
            hint = "; leave the flag out for its default" if text.lower() in ("none", "null", "default") else ""
            raise ValueError(f"expected {expected} {self.range or ''}".rstrip() + f", found {text!r}{hint}")
        return value

    def accepts(self, value: Any) -> bool:
        """Whether a value, of a checkpoint for example, is one that the flag may have."""
        if value is None:
            return self.optional
        if self.is_list:
            return isinstance(value, tuple) and all(self._replace(is_list=False).accepts(one) for one in value)
        if self.type is bool or isinstance(value, bool):
            return self.type is bool and isinstance(value, bool)
        try:
            return self.convert(str(value)) == value
        except ValueError:
            return False


def kind_of(annotation: Any) -> Kind:
    """The kind of flag of an annotation: bool, Literal, Path, a number with a range; X | None; tuple[X, ...].

    Raises TypeError for any other one.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType) and len(arguments) == 2 and arguments[1] is type(None):
        return kind_of(arguments[0])._replace(optional=True)
    if origin is tuple and arguments[1:] == (...,):
        return kind_of(arguments[0])._replace(is_list=True)
    if origin is Literal and all(isinstance(argument, str) for argument in arguments):
        return Kind(str, arguments)
    if origin is Annotated:
        return Kind(arguments[0], range=arguments[1])
    if annotation in (bool, int, float, str, Path):
        return Kind(annotation)
    raise TypeError(f"expected the annotation of a flag, found {annotation}")


# ---- declarations ----------------------------------------------------------------------------------------------------


class Flag(NamedTuple):
    """What the command line says of a field of the settings."""

    help: str
    group: str
    several: str  # "grid": several values are a grid search; "each": each is trained and tested; "": one value
    aliases: tuple[str, ...]
    kind: Kind | None = None  # filled in by `flags_of`

    @property
    def takes_several(self) -> bool:
        return bool(self.several) or self.kind.is_list


GROUPS = ("what to run", "model", "training", "data", "run")
DECIDING = ("model", "training", "data")  # groups whose flags decide the result of a training


def flag(group: str, default: Any, help: str, several: str = "", aliases: Iterable[str] = ()) -> Any:
    """A field of the settings that has a flag. One of type bool is a switch: --name, and --no_name to turn it off."""
    return dataclasses.field(default=default, metadata={"flag": Flag(help, group, several, tuple(aliases))})


choice_flag, model_flag, training_flag, data_flag, run_flag = (functools.partial(flag, group) for group in GROUPS)


@functools.cache
def flags_of(settings: type) -> dict[str, Flag]:
    """The declarations of all flags of a class of settings, by name."""
    types = get_type_hints(settings, include_extras=True)
    return {
        field.name: field.metadata["flag"]._replace(kind=kind_of(types[field.name]))
        for field in dataclasses.fields(settings)
        if "flag" in field.metadata
    }


@functools.cache
def deciding_names(settings: type) -> tuple[str, ...]:
    """The settings that decide a training's result: flags of the groups `DECIDING`, and what the script itself sets."""
    flags = flags_of(settings)
    return tuple(
        field.name
        for field in dataclasses.fields(settings)
        if field.name not in ("function", "label", "in_worker", "data_dir")
        and (field.name not in flags or flags[field.name].group in DECIDING)
    )


# ---- flags of all scripts --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Settings of every function. A field without a flag is set by the script itself."""

    function: str = ""  # the function of the script that runs
    label: str = ""  # names this training among several in its lines of progress
    in_worker: bool = False  # one of several processes: a line at the end instead of one per epoch

    output_dir: Path = run_flag(ROOT / "outputs", "folder of the runs; default: outputs/SCRIPT beside the scripts")
    device: Literal["auto", "cpu", "cuda", "mps"] = run_flag("auto", "auto: a GPU if there is one")
    threads: PositiveInt = run_flag(1, "threads of a single training; parallel trainings have 1 each")
    quiet: bool = run_flag(False, "no output but errors")

    def check(self, given: Iterable[str]) -> None:
        """Raises UsageError, with the flag's name, for values that do not go together. `given`: flags set by hand."""

    def need(self, given: Iterable[str], names: str, condition: bool, expected: str) -> None:
        """Raises UsageError if one of the flags `names` was given although the condition for its use does not hold."""
        for name in names.split():
            if name in given and not condition:
                raise UsageError(f"--{name}: used with {expected} only")


@dataclass(frozen=True)
class DataFolder(Settings):
    """Where data sets are stored."""

    data_dir: Path = data_flag(ROOT / "data", "folder of the data sets; default: the variable DATA_DIR, else data/")


@dataclass(frozen=True)
class DownloadedData(DataFolder):
    """Where a data set comes from."""

    source: Literal["auto", "full", "sample"] = data_flag(
        "auto", "auto: data_dir, else download, else sample; full: never the sample"
    )

    def reading(self, metadata: dict[str, Any]) -> "DownloadedData":
        """The same settings with the source that `--source auto` used, so that a resumed training reads it again."""
        source = metadata["data"]
        known = self.source == "auto" and source in ("full", "sample")
        return dataclasses.replace(self, source=source) if known else self


@dataclass(frozen=True)
class Training(Settings):
    """Settings of every function that trains."""

    epochs: PositiveInt = training_flag(20, "passes over the training data")
    updates: PositiveInt | None = training_flag(None, "optimizer steps instead of --epochs, rounded up to whole epochs")
    batch_size: PositiveInt = training_flag(128, "sequences per step")
    learning_rate: Positive = training_flag(1e-3, "peak learning rate", "grid", ["lr"])
    schedule: Literal["constant", "cosine"] = training_flag(
        "cosine", "constant, or warm-up in 5 % of the steps and cosine decay to 0"
    )
    gradient_clipping: NotNegative = training_flag(1.0, "maximum norm of the gradient; 0: no clipping", "grid")
    optimizer: Literal["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta"] = training_flag(
        "Adam", "Adam, AdamW, SGD, RMSprop, Adagrad or Adadelta"
    )
    weight_decay: NotNegative = training_flag(0.0, "weight decay as the optimizer defines it")
    precision: Literal["float32", "bfloat16"] = training_flag("float32", "training precision; bfloat16 uses autocast")
    seed: Seed = training_flag(0, "seed of the weights and of the data order")
    limit: PositiveInt | None = data_flag(None, "first N training sequences only")

    seeds: PositiveInt = run_flag(1, "number of seeds, from --seed on: mean and standard deviation")
    jobs: PositiveInt = run_flag(1, "processes for models, grids, folds and seeds")
    backend: Literal["loky", "dask", "ray"] = run_flag("loky", "where they run: loky, this machine; or a cluster")
    scheduler: str | None = run_flag(None, "address of the cluster; default: one on this machine")
    dry_run: bool = run_flag(False, "evaluate and plot the trained model of an earlier run")
    resume: bool = run_flag(False, "continue from the last checkpoint of the same run")
    checkpoint_every: NotNegative = run_flag(30.0, "seconds between checkpoints")
    tensorboard: bool = run_flag(False, "also TensorBoard files (package tensorboard)")

    def check(self, given: Iterable[str]) -> None:
        super().check(given)  # of the other bases of a script's class
        self.need(given, "scheduler", self.backend != "loky", "--backend dask or ray")
        if "epochs" in given and self.updates:
            raise UsageError("--epochs: not used with --updates, which counts optimizer steps")


@dataclass(frozen=True)
class Application(Settings):
    """Settings of every function that applies a trained model."""

    model_from: Path | None = choice_flag(
        None, "run folder of the trained model; default: that in --output_dir", aliases=["trained", "checkpoint"]
    )


@dataclass(frozen=True)
class Anomalies(Application):
    """Settings of every function that ranks by reconstruction error."""

    quantile: Share = choice_flag(0.99, "quantile of the validation errors that is the anomaly threshold")


def as_dict(settings: Settings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def module_name(function: Callable) -> str:
    """The module of a function under which another process finds it, also if this one runs it as a script."""
    module = function.__module__
    return Path(sys.modules[module].__file__).resolve().stem if module == "__main__" else module
