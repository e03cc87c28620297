"""Valid files with cells, lines and bytes changed, cut and repeated, and hostile ones: what readers are tested with."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import torch
from hypothesis import strategies as st

from lstm_studies.training.checkpoint import SEAL

CELLS = [  # what may stand where a number, a date or a name is expected
    "",
    " ",
    "0",
    "-1",
    "1",
    "2.5",
    "1e309",
    "1e-400",
    "-0.0",
    "nan",
    "inf",
    "NULL",
    "1_000",
    "0x10",
    "١",
    "9" * 400,
    "\0",
    '"',
    '"a',
    "a,b",
    "2013-02-30",
    "2013-01-05",
    "1/5/2013",
    "0000-00-00",
    "A" * 40,
    "é",
    "@data",
    "?",
    ":",
    "=1+1",
]


@st.composite
def changed_text(draw, text: str, separators: str = ",") -> bytes:
    """Up to three lines changed, and then perhaps bytes."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["cell", "cell", "cell", "drop", "repeat", "swap", "cells"]))
        cells = lines[at].split(separators[0])
        place = draw(st.integers(0, len(cells) - 1))
        if kind == "cell":
            cells[place] = draw(st.sampled_from(CELLS))
        elif kind == "cells":
            cells[place:] = cells[place:][: draw(st.integers(0, 2))] * draw(st.integers(0, 3))
        lines[at] = separators[0].join(cells)
        if kind == "drop":
            del lines[at : at + draw(st.integers(1, 3))]
            lines = lines or [""]
        elif kind == "repeat":
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
        elif kind == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
    data = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])).join(lines).encode()
    return data if draw(st.booleans()) else draw(changed_bytes(data))


@st.composite
def changed_bytes(draw, data: bytes) -> bytes:
    """Up to three pieces flipped, cut, put in or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["flip", "cut", "put", "repeat", "end"]))
        if kind == "flip":
            data = data[:at] + bytes(byte ^ draw(st.integers(0, 255)) for byte in data[at : at + 1]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + length :]
        elif kind == "put":
            data = data[:at] + draw(st.binary(max_size=8)) + data[at:]
        elif kind == "repeat":
            data = data[:at] + data[at : at + length] * 2 + data[at + length :]
        else:
            data = data[:at]
    return data


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # without the time of day
    return buffer.getvalue()


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def saved(content: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def seal(path: Path, data: bytes) -> Path:
    """Writes the data as a checkpoint, with the checksum that belongs to them."""
    return put(path, data + SEAL + hashlib.sha256(data).hexdigest().encode())


class Hostile:
    """Its unpickling makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
