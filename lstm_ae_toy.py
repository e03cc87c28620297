"""LSTM autoencoder on synthetic sequences.

    python lstm_ae_toy.py                                            # examples, then waves with a code of 16 values
    python lstm_ae_toy.py --function reconstruct --signal uniform --input_size 1 --code_size 0 --epochs 30 --jobs 2 \\
        --hidden_size 8 16 32 --learning_rate .1 .01 .001 --gradient_clipping 1 5   # the published grid

10,000 sequences of 50 values, split 60/20/20, each one scaled into [0, 1] around 1/2. The code z is the only thing that
the decoder sees, and it is judged beside the best linear code of the same size (PCA) and the mean sequence. An
autoencoder that does not train returns the mean sequence: the run says so if it does.

Deviations from the published grid (uniform signals, best validation loss 0.000167):
1. There the decoder also read the encoder's output at every step, so nothing had to pass through the code; here all of
   it does.
2. There the epoch was chosen on the data that is reported; here on validation data, and the test part is used once.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, mse_loss
from torch.utils.data import TensorDataset

from evaluation.baselines import reconstruction_baselines
from loaders.toy import ToySignals, scale_sequences, toy_signals
from models.lstm_ae import LSTMAutoencoder, harmonic_periods
from reporting import plots
from training import checkpoint, grid_search, loop, tables
from training import flags as command_line
from training.run import run_script

COUNT, LENGTH = 10_000, 50


# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def signals(signal: str, seed: int, limit: int | None) -> ToySignals:
    return toy_signals(signal, COUNT, LENGTH, seed, limit)


def load(flags: argparse.Namespace) -> ToySignals:
    """The signals of `--signal`: (N, 50) each. They are the same for all seeds of the weights."""
    return signals(flags.signal, flags.data_seed, flags.limit)


def as_steps(x: Tensor, input_size: int) -> Tensor:
    return x.unflatten(1, (-1, input_size))  # (N, 50 / I, I)


# ---- training and test -----------------------------------------------------------------------------------------------


def make_step(flags: argparse.Namespace) -> loop.Step:
    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        (x,) = batch
        if model.training and flags.stretch < 1:
            x = random_stretches(x, flags.stretch)
        if model.training and flags.mirror:
            x = random_mirrors(x)
        return {"loss": mse_loss(model(as_steps(x, flags.input_size)).reconstruction.float().flatten(1), x)}

    return step


def random_stretches(x: Tensor, shortest: float) -> Tensor:
    """A random part of each sequence (B, T), of at least `shortest` times its length, stretched to T steps and scaled
    anew. Values between steps are cubic interpolations. A sum of sines stays one, with lower frequencies.
    """
    length = shortest + (1 - shortest) * torch.rand(len(x), 1, device=x.device)
    start = (1 - length) * torch.rand(len(x), 1, device=x.device)
    place = 2 * (start + length * torch.linspace(0, 1, x.shape[1], device=x.device)) - 1  # (B, T); 1: last step
    grid = torch.stack([place, torch.zeros_like(place)], 2).unsqueeze(1)  # (B, 1, T, 2)
    stretched = grid_sample(x[:, None, None], grid, mode="bicubic", padding_mode="border", align_corners=True)
    return scale_sequences(stretched.flatten(1))[0]


def random_mirrors(x: Tensor) -> Tensor:
    """Each sequence (B, T) reversed in time, and turned over around 1/2, with probability 1/2 each."""
    backwards, over = (torch.rand(2, len(x), 1, device=x.device) < 0.5).unbind()
    x = torch.where(backwards, x.flip(1), x)
    return torch.where(over, 1 - x, x)


def train(flags: argparse.Namespace, folder: Path) -> loop.Result:
    data = load(flags)
    steps = LENGTH // flags.input_size
    model = LSTMAutoencoder(
        flags.input_size,
        flags.hidden_size,
        flags.code_size or None,
        flags.num_layers,
        encoding_periods=harmonic_periods(steps, flags.clock_harmonics),
    )
    training, validation = TensorDataset(data.train), TensorDataset(data.validation)
    return loop.train(model, make_step(flags), training, validation, flags, folder)


def test(flags: argparse.Namespace, folder: Path) -> dict:
    """Errors of the trained model and of the baselines on validation and test sequences."""
    data, model = load(flags), checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder)
    model.to(flags.device)
    errors = {
        f"{part}_mse": loop.evaluate(model, make_step(flags), TensorDataset(x), flags)["loss"]
        for part, x in (("test", data.test), ("val", data.validation))
    }
    return {
        "data": "generated",
        "signal": flags.signal,
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        **errors,
        **reconstruction_baselines(data.train, data.test, model.code_size),
    }


# ---- functions -------------------------------------------------------------------------------------------------------


def plot_examples(flags: argparse.Namespace, folder: Path) -> dict:
    """three signals against time"""
    data, time = load(flags), np.arange(LENGTH)
    rows = {f"signal {i + 1}": {flags.signal: (time, data.train[i].numpy())} for i in range(3)}
    plots.panels(folder / "examples.png", rows, "time step", "value")
    return {"data": "generated", "signal": flags.signal, "sequences": len(data.train)}


def reconstruct(flags: argparse.Namespace, folder: Path) -> dict:
    """train; two test signals with their reconstructions; with several values of a flag, a grid"""
    runs = {f"code{size}": grid_search.with_values(flags, code_size=size) for size in flags.code_size}
    metrics = grid_search.fit_many(runs, folder, train, test)
    folders = grid_search.model_folders(runs, folder)
    plot_reconstructions(load(flags).test[:2], folders, folder)
    plot_history(folders, folder)
    if (folder / "grid.csv").exists():
        plot_grid(folder)
    for name, values in metrics.items():
        if flags.signal != "uniform" and values["test_mse"] > values["mean_mse"] / 10:
            errors = f"{values['test_mse']:.2g}, and the mean sequence's {values['mean_mse']:.2g}"
            print(f"WARNING: {name} is not ten times better than the mean sequence: its test error is {errors}")
    return metrics if len(metrics) > 1 else next(iter(metrics.values()))


@torch.no_grad()
def plot_reconstructions(originals: Tensor, folders: dict[str, Path], folder: Path) -> None:
    """Sequences (N, 50) and what each model makes of them."""
    models = {name: checkpoint.rebuild(path / "best.pt", LSTMAutoencoder) for name, path in folders.items()}
    rows = {f"test signal {i + 1}": {"original": (np.arange(LENGTH), x)} for i, x in enumerate(originals)}
    for name, model in models.items():
        label = "reconstruction" if len(models) == 1 else f"reconstruction ({name})"
        estimates = model(as_steps(originals, model.arguments["input_size"])).reconstruction.flatten(1)
        for row, estimate in zip(rows.values(), estimates, strict=True):
            row[label] = (np.arange(LENGTH), estimate)
    dashed = [label for label in row if label != "original"]
    plots.panels(folder / "reconstructions.png", rows, "time step", "value", dashed=dashed)


def plot_history(folders: dict[str, Path], folder: Path) -> None:
    series = {}
    for name, path in folders.items():
        for label, curve in tables.read_curves(path, "loss").items():
            series[label if len(folders) == 1 else f"{name}, {label}"] = curve
    dashed = [name for name in series if name.endswith("training")]
    plots.curves(folder / "loss.png", series, "epoch", "mean squared error", log=True, dashed=dashed)


def plot_grid(folder: Path) -> None:
    """A heat map of the grid's validation errors: learning rate against hidden size, a panel per gradient clipping."""
    rows = tables.read_table(folder / "grid.csv")
    names = ("learning_rate", "hidden_size", "gradient_clipping")
    rates, sizes, clippings = (sorted({row.get(name, 0.0) for row in rows}) for name in names)
    maps = {}
    for clipping in clippings:
        matrix = np.full((len(rates), len(sizes)), np.nan)
        for row in rows:
            if row.get("gradient_clipping", 0.0) == clipping:
                place = rates.index(row.get("learning_rate", 0.0)), sizes.index(row.get("hidden_size", 0.0))
                matrix[place] = row["score"]
        maps[f"gradient clipping {clipping:g}" if len(clippings) > 1 else ""] = matrix
    labels = [f"{size:g}" for size in sizes], [f"{rate:g}" for rate in rates]
    plots.heat_maps(
        folder / "grid.png", maps, *labels, "hidden size (units)", "learning rate", "validation mean squared error"
    )


