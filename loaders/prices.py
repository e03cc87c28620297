"""S&P 500 prices: a table of symbol, date, open, high, low, close, volume, as tensors by symbol and date."""

import csv
import datetime
import difflib
import io
import re
from array import array
from typing import NamedTuple

import numpy as np
import torch

from loaders.files import (
    MAX_CELLS,
    DataError,
    choose,
    decoded,
    download,
    first_present,
    read_bytes,
    read_member,
    reading,
)


class StockPrices(NamedTuple):
    symbols: list  # S names
    dates: np.ndarray  # (D,) datetime64[D], ascending: every date on which any symbol of the file has a row
    # (S, D, 5) float64: open, high, low, close in dollars, volume in shares; NaN where missing
    values: torch.Tensor
    facts: dict


STOCKS_URL = "https://www.kaggle.com/api/v1/datasets/download/gauravmehta13/sp-500-stock-prices"
STOCKS_ZIP = "sp-500-stock-prices.zip"
STOCKS_CSV = ("S&P 500 Stock Prices 2014-2017.csv", "SP 500 Stock Prices 2014-2017.csv")
STOCKS_SAMPLE = "stocks_daily.csv.gz"
PRICE_FIELDS = ("open", "high", "low", "close", "volume")
STOCKS_TABLE = "a table of symbol, date, open, high, low, close, volume"
MISSING = {"", "na", "n/a", "nan", "null", "none"}


def stock_prices(data_dir, source="auto", symbols=None):
    """Daily prices from data_dir/sp500: the Kaggle archive, or its CSV file unpacked (or gzipped).

    Returns StockPrices, sorted by symbol and date; `symbols` selects some, in the order given. Rows that lack
    a value are kept as NaN and counted, and dates without a row are NaN too: to drop, fill or skip them is
    the caller's decision (see complete_symbols). facts describes the whole file: rows, symbols, dates,
    first_date, last_date, rows_with_missing, missing (per column), duplicates (identical rows, which are
    dropped), incomplete (names of symbols).
    Raises DataError for damaged files, unknown symbols, and, with the line, impossible or contradicting rows.
    """
    names = [STOCKS_ZIP, *STOCKS_CSV, *(f"{name}.gz" for name in STOCKS_CSV)]
    folder, facts = choose(data_dir, source, "sp500", [names], _fetch_stocks, STOCKS_URL)
    path = folder / STOCKS_SAMPLE if facts["data"] == "sample" else first_present(folder, names)
    arrays = decoded(path, "prices", 1, lambda: _stock_table(path), _is_stock_table)
    prices = StockPrices(arrays["symbols"].tolist(), arrays["dates"], torch.from_numpy(arrays["values"]), {})
    prices = prices._replace(facts={**facts, "file": path.name, **_stock_facts(prices, arrays["counts"].tolist())})
    return prices if symbols is None else select_symbols(prices, symbols)


def select_symbols(prices, symbols):
    """The same prices of some symbols only, in the order given. Raises DataError with the nearest names for others."""
    symbols = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
    for symbol in symbols:
        if symbol not in prices.symbols:
            near = difflib.get_close_matches(symbol.upper(), prices.symbols, 3, 0.5) or prices.symbols[:6]
            raise DataError(
                f"{prices.facts['file']}: expected one of its {len(prices.symbols)} symbols, "
                f"found {symbol!r}; nearest: {', '.join(near)}"
            )
    rows = [prices.symbols.index(symbol) for symbol in symbols]
    return prices._replace(symbols=symbols, values=prices.values[rows])


def complete_symbols(prices):
    """The symbols with a full history: no trading date missing and no value missing."""
    complete = torch.isfinite(prices.values).flatten(1).all(1).tolist()
    return [symbol for symbol, whole in zip(prices.symbols, complete, strict=True) if whole]


def _fetch_stocks(folder, absent):
    download(STOCKS_URL, folder / absent[0], check=lambda path: read_member(path, STOCKS_CSV))


def _stock_table(path):
    """Arrays of one CSV file: symbols (S,), dates (D,), values (S, D, 5), and the counts that `_stock_facts` names."""
    data = read_member(path, STOCKS_CSV) if path.suffix == ".zip" else read_bytes(path, STOCKS_TABLE)
    symbols, symbol_codes, dates, date_codes, numbers, lines = _parse_rows(path, data)
    _check_numbers(path, numbers, lines)
    cells = len(symbols) * len(dates)
    if cells * len(PRICE_FIELDS) > MAX_CELLS:
        raise DataError(
            f"{path}: expected at most {MAX_CELLS} values, found {len(symbols)} symbols on {len(dates)} dates"
        )
    symbol_order, date_order = np.argsort(symbols), np.argsort(dates)
    cell = np.argsort(symbol_order)[symbol_codes] * len(dates) + np.argsort(date_order)[date_codes]  # (R,)
    keep = _distinct(path, cell, numbers, lines)
    values = np.full((cells, len(PRICE_FIELDS)), np.nan)
    values[cell[keep]] = numbers[keep]
    missing = np.isnan(numbers[keep])
    return {
        "symbols": np.array(symbols)[symbol_order],
        "dates": np.array(dates, dtype="datetime64[D]")[date_order],
        "values": values.reshape(len(symbols), len(dates), len(PRICE_FIELDS)),
        "counts": np.array([len(numbers), (~keep).sum(), missing.any(1).sum(), *missing.sum(0)]),
    }


