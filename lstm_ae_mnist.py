"""LSTM and ConvLSTM autoencoders on MNIST, read row by row, patch by patch or pixel by pixel, with classification.

    python lstm_ae_mnist.py --function reconstruct --code_size 8 16 32 64 128 --jobs 2    # error against code size
    python lstm_ae_mnist.py --function classify                      # 99.4 % (fc) and 99.3 % (conv), reconstructing too
    python lstm_ae_mnist.py --function classify --sequence pixels --model fc    # 784 steps of one pixel: 99.0 %
    python lstm_ae_mnist.py --function classify --preset published   # the study as it is written
    python lstm_ae_mnist.py --function classify --data fashion/      # other images, in four IDX files
    python lstm_ae_mnist.py --function encode --data new-images-idx3-ubyte.gz    # codes of images, as CSV

A digit is a sequence: 28 rows of 28 pixels, 16 patches of 7 x 7, 784 single pixels, or steps of any other divisor of
784. An encoder reads it, the decoder writes it again from the code z alone, and (`classify`) the decoder's last hidden
state gives the class. There are 55,000 digits for training, 5,000 for validation and 10,000 for testing; beside the
test error stand the PCA of the training digits with a code of the same size, and their mean.

Deviations from the studies it follows (none of 1 to 3 with --preset published):
1. Where one flag set both, `--code_size` sets the width of the bottleneck apart from that of the LSTMs: PCA with 8
   components holds 8 x 784 numbers, an LSTM of 8 units only some hundred, so the plain comparison is about parameters.
2. The decoder also sees a positional encoding, sines and cosines of the step number, the same for all digits. By rows
   it takes a third off the error after five epochs; pixel by pixel a decoder with a constant input does not learn to
   count its 784 steps at all and returns a grey image (error .090; the mean image has .067).
3. The learning rate follows a cosine, and the weight of the reconstruction beside the class was chosen on validation.
4. Cooijmans et al. 2017 initialise W_hh = I and train with RMSprop; here orthogonal gates, chrono biases, Adam.
Question, protocol and results: docs/lstm_ae_mnist.md.
"""

import itertools
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from lstm_studies.training import flags
from lstm_studies.training.presets import Request, Script, recipe
from lstm_studies.training.settings import (
    COUNT,
    FRACTION,
    POSITIVE_INT,
    AutoencoderSettings,
    UsageError,
    flag,
    number,
    one_of,
)

SIDE, PIXELS = 28, 784
PATCH = 7  # pixels
NAMED_SIZES = {"rows": SIDE, "patches": PATCH * PATCH, "pixels": 1}
TRAIN = ("reconstruct", "classify")
HEADS, CLASS_LOSSES = ("shared", "deep", "separate"), ("cross_entropy", "nll")
CHANNELS, KERNEL_SIZE = 16, 5


