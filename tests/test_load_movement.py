"""Samples of stock movement against hand-computed tables, a miniature of the archive, and damaged files."""

import hashlib
import os
import random
import zipfile
from pathlib import Path

import movement_archive
import numpy as np
import pytest
import torch
from conftest import fails
from movement_archive import DAYS, day, price_file, random_prices, write_archive

import load_data
from adv_alstm import AdvALSTM
from lstm_studies.loaders import movement as load_movement
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.movement import archive_table, movement_of_prices, movement_table, price_table, stock_movement
from lstm_studies.loaders.movement_samples import (
    MovementTable,
    latest_windows,
    movement_features,
    quarters_before,
    split_samples,
    window_samples,
)
from lstm_studies.loaders.published_alstm import published_variables, variable_shapes
from lstm_studies.models.published_alstm import convert_published

REAL = Path(os.environ.get("DATA_DIR", "data"))
NAN = float("nan")


@pytest.fixture(autouse=True)
def miniature(monkeypatch):
    """The sizes and dates of the miniature archive; the public address leads to a port that refuses."""
    monkeypatch.setattr(load_movement, "MOVEMENT_SETS", movement_archive.SETS)
    monkeypatch.setattr(load_movement, "MOVEMENT_URL", "http://127.0.0.1:9/archive.zip")
    monkeypatch.setenv("no_proxy", "*")


def test_the_quarters_before_a_day():
    day = np.datetime64("2015-11-17")
    assert quarters_before(day, 2) == [
        ("2015-01-01", "2015-04-01", "2015-06-30"),
        ("2015-04-01", "2015-07-01", "2015-09-30"),
    ]
    assert quarters_before(np.datetime64("2015-10-01"), 2) == quarters_before(day, 2)
    assert quarters_before(np.datetime64("2016-01-04"), 1) == [("2015-07-01", "2015-10-01", "2015-12-31")]


# ---- features and labels ---------------------------------------------------------------------------------------------


def test_features_and_labels_by_hand():
    prices = np.array(
        [  # open, high, low, close, adjusted close
            [10.0, 12.0, 8.0, 10.0, 5.0],
            [11.0, 22.0, 10.0, 20.0, 5.028],  # + 0.56 %
            [30.0, 48.0, 20.0, 40.0, 5.002],  # - 0.517 %
            [40.0, 40.0, 40.0, 40.0, 5.027],  # + 0.4998 %
            [38.0, 44.0, 36.0, 40.0, 5.0],
        ]
    )
    values = movement_features(prices)
    assert values.shape == (5, 13)
    expected = {  # open, high, low over close, close, adjusted close; percent
        0: (0.0, 20.0, -20.0, NAN, NAN),
        1: (-45.0, 10.0, -50.0, 100.0, 0.56),
        2: (-25.0, 20.0, -50.0, 100.0, -0.5171),
        3: (0.0, 0.0, 0.0, 0.0, 0.4998),
        4: (-5.0, 10.0, -10.0, 0.0, -0.5371),
    }
    for row, numbers in expected.items():
        np.testing.assert_allclose(values[row, :5], numbers, atol=1e-4)
    mean = (5.0 + 5.028 + 5.002 + 5.027 + 5.0) / 5
    np.testing.assert_allclose(values[4, 5], 100 * (mean / 5 - 1))
    assert np.isnan(values[:4, 5]).all() and np.isnan(values[:, 6:11]).all()
    np.testing.assert_array_equal(values[:, 11], [NAN, 1, -1, 0, -1])
    np.testing.assert_array_equal(values[:, 12], prices[:, 4])


@pytest.mark.parametrize(("change", "label"), [(0.5501, 1), (0.5499, 0), (0, 0), (-0.4999, 0), (-0.5001, -1)])
def test_returns_between_the_thresholds_have_no_label(change, label):
    prices = np.full((2, 5), 100.0)
    prices[1, 4] += change
    assert movement_features(prices)[1, 11] == label


