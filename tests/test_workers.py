"""The one pool: the number of processes changes nothing, dead workers are replaced, errors and signals reach all."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from processes import in_child, needs_fork, running
from tiny_training import (
    BATCHES,
    TEST,
    TRAINING,
    VALIDATION,
    Net,
    everything,
    make_request,
    make_settings,
    rows,
    same,
    step,
    weights,
    without_seconds,
)

from lstm_studies.loaders.files import DataError
from lstm_studies.training import checkpoint, loop, search, workers
from lstm_studies.training.loop import Failed
from lstm_studies.training.presets import with_values
from lstm_studies.training.run import prepare_process
from lstm_studies.training.settings import UsageError
from lstm_studies.training.signals import Interrupted
from lstm_studies.training.workers import Task, WorkerLost

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("no_flush")
EACH = 3 * BATCHES  # batches of one training


@pytest.fixture(scope="module", autouse=True)
def pool():
    yield
    get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def train(settings, folder, step=step):
    return loop.train(Net(settings.hidden_size), step, TRAINING, VALIDATION, settings, folder)


def check(settings, folder):
    model = checkpoint.rebuild(folder / "best.pt", Net)
    return {"test_mse": loop.evaluate(model, step, TEST, settings)["loss"], "hidden": model.arguments["hidden"]}


def asked(**values):
    return make_request(**{"learning_rate": [0.05], "optimizer": "SGD", **values})


def fit(folder, train=train, **values):
    folder.mkdir(parents=True, exist_ok=True)
    request = asked(**values)
    prepare_process(request)
    return search.fit({"net": request}, folder, train, check)["net"]


def square(number, folder):
    return number**2


def add(number, folder, also):
    return also(number, folder) + 1


# ---- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_by_name_and_tasks_that_follow(tmp_path, jobs):
    """Nine, then ten: values that are no settings are handed on as they are, with the functions that the task names."""

    def then(task, result):
        return [Task(f"{task.name}+", add, result, tmp_path, {"also": square})] if result < 50 else ()

    tasks = [Task(str(number), square, number, tmp_path) for number in (3, 9)]
    results = workers.run(tasks, jobs, then=then)
    assert results == {"3": 9, "3+": 82, "9": 81}


def test_one_process_takes_a_model_to_its_end_before_the_next(tmp_path):
    begun = []

    def then(task, result):
        begun.append(task.name)
        return [Task(f"{task.name}{result}", square, 0, tmp_path)] if result else ()

    workers.run([Task(name, square, 1, tmp_path) for name in "ab"], then=then)
    assert begun == ["a", "a1", "b", "b1"]


def note_process(settings, folder):
    return {
        "in_worker": settings.in_worker,
        "threads": torch.get_num_threads(),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "random": float(torch.rand(1)),
        "process": os.getpid(),
    }


def test_what_a_worker_process_is(tmp_path):
    """One thread, the seed of its settings, no lines per epoch."""
    tasks = [Task(str(k), note_process, make_settings(seed=k, threads=4), tmp_path / str(k)) for k in (0, 1)]
    apart, here = workers.run(tasks, 2), workers.run(tasks)
    for k in ("0", "1"):
        assert (apart[k]["in_worker"], apart[k]["threads"], apart[k]["omp"]) == (True, 1, "1")
        assert (here[k]["in_worker"], here[k]["threads"]) == (False, 1)
        assert apart[k]["random"] == here[k]["random"] and apart[k]["process"] != os.getpid() == here[k]["process"]
    assert apart["0"]["random"] != apart["1"]["random"]


def test_functions_of_a_script_are_known_by_its_name(monkeypatch):
    script = types.ModuleType("__main__")
    script.__file__ = str(Path("some") / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(check, "__module__", "__main__")
    assert workers.importable(check) == ("script", "check") and workers.importable(train) == (__name__, "train")


def test_two_processes_give_the_same_results(tmp_path):
    """A grid, one of whose combinations diverges, seeds, folds and several models."""
    left = {}
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        values = {"gradient_clipping": 0.0, "jobs": jobs}
        requests = {
            "a": asked(learning_rate=[1e30, 0.05, 0.3], seeds=2, **values),
            "b": asked(hidden_size=2, epochs=2, **values),
        }
        folder.mkdir()
        metrics = search.fit(requests, folder, train, check)
        folded = search.fit({"c": asked(hidden_size=[2, 3], jobs=jobs)}, folder / "folds", train, check, folds=2)
        left[jobs] = {**everything(folder), "metrics": without_seconds([metrics, folded])}
    assert len([name for name in left[1] if name.endswith(".pt")]) > 20
    assert same(left[1], left[2])


# ---- errors ----------------------------------------------------------------------------------------------------------


def fail_or_sleep(error, folder):
    """The first task fails when the other one, which takes a minute, is there."""
    if error is not None:
        while not list(folder.glob("*.pid")):
            time.sleep(0.01)
        raise error("one line")
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(60)


def ignore_signals(error, folder):
    """The same, and no signal ends the other one."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fail_or_sleep(error, folder)


