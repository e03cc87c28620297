"""The report runner, what it publishes, and what the README shows of that."""

import importlib
import json
import re
import time
from pathlib import Path

import pytest
from conftest import one_line

import lstm_ae_toy
import reproduce
from lstm_studies.loaders.files import DownloadError
from lstm_studies.reporting import chapters
from lstm_studies.reporting.runs import Failure, Run
from lstm_studies.reporting.studies import STUDIES, Number, Study
from lstm_studies.training import flags, workers

ROOT = Path(__file__).parent.parent
TINY = "--limit 32 --epochs 1 --hidden_size 4 --code_size 4"
NUMBERS = (Number("test MSE", "test_mse", "mse", "pca_mse", "PCA", published=1e-4, target_ratio=1.0),)
GOOD = Study("lstm_ae_toy", "reconstruct", "Waves & more", quick=TINY, numbers=NUMBERS)
BROKEN = Study("lstm_ae_toy", "reconstruct", "Broken", variant="broken", quick="--input_size 7", numbers=NUMBERS)
EXAMPLES = Study("lstm_ae_toy", "plot_examples", "Examples", needs=("lstm_ae_toy/reconstruct",))


@pytest.fixture
def chapter(monkeypatch, tmp_path):
    """One chapter, of lstm_ae_toy.py."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "lstm_ae_toy.md").write_text('{{ figure("reconstruct", "loss") }}\n')
    monkeypatch.setattr(chapters, "CHAPTERS", tmp_path / "chapters")


@pytest.fixture
def two_studies(monkeypatch, chapter):
    monkeypatch.setattr(reproduce, "STUDIES", (BROKEN, GOOD))


def test_a_study_that_fails_is_named_with_its_reason_and_the_others_go_on(two_studies, tmp_path, capsys):
    broken, good = results = reproduce.main(["--output_dir", str(tmp_path)])
    assert "--input_size: expected a divisor of 50, found 7" in broken.reason
    assert good.metrics["code4"]["epochs"] == 1
    text = (tmp_path / "report" / "index.html").read_text()
    assert "<li>Broken: lstm_ae_toy.py: error: argument --input_size" in text
    assert "This page belongs to a quick run of 2 studies" in text
    assert len(re.findall("<img [^>]*base64,.{1000}", text)) == 3  # the published one, and those of the run
    assert re.search(
        r"lstm_ae_toy/reconstruct, quick: (trained for \d+ s|done); [12] of 2, \d+ s left", capsys.readouterr().out
    )
    assert reproduce.exit_status(results) == 1


def test_what_lacks_its_data_has_a_status_of_its_own(two_studies, monkeypatch, tmp_path):
    def no_data(argv):
        try:
            raise DownloadError("digits: put them there")
        except DownloadError:
            raise SystemExit(2) from None  # as run_script does: the error is the context

    monkeypatch.setattr(lstm_ae_toy, "main", no_data)
    results = reproduce.main(["--output_dir", str(tmp_path)])
    assert all(result.unavailable for result in results) and reproduce.exit_status(results) == 3


def test_exit_status():
    good, lacking = Run(GOOD, "quick", {}, ROOT), Failure(GOOD, "quick", "no data", unavailable=True)
    assert reproduce.exit_status([good]) == 0 and reproduce.exit_status([good, lacking]) == 3
    assert reproduce.exit_status([lacking, Failure(BROKEN, "quick", "diverged")]) == 1


def test_studies_run_side_by_side_and_after_what_they_need(monkeypatch, chapter, tmp_path):
    other = Study("lstm_ae_toy", "reconstruct", "Other", variant="other", quick=TINY, numbers=NUMBERS)
    monkeypatch.setattr(reproduce, "STUDIES", (EXAMPLES, GOOD, other))
    results = reproduce.main(["--output_dir", str(tmp_path), "--jobs", "2"])
    assert [result.study for result in results] == [EXAMPLES, GOOD, other]
    errors = [result.metrics["code4"]["test_mse"] for result in results[1:]]
    assert errors[0] == pytest.approx(errors[1])


def test_a_second_report_resumes(two_studies, tmp_path):
    path = tmp_path / "quick" / "lstm_ae_toy" / "reconstruct" / "last.pt"
    reproduce.main(["--output_dir", str(tmp_path)])
    before = path.stat().st_mtime_ns
    reproduce.main(["--output_dir", str(tmp_path), "--resume"])
    assert path.stat().st_mtime_ns == before


def test_a_study_whose_process_died_continues(tmp_path):
    asked = reproduce.Asked(GOOD, "quick", False, time.time() - 1)
    assert not reproduce.resumes(asked, tmp_path)
    config = tmp_path / "reconstruct" / "config.json"
    config.parent.mkdir()
    config.touch()
    assert reproduce.resumes(asked, tmp_path)  # begun by this report
    assert not reproduce.resumes(asked._replace(began=time.time() + 9), tmp_path)
    assert reproduce.resumes(asked._replace(began=time.time() + 9, resume=True), tmp_path)


def test_a_study_whose_process_died_three_times_is_named(monkeypatch, tmp_path):
    def run(tasks, jobs, then):
        for task in tasks:
            then(task, workers.WorkerLost("died three times") if task.asked.study is BROKEN else ended(task))

    def ended(task):
        return Run(task.asked.study, task.asked.preset, {}, task.folder)

    monkeypatch.setattr(workers, "run", run)
    lost, good = reproduce.run_all([BROKEN, GOOD], "quick", tmp_path, 2)
    assert lost == Failure(BROKEN, "quick", "died three times") and good.study is GOOD


def test_a_defect_of_one_study_ends_no_other(two_studies, monkeypatch, tmp_path, capsys):
    main = lstm_ae_toy.main

    def defective(argv):
        return 1 / 0 if "7" in argv else main(argv)

    monkeypatch.setattr(lstm_ae_toy, "main", defective)
    broken, good = reproduce.main(["--output_dir", str(tmp_path)])
    assert broken.reason == "ZeroDivisionError: division by zero" and good.metrics
    assert "in defective" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_damaged_file_of_results_is_one_line(two_studies, monkeypatch, tmp_path, capsys, content):
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path)
    path = tmp_path / "lstm_ae_toy" / "reconstruct" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for flag in ("--list", "--publish"):
        with pytest.raises(SystemExit, match="2"):
            reproduce.main([flag, "--profile", "full", "--output_dir", str(tmp_path / "out")])
        assert f"error: argument --output_dir: {path}: expected a JSON object, found " in one_line(capsys)


def test_only_some(two_studies, monkeypatch, capsys):
    for name in ("lstm_ae_toy/reconstruct", "lstm_ae_toy"):
        reproduce.main(["--list", "--only", name])
        assert capsys.readouterr().out.count("\n") == (1 if "/" in name else 2)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["--only", "lstm_ae_toy/absent"])
    assert stopped.value.code == 2 and "lstm_ae_toy/absent" in capsys.readouterr().err
    full_only = next(study for study in STUDIES if "quick" not in study.presets)
    monkeypatch.setattr(reproduce, "STUDIES", (full_only,))
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["--only", full_only.path])
    assert stopped.value.code == 2 and f"{full_only.path}: in the profile full only" in capsys.readouterr().err


def test_a_signal_ends_the_whole_report(two_studies, monkeypatch, tmp_path, capsys):
    def stop(argv):
        raise SystemExit(143)

    monkeypatch.setattr(lstm_ae_toy, "main", stop)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["--output_dir", str(tmp_path)])
    assert stopped.value.code == 143 and not (tmp_path / "report").exists()
    assert capsys.readouterr().err == "reproduce.py: error: stopped by SIGTERM; --resume goes on\n"


# ---- config/SCRIPT.toml ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.path)
def test_every_study_names_flags_that_its_script_has(study, capsys):
    """Parsed, not run: a flag that was renamed would stop `make report` only after minutes."""
    script = importlib.import_module(study.script)
    for preset in study.presets:
        requests = flags.parse(script.SCRIPT, study.arguments(preset).split())
        assert list(requests) == [study.function], capsys.readouterr().err
    assert study.presets[0] != "quick"


@pytest.mark.parametrize("study", [s for s in STUDIES if s.published_is_best], ids=lambda study: study.path)
def test_where_both_presets_are_one_recipe_they_ask_for_the_same(study):
    script = importlib.import_module(study.script).SCRIPT
    assert "published" not in study.presets
    best, published = (
        flags.parse(script, study.arguments(preset).split())[study.function].values | {"seeds": None}
        for preset in ("best", "published")
    )
    assert best == published


def test_studies_have_names_of_their_own_and_refer_to_one_another():
    paths = [study.path for study in STUDIES]
    assert len(set(paths)) == len(paths)
    folders = [reproduce.results_folder(s, preset) for s in STUDIES for preset in reproduce.presets_of(s, "full")]
    assert len(set(folders)) == len(folders)
    assert {path for study in STUDIES for path in study.needs} <= set(paths)


# ---- publication -----------------------------------------------------------------------------------------------------


def test_publish_copies_results_without_this_machines_folders(two_studies, tmp_path, monkeypatch):
    results, readme = tmp_path / "results", tmp_path / "README.md"
    monkeypatch.setattr(reproduce, "RESULTS", results)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    readme.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    folder = tmp_path / "best" / "lstm_ae_toy"
    argv = ["--function", "reconstruct", "--quiet", *TINY.split(), "--output_dir", str(folder)]
    metrics = lstm_ae_toy.main(argv)
    reproduce.main(["--publish", "--output_dir", str(tmp_path)])
    published = results / "lstm_ae_toy" / "reconstruct"
    names = {path.name for path in published.iterdir()}
    assert names == {"config.json", "metrics.json", "history.csv", "loss.png", "reconstructions.png"}
    assert str(tmp_path) not in (published / "config.json").read_text()
    (row,) = json.loads((results / "summary.json").read_text())
    assert (row["value"], row["baseline"]) == (metrics["code4"]["test_mse"], metrics["code4"]["pca_mse"])
    keys = "study preset metric value std seeds interval baseline opponent opponent_name published target verdict looks"
    assert {*keys.split(), "command", "minutes", "data"} <= row.keys()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "|[Waves & more]" in text
    assert "# Synthetic sequences\n\n![loss" in (results / "report" / "report.md").read_text()
    (tmp_path / "chapters" / "lstm_ae_toy.md").write_text("{{ absent }}")
    with pytest.raises(SystemExit, match="1"):
        reproduce.main(["--publish", "--output_dir", str(tmp_path)])


def test_presets_side_by_side_have_folders_of_their_own():
    both = Study("lstm_ae_toy", "reconstruct", "", presets=("best", "published", "quick"))
    folders = [reproduce.results_folder(both, preset).name for preset in reproduce.presets_of(both, "full")]
    assert folders == ["reconstruct", "reconstruct_published"] and reproduce.presets_of(both, "quick") == ["quick"]


def test_of_the_second_recipe_only_the_main_figures_are_published(tmp_path):
    for name in ("metrics.json", "config.json", "main.png", "further.png", "codes.csv", "grid.csv"):
        (tmp_path / name).write_text("{}")
    reproduce.publish_run(tmp_path, tmp_path / "copy", ("main",))
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        "metrics.json",
        "config.json",
        "main.png",
        "grid.csv",
    }


# ---- the README ------------------------------------------------------------------------------------------------------


def test_the_readmes_results_table_is_the_one_of_the_published_numbers():
    readme, results = (ROOT / "README.md").read_text(), reproduce.published_results()
    assert readme == reproduce.with_table(readme, results)
    summary = json.loads((reproduce.RESULTS / "summary.json").read_text())
    assert summary == json.loads(json.dumps(reproduce.report.summary_of(results)))


def test_the_published_report_is_the_one_of_the_published_numbers():
    """`python reproduce.py --publish` renews it."""
    page = reproduce.RESULTS / "report" / "report.md"
    assert reproduce.report.markdown_page(reproduce.published_results(), page.parent) == page.read_text()


def test_the_readmes_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--function", "reconstruct", "--quiet", *TINY.split(), "--output_dir", "outputs/lstm_ae_toy"]
    lstm_ae_toy.main(argv)
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_links_and_figures_of_the_pages_exist():
    pages = [ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target, anchor in re.findall(r"\]\(([^)#:]+)(#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", (page.parent / target).read_text(), re.M)
                assert anchor[1:] in map(reproduce.report.heading_anchor, headings), f"{page}: {target}{anchor}"
