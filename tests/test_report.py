"""The report, from made-up results and chapters; then the real chapters with the published results."""

import ast
import base64
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import reproduce
from lstm_studies.reporting import chapters, report
from lstm_studies.reporting.chapters import Chapter, ChapterError
from lstm_studies.reporting.runs import Failure, Run, duration, with_opponents
from lstm_studies.reporting.studies import CAPTIONS, HEADLINES, STUDIES, TITLES, Number, Study

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
NUMBERS = (
    Number("test MSE", "test_mse", "mse", "pca_mse", "PCA", published=1e-4, published_note="elsewhere", target_ratio=1),
    Number("accuracy", "test_accuracy", "accuracy", "majority_accuracy", "majority", target=0.9),
)
WAVES = Study("lstm_ae_toy", "reconstruct", "Waves & more", figures=("second",), numbers=NUMBERS)
MISSING = Study("lstm_ae_mnist", "classify", "Digits", numbers=NUMBERS)
METRICS = {"test_mse": 0.1, "pca_mse": 0.4, "mean_mse": 1.0, "data": "sample", "seconds": 75.0}
METRICS |= {
    "test_accuracy": 0.95,
    "test_accuracy_mean": 0.8,
    "test_accuracy_std": 0.02,
    "majority_accuracy": 0.5,
    "seeds": 3,
}
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEANl9ngAAAAABJRU5ErkJggg==")
CHAPTER = """The error is {{ number("reconstruct", "test_mse").text }}, as published
{{ number("reconstruct", "test_mse", "published").text }}, of PCA {{ value("reconstruct", "lstm", "pca_mse") }}; see
[usage](lstm_ae_toy.md#use).

## Figures

{{ diagram("cell") }}

{{ figure("reconstruct", "loss") }}

{{ figure("reconstruct", "second", "published") }}

{{ results("reconstruct") }}

{{ settings("reconstruct") }}

{{ training("reconstruct") }}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the report stands, beside chapters and a diagram."""
    for path, text in (
        ("chapters/lstm_ae_toy.md", CHAPTER),
        ("diagrams/cell.svg", "<svg xmlns='http://www.w3.org/2000/svg'><title>A\n  cell</title></svg>"),
    ):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(chapters, "CHAPTERS", tmp_path / "chapters")
    monkeypatch.setattr(chapters, "DOCS", tmp_path)
    return tmp_path / "report"


def finished(study, preset, folder, factor=1.0):
    """A run of a study with figures, its errors multiplied by a factor."""
    folder.mkdir()
    metrics = {"lstm": METRICS | {"test_mse": factor * METRICS["test_mse"]}}
    (folder / "config.json").write_text(json.dumps({"versions": {"torch": "9.9"}, "machine": "a <processor>"}))
    for name in ("loss", "second"):
        (folder / f"{name}.png").write_bytes(PIXEL)
    return Run(study, preset, metrics, folder)


@pytest.fixture
def published(tmp_path):
    return [finished(WAVES, "best", tmp_path / "best"), finished(WAVES, "published", tmp_path / "published", 2.0)]


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
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "p") else ""

    def handle_data(self, data):
        self.text += data


# ---- chapters --------------------------------------------------------------------------------------------------------


