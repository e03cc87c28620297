"""LSTM autoencoder on synthetic sequences, or on those of a file.

    python lstm_ae_toy.py                                            # examples, then waves with a code of 16 values
    python lstm_ae_toy.py --function reconstruct --fresh             # new waves in every batch
    python lstm_ae_toy.py --function reconstruct --preset published --signal uniform --jobs 2 \\
        --hidden_size 8 16 32 --learning_rate .1 .01 .001 --gradient_clipping 1 5   # the published grid
    python lstm_ae_toy.py --function reconstruct --data mine.csv --input_size 10    # one sequence per row
    python lstm_ae_toy.py --function anomalies --data new.csv        # the worst sequences of a file first

10,000 sequences of 50 values, split 60/20/20, each one scaled into [0, 1] around 1/2. The code z is the only thing that
the decoder sees, and it is judged beside the best linear code of the same size (PCA) and the mean sequence. An
autoencoder that does not train returns the mean sequence: the run says so if it does.

Deviations from the published grid (uniform signals, best validation loss 0.000167):
1. There the decoder also read the encoder's output at every step, so nothing had to pass through the code; here all of
   it does.
2. There the epoch was chosen on the data that is reported; here on validation data, and the test part is used once.
Question, protocol and results: docs/lstm_ae_toy.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lstm_studies.training import flags
from lstm_studies.training.presets import Script, recipe
from lstm_studies.training.settings import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE_INT,
    SEED,
    AutoencoderSettings,
    UsageError,
    flag,
    one_of,
)

SIGNALS, SEQUENCES, STEPS = ("waves", "uniform", "walk"), 10_000, 50
OUTPUT_LAYERS = ("sigmoid", "linear")


@dataclass(frozen=True)
class ToySettings(AutoencoderSettings):
    """The flags of this script beside those of all."""

    hidden_size: int = flag(128, "units of the LSTMs", "model", POSITIVE_INT, several="grid")
    input_size: int = flag(10, "values per step, a divisor of the sequences' length", "model", POSITIVE_INT)
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
    output_layer: str = flag(
        "sigmoid",
        "last layer of the decoder",
        "model",
        one_of(*OUTPUT_LAYERS),
        metavar=f"{{{','.join(OUTPUT_LAYERS)}}}",
    )
    fresh: bool = flag(False, "new sequences of the same kind in every batch of training", "training")
    extension: int = flag(
        0,
        "steps that linear prediction adds at both ends of a sequence before --stretch and --filtering",
        "training",
        COUNT,
    )
    stretch: float = flag(
        1.0,
        "augmentation: shortest share s of a sequence that is stretched to its length; with --extension also up to "
        "2 - s times its length compressed; 1: none",
        "training",
        FRACTION,
    )
    filtering: float = flag(
        0.0,
        "augmentation: standard deviation of a random filter's coefficients; 0: none",
        "training",
        NOT_NEGATIVE,
    )
    mirror: bool = flag(False, "augmentation: sequences reversed in time and in sign, each half the time", "training")
    signal: str = flag("waves", "kind of sequence", "data", one_of(*SIGNALS), metavar=f"{{{','.join(SIGNALS)}}}")
    data_seed: int = flag(0, "seed of the generated sequences, or of the split of --data", "data", SEED)
    data: Path | None = flag(
        None, "CSV file with one sequence per row, instead of generated ones", "data", Path, metavar="FILE"
    )
    source: str = flag("auto", "", "data", refused="the sequences are generated, or read from --data")
    data_dir: Path = flag(None, "", "data", refused="the sequences are generated, or read from --data")

    def check(self) -> None:
        if self.data is None and STEPS % self.input_size:
            raise UsageError(f"--input_size: expected a divisor of {STEPS}, found {self.input_size}")
        if self.data is not None and self.fresh:
            raise UsageError("--fresh: used with generated sequences only, not with --data")
        if self.extension and not (self.filtering or self.stretch < 1):
            raise UsageError("--extension: used with --filtering or --stretch only; without both, --extension 0")


GENERATED = {"function": "reconstruct", "data": None}
PRESETS = {
    "best": [
        recipe(batch_size=64, learning_rate=3e-3, epochs=100),
        recipe(GENERATED, mirror=True),
        recipe({**GENERATED, "signal": ("waves", "walk")}, input_size=25, output_layer="linear", precision="bfloat16"),
        recipe({**GENERATED, "signal": "waves"}, minutes=4, hidden_size=192, num_layers=2, batch_size=256),
        recipe({**GENERATED, "signal": "waves"}, learning_rate=5e-3, epochs=240),
        recipe({**GENERATED, "signal": "waves", "fresh": False}, filtering=0.3, stretch=0.9, extension=6),
        recipe({**GENERATED, "signal": "waves", "fresh": True}, mirror=False),
        recipe({**GENERATED, "signal": "walk"}, minutes=2, hidden_size=256, batch_size=128, learning_rate=5e-3),
        recipe({**GENERATED, "signal": "walk"}, epochs=120),
        recipe({**GENERATED, "signal": "uniform"}, minutes=1, epochs=60),
    ],
    "published": [
        recipe(input_size=1, code_size=0, hidden_size=32, positional_harmonics=0),
        recipe(schedule="constant", batch_size=64, epochs=100, learning_rate=1e-3),
        recipe(GENERATED, minutes=3),
        recipe({**GENERATED, "signal": "uniform"}, minutes=0.3, epochs=10),
    ],
    "quick": [
        recipe(batch_size=64, learning_rate=3e-3, epochs=40, limit=2000),
        recipe(GENERATED, minutes=1, mirror=True),
    ],
}
SCRIPT = Script(
    __file__,
    __doc__,
    {
        "plot_examples": "three signals against time",
        "reconstruct": "train; two test signals with their reconstructions; with several values of a flag, a grid",
        "encode": "codes of the test sequences, or of those in --data, as CSV",
        "anomalies": "test sequences, or those in --data, the worst reconstructed first; a test with planted anomalies",
    },
    ToySettings,
    PRESETS,
    trains=("reconstruct",),
    whole_study=("plot_examples", "reconstruct"),
)
if __name__ == "__main__":
    flags.parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset

from lstm_studies.evaluation.anomalies import judge
from lstm_studies.evaluation.baselines import fit_pca, reconstruction_baselines
from lstm_studies.loaders.augmentation import extended, random_filters, random_mirrors, random_stretches
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.toy import (
    ToySignals,
    generate_signals,
    own_sequences,
    read_sequences,
    scale_sequences,
    toy_signals,
)
from lstm_studies.models.lstm_ae import LSTMAutoencoder, harmonic_periods
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, grid_search, loop, tables
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.trained import in_batches, trained_model, write_codes

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def signals(data: Path | None, signal: str, seed: int, limit: int | None) -> ToySignals:
    if data is not None:
        return own_sequences(data, seed, limit)
    return toy_signals(signal, SEQUENCES, STEPS, seed, limit)


def load(settings: ToySettings | Request) -> ToySignals:
    """The sequences of `--data` or `--signal`: (N, T) each. They are the same for all seeds of the weights."""
    data = signals(settings.data, settings.signal, settings.data_seed, settings.limit)
    length = data.train.shape[1]
    if length % settings.input_size:
        raise UsageError(
            f"--input_size: expected a divisor of {length}, the sequences' length, found {settings.input_size}"
        )
    return data


def check_signal(request: Request) -> None:
    if request.data is not None and "signal" in request.given:
        raise UsageError("--signal: used with generated sequences only, not with --data")


def as_steps(x: Tensor, input_size: int) -> Tensor:
    return x.unflatten(1, (-1, input_size))  # (N, T / I, I)


# ---- training and test -----------------------------------------------------------------------------------------------


def make_step(settings: ToySettings) -> loop.Step:
    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        x, *extensions = batch
        if model.training:
            x = augmented(x, *extensions, settings)
        return {"loss": mse_loss(model(as_steps(x, settings.input_size)).reconstruction.float().flatten(1), x)}

    return step


def augmented(x: Tensor, longer: Tensor, settings: ToySettings) -> Tensor:
    """What training sees in place of x (B, T). longer: the same sequences with `extension` more steps at both ends."""
    length = x.shape[1]
    if settings.fresh:
        seed = int(torch.randint(2**62, ()))  # from PyTorch's generator, whose state is in the checkpoint
        x = longer = scale_sequences(generate_signals(settings.signal, *x.shape, seed))[0].to(x.device)
    if settings.filtering or settings.stretch < 1:
        longer = random_filters(longer, settings.filtering) if settings.filtering else longer
        shortest, longest = settings.stretch * length, min((2 - settings.stretch) * length, longer.shape[1])
        x = random_stretches(longer, min(shortest, longest), longest, length)
    return random_mirrors(x) if settings.mirror else x


def train(settings: ToySettings, folder: Path) -> loop.Result:
    data = load(settings)
    steps = data.train.shape[1] // settings.input_size
    model = LSTMAutoencoder(
        settings.input_size,
        settings.hidden_size,
        settings.code_size or None,
        settings.num_layers,
        encoding_periods=harmonic_periods(steps, settings.positional_harmonics),
        output_layer=settings.output_layer,
    )
    training = TensorDataset(data.train, extended(data.train, settings.extension))
    validation = TensorDataset(data.validation)
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
        **described(data),
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        **errors,
        **reconstruction_baselines(data.train, data.test, model.code_size),
    }


def described(data: ToySignals) -> dict:
    return {name: data.metadata[name] for name in ("data", "signal", "file") if name in data.metadata}


# ---- functions that train --------------------------------------------------------------------------------------------


def plot_examples(request: Request, folder: Path) -> dict:
    """Draws three signals against time."""
    check_signal(request)
    data = load(request.with_values(input_size=1))
    name, time = data.metadata.get("signal", "value"), np.arange(data.train.shape[1])
    rows = {f"signal {i + 1}": {name: (time, x.numpy())} for i, x in enumerate(data.train[:3])}
    plots.panels(folder / "examples.png", rows, "time step", "value")
    return {**described(data), "sequences": len(data.train)}


def reconstruct(request: Request, folder: Path) -> dict:
    """Trains and tests; draws two test signals with their reconstructions, the losses, and the grid if there is one."""
    check_signal(request)
    runs = {f"code{size}": request.with_values(code_size=size) for size in request.code_size}
    metrics = grid_search.fit_many(runs, folder, train, test)
    folders = grid_search.model_folders(runs, folder)
    plot_reconstructions(load(request).test[:2], folders, folder)
    plot_history(folders, folder)
    if (folder / "grid.csv").exists():
        plot_grid(folder)
    if not request.quiet:
        for name, values in metrics.items():
            warn_of_the_mean(name, values)
    return metrics if len(metrics) > 1 else next(iter(metrics.values()))


def warn_of_the_mean(name: str, metrics: dict) -> None:
    """Says so if a model hardly reconstructs: waves and walks should be ten times better than the mean sequence is."""
    times = 10 if metrics.get("signal") in ("waves", "walk") else 1.05  # noise has no better code
    if metrics["test_mse"] * times > metrics["mean_mse"]:
        errors = f"{metrics['test_mse']:.2g}, and the mean sequence's {metrics['mean_mse']:.2g}"
        print(f"WARNING: {name} is not {times:g} times better than the mean sequence: its test error is {errors}")


@torch.no_grad()
def plot_reconstructions(originals: Tensor, folders: dict[str, Path], folder: Path) -> None:
    """Sequences (N, T) and what each model makes of them."""
    models = {name: checkpoint.rebuild(path / "best.pt", LSTMAutoencoder) for name, path in folders.items()}
    time = np.arange(originals.shape[1])
    rows = {f"test signal {i + 1}": {"original": (time, x)} for i, x in enumerate(originals)}
    for name, model in models.items():
        label = "reconstruction" if len(models) == 1 else f"reconstruction ({name})"
        estimates = model(as_steps(originals, model.arguments["input_size"])).reconstruction.flatten(1)
        for row, estimate in zip(rows.values(), estimates, strict=True):
            row[label] = (time, estimate)
    dashed = [label for label in row if label != "original"]
    plots.panels(folder / "reconstructions.png", rows, "time step", "value", dashed=dashed)


def plot_history(folders: dict[str, Path], folder: Path) -> None:
    series = {}
    for name, path in folders.items():
        for label, curve in tables.read_curves(path, "loss").items():
            series[(label,) if len(folders) == 1 else (name, label)] = curve
    dashed = [name for name in series if name[-1] == "training"]
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


# ---- functions that apply a trained model ----------------------------------------------------------------------------


def sequences_to_judge(request: Request, trained: ToySignals) -> tuple[Tensor, list[str]]:
    """The sequences of `--data`, scaled, or else the test part of the training's, (N, T), and a name for each."""
    if request.data is None:
        return trained.test, [f"test {i}" for i in range(1, len(trained.test) + 1)]
    x, length = scale_sequences(read_sequences(request.data))[0], trained.test.shape[1]
    if x.shape[1] != length:
        raise DataError(f"{request.data}: expected sequences of {length} values, as in training, found {x.shape[1]}")
    return x, [f"row {i}" for i in range(1, len(x) + 1)]


