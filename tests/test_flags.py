"""Flags: declared once, typed by their annotations, resolved through presets, refused where they have no use."""

import dataclasses
import importlib.metadata
import json
import math
import sys
import tomllib
from pathlib import Path
from typing import Literal

import pytest
from conftest import one_line

from lstm_studies.training import flags, settings
from lstm_studies.training.formats import FORMAT, VERSION
from lstm_studies.training.presets import Request, Script, with_values
from lstm_studies.training.settings import (
    ROOT,
    Application,
    Count,
    DownloadedData,
    NotNegative,
    Positive,
    PositiveInt,
    Rate,
    Seed,
    Settings,
    Share,
    Training,
    UsageError,
    data_flag,
    deciding_names,
    flags_of,
    kind_of,
    model_flag,
    training_flag,
)

# ---- a script of this test's own -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Draw(DownloadedData):
    """figures of the data"""

    signal: Literal["waves", "noise"] = data_flag("waves", "kind of sequence")
    data: Path | None = data_flag(None, "CSV file with one sequence per row")

    def check(self, given):
        super().check(given)
        self.need(given, "signal", self.data is None, "generated sequences")


@dataclasses.dataclass(frozen=True)
class Fit(Training, Draw):
    """train;
    then test"""

    model: Literal["fc", "conv", "both"] = model_flag("fc", "kind of model")
    channels: PositiveInt = model_flag(16, "channels", aliases=["maps"])
    hidden_size: PositiveInt = model_flag(64, "units", "grid")
    code_size: Count = model_flag(8, "values of the bottleneck", "each")
    sizes: tuple[PositiveInt, ...] = model_flag((), "sizes of the layers")
    ratio: Share | None = training_flag(None, "share of 100 % that is seen")
    mirror: bool = training_flag(True, "mirrored sequences")
    fresh: bool = training_flag(False, "new sequences")
    start: Path | None = training_flag(None, "run folder to start from")
    fold: int | None = None

    def check(self, given):
        super().check(given)
        self.need(given, "channels", self.model != "fc", "--model conv or both")
        if self.code_size > self.hidden_size:
            raise UsageError(f"--code_size: expected at most --hidden_size {self.hidden_size}, found {self.code_size}")


@dataclasses.dataclass(frozen=True)
class Classify(Fit):
    """classes"""

    folds: PositiveInt = training_flag(1, "folds")


@dataclasses.dataclass(frozen=True)
class Predict(Application):
    """values of tomorrow"""

    data: Path | None = data_flag(None, "CSV file to predict from")


def best(asked):
    if asked.function not in ("fit", "classify"):
        return {}
    values = {"epochs": 30 if asked.function == "fit" else 10, "learning_rate": 0.1}
    return {**values, "learning_rate": 0.01} if asked.model == "conv" else values


def published(asked):
    return {"epochs": 2, "mirror": False} if asked.function == "fit" else {}


SCRIPT = Script(
    "test_flags",
    {"draw": Draw, "fit": Fit, "classify": Classify, "predict": Predict},
    {"best": best, "published": published, "quick": lambda asked: {}},
    study=("draw", "fit"),
    shorthands={"--classification": ("--function", "classify")},
    module="test_flags",
)


def parse(text: str) -> dict[str, Request]:
    return flags.parse(SCRIPT, text.split())


def fit(text: str = "") -> Request:
    (request,) = parse(f"--function fit {text}").values()
    return request


def refusal(text: str, capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(text)
    line = one_line(capsys)
    assert caught.value.code == 2 and line.startswith("test_flags.py: error: "), line
    return line


# ---- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "texts", "refused"),
    [
        (PositiveInt, {"1": 1, "12": 12}, ["0", "-1", "1.5", "x", "", "nan"]),
        (Count, {"0": 0, "7": 7}, ["-1", "1e3"]),
        (Seed, {"0": 0, str(2**31): 2**31}, ["-1", str(2**31 + 1)]),
        (Positive, {".1": 0.1, "1e-4": 1e-4, "3": 3.0}, ["0", "-1", "nan", "inf", "-inf", "fast"]),
        (NotNegative, {"0": 0.0, "2": 2.0}, ["-1e-9", "nan", "inf"]),
        (Share, {"0": 0.0, "1": 1.0}, ["1.01", "-0.1"]),
        (Rate, {"0": 0.0, "0.99": 0.99}, ["1", "-0.1"]),
        (int, {"-3": -3}, ["1.5", "x"]),
        (float, {"-3": -3.0}, ["inf", "x"]),
        (Literal["Adam", "AdamW"], {"Adam": "Adam", "adamw": "AdamW"}, ["lion", ""]),
        (str, {"a b": "a b", "": ""}, []),
        (Path, {"a/b": Path("a/b")}, []),
        (Share | None, {".5": 0.5}, ["2"]),
        (tuple[PositiveInt, ...], {"3": 3}, ["0"]),
    ],
)
def test_the_annotation_is_the_type_of_the_flag(annotation, texts, refused):
    kind = kind_of(annotation)
    for text, value in texts.items():
        assert kind.convert(text) == value and type(kind.convert(text)) is type(value)
        assert kind.accepts((value,) if kind.is_list else value)
    for text in refused:
        with pytest.raises(ValueError, match=f"expected .*, found {text!r}"):
            kind.convert(text)
    assert kind.accepts(None) == kind.optional == (annotation == Share | None)


