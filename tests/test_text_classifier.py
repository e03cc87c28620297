"""TextClassifier follows scikit-learn, with lists of strings."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier

from lstm_studies import SequenceClassifier, TextClassifier
from lstm_studies.training.checkpoint import CheckpointError

TINY = {"hidden_size": 8, "embedding_size": 6, "ngram_buckets": 50, "updates": 30, "batch_size": 16}
TINY |= {"learning_rate": 1e-2}
WORDS = {"up": "buy calls moon green rally", "down": "sell puts crash red dump", "flat": "wait sleep bored range quiet"}


def texts(count=60, kinds=("down", "up"), seed=0):
    rng = np.random.default_rng(seed)
    labels = [kinds[k % len(kinds)] for k in range(count)]
    return [f"the market will {' '.join(rng.choice(WORDS[label].split(), 3))} today" for label in labels], labels


@pytest.fixture(scope="module")
def fitted():
    return TextClassifier(**TINY).fit(*texts())


def test_it_learns(fitted):
    assert fitted.score(*texts(seed=1)) > 0.95 and list(fitted.classes_) == ["down", "up"]
    p = fitted.predict_proba(["buy the dip", "it will crash", ""])
    assert p.shape == (3, 2) and p.sum(1) == pytest.approx(np.ones(3)) and p[0, 1] > 0.5 > p[1, 1]
    assert {"train_loss", "val_accuracy"} <= fitted.history_[0].keys()


def test_columns_of_pandas_and_labels_of_any_kind():
    x, y = texts()
    model = TextClassifier(**{**TINY, "validation_share": 0}, linear=False)
    model.fit(pd.Series(x, index=range(5, 65)), pd.Series([label == "up" for label in y]))
    assert model.predict(pd.Series(x)).dtype == bool and "val_loss" not in model.history_[0]
    assert (model.predict(np.array(x)) == model.predict(x)).all()


def test_scikit_learn(fitted):
    assert clone(fitted).get_params() == fitted.get_params() and not hasattr(clone(fitted), "model_")
    with pytest.raises(NotFittedError):
        TextClassifier().predict(["a"])
    grid = GridSearchCV(TextClassifier(**{**TINY, "updates": 4}), {"linear": [True, False]}, cv=2).fit(*texts())
    assert grid.best_params_["linear"] in (True, False)


def test_several_classes_one_against_the_rest():
    x, y = texts(90, tuple(WORDS))
    assert OneVsRestClassifier(TextClassifier(**TINY)).fit(x, y).score(*texts(30, tuple(WORDS), seed=1)) > 0.9


def test_same_seed_same_bits_and_files(fitted, tmp_path):
    x = texts(5, seed=2)[0]
    assert (TextClassifier(**TINY).fit(*texts()).predict_proba(x) == fitted.predict_proba(x)).all()
    fitted.save(tmp_path / "model.pt")
    again = TextClassifier.load(tmp_path / "model.pt")
    assert (again.predict_proba(x) == fitted.predict_proba(x)).all() and again.get_params() == fitted.get_params()
    assert (again.predict(x) == fitted.predict(x)).all()
    with pytest.raises(CheckpointError, match="expected a model of LSTMClassifier"):
        SequenceClassifier.load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("buy the dip", ["up"], "list of texts"),
        (["a", 3], ["up", "down"], "not int '3'"),
        (pd.DataFrame({"text": ["a", "b"]}), ["up", "down"], "one column of a table"),
        ([], [], "list of texts"),
        (["a", "b"], ["up"], r"y must be \(2,\)"),
        (["a", "b", "c"], ["x", "y", "z"], "two classes, not 3"),
    ],
)
def test_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        TextClassifier(**TINY).fit(x, y)
