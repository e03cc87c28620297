"""lstm_ae_toy.py: order of time, augmentation, files of one's own, anomalies, refusals."""

import numpy as np
import pytest
import torch
from conftest import one_line
from tiny_training import rows

import lstm_ae_snp500 as snp500
import lstm_ae_toy as toy
from config.lstm_ae_toy import Reconstruct
from lstm_studies.loaders.augmentation import extended
from lstm_studies.loaders.toy import read_sequences, scale_sequences, toy_signals
from lstm_studies.models.lstm_ae import LSTMAutoencoder
from lstm_studies.training import checkpoint


def test_as_steps_keeps_the_order_of_time():
    x = torch.arange(6.0).view(1, 6)
    assert toy.as_steps(x, 2).tolist() == [[[0, 1], [2, 3], [4, 5]]]


def toy_settings(**changes) -> Reconstruct:
    return Reconstruct(**{"signal": "waves", "device": "cpu", **changes})


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
    """The metrics of the trained model."""
    tiny = ["--epochs", "1", "--limit", "64", "--hidden_size", "4"] if "reconstruct" in argv else []
    return next(iter(toy.main(["--function", *argv, *tiny, "--output_dir", str(tmp_path), "--quiet"]).values()))


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
    codes = rows(tmp_path / "encode" / "codes.csv")
    assert list(codes[0]) == ["sequence", "z1", "z2", "z3"] and [row["sequence"] for row in codes][::6] == [
        "row 1",
        "row 7",
    ]
    model = checkpoint.rebuild(tmp_path / "reconstruct" / "best.pt", LSTMAutoencoder)
    with torch.no_grad():
        expected = model.encode(toy.as_steps(scale_sequences(read_sequences(new))[0], 4))
    np.testing.assert_allclose([[float(row[f"z{k}"]) for k in (1, 2, 3)] for row in codes], expected, rtol=1e-5)
    metrics = run_toy(tmp_path, "anomalies", "--data", str(new))
    ranking = rows(tmp_path / "anomalies" / "anomalies.csv")
    errors = [float(row["error"]) for row in ranking]
    assert sorted(errors, reverse=True) == errors and len(ranking) == metrics["sequences"] == 7
    anomalous = sum(int(row["anomalous"]) for row in ranking)
    assert anomalous == metrics["anomalous"] == sum(error > metrics["threshold"] for error in errors)
    assert (tmp_path / "anomalies" / "worst.png").exists()


def test_toy_finds_planted_spikes_in_what_it_has_learnt(tmp_path):
    """Slow sines of one frequency: whatever hardly trains knows that they are smooth."""
    phases = np.random.default_rng(0).uniform(0, 6, (300, 1))
    np.savetxt(tmp_path / "sines.csv", np.sin(phases + np.arange(20) / 3), delimiter=",")
    flags = "--input_size 5 --code_size 2 --epochs 60 --batch_size 16 --lr .01".split()
    flags += ["--data", str(tmp_path / "sines.csv")]
    toy.main(["--function", "reconstruct", *flags, "--hidden_size", "16", "--output_dir", str(tmp_path), "--quiet"])
    metrics = run_toy(tmp_path, "anomalies")
    assert metrics["auc_spike"] > 0.95 and metrics["pca_auc_spike"] > 0.95


@pytest.mark.parametrize(
    "argv, expected",
    [
        (("reconstruct", "--data", "{rows}", "--signal", "walk"), "--signal: used with generated sequences only"),
        (("reconstruct", "--data", "{rows}", "--fresh"), "--fresh: used with generated sequences only"),
        (("reconstruct", "--data", "{rows}", "--input_size", "5"), "--input_size: expected a divisor of 12"),
        (("reconstruct", "--data", "{nothing}"), "found no such file"),
        (
            ("reconstruct", "--extension", "5", "--signal", "walk"),
            "--extension: used with --filtering or --stretch only",
        ),
        (
            ("reconstruct", "--fresh", "--filtering", ".1", "--extension", "5"),
            "--extension: used with a fixed training",
        ),
        (("encode",), "run --function reconstruct first"),
        (("anomalies", "--model_from", "{nothing}"), "expected a trained model"),
        (("encode", "--epochs", "3"), "--epochs: not used by encode"),
        (("encode", "--quantile", ".9"), "--quantile: not used by encode"),
    ],
)
def test_toy_refuses_in_one_line(tmp_path, capsys, argv, expected):
    names = {"rows": write_rows(tmp_path / "rows.csv", 10), "nothing": tmp_path / "nothing"}
    with pytest.raises(SystemExit) as caught:
        toy.main(["--function", *(a.format(**names) for a in argv), "--output_dir", str(tmp_path), "--quiet"])
    assert caught.value.code == 2 and expected in one_line(capsys)


