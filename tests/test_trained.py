"""Models that an earlier run trained: found by folder or file, with the settings of their training."""

import dataclasses

import pytest
import torch
from conftest import one_line
from tiny_training import SCRIPT, Fit, Net, Signals, fit, same, weights

from lstm_studies.training import checkpoint, tables, trained
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.settings import Application
from lstm_studies.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("no_flush")
APPLYING = dataclasses.replace(SCRIPT, functions={"fit": Fit, "apply": Application}, module="")


def model(output_dir, **given):
    return trained.trained_model(APPLYING.request("apply", output_dir=output_dir, device="cpu", **given), "fit", Net)


def test_the_model_of_the_output_folder_or_of_another_one(tmp_path, capsys):
    fit(tmp_path / "fit", hidden_size=5, seed=3, data_dir=tmp_path / "gone")
    fit(tmp_path / "other", hidden_size=2)
    trained_net, settings, folder = model(tmp_path)
    assert same(trained_net.state_dict(), weights(tmp_path / "fit" / "best.pt")) and not trained_net.training
    assert (settings.hidden_size, settings.seed, settings.epochs, settings.fold) == (5, 3, 3, None)
    assert (folder, settings.output_dir, settings.function) == (tmp_path / "fit", tmp_path, "fit")
    assert settings.data_dir == Fit().data_dir  # where data are is no part of the training
    other, settings, folder = model(tmp_path, model_from=tmp_path / "other")
    assert (other.arguments, settings.hidden_size, folder) == ({"hidden": 2}, 2, tmp_path / "other")
    assert capsys.readouterr() == ("", "")


def test_a_checkpoint_is_the_model_that_is_in_it(tmp_path):
    fit(tmp_path / "fit", learning_rate=0.5, arguments={"maximise": True})
    for name in ("best.pt", "last.pt"):
        trained_net, _, folder = model(tmp_path / "none", model_from=tmp_path / "fit" / name)
        assert same(trained_net.state_dict(), weights(tmp_path / "fit" / name)) and folder == tmp_path / "fit"
    assert not same(weights(tmp_path / "fit" / "best.pt"), weights(tmp_path / "fit" / "last.pt"))


def test_a_training_that_has_not_ended_is_named(tmp_path, capsys):
    with pytest.raises(Interrupted):
        fit(tmp_path / "fit", Signals(6))
    model(tmp_path)
    assert capsys.readouterr().err == f"NOTICE: {tmp_path / 'fit'}: this training has not ended: epoch 1 of 3\n"
    fit(tmp_path / "fit", arguments={"after_epoch": lambda row: row["epoch"] == 2})  # which is its end
    model(tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["cut short", "removed"])
def test_a_damaged_state_beside_a_whole_model(tmp_path, capsys, damage):
    """The model is applied, with its settings, and what cannot go on says so."""
    fit(tmp_path / "fit", hidden_size=5)
    last, best = (tmp_path / "fit" / name for name in ("last.pt", "best.pt"))
    whole = last.read_bytes()
    last.write_bytes(whole[:100]) if damage == "cut short" else last.unlink()
    trained_net, settings, _ = model(tmp_path)
    assert same(trained_net.state_dict(), weights(best)) and settings.hidden_size == 5
    line = one_line(capsys)
    assert line.startswith(f"NOTICE: {last}: ") and f"{best} is applied, and whether its training has ended" in line
    if damage == "cut short":
        with pytest.raises(CheckpointError, match="without --resume one trains anew"):
            fit(tmp_path / "fit", hidden_size=5, resume=True)
    checkpoint.save(best, {"model": checkpoint.load(best)["model"]})  # as version 1.0 wrote it
    with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint|expected a trained model"):
        model(tmp_path)
    best.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"best\.pt: not a checkpoint"):
        model(tmp_path)


def test_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a trained model .*run --function fit first, .*--model_from"):
        model(tmp_path)
    for name in ("wide", "narrow"):
        fit(tmp_path / "fit" / name)
    with pytest.raises(CheckpointError, match=r"found several: give the folder of one \(narrow, wide\)"):
        model(tmp_path)
    with pytest.raises(CheckpointError, match=r"expected a trained model"):
        model(tmp_path, model_from=tmp_path / "fit" / "wide" / "none.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": {"lstm_sizes": [3]}}, "expected a model that tiny_training.py trained, found another one"),
        ({"flags": None}, "expected a model that tiny_training.py trained"),
        ({"flags": {"hidden_size": 0}}, "expected the settings of a training"),
        ({"flags": {"hidden_size": [3, 4]}}, "expected the settings of a training"),
        ({"flags": {"fold": "x"}}, "expected the settings of a training, found another fold, 'x'"),
        ({"flags": {"source": "moon"}}, "expected the settings of a training, found .*expected one of auto"),
        ({"epoch": None}, "not of a training: it has no epoch"),
        ({"epoch": "x"}, "not of a training: it has no epoch"),
    ],
)
def test_a_checkpoint_of_another_kind(tmp_path, change, message):
    fit(tmp_path / "fit")
    last = tmp_path / "fit" / "last.pt"
    content = checkpoint.load(last)
    for name, value in change.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    checkpoint.save(last, content)
    with pytest.raises(CheckpointError, match=message):
        model(tmp_path)


def test_settings_of_version_1_that_are_gone_are_no_other_script(tmp_path):
    fit(tmp_path / "fit")
    content = checkpoint.load(tmp_path / "fit" / "last.pt")
    content["flags"] |= {"patience": 3, "weight_average": 0.9}
    checkpoint.save(tmp_path / "fit" / "last.pt", content)
    assert model(tmp_path)[1].hidden_size == 4


def test_batches_and_codes(tmp_path):
    x = torch.arange(7.0).unsqueeze(1)
    sizes = []

    def double(rows):
        sizes.append(len(rows))
        return torch.cat([rows, 2 * rows], 1)

    codes = trained.in_batches(double, x, "cpu", size=3)
    assert sizes == [3, 3, 1] and torch.equal(codes, torch.cat([x, 2 * x], 1))
    trained.write_codes(tmp_path / "codes.csv", [f"row {k}" for k in range(7)], codes)
    assert tables.read_table(tmp_path / "codes.csv")[3] == {"z1": 3.0, "z2": 6.0}
    assert (tmp_path / "codes.csv").read_text().splitlines()[:2] == ["sequence,z1,z2", "row 0,0.0,0.0"]
