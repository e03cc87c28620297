"""Accuracy on perturbed sequences: against models whose answers are known, and against the definitions."""

import pytest
import torch

from Classifier import LSTMClassifier
from lstm_studies.models.adversarial import compute_perturbation
from lstm_studies.models.robustness import (
    accuracies,
    accuracies_cut_short,
    accuracies_under_attack,
    accuracies_under_noise,
    accuracies_with_steps_missing,
)

LENGTHS = torch.tensor([5, 9, 7, 8])


@pytest.fixture
def models():
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(LSTMClassifier(4, 6, 3, 5, bidirectional=True).eval())
    return models


@pytest.fixture
def batch(models):
    """Four sequences, labelled as the first model has it: its accuracy is 1."""
    x = torch.randn(4, 9, 4, generator=torch.Generator().manual_seed(3))
    x[torch.arange(9) >= LENGTHS.unsqueeze(1)] = 0
    with torch.no_grad():
        labels = models[0](x, LENGTHS).argmax(1)
    return x, LENGTHS, labels


def by_hand(models, x, lengths, labels):
    with torch.no_grad():
        return torch.stack([(model(x, lengths).argmax(1) == labels).double().mean() for model in models])


def test_each_model_has_its_own_accuracy(models, batch):
    found = accuracies(models, batch)
    assert found[0] == 1 and torch.equal(found, by_hand(models, *batch))


def test_nothing_changed_is_nothing_lost(models, batch):
    clean = accuracies(models, batch)
    assert torch.equal(accuracies_under_attack(models, batch, [0.0], 3)[0], clean)
    assert torch.equal(accuracies_under_noise(models, batch, 0.0, 1), clean)
    assert torch.equal(accuracies_cut_short(models, batch, 1.0), clean)
    assert torch.equal(accuracies_with_steps_missing(models, batch, 0.0, 1), clean)


def test_an_attack_of_one_step_goes_along_the_gradient_of_each_model(models, batch):
    x, lengths, labels = batch
    expected = []
    for model in models:
        v, steps = model.features(x, lengths)
        v = v.detach()
        v[torch.arange(v.shape[1]) >= steps.unsqueeze(1)] = 0
        v.requires_grad_()
        r = compute_perturbation(torch.nn.functional.cross_entropy(model.classify(v, steps), labels), v)
        norms = v.detach().flatten(1).norm(dim=1)[:, None, None]
        with torch.no_grad():
            expected.append((model.classify(v + 0.8 * norms * r, steps).argmax(1) == labels).double().mean())
    unmoved, moved = accuracies_under_attack(models, batch, [0.0, 0.8], 1)
    assert torch.equal(moved, torch.stack(expected)) and moved[0] < 1
    assert torch.equal(unmoved, accuracies(models, batch))


def test_a_strong_attack_of_several_steps_is_at_least_as_strong(models, batch):
    one, many = (accuracies_under_attack(models, batch, [2.0], steps)[0] for steps in (1, 10))
    assert (many <= one).all() and many[0] < 1


def test_sequences_are_cut_at_their_ends_and_never_below_the_kernel(models, batch):
    x, _, labels = batch
    assert torch.equal(accuracies_cut_short(models, batch, 0.6), by_hand(models, x, torch.tensor([3, 5, 4, 5]), labels))
    assert torch.equal(accuracies_cut_short(models, batch, 0.1), by_hand(models, x, torch.tensor([3] * 4), labels))


def test_missing_steps_close_up_in_their_order():
    """A model that counts: v is the step's number, and its LSTM is replaced by what it is given."""
    seen = {}

    class Spy(LSTMClassifier):
        def forward(self, x, lengths):
            seen.update(x=x[:, :, 0], lengths=lengths)
            return torch.zeros(len(x), 2)

    x = torch.arange(1.0, 11).view(1, 10, 1).repeat(50, 1, 1)
    lengths = torch.full((50,), 8)
    accuracies_with_steps_missing([Spy(1, 2, 2, 2)], (x, lengths, torch.zeros(50, dtype=torch.long)), 0.25, 0)
    assert seen["lengths"].tolist() == [6] * 50
    left = seen["x"][:, :6]
    assert (left.diff(dim=1) > 0).all() and left.max() <= 8  # in order, none of the padding
    assert len({tuple(row) for row in left.tolist()}) > 10  # other steps in each sequence


def test_noise_is_the_same_for_the_same_seed(models, batch):
    assert torch.equal(accuracies_under_noise(models, batch, 3.0, 1), accuracies_under_noise(models, batch, 3.0, 1))
    assert min(accuracies_under_noise(models, batch, 30.0, seed)[0] for seed in range(5)) < 1
