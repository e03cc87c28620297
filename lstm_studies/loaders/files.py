"""Reading data files within bounds, atomic downloads, and the rule behind `--source`.

    source="auto"    files under data_dir; else a download into it; else the bundled sample, with a notice
    source="full"    files under data_dir; else a download into it; else DataError
    source="sample"  the bundled sample only; neither data_dir nor the network is touched

A file which is present but damaged is always a DataError: it is never replaced silently.
"""

import contextlib
import csv
import gzip
import hashlib
import http.client
import os
import re
import stat
import struct
import sys
import tokenize
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

MAX_CELLS = 2**26  # 512 MiB of float64: the largest table or toy set that is built
MAX_TEXT_CELLS, MAX_COLUMNS, MAX_LINE = 2**24, 2**14, 2**24  # of a CSV file: text takes ten times the memory
SEPARATORS = ",;\t|"  # of the cells of a CSV file
SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
SOURCES = ("auto", "full", "sample")
MAX_BYTES = 2**28  # no file here unpacks to more than 48 MB; what claims more is refused

# What reading a damaged file can raise, beside DataError: codecs, archives and csv each have their own.
MALFORMED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    RuntimeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    csv.Error,
    struct.error,
    tokenize.TokenError,  # of the header of an array of NumPy
    zlib.error,
    zipfile.BadZipFile,
)


def one_line(message: object) -> str:
    """A message in one line of printable characters: names of files and quoted content may hold any."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(message).split()))


class DataError(ValueError):
    """The one exception of every loader: one line with the file, the expected content and the actual one."""

    def __init__(self, message: object):
        super().__init__(one_line(message))


class DownloadError(DataError):
    """A file is missing and could not be downloaded."""


def reason(error: BaseException) -> str:
    """What the system says of a file, or else type and message of an error, in at most 200 characters."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return error.strerror.lower()
    return f"{type(error).__name__}: {error}"[:200]


