"""The table of docs/layers.md, cell by cell: what it says works gives the right values, what it denies is an error."""

import copy
import io
import logging
import pickle
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adv_alstm import AdvALSTM
from Classifier import LSTMClassifier
from lstm_studies.models.conv_lstm import ConvLSTM
from lstm_studies.models.lstm_ae import ConvLSTMAutoencoder, LSTMAutoencoder
from ProxLSTM import ProxLSTM, ProxLSTMCell

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of TorchScript, and by compilers themselves
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]
PAGE = Path(__file__).parent.parent / "docs" / "layers.md"


class OfFullLength(LSTMClassifier):
    """The classifier of sequences that are all as long as their batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, torch.full((x.shape[0],), x.shape[1], device=x.device))


ANY = torch.export.Dim.DYNAMIC
MODELS = {  # the model, and its input for a batch of B and T steps
    "ProxLSTM": (lambda: ProxLSTM(3, 4, batch_first=True), lambda B, T: torch.rand(B, T, 3)),
    "ProxLSTMCell": (lambda: ProxLSTMCell(3, 4), lambda B, T: torch.rand(B, 3)),
    "ConvLSTM": (lambda: ConvLSTM(2, 3, 3, 1), lambda B, T: torch.rand(B, T, 2, 5)),
    "LSTMAutoencoder": (
        lambda: LSTMAutoencoder(3, 4, 2, num_classes=2, encoding_periods=[4.0]),
        lambda B, T: torch.rand(B, T, 3),
    ),
    "ConvLSTMAutoencoder": (
        lambda: ConvLSTMAutoencoder((3,), 2, channels=2, num_classes=2, encoding_periods=[4.0]),
        lambda B, T: torch.rand(B, T, 3),
    ),
    "LSTMClassifier": (lambda: OfFullLength(3, 4, 5, 2), lambda B, T: torch.rand(B, T, 3)),
    'LSTMClassifier(mode="ProxLSTM")': (
        lambda: OfFullLength(3, 4, 5, 2, mode="ProxLSTM", epsilon=1.0),
        lambda B, T: torch.rand(B, T, 3),
    ),
    "AdvALSTM": (lambda: AdvALSTM(4).build(3), lambda B, T: torch.rand(B, T, 3)),
}


def tensors(outputs):
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for part in outputs if part is not None for tensor in tensors(part)]


def loss(outputs):
    return sum(output.square().sum() for output in tensors(outputs))


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(tensors(found), tensors(expected), rtol=tolerance, atol=tolerance)


def gradients(module, outputs):
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.autograd.grad(loss(outputs), trained, allow_unused=True, materialize_grads=True)


def second_derivatives(model, inputs):
    model, x = model().double(), inputs(2, 5).double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model(x)), x, create_graph=True)
    v = torch.randn_like(x)
    (product,) = torch.autograd.grad((gradient * v).sum(), x)
    ends = [torch.autograd.grad(loss(model(x + h * v)), x)[0] for h in (1e-6, -1e-6)]
    close(product, (ends[0] - ends[1]) / 2e-6)


def gradients_per_sample(model, inputs):
    model, x = model(), inputs(3, 6)
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)

    def loss_of_one(parameters, sample):
        named = dict(zip(names, parameters, strict=True))
        return loss(torch.func.functional_call(model, named, (sample.unsqueeze(0),)))

    each = torch.func.vmap(torch.func.grad(loss_of_one), (None, 0))([p.detach() for p in parameters], x)
    close([part.sum(0) for part in each], gradients(model, model(x)), 1e-4)


def ensemble(model, inputs):
    models, x = [model() for _ in range(3)], inputs(2, 6)
    state = torch.func.stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")
    outputs = torch.func.vmap(lambda *state: tensors(torch.func.functional_call(skeleton, state, (x,))))(*state)
    close([output[1] for output in outputs], models[1](x))


def forward_mode(model, inputs):
    model, x = model().double(), inputs(2, 5).double()
    v = torch.randn_like(x)
    product = torch.func.jvp(lambda x: tensors(model(x))[0], (x,), (v,))[1]
    ends = [tensors(model(x + h * v))[0] for h in (1e-6, -1e-6)]
    close(product, (ends[0] - ends[1]) / 2e-6)


def batched_jacobian(model, inputs):
    model, x = model().double(), inputs(2, 4).double()
    both = [
        torch.autograd.functional.jacobian(lambda x: tensors(model(x))[0], x, vectorize=vectorize)
        for vectorize in (True, False)
    ]
    close(*both)


def compiled(model, inputs, fullgraph=False):
    torch._dynamo.reset()
    model, x = model(), inputs(2, 5)
    outputs = torch.compile(model, backend="aot_eager", fullgraph=fullgraph)(x)
    close(outputs, model(x))
    close(gradients(model, outputs), gradients(model, model(x)), 1e-4)


def compiled_whole(model, inputs):
    compiled(model, inputs, fullgraph=True)


def sizes(x):
    """B, and T if there is one, as variables of an exported program."""
    return (dict.fromkeys(range(1 if x.dim() == 2 else 2), ANY),)


def exported(model, inputs):
    """With gradients on; called with other sizes; saved and loaded."""
    model, x, other = model().eval(), inputs(3, 7), inputs(5, 9)
    program = torch.export.export(model, (x,), dynamic_shapes=sizes(x))
    copied = program.module()
    outputs = copied(other)
    close(outputs, model(other))
    close(gradients(copied, outputs), gradients(model, model(other)), 1e-4)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    close(torch.export.load(file).module()(other), model(other))


def onnx(model, inputs, **options):
    """The outputs of onnxruntime for other sizes than those that the file was made with."""
    onnxruntime = pytest.importorskip("onnxruntime")
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    logging.disable(logging.WARNING)
    model, x, other, file = model().eval(), inputs(3, 7), inputs(5, 9), io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # of the exporters, which are deprecated in part
        torch.onnx.export(model, (x,), file, verbose=False, **options)
    session = onnxruntime.InferenceSession(file.getvalue())
    (name,) = [given.name for given in session.get_inputs()]
    close([torch.tensor(output) for output in session.run(None, {name: other.numpy()})], model(other))


def onnx_default(model, inputs):
    onnx(model, inputs, dynamic_shapes=sizes(inputs(3, 7)))


def onnx_legacy(model, inputs):
    names = {0: "batch"} if inputs(3, 7).dim() == 2 else {0: "batch", 1: "steps"}
    onnx(model, inputs, dynamo=False, input_names=["x"], dynamic_axes={"x": names})


def traced(model, inputs):
    """Called with another B and the same T."""
    model, other = model().eval(), inputs(5, 7)
    close(torch.jit.trace(model, (inputs(3, 7),), check_trace=False)(other), model(other))


def traced_for_any_length(model, inputs):
    model, other = model().eval(), inputs(5, 9)
    close(torch.jit.trace(model, (inputs(3, 7),), check_trace=False)(other), model(other))


def scripted(model, inputs):
    model, x = model().eval(), inputs(3, 7)
    close(torch.jit.script(model)(x), model(x))


def shapes_without_values(model, inputs):
    model_with_values, x = model(), inputs(3, 7)
    expected = [output.shape for output in tensors(model_with_values(x))]
    assert [output.shape for output in tensors(model().to("meta")(x.to("meta")))] == expected
    with torch._subclasses.FakeTensorMode() as mode:
        named = {name: mode.from_tensor(part) for name, part in model_with_values.named_parameters()}
        fake = torch.func.functional_call(model_with_values, named, (mode.from_tensor(inputs(3, 7)),))
    assert [output.shape for output in tensors(fake)] == expected


def state_after_a_call(model, inputs):
    """The model holds nothing more, can be copied, and trains after inference."""
    model, x = model(), inputs(3, 7)
    before = len(pickle.dumps(model))
    with torch.inference_mode():
        model(x)
    outputs = model(x)
    copy.deepcopy(model)
    assert len(pickle.dumps(model)) == before
    assert any(gradient.any() for gradient in gradients(model, outputs))


CHECKS = {
    "`create_graph=True`, gradient penalties": second_derivatives,
    "gradients per sample: `torch.func.vmap` of `torch.func.grad`": gradients_per_sample,
    "ensembles: `stack_module_state` and `vmap`": ensemble,
    "forward mode: `torch.func.jvp`, `jacfwd`": forward_mode,
    "`jacobian(vectorize=True)`": batched_jacobian,
    "`torch.compile`": compiled,
    "`torch.compile(fullgraph=True)`": compiled_whole,
    "`torch.export`, gradients on, any B and T; saved": exported,
    "ONNX by the default exporter, any B and T": onnx_default,
    "ONNX by the legacy exporter, any B and T": onnx_legacy,
    "`torch.jit.trace`, any B": traced,
    "`torch.jit.trace`, any T": traced_for_any_length,
    "`torch.jit.script`": scripted,
    "shapes alone: `meta` tensors": shapes_without_values,
    "inference mode, then training; `deepcopy`, `pickle`": state_after_a_call,
}


def table():
    """The page's table: {(row, model): cell}."""
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\|[^-]", line)]
    header, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [name.strip("`") for name in header[1:]]
    return {(row[0], name): cell for row in rows for name, cell in zip(names, row[1:], strict=True)}


def test_the_table_is_whole():
    assert set(table()) == {(row, model) for row in CHECKS for model in MODELS}


SLOW = {
    ("`torch.compile`", "LSTMAutoencoder"),
    ("`torch.compile`", "ConvLSTMAutoencoder"),
    ("`torch.export`, gradients on, any B and T; saved", "ConvLSTMAutoencoder"),
    ("`torch.export`, gradients on, any B and T; saved", 'LSTMClassifier(mode="ProxLSTM")'),  # as in test_classifier.py
    ("`torch.export`, gradients on, any B and T; saved", "LSTMAutoencoder"),  # as in test_lstm_ae.py
}


@pytest.mark.parametrize(
    ("row", "model"),
    [
        pytest.param(row, model, marks=[pytest.mark.reliability] * ((row, model) in SLOW))
        for row in CHECKS
        for model in MODELS
    ],
)
def test_cell_of_the_table(row, model):
    torch.manual_seed(1)
    cell = table()[row, model]
    try:
        CHECKS[row](*MODELS[model])
    except Exception as error:
        assert cell == "no", f"{type(error).__name__}: {error}"
    else:
        assert cell == "✓"
    finally:
        logging.disable(logging.NOTSET)
