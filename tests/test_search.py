"""One list of tasks: models, grids, folds and seeds; the right one is chosen, tested once, and resumed anywhere."""

import json
import math
import signal

import pytest
import torch
from tiny_training import (
    BATCHES,
    TEST,
    TRAINING,
    VALIDATION,
    Net,
    everything,
    make_request,
    make_settings,
    rows,
    same,
    step,
    weights,
    without_seconds,
)

from lstm_studies.training import checkpoint, loop, search, tables
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.loop import Diverged, Failed, Result
from lstm_studies.training.run import prepare_process
from lstm_studies.training.settings import UsageError
from lstm_studies.training.signals import Interrupted
from lstm_studies.training.workers import WorkerLost

pytestmark = pytest.mark.usefixtures("no_flush")

CALLS = []  # of this process: ("batch" | "test", settings) one by one
STOP_AT = []  # numbers of training batches at which the process gets a signal


@pytest.fixture(autouse=True)
def fresh_calls():
    CALLS.clear()
    STOP_AT.clear()


def train(settings, folder, **arguments):
    """A training, whose validation data depend on the fold. A huge learning rate gives a loss that is not finite."""

    def counted(model, batch):
        if model.training:
            CALLS.append(("batch", settings))
            if batches_made() in STOP_AT:
                signal.raise_signal(signal.SIGTERM)
        return {**step(model, batch), "closeness": -step(model, batch)["loss"]}

    return loop.train(Net(settings.hidden_size), counted, TRAINING, fold_of(settings), settings, folder, **arguments)


def fold_of(settings):
    """Other validation data for each fold."""
    return VALIDATION if settings.fold is None else torch.utils.data.TensorDataset(*TRAINING[settings.fold :: 3])


def train_maximising(settings, folder):
    return train(settings, folder, monitor="closeness", maximise=True)


def check(settings, folder):
    """The test: on the test data, or on those that the fold held out."""
    CALLS.append(("test", settings))
    model = checkpoint.rebuild(folder / "best.pt", Net)
    data = TEST if settings.fold is None else fold_of(settings)
    loss = loop.evaluate(model, step, data, settings)["loss"]
    return {"test_mse": loss, "hidden": model.arguments["hidden"], "rate": settings.learning_rate, "data": "generated"}


def asked(**values):
    """Plain gradient descent, so that a learning rate can diverge."""
    return make_request(**{"hidden_size": [3], "learning_rate": [0.05], "optimizer": "SGD", **values})


def fit_all(requests, folder, train=train, **more):
    """As a script's function does."""
    folder.mkdir(parents=True, exist_ok=True)
    prepare_process(next(iter(requests.values())))
    return search.fit(requests, folder, train, check, **more)


def fit(folder, train=train, folds=0, refit=True, **values):
    """The metrics of one model."""
    return fit_all({"net": asked(**values)}, folder, train, folds=folds, refit=refit)["net"]


def settings_of_tests():
    return [settings for kind, settings in CALLS if kind == "test"]


def batches_made():
    return sum(kind == "batch" for kind, _ in CALLS)


def grid(folder):
    return rows(folder / "grid.csv")


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


TRAINING_FILES = ["best.pt", "history.csv", "last.pt"]
EACH = 3 * BATCHES  # batches of one training
DIVERGING = {"learning_rate": [1e30, 0.05, 1e-5], "gradient_clipping": 0.0}

# ---- one model -------------------------------------------------------------------------------------------------------


def test_one_combination_is_trained_and_tested(tmp_path):
    metrics = fit(tmp_path, seed=2)
    assert len(settings_of_tests()) == 1 and batches_made() == EACH and visible(tmp_path) == TRAINING_FILES
    assert list(metrics)[:4] == ["seed", "epochs", "best_epoch", "seconds"] and metrics["seeds"] == 1
    assert metrics["seed"] == 2 and metrics["epochs"] == 3 and metrics["hidden"] == 3
    losses = [row["val_loss"] for row in tables.read_table(tmp_path / "history.csv")]
    assert metrics["best_epoch"] == 1 + losses.index(min(losses))
    model = checkpoint.rebuild(tmp_path / "best.pt", Net)
    assert metrics["test_mse"] == loop.evaluate(model, step, TEST, make_settings())["loss"]
    json.dumps(metrics)


