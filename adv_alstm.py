"""Attentive LSTM with adversarial training (Feng et al., IJCAI 2019): will a stock's price move up or down tomorrow?

    python adv_alstm.py --function compare --dataset acl18 --seeds 10        # four models from three starts, one table
    python adv_alstm.py --function starts --seeds 100                        # how lucky is the published start?
    python adv_alstm.py --function train --dataset kdd17 --epsilon .0001 .001 .01 --beta .01 .05 .5 --epochs 15
    python adv_alstm.py --function train --dataset my_prices/                # one's own CSV files of daily prices
    python adv_alstm.py --function predict --dataset my_prices/              # the day after the newest one

ACL18 (87 stocks, 2014-2015) and KDD17 (50 stocks, 2007-2016) come from the authors' archive, which is downloaded; six
bundled stocks stand in where there is no network. A sample is the last 5 to 15 days of a stock in 11 features; it is up
or down if the next day's return is at least +0.55 % or at most -0.5 %. The published Adv-ALSTM starts from a trained
ALSTM that is in the archive; docs/adv_alstm.md says what this start decides, and what the adversary does.

The epoch of every model is the one with the best validation accuracy. Beside the accuracies stand the binomial sigma,
which counts all samples as independent, and a 95 % interval from resampled days, since stocks of one day move together.

Deviations from the publication:
1. Its Adv-ALSTM starts from a trained ALSTM and gets as many epochs again, which the models beside it do not get. Here
   every model is trained from every start with the same epochs.
2. Its code fills an epoch's last batch up with samples of the one before, and shuffles all runs alike; here each sample
   is seen once per epoch, in an order of the seed's own.
3. The paper's penalty is on all parameters, its code's on the last layer, as here (half the squared weights and bias).
4. The code means to hold the perturbation constant and does not. With the hinge loss that makes no difference: the
   gradient of -epsilon ||w|| and that of the score of e - epsilon y w / ||w|| with a constant direction are the same.
5. Without the hinge loss the code's adversarial branch reads the clean representation and does nothing. Here it works.
6. The l2 weight of KDD17's LSTM is not given: that of the other models.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstm_studies.training import flags
from lstm_studies.training.presets import Script, recipe
from lstm_studies.training.settings import NOT_NEGATIVE, POSITIVE_INT, Settings, UsageError, flag, number, one_of

# What each model leaves out of AdvALSTM, or does otherwise.
MODELS: dict[str, dict] = {
    "lstm": {"attention": False, "adversarial_training": False},
    "alstm": {"adversarial_training": False},
    "rand_alstm": {"random_perturbations": True},
    "adv_alstm": {},
}
PUBLISHED_SETS = ("acl18", "kdd17")
PERTURBED = ("rand_alstm", "adv_alstm")
SWEEP = (0.001, 0.01, 0.1, 1.0)  # of epsilon and of beta, in `plot`
ONE_BY_ONE = ("train", "plot")  # functions that train one model at a time, in the loop of all scripts
TRAINING = ("train", "compare", "starts", "plot")


def only(name: str, functions: tuple[str, ...]) -> Any:
    """The flag `name` of all scripts, of some functions only."""
    field = Settings.__dataclass_fields__[name]
    described = field.metadata["flag"]._replace(functions=functions)
    return dataclasses.field(default=field.default, metadata={"flag": described})


@dataclass(frozen=True)
class MovementSettings(Settings):
    """The flags of this script beside those of all."""

    first: str | None = None  # where the weights of the start are: "published", a file, or a folder of trained models

    model: str = flag(
        "adv_alstm", "model", "what to run", one_of(*MODELS), functions=("train",), metavar=f"{{{','.join(MODELS)}}}"
    )
    start: str = flag(
        "random",
        "weights that training starts from: random, own (those of a trained ALSTM), published (those of the authors' "
        "ALSTM), or a file",
        "what to run",
        str,
        several="each",
        functions=("train", "compare"),
        metavar="{random,own,published,FILE}",
    )
    checkpoint: Path | None = flag(
        None,
        "trained model; default: that of train",
        "what to run",
        Path,
        functions=("predict",),
        decides=False,
        metavar="FILE",
    )
    every_day: bool = flag(
        False,
        "predictions for every day instead of the newest one",
        "what to run",
        functions=("predict",),
        decides=False,
    )
    hidden_size: int = flag(4, "units of the LSTM and of the attention", "model", POSITIVE_INT, several="grid")
    num_layers: int = flag(1, "", "model", refused="the published model has one layer")
    dropout: float = flag(
        0.0, "dropout rate of the last representation", "model", number(float, 0, 0.99), functions=ONE_BY_ONE
    )
    epsilon: float = flag(
        0.05, "length of the perturbation", "training", NOT_NEGATIVE, several="grid", when={"model": PERTURBED}
    )
    beta: float = flag(
        0.01,
        "weight of the loss of perturbed samples",
        "training",
        NOT_NEGATIVE,
        several="grid",
        when={"model": PERTURBED},
    )
    l2: float = flag(1.0, "weight of the penalty on the last layer", "training", NOT_NEGATIVE, several="grid")
    loss: str = flag(
        "hinge",
        "loss of one sample",
        "training",
        one_of("hinge", "cross_entropy"),
        metavar="{hinge,cross_entropy}",
    )
    pretrain: bool = flag(False, "", "training", refused="now --start own")
    dataset: str = flag(
        "acl18", "acl18, kdd17, or one's own daily prices: a CSV file or a folder of them", "data", str, metavar="DATA"
    )
    steps: int | None = flag(5, "days per window; predict: as the model was trained", "data", POSITIVE_INT)
    train_from: str | None = flag(
        None, "first training date of own prices; default: the first", "data", str, functions=TRAINING, metavar="DATE"
    )
    validation_from: str | None = flag(
        None,
        "first validation date of own prices; default: after 70 %% of the dates",
        "data",
        str,
        functions=TRAINING,
        metavar="DATE",
    )
    test_from: str | None = flag(
        None,
        "first test date of own prices; default: after 85 %% of the dates",
        "data",
        str,
        functions=TRAINING,
        metavar="DATE",
    )
    test_until: str | None = flag(
        None, "last test date of own prices; default: the last", "data", str, functions=TRAINING, metavar="DATE"
    )
    schedule: str = only("schedule", ONE_BY_ONE)
    gradient_clipping: float = only("gradient_clipping", ONE_BY_ONE)
    optimizer: str = only("optimizer", ONE_BY_ONE)
    weight_decay: float = only("weight_decay", ONE_BY_ONE)
    weight_average: float = only("weight_average", ONE_BY_ONE)
    patience: int = only("patience", ONE_BY_ONE)
    precision: str = only("precision", ONE_BY_ONE)
    checkpoint_every: float = only("checkpoint_every", ONE_BY_ONE)
    tensorboard: bool = only("tensorboard", ONE_BY_ONE)

    def check(self) -> None:
        dates = {name: getattr(self, name) for name in ("train_from", "validation_from", "test_from", "test_until")}
        given = [name for name, date in dates.items() if date]
        if self.dataset in PUBLISHED_SETS and given:
            raise UsageError(f"--{given[0]}: {self.dataset} has the published dates")
        if self.dataset not in PUBLISHED_SETS and not Path(self.dataset).exists():
            names = ", ".join(PUBLISHED_SETS)
            raise UsageError(f"--dataset: expected {names}, a CSV file or a folder of them, found {self.dataset!r}")
        if self.function == "starts" and self.dataset not in PUBLISHED_SETS:
            raise UsageError(f"--dataset: the published starts are of {', '.join(PUBLISHED_SETS)}, not {self.dataset}")
        if self.start not in ("random", "own", "published") and not Path(self.start).is_file():
            raise UsageError(f"--start: expected random, own, published or a file, found {self.start!r}")
        if self.start == "published" and self.dataset not in PUBLISHED_SETS:
            raise UsageError(f"--start: published weights are those of {', '.join(PUBLISHED_SETS)}, not {self.dataset}")
        if self.start != "random" and self.model == "lstm":
            raise UsageError(f"--start: {self.start} has an attention, which --model lstm has not; expected random")


RECIPES = [  # Table 1 of the publication and its code; one's own prices take the values of ACL18
    recipe(batch_size=1024, learning_rate=1e-2, epochs=150, schedule="constant", gradient_clipping=0.0),
    recipe({"dataset": "kdd17"}, steps=15, hidden_size=16, l2=0.001, epsilon=0.001, beta=0.05),
    recipe({"model": "lstm"}, steps=10, hidden_size=32, l2=10.0),
    recipe({"model": "lstm", "dataset": "kdd17"}, steps=5, hidden_size=4, l2=0.001),
    recipe({"model": ("lstm", "alstm")}, epsilon=0.0, beta=0.0),
    recipe({"function": "predict"}, steps=None),
]
PRESETS = {
    "best": [
        *RECIPES,
        recipe({"function": "compare"}, start=("random", "own", "published")),
        recipe({"function": "compare", "source": "sample"}, start=("random", "own")),
        recipe({"function": ("train", "compare", "plot"), "source": "sample"}, epochs=40),
        recipe({"function": "train"}, minutes=1),
        recipe({"function": "train", "dataset": "kdd17"}, minutes=3),
        recipe({"function": "compare"}, minutes=2),
        recipe({"function": "compare", "dataset": "kdd17"}, minutes=12),
        recipe({"function": "starts"}, minutes=10),
        recipe({"function": "plot"}, minutes=5),
    ],
    "published": [
        *RECIPES,
        recipe({"function": "train", "model": PERTURBED}, start="own"),
        recipe({"function": "compare"}, start=("random", "own", "published")),
    ],
    "quick": [
        *RECIPES,
        recipe(epochs=15),
        recipe({"function": "compare"}, start=("random", "own")),
    ],
}
SCRIPT = Script(
    __file__,
    __doc__,
    {
        "train": "one model, or a grid chosen on validation data",
        "compare": "LSTM, ALSTM, Rand-ALSTM and Adv-ALSTM from each start, beside two baselines, in one table",
        "starts": "as many ALSTMs as --seeds, each trained on as Adv-ALSTM: the published start among them",
        "plot": "attention over days, validation accuracy against epsilon and beta, scores of perturbed samples",
        "predict": "score, probability and direction of each stock for the day after the newest one",
    },
    MovementSettings,
    PRESETS,
    trains=TRAINING,
    whole_study=("train", "compare", "plot", "predict"),
)
if __name__ == "__main__":
    flags.parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import itertools
import json
import statistics
import sys
import time
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from lstm_studies.evaluation import binary_scores, movement_scores
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.movement import MOVEMENT_SETS, movement_of_prices, movement_table, stock_movement
from lstm_studies.loaders.movement_samples import ADJUSTED_CLOSE, MovementPart, StockMovement, latest_windows
from lstm_studies.loaders.published_alstm import published_variables
from lstm_studies.models.attentive_ensemble import TOGETHER, fit_together
from lstm_studies.models.attentive_lstm import AttentiveLSTM, check_samples
from lstm_studies.models.history import History
from lstm_studies.models.published_alstm import convert_published
from lstm_studies.reporting import movement as report
from lstm_studies.reporting import plots
from lstm_studies.training import checkpoint, grid_search, loop, tables
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script


class AdvALSTM(AttentiveLSTM):
    """The attentive LSTM (see there for the model, its arguments, `fit`, `predict`) with progress, files and scores."""

    def show(self, epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        print(f"epoch {epoch}/{epochs}  " + "  ".join(f"{name} {value:.4f}" for name, value in row.items()), flush=True)

    def evaluate(self, X, y) -> dict[str, float]:
        """Mean `loss` of the unperturbed samples, `accuracy` and `mcc` on X (N, T, I), y (N,). Raises ValueError."""
        x, y = check_samples(X, y, self.features)
        score = self.decision_function(x)
        loss = self.sample_losses(score, 2.0 * y - 1).mean().item()
        predicted, actual = (score > 0).long().numpy(), y.numpy()
        accuracy, mcc = movement_scores.accuracy(predicted, actual), movement_scores.mcc(predicted, actual)
        return {"loss": loss, "accuracy": accuracy, "mcc": mcc}

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
    dataset: str, data_dir: Path, source: str, steps: int, limit: int | None, dates: tuple[str | None, ...]
) -> StockMovement:
    if dataset in MOVEMENT_SETS:
        return stock_movement(data_dir, dataset, source, steps, limit)
    train_from, validation_from, test_from, test_until = dates
    return movement_of_prices(dataset, steps, validation_from, test_from, limit, train_from, test_until)


def load(settings: MovementSettings | Request) -> StockMovement:
    s = settings
    dates = s.train_from, s.validation_from, s.test_from, s.test_until
    return samples(s.dataset, s.data_dir, s.source, s.steps, s.limit, dates)


def tensors(part: MovementPart) -> TensorDataset:
    return TensorDataset(part.x, part.y)


# ---- models ----------------------------------------------------------------------------------------------------------


def make(settings: MovementSettings) -> AdvALSTM:
    """The model with the weights that it starts from; without any if they are random ones."""
    model = AdvALSTM(
        settings.hidden_size,
        settings.epsilon,
        settings.beta,
        settings.learning_rate,
        settings.dropout,
        settings.l2,
        hinge=settings.loss == "hinge",
        **MODELS[settings.model],
    )
    if settings.first is not None:
        weights = start_weights(settings)
        units = len(weights["lstm.bias_ih_l0"]) // 4
        if units != settings.hidden_size or "attention_vector" not in weights:
            raise UsageError(f"--start: expected {settings.hidden_size} units with attention, found {units} units")
        model.load_state_dict(weights)
    return model


def start_weights(settings: MovementSettings) -> dict[str, Tensor]:
    """Those that this training starts from: the authors', those of a file, or those of this seed's ALSTM."""
    if settings.first == "published":
        return convert_published(published_variables(settings.data_dir, settings.dataset, settings.source))
    path = Path(settings.first)
    if path.is_dir():
        own = path / "seeds" / str(settings.seed) / "best.pt"
        path = own if own.exists() else path / "best.pt"
    return AdvALSTM.load(path).state_dict()


def with_model(request: Request, model: str, first: Path | str | None = None, **values) -> Request:
    """The request for one model of the study, which starts from `first`."""
    plain = {} if model in PERTURBED else {"epsilon": [0.0], "beta": [0.0]}
    return request.with_values(
        model=model, first=None if first is None else str(first), start=["random"], **plain, **values
    )


# ---- training and test -----------------------------------------------------------------------------------------------


def step(model: AdvALSTM, batch: loop.Batch) -> dict[str, Tensor]:
    return model.losses(*batch)


def train(settings: MovementSettings, folder: Path) -> loop.Result:
    """Trains one model; the epoch is chosen by the validation accuracy, for all models alike."""
    data = load(settings)
    settings = flags.with_data_read(settings, data.metadata)
    model = make(settings)
    if model.features is None:
        model.build(data.train.x.shape[2])
    sets = tensors(data.train), tensors(data.validation)
    return loop.train(model, step, *sets, settings, folder, monitor="accuracy", maximise=True)


def test(settings: MovementSettings, folder: Path) -> dict:
    return scores(AdvALSTM.load(folder / "best.pt"), settings)


def scores(model: AdvALSTM, settings: MovementSettings) -> dict:
    """Scores of the test part with their uncertainty, and of the validation part, on which the probabilities are
    calibrated; the hyper-parameters chosen."""
    data = load(settings)
    tested = movement_scores.movement_scores(*directions(model, data.test), data.test.dates)
    validation = model.evaluate(data.validation.x, data.validation.y)
    score = {
        name: model.decision_function(part.x).numpy() for name, part in zip(("val", "test"), data[1:3], strict=True)
    }
    slope, intercept = binary_scores.platt_scaling(score["val"], data.validation.y.numpy())
    return {
        **{name: data.metadata[name] for name in ("data", "dataset", "adjusted_column")},
        "samples": {name: data.metadata[name] for name in ("train", "validation", "test")},
        "test_dates": [str(data.test.dates[0]), str(data.test.dates[-1])],
        "steps": settings.steps,
        "chosen": {name: model.arguments[name] for name in ("units", "epsilon", "beta", "l2")},
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "head_norm": model.head.weight.norm().item(),  # the adversarial margin is 1 + epsilon times this
        **{f"test_{name}": value for name, value in tested.items()},
        "test_predicted_up": float((score["test"] > 0).mean()),
        "test_log_loss": binary_scores.log_loss(slope * score["test"] + intercept, data.test.y.numpy()),
        **{f"val_{name}": value for name, value in validation.items()},
        "calibration": {"slope": slope, "intercept": intercept},
    }


def directions(model: AdvALSTM, part: MovementPart) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and actual classes (N,)."""
    return model.predict(part.x).numpy(), part.y.numpy()


