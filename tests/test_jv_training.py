"""The study on Japanese Vowels: folds without leaks, starts from plain models, files, own data, bad flags."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import one_line

import jv_training
from Classifier import LSTMClassifier
from config.jv_training import SCRIPT
from lstm_studies.evaluation import class_scores, intervals, sequence_opponents
from lstm_studies.loaders.ts_files import Sequences
from lstm_studies.models import robustness
from lstm_studies.training import checkpoint, classifiers, flags, loop, tables

SHORT = "--preset quick --quiet --source sample --limit 45 --epochs 2 --folds 2 --hidden_size 4 --channels 4".split()
TRAINING_FILES = {"history.csv", "last.pt", "best.pt"}
TRAINING_FUNCTIONS = ("basic", "adversarial", "proximal", "dropout", "batch_norm")


pytestmark = pytest.mark.usefixtures("no_flush")


@pytest.fixture(autouse=True)
def one_window(monkeypatch):
    monkeypatch.setattr(sequence_opponents, "WINDOWS", (1.0,))  # of time warping: the others take time


def run(function, output_dir, *flags):
    basic = ["--basic_epochs", "2"] if function in ("adversarial", "proximal") else []
    return jv_training.main(["--function", function, "--output_dir", str(output_dir), *SHORT, *basic, *flags])


def settings(function, *argv):
    """The settings of the first training of a request."""
    return flags.parse(SCRIPT, ["--function", function, *argv])[function].single()


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
    """What every training was given: settings, folder, training, held and watched sequences, and weights to start."""
    seen, original = [], loop.train

    def note(model, step, training, held, settings, folder, watched_data=None, **options):
        start = {name: value.clone() for name, value in model.state_dict().items()}
        seen.append(SimpleNamespace(settings=settings, folder=folder, training=training, held=held,
                                    watched=watched_data, start=start))  # fmt: skip
        return original(model, step, training, held, settings, folder, watched_data=watched_data, **options)

    monkeypatch.setattr(loop, "train", note)
    return seen


# ---- one definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", TRAINING_FUNCTIONS)
@pytest.mark.parametrize("method", ["forward", "loss", "features", "classify"])
def test_the_class_in_classifier_is_what_every_function_trains(function, method, tmp_path, monkeypatch):
    def changed(*arguments):
        raise ArithmeticError("changed")

    monkeypatch.setattr(LSTMClassifier, method, changed)
    with pytest.raises(ArithmeticError, match="changed"):
        run(function, tmp_path, "--epochs", "1")


def test_a_seed_has_the_same_bits_alone_and_among_others(tmp_path):
    among = run("basic", tmp_path / "three", "--seeds", "3")["plain"]
    alone = run("basic", tmp_path / "one", "--seed", "2")["plain"]
    files_of_seed = tmp_path / "three/basic/seeds/2", tmp_path / "one/basic"
    assert equal(*(weights(path / "best.pt") for path in files_of_seed))
    assert len({(path / "history.csv").read_bytes() for path in files_of_seed}) == 1
    assert among["seeds"] == 3 and alone["seeds"] == 1


@pytest.mark.reliability
def test_several_processes_change_no_bit(tmp_path):
    run("adversarial", tmp_path / "one", "--epsilon", "0.1", "--seeds", "2")
    run("adversarial", tmp_path / "two", "--epsilon", "0.1", "--seeds", "2", "--jobs", "2")
    for name in ("plain/fold1", "plain/seeds/1", "epsilon0.1/fold0", "epsilon0.1"):
        one, two = (weights(tmp_path / path / "adversarial" / name / "best.pt") for path in ("one", "two"))
        assert equal(one, two)


# ---- cross-validation ------------------------------------------------------------------------------------------------


def test_a_fold_is_unknown_to_both_of_its_models(tmp_path, trainings):
    """The held-out part of a fold is in the training of neither the basic model nor the one that starts from it."""
    run("adversarial", tmp_path, "--epsilon", "0.1", "--repeats", "2")
    by_fold = {k: [one for one in trainings if one.settings.fold == k] for k in range(4)}
    for of_fold in by_fold.values():
        assert len(of_fold) == 3  # the basic model, the one that goes on plain, the one with epsilon
        held = identities(of_fold[0].held)
        for one in of_fold:
            assert identities(one.held) == held and one.watched is None
            assert not identities(one.training) & held and len(identities(one.training) | held) == 45
    held = [identities(of_fold[0].held) for of_fold in by_fold.values()]
    assert not held[0] & held[1] and not held[2] & held[3] and held[0] not in held[2:]


def test_scores_are_means_over_sequences_and_repeats(tmp_path):
    metrics = run("basic", tmp_path, "--repeats", "2")["plain"]
    own = settings("basic", *SHORT, "--repeats", "2")
    data = jv_training.load(own).train
    losses, right = np.zeros((2, 45)), np.zeros((2, 45))
    for k, fold in enumerate(jv_training.held_out(own, data)):
        model = checkpoint.rebuild(tmp_path / "basic" / f"fold{k}" / "best.pt", LSTMClassifier)
        for i in fold.tolist():
            x, lengths, labels = data[torch.tensor([i])]
            probabilities = model(x, lengths).softmax(1)[0]
            losses[k // 2, i] = -probabilities[labels[0]].log().item()
            right[k // 2, i] = probabilities.argmax() == labels[0]
    assert metrics["cv_loss"] == pytest.approx(losses.mean(), abs=1e-5)
    assert metrics["cv_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert metrics["cv_loss_error"] == pytest.approx(losses.mean(0).std(ddof=1) / 45**0.5, abs=1e-5)
    assert metrics["cv_accuracy_error"] == pytest.approx(right.mean(0).std(ddof=1) / 45**0.5, abs=1e-5)


def test_a_grid_is_chosen_by_the_held_out_folds(tmp_path):
    metrics = run("basic", tmp_path, "--learning_rate", "1e-30", "0.02")["plain"]
    folder = tmp_path / "basic"
    with open(folder / "grid.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [0.02, 1e-30]
    assert metrics["best_combination"] == {"learning_rate": 0.02}
    assert float(rows[0]["score"]) == pytest.approx(metrics["cv_loss"], rel=0.05)  # the folds differ in size
    for name in ("fold0", "fold1"):
        assert equal(*(weights(path / name / "best.pt") for path in (folder, folder / "grid/learning_rate=0.02")))


def test_the_scale_is_that_of_the_training_part(tmp_path):
    """Of a fold's training part inside of the cross-validation, and of all training utterances for the final model."""
    run("basic", tmp_path)
    own = settings("basic", *SHORT)
    train = jv_training.load(own).train
    folder = tmp_path / "basic"
    assert torch.allclose(weights(folder / "best.pt")["mean"], torch.cat(train.values).mean(0), atol=1e-6)
    for k, fold in enumerate(jv_training.held_out(own, train)):
        part = train.select(torch.tensor([i for i in range(45) if i not in fold.tolist()]))
        mean = weights(folder / f"fold{k}" / "best.pt")["mean"]
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
    metrics = run("basic", tmp_path, "--seeds", "2")["plain"]
    final = trainings[2:]
    assert [one.settings.seed for one in final] == [0, 1]
    for one in final:
        assert len(one.training) == 45 and one.held is None
        assert identities(one.watched) == identities(jv_training.load(one.settings).test)
        assert checkpoint.load(one.folder / "best.pt")["epoch"] == 2
        assert equal(weights(one.folder / "best.pt"), weights(one.folder / "last.pt"))
    assert metrics["best_epoch"] == metrics["epochs"] == metrics["seeds"] == 2
    assert equal(weights(tmp_path / "basic" / "best.pt"), weights(final[0].folder / "best.pt"))


