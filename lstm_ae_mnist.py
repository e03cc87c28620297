"""LSTM and ConvLSTM autoencoders on MNIST, read row by row, patch by patch or pixel by pixel, with classification.

    python lstm_ae_mnist.py --function reconstruct --code_size 8 16 32 64 128 --jobs 2    # error against code size
    python lstm_ae_mnist.py --classification                         # 99.4 % (fc) and 99.2 % (conv), reconstructing too
    python lstm_ae_mnist.py --function classify --sequence pixels --model fc    # 784 steps of one pixel: 99.2 %
    python lstm_ae_mnist.py --function classify --preset published   # the study as it is written
    python lstm_ae_mnist.py --function classify --data fashion/      # other images, in four IDX files
    python lstm_ae_mnist.py --function encode --data new-images-idx3-ubyte.gz    # codes of images, as CSV

A digit is a sequence: 28 rows of 28 pixels, 16 patches of 7 x 7, 784 single pixels, or steps of any other divisor of
784 pixels. An encoder reads it, the decoder reconstructs it from the code z alone, and with `classify` (short form:
`--classification`) the decoder's last hidden state gives the class. 55,000 digits train, 5,000 validate, 10,000 test.
Baselines: PCA with a code of the same size, the mean of the training digits, and the models of `opponents`. A new model
is an entry of MODELS here and one of MODEL_FLAGS in config/lstm_ae_mnist.py.

Deviations from the published studies; 1 to 3 do not apply to --preset published:
1. Where one flag set both, `--code_size` sets the width of the bottleneck apart from that of the LSTMs: PCA with 8
   components has 6,272 parameters, an autoencoder of 8 LSTM units that reads rows 2,044, so comparing them at equal
   width compares parameter counts.
2. The decoder also reads a positional encoding, sines and cosines of the step number, the same for all digits. By rows
   it takes a third off the error after five epochs; pixel by pixel a decoder with a constant input does not learn to
   count its 784 steps and returns a grey image (error .095; the mean image has .067).
3. The learning rate follows a cosine, and the weight of the reconstruction loss was chosen on validation data.
4. Cooijmans et al. 2017 initialise W_hh = I and train with RMSprop; here orthogonal gates, chrono biases, Adam.
5. Pixels stay in [0, 1] around their mean of .13; they are not moved to a mean of 1/2, as the synthetic sequences are:
   that would leave [0, 1] or nearly halve the contrast. The encoder reads them standardised.
Usage: docs/lstm_ae_mnist.md. Results: docs/results/report/report.md.
"""

from config.lstm_ae_mnist import PIXELS, SCRIPT, SIDE, Classify, Opponents, Reconstruct
from lstm_studies.training.flags import parse

if __name__ == "__main__":
    parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import itertools
import math
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, nll_loss
from torch.utils.data import TensorDataset

from lstm_studies.evaluation import class_scores
from lstm_studies.evaluation.anomalies import judge
from lstm_studies.evaluation.baselines import fit_pca, reconstruction_baselines, standard_error
from lstm_studies.evaluation.binary_scores import binomial_sigma
from lstm_studies.loaders.mnist import Mnist, as_images, as_sequences, mnist, own_images, random_shifts, read_images
from lstm_studies.models.conv_lstm import low_precision_pays
from lstm_studies.models.lstm_ae import Autoencoder, ConvLSTMAutoencoder, LSTMAutoencoder, harmonic_periods
from lstm_studies.models.opponents import DenseAutoencoder, SmallCNN
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, loop, search, tables
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.trained import in_batches, trained_model, write_codes

MEAN, STD = 0.1307, 0.3081  # of the training pixels, for the encoder's input
LONG = 100  # from this many steps on, the encoder's gates are initialised to remember the whole sequence

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def digits(data: Path | None, data_dir: Path, source: str, limit: int | None) -> Mnist:
    return mnist(data_dir, source, limit) if data is None else own_images(data, limit)


