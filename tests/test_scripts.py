"""What all scripts promise: help, files, reloading, resuming, one line for bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lstm_ae_mnist
import lstm_ae_snp500
import lstm_ae_toy

ROOT = Path(__file__).parent.parent
SCRIPTS = {"lstm_ae_toy": lstm_ae_toy, "lstm_ae_mnist": lstm_ae_mnist, "lstm_ae_snp500": lstm_ae_snp500}
SAMPLE = ["--source", "sample", "--quiet"]
QUICK = {  # flags that bring each training function down to seconds
    ("lstm_ae_toy", "reconstruct"): ["--limit", "64", "--epochs", "2", "--hidden_size", "8"],
    ("lstm_ae_mnist", "reconstruct"): "--limit 64 --epochs 1 --hidden_size 8".split(),
    ("lstm_ae_mnist", "classify"): "--limit 64 --epochs 1 --hidden_size 8".split(),
    ("lstm_ae_snp500", "reconstruct"): ["--limit", "64", "--epochs", "2", "--hidden_size", "8"],
    ("lstm_ae_snp500", "predict"): ["--limit", "64", "--epochs", "2", "--hidden_size", "8", "--window", "10"],
}
FIGURES = {
    ("lstm_ae_toy", "plot_examples"): {"examples.png"},
    ("lstm_ae_toy", "reconstruct"): {"reconstructions.png", "loss.png"},
    ("lstm_ae_mnist", "reconstruct"): {"digits.png", "loss.png"},
    ("lstm_ae_mnist", "classify"): {"digits.png", "loss.png", "errors.png", "confusion.png"},
    ("lstm_ae_snp500", "plot_prices"): {"prices.png"},
    ("lstm_ae_snp500", "reconstruct"): {"stocks.png", "loss.png"},
    ("lstm_ae_snp500", "predict"): {
        *("mse_loss.png", "prediction_loss.png", "losses.png"),
        *("predictions.png", "companies.png", "tomorrow.csv"),
    },
}
RUN_FILES = {"config.json", "metrics.json"}
TRAINING_FILES = {"history.csv", "last.pt", "best.pt"}


def run(script: str, function: str, output_dir: Path, *flags: str) -> dict:
    quick = QUICK.get((script, function), [])
    source = ["--quiet"] if script == "lstm_ae_toy" else SAMPLE
    return SCRIPTS[script].main(["--function", function, "--output_dir", str(output_dir), *source, *quick, *flags])


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_function(script):
    command = [sys.executable, ROOT / f"{script}.py", "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0
    shown = " ".join(answer.stdout.split())
    for name, text in SCRIPTS[script].SCRIPT.functions.items():
        assert f"{name} {text}" in shown
    for name in SCRIPTS[script].SCRIPT.presets:
        assert f"  {name} " in answer.stdout
    for group in ("what to run", "model", "training", "data", "run"):
        assert f"\n{group}:" in answer.stdout


@pytest.mark.parametrize(("script", "function"), FIGURES)
def test_function_leaves_its_files_and_returns_its_metrics(script, function, tmp_path):
    flags = ["--model", "fc"] if script == "lstm_ae_mnist" else []
    metrics = run(script, function, tmp_path, *flags)
    folder = tmp_path / function
    expected = RUN_FILES | FIGURES[script, function]
    if (script, function) in QUICK:
        expected |= TRAINING_FILES
    assert files(folder) - {"last.previous.pt"} == expected
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    config = json.loads((folder / "config.json").read_text())
    assert config["function"] == function and config["threads"] == 1
    assert config["versions"]["torch"] == torch.__version__
    if (script, function) in QUICK:
        assert {"data", "seed", "epochs", "seconds", "parameters", "test_mse", "val_mse"} <= metrics.keys()
        with open(folder / "history.csv") as file:
            assert len(list(csv.DictReader(file))) == metrics["epochs"]


def test_both_models_of_mnist_have_folders_and_metrics_of_their_own(tmp_path):
    metrics = run("lstm_ae_mnist", "classify", tmp_path, "--model", "both", "--channels", "2")
    assert set(metrics) == {"fc", "conv"}
    folder = tmp_path / "classify"
    assert files(folder) == RUN_FILES | {"history.csv"} | FIGURES["lstm_ae_mnist", "classify"]
    assert all(files(folder / name) - {"last.previous.pt"} == TRAINING_FILES for name in metrics)
    with open(folder / "history.csv") as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["fc", "conv"]
    for values in metrics.values():
        assert {"test_accuracy", "majority_accuracy", "pca_mse", "mean_mse"} <= values.keys()
        assert values["data"] == "sample"


def test_without_function_the_whole_study_runs(tmp_path):
    argv = ["--output_dir", str(tmp_path), "--quiet", *QUICK["lstm_ae_toy", "reconstruct"]]
    assert set(lstm_ae_toy.main(argv)) == {"plot_examples", "reconstruct"}
    assert (tmp_path / "plot_examples" / "examples.png").exists()


@pytest.mark.parametrize(("script", "function"), QUICK)
def test_dry_run_gives_the_test_metrics_of_the_trained_model_again(script, function, tmp_path):
    flags = ["--model", "fc"] if script == "lstm_ae_mnist" else []
    first = run(script, function, tmp_path, *flags)
    before = (tmp_path / function / "best.pt").read_bytes()
    again = run(script, function, tmp_path, *flags, "--dry_run")
    assert again["test_mse"] == first["test_mse"] and again["val_mse"] == first["val_mse"]
    assert (tmp_path / function / "best.pt").read_bytes() == before


def test_the_same_command_twice_gives_the_same_history_and_test_error(tmp_path):
    flags = ["--model", "conv", "--channels", "2"]
    first = run("lstm_ae_mnist", "reconstruct", tmp_path / "a", *flags)
    again = run("lstm_ae_mnist", "reconstruct", tmp_path / "b", *flags)
    histories = [(tmp_path / name / "reconstruct" / "history.csv").read_bytes() for name in "ab"]
    assert histories[0] == histories[1] and first["test_mse"] == again["test_mse"]


def test_a_grid_leaves_its_table_and_its_heat_map(tmp_path):
    run("lstm_ae_toy", "reconstruct", tmp_path, "--hidden_size", "4", "8", "--learning_rate", "0.01", "0.001")
    folder = tmp_path / "reconstruct"
    assert {"grid.csv", "grid.png"} <= files(folder)
    with open(folder / "grid.csv") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert len(scores) == 4 and scores == sorted(scores)


def test_seeds_give_mean_and_standard_deviation(tmp_path):
    metrics = run("lstm_ae_toy", "reconstruct", tmp_path, "--seeds", "2")
    assert metrics["seeds"] == 2
    assert metrics["test_mse_std"] > 0 and metrics["test_mse_mean"] != metrics["test_mse"]
    assert metrics["pca_mse_std"] == 0  # the data are the same for all seeds


BAD = [
    ("lstm_ae_toy", ["--function", "reconstrct"], ["--function", "reconstrct"]),
    ("lstm_ae_toy", ["--hidden_size", "-3"], ["--hidden_size", "-3"]),
    ("lstm_ae_toy", ["--hidden_size", "0"], ["--hidden_size", "'0'"]),
    ("lstm_ae_toy", ["--learning_rate", "fast"], ["--learning_rate", "fast"]),
    ("lstm_ae_toy", ["--learning_rate", "nan"], ["--learning_rate", "nan"]),
    ("lstm_ae_toy", ["--input_size", "7"], ["--input_size", "7", "50"]),
    ("lstm_ae_toy", ["--signal", "noise"], ["--signal", "noise"]),
    ("lstm_ae_toy", ["--epochs", "1.5"], ["--epochs", "1.5"]),
    ("lstm_ae_toy", ["--no_such_flag"], ["--no_such_flag"]),
    ("lstm_ae_toy", ["--function", "reconstruct", "--dry_run"], ["--dry_run", "best.pt"]),
    ("lstm_ae_mnist", ["--sequence", "columns"], ["--sequence", "pixels"]),
    ("lstm_ae_mnist", ["--sequence", "rows", "--input_size", "7"], ["--input_size", "rows"]),
    ("lstm_ae_mnist", ["--input_size", "5"], ["--input_size", "784", "5"]),
    ("lstm_ae_mnist", ["--kernel_size", "4"], ["--kernel_size", "4"]),
    ("lstm_ae_mnist", ["--model", "conv", "--num_layers", "2"], ["--num_layers"]),
    ("lstm_ae_mnist", ["--reconstruction_dominance", "1.5"], ["--reconstruction_dominance", "1.5"]),
    ("lstm_ae_mnist", ["--classification", "--function", "reconstruct"], ["--classification"]),
    ("lstm_ae_mnist", ["--source", "full", "--data_dir", "/no/such/folder"], ["/no/such/folder"]),
    ("lstm_ae_snp500", ["--source", "full", "--data_dir", "/no/such/folder"], ["/no/such/folder"]),
    ("lstm_ae_snp500", ["--folds", "2"], ["--folds", "2"]),
    ("lstm_ae_snp500", ["--window", "50", "--input_size", "7"], ["--input_size", "--window", "7"]),
    ("lstm_ae_snp500", ["--source", "sample", "--symbols", "AMZ"], ["AMZ", "AMZN"]),
    ("lstm_ae_snp500", "--source sample --function predict --window 5000".split(), ["--window", "1619", "5001"]),
]


@pytest.mark.parametrize(("script", "flags", "named"), BAD)
def test_bad_input_gives_one_line_that_names_it_and_status_2(script, flags, named, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        SCRIPTS[script].main(["--output_dir", str(tmp_path), "--quiet", *flags])
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message.count("\n") == 1 and message.endswith("\n") and "Traceback" not in message
    assert all(text in message for text in named), message


def test_corrupt_data_give_one_line_that_names_the_file(tmp_path, capsys):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(SystemExit) as stopped:
        lstm_ae_mnist.main(["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "o"), "--quiet"])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and str(folder) in message


def test_divergence_ends_with_status_1_and_says_where(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(
            "lstm_ae_toy",
            "reconstruct",
            tmp_path,
            "--learning_rate",
            "1e38",
            "--gradient_clipping",
            "0",
            "--optimizer",
            "SGD",
            "--batch_size",
            "16",
            "--weight_decay",
            "1e38",
            "--schedule",
            "constant",
        )
    message = capsys.readouterr().err
    assert stopped.value.code == 1 and message.count("\n") == 1
    assert "epoch 1" in message and "batch" in message and "learning rate 1e+38" in message
