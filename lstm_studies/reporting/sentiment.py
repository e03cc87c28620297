"""The figures of the sentiment study: calibration, confusion matrices, accuracy against the length of the message."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lstm_studies.evaluation.binary_scores import (
    accuracy_by_length,
    binomial_sigma,
    confusion,
    correct,
    probabilities,
    reliability,
)
from lstm_studies.reporting import plots


def plot_scores(
    folder: Path, logits: Mapping[str, np.ndarray], labels: np.ndarray, lengths: np.ndarray, classes: Sequence[str]
) -> None:
    """The figures of models, given by name with their logits (N,) of messages with labels (N,) and lengths (N,)."""
    logits = {label_of(name): z for name, z in logits.items()}
    calibration = {name: calibration_points(z, labels) for name, z in logits.items()}
    titles = f"predicted probability of {classes[1]}", f"share of {classes[1]} messages"
    plots.points(folder / "calibration.png", calibration, *titles, diagonal="perfect calibration")
    plots.confusion(folder / "confusion.png", {name: confusion(z, labels) for name, z in logits.items()}, classes)
    accuracies = {name: accuracy_by_length(correct(z, labels), lengths) for name, z in logits.items()}
    plots.points(folder / "lengths.png", accuracies, "length of the message (tokens)", "test accuracy")


def label_of(model: str) -> str:
    """The name of a model in a figure."""
    return "LSTM" if model == "lstm" else model.replace("_", " ")


def calibration_points(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of class 1 and its sigma per bin of probabilities."""
    bins = reliability(probabilities(logits), labels)
    return bins["probability"], bins["share"], binomial_sigma(bins["share"], bins["count"])
