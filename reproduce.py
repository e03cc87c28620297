"""Runs the studies and writes one report.

    python reproduce.py --jobs 2                 # quick profile, minutes: data at hand or bundled, fewer epochs
    python reproduce.py --profile full --jobs 2  # the published protocol, hours; goes on where it was stopped
    python reproduce.py --only lstm_ae_toy
    python reproduce.py --publish                # what the full profile left, to docs/results/ and the README's table

A study that fails or lacks its data is named in the report with its one-line reason; the others go on. The exit status
is 1 if one failed, and 3 if all that is missing are data that could not be fetched.
"""

import argparse
import contextlib
import importlib
import io
import itertools
import json
import re
import shutil
import sys
import time
from pathlib import Path

import joblib

from reporting.report import markdown_table, summary_rows, write_report
from reporting.studies import STUDIES, Study
from training import flags as command_line
from training import tables

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "docs" / "results"
LOCAL_FLAGS = ("data_dir", "output_dir")  # of the machine that a run was made on: not published


# ---- running ---------------------------------------------------------------------------------------------------------


def run(study: Study, profile: str, output: Path) -> dict:
    """Runs one study in this process: its metrics, or {"error": the one line that it ended with, "status"}."""
    folder = study.folder(output, profile)
    argv = ["--function", study.function, *study.flags.split(), "--output_dir", str(folder)]
    argv += study.quick.split() if profile == "quick" else ["--resume"]
    started, said = time.monotonic(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            metrics = importlib.import_module(study.script).main([*argv, "--quiet"])
    except SystemExit as stopped:
        return {"error": said.getvalue().strip().rpartition("\n")[2], "status": stopped.code}
    sys.stderr.write(said.getvalue())
    return {"metrics": metrics, "minutes": (time.monotonic() - started) / 60, "folder": folder / study.function}


def run_group(studies: list[tuple[int, Study]], total: int, profile: str, output: Path, started: float) -> list[dict]:
    """Studies that share a folder, one after another, with a line before and after each."""
    results = []
    for place, study in studies:
        expected = expected_minutes(study, profile, output)
        about = f", about {expected:.1f} minutes" if expected else ""
        print(f"[{place}/{total}] {study.title}{about}", flush=True)
        result = run(study, profile, output)
        results.append(result)
        if result.get("status", 0) not in (0, 1, 2):
            break  # a signal: the whole report stops
        outcome = result.get("error") or f"{result['minutes']:.1f} minutes"
        elapsed = (time.time() - started) / 60
        print(f"[{place}/{total}] {study.title}: {outcome} ({elapsed:.1f} minutes in all)", flush=True)
    return results


def run_all(studies: list[Study], profile: str, output: Path, jobs: int) -> dict[Study, dict]:
    """The results of all studies, `jobs` groups at a time."""
    numbered = sorted(enumerate(studies, 1), key=lambda item: item[1].folder(output, profile))
    groups = [list(found) for _, found in itertools.groupby(numbered, lambda item: item[1].folder(output, profile))]
    groups.sort(key=lambda group: -sum(expected_minutes(study, profile, output) for _, study in group))
    started = time.time()
    found = joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(run_group)(group, len(studies), profile, output, started) for group in groups
    )
    results = {
        study: result
        for group, ended in zip(groups, found, strict=True)
        for (_, study), result in zip(group, ended, strict=False)  # fewer results after a signal
    }
    stopped = [result["status"] for result in results.values() if result.get("status", 0) not in (0, 1, 2)]
    if stopped:
        sys.exit(stopped[0])
    minutes = {name_of(study): round(r["minutes"], 2) for study, r in results.items() if "minutes" in r}
    (output / profile / "minutes.json").write_text(json.dumps(minutes, indent=2) + "\n")
    return {study: results[study] for study in studies}


def name_of(study: Study) -> str:
    return f"{study.script}/{study.name}"


