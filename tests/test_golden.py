"""Golden runs: what earlier versions trained is evaluated, applied and resumed as then (golden/make.py made them)."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import without_figures
from test_reliability import without_seconds
from test_training import one_line

import adv_alstm
import jv_training
import lstm_ae_mnist
import lstm_ae_snp500
import lstm_ae_toy
import stocktwits_sentiment
from lstm_studies.training import checkpoint
from lstm_studies.training.settings import ROOT

SCRIPTS = {
    module.SCRIPT.name: module
    for module in (adv_alstm, jv_training, lstm_ae_mnist, lstm_ae_snp500, lstm_ae_toy, stocktwits_sentiment)
}
RUNS = sorted(path.parent for path in (Path(__file__).parent / "golden").glob("format*/*/command.json"))
IN_SHORT = (
    *("toy_reconstruct_published", "mnist_reconstruct_published", "snp500_predict_published"),
    *("adv_alstm_train_published", "jv_training_basic_quick", "stocktwits_sentiment_train_quick"),
)
APPLIED = {  # to the run of a script and function: functions and their flags
    "lstm_ae_toy_reconstruct": ["encode", "anomalies"],
    "lstm_ae_mnist_reconstruct": ["encode", "anomalies"],
    "lstm_ae_snp500_reconstruct": ["encode", "anomalies"],
    "lstm_ae_snp500_predict": ["tomorrow"],
    "adv_alstm_train": ["predict --source sample"],
    "jv_training_basic": [
        "predict --checkpoint {folder}/basic/best.pt --data {root}/data/samples/japanese_vowels/JapaneseVowels_TEST.ts"
    ],
    "stocktwits_sentiment_train": ["predict --text {text}"],
}
TOLERANCE = {"rel": 1e-4, "abs": 1e-6}  # float32 on another processor


class Golden:
    """A copy of a golden run, and its script."""

    def __init__(self, source: Path, folder: Path):
        command = json.loads((source / "command.json").read_text())
        self.script, self.function = SCRIPTS[command["script"]], command["function"]
        self.name, self.arguments, self.folder = f"{command['script']}_{self.function}", command["arguments"], folder
        shutil.copytree(source, folder)
        self.run_folder = folder / self.function
        self.metrics = json.loads((self.run_folder / "metrics.json").read_text())
        self.config = json.loads((self.run_folder / "config.json").read_text())

    def main(self, *arguments: str) -> dict:
        return self.script.main([*arguments, "--output_dir", str(self.folder), "--quiet"])


def parameters() -> list:
    """Every golden run; those of one preset per script in `make test`, all in `make reliability`."""
    marks = {path: () if path.name.endswith(IN_SHORT) else pytest.mark.reliability for path in RUNS}
    return [pytest.param(path, marks=own, id=f"{path.parent.name}-{path.name}") for path, own in marks.items()]


@pytest.fixture(params=parameters())
def golden(request, tmp_path, monkeypatch, no_flush) -> Golden:
    without_figures(monkeypatch)
    monkeypatch.chdir(ROOT)  # the commands name data/ as from there
    return Golden(request.param, tmp_path / "run")


def about(metrics: dict) -> dict:
    return {
        name: about(value)
        if isinstance(value, dict)
        else pytest.approx(value, **TOLERANCE)
        if is_number(value)
        else value
        for name, value in without_seconds(metrics).items()
    }


def is_number(value) -> bool:
    return isinstance(value, float) and not isinstance(value, bool)


def test_a_dry_run_gives_the_recorded_metrics(golden):
    assert without_seconds(golden.main("--function", golden.function, "--dry_run")) == about(golden.metrics)


def test_the_model_is_applied(golden):
    for function in APPLIED.get(golden.name, ()):
        arguments = [
            word.format(folder=golden.folder, root=ROOT, text="buy the dip")
            for word in ["--function", *function.split()]
        ]
        metrics = golden.main(*arguments)
        assert any(
            metrics.get(name, 0) > 0 for name in ("images", "windows", "sequences", "stocks", "rows", "messages")
        )


def test_it_goes_on_where_it_ended(golden, capsys):
    """With more epochs, if its learning rate is constant; else it is refused, and there is nothing left to train."""
    more = [*golden.arguments, "--resume"]
    more[more.index("--epochs") + 1] = "4"
    if golden.config["schedule"] == "constant":
        before = (golden.run_folder / "history.csv").read_text()
        assert golden.main(*more)["epochs"] == 4
        after = (golden.run_folder / "history.csv").read_text()
        assert after.startswith(before) and after.count("\n") == before.count("\n") + 2
    else:
        with pytest.raises(SystemExit, match="2"):
            golden.main(*more)
        assert "trained with --epochs 2, not 4" in one_line(capsys)
        assert golden.config == json.loads((golden.run_folder / "config.json").read_text())
        assert without_seconds(golden.main(*golden.arguments, "--resume")) == about(golden.metrics)


@pytest.mark.parametrize("file", ["best.pt", "last.pt", "config.json"])
def test_a_file_of_a_later_format_is_refused(tmp_path, capsys, monkeypatch, file):
    """In one line that names the version that reads it."""
    golden = Golden(next(path for path in RUNS if path.name == "lstm_ae_toy_reconstruct_quick"), tmp_path / "run")
    path = golden.run_folder / file
    later = {"format": 7, "version": "3.2"}
    if file == "config.json":
        path.write_text(json.dumps({**golden.config, **later}))
    else:
        content = checkpoint.load(path)
        monkeypatch.setattr(checkpoint, "FORMAT", 7)
        monkeypatch.setattr(checkpoint, "VERSION", "3.2")
        checkpoint.save(path, content)
    for flags in (["--dry_run"], [*golden.arguments[2:], "--resume"]):
        if file == "last.pt" or "--dry_run" in flags:
            with pytest.raises(SystemExit, match="2"):
                golden.main("--function", golden.function, *flags)
            line = one_line(capsys)
            assert str(path) in line and "format 7, which version 3.2 of this collection reads" in line
