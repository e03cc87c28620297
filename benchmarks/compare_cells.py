"""Does the LSTM matter? Other cells on the same data with as many parameters, batches and optimizer steps.

    python benchmarks/compare_cells.py                  # all tasks, two hours of one core: docs/results/cells.md
    python benchmarks/compare_cells.py --tasks vowels   # one of them; the others keep their results

The cells and what is held equal stand in ABOUT, the head of the page.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, pad

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import RESULTS, Metric, renew

import load_data
from lstm_studies.evaluation import intervals
from lstm_studies.loaders import windows
from lstm_studies.loaders.encoded_texts import build_vocabulary, encode, index_of
from lstm_studies.loaders.messages import tokenize
from lstm_studies.loaders.mnist import as_sequences
from lstm_studies.loaders.prices import complete_stocks
from lstm_studies.reporting.chapters import table

CELLS = ("lstm", "gru", "tcn", "transformer", "mlp")
RATES = (3e-3, 1e-3, 3e-4)
PARTS = ("train", "validation", "test")
EMBEDDING = 64  # values of a word vector
ABOUT = """\
# Other cells in the place of the LSTM

Does the LSTM matter? Each cell gets the same data, batches and optimizer steps, and the width whose number of
parameters (word vectors not counted) comes closest to the LSTM's.

- **lstm**: one layer, read at the last step of each sequence
- **gru**: the same with gated recurrent units
- **tcn**: residual blocks of causal dilated convolutions (Bai, Kolter and Koltun 2018), read at the last step
- **transformer**: two pre-norm layers of two heads with learned positions, mean over the steps
- **mlp**: two hidden layers on all values of a sequence at once; for messages, on the mean of the word vectors

A decoder reads the code at every step; the tcn's and the transformer's add learned positions. Adam with a warm-up and a
cosine; each cell's peak learning rate is the best of .003, .001 and .0003 on validation data. Without the scripts'
augmentation and regularisation, the numbers compare within a table, not with the report. Test data give the
metric; differences from the LSTM have 95 % intervals over seeds and test sequences (S&P 500: blocks of five days; stock
movement: days). Seconds are processor time of one training.

