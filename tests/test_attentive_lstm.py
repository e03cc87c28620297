"""The attentive LSTM: forward pass, adversarial examples and losses by hand, the estimator's promises, its errors."""

import inspect
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from adv_alstm import AdvALSTM
from lstm_studies import TemporalAttention
from lstm_studies.models.published_alstm import convert_published
from lstm_studies.training.checkpoint import CheckpointError

SIGNATURE = (
    "(units: int, epsilon: float = 0.001, beta: float = 0.05, learning_rate: float = 0.01, "
    "dropout: float | None = None, l2: float | None = None, attention: bool = True, hinge: bool = True, "
    "adversarial_training: bool = True, random_perturbations: bool = False)"
)


def make(units=3, features=2, seed=0, **arguments):
    torch.manual_seed(seed)
    return AdvALSTM(units, **arguments).build(features).double()


def data(count=64, steps=4, features=3, seed=0):
    """Samples whose class is the sign of the last step's first feature."""
    x = torch.randn(count, steps, features, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, -1, 0] > 0).long()


def test_signature_and_defaults():
    assert str(inspect.signature(AdvALSTM)) == SIGNATURE
    assert issubclass(AdvALSTM, torch.nn.Module)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward_by_hand(model, x):
    """Score, representation and attention weights of one sample (T, I) in NumPy, step by step."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    units = model.units
    h = c = np.zeros(units)
    states = []
    for x_t in x:
        m = np.tanh(p["mapping.weight"] @ x_t + p["mapping.bias"])
        gates = p["lstm.weight_ih_l0"] @ m + p["lstm.weight_hh_l0"] @ h + p["lstm.bias_ih_l0"]
        i, f, g, o = gates.reshape(4, units)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    e, alpha = h, None
    if model.attention:
        scores = [
            p["attention_vector"] @ np.tanh(p["attention_layer.weight"] @ h + p["attention_layer.bias"]) for h in states
        ]
        alpha = np.exp(scores) / np.exp(scores).sum()
        e = np.concatenate([h, sum(a * h for a, h in zip(alpha, states, strict=True))])
    return (p["head.weight"] @ e + p["head.bias"])[0], e, alpha


@pytest.mark.parametrize("attention", [True, False])
def test_forward_pass_by_hand(attention):
    model = make(attention=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)  # biases too
    x = torch.randn(5, 4, 2, dtype=torch.float64)
    scores, e = model(x), model.represent(x)
    for k in range(5):
        score, representation, alpha = forward_by_hand(model, x[k].numpy())
        assert scores[k].item() == pytest.approx(score, abs=1e-12)
        np.testing.assert_allclose(e[k].detach(), representation, atol=1e-12)
        if attention:
            np.testing.assert_allclose(model.weights_of_steps(model.hidden_states(x))[:, k].detach(), alpha, atol=1e-12)
    assert e.shape == (5, 6 if attention else 3)


def test_attention_by_hand():
    """Two steps and one unit: alpha_1 / alpha_2 = exp(u (tanh(w h_1 + b) - tanh(w h_2 + b)))."""
    model = make(1, 1)
    with torch.no_grad():
        model.attention_layer.weight.fill_(2.0)
        model.attention_layer.bias.fill_(-0.5)
        model.attention_vector.fill_(3.0)
    alpha = model.weights_of_steps(torch.tensor([[[0.5], [0.25]]], dtype=torch.float64))
    ratio = math.exp(3 * (math.tanh(0.5) - math.tanh(0.0)))
    assert alpha.tolist() == [[pytest.approx(ratio / (1 + ratio))], [pytest.approx(1 / (1 + ratio))]]


def head_by_hand(**arguments):
    """A model whose head is w = (3, 4), c = 0.5, for representations of two values."""
    model = make(2, attention=False, **arguments)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[3.0, 4.0]]))
        model.head.bias.fill_(0.5)
    return model


def test_the_attention_is_a_layer_of_any_recurrent_network():
    """With the weights of a model, by their names, it gives the attention half of the model's representation."""
    model, x = make(3), torch.randn(5, 4, 2, dtype=torch.float64)
    layer = TemporalAttention(3).double()
    weights = {name: value for name, value in model.state_dict().items() if name in layer.state_dict()}
    assert len(weights) == 3
    layer.load_state_dict(weights)
    h = model.hidden_states(x)  # (U, T, B)
    a, alpha = layer(h.permute(2, 1, 0))
    assert torch.equal(a, model.represent(x)[:, 3:]) and torch.equal(alpha, model.weights_of_steps(h).T)
    assert a.shape == (5, 3) and alpha.shape == (5, 4)
    vector, weight, bias = TemporalAttention(64).parameters()
    assert max(weight.abs().max(), vector.abs().max()) <= (6 / 128) ** 0.5 and not bias.any()


