"""The data side of the autoencoder studies of sequences and prices, by hand tables, and what must not leak."""

import csv
from argparse import Namespace

import numpy as np
import pytest
import torch
from test_windows import random_walk

import lstm_ae_snp500 as snp500
import lstm_ae_toy as toy
from lstm_studies.loaders.augmentation import extended, random_filters, random_mirrors, random_stretches
from lstm_studies.loaders.prices import StockPrices
from lstm_studies.loaders.toy import generate_signals, read_sequences, scale_sequences, toy_signals
from lstm_studies.loaders.windows import CLOSE, HIGH, RANGE, fit_scale
from lstm_studies.models.lstm_ae import LSTMAutoencoder
from lstm_studies.training import checkpoint

# ---- toy -------------------------------------------------------------------------------------------------------------


def test_as_steps_keeps_the_order_of_time():
    x = torch.arange(6.0).view(1, 6)
    assert toy.as_steps(x, 2).tolist() == [[[0, 1], [2, 3], [4, 5]]]


def test_random_mirrors_makes_the_four_variants_and_no_other():
    torch.manual_seed(0)
    x = torch.tensor([[0.1, 0.2, 0.9]])
    variants = {tuple(round(v, 4) for v in row) for row in random_mirrors(x.expand(200, 3)).tolist()}
    assert variants == {(0.1, 0.2, 0.9), (0.9, 0.2, 0.1), (0.9, 0.8, 0.1), (0.1, 0.8, 0.9)}


def test_random_stretches_keep_slow_sines_and_the_scale():
    torch.manual_seed(0)
    time = torch.linspace(0, 1, 50)
    x = scale_sequences(torch.sin(2 * torch.pi * (2 * time + torch.rand(20, 1))))[0]
    stretched = random_stretches(x, 25, 50, 50)
    assert stretched.min() >= 0 and stretched.max() <= 1
    torch.testing.assert_close(stretched.mean(1), torch.full((20,), 0.5))
    # each one is offset + a sine of a frequency between 1 and 2 cycles: three unknowns fit it, at the best frequency
    best = torch.full((20,), torch.inf)
    for frequency in torch.linspace(0.9, 2.1, 121):
        angle = 2 * torch.pi * frequency * time
        basis = torch.stack([torch.ones(50), angle.sin(), angle.cos()], 1)
        fitted = basis @ torch.linalg.lstsq(basis, stretched.T).solution
        best = torch.minimum(best, (fitted.T - stretched).square().mean(1))
    assert best.max() < 1e-4
    torch.testing.assert_close(random_stretches(x, 50, 50, 50), x, atol=1e-5, rtol=0)  # the whole sequence: as it was
    assert random_stretches(x, 30, 40, 12).shape == (20, 12)


def test_three_sines_are_extended_as_they_go_on():
    longer = generate_signals("waves", 100, 66)
    x, offset, scale = scale_sequences(longer[:, 8:58])
    error = extended(x, 8) - ((longer - offset) / scale + 0.5)
    assert error.abs().max() < 0.01 and error[:, 4:62].abs().max() < 1e-3
    assert extended(x, 0) is x


@pytest.mark.parametrize("steps", [50, 48])
def test_random_filters_keep_the_frequency_of_a_sine(steps):
    torch.manual_seed(0)
    angle = 2 * torch.pi * 5 * torch.arange(steps) / 50
    x = 0.5 + 0.4 * torch.sin(angle + 6 * torch.rand(20, 1))
    filtered = random_filters(x, 0.3)
    assert filtered.shape == (20, steps - 2)
    basis = torch.stack([angle.sin(), angle.cos()], 1)[1:-1]
    fitted = basis @ torch.linalg.lstsq(basis, filtered.T).solution
    torch.testing.assert_close(fitted.T, filtered, atol=1e-5, rtol=0)
    assert (filtered - (x[:, 1:-1] - 0.5)).abs().amax(1).min() > 0.01  # and change its amplitude or phase
    torch.testing.assert_close(random_filters(x, 0.0), x[:, 1:-1] - 0.5)


def toy_settings(**changes) -> toy.ToySettings:
    return toy.ToySettings(**{"signal": "waves", "device": "cpu", **changes})


@pytest.mark.parametrize("extension", [0, 6])
def test_augmentation_changes_every_sequence_of_training(extension):
    torch.manual_seed(0)
    x = toy_signals("waves", 400).train
    changed = toy.augmented(x, extended(x, extension), toy_settings(stretch=0.9, filtering=0.1, extension=extension))
    assert changed.shape == x.shape and not (changed == x).all(1).any()
    highest = [sequences.sub(0.5).abs().diff(dim=1).square().mean() for sequences in (changed, x)]
    assert (highest[0] > 0.95 * highest[1]) == bool(extension)  # without extension, frequencies can only fall
    assert toy.augmented(x, x, toy_settings()) is x


