"""Keeps what the benchmarks measured: docs/results/benchmarks.json, and from it a page with a table and a figure each.

Each script gives one section. Run alone, it replaces its own and leaves the others as they are.
"""

import json
import platform
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from lstm_studies.reporting import plots
from lstm_studies.reporting.chapters import table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
UNITS = ((120.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "us"))  # from, seconds, name


BY_THE_CLOCK = ("grid",)  # what runs in several processes at a time
WITHOUT_GAIN = (
    "AttentiveLSTM, hand-written backward pass of its LSTM: 3 % of a step at 4 units, slower than nn.LSTM at 16.",
    "ProxLSTM, two iterations of conjugate gradients instead of three: float32 differs from float64 by 7e-4, not 6e-5.",
    "ProxLSTM at 64 units: products by oneDNN, by the weights' Gram matrix, or with a transposed copy of the weights.",
    "ConvLSTM in bfloat16: a bfloat16 backward pass, x convolved apart, padded channels, chunks of the batch; without "
    "AMX, h as a dense tensor (.95 to 1.02 of the time).",
    "784 steps: the decoder's input product computed once.",
    "Six models of a grid as one batch: 1.8 to 2.4 times the time of six nn.LSTM.",
)


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
    if not rows:  # nothing could be measured here: what is there stays
        return rows
    for row in rows:
        print(f"{row.what}: {', '.join(cells(row, unit))}", flush=True)
    path = RESULTS / "benchmarks.json"
    sections = json.loads(path.read_text()) if path.exists() else {}
    machine = {
        "processor": processor(),
        "torch": torch.__version__,
        "processor_time": unit == "s" and script not in BY_THE_CLOCK,
    }
    content = {"about": about, "unit": unit, "figure": figure, **machine, "rows": [row._asdict() for row in rows]}
    sections[title] = {"script": f"benchmarks/bench_{script}.py", **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sections, indent=2) + "\n")
    (RESULTS / "benchmarks.md").write_text(page(sections))
    if figure is None:
        draw(title, sections[title], RESULTS / figure_name(title))
    return rows


def renew(
    folder: Path, stem: str, computed: Iterable[tuple[str, dict]], order: Iterable[str], page: Callable[[dict], str]
) -> dict[str, dict]:
    """Writes each computed section, with its name, into STEM.json and `page` of all into STEM.md; the others stay."""
    file = folder / f"{stem}.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name, section in computed:
        results[name] = section | {"processor": processor()}
        results = {one: results[one] for one in order if one in results}
        file.write_text(json.dumps(results, indent=2) + "\n")
        (folder / f"{stem}.md").write_text(page(results))
    return results


class Metric(NamedTuple):
    """How a table writes one metric: accuracies in percent, and all its numbers with equally many decimals."""

    label: str
    difference_label: str
    decimals: int
    factor: int = 1

    @classmethod
    def of(cls, name: str) -> "Metric":
        """The metric of a table, from its name; squared errors are small."""
        if name == "accuracy":
            return cls("accuracy, %", "difference, points", 1, 100)
        return cls(name, "difference", 5 if name.endswith(("MSE", "squared error")) else 4)

    def number(self, value: float, sign: str = "") -> str:
        """In the decimals of the table, with a true minus sign."""
        return f"{self.factor * value:{sign}.{self.decimals}f}".replace("-", "−")

    def mean(self, row: dict) -> str:
        """A row's mean and its standard deviation over seeds."""
        return self.number(row["mean"]) + ("" if row["std"] is None else f" ± {self.number(row['std'])}")

    def difference(self, row: dict) -> str:
        """A row's difference with its interval."""
        low, high = self.number(row["low"], "+"), self.number(row["high"], "+")
        return f"{self.number(row['difference'], '+')} [{low}, {high}]"


def processor() -> str:
    """The model's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_of_process(key: str) -> int:
    """KiB of this process now (VmRSS) or at its peak (VmHWM), on Linux; ru_maxrss may hold its parent's peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1])


def cells(row: Row, unit: str) -> list[str]:
    values = [f"{name} {amount(value, unit)}" for name, value in row.values.items()]
    ratio = [] if row.ratio is None else [f"ratio {number(row.ratio)}"]
    return values + ratio + ([f"target {row.target}"] if row.target else [])


def number(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2f}"


def amount(value: float, unit: str) -> str:
    """Three digits with a unit that suits."""
    if unit != "s":
        return f"{value:,.0f} {unit}"
    _, factor, name = next(u for u in UNITS if value >= u[0])
    return f"{value / factor:#.3g}".rstrip(".") + f" {name}"


