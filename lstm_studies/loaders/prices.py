"""Daily stock prices: S&P 500, or a file of one's own, as tensors by symbol and date."""

import datetime
import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstm_studies.loaders.files import MAX_CELLS, DataError, choose, download, first_present, read_bytes, read_member
from lstm_studies.loaders.tables import check_cells, read_rows, to_numbers


class StockPrices(NamedTuple):
    symbols: list[str]  # S names, sorted unless selected
    dates: np.ndarray  # (D,) datetime64[D], ascending: every date on which any symbol of the file has a row
    # (S, D, 5) float64: open, high, low, close in dollars, volume in shares; NaN where missing
    values: Tensor
    metadata: dict


STOCKS_URL = "https://www.kaggle.com/api/v1/datasets/download/gauravmehta13/sp-500-stock-prices"
STOCKS_ZIP = "sp-500-stock-prices.zip"
STOCKS_CSV = ("S&P 500 Stock Prices 2014-2017.csv", "SP 500 Stock Prices 2014-2017.csv")
STOCKS_SAMPLE = "stocks_daily.csv.gz"
PRICE_FIELDS = ("open", "high", "low", "close", "volume")
STOCKS_TABLE = "a table of symbol, date, open, high, low, close, volume"
SERIES_TABLE = "a table of a date and one column of numbers per series"


def stock_prices(data_dir: Path, source: str = "auto", symbols: Iterable[str] | None = None) -> StockPrices:
    """Daily prices from data_dir/sp500: the Kaggle archive, or its CSV file unpacked (or gzipped).

    Returns StockPrices, sorted by symbol and date; `symbols` selects some, in the order given. Rows that lack
    a value are kept as NaN and counted, and dates without a row are NaN too: to drop, fill or skip them is
    the caller's decision (see complete_symbols). metadata describes the whole file: rows, symbols, dates,
    first_date, last_date, rows_with_missing, missing (per column), duplicates (identical rows, which are
    dropped), incomplete (names of symbols).
    Raises DataError for damaged files, unknown symbols, and, with the line, impossible or contradicting rows.
    """
    names = [STOCKS_ZIP, *STOCKS_CSV, *(f"{name}.gz" for name in STOCKS_CSV)]
    folder, metadata = choose(data_dir, source, "sp500", [names], _fetch_stocks, STOCKS_URL)
    path = folder / STOCKS_SAMPLE if metadata["data"] == "sample" else first_present(folder, names)
    prices = _price_table(path, read_rows(path, _content(path, STOCKS_TABLE), STOCKS_TABLE), metadata)
    return prices if symbols is None else select_symbols(prices, symbols)


def own_prices(path: Path) -> StockPrices:
    """Prices from a CSV file of one's own, also gzipped or zipped (`name.zip` with the member `name.csv`).

    Three forms are known by their header: symbol, date, open, high, low, close, volume with one row per symbol and
    date; the same of one stock without a symbol, which is then the file's name; and a column `date` beside one column
    per series, whose number stands for open, high, low and close of its date, with volume 0. Other columns of the first
    two forms are ignored.
    Returns StockPrices as `stock_prices` does, with metadata["data"] "own" and metadata["fields"], 5 or 1 numbers per
    date. Raises DataError with the line.
    """
    path = Path(path)
    expected = f"{STOCKS_TABLE}, or {SERIES_TABLE}"
    rows = read_rows(path, _content(path, expected), expected)
    header = [name.strip().lower() for name in rows.iloc[0]]
    if not {"symbol", *PRICE_FIELDS} & set(header):
        return _series_table(path, rows, {"data": "own", "fields": 1})
    if "symbol" not in header:
        rows[len(header)] = ["symbol"] + [re.sub(r"[^A-Za-z0-9.^=-]", "-", path.name.split(".")[0])[:16]] * (
            len(rows) - 1
        )
    return _price_table(path, rows, {"data": "own", "fields": len(PRICE_FIELDS)})


