"""Speed of the proximal LSTM's training step: interleaved medians of one run, one thread.

    python benchmarks/bench_prox_lstm.py            # about two minutes

One step is forward, mean square of the outputs, and backward; I = H, T = 12 steps, epsilon = 1, default initialisation.

nn.LSTM      the library's fused layer
LSTMCell     a loop over nn.LSTMCell, which everything is compared with
cg, cholesky, auto, blackbox
             the methods of `ProxLSTM` (blackbox: by autograd alone, but a row of G for the whole batch at a time)
by sample    the black-box way as it is usually written: each sample's G from H calls of autograd that record a
             graph, and everything differentiated through; once, at the sizes of the first ratio, for 3 samples and
             multiplied, since it treats them one after another

classifier   an epoch of `LSTMClassifier` on Japanese Vowels, beside the same with packed sequences

Peak memory is that of a process of its own (Linux), beyond its memory before the model was made.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import RESULTS, Row, memory_of_process, record
from timing import medians

from Classifier import MODES, LSTMClassifier
from lstm_studies.loaders.vowels import japanese_vowels
from lstm_studies.models.proximal_solvers import product
from lstm_studies.reporting import plots
from lstm_studies.training.run import keep_memory
from ProxLSTM import METHODS, ProxLSTM

STEPS = 12
RATIOS = (  # B, T, H = I, target: what the training step may cost beside a loop over nn.LSTMCell
    (27, 12, 64, 2.5),
    (64, 6, 512, 2.5),
)
BLACKBOX_TARGET = 500.0
DENSE_LIMIT = 2**28  # numbers in the T matrices G of the dense methods
BATCHES, SIZES = (27, 128), (32, 64, 128, 256, 512)
FIGURE = "bench_prox_lstm.png"
RATIOS_ABOUT = (
    "The proximal LSTM (`auto`) beside a loop over nn.LSTMCell and two implementations by autograd: one row of G "
    "for the whole batch at a time (`blackbox`), and sample by sample (three samples, extrapolated)."
)
COSTS_ABOUT = f"T={STEPS}, I=H, epsilon 1. The ratio is auto / loop over nn.LSTMCell."
CLASSIFIER_ABOUT = (
    "Forward, backward and Adam (270 utterances of 7 to 26 steps, B=27, 64 channels, H=64), beside the same model with "
    "packed sequences. ProxLSTM is packed in both."
)
MEMORY_ABOUT = "Peak memory of a separate process less that before the model was made."


class CellLoop(nn.Module):
    """nn.LSTMCell, step by step."""

    def __init__(self, size: int):
        super().__init__()
        self.cell = nn.LSTMCell(size, size)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h = c = x.new_zeros(len(x), self.cell.hidden_size)
        outputs = []
        for x_t in x.unbind(1):
            h, c = self.cell(x_t, (h, c))
            outputs.append(h)
        return torch.stack(outputs, 1), (h, c)


class BySample(CellLoop):
    """The proximal LSTM as it is usually written: sample by sample and row by row of G, all recorded by autograd."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (torch.stack([self.sequence(sample) for sample in x]),)

    def sequence(self, x: Tensor) -> Tensor:
        """(T, I) to (T, H)."""
        hidden = self.cell.hidden_size
        h = c = x.new_zeros(hidden)
        outputs = []
        for x_t in x:
            v = x_t.clone().requires_grad_()
            h, s = self.cell(v, (h, c))
            G = torch.stack([torch.autograd.grad(s_j, v, create_graph=True)[0] for s_j in s])
            factor = torch.linalg.cholesky(torch.eye(hidden) + G @ G.T)
            c = torch.cholesky_solve(s.unsqueeze(1), factor).squeeze(1)
            outputs.append(h)
        return torch.stack(outputs)


