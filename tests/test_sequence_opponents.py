"""Simple opponents of a sequence classifier: against hand-computed values and on data whose answer is known."""

import itertools

import numpy as np
import pytest

from lstm_studies.evaluation import sequence_opponents
from lstm_studies.evaluation.sequence_opponents import (
    Labelled,
    fit_opponents,
    likeliest_classes,
    summaries,
    time_warping_distances,
)

ALL = ("lda", "svm", "gaussian", "dtw")


def ramps(count, seed, classes=2, features=2):
    """Sequences of 5 to 9 steps, whose slope in the first feature is that of their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    values = [rng.normal(0, 0.3, (rng.integers(5, 10), features)) for _ in labels]
    for value, label in zip(values, labels, strict=True):
        value[:, 0] += (label - (classes - 1) / 2) * np.arange(len(value))
    return Labelled([value.astype(np.float32) for value in values], labels)


def warping_by_definition(x, y):
    """Over all paths from (0, 0) to the ends, by recursion."""

    def least(i, j):
        before = [least(a, b) for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0]
        return np.square(x[i] - y[j]).sum() + (min(before) if before else 0)

    return least(len(x) - 1, len(y) - 1)


def test_sequences_are_resampled_with_their_mean_and_deviation():
    row = summaries([np.arange(15.0)[:, None]])[0]
    assert row == pytest.approx([0, 2, 4, 6, 8, 10, 12, 14, 7, np.arange(15.0).std()])
    assert summaries([np.array([[3.0, 4.0]])])[0] == pytest.approx([3, 4] * 9 + [0, 0])  # of a single step


def test_distances_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    values, others = ([rng.normal(size=(n, 2)) for n in lengths] for lengths in ((1, 4, 5), (3, 5, 2, 1)))
    expected = [[warping_by_definition(x, y) for y in others] for x in values]
    assert time_warping_distances(values, others, 1.0) == pytest.approx(np.array(expected))


def test_a_narrow_window_compares_steps_at_equal_positions_only():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 6, 3))
    narrow = time_warping_distances([x], [y], 0.0)[0, 0]
    assert time_warping_distances([x], [y], 1.0)[0, 0] <= narrow <= np.square(x - y).sum() + 1e-9
    assert np.isfinite(time_warping_distances([x], [y[:2]], 0.0)).all()


def test_a_class_is_the_gaussian_under_which_the_steps_are_likeliest():
    """Two classes of one feature with variances 1 and 9 about 0: the boundary of one step is at |x| = 1.57."""
    spread = np.array([[-1.0], [1.0]])
    train = Labelled([spread, 3 * spread], np.array([0, 1]))
    boundary = (np.log(9) / (1 - 1 / 9)) ** 0.5
    assert likeliest_classes(train, [np.array([[boundary - 0.01]]), np.array([[boundary + 0.01]])], 0.0).tolist() == [
        0,
        1,
    ]


@pytest.mark.parametrize(("classes", "features"), [*itertools.product((2, 3), (1, 2))])
def test_every_opponent_learns_ramps(classes, features):
    train, test = ramps(30, 0, classes, features), ramps(21, 1, classes, features)
    results = fit_opponents(train, test, ALL, seed=0)
    assert list(results) == [*ALL]
    for name, (metrics, scores) in results.items():
        assert metrics["test_accuracy"] == scores["test_accuracy"].mean() > (0.5 if name == "gaussian" else 0.9), name
        assert metrics["seeds"] == 1 and metrics["seconds"] >= 0
    metrics, scores = results["lda"]
    assert metrics["test_log_loss"] == pytest.approx(scores["test_log_loss"].mean())
    assert 0 <= metrics["test_log_loss"] < np.log(classes) / 2
    again = fit_opponents(train, test, ALL, seed=0)
    for name, (_, scores) in results.items():
        assert all((again[name][1][key] == values).all() for key, values in scores.items())


def test_test_labels_choose_nothing():
    train, test = ramps(20, 0), ramps(10, 1)
    turned = test._replace(labels=1 - test.labels)
    for name, (metrics, scores) in fit_opponents(train, turned, ALL, seed=0).items():
        other, reverse = fit_opponents(train, test, [name], seed=0)[name]
        assert (scores["test_accuracy"] != reverse["test_accuracy"]).all()
        chosen = {"C", "regularisation", "window", "scaling", "cv_accuracy"}
        assert {key: metrics[key] for key in chosen & {*metrics}} == {key: other[key] for key in chosen & {*other}}


def test_time_warping_is_left_out_of_large_data(monkeypatch):
    monkeypatch.setattr(sequence_opponents, "MAX_CELLS", 1000)
    assert list(fit_opponents(ramps(20, 0), ramps(10, 1), ALL, seed=0)) == ["lda", "svm", "gaussian"]


def test_a_constant_feature_and_two_sequences_of_a_class_are_no_obstacle():
    train, test = ramps(4, 0), ramps(6, 1)
    for part in (train, test):
        for value in part.values:
            value[:, 1] = 1e6
    assert list(fit_opponents(train, test, ALL, seed=0)) == [*ALL]
