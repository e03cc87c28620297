"""SequenceClassifier follows scikit-learn, in all three modes, for the sequences and labels that people have."""

import re
import signal

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from lstm_studies import SequenceAutoencoder, SequenceClassifier
from lstm_studies.training import loop
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.settings import ROOT

TINY = {"updates": 40, "hidden_size": 8, "channels": 8, "batch_size": 16, "learning_rate": 1e-2}


def waves(count=48, steps=14, seed=0):
    """Sequences (N, T, 2) of two frequencies, and which one (N,)."""
    rng = np.random.default_rng(seed)
    slow = np.arange(count) % 2
    phase = rng.uniform(0, 6, (count, 1, 1))
    angle = 2 * np.pi * np.arange(steps)[:, None] / np.where(slow, 12, 4)[:, None, None]
    return 50 + 7 * np.sin(angle + phase + np.arange(2)), np.array(["fast", "slow"])[slow]


@pytest.fixture(scope="module")
def fitted():
    return SequenceClassifier(**TINY).fit(*waves())


@pytest.mark.parametrize(("mode", "epsilon"), [("plain", 1.0), ("AdvLSTM", 0.3), ("ProxLSTM", 0.5)])
def test_each_mode_learns(mode, epsilon):
    model = SequenceClassifier(mode, epsilon, **TINY).fit(*waves())
    assert model.model_.mode == mode and model.model_.epsilon == (0 if mode == "plain" else epsilon)
    assert model.score(*waves(seed=1)) > 0.9
    p = model.predict_proba(waves(5)[0])
    assert p.shape == (5, 2) and p.sum(1) == pytest.approx(np.ones(5)) and list(model.classes_) == ["fast", "slow"]
    assert len(model.history_) == 40 / 3 // 1 + 1 and model.n_features_in_ == 2


def test_sequences_of_unequal_lengths_and_of_channels_first(fitted):
    x, y = waves()
    x = [one[: 8 + k % 7] for k, one in enumerate(x)]
    model = SequenceClassifier(**TINY).fit(x, y)
    assert model.predict_proba(x[:1]) == pytest.approx(model.predict_proba(x)[:1], rel=1e-4)  # padding does not matter
    turned = SequenceClassifier(**TINY, channels_first=True).fit([one.T for one in x], y)
    assert (turned.predict_proba([one.T for one in x]) == model.predict_proba(x)).all()
    array = SequenceClassifier(**TINY, channels_first=True).fit(waves()[0].swapaxes(1, 2), y)
    assert (array.predict_proba(waves()[0].swapaxes(1, 2)) == fitted.predict_proba(waves()[0])).all()


@pytest.mark.parametrize("labels", [np.array([3, 7]), np.array([True, False]), np.array(["b", "a"], object)])
def test_labels_of_any_kind(labels, tmp_path):
    x, y = waves()
    y = labels[(y == "slow").astype(int)]
    model = SequenceClassifier(**{**TINY, "updates": 3}).fit(x[:, :, 0], pd.Series(y, index=np.arange(len(y)) + 9))
    assert set(model.predict(x[:, :, 0])) <= set(labels.tolist()) and model.n_features_in_ == 1
    model.save(tmp_path / "model.pt")
    again = SequenceClassifier.load(tmp_path / "model.pt")
    assert again.classes_.tolist() == sorted(labels) and again.classes_.dtype == model.classes_.dtype


def test_validation_chooses_the_epoch():
    model = SequenceClassifier(**TINY, validation_share=0.25).fit(*waves())
    assert {"val_loss", "val_accuracy"} <= model.history_[0].keys()
    assert "val_loss" not in SequenceClassifier(**{**TINY, "updates": 2}).fit(*waves()).history_[0]


def test_scikit_learn(fitted):
    assert clone(fitted).get_params() == fitted.get_params() and not hasattr(clone(fitted), "model_")
    with pytest.raises(NotFittedError):
        SequenceClassifier().predict(waves()[0])
    pipeline = make_pipeline(FunctionTransformer(lambda x: x / 10), SequenceClassifier(**{**TINY, "updates": 6}))
    grid = GridSearchCV(pipeline, {"sequenceclassifier__mode": ["plain", "AdvLSTM"]}, cv=2).fit(*waves())
    assert grid.best_params_["sequenceclassifier__mode"] in ("plain", "AdvLSTM")
    assert cross_val_score(pipeline, *waves(), cv=2).shape == (2,)


def test_the_page_of_the_estimators():
    x, y = waves()
    names = {"X": x, "y": y, "X_test": waves(9, seed=1)[0], "y_test": waves(9, seed=1)[1]}
    names |= {"table": pd.DataFrame(x.reshape(-1, 2)), "new_table": pd.DataFrame(x[:9].reshape(-1, 2))}
    names |= {"texts": [f"{'buy calls' if k % 2 else 'sell puts'} {k % 7}" for k in range(60)], "labels": [0, 1] * 30}
    page = (ROOT / "docs" / "estimators.md").read_text()
    exec(re.search(r"`(from lstm_studies .*?)`", page)[1], names)
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert names["codes"].shape == (48, 8) and names["is_anomaly"].shape == (9 * 14,)
    assert names["classifier"].score(*waves(seed=1)) > 0.9
    assert names["sentiment"].predict(["buy calls", "sell puts"]).tolist() == [1, 0]


