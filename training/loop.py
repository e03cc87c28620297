"""The one training loop: resumable after any batch, the best epoch chosen on validation data.

A script hands `train` a `step(model, batch) -> dict` with the entry "loss" (a mean over the batch, differentiable) and
any other means that it wants in `history.csv`. The loop never asks what kind of model it has.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from training import checkpoint, data_parallel
from training.checkpoint import CheckpointError
from training.flags import UsageError
from training.signals import Interrupted, deferred_signals
from training.tables import write_csv

# Flags that do not change what is computed: a run may be resumed with others.
FREE_FLAGS = {
    "resume",
    "dry_run",
    "quiet",
    "tensorboard",
    "jobs",
    "backend",
    "scheduler",
    "output_dir",
    "data_dir",
    "checkpoint_every",
    "function",
    "seeds",
}
Batch = tuple[Tensor, ...]
Step = Callable[[nn.Module, Batch], dict[str, Tensor]]


class Failed(RuntimeError):
    """The run cannot go on, and the message, one line, says why."""


class Diverged(Failed):
    """The loss became infinite or not a number."""


class Result(NamedTuple):
    """What `train` returns: the best validation score, the epoch (from 1) that gave it, epochs run, and seconds."""

    score: float
    maximise: bool
    best_epoch: int
    epochs: int
    seconds: float


def random_batches(size: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Indices of an epoch's batches: every sequence once, in random order, the last batch possibly smaller."""
    return list(torch.randperm(size, generator=generator).split(batch_size))


