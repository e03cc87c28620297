"""Seconds per epoch of the four stock movement models, trained one by one and ten seeds together.

    python benchmarks/bench_adv_alstm.py          # two minutes

one by one   one epoch of each model in the loop of all scripts, validation included, with the published sizes, and what
             history and checkpoints take beside it
together     one epoch of ten seeds of it by models.attentive_ensemble, over ten

Medians of interleaved rounds, one thread. The data are those of the archive, or random ones of the same shape.
"""

import argparse
import dataclasses
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import Row, record
from timing import medians, processor_seconds

import adv_alstm
from load_data import DataError
from lstm_studies.models.attentive_ensemble import TOGETHER, Ensemble, prepared
from lstm_studies.training import loop
from lstm_studies.training.run import keep_memory

ABOUT = (
    "An epoch with the published sizes, validation included: one model in the loop of all scripts, and ten seeds "
    "trained together, per model. Files: what writing history and checkpoints takes beside an epoch."
)
SIZES = {"acl18": (20315, 2555), "kdd17": (64307, 8070)}  # training and validation samples


def make_settings(dataset: str, model: str, data_dir: Path | None) -> adv_alstm.MovementSettings:
    given = {} if data_dir is None else {"data_dir": data_dir}
    request = adv_alstm.SCRIPT.request("train", dataset=dataset, source="full", quiet=True, device="cpu", **given)
    return adv_alstm.with_model(request, model).single()


def data_sets(settings: adv_alstm.MovementSettings) -> tuple[TensorDataset, TensorDataset, str]:
    """Training and validation samples, and whether they are the archive's or random."""
    try:
        data = adv_alstm.load(settings)
        return adv_alstm.tensors(data.train), adv_alstm.tensors(data.validation), "archive"
    except DataError:
        shapes = [(n, settings.steps, 11) for n in SIZES[settings.dataset]]
        made = [TensorDataset(torch.randn(shape), torch.randint(2, shape[:1])) for shape in shapes]
        return made[0], made[1], "random"


def one_by_one(settings: adv_alstm.MovementSettings, training: TensorDataset, validation: TensorDataset):
    """A function that trains one epoch and validates, as the script's loop does, without writing files."""
    model = adv_alstm.make(settings).build(11)
    state = loop.Training(
        model, adv_alstm.step, training, validation, settings, Path("."), "accuracy", True, loop.random_batches
    )

    def epoch() -> None:
        model.train()
        for indices in loop.random_batches(len(training), settings.batch_size, state.generator()):
            state.train_batch(indices, 1)
        loop.evaluate(model, adv_alstm.step, validation, settings)

    return epoch


def together(settings: adv_alstm.MovementSettings, training: TensorDataset, validation: TensorDataset):
    """The same of ten models at once."""
    stack = Ensemble([adv_alstm.make(settings) for _ in range(TOGETHER)], 11, range(TOGETHER))
    samples, held_out = (prepared(*part.tensors, stack.device) for part in (training, validation))
    return lambda: stack.train_and_choose(samples, settings.batch_size, held_out)


def beside_epochs(settings: adv_alstm.MovementSettings, training: TensorDataset, validation: TensorDataset) -> float:
    """Seconds per epoch that writing history and checkpoints takes: few samples, so that they are all there is."""
    small = [TensorDataset(*part[:64]) for part in (training, validation)]
    short = dataclasses.replace(settings, epochs=20)
    with tempfile.TemporaryDirectory() as folder:
        model = adv_alstm.make(short).build(11)
        train = partial(loop.train, model, adv_alstm.step, *small, short, Path(folder), "accuracy", True)
        return processor_seconds(train) / short.epochs


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=None, help="default: as of the scripts")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args(argv)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    keep_memory()
    rows = []
    for dataset in SIZES:
        for model in adv_alstm.MODELS:
            settings = make_settings(dataset, model, flags.data_dir)
            training, validation, source = data_sets(settings)
            ways = {way.__name__: way(settings, training, validation) for way in (one_by_one, together)}
            seconds = medians(ways, flags.rounds)
            alone, shared = seconds["one_by_one"], seconds["together"] / TOGETHER
            shape = f"{len(training):,} x {settings.steps} x 11, {settings.hidden_size} units, {source} data"
            what = f"epoch, {dataset.upper()} {adv_alstm.report.label(model)}, {shape}"
            values = {"one by one": alone, "together": shared, "files": beside_epochs(settings, training, validation)}
            rows.append(Row(what, values, alone / shared))
    return record("adv_alstm", "Stock movement, training epoch", ABOUT, rows)


if __name__ == "__main__":
    main()
