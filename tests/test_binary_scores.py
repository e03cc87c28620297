"""Scores of two classes by hand."""

import math

import numpy as np
import pytest

from evaluation import binary_scores as scores

LABELS = np.array([1, 0, 1, 1])


def logit(p):
    return np.log(np.array(p) / (1 - np.array(p)))


def test_accuracy_and_sigma_by_hand():
    z = np.array([2.0, 2.0, -1.0, 0.5])
    assert scores.correct(z, LABELS).tolist() == [True, False, False, True]
    assert scores.binomial_sigma(0.5, 100) == pytest.approx(0.05)
    assert scores.confusion(z, LABELS).tolist() == [[0, 1], [1, 2]]


def test_log_loss_by_hand():
    assert scores.log_loss(np.zeros(4), LABELS) == pytest.approx(math.log(2))
    assert scores.log_loss(logit([0.8, 0.5]), np.array([1, 0])) == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert scores.log_loss(np.array([1000.0, -1000.0]), np.array([0, 0])) == 500
    assert scores.probabilities(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0, 0.5, 1]


def test_calibration_by_hand():
    z, labels = logit([0.12, 0.18, 0.91, 0.99]), np.array([0, 1, 1, 1])
    bins = scores.reliability(z, labels)
    np.testing.assert_allclose(bins["probability"], [0.15, 0.95])
    assert bins["share"].tolist() == [0.5, 1.0] and bins["count"].tolist() == [2, 2]
    assert scores.calibration_error(z, labels) == pytest.approx((0.35 + 0.05) / 2)
    assert scores.reliability(np.array([1000.0]), np.array([1]))["probability"].tolist() == [1.0]  # into the last bin


def test_calibrated_probabilities_have_a_small_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.01, 0.99, 50_000)
    labels = (rng.random(50_000) < p).astype(float)
    assert scores.calibration_error(logit(p), labels) < 0.01
    assert scores.calibration_error(3 * logit(p), labels) > 0.1


def test_paired_sigmas_by_hand():
    ours = np.array([True] * 30 + [False] * 10 + [True] * 500)
    other = np.array([False] * 30 + [True] * 10 + [True] * 500)
    assert scores.paired_sigmas(ours, other) == pytest.approx(20 / math.sqrt(40))
    assert scores.paired_sigmas(other, ours) == pytest.approx(-20 / math.sqrt(40))
    assert scores.paired_sigmas(ours, ours) == 0


def test_summary_by_hand():
    z = logit([0.75, 0.75, 0.25, 0.75])
    found = scores.summary(z, LABELS)
    assert found["test_accuracy"] == 0.5 and found["test_accuracy_sigma"] == 0.25
    assert found["test_log_loss"] == pytest.approx(-math.log(0.75 * 0.25 * 0.25 * 0.75) / 4)
    assert found["calibration_error"] == pytest.approx((3 * (0.75 - 2 / 3) + 0.75) / 4)
