"""Decoded arrays kept beside their file: the same as from the file, used again only for the same bytes."""

import errno
import gzip
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import movement_archive
import numpy as np
import pytest
import torch
from conftest import damaged_at_random, fails
from test_load_data import NAN, SIZES, write, write_mnist

import load_data
from loaders import files as data_files
from loaders import mnist as mnist_loader
from loaders import movement as load_movement
from loaders.files import SAMPLES, DataError, decoded

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("DATA_DIR", "data"))
ARRAYS = {  # one of each kind that the loaders keep
    "digits": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4),
    "values": np.array([[1.5, NAN], [-0.0, 1e300]]),
    "dates": np.array(["2014-01-02", "2017-12-29"], dtype="datetime64[D]"),
    "names": np.array(["A", "BRK.B"]),
    "count": np.array(7),
}


def identical(found, expected):
    """Names, types, shapes and every bit."""
    return found.keys() == expected.keys() and all(
        (found[k].dtype, found[k].shape, found[k].tobytes()) == (v.dtype, v.shape, v.tobytes())
        for k, v in expected.items()
    )


def of_layout(arrays):
    return all((arrays[k].dtype, arrays[k].shape) == (v.dtype, v.shape) for k, v in ARRAYS.items())


class Decoder:
    """decode() that counts its calls."""

    def __init__(self, arrays=ARRAYS):
        self.arrays, self.calls = arrays, 0

    def __call__(self):
        self.calls += 1
        return {name: array.copy() for name, array in self.arrays.items()}


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "file.gz", b"the bytes of a file")


@pytest.fixture
def kept(path):
    """What is kept of `path`, written as the loaders write it."""
    decoded(path, "kind", 1, Decoder(), of_layout)
    return path.with_name(".file.gz.kind.npz")


def load(path, decode=None, version=1, kind="kind", fits=of_layout):
    """Whether the kept arrays served; what is returned is right in any case."""
    decode = decode or Decoder()
    assert identical(decoded(path, kind, version, decode, fits), decode.arrays)
    return decode.calls == 0


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- used again or not -----------------------------------------------------------------------------------------------


def test_decoded_once_and_then_read(path):
    assert not load(path) and names(path.parent) == [".file.gz.kind.npz", "file.gz"]
    assert load(path) and load(str(path))
    arrays = decoded(path, "kind", 1, Decoder(), of_layout)
    arrays["digits"][:] = 9  # the caller's own, and writable
    assert load(path)


def test_other_bytes_are_decoded_anew(path, kept):
    status = path.stat()
    path.write_bytes(b"the bytes of a lime")  # as many, and as old
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    other = Decoder({**ARRAYS, "count": np.array(8)})
    assert not load(path, other) and other.calls == 1
    assert load(path, Decoder(other.arrays)) and names(path.parent) == [kept.name, path.name]


def test_another_version_or_layout_is_decoded_anew_and_another_kind_kept_apart(path, kept):
    assert not load(path, version=2) and load(path, version=2) and not load(path, version=1)
    assert not load(path, fits=lambda arrays: False)
    assert not load(path, fits=lambda arrays: arrays["other"])
    assert not load(path, kind="other") and load(path, kind="other") and load(path)


def test_errors_are_the_decoders_and_nothing_is_kept(path, tmp_path):
    def refuse():
        raise DataError("file.gz: expected this, found that")

    fails("expected this", decoded, path, "kind", 1, refuse, of_layout)
    fails("expected this", decoded, tmp_path / "absent", "kind", 1, refuse, of_layout)
    fails("expected this", decoded, tmp_path, "kind", 1, refuse, of_layout)
    assert names(tmp_path) == ["file.gz"]


def test_a_file_that_changes_while_it_is_decoded_is_not_kept(path):
    def decode():
        path.write_bytes(b"other bytes")
        return ARRAYS

    decoded(path, "kind", 1, decode, of_layout)
    assert names(path.parent) == ["file.gz"]


def test_what_is_too_large_is_not_kept(path, monkeypatch):
    monkeypatch.setattr(data_files, "MAX_BYTES", 50)  # more than the file, less than its arrays
    assert not load(path) and not load(path) and names(path.parent) == ["file.gz"]
    monkeypatch.setattr(data_files, "MAX_BYTES", 10)
    assert not load(path)


# ---- damaged and hostile ---------------------------------------------------------------------------------------------


def test_every_byte_of_the_kept_arrays_may_be_wrong(path, kept):
    whole = kept.read_bytes()
    again = 0
    for place in range(len(whole)):
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        again += not load(path)
    assert again > 0.6 * len(whole)  # the others are times, padding and the like: the arrays were right without them


