"""The one training loop: resumable after any batch, the best epoch chosen on validation data.

A script hands `train` a `step(model, batch) -> dict` with the entry "loss" (a mean over the batch, differentiable) and
any other means that it wants in `history.csv`. The loop never asks what kind of model it has.
"""

import contextlib
import copy
import dataclasses
import inspect
import math
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from tqdm import tqdm

from lstm_studies.training import checkpoint, data_parallel, flags
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.settings import Settings, Training, UsageError
from lstm_studies.training.signals import Interrupted, deferred_signals
from lstm_studies.training.tables import write_csv

Batch = tuple[Tensor, ...]
Step = Callable[[nn.Module, Batch], dict[str, Tensor]]
FUSED = ("Adam", "AdamW", "SGD")  # the optimizers of which PyTorch has one kernel per step on every device


class Failed(RuntimeError):
    """The run cannot continue. The message is one line."""


class Diverged(Failed):
    """The loss became infinite or not a number."""


class Result(NamedTuple):
    """Outcome of a training: best validation score, the epoch (from 1) that gave it, epochs run, and seconds."""

    score: float
    maximise: bool
    best_epoch: int
    epochs: int
    seconds: float


def random_batches(size: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Indices of an epoch's batches: every sequence once, in random order, the last batch possibly smaller."""
    return list(torch.randperm(size, generator=generator).split(batch_size))


def train(
    model: nn.Module,
    step: Step,
    training_data,
    validation_data,
    settings: Training,
    folder: Path | None = None,
    monitor: str = "loss",
    maximise: bool = False,
    batches: Callable[[int, int, torch.Generator], Iterable[Tensor]] = random_batches,
    watched_data=None,
    keep_last: bool = False,
    after_epoch: Callable[[dict[str, float]], bool] | None = None,
) -> Result:
    """Trains `model`; leaves `last.pt`, `best.pt` and `history.csv` in `folder`, and the best weights in the model.

    The data are any objects with `len` and with `data[indices] -> batch`, a tuple of tensors whose first has one entry
    per sequence (`torch.utils.data.TensorDataset`).

    Args:
        folder: without one, no files are written and the training cannot be resumed.
        monitor: the validation metric that chooses the best epoch, the largest one with `maximise`; of equal ones
            that with the lowest loss.
        validation_data: None: the last epoch is kept, and the score is not a number.
        watched_data: evaluated after each epoch for the columns `test_...` of the history; chooses nothing.
        keep_last: the last epoch is kept whatever its validation score.
        after_epoch: called with each row of the history; the training ends when it returns True.

    Raises Diverged at a loss that is not finite and Interrupted after a signal; both leave `best.pt` as it was.
    """
    model.to(settings.device)
    if settings.updates:
        epochs = epochs_for(settings.updates, len(training_data), settings.batch_size)
        settings = dataclasses.replace(settings, epochs=epochs, updates=None)
    run = Run(model, step, training_data, settings, folder)
    run.validation_data = resident(validation_data, settings.device)
    run.watched_data = resident(watched_data, settings.device)
    run.monitor, run.sign, run.batches, run.after_epoch = monitor, -1.0 if maximise else 1.0, batches, after_epoch
    run.keep_last = keep_last or validation_data is None
    run.best_score = math.nan if run.keep_last else math.inf * run.sign
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.remove_temporaries(folder)
        if settings.resume:
            run.restore()
        else:
            for name in ("last.pt", "last.previous.pt", "best.pt", "history.csv"):
                (folder / name).unlink(missing_ok=True)
    with deferred_signals() if folder else contextlib.nullcontext([]) as received:  # without one, nothing is saved
        run.train(received)
    if received:  # during the last save
        raise Interrupted(received[0], " after the last epoch; --resume goes on")
    model.load_state_dict(checkpoint.load(folder / "best.pt")["model"]["weights"] if folder else run.best_weights)
    model.eval()
    return Result(run.best_score, maximise, run.best_epoch, len(run.history), run.seconds)


def epochs_for(updates: int, size: int, batch_size: int) -> int:
    """The epochs of `size` sequences that have as many optimizer steps, rounded up."""
    return math.ceil(updates / math.ceil(size / batch_size))


def make_optimizer(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """The class of torch.optim that the settings name, with one kernel per step where PyTorch has one: with a table of
    word vectors, Adam takes a seventh of the time that it takes operation by operation.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        method.__dict__.setdefault("__dynamo_disable", method)  # or they import PyTorch's compiler, for a second
    more = {"fused": True} if settings.optimizer in FUSED else {}
    kind = getattr(torch.optim, settings.optimizer)
    return kind(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, **more)


@torch.no_grad()
def take_step(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()` without its wrappers, which import PyTorch's compiler."""
    inspect.unwrap(type(optimizer).step)(optimizer)


class Run:
    """One training as a state that can be saved after any batch. `train` fills in the rest of its attributes."""

    def __init__(self, model: nn.Module, step: Step, training_data, settings: Training, folder: Path | None):
        self.model, self.step, self.settings, self.folder = model, step, settings, folder
        self.training_data = resident(training_data, settings.device)
        self.optimizer = make_optimizer(model, settings)
        self.epoch = self.batch = 0  # completed epochs, and completed batches of the current one
        self.sums: dict[str, float] = {}  # of the current epoch's metrics, weighted by batch size
        self.history: list[dict] = []
        self.best_epoch, self.best_weights, self.seconds = 0, {}, 0.0
        self.largest_norm = 0.0  # of the gradient before clipping
        self.best_loss = -math.inf  # of validation, in the best epoch; checkpoints of earlier versions lack it
        self.stopped = False  # by `after_epoch`
        self.last_saved = time.monotonic()
        self.board = None
        if settings.tensorboard and folder:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder)

    def train(self, received: list[int]) -> None:
        started = time.monotonic() - self.seconds
        if self.epoch == self.settings.epochs or self.stopped:
            return  # resumed after its end
        while self.epoch < self.settings.epochs and not self.stopped:
            order = list(self.batches(len(self.training_data), self.settings.batch_size, self.generator()))
            self.model.train()
            unit = tqdm(
                order[self.batch :],
                f"epoch {self.epoch + 1}/{self.settings.epochs}",
                leave=False,
                disable=self.settings.quiet or self.settings.in_worker or not sys.stderr.isatty(),
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
        if not self.settings.quiet:
            self.print_end()

    def save_if_due(self, received: list[int]) -> None:
        signum = data_parallel.all_reduce_max(received[0] if received else 0, self.settings.device)
        if signum and not received:  # one of the other processes got it
            received.append(signum)
        if received or time.monotonic() - self.last_saved > self.settings.checkpoint_every:
            self.save()
        if received:
            raise Interrupted(received[0], f" in epoch {self.epoch + 1}, after batch {self.batch}; --resume goes on")

    def generator(self) -> torch.Generator:
        """Generator of this epoch's data order, seeded by seed and epoch: a resumed epoch has the same order."""
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.epoch)

    def train_batch(self, indices: Tensor, batches_per_epoch: int) -> float:
        rate = self.learning_rate(batches_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        shard, weight = data_parallel.shard(indices)
        batch = fetch(self.training_data, shard, self.settings.device)
        data_parallel.seed_process(self.settings.seed, self.epoch, self.batch)
        with torch.autocast(self.settings.device, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            metrics = self.step(self.model, batch)
        self.optimizer.zero_grad()
        metrics["loss"].backward()
        data_parallel.all_reduce_gradients(self.model.parameters(), weight)
        if self.settings.gradient_clipping:
            metrics["norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clipping)
        take_step(self.optimizer)
        values = to_floats(metrics)  # after all of the step, for which a GPU is waited here, and only here
        self.largest_norm = max(self.largest_norm, values.pop("norm", 0.0))
        values = data_parallel.all_reduce_means(values, weight, self.settings.device)
        if not math.isfinite(values["loss"]):
            place = f"epoch {self.epoch + 1}, batch {self.batch + 1}, learning rate {rate:g}"
            raise Diverged(f"the loss is {values['loss']} at {place}")
        self.batch += 1
        add_weighted(self.sums, values, len(indices))
        return values["loss"]

    def learning_rate(self, batches_per_epoch: int) -> float:
        if self.settings.schedule == "constant":
            return self.settings.learning_rate
        total = self.settings.epochs * batches_per_epoch
        now, warmup = self.epoch * batches_per_epoch + self.batch, max(1, total // 20)
        rise = min(1.0, (now + 1) / warmup)
        return self.settings.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * now / total))

    def finish_epoch(self) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        size = self.sums.pop("size")
        row = {"epoch": self.epoch + 1, **{f"train_{name}": total / size for name, total in self.sums.items()}}
        for part, data in (("val", self.validation_data), ("test", self.watched_data)):
            if data is not None:
                values = evaluate(self.model, self.step, data, self.settings)
                row |= {f"{part}_{name}": value for name, value in values.items()}
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        row["learning_rate"] = rate
        self.history.append(row)
        score = row.get(f"val_{self.monitor}", math.nan)
        if self.validation_data is not None and not math.isfinite(score):
            raise Diverged(f"the validation {self.monitor} is {score} after epoch {self.epoch}, learning rate {rate:g}")
        self.stopped = bool(self.after_epoch and self.after_epoch(row))
        last = self.stopped or self.epoch == self.settings.epochs
        if last if self.keep_last else self.is_best(score, row["val_loss"]):
            self.best_score, self.best_loss, self.best_epoch = score, row.get("val_loss", -math.inf), self.epoch
            self.keep_weights()
        if not self.folder:
            return
        write_csv(self.folder / "history.csv", self.history)
        if self.board:
            for name, value in row.items():
                self.board.add_scalar(name, value, self.epoch)
            self.board.flush()
        if not (self.settings.quiet or self.settings.in_worker):
            self.print_epoch(row)

    def is_best(self, score: float, loss: float) -> bool:
        """Whether an epoch is better than the best one: of equal scores, as accuracies of few samples are, that with
        the lower loss."""
        return (score * self.sign, loss) < (self.best_score * self.sign, self.best_loss)

    def keep_weights(self) -> None:
        if self.folder:
            described = {"model": checkpoint.describe(self.model), "flags": flags.deciding(self.settings)}
            checkpoint.save(self.folder / "best.pt", {**described, "epoch": self.epoch})
        else:
            self.best_weights = copy.deepcopy(self.model.state_dict())

    def print_epoch(self, row: dict[str, float]) -> None:
        """Prints the epoch's metrics, with the name of the training among several and the time left."""
        left = self.seconds / self.epoch * (self.settings.epochs - self.epoch)
        name = [f"[{self.settings.label}]"] if self.settings.label else []
        numbers = [f"{key} {value:.5g}" for key, value in row.items() if key != "epoch"]
        epoch = f"epoch {self.epoch}/{self.settings.epochs}"
        print("  ".join([*name, epoch, *numbers, f"{left // 60:.0f}:{left % 60:02.0f} left"]), flush=True)

    def print_end(self) -> None:
        """Prints the outcome if a worker process has been silent so far, and whether clipping ever acted."""
        name = f"[{self.settings.label}]  " if self.settings.label else ""
        if self.settings.in_worker:
            best = f", best {self.monitor} {self.best_score:.5g} in epoch {self.best_epoch}"
            score = "" if math.isnan(self.best_score) else best
            print(f"{name}{self.epoch} epochs in {self.seconds:.0f} s{score}", flush=True)
        limit = self.settings.gradient_clipping
        if 0 < self.largest_norm < limit:
            print(f"{name}gradient clipping at {limit:g} never acted: the largest norm was {self.largest_norm:.3g}")

    def save(self) -> None:
        if not self.folder:
            return
        content = {
            "model": checkpoint.describe(self.model),
            "optimizer": self.optimizer.state_dict(),
            **random_states(self.settings.device),
            "flags": flags.deciding(self.settings),
            **{name: getattr(self, name) for name in (*STATE, *LATER_STATE)},
        }
        checkpoint.save(self.folder / "last.pt", content, keep_previous=True)
        self.last_saved = time.monotonic()

    def restore(self) -> None:
        """Restores the state in `last.pt`, if there is one. Raises UsageError if other settings decided it."""
        saved = checkpoint.load_latest(self.folder / "last.pt")
        if saved is None:
            return
        if missing := {"model", "optimizer", "random_numpy", "flags", *STATE} - saved.keys():
            raise CheckpointError(f"{self.folder / 'last.pt'}: not of a training: it has no {min(missing)}")
        try:
            self.refuse_other_settings(saved["flags"])
            self.model.load_state_dict(saved["model"]["weights"])
            self.optimizer.load_state_dict(saved["optimizer"])
            set_random_states(saved)
        except UsageError:
            raise
        except checkpoint.MALFORMED as error:
            why = f"expected the state of this training, found another ({str(error)[:200]})"
            raise CheckpointError(f"{self.folder / 'last.pt'}: {why}") from None
        for name in (*STATE, *LATER_STATE):
            setattr(self, name, saved.get(name, getattr(self, name)))

    def refuse_other_settings(self, saved: dict[str, Any]) -> None:
        """Raises UsageError if the training to be resumed ran with other settings."""
        for name in ("patience", "weight_average"):
            if saved.get(name):
                why = f"was trained with --{name} {saved[name]}, which version 1.0 of this collection resumes"
                raise UsageError(f"--resume: {self.folder} {why}")
        for name, value, now in flags.differences(self.settings, saved):
            if name == "epochs" and self.settings.schedule == "constant":
                continue
            why = f"--resume: {self.folder} was trained with --{name} {value}, not {now}"
            if name == "epochs":
                why += f"; its learning rates follow a cosine over {value} epochs, so resume with these, or start anew"
            raise UsageError(why)


STATE = ("epoch", "batch", "sums", "history", "best_score", "best_epoch", "seconds")
LATER_STATE = ("largest_norm", "stopped", "best_loss")  # absent from checkpoints of earlier versions


def random_states(device: str) -> dict:
    """States of all random number generators that a step may use, as plain types and tensors."""
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


def resident(data, device: str):
    """The data on the device, where they are tensors: what a step then fetches is there already."""
    if device == "cpu" or not isinstance(data, TensorDataset):
        return data
    return TensorDataset(*(part.to(device) for part in data.tensors))


def fetch(data, indices: Tensor, device: str) -> Batch:
    """The batch of `indices` (B,); rows of tensors by index_select, which takes a third of the time of indexing."""
    if type(data) is TensorDataset:
        return tuple(part.index_select(0, indices.to(part.device)).to(device) for part in data.tensors)
    return tuple(part.to(device) for part in data[indices])


def to_floats(metrics: dict[str, Tensor]) -> dict[str, float]:
    """All metrics of a batch as numbers, in one transfer from the device."""
    return dict(zip(metrics, torch.stack([m.detach().float() for m in metrics.values()]).tolist(), strict=True))


def add_weighted(sums: dict[str, float], values: dict[str, float], size: int) -> None:
    for name, value in (*values.items(), ("size", 1.0)):
        sums[name] = sums.get(name, 0.0) + value * size


@torch.no_grad()
def evaluate(model: nn.Module, step: Step, data, settings: Settings) -> dict[str, float]:
    """Means of the step's metrics over all of `data`, in evaluation mode and float32."""
    model.eval()
    sums: dict[str, float] = {}
    for indices in torch.arange(len(data)).split(settings.batch_size):
        shard, weight = data_parallel.shard(indices)
        values = to_floats(step(model, fetch(data, shard, settings.device)))
        add_weighted(sums, data_parallel.all_reduce_means(values, weight, settings.device), len(indices))
    size = sums.pop("size")
    return {name: total / size for name, total in sums.items()}
