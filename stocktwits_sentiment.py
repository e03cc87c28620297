"""Bullish or bearish: the sentiment of messages about $SPY, by word embeddings, stacked LSTMs and a linear model.

    python stocktwits_sentiment.py                                # examples, train, test, predict, bag of words
    python stocktwits_sentiment.py --function train --seeds 5     # the README's rows
    python stocktwits_sentiment.py --function train --preset published      # then with --dry_run: test the saved model
    python stocktwits_sentiment.py --function predict --text "buy the dip" "this market will crash"
    python stocktwits_sentiment.py --function predict --file messages.csv
    python stocktwits_sentiment.py --data reviews.csv --text_column review --label_column label

96,967 messages of StockTwits from 2017, labelled by their authors. A message's tokens are embedded, with the character
n-grams of each (so that unknown words differ), and read by two LSTMs; the maximum and the mean of their states over the
message give a logit, to which a linear model of the words and bigrams is added. Beside the accuracy stand the majority
class and a bag of words and bigrams with logistic regression. Results and error analysis: docs/stocktwits_sentiment.md.

The preset `published` is the tutorial github.com/GarrettHoffman/lstm-oreilly (71.7 % on its own split): its
preprocessing, look-up table with 0 for padding, first embeddings, model, loss, optimizer, batch size and epochs.
Differences that remain, with the reasons:
1. The tutorial splits the messages in the order of the file, repeated ones included; here a text is in one split only,
   and tickers, users, links, prices and numbers do not make a text another one.
2. Its look-up table holds the words of all messages; here those of the training messages, and the others are unknown.
3. It pads every message on the left to 244 steps, having counted characters, and reads the padding; here none is read.
4. It hands the LSTMs' state from one batch to the next; here every message starts from zero.
5. Its batches follow the order of the file; here they are random in every epoch, of messages of similar length.
6. It tests the last epoch; here the epoch with the best validation accuracy is tested.
7. It drops the one message that is empty after its preprocessing; here that is one unknown word.
8. Adadelta's constants and the LSTMs' first weights are PyTorch's (rho .9 and epsilon 1e-6, not .95 and 1e-8).
Adversarial training (`--epsilon`) is that of Miyato, Dai and Goodfellow 2017, but embeddings are normalised per word.
"""

from dataclasses import dataclass
from pathlib import Path

from lstm_studies.training import flags
from lstm_studies.training.presets import Script, recipe
from lstm_studies.training.settings import COUNT, NOT_NEGATIVE, POSITIVE_INT, Settings, UsageError, flag, number, one_of

RATE = number(float, 0, 0.95)
READS = ("show_messages", "train", "baseline")  # functions that read labelled messages


