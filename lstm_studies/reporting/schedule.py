"""Studies as one pool of tasks: in several processes, the longest chain first, with a line that says how far it is."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """Something to run: `function(*arguments)`, after the tasks that it needs, in about so many minutes."""

    name: str
    arguments: tuple
    minutes: float = 0.0  # expected; 0: unknown
    needs: frozenset[str] = frozenset()  # names of tasks


@dataclass
class Progress:
    """What has been started and ended, and the lines that say so."""

    tasks: Sequence[Task]
    jobs: int
    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    begin: float = field(default_factory=lambda: time.monotonic())

    def start(self, task: Task) -> None:
        self.started[task.name] = time.monotonic()
        self.show()

    def end(self, task: Task, outcome: str) -> None:
        self.ended[task.name] = time.monotonic()
        minutes = (self.ended[task.name] - self.started[task.name]) / 60
        self.clear()
        print(f"[{len(self.ended)}/{len(self.tasks)}] {task.name}: {outcome or f'{minutes:.1f} minutes'}", flush=True)
        self.show()

    def minutes_left(self) -> float:
        """As the expected minutes say; a task that takes longer than expected is taken to end soon."""
        now, left = time.monotonic(), []
        for task in self.tasks:
            if task.name not in self.ended:
                gone = (now - self.started.get(task.name, now)) / 60
                left.append(max(task.minutes - gone, 0.0))
        return max(sum(left) / self.jobs, *left, 0.0) if left else 0.0

    def line(self) -> str:
        running = [task.name for task in self.tasks if task.name in self.started.keys() - self.ended.keys()]
        gone = (time.monotonic() - self.begin) / 60
        times = f"{gone:.1f} minutes gone, about {self.minutes_left():.1f} left"
        return f"{len(self.ended)} of {len(self.tasks)} done, {times}; running: {', '.join(running)}"

    def show(self) -> None:
        """The line on a terminal, over the one before."""
        if sys.stdout.isatty():
            sys.stdout.write(f"\r\033[K{self.line()[:118]}")
            sys.stdout.flush()

    def clear(self) -> None:
        if sys.stdout.isatty():
            sys.stdout.write("\r\033[K")


def chains(tasks: Sequence[Task]) -> dict[str, float]:
    """Of each task the minutes until everything that needs it, directly or not, has ended."""

    def chain(task: Task) -> float:
        return task.minutes + max((chain(other) for other in tasks if task.name in other.needs), default=0.0)

    return {task.name: chain(task) for task in tasks}


def run_pool(
    tasks: Sequence[Task], function: Callable, jobs: int, outcome: Callable[[Any], str] = lambda result: ""
) -> dict[str, Any]:
    """The result of each task by name, `jobs` at a time, each after what it needs, the longest chain first.

    function: at the top level of a module, so that other processes find it; what it raises is raised here.
    outcome: what to say of a result, "" for its minutes. With one job all tasks run in this process, one by one.
    """
    known = {task.name for task in tasks}
    length, waiting, results = chains(tasks), list(tasks), {}
    progress = Progress(tasks, jobs)

    def take() -> Task | None:
        """The next task that needs nothing which is still to come; needs that are no tasks are ignored."""
        free = [task for task in waiting if not (task.needs & known) - results.keys()]
        if not free:
            return None
        task = max(free, key=lambda task: length[task.name])
        waiting.remove(task)
        progress.start(task)
        return task

    def put(task: Task, result: Any) -> None:
        results[task.name] = result
        progress.end(task, outcome(result))

    if jobs == 1:
        while (task := take()) is not None:
            put(task, function(*task.arguments))
    else:
        run_in_processes(function, jobs, take, put, progress)
    return {task.name: results[task.name] for task in tasks}


def run_in_processes(
    function: Callable, jobs: int, take: Callable[[], Task | None], put: Callable[[Task, Any], None], progress: Progress
) -> None:
    running: dict[Future, Task] = {}
    # spawn: a fresh process, in which libraries with threads of their own work, and which may start others
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), ignore_signals) as pool, forwarded_signals():
        while True:
            while len(running) < jobs and (task := take()) is not None:
                running[pool.submit(function, *task.arguments)] = task
            if not running:
                return
            done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            progress.show()
            for future in done:
                put(running.pop(future), future.result())


def ignore_signals() -> None:
    """For a process of the pool that waits; a script that runs in it has handlers of its own."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def forwarded_signals():
    """Hands SIGINT and SIGTERM on to the processes of the pool, as SIGTERM: their scripts save and end."""

    def forward(signum, frame):
        for child in multiprocessing.active_children():
            child.terminate()

    former = {signum: signal.signal(signum, forward) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)
