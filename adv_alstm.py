"""Attentive LSTM with adversarial training (Feng et al., IJCAI 2019): will a stock's price move up or down tomorrow?

    python adv_alstm.py --function compare --dataset acl18 --seeds 10 --pretrain --jobs 2
    python adv_alstm.py --function compare --dataset kdd17 --seeds 10 --pretrain --jobs 2
    python adv_alstm.py --function train --dataset acl18 --model adv_alstm --epsilon .01 .05 .1 --beta .01 .1 1 --jobs 2
    python adv_alstm.py --function train --dataset my_prices/    # a folder of CSV files, one per stock
    python adv_alstm.py --function predict --dataset my_prices/ --checkpoint outputs/adv_alstm/train/best.pt

ACL18 (87 stocks, 2014-2015) and KDD17 (50 stocks, 2007-2016) come from the authors' archive, which is downloaded: its
files have no licence, so that no sample is bundled. A sample is the last 5 to 15 days of a stock in 11 features; it is
up or down if the next day's return is at least +0.55 % or at most -0.5 %. Expect an accuracy of 54.7 +- 2.4 % on ACL18
and of 51.5 +- 0.3 % on KDD17 from Adv-ALSTM, as from ALSTM (54.9 and 51.3), beside 51.3 and 52.9 % for "always up"; one
seed of one model takes about half a minute.

The epoch of every model is the one with the best validation accuracy. Beside the accuracies stand the binomial sigma,
which counts all samples as independent, and a 95 % interval from resampled days, since stocks of one day move together.
`predict` writes, per stock and date, the score of the next trading day: the date is the last one that the model saw.

Deviations from the publication:
1. Its Adv-ALSTM starts from a trained ALSTM and gets as many epochs again, which the models beside it do not get. Here
   all models have the same epochs from a random start; with `--pretrain` the two stages are a row of their own, with an
   ALSTM of as many epochs beside it.
2. KDD17 gets 15 epochs instead of 150 (`--epochs 150` for those): its epochs have three times as many batches, and its
   validation accuracy falls after the first few.
3. Its code fills an epoch's last batch up with samples of the one before, and shuffles all runs alike; here each sample
   is seen once per epoch, in an order of the seed's own.
4. The paper's penalty is on all parameters, its code's on the last layer, as here (half the squared weights and bias).
5. The code means to hold the perturbation constant and does not. With the hinge loss that makes no difference: the
   gradient of -epsilon ||w|| and that of the score of e - epsilon y w / ||w|| with a constant direction are the same.
6. Without the hinge loss the code's adversarial branch reads the clean representation and does nothing. Here it works.
7. The l2 weight of KDD17's LSTM is not given: that of the other models.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from evaluation import movement_scores
from loaders.movement import (
    ADJUSTED_CLOSE,
    MOVEMENT_SETS,
    MovementPart,
    StockMovement,
    latest_windows,
    movement_of_prices,
    movement_table,
    stock_movement,
)
from loaders.published_alstm import published_variables
from models.attentive_ensemble import TOGETHER, fit_together
from models.attentive_lstm import AttentiveLSTM, check_samples, convert_published
from reporting import movement_figures, plots
from training import checkpoint, grid_search, loop, tables
from training import flags as command_line
from training.run import run_script

# What each model of the comparison leaves out of AdvALSTM, or does otherwise.
MODELS: dict[str, dict] = {
    "lstm": {"attention": False, "adversarial_training": False},
    "alstm": {"adversarial_training": False},
    "rand_alstm": {"random_perturbations": True},
    "adv_alstm": {},
}
LABELS = {
    "always_up": "always up",
    "yesterday": "yesterday's direction",
    "lstm": "LSTM",
    "alstm": "ALSTM",
    "rand_alstm": "Rand-ALSTM",
    "adv_alstm": "Adv-ALSTM",
}
STARTS = {  # weights that a training begins with: the beginning of a row's name, and what its label says
    "random": ("", ""),
    "own": ("two_stage_", ", from our ALSTM"),
    "published": ("published_", ", from the published ALSTM"),
}
PUBLISHED = {  # accuracy in percent and MCC of the publication, Table 2; its Adv-ALSTM started from a trained ALSTM
    "acl18": {"lstm": (53.18, 0.0674), "alstm": (54.90, 0.1043), "published_adv_alstm": (57.20, 0.1483)},
    "kdd17": {"lstm": (51.62, 0.0183), "alstm": (51.94, 0.0261), "published_adv_alstm": (53.05, 0.0523)},
}
GRID = ("epsilon", "beta", "l2")


class Setting(NamedTuple):
    """Published hyper-parameters of one model on one data set."""

    steps: int
    hidden_size: int
    l2: float
    epsilon: float
    beta: float


SETTINGS = {  # without and with attention; one's own prices take those of ACL18
    "acl18": {"lstm": Setting(10, 32, 10.0, 0.0, 0.0), "alstm": Setting(5, 4, 1.0, 0.05, 0.01)},
    "kdd17": {"lstm": Setting(5, 4, 0.001, 0.0, 0.0), "alstm": Setting(15, 16, 0.001, 0.001, 0.05)},
}
EPOCHS = 150
SWEEP = (0.001, 0.01, 0.1, 1.0)  # of epsilon and of beta, in `plot`


class AdvALSTM(AttentiveLSTM):
    """The attentive LSTM (see there for the model, its arguments, `fit` and `predict`) with files and scores."""

    def evaluate(self, X, y) -> dict[str, float]:
        """Mean `loss` of the unperturbed samples, `accuracy` and `mcc` on X (N, T, I), y (N,). Raises ValueError."""
        x, y = check_samples(X, y, self.features)
        score = self.decision_function(x)
        loss = self.sample_losses(score, 2.0 * y - 1).mean().item()
        predicted, actual = (score > 0).long().numpy(), y.numpy()
        found = {"accuracy": movement_scores.accuracy(predicted, actual), "mcc": movement_scores.mcc(predicted, actual)}
        return {"loss": loss, **found}

    def save(self, path: Path | str) -> None:
        """Writes weights and arguments to a file, whole or not at all."""
        checkpoint.save(Path(path), {"model": checkpoint.describe(self)})

    @classmethod
    def load(cls, path: Path | str) -> "AdvALSTM":
        """The model that `save`, or a run of this script as `best.pt`, left. Raises checkpoint.CheckpointError."""
        return checkpoint.rebuild(Path(path), cls)


# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def samples(
    dataset: str, data_dir: Path, source: str, steps: int, limit: int | None, validation_from: str, test_from: str
) -> StockMovement:
    if dataset in MOVEMENT_SETS:
        return stock_movement(data_dir, dataset, source, steps, limit)
    return movement_of_prices(dataset, steps, validation_from, test_from, limit)


def load(flags: argparse.Namespace) -> StockMovement:
    return samples(
        flags.dataset, flags.data_dir, flags.source, flags.steps, flags.limit, flags.validation_from, flags.test_from
    )


def tensors(part: MovementPart) -> TensorDataset:
    return TensorDataset(part.x, part.y)


# ---- training and test -----------------------------------------------------------------------------------------------


def with_setting(flags: argparse.Namespace, model: str, first: Path | str | None = None) -> argparse.Namespace:
    """The flags of one model: published values for those that are not given. `first`: see `first_stage`."""
    published = SETTINGS.get(flags.dataset, SETTINGS["acl18"])["lstm" if model == "lstm" else "alstm"]
    values = {name: getattr(flags, name) or [getattr(published, name)] for name in ("hidden_size", *GRID)}
    if not MODELS[model].get("adversarial_training", True):
        values |= {"epsilon": [0.0], "beta": [0.0]}
    epochs = flags.epochs or EPOCHS
    steps = flags.steps or published.steps
    return grid_search.with_values(
        flags, **values, steps=steps, epochs=epochs, model=model, first=None if first is None else str(first)
    )


def build(flags: argparse.Namespace, features: int) -> AdvALSTM:
    """The model with the weights that it starts from, random ones included."""
    model = make(flags)
    return model if model.features else model.build(features)


def make(flags: argparse.Namespace) -> AdvALSTM:
    """The model, without weights if it starts from random ones."""
    model = AdvALSTM(
        flags.hidden_size,
        flags.epsilon,
        flags.beta,
        flags.learning_rate,
        flags.dropout,
        flags.l2,
        hinge=flags.loss == "hinge",
        **MODELS[flags.model],
    )
    if flags.first is not None:
        model.load_state_dict(start_weights(flags))
    return model


def start_weights(flags: argparse.Namespace) -> dict[str, Tensor]:
    """The weights that this training starts from: the published ones, those of a file, or those of the seed's ALSTM."""
    if flags.first == "published":
        return convert_published(published_variables(flags.data_dir, flags.dataset, flags.source))
    path = Path(flags.first)
    if path.is_dir():
        path = next(p for p in (path / "seeds" / str(flags.seed) / "best.pt", path / "best.pt") if p.exists())
    return AdvALSTM.load(path).state_dict()


