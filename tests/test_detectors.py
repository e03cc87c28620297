"""Scores of records: from windows, by hand; opponents find what they should; events and their judgement."""

import numpy as np
import pytest

from lstm_studies.evaluation import detectors


def test_windows_cross_no_gap():
    segment = np.array([0, 0, 0, 0, 1, 1, 1])
    assert detectors.window_starts(segment, 3).tolist() == [0, 1, 4]
    assert detectors.window_starts(segment, 3, stride=2).tolist() == [0, 4]
    assert len(detectors.window_starts(segment, 9)) == 0


def test_errors_of_records_are_means_over_windows():
    errors = np.array([[[1.0], [2.0]], [[4.0], [8.0]]])  # of the windows at 0 and 1
    batches = [errors[:1], errors[1:]]
    result = detectors.record_errors(batches, np.array([0, 1]), 4)
    assert result[:3].ravel().tolist() == [1.0, 3.0, 8.0] and np.isnan(result[3, 0])
    assert np.isnan(detectors.record_errors([], np.array([], int), 2)).all()


def test_surprise_by_hand():
    scores = np.array([1.0, 3.0, 1.0, 3.0, 10.0])
    values = detectors.surprise(scores)
    assert values[4] == pytest.approx(abs(10 - 2) / 1, rel=0.01)  # mean 2, deviation 1
    repeated = detectors.surprise(np.tile(scores, 10))
    assert repeated[-1] < values[4]
    assert np.isfinite(detectors.surprise(np.ones(5))).all()


def test_only_a_larger_score_is_another_alert():
    scores = np.array([0.0, 5.0, 4.0, 6.0, 1.0, 1.0, 2.0])
    assert detectors.alerts(scores, 2).tolist() == [0.0, 5.0, 0.0, 6.0, 0.0, 0.0, 2.0]


def wave(count=600, jump=450):
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(count) * 2 * np.pi / 25)[:, None] + 0.01 * rng.standard_normal((count, 1))
    values[jump : jump + 5] += 3
    return values


@pytest.mark.parametrize("name", detectors.OPPONENTS)
def test_every_opponent_finds_a_jump(name):
    if name == "isolation forest":
        pytest.importorskip("sklearn")
    values, window = wave(), 25
    scores = detectors.opponents(4)[name](values, 300, np.zeros(600, int), window)
    assert scores.shape == (600,) and np.isfinite(scores).all()
    assert 450 - window < 300 + scores[300:].argmax() < 455 + window


def test_opponents_do_not_read_what_comes_after_the_training_for_their_fit():
    values = wave()
    changed = values.copy()
    changed[500:] += 100
    for name in ("PCA", "moving z-score", "matrix profile"):
        before, after = (detectors.opponents(4)[name](v, 300, np.zeros(600, int), 25)[:400] for v in (values, changed))
        assert before == pytest.approx(after, abs=1e-6), name


@pytest.mark.parametrize("name", detectors.OPPONENTS)
def test_the_unit_of_the_values_changes_no_order_of_scores(name):
    values, segment = wave(), np.zeros(600, int)
    large, small = (detectors.opponents(4)[name](unit * values, 300, segment, 25)[300:] for unit in (1, 1e-9))
    assert np.corrcoef(large.argsort().argsort(), small.argsort().argsort())[0, 1] > 0.99


def test_events_by_hand():
    scores = np.array([0, 2, 3, 0, 2, 0, 0, 0, 9.0])
    assert detectors.events(scores, 1, merge=1) == [(1, 2, 2), (4, 4, 4), (8, 8, 8)]
    assert detectors.events(scores, 1, merge=2) == [(1, 4, 2), (8, 8, 8)]
    assert detectors.events(scores, 10, merge=1) == []
    assert detectors.events(np.array([0, 2, np.nan, 3, np.nan]), 1, merge=2) == [(1, 3, 3)]


def test_average_precision_and_f1_by_hand():
    scores, labels = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    assert detectors.average_precision(scores, labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert detectors.average_precision(np.ones(4), labels) == pytest.approx(0.5)
    assert detectors.f1_score(scores > 2.5, labels) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="expected some records to be true"):
        detectors.average_precision(scores, np.zeros(4, bool))