@pytest.mark.parametrize(("before", "after", "label"), [(38.0, 37.81, -1), (70.0, 69.65, -1), (300.0, 301.65, 1)])
def test_a_return_on_the_threshold_has_its_label(before, after, label):
    """Though 37.81 / 38 - 1 is not quite -.005 in binary numbers."""
    assert movement_features(np.repeat([[before], [after]], 5, 1))[1, 11] == label


def test_averages_by_hand():
    adjusted = np.arange(1.0, 41.0)
    values = movement_features(np.stack([adjusted] * 5, 1))
    for column, days in zip(range(5, 11), (5, 10, 15, 20, 25, 30), strict=True):
        assert np.isnan(values[days - 2, column])
        assert values[39, column] == pytest.approx(100 * ((40 - (days - 1) / 2) / 40 - 1))
    assert np.isfinite(values[29]).all() and np.isnan(values[28]).any()


# ---- windows ---------------------------------------------------------------------------------------------------------


def small_table():
    """Two stocks, six dates; feature f of stock s on day d is 100 s + 10 d + f. Stock 1 has no row on day 2."""
    features = 100.0 * np.arange(2)[:, None, None] + 10.0 * np.arange(6)[:, None] + np.arange(11)
    labels = np.array([[1, -1, 0, 1, -1, 1], [1, 1, NAN, -1, 1, -1.0]])
    features[1, 2] = NAN
    dates = np.array([f"2020-01-0{k}" for k in range(1, 7)], "datetime64[D]")
    return MovementTable(["A", "B"], dates, features, labels, np.ones((2, 6)))


def test_windows_by_hand():
    part = window_samples(small_table(), 0, 6, 2)
    # stock A: days 3, 4, 5 (day 2 has label 0); B: the windows of days 3 and 4 hold day 2, which is missing
    assert [str(date) for date in part.dates] == ["2020-01-04", "2020-01-05", "2020-01-06", "2020-01-06"]
    assert part.tickers.tolist() == ["A", "A", "A", "B"]
    assert part.y.tolist() == [1, 0, 1, 0] and part.y.dtype == torch.int64
    assert part.x.shape == (4, 2, 11) and part.x.dtype == torch.float32
    assert part.x[:, :, 0].tolist() == [[10, 20], [20, 30], [30, 40], [130, 140]]  # the days before the date
    assert part.x[3, 1].tolist() == [140 + f for f in range(11)]


def test_a_window_may_reach_back_before_its_part():
    part = window_samples(small_table(), 4, 6, 3)
    assert part.x[:, :, 0].tolist() == [[10, 20, 30], [20, 30, 40]]


def test_a_label_day_needs_no_features_of_its_own():
    """Features of day t are not known before its close: the sample of day t does not ask for them."""
    table = small_table()
    table.features[0, 5] = NAN
    assert "A" in window_samples(table, 5, 6, 2).tickers


def test_no_sample_sees_its_own_day_or_a_later_one():
    table, t = small_table(), 3
    before = window_samples(table, 0, 6, 2)
    table.features[:, t] += 1000
    after = window_samples(table, 0, 6, 2)
    changed = (before.x != after.x).flatten(1).any(1).numpy()
    assert changed.tolist() == (before.dates > table.dates[t]).tolist() and changed.any()


def test_latest_windows_include_the_one_whose_day_is_to_come():
    part = latest_windows(small_table(), 2)
    assert part.y.tolist() == [-1] * 8
    last = part.dates == np.datetime64("2020-01-06")
    assert part.tickers[last].tolist() == ["A", "B"] and part.x[last][:, :, 0].tolist() == [[40, 50], [140, 150]]
    assert (part.tickers == "B").sum() == 3
    fails("1 to 6 days", latest_windows, small_table(), 7)


