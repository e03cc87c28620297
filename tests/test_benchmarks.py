"""What the benchmarks write; what they measure is not a test's business."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench_memory  # noqa: E402
import record  # noqa: E402
from record import Row  # noqa: E402

from lstm_studies.reporting.studies import STUDIES  # noqa: E402
from lstm_studies.training import flags  # noqa: E402


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    return tmp_path


ROWS = [Row("small", {"ours": 0.002, "theirs": 0.005}, 2.5, ">= 2"), Row("large", {"ours": 1.0, "theirs": 90.0}, 90.0)]


def test_table(results, capsys):
    assert record.record("speed", "Speed of both", "What is compared.", ROWS) == ROWS
    lines = (results / "benchmarks.md").read_text().splitlines()
    start = lines.index("## Speed of both")
    assert lines[start + 2] == "What is compared." and lines[start + 4] == "`benchmarks/bench_speed.py`."
    assert lines[start + 6] == "![Figure](bench_speed_of_both.png)"
    assert lines[start + 8 : start + 12] == [
        "|what (ms)|ours|theirs|ratio|target|",
        "|---|---|---|---|---|",
        "|small|2.00|5.00|2.50|≥2|",
        "|large|1,000|90,000|90.00|-|",
    ]
    assert (results / "bench_speed_of_both.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines() == [
        "small: ours 2.00 ms, theirs 5.00 ms, ratio 2.50, target >= 2",
        "large: ours 1.00 s, theirs 90.0 s, ratio 90.00",
    ]


def test_a_section_is_replaced_and_the_others_stay(results):
    record.record("speed", "Speed", "", ROWS)
    record.record("memory", "Memory", "", [Row("one", {"peak": 1234.0}), Row("two", {"other": 5.0})], "MiB")
    record.record("speed", "Speed", "", ROWS[:1])
    sections = json.loads((results / "benchmarks.json").read_text())
    assert list(sections) == ["Speed", "Memory"] and len(sections["Speed"]["rows"]) == 1
    page = (results / "benchmarks.md").read_text()
    assert "large" not in page and "|what (MiB)|peak|other|\n|---|---|---|\n|one|1,234|-|" in page


def test_a_table_that_its_figure_shows_completely_is_left_out(results):
    record.record("memory", "Memory", "", [Row("one", {"peak": 3.0}), Row("two", {"peak": 5.0})], "MiB")
    page = (results / "benchmarks.md").read_text()
    assert "bench_memory.png" in page and "|one|" not in page


def test_another_machine_is_named(results, monkeypatch):
    for title in ("A", "B", "C"):
        monkeypatch.setattr(record, "processor", lambda title=title: "one" if title < "C" else "another")
        record.record("speed", title, "", ROWS)
    page = (results / "benchmarks.md").read_text()
    assert page.count("one, torch") == 1 and page.count("`benchmarks/bench_speed.py`, another, torch") == 1


def test_a_section_with_a_figure_of_its_own_is_not_drawn(results):
    record.record("speed", "Speed", "About.", ROWS, figure="own.png")
    assert "![Figure](own.png)" in (results / "benchmarks.md").read_text()
    assert not list(results.glob("*.png"))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (150, "s", "2.50 min"),
        (119, "s", "119 s"),
        (1, "s", "1.00 s"),
        (0.25, "s", "250 ms"),
        (2e-6, "s", "2.00 us"),
        (0.0, "s", "0.00 us"),
        (1234.4, "MiB", "1,234 MiB"),
    ],
)
def test_amounts(value, unit, text):
    assert record.amount(value, unit) == text


def test_without_rows_nothing_is_written(results):
    assert record.record("speed", "Speed", "", []) == [] and not list(results.iterdir())


def section_of(*rows, unit="s"):
    return {"rows": [row._asdict() for row in rows], "unit": unit}


def test_bars_are_the_ratios_with_their_targets():
    without = Row("alone", {"ours": 1.0})
    assert record.bars_of(section_of(*ROWS, without)) == [("small", 2.5, "2.50", 2.0), ("large", 90.0, "90.00", None)]
    assert record.number(12061.4) == "12,061" and record.number_in("<= 2.5 GiB") == 2.5


def test_bars_without_ratios():
    one = [Row("a", {"peak": 3.0}), Row("b", {"peak": 4.0})]
    assert record.bars_of(section_of(*one, unit="MiB")) == [("a", 3.0, "3 MiB", None), ("b", 4.0, "4 MiB", None)]
    first_of_several = [Row("a", {"x": 1.0, "y": 2.0}), Row("b", {"x": 3.0})]
    assert [bar[:2] for bar in record.bars_of(section_of(*first_of_several))] == [("a, x", 1.0), ("b, x", 3.0)]
    all_of_one = section_of(Row("a", {"x": 1.0, "y": 2.0}))
    assert [bar[:2] for bar in record.bars_of(all_of_one)] == [("a, x", 1.0), ("a, y", 2.0)]


def test_the_target_of_a_row_without_ratio_is_in_the_table(results):
    record.record("start", "Start", "", [Row("a", {"x": 1.0}, None, "< 2 s")])
    assert "|what (s)|x|target|\n|---|---|---|\n|a|1.00|<2 s|" in (results / "benchmarks.md").read_text()


@pytest.mark.parametrize(("value", "unit", "text"), [(99.96, "s", "100"), (0.05, "ms", "0.0500"), (0.6, "MiB", "1")])
def test_numbers_of_a_table(value, unit, text):
    assert record.cell(value, unit) == text


def test_wall_clock_time_is_named(results):
    record.record("grid", "Grid", "", ROWS)
    assert "`benchmarks/bench_grid.py`, wall-clock time.\n" in (results / "benchmarks.md").read_text()


def test_every_benchmark_is_run_by_make():
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("BENCHMARKS :=")]
    scripts = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    assert set(line.split()[2:]) == scripts


@pytest.mark.parametrize("study", [study for study in STUDIES if study.numbers], ids=lambda study: study.path)
def test_the_commands_whose_memory_is_measured_are_accepted(study, tmp_path):
    script = importlib.import_module(study.script).SCRIPT
    for argv in bench_memory.commands(study, str(tmp_path)):
        (request,) = flags.parse(script, argv).values()
        assert getattr(request, "epochs", 1) == 1 or "epochs" not in str(argv)
