"""Japanese Vowels: a plain LSTM, adversarial training and the proximal LSTM.

    python jv_training.py --seeds 10 --jobs 2                     # the whole study at its best
    python jv_training.py --preset published --seeds 10           # the models as the assignment describes them
    python jv_training.py --function adversarial --epsilon .1 1   # two perturbation lengths, and the plain model
    python jv_training.py --function basic --train MY_TRAIN.ts --test MY_TEST.ts    # a data set of your own
    python jv_training.py --function predict --data NEW.ts --checkpoint outputs/jv_training/basic/best.pt

Nine men said /ae/; a model tells them apart: 270 utterances to train, 370 to test, 12 values per step. One test error
is 0.27 %. Every choice is made by repeated stratified cross-validation on the 270; then the models of all seeds are
trained on all of them for the same number of epochs, the last epoch is kept, and the 370 are classified.

The adversarial and the proximal model start from a trained plain model, each fold's and each seed's from its own. So
does a plain model that gets the same further epochs, since the comparison would be one of budgets otherwise.
docs/jv_training.md has the protocol, the answers and a table of the names that the course uses.

Deviations from the studies it follows:
1. Public solutions train and test on JV_data.mat; 60 of its 351 test utterances are in its training set. Here that file
   is read on request only (--course_file).
2. They report the best epoch on the test data. Here the curves on test data are drawn, but choose nothing.
3. They mean to bring each step to length 1 over its features and, by a default argument, do so with each feature over
   time; they divide a gradient by F.normalize(g). Here a gradient is divided by its norm, for each sample over its
   whole sequence.
4. The adversarial and the proximal model had further epochs that the plain one had not.
"""

from dataclasses import dataclass
from pathlib import Path

from lstm_studies.training import flags
from lstm_studies.training.presets import Script, recipe
from lstm_studies.training.settings import NOT_NEGATIVE, POSITIVE_INT, Settings, UsageError, flag, number, one_of

PLACES = ("input", "convolution", "lstm")  # of dropout and batch norm, as in Classifier.py
TRAINED = ("basic", "adversarial", "proximal")  # one model each; dropout and batch_norm compare many
COMPARED = ("dropout", "batch_norm")


