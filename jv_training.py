"""Japanese Vowels: a plain LSTM, adversarial training and the proximal LSTM.

    python jv_training.py --seeds 10 --jobs 2                     # the whole study, preset best
    python jv_training.py --preset published --seeds 10           # the models as the assignment describes them
    python jv_training.py --function adversarial --epsilon .1 1   # two perturbation lengths, and the plain model
    python jv_training.py --function basic --train MY_TRAIN.ts --test MY_TEST.ts    # your own data
    python jv_training.py --function predict --data NEW.ts        # classes by the models of basic

Which of nine men said the vowels /ae/? 270 utterances train, 370 test, 12 values per step. One test error is 0.27 %; to
expect: 98.9 ± 0.4 %, and 98.6 % of linear discriminant analysis in .3 s. Every choice is made by stratified
cross-validation on the 270; then a model of each seed is trained on all of them, the last epoch is kept, and the 370
are classified. The adversarial and the proximal model continue the training of a plain model of the same fold or seed.
The models are in Classifier.py and ProxLSTM.py; docs/jv_training.md has a table of the names that the course uses.

Deviations from the course's assignment and its public solutions:
1. Public solutions train and test on JV_data.mat, 60 of whose 351 test utterances are in its training set. Here that
   file is read on request only (--course_file).
2. Public solutions report the best epoch on the test data. Here the curves on test data are drawn, but choose nothing.
3. Public solutions normalise each feature over time, by a default argument, where the assignment normalises each step
   over its features; and they divide a gradient by F.normalize(g). Here steps are normalised over their features, and a
   sample's gradient is divided by its norm over the whole sequence.
4. The assignment compares the adversarial and the proximal model with a plain one that had fewer epochs. Here a plain
   model with as many epochs is compared with them.
5. The assignment adds dropout and batch norm to the loaded plain model (--initial basic). Here models with and without
   them are also trained from scratch, for the same epochs.
"""

from config.jv_training import SCRIPT, Basic, Classify, Compared, FromPlain, one_rate
from lstm_studies.training.flags import parse

if __name__ == "__main__":
    parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import dataclasses
import functools
import hashlib
import json
import statistics
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from Classifier import PLACES, LSTMClassifier
from lstm_studies.evaluation import class_scores, intervals
from lstm_studies.evaluation.baselines import standard_error
from lstm_studies.evaluation.binary_scores import binomial_sigma
from lstm_studies.loaders.ts_files import Sequences, Split, fresh_split, read_ts, stratified_folds
from lstm_studies.loaders.vowels import read_split
from lstm_studies.models import robustness as robust
from lstm_studies.models.programs import ClassifierProgram
from lstm_studies.reporting import vowels as figures
from lstm_studies.training import checkpoint, flags, loop, search, tables
from lstm_studies.training import classifiers as saved
from lstm_studies.training.export import export_program
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.settings import UsageError
from lstm_studies.training.trained import settings_of

ROBUSTNESS_SEEDS = 3  # of which models are attacked, at most: those of ten with a large epsilon would take hours

# ---- data ------------------------------------------------------------------------------------------------------------


def load(settings: Classify | Request) -> Split:
    limit = getattr(settings, "limit", None)  # robustness has none
    data = read_split(settings.data_dir, settings.source, limit, settings.course_file, settings.train, settings.test)
    split = getattr(settings, "split", None)  # of fresh_splits
    return data if split is None else fresh_split(data, split, settings.splits)[0]


def held_out(settings: Classify, data: Sequences) -> list[Tensor]:
    """Indices of the sequences in each fold of each repeat of the cross-validation."""
    rarest = int(data.labels.unique(return_counts=True)[1].min())
    if settings.folds > rarest:
        raise UsageError(f"--folds: expected at most {rarest}, as many as the rarest class has, found {settings.folds}")
    repeats = [stratified_folds(data.labels, settings.folds, 1000 * settings.seed + r) for r in range(settings.repeats)]
    return [torch.nonzero(folds == k).flatten() for folds in repeats for k in range(settings.folds)]


