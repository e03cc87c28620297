"""Tasks in parallel processes, on this machine (`--jobs`) or a cluster (`--backend`), retried after a worker's death.

A task is a function of settings (or of a request) and a folder. It resumes from the checkpoint in its folder, so it can
be retried wherever it was when its worker died. The workers of a cluster read and write the same files as the caller.
A task locks its folder: a worker may outlive the process that started it, and a resumed run then waits for it.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import filelock
import joblib
from joblib.externals.loky import get_reusable_executor

from lstm_studies.loaders.files import DataError
from lstm_studies.training.loop import Failed
from lstm_studies.training.presets import Request, with_values
from lstm_studies.training.run import prepare_process
from lstm_studies.training.settings import Settings, UsageError, module_name
from lstm_studies.training.signals import Interrupted, handlers


class WorkerLost(Failed):
    """A worker process died with its task three times."""


Task = tuple[Settings | Request, Path]
# Exceptions of the backends for a dead worker, by name, since their packages need not be installed.
LOST = {"TerminatedWorkerError", "BrokenProcessPool", "KilledWorker", "WorkerCrashedError", "OutOfMemoryError"}
NO_SCHEDULER = {"FutureCancelledError", "CancelledError", "CommClosedError"}  # the same for a dead scheduler of Dask
ENDS = (UsageError, DataError, Failed, OSError)  # what ends a run with one line
STOPPED: list[int] = []  # signals that this worker process got; it starts no further task


def run(
    function: Callable,
    tasks: list[Task],
    others: dict[str, Callable | None],
    jobs: int,
    backend: str = "loky",
    scheduler: str | None = None,
    **more,
) -> list:
    """`function(asked, folder, **others, **more)` for every task, in processes of one thread each, in order.

    `function` and `others` are sent by name, since a script's own module is not importable as such. In place of the
    result of a task that its worker did not survive three times there is a WorkerLost.
    """
    names = {key: importable(other) for key, other in others.items() if other is not None}
    arguments = [(importable(function), asked, folder, names, more) for asked, folder in tasks]
    if backend == "loky" and jobs == 1:
        return [call(*own) for own in arguments]
    with cluster(backend, scheduler, jobs):
        for _ in range(2):
            with suppress_lost():
                return together(arguments, backend, jobs)
        return [alone(own, backend) for own in arguments]


@contextmanager
def suppress_lost():
    """Turns the death of a worker into a warning."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in LOST:
            raise
        warnings.warn(f"a worker process died ({type(error).__name__}); its tasks are tried again", stacklevel=3)


def together(arguments: list[tuple], backend: str, jobs: int) -> list:
    """Runs all tasks. After a signal, raises Interrupted once every worker has saved its state."""
    here = backend == "loky"
    with forwarded_signals() if here else nullcontext([]) as received:
        try:
            if backend == "dask":
                results = on_dask(arguments)
            else:
                own_process = {"n_jobs": jobs, "initializer": end_with, "initargs": (os.getpid(),)}
                function = joblib.delayed(call_in_worker if here else call)
                parallel = joblib.Parallel(batch_size=1, **(own_process if here else {"n_jobs": -1}))
                results = parallel(function(*own, worker=True) for own in arguments)
        except Exception as error:
            if received:  # a worker that had not begun a task
                raise Interrupted(received[0], "; --resume goes on") from None
            if type(error).__name__ in NO_SCHEDULER:
                raise Failed("the scheduler of the cluster is lost; --resume with another one goes on") from None
            raise
    stopped = [result for result in results if isinstance(result, Interrupted)]
    if stopped:
        get_reusable_executor().shutdown(kill_workers=True)  # they have saved, and take no more tasks
        raise Interrupted(received[0] if received else stopped[0].signum, stopped[0].where)
    return results


def on_dask(arguments: list[tuple]) -> list:
    """The results of the workers that the scheduler has, and of those that come later.

    Without joblib, which would run all tasks in this process if one worker alone is there at the start.
    """
    from distributed import get_client

    client = get_client()
    results = client.gather([client.submit(call_on_dask, *own, pure=False) for own in arguments])
    for result in results:
        if isinstance(result, ENDS):
            raise result
    return results


def call_on_dask(*own):
    """`call` on a worker. What ends a run with one line is returned: Dask would log it with a traceback."""
    try:
        return call(*own, worker=True)
    except ENDS as error:
        return error


def alone(own: tuple, backend: str):
    """Runs one task in a pool of its own, so that its death takes no other task with it."""
    try:
        return together([own], backend, 2)[0]
    except Exception as error:
        if type(error).__name__ not in LOST:
            raise
        return WorkerLost(f"its worker process died three times ({type(error).__name__}); was the memory enough?")


@contextmanager
def forwarded_signals():
    """Forwards a first SIGINT or SIGTERM to the workers, which save and end; yields the list of signals received."""
    received: list[int] = []

    def forward(signum, frame):
        if received:
            raise Interrupted(signum)
        received.append(signum)
        for child in multiprocessing.active_children():
            child.terminate()

    with handlers(forward):
        yield received


@contextmanager
def cluster(backend: str, scheduler: str | None, jobs: int):
    """Selects the backend of joblib; without an address, starts a cluster on this machine."""
    if backend == "loky":
        yield
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
            yield
    else:
        import ray
        from ray.util.joblib import register_ray

        try:
            ray.init(scheduler, ignore_reinit_error=True, **({} if scheduler else {"num_cpus": jobs}))
        except (OSError, ValueError, ray.exceptions.RayError) as error:
            raise UsageError(f"--scheduler: no Ray cluster at {scheduler}: {' '.join(str(error).split())}") from None
        register_ray()
        with joblib.parallel_config("ray"):
            yield


def importable(function: Callable) -> tuple[str, str]:
    """Module and name under which another process can import the function, even from a script run as __main__."""
    return module_name(function), function.__name__


def call(name: tuple[str, str], asked: Settings | Request, folder: Path, names: dict, more: dict, worker: bool = False):
    """Runs one task in this process: imports its functions by name and sets threads and seeds."""
    asked = with_values(asked, threads=1, in_worker=worker)
    function, *others = (getattr(importlib.import_module(module), own) for module, own in (name, *names.values()))
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        prepare_process(asked)
        return function(asked, folder, **dict(zip(names, others, strict=True)), **more)


def end_with(parent: int) -> None:
    """Ends this worker process with the one that started it: killed, that one could not tell its workers to end."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def call_in_worker(*arguments, **more):
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
        return call(*arguments, **more) if running else Interrupted(STOPPED[0], "; --resume goes on")
    except Interrupted as error:
        STOPPED.append(error.signum)
        return error
    except Exception:
        if STOPPED:  # a library that the signal interrupted in its midst
            return Interrupted(STOPPED[0], "; --resume goes on")
        raise
    finally:
        running = False