@dataclass(frozen=True)
class VowelSettings(Settings):
    """The flags of this script beside those of all."""

    mode: str = "plain"
    is_pretrained: bool = False  # whether the training starts from a plain model
    models: int = 1  # trained as one stack: the seeds

    num_layers: int = flag(1, "", "model", refused="the proximal LSTM and those beside it have one layer")
    gradient_clipping: float = flag(0.0, "", "training", refused="models trained as one stack have no common norm")
    method: str = flag(
        "cg", "", "model", refused="stacked models use conjugate gradients; in your own code, ProxLSTM(method=...)"
    )
    patience: int = flag(0, "", "training", refused="the last epoch is kept: no data are left to choose one")

    channels: int = flag(64, "channels of the convolution", "model", POSITIVE_INT)
    kernel_size: int = flag(3, "steps that the convolution sees at a time", "model", POSITIVE_INT)
    stride: int = flag(1, "steps between two places of the convolution", "model", POSITIVE_INT)
    normalization: str = flag(
        "standard",
        "input scaling: standard, mean 0 and deviation 1 of each feature; l2, each step of length 1",
        "model",
        one_of("standard", "l2"),
        metavar="{standard,l2}",
    )
    bidirectional: bool = flag(True, "an LSTM in each direction", "model")
    dropout: float = flag(0.4, "dropout rate at --dropout_places", "model", number(float, 0, 0.99), several="grid")
    dropout_places: tuple[str, ...] = flag(
        ("lstm",),
        "where dropout acts: input (before the convolution), convolution (after its ReLU), lstm (before the last "
        "layer), or none",
        "model",
        one_of(*PLACES, "none"),
        several="list",
        functions=(*TRAINED, "batch_norm"),
    )
    batch_norm_places: tuple[str, ...] = flag(
        ("convolution",),
        "where batch norm acts, out of the same; none",
        "model",
        one_of(*PLACES, "none"),
        several="list",
        functions=(*TRAINED, "dropout"),
    )
    noise: float = flag(
        0.0, "standard deviation of Gaussian noise on every input value, in training", "model", NOT_NEGATIVE,
        several="grid",
    )  # fmt: skip
    offset: float = flag(
        0.3,
        "standard deviation of a random constant added to each normalised feature of an utterance, in training",
        "model",
        NOT_NEGATIVE,
        several="grid",
    )
    epsilon: float = flag(
        1.0,
        "adversarial: length of the perturbation of a sequence; proximal: weight of the proximal problem",
        "model",
        NOT_NEGATIVE,
        several="each",
        functions=("adversarial", "proximal"),
    )
    adversarial_epsilon: float = flag(
        0.3, "epsilon of AdvLSTM in the comparison of places", "model", NOT_NEGATIVE, functions=COMPARED
    )
    proximal_epsilon: float = flag(
        1.0, "epsilon of ProxLSTM in the comparison of places", "model", NOT_NEGATIVE, functions=COMPARED
    )

    folds: int = flag(5, "folds of the cross-validation", "training", number(int, 2, 100))
    repeats: int = flag(5, "repeats of the cross-validation, each with other folds", "training", POSITIVE_INT)
    length_shift: float = flag(
        3.0,
        "largest random shift, in steps, before sorting by length into batches: other batches in every epoch",
        "training",
        NOT_NEGATIVE,
    )
    pretrained: Path | None = flag(
        None,
        "plain model to start from, a checkpoint or the folder of a run of basic; default: that of <output_dir>/basic "
        "if it fits, else one trained for the purpose",
        "training",
        Path,
        functions=("adversarial", "proximal"),
        metavar="PATH",
    )
    basic_epochs: int = flag(
        60, "epochs of the plain model to start from", "training", POSITIVE_INT, functions=("adversarial", "proximal")
    )

    course_file: bool = flag(False, "JV_data.mat, whose test part leaks", "data", trains=True)
    train: Path | None = flag(None, "training data of your own, a .ts file", "data", Path, trains=True, metavar="FILE")
    test: Path | None = flag(None, "test data of your own, a .ts file", "data", Path, trains=True, metavar="FILE")
    data: Path | None = flag(
        None, "sequences to classify, a .ts file", "data", Path, functions=("predict",), metavar="FILE"
    )
    checkpoint: Path | None = flag(
        None, "trained model, the best.pt of a run", "data", Path, functions=("predict",), metavar="FILE"
    )

    def check(self) -> None:
        if (self.train is None) != (self.test is None):
            missing = "--train" if self.train is None else "--test"
            raise UsageError(f"{missing}: expected together with the other one, --train FILE.ts --test FILE.ts")
        if self.train and (self.course_file or self.source != "auto"):
            given = "--course_file" if self.course_file else f"--source {self.source}"
            raise UsageError(f"--train: a data set of your own, expected without {given}")
        for name in ("data", "checkpoint"):
            if self.function == "predict" and getattr(self, name) is None:
                raise UsageError(f"--{name}: expected a file; predict needs --data FILE.ts and --checkpoint FILE.pt")
        for name in ("dropout_places", "batch_norm_places"):
            if "none" in getattr(self, name) and len(getattr(self, name)) > 1:
                raise UsageError(f"--{name}: expected none alone, or places, found {' '.join(getattr(self, name))}")


PLAIN = {  # the models of the assignment, on steps of length 1
    "normalization": "l2",
    "bidirectional": False,
    "dropout_places": ("none",),
    "batch_norm_places": ("none",),
    "dropout": 0.0,
    "offset": 0.0,
}
PRESETS = {
    "best": [
        recipe(batch_size=27, learning_rate=3e-3, epochs=60),
        recipe({"function": "basic"}, minutes=2),
        recipe({"function": ("adversarial", "proximal")}, epochs=30, repeats=2),
        recipe({"function": "adversarial"}, minutes=15, epsilon=(0.01, 0.1, 0.3, 1.0, 3.0)),
        recipe({"function": "proximal"}, minutes=60, epsilon=(0.1, 1.0, 5.0, 20.0, 100.0)),
        recipe({"function": COMPARED}, minutes=60, repeats=1),
    ],
    "published": [
        recipe(batch_size=27, learning_rate=1e-3, schedule="constant", epochs=60, **PLAIN),
        recipe({"function": "basic"}, minutes=4),
        recipe({"function": "adversarial"}, minutes=15, epochs=50, repeats=2, epsilon=(0.01, 0.1, 0.3, 1.0, 3.0)),
        recipe({"function": "proximal"}, minutes=60, epochs=100, repeats=1, epsilon=(0.1, 1.0, 5.0, 20.0, 100.0)),
        recipe({"function": COMPARED}, minutes=25, repeats=1, dropout=0.3),
        recipe({"function": "batch_norm"}, dropout_places=("lstm",)),
    ],
    "quick": [  # no minutes: some seconds each
        recipe(batch_size=27, learning_rate=3e-3, epochs=10, basic_epochs=10, folds=2, repeats=1, hidden_size=32),
        recipe({"function": "adversarial"}, epsilon=(0.1, 1.0)),
        recipe({"function": "proximal"}, epsilon=(0.1, 1.0)),
    ],
}
SCRIPT = Script(
    __file__,
    __doc__,
    {
        "basic": "the plain model, trained from scratch: accuracy and loss against epochs",
        "adversarial": "AdvLSTM for every epsilon and a plain model of the same budget, both from the basic one",
        "proximal": "ProxLSTM for every epsilon and a plain model of the same budget, both from the basic one",
        "dropout": "dropout at each place and at all, in the three modes, trained from scratch",
        "batch_norm": "batch norm at each place, at all, and with dropout, in the three modes, trained from scratch",
        "robustness": "accuracy of the models of adversarial and proximal on attacked, noisy and shortened utterances",
        "predict": "classes and probabilities of the sequences in a .ts file, by a trained model",
    },
    VowelSettings,
    PRESETS,
    trains=(*TRAINED, *COMPARED),
    whole_study=(*TRAINED, *COMPARED, "robustness"),
)
if __name__ == "__main__":
    flags.parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import dataclasses