@dataclass(frozen=True)
class DigitSettings(AutoencoderSettings):
    """The flags of this script beside those of all."""

    model: str = flag(
        "both",
        "fc: LSTMs; conv: convolutional LSTMs, whose state keeps the places of a step; both: each one by itself",
        "model",
        one_of("fc", "conv", "both"),
        metavar="{fc,conv,both}",
    )
    classification: bool = flag(
        False, "the same as --function classify", "what to run", functions=["classify"], decides=False
    )
    sequence: str | None = flag(
        None,
        "what one step is: a row, a patch of 7 x 7 pixels, or a pixel; default: rows, or what --input_size says",
        "model",
        one_of(*NAMED_SIZES),
        metavar=f"{{{','.join(NAMED_SIZES)}}}",
    )
    input_size: int | None = flag(
        None,
        "pixels per step, a divisor of 784, such as 7, 14, 28 (rows), 56; 1: single pixels; default: 28, or what "
        "--sequence says",
        "model",
        POSITIVE_INT,
    )
    code_size: int = flag(
        128,
        "values of the bottleneck; 0: the encoder's last hidden state (fc), as many as --hidden_size (conv)",
        "model",
        COUNT,
        several="each",
    )
    hidden_size: int = flag(128, "units of the LSTMs (fc)", "model", POSITIVE_INT, several="grid")
    num_layers: int = flag(1, "stacked LSTM layers (fc)", "model", POSITIVE_INT)
    positional_harmonics: int = flag(
        4,
        "sine and cosine pairs in the decoder's positional encoding; 0: no positional encoding",
        "model",
        COUNT,
        aliases=["clock_harmonics"],
    )
    channels: int = flag(CHANNELS, "channels of the hidden maps (conv)", "model", POSITIVE_INT)
    kernel_size: int = flag(KERNEL_SIZE, "odd size of the convolutions (conv)", "model", POSITIVE_INT)
    head: str = flag(
        "shared",
        "what gives the class: shared: the decoder's last state; deep: the same through a hidden layer; separate: the "
        "last state of a second decoder",
        "model",
        one_of(*HEADS),
        functions=["classify"],
        metavar=f"{{{','.join(HEADS)}}}",
    )
    dropout: float = flag(
        0.0, "dropout rate before the class head's last layer", "model", number(float, 0, 0.99), functions=["classify"]
    )
    class_loss: str = flag(
        "cross_entropy",
        "loss of the class: cross-entropy of logits, or nll, the negative log-likelihood of log-probabilities that the "
        "model puts out; equal up to rounding",
        "training",
        one_of(*CLASS_LOSSES),
        functions=["classify"],
        metavar=f"{{{','.join(CLASS_LOSSES)}}}",
    )
    reconstruction_dominance: float = flag(
        0.5,
        "weight d of the squared error beside 1 - d of the class loss",
        "training",
        FRACTION,
        several="grid",
        functions=["classify"],
    )
    checkpoint_steps: int = flag(
        0,
        "steps of a chunk of time, whose inner values the backward pass computes again instead of keeping them (fc): "
        "less memory, up to twice the time; 0: all are kept",
        "training",
        COUNT,
    )
    shift: int = flag(
        0, "augmentation: digits moved by up to so many pixels in each direction", "training", number(int, 0, SIDE)
    )
    data: Path | None = flag(
        None,
        "folder of four IDX files, images of 28 x 28 pixels and labels, instead of MNIST; to apply a trained model "
        "also one IDX file of images",
        "data",
        Path,
        metavar="PATH",
    )

    @property
    def pixels(self) -> int:
        """Pixels per step."""
        return self.input_size or NAMED_SIZES[self.sequence or "rows"]

    def check(self) -> None:
        named = NAMED_SIZES.get(self.sequence)
        if named and self.input_size not in (None, named):
            raise UsageError(f"--input_size: --sequence {self.sequence} has {named}, found {self.input_size}")
        if PIXELS % self.pixels:
            raise UsageError(f"--input_size: expected a divisor of {PIXELS}, found {self.input_size}")
        if self.model != "fc" and self.kernel_size % 2 == 0:
            raise UsageError(f"--kernel_size: expected an odd number, found {self.kernel_size}")
        for name, usual in (("num_layers", 1), ("checkpoint_steps", 0)):
            if self.model != "fc" and getattr(self, name) != usual:
                raise UsageError(f"--{name}: used with --model fc only, and --model is {self.model}")
        for name, usual in (("channels", CHANNELS), ("kernel_size", KERNEL_SIZE)):
            if self.model == "fc" and getattr(self, name) != usual:
                raise UsageError(f"--{name}: used with --model conv or both only, and --model is fc")