@dataclass(frozen=True)
class SentimentSettings(Settings):
    """The flags of this script beside those of all."""

    text: tuple[str, ...] = flag(
        (),
        "messages to score; default: a few examples",
        "what to run",
        str,
        several="list",
        functions=["predict"],
        metavar="MESSAGE",
    )
    file: Path | None = flag(
        None,
        "messages to score: a CSV file with --text_column, a .txt file with one per line, or - for lines from the "
        "standard input",
        "what to run",
        Path,
        functions=["predict"],
        decides=False,
    )
    checkpoint: Path | None = flag(
        None,
        "trained model; default: train/best.pt in --output_dir",
        "what to run",
        Path,
        functions=["predict"],
        decides=False,
    )

    hidden_size: int = flag(128, "units of the first LSTM", "model", POSITIVE_INT, several="grid")
    num_layers: int = flag(2, "stacked LSTMs, each half as wide as the one before", "model", POSITIVE_INT)
    lstm_sizes: tuple[int, ...] = flag(
        (), "units of each LSTM, instead of --hidden_size and --num_layers", "model", POSITIVE_INT, several="list"
    )
    embedding_size: int = flag(100, "values per word", "model", POSITIVE_INT)
    bidirectional: bool = flag(False, "second LSTM per layer, which reads from the end", "model")
    pooling: str = flag(
        "max_mean",
        "pooling of the hidden states over the words",
        "model",
        one_of("last", "mean", "max", "max_mean"),
        metavar="{last,mean,max,max_mean}",
    )
    ngram_buckets: int = flag(
        2**15,
        "size of the hash table of character n-grams, whose vectors join those of the words; 0: words alone",
        "model",
        COUNT,
        aliases=["piece_buckets"],
    )
    embedding_start: str = flag(
        "neighbours",
        "first embeddings: from the neighbours of each word in the training messages, Gaussian, or uniform in [-1, 1]",
        "model",
        one_of("neighbours", "random", "uniform"),
        metavar="{neighbours,random,uniform}",
        aliases=["start"],
    )
    linear: bool = flag(True, "linear model of the words and bigrams, added to the LSTMs' logit", "model")
    linear_scale: float = flag(
        6.0,
        "factor of the linear model's logit, and so of its learning rate",
        "model",
        NOT_NEGATIVE,
        when={"linear": True},
    )
    min_count: int = flag(
        2,
        "occurrences of a word or bigram in the training messages that give it weights",
        "model",
        POSITIVE_INT,
        functions=["train", "show_messages"],
    )
    tokenizer: str = flag(
        "detailed",
        "detailed: keeps signs, emojis and names of tickers; tutorial: its preprocessing, which deletes them",
        "model",
        one_of("detailed", "tutorial"),
        metavar="{detailed,tutorial}",
        functions=["train", "show_messages"],
    )

    dropout: float = flag(0.5, "dropout rate of hidden states, between layers and before the logit", "training", RATE)
    embedding_dropout: float = flag(0.3, "dropout rate of the embeddings' dimensions", "training", RATE)
    word_dropout: float = flag(0.1, "share of words that the LSTMs read as unknown ones", "training", RATE)
    linear_dropout: float = flag(
        0.1,
        "dropout rate of the words and bigrams of the linear model",
        "training",
        RATE,
        when={"linear": True},
        aliases=["pair_dropout"],
    )
    loss: str = flag(
        "cross_entropy",
        "error of the predicted probability",
        "training",
        one_of("cross_entropy", "squared_error"),
        metavar="{cross_entropy,squared_error}",
    )
    part_loss: float = flag(
        0.5,
        "weight of the losses of the LSTMs alone and of the linear model alone",
        "training",
        NOT_NEGATIVE,
        when={"linear": True},
    )
    epsilon: float = flag(
        0.0,
        "length of the adversarial perturbation of the embeddings; 0: none",
        "training",
        NOT_NEGATIVE,
        several="grid",
    )

    data: Path | None = flag(
        None,
        "CSV file with labels of your own, gzipped or not, instead of the $SPY messages",
        "data",
        Path,
        functions=READS,
        metavar="FILE",
    )
    text_column: str = flag("message", "column of --data or --file with the texts", "data", str)
    label_column: str = flag("sentiment", "column of --data with one of two labels", "data", str, functions=READS)
    source: str = flag(
        "auto",
        "auto: files in data_dir, else a download, else the invented sample; full: never the sample; "
        "sample: no network",
        "data",
        one_of("auto", "full", "sample"),
        metavar="{auto,full,sample}",
        functions=READS,
    )
    limit: int | None = flag(
        None, "number of training messages, the first ones; default: all", "data", POSITIVE_INT, functions=READS
    )

    def check(self) -> None:
        if self.ngram_buckets == 1:
            raise UsageError("--ngram_buckets: expected 0 or at least 2 (the first one stays empty), found 1")
        if self.text and self.file:
            raise UsageError("--file: expected --text or --file, found both")


