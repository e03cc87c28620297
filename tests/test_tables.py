"""The tables of a run folder: written, and read back as numbers."""

import random

from lstm_studies.training import tables


def test_numbers_are_read_back_as_they_were(tmp_path):
    random.seed(0)
    values = [random.random() * 10.0 ** random.randint(-30, 30) for _ in range(500)]
    rows = [{"epoch": float(i), "val_loss": value} for i, value in enumerate(values)]
    tables.write_csv(tmp_path / "history.csv", rows)
    assert tables.read_table(tmp_path / "history.csv") == rows


def test_columns_of_text_are_left_out(tmp_path):
    """`fit_many` writes the model's name, a grid what became of a combination."""
    rows = [{"model": "fc", "epoch": 1, "val_loss": 0.5, "status": "ok"}]
    rows.append({"model": "conv", "epoch": 2, "val_loss": float("nan"), "status": "diverged: no"})
    tables.write_csv(tmp_path / "history.csv", rows)
    first, second = tables.read_table(tmp_path / "history.csv")
    assert (
        first == {"epoch": 1.0, "val_loss": 0.5} and second["epoch"] == 2.0 and second["val_loss"] != second["val_loss"]
    )


def test_a_mean_history_is_that_of_each_epoch(tmp_path):
    for name, values in (("a", (1.0, 2.0)), ("b", (3.0, 6.0))):
        (tmp_path / name).mkdir()
        rows = [{"epoch": k + 1, "train_loss": value} for k, value in enumerate(values)]
        tables.write_csv(tmp_path / name / "history.csv", rows)
    assert tables.mean_history([tmp_path / "a", tmp_path / "b"]) == {"epoch": [1, 2], "train_loss": [2, 4]}
