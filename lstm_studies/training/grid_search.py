"""Several values per flag: every combination is trained, the best on validation data is kept, tested and plotted.

Combinations and seeds run in parallel processes (`--jobs`), one thread each: for models of this size that is faster
than several threads in one process.
"""

import dataclasses
import math
import shutil
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

from lstm_studies.training import checkpoint, workers
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.flags import deciding, restored, text_of
from lstm_studies.training.loop import Diverged, Result
from lstm_studies.training.presets import Request, with_values
from lstm_studies.training.settings import Settings, UsageError
from lstm_studies.training.tables import read_table, write_csv
from lstm_studies.training.workers import WorkerLost

Train = Callable[[Settings, Path], Result]  # trains, leaves best.pt in the folder
Test = Callable[[Settings, Path], dict]  # reads best.pt, returns metrics of the test data


def fit(request: Request, folder: Path, train: Train, test: Test, score: Train | None = None) -> dict:
    """Trains what was asked for and tests it once: one model, a grid, several seeds, or both.

    Args:
        folder: gets the chosen model's `best.pt`, `last.pt` and `history.csv`, and `grid.csv` if there was a grid.
        train, test: functions at the top level of a module, so that other processes can import them.
        score: what gives a combination its score, such as a cross-validation, if that is not `train` itself. It scores
            a single combination, too, and the chosen one is trained anew.

    Returns:
        The metrics of `test` and of the training; with several seeds also `<key>_mean` and `<key>_std`, and after a
        grid `best_combination`.
    """
    varied, candidates = request.varied(), request.combinations()
    searches = len(candidates) > 1 or score is not None
    if request.dry_run:
        chosen = as_trained(request, candidates[0], folder)
    else:
        for stale, used in (("grid.csv", searches), ("grid", searches), ("seeds", request.seeds > 1)):
            if not used:
                remove(folder / stale)
        chosen = search(candidates, varied, folder, score or train) if searches else candidates[0]
    best = {"best_combination": {name: getattr(chosen, name) for name in varied}} if varied else {}
    if request.seeds > 1:
        return {**repeat(chosen, folder, train, test), **best}
    if searches and score is None and not request.dry_run:
        # trained already, with one thread (see `workers.call`): reload
        chosen = dataclasses.replace(chosen, resume=True, threads=1)
    return {**train_and_test(chosen, folder, train, test), **best}


def fit_many(
    requests: dict[str, Request], folder: Path, train: Train, test: Test, score: Train | None = None
) -> dict[str, dict]:
    """`fit` for several named models, in parallel processes; each in a folder of its name, their histories together.

    A single one has no folder of its own: its files stand in `folder`.
    """
    folders = model_folders(requests, folder)
    if len(requests) == 1:
        return {name: fit(request, folder, train, test, score) for name, request in requests.items()}
    first = next(iter(requests.values()))
    tasks = [(r.with_values(jobs=1, backend="loky", label=name), folders[name]) for name, r in requests.items()]
    functions = {"train": train, "test": test, "score": score}
    metrics = dict(zip(requests, all_of(fit, first, tasks, functions), strict=True))
    rows = [{"model": n, **row} for n, f in folders.items() for row in read_table(f / "history.csv")]
    write_csv(folder / "history.csv", rows)
    return metrics


def model_folders(runs: Iterable[str], folder: Path) -> dict[str, Path]:
    """Where the files of each named model are."""
    names = list(runs)
    return {name: folder if len(names) == 1 else folder / name for name in names}


def search(candidates: list[Settings], varied: list[str], folder: Path, train: Train) -> Settings:
    """Trains all candidates, writes `grid.csv` (best first), and copies the best one's files up into `folder`."""
    names = [",".join(f"{n}={getattr(c, n)}" for n in varied) for c in candidates]
    labelled = [label(candidate, name) for candidate, name in zip(candidates, names, strict=True)]
    tasks = [(c, folder / "grid" / name) for c, name in zip(labelled, names, strict=True)]
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
    trained = [r for r in results if not isinstance(r, str)]
    if not trained:
        raise Diverged(f"every combination of the grid diverged, the first one: {results[0]}")
    sign = -1 if trained[0].maximise else 1
    order = sorted(range(len(rows)), key=lambda i: (math.isnan(rows[i]["score"]), sign * rows[i]["score"]))
    write_csv(folder / "grid.csv", [rows[i] for i in order])
    best = order[0]
    if varied and not candidates[best].quiet:
        print(f"best of {len(rows)} combinations: {names[best]} (validation score {rows[best]['score']:.5g})")
    if (folder / "grid" / names[best] / "best.pt").exists():  # a cross-validation leaves no model
        copy_up(folder / "grid" / names[best], folder)
    return candidates[best]


