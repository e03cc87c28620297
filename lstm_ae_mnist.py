"""LSTM and ConvLSTM autoencoders on MNIST, read row by row, patch by patch or pixel by pixel, with classification.

    python lstm_ae_mnist.py --function reconstruct --model both
    python lstm_ae_mnist.py --function reconstruct --model both --code_size 8 16 32 64 128 --jobs 2
    python lstm_ae_mnist.py --function classify --model both
    python lstm_ae_mnist.py --function classify --model fc --sequence pixels --batch_size 32

A digit is a sequence: 28 rows of 28 pixels, 16 patches of 7 x 7, or 784 single pixels. An encoder reads it, the decoder
writes it again from the code z alone, and (`classify`) the decoder's last hidden state gives the class. There are
55,000 digits for training, 5,000 for validation and 10,000 for testing; beside the test error stand the PCA of the
training digits with a code of the same size, and their mean. RECIPES below has the default epochs and learning rates.

Deviations from the studies it follows:
1. Where one flag set both, `--code_size` sets the width of the bottleneck apart from that of the LSTMs: PCA with 8
   components holds 8 x 784 numbers, an LSTM of 8 units only some hundred, so the plain comparison is about parameters.
2. The decoder also sees a clock, sines and cosines of the step number, the same for all digits (`--clock_harmonics 0`:
   none). By rows it takes a third off the error after five epochs; pixel by pixel a decoder with a constant input does
   not learn to count its 784 steps at all and returns a grey image (error .090; the mean image has .067).
3. Cooijmans et al. 2017 initialise W_hh = I and train with RMSprop; here orthogonal gates, chrono biases, Adam.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, pad
from torch.utils.data import TensorDataset

from evaluation import baselines
from evaluation.binary_scores import binomial_sigma
from loaders.mnist import Mnist, mnist
from models.lstm_ae import Autoencoder, ConvLSTMAutoencoder, LSTMAutoencoder, harmonic_periods
from reporting import plots
from training import checkpoint, grid_search, loop, tables
from training import flags as command_line
from training.run import run_script

SIDE, PIXELS, CLASSES = 28, 784, 10
PATCH = 7
MEAN, STD = 0.1307, 0.3081  # of the training pixels, for the encoder's input
GRID = ("reconstruction_dominance",)
RECIPES = {  # default epochs and learning rate; an epoch of the convolutional model costs three to four times as much
    ("fc", "reconstruct"): (12, 1e-2),
    ("fc", "classify"): (24, 5e-3),
    ("conv", "reconstruct"): (12, 4e-3),
    ("conv", "classify"): (30, 4e-3),
}
NAMED_SIZES = {"rows": SIDE, "patches": PATCH * PATCH, "pixels": 1}


# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def digits(data_dir: Path, source: str, limit: int | None) -> Mnist:
    return mnist(data_dir, source, limit)


def load(flags: argparse.Namespace) -> Mnist:
    return digits(flags.data_dir, flags.source, flags.limit)


def as_sequences(images: Tensor, flags: argparse.Namespace) -> Tensor:
    """Images (B, 28, 28), uint8 or in [0, 1], to sequences (B, T, I) in [0, 1]."""
    x = images / 255 if images.dtype == torch.uint8 else images
    if flags.sequence == "patches":
        n = SIDE // PATCH
        return x.view(-1, n, PATCH, n, PATCH).transpose(2, 3).reshape(-1, n * n, PATCH * PATCH)
    return x.reshape(len(x), -1, flags.input_size)


def as_images(x: Tensor, flags: argparse.Namespace) -> Tensor:
    """The inverse of `as_sequences`: (B, T, I) to (B, 28, 28)."""
    if flags.sequence == "patches":
        n = SIDE // PATCH
        return x.view(-1, n, n, PATCH, PATCH).transpose(2, 3).reshape(-1, SIDE, SIDE)
    return x.reshape(len(x), SIDE, SIDE)


def random_shifts(images: Tensor, distance: int) -> Tensor:
    """Each image (B, 28, 28) moved by up to `distance` pixels in both directions, background moving in."""
    padded = pad(images, (distance,) * 4)
    rows, columns = torch.randint(2 * distance + 1, (2, len(images), 1), device=images.device)
    line = torch.arange(SIDE, device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[batch, (rows + line)[:, :, None], (columns + line)[:, None, :]]


# ---- model -----------------------------------------------------------------------------------------------------------


def build(flags: argparse.Namespace) -> Autoencoder:
    classes = CLASSES if flags.task == "classify" else 0
    steps = PIXELS // flags.input_size
    # pixel by pixel, the position within the row is encoded as well
    periods = [p for whole in (steps / SIDE, steps) for p in harmonic_periods(whole, flags.clock_harmonics)]
    if flags.model == "conv":
        return ConvLSTMAutoencoder(
            map_shape(flags),
            flags.code_size or flags.hidden_size,
            flags.channels,
            flags.kernel_size,
            classes,
            flags.dropout,
            encoding_periods=periods,
        )
    return LSTMAutoencoder(
        flags.input_size,
        flags.hidden_size,
        flags.code_size or None,
        flags.num_layers,
        classes,
        dropout=flags.dropout,
        timescale=steps if steps > 100 else None,
        encoding_periods=periods,
        input_mean=MEAN,
        input_std=STD,
    )


def map_shape(flags: argparse.Namespace) -> tuple[int, ...]:
    """The map that one step of the sequence is: a piece of a row, a row, several rows, or a patch."""
    if flags.sequence == "patches":
        return (PATCH, PATCH)
    if flags.input_size > SIDE and flags.input_size % SIDE == 0:
        return (flags.input_size // SIDE, SIDE)
    return (flags.input_size,)


# ---- training and test -----------------------------------------------------------------------------------------------


def make_step(flags: argparse.Namespace) -> loop.Step:
    """Loss: d * squared error + (1 - d) * cross-entropy, d = `--reconstruction_dominance` (1 without classes)."""
    dominance = flags.reconstruction_dominance if flags.task == "classify" else 1.0

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        images, labels = batch
        if model.training and flags.shift:
            images = random_shifts(images, flags.shift)
        x = as_sequences(images, flags)
        output = model(x)
        mse = mse_loss(output.reconstruction.float(), x)
        if output.logits is None:
            return {"loss": mse}
        loss = dominance * mse + (1 - dominance) * cross_entropy(output.logits.float(), labels)
        accuracy = (output.logits.argmax(1) == labels).float().mean()
        return {"loss": loss, "mse": mse, "accuracy": accuracy}

    return step


def train(flags: argparse.Namespace, folder: Path) -> loop.Result:
    data = load(flags)
    training = TensorDataset(data.train_images, data.train_labels)
    validation = TensorDataset(data.validation_images, data.validation_labels)
    classify = flags.task == "classify"
    return loop.train(
        build(flags),
        make_step(flags),
        training,
        validation,
        flags,
        folder,
        monitor="accuracy" if classify else "loss",
        maximise=classify,
    )


def test(flags: argparse.Namespace, folder: Path) -> dict:
    """Errors, and accuracy if there are classes, on validation and test digits, beside the baselines."""
    data, model = load(flags), trained(folder, flags)
    metrics = {
        "data": data.source,
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_digits": len(data.train_images),
    }
    step = make_step(flags)
    for part, images, labels in (
        ("test", data.test_images, data.test_labels),
        ("val", data.validation_images, data.validation_labels),
    ):
        means = loop.evaluate(model, step, TensorDataset(images, labels), flags)
        metrics[f"{part}_mse"] = means.get("mse", means["loss"])
        if flags.task == "classify":
            metrics[f"{part}_accuracy"] = means["accuracy"]
    if flags.task == "classify":
        majority = data.train_labels.bincount(minlength=CLASSES).argmax()
        metrics["test_accuracy_sigma"] = binomial_sigma(metrics["test_accuracy"], len(data.test_labels))
        metrics["majority_accuracy"] = (data.test_labels == majority).float().mean().item()
    return {**metrics, **reconstruction_baselines(flags.data_dir, flags.source, flags.limit, model.code_size)}


@cache
def reconstruction_baselines(data_dir: Path, source: str, limit: int | None, code_size: int) -> dict[str, float]:
    data = digits(data_dir, source, limit)
    return baselines.reconstruction_baselines(data.train_images / 255, data.test_images / 255, code_size)


def trained(folder: Path, flags: argparse.Namespace) -> Autoencoder:
    return checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder, ConvLSTMAutoencoder).to(flags.device)


# ---- functions -------------------------------------------------------------------------------------------------------


def reconstruct(flags: argparse.Namespace, folder: Path) -> dict:
    """digits with their reconstructions by I_fc, I_conv and PCA; error against code size if several are given"""
    runs, metrics = fit(flags, folder, "reconstruct")
    plot_digits(flags, runs, folder)
    if len(flags.code_size) > 1:
        plot_code_sizes(metrics, folder)
        plot_losses_by_code_size(runs, folder)
    else:
        plot_history(runs, folder, "loss", "mean squared error", log=True)
    return metrics if len(metrics) > 1 else next(iter(metrics.values()))


def classify(flags: argparse.Namespace, folder: Path) -> dict:
    """reconstruction and class at once: loss and accuracy against epochs, digits, confusion matrix"""
    runs, metrics = fit(flags, folder, "classify")
    plot_digits(flags, runs, folder)
    plot_history(runs, folder, "loss", "loss", log=True)
    plot_history(runs, folder, "accuracy", "accuracy")
    plot_confusion(runs, folder)
    return metrics if len(metrics) > 1 else next(iter(metrics.values()))


def fit(flags: argparse.Namespace, folder: Path, task: str) -> tuple[dict[str, argparse.Namespace], dict[str, dict]]:
    """Trains every model and code size that was asked for. Returns their flags and metrics by name."""
    models = ("fc", "conv") if flags.model == "both" else (flags.model,)
    several = len(flags.code_size) > 1
    runs = {}
    for model, size in itertools.product(models, flags.code_size):
        epochs, rate = RECIPES[model, task]
        values = {"model": model, "code_size": size, "task": task, "epochs": flags.epochs or epochs}
        values["learning_rate"] = flags.learning_rate or [rate]
        runs[f"{model}_{size}" if several else model] = grid_search.with_values(flags, **values)
    return runs, grid_search.fit_many(runs, folder, train, test, GRID)


@torch.no_grad()
def plot_digits(flags: argparse.Namespace, runs: dict[str, argparse.Namespace], folder: Path) -> None:
    """Three test digits: original, each model's reconstruction (of the largest code size), PCA."""
    data = load(flags)
    images = data.test_images[:3] / 255
    columns = {"original": images.numpy()}
    for name, path in grid_search.model_folders(runs, folder).items():
        model = trained(path, grid_search.with_values(flags, device="cpu"))
        if model.code_size == max(size or model.code_size for size in flags.code_size):
            restored = as_images(model(as_sequences(images, runs[name])).reconstruction, runs[name])
            columns[f"$I_{{{runs[name].model}}}$"] = restored.numpy()
            code_size = model.code_size
    pca = baselines.fit_pca(data.train_images / 255, code_size)
    columns[f"PCA-{code_size}"] = pca.reconstruct(images).clamp(0, 1).numpy()
    titles = [f"test digit {label}" for label in data.test_labels[:3].tolist()]
    plots.image_columns(folder / "digits.png", columns, titles)


