"""Japanese Vowels: a plain LSTM, adversarial training and the proximal LSTM.

    python jv_training.py --seeds 10 --jobs 2                    # the whole study, an hour
    python jv_training.py --function basic                       # the plain model
    python jv_training.py --function adversarial --epsilon .1 1  # chosen by cross-validation
    python jv_training.py --function robustness                  # of the models that the other functions left

Nine men said /ae/; a model tells them apart: 270 utterances to train, 370 to test, 12 values per step. One test error
is 0.27 %. Every choice is made by stratified cross-validation on the 270; then a model is trained on all of them for
the same number of epochs, the last epoch is kept, and the 370 are looked at once.

The basic model is trained first, and the adversarial and the proximal model start from its file. So does a plain model
that gets the same further epochs, since the comparison would be one of budgets otherwise. Inside the cross-validation,
the basic model of each fold is trained on that fold's training part.

Deviations from the studies it follows:
1. Public solutions train and test on JV_data.mat; 60 of its 351 test utterances are in its training set. Here that file
   is read on request only (--course_file).
2. They show the test accuracy of each epoch and report the best one. Here the curves are of cross-validation.
3. They mean to bring each step to length 1 over its features and, by a default argument, do so with each feature over
   time; they divide a gradient by F.normalize(g). Here a gradient is divided by its norm, for each sample over its
   whole sequence, and features are standardised: `--normalization l2`, the steps of length 1, drops how large a step
   is, which is worth two points in cross-validation.
4. The adversarial and the proximal model had further epochs that the plain one had not.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from Classifier import NORMALIZATIONS, PLACES, LSTMClassifier
from evaluation.binary_scores import binomial_sigma
from loaders.vowels import JapaneseVowels, Utterances, japanese_vowels
from models.adversarial import compute_perturbation
from ProxLSTM import METHODS
from reporting import plots
from training import checkpoint, grid_search, loop, tables
from training import flags as command_line
from training.checkpoint import CheckpointError
from training.flags import UsageError
from training.run import run_script

GRID = ("epsilon", "noise", "dropout")  # flags that may have several values, beside those of all scripts
EPOCHS = {"basic": 60, "adversarial": 50, "proximal": 100, "dropout": 60, "batch_norm": 60, "robustness": 1}
EPSILONS = {"adversarial": [0.01, 0.1, 0.3, 1.0, 3.0], "proximal": [0.1, 0.3, 1.0, 5.0]}
SHOWN = {"adversarial": (0.01, 0.1, 1.0), "proximal": (0.1, 1.0, 5.0)}  # drawn beside the best one
RELATIVE_NORMS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of a perturbation of v, in norms of v
NOISES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # standard deviations of noise on the input


# ---- data and model --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def vowels(data_dir: Path, source: str, limit: int | None, course_file: bool) -> JapaneseVowels:
    return japanese_vowels(data_dir, source, limit, course_file)


def load(flags: argparse.Namespace) -> JapaneseVowels:
    return vowels(flags.data_dir, flags.source, flags.limit, flags.course_file)


def stratified_folds(labels: Tensor, count: int, seed: int) -> Tensor:
    """The fold 0..count-1 of each of the labels (N,): every class spread over the folds as evenly as can be."""
    generator = torch.Generator().manual_seed(seed)
    folds = torch.empty_like(labels)
    for label in labels.unique().tolist():
        members = torch.nonzero(labels == label).flatten()
        folds[members[torch.randperm(len(members), generator=generator)]] = torch.arange(len(members)) % count
    return folds


def batches_by_length(size: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Neighbours in the order of length, so that little is padded; the batches come in random order."""
    return loop.in_random_order(torch.arange(size).split(batch_size), generator)


def step(model: LSTMClassifier, batch: loop.Batch) -> dict[str, Tensor]:
    loss, logits = model.loss(*batch)
    return {"loss": loss, "accuracy": (logits.argmax(1) == batch[2]).float().mean()}


# ---- training --------------------------------------------------------------------------------------------------------


def train(flags: argparse.Namespace, folder: Path) -> loop.Result:
    """On all training utterances; the last epoch is kept."""
    data = load(flags).train
    return train_on(flags, folder, data, None, find_pretrained(flags, folder, data) if flags.starts_trained else None)


