"""Daily stock prices: S&P 500, or files of one's own, as tensors by symbol and date."""

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstm_studies.loaders.files import (
    MAX_CELLS,
    DataError,
    choose,
    download,
    first_present,
    member_names,
    read_bytes,
    read_member,
    reading,
)
from lstm_studies.loaders.price_files import FIELDS, PriceFile, parse_prices, ticker_of
from lstm_studies.loaders.tables import say


class StockPrices(NamedTuple):
    symbols: list[str]  # S names, sorted unless selected
    dates: np.ndarray  # (D,) datetime64[D], ascending: every date on which any symbol has a row
    # (S, D, 5) float64: open, high, low, close in the file's unit, volume in shares; NaN where missing
    values: Tensor
    adjusted: Tensor  # (S, D) float64: the close adjusted for splits and dividends; the close itself without a column
    metadata: dict


STOCKS_URL = "https://www.kaggle.com/api/v1/datasets/download/gauravmehta13/sp-500-stock-prices"
STOCKS_SHA256 = "b4312c8795fc1c90c681c00f27ea83416c3fa927643b93b85abff65f28a2f3c7"  # of `_stocks_content`
STOCKS_ZIP = "sp-500-stock-prices.zip"
STOCKS_CSV = ("S&P 500 Stock Prices 2014-2017.csv", "SP 500 Stock Prices 2014-2017.csv")
STOCKS_SAMPLE = "stocks_daily.csv.gz"
PRICE_FIELDS = FIELDS[:5]
ENDINGS = (".csv", ".csv.gz", ".tsv", ".txt")  # of the files of a folder


def stock_prices(data_dir: Path, source: str = "auto") -> StockPrices:
    """Daily prices from data_dir/sp500: the Kaggle archive, or its CSV file unpacked (or gzipped).

    Returns StockPrices, sorted by symbol and date. Rows that lack a value are kept as NaN and counted, and dates
    without a row are NaN too: to drop, fill or skip them is the caller's decision (see complete_symbols). metadata:
    rows, symbols, dates, first_date, last_date, rows_with_missing, missing (per column), duplicates (identical rows,
    which are dropped), incomplete (names of symbols), fields (numbers per date, 5), adjusted_column.
    Raises DataError for damaged files and, with the line, impossible or contradicting rows.
    """
    names = [STOCKS_ZIP, *STOCKS_CSV, *(f"{name}.gz" for name in STOCKS_CSV)]
    folder, metadata = choose(data_dir, source, "sp500", [names], _fetch_stocks, STOCKS_URL)
    path = folder / STOCKS_SAMPLE if metadata["data"] == "sample" else first_present(folder, names)
    data = read_member(path, STOCKS_CSV) if path.suffix == ".zip" else read_bytes(path, "a table of prices")
    file = parse_prices(path, data, ticker_of(path), notes := [], keep_incomplete=True)
    say(path, notes)
    missing = file.rows[[field for field in PRICE_FIELDS if field in file.rows]].isna()
    counts = {"rows_with_missing": int(missing.any(axis=1).sum()), "missing": missing.sum().to_dict()}
    return joined(path, [file], {**metadata, **counts})


def own_prices(path: Path | str) -> StockPrices:
    """Prices of one's own: a file in a form of `loaders.price_files`, gzipped or alone in a zip archive, or a folder.

    Returns StockPrices as `stock_prices` does, with metadata["data"] "own". Rows that lack a price are left out. With
    metadata["fields"] 1 the files have one number per date, which stands for open, high, low and close, and without
    volumes these are 0. What a file leaves unsure is printed in one line. Raises DataError with the file and line.
    """
    path, notes = Path(path), []
    with reading(path, "a file of prices or a folder of them"):
        folder = path.is_dir()
        paths = sorted(p for p in path.iterdir() if p.name.lower().endswith(ENDINGS)) if folder else [path]
    if not paths:
        raise DataError(f"{path}: expected files of prices, found none ending in {', '.join(ENDINGS)}")
    files, where = [], {}
    for file in paths:
        files.append(parse_prices(file, _content(file), ticker_of(file), own := []))
        notes += [f"{file.name}: {note}" for note in own] if folder else own
        for symbol in files[-1].rows["symbol"].unique():
            if where.setdefault(symbol, file) != file:
                raise DataError(f"{file}: expected each stock in one file, found {symbol} in {where[symbol]}")
    say(path, notes)
    return joined(path, files, {"data": "own"})


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
    return prices._replace(symbols=symbols, values=prices.values[rows], adjusted=prices.adjusted[rows])


