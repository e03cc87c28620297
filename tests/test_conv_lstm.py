"""The convolutional LSTM and its written-out backward pass, against the definition step by step under autograd."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, conv2d, conv_transpose1d

from lstm_studies.models import conv_lstm
from lstm_studies.models.conv_lstm import ConvLSTM, ConvLSTMFunction, set_gate_biases, twice_less_one

SPACES = {1: (5,), 2: (3, 4)}
CASES = [
    (dims, constant, clock, steps)
    for dims in (1, 2)
    for constant in (False, True)
    for clock in (False, True)
    for steps in (1, 4)
]


def reference(model, x, steps=None, step_bias=None):
    """Shi et al. 2015, eq. 3 without peepholes, as it is written."""
    convolve = {1: conv1d, 2: conv2d}[model.spatial_dims]
    hidden = model.hidden_channels
    pad = [size // 2 for size in model.hidden_conv.weight.shape[2:]]
    h = c = x.new_zeros(len(x), hidden, *x.shape[-model.spatial_dims :])
    outputs = []
    for t in range(steps or x.shape[1]):
        x_t = x if steps else x[:, t]
        gates = convolve(x_t, model.input_conv.weight, model.input_conv.bias, padding=pad)
        gates = gates + convolve(h, model.hidden_conv.weight, padding=pad)
        if step_bias is not None:
            gates = gates + step_bias[t].view(1, -1, *[1] * model.spatial_dims)
        i, f, o, g = gates.split(hidden, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1), h


def example(dims, constant, clock, steps, dtype=torch.float64, kernel=3):
    """A model, its arguments and the weights of a sum of its two outputs: B = 3, C = 2, H = 4."""
    torch.manual_seed(0)
    model = ConvLSTM(2, 4, kernel, dims).to(dtype)
    x = torch.randn(3, *([] if constant else [steps]), 2, *SPACES[dims], dtype=dtype, requires_grad=True)
    step_bias = torch.randn(steps, 16, dtype=dtype, requires_grad=True) if clock else None
    weights = [torch.randn(3, *shape, 4, *SPACES[dims], dtype=dtype) for shape in ((steps,), ())]
    return model, (x, steps if constant else None, step_bias), weights


def loss_of(outputs, weights):
    """A sum of all outputs; a weight may be None, for an output that is not used."""
    return sum((output * w).sum() for output, w in zip(outputs, weights, strict=True) if w is not None)


def gradients(function, model, arguments, weights):
    inputs = [*model.parameters(), arguments[0]] + ([] if arguments[2] is None else [arguments[2]])
    return torch.autograd.grad(loss_of(function(*arguments), weights), inputs, allow_unused=True)


def assert_same_gradients(model, arguments, weights):
    mine = gradients(model, model, arguments, weights)
    theirs = gradients(lambda *a: reference(model, *a), model, arguments, weights)
    for number, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        b = torch.zeros_like(a) if b is None else b
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10, msg=lambda text, n=number: f"gradient {n}: {text}")
    return mine


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_definition(case):
    model, arguments, weights = example(*case)
    output, last = model(*arguments)
    expected, expected_last = reference(model, *arguments)
    assert output.shape == weights[0].shape and last.shape == weights[1].shape
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(last, expected_last, rtol=0, atol=1e-12)
    mine = assert_same_gradients(model, arguments, weights)
    assert len(mine) == 4 + (arguments[2] is not None)
    for number, gradient in enumerate(mine):
        assert gradient.any() or (case[3] == 1 and number == 2)  # W_h has no part in a single step


@pytest.mark.parametrize("unused", [0, 1])
@pytest.mark.parametrize("constant", [False, True])
def test_gradients_of_one_output(constant, unused):
    """An encoder uses the last map only, a decoder all of them."""
    model, arguments, weights = example(1, constant, True, 4)
    weights[unused] = None
    assert_same_gradients(model, arguments, weights)


def test_gradient_of_one_step_only():
    model, arguments, weights = example(2, False, False, 4)
    weights[0][:, [0, 1, 3]] = 0
    assert_same_gradients(model, arguments, [weights[0], None])


@pytest.mark.parametrize("kernel", [1, 5, 7])
@pytest.mark.parametrize("dims", [1, 2])
def test_other_kernels(dims, kernel):
    """Wider ones than the map, too."""
    model, arguments, weights = example(dims, False, True, 3, kernel=kernel)
    torch.testing.assert_close(model(*arguments), reference(model, *arguments), rtol=0, atol=1e-12)
    assert_same_gradients(model, arguments, weights)


@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (0, 1)])
@pytest.mark.parametrize("constant", [False, True])
def test_gradcheck(constant, frozen):
    """Of all inputs, and of some while others need none: T = 3, B = 2, C = 2, H = 2."""
    torch.manual_seed(0)
    x = None if constant else torch.randn(3, 2, 2, 3, 2, dtype=torch.float64)
    held = torch.randn(2, 2, 3, 8, dtype=torch.float64) if constant else None
    biases = torch.randn(3, 8, dtype=torch.float64)
    weight = torch.randn(8, 2 if constant else 4, 3, 3, dtype=torch.float64)
    inputs = (x, held, biases, weight)
    for number, tensor in enumerate(inputs):
        if tensor is not None and number not in frozen:
            tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: ConvLSTMFunction.apply(*a, torch.float64), inputs)


@pytest.mark.parametrize("constant", [False, True])
def test_float32_is_close_to_float64(constant):
    model, arguments, weights = example(2, constant, True, 4, torch.float32)
    double, exact_arguments, exact_weights = example(2, constant, True, 4)
    double.load_state_dict(model.state_dict())
    with torch.no_grad():
        for exact, rounded in zip((exact_arguments[0], exact_arguments[2]), (arguments[0], arguments[2]), strict=True):
            exact.copy_(rounded)
    exact_weights = [w.double() for w in weights]
    torch.testing.assert_close(model(*arguments)[0].double(), double(*exact_arguments)[0], rtol=0, atol=1e-6)
    found = gradients(model, model, arguments, weights)
    for a, b in zip(found, gradients(double, double, exact_arguments, exact_weights), strict=True):
        assert (a.double() - b).norm() < 1e-6 * b.norm()


def test_tanh_by_sigmoid():
    x = torch.linspace(-30, 30, 10_001)
    torch.testing.assert_close(twice_less_one((2 * x).sigmoid()), x.tanh(), rtol=0, atol=2e-7)
    x = x.double()
    torch.testing.assert_close(twice_less_one((2 * x).sigmoid()), x.tanh(), rtol=0, atol=4e-16)


def test_outputs_are_channels_last():
    """As the convolution that reads them is fastest."""
    model, arguments, _ = example(2, True, False, 4)
    h, last = model(*arguments)
    assert h.transpose(0, 1).flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_backward_leaves_what_it_saved():
    model, arguments, weights = example(1, False, False, 4)
    loss = loss_of(model(*arguments), weights)
    first = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(model.parameters()))
    assert all(map(torch.equal, first, second))


def test_kernel_of_one_is_an_lstm_at_each_place():
    torch.manual_seed(0)
    hidden, width, steps = 4, 5, 6
    model, cell = ConvLSTM(3, hidden, 1, 1).double(), nn.LSTMCell(3, hidden).double()
    order = torch.tensor([0, 1, 3, 2])  # i, f, o, g here; i, f, g, o there

    def reorder(parameter):
        return parameter.detach().unflatten(0, (4, hidden))[order].flatten(0, 1)

    with torch.no_grad():
        model.input_conv.bias.add_(torch.randn(4 * hidden))
        cell.weight_ih.copy_(reorder(model.input_conv.weight[:, :, 0]))
        cell.weight_hh.copy_(reorder(model.hidden_conv.weight[:, :, 0]))
        cell.bias_ih.copy_(reorder(model.input_conv.bias))
        cell.bias_hh.zero_()
    x = torch.randn(2, steps, 3, width, dtype=torch.float64)
    output, _ = model(x)
    for place in range(width):
        state = None
        for t in range(steps):
            state = cell(x[:, t, :, place], state)
            torch.testing.assert_close(output[:, t, :, place], state[0], rtol=0, atol=1e-12)


def test_constant_input_equals_a_repeated_one():
    model, (x, steps, step_bias), _ = example(2, True, True, 4)
    repeated = x.unsqueeze(1).expand(-1, steps, *[-1] * (x.dim() - 1))
    torch.testing.assert_close(model(x, steps, step_bias), model(repeated, None, step_bias), rtol=0, atol=1e-12)


# ---- how it starts, and what it refuses ------------------------------------------------------------------------------


def test_biases():
    model = ConvLSTM(2, 3, 3, 1)
    assert model.input_conv.bias.tolist() == [0] * 3 + [1] * 3 + [0] * 6 and model.hidden_conv.bias is None
    torch.manual_seed(0)
    chrono = ConvLSTM(2, 50, 3, 1, timescale=20).input_conv.bias.detach()
    i, f, o, g = chrono.split(50)
    assert torch.equal(i, -f) and f.min() >= 0 and 2 < f.max() <= torch.tensor(19.0).log() and not o.any()
    assert not g.any() and len(f.unique()) == 50


def test_gate_biases_by_hand():
    bias = torch.zeros(8)
    set_gate_biases(bias, 2, None, forget=2)
    assert bias.tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    set_gate_biases(bias, 2, 3)  # u between 1 and 2
    assert torch.equal(bias[:2], -bias[2:4]) and (bias[2:4] >= 0).all() and (bias[2:4].exp() <= 2).all()
    with pytest.raises(ValueError, match="at least 3 steps, not 2"):
        set_gate_biases(bias, 2, 2)


def test_recurrent_kernels_are_orthogonal_per_gate():
    torch.manual_seed(0)
    model = ConvLSTM(2, 4, 3, 2)
    for gate in model.hidden_conv.weight.detach().split(4):
        rows = gate.flatten(1)  # (H, H * kernel)
        torch.testing.assert_close(rows @ rows.T, torch.eye(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [0, 2, 4, -1])
def test_even_kernels(kernel):
    with pytest.raises(ValueError, match=rf"kernel_size must be odd.*not {kernel}"):
        ConvLSTM(1, 2, kernel, 1)


@pytest.mark.parametrize("dims", [0, 3])
def test_spatial_dims(dims):
    with pytest.raises(ValueError, match=f"spatial_dims must be 1 or 2, not {dims}"):
        ConvLSTM(1, 2, 3, dims)


def test_doubles_are_refused_by_weights_of_less():
    x = torch.zeros(2, 4, 3, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"x must be torch.float32, as the weights are, not torch.float64"):
        ConvLSTM(3, 5, 3, 1)(x)
    assert ConvLSTM(3, 5, 3, 1).double()(x)[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("dims", "shape", "steps"),
    [(1, (2, 3, 1), None), (1, (2, 3, 1, 4, 4), None), (2, (2, 3, 1, 4), None), (1, (2, 3, 1, 4), 3), (1, (2, 1), 3)],
)
def test_wrong_dims(dims, shape, steps):
    with pytest.raises(ValueError) as caught:
        ConvLSTM(1, 2, 3, dims)(torch.zeros(shape), steps)
    assert f"{dims} spatial axes" in str(caught.value) and str(shape) in str(caught.value)


# ---- modes of autograd -----------------------------------------------------------------------------------------------


def test_without_gradients():
    model, arguments, _ = example(1, False, True, 4)
    expected = model(*arguments)
    with torch.no_grad():
        output = model(*arguments)
    for a, b in zip(output, expected, strict=True):
        assert not a.requires_grad and torch.equal(a, b)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("dims", [1, 2])
def test_stays_in_float32_under_autocast_where_bfloat16_does_not_pay(monkeypatch, dims, constant):
    """As `loop.train` does it: the forward pass under autocast, the backward pass after it."""
    monkeypatch.setattr(conv_lstm, "low_precision_pays", lambda device_type: False)
    model, arguments, weights = example(dims, constant, True, 4, torch.float32)
    expected = gradients(model, model, arguments, weights)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(*arguments)
        assert output[0].dtype == output[1].dtype == torch.float32
    inputs = [*model.parameters(), arguments[0], arguments[2]]
    found = torch.autograd.grad(loss_of(output, weights), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("constant", [False, True])
def test_slices_of_any_size_give_the_same(monkeypatch, constant):
    """Places are worked on some at a time; 60 values are gates of three of the 15 places."""
    model, arguments, weights = example(1, constant, True, 4)
    expected, derivatives = model(*arguments), gradients(model, model, arguments, weights)
    monkeypatch.setattr(conv_lstm, "CACHED_VALUES", 60)
    assert len(conv_lstm.slices(15, 4)) == 5
    for a, b in zip(model(*arguments), expected, strict=True):  # to the last bit or so: vectors have other ends
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
    for a, b in zip(gradients(model, model, arguments, weights), derivatives, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)  # sums over places are in another order


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_the_processor_decides_about_bfloat16(monkeypatch, flags, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert conv_lstm.low_precision_pays.__wrapped__("cpu") == expected
    assert conv_lstm.low_precision_pays.__wrapped__("cuda")


# ---- bfloat16 --------------------------------------------------------------------------------------------------------

UNIT_ROUNDOFF = 2.0**-8  # of bfloat16: seven stored bits, so that rounding changes a number by this share at most


class Rounding:
    """Stands for every rounding to bfloat16: multiplies by 1 + delta, with a delta of zero for each number."""

    def __init__(self):
        self.deltas = []

    def __call__(self, x):
        self.deltas.append(torch.zeros_like(x, requires_grad=True))
        return x * (1 + self.deltas[-1])


def by_hand(model, x, steps, weights, rounded):
    """Hidden maps of one spatial axis and the gradients of `loss_of` with respect to W_h, W_x, b and x, in float64,
    with `rounded` wherever the model under autocast rounds. Maps are (B, channels, W), as conv1d has them.
    """
    hidden, pad = model.hidden_channels, model.hidden_conv.kernel_size[0] // 2
    double = torch.ones(4 * hidden, 1, 1, dtype=x.dtype)
    double[3 * hidden :] = 2  # tanh(a) = 2 sigmoid(2 a) - 1
    kernels = [rounded(conv.weight.detach() * double) for conv in (model.input_conv, model.hidden_conv)]
    bias, constant = model.input_conv.bias.detach() * double.flatten(), 0.0
    if steps:  # the constant part stays in the weights' precision
        constant = conv1d(x, model.input_conv.weight.detach() * double, bias, padding=pad)
        inputs, bias = [None] * steps, rounded(torch.zeros_like(bias))
    else:
        inputs, bias = rounded(x).unbind(1), rounded(bias)
    h, c = [torch.zeros(len(x), hidden, x.shape[-1], dtype=x.dtype)], [torch.zeros((), dtype=x.dtype)]
    saved, tanh_c = [], []
    for x_t in inputs:
        sums = conv1d(h[-1], kernels[1], bias, padding=pad)
        sums = sums if x_t is None else sums + conv1d(x_t, kernels[0], padding=pad)
        gates = torch.sigmoid(rounded(sums) + constant)
        i, f, o, s = gates.split(hidden, 1)
        c.append(f * c[-1] + i * (2 * s - 1))
        tanh_c.append(c[-1].tanh())
        h.append(rounded(o * tanh_c[-1]))
        saved.append(rounded(gates))  # for the backward pass
    dh, dc, dx, d_bias, d_sums = weights[1], 0.0, [], 0.0, []
    for t in reversed(range(len(inputs))):
        i, f, o, s = saved[t].split(hidden, 1)
        dh = rounded(dh + weights[0][:, t])
        dc = dc + dh * o * (1 - tanh_c[t] ** 2)
        d = torch.cat([dc * (2 * s - 1), dc * c[t].expand_as(dc), dh * tanh_c[t], 2 * dc * i], 1)
        d = d * saved[t] * (1 - saved[t])
        d_bias, dc = d_bias + d.sum((0, 2)), dc * f
        d_sums.insert(0, rounded(d))
        if not steps:
            dx.insert(0, rounded(conv_transpose1d(d_sums[0], kernels[0], padding=pad)))
        dh = rounded(conv_transpose1d(d_sums[0], kernels[1], padding=pad))

    def of_kernel(maps, gradients):
        """The gradient of a kernel, before it is rounded."""
        own = torch.cat(maps), torch.cat(gradients)
        columns = torch.nn.functional.pad(own[0], (pad, pad)).unfold(2, 2 * pad + 1, 1)  # (N, C, W, kernel)
        return torch.einsum("nkw,ncwj->kcj", own[1], columns)

    d_hidden = rounded(of_kernel(h[1:-1], d_sums[1:])) * double
    outputs = torch.stack(h[1:], 1)
    if steps:
        return outputs, d_hidden
    d_input = rounded(of_kernel(inputs[:1], d_sums[:1])) + rounded(of_kernel(inputs[1:], d_sums[1:]))
    return outputs, d_hidden, d_input * double, d_bias * double.flatten(), torch.stack(dx, 1)


@pytest.mark.parametrize("constant", [False, True])
def test_bfloat16_is_within_the_sum_of_its_roundings(monkeypatch, constant):
    """Every output and gradient differs from float64 by at most the unit roundoff times the sum, over all numbers that
    are rounded, of how much it changes with that number's relative error: the first-order bound of forward analysis.
    """
    monkeypatch.setattr(conv_lstm, "low_precision_pays", lambda device_type: True)
    torch.manual_seed(0)
    model = ConvLSTM(2, 2, 3, 1)
    x = torch.randn(2, *([] if constant else [3]), 2, 4, requires_grad=True)
    weights = [torch.randn(2, 3, 2, 4).bfloat16().float(), torch.randn(2, 2, 4).bfloat16().float()]
    steps = 3 if constant else None
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(x, steps)
    assert outputs[0].dtype == outputs[1].dtype == torch.bfloat16
    inputs = [model.hidden_conv.weight, model.input_conv.weight, model.input_conv.bias, x][: 1 if constant else None]
    results = [outputs[0], *torch.autograd.grad(loss_of(outputs, weights), inputs)]

    exact = copy.deepcopy(model).double()
    rounded, exact_weights = Rounding(), [w.double() for w in weights]
    exact_x = x.detach().double().requires_grad_()
    expected = by_hand(exact, exact_x.detach(), steps, exact_weights, rounded)
    loss = loss_of(reference(exact, exact_x, steps), exact_weights)
    own = [exact.hidden_conv.weight, exact.input_conv.weight, exact.input_conv.bias, exact_x]
    for value, other in zip(expected[1:], torch.autograd.grad(loss, own), strict=False):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-12)  # without roundings: what autograd says

    for result, value in zip(results, expected, strict=True):
        bound = [
            sum(
                g.abs().sum()
                for g in torch.autograd.grad(v, rounded.deltas, retain_graph=True, allow_unused=True)
                if g is not None
            )
            for v in value.flatten()
        ]
        bound = UNIT_ROUNDOFF * torch.stack(bound).view_as(value) + 1e-5  # and float32's own roundings
        error = (result.double() - value).abs()
        assert (error <= bound).all()
        assert error.max() > 1e-4  # bfloat16 it was
        assert bound.norm() < value.norm()  # and the bound says something


def test_a_penalty_on_the_gradient_of_a_linear_loss_has_an_effect():
    model, arguments, weights = example(1, False, False, 3)
    (gradient,) = torch.autograd.grad(loss_of(model(*arguments), weights), arguments[0], create_graph=True)
    gradient.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.dim() > 1)
    assert max(parameter.grad.abs().max() for parameter in model.parameters() if parameter.grad is not None) > 1e-6