def step(model: AdvALSTM, batch: loop.Batch) -> dict[str, Tensor]:
    return model.losses(*batch)


def train(flags: argparse.Namespace, folder: Path) -> loop.Result:
    """The epoch is chosen by the validation accuracy, for all models alike."""
    data = load(flags)
    model = build(flags, data.train.x.shape[2])
    sets = tensors(data.train), tensors(data.validation)
    return loop.train(model, step, *sets, flags, folder, monitor="accuracy", maximise=True)


def test(flags: argparse.Namespace, folder: Path) -> dict:
    """Scores of the test part with their uncertainty, and of the validation part; the hyper-parameters chosen."""
    return scores(AdvALSTM.load(folder / "best.pt"), flags)


def scores(model: AdvALSTM, flags: argparse.Namespace) -> dict:
    data = load(flags)
    tested = movement_scores.movement_scores(*directions(model, data.test), data.test.dates)
    validation = model.evaluate(data.validation.x, data.validation.y)
    return {
        "data": data.facts["data"],
        "dataset": data.facts["dataset"],
        "samples": {name: data.facts[name] for name in ("train", "validation", "test")},
        "steps": flags.steps,
        "chosen": {name: model.arguments[name] for name in ("units", *GRID)},
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "head_norm": model.head.weight.norm().item(),  # the adversarial margin is 1 + epsilon times this
        **{f"test_{name}": value for name, value in tested.items()},
        "test_predicted_up": model.predict(data.test.x).double().mean().item(),
        **{f"val_{name}": value for name, value in validation.items()},
    }


