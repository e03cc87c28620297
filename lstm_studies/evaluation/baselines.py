"""Baselines for reconstruction: the training mean, and PCA as the best linear autoencoder."""

from typing import NamedTuple

import torch
from torch import Tensor


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


def mse(estimate: Tensor, target: Tensor) -> float:
    return (estimate.double() - target.double()).square().mean().item()