def test_kept_arrays_damaged_at_random(path, kept):
    for data in damaged_at_random(kept.read_bytes(), 200):
        kept.write_bytes(data)
        load(path)
        assert load(path)  # written anew where it had to be


def archive(compression=zipfile.ZIP_STORED, **members):
    """A kept file of these contents, given as arrays or as bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        for name, content in members.items():
            if isinstance(content, np.ndarray):
                npy = io.BytesIO()
                np.lib.format.write_array(npy, content)
                content = npy.getvalue()
            target.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(header):
    """An array file of version 1 with any header, and eight bytes after it."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)


class Trap:
    """Unpickled, it would end the process."""

    def __reduce__(self):
        return os._exit, (3,)


def hostile():
    """Contents beside the right key."""
    yield {}
    yield {**ARRAYS, "digits": np.zeros((2, 3, 4))}
    yield {**ARRAYS, "digits": np.zeros((2, 3), dtype=np.uint8)}
    yield {**ARRAYS, "names": np.array([Trap(), Trap()], dtype=object)}
    yield {**ARRAYS, "count": pickle.dumps(Trap())}
    yield {**ARRAYS, "count": b""}
    for header in (
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,)}\n",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}\n",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': ()}" + b"(" * 5000,
        b"__import__('os')._exit(3)\n",
        b"\x00\xff'''",
        b"",
    ):
        yield {**ARRAYS, "count": npy(header)}


@pytest.mark.parametrize("members", list(hostile()))
@pytest.mark.filterwarnings("default")  # numpy's, of headers that are none
def test_hostile_arrays_are_decoded_anew(path, kept, members):
    key = np.array(data_files._key(path, 1))
    kept.write_bytes(archive(key=key, **ARRAYS))
    assert load(path)  # so far it is a good one
    kept.write_bytes(archive(key=key, **members))
    assert not load(path) and load(path)


