"""The kinds of figures. Arrays in, the path of a PNG out; nothing is shown on a screen."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.pop("MPLBACKEND", None)  # a notebook's names a backend that need not be installed here
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

matplotlib.rcdefaults()  # no matplotlibrc of the user: figures do not depend on it, nor need a TeX system
plt.rcParams.update(
    {
        "figure.dpi": 130,
        "font.size": 11,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "axes.titlesize": 12,
    }
)
# Okabe and Ito's colours, distinguishable without colour vision; black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
plt.rcParams["axes.prop_cycle"] = matplotlib.cycler(color=COLOURS)


FORMULA = r"$\mathdefault{"  # begins what is one, as on a logarithmic axis
Name = str | tuple[str, ...]  # of a line: lines ("fc", "training") and ("fc", "validation") share the colour of "fc"
Series = Mapping[Name, tuple[Sequence, ...]]


def save(figure, path: Path) -> Path:
    for text in figure.findobj(matplotlib.text.Text):  # a name such as $A$ is a name, and no formula
        if "$" in text.get_text() and not text.get_text().startswith(FORMULA):
            text.set_parse_math(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
    return Path(path)


def legend_above(axes, height: float = 1.0) -> None:
    """A legend over the axes, where it cannot cover data, in as many columns as the figure's width holds."""
    longest = max(map(len, axes.get_legend_handles_labels()[1]), default=0)
    columns = max(1, min(4, int(11 * axes.figure.get_figwidth() / (longest + 6))))
    if longest:
        axes.legend(loc="lower left", bbox_to_anchor=(0, height), ncols=columns, borderaxespad=0.2, handlelength=1.5)


def use_log_scale(axes) -> None:
    """A logarithmic y axis with plain numbers, at 1, 2 and 5 times the powers of ten if it spans more than one."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticker, steps = matplotlib.ticker, (1, 2, 5)
    few = ticker.MaxNLocator(5, steps=(*steps, 10))
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=steps) if high > 10 * low else few)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def use_ticks(axes, series: Series) -> None:
    """A logarithmic x axis whose ticks are the points' own x."""
    ticks = sorted({value for x, *_ in series.values() for value in x})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def curves(
    path: Path,
    series: Series,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    levels: Mapping[str, float] | None = None,
    dashed: Sequence[Name] = (),
    markers: bool = False,
    log_x: bool = False,
) -> Path:
    """Named lines (x, y) in one pair of axes; `levels` are named horizontal lines, `dashed` names of dashed lines; with
    `log_x` the ticks are the points' own x."""
    figure, axes = plt.subplots(figsize=(7, 4.2))
    draw_curves(axes, series, dashed, markers)
    for i, (name, value) in enumerate((levels or {}).items()):
        axes.axhline(value, color="0.35", linestyle=(":", "--", "-.")[i % 3], linewidth=1.3, label=name)
    if log:
        use_log_scale(axes)
    if log_x:
        use_ticks(axes, series)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    legend_above(axes)
    figure.autofmt_xdate() if is_dates(series) else None
    return save(figure, path)


def points(
    path: Path,
    series: Mapping[str, tuple[Sequence, Sequence, Sequence]],
    xlabel: str,
    ylabel: str,
    diagonal: str | None = None,
    levels: Mapping[str, float] | None = None,
    log_x: bool = False,
) -> Path:
    """Named lines of points (x, y) with error bars of +- the third array; `diagonal` names a line y = x, `levels` has
    horizontal ones; with `log_x` the ticks are the points' own x."""
    figure, axes = plt.subplots(figsize=(7, 4.2))
    if diagonal:
        axes.axline((0, 0), slope=1, color="0.35", linestyle=":", linewidth=1.3, label=diagonal)
    for name, level in (levels or {}).items():
        axes.axhline(level, color="0.35", linestyle=":", linewidth=1.3, label=name)
    if log_x:
        use_ticks(axes, series)
    for name, (x, y, error) in series.items():
        axes.errorbar(x, y, error, label=name, marker="o", markersize=4, capsize=2)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    legend_above(axes)
    return save(figure, path)