FUNCTIONS = {"plot_examples": plot_examples, "reconstruct": reconstruct}


def main(argv: list[str] | None = None) -> dict:
    parser, groups = command_line.make_parser(
        __doc__, FUNCTIONS, hidden_size=[128], epochs=100, batch_size=64, learning_rate=[3e-3]
    )
    add = groups["model"].add_argument
    add("--input_size", type=command_line.POSITIVE_INT, default=5, help=f"values per step, a divisor of {LENGTH}")
    add(
        "--code_size",
        type=command_line.COUNT,
        nargs="+",
        default=[16],
        help="values of the bottleneck; 0: the last hidden state; several: each is trained and tested",
    )
    add(
        "--clock_harmonics",
        type=command_line.COUNT,
        default=0,
        help="of the clock that the decoder sees beside the code; 0: no clock",
    )
    add = groups["training"].add_argument
    add(
        "--stretch",
        type=command_line.FRACTION,
        default=1.0,
        help="augmentation: random parts, at least this share of a sequence, stretched; 1: none",
    )
    add("--mirror", action="store_true", help="augmentation: sequences backwards and upside down, each half the time")
    add = groups["data"].add_argument
    add("--signal", choices=("waves", "uniform", "walk"), default="waves", help="kind of sequence")
    add("--data_seed", type=command_line.number(int, 0, 2**31), default=0, help="of the generated sequences")
    flags = command_line.parse(parser, argv)
    if LENGTH % flags.input_size:
        parser.error(f"argument --input_size: expected a divisor of {LENGTH}, found {flags.input_size}")
    return run_script(flags, FUNCTIONS)


if __name__ == "__main__":
    main()
