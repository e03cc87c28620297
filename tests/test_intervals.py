"""Intervals of differences: they cover the truth as often as they say, and verdicts follow from them."""

import numpy as np
import pytest

from lstm_studies.evaluation.intervals import compare, verdict


@pytest.mark.parametrize(("trainings", "others", "days"), [(1, 1, False), (3, 1, False), (3, 3, False), (10, 1, True)])
def test_coverage(trainings: int, others: int, days: bool):
    """Of 400 differences of known size, about 380 are inside of their intervals."""
    generator, covered = np.random.default_rng(0), 0
    groups = np.repeat(np.arange(40), 5) if days else None
    for _ in range(400):
        shared = generator.normal(size=(1, 40)).repeat(5, 1) if days else 0  # what a day does to our score alone
        ours, theirs = (
            generator.normal(size=(1, 200)) + generator.normal(size=(count, 1)) * (count > 1) / 4
            for count in (trainings, others)
        )
        interval = compare(ours + shared + 0.3, theirs, groups)
        covered += interval["low"] <= 0.3 <= interval["high"]
    assert 365 <= covered <= 395


def test_what_is_paired_cancels():
    hard = np.random.default_rng(1).normal(size=500) * 10
    interval = compare(hard - 0.1, hard)
    assert interval == pytest.approx({"difference": -0.1, "low": -0.1, "high": -0.1})


def test_few_trainings_widen_it():
    """Trainings alone: Student's interval of three means, 4.30 times their standard error."""
    ours = np.array([1.0, 2.0, 3.0])[:, None].repeat(50, 1)
    interval = compare(ours, np.zeros(50))
    assert interval == pytest.approx({"difference": 2, "low": 2 - 4.303 / 3**0.5, "high": 2 + 4.303 / 3**0.5}, abs=1e-3)


def test_other_cases_are_refused():
    with pytest.raises(ValueError, match=r"expected scores of the same test cases, found \(1, 3\), \(1, 4\)$"):
        compare(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"and groups \(2,\)"):
        compare(np.zeros(3), np.zeros(3), np.zeros(2))


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "margin", "expected"),
    [
        (0.1, 0.3, True, None, "better"),
        (0.1, 0.3, False, None, "worse"),
        (-0.3, -0.1, False, None, "better"),
        (-0.3, -0.1, True, 0.2, "worse"),
        (-0.1, 0.2, True, None, "within noise"),
        (-0.1, 0.1, True, 0.1, "equivalent"),
        (0.02, 0.05, True, 0.1, "equivalent"),
        (-0.1, 0.2, True, 0.1, "within noise"),
        (0.0, 0.2, True, None, "within noise"),
        (np.nan, np.nan, False, 0.1, "within noise"),
    ],
)
def test_verdicts(low: float, high: float, higher_is_better: bool, margin: float | None, expected: str):
    assert verdict(low, high, higher_is_better, margin) == expected