def test_histories_say_what_they_are_of(tmp_path):
    """Held-out folds are validation data; the test data, which are watched, are called so."""
    run("basic", tmp_path)
    columns = {
        name: set(tables.read_table(tmp_path / "basic" / name / "history.csv")[0]) for name in (".", "fold0", "fold1")
    }
    common = {"epoch", "learning_rate", "train_loss", "train_accuracy"}
    assert columns["."] == common | {"test_loss", "test_accuracy"}
    assert columns["fold0"] == columns["fold1"] == common | {"val_loss", "val_accuracy"}


def test_the_metrics_are_those_of_the_models_of_all_seeds(tmp_path):
    metrics = run("basic", tmp_path, "--seeds", "3")["plain"]
    x, lengths, labels = jv_training.load(settings("basic", *SHORT)).test.all()
    models = classifiers.classifiers(tmp_path / "basic", LSTMClassifier)
    with torch.no_grad():
        probabilities = torch.stack([model(x, lengths).softmax(1) for model in models])
    accuracies = (probabilities.argmax(2) == labels).double().mean(1)
    assert metrics["test_accuracy_mean"] == pytest.approx(accuracies.mean().item())
    assert metrics["test_accuracy_std"] == pytest.approx(accuracies.std().item())
    assert metrics["test_accuracy"] == pytest.approx(accuracies[0].item())
    losses = [-p[torch.arange(len(labels)), labels].log().mean().item() for p in probabilities]
    assert metrics["test_log_loss"] == pytest.approx(losses[0], rel=1e-4)
    assert metrics["test_log_loss_mean"] == pytest.approx(np.mean(losses), rel=1e-4)
    z = probabilities[0].log().numpy()
    assert metrics["calibration_error"] == pytest.approx(class_scores.summary(z, labels.numpy())["calibration_error"])
    assert metrics["vote_accuracy"] == pytest.approx((probabilities.mean(0).argmax(1) == labels).double().mean().item())


# ---- starts ----------------------------------------------------------------------------------------------------------