import functools
import hashlib
import json
import statistics

import filelock
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from Classifier import LSTMClassifier
from lstm_studies.evaluation.binary_scores import binomial_sigma
from lstm_studies.loaders.ts_files import Sequences, Split, StackedSequences, read_ts, stratified_folds, ts_split
from lstm_studies.loaders.vowels import japanese_vowels
from lstm_studies.models import robustness as robust
from lstm_studies.models.classifier_stack import ClassifierStack
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, grid_search, loop, tables
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script

RADII = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of a perturbation of v, in norms of v
RADII_OF_SEVERAL_STEPS, STEPS = (0.0, 0.1, 0.2, 0.3), 5  # of projected gradient ascent
NOISES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # standard deviations of noise on the input
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the steps of an utterance
ROBUSTNESS_SEEDS = 5  # of which models are tested, at most: with a large epsilon the attacks of ten take an hour


# ---- data and model --------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def read_split(data_dir: Path, source: str, limit: int | None, course_file: bool, *own: Path | None) -> Split:
    return ts_split(*own, limit) if all(own) else japanese_vowels(data_dir, source, limit, course_file)


def load(settings: VowelSettings | Request) -> Split:
    names = ("data_dir", "source", "limit", "course_file", "train", "test")
    return read_split(*(getattr(settings, name) for name in names))


def new_model(settings: VowelSettings, data: Split, part: Sequences, seed: int) -> LSTMClassifier:
    """A model with the start of `seed`, scaled to the training sequences `part`."""
    shortest = int(min(data.train.lengths.min(), data.test.lengths.min()))
    if settings.kernel_size > shortest:
        raise UsageError(f"--kernel_size: expected at most {shortest}, the steps of the shortest sequence")
    torch.manual_seed(seed)
    model = LSTMClassifier(
        input_size=part.values[0].shape[1],
        hidden_size=settings.hidden_size,
        classes=len(data.classes),
        channels=settings.channels,
        kernel_size=settings.kernel_size,
        stride=settings.stride,
        mode=settings.mode,
        epsilon=settings.epsilon if settings.mode != "plain" else 0.0,
        normalization=settings.normalization,
        bidirectional=settings.bidirectional,
        noise=settings.noise,
        offset=settings.offset,
        dropout=settings.dropout,
        dropout_places=places(settings.dropout_places),
        batch_norm_places=places(settings.batch_norm_places),
        class_names=data.classes,
    )
    if settings.normalization == "standard":
        model.set_scale(torch.cat(part.values))
    return model


def places(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name != "none")


def step(stack: ClassifierStack, batch: loop.Batch) -> dict[str, Tensor]:
    """Means over the models; the gradient is that of the sum of their losses, each model's own as if it were alone."""
    losses, logits = stack.loss(*batch)
    total, labels = losses.sum(), batch[2]
    right = (logits.argmax(2) == labels).sum() / (labels >= 0).sum()
    return {"loss": total - total.detach() + losses.mean().detach(), "accuracy": right}


# ---- training --------------------------------------------------------------------------------------------------------


def train(settings: VowelSettings, folder: Path) -> loop.Result:
    """The models of all seeds on all training sequences; `history.csv` also has their test accuracy by epoch."""
    data = load(settings)
    starts = starting_models(settings, "seeds") if settings.is_pretrained else None
    return train_stack(settings, folder, data, [data.train] * settings.models, [data.test] * settings.models, starts)


def train_stack(
    settings: VowelSettings,
    folder: Path,
    data: Split,
    parts: list[Sequences],
    watched: list[Sequences],
    starts: list[LSTMClassifier] | None,
) -> loop.Result:
    """One model per part, from the weights of `starts` or from scratch; the last epoch is kept.

    The loop evaluates `watched` after each epoch for the curves. It would keep the best epoch on them: `best.pt` is
    replaced by the last one.
    """
    models = [new_model(settings, data, part, settings.seed + m) for m, part in enumerate(parts)]
    for model, start in zip(models, starts or [], strict=False):
        load_start(model, start)
    stack = ClassifierStack.of(models)
    torch.manual_seed(settings.seed)  # of dropout and noise
    training = StackedSequences(parts)
    batches = functools.partial(training.batches_by_length, settings.length_shift)
    result = loop.train(stack, step, training, StackedSequences(watched), settings, folder, batches=batches)
    keep_last_epoch(folder)
    return loop.Result(float("nan"), False, settings.epochs, settings.epochs, result.seconds)


