"""Tables in text files: encoding, separator, quotation marks, decimal mark and form of dates, told from the content.

Every reader takes the same functions: `read_rows` reads a table as text, `to_numbers` and `to_times` its columns. What
they are not sure of is appended to `notes`, which `say` prints in one line.
"""

import codecs
import contextlib
import csv
import datetime
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lstm_studies.loaders.files import SEPARATORS, DataError, check_table_size, one_line, reading

ENCODINGS = "UTF-8, UTF-16 with a byte order mark, or Latin-1"
MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "-", ".")
LINE_END = r"\r\n|\r|\n"
BESIDE_NUMBERS = r"[\s$€£¥'’]"  # currencies, and what separates thousands
WITH_POINT = r"[-+]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d+)?"  # 1,234.5
WITH_COMMA = r"[-+]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)?(?:,\d*)?(?:[eE][-+]?\d+)?"  # 1.234,5
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DATES = (
    r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d\d?)(?P=mark)(?P<day>\d\d?)",  # 2014-01-31
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)",  # 20140131
    r"(?P<first>\d\d?)(?P<mark>[-/.])(?P<second>\d\d?)(?P=mark)(?P<year>\d{4}|\d\d)",  # 1/31/2014, 31.1.2014
    r"(?P<name>[A-Za-z]{3,9})\.? (?P<day>\d\d?),? (?P<year>\d{4})",  # Jan 31, 2014
    r"(?P<day>\d\d?)[- ](?P<name>[A-Za-z]{3,9})\.?[- ](?P<year>\d{4}|\d\d)",  # 31-Jan-2014
)
CLOCK = r"(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<seconds>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
ZONE = r"(?: ?(?P<half>[AaPp])[Mm])?(?: ?(?:[A-Z]{1,5}|[+-]\d\d:?\d\d))?"
OFFSET = re.compile(r":[\d.,]+ ?(?P<hours>(?P<sign>[+-])\d\d):?(?P<minutes>\d\d)$", re.ASCII)  # 12:00+01:00
TIMES = [re.compile(rf"{date}(?:(?:T|,? ){CLOCK}{ZONE})?", re.ASCII) for date in DATES]


def say(path: Path | str, notes: Sequence[str]) -> None:
    """Prints what a reader took for what, if there is anything to say, in one line on standard error."""
    if notes:
        print(one_line(f"NOTICE: {path}: {'; '.join(dict.fromkeys(notes))}"), file=sys.stderr)


# ---- cells -----------------------------------------------------------------------------------------------------------


def read_rows(
    path: Path | str,
    data: bytes,
    expected: str,
    notes: list[str],
    names: Sequence[str] = (),
    encoding: str | None = None,
) -> pd.DataFrame:
    """All cells of a table as text, the header among them.

    Args:
        path, data: name and content of the file. The name is for errors only.
        expected: what the file should hold, for errors.
        names: columns that are wanted by name, among others: then cells that a row lacks at its end are empty ones.
        encoding: None to recognise one of ENCODINGS.

    Returns:
        One row per row of the table that is not empty, indexed by the number of its first line; columns 0, 1, ...

    Raises DataError for a file that is empty or no table or lacks `names`, and for rows of different widths.
    """
    check_table_size(path, data)
    with reading(path, expected):
        text = data.decode(encoding) if encoding else decode(path, data, notes)
        if not text.strip():
            raise DataError(f"{path}: expected {expected}, found an empty file")
        separator = separator_of(text, names)
        first = [name.strip() for name in next(filter(None, csv.reader(lines_of(text), delimiter=separator)))]
        if len(set(names)) != len(names) or any(first.count(name) != 1 for name in names):
            raise DataError(f"{path}: expected {expected}, once each, found {', '.join(first)[:200]}")
        rows = parse(path, text, separator, names == (), notes)
    if rows.empty:
        raise DataError(f"{path}: expected {expected}, found only separators")
    return rows


def lines_of(text: str) -> Iterator[str]:
    """The lines with their ends, one at a time: a list of them, or io.StringIO, would take several times the memory."""
    return (match[0] for match in re.finditer(rf"[^\r\n]*(?:{LINE_END})|[^\r\n]+", text))


