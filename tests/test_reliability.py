"""Runs that survive: killed at every file operation of a save, damaged files, full disks, every training resumed.

Each check has two sizes: a short one for `make test`, and the counts of docs/reliability.md for `make reliability`.
"""

import hashlib
import io
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import traceback
import types
import warnings
from pathlib import Path

import movement_archive
import numpy as np
import pytest
import torch
from conftest import PAGE, run_functions
from test_checkpoint import Hostile, seal, zipped
from test_training import Signals, fit, one_line, outcome, same

import adv_alstm
import jv_training
import load_data
import lstm_ae_mnist
import lstm_ae_snp500
import lstm_ae_toy
import stocktwits_sentiment
from lstm_studies.loaders import messages as load_messages
from lstm_studies.loaders import movement as load_movement
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, loop, signals, tables

ROOT = Path(__file__).parent.parent
FILE_OPERATIONS = {"open", "write", "flush", "fsync", "link", "sendfile", "replace", "unlink", "mkdir"}
OFTEN = {"epochs": 2, "checkpoint_every": 0.0}  # a save after every batch

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the child is a fork of the test's process")


def in_child(function) -> int:
    """Runs `function` in a forked process; returns the signal that killed it, or 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries that are idle here
        child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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
        if not isinstance(file, (types.ModuleType, io.BufferedWriter)):
            return  # of texts, or to memory or the terminal
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
        assert in_child(lambda: FileOperations(folder, at, torn).watch(lambda: fit(folder, **OFTEN))) == signal.SIGKILL  # noqa: B023
        assert place(folder) == operations.places[at], (at, torn)
        model, _ = fit(folder, resume=True, **OFTEN)
        assert same(outcome(folder, model), whole), (at, torn, operations.names[at])
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        count(1)


@pytest.mark.parametrize("resume", [True, False])
def test_a_new_run_removes_what_a_killed_write_left(tmp_path, resume):
    """In the folder of the run, too, where no training cleans up."""

    def function(flags, folder):
        return {"answer": 1}

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
        seal(folder / "last.pt", zipped({"model": Hostile(tmp_path / "ran")}))
    elif kind == "foreign":  # of torch.save, without our seal
        torch.save({"model": torch.nn.Linear(1, 1).state_dict()}, folder / "last.pt")
    elif kind == "old":  # of a version that kept less
        checkpoint.save(folder / "last.pt", {"model": {}, "optimizer": {}, "random": torch.get_rng_state()})
    else:
        (folder / "last.pt").write_text("weights\n")
    with pytest.raises(SystemExit) as stopped:
        lstm_ae_toy.main(["--function", "reconstruct", "--output_dir", str(tmp_path), "--resume", *TOY])
    line = one_line(capsys)
    assert stopped.value.code == 2 and str(folder / "last.pt") in line
    assert not (tmp_path / "ran").exists()


# ---- every training function -----------------------------------------------------------------------------------------


TOY = "--quiet --limit 48 --epochs 2 --batch_size 16 --hidden_size 4 --code_size 4 --mirror --stretch 0.8".split()
SAMPLE = ["--quiet", "--source", "sample"]
MNIST = [*SAMPLE, *"--limit 48 --epochs 2 --batch_size 16 --hidden_size 4".split()]
STOCKS = [*SAMPLE, *"--limit 48 --epochs 2 --batch_size 16 --hidden_size 4".split()]
VOWELS = [*SAMPLE, *"--limit 27 --epochs 2 --folds 2 --repeats 1 --hidden_size 3 --channels 3".split()]
FROM_BASIC = [*VOWELS, "--basic_epochs", "2", "--epsilon", "0.1"]
MOVEMENT = "--quiet --epochs 2 --batch_size 64 --hidden_size 2 --steps 3".split()
MESSAGES = "--quiet --epochs 2 --hidden_size 4 --embedding_size 3 --batch_size 16 --piece_buckets 20".split()
TRAININGS = {  # script, function, flags
    "toy": (lstm_ae_toy, "reconstruct", TOY),
    "toy grid": (lstm_ae_toy, "reconstruct", [*TOY, "--learning_rate", "0.01", "0.001", "--seeds", "2"]),
    "toy fresh": (lstm_ae_toy, "reconstruct", [*TOY, "--fresh", "--filtering", "0.1"]),
    "digits fc": (lstm_ae_mnist, "reconstruct", [*MNIST, "--model", "fc", "--shift", "1"]),
    "digits conv": (lstm_ae_mnist, "reconstruct", [*MNIST, "--model", "conv", "--channels", "2"]),
    "digits both": (lstm_ae_mnist, "classify", [*MNIST, "--model", "both", "--channels", "2", "--dropout", "0.2"]),
    "stocks": (lstm_ae_snp500, "reconstruct", STOCKS),
    "stocks folds": (lstm_ae_snp500, "reconstruct", [*STOCKS, "--folds", "3"]),
    "stocks predict": (lstm_ae_snp500, "predict", [*STOCKS, "--window", "10"]),
    "vowels basic": (jv_training, "basic", VOWELS),
    "vowels adversarial": (jv_training, "adversarial", FROM_BASIC),
    "vowels proximal": (jv_training, "proximal", FROM_BASIC),
    "vowels dropout": (jv_training, "dropout", VOWELS),
    "vowels batch norm": (jv_training, "batch_norm", VOWELS),
    "movement": (adv_alstm, "train", MOVEMENT),
    "movement two stages": (adv_alstm, "train", [*MOVEMENT, "--start", "own"]),
    "messages": (stocktwits_sentiment, "train", [*MESSAGES, "--precision", "bfloat16"]),
    "messages adversarial": (stocktwits_sentiment, "train", [*MESSAGES, "--epsilon", "0.5", "--bidirectional"]),
    "movement random": (adv_alstm, "train", [*MOVEMENT, "--model", "rand_alstm", "--dropout", "0.2"]),
}
PHRASES = list(itertools.product(("buy", "sell"), ("now", "then", "never", "the dip", "it all", "again", "or not")))
IN_SHORT = ("toy", "digits conv", "stocks", "vowels proximal", "movement")


class Stop(RuntimeError):
    """What ends a training in these tests."""


def fail() -> None:
    raise Stop


STOPS = {"exception": fail, "SIGTERM": lambda: signal.raise_signal(signal.SIGTERM), "SIGKILL": kill}


class Events:
    """Counts batches and ends of epochs of all trainings in this process; does `stop` after the one called `at`."""

    def __init__(self, monkeypatch, at=None, stop=None):
        self.count, self.at, self.stop = 0, at, stop
        for name in ("train_batch", "finish_epoch"):
            monkeypatch.setattr(loop.Training, name, self.counted(getattr(loop.Training, name)))

    def counted(self, method):
        def call(training, *arguments):
            result = method(training, *arguments)
            self.count += 1
            if self.count == self.at:
                self.stop()
            return result

        return call


def clear_caches() -> None:
    """Of data read, which are known by their place alone."""
    for cached in (adv_alstm.samples, stocktwits_sentiment.messages, stocktwits_sentiment.fit_bag_of_words):
        cached.cache_clear()


@pytest.fixture
def run(monkeypatch, tmp_path, no_flush):
    """run(name, folder, *flags): a script as from the command line; few test digits, no figures, and no network.

    The name is that of a training above, or script, function and flags.
    """
    digits = load_data.mnist("", "sample", 48)
    few = {name: getattr(digits, name)[:32] for name in digits._fields if name.startswith(("validation_", "test_"))}
    monkeypatch.setattr(lstm_ae_mnist, "digits", lambda *_: digits._replace(**few))
    for module in (load_movement, adv_alstm):
        monkeypatch.setattr(module, "MOVEMENT_SETS", movement_archive.SETS)
    monkeypatch.setattr(load_movement, "MOVEMENT_URL", "http://127.0.0.1:9/archive.zip")
    monkeypatch.setattr(load_messages, "MESSAGES_URL", "http://127.0.0.1:9/messages.csv")
    movement_archive.write_archive(tmp_path / "data")
    rows = (f"{i},{a} {b} {i % 7},{('bearish', 'bullish')[a == 'buy']}" for i, (a, b) in enumerate(PHRASES))
    messages = tmp_path / "data" / "stocktwits" / "StockTwits_SPY_Sentiment_2017.csv"
    messages.parent.mkdir()
    messages.write_text("\n".join([",message,sentiment", *rows]))
    clear_caches()
    for figure in ("curves", "panels", "image_columns", "confusion", "heat_maps", "histograms", "points"):
        monkeypatch.setattr(plots, figure, lambda *_, **__: None)

    def call(name, folder, *flags):
        script, function, own = name if isinstance(name, tuple) else TRAININGS[name]
        places = ["--output_dir", str(folder)]
        if script is not lstm_ae_toy:  # whose data are generated
            places += ["--data_dir", str(tmp_path / "data")]
        return script.main(["--function", function, *places, *own, *flags])

    return call


def without_seconds(metrics):
    if isinstance(metrics, dict):
        return {name: without_seconds(value) for name, value in metrics.items() if not name.startswith("seconds")}
    return [without_seconds(own) for own in metrics] if isinstance(metrics, list) else metrics


NOT_EQUAL = ("seconds", "flags")  # of a checkpoint: the flags may name the folder of the first of two stages


def everything(folder: Path) -> dict:
    """All that a run left and that a stopped and resumed one must leave as well, down to the bits."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".pt" and "previous" not in path.name:
            found[name] = {key: value for key, value in checkpoint.load(path).items() if key not in NOT_EQUAL}
        elif path.name == "history.csv":
            found[name] = path.read_bytes()
        elif path.name == "metrics.json":
            found[name] = without_seconds(json.loads(path.read_text()))
        elif path.name == "grid.csv":
            found[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in tables.read_table(path)]
        elif path.is_file():
            found[name] = None
    return {name: value for name, value in found.items() if not name.endswith((".lock", "previous.pt", "config.json"))}