def test_a_chapter_is_filled_with_the_published_results(published, folder):
    text = report.markdown_page(published, folder)
    assert "The error is 0.100, as published\n0.200, of PCA 0.4; see\n[usage](../lstm_ae_toy.md#use)." in text
    assert "![A cell](../diagrams/cell.svg)" in text
    assert "|as published|best|" in text and re.search(
        r"\|!\[loss\]\(.+/published/loss.png\)\|!\[loss\]\(.+/best/loss", text
    )
    assert "\n*Second*\n" in text
    assert text.count("second.png") == 1  # of one preset only
    assert "|number|best|as published|n|baseline|literature|" in text
    assert "|test MSE|0.100|0.200|3|PCA 0.400|0.000100, elsewhere|" in text
    assert "|accuracy|80.0 ± 2.0 %|80.0 ± 2.0 %|3|majority 50.0 %|-|" in text
    assert "|`hidden_size`|192|32|" in text and "|`mirror`|yes|-|" in text and "`jobs`" not in text
    assert "The same in all columns: `gradient_clipping` 1, `optimizer` Adam, `weight_decay` 0" in text
    assert "|Waves & more|1.2 minutes|1.2 minutes|" in text and "machine: a &lt;processor&gt;; torch 9.9." in text
    assert "[Deviations from the text](" in text
    assert "{{" not in text and "\n\n\n\n" not in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ('number("classify", "a").text', "study: expected one of reconstruct; found classify"),
        ('number("reconstruct", "a").text', "number of reconstruct: expected one of test_mse, test_accuracy; found a"),
        ('number("reconstruct", "a", "quick")', "preset of reconstruct: expected one of best, published; found quick"),
        ('value("reconstruct", "gru", "a")', "model of reconstruct: expected one of lstm; found gru"),
        ('value("reconstruct", "lstm", "data/a")', "value of reconstruct, lstm: expected one of"),
        ('figure("reconstruct", "third")', "figure of reconstruct: expected one of second, loss; found third"),
        ('results("reconstruct", keys=["a"])', "number of reconstruct: expected one of test_mse, test_accuracy"),
        ('settings("train")', "function or study: expected one of reconstruct, plot_examples"),
        ('diagram("model")', "diagram: expected one of cell; found model"),
        ("numbers", "'numbers' is undefined"),
        ("number(", "unexpected 'end of template'"),
    ],
)
def test_what_a_chapter_cannot_name(published, folder, name, message):
    (folder.parent / "chapters" / "lstm_ae_toy.md").write_text(
        "{{ " + name + " }}" if name[-1] != "(" else "{{ number("
    )
    with pytest.raises(ChapterError, match=re.escape(f"chapters/lstm_ae_toy.md: {message}")):
        report.markdown_page(published, folder)


def test_a_chapter_that_is_missing(published, folder):
    (folder.parent / "chapters" / "lstm_ae_toy.md").unlink()
    with pytest.raises(ChapterError, match=r"chapters/lstm_ae_toy\.md: expected a chapter, found no file"):
        report.markdown_page(published, folder)


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_holds_everything_and_asks_for_nothing(published, folder):
    page = Page(report.write_page(published, "full", published, folder).read_text())
    types = [image["src"].partition(";base64,")[0] for image in page.images if "src" in image]
    assert types == ["data:image/svg+xml"] + 3 * ["data:image/png"]
    links = {value for name, value in page.attributes if name in ("href", "src") and not value.startswith("data:")}
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors and "synthetic-sequences" in anchors
    script = Path(os.path.relpath(ROOT / "lstm_ae_toy.py", folder)).as_posix()
    assert {link for link in links if link[0] != "#"} == {"../lstm_ae_toy.md#use", script}


def test_a_quick_run_shows_the_published_results_and_its_own_beside_them(published, folder, tmp_path):
    results = [finished(WAVES, "quick", tmp_path / "quick", 3.0), Failure(MISSING, "quick", "no <data>", True)]
    page = Page(report.write_page(published, "quick", results, folder).read_text())
    text = " ".join(page.text.split())
    assert "This page belongs to a quick run of 2 studies" in text
    assert "Digits: no <data> python lstm_ae_mnist.py --function classify" in text
    assert "study number this run published Waves & more, bundled sample test MSE 0.300 0.100" in text
    assert "The error is 0.100, as published 0.200" in text and text.count(": reached") == 1  # of the headlines
    assert len(page.images) == 1 + 3 + 2 + 1  # diagram, figures, those of the quick run, the enlarged one


def test_a_full_run_replaces_the_published_results(published, folder, tmp_path):
    results = [finished(WAVES, "published", tmp_path / "again", 4.0)]
    text = report.markdown_page(published, folder, "full", results)
    assert "a full run of 1 studies" in text and "The error is 0.100, as published\n0.400" in text
    assert "This run" not in text


