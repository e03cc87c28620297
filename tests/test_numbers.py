"""What the numbers of the report say, by hand."""

import pytest

from lstm_studies.reporting import numbers
from lstm_studies.reporting.studies import Number, Study

MSE = {"label": "MSE", "key": "a", "kind": "mse", "baseline": "b", "baseline_name": "PCA"}
ACCURACY = {"label": "acc", "key": "a", "kind": "accuracy", "baseline": "b", "baseline_name": "plain"}


def row(number, **metrics):
    return numbers.row_of(Number(**number), {"lstm": metrics})


@pytest.mark.parametrize(
    ("number", "metrics", "expected"),
    [
        (MSE, {"a": 0.01, "b": 0.05}, "5.0 × lower"),
        (MSE, {"a": 0.09, "b": 0.1}, "−10.0 %"),
        (MSE, {"a": 0.11, "b": 0.1}, "+10.0 %"),
        (MSE, {"a": 0.31, "b": 0.1}, "3.1 × as large"),
        (MSE, {"a": 0.09999, "b": 0.1}, "no difference"),
        (MSE, {"a": 0.0, "b": 0.1}, "0.0 × as large"),
        (ACCURACY, {"a": 0.95, "b": 0.93}, "+2.0 points"),
        (ACCURACY, {"a": 0.9, "a_mean": 0.8, "b": 0.81}, "−1.0 points"),
        (ACCURACY, {"a": 0.8101, "b": 0.81}, "no difference"),
        (ACCURACY | {"kind": "mcc", "baseline": 0.0}, {"a": 0.0625}, "+0.062"),
        (ACCURACY | {"baseline": None}, {"a": 0.9}, "-"),
    ],
)
def test_a_number_beside_its_baseline(number, metrics, expected):
    assert row(number, **metrics).compared == expected


@pytest.mark.parametrize(
    ("number", "text", "verdict"),
    [
        (MSE, "-", None),
        (MSE | {"target": 0.11}, "at most 0.110", "reached"),
        (MSE | {"target": 0.05}, "at most 0.0500", "missed"),
        (MSE | {"target_ratio": 1.2}, "at most 1.2 × PCA", "reached"),
        (MSE | {"target_ratio": 1.0}, "below PCA", "missed"),
        (ACCURACY | {"target": 0.1}, "at least 10.0 %", "reached"),
        (ACCURACY | {"target": 0.9}, "at least 90.0 %", "missed"),
    ],
)
def test_targets(number, text, verdict):
    judged = row(number, a=0.11, b=0.1)
    assert (judged.target_text, judged.target_verdict) == (text, verdict)


@pytest.mark.parametrize(("high", "expected"), [(0.001, "reached"), (0.003, "within noise")])
def test_a_target_relative_to_the_opponent_is_judged_by_the_paired_difference(high, expected):
    """At most 1.02 times PCA's .1: the error over test cases alone would say nothing."""
    values = {"a": 0.1, "a_sigma": 0.02, "against": {"pca": {"a": {"difference": 0.0, "low": -0.001, "high": high}}}}
    number = Number(**MSE, target_ratio=1.02, opponent="pca/a", opponent_name="PCA")
    judged = numbers.row_of(number, {"lstm": values | {"b": 0.1}, "pca": {"a": 0.1}})
    assert judged.value_range == pytest.approx((0.099, 0.1 + high)) and judged.target_verdict == expected


@pytest.mark.parametrize(("target", "expected"), [(0.90, "missed"), (0.883, "within noise"), (0.87, "reached")])
def test_a_target_inside_of_the_interval_of_the_mean_is_within_noise(target, expected):
    """.88 ± .002 of 4 seeds: 3.18 times .001 to either side."""
    judged = row(ACCURACY | {"target": target}, a_mean=0.88, a_std=0.002, seeds=4)
    assert judged.value_range == pytest.approx((0.87682, 0.88318), abs=1e-5)
    assert judged.target_verdict == expected


@pytest.mark.parametrize(("target", "expected"), [(0.89, "missed"), (0.885, "within noise"), (0.87, "reached")])
def test_a_target_within_the_error_of_the_test_part_is_within_noise(target, expected):
    """.88 of one training, with a standard error of .004 over the test cases: 1.96 times .004 to either side."""
    judged = row(ACCURACY | {"target": target}, a=0.88, a_sigma=0.004)
    assert judged.value_range == pytest.approx((0.87216, 0.88784), abs=1e-5)
    assert judged.target_verdict == expected


def test_a_mean_of_intervals_is_widened_by_the_seeds():
    """Over test cases -.03 and +.04; over 4 seeds 3.18 times .01 to either side."""
    wide = row(ACCURACY, a_mean=0.8, a_std=0.02, a_low_mean=0.77, a_high_mean=0.84, seeds=4)
    assert wide.interval == wide.value_range == pytest.approx((0.75626, 0.85112), abs=1e-5)


