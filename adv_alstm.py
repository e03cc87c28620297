"""Attentive LSTM with adversarial training (Feng et al., IJCAI 2019): will a stock's price move up or down tomorrow?

    python adv_alstm.py --function compare --dataset acl18 --seeds 20        # all models and opponents in one table
    python adv_alstm.py --function starts --seeds 20                         # how lucky are the published weights?
    python adv_alstm.py --function quarters --seeds 20                       # the same models on four other quarters
    python adv_alstm.py --function train --dataset kdd17 --epsilon .0001 .001 .01 --beta .01 .05 .5 --epochs 15
    python adv_alstm.py --function train --data my_prices/                   # your own CSV files of daily prices
    python adv_alstm.py --function predict --data my_prices/                 # the day after the newest one

ACL18 (87 stocks, 2014-2015) and KDD17 (50 stocks, 2007-2016) come from the authors' archive, which is downloaded;
without a network, six bundled stocks replace them. A sample is the last 5 to 15 days of a stock in 11 features, up or
down if the next day's return is at least +0.55 % or at most -0.5 %. The published Adv-ALSTM continues the training
of an ALSTM that is in the archive. To expect on ACL18: 57.3 % from these weights, 54.8 % from random ones, 52.6 % of
gradient boosting, 51.3 % of always up.

The epoch with the best validation accuracy is tested. Every difference has a 95 % interval over seeds and days, since
stocks of one day move together, and is called better, worse, equivalent or within noise by that.

Deviations from the paper of Feng et al. and its code, github.com/fulifeng/Adv-ALSTM:
1. The published Adv-ALSTM continues the training of an ALSTM, and so has twice the epochs of the models that it is
   compared with. Here every attentive model is trained from every kind of weights for the same number of epochs.
2. The published code completes an epoch's last batch with samples of the batch before, and shuffles all runs alike.
   Here each sample is seen once per epoch, in an order that depends on the seed.
3. The paper's penalty is on all parameters. Here, as in the published code, it is on the last layer (half the squared
   weights and bias).
4. The published code intends to hold the perturbation constant and does not. With the hinge loss that makes no
   difference: the gradient of -epsilon ||w|| and that of the score of e - epsilon y w / ||w|| with a constant direction
   are the same.
5. Without the hinge loss the published code's adversarial branch reads the clean representation, so that it has no
   effect. Here it has one.
6. The l2 weight of KDD17's LSTM is not published. Here it is that of the other models.
"""

from config.adv_alstm import DATES, PERTURBED, SCRIPT, Movement, other_dates
from lstm_studies.training.flags import parse

if __name__ == "__main__":
    parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from lstm_studies.estimators.adv_alstm import AdvALSTM
from lstm_studies.evaluation import movement_opponents, movement_scores
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.movement import MOVEMENT_SETS, movement_of_prices, movement_table, stock_movement
from lstm_studies.loaders.movement_samples import (
    ADJUSTED_CLOSE,
    MovementPart,
    StockMovement,
    joined_parts,
    latest_windows,
    quarters_before,
)
from lstm_studies.loaders.published_alstm import published_variables
from lstm_studies.models.published_alstm import convert_published
from lstm_studies.reporting import movement as report
from lstm_studies.reporting import plots
from lstm_studies.training import loop, search, tables
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.settings import UsageError
from lstm_studies.training.trained import trained_model

SWEEP = (0.001, 0.01, 0.1, 1.0)  # of epsilon and of beta, in `plot`

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def samples(
    dataset: str, data_dir: Path, source: str, steps: int, limit: int | None, dates: tuple[str | None, ...]
) -> StockMovement:
    if dataset in MOVEMENT_SETS:
        return stock_movement(data_dir, dataset, source, steps, limit, dates=dates)
    train_from, validation_from, test_from, test_until = dates
    return movement_of_prices(dataset, steps, validation_from, test_from, limit, train_from, test_until)


def load(settings: Movement | Request) -> StockMovement:
    """Training, validation and test samples: x (N, T, 11), y (N,), 1 for up."""
    s = settings
    return samples(s.dataset, s.data_dir, s.source, s.steps, s.limit, tuple(getattr(s, name) for name in DATES))


def tensors(part: MovementPart) -> TensorDataset:
    return TensorDataset(part.x, part.y)


# ---- model and loss --------------------------------------------------------------------------------------------------