def training_and_held_out(settings: Classify, data: Sequences) -> tuple[Sequences, Sequences | None]:
    """Training sequences and held-out ones of the settings' fold; without a fold, all sequences and None."""
    if settings.fold is None:
        return data, None
    fold = held_out(settings, data)[settings.fold]
    outside = torch.ones(len(data), dtype=torch.bool).index_fill(0, fold, False)
    return data.select(torch.nonzero(outside).flatten()), data.select(fold)


# ---- model and loss --------------------------------------------------------------------------------------------------


def new_model(settings: Classify, data: Split, training: Sequences) -> LSTMClassifier:
    """The untrained model of the settings' seed and fold, with the scale of the training sequences."""
    shortest = int(min(data.train.lengths.min(), data.test.lengths.min()))
    stride = settings.stride or max(1, round(int(data.train.lengths.max()) / 32))
    kernel_size = settings.kernel_size or min(2 * stride + 1, shortest)
    if kernel_size > shortest:
        raise UsageError(f"--kernel_size: expected at most {shortest}, the steps of the shortest sequence")
    if settings.normalization == "l2" and training.steps.shape[1] == 1:
        raise UsageError("--normalization: expected standard for sequences of one feature, whose sign is all l2 leaves")
    torch.manual_seed(settings.seed + (settings.fold or 0))
    model = LSTMClassifier(
        input_size=training.steps.shape[1],
        hidden_size=settings.hidden_size,
        classes=len(data.classes),
        channels=settings.channels,
        kernel_size=kernel_size,
        stride=stride,
        mode=settings.mode,
        epsilon=settings.epsilon,
        normalization=settings.normalization,
        bidirectional=settings.bidirectional,
        noise=settings.noise,
        offset=settings.offset,
        dropout=settings.dropout,
        dropout_places=tuple(place for place in settings.dropout_places if place != "none"),
        batch_norm_places=tuple(place for place in settings.batch_norm_places if place != "none"),
        class_names=data.classes,
        attack_steps=getattr(settings, "attack_steps", 1),
    )
    if settings.normalization == "standard":
        model.set_scale(torch.cat(training.values))
    return model


def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
    loss, logits = model.loss(*batch)
    return {"loss": loss, "accuracy": robust.accuracy(logits, batch[2])}


# ---- training --------------------------------------------------------------------------------------------------------


def train(settings: Classify, folder: Path) -> loop.Result:
    """One classifier, on all training sequences or on all but a fold; the last epoch is kept.

    Its score is the cross-entropy of the held-out fold after that epoch: most candidates differ in accuracy by two or
    three of the 270 utterances. Scores on test data are recorded, and choose nothing.
    """
    data = load(settings)
    start = starting_model(settings) if settings.from_plain else None
    training, held = training_and_held_out(settings, data.train)
    model = new_model(settings, data, training)
    if start:
        load_start(model, start, adds_batch_norm=isinstance(settings, Compared))
    batches = functools.partial(training.batches_by_length, settings.length_shift)
    watched = data.test if settings.fold is None else None
    return loop.train(
        model, step, training, held, settings, folder, batches=batches, watched_data=watched, keep_last=True
    )


def load_start(model: LSTMClassifier, start: LSTMClassifier, adds_batch_norm: bool = False) -> None:
    new = {name: value for name, value in model.state_dict().items() if name.startswith("batch_norms.")}
    try:
        model.load_state_dict((new if adds_batch_norm else {}) | start.state_dict())
    except RuntimeError:
        problem = "--pretrained: the model has other sizes, normalization or batch norm"
        raise checkpoint.CheckpointError(problem) from None


