"""Soak: trainings that are ended again and again at random moments, resumed, and compared with undisturbed ones.

`make reliability` runs some of all scripts and backends, and with LONG=1 some hours of them; `--seed` draws other
moments. Each start is a fork of the test's process, which has imported everything.
"""

import contextlib
import functools
import os
import random
import re
import resource
import shutil
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import pytest
from processes import fork, wait
from test_reproduce import NUMBERS
from tiny_training import everything, same, without_seconds
from tqdm import tqdm
from trainings import ALL, GRID, MANY, SEEDS, TOY

import reproduce
from lstm_studies.reporting import chapters
from lstm_studies.reporting.studies import Study
from lstm_studies.training import checkpoint, tables

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="reads the processes of a session in /proc"
)

BACKENDS = {"loky": ["--jobs", "2"], "dask": ["--jobs", "2", "--backend", "dask"]}
LONG = 20  # ends of each training with LONG=1
MOST = 8  # disturbances of one training; then it may end


# ---- processes -------------------------------------------------------------------------------------------------------


def start(function: Callable[[], object], said: Path, limit: int | None = None) -> int:
    """Runs `function` in a fork with a session of its own; no file that it writes may grow past `limit` bytes."""
    said.write_text("")  # by this process: the other one may be killed before it does anything

    def in_a_session_of_its_own() -> None:
        os.setsid()
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_DFL)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        tqdm.set_lock(threading.RLock())  # that of the fork would be locked by another one that was killed with it
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        warnings.simplefilter("default")
        function()

    return fork(in_a_session_of_its_own)


def session(leader: int) -> dict[int, str]:
    """The living processes of a session, and their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, own = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(own) == leader and state not in "ZX":
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
    return found


def kill_worker(leader: int, chance: random.Random) -> bool:
    """Kills one of the processes that train for the `leader`, if there is one."""
    workers = [pid for pid, line in session(leader).items() if "popen_loky" in line or "spawn_main" in line]
    if not workers:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(workers), signal.SIGKILL)
    return True


# ---- one training ----------------------------------------------------------------------------------------------------

ENDS = {  # the exit statuses beside 0; a search survives the death of a worker, but not before it began
    **{
        "SIGKILL": (-9,),
        "SIGTERM": (143, -15),
        "two SIGTERM": (143, -15),
        "SIGINT": (130, -2),
        "two SIGINT": (130, -2),
    },
    **{"full disk": (1,), "SIGSTOP": (), "worker": (1,)},
}
LINES = {"full disk": "File too large", "worker": "its workers did not start"}  # with status 1


class Soak:
    """One training in a folder, disturbed until it has ended."""

    def __init__(self, function: Callable[[Path, int], object], folder: Path, chance: random.Random, kinds: list[str]):
        self.function, self.folder, self.chance, self.kinds = function, folder, chance, kinds
        self.said, self.sessions, self.counts = folder.with_suffix(".txt"), [], Counter()

    def undisturbed(self) -> float:
        """Seconds of a start that nothing disturbs, after which the training has ended."""
        started = time.monotonic()
        child = self.begin()
        assert wait(child, 600) == 0, self.said.read_text()
        return time.monotonic() - started

    def begin(self, limit: int | None = None) -> int:
        number = len(self.sessions)  # of this start
        self.sessions.append(start(lambda: self.function(self.folder, number), self.said, limit))
        return self.sessions[-1]

    def disturb(self, seconds: float) -> bool:
        """Starts the training and disturbs it once within so many seconds; whether it has ended by itself."""
        kind = self.chance.choice(self.kinds)
        child = self.begin(self.chance.choice((300, 3000, 10_000, 30_000)) if kind == "full disk" else None)
        status = wait(child, 600 if kind == "full disk" else self.chance.uniform(0, seconds))
        if status is None:
            status = self.strike(child, kind)
        text = self.said.read_text()
        assert status in (0, *ENDS[kind]) and "Traceback" not in text, (kind, status, text)
        assert status != 1 or LINES[kind] in text, text
        self.counts[kind] += status != 0 and kind != "worker"
        return status == 0

    def strike(self, child: int, kind: str) -> int:
        if kind == "worker":
            self.counts[kind] += kill_worker(child, self.chance)
        elif kind == "SIGSTOP":
            with contextlib.suppress(ProcessLookupError):  # it has no session of its own yet
                os.killpg(child, signal.SIGSTOP)
                time.sleep(self.chance.uniform(0, 0.3))
                os.killpg(child, signal.SIGCONT)
                self.counts[kind] += 1
        else:
            os.kill(child, getattr(signal, kind.split()[-1]))
            if kind.startswith("two "):
                time.sleep(self.chance.uniform(0, 0.05))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, getattr(signal, kind.split()[-1]))
        status = wait(child, 600)
        assert status is not None, (kind, "does not end", session(child), self.said.read_text())
        return status

    def leftovers(self) -> list[str]:
        """What must not stay: hidden files, locks that are held, processes."""
        files = [str(path) for path in self.folder.rglob(".*") if not path.name.endswith("lock")]
        files += [str(path) for path in self.folder.rglob("*.tmp")]
        for path in self.folder.rglob(".*lock"):
            try:
                filelock.FileLock(path, timeout=0).acquire().lock.release()
            except filelock.Timeout:
                files.append(f"{path} is held")
        deadline = time.monotonic() + 10
        while any(map(session, self.sessions)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return files + [line for own in self.sessions for line in session(own).values()]


def resumed(train: Callable, flags: Sequence[str], often: Sequence[str], folder: Path, start: int) -> None:
    """The start with this number; each one with another number of processes, if there are several."""
    jobs = ["--jobs", str(1 + (start + 1) % 3)] if "--jobs" in flags and "dask" not in flags else []
    train(folder, *flags, *jobs, *often, "--resume")


def results(folder: Path, flags: Sequence[str]) -> dict:
    """What is compared. Dask itself draws from Python's generator in its workers, from which no training draws."""
    content = everything(folder)
    for path, own in content.items():
        if "dask" in flags and path.endswith(".pt"):
            content[path] = {name: value for name, value in own.items() if name != "random_python"}
    if (page := folder / "report" / "index.html").exists():
        content["report"] = re.sub(r"[\d.]+ (s|min\w*|h\w*)\b", "", page.read_text())
    return content


