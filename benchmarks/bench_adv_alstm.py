"""Seconds per epoch of the four stock movement models, beside the same models with features last and nn.LSTM.

    python benchmarks/bench_adv_alstm.py          # two minutes

here       an epoch in the loop of all scripts, validation included, with the published sizes
nn.LSTM    the same with the network as one would write it: nn.Linear, torch.tanh and nn.LSTM on batches (B, T, I)
files      what history and checkpoints take beside an epoch

Medians of interleaved rounds, one thread. The data are those of the archive, or random ones of the same shape.
"""

import argparse
import dataclasses
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import Row, record
from timing import medians, processor_seconds

import adv_alstm
from load_data import DataError
from lstm_studies.estimators.adv_alstm import AdvALSTM
from lstm_studies.training import loop
from lstm_studies.training.run import keep_memory

ABOUT = (
    "An epoch with the published sizes (samples x days x features, H units), validation included, beside the same "
    "model with features last and nn.LSTM. `files`: writing history and checkpoints."
)
SIZES = {"acl18": (20315, 2555), "kdd17": (64307, 8070)}  # training and validation samples


class FeaturesLast(AdvALSTM):
    """The same model and loss; its network on tensors (B, T, U)."""

    def represent(self, x: Tensor) -> Tensor:
        mapped = torch.tanh(self.mapping(x))
        h = super(type(self.lstm), self.lstm).forward(mapped.transpose(0, 1).contiguous())[0].transpose(0, 1)
        e = h[:, -1]
        if self.attention:
            alpha = torch.softmax(torch.tanh(self.attention_layer(h)) @ self.attention_vector, 1)
            e = torch.cat([e, (alpha.unsqueeze(2) * h).sum(1)], 1)
        return self.dropout(e)


def make_settings(dataset: str, model: str, data_dir: Path | None) -> adv_alstm.Movement:
    given = {} if data_dir is None else {"data_dir": data_dir}
    request = adv_alstm.SCRIPT.request("train", dataset=dataset, source="full", quiet=True, device="cpu", **given)
    return dataclasses.replace(adv_alstm.with_model(request, model).single(), epochs=1)


def data_sets(settings: adv_alstm.Movement) -> tuple[TensorDataset, TensorDataset, str]:
    """Training and validation samples, and the end of the row's name if they are not the archive's."""
    try:
        data = adv_alstm.load(settings)
        return adv_alstm.tensors(data.train), adv_alstm.tensors(data.validation), ""
    except DataError:
        shapes = [(n, settings.steps, 11) for n in SIZES[settings.dataset]]
        made = [TensorDataset(torch.randn(shape), torch.randint(2, shape[:1])) for shape in shapes]
        return made[0], made[1], ", random data"


def trainer(model: AdvALSTM, parts: list[TensorDataset], settings: adv_alstm.Movement, folder: Path | None = None):
    """A function that trains `model` as the script does."""
    return partial(loop.train, model, adv_alstm.step, *parts, settings, folder, monitor="accuracy", maximise=True)


def seconds_of_files(parts: list[TensorDataset], settings: adv_alstm.Movement) -> float:
    """Seconds per epoch that writing history and checkpoints takes: few samples, so that they are all there is."""
    short = dataclasses.replace(settings, epochs=20)
    with tempfile.TemporaryDirectory() as folder:
        small = [TensorDataset(*part[:64]) for part in parts]
        return processor_seconds(trainer(adv_alstm.build(short), small, short, Path(folder))) / short.epochs


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
        for name in adv_alstm.MODELS:
            settings = make_settings(dataset, name, flags.data_dir)
            *parts, source = data_sets(settings)
            model = adv_alstm.build(settings)
            plain = FeaturesLast(**model.arguments)
            plain.load_state_dict(model.state_dict())
            ways = {"here": trainer(model, parts, settings), "nn.LSTM": trainer(plain, parts, settings)}
            seconds = medians(ways, flags.rounds)
            shape = f"{len(parts[0]):,}x{settings.steps}x11, H={settings.hidden_size}{source}"
            what = f"{dataset.upper()} {adv_alstm.report.label(name)}, {shape}"
            ratio = seconds["nn.LSTM"] / seconds["here"]
            rows.append(Row(what, {**seconds, "files": seconds_of_files(parts, settings)}, ratio))
    return record("adv_alstm", "Stock movement, training epoch", ABOUT, rows)


if __name__ == "__main__":
    main()
