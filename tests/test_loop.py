"""The training loop: the same numbers whatever happens to the process, the right epoch kept, numbers by hand."""

import gc
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import (
    BATCHES,
    TRAINING,
    VALIDATION,
    Net,
    Signals,
    fit,
    make_settings,
    outcome,
    points,
    rows,
    same,
    step,
)
from torch import nn
from torch.utils.data import TensorDataset
from trainings import ROOT

from lstm_studies.training import checkpoint, loop, tables
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.loop import Diverged
from lstm_studies.training.run import prepare_process
from lstm_studies.training.settings import UsageError, flags_of
from lstm_studies.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("no_flush")

OPTIMIZERS = flags_of(type(make_settings()))["optimizer"].kind.choices


def table(folder):
    return rows(folder / "history.csv")


def column(folder, name):
    return [float(row[name]) for row in table(folder)]


# ---- same numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_that_of_torch_optim(optimizer):
    """Without the wrappers of `step`, which import PyTorch's compiler."""
    models = [Net(3).eval(), Net(3).eval()]  # without dropout, whose draws would differ
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [loop.make_optimizer(model, make_settings(optimizer=optimizer)) for model in models]
    for k in range(3):
        for model, one in zip(models, optimizers, strict=True):
            one.zero_grad()
            step(model, tuple(part[k : k + 5] for part in TRAINING.tensors))["loss"].backward()
        loop.take_step(optimizers[0])
        optimizers[1].step()
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(a, b) and a.requires_grad for a, b in pairs)


def test_a_script_does_not_import_the_compiler(tmp_path):
    """Importing it takes as long as importing PyTorch."""
    flags = ["--function", "reconstruct", "--limit", "64", "--epochs", "1", "--quiet", "--output_dir", str(tmp_path)]
    code = f"import sys, lstm_ae_toy; lstm_ae_toy.main({flags!r}); sys.exit('torch._dynamo' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_seed_same_bits(tmp_path, optimizer):
    ends = [
        outcome(tmp_path / str(i), fit(tmp_path / str(i), optimizer=optimizer, seed=seed)[0])
        for i, seed in enumerate((0, 0, 1))
    ]
    assert same(ends[0], ends[1])
    assert not same(ends[0]["weights"], ends[2]["weights"]) and ends[0]["history"] != ends[2]["history"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"optimizer": name}, marks=[pytest.mark.reliability] * (name not in ("Adam", "SGD")))
        for name in OPTIMIZERS
    ],
)
def test_interrupted_anywhere_and_resumed(tmp_path, values):
    """At each batch of training and validation in turn; the other half of the cases also save after every batch."""
    values = {"weight_decay": 0.01, "learning_rate": 0.05, **values}
    model, _ = fit(tmp_path / "whole", **values)
    whole = outcome(tmp_path / "whole", model)
    calls = 3 * (BATCHES + 2)
    for call in range(calls):
        folder = tmp_path / str(call)
        often = 0.0 if call % 2 else 30.0
        with pytest.raises(Interrupted):
            fit(folder, Signals(call), checkpoint_every=often, **values)
        model, result = fit(folder, resume=True, checkpoint_every=often, **values)
        assert same(outcome(folder, model), whole), f"interrupted at call {call}"
        assert result.epochs == 3 and not list(folder.glob("*.tmp"))


def test_interrupted_again_and_again(tmp_path):
    model, _ = fit(tmp_path / "whole")
    whole = outcome(tmp_path / "whole", model)
    for _ in range(3 * BATCHES):
        with pytest.raises(Interrupted):
            fit(tmp_path / "a", Signals(0), resume=True)
    model, _ = fit(tmp_path / "a", resume=True)
    assert same(outcome(tmp_path / "a", model), whole)


def test_interrupted_says_where(tmp_path):
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM in epoch 2, after batch 2; --resume goes on"):
        fit(tmp_path, Signals(BATCHES + 2 + 1))
    saved = checkpoint.load(tmp_path / "last.pt")
    assert saved["epoch"] == 1 and saved["batch"] == 2 and len(table(tmp_path)) == 1


