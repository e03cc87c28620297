"""LSTM autoencoder on your own series of measurements: anomalies by time stamp, with their columns, and codes.

    python lstm_ae_series.py                                         # a machine's temperature, from file to events
    python lstm_ae_series.py --function train --data sensors.csv     # columns of numbers, a time column or none
    python lstm_ae_series.py --function train --data folder/ --jobs 2                  # a model for each file
    python lstm_ae_series.py --function anomalies --data new.csv     # anomalies.csv, events.csv and a figure
    python lstm_ae_series.py --function encode --data new.csv        # codes of all windows
    python lstm_ae_series.py --function planted                      # how well planted anomalies are recognised
    python lstm_ae_series.py --function export                       # the model for other software: .pt2 and ONNX
    python lstm_ae_series.py --function benchmark --jobs 2           # 58 labelled series (Numenta Anomaly Benchmark)

Each series is scaled by its training part, the first 60 %, and cut into overlapping windows, none across a gap. The
error of a record is the mean over all windows that hold it. The threshold is a quantile of the errors of the validation
part, the next 20 %, and is stored in the model. Opponents are PCA, a moving z-score, an isolation forest and a matrix
profile, fitted on the same records.

Deviations from Malhotra et al. 2016, "LSTM-based encoder-decoder for multi-sensor anomaly detection":
1. Their decoder starts from the encoder's whole state and reads its own outputs; here the code is all that it sees.
2. Their score is the Mahalanobis distance of the errors, and the threshold is chosen on labelled anomalies; here the
   score is a mean of squared errors, and the threshold a quantile of records without labels.
Results and discussion: docs/results/report/report.md. Usage and your own data: docs/lstm_ae_series.md.
"""

from config.lstm_ae_series import SCRIPT, Fit
from lstm_studies.training.flags import parse

if __name__ == "__main__":
    parse(SCRIPT)  # before the slow imports: --help and wrong flags answer at once

import itertools
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lstm_studies.evaluation import detectors, nab
from lstm_studies.evaluation.intervals import compare
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.series import Series, in_order, read_benchmark, read_series
from lstm_studies.models.programs import SeriesProgram
from lstm_studies.models.series_autoencoder import SeriesAutoencoder, check_offsets
from lstm_studies.reporting import plots
from lstm_studies.reporting.series import plot_anomalies
from lstm_studies.training import checkpoint, flags, loop, search, tables
from lstm_studies.training.export import export_program
from lstm_studies.training.presets import Request
from lstm_studies.training.run import run_script
from lstm_studies.training.settings import UsageError
from lstm_studies.training.trained import trained_model, write_codes

OURS = "LSTM autoencoder"

# ---- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def all_series(data: str) -> dict[str, Series]:
    return {series.name: series for series in read_series(data)}


@lru_cache(maxsize=1)
def benchmark_series(folder: Path) -> dict[str, Series]:
    return {series.name: series for series in read_benchmark(folder)}


def load(settings: Fit) -> Series:
    if settings.function == "benchmark":
        return benchmark_series(settings.data_dir / "nab")[settings.series]
    return all_series(settings.data)[settings.series]


class Windows:
    """Windows (B, T, C) of the records of a series, computed on access."""

    def __init__(self, series: Series, records: slice, window: int):
        self.values = torch.tensor(series.values, dtype=torch.float32)  # (N, C)
        first, last, _ = records.indices(len(self.values))
        starts = first + detectors.window_starts(series.segment[first:last], window)
        self.starts, self.steps = torch.as_tensor(starts), torch.arange(window)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor]:
        return (self.values[self.starts[indices].unsqueeze(1) + self.steps],)


def parts(series: Series, settings: Fit) -> dict[str, slice]:
    """The records of each part, in the order of time."""
    count = len(series.values)
    if settings.function == "benchmark":
        ends = [nab.probation(count)] * 2
    else:
        first = settings.train_share
        ends = [round(share * count) for share in (first, first + settings.validation_share)]
    return {"training": slice(0, ends[0]), "validation": slice(*ends), "test": slice(ends[1], count)}


# ---- model and loss --------------------------------------------------------------------------------------------------


