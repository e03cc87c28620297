"""Accuracy of stacked classifiers on sequences that were perturbed, made noisy, cut short or had steps removed.

Every function takes a `ClassifierStack` and a batch (x (N, T, I), lengths (N,), labels (N,)) and returns the accuracy
of each of the M models on it, (M,); for several sizes of the perturbation (R, M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lstm_studies.models.adversarial import find_perturbation
from lstm_studies.models.classifier_stack import ClassifierStack

Batch = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def accuracies(stack: ClassifierStack, batch: Batch) -> Tensor:
    x, lengths, labels = (tensor.expand(stack.arguments["models"], *tensor.shape) for tensor in batch)
    return is_right(stack(x, lengths), labels)


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(2) == labels).double().mean(1)


def accuracies_under_attack(stack: ClassifierStack, batch: Batch, radii: Sequence[float], steps: int) -> Tensor:
    """(R, M): with perturbations of v whose norms are `radii` times that of the sequence v, by gradient ascent on the
    loss.

    Every model is attacked by its own gradient. One step goes along the gradient at v, which is the same for all radii.
    """
    x, lengths, labels = (tensor.expand(stack.arguments["models"], *tensor.shape) for tensor in batch)
    with torch.no_grad():
        v, lengths = stack.features(x, lengths)
        v[torch.arange(v.shape[2]) >= lengths.unsqueeze(2)] = 0  # what no LSTM sees does not count in the norm
    sequences = v.flatten(0, 1)  # (M N, T, C)
    norms = sequences.flatten(1).norm(dim=1)

    def loss(perturbed: Tensor) -> Tensor:
        logits = stack.classify(perturbed.view_as(v), lengths)
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")

    def perturbation(radius: float) -> Tensor:
        return find_perturbation(loss, sequences, radius * norms, steps) if radius else torch.zeros_like(sequences)

    along, right = perturbation(1.0) if steps == 1 else None, []
    for radius in radii:
        moved = sequences + (perturbation(radius) if along is None else radius * along)
        with torch.no_grad():
            right.append(is_right(stack.classify(moved.view_as(v), lengths), labels))
    return torch.stack(right)


def accuracies_under_noise(stack: ClassifierStack, batch: Batch, std: float, seed: int) -> Tensor:
    """With Gaussian noise on the input, the same for all models and, up to its size, for every `std`."""
    x, lengths, labels = batch
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return accuracies(stack, (x + std * noise, lengths, labels))


def accuracies_cut_short(stack: ClassifierStack, batch: Batch, share: float) -> Tensor:
    """With the first `share` of each sequence's steps, at least as many as the convolution needs."""
    x, lengths, labels = batch
    return accuracies(stack, (x, fewer(stack, lengths, share), labels))


def accuracies_with_steps_missing(stack: ClassifierStack, batch: Batch, share: float, seed: int) -> Tensor:
    """Without `share` of each sequence's steps, chosen at random; the others close up. The same for all models."""
    x, lengths, labels = batch
    left = fewer(stack, lengths, 1 - share)
    keys = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed))
    keys[torch.arange(x.shape[1]) >= lengths.unsqueeze(1)] = 2.0  # behind every step of the sequence
    ranks = keys.argsort(1).argsort(1)
    is_left = ranks < left.unsqueeze(1)  # (N, T)
    order = torch.argsort(~is_left, dim=1, stable=True)  # the steps that are left first, in their order
    return accuracies(stack, (x.gather(1, order.unsqueeze(2).expand_as(x)), left, labels))


def fewer(stack: ClassifierStack, lengths: Tensor, share: float) -> Tensor:
    shortest = stack.stacked.convolution.kernel_size[0]
    return (lengths * share).round().long().clamp_min(shortest).minimum(lengths)
