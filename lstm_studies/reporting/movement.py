"""The tables and the figures of the stock movement study, from metrics by row name.

A row is a baseline, or a model with its initial weights: `adv_alstm` (random), `two_stage_adv_alstm` (of an ALSTM of
ours), `published_adv_alstm` (of the authors' ALSTM).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lstm_studies.evaluation.binary_scores import probabilities
from lstm_studies.evaluation.intervals import verdict
from lstm_studies.evaluation.movement_opponents import NAMES
from lstm_studies.reporting import plots
from lstm_studies.reporting.plots import COLOURS, legend_above, plt, save

LABELS = {
    "always_up": "always up",
    "yesterday": "yesterday's direction",
    "logistic_regression": "logistic regression",
    "gradient_boosting": "gradient boosting",
    "lstm": "LSTM",
    "alstm": "ALSTM",
    "rand_alstm": "Rand-ALSTM",
    "adv_alstm": "Adv-ALSTM",
}
STARTS = {"random": ("", ""), "own": ("two_stage_", "two stages"), "published": ("published_", "published weights")}
PUBLISHED = {  # accuracy in percent and MCC of the publication, Table 2; its Adv-ALSTM started from a trained ALSTM
    "acl18": {"lstm": (53.18, 0.0674), "alstm": (54.90, 0.1043), "published_adv_alstm": (57.20, 0.1483)},
    "kdd17": {"lstm": (51.62, 0.0183), "alstm": (51.94, 0.0261), "published_adv_alstm": (53.05, 0.0523)},
}

ADV_ALSTM_COLOUR = COLOURS[1]  # of Adv-ALSTM wherever ALSTM, which comes first, is beside it
RECORD = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_log_loss")
ON_VALIDATION = ("val_accuracy", "val_always_up_accuracy")  # the latter not in runs of earlier versions
MARGINS = {"test_accuracy": 0.005, "test_mcc": 0.01}  # differences within them count as none; set beforehand


def row_name(start: str, model: str) -> str:
    """Name of the row of a model, or of the initial weights (`model` "start"); with a file's, its stem comes first."""
    return f"{STARTS[start][0] if start in STARTS else f'{Path(start).stem}_'}{model}"


def label(name: str) -> str:
    """Display name of a row."""
    model = next((model for model in ("rand_alstm", "adv_alstm", "alstm", "start") if name.endswith(f"_{model}")), "")
    if name in LABELS or not model:
        return LABELS.get(name, name.replace("_", " "))
    beginning = name.removesuffix(model)
    start = dict(STARTS.values()).get(beginning, beginning.strip("_").replace("_", " "))
    return f"{start}, no training" if model == "start" else f"{LABELS[model]}, {start}"


def difference_label(name: str, other: str) -> str:
    """Display name of a difference: of two models with the same initial weights, or of one model with two."""
    (model, _, start), (other_model, _, other_start) = (label(row).partition(", ") for row in (name, other))
    if start == other_start:
        return f"{model} − {other_model}, {start or 'random weights'}"
    return f"{model}, {start} − {other_start or 'random weights'}"


# ---- table -----------------------------------------------------------------------------------------------------------


def comparison(metrics: Mapping[str, dict], dataset: str) -> list[dict]:
    """The rows of the table: accuracy in percent and MCC, mean and deviation over seeds, interval over seeds and days;
    log loss and calibration error; published numbers."""
    rows = []
    for name, own in metrics.items():
        row = {"model": label(name), "seeds": own["seeds"]}
        for key, scale, digits in (("accuracy", 100, 2), ("mcc", 1, 4)):
            row[key] = round(scale * mean_of(own, f"test_{key}"), digits)
            for end in ("low", "high"):
                row[f"{key}_{end}"] = round(scale * own[f"test_{key}_{end}"], digits)
            row[f"{key}_std"] = round(scale * own.get(f"test_{key}_std", 0.0), digits)
        row |= {key: round(mean_of(own, key), 4) for key in ("test_log_loss", "calibration_error")}
        row["published_accuracy"], row["published_mcc"] = PUBLISHED.get(dataset, {}).get(name, ("", ""))
        rows.append(row)
    return rows


def mean_of(metrics: Mapping, key: str) -> float:
    return metrics.get(f"{key}_mean", metrics[key])


def opponents_of(start: str, model: str) -> list[str]:
    """Rows that a model is compared with: ALSTM with the same initial weights, and the model with random ones."""
    return [row_name(start, "alstm"), *([row_name("random", model)] if start != "random" else [])]