def load_start(model: LSTMClassifier, start: LSTMClassifier) -> None:
    try:
        model.load_state_dict(start.state_dict())
    except RuntimeError:
        raise CheckpointError("--pretrained: the model has other sizes, normalization or batch norm") from None


def keep_last_epoch(folder: Path) -> None:
    saved = checkpoint.load(folder / "last.pt")
    averaged = {"weights": saved["averaged"]} if "averaged" in saved else {}
    checkpoint.save(folder / "best.pt", {"model": {**saved["model"], **averaged}, "epoch": saved["epoch"]})


def starting_models(settings: VowelSettings, kind: str) -> list[LSTMClassifier]:
    """The plain models to start from, those of the "seeds" or of the "folds" of the cross-validation.

    They are the ones of --pretrained (for the seeds), or of a run of `basic` with the same settings, or are trained
    here, once for all trainings that need them.
    """
    if settings.pretrained and kind == "seeds":
        return read_pretrained(settings.pretrained, settings)
    start = dataclasses.replace(
        settings, mode="plain", epsilon=0.0, epochs=settings.basic_epochs, is_pretrained=False, pretrained=None
    )
    needed, irrelevant = {
        "seeds": ("models", {"repeats", "folds"}),
        "folds": ("repeats", {"models"}),
    }[kind]
    irrelevant |= {"epsilon", "adversarial_epsilon", "proximal_epsilon", "basic_epochs", "pretrained", needed}
    wanted = {name: value for name, value in flags.deciding(start).items() if name not in irrelevant}
    count = settings.models if kind == "seeds" else settings.repeats * settings.folds
    basic = settings.output_dir / "basic" / {"seeds": "", "folds": "folds"}[kind]
    trained = settings_of_trained(basic)
    if wanted.items() <= trained.items() and trained[needed] >= getattr(settings, needed):
        return checkpoint.rebuild(basic / "best.pt", ClassifierStack).unstack()[:count]
    digest = hashlib.sha256(json.dumps([wanted, count], sort_keys=True).encode()).hexdigest()[:8]
    folder = settings.output_dir / "starts" / f"{kind}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):  # of several trainings that need it, the first one trains it
        if not settings_of_trained(folder):
            start = dataclasses.replace(start, resume=True, quiet=True)
            train(start, folder) if kind == "seeds" else train_folds(start, folder)
    return checkpoint.rebuild(folder / "best.pt", ClassifierStack).unstack()


def settings_of_trained(folder: Path) -> dict:
    """The settings that decided the training in `folder`, none if none has ended there."""
    if not (folder / "best.pt").exists() or not (folder / "last.pt").exists():
        return {}
    saved = checkpoint.load(folder / "last.pt")
    return saved["flags"] if saved["epoch"] == saved["flags"]["epochs"] else {}


def read_pretrained(path: Path, settings: VowelSettings) -> list[LSTMClassifier]:
    """One model per seed: those of a run of `basic` with as many, or one model for all."""
    file = path / "best.pt" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"--pretrained: no checkpoint at {path}, nor a run of basic with one")
    model = checkpoint.rebuild(file, ClassifierStack, LSTMClassifier)
    models = model.unstack() if isinstance(model, ClassifierStack) else [model] * settings.models
    if len(models) < settings.models:
        raise CheckpointError(f"--pretrained: {file}: expected models of {settings.models} seeds, found {len(models)}")
    return models[: settings.models]


# ---- cross-validation ------------------------------------------------------------------------------------------------


def cross_validate(settings: VowelSettings, folder: Path) -> loop.Result:
    """Cross-entropy of the held-out sequences after the last epoch; `cv.json` has it and the accuracy with errors.

    The accuracy would be too coarse a score: it knows 270 steps, and most candidates are within two or three of them.
    """
    seconds = train_folds(settings, folder / "folds").seconds
    scores = held_out_scores(settings, checkpoint.rebuild(folder / "folds" / "best.pt", ClassifierStack))
    tables.write_json(folder / "cv.json", {"epsilon": settings.epsilon, **scores})
    return loop.Result(scores["cv_loss"], False, settings.epochs, settings.epochs, seconds)