@pytest.fixture
def amount(request) -> int:
    """Ends of each training in one process: 6 in `make reliability`, 20 with LONG=1."""
    return LONG if request.config.getoption("--long") else 6


@pytest.fixture
def soak(run, tmp_path, count, request, monkeypatch):
    """soak(name, kills, *flags): the training until it was ended so many times, anew after each end.

    name: of a training, or a function of a folder and flags. kinds: of disturbances. most: of one training.
    """
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    chance = random.Random(f"{request.node.name} {request.config.getoption('--seed')}")

    def call(name: str | Callable, kills: int, *flags: str, kinds: Sequence[str] = (), most: int = MOST) -> None:
        train = name if callable(name) else functools.partial(run, name)
        kinds = list(kinds or [kind for kind in ENDS if kind != "worker"] + (["worker"] * 2 if flags else []))
        train(tmp_path / "whole")
        whole, total = results(tmp_path / "whole", flags), Counter()
        first = Soak(lambda folder, number: train(folder, *flags), tmp_path / "0", chance, kinds)
        seconds = first.undisturbed()
        assert same(results(first.folder, flags), whole) and not first.leftovers(), first.leftovers()
        for number in range(1, 1000):
            if sum(total.values()) >= kills:
                break
            often = chance.choice((["--checkpoint_every", "0"], ["--checkpoint_every", "0.05"], []))
            one = Soak(functools.partial(resumed, train, flags, often), tmp_path / str(number), chance, kinds)
            for _ in range(most):
                if one.disturb(0.8 * seconds):
                    break
            else:
                one.undisturbed()
            assert same(results(one.folder, flags), whole), (name, number, one.counts)
            assert not one.leftovers(), one.leftovers()
            total += one.counts
        count(sum(total.values()))
        print(name, *flags, dict(total))  # pytest -s shows them

    return call


