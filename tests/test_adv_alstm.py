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
from adv_alstm import SCRIPT, AdvALSTM, with_model
from lstm_studies.evaluation.movement_opponents import NAMES
from lstm_studies.loaders import movement as load_movement
from lstm_studies.loaders.movement_samples import latest_windows
from lstm_studies.loaders.published_alstm import published_variables
from lstm_studies.models.attentive_lstm import AttentiveLSTM
from lstm_studies.models.published_alstm import convert_published
from lstm_studies.reporting.movement import (
    comparison,
    difference_label,
    label,
    prediction_notice,
    prediction_rows,
)
from lstm_studies.reporting.movement import notices as notices_of
from lstm_studies.training import flags

ROOT = Path(__file__).parent.parent
TINY = ["--quiet", "--epochs", "2", "--batch_size", "64"]
SMALL = ["--hidden_size", "2", "--steps", "3"]
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

    def call(function, *given, name="out", small=True):
        argv = ["--function", function, "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / name)]
        return adv_alstm.main([*argv, *TINY, *(SMALL if small else []), *given])

    return call


def files(folder):
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def weights_of(folder):
    return AdvALSTM.load(folder / "best.pt").state_dict()


def same(weights, others):
    return all(torch.equal(value, others[name]) for name, value in weights.items())


def without_seconds(metrics):
    """Metrics but for those of the time and of the course of a training, which only a training has."""
    return {name: {key: value for key, value in values.items() if key != "seconds"} for name, values in metrics.items()}


def test_help_names_every_function():
    command = [sys.executable, ROOT / "adv_alstm.py", "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0
    assert list(SCRIPT.functions) == list(adv_alstm.FUNCTIONS)
    for name, settings in SCRIPT.functions.items():
        assert f"  {name} " in answer.stdout and settings.__doc__[:40] in answer.stdout


@pytest.mark.parametrize("model", adv_alstm.MODELS)
def test_train_leaves_its_files_and_metrics(run, tmp_path, model):
    metrics = run("train", "--model", model)
    folder = tmp_path / "out" / "train"
    assert files(folder) - {"last.previous.pt"} == RUN_FILES | TRAINING_FILES | {"accuracy.png"}
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert list(metrics) == [model, *NAMES]
    assert set(metrics[model]["against"]) == set(NAMES)
    metrics = metrics[model]
    assert len(table(folder / "history.csv")) == metrics["epochs"] == 2
    assert metrics["data"] == "full" and metrics["dataset"] == "acl18" and metrics["steps"] == 3
    keys = {"seed", "seeds", "seconds", "test_mcc", "test_accuracy_sigma", "val_accuracy"}
    assert keys <= set(metrics)
    assert metrics["test_accuracy_low"] <= metrics["test_accuracy"] <= metrics["test_accuracy_high"]
    loaded = AdvALSTM.load(folder / "best.pt")
    assert loaded.attention == (model != "lstm") and loaded.perturbed == (model in ("rand_alstm", "adv_alstm"))
    assert loaded.random_perturbations == (model == "rand_alstm") and loaded.l2 == (10 if model == "lstm" else 1)
    assert metrics["calibration"].keys() == {"slope", "intercept", "gain"} and 0.3 < metrics["test_log_loss"] < 3
    expected = 11 * 12 + 8 * (11 + 2 + 1) + (3 if model == "lstm" else 2 * 2 + 2 + 2 + 5)
    assert metrics["parameters"] == expected


def test_the_epoch_is_chosen_by_validation_accuracy(run, tmp_path):
    metrics = run("train", "--epochs", "6")["adv_alstm"]
    curve = [float(row["val_accuracy"]) for row in table(tmp_path / "out" / "train" / "history.csv")]
    assert metrics["best_epoch"] == 1 + curve.index(max(curve)) and metrics["val_accuracy"] == pytest.approx(max(curve))


def test_compare_has_every_model_start_and_baseline(run, tmp_path):
    metrics = run("compare", "--seeds", "2", "--epochs", "1", small=False)
    folder = tmp_path / "out" / "compare"
    of_start = ["alstm", "rand_alstm", "adv_alstm"]
    models = ["lstm", *of_start, *(f"{start}_{name}" for start in ("two_stage", "published") for name in of_start)]
    assert list(metrics) == [*NAMES, *models[:7], "published_start", *models[7:]]
    tables_and_figures = {f"{name}.{kind}" for name in ("comparison", "differences") for kind in ("csv", "png")}
    assert files(folder) == RUN_FILES | {"history.csv"} | tables_and_figures
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(models)
    for name in models:
        own = metrics[name]
        assert own["seeds"] == 2 and own["epochs"] == 1 and own["test_accuracy_std"] >= 0
        assert -1 <= own["test_mcc_mean"] <= 1 and own["parameters"] > 0 and own["data"] == "full"
        assert own["steps"] == (10 if name == "lstm" else 5)
    assert set(metrics["alstm"]["against"]) == set(metrics["published_start"]["against"]) == {*NAMES}
    assert set(metrics["lstm"]["against"]) == set(metrics["adv_alstm"]["against"]) == {*NAMES, "alstm"}
    for start in ("two_stage", "published"):
        assert set(metrics[f"{start}_alstm"]["against"]) == {*NAMES, "alstm"}
        assert set(metrics[f"{start}_adv_alstm"]["against"]) == {*NAMES, f"{start}_alstm", "adv_alstm"}
    rows = table(folder / "differences.csv")
    count = 0
    for name, own in metrics.items():
        for other, scores in own.get("against", {}).items():
            for key, values in scores.items():
                low, difference, high = (values[end] for end in ("low", "difference", "high"))
                ours, theirs = (metrics[row].get(f"{key}_mean", metrics[row][key]) for row in (name, other))
                assert low <= difference <= high and difference == pytest.approx(ours - theirs)
                row, count = rows[count], count + 1
                assert (row["model"], row["opponent"]) == (label(name), label(other))
                if row["verdict"] in ("better", "worse"):
                    assert (low > 0) == (row["verdict"] == "better") and (high < 0) == (row["verdict"] == "worse")
                else:
                    assert row["verdict"] == "equivalent" or low <= 0 <= high
    assert count == len(rows)
    rows = table(folder / "comparison.csv")
    assert [row["model"] for row in rows] == [label(name) for name in metrics]
    assert rows[4]["published_accuracy"] == "53.18" and float(rows[0]["mcc"]) == 0
    assert {row["model"]: row["published_accuracy"] for row in rows}["Adv-ALSTM, published weights"] == "57.2"
    argv = ["--function", "compare", "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    assert without_seconds(adv_alstm.main([*argv, "--quiet", "--dry_run"])) == without_seconds(metrics)
    y = adv_alstm.stock_movement(tmp_path / "data", "acl18", steps=5).test.y.double()
    assert metrics["always_up"]["test_accuracy"] == pytest.approx(y.mean().item())


def test_a_start_is_where_training_begins(run, tmp_path):
    """With a step size of nothing all models are their start: our ALSTM of the same seed, or the published one."""
    run("compare", "--seeds", "2", "--learning_rate", "1e-12", "--start", "own", "published", small=False)
    folder = tmp_path / "out" / "compare"
    published = convert_published(published_variables(tmp_path / "data", "acl18"))
    for seed in ("0", "1"):
        own = weights_of(folder / "alstm" / "seeds" / seed)
        for start, expected in (("two_stage", own), ("published", published)):
            for model in ("alstm", "rand_alstm", "adv_alstm"):
                trained = weights_of(folder / f"{start}_{model}" / "seeds" / seed)
                for name, weights in expected.items():
                    torch.testing.assert_close(trained[name], weights, atol=1e-6, rtol=0)
    heads = [weights_of(folder / "alstm" / "seeds" / seed)["head.weight"] for seed in ("0", "1")]
    assert not torch.equal(*heads)


def test_resume_adds_seeds_and_a_dry_run_trains_nothing(run, tmp_path):
    run("compare", "--start", "published", "--seeds", "2", small=False)
    folder = tmp_path / "out" / "compare"
    first = [weights_of(folder / "published_alstm" / "seeds" / seed) for seed in ("0", "1")]
    both = run("compare", "--start", "published", "--seeds", "3", "--resume", small=False)
    for seed, weights in zip(("0", "1"), first, strict=True):
        assert same(weights_of(folder / "published_alstm" / "seeds" / seed), weights)
    whole = run("compare", "--start", "published", "--seeds", "3", name="whole", small=False)
    for name in ("published_alstm", "published_adv_alstm"):
        assert both[name]["test_accuracy_mean"] == whole[name]["test_accuracy_mean"]
    path = folder / "published_alstm" / "seeds" / "2" / "last.pt"
    before = path.stat().st_mtime_ns
    argv = ["--function", "compare", "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    assert without_seconds(adv_alstm.main([*argv, "--quiet", "--dry_run"])) == without_seconds(both)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.reliability)])
def test_a_seed_alone_and_among_others_has_the_same_bits(run, tmp_path, jobs):
    """Whatever is trained beside it, in this process or in others, and by the estimator's `fit` too."""
    sample = ("--source", "sample", "--limit", "200")
    run("compare", "--seeds", "3", "--start", "random", "--jobs", jobs, *sample, name="many")
    run("train", "--seed", "2", "--model", "adv_alstm", *sample, name="one")
    among, alone = tmp_path / "many" / "compare" / "adv_alstm" / "seeds" / "2", tmp_path / "one" / "train"
    assert same(weights_of(among), weights_of(alone))
    assert (among / "history.csv").read_bytes() == (alone / "history.csv").read_bytes()
    data = adv_alstm.stock_movement(tmp_path / "data", "acl18", "sample", 3, 200)
    model, held_out = AdvALSTM(2, epsilon=0.05, beta=0.01, l2=1.0), (data.validation.x, data.validation.y)
    model.fit(data.train.x, data.train.y, held_out, epochs=2, batch_size=64, seed=2, verbose=0)
    assert same(weights_of(among), model.state_dict())


@pytest.mark.parametrize("method", ["forward", "represent", "scores", "losses", "perturbation"])
@pytest.mark.parametrize("function", ["train", "compare", "starts", "plot", "fit"])
def test_what_is_read_is_what_is_trained(run, tmp_path, monkeypatch, function, method):
    """A method of AttentiveLSTM that raises ends every function that trains: there is no second definition."""

    class Used(Exception):
        pass

    def stop(*_):
        raise Used

    monkeypatch.setattr(AttentiveLSTM, method, stop)
    seeds = [] if function in ("train", "fit") else ["--seeds", "2"]
    with pytest.raises(Used):
        if function == "fit":
            x = torch.randn(8, 3, 2)
            model = AdvALSTM(2)
            model.fit(x, torch.tensor([0, 1] * 4), epochs=1, verbose=0)
            model.predict(x)
        else:
            run(function, *seeds, "--epochs", "1", small=function not in ("compare", "starts"))


def test_starts_puts_the_published_one_among_ours(run, tmp_path):
    metrics = run("starts", "--seeds", "3", small=False)
    models = ["alstm", "two_stage_adv_alstm", "published_adv_alstm"]
    assert list(metrics) == ["starts", *models, "published_start"]
    assert all(metrics[name]["seeds"] == 3 and metrics[name]["seconds"] >= 0 for name in models)
    mean = metrics["alstm"]["test_accuracy_mean"]
    metrics = metrics["starts"]
    assert metrics["start_test_accuracy_mean"] == pytest.approx(mean)
    rows = table(tmp_path / "out" / "starts" / "starts.csv")
    assert files(tmp_path / "out" / "starts") == RUN_FILES | {"history.csv", "starts.csv", "starts.png"}
    assert [row["start"] for row in rows] == ["own"] * 3 + ["published"] * 3
    own = np.array([[float(row[key]) for key in ("start_test_accuracy", "after_test_accuracy")] for row in rows[:3]])
    assert metrics["start_test_accuracy_mean"] == pytest.approx(own[:, 0].mean())
    assert metrics["after_test_accuracy_std"] == pytest.approx(own[:, 1].std(ddof=1))
    theirs = {float(row["start_test_accuracy"]) for row in rows[3:]}
    assert theirs == {metrics["published_start_test_accuracy"]}
    above = (own[:, 0] > metrics["published_start_test_accuracy"]).mean()
    assert metrics["start_test_accuracy_share_above_published"] == pytest.approx(above)


def test_without_the_archive_the_sample_has_no_published_start(run, tmp_path, capsys):
    (tmp_path / "data" / "adv_alstm" / "Adv-ALSTM-master.zip").unlink()
    metrics = run("compare", "--limit", "200", "--epochs", "1", "--start", "random", "published")
    notices = capsys.readouterr().err
    assert "NOTICE: Adv-ALSTM-master.zip is missing" in notices and "no rows with them" in notices
    assert list(metrics) == [*NAMES, "lstm", "alstm", "rand_alstm", "adv_alstm"]
    rows = table(tmp_path / "out" / "compare" / "comparison.csv")
    assert metrics["alstm"]["data"] == "sample" and {row["published_accuracy"] for row in rows} == {""}


def test_yesterdays_direction_by_hand(run, tmp_path):
    part = adv_alstm.stock_movement(tmp_path / "data", "acl18", steps=3).test
    change = part.x[:, -1, 4]  # of the adjusted close, on the last known day
    expected = ((change > 0).long() == part.y).double().mean().item()
    assert run("train")["yesterday"]["test_accuracy"] == pytest.approx(expected)


def test_two_stages_start_from_the_trained_alstm(run, tmp_path):
    run("train", "--start", "own", "--learning_rate", "1e-12", "--epsilon", "1", "--beta", "1")
    folder = tmp_path / "out" / "train"
    first, second = AdvALSTM.load(folder / "first_stage" / "best.pt"), AdvALSTM.load(folder / "best.pt")
    assert not first.perturbed and second.perturbed
    for name, weights in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], weights, atol=1e-6, rtol=0)


def test_training_from_the_published_weights_and_from_a_file(run, tmp_path):
    rate = ("--learning_rate", "1e-12", "--dataset", "kdd17")
    metrics = run("train", *rate, "--start", "published", small=False)
    published = convert_published(published_variables(tmp_path / "data", "kdd17"))
    path = tmp_path / "out" / "train" / "best.pt"
    torch.testing.assert_close(AdvALSTM.load(path).head.weight, published["head.weight"], atol=1e-6, rtol=0)
    again = run("train", *rate, "--start", str(path), name="again", small=False)
    (first, *_), (second, *_) = metrics.values(), again.values()
    assert second["test_accuracy"] == first["test_accuracy"] and second["chosen"]["units"] == 16
    assert "published_adv_alstm" in metrics and "best_adv_alstm" in again


def test_dry_run_gives_the_test_metrics_again(run, tmp_path):
    first = run("train", "--start", "own")
    before = (tmp_path / "out" / "train" / "best.pt").read_bytes()
    argv = [
        "--function",
        "train",
        "--data_dir",
        str(tmp_path / "data"),
        "--output_dir",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert without_seconds(adv_alstm.main([*argv, "--dry_run"])) == without_seconds(first)
    assert (tmp_path / "out" / "train" / "best.pt").read_bytes() == before


@pytest.mark.parametrize("model", ["adv_alstm", "rand_alstm"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(run, tmp_path, model):
    flags = ("--model", model, "--seeds", "2", "--dropout", "0.2", "--epsilon", "0.5")
    whole = run("train", *flags, "--epochs", "4", name="whole")
    run("train", *flags, "--epochs", "2", name="parts")
    resumed = run("train", *flags, "--epochs", "4", "--resume", name="parts")
    assert without_seconds(resumed) == without_seconds(whole)
    histories = [(tmp_path / name / "train" / "history.csv").read_bytes() for name in ("whole", "parts")]
    assert histories[0] == histories[1]


def test_a_grid_is_chosen_on_validation_data(run, tmp_path):
    metrics = run("train", "--epsilon", "0.01", "1", "--l2", "0", "1", "--beta", "0.5", "--epochs", "3")["adv_alstm"]
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
        assert metrics[name]["perturbed_accuracy"] <= metrics[name]["clean_accuracy"]
    record = predict_from(tmp_path, folder / "adv_alstm", "--source", "sample")["adv_alstm"]["trained_on"]
    assert record["test_accuracy"] == metrics["adv_alstm"]["test_accuracy"] and "always_up_test_accuracy" not in record


def predict_from(tmp_path, folder, *given) -> dict:
    return adv_alstm.main(
        ["--function", "predict", "--model_from", str(folder), "--output_dir", str(tmp_path / "out"), *given]
    )


@pytest.fixture
def own_prices(tmp_path):
    """A folder of two stocks, the second of which ends three days before the first."""
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "S0.csv").write_text(price_file(random_prices(0)))
    (folder / "S1.csv").write_text(
        price_file(random_prices(1, last=movement_archive.DAYS), american=True, descending=True)
    )
    return folder


def predictions(tmp_path):
    return table(tmp_path / "out" / "predict" / "predictions.csv")


def test_own_prices_from_training_to_predictions(run, tmp_path, own_prices, capsys):
    parts = ["--validation_from", "2013-02-10", "--test_from", "2013-03-01"]
    trained = run("train", "--data", str(own_prices), *parts, "--test_until", "2013-03-20")
    level = trained["always_up"]["test_accuracy"]
    trained = trained["adv_alstm"]
    assert trained["data"] == "own" and trained["dataset"] == "prices" and trained["test_dates"][1] <= "2013-03-20"
    checkpoint = tmp_path / "out" / "train" / "best.pt"
    argv = ["--function", "predict", "--data", str(own_prices), "--output_dir", str(tmp_path / "out")]
    found = adv_alstm.main(argv)["adv_alstm"]  # the days per window are those of the training
    (row,) = predictions(tmp_path)
    assert list(row) == ["date", "ticker", "score", "probability_up", "direction"]
    last = movement_archive.day(movement_archive.DAYS + 2).isoformat()
    assert (row["date"], row["ticker"]) == (last, "S0") and found["without_prediction"] == ["S1"]
    score, calibration = float(row["score"]), trained["calibration"]
    if calibration["slope"] > 0 < calibration["gain"]:
        logit = calibration["slope"] * score + calibration["intercept"]
        assert float(row["probability_up"]) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)
    else:
        assert row["probability_up"] == "" and "NOTICE: no probabilities" in found["notice"]
    assert found["trained_on"]["test_accuracy"] == trained["test_accuracy"]
    assert found["trained_on"]["always_up_test_accuracy"] == level
    said = capsys.readouterr().out
    assert "S0" in said and "no complete days up to then: S1" in said
    assert f"right on {100 * trained['test_accuracy']:.1f} % of the samples" in said and "always up" in said
    adv_alstm.main([*argv, "--quiet", "--every_day"])
    rows = predictions(tmp_path)
    part = latest_windows(load_movement.price_table(own_prices), 3)
    scores = AdvALSTM.load(checkpoint).decision_function(part.x)
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores, rtol=1e-4)
    assert all(
        (float(row["probability_up"]) > 0.5 if row["probability_up"] else float(row["score"]) > 0)
        == (row["direction"] == "up")
        for row in rows
    )
    for file in ("best.pt", "last.pt"):  # a model without the metrics.json of its run
        (tmp_path / "alone").mkdir(exist_ok=True)
        (tmp_path / "alone" / file).write_bytes(checkpoint.with_name(file).read_bytes())
    found = adv_alstm.main([*argv, "--quiet", "--model_from", str(tmp_path / "alone")])["adv_alstm"]
    assert found["rows"] == 1 and found["trained_on"] == {}
    assert predictions(tmp_path)[0]["probability_up"] == ""


@pytest.mark.parametrize(
    ("calibration", "reason"),
    [
        ({"slope": 0.8, "intercept": -1.0, "gain": 0.01}, None),
        ({"slope": 0.8, "intercept": -1.0}, None),  # of an earlier version
        ({"slope": -0.2, "intercept": 0.2, "gain": 0.01}, "higher scores went with fewer ups (slope -0.2)"),
        ({"slope": 0.8, "intercept": -1.0, "gain": -1e-4}, "did not lower the log loss"),
        (None, "no metrics.json"),
    ],
)
def test_the_direction_follows_the_probability(calibration, reason):
    score = np.array([-1.0, 1.0, 2.0])
    rows = prediction_rows(np.arange(3), np.arange(3), score, calibration)
    if reason is None:
        assert [row["probability_up"] for row in rows] == ["0.1419", "0.4502", "0.6457"]
        assert [row["direction"] for row in rows] == ["down", "down", "up"]
        assert prediction_notice(calibration, {}) == {}
    else:
        assert [row["probability_up"] for row in rows] == [""] * 3
        assert [row["direction"] for row in rows] == ["down", "up", "up"]
        assert reason in prediction_notice(calibration, {})["notice"]


def test_a_model_no_better_than_always_up_is_said(run, tmp_path, capsys):
    run("train")
    path = tmp_path / "out" / "train" / "metrics.json"
    metrics = json.loads(path.read_text())
    up = metrics["adv_alstm"]["val_always_up_accuracy"]
    data = adv_alstm.stock_movement(tmp_path / "data", "acl18", "auto", 3)
    assert up == pytest.approx(data.validation.y.double().mean().item())
    argv = ["--function", "predict", "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    for ours, said in ((up - 0.01, True), (up + 0.01, False)):
        metrics["adv_alstm"]["val_accuracy"] = ours
        path.write_text(json.dumps(metrics))
        capsys.readouterr()
        adv_alstm.main(argv)
        last = capsys.readouterr().out.splitlines()[-1]
        assert (f"no better than always up, {100 * ours:.1f} % against {100 * up:.1f} %" in last) == said


def test_predictions_of_a_model_of_compare(run, tmp_path):
    """With the calibration of the first seed, whose files are those of the model."""
    metrics = run("compare", "--start", "random", "--seeds", "2")
    argv = ["--function", "predict", "--source", "sample", "--quiet", "--output_dir", str(tmp_path / "out")]
    folder = tmp_path / "out" / "compare" / "alstm"
    found = adv_alstm.main([*argv, "--model_from", str(folder)])["alstm"]
    assert found["rows"] == 6 and found["trained_on"]["test_accuracy"] == metrics["alstm"]["test_accuracy"]
    assert predictions(tmp_path)[0]["probability_up"]


def test_published_settings():
    request = SCRIPT.request("compare", dataset="kdd17", beta=[0.5])
    own = with_model(request, "adv_alstm").single()
    values = own.steps, own.hidden_size, own.epsilon, own.beta, own.l2, own.epochs, own.batch_size
    assert values == (15, 16, 0.001, 0.5, 0.001, 150, 1024)
    plain = with_model(request, "alstm").single()
    assert (plain.epsilon, plain.beta, plain.l2) == (0.0, 0.0, 0.001)  # no grid over what it does not have
    lstm = with_model(SCRIPT.request("compare"), "lstm").single()
    assert (lstm.steps, lstm.hidden_size, lstm.l2, lstm.learning_rate) == (10, 32, 10.0, 0.01)
    assert SCRIPT.request("train", "published").start == ["own"] and SCRIPT.request("train").start == ["random"]


def test_the_table_of_several_seeds_shows_their_mean():
    scores = {
        "seeds": 1,
        "test_accuracy": 0.5,
        "test_accuracy_low": 0.4,
        "test_accuracy_high": 0.6,
        "test_mcc": 0.1,
        "test_mcc_low": 0.0,
        "test_mcc_high": 0.2,
        "test_log_loss": 0.7,
        "calibration_error": 0.01,
    }
    several = {**scores, "test_accuracy_mean": 0.55, "test_accuracy_std": 0.02, "test_mcc_mean": 0.11}
    one, mean = comparison({"always_up": scores, "lstm": several}, "kdd17")
    assert (one["accuracy"], one["accuracy_std"], one["published_mcc"]) == (50.0, 0.0, "")
    assert (mean["accuracy"], mean["accuracy_std"], mean["mcc"], mean["published_mcc"]) == (55.0, 2.0, 0.11, 0.0183)


def test_labels_of_models_and_of_differences():
    assert label("two_stage_adv_alstm") == "Adv-ALSTM, two stages" and label("lstm") == "LSTM"
    assert label("published_start") == "published weights, no training" and label("epsilon_0.1") == "epsilon 0.1"
    assert label("my_file_rand_alstm") == "Rand-ALSTM, my file"
    assert difference_label("adv_alstm", "alstm") == "Adv-ALSTM − ALSTM, random weights"
    assert difference_label("best_adv_alstm", "best_alstm") == "Adv-ALSTM − ALSTM, best"
    assert difference_label("two_stage_alstm", "alstm") == "ALSTM, two stages − random weights"


def test_a_model_below_the_strongest_simple_opponent_says_so():
    simple = dict(zip(NAMES, ({"test_accuracy": share} for share in (0.51, 0.5, 0.52, 0.53)), strict=True))
    interval = {"difference": -0.01, "low": -0.03, "high": 0.01}
    worse = {"against": {"gradient_boosting": {"test_accuracy": interval}}}
    better = {"against": {"gradient_boosting": {"test_accuracy": dict.fromkeys(interval, 0.01)}}}
    said = notices_of({**simple, "lstm": worse, "alstm": better})
    text = "LSTM: 52.0 % on test, below gradient boosting with 53.0 %: -1.0 points [-3.0, 1.0], within noise"
    assert said == {"lstm": text}


def test_quarters_are_tested_by_models_of_their_own_past(run, tmp_path, monkeypatch):
    """Of 800 days from 2013 on, whose usual test part begins in November 2014."""
    prices = tmp_path / "prices"
    prices.mkdir()
    for i in range(3):
        (prices / f"S{i}.csv").write_text(price_file(random_prices(i, first=0, last=800)))
    seen, train = [], adv_alstm.loop.train
    monkeypatch.setattr(adv_alstm.loop, "train", lambda *args, **more: seen.append(args[4]) or train(*args, **more))
    metrics = run("quarters", "--data", str(prices), "--quarters", "2", "--seeds", "2")
    models = [f"{model}, {day}" for day in ("2014-04-01", "2014-07-01") for model in ("alstm", "adv_alstm")]
    assert list(metrics) == [*NAMES, "alstm", "adv_alstm", *models]
    assert [(f"{own.model}, {own.test_from}", own.seed) for own in seen] == [(m, s) for m in models for s in (0, 1)]
    parts = [adv_alstm.load(own) for own in seen[::4]]
    for data, first, last in zip(parts, ("2014-04", "2014-07"), ("2014-06", "2014-09"), strict=True):
        assert (str(data.test.dates[0])[:7], str(data.test.dates[-1])[:7]) == (first, last)
        assert data.train.dates[-1] < data.validation.dates[0] < data.validation.dates[-1] < data.test.dates[0]
        assert (data.validation.dates >= data.test.dates[0] - np.timedelta64(92, "D")).all()
    counts = [len(data.test.y) for data in parts]
    for name in ("alstm", "adv_alstm"):
        of_quarters = [metrics[own]["test_accuracy_mean"] for own in models if own.startswith(name)]
        assert metrics[name]["test_accuracy_mean"] == pytest.approx(np.average(of_quarters, weights=counts))
        assert metrics[name]["seeds"] == 2 and metrics[name]["against"].keys() >= {*NAMES}
    up = np.average([data.test.y.double().mean() for data in parts], weights=counts)
    assert metrics["always_up"]["test_accuracy"] == pytest.approx(up)
    difference = metrics["adv_alstm"]["test_accuracy_mean"] - metrics["alstm"]["test_accuracy_mean"]
    assert metrics["adv_alstm"]["against"]["alstm"]["test_accuracy"]["difference"] == pytest.approx(difference)
    argv = ["--function", "quarters", "--dry_run", "--quiet", "--output_dir", str(tmp_path / "out")]
    assert without_seconds(adv_alstm.main(argv)) == without_seconds(metrics)
    folder = tmp_path / "out" / "quarters" / models[-1]
    record = predict_from(tmp_path, folder, "--data", str(prices))[models[-1]]["trained_on"]
    assert record["test_accuracy"] == metrics[models[-1]]["test_accuracy"]
    assert "always_up_test_accuracy" not in record  # that of metrics.json is of all quarters


def test_another_split_of_the_published_data(run, tmp_path):
    """Parts moved back in time, without the numbers and the start that were published for the usual ones.

    One stock begins so late that its first windows of ten days, which the LSTM reads, lack a day in the test part.
    """
    dates = ["--validation_from", "2013-02-15", "--test_from", "2013-02-25", "--test_until", "2013-03-09"]
    metrics = run("compare", *dates, "--epochs", "1", small=False)
    assert "against" not in metrics["lstm"] and metrics["lstm"]["test_accuracy_low"] < metrics["lstm"]["test_accuracy"]
    assert metrics["lstm"]["samples"]["test"] < metrics["alstm"]["samples"]["test"]
    assert set(metrics["adv_alstm"]["against"]) == {*NAMES, "alstm"}
    assert "published_start" not in metrics and "two_stage_alstm" in metrics
    first, last = metrics["alstm"]["test_dates"]
    assert "2013-02-25" <= first <= last <= "2013-03-09"
    rows = table(tmp_path / "out" / "compare" / "comparison.csv")
    assert {row["published_accuracy"] for row in rows} == {""}
    whole = adv_alstm.stock_movement(tmp_path / "data", "acl18", steps=3)
    moved = adv_alstm.stock_movement(
        tmp_path / "data", "acl18", steps=3, dates=(None, "2013-02-15", "2013-02-25", None)
    )
    assert moved.test.dates[-1] == whole.test.dates[-1] and len(moved.test.y) > len(whole.test.y)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--dataset", "acl19"], ["--dataset", "acl18, kdd17", "acl19"]),
        (["--model", "blstm"], ["--model", "blstm"]),
        (["--epsilon", "-1"], ["--epsilon", "-1"]),
        (["--beta", "much"], ["--beta", "much"]),
        (["--l2", "nan"], ["--l2", "nan"]),
        (["--dropout", "1"], ["--dropout", "1"]),
        (["--steps", "0"], ["--steps", "0"]),
        (["--steps", "500"], ["500"]),
        (["--num_layers", "2"], ["--num_layers", "no such flag"]),
        (["--test_from", "2013-02-01"], ["2013-02-20, 2013-02-01"]),
        (["--test_from", "01/03/2013"], ["YYYY-MM-DD", "01/03/2013"]),
        (["--start", "published", "--test_until", "2013-03-20"], ["--start", "published dates"]),
        (["--start", "nowhere.pt"], ["--start", "nowhere.pt"]),
        (["--start", "published"], ["--start", "2 units"]),
        (["--start", "own", "--model", "lstm"], ["--start", "attention"]),
        (["--start", "own", "--hidden_size", "2", "4"], ["--hidden_size", "one value"]),
        (["--model", "alstm", "--epsilon", ".1"], ["--epsilon", "--model", "alstm"]),
        (["--start", "published", "--source", "sample", "--hidden_size", "4"], ["archive", "sample"]),
        (["--dry_run"], ["--epochs", "not used with --dry_run"]),
    ],
)
def test_bad_input_gives_one_line_that_names_it_and_status_2(run, given, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("train", *given)
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message.count("\n") == 1 and message.endswith("\n") and "Traceback" not in message
    assert all(text in message for text in named), message


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("compare --model lstm", ["--model", "train"]),
        ("starts", ["--seeds", "at least 2", "found 1"]),
        ("starts --start own", ["--start", "train and compare"]),
        ("starts --seeds 2 --test_from 2015-07-01", ["--start", "published dates"]),
        ("quarters --test_until 2015-01-01", ["--test_until", "other functions"]),
        ("starts --dataset . --seeds 2", ["--dataset", "acl18, kdd17"]),
        ("compare --dataset . --start published", ["--start", "acl18, kdd17"]),
        ("predict --epochs 3", ["--epochs", "train"]),
        ("predict --model_from none.pt", ["best.pt", "--function train"]),
        ("predict --data nothing.csv", ["--dataset", "acl18, kdd17", "nothing.csv"]),
        ("predict --steps 3", ["--steps", "train"]),
        ("train --model_from none.pt", ["--model_from", "predict"]),
        ("compare --source sample --epsilon .1 .2", ["--epsilon", "one value for compare"]),
        ("starts --source sample --seeds 2 --hidden_size 4 8", ["--hidden_size", "one value for starts"]),
    ],
)
def test_flags_that_a_function_does_not_use_are_refused(given, named, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        adv_alstm.main(["--function", *given.split(), "--output_dir", str(tmp_path / "out")])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1
    assert all(text in message for text in named), message


def test_without_data_and_network_full_ends_in_one_line_that_says_what_to_put_where(run, tmp_path, capsys):
    (tmp_path / "data" / "adv_alstm" / "Adv-ALSTM-master.zip").unlink()
    with pytest.raises(SystemExit) as stopped:
        run("train", "--source", "full")
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and "Adv-ALSTM-master.zip" in message


def test_the_whole_study_on_the_sample(tmp_path):
    """What `python adv_alstm.py --source sample` runs, cut to seconds."""
    metrics = adv_alstm.main(["--source", "sample", *TINY[:3], "--limit", "300", "--output_dir", str(tmp_path)])
    assert list(metrics) == list(SCRIPT.whole_study)
    assert metrics["train"]["adv_alstm"]["data"] == "sample" and metrics["predict"]["adv_alstm"]["rows"] == 6
    assert list(flags.parse(SCRIPT, ["--source", "sample"])["compare"].start) == ["random", "own"]
