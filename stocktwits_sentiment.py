"""Bullish or bearish: the sentiment of messages about $SPY, by word embeddings, stacked LSTMs and a linear model.

    python stocktwits_sentiment.py                                # examples, train, test, predict, opponents
    python stocktwits_sentiment.py --function train --seeds 5     # the README's row
    python stocktwits_sentiment.py --function fresh_splits --seeds 2    # the same on five other splits
    python stocktwits_sentiment.py --function train --preset published  # then `--function train --dry_run` tests it
    python stocktwits_sentiment.py --function predict --text "buy the dip" "this market will crash"
    python stocktwits_sentiment.py --function predict --data messages.csv
    python stocktwits_sentiment.py --data reviews.csv --text_column review --label_column label

96,967 messages of StockTwits from 2017, labelled by their authors. A message's tokens are embedded, with the character
n-grams of each (so that unknown words differ), and read by two LSTMs; the maximum and the mean of their states over the
message give a logit, to which that of a linear model of words and bigrams is added. Baselines: the majority class, and
logistic regression on words and bigrams, and on character n-grams too.

Usage: docs/stocktwits_sentiment.md. Results: docs/results/report/report.md.

The preset `published` is the tutorial github.com/GarrettHoffman/lstm-oreilly (71.7 % on its own split): its
preprocessing, vocabulary with 0 for padding, initial embeddings, model, loss, optimizer, batch size and epochs.

Deviations from the tutorial:
1. The tutorial splits the messages in the order of the file, so that 10 % of its test messages repeat a training one;
   here a text is in one split only, and texts that differ in tickers, users, links, prices or numbers alone are one.
2. Its vocabulary has the words of all messages; here those of the training messages, and all others are unknown.
3. It pads every message on the left to 244 steps, a count of characters, and reads the padding; here none is read.
4. It passes the LSTMs' state from one batch to the next, whose messages are others; here each message starts from zero.
5. Its batches follow the order of the file; here they are random in every epoch, of messages of similar length.
6. It tests the last epoch; here the epoch with the best validation accuracy is tested.
7. It drops the one message that is empty after its preprocessing; here it is one unknown word.
8. Adadelta's constants and the LSTMs' first weights are PyTorch's (rho .9 and epsilon 1e-6, not .95 and 1e-8).
Adversarial training (`--epsilon`) is that of Miyato, Dai and Goodfellow 2017, but embeddings are normalised per word.
"""

from config.stocktwits_sentiment import EXAMPLES, SCRIPT, Baseline, Train
from lstm_studies.training.flags import parse

if __name__ == "__main__":
    parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from lstm_studies.evaluation import binary_scores, opponents
from lstm_studies.evaluation.intervals import compare
from lstm_studies.loaders.encoded_texts import EncodedTexts, build_vocabulary, encode, index_of, repeated_bigrams
from lstm_studies.loaders.messages import (
    SPLIT_KEY,
    TOKENIZERS,
    LabelledTexts,
    Messages,
    labelled_messages,
    normalize,
    spy_messages,
    tokenize,
)
from lstm_studies.loaders.text_files import read_texts
from lstm_studies.models.adversarial import compute_perturbation
from lstm_studies.models.text_lstm import TextLSTM, training_error
from lstm_studies.models.word_vectors import cooccurrence_vectors
from lstm_studies.reporting import plots
from lstm_studies.reporting.sentiment import plot_scores
from lstm_studies.training import checkpoint, loop, search, tables
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.trained import trained_model

SHOWN, SHOWN_BATCH = 20, 5  # messages that `predict` and `show_messages` print

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def messages(
    data: Path | None, text_column: str, label_column: str, data_dir: Path, source: str, limit: int | None, key: str
) -> Messages:
    if data is not None:
        return labelled_messages(data, text_column, label_column, limit, split_key=key)
    return spy_messages(data_dir, source, limit, key)


def data_source(settings: Baseline | Request) -> tuple:
    names = ("data", "text_column", "label_column", "data_dir", "source", "limit")
    split = getattr(settings, "split", None)  # of fresh_splits
    return *(getattr(settings, name) for name in names), SPLIT_KEY if split is None else f"split {split}"


