"""Next-day forecasts beside persistence: the interval of MASE, and a linear model per stock."""

import numpy as np
import torch
from torch import Tensor


def mase_interval(
    errors: np.ndarray, persistence: np.ndarray, seed: int, block: int = 5, draws: int = 2000
) -> tuple[float, float]:
    """95 % interval of sum(errors) / sum(persistence), both (days,), over all stocks of a day.

    The stocks of one day move together, and so do days near one another: whole blocks of `block` days are drawn, with
    replacement (moving-block bootstrap, Kuensch 1989).
    """
    days, block = len(errors), min(block, len(errors))
    starts = np.random.default_rng(seed).integers(0, days - block + 1, (draws, -(-days // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :days]
    ratios = errors[index].sum(1) / persistence[index].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def linear_mase(train: Tensor, test: Tensor, closes: tuple[Tensor, Tensor] | None = None) -> float:
    """MASE of a least-squares line per stock, fitted on training dates, for the next change of the high.

    train (S, D), test (S, D'): daily highs. A line sees the last change and, if their `closes` are given, shaped alike,
    close - high. The first prediction in `test` is that of its third date.
    """
    inputs, changes = [], []
    for part, highs in enumerate((train, test)):
        columns = [torch.ones_like(highs[:, 2:]), highs[:, 1:-1] - highs[:, :-2]]
        if closes is not None:
            columns.append(closes[part][:, 1:-1] - highs[:, 1:-1])
        inputs.append(torch.stack(columns, 2))  # (S, days, columns)
        changes.append(highs[:, 2:] - highs[:, 1:-1])  # (S, days)
    weights = torch.linalg.lstsq(inputs[0], changes[0].unsqueeze(2)).solution
    errors = (inputs[1] @ weights).squeeze(2) - changes[1]
    return (errors.abs().mean() / changes[1].abs().mean()).item()
