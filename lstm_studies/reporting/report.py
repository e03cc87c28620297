"""The report: a page of HTML, which holds its images and needs nothing else, and the same in Markdown."""

import ast
import base64
import functools
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from lstm_studies.reporting.numbers import Row, rows_of, source_of, summary_row
from lstm_studies.reporting.studies import CAPTIONS, FINDINGS, SCRIPTS, Finding, Number, Script, Study

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
SENTENCES = jinja2.Environment(undefined=jinja2.StrictUndefined)
PRESET_TITLES = {"quick": "quick run", "best": "best", "published": "as published"}
CHART = (0.004, 2.5)  # ends of the overview's logarithmic axis: error by the baseline's error


@dataclass(frozen=True)
class Result:
    """What a finished run left."""

    metrics: dict
    minutes: float
    folder: Path


@dataclass(frozen=True)
class Failure:
    """Why a run left nothing."""

    reason: str  # one line
    unavailable: bool = False  # only because data could not be fetched


Results = Mapping[Study, Mapping[str, Result | Failure]]  # by preset, the one that stands for the study first


def read_json(path: Path) -> dict:
    """The content of a file, empty if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# ---- one study -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished run of a study, with its numbers; what the templates read."""

    study: Study
    preset: str
    result: Result
    page: Path  # the folder that links start from

    @property
    def title(self) -> str:
        return PRESET_TITLES[self.preset]

    @property
    def rows(self) -> list[Row]:
        return rows_of(self.study, self.result.metrics)

    @property
    def by_key(self) -> dict[str, Row]:
        return {row.number.key: row for row in self.rows}

    @property
    def command(self) -> str:
        return self.study.command(self.preset)

    @property
    def link(self) -> str:
        """To the numbers of the run, from the page."""
        return self.place(self.result.folder / "metrics.json")

    @property
    def figures(self) -> list[Path]:
        """The study's own figure first."""
        return sorted(self.result.folder.glob("*.png"), key=lambda path: (path.stem != self.study.figure, path.name))

    def place(self, path: Path) -> str:
        return relative(path, self.page)

    @property
    def is_sample(self) -> bool:
        return source_of(self.result.metrics) == "sample"

    @property
    def metrics_text(self) -> str:
        return json.dumps(self.result.metrics, indent=1)

    def config(self, name: str):
        """A value of the run's config.json, None if it has none."""
        return read_json(self.result.folder / "config.json").get(name)


@dataclass(frozen=True)
class Section:
    """A study on the page: its finished runs, the first of which stands for it, and why others are missing."""

    study: Study
    runs: tuple[Run, ...]
    failures: Mapping[str, Failure]

    @property
    def first(self) -> Run | None:
        return self.runs[0] if self.runs else None

    @property
    def main(self) -> Row | None:
        """The number that stands for the study."""
        return self.first.rows[0] if self.runs and self.first.rows else None

    def main_of(self, preset: str) -> Row | None:
        """The same number of the run with this preset."""
        rows = next((run.by_key for run in self.runs if run.preset == preset), {})
        return rows.get(self.main.number.key) if self.main else None

    @property
    def anchor(self) -> str:
        return self.study.path.replace("/", "-")

    @property
    def numbers(self) -> list[tuple[Number, Row, list[Row | None]]]:
        """Each number, its row that is judged, and its rows in all runs."""
        by_run = [run.by_key for run in self.runs]
        table = [[rows.get(key) for rows in by_run] for key in dict.fromkeys(key for rows in by_run for key in rows)]
        judged = [next(filter(None, rows)) for rows in table]
        return [(row.number, row, rows) for row, rows in zip(judged, table, strict=True)]

    @property
    def answer(self) -> str:
        """The study's answer in words, made from its numbers."""
        if self.first is None or not self.first.rows:
            return ""
        told = sentence(self.study.answer, self.first) or " ".join(row.says for row in self.first.rows[:2])
        others = [(run, run.by_key.get(self.main.number.key)) for run in self.runs[1:]]
        return told + "".join(f" {run.title.capitalize()}: {row.text}." for run, row in others if row)


def sentence(template: str, run: Run) -> str:
    """A template of studies.toml with the numbers of a run; empty if it needs a number which the run lacks."""
    order = sorted((row for row in run.rows if row.kind.higher_is_better), key=lambda row: row.value)
    extremes = {"best": order[-1], "worst": order[0]} if order else {}
    try:
        told = SENTENCES.from_string(template).render(n=run.by_key, **extremes)
    except jinja2.UndefinedError:
        return ""
    return " ".join(told.split())


def sections_of(results: Results, page: Path) -> list[Section]:
    sections = []
    for study, by_preset in results.items():
        runs = [Run(study, preset, result, page) for preset, result in by_preset.items() if isinstance(result, Result)]
        failures = {preset: result for preset, result in by_preset.items() if isinstance(result, Failure)}
        sections.append(Section(study, tuple(runs), failures))
    return sections


@dataclass(frozen=True)
class Chapter:
    """The sections of one script."""

    name: str
    script: Script
    sections: list[Section]

    @property
    def deviations(self) -> list[str]:
        return deviations(self.name)


