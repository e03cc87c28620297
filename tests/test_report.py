"""The pages of the report, from made-up results."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lstm_studies.reporting import report
from lstm_studies.reporting.report import Failure, Run, Section
from lstm_studies.reporting.studies import CHAPTERS, STUDIES, Number, Study

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
NUMBERS = (
    Number("test MSE", "test_mse", "mse", "pca_mse", "PCA", published=1e-4, published_note="elsewhere", target_ratio=1),
    Number("accuracy", "test_accuracy", "accuracy", "majority_accuracy", "majority", target=0.9),
)
WAVES = Study(
    "lstm_ae_toy",
    "reconstruct",
    "Waves & more",
    "Is <it> good?",
    finding="{n[test_mse].explained} is <explained>.",
    figures=("second",),
    numbers=NUMBERS,
)
MISSING = Study("lstm_ae_mnist", "classify", "Digits", "Which digit?", finding="{n[test_mse].text}", numbers=NUMBERS)
METRICS = {"test_mse": 0.1, "pca_mse": 0.4, "mean_mse": 1.0, "data": "sample", "seconds": 75.0}
METRICS |= {
    "test_accuracy": 0.95,
    "test_accuracy_mean": 0.8,
    "test_accuracy_std": 0.02,
    "majority_accuracy": 0.5,
    "seeds": 3,
}
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEANl9ngAAAAABJRU5ErkJggg==")


@pytest.fixture
def results(tmp_path):
    """Two presets of one study, and a study that is missing."""
    runs = []
    for preset, factor in (("best", 1.0), ("published", 2.0)):
        folder = tmp_path / preset
        folder.mkdir()
        metrics = {"lstm": METRICS | {"test_mse": factor * METRICS["test_mse"]}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "config.json").write_text(json.dumps({"versions": {"torch": "9.9"}, "machine": "a <processor>"}))
        for name in ("first", "second"):
            (folder / f"{name}.png").write_bytes(PIXEL)
        runs.append(Run(WAVES, preset, metrics, folder))
    return [*runs, Failure(MISSING, "best", "no <data>", unavailable=True)]


class Page(HTMLParser):
    """Checks that tags are closed in order; collects attributes, images and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.images, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "p") else ""

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(results, tmp_path):
    return Page(report.write_page(results, "full", tmp_path / "report").read_text())


def test_the_page_holds_everything_and_asks_for_nothing(page, tmp_path):
    for image in page.images[:-1]:  # the last one is where figures open large
        assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PIXEL
    assert len(page.images) == 1 + 2 + 2 + 1  # the finding's, those of both runs
    assert [image["alt"] for image in page.images[1:3]] == ["Waves & more: Second", "Waves & more: First"]
    links = {value for name, value in page.attributes if name in ("href", "src")}
    files = {link for link in links if not link.startswith(("#", "data:"))}
    assert files == {"../best/metrics.json", "../published/metrics.json"}
    assert all((tmp_path / "report" / file).exists() for file in files)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert {"lstm_ae_toy", "lstm_ae_toy-reconstruct", "methods", "failures"} <= anchors


def test_what_the_page_says(page):
    text = " ".join(page.text.split())
    assert "90.0 % is <explained>. Waves & more" in text and "Is <it> good?" in text
    assert "Digits: no <data> python lstm_ae_mnist.py --function classify" in text
    assert "0.100 0.200 PCA 0.400 4.0 × lower 90.0 % 0.000100, elsewhere below PCA reached" in text
    assert "80.0 ± 2.0 % 80.0 ± 2.0 % majority 50.0 % +30.0 points" in text
    assert "2 studies" not in text and "1 studies; 1 of 2 targets reached." in text and "1 failed." in text
    assert "best, 1.2 minutes on a <processor>, bundled sample, metrics.json" in text
    assert "Measured on: a <processor>." in text and "torch 9.9" in text


def test_the_markdown_page(results, tmp_path):
    text = report.markdown_page(results, tmp_path / "report")
    assert "| number | best | as published | n | baseline | looks | literature | target |" in text
    assert "| test MSE | 0.100 | 0.200 | 3 | PCA 0.400 |  | 0.000100, elsewhere | below PCA: reached |" in text
    assert "![Waves & more, as published: Second](../published/second.png)" in text
    assert "--preset published` (1.2 minutes): [all numbers](../published/metrics.json)" in text
    assert "{{" not in text and "\n\n\n\n" not in text


