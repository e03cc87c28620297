"""Files of daily prices in the forms in which they are commonly saved, as rows of numbers per stock and day.

    one file per stock      Date, Open, High, Low, Close[, Adj Close][, Volume] and any other columns: yfinance's
                            Ticker.history().to_csv(), the exports of Yahoo, Nasdaq, Investing.com and Stooq
    a long file             the same with a column Symbol, Ticker or Name: the S&P 500 file, Stooq's bulk files
    yfinance's download()   two rows of names, Price and Ticker, with or without a third one that says Date
    one number per day      Date and Close, with or without a symbol; or a date and one column per series, of any unit

Upper and lower case, <brackets>, underscores and the order of rows and columns do not matter; `loaders.tables` tells
separators, numbers and dates. Where no column is named as a date, it is the first one that has one.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.tables import counts_rows, read_rows, to_numbers, to_time, to_times

PRICE_TABLE = (
    "a table of Date, Open, High, Low, Close, with or without Symbol, Adj Close and Volume, "
    "or one of a date and a column of numbers per series"
)
PRICES = ("open", "high", "low", "close")
FIELDS = (*PRICES, "volume", "adj close")
# Names of columns, in lower case and with spaces for underscores; the first one that a file has is taken.
NAMES = {
    "date": ("date", "datetime", "timestamp", "time", "day"),
    "symbol": ("symbol", "ticker", "name", "code", "ts code", "tic"),
    "open": ("original open", "open"),  # files with both have an adjusted price under Open
    "high": ("high",),
    "low": ("low",),
    "close": ("close", "close/last", "last", "price"),
    "volume": ("volume", "vol", "vol."),
    "adj close": ("adj close", "adjclose", "adjusted close", "adjusted"),
}
LEAST, MOST = 1e-9, 1e12  # what is outside is no price
MAX_NAME = 64  # characters of a symbol
ENDING = re.compile(r"(\.(csv|tsv|txt))?\.(csv|tsv|txt|zip|gz)$", re.IGNORECASE)


class PriceFile(NamedTuple):
    # One row per symbol and day, indexed by the file's lines: symbol, day (datetime64) and, as float64, the FIELDS that
    # the file has. Close alone stands for all prices.
    rows: pd.DataFrame
    duplicates: int  # repeated rows, which are left out


def parse_prices(
    path: Path | str, data: bytes, ticker: str, notes: list[str], keep_incomplete: bool = False
) -> PriceFile:
    """The rows of one file, given as bytes; `path` names it in errors, and `ticker` a stock without a symbol.

    Rows that lack a price are left out, which is noted, or kept with NaN. Raises DataError, with the line where there
    is one.
    """
    cells = read_rows(path, data, PRICE_TABLE, notes)
    height, date = header(path, cells, notes)
    first, body = cells.iloc[0], cells.iloc[height:].copy()
    if body.empty:
        raise DataError(f"{path}: expected {PRICE_TABLE}, found no rows")
    blocks = named_blocks(path, first, body, date, ticker) if height == 1 else stacked_blocks(path, cells, date)
    for column in {columns["volume"] for _, columns in blocks if "volume" in columns}:
        for letter, exponent in (("K", "e3"), ("M", "e6"), ("B", "e9")):  # 1.5M
            body[column] = body[column].str.replace(rf"(?<=\d){letter}$", exponent, regex=True)
    used = sorted({column for _, columns in blocks for column in columns.values()})
    names = [first[column].strip() or f"column {column + 1}" for column in used]
    numbers = pd.DataFrame(to_numbers(path, body[used].set_axis(names, axis=1), notes), body.index, used)
    days = to_times(path, body[date], notes).astype("datetime64[D]").astype("datetime64[s]")
    rows = [
        numbers[list(columns.values())].set_axis(list(columns), axis=1).assign(symbol=symbol, day=days)
        for symbol, columns in blocks
    ]
    return checked_rows(path, pd.concat(rows), notes, keep_incomplete)


def ticker_of(path: Path) -> str:
    """AAPL of AAPL.csv and of AAPL.csv.gz, in printable characters."""
    name = "".join(c if c.isprintable() else "-" for c in ENDING.sub("", path.name).strip())
    return name[:MAX_NAME].strip() or "series"


# ---- names of columns ------------------------------------------------------------------------------------------------


def plain(cell: str) -> str:
    """A column's name in lower case, without brackets and numbering, with spaces for underscores."""
    return re.sub(r"^\d\. ", "", cell.strip().strip("<>").replace("_", " ").lower())


