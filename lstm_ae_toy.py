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

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from training import flags
from training.settings import COUNT, FRACTION, POSITIVE_INT, SEED, Script, Settings, UsageError, flag, one_of, recipe

SIGNALS, SEQUENCES, STEPS = ("waves", "uniform", "walk"), 10_000, 50


@dataclass(frozen=True)
class ToySettings(Settings):
    """The flags of this script beside those of all."""

    hidden_size: int = flag(128, "units of the LSTMs", "model", POSITIVE_INT, several="grid")
    input_size: int = flag(10, f"values per step, a divisor of {STEPS}", "model", POSITIVE_INT)
    code_size: int = flag(
        16, "values of the bottleneck; 0: the encoder's last hidden state", "model", COUNT, several="each"
    )
    positional_harmonics: int = flag(
        4,
        "sine and cosine pairs in the decoder's positional encoding; 0: no positional encoding",
        "model",
        COUNT,
        aliases=["clock_harmonics"],
    )
    stretch: float = flag(
        1.0, "augmentation: shortest share of a sequence that is stretched to its length; 1: none", "training", FRACTION
    )
    mirror: bool = flag(True, "augmentation: sequences reversed in time and in sign, each half the time", "training")
    signal: str = flag("waves", "kind of sequence", "data", one_of(*SIGNALS), metavar=f"{{{','.join(SIGNALS)}}}")
    data_seed: int = flag(0, "seed of the generated sequences", "data", SEED)
    source: str = flag("auto", "", "data", refused="the sequences are generated, not read")
    data_dir: Path = flag(None, "", "data", refused="the sequences are generated, not read")

    def check(self) -> None:
        if STEPS % self.input_size:
            raise UsageError(f"--input_size: expected a divisor of {STEPS}, found {self.input_size}")


PUBLISHED = {"input_size": 1, "code_size": 0, "positional_harmonics": 0, "mirror": False, "schedule": "constant"}
PRESETS = {
    "best": [
        recipe(batch_size=64, learning_rate=3e-3),
        recipe({"signal": "waves"}, minutes=10, epochs=100, hidden_size=256, stretch=0.85),
        recipe({"signal": "walk"}, minutes=3, epochs=150),
        recipe({"signal": "uniform"}, minutes=2, epochs=60),
    ],
    "published": [
        recipe(minutes=8, batch_size=64, epochs=100, hidden_size=64, learning_rate=1e-3, **PUBLISHED),
    ],
    "quick": [recipe(minutes=1, batch_size=64, learning_rate=3e-3, epochs=40, limit=2000)],
}
SCRIPT = Script(
    __file__,
    __doc__,
    {
        "plot_examples": "three signals against time",
        "reconstruct": "train; two test signals with their reconstructions; with several values of a flag, a grid",
    },
    ToySettings,
    PRESETS,
    trains=("reconstruct",),
)
if __name__ == "__main__":
    flags.parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

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
from training.run import run_script
from training.settings import Request

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def signals(signal: str, seed: int, limit: int | None) -> ToySignals:
    return toy_signals(signal, SEQUENCES, STEPS, seed, limit)


def load(settings: ToySettings | Request) -> ToySignals:
    """The signals of `--signal`: (N, 50) each. They are the same for all seeds of the weights."""
    return signals(settings.signal, settings.data_seed, settings.limit)


def as_steps(x: Tensor, input_size: int) -> Tensor:
    return x.unflatten(1, (-1, input_size))  # (N, 50 / I, I)


# ---- training and test -----------------------------------------------------------------------------------------------


def make_step(settings: ToySettings) -> loop.Step:
    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        (x,) = batch
        if model.training and settings.stretch < 1:
            x = random_stretches(x, settings.stretch)
        if model.training and settings.mirror:
            x = random_mirrors(x)
        return {"loss": mse_loss(model(as_steps(x, settings.input_size)).reconstruction.float().flatten(1), x)}

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


def train(settings: ToySettings, folder: Path) -> loop.Result:
    data = load(settings)
    steps = STEPS // settings.input_size
    model = LSTMAutoencoder(
        settings.input_size,
        settings.hidden_size,
        settings.code_size or None,
        settings.num_layers,
        encoding_periods=harmonic_periods(steps, settings.positional_harmonics),
    )
    training, validation = TensorDataset(data.train), TensorDataset(data.validation)
    return loop.train(model, make_step(settings), training, validation, settings, folder)


def test(settings: ToySettings, folder: Path) -> dict:
    """Errors of the trained model and of the baselines on validation and test sequences."""
    data, model = load(settings), checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder)
    model.to(settings.device)
    errors = {
        f"{part}_mse": loop.evaluate(model, make_step(settings), TensorDataset(x), settings)["loss"]
        for part, x in (("test", data.test), ("val", data.validation))
    }
    return {
        "data": "generated",
        "signal": settings.signal,
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        **errors,
        **reconstruction_baselines(data.train, data.test, model.code_size),
    }


# ---- functions -------------------------------------------------------------------------------------------------------


def plot_examples(request: Request, folder: Path) -> dict:
    """Draws three signals against time."""
    data, time = load(request), np.arange(STEPS)
    rows = {f"signal {i + 1}": {request.signal: (time, data.train[i].numpy())} for i in range(3)}
    plots.panels(folder / "examples.png", rows, "time step", "value")
    return {"data": "generated", "signal": request.signal, "sequences": len(data.train)}


def reconstruct(request: Request, folder: Path) -> dict:
    """Trains and tests; draws two test signals with their reconstructions, the losses, and the grid if there is one."""
    runs = {f"code{size}": request.with_values(code_size=size) for size in request.code_size}
    metrics = grid_search.fit_many(runs, folder, train, test)
    folders = grid_search.model_folders(runs, folder)
    plot_reconstructions(load(request).test[:2], folders, folder)
    plot_history(folders, folder)
    if (folder / "grid.csv").exists():
        plot_grid(folder)
    for name, values in metrics.items():
        if not request.quiet and request.signal != "uniform" and values["test_mse"] > values["mean_mse"] / 10:
            errors = f"{values['test_mse']:.2g}, and the mean sequence's {values['mean_mse']:.2g}"
            print(f"WARNING: {name} is not ten times better than the mean sequence: its test error is {errors}")
    return metrics if len(metrics) > 1 else next(iter(metrics.values()))


@torch.no_grad()
def plot_reconstructions(originals: Tensor, folders: dict[str, Path], folder: Path) -> None:
    """Sequences (N, 50) and what each model makes of them."""
    models = {name: checkpoint.rebuild(path / "best.pt", LSTMAutoencoder) for name, path in folders.items()}
    rows = {f"test signal {i + 1}": {"original": (np.arange(STEPS), x)} for i, x in enumerate(originals)}
    for name, model in models.items():
        label = "reconstruction" if len(models) == 1 else f"reconstruction ({name})"
        estimates = model(as_steps(originals, model.arguments["input_size"])).reconstruction.flatten(1)
        for row, estimate in zip(rows.values(), estimates, strict=True):
            row[label] = (np.arange(STEPS), estimate)
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
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
