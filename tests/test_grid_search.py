"""Grids, seeds and several models: the right one is kept, tested once, and the number of processes changes nothing."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import pytest
import torch
from conftest import SCRIPT, make_request, make_settings
from joblib.externals.loky import get_reusable_executor
from torch import nn
from torch.utils.data import TensorDataset

from lstm_studies.training import checkpoint, flags, grid_search, loop, tables, workers
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.loop import Diverged
from lstm_studies.training.presets import with_values
from lstm_studies.training.run import prepare_process
from lstm_studies.training.signals import Interrupted
from lstm_studies.training.workers import WorkerLost

pytestmark = pytest.mark.usefixtures("no_flush")


class Line(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.arguments = {"hidden": hidden}
        self.layers = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Dropout(0.2), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.layers(x)


def points(seed, size):
    x = torch.randn(size, 2, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.prod(1, keepdim=True))


TRAINING, VALIDATION, TEST = points(0, 8), points(1, 6), points(2, 6)
CALLS = []  # of this process: ("batch" | "test", flags) one by one
STOP_AT = []  # numbers of training batches, counted in CALLS, at which the process gets a signal


def step(model, batch):
    x, y = batch
    loss = (model(x) - y).square().mean()
    return {"loss": loss, "closeness": -loss}


def train_model(settings, folder, monitor="loss", maximise=False):
    """One training; a learning rate above 1e3 gives a loss that is not finite, from the arithmetic itself."""

    def counted(model, batch):
        if model.training:
            CALLS.append(("batch", settings))
            if len(CALLS) in STOP_AT:
                signal.raise_signal(signal.SIGTERM)
        return step(model, batch)

    return loop.train(Line(settings.hidden_size), counted, TRAINING, VALIDATION, settings, folder, monitor, maximise)


def train_maximising(settings, folder):
    return train_model(settings, folder, "closeness", True)


def check_model(settings, folder):
    CALLS.append(("test", settings))
    model = checkpoint.rebuild(folder / "best.pt", Line)
    loss = loop.evaluate(model, step, TEST, settings)["loss"]
    return {"test_mse": loss, "hidden": model.arguments["hidden"], "rate": settings.learning_rate, "data": "generated"}


@pytest.fixture(autouse=True)
def fresh_calls():
    CALLS.clear()
    STOP_AT.clear()


def grid_request(**values):
    return make_request(
        **{"hidden_size": [3], "learning_rate": [0.05], "gradient_clipping": [1.0], "optimizer": "SGD", **values}
    )


def fit(folder, train=train_model, **values):
    """As `run.run` would have it done."""
    folder.mkdir(exist_ok=True)
    request = grid_request(**values)
    prepare_process(request)
    return grid_search.fit(request, folder, train, check_model)


def settings_of_tests():
    return [settings for kind, settings in CALLS if kind == "test"]


def batches_made():
    return sum(kind == "batch" for kind, _ in CALLS)


def grid(folder):
    with open(folder / "grid.csv", newline="") as file:
        return list(csv.DictReader(file))


def weights(path):
    return checkpoint.load(path)["model"]["weights"]


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def without_seconds(row):
    return {name: value for name, value in row.items() if not name.startswith("seconds")}


BATCHES = 3 * 2  # of one training


# ---- combinations ----------------------------------------------------------------------------------------------------


def test_combinations_by_hand():
    request = grid_request(hidden_size=[8, 16], learning_rate=[0.1, 0.01, 0.1], gradient_clipping=[1.0], seed=7)
    combinations = request.combinations()
    assert [(c.hidden_size, c.learning_rate, c.gradient_clipping) for c in combinations] == [
        (8, 0.1, 1.0),
        (8, 0.01, 1.0),
        (16, 0.1, 1.0),
        (16, 0.01, 1.0),
    ]
    assert all(c.seed == 7 and c.epochs == request.epochs for c in combinations)
    assert request.hidden_size == [8, 16] and request.varied() == ["hidden_size", "learning_rate"]
    assert request.single() == combinations[0]


def test_combinations_with_a_flag_of_the_task():
    request = grid_request(gradient_clipping=[1.0, 5.0], epsilon=[0.5, 1.0])
    pairs = [(c.gradient_clipping, c.epsilon) for c in request.combinations()]
    assert pairs == [(1.0, 0.5), (1.0, 1.0), (5.0, 0.5), (5.0, 1.0)]


# ---- one model -------------------------------------------------------------------------------------------------------


def test_one_combination_is_trained_and_tested(tmp_path):
    metrics = fit(tmp_path, seed=2)
    assert len(settings_of_tests()) == 1 and batches_made() == BATCHES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "history.csv", "last.pt"]
    assert list(metrics)[:4] == ["seed", "epochs", "best_epoch", "seconds"]
    assert metrics["seed"] == 2 and metrics["epochs"] == 3 and metrics["hidden"] == 3
    losses = [row["val_loss"] for row in tables.read_table(tmp_path / "history.csv")]
    assert metrics["best_epoch"] == 1 + losses.index(min(losses))
    model = checkpoint.rebuild(tmp_path / "best.pt", Line)
    assert metrics["test_mse"] == loop.evaluate(model, step, TEST, make_settings())["loss"]
    json.dumps(metrics)


def test_divergence_of_one_model_is_an_error(tmp_path):
    with pytest.raises(Diverged):
        fit(tmp_path, learning_rate=[1e30], gradient_clipping=[0.0])


# ---- a grid ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [train_model, train_maximising])
def test_grid_is_sorted_and_the_winner_kept(tmp_path, train):
    metrics = fit(tmp_path, train, hidden_size=[2, 3], learning_rate=[1e-5, 0.3, 1e-3], epochs=4)
    rows = grid(tmp_path)
    names = ["hidden_size", "learning_rate", "score", "best_epoch", "epochs", "seconds", "status"]
    assert [list(row) for row in rows] == [names] * 6
    assert all(row["status"] == "ok" and row["epochs"] == "4" for row in rows)
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=train is train_maximising) and len(set(scores)) == 6
    for row in rows:  # the score is that of the combination's own history
        name = f"hidden_size={row['hidden_size']},learning_rate={row['learning_rate']}"
        history = tables.read_table(tmp_path / "grid" / name / "history.csv")
        losses = [line["val_loss"] for line in history]
        assert abs(float(row["score"])) == min(losses) and int(row["best_epoch"]) == 1 + losses.index(min(losses))
    best = f"hidden_size={rows[0]['hidden_size']},learning_rate={rows[0]['learning_rate']}"
    for file in ("best.pt", "last.pt", "history.csv"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "grid" / best / file).read_bytes()
    # once, with the winner's flags, and without training it again
    (flags,) = settings_of_tests()
    assert (flags.hidden_size, flags.learning_rate) == (int(rows[0]["hidden_size"]), float(rows[0]["learning_rate"]))
    assert batches_made() == 6 * 4 * 2
    assert metrics["rate"] == flags.learning_rate and metrics["hidden"] == flags.hidden_size
    assert metrics["best_epoch"] == int(rows[0]["best_epoch"]) and metrics["epochs"] == 4


def test_a_combination_is_trained_as_if_it_were_alone(tmp_path):
    fit(tmp_path / "grid", hidden_size=[2, 3])
    for hidden in (2, 3):
        alone = tmp_path / str(hidden)
        fit(alone, hidden_size=[hidden])
        in_grid = tmp_path / "grid" / "grid" / f"hidden_size={hidden}"
        assert equal(weights(alone / "last.pt"), weights(in_grid / "last.pt"))
        assert (alone / "history.csv").read_bytes() == (in_grid / "history.csv").read_bytes()


def test_diverged_combination_is_recorded(tmp_path):
    metrics = fit(tmp_path, learning_rate=[1e30, 0.05, 1e-5], gradient_clipping=[0.0])
    rows = grid(tmp_path)
    assert [row["learning_rate"] for row in rows] == ["0.05", "1e-05", "1e+30"]
    assert [row["status"] for row in rows[:2]] == ["ok", "ok"] and metrics["rate"] == 0.05
    assert rows[2]["status"].startswith("diverged: the loss is ") and "epoch 1, batch 2" in rows[2]["status"]
    assert rows[2]["score"] == "nan" and rows[2]["epochs"] == "0"
    assert math.isnan(tables.read_table(tmp_path / "grid.csv")[2]["score"])


def test_all_combinations_diverge(tmp_path):
    with pytest.raises(Diverged, match=r"every combination .* diverged: .*learning rate"):
        fit(tmp_path, learning_rate=[1e30, 1e31], gradient_clipping=[0.0])
    assert not (tmp_path / "best.pt").exists() and settings_of_tests() == []


def test_grid_with_more_threads(tmp_path):
    """Combinations run with one thread each; the winner is reloaded by a process that may have more."""
    try:
        assert fit(tmp_path, hidden_size=[2, 3], threads=2)["epochs"] == 3
    finally:
        torch.set_num_threads(1)


def test_new_grid_forgets_the_old_one(tmp_path):
    fit(tmp_path, hidden_size=[2, 3])
    fit(tmp_path, hidden_size=[3, 4])
    assert sorted(p.name for p in (tmp_path / "grid").iterdir()) == ["hidden_size=3", "hidden_size=4"]


@pytest.mark.parametrize("at", [1, BATCHES, BATCHES + 3, 3 * BATCHES - 1])
def test_interrupted_grid_goes_on(tmp_path, at):
    values = {"hidden_size": [2, 3, 4], "checkpoint_every": 30.0}
    whole = fit(tmp_path / "whole", **values)
    CALLS.clear()
    STOP_AT.append(at)
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", **values)
    assert batches_made() == at
    STOP_AT.clear()
    metrics = fit(tmp_path / "a", resume=True, **values)
    assert batches_made() == 3 * BATCHES  # none twice
    assert without_seconds(metrics) == without_seconds(whole)
    assert list(map(without_seconds, grid(tmp_path / "a"))) == list(map(without_seconds, grid(tmp_path / "whole")))
    assert equal(weights(tmp_path / "a" / "best.pt"), weights(tmp_path / "whole" / "best.pt"))


# ---- seeds -----------------------------------------------------------------------------------------------------------


def test_seeds_by_hand(tmp_path):
    alone = [fit(tmp_path / str(seed), seed=seed) for seed in (5, 6, 7)]
    metrics = fit(tmp_path / "all", seed=5, seeds=3)
    values = [m["test_mse"] for m in alone]
    mean = sum(values) / 3
    assert len(set(values)) == 3 and metrics["test_mse_mean"] == pytest.approx(mean, rel=1e-12)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)  # of a sample
    assert metrics["test_mse_std"] == pytest.approx(deviation, rel=1e-9)
    assert metrics["test_mse"] == values[0] and metrics["seed"] == 5 and metrics["seeds"] == 3
    assert metrics["data"] == "generated" and "data_mean" not in metrics and "hidden_mean" not in metrics
    assert equal(weights(tmp_path / "all" / "best.pt"), weights(tmp_path / "5" / "best.pt"))
    assert sorted(p.name for p in (tmp_path / "all" / "seeds").iterdir()) == ["5", "6", "7"]


def test_grid_then_seeds(tmp_path):
    metrics = fit(tmp_path, learning_rate=[1e-5, 0.3], seeds=2)
    assert [flags.seed for flags in settings_of_tests()] == [0, 1]
    assert all(flags.learning_rate == float(grid(tmp_path)[0]["learning_rate"]) for flags in settings_of_tests())
    assert metrics["seeds"] == 2 and "test_mse_std" in metrics


# ---- without training ------------------------------------------------------------------------------------------------


def test_dry_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"--dry_run: no trained model at .*best\.pt"):
        fit(tmp_path, dry_run=True)
    trained = fit(tmp_path, hidden_size=[2, 3])
    files = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    CALLS.clear()
    metrics = fit(tmp_path, hidden_size=[2, 3], dry_run=True)
    assert [kind for kind, _ in CALLS] == ["test"]
    assert metrics["test_mse"] == trained["test_mse"]
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()} == files


# ---- several models --------------------------------------------------------------------------------------------------


def two_runs(**values):
    return {
        "narrow": grid_request(hidden_size=[2], **values),
        "wide": grid_request(hidden_size=[5], epochs=2, **values),
    }


def test_several_models(tmp_path):
    metrics = grid_search.fit_many(two_runs(), tmp_path, train_model, check_model)
    assert list(metrics) == ["narrow", "wide"]
    assert metrics["narrow"]["hidden"] == 2 and metrics["wide"]["hidden"] == 5 and len(settings_of_tests()) == 2
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], float(row["epoch"])) for row in rows] == [
        ("narrow", 1),
        ("narrow", 2),
        ("narrow", 3),
        ("wide", 1),
        ("wide", 2),
    ]
    for name in ("narrow", "wide"):
        own = tables.read_table(tmp_path / name / "history.csv")
        assert [float(row["val_loss"]) for row in rows if row["model"] == name] == [row["val_loss"] for row in own]
        assert (tmp_path / name / "best.pt").exists()
    assert not (tmp_path / "best.pt").exists()


def test_a_single_model_has_no_folder_of_its_own(tmp_path):
    metrics = grid_search.fit_many({"only": grid_request()}, tmp_path, train_model, check_model)
    assert list(metrics) == ["only"] and (tmp_path / "best.pt").exists() and not (tmp_path / "only").exists()
    assert "model" not in tables.read_table(tmp_path / "history.csv")[0]
    assert grid_search.model_folders(["only"], tmp_path) == {"only": tmp_path}
    assert grid_search.model_folders(["a", "b"], tmp_path) == {"a": tmp_path / "a", "b": tmp_path / "b"}


# ---- processes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool():
    yield
    get_reusable_executor().shutdown(wait=True)


def test_two_processes_give_the_same_results(tmp_path, pool):
    results = {}
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        metrics = fit(folder, learning_rate=[1e30, 0.05, 0.3], gradient_clipping=[0.0], seeds=2, jobs=jobs)
        several = grid_search.fit_many(two_runs(jobs=jobs), folder / "several", train_model, check_model)
        results[jobs] = (
            without_seconds(metrics),
            list(map(without_seconds, grid(folder))),
            {name: without_seconds(values) for name, values in several.items()},
            (folder / "several" / "history.csv").read_bytes(),
            (folder / "history.csv").read_bytes(),
            {p.relative_to(folder): weights(p).values() for p in sorted(folder.rglob("*.pt"))},
        )
    one, two = results[1], results[2]
    assert one[:5] == two[:5] and list(one[5]) == list(two[5]) and len(one[5]) > 10
    for path, tensors in one[5].items():
        assert all(map(torch.equal, tensors, two[5][path])), path


def fail_in_worker(settings, folder):
    if settings.hidden_size == 3:
        raise Interrupted(signal.SIGTERM, " in a worker")
    return train_model(settings, folder)


def test_signal_in_a_worker_reaches_the_caller(tmp_path, pool):
    with pytest.raises(Interrupted, match="stopped by SIGTERM in a worker") as caught:
        fit(tmp_path, fail_in_worker, hidden_size=[2, 3], jobs=2)
    assert caught.value.signum == signal.SIGTERM


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

    often = with_values(settings, checkpoint_every=0.0)
    return loop.train(Line(settings.hidden_size), dying, TRAINING, VALIDATION, often, folder)


class TerminatedWorkerError(Exception):
    """By its name the one of loky."""


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_tasks_of_a_dead_worker_are_tried_again(tmp_path, monkeypatch, deaths):
    """Twice all together, then each alone, so that only the one whose fault it is will be lost."""
    seen = []

    def together(arguments, backend, jobs):
        seen.append(len(arguments))
        if len(seen) <= deaths:
            raise TerminatedWorkerError
        return [workers.call(*own) for own in arguments]

    monkeypatch.setattr(workers, "together", together)
    with pytest.warns(UserWarning, match="a worker process died"):
        metrics = fit(tmp_path, hidden_size=[2, 3], jobs=2)
    assert seen == {1: [2, 2], 2: [2, 2, 1, 1], 3: [2, 2, 1, 1]}[deaths]
    lost = [row for row in grid(tmp_path) if row["status"] != "ok"]
    assert [row["hidden_size"] for row in lost] == (["2"] if deaths == 3 else []) and metrics["epochs"] == 3


@pytest.mark.reliability
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_worker_costs_nothing_but_what_it_had_not_saved(tmp_path, pool, count):
    """Its combination is tried again from its checkpoint; one that kills its worker each time is recorded."""
    with pytest.warns(UserWarning, match="a worker process died"):
        metrics = fit(tmp_path / "a", train_and_die, hidden_size=[2, 3, 4], jobs=2)
    whole = fit(tmp_path / "whole", hidden_size=[2, 3])
    assert without_seconds(metrics) == without_seconds(whole)
    status = {row["hidden_size"]: row["status"] for row in grid(tmp_path / "a")}
    assert status["2"] == status["3"] == "ok" and "died three times" in status["4"]
    for hidden in (2, 3):
        folders = [tmp_path / run / "grid" / f"hidden_size={hidden}" for run in ("a", "whole")]
        assert equal(*(weights(folder / "last.pt") for folder in folders))
        assert len((folders[0] / "batches.txt").read_text().splitlines()) == BATCHES  # none twice
    count(3)


def test_a_lost_model_that_cannot_be_missed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "run", lambda *_, **__: [WorkerLost("its worker process died")])
    with pytest.raises(WorkerLost):
        fit(tmp_path, seeds=2)


def train_and_signal(settings, folder):
    """As soon as two combinations train, one of them sends a signal to the process that waits for them."""

    def signalling(model, batch):
        time.sleep(0.01)
        others = list(folder.parent.glob("*/history.csv"))
        if model.training and settings.hidden_size == 2 and len(others) == 2 and not (folder / "sent").exists():
            (folder / "sent").touch()
            os.kill(os.getppid(), signal.SIGTERM)
        return step(model, batch)

    return loop.train(Line(settings.hidden_size), signalling, TRAINING, VALIDATION, settings, folder)


def test_every_worker_saves_after_a_signal_to_the_search(tmp_path, pool):
    """No checkpoint is due by time: those that are there were written because of the signal."""
    values = {"hidden_size": [2, 3, 4], "epochs": 400, "checkpoint_every": 1000.0}
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM in epoch .*--resume goes on"):
        fit(tmp_path, train_and_signal, jobs=2, **values)
    folders = [tmp_path / "grid" / f"hidden_size={hidden}" for hidden in (2, 3, 4)]
    places = [checkpoint.load(folder / "last.pt") for folder in folders[:2]]
    assert all(0 < place["epoch"] < 400 for place in places)
    assert not folders[2].exists()  # nothing was begun after the signal


SLOW = "--function reconstruct --limit 64 --epochs 40 --batch_size 2 --hidden_size 4 5 6 --code_size 2 --quiet".split()


@pytest.mark.reliability
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_a_signal_to_the_script_lets_every_worker_save(tmp_path, count):
    """The same from outside, to the script as it is started from a shell."""
    script = Path(__file__).parent.parent / "lstm_ae_toy.py"
    argv = [*SLOW, "--jobs", "2", "--checkpoint_every", "1000", "--output_dir", str(tmp_path)]
    search = subprocess.Popen([sys.executable, script, *argv], stderr=subprocess.PIPE, text=True)
    folders = [tmp_path / "reconstruct" / "grid" / f"hidden_size={hidden}" for hidden in (4, 5, 6)]
    while search.poll() is None and not all((folder / "history.csv").exists() for folder in folders[:2]):
        time.sleep(0.05)
    search.send_signal(signal.SIGTERM)
    error = search.communicate(timeout=120)[1]
    assert search.returncode == 143 and error.count("\n") == 1 and "stopped by SIGTERM in epoch" in error, error
    places = [checkpoint.load(folder / "last.pt") for folder in folders[:2]]
    assert all(0 < place["epoch"] < 40 for place in places) and not folders[2].exists()
    count(2)


def test_a_diverged_combination_is_not_tried_again(tmp_path):
    values = {"learning_rate": [1e30, 0.05], "gradient_clipping": [0.0]}
    first = fit(tmp_path, **values)
    CALLS.clear()
    again = fit(tmp_path, resume=True, **values)
    assert batches_made() == 0 and without_seconds(again) == without_seconds(first)
    assert grid(tmp_path)[1]["status"].startswith("diverged: the loss is ")


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_whose_package_is_missing(capsys, monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match="2"):
        flags.parse(SCRIPT, ["--backend", backend])
    assert f"pip install {module}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        flags.parse(SCRIPT, ["--scheduler", "localhost:8786"])
    assert "--scheduler: used with --backend dask or ray only" in capsys.readouterr().err


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
    for hidden in sizes:
        folders = [tmp_path / run / "grid" / f"hidden_size={hidden}" for run in ("a", "whole")]
        assert equal(*(weights(folder / "last.pt") for folder in folders))
        assert len((folders[0] / "batches.txt").read_text().splitlines()) == BATCHES
        count(1)


@pytest.mark.parametrize("ends", [workers.UsageError, workers.DataError, workers.Failed, OSError, TypeError])
def test_a_task_on_dask_returns_what_ends_a_run_with_one_line(monkeypatch, ends):
    """Raised there, Dask would log it with a traceback, which is for the errors of the program."""
    error = ends("one line")

    def call(*own, worker):
        raise error

    monkeypatch.setattr(workers, "call", call)
    if ends is TypeError:
        with pytest.raises(TypeError):
            workers.call_on_dask(1)
    else:
        assert workers.call_on_dask(1) is error


def test_what_ends_a_task_on_dask_ends_the_search(monkeypatch):
    client = types.SimpleNamespace(submit=lambda function, *own, pure: own, gather=lambda results: [0, OSError("full")])
    monkeypatch.setitem(sys.modules, "distributed", types.SimpleNamespace(get_client=lambda: client))
    with pytest.raises(OSError, match="full"):
        workers.on_dask([(1,), (2,)])


def test_functions_of_a_script_are_found_by_its_name(monkeypatch):
    script = types.ModuleType("__main__")
    script.__file__ = str(Path("some") / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(check_model, "__module__", "__main__")
    assert workers.importable(check_model) == ("script", "check_model")
    assert workers.importable(train_model) == (__name__, "train_model")


# ---- a score of its own ----------------------------------------------------------------------------------------------


def train_on_everything(settings, folder):
    return loop.train(Line(settings.hidden_size), step, TRAINING, None, settings, folder)


def score_by_width(settings, folder):
    """The nearer to 4 the better; leaves a history alone, as a cross-validation does."""
    CALLS.append(("score", settings))
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_csv(folder / "history.csv", [{"epoch": 1, "val_loss": 9.0}])
    return loop.Result(-abs(settings.hidden_size - 4), True, 3, 3, 1.0)


@pytest.mark.parametrize("sizes", [[2, 5, 9], [5]])
def test_a_score_of_its_own_chooses_and_the_model_is_trained_anew(tmp_path, sizes):
    flags = grid_request(hidden_size=sizes)
    metrics = grid_search.fit(flags, tmp_path, train_on_everything, check_model, score=score_by_width)
    assert [kind for kind, _ in CALLS] == ["score"] * len(sizes) + ["test"]
    assert metrics["hidden"] == 5 and metrics["epochs"] == metrics["best_epoch"] == 3
    assert [float(row["score"]) for row in grid(tmp_path)] == [-1.0, -2.0, -5.0][: len(sizes)]
    assert "val_loss" not in tables.read_table(tmp_path / "history.csv")[0]
    again = grid_search.fit(
        grid_request(hidden_size=sizes, dry_run=True), tmp_path, train_on_everything, check_model, score=score_by_width
    )
    assert again["test_mse"] == metrics["test_mse"] and again["hidden"] == 5


def test_a_score_of_its_own_for_several_models_and_seeds(tmp_path):
    runs = {"a": grid_request(hidden_size=[5, 2], seeds=2), "b": grid_request(hidden_size=[9], seeds=2)}
    metrics = grid_search.fit_many(runs, tmp_path, train_on_everything, check_model, score=score_by_width)
    assert {name: (found["hidden"], found["seeds"]) for name, found in metrics.items()} == {"a": (5, 2), "b": (9, 2)}


def test_a_new_run_with_fewer_seeds_forgets_the_others(tmp_path):
    fit(tmp_path, seeds=3)
    fit(tmp_path, seeds=2)
    assert sorted(path.name for path in (tmp_path / "seeds").iterdir()) == ["0", "1"]


def diverge(settings, folder):
    raise Diverged("the loss is nan")


def test_a_score_that_diverges_before_it_has_a_folder(tmp_path):
    with pytest.raises(Diverged, match="every combination"):
        grid_search.fit(grid_request(), tmp_path, train_on_everything, check_model, score=diverge)
    assert (tmp_path / "grid" / "diverged.txt").read_text() == "diverged: the loss is nan"