def test_a_value_of_another_type_is_none_of_the_flag():
    """Such as a checkpoint may hold."""
    for annotation, value in [(PositiveInt, True), (PositiveInt, 1.5), (PositiveInt, "x"), (bool, 1), (bool, None)]:
        assert not kind_of(annotation).accepts(value), (annotation, value)
    for annotation, value in [(Positive, math.nan), (tuple[Count, ...], 3), (tuple[Count, ...], (-1,)), (Share, [1])]:
        assert not kind_of(annotation).accepts(value), (annotation, value)


def test_an_annotation_that_no_flag_can_have_is_an_error_of_the_script():
    for annotation in (dict, list[int], int | str, Literal[1, 2], complex):
        with pytest.raises(TypeError, match="annotation"):
            kind_of(annotation)


# ---- presets ---------------------------------------------------------------------------------------------------------


def test_the_preset_best_is_the_default():
    assert (fit().preset, fit().epochs, fit().learning_rate) == ("best", 30, [0.1])
    assert parse("--function classify")["classify"].epochs == 10
    assert fit("--preset published").epochs == 2 and fit("--preset quick").epochs == 20


def test_flags_given_by_hand_override_the_preset():
    request = fit("--preset published --epochs 5 --mirror")
    assert (request.epochs, request.mirror) == (5, True)
    assert fit("--preset published").mirror is fit("--no_mirror").mirror is False and fit("--fresh").fresh is True
    assert fit("--model conv").learning_rate == [0.01] and fit("--model conv --lr 3").learning_rate == [3.0]


def test_a_preset_follows_values_that_a_script_sets():
    request = fit("--model both")
    assert request.learning_rate == [0.1] and request.with_values(model="conv").learning_rate == [0.01]


def test_a_preset_with_a_setting_that_the_function_does_not_have_is_an_error_of_the_script():
    script = dataclasses.replace(SCRIPT, presets={"best": lambda asked: {"epoch": 3}})
    with pytest.raises(ValueError, match="the preset best sets epoch, which fit does not have"):
        _ = script.request("fit").epochs


def test_without_function_each_function_gets_the_flags_that_it_has():
    requests = parse("--code_size 3 --seed 4 --data mine.csv")
    assert list(requests) == ["draw", "fit"] and requests["draw"].given == {"data": Path("mine.csv")}
    assert (requests["fit"].seed, requests["fit"].data) == (4, Path("mine.csv"))