def select_symbols(prices: StockPrices, symbols: str | Iterable[str]) -> StockPrices:
    """The same prices of some symbols only, in the order given. Raises DataError that names them, or the nearest."""
    symbols = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
    for symbol in symbols:
        if symbol not in prices.symbols:
            near = difflib.get_close_matches(symbol.upper(), prices.symbols, 3, 0.5) or prices.symbols[:6]
            few = len(prices.symbols) <= 20
            raise DataError(
                f"{prices.metadata['file']}: expected one of its {len(prices.symbols)} symbols, found {symbol!r}; "
                + (f"its symbols: {', '.join(prices.symbols)}" if few else f"nearest: {', '.join(near)}")
            )
    rows = [prices.symbols.index(symbol) for symbol in symbols]
    return prices._replace(symbols=symbols, values=prices.values[rows])


def complete_symbols(prices: StockPrices) -> list[str]:
    """The symbols with a full history: no trading date missing and no value missing."""
    complete = torch.isfinite(prices.values).flatten(1).all(1).tolist()
    return [symbol for symbol, whole in zip(prices.symbols, complete, strict=True) if whole]


# ---- files -----------------------------------------------------------------------------------------------------------


def _fetch_stocks(folder: Path, absent: list[str]) -> None:
    download(STOCKS_URL, folder / absent[0], check=lambda path: read_member(path, STOCKS_CSV))


def _content(path: Path, expected: str) -> bytes:
    if path.suffix != ".zip":
        return read_bytes(path, expected)
    return read_member(path, (*STOCKS_CSV, f"{path.stem}.csv"))


def _is_symbol(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9.^=-]{1,16}", text) is not None


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text  # 20140102 and 2014-W01-4 parse as well
    except ValueError:
        return False


def _check_size(path: Path, symbols: int, dates: int) -> None:
    if symbols * dates * len(PRICE_FIELDS) > MAX_CELLS:
        raise DataError(f"{path}: expected at most {MAX_CELLS} values, found {symbols} symbols on {dates} dates")


# ---- a row per symbol and date ---------------------------------------------------------------------------------------


def _price_table(path: Path, rows: pd.DataFrame, metadata: dict) -> StockPrices:
    symbol_at, date_at, *fields_at = _columns(path, rows.iloc[0])
    rows = rows.iloc[1:]
    if rows.empty:
        raise DataError(f"{path}: expected {STOCKS_TABLE}, found no rows")
    check_cells(path, rows[symbol_at], _is_symbol, "a ticker symbol")
    check_cells(path, rows[date_at], _is_date, "a date YYYY-MM-DD")
    numbers = to_numbers(path, rows[fields_at])  # (R, 5)
    _check_prices(path, numbers, rows.index)
    symbol_codes, symbols = pd.factorize(rows[symbol_at], sort=True)
    date_codes, dates = pd.factorize(rows[date_at], sort=True)
    _check_size(path, len(symbols), len(dates))
    cells = symbol_codes * len(dates) + date_codes  # (R,)
    unique = _distinct(path, cells, numbers, rows.index)
    values = np.full((len(symbols) * len(dates), len(PRICE_FIELDS)), np.nan)
    values[cells[unique]] = numbers[unique]
    values = torch.from_numpy(values.reshape(len(symbols), len(dates), len(PRICE_FIELDS)))
    prices = StockPrices(list(symbols), np.array(dates, "datetime64[D]"), values, {})
    missing = np.isnan(numbers[unique])
    counts = {
        "rows": len(numbers),
        "rows_with_missing": int(missing.any(1).sum()),
        "missing": dict(zip(PRICE_FIELDS, missing.sum(0).tolist(), strict=True)),
        "duplicates": int((~unique).sum()),
    }
    return prices._replace(metadata={**metadata, "file": path.name, **counts, **_extent(prices)})


def _columns(path: Path, header: pd.Series) -> list[int]:
    """The places of symbol, date and the five numbers; other columns are ignored."""
    header = [name.strip().lower() for name in header]
    wanted = ("symbol", "date", *PRICE_FIELDS)
    if any(header.count(name) != 1 for name in wanted):
        raise DataError(
            f"{path}: expected the columns {', '.join(wanted)} once each, found {', '.join(header)[:200] or 'none'}"
        )
    return [header.index(name) for name in wanted]


