"""LSTM autoencoder on S&P 500 prices, with next-day prediction.

    python lstm_ae_snp500.py --function plot_prices --symbols AMZN GOOGL
    python lstm_ae_snp500.py --function reconstruct                  # test windows of three stocks, in dollars
    python lstm_ae_snp500.py --function reconstruct --folds 5        # every block of time is test data once
    python lstm_ae_snp500.py --function predict --inputs ohlcv       # MASE about .80; persistence is 1
    python lstm_ae_snp500.py --function predict --inputs high        # MASE just below 1: highs hold almost nothing

Splits are by date: the first 60 % train, the next 20 % validate, the last 20 % test. No window crosses a boundary, and
what is fitted (the scale of a stock) is fitted on training dates. Only stocks with a price on every date take part.

Deviations from the studies it follows:
1. They scale each stock by its minimum and maximum over all dates, the test dates included; here nothing is fitted on
   those.
2. They count the prediction loss at every step. Up to the last step the "next" day is in the input, and predicting it
   is reconstruction; here only the day after the window counts.
3. They show the curves alone. A curve that copies yesterday's price looks perfect, so here persistence (tomorrow's high
   is today's) stands beside each number: MASE = mean absolute error / that of persistence.
"""

import argparse
import itertools
import statistics
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss
from torch.utils.data import TensorDataset

from evaluation.baselines import reconstruction_baselines
from loaders.files import DataError
from loaders.prices import StockPrices, complete_symbols, select_symbols, stock_prices
from loaders.toy import scale_sequences, unscale_sequences
from models.lstm_ae import LSTMAutoencoder, harmonic_periods
from reporting import plots
from training import checkpoint, grid_search, loop, tables
from training import flags as command_line
from training.run import run_script

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
INPUTS = {"high": range(HIGH, HIGH + 1), "ohlcv": range(OPEN, VOLUME + 1)}
RANGE = 30.0  # daily standard deviations of a stock that [0, 1] spans: three times what 20 days of a random walk need
PARTS = ("train", "validation", "test")
SHOWN = ("AMZN", "GOOGL", "GOOG", "AAPL")  # stocks to draw by default, as far as the data have them


# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def prices(data_dir: Path, source: str) -> StockPrices:
    return stock_prices(data_dir, source)


def load(flags: argparse.Namespace) -> StockPrices:
    """The stocks that have every price on every date; `--symbols` are checked against all names."""
    data = prices(flags.data_dir, flags.source)
    if flags.symbols:
        select_symbols(data, flags.symbols)
    return select_symbols(data, complete_symbols(data))


def shown_symbols(flags: argparse.Namespace, available: list[str], count: int) -> list[str]:
    """`--symbols`, or the first few of SHOWN that the data have, filled up in the order of the data."""
    if not flags.symbols:
        return [*dict.fromkeys([s for s in SHOWN if s in available] + available)][:count]
    missing = [s for s in flags.symbols if s not in available]
    if missing:
        raise DataError(f"--symbols: expected stocks with a price on every date, found {', '.join(missing)}")
    return flags.symbols


def split_dates(count: int) -> dict[str, slice]:
    """The dates of each part: 60 %, 20 % and 20 % of `count`, in this order."""
    first, second = count * 3 // 5, count * 4 // 5
    return {"train": slice(0, first), "validation": slice(first, second), "test": slice(second, count)}