def train_folds(settings: VowelSettings, folder: Path) -> loop.Result:
    """One model per repeat and fold, on the sequences outside of the fold."""
    data = load(settings)
    held = held_out(settings, data.train)
    everything = torch.ones(len(data.train), dtype=torch.bool)
    parts = [data.train.select(torch.nonzero(everything.index_fill(0, fold, False)).flatten()) for fold in held]
    starts = starting_models(settings, "folds") if settings.is_pretrained else None
    return train_stack(settings, folder, data, parts, [data.train.select(fold) for fold in held], starts)


def held_out(settings: VowelSettings, data: Sequences) -> list[Tensor]:
    """Indices of the sequences in each fold of each repeat."""
    rarest = int(data.labels.bincount().min())
    if settings.folds > rarest:
        raise UsageError(f"--folds: expected at most {rarest}, as many as the rarest class has, found {settings.folds}")
    repeats = [stratified_folds(data.labels, settings.folds, 1000 * settings.seed + r) for r in range(settings.repeats)]
    return [torch.nonzero(folds == k).flatten() for folds in repeats for k in range(settings.folds)]


@torch.no_grad()
def held_out_scores(settings: VowelSettings, stack: ClassifierStack) -> dict[str, float]:
    """Means over sequences and repeats; errors are those of a mean over sequences, whose repeats are averaged first."""
    data = load(settings).train
    losses, right = torch.zeros(2, settings.repeats, len(data), dtype=torch.float64)
    for m, (model, fold) in enumerate(zip(stack.unstack(), held_out(settings, data), strict=True)):
        x, lengths, labels = data[fold]
        logits = model(x, lengths)
        losses[m // settings.folds, fold] = cross_entropy(logits, labels, reduction="none").double()
        right[m // settings.folds, fold] = (logits.argmax(1) == labels).double()
    scores = {}
    for name, values in (("cv_loss", losses), ("cv_accuracy", right)):
        error = values.mean(0).std() / len(data) ** 0.5
        scores |= {name: values.mean().item(), f"{name}_error": error.item()}
    return scores


# ---- test ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test(settings: VowelSettings, folder: Path) -> dict:
    """Accuracy on the test sequences of each seed's model, their mean and vote, and the majority class's."""
    data, stack = load(settings), checkpoint.rebuild(folder / "best.pt", ClassifierStack)
    x, lengths, labels = data.test.all()
    logits = stack(*(tensor.expand(settings.models, *tensor.shape) for tensor in (x, lengths)))  # (M, N, K)
    losses = [cross_entropy(one, labels).item() for one in logits]
    accuracies = robust.accuracy(logits, labels).tolist()
    metrics = {
        "data": data.metadata["data"],
        "split": data.metadata["split"],
        "mode": settings.mode,
        "epsilon": stack.stacked.epsilon,
        "seeds": settings.models,
        "best_epoch": settings.epochs,  # the last one
        "parameters": sum(p[0].numel() for p in stack.parameters()),
        "test_accuracy": accuracies[0],
        "test_loss": losses[0],
        "test_accuracy_sigma": binomial_sigma(statistics.mean(accuracies), len(data.test)),
        "vote_accuracy": (logits.softmax(2).mean(0).argmax(1) == labels).double().mean().item(),
        "majority_accuracy": (labels == data.train.labels.bincount().argmax()).double().mean().item(),
    }
    if settings.models > 1:
        for name, values in (("test_accuracy", accuracies), ("test_loss", losses)):
            metrics |= {f"{name}_mean": statistics.mean(values), f"{name}_std": statistics.stdev(values)}
    return metrics


def fit(requests: dict[str, Request], folder: Path) -> dict[str, dict]:
    """Each request's hyper-parameters by cross-validation, then the models of all seeds; metrics of both."""
    stacks = {name: request.with_values(models=request.seeds, seeds=1) for name, request in requests.items()}
    metrics = grid_search.fit_many(stacks, folder, train, test, score=cross_validate)
    for name, path in grid_search.model_folders(requests, folder).items():
        metrics[name] |= {key: value for key, value in chosen_cv(path)[1].items() if key != "epsilon"}
        if not requests[name].quiet:
            print(f"{name}: {describe(metrics[name])}")
    return metrics


def chosen_cv(folder: Path) -> tuple[Path, dict[str, float]]:
    """The cross-validation of the chosen combination: its folder and its scores."""
    scores = {path.parent: json.loads(path.read_text()) for path in folder.glob("grid/**/cv.json")}
    return min(scores.items(), key=lambda item: item[1]["cv_loss"])


def mean_and_std(metrics: dict) -> tuple[float, float]:
    """Test accuracy over the seeds; of a single one, with the binomial standard deviation of a test."""
    std = metrics.get("test_accuracy_std", metrics["test_accuracy_sigma"])
    return metrics.get("test_accuracy_mean", metrics["test_accuracy"]), std


def describe(metrics: dict) -> str:
    mean, std = mean_and_std(metrics)
    return (
        f"cross-validation {metrics['cv_loss']:.4f} ± {metrics['cv_loss_error']:.4f}, {metrics['cv_accuracy']:.2%}; "
        f"test {mean:.2%} ± {std:.2%}, vote {metrics['vote_accuracy']:.2%}"
    )


# ---- figures ---------------------------------------------------------------------------------------------------------

TEST_PANEL = "test data (this curve chooses nothing)"
CV_PANEL = "held-out folds (their last cross-entropy chooses)"


def curve(folder: Path, part: str, key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of "accuracy", "loss" or "error", one minus the accuracy, of "train" or "val" data."""
    history = tables.read_table(folder / "history.csv")
    values = [row[f"{part}_{'accuracy' if key == 'error' else key}"] for row in history]
    return [row["epoch"] for row in history], [1 - value for value in values] if key == "error" else values


def plot_training(folder: Path) -> None:
    """Accuracy, error rate and cross-entropy against epochs: of training and test data, and in cross-validation."""
    folds = chosen_cv(folder)[0] / "folds"
    for key, label in (("accuracy", "accuracy"), ("error", "error rate"), ("loss", "cross-entropy")):
        rows = {
            f"unseen: {TEST_PANEL}": {"training": curve(folder, "train", key), "unseen": curve(folder, "val", key)},
            f"unseen: {CV_PANEL}": {"training": curve(folds, "train", key), "unseen": curve(folds, "val", key)},
        }
        plots.panels(folder / f"{key}.png", rows, "epoch", label, log=key != "accuracy")


def plot_comparison(folders: dict[str, Path], path: Path) -> None:
    """Test accuracy and accuracy in cross-validation against epochs, a line per model."""
    rows = {
        TEST_PANEL: {name: curve(f, "val", "accuracy") for name, f in folders.items()},
        CV_PANEL: {name: curve(chosen_cv(f)[0] / "folds", "val", "accuracy") for name, f in folders.items()},
    }
    plots.panels(path, rows, "epoch", "accuracy")


def plot_epsilons(metrics: dict[str, dict], path: Path) -> None:
    """Accuracy against epsilon on test data and in cross-validation, beside that of the plain model on test data."""
    rows = sorted((m for m in metrics.values() if m["epsilon"] > 0), key=lambda m: m["epsilon"])
    x = [row["epsilon"] for row in rows]
    means, stds = zip(*map(mean_and_std, rows), strict=True)
    folds = [row["cv_accuracy"] for row in rows], [row["cv_accuracy_error"] for row in rows]
    series = {
        "test, mean and standard deviation of the seeds": (x, means, stds),
        "cross-validation, standard error": (x, *folds),
    }
    levels = {"plain from the same start, test": mean_and_std(metrics["plain"])[0]}
    plots.points(path, series, "ε", "accuracy", levels=levels, log_x=True)


# ---- functions -------------------------------------------------------------------------------------------------------


def basic(request: Request, folder: Path) -> dict:
    """Trains the plain model from scratch."""
    metrics = fit({"plain": request}, folder)["plain"]
    copy_folds(chosen_cv(folder)[0] / "folds", folder / "folds")
    plot_training(folder)
    return metrics


def copy_folds(source: Path, folder: Path) -> None:
    """The cross-validation's models of the chosen combination, from which those of the other functions start."""
    folder.mkdir(exist_ok=True)
    grid_search.copy_up(source, folder)


def adversarial(request: Request, folder: Path) -> dict:
    """Trains AdvLSTM for every epsilon, and a plain model of the same budget."""
    return compare(request, folder, "AdvLSTM")


def proximal(request: Request, folder: Path) -> dict:
    """Trains ProxLSTM for every epsilon, and a plain model of the same budget."""
    return compare(request, folder, "ProxLSTM")


def compare(request: Request, folder: Path, mode: str) -> dict:
    """Metrics of the plain model, of every epsilon, and of the epsilon that cross-validation chose as `mode`."""
    request = request.with_values(is_pretrained=True)
    requests = {"plain": request.with_values(mode="plain", epsilon=0.0)}
    for epsilon in dict.fromkeys(request.epsilon):
        requests[f"epsilon{epsilon:g}"] = request.with_values(mode=mode, epsilon=epsilon)
    metrics = fit(requests, folder)
    chosen = min((name for name in metrics if name != "plain"), key=lambda name: metrics[name]["cv_loss"])
    write_epsilons(metrics, folder)
    names = {"plain": "plain from the same start"}
    names |= {name: f"{mode} ε = {metrics[name]['epsilon']:g}" for name in metrics if name != "plain"}
    names[chosen] += " (chosen)"
    shown = [name for name in metrics if name in shown_epsilons(metrics, chosen)]
    plot_comparison({names[name]: folder / name for name in shown}, folder / "accuracy.png")
    if len(metrics) > 2:
        plot_epsilons(metrics, folder / "epsilon.png")
    return {"plain": metrics["plain"], mode: metrics[chosen], **{n: m for n, m in metrics.items() if n != "plain"}}


def shown_epsilons(metrics: dict[str, dict], chosen: str) -> set[str]:
    """At most seven models in one figure: the plain one, the chosen one, and the others from the smallest epsilon."""
    others = [name for name in metrics if name not in ("plain", chosen)]
    return {"plain", chosen, *others[:5]}


def write_epsilons(metrics: dict[str, dict], folder: Path) -> None:
    rows = []
    for name, values in metrics.items():
        mean, std = mean_and_std(values)
        scores = {key: round(values[key], 5) for key in values if key.startswith("cv_")}
        row = {"model": name, "epsilon": values["epsilon"], **scores, "test_accuracy": round(mean, 5)}
        rows.append({**row, "test_accuracy_std": round(std, 5), "vote_accuracy": round(values["vote_accuracy"], 5)})
    tables.write_csv(folder / "epsilon.csv", rows)


def dropout(request: Request, folder: Path) -> dict:
    """Trains every mode with dropout at each place and at all, and without."""
    rate = max(request.dropout) or 0.3
    rows = {"no dropout": {"dropout": [0.0], "dropout_places": ("none",)}}
    rows |= {f"dropout {place}": {"dropout": [rate], "dropout_places": (place,)} for place in PLACES}
    return by_place(request, folder, {**rows, "dropout all": {"dropout": [rate], "dropout_places": PLACES}})


def batch_norm(request: Request, folder: Path) -> dict:
    """Trains every mode with batch norm at each place and at all, without, and with dropout beside it."""
    rate = max(request.dropout) or 0.3
    off = {"dropout": [0.0]}
    rows = {"no batch norm": {"batch_norm_places": ("none",), **off}}
    rows |= {f"batch norm {place}": {"batch_norm_places": (place,), **off} for place in PLACES}
    rows |= {"batch norm all": {"batch_norm_places": PLACES, **off}}
    both = {"batch_norm_places": ("convolution",), "dropout": [rate]}
    return by_place(request, folder, {**rows, "batch norm convolution and dropout": both})


def by_place(request: Request, folder: Path, rows: dict[str, dict]) -> dict:
    """Trains each mode with the values of each row; test accuracy by mode and place."""
    epsilons = {"plain": 0.0, "AdvLSTM": request.adversarial_epsilon, "ProxLSTM": request.proximal_epsilon}
    requests = {
        f"{mode}, {row}": request.with_values(mode=mode, epsilon=epsilon, **values)
        for mode, epsilon in epsilons.items()
        for row, values in rows.items()
    }
    metrics = fit(requests, folder)
    intervals = {}
    for name, values in metrics.items():
        mean, std = mean_and_std(values)
        intervals[name] = mean, mean - std, mean + std
    plots.intervals(folder / "places.png", intervals, "test accuracy (mean and standard deviation of the seeds)", {})
    panels = {}
    for mode in epsilons:
        folders = {row: chosen_cv(folder / f"{mode}, {row}")[0] / "folds" for row in rows}
        panels[f"{mode}, held-out folds"] = {row: curve(path, "val", "error") for row, path in folders.items()}
    plots.panels(folder / "error.png", panels, "epoch", "error rate", log=True)
    return metrics


# ---- robustness ------------------------------------------------------------------------------------------------------


def robustness(request: Request, folder: Path) -> dict:
    """Tests the models of adversarial and proximal on perturbed, noisy, shortened and incomplete sequences."""
    models = trained_models(request.output_dir)
    batch = load(request).test.all()

    def each(accuracies, *arguments):
        return lambda models, sizes: torch.stack([accuracies(models, batch, size, *arguments) for size in sizes])

    missing = tuple(round(1 - share, 2) for share in SHARES)
    tests = {
        "attack": (RADII, lambda models, radii: robust.accuracies_under_attack(models, batch, radii, 1)),
        f"attack_{STEPS}_steps": (
            RADII_OF_SEVERAL_STEPS,
            lambda models, radii: robust.accuracies_under_attack(models, batch, radii, STEPS),
        ),
        "noise": (NOISES, each(robust.accuracies_under_noise, request.seed)),
        "first_share": (SHARES, each(robust.accuracies_cut_short)),
        "missing_share": (missing, each(robust.accuracies_with_steps_missing, request.seed)),
    }
    metrics, lines = {"data": load(request).metadata["data"]}, {name: {} for name in tests}
    for model, path in models.items():
        trained = checkpoint.rebuild(path, ClassifierStack).unstack()[:ROBUSTNESS_SEEDS]
        metrics[model] = {"seeds": len(trained), "epsilon": trained[0].epsilon}
        label = f"{model} ε = {trained[0].epsilon:g} (chosen)" if model in ("AdvLSTM", "ProxLSTM") else model
        for name, (sizes, accuracies) in tests.items():
            found = accuracies(trained, sizes)  # (R, M)
            lines[name][label] = sizes, found.mean(1).tolist()
            for size, values in zip(sizes, found, strict=True):
                metrics[model][f"accuracy_{name}_{size:g}"] = values.mean().item()
                if len(values) > 1:
                    metrics[model][f"accuracy_{name}_{size:g}_std"] = values.std().item()
    plot_robustness(lines, folder)
    return metrics


def trained_models(output_dir: Path) -> dict[str, Path]:
    """Checkpoints of the plain model and of every epsilon of both methods; the chosen ones under the method's name."""
    models = {"plain": output_dir / "proximal" / "plain" / "best.pt"}
    for function, mode in (("adversarial", "AdvLSTM"), ("proximal", "ProxLSTM")):
        try:
            metrics = json.loads((output_dir / function / "metrics.json").read_text())
            chosen = metrics[mode]["epsilon"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(
                f"--function robustness: no trained models in {output_dir / function}; "
                "run adversarial and proximal first, with the same --output_dir"
            ) from None
        models[mode] = output_dir / function / f"epsilon{chosen:g}" / "best.pt"
        for name in metrics:
            if name.startswith("epsilon") and metrics[name]["epsilon"] != chosen:
                models[f"{mode} ε = {metrics[name]['epsilon']:g}"] = output_dir / function / name / "best.pt"
    return models


def plot_robustness(lines: dict[str, dict[str, tuple]], folder: Path) -> None:
    labels = {
        "attack": "norm of the perturbation of v along its gradient / norm of v",
        f"attack_{STEPS}_steps": f"norm of the perturbation of v, found in {STEPS} steps / norm of v",
        "noise": "standard deviation of the noise on the input",
        "first_share": "share of the steps, the first ones of each utterance",
        "missing_share": "share of the steps that are missing, at random",
    }
    for name, series in lines.items():
        methods = {mode: {n: s for n, s in series.items() if n.startswith(mode)} for mode in ("AdvLSTM", "ProxLSTM")}
        for mode, own in methods.items():
            shown = {"plain": series["plain"], **dict(list(own.items())[:6])}
            plots.curves(folder / f"{name}_{mode}.png", shown, labels[name], "test accuracy", markers=True)


# ---- prediction ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def predict(request: Request, folder: Path) -> dict:
    """Writes the class of each sequence of --data and the probabilities of all, means over the checkpoint's models."""
    series = read_ts(request.data)
    loaded = checkpoint.rebuild(request.checkpoint, ClassifierStack, LSTMClassifier)
    models = loaded.unstack() if isinstance(loaded, ClassifierStack) else [loaded]
    names = models[0].class_names or tuple(str(k) for k in range(models[0].arguments["classes"]))
    check_sequences(request, series.values, models[0])
    x = torch.nn.utils.rnn.pad_sequence(series.values, batch_first=True)
    lengths = torch.tensor([len(value) for value in series.values])
    probabilities = torch.stack([model(x, lengths).softmax(1) for model in models]).mean(0)  # (N, K)
    predicted = [names[k] for k in probabilities.argmax(1).tolist()]
    classes = [series.classes[k] for k in series.labels.tolist()] if series.labels is not None else None
    rows = []
    for i, row in enumerate(probabilities.tolist()):
        known = {"class": classes[i]} if classes else {}
        shares = {f"probability {name}": round(value, 6) for name, value in zip(names, row, strict=True)}
        rows.append({"sequence": i + 1, **known, "predicted": predicted[i], **shares})
    tables.write_csv(folder / "predictions.csv", rows)
    right = [a == b for a, b in zip(predicted, classes or [], strict=False)]
    accuracy = {"accuracy": statistics.mean(right)} if right else {}
    return {"data": str(request.data), "sequences": len(rows), "models": len(models), **accuracy}


def check_sequences(request: Request, values: list[Tensor], model: LSTMClassifier) -> None:
    features, kernel = model.arguments["input_size"], model.arguments["kernel_size"]
    if values[0].shape[1] != features:
        raise UsageError(f"--data: {request.data}: expected {features} features per step, found {values[0].shape[1]}")
    if (shortest := min(map(len, values))) < kernel:
        raise UsageError(f"--data: {request.data}: expected at least {kernel} steps per sequence, found {shortest}")


FUNCTIONS = {
    "basic": basic,
    "adversarial": adversarial,
    "proximal": proximal,
    "dropout": dropout,
    "batch_norm": batch_norm,
    "robustness": robustness,
    "predict": predict,
}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
