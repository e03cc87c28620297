"""The opponents: features and tf-idf by hand, the optimum of their loss, the choice of the regularisation."""

import numpy as np
import pytest

from lstm_studies.evaluation import opponents
from lstm_studies.evaluation.opponents import bag_of_words, words_and_bigrams, words_and_characters

TEXTS = [["buy", "the", "dip"], ["buy", "buy"], ["sell"], []]
LABELS = np.array([1, 1, 0, 0])


def random_problem(seed=0, n=60, words=12):
    rng = np.random.default_rng(seed)
    texts = [[f"w{i}" for i in rng.integers(0, words, rng.integers(1, 8))] for _ in range(n)]
    labels = np.array([float("w0" in text) if rng.random() < 0.9 else 1.0 for text in texts])
    return texts, labels


@pytest.fixture
def with_strengths(monkeypatch):
    """with_strengths(fit, *strengths): a model per strength of the regularisation of the random problem."""

    def fit(opponent, *strengths):
        models = []
        for strength in strengths:
            monkeypatch.setattr(opponents, "STRENGTHS", (strength,))
            models.append(opponent(*random_problem(), *random_problem()))
        return models

    return fit


def test_words_and_bigrams_by_hand():
    assert words_and_bigrams(["a", "b", "a", "b"]) == ["a", "b", "a", "b", "a b", "b a", "a b"]
    assert words_and_bigrams(["a"]) == ["a"] and words_and_bigrams([]) == []


def test_similarity_by_hand():
    """Against all pairs: the same words in the same order have 1, none in common 0."""
    texts = [["buy", "the", "dip"], ["sell"], ["hold"], ["buy", "buy", "the"]]
    found = opponents.similarity(texts, TEXTS)
    vectorizer = opponents.word_vectorizer()
    known = vectorizer.fit_transform(TEXTS).toarray()
    assert np.allclose(found, (vectorizer.transform(texts).toarray() @ known.T).max(1))
    assert np.allclose(found[:3], [1, 1, 0]) and 0 < found[3] < 1


def test_tf_idf_and_logits_by_hand():
    model = bag_of_words(TEXTS, LABELS, TEXTS, LABELS)
    (vectorizer,) = model.vectorizers
    names = ["buy", "buy buy", "buy the", "dip", "sell", "the", "the dip"]
    assert vectorizer.get_feature_names_out().tolist() == names
    rare, often = np.log(4) + 1, np.log(2) + 1
    expected = np.array([often, rare, 0, 0, 0, 0, 0]) / np.hypot(often, rare)
    np.testing.assert_allclose(vectorizer.transform([["buy", "buy", "never-seen"]]).toarray()[0], expected)
    sell, nothing = model.logits([["sell", "never-seen"], ["never-seen"]])
    assert sell == pytest.approx(model.weights[4] + model.bias) and nothing == pytest.approx(model.bias)
    assert model.features()[0] == "sell" and set(model.features()) == set(names)


def test_characters_of_words_by_hand():
    model = words_and_characters([["up"], ["$a"]], np.array([1, 0]), [["up"]], np.array([1]))
    words, characters = model.vectorizers
    assert words.get_feature_names_out().tolist() == ["$a", "up"]
    assert set(characters.get_feature_names_out()) == {
        " u",
        "up",
        "p ",
        " up",
        "up ",
        " up ",
        " $",
        "$a",
        "a ",
        " $a",
    } | {
        "$a ",
        " $a ",
    }
    (unknown,) = model.logits([["ups"]])  # a word that looks like a known one
    assert unknown > model.bias


@pytest.mark.parametrize("opponent", [bag_of_words, words_and_characters])
def test_the_loss_has_no_slope_at_the_solution(opponent, with_strengths):
    texts, labels = random_problem()
    for model in with_strengths(opponent, 0.1, 0.01, 1e-5):
        x = np.hstack([vectorizer.transform(texts).toarray() for vectorizer in model.vectorizers])
        p = 1 / (1 + np.exp(-model.logits(texts)))
        slope = x.T @ (p - labels) / len(labels) + model.l2 * model.weights
        assert np.abs(slope).max() < 1e-5 and abs((p - labels).mean()) < 1e-5


def test_stronger_regularisation_makes_smaller_weights(with_strengths):
    norms = [np.linalg.norm(model.weights) for model in with_strengths(bag_of_words, 1.0, 0.1, 0.01)]
    assert norms == sorted(norms) and norms[0] < 0.5 * norms[2]


def test_the_best_on_validation_data_is_taken(with_strengths, monkeypatch):
    other, other_labels = random_problem(seed=1)
    strengths = (100.0, 0.03, 1e-3)
    models = with_strengths(bag_of_words, *strengths)
    scores = {model.l2: np.mean((model.logits(other) > 0) == (other_labels > 0.5)) for model in models}
    monkeypatch.setattr(opponents, "STRENGTHS", strengths)
    chosen = bag_of_words(*random_problem(), other, other_labels)
    assert scores[chosen.l2] == max(scores.values()) > min(scores.values())
    alone = models[strengths.index(chosen.l2)]  # begun at zero, not at the solution before
    np.testing.assert_allclose(chosen.weights, alone.weights, atol=1e-3)


@pytest.mark.parametrize("label", [0, 1])
def test_texts_of_one_class(label):
    model = bag_of_words(TEXTS, np.full(4, label), TEXTS, LABELS)
    probability = 1 / (1 + np.exp(-model.logits([["buy"], ["never-seen"]])))
    assert probability == pytest.approx([5 / 6 if label else 1 / 6] * 2) and not model.weights.any()