`python benchmarks/compare_cells.py` computes the tables again.
"""
Part = tuple[Tensor, Tensor, Tensor]  # x (N, T, I), or words (N, T); lengths (N,); y (N, ...)


@dataclass(frozen=True)
class Task:
    """A study of the collection in a plain form."""

    title: str
    metric: str
    higher_is_better: bool
    parts: dict[str, Part]  # train, validation, test
    loss: Callable[[Tensor, Tensor], Tensor]  # of outputs and y, a scalar
    score: Callable[[Tensor, Tensor], Tensor]  # of outputs and y, (N,)
    outputs: int
    width: int  # of the LSTM
    batch_size: int
    updates: int
    code: int = 0  # values of an autoencoder's code
    words: int = 0  # of a vocabulary
    groups: np.ndarray | None = None  # test cases that depend on one another


# ---- models ----------------------------------------------------------------------------------------------------------


class Convolutions(nn.Module):
    """Residual blocks of two causal convolutions (B, T, W) -> (B, T, W), dilated until they see all T steps."""

    def __init__(self, width: int, steps: int):
        super().__init__()
        self.dilations = [2**k for k in range(max(1, math.ceil(math.log2((steps - 1) / 4 + 1))))]
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, dilation=dilation) for dilation in self.dilations for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.mT
        for k, dilation in enumerate(self.dilations):
            y = x
            for layer in self.layers[2 * k : 2 * k + 2]:
                y = layer(pad(y, (2 * dilation, 0))).relu()
            x = x + y
        return x.mT


def attention(width: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Encoder(nn.Module):
    """Sequences (B, T, I) with lengths (B,) to vectors (B, W)."""

    def __init__(self, cell: str, inputs: int, width: int, steps: int, mean: bool):
        super().__init__()
        self.cell, self.steps, self.mean = cell, steps, mean
        if cell in ("lstm", "gru"):
            self.net = (nn.LSTM if cell == "lstm" else nn.GRU)(inputs, width, batch_first=True)
        elif cell == "mlp":
            values = inputs if mean else inputs * steps
            self.net = nn.Sequential(nn.Linear(values, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        else:
            self.project = nn.Linear(inputs, width)
            self.net = Convolutions(width, steps) if cell == "tcn" else attention(width)
            if cell == "transformer":
                self.positions = nn.Parameter(0.02 * torch.randn(steps, width))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        rows, outside = torch.arange(len(x)), torch.arange(x.shape[1]) >= lengths.unsqueeze(1)  # (B, T)
        if self.cell == "mlp":
            x = x.masked_fill(outside.unsqueeze(2), 0.0)
            if self.mean:
                return self.net(x.sum(1) / lengths.unsqueeze(1))
            return self.net(pad(x, (0, 0, 0, self.steps - x.shape[1])).flatten(1))
        if self.cell in ("lstm", "gru"):
            return self.net(x)[0][rows, lengths - 1]
        x = self.project(x)
        if self.cell == "tcn":
            return self.net(x)[rows, lengths - 1]
        y = self.net(x + self.positions[: x.shape[1]], src_key_padding_mask=outside)
        return y.masked_fill(outside.unsqueeze(2), 0.0).sum(1) / lengths.unsqueeze(1)


class Decoder(nn.Module):
    """Codes (B, Z) to sequences (B, T, I)."""

    def __init__(self, cell: str, code: int, width: int, steps: int, outputs: int):
        super().__init__()
        self.cell, self.steps, self.outputs = cell, steps, outputs
        self.head = nn.Linear(width, outputs if cell != "mlp" else steps * outputs)
        if cell in ("lstm", "gru"):
            self.net = (nn.LSTM if cell == "lstm" else nn.GRU)(code, width, batch_first=True)
        elif cell == "mlp":
            self.net = nn.Sequential(nn.Linear(code, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        else:
            self.project = nn.Linear(code, width)
            self.positions = nn.Parameter(0.02 * torch.randn(steps, width))
            self.net = Convolutions(width, steps) if cell == "tcn" else attention(width)

    def forward(self, z: Tensor) -> Tensor:
        if self.cell == "mlp":
            return self.head(self.net(z)).view(-1, self.steps, self.outputs)
        repeated = z.unsqueeze(1).expand(-1, self.steps, -1)  # (B, T, Z)
        if self.cell in ("lstm", "gru"):
            return self.head(self.net(repeated)[0])
        return self.head(self.net(self.project(repeated) + self.positions))


class Model(nn.Module):
    """Outputs (B, K) of sequences, or their reconstruction (B, T, I) from a code."""

    def __init__(self, cell: str, width: int, task: Task):
        super().__init__()
        x, steps = task.parts["train"][0], max(part[0].shape[1] for part in task.parts.values())
        inputs = EMBEDDING if task.words else x.shape[2]
        self.embedding = nn.Embedding(task.words, EMBEDDING) if task.words else None
        self.encoder = Encoder(cell, inputs, width, steps, mean=bool(task.words))
        self.head = nn.Linear(width, task.code or task.outputs)
        self.decoder = Decoder(cell, task.code, width, steps, task.outputs) if task.code else None

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y = self.head(self.encoder(x if self.embedding is None else self.embedding(x), lengths))
        return y if self.decoder is None else self.decoder(y)

    def size(self) -> int:
        """Parameters without those of the word vectors."""
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith("embedding"))


def equal_width(cell: str, task: Task, size: int) -> int:
    """The width with which the model comes closest to so many parameters."""
    with torch.device("meta"):
        widths = range(2, 1025, 2 if cell == "transformer" else 1)
        sizes = {}
        for width in widths:
            sizes[width] = Model(cell, width, task).size()
            if sizes[width] > size:
                break
    return min(sizes, key=lambda width: abs(sizes[width] - size))


# ---- training --------------------------------------------------------------------------------------------------------


def train(cell: str, width: int, task: Task, rate: float, seed: int) -> Model:
    """After all updates: nothing is stopped early, nothing is chosen among epochs."""
    torch.manual_seed(seed)
    model, (x, lengths, y) = Model(cell, width, task), task.parts["train"]
    optimizer = torch.optim.Adam(model.parameters(), rate)
    warmup = task.updates // 20

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (task.updates - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    generator, order = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.int64)
    for _ in range(task.updates):
        if len(order) < min(task.batch_size, len(x)):
            order = torch.randperm(len(x), generator=generator)
        rows, order = order[: task.batch_size], order[task.batch_size :]
        steps = int(lengths[rows].max())
        target = y[rows, :steps] if task.code else y[rows]
        loss = task.loss(model(x[rows, :steps], lengths[rows]), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def scores(model: Model, task: Task, part: str) -> Tensor:
    """(N,): the score of each sequence of a part."""
    x, lengths, y = task.parts[part]
    batches = torch.arange(len(x)).split(1000)
    return torch.cat([task.score(model(x[rows], lengths[rows]), y[rows]) for rows in batches])


def compare(task: Task, seeds: int) -> list[dict]:
    """A row per cell: width, parameters, rate, seconds of a training, mean and deviation of the metric over seeds, and
    its difference from the LSTM's with a 95 % interval over seeds and test sequences."""
    rows, of_lstm = [], None
    size = Model("lstm", task.width, task).size()
    for cell in CELLS:
        width, begin = equal_width(cell, task, size), time.process_time()
        models = {rate: train(cell, width, task, rate, 0) for rate in RATES}
        seconds = (time.process_time() - begin) / len(RATES)
        sign = -1 if task.higher_is_better else 1
        rate = min(RATES, key=lambda rate: sign * scores(models[rate], task, "validation").mean().item())
        trained = [models[rate], *(train(cell, width, task, rate, seed) for seed in range(1, seeds))]
        test = torch.stack([scores(model, task, "test") for model in trained]).double().numpy()  # (S, N)
        means = test.mean(1)
        row = {"cell": cell, "width": width, "parameters": models[rate].size(), "rate": rate, "seconds": seconds}
        row |= {"mean": means.mean(), "std": means.std(ddof=1) if seeds > 1 else None, "seeds": seeds}
        if of_lstm is None:
            of_lstm = test
        else:
            row |= intervals.compare(test, of_lstm, task.groups)
            row["verdict"] = intervals.verdict(row["low"], row["high"], task.higher_is_better)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