def test_divergence_of_one_model_is_an_error(tmp_path):
    with pytest.raises(Diverged):
        fit(tmp_path, learning_rate=1e30, gradient_clipping=0.0)


def test_one_training_alone_may_have_several_threads(tmp_path):
    seen = []

    def note(settings, folder):
        seen.append((torch.get_num_threads(), settings.threads))
        return train(settings, folder)

    globals()["note"] = note
    try:
        fit(tmp_path / "alone", note, threads=2)
        fit(tmp_path / "grid", note, threads=2, hidden_size=[2, 3])
    finally:
        torch.set_num_threads(1)
    assert seen == [(2, 2), *[(1, 1)] * 3]  # the chosen one is loaded by a process that has one, too


# ---- a grid ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [train, train_maximising])
def test_grid_is_sorted_and_the_winner_kept(tmp_path, train):
    metrics = fit(tmp_path, train, hidden_size=[2, 3], learning_rate=[1e-5, 0.3, 1e-3], epochs=4)
    table = grid(tmp_path)
    names = ["learning_rate", "hidden_size", "score", "best_epoch", "epochs", "seconds", "status"]
    assert [list(row) for row in table] == [names] * 6
    assert all(row["status"] == "ok" and row["epochs"] == "4" for row in table)
    scores = [float(row["score"]) for row in table]
    assert scores == sorted(scores, reverse=train is train_maximising) and len(set(scores)) == 6
    for row in table:  # the score is that of the combination's own history
        history = tables.read_table(tmp_path / "grid" / combination(row) / "history.csv")
        losses = [line["val_loss"] for line in history]
        assert abs(float(row["score"])) == min(losses) and int(row["best_epoch"]) == 1 + losses.index(min(losses))
    for file in TRAINING_FILES:
        assert (tmp_path / file).read_bytes() == (tmp_path / "grid" / combination(table[0]) / file).read_bytes()
    # once, with the winner's flags, and without training it again
    (settings,) = settings_of_tests()
    winner = {"learning_rate": float(table[0]["learning_rate"]), "hidden_size": int(table[0]["hidden_size"])}
    assert (settings.learning_rate, settings.hidden_size) == tuple(winner.values())
    assert metrics["best_combination"] == winner and batches_made() == 6 * 4 * BATCHES
    assert metrics["rate"] == settings.learning_rate and metrics["hidden"] == settings.hidden_size
    assert metrics["best_epoch"] == int(table[0]["best_epoch"]) and metrics["epochs"] == 4


def combination(row):
    return f"learning_rate={row['learning_rate']},hidden_size={row['hidden_size']}"


def test_a_combination_is_trained_as_if_it_were_alone(tmp_path):
    fit(tmp_path / "grid", hidden_size=[2, 3])
    for hidden in (2, 3):
        fit(tmp_path / str(hidden), hidden_size=hidden)
        alone, in_grid = tmp_path / str(hidden), tmp_path / "grid" / "grid" / f"hidden_size={hidden}"
        assert same(weights(alone / "last.pt"), weights(in_grid / "last.pt"))
        assert (alone / "history.csv").read_bytes() == (in_grid / "history.csv").read_bytes()


def test_diverged_combination_is_recorded(tmp_path):
    metrics = fit(tmp_path, **DIVERGING)
    table = grid(tmp_path)
    assert [row["learning_rate"] for row in table] == ["0.05", "1e-05", "1e+30"]
    assert [row["status"] for row in table[:2]] == ["ok", "ok"] and metrics["rate"] == 0.05
    assert table[2]["status"].startswith("diverged: the loss is ") and "epoch 1, batch 2" in table[2]["status"]
    assert table[2]["score"] == "nan" and table[2]["epochs"] == "0"
    assert math.isnan(tables.read_table(tmp_path / "grid.csv")[2]["score"])


