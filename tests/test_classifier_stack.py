"""A stack of classifiers: each model as if it were alone, in loss, gradients, statistics and predictions."""

import pytest
import torch
from torch.testing import assert_close

from Classifier import MODES, PLACES, LSTMClassifier
from lstm_studies.loaders.ts_files import IGNORED
from lstm_studies.models.classifier_stack import ClassifierStack
from lstm_studies.training import checkpoint

ARGUMENTS = {"input_size": 4, "hidden_size": 6, "classes": 3, "channels": 5}


def make(**options):
    """Three classifiers of different weights and scales."""
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = LSTMClassifier(**{**ARGUMENTS, **options}).double()
        if model.normalization == "standard":
            model.set_scale(1 + seed + (1 + seed) * torch.randn(50, 4, dtype=torch.float64))
        models.append(model)
    return models


def batch():
    """x (3, 5, 9, 4), lengths (3, 5), labels (3, 5): other sequences for each model."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(5, 10, (3, 5), generator=generator)
    lengths[:, 0] = 9
    x = torch.randn(3, 5, 9, 4, generator=generator, dtype=torch.float64)
    x[torch.arange(9) >= lengths.unsqueeze(2)] = 1e3  # padding must not count
    return x, lengths, torch.randint(0, 3, (3, 5), generator=generator)


OPTIONS = [
    {},
    {"bidirectional": True, "normalization": "standard"},
    {"batch_norm_places": PLACES},
    {"bidirectional": True, "batch_norm_places": PLACES, "kernel_size": 2, "stride": 2},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_each_model_is_as_if_it_were_alone(mode, options):
    models = make(mode=mode, epsilon=2.0, **options)
    stack = ClassifierStack.of(models).double()
    x, lengths, labels = batch()
    losses, logits = stack.loss(x, lengths, labels)
    losses.sum().backward()
    for m, model in enumerate(models):
        loss, own = model.loss(x[m], lengths[m], labels[m])
        loss.backward()
        assert_close(losses[m], loss)
        assert_close(logits[m], own, rtol=1e-9, atol=1e-11)
        stacked = dict(stack.stacked.named_parameters())
        for name, parameter in model.named_parameters():
            assert_close(stacked[name].grad[m], parameter.grad, rtol=1e-7, atol=1e-11)
    for model, own in zip(stack.unstack(), models, strict=True):  # the running statistics among them
        for name, tensor in own.state_dict().items():
            assert_close(model.state_dict()[name].to(tensor.dtype), tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_in_evaluation_it_predicts_what_its_models_do(mode, options):
    stack = ClassifierStack.of([model.float() for model in make(mode=mode, epsilon=2.0, **options)])
    x, lengths, labels = batch()
    stack.loss(x.float(), lengths, labels)  # moves the running statistics
    stack.eval()
    with torch.no_grad():
        logits = stack(x.float(), lengths)
        for m, model in enumerate(stack.unstack()):
            assert_close(logits[m], model(x[m].float(), lengths[m]), rtol=1e-3, atol=1e-4)


def test_ignored_labels_leave_no_trace():
    stack = ClassifierStack.of(make()).double()
    x, lengths, labels = batch()
    labels[1, 3:] = IGNORED
    losses, _ = stack.loss(x, lengths, labels)
    expected, _ = stack.loss(
        x[1:2, :3].expand(3, -1, -1, -1), lengths[1:2, :3].expand(3, -1), labels[1:2, :3].expand(3, -1)
    )
    assert_close(losses[1], expected[1])


def test_dropout_noise_and_offset_act_in_training_only_and_differ_between_models():
    models = make(dropout=0.5, dropout_places=PLACES)[:1] * 3
    x, lengths, _ = batch()
    x, lengths = x[:1].expand(3, -1, -1, -1), lengths[:1].expand(3, -1)
    for options in ({"dropout": 0.5, "dropout_places": ("lstm",)}, {"noise": 0.5}, {"offset": 0.5}):
        models = make(**options)[:1] * 3
        stack = ClassifierStack.of(models).double()
        logits = stack(x, lengths)
        assert not torch.allclose(logits[0], logits[1])
        stack.eval()
        logits = stack(x, lengths)
        assert_close(logits[0], logits[1])


def test_an_offset_is_one_constant_per_sequence_and_feature():
    stack = ClassifierStack.of(make(offset=0.5, normalization="standard")).double()
    seen = []
    stack.regularize = lambda x, *_: seen.append(x) or x
    x, lengths, _ = batch()
    stack.features(x, lengths)
    stack.eval()
    stack.features(x, lengths)
    offsets = seen[0] - seen[1]
    assert_close(offsets, offsets[:, :, :1].expand_as(offsets))
    assert 0.3 < offsets[:, :, 0].std() < 0.7


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_rebuilds_it(tmp_path, mode):
    models = [model.float() for model in make(mode=mode, epsilon=0.5, batch_norm_places=("convolution",))]
    stack = ClassifierStack.of(models)
    checkpoint.save(tmp_path / "best.pt", {"model": checkpoint.describe(stack)})
    again = checkpoint.rebuild(tmp_path / "best.pt", ClassifierStack, LSTMClassifier)
    for model, own in zip(again.unstack(), models, strict=True):
        assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in model.state_dict().items())
        assert model.mode == mode and not model.training


@pytest.mark.parametrize("mode", MODES)
def test_autocast_is_close_to_float32(mode):
    x, lengths, labels = batch()
    results = []
    for enabled in (False, True):
        models = [model.float() for model in make(mode=mode, epsilon=0.5, batch_norm_places=PLACES)]
        stack = ClassifierStack.of(models)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses, _ = stack.loss(x.float().clamp(-3, 3), lengths, labels)
        losses.sum().backward()
        results.append(losses.detach().float())
    assert_close(*results, rtol=0.1, atol=0.1)
