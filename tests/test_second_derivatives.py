"""Second derivatives of the layers whose backward pass is written out: gradgradcheck at random shapes, penalties beside
differences of first derivatives, and what PyTorch builds from them.
"""

import random

import pytest
import torch
from torch import nn
from torch.autograd import functional
from torch.nn.utils.rnn import PackedSequence

from lstm_studies.models.conv_lstm import ConvLSTM
from ProxLSTM import METHODS, ProxLSTM, ProxLSTMCell, blackbox_step

# by PyTorch itself, when it first takes derivatives in forward mode
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
EXACT = {"dtype": torch.float64, "tolerance": 1e-14}


def layer(chance, method):
    """A layer and its input; every other one packed, in two directions, with several layers, biases, a projection."""
    inputs, hidden, batch, steps = (chance.randint(1, 4) for _ in range(4))
    options = {
        "num_layers": chance.randint(1, 2),
        "bias": chance.random() < 0.7,
        "bidirectional": chance.random() < 0.5,
        "proj_size": chance.randint(0, hidden - 1) if chance.random() < 0.3 else 0,
        "learnable": chance.random() < 0.5,
        "epsilon": 10 ** chance.uniform(-2, 1.5),
    }
    module = ProxLSTM(inputs, hidden, method=method, **options, **EXACT)
    directions = module.num_layers * (1 + module.bidirectional)
    h, c = torch.randn(directions, batch, module.proj_size or hidden), torch.randn(directions, batch, hidden)
    if chance.random() < 0.5:
        return module, lambda x, h, c: flat(module(x, (h, c))), (torch.randn(steps, batch, inputs), h, c)
    sizes = torch.tensor([batch, *sorted((chance.randint(1, batch) for _ in range(steps - 1)), reverse=True)])

    def run(x, h, c):
        output, state = module(PackedSequence(x, sizes), (h, c))
        return output.data, *state

    return module, run, (torch.randn(int(sizes.sum()), inputs), h, c)


def flat(result):
    output, state = result
    return output, *state


def cell(chance, method):
    inputs, hidden, batch = (chance.randint(1, 4) for _ in range(3))
    options = {"bias": chance.random() < 0.7, "learnable": chance.random() < 0.5}
    module = ProxLSTMCell(inputs, hidden, epsilon=10 ** chance.uniform(-2, 1.5), method=method, **options, **EXACT)
    state = torch.randn(2, batch, hidden).unbind()
    return module, lambda x, h, c: module(x, (h, c)), (torch.randn(batch, inputs), *state)


def convolutional(chance, _):
    dims, channels, hidden, batch, steps = (chance.randint(1, n) for n in (2, 2, 2, 2, 3))
    space = [chance.randint(1, 3) for _ in range(dims)]
    module = ConvLSTM(channels, hidden, chance.choice([1, 3]), dims).double()
    is_held, has_bias = chance.random() < 0.5, chance.random() < 0.5
    x = torch.randn(batch, *(() if is_held else (steps,)), channels, *space)
    bias = (torch.randn(steps, 4 * hidden),) if has_bias else ()
    return module, lambda x, *bias: module(x, steps if is_held else None, *bias), (x, *bias)


KINDS = [(build, method) for build in (layer, cell) for method in METHODS] + [(convolutional, "")]


def case(build, method, seed):
    """A function of tensors in float64, and the tensors: inputs and parameters."""
    torch.manual_seed(seed)
    module, run, inputs = build(random.Random(seed), method)
    names, parameters = zip(*module.named_parameters(), strict=True)

    def function(*tensors):
        values = dict(zip(names, tensors[len(inputs) :], strict=True))
        with torch.nn.utils.stateless._reparametrize_module(module, values):
            return tuple(run(*tensors[: len(inputs)]))

    tensors = [x.double() for x in inputs] + [p.detach() + 0.2 * torch.randn_like(p) for p in parameters]
    return function, [x.requires_grad_() for x in tensors]


