"""Settings of one training, each declared once with its flag: type, default, help, and the functions that use it.

A script declares its flags as the fields of a frozen dataclass, a subclass of `Settings`. One object of that class is
one training and holds scalars only (see `training.presets` for what a person asks for).

    class ToySettings(Settings):
        code_size: int = flag(16, "values of the bottleneck", "model", COUNT, several="each")

This module, `training.presets` and `training.flags` import nothing slow: `--help` and wrong flags answer at once.
"""

import argparse
import dataclasses
import importlib
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = {"loky": "joblib", "dask": "distributed", "ray": "ray"}  # and the package that each needs
OPTIMIZERS = ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta")


class UsageError(ValueError):
    """Flags that do not go together, or a folder that cannot be used. The message is one line."""


# ---- types of values -------------------------------------------------------------------------------------------------


def number(kind: type, low: float, high: float = math.inf, open_low: bool = False) -> Callable[[str], float]:
    """An argparse type: an int or float in [low, high], or in (low, high]."""

    def convert(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not (low < value if open_low else low <= value) or value > high or value == math.inf:
            what = "a whole number" if kind is int else "a number"
            above = f"above {low}" if open_low else f"of at least {low}"
            below = "" if high == math.inf else f" and at most {high}"
            hint = "; leave the flag out for its default" if text.lower() in ("none", "null", "default") else ""
            raise argparse.ArgumentTypeError(f"expected {what} {above}{below}, found {text!r}{hint}")
        return value

    return convert


POSITIVE_INT, COUNT, SEED = number(int, 1), number(int, 0), number(int, 0, 2**31)
POSITIVE, NOT_NEGATIVE, FRACTION = number(float, 0, open_low=True), number(float, 0), number(float, 0, 1)


def one_of(*names: str) -> Callable[[str], str]:
    """An argparse type: one of `names`, in upper or lower case."""

    def convert(text: str) -> str:
        for name in names:
            if name.lower() == text.lower():
                return name
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, found {text!r}")

    convert.choices = names
    return convert


# ---- declarations ----------------------------------------------------------------------------------------------------


class Flag(NamedTuple):
    """What the command line says of a field of the settings."""

    help: str
    group: str
    parse: Callable[[str], Any] | None  # None: a switch
    several: str  # what several values mean, "" if there can be only one
    functions: tuple[str, ...]  # which use it; none named: see `Script.users`
    when: dict[str, tuple]  # other flags, and the values that they need for this one to matter
    trains: bool  # whether only functions that train use it
    decides: bool  # whether it decides the result of a training
    aliases: tuple[str, ...]  # other spellings, former ones included
    metavar: str | None
    refused: str  # why no function of this script uses it


SEVERAL = {
    "grid": "several values: a grid search",
    "each": "several values: each is trained and tested",
    "list": "",  # the values belong together
}
GROUPS = ("what to run", "model", "training", "data", "run")


def flag(
    default: Any,
    help: str,
    group: str,
    parse: Callable[[str], Any] | None = None,
    *,
    several: str = "",
    functions: Iterable[str] = (),
    when: dict[str, Any] | None = None,
    trains: bool | None = None,
    decides: bool | None = None,
    aliases: Iterable[str] = (),
    metavar: str | None = None,
    refused: str = "",
) -> Any:
    """A field of the settings that has a flag. Without `parse` it is a switch: --name, and --no_name to turn it off."""
    trains = group in ("model", "training") if trains is None else trains
    decides = group in ("what to run", "model", "training", "data") if decides is None else decides
    needs = {name: value if isinstance(value, tuple) else (value,) for name, value in (when or {}).items()}
    described = Flag(
        help, group, parse, several, tuple(functions), needs, trains, decides, tuple(aliases), metavar, refused
    )
    return dataclasses.field(default=default, metadata={"flag": described})


@dataclasses.dataclass(frozen=True)
class Settings:
    """One training: the flags that all scripts have. A field without a flag is set by the script itself."""

    function: str = ""  # the function of the script that runs
    label: str = ""  # names this training among several in its lines of progress
    in_worker: bool = False  # one of several processes: a line at the end instead of one per epoch

    dry_run: bool = flag(
        False, "no training: evaluate and plot the model of an earlier run", "what to run", trains=True, decides=False
    )

    hidden_size: int = flag(64, "units of the LSTM", "model", POSITIVE_INT, several="grid")
    num_layers: int = flag(1, "stacked LSTM layers", "model", POSITIVE_INT)

    epochs: int = flag(20, "passes over the training data", "training", POSITIVE_INT)
    batch_size: int = flag(128, "sequences per step", "training", POSITIVE_INT)
    learning_rate: float = flag(
        1e-3, "step size of the optimizer, at its peak", "training", POSITIVE, several="grid", aliases=["lr"]
    )
    schedule: str = flag(
        "cosine",
        "learning rate over time: constant, or warm-up in 5 %% of the steps and a cosine to 0",
        "training",
        one_of("constant", "cosine"),
        metavar="{constant,cosine}",
    )
    gradient_clipping: float = flag(
        1.0, "largest norm of the gradient; 0: no clipping", "training", NOT_NEGATIVE, several="grid"
    )
    optimizer: str = flag(
        "Adam", f"class of torch.optim: {', '.join(OPTIMIZERS)}", "training", one_of(*OPTIMIZERS), metavar="NAME"
    )
    weight_decay: float = flag(0.0, "weight decay as the optimizer defines it", "training", NOT_NEGATIVE)
    weight_average: float = flag(
        0.0,
        "decay per step of an exponential moving average of the weights, which is then what is evaluated and "
        "kept; 0: none",
        "training",
        number(float, 0, 0.999999),
    )
    patience: int = flag(0, "epochs without a better validation score before stopping; 0: never", "training", COUNT)
    precision: str = flag(
        "float32",
        "number format of the products in training: float32, or bfloat16 by autocast",
        "training",
        one_of("float32", "bfloat16"),
        metavar="{float32,bfloat16}",
    )

    data_dir: Path = flag(
        ROOT / "data",
        "folder of the data sets; or the environment variable DATA_DIR; else data/ beside the scripts",
        "data",
        Path,
        decides=False,
        metavar="FOLDER",
    )
    source: str = flag(
        "auto",
        "auto: files in data_dir, else a download, else the sample; full: never the sample; sample: no network",
        "data",
        one_of("auto", "full", "sample"),
        metavar="{auto,full,sample}",
    )
    limit: int | None = flag(
        None, "number of training sequences, the first ones; default: all", "data", POSITIVE_INT, trains=True
    )

    seed: int = flag(0, "seed of the weights and of the order of the data", "run", SEED, trains=True, decides=True)
    seeds: int = flag(
        1, "number of seeds, from --seed on; reports mean and standard deviation", "run", POSITIVE_INT, trains=True
    )
    device: str = flag(
        "auto",
        "auto: an accelerator if there is one",
        "run",
        one_of("auto", "cpu", "cuda", "mps"),
        metavar="{auto,cpu,cuda,mps}",
        decides=True,
    )
    threads: int = flag(1, "threads of one process; small models are fastest with 1", "run", POSITIVE_INT, decides=True)
    jobs: int = flag(1, "processes for grids, seeds and the models of one study", "run", POSITIVE_INT, trains=True)
    backend: str = flag(
        "loky",
        "where these processes run: loky, this machine; dask or ray, a cluster",
        "run",
        one_of(*BACKENDS),
        trains=True,
        metavar="{loky,dask,ray}",
    )
    scheduler: str | None = flag(
        None,
        "address of a running Dask or Ray cluster; default: one on this machine",
        "run",
        str,
        trains=True,
        when={"backend": ("dask", "ray")},
        metavar="ADDRESS",
    )
    output_dir: Path = flag(
        ROOT / "outputs",
        "folder of the run folders; default: outputs/SCRIPT beside the scripts",
        "run",
        Path,
        metavar="FOLDER",
    )
    resume: bool = flag(False, "continue from the last checkpoint of the same run", "run", trains=True)
    checkpoint_every: float = flag(30.0, "seconds between checkpoints", "run", NOT_NEGATIVE, trains=True)
    tensorboard: bool = flag(False, "TensorBoard files too (needs the package tensorboard)", "run", trains=True)
    quiet: bool = flag(False, "no output but errors", "run")

    def check(self) -> None:
        """Raises UsageError, with the flag's name, for values that do not go together. A script overrides it."""

    def __reduce__(self):
        return restore_settings, (module_name(type(self)), type(self).__qualname__, as_dict(self))


@dataclasses.dataclass(frozen=True)
class AutoencoderSettings(Settings):
    """The flags of the functions that apply a trained autoencoder."""

    trained: Path | None = flag(
        None,
        "run folder of the trained model; default: the one in the output folder",
        "what to run",
        Path,
        functions=("encode", "anomalies", "tomorrow"),
        decides=False,
        metavar="FOLDER",
    )
    quantile: float = flag(
        0.99,
        "share of the validation sequences whose error is not above the threshold of an anomaly",
        "what to run",
        FRACTION,
        functions=["anomalies"],
        decides=False,
    )


def as_dict(settings: Settings) -> dict:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def restore_settings(module: str, name: str, values: dict) -> Settings:
    return getattr(importlib.import_module(module), name)(**values)


def module_name(thing: Any) -> str:
    """The module of a class or function under which another process finds it, also if this one runs it as a script."""
    module = thing.__module__
    return Path(sys.modules[module].__file__).stem if module == "__main__" else module