@needs_fork
@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_stopped_and_resumed(tmp_path, monkeypatch, capsys, run, thorough, count, name):
    """By exception, SIGTERM and SIGKILL, inside an epoch and between epochs: same files, bit by bit."""
    if not thorough and name not in IN_SHORT:
        pytest.skip("in make reliability")
    with monkeypatch.context() as patch:
        total = Events(patch)
        metrics = run(name, tmp_path / "whole")
    whole = everything(tmp_path / "whole")
    assert same(without_seconds(run(name, tmp_path / "whole", "--dry_run")), without_seconds(metrics))
    chance = random.Random(name)
    stops = [(kind, at) for kind in STOPS for at in chance.sample(range(1, total.count), min(3, total.count - 1))]
    for kind, at in stops if thorough else [stops[0], stops[-1]]:
        folder = tmp_path / f"{kind}{at}"
        often = ["--checkpoint_every", "0"] if at % 2 else []
        with monkeypatch.context() as patch:
            Events(patch, at, STOPS[kind])
            if kind == "exception":
                with pytest.raises(Stop):
                    run(name, folder, *often)
            elif kind == "SIGTERM":
                with pytest.raises(SystemExit, match="143"):
                    run(name, folder, *often)
            else:
                assert in_child(lambda: run(name, folder, *often)) == signal.SIGKILL  # noqa: B023
        run(name, folder, *often, "--resume")
        assert same(everything(folder), whole), (kind, at)
        count(1)


