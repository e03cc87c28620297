"""Running a script: one locked folder per function, bad input reported in one line, seeds and threads."""

import contextlib
import ctypes
import gc
import hashlib
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import torch

from lstm_studies.loaders.files import DataError
from lstm_studies.training import checkpoint, data_parallel, flags
from lstm_studies.training.formats import FORMAT, VERSION
from lstm_studies.training.loop import Failed
from lstm_studies.training.presets import Request, Script
from lstm_studies.training.settings import DECIDING, Settings, UsageError
from lstm_studies.training.signals import Interrupted, interruptible
from lstm_studies.training.tables import read_json, table_of, write_json

NO_MEMORY = re.compile("can't allocate memory|out of memory|can't start new thread", re.IGNORECASE)  # of a RuntimeError


def prepare_process(settings: Settings | Request) -> None:
    """Sets threads and seeds, once per run and per worker process."""
    keep_memory()
    if not gc.get_freeze_count():
        gc.freeze()  # the garbage collector no longer walks through the 340,000 objects of the imports, 0.2 s each time
    torch.set_num_threads(settings.threads)
    seed = getattr(settings, "seed", 0)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def keep_memory() -> None:
    """Makes glibc keep this process's freed memory instead of returning it to the system after every training step.

    For scripts and, called once before the first training step, for programs that import the layers.

    The gates of a long sequence are hundreds of megabytes; fetching their pages anew at each step took more than half
    of a step's time (T=784, H=128: 2.4 times as fast with this, see benchmarks/bench_long_sequences.py).
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap's end is not given back


def run_script(script: Script, functions: dict[str, Callable[[Request, Path], dict]], argv: list[str] | None) -> dict:
    """Runs the chosen function, or the whole study, each in its own folder; returns the metrics that it wrote.

    Bad input of any kind ends with one line on standard error and status 2, divergence and a full disk with status 1,
    and a signal with 130 or 143.
    """
    requests = flags.parse(script, argv)
    for function in functions.values():  # a file may have changed since an earlier call in this process
        for value in vars(sys.modules[function.__module__]).values():
            getattr(value, "cache_clear", lambda: None)()
    first = next(iter(requests.values()))
    main = sys.modules["__main__"]
    if Path(getattr(main, "__file__", None) or "").resolve().stem == script.name:
        sys.modules.setdefault(script.name, main)  # tasks import the script by its name: it would read its data again
    try:
        device = find_device(first.device)
        parallel = any(
            r.values.get("jobs", 1) > 1 or r.values.get("backend", "loky") != "loky" for r in requests.values()
        )
        if data_parallel.started() > 1 and parallel:
            raise UsageError("--jobs, --backend: expected 1 and loky under torchrun, whose processes train one model")
        with interruptible(), data_parallel.joined(first, device) as process:
            metrics = {
                name: run_function(r, functions[name], {"device": device, **process}) for name, r in requests.items()
            }
    except (UsageError, DataError) as error:
        sys.exit(fail(script, error, 2))
    except (Failed, OSError) as error:
        sys.exit(fail(script, error, 1))
    except Interrupted as error:
        sys.exit(fail(script, error, 128 + error.signum))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:200] or "MemoryError"
        sys.exit(fail(script, Failed(f"the memory is not enough, try a smaller --batch_size: {reason}"), 1))
    return metrics if tuple(requests) == script.whole_study else metrics[first.function]


def find_device(name: str) -> str:
    """`--device`, "auto" replaced by what is there. Raises UsageError for one that is not."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, present in available.items() if present)
    if not available[name]:
        raise UsageError(f"--device: {name} is not available here, expected one of auto, cpu")
    return name


def fail(script: Script, error: Exception, status: int) -> int:
    print(f"{script.name}.py: error: {error}", file=sys.stderr)
    return status


def run_function(request: Request, function: Callable[[Request, Path], dict], process: dict) -> dict:
    """Runs one function in its folder. `process`: settings that this process resolved, such as the device."""
    if not request.quiet and data_parallel.rank() == 0:
        print(flags.headline(request), flush=True)
    request = request.with_values(**process)
    folder = request.output_dir / request.function
    with locked(folder):
        checkpoint.remove_temporaries(folder)
        prepare_process(request)
        with files_of_one_run(request, folder):
            metrics = function(request, folder)
        write_json(folder / "metrics.json", metrics)
        note_source(metrics, folder / "config.json")
    if not request.quiet:
        notices = (values["notice"] for values in metrics.values() if "notice" in values)
        print(table_of(metrics), f"written to {folder}", *notices, sep="\n")
    return metrics


def note_source(metrics: dict[str, dict], path: Path) -> None:
    """Writes into config.json which source `--source auto` used, so that a dry run reads the same data."""
    config = read_json(path)
    sources = {values.get("data") for values in metrics.values()} & {"full", "sample"}
    if config.get("source") == "auto" and len(sources) == 1:
        write_json(path, {**config, "source": sources.pop()})


RESULTS = ("best.pt", "last.pt", "last.previous.pt", "history.csv", "grid.csv", "metrics.json", "grid", "seeds")
RESULTS += ("model.pt2", "model.onnx", "model.json")