def directions(model: AdvALSTM, part: MovementPart) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and actual classes (N,)."""
    return model.predict(part.x).numpy(), part.y.numpy()


def baseline_scores(flags: argparse.Namespace) -> dict[str, dict]:
    """What needs no training: every stock goes up, or goes on as on the day before."""
    part = load(flags).test
    predicted = {"always_up": np.ones(len(part.y)), "yesterday": part.x[:, -1, ADJUSTED_CLOSE].numpy() > 0}
    found = {}
    for name, classes in predicted.items():
        scores = movement_scores.movement_scores(classes.astype(int), part.y.numpy(), part.dates)
        found[name] = {f"test_{key}": value for key, value in scores.items()}
    return found


# ---- functions -------------------------------------------------------------------------------------------------------


def train_one(flags: argparse.Namespace, folder: Path) -> dict:
    """one model, or a grid chosen on validation data; --pretrain starts from a trained ALSTM"""
    first = None if flags.starts == ["random"] else flags.starts[0]
    if first == "own":
        first = folder / "first_stage"
        grid_search.fit(with_setting(flags, "alstm"), first, train, test, GRID)
    runs = with_setting(flags, flags.model, first)
    metrics = grid_search.fit(runs, folder, train, test, GRID)
    plot_history({flags.model: folder}, folder, ("training", "validation"))
    return {**metrics, **{f"{name}_{k}": v for name, b in baseline_scores(runs).items() for k, v in b.items()}}


def compare(flags: argparse.Namespace, folder: Path) -> dict:
    """LSTM, ALSTM, Rand-ALSTM and Adv-ALSTM from each of the starts, beside two baselines, in one table"""
    metrics, alstm = baseline_scores(with_setting(flags, "alstm")), with_setting(flags, "alstm")
    starts = list(dict.fromkeys(flags.starts))
    trained = train_groups({("random", "alstm"): alstm}, folder) if {"random", "own"} & set(starts) else {}
    first = {"random": None, "own": folder / "random" / "alstm"}
    keys = [(start, name) for start in starts for name in MODELS if name != "lstm" or start == "random"]
    todo = sorted(
        (key for key in keys if row_name(*key) not in trained), key=lambda key: key[1] == "lstm"
    )  # slow: last
    trained |= train_groups({k: with_setting(flags, k[1], first.get(k[0], k[0])) for k in todo}, folder)
    for start in starts:
        if start not in first:
            metrics[row_name(start, "start")] = scores_of_start(with_setting(flags, "alstm", start))
        metrics |= {row_name(*key): trained[row_name(*key)] for key in keys if key[0] == start}
        add_gains(metrics, alstm, folder / start_folder(start), start)
    rows = comparison(metrics, flags.dataset)
    tables.write_csv(folder / "comparison.csv", rows)
    plot_comparison(metrics, folder)
    if not flags.quiet:
        print_comparison(rows)
    return metrics


def starts(flags: argparse.Namespace, folder: Path) -> dict:
    """as many ALSTMs as --seeds, each trained on as Adv-ALSTM: where the published one stands among them"""
    first = {("random", "alstm"): with_setting(flags, "alstm")}
    train_groups(first, folder)
    few = grid_search.with_values(flags, seeds=min(flags.seeds, 10))
    second = {
        ("own", "adv_alstm"): with_setting(flags, "adv_alstm", folder / "random" / "alstm"),
        ("published", "adv_alstm"): with_setting(few, "adv_alstm", "published"),
    }
    train_groups(second, folder)
    rows = {key: read_rows(folder / key[0] / key[1]) for key in (*first, *second)}
    own = {"start": rows["random", "alstm"], "after": rows["own", "adv_alstm"]}
    published = {
        "start": scores_of_start(with_setting(flags, "alstm", "published")),
        "after": rows["published", "adv_alstm"],
    }
    tables.write_csv(folder / "starts.csv", start_rows(own, published))
    percent = {name: [100 * row["test_accuracy"] for row in own[name]] for name in own}
    movement_figures.starts(
        folder / "starts.png",
        (percent["start"], percent["after"]),
        (100 * published["start"]["test_accuracy"], [100 * row["test_accuracy"] for row in published["after"]]),
        {"published Adv-ALSTM": PUBLISHED[flags.dataset]["published_adv_alstm"][0]},
    )
    return summary_of_starts(own, published) | {"data": published["start"]["data"], "dataset": flags.dataset}


def start_rows(own: dict[str, list[dict]], published: dict) -> list[dict]:
    """One row per training: accuracies and MCC of its start and of what became of it."""
    pairs = [("own", *pair) for pair in zip(own["start"], own["after"], strict=True)]
    pairs += [("published", published["start"], after) for after in published["after"]]
    keys = ("val_accuracy", "test_accuracy", "test_mcc")
    return [
        {"start": start, "seed": after["seed"]}
        | {f"start_{key}": before[key] for key in keys}
        | {f"after_{key}": after[key] for key in keys}
        for start, before, after in pairs
    ]


def summary_of_starts(own: dict[str, list[dict]], published: dict) -> dict:
    """Means and deviations of our starts and of what became of them, the published ones', and how many of ours are
    better; correlations over our trainings."""
    metrics: dict = {"seeds": len(own["start"])}
    theirs = {"start": [published["start"]], "after": published["after"]}
    for when in ("start", "after"):
        for key in ("val_accuracy", "test_accuracy", "test_mcc"):
            ours, other = ([row[key] for row in rows[when]] for rows in (own, theirs))
            metrics[f"{when}_{key}_mean"], metrics[f"{when}_{key}_std"] = (
                np.mean(ours).item(),
                np.std(ours, ddof=1).item(),
            )
            metrics[f"published_{when}_{key}"] = np.mean(other).item()
            metrics[f"{when}_{key}_share_above_published"] = np.mean(np.array(ours) > np.mean(other)).item()
    column = {f"{when} {key}": [row[f"{key}_accuracy"] for row in own[when]] for when in own for key in ("val", "test")}
    pairs = {
        "correlation_start_after": ("start test", "after test"),
        "correlation_start_val_test": ("start val", "start test"),
        "correlation_after_val_test": ("after val", "after test"),
    }
    return metrics | {name: np.corrcoef(column[a], column[b])[0, 1].item() for name, (a, b) in pairs.items()}


def row_name(start: str, model: str) -> str:
    """The name of a model's row: `adv_alstm` from random weights, `two_stage_adv_alstm`, `published_adv_alstm`, ..."""
    return STARTS[start][0] + model if start in STARTS else f"{start_folder(start)}_{model}"


