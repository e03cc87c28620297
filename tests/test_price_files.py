"""Price files in every form in which they come: literal files, literal prices, and one line about each bad one."""

import gzip
import random
import zipfile

import numpy as np
import pytest
import torch
from conftest import fails
from movement_archive import day, price_file, random_prices

from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.movement import movement_of_prices, price_table
from lstm_studies.loaders.prices import own_prices

# ---- forms -----------------------------------------------------------------------------------------------------------

# Open, high, low, close, volume of two days; each form below is a file of them, named after who writes it so.
DAYS = ["2014-01-02", "2014-01-03"]
VALUES = [[1.5, 2.25, 1.25, 2, 1000], [2, 4, 1, 3, 2500]]
FORMS = {
    "yahoo": "Date,Open,High,Low,Close,Adj Close,Volume\n"
    "2014-01-02,1.5,2.25,1.25,2,1.9,1000\n2014-01-03,2,4,1,3,2.9,2500\n",
    "yfinance history": "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
    "2014-01-02 00:00:00-05:00,1.5,2.25,1.25,2,1000,0.0,0.0\n2014-01-03 00:00:00-05:00,2,4,1,3,2500,0.0,0.0\n",
    "yfinance newest first": "Datetime,Open,High,Low,Close,Adj Close,Volume\n"
    "2014-01-03 00:00:00+01:00,2,4,1,3,2.9,2500\n2014-01-02 00:00:00+01:00,1.5,2.25,1.25,2,1.9,1000\n",
    "yfinance download": "Price,Close,High,Low,Open,Volume\nTicker,AAA,AAA,AAA,AAA,AAA\nDate,,,,,\n"
    "2014-01-02,2,2.25,1.25,1.5,1000\n2014-01-03,3,4,1,2,2500\n",
    "yfinance by ticker": "Ticker,AAA,AAA,AAA,AAA,AAA,AAA,X,X,X,X,X,X\n"
    "Price,Open,High,Low,Close,Adj Close,Volume,Open,High,Low,Close,Adj Close,Volume\nDate,,,,,,,,,,,,\n"
    "2014-01-02,1.5,2.25,1.25,2,1.9,1000,,,,,,\n2014-01-03,2,4,1,3,2.9,2500,,,,,,\n",
    "yfinance reset_index": ",Date,Close,High,Low,Open,Volume\n,,AAA,AAA,AAA,AAA,AAA\n"
    "0,2014-01-02,2,2.25,1.25,1.5,1000\n1,2014-01-03,3,4,1,2,2500\n",
    "pandas index without a name": ",Open,High,Low,Close,Volume\n"
    "2014-01-02,1.5,2.25,1.25,2,1000\n2014-01-03,2,4,1,3,2500\n",
    "pandas row numbers": ",Date,Open,High,Low,Close,Volume\n"
    "0,2014-01-02,1.5,2.25,1.25,2,1000\n1,2014-01-03,2,4,1,3,2500\n",
    "stooq": "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    "AAA,D,20140102,000000,1.5,2.25,1.25,2,1000,0\nAAA,D,20140103,000000,2,4,1,3,2500,0\n",
    "nasdaq": "Date,Close/Last,Volume,Open,High,Low\n01/03/2014,$3.00,2500,$2.00,$4.00,$1.00\n"
    '01/02/2014,$2.00,"1,000",$1.50,$2.25,$1.25\n',
    "investing": '"Date","Price","Open","High","Low","Vol.","Change %"\n'
    '"Jan 03, 2014","3.00","2.00","4.00","1.00","2.50K","50%"\n'
    '"Jan 02, 2014","2.00","1.50","2.25","1.25","1.00K","-"\n',
    "kaggle": "date,symbol,open,close,low,high,volume\n"
    "2014-01-02 00:00:00,AAA,1.5,2,1.25,2.25,1000\n2014-01-03 00:00:00,AAA,2,3,1,4,2500\n",
    "a name": "date,open,high,low,close,volume,Name\n"
    "2014-01-02,1.5,2.25,1.25,2,1000,AAA\n2014-01-03,2,4,1,3,2500,AAA\n",
    "semicolons": "Date;Open;High;Low;Close;Volume\n02.01.2014;1,5;2,25;1,25;2;1.000\n03.01.2014;2;4;1;3;2.500\n",
    "tabs": "Day\tOpen\tHigh\tLow\tClose\tVolume\n2-Jan-14\t1.5\t2.25\t1.25\t2\t1000\n3-Jan-14\t2\t4\t1\t3\t2500\n",
    "alpha vantage": "timestamp,1. open,2. high,3. low,4. close,5. volume\n"
    "2014-01-03,2,4,1,3,2500\n2014-01-02,1.5,2.25,1.25,2,1000\n",
    "a null row": "Date,Open,High,Low,Close,Volume\n2014-01-01,null,null,null,null,null\n"
    "2014-01-02,1.5,2.25,1.25,2,1000\n2014-01-03,2,4,1,3,2500\n",
    "slashes": "Trade_Date,Open,High,Low,Close,Volume\n2014/1/2,1.5,2.25,1.25,2,1000\n\n2014/1/3,2,4,1,3,2500\n\n",
    "repeated": "Date,Open,High,Low,Close,Volume\n"
    "2014-01-02,1.5,2.25,1.25,2,1000\n2014-01-02,1.5,2.25,1.25,2,1000\n2014-01-03,2,4,1,3,2500\n",
}
SAID = {  # what a form leaves unsure
    "nasdaq": "dates such as 01/03/2014 are read as month, day and year",
    "semicolons": "dates such as 02.01.2014 are read as day, month and year",
    "pandas index without a name": "the dates are those of the column without a name",
    "a null row": "rows that lack a price are left out: line 2",
    "yfinance by ticker": "rows that lack a price are left out: line 4, 5",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_prices(tmp_path, capsys, form, encoding):
    path = tmp_path / "AAA.csv"
    path.write_bytes(FORMS[form].replace("\n", "\r\n" if encoding == "utf-16" else "\n").encode(encoding))
    prices = own_prices(path)
    assert prices.symbols == ["AAA"] and prices.dates.astype(str).tolist() == DAYS
    assert prices.values.tolist() == [VALUES]
    adjusted = "Adj Close" in FORMS[form]
    assert prices.adjusted.tolist() == [[1.9, 2.9] if adjusted else [2, 3]]
    assert prices.metadata["adjusted_column"] == ("Adj Close" if adjusted else "Close")
    assert prices.metadata["fields"] == 5 and prices.metadata["duplicates"] == (form == "repeated")
    notice = capsys.readouterr().err
    assert notice == (f"NOTICE: {path}: {SAID[form]}\n" if form in SAID else "")
    assert price_table(path).adjusted.tolist()[0] == pytest.approx([np.nan] * 2, nan_ok=True)  # too short for averages


def test_stocks_of_a_download_and_of_a_long_file(tmp_path):
    stacked = "Price,Close,Close,High,High,Low,Low,Open,Open\nTicker,B,A,B,A,B,A,B,A\nDate,,,,,,,,\n"
    stacked += "2014-01-02,2,20,3,30,1,10,2,20\n"
    long = "Ticker|Date|Open|High|Low|Close\nB|Jan 2 2014|2|3|1|2\nA|Jan 2 2014|20|30|10|20\n"
    for text in (stacked, long):
        prices = own_prices(write(tmp_path, text))
        assert prices.symbols == ["A", "B"]
        assert prices.values.tolist() == [[[20, 30, 10, 20, 0]], [[2, 3, 1, 2, 0]]]


def test_one_number_per_day(tmp_path):
    for text in (
        "symbol,date,price\nB,Jan 1 2000,2\nA,Jan 1 2000,1\n",  # vega_datasets
        "observation_date,A,B\n2000-01-01,1,2\n2000-01-02,.,.\n",  # FRED
        ",B,A\n2000-01-01,2,1\n",
    ):
        prices = own_prices(write(tmp_path, text))
        assert (prices.symbols, prices.metadata["fields"]) == (["A", "B"], 1)
        assert prices.values.tolist() == [[[1, 1, 1, 1, 0]], [[2, 2, 2, 2, 0]]]
        fails(["prices.csv", "Open, High, Low, Close", "one number"], price_table, tmp_path / "prices.csv")
    prices = own_prices(write(tmp_path, "Date,Close,Volume\n2000-01-01,2.5,7\n", "KO.csv"))
    assert prices.symbols == ["KO"] and prices.values.tolist() == [[[2.5, 2.5, 2.5, 2.5, 0]]]


@pytest.mark.parametrize(
    ("file", "symbol"),
    [
        ("yahoofinance-AAPL-20040819-20180120.csv", "yahoofinance-AAPL-20040819-20180120"),
        ("issue#142_data.csv.gz", "issue#142_data"),
        ("b.us.txt", "b.us"),
        ("^GSPC.TSV", "^GSPC"),
        ("my stock", "my stock"),
        (".csv", "series"),
        ("a" * 90, "a" * 64),
    ],
)
def test_a_stock_without_a_symbol_has_the_name_of_its_file(tmp_path, file, symbol):
    assert own_prices(write(tmp_path, FORMS["yahoo"], file)).symbols == [symbol]


def test_what_is_said(tmp_path, capsys):
    def said(*rows, header="Date,Open,High,Low,Close,Volume"):
        own_prices(write(tmp_path, "\n".join([header, *rows]) + "\n"))
        return capsys.readouterr().err.removeprefix(f"NOTICE: {tmp_path / 'prices.csv'}: ").strip()

    weeks = [f"2014-01-{day:02d},1,1,1,1,1" for day in (6, 13, 20, 27)]
    assert said(*weeks) == "the rows are 7 days apart, and each is taken for a day"
    assert said(*(f"2014-{month:02d}-01,1,1,1,1,1" for month in range(1, 13))).startswith("the rows are 31 days apart")
    assert said("1/31/2014,1,1,1,1,1") == said("31/1/2014,1,1,1,1,1") == ""
    assert said("2014-01-06,1,1,1,1,", weeks[1], weeks[2]).startswith(
        "volumes that are missing are taken for 0: line 2; the rows"
    )
    assert said("2014-01-06,1,1,1,1,N/A") == ""  # an index has none
    thousands = '2014-01-06,"3,744","3,748","3,736","3,740",1'
    assert said(thousands) == "in numbers such as 1,234 the comma is read as a separator of thousands"
    assert own_prices(tmp_path / "prices.csv").values.tolist() == [[[3744, 3748, 3736, 3740, 1]]]
    capsys.readouterr()
    lines = [f"2014-01-{day:02d},{'' if day % 2 else 1},1,1,1,1" for day in range(1, 12)]
    assert said(*lines) == "rows that lack a price are left out: line 2, 4, 6 and 3 more"


def test_a_folder_of_mixed_files(tmp_path, capsys):
    write(tmp_path, FORMS["a null row"], "A.csv")
    write(tmp_path, FORMS["semicolons"], "b.us.txt")
    (tmp_path / "C.csv.gz").write_bytes(gzip.compress(FORMS["yahoo"].encode()))
    write(tmp_path, "not read", "notes.md")
    prices = own_prices(tmp_path)
    assert prices.symbols == ["A", "C", "b.us"] and prices.values.tolist() == [VALUES] * 3
    assert prices.metadata["adjusted_column"] == "Close of 2 stocks, Adj Close of 1 stocks"
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1 and "A.csv: rows that lack" in notice and "b.us.txt: dates such as" in notice
    write(tmp_path, FORMS["kaggle"].replace("AAA", "C"), "long.csv")
    fails(["long.csv", "each stock in one file", "C.csv.gz"], own_prices, tmp_path)


def test_an_archive_of_one_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("prices/AAA.csv", FORMS["kaggle"])
        archive.writestr("README.md", "text")
    assert own_prices(tmp_path / "mine.zip").values.tolist() == [VALUES]
    with zipfile.ZipFile(tmp_path / "mine.zip", "a") as archive:
        archive.writestr("B.csv", FORMS["yahoo"])
    fails(
        ["mine.zip", "expected a member mine.csv", "found prices/AAA.csv, README.md, B.csv"],
        own_prices,
        tmp_path / "mine.zip",
    )


def write(folder, text, name="prices.csv"):
    path = folder / name
    path.write_text(text)
    return path


# ---- bad files -------------------------------------------------------------------------------------------------------

GOOD = price_file(random_prices(0))
HEADER = GOOD.splitlines()[0]
HOURS = "".join(f"2014-01-02 {hour:02d}:30:00-05:00,1,1,1,1,1,{hour}\n" for hour in range(9, 16))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found an empty file"),
        ("\n \n", "found an empty file"),
        (HEADER, "no rows"),
        (GOOD.replace("High", "Highest"), ["Open, High, Low, Close", "Highest"]),
        (GOOD.replace("Volume", "Close"), ["expected one column Close", "found Date, Open, High, Low, Close, Close"]),
        (HEADER + "\n2013-01-01,1,1,1,1,1\n", ["line 2", "7 fields", "found 6"]),
        (HEADER + "\n2013-01-01,1,1,1,1,1,1,1\n", ["line 2", "7 fields", "found 8"]),
        (HEADER + "\n2013-01-01,1,1,1,one,1,1\n", ["line 2", "a number, found 'one' in Close"]),
        (HEADER + "\n2013-02-30,1,1,1,1,1,1\n", ["line 2", "2013-02-30"]),
        (HEADER + "\n\n2013-1301,1,1,1,1,1,1\n", ["line 3", "2013-1301"]),
        (
            HEADER + "\n12/30/2013,1,1,1,1,1,1\n12/31/2013,1,1,1,1,1,1\n31/12/2013,1,1,1,1,1,1\n",
            ["line 4", "31/12/2013"],
        ),
        (HEADER + "\n2013-01-01,1,0,1,1,1,1\n", ["line 2", "a price above 0 in high, found 0"]),
        (HEADER + "\n2013-01-01,1,-2,1,1,1,1\n", ["line 2", "above 0"]),
        (HEADER + "\n2013-01-01,1,inf,1,1,1,1\n", ["line 2", "below 1e+12"]),
        (HEADER + "\n2013-01-01,1,1e300,1,1,1,1\n", ["line 2", "below 1e+12"]),
        (HEADER + "\n2013-01-01,1,1e-300,1,1,1,1\n", ["line 2", "above 0"]),
        (HEADER + "\n2013-01-01,1,1,1,1,-5,1\n", ["line 2", "a volume of at least 0 in volume, found -5"]),
        (
            HEADER + '\n2013-01-01,1.5,1,1,1,1,1\n2013-01-02,1.5,1,1,1,1,"1,5"\n',
            ["line 3", "'1,5' in Adj Close"],
        ),
        (HEADER + "\n2013-01-01,1,1,1,1,1,1\n1/1/2013,1,1,1,1,1,2\n", ["line 3", "2013-01-01", "line 2"]),
        (HEADER + '\n"2013-01-01,1,1,1,1,1,1\n', ["line 2", "a date", "'\"2013-01-01'"]),
        (HEADER + "\n2013-01-01,null,null,null,null,null,null\n", "no rows with prices"),
        (
            HEADER + "\n" + HOURS,
            ["line 3", "one row per stock and day", "found 7 of A on 2014-01-02", "within the day"],
        ),
        ("2013-01-01,1,1,1,1\n2013-01-02,1,1,1,1\n", ["a first line with the names", "2013-01-01, 1, 1, 1, 1"]),
        ("Open,High,Low,Close\n1,1,1,1\n", ["a table of Date, Open", "no date in the columns Open, High, Low, Close"]),
        ("symbol,date,open,high,low,close\nA\x1b[2J,2013-01-01,1,1,1,1\n", ["line 2", "ticker"]),
        ("symbol,date,open,high,low,close\n,2013-01-01,1,1,1,1\n", ["line 2", "ticker", "''"]),
        ("symbol,date,a,b\nX,2013-01-01,1,1\n", "found the columns symbol, date, a, b"),
        ("Price,Open\nTicker,A\nDate,\n2013-01-01,1\n", ["Open, High, Low, Close"]),
        ("Price,Volume\nTicker,A\nDate,\n2013-01-01,1\n", ["Open, High, Low, Close"]),
        ("Price,Close,Open,High,Low\nTicker,A,A,A,A\nDate,,,,\n2013-01-01,1,1,1,x\n", ["line 4", "'x' in Low"]),
        ("<!doctype html><p>Sign in", "web page"),
        ("PK\3\4", "Excel"),
        ("\0" * 100, "zero bytes"),
    ],
)
def test_bad_price_files(tmp_path, text, expected):
    path = str(write(tmp_path, text, "A.csv"))
    fails([path, *([expected] if isinstance(expected, str) else expected)], movement_of_prices, tmp_path)


