"""The study on Japanese Vowels: folds without leaks, starts from plain models, files, own data, bad flags."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

import jv_training
from Classifier import LSTMClassifier
from lstm_studies.loaders.ts_files import Sequences
from lstm_studies.models.classifier_stack import ClassifierStack
from lstm_studies.training import checkpoint, flags, loop

SHORT = "--preset quick --quiet --source sample --limit 45 --epochs 2 --folds 2 --hidden_size 4 --channels 4".split()
TRAINING_FILES = {"history.csv", "last.pt", "best.pt", "grid.csv"}


pytestmark = pytest.mark.usefixtures("no_flush")


def run(function, output_dir, *flags):
    basic = ["--basic_epochs", "2"] if function in ("adversarial", "proximal") else []
    return jv_training.main(["--function", function, "--output_dir", str(output_dir), *SHORT, *basic, *flags])


def settings(function, *argv):
    """The settings of the first training of a request."""
    return flags.parse(jv_training.SCRIPT, ["--function", function, *argv])[function].single()


def files(folder):
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


def weights(path):
    return checkpoint.load(path)["model"]["weights"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def identities(part: Sequences):
    return {value.numpy().tobytes() for value in part.values}


@pytest.fixture
def trainings(monkeypatch):
    """The arguments of every training: settings, folder, data, parts, watched, starts."""
    seen, original = [], jv_training.train_stack

    def note(*arguments):
        seen.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(jv_training, "train_stack", note)
    return seen


# ---- cross-validation ------------------------------------------------------------------------------------------------


def test_a_fold_is_unknown_to_both_of_its_models(tmp_path, trainings):
    """The held-out part of a fold is in the training of neither the basic model nor the one that starts from it."""
    run("adversarial", tmp_path, "--epsilon", "0.1", "--repeats", "2")
    folds = [(parts, watched) for _, folder, _, parts, watched, _ in trainings if "folds" in str(folder)]
    assert len(folds) == 3  # the basic models, those that go on plain, those with epsilon
    for parts, watched in folds:
        held_of_repeat = [identities(part) for part in watched]
        assert len(parts) == 4 and all(len(held & other) == 0 for held, other in zip(
            held_of_repeat[::2], held_of_repeat[1::2], strict=True))  # fmt: skip
        for part, held in zip(parts, watched, strict=True):
            assert not identities(part) & identities(held) and len(identities(part) | identities(held)) == 45
        assert [identities(part) for part in parts] == [identities(part) for part in folds[0][0]]
    assert folds[0][1][0].labels.bincount().tolist() != [] and identities(folds[0][1][0]) != identities(folds[0][1][2])


def test_scores_are_means_over_sequences_and_repeats(tmp_path):
    metrics = run("basic", tmp_path, "--repeats", "2")
    own = settings("basic", *SHORT, "--repeats", "2")
    data = jv_training.load(own).train
    models = checkpoint.rebuild(tmp_path / "basic" / "folds" / "best.pt", ClassifierStack).unstack()
    losses, right = np.zeros((2, 45)), np.zeros((2, 45))
    for m, fold in enumerate(jv_training.held_out(own, data)):
        for i in fold.tolist():
            x, lengths, labels = data[torch.tensor([i])]
            probabilities = models[m](x, lengths).softmax(1)[0]
            losses[m // 2, i] = -probabilities[labels[0]].log().item()
            right[m // 2, i] = probabilities.argmax() == labels[0]
    assert metrics["cv_loss"] == pytest.approx(losses.mean(), abs=1e-5)
    assert metrics["cv_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert metrics["cv_loss_error"] == pytest.approx(losses.mean(0).std(ddof=1) / 45**0.5, abs=1e-5)
    assert metrics["cv_accuracy_error"] == pytest.approx(right.mean(0).std(ddof=1) / 45**0.5, abs=1e-5)
    with open(tmp_path / "basic" / "grid.csv") as file:
        assert float(next(csv.DictReader(file))["score"]) == pytest.approx(metrics["cv_loss"])


def test_the_scale_is_that_of_the_training_part(tmp_path):
    """Of a fold's training part inside of the cross-validation, and of all training utterances for the final model."""
    run("basic", tmp_path)
    own = settings("basic", *SHORT)
    train = jv_training.load(own).train
    assert torch.allclose(
        weights(tmp_path / "basic" / "best.pt")["stacked.mean"][0], torch.cat(train.values).mean(0), atol=1e-6
    )
    means = weights(tmp_path / "basic" / "folds" / "best.pt")["stacked.mean"]
    for mean, fold in zip(means, jv_training.held_out(own, train), strict=True):
        part = train.select(torch.tensor([i for i in range(45) if i not in fold.tolist()]))
        assert torch.allclose(mean, torch.cat(part.values).mean(0), atol=1e-6)


