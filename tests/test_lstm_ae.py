"""The autoencoders: shapes, the bottleneck, gradients, padding, and how they start."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, nll_loss

from lstm_studies.models import lstm_ae
from lstm_studies.models.initialisation import initialise_lstm
from lstm_studies.models.lstm_ae import HEADS, ConvLSTMAutoencoder, LSTMAutoencoder, positional_encoding


def lstm(**values):
    return LSTMAutoencoder(**{"input_size": 3, "hidden_size": 5, "num_classes": 4, "prediction_size": 2, **values})


def conv(**values):
    return ConvLSTMAutoencoder(**{"map_shape": (3,), "code_size": 5, "channels": 2, "num_classes": 4, **values})


# Every kind of model over sequences of 3 values per step, name by name.
MODELS = {
    "lstm": lstm,
    "layers": lambda: lstm(num_layers=3),
    "code": lambda: lstm(code_size=2),
    "encoding": lambda: lstm(code_size=2, num_layers=2, encoding_periods=(6.0, 3.0), timescale=6),
    "linear": lambda: lstm(output_layer="linear"),
    "conv": conv,
    "conv encoding": lambda: conv(encoding_periods=(6.0, 3.0), timescale=6),
    "deep": lambda: lstm(head="deep"),
    "separate": lambda: lstm(head="separate", num_layers=2, log_probabilities=True),
    "conv separate": lambda: conv(head="separate", encoding_periods=(6.0,)),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    made = MODELS[request.param]()
    with torch.no_grad():  # the prediction head starts at zero, where nothing could be seen
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return made.eval()


def sequences(batch=4, steps=6, seed=1):
    return torch.rand(batch, steps, 3, generator=torch.Generator().manual_seed(seed))


def parts(output):
    """Name by name what the model has of reconstruction, code, logits and prediction."""
    return {name: value for name, value in output._asdict().items() if value is not None}


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_shapes_and_ranges(model):
    x = sequences()
    output = model(10 * x - 5)  # inputs outside of [0, 1] as well
    assert output.reconstruction.shape == (4, 6, 3) and output.logits.shape == (4, 4)
    assert output.code.shape == (4, model.code_size)
    if model.arguments.get("output_layer") != "linear":
        assert ((output.reconstruction >= 0) & (output.reconstruction <= 1)).all()
    if output.prediction is not None:
        assert output.prediction.shape == (4, 6, 2)
        assert ((output.prediction > 0) & (output.prediction < 1)).all()
    assert output.reconstruction.std() > 0 and output.logits.std() > 0
    torch.testing.assert_close(output.code, model.encode(10 * x - 5))


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 1), (1, 7)])
def test_smallest_shapes(model, batch, steps):
    assert model(sequences(batch, steps)).reconstruction.shape == (batch, steps, 3)


def test_heads_are_optional():
    output = LSTMAutoencoder(3, 5)(sequences())
    assert output.logits is None and output.prediction is None and output.code.shape == (4, 5)
    assert ConvLSTMAutoencoder((3,), 5)(sequences()).logits is None


def test_code_size():
    torch.manual_seed(0)
    model = LSTMAutoencoder(3, 7, code_size=2)
    assert model.code_size == 2 and model.encode(sequences()).shape == (4, 2)
    assert model.decode(torch.randn(3, 2), 9).shape == (3, 9, 3)
    assert LSTMAutoencoder(3, 7).code_size == 7
    x = (sequences() - 0.5) / 0.25  # what the encoder reads
    _, (h, _) = model.encoder(x)
    torch.testing.assert_close(model.encode(sequences()), h[-1] @ model.to_code.weight.T + model.to_code.bias)
    plain = LSTMAutoencoder(3, 7, num_layers=2, input_mean=0.1, input_std=2.0)
    outputs, _ = plain.encoder((sequences() - 0.1) / 2.0)
    torch.testing.assert_close(plain.encode(sequences()), outputs[:, -1])  # h_T of the top layer
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])  # one for each value of a step
    scaled = LSTMAutoencoder(3, 7, input_mean=mean, input_std=std)
    outputs, _ = scaled.encoder((sequences() - mean) / std)
    torch.testing.assert_close(scaled.encode(sequences()), outputs[:, -1])


def test_two_spatial_axes():
    torch.manual_seed(0)
    model = ConvLSTMAutoencoder((2, 4), 3, channels=2, encoding_periods=[5.0])
    assert model(torch.rand(2, 5, 8)).reconstruction.shape == (2, 5, 8)


# ---- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lstm, conv])
def test_heads_by_hand(make):
    torch.manual_seed(0)
    x = sequences()
    for head in HEADS:
        model = make(head=head)
        decoder = model.decoder if head != "separate" else model.class_decoder
        state = model.unroll(decoder, model.encode(x), 6)[:, -1].flatten(1)
        if head == "deep":
            state = (state @ model.hidden_layer.weight.T + model.hidden_layer.bias).clamp_min(0)
        torch.testing.assert_close(model(x).logits, state @ model.class_head.weight.T + model.class_head.bias)


def test_a_separate_head_shares_the_encoder_and_the_code_only():
    torch.manual_seed(0)
    for make in (lstm, conv):
        for head in HEADS:
            model = make(head=head)
            model(sequences()).logits.square().sum().backward()
            reached = any(p.grad is not None for p in model.decoder.parameters())
            assert reached == (head != "separate")
            assert all(p.grad is not None for p in model.encoder.parameters())


def test_log_probabilities():
    torch.manual_seed(0)
    model = lstm(log_probabilities=True)
    plain = lstm()
    plain.load_state_dict(model.state_dict())
    logits = model(sequences()).logits
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(4))
    torch.testing.assert_close(logits, plain(sequences()).logits.log_softmax(1))
    classes = torch.arange(4)
    torch.testing.assert_close(nll_loss(logits, classes), cross_entropy(plain(sequences()).logits, classes))


def test_output_layers_differ_by_the_sigmoid():
    torch.manual_seed(0)
    linear, sigmoid = lstm(output_layer="linear"), lstm()
    sigmoid.load_state_dict(linear.state_dict())
    x = sequences()
    torch.testing.assert_close(torch.sigmoid(linear(x).reconstruction - 0.5), sigmoid(x).reconstruction)
    with pytest.raises(ValueError, match="output_layer must be one of sigmoid, linear, not 'tanh'"):
        lstm(output_layer="tanh")


def test_unknown_head():
    with pytest.raises(ValueError, match="head must be one of shared, deep, separate, not 'wide'"):
        lstm(head="wide")


def test_one_value_per_step_is_convolved_over_time():
    """The encoder's gates see the last three values at each step; what comes later changes nothing before it."""
    torch.manual_seed(0)
    model = conv(map_shape=(1,), channels=3, kernel_size=3)
    x, read = torch.rand(2, 6, 1), []
    model.encoder.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    output = model(x)
    assert output.reconstruction.shape == (2, 6, 1) and output.logits.shape == (2, 4)
    assert read[0].shape == (2, 6, 3, 1)
    padded = torch.cat([torch.zeros(2, 2, 1), x], 1)[:, :, 0]
    for t in range(6):
        assert torch.equal(read[0][:, t, :, 0], padded[:, t : t + 3])


