"""Stock movement: daily price features and up/down labels of the data sets ACL18 and KDD17, and of one's own prices.

The archive of Feng et al. ("Enhancing stock movement prediction with adversarial training", IJCAI 2019, on
github.com/fulifeng/Adv-ALSTM) holds, per stock and trading date, 11 features in percent, a label and the adjusted
close; beside them lie the raw prices that they were made from. Both ways lead to the same samples: `stock_movement`
reads the archive's features (or, with recompute=True, its raw prices), `movement_of_prices` a folder of CSV files.

What was found in the files, and what the counts of samples depend on:
1. The code of a missing value is -123321. It fills whole rows only: the days before a stock has 30 closes of its own.
2. A sample of date t sees the rows t-T..t-1, all of them complete; its label is the adjusted close's return from t-1 to
   t: up from +0.55 % on, down from -0.5 % on, and no sample in between. Windows of the first validation and test dates
   reach back over the boundary: those days are known by then.
3. The returns and averages of a stock run over its own trading days, those outside of the archive's dates included.
4. 11 of KDD17's 50 price files have two columns of opening prices, `Original_Open` and `Open`; the features come from
   the former, which belongs to the other prices (`Open` is adjusted for splits and dividends, they are not).

Letters in shapes: N samples, T days of a window, S stocks, D trading dates.
"""

import contextlib
import csv
import datetime
import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from loaders.files import (
    DataError,
    checked_limit,
    choose,
    decoded,
    download,
    first_present,
    member_names,
    read_bytes,
    read_member,
    reading,
)

MOVEMENT_URL = "https://github.com/fulifeng/Adv-ALSTM/archive/3d6c3dc921f44832dd48734d79dbf60cd832cf5b.zip"
MOVEMENT_ZIP = ("Adv-ALSTM-master.zip", "Adv-ALSTM-3d6c3dc921f44832dd48734d79dbf60cd832cf5b.zip")
MISSING_CODE = -123321.0
UP, DOWN = 0.55, -0.5  # percent: returns in between have no label
AVERAGES = (5, 10, 15, 20, 25, 30)  # days
FEATURES = ("open", "high", "low", "close", "adjusted_close", *(f"mean_{days}" for days in AVERAGES))
ADJUSTED_CLOSE = FEATURES.index("adjusted_close")
PRICE_TABLE = "a table of Date, Open, High, Low, Close, Adj Close"
LEAST, MOST = 1e-6, 1e9  # dollars: what is outside is no price
MAX_VALUES = 2**26  # 512 MiB of float64: the largest table that is built
NO_PRICE = {"", "null", "nan", "na", "n/a", "none"}
SHARES = (0.7, 0.85)  # of the dates of a folder of prices, before validation and before the test part


class MovementSet(NamedTuple):
    """Where a data set lies in the archive, how its dates are split, and what must be found."""

    folder: str
    prices: str  # the folder of raw prices in it
    train_from: str
    validation_from: str
    test_from: str
    stocks: int
    days: int


MOVEMENT_SETS = {
    "acl18": MovementSet("stocknet-dataset/price", "raw", "2014-01-02", "2015-08-03", "2015-10-01", 87, 652),
    "kdd17": MovementSet("kdd17", "price_long_50", "2007-01-03", "2015-01-02", "2016-01-04", 50, 2518),
}


class MovementTable(NamedTuple):
    """All stocks on all trading dates; NaN where a stock has no complete row."""

    tickers: list  # S names, sorted
    dates: np.ndarray  # (D,) datetime64[D], ascending
    features: np.ndarray  # (S, D, 11) float64, percent
    labels: np.ndarray  # (S, D) float64: 1 up, -1 down, 0 in between
    adjusted: np.ndarray  # (S, D) float64, adjusted closes in dollars


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
    facts: dict


def stock_movement(data_dir, dataset="acl18", source="auto", steps=5, limit=None, recompute=False):
    """ACL18 or KDD17 with the published split, from data_dir/adv_alstm.

    steps: T, days of a window. limit: keeps the first training samples only. recompute: makes features and labels
    from the archive's raw prices instead of reading them. With T = 5, ACL18 has 20,315 / 2,555 / 3,720 samples; with
    T = 15, KDD17 has 64,307 / 8,070 / 7,398. No sample is bundled (the files have no licence). Returns StockMovement,
    with facts data, dataset, file, stocks, days, first_date, last_date, missing_rows (of all stocks and dates), steps,
    and per part its count and share of ups. Raises DataError for missing, damaged or incomplete files.
    """
    if dataset not in MOVEMENT_SETS:
        raise DataError(f"dataset: expected one of {', '.join(MOVEMENT_SETS)}, found {dataset!r}")
    known = MOVEMENT_SETS[dataset]
    path, facts = archive_path(data_dir, source)
    table = archive_table(path, dataset, recompute)
    facts |= {"dataset": dataset, "file": path.name}
    return split_samples(table, (known.train_from, known.validation_from, known.test_from), steps, limit, facts)