def build(settings: Fit, series: Series) -> SeriesAutoencoder:
    model = SeriesAutoencoder(
        len(series.columns),
        settings.window,
        settings.hidden_size,
        settings.code_size,
        settings.num_layers,
        settings.positional_harmonics,
        series.columns,
    )
    values = series.values[parts(series, settings)["training"]]
    try:
        check_offsets(values.min(0), values.max(0))
    except ValueError as error:
        raise DataError(f"{series.name}: {error}") from None
    model.set_scale(values)
    return model


def make_step(settings: Fit) -> loop.Step:
    def step(model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        (x,) = batch  # (B, T, C)
        noise = settings.noise if model.training else 0.0
        return {"loss": model(x, noise).mean()}

    return step


# ---- training and test -----------------------------------------------------------------------------------------------


def train(settings: Fit, folder: Path) -> loop.Result:
    series = load(settings)
    training, validation = (
        Windows(series, parts(series, settings)[part], settings.window) for part in ("training", "validation")
    )
    training.starts = training.starts[: settings.limit]
    model = build(settings, series)
    result = loop.train(model, make_step(settings), training, validation if len(validation) else None, settings, folder)
    if settings.function == "train":
        part = parts(series, settings)["validation" if len(validation) else "training"]
        errors = record_errors(model, before_test(series, settings))[part].mean(1)
        model.set_threshold(errors, settings.quantile)
        described = {"model": checkpoint.describe(model), "flags": flags.deciding(settings)}
        checkpoint.save(folder / "best.pt", {**described, "epoch": result.best_epoch})
    return result


def before_test(series: Series, settings: Fit) -> Series:
    """The series without its test part, so that no window of the others reaches into that."""
    known = parts(series, settings)["test"].start
    return series._replace(values=series.values[:known], segment=series.segment[:known])


def check(request: Request) -> None:
    """Raises UsageError if no window fits into the training part, or if no validation data can choose from a grid."""
    for settings in request.combinations():
        series = load(settings)
        of = parts(series, settings)
        longest = detectors.longest_run(series.segment[of["training"]])
        if settings.window > longest:
            raise UsageError(
                f"--window: expected at most {longest}, the most records without a gap in the training part of "
                f"{series.name}, found {settings.window}; without the column of times, weekends are no gaps"
            )
        if request.varied() and not len(Windows(series, of["validation"], settings.window)):
            name = request.varied()[0]
            raise UsageError(f"--{name}: expected one value, since no window of {series.name} validates")


@torch.no_grad()
def record_errors(model: SeriesAutoencoder, series: Series) -> np.ndarray:
    """The error of each record, (N, C) in squared deviations of the training part; NaN where no window fits."""
    windows, device = Windows(series, slice(None), model.window), model.mean.device

    def batches() -> Iterator[np.ndarray]:
        for indices in torch.arange(len(windows)).split(1000):
            yield model(windows[indices][0].to(device)).cpu().numpy()

    return detectors.record_errors(batches(), windows.starts.numpy(), len(series.values))


def test(settings: Fit, folder: Path) -> dict:
    """Errors of the model and of PCA on each part; average precision and F1 where anomalies are labelled."""
    series, model = load(settings), checkpoint.rebuild(folder / "best.pt", SeriesAutoencoder).to(settings.device)
    if settings.function == "train":
        check_threshold(model, folder)
    training, known = parts(series, settings)["training"].stop, before_test(series, settings)
    simple = {} if settings.function == "benchmark" else detectors.opponents(settings.code_size)
    scores, early = {"model": record_errors(model, series).mean(1)}, {"model": record_errors(model, known).mean(1)}
    scores |= {name: fit(series.values, training, series.segment, model.window) for name, fit in simple.items()}
    if simple:
        early["PCA"] = simple["PCA"](known.values, training, known.segment, model.window)
    metrics = {
        "records": len(series.values),
        "columns": len(series.columns),
        "segments": len(np.unique(series.segment)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "threshold": model.threshold.item(),
    }
    for part, records in parts(series, settings).items():
        errors = {name: of[records] for name, of in (scores if part == "test" else early).items()}
        if np.isfinite(errors["model"]).any():
            metrics[f"{part}_error"] = float(np.nanmean(errors["model"]))
            if simple:
                metrics[f"{part}_pca_error"] = float(np.mean(errors["PCA"]))
    scores["model"] = detectors.filled(scores["model"])
    if (ours := metrics.get("validation_error", 0.0)) > (theirs := metrics.get("validation_pca_error", float("inf"))):
        metrics["notice"] = f"NOTICE: {series.name}: its validation error, {ours:.3g}, is above PCA's, {theirs:.3g}"
    return metrics | detection_scores(series, scores, training, model.threshold.item())


def detection_scores(series: Series, scores: dict[str, np.ndarray], training: int, threshold: float) -> dict:
    """After training: average precision of each detector, and the F1 score at the model's threshold."""
    labels = np.zeros(len(series.values), bool)
    for first, last in series.anomalies:
        labels[first : last + 1] = True
    labels = labels[training:]
    if not labels.any():
        return {}
    metrics = {
        f"average_precision{'' if name == 'model' else f'_{name}'}": detectors.average_precision(s[training:], labels)
        for name, s in scores.items()
    }
    flagged = scores["model"][training:] > threshold
    return {**metrics, "anomalous_share": float(labels.mean()), "f1": detectors.f1_score(flagged, labels)}


# ---- functions -------------------------------------------------------------------------------------------------------


def run_training(request: Request, folder: Path) -> dict:
    """Trains a model for each series; draws series, errors and events, and the losses."""
    runs = {}
    for data in request.data:
        for name in all_series(data):
            if name in runs:
                raise DataError(f"--data: expected series of different names, found two of {name}")
            runs[name] = request.with_values(data=[data], series=name)
            check(runs[name])
    metrics = search.fit(runs, folder, train, test)
    losses = {}
    for name, path in search.model_folders(runs, folder).items():
        settings, model = runs[name].single(), checkpoint.rebuild(path / "best.pt", SeriesAutoencoder)
        series = all_series(settings.data)[name]
        draw(folder / f"{name}.png", series, record_errors(model, series), model)
        losses |= {(name, part): curve for part, curve in tables.read_curves(path, "loss").items()}
    plots.curves(folder / "loss.png", losses, "epoch", "squared error (training variances)", log=True)
    return metrics


def draw(path: Path, series: Series, errors: np.ndarray, model: SeriesAutoencoder) -> None:
    scores, threshold = errors.mean(1), model.threshold.item()
    events = detectors.events(scores, threshold, model.window)
    plot_anomalies(path, series.time, series.values, series.columns, scores, threshold, events, series.anomalies)


def trained_folders(request: Request) -> dict[str, Path]:
    """The folder of each trained model by the name of its series; of a single one, "" by its folder."""
    folder = request.model_from or request.output_dir / "train"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/best.pt"))} or {"": folder}


def read_model(request: Request, path: Path) -> tuple[SeriesAutoencoder, Fit, Path]:
    model, settings, path = trained_model(request.with_values(model_from=path), "train", SeriesAutoencoder)
    check_threshold(model, path)
    return model, settings, path


def check_threshold(model: SeriesAutoencoder, folder: Path) -> None:
    """Raises CheckpointError if the training ended, by a crash, before it set the threshold."""
    if not model.threshold > 0:
        raise checkpoint.CheckpointError(
            f"{folder / 'best.pt'}: expected a threshold of anomalies, found none; --function train --resume sets it"
        )


def models_of(request: Request, data: str | None) -> Iterator[tuple[SeriesAutoencoder, Fit, Path, Series]]:
    """Each series of `data`, or of the training, with the model for it: that of its name, or the only one."""
    folders = trained_folders(request)
    if data is not None:
        files = [data] if isinstance(data, str) else data  # several in the whole study, as for its training
        wanted = {name: series for file in files for name, series in all_series(file).items()}
    else:
        trainings = [read_model(request, path) for path in folders.values()]
        wanted = {settings.series: load(settings) for _, settings, _ in trainings}
    for name, series in wanted.items():
        path = folders.get(name) or (next(iter(folders.values())) if len(folders) == 1 else None)
        if path is None:
            raise DataError(f"--data: expected series of the models: {', '.join(folders)}, found {name}")
        model, settings, path = read_model(request, path)
        if (longest := detectors.longest_run(series.segment)) < model.window:
            raise DataError(f"{name}: expected {model.window} records without a gap, a window, found at most {longest}")
        yield model, settings, path, in_order(series, model.arguments["columns"], model.arguments["column_names"])


def anomalies(request: Request, folder: Path) -> dict:
    """Writes anomalies.csv, a row per record, and events.csv, a row per event; draws both.

    Records that no window holds, between gaps less than a window apart, have neither score nor verdict.
    """
    rows, event_rows, metrics = [], [], {}
    for model, _, path, series in models_of(request, request.data):
        errors, threshold = record_errors(model, series), model.threshold.item()
        scores = errors.mean(1)
        unscored = np.isnan(scores)
        shares = errors / np.maximum(errors.sum(1, keepdims=True), 1e-30)
        runs = detectors.events(scores, threshold, model.window)
        for i, time in enumerate(series.time):
            row = {
                "series": series.name,
                "time": str(time),
                "score": "" if unscored[i] else f"{scores[i]:.6g}",
                "threshold": f"{threshold:.6g}",
                "anomaly": "" if unscored[i] else int(scores[i] > threshold),
            }
            columns = {} if unscored[i] else zip(series.columns, shares[i], strict=True)
            rows.append(row | {f"share {name}": f"{share:.3f}" for name, share in columns})
        for first, last, peak in runs:
            worst = series.columns[int(np.nanargmax(errors[peak]))]
            times = {"start": series.time[first], "end": series.time[last], "peak": series.time[peak]}
            event_rows.append(
                {
                    "series": series.name,
                    **{k: str(t) for k, t in times.items()},
                    "score": f"{scores[peak]:.6g}",
                    "worst_column": worst,
                }
            )
        metrics[series.name] = {
            "model": str(path),
            "records": len(series.values),
            "unscored_records": int(unscored.sum()),
            "anomalous_records": int((scores > threshold).sum()),
            "events": len(runs),
            "threshold": threshold,
        }
        if unscored.any():
            message = f"{unscored.sum()} of {len(scores)} records are in no window of {model.window} without a gap"
            print(f"NOTICE: {series.name}: {message} and have no score", file=sys.stderr)
        draw(folder / f"{series.name}.png", series, errors, model)
    names = dict.fromkeys(name for row in rows for name in row)  # series of several files may differ in their columns
    tables.write_csv(folder / "anomalies.csv", [{name: row.get(name, "") for name in names} for row in rows])
    tables.write_csv(folder / "events.csv", event_rows, "series start end peak score worst_column".split())
    return metrics


@torch.no_grad()
def encode(request: Request, folder: Path) -> dict:
    """Writes the codes of all windows to codes.csv."""
    names, codes, metrics = [], [], {}
    for model, settings, path, series in models_of(request, request.data):
        windows = Windows(series, slice(None), model.window)
        for indices in torch.arange(len(windows)).split(1000):
            codes += model.encode(windows[indices][0].to(settings.device)).cpu()
        names += [f"{series.name} {series.time[start]}" for start in windows.starts.tolist()]
        metrics[series.name] = {"model": str(path), "windows": len(windows), "code_size": len(codes[-1])}
    write_codes(folder / "codes.csv", names, codes)
    return metrics


def planted(request: Request, folder: Path) -> dict:
    """F1 scores of planted anomalies, each detector at the same quantile of its own scores of validation records."""
    rng, rows = np.random.default_rng(request.seed), []
    for planting, (_, settings, path, series) in itertools.product(
        range(request.plantings), list(models_of(request, None))
    ):
        part = parts(series, settings)
        validation = part["validation" if settings.validation_share else "training"]
        test, training = part["test"], part["training"].stop
        known = scores_of(path, before_test(series, settings), settings, training)
        for kind in detectors.KINDS if len(series.columns) > 1 else detectors.KINDS[:-1]:
            try:
                values, anomalous = detectors.plant(series.values, kind, test.start, settings.window, rng)
            except ValueError as error:
                raise DataError(f"{series.name}: test part: {error}") from None
            scores = scores_of(path, series._replace(values=values), settings, training)
            for name, k in ((name, k) for name, of_name in scores.items() for k in range(len(of_name))):
                score = scores[name][k]
                flagged = score[test] > np.quantile(known[name][k][validation], settings.quantile)
                row = {"series": series.name, "planting": planting, "kind": kind, "detector": name, "training": k}
                row["f1"] = detectors.f1_score(flagged, anomalous[test])
                rows.append({**row, "average_precision": detectors.average_precision(score[test], anomalous[test])})
    tables.write_csv(folder / "planted.csv", rows)
    metrics, f1 = {}, {}
    for name in scores:
        trainings = [
            [r for r in rows if r["detector"] == name and r["training"] == k] for k in range(len(scores[name]))
        ]
        metrics[name] = search.over_seeds([planted_metrics(of_one) for of_one in trainings])
        f1[name] = np.array([[row["f1"] for row in of_one] for of_one in trainings])  # (trainings, cases)
    groups = [row["series"] for row in trainings[0]]  # the plantings of one have the same records and models
    metrics[OURS]["against"] = {name: {"f1": compare(f1[OURS], f1[name], groups)} for name in detectors.OPPONENTS}
    return metrics


def scores_of(folder: Path, series: Series, settings: Fit, training: int) -> dict[str, list[np.ndarray]]:
    """The scores (N,) of a series' records: of the model of each seed, and of each opponent."""
    fits = detectors.opponents(settings.code_size)
    models = [checkpoint.rebuild(path / "best.pt", SeriesAutoencoder) for path in tables.trainings_in(folder)]
    ours = [detectors.filled(record_errors(model, series).mean(1)) for model in models]
    theirs = {name: [fit(series.values, training, series.segment, settings.window)] for name, fit in fits.items()}
    return {OURS: ours, **theirs}


def planted_metrics(rows: list[dict]) -> dict:
    """Means over the series of each kind and of all."""
    names = ("f1", "average_precision")
    metrics = {name: float(np.mean([row[name] for row in rows])) for name in names}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        metrics |= {f"{name}_{kind}": float(np.mean([row[name] for row in of_kind])) for name in names}
    return {**metrics, "series": len({row["series"] for row in rows})}


def export(request: Request, folder: Path) -> dict:
    """Exports each model with its scaling and threshold for other software."""
    metrics = {}
    for name, path in trained_folders(request).items():
        model, settings, path = read_model(request, path)
        metrics[settings.series] = export_program(folder / name, SeriesProgram(model), path)
    return metrics


def benchmark(request: Request, folder: Path) -> dict:
    """Trains a model for each of the 58 series; the benchmark's score of all, beside that of simple opponents."""
    series = benchmark_series(request.data_dir / "nab")
    runs = {name: request.with_values(series=name) for name in series}
    for one in runs.values():
        check(one)
    search.fit(runs, folder, train, test)
    scores = {name: {} for name in (OURS, *detectors.OPPONENTS)}  # by detector and series, of each training
    for name, path in search.model_folders(runs, folder).items():
        training = nab.probation(len(series[name].values))
        for detector, of_one in scores_of(path, series[name], runs[name].single(), training).items():
            scores[detector][name] = of_one
    metrics, shares = {}, {}
    for name, by_series in scores.items():
        trainings = [dict(zip(by_series, of_one, strict=True)) for of_one in zip(*by_series.values(), strict=True)]
        rows, by_training = zip(*(nab_metrics(series, of_one) for of_one in trainings), strict=True)
        metrics[name], shares[name] = search.over_seeds(rows), np.stack(by_training)
    tables.write_csv(folder / "comparison.csv", [{"detector": name, **values} for name, values in metrics.items()])
    against = {name: {"score": compare(shares[OURS], shares[name])} for name in detectors.OPPONENTS}
    return {**metrics, OURS: metrics[OURS] | {"against": against}}


def nab_metrics(series: dict[str, Series], scores: dict[str, np.ndarray]) -> tuple[dict, np.ndarray]:
    """The benchmark's total of a detector with its mean average precision over the series with anomalies, and what each
    series contributes to the total.

    Alerts come from its scores or from their surprise, whichever gives the better total.
    """
    totals = [
        nab.benchmark([(detectors.alerts(form(scores[n])), one.anomalies) for n, one in series.items()])
        for form in (detectors.surprise, np.asarray)
    ]
    precisions = [
        detection_scores(one, {"model": scores[n]}, nab.probation(len(one.values)), np.inf).get("average_precision")
        for n, one in series.items()
    ]
    known = [value for value in precisions if value is not None]
    *best, by_series = max(totals, key=lambda total: total.score)
    metrics = dict(zip(nab.Total._fields, best, strict=False))
    return {**metrics, "average_precision": float(np.mean(known)), "series": len(series)}, by_series


FUNCTIONS = {"train": run_training} | {f.__name__: f for f in (anomalies, encode, planted, export, benchmark)}


def main(argv: list[str] | None = None) -> dict:
    return run_script(SCRIPT, FUNCTIONS, argv)


if __name__ == "__main__":
    main()
