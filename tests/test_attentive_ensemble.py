"""Models trained together become what each becomes alone; the written-out backward pass against autograd."""

import pytest
import torch

from adv_alstm import AdvALSTM
from lstm_studies.models import attentive_ensemble
from lstm_studies.models.attentive_ensemble import fit_together, represent, score

KINDS = [
    {},
    {"epsilon": 0.3, "beta": 0.5, "l2": 0.1},
    {"attention": False, "l2": 0.5},
    {"hinge": False, "epsilon": 0.3, "beta": 1.0},
    {"random_perturbations": True, "epsilon": 0.5, "beta": 1.0},
    {"adversarial_training": False, "l2": 1.0},
]


def data(count=300, steps=4, features=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, steps, features, generator=generator)
    return x, (x[:, -1, 0] + 0.5 * torch.randn(count, generator=generator) > 0).long()


def stacked(models):
    states = [model.state_dict() for model in models]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def with_ones(x):
    """(T, 1, I + 1, B) of (B, T, I)."""
    return torch.cat([x, torch.ones_like(x[..., :1])], 2).permute(1, 2, 0).unsqueeze(1)


@pytest.mark.parametrize("attention", [True, False])
def test_network_and_gradients_against_autograd(attention):
    """Scores and the gradient of every weight, in float64, for models of other weights each."""
    torch.manual_seed(0)
    models = [AdvALSTM(5, attention=attention).build(3).double() for _ in range(3)]
    for model in models:
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter) * parameter.requires_grad  # biases too
    x, into = torch.randn(7, 4, 3, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    w = {name: value.requires_grad_() for name, value in stacked(models).items()}
    scores = score(w, represent(w, with_ones(x).expand(-1, 3, -1, -1)))
    (scores * into).sum().backward()
    for k, model in enumerate(models):
        expected = model(x)
        torch.testing.assert_close(scores[k], expected, atol=1e-12, rtol=0)
        (expected * into[k]).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(w[name].grad[k], parameter.grad, atol=1e-11, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_trained_together_as_trained_alone(kind):
    x, y = data()
    validation = x[200:], y[200:]
    together, alone = ([AdvALSTM(4, **kind) for _ in range(3)] for _ in range(2))
    fit_together(together, x[:200], y[:200], validation, epochs=4, batch_size=64, seeds=[5, 6, 7])
    for model, other, seed in zip(together, alone, (5, 6, 7), strict=True):
        other.fit(x[:200], y[:200], validation, epochs=4, batch_size=64, seed=seed, verbose=0)
        assert model.best_epoch == other.best_epoch and not model.training
        for name, weights in other.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], weights, atol=2e-4, rtol=0)  # Adam enlarges rounding
        for row, expected in zip(model.history.rows(), other.history.rows(), strict=True):
            assert {name: row[name] for name in row} == pytest.approx({name: expected[name] for name in row}, abs=1e-5)


def test_models_that_differ_in_epsilon_beta_and_l2():
    x, y = data()
    arguments = [{"epsilon": 0.5, "beta": 1.0}, {"l2": 2.0}, {"epsilon": 0.0}]
    together = [AdvALSTM(4, **own) for own in arguments]
    fit_together(together, x, y, epochs=2, batch_size=64, seeds=[3, 3, 3])
    for model, own in zip(together, arguments, strict=True):
        alone = AdvALSTM(4, **own)
        alone.fit(x, y, epochs=2, batch_size=64, seed=3, verbose=0)
        torch.testing.assert_close(model.head.weight, alone.head.weight, atol=2e-4, rtol=0)
        assert model.best_epoch == 2 and "val_accuracy" not in model.history.history


def test_more_models_than_train_together(monkeypatch):
    monkeypatch.setattr(attentive_ensemble, "TOGETHER", 2)
    x, y = data(64)
    models, calls = [AdvALSTM(3) for _ in range(3)], []
    fit_together(models, x, y, epochs=2, progress=lambda first, histories: calls.append((first, len(histories))))
    assert calls == [(0, 2), (0, 2), (2, 1), (2, 1)]
    again = [AdvALSTM(3)]
    fit_together(again, x, y, epochs=2, seeds=[2])
    assert torch.equal(again[0].head.weight, models[2].head.weight)


def test_training_goes_on_from_weights_that_are_there():
    x, y = data(64)
    start = AdvALSTM(3, learning_rate=1e-9).build(3)
    model = AdvALSTM(3, learning_rate=1e-9)
    model.load_state_dict(start.state_dict())
    fit_together([model], x, y, epochs=1)
    torch.testing.assert_close(model.head.weight, start.head.weight, atol=1e-6, rtol=0)


def test_the_generators_of_others_are_left_alone():
    x, y = data(64)
    before = torch.get_rng_state()
    fit_together([AdvALSTM(3, random_perturbations=True, epsilon=1.0, beta=1.0)], x, y, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_misuse():
    x, y = data(64)
    for models, message in (
        ([], "at least one"),
        ([AdvALSTM(3), AdvALSTM(4)], "one units"),
        ([AdvALSTM(3), AdvALSTM(3, hinge=False)], "one hinge"),
        ([AdvALSTM(3, dropout=0.5)], "no dropout"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_together(models, x, y)
    with pytest.raises(FloatingPointError, match="not finite"):
        fit_together([AdvALSTM(3, learning_rate=1e30, l2=1.0)], x, y, epochs=5)
