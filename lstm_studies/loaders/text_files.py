"""Texts of a person's own files: columns of a table, or lines."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from lstm_studies.loaders.files import MAX_BYTES, DataError, check_table_size, read_bytes
from lstm_studies.loaders.tables import decode, lines_of, read_rows, say

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
    notes: list[str] = []
    texts = [line.rstrip("\r\n") for line in lines_of(decode(name, data, notes))]
    if not texts:
        raise DataError(f"{name}: expected {expected}, found none")
    check_lengths(name, texts, range(1, len(texts) + 1))
    say(name, notes)
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

    Separators, quotation marks and encodings: those of `tables.read_rows`. Raises DataError.
    """
    columns_named = f"column {columns[0]} (--text_column)"
    if len(columns) > 1:
        columns_named = f"columns {' and '.join(columns)} (--text_column, --label_column)"
    expected = f"a CSV table whose first line names the {columns_named}"
    notes: list[str] = []
    table = read_rows(path, read_bytes(path, expected), expected, notes, columns, encoding)
    header = table.iloc[0].str.strip().tolist()
    rows = table.iloc[1:, [header.index(name) for name in columns]].set_axis(list(columns), axis=1)
    if rows.empty:
        raise DataError(f"{path}: expected {expected}, found no rows")
    for name in columns:
        check_lengths(path, rows[name].tolist(), rows.index)
    say(path, notes)
    return rows
