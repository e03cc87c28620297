"""The one pool: tasks in this process, in others (`--jobs`) or on a cluster (`--backend`), retried after a death.

A task is a function of settings (or of anything that can be pickled) and a folder. A training resumes from the
checkpoint in its folder, so that it can be retried wherever it was when its worker died. The workers of a cluster read
and write the same files as the caller. A task locks its folder: a worker may outlive the process that started it, and a
resumed run then waits for it.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import filelock
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend.process import LokyProcess

from lstm_studies.loaders.files import DataError
from lstm_studies.training.loop import Failed
from lstm_studies.training.presets import Request, with_values
from lstm_studies.training.run import prepare_process
from lstm_studies.training.settings import Settings, UsageError, module_name
from lstm_studies.training.signals import Interrupted, handlers


class WorkerLost(Failed):
    """A worker process died with its task three times."""


class Task(NamedTuple):
    """`function(asked, folder, **functions)`, functions at the top level of a module, where other processes find them.

    Settings and requests are given seeds and threads; other values of `asked` are handed on as they are.
    """

    name: str  # no other task of the run has it
    function: Callable
    asked: Any
    folder: Path
    functions: Mapping[str, Callable] = {}
    threads: int = 1


Then = Callable[[Task, Any], Iterable[Task]]  # from a task and its result to the tasks that follow it
# Exceptions of the backends for a dead worker, by name, since their packages need not be installed.
LOST = {"TerminatedWorkerError", "BrokenProcessPool", "KilledWorker", "WorkerCrashedError", "OutOfMemoryError"}
NO_SCHEDULER = {"FutureCancelledError", "CancelledError", "CommClosedError"}  # the same for a dead scheduler of Dask
ENDS = (UsageError, DataError, Failed, OSError)  # what ends a run with one line
STOPPED: list[int] = []  # signals that this worker process got; it starts no further task


def nothing_more(task: Task, result: Any) -> Iterable[Task]:
    return ()


def run(
    tasks: Iterable[Task], jobs: int = 1, backend: str = "loky", scheduler: str | None = None, then: Then = nothing_more
) -> dict[str, Any]:
    """The result of each task by name, and of those that follow from it, `jobs` at a time in processes of their own.

    In place of the result of a task that its worker did not survive three times there is a WorkerLost.
    """
    results: dict[str, Any] = {}
    waiting = deque(tasks)
    if backend == "loky" and jobs == 1:
        while waiting:
            task = waiting.popleft()
            results[task.name] = call(*portable(task))
            waiting.extendleft(reversed([*then(task, results[task.name])]))  # depth first: one model to its end
        return results
    deaths: Counter[str] = Counter()
    with cluster(backend, scheduler, jobs) as make_submit:
        while waiting:
            often = [task for task in waiting if deaths[task.name] == 2]
            batch = often[:1] if len(often) == len(waiting) else [task for task in waiting if task not in often]
            waiting = deque(task for task in waiting if task not in batch)
            lost = together(batch, make_submit(), backend, then, results)
            for task in lost:
                deaths[task.name] += 1
                if deaths[task.name] == 3:
                    results[task.name] = WorkerLost("its worker process died three times; was the memory enough?")
                    waiting.extend(then(task, results[task.name]))
                else:
                    waiting.append(task)
            if lost:
                warnings.warn("a worker process died; its tasks are tried again", stacklevel=2)
    return results


def together(tasks: list[Task], submit: Callable, backend: str, then: Then, results: dict[str, Any]) -> list[Task]:
    """Runs tasks, and those that follow, at the same time; returns those whose worker died, puts the others' results.

    After a signal, raises Interrupted once every worker has saved its state.
    """
    lost: list[Task] = []
    running: dict[Future, Task] = {}

    def begin(tasks: Iterable[Task]) -> None:
        for task in tasks:
            try:
                running[submit(*portable(task))] = task
            except Exception as error:  # the pool is broken, as the tasks that are running will tell
                if type(error).__name__ not in LOST:
                    raise
                lost.append(task)

    with forwarded_signals(backend) as received:
        try:
            begin(tasks)
            stopped: list[Interrupted] = []
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    task = running.pop(future)
                    result = outcome(future, received)
                    if isinstance(result, Interrupted):
                        stopped.append(result)
                    elif result is LOST:
                        lost.append(task)
                    else:
                        results[task.name] = result
                        if not received:
                            begin(then(task, result))
            if stopped or received:  # the workers have saved, and take no more tasks
                begun = max(stopped, key=lambda one: len(one.where), default=Interrupted(0, "; --resume goes on"))
                raise Interrupted(received[0] if received else begun.signum, begun.where)
        except BaseException:
            if backend == "loky":
                end_workers(running)
            raise
    return lost


def outcome(future: Future, received: list[int]) -> Any:
    """The result of a task, LOST if its worker died. Raises what ended it; after a signal that is Interrupted."""
    try:
        result = future.result()
    except BaseException as error:
        if received:  # a worker that had not begun a task
            return Interrupted(received[0], "; --resume goes on")
        if type(error).__name__ == "BrokenProcessPool" and error.__cause__:  # of loky: the task could not be read
            last_line = str(error.__cause__).strip('\n"').rpartition("\n")[2]
            raise Failed(f"a worker process cannot read its task: {last_line}") from None
        if type(error).__name__ in LOST:
            return LOST
        if type(error).__name__ in NO_SCHEDULER:
            raise Failed("the scheduler of the cluster is lost; --resume with another one goes on") from None
        raise
    if isinstance(result, Ended):
        raise result.error
    return result


def end_workers(running: Iterable[Future]) -> None:
    """Ends the workers of this machine, each at a point from which its task can be resumed.

    Those that have not ended soon are killed: one that SIGTERM met between two tasks may have died with the lock that
    the others wait for. A worker that is killed leaves its semaphores, which Python reports on standard error.
    """
    terminate_workers()
    wait(running, timeout=10)
    children, soon = local_workers(), time.monotonic() + 3
    get_reusable_executor(reuse=True).shutdown(wait=False)
    for child in children:
        child.join(max(0.0, soon - time.monotonic()))
        if child.is_alive():
            with suppress(ProcessLookupError):  # the pool's thread has just seen its end
                os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            child.join()


def terminate_workers() -> None:
    for child in local_workers():
        child.terminate()


def local_workers() -> list[LokyProcess]:
    """The worker processes that this one has started, no other children; a fork inherits the list of its parent."""
    children = [child for child in multiprocessing.active_children() if isinstance(child, LokyProcess)]
    return [child for child in children if child._parent_pid == os.getpid()]


@contextmanager
def forwarded_signals(backend: str):
    """Forwards a first SIGINT or SIGTERM to the workers of this machine, which save and end; yields those received."""
    received: list[int] = []

    def forward(signum, frame):
        if received:
            raise Interrupted(signum)
        received.append(signum)
        terminate_workers()

    if backend != "loky":
        yield received
        return
    with handlers(forward):
        yield received


@contextmanager
def cluster(backend: str, scheduler: str | None, jobs: int):
    """Yields a function that gives `submit(*arguments) -> Future`; without an address, starts a cluster here."""
    if backend == "loky":
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

        def make_submit() -> Callable:
            # no timeout: a task that is handed to a worker which has been idle for that long would never be run
            options = {"timeout": None, "initializer": end_with, "initargs": (os.getpid(),), "env": threads}
            executor = get_reusable_executor(jobs, **options)
            return lambda *arguments: executor.submit(call_in_worker, *arguments)

        yield make_submit
    elif backend == "dask":
        from distributed import Client

        quiet = logging.CRITICAL  # what Dask logs of an early end, with tracebacks, the search says in a line
        local = {} if scheduler else {"n_workers": jobs, "threads_per_worker": 1, "silence_logs": quiet}
        try:
            client = Client(scheduler, **local)
        except (OSError, ValueError) as error:
            raise UsageError(f"--scheduler: no Dask scheduler at {scheduler}: {error}") from None
        except RuntimeError as error:  # a worker of this machine died before it worked
            raise Failed(f"--backend dask: its workers did not start ({error}); --resume tries again") from None
        logging.getLogger("distributed.client").setLevel(quiet)
        with client:
            threads = {worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
            if threads - {1}:
                raise UsageError(f"--scheduler: expected workers of one thread each (--nthreads 1), found {threads}")
            executor = client.get_executor(pure=False)
            yield lambda: lambda *arguments: executor.submit(call_on_cluster, *arguments)
    else:
        import ray

        try:
            ray.init(scheduler, ignore_reinit_error=True, **({} if scheduler else {"num_cpus": jobs}))
        except (OSError, ValueError, ray.exceptions.RayError) as error:
            raise UsageError(f"--scheduler: no Ray cluster at {scheduler}: {' '.join(str(error).split())}") from None
        remote = ray.remote(max_retries=0)(call_on_cluster)
        yield lambda: lambda *arguments: remote.remote(*arguments).future()


class Ended(NamedTuple):
    """What ended a task on a cluster, returned: raised there, Dask would log it with a traceback."""

    error: Exception


def call_on_cluster(*arguments):
    """`call` on a worker of a cluster."""
    try:
        return call(*arguments, worker=True)
    except ENDS as error:
        return Ended(error)


def importable(function: Callable) -> tuple[str, str]:
    """Module and name under which another process can import the function, even from a script run as __main__."""
    return module_name(function), function.__name__


def imported(name: tuple[str, str]) -> Callable:
    module, attribute = name
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Failed(f"a worker process cannot import {attribute} from {module}: {error}") from None


def portable(task: Task) -> tuple:
    """The arguments of `call`, which any process understands."""
    functions = {name: importable(function) for name, function in task.functions.items() if function is not None}
    return importable(task.function), task.asked, task.folder, functions, task.threads


def call(name: tuple[str, str], asked: Any, folder: Path, names: dict, threads: int = 1, worker: bool = False):
    """Runs one task in this process: imports its functions by name and sets threads and seeds."""
    function = imported(name)
    functions = {key: imported(other) for key, other in names.items()}
    if not isinstance(asked, Settings | Request):
        return function(asked, folder, **functions)
    asked = with_values(asked, threads=threads, in_worker=worker or asked.in_worker)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".task.lock"):  # not the lock of the run, which may have the same folder
        prepare_process(asked)
        return function(asked, folder, **functions)


def end_with(parent: int) -> None:
    """Ends this worker process with the one that started it: killed, that one could not tell its workers to end."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def call_in_worker(*arguments):
    """`call` in a worker process. A signal ends it at a point from which it can resume, and is returned, not raised."""
    running = not STOPPED

    def stop(signum, frame):
        STOPPED.append(signum)
        if running:
            raise Interrupted(signum)

    with suppress(ValueError):  # not the main thread: signals do not come here
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, stop)  # also for the time until the next task
    try:
        return call(*arguments, worker=True) if running else Interrupted(STOPPED[0], "; --resume goes on")
    except Interrupted as error:
        STOPPED.append(error.signum)
        return error
    except Exception:
        if STOPPED:  # a library that the signal interrupted in its midst
            return Interrupted(STOPPED[0], "; --resume goes on")
        raise
    finally:
        running = False
