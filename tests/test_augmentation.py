"""Augmentation: what it keeps of a sequence, and that it changes the rest."""

import pytest
import torch

from lstm_studies.loaders.augmentation import extended, random_filters, random_mirrors, random_stretches
from lstm_studies.loaders.toy import generate_signals, scale_sequences


def test_random_mirrors_makes_the_four_variants_and_no_other():
    torch.manual_seed(0)
    x = torch.tensor([[0.1, 0.2, 0.9]])
    variants = {tuple(round(v, 4) for v in row) for row in random_mirrors(x.expand(200, 3)).tolist()}
    assert variants == {(0.1, 0.2, 0.9), (0.9, 0.2, 0.1), (0.9, 0.8, 0.1), (0.1, 0.8, 0.9)}


def test_random_stretches_keep_slow_sines_and_the_scale():
    torch.manual_seed(0)
    time = torch.linspace(0, 1, 50)
    x = scale_sequences(torch.sin(2 * torch.pi * (2 * time + torch.rand(20, 1))))[0]
    stretched = random_stretches(x, 25, 50, 50)
    assert stretched.min() >= 0 and stretched.max() <= 1
    torch.testing.assert_close(stretched.mean(1), torch.full((20,), 0.5))
    # each one is offset + a sine of a frequency between 1 and 2 cycles: three unknowns fit it, at the best frequency
    best = torch.full((20,), torch.inf)
    for frequency in torch.linspace(0.9, 2.1, 121):
        angle = 2 * torch.pi * frequency * time
        basis = torch.stack([torch.ones(50), angle.sin(), angle.cos()], 1)
        fitted = basis @ torch.linalg.lstsq(basis, stretched.T).solution
        best = torch.minimum(best, (fitted.T - stretched).square().mean(1))
    assert best.max() < 1e-4
    torch.testing.assert_close(random_stretches(x, 50, 50, 50), x, atol=1e-5, rtol=0)  # the whole sequence: as it was
    assert random_stretches(x, 30, 40, 12).shape == (20, 12)


def test_three_sines_are_extended_as_they_go_on():
    longer = generate_signals("waves", 100, 66)
    x, offset, scale = scale_sequences(longer[:, 8:58])
    error = extended(x, 8) - ((longer - offset) / scale + 0.5)
    assert error.abs().max() < 0.01 and error[:, 4:62].abs().max() < 1e-3
    assert extended(x, 0) is x


@pytest.mark.parametrize("steps", [50, 48])
def test_random_filters_keep_the_frequency_of_a_sine(steps):
    torch.manual_seed(0)
    angle = 2 * torch.pi * 5 * torch.arange(steps) / 50
    x = 0.5 + 0.4 * torch.sin(angle + 6 * torch.rand(20, 1))
    filtered = random_filters(x, 0.3)
    assert filtered.shape == (20, steps - 2)
    basis = torch.stack([angle.sin(), angle.cos()], 1)[1:-1]
    fitted = basis @ torch.linalg.lstsq(basis, filtered.T).solution
    torch.testing.assert_close(fitted.T, filtered, atol=1e-5, rtol=0)
    assert (filtered - (x[:, 1:-1] - 0.5)).abs().amax(1).min() > 0.01  # and change its amplitude or phase
    torch.testing.assert_close(random_filters(x, 0.0), x[:, 1:-1] - 0.5)
