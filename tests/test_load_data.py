"""Loaders against hand-computed tables, damaged and hostile files, and a web server on this machine."""

import gzip
import http.server
import os
import socket
import stat
import struct
import sys
import threading
import types
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import damaged_at_random, fails

import load_data
from load_data import (
    generate_signals,
    mnist,
    own_images,
    read_idx,
    scale_sequences,
    select_symbols,
    stock_prices,
    toy_signals,
    unscale_sequences,
)
from lstm_studies.loaders import files as data_files
from lstm_studies.loaders import mnist as mnist_loader
from lstm_studies.loaders import prices as price_loader
from lstm_studies.loaders import toy as toy_loader
from lstm_studies.loaders.files import DataError, download, read_member

HEADER = "symbol,date,open,high,low,close,volume"
NAN = float("nan")
CSV_NAME, CSV_OTHER = price_loader.STOCKS_CSV
REAL = Path(os.environ.get("DATA_DIR", "data"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test leaves this machine: the public addresses lead to a port that refuses; no torchvision."""
    monkeypatch.setattr(mnist_loader, "MNIST_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(price_loader, "STOCKS_URL", "http://127.0.0.1:9/stocks")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setenv("no_proxy", "*")


# ---------------------------------------------------------------------------------------------- toy sequences


def test_scaling_by_hand():
    scaled, offset, scale = scale_sequences(torch.tensor([[1.0, 3.0, 8.0], [0.1, 0.1, 0.1]]))
    assert offset.tolist() == [[4.0], [pytest.approx(0.1)]] and scale.tolist() == [[8.0], [1.0]]
    assert scaled.tolist() == [[0.125, 0.375, 1.0], [0.5, 0.5, 0.5]]


def test_scaling_stays_in_range_and_inverts():
    x = torch.randn(200, 37, 2, generator=torch.Generator().manual_seed(1)) * 1e3 + 500
    scaled, offset, scale = scale_sequences(x)
    assert offset.shape == scale.shape == (200, 1, 2)
    assert scaled.min() >= 0 and scaled.max() <= 1
    torch.testing.assert_close(scaled.mean(1), torch.full((200, 2), 0.5))
    torch.testing.assert_close(unscale_sequences(scaled, offset, scale), x, rtol=1e-5, atol=1e-3)


def test_constant_sequences_whose_mean_rounds():
    x = torch.full((1, 49), 0.1, dtype=torch.float64)  # the mean of these is not exactly 0.1
    scaled, offset, scale = scale_sequences(x)
    assert (scaled == 0.5).all() and scale.item() == 1
    assert torch.equal(unscale_sequences(scaled, offset, scale), x)


def test_scaling_refuses_what_is_not_finite():
    fails("1 values that are not finite", scale_sequences, torch.tensor([[1.0, NAN]]))


def test_uniform_steps_and_walk_increments():
    x = generate_signals("uniform", 500)
    assert x.shape == (500, 50) and x.dtype == torch.float32
    assert x[:, 20:30].max() < 0.1 and x[:, 19].max() > 0.9 and x[:, 30].max() > 0.9
    steps = generate_signals("walk", 500).diff(dim=1)
    assert abs(steps.std() - 1) < 0.02 and abs((steps[:, 1:] * steps[:, :-1]).mean()) < 0.02


def test_waves_are_sums_of_three_sines():
    """Samples of 3 sines obey a linear recurrence of 6 steps, the same forwards and backwards."""
    for row in generate_signals("waves", 5).double():
        windows = row.unfold(0, 7, 1)  # (44, 7)
        even = torch.stack([windows[:, 1] + windows[:, 5], windows[:, 2] + windows[:, 4], windows[:, 3]], 1)
        ends = windows[:, 0] + windows[:, 6]
        solution = torch.linalg.lstsq(even, ends[:, None]).solution
        assert (even @ solution - ends[:, None]).abs().max() < 1e-4


# Test errors of the mean and of PCA with 8, 16 and 32 components.
@pytest.mark.parametrize(
    "signal, expected",
    [
        ("waves", ("5.8e-02", "3.8e-02", "1.8e-02", "1.4e-12")),
        ("uniform", ("5.2e-02", "4.2e-02", "3.1e-02", "9.9e-03")),
        ("walk", ("5.6e-02", "6.2e-03", "3.0e-03", "1.1e-03")),
    ],
)
def test_baselines(signal, expected):
    data = toy_signals(signal)
    mean = data.train.double().mean(0)
    train, test = data.train - mean, data.test - mean
    vectors = torch.linalg.eigh(train.T @ train)[1].flip(1)
    errors = [(test - test @ vectors[:, :k] @ vectors[:, :k].T).square().mean() for k in (0, 8, 16, 32)]
    assert tuple(f"{error:.1e}" for error in errors) == expected


def test_split_is_disjoint_seeded_and_limited():
    data = toy_signals("walk", count=100, seed=3, limit=7)
    whole = toy_signals("walk", count=100, seed=3)
    assert (len(data.train), len(data.validation), len(data.test)) == (7, 20, 20)
    assert torch.equal(data.train, whole.train[:7]) and torch.equal(data.test, whole.test)
    rows = torch.cat([whole.train, whole.validation, whole.test])
    assert rows.shape == (100, 50) and len(rows.unique(dim=0)) == 100
    assert not torch.equal(whole.train, toy_signals("walk", count=100, seed=4).train)
    assert data.metadata["train"] == 7


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("sawtooth", 10), "waves, uniform, walk, found 'sawtooth'"),
        (("walk", 0), "count 0"),
        (("walk", 10**15), "at most"),
        (("walk", 10, 50, -1), "seed -1"),
    ],
)
def test_bad_signals(arguments, expected):
    fails(expected, generate_signals, *arguments)


def test_bad_split():
    fails("at least 5", toy_signals, "walk", count=4)
    fails("limit", toy_signals, "walk", count=10, limit=0)


def rows_of(*rows):
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


@pytest.mark.parametrize("header", [b"", b"t1,t2,t3\n", b"0,1,2\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_own_sequences_by_hand(tmp_path, header, pack):
    path = write(tmp_path / "mine.csv", pack(header + rows_of((1, 2.5, -3), (1e3, 0, 7))))
    assert toy_loader.read_sequences(path).tolist() == [[1, 2.5, -3], [1000, 0, 7]]


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (b",t0,t1\n0,1.5,2\n1,3,4\n2,5,6\n", ""),  # DataFrame.to_csv()
        (b",0,1\n0,1.5,2\n1,3,4\n2,5,6\n", ""),
        (b"Unnamed: 0,t0,t1\n7,1.5,2\n8,3,4\n9,5,6\n", ""),
        (b"id,0,1\n0,1.5,2\n1,3,4\n2,5,6\n", "first column numbers the sequences"),
        (b"1,1.5,2\n2,3,4\n3,5,6\n", "first column numbers the sequences"),
        (b"1,2\n1.5,2\n3,4\n5,6\n", "first row numbers the columns"),
        (b"1,5;2\n3;4\n5;6\n", ""),  # decimal commas
        (b"1,5;2,0\n3,0;4,0\n5,0;6,0\n", ""),
    ],
)
def test_own_sequences_without_the_index_of_pandas(tmp_path, capsys, data, note):
    path = write(tmp_path / "mine.csv", data)
    assert toy_loader.read_sequences(path).tolist() == [[1.5, 2], [3, 4], [5, 6]]
    notice = capsys.readouterr().err
    assert notice.startswith(f"NOTICE: {path}: the {note}") if note else not notice


def test_two_rows_or_columns_have_no_index(tmp_path):
    for rows in ([[0, 5, 6], [1, 7, 8]], [[0, 5], [1, 6], [2, 7]]):
        assert toy_loader.read_sequences(write(tmp_path / "mine.csv", rows_of(*rows))).tolist() == rows


def test_own_sequences_are_split_once_each_in_random_order(tmp_path):
    rows = [(k, k * k, 1) for k in range(2, 12)]
    path = write(tmp_path / "mine.csv", rows_of(*rows, rows[3], rows[0]))
    data = toy_loader.own_sequences(path)
    parts = torch.cat([data.train, data.validation, data.test])
    assert [len(part) for part in data[:3]] == [6, 2, 2] and len(parts.unique(dim=0)) == 10
    expected = scale_sequences(torch.tensor(rows, dtype=torch.float32))[0]
    assert torch.equal(parts.unique(dim=0), expected.unique(dim=0)) and not torch.equal(parts, expected)
    assert torch.equal(data.train, toy_loader.own_sequences(path).train)
    assert not torch.equal(data.train, toy_loader.own_sequences(path, seed=1).train)
    assert data.metadata == {
        "data": "own",
        "file": "mine.csv",
        "seed": 0,
        "length": 3,
        "train": 6,
        "validation": 2,
        "test": 2,
    }


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", "one sequence per row, found an empty file"),
        (b"a,b\n", "found 0 rows of 2 numbers"),
        (b"1\n2\n3\n4\n5\n", "found 5 rows of 1 numbers"),
        (b"1,2\n3,x\n", "line 2: expected a number, found 'x'"),
        (b"a,b\n1,2\n\n3,\n", "line 4: expected a finite number in every column, found ''"),
        (b"1,2\n3,1e300\n", "line 2: expected a finite number in every column, found '1e300'"),
        (b"1,2\n3\n", "line 2: expected 2 fields, found 1"),
        (b"1,2\n3,4,5\n", "line 2: expected 2 fields, found 3"),
        (b"1,2\n1,2\n3,4\n5,6\n7,8\n", "at least 5 different sequences to split 60/20/20, found 4"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x89PNG\r\n\x1a\n\0\0", "expected text in UTF-8"),
    ],
)
def test_bad_own_sequences(tmp_path, data, expected):
    fails([expected, "mine.csv"], toy_loader.own_sequences, write(tmp_path / "mine.csv", data))


# ------------------------------------------------------------------------------------------------------- IDX


def idx(array, kind=8):
    array = np.asarray(array, dtype=np.uint8)
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_read_idx_by_hand(tmp_path, pack, name):
    data = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])
    tensor = read_idx(write(tmp_path / name, pack(data)))
    assert tensor.dtype == torch.uint8 and tensor.tolist() == [[1, 2, 3], [4, 5, 255]]


GOOD_IDX = idx(np.zeros((3, 4)))


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", "magic"),
        (GOOD_IDX[:7], "header of 12 bytes, found a file of 7"),
        (GOOD_IDX[:-1], "expected 12 bytes for shape (3, 4), found 11"),
        (GOOD_IDX + b"\0", "expected 12 bytes for shape (3, 4), found 13"),
        (b"\x01" + GOOD_IDX[1:], "magic"),
        (idx(np.zeros((3, 4)), kind=13), "magic"),
        (b"\0\0\x08\0", "magic"),
        (idx(np.zeros((0, 4))), "more bytes"),
        (b"\0\0\x08\x01" + struct.pack(">I", 2**31) + b"1", "2147483648"),
        (b"\0\0\x08\x04" + struct.pack(">4I", *[2**32 - 1] * 4) + b"1", str((2**32 - 1) ** 4)),
        (gzip.compress(GOOD_IDX, mtime=0)[:-4], "EOFError"),
        (gzip.compress(GOOD_IDX, mtime=0)[:-8] + b"\0" * 8, "BadGzipFile"),
        (b"\x1f\x8b\x08garbage garbage", "IDX"),
        (b"\n<!DOCTYPE html><html>", "web page"),
    ],
)
def test_damaged_idx(tmp_path, data, expected):
    fails([expected, "/x.gz"], read_idx, write(tmp_path / "x.gz", data))


def test_gzip_bomb_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "MAX_BYTES", 1000)
    fails("at most 1000 bytes", read_idx, write(tmp_path / "x", gzip.compress(bytes(1001))))


def test_not_a_plain_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    for name, found in {
        ".": "a folder",
        "pipe": "a pipe or device",
        "loop": "too many levels of symbolic links",
        "absent": "no such file or directory",
        "file/absent": "not a directory",
        "x" * 300: "file name too long",
    }.items():
        assert fails("IDX", read_idx, tmp_path / name).endswith(f"expected an IDX file of bytes, found {found}")


def test_damaged_at_random(tmp_path):
    """Whatever byte is changed or cut, the loader answers with a tensor or a DataError."""
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        data = bytearray(gzip.compress(GOOD_IDX) if rng.random() < 0.5 else GOOD_IDX)
        data[rng.integers(len(data))] = rng.integers(256)
        path = write(tmp_path / "x", data[: rng.integers(len(data) // 2, len(data) * 2)])
        try:
            outcomes.add(tuple(read_idx(path).shape))
        except DataError:
            outcomes.add("DataError")
    assert "DataError" in outcomes and (3, 4) in outcomes


# ------------------------------------------------------------------------------------------------------ MNIST

SIZES = {"full": (50, 10, 20), "sample": (6, 2, 1)}


def digits(count, start=0):
    """Images whose first pixel counts up from `start`, and labels 0..9 in turn."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    images[:, 0, 0] = np.arange(start, start + count)
    return images, np.arange(count) % 10


def write_mnist(raw, pack=gzip.compress, ending=".gz", dotted=False, sizes=SIZES["full"][:2]):
    for part, count, start in zip(("train", "t10k"), sizes, (0, 200), strict=True):
        for name, array in zip(("images-idx3", "labels-idx1"), digits(count, start), strict=True):
            name = name.replace("-idx", ".idx") if dotted else name
            write(raw / f"{part}-{name}-ubyte{ending}", pack(idx(array)))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A data folder with a small MNIST, whose size the loader takes for the full one."""
    monkeypatch.setattr(mnist_loader, "MNIST_SIZES", SIZES)
    write_mnist(tmp_path / "MNIST" / "raw")
    return tmp_path


def test_mnist_split_by_hand(small):
    data = mnist(small, limit=4)
    assert data.train_images[:, 0, 0].tolist() == [0, 1, 2, 3] and data.train_labels.tolist() == [0, 1, 2, 3]
    assert data.validation_images[:, 0, 0].tolist() == list(range(30, 50))
    assert data.test_images[:, 0, 0].tolist() == list(range(200, 210)) and data.test_labels[9] == 9
    assert data.train_images.dtype == torch.uint8 and data.train_labels.dtype == torch.int64
    assert len(mnist(small).train_images) == 30
    assert data.source == "full"
    assert data.metadata == {"data": "full", "train": 4, "validation": 20, "test": 10, "classes": 10}


@pytest.mark.parametrize("ending, dotted, pack", [("", False, bytes), ("", True, bytes), (".gz", True, gzip.compress)])
def test_mnist_other_names(tmp_path, monkeypatch, ending, dotted, pack):
    monkeypatch.setattr(mnist_loader, "MNIST_SIZES", SIZES)
    write_mnist(tmp_path / "MNIST" / "raw", pack, ending, dotted)
    assert mnist(tmp_path, "full").test_images[:, 0, 0].tolist() == list(range(200, 210))


@pytest.mark.parametrize(
    "name, array, expected",
    [
        ("train-images-idx3", digits(49)[0], "expected shape (50, 28, 28), found (49, 28, 28)"),
        ("train-labels-idx1", digits(49)[1], "expected shape (50,), found (49,)"),
        ("t10k-labels-idx1", [0] * 9 + [10], "labels 0 to 9, found 10"),
        ("t10k-images-idx3", np.zeros((10, 28, 27)), "expected shape (10, 28, 28)"),
        ("t10k-images-idx3", np.zeros((10, 784)), "found (10, 784)"),
    ],
)
@pytest.mark.parametrize("source", ["auto", "full"])
def test_wrong_mnist_is_never_replaced(small, name, array, expected, source):
    write(small / "MNIST" / "raw" / f"{name}-ubyte.gz", gzip.compress(idx(array)))
    fails([expected, name], mnist, small, source)


def test_mnist_absent_partial_or_folder(small, tmp_path_factory, capsys):
    raw = small / "MNIST" / "raw"
    for source in ("auto", "full"):
        (raw / "t10k-labels-idx1-ubyte.gz").unlink(missing_ok=True)
        fails(["t10k-labels-idx1-ubyte.gz", str(raw), "http://127.0.0.1:9/"], mnist, small, source)
    (raw / "t10k-labels-idx1-ubyte.gz").mkdir()
    fails("found a folder", mnist, small)
    empty = tmp_path_factory.mktemp("empty")
    fails(["train-images-idx3-ubyte.gz", "--source sample"], mnist, empty, "full")
    assert capsys.readouterr().err == ""


OWN = {  # names and content of a person's own files: 13 training images, 3 of them with class 9
    "fashion-train-images-idx3-ubyte": np.arange(13 * 784).reshape(13, 28, 28) % 251,
    "fashion-train-labels-idx1-ubyte": [9, 2, 2, 4, 9, 2, 4, 2, 2, 2, 4, 4, 9],
    "fashion-test-images-idx3-ubyte": np.full((2, 28, 28), 7),
    "fashion-test-labels-idx1-ubyte": [4, 9],
}


def write_own(folder, changes=()):
    """The files of OWN with others in their place; None: not there. Every other one is gzipped."""
    for number, (name, array) in enumerate({**OWN, **dict(changes)}.items()):
        if array is not None:
            content = array if isinstance(array, bytes) else idx(array)
            packed = gzip.compress(content) if number % 2 else content
            write(folder / f"{name}{'.gz' if number % 2 else ''}", packed)
    return folder


def test_own_images_by_hand(tmp_path):
    data = own_images(write_own(tmp_path / "fashion"))
    assert data.metadata == {
        **{"data": "own", "file": "fashion", "classes": 3},
        **{"train": 12, "validation": 1, "test": 2},
    }
    assert data.train_labels.tolist() == [2, 0, 0, 1, 2, 0, 1, 0, 0, 0, 1, 1]
    assert data.validation_labels.tolist() == [2] and data.test_labels.tolist() == [1, 2]
    assert data.train_images[1].flatten().tolist() == [(784 + i) % 251 for i in range(784)]
    assert data.train_images.dtype == torch.uint8 and data.train_labels.dtype == torch.int64
    assert (data.test_images == 7).all()
    assert len(own_images(tmp_path / "fashion", limit=5).train_images) == 5


@pytest.mark.parametrize("in_order", [sorted, list])
def test_own_images_in_the_order_of_their_labels(tmp_path, capsys, in_order):
    labels = "fashion-train-labels-idx1-ubyte"
    own_images(write_own(tmp_path / "fashion", {labels: in_order(OWN[labels])}))
    assert ("sorted by label: shuffle them" in capsys.readouterr().err) == (in_order is sorted)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"fashion-test-labels-idx1-ubyte": None},
            "named *t10k*labels* or *test*labels*, found none",
        ),
        ({"train-labels-copy": [1]}, "found fashion-train-labels-idx1-ubyte.gz, train-labels-copy"),
        ({"fashion-train-labels-idx1-ubyte": [1, 2]}, "expected 13 labels, one per image, found (2,)"),
        ({"fashion-train-images-idx3-ubyte": np.zeros((13, 32, 32))}, "expected images of 28 x 28 pixels"),
        ({"fashion-test-images-idx3-ubyte": np.zeros(2)}, "expected images of 28 x 28 pixels, found shape (2,)"),
        ({"fashion-test-images-idx3-ubyte": b"GIF89a, not IDX"}, "expected IDX magic"),
        ({"fashion-test-images-idx3-ubyte": b""}, "fashion-test-images"),
        ({"fashion-test-images-idx3-ubyte": idx(np.zeros((2, 28, 28)))[:-1]}, "expected 1568 bytes"),
        (
            {
                "fashion-train-images-idx3-ubyte": np.zeros((1, 28, 28)),
                "fashion-train-labels-idx1-ubyte": [1],
            },
            "expected at least 2 training images, found 1",
        ),
    ],
)
def test_wrong_images_of_ones_own(tmp_path, changes, expected):
    fails([expected, str(tmp_path)], own_images, write_own(tmp_path / "fashion", changes))


def test_own_images_need_a_folder(tmp_path):
    assert fails("absent: expected a folder", own_images, tmp_path / "absent").endswith("found nothing")
    fails("found a file", own_images, write(tmp_path / "file", b""))


def test_mnist_falls_back_with_a_notice(tmp_path, capsys):
    data = mnist(tmp_path)
    assert data.source == data.metadata["data"] == "sample" and "bundled sample" in data.metadata["notice"]
    assert capsys.readouterr().err.count("\n") == 1
    assert str(tmp_path) not in data.metadata["notice"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_sample_is_stratified_and_needs_nothing(monkeypatch, capsys):
    monkeypatch.setattr(data_files.urllib.request, "urlopen", None)
    data = mnist("/does/not/exist", "sample")
    labels = torch.cat([data.train_labels, data.validation_labels])
    assert labels.bincount().tolist() == [600] * 10 and data.test_labels.bincount().tolist() == [100] * 10
    assert (len(data.train_images), len(data.validation_images)) == (5000, 1000)
    assert data.validation_labels.unique().tolist() == list(range(10))  # shuffled
    images = torch.cat([data.train_images, data.validation_images, data.test_images]).flatten(1)
    assert len(images.unique(dim=0)) == 7000
    prices = stock_prices("/does/not/exist", "sample")
    assert prices.symbols == ["AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA"]
    assert prices.values.shape == (6, 2699, 5)
    assert str(prices.dates[0]) == "2013-01-02" and load_data.complete_symbols(prices) == prices.symbols
    assert capsys.readouterr().err == ""


def test_bad_data_dir_and_source(tmp_path, monkeypatch):
    for function in (mnist, stock_prices):
        fails(["/absent: expected a folder", "give --data_dir"], function, tmp_path / "absent")
        fails("found a file", function, write(tmp_path / "file", b""))
        fails("expected a folder", function, "a\0b")
        fails("auto, full, sample", function, tmp_path, "half")
    for name in ("MNIST", "sp500"):
        write(tmp_path / name, b"")
    fails("MNIST: expected a folder", mnist, tmp_path)
    fails("sp500: expected a folder", stock_prices, tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may read everything
    fails("no permission", mnist, tmp_path)


# ----------------------------------------------------------------------------------------------------- stocks

ROWS = ("B,2020-01-03,2,4,1,3,10", "A,2020-01-02,1.5,2,1,1.75,0", "A,2020-01-03,,,,5,7", "B,2020-01-06,1,1,1,1,1")


def table(*rows, header=HEADER, ending="\n"):
    return (ending.join((header, *rows)) + ending).encode()


def write_stocks(folder, data, name=CSV_NAME):
    write(folder / "sp500" / name, data)
    return folder


def same(prices, expected):
    values = torch.equal(prices.values.nan_to_num(-1), expected.values.nan_to_num(-1))
    return values and prices.symbols == expected.symbols and (prices.dates == expected.dates).all()


def test_stocks_by_hand(tmp_path):
    prices = stock_prices(write_stocks(tmp_path, table(*ROWS)))
    assert prices.symbols == ["A", "B"] and prices.dates.dtype == "datetime64[D]"
    assert prices.dates.astype(str).tolist() == ["2020-01-02", "2020-01-03", "2020-01-06"]
    expected = [
        [[1.5, 2, 1, 1.75, 0], [NAN, NAN, NAN, 5, 7], [NAN] * 5],
        [[NAN] * 5, [2, 4, 1, 3, 10], [1, 1, 1, 1, 1]],
    ]
    torch.testing.assert_close(prices.values, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    assert prices.metadata == {
        "data": "full",
        "file": CSV_NAME,
        "rows": 4,
        "symbols": 2,
        "dates": 3,
        "first_date": "2020-01-02",
        "last_date": "2020-01-06",
        "rows_with_missing": 1,
        "duplicates": 0,
        "incomplete": ["A", "B"],
        "fields": 5,
        "adjusted_column": "Close",
        "missing": {"open": 1, "high": 1, "low": 1, "close": 0, "volume": 0},
    }
    assert load_data.complete_symbols(prices) == []


def test_complete_symbols(tmp_path):
    data = table(
        "C,2020-01-02,1,1,1,1,1",
        "C,2020-01-03,1,1,1,1,1",
        "A,2020-01-03,1,1,1,1,1",
        "B,2020-01-02,1,1,1,1,1",
        "B,2020-01-03,1,NaN,1,1,1",
    )
    prices = stock_prices(write_stocks(tmp_path, data))
    assert load_data.complete_symbols(prices) == ["C"] and prices.metadata["incomplete"] == ["A", "B"]


def shuffled_columns():
    order = (6, 1, 4, 0, 2, 5, 3)
    return table(
        *(",".join([row.split(",")[k] for k in order] + ["x"]) for row in ROWS),
        header=",".join([HEADER.split(",")[k] for k in order] + ["name"]),
    )


@pytest.mark.parametrize(
    "data",
    [
        table(*ROWS[::-1]),
        table(*ROWS[2:], *ROWS[:2], ending="\r\n"),
        shuffled_columns(),
        b"\xef\xbb\xbf" + table(*ROWS),
        table(*ROWS)[:-1],
        table("", *ROWS, "", "", header=HEADER.upper()),
        table('"B","2020-01-03",2,4,1,3,10', *ROWS[1:]),
        gzip.compress(table(*ROWS)),
        table(*ROWS[:2], "A,2020-01-03,nan,NA,null,5,7", ROWS[3]),
    ],
    ids=["reversed", "crlf", "columns", "bom", "no last newline", "blanks", "quoted", "gzip", "words"],
)
def test_same_table_in_other_clothes(tmp_path, data):
    expected = stock_prices(write_stocks(tmp_path / "plain", table(*ROWS)))
    assert same(stock_prices(write_stocks(tmp_path / "other", data, CSV_OTHER)), expected)


def test_duplicates(tmp_path):
    prices = stock_prices(write_stocks(tmp_path, table(*ROWS, ROWS[0], ROWS[2], ROWS[2])))
    assert same(prices, stock_prices(write_stocks(tmp_path / "once", table(*ROWS))))
    assert (prices.metadata["rows"], prices.metadata["duplicates"], prices.metadata["rows_with_missing"]) == (7, 3, 1)
    for other in ("A,2020-01-03,,,,6,7", "A,2020-01-03,1,,,5,7"):
        fails(["line 6", "line 4"], stock_prices, write_stocks(tmp_path, table(*ROWS, other)))


@pytest.mark.parametrize(
    "row, expected",
    [
        ("A,2020-01-07,1,2,x,1,1", "line 6: expected a number, found 'x'"),
        ("A,2020-01-07,1,2,-1,1,1", "line 6: expected a price above 0 in low, found -1"),
        ("A,2020-01-07,0,2,1,1,1", "line 6: expected a price above 0 in open, found 0"),
        ("A,2020-01-07,1,inf,1,1,1", "line 6: expected a number below 1e+12 in high, found inf"),
        ("A,2020-01-07,1,1,1,1e300,1", "found 1e+300"),
        ("A,2020-01-07,1,1,1,1,-.5", "line 6: expected a volume of at least 0 in volume, found -0.5"),
        ("A,2020-02-30,1,1,1,1,1", "line 6: expected a date such as 2014-01-31 or 1/31/2014, found '2020-02-30'"),
        ("A,202001071,1,1,1,1,1", "found '202001071'"),
        ("A,,1,1,1,1,1", "expected a date"),
        (",2020-01-07,1,1,1,1,1", "line 6: expected a ticker symbol, found ''"),
        ("A\x1b[2J,2020-01-07,1,1,1,1,1", "ticker symbol"),
        ("A,2020-01-07,1,1,1", "line 6: expected 7 fields, found 5"),
        ("A,2020-01-07,1,1,1,1,1,1", "line 6: expected 7 fields, found 8"),
        ('A,2020-01-07,1,1,1,1,"1', "expected a"),
        ("A,2020-01-07,1,1,1,1,\0", "line 6: expected a number"),
        ("A,2020-01-07,1,1,1,1," + "9" * 200_000, "line 6: expected a number, found '999"),
    ],
)
def test_bad_rows(tmp_path, row, expected):
    for source in ("auto", "full"):
        message = fails(expected, stock_prices, write_stocks(tmp_path, table(*ROWS, row)), source)
        assert CSV_NAME in message and len(message) < 600


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", "an empty file"),
        (b"\n\n", "an empty file"),
        (table(), "no rows"),
        (table(*ROWS, header=HEADER.replace("close", "end")), "expected the columns"),
        (table(*ROWS, header=HEADER.replace("low", "high")), "expected one column High"),
        (table("A,2020-01-07,1,1,1,1,1").replace(b"A", b"\x81"), "expected text in UTF-8"),
        (table(*ROWS).decode().encode("utf-16")[:-1], "UnicodeDecodeError"),
        (gzip.compress(table(*ROWS))[:-9], "EOFError"),
        (b"<html><body>Sign in</body></html>", "web page"),
    ],
)
def test_bad_tables(tmp_path, data, expected):
    fails([expected, CSV_NAME], stock_prices, write_stocks(tmp_path, data))


def test_table_too_large_to_build(tmp_path, monkeypatch):
    monkeypatch.setattr(price_loader, "MAX_CELLS", 29)
    fails("2 symbols on 3 dates", stock_prices, write_stocks(tmp_path, table(*ROWS)))


def write_zip(folder, members, compression=zipfile.ZIP_DEFLATED):
    path = folder / "sp500" / "sp-500-stock-prices.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", [CSV_NAME, CSV_OTHER])
def test_zip(tmp_path, name):
    write_zip(tmp_path, {"../evil.csv": b"x", name: table(*ROWS)})
    expected = stock_prices(write_stocks(tmp_path / "plain", table(*ROWS)))
    assert same(stock_prices(tmp_path), expected)
    assert not list(tmp_path.parent.glob("evil*"))


def test_zip_bomb_encryption_and_other_members(tmp_path):
    fails("found other.csv", read_member, write_zip(tmp_path, {"other.csv": table(*ROWS)}), price_loader.STOCKS_CSV)
    fails("found none", read_member, write_zip(tmp_path, {}), price_loader.STOCKS_CSV)
    path = write_zip(tmp_path, {CSV_NAME: table(*ROWS)}, zipfile.ZIP_BZIP2)
    fails("compression type 12", read_member, path, price_loader.STOCKS_CSV)
    data = bytearray(write_zip(tmp_path, {CSV_NAME: table(*ROWS)}).read_bytes())
    entry = data.index(b"PK\x01\x02")
    bomb, locked, crc = bytearray(data), bytearray(data), bytearray(data)
    bomb[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)  # the uncompressed size in the directory
    fails(["4294967294", "at most"], stock_prices, write_stocks(tmp_path, bomb, path.name))
    locked[entry + 8] |= 1
    locked[6] |= 1
    fails("encrypted", stock_prices, write_stocks(tmp_path, locked, path.name))
    crc[entry + 16] ^= 1
    fails("CRC", stock_prices, write_stocks(tmp_path, crc, path.name))


def test_member_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("b/c.csv", "a.csv"):
            archive.writestr(name, "x")
    assert data_files.member_names(tmp_path / "a.zip") == ["b/c.csv", "a.csv"]
    (tmp_path / "b.zip").write_bytes(b"not a zip")
    fails(["b.zip", "a zip archive"], data_files.member_names, tmp_path / "b.zip")
    fails(["nothing.zip", "a zip archive"], data_files.member_names, tmp_path / "nothing.zip")
    os.mkfifo(tmp_path / "pipe")  # reading it would block
    fails("found a pipe or device", data_files.member_names, tmp_path / "pipe")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"<html>", table(*ROWS)])
def test_not_a_zip(tmp_path, data):
    for source in ("auto", "full"):
        fails("zip archive", stock_prices, write_stocks(tmp_path, data, "sp-500-stock-prices.zip"), source)


def test_zip_damaged_at_random(tmp_path):
    path = write_zip(tmp_path, {CSV_NAME: table(*ROWS * 20)})
    refused = 0
    for data in damaged_at_random(path.read_bytes(), 300):
        path.write_bytes(data)
        try:
            stock_prices(tmp_path)
        except DataError:
            refused += 1
    assert refused > 200


def test_symbols(tmp_path):
    both = stock_prices(write_stocks(tmp_path, table(*ROWS)))
    prices = select_symbols(both, ["B", "A"])
    assert prices.symbols == ["B", "A"] and prices.values[0, 1].tolist() == [2, 4, 1, 3, 10]
    assert select_symbols(both, "B").symbols == ["B"]
    whole = "its symbols: AAPL, AMZN, GOOG, META, NFLX, NVDA"
    fails(["'GOOGL'", whole], select_symbols, stock_prices(tmp_path, "sample"), ["AMZN", "GOOGL"])
    many = table(*(f"S{k}{k},2020-01-02,1,1,1,1,1" for k in range(30)), "AMZN,2020-01-02,1,1,1,1,1")
    many = stock_prices(write_stocks(tmp_path / "many", many))
    fails(["31 symbols", "nearest: AMZN"], select_symbols, many, ["amzm"])


def test_own_prices_with_a_symbol_are_those_of_the_kaggle_table(tmp_path):
    whole = [row for row in ROWS if ",," not in row]  # of one's own files, rows that lack a price are left out
    expected = stock_prices(write_stocks(tmp_path, table(*whole)))
    path = write(tmp_path / "mine.csv", shuffled_columns())
    prices = price_loader.own_prices(path)
    assert same(prices, expected)
    assert prices.metadata == {
        "data": "own",
        "file": "mine.csv",
        "rows": 3,
        "symbols": 2,
        "dates": 3,
        "first_date": "2020-01-02",
        "last_date": "2020-01-06",
        "duplicates": 0,
        "incomplete": ["A", "B"],
        "fields": 5,
        "adjusted_column": "Close",
    }
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.write(path, "mine.csv")
    assert same(price_loader.own_prices(tmp_path / "mine.zip"), expected)


def test_own_series_in_columns(tmp_path):
    data = b"north,date,south\n1.5,2020-01-03,-2\n,2020-01-02,7\n"
    prices = price_loader.own_prices(write(tmp_path / "mine.csv", data))
    assert prices.symbols == ["north", "south"] and prices.dates.astype(str).tolist() == ["2020-01-02", "2020-01-03"]
    expected = [[[NAN] * 5, [1.5, 1.5, 1.5, 1.5, 0]], [[7, 7, 7, 7, 0], [-2, -2, -2, -2, 0]]]
    torch.testing.assert_close(prices.values, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    assert load_data.complete_symbols(prices) == ["south"]
    assert (prices.metadata["data"], prices.metadata["fields"], prices.metadata["rows"]) == ("own", 1, 3)


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", "found an empty file"),
        (b"date\n2020-01-02\n", "found the columns date"),
        (b"a,b\n1,2\n", "found no date in the columns a, b"),
        (b"date,a,a\n2020-01-02,1,2\n", "found the columns date, a, a"),
        (b"date,a,\n2020-01-02,1,2\n", "found the columns date, a,"),
        (b"date,a\n", "found no rows"),
        (
            b"date,a\n2020-01-02,1\n2020-01-02,2\n",
            "line 3: expected one row per stock and day, found 2 of a on 2020-01-02, the first in line 2",
        ),
        (b"date,a\n2020-01-02,1\n02/41/2020,2\n", "line 3: expected a date such as 2014-01-31 or 1/31/2014, found"),
        (b"date,a\n2020-01-02,1\n2020-01-03,one\n", "line 3: expected a number, found 'one'"),
        (b"date,a\n2020-01-02,inf\n", "line 2: expected a number below 1e+12 in close, found inf"),
        (
            b"date,open,high\n2020-01-02,1,2\n",
            "expected the columns Date, Open, High, Low, Close, found date, open, high",
        ),
        (b"date,open,high,low,close,volume\n2020-01-02,1,2,-1,1,1\n", "line 2: expected a price above 0 in low"),
    ],
)
def test_bad_own_prices(tmp_path, data, expected):
    fails([expected, "mine.csv"], price_loader.own_prices, write(tmp_path / "mine.csv", data))


def test_own_prices_that_are_not_there(tmp_path):
    fails([str(tmp_path), "found no such file or directory"], price_loader.own_prices, tmp_path / "mine.csv")
    fails([str(tmp_path), "found none ending in .csv"], price_loader.own_prices, tmp_path)


def test_stocks_fall_back_with_a_notice(tmp_path, capsys):
    prices = stock_prices(tmp_path)
    assert prices.metadata["data"] == "sample" and "bundled sample" in prices.metadata["notice"]
    assert capsys.readouterr().err.startswith("NOTICE: sp-500-stock-prices.zip")
    fails(["sp-500-stock-prices.zip", "http://127.0.0.1:9/stocks"], stock_prices, tmp_path, "full")


# -------------------------------------------------------------------------------------------------- downloads


class Server(http.server.BaseHTTPRequestHandler):
    answers: dict = {}  # path -> (status, content type, announced length or None, body)  # noqa: RUF012

    def do_GET(self):
        status, kind, length, body = self.answers.get(self.path, (404, "text/plain", None, b"none"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.answers = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
        thread.join()


BODY = bytes(range(256)) * 1000


def serve(name, body, length=None, status=200, kind="application/octet-stream"):
    Server.answers[f"/{name}"] = (status, kind, len(body) if length is None else length, body)


def everything(folder):
    """Names of all files under a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


SHA256 = sha256(BODY).hexdigest()


def test_download(tmp_path, server):
    serve("file", BODY)
    path = download(server + "file", tmp_path / "new" / "file.bin", SHA256)
    assert path.read_bytes() == BODY and everything(tmp_path) == ["file.bin"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def refuse(path):
    assert path.read_bytes() == BODY
    raise DataError("refused by the check")


@pytest.mark.parametrize(
    "answer, options, expected",
    [
        ({"body": BODY, "length": len(BODY) + 5}, {}, "found 256000"),
        ({"body": BODY}, {"digest": "0" * 64}, [f"digest {'0' * 64}, found {SHA256}", "put there by hand"]),
        ({"body": BODY}, {"content": lambda path: path.read_bytes()[:9]}, sha256(BODY[:9]).hexdigest()),
        ({"body": BODY, "status": 404}, {}, "404"),
        ({"body": BODY, "status": 500}, {}, "500"),
        ({"body": b" <!DOCTYPE html><p>Sign in", "kind": "text/html"}, {}, "web page"),
        ({"body": b""}, {}, "found 0"),
        ({"body": BODY, "length": "many"}, {}, "ValueError"),
        ({"body": BODY}, {"content": refuse}, "refused by the check"),
    ],
)
def test_refused_download_leaves_nothing(tmp_path, server, answer, options, expected):
    serve("file", **answer)
    write(tmp_path / "file.bin", b"old")
    fails(expected, download, server + "file", tmp_path / "file.bin", **{"digest": SHA256, **options})
    assert everything(tmp_path) == ["file.bin"] and (tmp_path / "file.bin").read_bytes() == b"old"


def test_download_too_large(tmp_path, server, monkeypatch):
    monkeypatch.setattr(data_files, "MAX_BYTES", 1000)
    serve("file", BODY)
    fails("at most 1000 bytes", download, server + "file", tmp_path / "file.bin", SHA256)
    assert everything(tmp_path) == []


def test_interrupted_download_leaves_nothing(tmp_path, server, monkeypatch):
    def interrupt(*_):
        assert len(everything(tmp_path)) == 1  # the temporary file
        raise KeyboardInterrupt

    serve("file", BODY)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(server + "file", tmp_path / "file.bin", SHA256)
    assert everything(tmp_path) == []


def test_download_without_an_answer_or_a_place(tmp_path, server):
    serve("file", BODY)
    fails("refused", download, "http://127.0.0.1:9/file", tmp_path / "file.bin", SHA256)
    fails("ValueError", download, "no address", tmp_path / "file.bin", SHA256)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        fails("timed out", download, address, tmp_path / "file.bin", SHA256, timeout=0.2)
    assert everything(tmp_path) == []
    write(tmp_path / "file", b"")
    fails("file", download, server + "file", tmp_path / "file" / "file.bin", SHA256)
    (tmp_path / "taken").mkdir()
    fails("found is a directory", download, server + "file", tmp_path / "taken", SHA256)
    assert everything(tmp_path) == ["file"]


def test_stocks_are_downloaded(tmp_path, server, monkeypatch, capsys):
    monkeypatch.setattr(price_loader, "STOCKS_URL", server + "stocks")
    serve("stocks", b"PK not an archive")
    assert stock_prices(tmp_path).metadata["data"] == "sample"  # a wrong answer is not kept
    assert everything(tmp_path) == [] and "zip archive" in capsys.readouterr().err
    archive = write_zip(tmp_path / "elsewhere", {CSV_NAME: table(*ROWS)})
    serve("stocks", archive.read_bytes())
    fails(["could not fetch it", "expected content of digest", "put there by hand"], stock_prices, tmp_path, "full")
    content = price_loader._stocks_content(archive)
    assert content == read_member(archive, [CSV_NAME]).strip()
    monkeypatch.setattr(price_loader, "STOCKS_SHA256", sha256(content).hexdigest())
    prices = stock_prices(tmp_path)
    assert prices.metadata["data"] == "full" and prices.symbols == ["A", "B"]
    assert (tmp_path / "sp500" / "sp-500-stock-prices.zip").is_file()


def digests_of(folder):
    """The digests of the content of four IDX files, in the order of MNIST_SHA256."""
    return {
        name: sha256(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest()
        for name in mnist_loader.MNIST_SHA256
    }


def test_mnist_is_downloaded(tmp_path, server, monkeypatch):
    monkeypatch.setattr(mnist_loader, "MNIST_SIZES", SIZES)
    monkeypatch.setattr(mnist_loader, "MNIST_URL", server)
    write_mnist(tmp_path / "public")
    bodies = {path.name: path.read_bytes() for path in (tmp_path / "public").iterdir()}
    monkeypatch.setattr(mnist_loader, "MNIST_SHA256", digests_of(tmp_path / "public"))
    for name, body in bodies.items():
        serve(name, body)
    (tmp_path / "data").mkdir()
    assert mnist(tmp_path / "data", "full").source == "full"
    assert everything(tmp_path / "data") == sorted(bodies)
    serve("t10k-labels-idx1-ubyte.gz", bodies["train-labels-idx1-ubyte.gz"])
    (tmp_path / "data" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    fails("digest", mnist, tmp_path / "data")


def test_mnist_by_torchvision(tmp_path, monkeypatch):
    def fetch(root, download):
        assert download
        write_mnist(Path(root) / "MNIST" / "raw")

    monkeypatch.setattr(mnist_loader, "MNIST_SIZES", SIZES)
    datasets = types.SimpleNamespace(MNIST=fetch)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=datasets))
    write_mnist(tmp_path.with_name("same"))
    fails("refused", mnist, tmp_path, "full")  # other digits than MNIST, and then no answer from the public address
    monkeypatch.setattr(mnist_loader, "MNIST_SHA256", digests_of(tmp_path.with_name("same")))
    assert mnist(tmp_path, "full").source == "full"
    assert everything(tmp_path) == sorted(f"{name}.gz" for name in mnist_loader.MNIST_SHA256)
    assert not any(path.is_dir() for path in (tmp_path / "MNIST" / "raw").iterdir())  # no folder of the download


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), OSError("libc")])
def test_broken_torchvision_is_no_obstacle(tmp_path, monkeypatch, error):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise error

    monkeypatch.setitem(sys.modules, "torchvision", Broken("torchvision"))
    assert mnist(tmp_path).source == "sample"
    assert socket.getdefaulttimeout() is None