def starting_model(settings: FromPlain) -> LSTMClassifier:
    """The plain model of the same fold or seed: that of --pretrained (for the seeds) or of a run of `basic` with the
    same settings; else it is trained here, once for all trainings that need it.
    """
    if settings.pretrained and settings.fold is None:
        return saved.read_pretrained(settings.pretrained, settings.seed, LSTMClassifier)
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Basic)}
    epochs = settings.basic_epochs
    if settings.basic_updates:
        training, _ = training_and_held_out(settings, load(settings).train)
        epochs = loop.epochs_for(settings.basic_updates, len(training), settings.batch_size)
    values |= {"mode": "plain", "epsilon": 0.0, "from_plain": False, "epochs": epochs, "updates": None}
    if isinstance(settings, Compared):
        values |= {"dropout": 0.0, "dropout_places": ("none",), "batch_norm_places": ("none",)}
    plain = Basic(**{**values, "resume": True, "quiet": True})
    irrelevant = ("repeats",) if settings.fold is not None else ("repeats", "folds")
    wanted = {name: value for name, value in flags.deciding(plain).items() if name not in irrelevant}
    folder = settings.output_dir / "basic"
    folder = folder / f"fold{settings.fold}" if settings.fold is not None else saved.seed_folder(folder, settings.seed)
    if not saved.was_trained(folder, plain.epochs, wanted):
        digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]
        folder = settings.output_dir / "starts" / digest
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):  # of several trainings that need it, the first one trains it
            if not saved.was_trained(folder, plain.epochs, wanted):
                train(plain, folder)
    return checkpoint.rebuild(folder / "best.pt", LSTMClassifier)


# ---- test ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test(settings: Classify, folder: Path) -> dict:
    """Accuracy, log loss and calibration error of one trained model on the test sequences."""
    data, model = load(settings), checkpoint.rebuild(folder / "best.pt", LSTMClassifier)
    x, lengths, labels = data.test.all()
    logits = model(x, lengths)
    return {
        **{name: data.metadata[name] for name in ("data", "split", "leak") if name in data.metadata},
        "mode": settings.mode,
        "parameters": sum(p.numel() for p in model.parameters()),
        "test_accuracy": robust.accuracy(logits, labels).item(),
        **class_scores.summary(logits.numpy(), labels.numpy()),
    }


def fit(
    requests: dict[str, Request],
    folder: Path,
    beside: dict[str, list[str]] | None = None,
    opponents: tuple[str, ...] = ("lda",),
) -> dict[str, dict]:
    """Each model's cross-validation, which chooses its hyper-parameters, then its training with all seeds and the test.

    All trainings are tasks of one pool. Returns the metrics of each model and of the simple opponents;
    `vote_accuracy` is that of the class with the largest mean probability of all seeds' models, `against` has the
    differences from the opponents and from the models `beside` it.
    """
    folders = search.model_folders(requests, folder)
    first = next(iter(requests.values()))
    if first.resume or first.dry_run:
        for path in folders.values():
            saved.refuse_stacks(path)
    # a line for each training instead of each epoch: there are dozens
    requests = {name: request.with_values(in_worker=True) for name, request in requests.items()}
    metrics = search.fit(requests, folder, train, test, folds=first.folds * first.repeats)
    data = load(first)
    x, lengths, labels = data.test.all()
    majority = (labels == data.train.labels.bincount().argmax()).double().mean().item()
    simple, scores = fit_simple(data, opponents, first.seed)
    for name, path in folders.items():
        settings, values = requests[name].single(), metrics[name]
        logits = logits_of(saved.classifiers(path, LSTMClassifier), x, lengths)
        right, vote = logits.argmax(2) == labels, logits.softmax(2).mean(0).argmax(1) == labels  # (S, N), (N,)
        scores[name] = {"test_accuracy": right.numpy(), "vote_accuracy": vote.numpy()}
        scores[name]["test_log_loss"] = class_scores.losses(logits.numpy(), labels.numpy())
        values |= {"epsilon": settings.epsilon, **cross_validation(settings, path)}
        values |= {"vote_accuracy": vote.double().mean().item(), "majority_accuracy": majority}
        values["test_accuracy_sigma"] = binomial_sigma(right.double().mean().item(), len(labels))
    for name, values in metrics.items():
        others = [*simple, *(other for other in (beside or {}).get(name, ()) if other != name)]
        values["against"] = {other: differences(scores[name], scores[other]) for other in others}
    figures.note_models_below(metrics, simple)
    return metrics | simple


def fit_simple(data: Split, opponents: tuple[str, ...], seed: int) -> tuple[dict[str, dict], dict[str, dict]]:
    """Metrics of the simple opponents, and their scores (N,) on the test sequences by key."""
    from lstm_studies.evaluation.sequence_opponents import Labelled, fit_opponents  # slow: scikit-learn

    parts = (Labelled([value.numpy() for value in part.values], part.labels.numpy()) for part in data[:2])
    results = fit_opponents(*parts, opponents, seed)
    metrics = {name: {"data": data.metadata["data"], **values} for name, (values, _) in results.items()}
    return metrics, {name: scores for name, (_, scores) in results.items()}


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """The mean difference and its 95 % interval of each score (S, N) or (N,) that both models have."""
    return {name: intervals.compare(ours[name], theirs[name]) for name in ours if name in theirs}