PUBLISHED = {  # the tutorial's preprocessing, model and training
    "tokenizer": "tutorial",
    "min_count": 1,
    "embedding_size": 300,
    "embedding_start": "uniform",
    "lstm_sizes": (128, 64),
    "pooling": "last",
    "ngram_buckets": 0,
    "linear": False,
    "dropout": 0.5,
    "embedding_dropout": 0.0,
    "word_dropout": 0.0,
    "loss": "squared_error",
    "optimizer": "Adadelta",
    "learning_rate": 0.1,
    "schedule": "constant",
    "gradient_clipping": 0.0,
    "batch_size": 256,
    "epochs": 50,
}
BEST = {"learning_rate": 2e-3, "optimizer": "AdamW", "weight_decay": 0.01, "precision": "bfloat16"}
PRESETS = {
    "best": [recipe(epochs=4, **BEST), recipe({"function": "train"}, minutes=3)],
    "published": [recipe(precision="bfloat16", **PUBLISHED), recipe({"function": "train"}, minutes=25)],
    "quick": [recipe(epochs=2, limit=8000, **BEST), recipe({"function": "train"}, minutes=0.5)],
}
SCRIPT = Script(
    __file__,
    __doc__,
    {
        "show_messages": "messages as written, as tokens and as places in the vocabulary; a batch; numbers of tokens",
        "train": "train, save and test; learning curves, calibration, confusion matrix, accuracy by length; with "
        "--seeds also the ensemble",
        "predict": "probability of each message, and the words that moved it most, to predictions.csv",
        "baseline": "bag of words and bigrams with logistic regression, its regularisation chosen on validation data",
    },
    SentimentSettings,
    PRESETS,
    trains=("train",),
)
if __name__ == "__main__":
    flags.parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from lstm_studies.evaluation import bag_of_words, binary_scores
from lstm_studies.loaders.encoded_texts import EncodedTexts, build_vocabulary, encode, index_of, repeated_bigrams
from lstm_studies.loaders.messages import TOKENIZERS, LabelledTexts, Messages, labelled_messages, spy_messages, tokenize
from lstm_studies.loaders.text_files import read_texts
from lstm_studies.models.adversarial import compute_perturbation
from lstm_studies.models.text_lstm import TextLSTM
from lstm_studies.models.word_vectors import cooccurrence_vectors
from lstm_studies.reporting import plots
from lstm_studies.reporting.sentiment import plot_scores
from lstm_studies.training import checkpoint, grid_search, loop, tables
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script

START_STD = 0.3  # of the embeddings' values
SHOWN, SHOWN_BATCH = 20, 5  # messages that `predict` and `show_messages` print
ENSEMBLE_METRICS = (
    "test_accuracy",
    "test_accuracy_sigma",
    "test_log_loss",
    "calibration_error",
    "val_accuracy",
    "sigmas_above_bag_of_words",
)
EXAMPLES = (  # what `predict` scores when the whole study runs
    "$SPY buy the dip",
    "$SPY I'd rather not buy this dip",
    "$SPY new all time high next week, shorts will cover",
    "$SPY puts for Friday, this rally has no volume",
    "$SPY what a day",
)

# ---- data ------------------------------------------------------------------------------------------------------------


def load(settings: SentimentSettings | Request) -> Messages:
    return messages(*data_source(settings))


def data_source(settings: SentimentSettings | Request) -> tuple:
    names = ("data", "text_column", "label_column", "data_dir", "source", "limit")
    return tuple(getattr(settings, name) for name in names)


@lru_cache(maxsize=1)
def messages(
    data: Path | None, text_column: str, label_column: str, data_dir: Path, source: str, limit: int | None
) -> Messages:
    if data is not None:
        return labelled_messages(data, text_column, label_column, limit)
    return spy_messages(data_dir, source, limit)


def encoded(split: LabelledTexts, model: TextLSTM) -> EncodedTexts:
    return EncodedTexts(split, model.vocabulary, model.tokenizer, model.ngram_buckets)


# ---- training and test -----------------------------------------------------------------------------------------------


def build(settings: SentimentSettings, data: Messages) -> TextLSTM:
    tokens = [TOKENIZERS[settings.tokenizer](text) for text in data.train.texts]
    vocabulary = build_vocabulary(tokens, settings.min_count)
    index = index_of(vocabulary)
    texts = [encode(row, index) for row in tokens]
    model = TextLSTM(
        vocabulary,
        settings.embedding_size,
        layer_sizes(settings),
        bidirectional=settings.bidirectional,
        pooling=settings.pooling,
        dropout=settings.dropout,
        embedding_dropout=settings.embedding_dropout,
        word_dropout=settings.word_dropout,
        bigrams=repeated_bigrams(texts, len(vocabulary), settings.min_count) if settings.linear else None,
        linear_dropout=settings.linear_dropout,
        linear_scale=settings.linear_scale,
        ngram_buckets=settings.ngram_buckets,
        normalize=bool(settings.epsilon),
        classes=data.classes,
        tokenizer=settings.tokenizer,
    )
    if settings.embedding_start == "neighbours":
        vectors = cooccurrence_vectors(texts, len(vocabulary), settings.embedding_size)
        model.embedding.weight.data.copy_(START_STD * torch.from_numpy(vectors))
    elif settings.embedding_start == "uniform":
        nn.init.uniform_(model.embedding.weight, -1, 1)
    return model