def load(settings: Reconstruct | Opponents | Request) -> Mnist:
    """MNIST, or the images of `--data`."""
    return digits(settings.data, settings.data_dir, settings.source, settings.limit)


# ---- model -----------------------------------------------------------------------------------------------------------


def lstm_arguments(settings: Reconstruct) -> dict:
    return {
        "input_size": math.prod(settings.step_shape),
        "hidden_size": settings.hidden_size,
        "code_size": settings.code_size or None,
        "num_layers": settings.num_layers,
        "input_mean": MEAN,
        "input_std": STD,
        "checkpoint_steps": settings.checkpoint_steps,
    }


def conv_arguments(settings: Reconstruct) -> dict:
    code_size = settings.code_size or settings.hidden_size
    channels, kernel_size = settings.channels, settings.kernel_size
    return {"map_shape": settings.step_shape, "code_size": code_size, "channels": channels, "kernel_size": kernel_size}


MODELS = {  # the class of each --model, and the arguments that only this class takes; `build` adds those that all take
    "fc": (LSTMAutoencoder, lstm_arguments),
    "conv": (ConvLSTMAutoencoder, conv_arguments),
}
CLASSES = tuple(kind for kind, _ in MODELS.values())


def build(settings: Reconstruct, classes: int) -> Autoencoder:
    """An untrained model, with a head for `classes` classes if the function is classify."""
    kind, arguments = MODELS[settings.model]
    steps = PIXELS // math.prod(settings.step_shape)
    lengths = (steps / SIDE, steps)  # several steps per row: the position within the row is encoded as well
    periods = [period for length in lengths for period in harmonic_periods(length, settings.positional_harmonics)]
    common = {"encoding_periods": periods, "timescale": steps if steps > LONG else None}
    if isinstance(settings, Classify):
        common |= {"num_classes": classes, "head": settings.head, "dropout": settings.dropout}
        common |= {"log_probabilities": settings.class_loss == "nll"}
    return kind(**arguments(settings), **common)


# ---- loss ------------------------------------------------------------------------------------------------------------


def make_step(settings: Reconstruct) -> loop.Step:
    """Loss: squared error; with classes d * squared error + (1 - d) * class loss, d = `--reconstruction_dominance`."""

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        images, labels = batch  # (B, 28, 28), (B,)
        if model.training and settings.shift:
            images = random_shifts(images, settings.shift)
        x = as_sequences(images, settings.step_shape)  # (B, T, I)
        output = model(x)
        mse = mse_loss(output.reconstruction.float(), x)
        if not isinstance(settings, Classify):
            return {"loss": mse}
        class_loss = nll_loss if settings.class_loss == "nll" else cross_entropy
        entropy = class_loss(output.logits.float(), labels)
        loss = settings.reconstruction_dominance * mse + (1 - settings.reconstruction_dominance) * entropy
        accuracy = (output.logits.argmax(1) == labels).float().mean()
        return {"loss": loss, "mse": mse, "class_loss": entropy, "accuracy": accuracy}

    return step


# ---- training and test -----------------------------------------------------------------------------------------------


def train(settings: Reconstruct, folder: Path) -> loop.Result:
    data, classify = load(settings), isinstance(settings, Classify)
    settings = settings.reading(data.metadata)
    training = TensorDataset(data.train_images, data.train_labels)
    validation = TensorDataset(data.validation_images, data.validation_labels)
    model, monitor = build(settings, data.metadata["classes"]), "accuracy" if classify else "loss"
    return loop.train(model, make_step(settings), training, validation, settings, folder, monitor, maximise=classify)


