"""SequenceAutoencoder follows scikit-learn, finds what is unusual, and keeps what it has learnt in a file."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from lstm_studies.estimators.sequence_autoencoder import SequenceAutoencoder
from lstm_studies.training.checkpoint import CheckpointError

TINY = {"updates": 60, "hidden_size": 8, "code_size": 3, "batch_size": 16, "window": 12}


def waves(count=60, steps=12, features=2, seed=0):
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, (count, 1, 1))
    return 100 + 10 * np.sin(2 * np.pi * np.arange(steps)[:, None] / 12 + phase + np.arange(features))


@pytest.fixture(scope="module")
def fitted():
    return SequenceAutoencoder(**TINY).fit(waves())


def test_shapes(fitted):
    x = waves(7)
    codes = fitted.transform(x)
    assert codes.shape == (7, 3) and fitted.inverse_transform(codes).shape == x.shape
    assert fitted.reconstruct(x) == pytest.approx(fitted.inverse_transform(codes), abs=1e-4)
    assert fitted.score_samples(x).shape == (7,) and (fitted.score_samples(x) <= 0).all()
    assert fitted.n_features_in_ == 2 and len(fitted.history_) == 60 / 3
    expected = np.square((fitted.reconstruct(x) - x) / fitted.model_.std.numpy()).mean((1, 2))
    assert -fitted.score_samples(x) == pytest.approx(expected, rel=1e-3)


def test_what_is_unusual_scores_low(fitted):
    x = waves(20, seed=1)
    x[3, 4:7] += 60
    assert fitted.score_samples(x).argmin() == 3
    assert fitted.predict(x)[3] == -1 and set(fitted.predict(x)) <= {-1, 1}
    assert ((fitted.decision_function(x) < 0) == (fitted.predict(x) == -1)).all()


def test_sequences_of_unequal_lengths():
    x = [one[: 6 + k % 7] for k, one in enumerate(waves(40))]
    model = SequenceAutoencoder(**TINY).fit(x)
    assert [len(one) for one in model.reconstruct(x)] == [len(one) for one in x]
    alone = model.score_samples(x[:1])[0]
    assert alone == pytest.approx(model.score_samples(x)[0], rel=1e-4)  # padding does not matter
    assert model.transform(x[:3]).shape == (3, 3)


def test_a_table_is_scored_record_by_record():
    time = pd.date_range("2024-01-01", periods=300, freq="h")
    table = pd.DataFrame({"v": np.sin(np.arange(300) * 2 * np.pi / 12)}, index=time)
    model = SequenceAutoencoder(**TINY).fit(table)
    new = table.copy()
    new.iloc[150] += 4
    scores = model.score_samples(new)
    assert scores.shape == (300,) and abs(scores.argmin() - 150) < 12
    assert model.transform(new).shape == (300 - 12 + 1, 3)


def test_validation_windows_of_a_table_share_no_record_with_training_windows(monkeypatch):
    parts = []
    monkeypatch.setattr(SequenceAutoencoder, "train", lambda self, model, step, *data: parts.extend(data))
    monkeypatch.setattr(SequenceAutoencoder, "errors", lambda *_: np.ones(3))
    table = np.arange(200.0)[:, None]
    SequenceAutoencoder(**TINY).fit(table)
    training, validation = (data.tensors[0] for data in parts)
    assert training.max() + 1 == validation.min() and len(training) == 151
    SequenceAutoencoder(**TINY, validation_share=0).fit(table)
    assert len(parts[2].tensors[0]) == 189 and parts[3] is None
    SequenceAutoencoder(**TINY).fit(table[:60])
    assert parts[5].tensors[0].ravel().tolist() == list(range(48, 60))  # the last one at least


@pytest.mark.parametrize("seed", range(4))
def test_none_of_the_sequences_behind_the_largest_threshold_is_an_anomaly(seed):
    table = np.random.default_rng(seed).standard_normal((120, 2))
    model = SequenceAutoencoder(updates=5, hidden_size=4, window=8, validation_share=0.0, quantile=1.0, seed=seed)
    assert (model.fit(table).predict(table) == 1).all()


def test_the_columns_of_a_table_keep_their_order(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).random((60, 2)), columns=["temperature", "pressure"])
    model = SequenceAutoencoder(window=8, updates=2).fit(table)
    model.save(tmp_path / "model.pt")
    for one in (model, SequenceAutoencoder.load(tmp_path / "model.pt")):
        one.predict(table)
        with pytest.raises(ValueError, match="order"):
            one.predict(table[["pressure", "temperature"]])


def test_a_grid_is_compared_by_the_mean_score():
    search = GridSearchCV(SequenceAutoencoder(updates=2), {"code_size": [2, 4]}, cv=2).fit(np.random.rand(20, 6, 1))
    model = search.best_estimator_
    x = np.random.rand(4, 6, 1)
    assert model.score(x) == pytest.approx(model.score_samples(x).mean())


def test_scikit_learn(fitted):
    assert clone(fitted).get_params() == fitted.get_params() and not hasattr(clone(fitted), "model_")
    with pytest.raises(NotFittedError):
        SequenceAutoencoder().transform(waves())
    x, y = waves(40), np.arange(40) % 2
    pipeline = make_pipeline(SequenceAutoencoder(**{**TINY, "updates": 6}), LogisticRegression())
    assert pipeline.fit(x, y).predict(x).shape == (40,)
    grid = GridSearchCV(pipeline, {"sequenceautoencoder__code_size": [1, 2]}, cv=2).fit(x, y)
    assert grid.best_params_["sequenceautoencoder__code_size"] in (1, 2)
    assert fitted.set_params(seed=0).seed == 0


def test_same_seed_same_bits_whatever_else_is_drawn():
    a = SequenceAutoencoder(**TINY).fit(waves()).transform(waves(3))
    np.random.default_rng().random(5)
    b = SequenceAutoencoder(**TINY).fit(waves()).transform(waves(3))
    assert (a == b).all()
    assert not (a == SequenceAutoencoder(**TINY, seed=1).fit(waves()).transform(waves(3))).all()


def test_save_and_load(fitted, tmp_path):
    fitted.save(tmp_path / "model.pt")
    again = SequenceAutoencoder.load(tmp_path / "model.pt")
    x = waves(5, seed=2)
    assert (again.transform(x) == fitted.transform(x)).all() and (again.predict(x) == fitted.predict(x)).all()
    assert again.get_params() == fitted.get_params() and again.threshold_ == fitted.threshold_
    with pytest.raises(CheckpointError):
        SequenceAutoencoder.load(tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 4, 2, 1)), r"X must be \(N, T, I\)"),
        (np.zeros((0, 4, 2)), r"X must be \(N, T, I\)"),
        (np.full((4, 3, 1), np.nan), "X must be finite"),
        (np.zeros((5, 1)), "at least 12 records"),
        ([np.zeros((3, 1)), np.zeros((3, 2))], "the same I"),
        ([], "at least one step"),
        (waves() + 1e8, "column 1: expected a range that float32 resolves"),
        (list(waves() + 1e10), "subtract an offset such as their mean"),
        (waves()[0, :, :1].repeat(2, 0) + 1e8, "found values from 1000000"),
    ],
)
def test_refused(x, message):
    with pytest.raises(ValueError, match=message):
        SequenceAutoencoder(**TINY).fit(x)


def test_a_constant_column_or_sequence_is_no_offset(fitted):
    x = waves()
    x[:, :, 1] = 1e9 / 3 * (1 + 1e-16 * np.arange(12))
    SequenceAutoencoder(**{**TINY, "updates": 1}).fit(x)
    flat = 1e3 + 1e-4 * waves(1)
    assert fitted.predict([*waves(2), flat[0]])[2] == -1  # new data may be of any range


def test_other_features_are_refused(fitted):
    with pytest.raises(ValueError, match="2 features, as in fit, not 1"):
        fitted.transform(np.zeros((3, 12, 1)))
