"""What each change of the preset `best` is worth, and how results grow with the data: the scripts' own commands.

    python benchmarks/ablations.py                        # all tables, an hour and a half of one core
    python benchmarks/ablations.py --studies vowels       # one of them; the others keep their results

The results are docs/results/ablations.json, and from it docs/results/ablations.md.
"""

import argparse
import importlib
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import RESULTS, Metric, renew

from lstm_studies.evaluation import intervals
from lstm_studies.reporting.chapters import table

ABOUT = """\
# Ablations and learning curves

What is each change of the preset `best` worth? One at a time is left out. All numbers are of **validation data**
(Japanese Vowels: of held-out folds). ± is the standard deviation over the seeds; differences from the whole recipe have
95 % intervals over seeds (Welch). Recipes run on a part of the data or of the epochs, as the commands say: what helps
there may help less, or more, in the whole. With a tenth of the epochs, for example, a constant rate beats the
cosine on the sines.

`python benchmarks/ablations.py` computes the tables again.
"""


@dataclass(frozen=True)
class Ablation:
    """One recipe of a script with the flags that take a change out of it, and the numbers of training sequences to
    learn from."""

    title: str
    command: str
    model: str  # in metrics.json
    key: str  # of the validation number
    label: str
    higher_is_better: bool
    changes: dict[str, str]  # flags by what they do
    limits: tuple[int, ...] = ()
    limit_flags: str = ""  # further flags of the learning curve


STUDIES = {
    "vowels": Ablation(
        "Japanese Vowels: plain LSTM",
        "jv_training.py --function basic --repeats 1",
        "plain",
        "cv_loss",
        "cross-entropy of held-out utterances",
        False,
        {
            "steps of length 1 instead of standardised features": "--normalization l2",
            "one direction": "--no_bidirectional",
            "no batch norm": "--batch_norm_places none",
            "no dropout": "--dropout 0",
            "no random offset of the features": "--offset 0",
            "constant learning rate": "--schedule constant",
            "batches of equal length in every epoch": "--length_shift 0",
        },
        (45, 90, 135, 180, 270),
        "--updates 600",
    ),
    "prices": Ablation(
        "S&P 500: the next day's high",
        "lstm_ae_snp500.py --function predict",
        "lstm_ae",
        "val_prediction_loss",
        "absolute error / the stock's mean daily change",
        False,
        {
            "no line: the LSTM alone": "--no_line",
            "the stock's own prices, not those of the market": "--inputs ohlcv",
            "window of 10 days": "--window 10",
            "64 units instead of 32": "--hidden_size 64",
            "five epochs instead of two": "--epochs 5",
            "constant learning rate": "--schedule constant",
        },
        (10_000, 50_000, 150_000),
        "--updates 1000",
    ),
    "digits": Ablation(
        "MNIST by rows: classes (fc)",
        "lstm_ae_mnist.py --function classify --model fc --limit 6000 --epochs 12",
        "fc",
        "val_accuracy",
        "accuracy",
        True,
        {
            "no shift of the digits": "--shift 0",
            "classes alone: no reconstruction": "--reconstruction_dominance 0",
            "no positional encoding": "--positional_harmonics 0",
            "the code is the last hidden state": "--code_size 0",
            "float32": "--precision float32",
            "constant learning rate": "--schedule constant",
        },
        (600, 2000, 6000, 20_000),
        "--updates 1100",
    ),
    "sines": Ablation(
        "Three sines in two steps, code of 16",
        "lstm_ae_toy.py --function reconstruct --no_mlp --epochs 24",
        "code16",
        "val_mse",
        "mean squared error",
        False,
        {
            "no mirrored sequences": "--no_mirror",
            "no filtered sequences": "--filtering 0",
            "no stretched sequences": "--stretch 1",
            "one layer instead of two": "--num_layers 1",
            "sigmoid output": "--output_layer sigmoid",
            "float32": "--precision float32",
            "constant learning rate": "--schedule constant",
        },
        (600, 2000, 6000),
        "--updates 550",
    ),
    "messages": Ablation(
        "$SPY messages: sentiment",
        "stocktwits_sentiment.py --function train --limit 10000",
        "lstm",
        "val_accuracy",
        "accuracy",
        True,
        {
            "no linear model beside the LSTM": "--no_linear",
            "no character n-grams": "--ngram_buckets 0",
            "word vectors start at random": "--embedding_start random",
            "no dropout of words": "--word_dropout 0",
            "the last state instead of the maximum": "--pooling last",
            "one layer instead of two": "--num_layers 1",
            "float32": "--precision float32",
        },
        (3000, 10_000, 30_000),
        "--updates 1140",
    ),
}


