"""LSTM autoencoder on synthetic sequences, or on those of a file.

    python lstm_ae_toy.py                                            # examples, then waves with a code of 16 values
    python lstm_ae_toy.py --function reconstruct --fresh             # new waves in every batch
    python lstm_ae_toy.py --function reconstruct --preset published --signal uniform --jobs 2 \\
        --hidden_size 8 16 32 --learning_rate .1 .01 .001 --gradient_clipping 1 5   # the published grid
    python lstm_ae_toy.py --function reconstruct --data mine.csv --input_size 10    # one sequence per row
    python lstm_ae_toy.py --function anomalies --data new.csv        # the worst sequences of a file first
    python lstm_ae_toy.py --function export                          # the model for other software: .pt2 and ONNX

10,000 sequences of 50 values, split 60/20/20, each one scaled into [0, 1] around 1/2. The decoder sees the code z only.
Opponents are the best linear code of the same size (PCA), an autoencoder of linear layers (--mlp) and, for three sines,
an analytic code of ten numbers. If one of them is better, or the model returns little more than the mean sequence, the
last line of the output says so.

Deviations from the published grid (uniform signals, best validation loss 0.000167):
1. There the decoder also read the encoder's output at every step, so nothing had to pass through the code; here all of
   it does.
2. There the epoch was chosen on the data that is reported; here on validation data.
Results and discussion: docs/results/report/report.md. Usage, names of the text: docs/lstm_ae_toy.md.
"""

from config.lstm_ae_toy import MLP, SCRIPT, SEQUENCES, STEPS, Reconstruct
from lstm_studies.training.flags import parse

if __name__ == "__main__":
    parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset

from lstm_studies.evaluation import anomalies as detection
from lstm_studies.evaluation.baselines import fit_pca, reconstruction_baselines, standard_error
from lstm_studies.evaluation.intervals import compare
from lstm_studies.evaluation.sines import fitted_sines, prediction_errors
from lstm_studies.loaders.augmentation import (
    extended,
    prediction_weights,
    random_filters,
    random_mirrors,
    random_stretches,
)
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
from lstm_studies.models.opponents import DenseAutoencoder
from lstm_studies.models.programs import SequenceProgram
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, loop, search, tables
from lstm_studies.training.export import export_program
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.settings import UsageError
from lstm_studies.training.trained import in_batches, trained_model, write_codes

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def signals(data: Path | None, signal: str, seed: int, limit: int | None) -> ToySignals:
    return own_sequences(data, seed, limit) if data else toy_signals(signal, SEQUENCES, STEPS, seed, limit)


def load(settings: Reconstruct | Request) -> ToySignals:
    """The sequences of `--data` or `--signal`: (N, T) each. They are the same for all seeds of the weights."""
    return signals(settings.data, settings.signal, settings.data_seed, settings.limit)


def as_steps(x: Tensor, input_size: int) -> Tensor:
    if x.shape[1] % input_size:  # a model is applied after its file has changed
        raise DataError(f"expected sequences of a multiple of {input_size} values, found {x.shape[1]}")
    return x.unflatten(1, (-1, input_size))  # (N, T / I, I)


def augmented(x: Tensor, longer: Tensor, settings: Reconstruct) -> Tensor:
    """Training sequences x (B, T) after augmentation. longer: x with `extension` more steps at both ends."""
    length = x.shape[1]
    if settings.fresh:
        seed = int(torch.randint(2**62, ()))  # from PyTorch's generator, whose state is in the checkpoint
        x = longer = scale_sequences(generate_signals(settings.signal, *x.shape, seed))[0].to(x.device)
    if settings.filtering or settings.stretch < 1:
        longer = random_filters(longer, settings.filtering) if settings.filtering else longer
        shortest, longest = settings.stretch * length, min((2 - settings.stretch) * length, longer.shape[1])
        x = random_stretches(longer, min(shortest, longest), longest, length)
    return random_mirrors(x) if settings.mirror else x


# ---- model and loss --------------------------------------------------------------------------------------------------


