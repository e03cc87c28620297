"""The classifier: what each stage computes, that padding never enters, the three modes, and use as a module."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close

from Classifier import MODES, PLACES, LSTMClassifier
from lstm_studies.models.adversarial import compute_perturbation
from lstm_studies.training import checkpoint

LENGTHS = torch.tensor([5, 9, 7])


def make(cls=LSTMClassifier, **options):
    torch.manual_seed(0)
    options = {"input_size": 4, "hidden_size": 6, "classes": 3, "channels": 5, **options}
    return cls(**options).double()


def batch():
    """x (3, 9, 4) with zeros after each end, lengths, labels."""
    x = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[torch.arange(9) >= LENGTHS.unsqueeze(1)] = 0
    return x, LENGTHS, torch.tensor([0, 2, 1])


# ---- stages ----------------------------------------------------------------------------------------------------------


def test_features_by_hand():
    model = LSTMClassifier(input_size=2, hidden_size=3, channels=1, kernel_size=3)
    with torch.no_grad():
        model.convolution.weight.copy_(torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, -1.0]]]))
        model.convolution.bias.fill_(-1.0)
    x = torch.tensor([[[3.0, 4.0], [0.0, 2.0], [5.0, 0.0], [8.0, 6.0]]])
    v, lengths = model.features(x, torch.tensor([4]))
    # of length 1, the steps are (.6 .8) (0 1) (1 0) (.8 .6): .6 + 0 + 3 - 0 - 1 = 2.6; 0 + 2 + 2.4 - .6 - 1 = 2.8
    assert lengths.tolist() == [2]
    assert_close(v, torch.tensor([[[2.6], [2.8]]]))


def test_relu_cuts_what_is_negative():
    model = make()
    with torch.no_grad():
        model.convolution.bias.fill_(-100.0)
    assert not model.features(*batch()[:2])[0].any()


def test_standardised_features():
    model, (x, lengths, _) = make(normalization="standard").eval(), batch()
    before = model(x, lengths)
    steps = torch.cat([x[i, :n] for i, n in enumerate(lengths.tolist())])
    model.set_scale(steps)
    assert_close(model.mean, steps.mean(0))
    assert_close(model.std, steps.std(0))
    assert not torch.allclose(model(x, lengths), before)
    moved = x * torch.tensor([2.0, 3.0, 1.0, 0.5]) + torch.tensor([1.0, 0.0, -5.0, 2.0])
    logits = model(x, lengths)
    model.set_scale(torch.cat([moved[i, :n] for i, n in enumerate(lengths.tolist())]))
    assert_close(model(moved, lengths), logits)
    assert {"mean", "std"} <= model.state_dict().keys()
    model.set_scale(torch.ones(5, 4))
    assert torch.isfinite(model(x, lengths)).all()  # a constant feature
    large = 1e9 + torch.rand(50, 4)  # float32 knows 64 values in between
    model.float().set_scale(large)
    assert ((large - model.mean) / model.std).abs().max() < 1
    model.set_scale(torch.full((5, 4), 7.3))  # constant in training, not later
    assert_close(model.std, torch.ones(4))
    model = model.double()
    model.set_scale(1e-9 * steps)
    small = model(1e-9 * x, lengths)
    model.set_scale(steps)
    assert_close(small, model(x, lengths))  # the unit of the data does not matter


def test_each_step_is_normalised_over_its_features():
    model, (x, lengths, _) = make().eval(), batch()
    louder = x.clone()
    louder[:, 2] *= 7
    assert_close(model(louder, lengths), model(x, lengths))
    other = x.clone()
    other[:, :, 1] *= 7  # a feature over time is not what is normalised
    assert not torch.allclose(model(other, lengths), model(x, lengths))


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"stride": 2}, {"kernel_size": 4, "stride": 3}])
def test_the_whole_model_against_one_sequence_at_a_time(options):
    """Written out with the library's layers and no padding at all."""
    model, (x, lengths, _) = make(**options).eval(), batch()
    logits = model(x, lengths)
    for i, length in enumerate(lengths.tolist()):
        steps = normalize(x[i, :length], dim=1).T.unsqueeze(0)  # (1, I, T)
        v = torch.relu(model.convolution(steps)).transpose(1, 2)
        _, (h, _) = model.lstm(v)
        assert_close(logits[i], model.linear(h.flatten().unsqueeze(0)).squeeze(0))


