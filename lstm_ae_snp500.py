"""LSTM autoencoder on S&P 500 prices, with next-day prediction.

    python lstm_ae_snp500.py --function plot_prices --symbols AMZN GOOGL
    python lstm_ae_snp500.py --function reconstruct                  # test windows of three stocks, in dollars
    python lstm_ae_snp500.py --function reconstruct --folds 5        # every block of time is test data once
    python lstm_ae_snp500.py --function reconstruct --folds 5 --hidden_size 64 128      # a grid, scored by the folds
    python lstm_ae_snp500.py --function predict                      # MASE about .81; persistence is 1
    python lstm_ae_snp500.py --function predict --inputs high        # MASE just below 1: highs hold almost nothing
    python lstm_ae_snp500.py --function predict --preset published   # every day predicted, reconstruction beside it
    python lstm_ae_snp500.py --function tomorrow --data newest.csv   # the next high of each stock in a file

Splits are by date: the first 60 % train, the next 20 % validate, the last 20 % test. No window crosses a boundary, and
what is fitted (the scale of a stock) is fitted on training dates. Only stocks with a price on every date take part.

Deviations from the studies it follows:
1. They scale each stock by its minimum and maximum over all dates, the test dates included; here nothing is fitted on
   those.
2. They count the prediction loss at every step (`--predict_every_step`, preset published). Up to the last step the
   "next" day is in the input, and predicting it is reconstruction; in the preset best only the day after the window
   counts.
3. They show the curves alone. A curve that copies yesterday's price looks perfect, so here persistence (tomorrow's high
   is today's) stands beside each number: MASE = mean absolute error / that of persistence.
Question, protocol and results: docs/lstm_ae_snp500.md.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lstm_studies.training import flags
from lstm_studies.training.presets import Script, recipe
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

SHOWN = ("AMZN", "GOOGL", "GOOG", "AAPL")  # stocks to draw by default, as far as the data have them
VALIDATION_STRIDE = 5  # days between the starts of validation windows
TRAIN = ("reconstruct", "predict")
OUTPUT_LAYERS = ("sigmoid", "linear")


@dataclass(frozen=True)
class PriceSettings(AutoencoderSettings):
    """The flags of this script beside those of all."""

    code_size: int = flag(16, "values of the bottleneck; 0: the encoder's last hidden state", "model", COUNT)
    input_size: int = flag(25, "days per step, a divisor of --window", "model", POSITIVE_INT, functions=["reconstruct"])
    positional_harmonics: int = flag(
        4,
        "sine and cosine pairs in the decoder's positional encoding; 0: no positional encoding",
        "model",
        COUNT,
        functions=["reconstruct"],
        aliases=["clock_harmonics"],
    )
    output_layer: str = flag(
        "sigmoid",
        "last layer of the decoder",
        "model",
        one_of(*OUTPUT_LAYERS),
        functions=["reconstruct"],
        metavar=f"{{{','.join(OUTPUT_LAYERS)}}}",
    )
    inputs: str = flag(
        "ohlcv",
        "prices of each day that the model reads: high, or open, high, low, close and volume",
        "model",
        one_of("high", "ohlcv"),
        functions=["predict"],
        metavar="{high,ohlcv}",
    )
    mirror: bool = flag(
        False,
        "augmentation: windows reversed in time and in sign, each half the time",
        "training",
        functions=["reconstruct"],
    )
    predict_every_step: bool = flag(
        False,
        "prediction loss over every day's next day, squared, instead of the last day's absolute error",
        "training",
        functions=["predict"],
    )
    reconstruction_dominance: float = flag(
        0.5,
        "weight d of the reconstruction loss beside 1 - d of the prediction loss",
        "training",
        FRACTION,
        several="grid",
        functions=["predict"],
    )
    folds: int = flag(
        1,
        "blocks of time for cross-validation, at least 3; 1: the 60/20/20 split",
        "training",
        POSITIVE_INT,
        functions=["reconstruct"],
    )
    data: Path | None = flag(
        None,
        "CSV file of prices (symbol, date, open, high, low, close, volume), or of a date and a column per series",
        "data",
        Path,
        metavar="FILE",
    )
    symbols: str = flag(
        None,
        "stocks to draw; default: AMZN, GOOGL, ...",
        "data",
        str,
        several="list",
        functions=("plot_prices", *TRAIN),
        decides=False,
        metavar="SYMBOL",
    )
    window: int = flag(50, "days per sequence", "data", number(int, 2), trains=True)
    stride: int = flag(5, "days between the starts of training windows", "data", POSITIVE_INT, trains=True)
    fold: int | None = None  # the block of time that is test data; None: the 60/20/20 split

    def check(self) -> None:
        if self.folds == 2:
            raise UsageError("--folds: expected 1, or at least 3 (test, validation and training blocks), found 2")
        if self.function == "reconstruct" and self.window % self.input_size:
            raise UsageError(f"--input_size: expected a divisor of --window {self.window}, found {self.input_size}")


RECONSTRUCT, PREDICT, SP500 = {"function": "reconstruct"}, {"function": "predict"}, {"data": None}
PRESETS = {
    "best": [
        recipe(RECONSTRUCT, hidden_size=128, batch_size=64, learning_rate=3e-3, epochs=60, stride=1, mirror=True),
        recipe({**RECONSTRUCT, **SP500}, minutes=2, batch_size=256, learning_rate=5e-3, epochs=8),
        recipe({**RECONSTRUCT, **SP500, "folds": 5}, minutes=6, epochs=5),
        recipe(PREDICT, hidden_size=64, code_size=0, batch_size=64, epochs=30, window=20, stride=1),
        recipe({**PREDICT, **SP500}, minutes=5, batch_size=512, learning_rate=3e-3, epochs=8),
        recipe({**PREDICT, **SP500, "inputs": "high"}, code_size=16, learning_rate=1e-3, epochs=5),
    ],
    "published": [
        recipe(hidden_size=32, code_size=0, input_size=1, positional_harmonics=0),
        recipe(schedule="constant", learning_rate=1e-3, batch_size=128, epochs=10),
        recipe(RECONSTRUCT, minutes=2),
        recipe(PREDICT, minutes=1, window=15, inputs="high", predict_every_step=True),
    ],
    "quick": [
        recipe(RECONSTRUCT, minutes=0.5, hidden_size=64, batch_size=128, learning_rate=3e-3, epochs=4, limit=12800),
        recipe(PREDICT, minutes=1, hidden_size=32, code_size=0, batch_size=256, learning_rate=3e-3, epochs=4),
        recipe(PREDICT, window=20, limit=25600),
    ],
}
SCRIPT = Script(
    __file__,
    __doc__,
    {
        "plot_prices": "daily high of some stocks, AMZN and GOOGL by default, against time",
        "reconstruct": "train on windows of highs; three stocks in dollars; --folds for cross-validation",
        "predict": "train reconstruction and the next day's high; loss curves, predicted against actual, MASE",
        "encode": "codes of the test windows, or of those in --data, as CSV",
        "anomalies": "test windows, or those in --data, the worst reconstructed first; a test with planted anomalies",
        "tomorrow": "the next day's high of each stock, from the newest rows of the training's data or of --data",
    },
    PriceSettings,
    PRESETS,
    trains=TRAIN,
    whole_study=("plot_prices", *TRAIN),
)
if __name__ == "__main__":
    flags.parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import statistics

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss
from torch.utils.data import TensorDataset

from lstm_studies.evaluation.anomalies import judge
from lstm_studies.evaluation.baselines import fit_pca, reconstruction_baselines
from lstm_studies.evaluation.forecasts import linear_mase, mase_interval
from lstm_studies.loaders.augmentation import random_mirrors
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.prices import StockPrices, complete_symbols, own_prices, select_symbols, stock_prices
from lstm_studies.loaders.toy import scale_sequences, unscale_sequences
from lstm_studies.loaders.windows import (
    CLOSE,
    HIGH,
    INPUTS,
    PARTS,
    Samples,
    fit_scale,
    fold_dates,
    high_windows,
    newest_samples,
    samples,
    split_dates,
)
from lstm_studies.models.lstm_ae import LSTMAutoencoder, harmonic_periods
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, grid_search, loop, tables
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.trained import in_batches, trained_model, write_codes

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def prices(data: Path | None, data_dir: Path, source: str) -> StockPrices:
    return stock_prices(data_dir, source) if data is None else own_prices(data)


def all_prices(settings: PriceSettings | Request) -> StockPrices:
    """The prices of `--data`, or of the S&P 500; `--symbols` are checked against all names."""
    data = prices(settings.data, settings.data_dir, settings.source)
    if settings.symbols:
        select_symbols(data, settings.symbols)
    return data


def load(settings: PriceSettings | Request) -> StockPrices:
    """The stocks that have every price on every date."""
    data = all_prices(settings)
    complete = complete_symbols(data)
    if not complete:
        raise DataError(
            f"{settings.data or data.metadata['file']}: expected a series with a value on every date, found none"
        )
    return select_symbols(data, complete)


def shown_symbols(settings: PriceSettings | Request, available: list[str], count: int) -> list[str]:
    """`--symbols`, or the first few of SHOWN that the data have, filled up in the order of the data."""
    if not settings.symbols:
        return [*dict.fromkeys([s for s in SHOWN if s in available] + available)][:count]
    missing = [s for s in settings.symbols if s not in available]
    if missing:
        raise DataError(f"--symbols: expected stocks with a price on every date, found {', '.join(missing)}")
    return list(settings.symbols)


def part_dates(count: int, settings: PriceSettings, part: str) -> list[slice]:
    """The blocks of dates of a part, by the 60/20/20 split or by the fold."""
    if settings.fold is None:
        return [split_dates(count)[part]]
    return fold_dates(count, settings.folds, settings.fold)[part]


# ---- reconstruction --------------------------------------------------------------------------------------------------


def part_windows(data: StockPrices, settings: PriceSettings, part: str) -> Tensor:
    """Windows of daily highs in dollars, (N, window); in the test part they do not overlap."""
    stride = {"train": settings.stride, "validation": VALIDATION_STRIDE, "test": settings.window}[part]
    return high_windows(data.values, part_dates(len(data.dates), settings, part), settings.window, stride)


def scaled(dollars: Tensor) -> Tensor:
    """Each window (N, T) around 1/2 in [0, 1] by its own mean and range; nothing is fitted."""
    return scale_sequences(dollars)[0].float()


def as_steps(x: Tensor, input_size: int) -> Tensor:
    """Windows (N, T) of days to (N, T / I, I), I days per step."""
    return x.unflatten(1, (-1, input_size))


def make_reconstruction_step(settings: PriceSettings) -> loop.Step:
    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        (x,) = batch
        if model.training and settings.mirror:
            x = random_mirrors(x)
        return {"loss": mse_loss(model(as_steps(x, settings.input_size)).reconstruction.float().flatten(1), x)}

    return step


def train_reconstruction(settings: PriceSettings, folder: Path) -> loop.Result:
    data = load(settings)
    settings = flags.with_data_read(settings, data.metadata)
    steps = settings.window // settings.input_size
    model = LSTMAutoencoder(
        settings.input_size,
        settings.hidden_size,
        settings.code_size or None,
        settings.num_layers,
        encoding_periods=harmonic_periods(steps, settings.positional_harmonics),
        output_layer=settings.output_layer,
    )
    train = TensorDataset(scaled(part_windows(data, settings, "train"))[: settings.limit])
    validation = TensorDataset(scaled(part_windows(data, settings, "validation")))
    return loop.train(model, make_reconstruction_step(settings), train, validation, settings, folder)


def test_reconstruction(settings: PriceSettings, folder: Path) -> dict:
    data = load(settings)
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(settings.device)
    dollars = part_windows(data, settings, "test")
    train, validation, test = (scaled(part_windows(data, settings, part)) for part in PARTS)
    step = make_reconstruction_step(settings)
    means = {
        f"{name}_mse": loop.evaluate(model, step, TensorDataset(x), settings)["loss"]
        for name, x in (("test", test), ("val", validation))
    }
    restored = reconstruct_dollars(model, dollars, settings.device)
    return {
        "data": data.metadata["data"],
        "stocks": len(data.symbols),
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        **means,
        "test_mae_percent": 100 * ((restored - dollars).abs() / dollars.abs()).mean().item(),
        **reconstruction_baselines(train, test, model.code_size),
    }


def reconstruct_scaled(model: nn.Module, x: Tensor, device: str) -> Tensor:
    """Scaled windows (N, T) through the autoencoder."""
    steps = as_steps(x.float(), model.arguments["input_size"])
    return in_batches(lambda x: model(x).reconstruction, steps, device).flatten(1)


def reconstruct_dollars(model: nn.Module, dollars: Tensor, device: str) -> Tensor:
    """Windows (N, T) in dollars through the autoencoder and back to dollars, with each window's own scale."""
    x, offset, scale = scale_sequences(dollars)
    return unscale_sequences(reconstruct_scaled(model, x, device).double(), offset, scale)