def test_bad_folders(tmp_path):
    fails([str(tmp_path), "found none"], own_prices, tmp_path)
    fails(["nowhere"], own_prices, tmp_path / "nowhere")
    (tmp_path / "A.csv").write_bytes(b"\xff\xfe\x80")
    fails("A.csv", own_prices, tmp_path)
    (tmp_path / "A.csv").unlink()
    (tmp_path / "A.csv").mkdir()
    fails("A.csv", own_prices, tmp_path)


# ---- what the loaders make of them -----------------------------------------------------------------------------------


def test_other_clothes(tmp_path):
    rows = random_prices(3)
    text = price_file(rows)
    header, *body = text.splitlines()
    variants = [
        price_file(rows, american=True),
        price_file(rows, descending=True),
        price_file(rows, own_open=True),
        "\n".join([header, *random.Random(1).sample(body, len(body))]),
        text.replace("2013-", "2013/").replace("2012-", "2012/").replace("-", "/"),
        text.replace("Adj Close", "adj_close").replace("Date", " DATE "),
    ]
    expected = own_prices(write(tmp_path, text))
    assert expected.values.shape == (1, len(rows), 5)
    assert expected.dates.tolist() == [day(k) for k in rows]
    for variant in variants:
        prices = own_prices(write(tmp_path, variant))
        np.testing.assert_array_equal(prices.dates, expected.dates)
        assert torch.equal(prices.values, expected.values) and torch.equal(prices.adjusted, expected.adjusted)
    assert len(movement_of_prices(tmp_path, steps=3).train.y) > 30


@pytest.mark.parametrize("form", FORMS)
def test_damaged_at_random(tmp_path, capsys, form):
    """Cut, changed, doubled and mixed-up bytes: stocks with good prices, or one line."""
    whole, rng = FORMS[form].encode(), random.Random(0)
    damaged = 0
    for _ in range(40):
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
        (tmp_path / "A.csv").write_bytes(content)
        try:
            prices = own_prices(tmp_path / "A.csv")
            known = prices.values[prices.adjusted.isfinite()]
            assert torch.isfinite(known).all() and (prices.metadata["fields"] == 1 or (known[:, :4] > 0).all())
            assert (np.diff(prices.dates) > np.timedelta64(0)).all() and len(known)
        except DataError as error:
            damaged += 1
            assert "A.csv" in str(error) and str(error).isprintable()
    assert damaged > 8
    assert all(line.startswith("NOTICE: ") for line in capsys.readouterr().err.splitlines())
