"""The proximal map and LSTM: derivatives by finite differences, four ways that must agree, and the plain LSTM."""

import functools
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lstm_studies.models.proximal_solvers import ConjugateGradients, make_solver, product
from ProxLSTM import METHODS, ProxLSTM, ProxLSTMCell, ProxLSTMFunction, blackbox_step, proximal_map

SIZES = [(3, 5), (5, 3)]  # I, H
TIGHT = {"dtype": torch.float64, "tolerance": 1e-14}
close = torch.testing.assert_close


def map_arguments(batch, inputs, hidden, epsilon=1.0):
    """s, G and epsilon in float64, all with gradients."""
    torch.manual_seed(0)
    shapes = ((batch, hidden), (batch, hidden, inputs))
    s, G = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    return s, G, torch.tensor(epsilon, dtype=torch.float64, requires_grad=True)


def weighted_sum(outputs, seed=5):
    torch.manual_seed(seed)
    return sum((output * torch.randn(output.shape, dtype=output.dtype)).sum() for output in outputs)


# ---- the map ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 100.0])
def test_map_derivatives(epsilon, inputs, hidden, batch):
    arguments = map_arguments(batch, inputs, hidden, epsilon)
    assert torch.autograd.gradcheck(proximal_map, arguments)
    assert torch.autograd.gradgradcheck(proximal_map, arguments)


@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 1.0, 100.0])
def test_map_against_the_dense_formula(epsilon, inputs, hidden):
    s, G, epsilon = map_arguments(3, inputs, hidden, epsilon)
    matrix = torch.eye(hidden, dtype=torch.float64) + epsilon * G @ G.mT
    expected = torch.linalg.solve(matrix, s)
    found = proximal_map(s, G, epsilon)
    close(found, expected, rtol=0, atol=1e-12)
    if epsilon == 0:
        assert torch.equal(found, s)
    gradients = [torch.autograd.grad(weighted_sum([c]), (s, G, epsilon)) for c in (found, expected)]
    close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
def test_map_minimises_the_proximal_problem(inputs, hidden):
    """The gradient of ||c - s||^2 / 2 + epsilon ||G^T c||^2 / 2 is zero at c, and nothing near c is below."""
    s, G, epsilon = map_arguments(3, inputs, hidden, 2.0)

    def objective(c):
        return ((c - s).square().sum(1) + epsilon * (c.unsqueeze(1) @ G).square().sum((1, 2))) / 2

    c = proximal_map(s, G, epsilon).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(c).sum(), c)
    close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-13)
    for _ in range(20):
        assert (objective(c + 0.1 * torch.randn_like(c)) > objective(c)).all()


def test_map_by_hand():
    """G = (2, 0)^T: the first component shrinks by 1 + 3 * 4, the second stays."""
    s, G = torch.tensor([[13.0, 5.0]]), torch.tensor([[[2.0], [0.0]]])
    assert proximal_map(s, G, 3.0).tolist() == [[1.0, 5.0]]


