"""Japanese Vowels (Kudo, Toyama and Shimbo, UCI data set 128): who of nine men said /ae/.

Each utterance is a sequence of 7 to 29 steps of 12 LPC cepstrum coefficients. The UCI split, 270 to train (30 of each
speaker) and 370 to test, is bundled in full; files under `data_dir/japanese_vowels` are read instead if there are any:
`JapaneseVowels_TRAIN.ts` and `JapaneseVowels_TEST.ts`, or the UCI archive `japanese+vowels.zip`, or its members.
"""

import functools
import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lstm_studies.loaders.files import (
    SAMPLES,
    SOURCES,
    DataError,
    checked_folder,
    checked_limit,
    first_present,
    read_bytes,
    read_member,
    reading,
    reason,
)
from lstm_studies.loaders.ts_files import Sequences, Split, checked_values, leak, read_ts, sizes, spread, ts_split

FOLDER = "japanese_vowels"
FEATURES, SPEAKERS = 12, 9
CLASSES = tuple(str(speaker) for speaker in range(1, SPEAKERS + 1))
COUNTS = {"train": [30] * SPEAKERS, "test": [31, 35, 88, 44, 29, 24, 40, 50, 29]}  # utterances of each speaker
COURSE_COUNTS = {"train": 270, "test": 351}
COURSE_SHA256 = "7dc4d1f983fb9fa774fbafc704989294ad8bc5d6655633d86febc258902dd753"
MAX_STEPS = 1000  # of one utterance: a file that claims more is damaged
Part = tuple[list[Tensor], Tensor]  # utterances (T, 12) and labels (N,)


@functools.lru_cache(maxsize=1)
def read_split(
    data_dir: Path, source: str, limit: int | None, course_file: bool, train: Path | None, test: Path | None
) -> Split:
    """`ts_split` if `train` and `test` are given, else `japanese_vowels`; the last one is kept for the next call."""
    return ts_split(train, test, limit) if train and test else japanese_vowels(data_dir, source, limit, course_file)


def japanese_vowels(data_dir: Path, source: str = "auto", limit: int | None = None, course_file: bool = False) -> Split:
    """The UCI split, or with `course_file` that of `JV_data.mat`, which leaks, as a notice then says.

    The bundled copy is the whole data set, so that there is nothing to download: `source` "auto" and "full" read files
    under data_dir if there are any, else the bundled ones, which "sample" always reads. `limit` keeps that many
    training utterances, spread over the speakers. Raises DataError for damaged files and for any other counts.
    """
    if source not in SOURCES:
        raise DataError(f"source: expected one of {', '.join(SOURCES)}, found {source!r}")
    checked_limit(limit)
    folder = checked_folder(Path(data_dir) / FOLDER, required=False)
    if course_file:
        parts, metadata = read_course_file(folder / "JV_data.mat")
    else:
        parts, metadata = read_uci_split(folder, source), {"split": "UCI"}
    train, test = Sequences(*spread(*parts["train"], limit)), Sequences(*parts["test"])
    return Split(train, test, CLASSES, {"data": "full", **metadata, **sizes(train, test, CLASSES)})


def read_uci_split(folder: Path, source: str) -> dict[str, Part]:
    names = {part: [f"JapaneseVowels_{part.upper()}.ts", f"ae.{part}", "japanese+vowels.zip"] for part in COUNTS}
    if source == "sample" or not any(first_present(folder, files) for files in names.values()):
        folder = SAMPLES / FOLDER
    return {part: read_part(folder, part, files) for part, files in names.items()}


def read_part(folder: Path, part: str, names: list[str]) -> Part:
    """Utterances (T, 12) and labels (N,) of "train" or "test", with the counts of the UCI split."""
    path = first_present(folder, names)
    if path is None:
        raise DataError(f"{folder}: expected {' or '.join(names)} beside the other part, found none of them")
    values, labels = read_speakers(path) if path.suffix == ".ts" else read_uci_text(path, part)
    counts = labels.bincount(minlength=SPEAKERS).tolist()
    if counts != COUNTS[part]:
        raise DataError(f"{path}: expected utterances per speaker {COUNTS[part]}, found {counts}")
    return values, labels