def test_signal_during_the_last_save_is_not_lost(tmp_path, monkeypatch):
    save = checkpoint.save

    def signal_in_save(path, content, keep_previous=False):
        save(path, content, keep_previous)
        if path.name == "last.pt":
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(checkpoint, "save", signal_in_save)
        fit(tmp_path / "a")
    model, _ = fit(tmp_path / "a", resume=True)
    whole, _ = fit(tmp_path / "whole")
    assert same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


def test_second_signal_ends_at_once(tmp_path, monkeypatch):
    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as caught:
        fit(tmp_path, Signals(1, 1, signum=signal.SIGINT))
    assert caught.value.code == 130


def test_damaged_checkpoint_goes_on_from_the_previous_one(tmp_path):
    model, _ = fit(tmp_path / "whole")
    whole = outcome(tmp_path / "whole", model)
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals(6), checkpoint_every=0.0)
    last = tmp_path / "a" / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="going on from last.previous.pt"):
        model, _ = fit(tmp_path / "a", resume=True)
    assert same(outcome(tmp_path / "a", model), whole)


def test_both_checkpoints_damaged(tmp_path):
    fit(tmp_path, checkpoint_every=0.0)
    for name in ("last.pt", "last.previous.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.pt.*last\.previous\.pt"):
        fit(tmp_path, resume=True)


KILLED = {"epochs": 20, "checkpoint_every": 0.0}


def slow_step(model, batch):
    """The same numbers; 100 calls take at least 0.4 seconds, so that the signal comes before the end."""
    time.sleep(0.004)
    return step(model, batch)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_killed_at_a_random_moment_and_resumed(tmp_path):
    model, _ = fit(tmp_path / "whole", **KILLED)
    whole = outcome(tmp_path / "whole", model)
    folders = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
    code = (
        f"import sys; sys.path[:0] = {folders!r}\n"
        "import test_loop as t; from pathlib import Path\n"
        "t.fit(Path(sys.argv[1]), t.slow_step, **t.KILLED)"
    )
    folder, last = tmp_path / "killed", tmp_path / "killed" / "last.pt"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE)
    while process.poll() is None and not last.exists():
        time.sleep(0.001)
    time.sleep(random.Random().uniform(0, 0.3))
    process.kill()
    assert process.communicate()[1] == b""
    done = checkpoint.load_latest(last)
    assert process.returncode == -signal.SIGKILL and done["epoch"] < 20
    model, _ = fit(folder, resume=True, **KILLED)
    assert same(outcome(folder, model), whole), (done["epoch"], done["batch"])


def test_every_generator_of_random_numbers_is_in_the_checkpoint(tmp_path):
    """A step that draws from Python's and NumPy's generators, too, goes on with the same numbers."""

    def noisy(model, batch):
        scale = 1 + random.random() + float(np.random.rand()) + float(np.random.randn()) + float(torch.rand(1))
        return {"loss": scale * (model(batch[0]) - batch[1]).square().mean()}

    def stopping_at(call):
        calls = iter(range(100))

        def stopping(model, batch):
            if next(calls) == call:
                signal.raise_signal(signal.SIGTERM)
            return noisy(model, batch)

        return stopping

    model, _ = fit(tmp_path / "whole", noisy)
    for call in range(1, 9):
        folder = tmp_path / str(call)
        with pytest.raises(Interrupted):
            fit(folder, stopping_at(call))
        resumed, _ = fit(folder, noisy, resume=True)
        assert same(outcome(folder, resumed), outcome(tmp_path / "whole", model))


# ---- resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "value"),
    [("learning_rate", 0.02), ("batch_size", 5), ("seed", 1), ("optimizer", "SGD"), ("hidden_size", 5), ("epochs", 4)],
)
def test_resume_with_other_flags(tmp_path, flag, value):
    with pytest.raises(Interrupted):
        fit(tmp_path, Signals(4))
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UsageError, match=f"--resume: .*--{flag} .*{value}"):
        fit(tmp_path, resume=True, **{flag: value})
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["patience", "weight_average"])
def test_a_training_of_version_1_with_settings_that_are_gone_is_not_resumed(tmp_path, name):
    """It would go on in another way. Where they were off, nothing changes."""
    with pytest.raises(Interrupted):
        fit(tmp_path, Signals(4))
    content = checkpoint.load(tmp_path / "last.pt")
    for value, allowed in ((0.9, False), (0, True)):
        content["flags"][name] = value
        checkpoint.save(tmp_path / "last.pt", content)
        if allowed:
            assert fit(tmp_path, resume=True)[1].epochs == 3
        else:
            with pytest.raises(UsageError, match=rf"--resume: .*--{name} 0.9, .*version 1\.0"):
                fit(tmp_path, resume=True)