def complete_symbols(prices: StockPrices) -> list[str]:
    """The symbols with a full history: no trading date missing and no value missing."""
    complete = torch.isfinite(prices.values).flatten(1).all(1).tolist()
    return [symbol for symbol, whole in zip(prices.symbols, complete, strict=True) if whole]


def complete_stocks(prices: StockPrices) -> StockPrices:
    """The stocks with a full history; of one's own prices, those left out are named. Raises DataError if all are."""
    file, complete = prices.metadata["file"], complete_symbols(prices)
    if not complete:
        known = prices.adjusted.isfinite().sum(1)
        raise DataError(
            f"--data: {file}: expected a stock or series with a value on each of {len(prices.dates)} dates, found at "
            f"most {int(known.max())}, of {prices.symbols[int(known.argmax())]}"
        )
    left_out = [symbol for symbol in prices.symbols if symbol not in set(complete)]
    if left_out and prices.metadata["data"] == "own":
        names = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        say(file, [f"{len(left_out)} of {len(prices.symbols)} stocks or series have gaps and are left out: {names}"])
    return select_symbols(prices, complete)


# ---- files -----------------------------------------------------------------------------------------------------------


def _fetch_stocks(folder: Path, absent: list[str]) -> None:
    download(STOCKS_URL, folder / absent[0], STOCKS_SHA256, _stocks_content)


def _stocks_content(path: Path) -> bytes:
    return b"\n".join(read_member(path, STOCKS_CSV).splitlines())  # whatever ends its lines


def _content(path: Path) -> bytes:
    if path.suffix.lower() != ".zip":
        return read_bytes(path, "a file of prices")
    tables = [name for name in member_names(path) if name.lower().endswith(ENDINGS)]
    return read_member(path, tables if len(tables) == 1 else [f"{path.stem}.csv"])


def joined(path: Path, files: list[PriceFile], metadata: dict) -> StockPrices:
    """The rows of all files on common dates. Raises DataError if that is too large to build."""
    symbols = sorted(set().union(*(file.rows["symbol"].unique() for file in files)))
    dates = np.unique(np.concatenate([file.rows["day"].unique() for file in files]))
    if len(symbols) * len(dates) * len(FIELDS) > MAX_CELLS:
        raise DataError(
            f"{path}: expected at most {MAX_CELLS} values, found {len(symbols)} symbols on {len(dates)} dates"
        )
    values = np.full((len(symbols) * len(dates), len(PRICE_FIELDS)), np.nan)
    adjusted, columns = np.full(len(values), np.nan), Counter()
    for rows, _ in files:
        codes = pd.Index(symbols).get_indexer(rows["symbol"]) * len(dates) + np.searchsorted(dates, rows["day"])
        for k, field in enumerate(PRICE_FIELDS):
            values[codes, k] = rows[field] if field in rows else 0 if field == "volume" else rows["close"]
        adjusted[codes] = rows["adj close" if "adj close" in rows else "close"]
        columns["Adj Close" if "adj close" in rows else "Close"] += rows["symbol"].nunique()
    shape = len(symbols), len(dates)
    prices = StockPrices(
        symbols,
        dates.astype("datetime64[D]"),
        torch.from_numpy(values.reshape(*shape, -1)),
        torch.from_numpy(adjusted.reshape(shape)),
        {},
    )
    complete = set(complete_symbols(prices))
    counts = {
        "file": path.name,
        "fields": min(len(PRICE_FIELDS) if "open" in file.rows else 1 for file in files),
        "adjusted_column": ", ".join(f"{c} of {n} stocks" if len(columns) > 1 else c for c, n in columns.items()),
        "rows": sum(len(file.rows) + file.duplicates for file in files),
        "duplicates": sum(file.duplicates for file in files),
        "symbols": shape[0],
        "dates": shape[1],
        "first_date": str(prices.dates[0]),
        "last_date": str(prices.dates[-1]),
        "incomplete": [symbol for symbol in symbols if symbol not in complete],
    }
    return prices._replace(metadata={**metadata, **counts})
