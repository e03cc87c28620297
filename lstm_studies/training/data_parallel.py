"""Data-parallel training under `torchrun`: each process computes its shard of every batch.

    torchrun --nproc_per_node 2 lstm_ae_mnist.py --function reconstruct

All processes hold the same weights and read the data in the same order. The gradients of the shards, weighted by their
sizes, are all-reduced, so that each step equals that of a single process on the whole batch. (Batch normalisation
sees one shard only.) Only the first process writes into the output folder; the others write to temporary folders.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, distributed

from lstm_studies.training.presets import Request

is_joined = False  # a program that trains on its own, in a cluster that sets WORLD_SIZE, is alone


def started() -> int:
    """How many processes torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", 1))


def size() -> int:
    """How many processes train together, as `joined` has put them."""
    return started() if is_joined else 1


def rank() -> int:
    return int(os.environ.get("RANK", 0)) if is_joined else 0


@contextmanager
def joined(request: Request, device: str):
    """Joins the process group, if there is one, and yields the settings that this process overrides."""
    global is_joined
    if started() == 1:
        yield {}
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    is_joined = True
    try:
        with tempfile.TemporaryDirectory() as own:
            if rank() > 0 and any(map(request.values.get, ("resume", "dry_run"))) and request.output_dir.exists():
                shutil.copytree(request.output_dir, own, dirs_exist_ok=True)
            distributed.barrier()  # nobody writes before all have read
            quiet = {"quiet": True, "output_dir": Path(own)}
            yield quiet | {"tensorboard": False} if rank() > 0 else {}
    finally:
        is_joined = False
        distributed.destroy_process_group()


def shard(indices: Tensor) -> tuple[Tensor, float]:
    """This process's shard of a batch (B,), and its weight in it. An empty shard becomes one sequence of weight 0."""
    if size() == 1:
        return indices, 1.0
    own = indices.tensor_split(size())[rank()]
    return (own, len(own) / len(indices)) if len(own) else (indices[:1], 0.0)


def all_reduce_means(values: dict[str, float], weight: float, device: str) -> dict[str, float]:
    """All-reduces the metrics: from means over the shards to means over the whole batch."""
    if size() == 1:
        return values
    sums = torch.tensor(list(values.values()), dtype=torch.float64).mul(weight)
    sums = sums.to(device, torch.float32 if device == "mps" else torch.float64)
    distributed.all_reduce(sums)
    return dict(zip(values, sums.tolist(), strict=True))


def all_reduce_gradients(parameters: Iterable[torch.nn.Parameter], weight: float) -> None:
    """All-reduces the gradients of the shard's mean loss to those of the whole batch's, in one transfer."""
    if size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]).mul_(weight)
    distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def all_reduce_max(number: int, device: str) -> int:
    """All-reduces a number to the largest one, so that all processes stop and save together."""
    if size() == 1:
        return number
    largest = torch.tensor(number, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def seed_process(seed: int, *place: int) -> None:
    """Seeds this process by its rank and the point of the training, so that resuming needs no states of other ranks."""
    if size() > 1:
        for number in (*place, rank()):
            seed = (seed * 1_000_003 + number) % 2**63
        torch.manual_seed(seed)