def in_random_order(batches: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def train(
    model: nn.Module,
    step: Step,
    training_data,
    validation_data,
    flags: argparse.Namespace,
    folder: Path,
    monitor: str = "loss",
    maximise: bool = False,
    batches: Callable[[int, int, torch.Generator], Iterable[Tensor]] = random_batches,
) -> Result:
    """Trains `model`; leaves `last.pt`, `best.pt` and `history.csv` in `folder`, and the best weights in the model.

    The data are any objects with `len` and with `data[indices] -> batch`, a tuple of tensors whose first has one entry
    per sequence (`torch.utils.data.TensorDataset`). `monitor` names the validation metric that chooses the best epoch;
    without validation data, None, the last epoch is kept, and the score is not a number.

    Raises Diverged at a loss that is not finite and Interrupted after a signal; both leave `best.pt` as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.to(flags.device)
    training = Training(model, step, training_data, validation_data, flags, folder, monitor, maximise, batches)
    checkpoint.remove_temporaries(folder)
    if flags.resume:
        training.restore()
    else:
        for name in ("last.pt", "last.previous.pt", "best.pt", "history.csv"):
            (folder / name).unlink(missing_ok=True)
    with deferred_signals() as received:
        training.run(received)
    if received:  # during the last save
        raise Interrupted(received[0], " after the last epoch; --resume goes on")
    best = checkpoint.load(folder / "best.pt")
    model.load_state_dict(best["model"]["weights"])
    model.eval()
    return Result(training.best_score, maximise, training.best_epoch, len(training.history), training.seconds)


class Training:
    """One training as a state that can be saved after any batch."""

    def __init__(self, model, step, training_data, validation_data, flags, folder, monitor, maximise, batches):
        self.model, self.step, self.flags, self.folder = model, step, flags, folder
        self.training_data, self.validation_data, self.batches = training_data, validation_data, batches
        self.monitor, self.sign = monitor, -1.0 if maximise else 1.0
        kind = getattr(torch.optim, flags.optimizer)
        self.optimizer = kind(model.parameters(), lr=flags.learning_rate, weight_decay=flags.weight_decay)
        self.epoch = self.batch = 0  # done so far: whole epochs, and batches of the running epoch
        self.sums: dict[str, float] = {}  # of the running epoch's metrics, weighted by batch size
        self.history: list[dict] = []
        self.best_score, self.best_epoch, self.seconds = math.inf * self.sign, 0, 0.0
        if validation_data is None:
            self.best_score = math.nan
        self.last_saved = time.monotonic()
        self.board = None
        if flags.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder)

    def run(self, received: list[int]) -> None:
        started = time.monotonic() - self.seconds
        if self.epoch == self.flags.epochs or self.out_of_patience():
            return  # resumed after its end
        while self.epoch < self.flags.epochs and not self.out_of_patience():
            order = list(self.batches(len(self.training_data), self.flags.batch_size, self.generator()))
            self.model.train()
            unit = tqdm(
                order[self.batch :],
                f"epoch {self.epoch + 1}/{self.flags.epochs}",
                leave=False,
                disable=self.flags.quiet or not sys.stderr.isatty(),
                initial=self.batch,
                total=len(order),
            )
            for indices in unit:
                loss = self.train_batch(indices, len(order))
                unit.set_postfix(loss=f"{loss:.4g}", refresh=False)
                self.seconds = time.monotonic() - started
                self.save_if_due(received)
            self.finish_epoch()
            self.seconds = time.monotonic() - started
            self.save_if_due(received)
        self.save()

    def save_if_due(self, received: list[int]) -> None:
        signum = data_parallel.agreed(received[0] if received else 0, self.flags.device)
        if signum and not received:  # one of the other processes got it
            received.append(signum)
        if received or time.monotonic() - self.last_saved > self.flags.checkpoint_every:
            self.save()
        if received:
            raise Interrupted(received[0], f" in epoch {self.epoch + 1}, after batch {self.batch}; --resume goes on")

    def generator(self) -> torch.Generator:
        """Of this epoch's data order: a function of seed and epoch, so that a resumed epoch has the same order."""
        return torch.Generator().manual_seed(self.flags.seed * 1_000_003 + self.epoch)

    def out_of_patience(self) -> bool:
        return self.validation_data is not None and 0 < self.flags.patience <= self.epoch - self.best_epoch

    def train_batch(self, indices: Tensor, batches_per_epoch: int) -> float:
        rate = self.learning_rate(batches_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        own, weight = data_parallel.share(indices)
        batch = fetch(self.training_data, own, self.flags.device)
        data_parallel.separate_noise(self.flags.seed, self.epoch, self.batch)
        with torch.autocast(self.flags.device, torch.bfloat16, enabled=self.flags.precision == "bfloat16"):
            metrics = self.step(self.model, batch)
        values = data_parallel.total(to_floats(metrics), weight, self.flags.device)
        if not math.isfinite(values["loss"]):
            place = f"epoch {self.epoch + 1}, batch {self.batch + 1}, learning rate {rate:g}"
            raise Diverged(f"the loss is {values['loss']} at {place}")
        self.optimizer.zero_grad()
        metrics["loss"].backward()
        data_parallel.sum_gradients(self.model.parameters(), weight)
        if self.flags.gradient_clipping:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.flags.gradient_clipping)
        self.optimizer.step()
        self.batch += 1
        add_weighted(self.sums, values, len(indices))
        return values["loss"]

    def learning_rate(self, batches_per_epoch: int) -> float:
        if self.flags.schedule == "constant":
            return self.flags.learning_rate
        total = self.flags.epochs * batches_per_epoch
        now, warmup = self.epoch * batches_per_epoch + self.batch, max(1, total // 20)
        rise = min(1.0, (now + 1) / warmup)
        return self.flags.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * now / total))

    def finish_epoch(self) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        size = self.sums.pop("size")
        means = {f"train_{name}": total / size for name, total in self.sums.items()}
        if self.validation_data is None:
            validation, score = {}, math.nan
        else:
            validation = evaluate(self.model, self.step, self.validation_data, self.flags)
            score = validation[self.monitor]
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        row = {"epoch": self.epoch, **means, **{f"val_{k}": v for k, v in validation.items()}, "learning_rate": rate}
        self.history.append(row)
        if self.validation_data is not None and not math.isfinite(score):
            raise Diverged(f"the validation {self.monitor} is {score} after epoch {self.epoch}, learning rate {rate:g}")
        chosen = score * self.sign < self.best_score * self.sign
        if chosen or (self.validation_data is None and self.epoch == self.flags.epochs):
            self.best_score, self.best_epoch = score, self.epoch
            checkpoint.save(self.folder / "best.pt", {"model": checkpoint.describe(self.model), "epoch": self.epoch})
        write_csv(self.folder / "history.csv", self.history)
        if self.board:
            for name, value in row.items():
                self.board.add_scalar(name, value, self.epoch)
            self.board.flush()
        if not self.flags.quiet:
            print("  ".join(f"{name} {value:.5g}" for name, value in row.items()), flush=True)

    def save(self) -> None:
        content = {
            "model": checkpoint.describe(self.model),
            "optimizer": self.optimizer.state_dict(),
            **random_states(self.flags.device),
            "flags": result_flags(self.flags),
            **{name: getattr(self, name) for name in STATE},
        }
        checkpoint.save(self.folder / "last.pt", content, keep_previous=True)
        self.last_saved = time.monotonic()

    def restore(self) -> None:
        """Takes up the state of `last.pt`, if there is one; its flags must be the same."""
        saved = checkpoint.load_latest(self.folder / "last.pt")
        if saved is None:
            return
        if missing := {"model", "optimizer", "random_numpy", "flags", *STATE} - saved.keys():
            raise CheckpointError(f"{self.folder / 'last.pt'}: not of a training: it has no {min(missing)}")
        now = result_flags(self.flags)
        for name, value in saved["flags"].items():
            if now.get(name) != value and not (name == "epochs" and self.flags.schedule == "constant"):
                raise UsageError(f"--resume: {self.folder} was trained with --{name} {value}, not {now.get(name)}")
        self.model.load_state_dict(saved["model"]["weights"])
        self.optimizer.load_state_dict(saved["optimizer"])
        set_random_states(saved)
        for name in STATE:
            setattr(self, name, saved[name])


