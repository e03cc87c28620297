"""Golden runs: what earlier versions trained is evaluated, applied and resumed as then (golden/make.py made them)."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from conftest import one_line, without_figures
from trainings import ROOT, script

from lstm_studies.training import checkpoint, flags
from lstm_studies.training.settings import DECIDING

GOLDEN = ROOT / "tests" / "golden"
RUNS = [path.parent for path in sorted(GOLDEN.glob("format*/*/command.json"))]
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
    "jv_training_basic": ["predict --data {root}/data/samples/japanese_vowels/JapaneseVowels_TEST.ts"],
    "stocktwits_sentiment_train": ["predict --text {text}"],
}
ONLY_APPLIED = [("jv_training_basic", 1)]  # script, function and format: stacks of models, which version 1.0 resumes
USELESS = {"lstm_ae_mnist_reconstruct_quick": "--hidden_size: used with --model fc"}  # flags that a model never used
TOLERANCE = {"rel": 1e-4, "abs": 1e-6}  # float32 on another processor


class Golden:
    """A copy of a golden run, and its script."""

    def __init__(self, source: Path, folder: Path):
        command = json.loads((source / "command.json").read_text())
        self.script, self.function = script(command["script"]), command["function"]
        self.name, self.arguments, self.folder = f"{command['script']}_{self.function}", command["arguments"], folder
        shutil.copytree(source, folder)
        self.run_folder, self.useless = folder / self.function, USELESS.get(source.name)
        self.metrics = json.loads((self.run_folder / "metrics.json").read_text())
        self.config = json.loads((self.run_folder / "config.json").read_text())

    def main(self, *arguments: str) -> dict:
        return self.script.main([*arguments, "--output_dir", str(self.folder), "--quiet"])

    def same_settings(self) -> list[str]:
        """Its command, and flags for what its preset has set otherwise since then, of later flags the defaults."""
        request = flags.parse(self.script.SCRIPT, [*self.arguments, "--output_dir", str(self.folder)])[self.function]
        now, more = flags.describe(request), []
        defaults = {field.name: field.default for field in dataclasses.fields(request.settings)}
        for name, flag in request.flags.items():
            value = self.config.get(name, defaults[name])
            if flag.group in DECIDING and name not in ("data_dir", "source") and value not in (None, [], now[name]):
                switch = flag.kind.type is bool
                texts = [] if switch else map(str, value) if isinstance(value, list) else [str(value)]
                more += [f"--{'no_' if value is False else ''}{name}", *texts]
        return [*self.arguments, *more]


def parameters() -> list:
    """Every golden run; those of one preset per script in `make test`, all in `make reliability`."""
    marks = {path: () if path.name.endswith(IN_SHORT) else pytest.mark.reliability for path in RUNS}
    return [pytest.param(path, marks=own, id=f"{path.parent.name}-{path.name}") for path, own in marks.items()]


@pytest.fixture(params=parameters())
def golden(request, tmp_path, monkeypatch, no_flush) -> Golden:
    without_figures(monkeypatch)
    monkeypatch.chdir(ROOT)  # the commands name data/ as from there
    return Golden(request.param, tmp_path / "run")


def check_metrics(metrics: dict, golden: Golden) -> None:
    """The model's own are the recorded ones. Format 1 had them without its name, other baselines beside them, and
    intervals of another definition."""
    recorded = golden.metrics if "seed" in golden.metrics else next(iter(golden.metrics.values()))
    metrics, compared = metrics[next(iter(metrics))], 0
    for name, value in recorded.items():
        if name in ("seed", "epochs", "best_epoch", "parameters") or name.startswith(("test_", "val_")):
            if name.endswith(("_low", "_high")):
                continue
            compared += 1
            assert metrics[name] == (pytest.approx(value, **TOLERANCE) if isinstance(value, float) else value), name
    assert compared > 4


def refused_for_version_1(golden: Golden, capsys, *arguments: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        golden.main(*arguments)
    assert "trained by version 1.0 of this collection" in one_line(capsys)


def test_a_dry_run_gives_the_recorded_metrics(golden, capsys):
    dry_run = ["--function", golden.function, "--dry_run"]
    if (golden.name, golden.config["format"]) in ONLY_APPLIED:
        refused_for_version_1(golden, capsys, *dry_run)
    else:
        check_metrics(golden.main(*dry_run), golden)


def test_the_model_is_applied(golden):
    for function in APPLIED.get(golden.name, ()):
        words = ["--function", *function.split()]
        metrics = golden.main(*(word.format(root=ROOT, text="buy the dip") for word in words))
        counts = ("images", "windows", "sequences", "stocks", "rows", "messages")
        assert any(values.get(name, 0) > 0 for values in metrics.values() for name in counts)


def test_it_goes_on_where_it_ended(golden, capsys):
    """With more epochs, if its learning rate is constant; else it is refused, and there is nothing left to train."""
    if golden.useless:
        with pytest.raises(SystemExit, match="2"):
            golden.main(*golden.arguments, "--resume")
        assert golden.useless in one_line(capsys)
        return None
    usual = golden.same_settings()
    if (golden.name, golden.config["format"]) in ONLY_APPLIED:
        return refused_for_version_1(golden, capsys, *usual, "--resume")
    more = [*usual, "--resume"]
    more[more.index("--epochs") + 1] = "4"
    if golden.config["schedule"] == "constant":
        before = (golden.run_folder / "history.csv").read_text()
        assert [values["epochs"] for values in golden.main(*more).values() if "epochs" in values] == [4]
        after = (golden.run_folder / "history.csv").read_text()
        assert after.startswith(before) and after.count("\n") == before.count("\n") + 2
    else:
        with pytest.raises(SystemExit, match="2"):
            golden.main(*more)
        assert "trained with --epochs 2, not 4" in one_line(capsys)
        assert golden.config == json.loads((golden.run_folder / "config.json").read_text())
        check_metrics(golden.main(*usual, "--resume"), golden)


@pytest.mark.parametrize("file", ["best.pt", "last.pt", "config.json"])
def test_a_file_of_a_later_format_is_refused(tmp_path, capsys, monkeypatch, file):
    """In one line that names the version that reads it."""
    golden = Golden(GOLDEN / "format1" / "lstm_ae_toy_reconstruct_quick", tmp_path / "run")
    path = golden.run_folder / file
    later = {"format": 7, "version": "3.2"}
    if file == "config.json":
        path.write_text(json.dumps({**golden.config, **later}))
    else:
        content = checkpoint.load(path)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "FORMAT", 7)
            patch.setattr(checkpoint, "VERSION", "3.2")
            checkpoint.save(path, content)
    commands = [["--function", golden.function, "--dry_run"]]
    commands += [[*golden.same_settings(), "--resume"]] if file == "last.pt" else []
    for command in commands:
        with pytest.raises(SystemExit, match="2"):
            golden.main(*command)
        line = one_line(capsys)
        assert str(path) in line and "format 7, which version 3.2 of this collection reads" in line
