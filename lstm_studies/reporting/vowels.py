"""Figures of jv_training.py.

`histories` are means over the trainings of a model with all "seeds" and over those of the "folds": columns by name.
"""

from pathlib import Path

from lstm_studies.reporting import plots

TEST_PANEL = "test data (this curve chooses nothing)"
CV_PANEL = "held-out folds (their last cross-entropy chooses)"


def label(mode: str, epsilon: float, is_chosen: bool = False) -> str:
    """What the figures call a model."""
    return "plain" if mode == "plain" else f"{mode} ε = {epsilon:g}{' (chosen)' if is_chosen else ''}"


def mean_and_std(metrics: dict) -> tuple[float, float]:
    """Test accuracy over the seeds; a single one has no deviation."""
    return metrics.get("test_accuracy_mean", metrics["test_accuracy"]), metrics.get("test_accuracy_std", 0.0)


def note_models_below(metrics: dict[str, dict], opponents: dict[str, dict]) -> None:
    """Gives the strongest of the simple opponents a notice if models are less accurate on the test data."""
    strongest = max(opponents, key=lambda name: opponents[name]["test_accuracy"])
    least = opponents[strongest]["test_accuracy"]
    accuracies = {name: mean_and_std(values)[0] for name, values in metrics.items()}
    below = [f"{name} ({accuracy:.1%})" for name, accuracy in accuracies.items() if accuracy < least]
    if below:
        names = ", ".join(below) if len(below) < 9 else f"{len(below)} of {len(accuracies)} models"
        opponents[strongest]["notice"] = f"BELOW A SIMPLE OPPONENT, {strongest} ({least:.1%}): {names}"


def rows_of(metrics: dict[str, dict]) -> list[dict]:
    """The table of the models of every epsilon, with their differences from the plain model and the 95 % intervals."""
    rows = []
    for name, values in metrics.items():
        mean, std = mean_and_std(values)
        scores = {key: round(values[key], 5) for key in values if key.startswith("cv_")}
        row = {"model": name, "epsilon": values["epsilon"], **scores, "test_accuracy": round(mean, 5)}
        row |= {"test_accuracy_std": round(std, 5), "vote_accuracy": round(values["vote_accuracy"], 5)}
        against = values["against"].get("plain", {}).get("test_accuracy", {})
        rows.append({**row, **{name: round(value, 5) for name, value in against.items()}})
    return rows


def curve(histories: dict[str, dict], trainings: str, column: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a column; error: 1 - accuracy."""
    history = histories[trainings]
    if column in history:
        return history["epoch"], history[column]
    return history["epoch"], [1 - value for value in history[column.replace("error", "accuracy")]]


def plot_training(histories: dict[str, dict], folder: Path) -> None:
    """Accuracy, error rate and cross-entropy against epochs: of training and test data, and in cross-validation."""
    for key, name in (("accuracy", "accuracy"), ("error", "error rate"), ("loss", "cross-entropy")):
        panels = {}
        for title, trainings, part in ((TEST_PANEL, "seeds", "test"), (CV_PANEL, "folds", "val")):
            lines = {"training": f"train_{key}", "unseen": f"{part}_{key}"}
            panels[f"unseen: {title}"] = {name: curve(histories, trainings, line) for name, line in lines.items()}
        plots.panels(folder / f"{key}.png", panels, "epoch", name, log=key != "accuracy")


def plot_comparison(metrics: dict[str, dict], histories: dict[str, dict], chosen: str, mode: str, folder: Path) -> None:
    """The plain model and those of every epsilon: accuracies against epochs, and against epsilon."""
    labels = {"plain": "plain from the same start"}
    labels |= {n: label(mode, m["epsilon"], n == chosen) for n, m in metrics.items() if n != "plain"}
    others = [name for name in metrics if name not in ("plain", chosen)]
    shown = {"plain", chosen, *others[:5]}  # at most seven lines in one figure
    panels = {
        title: {labels[name]: curve(histories[name], trainings, column) for name in metrics if name in shown}
        for title, trainings, column in (
            (TEST_PANEL, "seeds", "test_accuracy"),
            (CV_PANEL, "folds", "val_accuracy"),
        )
    }
    plots.panels(folder / "accuracy.png", panels, "epoch", "accuracy")
    if len(metrics) > 2:
        plot_epsilons(metrics, folder / "epsilon.png")


def plot_epsilons(metrics: dict[str, dict], path: Path) -> None:
    """Accuracy against epsilon on test data and in cross-validation, beside that of the plain model on test data."""
    rows = sorted((m for m in metrics.values() if m["epsilon"] > 0), key=lambda m: m["epsilon"])
    x = [row["epsilon"] for row in rows]
    means, stds = zip(*map(mean_and_std, rows), strict=True)
    folds = [row["cv_accuracy"] for row in rows], [row["cv_accuracy_error"] for row in rows]
    series = {
        "test, mean and standard deviation of the seeds": (x, means, stds),
        "cross-validation, standard error": (x, *folds),
    }
    levels = {"plain from the same start, test": mean_and_std(metrics["plain"])[0]}
    plots.points(path, series, "ε", "accuracy", levels=levels, log_x=True)


def plot_places(
    metrics: dict[str, dict], histories: dict[str, dict], modes: list[str], rows: list[str], folder: Path
) -> None:
    """Models named "MODE, ROW": test accuracies with their deviations, and error rates of the folds against epochs."""
    intervals = {}
    for name, values in metrics.items():
        mean, std = mean_and_std(values)
        intervals[name] = mean, mean - std, mean + std
    plots.intervals(folder / "places.png", intervals, "test accuracy (mean and standard deviation of the seeds)", {})
    panels = {
        f"{mode}, held-out folds": {row: curve(histories[f"{mode}, {row}"], "folds", "val_error") for row in rows}
        for mode in modes
    }
    plots.panels(folder / "error.png", panels, "epoch", "error rate", log=True)


def plot_robustness(lines: dict[str, dict[str, tuple]], folder: Path) -> None:
    """Accuracies (sizes, values) by test and label of a model: for each method the plain model and all its epsilons."""
    axes = {
        "attack_x": "norm of the perturbation of x along its gradient / norm of x",
        "attack_x_20_steps": "norm of the perturbation of x, of 20 steps from 2 starts / norm of x",
        "attack_v": "norm of the perturbation of v along its gradient / norm of v in the plain model",
        "attack_v_20_steps": "norm of the perturbation of v, of 20 steps from 2 starts / norm of v in the plain model",
        "noise_x": "standard deviation of the noise on x / that of the feature",
        "noise_v": "standard deviation of the noise on v / that of the channel",
        "certified": "norm of a perturbation of x, in deviations, by randomised smoothing",
        "first_share": "share of the steps, the first ones of each utterance",
        "missing_share": "share of the steps that are missing, at random",
    }
    for test, series in lines.items():
        for mode in ("AdvLSTM", "ProxLSTM"):
            of_mode = [(name, line) for name, line in series.items() if name.startswith(mode)][:6]
            shown = {"plain": series["plain"], **dict(of_mode)}
            plots.curves(folder / f"{test}_{mode}.png", shown, axes[test], "test accuracy", markers=True)
