"""Flags, run folders and the training loop: the same numbers whatever happens to the process."""

import contextlib
import copy
import csv
import gc
import itertools
import json
import math
import os
import pickle
import platform
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_settings, run_functions
from torch import nn
from torch.utils.data import TensorDataset

from lstm_studies.loaders.files import DataError
from lstm_studies.training import checkpoint, flags, formats, loop, signals, tables
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.loop import Diverged
from lstm_studies.training.presets import Script
from lstm_studies.training.run import find_device, locked, prepare_process
from lstm_studies.training.settings import OPTIMIZERS, ROOT, Settings, UsageError
from lstm_studies.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("no_flush")

# ---- flags -----------------------------------------------------------------------------------------------------------


def first(flags, folder):
    """the first function"""
    return {"answer": 1.5}


def second(flags, folder):
    """the second function"""
    return {"answer": 2.5}


FUNCTIONS = {"first": first, "second": second}


TEXTS = {name: function.__doc__ for name, function in FUNCTIONS.items()}
SCRIPT = Script(__file__, "A test.", TEXTS, Settings, {}, trains=("first", "second"), whole_study=("first",))


def parse(*argv):
    """The request for the chosen function, or for the first one."""
    (request,) = flags.parse(SCRIPT, list(argv)).values()
    return request


def one_line(capsys):
    """What was written to standard error: one line."""
    text = capsys.readouterr().err
    assert text.endswith("\n") and text.count("\n") == 1, text
    return text


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *[
            (f, v)
            for f in ("hidden_size", "num_layers", "epochs", "batch_size", "limit", "seeds", "threads", "jobs")
            for v in ("0", "-1", "1.5", "nan", "inf", "many", "")
        ],
        *[("learning_rate", v) for v in ("0", "-0.1", "nan", "inf", "fast", "")],
        *[
            (f, v)
            for f in ("gradient_clipping", "weight_decay", "checkpoint_every")
            for v in ("-1", "-1e-9", "nan", "inf", "much")
        ],
        ("patience", "-1"),
        ("patience", "1.5"),
        ("seed", "-1"),
        ("seed", str(2**31 + 1)),
        ("seed", "x"),
        ("learning_rate", "-inf"),
        ("optimizer", "Lion"),
        ("schedule", "linear"),
        ("precision", "float16"),
        ("source", "none"),
        ("device", "tpu"),
        ("function", "third"),
        ("no_such_flag", "1"),
        ("resume", "1"),
    ],
)
def test_bad_flags(capsys, flag, value):
    with pytest.raises(SystemExit) as caught:
        parse(f"--{flag}", value)
    assert caught.value.code == 2
    line = one_line(capsys)
    assert line.startswith("test_training.py: error: ") and (f"--{flag}" in line or value in line)
    if flag != "resume":
        assert f"--{flag}" in line


def test_bad_value_among_several(capsys):
    with pytest.raises(SystemExit):
        parse("--hidden_size", "8", "0", "16")
    assert one_line(capsys) == (
        "test_training.py: error: argument --hidden_size: expected a whole number of at least 1, found '0'\n"
    )


def test_unknown_function_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        parse("--function", "third")
    line = one_line(capsys)
    assert "'third'" in line and "first" in line and "second" in line


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_absent_device(capsys, monkeypatch, device, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SystemExit) as caught:
        run_functions(FUNCTIONS, tmp_path, device=device)
    assert caught.value.code == 2
    line = one_line(capsys)
    assert "--device" in line and device in line
    assert find_device("auto") == "cpu"


def test_missing_tensorboard(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SystemExit) as caught:
        parse("--tensorboard")
    assert caught.value.code == 2 and "--tensorboard" in one_line(capsys)


def test_good_flags():
    request = parse(
        "--function",
        "second",
        "--hidden_size",
        "8",
        "16",
        "--learning_rate",
        ".1",
        "--gradient_clipping",
        "0",
        "--patience",
        "0",
        "--checkpoint_every",
        "0",
        "--seed",
        "0",
    )
    assert request.function == "second" and request.hidden_size == [8, 16] and request.learning_rate == [0.1]
    assert request.gradient_clipping == [0.0] and request.patience == 0
    assert request.output_dir == ROOT / "outputs" / "test_training"


def test_data_dir_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert parse().data_dir == tmp_path
    assert parse("--data_dir", "here").data_dir == Path("here")


