"""Loaders on generated files: a result of the promised shapes, or the one DataError; never another exception.

The files are valid ones of the real formats, a few cells wide, with cells, lines and bytes changed, cut and repeated.
25 files per loader in `make test`, 500 in `make reliability`; the same ones every time.
"""

import gzip
import hashlib
import io

import movement_archive
import numpy as np
import pytest
import scipy.io
import torch
from fuzzing import changed_bytes, changed_text, put, zipped
from hypothesis import strategies as st

import load_data
from lstm_studies.loaders import messages as load_messages
from lstm_studies.loaders import mnist as mnist_loader
from lstm_studies.loaders import movement as load_movement
from lstm_studies.loaders import prices as price_loader
from lstm_studies.loaders import vowels as load_vowels
from lstm_studies.loaders.prices import own_prices
from lstm_studies.loaders.toy import own_sequences

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a file that fails

# ---- digits ----------------------------------------------------------------------------------------------------------


def idx(shape, payload: bytes, magic: bytes = b"\0\0\x08") -> bytes:
    return magic + bytes([len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape) + payload


@st.composite
def idx_files(draw) -> bytes:
    """Sizes and payload that fit, mostly."""
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    length = int(np.prod(shape)) + draw(st.sampled_from([0, 0, 0, 0, 1, -1, 7]))
    if draw(st.integers(0, 9)) == 0:
        shape[0] = draw(st.sampled_from([2**31, 2**32 - 1]))
    magic = draw(st.sampled_from([b"\0\0\x08"] * 9 + [b"\0\1\x08"]))
    data = idx(shape, bytes(i % 256 for i in range(max(0, length))), magic)
    data = gzip.compress(data, mtime=0) if draw(st.booleans()) else data
    return data if draw(st.booleans()) else draw(changed_bytes(data))


def test_any_idx_file(tmp_path, fuzz):
    def check(tensor):
        data = (tmp_path / "file").read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
        assert tensor.dtype == torch.uint8 and list(tensor.shape) == shape
        assert bytes(tensor.flatten().tolist()) == data[4 + 4 * data[3] :]

    fuzz(idx_files(), lambda data: load_data.read_idx(put(tmp_path / "file", data)), check)


MNIST = {
    "train-images-idx3-ubyte": idx((7, 28, 28), bytes(7 * 784)),
    "train-labels-idx1-ubyte": idx((7,), bytes(range(7))),
    "t10k-images-idx3-ubyte": idx((3, 28, 28), bytes(3 * 784)),
    "t10k-labels-idx1-ubyte": idx((3,), bytes(range(3))),
}


def test_any_digits(tmp_path, monkeypatch, fuzz):
    """One of the four files is changed."""
    monkeypatch.setattr(mnist_loader, "MNIST_SIZES", {"full": (7, 3, 2)})

    def load(example):
        name, data = example
        for other, whole in MNIST.items():
            put(tmp_path / "MNIST" / "raw" / other, data if other == name else whole)
        return load_data.mnist(tmp_path, "full")

    def check(digits):
        sizes = [len(field) for field in digits[:6]]
        assert sizes == [5, 5, 2, 2, 3, 3] and digits.source == "full"
        assert all(images.shape[1:] == (28, 28) and images.dtype == torch.uint8 for images in digits[:6:2])
        assert all(int(labels.min()) >= 0 and int(labels.max()) <= 9 for labels in digits[1:6:2])

    names = st.sampled_from(list(MNIST))
    fuzz(names.flatmap(lambda name: st.tuples(st.just(name), changed_bytes(MNIST[name]))), load, check)


# ---- prices ----------------------------------------------------------------------------------------------------------

PRICES = "symbol,date,open,high,low,close,volume\n" + "".join(
    f"{symbol},2014-01-{day:02d},{day}.5,{day}.75,{day},{day}.25,{1000 * day}\n"
    for symbol in ("BB", "A", "C.C")
    for day in (3, 2, 6, 7)
)


def check_prices(prices):
    shape = (len(prices.symbols), len(prices.dates), 5)
    assert prices.values.shape == shape and prices.values.dtype == torch.float64 and min(shape) > 0
    assert prices.symbols == sorted(set(prices.symbols)) and (np.diff(prices.dates) > np.timedelta64(0)).all()
    known = prices.values[torch.isfinite(prices.values)]
    assert not torch.isinf(prices.values).any() and (known >= 0).all() and (known < 1e15).all()
    assert (prices.values[..., :4].nan_to_num(1) > 0).all()
    # every row is in the table once, whatever it lacks
    rows = prices.metadata["rows"] - prices.metadata["duplicates"]
    assert rows <= shape[0] * shape[1] and torch.isfinite(prices.values).any(2).sum() <= rows


@pytest.mark.parametrize("kind", ["csv", "gzip", "zip"])
def test_any_prices(tmp_path, fuzz, kind):
    name = price_loader.STOCKS_ZIP if kind == "zip" else price_loader.STOCKS_CSV[0]
    pack = {
        "csv": bytes,
        "gzip": lambda data: gzip.compress(data, mtime=0),
        "zip": lambda data: zipped({price_loader.STOCKS_CSV[0]: data}),
    }[kind]
    files = changed_text(PRICES).map(pack)
    if kind != "csv":
        files |= changed_bytes(pack(PRICES.encode()))
    path = tmp_path / "sp500" / name
    fuzz(files, lambda data: load_data.stock_prices(put(path, data).parents[1], "full"), check_prices)


SERIES = "date,north,south\n" + "".join(f"2014-01-{day:02d},{day}.5,-{day}\n" for day in (3, 2, 6, 7))


@pytest.mark.parametrize("text", [PRICES, SERIES], ids=["rows", "columns"])
def test_any_own_prices(tmp_path, fuzz, text):
    def check(prices):
        shape = (len(prices.symbols), len(prices.dates), 5)
        assert prices.values.shape == shape and prices.values.dtype == torch.float64 and min(shape) > 0
        assert len(set(prices.symbols)) == shape[0] and (np.diff(prices.dates) > np.timedelta64(0)).all()
        assert not torch.isinf(prices.values).any()

    fuzz(changed_text(text), lambda data: own_prices(put(tmp_path / "mine.csv", data)), check)


def test_any_own_sequences(tmp_path, fuzz):
    def check(data):
        x = torch.cat(data[:3])
        assert x.dtype == torch.float32 and len(x) >= 5 and x.shape[1] >= 2
        assert ((x >= -1e-6) & (x <= 1 + 1e-6)).all()

    text = "a,b,c\n" + "".join(f"{k},{k * k % 7},{-k / 4}\n" for k in range(12))
    fuzz(changed_text(text), lambda data: own_sequences(put(tmp_path / "mine.csv", data)), check)


# ---- utterances ------------------------------------------------------------------------------------------------------

COUNTS = {"train": [1] * 9, "test": [1] * 8 + [2]}


def utterance(seed: int, steps: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, 12)).round(3)


