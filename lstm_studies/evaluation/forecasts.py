"""Forecasts of the next day's high: their relative MAE, and the simple models that a network has to beat.

The relative MAE is the mean absolute error over that of persistence, which says that tomorrow's high is today's, on the
same stocks and days; its key in files is `mase`. What Hyndman and Koehler 2006 call MASE divides by the error of
persistence on the training dates instead.

Letters in shapes: S stocks, D days, N = S * D windows of T days, F values per day, K weights.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstm_studies.evaluation.comparison import OURS

DAYS = (1, 2, 3, 5, 10)  # how many of the last days a line may read
BLOCK = 5  # days that may depend on one another
Samples = Any  # of loaders.windows, which a module of this folder does not import
Means = Callable[[Tensor, Sequence[int]], Tensor]  # of (N, T, F) over the last days, of several numbers, (N, K)


def absolute_errors(predicted: Tensor | float, own: Samples) -> Tensor:
    """Of the next day's highs on the scale of the samples, (N,) or one number, in the data's unit: (N,)."""
    return (predicted - own.targets[:, -1]).double().abs() * own.span


def scores(predicted: Tensor, own: Samples, seed: int) -> dict[str, float]:
    """Relative MAE with its interval, and both errors in the data's unit."""
    errors, persistence = (absolute_errors(p, own).view(-1, own.days) for p in (predicted, 0.5))  # (S, D)
    low, high = mase_interval(errors.sum(0).numpy(), persistence.sum(0).numpy(), seed)
    means = {"test_mae": errors.mean().item(), "persistence_mae": persistence.mean().item()}
    return {"mase": means["test_mae"] / means["persistence_mae"], "mase_low": low, "mase_high": high, **means}


