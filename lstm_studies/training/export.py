"""A trained model as a program for other software: by torch.export, as ONNX, and a JSON file that describes it."""

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lstm_studies.training.formats import VERSION
from lstm_studies.training.loop import Failed
from lstm_studies.training.tables import write_json

TOLERANCE = 1e-5  # largest difference from the model, as a share of the output's largest value
SIZES = ("batch", "steps")  # names of the first sizes of an input, where they may vary
ONNX = ("onnx", "onnxscript", "onnxruntime")  # packages


def export_program(folder: Path, program: nn.Module, model: Path) -> dict:
    """Writes model.pt2, model.onnx where the packages for it are installed, and model.json; both programs are made with
    two sequences and compared with the module on three. Returns metrics.

    program: a module of `models.programs`. model: the folder of the trained model.
    Raises Failed if what torch.export made does not compute what the module does.
    """
    program = program.eval().cpu().requires_grad_(False)
    example, other = program.inputs(2), program.inputs(3)
    variable = {name: variable_sizes(x, other[name]) for name, x in example.items()}
    shapes = tuple(dict.fromkeys(places, torch.export.Dim.DYNAMIC) for places in variable.values())
    path = folder / "model.pt2"
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        expected = tensors(program(**other))
        torch.export.save(torch.export.export(program, tuple(example.values()), dynamic_shapes=shapes), path)
        difference = largest_difference(tensors(torch.export.load(path).module()(*other.values())), expected)
        if difference > TOLERANCE:
            path.unlink()
            raise Failed(f"{path}: expected the model's outputs up to {TOLERANCE:g}, found {difference:.2g}")
        refused = export_onnx(folder / "model.onnx", program, example, other, shapes, expected)
    inputs = {
        name: {"type": str(x.dtype).removeprefix("torch."), "shape": named_shape(x, variable[name])}
        for name, x in example.items()
    }
    content = {"version": VERSION, "inputs": inputs, "outputs": program.outputs, **program.description}
    write_json(folder / "model.json", {**content, "model": str(model)})
    notice = {"notice": f"NOTICE: no ONNX file: {refused}"} if refused else {}
    return {"model": str(model), "program": str(path), "largest_difference": difference, **notice}


def export_onnx(
    path: Path,
    program: nn.Module,
    example: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    shapes: tuple,
    expected: Sequence[Tensor],
) -> str:
    """Writes an ONNX file with which ONNX Runtime computes what the module does; returns why there is none, or ""."""
    path.unlink(missing_ok=True)
    if missing := [name for name in ONNX if importlib.util.find_spec(name) is None]:
        return f"{', '.join(missing)} not installed"
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names = {"input_names": list(example), "output_names": list(program.outputs)}
    options = {"dynamic_shapes": shapes, "dynamo": True, "external_data": False, "verbose": False}
    try:
        torch.onnx.export(program, tuple(example.values()), path, **names, **options)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        outputs = session.run(names["output_names"], {name: x.numpy() for name, x in other.items()})
    except Exception as error:  # of any kind: exporter and runtime have dozens
        path.unlink(missing_ok=True)
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    difference = largest_difference([torch.from_numpy(np.asarray(array)) for array in outputs], expected)
    if difference > TOLERANCE:
        path.unlink()
        return f"its outputs differ by {difference:.2g} from the model's, expected at most {TOLERANCE:g}"
    return ""


def tensors(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest one of all outputs, as a share of an output's largest value."""
    shares = [
        (a.double() - b.double()).abs().amax() / b.double().abs().amax().clamp_min(1e-30)
        for a, b in zip(found, expected, strict=True)
    ]
    return torch.stack(shares).amax().item()


def variable_sizes(x: Tensor, other: Tensor) -> list[int]:
    return [place for place, (size, another) in enumerate(zip(x.shape, other.shape, strict=True)) if size != another]


def named_shape(x: Tensor, variable: Sequence[int]) -> list[int | str]:
    return [SIZES[place] if place in variable else size for place, size in enumerate(x.shape)]
