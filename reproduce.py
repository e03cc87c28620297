"""Runs the studies and writes one report.

    python reproduce.py --jobs 2                          # quick profile, minutes: fewer sequences, epochs and seeds
    python reproduce.py --profile full --jobs 2 --resume  # presets best and published, hours; continues a stopped run
    python reproduce.py --only lstm_ae_toy adv_alstm/compare_acl18
    python reproduce.py --list                            # the studies, and the minutes of the published runs
    python reproduce.py --publish                         # full results to docs/results/; report and README anew

The studies run in one pool, the longest first, each after those whose models it reads. One that fails or lacks its
data is named at the top of the report; the others go on. The exit status is 1 if one failed, and 3 if only
data that could not be downloaded are missing.
"""

from lstm_studies.training.flags import Parser, check_environment, fit_console

if __name__ == "__main__":
    check_environment("reproduce.py")

import argparse
import contextlib
import importlib
import io
import json
import re
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from lstm_studies.loaders.files import DownloadError
from lstm_studies.reporting import report
from lstm_studies.reporting.chapters import ChapterError
from lstm_studies.reporting.runs import Failure, ResultsError, Run, duration, read_json, with_opponents
from lstm_studies.reporting.studies import PRESETS, STUDIES, Study
from lstm_studies.training.signals import Interrupted, interruptible

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "docs" / "results"
LOCAL_FLAGS = ("data_dir", "output_dir")  # of the machine that a run was made on: not published
# Other tables may hold data whose licence does not allow to pass them on, such as messages.
PUBLISHED_TABLES = ("history.csv", "grid.csv", "comparison.csv", "starts.csv", "epsilon.csv")
SIGNALLED = (130, 143)  # statuses of a script that a signal ended


# ---- running ---------------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """One run of a study."""

    study: Study
    preset: str
    resume: bool
    began: float  # when the whole report began


def run_study(asked: Asked, folder: Path) -> Run | Failure:
    """Runs a study with `folder` as its --output_dir. Raises Interrupted after a signal."""
    study, preset, stderr = asked.study, asked.preset, io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            script = importlib.import_module(study.script)
            argv = [*study.arguments(preset).split(), "--output_dir", str(folder), "--quiet"]
            if study.function in script.SCRIPT.users("resume") and resumes(asked, folder):
                argv.append("--resume")
            metrics = script.main(argv)
    except SystemExit as stopped:
        if stopped.code in SIGNALLED:
            raise Interrupted(stopped.code - 128, "; --resume goes on") from None
        last_line = stderr.getvalue().strip().rpartition("\n")[2]
        return Failure(study, preset, last_line, unavailable=isinstance(stopped.__context__, DownloadError))
    except Exception as error:  # a defect of one study ends no other
        traceback.print_exc()
        return Failure(study, preset, f"{type(error).__name__}: {error}")
    sys.stderr.write(stderr.getvalue())
    return Run(study, preset, metrics, folder / study.function)


def resumes(asked: Asked, folder: Path) -> bool:
    """Whether a study continues: on request, or where the worker process died that began it for this report."""
    config = folder / asked.study.function / "config.json"
    return asked.resume or (config.exists() and config.stat().st_mtime > asked.began)


def run_all(studies: list[Study], profile: str, output: Path, jobs: int, resume: bool = False) -> list[Run | Failure]:
    """The results of all studies with the presets of a profile, `jobs` processes at a time, the longest first."""
    from lstm_studies.training import workers  # imports torch, which --help and --list need not wait for

    began, started = time.time(), time.monotonic()  # the clock may be set while it runs
    runs = {name_of(study.path, preset): (study, preset) for study in studies for preset in presets_of(study, profile)}
    tasks = {
        name: workers.Task(name, run_study, Asked(*run, resume, began), folder_of(*run, output))
        for name, run in runs.items()
    }
    waiting = {
        name: {name_of(path, preset) for path in study.needs} & runs.keys()
        for name, (study, preset) in sorted(runs.items(), key=lambda run: -published_minutes(*run[1]))
    }
    ended: dict[str, Run | Failure] = {}

    def ready() -> list[workers.Task]:
        """The tasks whose needs have ended."""
        names = [name for name, needs in waiting.items() if needs <= ended.keys()]
        for name in names:
            del waiting[name]
        return [tasks[name] for name in names]

    def then(task: workers.Task, result: Any) -> list[workers.Task]:
        lost = isinstance(result, workers.WorkerLost)
        ended[task.name] = result = Failure(*runs[task.name], str(result)) if lost else result
        minutes = (time.monotonic() - started) / 60
        left = minutes / len(ended) * (len(tasks) - len(ended))
        print(f"{task.name}: {outcome(result)}; {len(ended)} of {len(tasks)}, {duration(left)} left", flush=True)
        return ready()

    try:
        with interruptible():
            workers.run(ready(), jobs, then=then)
    except Interrupted as error:
        print(f"reproduce.py: error: {error}", file=sys.stderr)
        sys.exit(128 + error.signum)
    return with_opponents([ended[name] for name in runs])


def outcome(result: Run | Failure) -> str:
    if isinstance(result, Failure):
        return result.reason
    return f"trained for {duration(result.minutes)}" if result.minutes else "done"


def name_of(path: str, preset: str) -> str:
    """The name of a study's run in the progress output."""
    return f"{path}, {preset}"


def presets_of(study: Study, profile: str) -> list[str]:
    return [preset for preset in study.presets if preset in PRESETS[profile]]