def utterances(part: str) -> list[tuple[np.ndarray, int]]:
    labels = [speaker for speaker, size in enumerate(COUNTS[part]) for _ in range(size)]
    return [(utterance(i + 100 * len(part), 2 + i % 3), label) for i, label in enumerate(labels)]


def ts(part: str) -> str:
    lines = [":".join(",".join(map(str, column)) for column in x.T) + f":{label + 1}" for x, label in utterances(part)]
    return "#a comment\n@dimensions 12\n@data\n" + "\n".join(lines) + "\n"


def blocks(part: str) -> str:
    return "".join("".join(" ".join(map(str, row)) + "\n" for row in x) + "\n" for x, _ in utterances(part))


def check_utterances(found):
    assert len(found.train) == 9 and len(found.test) == 10
    for part in (found.train, found.test):
        assert sorted(part.lengths.tolist()) == part.lengths.tolist() == [len(value) for value in part.values]
        assert all(x.shape[1:] == (12,) and x.dtype == torch.float32 and torch.isfinite(x).all() for x in part.values)
        assert part.labels.bincount(minlength=9).tolist() == COUNTS["train" if part is found.train else "test"]


@pytest.mark.parametrize("kind", ["ts", "blocks", "zip"])
def test_any_utterances(tmp_path, monkeypatch, fuzz, kind):
    monkeypatch.setattr(load_vowels, "COUNTS", COUNTS)
    folder = tmp_path / "japanese_vowels"
    if kind == "ts":
        put(folder / "JapaneseVowels_TRAIN.ts", ts("train").encode())
        name, files = "JapaneseVowels_TEST.ts", changed_text(ts("test"))
    elif kind == "blocks":
        put(folder / "ae.train", blocks("train").encode())
        name, files = "ae.test", changed_text(blocks("test"), " ")
    else:
        whole = {f"ae.{part}": blocks(part).encode() for part in COUNTS}
        name, files = "japanese+vowels.zip", changed_bytes(zipped(whole))
        files |= changed_text(blocks("test"), " ").map(lambda text: zipped({**whole, "ae.test": text}))
    fuzz(files, lambda data: load_vowels.japanese_vowels(put(folder / name, data).parents[1], "full"), check_utterances)