def start_folder(start: str) -> str:
    """Where the trainings from this start are: its name, or that of its file."""
    return start if start in STARTS else Path(start).stem


def label(name: str) -> str:
    """How tables and figures call a row."""
    for beginning, ending in STARTS.values():
        model = name.removeprefix(beginning)
        if beginning and model != name:
            return f"{LABELS[model]}{ending}" if model in LABELS else ending.removeprefix(", from ").capitalize()
    return LABELS.get(name, name)


def train_groups(groups: dict[tuple[str, str], argparse.Namespace], folder: Path) -> dict[str, dict]:
    """Metrics per row of all seeds of each start and model, trained in parallel processes."""
    if not groups:
        return {}
    first = next(iter(groups.values()))
    tasks = [
        (grid_search.with_values(own, jobs=1, starts=None), folder / start_folder(s) / m)
        for (s, m), own in groups.items()
    ]
    tested = grid_search.all_of(train_group, first, tasks, {})
    return {row_name(*key): with_deviations(own) for key, own in zip(groups, tested, strict=True)}


def train_group(flags: argparse.Namespace, folder: Path) -> list[dict]:
    """Trains one model with all seeds together (see models.attentive_ensemble) and tests each; metrics per seed.

    Each seed's `best.pt` and `history.csv` are in `seeds/SEED`; with --resume, seeds that are there are kept.
    """
    flags = grid_search.single(flags, GRID)
    seeds = list(range(flags.seed, flags.seed + flags.seeds))
    trained, settings = folder / "trained.json", json.loads(json.dumps(loop.result_flags(flags) | {"seed": 0}))
    known = json.loads(trained.read_text()) if trained.exists() else {"settings": settings, "seconds": {}}
    if known["settings"] != settings:
        raise command_line.UsageError(f"--resume, --dry_run: {folder} was trained with other flags")
    missing = [seed for seed in seeds if str(seed) not in known["seconds"]]
    if missing and flags.dry_run:
        raise checkpoint.CheckpointError(f"--dry_run: no trained models of seeds {missing} in {folder}")
    for together in (missing[i : i + TOGETHER] for i in range(0, len(missing), TOGETHER)):
        started = time.monotonic()
        fit_seeds(flags, folder, together)
        seconds = (time.monotonic() - started) / len(together)
        known["seconds"] |= {str(seed): seconds for seed in together}
        tables.write_json(trained, known)
    rows = []
    for seed in seeds:
        training = {"seed": seed, "epochs": flags.epochs, "seconds": known["seconds"][str(seed)]}
        rows.append(training | test(flags, folder / "seeds" / str(seed)))
    tables.write_json(folder / "metrics.json", {"seeds": rows})
    return rows