def fold_dates(count: int, folds: int, fold: int) -> dict[str, list[slice]]:
    """Contiguous blocks of time: block `fold` is for testing, the next one for validation, all others for training."""
    edges = [count * k // folds for k in range(folds + 1)]
    blocks = [slice(a, b) for a, b in itertools.pairwise(edges)]
    held = {fold, (fold + 1) % folds}
    train = [block for k, block in enumerate(blocks) if k not in held]
    return {"train": train, "validation": [blocks[(fold + 1) % folds]], "test": [blocks[fold]]}


def part_dates(data: StockPrices, flags: argparse.Namespace, part: str) -> list[slice]:
    """The blocks of dates of a part, by the 60/20/20 split or by the fold."""
    if flags.fold is None:
        return [split_dates(len(data.dates))[part]]
    return fold_dates(len(data.dates), flags.folds, flags.fold)[part]


def windows(values: Tensor, length: int, stride: int) -> Tensor:
    """All windows of `length` dates in values (S, D, F): (S, N, length, F), N = (D - length) // stride + 1."""
    if values.shape[1] < length:
        raise DataError(f"--window: expected at most {values.shape[1]} days, the dates of a part, needed {length}")
    return values.unfold(1, length, stride).transpose(2, 3)


# ---- reconstruction --------------------------------------------------------------------------------------------------


def high_windows(data: StockPrices, flags: argparse.Namespace, part: str) -> Tensor:
    """Windows of daily highs in dollars, (N, window). Those of the test part do not overlap."""
    highs = data.values[:, :, HIGH : HIGH + 1]
    blocks = part_dates(data, flags, part)
    stride = flags.window if part == "test" else flags.stride
    return torch.cat([windows(highs[:, block], flags.window, stride).flatten(0, 1) for block in blocks]).squeeze(2)


def as_steps(x: Tensor, input_size: int) -> Tensor:
    """Windows (N, T) of days to (N, T / I, I), I days per step."""
    return x.unflatten(1, (-1, input_size))


def scaled_windows(data: StockPrices, flags: argparse.Namespace, part: str) -> Tensor:
    """Each window around 1/2 in [0, 1] by its own mean and range, (N, steps, days per step); nothing is fitted."""
    return as_steps(scale_sequences(high_windows(data, flags, part))[0].float(), flags.input_size)


def reconstruction_step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
    (x,) = batch
    return {"loss": mse_loss(model(x).reconstruction.float(), x)}


def train_reconstruction(flags: argparse.Namespace, folder: Path) -> loop.Result:
    data = load(flags)
    steps = flags.window // flags.input_size
    model = LSTMAutoencoder(
        flags.input_size,
        flags.hidden_size,
        flags.code_size or None,
        flags.num_layers,
        encoding_periods=harmonic_periods(steps, flags.clock_harmonics),
    )
    training = TensorDataset(scaled_windows(data, flags, "train")[: flags.limit])
    validation = TensorDataset(scaled_windows(data, flags, "validation"))
    return loop.train(model, reconstruction_step, training, validation, flags, folder)


def test_reconstruction(flags: argparse.Namespace, folder: Path) -> dict:
    data = load(flags)
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(flags.device)
    train, validation, test = (scaled_windows(data, flags, part) for part in PARTS)
    means = {
        f"{name}_mse": loop.evaluate(model, reconstruction_step, TensorDataset(x), flags)["loss"]
        for name, x in (("test", test), ("val", validation))
    }
    dollars = high_windows(data, flags, "test")
    restored = reconstruct_dollars(model, dollars, flags)
    return {
        "data": data.facts["data"],
        "stocks": len(data.symbols),
        "code_size": model.code_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        **means,
        "test_mae_percent": 100 * ((restored - dollars).abs() / dollars).mean().item(),
        **reconstruction_baselines(train, test, model.code_size),
    }


@torch.no_grad()
def reconstruct_dollars(model: nn.Module, dollars: Tensor, flags: argparse.Namespace) -> Tensor:
    """Windows (N, T) in dollars through the autoencoder and back to dollars, with each window's own scale."""
    scaled, offset, scale = scale_sequences(dollars)
    steps = as_steps(scaled.float(), model.arguments["input_size"])
    restored = torch.cat([model(x.to(flags.device)).reconstruction.cpu() for x in steps.split(1000)])
    return unscale_sequences(restored.flatten(1).double(), offset, scale)


# ---- prediction ------------------------------------------------------------------------------------------------------


class Samples(NamedTuple):
    """Windows of one part of the dates, stock by stock, day by day: N = stocks * days."""

    x: Tensor  # (N, T, features), 1/2 is the last known high
    target: Tensor  # (N,), the next day's high on the same scale
    unit: Tensor  # (N,), mean absolute daily change of the stock's high on training dates, on the same scale
    last: Tensor  # (N,), the last known high in dollars
    dollars: Tensor  # (N,), dollars per unit of the scale
    days: int  # predicted days per stock


def samples(data: StockPrices, flags: argparse.Namespace, part: str) -> Samples:
    """Windows of `--window` days and the day after, all within `part`.

    Prices are relative to the window's last high, in units of the stock's daily standard deviation on training dates:
    x = 1/2 + (p / high_T - 1) / (RANGE sigma). Volume is its logarithm, standardised on training dates, over RANGE / 4.
    """
    dates = split_dates(len(data.dates))
    change = daily_changes(data.values[:, dates["train"], HIGH])
    sigma = change.std(1)[:, None, None, None].clamp_min(1e-6)  # (S, 1, 1, 1)
    log_volume = torch.log1p(data.values[:, :, VOLUME : VOLUME + 1])  # (S, D, 1)
    known = log_volume[:, dates["train"]]
    volume = (log_volume - known.mean(1, keepdim=True)) / (RANGE / 4 * known.std(1, keepdim=True).clamp_min(1e-6)) + 0.5
    both, volume = (windows(v[:, dates[part]], flags.window + 1, 1) for v in (data.values, volume))
    last = both[:, :, -2:-1, HIGH : HIGH + 1]  # (S, days, 1, 1), both (S, days, T + 1, 5)
    columns = INPUTS[flags.inputs]
    x = torch.empty(*both.shape[:2], flags.window, len(columns))  # (S, days, T, features)
    target = torch.empty(both.shape[:2])
    for stock in range(len(both)):  # one at a time: all of them at once would be half a gigabyte
        scaled = (both[stock] / last[stock] - 1) / (RANGE * sigma[stock]) + 0.5
        scaled[..., VOLUME:] = volume[stock]
        x[stock], target[stock] = scaled[:, :-1, columns.start : columns.stop], scaled[:, -1, HIGH]
    unit = (change.abs().mean(1)[:, None, None, None] / (RANGE * sigma)).expand_as(last).flatten()
    dollars = (last * RANGE * sigma).flatten()
    unit = unit.float().clamp_min(1e-6)
    return Samples(x.flatten(0, 1), target.flatten(), unit, last.flatten(), dollars, both.shape[1])


def daily_changes(highs: Tensor) -> Tensor:
    """Relative changes of (S, D) from one day to the next, (S, D - 1)."""
    return highs[:, 1:] / highs[:, :-1] - 1


def make_prediction_step(flags: argparse.Namespace) -> loop.Step:
    """Loss: d * squared error + (1 - d) * absolute error of the next day's high over that of persistence."""
    dominance = flags.reconstruction_dominance

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        x, target, unit = batch
        output = model(x)
        mse = mse_loss(output.reconstruction.float(), x)
        predicted = output.prediction[:, -1, 0].float()
        prediction = l1_loss(predicted / unit, target / unit)
        return {"loss": dominance * mse + (1 - dominance) * prediction, "mse": mse, "prediction": prediction}

    return step


def train_prediction(flags: argparse.Namespace, folder: Path) -> loop.Result:
    data = load(flags)
    features = len(INPUTS[flags.inputs])
    model = LSTMAutoencoder(
        features, flags.hidden_size, flags.code_size or None, flags.num_layers, prediction_size=1, input_std=0.1
    )
    sets = []
    for part, limit in (("train", flags.limit), ("validation", None)):
        found = samples(data, flags, part)
        sets.append(TensorDataset(found.x[:limit], found.target[:limit], found.unit[:limit]))
    return loop.train(model, make_prediction_step(flags), *sets, flags, folder, monitor="prediction")


def test_prediction(flags: argparse.Namespace, folder: Path) -> dict:
    """MASE with its interval, the errors behind it in dollars, and the linear models beside it."""
    data = load(flags)
    found = samples(data, flags, "test")
    predicted = predict_highs(flags, folder, found)
    actual = found.last + (found.target - 0.5).double() * found.dollars
    errors = (predicted - actual).abs().view(-1, found.days)  # (stocks, days), dollars
    persistence = (found.last - actual).abs().view(-1, found.days)
    low, high = mase_interval(errors.sum(0).numpy(), persistence.sum(0).numpy(), flags.seed)
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder)
    step, parts = make_prediction_step(flags), {}
    for part, s in (("test", found), ("validation", samples(data, flags, "validation"))):
        parts[part] = loop.evaluate(model.to(flags.device), step, TensorDataset(s.x, s.target, s.unit), flags)
    return {
        "data": data.facts["data"],
        "inputs": flags.inputs,
        "stocks": len(data.symbols),
        "test_days": found.days,
        "parameters": sum(p.numel() for p in model.parameters()),
        "mase": (errors.mean() / persistence.mean()).item(),
        "mase_low": low,
        "mase_high": high,
        "linear_mase": linear_mase(data, flags),
        "test_mae": errors.mean().item(),
        "persistence_mae": persistence.mean().item(),
        "test_mse": parts["test"]["mse"],
        "val_mse": parts["validation"]["mse"],
        "val_scaled_mae": parts["validation"]["prediction"],
    }