def course_file(**changes) -> bytes:
    content = {}
    for part, labels in COUNTS.items():
        cells = np.empty((1, sum(labels)), object)
        for i, (x, _) in enumerate(utterances(part)):
            cells[0, i] = np.vstack([x, np.zeros((2, 12))])
        content |= {f"{part}_data": cells, f"{part}_label": np.array([[label for _, label in utterances(part)]])}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: value for name, value in {**content, **changes}.items() if value is not None})
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]  # without the time of day


CONTENTS = [  # of a variable or a cell of the course file
    None,
    "text",
    np.zeros((0, 0)),
    np.zeros((2, 2, 2)),
    np.full((3, 12), np.nan),
    np.full((3, 12), 1e300),
    np.ones((3, 12), complex),
    np.array([["a", "b"]], object),
    np.full((1, 10), -1),
    np.full((1, 10), 1e30),
    np.full((1, 10), np.nan),
    np.arange(10)[None] % 9,
    np.arange(9)[None],
    {"a": 1.0},
    np.ones((3, 11)),
    np.ones((3, 12)),
]


@st.composite
def arrays(draw) -> np.ndarray:
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 9, 10, 11, 12, 1001]), min_size=2, max_size=2))
    kind = draw(st.sampled_from(["f8", "f4", "u1", "i8", "U3"]))
    return np.full([1, *shape][-draw(st.integers(1, 3)) :], draw(st.integers(0, 9)), kind)


@st.composite
def course_files(draw) -> bytes:
    """Of other contents. (Other bytes are no course file: its checksum comes first.)"""
    part, kind = draw(st.sampled_from(["train", "test"])), draw(st.sampled_from(["data", "label", "cell", "whole"]))
    if kind == "whole":
        return course_file()
    content = draw(st.sampled_from(CONTENTS) | arrays())
    if kind == "cell" and content is not None:
        cells = np.empty((1, sum(COUNTS[part])), object)
        for i, (x, _) in enumerate(utterances(part)):
            cells[0, i] = x
        cells[0, draw(st.integers(0, 8))] = content
        return course_file(**{f"{part}_data": cells})
    return course_file(**{f"{part}_{'label' if kind == 'label' else 'data'}": content})


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # labels nan, which are then refused
@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_any_course_file(tmp_path, monkeypatch, fuzz):
    monkeypatch.setattr(load_vowels, "COURSE_COUNTS", {part: sum(sizes) for part, sizes in COUNTS.items()})

    def load(data):
        monkeypatch.setattr(load_vowels, "COURSE_SHA256", hashlib.sha256(data).hexdigest())  # taken for the course file
        return load_vowels.japanese_vowels(
            put(tmp_path / "japanese_vowels" / "JV_data.mat", data).parents[1], "full", course_file=True
        )

    def check(found):
        assert len(found.train) == 9 and len(found.test) == 10
        for part in (found.train, found.test):
            assert all(x.shape[1:] == (12,) and len(x) and torch.isfinite(x).all() for x in part.values)
            assert set(part.labels.tolist()) <= set(range(9))

    fuzz(course_files(), load, check)