def test_fresh_sequences_are_others_every_time_of_the_same_kind_and_seeded():
    x, settings = toy_signals("uniform", 1000).train, toy_settings(signal="uniform", fresh=True)
    batches = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        batches += [toy.augmented(x, x, settings), toy.augmented(x, x, settings)]
    assert torch.equal(batches[0], batches[2]) and torch.equal(batches[1], batches[3])
    assert len(torch.cat([x, batches[0], batches[1], batches[4]]).unique(dim=0)) == 4 * len(x)
    torch.testing.assert_close(batches[0].mean(0), x.mean(0), atol=0.05, rtol=0)  # the dip of steps 20 to 29 is there


def run_toy(tmp_path, *argv) -> dict:
    tiny = ["--epochs", "1", "--limit", "64", "--hidden_size", "4"] if "reconstruct" in argv else []
    return toy.main(["--function", *argv, *tiny, "--output_dir", str(tmp_path), "--quiet"])


def write_rows(path, count: int, length: int = 12):
    rng = np.random.default_rng(0)
    path.write_text("".join(",".join(f"{v:.4f}" for v in rng.random(length)) + "\n" for _ in range(count)))
    return path


def test_toy_with_a_file_of_ones_own(tmp_path):
    path = write_rows(tmp_path / "mine.csv", 40)
    metrics = run_toy(tmp_path, "reconstruct", "--data", str(path), "--input_size", "4", "--code_size", "3")
    assert (metrics["data"], metrics["file"], metrics["code_size"]) == ("own", "mine.csv", 3)
    new = write_rows(tmp_path / "new.csv", 7)
    assert run_toy(tmp_path, "encode", "--data", str(new)) == {
        "model": str(tmp_path / "reconstruct"),
        "sequences": 7,
        "code_size": 3,
    }
    codes = read_table(tmp_path / "encode" / "codes.csv")
    assert list(codes[0]) == ["sequence", "z1", "z2", "z3"] and [row["sequence"] for row in codes][::6] == [
        "row 1",
        "row 7",
    ]
    model = checkpoint.rebuild(tmp_path / "reconstruct" / "best.pt", LSTMAutoencoder)
    with torch.no_grad():
        expected = model.encode(toy.as_steps(scale_sequences(read_sequences(new))[0], 4))
    np.testing.assert_allclose([[float(row[f"z{k}"]) for k in (1, 2, 3)] for row in codes], expected, rtol=1e-5)
    metrics = run_toy(tmp_path, "anomalies", "--data", str(new))
    rows = read_table(tmp_path / "anomalies" / "anomalies.csv")
    errors = [float(row["error"]) for row in rows]
    assert sorted(errors, reverse=True) == errors and len(rows) == metrics["sequences"] == 7
    assert (
        sum(int(row["anomalous"]) for row in rows)
        == metrics["anomalous"]
        == sum(e > metrics["threshold"] for e in errors)
    )
    assert (tmp_path / "anomalies" / "worst.png").exists()