STATE = ("epoch", "batch", "sums", "history", "best_score", "best_epoch", "seconds")


def random_states(device: str) -> dict:
    """The state of every generator that a step may draw from, as plain types and tensors."""
    _, keys, *rest = np.random.get_state()
    return {
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if device == "cuda" else [],
        "random_mps": torch.mps.get_rng_state() if device == "mps" else None,
        "random_python": random.getstate(),
        "random_numpy": (torch.from_numpy(keys.astype(np.int64)), *rest),
    }


def set_random_states(saved: dict) -> None:
    torch.set_rng_state(saved["random"])
    if saved["random_cuda"]:
        torch.cuda.set_rng_state_all(saved["random_cuda"])
    if saved["random_mps"] is not None:
        torch.mps.set_rng_state(saved["random_mps"])
    random.setstate(saved["random_python"])
    keys, *rest = saved["random_numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))


def result_flags(flags: argparse.Namespace) -> dict:
    """The flags that decide a training's result, as plain types."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(flags).items() if k not in FREE_FLAGS}


def fetch(data, indices: Tensor, device: str) -> Batch:
    return tuple(part.to(device) for part in data[indices])


def to_floats(metrics: dict[str, Tensor]) -> dict[str, float]:
    """One transfer from the device for all metrics of a batch."""
    return dict(zip(metrics, torch.stack([m.detach().float() for m in metrics.values()]).tolist(), strict=True))


def add_weighted(sums: dict[str, float], values: dict[str, float], size: int) -> None:
    for name, value in (*values.items(), ("size", 1.0)):
        sums[name] = sums.get(name, 0.0) + value * size


@torch.no_grad()
def evaluate(model: nn.Module, step: Step, data, flags: argparse.Namespace) -> dict[str, float]:
    """Means of the step's metrics over all of `data`, in evaluation mode and float32."""
    model.eval()
    sums: dict[str, float] = {}
    for indices in torch.arange(len(data)).split(flags.batch_size):
        own, weight = data_parallel.share(indices)
        values = to_floats(step(model, fetch(data, own, flags.device)))
        add_weighted(sums, data_parallel.total(values, weight, flags.device), len(indices))
    size = sums.pop("size")
    return {name: total / size for name, total in sums.items()}
