"""LSTM autoencoder on S&P 500 prices, with next-day prediction.

    python lstm_ae_snp500.py --function plot_prices --symbols AMZN GOOGL
    python lstm_ae_snp500.py --function reconstruct                  # test windows of three stocks, in dollars
    python lstm_ae_snp500.py --function reconstruct --folds 5        # every block of time is test data once
    python lstm_ae_snp500.py --function predict                      # tomorrow's high: .799 of persistence's error
    python lstm_ae_snp500.py --function predict --inputs high        # the same from past highs alone: .995
    python lstm_ae_snp500.py --function predict --preset published   # every day predicted, reconstruction beside it
    python lstm_ae_snp500.py --function tomorrow --data newest.csv   # the next high of each stock in a file

Splits are by date: the first 60 % train, the next 20 % validate, the last 20 % test. No window crosses a boundary, and
predictions use scales fitted on training dates. Only stocks with a price on every date are used.

Deviations from the published studies:
1. They scale each stock by its minimum and maximum over all dates; here nothing is fitted on test dates.
2. They count the prediction loss at every step (`--predict_every_step`, preset published). At every step but the last
   one the next day is in the input, and predicting it is reconstruction; the preset best counts the last step only.
3. They show curves alone, and one that copies yesterday's price looks perfect. Here persistence (tomorrow's high is
   today's), lines and boosted trees stand beside each number; relative MAE = mean absolute error / persistence's. In
   the preset best the LSTM learns the residual of a line (`--line`).
Usage: docs/lstm_ae_snp500.md. Results: docs/results/report/report.md.
"""

from config.lstm_ae_snp500 import SCRIPT, PlotPrices, Predict, PriceTraining, Reconstruct
from lstm_studies.training.flags import parse

if __name__ == "__main__":
    parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss
from torch.utils.data import TensorDataset

from lstm_studies.evaluation import forecasts
from lstm_studies.evaluation.anomalies import judge
from lstm_studies.evaluation.baselines import beside_pca, fit_pca, reconstruction_baselines
from lstm_studies.evaluation.comparison import OURS, Errors, beside_opponents
from lstm_studies.loaders import windows
from lstm_studies.loaders.augmentation import random_mirrors
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.prices import StockPrices, complete_stocks, own_prices, select_symbols, stock_prices
from lstm_studies.loaders.toy import scale_sequences, unscale_sequences
from lstm_studies.loaders.windows import CLOSE, HIGH, INPUTS, PARTS, Samples
from lstm_studies.models.line_autoencoder import SPANS, LineAutoencoder, span_means
from lstm_studies.models.lstm_ae import LSTMAutoencoder, harmonic_periods
from lstm_studies.reporting import plots
from lstm_studies.reporting import prices as figures
from lstm_studies.training import checkpoint, loop, search, tables
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.settings import UsageError
from lstm_studies.training.trained import in_batches, trained_model, write_codes

SHOWN = ("AMZN", "GOOGL", "GOOG", "AAPL")  # stocks to draw by default, as far as the data have them
VALIDATION_STRIDE = 5  # days between the starts of validation windows
PREDICTORS = LSTMAutoencoder, LineAutoencoder

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def prices(data: Path | None, data_dir: Path, source: str) -> StockPrices:
    return stock_prices(data_dir, source) if data is None else own_prices(data)


@lru_cache(maxsize=1)
def complete_prices(data: Path | None, data_dir: Path, source: str) -> StockPrices:
    return complete_stocks(prices(data, data_dir, source))


def load(settings: PlotPrices | Request) -> StockPrices:
    """The stocks of `--data`, or of the S&P 500, with every price on every date; `--symbols` must be among them."""
    data = complete_prices(settings.data, settings.data_dir, settings.source)
    select_symbols(data, settings.symbols)
    return data


def as_steps(x: Tensor, input_size: int) -> Tensor:
    return x.unflatten(1, (-1, input_size))  # (N, T / I, I), I days per step


# ---- models and losses -----------------------------------------------------------------------------------------------


