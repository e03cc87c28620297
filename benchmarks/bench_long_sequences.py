"""Training step of the LSTM autoencoder over 784 steps: interleaved medians, one thread.

    python benchmarks/bench_long_sequences.py          # about two minutes

usual              nn.LSTM, the code repeated 784 times, nn.LSTM, a linear layer: PyTorch as it is
ours               LSTMAutoencoder with freed memory kept (`keep_memory`), as the scripts run it
ours, bfloat16     the same under autocast (`--precision bfloat16`)
ours, compiled     the same with torch.compile, where there is a C++ compiler
memory             peak memory of a step over 784 to 16,384 steps, B=8 H=64, all values kept or chunks of sqrt(T) steps
                   computed again in the backward pass (`--checkpoint_steps`)
two processes      the training of `lstm_ae_mnist.py --sequence pixels` under `torchrun --nproc_per_node 2`, beside one
                   process with one and with two threads: seconds of an epoch of 1,280 digits, validation included
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import ROOT, Row, memory_of_process, record
from timing import medians

from lstm_studies.models.lstm_ae import LSTMAutoencoder
from lstm_studies.training.run import keep_memory

BATCH, STEPS, SIZES = 128, 784, (64, 128)
TRAIN = "lstm_ae_mnist.py --function classify --model fc --sequence pixels --source sample --epochs 1 --quiet "
TRAIN += "--limit 1280 --batch_size 128"
ABOUT = (
    f"LSTM autoencoder, B={BATCH}, T={STEPS}, one value per step; usual with PyTorch's default memory settings, ours "
    "with malloc trimming off. The ratio is usual / ours. Last row: wall-clock time, beside one process."
)
MEMORY_STEPS = (784, 4096, 16384)  # squares of 28, 64 and 128
MEMORY_ABOUT = (
    "Peak memory of a training step (B=8, H=64, one value per step) less that of 8 steps. `chunks`: `checkpoint_steps` "
    "keeps the states between chunks of sqrt(T) steps and recomputes the others in the backward pass."
)
FLOPS_ABOUT = (
    "Products of a training step, beside a product of 2,048x2,048 matrices and a 3x3 convolution from 64 to 256 "
    "channels (16 maps of 32x32)."
)


class Usual(nn.Module):
    """The plain form: x (B, T, 1) to its reconstruction."""

    def __init__(self, hidden: int):
        super().__init__()
        self.encoder = nn.LSTM(1, hidden, batch_first=True)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.encoder(x)
        repeated = h[-1].unsqueeze(1).repeat(1, x.shape[1], 1)
        return torch.sigmoid(self.output(self.decoder(repeated)[0]))


class Ours(LSTMAutoencoder):
    """The autoencoder, to its reconstruction only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).reconstruction


def training_step(model: nn.Module, x: Tensor, bfloat16: bool = False) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            estimate = model(x)
        mse_loss(estimate.float(), x).backward()

    return step


def measure(kept: bool) -> dict[str, dict[str, float]]:
    """Median seconds of the ways that share a way of handling memory, in this process."""
    found = {}
    for hidden in SIZES:
        torch.manual_seed(0)
        x = torch.rand(BATCH, STEPS, 1)
        if kept:
            keep_memory()
            ways = {"ours": training_step(Ours(1, hidden), x)}
            ways["ours, bfloat16"] = training_step(Ours(1, hidden), x, bfloat16=True)
            if shutil.which("g++"):
                ways["ours, compiled"] = training_step(torch.compile(Ours(1, hidden)), x)
        else:
            ways = {"usual": training_step(Usual(hidden), x)}
        found[f"H={hidden}"] = medians(ways, 4)
    return found


