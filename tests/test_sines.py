"""Sums of sines: their analytic code is exact, and their linear prediction has no error."""

import pytest
import torch

from lstm_ae_toy import linear_prediction
from lstm_studies.evaluation.sines import fitted_sines, prediction_errors
from lstm_studies.loaders.toy import toy_signals


@pytest.mark.parametrize("sines", [1, 2, 3])
def test_fitted_sines_are_the_sequence(sines):
    time = torch.arange(40, dtype=torch.float64)
    x = sum((k + 1) * torch.sin(0.4 * (k + 1) * time + k) for k in range(sines)).repeat(2, 1) + torch.tensor(
        [[3], [-1]]
    )
    torch.testing.assert_close(fitted_sines(x, sines), x, rtol=0, atol=1e-9)


def test_noise_is_no_sum_of_sines():
    x = torch.rand(20, 50, generator=torch.Generator().manual_seed(0))
    fitted = fitted_sines(x)
    assert 0.1 < (fitted - x).square().mean() / x.var() < 1  # ten of 50 values are fitted
    assert linear_prediction(x).mean() > 0.01


def test_prediction_errors_by_hand():
    x, weights = torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.tensor([[2.0]])  # twice the step before, or after
    assert prediction_errors(x, weights).tolist() == [[9.0, 36.0, 196.0, 1.0]]


def test_equal_frequencies_are_one_sine():
    time = torch.arange(50, dtype=torch.float64)
    x = torch.sin(0.3 * time)[None] + torch.sin(0.3 * time + 1)[None]
    torch.testing.assert_close(fitted_sines(x), x, rtol=0, atol=1e-6)


def test_generated_waves_are_exact_to_single_precision():
    x = toy_signals("waves", 500).train.double()
    errors = [(fitted_sines(x) - x).square().mean(1), linear_prediction(x).mean(1)]
    assert all(error.mean() < 1e-12 for error in errors)
    changed = x.clone()
    changed[:, 25] += 0.1
    assert linear_prediction(changed).mean(1).min() > 1e-6
