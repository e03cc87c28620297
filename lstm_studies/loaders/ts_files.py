"""Labelled sequences of different lengths, and files in the .ts format of the UEA time-series archive.

A .ts file has a header of lines `@key value`, then, after a line `@data`, one sequence per line: the values of each
feature separated by commas, the features by colons, the class at the end. Format: the README of the archive,
https://www.timeseriesclassification.com. Sequences may differ in length; missing values and time stamps are refused.

Letters in shapes: N sequences, B batch, T time steps, I features.
"""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstm_studies.loaders.files import DataError, checked_limit, read_bytes, reading

MAX_LINES = 2**22
MAX_STEPS, MAX_FEATURES = 100_000, 10_000  # of one sequence: a file that claims more is damaged
MAX_VALUE = 1e15  # squares and their sums stay finite in float32
MISSING = ("?", "nan")
COMMENTS = ("#", "%")  # begin a line that is one
Batch = tuple[Tensor, Tensor, Tensor]


class Sequences:
    """Labelled sequences, the shortest first. `sequences[indices]` is a batch, padded to its own longest one.

    steps: the steps of all sequences one after another (S, I) float32; starts, lengths and labels (N,) int64, labels
    from 0; order (N,): where each was among the given values. A selection shares the steps.
    """

    def __init__(self, values: Sequence[Tensor], labels: Tensor):
        """values: N tensors (T, I)."""
        lengths = torch.tensor([len(value) for value in values])
        self.order = torch.argsort(lengths, stable=True)
        self.steps = torch.cat([values[i] for i in self.order.tolist()])
        self.lengths, self.labels = lengths[self.order], labels[self.order]
        self.starts = self.lengths.cumsum(0) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def values(self) -> list[Tensor]:
        """Each sequence (T, I)."""
        places = zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        return [self.steps[start : start + length] for start, length in places]

    def __getitem__(self, indices: Tensor) -> Batch:
        """x (B, T, I) with zeros after each end, lengths (B,), labels (B,)."""
        lengths = self.lengths[indices]
        time = torch.arange(int(lengths.max()))
        rows = (self.starts[indices].unsqueeze(1) + time).clamp_max(len(self.steps) - 1)  # (B, T)
        x = self.steps[rows].masked_fill((time >= lengths.unsqueeze(1)).unsqueeze(2), 0.0)
        return x, lengths, self.labels[indices]

    def all(self) -> Batch:
        """Every sequence, as one batch."""
        return self[torch.arange(len(self))]

    def batches_by_length(self, shift: float, size: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """The indices of an epoch's batches: of similar lengths, of other sequences in every epoch, in random order.

        The sequences are sorted by length plus a uniform shift of up to `shift` steps: little is padded, and yet a
        sequence meets others in every epoch, or batch norm would learn which ones share a batch. A last batch of a
        single sequence, of which batch norm has no variance, joins the one before.
        """
        order = torch.randperm(size, generator=generator)
        keys = self.lengths[order] + shift * (2 * torch.rand(size, generator=generator) - 1)
        batches = list(order[keys.argsort()].split(batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:
            batches[-2:] = [torch.cat(batches[-2:])]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def select(self, indices: Tensor) -> "Sequences":
        indices = indices.sort().values  # in the order of length
        part = copy.copy(self)
        for name in ("starts", "lengths", "labels", "order"):
            setattr(part, name, getattr(self, name)[indices])
        return part


class Split(NamedTuple):
    """A data set: its training and test sequences, the names of its classes, and metadata to print and store."""

    train: Sequences
    test: Sequences
    classes: tuple[str, ...]
    metadata: dict


class TimeSeries(NamedTuple):
    """The content of a .ts file; labels (N,) are indices into `classes`, or None for a file without classes."""

    values: list[Tensor]
    labels: Tensor | None
    classes: tuple[str, ...]


def ts_split(train: Path, test: Path, limit: int | None = None) -> Split:
    """A person's own data set, from two .ts files with the same features and classes.

    `limit` keeps that many training sequences, spread over the file. Test sequences that are also in the training file
    are counted, and a notice says so. Raises DataError.
    """
    checked_limit(limit)
    first, second = (read_ts(path) for path in (train, test))
    for path, file in ((train, first), (test, second)):
        if file.labels is None:
            raise DataError(f"{path}: expected sequences with a class, found @classLabel false")
    if len(first.labels.unique()) < 2:
        raise DataError(f"{train}: expected at least two classes to tell apart, found {first.classes[first.labels[0]]}")
    if second.classes != first.classes:
        raise DataError(f"{test}: expected the classes of {train}, {first.classes}, found {second.classes}")
    features, others = (file.values[0].shape[1] for file in (first, second))
    if features != others:
        raise DataError(f"{test}: expected {features} features per step as in {train}, found {others}")
    parts = Sequences(*spread(first.values, first.labels, limit)), Sequences(second.values, second.labels)
    metadata = {"data": "own", "split": f"{train.name}, {test.name}", **sizes(*parts, first.classes)}
    return Split(*parts, first.classes, metadata | leak(test, first.values, second.values))


def leak(path: Path, train: list[Tensor], test: list[Tensor]) -> dict[str, int | str]:
    """How many of the test sequences are also in the training set, with a notice that is printed; empty if none is."""
    known = {value.numpy().tobytes() for value in train}
    count = sum(value.numpy().tobytes() in known for value in test)
    if not count:
        return {}
    notice = f"{count} of the {len(test)} test sequences of {path.name} are also in the training set"
    print(f"NOTICE: {notice}: the test accuracy says little", file=sys.stderr)
    return {"leak": count, "notice": notice}


def spread(values: list[Tensor], labels: Tensor, limit: int | None) -> tuple[list[Tensor], Tensor]:
    """At most `limit` of the sequences, evenly spread over the file, whose order is often that of the classes."""
    if limit is None or limit >= len(values):
        return values, labels
    chosen = torch.arange(limit) * len(values) // limit
    return [values[i] for i in chosen.tolist()], labels[chosen]


def sizes(train: Sequences, test: Sequences, classes: tuple[str, ...]) -> dict[str, int]:
    return {"train": len(train), "test": len(test), "classes": len(classes)}


# ---- the format ------------------------------------------------------------------------------------------------------


def read_ts(path: Path) -> TimeSeries:
    """All sequences of a .ts file, (T, I) float32 each, with the same number of features.

    Raises DataError, one line with the file and the number of the line, for anything else, for time stamps, missing
    values and regression targets.
    """
    with reading(path, "a .ts file"):
        data = read_bytes(path, "a .ts file")
        if data.count(b"\n") > MAX_LINES:
            raise DataError(f"{path}: expected at most {MAX_LINES} lines, found more")
        lines = data.decode("utf-8-sig").splitlines()
        header, start = read_header(path, lines)
        has_classes, classes = class_names(path, header)
        values, labels = [], []
        for number, line in enumerate(lines[start:], start + 1):
            if line.strip() and not line.startswith(COMMENTS):
                check_counts(path, number, line)
                *features, label = line.split(":") if has_classes else [*line.split(":"), ""]
                label = label.strip()
                if has_classes and (not label or (classes and label not in classes)):
                    known = f" out of {', '.join(classes)[:200]}" if classes else ""
                    raise DataError(f"{path}, line {number}: expected a class{known}, found {label[:40]!r}")
                values.append(parse_sequence(path, number, features))
                labels.append(label)
        if not values:
            raise DataError(f"{path}: expected a .ts file, found no sequence after the line @data")
    classes = classes or (tuple(sorted(set(labels), key=numbers_first)) if has_classes else ())
    widths = {value.shape[1] for value in values} | ({int(header["dimensions"])} if "dimensions" in header else set())
    if len(widths) > 1:
        raise DataError(f"{path}: expected the same number of features in every line, found {sorted(widths)}")
    return TimeSeries(values, torch.tensor([classes.index(label) for label in labels]) if classes else None, classes)


def read_header(path: Path, lines: list[str]) -> tuple[dict[str, str], int]:
    """The lines @key value as {key in lower case: value}, and the number of the line after @data."""
    header: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, _, value = line.strip().partition(" ")
        key = key.lower()
        if key == "@data":
            refuse_unsupported(path, header)
            return header, number
        if key.startswith("@"):
            header[key[1:]] = value.strip()
        elif key and not key.startswith(COMMENTS):
            raise DataError(f"{path}, line {number}: expected a header of lines @key value, found {line[:40]!r}")
    raise DataError(f"{path}: expected a .ts file, found no line @data")


def refuse_unsupported(path: Path, header: dict[str, str]) -> None:
    for key, what in (("timestamps", "values without time stamps"), ("targetlabel", "classes, not regression targets")):
        if header.get(key, "").lower().startswith("true"):
            raise DataError(f"{path}: expected {what}, found @{key} true")
    if not header.get("dimensions", "1").isdecimal():
        raise DataError(f"{path}: expected a whole number after @dimensions, found {header['dimensions'][:40]!r}")


def class_names(path: Path, header: dict[str, str]) -> tuple[bool, tuple[str, ...]]:
    """Whether the lines end in a class, and the names after `@classLabel true`, none if there is no such line."""
    line = header.get("classlabel", "true")
    has_classes, *names = line.split() or [""]
    if has_classes.lower() not in ("true", "false") or len(set(names)) < len(names):
        raise DataError(f"{path}: expected @classLabel false, or true and distinct names, found {line[:80]!r}")
    return has_classes.lower() == "true", tuple(names)


def numbers_first(name: str) -> tuple[bool, int, str]:
    """The order of class names that no header gives: numbers by value, then the others by letters."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def check_counts(path: Path, number: int, line: str) -> None:
    """Raises DataError for a line of more features, or values of a feature, than would be taken apart."""
    features, values = line.count(":"), line.count(",")
    if features > MAX_FEATURES or values > MAX_STEPS * (1 + features):
        raise DataError(
            f"{path}, line {number}: expected at most {MAX_FEATURES} features of {MAX_STEPS} values, found about "
            f"{features} and {values} values in all"
        )


def parse_sequence(path: Path, number: int, features: list[str]) -> Tensor:
    """(T, I) float32 of I texts of T values, from line `number` of the file."""
    columns = [feature.split(",") for feature in features]
    if missing := [field.strip() for column in columns for field in column if field.strip().lower() in MISSING]:
        raise DataError(
            f"{path}, line {number}: expected no missing values, found {missing[0]!r}: interpolate them or leave the "
            "sequence out"
        )
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or max(lengths) > MAX_STEPS:
        raise DataError(
            f"{path}, line {number}: expected 1 to {MAX_STEPS} values of every feature, found {sorted(lengths)}"
        )
    return checked_values(path, number, list(zip(*columns, strict=True)))


def checked_values(path: Path, number: int, rows: list) -> Tensor:
    """(T, I) float32 of T rows of I texts; raises DataError with the line for texts that are no moderate numbers."""
    try:
        values = np.array(rows, dtype=np.float64)
        if values.ndim != 2:
            raise ValueError(f"{values.ndim} dimensions")
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}, line {number}: expected numbers, found {error}") from None
    good = np.abs(values) < MAX_VALUE
    if not good.all():
        step, feature = np.argwhere(~good)[0]
        raise DataError(
            f"{path}, line {number}: expected values below {MAX_VALUE:g}, found {values[step, feature]:g} "
            f"in step {step + 1} of feature {feature + 1}"
        )
    return torch.from_numpy(values.astype(np.float32))


# ---- splits and folds ------------------------------------------------------------------------------------------------


def fresh_split(data: Split, which: int, splits: int) -> tuple[Split, Tensor]:
    """The same sequences in parts of the same sizes, class by class: those of a class, training before test and in the
    order of the files, have their test part at a share `which` / `splits` of the way from the front to the end, where
    it is in `data`. And the numbers (M,) of the test sequences among all, the same in every split.
    """
    values, labels = [], []
    for part in (data.train, data.test):
        in_order, own = part.order.argsort(), part.values
        values += [own[i] for i in in_order.tolist()]
        labels.append(part.labels[in_order])
    labels, is_test = torch.cat(labels), torch.zeros(len(values), dtype=torch.bool)
    for label, size in enumerate(data.test.labels.bincount(minlength=len(data.classes)).tolist()):
        members = (labels == label).nonzero().flatten()
        start = round((len(members) - size) * which / splits)
        is_test[members[start : start + size]] = True
    train, test = (
        Sequences([values[i] for i in chosen.tolist()], labels[chosen])
        for chosen in ((~is_test).nonzero().flatten(), is_test.nonzero().flatten())
    )
    return data._replace(train=train, test=test), is_test.nonzero().flatten()[test.order]


def stratified_folds(labels: Tensor, count: int, seed: int) -> Tensor:
    """The fold 0..count-1 of each of the labels (N,): every class spread over the folds as evenly as can be."""
    generator = torch.Generator().manual_seed(seed)
    folds = torch.empty_like(labels)
    for label in labels.unique().tolist():
        members = torch.nonzero(labels == label).flatten()
        folds[members[torch.randperm(len(members), generator=generator)]] = torch.arange(len(members)) % count
    return folds