def test_adversarial_example_by_hand():
    model = head_by_hand(epsilon=0.1)
    e = torch.tensor([[0.1, 0.0], [0.1, 0.0], [1.0, 1.0]], dtype=torch.float64)  # scores .8, .8, 7.5
    sign = torch.tensor([1.0, -1.0, 1.0])
    r = model.perturbation(e, sign)
    # -y w / ||w|| where the margin is violated; no gradient where it is not
    np.testing.assert_allclose(r, [[-0.6, -0.8], [0.6, 0.8], [0.0, 0.0]])
    assert not r.requires_grad
    np.testing.assert_allclose(model.scores(e + 0.1 * r).detach(), [0.3, 1.3, 7.5])


def test_losses_by_hand(monkeypatch):
    model = head_by_hand(epsilon=0.1, beta=0.5, l2=0.2)
    e = torch.tensor([[0.1, 0.0], [0.1, 0.0], [1.0, 1.0]], dtype=torch.float64)
    monkeypatch.setattr(model, "represent", lambda x: e)
    found = model.losses(None, torch.tensor([1, 0, 1]))
    clean, adversarial = (0.2 + 1.8 + 0) / 3, (0.7 + 2.3 + 0) / 3
    penalty = 0.2 / 2 * (9 + 16 + 0.25)
    assert found["clean"].item() == pytest.approx(clean) and found["adversarial"].item() == pytest.approx(adversarial)
    assert found["loss"].item() == pytest.approx(clean + penalty + 0.5 * adversarial)
    assert found["accuracy"].item() == pytest.approx(2 / 3)


def test_cross_entropy_by_hand(monkeypatch):
    model = head_by_hand(epsilon=0.1, beta=0.5, hinge=False)
    e = torch.tensor([[0.1, 0.0], [0.1, 0.0]], dtype=torch.float64)  # scores .8
    monkeypatch.setattr(model, "represent", lambda x: e)
    found = model.losses(None, torch.tensor([1, 0]))
    clean = (-math.log(sigmoid(0.8)) - math.log(1 - sigmoid(0.8))) / 2
    adversarial = (-math.log(sigmoid(0.3)) - math.log(1 - sigmoid(1.3))) / 2  # without hinge it is no no-op
    assert found["clean"].item() == pytest.approx(clean) and found["adversarial"].item() == pytest.approx(adversarial)


@pytest.mark.parametrize("attention", [True, False])
def test_hinge_identity(attention):
    """On samples whose margin is violated the adversarial loss is a hinge loss of margin 1 + epsilon ||w||."""
    model = make(attention=attention, epsilon=0.3)
    x, y = torch.randn(200, 4, 2, dtype=torch.float64) * 3, torch.randint(2, (200,))
    with torch.no_grad():
        model.head.weight *= 40  # some margins are satisfied
    sign, e = 2.0 * y - 1, model.represent(x)
    score = model.scores(e)
    perturbed = model.sample_losses(model.scores(e + 0.3 * model.perturbation(e, sign)), sign)
    active = sign * score < 1
    assert 50 < active.sum() < 190
    margin = 1 + 0.3 * model.head.weight.norm()
    torch.testing.assert_close(perturbed[active], torch.relu(margin - sign * score)[active])
    assert (perturbed[~active] == 0).all()