HARMLESS = {  # the checks that ask for something else than an estimator of sequences can give, and why
    "check_n_features_in": "a table (N, T) is N sequences of one feature",
    "check_n_features_in_after_fitting": "a table (N, T) is N sequences of one feature",
    "check_classifiers_train": "sequences of other lengths than those of the training are allowed",
    "check_estimators_empty_data_messages": "words of the message",
    "check_fit2d_predict1d": "words of the message",
    "check_fit2d_1sample": "words of the message",
}
OF_TABLES = {  # of the autoencoder, to which a table is one series
    "check_methods_sample_order_invariance": "the records of a table are in the order of time",
    "check_methods_subset_invariance": "the records of a table are in the order of time",
    "check_transformer_general": "the codes are those of windows",
    "check_transformer_data_not_an_array": "the codes are those of windows",
    "check_transformer_preserve_dtypes": "the model computes in float32",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore:Estimator")
@pytest.mark.parametrize(
    ("estimator", "unfit"),
    [
        (SequenceClassifier(updates=16, hidden_size=16, channels=16, kernel_size=1, learning_rate=1e-2), HARMLESS),
        (SequenceAutoencoder(updates=2, hidden_size=4, window=4), HARMLESS | OF_TABLES),
    ],
)
def test_the_checks_of_scikit_learn(estimator, unfit):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed.keys() - unfit.keys(), {name: failed[name] for name in failed.keys() - unfit.keys()}
    assert sum(result["status"] == "passed" for result in results) >= 35


def test_the_unit_and_the_strides_of_the_data_change_nothing():
    x, y = waves()
    scores = [SequenceClassifier(**TINY).fit(scale * x, y).score(scale * x, y) for scale in (1, 1e-9)]
    assert scores[0] == scores[1] > 0.9
    backwards = x.astype(np.float32)[:, ::-1]
    models = [SequenceClassifier(**TINY).fit(array, y) for array in (backwards, backwards.copy())]
    assert (models[0].predict_proba(x) == models[1].predict_proba(x)).all()


def test_interrupted_as_any_other_program(monkeypatch):
    """In `fit`, Ctrl-C is Python's: it saves nothing that the first one would have to wait for."""

    def shard(indices):
        signal.raise_signal(signal.SIGINT)
        return indices, 1.0

    monkeypatch.setattr(loop.data_parallel, "shard", shard)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have its jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            SequenceClassifier(**TINY).fit(*waves())
    finally:
        signal.signal(signal.SIGINT, before)


def test_same_seed_same_bits(fitted):
    x = waves(3, seed=5)[0]
    assert (SequenceClassifier(**TINY).fit(*waves()).predict_proba(x) == fitted.predict_proba(x)).all()
    assert not (SequenceClassifier(**TINY, seed=1).fit(*waves()).predict_proba(x) == fitted.predict_proba(x)).all()


def test_save_and_load(fitted, tmp_path):
    fitted.save(tmp_path / "model.pt")
    again = SequenceClassifier.load(tmp_path / "model.pt")
    x = waves(5, seed=2)[0]
    assert (again.predict_proba(x) == fitted.predict_proba(x)).all() and again.get_params() == fitted.get_params()
    assert again.n_features_in_ == 2
    with pytest.raises(CheckpointError, match="expected a model of SeriesAutoencoder"):
        SequenceAutoencoder.load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((4, 5, 2)), [0, 1, 0], r"y must be \(4,\)"),
        (np.zeros((4, 5, 2)), [0, 0, 0, 0], "two classes, not one class, 0"),
        (np.zeros((4, 5, 2)), [0.5, 1.25, 2, 3], "Unknown label type"),
        (np.zeros((4, 2, 2)), [0, 1, 0, 1], "at least kernel_size = 3 steps, not 2"),
        (np.full((4, 5, 2), np.nan), [0, 1, 0, 1], "X must be finite"),
        ([np.zeros((3, 1)), np.zeros((3, 2))], [0, 1], "the same I"),
    ],
)
def test_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**TINY).fit(x, y)


@pytest.mark.parametrize(
    ("parameter", "value"), [("updates", 0), ("batch_size", 0), ("validation_share", 1.0), ("mode", "AdvLstm")]
)
def test_parameters_out_of_range_are_refused(parameter, value):
    with pytest.raises(ValueError, match=parameter):
        SequenceClassifier(**{**TINY, parameter: value}).fit(*waves())


def test_other_features_are_refused(fitted):
    with pytest.raises(ValueError, match="2 features, as in fit, not 1"):
        fitted.predict(np.zeros((3, 12)))