# ---- stock movement --------------------------------------------------------------------------------------------------

ARCHIVE = {f"Adv-ALSTM-master/{name}": text for name, text in movement_archive.members().items()}


def check_movement(found):
    for part in (found.train, found.validation, found.test):
        size = len(part.y)
        assert part.x.shape == (size, 3, 11) and part.x.dtype == torch.float32 and torch.isfinite(part.x).all()
        assert size and set(part.y.tolist()) <= {0, 1} and len(part.dates) == len(part.tickers) == size
        assert (np.diff(part.dates) >= np.timedelta64(0)).all()
    assert found.train.dates[-1] < found.validation.dates[0] and found.validation.dates[-1] < found.test.dates[0]


@pytest.mark.parametrize("recompute", [False, True], ids=["features", "prices"])
def test_any_movement_archive(tmp_path, monkeypatch, fuzz, recompute):
    monkeypatch.setattr(load_movement, "MOVEMENT_SETS", movement_archive.SETS)
    members = [name for name in ARCHIVE if "stocknet" in name and ("raw" if recompute else "ourpped") in name]
    members.append(next(name for name in ARCHIVE if "stocknet" in name and "trading_dates" in name))
    files = changed_bytes(zipped(ARCHIVE)) | st.sampled_from(members).flatmap(
        lambda name: changed_text(ARCHIVE[name]).map(lambda data: zipped({**ARCHIVE, name: data}))
    )

    def load(data):
        put(tmp_path / "adv_alstm" / "Adv-ALSTM-master.zip", data)
        return load_movement.stock_movement(tmp_path, "acl18", "full", steps=3, recompute=recompute)

    fuzz(files, load, check_movement)


def test_any_folder_of_prices(tmp_path, fuzz):
    folder = tmp_path / "prices"
    put(folder / "BBB.csv", movement_archive.price_file(movement_archive.random_prices(1)).encode())
    american = movement_archive.price_file(movement_archive.random_prices(2), american=True)

    def load(data):
        put(folder / "AAA.csv", data)
        return load_movement.movement_of_prices(folder, steps=3)

    fuzz(changed_text(american), load, check_movement)


# ---- messages --------------------------------------------------------------------------------------------------------

WORDS = ("buy", "sell", "$250", "@joe", "https://a.b", "é", "!!!!", "")
MESSAGES = "".join(
    f'{i},"{WORDS[i % 8]} {WORDS[i // 8]}\n{i % 3}x",{("bearish", "bullish")[i % 2]}\n' for i in range(24)
)


def test_any_messages(tmp_path, fuzz):
    def load(data):
        return load_messages.labelled_messages(put(tmp_path / "file.csv", data), "message", "sentiment")

    def check(found):
        parts = [{load_messages.normalize(text) for text in part.texts} for part in found[:3]]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        for part in found[:3]:
            assert part.labels.shape == (len(part.texts),) and set(part.labels.tolist()) <= {0.0, 1.0}
            assert part.texts and all(load_messages.tokenize(text) for text in part.texts)
        assert len(found.classes) == 2

    plain = changed_text(f",message,sentiment\n{MESSAGES}")
    fuzz(plain | plain.map(lambda data: gzip.compress(data, mtime=0)), load, check)