@pytest.mark.parametrize("name", ["messages", "movement"])
def test_a_run_stays_with_the_data_that_it_read(tmp_path, capsys, run, name):
    """The full data are gone, or have come, since the training: no step falls back or moves on to other data."""
    function, data, away = TRAININGS[name][1], tmp_path / "data", tmp_path / "away"
    on_full = run(name, tmp_path / "full")
    data.rename(away)
    data.mkdir()
    clear_caches()
    on_sample = run(name, tmp_path / "sample")
    assert (on_full["data"], on_sample["data"]) == ("full", "sample")
    metrics = tmp_path / "full" / function / "metrics.json"
    before = metrics.read_bytes()
    for flags in (["--dry_run"], ["--dry_run", "--source", "auto"], ["--resume"]):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            run(name, tmp_path / "full", *flags)
        *notices, line = capsys.readouterr().err.splitlines()
        assert all(notice.startswith("NOTICE") for notice in notices)
        assert f"{data}" in line or "trained with --source full, not sample" in line
        assert metrics.read_bytes() == before
    shutil.rmtree(data)
    away.rename(data)
    clear_caches()
    for place, whole in (("full", on_full), ("sample", on_sample)):
        assert without_seconds(run(name, tmp_path / place, "--dry_run")) == without_seconds(whole)


@pytest.mark.parametrize("function", ["train", "compare"])
def test_a_moved_folder_is_resumed_where_it_is_now(tmp_path, run, function):
    """Adv-ALSTM starts from an ALSTM in the same folder, whose place is part of what decided the training."""
    flags = ["--function", function, "--start", "own", "--data_dir", str(tmp_path / "data"), *MOVEMENT]
    whole = adv_alstm.main([*flags, "--output_dir", str(tmp_path / "old")])
    (tmp_path / "old").rename(tmp_path / "new")
    moved = ["--output_dir", str(tmp_path / "new")]
    assert without_seconds(adv_alstm.main([*flags, *moved, "--resume"])) == without_seconds(whole)
    assert without_seconds(adv_alstm.main([*flags, *moved, "--dry_run"])) == without_seconds(whole)


