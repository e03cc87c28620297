"""TextClassifier: the LSTM beside a linear model of the sentiment study as an estimator of scikit-learn."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lstm_studies.estimators.loop_estimator import LoopClassifier, training_count
from lstm_studies.loaders.encoded_texts import EncodedTexts, build_vocabulary, encode, index_of, repeated_bigrams
from lstm_studies.loaders.messages import LabelledTexts, tokenize
from lstm_studies.models.text_lstm import TextLSTM, training_error
from lstm_studies.models.word_vectors import cooccurrence_vectors
from lstm_studies.training import loop


class TextClassifier(LoopClassifier):
    """Two classes of short texts, by word embeddings, LSTMs and a linear model of words and bigrams (TextLSTM).

        TextClassifier().fit(texts, labels).predict_proba(new_texts)

    X is a list, an array or a column of N strings; y (N,) holds two different labels of any kind. For more of them:
    sklearn.multiclass.OneVsRestClassifier(TextClassifier()). The rest of the model is that of stocktwits_sentiment.py.

    Args:
        hidden_size, num_layers: units of the first LSTM, and their number, each half as wide as the one before.
        embedding_size: values per word. ngram_buckets: size of the table of character n-grams, 0: none.
        dropout: of hidden states. embedding_dropout: of whole dimensions. word_dropout: share of unknown words.
        linear: the linear model, too. min_count: occurrences that a word or bigram needs.
        updates: optimizer steps. batch_size, learning_rate: of AdamW, with a warm-up and a cosine to 0.
        validation_share: random share of the texts whose cross-entropy chooses the epoch; 0: the last epoch is kept.
        seed: of the weights and of the order of the data. device: of the training. verbose: 1: a line per epoch.

    After `fit`: `model_`, a TextLSTM with its vocabulary; `classes_` (2,); `history_`, a dictionary per epoch.
    """

    MODEL = TextLSTM

    def __init__(
        self,
        hidden_size: int = 128,
        num_layers: int = 2,
        embedding_size: int = 100,
        ngram_buckets: int = 2**15,
        dropout: float = 0.5,
        embedding_dropout: float = 0.3,
        word_dropout: float = 0.1,
        linear: bool = True,
        min_count: int = 2,
        updates: int = 1000,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        validation_share: float = 0.1,
        seed: int = 0,
        device: str = "cpu",
        verbose: int = 0,
    ):
        self.hidden_size, self.num_layers, self.embedding_size = hidden_size, num_layers, embedding_size
        self.ngram_buckets, self.linear, self.min_count = ngram_buckets, linear, min_count
        self.dropout, self.embedding_dropout, self.word_dropout = dropout, embedding_dropout, word_dropout
        self.updates, self.batch_size, self.learning_rate = updates, batch_size, learning_rate
        self.validation_share, self.seed, self.device, self.verbose = validation_share, seed, device, verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array, tags.classifier_tags.multi_class = True, False, False
        return tags

    def fit(self, X, y) -> "TextClassifier":
        """Trains on the texts X with the labels y (N,). Raises ValueError for anything else."""
        texts = checked_texts(X)
        labels, first = self.places(y, len(texts)).float(), training_count(len(texts), self.validation_share)
        if len(self.classes_) != 2:
            raise ValueError(f"y must have two classes, not {len(self.classes_)}; for more, OneVsRestClassifier")
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            order = torch.randperm(len(texts)) if first < len(texts) else torch.arange(first)
            training, validation = (
                LabelledTexts([texts[i] for i in rows.tolist()], labels[rows])
                for rows in (order[:first], order[first:])
            )
            model = self.build(training.texts)
            data, held_out = (encoded(part, model) if part.texts else None for part in (training, validation))
            self.train(model, step, data, held_out, weight_decay=0.01, batches=data.batches)
        return self

    def build(self, texts: list[str]) -> TextLSTM:
        """The model of the vocabulary of training texts, whose embeddings start from each word's neighbours."""
        tokens = [tokenize(text) for text in texts]
        vocabulary = build_vocabulary(tokens, self.min_count)
        index = index_of(vocabulary)
        places = [encode(row, index) for row in tokens]
        model = TextLSTM(
            vocabulary,
            self.embedding_size,
            [max(1, self.hidden_size >> layer) for layer in range(self.num_layers)],
            pooling="max_mean",
            dropout=self.dropout,
            embedding_dropout=self.embedding_dropout,
            word_dropout=self.word_dropout,
            bigrams=repeated_bigrams(places, len(vocabulary), self.min_count) if self.linear else None,
            linear_dropout=0.1,
            linear_scale=6.0,
            ngram_buckets=self.ngram_buckets,
            classes=list(map(str, self.classes_)),
        )
        model.start_from(cooccurrence_vectors(places, len(vocabulary), self.embedding_size))
        return model

    @torch.no_grad()
    def predict_proba(self, X) -> np.ndarray:
        """Probabilities (N, 2) in the order of `classes_`. Raises ValueError."""
        check_is_fitted(self, "model_")
        texts = checked_texts(X)
        data, p = encoded(LabelledTexts(texts, torch.zeros(len(texts))), self.model_), torch.empty(len(texts))
        for indices in data.by_length():
            *inputs, _ = loop.fetch(data, indices, self.device)
            p[indices] = self.model_(*inputs).sigmoid().cpu()
        return torch.stack([1 - p, p], 1).numpy()


def step(model: TextLSTM, batch: loop.Batch) -> dict[str, Tensor]:
    """Cross-entropy of the sum of the LSTMs' and the linear model's logits; in training also of each alone."""
    words, ngrams, lengths, labels = batch
    logits = model.read(model.embed(*model.drop_words(words, ngrams)), words, lengths)
    whole = sum(logits)
    error = binary_cross_entropy_with_logits
    loss = training_error(logits, labels, error, 0.5) if model.training else error(whole, labels)
    return {"loss": loss, "accuracy": ((whole > 0) == (labels > 0.5)).float().mean()}


def encoded(part: LabelledTexts, model: TextLSTM) -> EncodedTexts:
    return EncodedTexts(part, model.vocabulary, model.tokenizer, model.ngram_buckets)


def checked_texts(X) -> list[str]:
    if hasattr(X, "columns"):
        raise ValueError("X must be a list of texts or one column of a table, as in table['text'], not a table")
    texts = [X] if isinstance(X, str) else list(X)
    if isinstance(X, str) or not texts or not all(isinstance(text, str) for text in texts):
        other = next((text for text in texts if not isinstance(text, str)), X)
        raise ValueError(f"X must be a list of texts, at least one, not {type(other).__name__} {str(other)[:40]!r}")
    return texts