@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
def test_map_under_vmap(inputs, hidden):
    s, G, epsilon = map_arguments(3, inputs, hidden)
    close(torch.func.vmap(proximal_map, (0, 0, None))(s, G, epsilon), proximal_map(s, G, epsilon), rtol=0, atol=1e-14)
    epsilons = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    found = torch.func.vmap(proximal_map, (None, None, 0))(s, G, epsilons)
    close(found, torch.stack([proximal_map(s, G, e) for e in epsilons]), rtol=0, atol=1e-14)

    def loss(s, G, epsilon):
        return proximal_map(s, G, epsilon).pow(3).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss, (0, 1, 2)), (0, 0, None))(s, G, epsilon)
    whole = torch.autograd.grad(loss(s, G, epsilon), (s, G, epsilon))
    close((per_sample[0], per_sample[1], per_sample[2].sum()), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by the compiler itself
def test_map_compiled(inputs, hidden):
    arguments = map_arguments(3, inputs, hidden)
    compiled = torch.compile(proximal_map, backend="aot_eager", fullgraph=True)
    outputs = [function(*arguments) for function in (compiled, proximal_map)]
    close(*outputs, rtol=0, atol=1e-14)
    gradients = [torch.autograd.grad(output.pow(3).sum(), arguments) for output in outputs]
    close(*gradients, rtol=0, atol=1e-13)


def test_map_under_autocast():
    """Computed in float32, forward and backward, whatever the products around it do."""
    s, G, epsilon = (tensor.detach().float().requires_grad_() for tensor in map_arguments(3, 5, 4))
    expected = proximal_map(s, G, epsilon)
    with torch.autocast("cpu", torch.bfloat16):
        found = proximal_map(s, G, epsilon)
        gradients = torch.autograd.grad(found.pow(3).sum(), (s, G, epsilon))
    assert torch.equal(found, expected)
    close(gradients, torch.autograd.grad(expected.pow(3).sum(), (s, G, epsilon)), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_map_in_lower_precision(dtype):
    s, G, epsilon = (tensor.detach() for tensor in map_arguments(3, 5, 4))
    s, G = s.to(dtype), G.to(dtype)
    found = proximal_map(s, G, 1.0)
    assert found.dtype == dtype
    close(found.double(), proximal_map(s.double(), G.double(), epsilon), rtol=4 * torch.finfo(dtype).eps, atol=1e-5)


def test_map_of_large_matrices_in_float32():
    """256 x 256 batches, where torch.linalg.solve fails on some processors."""
    torch.manual_seed(0)
    s, G = torch.randn(2, 256), torch.randn(2, 256, 256)
    expected = proximal_map(s.double(), G.double(), 1.0)
    assert (proximal_map(s, G, 1.0) - expected).norm() < 1e-4 * expected.norm()


def test_map_without_some_gradients_and_without_any():
    s, G, epsilon = map_arguments(3, 5, 4)
    expected = proximal_map(s, G, epsilon)
    for arguments in ((s, G.detach(), 1.0), (s.detach(), G, 1.0), (s.detach(), G.detach(), epsilon)):
        found = proximal_map(*arguments)
        wanted = [tensor for tensor in arguments if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
        (original,) = [t for t, u in zip((s, G, epsilon), arguments, strict=True) if u is wanted[0]]
        close(*(torch.autograd.grad(c.sum(), w, retain_graph=True) for c, w in ((found, wanted), (expected, original))))
    with torch.no_grad():
        assert not proximal_map(s, G, epsilon).requires_grad


def test_map_of_non_contiguous_inputs_and_other_batch_dimensions():
    s, G, epsilon = (tensor.detach() for tensor in map_arguments(6, 5, 4))
    expected = proximal_map(s, G, epsilon)
    turned = proximal_map(s.T.contiguous().T, G.transpose(0, 2).contiguous().transpose(0, 2), epsilon)
    close(turned, expected, rtol=0, atol=1e-14)
    close(proximal_map(s.view(2, 3, 4), G.view(2, 3, 4, 5), epsilon).flatten(0, 1), expected, rtol=0, atol=1e-14)
    close(proximal_map(s[0], G[0], epsilon), expected[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("s", "G"), [((2, 3), (2, 4, 3)), ((2, 3), (3, 4)), ((2, 3), (1, 3, 4)), ((), (3,))])
def test_map_refuses_shapes(s, G):
    with pytest.raises(ValueError) as caught:
        proximal_map(torch.zeros(s), torch.zeros(G), 1.0)
    assert str(s) in str(caught.value) and str(G) in str(caught.value)


def test_map_refuses_epsilons():
    s, G, _ = map_arguments(2, 3, 4)
    for epsilon in (-0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"not {epsilon}"):
            proximal_map(s, G, epsilon)
    with pytest.raises(ValueError, match=r"not the shape \(2,\)"):
        proximal_map(s, G, torch.ones(2))


def test_map_passes_nan_on():
    s, G, _ = map_arguments(2, 3, 4)
    assert proximal_map(s, G * math.nan, 1.0).isnan().all()


# ---- four methods ----------------------------------------------------------------------------------------------------


def run(layer, x, lengths=None, state=None):
    """Outputs of a layer, and gradients of a weighted sum of them for x, the state and all parameters."""
    x = x.detach().clone().requires_grad_()
    state = state and tuple(part.detach().clone().requires_grad_() for part in state)
    packed = x if lengths is None else pack_padded_sequence(x, lengths, layer.batch_first, enforce_sorted=False)
    output, (h, c) = layer(packed, state)
    if lengths is not None:
        output, _ = pad_packed_sequence(output, layer.batch_first)
    inputs = [x, *(state or ()), *layer.parameters()]
    return (output, h, c), torch.autograd.grad(weighted_sum((output, h, c)), inputs)


@pytest.mark.parametrize("lengths", [None, [4, 6, 2, 6]], ids=["padded", "packed"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 100.0])
def test_methods_agree(epsilon, inputs, hidden, bidirectional, lengths):
    """The black box knows nothing of an LSTM; the others share no derivative with it."""
    found = {}
    for method in METHODS:
        torch.manual_seed(1)
        layer = ProxLSTM(
            inputs, hidden, epsilon=epsilon, method=method, bidirectional=bidirectional, learnable=True, **TIGHT
        )
        x = 2 * torch.randn(6, 4, inputs, dtype=torch.float64)
        state = torch.randn(2, 1 + bidirectional, 4, hidden, dtype=torch.float64).unbind()
        found[method] = run(layer, x, lengths, state)
    outputs, gradients = found.pop("blackbox")
    assert len(gradients) == 3 + 4 * (1 + bidirectional) + 1 and all(gradient.any() for gradient in gradients)
    for others in found.values():
        close(others[0], outputs, rtol=0, atol=1e-10)
        close(others[1], gradients, rtol=0, atol=1e-8)


def test_second_order_terms_matter():
    """With G held constant, the gradients are others: the agreement above is no accident of small terms."""
    cell = ProxLSTMCell(3, 4, epsilon=2.0, **TIGHT)
    torch.manual_seed(0)
    v, h, c = (torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (3, 4, 4))
    (full,) = torch.autograd.grad(cell(v, (h, c))[1].sum(), v)
    s = nn.LSTMCell.forward(cell, v, (h, c))[1]
    G = torch.stack([torch.autograd.grad(s[:, j].sum(), v, retain_graph=True)[0] for j in range(4)], 1)
    (first_order,) = torch.autograd.grad(proximal_map(s, G, 2.0).sum(), v)
    assert (full - first_order).norm() > 0.05 * full.norm()


@pytest.mark.parametrize("method", METHODS)
def test_cell_by_finite_differences(method):
    torch.manual_seed(0)
    cell = ProxLSTMCell(3, 2, epsilon=1.5, method=method, learnable=True, **TIGHT)
    names, parameters = zip(*cell.named_parameters(), strict=True)

    def step(v, h, c, *parameters):
        return torch.func.functional_call(cell, dict(zip(names, parameters, strict=True)), (v, (h, c)))

    inputs = [torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (3, 2, 2)]
    assert torch.autograd.gradcheck(step, (*inputs, *parameters))


@pytest.mark.parametrize("method", METHODS)
def test_steps_of_the_cell_equal_the_layer(method):
    torch.manual_seed(0)
    layer = ProxLSTM(3, 4, epsilon=1.5, method=method, **TIGHT)
    cell = ProxLSTMCell(3, 4, epsilon=1.5, method=method, **TIGHT)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, state, outputs = torch.randn(5, 2, 3, dtype=torch.float64), None, []
    for x_t in x:
        state = cell(x_t, state)
        outputs.append(state[0])
    output, (h, c) = layer(x)
    close(output, torch.stack(outputs), rtol=0, atol=1e-12)
    close((h[0], c[0]), state, rtol=0, atol=1e-12)


def test_cell_follows_the_definition():
    torch.manual_seed(0)
    cell = ProxLSTMCell(3, 4, epsilon=2.0, **TIGHT)
    v, h, c = (torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (3, 4, 4))
    expected_h, s = nn.LSTMCell.forward(cell, v, (h, c))
    G = torch.stack([torch.autograd.grad(s[:, j].sum(), v, retain_graph=True)[0] for j in range(4)], 1)
    close(cell(v, (h, c)), (expected_h, proximal_map(s, G, 2.0)), rtol=0, atol=1e-13)


class Leaky(nn.Module):
    """A cell that is no LSTM: s = 0.9 c + sin(A v) cos(B h)."""

    def __init__(self):
        super().__init__()
        self.A, self.B = nn.Linear(3, 4, dtype=torch.float64), nn.Linear(4, 4, dtype=torch.float64)

    def forward(self, v, state):
        s = 0.9 * state[1] + self.A(v).sin() * self.B(state[0]).cos()
        return s.tanh(), s


def test_blackbox_of_another_cell():
    torch.manual_seed(0)
    cell, epsilon = Leaky(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    v, h, c = (torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (3, 4, 4))
    inputs = (v, h, c, epsilon, *cell.parameters())
    found = blackbox_step(cell, v, (h, c), epsilon)
    expected_h, s = cell(v, (h, c))
    G = torch.stack([torch.autograd.grad(s[:, j].sum(), v, create_graph=True)[0] for j in range(4)], 1)
    expected = expected_h, proximal_map(s, G, epsilon)
    close(found, expected, rtol=0, atol=1e-13)
    close(*(torch.autograd.grad(weighted_sum(out), inputs) for out in (found, expected)), rtol=0, atol=1e-12)


# ---- epsilon ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_epsilon_zero_is_the_library(method):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 3)
    for bidirectional in (False, True):
        theirs = nn.LSTM(3, 5, batch_first=True, bidirectional=bidirectional)
        ours = ProxLSTM(3, 5, epsilon=0.0, method=method, batch_first=True, bidirectional=bidirectional)
        ours.load_state_dict(theirs.state_dict())
        for lengths in (None, [6, 3, 1, 6]):
            a, b = run(ours, x, lengths), run(theirs, x, lengths)
            assert all(map(torch.equal, a[0] + a[1], b[0] + b[1]))
    cell, proximal = nn.LSTMCell(3, 5), ProxLSTMCell(3, 5, epsilon=0, method=method)
    proximal.load_state_dict(cell.state_dict())
    state = torch.randn(2, 4, 5).unbind()
    for arguments in ((x[0], None), (x[:, 0], state), (x[0, 0], None)):
        assert all(map(torch.equal, proximal(*arguments), cell(*arguments)))


@pytest.mark.parametrize("method", ["cholesky", "cg"])
@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
def test_small_epsilon_comes_near_the_library(inputs, hidden, method):
    """Through our own passes, which the exact zero does not take."""
    torch.manual_seed(0)
    theirs = nn.LSTM(inputs, hidden, dtype=torch.float64)
    ours = ProxLSTM(inputs, hidden, epsilon=1e-13, method=method, **TIGHT)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(6, 4, inputs, dtype=torch.float64)
    close(*(run(layer, x) for layer in (ours, theirs)), rtol=0, atol=1e-11)


def test_same_start_and_names_as_the_library():
    for kind, theirs in ((ProxLSTM, nn.LSTM), (ProxLSTMCell, nn.LSTMCell)):
        states = []
        for module in (kind, theirs):
            torch.manual_seed(3)
            states.append(module(4, 5).state_dict())
        assert list(states[0]) == list(states[1]) and all(map(torch.equal, states[0].values(), states[1].values()))
    assert [name for name, _ in ProxLSTM(4, 5, learnable=True).named_parameters()][-1] == "log_epsilon"
    assert len(ProxLSTM(4, 5, bidirectional=True).state_dict()) == 8


@pytest.mark.parametrize("method", METHODS)
def test_learnable_epsilon_by_finite_differences(method):
    torch.manual_seed(0)
    layer = ProxLSTM(3, 4, epsilon=0.7, method=method, learnable=True, **TIGHT)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert layer.epsilon.item() == pytest.approx(0.7, rel=1e-12)

    def loss(epsilon):
        layer.epsilon = epsilon
        output, state = layer(x)
        return weighted_sum((output, *state))

    (gradient,) = torch.autograd.grad(loss(0.7), layer.log_epsilon)
    with torch.no_grad():
        difference = (loss(0.7 * math.exp(1e-5)) - loss(0.7 * math.exp(-1e-5))) / 2e-5
    assert gradient.item() == pytest.approx(difference.item(), rel=1e-7)


def test_learnable_epsilon_trains_and_stays():
    layer = ProxLSTM(3, 4, epsilon=0.7, learnable=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.randn(5, 2, 3))[0].square().sum().backward()
    optimizer.step()
    assert 0 < layer.epsilon.item() != pytest.approx(0.7)
    copy = ProxLSTM(3, 4, learnable=True)
    copy.load_state_dict(layer.state_dict())
    assert copy.epsilon == layer.epsilon
    layer.reset_parameters()
    assert layer.epsilon.item() == pytest.approx(0.7)


def test_epsilon_can_be_set():
    layer = ProxLSTM(3, 4, epsilon=0.5)
    x = torch.randn(5, 2, 3)
    before = layer(x)[1][1]
    layer.epsilon = 5
    assert layer.epsilon == 5.0 and layer(x)[1][1].norm() < before.norm()
    assert "epsilon=5.0, method=auto" in repr(layer)


# ---- what must not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_padding_does_not_matter(method):
    """Whatever stands beyond a sequence's end, and however much of it: outputs and gradients are the same."""
    torch.manual_seed(0)
    layer = ProxLSTM(3, 4, epsilon=2.0, method=method, batch_first=True, bidirectional=True, **TIGHT)
    x, lengths = torch.randn(3, 6, 3, dtype=torch.float64), torch.tensor([4, 6, 2])
    spoiled = x.clone()
    spoiled[torch.arange(6) >= lengths.unsqueeze(1)] = math.nan
    first, second = (run(layer, part, lengths) for part in (x, spoiled))
    close(second, first, rtol=0, atol=0)
    assert not first[1][0][torch.arange(6) >= lengths.unsqueeze(1)].any()
    for k, length in enumerate(lengths):
        output, (h, c) = layer(x[k : k + 1, :length])
        close(first[0][0][k, :length], output[0], rtol=0, atol=1e-12)
        close((first[0][1][:, k], first[0][2][:, k]), (h[:, 0], c[:, 0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("lengths", [None, [4, 6, 2, 6]], ids=["padded", "packed"])
@pytest.mark.parametrize("method", METHODS)
def test_batch_order_does_not_matter(method, lengths):
    torch.manual_seed(0)
    layer = ProxLSTM(3, 4, epsilon=2.0, method=method, batch_first=True, **TIGHT)
    x, order = torch.randn(4, 6, 3, dtype=torch.float64), [2, 0, 3, 1]

    def forward(x, lengths, state):
        packed = lengths and pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        output, state = layer(packed or x, state)
        return (pad_packed_sequence(output, True)[0] if lengths else output), state

    state = torch.randn(2, 1, 4, 4, dtype=torch.float64).unbind()
    output, (h, c) = forward(x, lengths, state)
    turned = forward(x[order], lengths and [lengths[k] for k in order], tuple(part[:, order] for part in state))
    close(turned, (output[order], (h[:, order], c[:, order])), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_a_sample_does_not_see_the_others_in_float32(method):
    """Nor does one with a gradient 1e-8 times as large lose precision: the solver's residual counts per sample."""
    torch.manual_seed(0)
    layer = ProxLSTM(20, 24, epsilon=1.0, method=method)
    x = torch.randn(6, 3, 20, requires_grad=True)
    scale = torch.tensor([1.0, 1e-8, 1.0]).unsqueeze(1)

    def gradient(x, scale):
        (found,) = torch.autograd.grad((layer(x)[0].square() * scale).sum(), x)
        return found

    together = gradient(x, scale)[:, 1]
    alone = gradient(x[:, 1:2], scale[1:2])[:, 0]
    assert (together - alone).norm() < 5e-5 * alone.norm()


@pytest.mark.parametrize("method", METHODS)
def test_non_contiguous_inputs(method):
    torch.manual_seed(0)
    layer = ProxLSTM(3, 4, epsilon=2.0, method=method, batch_first=True, **TIGHT)
    x = torch.randn(4, 6, 6, dtype=torch.float64)[..., ::2]
    state = torch.randn(2, 4, 4, 1, dtype=torch.float64).transpose(1, 3).unbind()
    assert not x.is_contiguous() and not state[0].is_contiguous()
    close(run(layer, x, None, state), run(layer, x.contiguous(), None, tuple(s.contiguous() for s in state)))
    leaf = x.contiguous().requires_grad_()
    output, (h, c) = layer(leaf)  # gradients that are one number, expanded
    (ones,) = torch.autograd.grad(output.sum() + h.sum() + c.sum(), leaf)
    output, (h, c) = layer(leaf)
    weights = [torch.ones_like(part) for part in (output, h, c)]
    close(ones, torch.autograd.grad((output, h, c), leaf, weights)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_without_some_gradients_and_without_any(method):
    torch.manual_seed(0)
    layer = ProxLSTM(3, 4, epsilon=2.0, method=method, **TIGHT)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    output, _ = layer(x)
    gradients = torch.autograd.grad(output.square().sum(), list(layer.parameters()))
    with torch.no_grad():
        close(layer(x)[0], output.detach(), rtol=0, atol=0)
    layer.requires_grad_(False)
    assert not layer(x)[0].requires_grad
    x.requires_grad_()
    layer(x)[0].square().sum().backward()
    found = x.grad.clone()
    layer.requires_grad_(True)
    close(torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()]), (found, *gradients))


@pytest.mark.parametrize("method", ["cg", "cholesky", "blackbox"])
@pytest.mark.parametrize("make", [ProxLSTM, ProxLSTMCell])
def test_gradients_of_an_empty_batch_are_zeros(make, method):
    model = make(3, 4, epsilon=1.0, method=method)
    x = torch.empty((2, 0, 3) if make is ProxLSTM else (0, 3), requires_grad=True)
    model(x)[0].sum().backward()
    assert x.grad.shape == x.shape
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters())


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_backward_leaves_what_it_saved(method):
    torch.manual_seed(0)
    layer = ProxLSTM(3, 4, epsilon=2.0, method=method, bidirectional=True)
    output, state = layer(torch.randn(6, 2, 3))
    loss = weighted_sum((output, *state))
    first = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
    layer(torch.randn(6, 2, 3))
    assert all(map(torch.equal, first, torch.autograd.grad(loss, list(layer.parameters()))))


def test_second_derivatives_of_a_sequence_by_finite_differences():
    """Of a penalty on the gradient of a loss that is linear in the output, which has no other second derivative."""
    torch.manual_seed(0)
    layer, x = ProxLSTM(3, 4, epsilon=0.7).double(), torch.randn(6, 2, 3, dtype=torch.float64)

    def penalty(weight):
        v = x.clone().requires_grad_()
        output, _ = torch.func.functional_call(layer, {"weight_ih_l0": weight}, v)
        (gradient,) = torch.autograd.grad(output.sum(), v, create_graph=True)
        return gradient.square().sum()

    weight = layer.weight_ih_l0.detach().clone().requires_grad_()
    (computed,) = torch.autograd.grad(penalty(weight), weight)
    direction, step = torch.randn_like(weight), 1e-6
    with torch.no_grad():
        ends = [weight + sign * step * direction for sign in (1, -1)]
    plus, minus = (penalty(end.requires_grad_()).item() for end in ends)
    assert (computed * direction).sum().item() == pytest.approx((plus - minus) / (2 * step), rel=1e-5)


# ---- precision and modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "tolerance", "error"),
    [("cholesky", None, 2e-6), ("blackbox", None, 2e-6), ("cg", 1e-6, 3e-6), ("cg", None, 1e-4), ("auto", None, 1e-4)],
)
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_float32_against_float64(epsilon, method, tolerance, error):
    """Conjugate gradients end at a residual of 1e-4, or whatever is asked for."""
    torch.manual_seed(0)
    layer = ProxLSTM(20, 24, epsilon=epsilon, method=method, tolerance=tolerance)
    x = torch.randn(6, 5, 20)
    exact = ProxLSTM(20, 24, epsilon=epsilon, method="cholesky", dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    found = run(layer, x)
    torch.manual_seed(5)  # the weights of the sum, drawn in the one precision and used in both
    weights = [torch.randn(part.shape) for part in found[0]]
    inputs = [x.double().requires_grad_(), *exact.parameters()]
    output, state = exact(inputs[0])
    expected = (output, *state)
    gradients = torch.autograd.grad(expected, inputs, [weight.double() for weight in weights])
    for a, b in zip(found[0] + found[1], expected + gradients, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < error * b.norm()


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0, 100.0])
def test_gradient_of_a_learnable_epsilon_in_float32(epsilon):
    """Of a sum of squares, whose terms do not cancel."""
    torch.manual_seed(0)
    layer = ProxLSTM(20, 24, epsilon=epsilon, method="cg", learnable=True)
    exact = ProxLSTM(20, 24, epsilon=epsilon, method="cholesky", dtype=torch.float64, learnable=True)
    exact.load_state_dict(
        {name: 3 * weight for name, weight in layer.state_dict().items()} | {"log_epsilon": layer.log_epsilon}
    )
    layer.load_state_dict(exact.state_dict())
    x = torch.randn(7, 9, 20)
    found, expected = (
        torch.autograd.grad(one(x.to(one.log_epsilon.dtype))[0].square().sum(), one.log_epsilon)[0]
        for one in (layer, exact)
    )
    assert found.item() == pytest.approx(expected.item(), rel=5e-5)


@pytest.mark.parametrize("method", METHODS)
def test_autocast(method):
    """Computed in float32, whatever the type of what comes in; what goes out has the type that nn.LSTM's has."""
    torch.manual_seed(0)
    layer, x = ProxLSTM(5, 4, epsilon=1.0, method=method), torch.randn(6, 2, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(x)
        usual, _ = nn.LSTM(5, 4)(x)
    gradients = torch.autograd.grad(output.sum(), list(layer.parameters()))
    expected, _ = layer(x.float())
    assert output.dtype == usual.dtype == torch.bfloat16 and torch.equal(output, expected.bfloat16())
    close(gradients, torch.autograd.grad(expected.sum(), list(layer.parameters())), rtol=0, atol=0)


def test_bfloat16_module():
    torch.manual_seed(0)
    layer = ProxLSTM(5, 4, dtype=torch.bfloat16)
    x = torch.randn(6, 2, 5, dtype=torch.bfloat16)
    output, (h, c) = layer(x)
    assert output.dtype == h.dtype == c.dtype == torch.bfloat16
    close(output.float(), layer.float()(x.float())[0], rtol=0, atol=0.01)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_compiled_layer():
    torch.manual_seed(0)
    layer, x = ProxLSTM(5, 20, method="cg"), torch.randn(6, 2, 5)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(layer, backend="aot_eager")(x)[0], layer(x)[0])


# ---- conjugate gradients ---------------------------------------------------------------------------------------------


def test_no_convergence_warns():
    torch.manual_seed(0)
    layer, x = ProxLSTM(20, 24, epsilon=100.0, method="cg", max_iterations=2), torch.randn(6, 5, 20)
    with pytest.warns(
        RuntimeWarning, match=r"after 2 iterations with a relative residual of .*, above the tolerance of 1\.0e-04"
    ):
        output, _ = layer(x)
    with pytest.warns(RuntimeWarning, match="after 2 iterations"):
        output.sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ProxLSTM(20, 24, epsilon=100.0, method="cg")(x)[0].sum().backward()


@pytest.mark.parametrize("scale", [0.1, 30.0], ids=["even", "scaled"])
@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
def test_solvers_agree(inputs, hidden, scale):
    """x, G^T x and W G^T x; rows of weights below and above the length from which Jacobi's scaling is used."""
    torch.manual_seed(0)
    weight = scale * torch.rand(3 * hidden, 1, dtype=torch.float64) * torch.randn(3 * hidden, inputs).double()
    d, b = torch.randn(4, 3, hidden, dtype=torch.float64), torch.randn(4, hidden, dtype=torch.float64)
    b[2] = 0
    G = (d.unsqueeze(-1) * weight.view(3, hidden, inputs)).sum(1)
    x = torch.linalg.solve(torch.eye(hidden, dtype=torch.float64) + G @ G.mT, b)
    u = (x.unsqueeze(1) @ G).squeeze(1)
    for method in ("cholesky", "cg"):
        solver = make_solver(method, weight, 1e-14, 1000)
        assert method == "cholesky" or solver.is_even == (scale < 1)
        found = [torch.empty_like(part) for part in (x, u, d)]
        solver.solve(d, solver.prepare(d), b, *found)
        close(found, [x, u, (u @ weight.T).view_as(d)], rtol=0, atol=1e-10)
        assert not found[0][2].any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_conjugate_gradients_keep_their_tolerance(dtype, tolerance):
    """Systems of few and of many directions, from all but solved at the start to badly conditioned."""
    for seed in range(300):
        torch.manual_seed(seed)
        (inputs, hidden), scale = SIZES[seed % len(SIZES)], 10.0 ** (seed % 4 - 2)
        weight, b = scale * torch.randn(3 * hidden, inputs).double(), torch.randn(4, hidden).double()
        d = torch.rand(4, 3, hidden).double()
        G = (d.unsqueeze(-1) * weight.view(3, hidden, inputs)).sum(1)
        solver, x = make_solver("cg", weight.to(dtype), tolerance, 1000), torch.empty_like(b, dtype=dtype)
        d, u = d.to(dtype), torch.empty(4, inputs, dtype=dtype)
        solver.solve(d, solver.prepare(d), b.to(dtype), x, u, torch.empty_like(d))
        x = x.double().unsqueeze(-1)
        residuals = (x + G @ (G.mT @ x)).squeeze(-1) - b
        assert (residuals.norm(dim=1) / b.norm(dim=1)).square().mean().sqrt() < 10 * tolerance, seed


@pytest.mark.parametrize("rows", [2, 48])
def test_products(rows):
    """By either library, of matrices and of transposed ones, as blocks of larger matrices, too."""
    torch.manual_seed(0)
    left, right, plus, out = (torch.randn(size) for size in ((rows, 256), (256, 192), (rows, 192), (rows, 192)))
    expected = left.double() @ right.double()
    for a in (left, left.T.contiguous().T, torch.cat([left, left], 1)[:, :256]):
        for b in (right, right.T.contiguous().T):
            for bias in (None, plus, plus[0]):
                total = expected if bias is None else expected + bias
                for found in (product(a, b, bias), product(a, b, bias, out)):
                    close(found.double(), total, rtol=0, atol=1e-4)
                assert found is out
    assert product(left.double(), right.double()).dtype == torch.float64


def test_auto_takes_the_dense_way_when_a_side_is_small():
    def chosen(inputs, hidden):
        return isinstance(make_solver("auto", torch.ones(3 * hidden, inputs), 1e-3, 10), ConjugateGradients)

    assert not chosen(12, 64) and not chosen(64, 12) and chosen(64, 64)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_nan_goes_through(method):
    """A diverged training shows in its loss, not in an exception of the solver."""
    layer = ProxLSTM(3, 4, epsilon=1.0, method=method)
    nn.init.constant_(layer.weight_ih_l0, math.nan)
    output, _ = layer(torch.randn(5, 2, 3))
    output.sum().backward()
    assert output.isnan().all() and layer.weight_hh_l0.grad.isnan().any()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": -1.0}, "finite and not negative, not -1.0"),
        ({"epsilon": math.nan}, "finite and not negative, not nan"),
        ({"epsilon": 0.0, "learnable": True}, "positive to be learnable, not 0.0"),
        ({"method": "lu"}, "method must be one of auto, cholesky, cg, blackbox, not 'lu'"),
        ({"tolerance": 0.0}, "tolerance must be between 0 and 1, not 0.0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, not 0"),
    ],
    ids=str,
)
def test_refused_arguments(arguments, message):
    for kind in (ProxLSTM, ProxLSTMCell):
        with pytest.raises(ValueError, match=message):
            kind(3, 4, **arguments)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_refused_inputs(epsilon):
    """By the errors of nn.LSTM and nn.LSTMCell, of the same types."""
    ours = ProxLSTM(3, 4, epsilon=epsilon), ProxLSTMCell(3, 4, epsilon=epsilon)
    state = (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))
    wrong = [
        *((0, (torch.zeros(shape),)) for shape in ((5, 2, 4), (5, 4), (0, 2, 3), (5, 2, 3, 1))),
        (0, (torch.zeros(5, 3, 3), state)),
        *((1, (torch.zeros(shape),)) for shape in ((2, 4), (5, 2, 3))),
        (1, (torch.zeros(2, 3), (torch.zeros(3, 4), torch.zeros(2, 4)))),
    ]
    for which, arguments in wrong:
        errors = []
        for module in (ours[which], (nn.LSTM(3, 4), nn.LSTMCell(3, 4))[which]):
            with pytest.raises((RuntimeError, ValueError)) as caught:
                module(*arguments)
            errors.append(caught.type)
        assert errors[0] is errors[1], arguments
    if epsilon:  # nn.LSTM takes it
        with pytest.raises(RuntimeError, match="Expected 3, got 5"):
            ours[0](PackedSequence(torch.zeros(2, 5), torch.tensor([1, 1])))


def test_refused_type():
    with pytest.raises((RuntimeError, ValueError), match=r"torch\.float64.*torch\.float32"):
        ProxLSTM(3, 4)(torch.zeros(5, 2, 3, dtype=torch.float64))


def test_function_takes_a_state_without_gradients():
    """Only what needs a gradient gets one."""
    weight = torch.randn(16, 3, requires_grad=True)
    x, zeros = torch.randn(4, 3), torch.zeros(2, 4)
    solver = functools.partial(make_solver, "cg", tolerance=1e-4, max_iterations=100)
    constants = (torch.zeros(16, 4), torch.zeros(16), 1.0, [2, 2], False, solver)
    h, _, _ = ProxLSTMFunction.apply(x, zeros, zeros, weight, *constants)
    h.sum().backward()
    assert weight.grad.any()


def test_the_cell_is_called_with_a_state_or_with_its_two_tensors():
    torch.manual_seed(0)
    cell = ProxLSTMCell(4, 3, epsilon=0.5)
    v, h, c = torch.randn(2, 4), torch.randn(2, 3), torch.randn(2, 3)
    assert all(map(torch.equal, cell(v, h, c), cell(v, (h, c))))
    for wrong in ((v, h), (v, None, c)):
        with pytest.raises(TypeError, match=r"cell\(v, \(h, c\)\) or cell\(v, h, c\)"):
            cell(*wrong)