def test_resume_with_flags_that_do_not_matter(tmp_path):
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals(4))
    free = {"output_dir": Path("b"), "data_dir": Path("c"), "jobs": 2, "checkpoint_every": 0.0, "function": "d"}
    model, _ = fit(tmp_path / "a", resume=True, **free)
    whole, _ = fit(tmp_path / "whole")
    assert same(model.state_dict(), whole.state_dict())


def test_more_epochs_on_a_cosine_are_refused_with_the_way_out(tmp_path):
    fit(tmp_path, epochs=2)
    with pytest.raises(UsageError, match="--epochs 2, not 4; its learning rates follow a cosine over 2 epochs"):
        fit(tmp_path, epochs=4, resume=True)


def test_clipping_that_never_acted_is_said_once(tmp_path, capsys):
    fit(tmp_path, quiet=False, gradient_clipping=1e6)
    assert capsys.readouterr().out.count("gradient clipping at 1e+06 never acted") == 1
    fit(tmp_path, quiet=False, gradient_clipping=1e-6)
    assert "never acted" not in capsys.readouterr().out


def test_more_epochs_at_a_constant_rate(tmp_path):
    fit(tmp_path / "a", schedule="constant", epochs=2)
    model, result = fit(tmp_path / "a", schedule="constant", epochs=4, resume=True)
    whole, _ = fit(tmp_path / "whole", schedule="constant", epochs=4)
    assert result.epochs == 4 and same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


def third_epoch(row):
    return row["epoch"] == 3


@pytest.mark.parametrize("values", [{}, {"arguments": {"after_epoch": third_epoch}, "epochs": 50}])
def test_resume_of_a_finished_run_does_nothing(tmp_path, values):
    model, result = fit(tmp_path, **values)
    files = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}

    def never(model, batch):
        raise AssertionError("trained again")

    again, same_result = fit(tmp_path, never, resume=True, **values)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == files
    assert same(again.state_dict(), model.state_dict()) and same_result == result and not again.training
    assert result.epochs == 3


def test_a_budget_of_updates_is_one_of_epochs(tmp_path):
    """Seven steps of three batches an epoch: three whole epochs, which is what the checkpoint says."""
    model, _ = fit(tmp_path / "whole", epochs=3)
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals(6), updates=7, epochs=50)
    again, result = fit(tmp_path / "a", updates=7, epochs=50, resume=True)
    assert result.epochs == 3 and same(outcome(tmp_path / "a", again), outcome(tmp_path / "whole", model))
    flags = checkpoint.load(tmp_path / "a" / "last.pt")["flags"]
    assert (flags["epochs"], flags["updates"]) == (3, None)
    with pytest.raises(UsageError, match="--epochs 3, not 4"):
        fit(tmp_path / "a", updates=10, resume=True)


def test_resume_of_nothing_starts(tmp_path):
    model, _ = fit(tmp_path / "a", resume=True)
    whole, _ = fit(tmp_path / "whole")
    assert same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


def test_without_resume_it_starts_again(tmp_path):
    fit(tmp_path / "a", seed=5, epochs=4, checkpoint_every=0.0)
    model, _ = fit(tmp_path / "a")
    whole, _ = fit(tmp_path / "whole")
    assert same(outcome(tmp_path / "a", model), outcome(tmp_path / "whole", whole))


# ---- which epoch is kept ---------------------------------------------------------------------------------------------