def train_on(
    flags: argparse.Namespace, folder: Path, training: Utterances, validation: Utterances | None, start: Path | None
) -> loop.Result:
    """From the weights of the checkpoint `start`, or from scratch."""
    model = LSTMClassifier(
        hidden_size=flags.hidden_size,
        channels=flags.channels,
        mode=flags.mode,
        epsilon=flags.epsilon,
        normalization=flags.normalization,
        bidirectional=flags.bidirectional,
        noise=flags.noise,
        dropout=flags.dropout,
        dropout_places=flags.dropout_places,
        batch_norm_places=flags.batch_norm_places,
        method=flags.method,
    )
    if flags.normalization == "standard":
        model.set_scale(torch.cat(training.values))
    if start:
        weights = checkpoint.rebuild(start, LSTMClassifier).state_dict()
        try:
            model.load_state_dict(weights)
        except RuntimeError:
            raise CheckpointError(f"--pretrained: {start} has other sizes, normalization or batch norm") from None
    return loop.train(
        model, step, training, validation, flags, folder, "accuracy", maximise=True, batches=batches_by_length
    )


def train_basic(flags: argparse.Namespace, folder: Path, training: Utterances) -> Path:
    """A plain model on `training`; the path of its checkpoint."""
    plain = grid_search.with_values(flags, mode="plain", epsilon=0.0, epochs=flags.basic_epochs, quiet=True)
    train_on(plain, folder, training, None, None)
    return folder / "best.pt"


def find_pretrained(flags: argparse.Namespace, folder: Path, training: Utterances) -> Path:
    """`--pretrained`, a file or the folder of a run of `basic`, which may hold one model per seed.

    The default is that of the function `basic`; if there is none, one is trained.
    """
    path = flags.pretrained or flags.output_dir / "basic"
    for found in (path / "seeds" / str(flags.seed) / "best.pt", path / "best.pt", path):
        if found.is_file():
            return found
    if flags.pretrained:
        raise CheckpointError(f"--pretrained: no checkpoint at {path}, nor a run of basic with one")
    return train_basic(flags, folder / "basic", training)


def cross_validate(flags: argparse.Namespace, folder: Path) -> loop.Result:
    """Cross-entropy of the held-out folds after the last epoch, their mean; `history.csv` has the means by epoch.

    The accuracy would be too coarse a score: it knows 270 steps, and most candidates are within two or three of them.
    """
    data = load(flags).train
    rarest = int(data.labels.bincount().min())
    if flags.folds > rarest:
        raise UsageError(f"--folds: expected at most {rarest}, as many as the rarest speaker has, found {flags.folds}")
    folds = stratified_folds(data.labels, flags.folds, flags.seed)
    histories, seconds = [], 0.0
    for k in range(flags.folds):
        training, validation = (data.select(torch.nonzero(part).flatten()) for part in (folds != k, folds == k))
        place = folder / f"fold{k}"
        start = train_basic(flags, place / "basic", training) if flags.starts_trained else None
        seconds += train_on(flags, place, training, validation, start).seconds
        histories.append(tables.read_table(place / "history.csv"))
    means = [
        {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} for rows in zip(*histories, strict=True)
    ]
    tables.write_csv(folder / "history.csv", means)
    return loop.Result(means[-1]["val_loss"], False, flags.epochs, flags.epochs, seconds)


def test(flags: argparse.Namespace, folder: Path) -> dict:
    """Accuracy on the test utterances, beside that of naming the most frequent speaker of the training part."""
    data, model = load(flags), checkpoint.rebuild(folder / "best.pt", LSTMClassifier).to(flags.device)
    means = loop.evaluate(model, step, data.test, flags)
    accuracy = means["accuracy"]
    majority = data.train.labels.bincount().argmax()
    return {
        "data": data.facts["data"],
        "split": data.facts["split"],
        "mode": flags.mode,
        "epsilon": model.epsilon,
        "parameters": sum(p.numel() for p in model.parameters()),
        "test_accuracy": accuracy,
        "test_loss": means["loss"],
        "test_accuracy_sigma": binomial_sigma(accuracy, len(data.test)),
        "majority_accuracy": (data.test.labels == majority).float().mean().item(),
    }


