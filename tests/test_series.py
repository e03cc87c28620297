"""Tables of measurements: literal input, literal expected."""

import gzip
import hashlib

import numpy as np
import pandas as pd
import pytest
from conftest import fails, one_line

from lstm_studies.evaluation.detectors import KINDS, plant
from lstm_studies.loaders import series as loader
from lstm_studies.loaders.series import EXAMPLES, read_benchmark, read_series


def series_of(tmp_path, text, name="sensor.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_series(path)


FORMS = {
    "times and one column": ("time,value\n2024-01-01 00:00,1\n2024-01-01 00:05,2\n2024-01-01 00:10,4\n", ("value",)),
    "a zone": ("ts,v\n2024-01-01T00:00:00Z,1\n2024-01-01T00:05:00Z,2\n2024-01-01T00:10:00Z,4\n", ("v",)),
    "decimal commas": ("Zeit;Wert\n01.02.2024 00:00;1,0\n01.02.2024 00:05;2,0\n01.02.2024 00:10;4,0\n", ("Wert",)),
    "thousands": ('time,v\n2024-01-01,"1,000.5"\n2024-01-02,"2,001"\n2024-01-03,"$4,002"\n', ("v",)),
    "an index of pandas": (",time,a\n0,2024-01-01,1\n1,2024-01-02,2\n2,2024-01-03,4\n", ("a",)),
    "days after the 12th": ("Zeit;Wert\n13.02.2024;1,0\n14.02.2024;2,0\n15.02.2024;4,0\n", ("Wert",)),
    "days without marks": ("date,v\n20240101,1\n20240102,2\n20240103,4\n", ("v",)),
    "no times": ("a\n1\n2\n4\n", ("a",)),
    "no header": ("1\n2\n4\n", ("column 1",)),
    "no header, decimal commas": ("2024-01-01;1,0\n2024-01-02;2,0\n2024-01-03;4,0\n", ("column 2",)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path, form, capsys):
    text, columns = FORMS[form]
    (series,) = series_of(tmp_path, text)
    values = [1000.5, 2001, 4002] if form == "thousands" else [1, 2, 4]
    assert series.columns == columns and series.values.ravel().tolist() == values and series.name == "sensor"
    assert series.segment.tolist() == [0, 0, 0]
    timed = form not in ("no times", "no header")
    assert np.issubdtype(series.time.dtype, np.datetime64) == timed
    if timed:
        assert len(set(np.diff(series.time).tolist())) == 1
    note = capsys.readouterr().err
    assert note.startswith("NOTICE") and note.count("\n") == 1 and "as values" in note


def test_gzipped_and_several_columns(tmp_path):
    (series,) = series_of(tmp_path, "t,x,y\n2024-01-01,1,5\n2024-01-02,2,6\n", "two.csv.gz")
    assert series.columns == ("x", "y") and series.values.tolist() == [[1, 5], [2, 6]] and series.name == "two"


def test_a_column_of_names_makes_series(tmp_path, capsys):
    text = "time,machine,x\n2024-01-01,b,1\n2024-01-02,b,2\n2024-01-01,a,3\n2024-01-02,a,4\n"
    a, b = series_of(tmp_path, text)
    assert (a.name, b.name) == ("a", "b") and a.values.ravel().tolist() == [3, 4]
    assert "machine as names" in capsys.readouterr().err


def test_hours_around_the_end_of_summer_time(tmp_path, capsys):
    times = ["01:30:00+02:00", "02:30:00 +0200", "02:30:00+01:00", "03:30:00.0+01:00", "03:30:00Z", "00:00:00-04:30"]
    rows = "".join(f"2024-10-27T{time},{k}\n" for k, time in enumerate(times))
    (series,) = series_of(tmp_path, "time,v\n" + rows)
    assert series.values.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert series.time.tolist() == pd.date_range("2024-10-26 23:30", periods=6, freq="h").to_pydatetime().tolist()
    assert "times with different UTC offsets are converted to UTC" in capsys.readouterr().err
    (series,) = series_of(tmp_path, "time,v\n2024-10-27T01:00+02:00,1\n2024-10-27T02:00+02:00,2\n")
    assert str(series.time[0]) == "2024-10-27T01:00:00.000000"  # one offset: the clock of the zone


@pytest.mark.parametrize("name", ["plant/1", "/tmp/pump", "..", "a\\b", ""])
def test_names_that_lead_out_of_the_output_folder_are_refused(tmp_path, name):
    path = tmp_path / "pumps.csv"
    path.write_text(f"time,pump,x\n2024-01-01,pump,1\n2024-01-01,{name},3\n2024-01-02,{name},4\n")
    fails(["pumps.csv: expected names that can be folders", repr(name)], read_series, path)


def test_missing_values_gaps_order_and_repeats(tmp_path, capsys):
    rows = ["2024-01-01 00:00,1", "2024-01-01 00:02,3", "2024-01-01 00:01,", "2024-01-01 00:03,4", "2024-01-01 00:03,9"]
    rows += [f"2024-01-01 01:0{k},{k}" for k in range(3)]
    (series,) = series_of(tmp_path, "time,v\n" + "\n".join(rows) + "\n")
    assert series.values.ravel().tolist() == [1, 2, 3, 4, 0, 1, 2]
    assert series.segment.tolist() == [0, 0, 0, 0, 1, 1, 1]
    note = capsys.readouterr().err
    for part in ("sorted by time", "1 rows repeat", "1 values are missing, 1 filled in", "1 gap in time"):
        assert part in note, note


def test_no_value_is_filled_in_across_a_gap_in_time(tmp_path):
    lines = [f"2024-01-01 {hour:02}:00,{hour if hour < 20 else ''}" for hour in range(21)]
    lines += [f"2024-01-05 {hour:02}:00,100" for hour in range(5)]
    (series,) = series_of(tmp_path, "\n".join(["time,v", *lines]) + "\n")
    assert series.values.ravel().tolist() == [*range(20), *[100] * 5]
    assert series.segment.tolist() == [0] * 20 + [series.segment[-1]] * 5 and series.segment[-1] > 0


@pytest.mark.parametrize("name", [None, "when"])
def test_the_index_of_a_parquet_file(tmp_path, monkeypatch, name):
    """Its times count, and a column that is called index stays."""
    time = pd.DatetimeIndex(["2024-01-02", "2024-01-01", "2024-01-03"], name=name)
    table = pd.DataFrame({"index": [1.0, 2.0, 3.0], "v": [4.0, 5.0, 6.0]}, index=time)
    monkeypatch.setattr(pd, "read_parquet", lambda path: table)
    (series,) = series_of(tmp_path, "", "a.parquet")
    assert series.columns == ("index", "v") and series.values.tolist() == [[2, 5], [1, 4], [3, 6]]
    assert np.issubdtype(series.time.dtype, np.datetime64)
    table = table.reset_index(drop=True).iloc[1:]  # rows of a longer table
    (series,) = read_series(tmp_path / "a.parquet")
    assert series.columns == ("index", "v") and series.time.tolist() == [1, 2]


def test_columns_in_another_order_and_with_other_names(tmp_path):
    (series,) = series_of(tmp_path, "t,x,y\n2024-01-01,1,5\n2024-01-02,2,6\n")
    assert loader.in_order(series, 2, ("y", "x")).values.tolist() == [[5, 1], [6, 2]]
    assert loader.in_order(series, 2, ("a", "b")) is series
    fails("sensor: expected the columns y, z, as in training, found x, y", loader.in_order, series, 2, ("y", "z"))
    fails("sensor: expected 3 columns of numbers", loader.in_order, series, 3, ("x", "y", "z"))


def test_a_long_gap_of_values_is_not_filled(tmp_path):
    cells = ["1", "2", *[""] * 4, "8", "", "", "", "4"]
    (series,) = series_of(tmp_path, "time,v\n" + "".join(f"2024-01-{k + 10},{c}\n" for k, c in enumerate(cells)))
    assert series.values.ravel().tolist() == [1, 2, 8, 7, 6, 5, 4]  # none of the four, all of the three
    assert np.diff(series.segment).astype(bool).tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize(("header", "row"), [("a", "{}"), ("a,b", "{},7")])
def test_an_empty_line_of_a_table_without_times_is_a_missing_record(tmp_path, header, row, capsys):
    empty = "," * header.count(",")
    lines = [header, *(row.format(k) for k in (1, 2)), empty, row.format(4), *[empty] * 4, row.format(9), empty, empty]
    (series,) = series_of(tmp_path, "\n".join(lines) + "\n\n")
    assert series.values[:, 0].tolist() == [1, 2, 3, 4, 9] and series.time.tolist() == [1, 2, 3, 4, 9]
    assert np.diff(series.segment).astype(bool).tolist() == [False, False, False, True]
    missing = 5 * (1 + header.count(","))
    assert f"{missing} values are missing, {missing // 5} filled in" in capsys.readouterr().err


def test_a_name_of_several_lines_is_said_in_one(tmp_path, capsys):
    (tmp_path / "two\nlines.csv").write_text("v\n1\n2\n")
    read_series(tmp_path / "two\nlines.csv")
    assert one_line(capsys).startswith(f"NOTICE: {tmp_path}/two lines.csv: ")
    fails("expected a table of series or a folder of them, found file name too long", read_series, "x" * 300)


def test_a_folder_and_what_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("time,v\n2024-01-01,1\n2024-01-02,2\n")
    assert [series.name for series in read_series(tmp_path)] == ["a", "b"]
    (tmp_path / "c.csv").write_text("time,w\n2024-01-01,1\n2024-01-02,2\n")
    fails(["the same columns", "a", "c"], read_series, tmp_path)
    (tmp_path / "empty").mkdir()
    fails(["files that end in", "found none"], read_series, tmp_path / "empty")
    fails("no such file", read_series, tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["empty file"]),
        ("time,name\n2024-01-01,a\n2024-01-02,b\n", ["a column of numbers"]),
        ("time,v\n2024-01-01,1\n2024-01-02,x\n2024-01-03,1\n", ["line 3", "'x'"]),
        ("time,v\n2024-01-01,\n2024-01-02,\n", ["records with all their values"]),
        ("a,a\n1,2\n", ["different names"]),
    ],
)
def test_refused(tmp_path, text, parts):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    fails(parts, read_series, path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_have_labelled_anomalies(name):
    (series,) = read_series(name)
    assert (
        np.issubdtype(series.time.dtype, np.datetime64)
        and np.isfinite(series.values).all()
        and len(series.anomalies) in (4, 5)
    )
    assert all(0 < first < last < len(series.values) for first, last in series.anomalies)


@pytest.fixture
def server(tmp_path, monkeypatch, no_flush):
    """The benchmark of two files at an address of its own, with their sums."""
    files = {"data/a.csv": "timestamp,value\n2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n"}
    files["labels/combined_windows.json"] = '{"a.csv": [["2024-01-02 00:00:00", "2024-01-03 00:00:00"]]}'
    sums = []
    for name, text in files.items():
        path = tmp_path / "server" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        sums.append(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n")
    (tmp_path / "sums").write_text("".join(sums))
    monkeypatch.setattr(loader, "NAB_URL", (tmp_path / "server").as_uri())
    monkeypatch.setattr(loader, "SUMS", tmp_path / "sums")
    return tmp_path / "server"


def test_the_benchmark_is_downloaded_and_checked(server, tmp_path):
    (series,) = read_benchmark(tmp_path / "nab")
    assert (series.name, series.anomalies, series.values[:, 0].tolist()) == ("a", ((1, 2),), [1, 2, 4])
    (server / "data" / "a.csv").unlink()
    assert read_benchmark(tmp_path / "nab")[0].name == "a"  # from the files that are there
    (server / "data" / "a.csv").write_text("timestamp,value\n2024-01-01,7\n")
    fails(
        ["2 of its 2 files missing", "content of digest", "github.com/numenta/NAB"],
        read_benchmark,
        tmp_path / "new",
    )
    assert not list((tmp_path / "new").rglob("*.csv"))


def test_the_sums_are_those_of_58_series():
    names = [line.split()[1] for line in loader.SUMS.read_text().splitlines()]
    assert sum(name.startswith("data/") for name in names) == 58 and names[0] == "labels/combined_windows.json"


def test_generated_series_are_correlated_and_the_same_every_time():
    series = read_series("sensors")
    assert [one.name for one in series] == ["sensors_1", "sensors_2", "sensors_3"]
    assert np.array_equal(series[1].values, read_series("sensors")[1].values) and series[0].values.shape == (4000, 4)
    correlations = np.corrcoef(series[0].values.T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_planted_anomalies(kind):
    values = np.random.default_rng(0).normal(size=(800, 3)).cumsum(0)
    changed, anomalous = plant(values, kind, 400, 10, np.random.default_rng(1))
    differs = (changed != values).any(1)
    assert not differs[:400].any() and (differs <= anomalous).all()
    runs = np.diff(np.flatnonzero(np.diff(anomalous, prepend=False, append=False)))[::2]
    assert set(runs) == {1 if kind == "point" else 10} and len(runs) == 5
    assert ((changed != values).sum(1) <= 1).all()  # one column at a time
    distance = np.abs(changed - values)[anomalous].max(1)
    sizes = {"point": 3, "level": 1.5}
    if kind in sizes:
        std = values[:400].std(0)
        column = np.abs(changed - values)[anomalous].argmax(1)
        assert distance == pytest.approx(sizes[kind] * std[column])
    if kind == "correlation":  # each value is one of the column's own
        assert all(np.isin(changed[:, c], values[:, c]).all() for c in range(3))


def test_planting_after_a_training_part_of_one_window():
    values = np.random.default_rng(0).normal(size=(100, 2))
    changed, anomalous = plant(values, "correlation", 10, 10, np.random.default_rng(1))
    assert anomalous.any() and not (changed != values)[~anomalous].any()


def test_planting_is_refused():
    values, rng = np.zeros((100, 1)), np.random.default_rng(0)
    cases = ("correlation", 50, "several columns"), ("points", 50, "found 'points'"), ("level", 95, "at least 30")
    for kind, first, message in cases:
        with pytest.raises(ValueError, match=message):
            plant(values, kind, first, 10, rng)
