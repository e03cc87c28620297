"""Scores of directions by hand, and intervals that count days, not samples."""

import numpy as np
import pytest

from lstm_studies.evaluation.movement_scores import (
    accuracy,
    binomial_sigma,
    day_sums,
    gain,
    mcc,
    mcc_of_counts,
    movement_scores,
)

PREDICTED = np.array([1, 1, 1, 0, 0, 0, 0, 1])
ACTUAL = np.array([1, 1, 0, 0, 0, 1, 0, 1])  # 3 true ups, 3 true downs, 1 false up, 1 false down


def test_accuracy_and_mcc_by_hand():
    assert accuracy(PREDICTED, ACTUAL) == 6 / 8
    assert mcc(PREDICTED, ACTUAL) == pytest.approx((3 * 3 - 1 * 1) / np.sqrt(4 * 4 * 4 * 4))
    assert mcc(PREDICTED, PREDICTED) == 1 and mcc(PREDICTED, 1 - PREDICTED) == -1
    assert mcc(np.ones(8), ACTUAL) == 0 and mcc(PREDICTED, np.ones(8)) == 0


def test_mcc_is_the_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 500))
    assert mcc(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert mcc_of_counts(np.array([[3, 3, 1, 1], [1, 1, 0, 0]])).tolist() == [0.5, 1.0]


def test_binomial_sigma_by_hand():
    assert binomial_sigma(0.5, 100) == 0.05
    assert binomial_sigma(0.572, 3720) == pytest.approx(0.00811, abs=1e-5)


def test_day_sums_by_hand():
    dates = np.array(["2020-01-02", "2020-01-01", "2020-01-02"], "datetime64[D]")
    assert day_sums(np.array([[1.0, 0], [2, 5], [3, 0]]), dates).tolist() == [[2, 5], [4, 0]]


def test_stocks_of_one_day_that_move_together_count_once():
    """100 days of 50 stocks that are all right or all wrong together are 100 independent cases, not 5,000."""
    rng = np.random.default_rng(1)
    right = rng.integers(0, 2, 100).repeat(50)
    dates = np.arange("2020-01-01", "2020-04-10", dtype="datetime64[D]").repeat(50)
    actual = rng.integers(0, 2, 5000)
    together = movement_scores(np.where(right, actual, 1 - actual), actual, dates)
    width = together["accuracy_high"] - together["accuracy_low"]
    assert width == pytest.approx(2 * 1.96 * binomial_sigma(together["accuracy"], 100), rel=0.15)
    assert together["accuracy_low"] < together["accuracy"] < together["accuracy_high"]
    assert together["mcc_low"] < together["mcc"] < together["mcc_high"]
    apart = movement_scores(rng.integers(0, 2, 5000), actual, dates)
    assert apart["accuracy_high"] - apart["accuracy_low"] == pytest.approx(2 * 1.96 * apart["accuracy_sigma"], rel=0.15)


def test_gain_of_one_model_over_another():
    dates = np.arange("2020-01-01", "2020-02-20", dtype="datetime64[D]").repeat(10)
    other = np.random.default_rng(2).random(500)
    assert gain(other, other, dates) == (0, 0, 0)
    difference, low, high = gain(other + 0.1, other, dates)  # the same on every day: certain
    assert difference == pytest.approx(0.1) and low == pytest.approx(0.1) and high == pytest.approx(0.1)
    noisy = np.random.default_rng(3).integers(0, 2, 500).astype(float)
    difference, low, high = gain(noisy, other, dates)
    assert low < difference < high and difference == pytest.approx(noisy.mean() - other.mean())