def test_split_by_dates_and_its_errors():
    facts, table = {"file": "prices"}, small_table()
    dates = ("2020-01-01", "2020-01-05", "2020-01-06", None)
    data = split_samples(table, dates, 1, None, facts)
    assert [str(part.dates[0])[-2:] for part in data[:3]] == ["02", "05", "06"]
    assert (data.metadata["train"], data.metadata["validation"], data.metadata["test"]) == (3, 2, 2)
    assert data.metadata["train_up"] == pytest.approx(2 / 3) and data.metadata["missing_rows"] == 0
    limited = split_samples(table, dates, 1, 2, facts)
    assert torch.equal(limited.train.x, data.train.x[:2]) and limited.metadata["train"] == 2
    wrong = ("2020-01-01", "2020-01-06", "2020-01-05", None)
    fails(["prices", "2020-01-01 to 2020-01-06", "2020-01-05"], split_samples, table, wrong, 1, None, facts)
    dates = ("2020-01-01", "2020-01-04", "2020-01-06", None)
    fails("1 to 5 days per window, found 6", split_samples, table, dates, 6, None, facts)
    fails("samples in the train part", split_samples, table, dates, 3, None, facts)
    fails(["prices", "'soon'"], split_samples, table, ("2020-01-01", "soon", "2020-01-06", None), 1, None, facts)


def test_the_last_date_of_all():
    facts, table = {"file": "prices"}, small_table()
    data = split_samples(table, ("2020-01-01", "2020-01-04", "2020-01-05", "2020-01-05"), 1, None, facts)
    assert [str(date)[-2:] for date in data.test.dates] == ["05", "05"]
    data = split_samples(table, ("2020-01-04", "2020-01-05", "2020-01-06", "2020-02-01"), 1, None, facts)
    assert data.metadata["train"] == 1 and [str(date)[-2:] for date in data.test.dates] == ["06", "06"]
    early = ("2020-01-01", "2020-01-04", "2020-01-05", "2020-01-04")
    fails("end on 2020-01-04", split_samples, table, early, 1, None, facts)


# ---- archive ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", movement_archive.SETS)
def test_archive_features_and_raw_prices_agree(tmp_path, name):
    path = write_archive(tmp_path)
    read, made = archive_table(path, name), archive_table(path, name, recompute=True)
    assert read.tickers == made.tickers == sorted(read.tickers)
    np.testing.assert_array_equal(read.dates, made.dates)
    np.testing.assert_array_equal(read.labels, made.labels)
    np.testing.assert_allclose(made.features, read.features, atol=1e-3)
    assert np.isfinite(read.features).mean() > 0.8
    both = [stock_movement(tmp_path, name, recompute=way, steps=3) for way in (False, True)]
    assert both[0].metadata == both[1].metadata
    for part, other in zip(both[0][:3], both[1][:3], strict=True):
        assert torch.equal(part.y, other.y) and (part.dates == other.dates).all()
        assert (part.tickers == other.tickers).all()
        torch.testing.assert_close(part.x, other.x, atol=1e-3, rtol=0)


def test_archive_samples_are_counted_and_sorted(tmp_path):
    write_archive(tmp_path)
    data = stock_movement(tmp_path, "acl18", steps=5)
    assert data.metadata["data"] == "full" and data.metadata["file"] == "Adv-ALSTM-master.zip"
    assert (data.metadata["stocks"], data.metadata["days"]) == (4, DAYS)
    assert data.metadata["missing_rows"] == 20 + 29  # of LATE, before it has 30 closes
    for name, part in zip(("train", "validation", "test"), data, strict=False):
        assert len(part.x) == len(part.y) == len(part.dates) == len(part.tickers) == data.metadata[name] > 30
        keys = list(zip(part.dates.tolist(), part.tickers.tolist(), strict=True))
        assert keys == sorted(keys) and len(set(keys)) == len(keys)
        assert set(part.y.tolist()) == {0, 1} and torch.isfinite(part.x).all()
    assert str(data.validation.dates[0]) >= "2013-02-20" > str(data.train.dates[-1])
    late = [part.dates[part.tickers == "LATE"] for part in data[:3]]
    assert str(min(np.concatenate(late))) >= str(day(20 + 29 + 5))


def test_load_data_has_the_loader():
    assert load_data.stock_movement is stock_movement


