"""ProxLSTM and ProxLSTMCell are called as nn.LSTM and nn.LSTMCell: with epsilon = 0 to the bit, else in shapes, types,
names and kinds of errors.

An expectation is a function of a class: what it returns, or raises, is compared with what PyTorch's own class does.
"""

import copy
import functools
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from ProxLSTM import ProxLSTM, ProxLSTMCell

pytestmark = [
    pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),  # once per process
]
FEATURES, H = 4, 5
OPTIONS = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "bidirectional": {"bidirectional": True},
    "layers": {"num_layers": 2, "dropout": 0.5},
    "no bias": {"bias": False},
    "projection": {"proj_size": 3, "num_layers": 2},
    "all": {"num_layers": 2, "bias": False, "batch_first": True, "bidirectional": True, "proj_size": 3},
}


def draw(*shape, seed=1, dtype=None):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype or torch.float32)


def state_for(layer, batch):
    """h and c at random for a layer; without a batch axis if `batch` is None."""
    directions = layer.num_layers * (1 + layer.bidirectional)
    sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)
    return tuple(draw(directions, *(() if batch is None else (batch,)), size, seed=size) for size in sizes)


def inputs(form, batch_first):
    """The input of a form and the B of its states."""
    x = draw(3, 6, FEATURES) if batch_first else draw(6, 3, FEATURES)
    if form == "unbatched":
        return x[0] if batch_first else x[:, 0], None
    if form == "empty":
        return (x[:0] if batch_first else x[:, :0]), 0
    if form == "one step":
        return (x[:, :1] if batch_first else x[:1]), 3
    if form == "strided":
        wide = draw(3, 6, 2 * FEATURES) if batch_first else draw(6, 3, 2 * FEATURES)
        return wide[..., ::2], 3
    if form.startswith("packed"):
        lengths = [6, 4, 1] if form == "packed" else [2, 6, 5]
        return pack_padded_sequence(x, lengths, batch_first, enforce_sorted=form == "packed"), 3
    return x, 3


FORMS = ("batch", "unbatched", "empty", "one step", "strided", "packed", "packed unsorted")


def call(form, options, with_state, make):
    torch.manual_seed(0)
    layer = make(FEATURES, H, **options)
    x, batch = inputs(form, layer.batch_first)
    torch.manual_seed(3)  # of dropout
    return layer(x, state_for(layer, batch)) if with_state else layer(x)


def gradients(options, make):
    torch.manual_seed(0)
    layer, x = make(FEATURES, H, **options), draw(6, 3, FEATURES).requires_grad_()
    torch.manual_seed(3)
    output, (h, c) = layer(x, state_for(layer, x.shape[0 if layer.batch_first else 1]))
    return torch.autograd.grad(output.square().sum() + h.sum() + c.square().sum(), [x, *layer.parameters()])


def construct(*arguments, **named):
    def expectation(make):
        torch.manual_seed(0)
        layer = make(*arguments, **named)
        attributes = "input_size hidden_size bias num_layers batch_first dropout bidirectional proj_size".split()
        return layer.state_dict(), {name: getattr(layer, name) for name in attributes if hasattr(layer, name)}

    return expectation


def lstm(function, **options):
    """An expectation of a layer: `function(layer, x (6, 3, FEATURES))`."""

    def expectation(make):
        torch.manual_seed(0)
        return function(make(FEATURES, H, **options), draw(6, 3, FEATURES))

    return expectation


def cell(function, **options):
    """An expectation of a cell: `function(cell, x (3, FEATURES), h (3, H))`."""

    def expectation(make):
        torch.manual_seed(0)
        return function(make(FEATURES, H, **options), draw(3, FEATURES), draw(3, H, seed=2))

    return expectation


def autocast(function, dtype=torch.bfloat16):
    def inside(*arguments):
        with torch.autocast("cpu", dtype):
            return function(*arguments)

    return inside


def packed_of(width, dtype=torch.float32):
    return PackedSequence(draw(5, width, dtype=dtype), torch.tensor([3, 2]))


def without_gradients(layer, x):
    with torch.no_grad():
        output, _ = layer(x)
    return output.requires_grad, output


def loaded(layer, x):
    theirs = nn.LSTM(FEATURES, H)
    layer.load_state_dict(theirs.state_dict())
    return layer.state_dict(), layer(x)[0].shape