def baseline_scores(settings: MovementSettings | Request) -> dict[str, dict]:
    """What needs no training: every stock goes up, or goes on as on the day before."""
    part, metrics = load(settings).test, {}
    predicted = {"always_up": np.ones(len(part.y)), "yesterday": part.x[:, -1, ADJUSTED_CLOSE].numpy() > 0}
    for name, classes in predicted.items():
        tested = movement_scores.movement_scores(classes.astype(int), part.y.numpy(), part.dates)
        metrics[name] = {f"test_{key}": value for key, value in tested.items()}
    return metrics


# ---- all seeds of a model together -----------------------------------------------------------------------------------


def train_groups(groups: dict[tuple[str, str], Request], folder: Path) -> dict[str, dict]:
    """Metrics by row name of all seeds of each start and model, trained in parallel processes."""
    if not groups:
        return {}
    tasks = [(own.with_values(jobs=1, backend="loky"), group_folder(folder, *key)) for key, own in groups.items()]
    rows = grid_search.all_of(train_group, next(iter(groups.values())), tasks, {})
    return {report.row_name(*key): with_deviations(own) for key, own in zip(groups, rows, strict=True)}


def group_folder(folder: Path, start: str, model: str) -> Path:
    return folder / (start if start in report.STARTS else Path(start).stem) / model


