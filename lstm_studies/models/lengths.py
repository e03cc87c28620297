"""The lengths of padded sequences, in the forms in which people have them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lstm_studies.models.recording import is_transformed


def checked_lengths(lengths: Sequence[int] | np.ndarray | Tensor, batch: int, most: int, least: int = 1) -> Tensor:
    """(B,) as int64, from a list, a NumPy array, a series of pandas or a tensor, on any device.

    Raises ValueError unless they are `batch` whole numbers from `least` to `most`.
    """
    if isinstance(lengths, Tensor):
        values = lengths.detach()
    else:
        try:
            values = torch.tensor(np.asarray(lengths).tolist())
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"lengths must be ({batch},) whole numbers, not {str(lengths)[:80]!r}") from None
    if values.shape != (batch,):
        raise ValueError(f"lengths must be ({batch},), not {tuple(values.shape)}")
    if batch == 0 or is_transformed(values):  # an exported program cannot ask for values, nor can vmap
        return values.long()
    if values.dtype == torch.bool or values.is_complex() or (values != values.long()).any():
        raise ValueError(f"lengths must be whole numbers, not {values.tolist()}")
    values = values.long()
    if values.min() < least or values.max() > most:
        raise ValueError(f"lengths must lie in {least}..{most}, not {int(values.min())}..{int(values.max())}")
    return values


def is_step(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T): true for the steps of x (B, T, F) within each sequence's length."""
    return torch.arange(x.shape[1], device=x.device) < lengths.unsqueeze(1)


def reversed_within(x: Tensor, lengths: Tensor) -> Tensor:
    """x (B, T, F) with the steps of each sequence in reverse order; after them, its first one again."""
    steps = torch.arange(x.shape[1], device=x.device)
    backwards = (lengths.unsqueeze(1) - 1 - steps).clamp_min(0)  # (B, T)
    return x.gather(1, backwards.unsqueeze(2).expand_as(x))