def test_all_combinations_diverge(tmp_path):
    with pytest.raises(Failed, match=r"net: no combination could be trained, the first one: diverged: .*learning rate"):
        fit(tmp_path, learning_rate=[1e30, 1e31], gradient_clipping=0.0)
    assert not (tmp_path / "best.pt").exists() and settings_of_tests() == []


def test_no_combination_is_chosen_without_a_score(tmp_path, monkeypatch):
    """As without validation data: the first value of a grid is no choice."""
    monkeypatch.setattr(__name__ + ".VALIDATION", None)
    with pytest.raises(Failed, match="no combination has a validation score"):
        fit(tmp_path, learning_rate=[0.05, 0.01])


def test_a_diverged_combination_is_not_tried_again(tmp_path):
    first = fit(tmp_path, **DIVERGING)
    CALLS.clear()
    again = fit(tmp_path, resume=True, **DIVERGING)
    assert batches_made() == 0 and without_seconds(again) == without_seconds(first)
    assert grid(tmp_path)[2]["status"].startswith("diverged: the loss is ")


def test_new_grid_forgets_the_old_one(tmp_path):
    fit(tmp_path, hidden_size=[2, 3])
    fit(tmp_path, hidden_size=[3, 4])
    assert visible(tmp_path / "grid") == ["hidden_size=3", "hidden_size=4"]
    fit(tmp_path)
    assert visible(tmp_path) == TRAINING_FILES


# ---- seeds -----------------------------------------------------------------------------------------------------------


def test_seeds_by_hand(tmp_path):
    alone = [fit(tmp_path / str(seed), seed=seed) for seed in (5, 6, 7)]
    metrics = fit(tmp_path / "all", seed=5, seeds=3)
    values = [m["test_mse"] for m in alone]
    mean = sum(values) / 3
    assert len(set(values)) == 3 and metrics["test_mse_mean"] == pytest.approx(mean, rel=1e-12)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)  # of a sample
    assert metrics["test_mse_std"] == pytest.approx(deviation, rel=1e-9)
    assert metrics["test_mse"] == values[0] and metrics["seed"] == 5 and metrics["seeds"] == 3
    assert metrics["data"] == "generated" and "data_mean" not in metrics and "hidden_mean" not in metrics
    for seed in (5, 6, 7):  # the bits of a seed do not depend on what is trained beside it
        places = [tmp_path / str(seed), tmp_path / "all" / "seeds" / str(seed)]
        assert same(*(weights(place / "best.pt") for place in places))
    assert same(weights(tmp_path / "all" / "best.pt"), weights(tmp_path / "5" / "best.pt"))
    assert visible(tmp_path / "all" / "seeds") == ["5", "6", "7"]


def test_grid_then_seeds(tmp_path):
    """The combination is chosen with the first seed, whose training is not repeated."""
    metrics = fit(tmp_path, learning_rate=[1e-5, 0.3], seeds=2)
    assert [settings.seed for settings in settings_of_tests()] == [0, 1] and batches_made() == 3 * EACH
    assert {settings.learning_rate for settings in settings_of_tests()} == {float(grid(tmp_path)[0]["learning_rate"])}
    assert metrics["seeds"] == 2 and "test_mse_std" in metrics
    assert metrics["best_combination"] == {"learning_rate": settings_of_tests()[0].learning_rate}


def test_fewer_seeds_forget_the_others(tmp_path):
    fit(tmp_path, seeds=3)
    fit(tmp_path, seeds=2)
    assert visible(tmp_path / "seeds") == ["0", "1"]


def test_means_and_deviations_by_hand():
    first = {"seed": 3, "seconds": 1.0, "mse": 1.0, "parameters": 7, "signal": "waves", "curve": [1.0], "none": None}
    assert search.over_seeds([first]) == {**first, "seeds": 1}
    averaged = search.over_seeds([first, {**first, "seed": 4, "mse": 4.0}, {**first, "seed": 5, "mse": 4.0}])
    assert averaged == {**first, "mse_mean": 3.0, "mse_std": pytest.approx(3**0.5), "seeds": 3}