def build(settings: Reconstruct, length: int) -> LSTMAutoencoder | DenseAutoencoder:
    if length % settings.input_size:
        raise UsageError(
            f"--input_size: expected a divisor of {length}, the sequences' length, found {settings.input_size}"
        )
    if settings.network == "mlp":
        return DenseAutoencoder(length, settings.hidden_size, settings.code_size)
    return LSTMAutoencoder(
        settings.input_size,
        settings.hidden_size,
        settings.code_size or None,
        settings.num_layers,
        encoding_periods=harmonic_periods(length // settings.input_size, settings.positional_harmonics),
        output_layer=settings.output_layer,
    )


def make_step(settings: Reconstruct) -> loop.Step:
    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        x, *extensions = batch  # (B, T)
        if model.training:
            x = augmented(x, *extensions, settings)
        reconstruction = model(as_steps(x, settings.input_size)).reconstruction.float().flatten(1)
        return {"loss": mse_loss(reconstruction, x)}

    return step


# ---- training and test -----------------------------------------------------------------------------------------------


def train(settings: Reconstruct, folder: Path) -> loop.Result:
    data = load(settings)
    model = build(settings, data.train.shape[1])
    training = TensorDataset(data.train, extended(data.train, settings.extension))
    return loop.train(model, make_step(settings), training, TensorDataset(data.validation), settings, folder)


def test(settings: Reconstruct, folder: Path) -> dict:
    """Errors of the trained model and of the baselines on validation and test sequences."""
    data, model = load(settings), checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder, DenseAutoencoder)
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


# ---- functions -------------------------------------------------------------------------------------------------------


def plot_examples(request: Request, folder: Path) -> dict:
    """Draws three signals against time."""
    data = load(request)
    name, time = data.metadata.get("signal", "value"), np.arange(data.train.shape[1])
    rows = {f"signal {i + 1}": {name: (time, x.numpy())} for i, x in enumerate(data.train[:3])}
    plots.panels(folder / "examples.png", rows, "time step", "value")
    return {"sequences": {**described(data), "count": len(data.train)}}


def reconstruct(request: Request, folder: Path) -> dict:
    """Trains and tests; draws two test signals with their reconstructions, the losses, and the grid if there is one."""
    runs = {f"code{size}": request.with_values(code_size=size) for size in request.code_size}
    metrics = search.fit(runs, folder, train, test)
    folders = search.model_folders(runs, folder)
    plot_reconstructions(load(request).test[:2], folders, folder)
    plot_history(folders, folder)
    if (folder / "grid.csv").exists():
        plot_grid(folder)
    opponents, theirs = opponents_of(request, {values["code_size"] for values in metrics.values()}, folder)
    for name, values in metrics.items():
        ours = errors_of_trained(folders[name], load(request).test, request)
        values["test_mse_sigma"] = standard_error(torch.from_numpy(ours.mean(0)))
        values["against"] = {
            other: {"test_mse": compare(ours, theirs[other])}
            for other in opponents
            if opponents[other]["code_size"] == values["code_size"] or other == ANALYTIC
        }
        if notice := notice_of(name, values, opponents):
            values["notice"] = notice
    return metrics | opponents


def notice_of(name: str, metrics: dict, opponents: dict[str, dict]) -> str:
    """A warning if the error is not ten times (on noise 5 %) below that of the mean sequence, a notice if an opponent
    is better, or "".
    """
    times = 10 if metrics.get("signal") in ("waves", "walk") else 1.05  # noise has no better code
    error = f"{name}: its test error, {metrics['test_mse']:.2g},"
    if metrics["test_mse"] * times > metrics["mean_mse"]:
        return f"WARNING: {error} is not {times:g} times below the mean sequence's, {metrics['mean_mse']:.2g}"
    ahead = [other for other, values in metrics["against"].items() if values["test_mse"]["low"] > 0]
    names = ", ".join(f"{other} ({opponents[other]['test_mse']:.2g})" for other in ahead)
    return f"NOTICE: {error} is above that of {names}" if ahead else ""


