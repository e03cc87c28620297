"""Flags: declared once, resolved through presets, refused where they have no use, and none ignored."""

import dataclasses
import json
import random
import sys
import warnings

import pytest
from conftest import without_figures
from test_reliability import without_seconds
from test_training import same

import adv_alstm
import jv_training
import load_data
import lstm_ae_mnist
import lstm_ae_snp500
import lstm_ae_toy
import stocktwits_sentiment
from lstm_studies.training import flags
from lstm_studies.training.presets import Request, Script, recipe, with_values
from lstm_studies.training.settings import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_INT,
    SEED,
    Settings,
    UsageError,
    flag,
    one_of,
)

# ---- a script of this test's own -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class OwnSettings(Settings):
    model: str = flag("fc", "kind of model", "model", one_of("fc", "conv", "both"))
    channels: int = flag(16, "channels", "model", POSITIVE_INT, when={"model": ("conv", "both")}, aliases=["maps"])
    code_size: int = flag(8, "values of the bottleneck", "model", COUNT, several="each")
    sizes: tuple[int, ...] = flag((), "sizes of the layers", "model", POSITIVE_INT, several="list")
    mirror: bool = flag(True, "mirrored sequences", "training")
    folds: int = flag(1, "folds", "training", POSITIVE_INT, functions=["fit"])
    num_layers: int = flag(1, "", "model", refused="the published model has one layer")

    def check(self):
        if self.code_size > self.hidden_size:
            raise UsageError(f"--code_size: expected at most --hidden_size {self.hidden_size}, found {self.code_size}")


PRESETS = {
    "best": [
        recipe(epochs=10, learning_rate=0.1),
        recipe({"function": "fit"}, minutes=3, epochs=30),
        recipe({"model": "conv"}, learning_rate=0.01, minutes=7),
    ],
    "published": [recipe(epochs=2, mirror=False)],
    "quick": [recipe(epochs=1)],
}
SCRIPT = Script(
    __file__, "A test.", {"draw": "draw", "fit": "fit", "classify": "classify"}, OwnSettings, PRESETS,
    trains=("fit", "classify"), whole_study=("draw", "fit"),
)  # fmt: skip


def parse(text: str) -> dict[str, Request]:
    return flags.parse(SCRIPT, text.split())


def refusal(text: str, capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(text)
    line = capsys.readouterr().err
    assert caught.value.code == 2 and line.count("\n") == 1
    return line


def test_the_preset_best_is_the_default_and_recipes_apply_in_order():
    fit = parse("--function fit")["fit"]
    assert (fit.preset, fit.epochs, fit.learning_rate) == ("best", 30, [0.1])
    assert parse("--function classify --model conv")["classify"].learning_rate == [0.01]
    assert parse("--function classify")["classify"].epochs == 10


def test_flags_given_by_hand_override_the_preset():
    fit = parse("--function fit --preset published --epochs 5 --mirror")["fit"]
    assert (fit.epochs, fit.mirror) == (5, True)
    assert parse("--function fit --preset published")["fit"].mirror is False
    assert parse("--function fit --no_mirror")["fit"].mirror is False


def test_a_recipe_follows_values_that_a_script_sets():
    fit = parse("--function fit --model both")["fit"]
    assert fit.learning_rate == [0.1]
    assert fit.with_values(model="conv").learning_rate == [0.01]
    assert fit.with_values(model="conv").resolve()[1] == 7


def test_without_function_each_function_gets_the_flags_that_it_uses():
    requests = parse("--folds 3 --seed 4")
    assert list(requests) == ["draw", "fit"]
    assert requests["fit"].folds == 3 and requests["draw"].given == {}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("--function classify --folds 3", ["--folds", "not used by classify", "fit"]),
        ("--function draw --epochs 3", ["--epochs", "not used by draw", "fit and classify"]),
        ("--function fit --num_layers 2", ["--num_layers", "the published model has one layer"]),
        ("--function fit --channels 3", ["--channels", "--model conv or both", "--model is fc"]),
        ("--function fit --code_size 8 99", ["--code_size", "at most --hidden_size 64, found 99"]),
        ("--function fit --hidden_size 4 99", ["--code_size", "at most --hidden_size 4, found 8"]),
        ("--function fit --hidden_size None", ["--hidden_size", "'None'", "leave the flag out for its default"]),
        ("--function fit --preset better", ["--preset", "best", "published", "quick"]),
        ("--function fit --epoch_s 3", ["--epoch_s", "test_flags.py has no such flag", "--epochs"]),
        ("--function fit --reconstruction_dominance .5", ["--reconstruction_dominance", "no such flag"]),
        ("--function fit 7", ["'7'", "follows its flag"]),
        ("--function fit --optimizer lion", ["--optimizer", "AdamW"]),
    ],
)
def test_refused(text, parts, capsys):
    line = refusal(text, capsys)
    assert all(part in line for part in parts), line


