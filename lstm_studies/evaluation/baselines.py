"""Baselines for reconstruction: the training mean, and PCA as the best linear autoencoder."""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from lstm_studies.evaluation.comparison import OURS


class PCA(NamedTuple):
    """Principal components of training data, in float64: x~ = mean + (x - mean) V V^T."""

    mean: Tensor  # (D,)
    components: Tensor  # (D, Z), orthonormal columns, largest variance first

    def reconstruct(self, x: Tensor) -> Tensor:
        """x (N, ...) with D values per row, back from its Z principal components, in x's shape."""
        centred = x.flatten(1).double() - self.mean
        return (self.mean + centred @ self.components @ self.components.T).view(x.shape)


def fit_pca(x: Tensor, code_size: int) -> PCA:
    """PCA of x (N, ...), flattened to (N, D), with min(code_size, D) components.

    Among all linear encoders and decoders with a code of this size it has the least squared error on x.
    """
    flat = x.flatten(1).double()
    mean = flat.mean(0)
    _, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean))  # eigenvalues ascending
    return PCA(mean, vectors.flip(1)[:, :code_size])


def reconstruction_baselines(training: Tensor, test: Tensor, code_size: int) -> dict[str, float]:
    """Mean squared test errors of the training mean, and of PCA with as many components as the code has values."""
    pca = fit_pca(training, code_size)
    return {
        "pca_mse": mse(pca.reconstruct(test), test),
        "mean_mse": mse(pca.mean.view(test.shape[1:]).expand_as(test), test),
    }


def beside_pca(
    ours: list[Tensor], train: Tensor, validation: Tensor, test: Tensor, code_size: int
) -> tuple[dict[str, dict], dict[str, Tensor]]:
    """The metrics of PCA, and the squared errors (trainings, N) of our reconstructions (N, T) and its own, by name."""
    began = time.perf_counter()
    pca = fit_pca(train, code_size)
    row = {f"{name}_mse": mse(pca.reconstruct(x), x) for name, x in (("test", test), ("val", validation))}
    rows = {"pca": {"seconds": round(time.perf_counter() - began, 1), "code_size": code_size, **row}}
    restored = {OURS: ours, "pca": [pca.reconstruct(test)]}
    errors = {name: torch.stack([(x - test).double().square().mean(1) for x in own]) for name, own in restored.items()}
    return rows, errors


def standard_error(errors: Tensor) -> float:
    """Standard error of the mean of errors (N,)."""
    return (errors.std() / len(errors) ** 0.5).item()


def mse(estimate: Tensor, target: Tensor) -> float:
    return (estimate.double() - target.double()).square().mean().item()
