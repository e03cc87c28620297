"""How good the probabilities of a classifier of two classes are: accuracy with its sigma, log loss, calibration.

Everywhere: logits (N,) above 0 for class 1, labels (N,) 0 or 1, as arrays; p = 1 / (1 + exp(-logit)).
"""

import numpy as np


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which predictions (N,) are right."""
    return (logits > 0) == (labels > 0.5)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of right predictions."""
    return float(correct(logits, labels).mean())


def wrong_in_all(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which samples (N,) all of several models get wrong; logits (models, N)."""
    return ~np.any([correct(own, labels) for own in logits], axis=0)


def binomial_sigma(share: np.ndarray | float, count: np.ndarray | float) -> np.ndarray | float:
    """Standard deviation of a share of `count` independent trials, sqrt(p (1 - p) / n)."""
    return (share * (1 - share) / count) ** 0.5


def probabilities(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64)))


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log of the probability that the true class got, for each sample."""
    return np.logaddexp(0, -np.asarray(logits, np.float64) * (2.0 * labels - 1))


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the losses; a coin has log 2 = 0.693."""
    return float(losses(logits, labels).mean())


def reliability(p: np.ndarray, right: np.ndarray, bins: int = 10) -> dict[str, np.ndarray]:
    """Per bin of equally wide probabilities p (N,) that holds any: mean probability, share of what is right, count.

    right (N,): whether what has the probability p is the case, such as class 1.
    """
    places = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    held = counts > 0
    means = {"probability": p, "share": np.asarray(right, np.float64)}
    sums = {name: np.bincount(places, values, bins)[held] / counts[held] for name, values in means.items()}
    return {**sums, "count": counts[held]}


def confidence_error(p: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Naeini, Cooper and Hauskrecht 2015): the bins' mean |probability - share|."""
    table = reliability(p, right, bins)
    return float(np.average(np.abs(table["probability"] - table["share"]), weights=table["count"]))


def calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error of the probability of class 1."""
    return confidence_error(probabilities(logits), labels, bins)


def accuracy_by_length(
    right: np.ndarray, lengths: np.ndarray, groups: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean length, accuracy and its sigma in groups of about equally many samples of neighbouring lengths.

    right: which predictions (N,) are right; lengths (N,).
    """
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, groups + 1)[1:-1]))
    place = np.searchsorted(edges, lengths, side="left")
    members = [place == k for k in range(len(edges) + 1) if (place == k).any()]
    shares = np.array([right[own].mean() for own in members])
    sigma = binomial_sigma(shares, np.array([own.sum() for own in members]))
    return np.array([lengths[own].mean() for own in members]), shares, sigma


def platt_scaling(scores: np.ndarray, labels: np.ndarray, iterations: int = 50) -> tuple[float, float]:
    """(slope, intercept) such that slope * score + intercept is a calibrated logit, fitted on scores and labels (N,).

    Platt, "Probabilistic outputs for support vector machines", 1999: a logistic regression by Newton's method, towards
    (n + 1) / (n + 2) and 1 / (m + 2) instead of 1 and 0 for n samples of class 1 and m of class 0. Scores that are all
    alike get the slope 0.
    """
    scores, ones = np.asarray(scores, np.float64), np.asarray(labels) > 0.5
    scale = scores.std() or 1.0
    x = np.stack([(scores - scores.mean()) / scale, np.ones(len(scores))], 1)  # (N, 2)
    target = np.where(ones, (ones.sum() + 1) / (ones.sum() + 2), 1 / ((~ones).sum() + 2))
    weights = np.zeros(2)
    for _ in range(iterations):
        p = probabilities(x @ weights)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        weights += np.linalg.solve(hessian, x.T @ (target - p))
    slope = weights[0] / scale
    return float(slope), float(weights[1] - slope * scores.mean())


def calibration_gain(scores: np.ndarray, labels: np.ndarray, blocks: int = 5) -> float:
    """By how much Platt scaling of scores (N,), in the order of time, lowers the log loss that the share of ones has.

    Each of `blocks` runs of samples is judged by what is fitted on the others. At 0 or below, the scores add nothing.
    """
    scores, ones = np.asarray(scores, np.float64), np.asarray(labels) > 0.5
    gain = 0.0
    for block in np.array_split(np.arange(len(scores)), min(blocks, len(scores))):
        others = np.delete(np.arange(len(scores)), block)
        slope, intercept = platt_scaling(scores[others], ones[others])
        share = (ones[others].sum() + 1) / (len(others) + 2)
        constant = np.full(len(block), np.log(share / (1 - share)))
        gain += len(block) * (
            log_loss(constant, ones[block]) - log_loss(slope * scores[block] + intercept, ones[block])
        )
    return float(gain / len(scores))


def summary(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The numbers that stand in `metrics.json` for test data."""
    share = accuracy(logits, labels)
    return {
        "test_accuracy": share,
        "test_accuracy_sigma": binomial_sigma(share, len(labels)),
        "test_log_loss": log_loss(logits, labels),
        "calibration_error": calibration_error(logits, labels),
    }


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts (2, 2): rows true, columns predicted."""
    counts = np.zeros((2, 2), int)
    np.add.at(counts, ((labels > 0.5).astype(int), (logits > 0).astype(int)), 1)
    return counts