RECONSTRUCT, CLASSIFY = {"function": "reconstruct"}, {"function": "classify"}
PIXELWISE = ({"sequence": "pixels"}, {"input_size": 1})
PRESETS = {
    "best": [
        recipe(batch_size=64, precision="bfloat16"),
        recipe(RECONSTRUCT, minutes=18, learning_rate=1e-2, epochs=12),
        recipe({**RECONSTRUCT, "model": "fc"}, minutes=5),
        recipe({**RECONSTRUCT, "model": "conv"}, minutes=13, learning_rate=4e-3),
        recipe(CLASSIFY, minutes=47, code_size=64, reconstruction_dominance=0.97, shift=1, learning_rate=5e-3),
        recipe({**CLASSIFY, "model": "fc"}, minutes=8, epochs=24),
        recipe({**CLASSIFY, "model": "conv"}, minutes=39, learning_rate=4e-3, epochs=30),
        *(recipe(when, minutes=116, model="fc", code_size=0, batch_size=32, learning_rate=2e-3) for when in PIXELWISE),
        *(recipe({**CLASSIFY, **when}, reconstruction_dominance=0.9, shift=0, epochs=20) for when in PIXELWISE),
    ],
    "published": [
        recipe(model="fc", code_size=0, positional_harmonics=0, class_loss="nll"),
        recipe(batch_size=64, schedule="constant", learning_rate=1e-3, epochs=10),
        recipe(RECONSTRUCT, minutes=4),
        recipe(CLASSIFY, minutes=5),
        *(recipe(when, minutes=20, epochs=3, precision="bfloat16") for when in PIXELWISE),  # or it takes hours
    ],
    "quick": [
        recipe(batch_size=64, precision="bfloat16", learning_rate=5e-3, epochs=12, limit=6000),
        recipe(RECONSTRUCT, minutes=2),
        recipe(CLASSIFY, minutes=2, code_size=64, reconstruction_dominance=0.97),
    ],
}
SCRIPT = Script(
    __file__,
    __doc__,
    {
        "reconstruct": "train; digits beside PCA's; error against code size if several are given",
        "classify": "train reconstruction and class at once; losses, errors, digits, confusion matrix",
        "encode": "codes of the test images, or of those in --data, as CSV",
        "anomalies": "test images, or those in --data, the worst reconstructed first; a test with planted anomalies",
    },
    DigitSettings,
    PRESETS,
    trains=TRAIN,
    whole_study=TRAIN,
)


