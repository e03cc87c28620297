"""The LSTM with samples last: equal to nn.LSTM, in both of its ways, with its gradients and derivatives of them."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lstm_studies.models.samples_last_lstm import FEW_UNITS, SamplesLastLSTM

SIZES = [1, 4, FEW_UNITS, FEW_UNITS + 1]  # units, of both ways


def both(units, features=3, dtype=torch.float64):
    """The LSTM, and nn.LSTM with the same weights; both biases are at random."""
    torch.manual_seed(0)
    model = SamplesLastLSTM(features, units).to(dtype)
    reference = nn.LSTM(features, units).to(dtype)
    reference.load_state_dict(model.state_dict())
    return model, reference


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (5, 7)])
def test_states_and_gradients_are_those_of_nn_lstm(units, steps, batch):
    model, reference = both(units)
    x, into = torch.randn(3, steps, batch).double(), torch.randn(units, steps, batch).double()
    x.requires_grad_()
    h = model(x)
    (h * into).sum().backward()
    gradient, x.grad = x.grad, None
    expected = reference(x.permute(1, 2, 0))[0].permute(2, 0, 1)
    (expected * into).sum().backward()
    assert h.is_contiguous()
    torch.testing.assert_close(h, expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(gradient, x.grad, atol=1e-14, rtol=1e-12)
    for (name, parameter), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        if steps > 1 or name != "weight_hh_l0":  # which one step does not use
            torch.testing.assert_close(parameter.grad, other.grad, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("units", SIZES)
def test_first_and_second_derivatives_against_differences(units):
    model, _ = both(units, features=2)
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = [p.detach().requires_grad_() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def states(x, *weights):
        return torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(states, (x, *weights))
    if units == 4:
        assert torch.autograd.gradgradcheck(states, (x, *weights))


@pytest.mark.parametrize("units", SIZES)
def test_second_derivatives_in_float32(units):
    """Those of the kernel of nn.LSTM too are computed, not taken for zero."""
    model, _ = both(units, dtype=torch.float32)
    x, found = torch.randn(3, 5, 2), []
    for dtype in (torch.float32, torch.float64):
        inputs = x.to(dtype).requires_grad_()
        (gradient,) = torch.autograd.grad(model.to(dtype)(inputs).square().sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), inputs)[0])
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-4, atol=1e-6)
    assert found[1].abs().max() > 1e-3


def test_names_of_weights_copies_and_files():
    model, reference = both(4)
    x = torch.randn(3, 5, 2, dtype=torch.float64)
    assert list(model.state_dict()) == list(reference.state_dict())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("units", SIZES)
def test_a_sample_does_not_depend_on_the_others(units):
    model, _ = both(units)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    h = model(x)
    torch.testing.assert_close(torch.cat([model(x[:, :, :3]), model(x[:, :, 3:])], 2), h, atol=1e-14, rtol=0)
    x[:, :, 4:] += 1
    torch.testing.assert_close(model(x)[:, :, :4], h[:, :, :4], atol=1e-14, rtol=0)
    later = x.clone()
    later[:, 3:] += 1
    torch.testing.assert_close(model(later)[:, :3], model(x)[:, :3], atol=1e-14, rtol=0)