@pytest.mark.parametrize("root", ["", "other-name/", "Adv-ALSTM-3d6c3dc/"])
def test_the_root_folder_has_any_name(tmp_path, root):
    path = write_archive(tmp_path)
    expected = archive_table(path, "kdd17")
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        for name, content in movement_archive.members().items():
            archive.writestr(root + name, content)
    np.testing.assert_array_equal(archive_table(other, "kdd17").features, expected.features)


@pytest.mark.parametrize("name", ["Adv-ALSTM-master", "Adv-ALSTM"])
def test_an_unpacked_archive_is_read_like_the_packed_one(tmp_path, name):
    path = write_archive(tmp_path)
    expected = [stock_movement(tmp_path, "kdd17", recompute=way, steps=3) for way in (False, True)]
    variables = published_variables(tmp_path, "kdd17")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "adv_alstm")
    path.unlink()
    (tmp_path / "adv_alstm" / "Adv-ALSTM-master").rename(tmp_path / "adv_alstm" / name)
    for way, packed in zip((False, True), expected, strict=True):
        unpacked = stock_movement(tmp_path, "kdd17", recompute=way, steps=3)
        assert torch.equal(unpacked.train.x, packed.train.x) and unpacked.metadata["file"] == name
    for key, values in published_variables(tmp_path, "kdd17").items():
        assert torch.equal(values, variables[key])
    (tmp_path / "adv_alstm" / name / "data" / "kdd17" / "ourpped" / "YY.csv").unlink()
    fails("found 2", stock_movement, tmp_path, "kdd17")


FOLDER = "data/kdd17"


def changed_line(number, text):
    """YY's features with one line replaced."""
    lines = movement_archive.members()[f"{FOLDER}/ourpped/YY.csv"].splitlines()
    lines[number - 1] = text
    return {f"{FOLDER}/ourpped/YY.csv": "\n".join(lines) + "\n"}


ROW = ["1.0"] * 11 + ["1.0", "20.0"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({f"{FOLDER}/ourpped/YY.csv": None}, ["3 files", "ourpped", "found 2"]),
        ({f"{FOLDER}/ourpped/A/B.csv": "", f"{FOLDER}/ourpped/YY.csv": None}, ["found 2"]),
        ({f"{FOLDER}/ourpped/YY.csv": ""}, ["YY.csv", "90 rows of 13 numbers"]),
        ({f"{FOLDER}/ourpped/YY.csv": b"\xff\xfe\x00"}, ["YY.csv", "90 rows of 13 numbers"]),
        ({f"{FOLDER}/ourpped/YY.csv": "1,2\n" * 90}, ["YY.csv", "(90, 2)"]),
        ({f"{FOLDER}/ourpped/YY.csv": "1,2\n" * 500}, ["YY.csv", "90 rows", "more"]),
        (changed_line(50, ",".join(ROW[:-1])), ["YY.csv", "13 numbers"]),
        (changed_line(50, ",".join(["up", *ROW[1:]])), ["YY.csv", "'up'"]),
        (changed_line(50, ",".join(["nan", *ROW[1:]])), ["YY.csv, line 50"]),
        (changed_line(50, ",".join(["1e9", *ROW[1:]])), ["YY.csv, line 50"]),
        (changed_line(50, ",".join([*ROW[:11], "0.5", "20"])), ["YY.csv, line 50", "label -1, 0 or 1"]),
        (changed_line(50, ",".join([*ROW[:12], "-1"])), ["YY.csv, line 50", "adjusted close above 0"]),
        ({f"{FOLDER}/trading_dates.csv": None}, ["trading_dates.csv"]),
        ({f"{FOLDER}/trading_dates.csv": "2013-01-01\n" * 90}, ["trading_dates.csv", "90 ascending dates"]),
        ({f"{FOLDER}/trading_dates.csv": "2013-01-01\n2013-01-02\n"}, ["trading_dates.csv", "found 2"]),
        ({f"{FOLDER}/trading_dates.csv": "first\n"}, ["trading_dates.csv", "'first'"]),
        ({f"{FOLDER}/trading_dates.csv": b"\xff"}, ["trading_dates.csv"]),
    ],
)
def test_damaged_archives(tmp_path, changed, expected):
    path = write_archive(tmp_path, changed)
    fails([str(path), *expected], stock_movement, tmp_path, "kdd17")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut short", b"<!doctype html>", os.urandom(2000)])