@pytest.mark.parametrize(
    ("error", "function"),
    [
        (DataError, fail_or_sleep),
        pytest.param(ZeroDivisionError, fail_or_sleep, marks=pytest.mark.reliability),
        pytest.param(DataError, ignore_signals, marks=pytest.mark.reliability),
    ],
)
def test_an_error_in_one_task_ends_the_run_and_its_workers_at_once(tmp_path, error, function):
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()  # a child of the caller's own
    started = time.monotonic()
    with pytest.raises(error, match="one line"):
        workers.run([Task(str(one), function, one, tmp_path) for one in (error, None)], 2)
    assert time.monotonic() - started < 40
    (pid,) = (int(path.stem) for path in tmp_path.glob("*.pid"))
    assert multiprocessing.active_children() == [other] and not running(pid)
    other.kill()
    other.join()


def test_workers_end_though_one_died_with_the_lock_of_the_others(monkeypatch):
    """As one that SIGTERM meets while it waits for a task, and so holds the lock of those that wait."""
    executor = get_reusable_executor(2, reuse=False)
    executor.submit(os.getpid).result()
    monkeypatch.setattr(workers, "terminate_workers", lambda: None)
    executor._call_queue._rlock.acquire(timeout=0.5)  # or a worker has it, until that one gets a task
    children = multiprocessing.active_children()
    thread = threading.Thread(target=workers.end_workers, args=([],), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and not any(child.is_alive() for child in children)


@needs_fork
def test_a_fork_leaves_the_workers_of_its_parent_alone():
    executor = get_reusable_executor(2, reuse=False)
    executor.submit(os.getpid).result()
    children = workers.local_workers()
    assert in_child(lambda: workers.end_workers([])) == 0
    assert children and all(child.is_alive() for child in children)


@pytest.mark.reliability
def test_an_error_in_what_follows_a_task_ends_the_workers(tmp_path):
    def then(task, result):
        raise Failed("one line")

    with pytest.raises(Failed, match="one line"):
        workers.run([Task("a", square, 1, tmp_path), Task("b", fail_or_sleep, None, tmp_path)], 2, then=then)
    assert not multiprocessing.active_children()


class OfAMissingModule:
    """What only its own process can read."""

    def __reduce__(self):
        return importlib.import_module, ("no_such_module",)


@pytest.mark.reliability
def test_a_missing_module_is_no_lack_of_memory(tmp_path):
    with pytest.raises(Failed, match="cannot read its task: ModuleNotFoundError: No module named 'no_such_module'"):
        workers.run([Task(name, square, OfAMissingModule(), tmp_path) for name in "ab"], 2)


def test_what_a_worker_cannot_read_or_import_is_named(tmp_path):
    future: Future = Future()
    future.set_exception(BrokenProcessPool("A task has failed to un-serialize."))
    future.exception().__cause__ = Exception('\n"""\nTraceback ...\nModuleNotFoundError: No module named \'x\'\n"""')
    with pytest.raises(Failed, match=r"cannot read its task: ModuleNotFoundError: No module named 'x'$"):
        workers.outcome(future, [])
    for function, reason in (("no_such_module", "absent"), "No module named"), (("math", "absent"), "has no attribute"):
        with pytest.raises(Failed, match=f"cannot import absent from {function[0]}: .*{reason}"):
            workers.call(function, None, tmp_path, {})


GRID = "--function reconstruct --limit 64 --batch_size 8 --hidden_size 4 5 6 --code_size 2 --quiet"


def script(folder, *more, **options):
    argv = [sys.executable, "lstm_ae_toy.py", *GRID.split(), "--output_dir", str(folder), *map(str, more)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.reliability
def test_a_script_in_two_processes_ends_in_one_line_or_promptly(tmp_path):
    """Bad data, and a search that ends: the workers do not keep the process waiting."""
    process = script(tmp_path, "--jobs", 2, "--epochs", 1, "--data", tmp_path / "none.csv", "--input_size", 1)
    output, error = process.communicate(timeout=120)
    assert (process.returncode, output) == (2, "") and error.count("\n") == 1 and "none.csv" in error, error
    process = script(tmp_path, "--jobs", 2, "--epochs", 1)
    while process.poll() is None and not (tmp_path / "reconstruct" / "metrics.json").exists():
        time.sleep(0.01)
    ended = time.monotonic()
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 0
    assert time.monotonic() - ended < 30  # idle workers wait for a minute


# ---- dead workers ----------------------------------------------------------------------------------------------------


class TerminatedWorkerError(Exception):
    """By its name the one of loky."""


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_tasks_of_a_dead_worker_are_tried_again(tmp_path, monkeypatch, deaths):
    """Twice all together, then each alone, so that only the one whose fault it is will be lost."""
    seen, whole = [], workers.together

    def together(tasks, submit, *more):
        seen.append(len(tasks))
        if len(seen) <= deaths:
            return tasks
        return whole(tasks, submit, *more)

    monkeypatch.setattr(workers, "together", together)
    with pytest.warns(UserWarning, match="a worker process died"):
        metrics = fit(tmp_path, hidden_size=[2, 3], jobs=2)
    searched = {1: [2, 2], 2: [2, 2, 1, 1], 3: [2, 2, 1, 1]}[deaths]
    assert seen[: len(searched)] == searched
    lost = [row for row in rows(tmp_path / "grid.csv") if row["status"] != "ok"]
    assert [row["hidden_size"] for row in lost] == (["2"] if deaths == 3 else []) and metrics["epochs"] == 3


def test_a_task_that_follows_when_the_pool_is_broken_is_tried_again(tmp_path, monkeypatch):
    """A worker dies between the end of a task and the beginning of the next one."""
    submitted = []

    def call_then_break(*arguments):
        submitted.append(arguments)
        if len(submitted) == 2:
            raise TerminatedWorkerError
        return get_reusable_executor(reuse=True).submit(workers.call_in_worker, *arguments)

    def then(task, result):
        return [Task("next", square, 5, tmp_path)] if task.name == "first" else ()

    results = {}
    lost = workers.together([Task("first", square, 3, tmp_path)], call_then_break, "loky", then, results)
    assert results == {"first": 9} and [task.name for task in lost] == ["next"]


def test_a_lost_model_that_cannot_be_missed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "together", lambda tasks, *_: tasks)
    with pytest.warns(UserWarning, match="a worker process died"), pytest.raises(WorkerLost, match="died three times"):
        fit(tmp_path, seeds=2, jobs=2)


def train_and_die(settings, folder):
    """The first process that comes to 3 units, and every one that comes to 4, is killed in the second epoch."""
    begun = folder.parent / f"begun{settings.hidden_size}"
    begun.parent.mkdir(parents=True, exist_ok=True)
    first = not begun.exists()
    begun.touch()

    def dying(model, batch):
        dies = settings.hidden_size == 4 or (settings.hidden_size == 3 and first)
        if dies and (folder / "history.csv").exists() and model.training:
            os.kill(os.getpid(), signal.SIGKILL)
        if model.training:
            with open(folder / "batches.txt", "a") as file:
                file.write("batch\n")
        return step(model, batch)

    return train(with_values(settings, checkpoint_every=0.0), folder, dying)


def same_as_undisturbed(folder, whole, sizes, again=0):
    """The combinations have the bits of another search; at most so many batches of each were computed again."""
    for hidden in sizes:
        places = [run / "grid" / f"hidden_size={hidden}" for run in (folder, whole)]
        assert same(*(weights(place / "last.pt") for place in places))
        assert EACH <= len((places[0] / "batches.txt").read_text().splitlines()) <= EACH + again


@pytest.mark.reliability
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_worker_costs_nothing_but_what_it_had_not_saved(tmp_path, count):
    """Its combination is tried again from its checkpoint; one that kills its worker each time is recorded."""
    with pytest.warns(UserWarning, match="a worker process died"):
        metrics = fit(tmp_path / "a", train_and_die, hidden_size=[2, 3, 4], jobs=2)
    whole = fit(tmp_path / "whole", hidden_size=[2, 3])
    assert without_seconds(metrics) == without_seconds(whole)
    status = {row["hidden_size"]: row["status"] for row in rows(tmp_path / "a" / "grid.csv")}
    assert status["2"] == status["3"] == "ok" and "died three times" in status["4"]
    # with a worker of a pool the others are killed, perhaps between a batch and its save
    same_as_undisturbed(tmp_path / "a", tmp_path / "whole", [2, 3], again=4)
    count(3)


# ---- signals ---------------------------------------------------------------------------------------------------------


def stop_in_worker(settings, folder):
    if settings.hidden_size == 3:
        raise Interrupted(signal.SIGTERM, " in a worker")
    return train(settings, folder)


def test_signal_in_a_worker_reaches_the_caller(tmp_path):
    with pytest.raises(Interrupted, match="stopped by SIGTERM in a worker") as caught:
        fit(tmp_path, stop_in_worker, hidden_size=[2, 3], jobs=2)
    assert caught.value.signum == signal.SIGTERM


def train_and_signal(settings, folder):
    """As soon as two combinations train, one of them sends a signal to the process that waits for them."""

    def signalling(model, batch):
        time.sleep(0.01)
        others = list(folder.parent.glob("*/history.csv"))
        if model.training and settings.hidden_size == 2 and len(others) == 2 and not (folder / "sent").exists():
            (folder / "sent").touch()
            os.kill(os.getppid(), signal.SIGTERM)
        return step(model, batch)

    return train(settings, folder, signalling)


def saved_in_the_middle(folder, sizes, epochs):
    """The combinations of the first two sizes saved because of the signal, and nothing was begun after it."""
    folders = [folder / "grid" / f"hidden_size={hidden}" for hidden in sizes]
    return (
        all(0 < checkpoint.load(one / "last.pt")["epoch"] < epochs for one in folders[:2])
        and not (folders[2] / "last.pt").exists()
    )


def test_every_worker_saves_after_a_signal_to_the_search(tmp_path):
    """No checkpoint is due by time: those that are there were written because of the signal."""
    values = {"hidden_size": [2, 3, 4], "epochs": 400, "checkpoint_every": 1000.0}
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM in epoch .*--resume goes on"):
        fit(tmp_path, train_and_signal, jobs=2, **values)
    assert saved_in_the_middle(tmp_path, (2, 3, 4), 400)


@pytest.mark.reliability
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_script_lets_every_worker_save(tmp_path, count, signum):
    """The same from outside, to the script as it is started from a shell; Ctrl-C goes to all its processes."""
    process = script(
        tmp_path, "--jobs", 2, "--epochs", 40, "--batch_size", 2, "--checkpoint_every", 1000, start_new_session=True
    )
    folders = [tmp_path / "reconstruct" / "grid" / f"hidden_size={hidden}" for hidden in (4, 5)]
    while process.poll() is None and not all((folder / "history.csv").exists() for folder in folders):
        time.sleep(0.05)
    os.killpg(process.pid, signum) if signum == signal.SIGINT else process.send_signal(signum)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signum and error.count("\n") == 1, error
    assert f"stopped by {signum.name} in epoch" in error and saved_in_the_middle(
        tmp_path / "reconstruct", (4, 5, 6), 40
    )
    count(2)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    """Killed, it cannot tell them."""
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}\n"
        "import test_workers as t; from pathlib import Path\n"
        "tasks = [t.Task(str(k), t.fail_or_sleep, None, Path(sys.argv[1])) for k in (0, 1)]\n"
        "t.workers.run(tasks, 2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while process.poll() is None and len(list(tmp_path.glob("*.pid"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    deadline = time.monotonic() + 30
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2 and not any(map(running, pids))