def steps() -> list[Row]:
    """A row per size."""
    values: dict[str, dict[str, float]] = {}
    for memory in ("given_back", "kept"):
        command = [sys.executable, __file__, "--measure", memory]
        for what, ways in json.loads(subprocess.run(command, capture_output=True, check=True).stdout).items():
            values.setdefault(what, {}).update(ways)
    return [Row(f"training step, {what}", v, v["usual"] / v["ours"], ">= 2") for what, v in values.items()]


def peak_mebibytes(steps: int, chunk: int) -> float:
    """Of a training step, beyond what a step over a few steps needs, in this process."""
    model = LSTMAutoencoder(1, SIZES[0], checkpoint_steps=chunk)
    peaks = []
    for length in (8, steps):
        model(torch.rand(8, length, 1)).reconstruction.square().mean().backward()
        peaks.append(memory_of_process("VmHWM") / 1024)
    return peaks[1] - peaks[0]


def memory() -> list[Row]:
    """Peak memory against the number of steps."""
    rows = []
    for steps in MEMORY_STEPS:
        values = {}
        for way, chunk in (("kept", 0), ("chunks", math.isqrt(steps))):
            command = [sys.executable, __file__, "--peak", str(steps), str(chunk)]
            values[way] = float(subprocess.run(command, capture_output=True, check=True).stdout)
        rows.append(Row(f"{steps:,} steps", values, values["kept"] / values["chunks"]))
    return rows


def seconds_of_training(*command: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, "--output_dir", folder], cwd=ROOT, check=True)
        return json.loads((Path(folder) / "classify" / "metrics.json").read_text())["fc"]["seconds"]


def processes() -> Row:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    ways = {
        "one process": ([sys.executable], "1"),
        "two threads": ([sys.executable], "2"),
        "two processes": (torchrun, "1"),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(2):
        for way, (program, threads) in ways.items():
            times[way].append(seconds_of_training(*program, *TRAIN.split(), "--threads", threads))
    values = {way: statistics.median(seconds) for way, seconds in times.items()}
    return Row("an epoch of 1,280 digits, H=128", values, values["one process"] / values["two processes"])


def speeds(rows: list[Row]) -> Row:
    """GFLOP/s of the largest size, beside large products."""
    hidden = SIZES[-1]
    products = 2 * BATCH * STEPS * 4 * hidden * (1 + hidden + hidden + hidden)  # W_x x, W_h h; W_z z, W_h h
    a, b = torch.rand(2, 2048, 2048)
    maps = torch.rand(16, 64, 32, 32).contiguous(memory_format=torch.channels_last)
    convolution = nn.Conv2d(64, 256, 3, padding=1, bias=False).requires_grad_(False)
    times = medians({"matrix product": lambda: a @ b, "convolution": lambda: convolution(maps)}, 5)
    operations = {"matrix product": 2 * 2048**3, "convolution": 2 * maps.numel() * 256 * 9}
    values = {name: operations[name] / seconds / 1e9 for name, seconds in times.items()}
    (row,) = [row for row in rows if row.what.endswith(f"H={hidden}")]
    return Row(f"H={hidden}", {way: 3 * products / row.values[way] / 1e9 for way in ("usual", "ours")} | values)


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=("kept", "given_back"), help=argparse.SUPPRESS)
    parser.add_argument("--peak", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help="the table of memory only")
    flags = parser.parse_args(argv)
    torch.set_num_threads(1)
    if flags.peak:
        print(peak_mebibytes(*flags.peak))
        return []
    if flags.memory:
        return record("long_sequences", "Memory at long sequences", MEMORY_ABOUT, memory(), "MiB")
    if flags.measure:
        print(json.dumps(measure(flags.measure == "kept")))
        return []
    rows = steps()
    record("long_sequences", "Memory at long sequences", MEMORY_ABOUT, memory(), "MiB")
    record("long_sequences", "Sequences of 784 steps", ABOUT, [*rows, processes()])
    return record("long_sequences", "FLOP/s at 784 steps", FLOPS_ABOUT, [speeds(rows)], "GFLOP/s")


if __name__ == "__main__":
    main()
