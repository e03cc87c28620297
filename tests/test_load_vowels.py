"""Japanese Vowels: every format, the counts, the order by length, the leak of the course file, damaged files."""

import hashlib
import random
import zipfile

import numpy as np
import pytest
import scipy.io
import torch

import load_data
from lstm_studies.loaders import vowels as load_vowels
from lstm_studies.loaders.files import SAMPLES, DataError
from lstm_studies.loaders.ts_files import Sequences, read_ts
from lstm_studies.loaders.vowels import COUNTS, japanese_vowels, read_blocks

HEADER = "#comment\n@dimensions 12\n@classLabel true 1 2 3 4 5 6 7 8 9\n@data\n"
SHA256 = {
    "TRAIN": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "TEST": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}


def numbers(steps, value):
    """Steps of 12 values: value + step + feature / 100."""
    return [[value + t + k / 100 for k in range(12)] for t in range(steps)]


def split(value=2.0):
    """A whole split: (steps, speaker) per utterance, each of its own values."""
    parts = {}
    for part, counts in COUNTS.items():
        labels = [speaker for speaker, count in enumerate(counts) for _ in range(count)]
        parts[part] = [(numbers(3 + i % 4, value + i), label) for i, label in enumerate(labels)]
    return parts


def ts(utterances):
    lines = [":".join(",".join(map(str, column)) for column in zip(*rows, strict=True)) for rows, _ in utterances]
    return HEADER + "".join(f"{line}:{label + 1}\n" for line, (_, label) in zip(lines, utterances, strict=True))


def blocks(utterances, end):
    return "".join("".join(" ".join(map(str, row)) + " \n" for row in rows) + end for rows, _ in utterances)


def write_split(data_dir, kind, parts):
    folder = data_dir / "japanese_vowels"
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "ts":
        for part, utterances in parts.items():
            (folder / f"JapaneseVowels_{part.upper()}.ts").write_text(ts(utterances))
        return
    end = " ".join(["1.0"] * 12) + "\n" if kind == "ones" else "\n"
    texts = {f"ae.{part}": blocks(utterances, end) for part, utterances in parts.items()}
    if kind == "zip":
        with zipfile.ZipFile(folder / "japanese+vowels.zip", "w") as archive:
            for name, text in {"../ae.train": "evil", **texts}.items():
                archive.writestr(name, text)
        return
    for name, text in texts.items():
        (folder / name).write_text(text)


def same(a, b):
    return torch.equal(a.labels, b.labels) and all(map(torch.equal, a.values, b.values)) and len(a) == len(b)


# ---- the data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["auto", "full", "sample"])
def test_the_bundled_copy_is_the_whole_uci_split(tmp_path, source):
    found = japanese_vowels(tmp_path, source)
    assert found.metadata == {"data": "full", "split": "UCI", "train": 270, "test": 370, "classes": 9}
    assert found.train.labels.bincount().tolist() == [30] * 9
    assert found.test.labels.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = torch.cat([found.train.lengths, found.test.lengths])
    assert lengths.min() == 7 and lengths.max() == 29
    train = {value.numpy().tobytes() for value in found.train.values}
    assert len(train) == 270 and not train & {value.numpy().tobytes() for value in found.test.values}
    for part, digest in SHA256.items():
        data = (SAMPLES / "japanese_vowels" / f"JapaneseVowels_{part}.ts").read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest


def test_the_first_utterance_is_as_in_the_file(tmp_path):
    values, labels, classes = read_ts(SAMPLES / "japanese_vowels" / "JapaneseVowels_TRAIN.ts")
    assert values[0].shape == (20, 12) and labels[0] == 0 and classes == tuple("123456789")
    assert values[0][:3, 0].tolist() == pytest.approx([1.860936, 1.891651, 1.939205])
    assert values[0][0, :2].tolist() == pytest.approx([1.860936, -0.207383])


@pytest.mark.parametrize("kind", ["blank", "ones", "zip"])
def test_all_formats_give_the_same(tmp_path, kind):
    write_split(tmp_path / "a", "ts", split())
    write_split(tmp_path / "b", kind, split())
    expected, found = japanese_vowels(tmp_path / "a"), japanese_vowels(tmp_path / "b")
    assert same(found.train, expected.train) and same(found.test, expected.test)
    bundled = japanese_vowels(tmp_path / "a", "sample")
    assert not same(expected.train, bundled.train)


def test_it_is_reached_through_load_data():
    assert load_data.japanese_vowels is load_vowels.japanese_vowels


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_utterances_stand_in_the_order_of_length_and_are_padded_per_batch():
    values = [torch.full((n, 12), float(n)) for n in (4, 2, 3, 2)]
    part = Sequences(values, torch.tensor([4, 2, 3, 1]))
    assert part.lengths.tolist() == [2, 2, 3, 4] and part.labels.tolist() == [2, 1, 3, 4]
    x, lengths, labels = part[torch.tensor([2, 0])]
    assert x.shape == (2, 3, 12) and lengths.tolist() == [3, 2] and labels.tolist() == [3, 2]
    assert x[0, :, 0].tolist() == [3, 3, 3] and x[1, :, 0].tolist() == [2, 2, 0]
    assert part.select(torch.tensor([3, 1])).lengths.tolist() == [2, 4]


def test_limit_keeps_utterances_of_all_speakers(tmp_path):
    found = japanese_vowels(tmp_path, limit=18)
    assert found.train.labels.bincount().tolist() == [2] * 9 and len(found.test) == 370
    assert found.metadata["train"] == 18
    assert len(japanese_vowels(tmp_path, limit=1000).train) == 270
    with pytest.raises(DataError, match="limit"):
        japanese_vowels(tmp_path, limit=0)