def test_help_lists_functions_with_a_line_each(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    text = capsys.readouterr().out
    assert caught.value.code == 0 and "first            the first function" in text and "(default: 20)" in text


# ---- run folder ------------------------------------------------------------------------------------------------------


def test_run_writes_config_and_metrics(tmp_path):
    metrics = run_functions(FUNCTIONS, tmp_path, function="first", learning_rate=0.1, seed=3, data_dir="data")
    assert metrics == {"answer": 1.5}
    assert json.loads((tmp_path / "first" / "metrics.json").read_text()) == {"answer": 1.5}
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    commit = config.pop("git_commit")
    assert commit is None or len(commit) == 40
    assert (config.pop("format"), config.pop("version")) == (formats.FORMAT, formats.VERSION)
    assert config.pop("machine").endswith(" cores")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    assert config.pop("versions") == versions
    request = SCRIPT.request("first", learning_rate=[0.1], seed=3, quiet=True, device="cpu")
    paths = {"output_dir": str(tmp_path), "data_dir": "data"}
    assert config == {**flags.describe(request), **paths}


def test_without_function_all_run(tmp_path):
    metrics = run_functions(FUNCTIONS, tmp_path)
    assert metrics == {"first": {"answer": 1.5}, "second": {"answer": 2.5}}
    for name in FUNCTIONS:
        assert json.loads((tmp_path / name / "config.json").read_text())["function"] == name
        assert json.loads((tmp_path / name / "metrics.json").read_text()) == metrics[name]


def test_config_without_git(tmp_path, monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    run_functions(FUNCTIONS, tmp_path, function="first")
    assert json.loads((tmp_path / "first" / "config.json").read_text())["git_commit"] is None


def test_dry_run_leaves_the_config(tmp_path):
    run_functions(FUNCTIONS, tmp_path, function="first", epochs=7)
    run_functions(FUNCTIONS, tmp_path, function="first", dry_run=True)
    assert json.loads((tmp_path / "first" / "config.json").read_text())["epochs"] == 7


def test_dry_run_refuses_what_contradicts_the_training(tmp_path, capsys):
    run_functions(FUNCTIONS, tmp_path, function="first", epochs=7)
    with pytest.raises(SystemExit) as caught:
        run_functions(FUNCTIONS, tmp_path, function="first", epochs=8, dry_run=True)
    line = one_line(capsys)
    assert caught.value.code == 2 and "--epochs" in line and "trained with 7, not 8" in line


def test_dry_run_takes_the_settings_of_the_training(tmp_path):
    def sizes(request, folder):
        return {"hidden_size": request.hidden_size, "epochs": request.epochs}

    trained = run_functions({"f": sizes}, tmp_path, hidden_size=5, epochs=7)
    assert run_functions({"f": sizes}, tmp_path, dry_run=True) == trained


@pytest.mark.parametrize("content", ["", "[]", "{", '{"hidden_size": 5}'])
def test_dry_run_of_a_damaged_config_is_one_line_or_goes_by_what_is_there(tmp_path, capsys, content):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "config.json").write_text(content)
    if content.startswith('{"'):
        assert run_functions(FUNCTIONS, tmp_path, function="first", dry_run=True) == {"answer": 1.5}
        return
    with pytest.raises(SystemExit) as caught:
        run_functions(FUNCTIONS, tmp_path, function="first", dry_run=True)
    assert caught.value.code == 2 and "config.json" in one_line(capsys)


def test_each_function_starts_from_the_seed(tmp_path):
    def draw(flags, folder):
        return {"values": [random.random(), float(np.random.rand()), float(torch.rand(1)), torch.get_num_threads()]}

    metrics = run_functions({"a": draw, "b": draw}, tmp_path)
    assert metrics["a"] == metrics["b"] and metrics["a"]["values"][3] == 1
    assert run_functions({"a": draw, "b": draw}, tmp_path, seed=1)["a"] != metrics["a"]


def stopped(tmp_path, function, **values):
    """The exit status of a run of `function`."""
    with pytest.raises(SystemExit) as caught:
        run_functions({"f": function}, tmp_path, function="f", **values)
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "status"),
    [(UsageError, 2), (DataError, 2), (CheckpointError, 2), (Diverged, 1)],
)
def test_errors_are_one_line(tmp_path, capsys, error, status):
    def function(flags, folder):
        raise error("--this: is wrong")

    assert stopped(tmp_path, function) == status
    assert one_line(capsys).endswith(": error: --this: is wrong\n")
    assert not (tmp_path / "f" / "metrics.json").exists()