def trained_and_evaluated(layer, x):
    torch.manual_seed(3)
    return layer.train()(x), layer.eval()(x), layer(x)


Z = functools.partial(torch.zeros, 1, 3)
SIZES = {
    "(FEATURES, H)": (FEATURES, H),
    "(FEATURES, H, 2)": (FEATURES, H, 2),
    "(FEATURES, H, 2, False)": (FEATURES, H, 2, False),
    "(FEATURES, H, 1, True, True)": (FEATURES, H, 1, True, True),
    "(FEATURES, H, 2, True, False, 0.5)": (FEATURES, H, 2, True, False, 0.5),
    "(FEATURES, H, 1, True, False, 0.0, True)": (FEATURES, H, 1, True, False, 0.0, True),
    "(FEATURES, H, 2, False, True, 0.25, True, 3)": (FEATURES, H, 2, False, True, 0.25, True, 3),
    "(FEATURES, H, 1, True, False, 0.0, False, 0, 'cpu', torch.float64)": (
        *(FEATURES, H, 1, True, False, 0.0, False, 0, "cpu", torch.float64),
    ),
    "no input": (0, H),
    "no unit": (FEATURES, 0),
    "input of a float": (4.0, H),
    "units of a float": (FEATURES, 5.0),
    "no layer": (FEATURES, H, 0),
    "layers of a float": (FEATURES, H, 2.5),
    "bias of a number": (FEATURES, H, 1, 1),
    "batch_first of a number": (FEATURES, H, 1, True, 1),
    "dropout above 1": (FEATURES, H, 1, True, False, 1.5),
    "dropout of a truth value": (FEATURES, H, 1, True, False, True),
    "projection as wide as the state": (FEATURES, H, 1, True, False, 0.0, False, H),
    "negative projection": (FEATURES, H, 1, True, False, 0.0, False, -1),
}
LAYER = {
    **{
        f"{form}, {name}{', state' * with_state}": functools.partial(call, form, options, with_state)
        for form in FORMS
        for name, options in OPTIONS.items()
        for with_state in (False, True)
    },
    **{f"gradients, {name}": functools.partial(gradients, options) for name, options in OPTIONS.items()},
    **{f"construction {name}": construct(*sizes) for name, sizes in SIZES.items()},
    "construction by keywords": construct(input_size=FEATURES, hidden_size=H, num_layers=2, bias=False, proj_size=2),
    "construction with an unknown keyword": construct(FEATURES, H, layers=2),
    "construction without units": construct(FEATURES),
    # types
    "float64": lstm(lambda layer, x: layer(x.double()), dtype=torch.float64),
    "bfloat16": lstm(lambda layer, x: layer(x.bfloat16()), dtype=torch.bfloat16),
    "to float64": lstm(lambda layer, x: layer.double()(x.double())),
    "autocast": lstm(autocast(lambda layer, x: layer(x))),
    "autocast, bfloat16 input": lstm(autocast(lambda layer, x: layer(x.bfloat16()))),
    "autocast, state": lstm(autocast(lambda layer, x: layer(x, (Z(H), Z(H))))),
    "autocast, float64": lstm(autocast(lambda layer, x: layer(x.double())), dtype=torch.float64),
    "autocast, layers": lstm(autocast(lambda layer, x: layer(x)), num_layers=2, bidirectional=True),
    "autocast, packed": lstm(autocast(lambda layer, x: layer(packed_of(FEATURES)))),
    "meta": lstm(lambda layer, x: layer(x.to("meta")), device="meta", num_layers=2),
    "list of states": lstm(lambda layer, x: layer(x, [Z(H), Z(H)])),
    # methods
    "flatten_parameters": lstm(lambda layer, x: (layer.flatten_parameters(), layer(x))),
    "all_weights": lstm(lambda layer, x: layer.all_weights, num_layers=2, bidirectional=True),
    "names of parameters": lstm(lambda layer, x: [name for name, _ in layer.named_parameters()], num_layers=2),
    "reset_parameters": lstm(lambda layer, x: (torch.manual_seed(7), layer.reset_parameters(), layer(x))[1:]),
    "state dict of nn.LSTM": lstm(loaded),
    "deepcopy": lstm(lambda layer, x: copy.deepcopy(layer)(x)),
    "pickle": lstm(lambda layer, x: pickle.loads(pickle.dumps(layer))(x)),
    "functional_call": lstm(lambda layer, x: torch.func.functional_call(layer, layer.state_dict(), (x,))),
    "no_grad": lstm(without_gradients),
    "inference_mode": lstm(torch.inference_mode()(lambda layer, x: layer(x))),
    "constant weights": lstm(lambda layer, x: layer.requires_grad_(False)(x)[0].requires_grad),
    "dropout in training and evaluation": lstm(trained_and_evaluated, num_layers=3, dropout=0.4),
    # errors
    "4 axes": lstm(lambda layer, x: layer(x.unsqueeze(0))),
    "1 axis": lstm(lambda layer, x: layer(x[0, 0])),
    "other width": lstm(lambda layer, x: layer(draw(6, 3, 7))),
    "no step": lstm(lambda layer, x: layer(x[:0])),
    "float64 input": lstm(lambda layer, x: layer(x.double())),
    "whole numbers": lstm(lambda layer, x: layer(x.long())),
    "h of float64": lstm(lambda layer, x: layer(x, (Z(H).double(), Z(H)))),
    "c of float64": lstm(lambda layer, x: layer(x, (Z(H), Z(H).double()))),
    "h of other units": lstm(lambda layer, x: layer(x, (Z(6), Z(H)))),
    "c of other units": lstm(lambda layer, x: layer(x, (Z(H), Z(6)))),
    "h of another batch": lstm(lambda layer, x: layer(x, (torch.zeros(1, 7, H), Z(H)))),
    "c of another batch": lstm(lambda layer, x: layer(x, (Z(H), torch.zeros(1, 7, H)))),
    "h of other layers": lstm(lambda layer, x: layer(x, (Z(H), Z(H))), num_layers=2),
    "state without a batch": lstm(lambda layer, x: layer(x, (Z(H)[0], Z(H)[0]))),
    "state with a batch, unbatched": lstm(lambda layer, x: layer(x[:, 0], (Z(H), Z(H)))),
    "one state": lstm(lambda layer, x: layer(x, (Z(H),))),
    "three states": lstm(lambda layer, x: layer(x, (Z(H), Z(H), Z(H)))),
    "meta input": lstm(lambda layer, x: layer(x.to("meta"))),
    "nothing": lstm(lambda layer, x: layer(None)),
    "an array": lstm(lambda layer, x: layer(x.numpy())),
    "packed, other width": lstm(lambda layer, x: layer(packed_of(7))),
    "packed, float64": lstm(lambda layer, x: layer(packed_of(FEATURES, torch.float64))),
    "packed, h of another batch": lstm(lambda layer, x: layer(packed_of(FEATURES), (Z(H), torch.zeros(1, 3, H)))),
}
CELL = {
    "construction": construct(FEATURES, H),
    "construction without bias": construct(FEATURES, H, False),
    "construction on a device, in a type": construct(FEATURES, H, True, "cpu", torch.float64),
    "construction without units": construct(FEATURES),
    "batch": cell(lambda cell, x, h: cell(x)),
    "batch, state": cell(lambda cell, x, h: cell(x, (h, h + 1))),
    "batch, no bias": cell(lambda cell, x, h: cell(x, (h, h + 1)), bias=False),
    "list of states": cell(lambda cell, x, h: cell(x, [h, h + 1])),
    "unbatched": cell(lambda cell, x, h: cell(x[0])),
    "unbatched, state": cell(lambda cell, x, h: cell(x[0], (h[0], h[1]))),
    "empty": cell(lambda cell, x, h: cell(x[:0])),
    "empty, state": cell(lambda cell, x, h: cell(x[:0], (h[:0], h[:0]))),
    "strided": cell(lambda cell, x, h: cell(draw(3, 2 * FEATURES)[:, ::2], (h.T.contiguous().T, h))),
    "gradients": cell(lambda cell, x, h: torch.autograd.grad(sum(map(torch.sum, cell(x, (h, h)))), cell.weight_hh)),
    "float64": cell(lambda cell, x, h: cell(x.double(), (h.double(), h.double())), dtype=torch.float64),
    "bfloat16": cell(lambda cell, x, h: cell(x.bfloat16()), dtype=torch.bfloat16),
    "autocast": cell(autocast(lambda cell, x, h: cell(x))),
    "autocast, state": cell(autocast(lambda cell, x, h: cell(x, (h, h)))),
    "autocast, bfloat16 state": cell(autocast(lambda cell, x, h: cell(x, (h.bfloat16(), h.bfloat16())))),
    "autocast, float64": cell(autocast(lambda cell, x, h: cell(x.double())), dtype=torch.float64),
    "meta": cell(lambda cell, x, h: cell(x.to("meta")), device="meta"),
    "deepcopy": cell(lambda cell, x, h: copy.deepcopy(cell)(x)),
    "pickle": cell(lambda cell, x, h: pickle.loads(pickle.dumps(cell))(x)),
    "reset_parameters": cell(lambda cell, x, h: (torch.manual_seed(7), cell.reset_parameters(), cell(x))[1:]),
    "3 axes": cell(lambda cell, x, h: cell(x.unsqueeze(0))),
    "0 axes": cell(lambda cell, x, h: cell(x[0, 0])),
    "other width": cell(lambda cell, x, h: cell(draw(3, 7))),
    "float64 input": cell(lambda cell, x, h: cell(x.double())),
    "h of float64": cell(lambda cell, x, h: cell(x, (h.double(), h))),
    "c of float64": cell(lambda cell, x, h: cell(x, (h, h.double()))),
    "h of other units": cell(lambda cell, x, h: cell(x, (draw(3, 6), h))),
    "c of other units": cell(lambda cell, x, h: cell(x, (h, draw(3, 6)))),
    "h of another batch": cell(lambda cell, x, h: cell(x, (draw(7, H), h))),
    "c of another batch": cell(lambda cell, x, h: cell(x, (h, draw(7, H)))),
    "h without a batch": cell(lambda cell, x, h: cell(x, (h[0], h[0]))),
    "h of 3 axes": cell(lambda cell, x, h: cell(x, (h.unsqueeze(0), h))),
    "state with a batch, unbatched": cell(lambda cell, x, h: cell(x[0], (h, h))),
    "one state": cell(lambda cell, x, h: cell(x, (h,))),
    "three states": cell(lambda cell, x, h: cell(x, (h, h, h))),
    "a tensor as state": cell(lambda cell, x, h: cell(x, h)),
    "meta input": cell(lambda cell, x, h: cell(x.to("meta"))),
    "nothing": cell(lambda cell, x, h: cell(None)),
    "an array": cell(lambda cell, x, h: cell(x.numpy())),
}
EXPECTATIONS = {
    f"{kind}: {name}": (kind, function)
    for kind, table in (("LSTM", LAYER), ("cell", CELL))
    for name, function in table.items()
}
CLASSES = {"LSTM": (nn.LSTM, ProxLSTM), "cell": (nn.LSTMCell, ProxLSTMCell)}


