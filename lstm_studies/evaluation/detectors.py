"""Anomaly scores of each record of a series: from the errors of a model's windows, and from simple opponents.

Every opponent is fitted on training records, as the model is, and gives each of N records a score, the larger the more
anomalous. `events` and `average_precision` judge any of them; `plant` makes anomalies, so that the truth is known.
"""

import functools
from collections.abc import Callable, Iterable

import numpy as np

from lstm_studies.evaluation.baselines import fit_pca

KINDS = ("point", "level", "frequency", "correlation")  # of planted anomalies
MEMORY = 4000  # records that `surprise` and the moving z-score look back at
QUIET = 100  # records after an alert in which only a larger score is another one


# ---- from windows to records -----------------------------------------------------------------------------------------


def window_starts(segment: np.ndarray, window: int, stride: int = 1) -> np.ndarray:
    """The first records of all windows of `window` records that lie within one segment, (W,) int64."""
    starts = np.arange(0, len(segment) - window + 1, stride)
    return starts[segment[starts] == segment[starts + window - 1]] if len(starts) else starts


def record_errors(errors: Iterable[np.ndarray], starts: np.ndarray, count: int) -> np.ndarray:
    """The mean error of each record over all windows that hold it, (N, C); NaN for records that none holds.

    errors: batches of windows' errors (B, T, C), in the order of `starts` (W,).
    """
    total = number = None
    place = 0
    for batch in errors:
        if total is None:
            total, number = np.zeros((count, batch.shape[2])), np.zeros(count)
        first = starts[place : place + len(batch)]
        for step in range(batch.shape[1]):
            np.add.at(total, first + step, batch[:, step])
            np.add.at(number, first + step, 1)
        place += len(batch)
    if total is None:
        return np.full((count, 1), np.nan)
    with np.errstate(invalid="ignore"):
        return total / number[:, None]


def surprise(scores: np.ndarray, memory: int = MEMORY) -> np.ndarray:
    """How far each score (N,) is from those of the `memory` records before it, in their standard deviations.

    What a series does again and again surprises no more; the first anomaly of its size does.
    """
    count, scores = len(scores), np.asarray(scores, float) - scores[0]
    sums, squares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (scores, scores**2))
    last = np.arange(count)
    first = np.maximum(0, last - memory)
    number = np.maximum(last - first, 1)
    mean = (sums[last] - sums[first]) / number
    variance = np.maximum((squares[last] - squares[first]) / number - mean**2, 0)
    deviation = np.sqrt(variance)
    return np.abs(scores - mean) / (deviation + 1e-3 * np.maximum.accumulate(deviation) + 1e-12)


def alerts(scores: np.ndarray, quiet: int = QUIET) -> np.ndarray:
    """The scores (N,) that are larger than all of the `quiet` ones before them; the others become the smallest."""
    padded = np.concatenate([np.full(quiet, -np.inf), scores])
    before = np.lib.stride_tricks.sliding_window_view(padded, quiet)[: len(scores)].max(1)
    return np.where(scores > before, scores, scores.min(initial=0))


# ---- opponents -------------------------------------------------------------------------------------------------------


def moving_z_score(values: np.ndarray, training: int, segment: np.ndarray, window: int) -> np.ndarray:
    """Each record's distance from the mean of those before it, in their standard deviations, in the worst column.

    values (N, C). `training`, `segment` and `window` are those of the other opponents, and not needed here.
    """
    return np.max([surprise(column) for column in values.T], 0)


def pca_errors(values: np.ndarray, training: int, segment: np.ndarray, window: int, components: int) -> np.ndarray:
    """Squared errors of windows' reconstructions by PCA, averaged over columns and over windows as the model's are."""
    mean, std = values[:training].mean(0), values[:training].std(0)
    scaled = ((values - mean) / np.where(std > 0, std, 1.0)).clip(-20, 20)
    starts = window_starts(segment, window)
    rows = starts[:, None] + np.arange(window)
    import torch

    windows = torch.from_numpy(scaled[rows].reshape(len(starts), -1)).float()
    pca = fit_pca(windows[starts + window <= training], components)
    errors = (windows - pca.reconstruct(windows)).square().view(len(starts), window, -1).numpy()
    return filled(record_errors([errors], starts, len(values)).mean(1))


def isolation_forest(values: np.ndarray, training: int, segment: np.ndarray, window: int) -> np.ndarray:
    """Isolation forest (Liu, Ting and Zhou 2008, scikit-learn's) of the last 8 records up to each one."""
    from sklearn.ensemble import IsolationForest

    deviation = values[:training].std(0)
    values = values / 2.0 ** np.floor(np.log2(np.where(deviation > 0, deviation, 1)))  # it splits no range below 1e-7
    past = np.concatenate([np.repeat(values[:1], 7, 0), values])
    rows = np.lib.stride_tricks.sliding_window_view(past, 8, 0).reshape(len(values), -1)
    forest = IsolationForest(random_state=0).fit(rows[:training])
    return -forest.score_samples(rows)