MODELS: dict[str, dict] = {  # arguments of AdvALSTM, by model
    "lstm": {"attention": False, "adversarial_training": False},
    "alstm": {"adversarial_training": False},
    "rand_alstm": {"random_perturbations": True},
    "adv_alstm": {},
}


def build(settings: Movement, features: int = 11) -> AdvALSTM:
    """The model with its initial weights."""
    s = settings
    model = AdvALSTM(
        s.hidden_size, s.epsilon, s.beta, s.learning_rate, s.dropout, s.l2, hinge=s.loss == "hinge", **MODELS[s.model]
    )
    if s.first is None:
        return model.build(features)
    weights = start_weights(s)
    units = len(weights["lstm.bias_ih_l0"]) // 4
    if units != s.hidden_size or "attention_vector" not in weights:
        raise UsageError(f"--start: expected {s.hidden_size} units with attention, found {units} units")
    model.load_state_dict(weights)
    return model


def start_weights(settings: Movement) -> dict[str, Tensor]:
    """Initial weights: published, from a file, or of this seed's ALSTM."""
    if settings.first == "published":
        return convert_published(published_variables(settings.data_dir, settings.dataset, settings.source))
    path = Path(settings.first)
    return AdvALSTM.load(of_seed(path, settings.seed) / "best.pt" if path.is_dir() else path).state_dict()


def step(model: AdvALSTM, batch: loop.Batch) -> dict[str, Tensor]:
    """mean l(score, y) + l2 / 2 (||w||^2 + c^2) + beta mean l(score of e + epsilon g / ||g||, y); see AttentiveLSTM."""
    return model.losses(*batch)


# ---- training and test -----------------------------------------------------------------------------------------------


def train(settings: Movement, folder: Path) -> loop.Result:
    """Trains one model; the epoch is chosen by the validation accuracy, for all models alike."""
    data = load(settings)
    model, settings = build(settings, data.train.x.shape[2]), settings.reading(data.metadata)
    parts = tensors(data.train), tensors(data.validation)
    return loop.train(model, step, *parts, settings, folder, monitor="accuracy", maximise=True)


def test(settings: Movement, folder: Path) -> dict:
    return scores(AdvALSTM.load(folder / "best.pt"), settings)


def scores(model: AdvALSTM, settings: Movement) -> dict:
    """Metrics on test and validation data (the latter calibrate the probabilities) and the chosen hyper-parameters."""
    data = load(settings)
    val, test = (model.decision_function(part.x).numpy() for part in (data.validation, data.test))
    in_time = np.argsort(data.validation.dates, kind="stable")
    return {
        **{name: data.metadata[name] for name in ("data", "dataset", "adjusted_column")},
        "samples": {name: data.metadata[name] for name in ("train", "validation", "test")},
        "test_dates": [str(data.test.dates[0]), str(data.test.dates[-1])],
        "steps": settings.steps,
        "chosen": {name: model.arguments[name] for name in ("units", "epsilon", "beta", "l2")},
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "head_norm": model.head.weight.norm().item(),  # the adversarial margin is 1 + epsilon times this
        "val_loss": model.evaluate(data.validation.x, data.validation.y)["loss"],
        **movement_scores.summary(val[in_time], data.validation.y.numpy()[in_time], test, data.test.y.numpy()),
    }


def opponents(request: Request) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """Metrics of the simple opponents by name, fitted on the same samples, and their test classes (1, N)."""
    data = load(request)
    (x, y), (val_x, val_y), (test_x, test_y) = ((part.x.numpy(), part.y.numpy()) for part in data[:3])
    metrics, classes = {}, {}
    for name, one in movement_opponents.opponents(x, y, val_x, val_y, ADJUSTED_CLOSE).items():
        test = one.score(test_x)
        own = movement_scores.summary(one.score(val_x), val_y, test, test_y)
        del own["calibration"]  # which a model has that predicts
        about = {"data": data.metadata["data"], "seed": request.seed, "seeds": 1}
        metrics[name] = {**about, "seconds": one.seconds, "chosen": one.chosen, **own}
        classes[name] = (test > 0).astype(int)[None]
    return metrics, classes


def predicted(request: Request, folder: Path) -> tuple[MovementPart, np.ndarray]:
    """The test part of a model, and its classes by the S trainings, (S, N)."""
    settings, _ = search.as_trained(request.single(), of_seed(folder, request.seed))  # steps depend on the model
    part = load(settings).test
    models = (AdvALSTM.load(of_seed(folder, seed) / "best.pt") for seed in seeds_of(request))
    return part, np.stack([model.predict(part.x) for model in models])


