"""The score of the Numenta Anomaly Benchmark, for detectors that give each record of a series an anomaly score.

Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms - the Numenta Anomaly Benchmark", 2015
(arXiv:1510.03336), section II. Each labelled anomaly is a window of records. The first detection in a window earns up
to 1, the more the earlier it is; a window without one costs 1; a detection outside of all windows costs up to .11, the
more the longer ago the last window ended. One threshold holds for all series, the one with the best total; 100 is the
score of a perfect detector, 0 that of one that says nothing. The first 15 % of a series, at most 750 records, are for
training and do not count.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FALSE_POSITIVE = 0.11  # weights of the standard profile: a false positive; a true positive and a missed window weigh 1
PROBATION = 0.15  # of the records of a series, which do not count


class Total(NamedTuple):
    """The benchmark's result over all series."""

    score: float  # 100: perfect, 0: no detection at all
    threshold: float
    detected: int  # windows with a detection
    false_positives: int
    by_series: np.ndarray  # (series,): what each contributes; their mean is the score


def probation(count: int) -> int:
    """How many of `count` records train the detector."""
    return int(min(PROBATION * count, PROBATION * 5000))


def scaled_sigmoid(position: np.ndarray) -> np.ndarray:
    """From 1 at the start of a window (position -1) by 0 at its end (0) to -1 long after it (above 3)."""
    return np.where(position > 3, -1.0, 2 / (1 + np.exp(5 * np.minimum(position, 3))) - 1)


def benchmark(series: Sequence[tuple[np.ndarray, Sequence[tuple[int, int]]]]) -> Total:
    """The best total over all thresholds, each score a possible one.

    series: of each one, the scores (N,) of its records, the larger the more anomalous, and the first and last record of
    each labelled anomaly, in order.
    """
    scores, gains, groups, origins, count = [], [], [], [], 0
    for i, (all_scores, windows) in enumerate(series):
        gain, window = detection_gains(len(all_scores), windows)
        counted = np.arange(len(all_scores)) >= probation(len(all_scores))
        scores.append(np.asarray(all_scores, float)[counted])
        gains.append(gain[counted])
        groups.append(np.where(window < 0, -1, window + count)[counted])
        origins.append(np.full(counted.sum(), i))
        count += len(windows)
    score, gain, group, origin = (np.concatenate(parts) for parts in (scores, gains, groups, origins))
    order = np.argsort(-score, kind="stable")
    score, gain, group, origin = score[order], gain[order], group[order], origin[order]
    best_in = np.zeros(count)  # the best detection so far in each window; a first detection also saves its cost of 1
    steps = np.empty(len(score))
    for i, (value, window) in enumerate(zip(gain, group, strict=True)):
        if window < 0:
            steps[i] = value
        else:
            better = max(best_in[window], 1 + value)
            steps[i] = better - best_in[window]
            best_in[window] = better
    totals = np.concatenate([[0.0], np.cumsum(steps)])  # above the detector that says nothing
    ends = np.concatenate([[True], np.append(score[1:] < score[:-1], True)])  # equal scores are detected together
    best = np.flatnonzero(ends)[np.argmax(totals[ends])]
    detected = len(set(group[:best].tolist()) - {-1})
    threshold = score[best - 1] if best else np.inf
    by_series = np.bincount(origin[:best], steps[:best], len(series)) * len(series)
    scale, false_positives = 100 / (2 * count), int((group[:best] < 0).sum())
    return Total(scale * totals[best], float(threshold), detected, false_positives, scale * by_series)


def detection_gains(count: int, windows: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """What a detection at each of `count` records earns (N,), and the window that it is in (N,), -1 for none."""
    records = np.arange(count)
    gain, window = np.full(count, -FALSE_POSITIVE), np.full(count, -1)
    for k, (first, last) in enumerate(windows):
        width = last - first + 1
        after = records > last
        gain[after] = FALSE_POSITIVE * scaled_sigmoid((records[after] - last) / max(width - 1, 1))
        inside = (records >= first) & (records <= last)
        gain[inside] = scaled_sigmoid(-(last - records[inside] + 1) / width) / scaled_sigmoid(np.array(-1.0))
        window[inside] = k
    return gain, window
