"""People's own daily prices, in the forms in which they are commonly saved, as stocks with dates and five prices.

    one CSV per stock       Date, Open, High, Low, Close[, Adj Close] and any other columns: yfinance's
                            Ticker.history().to_csv(), Yahoo's old export, Stooq's download
    one long CSV            the same with a column Symbol or Ticker: the S&P 500 file, Stooq's bulk files
    yfinance's download()   two rows of header, Price and Ticker, over a row that says Date; any number of stocks

Upper and lower case, <brackets>, underscores and the order of rows and columns do not matter. Dates are YYYY-MM-DD,
with or without a time and its zone, YYYY/MM/DD, YYYYMMDD or M/D/YYYY. Rows that lack a price are left out. Without a
column Adj Close the close is taken as the adjusted one, as it is in yfinance's files, and the stock says so.

Letters in shapes: D dates.
"""

import datetime
import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lstm_studies.loaders.files import DataError, check_table_size, read_bytes, reading

PRICE_TABLE = "a table of Date, Open, High, Low, Close and, if there is one, Adj Close"
ENDINGS = (".csv", ".csv.gz", ".txt")
FIELDS = ("open", "high", "low", "close", "adj close")
# Other names of columns, in lower case and with spaces for underscores; the first one that a file has is taken.
NAMES = {
    "date": ("date", "datetime"),
    "symbol": ("symbol", "ticker", "name"),
    "open": ("original open", "open"),  # files with both have an adjusted price under Open
    "adj close": ("adj close", "adjclose", "adjusted close", "adjusted"),
}
NO_PRICE = ("", "null", "nan", "na", "n/a", "none", "-")
LEAST, MOST = 1e-6, 1e9  # dollars: what is outside is no price
TICKER = r"[\w.^=&/-](?:[\w.^=&/ -]{0,30}[\w.^=&/-])?"  # spaces inside only
DATE = r"(\d{4})([-/]?)(\d{1,2})\2(\d{1,2})(?:[ T]\d{2}:\d{2}\S*)?|(\d{1,2})/(\d{1,2})/(\d{4})"


class StockPrices(NamedTuple):
    ticker: str
    dates: np.ndarray  # (D,) datetime64[D], ascending
    prices: np.ndarray  # (D, 5) float64: open, high, low, close, adjusted close in dollars
    adjusted: str  # the name of the column that is taken as the adjusted close


def read_prices(path: Path | str) -> list[StockPrices]:
    """The stocks of a CSV file, or of all CSV files of a folder, sorted by ticker. Raises DataError."""
    path = Path(path)
    with reading(path, "a CSV file of prices or a folder of them"):
        files = [path] if not path.is_dir() else sorted(p for p in path.iterdir() if p.name.lower().endswith(ENDINGS))
    if not files:
        raise DataError(f"{path}: expected CSV files of prices, found none ending in {', '.join(ENDINGS)}")
    stocks: dict[str, tuple[Path, StockPrices]] = {}
    for file in files:
        for stock in parse_prices(str(file), read_bytes(file, PRICE_TABLE), ticker_of(file)):
            if stock.ticker in stocks:
                raise DataError(
                    f"{file}: expected each stock in one file, found {stock.ticker} in {stocks[stock.ticker][0]}"
                )
            stocks[stock.ticker] = file, stock
    return [stocks[ticker][1] for ticker in sorted(stocks)]


def parse_prices(path: str, data: bytes, ticker: str) -> list[StockPrices]:
    """The stocks of one CSV file, given as bytes; `path` names it in errors, and `ticker` a stock without a symbol."""
    check_table_size(path, data)
    with reading(path, PRICE_TABLE):
        options = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False}
        cells = pd.read_csv(io.BytesIO(data), encoding="utf-8-sig", **options)
    check_widths(path, data)
    table = stacked_columns(path, cells) if header_rows(cells) == 3 else named_columns(path, cells, ticker)
    adjusted = "Adj Close" if "adj close" in table else "Close"
    if adjusted == "Close":
        table = table.assign(**{"adj close": table["close"]})
    rows = checked_rows(path, table)
    return [one_stock(ticker, own, adjusted) for ticker, own in rows.groupby("symbol", sort=True)]


def one_stock(ticker: str, rows: pd.DataFrame, adjusted: str) -> StockPrices:
    rows = rows.sort_values("day")
    return StockPrices(ticker, rows["day"].to_numpy("datetime64[D]"), rows[list(FIELDS)].to_numpy(float), adjusted)


def ticker_of(path: Path) -> str:
    """AAPL of AAPL.csv and of AAPL.csv.gz."""
    return re.sub(r"(\.csv)?(\.gz|\.csv|\.txt)$", "", path.name, flags=re.IGNORECASE)


# ---- header ----------------------------------------------------------------------------------------------------------


def header_rows(cells: pd.DataFrame) -> int:
    """3 for a file of yfinance's download(), whose third row starts with Date; else 1."""
    third = plain_name(cells.iat[2, 0]) if len(cells) > 2 else ""
    return 3 if third in NAMES["date"] and plain_name(cells.iat[0, 0]) not in NAMES["date"] else 1