def differences(metrics: Mapping[str, dict]) -> list[dict]:
    """One row per model, opponent and metric: the difference with its interval over seeds and days, and the verdict."""
    return [
        {"model": label(name), "opponent": label(other), "metric": key.removeprefix("test_"), **values}
        | {"verdict": verdict_of(key, values)}
        for name, own in metrics.items()
        for other, scores in own.get("against", {}).items()
        for key, values in scores.items()
    ]


def verdict_of(key: str, values: Mapping[str, float]) -> str:
    return verdict(values["low"], values["high"], True, MARGINS[key])


def difference_text(values: Mapping[str, float]) -> str:
    """Of a difference in accuracy: "+0.4 points [-0.1, 0.9], within noise"."""
    difference, low, high = (100 * values[name] for name in ("difference", "low", "high"))
    return f"{difference:+.1f} points [{low:.1f}, {high:.1f}], {verdict_of('test_accuracy', values)}"


def strongest(metrics: Mapping[str, dict]) -> str:
    """The simple opponent with the best test accuracy: the choice is in its favour."""
    return max(NAMES, key=lambda name: metrics[name]["test_accuracy"])


def notices(metrics: Mapping[str, dict]) -> dict[str, str]:
    """For each model whose test accuracy is below that of the strongest simple opponent, a line that says so."""
    best = strongest(metrics)
    level, lines = metrics[best]["test_accuracy"], {}
    for name, own in metrics.items():
        values = own.get("against", {}).get(best, {}).get("test_accuracy")
        if values and values["difference"] < 0:
            ours, theirs = (f"{100 * share:.1f} %" for share in (level + values["difference"], level))
            lines[name] = f"{label(name)}: {ours} on test, below {label(best)} with {theirs}: {difference_text(values)}"
    return lines


def print_comparison(rows: Sequence[dict], metrics: Mapping[str, dict]) -> None:
    """The table, and the differences in accuracy from other models and from the strongest simple opponent."""
    print(f"{'model':36s} {'accuracy %':>14s}  {'95 %':>14s} {'MCC':>18s}   published")
    for r in rows:
        accuracy = f"{r['accuracy']:.2f} ± {r['accuracy_std']:.2f}"
        interval = f"{r['accuracy_low']:.2f} .. {r['accuracy_high']:.2f}"
        published = f"{r['published_accuracy']} / {r['published_mcc']}" if r["published_mcc"] else ""
        print(f"{r['model']:36s} {accuracy:>14s}  {interval:>14s} {r['mcc']:9.4f} ± {r['mcc_std']:.4f}   {published}")
    for name, own in metrics.items():
        for other, scores in own.get("against", {}).items():
            if other not in NAMES or other == strongest(metrics):
                print(f"{label(name)} beside {label(other)}: {difference_text(scores['test_accuracy'])}")


def start_rows(start: str, rows: dict[str, list[dict]]) -> list[dict]:
    """One row per training: accuracy and MCC before and after training."""
    keys = ("val_accuracy", "test_accuracy", "test_mcc")
    return [
        {"start": start, "seed": after["seed"]}
        | {f"start_{key}": before[key] for key in keys}
        | {f"after_{key}": after[key] for key in keys}
        for before, after in zip(rows["start"], rows["after"], strict=True)
    ]


def summary_of_starts(own: dict[str, list[dict]], published: dict[str, list[dict]]) -> dict:
    """Means and deviations of our models before and after adversarial training; the published ones, and the fraction of
    ours above them; correlations over our trainings."""
    metrics: dict = {"seeds": len(own["start"]), "published_seeds": len(published["after"])}
    for when in ("start", "after"):
        for key in ("val_accuracy", "test_accuracy", "test_mcc"):
            ours, theirs = (np.array([row[key] for row in rows[when]]) for rows in (own, published))
            metrics |= {f"{when}_{key}_mean": ours.mean().item(), f"{when}_{key}_std": ours.std(ddof=1).item()}
            metrics[f"published_{when}_{key}"] = theirs.mean().item()
            metrics[f"{when}_{key}_share_above_published"] = (ours > theirs.mean()).mean().item()
    column = {f"{when} {key}": [row[f"{key}_accuracy"] for row in own[when]] for when in own for key in ("val", "test")}
    pairs = {
        "correlation_start_test_after_test": ("start test", "after test"),
        "correlation_start_val_start_test": ("start val", "start test"),
        "correlation_after_val_after_test": ("after val", "after test"),
    }
    return metrics | {name: np.corrcoef(column[a], column[b])[0, 1].item() for name, (a, b) in pairs.items()}


def refused(calibration: Mapping[str, float] | None) -> str:
    """Why validation data do not support probabilities, slope * score + intercept as logits; "" if they do."""
    if not calibration:
        return "no metrics.json beside the model has a calibration"
    if calibration["slope"] <= 0:
        return f"on validation data higher scores went with fewer ups (slope {calibration['slope']:.2g})"
    if calibration.get("gain", 1.0) <= 0:  # runs of earlier versions do not know it
        return "on validation data the scores did not lower the log loss of the share of ups"
    return ""


