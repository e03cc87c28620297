"""How good the probabilities of a classifier of several classes are: log loss and calibration.

Letters in shapes: N samples, K classes.
"""

import numpy as np

from lstm_studies.evaluation.binary_scores import confidence_error


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(..., K) of logits or log-probabilities (..., K), in float64."""
    z = np.asarray(logits, np.float64)
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log of the probability that the true class got, (..., N) of logits (..., N, K) and labels (N,) from 0."""
    return -log_softmax(logits)[..., np.arange(len(labels)), labels]


def summary(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The numbers that stand in `metrics.json` for test data: logits or log-probabilities (N, K), labels (N,) from 0.

    The log loss of equally likely classes is log K. The expected calibration error (Naeini, Cooper and Hauskrecht 2015)
    is that of the predicted class: the bins' mean |confidence - accuracy| (Guo, Pleiss, Sun and Weinberger 2017).
    """
    log_p = log_softmax(logits)
    return {
        "test_log_loss": float(losses(logits, labels).mean()),
        "calibration_error": confidence_error(np.exp(log_p.max(1)), log_p.argmax(1) == labels),
    }


def log_probabilities(probabilities: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Finite log-probabilities (N, K) of K = `count` classes, of which a model knows `classes` (k,) only.

    probabilities: (N, k), also zeros. The logarithm of zero is that of the smallest float64.
    """
    whole = np.zeros((len(probabilities), count))
    whole[:, classes] = probabilities
    return np.log(whole.clip(np.finfo(np.float64).tiny))