def cross_validate(settings: PriceSettings, folder: Path) -> loop.Result:
    """Trains one model per block of time, in folders of their own; the score is the mean over the blocks."""
    results = []
    for k in range(settings.folds):
        torch.manual_seed(settings.seed)  # the same initial weights whatever was trained before
        own = dataclasses.replace(settings, fold=k, label=", ".join([*filter(None, [settings.label]), f"fold {k}"]))
        results.append(train_reconstruction(own, folder / f"fold{k}"))
    grid_search.copy_up(folder / "fold0", folder)  # the model of the figures
    score, seconds = statistics.mean(r.score for r in results), sum(r.seconds for r in results)
    return results[0]._replace(score=score, seconds=seconds)


def test_folds(settings: PriceSettings, folder: Path) -> dict:
    """The errors of every block, as test data of its model, with their mean and standard deviation."""
    folds = {
        f"fold{k}": test_reconstruction(dataclasses.replace(settings, fold=k), folder / f"fold{k}")
        for k in range(settings.folds)
    }
    metrics: dict = {"data": folds["fold0"]["data"], **folds}
    for key in ("test_mse", "val_mse", "pca_mse", "mean_mse", "test_mae_percent"):
        values = [fold[key] for fold in folds.values()]
        metrics |= {f"{key}_mean": statistics.mean(values), f"{key}_std": statistics.stdev(values)}
    return metrics