def test_the_perturbation_is_constant_for_the_gradient():
    """The gradients are those of a loss in which r is a number."""
    model = make(epsilon=0.5, beta=1.0, hinge=False)
    x, y = torch.randn(6, 4, 2, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1, 0])
    model.losses(x, y)["loss"].backward()
    sign, w = 2.0 * y - 1, model.head.weight.detach().clone()
    again = make(epsilon=0.5, beta=1.0, hinge=False)
    e = again.represent(x)
    r = -sign[:, None] * w / w.norm()
    both = (
        again.sample_losses(again.scores(e), sign).mean() + again.sample_losses(again.scores(e + 0.5 * r), sign).mean()
    )
    both.backward()
    for parameter, other in zip(model.parameters(), again.parameters(), strict=True):
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, other.grad)


def test_random_perturbations_have_length_one_and_no_direction():
    model = make(random_perturbations=True)
    e = torch.zeros(2000, 6, dtype=torch.float64)
    r = model.perturbation(e, torch.ones(2000))
    torch.testing.assert_close(r.norm(dim=1), torch.ones(2000, dtype=torch.float64))
    assert r.mean(0).abs().max() < 0.05


def test_a_perturbed_sample_has_the_dropout_mask_of_the_clean_one():
    model = make(units=50, dropout=0.5, epsilon=1e-9, beta=1.0).train()
    found = model.losses(torch.randn(8, 4, 2, dtype=torch.float64), torch.randint(2, (8,)))
    assert found["adversarial"].item() == pytest.approx(found["clean"].item(), abs=1e-6)
    assert model.represent(torch.randn(8, 4, 2, dtype=torch.float64)).eq(0).double().mean() > 0.3


# ---- training --------------------------------------------------------------------------------------------------------


def trained(x, y, seed=0, epochs=3, **arguments):
    model = AdvALSTM(4, **arguments)
    model.fit(x, y, epochs=epochs, batch_size=32, seed=seed, verbose=0)
    return model


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilon": 0.0, "beta": 1.0},
        {"epsilon": 1.0, "beta": 0.0},
        {"adversarial_training": False, "beta": 1.0},
        {"epsilon": 0.0, "random_perturbations": True},
        {"beta": 0.0, "random_perturbations": True},
    ],
)
@pytest.mark.parametrize("dropout", [None, 0.3])
def test_without_perturbation_it_is_the_plain_model_bit_for_bit(arguments, dropout):
    x, y = data()
    plain = trained(x, y, adversarial_training=False, l2=0.1, dropout=dropout)
    assert same(trained(x, y, l2=0.1, dropout=dropout, **arguments), plain)
    assert not same(trained(x, y, l2=0.1, dropout=dropout, epsilon=1.0, beta=1.0), plain)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"attention": False},
        {"hinge": False},
        {"random_perturbations": True, "epsilon": 0.1},
        {"adversarial_training": False},
        {"dropout": 0.2},
        {"l2": 0.01, "epsilon": 0.1, "beta": 1.0},
    ],
)
def test_every_kind_of_model_learns(arguments):
    x, y = data(384)
    model = trained(x[:256], y[:256], epochs=15, learning_rate=0.03, **arguments)
    found = model.evaluate(x[256:], y[256:])
    assert found["accuracy"] > 0.85 and found["mcc"] > 0.7 and found["loss"] < 0.6
    assert (model.predict(x[256:]) == y[256:].numpy()).mean() == pytest.approx(found["accuracy"])
    assert model.score(x[256:], y[256:]) == found["accuracy"]
    up = model.predict_proba(x)[:, 1]
    assert (model.predict(x) == (model.decision_function(x).numpy() > 0)).all()
    assert up == pytest.approx(1 / (1 + np.exp(-model.decision_function(x).numpy())), rel=1e-4)


