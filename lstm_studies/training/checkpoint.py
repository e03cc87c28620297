"""Checkpoint files: written atomically, verified before they are read, and sufficient to rebuild their model.

A file is what `torch.save` writes, followed by a line with the SHA-256 of it. It holds plain types and tensors only and
is read with `weights_only=True`, so that a foreign file cannot run code.
"""

import contextlib
import hashlib
import io
import math
import os
import pickle
import shutil
import stat
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lstm_studies.loaders.files import DataError
from lstm_studies.training.formats import FORMAT, VERSION, written_later

SEAL = b"\nsha256 "  # followed by 64 hexadecimal digits, the end of the file
MAX_BYTES = 2**32  # of a file
MAX_COUNT = 10_000  # layers and such in a model's arguments, whatever the number of its weights
NUMBERS_OF_STEPS = ("timescale", "checkpoint_steps", "window")  # arguments that make no model larger
PLAIN = (type(None), bool, int, float, complex, str, bytes, Tensor, nn.Parameter, OrderedDict)  # what is read back
# Exceptions raised by forged content, or by a model class that has changed since.
MALFORMED = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ArithmeticError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    MemoryError,
)


class CheckpointError(DataError):
    """A checkpoint is missing, damaged, or not what the caller needs. The message is one line of printable text."""

    def __init__(self, message: str):
        one_line = " ".join(message.splitlines())
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in one_line))


def write_atomically(path: Path, content: bytes, keep_previous: bool = False) -> None:
    """Replaces `path` by `content` in one step: readers see either the old file or the new one, even after a crash.

    With `keep_previous` the old file stays as `previous(path)`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep_previous and path.exists():
            keep(path)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is reported without one
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the renames themselves reach the disk with their folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def keep(path: Path) -> None:
    """Gives the file a second name, so that `path` exists at every moment."""
    second = path.with_name(f".{path.name}.{os.getpid()}.link")
    try:
        second.unlink(missing_ok=True)
        try:
            os.link(path, second)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, second)
        os.replace(second, previous(path))
    finally:
        second.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Deletes temporary files that a killed process left in the folder, which no other process may be writing to."""
    for ending in ("tmp", "link"):
        for path in folder.rglob(f".*.{ending}"):
            path.unlink(missing_ok=True)  # of a worker that is just ending


def save(path: Path, content: dict, keep_previous: bool = False) -> None:
    """Writes a checkpoint of plain types and tensors, NumPy's numbers and arrays as Python's.

    Raises TypeError for anything else, which could not be read back.
    """
    buffer = io.BytesIO()
    torch.save({**as_plain(content), "format": FORMAT, "version": VERSION}, buffer)
    data = buffer.getvalue()
    write_atomically(path, data + SEAL + hashlib.sha256(data).hexdigest().encode(), keep_previous)


def as_plain(value: Any, tensors: bool = True) -> Any:
    """A value as `load` reads it; without `tensors`, these as numbers and lists, too."""
    if isinstance(value, np.generic | np.ndarray) or (isinstance(value, Tensor) and not tensors):
        return as_plain(value.tolist(), tensors)
    if type(value) in (list, tuple, set):
        return type(value)(as_plain(part, tensors) for part in value)
    if type(value) is dict:
        return {as_plain(name, tensors): as_plain(part, tensors) for name, part in value.items()}
    if type(value) not in PLAIN:
        raise TypeError(f"expected plain types and tensors in a checkpoint, found {str(value)[:80]} ({type(value)})")
    return value


def load(path: Path) -> dict:
    """Reads a checkpoint to the CPU.

    Raises CheckpointError if the file is missing, damaged or not a checkpoint of this collection.
    """
    sealed = read_plain_file(path)
    if sealed[-len(SEAL) - 64 : -64] != SEAL:
        raise CheckpointError(f"{path}: not a checkpoint of this collection, or cut short ({len(sealed)} bytes)")
    data, digest = sealed[: -len(SEAL) - 64], sealed[-64:]
    if hashlib.sha256(data).hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: damaged: its content does not match its checksum")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > len(data):
                raise ValueError("its parts are larger than the file")  # torch.save compresses nothing: a bomb
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MALFORMED as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: holds more than plain types and tensors: {reason}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary, found a {type(content).__name__}")
    if later := written_later(content):
        raise CheckpointError(f"{path}: {later}")
    return {name: value for name, value in content.items() if name not in ("format", "version")}