def read_rows(folder: Path) -> list[dict]:
    """The metrics per seed that `train_group` left."""
    return json.loads((folder / "metrics.json").read_text())["seeds"]


def fit_seeds(flags: argparse.Namespace, folder: Path, seeds: list[int]) -> None:
    data = load(flags)
    models = [make(grid_search.with_values(flags, seed=seed)) for seed in seeds]
    told = f"{folder.parent.name} {folder.name}"

    def progress(first: int, histories: list[list[dict[str, float]]]) -> None:
        epoch = len(histories[0])
        if not flags.quiet and epoch % 10 == 0:
            accuracy = np.mean([history[-1]["val_accuracy"] for history in histories])
            of = f"seeds {seeds[first]} to {seeds[first + len(histories) - 1]}"
            print(f"{told}, {of}: epoch {epoch}/{flags.epochs}, mean validation accuracy {accuracy:.4f}", flush=True)

    validation = data.validation.x, data.validation.y
    fit_together(models, data.train.x, data.train.y, validation, flags.epochs, flags.batch_size, seeds, progress)
    for seed, model in zip(seeds, models, strict=True):
        place = folder / "seeds" / str(seed)
        place.mkdir(parents=True, exist_ok=True)
        model.save(place / "best.pt")
        tables.write_csv(place / "history.csv", model.history)


