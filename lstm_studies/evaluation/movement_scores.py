"""How good predicted directions are: accuracy and Matthews correlation, with intervals over seeds and days.

Stocks of one day move together: the days of a test part are its independent cases.

Letters in shapes: S trainings with different seeds, N samples.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lstm_studies.evaluation import binary_scores, intervals


def accuracy(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Share of equal classes in two arrays (N,) of 0 and 1."""
    return float((predicted == actual).mean())


def mcc(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Matthews correlation coefficient of two arrays (N,) of 0 and 1; 0 if either has one class only."""
    return float(mcc_values(predicted, actual).mean())


def mcc_values(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """What each sample says of the Matthews correlation coefficient, in the shape (..., N) of the predicted classes.

    Their mean is the coefficient, and its variance is that of their mean (the infinitesimal jackknife). The coefficient
    is the correlation r of two variables of 0 and 1, which a sample with standardised values a and b influences by
    a b - r (a^2 + b^2) / 2 (Devlin, Gnanadesikan and Kettenring, "Robust estimation and outlier detection with
    correlation coefficients", Biometrika 1975). 0 if either array has one class only.
    """
    a, b = standardised(predicted), standardised(actual)
    r = (a * b).mean(-1, keepdims=True)
    return r + a * b - r * (a**2 + b**2) / 2


def standardised(values: np.ndarray) -> np.ndarray:
    """With mean 0 and variance 1 along the last dimension; zeros where all are alike."""
    centred = values - values.mean(-1, keepdims=True)
    deviation = centred.std(-1, keepdims=True)
    return centred / np.where(deviation == 0, 1.0, deviation)


def summary(validation: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> dict:
    """The numbers that stand in `metrics.json`, from scores (N,), up where above 0, and labels (N,) of both parts.

    The validation part is in the order of time. The probabilities are a logistic regression of the validation labels
    on the scores (Platt scaling).
    """
    slope, intercept = binary_scores.platt_scaling(validation, labels)
    logits = slope * test + intercept
    return {
        "val_accuracy": accuracy((validation > 0).astype(int), labels),
        "val_mcc": mcc((validation > 0).astype(int), labels),
        **of_classes((test > 0).astype(int), test_labels),
        "test_log_loss": binary_scores.log_loss(logits, test_labels),
        "calibration_error": binary_scores.calibration_error(logits, test_labels),
        "val_always_up_accuracy": float(np.mean(labels)),
        "calibration": {
            "slope": slope,
            "intercept": intercept,
            "gain": binary_scores.calibration_gain(validation, labels),
        },
    }


def of_classes(predicted: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """The numbers that the classes (N,) predicted for test samples have in `metrics.json`."""
    share = accuracy(predicted, actual)
    return {
        "test_accuracy": share,
        "test_accuracy_sigma": binary_scores.binomial_sigma(share, len(actual)),
        "test_mcc": mcc(predicted, actual),
        "test_predicted_up": float(predicted.mean()),
    }


def judge(
    metrics: Mapping[str, dict],
    classes: Mapping[str, np.ndarray],
    actual: np.ndarray,
    dates: np.ndarray,
    opponents: Mapping[str, Sequence[str]],
) -> None:
    """Adds intervals over seeds and days to metrics by model: of accuracy and MCC, and of their differences.

    classes: of each model, those that its trainings predict for the same test samples, (S, N). actual (N,). dates (N,),
    whose samples depend on one another. opponents: the names of the models that a model is compared with. A model gets
    `test_accuracy_low`, `test_accuracy_high`, the same for `test_mcc`, and `against`: {opponent: {"test_accuracy":
    {"difference", "low", "high"}, "test_mcc": ...}}.
    """
    values = {
        name: {"test_accuracy": predicted == actual, "test_mcc": mcc_values(predicted, actual)}
        for name, predicted in classes.items()
    }
    nothing = np.zeros(len(actual))
    for name, scores in values.items():
        for key, value in scores.items():
            interval, least = intervals.compare(value, nothing, dates), -1.0 if key == "test_mcc" else 0.0
            metrics[name] |= {f"{key}_{end}": min(max(interval[end], least), 1.0) for end in ("low", "high")}
        differences = {
            other: {key: intervals.compare(value, values[other][key], dates) for key, value in scores.items()}
            for other in opponents.get(name, ())
        }
        metrics[name] |= {"against": differences} if differences else {}
