"""Fixtures of several test modules."""

import argparse
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loaders.files import DataError

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
COUNTS = Counter()  # of what the tests marked `reliability` tried, by test


def pytest_addoption(parser):
    parser.addoption(
        "--counts",
        type=Path,
        metavar="FILE",
        help="JSON file for what the reliability tests counted; docs/reliability.md gets the numbers, too",
    )


def pytest_sessionfinish(session, exitstatus):
    file = session.config.getoption("--counts")
    if file and exitstatus == 0:
        file.write_text(json.dumps(dict(sorted(COUNTS.items())), indent=2) + "\n")
        text = PAGE.read_text()
        for name, number in COUNTS.items():
            text = re.sub(rf"(::{name}` \| )[\d,–]+", rf"\g<1>{number:,}", text)
        PAGE.write_text(text)


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


def make_flags(**values) -> argparse.Namespace:
    """All flags that `loop.train` and `grid_search.fit` read, for a training of milliseconds."""
    defaults = {
        "function": None,
        "dry_run": False,
        "hidden_size": 4,
        "num_layers": 1,
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "gradient_clipping": 1.0,
        "optimizer": "Adam",
        "weight_decay": 0.0,
        "patience": 0,
        "precision": "float32",
        "data_dir": Path("data"),
        "source": "sample",
        "limit": None,
        "seed": 0,
        "seeds": 1,
        "device": "cpu",
        "threads": 1,
        "jobs": 1,
        "backend": "loky",
        "scheduler": None,
        "output_dir": Path("outputs"),
        "resume": False,
        "checkpoint_every": 30.0,
        "tensorboard": False,
        "quiet": True,
    }
    unknown = set(values) - set(defaults)
    assert not unknown, f"not a flag: {unknown}"
    return argparse.Namespace(**{**defaults, **values})


@pytest.fixture
def flags():
    """A function that makes a namespace of flags, tiny values for those that are not given."""
    return make_flags


@pytest.fixture
def no_flush(monkeypatch):
    """Leaves out the flushes to the disk: they protect from a loss of power, and take half of a tiny test."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
