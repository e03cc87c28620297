"""What the numbers of the report say, by hand."""

import pytest

from lstm_studies.reporting import numbers
from lstm_studies.reporting.studies import Number, Study

MSE = {"label": "MSE", "key": "a", "kind": "mse", "baseline": "b", "name": "PCA"}
ACCURACY = {"label": "acc", "key": "a", "kind": "accuracy", "baseline": "b", "name": "plain"}


def row(number, **metrics):
    return numbers.row_of(Number(**number), metrics)


@pytest.mark.parametrize(
    ("number", "metrics", "expected"),
    [
        (MSE, {"a": 0.01, "b": 0.05}, "MSE 0.0100: 5.0 times smaller than that of PCA (0.0500)."),
        (MSE, {"a": 0.09, "b": 0.1}, "MSE 0.0900: 10.0 % below that of PCA (0.100)."),
        (MSE, {"a": 0.31, "b": 0.1}, "MSE 0.310: 3.1 times as large as that of PCA (0.100)."),
        (
            MSE | {"goal": 0.05},
            {"a": 0.11, "b": 0.1},
            "MSE 0.110: 10.0 % above that of PCA (0.100); the target, at most 0.0500, is missed.",
        ),
        (
            MSE | {"goal_ratio": 1.2},
            {"a": 0.11, "b": 0.1},
            "MSE 0.110: 10.0 % above that of PCA (0.100); the target, at most 1.2 × PCA, is reached.",
        ),
        (
            MSE | {"goal_ratio": 1.0},
            {"a": 0.11, "b": 0.1},
            "MSE 0.110: 10.0 % above that of PCA (0.100); the target, below PCA, is missed.",
        ),
        (
            ACCURACY | {"goal": 0.9},
            {"a": 0.95, "b": 0.93, "a_sigma": 0.01},
            "acc 95.0 %: 2.0 points above plain (2.0 sigma) (93.0 %); the target, at least 90.0 %, is reached.",
        ),
        (ACCURACY, {"a": 0.9, "a_mean": 0.8, "b": 0.81}, "acc 80.0 %: 1.0 points below plain (81.0 %)."),
        (ACCURACY, {"a": 0.8101, "b": 0.81, "a_sigma": 0.01}, "acc 81.0 %: as much as plain (81.0 %)."),
        (ACCURACY | {"baseline": None}, {"a": 0.9}, "acc 90.0 %."),
    ],
)
def test_what_a_number_says(number, metrics, expected):
    assert row(number, **metrics).says == expected


@pytest.mark.parametrize(
    ("kind", "value", "std", "expected"),
    [
        ("mse", 0.003291, None, "0.00329"),
        ("mse", 0.003291, 0.0001, "0.00329 ± 0.00010"),
        ("mse", 0.0, None, "0.000"),
        ("mse", 12.3456, None, "12.3"),
        ("mse", 1234.5, None, "1234"),
        ("accuracy", 0.98315, 0.00213, "98.3 ± 0.2 %"),
        ("mcc", -0.0561, None, "-0.056"),
        ("dollars", 0.6406, 0.00125, "0.641 ± 0.001 USD"),
        ("ratio", 1.0, None, "1.000"),
    ],
)
def test_a_number_has_two_or_three_digits(kind, value, std, expected):
    metrics = {"a": value} if std is None else {"a": 9.0, "a_mean": value, "a_std": std, "seeds": 5}
    assert row({"label": "", "key": "a", "kind": kind}, **metrics).text == expected


def test_the_neighbours_of_a_number_are_found_by_its_key():
    metrics = {"test_mse": 0.25, "mean_mse": 1.0, "pca_mse": 0.5, "test_mse_low": 0.2, "test_mse_high": 0.3, "seeds": 4}
    number = MSE | {"key": "fc/test_mse", "baseline": "fc/pca_mse"}
    own = row(number, fc=metrics)
    assert (own.model, own.seeds, own.interval, own.variance) == ("fc", 4, (0.2, 0.3), 1.0)
    assert (own.explained, own.baseline_explained, own.interval_text) == ("75.0 %", "50.0 %", "0.200 to 0.300")
    assert row(number, conv=metrics) is None


