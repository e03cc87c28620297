"""Figures of the predicted prices: losses, predicted against actual, and a roll-out over many days.

Letters in shapes: S stocks, D days.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lstm_studies.reporting import plots

PREDICTED, PERSISTENCE = "predicted the day before", "persistence"


def axes_of(metadata: Mapping[str, object]) -> tuple[str, str, str]:
    """What is drawn, its unit, and both: a person's prices may be in any currency, one number per date is anything.

    metadata: of the data.
    """
    quantity = "value" if metadata["fields"] == 1 else "daily high"
    return (quantity,) * 3 if metadata["data"] == "own" else (quantity, "USD", f"{quantity} (USD)")


def losses(path: Path, curves: Mapping[str, plots.Series], dominance: float, prediction: str) -> None:
    """Reconstruction loss, prediction loss and their weighted sum against epochs, one panel each.

    curves: of "mse", "prediction" and "loss", each for training and validation data. prediction: what its loss is.
    """
    rows = {
        "reconstruction: mean squared error": curves["mse"],
        f"prediction: {prediction}": curves["prediction"],
        f"{dominance:g} × reconstruction + {1 - dominance:g} × prediction": curves["loss"],
    }
    plots.panels(path, rows, "epoch", "loss")


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


def sequence(path: Path, name: str, dates: np.ndarray, highs: np.ndarray, predicted: np.ndarray, ylabel: str) -> None:
    """The last window of a stock with highs (D,): the day after each of its T steps, predicted (T,) and true.

    All these days but the last one are in the window themselves.
    """
    days = dates[-len(predicted) :]
    series = {
        name: (days, highs[-len(predicted) :]),
        "predicted, the day is in the window": (days[:-1], predicted[:-1]),
        "predicted, the day after the window": (days[-1:], predicted[-1:]),
        PERSISTENCE: (days, highs[-len(predicted) - 1 : -1]),
    }
    plots.curves(path, series, "date", ylabel, dashed=[PERSISTENCE], markers=True)


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