def train_group(request: Request, folder: Path) -> list[dict]:
    """Trains one model with all seeds together (see models.attentive_ensemble) and tests each; metrics per seed.

    Each seed's `best.pt` and `history.csv` are in `seeds/SEED`; with --resume, seeds that are there are kept.
    """
    settings, record = dataclasses.replace(request.single(), seed=0), folder / "trained.json"
    seeds = list(range(request.seed, request.seed + request.seeds))
    if not settings.dry_run:
        settings = flags.with_data_read(settings, load(settings).metadata)
    fresh = {"settings": flags.deciding(settings), "seconds": {}}
    trained = json.loads(record.read_text()) if record.exists() else fresh
    if settings.dry_run:
        settings = flags.restored(settings, trained["settings"])
    for name, value, now in flags.differences(settings, trained["settings"]):
        raise UsageError(f"--resume: {folder} was trained with --{name} {value}, not {now}")
    missing = [seed for seed in seeds if str(seed) not in trained["seconds"]]
    if missing and settings.dry_run:
        raise checkpoint.CheckpointError(f"--dry_run: no trained models of seeds {missing} in {folder}")
    for together in (missing[i : i + TOGETHER] for i in range(0, len(missing), TOGETHER)):
        started = time.monotonic()
        fit_seeds(settings, folder, together)
        seconds = round((time.monotonic() - started) / len(together), 1)
        trained["seconds"] |= {str(seed): seconds for seed in together}
        tables.write_json(record, trained)
    rows = []
    for seed in seeds:
        training = {"seed": seed, "epochs": settings.epochs, "seconds": trained["seconds"][str(seed)]}
        rows.append(training | test(settings, folder / "seeds" / str(seed)))
    tables.write_json(folder / "metrics.json", {"seeds": rows})
    return rows