# ---- folds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[2, 3, 5], [5]])
def test_held_out_folds_choose_and_the_chosen_one_is_trained_anew(tmp_path, sizes):
    metrics = fit(tmp_path, folds=3, hidden_size=sizes, seeds=2)
    trained = [(s.hidden_size, s.fold, s.seed) for s in dict.fromkeys(s for kind, s in CALLS if kind == "batch")]
    best = metrics["hidden"]
    assert trained == [(size, k, 0) for size in sizes for k in range(3)] + [(best, None, 0), (best, None, 1)]
    assert [(s.fold, s.seed) for s in settings_of_tests()] == [(None, 0), (None, 1)] and metrics["seeds"] == 2
    scores = {}
    for size in sizes:
        places = [tmp_path / "grid" / f"hidden_size={size}" if len(sizes) > 1 else tmp_path][0]
        histories = [tables.read_table(places / f"fold{k}" / "history.csv") for k in range(3)]
        scores[size] = sum(min(row["val_loss"] for row in history) for history in histories) / 3
    assert best == min(scores, key=scores.get)
    if len(sizes) > 1:
        assert {int(row["hidden_size"]): float(row["score"]) for row in grid(tmp_path)} == pytest.approx(scores)
        folds = [f"fold{k}" for k in range(3)]  # of the chosen combination
        assert visible(tmp_path) == [*TRAINING_FILES[:1], *folds, "grid", "grid.csv", *TRAINING_FILES[1:], "seeds"]
        for fold in folds:
            copies = [path / fold / "best.pt" for path in (tmp_path, tmp_path / "grid" / f"hidden_size={best}")]
            assert copies[0].read_bytes() == copies[1].read_bytes()
    else:
        assert visible(tmp_path) == ["best.pt", "fold0", "fold1", "fold2", *TRAINING_FILES[1:], "seeds"]


@pytest.mark.parametrize("sizes", [[2, 3, 5], [5]])
def test_the_folds_themselves_are_tested(tmp_path, sizes):
    metrics = fit(tmp_path, folds=3, refit=False, hidden_size=sizes)
    assert [s.fold for s in settings_of_tests()] == [0, 1, 2] and batches_made() == len(sizes) * 3 * EACH
    assert metrics["folds"] == 3 and metrics["seeds"] == 1 and len(metrics["by_fold"]) == 3
    values = [row["test_mse"] for row in metrics["by_fold"]]
    mean = sum(values) / 3
    assert len(set(values)) == 3 and metrics["test_mse_mean"] == pytest.approx(mean)
    assert metrics["test_mse_std"] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 2))
    for k in range(3):
        model = checkpoint.rebuild(tmp_path / f"fold{k}" / "best.pt", Net)
        data = fold_of(make_settings(fold=k))
        assert values[k] == loop.evaluate(model, step, data, make_settings())["loss"]
        assert model.arguments["hidden"] == metrics["hidden"]
    if len(sizes) > 1:
        assert metrics["hidden"] == int(grid(tmp_path)[0]["hidden_size"])
        assert metrics["best_combination"] == {"hidden_size": metrics["hidden"]}


def test_a_combination_one_of_whose_folds_diverges_is_not_chosen(tmp_path):
    metrics = fit(tmp_path, train_or_diverge_in_a_fold, folds=2, hidden_size=[2, 3])
    table = grid(tmp_path)
    assert metrics["hidden"] == 3 and [row["hidden_size"] for row in table] == ["3", "2"]
    assert table[1]["status"] == "diverged: the loss is nan in fold 1"


def train_or_diverge_in_a_fold(settings, folder):
    if (settings.hidden_size, settings.fold) == (2, 1):
        raise Diverged("the loss is nan in fold 1")
    return train(settings, folder)


# ---- interrupted -----------------------------------------------------------------------------------------------------