def test(settings: Reconstruct, folder: Path) -> dict:
    """Errors, and accuracy if there are classes, on validation and test digits, beside the baselines."""
    data, model = load(settings), trained(folder, settings.device)
    metrics = {
        **{name: data.metadata[name] for name in ("data", "file") if name in data.metadata},
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_digits": len(data.train_images),
    }
    for part, images, labels in (
        ("val", data.validation_images, data.validation_labels),
        ("test", data.test_images, data.test_labels),
    ):
        errors, logits = predictions(model, images, settings.step_shape, settings.device)
        metrics[f"{part}_mse"] = errors.mean().item()
        if isinstance(settings, Classify):
            metrics[f"{part}_accuracy"] = (logits.argmax(1) == labels).double().mean().item()
    metrics["test_mse_sigma"] = standard_error(errors)
    metrics |= reconstruction_baselines(data.train_images / 255, data.test_images / 255, model.code_size)
    if metrics["test_mse"] > metrics["pca_mse"]:
        ours, theirs = (f"{metrics[name]:.3g}" for name in ("test_mse", "pca_mse"))
        metrics["notice"] = (
            f"NOTICE: {settings.model}: its test error, {ours}, is above PCA's with as large a code, {theirs}"
        )
    if isinstance(settings, Classify):
        majority = data.train_labels.bincount().argmax()
        metrics["test_accuracy_sigma"] = binomial_sigma(metrics["test_accuracy"], len(data.test_labels))
        metrics["majority_accuracy"] = (data.test_labels == majority).float().mean().item()
        metrics |= class_scores.summary(logits.numpy(), data.test_labels.numpy())
    if isinstance(model, ConvLSTMAutoencoder):
        metrics["convolutions_in"] = convolutions_in(settings)
    return metrics


def predictions(model: nn.Module, images: Tensor, step_shape: tuple[int, ...], device: str) -> tuple[Tensor, Tensor]:
    """Squared errors (N,), in float64, of images (N, 28, 28), and their logits (N, K), K = 0 without classes."""

    def outputs(x: Tensor) -> Tensor:
        output = model(x)
        errors = (output.reconstruction - x).square().mean((1, 2))
        return errors[:, None] if output.logits is None else torch.cat([errors[:, None], output.logits], 1)

    table = in_batches(outputs, as_sequences(images, step_shape), device)
    return table[:, 0].double(), table[:, 1:]


def convolutions_in(settings: Reconstruct) -> str:
    """The number format of the convolutions in training: bfloat16 only where the processor has such products."""
    return settings.precision if low_precision_pays(settings.device) else "float32"


def trained(folder: Path, device: str) -> Autoencoder:
    return checkpoint.rebuild(folder / "best.pt", *CLASSES).to(device)


# ---- functions that train --------------------------------------------------------------------------------------------


def reconstruct(request: Request, folder: Path) -> dict:
    """Trains and tests; draws digits beside PCA's and the losses; with several code sizes, the error against them."""
    runs = named_runs(request)
    metrics = search.fit(runs, folder, train, test)
    plot_digits(request, runs, folder)
    if len(request.code_size) > 1:
        plot_code_sizes(runs, metrics, folder)
        plot_losses_by_code_size(runs, folder)
    else:
        plots.curves(folder / "loss.png", curves_of(runs, folder, "loss"), "epoch", "mean squared error", log=True)
    return metrics


def classify(request: Request, folder: Path) -> dict:
    """Trains reconstruction and class at once; draws losses and accuracy against epochs, digits, confusion matrices."""
    runs = named_runs(request)
    metrics = search.fit(runs, folder, train, test)
    plot_digits(request, runs, folder)
    losses = {title: curves_of(runs, folder, key) for key, title in LOSSES.items()}
    plots.panels(folder / "loss.png", losses, "epoch", "loss", log=True)
    plot_accuracy(curves_of(runs, folder, "accuracy"), folder)
    plot_confusion(runs, folder)
    return metrics


def named_runs(request: Request) -> dict[str, Request]:
    """A request for each model and code size, by name."""
    models = ("fc", "conv") if request.model == "both" else (request.model,)
    runs = {}
    for model, size in itertools.product(models, request.code_size):
        units = request.hidden_size[:1] if model == "conv" and size else request.hidden_size  # conv has none then
        name = f"{model}_{size}" if len(request.code_size) > 1 else model
        runs[name] = request.with_values(model=model, code_size=size, hidden_size=units)
    settings = runs[list(runs)[-1]].single()
    if settings.model == "conv" and convolutions_in(settings) != settings.precision and not request.quiet:
        print("NOTICE: this processor has no products in bfloat16: the convolutions run in float32")
    return runs