# ---- the final models ------------------------------------------------------------------------------------------------


def test_the_final_models_see_all_training_utterances_and_the_last_epoch_is_kept(tmp_path, trainings, monkeypatch):
    """Whatever the test data say: the best epoch on them is made the first one here."""
    original = loop.evaluate

    def worse_and_worse(*arguments):
        worse_and_worse.calls += 1
        return original(*arguments) | {"loss": float(worse_and_worse.calls)}

    worse_and_worse.calls = 0
    monkeypatch.setattr(loop, "evaluate", worse_and_worse)
    metrics = run("basic", tmp_path, "--seeds", "2")
    _, folder, data, parts, watched, starts = trainings[-1]
    assert folder == tmp_path / "basic" and starts is None
    assert [len(part) for part in parts] == [45, 45] and watched == [data.test] * 2
    assert metrics["best_epoch"] == metrics["epochs"] == metrics["seeds"] == 2
    assert checkpoint.load(folder / "best.pt")["epoch"] == 2
    assert equal(weights(folder / "best.pt"), weights(folder / "last.pt"))


def test_a_seed_has_the_same_start_alone_and_among_others(tmp_path):
    own = settings("basic", *SHORT)
    data = jv_training.load(own)
    alone = jv_training.new_model(own, data, data.train, 1)
    run("basic", tmp_path, "--seeds", "2", "--epochs", "1", "--learning_rate", "1e-30")
    second = checkpoint.rebuild(tmp_path / "basic" / "best.pt", ClassifierStack).unstack()[1]
    assert all(torch.allclose(p, q, atol=1e-9) for p, q in zip(alone.parameters(), second.parameters(), strict=True))


def test_the_metrics_are_those_of_the_models_in_the_checkpoint(tmp_path):
    metrics = run("basic", tmp_path, "--seeds", "3")
    x, lengths, labels = jv_training.load(settings("basic", *SHORT)).test.all()
    models = checkpoint.rebuild(tmp_path / "basic" / "best.pt", ClassifierStack).unstack()
    with torch.no_grad():
        probabilities = torch.stack([model(x, lengths).softmax(1) for model in models])
    accuracies = (probabilities.argmax(2) == labels).double().mean(1)
    assert metrics["test_accuracy_mean"] == pytest.approx(accuracies.mean().item())
    assert metrics["test_accuracy_std"] == pytest.approx(accuracies.std().item())
    assert metrics["test_accuracy"] == pytest.approx(accuracies[0].item())
    assert metrics["vote_accuracy"] == pytest.approx((probabilities.mean(0).argmax(1) == labels).double().mean().item())


def test_the_weight_average_is_what_is_kept(tmp_path):
    run("basic", tmp_path, "--weight_average", "0.9")
    saved = checkpoint.load(tmp_path / "basic" / "last.pt")
    assert equal(weights(tmp_path / "basic" / "best.pt"), saved["averaged"])
    assert not equal(saved["averaged"], saved["model"]["weights"])


# ---- starts ----------------------------------------------------------------------------------------------------------


def test_models_start_from_a_run_of_basic_with_the_same_settings(tmp_path, trainings):
    run("basic", tmp_path, "--seeds", "2", "--repeats", "2")
    basic, folds = (checkpoint.rebuild(tmp_path / "basic" / name, ClassifierStack).unstack()
                    for name in ("best.pt", "folds/best.pt"))  # fmt: skip
    trainings.clear()
    run("adversarial", tmp_path, "--epsilon", "0.1", "--seeds", "2")
    assert len(trainings) == 4 and not (tmp_path / "starts").exists()
    for _, folder, _, parts, _, starts in trainings:
        expected = folds[:2] if "folds" in str(folder) else basic
        assert len(starts) == len(parts) == 2
        assert all(equal(a.state_dict(), b.state_dict()) for a, b in zip(starts, expected, strict=True))