def judge(metrics: dict[str, dict], classes: dict, part: MovementPart, compared: dict | None = None) -> None:
    """Adds intervals over seeds and days to `metrics`, and differences of each model from its opponents: the simple
    ones, and those that `compared` has for it."""
    simple = [name for name in movement_opponents.NAMES if name in classes]
    others = {name: [*simple, *(compared or {}).get(name, ())] for name in classes if name not in simple}
    movement_scores.judge(metrics, classes, part.y.numpy(), part.dates, others)
    if simple:
        for name, notice in report.notices(metrics).items():
            metrics[name]["notice"] = notice


# ---- one list of tasks: models x starts x seeds ----------------------------------------------------------------------


def with_model(request: Request, model: str, first: Path | str | None = None, **values) -> Request:
    """The request for one model of the study with the initial weights `first`."""
    plain = {} if model in PERTURBED else {"epsilon": [0.0], "beta": [0.0]}
    start = {"start": ["random"]} if "start" in request.flags else {}
    return request.with_values(model=model, first=first and str(first), **start, **plain, **values)


def of_seed(folder: Path, seed: int) -> Path:
    """Folder of a seed's training in the folder of a model."""
    path = folder / "seeds" / str(seed)
    return path if path.exists() else folder


def seeds_of(request: Request) -> range:
    return range(request.seed, request.seed + request.seeds)


def check_one_combination(request: Request) -> None:
    if request.varied():
        raise UsageError(f"--{request.varied()[0]}: expected one value for {request.function}; train searches a grid")


# ---- functions -------------------------------------------------------------------------------------------------------


def train_models(request: Request, folder: Path) -> dict:
    """Trains one model, or a grid, with each kind of initial weights."""
    runs = {}
    if "own" in request.start and "hidden_size" in request.varied():
        raise UsageError("--hidden_size: expected one value with --start own, whose first stage has one size")
    for start in request.start:
        first = {"random": None, "own": str(folder / "first_stage")}.get(start, start)
        runs[report.row_name(start, request.model)] = request.with_values(start=[start], first=first)
        if start == "own" and not request.dry_run:
            search.fit({"alstm": with_model(request, "alstm")}, folder / "first_stage", train, test)
    metrics, (simple, classes) = search.fit(runs, folder, train, test), opponents(request)
    for name, path in search.model_folders(runs, folder).items():
        plot_history(name, path)
        part, classes[name] = predicted(request, path)
    metrics |= simple
    judge(metrics, classes, part)
    return metrics


def plot_history(name: str, folder: Path) -> None:
    """Accuracy against epochs."""
    series = {(report.label(name), part): curve for part, curve in tables.read_curves(folder, "accuracy").items()}
    plots.curves(folder / "accuracy.png", series, "epoch", "accuracy")


def compare(request: Request, folder: Path) -> dict:
    """Trains every model with every kind of initial weights; tables and figures of scores and differences."""
    check_one_combination(request)
    starts, alstm = possible_starts(request), with_model(request, "alstm")
    rows = {
        report.row_name(start, model): (start, model)
        for start in starts
        for model in MODELS
        if model != "lstm" or start == "random"
    }
    if "own" in starts and "random" not in starts:  # the ALSTMs that it starts from
        rows = {"alstm": ("random", "alstm"), **rows}
    first = {"random": None, "own": folder / "alstm"}
    requests = {name: with_model(request, model, first.get(start, start)) for name, (start, model) in rows.items()}
    after = {name: "alstm" for name, (start, _) in rows.items() if start == "own"}
    trained, part = search.fit(requests, folder, train, test, after=after), load(alstm).test
    (metrics, classes), folders = opponents(alstm), search.model_folders(rows, folder)
    for name, (start, _) in rows.items():
        as_it_is = report.row_name(start, "start")
        if start not in first and as_it_is not in metrics:
            given = with_model(request, "alstm", start)
            metrics[as_it_is] = scores_of_start(given)
            classes[as_it_is] = build(given.single()).predict(part.x)[None]
        metrics[name] = trained[name]
        own, classes[name] = predicted(requests[name], folders[name])
        if not same_samples(own, part):  # of longer windows, some may lack a day
            judge(metrics, {name: classes.pop(name)}, own)
    compared = {
        name: [other for other in report.opponents_of(start, model) if other in classes and other != name]
        for name, (start, model) in rows.items()
    }
    judge(metrics, classes, part, compared)
    table = report.comparison(metrics, "" if other_dates(request) else load(alstm).metadata["dataset"])
    tables.write_csv(folder / "comparison.csv", table)
    tables.write_csv(folder / "differences.csv", report.differences(metrics))
    report.accuracies(folder / "comparison.png", metrics)
    report.plot_differences(folder / "differences.png", metrics)
    if not request.quiet:
        report.print_comparison(table, metrics)
    return metrics