def test_bugs_are_not_swallowed(tmp_path):
    def function(flags, folder):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_functions({"f": function}, tmp_path)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_outside_of_training(tmp_path, capsys, signum, status):
    before = signal.getsignal(signum)

    def function(flags, folder):
        signal.raise_signal(signum)
        time.sleep(5)

    assert stopped(tmp_path, function) == status
    assert one_line(capsys).endswith(f": error: stopped by {signum.name}\n")
    assert signal.getsignal(signum) == before


def test_second_run_in_one_folder(tmp_path, capsys):
    with locked(tmp_path / "f"):
        assert stopped(tmp_path, first) == 2
        line = one_line(capsys)
        assert "--output_dir" in line and "another run" in line and str(tmp_path / "f") in line
        run_functions(FUNCTIONS, tmp_path / "elsewhere", function="first")
    assert not (tmp_path / "f" / "config.json").exists()
    run_functions({"f": first}, tmp_path, function="f")
    assert (tmp_path / "f" / "metrics.json").exists()


def test_lock_is_released_after_an_error(tmp_path, capsys):
    def function(flags, folder):
        raise UsageError("--this: is wrong")

    for _ in range(2):
        stopped(tmp_path, function)
        assert "--this" in one_line(capsys)


@pytest.mark.parametrize("place", ["out", "out/f"])
def test_file_in_the_way_of_output_dir(tmp_path, capsys, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert stopped(tmp_path / "out", first) == 2
    line = one_line(capsys)
    assert "--output_dir" in line and str(tmp_path / "out") in line
    assert path.read_text() == "mine"


def test_read_only_output_dir(tmp_path, capsys, monkeypatch):
    if os.geteuid() == 0:  # root may write anywhere: act as if it might not

        def refuse(self, *_, **__):
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
    tmp_path.chmod(0o500)
    try:
        assert stopped(tmp_path / "out", first) == 2
    finally:
        tmp_path.chmod(0o700)
    line = one_line(capsys)
    assert "--output_dir" in line and "Permission denied" in line


def test_interrupted_travels_between_processes():
    error = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM, " in epoch 2")))
    assert error.signum == signal.SIGTERM and str(error) == "stopped by SIGTERM in epoch 2"


# ---- a small training ------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two layers with dropout between them, so that a training depends on the state of the random numbers."""

    def __init__(self, hidden):
        super().__init__()
        self.arguments = {"hidden": hidden}
        self.layers = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Dropout(0.3), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.layers(x)


def points(seed, size):
    x = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.sum(1, keepdim=True).sin())


TRAINING, VALIDATION = points(0, 10), points(1, 6)  # with batches of 4: 4 + 4 + 2, and 4 + 2
BATCHES = 3


def step(model, batch):
    x, y = batch
    error = model(x) - y
    return {"loss": error.square().mean(), "absolute": error.abs().mean()}


def fit(folder, step=step, data=(TRAINING, VALIDATION), monitor="loss", maximise=False, **values):
    """A training from the seed on; returns the model and the result."""
    settings = make_settings(**values)
    prepare_process(settings)
    model = Net(settings.hidden_size)
    return model, loop.train(model, step, *data, settings, folder, monitor, maximise)


def outcome(folder, model):
    """Everything that must be the same after an interrupted training and one that was not."""
    last, best = checkpoint.load(folder / "last.pt"), checkpoint.load(folder / "best.pt")
    del last["seconds"]
    return {"weights": model.state_dict(), "best": best, "last": last, "history": (folder / "history.csv").read_bytes()}


