"""One training in several processes, each with its share of every batch: what `torchrun` starts.

    torchrun --nproc_per_node 2 lstm_ae_mnist.py --function reconstruct

All processes have the same weights and the same order of the data. The gradients of the shares, weighted by their
sizes, are summed: the step is the one that a single process makes with the whole batch. (Batch normalisation sees its
share only.) Only the first process writes into the output folder; the others work on a copy of their own.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, distributed

from training.settings import Request


def size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    return int(os.environ.get("RANK", 0))


@contextmanager
def joined(request: Request, device: str):
    """Joins the other processes, if there are any, and yields the values that this one runs with instead of others."""
    if size() == 1:
        yield {}
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        with tempfile.TemporaryDirectory() as own:
            if rank() > 0 and (request.resume or request.dry_run) and request.output_dir.exists():
                shutil.copytree(request.output_dir, own, dirs_exist_ok=True)
            distributed.barrier()  # nobody writes before all have read
            yield {"quiet": True, "tensorboard": False, "output_dir": Path(own)} if rank() > 0 else {}
    finally:
        distributed.destroy_process_group()


def share(indices: Tensor) -> tuple[Tensor, float]:
    """This process's part of a batch (B,), and its weight in it. An empty part is one sequence that counts nothing."""
    if size() == 1:
        return indices, 1.0
    own = indices.tensor_split(size())[rank()]
    return (own, len(own) / len(indices)) if len(own) else (indices[:1], 0.0)


def total(values: dict[str, float], weight: float, device: str) -> dict[str, float]:
    """The means over all processes of the means over their shares."""
    if size() == 1:
        return values
    sums = torch.tensor(list(values.values()), dtype=torch.float64).mul(weight)
    sums = sums.to(device, torch.float32 if device == "mps" else torch.float64)
    distributed.all_reduce(sums)
    return dict(zip(values, sums.tolist(), strict=True))


def sum_gradients(parameters: Iterable[torch.nn.Parameter], weight: float) -> None:
    """Replaces the gradients of the share's mean loss by those of the whole batch's, in one transfer."""
    if size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]).mul_(weight)
    distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def agreed(number: int, device: str) -> int:
    """The largest of all processes' numbers: they stop and save together."""
    if size() == 1:
        return number
    largest = torch.tensor(number, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def separate_noise(seed: int, *place: int) -> None:
    """Random numbers of this process's own at a place of the training: a resumed run needs no states of the others."""
    if size() > 1:
        for number in (*place, rank()):
            seed = (seed * 1_000_003 + number) % 2**63
        torch.manual_seed(seed)