def test_the_headlines_have_one_row_per_study(published):
    lines = report.markdown_table([*published, Run(MISSING, "best", {}, ROOT)], "page.md").splitlines()
    name, numbers = (
        "[Waves & more](page.md#synthetic-sequences)",
        "0.100|3|0.200|PCA 0.400||0.000100, elsewhere",
    )
    assert lines[2:] == [f"|{name}|test MSE|{numbers}|below PCA: reached|"]


def test_the_headlines_are_studies_of_all_scripts():
    assert set(HEADLINES) <= {study.path for study in STUDIES} and {path.partition("/")[0] for path in HEADLINES} == {
        *TITLES
    }


def test_the_summary_has_a_row_per_number_and_preset(published):
    rows = report.summary_of(published)
    names = [(row["preset"], row["metric"]) for row in rows]
    assert names == [(preset, number.label) for preset in ("best", "published") for number in NUMBERS]
    expected = {"study": "Waves & more", "value": 0.8, "std": 0.02, "seeds": 3, "baseline": 0.5, "published": None}
    expected |= {"target": 0.9, "target_verdict": "missed", "minutes": 1.2, "data": "sample"}
    assert expected.items() <= rows[1].items() and rows[1]["command"] == "python lstm_ae_toy.py --function reconstruct"


def test_opponents_of_another_study():
    classes = (Number("accuracy", "a", "accuracy", opponent="cnn/a", opponent_name="CNN"),)
    ours = Study("lstm_ae_toy", "classify", "", opponents="lstm_ae_toy/opponents", numbers=classes)
    theirs = Study("lstm_ae_toy", "opponents", "")
    runs = [
        Run(ours, "best", {"fc": {"a": 0.9}}, ROOT),
        Run(ours, "published", {"fc": {"a": 0.8}}, ROOT),
        Failure(MISSING, "best", "no data"),
        Run(theirs, "best", {"cnn": {"a": 0.95}}, ROOT),
    ]
    best, published, failed, _ = with_opponents(runs)
    assert best.rows["a"].opponent == published.rows["a"].opponent == 0.95 and failed is runs[2]
    assert with_opponents(runs[:1])[0].rows["a"].opponent is None


def test_minutes_and_data_are_those_of_all_models():
    run = Run(
        WAVES, "best", {"always_up": {}, "fc": {"seconds": 30.0, "data": "full"}, "conv": {"seconds": 90.0}}, ROOT
    )
    assert (run.minutes, run.source) == (2.0, "full")
    assert Run(WAVES, "best", {"prices": {}}, ROOT).source is None


@pytest.mark.parametrize(("minutes", "text"), [(0.001, "1 s"), (0.5, "30 s"), (12.24, "12.2 minutes")])
def test_durations(minutes, text):
    assert duration(minutes) == text


# ---- the real chapters -----------------------------------------------------------------------------------------------


def test_the_head_of_every_script_lists_its_deviations():
    """To which its chapter and its page link."""
    for script in TITLES:
        head = ast.get_docstring(ast.parse((ROOT / f"{script}.py").read_text()))
        introduction, _, listed = head.partition(":\n1. ")
        items = re.findall(r"^\d+\. (.+(?:\n   .+)*)", f"1. {listed}", re.MULTILINE)
        assert "Deviations from" in introduction and len(items) >= 2
        assert all(len(item) > 40 for item in items)
        assert f"[the head of the script](../{script}.py)" in (ROOT / "docs" / f"{script}.md").read_text()


def test_every_script_has_a_chapter_and_every_name_in_it_exists():
    """Rendered from the published results: a study, number, figure or diagram that is not there is an error."""
    published = reproduce.published_results()
    for script in TITLES:
        assert len(Chapter(script, published, RESULTS / "report").render()) > 2000


def test_every_published_figure_has_a_caption_and_every_named_figure_exists():
    for path in RESULTS.glob("*/*/*.png"):
        assert path.stem in CAPTIONS[path.parts[-3]], path
    for study in STUDIES:
        for figure in study.figures:
            assert (RESULTS / study.path / f"{figure}.png").exists(), (study.path, figure)