def plot_history(runs: dict, folder: Path, key: str, ylabel: str, log: bool = False) -> None:
    series = {}
    for name, path in grid_search.model_folders(runs, folder).items():
        series |= {f"{name}, {label}": curve for label, curve in tables.read_curves(path, key).items()}
    dashed = [name for name in series if name.endswith("training")]
    plots.curves(folder / f"{key}.png", series, "epoch", ylabel, log=log, dashed=dashed)


def plot_losses_by_code_size(runs: dict[str, argparse.Namespace], folder: Path) -> None:
    """Validation errors against epochs, one panel per model, one line per code size."""
    rows: dict[str, dict] = {}
    for name, path in grid_search.model_folders(runs, folder).items():
        curve = tables.read_curves(path, "loss")["validation"]
        rows.setdefault(f"model {runs[name].model}", {})[f"code {runs[name].code_size}"] = curve
    plots.panels(folder / "loss.png", rows, "epoch", "validation\nmean squared error", log=True)


def plot_code_sizes(metrics: dict[str, dict], folder: Path) -> None:
    """Test error against code size, one line per model, beside PCA and the mean image."""
    series: dict[str, tuple[list, list]] = {}
    for name, values in metrics.items():
        for label, key in ((f"LSTM autoencoder ({name.split('_')[0]})", "test_mse"), ("PCA", "pca_mse")):
            sizes, errors = series.setdefault(label, ([], []))
            if values["code_size"] not in sizes:
                sizes.append(values["code_size"])
                errors.append(values[key])
    mean = {"mean image": next(iter(metrics.values()))["mean_mse"]}
    plots.curves(
        folder / "code_sizes.png",
        series,
        "code size Z (values)",
        "test mean squared error",
        log=True,
        levels=mean,
        dashed=["PCA"],
        markers=True,
    )