def movement_table(dataset, data_dir, source="auto"):
    """MovementTable of ACL18 or KDD17, or of the folder of prices `dataset`. Raises DataError."""
    if dataset not in MOVEMENT_SETS:
        return price_table(dataset)
    return archive_table(archive_path(data_dir, source)[0], dataset)


def archive_path(data_dir, source):
    folder, facts = choose(data_dir, source, "adv_alstm", [MOVEMENT_ZIP], _fetch, MOVEMENT_URL, has_sample=False)
    return first_present(folder, MOVEMENT_ZIP), facts


def movement_of_prices(folder, steps=5, validation_from=None, test_from=None, limit=None):
    """Samples of a folder of daily prices, one CSV per stock (TICKER.csv), in the columns of PRICE_TABLE and others.

    Dates are YYYY-MM-DD, YYYY/MM/DD or M/D/YYYY, in any order; the trading dates are those on which any stock has
    prices. Rows without a price are left out. validation_from, test_from: the parts' first dates YYYY-MM-DD; by default
    70 % of the dates train, 15 % validate, 15 % test. Returns StockMovement. Raises DataError.
    """
    table = price_table(folder)
    first, second = (str(table.dates[int(share * len(table.dates))]) for share in SHARES)
    edges = (str(table.dates[0]), validation_from or first, test_from or second)
    return split_samples(table, edges, steps, limit, {"data": "own", "dataset": Path(folder).name, "file": str(folder)})


# ---- samples ---------------------------------------------------------------------------------------------------------


def split_samples(table, edges, steps, limit, facts):
    """StockMovement of a table; `edges` are the first dates of the three parts, as YYYY-MM-DD."""
    with reading(facts["file"], "parts that start on dates YYYY-MM-DD"):  # the first date at or after each
        first = [int(np.searchsorted(table.dates, _date(edge))) for edge in edges]
    if not first[0] < first[1] < first[2] < len(table.dates):
        raise DataError(
            f"{facts['file']}: expected training, validation and test dates one after another within "
            f"{table.dates[0]} to {table.dates[-1]}, found them to start on {', '.join(edges)}"
        )
    if not 1 <= steps < len(table.dates):
        raise DataError(f"steps: expected 1 to {len(table.dates) - 1} days per window, found {steps}")
    ends = [*first[1:], len(table.dates)]
    parts = [window_samples(table, start, end, steps) for start, end in zip(first, ends, strict=True)]
    parts[0] = MovementPart(*(field[: checked_limit(limit)] for field in parts[0]))
    for name, part in zip(StockMovement._fields, parts, strict=False):
        if not len(part.y):
            raise DataError(
                f"{facts['file']}: expected samples in the {name} part, found none: no stock has "
                f"{steps} complete days and a movement of {DOWN} % or {UP} % after them"
            )
    counts = {name: len(part.y) for name, part in zip(StockMovement._fields, parts, strict=False)}
    shares = {f"{name}_up": part.y.double().mean().item() for name, part in zip(counts, parts, strict=True)}
    facts = {
        **facts,
        "stocks": len(table.tickers),
        "days": len(table.dates),
        "first_date": str(table.dates[0]),
        "last_date": str(table.dates[-1]),
        "missing_rows": int(np.isnan(table.adjusted).sum()),
        "steps": steps,
        **counts,
        **shares,
    }
    return StockMovement(*parts, facts)


def window_samples(table, start, end, steps):
    """MovementPart of the dates at start..end-1: every labelled day after `steps` complete days."""
    rows = np.arange(max(start, steps), end)
    use = _whole(table, steps)[:, rows - steps] & np.isin(table.labels[:, rows], (-1, 1))  # (S, rows)
    day, stock = np.nonzero(use.T)  # by date, then by ticker
    day = rows[day]
    y = torch.from_numpy((table.labels[stock, day] > 0).astype(np.int64))
    return MovementPart(_windows(table, steps, stock, day - steps), y, table.dates[day], np.array(table.tickers)[stock])


def latest_windows(table, steps):
    """All complete windows of a table, whether the day after them is known or not: MovementPart with y = -1.

    Its `dates` are the windows' last days: what is predicted comes after them.
    """
    if not 1 <= steps <= len(table.dates):
        raise DataError(f"steps: expected 1 to {len(table.dates)} days per window, found {steps}")
    day, stock = np.nonzero(_whole(table, steps).T)
    y = torch.full((len(day),), -1)
    x = _windows(table, steps, stock, day)
    return MovementPart(x, y, table.dates[day + steps - 1], np.array(table.tickers)[stock])