def matrix_profile(values: np.ndarray, training: int, segment: np.ndarray, window: int) -> np.ndarray:
    """Distance of the normalised window that ends at each record to the nearest earlier one (left matrix profile).

    Yeh et al., "Matrix profile I", ICDM 2016; windows that overlap are no neighbours. The mean over columns.
    """
    profiles = []
    for column in values.T:
        windows = np.lib.stride_tricks.sliding_window_view(column, window).astype(np.float32)
        centred = windows - windows.mean(1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        unit = centred / np.maximum(length, 1e-6 * float(np.abs(column).max()) or 1.0)
        profile = np.zeros(len(values))
        for start in range(window, len(unit), 512):
            block = unit[start : start + 512]
            near = block @ unit[: start + len(block)].T
            allowed = np.arange(near.shape[1]) <= np.arange(start, start + len(block))[:, None] - window
            best = np.where(allowed, near, -1).max(1)
            profile[start + window - 1 : start + window - 1 + len(block)] = np.sqrt(
                np.maximum(2 * window * (1 - best), 0)
            )
        profiles.append(profile)
    return np.mean(profiles, 0)


Detector = Callable[[np.ndarray, int, np.ndarray, int], np.ndarray]
OPPONENTS = ("PCA", "moving z-score", "isolation forest", "matrix profile")


def opponents(code_size: int) -> dict[str, Detector]:
    """The simple detectors by name; PCA has as many components as the autoencoder's code."""
    pca = functools.partial(pca_errors, components=code_size)
    return dict(zip(OPPONENTS, (pca, moving_z_score, isolation_forest, matrix_profile), strict=True))


def longest_run(segment: np.ndarray) -> int:
    """The most records without a gap, of the segment of each record."""
    return int(np.unique(segment, return_counts=True)[1].max(initial=0))


def filled(scores: np.ndarray) -> np.ndarray:
    """The scores with the smallest one where there is none."""
    least = np.nanmin(scores) if np.isfinite(scores).any() else 0.0
    return np.where(np.isnan(scores), least, scores)


# ---- judgement -------------------------------------------------------------------------------------------------------


def events(scores: np.ndarray, threshold: float, merge: int) -> list[tuple[int, int, int]]:
    """First record, last record and peak of each run above the threshold; runs `merge` records apart are one.

    Records without a score, NaN, are not above it.
    """
    above = np.flatnonzero(scores > threshold)
    if not len(above):
        return []
    runs = np.split(above, np.flatnonzero(np.diff(above) > merge) + 1)
    return [(int(run[0]), int(run[-1]), int(run[0] + np.nanargmax(scores[run[0] : run[-1] + 1]))) for run in runs]


def average_precision(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under the curve of precision against recall, record by record: scores (N,), anomalous (N,) bool."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(anomalous[order])
    if not hits[-1]:
        raise ValueError("anomalous: expected some records to be true, found none")
    ends = np.append(np.diff(scores[order]) != 0, True)  # equal scores count together
    precision, recall = hits[ends] / (np.flatnonzero(ends) + 1), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def f1_score(flagged: np.ndarray, anomalous: np.ndarray) -> float:
    """Harmonic mean of precision and recall of flagged records (N,) bool."""
    right = (flagged & anomalous).sum()
    return float(2 * right / max(1, flagged.sum() + anomalous.sum()))


def plant(
    values: np.ndarray, kind: str, first: int, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, C) with anomalies from the record `first` on, one per eight times `width` records, each in one column.

    point: one record moved, up or down, by 3 standard deviations of the column. level: `width` records moved by 1.5 of
    them. frequency: `width` records of the column twice as fast. correlation: `width` records of the column from
    another time, so that each column alone is as ever.
    Returns the changed values and which records (N,) are changed. Raises ValueError for a series of one column and a
    kind that needs several, and for one too short.
    """
    count, columns = values.shape
    if kind not in KINDS or (kind == "correlation" and columns < 2):
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, the last one for several columns, found {kind!r}")
    starts = np.arange(first + width, count - 2 * width, 8 * width)
    if not len(starts):
        raise ValueError(f"expected at least {3 * width} records to plant anomalies into, found {count - first}")
    changed, anomalous, std = values.copy(), np.zeros(count, bool), values[:first].std(0)
    for start in starts + rng.integers(0, 4 * width, len(starts)).clip(max=count - 2 * width - starts[-1]):
        records = slice(start, start + (1 if kind == "point" else width))
        column, sign = rng.integers(columns), rng.choice([-1, 1])
        if kind == "point":
            changed[records, column] += sign * 3 * std[column]
        elif kind == "level":
            changed[records, column] += sign * 1.5 * std[column]
        elif kind == "frequency":
            changed[records, column] = values[start : start + 2 * width : 2, column]
        else:
            other = rng.integers(0, max(1, first - width))
            changed[records, column] = values[other : other + width, column]
        anomalous[records] = True
    return changed, anomalous
