"""From a file of measurements to events: what the functions of the script leave, and what they refuse."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import without_figures

import lstm_ae_series
from lstm_studies.loaders import series as loader
from lstm_studies.training import checkpoint

TINY = "--updates 30 --hidden_size 8 --window 16 --batch_size 16 --quiet".split()


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    without_figures(monkeypatch)
    monkeypatch.setattr(lstm_ae_series, "plot_anomalies", lambda *_: None)
    lstm_ae_series.all_series.cache_clear()


def write_series(path, jump=None, count=400, columns=("x", "y")):
    rng = np.random.default_rng(0)
    time = np.datetime64("2024-01-01") + np.arange(count) * np.timedelta64(10, "m")
    wave = np.sin(2 * np.pi * np.arange(count) / 16)
    values = np.stack([wave + 0.05 * rng.standard_normal(count) for _ in columns], 1)
    if jump is not None:
        values[jump : jump + 4, 0] += 5
    lines = [f"{t},{','.join(f'{v:.4f}' for v in row)}" for t, row in zip(time, values, strict=True)]
    path.write_text("\n".join([f"time,{','.join(columns)}", *lines]) + "\n")
    return path


def main(tmp_path, *argv):
    return lstm_ae_series.main([*map(str, argv), *TINY[-1:], "--output_dir", str(tmp_path / "outputs")])


def train(tmp_path, *data, more=()):
    return main(tmp_path, "--function", "train", "--data", *data, *TINY[:-1], *more)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_from_file_to_events(tmp_path):
    metrics = train(tmp_path, write_series(tmp_path / "pump.csv"))
    assert list(metrics) == ["pump"] and metrics["pump"]["columns"] == 2 and metrics["pump"]["threshold"] > 0
    new = write_series(tmp_path / "new.csv", jump=200)
    (found,) = main(tmp_path, "--function", "anomalies", "--data", new).values()
    table = rows(tmp_path / "outputs/anomalies/anomalies.csv")
    columns = ["series", "time", "score", "threshold", "anomaly", "share x", "share y"]
    assert len(table) == 400 and list(table[0]) == columns
    assert table[0]["time"].startswith("2024-01-01T00:00") and {row["anomaly"] for row in table} == {"0", "1"}
    assert sum(row["anomaly"] == "1" for row in table) == found["anomalous_records"]
    events = rows(tmp_path / "outputs/anomalies/events.csv")
    worst = max(events, key=lambda row: float(row["score"]))
    peak = np.datetime64(worst["peak"])
    jump = np.datetime64("2024-01-01") + 200 * np.timedelta64(10, "m")
    assert abs((peak - jump) / np.timedelta64(10, "m")) <= 16 and worst["worst_column"] == "x"
    assert worst["start"] <= worst["peak"] <= worst["end"]
    x, y = (float(table[200 + 2][f"share {name}"]) for name in "xy")
    assert x > 0.5 and x + y == pytest.approx(1, abs=2e-3)


def test_the_whole_study_on_files_of_ones_own(tmp_path):
    files = [write_series(tmp_path / f"{name}.csv") for name in "ab"]
    metrics = main(tmp_path, "--data", *files, *TINY[:-1])
    assert [list(found) for found in metrics.values()] == [["a", "b"]] * 2 and list(metrics) == ["train", "anomalies"]


def test_all_series_are_checked_before_one_is_trained(tmp_path, capsys):
    files = [write_series(tmp_path / "a.csv"), write_series(tmp_path / "short.csv", count=20)]
    with pytest.raises(SystemExit):
        train(tmp_path, *files)
    assert "expected at most 12" in (error := capsys.readouterr().err) and "short, found 16" in error
    assert not list(tmp_path.rglob("last.pt"))


def test_the_model_holds_scale_and_threshold_of_its_training_part_only(tmp_path):
    path = write_series(tmp_path / "a.csv", jump=390)
    train(tmp_path, path)
    weights = checkpoint.load(tmp_path / "outputs/train/best.pt")["model"]["weights"]
    text = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(1, 2))
    assert weights["mean"].numpy() == pytest.approx(text[:240].mean(0), abs=1e-6)
    assert weights["std"].numpy() == pytest.approx(text[:240].std(0), abs=1e-6)
    metrics = json.loads((tmp_path / "outputs/train/metrics.json").read_text())["a"]
    assert metrics["threshold"] == pytest.approx(float(weights["threshold"]))
    assert metrics["test_error"] > 1.5 * metrics["validation_error"]  # the jump is there


def test_the_threshold_does_not_know_the_test_part(tmp_path):
    """Windows of the last validation records reach into the test part, whose first records are anomalies."""
    paths = [write_series(tmp_path / "a.csv"), write_series(tmp_path / "b.csv", jump=320)]
    a, b = (train(tmp_path, path)[path.stem] for path in paths)
    same = ("threshold", "validation_error", "validation_pca_error", "training_error")
    assert [a[name] for name in same] == [b[name] for name in same] and b["test_error"] > 2 * a["test_error"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--window", "16", "300"], "--window: expected at most 240"),
        (["--hidden_size", "2", "4", "--validation_share", "0"], "--hidden_size: expected one value, since no window"),
        (["--hidden_size", "2", "4", "--validation_share", "0.02"], "of a validates"),
    ],
)
def test_grids_that_cannot_be_chosen_from(tmp_path, capsys, more, message):
    with pytest.raises(SystemExit):
        train(tmp_path, write_series(tmp_path / "a.csv"), more=more)
    assert message in capsys.readouterr().err and not list(tmp_path.rglob("last.pt"))


def test_pca_has_the_size_of_the_code(tmp_path):
    path = write_series(tmp_path / "a.csv")
    small, large = (train(tmp_path, path, more=["--code_size", size])["a"] for size in (1, 8))
    assert large["validation_pca_error"] < 0.5 * small["validation_pca_error"]


def test_a_model_for_each_series_of_a_folder(tmp_path):
    folder = tmp_path / "sensors"
    folder.mkdir()
    for name in ("a", "b"):
        write_series(folder / f"{name}.csv", columns=("v",))
    metrics = train(tmp_path, folder)
    assert list(metrics) == ["a", "b"] and (tmp_path / "outputs/train/b/best.pt").exists()
    found = main(tmp_path, "--function", "anomalies")
    assert list(found) == ["a", "b"] and found["b"]["model"].endswith("b")
    codes = main(tmp_path, "--function", "encode", "--data", folder / "b.csv")
    assert list(codes) == ["b"] and codes["b"]["windows"] == 400 - 16 + 1
    table = rows(tmp_path / "outputs/encode/codes.csv")
    assert len(table) == 385 and table[0]["sequence"].startswith("b 2024-01-01T00:00") and "z4" in table[0]


def test_codes_of_models_of_several_sizes(tmp_path):
    """As of a grid, in which each series chooses its own."""
    for name, size in (("a", 1), ("b", 3)):
        path = write_series(tmp_path / f"{name}.csv", columns=("v",))
        main(tmp_path / name, "--function", "train", "--data", path, *TINY[:-1], "--code_size", size)
        shutil.copytree(tmp_path / name / "outputs/train", tmp_path / "models" / name)
    main(tmp_path, "--function", "encode", "--model_from", tmp_path / "models")
    table = rows(tmp_path / "outputs/encode/codes.csv")
    assert list(table[0]) == ["sequence", "z1", "z2", "z3"]
    assert {(row["sequence"][0], row["z3"] == "") for row in table} == {("a", True), ("b", False)}


def test_segments_and_working_days(tmp_path, capsys):
    lines = write_series(tmp_path / "a.csv").read_text().splitlines()
    lines[101:106] = [line.partition(",")[0] + ",," for line in lines[101:106]]
    (tmp_path / "gap.csv").write_text("\n".join(lines) + "\n")
    metrics = train(tmp_path, tmp_path / "gap.csv")["gap"]
    assert (metrics["records"], metrics["segments"]) == (395, 2)
    days = np.arange(np.datetime64("2024-01-01"), np.datetime64("2025-01-01"))  # a Monday
    days = days[np.is_busday(days)]
    (tmp_path / "daily.csv").write_text("day,v\n" + "".join(f"{day},{k % 7}\n" for k, day in enumerate(days)))
    with pytest.raises(SystemExit):
        train(tmp_path, tmp_path / "daily.csv")
    error = capsys.readouterr().err
    assert all(text in error for text in ("at most 5", "daily, found 16", "weekends", "without the column of times"))


def test_records_without_a_window_have_no_score(tmp_path, capsys):
    train(tmp_path, write_series(tmp_path / "a.csv"))
    lines = write_series(tmp_path / "new.csv", jump=395).read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join(lines[:380] + lines[391:]) + "\n")  # ten records follow the gap
    (metrics,) = main(tmp_path, "--function", "anomalies", "--data", tmp_path / "new.csv").values()
    assert (metrics["records"], metrics["unscored_records"]) == (389, 10)
    assert "NOTICE: new: 10 of 389 records are in no window of 16" in capsys.readouterr().err
    table = rows(tmp_path / "outputs/anomalies/anomalies.csv")
    empty = [{row[name] for name in ("score", "anomaly", "share x")} == {""} for row in table]
    assert empty == [False] * 379 + [True] * 10
    (tmp_path / "short.csv").write_text("\n".join(lines[:13]) + "\n")
    for function in ("anomalies", "encode"):
        with pytest.raises(SystemExit):
            main(tmp_path, "--function", function, "--data", tmp_path / "short.csv")
        assert "short: expected 16 records without a gap, a window, found at most 12" in capsys.readouterr().err
        assert not (tmp_path / "outputs/encode/codes.csv").exists()


def test_series_of_different_columns_in_one_table(tmp_path):
    first, second = write_series(tmp_path / "a.csv", columns=("v",)), write_series(tmp_path / "b.csv", columns=("w",))
    train(tmp_path, first, second)
    main(tmp_path, "--function", "anomalies")
    table = rows(tmp_path / "outputs/anomalies/anomalies.csv")
    assert len(table) == 800 and (table[0]["share w"], table[-1]["share v"]) == ("", "")


def test_again_without_training_and_resumed(tmp_path):
    path = write_series(tmp_path / "a.csv")
    first = train(tmp_path, path)
    again = main(tmp_path, "--function", "train", "--dry_run")
    resumed = train(tmp_path, path, more=["--resume"])
    for other in (again, resumed):
        assert {k: v for k, v in other["a"].items() if k != "seconds"} == {
            k: v for k, v in first["a"].items() if k != "seconds"
        }


def test_a_training_that_was_killed_before_its_threshold_was_set(tmp_path, monkeypatch, capsys):
    path = write_series(tmp_path / "a.csv")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):  # between the training and its threshold
        patch.setattr(lstm_ae_series, "record_errors", lambda *_: 1 / 0)
        train(tmp_path, path)
    for function in (["anomalies"], ["export"], ["train", "--dry_run"]):
        with pytest.raises(SystemExit):
            main(tmp_path, "--function", *function)
        error = capsys.readouterr().err
        assert "best.pt: expected a threshold of anomalies" in error and "--function train --resume" in error
    assert train(tmp_path, path, more=["--resume"])["a"]["threshold"] > 0
    assert main(tmp_path, "--function", "anomalies")["a"]["anomalous_records"] < 40
    (tmp_path / "outputs/train/last.pt").unlink()
    (tmp_path / "outputs/train/last.previous.pt").unlink(missing_ok=True)
    assert main(tmp_path, "--function", "anomalies")["a"]["records"] == 400  # best.pt has the settings, too


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--train_share", ".9", "--validation_share", ".5"], ["--train_share", "0.9 and 0.5"]),
        (["--window", "300"], ["--window", "300"]),
        (["--window", "1"], ["--window", "at least 2"]),
        (["--epochs", "3", "--updates", "5"], ["--epochs", "--updates"]),
    ],
)
def test_refused(tmp_path, capsys, argv, parts):
    path = write_series(tmp_path / "a.csv")
    with pytest.raises(SystemExit) as caught:
        lstm_ae_series.main(
            ["--function", "train", "--data", str(path), "--output_dir", str(tmp_path / "out"), "--quiet", *argv]
        )
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("NOTICE")]
    assert caught.value.code == 2 and len(lines) == 1 and all(part in lines[0] for part in parts), lines


def test_values_that_float32_does_not_resolve_are_refused(tmp_path, capsys):
    path = write_series(tmp_path / "a.csv", columns=("v",))
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    path.write_text("time,v\n" + "".join(f"{time},{float(v) + 1e8:.4f}\n" for time, v in lines))
    with pytest.raises(SystemExit):
        train(tmp_path, path)
    error = capsys.readouterr().err
    assert "a: column 1: expected a range that float32 resolves" in error and "subtract an offset" in error


def test_other_columns_are_refused(tmp_path, capsys):
    train(tmp_path, write_series(tmp_path / "a.csv"))
    with pytest.raises(SystemExit):
        main(tmp_path, "--function", "anomalies", "--data", write_series(tmp_path / "b.csv", columns=("v",)))
    assert "expected 2 columns of numbers, as in training, found v" in capsys.readouterr().err


def test_planted_anomalies_beside_simple_detectors(tmp_path):
    train(tmp_path, write_series(tmp_path / "pump.csv", count=600), "--seeds", "2")
    metrics = main(tmp_path, "--function", "planted", "--plantings", "3")
    kinds = {f"f1_{kind}" for kind in ("point", "level", "frequency", "correlation")}
    assert list(metrics) == ["LSTM autoencoder", "PCA", "moving z-score", "isolation forest", "matrix profile"]
    assert all(kinds <= own.keys() and 0 <= own["f1"] <= 1 for own in metrics.values())
    assert metrics["PCA"]["average_precision_point"] > 0.5
    table = rows(tmp_path / "outputs/planted/planted.csv")
    assert len(table) == 3 * 4 * (2 + 4) and {row["series"] for row in table} == {"pump"}
    f1 = {name: [float(row["f1"]) for row in table if row["detector"] == name] for name in metrics}
    assert metrics["PCA"]["f1"] == pytest.approx(np.mean(f1["PCA"])) and metrics["PCA"]["seeds"] == 1
    ours = metrics["LSTM autoencoder"]
    assert ours["f1_mean"] == pytest.approx(np.mean(f1["LSTM autoencoder"])) and ours["seeds"] == 2
    beside = ours["against"]["PCA"]["f1"]
    assert beside["difference"] == pytest.approx(ours["f1_mean"] - metrics["PCA"]["f1"])
    assert beside["low"] < beside["difference"] < beside["high"]
    once = main(tmp_path, "--function", "planted", "--plantings", "1")  # the first of the three
    first = [float(row["f1"]) for row in table if row["detector"] == "PCA" and row["planting"] == "0"]
    assert once["PCA"]["f1"] == pytest.approx(np.mean(first))
    train(tmp_path, write_series(tmp_path / "one.csv", count=600, columns=("v",)))
    assert "f1_correlation" not in main(tmp_path, "--function", "planted")["PCA"]


def test_planting_into_a_short_test_part_is_refused_in_one_line(tmp_path, capsys):
    train(tmp_path, write_series(tmp_path / "pump.csv", count=200))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(tmp_path, "--function", "planted")
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.startswith("NOTICE"))
    assert "pump: test part: expected at least 48 records to plant anomalies into, found 40" in line


def test_the_benchmark_on_three_series(tmp_path, monkeypatch):
    """A small copy of the benchmark: its files, and windows of anomalies that a jump is in."""
    (tmp_path / "nab/data/real").mkdir(parents=True)
    (tmp_path / "nab/labels").mkdir()
    windows = {}
    for name, jump in (("a", 250), ("b", None), ("c", 300)):
        path = write_series(tmp_path / "nab/data/real" / f"{name}.csv", jump, columns=("value",))
        path.write_text(path.read_text().replace("time,", "timestamp,"))
        ends = (jump - 5, jump + 10) if jump else ()
        times = [str(np.datetime64("2024-01-01") + k * np.timedelta64(10, "m")) for k in ends]
        windows[f"real/{name}.csv"] = [times] if jump else []
    (tmp_path / "nab/labels/combined_windows.json").write_text(json.dumps(windows))
    (tmp_path / "sums").write_text("")  # there is nothing to download
    monkeypatch.setattr(loader, "SUMS", tmp_path / "sums")
    metrics = main(tmp_path, "--function", "benchmark", "--data_dir", tmp_path, "--seeds", "2", *TINY[:-1])
    ours = metrics["LSTM autoencoder"]
    assert (ours["series"], ours["detected"], ours["seeds"]) == (3, 2, 2) and ours["score"] > 50
    beside = ours["against"]["PCA"]["score"]
    assert beside["difference"] == pytest.approx(ours["score_mean"] - metrics["PCA"]["score"])
    assert [row["detector"] for row in rows(tmp_path / "outputs/benchmark/comparison.csv")] == list(metrics)