# ---- prediction ------------------------------------------------------------------------------------------------------


def part_samples(data: StockPrices, settings: PriceSettings, part: str) -> Samples:
    """Windows of `--window` days and the days after their steps, all within `part`; scales fitted on training dates."""
    dates, values = split_dates(len(data.dates)), data.values
    stride = settings.stride if part == "train" else 1
    return samples(
        values[:, dates[part]], fit_scale(values[:, dates["train"]]), settings.window, settings.inputs, stride
    )


def make_prediction_step(settings: PriceSettings) -> loop.Step:
    """Loss: d * reconstruction + (1 - d) * prediction.

    Reconstruction is a squared error. Prediction is the absolute error of the next day's high over the stock's mean
    daily change, or with `--predict_every_step` the squared error of the next day's high at every step.
    """
    dominance = settings.reconstruction_dominance

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        x, targets, unit = batch
        output = model(x)
        mse = mse_loss(output.reconstruction.float(), x)
        predicted = output.prediction[:, :, 0].float()  # (B, T)
        if settings.predict_every_step:
            prediction = mse_loss(predicted, targets)
        else:
            prediction = l1_loss(predicted[:, -1] / unit, targets[:, -1] / unit)
        return {"loss": dominance * mse + (1 - dominance) * prediction, "mse": mse, "prediction": prediction}

    return step


