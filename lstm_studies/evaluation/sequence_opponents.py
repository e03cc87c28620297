"""Strong and cheap opponents of a sequence classifier, by scikit-learn but for the distances of dynamic time warping.

lda       linear discriminant analysis with the shrinkage of Ledoit and Wolf 2004, on 8 resampled steps, mean and
          deviation of each feature
svm       a support vector machine with a Gaussian kernel on the same numbers
gaussian  one Gaussian for all steps of a class: a sequence has the class under which its steps are likeliest
dtw       the class of the nearest training sequence under dynamic time warping (Sakoe and Chiba 1978)

Everything that they choose, they choose by cross-validation on the training sequences. Features are standardised.

Letters in shapes: N training sequences, M test sequences, T time steps, I features, K classes.
"""

import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lstm_studies.evaluation import class_scores

RESAMPLED = 8  # steps
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # C of the support vector machine
REGULARISATIONS = (0.001, 0.01, 0.1, 0.5)  # of the covariances: the identity's share of them
WINDOWS = (1.0, 0.2, 0.1, 0.05)  # of time warping: how far apart steps that are compared may be, as a share of both
MAX_CELLS = 2**32  # pairs of steps that time warping compares in about a minute: for more, `dtw` is left out


class Labelled(NamedTuple):
    """Sequences (T, I) and their classes (N,) from 0."""

    values: Sequence[np.ndarray]
    labels: np.ndarray


def fit_opponents(train: Labelled, test: Labelled, names: Sequence[str], seed: int) -> dict[str, tuple]:
    """By name: an opponent's metrics, and its scores (M,) by key: "test_accuracy", which test sequences it gets right,
    and "test_log_loss" of one that gives probabilities. Past MAX_CELLS, without `dtw`."""
    steps = np.concatenate(train.values).astype(np.float64)
    mean, scale = steps.mean(0), steps.std(0)
    scale[scale <= 1e-6 * np.abs(steps).max(0)] = 1  # a constant feature
    scaled = [part._replace(values=[(value - mean) / scale for value in part.values]) for part in (train, test)]
    results = {}
    for name in names:
        if name == "dtw" and comparisons(train, test) > MAX_CELLS:
            continue
        started = time.perf_counter()
        scores = {}
        if name == "lda":
            predicted, log_p = lda(*scaled)
            chosen = class_scores.summary(log_p, test.labels)
            scores["test_log_loss"] = class_scores.losses(log_p, test.labels)
        elif name == "svm":
            predicted, chosen = svm(*scaled, seed)
        elif name == "gaussian":
            predicted, chosen = gaussian(*scaled, seed)
        else:
            predicted, chosen = nearest_by_time_warping({"standard": scaled, "none": (train, test)})
        scores["test_accuracy"] = predicted == test.labels
        metrics = {"test_accuracy": float(scores["test_accuracy"].mean()), **chosen, "seed": seed, "seeds": 1}
        results[name] = metrics | {"seconds": round(time.perf_counter() - started, 2)}, scores
    return results


# ---- numbers of a sequence -------------------------------------------------------------------------------------------


def summaries(values: Sequence[np.ndarray]) -> np.ndarray:
    """(N, (RESAMPLED + 2) I): steps at equal distances, linearly interpolated, mean and standard deviation."""
    rows = []
    for value in values:
        at = np.linspace(0, len(value) - 1, RESAMPLED)
        before = at.astype(int)
        share = (at - before)[:, None]
        resampled = (1 - share) * value[before] + share * value[np.minimum(before + 1, len(value) - 1)]
        rows.append(np.concatenate([resampled.ravel(), value.mean(0), value.std(0)]))
    return np.stack(rows)


