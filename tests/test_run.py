"""Running a script: folders, config.json and metrics.json, one line for bad input, signals, seeds and threads."""

import contextlib
import dataclasses
import json
import os
import pickle
import platform
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import one_line, run_functions
from tiny_training import SCRIPT, TRAINING, VALIDATION, Fit, Net, Signals

from lstm_studies.loaders.files import DataError
from lstm_studies.training import checkpoint, flags, formats, loop, run
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.loop import Diverged
from lstm_studies.training.run import locked
from lstm_studies.training.settings import UsageError
from lstm_studies.training.signals import Interrupted, interruptible

pytestmark = pytest.mark.usefixtures("no_flush")


def first(request, folder):
    return {"model": {"answer": 1.5}}


def second(request, folder):
    return {"model": {"answer": 2.5}}


FUNCTIONS = {"first": first, "second": second}


def stopped(tmp_path, function, **values):
    """The exit status of a run of `function`."""
    with pytest.raises(SystemExit) as caught:
        run_functions({"f": function}, tmp_path, function="f", **values)
    return caught.value.code


# ---- run folder ------------------------------------------------------------------------------------------------------


def test_run_writes_config_and_metrics(tmp_path):
    metrics = run_functions(FUNCTIONS, tmp_path, function="first", learning_rate=0.1, seed=3, data_dir="data")
    assert metrics == {"model": {"answer": 1.5}}
    assert json.loads((tmp_path / "first" / "metrics.json").read_text()) == metrics
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    commit = config.pop("git_commit")
    assert commit is None or len(commit) == 40
    assert (config.pop("format"), config.pop("version")) == (formats.FORMAT, formats.VERSION)
    assert config.pop("machine").endswith(" cores")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    assert config.pop("versions") == versions
    script = dataclasses.replace(SCRIPT, functions={"first": Fit})
    given = {"learning_rate": [0.1], "seed": 3, "data_dir": Path("data"), "output_dir": tmp_path}
    assert config == flags.describe(script.request("first", **given, quiet=True, device="cpu"))
    assert config["given"] == ["data_dir", "learning_rate", "seed"]


def test_without_function_all_run(tmp_path):
    metrics = run_functions(FUNCTIONS, tmp_path)
    assert metrics == {"first": {"model": {"answer": 1.5}}, "second": {"model": {"answer": 2.5}}}
    for name in FUNCTIONS:
        assert json.loads((tmp_path / name / "config.json").read_text())["function"] == name
        assert json.loads((tmp_path / name / "metrics.json").read_text()) == metrics[name]


def test_the_end_of_a_run_shows_its_numbers(tmp_path, capsys):
    run_functions(FUNCTIONS, tmp_path, function="second", quiet=False, seed=3)
    folder = tmp_path / "second"
    assert capsys.readouterr().out.splitlines() == [
        f"second: preset best; --seed 3; files go to {folder}",
        "        model",
        "answer  2.5",
        f"written to {folder}",
    ]


def test_a_notice_of_a_model_is_the_last_line(tmp_path, capsys):
    notice = "model: below its opponent"
    functions = {
        "first": lambda request, folder: {"model": {"answer": 1.5, "notice": notice}, "other": {"answer": 2.0}}
    }
    run_functions(functions, tmp_path, function="first", quiet=False)
    assert capsys.readouterr().out.splitlines()[-2:] == [f"written to {tmp_path / 'first'}", notice]


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


def test_dry_run_takes_the_settings_of_the_training(tmp_path):
    def sizes(request, folder):
        return {"model": {"hidden_size": request.hidden_size, "epochs": request.epochs}}

    trained = run_functions({"f": sizes}, tmp_path, hidden_size=5, epochs=7)
    assert run_functions({"f": sizes}, tmp_path, dry_run=True) == trained


@pytest.mark.parametrize(("name", "source"), [("full", "full"), ("sample", "sample"), ("own", "auto")])
def test_a_dry_run_reads_the_data_that_the_run_read(tmp_path, name, source):
    """config.json notes what --source auto came to."""

    def reading(request, folder):
        return {"a": {"data": name}, "b": {"data": name}, "always_up": {"accuracy": 0.5}}

    run_functions({"f": reading}, tmp_path)
    assert json.loads((tmp_path / "f" / "config.json").read_text())["source"] == source