def test_a_shorthand_stands_for_a_function():
    assert list(parse("--classification --epochs 3")) == ["classify"]
    assert list(parse("--function classify --classification")) == ["classify"]


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("--function fit --folds 3", ["--folds", "not used by fit", "a flag of classify"]),
        ("--function draw --epochs 3", ["--epochs", "not used by draw", "a flag of fit and classify"]),
        ("--function draw --lr 3", ["--learning_rate", "not used by draw", "a flag of fit and classify"]),
        ("--function draw --no_mirror", ["--mirror", "not used by draw", "a flag of fit and classify"]),
        ("--folds 3", ["--folds", "not used by the whole study", "a flag of classify"]),
        ("--function predict --signal noise", ["--signal: not used by predict", "its data are given by --data: CSV"]),
        ("--function fit --channels 3", ["--channels: used with --model conv or both only"]),
        ("--function fit --scheduler here", ["--scheduler: used with --backend dask or ray only"]),
        ("--function fit --data mine.csv --signal waves", ["--signal: used with generated sequences only"]),
        ("--function fit --code_size 8 99", ["--code_size", "at most --hidden_size 64, found 99"]),
        ("--function fit --hidden_size 4 99", ["--code_size", "at most --hidden_size 4, found 8"]),
        ("--function fit --hidden_size None", ["--hidden_size", "'None'", "leave the flag out for its default"]),
        ("--function fit --hidden_size 8 0 16", ["--hidden_size: expected a whole number of at least 1, found '0'"]),
        ("--function fit --ratio 2", ["--ratio: expected a number of at least 0 and at most 1, found '2'"]),
        ("--function fit --preset better", ["--preset", "best", "published", "quick"]),
        ("--function fit --epoch_s 3", ["--epoch_s", "test_flags.py has no such flag", "nearest: --epochs"]),
        ("--function fit --hidden-siz 3", ["--hidden_siz", "no such flag", "nearest: --hidden_size"]),
        ("--function fit --lstm_dominance .5", ["--lstm_dominance", "no such flag"]),
        ("--function fit --no_epochs", ["--no_epochs", "no such flag"]),
        ("--function fit --resume 1", ["'1'", "follows its flag"]),
        ("--function fit --data=", ["--data: expected a path, found ''"]),
        ("--function fit 7", ["'7'", "follows its flag"]),
        ("--function fit -x", ["'-x'", "follows its flag"]),
        ("--function fit --epochs", ["--epochs", "expected one argument"]),
        ("--function fit --epochs 3 4", ["'4'", "follows its flag"]),
        ("--function fit --hidden_size", ["--hidden_size", "expected at least one argument"]),
        ("--function fit --optimizer lion", ["--optimizer", "AdamW", "'lion'"]),
        ("--function fit --device tpu", ["--device", "cuda"]),
        ("--function third", ["'third'", "draw", "fit", "classify", "predict"]),
        ("--function fit --classification", ["--classification", "--function classify"]),
        ("--classification --function=fit", ["--classification", "--function classify"]),
    ],
)
def test_refused(text, parts, capsys):
    line = refusal(text, capsys)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_whose_package_is_missing(capsys, monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert f"--backend: needs the package {module}: pip install {module}" in refusal(f"--backend {backend}", capsys)


def test_missing_tensorboard(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert "--tensorboard: needs the package tensorboard: pip install" in refusal("--tensorboard", capsys)


# ---- accepted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "version"), [("Python", (3, 10, 13)), ("torch", "2.9.1+cpu"), ("numpy", "1.26.4"), ("pandas", "2.3")]
)
def test_an_older_environment_is_one_line(monkeypatch, capsys, package, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == package else "99.1.dev0")
    if package == "Python":
        monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit, match="2"):
        flags.check_environment("prog.py")
    monkeypatch.undo()
    assert one_line(capsys).startswith(f"prog.py: error: expected {package} ")
    flags.check_environment("prog.py")


def test_the_least_versions_are_those_of_the_project():
    project = tomllib.loads((settings.ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, settings.PYTHON))
    for package, least in settings.PACKAGES.items():
        assert any(one.startswith(f"{package}>={'.'.join(map(str, least))},") for one in project["dependencies"])


def test_spellings():
    request = fit("--lr .5 .05 --optimizer adamw --model CONV --maps 3 --hidden-size 9 --no-mirror --batch-size=7")
    assert (request.learning_rate, request.optimizer, request.model) == ([0.5, 0.05], "AdamW", "conv")
    assert (request.channels, request.hidden_size, request.mirror, request.batch_size) == (3, [9], False, 7)
    assert fit("--data my-own-file.csv").data == Path("my-own-file.csv")


def test_types_of_what_is_given():
    request = fit("--sizes 3 2 --ratio .5 --code_size 1 2 --data a/b.csv --seed 0 --checkpoint_every 0")
    assert (request.sizes, request.ratio, request.code_size) == ((3, 2), 0.5, [1, 2])
    assert (request.data, request.seed, request.checkpoint_every) == (Path("a/b.csv"), 0, 0.0)
    assert request.output_dir == ROOT / "outputs" / "test_flags"


def test_data_dir_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert fit().data_dir == tmp_path and fit("--data_dir here").data_dir == Path("here")
    monkeypatch.setenv("DATA_DIR", "")
    assert fit().data_dir == ROOT / "data"
    monkeypatch.delenv("DATA_DIR")
    assert fit().data_dir == ROOT / "data"


def test_settings_are_scalars_and_frozen():
    request = fit("--learning_rate .1 .01 .1 --sizes 3 2")
    one, other = request.combinations()
    assert (one.learning_rate, other.learning_rate, one.sizes, one.code_size) == (0.1, 0.01, (3, 2), 8)
    assert request.varied() == ["learning_rate"] and request.single() == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.epochs = 3
    with pytest.raises(ValueError, match="code_size has 2 values"):
        request.with_values(code_size=[1, 2]).combinations()
    assert with_values(one, seed=3).seed == 3 and with_values(request, seed=3).seed == 3


