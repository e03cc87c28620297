"""Tables and JSON files of a run folder: written atomically, read back as numbers."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lstm_studies.training import checkpoint
from lstm_studies.training.checkpoint import CheckpointError

MAX_JSON = 2**24  # bytes
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_json(path: Path, content: dict) -> None:
    """The content with null in place of numbers that are not finite, which JSON does not have."""
    content = json.loads(json.dumps(content), parse_constant=lambda name: None)
    checkpoint.write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def write_csv(path: Path, rows: list[dict], columns: Sequence[str] = ()) -> None:
    """A table with a header, empty where a row lacks a column. `columns`: names that the header has without rows, too.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    rows = [{as_text(name): as_text(cell) for name, cell in row.items()} for row in rows]
    columns = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_atomically(path, text.getvalue().encode())


def as_text(cell: object) -> object:
    """The cell; text that begins like a formula and is no number stands after an apostrophe.

    So advises OWASP ("CSV injection"): a message or a company's name that begins with = + - @, tab or carriage return
    would be computed by the spreadsheet that opens the file. Line breaks become \\n, which the csv module quotes: it
    leaves \\r as it is, at which a reader begins another row.
    """
    if not isinstance(cell, str):
        return cell
    formula, cell = cell.startswith(FORMULA_STARTS), cell.replace("\r\n", "\n").replace("\r", "\n")
    if not formula:
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises CheckpointError for a file that is no plain one, or holds anything else."""
    try:
        content = json.loads(checkpoint.read_plain_file(path, MAX_JSON))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a JSON object, found {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def read_table(path: Path) -> list[dict[str, float]]:
    """The numeric columns of a `history.csv` or `grid.csv`, row by row; columns of text are left out.

    Raises CheckpointError for a file that is no table.
    """
    try:
        text = checkpoint.read_plain_file(path, MAX_JSON).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))  # not pandas: its import takes 0.3 s
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("rows of different lengths")
    except (ValueError, csv.Error) as error:
        raise CheckpointError(f"{path}: expected a table of numbers, found {error}") from None
    numeric = [name for name in (rows[0] if rows else ()) if all(is_number(row[name]) for row in rows)]
    return [{name: float(row[name] or "nan") for name in numeric} for row in rows]


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, or nothing."""
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def read_curves(folder: Path, key: str) -> dict[str, tuple[np.ndarray, ...]]:
    """Epochs and values of a metric in the `history.csv` of a run, for "training", "validation" and "test" data.

    With several seeds the values are their means, and a third array holds their standard deviations.
    """
    columns = histories(trainings_in(folder))
    parts = {"training": f"train_{key}", "validation": f"val_{key}", "test": f"test_{key}"}
    return {name: curve(columns["epoch"][0], columns[part]) for name, part in parts.items() if part in columns}


def curve(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Epochs (E,), the mean of the values (trainings, E), and their deviation if there are several trainings."""
    return (epochs, values.mean(0), values.std(0, ddof=1)) if len(values) > 1 else (epochs, values[0])


def trainings_in(folder: Path) -> list[Path]:
    """The folders of a run's trainings with several seeds, or the run's own."""
    return sorted(folder.glob("seeds/*")) or [folder]


def histories(folders: list[Path]) -> dict[str, np.ndarray]:
    """The columns (trainings, epochs) of `history.csv` of several trainings of a model.

    With a budget of updates the folds may differ in their number of epochs; those that all have are returned.
    Raises CheckpointError for a file that is no such table.
    """
    rows = [read_table(folder / "history.csv") for folder in folders]
    for folder, training in zip(folders, rows, strict=True):
        if not training or "epoch" not in training[0] or training[0].keys() != rows[0][0].keys():
            raise CheckpointError(f"{folder / 'history.csv'}: expected a row for each epoch, found another table")
    epochs = min(map(len, rows))
    return {name: np.array([[row[name] for row in training[:epochs]] for training in rows]) for name in rows[0][0]}


def table_of(metrics: dict[str, dict]) -> str:
    """The numbers of a run for the terminal: a line for each number and a column for each model."""
    names = dict.fromkeys(
        key
        for values in metrics.values()
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not key.endswith(("_mean", "_std"))
    )
    rows = [["", *metrics], *([key, *(cell(values, key) for values in metrics.values())] for key in names)]
    if len(metrics) > 6:  # rather a line for each model
        rows = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def cell(values: dict, key: str) -> str:
    """A number, or its mean over seeds or folds, with its deviation where there is one."""
    value = values.get(f"{key}_mean", values.get(key))
    if f"{key}_std" in values:
        return f"{value:.5g} ± {values[f'{key}_std']:.2g}"
    return f"{value:.5g}" if isinstance(value, float) else str(value) if isinstance(value, int) else ""
