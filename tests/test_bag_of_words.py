"""The bag of words by hand, its optimum, and its choice of the regularisation."""

import numpy as np
import pytest

from lstm_studies.evaluation import bag_of_words
from lstm_studies.evaluation.bag_of_words import features, fit, fit_best, minimize, normalized, presence

TEXTS = [["buy", "the", "dip"], ["buy", "buy"], ["sell"], []]


def test_features_by_hand():
    assert features(["a", "b", "a", "b"]) == {"a", "b", "a b", "b a"}
    assert features(["a"]) == {"a"} and features([]) == set()


def test_table_by_hand():
    index = {"buy": 0, "sell": 1, "the dip": 2}
    x = presence(TEXTS, index)
    assert x.toarray().tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    scaled = normalized(x, np.array([3.0, 2.0, 4.0])).toarray()
    np.testing.assert_allclose(scaled, [[0.6, 0, 0.8], [1, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_idf_and_logits_by_hand():
    (model,) = fit(TEXTS, np.array([1, 1, 0, 0]), l2=[0.1])
    assert list(model.index) == ["buy", "buy buy", "buy the", "dip", "sell", "the", "the dip"]
    np.testing.assert_allclose(model.idf, np.log([2, 4, 4, 4, 4, 4, 4]) + 1)
    sell, nothing = model.logits([["sell", "never-seen"], ["never-seen"]])
    assert sell == pytest.approx(model.weights[4] + model.bias) and nothing == pytest.approx(model.bias)


SKLEARN = {  # l2: weights and intercept of LogisticRegression(C=1 / (6 l2)), and its decision function
    0.1: (
        "0.31069 0.20321 0.20321 0.2101 0.2101 0.39816 -0.31823 -0.31823 -0.31823 0.27049 0.27049 0.20321 -0.41787 "
        "-0.11079 -0.41787 -0.319 0.2101 -0.41787 -0.31823 -0.31823 -0.31823 0.76056",
        [0.56579, 0.64977],
    ),
    0.01: (
        "1.03667 0.6335 0.6335 0.74558 0.74558 1.31599 -1.06397 -1.06397 -1.06397 1.00681 1.00681 0.6335 -1.47156 "
        "-0.34936 -1.47156 -1.08557 0.74558 -1.47156 -1.06397 -1.06397 -1.06397 1.14058",
        [0.5045, 0.79123],
    ),
}


def test_it_is_what_scikit_learn_computes():
    """Numbers of scikit-learn 1.9.1: TfidfVectorizer(binary=True, ngram_range=(1, 2), smooth_idf=False)."""
    texts = [text.split() for text in "buy the dip|buy buy now|sell the rip|never sell|the top is in|hold".split("|")]
    for model in fit(texts, np.array([1, 1, 0, 1, 0, 1]), tuple(SKLEARN)):
        weights, logits = SKLEARN[model.l2]
        np.testing.assert_allclose([*model.weights, model.bias], np.array(weights.split(), float), atol=2e-4)
        np.testing.assert_allclose(model.logits([["buy", "the", "top"], ["unknown", "sell"]]), logits, atol=2e-4)


def random_problem(seed=0, n=60, words=12):
    rng = np.random.default_rng(seed)
    texts = [[f"w{i}" for i in rng.integers(0, words, rng.integers(1, 8))] for _ in range(n)]
    labels = np.array([float("w0" in text) if rng.random() < 0.9 else 1.0 for text in texts])
    return texts, labels


def test_the_loss_has_no_slope_at_the_solution():
    texts, labels = random_problem()
    for model in fit(texts, labels, (0.1, 0.01, 0.001)):
        x = normalized(presence(texts, model.index), model.idf).toarray()
        p = 1 / (1 + np.exp(-(x @ model.weights + model.bias)))
        slope = x.T @ (p - labels) / len(labels) + model.l2 * model.weights
        assert np.abs(slope).max() < 1e-4 and abs((p - labels).mean()) < 1e-4


def test_stronger_regularisation_makes_smaller_weights():
    norms = [np.linalg.norm(model.weights) for model in fit(*random_problem(), (1.0, 0.1, 0.01))]
    assert norms == sorted(norms) and norms[0] < 0.5 * norms[2]


def test_large_margins_do_not_overflow():
    x = presence([["a"], ["b"]], {"a": 0, "b": 1}) * 1e4
    weights = minimize(x.tocsr(), np.array([1.0, -1.0]), 0.0, np.array([-1.0, 1.0, 0.0]))
    assert weights[0] > 0 > weights[1]


def test_the_best_on_validation_data_is_taken(monkeypatch):
    texts, labels = random_problem()
    other, other_labels = random_problem(seed=1)
    found = fit_best(texts, labels, other, other_labels)
    models = fit(texts, labels, bag_of_words.STRENGTHS)
    scores = {model.l2: np.mean((model.logits(other) > 0) == (other_labels > 0.5)) for model in models}
    assert scores[found.l2] == max(scores.values())
    monkeypatch.setattr(bag_of_words, "STRENGTHS", (100.0, 1e-3))
    assert fit_best(texts, labels, other, other_labels).l2 == 1e-3
