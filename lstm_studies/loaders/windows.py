"""Windows of daily prices: splits by date, windows that stay within a part, and their scaling for prediction.

Letters: S stocks, D dates, T days per window, N windows.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.prices import StockPrices
from lstm_studies.loaders.tables import say

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
INPUTS = {"high": 1, "ohlcv": 5, "market": 10}  # values per day
RANGE = 30.0  # daily standard deviations of a stock that [0, 1] spans: three times what 20 days of a random walk need
PARTS = ("train", "validation", "test")


def split_dates(count: int) -> dict[str, slice]:
    """The dates of each part: 60 %, 20 % and 20 % of `count`, in this order."""
    first, second = count * 3 // 5, count * 4 // 5
    return {"train": slice(0, first), "validation": slice(first, second), "test": slice(second, count)}


def fold_dates(count: int, folds: int, fold: int) -> dict[str, list[slice]]:
    """Contiguous blocks of time: block `fold` is for testing, the next one for validation, all others for training."""
    edges = [count * k // folds for k in range(folds + 1)]
    blocks = [slice(a, b) for a, b in itertools.pairwise(edges)]
    held = {fold, (fold + 1) % folds}
    train = [block for k, block in enumerate(blocks) if k not in held]
    return {"train": train, "validation": [blocks[(fold + 1) % folds]], "test": [blocks[fold]]}


def rolling_dates(count: int, folds: int, fold: int) -> dict[str, slice]:
    """Block `fold` + 2 of `folds` + 1 is for testing; of all dates before it three quarters train, the others validate.

    Four years and three folds: each of the last three years is tested by what was known before it.
    """
    first, end = count * (fold + 1) // (folds + 1), count * (fold + 2) // (folds + 1)
    return {"train": slice(0, first * 3 // 4), "validation": slice(first * 3 // 4, first), "test": slice(first, end)}


def windows(values: Tensor, length: int, stride: int) -> Tensor:
    """All windows of `length` dates in values (S, D, F): (S, N, length, F), N = (D - length) // stride + 1."""
    if values.shape[1] < length:
        raise DataError(f"--window: expected at most {values.shape[1]} days, the dates of a part, needed {length}")
    return values.unfold(1, length, stride).transpose(2, 3)


def high_windows(values: Tensor, blocks: Sequence[slice], length: int, stride: int) -> Tensor:
    """Windows (N, length) of the daily highs in values (S, D, 5), in its unit; none crosses the edge of a block."""
    highs = values[:, :, HIGH : HIGH + 1]
    return torch.cat([windows(highs[:, block], length, stride).flatten(0, 1) for block in blocks]).squeeze(2)


def random_part(values: Tensor, length: int, stride: int, folds: int, fold: int, part: str) -> Tensor:
    """The windows (N, length) of a part if the days on which they begin are dealt to `folds` shares at random.

    The days of share `fold` are for testing, those of the next one for validation; each day's windows are those of all
    stocks in values (S, D, 5). Windows of different parts have days in common.
    """
    everything = windows(values[:, :, HIGH : HIGH + 1], length, stride).squeeze(3)  # (S, days, length)
    order = torch.randperm(everything.shape[1], generator=torch.Generator().manual_seed(0))
    shares = [order[k::folds].sort().values for k in range(folds)]
    test, validation = shares.pop(fold), shares.pop(fold % (folds - 1))
    days = {"train": torch.cat(shares), "validation": validation, "test": test}[part]
    return everything[:, days].flatten(0, 1)


# ---- prediction ------------------------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """What is fitted on training dates, one number per stock, each (S,)."""

    sigma: Tensor  # standard deviation of the high's relative daily change
    change: Tensor  # mean absolute relative daily change of the high
    volume_mean: Tensor  # of log(1 + volume)
    volume_std: Tensor


class Samples(NamedTuple):
    """Windows of some dates, stock by stock, day by day: N = stocks * days."""

    x: Tensor  # (N, T, features), 1/2 is the last known high
    targets: Tensor  # (N, T), the high of the day after each step, on the same scale; not a number if not known
    unit: Tensor  # (N,), mean absolute daily change of the stock's high on training dates, on the same scale
    last: Tensor  # (N,), the last known high, in the data's unit
    span: Tensor  # (N,), what 1 of the scale is in that unit
    days: int  # predicted days per stock

    def prices(self) -> Tensor:
        """The stock's open, high, low and close, or its high alone, less the last high, (N, T, 4) or (N, T, 1)."""
        of_stock, market = (self.x - 0.5).tensor_split([VOLUME + 1], 2)
        return (of_stock + market if market.shape[2] else of_stock)[:, :, : CLOSE + 1]


