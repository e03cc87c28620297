"""Accuracy of classifiers on sequences that were perturbed, made noisy, cut short or had steps removed.

Every function takes M trained `LSTMClassifier`s and a batch (x (N, T, I), lengths (N,), labels (N,)) and returns the
accuracy of each of the models on it, (M,); for several sizes of the perturbation (R, M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from Classifier import LSTMClassifier, is_step
from lstm_studies.models.adversarial import find_perturbation

RADII = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of a perturbation of v, in norms of v
RADII_OF_SEVERAL_STEPS, STEPS = (0.0, 0.1, 0.2, 0.3), 5  # of projected gradient ascent
NOISES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # standard deviations of noise on the input
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the steps of an utterance
MISSING = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
Models = Sequence[LSTMClassifier]
Batch = tuple[Tensor, Tensor, Tensor]


def all_tests(models: Models, batch: Batch, seed: int) -> dict[str, tuple[tuple[float, ...], Tensor]]:
    """Each test by name: the sizes of its perturbation (R,), and the accuracies (R, M)."""
    return {
        "attack": (RADII, accuracies_under_attack(models, batch, RADII, 1)),
        f"attack_{STEPS}_steps": (
            RADII_OF_SEVERAL_STEPS,
            accuracies_under_attack(models, batch, RADII_OF_SEVERAL_STEPS, STEPS),
        ),
        "noise": (NOISES, torch.stack([accuracies_under_noise(models, batch, std, seed) for std in NOISES])),
        "first_share": (SHARES, torch.stack([accuracies_cut_short(models, batch, share) for share in SHARES])),
        "missing_share": (
            MISSING,
            torch.stack([accuracies_with_steps_missing(models, batch, share, seed) for share in MISSING]),
        ),
    }


@torch.no_grad()
def accuracies(models: Models, batch: Batch) -> Tensor:
    x, lengths, labels = batch
    return torch.stack([accuracy(model(x, lengths), labels) for model in models])


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of right classes, of logits (..., N, K) and labels (N,)."""
    return (logits.argmax(-1) == labels).double().mean(-1)


def accuracies_under_attack(models: Models, batch: Batch, radii: Sequence[float], steps: int) -> Tensor:
    """(R, M): with perturbations of v whose norms are `radii` times that of the sequence v, by gradient ascent on the
    loss.

    Every model is attacked by its own gradient. One step goes along the gradient at v, which is the same for all radii.
    """
    return torch.stack([accuracies_of_one(model, batch, radii, steps) for model in models], 1)


def accuracies_of_one(model: LSTMClassifier, batch: Batch, radii: Sequence[float], steps: int) -> Tensor:
    x, lengths, labels = batch
    with torch.no_grad():
        v, lengths = model.features(x, lengths)
        v = v.masked_fill(~is_step(v, lengths).unsqueeze(2), 0.0)  # what no LSTM sees does not count in the norm
    norms = v.flatten(1).norm(dim=1)

    def loss(perturbed: Tensor) -> Tensor:
        return cross_entropy(model.classify(perturbed, lengths), labels, reduction="sum")

    def perturbation(radius: float) -> Tensor:
        return find_perturbation(loss, v, radius * norms, steps) if radius else torch.zeros_like(v)

    along, right = perturbation(1.0) if steps == 1 else None, []
    for radius in radii:
        moved = v + (perturbation(radius) if along is None else radius * along)
        with torch.no_grad():
            right.append(accuracy(model.classify(moved, lengths), labels))
    return torch.stack(right)


def accuracies_under_noise(models: Models, batch: Batch, std: float, seed: int) -> Tensor:
    """With Gaussian noise on the input, the same for all models and, up to its size, for every `std`."""
    x, lengths, labels = batch
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return accuracies(models, (x + std * noise, lengths, labels))


def accuracies_cut_short(models: Models, batch: Batch, share: float) -> Tensor:
    """With the first `share` of each sequence's steps, at least as many as the convolution needs."""
    x, lengths, labels = batch
    return accuracies(models, (x, fewer(models, lengths, share), labels))


def accuracies_with_steps_missing(models: Models, batch: Batch, share: float, seed: int) -> Tensor:
    """Without `share` of each sequence's steps, chosen at random; the others close up. The same for all models."""
    x, lengths, labels = batch
    left = fewer(models, lengths, 1 - share)
    keys = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed))
    keys[~is_step(x, lengths)] = 2.0  # behind every step of the sequence
    ranks = keys.argsort(1).argsort(1)
    is_left = ranks < left.unsqueeze(1)  # (N, T)
    order = torch.argsort(~is_left, dim=1, stable=True)  # the steps that are left first, in their order
    return accuracies(models, (x.gather(1, order.unsqueeze(2).expand_as(x)), left, labels))


def fewer(models: Models, lengths: Tensor, share: float) -> Tensor:
    shortest = models[0].convolution.kernel_size[0]
    return (lengths * share).round().long().clamp_min(shortest).minimum(lengths)