SEARCHES = {  # values and arguments, trainings
    "grid": ({"hidden_size": [2, 3, 4]}, {}, 3),
    "seeds": ({"seeds": 3}, {}, 3),
    "grid and seeds": ({"learning_rate": [0.05, 0.3], "seeds": 2}, {}, 3),
    "folds": ({"hidden_size": [2, 3]}, {"folds": 2}, 5),
    "tested folds": ({}, {"folds": 3, "refit": False}, 3),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.reliability] * (name in ("grid", "seeds", "tested folds")))
        for name in SEARCHES
    ],
)
def test_interrupted_search_goes_on(tmp_path, name):
    """At any batch: none is computed twice, and what is left has the same bits."""
    values, more, trainings = SEARCHES[name]
    whole = fit(tmp_path / "whole", **more, **values)
    expected = everything(tmp_path / "whole")
    for at in (1, EACH + 4, trainings * EACH):
        CALLS.clear()
        STOP_AT[:] = [at]
        folder = tmp_path / str(at)
        with pytest.raises(Interrupted):
            fit(folder, **more, **values, checkpoint_every=30.0)
        assert batches_made() == at
        STOP_AT.clear()
        metrics = fit(folder, **more, **values, resume=True)
        assert batches_made() == trainings * EACH, at
        assert without_seconds(metrics) == without_seconds(whole) and same(everything(folder), expected), at


def test_a_finished_search_is_not_trained_again(tmp_path):
    values = {"hidden_size": [2, 3], "seeds": 2}
    first = fit(tmp_path, **values)
    expected = everything(tmp_path)
    CALLS.clear()
    again = fit(tmp_path, resume=True, **values)
    assert batches_made() == 0 and again == first and same(everything(tmp_path), expected)


@pytest.mark.parametrize("more", [{"seeds": 2}, {"folds": 2}, {"folds": 2, "seeds": 2}])
def test_a_search_resumed_with_more_values_is_that_of_all_values(tmp_path, more):
    """Also if one of the added values is the best."""
    values = {"learning_rate": [1e-5, 1e-4, 0.3], **more}
    whole = fit(tmp_path / "whole", **values)
    first = fit(tmp_path / "more", **{**values, "learning_rate": [1e-5, 1e-4]})
    metrics = fit(tmp_path / "more", **values, resume=True)
    assert first["rate"] == 1e-4 and metrics["rate"] == 0.3
    assert without_seconds(metrics) == without_seconds(whole)
    assert same(everything(tmp_path / "more"), everything(tmp_path / "whole"))
    assert without_seconds(fit(tmp_path / "more", **values, dry_run=True)) == without_seconds(whole)


def test_a_search_is_not_resumed_with_other_settings(tmp_path):
    fit(tmp_path, hidden_size=[2, 3])
    with pytest.raises(UsageError, match=r"--resume: .* was trained with --batch_size 4, not 5"):
        fit(tmp_path, hidden_size=[2, 3], batch_size=5, resume=True)


# ---- without training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES)
def test_dry_run(tmp_path, name):
    """The same metrics, from the files alone, which stay as they are."""
    values, more, _ = SEARCHES[name]
    trained = fit(tmp_path, **more, **values)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    CALLS.clear()
    metrics = fit(tmp_path, **more, **values, dry_run=True)
    assert batches_made() == 0 and 1 <= len(settings_of_tests()) <= 3
    assert without_seconds(metrics) == without_seconds(trained)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", SEARCHES)
def test_dry_run_of_nothing(tmp_path, name):
    values, more, _ = SEARCHES[name]
    with pytest.raises(CheckpointError, match=r"--dry_run: no trained model at .*best\.pt"):
        fit(tmp_path, **more, **values, dry_run=True)


def test_a_dry_run_of_another_config_is_refused(tmp_path, monkeypatch):
    """As of one that was edited by hand: it would load other data than those of the training."""
    monkeypatch.setattr(search, "DATA", ("batch_size",))
    fit(tmp_path, hidden_size=[2, 3])
    with pytest.raises(CheckpointError, match=r"was trained with --batch_size 4, and its config.json says 5"):
        fit(tmp_path, hidden_size=[2, 3], batch_size=5, dry_run=True)