def test_each_function_starts_from_the_seed(tmp_path):
    def draw(flags, folder):
        return {
            "model": {
                "values": [random.random(), float(np.random.rand()), float(torch.rand(1)), torch.get_num_threads()]
            }
        }

    metrics = run_functions({"a": draw, "b": draw}, tmp_path)
    assert metrics["a"] == metrics["b"] and metrics["a"]["model"]["values"][3] == 1
    assert run_functions({"a": draw, "b": draw}, tmp_path, seed=1)["a"] != metrics["a"]


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


@pytest.mark.parametrize("too_large", [lambda: torch.empty(2**55), lambda: np.empty(2**55), lambda: bytearray(2**61)])
def test_a_lack_of_memory_is_one_line(tmp_path, capsys, too_large):
    assert stopped(tmp_path, lambda flags, folder: too_large()) == 1
    assert "error: the memory is not enough, try a smaller --batch_size: " in one_line(capsys)


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


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_exit_status_of_an_interrupted_training(tmp_path, capsys, signum, status):
    def function(request, folder):
        loop.train(Net(4), Signals(1, signum=signum), TRAINING, VALIDATION, request.single(), folder)

    assert stopped(tmp_path, function, batch_size=4) == status
    line = one_line(capsys)
    assert f"stopped by {signum.name}" in line and "--resume" in line
    assert checkpoint.load(tmp_path / "f" / "last.pt")["batch"] == 2


@pytest.mark.parametrize("after", [None, RuntimeError("trying to pop from empty mode stack")])
def test_a_signal_is_not_swallowed_where_exceptions_are(after):
    """As in `load_state_dict`, which turns every Exception into a RuntimeError, and in contexts that it leaves."""
    with pytest.raises(Interrupted), interruptible():
        try:
            with contextlib.suppress(Exception):
                signal.raise_signal(signal.SIGTERM)
        finally:
            if after:
                raise after


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


# ---- all files of a folder are of one run ----------------------------------------------------------------------------