def make(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    if name == "nn.LSTM":
        return nn.LSTM(size, size, batch_first=True)
    if name in ("LSTMCell", "by sample"):
        return {"LSTMCell": CellLoop, "by sample": BySample}[name](size)
    return ProxLSTM(size, size, epsilon=1.0, method=name, batch_first=True)


def training_step(name: str, batch: int, steps: int, size: int) -> Callable[[], None]:
    model, x = make(name, size), torch.randn(batch, steps, size)

    def step() -> None:
        model.zero_grad()
        model(x)[0].square().mean().backward()

    return step


def fits(name: str, batch: int, size: int) -> bool:
    """Whether a method's matrices G are of a size that anybody would want."""
    return name not in ("cholesky", "blackbox") or STEPS * batch * size**2 <= DENSE_LIMIT


def methods(batch: int, size: int) -> list[str]:
    return [name for name in ("nn.LSTM", "LSTMCell", *METHODS) if fits(name, batch, size)]


def costs(rounds: int) -> list[Row]:
    """Seconds by method, a row per batch and hidden size; the black box in rounds of its own, few of them."""
    rows = []
    for batch in BATCHES:
        for size in SIZES:
            steps = {name: training_step(name, batch, STEPS, size) for name in methods(batch, size)}
            slow = {name: steps.pop(name) for name in ("blackbox",) if name in steps}
            times = medians(steps, rounds) | medians(slow, 1)
            rows.append(Row(f"B={batch} H={size}", times, times["auto"] / times["LSTMCell"]))
    return rows


def memory_rows() -> list[Row]:
    """MiB by method, a row per hidden size, for the smaller batch; the processes may run side by side."""
    names = {size: ["auto", *(name for name in methods(BATCHES[0], size) if name != "auto")] for size in SIZES}
    tasks = [(name, BATCHES[0], size) for size in SIZES for name in names[size]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        times = dict(zip(tasks, pool.map(lambda task: peak_memory(*task), tasks), strict=True))
    return [
        Row(f"B={BATCHES[0]} H={size}", {task[0]: mib for task, mib in times.items() if task[2] == size})
        for size in SIZES
    ]


def peak_memory(name: str, batch: int, size: int) -> float:
    """MiB that a training step needs beyond the process, in a process of its own."""
    command = [sys.executable, __file__, "--measure_memory", name, str(batch), str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(name: str, batch: int, size: int) -> None:
    torch.set_num_threads(1)
    training_step(name, 2, 2, 4)()  # what the libraries load on first use, and oneDNN
    product(torch.zeros(32, 256), torch.zeros(256, 128))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = memory_of_process("VmRSS")
    training_step(name, batch, STEPS, size)()
    print((memory_of_process("VmHWM") - before) / 1024)


def draw(rows: list[Row], path: Path) -> None:
    """Cost beside the loop over nn.LSTMCell against H, one panel per batch size; rows as `costs` gives them."""
    figure, grid = plots.plt.subplots(1, len(BATCHES), figsize=(1 + 5 * len(BATCHES), 4), sharey=True, squeeze=False)
    for k, (axes, batch) in enumerate(zip(grid[0], BATCHES, strict=True)):
        series: dict[str, tuple[list, list]] = {}
        for size, row in zip(SIZES, rows[k * len(SIZES) :], strict=False):
            for name, value in row.values.items():
                x, y = series.setdefault(name, ([], []))
                x.append(size)
                y.append(value / row.values["LSTMCell"])
        plots.draw_curves(axes, series, dashed=("nn.LSTM", "LSTMCell"), markers=True)
        axes.set(xscale="log", yscale="log", xlabel="hidden size H", title=f"B = {batch}, T = {STEPS}, I = H")
        axes.set_xticks(SIZES, SIZES)
        axes.minorticks_off()
    grid[0, 0].set_ylabel("training step / loop over nn.LSTMCell")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(labels))
    plots.save(figure, path)


def named_ratios(rounds: int) -> list[Row]:
    """The ratios that have a target: to the loop at two sizes, and to both black boxes at the first."""
    rows = []
    for batch, steps, size, target in RATIOS:
        names = ("LSTMCell", "nn.LSTM", "auto")
        times = medians({name: training_step(name, batch, steps, size) for name in names}, rounds)
        what = f"B={batch} T={steps} I=H={size}"
        rows.append(Row(f"auto / LSTMCell loop, {what}", times, times["auto"] / times["LSTMCell"], f"<= {target:g}"))
        if len(rows) == 1:
            for name in ("blackbox", "by sample"):
                samples = 3 if name == "by sample" else batch
                slow = medians({name: training_step(name, samples, steps, size)}, 3)[name] * batch / samples
                goal = f">= {BLACKBOX_TARGET:g}" if name == "by sample" else ""
                values = {"auto": times["auto"], name: slow}
                rows.append(Row(f"{name} / auto, {what}", values, slow / times["auto"], goal))
    return rows


class PackedClassifier(LSTMClassifier):
    """Packed sequences in every mode."""

    def last_states(self, v: Tensor, lengths: Tensor) -> Tensor:
        _, (h, _) = self.lstm(pack_padded_sequence(v, lengths, batch_first=True, enforce_sorted=False))
        return h.transpose(0, 1).flatten(1)


def classifier_rows(rounds: int) -> list[Row]:
    """Seconds of an epoch of one classifier, a row per mode and number of directions."""
    training = japanese_vowels(RESULTS, "sample").train
    batches = training.batches_by_length(3.0, len(training), 27, torch.Generator().manual_seed(0))

    def epoch_of(model: LSTMClassifier) -> Callable[[], None]:
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

        def epoch() -> None:
            for indices in batches:
                loss, _ = model.loss(*training[indices])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return epoch

    rows = []
    for mode in MODES:
        for bidirectional in (False, True):
            options = {"mode": mode, "epsilon": 1.0, "bidirectional": bidirectional}
            epochs = {"packed": PackedClassifier(**options), "LSTMClassifier": LSTMClassifier(**options)}
            times = medians({name: epoch_of(model) for name, model in epochs.items()}, rounds)
            what = mode + (", bidirectional" if bidirectional else "")
            rows.append(Row(what, times, times["packed"] / times["LSTMClassifier"]))
    return rows


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure_memory", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.measure_memory:
        name, batch, size = flags.measure_memory
        measure_memory(name, int(batch), int(size))
        return []
    torch.set_num_threads(1)
    keep_memory()
    record("prox_lstm", "Proximal LSTM, training step", RATIOS_ABOUT, named_ratios(21))
    rows = costs(3)
    draw(rows, RESULTS / FIGURE)
    record("prox_lstm", "Proximal LSTM, methods and sizes", COSTS_ABOUT, rows, figure=FIGURE)
    record("prox_lstm", "Japanese Vowels, an epoch of one model", CLASSIFIER_ABOUT, classifier_rows(11))
    return record("prox_lstm", "Proximal LSTM, memory of a step", MEMORY_ABOUT, memory_rows(), "MiB")


if __name__ == "__main__":
    main()
