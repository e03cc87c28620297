"""Command lines at random: every one ends well or in one line, every flag given is read, a dry run gives the same."""

import random
import sys
import warnings
from pathlib import Path

import pytest
from conftest import without_figures
from tiny_training import same, without_seconds
from trainings import SCRIPTS, script

from lstm_studies.training.presets import Request
from lstm_studies.training.settings import Flag, Settings, Training, flags_of

SAMPLE = "--source sample"
TINY = "--limit 40 --epochs 1 --hidden_size 3"
VOWELS = f"{SAMPLE} --limit 45 --epochs 1 --hidden_size 3 --channels 3 --folds 2"
SMALL = {  # flags that keep a random run of each function short; those that apply a model use what is there, if any
    "lstm_ae_toy": {"plot_examples": "", "reconstruct": TINY, "encode": "", "anomalies": ""},
    "lstm_ae_mnist": {
        "reconstruct": f"{SAMPLE} {TINY} --model fc",
        "classify": f"{SAMPLE} {TINY} --channels 2",
        "encode": "",
    },
    "lstm_ae_snp500": {
        "plot_prices": SAMPLE,
        "reconstruct": f"{SAMPLE} {TINY}",
        "predict": f"{SAMPLE} {TINY} --window 10",
        "tomorrow": "",
    },
    "lstm_ae_series": {"train": f"{TINY} --code_size 2 --window 8", "encode": ""},
    "adv_alstm": {"train": f"{SAMPLE} {TINY}", "plot": f"{SAMPLE} {TINY}", "predict": SAMPLE},
    "jv_training": {
        "basic": VOWELS,
        "adversarial": f"{VOWELS} --basic_epochs 1 --epsilon .1",
        "proximal": f"{VOWELS} --basic_epochs 1 --epsilon .1",
    },
    "stocktwits_sentiment": {
        "train": f"{SAMPLE} --limit 40 --epochs 1 --lstm_sizes 3 --embedding_size 4",
        "baseline": SAMPLE,
    },
}
IGNORED = ("dataclasses", "copy", *(f"lstm_studies.training.{name}" for name in ("settings", "presets", "flags")))
HARMLESS = {"quiet", "output_dir", "data_dir", "jobs", "backend", "dry_run", "resume", "threads", "device", "seeds"}
HARMLESS |= {"scheduler", "tensorboard", "checkpoint_every"}
NUMBERS = {  # small ones, and some that are too small or too large
    int: ["1", "2", "3", "5", "7", "14", "0", "4"],
    float: [".1", ".01", "1e-4", "0", ".3", ".5", ".9", "1", "1.5", "-1"],
    str: ["x", "1"],
    Path: ["x"],
}


def random_values(flag: Flag, generator: random.Random) -> list[str]:
    if flag.kind.type is bool:
        return []
    count = generator.choice((1, 1, 2)) if flag.takes_several else 1
    return [generator.choice(flag.kind.choices or NUMBERS[flag.kind.type]) for _ in range(count)]


def random_argv(name: str, generator: random.Random) -> tuple[list[str], list[str]]:
    """A command line with up to four flags at random beside those that keep it short, and their names."""
    declared = script(name).SCRIPT
    function, usual = generator.choice([*SMALL[name].items()])
    flags = flags_of(declared.functions[function])
    free = [flag for flag in flags if flag not in HARMLESS and f"--{flag}" not in usual.split()]
    names = generator.sample(free, min(len(free), generator.randint(0, 4)))
    argv = ["--function", function, *usual.split(), "--preset", generator.choice([*declared.presets])]
    for flag in names:
        argv += [f"--{flag}", *random_values(flags[flag], generator)]
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


@pytest.mark.parametrize("name", SCRIPTS)
def test_flags_at_random(name, tmp_path, monkeypatch, capsys, thorough, count, reads, no_flush):
    without_figures(monkeypatch)
    generator, module = random.Random(0), script(name)

    def main(*argv: str) -> dict:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return module.main([*argv, "--quiet"])

    for number in range(500 if thorough else 6):
        argv, names = random_argv(name, generator)
        folder = ["--output_dir", str(tmp_path / str(number % 3))]
        reads.clear()
        capsys.readouterr()
        shown = " ".join(argv)
        try:
            metrics = main(*argv, *folder)
        except SystemExit as stopped:
            line = capsys.readouterr().err
            assert stopped.code in (1, 2) and line.count("\n") == 1 and "Traceback" not in line, (shown, line)
            assert stopped.code == 2 or "loss" in line, (shown, line)  # status 1: it diverged
        else:
            assert set(names) <= reads, (shown, set(names) - reads)
            if issubclass(module.SCRIPT.functions[argv[1]], Training) and (thorough or number % 3 == 0):
                assert same(without_seconds(main(*argv[:2], *folder, "--dry_run")), without_seconds(metrics)), shown
        count(1)