def expected_minutes(study: Study, profile: str, output: Path) -> float:
    """What the study took the last time, here or where the results were published; 0 if that is not known."""
    for path in (output / profile / "minutes.json", RESULTS / f"{profile}_minutes.json"):
        known = json.loads(path.read_text()) if path.exists() else {}
        if name_of(study) in known:
            return known[name_of(study)]
    folder = RESULTS / study.script / study.name
    return training_minutes(folder) if profile == "full" and (folder / "metrics.json").exists() else 0.0


def training_minutes(folder: Path) -> float:
    """Training time of all models, seeds and combinations of a study, one after another."""
    seconds = total_seconds(json.loads((folder / "metrics.json").read_text()))
    grids = [*folder.glob("grid.csv"), *folder.glob("*/grid.csv")]
    return (seconds + sum(row["seconds"] for path in grids for row in tables.read_table(path))) / 60


def total_seconds(metrics: dict) -> float:
    own = metrics.get("seconds_mean", metrics.get("seconds", 0.0)) * metrics.get("seeds", 1)
    return own + sum(total_seconds(value) for value in metrics.values() if isinstance(value, dict))


# ---- publication -----------------------------------------------------------------------------------------------------


def publish(output: Path) -> None:
    """Copies what the full profile left to `docs/results/`, and renews summary, report and the README's table."""
    for study in STUDIES:
        source = study.folder(output, "full") / study.function
        if not (source / "metrics.json").exists():
            continue
        target = RESULTS / study.script / study.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in [*source.glob("*.*"), *source.glob("*/grid.csv")]:  # each of several models has its own grid
            if path.suffix in (".png", ".json", ".csv"):
                copy = target / path.relative_to(source)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
        config = json.loads((target / "config.json").read_text())
        shown = {name: value for name, value in config.items() if name not in LOCAL_FLAGS}
        (target / "config.json").write_text(json.dumps(shown, indent=2) + "\n")
    for profile in ("quick", "full"):
        if (output / profile / "minutes.json").exists():
            shutil.copyfile(output / profile / "minutes.json", RESULTS / f"{profile}_minutes.json")
    rows = published_rows()
    (RESULTS / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), rows))
    write_report(published_results(), "full", RESULTS)


def published_results() -> dict[Study, dict]:
    results = {}
    for study in STUDIES:
        folder = RESULTS / study.script / study.name
        if (folder / "metrics.json").exists():
            metrics = json.loads((folder / "metrics.json").read_text())
            results[study] = {"metrics": metrics, "minutes": training_minutes(folder), "folder": folder}
    return results


def published_rows() -> list[dict]:
    return [row for s, r in published_results().items() for row in summary_rows(s, r["metrics"], r["minutes"])]


def with_table(readme: str, rows: list[dict]) -> str:
    """The README with its results table made anew, between the two comments that mark it."""
    marked = re.compile(r"(<!-- results -->\n).*?(\n<!-- end of results -->)", re.DOTALL)
    shown = markdown_table([row for row in rows if not row["detail"]])
    return marked.sub(lambda m: m[1] + shown + m[2], readme)


def main(argv: list[str] | None = None) -> dict:
    parser = command_line.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=("quick", "full"), default="quick")
    parser.add_argument("--only", choices=sorted({s.script for s in STUDIES}), nargs="+", metavar="SCRIPT")
    parser.add_argument("--jobs", type=command_line.POSITIVE_INT, default=1, help="studies at a time")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs"))
    parser.add_argument("--publish", action="store_true", help="only publish what the full profile left")
    flags = parser.parse_args(argv)
    if flags.publish:
        publish(flags.output_dir)
        return {}
    chosen = [s for s in STUDIES if not flags.only or s.script in flags.only]
    results = run_all(chosen, flags.profile, flags.output_dir, flags.jobs)
    print(f"report: {write_report(results, flags.profile, flags.output_dir).resolve()}")
    return {name_of(study): result for study, result in results.items()}


def exit_status(results: dict) -> int:
    """0, or 1 if a study failed, or 3 if what is missing are only data that could not be fetched."""
    errors = [result["error"] for result in results.values() if "error" in result]
    if any("could not fetch" not in error for error in errors):
        return 1
    return 3 if errors else 0


if __name__ == "__main__":
    sys.exit(exit_status(main()))