# ------------------------------------------------------------------------------------------------- real files


@pytest.mark.skipif(not any(REAL.glob("MNIST/raw/t10k*")), reason="DATA_DIR has no MNIST")
def test_real_mnist():
    data = mnist(REAL, "full")
    assert data.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train_images.shape == (55_000, 28, 28) and data.validation_images.shape == (5_000, 28, 28)
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert sha256(data.test_images.numpy().tobytes()).hexdigest()[:8] == "6d87418d"
    for name, digest in mnist_loader.MNIST_SHA256.items():
        path = next(path for path in (REAL / "MNIST/raw").iterdir() if path.name.startswith(name))
        assert sha256(mnist_loader._content(path)).hexdigest() == digest


@pytest.mark.skipif(not any(REAL.glob("sp500/*500*")), reason="DATA_DIR has no S&P 500 prices")
def test_real_stocks():
    prices = stock_prices(REAL, "full")
    facts = prices.metadata
    assert (facts["rows"], facts["symbols"], facts["dates"]) == (497_472, 505, 1007)
    assert (facts["first_date"], facts["last_date"]) == ("2014-01-02", "2017-12-29")
    assert facts["missing"] == {"open": 11, "high": 8, "low": 8, "close": 0, "volume": 0}
    assert facts["rows_with_missing"] == 11 and facts["duplicates"] == 0
    assert len(load_data.complete_symbols(prices)) == 477
    row = prices.values[prices.symbols.index("VRTX"), list(prices.dates).index(np.datetime64("2015-05-12"))]
    assert row[:3].isnan().all() and row[3:].tolist() == [124.08, 569747]