@torch.no_grad()
def plot_confusion(runs: dict[str, argparse.Namespace], folder: Path) -> None:
    matrices = {}
    for name, path in grid_search.model_folders(runs, folder).items():
        flags = runs[name]
        data, model = load(flags), trained(path, flags)
        counts = np.zeros((CLASSES, CLASSES), int)
        for images, labels in zip(data.test_images.split(500), data.test_labels.split(500), strict=True):
            predicted = model(as_sequences(images.to(flags.device), flags)).logits.argmax(1).cpu()
            np.add.at(counts, (labels.numpy(), predicted.numpy()), 1)
        matrices[name] = counts
    plots.confusion(folder / "confusion.png", matrices, range(CLASSES))


FUNCTIONS: dict[str, Callable] = {"reconstruct": reconstruct, "classify": classify}


def main(argv: list[str] | None = None) -> dict:
    parser, groups = command_line.make_parser(
        __doc__, FUNCTIONS, hidden_size=[128], epochs=None, batch_size=64, learning_rate=None
    )
    add_flags(groups)
    flags = command_line.parse(parser, argv)
    check_flags(parser, flags)
    return run_script(flags, FUNCTIONS)


def add_flags(groups: dict) -> None:
    add = groups["what to run"].add_argument
    add("--model", choices=("fc", "conv", "both"), default="both", help="fully connected or convolutional LSTM")
    add("--classification", action="store_true", help="short for --function classify")
    add = groups["model"].add_argument
    add("--sequence", choices=tuple(NAMED_SIZES), help="what one step is; default: rows")
    add("--input_size", type=command_line.POSITIVE_INT, help="pixels per step, a divisor of 784; 28: rows, 1: pixels")
    add(
        "--code_size",
        type=command_line.COUNT,
        nargs="+",
        default=[0],
        help="values of the bottleneck; 0: the hidden size; several: each is trained and tested",
    )
    add(
        "--clock_harmonics",
        type=command_line.COUNT,
        default=4,
        help="of the clock that the decoder sees beside the code; 0: no clock",
    )
    add("--channels", type=command_line.POSITIVE_INT, default=16, help="hidden channels (conv)")
    add("--kernel_size", type=command_line.POSITIVE_INT, default=5, help="odd (conv)")
    add("--dropout", type=command_line.number(float, 0, 0.99), default=0.0, help="before the class head")
    add = groups["training"].add_argument
    add(
        "--reconstruction_dominance",
        type=command_line.FRACTION,
        nargs="+",
        default=[0.5],
        help="weight d of the squared error beside 1 - d of the cross-entropy; several: a grid",
    )
    add("--shift", type=command_line.number(int, 0, SIDE), default=0, help="augmentation: move by up to N pixels")