def build(settings: PriceTraining) -> LSTMAutoencoder:
    sizes = settings.hidden_size, settings.code_size or None, settings.num_layers
    if isinstance(settings, Predict):
        values = INPUTS[settings.inputs]
        if settings.line:
            return LineAutoencoder(min(values, INPUTS["ohlcv"]), *sizes, input_std=0.1, line_size=values)
        return LSTMAutoencoder(values, *sizes, prediction_size=1, input_std=0.1)
    periods = harmonic_periods(settings.window // settings.input_size, settings.positional_harmonics)
    return LSTMAutoencoder(settings.input_size, *sizes, encoding_periods=periods, output_layer=settings.output_layer)


def make_reconstruction_step(settings: Reconstruct) -> loop.Step:
    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        (x,) = batch  # (B, T)
        if model.training and settings.mirror:
            x = random_mirrors(x)
        return {"loss": mse_loss(model(as_steps(x, settings.input_size)).reconstruction.float().flatten(1), x)}

    return step


def make_prediction_step(settings: Predict) -> loop.Step:
    """Loss: d * reconstruction + (1 - d) * prediction.

    Reconstruction is a squared error. Prediction is the absolute error of the next day's high over the stock's mean
    daily change, or with `--predict_every_step` the squared error of the next day's high at every step.
    """
    dominance = settings.reconstruction_dominance

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        x, targets, unit = batch  # (B, T, F), (B, T), (B,)
        output = model(x)
        mse = mse_loss(output.reconstruction.float(), x[..., : output.reconstruction.shape[2]])
        predicted = output.prediction[:, :, 0].float()  # (B, T)
        if settings.predict_every_step:
            prediction = mse_loss(predicted, targets)
        else:
            prediction = l1_loss(predicted[:, -1] / unit, targets[:, -1] / unit)
        return {"loss": dominance * mse + (1 - dominance) * prediction, "mse": mse, "prediction": prediction}

    return step


# ---- reconstruction --------------------------------------------------------------------------------------------------


def part_dates(count: int, settings: Reconstruct, part: str) -> list[slice]:
    """The blocks of dates of a part, by the 60/20/20 split or by the fold."""
    fold = settings.fold
    return [windows.split_dates(count)[part]] if fold is None else windows.fold_dates(count, settings.folds, fold)[part]


def part_windows(data: StockPrices, settings: Reconstruct, part: str) -> Tensor:
    """Windows of daily highs as the data have them, (N, T); in the test part of a split by time they do not overlap."""
    values, size, limit = data.values, settings.window, settings.limit if part == "train" else None
    if settings.split == "random":
        return windows.random_part(values, size, settings.stride, settings.folds, settings.fold, part)[:limit]
    stride = {"train": settings.stride, "validation": VALIDATION_STRIDE, "test": size}[part]
    return windows.high_windows(values, part_dates(len(data.dates), settings, part), size, stride)[:limit]


def scaled(highs: Tensor) -> Tensor:
    """Each window (N, T) around 1/2 in [0, 1] by its mean and range; nothing is fitted."""
    return scale_sequences(highs)[0].float()


def train_reconstruction(settings: Reconstruct, folder: Path) -> loop.Result:
    data = load(settings)
    settings = settings.reading(data.metadata)
    sets = (TensorDataset(scaled(part_windows(data, settings, part))) for part in ("train", "validation"))
    return loop.train(build(settings), make_reconstruction_step(settings), *sets, settings, folder)


def test_reconstruction(settings: Reconstruct, folder: Path) -> dict:
    data = load(settings)
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(settings.device)
    highs = part_windows(data, settings, "test")
    train, validation, test = (scaled(part_windows(data, settings, part)) for part in PARTS)
    step = make_reconstruction_step(settings)
    errors = [loop.evaluate(model, step, TensorDataset(x), settings)["loss"] for x in (test, validation)]
    relative = (reconstruct_highs(model, highs, settings.device) - highs).abs() / highs.abs()  # infinite at highs of 0
    return {
        "data": data.metadata["data"],
        "stocks": len(data.symbols),
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        **dict(zip(("test_mse", "val_mse"), errors, strict=True)),
        **({"test_mae_percent": 100 * relative.mean().item()} if data.values[..., HIGH].all() else {}),
        **reconstruction_baselines(train, test, model.code_size),
    }


def reconstruct_scaled(model: nn.Module, x: Tensor, device: str) -> Tensor:
    """Scaled windows (N, T) through the autoencoder."""
    steps = as_steps(x.float(), model.arguments["input_size"])
    return in_batches(lambda x: model(x).reconstruction, steps, device).flatten(1)


def reconstruct_highs(model: nn.Module, highs: Tensor, device: str) -> Tensor:
    """Windows (N, T) through the autoencoder and back to their own unit, with each window's scale."""
    x, offset, scale = scale_sequences(highs)
    return unscale_sequences(reconstruct_scaled(model, x, device).double(), offset, scale)


# ---- prediction ------------------------------------------------------------------------------------------------------


def prediction_dates(count: int, settings: Predict) -> dict[str, slice]:
    """The dates of each part, by the 60/20/20 split or by the rolling period."""
    fold = settings.fold
    return windows.split_dates(count) if fold is None else windows.rolling_dates(count, settings.folds, fold)


def part_samples(data: StockPrices, settings: Predict, part: str) -> Samples:
    """Windows of `--window` days and the days after their steps, all within `part`; scales fitted on training dates."""
    dates, values = prediction_dates(len(data.dates), settings), data.values
    scale, stride = windows.fit_scale(values[:, dates["train"]]), settings.stride if part == "train" else 1
    samples = windows.samples(values[:, dates[part]], scale, settings.window, settings.inputs, stride)
    limit = settings.limit if part == "train" else None
    return samples._replace(**{name: getattr(samples, name)[:limit] for name in ("x", "targets", "unit")})


def train_prediction(settings: Predict, folder: Path) -> loop.Result:
    data = load(settings)
    settings, model = settings.reading(data.metadata), build(settings)
    train, validation = (part_samples(data, settings, part) for part in ("train", "validation"))
    if settings.line:
        model.set_line(*forecasts.fit_line(span_means(train.x - 0.5, model.arguments["spans"]), train))
    sets = (TensorDataset(one.x, one.targets, one.unit) for one in (train, validation))
    return loop.train(model, make_prediction_step(settings), *sets, settings, folder, monitor="prediction")


def test_prediction(settings: Predict, folder: Path) -> dict:
    """Relative MAE with its interval, the errors behind it in the data's unit, and a line per stock beside it."""
    data = load(settings)
    model = checkpoint.rebuild(folder / "best.pt", *PREDICTORS).to(settings.device)
    validation, test = (part_samples(data, settings, part) for part in ("validation", "test"))
    dates, highs = prediction_dates(len(data.dates), settings), data.values[..., HIGH]
    closes = None if settings.inputs == "high" else data.values[..., CLOSE]
    step, predicted = make_prediction_step(settings), predict_steps(model, test, settings.device)
    test_means, val_means = (
        loop.evaluate(model, step, TensorDataset(one.x, one.targets, one.unit), settings) for one in (test, validation)
    )
    return {
        "data": data.metadata["data"],
        "inputs": settings.inputs,
        "stocks": len(data.symbols),
        "test_days": test.days,
        "parameters": sum(p.numel() for p in model.parameters()),
        **forecasts.scores(predicted[:, -1], test, settings.seed),
        "linear_mase": forecasts.linear_mase(highs, closes, dates, settings.window),
        "test_mse": test_means["mse"],
        "val_mse": val_means["mse"],
        "test_prediction_loss": test_means["prediction"],
        "val_prediction_loss": val_means["prediction"],
        **(forecasts.errors_by_step(predicted, test) if settings.predict_every_step else {}),
    }


def predict_steps(model: nn.Module, samples: Samples, device: str) -> Tensor:
    """The high of the day after each step on the scale of the samples, (N, T)."""
    return in_batches(lambda x: model(x).prediction[:, :, 0], samples.x, device)


def predict_highs(model: nn.Module, samples: Samples, device: str, every: bool = False) -> Tensor:
    """The next day's high in the data's unit, (N,), or with `every` that of the day after each step, (N, T)."""
    highs = samples.last[:, None] + (predict_steps(model, samples, device) - 0.5).double() * samples.span[:, None]
    return highs if every else highs[:, -1]


def roll_out(model: nn.Module, values: Tensor, scale_values: Tensor, days: int, device: str) -> Tensor:
    """Highs of the `days` after the window values (1, T, 5), each predicted from the T days before it, (days,).

    Predicted days replace known ones, so the model must read highs alone. scale_values: training dates.
    """
    scale, length = windows.fit_scale(scale_values), values.shape[1]
    for _ in range(days):
        window = windows.newest_samples(values, scale, length, "high")
        values = torch.cat([values, predict_highs(model, window, device).expand(1, 1, 5)], 1)
    return values[0, -days:, HIGH]


# ---- functions that train --------------------------------------------------------------------------------------------


def shown_symbols(settings: PlotPrices | Request, data: StockPrices, count: int) -> list[str]:
    """`--symbols`, or the first few of SHOWN that the data have, filled up in the order of the data."""
    usual = dict.fromkeys([symbol for symbol in SHOWN if symbol in data.symbols] + data.symbols)
    return select_symbols(data, settings.symbols or list(usual)[:count]).symbols


def plot_prices(request: Request, folder: Path) -> dict:
    """Draws the daily high of some stocks."""
    data = prices(request.data, request.data_dir, request.source)
    names = shown_symbols(request, data, 2)
    highs = dict(zip(names, select_symbols(data, names).values[:, :, HIGH], strict=True))
    series = {name: (data.dates, y) for name, y in highs.items()}
    plots.curves(folder / "prices.png", series, "date", figures.axes_of(data.metadata)[2])
    return {name: {"data": data.metadata["data"], "last_high": y[y.isfinite()][-1].item()} for name, y in highs.items()}


def reconstruct(request: Request, folder: Path) -> dict:
    """Trains and tests on windows of highs, by folds if asked for; draws three stocks and the losses."""
    folds = request.folds if request.folds > 1 else 0
    metrics = search.fit({OURS: request}, folder, train_reconstruction, test_reconstruction, folds, refit=not folds)
    plots.curves(folder / "loss.png", tables.read_curves(folder, "loss"), "epoch", "mean squared error", log=True)
    if request.split == "time":
        plot_stocks(dataclasses.replace(request.single(), fold=0 if folds else None), folder)
    return compared(metrics, request, folder, "test_mse", reconstruction_errors)


def reconstruction_errors(settings: Reconstruct, folders: list[Path]) -> Errors:
    """Squared errors of test windows; those that begin on one day (at random: in about two windows) are a group."""
    data = load(settings)
    models = [checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(settings.device) for folder in folders]
    train, validation, test = (scaled(part_windows(data, settings, part)) for part in PARTS)
    restored = [reconstruct_scaled(model, test, settings.device) for model in models]
    days = torch.arange(len(test) // len(data.symbols)).repeat(len(data.symbols))
    joined, fold = 2 * settings.window // (settings.folds * settings.stride), settings.fold or 0
    groups = days // max(1, joined) if settings.split == "random" else days + fold * len(data.dates)
    return *beside_pca(restored, train, validation, test, models[0].code_size), groups


def prediction_errors(settings: Predict, folders: list[Path]) -> Errors:
    """Errors of test predictions over the mean one of persistence; those of five days depend on one another."""
    models = [checkpoint.rebuild(folder / "best.pt", *PREDICTORS).to(settings.device) for folder in folders]
    parts = [part_samples(load(settings), settings, part) for part in PARTS]
    predicted = [predict_steps(model, parts[-1], settings.device)[:, -1] for model in models]
    *errors, days = forecasts.errors_beside_opponents(predicted, *parts, span_means, SPANS, settings.seed)
    return *errors, days + (settings.fold or 0) * len(days)


def compared(metrics: dict, request: Request, folder: Path, key: str, errors_of: Callable[..., Errors]) -> dict:
    """The metrics with those of the opponents and the differences from them, over all folds if there are some."""
    settings = dataclasses.replace(request.single(), **metrics[OURS].get("best_combination", {}))
    folds = {k: [folder / f"fold{k}"] for k in range(settings.folds)}
    if settings.folds == 1:
        folds = {None: tables.trainings_in(folder)}
    errors = [errors_of(dataclasses.replace(settings, fold=k), folders) for k, folders in folds.items()]
    return beside_opponents(metrics, key, errors)


def plot_stocks(settings: Reconstruct, folder: Path) -> None:
    """The test windows of three stocks one after another, against dates."""
    data = load(settings)
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(settings.device)
    dates = data.dates[part_dates(len(data.dates), settings, "test")[0]]
    quantity, unit, _ = figures.axes_of(data.metadata)
    rows = {}
    for name in shown_symbols(settings, data, 3):
        highs = part_windows(select_symbols(data, name), settings, "test")
        restored = reconstruct_highs(model, highs, settings.device)
        time = dates[: highs.numel()]
        rows[name] = {quantity: (time, highs.flatten()), "reconstruction": (time, restored.flatten())}
    plots.panels(folder / "stocks.png", rows, "date", unit, dashed=["reconstruction"])


def predict(request: Request, folder: Path) -> dict:
    """Trains reconstruction and prediction at once; draws losses and predictions; writes tomorrow.csv."""
    data = load(request)
    if request.inputs != "high" and data.metadata["fields"] == 1:
        raise UsageError(f"--inputs: expected high, since {request.data} has one number per date")
    folds = request.folds if request.folds > 1 else 0
    metrics = search.fit({OURS: request}, folder, train_prediction, test_prediction, folds, refit=not folds)
    settings = dataclasses.replace(request.single(), **metrics[OURS].get("best_combination", {}))
    error = "mean squared error" if settings.predict_every_step else "absolute error / mean daily change"
    curves = {key: tables.read_curves(folder, key) for key in ("mse", "prediction", "loss")}
    figures.losses(folder / "losses.png", curves, settings.reconstruction_dominance, error)
    if not folds:
        model = checkpoint.rebuild(folder / "best.pt", *PREDICTORS).to(settings.device)
        plot_predictions(settings, model, folder)
        if settings.inputs == "high":
            plot_rollout(settings, model, folder)
        write_tomorrow(model, data, data.values[:, windows.split_dates(len(data.dates))["train"]], settings, folder)
    return compared(metrics, request, folder, "mase", prediction_errors)


def plot_predictions(settings: Predict, model: nn.Module, folder: Path) -> None:
    """Test days of three stocks and the last day of 20: the high, its prediction from the day before, persistence."""
    data = load(settings)
    test = part_samples(data, settings, "test")
    predicted, last = (x.view(-1, test.days).numpy() for x in (predict_highs(model, test, settings.device), test.last))
    dates, actual = data.dates[-test.days :], data.values[:, -test.days :, HIGH].numpy()
    shown = [(name, data.symbols.index(name)) for name in shown_symbols(settings, data, 3)]
    quantity, unit, label = figures.axes_of(data.metadata)
    figures.predictions(folder / "predictions.png", shown, dates, actual, predicted, last, quantity, unit)
    figures.changes(folder / "companies.png", data.symbols, dates, actual, predicted, last, quantity)
    if settings.predict_every_step:  # all steps of one window, the last one of the last of these stocks
        name, i = shown[-1]
        steps = predict_highs(model, test, settings.device, every=True).view(*actual.shape, -1)[i, -1].numpy()
        figures.sequence(folder / "sequence.png", name, data.dates, data.values[i, :, HIGH].numpy(), steps, label)


def plot_rollout(settings: Predict, model: nn.Module, folder: Path) -> None:
    """The last days of one stock, twice the window: the second half predicted from the first, day after day."""
    data, days = load(settings), settings.window
    name = shown_symbols(settings, data, 1)[0]
    values = select_symbols(data, name).values
    train = values[:, windows.split_dates(len(data.dates))["train"]]
    predicted = roll_out(model, values[:, -2 * days : -days], train, days, settings.device)
    highs, ylabel = values[0, -2 * days :, HIGH].numpy(), figures.axes_of(data.metadata)[2]
    figures.rollout(folder / "rollout.png", name, data.dates[-2 * days :], highs, predicted.numpy(), ylabel)


# ---- functions that apply a trained model ----------------------------------------------------------------------------


def windows_to_judge(request: Request, trained: Reconstruct) -> tuple[StockPrices, Tensor, list[str], np.ndarray]:
    """Prices of `--data`, or else of the training; windows (N, T) of highs that do not overlap, of `--data` or the test
    part, named by symbol and first date; the dates (N, T) of these windows."""
    if request.data is None and trained.split == "random":
        raise UsageError("--data: needed by a model of --split random, whose test windows overlap one another")
    data = load(trained) if request.data is None else complete_prices(request.data, trained.data_dir, trained.source)
    length = trained.window
    dates = slice(len(data.dates) % length, None) if request.data else part_dates(len(data.dates), trained, "test")[0]
    x = windows.high_windows(data.values, [dates], length, length)
    days = data.dates[dates][: len(data.dates[dates]) // length * length].reshape(-1, length)
    names = [f"{symbol} {date}" for symbol in data.symbols for date in days[:, 0]]
    return data, x, names, np.tile(days, (len(data.symbols), 1))


def encode(request: Request, folder: Path) -> dict:
    """Writes the codes of windows to codes.csv."""
    model, settings, path = trained_model(request, "reconstruct", LSTMAutoencoder)
    _, highs, names, _ = windows_to_judge(request, settings)
    codes = in_batches(model.encode, as_steps(scaled(highs), settings.input_size), settings.device)
    write_codes(folder / "codes.csv", names, codes)
    return {OURS: {"model": str(path), "windows": len(names), "code_size": model.code_size}}


def anomalies(request: Request, folder: Path) -> dict:
    """Ranks windows by reconstruction error in anomalies.csv; draws the worst; tests with planted anomalies."""
    model, settings, path = trained_model(request, "reconstruct", LSTMAutoencoder)
    train, validation, test = (scaled(part_windows(load(settings), settings, part)) for part in PARTS)
    if len(test) < 2:
        raise DataError(f"{settings.data or 'the data'}: expected a test part of 2 windows or more, found {len(test)}")
    data, highs, names, days = windows_to_judge(request, settings)
    x, offset, scale = scale_sequences(highs)
    rows, restored, metrics, _ = judge(
        x.float(),
        names,
        lambda x: reconstruct_scaled(model, x, settings.device),
        fit_pca(train, model.code_size),
        validation=validation,
        test=test,
        quantile=request.quantile,
        seed=settings.seed,
        prepare=scaled,
    )
    tables.write_csv(folder / "anomalies.csv", rows)
    restored, unit = unscale_sequences(restored.double(), offset, scale), figures.axes_of(data.metadata)[1]
    plots.worst_sequences(folder / "worst.png", rows, names, highs, restored, "date", unit, days)
    return {OURS: {"model": str(path), "windows": len(rows), **metrics}}


def tomorrow(request: Request, folder: Path) -> dict:
    """Writes the next day's high of each stock to tomorrow.csv, after predict --folds by the last fold."""
    run = request.model_from or request.output_dir / "predict"
    newest = max(run.glob("fold[0-9]*"), key=lambda path: int(path.name.removeprefix("fold")), default=run)
    model, settings, path = trained_model(request.with_values(model_from=newest), "predict", *PREDICTORS)
    # the stocks of --data may be others than those of the training: then each one's own past gives its scale
    data = load(settings) if request.data is None else complete_prices(request.data, settings.data_dir, settings.source)
    known = data.values if request.data else data.values[:, prediction_dates(len(data.dates), settings)["train"]]
    if request.data:
        windows.check_inputs(request.data, data, settings.inputs)
    write_tomorrow(model, data, known, settings, folder)
    return {OURS: {"model": str(path), "stocks": len(data.symbols), "newest_date": str(data.dates[-1])}}


def write_tomorrow(model: nn.Module, data: StockPrices, known: Tensor, settings: Predict, folder: Path) -> None:
    """Writes the high after the newest date per symbol to tomorrow.csv; the dates `known` (S, D, 5) give the scales."""
    newest = windows.newest_samples(data.values, windows.fit_scale(known), settings.window, settings.inputs)
    columns = data.symbols, newest.last.tolist(), predict_highs(model, newest, settings.device).tolist()
    rows = [
        {"symbol": s, "date": str(data.dates[-1]), "high": y, "next_high": z, "change_percent": 100 * (z / y - 1)}
        for s, y, z in zip(*columns, strict=True)
    ]
    tables.write_csv(folder / "tomorrow.csv", rows)


FUNCTIONS = {f.__name__: f for f in (plot_prices, reconstruct, predict, encode, anomalies, tomorrow)}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
