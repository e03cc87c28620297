"""Seconds per epoch of the four stock movement models, and the minutes of the full comparison.

    python benchmarks/bench_adv_alstm.py          # half a minute

epochs   one epoch of each model as `adv_alstm.py` trains it, validation included, with the published sizes: medians of
         interleaved rounds, one thread, by the clock and in processor time (what the clock shows on a quiet core). The
         data are the archive's; where it is absent, random ones of the same shape.
study    ten seeds of four models on both data sets with `--jobs 2`: those medians, and what history and checkpoints
         take per epoch, times the epochs, over two.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import Row, record
from timing import medians

import adv_alstm
from load_data import DataError
from training import flags as command_line
from training import loop
from training.run import keep_memory

SEEDS, JOBS = 10, 2
ABOUT = (
    "An epoch with the published sizes, validation included, by the clock and in processor time (what the clock shows "
    "on a quiet core), and what writing history and checkpoints takes beside it. The last row is these times the "
    "epochs of all runs, over the number of processes."
)
SIZES = {"acl18": (20315, 2555), "kdd17": (64307, 8070)}  # training and validation samples


def make_flags(dataset: str, model: str, data_dir: Path) -> argparse.Namespace:
    parser, groups = command_line.make_parser(
        "",
        adv_alstm.FUNCTIONS,
        hidden_size=None,
        epochs=None,
        batch_size=1024,
        learning_rate=1e-2,
        schedule="constant",
        gradient_clipping=0.0,
    )
    adv_alstm.add_flags(groups)
    argv = ["--dataset", dataset, "--data_dir", str(data_dir), "--quiet", "--device", "cpu"]
    flags = command_line.parse(parser, argv)
    flags = adv_alstm.with_setting(flags, model)
    for name in ("hidden_size", *adv_alstm.GRID):
        setattr(flags, name, getattr(flags, name)[0])
    return flags


def data_sets(flags: argparse.Namespace) -> tuple[TensorDataset, TensorDataset, str]:
    """Training and validation samples, and whether they are the archive's or random."""
    try:
        data = adv_alstm.load(flags)
        return adv_alstm.tensors(data.train), adv_alstm.tensors(data.validation), "archive"
    except DataError:
        made = [TensorDataset(torch.randn(n, flags.steps, 11), torch.randint(2, (n,))) for n in SIZES[flags.dataset]]
        return made[0], made[1], "random"


def epoch_of(flags: argparse.Namespace, training: TensorDataset, validation: TensorDataset, processor: list[float]):
    """A function that trains one epoch and validates, as the script's loop does, without writing files; it notes the
    processor's seconds in the list."""
    model = adv_alstm.build(flags, 11)
    state = loop.Training(
        model, adv_alstm.step, training, validation, flags, Path("."), "accuracy", True, loop.random_batches
    )

    def epoch() -> None:
        start = time.process_time()
        model.train()
        for indices in loop.random_batches(len(training), flags.batch_size, state.generator()):
            state.train_batch(indices, 1)
        loop.evaluate(model, adv_alstm.step, validation, flags)
        processor.append(time.process_time() - start)

    return epoch


def beside_epochs(flags: argparse.Namespace, training: TensorDataset, validation: TensorDataset) -> float:
    """Seconds per epoch that writing history and checkpoints takes: few samples, so that they are all there is."""
    small = [TensorDataset(*part[:64]) for part in (training, validation)]
    short = argparse.Namespace(**{**vars(flags), "epochs": 20})
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        loop.train(adv_alstm.build(short, 11), adv_alstm.step, *small, short, Path(folder), "accuracy", True)
        return (time.perf_counter() - start) / short.epochs


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=None, help="default: as of the scripts")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args(argv)
    data_dir = flags.data_dir or command_line.make_parser("", adv_alstm.FUNCTIONS)[0].get_default("data_dir")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    keep_memory()
    rows, total = [], {"clock": 0.0, "processor": 0.0}
    for dataset in SIZES:
        runs = {model: make_flags(dataset, model, data_dir) for model in adv_alstm.MODELS}
        sets = {model: data_sets(run) for model, run in runs.items()}
        times: dict[str, list[float]] = {model: [] for model in runs}
        clock = medians({m: epoch_of(run, *sets[m][:2], times[m]) for m, run in runs.items()}, flags.rounds)
        for model, run in runs.items():
            training, validation, source = sets[model]
            found = {"clock": clock[model], "processor": statistics.median(times[model][1:])}
            files = beside_epochs(run, training, validation)
            for name, seconds in found.items():
                total[name] += SEEDS * run.epochs * (seconds + files) / JOBS
            shape = f"{len(training):,} x {run.steps} x 11, {run.hidden_size} units, {source} data"
            target = "<= 0.25 s" if (dataset, model) == ("acl18", "adv_alstm") else ""
            what = f"epoch, {dataset.upper()} {adv_alstm.LABELS[model]}, {shape}"
            rows.append(Row(what, {**found, "files": files}, None, target))
    rows.append(Row(f"both data sets, {SEEDS} seeds, all models, --jobs {JOBS}", total, None, "<= 30 minutes"))
    return record("adv_alstm", "Stock movement, training epoch", ABOUT, rows)


if __name__ == "__main__":
    main()