def outcome(function, make, describe):
    """The result of an expectation in the form of `describe`, or the kind of its error."""
    try:
        return described(function(make), describe)
    except Exception as error:
        return type(error)


def described(value, describe):
    if isinstance(value, Tensor):
        return describe(value)
    if isinstance(value, dict):
        return {name: described(part, describe) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value).__name__, [described(part, describe) for part in value]
    return value


def bits(x):
    return tuple(x.shape), x.dtype, None if x.is_meta else x.detach().double().numpy().tobytes()


def form(x):
    return tuple(x.shape), x.dtype, x.device.type, x.requires_grad


def test_there_are_as_many_expectations_as_announced():
    assert len(EXPECTATIONS) >= 126


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_epsilon_zero_is_the_library(name):
    kind, function = EXPECTATIONS[name]
    theirs, ours = CLASSES[kind]
    assert outcome(function, functools.partial(ours, epsilon=0.0), bits) == outcome(function, theirs, bits)


@pytest.mark.parametrize("method", ["cholesky", "cg", "blackbox"])
@pytest.mark.parametrize("name", EXPECTATIONS)
def test_with_an_epsilon_forms_types_and_errors_are_the_library_s(name, method):
    kind, function = EXPECTATIONS[name]
    theirs, ours = CLASSES[kind]
    expected = outcome(function, theirs, form)
    assert outcome(function, functools.partial(ours, epsilon=0.5, method=method), form) == expected
