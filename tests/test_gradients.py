"""Gradients of every model against central differences in float64, at random shapes, options and weights.

A case is a model, its inputs and a function from both to some tensors. Their sum, weighted at random, is moved along a
random direction of each parameter and each input in turn. A handful of cases per model in `make test`, hundreds in
`make reliability`; the same ones every time. Such cases in float32 must give finite losses for tiny and huge inputs.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import Classifier
from Classifier import MODES, PLACES, LSTMClassifier
from lstm_studies.models.attentive_lstm import AttentiveLSTM
from lstm_studies.models.lstm_ae import HEADS, ConvLSTMAutoencoder, LSTMAutoencoder
from lstm_studies.models.samples_last_lstm import FEW_UNITS
from lstm_studies.models.text_lstm import POOLINGS, TextLSTM
from ProxLSTM import METHODS, ProxLSTM, ProxLSTMCell

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

STEPS = (
    1e-5,
    1e-7,
)  # of the differences; the second one for points nearer than the first to a kink of a ReLU or maximum


class Case(NamedTuple):
    model: nn.Module
    inputs: tuple[Tensor, ...]  # that have gradients
    function: Callable[..., tuple[Tensor, ...]]  # of the inputs


def flag(draw):
    return draw(st.booleans())


def small(draw, most=4, least=1):
    return draw(st.integers(least, most))


def lengths_up_to(draw, batch, steps, least=1):
    return torch.tensor([draw(st.integers(least, steps)) for _ in range(batch)])


def tensors(outputs):
    """All tensors of a nested tuple."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for output in outputs if output is not None for tensor in tensors(output)]


# ---- cases -----------------------------------------------------------------------------------------------------------


def lstm_autoencoder(draw):
    batch, steps, inputs = small(draw, 3), small(draw, 6), small(draw)
    lengths = lengths_up_to(draw, batch, steps) if flag(draw) else None
    prediction_size = draw(st.sampled_from([0, 1, inputs]))
    model = LSTMAutoencoder(
        inputs,
        small(draw, 5),
        draw(st.sampled_from([None, 1, 3])),
        num_layers=small(draw, 2),
        num_classes=draw(st.sampled_from([0, 3])),
        prediction_size=prediction_size,
        timescale=draw(st.sampled_from([None, 5])),
        encoding_periods=draw(st.sampled_from([(), (3.0,), (6.0, 2.0)])),
        head=draw(st.sampled_from(HEADS)),
        log_probabilities=flag(draw),
        checkpoint_steps=draw(st.sampled_from([0, 1, 2, 4])),
    )
    return Case(model, (torch.rand(batch, steps, inputs),), lambda x: model(x, lengths))


def conv_autoencoder(draw):
    shape = draw(st.sampled_from([(1,), (3,), (4,), (2, 3), (3, 3)]))
    model = ConvLSTMAutoencoder(
        shape,
        small(draw, 3),
        channels=small(draw, 3),
        kernel_size=draw(st.sampled_from([1, 3])),
        num_classes=draw(st.sampled_from([0, 3])),
        timescale=draw(st.sampled_from([None, 5])),
        encoding_periods=draw(st.sampled_from([(), (3.0,)])),
        head=draw(st.sampled_from(HEADS)),
        log_probabilities=flag(draw),
    )
    return Case(model, (torch.rand(small(draw, 3), small(draw), model.input_size),), model)


def prox_lstm(draw):
    """Both sides of the size from which conjugate gradients solve."""
    inputs, hidden = (draw(st.sampled_from([1, 2, 3, 5, 18])) for _ in range(2))
    batch, steps = small(draw, 3), small(draw)
    epsilon, method = 10.0 ** draw(st.integers(-3, 2)), draw(st.sampled_from(METHODS))
    options = {"bidirectional": flag(draw), "batch_first": True, "learnable": flag(draw), "bias": flag(draw)}
    model = ProxLSTM(inputs, hidden, small(draw, 2), epsilon=epsilon, method=method, **options)
    lengths = lengths_up_to(draw, batch, steps) if flag(draw) else None
    h, c = torch.randn(2, model.num_layers * (1 + model.bidirectional), batch, hidden)

    def run(x, h, c):
        if lengths is not None:
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, state = model(x, (h, c))
        return (output if lengths is None else output.data, *state)

    return Case(model, (torch.randn(batch, steps, inputs), h, c), run)