@pytest.mark.parametrize(("build", "method"), KINDS)
def test_gradcheck_and_gradgradcheck_at_random_shapes(build, method, thorough, count):
    """With PyTorch's default tolerances; gradients in forward mode and in batches of them as well."""
    for seed in range(5 if thorough else 1):
        function, tensors = case(build, method, seed)
        assert torch.autograd.gradcheck(function, tensors, fast_mode=True, check_forward_ad=True)
        assert torch.autograd.gradcheck(function, tensors, fast_mode=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)
        count(1)


@pytest.mark.parametrize(("build", "method"), KINDS)
def test_a_penalty_on_the_gradient_beside_differences(build, method):
    """The slope of ||dL/dx||^2, for an L that is linear in the output, against differences of first derivatives, which
    come from the written-out backward pass.
    """
    function, (x, *others) = case(build, method, 5)

    def penalty(tensors, create_graph=False):
        loss = sum(output.sum() for output in function(*tensors))
        (gradient,) = torch.autograd.grad(loss, tensors[0], create_graph=create_graph)
        return gradient.square().sum()

    tensors = [x, *others]
    slopes = torch.autograd.grad(penalty(tensors, create_graph=True), tensors, allow_unused=True)
    directions = [torch.randn_like(tensor) for tensor in tensors]
    expected = sum((g * v).sum() for g, v in zip(slopes, directions, strict=True) if g is not None)
    ends = []
    for sign in (1, -1):
        moved = [(t + sign * 1e-6 * v).detach().requires_grad_() for t, v in zip(tensors, directions, strict=True)]
        ends.append(penalty(moved))
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, expected, rtol=1e-6, atol=1e-8)
    assert expected.abs() > 1e-4


@pytest.mark.parametrize(("build", "method"), KINDS)
def test_products_with_jacobian_and_hessian(build, method):
    """By two backward passes, in forward mode and by torch.func: the same, and not zero."""
    function, (x, *others) = case(build, method, 7)
    others = [tensor.detach() for tensor in others]
    v = torch.randn_like(x)

    def output(x):
        return function(x, *others)[0]

    def loss(x):
        return output(x).sum()

    difference = (output(x + 1e-6 * v) - output(x - 1e-6 * v)) / 2e-6
    for product in (functional.jvp(output, x, v)[1], torch.func.jvp(output, (x.detach(),), (v,))[1]):
        torch.testing.assert_close(product, difference, rtol=1e-6, atol=1e-8)
    hessian = functional.hessian(loss, x)
    assert hessian.abs().max() > 1e-4
    for other in (
        functional.hessian(loss, x, vectorize=True),
        functional.hessian(loss, x, vectorize=True, outer_jacobian_strategy="forward-mode"),
        torch.func.hessian(loss)(x.detach()),
    ):
        torch.testing.assert_close(other, hessian, rtol=1e-9, atol=1e-12)
    jacobian = functional.jacobian(output, x)
    torch.testing.assert_close(functional.jacobian(output, x, vectorize=True), jacobian, rtol=1e-9, atol=1e-12)


def test_epsilon_towards_zero_has_the_second_derivatives_of_the_library():
    torch.manual_seed(0)
    theirs, x = nn.LSTM(3, 4, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    for method in METHODS:
        ours = ProxLSTM(3, 4, epsilon=1e-10, method=method, **EXACT)
        ours.load_state_dict(theirs.state_dict())
        hessians = [functional.hessian(lambda x, lstm=lstm: lstm(x)[0].sum(), x) for lstm in (ours, theirs)]
        torch.testing.assert_close(*hessians, rtol=0, atol=1e-8)


def test_a_cell_that_is_no_lstm():
    torch.manual_seed(0)
    A, B = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 3))

    def step(v, h, c, A, B, epsilon):
        def cell(v, state):
            s = 0.9 * state[1] + (v @ A).sin() * (state[0] @ B).cos()
            return s.tanh(), s

        return blackbox_step(cell, v, (h, c), epsilon)

    inputs = [torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (4, 3, 3)]
    epsilon = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(step, (*inputs, A, B, epsilon))
    assert torch.autograd.gradgradcheck(step, (*inputs, A, B, epsilon))
