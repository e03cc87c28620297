"""Strong and cheap opponents of the studies' models, by scikit-learn.

Each is fitted on training data, and its regularisation is chosen on validation data. scikit-learn is imported by the
functions that use it: its import takes .4 s.

Texts: logistic regression on tf-idf with binary counts.

    x_f = idf_f if the text has the feature f, else 0, with idf_f = log(N / number of texts with f) + 1;
          the x of a text's words and bigrams, and that of its characters, divided by their norms
    loss = mean over texts of log(1 + exp(-s (w x + b))), s = -1 or 1, + l2 / 2 * |w|^2

Letters in shapes: N texts, F features.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

Texts = Sequence[Sequence[str]]  # texts as tokens
STRENGTHS = (1e-5, 5e-6, 2e-6, 1e-6)  # l2; the one with the best validation accuracy is taken


class TextClassifier(NamedTuple):
    """Logistic regression on the features of texts."""

    vectorizers: Sequence[Any]  # fitted objects of scikit-learn that make tf-idf of texts
    weights: np.ndarray  # (F,)
    bias: float
    l2: float

    def logits(self, texts: Texts) -> np.ndarray:
        """(N,), above 0 for the second class."""
        return sparse.hstack([one.transform(texts) for one in self.vectorizers]) @ self.weights + self.bias

    def features(self) -> list[str]:
        """The features, from those with the lowest weights to those with the highest."""
        names = np.concatenate([one.get_feature_names_out() for one in self.vectorizers])
        return names[np.argsort(self.weights, kind="stable")].tolist()


def bag_of_words(texts: Texts, labels: np.ndarray, other: Texts, other_labels: np.ndarray) -> TextClassifier:
    """Words and bigrams. Training texts with labels (N,), 0 or 1; the others are validation texts with theirs."""
    return fit([word_vectorizer()], texts, labels, other, other_labels)


def words_and_characters(texts: Texts, labels: np.ndarray, other: Texts, other_labels: np.ndarray) -> TextClassifier:
    """Words, bigrams and the runs of 2 to 5 characters of each word; arguments as in `bag_of_words`."""
    return fit([word_vectorizer(), character_vectorizer()], texts, labels, other, other_labels)


def similarity(texts: Texts, others: Texts) -> np.ndarray:
    """(N,): of each text, the largest cosine between its words and bigrams and those of another text, as tf-idf."""
    vectorizer = word_vectorizer()
    known = vectorizer.fit_transform(others).T.tocsc()  # (F, M), columns of norm 1
    x = vectorizer.transform(texts)
    return np.concatenate([(x[i : i + 200] @ known).max(1).toarray()[:, 0] for i in range(0, x.shape[0], 200)])


def word_vectorizer():
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer=words_and_bigrams, binary=True, smooth_idf=False)


def words_and_bigrams(tokens: Sequence[str]) -> list[str]:
    """The words of a text and its bigrams, separated by a space, in an order that is the same in every process."""
    return [*tokens, *(f"{a} {b}" for a, b in pairwise(tokens))]


def character_vectorizer():
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", preprocessor=" ".join, ngram_range=(2, 5), binary=True, smooth_idf=False)


def fit(
    vectorizers: Sequence[Any], texts: Texts, labels: np.ndarray, other: Texts, other_labels: np.ndarray
) -> TextClassifier:
    """The model of STRENGTHS with the best accuracy on the other texts. With labels of one class, it always says that.

    Its probability is then (N + 1) / (N + 2), Laplace's rule of succession.
    """
    from sklearn.linear_model import LogisticRegression

    x = sparse.hstack([one.fit_transform(texts) for one in vectorizers]).tocsr()  # (N, F)
    positive = np.asarray(labels) > 0.5
    if positive.all() or not positive.any():
        bias = float(np.log1p(len(positive))) * (1 if positive.all() else -1)
        return TextClassifier(vectorizers, np.zeros(x.shape[1]), bias, 0.0)
    # warm_start: each strength begins at the solution of the one before, which is near
    regression = LogisticRegression(solver="newton-cg", tol=1e-6, max_iter=1000, warm_start=True)
    models = []
    for l2 in STRENGTHS:
        regression.set_params(C=1 / (len(positive) * l2)).fit(x, positive)
        models.append(TextClassifier(vectorizers, regression.coef_[0], float(regression.intercept_[0]), l2))
    return max(models, key=lambda model: np.mean((model.logits(other) > 0) == (np.asarray(other_labels) > 0.5)))