def shown(names: pd.Series) -> str:
    return ", ".join(name.strip() for name in names)[:200]


def header(path: Path | str, cells: pd.DataFrame, notes: list[str]) -> tuple[int, int]:
    """How many rows of names there are, and the column of the date."""
    first, names = cells.iloc[0], [plain(cell) for cell in cells.iloc[0]]
    if any(map(to_time, first)):
        raise DataError(f"{path}: expected a first line with the names of the columns, found {shown(first)}")
    if len(cells) > 2 and plain(cells.iat[2, 0]) in NAMES["date"] and not set(names) & set(NAMES["date"]):
        return 3, 0
    second = cells.iloc[min(1, len(cells) - 1)]
    for name in (*NAMES["date"], *(name for name in names if "date" in name.split())):
        if name in names:
            date = names.index(name)
            tickers = second[second.str.strip() != ""]
            return 1 + (date not in tickers and bool(pd.to_numeric(tickers, errors="coerce").isna().all())), date
    for date, cell in second.items():
        if to_time(cell) or to_time(cell, day_first=True):
            notes.append(f"the dates are those of the column {first[date].strip() or 'without a name'}")
            return 1, date
    raise DataError(f"{path}: expected {PRICE_TABLE}, found no date in the columns {shown(first)}")


def field_columns(path: Path | str, first: pd.Series, date: int) -> dict[str, int]:
    """The columns of symbol and FIELDS as far as there are any; of the prices all four, close alone, or none."""
    names = {column: plain(name) for column, name in first.items() if column != date}
    columns = {}
    for field, aliases in NAMES.items():
        name = next((name for name in aliases if name in names.values()), None)
        if name is not None and field != "date":
            columns[field], *others = (column for column in names if names[column] == name)
            if others:
                raise DataError(f"{path}: expected one column {name.title()}, found {shown(first)}")
    if {"open", "high", "low"} & columns.keys():
        if not columns.keys() >= set(PRICES):
            raise DataError(f"{path}: expected the columns Date, Open, High, Low, Close, found {shown(first)}")
        return columns
    close = columns.get("close", columns.get("adj close"))
    one = close is not None and ("symbol" in columns or names[close] not in ("last", "price"))
    return {field: columns[field] for field in ("symbol",) if field in columns} | ({"close": close} if one else {})


Block = tuple[str | pd.Series, dict[str, int]]  # a symbol, or one per row, and the columns of its fields


def named_blocks(path: Path | str, first: pd.Series, body: pd.DataFrame, date: int, ticker: str) -> list[Block]:
    """The blocks under one row of names: one for all stocks, or one per series."""
    columns = field_columns(path, first, date)
    symbol = columns.pop("symbol", None)
    symbols = ticker if symbol is None else body[symbol].str.strip()
    if columns:
        return [(symbols, columns)]
    series = {
        column: name.strip()
        for column, name in first.drop([date] if symbol is None else [date, symbol]).items()
        if not (
            plain(name) in ("", "index", "unnamed: 0") and (counts_rows(body[column]) or (body[column] == "").all())
        )
    }
    if symbol is not None and len(series) == 1:
        return [(symbols, {"close": column}) for column in series]
    if symbol is not None or not series or len({*series.values()} - {""}) < len(series):
        raise DataError(
            f"{path}: expected {PRICE_TABLE}, each with a name of its own, found the columns {shown(first)}"
        )
    return [(name, {"close": column}) for column, name in series.items()]