@torch.no_grad()
def predict_highs(flags: argparse.Namespace, folder: Path, found: Samples) -> Tensor:
    """The next day's high in dollars, (N,)."""
    model = checkpoint.rebuild(folder / "best.pt", LSTMAutoencoder).to(flags.device)
    scaled = torch.cat([model(x.to(flags.device)).prediction[:, -1, 0].cpu() for x in found.x.split(2000)])
    return found.last + (scaled - 0.5).double() * found.dollars


def mase_interval(errors: np.ndarray, persistence: np.ndarray, seed: int, block: int = 5, draws: int = 2000):
    """95 % interval of sum(errors) / sum(persistence), both (days,), over all stocks of a day.

    The stocks of one day move together, and so do days near one another: whole blocks of `block` days are drawn, with
    replacement (moving-block bootstrap, Kuensch 1989).
    """
    days, block = len(errors), min(block, len(errors))
    starts = np.random.default_rng(seed).integers(0, days - block + 1, (draws, -(-days // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :days]
    ratios = errors[index].sum(1) / persistence[index].sum(1)
    return tuple(float(q) for q in np.quantile(ratios, [0.025, 0.975]))


def linear_mase(data: StockPrices, flags: argparse.Namespace) -> float:
    """MASE of a least-squares line per stock, fitted on training dates: the high's next change from its last one and,
    with all inputs, from close - high.
    """
    dates = split_dates(len(data.dates))
    first = {"train": 0, "test": flags.window - 2}  # the test days are those that the windows leave to predict
    x, y = {}, {}
    for part, start in first.items():
        values = data.values[:, dates[part]][:, start:]
        high, close = values[..., HIGH], values[..., CLOSE]
        columns = [torch.ones_like(high[:, 2:]), high[:, 1:-1] - high[:, :-2]]
        if flags.inputs == "ohlcv":
            columns.append(close[:, 1:-1] - high[:, 1:-1])
        x[part], y[part] = torch.stack(columns, 2), high[:, 2:] - high[:, 1:-1]  # (S, days, columns), (S, days)
    weights = torch.linalg.lstsq(x["train"], y["train"].unsqueeze(2)).solution
    errors = (x["test"] @ weights).squeeze(2) - y["test"]
    return (errors.abs().mean() / y["test"].abs().mean()).item()


# ---- functions -------------------------------------------------------------------------------------------------------


def plot_prices(flags: argparse.Namespace, folder: Path) -> dict:
    """daily high of some stocks, AMZN and GOOGL by default, against time"""
    data = prices(flags.data_dir, flags.source)
    names = flags.symbols or shown_symbols(flags, data.symbols, 2)
    chosen = select_symbols(data, names)
    series = {name: (chosen.dates, values[:, HIGH].numpy()) for name, values in zip(names, chosen.values, strict=True)}
    plots.curves(folder / "prices.png", series, "date", "daily high (USD)")
    return {"data": data.facts["data"], **{f"{name}_last_high": float(y[-1]) for name, (_, y) in series.items()}}


def reconstruct(flags: argparse.Namespace, folder: Path) -> dict:
    """train on windows of highs; three stocks with their reconstruction in dollars; --folds for K-fold"""
    if flags.folds > 1:
        runs = {f"fold{k}": grid_search.with_values(flags, fold=k) for k in range(flags.folds)}
        folds = grid_search.fit_many(runs, folder, train_reconstruction, test_reconstruction)
        metrics: dict = dict(folds)
        for key in ("test_mse", "pca_mse", "mean_mse", "test_mae_percent"):
            values = [fold[key] for fold in folds.values()]
            metrics |= {f"{key}_mean": statistics.mean(values), f"{key}_std": statistics.stdev(values)}
        plot_loss(folder / "fold0", folder)
        plot_stocks(runs["fold0"], folder / "fold0", folder)
        return metrics
    flags = grid_search.with_values(flags, fold=None)
    metrics = grid_search.fit(flags, folder, train_reconstruction, test_reconstruction)
    plot_loss(folder, folder)
    plot_stocks(flags, folder, folder)
    return metrics


def plot_loss(trained: Path, folder: Path) -> None:
    series = tables.read_curves(trained, "loss")
    plots.curves(folder / "loss.png", series, "epoch", "mean squared error", log=True)


def plot_stocks(flags: argparse.Namespace, trained: Path, folder: Path) -> None:
    """The test windows of three stocks one after another, in dollars, against dates."""
    data = load(flags)
    model = checkpoint.rebuild(trained / "best.pt", LSTMAutoencoder).to(flags.device)
    names = shown_symbols(flags, data.symbols, 3)
    test = part_dates(data, flags, "test")[0]
    rows = {}
    for name in names:
        one = data._replace(symbols=[name], values=data.values[[data.symbols.index(name)]])
        dollars = high_windows(one, flags, "test")
        restored = reconstruct_dollars(model, dollars, flags)
        dates = data.dates[test][: dollars.numel()]
        rows[name] = {"daily high": (dates, dollars.flatten()), "reconstruction": (dates, restored.flatten())}
    plots.panels(folder / "stocks.png", rows, "date", "USD", dashed=["reconstruction"])


def predict(flags: argparse.Namespace, folder: Path) -> dict:
    """reconstruction and the next day's high; loss curves, predicted against actual, MASE against persistence"""
    flags = grid_search.with_values(flags, fold=None)
    metrics = grid_search.fit(flags, folder, train_prediction, test_prediction, ("reconstruction_dominance",))
    plot_losses(folder)
    plot_predictions(grid_search.single(flags, ("reconstruction_dominance",)), folder)
    if not flags.quiet:
        print_mase_table(metrics)
    return metrics


def plot_losses(folder: Path) -> None:
    """Training loss (the squared error of the reconstruction) and prediction loss against epochs."""
    for key, ylabel in (
        ("mse", "reconstruction: mean squared error"),
        ("prediction", "prediction: absolute error\nover mean daily change"),
    ):
        plots.curves(folder / f"{key}_loss.png", tables.read_curves(folder, key), "epoch", ylabel)


def plot_predictions(flags: argparse.Namespace, folder: Path) -> None:
    """The last 60 test days of three stocks: the high, what was predicted the day before, and persistence."""
    data = load(flags)
    found = samples(data, flags, "test")
    predicted = predict_highs(flags, folder, found).view(-1, found.days)
    last = found.last.view(-1, found.days)
    rows = {}
    for name in shown_symbols(flags, data.symbols, 3):
        i = data.symbols.index(name)
        dates = data.dates[-60:][-found.days :]
        n = len(dates)
        actual = data.values[i, -n:, HIGH]
        rows[name] = {
            "daily high": (dates, actual),
            "predicted the day before": (dates, predicted[i, -n:]),
            "persistence": (dates, last[i, -n:]),
        }
    plots.panels(folder / "predictions.png", rows, "date", "USD", dashed=["predicted the day before", "persistence"])


def print_mase_table(metrics: dict) -> None:
    print(f"{'model':34s} {'MASE':>6s}  95 % interval")
    print(f"{'persistence':34s} {1:6.3f}")
    print(f"{'linear, per stock':34s} {metrics['linear_mase']:6.3f}")
    interval = f"{metrics['mase_low']:.3f} .. {metrics['mase_high']:.3f}"
    print(f"{'LSTM autoencoder, ' + metrics['inputs']:34s} {metrics['mase']:6.3f}  {interval}")


FUNCTIONS = {"plot_prices": plot_prices, "reconstruct": reconstruct, "predict": predict}


def main(argv: list[str] | None = None) -> dict:
    parser, groups = command_line.make_parser(
        __doc__, FUNCTIONS, epochs=10, batch_size=256, learning_rate=[3e-3], hidden_size=[64]
    )
    add = groups["model"].add_argument
    add("--code_size", type=command_line.COUNT, default=0, help="values of the bottleneck; 0: the last hidden state")
    add("--input_size", type=command_line.POSITIVE_INT, default=10, help="reconstruct: days per step")
    add(
        "--clock_harmonics",
        type=command_line.COUNT,
        default=4,
        help="reconstruct: of the clock that the decoder sees beside the code; 0: no clock",
    )
    add("--inputs", choices=tuple(INPUTS), default="ohlcv", help="predict: what the model sees of each day")
    add = groups["training"].add_argument
    add(
        "--reconstruction_dominance",
        type=command_line.FRACTION,
        nargs="+",
        default=[0.5],
        help="predict: weight d of the squared error beside 1 - d of the prediction; several: a grid",
    )
    add("--folds", type=command_line.POSITIVE_INT, default=1, help="reconstruct: blocks of time; 1: 60/20/20")
    add = groups["data"].add_argument
    add("--symbols", nargs="+", metavar="SYMBOL", help="stocks to draw; default: AMZN, GOOGL, ...")
    add("--window", type=command_line.number(int, 2), default=50, help="days per sequence")
    add("--stride", type=command_line.POSITIVE_INT, default=5, help="reconstruct: days between training windows")
    flags = command_line.parse(parser, argv)
    if flags.folds == 2:
        parser.error("argument --folds: expected 1, or at least 3 (test, validation and training blocks), found 2")
    if flags.window % flags.input_size:
        parser.error(f"argument --input_size: expected a divisor of --window {flags.window}, found {flags.input_size}")
    return run_script(flags, FUNCTIONS)


if __name__ == "__main__":
    main()