def _whole(table, steps):
    """(S, D - T + 1): whether the days k..k+T-1 are all complete."""
    complete = np.isfinite(table.features).all(2)
    return np.lib.stride_tricks.sliding_window_view(complete, steps, axis=1).all(2)


def _windows(table, steps, stock, first):
    """(N, T, 11) float32: the days first..first+T-1 of each stock, both given as places (N,)."""
    windows = np.lib.stride_tricks.sliding_window_view(table.features, steps, axis=1)  # (S, D - T + 1, 11, T)
    return torch.from_numpy(windows[stock, first].transpose(0, 2, 1).astype(np.float32))


# ---- tables ----------------------------------------------------------------------------------------------------------


def archive_table(path, dataset, recompute=False):
    """MovementTable of the archive: its own features, or with `recompute` those of its raw prices on its dates."""
    known = MOVEMENT_SETS[dataset]
    if recompute:
        names = member_names(path)
        members = _stock_members(path, names, known, known.prices)
        dates = _trading_dates(path, names, known)
        tables = [stock_features(f"{path}: {name}", read_member(path, [name])) for name in members.values()]
        return _align(list(members), tables, dates)
    arrays = decoded(path, dataset, 1, lambda: _feature_table(path, known), lambda kept: _fits(kept, known))
    tickers, dates, values = arrays["tickers"].tolist(), arrays["dates"], arrays["values"]
    return MovementTable(tickers, dates, values[:, :, :11], values[:, :, 11], values[:, :, 12])


def _feature_table(path, known):
    """Arrays of a data set in the archive: tickers (S,), dates (D,), values (S, D, 13), NaN for missing rows."""
    names = member_names(path)
    members = _stock_members(path, names, known, "ourpped")
    dates = _trading_dates(path, names, known)
    values = np.stack([_feature_rows(path, name, known.days) for name in members.values()])
    values[(values < MISSING_CODE + 1).any(2)] = np.nan
    return {"tickers": np.array(list(members)), "dates": dates, "values": values}


def _fits(arrays, known):
    """Whether types and shapes are those of `_feature_table`."""
    tickers, dates, values = (arrays[name] for name in ("tickers", "dates", "values"))
    return (
        (tickers.dtype.kind, tickers.shape) == ("U", (known.stocks,))
        and (dates.dtype, dates.shape) == (np.dtype("datetime64[D]"), (known.days,))
        and (values.dtype, values.shape) == (np.float64, (known.stocks, known.days, 13))
    )


def _stock_members(path, names, known, folder):
    """Ticker and member name of each CSV of a folder, sorted by ticker. The archive's root folder may have any name."""
    pattern = re.compile(rf"(?:[^/]+/)?data/{re.escape(known.folder)}/{folder}/([A-Za-z0-9.^=-]{{1,16}})\.csv")
    found = {match[1]: match[0] for match in map(pattern.fullmatch, names) if match}
    if len(found) != known.stocks:
        raise DataError(
            f"{path}: expected {known.stocks} files data/{known.folder}/{folder}/TICKER.csv, found {len(found)}"
        )
    return dict(sorted(found.items()))


def _trading_dates(path, names, known):
    ending = f"data/{known.folder}/trading_dates.csv"
    name = next((name for name in names if name == ending or name.endswith(f"/{ending}")), ending)
    with reading(f"{path}: {name}", "one date YYYY-MM-DD per line"):
        dates = np.array([_date(line) for line in read_member(path, [name]).decode("ascii").split()], "datetime64[D]")
    if len(dates) != known.days or not (np.diff(dates) > np.timedelta64(0)).all():
        raise DataError(f"{path}: {name}: expected {known.days} ascending dates, found {len(dates)}")
    return dates


def _feature_rows(path, name, days):
    """The rows (D, 13) of one stock's file: features, label, adjusted close. Checked for shape, labels and range."""
    label = f"{path}: {name}"
    data = read_member(path, [name])
    if data.count(b"\n") > days + 1:
        raise DataError(f"{label}: expected {days} rows, found more")
    with reading(label, f"{days} rows of 13 numbers"):
        rows = [line.split(",") for line in data.decode("ascii").split()]
        values = np.array([[float(cell) for cell in row] for row in rows])
    if values.shape != (days, 13):
        raise DataError(f"{label}: expected {days} rows of 13 numbers, found shape {values.shape}")
    missing = (values < MISSING_CODE + 1).any(1)
    good = (np.abs(values[:, :11]) < 1e5).all(1) & np.isin(values[:, 11], (-1, 0, 1)) & (values[:, 12] > 0)
    if not (good | missing).all():
        row = int(np.argmin(good | missing))
        raise DataError(
            f"{label}, line {row + 1}: expected percentages, a label -1, 0 or 1 and an adjusted close "
            f"above 0, found {', '.join(rows[row])[:120]}"
        )
    return values