def check_flags(parser: command_line.Parser, flags: argparse.Namespace) -> None:
    """Flags that depend on one another; resolves `--sequence` and `--input_size` into both."""
    if flags.classification:
        if flags.function not in (None, "classify"):
            parser.error(f"argument --classification: is short for --function classify, found {flags.function}")
        flags.function = "classify"
    named = NAMED_SIZES.get(flags.sequence, SIDE)
    if flags.sequence and flags.input_size not in (None, named):
        parser.error(f"argument --input_size: --sequence {flags.sequence} has {named}, found {flags.input_size}")
    flags.input_size = flags.input_size or named
    flags.sequence = flags.sequence or {SIDE: "rows", 1: "pixels"}.get(flags.input_size, "pieces")
    if PIXELS % flags.input_size:
        parser.error(f"argument --input_size: expected a divisor of {PIXELS}, found {flags.input_size}")
    if flags.model != "fc" and flags.input_size < 3:
        parser.error("argument --model: a step of fewer than 3 pixels has no spatial axis to convolve; use --model fc")
    if flags.model != "fc" and flags.kernel_size % 2 == 0:
        parser.error(f"argument --kernel_size: expected an odd number, found {flags.kernel_size}")
    if flags.model == "conv" and flags.num_layers > 1:
        parser.error("argument --num_layers: the convolutional autoencoder has one layer, found several")


if __name__ == "__main__":
    main()