def layer_sizes(settings: SentimentSettings) -> list[int]:
    """`--lstm_sizes`, or `--hidden_size` and every further layer half as wide as the one before."""
    halved = [max(1, settings.hidden_size >> layer) for layer in range(settings.num_layers)]
    return list(settings.lstm_sizes) or halved


def make_step(settings: SentimentSettings) -> loop.Step:
    """Error: cross-entropy or squared error. Loss: that; in training also of the parts and of perturbed embeddings."""

    def error(logits: Tensor, labels: Tensor) -> Tensor:
        if settings.loss == "squared_error":
            return mse_loss(logits.sigmoid(), labels)
        return binary_cross_entropy_with_logits(logits, labels)

    def training_error(parts: list[Tensor], labels: Tensor) -> Tensor:
        """Error of the sum of the parts, and of each part alone, multiplied by their number."""
        alone = sum(error(len(parts) * part, labels) for part in parts) if len(parts) > 1 else 0.0
        return error(sum(parts), labels) + settings.part_loss * alone

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        words, ngrams, lengths, labels = batch
        embedded = model.embed(*model.drop_words(words, ngrams))  # (B, T, E)
        parts = [part.float() for part in model.read(embedded, words, lengths)]
        whole = sum(parts)
        metrics = {"error": error(whole, labels), "accuracy": ((whole > 0) == (labels > 0.5)).float().mean()}
        loss = training_error(parts, labels) if model.training else metrics["error"]
        if model.training and settings.epsilon:
            perturbed = embedded + settings.epsilon * compute_perturbation(loss, embedded)
            again = [part.float() for part in model.read(perturbed, words, lengths)]
            loss = loss + training_error(again, labels)
        return {"loss": loss, **metrics}

    return step


def train(settings: SentimentSettings, folder: Path) -> loop.Result:
    data = load(settings)
    settings = flags.with_data_read(settings, data.metadata)
    model = build(settings, data)
    training, validation = (encoded(split, model) for split in (data.train, data.validation))
    return loop.train(
        model,
        make_step(settings),
        training,
        validation,
        settings,
        folder,
        monitor="accuracy",
        maximise=True,
        batches=training.batches,
    )


def test(settings: SentimentSettings, folder: Path) -> dict:
    """The metrics of a trained model on the test messages, beside those of the majority class and the bag of words."""
    data, model = load(settings), trained(folder / "best.pt", settings)
    return {
        "data": data.metadata["data"],
        "training_messages": len(data.train.texts),
        "vocabulary": len(model.vocabulary),
        "parameters": sum(p.numel() for p in model.parameters()),
        **compared(logits(model, data.test, settings), settings),
        "val_accuracy": validation_accuracy(data, logits(model, data.validation, settings)),
    }


def compared(z: np.ndarray, settings: SentimentSettings | Request) -> dict:
    """Metrics of logits (N,) of the test messages, beside those of the majority class and the bag of words."""
    data, opponent = load(settings), bag_of_words_logits(settings, "test")
    labels = data.test.labels.numpy()
    right, opponent_right = (binary_scores.correct(own, labels) for own in (z, opponent))
    return {
        **binary_scores.summary(z, labels),
        "majority_accuracy": majority_accuracy(data),
        "bag_of_words_accuracy": float(opponent_right.mean()),
        "bag_of_words_log_loss": binary_scores.log_loss(opponent, labels),
        "sigmas_above_bag_of_words": binary_scores.paired_sigmas(right, opponent_right),
    }


def validation_accuracy(data: Messages, z: np.ndarray) -> float:
    return binary_scores.accuracy(z, data.validation.labels.numpy())


def trained(path: Path, settings: SentimentSettings | Request) -> TextLSTM:
    return checkpoint.rebuild(path, TextLSTM).to(settings.device)