# ---- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.reliability
def test_ended_a_few_times(soak):
    soak("toy grid", 4)


@pytest.mark.reliability
@pytest.mark.parametrize("name", MANY)
def test_the_same_bits_with_one_process_and_four(run, tmp_path, count, name):
    for jobs in ("1", "4"):
        run(name, tmp_path / jobs, "--jobs", jobs)
    assert same(everything(tmp_path / "1"), everything(tmp_path / "4"))
    count(1)


@pytest.mark.reliability
@pytest.mark.parametrize("name", ALL)
def test_ended_at_random_moments_in_one_process(soak, name, amount):
    """SIGKILL, SIGTERM once and twice, SIGINT, SIGSTOP and SIGCONT, a full disk."""
    soak(name, amount)


@pytest.mark.reliability
@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("backend", BACKENDS)
def test_ended_at_random_moments_in_several_processes(soak, backend, name, amount):
    """The same, and a worker killed; what several processes compute is compared with what one does."""
    if backend == "dask":
        pytest.importorskip("distributed")
    soak(name, amount // (2 if backend == "loky" else 4), *BACKENDS[backend])


@pytest.mark.reliability
def test_interrupted_twice(soak, amount):
    """The second SIGINT comes while the state is being saved after the first one."""
    soak("toy grid", 50 if amount == LONG else 10, kinds=["two SIGINT"])


@pytest.mark.reliability
def test_a_grid_killed_ten_times(soak):
    soak("toy grid", 10, kinds=["SIGKILL"], most=10)


@pytest.mark.reliability
def test_a_report_ended_at_random_moments(soak, amount, monkeypatch, tmp_path):
    """reproduce.py with two studies: the same page."""
    tiny = " ".join(flag for flag in TOY if flag != "--quiet")
    studies = (
        Study("lstm_ae_toy", "reconstruct", "Waves", quick=tiny, numbers=NUMBERS),
        Study("lstm_ae_toy", "reconstruct", "Others", variant="other", quick=f"{tiny} --seed 1", numbers=NUMBERS),
    )
    monkeypatch.setattr(reproduce, "STUDIES", studies)
    monkeypatch.setattr(chapters, "CHAPTERS", tmp_path / "chapters")
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "lstm_ae_toy.md").write_text("Waves.\n")

    def report(folder: Path, *flags: str) -> None:
        argv = [flag for flag in flags if flag not in ("--checkpoint_every", "0", "0.05")]
        assert reproduce.exit_status(reproduce.main([*argv, "--output_dir", str(folder)])) == 0

    soak(report, 50 if amount == LONG else 5, kinds=["SIGKILL", "SIGTERM", "SIGINT"])


@pytest.mark.reliability
def test_two_scripts_at_one_moment_in_one_folder(run, tmp_path, count, amount):
    """One of them trains; the other one is refused in one line, and its files are nowhere."""
    run("toy", tmp_path / "whole")
    whole, refused = everything(tmp_path / "whole"), 0
    for number in range(50 if amount == LONG else 10):
        folder, (ready, go) = tmp_path / str(number), os.pipe()

        def begin(folder=folder, ready=ready) -> None:
            os.read(ready, 1)
            run("toy", folder, "--checkpoint_every", "0")

        lines = [tmp_path / f"{number}-{k}.txt" for k in range(2)]
        children = [start(begin, said) for said in lines]
        os.write(go, b"12")
        statuses = [wait(child) for child in children]
        assert sorted(statuses) in ([0, 2], [0, 0]), [said.read_text() for said in lines]
        for status, said in zip(statuses, lines, strict=True):
            assert status == 0 or (
                "another run is writing to" in said.read_text() and said.read_text().count("\n") == 1
            )
        refused += 2 in statuses  # else the second one came when the first one had ended
        assert same(everything(folder), whole)
        os.close(ready)
        os.close(go)
    assert refused > number / 2
    count(number + 1)