def test_a_file_of_other_lengths_or_a_model_of_another_script_is_refused(tmp_path, capsys):
    run_toy(tmp_path, "reconstruct")
    short = write_rows(tmp_path / "short.csv", 10)
    for function, flags, expected in (
        (toy.main, ["encode", "--data", str(short)], "expected sequences of 50 values, as in training, found 12"),
        (snp500.main, ["encode"], "expected a model that lstm_ae_snp500.py trained"),
    ):
        with pytest.raises(SystemExit) as caught:
            function(["--function", *flags, "--output_dir", str(tmp_path), "--quiet"])
        assert caught.value.code == 2 and expected in capsys.readouterr().err


def test_a_model_and_the_settings_and_the_data_beside_it_fit_one_another(tmp_path, capsys):
    mine, flags = write_rows(tmp_path / "mine.csv", 20), ["--output_dir", str(tmp_path), "--quiet"]
    run_toy(tmp_path, "reconstruct", "--data", str(mine), "--input_size", "4")
    write_rows(mine, 20, length=14)
    with pytest.raises(SystemExit):
        toy.main(["--function", "encode", *flags])
    assert "expected sequences of a multiple of 4 values, found 14" in one_line(capsys)
    content = checkpoint.load(last := tmp_path / "reconstruct" / "last.pt")
    content["flags"]["input_size"] = 7
    checkpoint.save(last, content)
    with pytest.raises(SystemExit):
        toy.main(["--function", "encode", *flags])
    assert "its model takes [4] values a step, the settings in last.pt say [7]" in one_line(capsys)


@pytest.mark.parametrize("signal, error, warned", [("waves", 0.0051, True), ("waves", 0.0049, False)])
@pytest.mark.parametrize("uniform", [False, True])
def test_warning_of_a_model_that_returns_the_mean(signal, error, warned, uniform):
    if uniform:  # noise has no better code: twice as good as the mean is good
        signal, error = "uniform", error * 9.6
    metrics = {"signal": signal, "test_mse": error, "mean_mse": 0.05, "against": {}}
    assert ("WARNING: code16" in toy.notice_of("code16", metrics, {})) == warned


@pytest.mark.parametrize("low, worse", [(0.0001, True), (-0.0001, False)])
def test_notice_of_an_opponent_that_is_ahead(low, worse):
    against = {"pca16": {"test_mse": {"difference": 0.002, "low": low, "high": 0.004}}}
    metrics = {"signal": "waves", "test_mse": 0.004, "mean_mse": 0.05, "against": against}
    notice = toy.notice_of("code16", metrics, {"pca16": {"test_mse": 0.002}})
    assert notice == ("NOTICE: code16: its test error, 0.004, is above that of pca16 (0.002)" if worse else "")


def test_opponents_are_models_beside_ours(tmp_path):
    argv = "--epochs 1 --limit 64 --hidden_size 4 --batch_size 32 --seeds 2 --code_size 2 3 --mlp --quiet".split()
    metrics = toy.main(["--function", "reconstruct", *argv, "--output_dir", str(tmp_path)])
    assert list(metrics) == ["code2", "code3", "pca2", "pca3", "matrix_pencil", "mlp2", "mlp3"]
    assert metrics["matrix_pencil"]["test_mse"] < 1e-12
    for size in (2, 3):
        ours = metrics[f"code{size}"]
        assert ours["seeds"] == 2 and metrics[f"pca{size}"]["test_mse"] == pytest.approx(ours["pca_mse"])
        assert list(ours["against"]) == [f"pca{size}", "matrix_pencil", f"mlp{size}"]
        for other, difference in ours["against"].items():
            values, means = difference["test_mse"], ours["test_mse_mean"] - metrics[other]["test_mse"]
            assert values["low"] < values["difference"] < values["high"]
            assert values["difference"] == pytest.approx(means, rel=1e-4)
