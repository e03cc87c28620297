"""Plain LSTM, adversarial training and the proximal LSTM beyond Japanese Vowels: five generated .ts data sets.

    python benchmarks/other_sets.py                       # about an hour of one core: docs/results/other_sets.md
    python benchmarks/other_sets.py --sets charts waves   # some of them; the others keep their results

The sets follow published recipes of synthetic benchmarks, so that nothing needs to be downloaded or licensed.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import RESULTS, Metric, renew

import jv_training
from lstm_studies.evaluation import intervals
from lstm_studies.reporting.chapters import table

TRAIN, TEST = 120, 600  # sequences, as few for training as small public sets have
ABOUT = """\
# Plain LSTM, AdvLSTM and ProxLSTM on five other data sets

Do the answers on Japanese Vowels hold elsewhere? Five synthetic sets, 120 sequences to train and 600 to test:

- **charts**: six kinds of control charts, 60 steps (Alcock and Manolopoulos 1999)
- **bells**: cylinder, bell and funnel, 128 steps (Saito 1994)
- **waves**: three classes of mixed triangular waves, 21 steps (Breiman et al. 1984)
- **patterns**: two steps up or down in either order, 128 steps (Geurts 2002)
- **chaos**: the three coordinates of the Lorenz, Rössler or Chua system with noise, 80 steps

`jv_training.py --train TRAIN.ts --test TEST.ts` with the preset `best`; one cross-validation in three parts chooses
epsilon, from .1 and 1 for AdvLSTM and from 1 and 5 for ProxLSTM. Differences are paired by sequence, with 95 %
intervals over sequences and seeds: the plain model against the better of linear discriminant analysis (lda) and the
nearest neighbour under dynamic time warping (dtw); AdvLSTM and ProxLSTM, which go on from the plain model, against that
model trained for as many further epochs. Within half a point is equivalent.

`python benchmarks/other_sets.py` computes the table again.
"""
EPSILONS = {"adversarial": ("0.1", "1"), "proximal": ("1", "5")}


# ---- data ------------------------------------------------------------------------------------------------------------


def charts(kind: int, rng: np.random.Generator) -> np.ndarray:
    """30 + 2 r(t), r uniform in [-3, 3], and a cycle, a trend or a shift."""
    t = np.arange(60.0)
    y = 30 + 2 * rng.uniform(-3, 3, 60)
    if kind == 1:
        return y + rng.uniform(10, 15) * np.sin(2 * math.pi * t / rng.uniform(10, 15))
    if kind in (2, 3):
        return y + (1 if kind == 2 else -1) * rng.uniform(0.2, 0.5) * t
    if kind in (4, 5):
        return y + (1 if kind == 4 else -1) * rng.uniform(7.5, 20) * (t >= rng.integers(20, 41))
    return y


def bells(kind: int, rng: np.random.Generator) -> np.ndarray:
    """(6 + eta) times a plateau, a rising or a falling ramp on [a, b], and standard normal noise."""
    t, a = np.arange(128.0), rng.integers(16, 33)
    b = a + rng.integers(32, 97)
    shape = (np.ones(128), (t - a) / (b - a), (b - t) / (b - a))[kind]
    return (6 + rng.normal()) * ((t >= a) & (t <= b)) * shape + rng.normal(size=128)


def waves(kind: int, rng: np.random.Generator) -> np.ndarray:
    """u h_i + (1 - u) h_j and standard normal noise, where h are triangles around steps 7, 15 and 11."""
    t = np.arange(1, 22)
    h = [np.maximum(6 - np.abs(t - center), 0) for center in (11, 15, 7)]
    i, j = ((0, 1), (0, 2), (1, 2))[kind]
    u = rng.uniform()
    return u * h[i] + (1 - u) * h[j] + rng.normal(size=21)


def patterns(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with two patterns of random places and lengths: from -5 to 5 (up) or from 5 to -5 (down)."""
    y = rng.normal(size=128)
    lengths = rng.integers(20, 41, 2)
    first = rng.integers(0, 128 - lengths.sum() - 2)
    second = rng.integers(first + lengths[0] + 1, 128 - lengths[1])
    for at, length, is_up in zip((first, second), lengths, divmod(kind, 2), strict=True):
        values = np.where(np.arange(length) < length // 2, -5.0, 5.0)
        y[at : at + length] = values if is_up else -values
    return y


def chaos(kind: int, rng: np.random.Generator) -> np.ndarray:
    """80 points of an orbit on the attractor (3, 80), standardised, with noise of .3 deviations."""

    def lorenz(x, y, z):
        return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z

    def roessler(x, y, z):
        return -y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)

    def chua(x, y, z):
        return 15.6 * (y - x - (-0.714 * x - 0.2145 * (abs(x + 1) - abs(x - 1)))), x - y + z, -28 * y

    field, step = ((lorenz, 0.02), (roessler, 0.15), (chua, 0.04))[kind]
    state, orbit, parts = np.array([0.7, 0.1, 0.2]) + 0.1 * rng.normal(size=3), [], 10
    for n in range(parts * (200 + 80)):  # Runge-Kutta of second order; the first 200 points lead to the attractor
        h = step / parts
        middle = state + h / 2 * np.array(field(*state))
        state = state + h * np.array(field(*middle))
        if n % parts == 0 and n >= parts * 200:
            orbit.append(state)
    x = np.array(orbit).T
    return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) + 0.3 * rng.normal(size=x.shape)