def train_prediction(settings: PriceSettings, folder: Path) -> loop.Result:
    data = load(settings)
    settings = flags.with_data_read(settings, data.metadata)
    features = len(INPUTS[settings.inputs])
    model = LSTMAutoencoder(
        features,
        settings.hidden_size,
        settings.code_size or None,
        settings.num_layers,
        prediction_size=1,
        input_std=0.1,
    )
    sets = []
    for part, limit in (("train", settings.limit), ("validation", None)):
        own = part_samples(data, settings, part)
        sets.append(TensorDataset(own.x[:limit], own.targets[:limit], own.unit[:limit]))
    return loop.train(model, make_prediction_step(settings), *sets, settings, folder, monitor="prediction")


def test_prediction(settings: PriceSettings, folder: Path) -> dict:
    """MASE with its interval, the errors behind it in dollars, and the linear models beside it."""
    data = load(settings)
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(settings.device)
    test = part_samples(data, settings, "test")
    actual = test.last + (test.targets[:, -1] - 0.5).double() * test.dollars
    errors = (predict_highs(model, test, settings.device) - actual).abs().view(-1, test.days)  # (stocks, days), dollars
    persistence = (test.last - actual).abs().view(-1, test.days)
    low, high = mase_interval(errors.sum(0).numpy(), persistence.sum(0).numpy(), settings.seed)
    step, parts = make_prediction_step(settings), {}
    for part, own in (("test", test), ("validation", part_samples(data, settings, "validation"))):
        parts[part] = loop.evaluate(model, step, TensorDataset(own.x, own.targets, own.unit), settings)
    return {
        "data": data.metadata["data"],
        "inputs": settings.inputs,
        "stocks": len(data.symbols),
        "test_days": test.days,
        "parameters": sum(p.numel() for p in model.parameters()),
        "mase": (errors.mean() / persistence.mean()).item(),
        "mase_low": low,
        "mase_high": high,
        "linear_mase": linear_baseline(data, settings),
        "test_mae": errors.mean().item(),
        "persistence_mae": persistence.mean().item(),
        "test_mse": parts["test"]["mse"],
        "val_mse": parts["validation"]["mse"],
        "test_prediction_loss": parts["test"]["prediction"],
        "val_prediction_loss": parts["validation"]["prediction"],
        **(errors_by_step(model, test, settings) if settings.predict_every_step else {}),
    }


