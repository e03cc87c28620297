"""Several values per flag: every combination is trained, the best on validation data is kept, tested and plotted.

Combinations and seeds run in parallel processes (`--jobs`), one thread each: for models of this size that is faster
than several threads in one process.
"""

import argparse
import importlib
import itertools
import math
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import joblib

import checkpoint
from checkpoint import CheckpointError
from experiment import Diverged, Result, prepare_process, read_table, write_csv

GRID_FLAGS = ("hidden_size", "learning_rate", "gradient_clipping")
Train = Callable[[argparse.Namespace, Path], Result]  # trains, leaves best.pt in the folder
Test = Callable[[argparse.Namespace, Path], dict]  # reads best.pt, returns metrics of the test data


def fit(
    flags: argparse.Namespace, folder: Path, train: Train, test: Test, extra: tuple[str, ...] = (),
    score: Train | None = None,
) -> dict:  # fmt: skip
    """Trains what the flags ask for and tests it once: one model, a grid, several seeds, or both.

    Args:
        folder: gets the chosen model's `best.pt`, `last.pt` and `history.csv`, and `grid.csv` if there was a grid.
        train, test: functions at the top level of a module, so that other processes can import them.
        extra: flags besides GRID_FLAGS that may have several values.
        score: what gives a combination its score, such as a cross-validation, if that is not `train` itself. It scores
            a single combination, too, and the chosen one is trained anew.

    Returns:
        The metrics of `test` and of the training; with several seeds also `<key>_mean` and `<key>_std`.
    """
    candidates = combinations(flags, extra)
    if flags.dry_run:
        chosen = as_trained(candidates[0], folder, (*GRID_FLAGS, *extra))
        return repeat(chosen, folder, train, test) if flags.seeds > 1 else train_and_test(chosen, folder, train, test)
    searches = len(candidates) > 1 or score is not None
    for stale, used in (("grid.csv", searches), ("grid", searches), ("seeds", flags.seeds > 1)):
        if not used:
            remove(folder / stale)
    chosen = search(candidates, folder, score or train, extra) if searches else candidates[0]
    if flags.seeds > 1:
        return repeat(chosen, folder, train, test)
    if not searches or score is not None:
        return train_and_test(chosen, folder, train, test)
    # trained already, with one thread (see `call`): reload
    return train_and_test(with_values(chosen, resume=True, threads=1), folder, train, test)


def fit_many(
    runs: dict[str, argparse.Namespace], folder: Path, train: Train, test: Test, extra: tuple[str, ...] = (),
    score: Train | None = None,
) -> dict[str, dict]:  # fmt: skip
    """`fit` for several named models, in parallel processes; each in a folder of its name, their histories together.

    A single run has no folder of its own: its files stand in `folder`.
    """
    folders = model_folders(runs, folder)
    jobs = next(iter(runs.values())).jobs
    tasks = [(with_values(flags, jobs=1) if len(runs) > 1 else flags, folders[name]) for name, flags in runs.items()]
    if len(runs) == 1:
        return {name: fit(*tasks[0], train, test, extra, score) for name in runs}
    functions = {"train": train, "test": test, "score": score}
    metrics = dict(zip(runs, parallel(fit, tasks, functions, min(jobs, len(runs)), extra=extra), strict=True))
    rows = [{"model": n, **row} for n, f in folders.items() for row in read_table(f / "history.csv")]
    write_csv(folder / "history.csv", rows)
    return metrics


def model_folders(runs: Iterable[str], folder: Path) -> dict[str, Path]:
    """Where the files of each named model are."""
    names = list(runs)
    return {name: folder if len(names) == 1 else folder / name for name in names}


def with_values(flags: argparse.Namespace, **values) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(flags), **values})


def combinations(flags: argparse.Namespace, extra: tuple[str, ...] = ()) -> list[argparse.Namespace]:
    """One namespace per combination of the grid flags' values, each with one value per flag."""
    names = [*GRID_FLAGS, *extra]
    lists = [list(dict.fromkeys(getattr(flags, name))) for name in names]
    return [with_values(flags, **dict(zip(names, values, strict=True))) for values in itertools.product(*lists)]


def single(flags: argparse.Namespace, extra: tuple[str, ...] = ()) -> argparse.Namespace:
    """The first combination: for uses in which the grid flags do not matter."""
    return combinations(flags, extra)[0]