def record_of(own: dict, always_up: dict | None) -> dict:
    """The test of a model and, where it has an interval, of always up on the same samples.

    `plot`, `starts` and the single quarters of `quarters`, whose always up is that of all quarters, have no intervals.
    Raises LookupError, TypeError or ValueError for metrics edited by hand.
    """
    first, last = map(str, own["test_dates"])
    calibration = {
        key: float(own["calibration"][key]) for key in ("slope", "intercept", "gain") if key in own["calibration"]
    }
    if not {"slope", "intercept"} <= calibration.keys():
        raise ValueError("a calibration without slope and intercept")
    with_interval = all(key in own for key in RECORD)
    return {
        "dataset": str(own["dataset"]),
        "test_dates": [first, last],
        **{key: float(own[key]) for key in (*RECORD, *ON_VALIDATION) if key in own},
        "calibration": calibration,
        **({"always_up_test_accuracy": float(always_up["test_accuracy"])} if always_up and with_interval else {}),
    }


def prediction_notice(calibration: Mapping[str, float] | None, record: Mapping) -> dict[str, str]:
    """A notice if probabilities are refused or the model is no better than always up; {} if there is none.

    record: metrics of the model's training, those on validation data included.
    """
    notices = []
    if reason := refused(calibration):
        notices.append(f"no probabilities, since {reason}; the directions are the signs of the scores")
    if record.get("val_accuracy", 1.0) <= record.get("val_always_up_accuracy", 0.0):
        ours, theirs = (f"{100 * record[f'val_{name}']:.1f} %" for name in ("accuracy", "always_up_accuracy"))
        notices.append(f"on validation data the model is no better than always up, {ours} against {theirs}")
    return {"notice": f"NOTICE: {'; '.join(notices)}"} if notices else {}


def prediction_rows(
    dates: np.ndarray, tickers: np.ndarray, score: np.ndarray, calibration: Mapping[str, float] | None
) -> list[dict]:
    """One row per stock and date (N,). The direction is that of the probability of up or, where the calibration is
    refused and the probability is empty, of the score."""
    if refused(calibration):
        up, is_up = [""] * len(score), score > 0
    else:
        p = probabilities(calibration["slope"] * score + calibration["intercept"])
        up, is_up = [f"{value:.4f}" for value in p], p > 0.5
    return [
        {
            "date": date,
            "ticker": ticker,
            "score": f"{value:.6g}",
            "probability_up": probability,
            "direction": "up" if rises else "down",
        }
        for date, ticker, value, probability, rises in zip(dates, tickers, score.tolist(), up, is_up, strict=True)
    ]


def print_predictions(rows: Sequence[dict], metrics: Mapping) -> None:
    """Prints the newest day's predictions, and the model's accuracy on its own test part."""
    newest = [row for row in rows if row["date"] == rows[-1]["date"]]
    print(f"after {newest[0]['date']} (adjusted close: {metrics['adjusted_column']}):")
    for row in newest[:20]:
        print(f"  {row['ticker']:10s} {row['direction']:5s} score {row['score']:>10s}  p(up) {row['probability_up']}")
    if len(newest) > 20:
        print(f"  and {len(newest) - 20} more in predictions.csv")
    if metrics["without_prediction"]:
        print(f"no complete days up to then: {', '.join(metrics['without_prediction'])[:200]}")
    record = metrics["trained_on"]
    if "test_accuracy" in record:
        line = (
            f"on its own test part ({record['dataset']}, {' to '.join(record['test_dates'])}) the model was right on "
            f"{100 * record['test_accuracy']:.1f} % of the samples"
        )
        if "always_up_test_accuracy" in record:
            low, high = (f"{100 * record[f'test_accuracy_{end}']:.1f}" for end in ("low", "high"))
            line += f" (95 % by days: {low} to {high}); always up: {100 * record['always_up_test_accuracy']:.1f} %"
        print(line)


# ---- figures ---------------------------------------------------------------------------------------------------------


def accuracies(path: Path, metrics: Mapping[str, dict]) -> Path:
    """Test accuracy of every row with its interval over seeds and days."""
    ends = ("test_accuracy_low", "test_accuracy_high")
    rows = {
        label(name): (100 * mean_of(own, "test_accuracy"), *(100 * own[end] for end in ends))
        for name, own in metrics.items()
    }
    level = {"always up": 100 * metrics["always_up"]["test_accuracy"]}
    return plots.intervals(path, rows, "test accuracy (%), 95 % interval over seeds and days", level)


