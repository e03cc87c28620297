"""Everything that a study trains, as one list of tasks: models x combinations of a grid x folds x seeds.

Every combination is trained, the best on validation data (or on held-out folds) is kept, trained with all seeds, tested
once. The tasks of all models fill one pool (`--jobs`), one thread each: for models of this size that is faster than
several threads in one process. What is computed beside a training changes none of its bits.
"""

import dataclasses
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lstm_studies.training import checkpoint, workers
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.flags import differences, restored
from lstm_studies.training.loop import Diverged, Failed, Result
from lstm_studies.training.presets import Request
from lstm_studies.training.run import RESULTS, remove
from lstm_studies.training.settings import Settings
from lstm_studies.training.tables import read_json, read_table, write_csv
from lstm_studies.training.workers import Task, WorkerLost

Train = Callable[[Settings, Path], Result]  # trains, leaves best.pt, last.pt and history.csv in the folder
Test = Callable[[Settings, Path], dict]  # reads best.pt, returns metrics of the test data
FILES = ("best.pt", "last.pt", "history.csv")  # of a training


def fit(
    requests: Mapping[str, Request],
    folder: Path,
    train: Train,
    test: Test,
    folds: int = 0,
    refit: bool = True,
    after: Mapping[str, str] | None = None,
) -> dict[str, dict]:
    """Trains named models and tests each once: one training, a grid, several seeds, folds, or all of these.

    A model's files are in `model_folders(...)[name]`: `best.pt`, `last.pt` and `history.csv` of the chosen training, of
    the first seed; `grid.csv` and the folder `grid` if there was a grid; `foldK`, the trainings of the chosen
    combination's folds; `seeds/SEED` if there are several.

    Args:
        train, test: functions at the top level of a module, so that other processes can import them.
        folds: 0: the validation score of its training chooses a combination. Else each combination is trained `folds`
            times, with `fold` = 0, 1, ... in its settings, and the mean of the scores chooses.
        refit: whether the chosen combination is trained once more, with `fold` = None, and that is tested; False: the
            trainings of its folds are tested, and the metrics are their means and deviations.
        after: for the name of a model, that of another one, whose files its trainings read: they begin when all
            trainings of that one have ended.

    Returns:
        The metrics of each model by name: of its training, of `test`, with several seeds (or folds) `<key>_mean` and
        `<key>_std` of every number, and after a grid `best_combination`. `seconds` counts all its trainings.
    """
    folders = model_folders(requests, folder)
    models = [Model(name, request, folders[name], train, test, folds, refit) for name, request in requests.items()]
    if any(model.request.dry_run for model in models):
        return tested_again(models, folder)
    after = after or {}
    tasks = [task for model in models if model.name not in after for task in model.begin()]
    first = models[0].request
    progress = Progress(models, first.quiet or len(tasks) == len(models) == 1)
    if len(tasks) == 1 and len(models) == 1:  # several threads are for a training that is alone
        tasks = [tasks[0]._replace(threads=first.threads)]
    elif first.threads > 1 and not first.quiet:
        print("NOTICE: --threads: of several trainings each has one thread", file=sys.stderr)

    def then(task: Task, result: Any) -> Iterable[Task]:
        model = next(model for model in models if task.name in model.tasks)
        more = model.ended(task, result)
        if len(model.results) == model.expected:
            more += [task for other in models if after.get(other.name) == model.name for task in other.begin()]
        progress.show()
        return more

    workers.run(tasks, min(first.jobs, sum(model.expected for model in models)), first.backend, first.scheduler, then)
    metrics = {model.name: model.metrics() for model in models}
    if len(models) > 1:
        rows = [{"model": m.name, **row} for m in models for row in read_table(m.folder / "history.csv")]
        write_csv(folder / "history.csv", rows)
    return metrics