# ---- padding ---------------------------------------------------------------------------------------------------------


class PackedClassifier(LSTMClassifier):
    """As PyTorch has it for sequences of different lengths: packed, so that padding never enters the LSTM."""

    def last_states(self, v, lengths):
        _, (h, _) = self.lstm(pack_padded_sequence(v, lengths, batch_first=True, enforce_sorted=False))
        return h.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bidirectional": True, "batch_norm_places": PLACES}])
def test_padded_sequences_have_the_loss_and_gradients_of_packed_ones(mode, options):
    results = []
    for cls in (LSTMClassifier, PackedClassifier):
        model = make(cls, mode=mode, epsilon=0.5, **options)
        loss, logits = model.loss(*batch())
        loss.backward()
        results.append([loss, logits, *(p.grad for p in model.parameters()), *model.buffers()])
    assert_close(*results, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_norm_places": PLACES}])
def test_padding_and_order_change_nothing(mode, options):
    model, (x, lengths, _) = make(mode=mode, epsilon=0.5, method="cholesky", **options).eval(), batch()
    logits = model(x, lengths)
    padded = torch.cat([x, torch.zeros(3, 4, 4, dtype=x.dtype)], 1)
    for filling in (1e3, float("nan")):
        padded[torch.arange(13) >= lengths.unsqueeze(1)] = filling
        assert_close(model(padded, lengths), logits, rtol=1e-12, atol=1e-12)
    order = torch.tensor([1, 2, 0])
    assert_close(model(x[order], lengths[order]), logits[order], rtol=1e-12, atol=1e-12)
    assert_close(model(x[:1, :5], lengths[:1]), logits[:1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_training", [True, False])
def test_padding_changes_no_gradient(mode, is_training):
    gradients = []
    for filling in (0.0, 1e3, float("nan")):
        model, (x, lengths, labels) = make(mode=mode, epsilon=0.5, batch_norm_places=PLACES), batch()
        x[torch.arange(9) >= lengths.unsqueeze(1)] = filling
        model.train(is_training).loss(x, lengths, labels)[0].backward()
        gradients.append([p.grad for p in model.parameters()])
    assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-12)
    assert_close(gradients[2], gradients[0], rtol=1e-10, atol=1e-12)


# ---- modes -----------------------------------------------------------------------------------------------------------


def test_the_modes_share_their_parameters():
    models = {mode: make(mode=mode, epsilon=0.5) for mode in MODES}
    names = {mode: [(n, tuple(p.shape)) for n, p in m.state_dict().items()] for mode, m in models.items()}
    assert names["plain"] == names["AdvLSTM"] == names["ProxLSTM"]
    models["ProxLSTM"].load_state_dict(models["plain"].state_dict())


@pytest.mark.parametrize("mode", MODES)
def test_without_epsilon_every_mode_is_the_plain_one(mode):
    results = []
    for model in (make(), make(mode=mode, epsilon=0.0)):
        loss, logits = model.loss(*batch())
        loss.backward()
        results.append([loss, logits, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_epsilon_changes_the_proximal_model_and_not_the_adversarial_ones_output():
    x, lengths, _ = batch()
    plain, adv, prox = (make(mode=mode, epsilon=0.5).eval()(x, lengths) for mode in MODES)
    assert torch.equal(plain, adv) and not torch.allclose(plain, prox)


def test_the_adversarial_loss_is_the_mean_of_clean_and_perturbed_with_a_constant_direction():
    model, (x, lengths, labels) = make(mode="AdvLSTM", epsilon=0.7), batch()
    loss, logits = model.loss(x, lengths, labels)
    found = torch.autograd.grad(loss, list(model.parameters()))
    v, steps = model.features(x, lengths)
    clean = cross_entropy(model.classify(v, steps), labels)
    direction = compute_perturbation(clean, v)
    assert_close(direction.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert not direction.requires_grad
    perturbed = cross_entropy(model.classify(v + 0.7 * direction, steps), labels)
    expected = torch.autograd.grad((clean + perturbed) / 2, list(model.parameters()))
    assert_close(loss, (clean + perturbed) / 2)
    assert_close(logits, model(x, lengths))
    assert_close(found, expected)
    assert perturbed > clean


@pytest.mark.parametrize("steps", [1, 4])
def test_the_loss_with_several_attack_steps_is_by_hand(steps):
    """Each step goes 2.5 epsilon / steps along the gradient where v is by now, and back to the length epsilon."""
    model, (x, lengths, labels) = make(mode="AdvLSTM", epsilon=0.7, attack_steps=steps), batch()
    loss, _ = model.loss(x, lengths, labels)
    v, left = model.features(x, lengths)
    p, size = torch.zeros_like(v), 0.7 * (2.5 / steps if steps > 1 else 1)
    for _ in range(steps):
        moved = (v + p).detach().requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(model.classify(moved, left), labels), moved)
        p = p + size * g / g.flatten(1).norm(dim=1).view(-1, 1, 1)
        p = p * (0.7 / p.flatten(1).norm(dim=1)).clamp_max(1).view(-1, 1, 1)
    clean, perturbed = (cross_entropy(model.classify(z, left), labels) for z in (v, v + p))
    assert_close(loss, (clean + perturbed) / 2)
    found, expected = (
        torch.autograd.grad(value, list(model.parameters())) for value in (loss, (clean + perturbed) / 2)
    )
    assert_close(found, expected)


def test_the_adversarial_loss_with_a_frozen_convolution():
    """As for fine-tuning: the perturbation is that of the same model, and what is frozen stays so."""
    x, lengths, labels = batch()
    free, frozen = (make(mode="AdvLSTM", epsilon=0.5) for _ in range(2))
    frozen.convolution.requires_grad_(False)
    losses = [model.loss(x, lengths, labels)[0] for model in (free, frozen)]
    for loss in losses:
        loss.backward()
    assert_close(*losses)
    assert_close(frozen.linear.weight.grad, free.linear.weight.grad)
    assert frozen.convolution.weight.grad is None


def test_several_attack_steps_find_a_larger_loss():
    losses = [make(mode="AdvLSTM", epsilon=3.0, attack_steps=steps).loss(*batch())[0] for steps in (1, 10)]
    assert losses[1] > losses[0] + 1e-3


def test_one_attack_step_changes_no_bit_and_several_leave_the_running_statistics_alone():
    options = {"mode": "AdvLSTM", "epsilon": 0.5, "dropout": 0.3, "batch_norm_places": ("convolution",)}
    results = []
    for more in ({}, {"attack_steps": 1}, {"attack_steps": 3}):
        model = make(**options, **more)
        torch.manual_seed(1)
        loss, _ = model.loss(*batch())
        results.append((loss, {name: value for name, value in model.state_dict().items() if "running" in name}))
    assert torch.equal(results[0][0], results[1][0]) and not torch.equal(results[0][0], results[2][0])
    assert_close(results[0][1], results[2][1])


def test_in_evaluation_the_adversarial_loss_is_that_of_the_clean_sequences():
    model, (x, lengths, labels) = make(mode="AdvLSTM", epsilon=0.7).eval(), batch()
    with torch.no_grad():
        assert torch.equal(model.loss(x, lengths, labels)[0], cross_entropy(model(x, lengths), labels))


# ---- dropout and batch norm ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_dropout_acts_at_its_place_and_in_training_only(place):
    model, (x, lengths, _) = make(dropout=0.5, dropout_places=(place,)), batch()
    torch.manual_seed(0)
    first_features, first = model.features(x, lengths)[0], model(x, lengths)
    again_features, again = model.features(x, lengths)[0], model(x, lengths)
    assert torch.equal(first_features, again_features) == (place != "input")
    assert not torch.equal(first, again)
    model.eval()
    assert torch.equal(model(x, lengths), model(x, lengths))
    assert torch.equal(model(x, lengths), make().eval()(x, lengths))


def without_padding(v, lengths):
    """The steps of v (B, T', C) that count (N, C)."""
    return v[torch.arange(v.shape[1]) < lengths.unsqueeze(1)]


def test_noise_is_added_to_the_input_in_training_only():
    model, plain, (x, lengths, _) = make(noise=0.1), make(), batch()
    torch.manual_seed(0)
    v = model.features(x, lengths)
    torch.manual_seed(0)
    assert_close(without_padding(*v), without_padding(*plain.features(x + 0.1 * torch.randn_like(x), lengths)))
    assert torch.equal(model.eval()(x, lengths), make().eval()(x, lengths))


def test_an_offset_is_one_constant_per_sequence_and_feature_in_training_only():
    model, plain, (x, lengths, _) = make(offset=0.5, normalization="standard"), make(normalization="standard"), batch()
    torch.manual_seed(0)
    v = model.features(x, lengths)
    torch.manual_seed(0)
    expected = plain.features(x + 0.5 * torch.randn(3, 1, 4, dtype=x.dtype), lengths)
    assert_close(without_padding(*v), without_padding(*expected))
    assert torch.equal(model.eval()(x, lengths), plain.eval()(x, lengths))


def test_perturbed_sequences_leave_the_running_statistics_alone():
    """A model trained on perturbed sequences too is evaluated with the statistics of the clean ones."""
    results = []
    for mode in ("plain", "AdvLSTM"):
        model = make(mode=mode, epsilon=5.0, batch_norm_places=("convolution", "lstm"))
        model.loss(*batch())
        results.append({name: value for name, value in model.state_dict().items() if "running" in name})
    assert_close(*results)
    assert any(value.abs().max() > 0 for value in results[0].values())


def test_batch_norm_sees_the_steps_of_the_sequences_only():
    model, (x, lengths, _) = make(batch_norm_places=PLACES), batch()
    x[torch.arange(9) >= lengths.unsqueeze(1)] = 1e3
    model(x, lengths)
    steps = torch.cat([normalize(x[i, :n], dim=1) for i, n in enumerate(lengths.tolist())])  # (5 + 9 + 7, I)
    assert_close(model.batch_norms["input"].running_mean, 0.1 * steps.mean(0))
    assert_close(model.batch_norms["input"].running_var, 0.9 + 0.1 * steps.var(0))


@pytest.mark.parametrize("place", PLACES)
def test_batch_norm_stands_at_its_place(place):
    model = make(batch_norm_places=(place,))
    assert {n.split(".")[1] for n in model.state_dict() if n.startswith("batch_norms")} == {place}
    sizes = {"input": 4, "convolution": 5, "lstm": 6}
    assert model.batch_norms[place].num_features == sizes[place]
    with torch.no_grad():
        model.batch_norms[place].weight.zero_()
        model.batch_norms[place].bias.zero_()
    x, other = batch()[0][:2, :5]
    logits = model(torch.stack([x, other]), torch.tensor([5, 5]))  # nothing of the input is left
    assert_close(logits[0], logits[1])
    without = make()(torch.stack([x, other]), torch.tensor([5, 5]))
    assert not torch.allclose(without[0], without[1])


@pytest.mark.parametrize("place", PLACES)
def test_in_evaluation_batch_norm_uses_the_running_statistics(place):
    model, (x, lengths, labels) = make(batch_norm_places=(place,)), batch()
    model.loss(x, lengths, labels)
    norm, x = model.eval().batch_norms[place], x[:1, :5]
    seen = []
    norm.register_forward_hook(lambda norm, inputs, output: seen.append((inputs[0], output)))
    model(x, lengths[:1])
    (before, after), scale = seen[0], (norm.running_var + norm.eps).sqrt()
    assert_close(after, (before - norm.running_mean) / scale)


@pytest.mark.parametrize("mode", ["plain", "AdvLSTM"])
def test_batch_norm_of_a_single_sequence_is_refused_in_training_only(mode):
    model, (x, lengths, labels) = make(mode=mode, epsilon=0.5, batch_norm_places=("lstm",)), batch()
    with pytest.raises(ValueError, match="at least two sequences or steps per training batch, not 1"):
        model.loss(x[:1], lengths[:1], labels[:1])
    assert torch.isfinite(model.eval().loss(x[:1], lengths[:1], labels[:1])[0])


@pytest.mark.parametrize("mode", MODES)
def test_autocast_is_close_to_float32(mode):
    x, lengths, labels = batch()
    results = []
    for enabled in (False, True):
        model = make(mode=mode, epsilon=0.5, bidirectional=True, batch_norm_places=PLACES).float()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, _ = model.loss(x.float(), lengths, labels)
        loss.backward()
        results.append(loss.detach().float())
    assert_close(*results, rtol=0.05, atol=0.05)


# ---- calls as in the course ------------------------------------------------------------------------------------------


def test_the_calls_of_the_course():
    """forward(input, r, batch_size, mode), and r from compute_perturbation(loss, model)."""
    model, (x, lengths, labels) = make(mode="AdvLSTM", epsilon=0.7), batch()
    logits = model(x, None, 3, "AdvLSTM")
    assert_close(logits, model(x, lengths))  # the padding, zeros, is recognised
    r = compute_perturbation(cross_entropy(logits, labels), model)
    v, steps = model.features(x, lengths)
    expected = compute_perturbation(cross_entropy(model.classify(v, steps), labels), v)
    assert_close(r, expected)
    assert_close(model(x, r, 3, "AdvLSTM"), model.classify(v + 0.7 * expected, steps))
    assert_close(model(x, r), model.classify(v + 0.7 * expected, steps))
    assert_close(model(x, r=r, batch_size=3, mode="AdvLSTM"), model(x, r))


@pytest.mark.parametrize("zero", [0, 0.0, torch.tensor(0.0)])
def test_zero_is_no_perturbation(zero):
    model, (x, lengths, labels) = make(mode="AdvLSTM", epsilon=0.7), batch()
    for logits in (model(x, zero, 3, "plain"), model(x, zero), model(x, r=zero, batch_size=3, mode="plain")):
        assert_close(logits, model(x, lengths))
        assert compute_perturbation(cross_entropy(logits, labels), model).shape == (3, 7, 5)


def test_a_perturbation_of_a_model_whose_weights_are_constant():
    model, (x, _, labels) = make(mode="AdvLSTM", epsilon=0.7), batch()
    expected = compute_perturbation(cross_entropy(model(x), labels), model)
    model.requires_grad_(False)
    assert_close(compute_perturbation(cross_entropy(model(x), labels), model), expected)


@pytest.mark.parametrize(("calls", "count"), [(["x, lengths"], 0), (["x", "x"], 2), (["other"], 0)])
def test_a_perturbation_is_that_of_one_call(calls, count):
    model, (x, lengths, labels) = make(), batch()
    logits = {"x, lengths": lambda: model(x, lengths), "x": lambda: model(x), "other": lambda: make()(x)}
    loss = sum(cross_entropy(logits[call](), labels) for call in calls)
    with pytest.raises(ValueError, match=rf"one call model\(x, None, len\(x\)\).*found {count}"):
        compute_perturbation(loss, model)


@pytest.mark.parametrize("mode", MODES)
def test_a_call_leaves_nothing_in_the_model(mode):
    """It can be copied and pickled as before, and v goes with the graph."""
    model, (x, _, labels) = make(mode=mode, epsilon=0.5, bidirectional=True), batch()
    before = pickle.dumps(model)
    logits = model(x, None, len(x), mode)
    r = compute_perturbation(cross_entropy(logits, labels), model)
    assert pickle.dumps(model) == before
    assert_close(copy.deepcopy(model)(x), logits)
    graph = weakref.ref(logits.grad_fn.metadata[model])
    assert graph() is not None
    del logits
    gc.collect()
    assert graph() is None and torch.isfinite(r).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((None, 4, "plain"), "batch_size must be 3.*not 4"),
        ((None, 3, "ProxLSTM"), 'mode is "plain": for the proximal LSTM'),
        ((None, 3, "fgsm"), "plain, AdvLSTM, ProxLSTM"),
        ((torch.zeros(3, 2, 5), 3, "plain"), r"perturbation of v \(3, 7, 5\), not \(3, 2, 5\)"),
        ((0.5, 3, "plain"), r"0 or a perturbation of v \(3, 7, 5\), not \(\)"),
        (([9, 9, 9], None, None, 0), "lengths or r, not both"),
    ],
)
def test_calls_that_do_not_fit(arguments, named):
    with pytest.raises(ValueError, match=named):
        make()(batch()[0], *arguments)


# ---- use -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        lambda lengths: np.array([*lengths, 99])[:-1].astype(np.int32),
        lambda lengths: np.array(lengths[::-1])[::-1],
        lambda lengths: pd.Series([99, *lengths])[1:],
        lambda lengths: torch.tensor(lengths, dtype=torch.int32),
        lambda lengths: torch.tensor(lengths, dtype=torch.float32),
    ],
)
def test_lengths_as_people_have_them(form):
    model, (x, lengths, _) = make().eval(), batch()
    assert torch.equal(model(x, form(lengths.tolist())), model(x, lengths))


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
@pytest.mark.parametrize("wrong", [2.7, float("nan")])
def test_lengths_that_are_not_whole_are_refused(form, wrong):
    with pytest.raises(ValueError, match=r"whole numbers, not \[5.0, 9.0, (2.7|nan)"):
        make()(batch()[0], form([5, 9, wrong]))