class Scores:
    """A step whose validation score is given per epoch; it keeps the weights that were validated."""

    def __init__(self, *scores, losses=(1.0, 1.0, 1.0)):
        self.scores, self.losses, self.weights = scores, losses, []

    def __call__(self, model, batch):
        metrics = step(model, batch)
        if model.training:
            return metrics
        self.weights.append({k: v.clone() for k, v in model.state_dict().items()})
        epoch = len(self.weights) - 1
        return {"loss": torch.tensor(self.losses[epoch]), "score": torch.tensor(self.scores[epoch])}


ONE_BATCH = (TRAINING, points(1, 4))


@pytest.mark.parametrize(
    ("scores", "maximise", "best"),
    [
        ((3.0, 1.0, 2.0), False, 2),
        ((3.0, 1.0, 2.0), True, 1),
        ((1.0, 2.0, 3.0), True, 3),
        ((-1.0, -2.0, -3.0), False, 3),
        ((2.0, 2.0, 2.0), False, 1),
        ((2.0, 2.0, 2.0), True, 1),
        ((0.0, 0.0, 0.5), True, 3),
    ],
)
def test_best_epoch(tmp_path, scores, maximise, best):
    recorder = Scores(*scores)
    model, result = fit(tmp_path, recorder, ONE_BATCH, {"monitor": "score", "maximise": maximise})
    assert result[:4] == (scores[best - 1], maximise, best, 3)
    assert same(model.state_dict(), recorder.weights[best - 1]) and not model.training
    saved = checkpoint.load(tmp_path / "best.pt")
    assert saved["epoch"] == best and same(saved["model"]["weights"], recorder.weights[best - 1])
    assert same(checkpoint.load(tmp_path / "last.pt")["model"]["weights"], recorder.weights[2])
    assert checkpoint.rebuild(tmp_path / "best.pt", Net).arguments == {"hidden": 4}


@pytest.mark.parametrize(
    ("losses", "best"), [((0.3, 0.2, 0.1), 3), ((0.3, 0.1, 0.2), 2), ((0.1, 0.2, 0.3), 1), ((0.3, 0.1, 0.1), 2)]
)
def test_of_epochs_with_equal_scores_that_with_the_lowest_loss_is_kept(tmp_path, losses, best):
    """As of accuracies of 100 %: the first epoch with one is hardly trained."""
    _, result = fit(tmp_path, Scores(1.0, 1.0, 1.0, losses=losses), ONE_BATCH, {"monitor": "score", "maximise": True})
    assert result[:3] == (1.0, True, best) and checkpoint.load(tmp_path / "best.pt")["epoch"] == best
    assert checkpoint.load(tmp_path / "last.pt")["best_loss"] == pytest.approx(losses[best - 1])


def test_a_validation_score_that_is_not_finite_stops_the_run_and_keeps_the_best_model(tmp_path):
    recorder = Scores(3.0, math.nan, 2.0)
    with pytest.raises(Diverged, match="validation score is nan after epoch 2"):
        fit(tmp_path, recorder, ONE_BATCH, {"monitor": "score"})
    assert checkpoint.load(tmp_path / "best.pt")["epoch"] == 1


def test_a_checkpoint_of_another_kind_cannot_be_resumed(tmp_path):
    fit(tmp_path, Scores(3.0, 2.0, 1.0), ONE_BATCH, {"monitor": "score"})
    (tmp_path / "last.pt").write_bytes((tmp_path / "best.pt").read_bytes())
    with pytest.raises(CheckpointError, match=r"last\.pt: not of a training"):
        fit(tmp_path, Scores(3.0, 2.0, 1.0), ONE_BATCH, {"monitor": "score"}, resume=True)


@pytest.mark.parametrize("change", [{"flags": 3}, {"model": {"weights": {}}}, {"optimizer": {}}, {"random": None}])
def test_a_forged_state_is_not_resumed(tmp_path, change):
    fit(tmp_path)
    checkpoint.save(tmp_path / "last.pt", {**checkpoint.load(tmp_path / "last.pt"), **change})
    with pytest.raises(CheckpointError, match=r"last\.pt: expected the state of this training, found another"):
        fit(tmp_path, resume=True)


LAST = {"the last epoch": {"keep_last": True, "maximise": True}, "no validation": {}}