def panels(
    path: Path,
    rows: Mapping[str, Series],
    xlabel: str,
    ylabel: str,
    dashed: Sequence[Name] = (),
    log: bool | Sequence[str] = False,
    sharex: bool = True,
) -> Path:
    """One pair of axes per title, under one another, each with named lines; one legend on top. `log`: the logarithmic
    ones, all or by title."""
    figure, grid = plt.subplots(len(rows), figsize=(8, 1 + 2.3 * len(rows)), sharex=sharex, squeeze=False)
    for axes, (title, series) in zip(grid[:, 0], rows.items(), strict=True):
        draw_curves(axes, series, dashed)
        if log is True or (log and title in log):
            use_log_scale(axes)
        axes.set_ylabel(ylabel)
        axes.set_title(title, loc="right", fontsize=11)
    grid[-1, 0].set_xlabel(xlabel)
    if len(series) > 1:
        legend_above(grid[0, 0], 1.12)  # over the title
    if is_dates(series) and sharex:
        figure.autofmt_xdate()
    if not sharex:
        figure.subplots_adjust(hspace=0.45)
        for axes in grid[:, 0] if is_dates(series) else ():
            axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    figure.align_ylabels()
    return save(figure, path)


def worst_sequences(
    path: Path,
    ranking: Sequence[Mapping],
    names: Sequence[str],
    sequences,
    reconstructions,
    xlabel: str,
    ylabel: str,
    times: np.ndarray | None = None,
) -> Path:
    """The four sequences (N, T) with the largest errors of a ranking (evaluation.anomalies), and their reconstructions,
    against `times` (N, T) or the number of the step."""
    rows = {}
    for row in ranking[:4]:
        i = names.index(row["sequence"])
        time = np.arange(len(sequences[i])) if times is None else times[i]
        curves = {"original": (time, sequences[i]), "reconstruction": (time, reconstructions[i])}
        rows[f"{row['sequence']}: error {row['error']:.2g}"] = curves
    return panels(path, rows, xlabel, ylabel, dashed=["reconstruction"], sharex=times is None)


def draw_curves(
    axes, series: Series, dashed: Sequence[Name], markers: bool = False, colours: Mapping[str, str] | None = None
) -> None:
    """Lines (x, y) by name, or (x, y, spread) with a band of +- the spread; those whose names are tuples with the same
    first entry have the same colour, out of `colours` if it is there. Lines of training data are dashed, too."""
    colours = dict(colours or {})
    for name, (x, y, *spread) in series.items():
        colour = colours.setdefault(name if isinstance(name, str) else name[0], COLOURS[len(colours) % len(COLOURS)])
        for half in spread:
            axes.fill_between(x, np.subtract(y, half), np.add(y, half), color=colour, alpha=0.18, linewidth=0)
        if not is_dates(series) and all(float(value).is_integer() for value in x):  # epochs, sizes, steps
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        marker = "o" if markers or len(x) == 1 else None  # one point has no line to be seen by
        part = name if isinstance(name, str) else name[-1]
        style = "--" if name in dashed or part == "training" else "-"
        axes.plot(x, y, label=label_of(name), color=colour, marker=marker, linestyle=style)


def label_of(name: Name) -> str:
    return name if isinstance(name, str) else ", ".join(name)


def is_dates(series: Series) -> bool:
    return np.issubdtype(np.asarray(next(iter(series.values()))[0]).dtype, np.datetime64)


def image_columns(path: Path, columns: Mapping[str, np.ndarray], row_titles: Sequence[str]) -> Path:
    """Images (N, H, W) in [0, 1] per named column, row by row side by side."""
    figure, grid = plt.subplots(
        len(row_titles), len(columns), figsize=(2.1 * len(columns), 2.2 * len(row_titles)), squeeze=False
    )
    for j, (title, images) in enumerate(columns.items()):
        grid[0, j].set_title(title)
        for i, image in enumerate(images):
            grid[i, j].imshow(image, cmap="gray_r", vmin=0, vmax=1)
            grid[i, j].set(xticks=[], yticks=[])
            grid[i, j].spines[:].set_visible(False)
    for i, title in enumerate(row_titles):
        grid[i, 0].set_ylabel(title)
    return save(figure, path)


def intervals(path: Path, rows: Mapping[str, tuple[float, float, float]], xlabel: str, levels: Mapping[str, float]):
    """One point (value, low, high) with its interval per named row, first row on top; `levels` are vertical lines."""
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.42 * len(rows)))
    places = range(len(rows))[::-1]
    values, low, high = (np.array(column) for column in zip(*rows.values(), strict=True))
    axes.errorbar(values, places, xerr=[values - low, high - values], fmt="o", capsize=3, color=COLOURS[0])
    for i, (name, value) in enumerate(levels.items()):
        axes.axvline(value, color="0.35", linestyle=(":", "--", "-.")[i % 3], linewidth=1.3, label=name)
    axes.set(xlabel=xlabel, yticks=places, yticklabels=rows, ylim=(-0.6, len(rows) - 0.4))
    axes.grid(False, axis="y")
    if levels:
        legend_above(axes)
    return save(figure, path)