# ---- damage ----------------------------------------------------------------------------------------------------------


def fails(tmp_path, *expected, **options):
    with pytest.raises(DataError) as caught:
        japanese_vowels(tmp_path, **options)
    message = str(caught.value)
    assert "\n" not in message and all(text in message for text in expected), message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("2.0,3.0", "2.0,x", "'x'"),
        ("2.0,3.0", "2.0", "JapaneseVowels_TRAIN.ts"),
        ("2.0,3.0", "nan,3.0", "no missing values, found 'nan'"),
        ("2.0,3.0", "1e39,3.0", "found 1e+39"),
        (":1\n", ":10\n", "'10'"),
        (":1\n", ":2\n", "[29, 31"),
        (":1\n", ":\n", "a class out of 1, 2, 3, 4, 5, 6, 7, 8, 9, found ''"),
        ("@data\n", "", "line 4: expected a header"),
    ],
)
def test_a_damaged_ts_file(tmp_path, old, new, expected):
    write_split(tmp_path, "ts", split())
    path = tmp_path / "japanese_vowels" / "JapaneseVowels_TRAIN.ts"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    fails(tmp_path, path.name, expected)


def test_missing_parts_wrong_counts_and_odd_places(tmp_path):
    write_split(tmp_path, "ts", split())
    folder = tmp_path / "japanese_vowels"
    (folder / "JapaneseVowels_TEST.ts").unlink()
    fails(tmp_path, "JapaneseVowels_TEST.ts", "ae.test", "none")
    write_split(tmp_path / "b", "blank", {"train": split()["train"][1:], "test": split()["test"]})
    fails(tmp_path / "b", "270 blocks", "found 269")
    fails(tmp_path, "source", source="web")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "japanese_vowels").write_text("a file")
    fails(tmp_path / "c", "expected a folder")
    (tmp_path / "d" / "japanese_vowels" / "JapaneseVowels_TRAIN.ts").mkdir(parents=True)
    fails(tmp_path / "d", "found a folder")


def test_an_endless_utterance_is_refused(tmp_path):
    with pytest.raises(DataError, match="1000 steps"):
        read_blocks(tmp_path, blocks([(numbers(1001, 2.0), 0)], "\n").encode())


@pytest.mark.parametrize("kind", ["ts", "blank", "zip"])
def test_any_damage_is_a_data_error_or_the_whole_split(tmp_path, kind):
    """Cut short, bytes changed, lines shuffled: never another exception, never another count."""
    write_split(tmp_path, kind, split())
    path = sorted((tmp_path / "japanese_vowels").iterdir())[-1]
    data, rng = path.read_bytes(), random.Random(0)
    for _ in range(40):
        damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.5 else data)
        for _ in range(rng.randrange(1, 20)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            found = japanese_vowels(tmp_path)
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            assert len(found.train) == 270 and len(found.test) == 370
            assert all(torch.isfinite(value).all() for value in found.train.values + found.test.values)


# ---- the course file -------------------------------------------------------------------------------------------------


def course_file(monkeypatch, data_dir, **changes):
    """A file like JV_data.mat, taken for it, with 3 of its test utterances in the training part."""
    rng = np.random.default_rng(0)
    content = {}
    for part, count in load_vowels.COURSE_COUNTS.items():
        cells = np.empty((1, count), object)
        for i in range(count):
            cells[0, i] = np.zeros((10, 12))
            cells[0, i][: 4 + i % 5] = rng.normal(size=(4 + i % 5, 12))
        content |= {f"{part}_data": cells, f"{part}_label": np.arange(count)[None].astype(np.uint8) % 9}
    content["test_data"][0, 5:8] = content["train_data"][0, [5, 6, 7]]
    content["test_data"][0, 5] = content["test_data"][0, 5][:9]  # another padding of the same utterance
    folder = data_dir / "japanese_vowels"
    folder.mkdir(exist_ok=True)
    path = folder / "JV_data.mat"
    scipy.io.savemat(path, {**content, **changes})
    monkeypatch.setattr(load_vowels, "COURSE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_the_course_file_is_read_without_its_padding_and_names_its_leak(tmp_path, monkeypatch, capsys):
    course_file(monkeypatch, tmp_path)
    found = japanese_vowels(tmp_path, course_file=True)
    assert len(found.train) == 270 and len(found.test) == 351
    assert set(found.train.lengths.tolist()) == {4, 5, 6, 7, 8}
    assert found.metadata["leak"] == 3 and found.metadata["split"] == "course file"
    message = capsys.readouterr().err
    assert message.startswith("NOTICE: 3 of the 351 test sequences of JV_data.mat")


@pytest.mark.parametrize(
    "changes",
    [
        {"train_label": np.arange(270)[None]},
        {"train_label": np.zeros((1, 269))},
        {"test_data": np.zeros((3, 4))},
        {"test_data": "text"},
        {"train_data": np.array([[np.zeros((10, 12))] * 270 + [None]], object)[:, :270]},
    ],
)
def test_a_mistyped_course_file(tmp_path, monkeypatch, changes):
    course_file(monkeypatch, tmp_path, **changes)
    fails(tmp_path, "JV_data.mat", course_file=True)


def test_a_damaged_or_absent_course_file(tmp_path, monkeypatch):
    fails(tmp_path, "JV_data.mat", course_file=True)
    path = course_file(monkeypatch, tmp_path)
    data = path.read_bytes()
    for damaged in (b"", data[:-1], data + b" ", bytes([data[0] ^ 1]) + data[1:]):
        path.write_bytes(damaged)
        fails(tmp_path, "JV_data.mat", "expected the course file, sha256", course_file=True)