@pytest.mark.filterwarnings("ignore")  # of PyTorch about itself
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(
            {"mode": "AdvLSTM", "epsilon": 0.5, "bidirectional": True, "batch_norm_places": PLACES, "dropout": 0.5},
            marks=pytest.mark.reliability,
        ),
        pytest.param({"mode": "ProxLSTM", "epsilon": 0.5, "bidirectional": True}, marks=pytest.mark.reliability),
    ],
)
def test_it_exports_with_any_batch_and_length(options):
    model, (x, lengths, _) = make(normalization="standard", **options).eval(), batch()
    batch_size, steps = torch.export.Dim("batch_size"), torch.export.Dim("steps", min=4)
    shapes = {"x": {0: batch_size, 1: steps}, "lengths": {0: batch_size}}
    exported = torch.export.export(model, (x, lengths), dynamic_shapes=shapes).module()
    assert_close(exported(x, lengths), model(x, lengths))
    longer = torch.randn(5, 14, 4, dtype=x.dtype)
    for count in (1, 5):
        of_longer = longer[:count], torch.tensor([14, 3, 8, 14, 4])[:count]
        assert_close(exported(*of_longer), model(*of_longer))


def test_it_exports_with_one_batch_and_length_as_its_layers():
    model, (x, lengths, _) = make().eval(), batch()
    exported = torch.export.export(model, (x, lengths))
    assert "aten.lstm.input" in {str(node.target) for node in exported.graph.nodes}
    assert torch.equal(exported.module()(x, lengths), model(x, lengths))