def fit(runs: dict[str, argparse.Namespace], folder: Path) -> dict[str, dict]:
    """Each run's hyper-parameters by cross-validation, then its models; metrics with the accuracies of both."""
    metrics = grid_search.fit_many(runs, folder, train, test, GRID, score=cross_validate)
    for name, path in grid_search.model_folders(runs, folder).items():
        scored = min((last_row(found) for found in cross_validations(path)), key=lambda row: row["val_loss"])
        metrics[name] |= {"cv_accuracy": scored["val_accuracy"], "cv_loss": scored["val_loss"]}
        metrics[name]["vote_accuracy"] = vote(runs[name], path)
        if not runs[name].quiet:
            print(f"{name}: {describe(metrics[name])}")
    return metrics


def cross_validations(folder: Path) -> list[Path]:
    """The folders in which `cross_validate` left the means of a run's combinations."""
    return [path.parent for path in sorted(folder.glob("grid/**/fold0"))]


def last_row(folder: Path) -> dict[str, float]:
    return tables.read_table(folder / "history.csv")[-1]


@torch.no_grad()
def vote(flags: argparse.Namespace, folder: Path) -> float:
    """Test accuracy of the mean of the probabilities of all seeds' models."""
    x, lengths, labels = everything(load(flags).test)
    seeds = range(flags.seed, flags.seed + flags.seeds)
    paths = [folder / "seeds" / str(seed) for seed in seeds] if flags.seeds > 1 else [folder]
    models = [checkpoint.rebuild(path / "best.pt", LSTMClassifier) for path in paths]
    votes = torch.stack([model(x, lengths).softmax(1) for model in models])
    return (votes.mean(0).argmax(1) == labels).float().mean().item()


def everything(part: Utterances) -> tuple[Tensor, Tensor, Tensor]:
    """All utterances as one batch: x (N, T, 12), lengths (N,), labels (N,)."""
    return part[torch.arange(len(part))]


def describe(metrics: dict) -> str:
    mean = metrics.get("test_accuracy_mean", metrics["test_accuracy"])
    spread = f" ± {metrics['test_accuracy_std']:.2%}" if "test_accuracy_std" in metrics else ""
    chosen = f"epsilon {metrics['epsilon']:g}, cross-validation {metrics['cv_accuracy']:.2%}"
    return f"{chosen}, test {mean:.2%}{spread} (sigma of a test {metrics['test_accuracy_sigma']:.2%})"


# ---- functions -------------------------------------------------------------------------------------------------------


def basic(flags: argparse.Namespace, folder: Path) -> dict:
    """the plain model, trained from scratch: accuracy and loss against epochs"""
    flags = settings(flags, "basic", starts_trained=False, epsilon=[0.0])
    metrics = fit({"plain": flags}, folder)["plain"]
    test_level = {"test, trained on all folds": metrics.get("test_accuracy_mean", metrics["test_accuracy"])}
    for key, ylabel, levels in (("accuracy", "accuracy", test_level), ("loss", "cross-entropy", None)):
        curves = tables.read_curves(best_by_epsilon(folder)[0.0], key)
        curves = {f"{name}, cross-validation": curve for name, curve in curves.items()}
        plots.curves(folder / f"{key}.png", curves, "epoch", ylabel, log=key == "loss", levels=levels)
    return metrics


def adversarial(flags: argparse.Namespace, folder: Path) -> dict:
    """AdvLSTM and a plain model of the same budget, both from the basic one; epsilon by cross-validation"""
    return compare(flags, folder, "adversarial", "AdvLSTM")


def proximal(flags: argparse.Namespace, folder: Path) -> dict:
    """ProxLSTM and a plain model of the same budget, both from the basic one; epsilon by cross-validation"""
    return compare(flags, folder, "proximal", "ProxLSTM")


def compare(flags: argparse.Namespace, folder: Path, function: str, mode: str) -> dict:
    flags = settings(flags, function, starts_trained=True, epsilon=flags.epsilon or EPSILONS[function])
    plain = grid_search.with_values(flags, epsilon=[0.0])
    metrics = fit({"plain": plain, mode: grid_search.with_values(flags, mode=mode)}, folder)
    chosen, curves = metrics[mode]["epsilon"], {}
    for epsilon, path in best_by_epsilon(folder / mode).items():
        if epsilon == chosen or epsilon in SHOWN[function]:
            name = f"{mode} with ε = {epsilon:g}{' (chosen)' if epsilon == chosen else ''}"
            curves[name] = validation_accuracy(path)
    curves["plain, from the same start"] = validation_accuracy(best_by_epsilon(folder / "plain")[0.0])
    plot_accuracy(curves, folder)
    return metrics


