"""The report runner and what it writes into the README."""

import json
import re
from pathlib import Path

import pytest

import lstm_ae_toy
import reproduce

ROOT = Path(__file__).parent.parent
TINY = "--limit 32 --epochs 1 --hidden_size 4 --code_size 4"
NUMBERS = (reproduce.Number("test MSE", "test_mse", "pca_mse", "PCA", "1e-4", "below PCA"),)
GOOD = reproduce.Study("lstm_ae_toy", "reconstruct", "", "Waves", "--epochs 50", TINY, NUMBERS)
BROKEN = reproduce.Study("lstm_ae_toy", "reconstruct", "broken", "Broken", "", "--input_size 7", NUMBERS)


@pytest.fixture
def two_studies(monkeypatch):
    monkeypatch.setattr(reproduce, "STUDIES", (BROKEN, GOOD))


def test_a_study_that_fails_is_named_with_its_reason_and_the_others_go_on(two_studies, tmp_path, capsys):
    results = reproduce.main(["--output_dir", str(tmp_path)])
    assert "--input_size: expected a divisor of 50, found 7" in results["lstm_ae_toy/reconstruct_broken"]["error"]
    assert results["lstm_ae_toy/reconstruct"]["metrics"]["epochs"] == 1
    report = (tmp_path / "report" / "report.md").read_text()
    assert "**Not done:** lstm_ae_toy.py: error: argument --input_size" in report
    for figure in re.findall(r"!\[.+\]\((.+)\)", report):
        assert (tmp_path / "report" / figure).stat().st_size > 1000
    assert "| Waves | test MSE | " in report and "[2/2] Waves" in capsys.readouterr().out


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
    assert {"study", "metric", "value", "std", "seeds", "baseline", "published", "target", "command", "minutes",
            "data"} <= row.keys()  # fmt: skip
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "| Waves |" in text


def test_a_number_of_several_seeds_is_shown_as_mean_and_deviation():
    metrics = {"test_mse": 1.0, "test_mse_mean": 2.0, "test_mse_std": 0.5, "seeds": 3, "pca_mse": 4.0, "data": "full"}
    table = reproduce.table(reproduce.summary_rows(GOOD, metrics, 1.0))
    assert "| 2.00e+00 ± 5.00e-01 (3 seeds) | PCA 4.00e+00 |" in table


def test_every_study_names_flags_that_its_script_has(capsys):
    """Parsed, not run: a flag that was renamed would stop `make report` only after minutes."""
    for study in reproduce.STUDIES:
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
