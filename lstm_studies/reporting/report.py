"""The report: a paper with a chapter per script, in Markdown, and as a page of HTML that holds its figures."""

import base64
import re
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path

import jinja2
import markdown

from lstm_studies.reporting.chapters import Chapter
from lstm_studies.reporting.runs import Failure, Run, sections_of
from lstm_studies.reporting.studies import CAPTIONS, HEADLINES, ROOT, TITLES

Results = Sequence[Run | Failure]
IMAGE_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def heading_anchor(title: str, separator: str = "-") -> str:
    """The anchor that code hosts give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", separator)


def render(template: str, **content) -> str:
    """A template of this folder, filled."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["heading_anchor"] = heading_anchor
    return environment.get_template(template).render(content)


def markdown_page(published: Sequence[Run], folder: Path, profile: str = "", results: Results = ()) -> str:
    """The report in Markdown, for a file in `folder`. Raises ChapterError.

    It shows the published results or, with `results` of the profile full, those. Results of the profile quick stand at
    the end of their chapters, beside the published ones.
    """
    runs = [result for result in results if isinstance(result, Run)]
    renewed = {(run.study.path, run.preset): run for run in runs if profile == "full"}
    shown = [renewed.pop((run.study.path, run.preset), run) for run in published] + list(renewed.values())
    scripts = [script for script in TITLES if any(run.study.script == script for run in shown)]
    chapters = {script: Chapter(script, shown, folder) for script in scripts}
    content = {
        "profile": profile,
        "count": len({result.study for result in results}),
        "failures": [result for result in results if isinstance(result, Failure)],
        "headlines": markdown_table(shown),
        "titles": TITLES,
        "root": ROOT,
        "captions": CAPTIONS,
        "chapters": chapters,
        "machines": machines(shown),
        "quick": {s: beside(s, runs, shown) if profile == "quick" else [] for s in scripts},
    }
    return render("report.md", **content)


def machines(runs: Sequence[Run]) -> str:
    """The machines on which the runs trained, and the versions of the packages there."""
    configs = [run.config for run in runs if "machine" in run.config and "versions" in run.config]
    versions = [", ".join(f"{name} {version}" for name, version in config["versions"].items()) for config in configs]
    return escape("; ".join(dict.fromkeys([*(config["machine"] for config in configs), *versions])), quote=False)


def beside(script: str, runs: Sequence[Run], published: Sequence[Run]) -> list[dict]:
    """For each run of a script: the run, and label, row and published row (or None) of each of its numbers."""
    of_study = {section.study.path: section for section in sections_of(published)}
    listed = []
    for run in runs:
        if run.study.script == script:
            section = of_study.get(run.study.path)
            rows = {row.number.key: row for row, _ in section.table} if section else {}
            listed.append({"run": run, "rows": [(row, rows.get(key)) for key, row in run.rows.items()]})
    return listed


def write_page(published: Sequence[Run], profile: str, results: Results, folder: Path) -> Path:
    """Writes `index.html`, one file that can be passed on, and returns its path. Raises ChapterError."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown_page(published, folder, profile, results)
    converter = markdown.Markdown(
        output_format="html",
        extensions=["tables", "fenced_code", "toc", "md_in_html"],
        extension_configs={"toc": {"slugify": heading_anchor, "toc_depth": "1-2"}},
    )
    body = converter.convert(text).replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    body = re.sub(r'src="([^"]+)"', lambda match: f'src="{data_uri(folder / unescape(match[1]))}"', body)
    chapters = re.split(r"(?=<h1)", body)
    page = folder / "index.html"
    page.write_text(render("page.html", chapters=chapters[1:], contents=converter.toc_tokens), encoding="utf-8")
    return page


def data_uri(path: Path) -> str:
    return f"data:{IMAGE_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def markdown_table(results: Results, page: str = "") -> str:
    """The table of the headlines, a row per study; a study's name links to its chapter in `page`."""
    sections = {section.study.path: section for section in sections_of(results)}
    return render(
        "table.md", sections=[sections[p] for p in HEADLINES if p in sections], titles=TITLES, page=page
    ).strip()


def summary_of(results: Results) -> list[dict]:
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