def label(settings: Settings, name: str) -> Settings:
    """The settings with one more name in the lines of progress."""
    return dataclasses.replace(settings, label=", ".join(part for part in (settings.label, name) if part))


def repeat(settings: Settings, folder: Path, train: Train, test: Test) -> dict:
    """Trains with `settings.seeds` seeds; `folder` gets the first one's files, the metrics mean and std of all."""
    seeds = [dataclasses.replace(settings, seed=settings.seed + i) for i in range(settings.seeds)]
    tasks = [(label(own, f"seed {own.seed}"), folder / "seeds" / str(own.seed)) for own in seeds]
    if not (settings.resume or settings.dry_run):
        remove(folder / "seeds")
    results = all_of(train_and_test, settings, tasks, {"train": train, "test": test})
    if not settings.dry_run:
        copy_up(tasks[0][1], folder)
    metrics = dict(results[0])
    for key, value in results[0].items():
        if isinstance(value, float):
            values = [r[key] for r in results]
            metrics[f"{key}_mean"], metrics[f"{key}_std"] = statistics.mean(values), statistics.stdev(values)
    return {**metrics, "seeds": settings.seeds}


def copy_up(source: Path, folder: Path) -> None:
    """Copies the selected model's files into `folder`, with those of its folds."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("best.pt", "last.pt", "history.csv"):
        checkpoint.write_atomically(folder / file, (source / file).read_bytes())
    for fold in source.glob("fold[0-9]*"):
        copy_up(fold, folder / fold.name)


def remove(path: Path) -> None:
    """What an earlier run left."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def trained(folder: Path) -> dict:
    """For `--dry_run`: the last checkpoint of the training in `folder`."""
    saved = checkpoint.load_latest(folder / "last.pt")
    if saved is None or not (folder / "best.pt").exists():
        raise CheckpointError(f"--dry_run: no trained model at {folder / 'best.pt'}; run once without --dry_run")
    return saved


def as_trained(request: Request, settings: Settings, folder: Path) -> Settings:
    """The settings of the model in `folder`. Raises UsageError if a flag given by hand contradicts them."""
    fixed = restored(settings, trained(folder)["flags"])
    trained_with, asked = deciding(fixed), deciding(settings)
    for name in request.given:
        if name not in request.varied() and trained_with.get(name) != asked.get(name):
            was = text_of(trained_with[name])
            raise UsageError(f"--{name}: --dry_run: {folder} was trained with {was}, not {text_of(asked[name])}")
    return fixed


def train_and_test(settings: Settings, folder: Path, train: Train, test: Test) -> dict:
    if settings.dry_run:
        saved = trained(folder)
        epochs, best_epoch, seconds = saved["epoch"], saved["best_epoch"], saved["seconds"]
    else:
        _, _, best_epoch, epochs, seconds = train(settings, folder)
    training = {"seed": settings.seed, "epochs": epochs, "best_epoch": best_epoch, "seconds": round(seconds, 1)}
    return {**training, **test(settings, folder)}


def train_or_diverge(settings: Settings, folder: Path, train: Train) -> Result | str:
    """The result of a combination, or why it has none, which a resumed search reads instead of trying it again."""
    note = folder / "diverged.txt"
    if settings.resume and note.exists():
        return note.read_text()
    try:
        return train(settings, folder)
    except Diverged as error:
        folder.mkdir(parents=True, exist_ok=True)  # a cross-validation may have diverged in a folder of its own
        checkpoint.write_atomically(note, f"diverged: {error}".encode())
        return f"diverged: {error}"


def parallel(
    function: Callable,
    asked: Settings | Request,
    tasks: list[workers.Task],
    others: dict[str, Callable | None],
) -> list:
    """`workers.run` as was asked. What an earlier run left is gone: all tasks may go on where they have been."""
    for own, folder in tasks:
        if not (own.resume or own.dry_run):
            remove(folder)
    tasks = [(with_values(own, resume=True), folder) for own, folder in tasks]
    jobs = min(asked.jobs, len(tasks))
    return workers.run(function, tasks, others, jobs, asked.backend, asked.scheduler)


def all_of(*arguments) -> list:
    """`parallel` of tasks none of which can be missed."""
    results = parallel(*arguments)
    for result in results:
        if isinstance(result, WorkerLost):
            raise result
    return results