def test_models_start_from_a_run_of_basic_with_the_same_settings(tmp_path, trainings):
    run("basic", tmp_path, "--seeds", "2", "--repeats", "2")
    trainings.clear()
    run("adversarial", tmp_path, "--epsilon", "0.1", "--seeds", "2")
    assert len(trainings) == 8 and not (tmp_path / "starts").exists()
    for one in trainings:
        name = f"seeds/{one.settings.seed}" if one.settings.fold is None else f"fold{one.settings.fold}"
        assert equal(one.start, weights(tmp_path / "basic" / name / "best.pt"))


def test_without_a_run_of_basic_that_fits_plain_models_are_trained_once(tmp_path, trainings):
    run("basic", tmp_path, "--learning_rate", "0.01")
    trainings.clear()
    run("proximal", tmp_path, "--epsilon", "0.1", "1")
    starts = [one for one in trainings if not one.settings.from_plain]
    assert [one.settings.fold for one in starts] == [0, 1, None] and len(trainings) == 3 + 9
    assert {one.folder.parent for one in starts} == {tmp_path / "starts"}
    for one in starts:
        assert one.settings.mode == "plain" and one.settings.epochs == 2
        others = [
            other for other in trainings if other.settings.from_plain and other.settings.fold == one.settings.fold
        ]
        assert len(others) == 3
        assert all(equal(other.start, weights(one.folder / "best.pt")) for other in others)


def test_comparisons_start_from_the_plain_model_with_neither(tmp_path, trainings, monkeypatch):
    """Batch norm that is added is as it is made: statistics and offsets 0, variances and scales 1."""

    def train_one(requests, *_):
        own = requests["AdvLSTM, batch norm convolution and dropout"].single()
        jv_training.train(own, tmp_path / "one")
        raise StopIteration

    monkeypatch.setattr(jv_training, "fit", train_one)
    with pytest.raises(StopIteration):
        run("batch_norm", tmp_path, "--initial", "basic", "--basic_epochs", "2", "--dropout", "0.2")
    plain, one = trainings
    assert plain.settings.mode == "plain" and plain.settings.dropout == 0 and plain.folder.parent == tmp_path / "starts"
    trained, new = weights(plain.folder / "best.pt"), dict(one.start)
    assert equal({name: new.pop(name) for name in trained}, trained)
    assert new and all(name.startswith("batch_norms.convolution.") for name in new)
    assert all(value.unique().tolist() == [name.endswith(("weight", "var"))] for name, value in new.items())


def test_without_learning_the_pretrained_weights_come_back(tmp_path):
    plain = ("--batch_norm_places", "none", "--seeds", "2")
    run("basic", tmp_path, *plain)
    run("proximal", tmp_path, "--epsilon", "0.5", "--learning_rate", "1e-30", *plain,
        "--pretrained", str(tmp_path / "basic"))  # fmt: skip
    for seed in "01":
        basic, found = (
            weights(tmp_path / name / "seeds" / seed / "best.pt") for name in ("basic", "proximal/epsilon0.5")
        )
        assert basic.keys() == found.keys()
        assert all(torch.allclose(basic[name], found[name], rtol=0, atol=1e-12) for name in basic)


def test_a_checkpoint_of_one_classifier_is_a_start_for_every_seed(tmp_path):
    model = save_classifier(tmp_path / "one.pt")
    for seed in (0, 7):
        start = classifiers.read_pretrained(tmp_path / "one.pt", seed, LSTMClassifier)
        assert equal(start.state_dict(), model.state_dict())


def save_classifier(path):
    own = settings("basic", *SHORT)
    data = jv_training.load(own)
    model = jv_training.new_model(own, data, data.train)
    checkpoint.save(path, {"model": checkpoint.describe(model)})
    return model


# ---- functions -------------------------------------------------------------------------------------------------------


FIGURES = {
    "basic": {"accuracy.png", "loss.png"},
    "adversarial": {"accuracy.png", "epsilon.png", "epsilon.csv"},
    "proximal": {"accuracy.png", "epsilon.png", "epsilon.csv"},
    "dropout": {"places.png"},
    "batch_norm": {"places.png"},
}
KEYS = {"data", "split", "seed", "epochs", "seconds", "parameters", "test_accuracy", "majority_accuracy",
        "test_accuracy_sigma", "cv_accuracy", "cv_loss", "cv_loss_error", "vote_accuracy", "seeds"}  # fmt: skip
OPPONENTS = ("lda", "svm", "gaussian", "dtw")
ROWS = {
    "dropout": ["no dropout", "dropout input", "dropout convolution", "dropout lstm", "dropout all"],
    "batch_norm": ["no batch norm", "batch norm input", "batch norm convolution", "batch norm lstm", "batch norm all",
                   "batch norm convolution and dropout"],
}  # fmt: skip


