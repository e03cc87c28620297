"""The script on a miniature of the archive: files left, metrics, reloading, resuming, grids, one line for bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import movement_archive
import numpy as np
import pytest
import torch
from movement_archive import price_file, random_prices, write_archive

import adv_alstm
from adv_alstm import AdvALSTM, comparison, with_setting
from loaders import movement as load_movement
from training import grid_search

ROOT = Path(__file__).parent.parent
TINY = ["--quiet", "--epochs", "2", "--batch_size", "64", "--hidden_size", "2", "--steps", "3"]
RUN_FILES = {"config.json", "metrics.json"}
TRAINING_FILES = {"history.csv", "last.pt", "best.pt"}


@pytest.fixture(autouse=True)
def miniature(monkeypatch, tmp_path, no_flush):
    """Data under tmp_path/data, no network, and no data of an earlier test."""
    for module in (load_movement, adv_alstm):
        monkeypatch.setattr(module, "MOVEMENT_SETS", movement_archive.SETS)
    monkeypatch.setattr(load_movement, "MOVEMENT_URL", "http://127.0.0.1:9/archive.zip")
    monkeypatch.setenv("no_proxy", "*")
    adv_alstm.samples.cache_clear()
    write_archive(tmp_path / "data")


@pytest.fixture
def run(tmp_path):
    """Runs a function of the script in tmp_path/NAME."""

    def call(function, *flags, name="out"):
        argv = ["--function", function, "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / name)]
        return adv_alstm.main([*argv, *TINY, *flags])

    return call


def files(folder):
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_help_names_every_function():
    command = [sys.executable, ROOT / "adv_alstm.py", "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0
    for name, function in adv_alstm.FUNCTIONS.items():
        assert f"  {name} " in answer.stdout and function.__doc__.splitlines()[0] in answer.stdout


@pytest.mark.parametrize("model", adv_alstm.MODELS)
def test_train_leaves_its_files_and_metrics(run, tmp_path, model):
    metrics = run("train", "--model", model)
    folder = tmp_path / "out" / "train"
    assert files(folder) - {"last.previous.pt"} == RUN_FILES | TRAINING_FILES | {"accuracy.png"}
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert len(table(folder / "history.csv")) == metrics["epochs"] == 2
    assert metrics["data"] == "full" and metrics["dataset"] == "acl18" and metrics["steps"] == 3
    keys = {"seed", "seconds", "test_mcc", "test_accuracy_sigma", "val_accuracy", "always_up_test_accuracy"}
    assert keys <= set(metrics)
    assert metrics["test_accuracy_low"] <= metrics["test_accuracy"] <= metrics["test_accuracy_high"]
    loaded = AdvALSTM.load(folder / "best.pt")
    assert loaded.attention == (model != "lstm") and loaded.perturbed == (model in ("rand_alstm", "adv_alstm"))
    assert loaded.random_perturbations == (model == "rand_alstm") and loaded.l2 == (10 if model == "lstm" else 1)
    expected = 11 * 12 + 8 * (11 + 2 + 1) + (3 if model == "lstm" else 2 * 2 + 2 + 2 + 5)
    assert metrics["parameters"] == expected


def test_the_epoch_is_chosen_by_validation_accuracy(run, tmp_path):
    metrics = run("train", "--epochs", "6")
    curve = [float(row["val_accuracy"]) for row in table(tmp_path / "out" / "train" / "history.csv")]
    assert metrics["best_epoch"] == 1 + curve.index(max(curve)) and metrics["val_accuracy"] == pytest.approx(max(curve))


def test_compare_has_every_model_and_baseline(run, tmp_path):
    metrics = run("compare", "--seeds", "2", "--pretrain", "--epochs", "1")
    folder = tmp_path / "out" / "compare"
    models = ["lstm", "alstm", "rand_alstm", "adv_alstm", "two_stage_alstm", "two_stage_adv_alstm"]
    assert list(metrics) == ["always_up", "yesterday", *models]
    assert files(folder) == RUN_FILES | {"history.csv", "comparison.csv", "comparison.png", "accuracy.png"}
    for name in models:
        found = metrics[name]
        assert found["seeds"] == 2 and found["epochs"] == 1 and found["test_accuracy_std"] >= 0
        assert -1 <= found["test_mcc_mean"] <= 1 and found["parameters"] > 0 and found["data"] == "full"
    for name in ("adv_alstm", "two_stage_adv_alstm"):
        for other in ("alstm", "always_up"):
            low, gain, high = (metrics[name][f"gain_over_{other}{end}"] for end in ("_low", "", "_high"))
            assert low <= gain <= high
    accuracy = metrics["adv_alstm"]["test_accuracy_mean"]
    other = metrics["alstm"]["test_accuracy_mean"], metrics["always_up"]["test_accuracy"]
    assert metrics["adv_alstm"]["gain_over_alstm"] == pytest.approx(accuracy - other[0])
    assert metrics["adv_alstm"]["gain_over_always_up"] == pytest.approx(accuracy - other[1])
    rows = table(folder / "comparison.csv")
    assert [row["model"] for row in rows] == [adv_alstm.LABELS[name] for name in metrics]
    assert rows[2]["published_accuracy"] == "53.18" and float(rows[0]["mcc"]) == 0
    y = adv_alstm.stock_movement(tmp_path / "data", "acl18", steps=3).test.y.double()
    assert metrics["always_up"]["test_accuracy"] == pytest.approx(y.mean().item())


def test_yesterdays_direction_by_hand(run, tmp_path):
    part = adv_alstm.stock_movement(tmp_path / "data", "acl18", steps=3).test
    change = part.x[:, -1, 4]  # of the adjusted close, on the last known day
    expected = ((change > 0).long() == part.y).double().mean().item()
    assert run("train")["yesterday_test_accuracy"] == pytest.approx(expected)


def test_two_stages_start_from_the_trained_alstm(run, tmp_path):
    run("train", "--pretrain", "--learning_rate", "1e-12", "--epsilon", "1", "--beta", "1")
    folder = tmp_path / "out" / "train"
    first, second = AdvALSTM.load(folder / "first_stage" / "best.pt"), AdvALSTM.load(folder / "best.pt")
    assert not first.perturbed and second.perturbed
    for name, weights in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], weights, atol=1e-6, rtol=0)


def test_dry_run_gives_the_test_metrics_again(run, tmp_path):
    first = run("compare", "--pretrain")
    before = (tmp_path / "out" / "compare" / "adv_alstm" / "best.pt").read_bytes()
    again = run("compare", "--pretrain", "--dry_run")
    assert again == first
    assert (tmp_path / "out" / "compare" / "adv_alstm" / "best.pt").read_bytes() == before


@pytest.mark.parametrize("model", ["adv_alstm", "rand_alstm"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(run, tmp_path, model):
    flags = ("--model", model, "--seeds", "2", "--dropout", "0.2", "--epsilon", "0.5")
    whole = run("train", *flags, "--epochs", "4", name="whole")
    run("train", *flags, "--epochs", "2", name="parts")
    resumed = run("train", *flags, "--epochs", "4", "--resume", name="parts")
    assert {k: v for k, v in resumed.items() if "seconds" not in k} == {
        k: v for k, v in whole.items() if "seconds" not in k
    }
    histories = [(tmp_path / name / "train" / "history.csv").read_bytes() for name in ("whole", "parts")]
    assert histories[0] == histories[1]


def test_a_grid_is_chosen_on_validation_data(run, tmp_path):
    metrics = run("train", "--epsilon", "0.01", "1", "--l2", "0", "1", "--beta", "0.5", "--epochs", "3")
    rows = table(tmp_path / "out" / "train" / "grid.csv")
    scores = [float(row["score"]) for row in rows]
    assert len(rows) == 4 and scores == sorted(scores, reverse=True)
    assert metrics["val_accuracy"] == pytest.approx(scores[0])
    assert metrics["chosen"] == {"units": 2, "beta": 0.5, **{name: float(rows[0][name]) for name in ("epsilon", "l2")}}


def test_plot_draws_its_figures(run, tmp_path):
    metrics = run("plot", "--epochs", "1", "--epsilon", "0.1", "1", "--beta", "0.5")
    folder = tmp_path / "out" / "plot"
    assert files(folder) == RUN_FILES | {"history.csv", "attention.png", "epsilon.png", "beta.png", "scores.png"}
    assert {"alstm", "adv_alstm", "epsilon_0.1", "epsilon_1", "beta_0.5"} <= set(metrics)
    for name in ("alstm", "adv_alstm"):
        assert metrics[f"{name}_perturbed_accuracy"] <= metrics[f"{name}_clean_accuracy"]


def test_own_prices_from_training_to_predictions(run, tmp_path):
    prices = tmp_path / "prices"
    prices.mkdir()
    for i in range(2):
        (prices / f"S{i}.csv").write_text(price_file(random_prices(i), american=i == 1, descending=i == 1))
    metrics = run("train", "--dataset", str(prices), "--validation_from", "2013-02-10", "--test_from", "2013-03-01")
    assert metrics["data"] == "own" and metrics["dataset"] == "prices"
    checkpoint = tmp_path / "out" / "train" / "best.pt"
    argv = ["--function", "predict", "--dataset", str(prices), "--output_dir", str(tmp_path / "out"), "--quiet"]
    found = adv_alstm.main(argv)  # the days per window are those of the training
    rows = table(tmp_path / "out" / "predict" / "predictions.csv")
    assert list(rows[0]) == ["date", "ticker", "score", "direction"] and found["rows"] == len(rows)
    last = movement_archive.day(movement_archive.DAYS + 2).isoformat()
    assert [(row["date"], row["ticker"]) for row in rows[-2:]] == [(last, "S0"), (last, "S1")]
    part = load_movement.latest_windows(load_movement.price_table(prices), 3)
    scores = AdvALSTM.load(checkpoint).decision_function(part.x)
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores, rtol=1e-4)
    assert all((float(row["score"]) > 0) == (row["direction"] == "up") for row in rows)
    alone = tmp_path / "alone.pt"
    alone.write_bytes(checkpoint.read_bytes())
    assert adv_alstm.main([*argv, "--checkpoint", str(alone), "--steps", "3"])["rows"] == len(rows)


def test_published_settings(run, tmp_path):
    flags = adv_alstm.argparse.Namespace(
        dataset="kdd17", hidden_size=None, epsilon=None, beta=[0.5], l2=None, epochs=None, steps=None
    )
    found = with_setting(flags, "adv_alstm")
    assert (found.steps, found.hidden_size, found.epsilon, found.beta, found.l2) == (15, [16], [0.001], [0.5], [0.001])
    plain = with_setting(flags, "alstm")
    assert (plain.epsilon, plain.beta, plain.l2) == ([0.0], [0.0], [0.001])  # no grid over what it does not have
    assert with_setting(grid_search.with_values(flags, dataset="acl18"), "lstm").steps == 10


def test_the_table_of_several_seeds_shows_their_mean():
    scores = {
        "test_accuracy": 0.5,
        "test_accuracy_low": 0.4,
        "test_accuracy_high": 0.6,
        "test_accuracy_sigma": 0.01,
        "test_mcc": 0.1,
        "test_mcc_low": 0.0,
        "test_mcc_high": 0.2,
    }
    several = {**scores, "test_accuracy_mean": 0.55, "test_accuracy_std": 0.02, "test_mcc_mean": 0.11}
    one, mean = comparison({"always_up": scores, "lstm": several}, "kdd17")
    assert (one["accuracy"], one["accuracy_std"], one["published_mcc"]) == (50.0, 0.0, "")
    assert (mean["accuracy"], mean["accuracy_std"], mean["mcc"], mean["published_mcc"]) == (55.0, 2.0, 0.11, 0.0183)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dataset", "acl19"], ["--dataset", "acl18, kdd17", "acl19"]),
        (["--model", "blstm"], ["--model", "blstm"]),
        (["--epsilon", "-1"], ["--epsilon", "-1"]),
        (["--beta", "much"], ["--beta", "much"]),
        (["--l2", "nan"], ["--l2", "nan"]),
        (["--dropout", "1"], ["--dropout", "1"]),
        (["--steps", "0"], ["--steps", "0"]),
        (["--steps", "500"], ["500"]),
        (["--num_layers", "2"], ["--num_layers", "2"]),
        (["--test_from", "2013-02-01"], ["--test_from", "acl18"]),
        (["--pretrain", "--hidden_size", "2", "4"], ["--hidden_size", "--pretrain"]),
        (["--source", "sample"], ["sample", "licence"]),
        (["--function", "predict", "--checkpoint", "none.pt"], ["none.pt"]),
        (["--function", "train", "--dry_run"], ["--dry_run", "best.pt"]),
    ],
)
def test_bad_input_gives_one_line_that_names_it_and_status_2(run, flags, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("train", *flags)
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message.count("\n") == 1 and message.endswith("\n") and "Traceback" not in message
    assert all(text in message for text in named), message


def test_without_data_and_network_one_line_says_what_to_put_where(run, tmp_path, capsys):
    (tmp_path / "data" / "adv_alstm" / "Adv-ALSTM-master.zip").unlink()
    with pytest.raises(SystemExit) as stopped:
        run("train")
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1
    assert "Adv-ALSTM-master.zip" in message and "sample" not in message
