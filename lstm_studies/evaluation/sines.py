"""What knows that a sequence is a sum of sines: an analytic code, and the residual of linear prediction."""

import torch
from torch import Tensor


def fitted_sines(x: Tensor, sines: int = 3) -> Tensor:
    """Sequences x (N, T) back from a code of 3 * sines + 1 numbers: frequencies, amplitudes, phases and an offset.

    The frequencies are those of the matrix pencil (Hua and Sarkar 1990), of each sequence alone: differences of
    neighbours, which have no offset, in windows in both directions of time; the `sines` pairs of singular vectors with
    the largest values; and the angles of the matrix that takes them from one step to the next. The rest is least
    squares on cosines, sines and a constant. T must be at least 6 * sines.
    """
    x = x.double()
    differences = x.diff(dim=1)
    windows = differences.unfold(1, x.shape[1] * 2 // 3 + 1, 1)
    vectors = torch.linalg.svd(torch.cat([windows, windows.flip(2)], 1), full_matrices=False).Vh[:, : 2 * sines]
    before, after = vectors[..., :-1].mT, vectors[..., 1:].mT  # (N, window, 2 sines)
    poles = torch.linalg.eigvals(torch.linalg.pinv(before) @ after)
    frequencies = poles.angle().sort(1).values[:, -sines:]  # in radians per step; of a pair the positive one
    angles = frequencies.unsqueeze(1) * torch.arange(x.shape[1], dtype=torch.float64).unsqueeze(1)  # (N, T, sines)
    waves = torch.cat([angles.cos(), angles.sin(), torch.ones_like(angles[..., :1])], 2)
    return (waves @ (torch.linalg.pinv(waves) @ x.unsqueeze(2))).squeeze(2)


def prediction_errors(x: Tensor, weights: Tensor) -> Tensor:
    """Squared errors by step (N, T) of sequences x (N, T), each step predicted linearly from those before and after it.

    weights (N, order): of the steps before, the oldest first, in either direction of time.
    """
    order, errors = weights.shape[1], torch.zeros_like(x)

    def residuals(x: Tensor) -> Tensor:
        windows = x.unfold(1, order + 1, 1)
        return ((windows[..., :-1] * weights.unsqueeze(1)).sum(2) - windows[..., -1]).square()  # (N, T - order)

    errors[:, order:] += residuals(x)
    errors[:, :-order] += residuals(x.flip(1)).flip(1)
    return errors