def errors_by_step(model: nn.Module, windows: Samples, settings: PriceSettings) -> dict[str, float]:
    """Squared errors of every day's next high where the window holds it and where it does not, and of persistence."""
    predicted = in_batches(lambda x: model(x).prediction[:, :, 0], windows.x, settings.device)
    errors = (predicted - windows.targets).square().mean(0)  # (T,)
    high = list(INPUTS[settings.inputs]).index(HIGH)
    persistence = (windows.x[:, -1, high] - windows.targets[:, -1]).square().mean()
    return {
        "known_next_days_mse": errors[:-1].mean().item(),
        "last_next_day_mse": errors[-1].item(),
        "persistence_mse": persistence.item(),
    }


def predict_highs(model: nn.Module, windows: Samples, device: str) -> Tensor:
    """The next day's high in dollars, (N,)."""
    predicted = in_batches(lambda x: model(x).prediction[:, -1, 0], windows.x, device)
    return windows.last + (predicted - 0.5).double() * windows.dollars


def linear_baseline(data: StockPrices, settings: PriceSettings) -> float:
    """MASE of a linear model per stock on the same test days, with close - high if the model reads closes, too."""
    dates = split_dates(len(data.dates))
    train, test = data.values[:, dates["train"]], data.values[:, dates["test"]][:, settings.window - 2 :]
    closes = (train[..., CLOSE], test[..., CLOSE]) if settings.inputs == "ohlcv" else None
    return linear_mase(train[..., HIGH], test[..., HIGH], closes)


