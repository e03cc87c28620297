"""Files in the .ts format: any classes and features, lengths, what is refused; folds and batches."""

import random

import pytest
import torch

from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.ts_files import Sequences, Split, fresh_split, read_ts, stratified_folds, ts_split

HEADER = "%s\n@problemName Steps\n@timeStamps false\n@missing false\n@dimensions 2\n@classLabel true up down\n@data\n"
LINES = ["1,2,3:4,5,6:up", "1.5:-2:down", "0,0:1e2,1:up"]


def write(path, lines=LINES, header=HEADER % "# a comment\n% of another kind"):
    path.write_text(header + "\n".join(lines) + "\n")
    return path


def test_a_file_by_hand(tmp_path):
    values, labels, classes = read_ts(write(tmp_path / "a.ts"))
    assert classes == ("up", "down") and labels.tolist() == [0, 1, 0]
    assert [value.tolist() for value in values] == [
        [[1, 4], [2, 5], [3, 6]],
        [[1.5, -2]],
        [[0, 100], [0, 1]],
    ]
    assert values[0].dtype == torch.float32


def test_header_lines_may_be_missing_or_in_other_case(tmp_path):
    """The names of classes are then those of the lines, numbers by value."""
    path = write(tmp_path / "a.ts", ["1:10", "2:9", "3:b", "4:a"], "@DATA\n")
    values, labels, classes = read_ts(path)
    assert classes == ("9", "10", "a", "b") and labels.tolist() == [1, 0, 3, 2] and values[0].shape == (1, 1)


def test_a_file_without_classes(tmp_path):
    path = write(tmp_path / "a.ts", ["1,2:3,4", "5:6"], "@classLabel false\n@data\n")
    values, labels, classes = read_ts(path)
    assert labels is None and classes == () and [len(value) for value in values] == [2, 1]
    with pytest.raises(DataError, match=r"a\.ts: expected sequences with a class"):
        ts_split(path, path)


@pytest.mark.parametrize(
    ("lines", "header", "expected"),
    [
        (["1,?,3:4,5,6:up"], None, "line 8: expected no missing values, found '?'"),
        (["1,2:4,NaN:up"], None, "found 'NaN'"),
        (["1,2,3:4,5:up"], None, "line 8: expected 1 to 100000 values of every feature, found [2, 3]"),
        (["1,2:up"], None, "same number of features in every line, found [1, 2]"),
        (["1,2:3,4:5,6:up", *LINES], None, "found [2, 3]"),
        (["1,x:3,4:up"], None, "line 8: expected numbers"),
        (["1,2:3,1e16:up"], None, "line 8: expected values below 1e+15, found 1e+16 in step 2 of feature 2"),
        (["1,2:3,4:left"], None, "line 8: expected a class out of up, down, found 'left'"),
        (["(0,1),(1,2):up"], "@timestamps TRUE\n@data\n", "without time stamps"),
        (["1,2:0.5"], "@targetlabel true\n@data\n", "not regression targets"),
        (["1:up"], "@dimensions two\n@data\n", "after @dimensions, found 'two'"),
        (["1:up"], "@classLabel maybe\n@data\n", "found 'maybe'"),
        (["1:up"], "@classLabel true up up\n@data\n", "distinct names"),
        (["1:up"], "@data\n\n", None),
        ([], "@data\n", "no sequence after"),
        (["1:up"], "", "line 1: expected a header"),
        ([], "@dimensions 2\n", "no line @data"),
    ],
)
def test_what_is_refused(tmp_path, lines, header, expected):
    path = write(tmp_path / "a.ts", lines, HEADER % "#" if header is None else header)
    if expected is None:
        assert len(read_ts(path).values) == 1
        return
    with pytest.raises(DataError) as caught:
        read_ts(path)
    message = str(caught.value)
    assert "a.ts" in message and expected in message and "\n" not in message, message