def page(sections: dict[str, dict]) -> str:
    """Markdown: a figure per section, and a table of what the figure does not show."""
    machines = {name: f"{section['processor']}, torch {section['torch']}" for name, section in sections.items()}
    (usual, _), *_ = Counter(machines.values()).most_common(1)
    lines = [
        "# Benchmarks",
        "",
        "Medians of interleaved rounds on a shared machine: ratios are more reliable than times. Unless a section says "
        f"otherwise, times are processor time of one thread on {usual}. `make bench` renews the page.",
    ]
    for title, section in sections.items():
        rows = [Row(**row) for row in section["rows"]]
        ways = list(dict.fromkeys(way for row in rows for way in row.values))
        compared, aimed = any(row.ratio is not None for row in rows), any(row.target for row in rows)
        factor, unit = unit_of(rows, section["unit"])
        head = [f"what ({unit})", *ways, *(["ratio"] if compared else []), *(["target"] if aimed else [])]
        other = [] if machines[title] == usual else [machines[title]]
        time = ["wall-clock time"] if section["unit"] == "s" and not section.get("processor_time") else []
        lines += [
            *("", f"## {title}", "", section["about"]),
            *("", ", ".join([f"`{section['script']}`", *other, *time]) + "."),
            *("", f"![Figure]({section['figure'] or figure_name(title)})"),
        ]
        if len(head) == 2:  # the figure has these numbers
            continue
        cells = [head]
        for row in rows:
            values = [cell(row.values[way] / factor, unit) if way in row.values else "-" for way in ways]
            ratio = [number(row.ratio)] if compared else []
            cells.append([row.what, *values, *ratio, *([symbols(row.target) or "-"] if aimed else [])])
        lines += ["", table(cells)]
    return "\n".join([*lines, "", "## Tried without gain", "", *(f"- {line}" for line in WITHOUT_GAIN)]) + "\n"


def unit_of(rows: list[Row], unit: str) -> tuple[float, str]:
    """The unit of a table, which for seconds suits their median, and its size."""
    if unit != "s":
        return 1.0, unit
    middle = statistics.median(value for row in rows for value in row.values.values())
    return next((size, name) for least, size, name in UNITS if middle >= least)


def cell(value: float, unit: str) -> str:
    """At least three digits of a time; a whole number in other units."""
    short = value < 100 and unit in {name for *_, name in UNITS}
    return f"{value:#.3g}".rstrip(".") if short else f"{value:,.0f}"


def symbols(target: str) -> str:
    return target.replace(">= ", "≥").replace("<= ", "≤").replace("< ", "<")


class Bar(NamedTuple):
    label: str
    value: float
    text: str
    target: float | None  # what the value is to reach or to stay below


def bars_of(section: dict) -> list[Bar]:
    """The ratios, where there are any; else the first value of each row, or all values of a single row."""
    rows = [Row(**row) for row in section["rows"]]
    if any(row.ratio is not None for row in rows):
        rows = [row for row in rows if row.ratio is not None]
        return [Bar(row.what, row.ratio, number(row.ratio), number_in(row.target)) for row in rows]
    if len(rows) == 1:
        return [Bar(f"{rows[0].what}, {way}", v, amount(v, section["unit"]), None) for way, v in rows[0].values.items()]
    several = len({way for row in rows for way in row.values}) > 1
    firsts = [(row.what, *next(iter(row.values.items()))) for row in rows]
    return [
        Bar(f"{what}, {way}" if several else what, value, amount(value, section["unit"]), None)
        for what, way, value in firsts
    ]


def number_in(target: str) -> float | None:
    """Of a target such as ">= 2"."""
    match = re.search(r"\d+(\.\d+)?", target)
    return float(match[0]) if match else None


def figure_name(title: str) -> str:
    """The file with the bars of a section."""
    return "bench_" + re.sub(r"\W+", "_", title.lower()).strip("_") + ".png"


def draw(title: str, section: dict, path: Path) -> Path:
    """The bars of one section, a line each, with their targets."""
    bars = bars_of(section)
    figure, axes = plots.plt.subplots(figsize=(5, 0.9 + 0.32 * len(bars)))
    compared = any(row["ratio"] is not None for row in section["rows"])
    values = [bar.value for bar in bars]
    axes.barh(range(len(bars)), values, height=0.7, color=plots.COLOURS[0])
    for place, bar in enumerate(bars):
        right = max(bar.value, bar.target or 0)  # beside the line of the target, too
        axes.annotate(bar.text, (right, place), (4, 0), textcoords="offset points", va="center")
        if bar.target is not None:
            axes.vlines(bar.target, place - 0.5, place + 0.5, color=plots.COLOURS[1], linewidth=2.5)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    spread = max(values) > 12 * min(values) > 0
    furthest = max(*values, *(bar.target or 0 for bar in bars))
    low, high = (min(values) / 2, furthest * 4) if spread else (0, furthest * 1.3)
    axes.set(xlim=(low, high), ylim=(len(bars) - 0.4, -0.6), xscale="log" if spread else "linear")
    unit = "seconds" if section["unit"] == "s" else section["unit"]
    aimed = any(bar.target is not None for bar in bars)
    axes.set_xlabel(("ratio" if compared else unit) + (" (orange: the target)" if aimed else ""))
    axes.grid(False, axis="y")
    axes.set_title(title, loc="left")
    return plots.save(figure, path)