def same_samples(part: MovementPart, other: MovementPart) -> bool:
    return np.array_equal(part.dates, other.dates) and np.array_equal(part.tickers, other.tickers)


def possible_starts(request: Request) -> list[str]:
    """The kinds of initial weights asked for, without the published ones if the data are the sample."""
    starts, data = list(dict.fromkeys(request.start)), load(with_model(request, "alstm")).metadata["data"]
    if data == "sample" and "published" in starts and len(starts) > 1:
        starts.remove("published")
        print("NOTICE: the published weights are in the archive: no rows with them", file=sys.stderr)
    return starts


def scores_of_start(request: Request) -> dict:
    """Test metrics of initial weights without training."""
    settings = request.single()
    return {"epochs": 0, "seconds": 0.0, "seeds": 1, **scores(build(settings).eval(), settings)}


def starts(request: Request, folder: Path) -> dict:
    """Trains ALSTMs and, from each, an Adv-ALSTM; the published ALSTM among them, in a table and a figure."""
    check_one_combination(request)
    requests = {
        "alstm": with_model(request, "alstm"),
        "two_stage_adv_alstm": with_model(request, "adv_alstm", folder / "alstm"),
        "published_adv_alstm": with_model(request, "adv_alstm", "published"),
    }
    metrics = search.fit(requests, folder, train, test, after={"two_stage_adv_alstm": "alstm"})
    given = scores_of_start(with_model(request, "alstm", "published"))
    after = {name: scores_of_seeds(own, folder / name) for name, own in requests.items()}
    own = {"start": after["alstm"], "after": after["two_stage_adv_alstm"]}
    published = {"start": [given] * request.seeds, "after": after["published_adv_alstm"]}
    tables.write_csv(folder / "starts.csv", report.start_rows("own", own) + report.start_rows("published", published))
    report.starts(folder / "starts.png", own, published, request.dataset)
    summary = {"data": "full", "dataset": request.dataset, **report.summary_of_starts(own, published)}
    return {"starts": summary, **metrics, "published_start": given}


def scores_of_seeds(request: Request, folder: Path) -> list[dict]:
    """Accuracies and MCC of each seed's model on validation and test samples."""
    data, rows = load(request), []
    for seed in seeds_of(request):
        model = AdvALSTM.load(of_seed(folder, seed) / "best.pt")
        val, test = (model.evaluate(part.x, part.y) for part in (data.validation, data.test))
        scores = {"val_accuracy": val["accuracy"], "test_accuracy": test["accuracy"], "test_mcc": test["mcc"]}
        rows.append({"seed": seed, **scores})
    return rows


def plot(request: Request, folder: Path) -> dict:
    """Trains ALSTM and Adv-ALSTM, and Adv-ALSTM over epsilon and over beta; draws attention, sweeps and scores."""
    adversarial = with_model(request, "adv_alstm")
    base = adversarial.with_values(epsilon=adversarial.epsilon[:1], beta=adversarial.beta[:1])
    runs = {"alstm": with_model(request, "alstm"), "adv_alstm": base}
    for key in ("epsilon", "beta"):
        values = getattr(request, key) if key in request.given else SWEEP
        runs |= {f"{key}_{value:g}": base.with_values(**{key: [value]}) for value in values}
    metrics = search.fit(runs, folder, train, test)
    for key in ("epsilon", "beta"):
        report.sweep(folder / f"{key}.png", key, metrics)
    models = {name: AdvALSTM.load(folder / name / "best.pt") for name in ("alstm", "adv_alstm")}
    part = load(base).validation
    weights = {name: model.attention_weights(part.x).mean(0).tolist() for name, model in models.items()}
    report.attention(folder / "attention.png", weights)
    scores = {}
    for name, model in models.items():
        perturbed = model.perturbed_scores(part.x, part.y, base.epsilon[0])
        scores[name] = {"clean": model.decision_function(part.x).numpy(), "perturbed": perturbed.numpy()}
    for name, accuracies in report.plot_scores(folder / "scores.png", scores, part.y.numpy()).items():
        metrics[name] |= accuracies
    return metrics