def prox_cell(draw):
    inputs, hidden, batch = small(draw), small(draw), small(draw, 3)
    model = ProxLSTMCell(
        inputs, hidden, epsilon=10.0 ** draw(st.integers(-3, 2)), method=draw(st.sampled_from(METHODS))
    )
    state = torch.randn(2, batch, hidden)
    return Case(model, (torch.randn(batch, inputs), *state), model)


def classifier_options(draw):
    return {
        "input_size": small(draw, 3),
        "hidden_size": small(draw, 3),
        "classes": 3,
        "channels": small(draw, 3),
        "kernel_size": small(draw, 3),
        "mode": draw(st.sampled_from(MODES)),
        "epsilon": draw(st.sampled_from([0.0, 0.1, 3.0])),
        "normalization": draw(st.sampled_from(["standard", "l2"])),
        "bidirectional": flag(draw),
        "batch_norm_places": draw(st.sampled_from([(), ("convolution",), ("lstm",), PLACES])),
        "stride": small(draw, 2),
    }


def classifier(draw):
    options, batch, steps = classifier_options(draw), small(draw, 4, 2), small(draw, 6, 4)
    model = LSTMClassifier(**options)
    lengths = lengths_up_to(draw, batch, steps, options["kernel_size"])
    labels = torch.randint(3, (batch,))
    return Case(model, (torch.randn(batch, steps, options["input_size"]),), lambda x: model.loss(x, lengths, labels))


def attentive(draw):
    batch, steps, features = small(draw), small(draw, 5), small(draw)
    model = AttentiveLSTM(
        draw(st.sampled_from([1, 2, FEW_UNITS + 1])),  # both ways of its LSTM
        epsilon=draw(st.sampled_from([0.0, 0.1, 2.0])),
        beta=draw(st.sampled_from([0.0, 0.5])),
        l2=draw(st.sampled_from([None, 0.3])),
        attention=flag(draw),
        hinge=flag(draw),
        random_perturbations=flag(draw),
    ).build(features)
    y = torch.randint(2, (batch,))

    def run(x):
        losses = model.losses(x, y)
        return losses["loss"], losses["clean"], model(x)

    return Case(model, (torch.randn(batch, steps, features),), run)


def text(draw):
    batch, steps, vocabulary = small(draw, 3), small(draw, 5), small(draw, 6, 3)
    model = TextLSTM(
        [str(word) for word in range(vocabulary)],
        embedding_size=small(draw, 4, 2),
        sizes=draw(st.sampled_from([[2], [3, 2]])),
        bidirectional=flag(draw),
        pooling=draw(st.sampled_from(POOLINGS)),
        bigrams=draw(st.sampled_from([None, [], [vocabulary + 2, 2 * vocabulary + 1]])),
        linear_scale=draw(st.sampled_from([0.0, 3.0])),
        ngram_buckets=draw(st.sampled_from([0, 5])),
        normalize=flag(draw),
    )
    words, lengths = torch.randint(1, vocabulary, (batch, steps)), lengths_up_to(draw, batch, steps)
    ngrams = torch.randint(5, (batch, steps, 2))
    ngrams[..., 0].clamp_min_(1)  # a mean over no vectors would be 0 whatever they are
    return Case(model, (torch.rand(batch, steps),), lambda presence: model(words, ngrams, lengths, presence))


CASES = (
    lstm_autoencoder,
    conv_autoencoder,
    prox_lstm,
    prox_cell,
    classifier,
    attentive,
    text,
)


# ---- differences -----------------------------------------------------------------------------------------------------


