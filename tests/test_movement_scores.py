"""Scores of directions by hand, and intervals that count days, not samples."""

import numpy as np
import pytest

from lstm_studies.evaluation.intervals import compare
from lstm_studies.evaluation.movement_scores import accuracy, judge, mcc, mcc_values, summary

PREDICTED = np.array([1, 1, 1, 0, 0, 0, 0, 1])
ACTUAL = np.array([1, 1, 0, 0, 0, 1, 0, 1])  # 3 true ups, 3 true downs, 1 false up, 1 false down


def test_accuracy_and_mcc_by_hand():
    assert accuracy(PREDICTED, ACTUAL) == 6 / 8
    assert mcc(PREDICTED, ACTUAL) == pytest.approx((3 * 3 - 1 * 1) / np.sqrt(4 * 4 * 4 * 4))
    assert mcc(PREDICTED, PREDICTED) == pytest.approx(1) and mcc(PREDICTED, 1 - PREDICTED) == pytest.approx(-1)
    assert mcc(np.ones(8), ACTUAL) == 0 and mcc(PREDICTED, np.ones(8)) == 0


def test_mcc_is_the_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 500))
    assert mcc(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert mcc_values(np.stack([a, b]), b).mean(1) == pytest.approx([mcc(a, b), 1])


def test_the_interval_of_mcc_is_that_of_resampled_days():
    rng = np.random.default_rng(0)
    actual, dates = rng.integers(0, 2, 1200), np.arange(60).repeat(20)
    shift = rng.normal(0, 1, 60).repeat(20)  # days on which predictions are better or worse
    predicted = (rng.normal(0, 2, 1200) + shift + 1.5 * actual > 1).astype(int)
    interval = compare(mcc_values(predicted, actual), np.zeros(1200), dates)
    assert interval["difference"] == pytest.approx(mcc(predicted, actual))
    places = np.arange(1200).reshape(60, 20)
    draws = [places[rng.integers(0, 60, 60)].ravel() for _ in range(1000)]
    low, high = np.quantile([mcc(predicted[draw], actual[draw]) for draw in draws], [0.025, 0.975])
    assert interval["low"] == pytest.approx(low, abs=0.015) and interval["high"] == pytest.approx(high, abs=0.015)


def test_stocks_of_one_day_that_move_together_count_once():
    """100 days of 50 stocks that are all right or all wrong together are 100 independent cases, not 5,000."""
    rng = np.random.default_rng(1)
    right = rng.integers(0, 2, 100).repeat(50)
    dates, actual = np.arange(100).repeat(50), rng.integers(0, 2, 5000)
    metrics = {"together": {}, "apart": {}}
    classes = {"together": np.where(right, actual, 1 - actual)[None], "apart": rng.integers(0, 2, (1, 5000))}
    judge(metrics, classes, actual, dates, {"together": ["apart"]})
    for name, cases in (("together", 100), ("apart", 5000)):
        share = accuracy(classes[name][0], actual)
        width = metrics[name]["test_accuracy_high"] - metrics[name]["test_accuracy_low"]
        assert width == pytest.approx(2 * 1.96 * (share * (1 - share) / cases) ** 0.5, rel=0.15)
        assert metrics[name]["test_mcc_low"] < mcc(classes[name][0], actual) < metrics[name]["test_mcc_high"]
    assert "against" not in metrics["apart"] and list(metrics["together"]["against"]) == ["apart"]


def test_intervals_stay_in_the_possible_range():
    """Of two seeds Student's quantile is 12.7."""
    dates, actual = np.arange(50).repeat(10), np.arange(500) % 2
    classes = np.stack([actual, np.where(np.arange(500) % 10 < 2, 1 - actual, actual)])
    metrics = {"model": {}}
    judge(metrics, {"model": classes}, actual, dates, {})
    assert metrics["model"]["test_accuracy_high"] == metrics["model"]["test_mcc_high"] == 1
    assert 0 <= metrics["model"]["test_accuracy_low"] < 0.9 and -1 <= metrics["model"]["test_mcc_low"] < 0.8


def test_a_gain_that_is_the_same_on_every_day_is_certain_but_for_the_seeds():
    dates, actual = np.arange(50).repeat(10), np.zeros(500)
    worse = (np.arange(500) % 10 < 5).astype(int)  # right on half of each day
    better = np.stack([(np.arange(500) % 10 < wrong).astype(int) for wrong in (3, 4, 5)])
    metrics = {"worse": {}, "one": {}, "three": {}}
    judge(metrics, {"worse": worse[None], "one": better[1:2], "three": better}, actual, dates,
          {"one": ["worse"], "three": ["worse"]})  # fmt: skip
    one, three = (metrics[name]["against"]["worse"]["test_accuracy"] for name in ("one", "three"))
    assert one == pytest.approx({"difference": 0.1, "low": 0.1, "high": 0.1})
    half = 4.3027 * 0.1 / 3**0.5  # Student's quantile of 2 degrees of freedom
    assert three == pytest.approx({"difference": 0.1, "low": 0.1 - half, "high": 0.1 + half}, rel=1e-4)


def test_probabilities_are_calibrated_on_validation_samples():
    rng = np.random.default_rng(3)
    labels, test_labels = rng.integers(0, 2, 2000), rng.integers(0, 2, 2000)
    val, test = (rng.normal(0, 1, 2000) * 100 + 50 * y for y in (labels, test_labels))  # far too sure, and shifted
    numbers = summary(val, labels, test, test_labels)
    assert numbers["test_log_loss"] < np.log(2) and numbers["calibration_error"] < 0.04
    assert numbers["test_accuracy"] == accuracy(test > 0, test_labels) and numbers["val_mcc"] == mcc(val > 0, labels)
    same = summary(np.ones(2000), labels, np.ones(2000), test_labels)  # always up: the share of ups
    assert same["test_log_loss"] == pytest.approx(np.log(2), abs=0.01) and same["test_predicted_up"] == 1


def test_scores_that_say_nothing_have_the_log_loss_of_the_class_frequencies():
    """So the row of always up is what calibrated probabilities are compared with."""
    labels, test_labels = np.repeat([1, 0], [3000, 1000]), np.repeat([1, 0], [600, 400])
    numbers = summary(np.ones(4000), labels, np.ones(1000), test_labels)
    assert numbers["test_log_loss"] == pytest.approx(-(0.6 * np.log(0.75) + 0.4 * np.log(0.25)), abs=1e-3)
    assert numbers["calibration_error"] == pytest.approx(0.15, abs=1e-3)
