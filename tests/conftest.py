"""Fixtures of several test modules."""

import dataclasses
import functools
import gc
import inspect
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import trainings
from tiny_training import SCRIPT, Fit

from lstm_studies.loaders.files import DataError
from lstm_studies.reporting import movement, plots, series
from lstm_studies.training.run import run_script

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
COUNTS = Counter()  # of what the tests marked `reliability` tried, by test
COUNTS_FILE: list[Path] = []  # the one of --counts
FAILED: set[str] = set()  # tests of which a case failed


def pytest_addoption(parser):
    parser.addoption(
        "--counts",
        type=Path,
        metavar="FILE",
        help="JSON file for what the reliability tests counted; docs/reliability.md gets the numbers, too",
    )
    parser.addoption("--long", action="store_true", help="the soak of `make reliability` at its full length, hours")
    parser.addoption("--seed", type=int, default=0, help="seed of the soak's random moments")


def pytest_runtest_logfinish(nodeid, location):
    """After each test, since `make reliability LONG=1` takes hours: what it counted, unless a case of it failed."""
    name = location[2].partition("[")[0]
    if COUNTS_FILE and (name in COUNTS or name in FAILED):
        file = COUNTS_FILE[0]
        known = json.loads(file.read_text()) if file.exists() else {}  # of tests that this session left out
        counts = {test: number for test, number in {**known, **COUNTS}.items() if test not in FAILED}
        file.write_text(json.dumps(dict(sorted(counts.items())), indent=2) + "\n")
        number = f"{counts[name]:,}" if name in counts else "–"
        PAGE.write_text(re.sub(rf"(::{name}` *\| *)[\d,–]+", rf"\g<1>{number}", PAGE.read_text()))


def pytest_runtest_logreport(report):
    if report.failed:
        FAILED.add(report.location[2].partition("[")[0])


def pytest_configure(config):
    if file := config.getoption("--counts"):
        COUNTS_FILE.append(file)


@pytest.fixture
def count(request):
    """count(number): so many cases of this test were tried and passed."""

    def add(number: int) -> None:
        COUNTS[request.function.__name__] += number

    return add


@pytest.fixture(params=["short", pytest.param("full", marks=pytest.mark.reliability)])
def thorough(request) -> bool:
    """False in `make test`, True in `make reliability`: one test, two sizes."""
    return request.param == "full"


@pytest.fixture
def fuzz(thorough, count, tmp_path, capsys):
    """fuzz(strategy, load, check): for each example, `load(example)` gives what `check` accepts, or a DataError.

    The examples are the same ones every time; `short` of them in `make test`.
    """
    from hypothesis import HealthCheck, Phase, given, settings

    def run(strategy, load, check, short=25, mixed=True):
        outcomes = []

        @settings(
            max_examples=500 if thorough else short,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def one(example):
            try:
                result = load(example)
            except DataError as error:
                message = str(error)
                named = str(tmp_path) in message or ": error: --" in message  # the file or the flag
                assert named and message.isprintable() and len(message) < 2000, message
                outcomes.append(False)
            else:
                check(result)
                outcomes.append(True)

        one()
        # the files are neither all good nor all bad
        assert not mixed or len(outcomes) < 25 or {*outcomes} == {True, False}
        count(len(outcomes))

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """tiny_model(name): the run folder of a model of `tiny_models.MODELS`, which is trained once."""
    import tiny_models  # which imports Hypothesis

    @functools.cache
    def train(name):
        with pytest.MonkeyPatch.context() as patch:
            without_figures(patch)
            return tiny_models.train(name, tmp_path_factory.mktemp(name))

    return train


@pytest.fixture
def run(monkeypatch, no_flush):
    """run(training, folder, *flags): the metrics of one of `trainings.ALL`, without figures."""
    without_figures(monkeypatch)
    return trainings.run


@pytest.fixture
def door(tmp_path, monkeypatch, capsys):
    """door(script, *argv): the metrics of the script's only model; DataError if it ends as for bad input."""
    without_figures(monkeypatch)
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 1)  # it counts them, a sixth of the time of a tiny run
    monkeypatch.setattr("lstm_studies.training.run.describe_run", lambda request: {})  # asks git

    def run(name, *argv):
        script = trainings.script(name)
        capsys.readouterr()
        try:
            metrics = script.main([*map(str, argv), "--quiet", "--output_dir", str(tmp_path / "outputs")])
        except SystemExit as end:
            output = capsys.readouterr()
            errors = [line for line in output.err.splitlines() if not line.startswith("NOTICE")]
            assert end.code == 2 and len(errors) == 1 and not output.out, (end.code, output)
            raise DataError(errors[0]) from None
        return next(iter(metrics.values()))

    return run


def fails(expected, function, *arguments, **named):
    """The call ends in a DataError of one printable line that contains all of `expected`."""
    with pytest.raises(DataError) as caught:
        function(*arguments, **named)
    message = str(caught.value)
    assert message.isprintable()
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in message, message
    return message


def damaged_at_random(whole, count):
    """`count` variants of the bytes, three of them changed in each, and three in ten variants cut short."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        data = bytearray(whole)
        for place in rng.integers(len(data), size=3):
            data[place] = rng.integers(256)
        yield data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data


def run_functions(functions: dict, output_dir: Path, **values) -> dict:
    """`run_script` with flags given by hand, of a script whose functions all have the settings `Fit`."""
    script = dataclasses.replace(SCRIPT, functions=dict.fromkeys(functions, Fit), module="")
    argv = ["--output_dir", str(output_dir)]
    for name, value in {"quiet": True, **values}.items():
        argv += [f"--{name}"] * (value is not False) + [str(value)] * (not isinstance(value, bool))
    return run_script(script, functions, argv)


def one_line(capsys) -> str:
    """What was written to standard error: one line, beside the notice that a golden run had another Python."""
    lines = capsys.readouterr().err.splitlines(keepends=True)
    text = "".join(lines if len(lines) == 1 else [line for line in lines if not line.startswith("NOTICE: --resume")])
    assert text.endswith("\n") and text.count("\n") == 1, text
    return text


def without_figures(monkeypatch) -> None:
    """Leaves out the drawing of all figures, which takes longer than tiny trainings."""
    scripts = map(trainings.script, trainings.SCRIPTS)  # all, so that none is imported with what is put here
    drawing = {value for value in vars(plots).values() if getattr(value, "__module__", "") == plots.__name__}
    drawing |= {movement.starts, series.plot_anomalies}
    for module in (plots, movement, series, *scripts):
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value in drawing:
                monkeypatch.setattr(module, name, lambda *_, **__: None)


DRAWN: set[str] = set()  # names of the figures that this process has drawn


@pytest.fixture(autouse=True)
def each_figure_once(request, monkeypatch):
    """Draws the first figure of each name and leaves later ones empty: drawing takes a fifth of the tests' time."""
    save = plots.save

    def save_or_touch(figure, path):
        if path.name not in DRAWN:
            DRAWN.add(path.name)
            return save(figure, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        plots.plt.close(figure)
        return path

    if request.module.__name__ not in ("test_plots", "test_reproduce"):  # which look into the files
        monkeypatch.setattr(plots, "save", save_or_touch)


@pytest.fixture
def no_flush(monkeypatch):
    """Leaves out the flushes to the disk: they protect from a loss of power, and take half of a tiny test."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
