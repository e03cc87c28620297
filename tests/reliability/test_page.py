"""docs/reliability.md: every test that it names is there, and its numbers are those that were counted."""

import json
import re

from conftest import PAGE
from trainings import ROOT


def test_the_page_shows_what_was_counted():
    sources = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    rows = [line[1:-1].split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    shown = {}
    for _, tests, cases in rows:
        for file, name in re.findall(r"`(test_\w+\.py)::(\w+)`", tests):
            assert f"\ndef {name}(" in sources[file], (file, name)
            if cases.strip() and cases.split()[0] != "–":  # not counted yet
                shown[name] = int(cases.split()[0].replace(",", ""))
    counts = json.loads((ROOT / "docs" / "results" / "reliability.json").read_text())
    assert shown == counts and all(counts.values())
