"""Figures of the predicted prices: losses, predicted against actual, and a roll-out.

Letters in shapes: S stocks, D days.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lstm_studies.reporting import plots

PREDICTED, PERSISTENCE = "predicted the day before", "persistence"


def axes_of(metadata: Mapping[str, object]) -> tuple[str, str, str]:
    """What is drawn, its unit, and both: one's own prices may be in any currency, one number per date is anything.

    metadata: of the data.
    """
    quantity = "value" if metadata["fields"] == 1 else "daily high"
    return (quantity,) * 3 if metadata["data"] == "own" else (quantity, "USD", f"{quantity} (USD)")


def losses(folder: Path, curves: Mapping[str, plots.Series], dominance: float, prediction: str) -> None:
    """Reconstruction and prediction loss against epochs, each by itself, and with their weights beside their sum.

    curves: of "mse", "prediction" and "loss", by the data they are of. prediction: what the loss of the prediction is.
    """
    labels = {"mse": "reconstruction: mean squared error", "prediction": f"prediction: {prediction}"}
    for key, ylabel in labels.items():
        plots.curves(folder / f"{key}_loss.png", curves[key], "epoch", ylabel, dashed=["training"])
    weights = {"mse": ("reconstruction", dominance), "prediction": ("prediction", 1 - dominance)}
    parts = {f"{weight:g} x {name}": (key, weight) for key, (name, weight) in weights.items() if weight}
    series = {
        (name, label): (epochs, [weight * value for value in values])
        for name, (key, weight) in {**parts, "sum": ("loss", 1)}.items()
        for label, (epochs, values) in curves[key].items()
    }
    dashed = [name for name in series if name[-1] == "training"]
    plots.curves(folder / "losses.png", series, "epoch", "loss", log=True, dashed=dashed)


def predictions(
    path: Path,
    shown: Sequence[tuple[str, int]],
    dates: np.ndarray,
    actual: np.ndarray,
    predicted: np.ndarray,
    last: np.ndarray,
    quantity: str,
    unit: str,
) -> None:
    """The last 60 days of some stocks, `shown` by name and row: actual, predicted and the day before's, (S, D) each."""
    days = slice(-min(60, len(dates)), None)
    curves = {quantity: actual, PREDICTED: predicted, PERSISTENCE: last}
    rows = {name: {label: (dates[days], y[i, days]) for label, y in curves.items()} for name, i in shown}
    plots.panels(path, rows, "date", unit, dashed=[PREDICTED, PERSISTENCE])


def changes(
    path: Path,
    names: Sequence[str],
    dates: np.ndarray,
    actual: np.ndarray,
    predicted: np.ndarray,
    last: np.ndarray,
    quantity: str,
) -> None:
    """The last day of 20 stocks, evenly spaced in the alphabet: change since the day before, true and predicted."""
    chosen = np.linspace(0, len(names) - 1, min(20, len(names))).round().astype(int)
    percent = {label: 100 * (y / last - 1)[chosen, -1] for label, y in (("true", actual), (PREDICTED, predicted))}
    ylabel = f"change of the {quantity} on {dates[-1]} (%)"
    plots.dots(path, [names[i] for i in chosen], percent, ylabel, {PERSISTENCE: 0.0})


def rollout(path: Path, name: str, dates: np.ndarray, highs: np.ndarray, predicted: np.ndarray, ylabel: str) -> None:
    """Days of one stock, highs (2 D,): the second half as predicted from the first, (D,), day after day."""
    half = len(predicted)
    series = {
        name: (dates, highs),
        "predicted from the first half": (dates[half:], predicted),
        PERSISTENCE: (dates[half:], np.full(half, highs[half - 1])),
    }
    plots.curves(path, series, "date", ylabel, dashed=list(series)[1:])