def price_table(folder):
    """MovementTable of a folder of price files."""
    folder = Path(folder)
    with reading(folder, "a folder of CSV files of prices"):
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv")
    if not paths:
        raise DataError(f"{folder}: expected CSV files of prices, one per stock, found none")
    tables = [stock_features(path, read_bytes(path, PRICE_TABLE)) for path in paths]
    dates = np.unique(np.concatenate([days for days, _ in tables]))
    if len(paths) * len(dates) * 13 > MAX_VALUES:
        raise DataError(
            f"{folder}: expected at most {MAX_VALUES} values, found {len(paths)} stocks on {len(dates)} dates"
        )
    return _align([path.stem for path in paths], tables, dates)


def _align(tickers, tables, dates):
    """MovementTable of each stock's own dates and values, brought to common dates; other dates are left out."""
    values = np.full((len(tables), len(dates), 13), np.nan)
    for stock, (days, rows) in enumerate(tables):
        place = np.searchsorted(dates, days)
        known = (place < len(dates)) & (dates[np.minimum(place, len(dates) - 1)] == days)
        values[stock, place[known]] = rows[known]
    values[np.isnan(values).any(2)] = np.nan
    return MovementTable(tickers, dates, values[:, :, :11], values[:, :, 11], values[:, :, 12])


def stock_features(label, data):
    """Dates (D,) ascending and values (D, 13) of one stock's CSV, given as bytes; `label` names the file in errors."""
    days, prices = _price_rows(label, data)
    return days, movement_features(prices)


def movement_features(prices):
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
    change = values[:, 4]
    values[:, 11] = np.where(np.isnan(change), np.nan, (change >= UP) * 1.0 - (change <= DOWN))
    values[:, 12] = adjusted
    return values


def _price_rows(label, data):
    """Dates (D,) ascending and prices (D, 5): open, high, low, close, adjusted close; rows without a price left out."""
    days, prices, seen = [], [], {}
    with reading(label, PRICE_TABLE):
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(rows, [])
        date_at, *places = _price_columns(label, header)
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(f"{label}, line {rows.line_num}: expected {len(header)} fields, found {len(row)}")
            cells = [row[place].strip() for place in places]
            with reading(f"{label}, line {rows.line_num}", "a date and prices"):
                day = _date(row[date_at].strip())
                values = None if any(c.lower() in NO_PRICE for c in cells) else [float(c) for c in cells]
            if day in seen:
                raise DataError(
                    f"{label}, line {rows.line_num}: expected one row per date, found {day} on line {seen[day]} as well"
                )
            seen[day] = rows.line_num
            if values is not None:
                if not all(LEAST <= value <= MOST for value in values):
                    raise DataError(f"{label}, line {rows.line_num}: expected prices above 0, found {cells}")
                days.append(day)
                prices.append(values)
    if not days:
        raise DataError(f"{label}: expected {PRICE_TABLE}, found no rows with prices")
    order = np.argsort(np.array(days))
    return np.array(days)[order], np.array(prices)[order]


def _price_columns(label, header):
    """The places of the date and of the five prices."""
    header = [name.strip().lower() for name in header]
    opening = "original_open" if "original_open" in header else "open"
    wanted = ("date", opening, "high", "low", "close", "adj close")
    if any(header.count(name) != 1 for name in wanted):
        raise DataError(
            f"{label}: expected the columns Date, Open, High, Low, Close, Adj Close once each, "
            f"found {', '.join(header)[:200] or 'an empty file'}"
        )
    return [header.index(name) for name in wanted]


def _date(text):
    """A datetime64[D] of YYYY-MM-DD, YYYY/MM/DD or M/D/YYYY. Raises ValueError."""
    match = re.fullmatch(r"(\d{4})([-/])(\d{1,2})\2(\d{1,2})|(\d{1,2})/(\d{1,2})/(\d{4})", text)
    if match:
        year, month, day = (match[1], match[3], match[4]) if match[1] else (match[7], match[5], match[6])
        with contextlib.suppress(ValueError):
            return np.datetime64(datetime.date(int(year), int(month), int(day)))
    raise ValueError(f"{text[:40]!r} is no date YYYY-MM-DD or M/D/YYYY")


def _fetch(folder, absent):
    """The archive, refused if it lacks a file of either data set."""

    def check(path):
        names = member_names(path)
        for known in MOVEMENT_SETS.values():
            _stock_members(path, names, known, "ourpped")
            _trading_dates(path, names, known)

    download(MOVEMENT_URL, folder / absent[0], check=check, timeout=30.0)