@torch.no_grad()
def logits(model: TextLSTM, split: LabelledTexts, settings: SentimentSettings | Request) -> np.ndarray:
    """The model's logits (N,) of the texts, in their order."""
    data = encoded(split, model)
    z = torch.empty(len(data))
    for indices in data.by_length():
        *inputs, _ = loop.fetch(data, indices, settings.device)
        z[indices] = model(*inputs).float().cpu()
    return z.numpy()


def majority_accuracy(data: Messages) -> float:
    """Accuracy of the class that most training messages have, on the test messages."""
    majority = float(data.train.labels.mean() > 0.5)
    return float((data.test.labels == majority).float().mean())


# ---- bag of words ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def fit_bag_of_words(*source) -> bag_of_words.BagOfWords:
    """The opponent of all seeds."""
    train, validation, *_ = messages(*source)
    texts = [[tokenize(text) for text in split.texts] for split in (train, validation)]
    return bag_of_words.fit_best(texts[0], train.labels.numpy(), texts[1], validation.labels.numpy())


def bag_of_words_logits(settings: SentimentSettings | Request, split: str) -> np.ndarray:
    texts = getattr(load(settings), split).texts
    return fit_bag_of_words(*data_source(settings)).logits([tokenize(text) for text in texts])


# ---- functions -------------------------------------------------------------------------------------------------------


def show_messages(request: Request, folder: Path) -> dict:
    """Shows training messages before and after the preprocessing, the look-up table, a batch, and numbers of tokens."""
    settings, data = request.single(), load(request)
    tokens = [TOKENIZERS[settings.tokenizer](text) for text in data.train.texts]
    vocabulary = build_vocabulary(tokens, settings.min_count)
    counts = np.array([len(row) for row in tokens])
    lengths = {"training messages": (np.arange(counts.max() + 1), np.bincount(counts))}
    plots.curves(folder / "lengths.png", lengths, "length of a message (tokens)", "messages")
    few = LabelledTexts(data.train.texts[:SHOWN_BATCH], data.train.labels[:SHOWN_BATCH])
    batch = EncodedTexts(few, vocabulary, settings.tokenizer, 0)
    words, *_ = batch[torch.arange(len(batch))]
    return {
        "data": data.metadata["data"],
        **{name: data.metadata[name] for name in ("train", "validation", "test")},
        "vocabulary": len(vocabulary),
        "first_words": vocabulary[:20],
        "median_tokens": float(np.median(counts)),
        "most_tokens": int(counts.max()),
        "messages": [
            {"label": data.classes[int(label)], "message": text, "tokens": " ".join(row), "places": spaced(places)}
            for text, label, row, places in zip(few.texts, few.labels, tokens, batch.words, strict=False)
        ],
        "batch": [spaced(row) for row in words],  # the same messages; 0 is padding
    }


def spaced(places: Tensor) -> str:
    return " ".join(map(str, places.tolist()))


def run_training(request: Request, folder: Path) -> dict:
    """Trains, saves and tests; draws the learning curves and the scores on the test messages."""
    metrics = grid_search.fit(request, folder, train, test)
    for name, key, ylabel in (("loss", "error", request.loss.replace("_", " ")), ("accuracy", "accuracy", "accuracy")):
        plots.curves(folder / f"{name}.png", tables.read_curves(folder, key), "epoch", ylabel)
    data = load(request)
    models = {"LSTM": logits(trained(folder / "best.pt", request), data.test, request)}
    if request.seeds > 1:
        paths = [folder / "seeds" / str(request.seed + i) / "best.pt" for i in range(request.seeds)]
        own, models["ensemble"] = test_ensemble([trained(path, request) for path in paths], request, folder)
        metrics |= own
    models["bag of words"] = bag_of_words_logits(request, "test")
    lengths = np.array([len(tokenize(text)) for text in data.test.texts])
    plot_scores(folder, models, data.test.labels.numpy(), lengths, data.classes)
    return metrics


