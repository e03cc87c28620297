"""Anomalies planted into a series of several columns, where the truth is known."""

import numpy as np

KINDS = ("point", "level", "frequency", "correlation")


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
            other = rng.integers(0, first - width)
            changed[records, column] = values[other : other + width, column]
        anomalous[records] = True
    return changed, anomalous