def decode(path: Path | str, data: bytes, notes: list[str]) -> str:
    """UTF-16 if a byte order mark says so, UTF-8 if it is valid, else Latin-1 as Windows writes it, which is noted.

    Raises DataError, which says how to convert what is none of these.
    """

    def refuse(found: str, way_out: str) -> DataError:
        return DataError(f"{path}: expected text in {ENCODINGS}, found {found}; {way_out}")

    if data.startswith(b"PK\3\4"):
        raise refuse("an Excel file or a ZIP archive", "save the table as CSV")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with reading(path, f"text in {ENCODINGS}"):
            return data.decode("utf-16")
    if b"\0" in data[:100]:
        raise refuse("zero bytes", "if it is UTF-16, convert it: iconv -f UTF-16LE -t UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise refuse("another encoding", "convert it: iconv -f ENCODING -t UTF-8") from error
    notes.append("it is not in UTF-8 and read as Latin-1 (Windows-1252)")
    return text


def separator_of(text: str, names: Sequence[str] = ()) -> str:
    """The separator that makes most of `names` out of the first line; then one that cuts the first lines into equally
    many cells, a comma last, since it may be a decimal mark; then the one that is most frequent in the first line."""
    lines = [line for line in text[: 2**16].splitlines() if line.strip()][:20] or [""]

    def rank(separator: str) -> tuple[int, bool, int]:
        cells = [next(csv.reader([line], delimiter=separator)) for line in lines]
        widths, first = {len(row) for row in cells}, [name.strip() for name in cells[0]]
        even = len(widths) == 1 and widths != {1}
        return sum(name in first for name in names), even, SEPARATORS.index(separator) if even else len(first)

    return max(SEPARATORS, key=rank)


def parse(path: Path | str, text: str, separator: str, even: bool, notes: list[str]) -> pd.DataFrame:
    """The cells of all rows that are not blank, indexed by line. even: rows of different widths are refused.

    A quotation mark that begins a text without enclosing it would swallow the rows up to the next one. Where a cell has
    several lines, quotation marks have to be used as in CSV; else each line is a row, if that gives as many cells in
    each, and they are parts of the texts.
    """
    try:
        rows = pd.read_csv(
            io.BytesIO(text.encode()),
            sep=separator,
            header=None,  # read as a row, since pandas renames columns of the same name
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,  # they count as lines
        )
    except pd.errors.ParserError as error:
        rows = line_by_line(text, separator)
        if rows is None:
            check_widths(path, text, separator, even)
            raise DataError(f"{path}: expected cells separated by {separator!r}, found {error}") from error
        notes.append(f"quotation marks are read as parts of the texts, each of {len(rows)} lines as a row")
        return rows
    rows.index += 1
    breaks = rows.apply(lambda column: column.str.count(LINE_END)).sum(axis=1) if '"' in text else pd.Series(0)
    if breaks.any():
        lines, strict = line_by_line(text, separator), is_strict(text, separator)
        if lines is not None and not strict:
            notes.append(
                f"quotation marks are read as parts of the texts, each of {len(lines)} lines as a row; "
                f"if they enclosed texts, there would be {len(rows)} rows"
            )
            return lines
        rows.index += breaks.cumsum().shift(fill_value=0)
        if lines is not None or not strict:
            line = rows.index[breaks.argmax()]
            notes.append(
                f"texts in quotation marks run over several lines, the longest from {line} to {line + breaks.max()}"
            )
    rows = rows[(rows != "").any(axis=1)]
    if even and text.count(separator) != (rows.shape[1] - 1) * len(rows):  # pandas fills up a row that is too short
        check_widths(path, text, separator, even)
    return rows


def is_strict(text: str, separator: str) -> bool:
    """Whether every cell that begins with a quotation mark ends with one, and has only doubled ones within."""
    try:
        for _ in csv.reader(lines_of(text), delimiter=separator, strict=True):
            pass
    except csv.Error:
        return False
    return True


def line_by_line(text: str, separator: str) -> pd.DataFrame | None:
    """One row per line, quotation marks being parts of the cells that they do not enclose; None if widths differ."""
    rows: dict[int, list[str]] = {}
    width = 0
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
                with contextlib.suppress(csv.Error):
                    row = next(csv.reader([line], delimiter=separator, quoting=quoting, strict=True))
                    if len(row) == (width or len(row)):
                        break
            else:
                return None
            rows[number], width = row, len(row)
    return pd.DataFrame(list(rows.values()), index=list(rows), dtype="str")


def check_widths(path: Path | str, text: str, separator: str, even: bool) -> None:
    """Raises DataError with the line of the first row that is wider than the header or, if `even`, narrower."""
    lines = csv.reader(lines_of(text), delimiter=separator, strict=True)
    width = start = 0
    try:
        for row in lines:
            width, start = width or len(row), lines.line_num
            if len(row) > width or (even and row and len(row) < width):
                hint = "" if even else "; a text with a separator in it needs quotation marks"
                raise DataError(f"{path}, line {start}: expected {width} fields, found {len(row)}{hint}")
    except csv.Error as error:
        raise DataError(
            f"{path}, line {start + 1}: expected quotation marks around whole cells, found {error}"
        ) from error


# ---- numbers and dates -----------------------------------------------------------------------------------------------


def to_numbers(path: Path | str, text: pd.DataFrame, notes: list[str]) -> np.ndarray:
    """Cells to float64, NaN for the words of MISSING. Raises DataError with the line of the first other one.

    The decimal mark is a point or a comma in all cells; the other one, spaces and apostrophes may separate thousands,
    and a currency may stand beside a number.
    """

    def unread(numbers: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(np.isnan(numbers))
        known = [cell.strip().lower() in MISSING for cell in text.to_numpy()[rows, columns]]
        return np.stack([rows, columns], 1)[~np.array(known, bool)]

    numbers = text.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not len(unread(numbers)):
        return numbers
    plain = text.replace(BESIDE_NUMBERS, "", regex=True)
    point, comma = (
        plain.apply(lambda column, form=form: column.str.fullmatch(form, flags=re.ASCII)).to_numpy(bool)
        for form in (WITH_POINT, WITH_COMMA)
    )
    if comma.sum() > point.sum():
        plain = plain.where(comma, "?").replace({r"\.": "", ",": "."}, regex=True)
    else:
        if (point == comma).all():
            notes.append("in numbers such as 1,234 the comma is read as a separator of thousands")
        plain = plain.where(point, "?").replace(",", "", regex=True)
    numbers = plain.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    for row, column in unread(numbers)[:1]:
        name = text.columns[column]
        name = name if isinstance(name, str) else f"column {name + 1}"
        raise DataError(
            f"{path}, line {text.index[row]}: expected a number, found {text.iat[row, column][:40]!r} in {name}"
        )
    return numbers


def are_numbers(text: pd.Series) -> pd.Series:
    """Of each cell whether `to_numbers` reads it as a number."""
    cells = text.str.replace(BESIDE_NUMBERS, "", regex=True)
    forms = cells.str.fullmatch(f"{WITH_POINT}|{WITH_COMMA}", flags=re.ASCII)
    return forms & cells.str.contains(r"\d", flags=re.ASCII)


def counts_rows(text: pd.Series) -> bool:
    """Whether the cells number their rows, from 0 or from 1 on, as an index that was saved beside the columns does."""
    return any(text.tolist() == [str(k) for k in range(start, start + len(text))] for start in (0, 1))


def to_times(path: Path | str, text: pd.Series, notes: list[str], utc: bool = False) -> np.ndarray:
    """Dates, with or without a time of day, to datetime64[us] by the clock of their zone.

    utc: times with different UTC offsets, as before and after a change to summer time, are converted to UTC.

    The year comes first (2014-01-31, 2014/1/31, 20140131), or the month has its name (Jan 31, 2014; 31-Jan-2014), or
    numbers above 12 tell month/day/year from day/month/year; where there are none, / is taken for the former, - and .
    for the latter, which is noted. Raises DataError with the line of the first cell that is no date.
    """
    codes, cells = pd.factorize(text)
    numbers = [match for match in (TIMES[2].fullmatch(cell.strip()) for cell in cells) if match]
    days, months = (sum(int(match[name]) > 12 for match in numbers) for name in ("first", "second"))
    day_first = days > months or (days == months and any(match["mark"] != "/" for match in numbers))
    if numbers and days == months == 0:
        order = "day, month and year" if day_first else "month, day and year"
        notes.append(f"dates such as {numbers[0][0]} are read as {order}")
    times = [to_time(cell, day_first) for cell in cells]
    if None in times:
        row = int((codes == times.index(None)).argmax())
        raise DataError(
            f"{path}, line {text.index[row]}: expected a date such as 2014-01-31 or 1/31/2014, "
            f"found {text.iat[row][:40]!r}"
        )
    offsets = [utc_offset(cell) for cell in cells] if utc else []
    if len(set(offsets)) < 2:
        return np.array(times, "datetime64[us]")[codes]
    notes.append("times with different UTC offsets are converted to UTC")
    return (np.array(times, "datetime64[us]") - np.array(offsets, "timedelta64[us]"))[codes]


def utc_offset(text: str) -> datetime.timedelta:
    """The numeric UTC offset at the end of a time, zero if there is none."""
    match = OFFSET.search(text.strip())
    if not match:
        return datetime.timedelta()
    return datetime.timedelta(hours=int(match["hours"]), minutes=int(match["sign"] + match["minutes"]))


def to_time(text: str, day_first: bool = False) -> datetime.datetime | None:
    """One date in a form of `to_times`, or None."""
    match = next(filter(None, (form.fullmatch(text.strip()) for form in TIMES)), None)
    if not match:
        return None
    given = match.groupdict("0")
    if "name" in given:
        given["month"] = MONTHS.index(given["name"][:3].lower()) + 1 if given["name"][:3].lower() in MONTHS else 0
    elif "first" in given:
        given["day"], given["month"] = (given["first"], given["second"])[:: 1 if day_first else -1]
    year, hour = int(given["year"]), int(given["hour"])
    if len(given["year"]) == 2:
        year += 2000 if year < 69 else 1900
    if given["half"] != "0":
        hour = hour % 12 + 12 * (given["half"] in "Pp")
    rest = [int(given[name]) for name in ("minute", "seconds")]
    try:
        return datetime.datetime(
            year, int(given["month"]), int(given["day"]), hour, *rest, int(f"{given['fraction']:0<6}"[:6])
        )
    except ValueError:
        return None
