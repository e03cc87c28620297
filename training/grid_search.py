"""Several values per flag: every combination is trained, the best on validation data is kept, tested and plotted.

Combinations and seeds run in parallel processes (`--jobs`), one thread each: for models of this size that is faster
than several threads in one process.
"""

import argparse
import itertools
import math
import shutil
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

from training import checkpoint, workers
from training.checkpoint import CheckpointError
from training.loop import Diverged, Result
from training.tables import read_table, write_csv
from training.workers import WorkerLost

GRID_FLAGS = ("hidden_size", "learning_rate", "gradient_clipping")
Train = Callable[[argparse.Namespace, Path], Result]  # trains, leaves best.pt in the folder
Test = Callable[[argparse.Namespace, Path], dict]  # reads best.pt, returns metrics of the test data


def fit(
    flags: argparse.Namespace,
    folder: Path,
    train: Train,
    test: Test,
    extra: tuple[str, ...] = (),
    score: Train | None = None,
) -> dict:
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
    # trained already, with one thread (see `workers.call`): reload
    return train_and_test(with_values(chosen, resume=True, threads=1), folder, train, test)


def fit_many(
    runs: dict[str, argparse.Namespace],
    folder: Path,
    train: Train,
    test: Test,
    extra: tuple[str, ...] = (),
    score: Train | None = None,
) -> dict[str, dict]:
    """`fit` for several named models, in parallel processes; each in a folder of its name, their histories together.

    A single run has no folder of its own: its files stand in `folder`.
    """
    folders = model_folders(runs, folder)
    if len(runs) == 1:
        return {name: fit(flags, folder, train, test, extra, score) for name, flags in runs.items()}
    first = next(iter(runs.values()))
    tasks = [(with_values(flags, jobs=1, backend="loky"), folders[name]) for name, flags in runs.items()]
    functions = {"train": train, "test": test, "score": score}
    metrics = dict(zip(runs, all_of(fit, first, tasks, functions, extra=extra), strict=True))
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
    tasks = [(c, folder / "grid" / name) for c, name in zip(candidates, names, strict=True)]
    if not candidates[0].resume:
        remove(folder / "grid")
    results = [
        str(r) if isinstance(r, WorkerLost) else r
        for r in parallel(train_or_diverge, candidates[0], tasks, {"train": train})
    ]
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
    tasks = [(run, folder / "seeds" / str(run.seed)) for run in runs]
    if not (flags.resume or flags.dry_run):
        remove(folder / "seeds")
    results = all_of(train_and_test, flags, tasks, {"train": train, "test": test})
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
    """The result of a combination, or why it has none, which a resumed search reads instead of trying it again."""
    note = folder / "diverged.txt"
    if flags.resume and note.exists():
        return note.read_text()
    try:
        return train(flags, folder)
    except Diverged as error:
        checkpoint.write_atomically(note, f"diverged: {error}".encode())
        return f"diverged: {error}"


def parallel(
    function: Callable, flags: argparse.Namespace, tasks: list[workers.Task], others: dict[str, Callable | None], **more
) -> list:
    """`workers.run` as the flags say. What an earlier run left is gone: all tasks may go on where they have been."""
    for own, folder in tasks:
        if not (own.resume or own.dry_run):
            remove(folder)
    tasks = [(with_values(own, resume=True), folder) for own, folder in tasks]
    jobs = min(flags.jobs, len(tasks))
    return workers.run(function, tasks, others, jobs, flags.backend, flags.scheduler, **more)


def all_of(*arguments, **more) -> list:
    """`parallel` of tasks none of which can be missed."""
    results = parallel(*arguments, **more)
    for result in results:
        if isinstance(result, WorkerLost):
            raise result
    return results
