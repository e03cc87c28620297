"""The command line: the flags that every script has, with errors of one line."""

import argparse
import importlib
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = {"loky": ("joblib", "joblib"), "dask": ("distributed", "distributed"), "ray": ("ray", "ray")}
OPTIMIZERS = ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta")


class UsageError(ValueError):
    """Flags that do not go together, or a folder that cannot be used. The message is one line."""


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


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
            raise argparse.ArgumentTypeError(f"expected {what} {above}{below}, found {text!r}")
        return value

    return convert


POSITIVE_INT, COUNT = number(int, 1), number(int, 0)
POSITIVE, NOT_NEGATIVE, FRACTION = number(float, 0, open_low=True), number(float, 0), number(float, 0, 1)


def make_parser(description: str, functions: dict[str, Callable], **defaults) -> tuple[Parser, dict]:
    """The flags that all scripts have, and the argument groups to add a script's own ones to."""
    listing = "".join(f"\n  {name:16s} {f.__doc__.splitlines()[0]}" for name, f in functions.items())
    parser = Parser(
        description=f"{description.strip()}\n\nfunctions (all of them without --function):{listing}",
        formatter_class=type(
            "Formatter", (argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter), {}
        ),
    )
    script = script_of(functions)
    parser.prog = f"{script}.py"
    groups = {name: parser.add_argument_group(name) for name in ("what to run", "model", "training", "data", "run")}

    add = groups["what to run"].add_argument
    add("--function", choices=functions, metavar="NAME", help="one of the functions above; default: all")
    add("--dry_run", action="store_true", help="load the model that an earlier run trained; only evaluate and plot")

    add = groups["model"].add_argument
    add("--hidden_size", type=POSITIVE_INT, nargs="+", default=[64], help="units of the LSTMs; several: a grid")
    add("--num_layers", type=POSITIVE_INT, default=1, help="stacked LSTM layers")

    add = groups["training"].add_argument
    add("--epochs", type=POSITIVE_INT, default=20, help="passes over the training data")
    add("--batch_size", type=POSITIVE_INT, default=128, help="sequences per step")
    add("--learning_rate", type=POSITIVE, nargs="+", default=[1e-3], help="peak of the schedule; several: a grid")
    add(
        "--schedule",
        choices=("constant", "cosine"),
        default="cosine",
        help="cosine: 5 %% of the steps linear warm-up, then a cosine to 0",
    )
    add("--gradient_clipping", type=NOT_NEGATIVE, nargs="+", default=[1.0], help="max norm; 0: off; several: a grid")
    add("--optimizer", choices=OPTIMIZERS, default="Adam", help="a class of torch.optim")
    add("--weight_decay", type=NOT_NEGATIVE, default=0.0, help="as the optimizer defines it")
    add("--patience", type=COUNT, default=0, help="stop after N epochs without a better validation score; 0: never")
    add(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16: autocast while training; faster where the processor has such products",
    )

    add = groups["data"].add_argument
    add(
        "--data_dir",
        type=Path,
        default=Path(os.environ.get("DATA_DIR", ROOT / "data")),
        help="or the variable DATA_DIR; default: data/ beside the scripts",
    )
    add(
        "--source",
        choices=("auto", "full", "sample"),
        default="auto",
        help="auto: files in data_dir, else download, else the bundled sample",
    )
    add("--limit", type=POSITIVE_INT, help="only the first N training sequences")

    add = groups["run"].add_argument
    add("--seed", type=number(int, 0, 2**31), default=0, help="of weights and data order")
    add("--seeds", type=POSITIVE_INT, default=1, help="repeat with N seeds from --seed on; report mean and std")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="auto: an accelerator if there is one")
    add("--threads", type=POSITIVE_INT, default=1, help="of one process; small models are fastest with 1")
    add("--jobs", type=POSITIVE_INT, default=1, help="processes for the combinations of a grid and for the seeds")
    add(
        "--backend",
        choices=tuple(BACKENDS),
        default="loky",
        help="of joblib: loky, processes on this machine; dask or ray, those of a cluster",
    )
    add("--scheduler", metavar="ADDRESS", help="of a running Dask or Ray cluster; default: one on this machine")
    add("--output_dir", type=Path, default=Path("outputs") / script, help="where run folders go")
    add("--resume", action="store_true", help="go on from the last checkpoint of the same run")
    add("--checkpoint_every", type=NOT_NEGATIVE, default=30.0, help="seconds between checkpoints")
    add("--tensorboard", action="store_true", help="also write TensorBoard files (needs the package tensorboard)")
    add("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(**defaults)
    return parser, groups


def script_of(functions: dict[str, Callable]) -> str:
    """The name of the file that the functions are in, without its ending, also if it runs as the main program."""
    return Path(sys.modules[next(iter(functions.values())).__module__].__file__).stem


def parse(parser: Parser, argv: list[str] | None) -> argparse.Namespace:
    """Reads the flags and prepares the process: threads, memory, device."""
    flags = parser.parse_args(argv)
    if flags.device == "auto":
        flags.device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[flags.device]:
        parser.error(f"argument --device: {flags.device} is not available here, expected one of auto, cpu")
    if flags.scheduler and flags.backend == "loky":
        parser.error("argument --scheduler: is of --backend dask or ray, found --backend loky")
    if flags.tensorboard:
        require(parser, "tensorboard", "torch.utils.tensorboard", "tensorboard")
    require(parser, "backend", *BACKENDS[flags.backend])
    return flags


def require(parser: Parser, flag: str, module: str, package: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        parser.error(f"argument --{flag}: needs the package {package}: pip install {package}")