def _is_stock_table(arrays):
    """Whether types and shapes are those of `_stock_table`."""
    symbols, dates, values, counts = (arrays[name] for name in ("symbols", "dates", "values", "counts"))
    return (
        symbols.dtype.kind == "U"
        and dates.dtype == "datetime64[D]"
        and values.dtype == np.float64
        and values.size
        and counts.dtype == np.int64
        and counts.shape == (3 + len(PRICE_FIELDS),)
        and symbols.shape + dates.shape + (len(PRICE_FIELDS),) == values.shape
    )


def _parse_rows(path, data):
    """Symbols and dates as they appear; for R rows the codes into them (R,), numbers (R, 5), lines (R,)."""
    symbols, dates, numbers, lines = {}, {}, array("d"), array("q")
    symbol_codes, date_codes = array("q"), array("q")
    with reading(path, STOCKS_TABLE):
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        width, symbol_at, date_at, fields_at = _columns(path, next(rows, []))
        for row in rows:
            if not row:  # an empty line
                continue
            if len(row) != width:
                raise DataError(f"{path}, line {rows.line_num}: expected {width} fields, found {len(row)}")
            symbol, date = row[symbol_at], row[date_at]
            if symbol not in symbols or date not in dates:
                _check_keys(path, rows.line_num, symbol, date)
            symbol_codes.append(symbols.setdefault(symbol, len(symbols)))
            date_codes.append(dates.setdefault(date, len(dates)))
            lines.append(rows.line_num)
            try:
                numbers.extend([float(row[k]) for k in fields_at])
            except ValueError:
                numbers.extend([_number(path, rows.line_num, row[k]) for k in fields_at])
    if not lines:
        raise DataError(f"{path}: expected {STOCKS_TABLE}, found no rows")
    numbers = np.array(numbers).reshape(-1, len(PRICE_FIELDS))
    return list(symbols), np.array(symbol_codes), list(dates), np.array(date_codes), numbers, np.array(lines)


def _columns(path, header):
    """Width of the table and the places of symbol, date and the five numbers; other columns are ignored."""
    header = [name.strip().lower() for name in header]
    wanted = ("symbol", "date", *PRICE_FIELDS)
    if any(header.count(name) != 1 for name in wanted):
        raise DataError(
            f"{path}: expected the columns {', '.join(wanted)} once each, "
            f"found {', '.join(header)[:200] or 'an empty file'}"
        )
    symbol_at, date_at, *fields_at = (header.index(name) for name in wanted)
    return len(header), symbol_at, date_at, fields_at


def _number(path, line, cell):
    if cell.strip().lower() in MISSING:
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        raise DataError(f"{path}, line {line}: expected a number, found {cell[:40]!r}") from None


def _check_keys(path, line, symbol, date):
    if not re.fullmatch(r"[A-Za-z0-9.^=-]{1,16}", symbol):
        raise DataError(f"{path}, line {line}: expected a ticker symbol, found {symbol[:40]!r}")
    try:
        if datetime.date.fromisoformat(date).isoformat() == date:  # 20140102 and 2014-W01-4 parse as well
            return
    except ValueError:
        pass
    raise DataError(f"{path}, line {line}: expected a date YYYY-MM-DD, found {date[:40]!r}")


def _check_numbers(path, numbers, lines):
    """Prices are missing or positive, volumes missing or at least 0; 1e15 stands for everything absurd."""
    good = np.isnan(numbers) | (numbers > 0) & (numbers < 1e15)
    good[:, 4] |= numbers[:, 4] == 0
    if not good.all():
        row, column = np.argwhere(~good)[0]
        expected = "a volume of at least 0" if column == 4 else "a price above 0"
        raise DataError(
            f"{path}, line {lines[row]}: expected {expected} in {PRICE_FIELDS[column]}, found {numbers[row, column]:g}"
        )


def _distinct(path, cell, numbers, lines):
    """Which rows (R,) to keep: the first of each cell. Raises DataError where two rows of one cell differ."""
    order = np.argsort(cell, kind="stable")
    again = np.flatnonzero(cell[order[1:]] == cell[order[:-1]])
    first, second = order[again], order[again + 1]
    same = (numbers[first] == numbers[second]) | np.isnan(numbers[first]) & np.isnan(numbers[second])
    for k in np.flatnonzero(~same.all(axis=1))[:1]:
        raise DataError(
            f"{path}, line {lines[second[k]]}: expected one row per symbol and date, "
            f"found other values than on line {lines[first[k]]}"
        )
    keep = np.ones(len(cell), dtype=bool)
    keep[second] = False
    return keep


def _stock_facts(prices, counts):
    rows, duplicates, rows_with_missing, *missing = counts
    complete = set(complete_symbols(prices))
    return {
        "rows": rows,
        "symbols": len(prices.symbols),
        "dates": len(prices.dates),
        "first_date": str(prices.dates[0]),
        "last_date": str(prices.dates[-1]),
        "rows_with_missing": rows_with_missing,
        "missing": dict(zip(PRICE_FIELDS, missing, strict=True)),
        "duplicates": duplicates,
        "incomplete": [symbol for symbol in prices.symbols if symbol not in complete],
    }
