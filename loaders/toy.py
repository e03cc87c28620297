"""Synthetic sequences, and the scaling of sequences into [0, 1] around 1/2."""

from typing import NamedTuple

import numpy as np
import torch

from loaders.files import MAX_CELLS, DataError, checked_limit

SIGNALS = ("waves", "uniform", "walk")


class ToySignals(NamedTuple):
    train: torch.Tensor  # (N, T) float32 in [0, 1], each row with mean 1/2
    validation: torch.Tensor
    test: torch.Tensor
    facts: dict


def generate_signals(signal, count, length=50, seed=0):
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


def scale_sequences(x):
    """Map each sequence to (x - offset) / scale + 1/2: mean 1/2, all values within [0, 1].

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


def unscale_sequences(scaled, offset, scale):
    """The inverse of scale_sequences: back to the unit of its input."""
    return (scaled - 0.5) * scale + offset


def toy_signals(signal, count=10_000, length=50, seed=0, limit=None):
    """Scaled synthetic sequences, split 60/20/20 in order of generation (they are independent draws).

    Returns ToySignals. `limit` keeps the first sequences of the training part only. Raises DataError as
    generate_signals does, and for fewer than 5 sequences.
    """
    if count < 5:
        raise DataError(f"count: expected at least 5 sequences to split 60/20/20, found {count}")
    scaled = scale_sequences(generate_signals(signal, count, length, seed))[0]
    first, second = count * 3 // 5, count * 4 // 5
    train, validation, test = scaled[:first][: checked_limit(limit)], scaled[first:second], scaled[second:]
    facts = {
        "signal": signal,
        "seed": seed,
        "length": length,
        "train": len(train),
        "validation": len(validation),
        "test": len(test),
    }
    return ToySignals(train, validation, test, facts)
