"""Figures of jv_training.py.

`histories` are the columns (trainings, epochs) of a model's trainings with all "seeds" and of those of the "folds". One
colour per model in all figures: black for plain, one for each epsilon (the larger, the lighter) and for each method.
"""

import math
from pathlib import Path

import numpy as np

from lstm_studies.reporting import plots
from lstm_studies.reporting.plots import COLOURS, draw_curves, legend_above, plt, save
from lstm_studies.training import tables

TEST_PANEL = "test data (chooses nothing)"
CV_PANEL = "cross-validation (its last cross-entropy chooses)"
METHODS = {"plain": "black", "AdvLSTM": COLOURS[0], "ProxLSTM": COLOURS[1]}
PLACES = {
    "input": "before the convolution",
    "convolution": "after the convolution",
    "lstm": "before the last layer",
    "all": "at all three",
}
EPSILONS = {"AdvLSTM": "ε, length of the perturbation of v", "ProxLSTM": "ε, weight of the proximal problem"}


def label(mode: str, epsilon: float, is_chosen: bool = False) -> str:
    """Name of a model in figures."""
    return "plain" if mode == "plain" else f"{mode} ε = {epsilon:g}{' (chosen)' if is_chosen else ''}"


def colour_of(epsilon: float) -> tuple[float, ...]:
    """The colour of an epsilon: from dark at 0.01 to light at 100, by its logarithm."""
    return plt.colormaps["plasma"](0.9 * min(1.0, max(0.0, (math.log10(epsilon) + 2) / 4)))


def mean_and_std(metrics: dict) -> tuple[float, float]:
    """Test accuracy over the seeds; a single one has no deviation."""
    return metrics.get("test_accuracy_mean", metrics["test_accuracy"]), metrics.get("test_accuracy_std", 0.0)


def note_models_below(metrics: dict[str, dict], opponents: dict[str, dict]) -> None:
    """Adds a notice to the strongest simple opponent if models are less accurate on the test data."""
    strongest = max(opponents, key=lambda name: opponents[name]["test_accuracy"])
    least = opponents[strongest]["test_accuracy"]
    accuracies = {name: mean_and_std(values)[0] for name, values in metrics.items()}
    below = [f"{name} ({accuracy:.1%})" for name, accuracy in accuracies.items() if accuracy < least]
    if below:
        names = ", ".join(below) if len(below) < 9 else f"{len(below)} of {len(accuracies)} models"
        opponents[strongest]["notice"] = f"BELOW A SIMPLE OPPONENT, {strongest} ({least:.1%}): {names}"


def rows_of(metrics: dict[str, dict]) -> list[dict]:
    """The table of all epsilons: scores, and differences from the plain model with their 95 % intervals."""
    rows = []
    for name, values in metrics.items():
        mean, std = mean_and_std(values)
        scores = {key: round(values[key], 5) for key in values if key.startswith("cv_")}
        row = {"model": name, "epsilon": values["epsilon"], **scores, "test_accuracy": round(mean, 5)}
        row |= {"test_accuracy_std": round(std, 5), "vote_accuracy": round(values["vote_accuracy"], 5)}
        against = values["against"].get("plain", {}).get("test_accuracy", {})
        rows.append({**row, **{name: round(value, 5) for name, value in against.items()}})
    return rows


def curve(histories: dict[str, dict], trainings: str, column: str) -> tuple[np.ndarray, ...]:
    """Epochs, means and, of several trainings, standard deviations of a column, accuracies in percent."""
    values = histories[trainings][column] * (100 if "accuracy" in column else 1)
    return tables.curve(histories[trainings]["epoch"][0], values)