def test_any_damage_is_a_data_error_or_finite_sequences(tmp_path):
    path = write(tmp_path / "a.ts", LINES * 4)
    data, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)
        for _ in range(rng.randrange(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            values, labels, classes = read_ts(path)
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            assert all(torch.isfinite(value).all() and value.dim() == 2 for value in values)
            assert labels is None or labels.max() < len(classes)


def test_a_split_of_ones_own(tmp_path):
    train, test = write(tmp_path / "T_TRAIN.ts"), write(tmp_path / "T_TEST.ts", ["2e9,3:4,5:up", "6:7:down"])
    split = ts_split(train, test)
    assert split.classes == ("up", "down") and split.train.lengths.tolist() == [1, 2, 3]
    assert split.metadata == {
        "data": "own", "split": "T_TRAIN.ts, T_TEST.ts", "train": 3, "test": 2, "classes": 2
    }  # fmt: skip
    assert split.test.values[1].tolist() == [[2e9, 4], [3, 5]]
    assert len(ts_split(train, test, limit=2).train) == 2
    write(test, ["1,2:up"], "@classLabel true up down\n@data\n")
    with pytest.raises(DataError, match=r"T_TEST.ts: expected 2 features per step as in .*T_TRAIN.ts, found 1"):
        ts_split(train, test)
    write(test, ["1,2:1,2:up"], "@classLabel true down up\n@data\n")
    with pytest.raises(DataError, match="expected the classes of"):
        ts_split(train, test)


def test_test_sequences_that_are_in_the_training_file_are_counted(tmp_path, capsys):
    train, test = write(tmp_path / "train.ts"), write(tmp_path / "test.ts", [LINES[1], "9:9:up"])
    for file, expected in ((train, "3 of the 3 test sequences of train.ts"), (test, "1 of the 2 test sequences of")):
        split = ts_split(train, file)
        assert split.metadata["leak"] == int(expected[0]) and split.metadata["notice"].startswith(expected)
        assert f"NOTICE: {expected}" in capsys.readouterr().err


def test_one_class_is_nothing_to_tell_apart(tmp_path):
    test = write(tmp_path / "test.ts")
    train = write(tmp_path / "train.ts", [LINES[0], LINES[2]])  # the header names a second one
    with pytest.raises(DataError, match=r"train.ts: expected at least two classes to tell apart, found up"):
        ts_split(train, test)


# ---- folds and batches -----------------------------------------------------------------------------------------------


def sequences(lengths):
    return Sequences([torch.full((n, 1), float(n)) for n in lengths], torch.zeros(len(lengths), dtype=torch.long))


def test_fresh_splits_move_the_test_part_of_each_class_through_its_sequences():
    """Class 0 has the values 0 to 4, class 1 5 to 10; two and three of them are test sequences, at first the last."""
    train = Sequences(
        [torch.full((9 - i % 3, 1), float(i)) for i in (0, 1, 2, 5, 6, 7)], torch.tensor([0, 0, 0, 1, 1, 1])
    )
    test = Sequences([torch.full((i % 2 + 1, 1), float(i)) for i in (3, 4, 8, 9, 10)], torch.tensor([0, 0, 1, 1, 1]))
    data = Split(train, test, ("a", "b"), {"data": "own"})
    expected = {0: {0, 1, 5, 6, 7}, 1: {2, 3, 7, 8, 9}, 2: {3, 4, 8, 9, 10}}  # of 2: the split as it is
    numbers = set()
    for which, values in expected.items():
        split, of_test = fresh_split(data, which, 2)
        assert {value[0, 0].item() for value in split.test.values} == values
        assert {value[0, 0].item() for value in split.train.values} == {*range(11)} - values
        assert split.test.labels.tolist() == [int(value[0, 0] >= 5) for value in split.test.values]
        numbers |= {
            (number, value[0, 0].item()) for number, value in zip(of_test.tolist(), split.test.values, strict=True)
        }
    assert len(numbers) == len({number for number, _ in numbers})  # one number for each sequence in all splits


def test_every_class_is_spread_over_the_folds():
    labels = torch.tensor([0] * 7 + [1] * 10 + [2] * 5)
    folds = stratified_folds(labels, 5, seed=0)
    for label, sizes in ((0, [1, 1, 1, 2, 2]), (1, [2] * 5), (2, [1] * 5)):
        assert sorted(folds[labels == label].bincount(minlength=5).tolist()) == sizes
    assert torch.equal(folds, stratified_folds(labels, 5, seed=0))
    assert not torch.equal(folds, stratified_folds(labels, 5, seed=1))


def test_batches_hold_everything_once_have_similar_lengths_and_change_from_epoch_to_epoch():
    data = sequences(range(1, 41))
    epochs = [data.batches_by_length(2.0, len(data), 8, torch.Generator().manual_seed(s)) for s in range(2)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [8] * 5
        assert sorted(torch.cat(batches).tolist()) == list(range(40))
        assert all(batch.max() - batch.min() <= 8 + 2 * 2 for batch in batches)
    sets = [{frozenset(batch.tolist()) for batch in batches} for batches in epochs]
    assert sets[0] != sets[1]
    sorted_once = data.batches_by_length(0.0, len(data), 8, torch.Generator().manual_seed(0))
    assert {frozenset(batch.tolist()) for batch in sorted_once} == {frozenset(range(i, i + 8)) for i in range(0, 40, 8)}


@pytest.mark.parametrize(("batch_size", "sizes"), [(5, [5, 6]), (10, [11]), (11, [11]), (4, [3, 4, 4]), (1, [1] * 11)])
def test_no_batch_of_one_sequence_is_left_over(batch_size, sizes):
    data = sequences(range(1, 12))
    batches = data.batches_by_length(1.0, len(data), batch_size, torch.Generator().manual_seed(0))
    assert sorted(map(len, batches)) == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(11))
