"""Simple opponents: what they find, what they choose on validation samples, and training samples of one class."""

import numpy as np
import pytest

from lstm_studies.evaluation.movement_opponents import LEAVES, NAMES, STRENGTHS, opponents


def samples(count, seed, rule):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, 3, 2)).astype("f4")
    return x, (rule(x) + rng.normal(0, 0.3, count) > 0).astype(int)


RULES = {"linear": lambda x: x[:, 0, 1] - x[:, 2, 0], "product": lambda x: x[:, 0, 1] * x[:, 2, 0]}


@pytest.fixture(scope="module", params=RULES)
def fitted(request):
    rule = RULES[request.param]
    train, validation, test = (samples(count, seed, rule) for seed, count in enumerate((600, 300, 300)))
    return request.param, opponents(*train, *validation, change=1), validation, test


def test_each_learns_what_it_can(fitted):
    rule, found, _, (x, y) = fitted
    assert tuple(found) == NAMES
    accuracy = {name: np.mean((one.score(x) > 0) == y) for name, one in found.items()}
    assert accuracy["always_up"] == y.mean()
    assert accuracy["gradient_boosting"] > 0.7
    assert accuracy["logistic_regression"] > 0.9 if rule == "linear" else accuracy["logistic_regression"] < 0.6
    assert (found["yesterday"].score(x) == x[:, -1, 1]).all()


def test_the_choice_is_the_best_on_validation_samples(fitted):
    from sklearn.ensemble import HistGradientBoostingClassifier

    rule, found, (x, y), _ = fitted
    chosen = found["gradient_boosting"].chosen
    assert chosen["leaves"] in LEAVES and 1 <= chosen["trees"] <= 100
    assert found["logistic_regression"].chosen["C"] in STRENGTHS
    train_x, train_y = samples(600, 0, RULES[rule])
    accuracy = np.mean((found["gradient_boosting"].score(x) > 0) == y)
    for leaves in LEAVES:
        model = HistGradientBoostingClassifier(max_leaf_nodes=leaves, early_stopping=False, random_state=0)
        model.fit(train_x.reshape(600, -1), train_y)
        assert model.score(x.reshape(len(x), -1), y) <= accuracy
        if leaves == chosen["leaves"]:  # the same model, cut after the chosen number of trees
            scores = list(model.staged_decision_function(x.reshape(len(x), -1)))[chosen["trees"] - 1]
            np.testing.assert_array_equal(found["gradient_boosting"].score(x), scores.ravel())


@pytest.mark.parametrize("label", [0, 1])
def test_training_samples_of_one_class(label):
    x, y = samples(40, 0, lambda x: x[:, 0, 0])
    found = opponents(x, np.full(40, label), x, y, change=0)
    for name in ("logistic_regression", "gradient_boosting"):
        assert ((found[name].score(x) > 0) == label).all() and found[name].chosen == {}