def test_hostile_archives_are_decoded_anew(path, kept, monkeypatch):
    key, whole = np.array(data_files._key(path, 1)), kept.read_bytes()
    bomb = archive(zipfile.ZIP_DEFLATED, key=key, **{**ARRAYS, "digits": np.zeros(2**22)})
    for data in (
        b"",
        b"PK",
        whole[:-1],
        whole[: len(whole) // 2],
        bytes(len(whole)),
        whole[10:],
        bomb,
        archive(**ARRAYS),
        archive(key=np.array(5), **ARRAYS),
        archive(key=np.array(["a"]), **ARRAYS),
        archive(zipfile.ZIP_DEFLATED, key=key, **ARRAYS),
        archive(key=key, **ARRAYS)[:-30],
    ):
        kept.write_bytes(data)
        assert not load(path) and load(path)
    monkeypatch.setattr(data_files, "MAX_BYTES", 700)  # each array is less, all of them together are more
    assert not load(path)


def test_something_else_in_the_place_of_the_kept_arrays(path, kept):
    kept.unlink()
    kept.mkdir()
    assert not load(path) and not load(path) and names(path.parent) == [kept.name, path.name]
    kept.rmdir()
    kept.symlink_to(kept)
    assert not load(path) and load(path) and not kept.is_symlink()
    kept.unlink()
    os.mkfifo(kept)  # to read it would take for ever
    assert not load(path) and load(path)


# ---- no place to write, several writers ------------------------------------------------------------------------------


def test_a_folder_that_nobody_may_write_to_is_left_alone(path):
    """Even by the superuser, whom the system would let."""
    path.parent.chmod(0o555)
    try:
        assert not load(path) and names(path.parent) == ["file.gz"]
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("name", ["open", "replace"])
@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_refused_write_is_silent_and_leaves_nothing(path, monkeypatch, capfd, name, error):
    def refuse(*arguments):
        if "part" in str(arguments):
            raise OSError(error, os.strerror(error))
        return real(*arguments)

    real = open
    monkeypatch.setattr(*((data_files, "open") if name == "open" else (os, "replace")), refuse, raising=False)
    assert not load(path) and names(path.parent) == ["file.gz"]
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_is_silent_and_leaves_nothing(path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = {"values": np.zeros(10**5)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
    try:
        assert not load(path, Decoder(large), fits=lambda arrays: arrays["values"].shape == (10**5,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(path.parent) == ["file.gz"]


def test_an_interrupted_write_leaves_nothing(path, monkeypatch):
    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(path)
    assert names(path.parent) == ["file.gz"]


def test_two_processes_at_once(path):
    """Both take the kept arrays away again and again while the other one reads and writes them."""
    code = (
        "import sys, pathlib, numpy as np\n"
        "from loaders.files import decoded\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "for k in range(100):\n"
        "    found = decoded(path, 'kind', 1, lambda: {'x': np.arange(3000)}, lambda kept: kept['x'].size == 3000)\n"
        "    assert (found['x'] == np.arange(3000)).all()\n"
        "    if k % 5 == 0: path.with_name('.file.gz.kind.npz').unlink(missing_ok=True)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == [b"", b""]
    assert [process.returncode for process in both] == [0, 0]
    assert names(path.parent) == [".file.gz.kind.npz", "file.gz"]


# ---- the loaders -----------------------------------------------------------------------------------------------------


def make_digits(folder):
    write_mnist(folder / "MNIST" / "raw")


LOADERS = {  # data, loader, what decodes them
    "mnist": (make_digits, load_data.mnist, (mnist_loader, "read_idx")),
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(mnist_loader, "MNIST_SIZES", SIZES)
    monkeypatch.setattr(load_movement, "MOVEMENT_SETS", movement_archive.SETS)


def plain(monkeypatch, loader, folder):
    """What the loader makes of the files themselves."""
    with monkeypatch.context() as patch:
        patch.setattr(data_files, "_key", lambda *_: None)
        return loader(folder)


def assert_same(found, expected):
    """Types and every value, missing ones included, through tuples and dicts."""
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, tuple):
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)
    else:
        assert found == expected and repr(found) == repr(expected)


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_give_the_same_from_kept_arrays(tmp_path, monkeypatch, small, name):
    make, loader, decoder = LOADERS[name]
    make(tmp_path)
    expected = plain(monkeypatch, loader, tmp_path)
    assert not list(tmp_path.rglob("*.npz"))
    assert_same(loader(tmp_path), expected)
    kept = sorted(tmp_path.rglob("*.npz"))
    assert len(kept) == (2 if name == "mnist" else 1)
    real, used = getattr(*decoder), []
    monkeypatch.setattr(*decoder, lambda *arguments: used.append(str(arguments[0])) or real(*arguments))
    assert_same(loader(tmp_path), expected)
    assert not [path for path in used if "labels" not in path]  # MNIST's labels are small: read as they are
    for path in kept:
        path.write_bytes(path.read_bytes()[:-1])
    assert_same(loader(tmp_path), expected)
    assert [path for path in used if "labels" not in path]


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_decode_anew_what_was_kept_with_other_types_or_shapes(tmp_path, monkeypatch, small, name):
    make, loader, _ = LOADERS[name]
    make(tmp_path)
    expected = loader(tmp_path)
    for path in tmp_path.rglob("*.npz"):
        with np.load(path) as kept:
            arrays = dict(kept)
        for key in arrays.keys() - {"key"}:
            array = arrays[key]
            for other in (np.zeros(3), np.zeros((0, 0, 5)), np.array("x"), array.astype("S99"), array[None]):
                np.savez(path, **{**arrays, key: other})
                assert_same(loader(tmp_path), expected)
            np.savez(path, **{name: array for name, array in arrays.items() if name != key})
            assert_same(loader(tmp_path), expected)


def test_samples_and_unpacked_digits_are_not_kept(tmp_path, small, monkeypatch):
    monkeypatch.undo()
    before = sorted(SAMPLES.rglob("*"))
    load_data.mnist(tmp_path, "sample")
    assert sorted(SAMPLES.rglob("*")) == before and not list(tmp_path.rglob("*.npz"))
    monkeypatch.setattr(mnist_loader, "MNIST_SIZES", SIZES)
    write_mnist(tmp_path / "MNIST" / "raw", pack=bytes, ending="")
    load_data.mnist(tmp_path)
    assert not list(tmp_path.rglob("*.npz"))


def test_damaged_files_give_the_same_errors_beside_kept_arrays(tmp_path, small):
    make_digits(tmp_path)
    load_data.mnist(tmp_path)
    images = write(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x08"))
    fails("expected IDX magic", load_data.mnist, tmp_path)
    images.unlink()
    images.mkdir()
    fails("not a plain file", load_data.mnist, tmp_path)


@pytest.mark.parametrize("name", LOADERS)
def test_real_data_are_the_same_from_kept_arrays(tmp_path, monkeypatch, name):
    folder = "MNIST/raw"
    if not any((REAL / folder).glob("*.*")):
        pytest.skip(f"DATA_DIR has no {folder}")
    (tmp_path / folder).mkdir(parents=True)
    for path in (REAL / folder).glob("[!.]*"):
        (tmp_path / folder / path.name).symlink_to(path.resolve())
    loader = LOADERS[name][1]
    expected = loader(tmp_path)
    assert list(tmp_path.rglob(".*.npz"))
    monkeypatch.setattr(data_files, "_write_arrays", None)  # nothing needs to be written
    assert_same(loader(tmp_path), expected)