def chapters_of(sections: list[Section]) -> list[Chapter]:
    names = dict.fromkeys(section.study.script for section in sections)
    return [Chapter(name, SCRIPTS[name], [s for s in sections if s.study.script == name]) for name in names]


def deviations(script: str) -> list[str]:
    """The numbered list in a script's docstring: what it does otherwise than the studies that it follows."""
    text = ast.get_docstring(ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8"))) or ""
    return [" ".join(item.split()) for item in re.findall(r"^\d+\. (.+(?:\n   .+)*)", text, re.MULTILINE)]


def caption(path: Path, study: Study) -> str:
    """What a figure shows: the caption of its script's figures of that name, or of all."""
    own = CAPTIONS.get(study.script, {})
    return own.get(path.stem) or CAPTIONS.get(path.stem) or path.stem.replace("_", " ").capitalize()


# ---- the first screen ------------------------------------------------------------------------------------------------


def findings_of(sections: list[Section]) -> list[tuple[Finding, Section, str, Path | None]]:
    """The findings whose numbers are there: section, sentence and figure of each."""
    told = []
    for finding in FINDINGS:
        section = next((s for s in sections if s.study.path == finding.study and s.first), None)
        text = sentence(finding.text, section.first) if section else ""
        if text:
            figures = [path for path in section.first.figures if path.stem == finding.figure] + section.first.figures
            told.append((finding, section, text, figures[0] if figures else None))
    return told


def place(ratio: float | None) -> float | None:
    """Where a ratio of errors is on the overview's axis, in percent of its width."""
    if ratio is None:
        return None
    low, high = (math.log(end) for end in CHART)
    clipped = min(max(math.log(max(ratio, 1e-9)), low), high)
    return round(100 * (clipped - low) / (high - low), 2)


def chart_of(sections: list[Section]) -> list[dict]:
    """One line per study that has an error to compare: its places on the axis."""
    lines = []
    for section in sections:
        row = section.main
        if row is None or row.relative_error(row.value) is None:
            continue
        others = [other for run in section.runs[1:] if (other := run.by_key.get(row.number.key))]
        ratios = {"ours": row.value, "published": row.number.published, "target": row.goal}
        ratios["second"] = others[0].value if others else None
        places = {name: place(row.relative_error(value)) for name, value in ratios.items()}
        lines.append({"section": section, "row": row, **places})
    return lines


def counts(sections: list[Section]) -> dict[str, int]:
    """Of studies and of targets, for the head of the page."""
    hits = [row.hit for s in sections for _, row, _ in s.numbers if row.hit is not None]
    return {"studies": sum(bool(s.runs) for s in sections), "targets": len(hits), "reached": sum(hits)}


# ---- pages -----------------------------------------------------------------------------------------------------------


def relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def unbroken(text: str) -> str:
    """With no line break between a number and its unit or deviation."""
    return re.sub(r"(?<=\d) (?=(±|%|×|USD|points))|(?<=±) ", "\N{NO-BREAK SPACE}", text)


TEMPLATES.filters |= {"caption": caption, "unbroken": unbroken}
TEMPLATES.globals |= {"place": place}


def write_report(results: Results, profile: str, output: Path, embed: bool = True) -> Path:
    """Writes `index.html` and `report.md` to `output`/report and returns the page's path.

    With `embed` the page is one file that can be handed on; without, its figures stay where they are.
    """
    folder = output / "report"
    folder.mkdir(parents=True, exist_ok=True)
    sections = sections_of(results, folder)
    content = {
        "profile": profile,
        "source": data_uri if embed else functools.partial(relative, folder=folder),
        "sections": sections,
        "chapters": chapters_of(sections),
        "findings": findings_of(sections),
        "chart": chart_of(sections),
        "counts": counts(sections),
        "missing": [(s, preset, failure) for s in sections for preset, failure in s.failures.items()],
        "machines": sorted({m for s in sections for run in s.runs if (m := run.config("machine"))}),
        "versions": next((v for s in sections for run in s.runs if (v := run.config("versions"))), {}),
    }
    for name, template in (("report.md", "report.md"), ("index.html", "page.html")):
        (folder / name).write_text(TEMPLATES.get_template(template).render(content), encoding="utf-8")
    return folder / "index.html"


def summary_of(results: Results) -> list[dict]:
    """The rows of `docs/results/summary.json`."""
    return [
        summary_row(study, preset, row, result.minutes, result.metrics)
        for study, by_preset in results.items()
        for preset, result in by_preset.items()
        if isinstance(result, Result)
        for row in rows_of(study, result.metrics)
    ]


def markdown_table(results: Results, page: str) -> str:
    """The README's table: one row per study that has numbers; `page` is where a study's name links to."""
    sections = [section for section in sections_of(results, ROOT) if section.main]
    return TEMPLATES.get_template("table.md").render(sections=sections, page=page).strip()


def heading_anchor(title: str) -> str:
    """The anchor that a heading gets on the pages of code hosts."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


TEMPLATES.filters["heading_anchor"] = heading_anchor
