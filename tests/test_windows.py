"""Windows of daily prices by hand, what must not leak into them, and the forecasts that stand beside a model."""

import numpy as np
import pytest
import torch
from conftest import fails

from lstm_studies.evaluation import forecasts
from lstm_studies.evaluation.forecasts import linear_mase, mase_interval
from lstm_studies.loaders import windows as price_windows
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.windows import (
    CLOSE,
    HIGH,
    RANGE,
    VOLUME,
    fit_scale,
    newest_samples,
    samples,
    split_dates,
    windows,
)
from lstm_studies.models.line_autoencoder import SPANS, span_means


def random_walk(stocks: int, days: int, seed: int = 0) -> torch.Tensor:
    """Values (stocks, days, 5): highs are geometric random walks of 1 % a day; the other columns follow from them."""
    rng = np.random.default_rng(seed)
    high = 100 * np.exp(0.01 * rng.standard_normal((stocks, days)).cumsum(1))
    volume = rng.uniform(1e5, 1e6, (stocks, days))
    return torch.from_numpy(np.stack([high, high, high, high, volume], 2))


def part_samples(values: torch.Tensor, part: str, length: int = 3, inputs: str = "high", **changes):
    dates = split_dates(values.shape[1])
    return samples(values[:, dates[part]], fit_scale(values[:, dates["train"]]), length, inputs, **changes)


def test_split_dates_by_hand():
    assert split_dates(10) == {"train": slice(0, 6), "validation": slice(6, 8), "test": slice(8, 10)}


def test_folds_cover_every_date_once_as_test_data():
    folds = [price_windows.fold_dates(11, 3, k) for k in range(3)]
    tested = sorted(d for fold in folds for block in fold["test"] for d in range(11)[block])
    assert tested == list(range(11))
    for fold in folds:
        dates = [d for blocks in fold.values() for block in blocks for d in range(11)[block]]
        assert sorted(dates) == list(range(11))  # the three parts do not overlap