# ---- opponents -------------------------------------------------------------------------------------------------------

ANALYTIC = "matrix_pencil"


def opponents_of(request: Request, code_sizes: set[int], folder: Path) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """Simple models: their metrics, and the errors (1, N) of each on the test sequences.

    PCA and, with `--mlp`, an autoencoder without recurrence, for every code size; for three sines an analytic code.
    """
    data, fits = load(request), {}
    for size in sorted(code_sizes):
        fits[f"pca{size}"] = size, lambda size=size: fit_pca(data.train, size).reconstruct
    if data.metadata.get("signal") == "waves":
        fits[ANALYTIC] = 10, lambda: fitted_sines
    metrics, errors = {}, {}
    for name, (size, fit) in fits.items():
        began = time.perf_counter()
        reconstruct = fit()
        on_test, on_validation = (squared_errors(reconstruct(x), x) for x in (data.test, data.validation))
        seconds = round(time.perf_counter() - began, 1)
        metrics[name] = {"seed": request.seed, "seconds": seconds, **described(data), "code_size": size}
        metrics[name] |= {"test_mse": on_test.mean().item(), "val_mse": on_validation.mean().item(), "seeds": 1}
        errors[name] = on_test[None].numpy()
    if request.mlp:
        runs = {f"mlp{size}": request.with_values(**MLP, code_size=[size]) for size in code_sizes}
        metrics |= search.fit(runs, folder / "mlp", train, test)
        for name, path in search.model_folders(runs, folder / "mlp").items():
            errors[name] = errors_of_trained(path, data.test, request)
    return metrics, errors


def squared_errors(reconstruction: Tensor, x: Tensor) -> Tensor:
    """(N,) of sequences x (N, T)."""
    return detection.step_errors(x, reconstruction).mean(1)


def through(model: nn.Module, x: Tensor, device: str) -> Tensor:
    """Sequences (N, T) through a trained autoencoder."""
    steps = as_steps(x.float(), model.arguments.get("input_size", x.shape[1]))
    return in_batches(lambda x: model(x).reconstruction, steps, device).flatten(1)


def errors_of_trained(folder: Path, x: Tensor, request: Request) -> np.ndarray:
    """Squared errors (S, N) on sequences x (N, T) of the S trainings of a model with different seeds."""
    errors = []
    for path in tables.trainings_in(folder):
        model = checkpoint.rebuild(path / "best.pt", LSTMAutoencoder, DenseAutoencoder).to(request.device)
        errors.append(squared_errors(through(model, x, request.device), x))
    return torch.stack(errors).numpy()


# ---- figures ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def plot_reconstructions(originals: Tensor, folders: dict[str, Path], folder: Path) -> None:
    """Draws sequences (N, T) beside their reconstructions by each model."""
    models = {name: checkpoint.rebuild(path / "best.pt", LSTMAutoencoder) for name, path in folders.items()}
    time = np.arange(originals.shape[1])
    rows = {f"test signal {i + 1}": {"original": (time, x)} for i, x in enumerate(originals)}
    for name, model in models.items():
        label = "reconstruction" if len(models) == 1 else f"reconstruction, {name.replace('code', 'code of ')}"
        estimates = model(as_steps(originals, model.arguments["input_size"])).reconstruction.flatten(1)
        for row, estimate in zip(rows.values(), estimates, strict=True):
            row[label] = (time, estimate)
    dashed = [label for label in row if label != "original"]
    plots.panels(folder / "reconstructions.png", rows, "time step", "value", dashed=dashed)


def plot_history(folders: dict[str, Path], folder: Path) -> None:
    series = {}
    for name, path in folders.items():
        for label, curve in tables.read_curves(path, "loss").items():
            series[(label,) if len(folders) == 1 else (name.replace("code", "code of "), label)] = curve
    plots.curves(folder / "loss.png", series, "epoch", "mean squared error", log=True)


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
    model, settings, path = trained_model(request, "reconstruct", LSTMAutoencoder)
    x, names = sequences_to_judge(request, load(settings))
    codes = in_batches(model.encode, as_steps(x, settings.input_size), settings.device)
    write_codes(folder / "codes.csv", names, codes)
    return {f"code{model.code_size}": {"model": str(path), "sequences": len(names), "code_size": model.code_size}}


