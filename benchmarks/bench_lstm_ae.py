"""Speed of the autoencoders' parts beside what they replace: interleaved medians of one run, one thread.

    python benchmarks/bench_lstm_ae.py            # about five minutes; writes docs/results/bench_lstm_ae.json
    python benchmarks/bench_lstm_ae.py --only conv_lstm

conv_lstm  a training step of our ConvLSTM beside one that is recorded step by step: input and hidden map concatenated
           and one convolution per step, the structure of github.com/ndrplz/ConvLSTM_pytorch, with the same sizes; both
           with freed memory kept (the function alone), and as each runs by itself (ours kept, the other one given back)
memory     a training step at T=784 with glibc's freed memory kept (`experiment.keep_memory`) and given back, each in a
           process of its own
grid       18 short trainings with `--jobs 2` beside the same ones one after another with PyTorch's default threads
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from timing import medians  # noqa: E402

import experiment  # noqa: E402
from conv_lstm import ConvLSTM  # noqa: E402

SIZES = (  # B, T, C, H, space, kernel
    (64, 28, 1, 8, (28,), 5),
    (64, 28, 1, 32, (28,), 3),
    (16, 10, 1, 16, (28, 28), 3),
    (8, 10, 16, 64, (16, 16), 3),
)


class StepwiseConvLSTM(nn.Module):
    """The usual way: one convolution over the concatenated input and hidden map per step, recorded by autograd."""

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int, spatial_dims: int):
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d)[spatial_dims - 1]
        self.conv = kind(in_channels + hidden_channels, 4 * hidden_channels, kernel_size, padding=kernel_size // 2)
        self.hidden_channels = hidden_channels

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, _, *space = x.shape
        h = c = x.new_zeros(batch, self.hidden_channels, *space)
        outputs = []
        for t in range(steps):
            i, f, o, g = self.conv(torch.cat([x[:, t], h], 1)).split(self.hidden_channels, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, 1)


def training_step(model: nn.Module, *inputs) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        model(*inputs).square().mean().backward()

    return step


def conv_lstm() -> list[dict]:
    """In processes of their own, in turn: with freed memory kept for both, and for ours only."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(3):
        for kept in ("both", "ours"):
            command = [sys.executable, __file__, "--conv_lstm_steps", kept]
            for name, times in json.loads(subprocess.run(command, capture_output=True, check=True).stdout).items():
                for what, seconds in times.items():
                    found.setdefault(name, {}).setdefault(f"{what}, {kept}", []).append(seconds)
    rows = []
    for name, times in found.items():
        middle = {what: statistics.median(seconds) for what, seconds in times.items()}
        for kept, label in (("both", "memory kept for both"), ("ours", "each by itself")):
            ours, other = middle["ours, both"], middle[f"stepwise, {kept}"]
            rows.append({"what": f"{name}, {label}", "ours": ours, "stepwise": other, "ratio": other / ours})
    return rows


def conv_lstm_steps(kept: str) -> dict[str, dict[str, float]]:
    """Median seconds of training steps at all sizes, in this process."""
    if kept == "both":
        experiment.keep_memory()
    found = {}
    for batch, steps, channels, hidden, space, kernel in SIZES:
        x = torch.rand(batch, steps, channels, *space)
        ours = ConvLSTM(channels, hidden, kernel, len(space))
        stepwise = StepwiseConvLSTM(channels, hidden, kernel, len(space))
        encoder = {"ours": training_step(ours, x), "stepwise": training_step(stepwise, x)}
        repeated = x[:, :1].expand(-1, steps, *x.shape[2:])
        decoder = {"ours": training_step(ours, x[:, 0], steps), "stepwise": training_step(stepwise, repeated)}
        name = f"B={batch} T={steps} C={channels} H={hidden} {'x'.join(map(str, space))} k={kernel}"
        found[f"ConvLSTM encoder, {name}"] = medians(encoder, 5)
        found[f"ConvLSTM decoder, {name}"] = medians(decoder, 5)
    return found


def memory() -> list[dict]:
    """Each variant in its own process, since the setting cannot be taken back."""
    code = (
        "import sys, time, statistics, torch; sys.path.insert(0, {root!r}); import experiment, lstm_ae\n"
        "torch.set_num_threads(1)\n"
        "if {keep}: experiment.keep_memory()\n"
        "model, x = lstm_ae.LSTMAutoencoder(1, 128), torch.rand(32, 784, 1)\n"
        "def step(): model.zero_grad(); model(x).reconstruction.square().mean().backward()\n"
        "step(); times = []\n"
        "for _ in range(3):\n"
        "    start = time.perf_counter(); step(); times.append(time.perf_counter() - start)\n"
        "print(statistics.median(times))"
    )
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(3):
        for keep, found in times.items():
            command = [sys.executable, "-c", code.format(root=str(ROOT), keep=keep)]
            found.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    kept, given_back = (statistics.median(times[keep]) for keep in (True, False))
    return [{"what": "LSTM autoencoder, T=784 H=128 B=32", "kept": kept, "given_back": given_back,
             "ratio": given_back / kept}]  # fmt: skip


def toy(*runs: list[str]) -> float:
    """Seconds of runs of the toy script with these flags, one after another in one process of their own."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        common = ["--function", "reconstruct", "--output_dir", folder, "--quiet", "--input_size", "1"]
        common += ["--code_size", "0"]
        code = f"import lstm_ae_toy\nfor flags in {list(runs)!r}: lstm_ae_toy.main({common!r} + flags)"
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code], check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - start


def grid() -> list[dict]:
    """The published grid of the toy study, two epochs each."""
    names = ("--hidden_size", "--learning_rate", "--gradient_clipping")
    values = (["8", "16", "32"], ["0.1", "0.01", "0.001"], ["1", "5"])
    common = ["--signal", "uniform", "--epochs", "2"]
    together = common + [part for name, several in zip(names, values, strict=True) for part in (name, *several)]
    threads = ["--threads", str(os.cpu_count())]  # PyTorch's default
    apart = [
        common + threads + [part for pair in zip(names, point, strict=True) for part in pair]
        for point in itertools.product(*values)
    ]
    parallel, one_by_one = [], []
    for _ in range(3):
        parallel.append(toy(together + ["--jobs", "2"]))
        one_by_one.append(toy(*apart))
    found = {"jobs 2": statistics.median(parallel), "one after another": statistics.median(one_by_one)}
    return [{"what": "18-point grid", **found, "ratio": found["one after another"] / found["jobs 2"]}]


PARTS = {"conv_lstm": conv_lstm, "memory": memory, "grid": grid}


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--conv_lstm_steps", choices=("both", "ours"), help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    chosen = flags.only
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if flags.conv_lstm_steps:
        print(json.dumps(conv_lstm_steps(flags.conv_lstm_steps)))
        return {}
    results = {}
    for name in chosen:
        results[name] = PARTS[name]()
        for row in results[name]:
            times = "  ".join(f"{k} {v * 1e3:.1f} ms" for k, v in row.items() if k not in ("what", "ratio"))
            print(f"{row['what']}: {times}, ratio {row['ratio']:.2f}", flush=True)
    path = ROOT / "docs" / "results" / "bench_lstm_ae.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        results = {**json.loads(path.read_text()), **results}
    path.write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