def roll_out(model: nn.Module, values: Tensor, scale_values: Tensor, days: int, device: str) -> Tensor:
    """Highs of the `days` after the window values (1, T, 5), each predicted from the T days before it, (days,).

    Predicted days take the place of known ones, so the model must read highs alone. scale_values: training dates.
    """
    scale, length = fit_scale(scale_values), values.shape[1]
    for _ in range(days):
        window = newest_samples(values, scale, length, "high")
        values = torch.cat([values, predict_highs(model, window, device).expand(1, 1, 5)], 1)
    return values[0, -days:, HIGH]


# ---- functions that train --------------------------------------------------------------------------------------------


def plot_prices(request: Request, folder: Path) -> dict:
    """Draws the daily high of some stocks."""
    data = all_prices(request)
    names = shown_symbols(request, data.symbols, 2)
    chosen = select_symbols(data, names)
    series = {name: (chosen.dates, values[:, HIGH].numpy()) for name, values in zip(names, chosen.values, strict=True)}
    plots.curves(folder / "prices.png", series, "date", "daily high (USD)")
    return {"data": data.metadata["data"], **{f"{name}_last_high": float(y[-1]) for name, (_, y) in series.items()}}


def reconstruct(request: Request, folder: Path) -> dict:
    """Trains and tests on windows of highs, by folds if asked for; draws three stocks in dollars and the losses."""
    folds = request.folds > 1
    train, test = (cross_validate, test_folds) if folds else (train_reconstruction, test_reconstruction)
    metrics = grid_search.fit(request, folder, train, test)
    plot_loss(folder)
    plot_stocks(dataclasses.replace(request.single(), fold=0 if folds else None), folder)
    return metrics


def plot_loss(folder: Path) -> None:
    series = tables.read_curves(folder, "loss")
    plots.curves(folder / "loss.png", series, "epoch", "mean squared error", log=True, dashed=["training"])


def plot_stocks(settings: PriceSettings, folder: Path) -> None:
    """The test windows of three stocks one after another, in dollars, against dates."""
    data = load(settings)
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(settings.device)
    dates = data.dates[part_dates(len(data.dates), settings, "test")[0]]
    rows = {}
    for name in shown_symbols(settings, data.symbols, 3):
        one = data._replace(symbols=[name], values=data.values[[data.symbols.index(name)]])
        dollars = part_windows(one, settings, "test")
        restored = reconstruct_dollars(model, dollars, settings.device)
        time = dates[: dollars.numel()]
        rows[name] = {"daily high": (time, dollars.flatten()), "reconstruction": (time, restored.flatten())}
    plots.panels(folder / "stocks.png", rows, "date", "USD", dashed=["reconstruction"])


def predict(request: Request, folder: Path) -> dict:
    """Trains reconstruction and prediction at once; draws losses and predictions; writes tomorrow.csv."""
    data = load(request)
    if request.inputs == "ohlcv" and data.metadata.get("fields") == 1:
        raise UsageError(f"--inputs: expected high, since {request.data} has one number per date")
    metrics = grid_search.fit(request, folder, train_prediction, test_prediction)
    settings = dataclasses.replace(request.single(), **metrics.get("best_combination", {}))
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(settings.device)
    plot_losses(settings, folder)
    plot_predictions(settings, model, folder)
    plot_companies(settings, model, folder)
    if settings.inputs == "high":
        plot_rollout(settings, model, folder)
    write_tomorrow(model, data, data.values[:, split_dates(len(data.dates))["train"]], settings, folder)
    if not request.quiet:
        print_mase_table(metrics)
    return metrics


def plot_losses(settings: PriceSettings, folder: Path) -> None:
    """Reconstruction and prediction loss against epochs, each by itself, and with their weights beside their sum."""
    prediction = "prediction: absolute error\nover mean daily change"
    if settings.predict_every_step:
        prediction = "prediction: mean squared error"
    labels = {"mse": "reconstruction: mean squared error", "prediction": prediction}
    for key, ylabel in labels.items():
        curves = tables.read_curves(folder, key)
        plots.curves(folder / f"{key}_loss.png", curves, "epoch", ylabel, dashed=["training"])
    share = settings.reconstruction_dominance
    parts = {f"{share:g} x reconstruction": ("mse", share), f"{1 - share:g} x prediction": ("prediction", 1 - share)}
    series = {
        (name, label): (epochs, [weight * value for value in values])
        for name, (key, weight) in {**parts, "sum": ("loss", 1)}.items()
        for label, (epochs, values) in tables.read_curves(folder, key).items()
        if weight
    }
    dashed = [name for name in series if name[-1] == "training"]
    plots.curves(folder / "losses.png", series, "epoch", "loss", log=True, dashed=dashed)


