"""Figures of the stock movement study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reporting.plots import COLOURS, legend_above, plt, save


def starts(
    path: Path,
    own: tuple[Sequence[float], Sequence[float]],
    published: tuple[float, Sequence[float]],
    level: Mapping[str, float],
) -> Path:
    """Test accuracy after further training against that of its start, in percent: one point per training.

    own: accuracies of our starts and of what became of them. published: accuracy of the published start, and those of
    the trainings from it. level: a named horizontal line.
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    axes.axline((50, 50), slope=1, color="0.35", linestyle=":", linewidth=1.3, label="no better than its start")
    for name, value in level.items():
        axes.axhline(value, color="0.35", linestyle="--", linewidth=1.3, label=name)
    axes.plot(*own, "o", color=COLOURS[0], markersize=4.5, alpha=0.6, label=f"from {len(own[0])} ALSTMs of ours")
    start, after = published
    label = f"from the published ALSTM, {len(after)} seeds"
    axes.plot(np.full(len(after), start), after, "D", color=COLOURS[1], markersize=5, alpha=0.8, label=label)
    everything = np.concatenate([*own, [start], after, list(level.values())])
    low, high = everything.min() - 0.4, everything.max() + 0.4
    axes.set(xlim=(min(*own[0], start) - 0.4, max(*own[0], start) + 0.4), ylim=(low, high))
    axes.set(xlabel="test accuracy of the start (%)", ylabel="test accuracy after training on (%)")
    legend_above(axes)
    return save(figure, path)