def plain_name(cell: object) -> str:
    """A column's name in lower case, without brackets, with spaces for underscores."""
    return str(cell).strip().strip("<>").replace("_", " ").lower()


def named_columns(path: str, cells: pd.DataFrame, ticker: str) -> pd.DataFrame:
    """The rows under one row of names, as text: line, date, symbol and the prices that there are."""
    places = column_places(path, [plain_name(cell) for cell in cells.iloc[0]])
    table = cells.iloc[1:, list(places.values())].set_axis(list(places), axis=1)
    if "symbol" not in places:
        table = table.assign(symbol=ticker)
    return table.assign(line=table.index + 1)


def stacked_columns(path: str, cells: pd.DataFrame) -> pd.DataFrame:
    """The same of a file with two rows of names, fields and tickers in either order: one block of rows per ticker."""
    first, second = (cells.iloc[row, 1:].str.strip() for row in (0, 1))
    fields, tickers = (first, second) if "close" in set(first.map(plain_name)) else (second, first)
    blocks = []
    for ticker in tickers.unique():
        places = column_places(path, ["date", *fields.map(plain_name).where(tickers == ticker, "")])
        table = cells.iloc[3:, list(places.values())].set_axis(list(places), axis=1)
        blocks.append(table.assign(symbol=ticker, line=table.index + 1))
    return pd.concat(blocks)


def column_places(path: str, names: list[str]) -> dict[str, int]:
    """The place of the date, the symbol and the five prices in a row of names; symbol and adj close may be missing."""
    places = {}
    for field in ("date", "symbol", *FIELDS):
        name = next((name for name in NAMES.get(field, (field,)) if name in names), None)
        if name is not None and names.count(name) == 1:
            places[field] = names.index(name)
        elif name is not None or field not in ("symbol", "adj close"):
            raise DataError(
                f"{path}: expected the columns Date, Open, High, Low, Close once each, "
                f"found {', '.join(names)[:200] or 'an empty file'}"
            )
    return places


# ---- rows ------------------------------------------------------------------------------------------------------------


def check_widths(path: str, data: bytes) -> None:
    """Refuses a line with fewer fields than the first one, which pandas would fill up; not in files with quotes."""
    if b'"' in data:
        return
    lines = data.split(b"\n")
    expected = lines[0].count(b",")
    for number, line in enumerate(lines, 1):
        if line.count(b",") < expected and line.strip():
            raise DataError(f"{path}, line {number}: expected {expected + 1} fields, found {line.count(b',') + 1}")


def checked_rows(path: str, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have prices: symbol, day and FIELDS as numbers. Raises DataError that names the first bad line."""
    fields = list(FIELDS)
    table = table[table["date"].str.strip() != ""].reset_index(drop=True)
    days = {text: day_of(text) for text in table["date"].unique()}
    table["day"] = pd.Series([days[text] for text in table["date"]], table.index, "datetime64[s]")
    refuse(path, table, table["day"].isna(), ["date"], "a date YYYY-MM-DD or M/D/YYYY")
    missing = table[fields].apply(lambda column: column.str.strip().str.lower().isin(NO_PRICE))
    table = table[~missing.any(axis=1)].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{path}: expected {PRICE_TABLE}, found no rows with prices")
    refuse(path, table, ~table["symbol"].str.fullmatch(TICKER), ["symbol"], "a ticker symbol")
    numbers = table[fields].apply(pd.to_numeric, errors="coerce")
    refuse(
        path, table, ~numbers.apply(lambda column: column.between(LEAST, MOST)).all(axis=1), fields, "prices above 0"
    )
    again = table.duplicated(["symbol", "day"])
    if again.any():
        row = table[again].iloc[0]
        other = table[(table["symbol"] == row["symbol"]) & (table["day"] == row["day"])].iloc[0]
        raise DataError(
            f"{path}, line {row['line']}: expected one row per stock and date, "
            f"found {row['symbol']} on {row['day']:%Y-%m-%d} in line {other['line']} as well"
        )
    return table[["symbol", "day"]].join(numbers)


def refuse(path: str, table: pd.DataFrame, bad: pd.Series, columns: list[str], expected: str) -> None:
    """DataError for the first bad row, if there is one."""
    if bad.any():
        row = table.loc[bad.idxmax()]
        cells = ", ".join(str(cell)[:40] for cell in row[columns])
        raise DataError(f"{path}, line {row['line']}: expected {expected}, found {cells!r}")


def day_of(text: str) -> datetime.date | None:
    """The day of a date as in the head of this file, or None."""
    match = re.fullmatch(DATE, text.strip())
    if not match:
        return None
    year, month, day = (match[1], match[3], match[4]) if match[1] else (match[7], match[5], match[6])
    try:
        return datetime.date(int(year), int(month), int(day))
    except ValueError:
        return None
