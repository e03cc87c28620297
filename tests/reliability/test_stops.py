"""Every training of the scripts, stopped in all ways and resumed: the same files, bit by bit. Full disks, moves."""

import itertools
import random
import shutil
import signal

import movement_archive
import numpy as np
import pytest
import trainings
from fuzzing import put
from processes import in_child, kill, needs_fork
from tiny_training import everything, same, without_seconds
from trainings import ALL

from lstm_studies.loaders import messages as load_messages
from lstm_studies.loaders import movement as load_movement
from lstm_studies.training import loop

IN_SHORT = ("stocks", "vowels proximal", "movement")
THOROUGH = [pytest.param(name, True, marks=pytest.mark.reliability, id=name) for name in ALL]


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
            monkeypatch.setattr(loop.Run, name, self.counted(getattr(loop.Run, name)))

    def counted(self, method):
        def call(run, *arguments):
            result = method(run, *arguments)
            self.count += 1
            if self.count == self.at:
                self.stop()
            return result

        return call


@needs_fork
@pytest.mark.parametrize(("name", "thorough"), [*((name, False) for name in IN_SHORT), *THOROUGH])
def test_every_training_stopped_and_resumed(tmp_path, monkeypatch, capsys, run, count, name, thorough):
    """By exception, SIGTERM and SIGKILL, inside an epoch and between epochs."""
    with monkeypatch.context() as patch:
        total = Events(patch)
        metrics = run(name, tmp_path / "whole")
    whole = everything(tmp_path / "whole")
    assert same(without_seconds(run_again(name, tmp_path / "whole")), without_seconds(metrics))
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
                assert in_child(lambda: run(name, folder, *often)) == -signal.SIGKILL  # noqa: B023
        run(name, folder, *often, "--resume")
        assert same(everything(folder), whole), (kind, at)
        count(1)


def run_again(name, folder):
    """The metrics of a dry run, which knows from the folder what was asked."""
    script, function, *_ = ALL[name]
    return trainings.run([script, function, "--quiet"], folder, "--dry_run")


# ---- the data and the place of a training ----------------------------------------------------------------------------