def read_table(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_toy_finds_planted_spikes_in_what_it_has_learnt(tmp_path):
    """Slow sines of one frequency: whatever hardly trains knows that they are smooth."""
    phases = np.random.default_rng(0).uniform(0, 6, (300, 1))
    rows = np.sin(phases + np.arange(20) / 3)
    np.savetxt(tmp_path / "sines.csv", rows, delimiter=",")
    flags = [
        "--data",
        str(tmp_path / "sines.csv"),
        "--input_size",
        "5",
        "--code_size",
        "2",
        "--epochs",
        "60",
        "--batch_size",
        "16",
        "--lr",
        ".01",
    ]
    toy.main(["--function", "reconstruct", *flags, "--hidden_size", "16", "--output_dir", str(tmp_path), "--quiet"])
    metrics = run_toy(tmp_path, "anomalies")
    assert metrics["auc_spike"] > 0.95 and metrics["pca_auc_spike"] > 0.95


@pytest.mark.parametrize(
    "argv, expected",
    [
        (("reconstruct", "--data", "{rows}", "--signal", "walk"), "--signal: used with generated sequences only"),
        (("reconstruct", "--data", "{rows}", "--fresh"), "--fresh: used with generated sequences only"),
        (("reconstruct", "--data", "{rows}", "--input_size", "5"), "--input_size: expected a divisor of 12"),
        (("reconstruct", "--data", "{nothing}"), "No such file"),
        (
            ("reconstruct", "--extension", "5", "--signal", "walk"),
            "--extension: used with --filtering or --stretch only",
        ),
        (("encode",), "run --function reconstruct first"),
        (("anomalies", "--trained", "{nothing}"), "expected a trained model"),
        (("encode", "--epochs", "3"), "--epochs: not used by encode"),
        (("encode", "--quantile", ".9"), "--quantile: not used by encode"),
    ],
)
def test_toy_refuses_in_one_line(tmp_path, capsys, argv, expected):
    names = {"rows": write_rows(tmp_path / "rows.csv", 10), "nothing": tmp_path / "nothing"}
    with pytest.raises(SystemExit) as caught:
        toy.main(["--function", *(a.format(**names) for a in argv), "--output_dir", str(tmp_path), "--quiet"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and expected in error and error.count("\n") == 1


def test_a_file_of_other_lengths_or_a_model_of_another_script_is_refused(tmp_path, capsys):
    run_toy(tmp_path, "reconstruct")
    short = write_rows(tmp_path / "short.csv", 10)
    for function, flags, expected in (
        (toy.main, ["encode", "--data", str(short)], "expected sequences of 50 values, as in training, found 12"),
        (snp500.main, ["encode", "--source", "sample"], "expected a model that lstm_ae_snp500.py trained"),
    ):
        with pytest.raises(SystemExit) as caught:
            function(["--function", *flags, "--output_dir", str(tmp_path), "--quiet"])
        assert caught.value.code == 2 and expected in capsys.readouterr().err


@pytest.mark.parametrize("signal, error, warned", [("waves", 0.0051, True), ("waves", 0.0049, False)])
@pytest.mark.parametrize("uniform", [False, True])
def test_warning_of_a_model_that_returns_the_mean(capsys, signal, error, warned, uniform):
    if uniform:  # noise has no better code: twice as good as the mean is good
        signal, error = "uniform", error * 9.6
    toy.warn_of_the_mean("code16", {"signal": signal, "test_mse": error, "mean_mse": 0.05})
    assert ("WARNING: code16 is not" in capsys.readouterr().out) == warned


# ---- S&P 500 ---------------------------------------------------------------------------------------------------------


def price_settings(**changes) -> snp500.PriceSettings:
    return snp500.PriceSettings(**{"device": "cpu", "window": 3, "inputs": "high", "stride": 1, **changes})


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
        snp500.prices.cache_clear()
        return data

    yield use
    snp500.prices.cache_clear()


def run_prices(tmp_path, *argv) -> dict:
    tiny = ["--epochs", "1", "--limit", "32", "--hidden_size", "4"] if argv[0] in snp500.TRAIN else []
    tiny = [a for a in tiny if a not in argv] if "--hidden_size" not in argv else tiny[:4]
    return snp500.main(["--function", *argv, *tiny, "--output_dir", str(tmp_path), "--quiet"])


def test_high_windows_of_the_test_part_do_not_overlap():
    data = walk_prices(1, 100)
    settings = price_settings(window=5)
    highs = data.values[0, :, HIGH]
    assert torch.equal(snp500.part_windows(data, settings, "test").flatten(), highs[80:])
    assert snp500.part_windows(data, settings, "train").shape == (56, 5)


def test_dollars_come_back_through_a_perfect_autoencoder():
    class Identity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.arguments = {"input_size": 5}

        def forward(self, x):
            return Namespace(reconstruction=x)

    dollars = walk_prices(3, 10).values[:, :, HIGH]
    restored = snp500.reconstruct_dollars(Identity(), dollars, "cpu")
    torch.testing.assert_close(restored, dollars, rtol=1e-6, atol=0)


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
    step = snp500.make_prediction_step(price_settings(predict_every_step=every, reconstruction_dominance=0.25))
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


def test_a_random_walk_gives_mase_1(tmp_path, walk):
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
    metrics = snp500.main(["--function", "predict", *flags, "--quiet"])
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
    assert figures == {"mse_loss", "prediction_loss", "losses", "predictions", "companies", "rollout"}


def test_folds_report_every_block(tmp_path, walk):
    walk(3, 200)
    metrics = run_prices(tmp_path, "reconstruct", "--folds", "3")
    values = [metrics[f"fold{k}"]["test_mse"] for k in range(3)]
    assert metrics["test_mse_mean"] == pytest.approx(np.mean(values))
    assert metrics["test_mse_std"] == pytest.approx(np.std(values, ddof=1))
    again = run_prices(tmp_path, "reconstruct", "--dry_run")
    assert again["test_mse_mean"] == metrics["test_mse_mean"]


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


@pytest.mark.parametrize(
    "argv, expected",
    [
        (
            ("plot_prices", "--source", "sample", "--symbols", "GOOGL"),
            "its symbols: AAPL, AMZN, GOOG, META, NFLX, NVDA",
        ),
        (("reconstruct", "--folds", "2"), "--folds: expected 1, or at least 3"),
        (("reconstruct", "--window", "30", "--input_size", "7"), "--input_size: expected a divisor of --window 30"),
        (("predict", "--data", "{series}"), "--inputs: expected high"),
        (("predict", "--folds", "5"), "--folds: not used by predict"),
        (("predict", "--input_size", "5"), "--input_size: not used by predict"),
        (("reconstruct", "--data", "{nothing}"), "No such file"),
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
