"""The pages of the report, from made-up results."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lstm_studies.reporting import report
from lstm_studies.reporting.report import Failure, Result
from lstm_studies.reporting.studies import CAPTIONS, FINDINGS, STUDIES, Number, Study

ROOT = Path(__file__).parent.parent
NUMBERS = (
    Number("test MSE", "test_mse", "mse", "pca_mse", "PCA", published=1e-4, note="elsewhere", goal_ratio=1.0),
    Number("accuracy", "test_accuracy", "accuracy", "majority_accuracy", "majority", goal=0.9),
)
WAVES = Study(
    "lstm_ae_toy",
    "reconstruct",
    "Waves & more",
    "Is <it> good?",
    answer="{{ n['test_mse'].explained }} is <explained>, {{ n['test_accuracy'].compared }}.",
    figure="second",
    numbers=NUMBERS,
)
MISSING = Study("lstm_ae_mnist", "classify", "Digits", "Which digit?", numbers=NUMBERS)
METRICS = {"test_mse": 0.1, "pca_mse": 0.4, "mean_mse": 1.0, "data": "sample"}
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
    runs = {}
    for preset, factor in (("best", 1.0), ("published", 2.0)):
        folder = tmp_path / preset
        folder.mkdir()
        metrics = METRICS | {"test_mse": factor * METRICS["test_mse"]}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "config.json").write_text(json.dumps({"versions": {"torch": "9.9"}, "machine": "a <processor>"}))
        for name in ("first", "second"):
            (folder / f"{name}.png").write_bytes(PIXEL)
        runs[preset] = Result(metrics, 1.25, folder)
    return {WAVES: runs, MISSING: {"best": Failure("no <data>", unavailable=True)}}


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
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(results, tmp_path):
    return Page(report.write_report(results, "full", tmp_path).read_text())


def test_the_page_holds_everything_and_asks_for_nothing(page, tmp_path):
    for image in page.images[:-1]:  # the last one is where figures open large
        assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PIXEL
        assert image["alt"].startswith("Waves & more: ")
    assert len(page.images) == 2 + 2 + 1
    links = {value for name, value in page.attributes if name in ("href", "src")}
    files = {link for link in links if not link.startswith(("#", "data:"))}
    assert files == {"../best/metrics.json", "../published/metrics.json"}
    assert all((tmp_path / "report" / file).exists() for file in files)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert {"lstm_ae_toy", "lstm_ae_toy-reconstruct", "methods", "missing"} <= anchors


def test_a_page_whose_figures_stay_where_they_are(results, tmp_path):
    page = Page(report.write_report(results, "full", tmp_path, embed=False).read_text())
    sources = [image["src"] for image in page.images[:-1]]
    assert "../best/second.png" in sources and all((tmp_path / "report" / source).exists() for source in sources)


def test_what_the_page_says(page):
    text = " ".join(page.text.split())
    assert "Is <it> good? 90.0 % is <explained>, 30.0 points above majority. As published: 0.200." in text
    assert "Digits: no <data> python lstm_ae_mnist.py --function classify" in text
    assert "0.100 0.200 4.0 × lower PCA 0.400 90.0 % 0.000100, elsewhere below PCA ✓ reached" in text
    assert "80.0 ± 2.0 % 80.0 ± 2.0 % +30.0 points majority 50.0 %" in text
    assert "1 studies; 1 of 2 targets reached." in text and "Here: the bundled sample." in text
    assert "Measured on: a <processor>." in text and "torch 9.9" in text


def test_the_studys_own_figure_is_first(results, tmp_path):
    section, _ = report.sections_of(results, tmp_path)
    assert [path.stem for path in section.first.figures] == ["second", "first"]


def test_the_markdown_page(results, tmp_path):
    report.write_report(results, "full", tmp_path)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| number | best | as published | baseline | literature | target | |" in text
    assert "| test MSE | 0.100 | 0.200 | PCA 0.400 | 0.000100, elsewhere | below PCA | reached |" in text
    assert "![Waves & more: Second](../best/second.png)" in text and "- Digits: no <data>" in text
    assert "{{" not in text and "\n\n\n\n" not in text


def test_the_table_has_one_row_per_study(results):
    lines = report.markdown_table(results, "page.md").splitlines()
    name, numbers = "[Waves & more](page.md#waves--more)", "0.100 | 0.200 | PCA 0.400 | 0.000100, elsewhere"
    assert lines[2:] == [f"| {name} | test MSE | {numbers} | below PCA | reached |"]


def test_the_summary_has_a_row_per_number_and_preset(results):
    rows = report.summary_of(results)
    assert [(row["preset"], row["metric"]) for row in rows] == [
        ("best", "test MSE"),
        ("best", "accuracy"),
        ("published", "test MSE"),
        ("published", "accuracy"),
    ]


def test_a_study_without_an_answer_of_its_own_says_its_numbers(results, tmp_path):
    (section, _) = report.sections_of(results, tmp_path)
    plain = report.Section(Study("x", "y", "", "", answer="{{ n['absent'].text }}"), section.runs, {})
    assert report.sentence(plain.study.answer, section.first) == ""
    assert section.first.rows[0].says in plain.answer


@pytest.mark.parametrize(
    ("ratio", "place"), [(0.004, 0), (2.5, 100), (1e-9, 0), (99, 100), (0.1, 50), (0, 0), (None, None)]
)
def test_places_on_the_axis(ratio, place):
    assert report.place(ratio) == place


def test_every_script_of_the_report_lists_its_deviations():
    for script in {study.script for study in STUDIES}:
        listed = report.deviations(script)
        assert len(listed) >= 2 and all(len(item) > 40 and "\n" not in item for item in listed)


def test_every_published_figure_has_a_caption_and_every_named_figure_exists():
    results = ROOT / "docs" / "results"
    for path in results.glob("*/*/*.png"):
        assert path.stem in {**CAPTIONS, **CAPTIONS.get(path.parts[-3], {})}, path
    named = {(study.path, study.figure) for study in STUDIES if study.figure}
    named |= {(finding.study, finding.figure) for finding in FINDINGS}
    for path, figure in named:
        assert not (results / path).exists() or (results / path / f"{figure}.png").exists(), (path, figure)


def test_every_answer_and_finding_can_be_made_from_the_published_numbers():
    folders = {study: ROOT / "docs" / "results" / study.path for study in STUDIES}
    results = {
        study: {"best": Result(report.read_json(folder / "metrics.json"), 1.0, folder)}
        for study, folder in folders.items()
        if (folder / "metrics.json").exists()
    }
    sections = report.sections_of(results, ROOT)
    for section in sections:
        if section.study.numbers:
            assert section.study.answer and report.sentence(section.study.answer, section.first), section.study.path
    assert len(report.findings_of(sections)) == len(FINDINGS) == 5


def test_no_line_breaks_inside_a_number():
    assert report.unbroken("54.7 ± 2.4 % of 3 men, 2.0 points") == "54.7\xa0±\xa02.4\xa0% of 3 men, 2.0\xa0points"
