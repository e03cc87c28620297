"""The ablations: every command is one that its script takes, and differences are those of the rows."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import ablations
from ablations import STUDIES

from lstm_studies.training import flags


@pytest.mark.parametrize("name", STUDIES)
def test_each_row_is_a_command_that_changes_something(name, monkeypatch):
    study, seen = STUDIES[name], []
    script = importlib.import_module(study.command.split()[0].removesuffix(".py")).SCRIPT

    def parse(argv):
        (request,) = flags.parse(script, argv).values()
        seen.append({key: value for key, value in request.values.items() if key != "output_dir"})
        return {study.model: {study.key: 0.5}}

    monkeypatch.setattr(importlib.import_module(script.name), "main", parse)
    changes = ["", *study.changes.values(), *(f"{study.limit_flags} --limit {limit}" for limit in study.limits)]
    assert [ablations.number_of(study, change, 3) for change in changes] == [0.5] * len(changes)
    assert all(values["seed"] == 3 for values in seen) and all(values != seen[0] for values in seen[1:])


def test_rows_and_page(tmp_path, monkeypatch):
    values = {"": (1.0, 1.1, 1.2), "--schedule constant": (2.0, 2.1, 2.2)}
    monkeypatch.setattr(ablations, "number_of", lambda study, flags, seed: values.get(flags.strip(), (1.1,) * 3)[seed])
    results = ablations.main(["--studies", "prices", "--output_dir", str(tmp_path)])
    whole, *rows = results["prices"]["rows"]
    assert "difference" not in whole and rows[-1]["difference"] == pytest.approx(1.0)
    half = 2.776 * (2 * 0.1**2 / 3) ** 0.5  # Student's quantile with four degrees of freedom
    assert rows[-1]["high"] - rows[-1]["low"] == pytest.approx(2 * half, rel=1e-3)
    page = (tmp_path / "ablations.md").read_text()
    assert "|constant learning rate|2.1000 ± 0.1000|worse: +1.0000 [+0.7733, +1.2267]|" in page
    assert page.count("\n|") == 4 + 1 + len(rows) + len(STUDIES["prices"].limits)
