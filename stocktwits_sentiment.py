"""Bullish or bearish: the sentiment of messages about $SPY, by word embeddings and stacked LSTMs.

    python stocktwits_sentiment.py                            # train, test, score a few messages, bag of words
    python stocktwits_sentiment.py --function train --precision bfloat16 --seeds 5
    python stocktwits_sentiment.py --function train --epsilon 2         # adversarial training
    python stocktwits_sentiment.py --function train --published         # a tutorial's configuration; it reports 71.7 %
    python stocktwits_sentiment.py --function predict --text "buy the dip" "this market will crash"
    python stocktwits_sentiment.py --data reviews.csv --text_column review --label_column label

96,967 messages of StockTwits from 2017 (there is no bundled sample: they are downloaded), labelled by their authors. A
message's tokens are embedded, with the character pieces of each (so unknown words are not all alike), and read by two
LSTMs; the maximum and the mean of their states over the message give a logit, to which a weight for each word and each
pair of neighbours is added. Beside the accuracy stand the majority class and a bag of words and pairs with logistic
regression on the same tokens. `--piece_buckets 0 --no_linear` leaves the LSTMs alone.

Deviations from the tutorial it follows (github.com/GarrettHoffman/lstm-oreilly), whose model and training `--published`
has:
1. It splits the messages, repeated ones included; here a text is in one part only, and tickers, users, links, prices
   and numbers do not make a text another one.
2. It pads every message to 244 steps, having counted characters, and reads the padding; here no padding is read.
3. It hands the LSTMs' state from one batch to the next; here every message starts from zero.
4. Its vocabulary comes from all messages; here from training messages, words that occur once left out.
5. Its constants of Adadelta and its first embeddings are TensorFlow's; here they are those of this collection.
Adversarial training is that of Miyato, Dai and Goodfellow 2017, but the embeddings are normalised word by word.
"""

import argparse
import sys
import time
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from torch.nn.utils.rnn import pad_sequence

from evaluation import bag_of_words, binary_scores
from loaders.messages import (
    LabelledTexts,
    Messages,
    build_vocabulary,
    encode,
    labelled_messages,
    spy_messages,
    tokenize,
)
from models.adversarial import compute_perturbation
from models.text_lstm import POOLINGS, TextLSTM, piece_places
from models.word_vectors import cooccurrence_vectors
from reporting import plots
from training import checkpoint, grid_search, loop, tables
from training import flags as command_line
from training.run import run_script

GRID = ("epsilon",)
START_STD = 0.3  # of the embeddings' values
PUBLISHED = {  # the tutorial's model and training, on this split
    "embedding_size": 300,
    "lstm_sizes": [128, 64],
    "bidirectional": False,
    "pooling": "last",
    "piece_buckets": 0,
    "no_linear": True,
    "start": "random",
    "dropout": 0.5,
    "embedding_dropout": 0.0,
    "word_dropout": 0.0,
    "loss": "squared_error",
    "optimizer": "Adadelta",
    "learning_rate": [0.1],
    "schedule": "constant",
    "gradient_clipping": [0.0],
    "weight_decay": 0.0,
    "batch_size": 256,
    "epochs": 50,
}
EXAMPLES = (  # what `predict` scores when the whole study runs
    "$SPY buy the dip",
    "$SPY I'd rather not buy this dip",
    "$SPY new all time high next week, shorts will cover",
    "$SPY puts for Friday, this rally has no volume",
    "$SPY what a day",
)


# ---- data ------------------------------------------------------------------------------------------------------------


def load(flags: argparse.Namespace) -> Messages:
    return messages(*data_source(flags))


def data_source(flags: argparse.Namespace) -> tuple:
    return flags.data, flags.text_column, flags.label_column, flags.data_dir, flags.source, flags.limit


@lru_cache(maxsize=1)
def messages(data: Path | None, text_column: str, label_column: str, data_dir: Path, source: str, limit: int | None):
    if data is not None:
        return labelled_messages(data, text_column, label_column, limit)
    return spy_messages(data_dir, source, limit)