@pytest.mark.parametrize("lacks", ["flags", "epoch", "best_epoch", "seconds"])
def test_dry_run_of_a_checkpoint_that_is_not_of_a_training(tmp_path, lacks):
    fit(tmp_path)
    content = checkpoint.load(tmp_path / "last.pt")
    del content[lacks]
    checkpoint.save(tmp_path / "last.pt", content)
    with pytest.raises(CheckpointError, match=f"--dry_run: .*expected the state of a training, .*{lacks}"):
        fit(tmp_path, dry_run=True)


# ---- several models --------------------------------------------------------------------------------------------------


def two_models(**values):
    return {"narrow": asked(hidden_size=2, **values), "wide": asked(hidden_size=[5, 6], epochs=2, seeds=2, **values)}


def test_several_models(tmp_path):
    metrics = fit_all(two_models(), tmp_path)
    assert list(metrics) == ["narrow", "wide"] and len(settings_of_tests()) == 3
    assert (metrics["narrow"]["hidden"], metrics["narrow"]["seeds"]) == (2, 1)
    assert metrics["wide"]["hidden"] in (5, 6) and metrics["wide"]["seeds"] == 2
    table = rows(tmp_path / "history.csv")
    epochs = [("narrow", "1"), ("narrow", "2"), ("narrow", "3"), ("wide", "1"), ("wide", "2")]
    assert [(row["model"], str(int(float(row["epoch"])))) for row in table] == epochs
    for name in metrics:
        history = tables.read_table(tmp_path / name / "history.csv")
        assert [float(row["val_loss"]) for row in table if row["model"] == name] == [row["val_loss"] for row in history]
    assert visible(tmp_path) == ["history.csv", "narrow", "wide"] and visible(tmp_path / "narrow") == TRAINING_FILES
    assert visible(tmp_path / "wide") == ["best.pt", "grid", "grid.csv", "history.csv", "last.pt", "seeds"]


def test_a_single_model_has_no_folder_of_its_own(tmp_path):
    fit_all({"only": asked()}, tmp_path)
    assert visible(tmp_path) == TRAINING_FILES and "model" not in tables.read_table(tmp_path / "history.csv")[0]
    assert search.model_folders(["only"], tmp_path) == {"only": tmp_path}
    assert search.model_folders(["a", "b"], tmp_path) == {"a": tmp_path / "a", "b": tmp_path / "b"}


def test_a_model_is_trained_as_if_it_were_alone(tmp_path):
    together = fit_all(two_models(), tmp_path / "both")
    for name, request in two_models().items():
        alone = fit_all({name: request}, tmp_path / name)
        assert without_seconds(alone[name]) == without_seconds(together[name])
        assert same(everything(tmp_path / name), everything(tmp_path / "both" / name))


@pytest.mark.parametrize("at", [2, EACH + 3, 3 * EACH])
def test_interrupted_models_go_on(tmp_path, at):
    whole = fit_all(two_models(), tmp_path / "whole")
    CALLS.clear()
    STOP_AT[:] = [at]
    with pytest.raises(Interrupted):
        fit_all(two_models(), tmp_path / "a")
    STOP_AT.clear()
    metrics = fit_all(two_models(resume=True), tmp_path / "a")
    assert batches_made() == EACH + 3 * 2 * BATCHES
    assert without_seconds(metrics) == without_seconds(whole)
    assert same(everything(tmp_path / "a"), everything(tmp_path / "whole"))
    assert without_seconds(fit_all(two_models(dry_run=True), tmp_path / "a")) == without_seconds(whole)


def train_from_another(settings, folder):
    """The model `later` starts from the weights of its seed in `first`, whose trainings have ended."""
    if "later" not in folder.parts:
        return train(settings, folder)
    ended = [checkpoint.load(path)["epoch"] for path in folder.parents[2].glob("first/seeds/*/last.pt")]
    start = weights(folder.parents[2] / "first" / "seeds" / folder.name / "best.pt")

    def from_start(model, batch):
        if not started:
            started.append(model.load_state_dict(start))
        return step(model, batch)

    started = []
    assert ended == [3, 3]
    return loop.train(Net(settings.hidden_size), from_start, TRAINING, VALIDATION, settings, folder)