@pytest.mark.parametrize(
    "function",  # test_places_are_compared_... runs dropout
    [pytest.param(name, marks=[pytest.mark.reliability] * (name in ROWS)) for name in FIGURES],
)
def test_function_leaves_its_files_and_its_metrics(function, tmp_path):
    more = {
        "dropout": ["--dropout", "0.25", "--adversarial_epsilon", "0.7"],
        "batch_norm": ["--dropout", "0.25", "--proximal_epsilon", "0.2"],
    }
    metrics = run(function, tmp_path, *more.get(function, [] if function == "basic" else ["--epsilon", "0.1", "1"]))
    folder = tmp_path / function
    assert {"config.json", "metrics.json", "history.csv"} | FIGURES[function] <= files(folder)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    models = {name: values for name, values in metrics.items() if name not in OPPONENTS}
    assert [name for name in metrics if name in OPPONENTS] == [*OPPONENTS][: 4 if function == "basic" else 1]
    mode = {"adversarial": "AdvLSTM", "proximal": "ProxLSTM"}.get(function)
    if mode:
        assert list(models) == ["plain", mode, "epsilon0.1", "epsilon1"]
        best = min(("epsilon0.1", "epsilon1"), key=lambda name: metrics[name]["cv_loss"])
        assert models.pop(mode) == {key: value for key, value in metrics[best].items() if key != "seconds"}
        for epsilon in (0.1, 1.0):
            model = checkpoint.rebuild(folder / f"epsilon{epsilon:g}" / "best.pt", LSTMClassifier)
            assert model.mode == mode and model.epsilon == epsilon == metrics[f"epsilon{epsilon:g}"]["epsilon"]
        with open(folder / "epsilon.csv") as file:
            assert [row["epsilon"] for row in csv.DictReader(file)] == ["0.0", "0.1", "1.0"]
    elif function in ROWS:
        modes = ("plain", "AdvLSTM", "ProxLSTM")
        assert list(models) == [f"{mode}, {row}" for mode in modes for row in ROWS[function]]
        check_places(function, folder)
    for name, values in models.items():
        assert values.keys() >= KEYS and values["against"].keys() >= {"lda"}
        assert files(folder if function == "basic" else folder / name) >= TRAINING_FILES


def check_places(function, folder):
    """Places, rates and epsilons are those of the models' names and of the flags."""

    def model(name):
        return checkpoint.rebuild(folder / name / "best.pt", LSTMClassifier)

    for place in ("input", "convolution", "lstm"):
        if function == "dropout":
            dropped = model(f"AdvLSTM, dropout {place}")
            assert dropped.dropout.p == 0.25 and tuple(dropped.dropout_places) == (place,) and dropped.epsilon == 0.7
        else:
            normed = model(f"ProxLSTM, batch norm {place}")
            assert set(normed.batch_norms) == {place} and normed.dropout.p == 0 and normed.epsilon == 0.2
    if function == "batch_norm":
        both = model("plain, batch norm convolution and dropout")
        assert set(both.batch_norms) == {"convolution"} and both.dropout.p == 0.25 and both.dropout_places == ("lstm",)
        assert not model("plain, no batch norm").batch_norms


def right_of_models(path, data):
    x, lengths, labels = data.test.all()
    with torch.no_grad():
        return np.stack(
            [(m(x, lengths).argmax(1) == labels).numpy() for m in classifiers.classifiers(path, LSTMClassifier)]
        )


def test_differences_are_paired_by_test_utterance_and_over_seeds(tmp_path):
    metrics = run("adversarial", tmp_path, "--epsilon", "0.1", "2", "--seeds", "2")
    data = jv_training.load(settings("basic", *SHORT))
    plain, other = (right_of_models(tmp_path / "adversarial" / name, data) for name in ("plain", "epsilon2"))
    assert metrics["epsilon2"]["against"]["plain"]["test_accuracy"] == intervals.compare(other, plain)
    lda = jv_training.fit_simple(data, ("lda",), 0)[1]["lda"]
    against = metrics["plain"]["against"]
    assert against.keys() == {"lda"} and against["lda"].keys() == {"test_accuracy", "test_log_loss"}
    assert against["lda"]["test_accuracy"] == intervals.compare(plain, lda["test_accuracy"])
    for name, theirs in (
        ("plain", metrics["lda"]["test_log_loss"]),
        ("epsilon2", metrics["plain"]["test_log_loss_mean"]),
    ):
        difference = metrics[name]["against"]["lda" if name == "plain" else "plain"]["test_log_loss"]["difference"]
        assert difference == pytest.approx(metrics[name]["test_log_loss_mean"] - theirs)
    with open(tmp_path / "adversarial" / "epsilon.csv") as file:
        rows = list(csv.DictReader(file))
    assert not rows[0]["difference"] and float(rows[2]["low"]) <= float(rows[2]["difference"]) <= float(rows[2]["high"])