def fit_seeds(settings: MovementSettings, folder: Path, seeds: list[int]) -> None:
    data = load(settings)
    models = [make(dataclasses.replace(settings, seed=seed)) for seed in seeds]
    name = f"{folder.parent.name} {folder.name}, seeds {seeds[0]} to {seeds[-1]}"

    def progress(first: int, histories: list[History]) -> None:
        epoch = len(histories[0].epoch)
        if not settings.quiet and (epoch % 10 == 0 or epoch == settings.epochs):
            accuracy = np.mean([history.history["val_accuracy"][-1] for history in histories])
            print(f"{name}: epoch {epoch}/{settings.epochs}  mean val_accuracy {accuracy:.4f}", flush=True)

    validation = data.validation.x, data.validation.y
    fit_together(models, data.train.x, data.train.y, validation, settings.epochs, settings.batch_size, seeds, progress)
    for seed, model in zip(seeds, models, strict=True):
        place = folder / "seeds" / str(seed)
        place.mkdir(parents=True, exist_ok=True)
        model.save(place / "best.pt")
        tables.write_csv(place / "history.csv", model.history.rows())


def with_deviations(rows: list[dict]) -> dict:
    """The first seed's metrics, with mean and standard deviation over the seeds of every number."""
    metrics = dict(rows[0])
    for key, value in rows[0].items():
        if isinstance(value, float) and len(rows) > 1:
            values = [row[key] for row in rows]
            metrics[f"{key}_mean"], metrics[f"{key}_std"] = statistics.mean(values), statistics.stdev(values)
    return {**metrics, "seeds": len(rows)}


