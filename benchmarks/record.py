"""Keeps what the benchmarks found: docs/results/benchmarks.json, and from it a page of tables and a figure.

Each script gives one section. Run alone, it replaces its own and leaves the others as they are.
"""

import json
import math
import platform
from pathlib import Path
from typing import NamedTuple

import torch

import plots

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
UNITS = ((120.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "us"))  # from, seconds, name


class Row(NamedTuple):
    """One comparison: seconds (or MiB) of each way, and the ratio that has a target."""

    what: str
    values: dict[str, float]  # by the name of the way
    ratio: float | None = None
    target: str = ""


def record(
    script: str, title: str, about: str, rows: list[Row], unit: str = "s", figure: str | None = None
) -> list[Row]:
    """Prints the rows, and puts them into the files as a section of `bench_<script>.py`.

    `about` says what is compared; `figure` is the name of a figure in RESULTS that stands for the section's bars.
    """
    for row in rows:
        print(f"{row.what}: {', '.join(cells(row, unit))}", flush=True)
    path = RESULTS / "benchmarks.json"
    sections = json.loads(path.read_text()) if path.exists() else {}
    machine = {"processor": processor(), "torch": torch.__version__}
    content = {"about": about, "unit": unit, "figure": figure, **machine, "rows": [row._asdict() for row in rows]}
    sections[title] = {"script": f"benchmarks/bench_{script}.py", **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sections, indent=2) + "\n")
    (RESULTS / "benchmarks.md").write_text(page(sections))
    draw(sections, RESULTS / "benchmarks.png")
    return rows


def processor() -> str:
    """The model's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def cells(row: Row, unit: str) -> list[str]:
    values = [f"{name} {amount(value, unit)}" for name, value in row.values.items()]
    return values + ([] if row.ratio is None else [f"ratio {row.ratio:.2f} {row.target and f'({row.target})'}".strip()])


def amount(value: float, unit: str) -> str:
    """Three digits with a unit that suits."""
    if unit != "s":
        return f"{value:,.0f} {unit}"
    _, factor, name = next(u for u in UNITS if value >= u[0])
    return f"{value / factor:#.3g}".rstrip(".") + f" {name}"


def page(sections: dict[str, dict]) -> str:
    """Markdown: a table per section."""
    lines = ["# Benchmarks", "", "Medians of interleaved rounds. The machine is shared: take the ratios. `make bench` "
             "measures everything anew; a script of `benchmarks/` alone replaces its own table.", "",
             "![The values of the tables](benchmarks.png)"]  # fmt: skip
    for title, section in sections.items():
        rows = [Row(**row) for row in section["rows"]]
        ways = list(dict.fromkeys(way for row in rows for way in row.values))
        compared = any(row.ratio is not None for row in rows)
        head = ["what", *ways, *(["ratio", "target"] if compared else [])]
        picture = ["", f"![{title}]({section['figure']})"] if section["figure"] else []
        lines += ["", f"## {title}", "", section["about"], *picture, "",
                  f"`{section['script']}`, {section['processor']}, torch {section['torch']}.", ""]  # fmt: skip
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for row in rows:
            values = [amount(row.values[way], section["unit"]) if way in row.values else "-" for way in ways]
            ratio = ["-" if row.ratio is None else f"{row.ratio:.2f}", row.target or "-"] if compared else []
            lines.append("| " + " | ".join([row.what, *values, *ratio]) + " |")
    return "\n".join(lines) + "\n"


def draw(sections: dict[str, dict], path: Path) -> None:
    """A panel of bars per section that has no figure of its own, its rows from the top; all axes are logarithmic."""
    sections = {title: section for title, section in sections.items() if not section["figure"]}
    if not sections:
        return
    bars = [sum(len(row["values"]) + 1 for row in section["rows"]) for section in sections.values()]
    heights = [1.3 + 0.22 * count for count in bars]
    figure, grid = plots.plt.subplots(
        len(sections), figsize=(11, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, (title, section) in zip(grid[:, 0], sections.items(), strict=True):
        draw_section(axes, title, section)
    plots.save(figure, path)


def draw_section(axes, title: str, section: dict) -> None:
    place, ticks, ways = 0.0, [], {}
    rows = [Row(**row) for row in section["rows"]]
    for row in rows:
        start = place
        for way, value in row.values.items():
            colour = ways.setdefault(way, plots.COLOURS[len(ways) % len(plots.COLOURS)])
            axes.barh(place, value, height=0.9, color=colour, label=way)
            axes.annotate(amount(value, section["unit"]), (value, place), (4, 0), textcoords="offset points",
                          va="center", fontsize=9)  # fmt: skip
            place += 1
        ticks.append((start + place - 1) / 2)
        place += 1
    values = [value for row in rows for value in row.values.values()]
    low = 10 ** math.floor(math.log10(min(values) * 0.9))
    axes.set(xscale="log", xlim=(low, max(values) * 4), yticks=ticks, yticklabels=[row.what for row in rows])
    axes.set(xlabel="seconds" if section["unit"] == "s" else section["unit"])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_title(title, loc="left", pad=24 if len(ways) > 1 else 6)
    if len(ways) > 1:
        handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        axes.legend(handles.values(), handles.keys(), loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles),
                    borderaxespad=0.2, handlelength=1.0)  # fmt: skip
