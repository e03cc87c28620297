"""Time from the start of a script to its first trained epoch, beside the time to import torch; and `--help`.

    python benchmarks/bench_startup.py                  # two minutes; needs no network
    python benchmarks/bench_startup.py --rounds 5

Each script runs in a process of its own until the last training batch of its first epoch, on 64 sequences; the
validation after it takes as long as the validation data are many, and is left out. Beside it stands a process that
imports torch and computes one gradient. What is left beside that process and the loader's own seconds is the overhead:
other imports, flags, and the preparation of the data.
A short training as a whole, with its test and its figures, and `--help` are measured from start to end. Processor time.
Where DATA_DIR lacks the files of a data set, the bundled sample serves.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import ROOT, Row, record
from timing import medians

import load_data
from lstm_studies.loaders.messages import tokenize

DATA = Path(os.environ.get("DATA_DIR", ROOT / "data"))
FOLDERS = {"MNIST": "MNIST/raw", "prices": "sp500", "movement": "adv_alstm", "messages": "stocktwits"}
SCRIPTS = {  # the function with the longest preparation, what it reads, and by which loader
    "lstm_ae_toy": ("reconstruct", None, None),
    "lstm_ae_mnist": ("reconstruct --model fc", "MNIST", load_data.mnist),
    "lstm_ae_snp500": ("predict", "prices", load_data.stock_prices),
    "jv_training": ("basic", "vowels", load_data.japanese_vowels),
    "adv_alstm": ("train --dataset acl18", "movement", load_data.stock_movement),
    "stocktwits_sentiment": ("train", "messages", load_data.spy_messages),
}
SCRIPTS_ABOUT = (
    "Time from the start of a script to the last batch of its first epoch, on 64 sequences. The overhead is this time "
    "without the loader and `torch alone`, a process that imports torch and computes one gradient. Targets are of "
    "overhead and `--help`; in the last row, of a whole command with training, test and figures."
)
WHOLE = "--limit 1500 --epochs 2"  # of the toy script
REACHED = 42  # the exit status at the place up to which the seconds count
BASELINE = f"""
import os, torch
model = torch.nn.LSTM(4, 4)
model(torch.zeros(2, 1, 4))[0].sum().backward()
os._exit({REACHED})
"""
SCRIPT = f"""
import os, {{script}}
from lstm_studies.training import loop
loop.Run.finish_epoch = lambda run: os._exit({REACHED})
{{script}}.main({{flags!r}})
"""


def read(loader: Callable, source: str) -> None:
    """Reads a data set as a new process does, which has not split any message into tokens yet."""
    tokenize.cache_clear()
    loader(DATA, source=source)


def present(kind: str | None) -> bool:
    return kind in FOLDERS and any((DATA / FOLDERS[kind]).glob("[!.]*"))


def run(code: str) -> float:
    """Processor seconds of a process until it ends with the status REACHED."""
    return run_command(REACHED, "-c", code)


def run_command(status: int, *arguments: str) -> float:
    """Processor seconds of Python with these arguments, which should end with a status."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != status:
        raise RuntimeError(f"expected status {status}, found {process.returncode}: {process.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_script(name: str, data: Path, source: str) -> float:
    with tempfile.TemporaryDirectory() as output:
        flags = f"--function {SCRIPTS[name][0]} --epochs 1 --limit 64 --quiet".split()
        if name != "lstm_ae_toy":  # whose sequences are generated
            flags += ["--source", source, "--data_dir", str(data)]
        return run(SCRIPT.format(script=name, flags=[*flags, "--output_dir", output]))


def run_whole() -> float:
    with tempfile.TemporaryDirectory() as output:
        return run_command(0, "lstm_ae_toy.py", *WHOLE.split(), "--quiet", "--output_dir", output)


def scripts(rounds: int) -> list[Row]:
    """Each script, in turn; the baseline before every second one."""
    ways: dict[str, Callable[[], float]] = {}
    loading = {}
    for name, (_, kind, loader) in SCRIPTS.items():
        source = "auto" if present(kind) else "sample"
        ways[name] = partial(run_script, name, DATA, source)
        if loader is not None:
            loading[name] = medians({name: partial(read, loader, source)}, rounds)[name]
    ways[f"lstm_ae_toy {WHOLE}"] = run_whole
    helps = {name: min(run_command(0, f"{name}.py", "--help") for _ in range(rounds)) for name in SCRIPTS}
    times: dict[str, list[float]] = {name: [] for name in ("baseline", *ways)}
    for _ in range(rounds):
        for place, (name, way) in enumerate(ways.items()):
            if place % 2 == 0:
                times["baseline"].append(run(BASELINE))
            times[name].append(way())
    middle = {name: statistics.median(values) for name, values in times.items()}
    return [row(name, middle[name], middle["baseline"], loading.get(name), helps.get(name)) for name in ways]


def row(name: str, seconds: float, baseline: float, loading: float | None, help: float | None) -> Row:
    """One command's row; a negative overhead is noise and shown as 0."""
    values = {"overhead": max(0.0, seconds - baseline - (loading or 0.0)), "torch alone": baseline}
    values |= {"whole" if help is None else "until trained": seconds}
    values |= {way: own for way, own in (("loader", loading), ("help", help)) if own is not None}
    return Row(name, values, None, "< 3.5 s" if help is None else "< 1 s")


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args(argv).rounds
    torch.set_num_threads(1)
    return record("startup", "Start-up", SCRIPTS_ABOUT, scripts(rounds))


if __name__ == "__main__":
    main()