def made(build, draw, dtype):
    """The case with weights and inputs at random, biases and zero starts too, in evaluation or in training."""
    torch.manual_seed(draw(st.integers(0, 2**20)))
    case = build(draw)
    case.model.to(dtype)
    with torch.no_grad():
        for name, parameter in case.model.named_parameters():
            if name != "log_epsilon":
                parameter += 0.2 * torch.randn_like(parameter)
    case.model.train(flag(draw))
    inputs = tuple(x.to(dtype).requires_grad_() for x in case.inputs)
    leaves = {name: p for name, p in case.model.named_parameters() if p.requires_grad}
    return case, inputs, leaves | {f"input {k}": x for k, x in enumerate(inputs)}


@contextlib.contextmanager
def constant_perturbations(model):
    """Perturbations are held constant by definition: the first one that is computed is used again."""
    kept = {}

    def once(function):
        def first_or_kept(*arguments, **named):
            if function not in kept:
                kept[function] = function(*arguments, **named).detach()
            return kept[function]

        return first_or_kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "compute_perturbation", once(Classifier.compute_perturbation))
        if isinstance(model, AttentiveLSTM):
            patch.setattr(model, "perturbation", once(model.perturbation))
        yield


def weighted(outputs, weights):
    """The sum of all numbers of the outputs, each with a weight of its own."""
    return sum((output * weight).sum() for output, weight in zip(tensors(outputs), weights, strict=True))


def check_gradients(case, inputs, leaves):
    with constant_perturbations(case.model):
        outputs = tensors(case.function(*inputs))
        weights = [torch.randn_like(output) for output in outputs]
        gradients = torch.autograd.grad(weighted(outputs, weights), list(leaves.values()), allow_unused=True)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            direction = torch.randn_like(leaf)
            slope = 0.0 if gradient is None else (gradient * direction).sum().item()
            differences = [difference(case, inputs, weights, leaf, direction, step) for step in STEPS]
            tolerances = [1e-6 * (1 + abs(slope)) / (step / STEPS[0]) ** 0.5 for step in STEPS]
            close = [abs(slope - d) <= limit for d, limit in zip(differences, tolerances, strict=True)]
            assert any(close), f"{name}: {slope} by backward, {differences} by differences"


def difference(case, inputs, weights, leaf, direction, step):
    """The central difference quotient of the weighted sum along a direction of one leaf."""
    values, start = [], leaf.detach().clone()
    for sign in (1, -1):
        leaf.data.copy_(start + sign * step * direction)
        values.append(weighted(case.function(*inputs), weights).item())
    leaf.data.copy_(start)
    return (values[0] - values[1]) / (2 * step)


def of_random_cases(build, examples, count, check):
    """`check(draw)` for random cases, the same ones every time."""

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def one(data):
        with torch.random.fork_rng():
            check(data.draw)
        count(1)

    one()


@pytest.mark.parametrize("build", CASES)
def test_gradients_against_differences(build, thorough, count):
    of_random_cases(
        build, 300 if thorough else 4, count, lambda draw: check_gradients(*made(build, draw, torch.float64))
    )


@pytest.mark.parametrize("build", CASES)
def test_losses_are_finite_for_tiny_and_huge_inputs(build, thorough, count):
    """In float32; steps that are all alike, and all zero, among them."""

    def check(draw):
        case, inputs, leaves = made(build, draw, torch.float32)
        scale = draw(st.sampled_from([1e-12, 1e-6, 1e3, 1e6]))
        with torch.no_grad():
            for x in inputs[:1]:
                kind = draw(st.sampled_from(["any", "any", "constant", "zero"]))
                x.copy_({"any": x, "constant": torch.ones_like(x), "zero": torch.zeros_like(x)}[kind] * scale)
        outputs = tensors(case.function(*inputs))
        assert all(output.isfinite().all() for output in outputs), scale
        gradients = torch.autograd.grad(sum(o.sum() for o in outputs), list(leaves.values()), allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients), scale

    of_random_cases(build, 100 if thorough else 3, count, check)
