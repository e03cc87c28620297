"""The S&P 500 study on random walks, by hand tables, and on prices of one's own."""

import csv
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import fails
from test_windows import random_walk

import lstm_ae_snp500 as snp500
from config.lstm_ae_snp500 import Predict, Reconstruct
from lstm_studies.loaders.prices import StockPrices
from lstm_studies.loaders.windows import CLOSE, HIGH, RANGE, fit_scale, newest_samples
from lstm_studies.reporting.prices import axes_of


def walk_prices(stocks: int, days: int, seed: int = 0) -> StockPrices:
    dates = np.datetime64("2014-01-02") + np.arange(days)
    values, metadata = random_walk(stocks, days, seed), {"data": "sample", "file": "walk", "fields": 5}
    return StockPrices([f"S{i}" for i in range(stocks)], dates, values, values[:, :, CLOSE], metadata)


@pytest.fixture
def walk(monkeypatch):
    """walk(stocks, days): the scripts read random walks in place of prices."""

    def use(stocks: int, days: int, seed: int = 0) -> StockPrices:
        data = walk_prices(stocks, days, seed)
        monkeypatch.setattr(snp500, "stock_prices", lambda data_dir, source, symbols=None: data)
        forget()
        return data

    def forget() -> None:
        snp500.prices.cache_clear()
        snp500.complete_prices.cache_clear()

    yield use
    forget()


def run_prices(tmp_path, *argv) -> dict:
    trains = argv[0] in ("reconstruct", "predict") and "--dry_run" not in argv
    tiny = ["--epochs", "1", "--limit", "32"] if trains else []
    tiny += ["--hidden_size", "4"] if trains and "--hidden_size" not in argv else []
    metrics = snp500.main(["--function", *argv, *tiny, "--output_dir", str(tmp_path), "--quiet"])
    assert next(iter(metrics)) == "lstm_ae" or argv[0] == "plot_prices"
    return metrics.get("lstm_ae", metrics)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_high_windows_of_the_test_part_do_not_overlap():
    data = walk_prices(1, 100)
    settings = Reconstruct(window=5, stride=1)
    highs = data.values[0, :, HIGH]
    assert torch.equal(snp500.part_windows(data, settings, "test").flatten(), highs[80:])
    assert snp500.part_windows(data, settings, "train").shape == (56, 5)


def test_highs_come_back_through_a_perfect_autoencoder():
    class Identity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.arguments = {"input_size": 5}

        def forward(self, x):
            return Namespace(reconstruction=x)

    highs = walk_prices(3, 10).values[:, :, HIGH]
    restored = snp500.reconstruct_highs(Identity(), highs, "cpu")
    torch.testing.assert_close(restored, highs, rtol=1e-6, atol=0)