def anomalies(request: Request, folder: Path) -> dict:
    """Ranks sequences by reconstruction error in anomalies.csv; draws the worst; tests with planted anomalies."""
    model, settings, _ = trained_model(request, "reconstruct", LSTMAutoencoder)
    data = load(settings)
    x, names = sequences_to_judge(request, data)
    if min(len(data.validation), len(data.test)) < 2:
        raise DataError(
            "anomalies: expected training with at least 8 sequences, 2 of them for validation, 2 for the test"
        )

    def reconstruct(x: Tensor) -> Tensor:
        return through(model, x, settings.device)

    planting = {"seed": settings.seed, "prepare": lambda x: scale_sequences(x)[0]}
    rows, restored, metrics, planted = detection.judge(
        x,
        names,
        reconstruct,
        fit_pca(data.train, model.code_size),
        validation=data.validation,
        test=data.test,
        quantile=request.quantile,
        **planting,
    )
    tables.write_csv(folder / "anomalies.csv", rows)
    plots.worst_sequences(folder / "worst.png", rows, names, x, restored, "time step", "value")
    opponents, against, ours = {}, {}, mean_shares(planted)
    for other, fit in anomaly_opponents(data, planting).items():
        began = time.perf_counter()
        score, chosen = fit()
        scores = detection.planted_scores(score, data.test, **planting)
        seconds = round(time.perf_counter() - began, 1)
        opponents[other] = {
            "seed": settings.seed,
            "seconds": seconds,
            **described(data),
            **chosen,
            **detection.areas(scores),
        }
        opponents[other]["seeds"] = 1
        against[other] = {"auc": compare(ours, mean_shares(scores))}
    name = f"code{model.code_size}"
    metrics |= {"against": against}
    if ahead := [other for other in opponents if against[other]["auc"]["high"] < 0]:
        names = ", ".join(f"{other} ({opponents[other]['auc']:.3f})" for other in ahead)
        metrics["notice"] = f"NOTICE: {name}: its mean area under the ROC curve, {metrics['auc']:.3f}, is below {names}"
    return {name: {"sequences": len(rows), **metrics}, **opponents}


def anomaly_opponents(data: ToySignals, planting: dict) -> dict[str, Callable[[], tuple[Callable, dict]]]:
    """Detectors by name: each is fitted by a call, which returns its score and what was chosen on validation data."""
    opponents = {
        "pca": lambda: detection.chosen_pca(data.train, data.validation, **planting),
        "isolation_forest": lambda: (detection.forest(data.train), {}),
    }
    if data.metadata.get("signal") == "waves":
        opponents["linear_prediction"] = lambda: (linear_prediction, {})
    return opponents


def linear_prediction(x: Tensor) -> Tensor:
    """Squared errors by step of sequences (N, T), each predicted with its own weights: zero for sums of three sines."""
    centred = x.double() - 0.5
    return prediction_errors(centred, prediction_weights(centred))


def mean_shares(scores: dict[str, tuple[Tensor, Tensor]]) -> np.ndarray:
    """(N,) whose mean is the mean area under the ROC curves of all kinds of anomalies."""
    return torch.stack([detection.auc_shares(*of_kind) for of_kind in scores.values()]).mean(0).numpy()


def export(request: Request, folder: Path) -> dict:
    """Exports the model with its scaling and anomaly threshold for other software."""
    model, settings, path = trained_model(request, "reconstruct", LSTMAutoencoder)
    x = load(settings).validation
    threshold = detection.error_threshold(squared_errors(through(model, x, settings.device), x), request.quantile)
    program = SequenceProgram(model, x.shape[1], threshold)
    return {f"code{model.code_size}": export_program(folder, program, path)}


FUNCTIONS = {function.__name__: function for function in (plot_examples, reconstruct, encode, anomalies, export)}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