# ---- a folder is of one run ------------------------------------------------------------------------------------------

RUNS = {  # settings of runs that take turns in one folder
    "plain": [],
    "narrow": ["--hidden_size", "3"],
    "seeds": SEEDS,
    "grid": GRID,
    "long": ["--epochs", "3"],
    "codes": ["--code_size", "2", "3"],
}
TELLING = ("hidden_size", "seeds", "learning_rate", "epochs", "code_size")  # settings by which config.json names them


def mixture(folder: Path, wholes: dict[str, Path]) -> str:
    """What in a run folder is not of the run that its config.json names; "" if everything is."""
    config = folder / "config.json"
    if not config.exists():  # killed between two renames: the folder is that of the earlier run, partly in .earlier
        return ""
    asked = {name: tables.read_json(config)[name] for name in TELLING}
    configs = {name: tables.read_json(path / "config.json") for name, path in wholes.items()}
    (whole,) = (wholes[name] for name, own in configs.items() if {key: own[key] for key in TELLING} == asked)
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not path.is_file() or name.name == "config.json":
            continue
        twin = whole / name
        if "previous" in name.name:
            twin = twin.with_name("last.pt")
        if not twin.exists():
            return f"{name} is of another run"
        if path.suffix == ".pt" and checkpoint.load(path)["flags"] != checkpoint.load(twin)["flags"]:
            return f"{name} has the settings of another run"
        if name.name == "history.csv" and not twin.read_text().startswith(path.read_text()):
            return f"{name} has the losses of another run"
        if name.name == "metrics.json" and without_seconds(tables.read_json(path)) != without_seconds(
            tables.read_json(twin)
        ):
            return f"{name} has the results of another run"
    return ""


@pytest.mark.reliability
def test_a_folder_is_of_one_run(run, tmp_path, count, amount, request):
    """Pairs of runs of other settings, each killed, stopped or let end, resumed or not, in one folder."""
    wholes = {}
    for name, flags in RUNS.items():
        run(["lstm_ae_toy", "reconstruct", *TOY, *flags], tmp_path / name / "same")
        wholes[name] = tmp_path / name / "same" / "reconstruct"
    chance, folder = random.Random(f"mixture {request.config.getoption('--seed')}"), tmp_path / "out" / "same"
    last, statuses, started = "plain", Counter(), time.monotonic()
    run(["lstm_ae_toy", "reconstruct", *TOY], folder)
    seconds = time.monotonic() - started
    for number in range(500 if amount == LONG else 40):
        name = chance.choice([last, *RUNS])
        more = chance.choice((["--resume"], [], ["--resume", "--checkpoint_every", "0"], ["--checkpoint_every", "0"]))
        flags = [*RUNS[name], *more]
        said = tmp_path / "said.txt"
        child = start(lambda flags=flags: run(["lstm_ae_toy", "reconstruct", *TOY, *flags], folder), said)
        kind = chance.choice(("SIGKILL", "SIGKILL", "SIGTERM", "nothing"))
        status = wait(child, 600 if kind == "nothing" else chance.choice((0.2, 1.5)) * chance.uniform(0, seconds))
        if status is None:
            os.kill(child, getattr(signal, kind))
            status = wait(child, 600)
        statuses[status] += 1
        text = said.read_text()
        assert status in (0, 2, -9, 143, -15) and "Traceback" not in text, (status, text)
        assert status != 2 or "--resume" in more, text
        assert not (found := mixture(folder / "reconstruct", wholes)), (number, last, name, more, kind, status, found)
        last = name
    run(["lstm_ae_toy", "reconstruct", *TOY], folder)
    assert not mixture(folder / "reconstruct", wholes)
    for name in ("metrics.json", "history.csv", "best.pt"):  # what is mixed up is noticed
        shutil.copy(wholes["narrow"] / name, folder / "reconstruct" / name)
        assert name in mixture(folder / "reconstruct", wholes)
        shutil.copy(wholes["plain"] / name, folder / "reconstruct" / name)
    print(dict(statuses))
    count(number + 1)