def test_errors_are_compared_with_the_baselines():
    accuracy = row(ACCURACY | {"published": 0.97}, a=0.99, b=0.9)
    assert accuracy.relative_error(accuracy.value) == pytest.approx(0.1)
    assert accuracy.relative_error(accuracy.number.published) == pytest.approx(0.3)
    assert accuracy.relative_error(None) is None and accuracy.better
    assert row(MSE, a=0.2, b=0.4).relative_error(0.2) == pytest.approx(0.5)
    assert row(ACCURACY | {"kind": "mcc"}, a=0.1, b=0.0).relative_error(0.1) is None
    assert row(MSE, a=0.2, b=0.0).relative_error(0.2) is None  # nothing to divide by


def test_a_difference_within_the_noise():
    first = row(ACCURACY, a=0.5, a_mean=0.55, a_std=0.02, b=0.54, a_sigma=0.02)
    second = row(ACCURACY, a=0.5, a_mean=0.57, a_std=0.01, b=0.54)
    third = row(ACCURACY, a=0.60, b=0.54, a_sigma=0.001)
    assert first.within(second) and second.within(first) and not first.within(third)
    assert first.within_sigma and not third.within_sigma and not second.within_sigma


def test_equal_to_the_baseline_is_not_better():
    assert row(MSE, a=0.1, b=0.1).better is False and row(MSE, a=0.1).better is None


def test_the_rows_of_the_summary():
    study = Study("x", "train", "Title", "?", numbers=(Number(**MSE | {"goal": 0.05, "published": 0.2, "note": "n"}),))
    metrics = {"a": 1.0, "a_mean": 0.04, "a_std": 0.5, "seeds": 3, "b": 4.0, "data": "full"}
    (own,) = numbers.rows_of(study, metrics)
    shown = numbers.summary_row(study, "best", own, 1.26, metrics)
    expected = {"study": "Title", "metric": "MSE", "value": 0.04, "std": 0.5, "seeds": 3, "baseline": 4.0}
    expected |= {"published": 0.2, "target": 0.05, "hit": True, "minutes": 1.3, "data": "full", "preset": "best"}
    assert expected.items() <= shown.items() and shown["command"] == "python x.py --function train"


def test_which_data():
    assert numbers.source_of({"data": "sample"}) == "sample" == numbers.source_of({"fc": {"data": "sample"}})
    assert numbers.source_of({"fc": {}}) is None


def test_a_run_of_one_model_stands_beside_the_runs_of_several():
    study = Study("x", "y", "", "", alone="fc", numbers=(Number("MSE", "fc/a", "mse"), Number("MSE", "conv/a", "mse")))
    assert [row.value for row in numbers.rows_of(study, {"fc": {"a": 1.0}, "conv": {"a": 2.0}})] == [1.0, 2.0]
    assert [(row.number.key, row.value) for row in numbers.rows_of(study, {"a": 3.0})] == [("fc/a", 3.0)]


def test_a_number_of_every_model():
    number = Number("accuracy of *", "*/a", "accuracy", baseline="*/b", name="majority")
    rows = numbers.rows_of(Study("x", "y", "", "", numbers=(number,)), {"data": "full", "one": {"a": 0.5, "b": 0.25}})
    assert [(row.number.label, row.model, row.baseline) for row in rows] == [("accuracy of one", "one", 0.25)]


def test_a_model_that_is_named_is_not_once_more_among_all():
    named = Number("the best", "two/a", "accuracy")
    every = Number("accuracy of *", "*/a", "accuracy", baseline="*/b", name="majority")
    metrics = {"one": {"a": 0.5, "b": 0.1}, "two": {"a": 0.6, "b": 0.1}}
    rows = numbers.rows_of(Study("x", "y", "", "", numbers=(named, every)), metrics)
    assert [row.number.label for row in rows] == ["the best", "accuracy of one"]
