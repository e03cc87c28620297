"""Perturbations of a training batch: along the gradient of the loss, or in a random direction of the same length.

Adversarial training as in Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015,
with the L2-normalised gradient of Miyato, Dai and Goodfellow, "Adversarial training methods for semi-supervised text
classification", ICLR 2017, eq. 3: a model is trained on v and on v + epsilon r, where r is constant. The attack of
several steps follows Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lstm_studies.models.lengths import checked_lengths


def compute_perturbation(loss: Tensor, v: Tensor | nn.Module) -> Tensor:
    """r = g / ||g|| with g = dloss/dv of each sample, over all of its steps and features; constant (B, ...).

    `loss` is a number made of the samples' losses, as their sum or mean (r is the same), and v (B, ...) a tensor that
    it was computed from, or a model: one whose call noted this tensor in the graph (LSTMClassifier does, see
    `forward_perturbed`), or one that holds it as its attribute `v`. Samples whose gradient is zero have r = 0, and so
    have steps that the loss did not see, such as padded ones. The graph is kept, so that `loss.backward()` can follow.
    Raises ValueError for a loss of several numbers and for a v that the loss does not depend on.
    """
    if isinstance(v, nn.Module):
        v = noted_inputs(loss, v)
    if loss.numel() != 1:
        raise ValueError(f"loss must be a single number, such as a mean over the batch, not {tuple(loss.shape)}")
    check_batch(v)
    if not v.requires_grad:
        raise ValueError("v must require a gradient: make the loss from v.requires_grad_(), or from a layer's output")
    (gradient,) = torch.autograd.grad(loss, v, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError("the loss must be computed from v: it does not depend on it")
    return normalize_samples(gradient.detach())


def note_inputs(output: Tensor, model: nn.Module, v: Tensor) -> None:
    """Notes, in the graph of `output`, that `model` computed it from v: the note lives as long as the graph."""
    if output.grad_fn is not None and not torch.compiler.is_compiling():
        output.grad_fn.metadata[model] = v


def noted_inputs(loss: Tensor, model: nn.Module) -> Tensor:
    """The v of the call of `model` from which the loss was computed: noted by `note_inputs`, or held as `model.v`."""
    if isinstance(getattr(model, "v", None), Tensor):
        return model.v
    nodes, noted = [loss.grad_fn], {}
    for node in nodes:  # grows: breadth first, each node once
        if node is None or node in noted:
            continue
        noted[node] = node.metadata.get(model)
        if noted[node] is None:
            nodes += [parent for parent, _ in node.next_functions]
    tensors = [v for v in noted.values() if v is not None]
    if len(tensors) != 1:
        raise ValueError(
            f"the loss must be made from one call model(x, None, len(x)) of this {type(model).__name__}, found "
            f"{len(tensors)}: call it so, not as model(x, lengths), or hand over the tensor v itself"
        )
    return tensors[0]


def find_perturbation(
    loss: Callable[[Tensor], Tensor],
    v: Tensor,
    radius: Tensor | float,
    steps: int,
    step_size: float = 2.5,
    start: Tensor | None = None,
) -> Tensor:
    """A perturbation (B, ...) of norm `radius` at most that raises loss(v + perturbation): projected gradient ascent.

    `loss` gives a number, the sum or mean of the samples' losses; `radius` is a number or (B,). With one step it is
    `radius` times `compute_perturbation`; each of several steps goes `step_size` radius / steps along the normalised
    gradient, and what is longer than `radius` is cut back to it. `start` (B, ...) is a perturbation to begin with.
    """
    radius = torch.as_tensor(radius, dtype=v.dtype, device=v.device).view(-1, *[1] * (v.dim() - 1))
    size = radius * (1 if steps == 1 else step_size / steps)
    perturbation = torch.zeros_like(v) if start is None else start
    for _ in range(steps):
        perturbed = (v + perturbation).detach().requires_grad_()
        perturbation = perturbation + size * compute_perturbation(loss(perturbed), perturbed)
        length = torch.linalg.vector_norm(perturbation.flatten(1), dim=1).view_as(size.expand(len(v), *size.shape[1:]))
        perturbation = perturbation * (radius / length.clamp_min(torch.finfo(v.dtype).tiny)).clamp_max(1)
    return perturbation


def random_perturbation(
    v: Tensor, lengths: Sequence[int] | Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """A direction for each sample of v (B, ...) uniform on the sphere ||r|| = 1: the control of `compute_perturbation`.

    With `lengths` (B), of sequences v (B, T, ...), r is zero from each sequence's end on.
    """
    check_batch(v)
    noise = torch.randn(v.shape, generator=generator, dtype=v.dtype, device=v.device)
    if lengths is not None:
        lengths = checked_lengths(lengths, len(v), v.shape[1], least=0).to(v.device)
        beyond = torch.arange(v.shape[1], device=v.device) >= lengths.unsqueeze(1)  # (B, T)
        noise[beyond] = 0
    return normalize_samples(noise)


def normalize_samples(g: Tensor) -> Tensor:
    """g (B, ...) with each sample divided by its L2 norm, zeros left alone.

    A sample is first brought to a largest value of 1: the squares of a gradient of 1e-25, as a confident classifier
    has, would be lost in float32.
    """
    flat = g.flatten(1)
    largest = flat.abs().amax(1, keepdim=True)
    flat = flat / torch.where(largest == 0, 1.0, largest)
    length = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return (flat / torch.where(length == 0, 1.0, length)).view_as(g)


def check_batch(v: Tensor) -> None:
    if v.dim() < 2 or not v.numel():
        raise ValueError(f"v must be a batch (B, ...) of at least one number each, not of the shape {tuple(v.shape)}")