SETS: dict[str, tuple[Callable, int]] = {
    "charts": (charts, 6),
    "bells": (bells, 3),
    "waves": (waves, 3),
    "patterns": (patterns, 4),
    "chaos": (chaos, 3),
}


def write_ts(path: Path, name: str, count: int, seed: int) -> None:
    """A file in the .ts format of the classification archives: features separated by colons, then the class."""
    generate, classes = SETS[name]
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.arange(count) % classes)
    lines = [f"@problemName {name}", f"@classLabel true {' '.join(map(str, range(classes)))}", "@data"]
    for kind in kinds.tolist():
        features = np.atleast_2d(generate(kind, rng))
        lines.append(":".join(",".join(f"{value:.5g}" for value in feature) for feature in features) + f":{kind}")
    path.write_text("\n".join(lines) + "\n")


# ---- results ---------------------------------------------------------------------------------------------------------


def compare(name: str, seeds: int, flags: list[str]) -> list[dict]:
    """A row per model: accuracy over seeds, and the difference from the model that it is compared with."""
    with tempfile.TemporaryDirectory() as folder:
        train, test = Path(folder) / "train.ts", Path(folder) / "test.ts"
        write_ts(train, name, TRAIN, 0)
        write_ts(test, name, TEST, 1)
        given = ["--train", str(train), "--test", str(test), "--folds", "3", "--repeats", "1", "--seeds", str(seeds)]
        given += ["--output_dir", folder, "--quiet", *flags]
        metrics = jv_training.main(["--function", "basic", *given])
        plain, simple = metrics["plain"], max(("lda", "dtw"), key=lambda other: metrics[other]["test_accuracy"])
        rows = [{"model": name, "accuracy": metrics[name]["test_accuracy"]} for name in ("lda", "dtw")]
        rows.append(row("plain", plain, simple, plain["against"][simple]))
        for function, mode in (("adversarial", "AdvLSTM"), ("proximal", "ProxLSTM")):
            metrics = jv_training.main(["--function", function, *given, "--epsilon", *EPSILONS[function]])
            rows.append(
                row(
                    f"{mode}, epsilon {metrics[mode]['epsilon']:g}",
                    metrics[mode],
                    "plain",
                    metrics[mode]["against"]["plain"],
                )
            )
    for one in rows:
        print(name, json.dumps(one), flush=True)
    return rows


def row(title: str, values: dict, other: str, against: dict) -> dict:
    accuracy, std = values.get("test_accuracy_mean", values["test_accuracy"]), values.get("test_accuracy_std")
    return {"model": title, "accuracy": accuracy, "std": std, "other": other, **against["test_accuracy"]}


def page(results: dict[str, dict]) -> str:
    """Markdown: one table."""
    metric = Metric.of("accuracy")
    head = ["set", "model", metric.label, "opponent", f"its {metric.label}", metric.difference_label]
    rows = [head]
    for name, result in results.items():
        for one in result["rows"]:
            against = ["", "", ""]
            if "other" in one:
                outcome = intervals.verdict(one["low"], one["high"], True, 0.005)
                other = "plain, as many epochs" if one["other"] == "plain" else one["other"]
                theirs = metric.number(one["accuracy"] - one["difference"])
                against = [other, theirs, f"{outcome}: {metric.difference(one)}"]
            rows.append([name, one["model"], metric.mean({"mean": one["accuracy"], "std": one.get("std")}), *against])
    about = next(iter(results.values()))
    return "\n".join([ABOUT.rstrip(), "", table(rows), "", f"{about['seeds']} seeds, {about['processor']}."]) + "\n"


def main(argv: list[str] | None = None) -> dict[str, dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="the sets to compare on")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each model (default: 3)")
    parser.add_argument("--flags", default="", help="further flags of every training, for a quick look")
    parser.add_argument("--output_dir", type=Path, default=RESULTS, help="folder of other_sets.json and other_sets.md")
    given = parser.parse_args(argv)
    flags = given.flags.split()
    computed = ((name, {"seeds": given.seeds, "rows": compare(name, given.seeds, flags)}) for name in given.sets)
    return renew(given.output_dir, "other_sets", computed, SETS, page)


if __name__ == "__main__":
    main()