def with_deviations(results: list[dict]) -> dict:
    """The first seed's metrics, with mean and standard deviation over all seeds of every number."""
    metrics = dict(results[0])
    for key, value in results[0].items():
        if isinstance(value, float) and len(results) > 1:
            values = [result[key] for result in results]
            metrics[f"{key}_mean"], metrics[f"{key}_std"] = statistics.mean(values), statistics.stdev(values)
    return {**metrics, "seeds": len(results)}


def scores_of_start(flags: argparse.Namespace) -> dict:
    """Test metrics of the weights that a training starts from, as they are."""
    flags = grid_search.single(flags, GRID)
    return {"epochs": 0, **scores(make(flags).eval(), flags)}


def add_gains(metrics: dict[str, dict], flags: argparse.Namespace, folder: Path, start: str) -> None:
    """How much more accurate each model of a start is, over all seeds, than its ALSTM and than "always up"."""
    part = load(flags).test
    shares = {}
    for name in MODELS:
        if name != "lstm" and row_name(start, name) in metrics:
            models = [AdvALSTM.load(path) for path in sorted((folder / name / "seeds").glob("*/best.pt"))]
            shares[name] = np.mean([np.equal(*directions(model, part)) for model in models], 0)
    for name, share in shares.items():
        references = {"alstm": shares["alstm"], "always_up": part.y.numpy()}
        for other in references if name != "alstm" else ("always_up",):
            keys = (f"gain_over_{other}", f"gain_over_{other}_low", f"gain_over_{other}_high")
            values = movement_scores.gain(share, references[other], part.dates)
            metrics[row_name(start, name)] |= dict(zip(keys, values, strict=True))


def comparison(metrics: dict[str, dict], dataset: str) -> list[dict]:
    """The rows of the table: percent and MCC, mean and deviation over seeds, interval by days, published numbers."""
    rows = []
    for name, own in metrics.items():
        row = {"model": label(name), "seeds": own.get("seeds", 1)}
        for key, scale, digits in (("accuracy", 100, 2), ("mcc", 1, 4)):
            for column, source in ((key, f"test_{key}"), ("low", f"test_{key}_low"), ("high", f"test_{key}_high")):
                column = column if column == key else f"{key}_{column}"
                row[column] = round(scale * own.get(f"{source}_mean", own[source]), digits)
            row[f"{key}_std"] = round(scale * own.get(f"test_{key}_std", 0.0), digits)
        row["accuracy_sigma"] = round(100 * own["test_accuracy_sigma"], 2)
        for end in ("", "_low", "_high"):
            row[f"over_alstm{end}"] = round(100 * own[f"gain_over_alstm{end}"], 2) if "gain_over_alstm" in own else ""
        row["published_accuracy"], row["published_mcc"] = PUBLISHED.get(dataset, {}).get(name, ("", ""))
        rows.append(row)
    return rows


def print_comparison(rows: list[dict]) -> None:
    print(f"{'model':36s} {'accuracy %':>14s}  {'95 % by days':>14s} {'MCC':>18s}   published")
    for r in rows:
        accuracy = f"{r['accuracy']:.2f} ± {r['accuracy_std']:.2f}"
        interval = f"{r['accuracy_low']:.2f} .. {r['accuracy_high']:.2f}"
        published = f"{r['published_accuracy']} / {r['published_mcc']}" if r["published_mcc"] else ""
        print(f"{r['model']:36s} {accuracy:>14s}  {interval:>14s} {r['mcc']:9.4f} ± {r['mcc_std']:.4f}   {published}")


def plot_comparison(metrics: dict[str, dict], folder: Path) -> None:
    """Test accuracies with their intervals by days."""
    rows = {}
    for name, found in metrics.items():
        keys = ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
        rows[label(name)] = tuple(100 * found.get(f"{key}_mean", found[key]) for key in keys)
    level = {"always up": 100 * metrics["always_up"]["test_accuracy"]}
    plots.intervals(folder / "comparison.png", rows, "test accuracy (%), 95 % interval by days", level)


def plot_history(folders: dict[str, Path], folder: Path, parts: tuple[str, ...]) -> None:
    """Accuracy against epochs (of the first seed)."""
    series = {}
    for name, place in folders.items():
        curves = tables.read_curves(place, "accuracy")
        series |= {f"{LABELS[name]}, {part}": curves[part] for part in parts}
    if len(parts) == 1:
        series = {label.rpartition(", ")[0]: curve for label, curve in series.items()}
    dashed = [name for name in series if name.endswith("training")]
    ylabel = "accuracy" if len(parts) > 1 else f"{parts[0]} accuracy"
    plots.curves(folder / "accuracy.png", series, "epoch", ylabel, dashed=dashed)