@pytest.mark.parametrize("name", LAST)
def test_the_last_epoch_is_kept(tmp_path, name):
    """Without validation data, or whatever their score is; an interrupted training has no best.pt yet."""
    data, arguments = (TRAINING, VALIDATION if LAST[name] else None), LAST[name]
    values = {"data": data, "arguments": arguments, "learning_rate": 0.03}
    model, result = fit(tmp_path / "whole", **values)
    assert (result.best_epoch, result.epochs) == (3, 3)
    if LAST[name]:
        losses = column(tmp_path / "whole", "val_loss")
        assert result.score == losses[-1] < max(losses)
    else:
        assert math.isnan(result.score) and not any(name.startswith("val_") for name in table(tmp_path / "whole")[0])
    whole = outcome(tmp_path / "whole", model)
    assert same(whole["best"]["model"]["weights"], whole["last"]["model"]["weights"])
    assert same(whole["weights"], whole["last"]["model"]["weights"])
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", Signals(2 * BATCHES), **values)
    assert not (tmp_path / "a" / "best.pt").exists()
    again, _ = fit(tmp_path / "a", resume=True, **values)
    assert same(outcome(tmp_path / "a", again), whole)


def test_watched_data_choose_nothing_and_have_columns_of_their_own(tmp_path):
    model, result = fit(tmp_path / "whole", Scores(3.0, 1.0, 2.0), ONE_BATCH, {"monitor": "score"})
    seen = []

    def watching(model, batch):
        metrics = step(model, batch)
        if model.training:
            return metrics
        seen.append(len(batch[0]))  # 4 sequences of validation, then 3 that are watched
        return {**metrics, "score": torch.tensor((3.0, -9.0, 1.0, -9.0, 2.0, -9.0)[len(seen) - 1])}

    arguments = {"monitor": "score", "watched_data": points(5, 3)}
    watched, same_result = fit(tmp_path / "a", watching, ONE_BATCH, arguments)
    assert seen == [4, 3] * 3 and same_result[:4] == result[:4] and result.best_epoch == 2
    assert same(watched.state_dict(), model.state_dict())
    names = ["epoch", "train_loss", "train_absolute", "val_loss", "val_absolute", "val_score"]
    assert list(table(tmp_path / "a")[0]) == [*names, "test_loss", "test_absolute", "test_score", "learning_rate"]
    assert column(tmp_path / "a", "test_score") == [-9.0] * 3 and column(tmp_path / "a", "val_score") == [3.0, 1.0, 2.0]