def model_folders(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Where the files of each named model are: in `folder` itself if there is one model only."""
    names = list(names)
    return {name: folder if len(names) == 1 else folder / name for name in names}


@dataclass
class Model:
    """One named model of a study while it is searched, trained and tested."""

    name: str
    request: Request
    folder: Path
    train: Train
    test: Test
    folds: int
    refit: bool
    tasks: set[str] = field(default_factory=set)  # names of those begun
    results: dict[str, Any] = field(default_factory=dict)  # of those ended
    seconds: float = 0.0  # of all trainings
    chosen: Settings | None = None

    def __post_init__(self):
        self.candidates, self.varied = self.request.combinations(), self.request.varied()
        self.searches = len(self.candidates) > 1 or self.folds > 0

    @property
    def expected(self) -> int:
        """How many tasks there are in all."""
        searched = len(self.candidates) * max(1, self.folds) if self.searches else 0
        return searched + (self.request.seeds if self.refit else 1)

    # ---- tasks

    def begin(self) -> list[Task]:
        """The first tasks: those of the search, or the trainings with all seeds."""
        if not self.request.resume:
            folds = (path.name for path in self.folder.glob("fold[0-9]*"))
            for name in (*RESULTS, *folds):
                remove(self.folder / name)
        return self.search() if self.searches else self.train_seeds(self.candidates[0])

    def search(self) -> list[Task]:
        """A training for each combination, or for each of its folds."""
        tasks = []
        for candidate in self.candidates:
            combination = self.combination(candidate)
            for k in range(max(1, self.folds)):
                fold = {"fold": k} if self.folds else {}
                label = self.label(combination, f"fold {k}" if self.folds else "")
                settings = dataclasses.replace(candidate, label=label, **fold)
                folder = self.search_folder(candidate) / (f"fold{k}" if self.folds else "")
                tasks.append(self.task(label, train_or_diverge, settings, folder, train=self.train))
        return tasks

    def train_seeds(self, chosen: Settings) -> list[Task]:
        """The chosen combination with each seed, then the test."""
        seeds = [chosen.seed + i for i in range(self.request.seeds)]
        tasks = []
        for seed in seeds:
            label = self.label(f"seed {seed}" if len(seeds) > 1 else "")
            settings = dataclasses.replace(chosen, seed=seed, label=label)
            folder = self.folder / "seeds" / str(seed) if len(seeds) > 1 else self.folder
            if self.searches and not self.folds and seed == chosen.seed:  # trained already
                copy_up(self.search_folder(chosen), folder)
            elif self.varied:
                self.forget_another(settings, folder)
            functions = {"train": self.train, "test": self.test}
            tasks.append(self.task(f"{label}, with its test", train_and_test, settings, folder, **functions))
        return tasks

    def forget_another(self, settings: Settings, folder: Path) -> None:
        """Removes the training of the combination that was the best one before `--resume` added values to the grid."""
        saved = checkpoint.load_latest(folder / "last.pt") or {}
        if any(name in self.varied for name, *_ in differences(settings, saved.get("flags", {}))):
            for name in (*FILES, "last.previous.pt"):
                remove(folder / name)

    def task(self, name: str, function: Callable, settings: Settings, folder: Path, **functions) -> Task:
        """A task that goes on where it has been, if it is tried again."""
        self.tasks.add(name)
        return Task(name, function, dataclasses.replace(settings, resume=True), folder, functions)

    def label(self, *parts: str) -> str:
        return ", ".join(part for part in (self.name, *parts) if part)

    def combination(self, settings: Settings) -> str:
        return ",".join(f"{name}={getattr(settings, name)}" for name in self.varied)

    def search_folder(self, candidate: Settings) -> Path:
        return self.folder / "grid" / self.combination(candidate) if self.varied else self.folder

    # ---- results

    def ended(self, task: Task, result: Any) -> list[Task]:
        """Notes a result; the tasks that follow from it."""
        self.results[task.name] = result
        if task.function is not train_or_diverge:
            if isinstance(result, WorkerLost):
                raise result
            return []
        if self.chosen or len(self.results) < len(self.tasks):
            return []
        self.chosen = self.choose()
        for k in range(self.folds if self.varied else 0):
            copy_up(self.search_folder(self.chosen) / f"fold{k}", self.folder / f"fold{k}")
        if self.refit:
            return self.train_seeds(self.chosen)
        copy_up(self.folder / "fold0", self.folder)
        return [self.task(self.label("test of the folds"), test_folds, self.chosen, self.folder, test=self.test)]

    def score(self, candidate: Settings) -> Result | str:
        """The mean score of a combination's trainings, or why there is none."""
        combination = self.combination(candidate)
        names = [self.label(combination, f"fold {k}" if self.folds else "") for k in range(max(1, self.folds))]
        results = [self.results[name] for name in names]
        for result in results:
            if not isinstance(result, Result):
                return str(result)
        mean = statistics.mean(result.score for result in results)
        return results[0]._replace(score=mean, seconds=sum(result.seconds for result in results))

    def choose(self) -> Settings:
        """The best combination; writes `grid.csv`, best first."""
        results = [self.score(candidate) for candidate in self.candidates]
        trained = [result for result in results if isinstance(result, Result)]
        if not trained:
            raise Failed(f"{self.name}: no combination could be trained, the first one: {results[0]}")
        if self.varied and all(math.isnan(result.score) for result in trained):
            raise Failed(f"{self.name}: no combination has a validation score to choose by")
        sign = -1 if trained[0].maximise else 1
        rows = []
        for candidate, result in zip(self.candidates, results, strict=True):
            row: dict[str, Any] = {name: getattr(candidate, name) for name in self.varied}
            if isinstance(result, Result):
                row |= {"score": result.score, "best_epoch": result.best_epoch, "epochs": result.epochs}
                row |= {"seconds": round(result.seconds, 1), "status": "ok"}
            else:
                row |= {"score": math.nan, "best_epoch": 0, "epochs": 0, "seconds": 0.0, "status": result}
            rows.append(row)
        order = sorted(range(len(rows)), key=lambda i: (math.isnan(rows[i]["score"]), sign * rows[i]["score"]))
        best = self.candidates[order[0]]
        if self.varied:
            write_csv(self.folder / "grid.csv", [rows[i] for i in order])
            if not self.request.quiet:
                score = f"validation score {rows[order[0]]['score']:.5g}"
                print(f"{self.name}: best of {len(rows)} combinations: {self.combination(best)} ({score})")
        return best

    def metrics(self) -> dict:
        """Of the chosen combination: of its first seed, with means and deviations over all."""
        rows = sorted((r for r in self.results.values() if isinstance(r, dict)), key=lambda row: row["seed"])
        seconds = sum(result.seconds for result in self.results.values() if isinstance(result, Result))
        counted = self.searches and not self.folds  # the training with the first seed is the best combination's
        seconds += sum(row["seconds"] for row in rows[counted:])
        metrics = over_seeds(rows) | {"seconds": round(seconds, 1)}
        if self.refit and self.request.seeds > 1:
            copy_up(self.folder / "seeds" / str(rows[0]["seed"]), self.folder)
        return metrics | self.best_combination(self.chosen)

    def best_combination(self, chosen: Settings | None) -> dict:
        return {"best_combination": {name: getattr(chosen, name) for name in self.varied}} if self.varied else {}

    # ---- without training

    def test_again(self) -> dict:
        """For --dry_run: the metrics of the models that are there, with the settings of their trainings."""
        if not self.refit:
            settings, _ = as_trained(self.candidates[0], self.folder / "fold0")
            metrics = test_folds(dataclasses.replace(settings, fold=None), self.folder, self.test)
            return metrics | self.best_combination(settings)
        seeds = [self.request.seed + i for i in range(self.request.seeds)]
        folders = [self.folder / "seeds" / str(seed) if len(seeds) > 1 else self.folder for seed in seeds]
        rows = []
        for folder in folders:
            settings, training = as_trained(self.candidates[0], folder)
            rows.append({**training, **self.test(settings, folder)})
        return over_seeds(rows) | self.best_combination(settings)


@dataclass
class Progress:
    """The line that says how far the list of tasks is."""

    models: list[Model]
    silent: bool
    started: float = field(default_factory=time.monotonic)

    def show(self) -> None:
        if self.silent:
            return
        ended, expected = sum(len(m.results) for m in self.models), sum(m.expected for m in self.models)
        left = (time.monotonic() - self.started) / ended * (expected - ended) / 60
        results = [result for model in self.models for result in model.results.values() if isinstance(result, Result)]
        pick = max if results and results[0].maximise else min
        best = f", best score so far {pick(result.score for result in results):.5g}" if results else ""
        minutes = f"{left:.0f}" if left >= 1 else "less than 1"
        print(f"{ended} of {expected} done{best}, {minutes} min left", flush=True)


def over_seeds(rows: list[dict]) -> dict:
    """The first row; of several rows also mean and standard deviation of every number, and how many there are."""
    metrics = dict(rows[0])
    if len(rows) == 1:
        return metrics | {"seeds": 1}
    for key, value in rows[0].items():
        if isinstance(value, float) and key != "seconds":
            values = [row[key] for row in rows]
            metrics[f"{key}_mean"], metrics[f"{key}_std"] = statistics.mean(values), statistics.stdev(values)
    return metrics | {"seeds": len(rows)}


# ---- tasks -----------------------------------------------------------------------------------------------------------


def train_and_test(settings: Settings, folder: Path, train: Train, test: Test) -> dict:
    _, _, best_epoch, epochs, seconds = train(settings, folder)
    return {**training_of(settings, epochs, best_epoch, seconds), **test(settings, folder)}


def training_of(settings: Settings, epochs: int, best_epoch: int, seconds: float) -> dict:
    return {"seed": settings.seed, "epochs": epochs, "best_epoch": best_epoch, "seconds": round(seconds, 1)}


def test_folds(settings: Settings, folder: Path, test: Test) -> dict:
    """The metrics of every fold's training on its own test data, with their means and deviations."""
    paths = sorted(folder.glob("fold[0-9]*"), key=lambda path: int(path.name.removeprefix("fold")))
    rows = [test(dataclasses.replace(settings, fold=k), path) for k, path in enumerate(paths)]
    metrics = over_seeds(rows)
    return {"seed": settings.seed, "seconds": 0.0, **metrics, "folds": len(rows), "seeds": 1, "by_fold": rows}


def train_or_diverge(settings: Settings, folder: Path, train: Train) -> Result | str:
    """The result of a combination, or why it has none, which a resumed search reads instead of trying it again."""
    note = folder / "diverged.txt"
    if note.exists():
        return note.read_text()
    try:
        return train(settings, folder)
    except Diverged as error:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_atomically(note, f"diverged: {error}".encode())
        return f"diverged: {error}"


# ---- files -----------------------------------------------------------------------------------------------------------


def copy_up(source: Path, folder: Path) -> None:
    """Copies the files of a training into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        checkpoint.write_atomically(folder / file, (source / file).read_bytes())


DATA = ("data", "dataset", "train", "test", "inputs", "window", "signal", "symbols", "text_column", "label_column")


def as_trained(settings: Settings, folder: Path) -> tuple[Settings, dict]:
    """For `--dry_run`: the settings of the training in `folder`, and what its metrics say of it.

    Raises CheckpointError if the run's config.json names other data than those of the training.
    """
    saved = checkpoint.load_latest(folder / "last.pt")
    if saved is None or not (folder / "best.pt").exists():
        raise CheckpointError(f"--dry_run: no trained model at {folder / 'best.pt'}; run once without --dry_run")
    try:
        for name, then, now in differences(settings, saved["flags"]):
            if name in DATA:
                why = f"was trained with --{name} {then}, and its config.json says {now}"
                raise CheckpointError(f"--dry_run: {folder} {why}")
        settings = restored(settings, saved["flags"])
        return settings, training_of(settings, saved["epoch"], saved["best_epoch"], saved["seconds"])
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"--dry_run: {folder}: expected the state of a training, found {error!r}") from None


def tested_again(models: list[Model], folder: Path) -> dict[str, dict]:
    """For `--dry_run`: the metrics of the models that are there, with the seconds of the run that trained them."""
    metrics = {model.name: model.test_again() for model in models}
    earlier = read_json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
    for name, values in metrics.items():
        if isinstance(earlier.get(name), dict) and isinstance(earlier[name].get("seconds"), float):
            values["seconds"] = earlier[name]["seconds"]
    return metrics