def test_the_table_has_one_row_per_study(results):
    lines = report.markdown_table(results, "page.md").splitlines()
    name, numbers = "[Waves & more](page.md#waves--more)", "0.100 | 3 | 0.200 | PCA 0.400 |  | 0.000100, elsewhere"
    assert lines[2:] == [f"| {name} | test MSE | {numbers} | below PCA: reached |"]


def test_the_summary_has_a_row_per_number_and_preset(results):
    rows = report.summary_of(results)
    names = [(row["preset"], row["metric"]) for row in rows]
    assert names == [(preset, number.label) for preset in ("best", "published") for number in NUMBERS]
    expected = {"study": "Waves & more", "value": 0.8, "std": 0.02, "seeds": 3, "baseline": 0.5, "published": None}
    expected |= {"target": 0.9, "target_verdict": "missed", "minutes": 1.2, "data": "sample"}
    assert expected.items() <= rows[1].items() and rows[1]["command"] == "python lstm_ae_toy.py --function reconstruct"


def test_opponents_of_another_study():
    classes = (Number("accuracy", "a", "accuracy", opponent="cnn/a", opponent_name="CNN"),)
    ours = Study("lstm_ae_toy", "classify", "", "", opponents="lstm_ae_toy/opponents", numbers=classes)
    theirs = Study("lstm_ae_toy", "opponents", "", "")
    runs = [
        Run(ours, "best", {"fc": {"a": 0.9}}, ROOT),
        Run(ours, "published", {"fc": {"a": 0.8}}, ROOT),
        Failure(MISSING, "best", "no data"),
        Run(theirs, "best", {"cnn": {"a": 0.95}}, ROOT),
    ]
    best, published, failed, _ = report.with_opponents(runs)
    assert best.rows["a"].opponent == published.rows["a"].opponent == 0.95 and failed is runs[2]
    assert report.with_opponents(runs[:1])[0].rows["a"].opponent is None


def test_a_finding_needs_its_numbers(results):
    assert Section(WAVES, results[:1]).finding and not Section(WAVES, []).finding and not Section(MISSING, []).finding
    assert not Section(WAVES, [Run(WAVES, "best", {}, ROOT)]).finding


def test_minutes_and_data_are_those_of_all_models():
    run = Run(
        WAVES, "best", {"always_up": {}, "fc": {"seconds": 30.0, "data": "full"}, "conv": {"seconds": 90.0}}, ROOT
    )
    assert (run.minutes, run.source) == (2.0, "full")
    assert Run(WAVES, "best", {"prices": {}}, ROOT).source is None


@pytest.mark.parametrize(("ratio", "position"), [(0.004, 0), (2.5, 100), (1e-9, 0), (99, 100), (0.1, 50), (0, 0)])
def test_positions_on_the_axis(ratio, position):
    assert report.position(ratio) == position


@pytest.mark.parametrize(("minutes", "text"), [(0.001, "1 s"), (0.5, "30 s"), (12.24, "12.2 minutes")])
def test_durations(minutes, text):
    assert report.duration(minutes) == text


def test_every_script_of_the_report_lists_its_deviations():
    for script in CHAPTERS:
        listed = report.deviations(script)
        assert len(listed) >= 2 and all(len(item) > 40 and "\n" not in item for item in listed)
    assert report.deviations("lstm_ae_mnist")[0].startswith("Where one flag set both")  # a line before begins with 784.


def test_every_published_figure_has_a_caption_and_every_named_figure_exists():
    for path in RESULTS.glob("*/*/*.png"):
        assert path.stem in CHAPTERS[path.parts[-3]].captions, path
    for study in STUDIES:
        for figure in study.figures:
            assert (RESULTS / study.path / f"{figure}.png").exists(), (study.path, figure)


def test_every_finding_can_be_made_from_the_published_numbers():
    runs = [Run(study, "best", report.read_json(RESULTS / study.path / "metrics.json"), ROOT) for study in STUDIES]
    runs = report.with_opponents(runs)
    found = [Section(run.study, [run]).finding for run in runs if run.study.finding]
    assert len(found) == 4 and all(found)
