"""Peak memory of every study's full run on the real data, a process each.

    DATA_DIR=path/to/data python benchmarks/bench_memory.py          # about three minutes

The commands are those of studies.py, cut short where that does not change what is in memory at once: one epoch, one
seed, two folds, and 20 batches an epoch and an evaluation. Data, batch sizes, models and figures are whole. Studies
whose data are not at hand are left out; MNIST and S&P 500 then stand for their samples, as the row says.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import ROOT, Row, record

from lstm_studies.reporting.studies import STUDIES, Study
from lstm_studies.training import loop

BATCHES = 20
EVALUATE = loop.evaluate
SHORT = {"epochs": 1, "seeds": 1}  # where a function has them
SHORT_VOWELS = {"folds": 2, "epsilon": 1}
ABOUT = "Largest resident memory with complete data, batches and models, but few epochs, seeds and folds."


class ShortRun(loop.Run):
    """A training whose epochs end after BATCHES batches."""

    def train(self, received: list[int]) -> None:
        whole = self.batches
        self.batches = lambda *arguments: list(whole(*arguments))[:BATCHES]
        super().train(received)


def short_evaluation(model, step, data, flags) -> dict[str, float]:
    """`loop.evaluate` of the first batches."""
    return EVALUATE(model, step, FirstBatches(data, flags.batch_size), flags)


class FirstBatches:
    """The first sequences of a data set, as many as are in BATCHES batches."""

    def __init__(self, data, batch_size: int):
        self.data, self.size = data, min(len(data), BATCHES * batch_size)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, indices):
        return self.data[indices]


def peak() -> float:
    """MiB of this process so far; ru_maxrss is in KiB on Linux, in bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def commands(study: Study, folder: str) -> list[list[str]]:
    """The command lines of a study, cut short: those of the studies whose models it reads, and its own."""
    script = importlib.import_module(study.script).SCRIPT
    values = SHORT | (SHORT_VOWELS if study.script == "jv_training" else {})
    values |= {"seeds": 2} if study.function == "starts" else {}  # a correlation needs two
    lines = []
    for one in (*(other for other in STUDIES if other.path in study.needs), study):
        used = [
            name
            for name in values
            if one.function in script.users(name) and not (name == "seeds" and "--folds" in one.flags)
        ]
        short = " ".join(f"--{name} {values[name]}" for name in used)
        short += " --basic_epochs 1" if "epsilon" in used else ""
        lines.append(f"--function {one.function} {one.flags} {short} --quiet --output_dir {folder}".split())
    return lines


def measure(number: int) -> dict:
    """Runs a study in this process; its peak, and whether the data were whole."""
    study = STUDIES[number]
    loop.Run, loop.evaluate = ShortRun, short_evaluation
    script = importlib.import_module(study.script)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for argv in commands(study, folder):
            metrics = script.main(argv)
    return {"MiB": peak(), "data": '"data": "sample"' not in json.dumps(metrics)}


def own_process(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def row_of(number: int) -> Row | None:
    study = STUDIES[number]
    result = own_process("--measure", str(number))
    if result.returncode:
        print(f"left out: {study.title}: {result.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    peak = json.loads(result.stdout.splitlines()[-1])
    return Row(study.title + ("" if peak["data"] else " (bundled sample)"), {"peak": peak["MiB"]})


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    number = parser.parse_args(argv).measure
    if number is not None:
        print(json.dumps(measure(number) if number >= 0 else {"MiB": peak()}))
        return []
    alone = json.loads(own_process("--measure", "-1").stdout)
    rows = [Row("nothing, PyTorch imported", {"peak": alone["MiB"]})]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the other processes do not count
        rows += filter(None, pool.map(row_of, [n for n, study in enumerate(STUDIES) if study.numbers]))
    return record("memory", "Peak memory of the studies", ABOUT, rows, "MiB")


if __name__ == "__main__":
    main()