def test_ensemble(models: Sequence[TextLSTM], request: Request, folder: Path) -> tuple[dict, np.ndarray]:
    """Metrics and logits (N,) of the models' mean logit on the test messages; writes errors.csv, see `write_errors`."""
    data = load(request)
    validation, test = (
        np.stack([logits(model, split, request) for model in models]) for split in (data.validation, data.test)
    )  # (models, N)
    write_errors(folder / "errors.csv", validation, data)
    metrics = {**compared(test.mean(0), request), "val_accuracy": validation_accuracy(data, validation.mean(0))}
    labels, opponent = data.test.labels.numpy(), bag_of_words_logits(request, "test")
    wrong = binary_scores.wrong_in_all(test, labels)
    both_wrong = wrong & ~binary_scores.correct(opponent, labels)
    return {
        **{f"ensemble_{name}": metrics[name] for name in ENSEMBLE_METRICS},
        "wrong_in_all_seeds": float(wrong.mean()),
        "wrong_in_all_seeds_and_bag_of_words": float(both_wrong.mean()),
    }, test.mean(0)


def write_errors(path: Path, z: np.ndarray, data: Messages) -> None:
    """The validation messages that all models get wrong, given their logits z (models, N).

    Not the test messages: to read them would be a kind of training on them.
    """
    texts, labels = data.validation
    rows = [
        {"message": texts[i], "label": data.classes[int(labels[i])], "logit": f"{z[:, i].mean():.2f}"}
        for i in np.flatnonzero(binary_scores.wrong_in_all(z, labels.numpy()))
    ]
    tables.write_csv(path, rows)


def predict(request: Request, folder: Path) -> dict:
    """Scores messages and writes predictions.csv."""
    if "text_column" in request.given and request.file is None:
        raise UsageError("--text_column: predict uses it with --file only")
    texts = read_texts(request.file, request.text_column) if request.file else list(request.text or EXAMPLES)
    model = trained(request.checkpoint or request.output_dir / "train" / "best.pt", request)
    started = time.monotonic()
    predictions = explain(model, texts, request)
    seconds = time.monotonic() - started
    tables.write_csv(folder / "predictions.csv", predictions)
    if not request.quiet:
        for row in predictions[:SHOWN]:
            print(f"P({model.classes[1]}) {row['probability']:.3f}  {row['message']!r}  {row['words']}")
    return {
        "class": model.classes[1],
        "messages": len(texts),
        "seconds": round(seconds, 3),
        "mean_probability": float(np.mean([row["probability"] for row in predictions])),
        "predictions": predictions[:SHOWN],  # all of them are in predictions.csv
    }


def explain(model: TextLSTM, texts: Sequence[str], settings: SentimentSettings | Request, count: int = 5) -> list[dict]:
    """Per message the probability of the second class, and the words that move its logit most (`word_slopes`)."""
    data = encoded(LabelledTexts(list(texts), torch.zeros(len(texts))), model)
    predictions: list[dict] = [{}] * len(texts)
    for indices in data.by_length():
        *inputs, _ = loop.fetch(data, indices, settings.device)
        logit, slopes = model.word_slopes(*inputs)
        for place, p, own in zip(indices.tolist(), logit.sigmoid().tolist(), slopes.tolist(), strict=True):
            tokens = TOKENIZERS[model.tokenizer](texts[place])
            strongest = sorted(zip(tokens, own, strict=True), key=lambda pair: -abs(pair[1]))[:count]
            moved = "  ".join(f"{token} {slope:+.2f}" for token, slope in strongest)
            predictions[place] = {"message": texts[place], "probability": round(p, 4), "words": moved}
    return predictions


def baseline(request: Request, folder: Path) -> dict:
    """Fits and tests the bag of words and bigrams."""
    data, started = load(request), time.monotonic()
    model = fit_bag_of_words(*data_source(request))
    seconds = time.monotonic() - started
    ranked = np.array(list(model.index))[np.argsort(model.weights)]
    return {
        "data": data.metadata["data"],
        "seconds": round(seconds, 1),
        "parameters": len(model.weights) + 1,
        "l2": model.l2,
        **binary_scores.summary(bag_of_words_logits(request, "test"), data.test.labels.numpy()),
        "val_accuracy": validation_accuracy(data, bag_of_words_logits(request, "validation")),
        "majority_accuracy": majority_accuracy(data),
        f"most_{data.classes[0]}": ranked[:15].tolist(),
        f"most_{data.classes[1]}": ranked[::-1][:15].tolist(),
    }


FUNCTIONS = {"show_messages": show_messages, "train": run_training, "predict": predict, "baseline": baseline}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
