"""The published grid of the toy study, 18 trainings, with `--jobs 2` beside the same ones one after another.

    python benchmarks/bench_grid.py          # about three minutes

jobs 2          the grid as one command, in two processes of one thread each
one process     the points one after another in one process with PyTorch's default threads, one per core
own commands    a command per point, as a loop in a shell runs them, with the same threads: each one starts Python

Once each, from the start of a command to its end, plots included.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import ROOT, Row, record

FLAGS = "--function reconstruct --signal uniform --input_size 1 --code_size 0 --quiet".split()  # see studies.py
GRID = {
    "--hidden_size": ("8", "16", "32"),
    "--learning_rate": ("0.1", "0.01", "0.001"),
    "--gradient_clipping": ("1", "5"),
}
ABOUT = (
    "The published grid of the toy study, {epochs} epochs each, on two cores: with `--jobs 2`, in one process, or with "
    "one command per setting (`own commands`). The ratio is that to `jobs 2`."
)


def seconds(*runs: list[str]) -> float:
    """Of the toy script with each of these flags in turn, in one process."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        flags = [[*FLAGS, "--output_dir", folder, *run] for run in runs]
        code = f"import lstm_ae_toy\nfor flags in {flags!r}: lstm_ae_toy.main(flags)"
        start = time.perf_counter()
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", default="4", help="of each point")
    epochs = ["--epochs", parser.parse_args(argv).epochs]
    together = [part for name, values in GRID.items() for part in (name, *values)]
    threads = ["--threads", str(os.cpu_count())]
    points = [
        [part for pair in zip(GRID, values, strict=True) for part in pair] + threads + epochs
        for values in itertools.product(*GRID.values())
    ]
    values = {
        "jobs 2": seconds([*together, *epochs, "--jobs", "2"]),
        "one process": seconds(*points),
        "own commands": sum(seconds(point) for point in points),
    }
    rows = []
    for way in ("one process", "own commands"):
        ratio = values[way] / values["jobs 2"]
        rows.append(Row(f"beside {way}", {"jobs 2": values["jobs 2"], way: values[way]}, ratio, ">= 2.5"))
    return record("grid", "A grid of 18 points", ABOUT.format(epochs=epochs[1]), rows)


if __name__ == "__main__":
    main()
