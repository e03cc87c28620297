"""What all scripts promise: help, files, one shape of the metrics, reloading, one line for bad input."""

import gzip
import json
import subprocess
import sys

import pytest
import torch
from conftest import one_line
from tiny_training import rows, without_seconds
from trainings import ALL, ONE, ROOT, SCRIPTS, run, script

from lstm_studies.training import flags

FIGURES = {  # of functions that train, and of others: what they leave beside the files of every run
    "toy": {"reconstructions.png", "loss.png"},
    "digits fc": {"digits.png", "loss.png"},
    "digits both": {"digits.png", "loss.png", "accuracy.png", "confusion.png"},
    "stocks": {"stocks.png", "loss.png"},
    "stocks predict": {"losses.png", "predictions.png", "companies.png", "tomorrow.csv"},
}
TRAINED = ("toy", "digits fc", "stocks", "stocks predict", "vowels basic", "movement", "messages")
FILES = {"config.json", "metrics.json", "history.csv", "last.pt", "best.pt"}


def files(folder):
    names = {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
    return names - {"last.previous.pt"}


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_functions_and_presets(name):
    command = [sys.executable, f"{name}.py", "--help"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    shown = " ".join(answer.stdout.split())
    for function, settings in script(name).SCRIPT.functions.items():
        assert f"{function} {' '.join(settings.__doc__.split())}" in shown
    for preset in script(name).SCRIPT.presets:
        assert f"  {preset} " in answer.stdout


@pytest.mark.parametrize(("name", "function"), [(n, f) for n in SCRIPTS for f in script(n).SCRIPT.functions])
def test_help_of_a_function_names_its_flags_in_60_lines(name, function, capsys):
    declared = script(name).SCRIPT
    with pytest.raises(SystemExit, match="0"):
        flags.parse(declared, ["--function", function, "--help"])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 60
    for flag, its in flags.flags_of(declared.functions[function]).items():
        assert f"--{flag} " in shown or f"--no_{flag} " in shown, flag
        assert all(str(choice) in shown for choice in its.kind.choices or ()), flag


@pytest.mark.parametrize("name", SCRIPTS)
def test_settings_and_functions_of_a_script_are_the_same_ones(name):
    """And each preset has settings for each of them."""
    module = script(name)
    assert list(module.FUNCTIONS) == list(module.SCRIPT.functions) and set(module.SCRIPT.whole_study) <= {
        *module.FUNCTIONS
    }
    for function in module.FUNCTIONS:
        for preset in module.SCRIPT.presets:
            assert module.SCRIPT.request(function, preset).function == function


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_without_its_packages_says_so_in_one_line(name):
    """-S leaves out the packages of the environment; --help needs none of them."""
    command = [sys.executable, "-S", f"{name}.py"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1), answer.stderr
    assert f"{name}.py: error: expected the packages of requirements.txt, found no torch, numpy" in answer.stderr
    assert "source .venv/bin/activate" in answer.stderr
    assert subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, timeout=60).returncode == 0


# ---- files and metrics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ONE if name in TRAINED or name in FIGURES])
def test_a_training_leaves_its_files_and_a_dry_run_gives_its_metrics_again(name, tmp_path):
    metrics = run(name, tmp_path)
    script_name, function, *_ = ALL[name]
    folder = tmp_path / function
    trained = {model: values for model, values in metrics.items() if "epochs" in values}  # the others are opponents
    if name in FIGURES:
        one_model = FILES if len(trained) == 1 else FILES - {"last.pt", "best.pt"}
        assert files(folder) == one_model | FIGURES[name]
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    config = json.loads((folder / "config.json").read_text())
    assert config["function"] == function and config["threads"] == 1
    assert config["versions"]["torch"] == torch.__version__
    table = rows(folder / "history.csv")
    prefixes = {column.partition("_")[0] for column in table[0]} - {"model", "epoch", "learning"}
    assert {"train"} < prefixes <= {"train", "val", "test"}
    assert trained and all(values["data"] in ("generated", "sample", "full") for values in trained.values())
    for model, values in trained.items():
        assert {"epochs", "best_epoch", "seconds", "parameters", "seeds"} <= values.keys()
        if len(trained) > 1:
            assert files(folder / model) == FILES - {"config.json", "metrics.json"}
            assert len([row for row in table if row["model"] == model]) == values["epochs"]
    again = run([script_name, function, "--quiet"], tmp_path, "--dry_run")
    assert without_seconds(again) == without_seconds(metrics)


def test_the_same_command_twice_gives_the_same_history_and_test_error(tmp_path, run):
    first, again = (run("toy fresh", tmp_path / name) for name in "ab")
    histories = [(tmp_path / name / "reconstruct" / "history.csv").read_bytes() for name in "ab"]
    assert histories[0] == histories[1] and without_seconds(first) == without_seconds(again)


def test_without_function_the_whole_study_runs(tmp_path, run):
    name, _, *usual = ALL["toy"]
    metrics = script(name).main([*usual, "--output_dir", str(tmp_path)])
    assert set(metrics) == {"plot_examples", "reconstruct"}
    assert set(metrics["plot_examples"]) == {"sequences"} and set(metrics["reconstruct"]) == {
        *("code4", "pca4", "matrix_pencil")
    }


def test_a_grid_leaves_its_table_and_its_heat_map(tmp_path):
    metrics = run("toy grid", tmp_path)["code4"]
    folder = tmp_path / "reconstruct"
    assert {"grid.csv", "grid.png"} <= files(folder)
    scores = [float(row["score"]) for row in rows(folder / "grid.csv")]
    assert len(scores) == 2 and scores == sorted(scores) and metrics["seeds"] == 2
    assert metrics["test_mse_std"] > 0 and metrics["test_mse_mean"] != metrics["test_mse"]
    assert metrics["pca_mse_std"] == 0  # the data are the same for all seeds


# ---- bad input -------------------------------------------------------------------------------------------------------

NOWHERE = "--source full --data_dir /no/such/folder"
BAD = [
    ("lstm_ae_toy", "--function reconstrct", ["--function", "reconstrct"]),
    ("lstm_ae_toy", "--hidden_size -3", ["--hidden_size", "-3"]),
    ("lstm_ae_toy", "--learning_rate fast", ["--learning_rate", "fast"]),
    ("lstm_ae_toy", "--input_size 7", ["--input_size", "7", "50"]),
    ("lstm_ae_toy", "--signal noise", ["--signal", "noise"]),
    ("lstm_ae_toy", "--no_such_flag", ["--no_such_flag"]),
    ("lstm_ae_toy", "--function reconstruct --model conv", ["--model", "lstm_ae_toy.py has no such flag"]),
    ("lstm_ae_toy", "--function reconstruct --dry_run", ["--dry_run", "config.json"]),
    ("lstm_ae_toy", "--function reconstruct --signal waves --data x.csv", ["--signal", "generated"]),
    ("lstm_ae_toy", "--function encode", ["reconstruct", "--model_from"]),
    ("lstm_ae_mnist", "--sequence columns", ["--sequence", "pixels"]),
    ("lstm_ae_mnist", "--sequence rows --input_size 7", ["--input_size", "rows"]),
    ("lstm_ae_mnist", "--input_size 5", ["--input_size", "784", "5"]),
    ("lstm_ae_mnist", "--kernel_size 4", ["--kernel_size", "4"]),
    ("lstm_ae_mnist", "--model conv --num_layers 2", ["--num_layers"]),
    ("lstm_ae_mnist", "--model both --num_layers 2", ["--num_layers"]),
    ("lstm_ae_mnist", "--function classify --reconstruction_dominance 1.5", ["--reconstruction_dominance", "1.5"]),
    ("lstm_ae_mnist", "--function reconstruct --reconstruction_dominance .2 .8", ["not used by reconstruct"]),
    ("lstm_ae_mnist", "--classification --function reconstruct", ["--classification"]),
    ("lstm_ae_mnist", NOWHERE, ["/no/such/folder"]),
    ("lstm_ae_snp500", NOWHERE, ["/no/such/folder"]),
    ("lstm_ae_snp500", "--folds 2", ["--folds", "2"]),
    ("lstm_ae_snp500", "--function predict --mirror", ["--mirror", "not used by predict", "reconstruct"]),
    ("lstm_ae_snp500", "--window 50 --input_size 7", ["--input_size", "--window", "7"]),
    ("lstm_ae_snp500", "--source sample --symbols AMZ", ["AMZ", "AMZN"]),
    ("lstm_ae_snp500", "--source sample --function predict --window 5000", ["--window", "1619", "5001"]),
    ("jv_training", "--num_layers 3", ["--num_layers"]),
    ("jv_training", "--function dropout --epsilon 1", ["--epsilon", "not used by dropout", "adversarial"]),
    ("jv_training", "--function basic --basic_epochs 3", ["--basic_epochs", "not used by basic", "adversarial"]),
    ("jv_training", "--function proximal --attack_steps 3", ["--attack_steps", "not used by proximal", "adversarial"]),
    ("jv_training", "--function predict --test X", ["--test: not used by predict", "data are given by --data"]),
    ("stocktwits_sentiment", "--function train --no_linear --part_loss 1", ["--part_loss: used with --linear only"]),
]


@pytest.mark.parametrize(("name", "text", "named"), BAD)
def test_bad_input_gives_one_line_that_names_it_and_status_2(name, text, named, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        script(name).main(["--output_dir", str(tmp_path), "--quiet", *text.split()])
    line = one_line(capsys)
    assert stopped.value.code == 2 and "Traceback" not in line
    assert all(part in line for part in named), line


def test_a_flag_that_one_function_could_not_use_is_fine_for_another():
    """A window that no step of the reconstruction divides: the prediction reads day by day."""
    requests = flags.parse(script("lstm_ae_snp500").SCRIPT, "--function predict --window 28".split())
    assert requests["predict"].window == 28


def test_corrupt_data_give_one_line_that_names_the_file(tmp_path, capsys):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(b"no images"))
    with pytest.raises(SystemExit, match="2"):
        script("lstm_ae_mnist").main(["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "o"), "--quiet"])
    assert str(folder) in one_line(capsys)


def test_divergence_ends_with_status_1_and_says_where(tmp_path, capsys, run):
    flags = "--learning_rate 1e38 --gradient_clipping 0 --optimizer SGD --weight_decay 1e38 --schedule constant"
    with pytest.raises(SystemExit, match="1"):
        run("toy", tmp_path, *flags.split())
    line = one_line(capsys)
    assert "epoch 1" in line and "batch" in line and "learning rate 1e+38" in line