def test_shuffled_labels_give_chance():
    x, y = data(1500, steps=2)
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]
    model = AdvALSTM(4)
    model.fit(x[:1000], y[:1000], (x[1000:1250], y[1000:1250]), epochs=8, batch_size=100)
    assert abs(model.evaluate(x[1250:], y[1250:])["accuracy"] - 0.5) < 0.1  # 3 sigma of 250 samples


def test_the_best_validation_epoch_is_kept():
    x, y = data(256)
    held_out = data(100, seed=1)
    model = AdvALSTM(4)
    history = model.fit(x, y, held_out, epochs=12, batch_size=64)
    curve = history.history["val_accuracy"]
    assert len(curve) == 12 and model.best_epoch == 1 + curve.index(max(curve)) and model.history is history
    assert model.evaluate(*held_out)["accuracy"] == pytest.approx(max(curve))
    assert model.evaluate(*held_out)["loss"] == pytest.approx(history.history["val_loss"][model.best_epoch - 1])
    last = AdvALSTM(4)
    history = last.fit(x, y, epochs=3)
    assert last.best_epoch == 3 and "val_accuracy" not in history.history
    assert history.epoch == [0, 1, 2]


def test_fit_as_in_keras(capsys):
    x, y = data(256)
    seen, model = [], AdvALSTM(4)
    history = model.fit(
        x, y, epochs=4, validation_split=0.25, callbacks=[lambda epoch, logs: seen.append((epoch, logs))]
    )
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3]
    assert [logs["val_accuracy"] for _, logs in seen] == history.history["val_accuracy"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[3].startswith("epoch 4/4  loss ") and "val_accuracy" in lines[3]
    split = AdvALSTM(4)
    split.fit(x[:192], y[:192], (x[192:], y[192:]), epochs=4, verbose=0)
    assert same(model, split) and capsys.readouterr().out == ""


class Callback:
    """The base class of Keras, whose hooks do nothing."""

    def set_params(self, params):
        self.params = params

    def set_model(self, model):
        self.model = model

    def nothing(self, *_):
        raise AssertionError("a hook that nobody has changed")

    on_train_begin = on_epoch_begin = on_epoch_end = on_train_end = on_train_batch_end = on_test_begin = nothing


class KerasLike(Callback):
    def __init__(self):
        self.told = []

    def on_train_begin(self, logs=None):
        self.told.append("train begins")

    def on_epoch_begin(self, epoch, logs=None):
        self.told.append(f"epoch {epoch} begins")

    def on_epoch_end(self, epoch, logs=None):
        logs["test_loss"], logs["test_accuracy"] = self.model.evaluate(*data(8), verbose=0)[:2]
        self.told.append(f"epoch {epoch} ends")

    def on_train_end(self, logs=None):
        self.told.append(f"train ends {sorted(logs)[-1]}")


class Batches(Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


def test_every_hook_of_a_callback_is_called_or_refused():
    x, y = data()
    callback, model = KerasLike(), AdvALSTM(4)
    history = model.fit(x, y, epochs=2, batch_size=30, verbose=0, callbacks=[callback])
    expected = ["train begins", "epoch 0 begins", "epoch 0 ends", "epoch 1 begins", "epoch 1 ends"]
    assert callback.told == [*expected, "train ends test_loss"] and callback.model is model
    assert len(history.history["test_loss"]) == 2
    assert callback.params == history.params == {"epochs": 2, "steps": 3, "verbose": 0}
    with pytest.raises(ValueError, match="not on_train_batch_end"):
        model.fit(x, y, epochs=1, verbose=0, callbacks=[Batches()])


def test_metrics_as_in_keras(capsys):
    x, y = data()
    model = trained(x, y)
    loss, accuracy = model.evaluate(x, y, verbose=0)[:2]
    scores = model.evaluate(x, y, verbose=1)
    assert (scores["loss"], scores["accuracy"]) == (loss, accuracy) == (scores[0], scores[1])
    model.predict(x, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("64 samples  loss ") and lines[1].startswith("64 samples  up ")
    assert (model.predict(x) > 0).astype(int).dtype == np.int64


def test_scikit_learn(tmp_path):
    x, y = (t.numpy() for t in data(120))
    model = trained(x, y, l2=0.1)
    again = clone(model)
    assert again.get_params() == model.get_params() and again.features is None
    with pytest.raises(NotFittedError):
        check_is_fitted(again)
    check_is_fitted(model)
    before = model.predict(x)
    assert model.set_params() is model and np.array_equal(model.predict(x), before)
    with pytest.raises(ValueError, match="units"):
        model.set_params(units=0)
    assert model.units == again.units and np.array_equal(model.predict(x), before)
    assert model.set_params(units=3).features is None and model.units == 3
    with pytest.raises(ValueError, match="not size"):
        model.set_params(size=3)
    pipeline = make_pipeline(FunctionTransformer(lambda x: x / 2), AdvALSTM(4, learning_rate=0.03))
    grid = GridSearchCV(pipeline, {"advalstm__units": [2, 4]}, cv=2)
    quiet = {"advalstm__epochs": 5, "advalstm__verbose": 0, "advalstm__batch_size": 16}
    assert grid.fit(x, y, **quiet).best_params_["advalstm__units"] in (2, 4)
    best = grid.best_estimator_[-1]
    assert get_scorer("roc_auc")(best, x / 2, y) > 0.6
    calibrated = CalibratedClassifierCV(FrozenEstimator(best)).fit(x / 2, y)
    assert calibrated.predict_proba(x / 2).shape == (120, 2)


def test_a_callback_ends_the_training():
    class Stop:
        def set_model(self, model):
            self.model = model

        def on_epoch_end(self, epoch, logs):
            self.model.stop_training = epoch == 1

    x, y = data()
    model = AdvALSTM(4)
    assert model.fit(x, y, epochs=9, verbose=0, callbacks=[Stop()]).epoch == [0, 1]
    assert model.fit(x, y, epochs=3, verbose=0).epoch == [0, 1, 2]  # a second fit is not ended by the first


def test_without_shuffling_the_samples_keep_their_order(monkeypatch):
    x, y = data(10)
    batches = []
    model = AdvALSTM(4).build(3)
    original = model.losses
    monkeypatch.setattr(model, "losses", lambda a, b: batches.append(a) or original(a, b))
    model.fit(x, y, epochs=1, batch_size=4, verbose=0, shuffle=False)
    assert torch.equal(torch.cat(batches), x) and [len(batch) for batch in batches] == [4, 4, 2]


def test_predictions_in_batches_of_any_size():
    x, y = data()
    model = trained(x, y)
    assert (model.predict(x, batch_size=7) == model.predict(x)).all()
    with pytest.raises(ValueError, match="batch_size"):
        model.predict(x, batch_size=0)


def test_a_model_that_was_moved_before_it_has_weights():
    """`to` before the first fit: the weights are made where, and of the kind, that was asked for."""
    x, y = data()
    model = AdvALSTM(4).double()
    model.fit(x, y, epochs=1, verbose=0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model.predict(x).dtype == np.int64 and set(model.state_dict()) == set(AdvALSTM(4).build(3).state_dict())
    assert AdvALSTM(4).to("meta").build(3).head.weight.device.type == "meta"


def test_seeds_decide_and_the_generators_of_others_are_left_alone():
    x, y = data()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = trained(x, y), trained(x, y), trained(x, y, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, again) and not same(first, other)


def test_fit_goes_on_from_weights_it_has():
    x, y = data()
    plain = trained(x, y, adversarial_training=False)
    model = AdvALSTM(4, epsilon=1.0, beta=1.0, learning_rate=1e-9)
    model.load_state_dict(plain.state_dict())
    model.fit(x, y, epochs=1)
    torch.testing.assert_close(model.head.weight, plain.head.weight, atol=1e-6, rtol=0)


def test_arrays_lists_and_labels_of_any_kind():
    x, y = data()
    model = trained(x, y)
    assert same(model, trained(x.double().numpy(), y.numpy().astype(bool)))
    assert same(model, trained(x.numpy(), y.double().tolist()))
    assert same(model, trained(x.numpy(), pd.Series(y.numpy(), index=range(len(y), 0, -1))))
    assert same(model, trained(np.asfortranarray(x.numpy()[::-1])[::-1], y[:, None]))
    assert (model.predict(x.numpy()) == model.predict(x)).all() and model.predict(x).shape == (64,)


def test_later_days_of_others_do_not_matter():
    """A score is a function of its own window: changing other samples changes nothing."""
    x, _ = data()
    model = AdvALSTM(4).build(3).eval()
    scores = model.decision_function(x)
    changed = x.clone()
    changed[10:] += 1
    assert torch.equal(model.decision_function(changed)[:10], scores[:10])
    assert model.attention_weights(x).sum(1).tolist() == pytest.approx([1.0] * 64)


def test_divergence_is_told():
    x, y = data()
    with pytest.raises(FloatingPointError, match="learning rate 1e\\+30"):
        AdvALSTM(4, learning_rate=1e30, l2=1.0).fit(x, y, epochs=5, verbose=0)


def test_perturbed_scores():
    x, y = data()
    model = trained(x, y, epochs=10)
    clean, moved = model.decision_function(x), model.perturbed_scores(x, y, 0.5)
    sign = 2 * y - 1
    active = sign * clean < 1
    shift = 0.5 * model.head.weight.norm().item()
    torch.testing.assert_close((sign * (clean - moved))[active], torch.full((int(active.sum()),), shift))
    torch.testing.assert_close(model.perturbed_scores(x, y, 0.0), clean, atol=1e-6, rtol=0)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y), "(samples, steps, features)"),
        (lambda x, y: (x[:0], y[:0]), "(0, 4, 3)"),
        (lambda x, y: (x, y[:5]), "(64,), one label per sample, not of shape (5,)"),
        (lambda x, y: (x, y[:, None].expand(-1, 2)), "(64, 2)"),
        (lambda x, y: (x, np.array(["down", "up"])[y]), "found "),
        (lambda x, y: (x, 2 * y - 1), "found -1"),
        (lambda x, y: (x, y * 0.5), "found 0.5"),
        (lambda x, y: (x.index_fill(0, torch.tensor(3), math.nan), y), "12 of its 768 values"),
        (lambda x, y: (x.index_fill(1, torch.tensor(0), math.inf), y), "finite"),
    ],
)
def test_bad_samples(change, message):
    x, y = data()
    model = trained(x, y, epochs=1)
    for call in (
        lambda: AdvALSTM(4).fit(*change(x, y)),
        lambda: AdvALSTM(4).fit(x, y, change(x, y), epochs=1),
        lambda: model.evaluate(*change(x, y)),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("random", [False, True])
def test_autocast_is_close_to_float32(random):
    x, y = data()
    model = AdvALSTM(4, random_perturbations=random, dropout=0.0)
    model(x)
    results = []
    for low in (False, True):
        model.zero_grad()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            losses = model.losses(x, y)
        losses["loss"].backward()
        results.append([*losses.values(), model.head.weight.grad.clone()])
    for full, half in zip(*results, strict=True):
        torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


def test_fit_leaves_the_samples_alone():
    x, y = data()
    wanted = x.clone().requires_grad_()
    fixed = x.numpy().copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for samples in (wanted, fixed):
            AdvALSTM(4).fit(samples, y, epochs=1)
    assert wanted.grad is None and (fixed == x.numpy()).all()


def test_a_cluster_that_sets_its_size_changes_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    x, y = data()
    assert AdvALSTM(4).fit(x, y, epochs=1).epoch == [0]


def test_other_misuse():
    x, y = data()
    with pytest.raises(ValueError, match="no weights yet"):
        AdvALSTM(4).predict(x)
    with pytest.raises(ValueError, match="3 features"):
        AdvALSTM(4).build(3).predict(x[:, :, :2])
    with pytest.raises(ValueError, match="attention=True"):
        AdvALSTM(4, attention=False).build(3).attention_weights(x)
    for arguments, message in (
        ({"epochs": 0, "batch_size": 16}, "at least 1, not 0 and 16"),
        ({"validation_split": 1.0}, "validation_split must be a share"),
        ({"validation_split": 0.999}, "one of the parts empty"),
        ({"validation_split": 0.5, "validation_data": (x, y)}, "cannot both be given"),
        ({"callbacks": [3]}, "callbacks must be functions"),
        ({"validation_data": (x, y, y)}, "validation_data must be .X, y., not 3 values"),
    ):
        with pytest.raises(ValueError, match=message):
            AdvALSTM(4).fit(x, y, **arguments)
    with pytest.raises(TypeError, match="class_weight"):
        AdvALSTM(4).fit(x, y, class_weight={})


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"units": 0}, "units"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"beta": math.nan}, "beta"),
        ({"l2": -0.1}, "l2"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"dropout": 1.0}, "dropout"),
        ({"epsilon": math.inf}, "epsilon"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        AdvALSTM(**{"units": 4, **arguments})


# ---- files and published weights -------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    x, y = data()
    model = trained(x, y, l2=0.1, dropout=0.2, attention=False)
    model.save(tmp_path / "model.pt")
    loaded = AdvALSTM.load(tmp_path / "model.pt")
    assert loaded.arguments == model.arguments and same(loaded, model) and not loaded.training
    assert torch.equal(loaded.decision_function(x), model.decision_function(x))
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        AdvALSTM.load(tmp_path / "model.pt")


def test_the_lstm_has_one_bias():
    x, y = data()
    model = trained(x, y)
    assert model.lstm.bias_hh_l0.eq(0).all() and not model.lstm.bias_ih_l0[:4].eq(0).all()
    fresh = AdvALSTM(4).build(3)
    assert fresh.lstm.bias_ih_l0.tolist() == [0] * 4 + [1] * 4 + [0] * 8  # the forget gate


def published(units, features):
    rng = np.random.default_rng(0)
    shapes = {
        "in_fc/kernel": (features, features),
        "in_fc/bias": (features,),
        "rnn/basic_lstm_cell/kernel": (features + units, 4 * units),
        "rnn/basic_lstm_cell/bias": (4 * units,),
        **{"lstm_att/att_W": (units, units), "lstm_att/att_h": (units,), "lstm_att/att_u": (units,)},
        **{"lstm_att/pre_fc/weights": (2 * units, 1), "lstm_att/pre_fc/biases": (1,)},
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def published_score(v, x):
    """The published graph for one sample (T, I): TensorFlow's BasicLSTMCell has gates i, j, f, o and adds 1 to f."""
    units = len(v["rnn/basic_lstm_cell/bias"]) // 4
    h = c = np.zeros(units)
    outputs = []
    for x_t in x:
        m = np.tanh(x_t @ v["in_fc/kernel"] + v["in_fc/bias"])
        gates = np.concatenate([m, h]) @ v["rnn/basic_lstm_cell/kernel"] + v["rnn/basic_lstm_cell/bias"]
        i, j, f, o = np.split(gates, 4)
        c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        outputs.append(h)
    outputs = np.array(outputs)
    scores = np.tanh(outputs @ v["lstm_att/att_W"] + v["lstm_att/att_h"]) @ v["lstm_att/att_u"]
    alpha = np.exp(scores) / np.exp(scores).sum()
    e = np.concatenate([h, (outputs * alpha[:, None]).sum(0)])
    return (e @ v["lstm_att/pre_fc/weights"] + v["lstm_att/pre_fc/biases"])[0]


def test_published_weights():
    variables = published(3, 2)
    model = AdvALSTM(3).double()
    weights = convert_published({name: torch.from_numpy(value) for name, value in variables.items()})
    model.load_state_dict(weights)
    model.double()
    model.load_state_dict(weights)  # all of the double digits
    x = np.random.default_rng(1).normal(size=(4, 5, 2))
    expected = [published_score(variables, sample) for sample in x]
    np.testing.assert_allclose(model(torch.from_numpy(x)).detach(), expected, atol=1e-12)