# ---- functions -------------------------------------------------------------------------------------------------------


def train_models(request: Request, folder: Path) -> dict:
    """Trains one model, or a grid; from each of several starts in a folder of its own."""
    runs = {}
    for start in request.start:
        first = {"random": None, "own": folder / "first_stage"}.get(start, start)
        runs[report.row_name(start, request.model)] = request.with_values(start=[start], first=first and str(first))
        if start == "own":
            grid_search.fit(with_model(request, "alstm"), folder / "first_stage", train, test)
    metrics = grid_search.fit_many(runs, folder, train, test)
    for place in grid_search.model_folders(runs, folder).values():
        plot_history({request.model: place}, place)
    baselines = {f"{name}_{k}": v for name, own in baseline_scores(request).items() for k, v in own.items()}
    if len(metrics) > 1:
        return {**metrics, "baselines": baselines}
    return {**next(iter(metrics.values())), **baselines}


def plot_history(folders: dict[str, Path], folder: Path) -> None:
    """Accuracy against epochs (of the first seed)."""
    series = {}
    for name, place in folders.items():
        for part, curve in tables.read_curves(place, "accuracy").items():
            series[report.label(name), part] = curve
    dashed = [name for name in series if name[-1] == "training"]
    plots.curves(folder / "accuracy.png", series, "epoch", "accuracy", dashed=dashed)