# ---- tasks -----------------------------------------------------------------------------------------------------------


def full(x: Tensor, y: Tensor) -> Part:
    """Sequences without padding."""
    return x, torch.full((len(x),), x.shape[1]), y


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float()


def squared_error(outputs: Tensor, x: Tensor) -> Tensor:
    return (outputs - x).square().mean((1, 2))


def binary(logits: Tensor, labels: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits[:, 0], labels.float())


def is_right_side(logits: Tensor, labels: Tensor) -> Tensor:
    return ((logits[:, 0] > 0) == labels.bool()).float()


def reconstruction(title: str, parts: dict[str, Tensor], **sizes) -> Task:
    content = {name: full(x, x) for name, x in parts.items()}
    mean_error = lambda outputs, x: squared_error(outputs, x).mean()  # noqa: E731
    outputs = next(iter(parts.values())).shape[2]
    return Task(title, "test MSE", False, content, mean_error, squared_error, outputs, **sizes)


def toy(data_dir: Path) -> Task:
    data = load_data.toy_signals("waves")
    parts = {name: getattr(data, name).unsqueeze(2) for name in PARTS}
    return reconstruction(
        "Three sines, 50 steps of one value, code of 16", parts, code=16, width=64, batch_size=128, updates=1000
    )


def digits(data_dir: Path) -> dict[str, Part]:
    data = load_data.mnist(data_dir)
    return {
        part: full(as_sequences(getattr(data, f"{part}_images"), (28,)), getattr(data, f"{part}_labels"))
        for part in PARTS
    }


def mnist(data_dir: Path) -> Task:
    sizes = {"outputs": 10, "width": 128, "batch_size": 128, "updates": 1500}
    return Task("MNIST by rows: classes", "accuracy", True, digits(data_dir), cross_entropy, is_right, **sizes)


def mnist_codes(data_dir: Path) -> Task:
    parts = {name: x for name, (x, _, _) in digits(data_dir).items()}
    return reconstruction(
        "MNIST by rows: reconstruction, code of 16", parts, code=16, width=128, batch_size=128, updates=1000
    )


def prices(data_dir: Path) -> Task:
    data = complete_stocks(load_data.stock_prices(data_dir))
    dates = windows.split_dates(len(data.dates))
    scale = windows.fit_scale(data.values[:, dates["train"]])
    parts, days = {}, {}
    for name, part in dates.items():
        samples = windows.samples(data.values[:, part], scale, 20, "ohlcv")
        change = (samples.targets[:, -1] - 0.5) * 10  # of the high, in the stock's units
        parts[name], days[name] = full((samples.x - 0.5) * 10, change), samples.days
    persistence = parts["test"][2].abs().mean()  # as today: no change
    error = lambda outputs, y: (outputs[:, 0] - y).abs()  # noqa: E731
    blocks = np.arange(len(parts["test"][0])) % days["test"] // 5
    return Task(
        "S&P 500: tomorrow's high from 20 days of all prices",
        "absolute error / persistence's",
        False,
        parts,
        lambda outputs, y: error(outputs, y).mean(),
        lambda outputs, y: error(outputs, y) / persistence,
        **{"outputs": 1, "width": 48, "batch_size": 512, "updates": 1500, "groups": blocks},
    )


