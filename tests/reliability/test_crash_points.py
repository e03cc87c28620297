"""Killed at every file operation of a save, from inside and from outside; damaged, foreign and hostile checkpoints."""

import hashlib
import io
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tokenize
import types
from pathlib import Path

import pytest
import torch
from conftest import one_line, run_functions
from fuzzing import Hostile, saved, seal
from processes import in_child, kill, needs_fork
from tiny_training import Signals, fit, outcome, same
from trainings import ONE, ROOT, run

from lstm_studies.training import checkpoint, signals

FILE_OPERATIONS = {"open", "write", "flush", "fsync", "link", "sendfile", "replace", "unlink", "mkdir"}
OFTEN = {"epochs": 2, "checkpoint_every": 0.0}  # a save after every batch

# ---- crash points ----------------------------------------------------------------------------------------------------


class FileOperations:
    """A profile function that sees every call into the system that changes files, whoever makes it.

    It notes the names; before operation `at` (from 0) it kills the process, or with `torn` in the middle of that write.
    """

    def __init__(self, folder: Path, at: int | None = None, torn: bool = False):
        self.folder, self.at, self.torn, self.names, self.places = folder, at, torn, [], []

    def __call__(self, frame, event, function) -> None:
        if event not in ("c_call", "c_return") or function.__name__ not in FILE_OPERATIONS:
            return
        file = getattr(function, "__self__", None)
        if not isinstance(file, (types.ModuleType, io.BufferedWriter)) or frame.f_code.co_filename == tokenize.__file__:
            return  # of texts, to memory or the terminal, or reading a source for a traceback
        if event == "c_return":
            if self.torn and len(self.names) == self.at + 1:
                file.flush()
                os.truncate(file.name, os.path.getsize(file.name) // 2)
                kill()
            return
        if self.at is None:
            self.places.append(place(self.folder))
        elif len(self.names) == self.at and not self.torn:
            kill()
        self.names.append(function.__name__)

    def watch(self, function):
        sys.setprofile(self)
        try:
            return function()
        finally:
            sys.setprofile(None)


def place(folder: Path) -> tuple[int, int] | None:
    """Epochs and batches that a resumed run has behind it; a damaged checkpoint would be a warning, an error here."""
    saved = checkpoint.load_latest(folder / "last.pt")
    return saved and (saved["epoch"], saved["batch"])


@needs_fork
@pytest.mark.parametrize("links", [True, False], ids=["links", "no_links"])
def test_killed_at_every_file_operation(tmp_path, monkeypatch, thorough, count, links):
    """A valid last.pt is there after each, it is the last that was saved, and the resumed run has the same bits."""
    if not links:  # a file system without hard links

        def refuse(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):  # what libraries read at their first use is no part of the operations
        fit(tmp_path / "first", **OFTEN)
    operations = FileOperations(tmp_path / "whole")
    model, _ = operations.watch(lambda: fit(tmp_path / "whole", **OFTEN))
    whole = outcome(tmp_path / "whole", model)
    writes = [i for i, name in enumerate(operations.names) if name == "write"]
    points = [(i, False) for i in range(len(operations.names))] + [(i, True) for i in writes]
    assert set(operations.names) >= {"open", "write", "flush", "fsync", "replace", "unlink"}
    assert ("link" in operations.names) == links
    for at, torn in points if thorough else points[::23]:
        folder = tmp_path / f"{at}{'torn' if torn else ''}"
        operations_until = FileOperations(folder, at, torn)
        assert in_child(lambda: operations_until.watch(lambda: fit(folder, **OFTEN))) == -signal.SIGKILL  # noqa: B023
        assert place(folder) == operations.places[at], (at, torn)
        model, _ = fit(folder, resume=True, **OFTEN)
        assert same(outcome(folder, model), whole), (at, torn, operations.names[at])
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        count(1)


@pytest.mark.parametrize("resume", [True, False])
def test_a_new_run_removes_what_a_killed_write_left(tmp_path, resume):
    """In the folder of the run, too, where no training cleans up."""

    def function(request, folder):
        return {"model": {"answer": 1}}

    left = [tmp_path / "f" / name for name in (".metrics.json.123.tmp", "seeds/0/.last.pt.123.link")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    run_functions({"f": function}, tmp_path, function="f", resume=resume)
    files = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert files == [".lock", "config.json", "metrics.json"]


# ---- damage ----------------------------------------------------------------------------------------------------------


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """One bit flipped, or cut short."""
    place = chance.randrange(len(whole))
    if chance.random() < 0.5:
        return whole[:place]
    return whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]


def test_a_damaged_checkpoint_is_noticed_and_the_previous_one_used(tmp_path, thorough, count, no_flush):
    model, _ = fit(tmp_path / "whole", **OFTEN)
    whole = outcome(tmp_path / "whole", model)
    folder, chance = tmp_path / "a", random.Random(0)
    with pytest.raises(signals.Interrupted):
        fit(folder, Signals(6), **OFTEN)
    files = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    last, before = folder / "last.pt", checkpoint.load(folder / "last.previous.pt")
    tries = 1000 if thorough else 60
    for i in range(tries):
        last.write_bytes(damaged(files[last], chance))
        with pytest.warns(UserWarning, match=r"last\.pt: .*going on from last\.previous\.pt"):
            assert same(checkpoint.load_latest(last), before)
        if i % (tries // 10) == 0:  # ten of them to the end
            with pytest.warns(UserWarning, match="going on from"):
                model, _ = fit(folder, resume=True, **OFTEN)
            assert same(outcome(folder, model), whole)
            for path, content in files.items():
                path.write_bytes(content)
        count(1)


@pytest.mark.parametrize("kind", ["hostile", "foreign", "old", "text"])
def test_a_script_refuses_a_checkpoint_that_is_not_its_own(tmp_path, capsys, kind):
    """With status 2 and one line; the code in a hostile file does not run."""
    folder = tmp_path / "reconstruct"
    folder.mkdir()
    if kind == "hostile":
        seal(folder / "last.pt", saved({"model": Hostile(tmp_path / "ran")}))
    elif kind == "foreign":  # of torch.save, without our seal
        torch.save({"model": torch.nn.Linear(1, 1).state_dict()}, folder / "last.pt")
    elif kind == "old":  # of a version that kept less
        checkpoint.save(folder / "last.pt", {"model": {}, "optimizer": {}, "random": torch.get_rng_state()})
    else:
        (folder / "last.pt").write_text("weights\n")
    with pytest.raises(SystemExit) as stopped:
        run("toy", tmp_path, "--resume")
    line = one_line(capsys)
    assert stopped.value.code == 2 and str(folder / "last.pt") in line
    assert not (tmp_path / "ran").exists()


# ---- from outside ----------------------------------------------------------------------------------------------------


@pytest.mark.reliability
def test_crash_points_of_a_script_from_outside(tmp_path, count):
    """ckpt-chaos kills the script at its file operations, before or torn, starts it again and compares what it left."""
    pytest.importorskip("ckpt_chaos")
    name, function, *flags = ONE["toy"]
    script = [sys.executable, f"{name}.py", "--function", function, *flags, "--checkpoint_every", "0"]
    script += ["--output_dir", "{out}"]
    compare = "import sys, test_crash_points as t; print(t.fingerprint(sys.argv[1]))"
    folders = [ROOT, ROOT / "tests", ROOT / "tests" / "reliability"]
    command = [sys.executable, "-m", "ckpt_chaos", "run", "--max-points", "8", "--work", tmp_path / "work"]
    command += ["--resume-cmd", shlex.join([*script, "--resume"])]
    command += ["--result-cmd", f"{shlex.join([sys.executable, '-c', compare])} {{out}}", "--", *script]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    results = [json.loads(path.read_text()) for path in (tmp_path / "work").glob("pt_*/result.json")]
    assert answer.returncode == 0 and len(results) == 9, answer.stdout + answer.stderr  # one without a crash
    count(sum(result["crashed"] for result in results))


def fingerprint(folder: str) -> str:
    """Of the models and the history of a run of lstm_ae_toy.py."""
    run = Path(folder) / "reconstruct"
    weights = [checkpoint.load(run / name)["model"]["weights"].values() for name in ("last.pt", "best.pt")]
    content = b"".join(value.numpy().tobytes() for values in weights for value in values)
    return hashlib.sha256(content + (run / "history.csv").read_bytes()).hexdigest()
