"""Tables and JSON files of a run folder: written atomically, read back as numbers."""

import csv
import io
import json
from pathlib import Path

from training import checkpoint


def write_json(path: Path, content: dict) -> None:
    checkpoint.write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def write_csv(path: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_atomically(path, text.getvalue().encode())


def read_table(path: Path) -> list[dict[str, float]]:
    """The numeric columns of a `history.csv` or `grid.csv`, row by row; columns of text are left out."""
    with path.open(newline="") as file:  # not pandas, whose import takes 0.3 s
        rows = list(csv.DictReader(file))
    numeric = [name for name in (rows[0] if rows else ()) if all(is_number(row[name]) for row in rows)]
    return [{name: float(row[name] or "nan") for name in numeric} for row in rows]


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, or nothing."""
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def read_curves(folder: Path, key: str) -> dict[str, tuple[list[float], list[float]]]:
    """Epochs and values of a metric in the `history.csv` of `folder`: {"training": (x, y), "validation": (x, y)}."""
    history = read_table(folder / "history.csv")
    epochs = [row["epoch"] for row in history]
    parts = {"training": "train", "validation": "val"}
    return {label: (epochs, [row[f"{part}_{key}"] for row in history]) for label, part in parts.items()}
