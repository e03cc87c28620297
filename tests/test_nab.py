"""The benchmark's score: by hand, and on the detectors whose scores its paper and its repository publish."""

import numpy as np
import pytest

from lstm_studies.evaluation import nab


def test_position_in_a_window_by_hand():
    gain, window = nab.detection_gains(20, [(8, 12)])
    assert (window == [-1] * 8 + [0] * 5 + [-1] * 7).all()
    assert (gain[:8] == -0.11).all()  # nothing has happened before the first window
    assert gain[8] == pytest.approx(1.0) and (np.diff(gain[8:13]) < 0).all() and gain[12] > 0
    first_after = 2 / (1 + np.exp(5 / 4)) - 1  # position 1 / (width - 1)
    assert gain[13] == pytest.approx(0.11 * first_after)
    assert nab.scaled_sigmoid(np.array([-1.0, 0.0, 3.5])) == pytest.approx([2 / (1 + np.exp(-5)) - 1, 0.0, -1.0])


def series(scores, windows):
    return np.asarray(scores, float), windows


def test_nothing_perfect_and_late():
    windows = [(40, 49), (70, 79)]
    silent = np.zeros(100)
    perfect, late = silent.copy(), silent.copy()
    perfect[[40, 70]] = late[[49, 79]] = 1
    assert nab.benchmark([series(silent, windows)])[:3] == (0.0, np.inf, 0)
    assert nab.benchmark([series(perfect, windows)])[0] == pytest.approx(100)
    total = nab.benchmark([series(late, windows)])
    assert 50 < total.score < 70 and total.detected == 2 and total.false_positives == 0


def test_each_window_counts_once_and_each_false_positive():
    windows = [(40, 49)]
    scores = np.zeros(100)
    scores[[40, 45, 30]] = 1, 1, 1  # all at one threshold
    total = nab.benchmark([series(scores, windows)])
    assert total.score == pytest.approx(100 * (2 - 0.11) / 2) == total.by_series.mean()
    assert (total.detected, total.false_positives, total.threshold) == (1, 1, 1.0)


def test_one_threshold_for_all_series():
    """What would be found with a threshold of each series' own costs false positives in the others."""
    scores = [np.zeros(100), np.full(100, 5.0)]
    scores[0][40], scores[1][40] = 1, 6
    total = nab.benchmark([series(own, [(40, 49)]) for own in scores])
    assert total.score == pytest.approx(50) and total.threshold == 6
    assert total.by_series.tolist() == pytest.approx([0, 100])  # with the mean 50


def test_the_first_part_of_a_series_does_not_count():
    scores = np.zeros(100)
    scores[:15] = 9
    assert nab.probation(100) == 15 and nab.probation(10**6) == 750
    assert nab.benchmark([series(scores, [(40, 49)])]).false_positives == 0


def test_a_random_detector_scores_little():
    """11.0 with the benchmark's own random detector, of which this is one."""
    generator = np.random.default_rng(0)
    windows = [(1000 * k + 400, 1000 * k + 500) for k in range(2)]
    totals = [nab.benchmark([series(generator.random(2000), windows)] * 1).score for _ in range(20)]
    assert 0 <= np.mean(totals) < 60