def test_every_generator_of_random_numbers_is_in_the_checkpoint(tmp_path):
    """A step that draws from Python's and NumPy's generators, too, goes on with the same numbers."""

    def noisy(model, batch):
        scale = 1 + random.random() + float(np.random.rand()) + float(np.random.randn()) + float(torch.rand(1))
        return {"loss": scale * (model(batch[0]) - batch[1]).square().mean()}

    model, _ = fit(tmp_path / "whole", noisy)
    for at in range(1, 9):
        calls = iter(range(100))

        def stopping(model, batch):
            if next(calls) == at:  # noqa: B023
                signal.raise_signal(signal.SIGTERM)
            return noisy(model, batch)

        folder = tmp_path / str(at)
        with pytest.raises(signals.Interrupted):
            fit(folder, stopping)
        resumed, _ = fit(folder, noisy, resume=True)
        assert same(outcome(folder, resumed), outcome(tmp_path / "whole", model))


# ---- no space --------------------------------------------------------------------------------------------------------


@needs_fork
def test_a_full_disk_is_one_line_and_leaves_the_checkpoint(tmp_path, monkeypatch, capfd, run):
    """No file may grow past half a checkpoint, and so a write fails in its middle."""
    resource = pytest.importorskip("resource")
    with monkeypatch.context() as patch:
        Events(patch, 2, STOPS["SIGTERM"])
        with pytest.raises(SystemExit, match="143"):
            run("toy", tmp_path)
    last = tmp_path / "reconstruct" / "last.pt"
    before, half = last.read_bytes(), last.stat().st_size // 2
    capfd.readouterr()

    def on_a_full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
        with pytest.raises(SystemExit, match="1"):
            run("toy", tmp_path, "--resume")

    assert in_child(on_a_full_disk) == 0
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and "File too large" in line and "reconstruct" in line
    assert last.read_bytes() == before and not list(last.parent.glob(".*.tmp"))
    run("toy", tmp_path, "--resume")
    run("toy", tmp_path / "whole")
    assert same(everything(tmp_path / "reconstruct"), everything(tmp_path / "whole" / "reconstruct"))


# ---- from outside, and the page --------------------------------------------------------------------------------------


@pytest.mark.reliability
def test_crash_points_of_a_script_from_outside(tmp_path, count):
    """ckpt-chaos kills the script at its file operations, before or torn, starts it again and compares what it left."""
    pytest.importorskip("ckpt_chaos")
    script = [
        sys.executable,
        "lstm_ae_toy.py",
        "--function",
        "reconstruct",
        *TOY,
        "--checkpoint_every",
        "0",
        "--output_dir",
        "{out}",
    ]
    compare = "import sys, test_reliability as t; print(t.fingerprint(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "ckpt_chaos",
            "run",
            "--max-points",
            "8",
            "--work",
            tmp_path / "work",
            "--resume-cmd",
            shlex.join([*script, "--resume"]),
            "--result-cmd",
            f"{shlex.join([sys.executable, '-c', compare])} {{out}}",
            "--",
            *script,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    results = [json.loads(path.read_text()) for path in (tmp_path / "work").glob("pt_*/result.json")]
    assert answer.returncode == 0 and len(results) == 9, answer.stdout + answer.stderr  # one without a crash
    count(sum(result["crashed"] for result in results))


def fingerprint(folder: str) -> str:
    """Of the models and the history of a run of lstm_ae_toy.py."""
    run = Path(folder) / "reconstruct"
    weights = [checkpoint.load(run / name)["model"]["weights"].values() for name in ("last.pt", "best.pt")]
    content = b"".join(value.numpy().tobytes() for values in weights for value in values)
    return hashlib.sha256(content + (run / "history.csv").read_bytes()).hexdigest()


def test_the_page_shows_what_was_counted():
    page = PAGE.read_text()
    rows = [line.strip("|").split("|") for line in page.splitlines() if "`test_" in line and line.startswith("|")]
    shown = {}
    for _, tests, cases in rows:
        for file, name in re.findall(r"`(test_\w+\.py)::(\w+)`", tests):
            assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), name
            if cases.strip() and cases.split()[0] != "–":  # not counted yet
                shown[name] = int(cases.split()[0].replace(",", ""))
    counts = json.loads((ROOT / "docs" / "results" / "reliability.json").read_text())
    assert shown == counts and all(counts.values())