class Constant(torch.nn.Module):
    """Reconstructs and predicts the same value everywhere."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, x):
        prediction = torch.full((*x.shape[:2], 1), self.value)
        return Namespace(reconstruction=torch.full_like(x, self.value), prediction=prediction)


@pytest.mark.parametrize("every, expected", [(False, 0.1 / 0.2), (True, (0.01 + 0.04) / 2)])
def test_losses_by_hand(every, expected):
    x = torch.tensor([[[0.5], [0.7]]])
    batch = (x, torch.tensor([[0.7, 0.6]]), torch.tensor([0.2]))
    step = snp500.make_prediction_step(Predict(predict_every_step=every, reconstruction_dominance=0.25))
    losses = step(Constant(0.5), batch)
    if every:
        expected = (0.2**2 + 0.1**2) / 2
    assert losses["mse"].item() == pytest.approx(0.02, rel=1e-5)
    assert losses["prediction"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(0.25 * 0.02 + 0.75 * expected, rel=1e-5)


def test_roll_out_feeds_predictions_back():
    """A model that always predicts one more scale unit upwards: the same growth every day."""
    values = random_walk(1, 60)
    scale = fit_scale(values[:, :30])
    rolled = snp500.roll_out(Constant(0.6), values[:, 40:45], values[:, :30], 4, "cpu")
    growth = 1 + 0.1 * RANGE * scale.sigma.item()
    expected = values[0, 44, HIGH] * growth ** torch.arange(1, 5, dtype=torch.float64)
    torch.testing.assert_close(rolled, expected, rtol=1e-5, atol=0)
    assert torch.equal(
        snp500.roll_out(Constant(0.5), values[:, 40:45], values[:, :30], 3, "cpu"), values[0, 44, HIGH].expand(3)
    )


def test_a_random_walk_gives_a_relative_mae_of_1(tmp_path, walk):
    """The whole pipeline on prices that hold nothing: an error below persistence would be a leak."""
    walk(40, 400, seed=1)
    flags = [
        "--inputs",
        "high",
        "--window",
        "10",
        "--epochs",
        "4",
        "--hidden_size",
        "16",
        "--output_dir",
        str(tmp_path),
    ]
    metrics = snp500.main(["--function", "predict", *flags, "--quiet"])["lstm_ae"]
    assert metrics["mase"] == pytest.approx(1, abs=0.02)
    assert metrics["mase_low"] <= metrics["mase"] <= metrics["mase_high"]
    rows = read_table(tmp_path / "predict" / "tomorrow.csv")
    assert [row["symbol"] for row in rows] == [f"S{i}" for i in range(40)] and {row["date"] for row in rows} == {
        "2015-02-05"
    }
    assert all(abs(float(row["next_high"]) / float(row["high"]) - 1) < 0.01 for row in rows)


def test_published_prediction_leaves_its_figures(tmp_path, walk):
    walk(25, 200)
    metrics = run_prices(tmp_path, "predict", "--preset", "published")
    steps = (14 * metrics["known_next_days_mse"] + metrics["last_next_day_mse"]) / 15
    assert metrics["inputs"] == "high" and metrics["test_prediction_loss"] == pytest.approx(steps, rel=1e-4)
    assert 0 < metrics["persistence_mse"] < 1
    figures = {path.stem for path in (tmp_path / "predict").glob("*.png")}
    assert figures == {"losses", "predictions", "companies", "sequence", "rollout"}


def test_opponents_learn_from_as_many_windows(tmp_path, walk):
    """With --limit, as in the preset quick: PCA and lines would else have seen more than the model."""
    walk(3, 400)
    for function, key, names in (
        ("reconstruct", "test_mse", ["pca"]),
        ("predict", "mase", ["line", "line_3_days", "boosting"]),
    ):
        few, many = (
            snp500.main(
                ["--function", function, "--epochs", "1", "--hidden_size", "4", "--limit", limit]
                + ["--output_dir", str(tmp_path / limit), "--quiet"]
            )
            for limit in ("20", "300")
        )
        for name in names:
            assert few[name][key] != many[name][key], name


def test_no_error_in_percent_of_highs_of_0(tmp_path, walk):
    walk(2, 300)
    assert 0 < run_prices(tmp_path, "reconstruct", "--seeds", "2")["test_mae_percent_mean"] < 100
    walk(2, 300).values[0, 250] = 0  # in the test part
    metrics = run_prices(tmp_path, "reconstruct", "--seeds", "2")
    assert metrics["test_mse_std"] > 0 and not [name for name in metrics if "percent" in name]


def test_a_model_of_windows_at_random_is_applied_to_other_data(tmp_path, walk, capsys):
    walk(2, 200)
    run_prices(tmp_path, "reconstruct", "--folds", "3", "--split", "random")
    for function in ("encode", "anomalies"):
        with pytest.raises(SystemExit, match="2"):
            run_prices(tmp_path, function)
        assert "--data: needed by a model of --split random" in capsys.readouterr().err
    run_prices(tmp_path, "encode", "--data", str(write_series(tmp_path / "new.csv", 2, 100)))
    assert len(read_table(tmp_path / "encode" / "codes.csv")) == 4


@pytest.mark.parametrize("split", ["time", "random"])
def test_folds_report_every_block(tmp_path, walk, split):
    walk(3, 200)
    metrics = run_prices(tmp_path, "reconstruct", "--folds", "3", "--split", split)
    assert (tmp_path / "reconstruct" / "stocks.png").exists() == (split == "time")
    values = [fold["test_mse"] for fold in metrics["by_fold"]]
    assert len(values) == metrics["folds"] == 3
    assert metrics["test_mse_mean"] == pytest.approx(np.mean(values))
    assert metrics["test_mse_std"] == pytest.approx(np.std(values, ddof=1))
    again = run_prices(tmp_path, "reconstruct", "--dry_run")
    assert again["test_mse_mean"] == metrics["test_mse_mean"]
    pca = json.loads((tmp_path / "reconstruct" / "metrics.json").read_text())["pca"]
    assert pca["test_mse_mean"] == pytest.approx(metrics["pca_mse_mean"], rel=1e-5)
    difference = metrics["against"]["pca"]["test_mse"]["difference"]
    assert difference == pytest.approx(metrics["test_mse_mean"] - pca["test_mse_mean"], rel=0.1)


def test_rolling_periods_are_beside_their_opponents(tmp_path, walk):
    walk(3, 200)
    metrics = run_prices(tmp_path, "predict", "--folds", "3", "--window", "5", "--line", "--inputs", "market")
    assert [fold["test_days"] for fold in metrics["by_fold"]] == [45, 45, 45]
    everything = json.loads((tmp_path / "predict" / "metrics.json").read_text())
    for name in ("line_3_days", "boosting"):
        rows, against = everything[name]["by_fold"], metrics["against"][name]["mase"]
        assert everything[name]["mase_mean"] == pytest.approx(np.mean([row["mase"] for row in rows]))
        expected = metrics["mase_mean"] - everything[name]["mase_mean"]
        assert against["difference"] == pytest.approx(expected, abs=1e-6)
        assert against["low"] < against["difference"] < against["high"]
    assert not (tmp_path / "predict" / "tomorrow.csv").exists()


def test_tomorrow_takes_the_last_fold_with_the_scale_of_its_training(tmp_path, walk):
    data = walk(3, 200)
    run_prices(tmp_path, "predict", "--folds", "3", "--window", "5", "--inputs", "high")
    folder = tmp_path / "predict"
    for given, fold, days in (((), "fold2", 112), (("--model_from", str(folder / "fold1")), "fold1", 75)):
        assert run_prices(tmp_path, "tomorrow", *given)["model"] == str(folder / fold)
        model = snp500.checkpoint.rebuild(folder / fold / "best.pt", *snp500.PREDICTORS)
        sample = newest_samples(data.values, fit_scale(data.values[:, :days]), 5, "high")
        highs = [float(row["next_high"]) for row in read_table(tmp_path / "tomorrow" / "tomorrow.csv")]
        assert highs == pytest.approx(snp500.predict_highs(model, sample, "cpu").tolist(), rel=1e-6)
    assert run_prices(tmp_path, "tomorrow", "--model_from", str(folder / "best.pt"))["model"] == str(folder)


def test_the_line_is_where_the_training_begins(tmp_path, walk):
    """With a learning rate of next to nothing the model is its line, which is an opponent as well."""
    walk(4, 200)
    argv = "--function predict --line --inputs market --window 10 --lr 1e-9 --epochs 1 --hidden_size 4".split()
    metrics = snp500.main([*argv, "--output_dir", str(tmp_path), "--quiet"])
    ours, against = metrics["lstm_ae"], metrics["lstm_ae"]["against"]
    assert ours["mase"] == pytest.approx(metrics["line"]["mase"], abs=1e-5)
    assert against["line"]["mase"]["difference"] == pytest.approx(0, abs=1e-5)
    ahead = [name for name in against if against[name]["mase"]["difference"] >= 0]
    assert ahead and all(name in ours["notice"] for name in ahead) and "its relative MAE, " in ours["notice"]


def test_a_grid_by_folds_chooses_the_best_mean_over_the_blocks(tmp_path, walk):
    walk(3, 200)
    metrics = run_prices(tmp_path, "reconstruct", "--folds", "3", "--hidden_size", "2", "5")
    rows = read_table(tmp_path / "reconstruct" / "grid.csv")
    scores = {}
    for size in (2, 5):
        histories = [
            tmp_path / "reconstruct" / "grid" / f"hidden_size={size}" / f"fold{k}" / "history.csv" for k in range(3)
        ]
        scores[size] = np.mean([min(float(row["val_loss"]) for row in read_table(path)) for path in histories])
    best = min(scores, key=scores.get)
    assert metrics["best_combination"] == {"hidden_size": best} and int(rows[0]["hidden_size"]) == best
    assert {int(row["hidden_size"]): float(row["score"]) for row in rows} == pytest.approx(scores)
    assert metrics["val_mse_mean"] == pytest.approx(scores[best], rel=1e-5)


def write_series(path, columns: int, days: int):
    values = 10 + np.random.default_rng(1).standard_normal((days, columns)).cumsum(0) / 10
    dates = np.datetime64("2020-01-01") + np.arange(days)
    lines = [",".join(["date", *(f"c{k}" for k in range(columns))])]
    lines += [",".join([str(date), *map(str, row)]) for date, row in zip(dates, values, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_prices_of_ones_own_from_training_to_tomorrow(tmp_path):
    path = str(write_series(tmp_path / "mine.csv", 3, 120))
    new = str(write_series(tmp_path / "new.csv", 2, 47))
    metrics = run_prices(tmp_path, "reconstruct", "--data", path, "--window", "20", "--input_size", "5")
    assert (metrics["data"], metrics["stocks"]) == ("own", 3)
    run_prices(tmp_path, "encode", "--data", new)
    codes = read_table(tmp_path / "encode" / "codes.csv")
    assert [row["sequence"] for row in codes] == ["c0 2020-01-08", "c0 2020-01-28", "c1 2020-01-08", "c1 2020-01-28"]
    assert run_prices(tmp_path, "anomalies", "--data", new)["windows"] == 4
    run_prices(tmp_path, "predict", "--data", path, "--window", "10", "--inputs", "high")
    run_prices(tmp_path, "tomorrow", "--data", new)
    rows = read_table(tmp_path / "tomorrow" / "tomorrow.csv")
    assert [(row["symbol"], row["date"]) for row in rows] == [("c0", "2020-02-16"), ("c1", "2020-02-16")]
    by_hand = read_table(tmp_path / "predict" / "tomorrow.csv")
    run_prices(tmp_path, "tomorrow")
    assert read_table(tmp_path / "tomorrow" / "tomorrow.csv") == by_hand


def test_the_market_of_tomorrow_is_that_of_the_file(tmp_path, walk, capsys):
    walk(4, 200)
    run_prices(tmp_path, "predict", "--window", "10", "--inputs", "market")
    folder = tmp_path / "mine"
    folder.mkdir()
    for stock in ("A", "B"):
        days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-03-01"))
        lines = [f"{day},{10 + k % 5},{12 + k % 5},{9 + k % 5},{11 + k % 5},{100 + k}" for k, day in enumerate(days)]
        (folder / f"{stock}.csv").write_text("\n".join(["Date,Open,High,Low,Close,Volume", *lines]) + "\n")
    run_prices(tmp_path, "tomorrow", "--data", str(folder))
    assert "the market that the model reads is the mean of these 2 stocks" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run_prices(tmp_path, "tomorrow", "--data", str(folder / "A.csv"))
    assert "expected several stocks" in capsys.readouterr().err


def test_stocks_with_gaps_are_left_out_and_named_once(tmp_path):
    """Also where the script is the program, whose tasks import it by its name."""
    path = write_series(tmp_path / "mine.csv", 3, 120)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:50], lines[50].rpartition(",")[0] + ",", *lines[51:]]) + "\n")
    command = "--function reconstruct --window 20 --input_size 5 --epochs 1 --hidden_size 4 --quiet".split()
    command = [sys.executable, snp500.__file__, *command, "--data", path, "--output_dir", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        f"NOTICE: {path}: rows that lack a price are left out: line 51",
        "NOTICE: mine.csv: 1 of 3 stocks or series have gaps and are left out: c2",
    ]
    metrics = json.loads((tmp_path / "out" / "reconstruct" / "metrics.json").read_text())
    assert metrics["lstm_ae"]["stocks"] == 2


def test_what_no_stock_has(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("date,a,b\n2020-01-01,1,\n2020-01-02,2,2\n2020-01-03,,3\n")
    where = (path, tmp_path, "auto")
    fails(["mine.csv", "a value on each of 3 dates", "found at most 2, of a"], snp500.complete_prices, *where)


def test_axes_name_dollars_only_where_they_are():
    data = walk_prices(1, 3)
    assert axes_of(data.metadata) == ("daily high", "USD", "daily high (USD)")
    for fields, name in ((5, "daily high"), (1, "value")):
        own = data._replace(metadata={"data": "own", "fields": fields})
        assert axes_of(own.metadata) == (name, name, name)


def test_one_window_is_too_few_for_planted_anomalies(tmp_path, capsys):
    data = str(write_series(tmp_path / "mine.csv", 1, 120))
    run_prices(tmp_path, "reconstruct", "--data", data, "--window", "20", "--input_size", "5")
    with pytest.raises(SystemExit, match="2"):
        run_prices(tmp_path, "anomalies")
    assert "mine.csv: expected a test part of 2 windows or more, found 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, expected",
    [
        (
            ("plot_prices", "--source", "sample", "--symbols", "GOOGL"),
            "its symbols: AAPL, AMZN, GOOG, META, NFLX, NVDA",
        ),
        (("reconstruct", "--folds", "2"), "--folds: expected 1, or at least 3"),
        (("reconstruct", "--split", "random"), "--split: used with --folds only"),
        (("reconstruct", "--window", "30", "--input_size", "7"), "--input_size: expected a divisor of --window 30"),
        (("predict", "--data", "{series}"), "--inputs: expected high"),
        (("predict", "--input_size", "5"), "--input_size: not used by predict"),
        (("reconstruct", "--data", "{nothing}"), "found no such file"),
        (("tomorrow",), "run --function predict first"),
    ],
)
def test_prices_refuse_in_one_line(tmp_path, capsys, argv, expected):
    names = {"series": write_series(tmp_path / "series.csv", 2, 100), "nothing": tmp_path / "nothing"}
    with pytest.raises(SystemExit) as caught:
        snp500.main(["--function", *(a.format(**names) for a in argv), "--output_dir", str(tmp_path), "--quiet"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and expected in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*/*.png"))
