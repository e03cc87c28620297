"""What the MNIST studies of the preset `best` take, in float32 and in bfloat16: one thread, interleaved medians.

    python benchmarks/bench_mnist.py          # about two minutes

A training step as the script takes it (random digits, moved, forward, loss, backward, clipping, Adam), times the steps
of all epochs and code sizes. Validation, test and figures come on top: 5,000 digits forward per 55,000 trained on.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import Row, record
from timing import medians

import lstm_ae_mnist
from config.lstm_ae_mnist import SCRIPT, SIDE, Reconstruct
from lstm_studies.training import loop
from lstm_studies.training.run import keep_memory

DIGITS = 55_000  # that train
STUDIES = {  # how many models, and their flags
    "reconstruction, five code sizes, fc": (5, {"function": "reconstruct", "model": "fc"}),
    "reconstruction, five code sizes, conv": (5, {"function": "reconstruct", "model": "conv"}),
    "classes, fc": (1, {"function": "classify", "model": "fc"}),
    "classes, conv": (1, {"function": "classify", "model": "conv"}),
    "classes pixel by pixel, fc": (1, {"function": "classify", "model": "fc", "sequence": "pixels"}),
}
ABOUT = (
    "Training with the preset `best` (bfloat16) and in float32: time of a step times the number of steps; the middle "
    "code size represents all five."
)


def training_step(settings: Reconstruct) -> Callable[[], None]:
    """A function that takes a training step."""
    torch.manual_seed(0)
    model, step = lstm_ae_mnist.build(settings, classes=10).train(), lstm_ae_mnist.make_step(settings)
    optimizer = loop.make_optimizer(model, settings)
    images = torch.randint(256, (settings.batch_size, SIDE, SIDE), dtype=torch.uint8)
    batch = images, torch.arange(settings.batch_size) % 10

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
            loss = step(model, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        if settings.gradient_clipping:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clipping)
        optimizer.step()

    return run


def row(what: str, models: int, flags: dict[str, str], rounds: int) -> Row:
    """One study's row: seconds of all its steps in each precision."""
    sizes = {"code_size": [32]} if models > 1 else {}
    request = SCRIPT.request(preset="best", device="cpu", **flags, **sizes)
    settings = {p: request.with_values(precision=p).single() for p in ("float32", "bfloat16")}
    times = medians({precision: training_step(one) for precision, one in settings.items()}, rounds)
    epochs, batches = settings["bfloat16"].epochs, -(-DIGITS // settings["bfloat16"].batch_size)
    steps = models * epochs * batches
    values = {precision: seconds * steps for precision, seconds in times.items()}
    return Row(f"{what}, {epochs} epochs", values, times["float32"] / times["bfloat16"])


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args(argv).rounds
    torch.set_num_threads(1)
    keep_memory()
    rows = [row(what, models, flags, rounds) for what, (models, flags) in STUDIES.items()]
    total = {precision: sum(study.values[precision] for study in rows) for precision in rows[0].values}
    rows.append(Row("all together", total, total["float32"] / total["bfloat16"], ">= 2"))
    return record("mnist", "MNIST, training of the studies", ABOUT, rows)


if __name__ == "__main__":
    main()
