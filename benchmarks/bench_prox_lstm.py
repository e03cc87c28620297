"""Speed of the proximal LSTM's training step: interleaved medians of one run, one thread.

    python benchmarks/bench_prox_lstm.py            # about twenty minutes
    python benchmarks/bench_prox_lstm.py --quick    # one or two minutes: small sizes, and the ratios at the end

Writes docs/results/bench_prox_lstm.json and docs/results/bench_prox_lstm.png, also with --quick (the JSON says so). One
step is forward, mean square of the outputs, and backward; I = H, T = 12 steps, epsilon = 1, default initialisation.

nn.LSTM      the library's fused layer
LSTMCell     a loop over nn.LSTMCell, which everything is compared with
cg, cholesky, auto, blackbox
             the methods of `ProxLSTM` (blackbox: by autograd alone, but a row of G for the whole batch at a time)
by sample    the black-box way as it is usually written: each sample's G from H calls of autograd that record a
             graph, and everything differentiated through; once, at the sizes of the first ratio, for 3 samples and
             multiplied, since it treats them one after another

Peak memory is that of a process of its own (Linux), beyond its memory before the model was made.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from timing import medians  # noqa: E402

import experiment  # noqa: E402
import plots  # noqa: E402
from ProxLSTM import METHODS, ProxLSTM  # noqa: E402

STEPS = 12
RATIOS = (  # B, T, H = I, target: what the training step may cost beside a loop over nn.LSTMCell
    (27, 12, 64, 3.0),
    (64, 6, 512, 4.0),
)
BLACKBOX_TARGET = 500.0
DENSE_LIMIT = 2**28  # numbers in the T matrices G of the dense methods


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
    return ProxLSTM(size, size, 1.0, name, batch_first=True)


def training_step(name: str, batch: int, steps: int, size: int) -> Callable[[], None]:
    model, x = make(name, size), torch.randn(batch, steps, size)

    def step() -> None:
        model.zero_grad()
        model(x)[0].square().mean().backward()

    return step


def fits(name: str, batch: int, size: int) -> bool:
    """Whether a method's matrices G are of a size that anybody would want."""
    return name not in ("cholesky", "blackbox") or STEPS * batch * size**2 <= DENSE_LIMIT


def costs(batches: list[int], sizes: list[int], rounds: int) -> list[dict]:
    """One row per batch size, hidden size and method; the black box in rounds of its own, so as not to hold up all."""
    rows = []
    for batch in batches:
        for size in sizes:
            names = [name for name in ("nn.LSTM", "LSTMCell", *METHODS) if fits(name, batch, size)]
            fast = {name: training_step(name, batch, STEPS, size) for name in names if name != "blackbox"}
            found = medians(fast, rounds)
            if "blackbox" in names:
                found |= medians({"blackbox": training_step("blackbox", batch, STEPS, size)}, 2)
            for name, seconds in found.items():
                ratio = seconds / found["LSTMCell"]
                row = {"batch": batch, "hidden": size, "method": name, "seconds": seconds, "ratio": ratio}
                rows.append({**row, "memory_mib": peak_memory(name, batch, size)})
            report(rows[-len(found) :])
    return rows


def peak_memory(name: str, batch: int, size: int) -> float:
    """MiB that a training step needs beyond the process, in a process of its own."""
    command = [sys.executable, __file__, "--measure_memory", name, str(batch), str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(name: str, batch: int, size: int) -> None:
    torch.set_num_threads(1)
    training_step(name, 2, 2, 4)()  # what the libraries load on first use
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = memory("VmRSS")
    training_step(name, batch, STEPS, size)()
    print((memory("VmHWM") - before) / 1024)


def memory(key: str) -> int:
    """KiB of this process now (VmRSS) or at its peak (VmHWM)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1])


def report(rows: list[dict]) -> None:
    print(f"B={rows[0]['batch']} T={STEPS} I=H={rows[0]['hidden']}")
    for row in rows:
        time_and_ratio = f"{row['seconds'] * 1e3:10.2f} ms {row['ratio']:8.2f} x"
        print(f"  {row['method']:10s} {time_and_ratio} {row['memory_mib']:8.1f} MiB")
    sys.stdout.flush()


def draw(rows: list[dict], path: Path) -> None:
    """Cost beside the loop over nn.LSTMCell against H, one panel per batch size."""
    panels = {}
    for row in rows:
        panel = panels.setdefault(f"B = {row['batch']}, T = {STEPS}, I = H", {})
        x, y = panel.setdefault(row["method"], ([], []))
        x.append(row["hidden"])
        y.append(row["ratio"])
    figure, grid = plots.plt.subplots(1, len(panels), figsize=(1 + 5 * len(panels), 4), sharey=True, squeeze=False)
    for axes, (title, series) in zip(grid[0], panels.items(), strict=True):
        plots.draw_curves(axes, series, dashed=("nn.LSTM", "LSTMCell"), markers=True)
        axes.set(xscale="log", yscale="log", xlabel="hidden size H", title=title)
        sizes = sorted({size for x, _ in series.values() for size in x})
        axes.set_xticks(sizes, sizes)
        axes.minorticks_off()
    grid[0, 0].set_ylabel("training step / loop over nn.LSTMCell")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(labels))
    plots.save(figure, path)


def named_ratios(rounds: int) -> list[dict]:
    """The ratios that have a target: to the loop at two sizes, and to both black boxes at the first."""
    rows = []
    for batch, steps, size, target in RATIOS:
        names = ("LSTMCell", "nn.LSTM", "auto")
        found = medians({name: training_step(name, batch, steps, size) for name in names}, rounds)
        what = f"B={batch} T={steps} I=H={size}"
        rows.append({"what": f"auto / LSTMCell loop, {what}", "ratio": found["auto"] / found["LSTMCell"],
                     "target": f"<= {target:g}", **found})  # fmt: skip
        if len(rows) == 1:
            for name in ("blackbox", "by sample"):
                samples = 3 if name == "by sample" else batch
                step, start = training_step(name, samples, steps, size), time.perf_counter()
                step()
                found[name] = (time.perf_counter() - start) * batch / samples
                rows.append({"what": f"{name} / auto, {what}", "ratio": found[name] / found["auto"],
                             "target": f">= {BLACKBOX_TARGET:g}" if name == "by sample" else "", **found})  # fmt: skip
    return rows


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="H in {32, 64}, B = 27 and few rounds")
    parser.add_argument("--measure_memory", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.measure_memory:
        name, batch, size = flags.measure_memory
        return measure_memory(name, int(batch), int(size))
    torch.set_num_threads(1)
    experiment.keep_memory()
    batches, sizes = ([27], [32, 64]) if flags.quick else ([27, 128], [32, 64, 128, 256, 512])
    rounds = 9 if flags.quick else 21
    results = {"quick": flags.quick, "torch": torch.__version__, "steps": STEPS, "epsilon": 1.0}
    results["costs"] = costs(batches, sizes, rounds)
    folder = ROOT / "docs" / "results"
    draw(results["costs"], folder / "bench_prox_lstm.png")
    results["ratios"] = named_ratios(rounds)
    for row in results["ratios"]:
        target = f" (target {row['target']})" if row["target"] else ""
        print(f"{row['what']}: {row['ratio']:.2f}{target}")
    (folder / "bench_prox_lstm.json").write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
