"""Run folders and checkpoints of others, damaged and forged, and files made to hang or to fill the memory.

Whatever stands in a file: the promised result, or one line and status 2, in bounded memory.
"""

import contextlib
import copy
import math
import shutil
from pathlib import Path

import pytest
import torch

from training import checkpoint

pytest.importorskip("hypothesis")
import tiny_models
from fuzzing import changed_bytes, put
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # of a file that fails
    pytest.mark.filterwarnings("ignore:.*going on from last.previous.pt"),
    pytest.mark.usefixtures("no_flush"),
]

# ---- checkpoints -----------------------------------------------------------------------------------------------------

# Model, function, and the flag that takes its run folder or its checkpoint.
DOORS = {
    "toy": ("sequences", "encode", "trained"),
    "prices": ("prices", "encode", "trained"),
    "tomorrow": ("tomorrow", "tomorrow", "trained"),
    "images": ("images", "encode", "trained"),
    "classes": ("classes", "predict", "checkpoint"),
    "pretrained": ("classes", "adversarial", "pretrained"),
    "movement": ("movement", "predict", "checkpoint"),
    "start": ("movement", "train", "start"),
    "messages": ("messages", "predict", "checkpoint"),
}
FORGED = [None, True, -1, 0, 1, 3, 10**6, 10**12, -0.5, 0.5, 1e300, math.nan, "", "x", [], [1], {}, {"x": 1}]
FORGED += [torch.zeros(0), torch.zeros(3), torch.full((2, 2), math.nan), torch.zeros(2, dtype=torch.int64)]


def places(content, path=()):
    """The paths of all parts of nested dictionaries and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def model_places(content):
    """The paths that decide a model and its settings; the state of the optimizer is for resuming."""
    return [path for path in places(content) if path[0] in ("model", "flags", "epoch", "averaged", "format")]


@st.composite
def forged(draw, content):
    """A checkpoint with one to three parts left out or replaced."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(model_places(content) or [("x",)]))
        owner = content
        for key in path[:-1]:
            owner = owner[key]
        if draw(st.integers(0, 3)) == 0:
            with contextlib.suppress(LookupError):
                del owner[path[-1]]
        else:
            owner[path[-1]] = draw(st.sampled_from(FORGED))
    return content


@st.composite
def run_folders(draw, folder):
    """Name and new content, bytes or a dictionary, of one checkpoint of a run folder."""
    name = draw(st.sampled_from(["best.pt", "last.pt"]))
    if draw(st.integers(0, 3)) == 0:
        return name, draw(changed_bytes((folder / name).read_bytes()))
    return name, draw(forged(checkpoint.load(folder / name)))


def arguments(door, folder, tmp_path):
    """Flags beside the one that is tested, for a run of milliseconds."""
    name, function, flag = DOORS[door]
    script, _, files, more = tiny_models.MODELS[name]
    argv = ["--function", function, f"--{flag}", folder if flag == "trained" else folder / "best.pt"]
    if door == "messages":
        return script, [*argv, "--text", "buy the dip", "sell"]
    if function in ("adversarial", "train"):
        argv += [*more, *(["--epsilon", "0.1"] if function == "adversarial" else [])]
    if door == "classes":
        files = {"data": files["test"]}
    for key, content in files.items():
        if not isinstance(content, dict) and flag != "trained":
            argv += [f"--{key}", put(tmp_path / "data" / f"{key}.ts", content.encode())]
    return script, argv


@pytest.mark.parametrize("name", DOORS)
def test_any_checkpoint(tmp_path, fuzz, door, tiny_model, name):
    whole, folder = tiny_model(DOORS[name][0]), tmp_path / "trained"
    script, argv = arguments(name, folder, tmp_path)

    def load(example):
        file, content = example
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(tmp_path / "outputs", ignore_errors=True)
        shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("grid", "folds", "seeds", "*.previous.pt"))
        if isinstance(content, dict):
            checkpoint.save(folder / file, content)
        else:
            put(folder / file, content)
        return door(script, *argv)

    def check(metrics):
        assert metrics
        assert not any(isinstance(value, float) and math.isnan(value) for value in metrics.values())

    fuzz(run_folders(whole), load, check, 2)