def test_without_a_folder_no_file_is_written(tmp_path, monkeypatch):
    """What an estimator's `fit` does: the same weights in memory; there is nothing from which to resume."""
    with_files, result = fit(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    model, same_result = fit(None, resume=True, tensorboard=True)
    assert same(model.state_dict(), with_files.state_dict()) and not model.training
    assert same_result[:4] == result[:4] and sorted(tmp_path.rglob("*")) == before


def test_after_epoch_sees_each_row_and_ends_the_training(tmp_path):
    seen = []

    def after_epoch(row):
        seen.append(row)
        return len(seen) == 2

    recorder = Scores(1.0, 2.0, 3.0)
    model, result = fit(tmp_path, recorder, ONE_BATCH, {"monitor": "score", "after_epoch": after_epoch})
    assert result[:4] == (1.0, False, 1, 2) and same(model.state_dict(), recorder.weights[0])
    assert [row["val_score"] for row in seen] == [1.0, 2.0] == column(tmp_path, "val_score")
    recorder, seen[:] = Scores(1.0, 2.0, 3.0), []
    arguments = {"monitor": "score", "after_epoch": after_epoch, "keep_last": True}
    model, result = fit(tmp_path, recorder, ONE_BATCH, arguments)
    assert result[:4] == (2.0, False, 2, 2) and same(model.state_dict(), recorder.weights[1])


# ---- losses that are not finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_loss_that_is_not_finite(tmp_path, value):
    calls = []

    def diverging(model, batch):
        metrics = step(model, batch)
        if model.training:
            calls.append((tmp_path / "best.pt").read_bytes() if (tmp_path / "best.pt").exists() else None)
            if len(calls) == BATCHES + 2:
                metrics["loss"] = metrics["loss"] * value
        return metrics

    with pytest.raises(Diverged, match=rf"loss is {value} at epoch 2, batch 2, learning rate 0\.25$"):
        fit(tmp_path, diverging, learning_rate=0.25, schedule="constant", checkpoint_every=0.0)
    assert len(calls) == BATCHES + 2 and calls[-1] is not None
    assert (tmp_path / "best.pt").read_bytes() == calls[-1]
    assert len(table(tmp_path)) == 1
    for tensor in checkpoint.load(tmp_path / "last.pt")["model"]["weights"].values():
        assert tensor.isfinite().all()


def test_learning_rate_that_is_much_too_high(tmp_path):
    with pytest.raises(Diverged, match="learning rate"):
        fit(tmp_path, optimizer="SGD", learning_rate=1e30, gradient_clipping=0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_validation_that_is_never_finite(tmp_path, value):
    with pytest.raises(Diverged, match=rf"validation score is {value} after epoch 1, learning rate"):
        fit(tmp_path, Scores(value, value, value), ONE_BATCH, {"monitor": "score"})
    assert not (tmp_path / "best.pt").exists()


# ---- numbers by hand -------------------------------------------------------------------------------------------------


def test_history_columns(tmp_path):
    fit(tmp_path)
    names = ["epoch", "train_loss", "train_absolute", "val_loss", "val_absolute", "learning_rate"]
    assert list(table(tmp_path)[0]) == names
    assert [row["epoch"] for row in table(tmp_path)] == ["1", "2", "3"]
    assert tables.read_table(tmp_path / "history.csv")[0]["epoch"] == 1.0


def mean_value(model, batch):
    """The mean of y as the loss; the weights get a gradient of zero."""
    x, y = batch
    return {"loss": y.mean() + 0 * model(x).sum(), "square": y.square().mean()}


def test_epoch_metrics_are_weighted_by_batch_size(tmp_path):
    y = torch.arange(10.0).unsqueeze(1)  # in batches of 4, 4 and 2: mean 4.5, and the batches' plain mean is 5.1667
    data = TensorDataset(torch.zeros(10, 3), y)
    fit(tmp_path, mean_value, (data, data))
    for name, expected in (("train_loss", 4.5), ("val_loss", 4.5), ("train_square", 28.5), ("val_square", 28.5)):
        assert column(tmp_path, name) == pytest.approx([expected] * 3, rel=1e-6), name
    assert loop.evaluate(Net(2), mean_value, data, make_settings()) == pytest.approx({"loss": 4.5, "square": 28.5})


def test_evaluation_mode_and_no_gradients():
    seen = []

    def watch(model, batch):
        seen.append((model.training, torch.is_grad_enabled(), len(batch[0])))
        return step(model, batch)

    model = Net(2).train()
    state = torch.get_rng_state()
    first = loop.evaluate(model, watch, TRAINING, make_settings())
    assert seen == [(False, False, 4), (False, False, 4), (False, False, 2)]
    assert loop.evaluate(model, step, TRAINING, make_settings(batch_size=10)) == pytest.approx(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_modes_while_training(tmp_path):
    seen = []

    def watch(model, batch):
        seen.append((model.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return step(model, batch)

    fit(tmp_path, watch, epochs=2, precision="bfloat16")
    assert seen == 2 * ([(True, True, True)] * BATCHES + [(False, False, False)] * 2)
    assert all(math.isfinite(loss) for loss in column(tmp_path, "train_loss"))


@pytest.mark.parametrize("size", [1, 4, 8, 10])
def test_random_batches(size):
    batches = loop.random_batches(size, 4, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(size))
    assert [len(b) for b in batches] == [4] * (size // 4) + [size % 4] * (size % 4 > 0)


def test_each_epoch_has_its_own_order(tmp_path):
    orders = []

    def watch(model, batch):
        if model.training:
            orders.append(batch[0][:, 0].tolist())
        return step(model, batch)

    fit(tmp_path, watch, epochs=2)
    epochs = [list(itertools.chain(*part)) for part in (orders[:BATCHES], orders[BATCHES:])]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(TRAINING.tensors[0][:, 0].tolist())


def rates(folder, **values):
    """The learning rate of every batch of a training."""
    used = []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            used.append(self.param_groups[0]["lr"])
            return super().step(closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Recorder)
        fit(folder, optimizer="SGD", **values)
    return used


def test_cosine_schedule_by_hand(tmp_path):
    # 9 steps, no warm-up: 0.5 * (1 + cos(pi * n / 9))
    expected = [1.0, 0.969846, 0.883022, 0.75, 0.586824, 0.413176, 0.25, 0.116978, 0.030154]
    assert rates(tmp_path, learning_rate=1.0) == pytest.approx(expected, abs=1e-6)
    assert column(tmp_path, "learning_rate") == pytest.approx([0.883022, 0.413176, 0.030154], abs=1e-6)
    # 60 steps, 3 of them warm-up: (n + 1) / 3 of 0.5 * (1 + cos(pi * n / 60)), times 0.1
    used = rates(tmp_path, learning_rate=0.1, epochs=20)
    assert len(used) == 60
    expected = [0.0333333, 0.0666210, 0.0997261, 0.0993844]
    assert used[:4] == pytest.approx(expected, abs=1e-6) and used[30] == pytest.approx(0.05)


def test_constant_schedule(tmp_path):
    assert rates(tmp_path, learning_rate=0.3, schedule="constant") == [0.3] * 9


def moved(folder, **values):
    """The length of the way that the weights go in one step of SGD with learning rate 1."""
    settings = make_settings(optimizer="SGD", learning_rate=1.0, schedule="constant", epochs=1, batch_size=10, **values)
    model = Net(4)
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()

    def steep(model, batch):
        return {"loss": 100 * step(model, batch)["loss"]}

    loop.train(model, steep, TRAINING, VALIDATION, settings, folder)
    return (nn.utils.parameters_to_vector(model.parameters()) - start).norm().item()


def test_gradient_clipping_bounds_the_step(tmp_path):
    assert moved(tmp_path, gradient_clipping=0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(tmp_path, gradient_clipping=1.0) == pytest.approx(1.0, rel=1e-3)
    assert moved(tmp_path, gradient_clipping=0.0) > 10


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_makes_a_step(tmp_path, optimizer):
    prepare_process(make_settings())
    start = Net(4).state_dict()
    model, _ = fit(tmp_path, optimizer=optimizer, epochs=1)
    assert type(getattr(torch.optim, optimizer)) is type
    for name, value in model.state_dict().items():
        assert value.isfinite().all() and not torch.equal(value, start[name])


def test_loss_falls(tmp_path):
    fit(tmp_path, epochs=40, learning_rate=0.02)
    losses = column(tmp_path, "val_loss")
    assert losses[-1] < losses[0] / 2


def test_tensorboard_writes_its_file(tmp_path):
    pytest.importorskip("tensorboard")
    fit(tmp_path, tensorboard=True)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"val_loss" in events.read_bytes()


def test_quiet_and_plain_output(tmp_path, capsys):
    fit(tmp_path)
    assert capsys.readouterr() == ("", "")
    fit(tmp_path, quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch 1/3  train_loss ") and lines[0].endswith(" left")


def test_only_the_first_run_of_a_process_freezes_what_was_imported():
    """Later ones would keep the garbage of those before them for ever."""
    prepare_process(make_settings())
    frozen = gc.get_freeze_count()
    later = [[] for _ in range(1000)]
    prepare_process(make_settings())
    assert 0 < gc.get_freeze_count() <= frozen and len(later) == 1000


def test_tensors_are_moved_to_a_device_once():
    """ "meta" stands for a device that is not here."""
    data, other = TensorDataset(torch.zeros(4, 2), torch.arange(4)), [torch.zeros(2)]
    moved = loop.resident(data, "meta")
    assert [part.device.type for part in moved.tensors] == ["meta", "meta"] and len(moved) == 4
    assert loop.resident(data, "cpu") is data and loop.resident(other, "meta") is other
    assert loop.resident(None, "meta") is None