def test_random_windows_are_dealt_by_their_first_day():
    """Every day is tested by one fold, for all stocks; a window of another part may have days in common."""
    values = torch.arange(2 * 20 * 5.0).view(2, 20, 5)
    tested = []
    for fold in range(3):
        parts = {part: price_windows.random_part(values, 4, 1, 3, fold, part) for part in price_windows.PARTS}
        firsts = {part: set(x[: len(x) // 2, 0].tolist()) for part, x in parts.items()}  # of the first stock
        assert sum(map(len, firsts.values())) == 17 == len(set.union(*firsts.values()))
        assert torch.equal(
            parts["test"][len(parts["test"]) // 2 :, 0] - 100, parts["test"][: len(parts["test"]) // 2, 0]
        )
        tested += sorted(firsts["test"])
        assert parts["train"].shape[1] == 4 and not set(parts["test"].flatten().tolist()).isdisjoint(
            parts["train"].flatten().tolist()
        )
    assert sorted(tested) == [5.0 * day + price_windows.HIGH for day in range(17)]


def test_windows_by_hand():
    values = torch.arange(10.0).view(2, 5, 1)
    assert windows(values, 3, 2).squeeze(3).tolist() == [[[0, 1, 2], [2, 3, 4]], [[5, 6, 7], [7, 8, 9]]]


def test_window_longer_than_a_part_is_an_error():
    with pytest.raises(DataError, match="--window: expected at most 5 days, the dates of a part, needed 6"):
        windows(torch.zeros(1, 5, 1), 6, 1)


def test_high_windows_stay_within_their_blocks():
    values = torch.arange(20.0).view(1, 20, 1).repeat(1, 1, 5)
    found = price_windows.high_windows(values, [slice(0, 7), slice(10, 15)], 3, 2)
    assert found.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [10, 11, 12], [12, 13, 14]]


def test_samples_stay_within_their_part_and_predict_the_day_after_each_step():
    values = random_walk(2, 50)
    test = part_samples(values, "test")  # test dates 40..49: windows 40-42 -> 43, ..., 46-48 -> 49
    assert test.days == 7 and test.x.shape == (14, 3, 1) and test.targets.shape == (14, 3)
    highs = values[:, :, HIGH]
    assert torch.equal(test.last.view(2, 7), highs[:, 42:49])
    next_highs = test.last[:, None] + (test.targets - 0.5).double() * test.span[:, None]
    for step in range(3):
        expected = highs[:, 41 + step : 48 + step]
        torch.testing.assert_close(next_highs[:, step].view(2, 7), expected, rtol=1e-5, atol=0)
    assert (test.x[:, -1, 0] == 0.5).all()  # the last known high is the centre
    assert torch.equal(test.targets[:, :-1], test.x[:, 1:, 0])  # up to the last step the next day is in the input


def test_stride_leaves_windows_out():
    values = random_walk(1, 50)
    every, third = part_samples(values, "train"), part_samples(values, "train", stride=3)
    assert torch.equal(third.x, every.x[::3]) and torch.equal(third.targets, every.targets[::3])


def test_scale_of_a_stock_is_the_daily_deviation_on_training_dates():
    values = random_walk(1, 50)
    highs = values[0, :30, HIGH]
    sigma = (highs[1:] / highs[:-1] - 1).std()
    validation = part_samples(values, "validation")
    torch.testing.assert_close(validation.span, validation.last * RANGE * sigma)


@pytest.mark.parametrize("part", price_windows.PARTS)
def test_samples_made_stock_by_stock_are_those_of_all_stocks_at_once(part):
    values = random_walk(3, 50)
    dates = split_dates(50)
    train, own = values[:, dates["train"]], values[:, dates[part]]
    both = windows(own, 5, 1)  # (S, days, T + 1, 5)
    last = both[:, :, 3:4, HIGH, None]
    sigma = (train[:, 1:, HIGH] / train[:, :-1, HIGH] - 1).std(1)[:, None, None, None]
    expected = (both / last - 1) / (RANGE * sigma) + 0.5
    volume = torch.log1p(train[:, :, VOLUME])
    mean, std = volume.mean(1)[:, None, None], volume.std(1)[:, None, None].clamp_min(1e-6)
    expected[..., VOLUME] = (torch.log1p(both[..., VOLUME]) - mean) / (RANGE / 4 * std) + 0.5
    all_inputs = part_samples(values, part, 4, "ohlcv")
    torch.testing.assert_close(all_inputs.x, expected[:, :, :4].flatten(0, 1).float(), rtol=0, atol=1e-7)
    torch.testing.assert_close(all_inputs.targets, expected[:, :, 1:, HIGH].flatten(0, 1).float(), rtol=0, atol=1e-7)
    assert torch.equal(all_inputs.span, (last * RANGE * sigma).flatten())
    high = part_samples(values, part, 4, "high")
    assert torch.equal(high.x[:, :, 0], all_inputs.x[:, :, HIGH]) and high.x.shape[2] == 1


@pytest.mark.parametrize("inputs", ["high", "ohlcv"])
def test_nothing_of_the_future_reaches_training_samples_or_scales(inputs):
    values = random_walk(2, 50)
    changed = values.clone()
    changed[:, 30:] *= 7  # validation and test dates
    both = (part_samples(v, "train", inputs=inputs) for v in (values, changed))
    for a, b in zip(*both, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    units = [part_samples(v, "test", inputs=inputs).unit for v in (values, changed)]
    assert torch.equal(*units)


def test_a_window_does_not_hold_its_last_target():
    values = random_walk(1, 50)
    changed = values.clone()
    changed[:, 49] *= 2  # the last date is a target only
    first, second = (part_samples(v, "test", inputs="ohlcv") for v in (values, changed))
    assert torch.equal(first.x, second.x) and not torch.equal(first.targets, second.targets)


def test_newest_window_is_that_of_the_last_days_without_a_target():
    values = random_walk(2, 50)
    scale = fit_scale(values[:, :30])
    newest, test = newest_samples(values, scale, 3, "ohlcv"), samples(values[:, 40:], scale, 3, "ohlcv")
    earlier = newest_samples(values[:, :-1], scale, 3, "ohlcv")
    assert torch.equal(earlier.x, test.x.view(2, 7, 3, 5)[:, -1])  # the window before the last date, which has a target
    assert torch.equal(newest.last, values[:, -1, HIGH]) and newest.targets[:, -1].isnan().all()
    assert newest.x.isfinite().all() and newest.days == 1


def test_highs_that_are_not_above_0_are_an_error():
    values = random_walk(2, 50)
    values[1, 10, HIGH] = -1
    with pytest.raises(DataError, match="expected highs above 0, whose relative changes are predicted, found -1"):
        fit_scale(values)
    with pytest.raises(DataError, match="expected highs above 0"):
        samples(values, fit_scale(values[:, 20:]), 3, "high")


# ---- forecasts -------------------------------------------------------------------------------------------------------


def test_mase_interval_holds_the_ratio_and_is_exact_for_equal_days():
    assert mase_interval(np.full(30, 2.0), np.full(30, 4.0), seed=0) == (0.5, 0.5)
    rng = np.random.default_rng(0)
    errors, persistence = rng.uniform(1, 2, 200), rng.uniform(1, 2, 200)
    low, high = mase_interval(errors, persistence, seed=0)
    assert low < errors.sum() / persistence.sum() < high and high - low < 0.2


def test_linear_model_finds_a_linear_rule():
    values = random_walk(3, 200)
    high = values[:, :, HIGH]
    values[:, :-1, CLOSE] = high[:, :-1] + (high[:, 1:] - high[:, :-1])  # close - high is the next change, exactly
    assert linear_mase(high, values[..., CLOSE], split_dates(200), 20) < 1e-6
    assert linear_mase(high, None, split_dates(200), 20) == pytest.approx(1, abs=0.1)


def test_relative_mae_of_persistence_is_1_and_of_the_truth_0():
    test = part_samples(random_walk(2, 60), "test")
    persistence = forecasts.scores(torch.full_like(test.unit, 0.5), test, seed=0)
    assert persistence["mase"] == persistence["mase_low"] == persistence["mase_high"] == 1
    changes = (test.last - (test.last + (test.targets[:, -1] - 0.5).double() * test.span)).abs()
    assert persistence["test_mae"] == pytest.approx(changes.mean().item(), rel=1e-6)
    assert forecasts.scores(test.targets[:, -1], test, seed=0)["mase"] == 0
    constant = random_walk(2, 60)
    constant[:, 48:] = constant[:, 48:49]
    fails(["expected highs that change", "found constants"], part_samples, constant, "test")


def test_line_has_the_least_absolute_deviations():
    """As the linear program of scikit-learn finds them, with weights 1 / unit of the windows."""
    from sklearn.linear_model import QuantileRegressor

    train = part_samples(random_walk(3, 80), "train")
    x = torch.randn(len(train.unit), 4, generator=torch.Generator().manual_seed(0)) / 100
    y = (
        x @ torch.tensor([1.0, -2, 0, 0.5])
        + 0.01 * torch.randn(len(x), generator=torch.Generator().manual_seed(1)) ** 3
    )
    train = train._replace(targets=0.5 + y[:, None])
    weights, intercept = forecasts.fit_line(x, train)
    program = QuantileRegressor(alpha=0).fit(x, y, sample_weight=1 / train.unit)

    def loss(w, b):
        return ((x @ torch.as_tensor(w, dtype=x.dtype) + b - y).abs() / train.unit).mean().item()

    assert loss(weights, intercept) == pytest.approx(loss(program.coef_, program.intercept_), rel=1e-4)


def test_opponents_find_a_rule_in_the_closes_and_nothing_in_walks():
    values = random_walk(6, 300)
    ruled = values.clone()
    ruled[:, :-1, CLOSE] = 2 * ruled[:, :-1, HIGH] - ruled[:, 1:, HIGH]  # close = high - the next change
    for prices, expected in ((values, 1.0), (ruled, 0.0)):
        train, validation, test = (part_samples(prices, part, 10, "market") for part in price_windows.PARTS)
        persistence = torch.full_like(test.unit, 0.5)
        parts = train, validation, test
        rows, errors, groups = forecasts.errors_beside_opponents([persistence], *parts, span_means, SPANS, seed=0)
        assert list(rows) == ["line_1_day", "line_3_days", "line_n_days", "line", "boosting"]
        lines = [row["mase"] for name, row in rows.items() if name.startswith("line")]
        assert lines == pytest.approx([expected] * 4, abs=0.1)
        assert errors["lstm_ae"].mean() == pytest.approx(1) and errors["boosting"].shape == (1, len(test.unit))
        assert rows["boosting"]["mase"] < 1.1
        assert rows["line_n_days"]["val_prediction_loss"] == min(
            row["val_prediction_loss"] for name, row in rows.items() if name not in ("line", "boosting")
        )
        assert groups.tolist() == [day // 5 for day in range(test.days)] * 6


def test_rolling_years_train_on_what_was_before():
    assert price_windows.rolling_dates(1008, 3, 0) == {
        "train": slice(0, 189),
        "validation": slice(189, 252),
        "test": slice(252, 504),
    }
    assert price_windows.rolling_dates(1008, 3, 2)["test"] == slice(756, 1008)


def test_columns_of_the_market_are_means_over_the_stocks():
    values = random_walk(4, 50)
    own, market = (part_samples(values, "test", inputs=name) for name in ("ohlcv", "market"))
    means = own.x.view(4, own.days, 3, 5).mean(0).repeat(4, 1, 1)
    torch.testing.assert_close(market.x, torch.cat([own.x - means + 0.5, means], 2))
    torch.testing.assert_close(market.prices(), own.prices())
    torch.testing.assert_close(own.prices(), own.x[..., :4] - 0.5)


def test_boosting_does_not_depend_on_numpys_generator():
    """Past 200,000 samples scikit-learn draws some of them, from there unless it has a seed."""
    generator = torch.Generator().manual_seed(0)
    count = 201_000
    unit = torch.ones(count)
    x = torch.randn(count, 1, generator=generator)
    target = 0.5 + torch.sin(3 * x) + 0.1 * torch.randn(count, 1, generator=generator)
    part = (x, price_windows.Samples(x[:, None], target, unit, unit, unit, 1))
    forecast = []
    for seed in range(2):
        np.random.seed(seed)
        forecast.append(forecasts.boost(part, part, part, largest=2)[2])
    assert torch.equal(*forecast)