@torch.no_grad()
def plot_digits(request: Request, runs: dict[str, Request], folder: Path) -> None:
    """Three test digits: original, each model's reconstruction (of the largest code size), PCA."""
    data = load(request)
    images = data.test_images[:3] / 255
    columns = {"original": images.numpy()}
    models = {name: trained(path, "cpu") for name, path in search.model_folders(runs, folder).items()}
    code_size = max(model.code_size for model in models.values())
    for name, model in models.items():
        if model.code_size == code_size:
            shape = runs[name].single().step_shape
            restored = as_images(model(as_sequences(images, shape)).reconstruction, shape)
            columns[f"$\\mathdefault{{I_{{{runs[name].model}}}}}$"] = restored.numpy()
    pca = fit_pca(data.train_images / 255, code_size)
    columns[f"PCA-{code_size}"] = pca.reconstruct(images).clamp(0, 1).numpy()
    titles = [f"test digit {label}" for label in data.test_labels[:3].tolist()]
    plots.image_columns(folder / "digits.png", columns, titles)


def curves_of(runs: dict[str, Request], folder: Path, key: str) -> plots.Series:
    """A metric against epochs, for every model in training and validation."""
    return {
        (name, label): curve
        for name, path in search.model_folders(runs, folder).items()
        for label, curve in tables.read_curves(path, key).items()
    }


LOSSES = {  # panels of loss.png by key in history.csv
    "loss": "weighted sum",
    "mse": "reconstruction: squared error per pixel",
    "class_loss": "class: cross-entropy",
}


def plot_accuracy(curves: plots.Series, folder: Path) -> None:
    """Accuracy against epochs, and what is missing to 100 % on a logarithmic axis, where no error is drawn as .01 %."""
    right = {name: (epochs, *(100 * values for values in shares)) for name, (epochs, *shares) in curves.items()}
    wrong = {name: (epochs, np.maximum(100 - y, 0.01), *spread) for name, (epochs, y, *spread) in right.items()}
    rows = {"right class": right, "wrong class, logarithmic": wrong}
    plots.panels(folder / "accuracy.png", rows, "epoch", "digits (%)", log=["wrong class, logarithmic"])


def plot_losses_by_code_size(runs: dict[str, Request], folder: Path) -> None:
    """Validation errors against epochs, one panel per model, one line per code size."""
    rows: dict[str, dict] = {}
    folders = search.model_folders(runs, folder)
    for name in sorted(folders, key=lambda name: runs[name].single().code_size):
        settings, curve = runs[name].single(), tables.read_curves(folders[name], "loss")["validation"]
        rows.setdefault(f"model {settings.model}", {})[f"code {settings.code_size}"] = curve
    plots.panels(folder / "loss.png", rows, "epoch", "validation\nmean squared error", log=True)


def plot_code_sizes(runs: dict[str, Request], metrics: dict[str, dict], folder: Path) -> None:
    """Test error against code size, one line per model, beside PCA and the mean image."""
    points: dict[str, dict[int, float]] = {}  # by label and code size
    for name, values in metrics.items():
        points.setdefault(runs[name].model, {})[values["code_size"]] = values["test_mse"]
    points["PCA"] = {values["code_size"]: values["pca_mse"] for values in metrics.values()}
    series = {label: tuple(zip(*sorted(errors.items()), strict=True)) for label, errors in points.items()}
    more = {"levels": {"mean image": values["mean_mse"]}, "dashed": ["PCA"], "markers": True}
    labels = ("code size (values)", "test mean squared error per pixel")
    plots.curves(folder / "code_sizes.png", series, *labels, log=True, log_x=True, **more)