def predict(flags: argparse.Namespace, folder: Path) -> dict:
    """predictions.csv: date, ticker, score, direction, from --checkpoint and the prices of --dataset"""
    path = flags.checkpoint or flags.output_dir / "train" / "best.pt"
    model = AdvALSTM.load(path)
    part = latest_windows(movement_table(flags.dataset, flags.data_dir, flags.source), steps_of(flags, path))
    if not len(part.x):
        raise flags.UsageError(f"--dataset: {flags.dataset} has no stock with enough complete days in a row")
    scores = model.decision_function(part.x).tolist()
    tables.write_csv(
        folder / "predictions.csv",
        [
            {"date": date, "ticker": ticker, "score": f"{score:.6g}", "direction": "up" if score > 0 else "down"}
            for date, ticker, score in zip(part.dates, part.tickers, scores, strict=True)
        ],
    )
    up = float(np.mean([score > 0 for score in scores]))
    dates = {"first_date": str(part.dates[0]), "last_date": str(part.dates[-1])}
    return {"data": flags.dataset, "rows": len(scores), "predicted_up": up, **dates, "checkpoint": str(path)}


def steps_of(flags: argparse.Namespace, path: Path) -> int:
    """Days per window: --steps, else those that the model was trained with."""
    if flags.steps:
        return flags.steps
    saved = checkpoint.load_latest(path.with_name("last.pt")) or {"flags": {}}
    if "steps" not in saved["flags"]:
        raise flags.UsageError(f"--steps: expected the days per window of {path}, which has no last.pt beside it")
    return saved["flags"]["steps"]


def plot(flags: argparse.Namespace, folder: Path) -> dict:
    """attention over days, validation accuracy against epsilon and beta, scores of clean and perturbed samples"""
    runs = {"alstm": with_setting(flags, "alstm"), "adv_alstm": with_setting(flags, "adv_alstm")}
    for name, key in (("adv_alstm", "epsilon"), ("adv_alstm", "beta")):
        for value in getattr(flags, key) or SWEEP:
            runs[f"{key}_{value:g}"] = grid_search.with_values(runs[name], **{key: [value]})
    for key in ("epsilon", "beta"):
        runs["adv_alstm"] = grid_search.with_values(runs["adv_alstm"], **{key: getattr(runs["adv_alstm"], key)[:1]})
    metrics = grid_search.fit_many(runs, folder, train, test, GRID)
    plot_sweeps(metrics, folder)
    models = {name: AdvALSTM.load(folder / name / "best.pt") for name in ("alstm", "adv_alstm")}
    data = load(runs["adv_alstm"])
    plot_attention(models, data.validation, folder)
    return {**metrics, **plot_scores(models, runs["adv_alstm"], data.validation, folder)}


def plot_sweeps(metrics: dict[str, dict], folder: Path) -> None:
    """Validation accuracy of Adv-ALSTM against epsilon and against beta, the other as it was; ALSTM's as a level,
    between two a binomial sigma away, without which noise would fill the axes."""
    accuracy = {name: found.get("val_accuracy_mean", found["val_accuracy"]) for name, found in metrics.items()}
    for key in ("epsilon", "beta"):
        values = sorted(found["chosen"][key] for name, found in metrics.items() if name.startswith(key))
        curve = ([np.log10(value) for value in values], [accuracy[f"{key}_{value:g}"] for value in values])
        sigma = movement_scores.binomial_sigma(accuracy["alstm"], metrics["alstm"]["samples"]["validation"])
        signs = {"ALSTM": 0, "one sigma above": 1, "one sigma below": -1}
        level = {name: accuracy["alstm"] + sign * sigma for name, sign in signs.items()}
        plots.curves(
            folder / f"{key}.png",
            {"Adv-ALSTM": curve},
            f"$\\log_{{10}}$ {key}",
            "validation accuracy",
            levels=level,
            markers=True,
        )