@torch.no_grad()
def cross_validation(settings: Classify, folder: Path) -> dict[str, float]:
    """Scores of the held-out sequences: means over sequences and repeats; errors are those of a mean over sequences,
    whose repeats are averaged first.
    """
    data = load(settings).train
    losses, right = torch.zeros(2, settings.repeats, len(data), dtype=torch.float64)
    for k, fold in enumerate(held_out(settings, data)):
        model = checkpoint.rebuild(folder / f"fold{k}" / "best.pt", LSTMClassifier)
        x, lengths, labels = data[fold]
        logits = model(x, lengths)
        losses[k // settings.folds, fold] = cross_entropy(logits, labels, reduction="none").double()
        right[k // settings.folds, fold] = (logits.argmax(1) == labels).double()
    scores = {}
    for name, values in (("cv_loss", losses), ("cv_accuracy", right)):
        scores |= {name: values.mean().item(), f"{name}_error": standard_error(values.mean(0))}
    return scores


@torch.no_grad()
def logits_of(models: list[LSTMClassifier], x: Tensor, lengths: Tensor) -> Tensor:
    """(S, N, K) of S models."""
    return torch.stack([model(x, lengths) for model in models])


# ---- functions -------------------------------------------------------------------------------------------------------


def basic(request: Request, folder: Path) -> dict:
    """Trains the plain model from scratch."""
    metrics = fit({"plain": request}, folder, opponents=("lda", "svm", "gaussian", "dtw"))
    figures.plot_training(figures.histories(folder), folder)
    return metrics


def adversarial(request: Request, folder: Path) -> dict:
    """Trains AdvLSTM for every epsilon, and a plain model for as many epochs."""
    return compare(request, folder, "AdvLSTM")


def proximal(request: Request, folder: Path) -> dict:
    """Trains ProxLSTM for every epsilon, and a plain model for as many epochs."""
    return compare(request, folder, "ProxLSTM")


def compare(request: Request, folder: Path, mode: str) -> dict:
    """Metrics of the plain model, of the chosen epsilon under the name `mode`, and of every epsilon."""
    request = request.with_values(from_plain=True)
    requests = {"plain": request.with_values(mode="plain", epsilon=0.0)}
    for epsilon in dict.fromkeys(request.epsilon):
        requests[f"epsilon{epsilon:g}"] = request.with_values(mode=mode, epsilon=epsilon)
    if request.pretrained and not request.dry_run:
        check_pretrained(requests["plain"])
    metrics = fit(requests, folder, {name: ["plain"] for name in requests})
    models = {name: metrics[name] for name in requests}
    chosen = min((name for name in models if name != "plain"), key=lambda name: models[name]["cv_loss"])
    tables.write_csv(folder / "epsilon.csv", figures.rows_of(models))
    curves = {name: figures.histories(folder / name) for name in models}
    figures.plot_comparison(models, curves, chosen, mode, folder)
    of_mode = {key: value for key, value in metrics[chosen].items() if key != "seconds"}  # counted once
    return {"plain": metrics.pop("plain"), mode: of_mode, **metrics}


def check_pretrained(request: Request) -> None:
    """Raises CheckpointError if a seed cannot start from --pretrained: before the cross-validation, not after it."""
    settings = request.single()
    data = load(settings)
    for seed in range(settings.seed, settings.seed + settings.seeds):
        start = saved.read_pretrained(settings.pretrained, seed, LSTMClassifier)
        load_start(new_model(settings, data, data.train), start)


def dropout(request: Request, folder: Path) -> dict:
    """Trains every mode with dropout at each layer, at all three, and without."""
    rate = one_rate(request.dropout)
    rows = {"no dropout": {"dropout": [0.0], "dropout_places": ("none",)}}
    rows |= {f"dropout {place}": {"dropout": [rate], "dropout_places": (place,)} for place in PLACES}
    return by_place(request, folder, {**rows, "dropout all": {"dropout": [rate], "dropout_places": PLACES}})


def batch_norm(request: Request, folder: Path) -> dict:
    """Trains every mode with batch norm at each layer, at all three, without, and with dropout added."""
    rate = one_rate(request.dropout)
    off = {"dropout": [0.0]}
    rows = {"no batch norm": {"batch_norm_places": ("none",), **off}}
    rows |= {f"batch norm {place}": {"batch_norm_places": (place,), **off} for place in PLACES}
    rows |= {"batch norm all": {"batch_norm_places": PLACES, **off}}
    both = {"batch_norm_places": ("convolution",), "dropout": [rate]}
    return by_place(request, folder, {**rows, "batch norm convolution and dropout": both})


def by_place(request: Request, folder: Path, rows: dict[str, dict]) -> dict:
    """Trains each mode with the values of each row; each is compared with the first row and with the plain model."""
    request = request.with_values(from_plain=request.initial == "basic")
    epsilons = {"plain": 0.0, "AdvLSTM": request.adversarial_epsilon, "ProxLSTM": request.proximal_epsilon}
    requests = {
        f"{mode}, {row}": request.with_values(mode=mode, epsilon=epsilon, **values)
        for mode, epsilon in epsilons.items()
        for row, values in rows.items()
    }
    first = next(iter(rows))
    if request.pretrained and not request.dry_run:
        check_pretrained(requests[f"plain, {first}"])
    beside = {f"{mode}, {row}": [f"{mode}, {first}", f"plain, {row}"] for mode in epsilons for row in rows}
    metrics = fit(requests, folder, beside)
    figures.plot_places(metrics, list(epsilons), list(rows), folder / "places.png")
    return metrics


def fresh_splits(request: Request, folder: Path) -> dict:
    """Trains the plain model on other splits with the same settings; its difference from LDA over all their tests."""
    requests = {f"split {k}": request.with_values(split=k) for k in range(request.splits)}
    metrics = search.fit(requests, folder, train, test)
    ours, votes, theirs, numbers = [], [], [], []
    for k, (name, path) in enumerate(search.model_folders(requests, folder).items()):
        data, of_test = fresh_split(load(request), k, request.splits)
        x, lengths, labels = data.test.all()
        probabilities = logits_of(saved.classifiers(path, LSTMClassifier), x, lengths).softmax(2)
        simple, right = fit_simple(data, ("lda",), request.seed)
        metrics[name]["lda_accuracy"] = simple["lda"]["test_accuracy"]
        ours.append((probabilities.argmax(2) == labels).numpy())
        votes.append((probabilities.mean(0).argmax(1) == labels).numpy())
        theirs.append(right["lda"]["test_accuracy"])
        numbers.append(of_test.numpy())
    ours, votes, theirs = np.concatenate(ours, 1), np.concatenate(votes), np.concatenate(theirs)  # (S, splits N), ...
    groups = np.concatenate(numbers)  # an utterance is in several test parts
    scores = {"test_accuracy": ours, "vote_accuracy": votes}
    against = {key: intervals.compare(values, theirs, groups) for key, values in scores.items()}
    rows = [{"data": data.metadata["data"], "test_accuracy": right.mean().item()} for right in ours]
    plain = {**search.over_seeds(rows), "vote_accuracy": votes.mean().item(), "against": {"lda": against}}
    simple = {"lda": {"data": data.metadata["data"], "seeds": 1, "test_accuracy": theirs.mean().item()}}
    figures.note_models_below({"plain": plain}, simple)
    return {"plain": plain, **simple, **metrics}


def robustness(request: Request, folder: Path) -> dict:
    """Tests the models of adversarial and proximal on attacked, noisy, shortened and incomplete sequences."""
    data, metrics, lines, areas, scale = load(request), {}, {}, {}, None
    batch = data.test.all()
    trained, slow = saved.trained_models(request.output_dir), []  # slow: models on which the slow tests are made, too
    attacked = {name: robust.cross_validated(held_out_models(request, path)) for name, (path, *_) in trained.items()}
    for mode in {mode for _, mode, _, _ in trained.values()}:
        names = [name for name, of_model in trained.items() if of_model[1] == mode]
        slow += [max(names, key=lambda name: attacked[name] or 0), max(names, key=lambda name: trained[name][2])]
    for name, (path, mode, epsilon, chosen) in trained.items():
        models = saved.classifiers(path, LSTMClassifier)[:ROBUSTNESS_SEEDS]
        scale = scale or robust.scale_of(data.train.steps, batch, models)  # of the plain ones, which come first
        rows, areas[name] = [robust.sensitivity(model, batch) for model in models], {}
        tests = robust.all_tests(models, batch, scale, request.seed, slow_ones=chosen or name in slow)
        for test, (sizes, right) in tests.items():  # right: (R, M, N)
            accuracies, areas[name][f"area_{test}"] = right.double().mean(2), robust.area(sizes, right).numpy()
            lines.setdefault(test, {})[mode, epsilon, chosen] = sizes, accuracies.mean(1).tolist()
            for row, of_model, its_area in zip(rows, accuracies.T, areas[name][f"area_{test}"], strict=True):
                row |= {f"accuracy_{test}_{size:g}": value.item() for size, value in zip(sizes, of_model, strict=True)}
                row[f"area_{test}"] = float(its_area.mean())
        metrics[name] = {"data": data.metadata["data"], "epsilon": epsilon, **search.over_seeds(rows)}
        metrics[name] |= {"cv_attacked_accuracy": attacked[name]} if attacked[name] is not None else {}
        if name != "plain":
            metrics[name]["against"] = {"plain": differences(areas[name], areas["plain"])}
    figures.plot_robustness(lines, folder)
    return metrics


def held_out_models(request: Request, folder: Path) -> list[tuple[LSTMClassifier, robust.Batch]]:
    """The models of the cross-validation in a model's folder, each with the sequences that it was not trained on."""
    pairs = []
    for path in sorted(folder.glob("fold[0-9]*")):
        settings = settings_of(request, folder.parent.name, checkpoint.load_latest(path / "last.pt") or {}, path)
        _, held = training_and_held_out(settings, load(settings).train)
        pairs.append((checkpoint.rebuild(path / "best.pt", LSTMClassifier), held.all()))
    return pairs


def predict(request: Request, folder: Path) -> dict:
    """Writes the class of each sequence of --data and the probabilities of all, means over the models of all seeds."""
    series, path = read_ts(request.data), request.model_from or request.output_dir / "basic"
    models = saved.classifiers(path, LSTMClassifier)
    names = models[0].class_names or tuple(str(k) for k in range(models[0].arguments["classes"]))
    saved.check_sequences(request.data, series.values, models[0])
    x = torch.nn.utils.rnn.pad_sequence(series.values, batch_first=True)
    lengths = torch.tensor([len(value) for value in series.values])
    probabilities = logits_of(models, x, lengths).softmax(2).mean(0)  # (N, K)
    predicted = [names[k] for k in probabilities.argmax(1).tolist()]
    classes = [series.classes[k] for k in series.labels.tolist()] if series.labels is not None else None
    rows = []
    for i, row in enumerate(probabilities.tolist()):
        known = {"class": classes[i]} if classes else {}
        shares = {f"probability {name}": round(value, 6) for name, value in zip(names, row, strict=True)}
        rows.append({"sequence": i + 1, **known, "predicted": predicted[i], **shares})
    tables.write_csv(folder / "predictions.csv", rows)
    right = [a == b for a, b in zip(predicted, classes or [], strict=False)]
    row = {"model": str(path), "sequences": len(rows), "seeds": len(models)}
    return {models[0].mode: row | ({"accuracy": statistics.mean(right)} if right else {})}


def export(request: Request, folder: Path) -> dict:
    """Writes the models of all seeds with their scaling as one program that other software runs."""
    path = request.model_from or request.output_dir / "basic"
    models = saved.classifiers(path, LSTMClassifier)
    return {models[0].mode: export_program(folder, ClassifierProgram(models), path)}


STUDIES = (basic, adversarial, proximal, dropout, batch_norm, fresh_splits, robustness, predict, export)
FUNCTIONS = {function.__name__: function for function in STUDIES}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