def encode(request: Request, folder: Path) -> dict:
    """Writes the codes of sequences to codes.csv."""
    model, settings, path = trained_model(request, "reconstruct", "signal", LSTMAutoencoder)
    x, names = sequences_to_judge(request, load(settings))
    codes = in_batches(model.encode, as_steps(x, settings.input_size), settings.device)
    write_codes(folder / "codes.csv", names, codes)
    return {"model": str(path), "sequences": len(names), "code_size": model.code_size}


def anomalies(request: Request, folder: Path) -> dict:
    """Ranks sequences by reconstruction error in anomalies.csv; draws the worst; tests with planted anomalies."""
    model, settings, path = trained_model(request, "reconstruct", "signal", LSTMAutoencoder)
    data = load(settings)
    x, names = sequences_to_judge(request, data)
    rows, restored, metrics = judge(
        x,
        names,
        reconstruction(model, settings),
        fit_pca(data.train, model.code_size),
        validation=data.validation,
        test=data.test,
        quantile=request.quantile,
        seed=settings.seed,
        prepare=lambda x: scale_sequences(x)[0],
    )
    tables.write_csv(folder / "anomalies.csv", rows)
    plot_worst(rows, dict(zip(names, zip(x, restored, strict=True), strict=True)), folder)
    return {"model": str(path), "sequences": len(rows), **metrics}


def reconstruction(model: nn.Module, settings: ToySettings) -> Callable[[Tensor], Tensor]:
    """The function that sends sequences (N, T) through the autoencoder."""

    def reconstruct(x: Tensor) -> Tensor:
        steps = as_steps(x.float(), settings.input_size)
        return in_batches(lambda x: model(x).reconstruction, steps, settings.device).flatten(1)

    return reconstruct


def plot_worst(rows: list[dict], sequences: dict[str, tuple[Tensor, Tensor]], folder: Path) -> None:
    """The sequences with the largest errors and their reconstructions."""
    panels = {}
    for row in rows[:4]:
        original, estimate = sequences[row["sequence"]]
        time = np.arange(len(original))
        title = f"{row['sequence']}: error {row['error']:.2g}"
        panels[title] = {"original": (time, original), "reconstruction": (time, estimate)}
    plots.panels(folder / "worst.png", panels, "time step", "value", dashed=["reconstruction"])


FUNCTIONS = {"plot_examples": plot_examples, "reconstruct": reconstruct, "encode": encode, "anomalies": anomalies}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