def histograms(path: Path, panels: Mapping[str, Mapping[str, np.ndarray]], xlabel: str, ylabel: str) -> Path:
    """Outlines of the histograms of named arrays on common bins, one panel per title under one another."""
    figure, grid = plt.subplots(len(panels), figsize=(7, 1 + 2.3 * len(panels)), sharex=True, squeeze=False)
    everything = np.concatenate([values for series in panels.values() for values in series.values()])
    bins = np.linspace(everything.min(), everything.max() + 1e-6, 81)
    for axes, (title, series) in zip(grid[:, 0], panels.items(), strict=True):
        for i, (name, values) in enumerate(series.items()):
            axes.hist(values, bins, histtype="step", linewidth=1.6, color=COLOURS[i % len(COLOURS)], label=name)
        axes.set_title(title, loc="right", fontsize=11)
        axes.set_ylabel(ylabel)
    grid[-1, 0].set_xlabel(xlabel)
    legend_above(grid[0, 0], 1.12)  # over the title
    figure.align_ylabels()
    return save(figure, path)


def heat_maps(
    path: Path,
    maps: Mapping[str, np.ndarray],
    x_values: Sequence,
    y_values: Sequence,
    xlabel: str,
    ylabel: str,
    label: str,
) -> Path:
    """Matrices (len(y_values), len(x_values)) on one logarithmic colour scale, each cell with its value; NaN is
    "diverged"."""
    stacked = np.stack(list(maps.values()))
    norm = matplotlib.colors.LogNorm(np.nanmin(stacked), np.nanmax(stacked))
    figure, grid = plt.subplots(1, len(maps), figsize=(1 + 3.6 * len(maps), 1.3 + 0.8 * len(y_values)), squeeze=False)
    for axes, (title, matrix) in zip(grid[0], maps.items(), strict=True):
        image = axes.imshow(matrix, norm=norm, cmap="viridis_r", aspect="auto")
        axes.set(title=title, xlabel=xlabel, xticks=range(len(x_values)), xticklabels=x_values)
        axes.set(yticks=range(len(y_values)), yticklabels=y_values if axes is grid[0, 0] else [])
        axes.grid(False)
        for (i, j), value in np.ndenumerate(matrix):
            text = "diverged" if np.isnan(value) else f"{value:.2g}"
            dark = not np.isnan(value) and norm(value) > 0.5
            axes.text(j, i, text, ha="center", va="center", color="white" if dark else "black", fontsize=10)
    grid[0, 0].set_ylabel(ylabel)
    plain = matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}")
    bar = figure.colorbar(image, ax=grid[0].tolist(), label=label, format=plain)
    bar.ax.yaxis.set_minor_formatter(plain)
    return save(figure, path)


def confusion(path: Path, matrices: Mapping[str, np.ndarray], classes: Sequence) -> Path:
    """Counts (K, K), rows true, columns predicted, one panel per model; the colour shows the errors."""
    many = len(classes) > 5  # then the panels are under one another, so that their numbers can be read
    count = len(matrices)
    shape, size = ((count, 1), (6, 5.8 * count)) if many else ((1, count), (0.6 + 2.8 * count, 3))
    figure, grid = plt.subplots(*shape, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes in grid[:, 0]:
        axes.set_ylabel("true class")
    for axes, (title, matrix) in zip(grid.flat, matrices.items(), strict=True):
        errors = matrix - np.diag(np.diag(matrix))
        axes.imshow(errors, cmap="Oranges", vmin=0, vmax=max(1, errors.max()) * 2)  # pale enough to write on
        axes.set(title=title, xlabel="predicted class")
        axes.set(xticks=range(len(classes)), xticklabels=classes, yticks=range(len(classes)), yticklabels=classes)
        axes.grid(False)
        for (i, j), cases in np.ndenumerate(matrix):
            if cases:
                weight = "bold" if i == j else None
                axes.text(j, i, int(cases), ha="center", va="center", weight=weight)
    return save(figure, path)


def dots(
    path: Path, names: Sequence[str], series: Mapping[str, Sequence[float]], ylabel: str, levels: Mapping[str, float]
) -> Path:
    """One column per name with a mark of each series in it; `levels` are named horizontal lines."""
    figure, axes = plt.subplots(figsize=(1.5 + 0.38 * len(names), 4.2))
    for (name, values), marker, colour in zip(series.items(), "oxsd", COLOURS, strict=False):
        axes.plot(range(len(names)), values, linestyle="", marker=marker, markersize=7, color=colour, label=name)
    for name, value in levels.items():
        axes.axhline(value, color="0.35", linestyle=":", linewidth=1.3, label=name)
    axes.set_ylabel(ylabel)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    legend_above(axes)
    return save(figure, path)