def same(a, b):
    """Equality bit by bit through dictionaries and lists."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)  # also not a number, both


def table(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(folder, name):
    return [float(row[name]) for row in table(folder)]


class Signals:
    """A step that sends signals to its own process at the given calls, counted from 0 over training and validation."""

    def __init__(self, *calls, signum=signal.SIGTERM):
        self.calls, self.signum, self.count = calls, signum, 0

    def __call__(self, model, batch):
        for _ in range(self.calls.count(self.count)):
            signal.raise_signal(self.signum)
        self.count += 1
        return step(model, batch)


# ---- same numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_seed_same_bits(tmp_path, optimizer):
    ends = [
        outcome(tmp_path / str(i), fit(tmp_path / str(i), optimizer=optimizer, seed=seed)[0])
        for i, seed in enumerate((0, 0, 1))
    ]
    assert same(ends[0], ends[1])
    assert not same(ends[0]["weights"], ends[2]["weights"]) and ends[0]["history"] != ends[2]["history"]


@pytest.mark.parametrize("values", [*({"optimizer": name} for name in OPTIMIZERS), {"weight_average": 0.9}])
def test_interrupted_anywhere_and_resumed(tmp_path, values):
    """At each batch of training and validation in turn; the other half of the cases also save after every batch."""
    values = {"weight_decay": 0.01, "learning_rate": 0.05, **values}
    model, _ = fit(tmp_path / "whole", **values)
    whole = outcome(tmp_path / "whole", model)
    calls = 3 * (BATCHES + 2)
    for call in range(calls):
        folder = tmp_path / str(call)
        often = 0.0 if call % 2 else 30.0
        with pytest.raises(Interrupted):
            fit(folder, Signals(call), checkpoint_every=often, **values)
        model, result = fit(folder, resume=True, checkpoint_every=often, **values)
        assert same(outcome(folder, model), whole), f"interrupted at call {call}"
        assert result.epochs == 3 and not list(folder.glob("*.tmp"))


def test_interrupted_again_and_again(tmp_path):
    model, _ = fit(tmp_path / "whole")
    whole = outcome(tmp_path / "whole", model)
    for _ in range(3 * BATCHES):
        with pytest.raises(Interrupted):
            fit(tmp_path / "a", Signals(0), resume=True)
    model, _ = fit(tmp_path / "a", resume=True)
    assert same(outcome(tmp_path / "a", model), whole)


def test_interrupted_says_where(tmp_path):
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM in epoch 2, after batch 2; --resume goes on"):
        fit(tmp_path, Signals(BATCHES + 2 + 1))
    saved = checkpoint.load(tmp_path / "last.pt")
    assert saved["epoch"] == 1 and saved["batch"] == 2 and len(table(tmp_path)) == 1


def test_signal_during_the_last_save_is_not_lost(tmp_path, monkeypatch):
    save = checkpoint.save

    def signal_in_save(path, content, keep_previous=False):
        save(path, content, keep_previous)
        if path.name == "last.pt":
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(checkpoint, "save", signal_in_save)
        fit(tmp_path / "a")
    model, _ = fit(tmp_path / "a", resume=True)
    whole, _ = fit(tmp_path / "whole")
    assert same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


@pytest.mark.parametrize("after", [None, RuntimeError("trying to pop from empty mode stack")])
def test_a_signal_is_not_swallowed_where_exceptions_are(after):
    """As in `load_state_dict`, which turns every Exception into a RuntimeError, and in contexts that it leaves."""
    with pytest.raises(Interrupted), signals.interruptible():
        try:
            with contextlib.suppress(Exception):
                signal.raise_signal(signal.SIGTERM)
        finally:
            if after:
                raise after


def test_second_signal_ends_at_once(tmp_path, monkeypatch):
    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as caught:
        fit(tmp_path, Signals(1, 1, signum=signal.SIGINT))
    assert caught.value.code == 130


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_exit_status_of_an_interrupted_training(tmp_path, capsys, signum, status):
    def function(request, folder):
        loop.train(Net(4), Signals(1, signum=signum), TRAINING, VALIDATION, request.single(), folder)

    assert stopped(tmp_path, function, batch_size=4) == status
    line = one_line(capsys)
    assert f"stopped by {signum.name}" in line and "--resume" in line
    assert checkpoint.load(tmp_path / "f" / "last.pt")["batch"] == 2


def test_damaged_checkpoint_goes_on_from_the_previous_one(tmp_path):
    model, _ = fit(tmp_path / "whole")
    whole = outcome(tmp_path / "whole", model)
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals(6), checkpoint_every=0.0)
    last = tmp_path / "a" / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="going on from last.previous.pt"):
        model, _ = fit(tmp_path / "a", resume=True)
    assert same(outcome(tmp_path / "a", model), whole)


def test_both_checkpoints_damaged(tmp_path):
    fit(tmp_path, checkpoint_every=0.0)
    for name in ("last.pt", "last.previous.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.pt.*last\.previous\.pt"):
        fit(tmp_path, resume=True)


KILLED = {"epochs": 20, "checkpoint_every": 0.0}


def slow_step(model, batch):
    """The same numbers; 100 calls take at least 0.4 seconds, so that the signal comes before the end."""
    time.sleep(0.004)
    return step(model, batch)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_killed_at_a_random_moment_and_resumed(tmp_path):
    model, _ = fit(tmp_path / "whole", **KILLED)
    whole = outcome(tmp_path / "whole", model)
    folders = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
    code = (
        f"import sys; sys.path[:0] = {folders!r}\n"
        "import test_training as t; from pathlib import Path\n"
        "t.fit(Path(sys.argv[1]), t.slow_step, **t.KILLED)"
    )
    folder, last = tmp_path / "killed", tmp_path / "killed" / "last.pt"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE)
    while process.poll() is None and not last.exists():
        time.sleep(0.001)
    time.sleep(random.Random().uniform(0, 0.3))
    process.kill()
    assert process.communicate()[1] == b""
    done = checkpoint.load_latest(last)
    assert process.returncode == -signal.SIGKILL and done["epoch"] < 20
    model, _ = fit(folder, resume=True, **KILLED)
    assert same(outcome(folder, model), whole), (done["epoch"], done["batch"])


# ---- weight averaging ------------------------------------------------------------------------------------------------


def test_averaged_weights_by_hand(tmp_path):
    """With one batch per epoch: step n moves the average by 1 - min(decay, (1 + n) / (10 + n)) towards the weights."""
    decay, weights = 0.25, []

    def noted(model, batch):
        if model.training:
            weights.append(copy.deepcopy(model.state_dict()))
        return step(model, batch)

    values = {"weight_average": decay, "batch_size": 100, "epochs": 3, "schedule": "constant"}
    model, result = fit(tmp_path, noted, **values)
    last = checkpoint.load(tmp_path / "last.pt")
    expected = weights[0]
    for number, after in enumerate([*weights[1:], last["model"]["weights"]], 1):
        moved = 1 - min(decay, (1 + number) / (10 + number))
        expected = {name: value + moved * (after[name] - value) for name, value in expected.items()}
    assert all(torch.allclose(last["averaged"][name], value, atol=1e-6) for name, value in expected.items())
    if result.best_epoch == 3:
        assert same(model.state_dict(), last["averaged"])
    assert not same(last["averaged"], last["model"]["weights"])


# ---- resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "value"),
    [("learning_rate", 0.02), ("batch_size", 5), ("seed", 1), ("optimizer", "SGD"), ("hidden_size", 5), ("epochs", 4)],
)
def test_resume_with_other_flags(tmp_path, flag, value):
    with pytest.raises(Interrupted):
        fit(tmp_path, Signals(4))
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UsageError, match=f"--resume: .*--{flag} .*{value}"):
        fit(tmp_path, resume=True, **{flag: value})
    assert (tmp_path / "last.pt").read_bytes() == before


def test_resume_with_flags_that_do_not_matter(tmp_path):
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals(4))
    free = {"output_dir": Path("b"), "data_dir": Path("c"), "jobs": 2, "checkpoint_every": 0.0, "function": "d"}
    model, _ = fit(tmp_path / "a", resume=True, **free)
    whole, _ = fit(tmp_path / "whole")
    assert same(model.state_dict(), whole.state_dict())


def test_more_epochs_on_a_cosine_are_refused_with_the_way_out(tmp_path):
    fit(tmp_path, epochs=2)
    with pytest.raises(UsageError, match="--epochs 2, not 4; its learning rates follow a cosine over 2 epochs"):
        fit(tmp_path, epochs=4, resume=True)


def test_clipping_that_never_acted_is_said_once(tmp_path, capsys):
    fit(tmp_path, quiet=False, gradient_clipping=1e6)
    assert capsys.readouterr().out.count("gradient clipping at 1e+06 never acted") == 1
    fit(tmp_path, quiet=False, gradient_clipping=1e-6)
    assert "never acted" not in capsys.readouterr().out


def test_more_epochs_at_a_constant_rate(tmp_path):
    fit(tmp_path / "a", schedule="constant", epochs=2)
    model, result = fit(tmp_path / "a", schedule="constant", epochs=4, resume=True)
    whole, _ = fit(tmp_path / "whole", schedule="constant", epochs=4)
    assert result.epochs == 4 and same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


@pytest.mark.parametrize("values", [{}, {"patience": 1, "learning_rate": 2.0, "epochs": 50, "optimizer": "SGD"}])
def test_resume_of_a_finished_run_does_nothing(tmp_path, values):
    model, result = fit(tmp_path, **values)
    files = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}

    def never(model, batch):
        raise AssertionError("trained again")

    again, same_result = fit(tmp_path, never, resume=True, **values)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == files
    assert same(again.state_dict(), model.state_dict()) and same_result == result and not again.training
    assert result.epochs < 50


def test_resume_of_nothing_starts(tmp_path):
    model, _ = fit(tmp_path / "a", resume=True)
    whole, _ = fit(tmp_path / "whole")
    assert same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


def test_without_resume_it_starts_again(tmp_path):
    fit(tmp_path / "a", seed=5, epochs=4, checkpoint_every=0.0)
    model, _ = fit(tmp_path / "a")
    whole, _ = fit(tmp_path / "whole")
    assert same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


# ---- which epoch is kept ---------------------------------------------------------------------------------------------


class Scores:
    """A step whose validation score is given per epoch; it keeps the weights that were validated."""

    def __init__(self, *scores):
        self.scores, self.weights = scores, []

    def __call__(self, model, batch):
        metrics = step(model, batch)
        if model.training:
            return metrics
        self.weights.append({k: v.clone() for k, v in model.state_dict().items()})
        return {**metrics, "score": torch.tensor(self.scores[len(self.weights) - 1])}


ONE_BATCH = (TRAINING, points(1, 4))


@pytest.mark.parametrize(
    ("scores", "maximise", "best"),
    [
        ((3.0, 1.0, 2.0), False, 2),
        ((3.0, 1.0, 2.0), True, 1),
        ((1.0, 2.0, 3.0), True, 3),
        ((-1.0, -2.0, -3.0), False, 3),
        ((2.0, 2.0, 2.0), False, 1),
        ((2.0, 2.0, 2.0), True, 1),
        ((0.0, 0.0, 0.5), True, 3),
    ],
)
def test_best_epoch(tmp_path, scores, maximise, best):
    recorder = Scores(*scores)
    model, result = fit(tmp_path, recorder, ONE_BATCH, "score", maximise)
    assert result[:4] == (scores[best - 1], maximise, best, 3)
    assert same(model.state_dict(), recorder.weights[best - 1]) and not model.training
    saved = checkpoint.load(tmp_path / "best.pt")
    assert saved["epoch"] == best and same(saved["model"]["weights"], recorder.weights[best - 1])
    assert same(checkpoint.load(tmp_path / "last.pt")["model"]["weights"], recorder.weights[2])
    assert checkpoint.rebuild(tmp_path / "best.pt", Net).arguments == {"hidden": 4}


def test_a_validation_score_that_is_not_finite_stops_the_run_and_keeps_the_best_model(tmp_path):
    recorder = Scores(3.0, math.nan, 2.0)
    with pytest.raises(Diverged, match="validation score is nan after epoch 2"):
        fit(tmp_path, recorder, ONE_BATCH, "score", False)
    assert checkpoint.load(tmp_path / "best.pt")["epoch"] == 1


def test_a_checkpoint_of_another_kind_cannot_be_resumed(tmp_path):
    fit(tmp_path, Scores(3.0, 2.0, 1.0), ONE_BATCH, "score", False)
    (tmp_path / "last.pt").write_bytes((tmp_path / "best.pt").read_bytes())
    with pytest.raises(CheckpointError, match=r"last\.pt: not of a training"):
        fit(tmp_path, Scores(3.0, 2.0, 1.0), ONE_BATCH, "score", False, resume=True)


def test_patience(tmp_path):
    _, result = fit(tmp_path, Scores(3.0, 1.0, 2.0, 2.0, 0.0), ONE_BATCH, "score", epochs=5, patience=2)
    assert result[:4] == (1.0, False, 2, 4) and len(table(tmp_path)) == 4
    _, result = fit(tmp_path, Scores(3.0, 1.0, 2.0, 2.0, 0.0), ONE_BATCH, "score", epochs=5, patience=3)
    assert result[:4] == (0.0, False, 5, 5)


def test_patience_counts_across_a_resume(tmp_path):
    values = {"epochs": 6, "patience": 2, "learning_rate": 5.0, "optimizer": "SGD", "schedule": "constant"}
    _, whole = fit(tmp_path / "whole", **values)
    assert whole.epochs < 6
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals((whole.epochs - 1) * (BATCHES + 2)), **values)
    _, result = fit(tmp_path / "a", resume=True, **values)
    assert result[:4] == whole[:4]


def test_without_validation_data_the_last_epoch_is_kept(tmp_path):
    alone = (TRAINING, None)
    model, result = fit(tmp_path / "whole", data=alone, patience=1)
    assert math.isnan(result.score) and (result.best_epoch, result.epochs) == (3, 3)
    assert not [name for name in table(tmp_path / "whole")[0] if name.startswith("val_")]
    assert same(checkpoint.load(tmp_path / "whole" / "best.pt")["model"]["weights"], model.state_dict())
    last = checkpoint.load(tmp_path / "whole" / "last.pt")
    assert same(last["model"]["weights"], model.state_dict())
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals(2 * BATCHES), alone, patience=1)
    assert not (tmp_path / "a" / "best.pt").exists()
    again, result = fit(tmp_path / "a", data=alone, patience=1, resume=True)
    assert same(again.state_dict(), model.state_dict()) and result.best_epoch == 3


# ---- losses that are not finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_loss_that_is_not_finite(tmp_path, value):
    calls = []

    def diverging(model, batch):
        metrics = step(model, batch)
        if model.training:
            calls.append((tmp_path / "best.pt").read_bytes() if (tmp_path / "best.pt").exists() else None)
            if len(calls) == BATCHES + 2:
                metrics["loss"] = metrics["loss"] * value
        return metrics

    with pytest.raises(Diverged, match=rf"loss is {value} at epoch 2, batch 2, learning rate 0\.25$"):
        fit(tmp_path, diverging, learning_rate=0.25, schedule="constant", checkpoint_every=0.0)
    assert len(calls) == BATCHES + 2 and calls[-1] is not None
    assert (tmp_path / "best.pt").read_bytes() == calls[-1]
    assert len(table(tmp_path)) == 1
    for tensor in checkpoint.load(tmp_path / "last.pt")["model"]["weights"].values():
        assert tensor.isfinite().all()


def test_learning_rate_that_is_much_too_high(tmp_path):
    with pytest.raises(Diverged, match="learning rate"):
        fit(tmp_path, optimizer="SGD", learning_rate=1e30, gradient_clipping=0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_validation_that_is_never_finite(tmp_path, value):
    with pytest.raises(Diverged, match=rf"validation score is {value} after epoch 1, learning rate"):
        fit(tmp_path, Scores(value, value, value), ONE_BATCH, "score")
    assert not (tmp_path / "best.pt").exists()


# ---- numbers by hand -------------------------------------------------------------------------------------------------


def test_history_columns(tmp_path):
    fit(tmp_path)
    names = ["epoch", "train_loss", "train_absolute", "val_loss", "val_absolute", "learning_rate"]
    assert list(table(tmp_path)[0]) == names
    assert [row["epoch"] for row in table(tmp_path)] == ["1", "2", "3"]
    assert tables.read_table(tmp_path / "history.csv")[0]["epoch"] == 1.0


def mean_value(model, batch):
    """The mean of y as the loss; the weights get a gradient of zero."""
    x, y = batch
    return {"loss": y.mean() + 0 * model(x).sum(), "square": y.square().mean()}


def test_epoch_metrics_are_weighted_by_batch_size(tmp_path):
    y = torch.arange(10.0).unsqueeze(1)  # in batches of 4, 4 and 2: mean 4.5, and the batches' plain mean is 5.1667
    data = TensorDataset(torch.zeros(10, 3), y)
    fit(tmp_path, mean_value, (data, data))
    for name, expected in (("train_loss", 4.5), ("val_loss", 4.5), ("train_square", 28.5), ("val_square", 28.5)):
        assert column(tmp_path, name) == pytest.approx([expected] * 3, rel=1e-6), name
    assert loop.evaluate(Net(2), mean_value, data, make_settings()) == pytest.approx({"loss": 4.5, "square": 28.5})


def test_evaluation_mode_and_no_gradients():
    seen = []

    def watch(model, batch):
        seen.append((model.training, torch.is_grad_enabled(), len(batch[0])))
        return step(model, batch)

    model = Net(2).train()
    state = torch.get_rng_state()
    first = loop.evaluate(model, watch, TRAINING, make_settings())
    assert seen == [(False, False, 4), (False, False, 4), (False, False, 2)]
    assert loop.evaluate(model, step, TRAINING, make_settings(batch_size=10)) == pytest.approx(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_modes_while_training(tmp_path):
    seen = []

    def watch(model, batch):
        seen.append((model.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return step(model, batch)

    fit(tmp_path, watch, epochs=2, precision="bfloat16")
    assert seen == 2 * ([(True, True, True)] * BATCHES + [(False, False, False)] * 2)
    assert all(math.isfinite(loss) for loss in column(tmp_path, "train_loss"))


@pytest.mark.parametrize("size", [1, 4, 8, 10])
def test_random_batches(size):
    batches = loop.random_batches(size, 4, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(size))
    assert [len(b) for b in batches] == [4] * (size // 4) + [size % 4] * (size % 4 > 0)


def test_each_epoch_has_its_own_order(tmp_path):
    orders = []

    def watch(model, batch):
        if model.training:
            orders.append(batch[0][:, 0].tolist())
        return step(model, batch)

    fit(tmp_path, watch, epochs=2)
    epochs = [list(itertools.chain(*part)) for part in (orders[:BATCHES], orders[BATCHES:])]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(TRAINING.tensors[0][:, 0].tolist())


def rates(folder, **values):
    """The learning rate of every batch of a training."""
    found = []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            found.append(self.param_groups[0]["lr"])
            return super().step(closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Recorder)
        fit(folder, optimizer="SGD", **values)
    return found


def test_cosine_schedule_by_hand(tmp_path):
    # 9 steps, no warm-up: 0.5 * (1 + cos(pi * n / 9))
    expected = [1.0, 0.969846, 0.883022, 0.75, 0.586824, 0.413176, 0.25, 0.116978, 0.030154]
    assert rates(tmp_path, learning_rate=1.0) == pytest.approx(expected, abs=1e-6)
    assert column(tmp_path, "learning_rate") == pytest.approx([0.883022, 0.413176, 0.030154], abs=1e-6)
    # 60 steps, 3 of them warm-up: (n + 1) / 3 of 0.5 * (1 + cos(pi * n / 60)), times 0.1
    found = rates(tmp_path, learning_rate=0.1, epochs=20)
    assert len(found) == 60
    expected = [0.0333333, 0.0666210, 0.0997261, 0.0993844]
    assert found[:4] == pytest.approx(expected, abs=1e-6) and found[30] == pytest.approx(0.05)


def test_constant_schedule(tmp_path):
    assert rates(tmp_path, learning_rate=0.3, schedule="constant") == [0.3] * 9


def moved(folder, **values):
    """The length of the way that the weights go in one step of SGD with learning rate 1."""
    settings = make_settings(optimizer="SGD", learning_rate=1.0, schedule="constant", epochs=1, batch_size=10, **values)
    model = Net(4)
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()

    def steep(model, batch):
        return {"loss": 100 * step(model, batch)["loss"]}

    loop.train(model, steep, TRAINING, VALIDATION, settings, folder)
    return (nn.utils.parameters_to_vector(model.parameters()) - start).norm().item()


def test_gradient_clipping_bounds_the_step(tmp_path):
    assert moved(tmp_path, gradient_clipping=0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(tmp_path, gradient_clipping=1.0) == pytest.approx(1.0, rel=1e-3)
    assert moved(tmp_path, gradient_clipping=0.0) > 10


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_makes_a_step(tmp_path, optimizer):
    prepare_process(make_settings())
    start = Net(4).state_dict()
    model, _ = fit(tmp_path, optimizer=optimizer, epochs=1)
    assert type(getattr(torch.optim, optimizer)) is type
    for name, value in model.state_dict().items():
        assert value.isfinite().all() and not torch.equal(value, start[name])


def test_loss_falls(tmp_path):
    fit(tmp_path, epochs=40, learning_rate=0.02)
    losses = column(tmp_path, "val_loss")
    assert losses[-1] < losses[0] / 2


def test_tensorboard_writes_its_file(tmp_path):
    pytest.importorskip("tensorboard")
    fit(tmp_path, tensorboard=True)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"val_loss" in events.read_bytes()


def test_quiet_and_plain_output(tmp_path, capsys):
    fit(tmp_path)
    assert capsys.readouterr() == ("", "")
    fit(tmp_path, quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch 1/3  train_loss ") and lines[0].endswith(" left")


def test_only_the_first_run_of_a_process_freezes_what_was_imported():
    """Later ones would keep the garbage of those before them for ever."""
    prepare_process(make_settings())
    frozen = gc.get_freeze_count()
    later = [[] for _ in range(1000)]
    prepare_process(make_settings())
    assert 0 < gc.get_freeze_count() <= frozen and len(later) == 1000


def test_tensors_are_moved_to_a_device_once():
    """ "meta" stands for a device that is not here."""
    data, other = TensorDataset(torch.zeros(4, 2), torch.arange(4)), [torch.zeros(2)]
    moved = loop.resident(data, "meta")
    assert [part.device.type for part in moved.tensors] == ["meta", "meta"] and len(moved) == 4
    assert loop.resident(data, "cpu") is data and loop.resident(other, "meta") is other
    assert loop.resident(None, "meta") is None
