"""The pool of tasks: order, needs, results, and what is said of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lstm_studies.reporting import schedule
from lstm_studies.reporting.schedule import Progress, Task, run_pool

ROOT = Path(__file__).resolve().parent.parent


def task(name, minutes=0.0, *needs):
    return Task(name, (name,), minutes, frozenset(needs))


def test_the_longest_chain_first_and_each_after_what_it_needs():
    order = []
    tasks = [task("a", 1), task("b", 2), task("c", 5, "a"), task("d", 3, "elsewhere")]
    results = run_pool(tasks, lambda name: order.append(name) or name.upper(), 1)
    assert order == ["a", "c", "d", "b"]  # c takes longest, but needs a
    assert list(results.items()) == [("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")]


def test_needs_hold_in_several_processes(tmp_path):
    tasks = [Task(n, (tmp_path, n, 0.2), 1, frozenset(needs)) for n, needs in (("c", "ab"), ("a", ""), ("b", ""))]
    times = run_pool(tasks, note, 2)
    assert times["c"][0] >= max(times["a"][1], times["b"][1])
    assert times["a"][2] != os.getpid()


def note(folder, name, seconds):
    begin = time.time()
    time.sleep(seconds)
    return begin, time.time(), os.getpid()


def test_what_a_task_raises_is_raised(tmp_path):
    for jobs in (1, 2):
        with pytest.raises(FileNotFoundError):
            run_pool([Task("a", (tmp_path / "absent",))], os.stat, jobs)


def test_the_lines(capsys, monkeypatch):
    run_pool([task("a"), task("b")], str.upper, 1, lambda result: "no data" if result == "B" else "")
    assert capsys.readouterr().out == "[1/2] a: 0.0 minutes\n[2/2] b: no data\n"
    now = [0.0]
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now[0])
    progress = Progress([task("a", 6), task("b", 2), task("c", 2)], 2)
    progress.start(task("a", 6))
    progress.start(task("b", 2))
    now[0] = 60.0
    assert progress.line() == "0 of 3 done, 1.0 minutes gone, about 5.0 left; running: a, b"
    progress.end(task("a", 6), "")
    assert progress.minutes_left() == 2.0
    now[0] = 600.0
    progress.end(task("b", 2), "")
    assert progress.minutes_left() == 2.0
    progress.start(task("c", 2))
    now[0] = 990.0
    assert progress.minutes_left() == 0.0 and progress.line().startswith("2 of 3 done, 16.5 minutes gone, about 0.0")


def test_a_signal_reaches_the_tasks_and_the_idle_processes_stay_quiet(tmp_path):
    """One task of two processes runs; it saves, and its result is there."""
    code = (
        "import tests.test_schedule as own, sys; from pathlib import Path; from reporting.schedule import *\n"
        "print(run_pool([Task('a', (Path(sys.argv[1]),))], own.wait_for_signal, 2))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if (tmp_path / "ready").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert "{'a': 'saved'}" in out and not err and process.returncode == 0


def wait_for_signal(folder):
    received = []
    former = signal.signal(signal.SIGTERM, lambda signum, frame: received.append(signum))
    (folder / "ready").touch()
    for _ in range(600):
        if received:
            break
        time.sleep(0.05)
    signal.signal(signal.SIGTERM, former)
    return "saved" if received else "no signal"
