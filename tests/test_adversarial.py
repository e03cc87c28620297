"""Perturbations: their direction, length, and what they leave alone."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from lstm_studies.models.adversarial import compute_perturbation, find_perturbation, random_perturbation


def norms(r):
    return r.flatten(1).norm(dim=1)


def test_by_hand():
    """loss = sum of w v: the gradient is w; (3, 4) has length 5, and zeros stay zero."""
    v = torch.zeros(2, 2, 2, requires_grad=True)
    w = torch.tensor([[[3.0, 0.0], [0.0, -4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    r = compute_perturbation((w * v).sum(), v)
    torch.testing.assert_close(r, torch.tensor([[[0.6, 0.0], [0.0, -0.8]], [[0.0, 0.0], [0.0, 0.0]]]))
    assert not r.requires_grad and v.grad is None


def classifier():
    torch.manual_seed(0)
    return nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)


def losses(v, lengths=None):
    lstm, linear = classifier()
    packed = v if lengths is None else pack_padded_sequence(v, lengths, True, enforce_sorted=False)
    _, (h, _) = lstm(packed)
    return nn.functional.cross_entropy(linear(h[0]), torch.tensor([0, 1, 1]), reduction="none")


def test_is_each_samples_own_gradient():
    """As if the sample were alone, for a sum as for a mean."""
    v = torch.randn(3, 5, 3, requires_grad=True)
    r = compute_perturbation(losses(v).mean(), v)
    torch.testing.assert_close(r, compute_perturbation(losses(v).sum(), v))
    for k in range(3):
        (gradient,) = torch.autograd.grad(losses(v)[k], v)
        torch.testing.assert_close(r[k], gradient[k] / gradient[k].norm())
    torch.testing.assert_close(norms(r), torch.ones(3))


def test_a_small_step_along_it_raises_each_loss_most():
    torch.manual_seed(1)
    v = torch.randn(3, 5, 3, dtype=torch.float64).float().requires_grad_()
    before = losses(v)
    r = compute_perturbation(before.sum(), v)
    along = losses(v + 0.01 * r)
    assert (along > before).all()
    for seed in range(5):
        random = random_perturbation(v, generator=torch.Generator().manual_seed(seed))
        assert (along > losses(v + 0.01 * random)).all()


def test_padded_steps_are_untouched():
    v, lengths = torch.randn(3, 5, 3, requires_grad=True), torch.tensor([2, 5, 4])
    beyond = torch.arange(5) >= lengths.unsqueeze(1)
    for r in (compute_perturbation(losses(v, lengths).mean(), v), random_perturbation(v, lengths)):
        assert not r[beyond].any() and r[~beyond].all()
        torch.testing.assert_close(norms(r), torch.ones(3))


def test_the_graph_is_kept_and_r_is_constant():
    w = torch.randn(2, 3, requires_grad=True)
    v = (2 * w).tanh()  # not a leaf
    loss = v.pow(3).sum()
    r = compute_perturbation(loss, v)
    (loss + (v + 0.1 * r).pow(3).sum()).backward()
    through_v = torch.autograd.grad((2 * w).tanh().pow(3).sum() + ((2 * w).tanh() + 0.1 * r).pow(3).sum(), w)[0]
    torch.testing.assert_close(w.grad, through_v)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30])
def test_tiny_and_huge_gradients_have_length_one(scale):
    v = torch.randn(2, 4, 3, requires_grad=True)
    w = scale * (1 + torch.rand(2, 4, 3))
    r = compute_perturbation((v * w).sum(), v)
    torch.testing.assert_close(norms(r), torch.ones(2))
    torch.testing.assert_close(r, w.double().div(w.double().flatten(1).norm(dim=1).view(2, 1, 1)).float())


def test_nan_stays_visible():
    v = torch.ones(2, 3, requires_grad=True)
    r = compute_perturbation((v * torch.tensor([[torch.nan], [1.0]])).sum(), v)
    assert r[0].isnan().all() and not r[1].isnan().any()


def test_random_directions():
    v = torch.zeros(4000, 2, 2, dtype=torch.float64)
    first, second = (random_perturbation(v, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second) and first.dtype == v.dtype and not first.requires_grad
    torch.testing.assert_close(norms(first), torch.ones(4000, dtype=torch.float64))
    assert first.mean(0).abs().max() < 0.05 and (first.square().mean(0) - 0.25).abs().max() < 0.02  # no direction first
    assert not torch.equal(random_perturbation(v), random_perturbation(v))


def test_lengths_of_zero():
    r = random_perturbation(torch.ones(2, 3, 1), [0, 3])
    assert not r[0].any() and r[1].all()


def test_one_step_is_the_radius_along_the_gradient():
    v = torch.randn(3, 5, 3)
    radius = torch.tensor([0.1, 0.0, 2.0])
    leaf = v.clone().requires_grad_()
    r = compute_perturbation(losses(leaf).sum(), leaf)
    found = find_perturbation(lambda v: losses(v).sum(), v, radius, 1)
    torch.testing.assert_close(found, radius[:, None, None] * r)


def test_several_steps_stay_in_the_ball_and_raise_the_loss_more_than_one():
    torch.manual_seed(2)
    v = 0.3 * torch.randn(3, 5, 3)
    one, many = (find_perturbation(lambda v: losses(v).sum(), v, 1.5, steps) for steps in (1, 20))
    assert (norms(many) <= 1.5 + 1e-5).all() and (norms(many) > 1.2).all()
    assert losses(v + many).sum() > losses(v + one).sum() > losses(v).sum()


def test_a_quadratic_bowl_by_hand():
    """The loss |v - t|^2 inside the ball |p| <= 1 is largest straight away from t."""
    target = torch.tensor([[3.0, 4.0]])
    found = find_perturbation(lambda v: (v - target).square().sum(), torch.zeros(1, 2), 1.0, 10)
    torch.testing.assert_close(found, torch.tensor([[-0.6, -0.8]]))


def test_a_model_may_hold_v_itself():
    class Model(nn.Module):
        v = None

    model = Model()
    model.v = torch.tensor([[3.0, -4.0]], requires_grad=True)
    torch.testing.assert_close(compute_perturbation(model.v.square().sum() / 2, model), torch.tensor([[0.6, -0.8]]))
    model.v = None
    with pytest.raises(ValueError, match="of this Model, found 0"):
        compute_perturbation(torch.zeros(()), model)


def test_refused():
    v = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match="does not depend on it"):
        compute_perturbation(torch.ones((), requires_grad=True) * 2, v)
    with pytest.raises(ValueError, match=r"single number.*not \(2,\)"):
        compute_perturbation(v.sum(1), v)
    with pytest.raises(ValueError, match="require a gradient"):
        compute_perturbation(v.sum(), v.detach())
    with pytest.raises(ValueError, match=r"a batch.*not of the shape \(3,\)"):
        random_perturbation(torch.zeros(3))
    for lengths, message in (
        ([1], r"\(2,\), not \(1,\)"),
        ([1, 4], r"in 0\.\.3, not 1\.\.4"),
        ([-1, 2], r"in 0\.\.3, not -1\.\.2"),
        ([1, 2.7], r"whole numbers, not \[1\.0, 2\.7"),
    ):
        with pytest.raises(ValueError, match=message):
            random_perturbation(v, lengths)
