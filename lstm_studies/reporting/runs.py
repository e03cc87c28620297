"""The runs of the studies: their metrics, rows, figures and settings."""

import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from lstm_studies.reporting.numbers import Row, rows_of
from lstm_studies.reporting.studies import Study

PRESET_TITLES = {"quick": "quick run", "best": "best", "published": "as published"}


class ResultsError(ValueError):
    """A file of results is damaged. The message is one line."""


def read_json(path: Path) -> dict:
    """The object in a file, empty if there is none. Raises ResultsError."""
    try:
        content = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise ResultsError(f"{path}: expected a JSON object, found {type(error).__name__}: {error}") from None
    if not isinstance(content, dict):
        raise ResultsError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def duration(minutes: float) -> str:
    return f"{minutes:.1f} minutes" if minutes >= 1 else f"{math.ceil(60 * minutes)} s"


@dataclass(frozen=True)
class Run:
    """A finished run of a study."""

    study: Study
    preset: str
    metrics: dict[str, dict]  # by model
    folder: Path
    opponents: dict[str, dict] = field(default_factory=dict)  # metrics of another study's models

    @property
    def title(self) -> str:
        return PRESET_TITLES[self.preset]

    @cached_property
    def rows(self) -> dict[str, Row]:
        """By key; the first one is the study's main number."""
        return rows_of(self.study, self.metrics, self.opponents)

    @property
    def command(self) -> str:
        return self.study.command(self.preset)

    @property
    def figures(self) -> list[Path]:
        """The study's main figures first."""
        order = {name: i for i, name in enumerate(self.study.figures)}
        return sorted(self.folder.glob("*.png"), key=lambda path: (order.get(path.stem, len(order)), path.name))

    @property
    def minutes(self) -> float:
        """Of all trainings, one after another; 0 where nothing was trained."""
        return sum(values.get("seconds", 0.0) for values in self.metrics.values()) / 60

    @property
    def source(self) -> str | None:
        """The data: "full", "sample", "generated"."""
        return next((values["data"] for values in self.metrics.values() if "data" in values), None)

    @cached_property
    def config(self) -> dict:
        return read_json(self.folder / "config.json")


@dataclass(frozen=True)
class Failure:
    """A run that left no result."""

    study: Study
    preset: str
    reason: str  # one line
    unavailable: bool = False  # because data could not be downloaded

    @property
    def command(self) -> str:
        return self.study.command(self.preset)


@dataclass(frozen=True)
class Section:
    """The finished runs of one study, the main one first."""

    study: Study
    runs: list[Run]

    @property
    def main(self) -> Row | None:
        """The study's main number."""
        return next((row for run in self.runs[:1] for row in run.rows.values()), None)

    def main_of(self, preset: str) -> Row | None:
        """The same number in the run with this preset."""
        return next((run.rows.get(self.main.number.key) for run in self.runs if run.preset == preset), None)

    @property
    def table(self) -> list[tuple[Row, list[Row | None]]]:
        """Each number's row in the main run that has it, and its rows in all runs."""
        keys = dict.fromkeys(key for run in self.runs for key in run.rows)
        by_run = [[run.rows.get(key) for run in self.runs] for key in keys]
        return [(next(filter(None, rows)), rows) for rows in by_run]


def with_opponents(results: list[Run | Failure]) -> list[Run | Failure]:
    """The same results, those with another study's models as opponents joined with its metrics."""
    others = {(run.study.path, run.preset): run.metrics for run in results if isinstance(run, Run)}
    main = {run.study.path: run.metrics for run in reversed(results) if isinstance(run, Run)}

    def joined(run: Run | Failure) -> Run | Failure:
        path = run.study.opponents
        if not path or isinstance(run, Failure):
            return run
        return replace(run, opponents=others.get((path, run.preset), main.get(path, {})))

    return [joined(run) for run in results]


def sections_of(results: list[Run | Failure]) -> list[Section]:
    """A section per study, also for those that failed."""
    studies = dict.fromkeys(result.study for result in results)
    return [Section(study, [r for r in results if r.study == study and isinstance(r, Run)]) for study in studies]
