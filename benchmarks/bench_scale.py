"""How the cost of training grows with every size, and what a second process gains.

    python benchmarks/bench_scale.py          # about four minutes

growth         a training step (forward, loss, backward) of three models and of their plain forms against batch size B,
               steps T and hidden size H, and an epoch against the number of sequences N, with the exponents of power
               laws fitted to it: 1 is proportional
two processes  the training of every script under `torchrun --nproc_per_node 2`, beside one process, on bundled data

Plain forms: nn.LSTM twice, with the code repeated; a loop over nn.LSTMCell; a ConvLSTM that convolves input and hidden
map together at every step. One thread per process, processor time.
"""

import argparse
import contextlib
import importlib
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_conv_lstm import autoencoders
from bench_long_sequences import Ours, Usual
from bench_prox_lstm import CellLoop
from record import RESULTS, ROOT, Row, record
from timing import medians, processor_seconds

from lstm_studies.reporting import plots
from lstm_studies.training import loop
from lstm_studies.training.run import keep_memory
from ProxLSTM import ProxLSTM

MODELS = ("LSTM autoencoder", "ProxLSTM", "ConvLSTM autoencoder")
PLAIN = {model: f"{model}, plain" for model in MODELS}
BASE = {"B": 32, "T": 32, "H": 32, "N": 0}
AXES = {  # the sizes, and what they are
    "B": ((8, 16, 32, 64, 128), "batch size B"),
    "T": ((16, 32, 64, 128, 256), "steps T"),
    "H": ((8, 16, 32, 64, 128), "hidden size H (channels)"),
    "N": ((64, 128, 256, 512), "sequences N, an epoch"),
}
FIGURE = "bench_scale.png"
GROWTH_ABOUT = (
    "A training step at B=T=H=32 with one of them varied, and an epoch of N sequences. The ratio is the exponent of "
    "the power law fitted to the times (1: proportional growth); `last`: that between the two largest sizes. Plain: "
    "two nn.LSTM, a loop over nn.LSTMCell, the usual ConvLSTM."
)
TRAININGS = {  # on bundled or generated data
    "lstm_ae_toy": "reconstruct --epochs 3 --limit 3000",
    "lstm_ae_mnist": "classify --model fc --source sample --epochs 1 --limit 4000",
    "lstm_ae_snp500": "reconstruct --source sample --epochs 2",
    "adv_alstm": "train --source sample --epochs 4",
    "jv_training": "basic --source sample --epochs 4 --seeds 1",
    "stocktwits_sentiment": "train --source sample --epochs 4 --seeds 1",
}
PROCESSES_ABOUT = (
    "Training in one process, and in the slower of two under torchrun, which share every batch and all-reduce the "
    "gradients. The ratio is the gain with two free cores, waiting times not included."
)


class ByStep(nn.Module):
    """A recurrent layer's outputs (B, T, H) for x (B, T, I)."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class CellLoopOf(CellLoop):
    """A loop over nn.LSTMCell with fewer inputs than hidden units."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__(hidden)
        self.cell = nn.LSTMCell(inputs, hidden)


class Reconstruction(nn.Module):
    """An autoencoder, to its reconstruction only."""

    def __init__(self, autoencoder: nn.Module):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Tensor) -> Tensor:
        return self.autoencoder(x).reconstruction


def make(name: str, hidden: int) -> tuple[nn.Module, int]:
    """A model by its name, and how many values its sequences have per step."""
    torch.manual_seed(0)
    if name.startswith("LSTM"):
        return (Ours(1, hidden) if name == MODELS[0] else Usual(hidden)), 1
    if name.startswith("Prox"):
        plain = CellLoopOf(12, hidden)
        return ByStep(ProxLSTM(12, hidden, epsilon=1.0, batch_first=True) if name == MODELS[1] else plain), 12
    return Reconstruction(autoencoders((28,), hidden, 5)["ours" if name == MODELS[2] else "usual"]), 28


def work(name: str, B: int, T: int, H: int, N: int) -> Callable[[], None]:
    """A function that takes a training step, or, with N sequences, trains an epoch."""
    model, values = make(name, H)
    data = TensorDataset(torch.rand(N or B, T, values))
    optimizer, order = torch.optim.Adam(model.parameters(), fused=True), torch.Generator().manual_seed(0)

    def step(x: Tensor) -> None:
        model.zero_grad()
        model(x).square().mean().backward()

    def epoch() -> None:
        for indices in loop.random_batches(N, B, order):
            step(*data[indices])
            optimizer.step()

    return epoch if N else partial(step, data.tensors[0])


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Of the power law through the points, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def growth(axis: str, rounds: int) -> dict[str, list[float]]:
    """Seconds at each size of an axis, by model."""
    names, sizes = [*MODELS, *PLAIN.values()], AXES[axis][0]
    functions = {(name, size): work(name, **{**BASE, axis: size}) for size in sizes for name in names}
    times = medians(functions, rounds)
    return {name: [times[name, size] for size in sizes] for name in names}