def compare(request: Request, folder: Path) -> dict:
    """Trains every model from every start; one table and one figure, with baselines and published numbers."""
    check_one_combination(request)
    starts, alstm = possible_starts(request), with_model(request, "alstm")
    trained = train_groups({("random", "alstm"): alstm}, folder) if {"random", "own"} & set(starts) else {}
    first = {"random": None, "own": folder / "random" / "alstm"}
    keys = [(start, name) for start in starts for name in MODELS if name != "lstm" or start == "random"]
    left = sorted((k for k in keys if report.row_name(*k) not in trained), key=lambda k: k[1] == "lstm")  # slow: last
    trained |= train_groups({k: with_model(request, k[1], first.get(k[0], k[0])) for k in left}, folder)
    metrics = baseline_scores(alstm)
    for start in starts:
        if start not in first:
            metrics[report.row_name(start, "start")] = scores_of_start(with_model(request, "alstm", start))
        metrics |= {report.row_name(*key): trained[report.row_name(*key)] for key in keys if key[0] == start}
    add_gains(metrics, alstm, folder, starts)
    rows = report.comparison(metrics, load(alstm).metadata["dataset"])
    tables.write_csv(folder / "comparison.csv", rows)
    report.accuracies(folder / "comparison.png", metrics)
    if not request.quiet:
        report.print_comparison(rows)
    return metrics