def arguments(argv: list[str] | None) -> list[str]:
    """The command line with --classification written out."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--classification" not in argv or "--function" in argv:
        return argv  # beside another function, the parser refuses it
    return ["--function", "classify", *(argument for argument in argv if argument != "--classification")]


if __name__ == "__main__":
    flags.parse(SCRIPT, arguments(None))  # before the slow imports: --help and wrong flags answer at once

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, nll_loss, pad
from torch.utils.data import TensorDataset

from lstm_studies.evaluation import baselines
from lstm_studies.evaluation.anomalies import judge
from lstm_studies.evaluation.binary_scores import binomial_sigma
from lstm_studies.loaders.mnist import Mnist, mnist, own_images, read_images
from lstm_studies.models.conv_lstm import low_precision_pays
from lstm_studies.models.lstm_ae import Autoencoder, ConvLSTMAutoencoder, LSTMAutoencoder, harmonic_periods
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, grid_search, loop, tables
from lstm_studies.training.run import run_script
from lstm_studies.training.trained import in_batches, trained_model, write_codes

MEAN, STD = 0.1307, 0.3081  # of the training pixels, for the encoder's input
LONG = 100  # steps from which on the encoder's gates start with memories as long as the sequence

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def digits(data: Path | None, data_dir: Path, source: str, limit: int | None) -> Mnist:
    return mnist(data_dir, source, limit) if data is None else own_images(data, limit)


def load(settings: DigitSettings | Request) -> Mnist:
    """MNIST, or the images of `--data`."""
    return digits(settings.data, settings.data_dir, settings.source, settings.limit)


def as_sequences(images: Tensor, settings: DigitSettings) -> Tensor:
    """Images (B, 28, 28), uint8 or in [0, 1], to sequences (B, T, I) in [0, 1]."""
    x = images / 255 if images.dtype == torch.uint8 else images
    if settings.sequence == "patches":
        n = SIDE // PATCH
        return x.view(-1, n, PATCH, n, PATCH).transpose(2, 3).reshape(-1, n * n, PATCH * PATCH)
    return x.reshape(len(x), -1, settings.pixels)


def as_images(x: Tensor, settings: DigitSettings) -> Tensor:
    """The inverse of `as_sequences`: (B, T, I) to (B, 28, 28)."""
    if settings.sequence == "patches":
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


def build(settings: DigitSettings, classes: int) -> Autoencoder:
    """An untrained model, with a head for `classes` classes if the function is classify."""
    steps = PIXELS // settings.pixels
    # several steps per row: the position within the row is encoded as well
    wholes = (steps / SIDE, steps)
    arguments = {
        "num_classes": classes if settings.function == "classify" else 0,
        "dropout": settings.dropout,
        "timescale": steps if steps > LONG else None,
        "encoding_periods": [p for whole in wholes for p in harmonic_periods(whole, settings.positional_harmonics)],
        "head": settings.head,
        "log_probabilities": settings.class_loss == "nll",
    }
    if settings.model == "conv":
        code_size = settings.code_size or settings.hidden_size
        return ConvLSTMAutoencoder(map_shape(settings), code_size, settings.channels, settings.kernel_size, **arguments)
    return LSTMAutoencoder(
        settings.pixels,
        settings.hidden_size,
        settings.code_size or None,
        settings.num_layers,
        input_mean=MEAN,
        input_std=STD,
        checkpoint_steps=settings.checkpoint_steps,
        **arguments,
    )


def map_shape(settings: DigitSettings) -> tuple[int, ...]:
    """The map that one step of the sequence is: a part of a row, a row, several rows, or a patch."""
    if settings.sequence == "patches":
        return (PATCH, PATCH)
    if settings.pixels > SIDE and settings.pixels % SIDE == 0:
        return (settings.pixels // SIDE, SIDE)
    return (settings.pixels,)


# ---- training and test -----------------------------------------------------------------------------------------------


def make_step(settings: DigitSettings) -> loop.Step:
    """Loss: d * squared error + (1 - d) * class loss, d = `--reconstruction_dominance` (1 without classes)."""
    dominance = settings.reconstruction_dominance
    class_loss = nll_loss if settings.class_loss == "nll" else cross_entropy

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        images, labels = batch
        if model.training and settings.shift:
            images = random_shifts(images, settings.shift)
        x = as_sequences(images, settings)
        output = model(x)
        mse = mse_loss(output.reconstruction.float(), x)
        if output.logits is None:
            return {"loss": mse}
        entropy = class_loss(output.logits.float(), labels)
        accuracy = (output.logits.argmax(1) == labels).float().mean()
        loss = dominance * mse + (1 - dominance) * entropy
        return {"loss": loss, "mse": mse, "class_loss": entropy, "accuracy": accuracy}

    return step


def train(settings: DigitSettings, folder: Path) -> loop.Result:
    data = load(settings)
    settings = flags.with_data_read(settings, data.metadata)
    training = TensorDataset(data.train_images, data.train_labels)
    validation = TensorDataset(data.validation_images, data.validation_labels)
    model, classify = build(settings, data.metadata["classes"]), settings.function == "classify"
    monitor = "accuracy" if classify else "loss"
    return loop.train(model, make_step(settings), training, validation, settings, folder, monitor, maximise=classify)


def test(settings: DigitSettings, folder: Path) -> dict:
    """Errors, and accuracy if there are classes, on validation and test digits, beside the baselines."""
    data, model = load(settings), trained(folder, settings.device)
    metrics = {
        **{name: data.metadata[name] for name in ("data", "file") if name in data.metadata},
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_digits": len(data.train_images),
    }
    step = make_step(settings)
    for part, images, labels in (
        ("test", data.test_images, data.test_labels),
        ("val", data.validation_images, data.validation_labels),
    ):
        means = loop.evaluate(model, step, TensorDataset(images, labels), settings)
        metrics[f"{part}_mse"] = means.get("mse", means["loss"])
        if "accuracy" in means:
            metrics[f"{part}_accuracy"] = means["accuracy"]
    if "accuracy" in means:
        majority = data.train_labels.bincount().argmax()
        metrics["test_accuracy_sigma"] = binomial_sigma(metrics["test_accuracy"], len(data.test_labels))
        metrics["majority_accuracy"] = (data.test_labels == majority).float().mean().item()
    if settings.model == "conv":
        metrics["convolutions_in"] = convolutions_in(settings)
    flags = (settings.data, settings.data_dir, settings.source, settings.limit)
    return {**metrics, **reconstruction_baselines(*flags, model.code_size)}


def convolutions_in(settings: DigitSettings) -> str:
    """The number format of the convolutions in training: bfloat16 only where the processor has such products."""
    return settings.precision if low_precision_pays(settings.device) else "float32"


@cache
def reconstruction_baselines(
    data: Path | None, data_dir: Path, source: str, limit: int | None, code_size: int
) -> dict[str, float]:
    images = digits(data, data_dir, source, limit)
    return baselines.reconstruction_baselines(images.train_images / 255, images.test_images / 255, code_size)


def trained(folder: Path, device: str) -> Autoencoder:
    return checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder, ConvLSTMAutoencoder).to(device)


# ---- functions that train --------------------------------------------------------------------------------------------


def reconstruct(request: Request, folder: Path) -> dict:
    """Trains and tests; draws digits beside PCA's and the losses; with several code sizes, the error against them."""
    runs, metrics = fit(request, folder)
    plot_digits(request, runs, folder)
    if len(request.code_size) > 1:
        plot_code_sizes(metrics, folder)
        plot_losses_by_code_size(runs, folder)
    else:
        series = curves_of(runs, folder, "loss")
        plots.curves(folder / "loss.png", series, "epoch", "mean squared error", log=True, dashed=training_of(series))
    return metrics if len(metrics) > 1 else next(iter(metrics.values()))