def test_not_an_archive(tmp_path, data):
    path = write_archive(tmp_path)
    path.write_bytes(data)
    fails(str(path), stock_movement, tmp_path)


def test_an_archive_cut_or_damaged_at_random(tmp_path):
    path = write_archive(tmp_path)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(15):
        path.write_bytes(whole[: rng.randrange(len(whole))])
        fails(str(path), stock_movement, tmp_path, "kdd17")
    path.write_bytes(whole)
    expected, damaged = stock_movement(tmp_path, "kdd17").train.x, 0
    for _ in range(15):
        content = bytearray(whole)
        for _ in range(20):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(bytes(content))
        try:
            assert torch.equal(stock_movement(tmp_path, "kdd17").train.x, expected)  # only what is not read was hit
        except DataError:
            damaged += 1
    assert damaged > 5


@pytest.mark.parametrize("dataset", movement_archive.SETS)
def test_six_bundled_stocks_stand_in_for_the_archive(tmp_path, capsys, dataset):
    data = stock_movement(tmp_path, dataset, "sample")
    assert not any(tmp_path.iterdir())  # neither read nor written
    metadata = data.metadata
    assert (metadata["data"], metadata["dataset"], metadata["stocks"], metadata["days"]) == (
        "sample",
        "sample",
        6,
        2699,
    )
    assert metadata["adjusted_column"] == "Close" and len(data.train.y) > 7000 and len(data.test.y) > 1500
    assert capsys.readouterr().err == ""
    fallen_back = stock_movement(tmp_path, dataset)
    assert torch.equal(fallen_back.test.x, data.test.x) and fallen_back.metadata["data"] == "sample"
    assert "NOTICE: Adv-ALSTM-master.zip is missing" in capsys.readouterr().err
    assert movement_table(dataset, tmp_path, "sample").tickers == ["AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA"]
    fails(["archive", "sample"], published_variables, tmp_path, "acl18", "sample")


def test_no_archive_and_no_network(tmp_path):
    fails(["Adv-ALSTM-master.zip", "http://127.0.0.1:9"], stock_movement, tmp_path, source="full")
    assert not any((tmp_path / "adv_alstm").iterdir())
    fails(["acl18, kdd17", "'acl19'"], stock_movement, tmp_path, "acl19")
    (tmp_path / "adv_alstm").rmdir()
    (tmp_path / "adv_alstm").write_text("a file")
    fails("expected a folder", stock_movement, tmp_path)


def test_download_is_checked(tmp_path, monkeypatch):
    source = write_archive(tmp_path / "whole")
    monkeypatch.setattr(load_movement, "MOVEMENT_URL", source.as_uri())
    fails(["expected content of digest", "put there by hand"], stock_movement, tmp_path, "kdd17", "full")
    digest = hashlib.sha256(load_movement.archive_content(source)).hexdigest()
    monkeypatch.setattr(load_movement, "MOVEMENT_SHA256", digest)
    assert stock_movement(tmp_path, "kdd17").metadata["data"] == "full"
    broken = write_archive(tmp_path / "broken", {"data/kdd17/ourpped/XX.csv": None})
    monkeypatch.setattr(load_movement, "MOVEMENT_URL", broken.as_uri())
    elsewhere = tmp_path / "whole" / "adv_alstm"  # any folder without the archive
    fails("found 2", stock_movement, elsewhere, source="full")


# ---- one's own prices ------------------------------------------------------------------------------------------------


def write_prices(folder, stocks=3, **more):
    for i in range(stocks):
        (folder / f"S{i}.csv").write_text(price_file(random_prices(i, **more)))


