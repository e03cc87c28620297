"""A script of the tests' own with a small model, trained in milliseconds: settings, data, loss, and what it leaves."""

import csv
import dataclasses
import signal
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lstm_studies.training import checkpoint, loop, tables
from lstm_studies.training.presets import Request, Script
from lstm_studies.training.run import prepare_process
from lstm_studies.training.settings import DownloadedData, NotNegative, PositiveInt, Training, model_flag, training_flag


@dataclasses.dataclass(frozen=True)
class Fit(Training, DownloadedData):
    """a training"""

    hidden_size: PositiveInt = model_flag(4, "units", "grid")
    epsilon: NotNegative = training_flag(0.0, "length of the perturbation", "grid")
    fold: int | None = None


NAMES = ("best", "published", "quick")
SCRIPT = Script("tiny_training", {"fit": Fit}, {name: lambda asked: {} for name in NAMES}, module="tiny_training")
TINY = {  # for a training of milliseconds
    "epochs": 3,
    "batch_size": 4,
    "learning_rate": 0.01,
    "data_dir": Path("data"),
    "output_dir": Path("outputs"),
    "device": "cpu",
    "quiet": True,
}


def make_settings(**values) -> Fit:
    return Fit(**{**TINY, **values})


def make_request(**values) -> Request:
    """The request for such trainings, with several values where wanted."""
    return SCRIPT.request("fit", **{**TINY, **values})


class Net(nn.Module):
    """Two layers with dropout between them, so that a training depends on the state of the random numbers."""

    def __init__(self, hidden):
        super().__init__()
        self.arguments = {"hidden": hidden}
        self.layers = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Dropout(0.3), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.layers(x)


def points(seed: int, size: int) -> TensorDataset:
    x = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.sum(1, keepdim=True).sin())


TRAINING, VALIDATION, TEST = points(0, 10), points(1, 6), points(2, 6)  # in batches of 4: 4 + 4 + 2, and 4 + 2
BATCHES = 3  # of an epoch of training


def step(model, batch):
    x, y = batch
    error = model(x) - y
    return {"loss": error.square().mean(), "absolute": error.abs().mean()}


def fit(folder, step=step, data=(TRAINING, VALIDATION), arguments=None, **values) -> tuple[Net, loop.Result]:
    """A training from the seed on; returns the model and the result. arguments: more of `loop.train`."""
    settings = make_settings(**values)
    prepare_process(settings)
    model = Net(settings.hidden_size)
    return model, loop.train(model, step, *data, settings, folder, **(arguments or {}))


class Signals:
    """A step that sends signals to its own process at the given calls, counted from 0 over training and validation."""

    def __init__(self, *calls, signum=signal.SIGTERM):
        self.calls, self.signum, self.count = calls, signum, 0

    def __call__(self, model, batch):
        for _ in range(self.calls.count(self.count)):
            signal.raise_signal(self.signum)
        self.count += 1
        return step(model, batch)


# ---- what must be the same -------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Equality bit by bit through dictionaries and lists."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)  # also not a number, both


def outcome(folder: Path, model: nn.Module) -> dict:
    """Everything that must be the same after an interrupted training and one that was not."""
    last, best = checkpoint.load(folder / "last.pt"), checkpoint.load(folder / "best.pt")
    del last["seconds"]
    return {"weights": model.state_dict(), "best": best, "last": last, "history": (folder / "history.csv").read_bytes()}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path)["model"]["weights"]


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as text."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(content: Any) -> Any:
    """Metrics, or rows of a table, without the times in them."""
    if isinstance(content, dict):
        return {name: without_seconds(value) for name, value in content.items() if not name.startswith("seconds")}
    return [without_seconds(one) for one in content] if isinstance(content, list) else content


NOT_EQUAL = ("seconds", "flags")  # of a checkpoint: paths in the flags may name the folder


def everything(folder: Path) -> dict[str, Any]:
    """All that a run left and that a stopped and resumed one must leave as well, down to the bits."""
    content = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith(".") or "previous" in path.name or path.name == "config.json" or not path.is_file():
            continue
        if path.suffix == ".pt":
            content[name] = {key: value for key, value in checkpoint.load(path).items() if key not in NOT_EQUAL}
        elif path.name == "metrics.json":
            content[name] = without_seconds(tables.read_json(path))
        elif path.name == "grid.csv":
            content[name] = without_seconds(rows(path))
        else:
            content[name] = path.read_bytes() if path.suffix == ".csv" else None
    return content