def load(settings: Baseline | Request) -> Messages:
    """The messages of `--data`, or those about $SPY, split into training, validation and test messages."""
    return messages(*data_source(settings))


# ---- model and loss --------------------------------------------------------------------------------------------------


def build(settings: Train, data: Messages) -> TextLSTM:
    tokens = [TOKENIZERS[settings.tokenizer](text) for text in data.train.texts]
    vocabulary = build_vocabulary(tokens, settings.min_count)
    index = index_of(vocabulary)
    texts = [encode(row, index) for row in tokens]
    model = TextLSTM(
        vocabulary,
        settings.embedding_size,
        settings.layer_sizes,
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
        model.start_from(cooccurrence_vectors(texts, len(vocabulary), settings.embedding_size))
    elif settings.embedding_start == "uniform":
        nn.init.uniform_(model.embedding.weight, -1, 1)
    return model


def make_step(settings: Train) -> loop.Step:
    """The error is cross-entropy or squared error; the training loss adds the errors of the LSTMs alone and of the
    linear model alone and, with `--epsilon`, the error on perturbed embeddings.
    """

    def error(logits: Tensor, labels: Tensor) -> Tensor:
        if settings.loss == "squared_error":
            return mse_loss(logits.sigmoid(), labels)
        return binary_cross_entropy_with_logits(logits, labels)

    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        words, ngrams, lengths, labels = batch
        embedded = model.embed(*model.drop_words(words, ngrams))  # (B, T, E)
        branches = [logits.float() for logits in model.read(embedded, words, lengths)]  # LSTMs, linear model: (B,)
        whole = sum(branches)
        metrics = {"error": error(whole, labels), "accuracy": ((whole > 0) == (labels > 0.5)).float().mean()}
        loss = training_error(branches, labels, error, settings.part_loss) if model.training else metrics["error"]
        if model.training and settings.epsilon:
            perturbed = embedded + settings.epsilon * compute_perturbation(loss, embedded)
            branches = [logits.float() for logits in model.read(perturbed, words, lengths)]
            loss = loss + training_error(branches, labels, error, settings.part_loss)
        return {"loss": loss, **metrics}

    return step


# ---- training and test -----------------------------------------------------------------------------------------------


def encoded(split: LabelledTexts, model: TextLSTM) -> EncodedTexts:
    return EncodedTexts(split, model.vocabulary, model.tokenizer, model.ngram_buckets)


def train(settings: Train, folder: Path) -> loop.Result:
    data = load(settings)
    settings = settings.reading(data.metadata)
    model = build(settings, data)
    training, validation = (encoded(split, model) for split in (data.train, data.validation))
    step, accuracy = make_step(settings), {"monitor": "accuracy", "maximise": True}
    return loop.train(model, step, training, validation, settings, folder, batches=training.batches, **accuracy)


def test(settings: Train, folder: Path) -> dict:
    """The metrics of a trained model on the test messages, beside the accuracy of the majority class."""
    data, model = load(settings), checkpoint.rebuild(folder / "best.pt", TextLSTM).to(settings.device)
    return {
        "data": data.metadata["data"],
        "training_messages": len(data.train.texts),
        "vocabulary": len(model.vocabulary),
        "parameters": sum(p.numel() for p in model.parameters()),
        **scores(data, *(logits(model, split, settings) for split in (data.validation, data.test))),
    }


@torch.no_grad()
def logits(model: TextLSTM, split: LabelledTexts, settings: Train | Request) -> np.ndarray:
    """The model's logits (N,) of the texts, in their order."""
    data = encoded(split, model)
    z = torch.empty(len(data))
    for indices in data.by_length():
        *inputs, _ = loop.fetch(data, indices, settings.device)
        z[indices] = model(*inputs).float().cpu()
    return z.numpy()


def scores(data: Messages, validation: np.ndarray, test: np.ndarray) -> dict:
    """Metrics of logits (N,) of the validation and test messages, beside the accuracy of the majority class.

    The majority class is that of most training messages.
    """
    majority = float(data.train.labels.mean() > 0.5)
    return {
        **binary_scores.summary(test, data.test.labels.numpy()),
        "majority_accuracy": float((data.test.labels == majority).float().mean()),
        "val_accuracy": binary_scores.accuracy(validation, data.validation.labels.numpy()),
    }


# ---- opponents -------------------------------------------------------------------------------------------------------

NEAR_COPY = 0.9  # cosine between the words and bigrams of two messages
OPPONENTS = {"bag_of_words": opponents.bag_of_words, "words_and_characters": opponents.words_and_characters}


@lru_cache(maxsize=1)
def fit_opponents(*source) -> dict[str, tuple[opponents.TextClassifier, float]]:
    """Each opponent, and the seconds of its fit."""
    training, validation, *_ = messages(*source)
    texts = [[tokenize(text) for text in split.texts] for split in (training, validation)]
    fitted = {}
    for name, fit in OPPONENTS.items():
        started = time.monotonic()
        model = fit(texts[0], training.labels.numpy(), texts[1], validation.labels.numpy())
        fitted[name] = model, time.monotonic() - started
    return fitted


def test_opponents(request: Request) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """The metrics of each opponent, and its logits (N,) of the test messages."""
    data, metrics, test_logits = load(request), {}, {}
    validation, test = ([tokenize(text) for text in split.texts] for split in (data.validation, data.test))
    for name, (model, seconds) in fit_opponents(*data_source(request)).items():
        test_logits[name], features = model.logits(test), model.features()
        row = {
            "data": data.metadata["data"],
            "seconds": round(seconds, 1),
            "parameters": len(model.weights) + 1,
            "l2": model.l2,
            **scores(data, model.logits(validation), test_logits[name]),
            f"most_{data.classes[0]}": features[:15],
            f"most_{data.classes[1]}": features[:-16:-1],
        }
        metrics[name] = search.over_seeds([row])
    return metrics, test_logits


# ---- functions -------------------------------------------------------------------------------------------------------


def show_messages(request: Request, folder: Path) -> dict:
    """Shows training messages before and after the preprocessing, the look-up table, a batch, and numbers of tokens."""
    data = load(request)
    tokens = [TOKENIZERS[request.tokenizer](text) for text in data.train.texts]
    vocabulary = build_vocabulary(tokens, request.min_count)
    counts = np.array([len(row) for row in tokens])
    lengths = {"training messages": (np.arange(counts.max() + 1), np.bincount(counts))}
    plots.curves(folder / "lengths.png", lengths, "length of a message (tokens)", "messages")
    few = LabelledTexts(data.train.texts[:SHOWN_BATCH], data.train.labels[:SHOWN_BATCH])
    batch = EncodedTexts(few, vocabulary, request.tokenizer, 0)
    words, *_ = batch[torch.arange(len(batch))]
    shown = {
        "data": data.metadata["data"],
        **{name: data.metadata[name] for name in ("train", "validation", "test")},
        "vocabulary": len(vocabulary),
        "first_words": vocabulary[:20],
        "median_tokens": float(np.median(counts)),
        "most_tokens": int(counts.max()),
        "messages": [
            {"label": data.classes[int(label)], "message": text, "tokens": " ".join(row), "indices": spaced(indices)}
            for text, label, row, indices in zip(few.texts, few.labels, tokens, batch.words, strict=False)
        ],
        "batch": [spaced(row) for row in words],  # the same messages; 0 is padding
    }
    return {"messages": shown}


def spaced(indices: Tensor) -> str:
    return " ".join(map(str, indices.tolist()))


def run_training(request: Request, folder: Path) -> dict:
    """Trains, saves and tests; draws the learning curves and the scores on the test messages."""
    metrics = search.fit({"lstm": request}, folder, train, test)
    for name, key, ylabel in (("loss", "error", request.loss.replace("_", " ")), ("accuracy", "accuracy", "accuracy")):
        plots.curves(folder / f"{name}.png", tables.read_curves(folder, key), "epoch", ylabel)
    data, models = load(request), models_of(request, folder)
    rows, against = test_opponents(request)  # of the opponents
    strongest = max(rows, key=lambda name: rows[name]["val_accuracy"])
    z = np.stack([logits(model, data.test, request) for model in models])  # (seeds, N)
    metrics["lstm"] |= {"opponent": strongest, "against": beside(z, against, data.test.labels.numpy())}
    drawn = {"lstm": z[0]}
    if len(models) > 1:
        validation = np.stack([logits(model, data.validation, request) for model in models])
        write_errors(folder / "errors.csv", validation, data)
        drawn["ensemble"] = z.mean(0)
        metrics["ensemble"] = {
            **{name: metrics["lstm"][name] for name in ("data", "seed", "seeds")},
            "parameters": metrics["lstm"]["parameters"] * len(models),
            **scores(data, validation.mean(0), z.mean(0)),
            "against": beside(z.mean(0), against, data.test.labels.numpy()),
            **wrong_in_all(z, against["bag_of_words"], data),
        }
    lengths = np.array([len(TOKENIZERS[request.tokenizer](text)) for text in data.test.texts])
    drawn[strongest] = against[strongest]
    plot_scores(folder, drawn, data.test.labels.numpy(), lengths, data.classes)
    metrics["lstm"] |= notice_of(metrics)
    return metrics | rows


def models_of(request: Request, folder: Path) -> list[TextLSTM]:
    """The models of all seeds."""
    seeds = range(request.seed, request.seed + request.seeds)
    folders = [folder / "seeds" / str(seed) for seed in seeds] if len(seeds) > 1 else [folder]
    return [checkpoint.rebuild(path / "best.pt", TextLSTM).to(request.device) for path in folders]


def beside(
    z: np.ndarray, against: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, dict]:
    """For each opponent, the differences from its logits (N,) on the test messages; ours z (seeds, N) or (N,).

    Messages of one of the `groups` (N,), if given, are one text.
    """
    scores = {"test_accuracy": binary_scores.correct, "test_log_loss": binary_scores.losses}
    return {
        name: {key: compare(score(z, labels), score(other, labels), groups) for key, score in scores.items()}
        for name, other in against.items()
    }


def wrong_in_all(z: np.ndarray, opponent: np.ndarray, data: Messages) -> dict:
    """Shares of the test messages that all models get wrong, logits (models, N), and the bag of words (N,) too."""
    labels = data.test.labels.numpy()
    wrong = binary_scores.wrong_in_all(z, labels)
    both_wrong = wrong & ~binary_scores.correct(opponent, labels)
    return {"wrong_in_all_seeds": float(wrong.mean()), "wrong_in_all_seeds_and_bag_of_words": float(both_wrong.mean())}


def notice_of(metrics: dict[str, dict]) -> dict[str, str]:
    """Says so if the LSTM is right less often than the opponent with the best validation accuracy."""
    name = metrics["lstm"]["opponent"]
    gain = metrics["lstm"]["against"][name]["test_accuracy"]
    if gain["difference"] >= 0:
        return {}
    low, high = 100 * gain["low"], 100 * gain["high"]
    points = f"{100 * gain['difference']:.2f} points [{low:.2f}, {high:.2f}]"
    return {"notice": f"NOTICE: the LSTM is less accurate than {name} on the test messages: {points}"}


def write_errors(path: Path, z: np.ndarray, data: Messages) -> None:
    """The validation messages that all models get wrong, given their logits z (models, N).

    Not the test messages: to read them would be a kind of training on them.
    """
    texts, labels = data.validation
    rows = [
        {"message": texts[i], "label": data.classes[int(labels[i])], "logit": f"{z[:, i].mean():.2f}"}
        for i in np.flatnonzero(binary_scores.wrong_in_all(z, labels.numpy()))
    ]
    tables.write_csv(path, rows, ("message", "label", "logit"))


def predict(request: Request, folder: Path) -> dict:
    """Scores messages; predictions.csv has the class predicted and the probability of the second class."""
    texts = [*request.text, *(read_texts(request.data, request.text_column) if request.data else ())] or EXAMPLES
    model, settings, path = trained_model(request, "train", TextLSTM)
    started = time.monotonic()
    predictions = explain(model, texts, settings)
    seconds = time.monotonic() - started
    tables.write_csv(folder / "predictions.csv", predictions)
    if not request.quiet:
        for row in predictions[:SHOWN]:
            print(f"P({model.classes[1]}) {row['probability']:.3f}  {row['message']!r}  {row['words']}")
    scored = {
        "model": str(path),
        "class": model.classes[1],
        "messages": len(texts),
        "seconds": round(seconds, 3),
        "mean_probability": float(np.mean([row["probability"] for row in predictions])),
        "predictions": predictions[:SHOWN],  # all of them are in predictions.csv
    }
    return {"lstm": scored}


def explain(model: TextLSTM, texts: Sequence[str], settings: Train, count: int = 5) -> list[dict]:
    """Per message the probability of the second class, and the words with the largest gradients of its logit."""
    data = encoded(LabelledTexts(list(texts), torch.zeros(len(texts))), model)
    predictions: list[dict] = [{}] * len(texts)
    for indices in data.by_length():
        *inputs, _ = loop.fetch(data, indices, settings.device)
        logit, slopes = model.word_slopes(*inputs)
        for i, p, gradients in zip(indices.tolist(), logit.sigmoid().tolist(), slopes.tolist(), strict=True):
            tokens = TOKENIZERS[model.tokenizer](texts[i])
            strongest = sorted(zip(tokens, gradients, strict=True), key=lambda pair: -abs(pair[1]))[:count]
            words = "  ".join(f"{token} {gradient:+.2f}" for token, gradient in strongest)
            predicted = model.classes[int(p > 0.5)]
            predictions[i] = {"message": texts[i], "predicted": predicted, "probability": round(p, 4), "words": words}
    return predictions


def baseline(request: Request, folder: Path) -> dict:
    """Fits and tests the opponents, also on the test messages that do not nearly repeat a training message."""
    from lstm_studies.evaluation.opponents import similarity  # slow: scikit-learn

    metrics, logits = test_opponents(request)
    train, test = ([tokenize(text) for text in split.texts] for split in (load(request).train, load(request).test))
    near, labels = similarity(test, train) >= NEAR_COPY, load(request).test.labels.numpy() > 0.5
    for name, row in metrics.items():
        row["test_near_copies"] = float(near.mean())
        if not near.all():
            right = (logits[name] > 0) == labels
            row["test_accuracy_without_near_copies"] = float(right[~near].mean())
    return metrics


def fresh_splits(request: Request, folder: Path) -> dict:
    """Trains the LSTM on other random splits; its differences from the opponents over all test messages and seeds."""
    requests = {f"split {k}": request.with_values(split=k) for k in range(request.splits)}
    metrics = search.fit(requests, folder, train, test)
    ours, theirs, labels, texts = [], [], [], []
    for name, path in search.model_folders(requests, folder).items():
        data, (_, simple) = load(requests[name]), test_opponents(requests[name])
        ours.append(np.stack([logits(model, data.test, request) for model in models_of(request, path)]))  # (seeds, N)
        theirs.append(simple)
        labels.append(data.test.labels.numpy())
        texts += map(normalize, data.test.texts)
        metrics[name]["against"] = beside(ours[-1], simple, labels[-1])
    z, labels = np.concatenate(ours, 1), np.concatenate(labels)  # (seeds, splits N), (splits N,)
    against = {name: np.concatenate([simple[name] for simple in theirs]) for name in OPPONENTS}
    number = {text: i for i, text in enumerate(texts)}  # a text in several test parts is one case
    differences = beside(z, against, labels, np.array([number[text] for text in texts]))
    about = {"data": data.metadata["data"], "splits": request.splits}
    rows = {name: {**about, "seeds": 1, **binary_scores.summary(own, labels)} for name, own in against.items()}
    lstm = search.over_seeds([about | binary_scores.summary(own, labels) for own in z])
    lstm |= {"opponent": max(rows, key=lambda name: rows[name]["test_accuracy"]), "against": differences}
    return {"lstm": lstm | notice_of({"lstm": lstm}), **rows, **metrics}


FUNCTIONS = {
    "show_messages": show_messages,
    "train": run_training,
    "predict": predict,
    "baseline": baseline,
    "fresh_splits": fresh_splits,
}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
