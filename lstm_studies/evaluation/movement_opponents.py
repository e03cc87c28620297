"""Simple opponents of the stock movement models: two rules, logistic regression and gradient boosting.

All read the windows that the models read. Regression and boosting, by scikit-learn, are fitted on training samples;
their sizes have the best validation accuracy, by which the models' epochs are chosen too. scikit-learn is imported by
the functions that use it: its import takes .4 s.

Letters in shapes: N samples, T days of a window, I features, F = T I.
"""

import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np

NAMES = ("always_up", "yesterday", "logistic_regression", "gradient_boosting")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression, the inverse of the weight of its penalty
LEAVES = (4, 8, 16)  # of a tree; of at most 100 trees, each with a step size of .1, the best number is chosen


class Opponent(NamedTuple):
    score: Callable[[np.ndarray], np.ndarray]  # windows (N, T, I) to scores (N,): up where above 0
    chosen: dict  # on validation samples
    seconds: float = 0.0


def opponents(x: np.ndarray, y: np.ndarray, other: np.ndarray, other_y: np.ndarray, change: int) -> dict[str, Opponent]:
    """The opponents by name, fitted on x (N, T, I), y (N,), 0 or 1; the other samples validate.

    change: the feature whose last value says how a stock moved on the last known day.
    """
    fitted = {
        "always_up": Opponent(lambda x: np.ones(len(x)), {}),
        "yesterday": Opponent(lambda x: x[:, -1, change], {}),
    }
    for name, fit in (("logistic_regression", logistic_regression), ("gradient_boosting", gradient_boosting)):
        started = time.monotonic()
        if len(np.unique(y)) > 1:
            fitted[name] = fit(flat(x), y, flat(other), other_y)  # of one class: always that
        else:
            fitted[name] = Opponent(lambda x: np.full(len(x), 2.0 * y[0] - 1), {})
        fitted[name] = fitted[name]._replace(seconds=round(time.monotonic() - started, 1))
    return fitted


def flat(x: np.ndarray) -> np.ndarray:
    """(N, T, I) to (N, F)."""
    return x.reshape(len(x), -1)


def logistic_regression(x: np.ndarray, y: np.ndarray, other: np.ndarray, other_y: np.ndarray) -> Opponent:
    """On standardised features; x (N, F)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = {}
    for strength in STRENGTHS:
        regression = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=1000)
        models[strength] = make_pipeline(StandardScaler(), regression).fit(x, y)
    best = max(models, key=lambda strength: models[strength].score(other, other_y))
    return Opponent(lambda x: models[best].decision_function(flat(x)), {"C": best})


def gradient_boosting(x: np.ndarray, y: np.ndarray, other: np.ndarray, other_y: np.ndarray) -> Opponent:
    """Trees on histograms of the features; x (N, F)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    models, accuracies = {}, {}
    for leaves in LEAVES:
        model = HistGradientBoostingClassifier(max_leaf_nodes=leaves, early_stopping=False, random_state=0)
        models[leaves] = model.fit(x, y)
        for trees, score in enumerate(model.staged_decision_function(other), 1):
            accuracies[leaves, trees] = np.mean((score.ravel() > 0) == other_y)
    leaves, trees = max(accuracies, key=accuracies.get)

    def score(x: np.ndarray) -> np.ndarray:
        return next(islice(models[leaves].staged_decision_function(flat(x)), trees - 1, None)).ravel()

    return Opponent(score, {"leaves": leaves, "trees": trees})