def test_combinations_by_hand():
    request = SCRIPT.request("fit", hidden_size=[8, 16], learning_rate=[0.1, 0.01, 0.1], gradient_clipping=1.0, seed=7)
    combinations = request.combinations()
    pairs = [(c.learning_rate, c.hidden_size) for c in combinations]
    assert pairs == [(0.1, 8), (0.1, 16), (0.01, 8), (0.01, 16)]
    assert all(c.seed == 7 and c.epochs == 30 and c.function == "fit" for c in combinations)


def test_a_request_says_what_it_does_not_have():
    with pytest.raises(AttributeError, match="test_flags, function fit, has no setting epoch"):
        _ = fit().epoch


def test_what_decides_the_result_of_a_training():
    names = set(deciding_names(Fit))
    assert {"hidden_size", "epochs", "seed", "limit", "source", "signal", "start", "fold"} <= names
    assert not names & {"data_dir", "output_dir", "jobs", "threads", "device", "resume", "label", "function"}
    assert set(flags_of(Predict)) == {"output_dir", "device", "threads", "quiet", "model_from", "data"}
    assert set(flags_of(Settings)) < set(flags_of(Fit)) and "fold" not in flags_of(Fit)


# ---- help, version, first line ---------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The script's file, whose docstring --help shows."""
    monkeypatch.setattr(flags, "ROOT", tmp_path)
    (tmp_path / "test_flags.py").write_text('"""What the study asks."""\n')


