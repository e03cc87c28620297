"""Runs the studies and writes one report.

    python reproduce.py --jobs 2                          # quick profile, minutes: fewer sequences, epochs and seeds
    python reproduce.py --profile full --jobs 2 --resume  # the presets best and published, hours; goes on from before
    python reproduce.py --only lstm_ae_toy adv_alstm/compare_acl18
    python reproduce.py --list                            # the studies, and about how long each takes
    python reproduce.py --publish                         # what the full profile left, to docs/results/ and the README

The trainings of all studies are one pool: the longest first, each after those whose models it reads. A study that fails
or lacks its data is named at the end of the report; the others go on. The exit status is 1 if one failed, and 3 if all
that is missing are data that could not be fetched.
"""

import argparse
import contextlib
import importlib
import io
import json
import re
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from lstm_studies.loaders.files import DownloadError
from lstm_studies.reporting import report
from lstm_studies.reporting.report import Failure, Run, read_json
from lstm_studies.reporting.schedule import Task, run_pool
from lstm_studies.reporting.studies import PRESETS, STUDIES, Study
from lstm_studies.training.flags import Parser
from lstm_studies.training.settings import POSITIVE_INT

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "docs" / "results"
LOCAL_FLAGS = ("data_dir", "output_dir")  # of the machine that a run was made on: not published
# Other tables may hold data whose licence does not allow to pass them on, such as messages.
PUBLISHED_TABLES = ("history.csv", "grid.csv", "comparison.csv", "starts.csv", "epsilon.csv")
STATUSES = (0, 1, 2)  # of a script that ended by itself


class Stopped(Exception):
    """A signal ended a study; its state is saved."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


# ---- running ---------------------------------------------------------------------------------------------------------


def run(study: Study, preset: str, output: Path, jobs: int, resume: bool) -> Run | Failure:
    """Runs one study. Raises Stopped."""
    folder = folder_of(study, preset, output)
    script = importlib.import_module(study.script)
    argv = [*study.arguments(preset).split(), "--output_dir", str(folder), "--quiet"]
    argv += used_flags(script, study, jobs, resume)
    started, said = time.monotonic(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            metrics = script.main(argv)
    except SystemExit as stopped:
        if stopped.code not in STATUSES:
            raise Stopped(stopped.code) from None
        reason = said.getvalue().strip().rpartition("\n")[2]  # the last line that the script wrote
        return Failure(study, preset, reason, unavailable=isinstance(stopped.__context__, DownloadError))
    finally:
        if jobs > 1:  # or this process would wait for its idle workers, five minutes, before it ends
            get_reusable_executor().shutdown(kill_workers=True)
    sys.stderr.write(said.getvalue())
    return Run(study, preset, metrics, (time.monotonic() - started) / 60, folder / study.function)


def used_flags(script, study: Study, jobs: int, resume: bool) -> list[str]:
    """Those of --jobs and --resume that the study's function uses."""
    wanted = {"jobs": ["--jobs", str(jobs)], "resume": ["--resume"] if resume else []}
    return [word for name, words in wanted.items() if study.function in script.SCRIPT.users(name) for word in words]


def folder_of(study: Study, preset: str, output: Path) -> Path:
    """The --output_dir of a run: one for all functions of a script, which may read one another's models."""
    return output / preset / study.script / study.variant


def run_all(studies: list[Study], profile: str, output: Path, jobs: int, resume: bool = False) -> list[Run | Failure]:
    """The results of all studies with the presets of a profile, `jobs` processes at a time."""
    tasks = tasks_of(studies, profile, output, jobs, resume)
    try:
        results = run_pool(tasks, run, jobs, lambda result: getattr(result, "reason", ""))
    except Stopped as stopped:
        sys.exit(stopped.status)
    except BrokenProcessPool:
        sys.exit("reproduce.py: error: a process died with its study; was the memory enough? --resume goes on")
    keep_minutes(results.values(), output)
    return list(results.values())