def plot_predictions(settings: PriceSettings, model: nn.Module, folder: Path) -> None:
    """The last 60 test days of three stocks: the high, what was predicted the day before, and persistence."""
    data = load(settings)
    test = part_samples(data, settings, "test")
    predicted = predict_highs(model, test, settings.device).view(-1, test.days)
    last = test.last.view(-1, test.days)
    days = min(60, test.days)
    rows = {}
    for name in shown_symbols(settings, data.symbols, 3):
        i = data.symbols.index(name)
        dates = data.dates[-days:]
        rows[name] = {
            "daily high": (dates, data.values[i, -days:, HIGH]),
            "predicted the day before": (dates, predicted[i, -days:]),
            "persistence": (dates, last[i, -days:]),
        }
    plots.panels(folder / "predictions.png", rows, "date", "USD", dashed=["predicted the day before", "persistence"])


def plot_companies(settings: PriceSettings, model: nn.Module, folder: Path, count: int = 20) -> None:
    """The last test day of 20 companies, evenly spaced in the alphabet: the change of the high, predicted and true."""
    data = load(settings)
    test = part_samples(data, settings, "test")
    changes = {
        "true": test.last + (test.targets[:, -1] - 0.5).double() * test.dollars,
        "predicted the day before": predict_highs(model, test, settings.device),
    }
    chosen = np.linspace(0, len(data.symbols) - 1, min(count, len(data.symbols))).round().astype(int)
    percent = {
        name: (100 * (highs / test.last - 1)).view(-1, test.days)[chosen, -1].numpy() for name, highs in changes.items()
    }
    ylabel = f"change of the high on {data.dates[-1]} (%)"
    plots.dots(folder / "companies.png", [data.symbols[i] for i in chosen], percent, ylabel, {"persistence": 0.0})


def plot_rollout(settings: PriceSettings, model: nn.Module, folder: Path) -> None:
    """The last days of one stock, twice the window: the second half predicted from the first, day after day."""
    data, days = load(settings), settings.window
    name = shown_symbols(settings, data.symbols, 1)[0]
    values, dates = data.values[[data.symbols.index(name)]], data.dates[-2 * days :]
    train = values[:, split_dates(len(data.dates))["train"]]
    first = values[:, -2 * days : -days]
    predicted = roll_out(model, first, train, days, settings.device)
    last = first[0, -1, HIGH].expand(days)
    series = {
        name: (dates, values[0, -2 * days :, HIGH]),
        "predicted from the first half": (dates[days:], predicted),
        "persistence": (dates[days:], last),
    }
    plots.curves(folder / "rollout.png", series, "date", "daily high (USD)", dashed=list(series)[1:])


def print_mase_table(metrics: dict) -> None:
    print(f"{'model':34s} {'MASE':>6s}  95 % interval")
    print(f"{'persistence':34s} {1:6.3f}")
    print(f"{'linear, per stock':34s} {metrics['linear_mase']:6.3f}")
    interval = f"{metrics['mase_low']:.3f} .. {metrics['mase_high']:.3f}"
    print(f"{'LSTM autoencoder, ' + metrics['inputs']:34s} {metrics['mase']:6.3f}  {interval}")


# ---- functions that apply a trained model ----------------------------------------------------------------------------