def plot_confusion(runs: dict[str, Request], folder: Path) -> None:
    matrices = {}
    for name, path in search.model_folders(runs, folder).items():
        settings = runs[name].single()
        data, model = load(settings), trained(path, settings.device)
        classes = data.metadata["classes"]
        predicted = predictions(model, data.test_images, settings.step_shape, settings.device)[1].argmax(1)
        matrices[name] = np.zeros((classes, classes), int)
        np.add.at(matrices[name], (data.test_labels.numpy(), predicted.numpy()), 1)
    plots.confusion(folder / "confusion.png", matrices, range(classes))


# ---- opponents -------------------------------------------------------------------------------------------------------

STRENGTHS = (0.01, 0.1)  # C of the logistic regression; the one with the best validation accuracy is taken


def opponents(request: Request, folder: Path) -> dict:
    """Fits logistic regression, and trains a convolutional network and autoencoders without recurrence."""
    metrics = {"linear": linear_classifier(load(request))}
    cnn = request.with_values(code_size=request.code_size[:1])
    mlps = {f"mlp_{size}": request.with_values(network="mlp", code_size=[size]) for size in request.code_size}
    metrics |= search.fit({"cnn": cnn}, folder, train_opponent, test_opponent)
    return metrics | search.fit(mlps, folder / "mlp", train_opponent, test_opponent)


def linear_classifier(data: Mnist) -> dict:
    """The metrics of multinomial logistic regression of the pixels."""
    from sklearn.linear_model import LogisticRegression

    started = time.monotonic()
    pixels = {part: (getattr(data, f"{part}_images") / 255).flatten(1).numpy() for part in ("train", "validation")}
    fitted = [LogisticRegression(C=c, max_iter=200).fit(pixels["train"], data.train_labels.numpy()) for c in STRENGTHS]
    scores = [model.score(pixels["validation"], data.validation_labels.numpy()) for model in fitted]
    best = int(np.argmax(scores))
    probabilities = fitted[best].predict_proba((data.test_images / 255).flatten(1).numpy())
    logits = class_scores.log_probabilities(probabilities, fitted[best].classes_, data.metadata["classes"])
    seconds = round(time.monotonic() - started, 1)
    return {**opponent_scores(data, logits), "val_accuracy": scores[best], "C": STRENGTHS[best], "seconds": seconds}


def train_opponent(settings: Opponents, folder: Path) -> loop.Result:
    """The convolutional network by its cross-entropy, or the MLP autoencoder by its squared error."""
    data, is_mlp = load(settings), settings.network == "mlp"
    training = TensorDataset(data.train_images, data.train_labels)
    validation = TensorDataset(data.validation_images, data.validation_labels)

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        images, labels = batch
        if is_mlp:
            x = as_sequences(images, (SIDE, SIDE))  # (B, 1, 784)
            return {"loss": mse_loss(model(x).reconstruction.float(), x)}
        if model.training and settings.shift:
            images = random_shifts(images, settings.shift)
        logits = model((images / 255 - MEAN) / STD).float()
        return {"loss": cross_entropy(logits, labels), "accuracy": (logits.argmax(1) == labels).float().mean()}

    model = DenseAutoencoder(PIXELS, 512, settings.code_size) if is_mlp else SmallCNN(data.metadata["classes"])
    return loop.train(model, step, training, validation, settings.reading(data.metadata), folder)


def test_opponent(settings: Opponents, folder: Path) -> dict:
    data = load(settings)
    model = checkpoint.rebuild(folder / "best.pt", SmallCNN, DenseAutoencoder).to(settings.device)
    metrics = {"data": data.metadata["data"], "parameters": sum(p.numel() for p in model.parameters())}
    if settings.network == "mlp":
        errors, _ = predictions(model, data.test_images, (SIDE, SIDE), settings.device)
        return {**metrics, "test_mse": errors.mean().item(), "test_mse_sigma": standard_error(errors)}
    images = (data.test_images / 255 - MEAN) / STD
    return {**metrics, **opponent_scores(data, in_batches(model, images, settings.device).numpy())}