def write(*names):
    """A function that leaves files of these names."""

    def function(request, folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("new")
        return {"model": {"answer": 1}}

    return function


def files(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


OLD = (
    "best.pt",
    "last.pt",
    "grid.csv",
    "grid/a=1/last.pt",
    "wide/best.pt",
    "fold0/history.csv",
    "loss.png",
    "codes.csv",
)
REST = {"config.json", "metrics.json"}


@pytest.fixture
def earlier(tmp_path):
    """The folder of an earlier run, and what is in it."""
    run_functions({"f": write(*OLD)}, tmp_path, epochs=7)
    return tmp_path / "f", files(tmp_path / "f")


def test_a_new_run_leaves_nothing_of_an_earlier_one(earlier, tmp_path):
    folder, before = earlier
    assert before.keys() == {*OLD, *REST}
    (folder / "notes.txt").write_text("mine")
    seen = []

    def function(request, folder):
        seen.extend(path.name for path in folder.iterdir() if not path.name.startswith("."))
        return write("best.pt")(request, folder)

    run_functions({"f": function}, tmp_path)
    assert sorted(seen) == ["config.json", "notes.txt"] and files(folder).keys() == {"best.pt", "notes.txt", *REST}


@pytest.mark.parametrize("values", [{"resume": True, "epochs": 7}, {"dry_run": True}], ids=["resume", "dry_run"])
def test_a_run_that_goes_on_finds_everything(earlier, tmp_path, values):
    folder, before = earlier
    run_functions({"f": write("best.pt")}, tmp_path, **values)
    assert files(folder).keys() == before.keys()


def test_killed_while_it_puts_files_aside_it_leaves_those_of_one_run(earlier, tmp_path, monkeypatch):
    """Killed before each rename in turn: what is there is of the earlier run, with all of which --resume goes on."""
    folder, before = earlier
    rename, left = Path.rename, []

    def rename_until_killed(path, target):
        if not left:
            monkeypatch.setattr(Path, "rename", rename)
            monkeypatch.setattr(run, "remove", lambda path: None)  # what is killed tidies nothing up
            raise KeyboardInterrupt
        left.pop()
        return rename(path, target)

    for count in range(len({Path(name).parts[0] for name in before})):
        left[:] = [None] * count
        monkeypatch.setattr(Path, "rename", rename_until_killed)
        with pytest.raises(KeyboardInterrupt):
            run_functions({"f": write()}, tmp_path)
        monkeypatch.undo()
        assert (folder / "config.json").exists() == (count == 0)
        run_functions({"f": write()}, tmp_path, epochs=7, resume=True)
        assert {**files(folder), "config.json": before["config.json"]} == before


@pytest.mark.parametrize(("name", "value"), [("hidden_size", 5), ("learning_rate", 0.5), ("limit", 3), ("epochs", 6)])
def test_a_resumed_run_has_the_settings_of_its_config(earlier, tmp_path, capsys, name, value):
    folder, before = earlier
    assert stopped(tmp_path, write(), resume=True, **{"epochs": 7, name: value}) == 2
    assert f"--resume: {folder} was trained with --{name} " in one_line(capsys) and files(folder) == before


@pytest.mark.parametrize("refused", [False, True])
def test_a_run_that_is_resumed_for_more_begins_without_the_results(earlier, tmp_path, capsys, refused):
    folder, before = earlier
    trained = {"best.pt", "last.pt", "grid/a=1/last.pt", "wide/best.pt", "fold0/history.csv"}

    def function(request, folder):
        assert {name for name in files(folder) if ".earlier" not in name} == {"config.json", *trained}
        if refused:
            raise DataError("mine.csv: no such file")
        return {"model": {"answer": 2}}

    if refused:
        assert stopped(tmp_path, function, epochs=7, seeds=2, resume=True) == 2
        assert "mine.csv" in one_line(capsys) and files(folder) == before
    else:
        run_functions({"f": function}, tmp_path, epochs=7, seeds=2, resume=True)
        assert files(folder).keys() == {*trained, *REST}


def test_a_resumed_run_on_another_machine_says_that_bits_may_differ(earlier, tmp_path, capsys, monkeypatch):
    folder, _ = earlier
    monkeypatch.setattr(run, "machine", lambda: "another one, 3 cores")
    run_functions({"f": write()}, tmp_path, epochs=7, resume=True, threads=2)
    line = one_line(capsys)
    assert line.startswith(f"NOTICE: --resume: {folder} was begun with threads 1, now 2; machine ")
    assert line.endswith("now another one, 3 cores: the last bits may differ from those of one run\n")
    run_functions({"f": write()}, tmp_path, epochs=7, resume=True, threads=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_is_refused_before_it_trains_leaves_the_earlier_one(earlier, tmp_path, capsys, resume):
    folder, before = earlier

    def function(request, folder):
        (folder / "examples.png").write_text("new")
        (folder / "fold0").mkdir(exist_ok=True)
        (folder / "fold0" / ".task.lock").touch()
        raise DataError("mine.csv: no such file")

    assert stopped(tmp_path, function, epochs=7 if resume else 8, resume=resume) == 2
    left = {name: text for name, text in files(folder).items() if not name.endswith(".task.lock")}
    assert one_line(capsys) and {name: left[name] for name in before} == before
    assert left.keys() - before.keys() <= ({"examples.png"} if resume else set())


def test_a_run_that_is_refused_after_it_trained_stays(earlier, tmp_path, capsys):
    folder, _ = earlier

    def function(request, folder):
        (folder / "last.pt").write_text("new")
        raise DataError("mine.csv: no such file")

    assert stopped(tmp_path, function) == 2
    assert one_line(capsys) and files(folder).keys() == {"last.pt", "config.json"}
    assert json.loads((folder / "config.json").read_text())["epochs"] == 20


def test_a_folder_that_is_of_no_run_keeps_what_is_in_it(tmp_path):
    """--output_dir may be anywhere: only what this run writes itself is replaced."""
    for name in ("digits.png", "table.csv", "model/best.pt", "history.csv"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).write_text("mine")
    run_functions({"f": write()}, tmp_path)
    assert files(tmp_path / "f").keys() == {"digits.png", "table.csv", "model/best.pt", *REST}
