"""The chapters of the report: templates/chapters/SCRIPT.md, Markdown with the names of `Chapter`, filled with results.

A chapter names its numbers, figures and tables instead of copying them, so that its text never contradicts the results:

    The code of 16 values leaves {{ number("reconstruct", "test_mse").text }}.

    {{ figure("reconstruct", "loss") }}
"""

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2

from lstm_studies.reporting.numbers import Row
from lstm_studies.reporting.runs import PRESET_TITLES, Run, Section, duration, sections_of
from lstm_studies.reporting.studies import CAPTIONS, ROOT
from lstm_studies.training import flags

CHAPTERS = Path(__file__).parent / "templates" / "chapters"
DOCS = ROOT / "docs"


class ChapterError(ValueError):
    """A chapter that is missing, or that names what does not exist. The message is one line."""


class Chapter:
    """One script's chapter. Its methods below `render` are the names that the chapter may use.

    Args:
        script: name of the script's file, without its ending.
        runs: the results to show, of all scripts; a study's main run comes first.
        folder: of the page that the chapter becomes part of; links are relative to it.
    """

    def __init__(self, script: str, runs: Sequence[Run], folder: Path):
        self.script, self.folder = script, folder
        self.path = CHAPTERS / f"{script}.md"
        self.sections = {s.study.name: s for s in sections_of([run for run in runs if run.study.script == script])}

    def render(self) -> str:
        """The chapter in Markdown. Raises ChapterError."""
        if not self.path.exists():
            raise ChapterError(f"{self.path}: expected a chapter, found no file")
        names = (self.number, self.value, self.figure, self.results, self.settings, self.training, self.diagram)
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.globals = {name.__name__: name for name in names}
        text = re.sub(r"\]\((?!https?:|#)([^)]+)\)", self.moved_link, self.path.read_text(encoding="utf-8"))
        try:
            return environment.from_string(text).render().strip()
        except jinja2.TemplateError as error:
            raise ChapterError(f"{self.path}: {error}") from None

    def moved_link(self, link: re.Match) -> str:
        """A link of the chapter, which is relative to docs/, as one of the page."""
        target, _, anchor = link[1].partition("#")
        return f"]({self.relative(DOCS / target)}{'#' + anchor if anchor else ''})"

    def relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def one_of(self, kind: str, name: str, known: Sequence[str]) -> None:
        """Raises ChapterError for a name that is not known."""
        if name not in known:
            expected = ", ".join(known) or "nothing"
            raise ChapterError(f"{self.path}: {kind}: expected one of {expected}; found {name}")

    def section(self, study: str) -> Section:
        self.one_of("study", study, list(self.sections))
        return self.sections[study]

    def runs(self, study: str, preset: str | None = None) -> list[Run]:
        runs = self.section(study).runs
        if preset is None:
            return runs
        self.one_of(f"preset of {study}", preset, [run.preset for run in runs])
        return [run for run in runs if run.preset == preset]

    # ---- numbers

    def number(self, study: str, key: str, preset: str | None = None) -> Row:
        """A number of a study in the run with a preset; without one, in the first run that has it."""
        rows = {key: row for run in reversed(self.runs(study, preset)) for key, row in run.rows.items()}
        self.one_of(f"number of {study}", key, list(rows))
        return rows[key]

    def value(self, study: str, model: str, key: str, preset: str = "best"):
        """A value of metrics.json, as it is; `key` may lead into nested objects: "against/pca/test_mse/low"."""
        (run,) = self.runs(study, preset)
        self.one_of(f"model of {study}", model, list(run.metrics))
        value = run.metrics[model]
        for name in key.split("/"):
            self.one_of(f"value of {study}, {model}", name, list(value) if isinstance(value, dict) else [])
            value = value[name]
        return value

    # ---- blocks

    def figure(self, study: str, name: str, preset: str | None = None) -> str:
        """A figure with its caption: as published and at best beside one another, or the one that there is."""
        runs = self.runs(study, preset)
        self.one_of(f"figure of {study}", name, list(dict.fromkeys(path.stem for run in runs for path in run.figures)))
        caption = CAPTIONS[self.script].get(name) or name.replace("_", " ").capitalize()
        pictures = {
            run.title: f"![{name}]({self.relative(path)})"
            for run in reversed(runs)
            for path in run.figures
            if path.stem == name
        }
        if len(pictures) == 1:
            return f"{''.join(pictures.values())}\n*{caption}*"
        return f"{table([list(pictures), list(pictures.values())])}\n\n*{caption}*"

    def results(self, *studies: str, keys: Sequence[str] | None = None) -> str:
        """The table of the studies' numbers, or of those in `keys`, beside baseline, opponent and literature."""
        rows = []
        for study in studies:
            section = self.section(study)
            title = section.study.short_title if len(studies) > 1 else ""
            for row, of_runs in section.table:
                if keys and row.number.key not in keys:
                    continue
                by_title = {run.title: one for run, one in zip(section.runs, of_runs, strict=True)}
                ours = {title: by_title[title].text for title in PRESET_TITLES.values() if by_title.get(title)}
                seeds = dict.fromkeys(str(one.seeds) for one in of_runs if one)
                rows.append(
                    {
                        "study": title,
                        "number": row.number.label,
                        **{title: ours.get(title, "-") for title in ("best", "as published")},
                        "n": ", ".join(seeds),
                        "baseline": "-" if row.baseline_named == row.opponent_named else row.baseline_named,
                        "opponent": row.opponent_named,
                        "ours against it": row.against_text,
                        "looks": str(row.number.looks or ""),
                        "literature": row.published_named,
                    }
                )
                title = ""  # of the study's first row only
        for key in keys or ():
            self.one_of(f"number of {', '.join(studies)}", key, [key for s in studies for key in self.keys(s)])
        return table_of(rows)

    def keys(self, study: str) -> list[str]:
        return [row.number.key for row, _ in self.section(study).table]

    def settings(self, *names: str) -> str:
        """The hyper-parameters of functions or studies, a column for each and each of its presets; a line names those
        that are the same in all columns."""
        script, columns = importlib.import_module(f"config.{self.script}").SCRIPT, {}
        for name in names:
            self.one_of("function or study", name, [*self.sections, *script.functions])
            study = self.sections[name].study if name in self.sections else None
            function = study.function if study else name
            for preset in [run.preset for run in self.sections[name].runs] if study else ["best", "published"]:
                argv = study.arguments(preset).split() if study else ["--function", name, "--preset", preset]
                if preset not in script.presets:
                    continue
                title, values = PRESET_TITLES[preset], flags.parse(script, argv)[function].values
                if values.get("updates"):  # instead of epochs
                    values = {**values, "epochs": None}
                columns[f"{name}, {title}" if len(names) > 1 else title] = {
                    flag: "yes" if value is True else flags.text_of(value) or "-"
                    for flag, value in values.items()
                    if is_hyper_parameter(flag, flags.flags_of(script.functions[function]))
                }
        rows, same = [], []
        for flag in dict.fromkeys(flag for column in columns.values() for flag in column):
            values = {title: column.get(flag, "-") for title, column in columns.items()}
            if len(values) > 1 and len(set(values.values())) == 1:
                same += [f"`{flag}` {value}" for value in set(values.values()) - {"-"}]
            elif set(values.values()) != {"-"}:
                rows.append({"flag": f"`{flag}`", **values})
        return table_of(rows) + (f"\n\nThe same in all columns: {', '.join(same)}." if same else "")

    def training(self, *studies: str) -> str:
        """The time that each study and preset trained."""
        rows = [
            {"study": section.study.short_title}
            | {run.title: duration(run.minutes) for run in section.runs if run.minutes}
            for section in map(self.section, studies)
            if any(run.minutes for run in section.runs)
        ]
        titles = [title for title in PRESET_TITLES.values() if any(title in row for row in rows)]
        return table_of([{"study": row["study"], **{title: row.get(title, "-") for title in titles}} for row in rows])

    def diagram(self, name: str) -> str:
        """A drawing of docs/diagrams; its title is the alternative text."""
        folder = DOCS / "diagrams"
        self.one_of("diagram", name, sorted(path.stem for path in folder.glob("*.svg")))
        title = re.search(r"<title>(.+?)</title>", (folder / f"{name}.svg").read_text(encoding="utf-8"), re.DOTALL)
        return f"![{' '.join(title[1].split()) if title else name}]({self.relative(folder / f'{name}.svg')})"


def is_hyper_parameter(name: str, declared: dict[str, flags.Flag]) -> bool:
    """Whether a setting describes model or training, or is a size in the data."""
    flag = declared.get(name)
    if flag is None or name.endswith("seed"):
        return False
    is_size = flag.kind.type in (int, float) and not flag.kind.optional
    return flag.group in ("model", "training") or (flag.group == "data" and is_size)


def table_of(rows: Sequence[dict[str, str]]) -> str:
    """A table in Markdown of rows by column; columns in which nothing is said are left out."""
    columns = [name for name in rows[0] if any(row[name] not in ("", "-") for row in rows)] if rows else []
    return table([columns, *([row[name] for name in columns] for row in rows)])


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    lines = [f"|{'|'.join(row)}|" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