def _check_prices(path: Path, numbers: np.ndarray, lines: pd.Index) -> None:
    """Prices are missing or positive, volumes missing or at least 0; 1e15 stands for everything absurd."""
    good = np.isnan(numbers) | (numbers > 0) & (numbers < 1e15)
    good[:, 4] |= numbers[:, 4] == 0
    if not good.all():
        row, column = np.argwhere(~good)[0]
        expected = "a volume of at least 0" if column == 4 else "a price above 0"
        raise DataError(
            f"{path}, line {lines[row]}: expected {expected} in {PRICE_FIELDS[column]}, found {numbers[row, column]:g}"
        )


def _distinct(path: Path, cells: np.ndarray, numbers: np.ndarray, lines: pd.Index) -> np.ndarray:
    """Which rows (R,) to keep: the first of each cell. Raises DataError where two rows of one cell differ."""
    order = np.argsort(cells, kind="stable")
    again = np.flatnonzero(cells[order[1:]] == cells[order[:-1]])
    first, second = order[again], order[again + 1]
    same = (numbers[first] == numbers[second]) | np.isnan(numbers[first]) & np.isnan(numbers[second])
    for k in np.flatnonzero(~same.all(axis=1))[:1]:
        raise DataError(
            f"{path}, line {lines[second[k]]}: expected one row per symbol and date, "
            f"found other values than on line {lines[first[k]]}"
        )
    unique = np.ones(len(cells), dtype=bool)
    unique[second] = False
    return unique


def _extent(prices: StockPrices) -> dict:
    complete = set(complete_symbols(prices))
    return {
        "symbols": len(prices.symbols),
        "dates": len(prices.dates),
        "first_date": str(prices.dates[0]),
        "last_date": str(prices.dates[-1]),
        "incomplete": [symbol for symbol in prices.symbols if symbol not in complete],
    }


# ---- a column per series ---------------------------------------------------------------------------------------------


def _series_table(path: Path, rows: pd.DataFrame, metadata: dict) -> StockPrices:
    names = [name.strip() for name in rows.iloc[0]]
    series = [name for name in names if name.lower() != "date"]
    if len(series) != len(names) - 1 or not series or len(set(series)) != len(series) or "" in series:
        raise DataError(
            f"{path}: expected {STOCKS_TABLE}, or {SERIES_TABLE}, each with a name of its own, "
            f"found the columns {', '.join(names)[:200]}"
        )
    date_at = next(k for k, name in enumerate(names) if name.lower() == "date")
    rows = rows.iloc[1:]
    if rows.empty:
        raise DataError(f"{path}: expected {SERIES_TABLE}, found no rows")
    check_cells(path, rows[date_at], _is_date, "a date YYYY-MM-DD")
    for line in rows.index[rows[date_at].duplicated()][:1]:
        raise DataError(f"{path}, line {line}: expected one row per date, found {rows[date_at][line]} again")
    _check_size(path, len(series), len(rows))
    numbers = to_numbers(path, rows.drop(columns=date_at))  # (D, S)
    for row, column in np.argwhere(np.isinf(numbers) | (np.abs(numbers) >= 1e15))[:1]:
        place, name = f"{path}, line {rows.index[row]}", series[column]
        raise DataError(f"{place}: expected a number below 1e15, found {numbers[row, column]:g} in {name[:40]!r}")
    order = np.argsort(rows[date_at].to_numpy())
    values = torch.from_numpy(numbers[order].T.copy()).unsqueeze(2).repeat(1, 1, len(PRICE_FIELDS))
    values[:, :, PRICE_FIELDS.index("volume")] *= 0  # NaN stays NaN
    prices = StockPrices(series, np.array(rows[date_at].to_numpy()[order], "datetime64[D]"), values, {})
    counts = {"rows": len(rows), "rows_with_missing": int(np.isnan(numbers).any(1).sum())}
    return prices._replace(metadata={**metadata, "file": path.name, **counts, **_extent(prices)})