def lda(train: Labelled, test: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """The predicted classes (M,) and the log-probabilities (M, K)."""
    x, count = summaries(test.values), 1 + max(train.labels.max(), test.labels.max())
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(summaries(train.values), train.labels)
    return model.predict(x), class_scores.log_probabilities(model.predict_proba(x), model.classes_, count)


def svm(train: Labelled, test: Labelled, seed: int) -> tuple[np.ndarray, dict]:
    model = make_pipeline(StandardScaler(), SVC())
    search = GridSearchCV(model, {"svc__C": STRENGTHS}, cv=folds_of(train.labels, seed))
    search.fit(summaries(train.values), train.labels)
    chosen = {"C": search.best_params_["svc__C"], "cv_accuracy": float(search.best_score_)}
    return search.predict(summaries(test.values)), chosen


def folds_of(labels: np.ndarray, seed: int) -> StratifiedKFold:
    rarest = np.unique(labels, return_counts=True)[1].min()
    return StratifiedKFold(max(2, min(5, rarest)), shuffle=True, random_state=seed)


# ---- Gaussians of steps ----------------------------------------------------------------------------------------------


def gaussian(train: Labelled, test: Labelled, seed: int) -> tuple[np.ndarray, dict]:
    right = dict.fromkeys(REGULARISATIONS, 0)
    for inside, held in folds_of(train.labels, seed).split(train.labels, train.labels):
        known = Labelled([train.values[i] for i in inside], train.labels[inside])
        for strength in right:
            predicted = likeliest_classes(known, [train.values[i] for i in held], strength)
            right[strength] += int((predicted == train.labels[held]).sum())
    best = max(right, key=right.__getitem__)
    chosen = {"regularisation": best, "cv_accuracy": right[best] / len(train.labels)}
    return likeliest_classes(train, test.values, best), chosen


def likeliest_classes(train: Labelled, values: Sequence[np.ndarray], strength: float) -> np.ndarray:
    """(M,) of M sequences: the class under whose Gaussian the sum of the steps' log likelihoods is largest."""
    classes = np.unique(train.labels)
    scores = np.empty((len(classes), len(values)))
    for k, label in enumerate(classes):
        steps = np.concatenate([v for v, own in zip(train.values, train.labels, strict=True) if own == label])
        mean = steps.mean(0)
        covariance = (1 - strength) * (steps - mean).T @ (steps - mean) / len(steps) + strength * np.eye(len(mean))
        factor = np.linalg.inv(np.linalg.cholesky(covariance))  # log p(x) = -|factor (x - mean)|^2 / 2 + log |factor|
        log_determinant = np.log(np.diagonal(factor)).sum()
        for m, value in enumerate(values):
            scores[k, m] = log_determinant * len(value) - np.square((value - mean) @ factor.T).sum() / 2
    return classes[scores.argmax(0)]


# ---- dynamic time warping --------------------------------------------------------------------------------------------


def comparisons(train: Labelled, test: Labelled) -> int:
    """Pairs of steps of which `nearest_by_time_warping` computes distances."""
    known, unknown = (len(part.values) * max(map(len, part.values)) for part in (train, test))
    return known * (2 * len(WINDOWS) * known + unknown)


def nearest_by_time_warping(scalings: dict[str, tuple[Labelled, Labelled]]) -> tuple[np.ndarray, dict]:
    """Scaling of the features and window are chosen by leaving out one training sequence at a time."""
    best, best_accuracy = None, -1.0
    for scaling, window in itertools.product(scalings, WINDOWS):
        train, _ = scalings[scaling]
        distances = time_warping_distances(train.values, train.values, window)
        np.fill_diagonal(distances, np.inf)
        accuracy = float((train.labels[distances.argmin(1)] == train.labels).mean())
        if accuracy > best_accuracy:
            best, best_accuracy = (scaling, window), accuracy
    train, test = scalings[best[0]]
    nearest = time_warping_distances(test.values, train.values, best[1]).argmin(1)
    return train.labels[nearest], {"scaling": best[0], "window": best[1], "cv_accuracy": best_accuracy}


def time_warping_distances(values: Sequence[np.ndarray], others: Sequence[np.ndarray], window: float) -> np.ndarray:
    """(M, N) of M and N sequences: the least sum of squared distances of steps along a path that aligns the two.

    D_ij = |x_i - y_j|^2 + min(D_i-1,j, D_i,j-1, D_i-1,j-1), for all pairs of sequences at once; infinite where the
    positions of i and j, as shares of their sequences, are further apart than `window` and than a step.
    """
    (x, lengths), (y, other_lengths) = padded(values), padded(others)  # (M, T, I), (N, T, I)
    (m, steps), (n, other_steps) = x.shape[:2], y.shape[:2]
    columns, squares = y.swapaxes(0, 1).reshape(other_steps * n, -1), np.square(y).sum(2).T  # (T N, I), (T, N)
    reach = np.maximum(window, 1 / np.minimum(lengths[:, None], other_lengths))  # (M, N)
    distances = np.empty((m, n))
    row = np.full((other_steps, m, n), np.inf)  # D of the step before, then of this one
    for i in range(steps):
        costs = np.square(x[:, i]).sum(1)[:, None, None] - 2 * (x[:, i] @ columns.T).reshape(m, other_steps, n)
        position = ((i + 0.5) / lengths)[:, None]
        left = diagonal = np.full((m, n), np.inf)
        for j in range(other_steps):
            best = np.minimum(np.minimum(left, diagonal), row[j]) if i or j else 0.0
            left = costs[:, j] + squares[j] + best
            if window < 1:
                left[np.abs(position - (j + 0.5) / other_lengths) > reach] = np.inf
            diagonal, row[j] = row[j].copy(), left
        for ending in np.flatnonzero(lengths == i + 1):
            distances[ending] = row[other_lengths - 1, ending, np.arange(n)]
    return distances


def padded(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (N, T, I) with zeros after their ends, and their lengths (N,)."""
    lengths = np.array([len(value) for value in values])
    x = np.zeros((len(values), lengths.max(), values[0].shape[1]))
    for row, value in zip(x, values, strict=True):
        row[: len(value)] = value
    return x, lengths