PHRASES = list(itertools.product(("buy", "sell"), ("now", "then", "never", "the dip", "it all", "again", "or not")))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with the full data of two studies, a few of them, and no network."""
    for module in (load_movement, trainings.script("adv_alstm")):
        monkeypatch.setattr(module, "MOVEMENT_SETS", movement_archive.SETS)
    monkeypatch.setattr(load_movement, "MOVEMENT_URL", "http://127.0.0.1:9/archive.zip")
    monkeypatch.setattr(load_messages, "MESSAGES_URL", "http://127.0.0.1:9/messages.csv")
    movement_archive.write_archive(tmp_path / "data")
    rows = (f"{i},{a} {b} {i % 7},{('bearish', 'bullish')[a == 'buy']}" for i, (a, b) in enumerate(PHRASES))
    table = "\n".join([",message,sentiment", *rows])
    put(tmp_path / "data" / "stocktwits" / "StockTwits_SPY_Sentiment_2017.csv", table.encode())
    return tmp_path / "data"


def test_other_contents_of_the_same_file_are_refused(tmp_path, capsys, run):
    rows = np.random.default_rng(0).random((60, 20)).round(3)
    file, folder = tmp_path / "mine.csv", tmp_path / "out"
    np.savetxt(file, rows, delimiter=",", fmt="%s")
    training = [
        "lstm_ae_toy",
        "reconstruct",
        "--data",
        str(file),
        *"--quiet --epochs 2 --batch_size 16 --hidden_size 4".split(),
    ]
    run(training, folder)
    before = {path.name: path.read_bytes() for path in (folder / "reconstruct").glob("*.*")}
    np.savetxt(file, rows[:40], delimiter=",", fmt="%s")
    for flags in (training, ["lstm_ae_toy", "reconstruct", "--quiet"]):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            run(flags, folder, "--resume" if flags is training else "--dry_run")
        assert "was trained with other contents of mine.csv: train anew" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (folder / "reconstruct").glob("*.*")} == before


@pytest.mark.parametrize("name", ["messages", "movement"])
def test_a_run_stays_with_the_data_that_it_read(tmp_path, capsys, run, data, name):
    """The full data are gone, or have come, since the training: no step falls back or moves on to other data."""
    script, function, *flags = ALL[name]
    flags = [flag for flag in flags if flag not in ("--source", "sample")]
    place, away = ["--data_dir", str(data)], tmp_path / "away"

    def train(folder, *more):
        return run([script, function, *flags, *place], folder, *more)

    def again(folder, *more):
        return run([script, function, "--quiet", *place], folder, "--dry_run", *more)

    on_full = train(tmp_path / "full")
    data.rename(away)
    data.mkdir()
    on_sample = train(tmp_path / "sample")
    for metrics, source in ((on_full, "full"), (on_sample, "sample")):
        assert {values["data"] for values in metrics.values() if "data" in values} == {source}
    metrics = tmp_path / "full" / function / "metrics.json"
    before = metrics.read_bytes()
    for call in (lambda: again(tmp_path / "full"), lambda: train(tmp_path / "full", "--resume")):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            call()
        *notices, line = capsys.readouterr().err.splitlines()
        assert all(notice.startswith("NOTICE") for notice in notices)
        assert f"{data}" in line or "trained with --source full, not sample" in line
        assert metrics.read_bytes() == before
    shutil.rmtree(data)
    away.rename(data)
    for folder, whole in (("full", on_full), ("sample", on_sample)):
        assert without_seconds(again(tmp_path / folder)) == without_seconds(whole)


@pytest.mark.parametrize(
    "name", ["movement two stages", pytest.param("movement compare", marks=pytest.mark.reliability)]
)
def test_a_moved_folder_is_resumed_where_it_is_now(tmp_path, run, name):
    """Adv-ALSTM starts from an ALSTM in the same folder, whose place is part of what decided the training."""
    whole = run(name, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert without_seconds(run(name, tmp_path / "new", "--resume")) == without_seconds(whole)
    assert without_seconds(run_again(name, tmp_path / "new")) == without_seconds(whole)


@pytest.mark.reliability
def test_a_moved_folder_is_applied_where_it_is_now(tmp_path, run):
    codes = []
    for folder in (tmp_path / "old", tmp_path / "new"):
        if codes:
            (tmp_path / "old").rename(folder)
        else:
            run("toy", folder)
        run(["lstm_ae_toy", "encode", "--quiet"], folder)
        codes.append((folder / "encode" / "codes.csv").read_bytes())
    assert codes[0] == codes[1]


@pytest.mark.reliability
def test_a_clock_that_jumps_back_changes_nothing(tmp_path, monkeypatch, run):
    """By an hour at each look at it, in a run that is stopped and resumed."""
    whole = run("toy grid", tmp_path / "whole")
    hours = itertools.count()
    monkeypatch.setattr("time.time", lambda: 1e9 - 3600 * next(hours))
    with monkeypatch.context() as patch, pytest.raises(Stop):
        Events(patch, 7, fail)
        run("toy grid", tmp_path / "stopped", "--checkpoint_every", "0")
    resumed = run("toy grid", tmp_path / "stopped", "--resume")
    assert without_seconds(resumed) == without_seconds(whole)
    assert same(everything(tmp_path / "stopped"), everything(tmp_path / "whole"))
    assert all(0 <= values["seconds"] < 600 for values in resumed.values())


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
        run("toy", tmp_path, "--resume")

    assert in_child(on_a_full_disk) == 1
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and "File too large" in line and "reconstruct" in line
    assert last.read_bytes() == before and not list(last.parent.glob(".*.tmp"))
    run("toy", tmp_path, "--resume")
    run("toy", tmp_path / "whole")
    assert same(everything(tmp_path / "reconstruct"), everything(tmp_path / "whole" / "reconstruct"))