def check_one_combination(request: Request) -> None:
    if request.varied():
        raise UsageError(f"--{request.varied()[0]}: expected one value for {request.function}; train searches a grid")


def possible_starts(request: Request) -> list[str]:
    """The starts asked for, without the published one where the sample stands in for the archive that it is in."""
    starts, data = list(dict.fromkeys(request.start)), load(with_model(request, "alstm")).metadata["data"]
    if data == "sample" and "published" in starts and len(starts) > 1:
        starts.remove("published")
        print("NOTICE: the published weights are in the archive: no rows of that start", file=sys.stderr)
    return starts


def scores_of_start(request: Request) -> dict:
    """Test metrics of the weights that a training starts from, as they are."""
    settings = request.single()
    return {"epochs": 0, **scores(make(settings).eval(), settings)}


def add_gains(metrics: dict[str, dict], request: Request, folder: Path, starts: list[str]) -> None:
    """How much more accurate each model is, over all seeds, than the ALSTM of its start, than the same model from
    random weights, and than "always up"."""
    part, shares = load(request).test, {}
    for start, name in itertools.product(starts, ("alstm", *PERTURBED)):
        seeds = range(request.seed, request.seed + request.seeds)
        paths = [group_folder(folder, start, name) / "seeds" / str(seed) / "best.pt" for seed in seeds]
        right = [np.equal(*directions(AdvALSTM.load(path), part)) for path in paths]
        shares[start, name] = np.mean(right, 0)  # of each sample, the share of trainings that got it right
    for (start, name), share in shares.items():
        references = {
            "alstm": shares[start, "alstm"],
            "random": shares.get(("random", name)),
            "always_up": part.y.numpy(),
        }
        for other, reference in references.items():
            if reference is not None and reference is not share:
                keys = (f"gain_over_{other}", f"gain_over_{other}_low", f"gain_over_{other}_high")
                values = movement_scores.gain(share, reference, part.dates)
                metrics[report.row_name(start, name)] |= dict(zip(keys, values, strict=True))


def starts(request: Request, folder: Path) -> dict:
    """Trains ALSTMs and, from each, an Adv-ALSTM; the published ALSTM among them, in a table and a figure."""
    check_one_combination(request)
    train_groups({("random", "alstm"): with_model(request, "alstm")}, folder)
    few = min(request.seeds, 10)
    second = {
        ("own", "adv_alstm"): with_model(request, "adv_alstm", folder / "random" / "alstm"),
        ("published", "adv_alstm"): with_model(request, "adv_alstm", "published", seeds=few),
    }
    train_groups(second, folder)
    own = {"start": read_rows(folder, "random", "alstm"), "after": read_rows(folder, "own", "adv_alstm")}
    published = {
        "start": [scores_of_start(with_model(request, "alstm", "published"))] * few,
        "after": read_rows(folder, "published", "adv_alstm"),
    }
    tables.write_csv(folder / "starts.csv", report.start_rows("own", own) + report.start_rows("published", published))
    percent = {name: [100 * row["test_accuracy"] for row in rows] for name, rows in own.items()}
    report.starts(
        folder / "starts.png",
        (percent["start"], percent["after"]),
        (
            100 * published["start"][0]["test_accuracy"],
            [100 * row["test_accuracy"] for row in published["after"]],
        ),
        {"published Adv-ALSTM": report.PUBLISHED[request.dataset]["published_adv_alstm"][0]},
    )
    return {"data": "full", "dataset": request.dataset, **report.summary_of_starts(own, published)}


def read_rows(folder: Path, start: str, model: str) -> list[dict]:
    """The metrics per seed that `train_group` left."""
    return json.loads((group_folder(folder, start, model) / "metrics.json").read_text())["seeds"]