# ---- chunks of time --------------------------------------------------------------------------------------------------


def outputs_and_gradients(model, x):
    model.zero_grad()
    x = x.clone().requires_grad_()
    output = model(x)
    loss = output.reconstruction.square().sum() + output.code.sum() + output.logits.square().sum()
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {**parts(output), **gradients, "x": x.grad}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("steps", [1, 4, 5, 50])
def test_chunks_of_time_change_nothing(monkeypatch, head, steps):
    """Ten steps; with chunks that do and do not divide them."""
    torch.manual_seed(0)
    values = {"prediction_size": 0, "head": head, "num_layers": 2, "encoding_periods": (6.0,), "code_size": 2}
    whole = lstm(**values).double()
    chunked = lstm(**values, checkpoint_steps=steps).double()
    chunked.load_state_dict(whole.state_dict())
    x = sequences(steps=10).double()
    results = outputs_and_gradients(chunked, x)
    for name, value in outputs_and_gradients(whole, x).items():
        torch.testing.assert_close(results[name], value, rtol=0, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}")
    monkeypatch.setattr(lstm_ae, "recomputed", lambda function, *arguments: function(*arguments))
    for name, value in outputs_and_gradients(chunked, x).items():  # to the bit, whether recomputed or kept
        assert torch.equal(results[name], value), name


