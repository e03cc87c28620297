"""One run of a script: each function in its own locked folder, bad input as one line, seeds and threads."""

import argparse
import ctypes
import gc
import json
import platform
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import filelock
import numpy as np
import torch

from loaders.files import DataError
from training import checkpoint, data_parallel
from training.checkpoint import CheckpointError
from training.flags import UsageError, script_of
from training.loop import Failed
from training.signals import Interrupted, interruptible
from training.tables import write_json


def prepare_process(flags: argparse.Namespace) -> None:
    """Threads and seeds, once per run and per worker process."""
    keep_memory()
    if not gc.get_freeze_count():
        gc.freeze()  # the garbage collector no longer walks through the 340,000 objects of the imports, 0.2 s each time
    torch.set_num_threads(flags.threads)
    random.seed(flags.seed)
    np.random.seed(flags.seed)
    torch.manual_seed(flags.seed)


def keep_memory() -> None:
    """Has glibc keep freed memory instead of giving it back to the system after every training step.

    The gates of a long sequence are hundreds of megabytes; fetching their pages anew at each step took more than half
    of a step's time (T=784, H=128: 2.4 times as fast with this, see benchmarks/bench_long_sequences.py).
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap's end is not given back


def run_script(flags: argparse.Namespace, functions: dict[str, Callable]) -> dict:
    """Runs the chosen function, or all, each in its own folder; returns the metrics that it wrote.

    Bad input of any kind ends with one line on standard error and status 2, divergence and a full disk with status 1,
    and a signal with 130 or 143.
    """
    chosen = [flags.function] if flags.function else list(functions)
    if not flags.quiet and data_parallel.rank() == 0:
        print("  ".join(f"--{name} {value}" for name, value in vars(flags).items()))
    try:
        if data_parallel.size() > 1 and (flags.jobs > 1 or flags.backend != "loky"):
            raise UsageError("--jobs, --backend: expected 1 and loky under torchrun, whose processes train one model")
        with interruptible(), data_parallel.joined(flags) as own:
            metrics = {name: run_function(own, name, functions[name]) for name in chosen}
    except (UsageError, DataError, CheckpointError) as error:
        sys.exit(fail(functions, error, 2))
    except (Failed, OSError) as error:
        sys.exit(fail(functions, error, 1))
    except Interrupted as error:
        sys.exit(fail(functions, error, 128 + error.signum))
    return metrics[flags.function] if flags.function else metrics


def fail(functions: dict[str, Callable], error: Exception, status: int) -> int:
    print(f"{script_of(functions)}.py: error: {error}", file=sys.stderr)
    return status


def run_function(flags: argparse.Namespace, name: str, function: Callable) -> dict:
    folder = flags.output_dir / name
    with locked(folder):
        checkpoint.remove_temporaries(folder)
        prepare_process(flags)
        if not (flags.dry_run and (folder / "config.json").exists()):  # that of the training stays
            write_json(folder / "config.json", describe_run(flags, name))
        metrics = function(flags, folder)
        write_json(folder / "metrics.json", metrics)
    if not flags.quiet:
        print(f"{name}: {json.dumps(metrics, indent=2)}\nwritten to {folder}")
    return metrics


@contextmanager
def locked(folder: Path):
    """Makes the folder and holds it: a second run in it gets a UsageError."""
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


def describe_run(flags: argparse.Namespace, function: str) -> dict:
    try:
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
        commit = git.stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        commit = None
    values = {k: str(v) if isinstance(v, Path) else v for k, v in vars(flags).items()}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {**values, "function": function, "versions": versions, "git_commit": commit}