def best_by_epsilon(folder: Path) -> dict[float, Path]:
    """The cross-validation of each epsilon of a grid, with the best of the other flags' values."""
    found = {}
    for path in cross_validations(folder):
        epsilon = checkpoint.load(path / "fold0" / "last.pt")["flags"]["epsilon"]
        loss = last_row(path)["val_loss"]
        if epsilon not in found or loss < found[epsilon][0]:
            found[epsilon] = loss, path
    return {epsilon: path for epsilon, (_, path) in sorted(found.items())}


def validation_accuracy(folder: Path) -> tuple[list[float], list[float]]:
    return tables.read_curves(folder, "accuracy")["validation"]


def plot_accuracy(curves: dict, folder: Path) -> None:
    plots.curves(folder / "accuracy.png", curves, "epoch", "accuracy in cross-validation")


def dropout(flags: argparse.Namespace, folder: Path) -> dict:
    """dropout at each place and at all, trained from scratch: accuracy by place"""
    rate = max(flags.dropout) or 0.3
    runs = {place: {"dropout": [rate], "dropout_places": (place,)} for place in PLACES}
    return by_place(flags, folder, {**runs, "all": {"dropout": [rate], "dropout_places": PLACES}})


def batch_norm(flags: argparse.Namespace, folder: Path) -> dict:
    """batch norm at each place and at all, without dropout, trained from scratch: accuracy by place"""
    runs = {place: {"batch_norm_places": (place,)} for place in PLACES}
    return by_place(flags, folder, {**runs, "all": {"batch_norm_places": PLACES}})


def by_place(flags: argparse.Namespace, folder: Path, runs: dict[str, dict]) -> dict:
    base = settings(flags, "basic", starts_trained=False, epsilon=[0.0], dropout=[0.0])
    metrics = fit({name: grid_search.with_values(base, **v) for name, v in {"none": {}, **runs}.items()}, folder)
    plot_accuracy({name: validation_accuracy(best_by_epsilon(folder / name)[0.0]) for name in metrics}, folder)
    rows = {}
    for name, values in metrics.items():
        mean = values.get("test_accuracy_mean", values["test_accuracy"])
        spread = values.get("test_accuracy_std", values["test_accuracy_sigma"])
        rows[name] = mean, mean - spread, mean + spread
    plots.intervals(folder / "places.png", rows, "test accuracy (mean and standard deviation over the seeds)", {})
    return metrics


def robustness(flags: argparse.Namespace, folder: Path) -> dict:
    """accuracy of the three modes against the size of a perturbation of v and of noise on the input"""
    trained = {
        "plain": flags.output_dir / "proximal" / "plain",
        "AdvLSTM": flags.output_dir / "adversarial" / "AdvLSTM",
        "ProxLSTM": flags.output_dir / "proximal" / "ProxLSTM",
    }
    if missing := [name for name, path in trained.items() if not (path / "best.pt").exists()]:
        raise UsageError(
            f"--function robustness: no model of {missing[0]} at {trained[missing[0]]}; "
            "run adversarial and proximal first, with the same --output_dir"
        )
    data = load(flags)
    metrics, attacked, noisy = {"data": data.facts["data"]}, {}, {}
    for name, path in trained.items():
        paths = sorted(path.glob("seeds/*/best.pt")) or [path / "best.pt"]
        models = [checkpoint.rebuild(found, LSTMClassifier) for found in paths]
        under_attack = np.mean([accuracy_under_attack(model, data.test) for model in models], axis=0)
        under_noise = np.mean([accuracy_under_noise(model, data.test, flags.seed) for model in models], axis=0)
        attacked[name], noisy[name] = (RELATIVE_NORMS, under_attack), (NOISES, under_noise)
        metrics[name] = {
            "seeds": len(models),
            **{f"accuracy_attack_{norm:g}": float(a) for norm, a in zip(RELATIVE_NORMS, under_attack, strict=True)},
            **{f"accuracy_noise_{std:g}": float(a) for std, a in zip(NOISES, under_noise, strict=True)},
        }
    xlabel = "norm of the perturbation of v along its gradient / norm of v"
    plots.curves(folder / "attack.png", attacked, xlabel, "test accuracy", markers=True)
    xlabel = "standard deviation of the noise on the input"
    plots.curves(folder / "noise.png", noisy, xlabel, "test accuracy", markers=True)
    return metrics


