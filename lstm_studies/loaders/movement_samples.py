"""Samples of stock movement: features and labels made of prices, windows of days, and a split by date.

What the counts of samples depend on: a sample of date t sees the rows t-T..t-1, all of them complete; its label is the
adjusted close's return from t-1 to t: up from +0.55 % on, down from -0.5 % on, and no sample in between. Windows of the
first validation and test dates reach back over the boundary: those days are known by then.

Letters in shapes: N samples, T days of a window, S stocks, D trading dates.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lstm_studies.loaders.files import DataError, checked_limit
from lstm_studies.loaders.prices import StockPrices
from lstm_studies.loaders.tables import to_time

UP, DOWN = 0.55, -0.5  # percent: returns in between have no label
AVERAGES = (5, 10, 15, 20, 25, 30)  # days
FEATURES = ("open", "high", "low", "close", "adjusted_close", *(f"mean_{days}" for days in AVERAGES))
ADJUSTED_CLOSE = FEATURES.index("adjusted_close")
SHARES = (0.7, 0.85)  # of the dates of one's own prices, before validation and before the test part


class MovementTable(NamedTuple):
    """All stocks on all trading dates; NaN where a stock has no complete row."""

    tickers: list[str]  # S names, sorted
    dates: np.ndarray  # (D,) datetime64[D], ascending
    features: np.ndarray  # (S, D, 11) float64, percent
    labels: np.ndarray  # (S, D) float64: 1 up, -1 down, 0 in between
    adjusted: np.ndarray  # (S, D) float64, adjusted closes in dollars
    adjusted_column: str = "the archive's adjusted close"  # where these come from


class MovementPart(NamedTuple):
    """Samples sorted by date, then by ticker."""

    x: torch.Tensor  # (N, T, 11) float32, percent: the T days before `dates`
    y: torch.Tensor  # (N,) int64, 1 up, 0 down
    dates: np.ndarray  # (N,) datetime64[D], the days whose movement is predicted
    tickers: np.ndarray  # (N,) strings


class StockMovement(NamedTuple):
    train: MovementPart
    validation: MovementPart
    test: MovementPart
    metadata: dict


def edges(
    table: MovementTable,
    train_from: str | None = None,
    validation_from: str | None = None,
    test_from: str | None = None,
    test_until: str | None = None,
) -> tuple[str, str, str, str | None]:
    """First dates of the three parts and the last one; those that are None by shares of the dates."""
    first, second = (str(table.dates[int(share * len(table.dates))]) for share in SHARES)
    return train_from or str(table.dates[0]), validation_from or first, test_from or second, test_until


def split_samples(
    table: MovementTable, dates: tuple[str, str, str, str | None], steps: int, limit: int | None, metadata: dict
) -> StockMovement:
    """The samples of a table, split by date: the parts' first dates and the last date of all, None for the newest."""
    file = metadata["file"]
    first, count = [place_of(table, date, file) for date in dates[:3]], len(table.dates)
    end = count if dates[3] is None else place_of(table, dates[3], file, after=True)
    if not first[0] < first[1] < first[2] < end:
        raise DataError(
            f"{file}: expected training, validation and test dates one after another within {table.dates[0]} to "
            f"{table.dates[-1]}, found them to start on {', '.join(map(str, dates[:3]))} and end on "
            f"{dates[3] or table.dates[-1]}"
        )
    if not 1 <= steps < count:
        raise DataError(f"--steps: expected 1 to {count - 1} days per window, found {steps}")
    bounds = zip(first, [*first[1:], end], strict=True)
    parts = [window_samples(table, start, stop, steps) for start, stop in bounds]
    parts[0] = MovementPart(*(field[: checked_limit(limit)] for field in parts[0]))
    named = dict(zip(("train", "validation", "test"), parts, strict=True))
    for name, part in named.items():
        if not len(part.y):
            raise DataError(
                f"{file}: expected samples in the {name} part, found none: no stock has "
                f"{steps} complete days and a movement of {DOWN} % or {UP} % after them"
            )
    metadata = {
        **metadata,
        "stocks": len(table.tickers),
        "days": count,
        "first_date": str(table.dates[0]),
        "last_date": str(table.dates[-1]),
        "missing_rows": int(np.isnan(table.adjusted).sum()),
        "adjusted_column": table.adjusted_column,
        "steps": steps,
        **{name: len(part.y) for name, part in named.items()},
        **{f"{name}_up": part.y.double().mean().item() for name, part in named.items()},
    }
    return StockMovement(*parts, metadata)


def quarters_before(day: np.datetime64, count: int) -> list[tuple[str, str, str]]:
    """First validation, first test and last test date for each of the `count` quarters before the quarter of `day`.

    The oldest comes first. Validation data are those of the quarter before the test quarter.
    """
    month = day.astype("datetime64[M]").astype(int)  # since January 1970
    edges = np.arange(month - month % 3 - 3 * count - 3, month + 1, 3).astype("datetime64[M]").astype("datetime64[D]")
    return [(str(a), str(b), str(c - 1)) for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)]