def number_of(study: Ablation, flags: str, seed: int) -> float:
    """The validation number of one training."""
    script, *arguments = f"{study.command} {flags}".split()
    given: dict[str, list[str]] = {}  # of a flag that is given twice, the later values hold
    for argument in arguments:
        if argument.startswith("--"):
            given[argument] = values = []
        else:
            values.append(argument)
    if "--updates" in given:  # instead of epochs
        given.pop("--epochs", None)
    words = [word for flag, values in given.items() for word in (flag, *values)]
    main = importlib.import_module(script.removesuffix(".py")).main
    with tempfile.TemporaryDirectory() as folder:
        metrics = main([*words, "--seed", str(seed), "--quiet", "--output_dir", folder])
    return metrics[study.model][study.key]


def row_of(study: Ablation, what: str, flags: str, seeds: int) -> dict:
    values = [number_of(study, flags, seed) for seed in range(seeds)]
    row = {"what": what, "flags": flags, "values": values, "mean": statistics.mean(values)}
    print(json.dumps(row), flush=True)
    return row | {"std": statistics.stdev(values)}


def difference(row: dict, whole: dict) -> dict:
    """What the row's mean is beyond the whole recipe's, with the interval over seeds."""
    variances = [(r["std"] ** 2 / len(r["values"]), len(r["values"]) - 1) for r in (row, whole)]
    middle, half = row["mean"] - whole["mean"], intervals.half_width(variances)
    return {"difference": middle, "low": middle - half, "high": middle + half}


def page(results: dict[str, dict]) -> str:
    """Markdown: two tables per study."""
    lines = [ABOUT.rstrip()]
    for result in results.values():
        metric = Metric.of(result["label"])
        lines += ["", f"## {result['title']}", "", f"`python {result['command']}`, {result['seeds']} seeds, "]
        lines[-1] += f"{result['processor']}."
        rows = [("changed", metric.label, metric.difference_label)]
        for row in result["rows"]:
            beside = ""
            if "difference" in row:
                outcome = intervals.verdict(row["low"], row["high"], result["higher_is_better"])
                beside = f"{outcome}: {metric.difference(row)}"
            rows.append((row["what"], metric.mean(row), beside))
        lines += ["", table(rows)]
        if result["curve"]:
            lines += ["", f"With `{result['limit_flags']}`, by the number of training sequences:", ""]
            rows = [(row["what"], metric.mean(row)) for row in result["curve"]]
            lines += [table([("training sequences", metric.label), *rows])]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> dict[str, dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--studies", nargs="+", choices=STUDIES, default=list(STUDIES), help="the studies to take apart"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row, at least 2 (default: 3)")
    parser.add_argument("--flags", default="", help="further flags of every training, for a quick look")
    parser.add_argument("--output_dir", type=Path, default=RESULTS, help="folder of ablations.json and ablations.md")
    given = parser.parse_args(argv)

    def section(study: Ablation) -> dict:
        whole = row_of(study, "nothing", given.flags, given.seeds)
        rows = [row_of(study, what, f"{flags} {given.flags}", given.seeds) for what, flags in study.changes.items()]
        curve = [
            row_of(study, f"{limit:,}", f"{study.limit_flags} --limit {limit} {given.flags}", given.seeds)
            for limit in study.limits
        ]
        about = {key: getattr(study, key) for key in ("title", "command", "label", "higher_is_better", "limit_flags")}
        rows = [whole, *(row | difference(row, whole) for row in rows)]
        return {**about, "seeds": given.seeds, "rows": rows, "curve": curve}

    computed = ((name, section(STUDIES[name])) for name in given.studies)
    return renew(given.output_dir, "ablations", computed, STUDIES, page)


if __name__ == "__main__":
    main()
