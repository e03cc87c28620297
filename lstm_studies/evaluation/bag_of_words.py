"""Baseline of a text classifier: logistic regression on the words and bigrams of a text.

    x_f = idf_f if the text has the feature f, else 0; each text's x divided by its norm   (tf-idf with binary counts)
    loss = mean over texts of log(1 + exp(-s (w x + b))), s = -1 or 1, + l2 / 2 * |w|^2

The same model as scikit-learn's TfidfVectorizer(binary=True, ngram_range=(1, 2), smooth_idf=False) with
LogisticRegression(C=1 / (N l2)), whose numbers a test holds, without one more package to install.

Letters in shapes: N texts, F features.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

STRENGTHS = (1e-5, 5e-6, 2e-6, 1e-6)  # l2; the best on validation data is taken


class BagOfWords(NamedTuple):
    index: dict[str, int]  # feature -> column
    idf: np.ndarray  # (F,) log(N / texts with the feature) + 1
    weights: np.ndarray  # (F,)
    bias: float
    l2: float

    def logits(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """(N,) for texts given as tokens, above 0 for the second class."""
        return normalized(presence(texts, self.index), self.idf) @ self.weights + self.bias


def features(tokens: Sequence[str]) -> set[str]:
    """The words of a text and its bigrams, separated by a space."""
    return {*tokens, *(f"{a} {b}" for a, b in pairwise(tokens))}


def presence(texts: Sequence[Sequence[str]], index: dict[str, int]) -> sparse.csr_array:
    """Features of texts (N, F): 1 where a text has the feature, else 0."""
    columns = [sorted(index[f] for f in features(tokens) if f in index) for tokens in texts]
    starts = np.cumsum([0, *map(len, columns)])
    places = np.fromiter((c for row in columns for c in row), np.int64, starts[-1])
    return sparse.csr_array((np.ones(len(places)), places, starts), shape=(len(texts), len(index)))


def normalized(x: sparse.csr_array, idf: np.ndarray) -> sparse.csr_array:
    """The rows of x (N, F) multiplied by idf (F,) and divided by their norms; rows of zeros stay zero."""
    x = (x @ sparse.diags_array(idf)).tocsr()
    norms = np.sqrt(x.multiply(x).sum(1))
    return (sparse.diags_array(1 / np.where(norms == 0, 1, norms)) @ x).tocsr()


def fit(texts: Sequence[Sequence[str]], labels: np.ndarray, l2: Sequence[float]) -> list[BagOfWords]:
    """One model per strength of the regularisation, for texts given as tokens with labels (N,) 0 or 1."""
    names = sorted({f for tokens in texts for f in features(tokens)})
    index = {name: column for column, name in enumerate(names)}
    x = presence(texts, index)
    idf = np.log(len(texts) / x.sum(0)) + 1
    x, signs = normalized(x, idf), 2.0 * np.asarray(labels) - 1
    models, start = [], np.zeros(len(names) + 1)
    for strength in l2:
        start = minimize(x, signs, strength, start)  # the last solution is near the next one
        models.append(BagOfWords(index, idf, start[:-1], float(start[-1]), strength))
    return models


def minimize(x: sparse.csr_array, signs: np.ndarray, l2: float, start: np.ndarray) -> np.ndarray:
    """Weights and bias (F + 1,) of the smallest loss, by L-BFGS from `start`; x (N, F), signs (N,) -1 or 1."""
    transposed = x.T.tocsr()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[:-1], parameters[-1]
        margins = signs * (x @ weights + bias)
        slopes = -signs / (1 + np.exp(np.minimum(margins, 700))) / len(signs)  # dloss/dlogit (N,)
        gradient = np.append(transposed @ slopes + l2 * weights, slopes.sum())
        return np.logaddexp(0, -margins).mean() + l2 / 2 * weights @ weights, gradient

    return optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x


def fit_best(
    texts: Sequence[Sequence[str]],
    labels: np.ndarray,
    validation_texts: Sequence[Sequence[str]],
    validation_labels: np.ndarray,
) -> BagOfWords:
    """The model of STRENGTHS with the best validation accuracy."""
    models = fit(texts, labels, STRENGTHS)
    return max(models, key=lambda model: np.mean((model.logits(validation_texts) > 0) == (validation_labels > 0.5)))