def test_spellings():
    fit = parse("--function fit --lr .5 .05 --optimizer adamw --model CONV --maps 3")["fit"]
    assert (fit.learning_rate, fit.optimizer, fit.model, fit.channels) == ([0.5, 0.05], "AdamW", "conv", 3)


def test_settings_are_scalars_and_frozen():
    request = parse("--function fit --learning_rate .1 .01 --sizes 3 2")["fit"]
    one, other = request.combinations()
    assert (one.learning_rate, other.learning_rate, one.sizes, one.code_size) == (0.1, 0.01, (3, 2), 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.epochs = 3
    with pytest.raises(ValueError, match="code_size has 2 values"):
        request.with_values(code_size=[1, 2]).combinations()
    assert with_values(one, seed=3).seed == 3 and with_values(request, seed=3).seed == 3


def test_help_shows_the_default_of_each_function(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "passes over the training data (default: 30 for fit, 10 for classify)" in text
    assert "(without --function: draw, fit)" in text and "--no_mirror" in text and "--num_layers" not in text
    assert "None" not in text and "False" not in text and "minutes on one core: fit 3" in text


def test_the_first_line_names_what_differs_from_the_preset():
    request = parse("--function fit --epochs 30 --seed 3 --no_mirror --output_dir there")["fit"]
    line = flags.headline(request)
    assert line == "fit: preset best; --seed 3; --no_mirror; files go to there/fit"


def test_a_request_says_what_it_does_not_have():
    with pytest.raises(AttributeError, match="test_flags has no setting epoch"):
        _ = parse("--function fit")["fit"].epoch


# ---- the scripts -----------------------------------------------------------------------------------------------------


def refused_by(script, argv: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        flags.parse(script, argv)
    line = capsys.readouterr().err
    assert caught.value.code == 2 and line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("module", "text", "parts"),
    [
        (jv_training, "--num_layers 3", ["--num_layers"]),
        (stocktwits_sentiment, "--function train --no_linear --part_loss 1", ["--part_loss: used with --linear only,"]),
        (jv_training, "--function dropout --epsilon 1", ["--epsilon", "not used by dropout", "adversarial"]),
        (jv_training, "--function basic --basic_epochs 3", ["--basic_epochs", "not used by basic", "adversarial"]),
        (lstm_ae_snp500, "--function predict --folds 5", ["--folds", "not used by predict", "reconstruct"]),
        (lstm_ae_mnist, "--model both --num_layers 2", ["--num_layers", "--model is both"]),
        (lstm_ae_mnist, "--function reconstruct --reconstruction_dominance .2 .8", ["not used by reconstruct"]),
        (lstm_ae_mnist, "--function reconstruct --classification", ["--classification", "classify"]),
        (lstm_ae_toy, "--function reconstruct --model conv", ["--model", "lstm_ae_toy.py has no such flag"]),
        (lstm_ae_toy, "--function reconstruct --hidden_size None", ["leave the flag out for its default"]),
    ],
)
def test_scripts_refuse_what_they_would_ignore(module, text, parts, capsys):
    line = refused_by(module.SCRIPT, text.split(), capsys)
    assert all(part in line for part in parts), line


def test_an_error_names_no_flag_that_the_function_does_not_use():
    """A window that no step of the reconstruction divides is fine for the prediction, which reads day by day."""
    assert flags.parse(lstm_ae_snp500.SCRIPT, "--function predict --window 28".split())["predict"].window == 28


def test_pixels_alone_is_a_whole_request():
    request = flags.parse(lstm_ae_mnist.SCRIPT, "--function classify --sequence pixels".split())["classify"]
    assert request.sequence == "pixels"


@pytest.mark.parametrize(
    ("module", "function", "trained", "asked", "parts"),
    [
        (lstm_ae_toy, "reconstruct", "--signal walk", "--signal uniform", ["--signal", "walk", "uniform"]),
        (lstm_ae_mnist, "classify", "--sequence pixels --model fc", "--sequence rows", ["--sequence", "pixels"]),
        (lstm_ae_snp500, "predict", "--inputs ohlcv", "--inputs high", ["--inputs", "ohlcv"]),
        (lstm_ae_snp500, "predict", "--window 50", "--window 30", ["--window", "50", "30"]),
        (adv_alstm, "train", "--dataset kdd17", "--dataset acl18", ["--dataset", "kdd17"]),
        (lstm_ae_mnist, "classify", "--model fc --hidden_size 8", "--hidden_size 9", ["--hidden_size", "8"]),
        (jv_training, "basic", "--channels 8", "--channels 9", ["--channels", "8"]),
        (stocktwits_sentiment, "train", "--embedding_size 8", "--embedding_size 9", ["--embedding_size", "8"]),
    ],
)
def test_dry_run_refuses_what_contradicts_the_training(module, function, trained, asked, parts, tmp_path, capsys):
    place = ["--function", function, "--output_dir", str(tmp_path)]
    (request,) = flags.parse(module.SCRIPT, [*place, *trained.split()]).values()
    (tmp_path / function).mkdir()
    (tmp_path / function / "config.json").write_text(json.dumps(flags.describe(request)))
    line = refused_by(module.SCRIPT, [*place, "--dry_run", *asked.split()], capsys)
    assert "--dry_run" in line and all(part in line for part in parts), line
    (again,) = flags.parse(module.SCRIPT, [*place, "--dry_run"]).values()
    ignored = {"dry_run"}
    assert {n: v for n, v in flags.describe(again).items() if n not in ignored} == {
        n: v for n, v in flags.describe(request).items() if n not in ignored
    }


# ---- all scripts, flags at random ------------------------------------------------------------------------------------

SAMPLE = "--source sample"
VOWELS = "--source sample --limit 45 --epochs 1 --hidden_size 3 --channels 3 --folds 2"
TINY_TRAINING = "--limit 40 --epochs 1 --hidden_size 3"
SMALL = {  # flags that keep a random run of each function short; those that apply a model use what is there, if any
    (lstm_ae_toy, "plot_examples"): "",
    (lstm_ae_toy, "reconstruct"): TINY_TRAINING,
    (lstm_ae_toy, "encode"): "",
    (lstm_ae_mnist, "reconstruct"): f"{SAMPLE} {TINY_TRAINING} --model fc",
    (lstm_ae_mnist, "classify"): f"{SAMPLE} {TINY_TRAINING} --channels 2",
    (lstm_ae_mnist, "encode"): f"{SAMPLE} --model fc",
    (lstm_ae_snp500, "plot_prices"): SAMPLE,
    (lstm_ae_snp500, "reconstruct"): f"{SAMPLE} {TINY_TRAINING}",
    (lstm_ae_snp500, "predict"): f"{SAMPLE} {TINY_TRAINING} --window 10",
    (lstm_ae_snp500, "tomorrow"): SAMPLE,
    (adv_alstm, "train"): f"{SAMPLE} {TINY_TRAINING}",
    (adv_alstm, "plot"): f"{SAMPLE} {TINY_TRAINING}",
    (adv_alstm, "predict"): SAMPLE,
    (jv_training, "basic"): VOWELS,
    (jv_training, "adversarial"): f"{VOWELS} --basic_epochs 1 --epsilon .1",
    (jv_training, "proximal"): f"{VOWELS} --basic_epochs 1 --epsilon .1",
    (stocktwits_sentiment, "train"): f"{SAMPLE} --limit 40 --epochs 1 --lstm_sizes 3 --embedding_size 4",
    (stocktwits_sentiment, "baseline"): SAMPLE,
}
IGNORED = (
    "dataclasses",
    "lstm_studies.training.settings",
    "lstm_studies.training.presets",
    "lstm_studies.training.flags",
    "copy",
)  # which read all settings
HARMLESS = {"quiet", "output_dir", "data_dir", "jobs", "backend", "dry_run", "resume", "threads", "device", "function"}
HARMLESS |= {"classification"}  # another way to say --function classify
VALUES = {  # of flags of each type: small ones, and some that are too small or too large
    POSITIVE_INT: ["1", "2", "3", "5", "7", "14", "0"],
    COUNT: ["0", "1", "2", "4"],
    SEED: ["0", "7"],
    POSITIVE: [".1", ".01", "1e-4", "0"],
    NOT_NEGATIVE: ["0", ".5", "1", "-1"],
    FRACTION: ["0", ".3", ".9", "1", "1.5"],
    None: [],
}


def random_values(described, generator: random.Random) -> list[str]:
    choices = getattr(described.parse, "choices", None) or VALUES.get(described.parse, ["1", "0.5", "x"])
    if described.parse is None:
        return []
    count = generator.choice((1, 1, 2)) if described.several else 1
    return [generator.choice(choices) for _ in range(count)]


def random_argv(module, function: str, generator: random.Random) -> tuple[list[str], list[str]]:
    """A command line with up to four flags at random beside those that keep it short, and their names."""
    declared = module.SCRIPT.flags()
    free = [name for name in declared if name not in HARMLESS | {"scheduler", "tensorboard", "checkpoint_every"}]
    usual = SMALL[module, function].split()
    names = [n for n in generator.sample(free, generator.randint(0, 4)) if f"--{n}" not in usual]
    argv = ["--function", function, *usual, "--preset", generator.choice(["best", "published", "quick"])]
    for name in names:
        argv += [f"--{name}", *random_values(declared[name], generator)]
    return argv, names


@pytest.fixture
def reads(monkeypatch):
    """The names of the settings that the code of scripts, models and loop reads, in this process."""
    names = set()

    def note(name: str) -> None:
        if sys._getframe(2).f_globals.get("__name__") not in IGNORED:
            names.add(name)

    def read_setting(settings, name):
        note(name)
        return object.__getattribute__(settings, name)

    original = Request.__getattr__

    def read_request(request, name):
        note(name)
        return original(request, name)

    monkeypatch.setattr(Settings, "__getattribute__", read_setting)
    monkeypatch.setattr(Request, "__getattr__", read_request)
    return names


def again(module, argv: list[str]) -> dict:
    """The metrics of a dry run, which knows from the run folder what was asked of the training."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return without_seconds(module.main([*argv, "--dry_run"]))


@pytest.fixture
def few_digits(monkeypatch):
    """32 digits to validate on and 32 to test on instead of 1,000 each."""
    sample = load_data.mnist("", "sample", 48)
    few = {name: getattr(sample, name)[:32] for name in sample._fields if name.startswith(("validation_", "test_"))}
    monkeypatch.setattr(lstm_ae_mnist, "digits", lambda *_: sample._replace(**few))


@pytest.mark.parametrize("module", sorted({m for m, _ in SMALL}, key=lambda m: m.__name__), ids=lambda m: m.__name__)
def test_flags_at_random(module, tmp_path, monkeypatch, capsys, thorough, count, reads, no_flush, few_digits):
    """Every run ends well, or in one line with status 2; what was given is read by someone."""
    without_figures(monkeypatch)
    generator = random.Random(0)
    functions = [function for own, function in SMALL if own is module]
    runs = 500 if thorough else 12
    for number in range(runs):
        argv, names = random_argv(module, generator.choice(functions), generator)
        reads.clear()
        capsys.readouterr()
        shown = " ".join(argv)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                place = ["--output_dir", str(tmp_path / str(number % 3)), "--quiet"]
                metrics = module.main([*argv, *place])
        except SystemExit as stopped:
            line = capsys.readouterr().err
            assert stopped.code in (1, 2) and line.count("\n") == 1 and "Traceback" not in line, (shown, line)
            assert stopped.code == 2 or "loss" in line, (shown, line)  # status 1: it diverged
        else:
            assert set(names) <= reads, (shown, set(names) - reads)
            if argv[1] in module.SCRIPT.trains and (thorough or number % 4 == 0):
                assert same(again(module, [*argv[:2], *place]), without_seconds(metrics)), shown
        count(1)
