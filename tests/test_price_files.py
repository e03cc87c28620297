"""People's own prices: every form in which they come gives the same stocks, and every bad file one line."""

import gzip
import random

import numpy as np
import pytest
from conftest import fails
from movement_archive import day, price_file, random_prices

from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.movement import movement_of_prices, price_table
from lstm_studies.loaders.price_files import parse_prices, read_prices

ROWS = {k: tuple(round(price, 2) for price in row) for k, row in random_prices(3).items()}
DAYS = [np.datetime64(day(k)) for k in ROWS]
FIELDS = ("Open", "High", "Low", "Close")


def lines(header, row_of):
    """A CSV of ROWS; row_of(day, open, high, low, close, adjusted) is a list of cells."""
    return "\n".join([header, *(",".join(map(str, row_of(day(k), *row))) for k, row in ROWS.items())]) + "\n"


def ticker_history():
    """yfinance: Ticker("AAPL").history().to_csv()"""
    header = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits"
    return lines(header, lambda d, o, h, lo, c, _: [f"{d} 00:00:00-05:00", o, h, lo, c, 1000, 0.0, 0.0])


def yahoo_export():
    """Yahoo's former download, with a day without trade"""
    text = lines("Date,Open,High,Low,Close,Adj Close,Volume", lambda d, o, h, lo, c, a: [d, o, h, lo, c, a, 1000])
    return text + "2014-01-01,null,null,null,null,null,null\n"


def stooq():
    """stooq.com/q/d/?s=aapl.us"""
    return lines("Date,Open,High,Low,Close,Volume", lambda d, o, h, lo, c, _: [d, o, h, lo, c, 1000])


def stooq_bulk():
    """stooq.com/db/h: a member of the archive of daily prices"""
    header = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
    return lines(header, lambda d, o, h, lo, c, _: ["AAPL", "D", f"{d:%Y%m%d}", "000000", o, h, lo, c, 1000, 0])


def long_file():
    """the form of the S&P 500 file"""
    header = "symbol,date,open,high,low,close,volume"
    return lines(header, lambda d, o, h, lo, c, _: ["AAPL", d, o, h, lo, c, 1000])


def download():
    """yfinance: download("AAPL").to_csv()"""
    head = "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,"
    return lines(head, lambda d, o, h, lo, c, _: [d, c, h, lo, o, 1000])


def download_by_ticker():
    """yfinance: download(["AAPL", "X"], group_by="ticker", auto_adjust=False).to_csv(); X has no price"""
    fields = "Open,High,Low,Close,Adj Close"
    head = f"Ticker,AAPL,AAPL,AAPL,AAPL,AAPL,X,X,X,X,X\nPrice,{fields},{fields}\nDate,,,,,,,,,,"
    return lines(head, lambda d, o, h, lo, c, a: [d, o, h, lo, c, a, "", "", "", "", ""])


