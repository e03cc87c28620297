"""Separators, numbers and dates of tables, told from their content: literal cells, literal values."""

import datetime

import numpy as np
import pandas as pd
import pytest
from conftest import fails

from lstm_studies.loaders.tables import read_rows, separator_of, to_numbers, to_time, to_times

NAN = np.nan
THOUSANDS = "in numbers such as 1,234 the comma is read as a separator of thousands"


def cells(*rows):
    """A table of text whose first row is line 2 of its file."""
    return pd.DataFrame([list(row) for row in rows], index=range(2, 2 + len(rows)), dtype="str")


@pytest.mark.parametrize(
    ("rows", "expected", "note"),
    [
        ([["1.5", "-2"], ["1e3", "NaN"], ["null", " 4 "]], [[1.5, -2], [1000, NAN], [NAN, 4]], []),
        ([["$1.50", "1,234,567"], ["-", "12"]], [[1.5, 1234567], [NAN, 12]], []),
        ([["10,007.13", "3"]], [[10007.13, 3]], []),
        ([["10.007,13", "1.234"], ["2,5", "N/A"]], [[10007.13, 1234], [2.5, NAN]], []),
        ([["0,5", "-1,25e2"]], [[0.5, -125]], []),
        ([["10 007,5 €", "10'007"]], [[10007.5, 10007]], []),
        ([["3,744", "12"]], [[3744, 12]], [THOUSANDS]),
        ([["0,512", "1"], ["3,744", "0"]], [[0.512, 1], [3.744, 0]], []),  # no number of thousands begins with 0
    ],
)
def test_numbers(rows, expected, note):
    notes = []
    np.testing.assert_array_equal(to_numbers("f", cells(*rows), notes), expected)
    assert notes == note


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["1"], ["one"]], "f, line 3: expected a number, found 'one' in column 1"),
        ([["1.5"], ["2.5"], ["2,5"]], "f, line 4: expected a number, found '2,5'"),
        ([["1,5"], ["2,5"], ["2.5"]], "f, line 4: expected a number, found '2.5'"),
        ([["1,2,3"]], "f, line 2: expected a number, found '1,2,3'"),
        ([["1.2.3,4"]], "f, line 2: expected a number"),
    ],
)
def test_what_is_no_number(rows, expected):
    fails(expected, to_numbers, "f", cells(*rows), [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2014-01-31", (2014, 1, 31)),
        ("2014/1/3", (2014, 1, 3)),
        ("20140131", (2014, 1, 31)),
        ("2014-01-31 09:30:00-05:00", (2014, 1, 31, 9, 30)),
        ("2014-01-31T09:30:05.25Z", (2014, 1, 31, 9, 30, 5, 250_000)),
        ("1/31/2014 3:05 PM", (2014, 1, 31, 15, 5)),
        ("1/31/14", (2014, 1, 31)),
        ("1/31/69 12:00 am EST", (1969, 1, 31)),
        ("Jan 1 2000", (2000, 1, 1)),
        ("January 1, 2000", (2000, 1, 1)),
        ("2-Feb-14", (2014, 2, 2)),
    ],
)
def test_dates(text, expected):
    assert to_time(f" {text} ") == datetime.datetime(*expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2014",
        "2014-02-30",
        "2014131",
        "2014-0131",
        "31/1/2014",
        "1.5",
        "1 Foo 2014",
        "2014-01-01 25:00",
        "١/١/2014",
    ],
)
def test_what_is_no_date(text):
    assert to_time(text) is None


@pytest.mark.parametrize(
    ("column", "expected", "note"),
    [
        (["1/2/2014", "1/31/2014"], ["2014-01-02", "2014-01-31"], []),
        (["1/2/2014", "31/1/2014"], ["2014-02-01", "2014-01-31"], []),
        (["1/2/2014"], ["2014-01-02"], ["dates such as 1/2/2014 are read as month, day and year"]),
        (["1.2.2014"], ["2014-02-01"], ["dates such as 1.2.2014 are read as day, month and year"]),
        (["2014-01-02", "Jan 3 2014", "2014-01-02"], ["2014-01-02", "2014-01-03", "2014-01-02"], []),
    ],
)
def test_day_and_month_are_told_by_the_whole_column(column, expected, note):
    notes = []
    assert to_times("f", pd.Series(column), notes).astype("datetime64[D]").astype(str).tolist() == expected
    assert notes == note


def test_a_column_with_both_orders():
    column = pd.Series(["1/31/2014", "1/30/2014", "31/1/2014"], index=[2, 3, 4])
    fails(["f, line 4: expected a date", "found '31/1/2014'"], to_times, "f", column, [])


@pytest.mark.parametrize(
    ("text", "names", "separator"),
    [
        ("a,b\n1,2\n", (), ","),
        ("a;b\n1,5;2,5\n", (), ";"),
        ("1,5;2,5\n3,5;4,5\n", (), ";"),
        ("a\tb\n1,000\t2\n", (), "\t"),
        ("a|b, c|d\n1|2, 3|4\n", (), "|"),
        ("text;topics, in short\na, b, c;d\n", ("text",), ";"),
        ("a\n1\n", (), ","),
        ('a,b\n"x;y;z",1\n', (), ","),
    ],
)
def test_separators(text, names, separator):
    assert separator_of(text, names) == separator


def test_rows_have_the_numbers_of_their_lines():
    rows = read_rows("f", b'a,b\r\n\r\n1,"x\ny"\r\n,\r\n2,z\r\n', "a table", [])
    assert rows.index.tolist() == [1, 3, 6] and rows.to_numpy().tolist() == [["a", "b"], ["1", "x\ny"], ["2", "z"]]
    fails("f, line 3: expected 2 fields, found 1", read_rows, "f", b"a,b\n1,2\n3\n", "a table", [])
    fails("f: expected a table, found an empty file", read_rows, "f", b" \n", "a table", [])
    fails("f: expected a table, found only separators", read_rows, "f", b",,\n", "a table", [])
