"""Japanese Vowels (Kudo, Toyama and Shimbo, UCI data set 128): who of nine men said /ae/.

Each utterance is a sequence of 7 to 29 steps of 12 LPC cepstrum coefficients. The UCI split, 270 to train (30 of each
speaker) and 370 to test, is bundled in full; files under `data_dir/japanese_vowels` are read instead if there are any:
`JapaneseVowels_TRAIN.ts` and `JapaneseVowels_TEST.ts`, or the UCI archive `japanese+vowels.zip`, or its members.
"""

import hashlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from loaders.files import (
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

FOLDER = "japanese_vowels"
FEATURES, SPEAKERS = 12, 9
COUNTS = {"train": [30] * SPEAKERS, "test": [31, 35, 88, 44, 29, 24, 40, 50, 29]}  # utterances of each speaker
COURSE_COUNTS = {"train": 270, "test": 351}
COURSE_SHA256 = "7dc4d1f983fb9fa774fbafc704989294ad8bc5d6655633d86febc258902dd753"
MAX_STEPS, MAX_VALUE = 1000, 1e6  # of one utterance: what claims more is none


class Utterances:
    """Sequences of different lengths, the shortest first. `part[indices]` is a batch, padded to its own longest one.

    values: N tensors (T, 12) float32; lengths (N,) and labels (N,), 0..8, int64.
    """

    def __init__(self, values: list[Tensor], labels: Tensor):
        order = sorted(range(len(values)), key=lambda i: len(values[i]))
        self.values = [values[i] for i in order]
        self.labels = labels[order]
        self.lengths = torch.tensor([len(value) for value in self.values])

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, 12) with zeros after each end, lengths (B,), labels (B,)."""
        x = pad_sequence([self.values[i] for i in indices.tolist()], batch_first=True)
        return x, self.lengths[indices], self.labels[indices]

    def select(self, indices: Tensor) -> "Utterances":
        return Utterances([self.values[i] for i in indices.tolist()], self.labels[indices])


class JapaneseVowels(NamedTuple):
    train: Utterances
    test: Utterances
    facts: dict


def japanese_vowels(
    data_dir: Path, source: str = "auto", limit: int | None = None, course_file: bool = False
) -> JapaneseVowels:
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
        parts, facts = read_course_file(folder / "JV_data.mat")
    else:
        names = {part: part_names(part) for part in COUNTS}
        if source == "sample" or not any(first_present(folder, found) for found in names.values()):
            folder = SAMPLES / FOLDER
        parts = {part: read_part(folder, part, found) for part, found in names.items()}
        facts = {"split": "UCI"}
    (values, labels), test = parts["train"], Utterances(*parts["test"])
    if limit is not None and limit < len(values):
        chosen = torch.arange(limit) * len(values) // limit
        values, labels = [values[i] for i in chosen.tolist()], labels[chosen]
    facts = {"data": "full", **facts, "train": len(values), "test": len(test), "classes": SPEAKERS}
    return JapaneseVowels(Utterances(values, labels), test, facts)


def part_names(part: str) -> list[str]:
    return [f"JapaneseVowels_{part.upper()}.ts", f"ae.{part}", "japanese+vowels.zip"]


def read_part(folder: Path, part: str, names: list[str]) -> tuple[list[Tensor], Tensor]:
    """Utterances (T, 12) and labels (N,) of "train" or "test", with the counts of the UCI split."""
    path = first_present(folder, names)
    if path is None:
        raise DataError(f"{folder}: expected {' or '.join(names)} beside the other part, found none of them")
    if path.suffix == ".ts":
        values, labels = read_ts(path)
    else:
        member = f"ae.{part}"
        data = read_member(path, [member]) if path.suffix == ".zip" else read_bytes(path, "blocks of 12 numbers a line")
        values = read_blocks(path, data)
        # the blocks carry no label: they stand in the order of the speakers
        labels = [speaker for speaker, count in enumerate(COUNTS[part]) for _ in range(count)]
        if len(values) != len(labels):
            raise DataError(f"{path}: expected {len(labels)} blocks in {member}, found {len(values)}")
    counts = np.bincount(labels, minlength=SPEAKERS).tolist()
    if counts != COUNTS[part]:
        raise DataError(f"{path}: expected utterances per speaker {COUNTS[part]}, found {counts}")
    return values, torch.tensor(labels)


# ---- formats ---------------------------------------------------------------------------------------------------------


def read_ts(path: Path) -> tuple[list[Tensor], list[int]]:
    """Utterances (T, 12) and labels 0..8 of a .ts file: after @data a line each, dimensions, colons, label."""
    values, labels, begun = [], [], False
    with reading(path, "a .ts file"):
        for number, line in enumerate(read_bytes(path, "a .ts file").decode().splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            if not begun:
                begun = line.lower() == "@data"
                continue
            *dimensions, label = line.split(":")
            if label.strip() not in map(str, range(1, SPEAKERS + 1)):
                raise DataError(f"{path}, line {number}: expected a speaker from 1 to {SPEAKERS}, found {label[:40]!r}")
            columns = [column.split(",") for column in dimensions]
            values.append(utterance(path, number, list(zip(*columns, strict=True))))
            labels.append(int(label) - 1)
    if not values:
        raise DataError(f"{path}: expected a .ts file, found no utterances after a line @data")
    return values, labels


def read_blocks(path: Path, data: bytes) -> list[Tensor]:
    """Utterances (T, 12) of the UCI text: a step per line; a blank line or a row of ones ends an utterance."""
    values, rows, number = [], [], 0
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
    """(T, 12) float32 of T rows of 12 texts; `line` is named in the DataError of anything else."""
    sizes = {len(row) for row in rows}
    if sizes != {FEATURES} or len(rows) > MAX_STEPS:
        raise DataError(
            f"{path}, line {line}: expected 1 to {MAX_STEPS} steps of {FEATURES} values, "
            f"found {len(rows)} steps of {sorted(sizes)}"
        )
    values = np.array([[float(field) for field in row] for row in rows])
    good = np.abs(values) < MAX_VALUE
    if not good.all():
        raise DataError(f"{path}, line {line}: expected values below {MAX_VALUE:g}, found {values[~good][0]:g}")
    return torch.from_numpy(values.astype(np.float32))


def read_course_file(path: Path) -> tuple[dict, dict]:
    """Both parts and the facts of `JV_data.mat`: cells of zero-padded sequences, labels from 0. Counts the leak.

    No other file is read: some damaged bytes end scipy's reader together with the process.
    """
    from scipy.io import matlab  # a fifth of a second: only who asks for the file pays

    data = read_bytes(path, "a MATLAB file")
    digest = hashlib.sha256(data).hexdigest()
    if digest != COURSE_SHA256:
        raise DataError(f"{path}: expected the course file, sha256 {COURSE_SHA256}, found {digest}")
    names = [f"{part}_{kind}" for part in COURSE_COUNTS for kind in ("data", "label")]
    try:
        content = matlab.loadmat(io.BytesIO(data), variable_names=names)
    except Exception as error:  # whatever damage leads scipy to
        raise DataError(f"{path}: expected a MATLAB file, found {reason(error)}") from error
    parts = {}
    for part, count in COURSE_COUNTS.items():
        with reading(path, f"{count} sequences and labels of {part}"):
            cells, labels = content[f"{part}_data"].ravel(), content[f"{part}_label"].ravel().astype(np.int64)
            if len(cells) != count or len(labels) != count or not set(labels.tolist()) <= set(range(SPEAKERS)):
                raise DataError(
                    f"{path}: expected {count} sequences and labels 0 to {SPEAKERS - 1} of {part}, "
                    f"found {len(cells)} and {len(labels)}"
                )
            values = [utterance(path, i + 1, without_padding(cell)) for i, cell in enumerate(cells)]
        parts[part] = values, torch.from_numpy(labels)
    seen = {value.numpy().tobytes() for value in parts["train"][0]}
    leak = sum(value.numpy().tobytes() in seen for value in parts["test"][0])
    notice = f"{leak} of the {COURSE_COUNTS['test']} test utterances of {path.name} are also in its training set"
    print(f"NOTICE: {notice}: its accuracy says little", file=sys.stderr)
    return parts, {"split": "course file", "leak": leak, "notice": notice}


def without_padding(cell: np.ndarray) -> np.ndarray:
    """The rows up to the last one that is not zero."""
    return cell[: np.flatnonzero(cell.any(axis=1)).max() + 1]