def classify(request: Request, folder: Path) -> dict:
    """Trains reconstruction and class at once; draws the losses and their sum, errors, digits and confusions."""
    runs, metrics = fit(request, folder)
    plot_digits(request, runs, folder)
    titles = {"loss": "weighted sum", "mse": "squared error per pixel", "class_loss": "cross-entropy of the class"}
    recorded = tables.read_table(folder / "history.csv")[0]  # runs of older versions have no class loss by itself
    rows = {title: curves_of(runs, folder, key) for key, title in titles.items() if f"train_{key}" in recorded}
    dashed = training_of(rows["weighted sum"])
    plots.panels(folder / "loss.png", rows, "epoch", "loss", dashed=dashed, log=True)
    errors = {name: error_curve(curve) for name, curve in curves_of(runs, folder, "accuracy").items()}
    plots.curves(folder / "errors.png", errors, "epoch", "share of wrong classes", log=True, dashed=dashed)
    plot_confusion(runs, folder)
    return metrics if len(metrics) > 1 else next(iter(metrics.values()))


def fit(request: Request, folder: Path) -> tuple[dict[str, Request], dict[str, dict]]:
    """Trains every model and code size that was asked for. Returns their requests and metrics by name."""
    check_source(request)
    models = ("fc", "conv") if request.model == "both" else (request.model,)
    several = len(request.code_size) > 1
    runs = {
        f"{model}_{size}" if several else model: request.with_values(model=model, code_size=size)
        for model, size in itertools.product(models, request.code_size)
    }
    settings = runs[list(runs)[-1]].single()
    if settings.model == "conv" and convolutions_in(settings) != settings.precision and not request.quiet:
        print("NOTICE: this processor has no products in bfloat16: the convolutions run in float32")
    return runs, grid_search.fit_many(runs, folder, train, test)


def check_source(request: Request) -> None:
    if request.data is not None and "source" in request.given:
        raise UsageError("--source: used with MNIST only, not with --data")


@torch.no_grad()
def plot_digits(request: Request, runs: dict[str, Request], folder: Path) -> None:
    """Three test digits: original, each model's reconstruction (of the largest code size), PCA."""
    data = load(request)
    images = data.test_images[:3] / 255
    columns = {"original": images.numpy()}
    models = {name: trained(path, "cpu") for name, path in grid_search.model_folders(runs, folder).items()}
    code_size = max(model.code_size for model in models.values())
    for name, model in models.items():
        if model.code_size == code_size:
            settings = runs[name].single()
            restored = as_images(model(as_sequences(images, settings)).reconstruction, settings)
            columns[f"$I_{{{settings.model}}}$"] = restored.numpy()
    pca = baselines.fit_pca(data.train_images / 255, code_size)
    columns[f"PCA-{code_size}"] = pca.reconstruct(images).clamp(0, 1).numpy()
    titles = [f"test digit {label}" for label in data.test_labels[:3].tolist()]
    plots.image_columns(folder / "digits.png", columns, titles)


def curves_of(runs: dict[str, Request], folder: Path, key: str) -> plots.Series:
    """A metric against epochs, for every model in training and validation."""
    return {
        (name, label): curve
        for name, path in grid_search.model_folders(runs, folder).items()
        for label, curve in tables.read_curves(path, key).items()
    }


def training_of(series: plots.Series) -> list[plots.Name]:
    return [name for name in series if name[-1] == "training"]


