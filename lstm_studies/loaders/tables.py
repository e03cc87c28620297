"""CSV files as tables of text, read with pandas; what is wrong with a cell is said with its line."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lstm_studies.loaders.files import DataError, check_table_size, reading

MISSING = ("", "na", "n/a", "nan", "null", "none")


def read_rows(path: Path, data: bytes, expected: str) -> pd.DataFrame:
    """All cells of a CSV file as text, the header among them.

    Args:
        path, data: name and content of the file. The name is for errors only.
        expected: what the file should hold, for errors.

    Returns:
        One row per line that is not empty, indexed by the line's number from 1; columns 0, 1, ...

    Raises DataError for a file that is empty or no CSV, and for rows of different widths.
    """
    if not data.strip():
        raise DataError(f"{path}: expected {expected}, found an empty file")
    check_table_size(path, data)
    with reading(path, expected):
        try:
            rows = pd.read_csv(io.BytesIO(data), header=None, dtype=str, keep_default_na=False, skip_blank_lines=False)
        except pd.errors.ParserError:
            _check_widths(path, data)  # its message has the line
            raise
        rows.index += 1
        rows = rows[(rows != "").any(axis=1)]
        if data.count(b",") != (rows.shape[1] - 1) * len(rows):  # pandas fills up a row that is too short
            _check_widths(path, data)
    return rows


def _check_widths(path: Path, data: bytes) -> None:
    lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    width = len(next(lines))
    for row in lines:
        if row and len(row) != width:
            raise DataError(f"{path}, line {lines.line_num}: expected {width} fields, found {len(row)}")


def to_numbers(path: Path, text: pd.DataFrame) -> np.ndarray:
    """Cells to float64, NaN for the words of MISSING. Raises DataError with the line of the first other one."""
    numbers = text.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    for row, column in np.argwhere(np.isnan(numbers)):
        cell = text.iat[row, column]
        if cell.strip().lower() not in MISSING:
            place = f"{path}, line {text.index[row]}"
            raise DataError(f"{place}: expected a number, found {cell[:40]!r} in column {text.columns[column] + 1}")
    return numbers


def check_cells(path: Path, text: pd.Series, valid: Callable[[str], bool], expected: str) -> None:
    """Raises DataError with the line of the first cell that is not `valid`; equal cells are looked at once."""
    for line, cell in text.drop_duplicates().items():
        if not valid(cell):
            raise DataError(f"{path}, line {line}: expected {expected}, found {cell[:40]!r}")