def test_places_are_compared_with_none_and_with_the_plain_model(tmp_path):
    metrics = run("dropout", tmp_path)
    assert metrics["AdvLSTM, dropout lstm"]["against"].keys() == {"lda", "AdvLSTM, no dropout", "plain, dropout lstm"}
    assert metrics["plain, no dropout"]["against"].keys() == {"lda"}
    difference = metrics["AdvLSTM, dropout lstm"]["test_accuracy"] - metrics["AdvLSTM, no dropout"]["test_accuracy"]
    against = metrics["AdvLSTM, dropout lstm"]["against"]["AdvLSTM, no dropout"]["test_accuracy"]
    assert against["difference"] == pytest.approx(difference)


def test_attack_steps_are_those_of_the_adversary_alone(tmp_path, trainings):
    run("adversarial", tmp_path, "--epsilon", "2", "--attack_steps", "3")
    model = checkpoint.rebuild(tmp_path / "adversarial" / "epsilon2" / "best.pt", LSTMClassifier)
    assert model.attack_steps == 3
    run("adversarial", tmp_path / "one", "--epsilon", "2")
    folders = tmp_path / "adversarial", tmp_path / "one" / "adversarial"
    assert equal(*(weights(folder / "plain" / "best.pt") for folder in folders))
    assert not equal(*(weights(folder / "epsilon2" / "best.pt") for folder in folders))
    starts = [one for one in trainings if not one.settings.from_plain]
    assert not any(hasattr(one.settings, "attack_steps") for one in starts)  # a run of basic fits