def test_without_a_run_of_basic_that_fits_plain_models_are_trained_once(tmp_path, trainings):
    run("basic", tmp_path, "--learning_rate", "0.01")
    trainings.clear()
    run("proximal", tmp_path, "--epsilon", "0.1", "1")
    fresh = [folder for _, folder, _, _, _, starts in trainings if starts is None]
    assert sorted(folder.name[:5] for folder in fresh) == ["folds", "seeds"] and len(trainings) == 8
    assert {folder.parent for folder in fresh} == {tmp_path / "starts"}


def test_without_learning_the_pretrained_weights_come_back(tmp_path):
    run("basic", tmp_path, "--batch_norm_places", "none")
    run("proximal", tmp_path, "--epsilon", "0.5", "--learning_rate", "1e-30", "--batch_norm_places", "none",
        "--pretrained", str(tmp_path / "basic"))  # fmt: skip
    basic, found = (weights(tmp_path / name / "best.pt") for name in ("basic", "proximal/epsilon0.5"))
    assert basic.keys() == found.keys()
    assert all(torch.allclose(basic[name], found[name], rtol=0, atol=1e-12) for name in basic)


def test_a_checkpoint_of_one_classifier_is_a_start_for_every_seed(tmp_path):
    """Also one from before the models of a run were stacked."""
    path = tmp_path / "one.pt"
    own = settings("basic", *SHORT)
    data = jv_training.load(own)
    model = jv_training.new_model(own, data, data.train, 7)
    checkpoint.save(path, {"model": checkpoint.describe(model)})
    starts = jv_training.read_pretrained(path, dataclasses.replace(own, models=3))
    assert len(starts) == 3 and all(equal(start.state_dict(), model.state_dict()) for start in starts)


# ---- functions -------------------------------------------------------------------------------------------------------


FIGURES = {
    "basic": {"accuracy.png", "error.png", "loss.png"},
    "adversarial": {"accuracy.png", "epsilon.png", "epsilon.csv"},
    "proximal": {"accuracy.png", "epsilon.png", "epsilon.csv"},
    "dropout": {"error.png", "places.png"},
    "batch_norm": {"error.png", "places.png"},
}
KEYS = {"data", "split", "seed", "epochs", "seconds", "parameters", "test_accuracy", "majority_accuracy",
        "test_accuracy_sigma", "cv_accuracy", "cv_loss", "cv_loss_error", "vote_accuracy"}  # fmt: skip
ROWS = {
    "dropout": ["no dropout", "dropout input", "dropout convolution", "dropout lstm", "dropout all"],
    "batch_norm": ["no batch norm", "batch norm input", "batch norm convolution", "batch norm lstm", "batch norm all",
                   "batch norm convolution and dropout"],
}  # fmt: skip


@pytest.mark.parametrize("function", FIGURES)
def test_function_leaves_its_files_and_its_metrics(function, tmp_path):
    several = ["--epsilon", "0.1", "1"] if function in ("adversarial", "proximal") else []
    metrics = run(function, tmp_path, *several)
    folder = tmp_path / function
    assert {"config.json", "metrics.json", "history.csv"} | FIGURES[function] <= files(folder)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    models = {"": metrics} if function == "basic" else metrics
    mode = {"adversarial": "AdvLSTM", "proximal": "ProxLSTM"}.get(function)
    if mode:
        assert list(models) == ["plain", mode, "epsilon0.1", "epsilon1"]
        best = min(("epsilon0.1", "epsilon1"), key=lambda name: metrics[name]["cv_loss"])
        assert models.pop(mode) == metrics[best]
        for epsilon in (0.1, 1.0):
            model = checkpoint.rebuild(folder / f"epsilon{epsilon:g}" / "best.pt", ClassifierStack).unstack()[0]
            assert model.mode == mode and model.epsilon == epsilon == metrics[f"epsilon{epsilon:g}"]["epsilon"]
        with open(folder / "epsilon.csv") as file:
            assert [row["epsilon"] for row in csv.DictReader(file)] == ["0.0", "0.1", "1.0"]
    elif function in ROWS:
        modes = ("plain", "AdvLSTM", "ProxLSTM")
        assert list(models) == [f"{mode}, {row}" for mode in modes for row in ROWS[function]]
    for name, values in models.items():
        assert values.keys() >= KEYS and files(folder / name) >= TRAINING_FILES


