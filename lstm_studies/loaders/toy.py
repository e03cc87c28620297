"""Sequences for the toy study: synthetic ones or a file of one's own, and their scaling into [0, 1] around 1/2."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstm_studies.loaders.files import MAX_CELLS, DataError, checked_limit, read_bytes

SIGNALS = ("waves", "uniform", "walk")
OWN_TABLE = "a table of numbers with one sequence per row"


class ToySignals(NamedTuple):
    train: Tensor  # (N, T) float32 in [0, 1], each row with mean 1/2
    validation: Tensor
    test: Tensor
    metadata: dict


def generate_signals(signal: str, count: int, length: int = 50, seed: int = 0) -> Tensor:
    """Raw synthetic sequences (N, T) float32; the same seed gives the same values.

    waves: the sum of 3 sines, amplitude U(.2, 1), frequency U(.5, 12) cycles per sequence, phase U(0, 2 pi).
    uniform: independent U(0, 1) values, the ten at steps 20..29 (counted from 0) times .1.
    walk: Gaussian random walks, running sums of N(0, 1) steps.
    Raises DataError for an unknown kind, a negative seed, and sizes below 1 or past memory.
    """
    if signal not in SIGNALS:
        raise DataError(f"signal: expected one of {', '.join(SIGNALS)}, found {signal!r}")
    if count < 1 or length < 1 or seed < 0 or count * length > MAX_CELLS:
        raise DataError(
            f"signals: expected count >= 1, length >= 1, seed >= 0, at most {MAX_CELLS} values, "
            f"found count {count}, length {length}, seed {seed}"
        )
    rng = np.random.default_rng(seed)
    if signal == "waves":
        ranges = ((0.2, 1.0), (0.0, 2 * np.pi), (0.5, 12.0))
        amplitude, phase, frequency = (rng.uniform(low, high, (count, 3, 1)) for low, high in ranges)
        turn = 2 * np.pi * np.arange(length) / length
        values = sum(amplitude[:, k] * np.sin(frequency[:, k] * turn + phase[:, k]) for k in range(3))
    elif signal == "uniform":
        values = rng.random((count, length))
        values[:, 20:30] *= 0.1
    else:
        values = rng.standard_normal((count, length)).cumsum(axis=1)
    return torch.from_numpy(values.astype(np.float32))


def scale_sequences(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps each sequence to (x - offset) / scale + 1/2: mean 1/2, all values within [0, 1].

    x: (N, T) or (N, T, features), any unit; the statistics run over the T steps of one sequence.
    Returns scaled (shaped as x), offset (N, 1[, features]), the mean, and scale, twice the largest distance
    from it. A constant sequence becomes 1/2 everywhere, with scale 1. Raises DataError for values not finite.
    """
    if x.ndim < 2 or 0 in x.shape or not torch.isfinite(x).all():
        raise DataError(
            f"scale_sequences: expected finite values (N, T), found shape {tuple(x.shape)} "
            f"with {int((~torch.isfinite(x)).sum())} values that are not finite"
        )
    dtype = x.dtype if x.is_floating_point() else torch.float32
    x = x.double()
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    constant = low == high  # asked of the values: x - mean need not round to exactly 0
    offset = torch.where(constant, low, x.mean(1, keepdim=True))
    scale = torch.where(constant, 1.0, 2 * torch.maximum(high - offset, offset - low))
    scaled = (x - offset) / scale + 0.5
    return scaled.to(dtype), offset.to(dtype), scale.to(dtype)


def unscale_sequences(scaled: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """The inverse of scale_sequences: back to the unit of its input."""
    return (scaled - 0.5) * scale + offset


def toy_signals(
    signal: str, count: int = 10_000, length: int = 50, seed: int = 0, limit: int | None = None
) -> ToySignals:
    """Scaled synthetic sequences, split 60/20/20 in order of generation (they are independent draws).

    `limit` keeps the first sequences of the training part only. Raises DataError as generate_signals does, and for
    fewer than 5 sequences.
    """
    if count < 5:
        raise DataError(f"count: expected at least 5 sequences to split 60/20/20, found {count}")
    return _split(generate_signals(signal, count, length, seed), limit, {"data": "generated", "signal": signal}, seed)


def own_sequences(path: Path, seed: int = 0, limit: int | None = None) -> ToySignals:
    """The sequences of a CSV file (see read_sequences), scaled, in random order by `seed`, split 60/20/20.

    Of equal sequences one is kept, so that none is in two parts. `limit` is as in toy_signals.
    """
    values = np.unique(read_sequences(path).numpy(), axis=0)
    if len(values) < 5:
        raise DataError(f"{path}: expected at least 5 different sequences to split 60/20/20, found {len(values)}")
    values = torch.from_numpy(np.random.default_rng(seed).permutation(values))
    return _split(values, limit, {"data": "own", "file": Path(path).name}, seed)


def read_sequences(path: Path) -> Tensor:
    """The rows of a CSV file, also gzipped, as sequences (N, T) float32, in the file's order and unit.

    A first row without any number, or that numbers the columns, is a header; below one, a first column without a name
    is an index, as is one that numbers three rows or more. Raises DataError for a file that is no table of numbers, and
    with the line for a number that is missing or infinite.
    """
    from lstm_studies.loaders.tables import are_numbers, counts_rows, read_rows, say, to_numbers  # pandas takes 0.3 s

    path, notes = Path(path), []
    rows = read_rows(path, read_bytes(path, OWN_TABLE), OWN_TABLE, notes)
    first = rows.iloc[0]
    numeric = are_numbers(first.str.strip())
    header = not numeric.any() or (not numeric[0] and counts_rows(first[1:]))
    numbered = len(first) > 1 and counts_rows(first)
    if numbered:
        notes.append("the first row numbers the columns and is no sequence")
    if header or numbered:
        rows = rows.iloc[1:]
    if header and first[0].strip() in ("", "Unnamed: 0"):
        rows = rows.drop(columns=0)
    elif len(rows) > 2 and rows.shape[1] > 2 and counts_rows(rows[0]):
        notes.append("the first column numbers the sequences and is no value of theirs")
        rows = rows.drop(columns=0)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
        numbers = to_numbers(path, rows, notes).astype(np.float32)
    if numbers.shape[0] < 1 or numbers.shape[1] < 2:
        raise DataError(f"{path}: expected {OWN_TABLE}, found {numbers.shape[0]} rows of {numbers.shape[1]} numbers")
    for row, column in np.argwhere(~np.isfinite(numbers))[:1]:
        cell, name = rows.iat[row, column][:40], rows.columns[column] + 1
        line = f"{path}, line {rows.index[row]}"
        raise DataError(f"{line}: expected a finite number in every column, found {cell!r} in column {name}")
    say(path, notes)
    return torch.from_numpy(numbers)


def _split(values: Tensor, limit: int | None, metadata: dict, seed: int) -> ToySignals:
    count, length = values.shape
    scaled = scale_sequences(values)[0]
    first, second = count * 3 // 5, count * 4 // 5
    train, validation, test = scaled[:first][: checked_limit(limit)], scaled[first:second], scaled[second:]
    sizes = {"train": len(train), "validation": len(validation), "test": len(test)}
    return ToySignals(train, validation, test, {**metadata, "seed": seed, "length": length, **sizes})