def test_a_folder_of_prices(tmp_path):
    write_prices(tmp_path)
    data = movement_of_prices(tmp_path, steps=4)
    assert data.metadata["data"] == "own" and data.metadata["stocks"] == 3 and data.metadata["days"] == DAYS + 43
    starts = [day(-40 + int((DAYS + 43) * share)) for share in (0.7, 0.85)]
    assert [part.dates[0] >= start for part, start in zip(data[1:3], starts, strict=True)] == [True, True]
    assert data.train.dates[-1] < np.datetime64(starts[0]) and data.validation.dates[-1] < np.datetime64(starts[1])
    chosen = movement_of_prices(tmp_path, 4, "2013-02-01", "2013-03-01")
    assert str(chosen.validation.dates[0]) >= "2013-02-01" > str(chosen.train.dates[-1])
    assert str(chosen.test.dates[0]) >= "2013-03-01" > str(chosen.validation.dates[-1])
    fails("one after another", movement_of_prices, tmp_path, 4, "2013-03-01", "2013-02-01")
    fails("2013-13-01", movement_of_prices, tmp_path, 4, "2013-13-01")


def test_prices_of_a_day_reach_no_sample_of_that_day_or_before(tmp_path):
    rows, t = random_prices(0), 60
    (tmp_path / "A.csv").write_text(price_file(rows))
    before = latest_windows(price_table(tmp_path), 3)
    rows[t] = tuple(price * 1.1 for price in rows[t])
    (tmp_path / "A.csv").write_text(price_file(rows))
    after = latest_windows(price_table(tmp_path), 3)
    changed = (before.x != after.x).flatten(1).any(1).numpy()
    # a window that ends on day k predicts day k + 1: the first one that changes predicts day t + 1
    ends = before.dates.astype(object)
    assert not changed[ends < day(t)].any() and changed[ends == day(t)].all()


def test_stocks_with_other_dates(tmp_path):
    rows = random_prices(0)
    (tmp_path / "A.csv").write_text(price_file(rows))
    del rows[50]
    (tmp_path / "B.csv").write_text(price_file(rows))
    table = price_table(tmp_path)
    hole = int(np.flatnonzero(table.dates == np.datetime64(day(50)))[0])
    assert np.isnan(table.features[1, hole]).all() and np.isfinite(table.features[0, hole]).all()
    part = window_samples(table, 0, len(table.dates), 3)
    of_b = part.dates[part.tickers == "B"]
    assert not set(of_b) & {np.datetime64(day(k)) for k in (50, 51, 52, 53)}


def test_a_folder_too_large_to_build(tmp_path, monkeypatch):
    write_prices(tmp_path)
    monkeypatch.setattr(load_movement, "MAX_VALUES", 5000)
    fails([str(tmp_path), "at most 5000 values", "3 stocks on 133 dates"], movement_of_prices, tmp_path)


def test_too_few_days(tmp_path):
    (tmp_path / "A.csv").write_text(price_file(random_prices(0, first=80)))  # too short for any average of 30 days
    fails("samples in the train part", movement_of_prices, tmp_path)


# ---- published weights -----------------------------------------------------------------------------------------------


def test_variables_of_the_published_alstms(tmp_path):
    write_archive(tmp_path)
    for dataset, units in (("acl18", 4), ("kdd17", 16)):
        variables, expected = published_variables(tmp_path, dataset), movement_archive.variables(units)
        assert {name: tuple(values.shape) for name, values in variables.items()} == variable_shapes(units)
        for name, values in variables.items():
            np.testing.assert_array_equal(values, expected[name])
    fails("acl18, kdd17", published_variables, tmp_path, "acl19")


ARRAY, DATA = "saved_model/acl18_alstm/exp.in_fc|bias:0.npy", "saved_model/kdd17_alstm/model.data-00000-of-00001"