def name_of(path: str, preset: str) -> str:
    """What a study's run is called in the lines of progress."""
    return f"{path}, {preset}"


def presets_of(study: Study, profile: str) -> list[str]:
    return [preset for preset in study.presets if preset in PRESETS[profile]]


def tasks_of(studies: list[Study], profile: str, output: Path, jobs: int, resume: bool) -> list[Task]:
    """One task per study and preset. A study that alone takes longer than its share trains in several processes."""
    runs = [(study, preset) for study in studies for preset in presets_of(study, profile)]
    minutes = {own: expected_minutes(*own, output) for own in runs}
    share = sum(minutes.values()) / jobs
    tasks = []
    for study, preset in runs:
        own_jobs = jobs if minutes[study, preset] > share / 2 else 1
        needs = frozenset(name_of(path, preset) for path in study.needs)
        arguments = (study, preset, output, own_jobs, resume)
        tasks.append(Task(name_of(study.path, preset), arguments, minutes[study, preset], needs))
    return tasks


def keep_minutes(results: Iterable[Run | Failure], output: Path) -> None:
    """Renews what `expected_minutes` reads."""
    for preset in ("quick", "best", "published"):
        minutes = {r.study.path: round(r.minutes, 2) for r in results if isinstance(r, Run) and r.preset == preset}
        path = output / preset / "minutes.json"
        if minutes:
            path.write_text(json.dumps(read_json(path) | minutes, indent=2) + "\n")


def expected_minutes(study: Study, preset: str, output: Path) -> float:
    """What the study took the last time, here or where the results were published; 0 if that is not known."""
    for path in (output / preset / "minutes.json", RESULTS / f"{preset}_minutes.json"):
        known = read_json(path)
        if study.path in known:
            return known[study.path]
    folder = results_folder(study, preset)
    return training_minutes(folder) if (folder / "metrics.json").exists() else 0.0


def training_minutes(folder: Path) -> float:
    """Training time of all models, seeds and combinations of a study, one after another."""
    from lstm_studies.training import tables  # imports torch, which --help and --list need not wait for

    seconds = total_seconds(read_json(folder / "metrics.json"))
    grids = [*folder.glob("grid.csv"), *folder.glob("*/grid.csv")]
    return (seconds + sum(row["seconds"] for path in grids for row in tables.read_table(path))) / 60


def total_seconds(metrics: dict) -> float:
    """Seeds that trained one by one have a mean time, a stack of them has one for all."""
    own = metrics["seconds_mean"] * metrics["seeds"] if "seconds_mean" in metrics else metrics.get("seconds", 0.0)
    parts = []  # what was chosen may stand there twice, under the method's name, too
    for value in metrics.values():
        if isinstance(value, dict) and value not in parts:
            parts.append(value)
    return own + sum(map(total_seconds, parts))


# ---- publication -----------------------------------------------------------------------------------------------------


def results_folder(study: Study, preset: str) -> Path:
    """Where the results of a preset are published."""
    return RESULTS / study.script / (study.name if preset == study.presets[0] else f"{study.name}_{preset}")


def publish(output: Path) -> None:
    """Copies what the full profile left to `docs/results/`, and renews its summary, its page and the README's table."""
    for study in STUDIES:
        for preset in presets_of(study, "full"):
            source = folder_of(study, preset, output) / study.function
            if (source / "metrics.json").exists():
                figures = None if preset == study.presets[0] else study.figures
                publish_run(source, results_folder(study, preset), figures)
    for preset in ("quick", "best", "published"):
        if (output / preset / "minutes.json").exists():
            shutil.copyfile(output / preset / "minutes.json", RESULTS / f"{preset}_minutes.json")
    results = published_results()
    (RESULTS / "summary.json").write_text(json.dumps(report.summary_of(results), indent=2) + "\n")
    readme, page = ROOT / "README.md", RESULTS / "report" / "report.md"
    readme.write_text(with_table(readme.read_text(), results))
    page.parent.mkdir(exist_ok=True)
    page.write_text(report.markdown_page(results, page.parent))