def opponent_scores(data: Mnist, logits: np.ndarray) -> dict:
    """Metrics of logits or log-probabilities (N, K) of the test digits."""
    labels = data.test_labels.numpy()
    accuracy = float((logits.argmax(1) == labels).mean())
    sigma, more = binomial_sigma(accuracy, len(labels)), class_scores.summary(logits, labels)
    return {"data": data.metadata["data"], "test_accuracy": accuracy, "test_accuracy_sigma": sigma, **more, "seeds": 1}


# ---- functions that apply a trained model ----------------------------------------------------------------------------


def load_trained(request: Request) -> tuple[Autoencoder, Reconstruct, Path]:
    """The model of `--model_from`, or the one in the output folder (of several, the first of MODELS)."""
    folder = request.output_dir / "reconstruct"
    beside = [folder / name for name in MODELS if (folder / name / "best.pt").exists()]
    if request.model_from is None and beside:
        request = request.with_values(model_from=beside[0])
    return trained_model(request, "reconstruct", *CLASSES)


def images_to_judge(request: Request, settings: Reconstruct) -> tuple[Tensor, list[str]]:
    """Images (N, 28, 28) in [0, 1], of `--data` or the test part of the training's, and a name for each."""
    if request.data is None:
        images, kind = load(settings).test_images, "test"
    elif request.data.is_dir():
        images, kind = own_images(request.data).test_images, "test"
    else:
        images, kind = read_images(request.data), "image"
    return images / 255, [f"{kind} {i}" for i in range(1, len(images) + 1)]


def encode(request: Request, folder: Path) -> dict:
    """Writes the codes of images to codes.csv."""
    model, settings, path = load_trained(request)
    images, names = images_to_judge(request, settings)
    codes = in_batches(model.encode, as_sequences(images, settings.step_shape), settings.device)
    write_codes(folder / "codes.csv", names, codes)
    return {settings.model: {"model": str(path), "images": len(names), "code_size": model.code_size}}


def anomalies(request: Request, folder: Path) -> dict:
    """Ranks images by reconstruction error in anomalies.csv; draws the worst; tests with planted anomalies."""
    model, settings, path = load_trained(request)
    data = load(settings)
    images, names = images_to_judge(request, settings)

    def reconstruct(pixels: Tensor) -> Tensor:
        """Images (N, 784) through the autoencoder."""
        x = as_sequences(pixels.view(-1, SIDE, SIDE), settings.step_shape)
        return as_images(
            in_batches(lambda x: model(x).reconstruction, x, settings.device), settings.step_shape
        ).flatten(1)

    rows, restored, metrics, _ = judge(
        images.flatten(1),
        names,
        reconstruct,
        fit_pca(data.train_images / 255, model.code_size),
        validation=(data.validation_images / 255).flatten(1),
        test=(data.test_images / 255).flatten(1),
        quantile=request.quantile,
        seed=settings.seed,
        prepare=lambda x: x.clamp(0, 1),
    )
    tables.write_csv(folder / "anomalies.csv", rows)
    plot_worst(rows, names, images, restored.view(-1, SIDE, SIDE), folder)
    return {settings.model: {"model": str(path), "images": len(rows), **metrics}}


def plot_worst(rows: list[dict], names: list[str], images: Tensor, restored: Tensor, folder: Path) -> None:
    """The images with the largest errors and their reconstructions."""
    worst = [names.index(row["sequence"]) for row in rows[:4]]
    titles = [f"{row['sequence']}\nerror {row['error']:.2g}" for row in rows[:4]]
    columns = {"image": images[worst].numpy(), "reconstruction": restored[worst].numpy()}
    plots.image_columns(folder / "worst.png", columns, titles)


FUNCTIONS = {
    "reconstruct": reconstruct,
    "classify": classify,
    "opponents": opponents,
    "encode": encode,
    "anomalies": anomalies,
}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
