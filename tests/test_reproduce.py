"""The report runner and what it writes into the README."""

import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import lstm_ae_toy
import reproduce
from reporting import report
from reporting.studies import STUDIES, Number, Study

ROOT = Path(__file__).parent.parent
TINY = "--limit 32 --epochs 1 --hidden_size 4 --code_size 4"
NUMBERS = (Number("test MSE", "test_mse", "pca_mse", "PCA", "1e-4", "below PCA"),)
GOOD = Study("lstm_ae_toy", "reconstruct", "", "Waves & more", "Is <it> good?", "--epochs 50", TINY, NUMBERS)
BROKEN = Study("lstm_ae_toy", "reconstruct", "broken", "Broken", "", "", "--input_size 7", NUMBERS)
NO_DATA = Study("lstm_ae_mnist", "classify", "", "No data", "", "--source full --data_dir nowhere", "", ())


@pytest.fixture
def two_studies(monkeypatch):
    monkeypatch.setattr(reproduce, "STUDIES", (BROKEN, GOOD))


def test_a_study_that_fails_is_named_with_its_reason_and_the_others_go_on(two_studies, tmp_path, capsys):
    results = reproduce.main(["--output_dir", str(tmp_path)])
    assert "--input_size: expected a divisor of 50, found 7" in results["lstm_ae_toy/reconstruct_broken"]["error"]
    assert results["lstm_ae_toy/reconstruct"]["metrics"]["epochs"] == 1
    text = (tmp_path / "report" / "report.md").read_text()
    assert "**Not done:** lstm_ae_toy.py: error: argument --input_size" in text
    figures = re.findall(r"!\[.+\]\((.+)\)", text)
    assert len(figures) == 2 and all((tmp_path / "report" / name).stat().st_size > 1000 for name in figures)
    assert "| Waves & more | test MSE | " in text and "[2/2] Waves" in capsys.readouterr().out
    assert reproduce.exit_status(results) == 1


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

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_everything_and_asks_for_nothing(two_studies, tmp_path):
    results = reproduce.main(["--output_dir", str(tmp_path)])
    page = Page((tmp_path / "report" / "index.html").read_text())
    folder = results["lstm_ae_toy/reconstruct"]["folder"]
    assert len(page.images) == 2
    for image, path in zip(page.images, sorted(folder.glob("*.png")), strict=True):
        assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == path.read_bytes()
        assert image["alt"].startswith("Waves & more: ")
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert all(link.startswith(("#", "data:")) for link in links)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} == anchors
    assert "Is <it> good?" in page.text and "expected a divisor of 50, found 7" in page.text
    (row,) = report.summary_rows(GOOD, results["lstm_ae_toy/reconstruct"]["metrics"], 0.0)
    assert report.cells(row)[2] in page.text


def test_what_lacks_its_data_has_a_status_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "STUDIES", (GOOD, NO_DATA))
    results = reproduce.main(["--output_dir", str(tmp_path)])
    assert "nowhere" in results["lstm_ae_mnist/classify"]["error"]
    assert reproduce.exit_status(results) == 1  # the folder itself is missing: a mistake
    lacking = {"a": {"error": "x.py: error: could not fetch it"}, "b": {"metrics": {}}}
    assert reproduce.exit_status(lacking) == 3 and reproduce.exit_status({"b": {"metrics": {}}}) == 0
    assert reproduce.exit_status(lacking | {"c": {"error": "x.py: error: diverged"}}) == 1


def test_studies_of_one_folder_run_in_order_and_groups_side_by_side(monkeypatch, tmp_path):
    other = GOOD._replace(variant="other", title="Other")
    monkeypatch.setattr(reproduce, "STUDIES", (GOOD, other, GOOD._replace(function="plot_examples", numbers=())))
    results = reproduce.main(["--output_dir", str(tmp_path), "--jobs", "2"])
    assert list(results) == ["lstm_ae_toy/reconstruct", "lstm_ae_toy/reconstruct_other", "lstm_ae_toy/plot_examples"]
    assert all("metrics" in result for result in results.values())
    assert results["lstm_ae_toy/reconstruct"]["metrics"]["test_mse"] == pytest.approx(
        results["lstm_ae_toy/reconstruct_other"]["metrics"]["test_mse"]
    )


def test_the_second_time_the_expected_minutes_are_known(two_studies, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path)
    reproduce.main(["--output_dir", str(tmp_path)])
    assert "about" not in capsys.readouterr().out
    path = tmp_path / "quick" / "minutes.json"
    assert list(json.loads(path.read_text())) == ["lstm_ae_toy/reconstruct"]
    path.write_text('{"lstm_ae_toy/reconstruct": 12.0}')
    reproduce.main(["--output_dir", str(tmp_path)])
    assert "[2/2] Waves & more, about 12.0 minutes\n" in capsys.readouterr().out


def test_a_signal_ends_the_whole_report(two_studies, monkeypatch, tmp_path):
    def stop(argv):
        raise SystemExit(143)

    monkeypatch.setattr(lstm_ae_toy, "main", stop)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["--output_dir", str(tmp_path)])
    assert stopped.value.code == 143 and not (tmp_path / "report").exists()


