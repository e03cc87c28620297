"""The study on Japanese Vowels: folds without leaks, the pretrained model as interface, files, reloading, bad flags."""

import csv
import json

import numpy as np
import pytest
import torch

import jv_training
from Classifier import LSTMClassifier
from jv_training import batches_by_length, stratified_folds
from loaders.vowels import Utterances
from training import checkpoint, loop, tables

SMALL = "--quiet --source sample --limit 45 --epochs 2 --basic_epochs 2 --folds 2 --hidden_size 4 --channels 4".split()
TRAINING_FILES = {"history.csv", "last.pt", "best.pt", "grid.csv"}


pytestmark = pytest.mark.usefixtures("no_flush")


def run(function, output_dir, *flags):
    return jv_training.main(["--function", function, "--output_dir", str(output_dir), *SMALL, *flags])


def files(folder):
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


def weights(path):
    return checkpoint.load(path)["model"]["weights"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- folds and batches -----------------------------------------------------------------------------------------------


def test_every_class_is_spread_over_the_folds():
    labels = torch.tensor([0] * 7 + [1] * 10 + [2] * 5)
    folds = stratified_folds(labels, 5, seed=0)
    for label, sizes in ((0, [1, 1, 1, 2, 2]), (1, [2] * 5), (2, [1] * 5)):
        assert sorted(folds[labels == label].bincount(minlength=5).tolist()) == sizes
    assert torch.equal(folds, stratified_folds(labels, 5, seed=0))
    assert not torch.equal(folds, stratified_folds(labels, 5, seed=1))


def test_batches_are_neighbours_in_length_in_random_order_and_hold_everything_once():
    batches = batches_by_length(10, 4, torch.Generator().manual_seed(0))
    assert sorted(b.tolist() for b in batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    orders = {tuple(b[0].item() for b in batches_by_length(10, 4, torch.Generator().manual_seed(s))) for s in range(20)}
    assert len(orders) > 1


def test_a_fold_is_unknown_to_both_of_its_models(tmp_path, monkeypatch):
    """The held-out part of a fold is in the training of neither the basic model nor the one that starts from it."""
    seen = []

    def note(flags, folder, training, validation, start):
        seen.append((folder, training, validation, start))
        tables.write_csv(folder / "history.csv", [{"epoch": 1, "val_loss": 0.5}])
        return loop.Result(0.5, False, 1, 1, 1.0)

    monkeypatch.setattr(jv_training, "train_on", note)
    monkeypatch.setattr(jv_training.checkpoint, "load", None)
    (tmp_path / "fold0" / "basic").mkdir(parents=True)
    (tmp_path / "fold1" / "basic").mkdir(parents=True)
    flags = parsed("--folds", "2", "--source", "sample")
    flags = jv_training.settings(flags, "adversarial", starts_trained=True, epsilon=0.1)
    result = jv_training.cross_validate(flags, tmp_path)
    assert result.score == 0.5 and len(seen) == 4
    everything = {v.numpy().tobytes() for v in jv_training.load(flags).train.values}
    held = []
    for basic, main in (seen[:2], seen[2:]):
        assert main[3] == basic[0] / "best.pt" and basic[2] is None
        training, validation = ({v.numpy().tobytes() for v in part.values} for part in main[1:3])
        assert {v.numpy().tobytes() for v in basic[1].values} == training
        assert not training & validation and training | validation == everything
        held.append(validation)
    assert not held[0] & held[1] and held[0] | held[1] == everything


def parsed(*flags):
    """The flags as main hands them to a function."""
    found = []

    def stop(flags, functions):
        found.append(flags)

    original, jv_training.run_script = jv_training.run_script, stop
    try:
        jv_training.main([*flags])
    finally:
        jv_training.run_script = original
    return found[0]


def test_cross_validation_averages_the_last_epochs_of_the_folds(tmp_path):
    metrics = run("basic", tmp_path)
    rows = []
    for k in range(2):
        with open(tmp_path / "basic" / "grid" / f"fold{k}" / "history.csv") as file:
            rows.append(list(csv.DictReader(file))[-1])
    for key, column in (("cv_accuracy", "val_accuracy"), ("cv_loss", "val_loss")):
        assert metrics[key] == pytest.approx(np.mean([float(row[column]) for row in rows]))
    with open(tmp_path / "basic" / "grid.csv") as file:
        assert float(next(csv.DictReader(file))["score"]) == pytest.approx(metrics["cv_loss"])


def test_the_final_model_sees_all_training_utterances_and_keeps_the_last_epoch(tmp_path, monkeypatch):
    sizes = []
    original = loop.train

    def note(model, step, training, validation, *more, **options):
        sizes.append((len(training), validation and len(validation)))
        return original(model, step, training, validation, *more, **options)

    monkeypatch.setattr(loop, "train", note)
    metrics = run("basic", tmp_path)
    assert sorted(sizes[:2]) == [(18, 27), (27, 18)] and sizes[2:] == [(45, None)]
    assert metrics["best_epoch"] == metrics["epochs"] == 2
    assert "val_loss" not in (tmp_path / "basic" / "history.csv").read_text()


# ---- pretrained models -----------------------------------------------------------------------------------------------


def test_the_adversarial_and_the_plain_model_start_from_the_file_of_basic(tmp_path, monkeypatch):
    run("basic", tmp_path)
    starts = []
    original = jv_training.train_on

    def note(flags, folder, training, validation, start):
        starts.append((len(training), start))
        return original(flags, folder, training, validation, start)

    monkeypatch.setattr(jv_training, "train_on", note)
    run("adversarial", tmp_path, "--epsilon", "0.1")
    final = [start for size, start in starts if size == 45]
    assert final == [tmp_path / "basic" / "best.pt"] * 2


def test_without_learning_the_pretrained_weights_come_back(tmp_path):
    run("basic", tmp_path)
    run("proximal", tmp_path, "--epsilon", "0.5", "--learning_rate", "1e-30", "--weight_decay", "0")
    basic, found = (weights(tmp_path / name / "best.pt") for name in ("basic", "proximal/ProxLSTM"))
    assert basic.keys() == found.keys()
    assert all(torch.allclose(basic[name], found[name], rtol=0, atol=1e-12) for name in basic)


def test_each_seed_starts_from_the_basic_model_of_that_seed(tmp_path):
    run("basic", tmp_path, "--seeds", "2")
    folder, output = tmp_path / "basic", str(tmp_path)
    for seed in (0, 1):
        flags = parsed("--output_dir", output, "--seed", str(seed))
        assert jv_training.find_pretrained(flags, tmp_path, None) == folder / "seeds" / str(seed) / "best.pt"
        flags = parsed("--pretrained", str(folder), "--seed", str(seed))
        assert jv_training.find_pretrained(flags, tmp_path, None) == folder / "seeds" / str(seed) / "best.pt"
    flags = parsed("--pretrained", str(folder / "best.pt"), "--seed", "1")
    assert jv_training.find_pretrained(flags, tmp_path, None) == folder / "best.pt"


def test_without_a_basic_model_one_is_trained(tmp_path):
    run("adversarial", tmp_path, "--epsilon", "0.1")
    assert (tmp_path / "adversarial" / "AdvLSTM" / "basic" / "best.pt").exists()


# ---- functions -------------------------------------------------------------------------------------------------------


FIGURES = {
    "basic": {"accuracy.png", "loss.png"},
    "adversarial": {"accuracy.png"},
    "proximal": {"accuracy.png"},
    "dropout": {"accuracy.png", "places.png"},
    "batch_norm": {"accuracy.png", "places.png"},
}
KEYS = {
    "data",
    "split",
    "seed",
    "epochs",
    "seconds",
    "parameters",
    "test_accuracy",
    "majority_accuracy",
    "test_accuracy_sigma",
    "cv_accuracy",
    "vote_accuracy",
}


@pytest.mark.parametrize("function", FIGURES)
def test_function_leaves_its_files_and_its_metrics(function, tmp_path):
    flags = ["--epsilon", "0.1", "1"] if function in ("adversarial", "proximal") else []
    metrics = run(function, tmp_path, *flags)
    folder = tmp_path / function
    assert {"config.json", "metrics.json", "history.csv"} | FIGURES[function] <= files(folder)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    models = {"": metrics} if function == "basic" else metrics
    names = {"basic": {""}, "adversarial": {"plain", "AdvLSTM"}, "proximal": {"plain", "ProxLSTM"}}
    assert set(models) == names.get(function, {"none", "input", "convolution", "lstm", "all"})
    for name, values in models.items():
        assert values.keys() >= KEYS and files(folder / name) >= TRAINING_FILES
    if function in ("adversarial", "proximal"):
        mode = list(metrics)[1]
        with open(folder / mode / "grid.csv") as file:
            assert {row["epsilon"] for row in csv.DictReader(file)} == {"0.1", "1.0"}
            file.seek(0)
            best = min(csv.DictReader(file), key=lambda row: float(row["score"]))
        assert metrics[mode]["epsilon"] == float(best["epsilon"]) and metrics["plain"]["epsilon"] == 0
        model = checkpoint.rebuild(folder / mode / "best.pt", LSTMClassifier)
        assert model.mode == mode and model.epsilon == metrics[mode]["epsilon"]


def test_places_reach_the_model(tmp_path):
    run("dropout", tmp_path, "--dropout", "0.25")
    run("batch_norm", tmp_path)
    for place in ("input", "convolution", "lstm"):
        model = checkpoint.rebuild(tmp_path / "dropout" / place / "best.pt", LSTMClassifier)
        assert model.dropout.p == 0.25 and tuple(model.dropout_places) == (place,) and not model.batch_norms
        model = checkpoint.rebuild(tmp_path / "batch_norm" / place / "best.pt", LSTMClassifier)
        assert model.dropout.p == 0 and set(model.batch_norms) == {place}


def test_robustness_reads_the_models_of_the_others(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("robustness", tmp_path)
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and "run adversarial and proximal" in message
    run("adversarial", tmp_path, "--epsilon", "0.1", "--seeds", "2")
    run("proximal", tmp_path, "--epsilon", "0.1")
    metrics = run("robustness", tmp_path)
    assert {"attack.png", "noise.png", "metrics.json"} <= files(tmp_path / "robustness")
    assert metrics["AdvLSTM"]["seeds"] == 2 and metrics["ProxLSTM"]["seeds"] == 1
    for name, function in (("plain", "proximal"), ("ProxLSTM", "proximal")):
        clean = json.loads((tmp_path / function / "metrics.json").read_text())[name]["test_accuracy"]
        assert metrics[name]["accuracy_attack_0"] == pytest.approx(clean)
        assert metrics[name]["accuracy_noise_0"] == pytest.approx(clean)


def test_an_attack_follows_the_gradient_of_each_sequence():
    """A linear look at it: the loss of every sequence rises with a small step along its direction."""
    torch.manual_seed(0)
    part = Utterances([torch.randn(n, 12) for n in (5, 8, 9, 6)], torch.tensor([0, 1, 2, 3]))
    model = LSTMClassifier(hidden_size=8, channels=8).eval()
    accuracies = jv_training.accuracy_under_attack(model, part)
    assert len(accuracies) == len(jv_training.RELATIVE_NORMS)
    assert accuracies[-1] <= accuracies[0]


def test_dry_run_tests_again_without_training(tmp_path):
    flags = ["--epsilon", "0.1", "1", "--seeds", "2"]
    first = run("adversarial", tmp_path, *flags)
    before = (tmp_path / "adversarial" / "AdvLSTM" / "best.pt").stat().st_mtime_ns
    again = run("adversarial", tmp_path, *flags, "--dry_run")
    assert again == first
    assert (tmp_path / "adversarial" / "AdvLSTM" / "best.pt").stat().st_mtime_ns == before


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    run("proximal", tmp_path / "whole", "--epsilon", "0.1", "1")
    original, calls = jv_training.step, []

    def stop_late(model, batch):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return original(model, batch)

    monkeypatch.setattr(jv_training, "step", stop_late)
    with pytest.raises(KeyboardInterrupt):
        run("proximal", tmp_path / "stopped", "--epsilon", "0.1", "1", "--checkpoint_every", "0")
    monkeypatch.setattr(jv_training, "step", original)
    run("proximal", tmp_path / "stopped", "--epsilon", "0.1", "1", "--resume")
    for name in ("plain/best.pt", "ProxLSTM/best.pt", "ProxLSTM/grid/epsilon=0.1/fold1/last.pt"):
        file = f"proximal/{name}"
        assert equal(weights(tmp_path / "whole" / file), weights(tmp_path / "stopped" / file))


BAD = [
    (["--function", "basic", "--folds", "1"], ["--folds", "1"]),
    (["--function", "basic", "--epsilon", "-1"], ["--epsilon", "-1"]),
    (["--function", "basic", "--dropout", "1"], ["--dropout", "1"]),
    (["--function", "basic", "--dropout_places", "output"], ["--dropout_places", "output"]),
    (["--function", "proximal", "--method", "lu"], ["--method", "lu"]),
    (["--function", "basic", "--course_file", "--data_dir", "nowhere"], ["JV_data.mat"]),
    (["--function", "adversarial", "--pretrained", "nowhere.pt"], ["--pretrained", "nowhere.pt"]),
    (["--function", "adversarial", "--dry_run"], ["--dry_run"]),
    (["--function", "basic", "--folds", "30", "--limit", "20"], ["--folds", "30", "at most 2"]),
]


@pytest.mark.parametrize(("flags", "named"), BAD)
def test_bad_input_gives_one_line_that_names_it_and_status_2(flags, named, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        jv_training.main([*SMALL, "--output_dir", str(tmp_path), *flags])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1
    assert all(text in message for text in named), message


def test_a_pretrained_model_of_other_sizes_is_refused(tmp_path, capsys):
    run("basic", tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run("adversarial", tmp_path, "--epsilon", "0.1", "--hidden_size", "5")
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and "--pretrained" in message


def test_the_scale_is_that_of_the_training_part(tmp_path):
    """Of a fold's training part inside of the cross-validation, and of all training utterances for the final model."""
    run("basic", tmp_path)
    train = jv_training.load(parsed("--source", "sample", "--limit", "45")).train
    found = weights(tmp_path / "basic" / "best.pt")
    assert torch.allclose(found["mean"], torch.cat(train.values).mean(0), atol=1e-6)
    folds = stratified_folds(train.labels, 2, seed=0)
    for k in range(2):
        part = train.select(torch.nonzero(folds != k).flatten())
        found = weights(tmp_path / "basic" / "grid" / f"fold{k}" / "best.pt")
        assert torch.allclose(found["mean"], torch.cat(part.values).mean(0), atol=1e-6)