def plot_attention(models: dict[str, AdvALSTM], part: MovementPart, folder: Path) -> None:
    """Mean attention weights of the days before the predicted one."""
    days = list(range(-part.x.shape[1], 0))
    series = {LABELS[name]: (days, model.attention_weights(part.x).mean(0).tolist()) for name, model in models.items()}
    plots.curves(
        folder / "attention.png",
        series,
        "days from the predicted one",
        "mean attention weight",
        levels={"uniform": 1 / len(days)},
        markers=True,
    )


def plot_scores(models: dict[str, AdvALSTM], flags: argparse.Namespace, part: MovementPart, folder: Path) -> dict:
    """Histograms of scores on clean and adversarial validation samples; returns the accuracies on both."""
    panels, found = {}, {}
    for name, model in models.items():
        clean = model.decision_function(part.x)
        perturbed = model.perturbed_scores(part.x, part.y, flags.epsilon[0])
        panels[LABELS[name]] = {"clean": clean.numpy(), "adversarial": perturbed.numpy()}
        for kind, score in (("clean", clean), ("perturbed", perturbed)):
            found[f"{name}_{kind}_accuracy"] = ((score > 0) == (part.y > 0)).double().mean().item()
    plots.histograms(folder / "scores.png", panels, "score", "validation samples")
    return found


FUNCTIONS: dict[str, Callable] = {
    "train": train_one,
    "compare": compare,
    "starts": starts,
    "predict": predict,
    "plot": plot,
}


def main(argv: list[str] | None = None) -> dict:
    parser, groups = command_line.make_parser(
        __doc__,
        FUNCTIONS,
        hidden_size=None,
        epochs=None,
        batch_size=1024,
        learning_rate=[1e-2],
        schedule="constant",
        gradient_clipping=[0.0],
    )
    add_flags(groups)
    flags = command_line.parse(parser, argv)
    check_flags(parser, flags)
    return run_script(flags, FUNCTIONS)


def add_flags(groups: dict) -> None:
    add = groups["what to run"].add_argument
    add("--model", choices=tuple(MODELS), default="adv_alstm", help="train: which of the four")
    add("--checkpoint", type=Path, metavar="FILE", help="predict: a trained model; default: the one of train")
    add = groups["model"].add_argument
    add("--dropout", type=command_line.number(float, 0, 0.99), default=0.0, help="on the last representation")
    add = groups["training"].add_argument
    several = "several: a grid; default: as published for the data set"
    add("--epsilon", type=command_line.NOT_NEGATIVE, nargs="+", help=f"length of the perturbation; {several}")
    add("--beta", type=command_line.NOT_NEGATIVE, nargs="+", help=f"weight of the loss on perturbed samples; {several}")
    add("--l2", type=command_line.NOT_NEGATIVE, nargs="+", help=f"weight of the penalty on the last layer; {several}")
    add("--loss", choices=("hinge", "cross_entropy"), default="hinge", help="of one sample")
    add(
        "--starts",
        nargs="+",
        default=["random"],
        metavar="START",
        help="weights that training starts from: random, own (our ALSTM's), published (the authors' ALSTM's) or a file",
    )
    add = groups["data"].add_argument
    add("--dataset", default="acl18", help="acl18, kdd17, or a folder of CSV files of daily prices, one per stock")
    add("--steps", type=command_line.POSITIVE_INT, help="days per window; default: as published for the data set")
    add("--validation_from", metavar="DATE", help="first validation date of a folder's prices; default: after 70 %%")
    add("--test_from", metavar="DATE", help="first test date of a folder's prices; default: after 85 %% of the dates")


def check_flags(parser: command_line.Parser, flags: argparse.Namespace) -> None:
    if flags.dataset not in MOVEMENT_SETS:
        if not Path(flags.dataset).is_dir():
            names = ", ".join(MOVEMENT_SETS)
            parser.error(f"argument --dataset: expected {names} or a folder of CSV files, found {flags.dataset!r}")
    elif flags.validation_from or flags.test_from:
        parser.error(f"argument --validation_from, --test_from: {flags.dataset} has the published dates")
    if flags.num_layers > 1:
        parser.error(f"argument --num_layers: the published model has one layer, found {flags.num_layers}")
    if flags.starts == ["own"] and flags.hidden_size and len(flags.hidden_size) > 1:
        parser.error("argument --hidden_size: with --pretrain both stages have the same units; expected one value")


if __name__ == "__main__":
    main()