def plot_differences(path: Path, metrics: Mapping[str, dict]) -> Path:
    """Test accuracy gained by the perturbation and by the initial weights: differences with their intervals."""
    rows = {
        difference_label(name, other): tuple(
            100 * scores["test_accuracy"][key] for key in ("difference", "low", "high")
        )
        for name, own in metrics.items()
        for other, scores in own.get("against", {}).items()
        if other not in NAMES
    }
    margin = 100 * MARGINS["test_accuracy"]
    levels = {"no difference": 0.0, f"{margin:g} points less": -margin, f"{margin:g} points more": margin}
    return plots.intervals(path, rows, "difference in test accuracy (points), 95 % over seeds and days", levels)


def starts(path: Path, own: dict[str, list[dict]], published: dict[str, list[dict]], dataset: str) -> Path:
    """Test accuracy after adversarial training against that before, in percent: one point per training.

    own, published: metrics before ("start") and "after" it, of ALSTMs trained here and of the published one.
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    axes.axline((50, 50), slope=1, color="0.35", linestyle=":", linewidth=1.3, label="as good as before")
    level = PUBLISHED[dataset]["published_adv_alstm"][0]
    axes.axhline(level, color="0.35", linestyle="--", linewidth=1.3, label="published Adv-ALSTM")
    every_x, every_y = [], [level]
    for rows, marker, colour, name in (
        (own, "o", COLOURS[2], f"from {len(own['start'])} ALSTMs of ours"),
        (published, "D", COLOURS[3], f"from the published ALSTM, {len(published['start'])} seeds"),
    ):
        x, y = ([100 * row["test_accuracy"] for row in rows[when]] for when in ("start", "after"))
        axes.plot(x, y, marker, color=colour, markersize=4.5, alpha=0.7, label=name)
        every_x, every_y = [*every_x, *x], [*every_y, *y]
    axes.set(xlim=(min(every_x) - 0.4, max(every_x) + 0.4), ylim=(min(every_y) - 0.4, max(every_y) + 0.4))
    axes.set(xlabel="test accuracy of the ALSTM (%)", ylabel="test accuracy after adversarial training (%)")
    legend_above(axes)
    return save(figure, path)


def sweep(path: Path, key: str, metrics: Mapping[str, dict]) -> Path:
    """Validation accuracy of Adv-ALSTM against epsilon or beta (`key`), rows named `<key>_<value>`, with its deviation
    over the seeds; ALSTM's as a level."""
    rows = sorted((own["chosen"][key], own) for name, own in metrics.items() if name.startswith(f"{key}_"))
    x, accuracy, std = zip(
        *((value, 100 * mean_of(own, "val_accuracy"), 100 * own.get("val_accuracy_std", 0.0)) for value, own in rows),
        strict=True,
    )
    alstm = metrics["alstm"]
    name = "Adv-ALSTM" + (f", mean and standard deviation of {alstm['seeds']} seeds" if alstm["seeds"] > 1 else "")
    dataset = alstm["dataset"].upper() if alstm["dataset"] in PUBLISHED else alstm["dataset"]
    xlabel = {"epsilon": "epsilon, length of the perturbation", "beta": "beta, weight of the adversarial loss"}[key]
    levels = {"ALSTM": 100 * mean_of(alstm, "val_accuracy")}
    with plt.rc_context({"axes.prop_cycle": plt.cycler(color=[ADV_ALSTM_COLOUR])}):
        return plots.points(
            path, {name: (x, accuracy, std)}, xlabel, f"validation accuracy on {dataset} (%)", levels=levels, log_x=True
        )


def attention(path: Path, weights: Mapping[str, Sequence[float]]) -> Path:
    """Mean attention weights (T) of the days before the predicted one, per model."""
    steps = len(next(iter(weights.values())))
    series = {label(name): (list(range(-steps, 0)), values) for name, values in weights.items()}
    axes = "trading day, counted from the predicted one", "mean attention weight"
    return plots.curves(path, series, *axes, levels={"uniform": 1 / steps}, markers=True)


def plot_scores(path: Path, scores: Mapping[str, dict[str, np.ndarray]], y: np.ndarray) -> dict[str, dict[str, float]]:
    """Histograms of each model's scores (N,) of "clean" and "perturbed" samples; returns its accuracies on both."""
    panels = {label(name): {"clean": own["clean"], "adversarial": own["perturbed"]} for name, own in scores.items()}
    plots.histograms(path, panels, "score", "validation samples")
    return {
        name: {f"{kind}_accuracy": float(((score > 0) == (y > 0)).mean()) for kind, score in own.items()}
        for name, own in scores.items()
    }
