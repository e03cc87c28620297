"""Soak: trainings that are ended again and again at random moments, resumed, and compared with undisturbed ones.

`make reliability` runs some of all scripts and backends, and with LONG=1 about an hour of them, 500
kills at least; `--seed` draws other moments. Each start is a fork of the test's process, which has imported everything.
"""

import contextlib
import os
import random
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import pytest
from processes import fork, wait
from tiny_training import everything, same
from trainings import ALL, MANY

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="reads the processes of a session in /proc"
)

BACKENDS = {"loky": ["--jobs", "2"], "dask": ["--jobs", "2", "--backend", "dask"]}
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
    **{"SIGKILL": (-9,), "SIGTERM": (143, -15), "two SIGTERM": (143, -15), "SIGINT": (130, -2)},
    **{"full disk": (1,), "SIGSTOP": (), "worker": (1,)},
}
LINES = {"full disk": "File too large", "worker": "its workers did not start"}  # with status 1


class Soak:
    """One training in a folder, disturbed until it has ended."""

    def __init__(self, function: Callable[[Path], object], folder: Path, chance: random.Random, parallel: bool):
        self.function, self.folder, self.chance = function, folder, chance
        self.kinds = [kind for kind in ENDS if kind != "worker"] + (["worker"] * 2 if parallel else [])
        self.said, self.sessions, self.counts = folder.with_suffix(".txt"), [], Counter()

    def undisturbed(self) -> float:
        """Seconds of a start that nothing disturbs, after which the training has ended."""
        started = time.monotonic()
        child = self.begin()
        assert wait(child, 600) == 0, self.said.read_text()
        return time.monotonic() - started

    def begin(self, limit: int | None = None) -> int:
        self.sessions.append(start(lambda: self.function(self.folder), self.said, limit))
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
            if kind == "two SIGTERM":
                time.sleep(self.chance.uniform(0, 0.05))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
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


def results(folder: Path, flags: Sequence[str]) -> dict:
    """What is compared. Dask itself draws from Python's generator in its workers, from which no training draws."""
    content = everything(folder)
    for path, own in content.items():
        if "dask" in flags and path.endswith(".pt"):
            content[path] = {name: value for name, value in own.items() if name != "random_python"}
    return content


@pytest.fixture
def amount(request) -> int:
    """Ends of each training in one process: 6 in `make reliability`, 20 with LONG=1."""
    return 20 if request.config.getoption("--long") else 6


@pytest.fixture
def soak(run, tmp_path, count, request, monkeypatch):
    """soak(name, kills, *flags): the training until it was ended so many times, anew after each end."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    chance = random.Random(f"{request.node.name} {request.config.getoption('--seed')}")

    def call(name: str, kills: int, *flags: str) -> None:
        run(name, tmp_path / "whole")
        whole, total = results(tmp_path / "whole", flags), Counter()
        first = Soak(lambda folder: run(name, folder, *flags), tmp_path / "0", chance, bool(flags))
        seconds = first.undisturbed()
        assert same(results(first.folder, flags), whole) and not first.leftovers(), first.leftovers()
        for number in range(1, 1000):
            if sum(total.values()) >= kills:
                break
            often = chance.choice((["--checkpoint_every", "0"], ["--checkpoint_every", "0.05"], []))
            one = Soak(
                lambda folder: run(name, folder, *flags, *often, "--resume"),  # noqa: B023
                tmp_path / str(number),
                chance,
                bool(flags),
            )
            for _ in range(MOST):
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