def growth_rows(axis: str, times: dict[str, list[float]]) -> list[Row]:
    sizes, rows = AXES[axis][0], []
    for model in MODELS:
        ours, plain = times[model], times[PLAIN[model]]
        doubling = math.log2(ours[-1] / ours[-2])
        what = f"{model}, {axis}={sizes[0]} to {sizes[-1]} (last {doubling:.2f})"
        values = {"smallest": ours[0], "largest": ours[-1], "plain, smallest": plain[0], "plain, largest": plain[-1]}
        rows.append(Row(what, values, exponent(sizes, ours)))
    return rows


def draw(times: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Seconds against size, a panel per axis, with the exponents of the models at the ends of their lines."""
    figure, grid = plots.plt.subplots(2, 2, figsize=(8, 7), sharey="row")
    for axes, (axis, series) in zip(grid.flat, times.items(), strict=True):
        sizes, label = AXES[axis]
        lines = {(model, kind): (sizes, series[name]) for model in MODELS for kind, name in kinds(model)}
        plots.draw_curves(axes, lines, [line for line in lines if line[1] == "plain"], markers=True)
        for number, model in enumerate(MODELS):
            text, place = f"{exponent(sizes, series[model]):.2f}", (sizes[-1], series[model][-1])
            axes.annotate(text, place, (7, -4), textcoords="offset points", color=plots.COLOURS[number], fontsize=11)
        axes.set(xscale="log", yscale="log", xlabel=label, xlim=(sizes[0] * 0.85, sizes[-1] * 1.9))
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    for axes, what in zip(grid[:, 0], ("a training step", "a step, an epoch"), strict=True):
        axes.set_ylabel(f"seconds of {what}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=2)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    plots.save(figure, path)


def kinds(model: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("ours", model), ("plain", PLAIN[model])


# ---- two processes ---------------------------------------------------------------------------------------------------


def train(script: str, *flags: str) -> None:
    """Runs a script in this process, which may be one of two, and writes what its training took."""
    importlib.import_module("torch._dynamo")  # which the first step of an optimizer would import
    folder, own = Path(os.environ["BENCHMARK_FOLDER"]), []
    train_whole = loop.Run.train
    loop.Run.train = lambda run, received: own.append(processor_seconds(partial(train_whole, run, received)))
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module(script).main([*flags, "--quiet", "--threads", "1"])
    (folder / f"{os.environ.get('RANK', 0)}.json").write_text(json.dumps(sum(own)))


def seconds_of_training(script: str, processes: int) -> float:
    """Of the process that took longest."""
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--function", *TRAININGS[script].split(), "--output_dir", f"{folder}/run"]
        command = [sys.executable, *torchrun, __file__, "--train", script, *flags]
        environment = os.environ | {"BENCHMARK_FOLDER": folder}
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{script}: {result.stderr[-500:]}")
        return max(json.loads(path.read_text()) for path in Path(folder).glob("*.json"))


def processes(rounds: int) -> list[Row]:
    """A row per script."""
    rows = []
    for script in TRAININGS:
        times: dict[str, list[float]] = {"one process": [], "two processes, each": []}
        for _ in range(rounds):
            for number, own in enumerate(times.values(), 1):
                own.append(seconds_of_training(script, number))
        values = {way: statistics.median(own) for way, own in times.items()}
        rows.append(
            Row(
                f"{script}, {TRAININGS[script].split()[0]}",
                values,
                values["one process"] / values["two processes, each"],
            )
        )
    return rows


def main(argv: list[str] | None = None) -> list[Row]:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--train"]:
        train(*argv[1:])
        return []
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("growth", "processes"), help="one of the two tables")
    flags = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_memory()
    rows = []
    if flags.only != "processes":
        times = {axis: growth(axis, flags.rounds) for axis in AXES}
        draw(times, RESULTS / FIGURE)
        rows = [row for axis, own in times.items() for row in growth_rows(axis, own)]
        record("scale", "Growth of the cost", GROWTH_ABOUT, rows, figure=FIGURE)
    if flags.only != "growth":
        rows += record("scale", "Two processes", PROCESSES_ABOUT, processes(2))
    return rows


if __name__ == "__main__":
    main()
