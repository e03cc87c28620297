"""The report: a page of HTML that holds its figures; in Markdown, the published results and the README's table."""

import ast
import base64
import functools
import json
import math
import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import jinja2

from lstm_studies.reporting.numbers import Row, rows_of
from lstm_studies.reporting.studies import CHAPTERS, ROOT, Study

PRESET_TITLES = {"quick": "quick run", "best": "best", "published": "as published"}
AXIS = (0.004, 2.5)  # ends of the overview's logarithmic axis: the error divided by that of the baseline


def read_json(path: Path) -> dict:
    """The content of a file, empty if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# ---- results ---------------------------------------------------------------------------------------------------------


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
    def metrics_file(self) -> Path:
        return self.folder / "metrics.json"

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
    def anchor(self) -> str:
        return self.study.path.replace("/", "-")

    @property
    def table(self) -> list[tuple[Row, list[Row | None]]]:
        """Each number's row in the main run that has it, and its rows in all runs."""
        keys = dict.fromkeys(key for run in self.runs for key in run.rows)
        by_run = [[run.rows.get(key) for run in self.runs] for key in keys]
        return [(next(filter(None, rows)), rows) for rows in by_run]

    @property
    def finding(self) -> str:
        """The study's finding, empty if a number is missing."""
        try:
            return self.study.finding.format(n=self.runs[0].rows)
        except (IndexError, KeyError):
            return ""


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


def chapters_of(sections: list[Section]) -> dict[str, list[Section]]:
    """The sections by script."""
    scripts = dict.fromkeys(section.study.script for section in sections)
    return {script: [section for section in sections if section.study.script == script] for script in scripts}


def deviations(script: str) -> list[str]:
    """The numbered list in a script's docstring: the deviations from the studies that it follows."""
    text = ast.get_docstring(ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8"))) or ""
    listed = text[text.find(":\n1. ") :]
    return [" ".join(item.split()) for item in re.findall(r"^\d+\. (.+(?:\n   .+)*)", listed, re.MULTILINE)]


# ---- pages -----------------------------------------------------------------------------------------------------------


def relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def caption(path: Path, study: Study) -> str:
    return CHAPTERS[study.script].captions.get(path.stem) or path.stem.replace("_", " ").capitalize()


def duration(minutes: float) -> str:
    return f"{minutes:.1f} minutes" if minutes >= 1 else f"{math.ceil(60 * minutes)} s"


def position(ratio: float) -> float:
    """The position of a ratio of errors on the overview's axis, in percent of its width."""
    low, high = map(math.log, AXIS)
    clipped = min(max(math.log(max(ratio, 1e-9)), low), high)
    return round(100 * (clipped - low) / (high - low), 2)


def heading_anchor(title: str) -> str:
    """The anchor that code hosts give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def render(template: str, results: list[Run | Failure], folder: Path, **further) -> str:
    """A template filled with the results; links are relative to `folder`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"caption": caption, "data_uri": data_uri, "deviations": deviations, "duration": duration}
    environment.filters |= {"position": position, "heading_anchor": heading_anchor}
    environment.filters["link"] = functools.partial(relative, folder=folder)
    sections = sections_of(results)
    content = {"sections": sections, "by_script": chapters_of(sections), "chapters": CHAPTERS}
    content["failures"] = [result for result in results if isinstance(result, Failure)]
    return environment.get_template(template).render(content | further)


def write_page(results: list[Run | Failure], profile: str, folder: Path) -> Path:
    """Writes `index.html`, one file that can be passed on, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = [result for result in results if isinstance(result, Run)]
    rows = [row for section in sections_of(results) for row, _ in section.table]
    verdicts = [row.target_verdict for row in rows if row.target_verdict]
    machines = sorted({run.config["machine"] for run in runs if "machine" in run.config})
    versions = next((run.config["versions"] for run in runs if "versions" in run.config), {})
    page = folder / "index.html"
    further = {"profile": profile, "verdicts": verdicts, "machines": machines, "versions": versions}
    page.write_text(render("page.html", results, folder, **further), encoding="utf-8")
    return page


def markdown_page(results: list[Run | Failure], folder: Path) -> str:
    """All results in Markdown, for a file in `folder`."""
    return render("report.md", results, folder)


def markdown_table(results: list[Run | Failure], page: str) -> str:
    """The README's table, a row per study that has numbers; `page` is where a study's name links to."""
    return render("table.md", results, ROOT, page=page).strip()


def summary_of(results: list[Run | Failure]) -> list[dict]:
    """The rows of `docs/results/summary.json`."""
    return [
        {
            "study": run.study.title,
            "preset": run.preset,
            "metric": row.number.label,
            "key": row.number.key,
            "value": row.value,
            "std": row.std,
            "seeds": row.seeds,
            "value_interval": row.interval,
            "baseline": row.baseline,
            "baseline_name": row.number.baseline_name,
            "opponent": row.opponent,
            "opponent_name": row.number.opponent_name or None,
            "difference": row.against and row.against["difference"],
            "interval": row.against and [row.against["low"], row.against["high"]],
            "verdict": row.verdict,
            "published": row.number.published,
            "published_note": row.number.published_note,
            "target": row.target,
            "target_verdict": row.target_verdict,
            "looks": row.number.looks,
            "command": run.command,
            "minutes": round(run.minutes, 1),
            "data": run.source,
        }
        for run in results
        if isinstance(run, Run)
        for row in run.rows.values()
    ]