def read_plain_file(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a file, which is no pipe, device or folder, and of at most `most` bytes."""
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size <= most:
            return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read it: {error.strerror}") from None
    others = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
    found = f"one of {status.st_size}" if stat.S_ISREG(status.st_mode) else others
    raise CheckpointError(f"{path}: expected a file of at most {most} bytes, found {found}")


def load_latest(path: Path) -> dict | None:
    """The checkpoint at `path`, else, with a warning, the one before it. None if neither file exists.

    Raises CheckpointError if neither can be read, which says what a whole best.pt beside them is good for.
    """
    problems = []
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        try:
            content = load(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"{problems[0]}; going on from {candidate.name}", stacklevel=2)
        return content
    if problems:
        with contextlib.suppress(CheckpointError):
            load(path.with_name("best.pt"))
            problems.append("its best.pt is whole: what applies a model takes it, and without --resume one trains anew")
        raise CheckpointError("; ".join(problems))
    return None


def describe(model: nn.Module) -> dict:
    """The contents that `rebuild` needs: class name, constructor arguments (`model.arguments`) and weights.

    Of a compiled model, or one in a wrapper such as DistributedDataParallel, those of the model itself.
    """
    while (inner := getattr(model, "_orig_mod", None)) is not None or not hasattr(model, "arguments"):
        inner = getattr(model, "module", None) if inner is None else inner
        if not isinstance(inner, nn.Module):
            raise TypeError(f"expected a model with its constructor's `arguments`, found a {type(model).__name__}")
        model = inner
    arguments = as_plain(dict(model.arguments), tensors=False)
    return {"name": type(model).__name__, "arguments": arguments, "weights": model.state_dict()}


def rebuild(path: Path, *classes: type[nn.Module]) -> nn.Module:
    """The model saved at `path`, which must be of one of `classes`, in its types, in evaluation mode on the CPU."""
    return rebuilt(load(path).get("model"), path, *classes)


def rebuilt(described: dict | None, path: Path, *classes: type[nn.Module]) -> nn.Module:
    """The model that `describe` described, as read from `path`. Raises CheckpointError for anything else."""
    known = {cls.__name__: cls for cls in classes}
    name = described.get("name") if isinstance(described, dict) else None
    if not isinstance(name, str) or name not in known:
        raise CheckpointError(f"{path}: expected a model of {' or '.join(known)}, found {str(name)[:80]}")
    try:
        model_class, arguments, weights = known[name], described["arguments"], described["weights"]
        check_types(model_class, arguments)
        check_sizes(model_class, arguments, weights)
        model = model_class(**arguments)
        model.load_state_dict(weights, assign=True)  # in the types of the weights
    except MALFORMED as error:
        problem = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: does not fit the class {name}: {problem}") from None
    return model.eval()


def check_types(model_class: type[nn.Module], arguments: Mapping) -> None:
    """Raises TypeError unless the arguments are of the types with which the class declares them."""
    declared = get_type_hints(model_class.__init__)
    for name, value in arguments.items():
        if name in declared and not is_of_type(value, declared[name]):
            raise TypeError(f"expected another {name}, found {str(value)[:80]}")


def is_of_type(value: Any, declared: Any) -> bool:
    """Whether a plain value is of an annotated type: a class, a union of types, or a list or tuple of one."""
    parts = get_args(declared)
    if isinstance(declared, UnionType):
        return any(is_of_type(value, part) for part in parts)
    if parts:
        return isinstance(value, list | tuple) and all(is_of_type(one, parts[0]) for one in value)
    if declared in (int, float):
        return isinstance(value, int | declared) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, declared)


class WithoutDraws(TorchFunctionMode):
    """Skips initial values of tensors on the meta device for which PyTorch imports its compiler, for a second."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in ("normal_", "log_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def check_sizes(model_class: type[nn.Module], arguments: Mapping, weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless the model of these arguments has the weights' sizes; it is not made in memory for that.

    Also for weights that are not finite.
    """
    most = max(MAX_COUNT, sum(weight.numel() for weight in weights.values()))
    for name, value in arguments.items():
        if isinstance(value, int) and value > most and name not in NUMBERS_OF_STEPS:
            raise ValueError(f"expected {name} of at most {most}, found {value}")
    with torch.device("meta"), WithoutDraws(), warnings.catch_warnings(action="ignore"):  # PyTorch's, of sizes of 0
        model_class(**arguments).load_state_dict({name: weight.to("meta") for name, weight in weights.items()})
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ValueError(f"expected finite weights, found others in {name}")