def mase_interval(
    errors: np.ndarray, persistence: np.ndarray, seed: int, block: int = BLOCK, draws: int = 2000
) -> tuple[float, float]:
    """95 % interval of sum(errors) / sum(persistence), both (days,), over all stocks of a day.

    The stocks of one day move together, and so do days near one another: whole blocks of `block` days are drawn, with
    replacement (moving-block bootstrap, Kuensch 1989).
    """
    days, block = len(errors), min(block, len(errors))
    starts = np.random.default_rng(seed).integers(0, days - block + 1, (draws, -(-days // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :days]
    ratios = errors[index].sum(1) / persistence[index].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


# ---- opponents -------------------------------------------------------------------------------------------------------


def errors_beside_opponents(
    ours: list[Tensor],
    train: Samples,
    validation: Samples,
    test: Samples,
    means: Means,
    spans: Sequence[int],
    seed: int,
) -> tuple[dict[str, dict], dict[str, Tensor], Tensor]:
    """The opponents' metrics, all errors over the mean one of persistence, and the block of days of each window.

    ours: what trainings predict of the test part, (N,) each.
    """
    predicted, rows = {OURS: ours}, {}
    for name, row, own in opponents(train, validation, test, means, spans):
        rows[name], predicted[name] = {**row, **scores(own, test, seed)}, [own]
    unit = absolute_errors(0.5, test).mean()
    errors = {name: torch.stack([absolute_errors(p, test) / unit for p in own]) for name, own in predicted.items()}
    return rows, errors, (torch.arange(test.days) // BLOCK).repeat(len(test.unit) // test.days)


def opponents(
    train: Samples, validation: Samples, test: Samples, means: Means, spans: Sequence[int]
) -> Iterator[tuple[str, dict, Tensor]]:
    """Pooled models by name: what they are and their validation loss, and what they predict of the test part, (N,).

    line_1_day, line_3_days: least absolute deviations on open, high, low and close of the last days, or on the highs if
    the samples have no more. line_n_days: the one of DAYS with the least validation loss. line: the `means` of all
    inputs over `spans`. boosting: gradient-boosted trees on absolute errors; validation data choose their number, and
    the inputs from those of line_3_days and of line.
    """

    def inputs(own: Samples, days: int | None) -> Tensor:
        """Means over 1, 2, ..., n days are as good to a line as the n days themselves."""
        return means(own.x - 0.5, spans) if days is None else means(own.prices(), range(1, days + 1))

    def line(days: int | None) -> tuple[dict, Tensor]:
        began = time.perf_counter()
        weights, intercept = fit_line(inputs(train, days), train)
        on_validation, on_test = (0.5 + intercept + inputs(own, days) @ weights for own in (validation, test))
        count = 1 + int((weights.abs() > 1e-9).sum())  # today's high, to which the prices are relative, has none
        return described(on_validation, validation, began, weights=count), on_test

    lines = {days: line(min(days, train.x.shape[1])) for days in DAYS}
    chosen = min(lines, key=lambda days: lines[days][0]["val_prediction_loss"])
    yield "line_1_day", *lines[1]
    yield "line_3_days", *lines[3]
    yield "line_n_days", {"days": chosen, **lines[chosen][0]}, lines[chosen][1]
    yield "line", *line(None)
    boosted = []
    for days in (3, None):
        began = time.perf_counter()
        trees, *predicted = boost(*((inputs(own, days), own) for own in (train, validation, test)))
        boosted.append((described(predicted[0], validation, began, trees=trees), predicted[1]))
    yield "boosting", *min(boosted, key=lambda one: one[0]["val_prediction_loss"])


def described(predicted: Tensor, validation: Samples, began: float, **more: int) -> dict:
    loss = ((predicted - validation.targets[:, -1]).abs() / validation.unit).mean().item()
    return {"seconds": round(time.perf_counter() - began, 1), **more, "val_prediction_loss": loss}


def fit_line(x: Tensor, own: Samples, iterations: int = 50) -> tuple[Tensor, float]:
    """Weights (K,) and intercept that minimise the mean of |x w + b - (y - 1/2)| / unit over inputs x (N, K).

    Least absolute deviations, by iteratively reweighted least squares (Schlossmacher 1973). The linear program of
    scikit-learn's QuantileRegressor has the same solution; for 12 weights and 280,000 windows it takes 50 s and 2 GB,
    and this .6 s.
    """
    unit = own.unit.double()
    rows = torch.cat([x.double(), torch.ones_like(unit)[:, None]], 1) / unit[:, None]
    y = (own.targets[:, -1] - 0.5).double() / unit
    importance, weights = torch.ones_like(y), None
    for _ in range(iterations):
        weighted = (rows * importance[:, None]).T  # (K + 1, N)
        before, weights = weights, torch.linalg.lstsq(weighted @ rows, weighted @ y, driver="gelsd").solution
        if before is not None and (weights - before).abs().max() < 1e-5:
            break
        importance = 1 / (rows @ weights - y).abs().clamp_min(1e-3)
    return weights[:-1].float(), weights[-1].item()


def boost(*parts: tuple[Tensor, Samples], largest: int = 300) -> tuple[int, Tensor, Tensor]:
    """The number of trees, and the forecasts (N,) of validation and test part; parts: inputs (N, K) and samples."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes 0.4 s

    x, y = zip(
        *((x / own.unit[:, None], (own.targets[:, -1] - 0.5) / own.unit) for x, own in parts), strict=True
    )  # in units of the stock's mean absolute change
    trees = HistGradientBoostingRegressor(
        loss="absolute_error",
        max_iter=largest,
        max_leaf_nodes=15,
        min_samples_leaf=200,
        early_stopping=False,
        random_state=0,  # of the samples that give the bins, past 200,000 of them
    ).fit(x[0].numpy(), y[0].numpy())
    losses = [np.abs(predicted - y[1].numpy()).mean() for predicted in trees.staged_predict(x[1].numpy())]
    count = int(np.argmin(losses)) + 1
    predicted = []
    for inputs, (_, own) in zip(x[1:], parts[1:], strict=True):
        staged = trees.staged_predict(inputs.numpy())
        after = next(p for number, p in enumerate(staged, 1) if number == count)
        predicted.append(0.5 + torch.from_numpy(after).float() * own.unit)
    return count, *predicted


def errors_by_step(predicted: Tensor, own: Samples) -> dict[str, float]:
    """Squared errors of every day's next high (N, T) where the window holds it and where it does not; persistence's."""
    errors = (predicted - own.targets).square().mean(0)  # (T,)
    return {
        "known_next_days_mse": errors[:-1].mean().item(),
        "last_next_day_mse": errors[-1].item(),
        "persistence_mse": (own.targets[:, -1] - 0.5).square().mean().item(),  # 1/2 is the window's last high
    }


def linear_mase(highs: Tensor, closes: Tensor | None, dates: dict[str, slice], window: int) -> float:
    """Relative MAE of a least-squares line per stock, fitted on training dates, for the next change of the high.

    highs, closes (S, dates). A line sees the last change and, with closes, close - high. It predicts the days after all
    windows of the test part.
    """
    inputs, changes = [], []
    for days in (dates["train"], slice(dates["test"].start + window - 2, dates["test"].stop)):
        of_part = highs[:, days]
        columns = [torch.ones_like(of_part[:, 2:]), of_part[:, 1:-1] - of_part[:, :-2]]
        if closes is not None:
            columns.append(closes[:, days][:, 1:-1] - of_part[:, 1:-1])
        inputs.append(torch.stack(columns, 2))  # (S, days, columns)
        changes.append(of_part[:, 2:] - of_part[:, 1:-1])  # (S, days)
    weights = torch.linalg.lstsq(inputs[0], changes[0].unsqueeze(2)).solution
    errors = (inputs[1] @ weights).squeeze(2) - changes[1]
    return (errors.abs().mean() / changes[1].abs().mean()).item()