def test_a_checkpoint_rebuilds_it(tmp_path):
    options = {"mode": "ProxLSTM", "epsilon": 0.3, "bidirectional": True, "batch_norm_places": ("input",)}
    model = make(**options).float()
    checkpoint.save(tmp_path / "best.pt", {"model": checkpoint.describe(model)})
    again = checkpoint.rebuild(tmp_path / "best.pt", LSTMClassifier)
    x, lengths, _ = batch()
    assert again.mode == "ProxLSTM" and again.epsilon == 0.3
    assert torch.equal(again(x.float(), lengths), model.eval()(x.float(), lengths))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "prox"}, "plain, AdvLSTM, ProxLSTM"),
        ({"epsilon": -1.0}, "-1.0"),
        ({"noise": -1.0}, "-1.0"),
        ({"offset": -1.0}, "-1.0"),
        ({"class_names": ("a",)}, "3 names or none, not 1"),
        ({"attack_steps": 0}, "attack_steps must be at least 1, not 0"),
        ({"normalization": "none"}, "standard, l2"),
        ({"dropout_places": ("conv",)}, "conv"),
        ({"batch_norm_places": ("output",)}, "output"),
    ],
)
def test_wrong_arguments(options, named):
    with pytest.raises(ValueError, match=named):
        make(**options)


@pytest.mark.parametrize(
    ("shape", "lengths", "named"),
    [
        ((2, 9, 3), [9, 9], r"\(B, T, 4\)"),
        ((2, 9, 4), [9], r"\(1,\)"),
        ((2, 9, 4), [9, 2], r"lie in 3\.\.9"),
        ((2, 9, 4), [10, 9], r"lie in 3\.\.9"),
    ],
)
def test_wrong_shapes(shape, lengths, named):
    with pytest.raises(ValueError, match=named):
        make()(torch.zeros(shape, dtype=torch.float64), torch.tensor(lengths))


def test_a_silent_step_is_no_division_by_zero():
    model, (x, lengths, labels) = make(), batch()
    x[:, 1] = 0
    loss, _ = model.loss(x, lengths, labels)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_seeded_start_is_the_librarys():
    """Nothing is initialised by hand: the same seed gives nn.LSTM's own weights."""
    torch.manual_seed(3)
    model = LSTMClassifier(channels=5, hidden_size=4)
    torch.manual_seed(3)
    torch.nn.Conv1d(12, 5, 3)
    lstm = torch.nn.LSTM(5, 4)
    assert all(torch.equal(a, b) for a, b in zip(model.lstm.parameters(), lstm.parameters(), strict=True))
