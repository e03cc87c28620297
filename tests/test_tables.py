"""The tables and JSON files of a run folder: written, read back as numbers, and shown at the end of a run."""

import math
import random

import numpy as np
import pytest

from lstm_studies.training import tables
from lstm_studies.training.checkpoint import CheckpointError


def test_numbers_are_read_back_as_they_were(tmp_path):
    random.seed(0)
    values = [random.random() * 10.0 ** random.randint(-30, 30) for _ in range(500)]
    rows = [{"epoch": float(i), "val_loss": value} for i, value in enumerate(values)]
    tables.write_csv(tmp_path / "history.csv", rows)
    assert tables.read_table(tmp_path / "history.csv") == rows


def test_numbers_that_are_not_finite_are_null(tmp_path):
    tables.write_json(tmp_path / "metrics.json", {"net": {"a": math.inf, "b": [math.nan, 0.1], "NaN": "Infinity"}})
    assert tables.read_json(tmp_path / "metrics.json") == {"net": {"a": None, "b": [None, 0.1], "NaN": "Infinity"}}


def test_columns_of_text_are_left_out(tmp_path):
    """A study of several models writes their names, a grid what became of a combination."""
    rows = [{"model": "fc", "epoch": 1, "val_loss": 0.5, "status": "ok"}]
    rows.append({"model": "conv", "epoch": 2, "val_loss": float("nan"), "status": "diverged: no"})
    tables.write_csv(tmp_path / "history.csv", rows)
    first, second = tables.read_table(tmp_path / "history.csv")
    assert first == {"epoch": 1.0, "val_loss": 0.5} and second["epoch"] == 2.0 and math.isnan(second["val_loss"])


def test_rows_of_models_with_other_columns(tmp_path):
    tables.write_csv(tmp_path / "history.csv", [{"model": "a", "loss": 1.0}, {"model": "b", "loss": 2.0, "mse": 3.0}])
    assert (tmp_path / "history.csv").read_text() == "model,loss,mse\na,1.0,\nb,2.0,3.0\n"
    first, second = tables.read_table(tmp_path / "history.csv")
    assert math.isnan(first["mse"]) and second == {"loss": 2.0, "mse": 3.0}
    tables.write_csv(tmp_path / "empty.csv", [])
    assert tables.read_table(tmp_path / "empty.csv") == []
    tables.write_csv(tmp_path / "none.csv", [], ("start", "end"))
    assert (tmp_path / "none.csv").read_text() == "start,end\n" and tables.read_table(tmp_path / "none.csv") == []


def test_curves_of_what_the_history_has(tmp_path):
    rows = [{"epoch": k, "train_mse": k * 1.0, "val_mse": k * 2.0, "learning_rate": 0.1} for k in (1, 2)]
    tables.write_csv(tmp_path / "history.csv", rows)
    curves = tables.read_curves(tmp_path, "mse")
    assert {name: [list(x) for x in curve] for name, curve in curves.items()} == {
        "training": [[1, 2], [1, 2]],
        "validation": [[1, 2], [2, 4]],
    }
    tables.write_csv(tmp_path / "history.csv", [{**row, "test_mse": 5.0} for row in rows])
    assert [list(x) for x in tables.read_curves(tmp_path, "mse")["test"]] == [[1, 2], [5, 5]]


def test_curves_of_several_seeds_have_a_mean_and_a_deviation(tmp_path):
    for seed, shift in enumerate((0.0, 1.0, 5.0)):
        (tmp_path / "seeds" / str(seed)).mkdir(parents=True)
        rows = [{"epoch": k, "val_mse": k + shift} for k in range(1, 4 + seed)]
        tables.write_csv(tmp_path / "seeds" / str(seed) / "history.csv", rows)
    epochs, mean, deviation = tables.read_curves(tmp_path, "mse")["validation"]
    assert list(epochs) == [1, 2, 3] and list(mean) == [3, 4, 5]  # epochs that all have
    np.testing.assert_allclose(deviation, math.sqrt(7))


def test_the_table_at_the_end_of_a_run():
    """A column for each model, a line for each of more than six; means and deviations over seeds; no text, no lists."""
    metrics = {
        "narrow": {"data": "full", "seed": 0, "mse": 0.123456, "quick": True, "curve": [1.0], "none": None},
        "wide": {"seed": 0, "mse": 1.0, "mse_mean": 2.0, "mse_std": 0.25, "accuracy": 0.5},
        "folds of an opponent": {"mse": 1.0, "mse_mean": 3.0},
    }
    assert tables.table_of(metrics).splitlines() == [
        "          narrow   wide      folds of an opponent",
        "seed      0        0",
        "mse       0.12346  2 ± 0.25  3",
        "accuracy           0.5",
    ]
    many = tables.table_of({f"code{k}": {"mse": k / 10} for k in range(7)}).splitlines()
    assert many[:2] == ["       mse", "code0  0"] and many[7] == "code6  0.6"
    assert tables.table_of({"sequences": {"data": "own"}}) == "  sequences"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"3", b"[" * 100_000, b"\xff"])
def test_a_file_that_is_no_json_object(tmp_path, content):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"metrics\.json: expected a JSON object, found "):
        tables.read_json(tmp_path / "metrics.json")


@pytest.mark.parametrize("content", [b"", b"\xff", b"epoch\n1,2\n", b"epoch,a\n1\n", b'"epoch\n1\n', b"a\n1\n"])
def test_a_file_that_is_no_history(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"history\.csv: expected a "):
        tables.read_curves(tmp_path, "loss")


def test_histories_have_a_row_for_each_training_and_the_epochs_that_all_have(tmp_path):
    for name, values in (("a", (1.0, 2.0)), ("b", (3.0, 6.0, 9.0))):
        (tmp_path / name).mkdir()
        rows = [{"epoch": k + 1, "train_loss": value} for k, value in enumerate(values)]
        tables.write_csv(tmp_path / name / "history.csv", rows)
    columns = tables.histories([tmp_path / "a", tmp_path / "b"])
    assert {name: values.tolist() for name, values in columns.items()} == {
        "epoch": [[1, 2], [1, 2]],
        "train_loss": [[1, 2], [3, 6]],
    }