@pytest.mark.parametrize("jobs", [1, 2])
def test_models_that_start_from_the_files_of_others(tmp_path, jobs):
    requests = {name: asked(seeds=2, jobs=jobs) for name in ("later", "first", "beside")}
    metrics = fit_all(requests, tmp_path, train_from_another, after={"later": "first"})
    assert (
        list(metrics) == ["later", "first", "beside"] and metrics["first"]["test_mse"] == metrics["beside"]["test_mse"]
    )
    assert metrics["later"]["test_mse"] != metrics["first"]["test_mse"]
    again = fit_all({name: one.with_values(dry_run=True) for name, one in requests.items()}, tmp_path, train)
    assert without_seconds(again) == without_seconds(metrics)


# ---- progress and seconds --------------------------------------------------------------------------------------------


def test_a_line_after_each_task_says_how_far_the_search_is(tmp_path, capsys):
    fit_all(two_models(quiet=False), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    done = [line for line in lines if " done" in line]
    assert [line.split(" done")[0] for line in done] == [f"{k} of 5" for k in range(1, 6)]
    scores = [float(line.split("best score so far ")[1].split(",")[0]) for line in done if "best score" in line]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)  # none before the first one
    assert all(line.endswith("less than 1 min left") for line in done)
    assert len([line for line in lines if line.startswith("wide: best of 2 combinations: hidden_size=")]) == 1
    assert {line.split("]")[0] for line in lines if line.startswith("[")} == {
        *("[narrow", "[wide, hidden_size=5", "[wide, hidden_size=6", "[wide, seed 1"),
    }


def test_one_training_has_no_such_line(tmp_path, capsys):
    fit(tmp_path, quiet=False)
    assert " done" not in capsys.readouterr().out


def test_quiet(tmp_path, capsys):
    fit(tmp_path, hidden_size=[2, 3], seeds=2)
    assert capsys.readouterr() == ("", "")


def ten_seconds(settings, folder):
    """As if each training had taken 10 seconds."""
    result = train(settings, folder)
    content = checkpoint.load(folder / "last.pt")
    checkpoint.save(folder / "last.pt", {**content, "seconds": 10.0})
    return result._replace(seconds=10.0)


@pytest.mark.parametrize("name", SEARCHES)
def test_seconds_are_those_of_all_trainings(tmp_path, name):
    values, more, trainings = SEARCHES[name]
    assert fit(tmp_path, ten_seconds, **more, **values)["seconds"] == 10.0 * trainings
    assert fit(tmp_path, ten_seconds, **more, **values, resume=True)["seconds"] == 10.0 * trainings
    tables.write_json(tmp_path / "metrics.json", {"net": {"seconds": 70.5}})  # of the run that trained
    assert fit(tmp_path, **more, **values, dry_run=True)["seconds"] == 70.5


# ---- lost workers ----------------------------------------------------------------------------------------------------


def test_a_lost_combination_is_recorded_and_a_lost_model_is_an_error(tmp_path, monkeypatch):
    lost = WorkerLost("its worker process died three times")
    results = {"train_or_diverge": [Result(1.0, False, 1, 3, 0.1), lost], "train_and_test": [lost]}

    def run(tasks, jobs, backend, scheduler, then):
        for task in tasks:
            folder = task.folder
            folder.mkdir(parents=True, exist_ok=True)
            for file in search.FILES:
                (folder / file).write_text(file)
        follow = [more for task in tasks for more in then(task, results[task.function.__name__].pop(0))]
        return [then(task, results[task.function.__name__].pop(0)) for task in follow]

    monkeypatch.setattr(search.workers, "run", run)
    with pytest.raises(WorkerLost, match="died three times"):
        fit(tmp_path, hidden_size=[2, 3])
    assert [(row["hidden_size"], row["status"]) for row in grid(tmp_path)] == [("2", "ok"), ("3", str(lost))]
    results["train_or_diverge"] = [Result(1.0, False, 1, 3, 0.1)] * 2
    results["test_folds"] = [lost]
    with pytest.raises(WorkerLost):
        fit(tmp_path / "folds", folds=2, refit=False)