def error_curve(accuracy: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    """1 - accuracy against epochs; no error at all is drawn as one in 10,000, since the axis is logarithmic."""
    epochs, values = accuracy
    return epochs, [max(1 - value, 1e-4) for value in values]


def plot_losses_by_code_size(runs: dict[str, Request], folder: Path) -> None:
    """Validation errors against epochs, one panel per model, one line per code size."""
    rows: dict[str, dict] = {}
    for name, path in grid_search.model_folders(runs, folder).items():
        settings, curve = runs[name].single(), tables.read_curves(path, "loss")["validation"]
        rows.setdefault(f"model {settings.model}", {})[f"code {settings.code_size}"] = curve
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
    labels = ("code size Z (values)", "test mean squared error")
    plots.curves(folder / "code_sizes.png", series, *labels, log=True, levels=mean, dashed=["PCA"], markers=True)


def plot_confusion(runs: dict[str, Request], folder: Path) -> None:
    matrices = {}
    for name, path in grid_search.model_folders(runs, folder).items():
        settings = runs[name].single()
        data, model = load(settings), trained(path, settings.device)
        classes = data.metadata["classes"]
        x = as_sequences(data.test_images, settings)
        predicted = in_batches(lambda x, model=model: model(x).logits.argmax(1), x, settings.device)
        matrices[name] = np.zeros((classes, classes), int)
        np.add.at(matrices[name], (data.test_labels.numpy(), predicted.numpy()), 1)
    plots.confusion(folder / "confusion.png", matrices, range(classes))


# ---- functions that apply a trained model ----------------------------------------------------------------------------


def load_trained(request: Request) -> tuple[Autoencoder, DigitSettings, Path]:
    """The model of `--trained`, or the one in the output folder that reconstructs, and its settings and folder."""
    check_source(request)
    beside = request.output_dir / "reconstruct" / "fc"  # where both kinds of model were trained
    if request.trained is None and (beside / "best.pt").exists():
        request = request.with_values(trained=beside)
    return trained_model(request, "reconstruct", "sequence", LSTMAutoencoder, ConvLSTMAutoencoder)


def images_to_judge(request: Request, data: Mnist) -> tuple[Tensor, list[str]]:
    """Images (N, 28, 28) in [0, 1], of `--data` or the test part of the training's, and a name for each."""
    if request.data is None:
        images, kind = data.test_images, "test"
    elif request.data.is_dir():
        images, kind = own_images(request.data).test_images, "test"
    else:
        images, kind = read_images(request.data), "image"
    return images / 255, [f"{kind} {i}" for i in range(1, len(images) + 1)]


def encode(request: Request, folder: Path) -> dict:
    """Writes the codes of images to codes.csv."""
    model, settings, path = load_trained(request)
    images, names = images_to_judge(request, load(settings))
    codes = in_batches(model.encode, as_sequences(images, settings), settings.device)
    write_codes(folder / "codes.csv", names, codes)
    return {"model": str(path), "images": len(names), "code_size": model.code_size}


def anomalies(request: Request, folder: Path) -> dict:
    """Ranks images by reconstruction error in anomalies.csv; draws the worst; tests with planted anomalies."""
    model, settings, path = load_trained(request)
    data = load(settings)
    images, names = images_to_judge(request, data)

    def reconstruct(pixels: Tensor) -> Tensor:
        """Images (N, 784) through the autoencoder."""
        x = as_sequences(pixels.view(-1, SIDE, SIDE), settings)
        return as_images(in_batches(lambda x: model(x).reconstruction, x, settings.device), settings).flatten(1)

    rows, restored, metrics = judge(
        images.flatten(1),
        names,
        reconstruct,
        baselines.fit_pca(data.train_images / 255, model.code_size),
        validation=(data.validation_images / 255).flatten(1),
        test=(data.test_images / 255).flatten(1),
        quantile=request.quantile,
        seed=settings.seed,
        prepare=lambda x: x.clamp(0, 1),
    )
    tables.write_csv(folder / "anomalies.csv", rows)
    plot_worst(rows, names, images, restored.view(-1, SIDE, SIDE), folder)
    return {"model": str(path), "images": len(rows), **metrics}


def plot_worst(rows: list[dict], names: list[str], images: Tensor, restored: Tensor, folder: Path) -> None:
    """The images with the largest errors and their reconstructions."""
    worst = [names.index(row["sequence"]) for row in rows[:4]]
    titles = [f"{row['sequence']}\nerror {row['error']:.2g}" for row in rows[:4]]
    columns = {"image": images[worst].numpy(), "reconstruction": restored[worst].numpy()}
    plots.image_columns(folder / "worst.png", columns, titles)


FUNCTIONS = {"reconstruct": reconstruct, "classify": classify, "encode": encode, "anomalies": anomalies}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, arguments(argv))


if __name__ == "__main__":
    main()