def test_places_and_modes_reach_the_models(tmp_path):
    run("dropout", tmp_path, "--dropout", "0.25", "--epochs", "1", "--adversarial_epsilon", "0.7")
    run("batch_norm", tmp_path, "--epochs", "1", "--dropout", "0.25", "--proximal_epsilon", "0.2")

    def model(function, name):
        return checkpoint.rebuild(tmp_path / function / name / "best.pt", ClassifierStack).unstack()[0]

    for place in ("input", "convolution", "lstm"):
        dropped = model("dropout", f"AdvLSTM, dropout {place}")
        assert dropped.dropout.p == 0.25 and tuple(dropped.dropout_places) == (place,) and dropped.epsilon == 0.7
        normed = model("batch_norm", f"ProxLSTM, batch norm {place}")
        assert set(normed.batch_norms) == {place} and normed.dropout.p == 0 and normed.epsilon == 0.2
    both = model("batch_norm", "plain, batch norm convolution and dropout")
    assert set(both.batch_norms) == {"convolution"} and both.dropout.p == 0.25 and both.dropout_places == ("lstm",)
    assert not model("batch_norm", "plain, no batch norm").batch_norms


def test_robustness_reads_the_models_of_the_others(tmp_path, capsys):
    def robustness():
        return jv_training.main(
            ["--function", "robustness", "--quiet", "--source", "sample", "--output_dir", str(tmp_path)]
        )

    with pytest.raises(SystemExit) as stopped:
        robustness()
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and "run adversarial and proximal" in message
    run("adversarial", tmp_path, "--epsilon", "0.1", "2", "--seeds", "2")
    run("proximal", tmp_path, "--epsilon", "0.1")
    metrics = robustness()
    other = next(name for name in metrics if name.startswith("AdvLSTM ε"))
    assert set(metrics) == {"data", "plain", "AdvLSTM", "ProxLSTM", other}
    assert {"attack_AdvLSTM.png", "noise_ProxLSTM.png", "missing_share_AdvLSTM.png"} <= files(tmp_path / "robustness")
    assert metrics["AdvLSTM"]["seeds"] == 2 and metrics["ProxLSTM"]["seeds"] == 1
    clean = json.loads((tmp_path / "adversarial" / "metrics.json").read_text())["AdvLSTM"]["test_accuracy_mean"]
    for name in ("attack_0", "attack_5_steps_0", "noise_0", "first_share_1", "missing_share_0"):
        assert metrics["AdvLSTM"][f"accuracy_{name}"] == pytest.approx(clean)


def test_dry_run_tests_again_without_training(tmp_path):
    first = run("adversarial", tmp_path, "--epsilon", "0.1", "1", "--seeds", "2")
    before = (tmp_path / "adversarial" / "epsilon1" / "best.pt").stat().st_mtime_ns
    again = jv_training.main(
        ["--function", "adversarial", "--dry_run", "--quiet", "--output_dir", str(tmp_path), "--seeds", "2"]
    )
    assert again == first
    assert (tmp_path / "adversarial" / "epsilon1" / "best.pt").stat().st_mtime_ns == before


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    run("proximal", tmp_path / "whole", "--epsilon", "0.1", "1")
    original, calls = jv_training.step, []

    def stop_late(model, batch):
        calls.append(1)
        if len(calls) == 45:
            raise KeyboardInterrupt
        return original(model, batch)

    monkeypatch.setattr(jv_training, "step", stop_late)
    with pytest.raises(KeyboardInterrupt):
        run("proximal", tmp_path / "stopped", "--epsilon", "0.1", "1", "--checkpoint_every", "0")
    monkeypatch.setattr(jv_training, "step", original)
    run("proximal", tmp_path / "stopped", "--epsilon", "0.1", "1", "--resume")
    for name in ("plain/best.pt", "epsilon0.1/best.pt", "epsilon1/grid/folds/last.pt"):
        assert equal(weights(tmp_path / "whole/proximal" / name), weights(tmp_path / "stopped/proximal" / name))