def check_inputs(path: Path, data: StockPrices, inputs: str) -> None:
    """Raises DataError for stocks that lack what a model with these inputs reads, and says what its market is."""
    if inputs != "high" and data.metadata["fields"] == 1:
        raise DataError(f"{path}: expected open, high, low, close and volume, found one number per date")
    if inputs == "market" and len(data.symbols) == 1:
        raise DataError(f"{path}: expected several stocks, whose mean is the market that the model reads, found one")
    if inputs == "market":
        say(path, [f"the market that the model reads is the mean of these {len(data.symbols)} stocks"])


def fit_scale(values: Tensor) -> Scale:
    """The scale of each stock from its training dates, values (S, D, 5). Raises DataError for highs not above 0."""
    highs, log_volume = values[:, :, HIGH], torch.log1p(values[:, :, VOLUME])
    if not (highs > 0).all():
        raise DataError(f"--data: expected highs above 0, whose relative changes are predicted, found {highs.min():g}")
    if highs.shape[1] < 3:
        raise DataError(f"--data: expected at least 3 dates to scale daily changes by, found {highs.shape[1]}")
    change = highs[:, 1:] / highs[:, :-1] - 1  # (S, D - 1)
    sigma, volume_std = change.std(1).clamp_min(1e-6), log_volume.std(1).clamp_min(1e-6)
    return Scale(sigma, change.abs().mean(1), log_volume.mean(1), volume_std)


def samples(values: Tensor, scale: Scale, length: int, inputs: str, stride: int = 1) -> Samples:
    """All windows of `length` days in values (S, D, 5) that have a day after them, in the columns that `inputs` names.

    Prices are relative to the window's last high, in units of the stock's daily standard deviation on training dates:
    x = 1/2 + (p / high_T - 1) / (RANGE sigma). Volume is its logarithm, standardised on training dates, over RANGE / 4.
    With the inputs "market" the five columns are relative to their means over the S stocks on the same days, around 1/2
    again, and these means are five more.

    Raises DataError for highs not above 0, and if no high differs from that of the day before.
    """
    both = windows(values, length + 1, stride)  # (S, days, T + 1, 5)
    result = scaled_samples(both, scale, length, inputs)
    if (result.targets[:, -1] == 0.5).all():  # then persistence has no error to compare with
        raise DataError("--data: expected highs that change in the training, validation and test part, found constants")
    return result


def newest_samples(values: Tensor, scale: Scale, length: int, inputs: str) -> Samples:
    """The window of the last `length` dates in values (S, D, 5), whose next day is not known yet; one per stock."""
    last = windows(values[:, -length:], length, 1)  # (S, 1, T, 5)
    unknown = torch.full_like(last[:, :, :1], torch.nan)
    return scaled_samples(torch.cat([last, unknown], 2), scale, length, inputs)


def scaled_samples(both: Tensor, scale: Scale, length: int, inputs: str) -> Samples:
    """Windows and the day after each, both (S, days, T + 1, 5), as Samples."""
    last = both[:, :, -2, HIGH]  # (S, days)
    if not (last > 0).all():
        raise DataError(f"--data: expected highs above 0, whose relative changes are predicted, found {last.min():g}")
    columns = slice(HIGH, HIGH + 1) if inputs == "high" else slice(OPEN, VOLUME + 1)
    x = torch.empty(*both.shape[:2], length, INPUTS[inputs])  # (S, days, T, features)
    of_stock = x[..., : columns.stop - columns.start]
    targets = torch.empty(*both.shape[:2], length)
    for stock in range(len(both)):  # one at a time: all of them at once would be half a gigabyte
        extent = RANGE * scale.sigma[stock]
        scaled = (both[stock] / last[stock, :, None, None] - 1) / extent + 0.5  # (days, T + 1, 5)
        log_volume = torch.log1p(both[stock, :, :, VOLUME])
        volume_span = RANGE / 4 * scale.volume_std[stock]
        scaled[..., VOLUME] = (log_volume - scale.volume_mean[stock]) / volume_span + 0.5
        of_stock[stock], targets[stock] = scaled[:, :-1, columns], scaled[:, 1:, HIGH]
    if inputs == "market":
        x[..., VOLUME + 1 :] = of_stock.mean(0)
        of_stock -= x[..., VOLUME + 1 :] - 0.5
    unit = (scale.change / (RANGE * scale.sigma))[:, None].expand_as(last).flatten().float().clamp_min(1e-6)
    span = (last * RANGE * scale.sigma[:, None]).flatten()
    return Samples(x.flatten(0, 1), targets.flatten(0, 1), unit, last.flatten(), span, both.shape[1])
