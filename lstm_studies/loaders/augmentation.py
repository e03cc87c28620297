"""Random changes of training sequences (B, T) that lie in [0, 1] around 1/2, with PyTorch's random numbers."""

import torch
from torch import Tensor
from torch.nn.functional import conv1d, grid_sample

from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.toy import scale_sequences

TAPS = 3  # of a random filter
ORDER = 7  # of linear prediction: two coefficients for each of three sines, one for their mean


def extended(x: Tensor, steps: int) -> Tensor:
    """Sequences x (B, T) continued by `steps` values at both ends with linear prediction, (B, T + 2 steps).

    Each value is a weighted sum of the ORDER values before it, with `prediction_weights`. A sum of ORDER // 2 sines and
    a constant follows such a recurrence exactly.
    """
    if not steps:
        return x
    x = x.double() - 0.5
    weights = prediction_weights(x)
    for _ in range(steps):
        before = (x[:, :ORDER].flip(1) * weights).sum(1, keepdim=True)
        after = (x[:, -ORDER:] * weights).sum(1, keepdim=True)
        x = torch.cat([before, x, after], 1)
    return (x + 0.5).float()


def prediction_weights(x: Tensor) -> Tensor:
    """Weights (B, ORDER) that best predict steps of sequences x (B, T) from those before, in both directions of time.

    Least squares on each sequence; Makhoul 1975, "Linear prediction", the covariance method. Raises DataError for
    sequences of ORDER steps or fewer.
    """
    if x.shape[1] <= ORDER:
        raise DataError(f"linear prediction: expected sequences of more than {ORDER} steps, found {x.shape[1]}")
    windows = x.unfold(1, ORDER + 1, 1)
    both = torch.cat([windows, windows.flip(2)], 1)  # (B, equations, ORDER + 1)
    return torch.linalg.lstsq(both[..., :-1], both[..., -1:], driver="gelsd").solution.squeeze(2)


def random_stretches(x: Tensor, shortest: float, longest: float, steps: int) -> Tensor:
    """A random part of each sequence x (B, T), between `shortest` and `longest` steps long, stretched or compressed to
    `steps` steps and scaled anew: (B, steps).

    Values between steps are cubic interpolations. A sum of sines stays one, with lower or higher frequencies.
    """
    last = x.shape[1] - 1
    length = shortest + (longest - shortest) * torch.rand(len(x), 1, device=x.device) - 1  # from first to last step
    start = (last - length) * torch.rand(len(x), 1, device=x.device)
    time = torch.linspace(0, 1, steps, device=x.device)
    place = 2 * (start + length * time) / last - 1  # (B, steps); -1: first step, 1: last step
    grid = torch.stack([place, torch.zeros_like(place)], 2).unsqueeze(1)  # (B, 1, steps, 2)
    stretched = grid_sample(x[:, None, None], grid, mode="bicubic", padding_mode="border", align_corners=True)
    return scale_sequences(stretched.flatten(1))[0]


def random_filters(x: Tensor, strength: float) -> Tensor:
    """Each sequence through a finite impulse response filter of its own: 1 in the middle, plus N(0, strength^2) at each
    of TAPS places. The TAPS - 1 steps that lack neighbours are lost: (B, T - TAPS + 1), not scaled.

    A filter changes the amplitude and the phase of a sine, so a sum of sines stays one of the same frequencies.
    """
    taps = strength * torch.randn(len(x), 1, TAPS, device=x.device)
    taps[:, 0, TAPS // 2] += 1
    return conv1d((x - 0.5).unsqueeze(0), taps, groups=len(x))[0]


def random_mirrors(x: Tensor) -> Tensor:
    """Each sequence reversed in time, and turned over around 1/2, with probability 1/2 each."""
    backwards, over = (torch.rand(2, len(x), 1, device=x.device) < 0.5).unbind()
    x = torch.where(backwards, x.flip(1), x)
    return torch.where(over, 1 - x, x)