def test_a_number_beside_its_opponent():
    accuracy = ACCURACY | {"opponent": "lda/a", "opponent_name": "LDA"}
    metrics = {"lstm": {"a": 0.99, "against": {"lda": {"a": {"difference": 0.004, "low": 0.001, "high": 0.007}}}}}
    metrics["lda"] = {"a": 0.986}
    beside = numbers.row_of(Number(**accuracy), metrics)
    assert (beside.opponent_named, beside.verdict) == ("LDA 98.6 %", "better")
    assert beside.against_text == "better: +0.4 [+0.1, +0.7] points"
    assert numbers.row_of(Number(**accuracy, margin=0.01), metrics).verdict == "equivalent"
    error = numbers.row_of(Number(**accuracy | {"kind": "mse"}), metrics)
    assert error.against_text == "worse: +0.0040 [+0.0010, +0.0070]"
    narrow = {"difference": 0.0002, "low": -0.0003, "high": 0.0009}  # narrower than the last decimal
    close = metrics | {"lstm": {"a": 0.99, "against": {"lda": {"a": narrow}}}}
    assert numbers.row_of(Number(**accuracy), close).against_text == "within noise: +0.02 [−0.03, +0.09] points"
    del metrics["lstm"]["against"]  # a run of before
    apart = {"lda": {"a": 0.986, "a_sigma": 0.003}}  # a model of another run: unpaired, from the binomial sigmas
    metrics["lstm"]["a_sigma"] = 0.004
    unpaired = numbers.row_of(Number(**accuracy), {"lstm": metrics["lstm"]}, apart)
    assert unpaired.opponent == 0.986 and unpaired.verdict == "within noise"
    expected = {"difference": 0.004, "low": 0.004 - 0.0098, "high": 0.004 + 0.0098}
    assert unpaired.against == pytest.approx(expected, abs=1e-6)
    apart["lda"] |= {"seeds": 3, "a_std": 0.0}  # equal seeds change nothing, others widen the interval
    assert numbers.row_of(Number(**accuracy), {"lstm": metrics["lstm"]}, apart).against == pytest.approx(
        unpaired.against
    )
    apart["lda"]["a_std"] = 0.004
    low = numbers.row_of(Number(**accuracy), {"lstm": metrics["lstm"]}, apart).against["low"]
    assert -0.009 < low < unpaired.against["low"]
    assert (numbers.row_of(Number(**accuracy), metrics).verdict, beside.opponent) == (None, 0.986)
    assert row(ACCURACY, a=1).opponent_named == "-"


@pytest.mark.parametrize(
    ("kind", "value", "std", "expected"),
    [
        ("mse", 0.003291, None, "0.00329"),
        ("mse", 0.003291, 0.0001, "0.00329 ± 0.00010"),
        ("mse", 0.0, None, "0.000"),
        ("mse", 1.97e-16, None, "2.0e-16"),
        ("mse", 12.3456, None, "12.3"),
        ("mse", 1234.5, None, "1234"),
        ("accuracy", 0.98315, 0.00213, "98.3 ± 0.2 %"),
        ("mcc", -0.0561, None, "−0.056"),
        ("dollars", 0.6406, 0.00125, "0.641 ± 0.001 USD"),
        ("ratio", 1.0, None, "1.000"),
    ],
)
def test_a_number_has_two_or_three_digits(kind, value, std, expected):
    metrics = {"a": value} if std is None else {"a": 9.0, "a_mean": value, "a_std": std, "seeds": 5}
    assert row({"label": "", "key": "a", "kind": kind}, **metrics).text == expected


def test_a_deviation_over_folds_is_not_one_over_seeds():
    assert row(MSE, a_mean=0.1, a_std=0.01, seeds=1).text == "0.100"


def test_related_metrics_are_those_of_the_same_model():
    metrics = {"test_mse": 0.25, "mean_mse": 1.0, "pca_mse": 0.5, "test_mse_low": 0.2, "test_mse_high": 0.3, "seeds": 4}
    number = MSE | {"key": "fc/test_mse", "baseline": "pca_mse", "published": 0.3, "published_note": "elsewhere"}
    fc = numbers.row_of(Number(**number), {"fc": metrics})
    assert (fc.seeds, fc.interval, fc.variance, fc.baseline) == (4, (0.2, 0.3), 1.0, 0.5)
    assert (fc.explained, fc.interval_text) == ("75.0 %", "0.200 to 0.300")
    assert (fc.baseline_named, fc.published_named) == ("PCA 0.500", "0.300, elsewhere")
    other = Number(**number | {"baseline": "conv/b"})
    assert numbers.row_of(other, {"fc": metrics, "conv": {"b": 0.4}}).baseline == 0.4
    assert numbers.row_of(other, {"conv": metrics}) is None


def test_a_number_of_every_model_that_has_no_row_yet_but_the_opponent():
    named = Number("the best", "two/a", "accuracy")
    every = Number("accuracy of *", "*/a", "accuracy", baseline="b", baseline_name="majority", opponent="lda/a")
    metrics = {"one": {"a": 0.5, "b": 0.1}, "two": {"a": 0.6, "b": 0.2}, "three": {}, "lda": {"a": 0.4}}
    rows = numbers.rows_of(Study("x", "y", "", numbers=(named, every)), metrics)
    assert [(row.number.label, row.baseline) for row in rows.values()] == [("the best", None), ("accuracy of one", 0.1)]