def publish_run(source: Path, target: Path, figures: tuple[str, ...] | None = None) -> None:
    """Copies the numbers, tables and figures of a run; of the figures only those named, if any are.

    Local folders are left out of config.json.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in [*source.glob("*.*"), *source.glob("*/grid.csv")]:  # each of several models has its own grid
        is_shown = path.suffix == ".png" and (figures is None or path.stem in figures)
        if is_shown or path.suffix == ".json" or path.name in PUBLISHED_TABLES:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
    config = read_json(target / "config.json")
    shown = {name: value for name, value in config.items() if name not in LOCAL_FLAGS}
    (target / "config.json").write_text(json.dumps(shown, indent=2) + "\n")


def published_results() -> list[Run]:
    """The runs in docs/results/, those of one study one after another, the main one first."""
    runs = [(study, preset) for study in STUDIES for preset in presets_of(study, "full")]
    folders = {(study, preset): results_folder(study, preset) for study, preset in runs}
    return [
        Run(study, preset, read_json(folder / "metrics.json"), training_minutes(folder), folder)
        for (study, preset), folder in folders.items()
        if (folder / "metrics.json").exists()
    ]


def with_table(readme: str, results: list[Run]) -> str:
    """The README with its results table made anew, between the two comments that mark it."""
    marked = re.compile(r"(<!-- results -->\n).*?(\n<!-- end of results -->)", re.DOTALL)
    shown = report.markdown_table(results, "docs/results/report/report.md")
    return marked.sub(lambda m: m[1] + shown + m[2], readme)


# ---- command line ----------------------------------------------------------------------------------------------------


def make_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({s.script for s in STUDIES} | {s.path for s in STUDIES})
    parser.add_argument("--profile", choices=tuple(PRESETS), default="quick", help="quick: minutes; full: hours")
    parser.add_argument("--only", choices=names, nargs="+", metavar="NAME", help="scripts or studies of --list")
    parser.add_argument("--jobs", type=POSITIVE_INT, default=1, help="processes that train at a time")
    parser.add_argument("--resume", action="store_true", help="continue the trainings of an earlier, stopped report")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "outputs", help="folder of runs and report")
    parser.add_argument("--list", action="store_true", help="only list the studies and their expected minutes")
    parser.add_argument("--publish", action="store_true", help="only publish what the full profile left")
    return parser


def main(argv: list[str] | None = None) -> list[Run | Failure]:
    parser = make_parser()
    flags = parser.parse_args(argv)
    studies = [study for study in STUDIES if presets_of(study, flags.profile)]
    chosen = [s for s in studies if not flags.only or {s.script, s.path} & set(flags.only)]
    if absent := set(flags.only or ()) - {name for s in chosen for name in (s.script, s.path)}:
        parser.error(f"argument --only: {', '.join(sorted(absent))}: in the profile full only")
    if flags.list:
        for study in chosen:
            for preset in presets_of(study, flags.profile):
                minutes = expected_minutes(study, preset, flags.output_dir)
                print(
                    f"{study.path:40s} {preset:10s} {report.duration(minutes) if minutes else '-':>14s}  {study.title}"
                )
        return []
    if flags.publish:
        publish(flags.output_dir)
        return []
    started = time.monotonic()
    results = run_all(chosen, flags.profile, flags.output_dir, flags.jobs, flags.resume)
    page = report.write_page(results, flags.profile, flags.output_dir / "report")
    print(f"{report.duration((time.monotonic() - started) / 60)}; report: {page.resolve()}")
    return results


def exit_status(results: list[Run | Failure]) -> int:
    """0, or 1 if a study failed, or 3 if what is missing are only data that could not be fetched."""
    failures = [result for result in results if isinstance(result, Failure)]
    if not failures:
        return 0
    return 3 if all(failure.unavailable for failure in failures) else 1


if __name__ == "__main__":
    sys.exit(exit_status(main()))
