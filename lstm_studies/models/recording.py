"""When a recurrence with a backward pass of its own is computed by recorded operations instead.

`ProxLSTM` and `ConvLSTM` write into buffers and give first derivatives only. Whatever else PyTorch does with a function
needs the same formulas as differentiable operations: second derivatives, `torch.func`, forward mode, compilers and
exporters, shapes without values. docs/layers.md has the table.
"""

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.autograd import forward_ad


def is_transformed(*tensors: Tensor | None) -> bool:
    """Whether a call is exported or transformed by torch.func, or its tensors have tangents or no values.

    Neither an autograd function nor the kernel of nn.LSTM can be used there. Not so for torch.compile, which leaves as
    they are those that it cannot trace.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return torch._C._are_functorch_transforms_active() or any(x is not None and is_special(x) for x in tensors)


def is_recorded(*tensors: Tensor | None) -> bool:
    """Whether a call must consist of PyTorch's operations, because it is transformed or traced."""
    return torch.jit.is_tracing() or is_transformed(*tensors)


def is_special(x: Tensor) -> bool:
    return (
        x.is_meta
        or isinstance(x, FakeTensor)
        or torch._C._functorch.is_legacy_batchedtensor(x)  # a gradient in autograd.grad(is_grads_batched=True)
        or forward_ad.unpack_dual(x).tangent is not None
    )


def wants_graph(*grad_outputs: Tensor | None) -> bool:
    """Whether a backward pass must be recorded (`create_graph=True`) or is itself transformed."""
    return torch.is_grad_enabled() or is_transformed(*grad_outputs)


def recorded_gradients(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    grad_outputs: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients of `function(*inputs)` for the inputs where `needed`, which can be differentiated again.

    In the backward pass of an autograd function, `inputs` are its saved ones and `grad_outputs` what it is given.
    """
    keep_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # other tensors of the same values: an input that was computed from another one must not get the other's share
        inputs = [None if x is None else x.view_as(x) for x in inputs]
        pairs = [(y, g) for y, g in zip(function(*inputs), grad_outputs, strict=True) if g is not None]
        outputs, grad_outputs = zip(*pairs, strict=True)
        wanted = [x for x, is_needed in zip(inputs, needed, strict=True) if is_needed]
        gradients = iter(torch.autograd.grad(outputs, wanted, grad_outputs, create_graph=keep_graph, allow_unused=True))
    return tuple(next(gradients) if is_needed else None for is_needed in needed)


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Autocast switched off, where it is on: an exported program with a context of autocast cannot be saved."""
    is_on = device.type != "meta" and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_on else contextlib.nullcontext()


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The type in which autocast computes products of x; None where it is switched off, or does not touch x."""
    kind = x.device.type
    if kind == "meta" or x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)