def windows_to_judge(request: Request, trained: PriceSettings) -> tuple[Tensor, list[str]]:
    """Windows (N, T) of highs, in the file's unit, that do not overlap, each named by its symbol and its first date.

    Those of `--data`, the newest day included, or else those of the test part of the training's data.
    """
    data, length = load(request if request.data is not None else trained), trained.window
    dates = slice(len(data.dates) % length, len(data.dates))
    if request.data is None:
        dates = part_dates(len(data.dates), trained, "test")[0]
    x = high_windows(data.values, [dates], length, length)
    first = data.dates[dates][: len(data.dates[dates]) - length + 1 : length]
    return x, [f"{symbol} {date}" for symbol in data.symbols for date in first]


def encode(request: Request, folder: Path) -> dict:
    """Writes the codes of windows to codes.csv."""
    model, settings, path = trained_model(request, "reconstruct", "window", LSTMAutoencoder)
    dollars, names = windows_to_judge(request, settings)
    codes = in_batches(model.encode, as_steps(scaled(dollars), settings.input_size), settings.device)
    write_codes(folder / "codes.csv", names, codes)
    return {"model": str(path), "windows": len(names), "code_size": model.code_size}


def anomalies(request: Request, folder: Path) -> dict:
    """Ranks windows by reconstruction error in anomalies.csv; draws the worst; tests with planted anomalies."""
    model, settings, path = trained_model(request, "reconstruct", "window", LSTMAutoencoder)
    data = load(settings)
    train, validation, test = (scaled(part_windows(data, settings, part)) for part in PARTS)
    dollars, names = windows_to_judge(request, settings)
    x, offset, scale = scale_sequences(dollars)
    rows, restored, metrics = judge(
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
    in_dollars = unscale_sequences(restored.double(), offset, scale)
    plot_worst(rows, dict(zip(names, zip(dollars, in_dollars, strict=True), strict=True)), folder)
    return {"model": str(path), "windows": len(rows), **metrics}


def plot_worst(rows: list[dict], windows: dict[str, tuple[Tensor, Tensor]], folder: Path) -> None:
    """The windows with the largest errors and their reconstructions."""
    panels = {}
    for row in rows[:4]:
        original, estimate = windows[row["sequence"]]
        days = np.arange(len(original))
        title = f"{row['sequence']}: scaled error {row['error']:.2g}"
        panels[title] = {"daily high": (days, original), "reconstruction": (days, estimate)}
    plots.panels(folder / "worst.png", panels, "trading day of the window", "USD", dashed=["reconstruction"])


def tomorrow(request: Request, folder: Path) -> dict:
    """Writes the next day's high of each stock to tomorrow.csv."""
    model, settings, path = trained_model(request, "predict", "predict_every_step", LSTMAutoencoder)
    if request.data is None:
        data = load(settings)
        known = data.values[:, split_dates(len(data.dates))["train"]]
    else:  # other stocks, perhaps, than those of the training: each one's own past gives its scale
        data = load(request)
        known = data.values
    if settings.inputs == "ohlcv" and data.metadata.get("fields") == 1:
        raise DataError(
            f"{request.data}: expected open, high, low, close and volume, which the model reads, found one number"
        )
    count = write_tomorrow(model, data, known, settings, folder)
    return {"model": str(path), "stocks": count, "newest_date": str(data.dates[-1])}


def write_tomorrow(model: nn.Module, data: StockPrices, known: Tensor, settings: PriceSettings, folder: Path) -> int:
    """Writes the high after the newest date per symbol to tomorrow.csv; the dates `known` (S, D, 5) give the scales."""
    newest = newest_samples(data.values, fit_scale(known), settings.window, settings.inputs)
    predicted = predict_highs(model, newest, settings.device)
    rows = [
        {"symbol": s, "date": d, "high": h, "next_high": p, "change_percent": 100 * (p / h - 1)}
        for s, d, h, p in zip(
            data.symbols, [str(data.dates[-1])] * len(predicted), newest.last.tolist(), predicted.tolist(), strict=True
        )
    ]
    tables.write_csv(folder / "tomorrow.csv", rows)
    return len(rows)


FUNCTIONS = {
    "plot_prices": plot_prices,
    "reconstruct": reconstruct,
    "predict": predict,
    "encode": encode,
    "anomalies": anomalies,
    "tomorrow": tomorrow,
}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