@pytest.mark.parametrize(
    ("dataset", "name", "content", "expected"),
    [
        ("acl18", ARRAY, None, ["in_fc|bias"]),
        ("acl18", ARRAY, b"", ["in_fc/bias", "array of NumPy"]),
        ("acl18", ARRAY, movement_archive.npy(np.zeros(12, "f4")), ["in_fc/bias", "(11,)", "(12,)"]),
        ("acl18", ARRAY, movement_archive.npy(np.full(11, np.nan, "f4")), ["in_fc/bias", "finite"]),
        ("acl18", ARRAY, movement_archive.npy(np.array([{}] * 11)), ["in_fc/bias"]),
        ("acl18", ARRAY, movement_archive.npy(np.array(["a"] * 11)), ["in_fc/bias"]),
        ("kdd17", DATA, None, ["model.data-00000-of-00001"]),
        ("kdd17", DATA, b"\0" * 26944, ["expected 26948 bytes, found 26944"]),
        ("kdd17", DATA, b"\xff" * 26948, ["finite"]),
    ],
)
def test_damaged_weights(tmp_path, dataset, name, content, expected):
    path = write_archive(tmp_path, {name: content})
    fails([str(path), *expected], published_variables, tmp_path, dataset)


# ---- real files ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not any(REAL.glob("adv_alstm/*.zip")), reason="DATA_DIR has no archive of stock movement")
@pytest.mark.parametrize(
    ("name", "steps", "counts", "missing", "up"),
    [
        ("acl18", 5, (20315, 2555, 3720), 758, 0.5129),
        ("kdd17", 15, (64307, 8070, 7398), 1450, 0.5285),
    ],
)
def test_real_archive(monkeypatch, name, steps, counts, missing, up):
    monkeypatch.undo()
    data = stock_movement(REAL, name, "full", steps)
    assert tuple(len(part.y) for part in data[:3]) == counts
    assert data.metadata["missing_rows"] == missing and data.metadata["test_up"] == pytest.approx(up, abs=5e-5)
    path = REAL / "adv_alstm" / data.metadata["file"]
    assert hashlib.sha256(load_movement.archive_content(path)).hexdigest() == load_movement.MOVEMENT_SHA256
    read, made = archive_table(path, name), archive_table(path, name, recompute=True)
    np.testing.assert_array_equal(made.labels, read.labels)
    np.testing.assert_allclose(made.features, read.features, atol=1e-6)


PARITY = {  # of the authors' training logs: validation and test accuracy, test MCC; largest difference of their scores
    "acl18": (5, 0.554990, 0.537097, 0.093761, 2e-6),
    "kdd17": (15, 0.515737, 0.528656, 0.044853, 5e-5),
}


@pytest.mark.skipif(not any(REAL.glob("adv_alstm/*.zip")), reason="DATA_DIR has no archive of stock movement")
@pytest.mark.parametrize("name", PARITY)
def test_the_published_alstm_has_the_published_scores(monkeypatch, name):
    """Their weights in our model, on our samples: the numbers of their logs, and the scores of their file."""
    monkeypatch.undo()
    steps, validation, test, mcc, tolerance = PARITY[name]
    data = stock_movement(REAL, name, "full", steps)
    weights = convert_published(published_variables(REAL, name))
    model = AdvALSTM(len(weights["attention_vector"]))
    model.load_state_dict(weights)
    scores = model.evaluate(data.test.x, data.test.y)
    assert model.evaluate(data.validation.x, data.validation.y)["accuracy"] == pytest.approx(validation, abs=1e-6)
    assert (scores["accuracy"], scores["mcc"]) == (pytest.approx(test, abs=1e-6), pytest.approx(mcc, abs=1e-6))
    with zipfile.ZipFile(REAL / "adv_alstm" / data.metadata["file"]) as archive:
        (member,) = [n for n in archive.namelist() if n.endswith(f"saved_model/{name}_alstm/exp_tes_prediction.csv")]
        theirs = np.array([float(line.split(",")[0]) for line in archive.read(member).decode().split()])
    ours = model.decision_function(data.test.x).numpy()
    np.testing.assert_allclose(np.sort(ours), np.sort(theirs), atol=tolerance)