def test_a_run_below_a_simple_opponent_ends_with_that(tmp_path, capsys):
    arguments = [word for word in SHORT if word != "--quiet"]
    jv_training.main(["--function", "basic", "--output_dir", str(tmp_path), *arguments, "--epochs", "1"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("BELOW A SIMPLE OPPONENT, ") and "plain (" in last


def test_fresh_splits_train_on_what_they_do_not_test(tmp_path, trainings):
    flags_of = [
        *SHORT[: SHORT.index("--folds")],
        "--hidden_size",
        "4",
        "--channels",
        "4",
        "--seeds",
        "2",
        "--splits",
        "2",
    ]
    metrics = jv_training.main(["--function", "fresh_splits", "--output_dir", str(tmp_path), *flags_of])
    assert list(metrics) == ["plain", "lda", "split 0", "split 1"]
    assert [(one.settings.split, one.settings.seed) for one in trainings] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for one in trainings:
        assert not identities(one.training) & identities(one.watched) and one.held is None
        assert len(one.training) == 45 and len(one.watched) == 370
    means = [metrics[f"split {k}"]["test_accuracy_mean"] for k in range(2)]
    assert metrics["plain"]["test_accuracy_mean"] == pytest.approx(sum(means) / 2)
    against = metrics["plain"]["against"]["lda"]["test_accuracy"]
    assert against["difference"] == pytest.approx(sum(means) / 2 - metrics["lda"]["test_accuracy"])
    again = jv_training.main(["--function", "fresh_splits", "--dry_run", "--quiet", "--output_dir", str(tmp_path)])
    assert without_time(again) == without_time(metrics)


def test_models_of_a_cross_validation_stand_beside_the_sequences_that_they_have_not_seen(tmp_path):
    metrics = run("adversarial", tmp_path, "--epsilon", "1", "--limit", "90")
    request = flags.parse(SCRIPT, ["--function", "robustness", "--source", "sample", "--output_dir", str(tmp_path)])
    pairs = jv_training.held_out_models(request["robustness"], tmp_path / "adversarial" / "epsilon1")
    right = torch.cat([model(x, lengths).argmax(1) == labels for model, (x, lengths, labels) in pairs])
    assert len(right) == 90 and right.double().mean().item() == pytest.approx(metrics["epsilon1"]["cv_accuracy"])


def test_robustness_reads_the_models_of_the_others(tmp_path, capsys, monkeypatch):
    short = {"RADII": (0.0, 0.1), "RADII_OF_SEVERAL_STEPS": (0.0, 0.3), "STARTS": 1, "DRAWS": 10}
    for name, value in short.items():
        monkeypatch.setattr(robustness, name, value)

    def test_all():
        return jv_training.main(
            ["--function", "robustness", "--quiet", "--source", "sample", "--output_dir", str(tmp_path)]
        )

    with pytest.raises(SystemExit) as stopped:
        test_all()
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and "run adversarial or proximal" in message
    run("adversarial", tmp_path, "--epsilon", "0.1", "1", "2", "--seeds", "2")
    alone = test_all()
    assert {name.partition(",")[0] for name in alone} == {"plain", "AdvLSTM"}
    assert not [name for name in files(tmp_path / "robustness") if "Prox" in name]
    run("proximal", tmp_path, "--epsilon", "0.1")
    metrics = test_all()
    names = [f"AdvLSTM, epsilon{epsilon}" for epsilon in ("0.1", "1", "2")]
    assert list(metrics) == ["plain", *names, "ProxLSTM, epsilon0.1"]
    chosen = json.loads((tmp_path / "adversarial" / "metrics.json").read_text())["AdvLSTM"]["epsilon"]
    robust = max(names, key=lambda name: metrics[name]["cv_attacked_accuracy"])  # on held-out folds
    slow = {f"AdvLSTM, epsilon{chosen:g}", names[-1], robust}
    assert {name for name in names if "area_certified_mean" in metrics[name]} == slow
    assert {"attack_x_AdvLSTM.png", "noise_v_ProxLSTM.png", "first_share_AdvLSTM.png"} <= files(tmp_path / "robustness")
    assert metrics["AdvLSTM, epsilon2"]["seeds"] == 2 and metrics["ProxLSTM, epsilon0.1"]["seeds"] == 1
    clean = json.loads((tmp_path / "adversarial" / "metrics.json").read_text())["epsilon2"]["test_accuracy_mean"]
    for name in ("attack_x_0", "attack_v_20_steps_0", "noise_x_0", "noise_v_0", "first_share_1", "missing_share_0"):
        assert metrics["AdvLSTM, epsilon2"][f"accuracy_{name}_mean"] == pytest.approx(clean)
    area = metrics["AdvLSTM, epsilon2"]["area_attack_x_20_steps_mean"] - metrics["plain"]["area_attack_x_20_steps"]
    against = metrics["AdvLSTM, epsilon2"]["against"]["plain"]
    assert against["area_attack_x_20_steps"]["difference"] == pytest.approx(area) and "against" not in metrics["plain"]
    assert metrics["ProxLSTM, epsilon0.1"]["norm_G_mapped"] < metrics["ProxLSTM, epsilon0.1"]["norm_G"]


def without_time(metrics):
    """Without the seconds: those of a dry run are of the last training only."""
    return {name: {key: value for key, value in values.items() if key != "seconds"} for name, values in metrics.items()}


def test_dry_run_tests_again_without_training(tmp_path, trainings):
    first = run("adversarial", tmp_path, "--epsilon", "0.1", "1", "--seeds", "2")
    trainings.clear()
    again = jv_training.main(["--function", "adversarial", "--dry_run", "--quiet", "--output_dir", str(tmp_path)])
    assert without_time(again) == without_time(first) and not trainings


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
    for name in ("plain/best.pt", "epsilon0.1/best.pt", "epsilon1/fold1/last.pt"):
        assert equal(weights(tmp_path / "whole/proximal" / name), weights(tmp_path / "stopped/proximal" / name))


# ---- runs of version 1.0 ---------------------------------------------------------------------------------------------

SAMPLE = Path(jv_training.__file__).parent / "data/samples/japanese_vowels/JapaneseVowels_TEST.ts"
GOLDEN = Path(__file__).parent / "golden" / "format1" / "jv_training_basic_quick"


def stack_of(models):
    """What version 1.0 saved of several models."""
    weights = {f"stacked.{name}": torch.stack([model.state_dict()[name] for model in models])
               for name in models[0].state_dict()}  # fmt: skip
    return {"name": "ClassifierStack", "arguments": {"models": len(models), **models[0].arguments}, "weights": weights}


def test_a_stack_of_version_1_is_taken_apart(tmp_path):
    models = [save_classifier(tmp_path / "one.pt") for _ in range(2)]
    with torch.no_grad():
        models[1].linear.bias += 1
    checkpoint.save(tmp_path / "best.pt", {"model": stack_of(models)})
    for found, model in zip(classifiers.classifiers(tmp_path, LSTMClassifier), models, strict=True):
        assert equal(found.state_dict(), model.state_dict()) and not found.training
    assert equal(classifiers.read_pretrained(tmp_path, 1, LSTMClassifier).state_dict(), models[1].state_dict())
    with pytest.raises(checkpoint.CheckpointError, match="a model of seed 2, found those of 2"):
        classifiers.read_pretrained(tmp_path, 2, LSTMClassifier)


@pytest.mark.parametrize("damage", ["arguments", "weights", "no arguments", "number"])
def test_a_damaged_stack_is_refused_in_one_line(tmp_path, damage):
    described = stack_of([save_classifier(tmp_path / "one.pt")])
    if damage == "arguments":
        described["arguments"]["channels"] = 5
    elif damage == "weights":
        described["weights"].pop("stacked.linear.bias")
    elif damage == "no arguments":
        described.pop("arguments")
    else:
        described["weights"]["stacked.linear.bias"] = torch.zeros(())
    checkpoint.save(tmp_path / "best.pt", {"model": described})
    with pytest.raises(checkpoint.CheckpointError) as caught:
        classifiers.classifiers(tmp_path, LSTMClassifier)
    assert str(tmp_path / "best.pt") in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_of_version_1_predicts_and_is_a_start(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "old")
    old = tmp_path / "old" / "basic"
    for name in ("best.pt", ""):
        predicted = jv_training.main(["--function", "predict", "--data", str(SAMPLE), "--model_from", str(old / name),
                                      "--quiet", "--output_dir", str(tmp_path)])  # fmt: skip
        assert predicted["plain"]["sequences"] == 370 and predicted["plain"]["seeds"] == 1
    sizes = ("--hidden_size", "2", "--channels", "2")
    run("adversarial", tmp_path, "--epsilon", "0.1", "--learning_rate", "1e-30", *sizes, "--pretrained", str(old))
    (found,) = classifiers.classifiers(tmp_path / "adversarial" / "epsilon0.1", LSTMClassifier)
    start = weights(old / "best.pt")
    assert torch.allclose(found.linear.weight, start["stacked.linear.weight"][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("flag", ["--resume", "--dry_run"])
def test_a_run_of_version_1_is_resumed_and_tested_by_that(tmp_path, capsys, flag):
    shutil.copytree(GOLDEN, tmp_path / "old")
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}
    arguments = json.loads((GOLDEN / "command.json").read_text())["arguments"]
    arguments = arguments if flag == "--resume" else arguments[:2]
    with pytest.raises(SystemExit) as stopped:
        jv_training.main([*arguments, flag, "--quiet", "--output_dir", str(tmp_path / "old")])
    assert stopped.value.code == 2 and "version 1.0 of this collection" in one_line(capsys)
    assert all(path.read_bytes() == content for path, content in before.items())


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
    metrics = jv_training.main(["--function", "basic", *OWN, *data, *out, "--seeds", "2"])["plain"]
    assert metrics["data"] == "own" and metrics["split"] == "R_TRAIN.ts, R_TEST.ts"
    assert metrics["test_accuracy_mean"] > 0.95 > metrics["majority_accuracy"]
    proximal = jv_training.main(
        ["--function", "proximal", *OWN, *data, *out, "--epsilon", "0.1", "--basic_epochs", "12"]
    )
    assert proximal["ProxLSTM"]["test_accuracy"] > 0.9
    new = write_ts(tmp_path / "new.ts", 11, label=False)
    model = str(tmp_path / "basic")
    found = jv_training.main(["--function", "predict", "--data", new, "--quiet", *out])
    assert found == {"plain": {"model": model, "sequences": 11, "seeds": 2}}
    with open(tmp_path / "predict" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == ["up", "down"] * 5 + ["up"]
    assert list(rows[0]) == ["sequence", "predicted", "probability up", "probability down"]
    assert all(float(r["probability up"]) + float(r["probability down"]) == pytest.approx(1, abs=1e-5) for r in rows)
    labelled = write_ts(tmp_path / "known.ts", 10)
    found = jv_training.main(["--function", "predict", "--data", labelled, "--checkpoint", model, "--quiet", *out])
    assert found["plain"]["accuracy"] == 1.0


def test_sequences_that_do_not_fit_the_model_are_refused(tmp_path, capsys):
    save_classifier(tmp_path / "one.pt")
    new = write_ts(tmp_path / "new.ts", 4, label=False)
    argv = ["--function", "predict", "--data", new, "--checkpoint", str(tmp_path / "one.pt")]
    with pytest.raises(SystemExit) as stopped:
        jv_training.main([*argv, "--quiet", "--output_dir", str(tmp_path)])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and "new.ts: expected 12 features per step, found 2" in message


def test_data_of_ones_own_have_the_budget_of_the_vowels_in_updates(tmp_path, trainings):
    """And a convolution after whose strides the LSTM has as many steps."""
    data = [
        "--train",
        write_ts(tmp_path / "R_TRAIN.ts", 20, steps=(90, 100)),
        "--test",
        write_ts(tmp_path / "R_TEST.ts", 8),
    ]
    request = flags.parse(SCRIPT, ["--function", "adversarial", *data, "--epsilon", "1"])["adversarial"]
    assert (request.updates, request.basic_updates, request.stride, request.offset) == (300, 600, None, [0.0])
    assert settings("basic", *data, "--epochs", "7").updates is None
    jv_training.main(["--function", "adversarial", *data, "--epsilon", "1", "--updates", "3", "--basic_updates", "6",
                      "--folds", "2", "--repeats", "1", "--batch_size", "4", "--quiet", "--hidden_size", "2",
                      "--output_dir", str(tmp_path)])  # fmt: skip
    epochs = {(one.settings.from_plain, one.settings.fold): one.settings for one in trainings}
    assert len(epochs) == 6 and {one.settings.updates for one in trainings} == {None, 3}
    history = {
        name: len(tables.read_table(tmp_path / "adversarial" / "plain" / name / "history.csv"))
        for name in (".", "fold0")
    }
    assert history == {".": 1, "fold0": 1}
    (start,) = {one.settings.epochs for one in trainings if not one.settings.from_plain}
    assert start == 2  # of 3 batches in a fold, of 5 in all: 6 updates
    model = checkpoint.rebuild(tmp_path / "adversarial" / "plain" / "best.pt", LSTMClassifier)
    assert (model.arguments["stride"], model.arguments["kernel_size"]) == (3, 4)  # 2 stride + 1, but the shortest has 4


def test_one_feature_is_more_than_its_sign(tmp_path, capsys):
    path = tmp_path / "one.ts"
    path.write_text("@classLabel true a b\n@data\n" + "".join(f"{i},{i + 1},2,3:{'ab'[i % 2]}\n" for i in range(12)))
    with pytest.raises(SystemExit) as stopped:
        jv_training.main(["--function", "basic", "--train", str(path), "--test", str(path), "--normalization", "l2",
                          "--quiet", "--output_dir", str(tmp_path)])  # fmt: skip
    assert stopped.value.code == 2 and "--normalization: expected standard" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [30, 10])
def test_a_last_batch_of_one_sequence_joins_the_one_before(tmp_path, batch_size):
    """Batch norm has no variance of one: it was NaN, and called divergence."""
    data = ["--train", write_ts(tmp_path / "R_TRAIN.ts", 31), "--test", write_ts(tmp_path / "R_TEST.ts", 20)]
    metrics = jv_training.main(["--function", "basic", *OWN, *data, "--output_dir", str(tmp_path), "--epochs", "1",
                                "--batch_norm_places", "lstm", "--batch_size", str(batch_size)])  # fmt: skip
    assert np.isfinite(metrics["plain"]["test_log_loss"])


def test_a_test_file_that_repeats_the_training_file_is_said(tmp_path, capsys):
    file = write_ts(tmp_path / "R.ts", 12)
    metrics = jv_training.main(["--function", "basic", *OWN, "--train", file, "--test", file, "--output_dir",
                                str(tmp_path), "--epochs", "1"])  # fmt: skip
    assert metrics["plain"]["leak"] == 12
    assert "NOTICE: 12 of the 12 test sequences of R.ts are also in the training set" in capsys.readouterr().err


# ---- flags -----------------------------------------------------------------------------------------------------------


BAD = [
    ("--function basic --folds 1", ["--folds", "'1'"]),
    ("--function adversarial --epsilon -1", ["--epsilon", "-1"]),
    ("--function basic --epsilon 1", ["--epsilon", "not used by basic", "adversarial and proximal"]),
    ("--function basic --dropout 1", ["--dropout", "'1'"]),
    ("--function basic --dropout_places output", ["--dropout_places", "'output'"]),
    ("--function basic --dropout_places none lstm", ["--dropout_places", "none alone"]),
    ("--function dropout --dropout .2 .5", ["--dropout", "expected one value", "found 2"]),
    ("--function dropout --dropout_places lstm", ["--dropout_places", "not used by dropout"]),
    ("--function basic --num_layers 3", ["--num_layers", "no such flag"]),
    ("--function basic --batch_size 1", ["--batch_size", "at least 2 with batch norm"]),
    ("--function batch_norm --batch_size 1", ["--batch_size", "at least 2 with batch norm"]),
    ("--function robustness --limit 5", ["--limit", "not used by robustness"]),
    ("--function basic --basic_epochs 5", ["--basic_epochs", "not used by basic"]),
    ("--function basic --kernel_size 8", ["--kernel_size", "at most 7"]),
    ("--function basic --course_file --data_dir nowhere", ["JV_data.mat"]),
    ("--function basic --train a.ts", ["--test", "--train FILE.ts --test FILE.ts"]),
    ("--function basic --train a.ts --test b.ts", ["--train", "without --source sample"]),
    ("--function adversarial --pretrained nowhere.pt", ["--pretrained", "nowhere.pt"]),
    ("--function adversarial --dry_run", ["--dry_run"]),
    ("--function basic --folds 30 --limit 20", ["--folds", "30", "at most 2"]),
    ("--function fresh_splits", ["--folds", "not used by fresh_splits"]),
    ("--function predict", ["--data", "expected the sequences to classify"]),
    ("--function predict --data a.ts --checkpoint b.pt", ["a.ts", "expected a .ts file"]),
    (f"--function predict --data {SAMPLE}", ["basic", "expected trained models", "--model_from"]),
]


@pytest.mark.parametrize(("text", "named"), BAD)
def test_bad_input_gives_one_line_that_names_it_and_status_2(text, named, tmp_path, capsys):
    argv = text.split()
    short = ["--quiet"] if {"predict", "robustness"} & {*argv} else SHORT
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
    assert stopped.value.code == 2 and "a run of basic with seed 2" in capsys.readouterr().err


def test_the_published_preset_is_the_model_of_the_assignment():
    own = settings("adversarial", "--preset", "published", "--epsilon", "0.1")
    assert (own.normalization, own.bidirectional, own.channels, own.kernel_size, own.hidden_size) == (
        "l2", False, 64, 3, 64
    )  # fmt: skip
    assert (own.dropout_places, own.batch_norm_places, own.noise, own.offset) == (("none",), ("none",), 0.0, 0.0)
    assert own.epochs == 50
    prox = flags.parse(SCRIPT, ["--function", "proximal", "--preset", "published"])["proximal"]
    assert prox.epochs == 100 and {0.1, 1.0, 5.0} < set(prox.epsilon)