def histories(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Columns (trainings, epochs) of the trainings of a model with all "seeds", and of those of the "folds"."""
    seeds, folds = tables.trainings_in(folder), sorted(folder.glob("fold[0-9]*"))
    return {"seeds": tables.histories(seeds), "folds": tables.histories(folds)}


def plot_training(histories: dict[str, dict], folder: Path) -> None:
    """Accuracy and cross-entropy against epochs: of training and test data, and in cross-validation."""
    for key, name in (("accuracy", "accuracy (%)"), ("loss", "cross-entropy")):
        panels = {}
        for title, trainings, part in ((TEST_PANEL, "seeds", "test"), (CV_PANEL, "folds", "val")):
            lines = {"training": f"train_{key}", "unseen": f"{part}_{key}"}
            curves = {name: curve(histories, trainings, column) for name, column in lines.items()}
            is_banded = trainings == "seeds" and key == "accuracy"  # the folds' own utterances make them differ
            panels[f"unseen: {title}"] = {name: line if is_banded else line[:2] for name, line in curves.items()}
        plots.panels(folder / f"{key}.png", panels, "epoch", name, log=key == "loss")


def plot_comparison(metrics: dict[str, dict], histories: dict[str, dict], chosen: str, mode: str, folder: Path) -> None:
    """Accuracies of the plain model and of each epsilon: against epochs, a panel per epsilon, and against epsilon."""
    names = [name for name in metrics if name != "plain"]
    shape = (math.ceil(len(names) / 2), min(2, len(names)))
    figure, grid = plt.subplots(*shape, figsize=(8, 1 + 2.3 * shape[0]), sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        lines = {}
        for title, model in (("plain", "plain"), (mode, name)):
            lines[title, "test"] = curve(histories[model], "seeds", "test_accuracy")
            lines[title, "cross-validation"] = curve(histories[model], "folds", "val_accuracy")[:2]
        epsilon, dashed = metrics[name]["epsilon"], [line for line in lines if line[1] != "test"]
        draw_curves(axes, lines, dashed, colours={"plain": METHODS["plain"], mode: colour_of(epsilon)})
        axes.set_title(label(mode, epsilon, name == chosen), loc="right", fontsize=11)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy (%)")
    for axes in grid.flat[max(0, len(names) - shape[1]) : len(names)]:
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
    legend_above(grid[0, 0], 1.14)
    save(figure, folder / "accuracy.png")
    if len(names) > 1:
        plot_epsilons(metrics, mode, folder / "epsilon.png")


def plot_epsilons(metrics: dict[str, dict], mode: str, path: Path) -> None:
    """Accuracy against epsilon on test data and in cross-validation, beside that of the plain model on test data."""
    rows = sorted((m for m in metrics.values() if m["epsilon"] > 0), key=lambda m: m["epsilon"])
    means, stds = zip(*map(mean_and_std, rows), strict=True)
    folds = [row["cv_accuracy"] for row in rows], [row["cv_accuracy_error"] for row in rows]
    x, percent = [row["epsilon"] for row in rows], lambda values: [100 * value for value in values]
    series = {
        f"{mode}, test, mean and standard deviation of the seeds": (x, *map(percent, (means, stds))),
        f"{mode}, cross-validation, standard error": (x, *map(percent, folds)),
    }
    levels = {"plain with as many epochs, test": 100 * mean_and_std(metrics["plain"])[0]}
    with plt.rc_context({"axes.prop_cycle": plt.cycler(color=[METHODS[mode], "0.55"])}):
        plots.points(path, series, EPSILONS[mode], "accuracy (%)", levels=levels, log_x=True)


def plot_places(metrics: dict[str, dict], modes: list[str], rows: list[str], path: Path) -> None:
    """Test accuracies of the models named "MODE, ROW", with their deviations over the seeds."""
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.62 * len(rows)))
    for k, mode in enumerate(modes):
        means, stds = np.array([mean_and_std(metrics[f"{mode}, {row}"]) for row in rows]).T * 100
        heights = np.arange(len(rows))[::-1] + 0.22 * (1 - k)
        axes.errorbar(means, heights, xerr=stds, fmt="o", capsize=3, color=METHODS[mode], label=mode)
    axes.set(xlabel="test accuracy (%), mean and standard deviation of the seeds", ylim=(-0.6, len(rows) - 0.4))
    axes.set_yticks(range(len(rows))[::-1], map(row_label, rows))
    axes.grid(False, axis="y")
    legend_above(axes)
    save(figure, path)


def row_label(row: str) -> str:
    """Display name of a row: "dropout before the convolution" for "dropout input"."""
    return " ".join(PLACES.get(word, word) for word in row.split())


def plot_robustness(lines: dict[str, dict[tuple, tuple]], folder: Path) -> None:
    """Accuracies (sizes, values) by test and model (mode, epsilon, chosen or not): a figure per test and method."""
    axes = {
        "attack_x": "norm of the perturbation of x (one gradient step) / norm of x",
        "attack_x_20_steps": "norm of the perturbation of x (20 gradient steps, 2 restarts) / norm of x",
        "attack_v": "norm of the perturbation of v (one gradient step) / norm of v in plain",
        "attack_v_20_steps": "norm of the perturbation of v (20 gradient steps, 2 restarts) / norm of v in plain",
        "noise_x": "standard deviation of the noise on x / that of the feature",
        "noise_v": "standard deviation of the noise on v / that of the channel",
        "certified": "norm of a perturbation of x, in deviations, by randomised smoothing",
        "first_share": "fraction of each utterance that is kept, from its beginning",
        "missing_share": "fraction of the steps that are missing, at random",
    }
    for test, series in lines.items():
        for mode in dict.fromkeys(mode for mode, _, _ in series if mode != "plain"):
            shown = {model: line for model, line in series.items() if model[0] in ("plain", mode)}
            colours = {label(*model): colour_of(model[1]) if model[1] else METHODS["plain"] for model in shown}
            figure, plot = plt.subplots(figsize=(7, 4.2))
            curves = {label(*model): (sizes, 100 * np.array(values)) for model, (sizes, values) in shown.items()}
            draw_curves(plot, curves, (), True, colours)
            plot.set(xlabel=axes[test], ylabel="test accuracy (%)")
            legend_above(plot)
            save(figure, folder / f"{test}_{mode}.png")
