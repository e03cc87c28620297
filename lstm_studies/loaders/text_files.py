"""Texts of a person's own files: columns of a CSV file, or lines, in the separators and encodings that people have."""

import codecs
import io
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from lstm_studies.loaders.files import MAX_BYTES, SEPARATORS, DataError, check_table_size, read_bytes, reading

ENCODINGS = "UTF-8, UTF-16 with a byte order mark, or Latin-1"
MAX_CHARACTERS = 1_000_000  # of a message: longer ones are no messages, and their tokens fill the memory


def read_texts(path: Path | str, column: str) -> list[str]:
    """A column of a CSV file, or the lines of a .txt file or, for -, of the standard input. Raises DataError."""
    path = Path(path)
    piped = path == Path("-")
    if not piped and not path.name.lower().removesuffix(".gz").endswith(".txt"):
        return read_columns(path, (column,))[column].tolist()
    name, expected = Path("standard input") if piped else path, "text with a message per line"
    data = sys.stdin.buffer.read(MAX_BYTES + 1) if piped else read_bytes(path, expected)
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: expected {expected}, at most {MAX_BYTES} bytes, found more")
    check_table_size(name, data)
    texts = decode(name, data).splitlines()
    if not texts:
        raise DataError(f"{name}: expected {expected}, found none")
    check_lengths(name, texts, range(1, len(texts) + 1))
    return texts


def check_lengths(path: Path, texts: Sequence[str], lines: Iterable[int]) -> None:
    """Raises DataError for the first text with more than MAX_CHARACTERS, with its line."""
    for line, text in zip(lines, texts, strict=True):
        if len(text) > MAX_CHARACTERS:
            raise DataError(
                f"{path}, line {line}: expected a message of at most {MAX_CHARACTERS} characters, found {len(text)}"
            )


def read_columns(path: Path, columns: Sequence[str], encoding: str | None = None) -> pd.DataFrame:
    """The named columns of a CSV file, gzipped or not, as they are written; the index counts the file's lines, from 1.

    Commas, semicolons, tabs or vertical bars separate the columns. encoding: None to recognise one of ENCODINGS.
    Raises DataError.
    """
    plural = "s" if len(columns) > 1 else ""
    expected = f"a CSV table whose first line names the column{plural} {' and '.join(columns)}"
    data = read_bytes(path, expected)
    check_table_size(path, data)
    with reading(path, expected):
        text = data.decode(encoding) if encoding else decode(path, data)
        table = parse(text, separator_of(text, columns))
    header = table.iloc[0].tolist()
    if len(set(columns)) != len(columns) or any(header.count(name) != 1 for name in columns):
        found = ", ".join(header)[:200] or "an empty file"
        raise DataError(f"{path}: expected {expected}, once each, found {found}")
    breaks = table.apply(lambda column: column.str.count(r"\r\n|\r|\n")).sum(axis=1)
    table.index = 1 + table.index + breaks.cumsum().shift(fill_value=0)
    rows = table.iloc[1:][(table.iloc[1:] != "").any(axis=1)]
    if rows.empty:
        raise DataError(f"{path}: expected {expected}, found no rows")
    rows = rows[[header.index(name) for name in columns]].set_axis(list(columns), axis=1)
    for name in columns:
        check_lengths(path, rows[name].tolist(), rows.index)
    return rows


def separator_of(text: str, columns: Sequence[str]) -> str:
    """The separator that makes most of the wanted columns out of the first line; of several the most frequent one."""
    first_line = re.split(r"[\r\n]", text, maxsplit=1)[0]

    def rank(separator: str) -> tuple[int, int]:
        header = [name.strip('"') for name in first_line.split(separator)]
        return sum(name in header for name in columns), len(header)

    return max(SEPARATORS, key=rank)


def parse(text: str, separator: str) -> pd.DataFrame:
    """All cells as they are written, the header and blank lines included. Raises ValueError."""
    try:
        return pd.read_csv(
            io.StringIO(text, newline=""),
            sep=separator,
            header=None,  # read as a row, since pandas renames columns of the same name
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,  # they count as lines
        )
    except pd.errors.ParserError as error:
        said = str(error).removeprefix("Error tokenizing data. C error: ")
        said = said.replace("in line", "in row")  # a quoted line break starts no new one
        hint = "; a text with a separator in it needs quotes" if said.startswith("Expected") else ""
        raise ValueError(said + hint) from error


def decode(path: Path, data: bytes) -> str:
    """UTF-16 if a byte order mark says so, UTF-8 if it is valid, else Latin-1 as Windows writes it, with a notice.

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
    print(f"NOTICE: {path} is not in UTF-8: it is read as Latin-1 (Windows-1252)", file=sys.stderr)
    return text