def help_of(text: str, capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(text)
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("text", ["--help", "-h", "--seed 3 --help"])
def test_help_lists_functions_and_presets_in_a_line_each(capsys, text):
    shown = help_of(text, capsys)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "What the study asks." in lines and "(without --function: draw, fit; " in shown
    assert {"draw figures of the data", "fit train; then test", "predict values of tomorrow"} <= set(lines)
    assert any(line.startswith("best the recipe behind the results") for line in lines)
    assert "--function" in shown and "--preset" in shown and "--version" in shown and "--epochs" not in shown


@pytest.mark.usefixtures("written")
def test_help_of_a_function_has_its_flags_and_no_others(capsys):
    shown = " ".join(help_of("--function fit --help", capsys).split())
    assert "test_flags.py --function fit: train; then test" in shown
    assert "passes over the training data (default: 30)" in shown and "--folds" not in shown
    assert "--no_mirror disables: mirrored sequences" in shown and "--fresh new sequences" in shown
    assert "--no_fresh" not in shown and "--maps" not in shown and "None" not in shown and "False" not in shown
    assert "units; several: a grid search (default: 64)" in shown and "share of 100 % that is seen" in shown
    assert "values of the bottleneck; several: each is tested (default: 8)" in shown
    assert "--folds" in help_of("--function classify -h", capsys)


@pytest.mark.usefixtures("written")
def test_help_of_a_function_has_the_defaults_of_what_is_given(capsys):
    best, published = (
        help_of(f"--function fit --preset {name} --epochs 3 -h", capsys) for name in ("best", "published")
    )
    assert best != published and "whose values are the defaults here" in published
    assert "passes over the training data (default: 30)" in best  # not what is given


def test_version(capsys):
    assert help_of("--version", capsys) == f"lstm_studies {VERSION}\n"


def test_the_first_line_names_what_differs_from_the_preset():
    line = flags.headline(fit("--epochs 30 --seed 3 --no_mirror --fresh --sizes 3 2 --lr 1e-4 --output_dir there"))
    changed = ["--learning_rate 0.0001", "--seed 3", "--sizes 3 2", "--no_mirror", "--fresh"]
    assert line == "; ".join(["fit: preset best", *changed, "files go to there/fit"])


# ---- earlier runs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def earlier(tmp_path):
    """earlier(flags, **changes): a run with these flags left its config.json; the flags of a dry run of it."""

    def write(text: str = "", **changes) -> str:
        request = fit(f"--output_dir {tmp_path} {text}")
        config = json.loads(json.dumps({**flags.describe(request), "format": FORMAT, "version": VERSION, **changes}))
        (tmp_path / "fit").mkdir(exist_ok=True)
        (tmp_path / "fit" / "config.json").write_text(json.dumps(config))
        return f"--output_dir {tmp_path} --dry_run"

    return write


GIVEN = (
    "--preset published --lr .1 .01 --code_size 3 --sizes 3 2 --ratio .5 --mirror --model both --channels 3 "
    "--data a/b.csv --seeds 3 --jobs 2"
)


def test_a_dry_run_asks_for_what_was_asked_then(earlier, tmp_path):
    dry = earlier(GIVEN)
    then, now = fit(f"--output_dir {tmp_path} {GIVEN}").values, fit(dry).values
    assert now == {**then, "dry_run": True} and fit(dry).preset == "published"
    by_hand = fit(GIVEN).given.keys() - {"seeds", "jobs"}
    assert fit(dry).given.keys() == by_hand | {"dry_run", "output_dir"}
    assert fit(f"{dry} --seeds 3 --quiet --data_dir here").seeds == 3


def test_a_moved_folder_has_its_own_paths(earlier, tmp_path):
    earlier(f"--start {tmp_path}/other/best.pt")
    (tmp_path / "fit").rename(tmp_path / "there")
    (tmp_path / "new").mkdir()
    (tmp_path / "there").rename(tmp_path / "new" / "fit")
    assert fit(f"--output_dir {tmp_path / 'new'} --dry_run").start == tmp_path / "new" / "other" / "best.pt"


@pytest.mark.parametrize("flag", ["--epochs 3", "--hidden_size 8", "--limit 3", "--source full", "--data x.csv"])
def test_a_dry_run_takes_no_flag_that_the_training_fixed(earlier, capsys, flag):
    line = refusal(f"--function fit {earlier()} {flag}", capsys)
    assert f"argument {flag.split()[0]}: not used with --dry_run, which takes it from the config.json" in line


def test_a_dry_run_takes_no_preset_and_no_resume(earlier, capsys):
    dry = f"--function fit {earlier()}"
    assert "--preset: not used with --dry_run" in refusal(f"{dry} --preset best", capsys)
    assert "--resume: not used with --dry_run" in refusal(f"{dry} --resume", capsys)


def test_a_dry_run_has_the_seeds_of_the_training(earlier, capsys):
    """Those of fewer would be mixed with the ensembles and differences of all."""
    line = refusal(f"--function fit {earlier(GIVEN)} --seeds 2", capsys)
    assert "--seeds: expected 3, as the run in" in line and "found 2" in line


def test_a_dry_run_of_nothing(tmp_path, capsys):
    line = refusal(f"--function fit --dry_run --output_dir {tmp_path}", capsys)
    assert f"--dry_run: expected an earlier run in {tmp_path / 'fit'}, found no config.json" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 0},
        {"hidden_size": None},
        {"hidden_size": True},
        {"hidden_size": "x"},
        {"epochs": [3]},
        {"epochs": {"a": 1}},
        {"epochs": 3.5},
        {"model": "vgg"},
        {"mirror": 1},
        {"mirror": None},
        {"sizes": 3},
        {"sizes": [3, -1]},
        {"data": {"a": 1}},
        {"data": 3},
        {"start": [1]},
        {"seeds": 0},
        {"preset": "none"},
        {"given": 3},
        {"given": [[1]]},
        {"preset": [1]},
        {"format": 7, "version": "3.2"},
    ],
)
def test_a_config_that_no_run_can_have_left(earlier, tmp_path, capsys, changes):
    line = refusal(f"--function fit {earlier(**changes)}", capsys)
    assert "--dry_run" in line and str(tmp_path / "fit" / "config.json") in line
    assert {*changes} <= {"format", "version"} or min(changes) in line


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"3", b"[" * 100_000, b"\xff"])
def test_a_config_that_is_no_json_object(earlier, tmp_path, capsys, content):
    dry = earlier()
    (tmp_path / "fit" / "config.json").write_bytes(content)
    assert str(tmp_path / "fit" / "config.json") in refusal(f"--function fit {dry}", capsys)


def test_flags_of_a_checkpoint(tmp_path):
    """Paths inside of the output folder are relative to it, and values that no flag can have are refused."""
    settings = fit(f"--output_dir {tmp_path} --start {tmp_path}/there --sizes 3 2 --data own.csv").single()
    saved = flags.deciding(settings)
    assert (saved["start"], saved["data"], saved["sizes"]) == ("<output_dir>/there", "own.csv", [3, 2])
    assert json.loads(json.dumps(saved)) == saved
    moved = dataclasses.replace(settings, output_dir=Path("/new"), seed=5, epochs=1, start=None, sizes=())
    assert flags.restored(moved, saved) == dataclasses.replace(
        settings, output_dir=Path("/new"), start=Path("/new/there")
    )
    assert flags.differences(dataclasses.replace(settings, seed=5), saved) == [("seed", 0, 5)]
    with pytest.raises(ValueError, match="another hidden_size, found 'x'"):
        flags.restored(settings, {**saved, "hidden_size": "x"})