def results_in(folder: Path) -> list[Path]:
    """Files of a run beside config.json: its results, tables, figures, and folders of its trainings."""
    paths = [folder / name for name in RESULTS]
    if (folder / "config.json").exists():  # else the folder is not of a run
        for pattern in ("*.png", "*.csv", "events.out.tfevents.*"):
            paths += folder.glob(pattern)
        paths += [path for path in folder.glob("[!.]*") if any((path / name).exists() for name in RESULTS)]
    return [path for path in dict.fromkeys(paths) if path.is_symlink() or path.exists()]


@contextlib.contextmanager
def files_of_one_run(request: Request, folder: Path):
    """Writes config.json and puts aside what an earlier run left, unless this one goes on with it.

    If what was asked is refused before a training has begun, the folder is as it was. Killed at any moment: a folder
    without config.json has the files of the earlier run in it and in `.earlier`, one with it those of the new run.
    """
    resume, dry_run = map(request.values.get, ("resume", "dry_run"))
    config, aside = folder / "config.json", folder / ".earlier"
    if not config.exists():
        bring_back(aside, folder)  # a run was killed while it put files aside
    remove(aside)
    described, earlier = describe_run(request), read_json(config) if (resume or dry_run) and config.exists() else {}
    refuse_other_data(described, earlier, folder)
    aside.mkdir()
    moved = [] if resume or dry_run else results_in(folder)
    if resume and earlier and asks_for_more(request, earlier, folder):
        moved = [path for path in results_in(folder) if path.suffix in (".png", ".csv", ".json")]
        moved = [path for path in moved if path.name != "history.csv"]
    if not dry_run and config.exists():
        moved = [config, *moved]
    for path in moved:
        path.rename(aside / path.name)
    if not config.exists():
        write_json(config, described)
    if resume:
        say_what_differs(folder, described, earlier)
    try:
        yield
    except (UsageError, DataError):
        trained = any(aside not in path.parents for path in folder.rglob("last.pt"))
        if resume or dry_run or not trained:
            for path in [] if dry_run else [config] if resume else [config, *results_in(folder)]:
                remove(path)
            bring_back(aside, folder)
        raise
    finally:
        remove(aside)


def bring_back(aside: Path, folder: Path) -> None:
    """Moves the files of an earlier run back into its folder, config.json as the last one."""
    for path in sorted(aside.glob("*"), key=lambda path: path.name == "config.json"):
        remove(folder / path.name)
        path.rename(folder / path.name)


def asks_for_more(request: Request, earlier: dict, folder: Path) -> bool:
    """Whether a resumed run is asked for more than its config.json says: seeds, epochs, or values of a grid.

    Raises UsageError for any other settings than those of its trainings.
    """
    more = False
    for name, flag in request.flags.items():
        then, now = earlier.get(name), flags.plain(request.values[name], request.output_dir)
        decides = flag.group in DECIDING and name not in ("data_dir", "source")
        if name not in earlier or then == now or not (decides or name == "seeds"):
            continue
        if isinstance(then, list) and isinstance(now, list):
            grows = len(then) > 1 and all(value in now for value in then)
        else:  # a cosine of learning rates has an end
            can = name == "seeds" or (name == "epochs" and request.values["schedule"] == "constant")
            grows = can and isinstance(then, int) and then < now
        if not grows:
            raise UsageError(f"--resume: {folder} was trained with --{name} {then}, not {now}")
        more = True
    return more


def refuse_other_data(described: dict, earlier: dict, folder: Path) -> None:
    """Raises UsageError if the contents of one's own files are not those that the run in `folder` read."""
    if then := earlier.get("data_sha256"):
        for file, digest in described.get("data_sha256", {}).items():
            if then.get(file, digest) != digest:
                raise UsageError(f"{folder} was trained with other contents of {file}: train anew, without --resume")


def say_what_differs(folder: Path, described: dict, earlier: dict) -> None:
    """Prints what changes the last bits of a resumed run and is not as in its config.json."""
    names = [name for name in ("threads", "device", "machine", "versions") if name in earlier.keys() & described]
    differing = [f"{name} {earlier[name]}, now {described[name]}" for name in names if earlier[name] != described[name]]
    if differing:
        begun = f"{folder} was begun with {'; '.join(differing)}"
        print(f"NOTICE: --resume: {begun}: the last bits may differ from those of one run", file=sys.stderr)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path):
    """Makes the folder and locks it. Raises UsageError if another run holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise UsageError(f"--output_dir: another run is writing to {folder}; wait for it or choose another") from None
    except OSError as error:
        raise UsageError(f"--output_dir: cannot write to {folder}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def machine() -> str:
    """The processor and its number of cores."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):  # Linux says which processor it is in a file only
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return f"{name}, {os.cpu_count()} cores"


def describe_run(request: Request) -> dict:
    try:
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
        commit = git.stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        commit = None
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {
        **flags.describe(request),
        "format": FORMAT,
        "version": VERSION,
        "versions": versions,
        "machine": machine(),
        "git_commit": commit,
        **({"data_sha256": digests} if (digests := digests_of_data(request)) else {}),
    }


def digests_of_data(request: Request) -> dict[str, str]:
    """SHA-256 of each of one's own files and folders that a training reads (`--data`, `--dataset`, `--train`,
    `--test`), by its name; none for functions that cannot be resumed."""
    names = ("data", "dataset", "train", "test") if "resume" in request.values else ()
    given = [request.values.get(name) for name in names]
    digests = {}
    for path in [Path(path) for value in given if value for path in (value if isinstance(value, list) else [value])]:
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and os.access(file, os.R_OK):
                with open(file, "rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
                digests[path.name] = digest.hexdigest()
    return digests