def kind_of_file(mode: int) -> str:
    """What is at a path, from its `st_mode`: a file, a folder, or else something that cannot be read as either."""
    return "a file" if stat.S_ISREG(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe or device"


@contextlib.contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turns whatever damaged content raises into a DataError that names the file and its expected content."""
    try:
        yield
    except DataError:
        raise
    except MALFORMED as error:
        raise DataError(f"{path}: expected {expected}, found {reason(error)}") from error


def check_table_size(path: Path | str, data: bytes) -> None:
    """Raises DataError for a CSV file, whatever separates its cells, that is too large to be read as text."""
    first_line = re.match(rb"[^\r\n]*", data)[0]
    separators = [separator.encode() for separator in SEPARATORS]
    columns = 1 + max(map(first_line.count, separators))
    cells = data.count(b"\n") + data.count(b"\r") + max(map(data.count, separators))
    if columns > MAX_COLUMNS or cells > MAX_TEXT_CELLS:
        raise DataError(
            f"{path}: expected a table of at most {MAX_COLUMNS} columns and {MAX_TEXT_CELLS} cells, "
            f"found about {columns} and {cells}"
        )
    start = 0
    while start + MAX_LINE < len(data):  # from one line break to the last one that is near enough
        end = start + MAX_LINE + 1
        start = 1 + max(data.rfind(b"\n", start, end), data.rfind(b"\r", start, end))
        if not start:
            raise DataError(f"{path}: expected lines of at most {MAX_LINE} bytes, found a longer one")


def is_web_page(head: bytes) -> bool:
    return head[:256].lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def read_bytes(path: Path, expected: str) -> bytes:
    """The content of a file, at most MAX_BYTES, decompressed if it is gzipped, whatever its name.

    Raises DataError, which says that the file should hold `expected`.
    """
    with reading(path, expected):
        if (kind := kind_of_file(os.stat(path).st_mode)) != "a file":  # a pipe would block for ever
            raise DataError(f"{path}: expected {expected}, found {kind}")
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            data = (gzip.GzipFile(fileobj=file) if packed else file).read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: expected {expected} of at most {MAX_BYTES} bytes, found more")
    if is_web_page(data):
        raise DataError(f"{path}: expected {expected}, found a web page (delete it and download again)")
    return data


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive opened for reading. Raises DataError for any damage while it is open."""
    with reading(path, "a zip archive"):
        if (kind := kind_of_file(os.stat(path).st_mode)) != "a file":
            raise DataError(f"{path}: expected a zip archive, found {kind}")
        with zipfile.ZipFile(path) as archive:
            yield archive


def member_names(path: Path) -> list[str]:
    """The names of all members of a zip archive, in its order. Raises DataError."""
    with _archive(path) as archive:
        return archive.namelist()


def read_member(path: Path, names: Sequence[str]) -> bytes:
    """The content of the first of `names` in a zip archive, read by name into memory, at most MAX_BYTES.

    Raises DataError for a missing member, an unknown compression, damage, and sizes beyond the bound.
    """
    with _archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        member = next((members[name] for name in names if name in members), None)
        if member is None:
            raise DataError(
                f"{path}: expected a member {' or '.join(names)}, found {', '.join(members)[:200] or 'none'}"
            )
        known = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if member.file_size > MAX_BYTES or not known:
            raise DataError(
                f"{path}: expected at most {MAX_BYTES} bytes, stored or deflated, "
                f"found {member.file_size} of compression type {member.compress_type}"
            )
        with archive.open(member) as content:
            return content.read(member.file_size + 1)  # to the end, where zipfile compares the checksum


def checked_limit(limit: int | None) -> int | None:
    """`limit`, a number of training sequences of at least 1, or None for all. Raises DataError."""
    if limit is not None and limit < 1:
        raise DataError(f"limit: expected at least 1 training sequence, found {limit}")
    return limit


def check_sha256(url: str, content: bytes, expected: str) -> None:
    """Raises DataError, which says what can be done, if what was downloaded has other content."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        way_out = "a file that is put there by hand is read whatever its digest"
        raise DataError(f"{url}: expected content of digest {expected}, found {found}; {way_out}")


def download(
    url: str, path: Path, digest: str, content: Callable[[Path], bytes] = Path.read_bytes, timeout: float = 10.0
) -> Path:
    """Downloads `url` to the file `path`, whose folder is made if need be; returns the path.

    digest: the SHA-256 of `content(file)`, by default of its bytes; of what it unpacks to where its packing may change.
    timeout: seconds without an answer. The file appears complete or not at all: it is written under a temporary
    name, flushed, checked and renamed; nothing stays behind after an error or Ctrl-C. Raises DataError.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _stream(url, part, timeout)
        check_sha256(url, content(part), digest)
        os.replace(part, path)
    except DataError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise DataError(f"{path}: expected to fetch it from {url}, found {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path


def _stream(url: str, part: Path, timeout: float) -> None:
    """Copies the answer to the file `part` and flushes it, checks kind and length."""
    request = urllib.request.Request(url, headers={"User-Agent": "load_data (python-urllib)"})
    with urllib.request.urlopen(request, timeout=timeout) as answer, open(part, "wb") as file:
        length, received = answer.headers.get("Content-Length"), 0
        # disable=None: no bar where standard error is not a terminal
        with tqdm(total=int(length) if length else None, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := answer.read(2**16):
                if not received and is_web_page(chunk):
                    raise DataError(f"{url}: expected a data file, found a web page")
                received += len(chunk)
                if received > MAX_BYTES:
                    raise DataError(f"{url}: expected at most {MAX_BYTES} bytes, found more")
                file.write(chunk)
                bar.update(len(chunk))
        if not received or (length and int(length) != received):
            raise DataError(f"{url}: expected {length or 'more'} bytes, found {received}")
        file.flush()
        os.fsync(file.fileno())


def checked_folder(folder: Path | str, required: bool, way_out: str = "") -> Path:
    """The folder, if it can be listed or, unless `required`, does not exist. Raises DataError."""
    folder = Path(folder)
    with reading(folder, "a readable folder"):
        if not os.path.lexists(folder):
            if not required:
                return folder
            raise DataError(f"{folder}: expected a folder, found nothing{way_out}")
        if (kind := kind_of_file(os.stat(folder).st_mode)) != "a folder":
            raise DataError(f"{folder}: expected a folder, found {kind}")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise DataError(f"{folder}: expected a readable folder, found no permission to read it")
    return folder


def first_present(folder: Path, names: Iterable[str]) -> Path | None:
    """The path of the first of `names` that exists in `folder`, a broken link included; None if there is none."""
    return next((folder / name for name in names if os.path.lexists(folder / name)), None)


def choose(
    data_dir: Path | str,
    source: str,
    subfolder: str,
    needed: Sequence[Sequence[str]],
    fetch: Callable[[Path, list[str]], object],
    url: str,
) -> tuple[Path, dict]:
    """Applies the rule of `source` (see the head of this file).

    needed: for each file of the data set, the names that it may have, the standard one first. fetch(folder, absent)
    downloads the standard names `absent`.

    Returns the folder to read and metadata: "data" is "full" or "sample". Raises DataError, and DownloadError for a
    file that is missing and could not be downloaded.
    """
    if source not in SOURCES:
        raise DataError(f"source: expected one of {', '.join(SOURCES)}, found {source!r}")
    if source == "sample":
        return SAMPLES / subfolder, {"data": "sample"}
    folder = checked_folder(data_dir, required=True, way_out="; make it, or give --data_dir")
    for part in Path(subfolder).parts:
        folder = checked_folder(folder / part, required=False)
    absent = [names[0] for names in needed if first_present(folder, names) is None]
    if not absent:
        return folder, {"data": "full"}
    try:
        fetch(folder, absent)
    except DataError as error:
        if source == "full" or len(absent) < len(needed):
            raise DownloadError(
                f"{folder}: expected {', '.join(absent)}, found nothing and could not fetch it "
                f"({error}); put it there, from {url}, or use --source sample"
            ) from error
        notice = f"{absent[0]} is missing and could not be fetched: the small bundled sample is used instead"
        print(f"NOTICE: {notice} ({error})", file=sys.stderr)
        return SAMPLES / subfolder, {"data": "sample", "notice": notice}
    return folder, {"data": "full"}