class EncodedTexts:
    """Texts as a model reads them: `data[indices]` is (words (B, T), pieces (B, T, P), lengths (B), labels (B))."""

    def __init__(self, part: LabelledTexts, model: TextLSTM):
        index = {word: place for place, word in enumerate(model.vocabulary)}
        tokens = [tokenize(text) for text in part.texts]
        names = {token: place for place, token in enumerate(dict.fromkeys(token for row in tokens for token in row))}
        lengths = [len(row) for row in tokens]
        self.words = torch.tensor([place for row in tokens for place in encode(row, index)]).split(lengths)
        # also of unknown words
        self.names = torch.tensor([names[token] for row in tokens for token in row]).split(lengths)
        self.lengths = torch.tensor(lengths)
        self.labels = part.labels
        self.pieces = piece_places(list(names), model.piece_buckets) if model.piece_buckets else None

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, indices: Tensor) -> loop.Batch:
        words, names = (
            pad_sequence([rows[i] for i in indices.tolist()], batch_first=True) for rows in (self.words, self.names)
        )
        pieces = words.new_zeros(*words.shape, 0) if self.pieces is None else self.pieces[names]
        return words, pieces, self.lengths[indices], self.labels[indices]

    def batches(self, size: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """Random batches of texts of similar length, most of them of the same, in random order."""
        order = torch.argsort(self.lengths + torch.rand(size, generator=generator))
        return loop.in_random_order(order.split(batch_size), generator)


# ---- training and test -----------------------------------------------------------------------------------------------


def build(flags: argparse.Namespace, data: Messages) -> TextLSTM:
    vocabulary = build_vocabulary(data.train.texts, flags.min_count)
    index = {word: place for place, word in enumerate(vocabulary)}
    texts = [encode(tokenize(text), index) for text in data.train.texts]
    pairs = None if flags.no_linear else repeated_pairs(texts, len(vocabulary), flags.min_count)
    model = TextLSTM(
        vocabulary,
        flags.embedding_size,
        layer_sizes(flags),
        flags.bidirectional,
        flags.pooling,
        flags.dropout,
        flags.embedding_dropout,
        flags.word_dropout,
        pairs,
        flags.pair_dropout,
        flags.piece_buckets,
        bool(flags.epsilon),
        list(data.classes),
    )
    if flags.start == "neighbours":
        vectors = cooccurrence_vectors(texts, len(vocabulary), flags.embedding_size)
        model.embedding.weight.data.copy_(START_STD * torch.from_numpy(vectors))
    return model


def repeated_pairs(texts: list[list[int]], words: int, min_count: int) -> list[int]:
    """The pairs of neighbours that occur at least `min_count` times, as codes first * V + second."""
    counts = Counter(a * words + b for text in texts for a, b in pairwise(text))
    return sorted(code for code, count in counts.items() if count >= min_count)


def layer_sizes(flags: argparse.Namespace) -> list[int]:
    """`--lstm_sizes`, or `--hidden_size` and every further layer half as wide as the one before."""
    return flags.lstm_sizes or [max(1, flags.hidden_size >> layer) for layer in range(flags.num_layers)]


def make_step(flags: argparse.Namespace) -> loop.Step:
    """Error: cross-entropy or squared error. Loss: that; in training also of the parts and of perturbed embeddings."""

    def error(logits: Tensor, labels: Tensor) -> Tensor:
        if flags.loss == "squared_error":
            return mse_loss(logits.sigmoid(), labels)
        return binary_cross_entropy_with_logits(logits, labels)

    def training_error(parts: list[Tensor], labels: Tensor) -> Tensor:
        """That of the sum of the parts, and of each part alone, in the place of all."""
        alone = sum(error(len(parts) * part, labels) for part in parts) if len(parts) > 1 else 0.0
        return error(sum(parts), labels) + flags.part_loss * alone

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        words, pieces, lengths, labels = batch
        embedded = model.embed(*model.drop_words(words, pieces))  # (B, T, E)
        parts = [part.float() for part in model.read(embedded, words, lengths)]
        whole = sum(parts)
        metrics = {"error": error(whole, labels), "accuracy": ((whole > 0) == (labels > 0.5)).float().mean()}
        loss = training_error(parts, labels) if model.training else metrics["error"]
        if model.training and flags.epsilon:
            perturbed = embedded + flags.epsilon * compute_perturbation(loss, embedded)
            again = [part.float() for part in model.read(perturbed, words, lengths)]
            loss = loss + training_error(again, labels)
        return {"loss": loss, **metrics}

    return step


def fit_model(flags: argparse.Namespace, folder: Path) -> loop.Result:
    data = load(flags)
    model = build(flags, data)
    training, validation = (EncodedTexts(part, model) for part in (data.train, data.validation))
    return loop.train(
        model,
        make_step(flags),
        training,
        validation,
        flags,
        folder,
        monitor="accuracy",
        maximise=True,
        batches=training.batches,
    )


def test_model(flags: argparse.Namespace, folder: Path) -> dict:
    return score(flags, folder / "best.pt")


def score(flags: argparse.Namespace, path: Path) -> dict:
    """The numbers of a trained model on the test part, with the majority class and the bag of words beside them."""
    data, model = load(flags), trained(path, flags)
    found, labels, other = logits(model, data.test, flags), data.test.labels.numpy(), bag_of_words_logits(flags, "test")
    right, other_right = (binary_scores.correct(z, labels) for z in (found, other))
    return {
        "data": data.facts["data"],
        "training_messages": len(data.train.texts),
        "vocabulary": len(model.vocabulary),
        "parameters": sum(p.numel() for p in model.parameters()),
        **binary_scores.summary(found, labels),
        "val_accuracy": validation_accuracy(data, logits(model, data.validation, flags)),
        "majority_accuracy": majority_accuracy(data),
        "bag_of_words_accuracy": float(other_right.mean()),
        "bag_of_words_log_loss": binary_scores.log_loss(other, labels),
        "sigmas_above_bag_of_words": binary_scores.paired_sigmas(right, other_right),
    }


def validation_accuracy(data: Messages, found: np.ndarray) -> float:
    return float(binary_scores.correct(found, data.validation.labels.numpy()).mean())


def trained(path: Path, flags: argparse.Namespace) -> TextLSTM:
    return checkpoint.rebuild(path, TextLSTM).to(flags.device)


@torch.no_grad()
def logits(model: TextLSTM, part: LabelledTexts, flags: argparse.Namespace) -> np.ndarray:
    """The model's logits (N,) of the texts, in their order."""
    data = EncodedTexts(part, model)
    order = torch.argsort(data.lengths, stable=True)
    found = torch.empty(len(data))
    for indices in order.split(1000):
        *inputs, _ = loop.fetch(data, indices, flags.device)
        found[indices] = model(*inputs).float().cpu()
    return found.numpy()


def majority_accuracy(data: Messages) -> float:
    """Of the class that most training messages have, on the test part."""
    majority = float(data.train.labels.mean() > 0.5)
    return float((data.test.labels == majority).float().mean())


# ---- bag of words ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def fit_bag_of_words(*source) -> bag_of_words.BagOfWords:
    """Once for all seeds."""
    train, validation, *_ = messages(*source)
    texts = [[tokenize(text) for text in part.texts] for part in (train, validation)]
    return bag_of_words.fit_best(texts[0], train.labels.numpy(), texts[1], validation.labels.numpy())


def bag_of_words_logits(flags: argparse.Namespace, part: str) -> np.ndarray:
    return fit_bag_of_words(*data_source(flags)).logits([tokenize(text) for text in getattr(load(flags), part).texts])


# ---- functions -------------------------------------------------------------------------------------------------------


def train(flags: argparse.Namespace, folder: Path) -> dict:
    """train and test the LSTM; loss and accuracy against epochs, calibration, confusion matrix, accuracy by length"""
    metrics = grid_search.fit(flags, folder, fit_model, test_model, GRID)
    for name, key, ylabel in (("loss", "error", flags.loss.replace("_", " ")), ("accuracy", "accuracy", "accuracy")):
        plots.curves(folder / f"{name}.png", tables.read_curves(folder, key), "epoch", ylabel)
    plot_scores(flags, folder / "best.pt", folder)
    return metrics


def evaluate(flags: argparse.Namespace, folder: Path) -> dict:
    """test the model that `train` left (or --checkpoint): numbers, calibration, confusion matrix, accuracy by length"""
    path = checkpoint_path(flags)
    metrics = score(flags, path)
    plot_scores(flags, path, folder)
    return metrics


def predict(flags: argparse.Namespace, folder: Path) -> dict:
    """probability of each --text, or line of the standard input, and the words that move it most"""
    flags = grid_search.with_values(flags, device="cpu")  # cuDNN has no gradients in evaluation mode
    model = trained(checkpoint_path(flags), flags)
    if flags.text:
        texts = flags.text
    elif flags.function == "predict":
        texts = [line.rstrip("\n") for line in sys.stdin]
    else:
        texts = list(EXAMPLES)
    found = [explain(model, text, flags) for text in texts]
    if not flags.quiet:
        for row in found:
            words = "  ".join(f"{word} {value:+.2f}" for word, value in row["words"])
            print(f"P({model.classes[1]}) {row['probability']:.3f}  {row['text']!r}  {words}")
    return {"class": model.classes[1], "messages": found}


def baseline(flags: argparse.Namespace, folder: Path) -> dict:
    """bag of words and word pairs with logistic regression, its regularisation chosen on validation data"""
    data, started = load(flags), time.monotonic()
    model = fit_bag_of_words(*data_source(flags))
    seconds = time.monotonic() - started
    ranked = np.array(list(model.index))[np.argsort(model.weights)]
    return {
        "data": data.facts["data"],
        "seed": flags.seed,
        "seconds": round(seconds, 1),
        "parameters": len(model.weights) + 1,
        "l2": model.l2,
        **binary_scores.summary(bag_of_words_logits(flags, "test"), data.test.labels.numpy()),
        "val_accuracy": validation_accuracy(data, bag_of_words_logits(flags, "validation")),
        "majority_accuracy": majority_accuracy(data),
        f"most_{data.classes[0]}": ranked[:15].tolist(),
        f"most_{data.classes[1]}": ranked[::-1][:15].tolist(),
    }


def checkpoint_path(flags: argparse.Namespace) -> Path:
    return flags.checkpoint or flags.output_dir / "train" / "best.pt"


def explain(model: TextLSTM, text: str, flags: argparse.Namespace, count: int = 5) -> dict:
    """Probability of the second class, and the words with the largest gradients of the logit by their presence.

    A word's gradient says by how much the logit would fall, to first order, if the word faded.
    """
    alone = EncodedTexts(LabelledTexts([text], torch.zeros(1)), model)
    words, pieces, lengths, _ = loop.fetch(alone, torch.tensor([0]), flags.device)
    presence = torch.ones(words.shape, device=flags.device, requires_grad=True)  # (1, T)
    logit = model(words, pieces, lengths, presence)
    (gradient,) = torch.autograd.grad(logit.sum(), presence)
    pairs = zip(tokenize(text), gradient[0].tolist(), strict=True)
    strongest = sorted(pairs, key=lambda pair: -abs(pair[1]))[:count]
    return {"text": text, "probability": logit.sigmoid().item(), "words": [list(pair) for pair in strongest]}


# ---- figures ---------------------------------------------------------------------------------------------------------


def plot_scores(flags: argparse.Namespace, path: Path, folder: Path) -> None:
    """Calibration, confusion matrix and accuracy against length of the model at `path` and of the bag of words."""
    data = load(flags)
    labels = data.test.labels.numpy()
    found = {
        "LSTM": logits(trained(path, flags), data.test, flags),
        "bag of words": bag_of_words_logits(flags, "test"),
    }
    series = {}
    for name, z in found.items():
        bins = binary_scores.reliability(z, labels)
        sigma = binary_scores.binomial_sigma(bins["share"], bins["count"])
        series[name] = (bins["probability"], bins["share"], sigma)
    second = data.classes[1]
    plots.points(
        folder / "calibration.png",
        series,
        f"predicted probability of {second}",
        f"share of {second} messages",
        diagonal="perfect calibration",
    )
    matrices = {name: binary_scores.confusion(z, labels) for name, z in found.items()}
    plots.confusion(folder / "confusion.png", matrices, data.classes)
    lengths = np.array([len(tokenize(text)) for text in data.test.texts])
    series = {name: by_length(lengths, binary_scores.correct(z, labels)) for name, z in found.items()}
    plots.points(folder / "lengths.png", series, "length of the message (tokens)", "test accuracy")


def by_length(lengths: np.ndarray, right: np.ndarray, groups: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean length, accuracy and its sigma in groups of about equally many messages of neighbouring lengths."""
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, groups + 1)[1:-1]))
    place = np.searchsorted(edges, lengths, side="left")
    parts = [place == k for k in range(len(edges) + 1) if (place == k).any()]
    shares = np.array([right[part].mean() for part in parts])
    sigma = binary_scores.binomial_sigma(shares, np.array([part.sum() for part in parts]))
    return np.array([lengths[part].mean() for part in parts]), shares, sigma


FUNCTIONS = {"train": train, "evaluate": evaluate, "predict": predict, "baseline": baseline}


def main(argv: list[str] | None = None) -> dict:
    return run_script(parse(argv), FUNCTIONS)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser, groups = command_line.make_parser(
        __doc__,
        FUNCTIONS,
        hidden_size=[128],
        num_layers=2,
        epochs=4,
        batch_size=128,
        learning_rate=[2e-3],
        optimizer="AdamW",
        weight_decay=0.01,
    )
    add_flags(groups)
    flags = command_line.parse(parser, argv)
    if flags.published:
        parser.set_defaults(**PUBLISHED)  # other flags given beside it still count
        flags = command_line.parse(parser, argv)
    if flags.piece_buckets == 1:
        parser.error("argument --piece_buckets: expected 0 or at least 2 (the first one stays empty), found 1")
    return flags


def add_flags(groups: dict) -> None:
    share = command_line.number(float, 0, 0.95)
    add = groups["what to run"].add_argument
    add("--published", action="store_true", help="the tutorial's configuration; flags given beside it still count")
    add("--text", nargs="+", metavar="MESSAGE", help="predict: what to score; default: lines of the standard input")
    add("--checkpoint", type=Path, help="evaluate, predict: the model; default: train/best.pt in --output_dir")
    add = groups["model"].add_argument
    add(
        "--lstm_sizes",
        type=command_line.POSITIVE_INT,
        nargs="+",
        help="units of each LSTM; default: --hidden_size, every further one of --num_layers half as wide",
    )
    add("--embedding_size", type=command_line.POSITIVE_INT, default=100, help="values per word")
    add("--bidirectional", action="store_true", help="a second LSTM per layer reads from the end")
    add("--pooling", choices=POOLINGS, default="max_mean", help="of the hidden states over the words")
    add(
        "--piece_buckets",
        type=command_line.COUNT,
        default=2**15,
        help="hash table of character pieces, whose vectors join those of the words; 0: words alone",
    )
    add(
        "--start",
        choices=("neighbours", "random"),
        default="neighbours",
        help="first embeddings: from the neighbours of each word in the training messages, or random",
    )
    add("--no_linear", action="store_true", help="without the linear model of words and pairs that joins the logit")
    add("--min_count", type=command_line.POSITIVE_INT, default=2, help="occurrences of a word or pair that counts")
    add = groups["training"].add_argument
    add("--dropout", type=share, default=0.5, help="of hidden states between layers and before the logit")
    add("--embedding_dropout", type=share, default=0.3, help="of dimensions of the embeddings")
    add("--word_dropout", type=share, default=0.1, help="of words, read as unknown ones")
    add("--pair_dropout", type=share, default=0.3, help="of words and pairs of the linear model")
    add("--loss", choices=("cross_entropy", "squared_error"), default="cross_entropy", help="of the probability")
    add(
        "--part_loss",
        type=command_line.NOT_NEGATIVE,
        default=0.5,
        help="weight of the losses of the LSTMs alone and of the linear model alone",
    )
    add(
        "--epsilon",
        type=command_line.NOT_NEGATIVE,
        nargs="+",
        default=[0.0],
        help="length of the adversarial perturbation of the embeddings; 0: none; several: a grid",
    )
    add = groups["data"].add_argument
    add("--data", type=Path, metavar="FILE", help="a CSV file of your own, gzipped or not, not the $SPY messages")
    add("--text_column", default="message", help="of the file: its texts")
    add("--label_column", default="sentiment", help="of the file: one of two labels")


if __name__ == "__main__":
    main()
