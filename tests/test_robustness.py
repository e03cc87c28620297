"""Accuracy on perturbed sequences: against models whose answers are known, and against the definitions."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from Classifier import LSTMClassifier
from lstm_studies.models import robustness
from lstm_studies.models.adversarial import compute_perturbation
from lstm_studies.models.robustness import (
    area,
    certified_right,
    features,
    right_cut_short,
    right_of,
    right_under_attack,
    right_under_noise,
    right_with_steps_missing,
    scale_of,
    sensitivity,
)
from ProxLSTM import proximal_step

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


@pytest.fixture
def scale(models, batch):
    steps = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(4)) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    return scale_of(steps, batch, models[:1])


def by_hand(models, x, lengths, labels):
    with torch.no_grad():
        return torch.stack([model(x, lengths).argmax(1) == labels for model in models])


def test_each_model_is_right_in_its_own_way(models, batch):
    right = right_of(models, batch)
    assert right[0].all() and torch.equal(right, by_hand(models, *batch)) and not torch.equal(right[0], right[1])


def test_nothing_changed_is_nothing_lost(models, batch, scale):
    clean = right_of(models, batch)
    for where in ("x", "v"):
        for model, right in zip(models, clean, strict=True):
            assert torch.equal(right_under_attack(model, batch, scale, where, [0.0], 3, 0)[0], right)
        assert torch.equal(right_under_noise(models, batch, scale, where, 0.0, 1), clean)
    assert torch.equal(right_cut_short(models, batch, 1.0), clean)
    assert torch.equal(right_with_steps_missing(models, batch, 0.0, 1), clean)


def test_budgets_are_shares_of_norms_in_deviations_of_the_features(models, batch):
    x, lengths, labels = batch
    steps = torch.randn(50, 4, generator=torch.Generator().manual_seed(4)) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    scale = scale_of(steps, batch, models)
    assert torch.allclose(scale.x, steps.std(0))
    own = (x[1, :9] - steps.mean(0)) / steps.std(0)
    assert scale.x_norms[1] == pytest.approx(own.norm().item())
    far = torch.cat([x, torch.full((4, 3, 4), 1e6)], 1)  # padding does not count
    assert torch.allclose(scale_of(steps, (far, lengths, labels), models).x_norms, scale.x_norms)
    of_models = [features(model, batch)[0].flatten(1).norm(dim=1) for model in models]
    assert torch.allclose(scale.v_norms, torch.stack(of_models).mean(0))


def test_an_attack_of_one_step_goes_along_the_gradient_of_each_model(models, batch, scale):
    x, lengths, labels = batch
    for model in models:
        v, steps = (part.detach() for part in features(model, batch))
        v.requires_grad_()
        r = compute_perturbation(cross_entropy(model.classify(v, steps), labels), v)
        z = torch.zeros_like(x).requires_grad_()
        s = compute_perturbation(cross_entropy(model(x + scale.x * z, lengths), labels), z)
        with torch.no_grad():
            of_v = model.classify(v + 0.8 * scale.v_norms.view(-1, 1, 1) * r, steps).argmax(1) == labels
            of_x = model(x + 0.8 * scale.x_norms.view(-1, 1, 1) * scale.x * s, lengths).argmax(1) == labels
        clean = right_of([model], batch)[0]
        for where, moved in (("v", of_v), ("x", of_x)):
            right = right_under_attack(model, batch, scale, where, [0.0, 0.8], 1, 0)
            assert torch.equal(right[0], clean) and torch.equal(right[1], clean & moved)
    assert not of_x.all() and not of_v.all()


@pytest.mark.parametrize("where", ["x", "v"])
def test_several_steps_and_starts_find_at_least_as_much(models, batch, scale, where):
    radii = [0.0, 0.3, 0.6, 2.0]
    one, many = (right_under_attack(models[0], batch, scale, where, radii, steps, 0) for steps in (1, 20))
    assert (many <= one).all() and not many[-1].any()
    assert (many[1:] <= many[:-1]).all()  # what is wrong within a budget is wrong within a larger one


def test_an_attack_stays_within_its_budget(models, batch, scale, monkeypatch):
    """What the model is given differs by the radius at most, in deviations, and not in its padding."""
    x, seen = batch[0], []
    original = LSTMClassifier.forward

    def spy(model, given, lengths):
        seen.append((given.detach(), lengths))
        return original(model, given, lengths)

    monkeypatch.setattr(LSTMClassifier, "forward", spy)
    right_under_attack(models[0], batch, scale, "x", [0.02], 5, 0)
    for given, lengths in seen:
        chosen = [batch[1].tolist().index(length) for length in lengths.tolist()]
        moved = (given - x[chosen]) / scale.x
        assert (moved.flatten(1).norm(dim=1) <= 0.02 * scale.x_norms[chosen] * 1.0001).all()
        assert not moved[torch.arange(9) >= lengths.unsqueeze(1)].any()
    assert len(seen) == 2 * 6  # starts, and steps with the last look


def test_the_area_is_the_mean_over_the_sizes():
    right = torch.tensor([[[True, True]], [[True, False]], [[False, False]]])  # (R, M, N)
    assert area((0.0, 0.1, 0.4), right).tolist() == [[pytest.approx((0.1 + 0.15) / 0.4), pytest.approx(0.05 / 0.4)]]
    assert area((1.0, 0.5), torch.ones(2, 1, 3)).tolist() == [[1.0] * 3]


def test_the_cross_validated_accuracy_is_the_area_over_the_sequences_of_all_models(models, batch, monkeypatch):
    monkeypatch.setattr(robustness, "RADII_OF_SEVERAL_STEPS", (0.0, 0.1, 0.4))
    halves = [tuple(part[:1] for part in batch), tuple(part[1:] for part in batch)]
    areas = [robustness.cross_validated([(model, half)]) for model, half in zip(models, halves, strict=False)]
    both = robustness.cross_validated([*zip(models, halves, strict=False)])
    assert both == pytest.approx((areas[0] + 3 * areas[1]) / 4) and 0 < both < 1


def test_a_certified_radius_is_that_of_cohen_and_others(models, batch, scale, monkeypatch):
    """A model that does not look is right in all draws or in none: p >= .001^(1/100), radius .5 Phi^-1(p) = .749."""
    monkeypatch.setattr(robustness, "CERTIFIED", (0.0, 0.74, 0.76))
    with torch.no_grad():
        models[0].linear.weight.zero_()
        models[0].linear.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    x, lengths, _ = batch
    right = certified_right(models[0], (x, lengths, torch.tensor([0, 0, 1, 2])), scale, 0)
    assert right.tolist() == [[True, True, False, False]] * 2 + [[False] * 4]


def test_a_margin_and_its_gradient_are_those_of_the_definition(models, batch):
    x, lengths, labels = batch
    values = sensitivity(models[1], batch)
    margins, of_norms, of_steps = [], [], []
    for n in range(4):
        v, left = models[1].features(x[n : n + 1, : lengths[n]], lengths[n : n + 1])
        v = v.detach().requires_grad_()
        logits = models[1].classify(v, left)[0]
        margin = logits[labels[n]] - max(logits[k] for k in range(3) if k != labels[n])
        (g,) = torch.autograd.grad(margin, v)
        margins.append(margin.item())
        of_norms.append(g.norm().item())
        shares = g[0].square().sum(1) / g.square().sum()
        of_steps.append(1 / shares.square().sum().item())
    for name, expected in (("margin", margins), ("norm_gradient", of_norms), ("effective_steps", of_steps)):
        assert values[name] == pytest.approx(sum(expected) / 4, rel=1e-4)


def test_norms_of_the_proximal_map_are_those_of_its_definition():
    """G and the mapped state by autograd and by `proximal_step`, for sequences of one length and no batch norm."""
    torch.manual_seed(0)
    model = LSTMClassifier(3, 5, 2, 4, 2, mode="ProxLSTM", epsilon=2.0).double().eval()
    x, lengths = torch.randn(2, 4, 3, dtype=torch.float64), torch.tensor([4, 4])
    batch = x, lengths, torch.zeros(2, dtype=torch.long)
    values = sensitivity(model, batch)
    v, weights = model.features(x, lengths)[0].detach(), [w.detach() for w in model.lstm.all_weights[0]]
    assert values["norm_v"] == pytest.approx(v.flatten(1).norm(dim=1).mean().item())
    assert values["norm_weights"] == pytest.approx(weights[0][:15].norm().item())
    state, of_steps = (torch.zeros(2, 5, dtype=torch.float64),) * 2, []
    for t in range(3):

        def s_of(v_t, state=state):
            return proximal_step(v_t, state, weights, 0.0)[1]

        jacobian = torch.autograd.functional.jacobian(s_of, v[:, t])  # (2, 5, 2, 4)
        s = s_of(v[:, t])
        state = proximal_step(v[:, t], state, weights, 2.0)
        for n in range(2):
            G = jacobian[n, :, n]
            mapped = torch.linalg.inv(torch.eye(5) + 2 * G @ G.T) @ G
            of_steps.append([G.norm(), mapped.norm(), state[1][n].norm() / s[n].norm()])
    expected = torch.tensor(of_steps).mean(0).tolist()
    assert [values[name] for name in ("norm_G", "norm_G_mapped", "shrinkage")] == pytest.approx(expected, rel=1e-5)
    assert values["norm_G_mapped"] < values["norm_G"] and values["shrinkage"] < 1


def test_sequences_are_cut_at_their_ends_and_never_below_the_kernel(models, batch):
    x, _, labels = batch
    assert torch.equal(right_cut_short(models, batch, 0.6), by_hand(models, x, torch.tensor([3, 5, 4, 5]), labels))
    assert torch.equal(right_cut_short(models, batch, 0.1), by_hand(models, x, torch.tensor([3] * 4), labels))


def test_missing_steps_close_up_in_their_order():
    """A model that counts: v is the step's number, and its LSTM is replaced by what it is given."""
    seen = {}

    class Spy(LSTMClassifier):
        def forward(self, x, lengths):
            seen.update(x=x[:, :, 0], lengths=lengths)
            return torch.zeros(len(x), 2)

    x = torch.arange(1.0, 11).view(1, 10, 1).repeat(50, 1, 1)
    lengths = torch.full((50,), 8)
    right_with_steps_missing([Spy(1, 2, 2, 2)], (x, lengths, torch.zeros(50, dtype=torch.long)), 0.25, 0)
    assert seen["lengths"].tolist() == [6] * 50
    left = seen["x"][:, :6]
    assert (left.diff(dim=1) > 0).all() and left.max() <= 8  # in order, none of the padding
    assert len({tuple(row) for row in left.tolist()}) > 10  # other steps in each sequence


@pytest.mark.parametrize("where", ["x", "v"])
def test_noise_is_the_same_for_the_same_seed(models, batch, scale, where):
    one, two = (right_under_noise(models, batch, scale, where, 3.0, 1) for _ in range(2))
    assert torch.equal(one, two)
    assert not all(right_under_noise(models, batch, scale, where, 30.0, seed)[0].all() for seed in range(5))


def test_noise_on_the_input_is_in_deviations_of_each_feature():
    seen = {}

    class Spy(LSTMClassifier):
        def forward(self, x, lengths):
            seen["x"] = x
            return torch.zeros(len(x), 2)

    x, lengths = torch.zeros(40, 50, 2), torch.full((40,), 50)
    batch, model = (x, lengths, torch.zeros(40, dtype=torch.long)), Spy(2, 2, 2, 2)
    steps = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 100.0])
    right_under_noise([model], batch, scale_of(steps, batch, [model]), "x", 0.5, 0)
    assert (seen["x"].flatten(0, 1).std(0) / steps.std(0)).tolist() == pytest.approx([0.5, 0.5], rel=0.05)