# ---- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "metrics", "expected"),
    [
        (Number("MSE", "a", "b", "PCA"), {"a": 0.01, "b": 0.05}, "MSE 1.00e-02: 5.0 times below PCA (5.00e-02)."),
        (Number("MSE", "a", "b", "PCA"), {"a": 0.09, "b": 0.1}, "MSE 9.00e-02: 10.0% below PCA (1.00e-01)."),
        (
            Number("MSE", "a", "b", "PCA", goal=0.05),
            {"a": 0.11, "b": 0.1},
            "MSE 1.10e-01: 10.0% above PCA (1.00e-01); the target of 5.00e-02 is missed.",
        ),
        (
            Number("acc", "a", "b", "plain", form="{:.1%}", goal=0.9, higher_is_better=True, sigma="s"),
            {"a": 0.95, "b": 0.93, "s": 0.01},
            "acc 95.0%: 2.00 points, 2.0 sigma, above plain (93.0%); the target of 90.0% is reached.",
        ),
        (
            Number("acc", "a", "b", "plain", form="{:.1%}", higher_is_better=True),
            {"a": 0.9, "a_mean": 0.8, "b": 0.81},
            "acc 80.0%: 1.00 points below plain (81.0%).",
        ),
        (Number("acc", "a", form="{:.1%}"), {"a": 0.9}, "acc 90.0%."),
    ],
)
def test_what_a_number_says(number, metrics, expected):
    assert report.say(number, metrics) == expected


def test_every_script_of_the_report_lists_its_deviations():
    for script in {study.script for study in STUDIES}:
        found = report.deviations(script)
        assert len(found) >= 2 and all(len(item) > 40 and "\n" not in item for item in found)


def test_every_published_figure_has_a_caption():
    for path in reproduce.RESULTS.glob("*/*/*.png"):
        assert path.stem in report.CAPTIONS, path


def test_publish_copies_results_without_this_machines_folders(two_studies, tmp_path, monkeypatch):
    results, readme = tmp_path / "results", tmp_path / "README.md"
    monkeypatch.setattr(reproduce, "RESULTS", results)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    readme.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    folder = tmp_path / "full" / "lstm_ae_toy"
    argv = ["--function", "reconstruct", "--quiet", *TINY.split(), "--output_dir", str(folder)]
    metrics = lstm_ae_toy.main(argv)
    reproduce.main(["--publish", "--output_dir", str(tmp_path)])
    published = results / "lstm_ae_toy" / "reconstruct"
    names = {path.name for path in published.iterdir()}
    assert names == {"config.json", "metrics.json", "history.csv", "loss.png", "reconstructions.png"}
    assert str(tmp_path) not in (published / "config.json").read_text()
    (row,) = json.loads((results / "summary.json").read_text())
    assert row["value"] == metrics["test_mse"] and row["baseline"] == metrics["pca_mse"]
    assert {
        "study",
        "metric",
        "value",
        "std",
        "seeds",
        "baseline",
        "published",
        "target",
        "command",
        "minutes",
        "data",
    } <= row.keys()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "| Waves & more |" in text
    assert (results / "report" / "index.html").exists()


def test_a_number_of_several_seeds_is_shown_as_mean_and_deviation():
    metrics = {"test_mse": 1.0, "test_mse_mean": 2.0, "test_mse_std": 0.5, "seeds": 3, "pca_mse": 4.0, "data": "full"}
    table = report.markdown_table(report.summary_rows(GOOD, metrics, 1.0))
    assert "| 2.00e+00 ± 5.00e-01 (3 seeds) | PCA 4.00e+00 |" in table


def test_every_study_names_flags_that_its_script_has(capsys):
    """Parsed, not run: a flag that was renamed would stop `make report` only after minutes."""
    for study in STUDIES:
        script = __import__(study.script)
        assert study.function in script.FUNCTIONS
        for flags in (study.flags, f"{study.flags} {study.quick}"):
            with pytest.raises(SystemExit) as stopped:
                script.main([*flags.split(), "--help"])
            assert stopped.value.code == 0, capsys.readouterr().err


def test_the_readmes_results_table_is_the_one_of_the_published_numbers():
    readme = (ROOT / "README.md").read_text()
    assert readme == reproduce.with_table(readme, reproduce.published_rows())
    assert json.loads((reproduce.RESULTS / "summary.json").read_text()) == reproduce.published_rows()


def test_the_readmes_table_of_stock_movement_is_the_published_one():
    readme = (ROOT / "README.md").read_text()
    for path in reproduce.RESULTS.glob("adv_alstm/compare_*/comparison.csv"):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                mean, std = float(row["accuracy"]), float(row["accuracy_std"])
                shown = f"{mean:.2f} ± {std:.2f}" if std else f"{mean:.2f}, "
                lines = [line for line in readme.splitlines() if line.startswith(f"| {row['model']} |")]
                assert any(shown in line for line in lines), (path, row["model"])


def test_the_readmes_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lstm_ae_toy.main(["--function", "reconstruct", "--quiet", *TINY.split()])
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_readmes_links_and_figures_exist():
    for name in ("README.md", "data/README.md"):
        text = (ROOT / name).read_text()
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"
