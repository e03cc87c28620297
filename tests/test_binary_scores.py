"""Scores of two classes by hand."""

import math

import numpy as np
import pytest

from lstm_studies.evaluation import binary_scores as scores

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
    bins = scores.reliability(scores.probabilities(z), labels)
    np.testing.assert_allclose(bins["probability"], [0.15, 0.95])
    assert bins["share"].tolist() == [0.5, 1.0] and bins["count"].tolist() == [2, 2]
    assert scores.calibration_error(z, labels) == pytest.approx((0.35 + 0.05) / 2)
    assert scores.reliability(np.array([1.0]), np.array([1]))["probability"].tolist() == [1.0]  # into the last bin


def test_calibrated_probabilities_have_a_small_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.01, 0.99, 50_000)
    labels = (rng.random(50_000) < p).astype(float)
    assert scores.calibration_error(logit(p), labels) < 0.01
    assert scores.calibration_error(3 * logit(p), labels) > 0.1


def test_summary_by_hand():
    z = logit([0.75, 0.75, 0.25, 0.75])
    found = scores.summary(z, LABELS)
    assert found["test_accuracy"] == 0.5 and found["test_accuracy_sigma"] == 0.25
    assert found["test_log_loss"] == pytest.approx(-math.log(0.75 * 0.25 * 0.25 * 0.75) / 4)
    assert found["calibration_error"] == pytest.approx((3 * (0.75 - 2 / 3) + 0.75) / 4)


def test_platt_scaling_finds_the_probabilities_that_made_the_labels():
    rng = np.random.default_rng(0)
    outputs = rng.normal(3, 2, 20_000)
    labels = (rng.random(20_000) < scores.probabilities(0.7 * outputs - 1.5)).astype(int)
    slope, intercept = scores.platt_scaling(outputs, labels)
    assert (slope, intercept) == (pytest.approx(0.7, abs=0.05), pytest.approx(-1.5, abs=0.15))
    assert scores.calibration_error(slope * outputs + intercept, labels) < 0.02
    turned = scores.platt_scaling(-outputs, labels)
    assert turned == (pytest.approx(-slope), pytest.approx(intercept))


def test_platt_scaling_of_scores_that_say_nothing_or_everything():
    labels = np.array([1] * 30 + [0] * 10)
    slope, intercept = scores.platt_scaling(np.full(40, 2.0), labels)
    share = (30 * 31 / 32 + 10 / 12) / 40  # of class 1, with Platt's targets
    assert slope == pytest.approx(0, abs=1e-6) and scores.probabilities(intercept) == pytest.approx(share, abs=1e-6)
    slope, intercept = scores.platt_scaling(
        np.where(labels, 1.0, -1.0), labels
    )  # separable: the targets keep it finite
    assert scores.probabilities(slope + intercept) == pytest.approx(31 / 32, abs=1e-6)
    assert scores.probabilities(intercept - slope) == pytest.approx(1 / 12, abs=1e-6)


def test_groups_by_length_by_hand():
    lengths, right = np.array([1, 1, 2, 2, 9, 9]), np.array([True, False, True, True, False, False])
    x, y, sigma = scores.accuracy_by_length(right, lengths, groups=3)
    assert x.tolist() == [1, 2, 9] and y.tolist() == [0.5, 1, 0]
    assert sigma.tolist() == [pytest.approx(0.125**0.5), 0, 0]
    assert len(scores.accuracy_by_length(np.array([True, True, False]), np.array([3, 3, 3]))[0]) == 1


def test_wrong_in_all_by_hand():
    z = np.array([[1.0, 1.0, -1.0, -1.0], [-1.0, 2.0, 1.0, -3.0]])
    assert scores.wrong_in_all(z, LABELS).tolist() == [False, True, False, True]


def test_the_gain_of_a_calibration_is_that_on_samples_it_has_not_seen():
    rng = np.random.default_rng(0)
    z = rng.normal(size=2000)
    labels = (rng.random(2000) < 1 / (1 + np.exp(-2 * z))).astype(int)
    share = labels.mean()
    best = -(share * math.log(share) + (1 - share) * math.log(1 - share)) - scores.log_loss(2 * z, labels)
    assert scores.calibration_gain(z, labels) == pytest.approx(best, abs=0.01) and best > 0.2
    assert scores.calibration_gain(rng.normal(size=50), labels[:50]) < 0
    half = np.repeat([0, 1], 1000)  # scores that turn round halfway: what the others say is wrong
    assert scores.calibration_gain(np.where(half, z, -z), labels) < 0.01
