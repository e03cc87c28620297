"""The figure of a series: its columns, the errors of its records, and the events above the threshold."""

from pathlib import Path

import matplotlib
import numpy as np

from lstm_studies.reporting.plots import COLOURS, legend_above, plt, save

MOST_COLUMNS = 4  # that are drawn


def plot_anomalies(
    path: Path,
    time: np.ndarray,
    values: np.ndarray,
    columns: tuple[str, ...],
    scores: np.ndarray,
    threshold: float,
    events: list[tuple[int, int, int]],
    labelled: tuple[tuple[int, int], ...] = (),
) -> Path:
    """Values (N, C) of named columns and scores (N,) against time (N,), with events and labelled anomalies marked."""
    shown = columns[:MOST_COLUMNS]
    figure, grid = plt.subplots(len(shown) + 1, figsize=(9, 1.2 + 1.9 * (len(shown) + 1)), sharex=True)
    for k, (axes, name) in enumerate(zip(grid, shown, strict=False)):
        axes.plot(time, values[:, k], color=COLOURS[0], linewidth=0.7)
        axes.set_ylabel(name)
    grid[-1].plot(time, np.maximum(scores, 1e-12), color=COLOURS[0], linewidth=0.7, label="error")
    grid[-1].axhline(threshold, color="0.35", linestyle="--", linewidth=1.2, label="threshold")
    grid[-1].set(ylabel="squared error\n(training variances)", yscale="log")
    grid[-1].yaxis.set_major_formatter("{x:g}")
    for axes in grid:
        for i, (first, last) in enumerate(labelled):
            axes.axvspan(
                time[first], time[last], color=COLOURS[4], alpha=0.25, lw=0, label="labelled anomaly" if not i else None
            )
        for i, (first, last, _) in enumerate(events):
            axes.axvspan(time[first], time[last], color=COLOURS[1], alpha=0.45, lw=1, label="event" if not i else None)
    legend_above(grid[-1])
    dated = np.issubdtype(time.dtype, np.datetime64)
    if dated:
        locator = matplotlib.dates.AutoDateLocator()
        grid[-1].xaxis.set_major_locator(locator)
        grid[-1].xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    grid[-1].set_xlabel("time" if dated else "record")
    figure.align_ylabels()
    return save(figure, path)