def quarters(request: Request, folder: Path) -> dict:
    """Trains ALSTM and Adv-ALSTM for each quarter before the usual test part, on what came before it, and tests them
    and the simple opponents on the quarter; intervals and differences over all quarters."""
    check_one_combination(request)
    models, usual = ("alstm", "adv_alstm"), load(with_model(request, "alstm")).test
    dates = quarters_before(usual.dates[0], request.quarters)
    requests = {
        f"{model}, {days[1]}": with_model(request, model, **dict(zip(DATES[1:], days, strict=True)))
        for days in dates
        for model in models
    }
    metrics, folders = search.fit(requests, folder, train, test), search.model_folders(requests, folder)
    parts, by_quarter = [], []
    for _, first, _ in dates:
        _, classes = opponents(requests[f"alstm, {first}"])
        for model in models:
            part, classes[model] = predicted(requests[f"{model}, {first}"], folders[f"{model}, {first}"])
        parts.append(part)
        by_quarter.append(classes)
    part, pooled = joined_parts(parts), {}
    classes = {name: np.concatenate([own[name] for own in by_quarter], 1) for name in classes}  # (S, N)
    about = {"data": metrics[f"alstm, {first}"]["data"], "seed": request.seed}
    for name, own in classes.items():
        pooled[name] = search.over_seeds([about | movement_scores.of_classes(one, part.y.numpy()) for one in own])
    judge(pooled, classes, part, {"adv_alstm": ["alstm"]})
    return pooled | metrics


def predict(request: Request, folder: Path) -> dict:
    """Writes predictions.csv: for each stock the newest date, score, calibrated probability and direction."""
    model, settings, path = trained_model(request, "train", AdvALSTM)
    name, record = training_record(path, settings.model)
    table = movement_table(request.dataset, request.data_dir, request.source)
    part = latest_windows(table, settings.steps)
    newest = part.dates == table.dates[-1]
    if not newest.any():
        raise DataError(f"{request.dataset}: expected a stock with complete days up to {table.dates[-1]}, found none")
    if not request.every_day:
        part = MovementPart(part.x[newest], part.y[newest], part.dates[newest], part.tickers[newest])
    score = model.decision_function(part.x).numpy()
    calibration = record.pop("calibration", None)
    rows = report.prediction_rows(part.dates, part.tickers, score, calibration)
    tables.write_csv(folder / "predictions.csv", rows)
    silent = sorted(set(table.tickers) - set(part.tickers[part.dates == table.dates[-1]].tolist()))
    metrics = {
        "dataset": request.dataset,
        "rows": len(rows),
        "first_date": str(part.dates[0]),
        "last_date": str(part.dates[-1]),
        "predicted_up": float(np.mean([row["direction"] == "up" for row in rows])),
        "without_prediction": silent,
        "adjusted_column": table.adjusted_column,
        "model": str(path),
        "trained_on": record,
        **report.prediction_notice(calibration, record),
    }
    if not request.quiet:
        report.print_predictions(rows, metrics)
    return {name: metrics}


def training_record(folder: Path, model: str) -> tuple[str, dict]:
    """The name of the model in `folder`, and what the metrics.json of its run says of its data and its test, {} if
    there is none. `model`: its name if the run does not say."""
    for path in (folder, folder.parent):  # of a run with one model; of one with several
        try:
            metrics = tables.read_json(path / "metrics.json")
        except CheckpointError:
            continue
        for name, own in metrics.items():
            if isinstance(own, dict) and "calibration" in own and (path == folder or name == folder.name):
                try:
                    return name, report.record_of(own, metrics.get("always_up"))
                except (LookupError, TypeError, ValueError) as error:
                    raise CheckpointError(
                        f"{path}/metrics.json: expected the test of {name}, found {error!r}"
                    ) from None
    return model, {}


FUNCTIONS = {
    "train": train_models,
    "compare": compare,
    "starts": starts,
    "plot": plot,
    "quarters": quarters,
    "predict": predict,
}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