def stacked_blocks(path: Path | str, cells: pd.DataFrame, date: int) -> list[Block]:
    """The blocks under two rows of names, fields and tickers in either order: one per ticker."""
    fields, tickers = (cells.iloc[row].drop(date).str.strip() for row in (0, 1))
    if "close" not in set(fields.map(plain)):
        fields, tickers = tickers, fields
    blocks = [
        (ticker, field_columns(path, fields[tickers == ticker], date)) for ticker in tickers[tickers != ""].unique()
    ]
    if not blocks or not all(columns for _, columns in blocks):
        raise DataError(f"{path}: expected the columns Open, High, Low, Close of each stock, found {shown(fields)}")
    return blocks


# ---- rows ------------------------------------------------------------------------------------------------------------


def checked_rows(path: Path | str, rows: pd.DataFrame, notes: list[str], keep_incomplete: bool) -> PriceFile:
    """The rows with sensible names and numbers, one per stock and day. Raises DataError for the first other one."""
    for line, symbol in rows["symbol"].drop_duplicates().items():
        if not (symbol and symbol.isprintable() and len(symbol) <= MAX_NAME):
            raise DataError(f"{path}, line {line}: expected a ticker symbol, found {symbol[: MAX_NAME + 1]!r}")
    fields = [field for field in FIELDS if field in rows]
    check_range(path, rows[fields])
    lacking = rows[fields].drop(columns="volume", errors="ignore").isna().any(axis=1)
    if lacking.any() and not keep_incomplete:
        notes.append(f"rows that lack a price are left out: {lines_of(rows[lacking])}")
        rows = rows[~lacking]
    if "volume" in rows and not keep_incomplete:
        lacking = rows["volume"].isna()
        if lacking.any() and not lacking.all():
            notes.append(f"volumes that are missing are taken for 0: {lines_of(rows[lacking])}")
        rows = rows.fillna({"volume": 0.0})
    if rows.empty:
        raise DataError(f"{path}: expected {PRICE_TABLE}, found no rows with prices")
    distinct = rows[~rows.duplicated()] if rows.duplicated(["symbol", "day"]).any() else rows
    check_repeated(path, distinct)
    longest = distinct.loc[distinct["symbol"] == distinct["symbol"].mode()[0], "day"]
    gap = longest.sort_values().diff().median() / pd.Timedelta(days=1)
    if gap > 4:
        notes.append(f"the rows are {gap:g} days apart, and each is taken for a day")
    return PriceFile(distinct, len(rows) - len(distinct))


def lines_of(rows: pd.DataFrame) -> str:
    lines = rows.index.unique()
    return f"line {', '.join(map(str, lines[:3]))}" + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


def check_range(path: Path | str, numbers: pd.DataFrame) -> None:
    """Raises DataError for prices that are not positive, negative volumes, and what is too large for either."""
    for field, column in numbers.items():
        if field == "volume":
            low, high, expected = 0, 1e18, "a volume of at least 0"
        elif "open" in numbers:
            low, high, expected = LEAST, MOST, "a price above 0"
        else:
            low, high, expected = -MOST, MOST, f"a number above {-MOST:g}"
        for line, value in column[~(column.isna() | column.between(low, high))].head(1).items():
            expected = expected if value < low else f"a number below {high:g}"
            raise DataError(f"{path}, line {line}: expected {expected} in {field}, found {value:g}")


def check_repeated(path: Path | str, rows: pd.DataFrame) -> None:
    """Raises DataError for a second row of a stock and day, as there are many where prices are of times of the day."""
    again = rows.duplicated(["symbol", "day"])
    if again.any():
        line, row = again.idxmax(), rows[again].iloc[0]
        same = rows.index[(rows["symbol"] == row["symbol"]) & (rows["day"] == row["day"])]
        hint = ": prices within the day, of which a row per day has to be made" if len(same) > 2 else ""
        raise DataError(
            f"{path}, line {line}: expected one row per stock and day, found {len(same)} of {row['symbol']} on "
            f"{row['day']:%Y-%m-%d}, the first in line {same[0]}{hint}"
        )
