"""Random changes of training sequences (B, T) that lie in [0, 1] around 1/2, with PyTorch's random numbers."""

import torch
from torch import Tensor
from torch.nn.functional import conv1d, grid_sample

from loaders.toy import scale_sequences

TAPS = 3  # of a random filter


def random_stretches(x: Tensor, shortest: float, steps: int | None = None) -> Tensor:
    """A random part of each sequence, of at least `shortest` times its length, stretched to T steps and scaled anew.

    Values between steps are cubic interpolations. A sum of sines stays one, with lower frequencies. With `steps` the
    result has that length: (B, steps).
    """
    length = shortest + (1 - shortest) * torch.rand(len(x), 1, device=x.device)
    start = (1 - length) * torch.rand(len(x), 1, device=x.device)
    time = torch.linspace(0, 1, steps or x.shape[1], device=x.device)
    place = 2 * (start + length * time) - 1  # (B, steps); -1: first step, 1: last step
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