def plot(request: Request, folder: Path) -> dict:
    """Trains ALSTM and Adv-ALSTM, and Adv-ALSTM over epsilon and over beta; draws attention, sweeps and scores."""
    adversarial = with_model(request, "adv_alstm")
    base = adversarial.with_values(epsilon=adversarial.epsilon[:1], beta=adversarial.beta[:1])
    runs = {"alstm": with_model(request, "alstm"), "adv_alstm": base}
    for key in ("epsilon", "beta"):
        values = getattr(request, key) if key in request.given else SWEEP
        runs |= {f"{key}_{value:g}": base.with_values(**{key: [value]}) for value in values}
    metrics = grid_search.fit_many(runs, folder, train, test)
    for key in ("epsilon", "beta"):
        report.sweep(folder / f"{key}.png", key, metrics)
    models = {name: AdvALSTM.load(folder / name / "best.pt") for name in ("alstm", "adv_alstm")}
    part = load(base).validation
    weights = {name: model.attention_weights(part.x).mean(0).tolist() for name, model in models.items()}
    report.attention(folder / "attention.png", weights)
    return {**metrics, **plot_scores(models, base.epsilon[0], part, folder)}


def plot_scores(models: dict[str, AdvALSTM], epsilon: float, part: MovementPart, folder: Path) -> dict:
    """Histograms of scores on clean and adversarial validation samples; returns the accuracies on both."""
    panels, accuracies = {}, {}
    for name, model in models.items():
        clean, perturbed = model.decision_function(part.x), model.perturbed_scores(part.x, part.y, epsilon)
        panels[report.label(name)] = {"clean": clean.numpy(), "adversarial": perturbed.numpy()}
        for kind, score in (("clean", clean), ("perturbed", perturbed)):
            accuracies[f"{name}_{kind}_accuracy"] = ((score > 0) == (part.y > 0)).double().mean().item()
    plots.histograms(folder / "scores.png", panels, "score", "validation samples")
    return accuracies


def predict(request: Request, folder: Path) -> dict:
    """Writes predictions.csv: for each stock the newest date, score, calibrated probability and direction."""
    path = request.checkpoint or request.output_dir / "train" / "best.pt"
    model, record = AdvALSTM.load(path), training_record(path)
    table = movement_table(request.dataset, request.data_dir, request.source)
    part = latest_windows(table, request.steps or steps_of(path))
    newest = part.dates == table.dates[-1]
    if not newest.any():
        raise DataError(f"{request.dataset}: expected a stock with complete days up to {table.dates[-1]}, found none")
    if not request.every_day:
        part = MovementPart(part.x[newest], part.y[newest], part.dates[newest], part.tickers[newest])
    score = model.decision_function(part.x).numpy()
    rows = report.prediction_rows(part.dates, part.tickers, score, record.get("calibration"))
    tables.write_csv(folder / "predictions.csv", rows)
    silent = sorted(set(table.tickers) - set(part.tickers[part.dates == table.dates[-1]].tolist()))
    metrics = {
        "dataset": request.dataset,
        "rows": len(rows),
        "first_date": str(part.dates[0]),
        "last_date": str(part.dates[-1]),
        "predicted_up": float((score > 0).mean()),
        "without_prediction": silent,
        "adjusted_column": table.adjusted_column,
        "checkpoint": str(path),
        "trained_on": {name: record[name] for name in RECORD if name in record},
    }
    if not request.quiet:
        report.print_predictions(rows, metrics)
    return metrics


RECORD = (
    *("dataset", "test_dates", "test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *("always_up_test_accuracy", "test_log_loss"),
)


def training_record(path: Path) -> dict:
    """The metrics that the training of a model left beside it, {} if there are none."""
    try:
        record = tables.read_json(path.parent / "metrics.json")
    except checkpoint.CheckpointError:
        return {}
    return record if "test_accuracy" in record else {}


def steps_of(path: Path) -> int:
    """Days per window of a trained model, from the checkpoint beside it."""
    flags = (checkpoint.load_latest(path.with_name("last.pt")) or {}).get("flags")
    steps = flags.get("steps") if isinstance(flags, dict) else None
    if not isinstance(steps, int) or steps < 1:
        raise UsageError(f"--steps: expected the days per window of {path}, which has no last.pt beside it with them")
    return steps


FUNCTIONS = {"train": train_models, "compare": compare, "starts": starts, "plot": plot, "predict": predict}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