FORMS = {  # each with the column that stands for the adjusted close
    ticker_history: "Close",
    yahoo_export: "Adj Close",
    stooq: "Close",
    stooq_bulk: "Close",
    long_file: "Close",
    download: "Close",
    download_by_ticker: "Adj Close",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_prices(tmp_path, form):
    path = tmp_path / "AAPL.csv"
    path.write_text(form())
    (stock,) = read_prices(path)
    assert stock.ticker == "AAPL" and stock.adjusted == FORMS[form]
    np.testing.assert_array_equal(stock.dates, np.array(DAYS))
    expected = np.array(list(ROWS.values()))
    np.testing.assert_array_equal(stock.prices[:, :4], expected[:, :4])
    np.testing.assert_array_equal(stock.prices[:, 4], expected[:, 4 if FORMS[form] == "Adj Close" else 3])
    data = movement_of_prices(path, steps=3)
    assert data.metadata["adjusted_column"] == FORMS[form] and data.metadata["stocks"] == 1
    assert len(data.train.y) > 30


def test_a_download_of_several_stocks():
    head = "Price,Close,Close,High,High,Low,Low,Open,Open\nTicker,A,B,A,B,A,B,A,B\nDate" + "," * 8
    text = lines(head, lambda d, o, h, lo, c, _: [d, c, 2 * c, h, 2 * h, lo, 2 * lo, o, 2 * o])
    a, b = parse_prices("prices.csv", text.encode(), "prices")
    assert (a.ticker, b.ticker) == ("A", "B")
    np.testing.assert_allclose(b.prices, 2 * a.prices)
    np.testing.assert_array_equal(a.prices[:, :4], np.array(list(ROWS.values()))[:, :4])


def test_other_clothes():
    rows = random_prices(3)
    text = price_file(rows)
    header, *body = text.splitlines()
    variants = [
        price_file(rows, american=True),
        price_file(rows, descending=True),
        price_file(rows, own_open=True),
        text.replace("\n", "\r\n"),
        "\ufeff" + text,
        "\n".join([header, *random.Random(1).sample(body, len(body))]),
        text.replace("2013-", "2013/").replace("2012-", "2012/").replace("-", "/"),
        text.replace("Adj Close", "adj_close").replace("Date", " DATE "),
        text.replace("\n", "\n\n") + "2014-01-01,null,null,null,null,null,null\n\n",
    ]
    (expected,) = parse_prices("A.csv", text.encode(), "A")
    assert expected.prices.shape == (len(rows), 5) and expected.ticker == "A"
    for variant in variants:
        (stock,) = parse_prices("A.csv", variant.encode(), "A")
        np.testing.assert_array_equal(stock.dates, expected.dates)
        np.testing.assert_array_equal(stock.prices, expected.prices)


def test_a_folder_of_mixed_files(tmp_path):
    (tmp_path / "A.csv").write_text(yahoo_export())
    (tmp_path / "b.us.txt").write_text(stooq())
    (tmp_path / "C.csv.gz").write_bytes(gzip.compress(stooq().encode()))
    (tmp_path / "notes.md").write_text("not read")
    assert [stock.ticker for stock in read_prices(tmp_path)] == ["A", "C", "b.us"]
    assert price_table(tmp_path).adjusted_column == "Adj Close of 1 stocks, Close of 2 stocks"
    (tmp_path / "long.csv").write_text(long_file().replace("AAPL", "C"))
    fails(["long.csv", "each stock in one file", "C.csv.gz"], read_prices, tmp_path)


GOOD = price_file(random_prices(0))
HEADER = GOOD.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "No columns"),
        (HEADER, "no rows"),
        (GOOD.replace("High", "Highest"), ["Open, High, Low, Close", "highest"]),
        (GOOD.replace("Volume", "Close"), "once each"),
        (HEADER + "\n2013-01-01,1,1,1,1,1\n", ["line 2", "7 fields", "found 6"]),
        (HEADER + "\n2013-01-01,1,1,1,1,1,1,1\n", ["line 2", "saw 8"]),
        (HEADER + "\n2013-01-01,1,1,1,one,1,1\n", ["line 2", "one"]),
        (HEADER + "\n2013-02-30,1,1,1,1,1,1\n", ["line 2", "2013-02-30"]),
        (HEADER + "\n30/12/2013,1,1,1,1,1,1\n", ["line 2", "30/12/2013"]),
        (HEADER + "\n\n2013-1301,1,1,1,1,1,1\n", ["line 3", "2013-1301"]),
        (HEADER + "\n2013-01-01,1,0,1,1,1,1\n", ["line 2", "above 0"]),
        (HEADER + "\n2013-01-01,1,-2,1,1,1,1\n", ["line 2", "above 0"]),
        (HEADER + "\n2013-01-01,1,inf,1,1,1,1\n", ["line 2", "above 0"]),
        (HEADER + "\n2013-01-01,1,1e300,1,1,1,1\n", ["line 2", "above 0"]),
        (HEADER + "\n2013-01-01,1,1e-300,1,1,1,1\n", ["line 2", "above 0"]),
        (HEADER + "\n2013-01-01,1,1,1,1,1,1\n1/1/2013,1,1,1,1,1,1\n", ["line 3", "2013-01-01", "line 2"]),
        (HEADER + '\n"2013-01-01,1,1,1,1,1,1\n', "Error"),
        (HEADER + "\n2013-01-01,null,null,null,null,null,null\n", "no rows with prices"),
        ("symbol,date,open,high,low,close\nA?B,2013-01-01,1,1,1,1\n", ["line 2", "ticker", "A?B"]),
        ("symbol,date,open,high,low,close\n,2013-01-01,1,1,1,1\n", ["line 2", "ticker"]),
        ("Price,Close\nTicker,A\nDate,\n2013-01-01,1\n", ["Open, High, Low, Close"]),
        ("Price,Close,Open,High,Low\nTicker,A,A,A,A\nDate,,,,\n2013-01-01,1,1,1,x\n", ["line 4", "x"]),
        ("<!doctype html><p>Sign in", "web page"),
        ("\0" * 100, "A.csv"),
    ],
)
def test_bad_price_files(tmp_path, text, expected):
    (tmp_path / "A.csv").write_text(text)
    path = str(tmp_path / "A.csv")
    fails([path, *([expected] if isinstance(expected, str) else expected)], movement_of_prices, tmp_path)


def test_bad_folders(tmp_path):
    fails([str(tmp_path), "found none"], read_prices, tmp_path)
    fails(["nowhere"], read_prices, tmp_path / "nowhere")
    (tmp_path / "A.csv").write_bytes(b"\xff\xfe\x80")
    fails("A.csv", read_prices, tmp_path)
    (tmp_path / "A.csv").unlink()
    (tmp_path / "A.csv").mkdir()
    fails("A.csv", read_prices, tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_damaged_at_random(form):
    """Cut, changed, doubled and mixed-up bytes: stocks with good prices, or one line."""
    whole, rng = form().encode()[:2500], random.Random(0)
    damaged = 0
    for _ in range(120):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 5, 50))):
            start = rng.randrange(len(content))
            part = content[start : start + rng.randrange(40)]
            kind = rng.randrange(4)
            if kind == 0:
                content[start] = rng.randrange(256)
            elif kind == 1 and len(content) > 100:
                del content[start : start + len(part)]
            elif kind == 2:
                content[rng.randrange(len(content)) :][:0] = part
            else:
                content[start:start] = rng.choice((b",", b"\n", b'"', b"\0", b"-1", b"1e999", b"nan", "é".encode()))
        try:
            for stock in parse_prices("A.csv", bytes(content), "A"):
                assert np.isfinite(stock.prices).all() and (stock.prices > 0).all()
                assert (np.diff(stock.dates) > np.timedelta64(0)).all() and len(stock.dates)
        except DataError as error:
            damaged += 1
            assert "A.csv" in str(error) and str(error).isprintable()
    assert damaged > 30