def joined_parts(parts: Sequence[MovementPart]) -> MovementPart:
    """The samples of all parts, one part after another."""
    x, y, dates, tickers = zip(*parts, strict=True)
    return MovementPart(torch.cat(x), torch.cat(y), np.concatenate(dates), np.concatenate(tickers))


def place_of(table: MovementTable, text: str, file: str, after: bool = False) -> int:
    """The place of the first date at, or after, a date given as text."""
    day = to_time(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None  # 01/06/2023 has two readings
    if day is None:
        raise DataError(f"{file}: expected a date YYYY-MM-DD for each part, found {text[:40]!r}")
    return int(np.searchsorted(table.dates, np.datetime64(day, "D"), side="right" if after else "left"))


def window_samples(table: MovementTable, start: int, end: int, steps: int) -> MovementPart:
    """The samples of the dates at start..end-1: every labelled day after `steps` complete days."""
    rows = np.arange(max(start, steps), end)
    use = _whole(table, steps)[:, rows - steps] & np.isin(table.labels[:, rows], (-1, 1))  # (S, rows)
    day, stock = np.nonzero(use.T)  # by date, then by ticker
    day = rows[day]
    y = torch.from_numpy((table.labels[stock, day] > 0).astype(np.int64))
    return MovementPart(_windows(table, steps, stock, day - steps), y, table.dates[day], np.array(table.tickers)[stock])


def latest_windows(table: MovementTable, steps: int) -> MovementPart:
    """All complete windows of a table, whether the day after them is known or not; y is -1.

    Its `dates` are the windows' last days: what is predicted comes after them.
    """
    if not 1 <= steps <= len(table.dates):
        raise DataError(f"--steps: expected 1 to {len(table.dates)} days per window, found {steps}")
    day, stock = np.nonzero(_whole(table, steps).T)
    y = torch.full((len(day),), -1)
    x = _windows(table, steps, stock, day)
    return MovementPart(x, y, table.dates[day + steps - 1], np.array(table.tickers)[stock])


def _whole(table: MovementTable, steps: int) -> np.ndarray:
    """(S, D - T + 1): whether the days k..k+T-1 are all complete."""
    complete = np.isfinite(table.features).all(2)
    return np.lib.stride_tricks.sliding_window_view(complete, steps, axis=1).all(2)


def _windows(table: MovementTable, steps: int, stock: np.ndarray, first: np.ndarray) -> torch.Tensor:
    """(N, T, 11) float32: the days first..first+T-1 of each stock, both given as places (N,)."""
    windows = np.lib.stride_tricks.sliding_window_view(table.features, steps, axis=1)  # (S, D - T + 1, 11, T)
    return torch.from_numpy(windows[stock, first].transpose(0, 2, 1).astype(np.float32))


def aligned(prices: StockPrices, dates: np.ndarray, column: str) -> MovementTable:
    """Features and labels of each stock over its own dates, brought to common dates; other dates are left out."""
    numbers = np.concatenate([prices.values[:, :, :4].numpy(), prices.adjusted.numpy()[:, :, None]], axis=2)
    values = np.full((len(prices.symbols), len(dates), 13), np.nan)
    for own, stock in zip(values, numbers, strict=True):
        traded = np.isfinite(stock).all(axis=1)
        days = prices.dates[traded]
        place = np.searchsorted(dates, days)
        known = (place < len(dates)) & (dates[np.minimum(place, len(dates) - 1)] == days)
        own[place[known]] = movement_features(stock[traded])[known]
    values[np.isnan(values).any(2)] = np.nan
    return MovementTable(prices.symbols, dates, values[:, :, :11], values[:, :, 11], values[:, :, 12], column)


def movement_features(prices: np.ndarray) -> np.ndarray:
    """Features, label and adjusted close (D, 13) from open, high, low, close and adjusted close (D, 5) in dollars.

    Table 1 of Feng et al., in percent: open, high and low over the close; close and adjusted close over those of the
    day before; and the mean adjusted close of the last 5, 10, .. 30 days over the day's. NaN where days are lacking.
    """
    close, adjusted = prices[:, 3], prices[:, 4]
    values = np.full((len(prices), 13), np.nan)
    values[:, :3] = prices[:, :3] / close[:, None] - 1
    values[1:, 3] = close[1:] / close[:-1] - 1
    values[1:, 4] = adjusted[1:] / adjusted[:-1] - 1
    for column, days in enumerate(AVERAGES, 5):
        if len(prices) >= days:
            means = np.lib.stride_tricks.sliding_window_view(adjusted, days).mean(1)
            values[days - 1 :, column] = means / adjusted[days - 1 :] - 1
    values[:, :11] *= 100
    change = np.round(values[:, 4], 9)  # 38.00 to 37.81 is -0.5 %, but for the rounding of binary numbers
    values[:, 11] = np.where(np.isnan(change), np.nan, (change >= UP) * 1.0 - (change <= DOWN))
    values[:, 12] = adjusted
    return values
