"""How good predicted directions are: accuracy and Matthews correlation, with intervals that know that stocks of one day
move together.

Letters in shapes: N samples, D days, K bootstrap draws.
"""

import numpy as np

from lstm_studies.evaluation.binary_scores import binomial_sigma


def accuracy(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Share of equal classes in two arrays (N,) of 0 and 1."""
    return float((predicted == actual).mean())


def mcc(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Matthews correlation coefficient of two arrays (N,) of 0 and 1; 0 if either has one class only."""
    return float(mcc_of_counts(outcomes(predicted, actual).sum(0)))


def outcomes(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """(N, 4): one 1 per sample, for true up, true down, false up, false down."""
    up, right = predicted == 1, predicted == actual
    return np.stack([up & right, ~up & right, up & ~right, ~up & ~right], 1).astype(float)


def mcc_of_counts(counts: np.ndarray) -> np.ndarray:
    """Matthews, "Comparison of the predicted and observed secondary structure of T4 phage lysozyme", 1975: (..., 4) of
    true ups, true downs, false ups, false downs to (...)."""
    tp, tn, fp, fn = np.moveaxis(np.asarray(counts, float), -1, 0)
    product = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.where(product == 0, 0.0, (tp * tn - fp * fn) / np.where(product == 0, 1.0, product))


def day_sums(values: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Sums of values (N, C) over the samples of each of the D dates, (D, C)."""
    days, day = np.unique(dates, return_inverse=True)
    sums = np.zeros((len(days), values.shape[1]))
    np.add.at(sums, day, values)
    return sums


def draw_days(days: int, seed: int, draws: int = 2000) -> np.ndarray:
    """How often each of D days is in each of K samples of D days with replacement, (K, D): Efron's bootstrap with a day
    as the unit, since the stocks of one day are not independent."""
    return np.random.default_rng(seed).multinomial(days, np.full(days, 1 / days), draws)


def movement_scores(predicted: np.ndarray, actual: np.ndarray, dates: np.ndarray, seed: int = 0) -> dict[str, float]:
    """accuracy, mcc, accuracy_sigma (binomial), and 95 % intervals by days: accuracy_low, .._high, mcc_low, .._high."""
    share = accuracy(predicted, actual)
    sums = day_sums(outcomes(predicted, actual), dates)  # (D, 4)
    drawn = draw_days(len(sums), seed) @ sums  # (K, 4)
    scores = {"accuracy": share, "mcc": mcc(predicted, actual), "accuracy_sigma": binomial_sigma(share, len(actual))}
    for name, values in (("accuracy", drawn[:, :2].sum(1) / drawn.sum(1)), ("mcc", mcc_of_counts(drawn))):
        scores[f"{name}_low"], scores[f"{name}_high"] = (float(q) for q in np.quantile(values, [0.025, 0.975]))
    return scores


def gain(correct: np.ndarray, other: np.ndarray, dates: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Difference of two mean accuracies on the same samples, with its 95 % interval by days: (difference, low, high).

    correct, other: (N,), for each sample the share of trainings that got it right.
    """
    sums = day_sums(np.stack([correct - other, np.ones(len(dates))], 1), dates)  # (D, 2)
    drawn = draw_days(len(sums), seed) @ sums
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float((correct - other).mean()), float(low), float(high)