def read_speakers(path: Path) -> Part:
    """Utterances and labels of a .ts file, whose classes must be the speakers and whose features the coefficients."""
    values, labels, classes = read_ts(path)
    if classes != CLASSES or values[0].shape[1] != FEATURES:
        raise DataError(
            f"{path}: expected {FEATURES} features and the classes {' '.join(CLASSES)}, "
            f"found {values[0].shape[1]} and {' '.join(classes)[:80] or 'none'}"
        )
    return values, labels


def read_uci_text(path: Path, part: str) -> Part:
    """Utterances and labels of the UCI text, which has none: the utterances are in the order of the speakers."""
    member = f"ae.{part}"
    data = read_member(path, [member]) if path.suffix == ".zip" else read_bytes(path, "blocks of 12 numbers a line")
    values, labels = read_blocks(path, data), torch.arange(SPEAKERS).repeat_interleave(torch.tensor(COUNTS[part]))
    if len(values) != len(labels):
        raise DataError(f"{path}: expected {len(labels)} blocks in {member}, found {len(values)}")
    return values, labels


def read_blocks(path: Path, data: bytes) -> list[Tensor]:
    """Utterances (T, 12) of the UCI text: a step per line; a blank line or a row of ones ends an utterance."""
    values, rows = [], []
    with reading(path, "blocks of 12 numbers a line"):
        for number, line in enumerate([*data.decode().splitlines(), ""], 1):
            fields = line.split()
            if fields and not all(field in ("1", "1.0") or float(field) == 1 for field in fields):
                rows.append(fields)
            elif rows:
                values.append(utterance(path, number - 1, rows))
                rows = []
    return values


def utterance(path: Path, line: int, rows: list) -> Tensor:
    """(T, 12) float32 of T rows of 12 texts or numbers; a DataError for anything else names the `line`."""
    widths = {len(row) for row in rows}
    if widths != {FEATURES} or len(rows) > MAX_STEPS:
        raise DataError(
            f"{path}, line {line}: expected 1 to {MAX_STEPS} steps of {FEATURES} values, "
            f"found {len(rows)} steps of {sorted(widths)}"
        )
    return checked_values(path, line, rows)


# ---- the course file -------------------------------------------------------------------------------------------------


def read_course_file(path: Path) -> tuple[dict[str, Part], dict]:
    """Both parts and the metadata of `JV_data.mat`: cells of zero-padded sequences, labels from 0. Counts the leak.

    No other file is read: some damaged bytes end scipy's reader together with the process.
    """
    from scipy.io import matlab  # takes a fifth of a second, which only this file needs

    data = read_bytes(path, "a MATLAB file")
    digest = hashlib.sha256(data).hexdigest()
    if digest != COURSE_SHA256:
        raise DataError(f"{path}: expected the course file, sha256 {COURSE_SHA256}, found {digest}")
    names = [f"{part}_{kind}" for part in COURSE_COUNTS for kind in ("data", "label")]
    try:
        content = matlab.loadmat(io.BytesIO(data), variable_names=names)
    except Exception as error:  # whatever damage leads scipy to
        raise DataError(f"{path}: expected a MATLAB file, found {reason(error)}") from error
    parts = {part: course_part(path, content, part, count) for part, count in COURSE_COUNTS.items()}
    return parts, {"split": "course file", **leak(path, parts["train"][0], parts["test"][0])}


def course_part(path: Path, content: dict, part: str, count: int) -> Part:
    with reading(path, f"{count} sequences and labels of {part}"):
        cells, labels = content[f"{part}_data"].ravel(), content[f"{part}_label"].ravel().astype(np.int64)
        if len(cells) != count or len(labels) != count or not set(labels.tolist()) <= set(range(SPEAKERS)):
            raise DataError(
                f"{path}: expected {count} sequences and labels 0 to {SPEAKERS - 1} of {part}, "
                f"found {len(cells)} and {len(labels)}"
            )
        return [utterance(path, i + 1, without_padding(cell)) for i, cell in enumerate(cells)], torch.from_numpy(labels)


def without_padding(cell: np.ndarray) -> np.ndarray:
    """The rows up to the last one that is not zero."""
    return cell[: np.flatnonzero(cell.any(axis=1)).max() + 1]