def movement(data_dir: Path) -> Task:
    data = load_data.stock_movement(data_dir, "acl18", steps=5)
    parts = {name: full(getattr(data, name).x, getattr(data, name).y) for name in PARTS}
    days = data.test.dates.astype(np.int64)
    sizes = {"outputs": 1, "width": 16, "batch_size": 1024, "updates": 1000, "groups": days}
    return Task("Stock movement, ACL18: up or down", "accuracy", True, parts, binary, is_right_side, **sizes)


def vowels(data_dir: Path) -> Task:
    data = load_data.japanese_vowels(data_dir)
    mean, std = data.train.steps.mean(0), data.train.steps.std(0)

    def part(sequences, rows: Tensor) -> Part:
        x, lengths, labels = sequences[rows]
        return (x - mean) / std, lengths, labels

    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    parts = {"train": part(data.train, order[54:]), "validation": part(data.train, order[:54])}
    parts["test"] = part(data.test, torch.arange(len(data.test)))
    sizes = {"outputs": 9, "width": 64, "batch_size": 32, "updates": 600}
    return Task("Japanese Vowels: nine speakers", "accuracy", True, parts, cross_entropy, is_right, **sizes)


def messages(data_dir: Path) -> Task:
    data = load_data.spy_messages(data_dir)
    tokens = {name: [tokenize(text) for text in getattr(data, name).texts] for name in PARTS}
    index = index_of(build_vocabulary(tokens["train"]))
    parts = {}
    for name, rows in tokens.items():
        encoded = [torch.tensor(encode(row, index)[:48]) for row in rows]
        lengths = torch.tensor([len(row) for row in encoded])
        words = nn.utils.rnn.pad_sequence(encoded, batch_first=True)
        parts[name] = words, lengths, getattr(data, name).labels
    sizes = {"outputs": 1, "width": 64, "batch_size": 128, "updates": 1200, "words": len(index)}
    return Task("$SPY messages: bullish or bearish", "accuracy", True, parts, binary, is_right_side, **sizes)


TASKS = (toy, mnist, mnist_codes, prices, movement, vowels, messages)


# ---- results ---------------------------------------------------------------------------------------------------------


def page(results: dict[str, dict]) -> str:
    """Markdown: what is compared, and a table per task."""
    lines = [ABOUT.rstrip()]
    for result in results.values():
        metric = Metric.of(result["metric"])
        lines += ["", f"## {result['title']}", "", f"{result['seeds']} seeds, {result['updates']:,} updates of "]
        lines[-1] += f"{result['batch_size']:,} sequences, {result['processor']}."
        head = ["cell", "width", "parameters", "learning rate", "seconds", metric.label, metric.difference_label]
        rows = [head]
        for row in result["rows"]:
            cells = [
                row["cell"],
                str(row["width"]),
                f"{row['parameters']:,}",
                f"{row['rate']:g}",
                f"{row['seconds']:.0f}",
            ]
            beside = f"{row['verdict']}: {metric.difference(row)}" if "verdict" in row else ""
            rows.append([*cells, metric.mean(row), beside])
        lines += ["", table(rows)]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> dict[str, dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {task.__name__: task for task in TASKS}
    parser.add_argument("--tasks", nargs="+", choices=names, default=list(names), help="the tasks to compare on")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each cell (default: 3)")
    parser.add_argument("--updates", type=int, help="optimizer steps, for a quick look (default: those of the task)")
    parser.add_argument(
        "--data_dir", type=Path, default=Path(os.environ.get("DATA_DIR", "data")), help="folder of the data"
    )
    parser.add_argument("--output_dir", type=Path, default=RESULTS, help="folder of cells.json and cells.md")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)

    def section(name: str) -> dict:
        task = names[name](given.data_dir)
        task = dataclasses.replace(task, updates=given.updates or task.updates)
        print(task.title, flush=True)
        about = {key: getattr(task, key) for key in ("title", "metric", "updates", "batch_size")}
        return {**about, "seeds": given.seeds, "rows": compare(task, given.seeds)}

    return renew(given.output_dir, "cells", ((name, section(name)) for name in given.tasks), names, page)


if __name__ == "__main__":
    main()
