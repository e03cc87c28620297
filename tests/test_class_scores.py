"""Log loss and calibration of several classes by hand."""

import math

import numpy as np
import pytest

from lstm_studies.evaluation import binary_scores, class_scores

P = np.array([[0.75, 0.125, 0.125], [0.125, 0.75, 0.125], [0.25, 0.25, 0.5], [0.125, 0.125, 0.75]])
LABELS = np.array([0, 1, 0, 0])


def test_log_loss_and_calibration_by_hand():
    scores = class_scores.summary(
        np.log(P) + np.array([[3.0], [-2.0], [0.0], [100.0]]), LABELS
    )  # logits may be shifted
    assert scores["test_log_loss"] == pytest.approx(-math.log(0.75 * 0.75 * 0.25 * 0.125) / 4)
    assert scores["calibration_error"] == pytest.approx((3 * (0.75 - 2 / 3) + 0.5) / 4)  # bins of 0.75 and of 0.5


def test_losses_are_those_of_each_training_and_sample():
    z = np.stack([np.log(P), np.zeros((4, 3))])
    expected = [-np.log([0.75, 0.75, 0.25, 0.125]), np.full(4, np.log(3))]
    np.testing.assert_allclose(class_scores.losses(z, LABELS), expected)


def test_huge_logits_stay_finite():
    scores = class_scores.summary(np.array([[1000.0, -1000.0, 0.0]]), np.array([1]))
    assert scores == {"test_log_loss": 2000.0, "calibration_error": 1.0}


def test_calibrated_probabilities_have_a_small_error_and_sure_ones_a_large_one():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, (50_000, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(1)  # of the classes with the probabilities softmax(z)
    assert class_scores.summary(z, labels)["calibration_error"] < 0.01
    for factor in (0.3, 3):
        other = class_scores.summary(factor * z, labels)
        assert other["calibration_error"] > 0.1
        assert other["test_log_loss"] > class_scores.summary(z, labels)["test_log_loss"] + 0.1


def test_two_classes_have_the_log_loss_of_binary_scores():
    rng = np.random.default_rng(1)
    z, labels = rng.normal(size=200), rng.integers(0, 2, 200)
    scores = class_scores.summary(np.stack([np.zeros(200), z], 1), labels)
    assert scores["test_log_loss"] == pytest.approx(binary_scores.log_loss(z, labels))


def test_a_class_that_a_model_does_not_know_has_the_least_probability():
    log_p = class_scores.log_probabilities(np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([0, 2]), 4)
    tiny = math.log(np.finfo(float).tiny)
    np.testing.assert_allclose(log_p, [[math.log(0.25), tiny, math.log(0.75), tiny], [0, tiny, tiny, tiny]], atol=1e-12)