def folder_of(study: Study, preset: str, output: Path) -> Path:
    """The --output_dir of a run: one for all functions of a script, which may read one another's models."""
    return output / preset / study.script / study.variant


def published_minutes(study: Study, preset: str) -> float:
    """The minutes of the published run; those of the study's main preset stand in for the preset quick."""
    return published_run(study, study.presets[0] if preset == "quick" else preset).minutes


# ---- publication -----------------------------------------------------------------------------------------------------


def results_folder(study: Study, preset: str) -> Path:
    """Where the results of a preset are published."""
    return RESULTS / study.script / (study.name if preset == study.presets[0] else f"{study.name}_{preset}")


def published_run(study: Study, preset: str) -> Run:
    folder = results_folder(study, preset)
    return Run(study, preset, read_json(folder / "metrics.json"), folder)


def publish(output: Path) -> None:
    """Copies the results of the full profile to `docs/results/`; renews summary, report and the README's table."""
    for study in STUDIES:
        for preset in presets_of(study, "full"):
            source = folder_of(study, preset, output) / study.function
            if (source / "metrics.json").exists():
                figures = None if preset == study.presets[0] else study.figures
                publish_run(source, results_folder(study, preset), figures)
    results = published_results()
    readme, page = ROOT / "README.md", RESULTS / "report" / "report.md"
    text = report.markdown_page(results, page.parent)  # first: a chapter may name what is not there
    page.parent.mkdir(exist_ok=True)
    page.write_text(text)
    (RESULTS / "summary.json").write_text(json.dumps(report.summary_of(results), indent=2) + "\n")
    readme.write_text(with_table(readme.read_text(), results))


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
    """The runs in docs/results/, study by study, its main one first."""
    runs = [published_run(study, preset) for study in STUDIES for preset in presets_of(study, "full")]
    return with_opponents([run for run in runs if run.metrics])


def with_table(readme: str, results: list[Run]) -> str:
    """The README with a new results table between the two comments that mark it."""
    marked = re.compile(r"(<!-- results -->\n).*?(\n<!-- end of results -->)", re.DOTALL)
    shown = report.markdown_table(results, "docs/results/report/report.md")
    return marked.sub(lambda m: m[1] + shown + m[2], readme)


# ---- command line ----------------------------------------------------------------------------------------------------


def list_studies(studies: list[Study], profile: str) -> None:
    """Prints a line for each run: its study, preset, published duration and title."""
    for study in studies:
        for preset in presets_of(study, profile):
            minutes = published_run(study, preset).minutes
            print(f"{study.path:40s} {preset:10s} {duration(minutes) if minutes else '':16s} {study.title}")


def make_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({s.script for s in STUDIES} | {s.path for s in STUDIES})
    parser.add_argument(
        "--profile", choices=tuple(PRESETS), default="quick", help="quick: minutes; full: hours (default: quick)"
    )
    parser.add_argument("--only", choices=names, nargs="+", metavar="NAME", help="scripts or studies of --list")
    parser.add_argument("--jobs", type=int, default=1, help="processes that train at a time (default: 1)")
    parser.add_argument("--resume", action="store_true", help="continue the trainings of an earlier, stopped report")
    parser.add_argument(
        "--output_dir", type=Path, default=ROOT / "outputs", help="folder of runs and report (default: outputs/)"
    )
    parser.add_argument(
        "--list", action="store_true", help="only list the studies and the minutes of their published runs"
    )
    parser.add_argument("--publish", action="store_true", help="only publish the results of the full profile")
    return parser


def main(argv: list[str] | None = None) -> list[Run | Failure]:
    fit_console()
    parser = make_parser()
    flags = parser.parse_args(argv)
    if flags.jobs < 1:
        parser.error(f"argument --jobs: expected a number of at least 1, found {flags.jobs}")
    studies = [study for study in STUDIES if presets_of(study, flags.profile)]
    chosen = [s for s in studies if not flags.only or {s.script, s.path} & set(flags.only)]
    if absent := set(flags.only or ()) - {name for s in chosen for name in (s.script, s.path)}:
        parser.error(f"argument --only: {', '.join(sorted(absent))}: in the profile full only")
    try:
        if flags.list:
            list_studies(chosen, flags.profile)
        if flags.publish:
            publish(flags.output_dir)
    except ResultsError as error:
        parser.error(f"argument --output_dir: {error}")
    except ChapterError as error:
        parser.exit(1, f"reproduce.py: error: {error}\n")
    if flags.list or flags.publish:
        return []
    try:
        flags.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --output_dir: cannot write to {flags.output_dir}: {error.strerror}")
    started = time.monotonic()
    results = run_all(chosen, flags.profile, flags.output_dir, flags.jobs, flags.resume)
    try:
        page = report.write_page(published_results(), flags.profile, results, flags.output_dir / "report")
    except ChapterError as error:
        parser.exit(1, f"reproduce.py: error: {error}\n")
    print(f"{duration((time.monotonic() - started) / 60)}; report: {page.resolve()}")
    return results


def exit_status(results: list[Run | Failure]) -> int:
    """0, or 1 if a study failed, or 3 if only data that could not be downloaded are missing."""
    failures = [result for result in results if isinstance(result, Failure)]
    if not failures:
        return 0
    return 3 if all(failure.unavailable for failure in failures) else 1


if __name__ == "__main__":
    sys.exit(exit_status(main()))