def search(
    candidates: list[argparse.Namespace], folder: Path, train: Train, extra: tuple[str, ...]
) -> argparse.Namespace:
    """Trains all candidates, writes `grid.csv` (best first), and copies the best one's files up into `folder`."""
    varied = [n for n in (*GRID_FLAGS, *extra) if len({getattr(c, n) for c in candidates}) > 1]
    names = [",".join(f"{n}={getattr(c, n)}" for n in varied) for c in candidates]
    if not candidates[0].resume:
        shutil.rmtree(folder / "grid", ignore_errors=True)
    tasks = [(c, folder / "grid" / name) for c, name in zip(candidates, names, strict=True)]
    results = parallel(train_or_diverge, tasks, {"train": train}, candidates[0].jobs)
    rows = []
    for candidate, result in zip(candidates, results, strict=True):
        values = {n: getattr(candidate, n) for n in varied}
        if isinstance(result, str):
            rows.append({**values, "score": math.nan, "best_epoch": 0, "epochs": 0, "seconds": 0.0, "status": result})
        else:
            row = {"score": result.score, "best_epoch": result.best_epoch, "epochs": result.epochs}
            rows.append({**values, **row, "seconds": round(result.seconds, 1), "status": "ok"})
    kept = [r for r in results if not isinstance(r, str)]
    if not kept:
        raise Diverged(f"every combination of the grid diverged, the first one: {results[0]}")
    sign = -1 if kept[0].maximise else 1
    order = sorted(range(len(rows)), key=lambda i: (math.isnan(rows[i]["score"]), sign * rows[i]["score"]))
    write_csv(folder / "grid.csv", [rows[i] for i in order])
    best = order[0]
    if (folder / "grid" / names[best] / "best.pt").exists():  # a cross-validation leaves no model
        copy_up(folder / "grid" / names[best], folder)
    return candidates[best]


def repeat(flags: argparse.Namespace, folder: Path, train: Train, test: Test) -> dict:
    """Trains with `flags.seeds` seeds; the first seed's files stand in `folder`, mean and std of all in the metrics."""
    runs = [with_values(flags, seed=flags.seed + i) for i in range(flags.seeds)]
    if not (flags.resume or flags.dry_run):
        remove(folder / "seeds")
    tasks = [(run, folder / "seeds" / str(run.seed)) for run in runs]
    results = parallel(train_and_test, tasks, {"train": train, "test": test}, flags.jobs)
    if not flags.dry_run:
        copy_up(tasks[0][1], folder)
    metrics = dict(results[0])
    for key, value in results[0].items():
        if isinstance(value, float):
            values = [r[key] for r in results]
            metrics[f"{key}_mean"], metrics[f"{key}_std"] = statistics.mean(values), statistics.stdev(values)
    return {**metrics, "seeds": flags.seeds}


def copy_up(source: Path, folder: Path) -> None:
    """The files of the model that stands for all."""
    for file in ("best.pt", "last.pt", "history.csv"):
        checkpoint.write_atomically(folder / file, (source / file).read_bytes())


def remove(path: Path) -> None:
    """What an earlier run left."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def trained(folder: Path) -> dict:
    """For `--dry_run`: the last checkpoint of the training in `folder`."""
    saved = checkpoint.load_latest(folder / "last.pt")
    if saved is None or not (folder / "best.pt").exists():
        raise CheckpointError(f"--dry_run: no trained model at {folder / 'best.pt'}; run once without --dry_run")
    return saved


def as_trained(flags: argparse.Namespace, folder: Path, names: tuple[str, ...]) -> argparse.Namespace:
    """The flags with the values that a grid chose for the model in `folder`."""
    saved = trained(folder)["flags"]
    return with_values(flags, **{name: saved[name] for name in names})


def train_and_test(flags: argparse.Namespace, folder: Path, train: Train, test: Test) -> dict:
    if flags.dry_run:
        saved = trained(folder)
        epochs, best_epoch, seconds = saved["epoch"], saved["best_epoch"], saved["seconds"]
    else:
        _, _, best_epoch, epochs, seconds = train(flags, folder)
    training = {"seed": flags.seed, "epochs": epochs, "best_epoch": best_epoch, "seconds": round(seconds, 1)}
    return {**training, **test(flags, folder)}


def train_or_diverge(flags: argparse.Namespace, folder: Path, train: Train) -> Result | str:
    try:
        return train(flags, folder)
    except Diverged as error:
        return f"diverged: {error}"


def parallel(
    function: Callable, tasks: list[tuple[argparse.Namespace, Path]], others: dict[str, Callable | None], jobs: int,
    **more,
) -> list:  # fmt: skip
    """`function(flags, folder, **others, **more)` for every task, in `jobs` processes of one thread each, in order.

    `others` are functions of a script: they are sent by name, since a script's own module is not importable as such.
    """
    names = {key: importable(other) for key, other in others.items() if other is not None}
    calls = [joblib.delayed(call)(function.__name__, flags, folder, names, more, jobs > 1) for flags, folder in tasks]
    return joblib.Parallel(n_jobs=jobs, backend="loky")(calls)


def importable(function: Callable) -> tuple[str, str]:
    """Module and name under which another process finds the function, also if this one runs its script."""
    module = function.__module__
    if module == "__main__":
        module = Path(sys.modules[module].__file__).stem
    return module, function.__name__


def call(function: str, flags: argparse.Namespace, folder: Path, names: dict, more: dict, worker: bool):
    """What a process does with one task: it finds the functions by their names and sets itself up for the flags."""
    flags = with_values(flags, threads=1, quiet=flags.quiet or worker)
    prepare_process(flags)
    others = {key: getattr(importlib.import_module(module), name) for key, (module, name) in names.items()}
    return globals()[function](flags, folder, **others, **more)