# ---- clusters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [UsageError, DataError, Failed, OSError, TypeError])
def test_a_task_on_a_cluster_returns_what_ends_a_run_with_one_line(monkeypatch, ends):
    """Raised there, Dask would log it with a traceback, which is for the errors of the program."""
    error = ends("one line")

    def call(*arguments, worker):
        raise error

    monkeypatch.setattr(workers, "call", call)
    if ends is TypeError:
        with pytest.raises(TypeError):
            workers.call_on_cluster(1)
    else:
        assert workers.call_on_cluster(1) == workers.Ended(error)


@pytest.mark.reliability
def test_a_cluster_of_two_processes_one_of_which_is_killed(tmp_path, count):
    """Dask: two worker processes of the same machine as a cluster; the search ends as if nothing had happened."""
    distributed = pytest.importorskip("distributed")
    sizes = [2, 3, 5, 6, 7, 8]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cluster's own ports and loops
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment, silence_logs=50
        )
        with cluster:
            address = cluster.scheduler_address
            metrics = fit(tmp_path / "a", train_and_die, hidden_size=sizes, backend="dask", scheduler=address)
    whole = fit(tmp_path / "whole", hidden_size=sizes)
    assert without_seconds(metrics) == without_seconds(whole)
    assert (tmp_path / "a" / "grid" / "begun3").exists()
    same_as_undisturbed(tmp_path / "a", tmp_path / "whole", sizes)
    count(len(sizes))