def accuracy_under_attack(model: LSTMClassifier, part: Utterances) -> list[float]:
    """With v + delta r, where r is the direction of steepest loss and delta a fraction of the norm of v."""
    x, lengths, labels = everything(part)
    with torch.no_grad():
        v, lengths = model.features(x, lengths)
    v[torch.arange(v.shape[1]) >= lengths.unsqueeze(1)] = 0  # what no LSTM sees does not count in the norm
    v.requires_grad_()
    direction = compute_perturbation(cross_entropy(model.classify(v, lengths), labels), v)
    norms = v.detach().flatten(1).norm(dim=1)[:, None, None]
    with torch.no_grad():
        logits = [model.classify(v + size * norms * direction, lengths) for size in RELATIVE_NORMS]
    return [(found.argmax(1) == labels).float().mean().item() for found in logits]


@torch.no_grad()
def accuracy_under_noise(model: LSTMClassifier, part: Utterances, seed: int) -> list[float]:
    """With Gaussian noise on the input, the same for all models."""
    x, lengths, labels = everything(part)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    logits = [model(x + std * noise, lengths) for std in NOISES]
    return [(found.argmax(1) == labels).float().mean().item() for found in logits]


# ---- flags -----------------------------------------------------------------------------------------------------------


def settings(flags: argparse.Namespace, function: str, **values) -> argparse.Namespace:
    """The flags of a run of `function`: its own defaults, and what a plain model has."""
    defaults = {"epochs": flags.epochs or EPOCHS[function], "mode": "plain", "batch_norm_places": ()}
    return grid_search.with_values(flags, **{**defaults, **values})


FUNCTIONS = {
    "basic": basic,
    "adversarial": adversarial,
    "proximal": proximal,
    "dropout": dropout,
    "batch_norm": batch_norm,
    "robustness": robustness,
}


def main(argv: list[str] | None = None) -> dict:
    parser, groups = command_line.make_parser(
        __doc__, FUNCTIONS, hidden_size=[64], epochs=None, batch_size=27, learning_rate=[3e-3]
    )
    add = groups["model"].add_argument
    add("--channels", type=command_line.POSITIVE_INT, default=64, help="of the convolution")
    add(
        "--normalization",
        choices=NORMALIZATIONS,
        default="standard",
        help="of the input: each feature over the training data, or each step over its features",
    )
    add("--bidirectional", action=argparse.BooleanOptionalAction, default=True, help="an LSTM in each direction")
    add("--dropout", type=command_line.number(float, 0, 0.99), nargs="+", default=[0.4], help="rate; several: a grid")
    add("--dropout_places", choices=PLACES, nargs="*", default=("convolution", "lstm"), help="where dropout acts")
    add(
        "--noise",
        type=command_line.NOT_NEGATIVE,
        nargs="+",
        default=[0.1],
        help="standard deviation of Gaussian noise on the input in training; several: a grid",
    )
    add(
        "--epsilon",
        type=command_line.NOT_NEGATIVE,
        nargs="+",
        help="adversarial: length of the perturbation; proximal: weight of the problem; several: a grid",
    )
    add("--method", choices=METHODS, default="auto", help="of the proximal map")
    add = groups["training"].add_argument
    add("--folds", type=command_line.number(int, 2, 30), default=5, help="of the cross-validation")
    add(
        "--pretrained",
        type=Path,
        metavar="PATH",
        help="plain model that adversarial and proximal start from, a checkpoint or the folder of a run of basic; "
        "default: <output_dir>/basic, trained if it is not there",
    )
    add(
        "--basic_epochs",
        type=command_line.POSITIVE_INT,
        default=EPOCHS["basic"],
        help="of that model where it is trained for the purpose, as in each fold",
    )
    groups["data"].add_argument("--course_file", action="store_true", help="JV_data.mat, whose test part leaks")
    flags = command_line.parse(parser, argv)
    flags.dropout_places = tuple(flags.dropout_places)
    return run_script(flags, FUNCTIONS)


if __name__ == "__main__":
    main()