PEAK = """
import re, sys, torch
from lstm_studies.models.lstm_ae import LSTMAutoencoder
def peak():  # of this program; ru_maxrss would hold that of the process which started it, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
torch.set_num_threads(1)
model = LSTMAutoencoder(1, 32, checkpoint_steps=int(sys.argv[1]))
model(torch.rand(16, 8, 1)).reconstruction.sum().backward()
before = peak()
model(torch.rand(16, 4096, 1)).reconstruction.sum().backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.reliability
def test_chunks_of_time_take_less_memory():
    """4,096 steps in chunks of 64; the bound is a half, the ratio a tenth or so."""
    root = Path(lstm_ae.__file__).parents[2]
    kept, recomputed = (
        int(subprocess.run([sys.executable, "-c", PEAK, n], cwd=root, capture_output=True, check=True).stdout)
        for n in ("0", "64")
    )
    assert recomputed < kept / 2


# ---- the bottleneck --------------------------------------------------------------------------------------------------


def test_decoder_sees_the_code_only(model, monkeypatch):
    """With an encoder that always gives the same code, every input comes out the same, from every head."""
    code = torch.randn(1, model.code_size, generator=torch.Generator().manual_seed(3))
    different = model(sequences())
    monkeypatch.setattr(model, "encode", lambda x, lengths=None: code.expand(len(x), -1))
    for name, value in parts(model(sequences())).items():
        torch.testing.assert_close(value, value[:1].expand_as(value), rtol=0, atol=1e-6)  # rows may be rounded apart
        assert torch.equal(value, parts(model(sequences(seed=2)))[name]), name
        assert (parts(different)[name] - parts(different)[name][:1]).abs().max() > 1e-4, name


def test_forward_decodes_its_own_code(model):
    output = model(sequences())
    torch.testing.assert_close(model.decode(output.code, 6), output.reconstruction)
    # the code alone, whatever was encoded before
    code = output.code.detach().clone()
    first = model.decode(code, 6)
    model(sequences(seed=9))
    assert torch.equal(model.decode(code, 6), first)


def test_decoder_input_is_the_code_at_every_step():
    torch.manual_seed(0)
    model = LSTMAutoencoder(3, 5, code_size=2)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    output = model(sequences())
    inputs, *state = seen[0]
    assert not state or state[0] is None  # no initial state
    assert inputs.shape == (4, 6, 2)
    for t in range(6):
        assert torch.equal(inputs[:, t], output.code)


def test_gradient_reaches_x_through_the_code_only(model, monkeypatch):
    x = sequences().requires_grad_()
    sum(value.square().sum() for value in parts(model(x)).values()).backward()
    assert (x.grad.abs().sum((0, 2)) > 0).all()
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda x, lengths=None: encode(x, lengths).detach())
    for name, value in parts(model(x)).items():
        if value.requires_grad:
            assert torch.autograd.grad(value.square().sum(), x, allow_unused=True)[0] is None, name


def test_gradient_reaches_every_parameter(model):
    sum(value.square().sum() for value in parts(model(sequences())).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


# ---- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: LSTMAutoencoder(3, 24, num_classes=4),
        lambda: ConvLSTMAutoencoder((3,), 12, channels=8, num_classes=4),
    ],
    ids=["lstm", "conv"],
)
def test_overfits_four_sequences(make):
    torch.manual_seed(0)
    model, x = make(), (sequences(4, 5) > 0.5).float()
    classes = torch.arange(4)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(250):
        output = model(x)
        loss = mse_loss(output.reconstruction, x) + 0.1 * cross_entropy(output.logits, classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 2e-3:
            break
    mean = mse_loss(x.mean(0).expand_as(x), x).item()
    assert mse_loss(model(x).reconstruction, x).item() < 0.01 < mean / 10
    assert torch.equal(model(x).reconstruction.round(), x)
    assert model(x).logits.argmax(1).tolist() == [0, 1, 2, 3]


# ---- variable lengths ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["lstm", "layers", "code", "encoding"])
def lstm_model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


LENGTHS = torch.tensor([3, 6, 1, 5])


def test_padding_changes_nothing(lstm_model):
    x = sequences()
    first = lstm_model(x, LENGTHS)
    padding = torch.arange(6) >= LENGTHS.unsqueeze(1)  # (B, T)
    second = lstm_model(torch.where(padding.unsqueeze(2), torch.full_like(x, 1e6), x), LENGTHS)
    for name, value in parts(first).items():
        assert torch.equal(value, parts(second)[name]), name
    assert not torch.allclose(first.code, lstm_model(x).code)


def test_each_sequence_as_if_it_were_alone(lstm_model):
    x = sequences()
    together = lstm_model(x, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        alone = lstm_model(x[i : i + 1, :length])
        torch.testing.assert_close(together.code[i], alone.code[0])
        torch.testing.assert_close(together.logits[i], alone.logits[0])
        torch.testing.assert_close(together.reconstruction[i, :length], alone.reconstruction[0])
        torch.testing.assert_close(together.prediction[i, :length], alone.prediction[0])


def test_full_lengths_are_no_lengths(lstm_model):
    whole, packed = lstm_model(sequences()), lstm_model(sequences(), torch.full((4,), 6))
    for name, value in parts(whole).items():
        torch.testing.assert_close(value, parts(packed)[name])


def test_order_of_the_batch_does_not_matter(model):
    x, order = sequences(), torch.tensor([2, 0, 3, 1])
    for name, value in parts(model(x)).items():
        torch.testing.assert_close(parts(model(x[order]))[name], value[order])
        torch.testing.assert_close(parts(model(x[:1]))[name], value[:1])


def test_order_of_lengths_does_not_matter(lstm_model):
    x, order = sequences(), torch.tensor([2, 0, 3, 1])
    for name, value in parts(lstm_model(x, LENGTHS)).items():
        torch.testing.assert_close(parts(lstm_model(x[order], LENGTHS[order]))[name], value[order])


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([3, 6, 1], r"lengths must be \(4,\), not \(3,\)"),
        ([[3, 6, 1, 5]], r"lengths must be \(4,\), not \(1, 4\)"),
        ([3, 6, 0, 5], r"lengths must lie in 1\.\.6, not 0\.\.6"),
        ([3, 7, 1, 5], r"lengths must lie in 1\.\.6, not 1\.\.7"),
        ([-1, 6, 1, 5], r"lengths must lie in 1\.\.6, not -1\.\.6"),
    ],
)
def test_bad_lengths(lengths, expected):
    with pytest.raises(ValueError, match=expected):
        lstm()(sequences(), torch.tensor(lengths))


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        np.array,
        lambda lengths: np.array(lengths, dtype=np.int32)[::-1][::-1],
        lambda lengths: np.array(lengths, dtype=np.float64),
        lambda lengths: pd.Series(lengths, index=[9, 7, 5, 3]),
        lambda lengths: torch.tensor(lengths, dtype=torch.int32),
        lambda lengths: [torch.tensor(length) for length in lengths],
    ],
)
def test_lengths_in_every_form(lstm_model, form):
    x = sequences()
    for name, value in parts(lstm_model(x, form(LENGTHS.tolist()))).items():
        assert torch.equal(value, parts(lstm_model(x, LENGTHS))[name]), name


@pytest.mark.parametrize(
    "lengths", [[3, 6, 2.7, 5], [3, 6, math.nan, 5], ["3", "6", "1", "5"], [True] * 4, [3, None, 1, 5]]
)
def test_lengths_that_are_no_whole_numbers(lengths):
    """2.7 steps are not 2."""
    with pytest.raises(ValueError, match=r"lengths must be.* whole numbers, not"):
        lstm().encode(sequences(), lengths)


def test_a_packed_sequence_is_refused_with_what_to_do():
    packed = nn.utils.rnn.pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)])
    with pytest.raises(ValueError, match=r"padded tensor \(B, T, 3\), with `lengths`, not PackedSequence"):
        LSTMAutoencoder(3, 5).encode(packed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code_size": 0}, "code_size must be a whole number of at least 1, not 0"),
        ({"code_size": 2.5}, "code_size must be a whole number of at least 1, not 2.5"),
        ({"hidden_size": 0}, "hidden_size must be .* not 0"),
        ({"num_layers": 0}, "num_layers must be .* not 0"),
        ({"num_classes": -1}, "num_classes must be .* at least 0, not -1"),
        ({"prediction_size": -1}, "prediction_size must be .* at least 0, not -1"),
        ({"checkpoint_steps": -1}, "checkpoint_steps must be .* at least 0, not -1"),
        ({"input_std": 0.0}, "input_std must be positive, both finite, not 0.0 and 0.5"),
        ({"input_mean": math.nan}, "not 0.25 and nan"),
        ({"input_mean": [0.1, 0.2]}, r"input_mean must be a number or 3 numbers, not \[0.1, 0.2\]"),
        ({"input_std": [1.0, 0.0, 1.0]}, "input_std must be positive"),
        ({"input_std": "wide"}, "input_std must be a number or 3 numbers, not wide"),
        ({"encoding_periods": [4.0, 0.0]}, r"encoding_periods must be positive and finite, not \(4.0, 0.0\)"),
    ],
    ids=str,
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lstm(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code_size": 0}, "code_size must be a whole number of at least 1, not 0"),
        ({"channels": 0}, "channels must be .* not 0"),
        ({"map_shape": ()}, r"one or two positive sizes, not \(\)"),
        ({"map_shape": (2, 0)}, r"one or two positive sizes, not \(2, 0\)"),
        ({"map_shape": (2, 2, 2)}, r"one or two positive sizes, not \(2, 2, 2\)"),
    ],
    ids=str,
)
def test_refused_arguments_of_convolutions(arguments, message):
    with pytest.raises(ValueError, match=message):
        conv(**arguments)


def test_an_empty_batch(model):
    output = model(sequences(0))
    assert output.reconstruction.shape == (0, 6, 3) and output.logits.shape == (0, 4)
    if isinstance(model, LSTMAutoencoder):
        assert model(sequences(0), []).code.shape == (0, model.code_size)


# ---- what a call leaves behind ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # of the exporter
@pytest.mark.parametrize("make", [lstm, conv])
def test_it_trains_after_inference_and_after_an_export(make):
    """Sizes that no other test uses: nothing of them is kept, in the model or anywhere else."""
    model, x = make(encoding_periods=(7.0, 3.25)), torch.rand(2, 13, 3)
    with torch.inference_mode():
        model(x)
    model(x).reconstruction.sum().backward()
    torch.export.export(model.eval(), (x,))
    for other in (model, make(encoding_periods=(7.0, 3.25))):
        output = other(x).reconstruction
        assert type(output) is torch.Tensor and torch.isfinite(output).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # of the exporter
def test_lengths_in_an_exported_program():
    model, x = lstm(encoding_periods=(4.0,)).eval(), sequences()
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(model, (x, LENGTHS), dynamic_shapes=({0: dynamic, 1: dynamic}, {0: dynamic})).module()
    other, lengths = sequences(2, 9), torch.tensor([4, 9])
    for name, value in parts(program(other, lengths)).items():
        torch.testing.assert_close(value, parts(model(other, lengths))[name])


@pytest.mark.parametrize("shape", [(4, 6), (6, 3), (4, 6, 2), (4, 6, 4), (4, 0, 3), (4, 6, 3, 1)])
def test_bad_shapes(model, shape):
    with pytest.raises(ValueError) as caught:
        model(torch.zeros(shape))
    assert "(B, T, 3)" in str(caught.value) and str(shape) in str(caught.value)


def test_convolutions_take_no_lengths():
    with pytest.raises(ValueError, match="lengths must be None"):
        conv()(sequences(), LENGTHS)


# ---- how they start --------------------------------------------------------------------------------------------------


def test_prediction_starts_at_one_half():
    torch.manual_seed(0)
    prediction = lstm()(sequences()).prediction
    assert torch.equal(prediction, torch.full_like(prediction, 0.5))


def test_dropout_only_before_the_class_head():
    torch.manual_seed(0)
    model, x = lstm(dropout=0.5).train(), sequences()
    one, two = model(x), model(x)
    assert torch.equal(one.reconstruction, two.reconstruction) and torch.equal(one.code, two.code)
    assert not torch.equal(one.logits, two.logits)
    model.eval()
    assert torch.equal(model(x).logits, model(x).logits)


def test_biases_by_hand():
    model = nn.LSTM(3, 2, num_layers=2)
    initialise_lstm(model)
    for layer in (0, 1):  # gates in the order i, f, g, o
        assert getattr(model, f"bias_ih_l{layer}").tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
        assert getattr(model, f"bias_hh_l{layer}").tolist() == [0] * 8


def test_chrono_biases():
    torch.manual_seed(0)
    hidden, timescale = 400, 100
    model = nn.LSTM(3, hidden)
    initialise_lstm(model, timescale)
    i, f, g, o = model.bias_ih_l0.detach().split(hidden)
    assert torch.equal(i, -f) and not g.any() and not o.any() and not model.bias_hh_l0.any()
    assert f.min() >= 0 and f.max() <= math.log(timescale - 1)
    # f = log(u), u uniform on 1..99: the mean of u is 50, with a standard error of 1.4
    assert f.exp().mean().item() == pytest.approx(50, abs=6) and f.exp().max() > 90
    with pytest.raises(ValueError, match="timescale must be at least 3 steps, not 2"):
        initialise_lstm(model, 2)


def test_timescale_is_that_of_the_encoder():
    torch.manual_seed(0)
    model = LSTMAutoencoder(3, 4, timescale=50)
    assert len(set(model.encoder.bias_ih_l0[4:8].tolist())) == 4
    assert model.decoder.bias_ih_l0.tolist() == [0] * 4 + [1] * 4 + [0] * 8


def test_recurrent_weights_are_orthogonal_per_gate():
    torch.manual_seed(0)
    model = nn.LSTM(3, 6, num_layers=2)
    initialise_lstm(model)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        gates = getattr(model, name).detach().split(6)
        for gate in gates:
            torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
        assert not torch.allclose(gates[0], gates[1])


def test_scale_of_the_input_weights():
    torch.manual_seed(0)
    model = nn.LSTM(16, 50)
    initialise_lstm(model)
    assert model.weight_ih_l0.std().item() == pytest.approx(0.25, rel=0.1)


# ---- positional encoding ---------------------------------------------------------------------------------------------


def test_positional_encoding_by_hand():
    expected = [  # sin of periods 4 and 2, then cos
        [0, 0, 1, 1],
        [1, 0, 0, -1],
        [0, 0, -1, 1],
        [-1, 0, 0, -1],
        [0, 0, 1, 1],
    ]
    torch.testing.assert_close(
        positional_encoding(5, [4, 2]), torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=0
    )
    assert positional_encoding(3, [8.0])[1].tolist() == pytest.approx([math.sqrt(0.5)] * 2)


def test_positional_encoding_does_not_depend_on_x():
    torch.manual_seed(0)
    model = LSTMAutoencoder(3, 5, code_size=2, encoding_periods=[4, 2])
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(sequences(seed=1)), model(sequences(seed=2))
    for inputs in seen:
        assert inputs.shape == (4, 6, 2 + 4)
        assert torch.equal(inputs[:, :, 2:], positional_encoding(6, [4, 2]).expand(4, -1, -1))
        assert torch.equal(inputs[:, :, :2], inputs[:, :1, :2].expand(-1, 6, -1))
    assert not torch.equal(seen[0], seen[1])
    # with it, a code of zeros can give different values at different steps from the first one on
    assert not torch.allclose(model.decode(torch.zeros(1, 2), 2)[0, 0], model.decode(torch.zeros(1, 2), 2)[0, 1])


def test_arguments_make_the_same_model(model):
    again = type(model)(**model.arguments)
    again.load_state_dict(model.state_dict())
    again.eval()
    for name, value in parts(model(sequences())).items():
        assert torch.equal(parts(again(sequences()))[name], value)