# ---- data of one's own -----------------------------------------------------------------------------------------------


def write_ts(path, count, label=True, classes="up down", steps=(4, 9)):
    """Ramps that go up or down, with noise: two features."""
    generator = np.random.default_rng(count)
    lines = []
    for i in range(count):
        t = np.arange(generator.integers(*steps))
        slope = 1 if i % 2 == 0 else -1
        columns = [slope * t + generator.normal(size=len(t)) * 0.1, generator.normal(size=len(t))]
        values = ":".join(",".join(f"{v:.4f}" for v in column) for column in columns)
        lines.append(f"{values}:{classes.split()[i % 2]}" if label else values)
    header = f"@problemName Ramps\n@dimensions 2\n@classLabel {'true ' + classes if label else 'false'}\n@data\n"
    path.write_text(header + "\n".join(lines) + "\n")
    return str(path)


OWN = "--preset quick --quiet --epochs 12 --folds 3 --hidden_size 8 --channels 8 --learning_rate 0.02".split()


def test_a_data_set_of_ones_own_is_learnt_and_predicted(tmp_path):
    data = ["--train", write_ts(tmp_path / "R_TRAIN.ts", 31), "--test", write_ts(tmp_path / "R_TEST.ts", 20)]
    out = ["--output_dir", str(tmp_path)]
    metrics = jv_training.main(["--function", "basic", *OWN, *data, *out, "--seeds", "2"])
    assert metrics["data"] == "own" and metrics["split"] == "R_TRAIN.ts, R_TEST.ts"
    assert metrics["test_accuracy_mean"] > 0.95 > metrics["majority_accuracy"]
    proximal = jv_training.main(
        ["--function", "proximal", *OWN, *data, *out, "--epsilon", "0.1", "--basic_epochs", "12"]
    )
    assert proximal["ProxLSTM"]["test_accuracy"] > 0.9
    new = write_ts(tmp_path / "new.ts", 11, label=False)
    model = str(tmp_path / "basic" / "best.pt")
    found = jv_training.main(["--function", "predict", "--data", new, "--checkpoint", model, "--quiet", *out])
    assert found == {"data": new, "sequences": 11, "models": 2}
    with open(tmp_path / "predict" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == ["up", "down"] * 5 + ["up"]
    assert list(rows[0]) == ["sequence", "predicted", "probability up", "probability down"]
    assert all(float(r["probability up"]) + float(r["probability down"]) == pytest.approx(1, abs=1e-5) for r in rows)
    labelled = write_ts(tmp_path / "known.ts", 10)
    found = jv_training.main(["--function", "predict", "--data", labelled, "--checkpoint", model, "--quiet", *out])
    assert found["accuracy"] == 1.0


def test_sequences_that_do_not_fit_the_model_are_refused(tmp_path, capsys):
    own = settings("basic", *SHORT)
    data = jv_training.load(own)
    model = jv_training.new_model(own, data, data.train, 0)
    checkpoint.save(tmp_path / "one.pt", {"model": checkpoint.describe(model)})
    new = write_ts(tmp_path / "new.ts", 4, label=False)
    argv = ["--function", "predict", "--data", new, "--checkpoint", str(tmp_path / "one.pt")]
    with pytest.raises(SystemExit) as stopped:
        jv_training.main([*argv, "--quiet", "--output_dir", str(tmp_path)])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and "new.ts: expected 12 features per step, found 2" in message


def test_a_checkpoint_of_before_still_predicts(tmp_path):
    """A single classifier without names of classes."""
    path = jv_training.Path(__file__).parent / "golden" / "before_packages" / "jv_training.pt"
    sample = jv_training.load(settings("basic", "--source", "sample")).test
    features = checkpoint.rebuild(path, LSTMClassifier).arguments.get("input_size", 12)
    assert features == sample.values[0].shape[1]
    shutil.copy(path, tmp_path / "old.pt")
    data = jv_training.flags.Path(jv_training.__file__).parent / "data/samples/japanese_vowels/JapaneseVowels_TEST.ts"
    found = jv_training.main(["--function", "predict", "--data", str(data), "--checkpoint", str(tmp_path / "old.pt"),
                              "--quiet", "--output_dir", str(tmp_path)])  # fmt: skip
    assert found["sequences"] == 370 and found["models"] == 1


# ---- flags -----------------------------------------------------------------------------------------------------------


BAD = [
    ("--function basic --folds 1", ["--folds", "'1'"]),
    ("--function adversarial --epsilon -1", ["--epsilon", "-1"]),
    ("--function basic --epsilon 1", ["--epsilon", "not used by basic", "adversarial and proximal"]),
    ("--function basic --dropout 1", ["--dropout", "'1'"]),
    ("--function basic --dropout_places output", ["--dropout_places", "'output'"]),
    ("--function basic --dropout_places none lstm", ["--dropout_places", "none alone"]),
    ("--function dropout --dropout_places lstm", ["--dropout_places", "not used by dropout"]),
    ("--function basic --num_layers 3", ["--num_layers", "one layer"]),
    ("--function proximal --method lu", ["--method", "conjugate gradients"]),
    ("--function basic --gradient_clipping 1", ["--gradient_clipping", "stack"]),
    ("--function basic --basic_epochs 5", ["--basic_epochs", "not used by basic"]),
    ("--function basic --kernel_size 8", ["--kernel_size", "at most 7"]),
    ("--function basic --course_file --data_dir nowhere", ["JV_data.mat"]),
    ("--function basic --train a.ts", ["--test", "--train FILE.ts --test FILE.ts"]),
    ("--function basic --train a.ts --test b.ts", ["--train", "without --source sample"]),
    ("--function adversarial --pretrained nowhere.pt", ["--pretrained", "nowhere.pt"]),
    ("--function adversarial --dry_run", ["--dry_run"]),
    ("--function basic --folds 30 --limit 20", ["--folds", "30", "at most 2"]),
    ("--function predict --data a.ts", ["--checkpoint", "predict needs"]),
    ("--function predict --data a.ts --checkpoint b.pt", ["a.ts", "expected a .ts file"]),
]


@pytest.mark.parametrize(("text", "named"), BAD)
def test_bad_input_gives_one_line_that_names_it_and_status_2(text, named, tmp_path, capsys):
    argv = text.split()
    short = ["--quiet", "--source", "sample"] if "predict" in argv else SHORT
    with pytest.raises(SystemExit) as stopped:
        jv_training.main([*short, "--output_dir", str(tmp_path), *argv])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1
    assert all(text in message for text in named), message


def test_a_pretrained_model_of_other_sizes_is_refused(tmp_path, capsys):
    run("basic", tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run("adversarial", tmp_path, "--epsilon", "0.1", "--hidden_size", "5", "--pretrained", str(tmp_path / "basic"))
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and "--pretrained" in message


def test_too_few_pretrained_models_are_refused(tmp_path, capsys):
    run("basic", tmp_path, "--seeds", "2")
    with pytest.raises(SystemExit) as stopped:
        run("adversarial", tmp_path, "--epsilon", "0.1", "--seeds", "3", "--pretrained", str(tmp_path / "basic"))
    assert stopped.value.code == 2 and "models of 3 seeds, found 2" in capsys.readouterr().err


def test_the_published_preset_is_the_model_of_the_assignment():
    own = settings("adversarial", "--preset", "published", "--epsilon", "0.1")
    assert (own.normalization, own.bidirectional, own.channels, own.kernel_size, own.hidden_size) == (
        "l2", False, 64, 3, 64
    )  # fmt: skip
    assert (own.dropout_places, own.batch_norm_places, own.noise, own.offset) == (("none",), ("none",), 0.0, 0.0)
    assert own.epochs == 50
    prox = flags.parse(jv_training.SCRIPT, ["--function", "proximal", "--preset", "published"])["proximal"]
    assert prox.epochs == 100 and {0.1, 1.0, 5.0} < set(prox.epsilon)
