"""Series of measurements with time stamps: a table of them, a folder of tables, or one of the bundled examples.

A table has at most one column of times (or none: then records are counted), any number of columns of numbers, and at
most one column of names, whose rows are then a series each. What a reader was not told it says in one line.
"""

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lstm_studies.loaders.files import SAMPLES, DataError, download, read_bytes, reading
from lstm_studies.loaders.price_files import NAMES
from lstm_studies.loaders.tables import are_numbers, counts_rows, read_rows, say, to_numbers, to_time, to_times

EXAMPLES = ("machine_temperature", "nyc_taxi")  # of the Numenta Anomaly Benchmark, with their labelled anomalies
INVENTED = "sensors"  # three generated series of several columns
NAB_URL = "https://raw.githubusercontent.com/numenta/NAB/ea702d75cc2258d9d7dd35ca8e5e2539d71f3140"
SUMS = SAMPLES / "nab" / "SHA256SUMS"  # of the benchmark's files
FILES = {"machine_temperature": "machine_temperature_system_failure", "nyc_taxi": "nyc_taxi"}
COLUMNS = {"machine_temperature": "temperature", "nyc_taxi": "passengers"}
EXPECTED = "a table with columns of numbers and, as far as there are any, a column of times and one of names"
MOST_NAMES = 1000  # series of a table
FILLED = 3  # missing values in a row that are filled in by interpolation; more of them are a gap
ENDINGS = (".csv", ".csv.gz", ".tsv", ".txt", ".parquet")


class Series(NamedTuple):
    """One series, in the order of time."""

    name: str
    columns: tuple[str, ...]  # C names
    time: np.ndarray  # (N,) datetime64[us], or int64, the numbers of the records from 1 on
    values: np.ndarray  # (N, C) float64, without missing ones
    segment: np.ndarray  # (N,) int64, increasing: records of one segment follow one another without a gap
    anomalies: tuple[tuple[int, int], ...] = ()  # first and last record of each labelled anomaly, where they are known


def in_order(series: Series, count: int, names: Sequence[str]) -> Series:
    """The series, its columns ordered as the `count` columns of the training. Raises DataError for another number."""
    if count != len(series.columns):
        found = ", ".join(series.columns)
        raise DataError(f"{series.name}: expected {count} columns of numbers, as in training, found {found}")
    if not set(names) & set(series.columns):  # all have other names
        return series
    if set(names) != set(series.columns):
        expected, found = ", ".join(names), ", ".join(series.columns)
        raise DataError(f"{series.name}: expected the columns {expected}, as in training, found {found}")
    order = [series.columns.index(name) for name in names]
    return series._replace(columns=tuple(names), values=series.values[:, order])


def read_series(path: Path | str) -> list[Series]:
    """The series of a file, of all files of a folder, of one of EXAMPLES, or INVENTED ones. Raises DataError, with the
    line if there is one."""
    if str(path) == INVENTED:
        return [sensors(seed) for seed in (1, 2, 3)]
    if str(path) in EXAMPLES:
        return [example(str(path))]
    path = Path(path)
    with reading(path, "a table of series or a folder of them"):
        files = sorted(p for p in path.iterdir() if p.name.lower().endswith(ENDINGS)) if path.is_dir() else None
    if files is None:
        return read_table(path)
    if not files:
        raise DataError(f"{path}: expected files that end in {', '.join(ENDINGS)}, found none")
    series = [one for file in files for one in read_table(file)]
    for one in series:
        if one.columns != series[0].columns:
            raise DataError(
                f"{path}: expected the same columns of numbers in every file, found {', '.join(series[0].columns)} in "
                f"{series[0].name} and {', '.join(one.columns)} in {one.name}"
            )
    return series


def example(name: str) -> Series:
    """One of EXAMPLES with its labelled anomalies."""
    folder = SAMPLES / "nab"
    data = gzip.decompress((folder / f"{FILES[name]}.csv.gz").read_bytes())
    table = pd.read_csv(io.BytesIO(data), parse_dates=["timestamp"])
    windows = json.loads((folder / "windows.json").read_text())[FILES[name]]
    time = table["timestamp"].to_numpy("datetime64[us]")
    (series,) = made(name, time, (COLUMNS[name],), table[["value"]].to_numpy(np.float64), [])
    records = [records_between(series.time, *window) for window in windows]
    return series._replace(anomalies=tuple((int(r[0]), int(r[-1])) for r in records))


def read_benchmark(folder: Path) -> list[Series]:
    """The series of the Numenta Anomaly Benchmark with their labelled anomalies. Raises DataError.

    folder: holds data/ and labels/ of github.com/numenta/NAB; what is missing there is downloaded.
    """
    sums = dict(line.split()[::-1] for line in SUMS.read_text().splitlines())
    absent = [name for name in sums if not (folder / name).exists()]
    try:
        for name in absent:
            download(f"{NAB_URL}/{name}", folder / name, sums[name])
    except DataError as error:
        raise DataError(
            f"{folder}: expected data/ and labels/ of the Numenta Anomaly Benchmark, found {len(absent)} of its "
            f"{len(sums)} files missing and could not fetch them ({error}); put them there, from "
            "https://github.com/numenta/NAB, or give the folder above with --data_dir"
        ) from None
    labels = folder / "labels" / "combined_windows.json"
    with reading(labels, "windows of anomalies by file"):
        windows = json.loads(labels.read_text())
        series = []
        for name, own in windows.items():
            table = pd.read_csv(folder / "data" / name, parse_dates=["timestamp"])
            time, values = table["timestamp"].to_numpy("datetime64[us]"), table[["value"]].to_numpy(np.float64)
            segment = np.zeros(len(time), np.int64)  # each record is scored: windows cross gaps and repeated hours
            anomalies = tuple((int(r[0]), int(r[-1])) for r in (records_between(time, *w) for w in own))
            series.append(
                Series(name.removesuffix(".csv").replace("/", "-"), ("value",), time, values, segment, anomalies)
            )
    return series


def sensors(seed: int, count: int = 4000, columns: int = 4) -> Series:
    """An invented machine: sensors (N, C) that each mix two waves of wandering frequencies and a load, with noise."""
    rng = np.random.default_rng(seed)
    speed = 2 * np.pi / np.array([24, 61]) * (1 + 0.05 * np.cumsum(rng.normal(0, 0.05, (count, 2)), 0))
    load = np.cumsum(rng.normal(0, 1, count))
    load = (load - pd.Series(load).rolling(200, 1).mean().to_numpy()) / 8
    sources = np.column_stack([np.sin(np.cumsum(speed, 0)), load])  # (N, 3)
    values = sources @ rng.normal(size=(3, columns)) + rng.normal(0, 0.1, (count, columns))
    names = tuple(f"sensor {k + 1}" for k in range(columns))
    return Series(f"sensors_{seed}", names, np.arange(1, count + 1), values, np.zeros(count, np.int64))


def records_between(time: np.ndarray, first: str, last: str) -> np.ndarray:
    return np.flatnonzero((time >= np.datetime64(first, "us")) & (time <= np.datetime64(last, "us")))


# ---- tables ----------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> list[Series]:
    """The series of one file, of the rows of each name if there is a column of names."""
    notes: list[str] = []
    name = path.name.split(".")[0]
    if path.suffix.lower() == ".parquet":
        table = read_parquet(path)
    else:
        table = with_header(path, read_rows(path, read_bytes(path, EXPECTED), EXPECTED, notes), notes)
    time, names, numbers = sorted_columns(path, table, notes)
    if not numbers:
        raise DataError(f"{path}: expected a column of numbers, found {', '.join(map(str, table.columns))[:80]}")
    if time is None and names is None:  # an empty line is a record whose values are missing
        table = table.reindex(range(table.index[0], table.index[-1] + 1), fill_value="")
    values = to_numbers(path, table[numbers], notes)
    times = np.arange(1, len(table) + 1) if time is None else to_times(path, table[time], notes, utc=True)
    if names is None:
        series = made(name, times, tuple(numbers), values, notes)
    else:
        groups = table.groupby(names, sort=True).indices
        if len(groups) > MOST_NAMES:
            raise DataError(f"{path}: expected at most {MOST_NAMES} names in {names}, found {len(groups)}")
        rows = {one: np.asarray(indices) for one, indices in groups.items()}
        local = {one: np.arange(1, len(i) + 1) if time is None else times[i] for one, i in rows.items()}
        series = [s for one, i in rows.items() for s in made(one, local[one], tuple(numbers), values[i], notes)]
    for one in series:
        if one.name in ("", ".", "..") or set(one.name) & set("/\\\0"):
            raise DataError(f"{path}: expected names that can be folders, without / or \\, found {one.name!r}")
    found = f"{time or 'no column'} as time, {', '.join(numbers)} as values"
    say(path, [found + (f", {names} as names" if names else ""), *notes])
    return series


def read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except ImportError:
        raise DataError(f"{path}: Parquet files need the package pyarrow: pip install pyarrow") from None
    except Exception as error:
        raise DataError(f"{path}: expected a Parquet file, found {type(error).__name__}: {error}") from None
    if isinstance(table.index, pd.DatetimeIndex) and table.index.name is None:
        table.index.name = "time"
    table = table.reset_index(drop=table.index.names == [None])  # an index without a name and times counts the rows
    return table.astype(str).where(table.notna(), "").set_axis([str(c) for c in table.columns], axis=1)


def with_header(path: Path, cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The cells with the first row as names of the columns, unless it holds numbers as the others do."""
    first = cells.iloc[0].str.strip()
    if are_numbers(first).any():
        notes.append("there is no header: columns are counted")
        return cells.set_axis([f"column {k + 1}" for k in range(cells.shape[1])], axis=1)
    names = [name or f"column {k + 1}" for k, name in enumerate(first)]
    if len(set(names)) < len(names) or len(cells) < 2:
        raise DataError(
            f"{path}: expected a header of different names and rows below it, found {', '.join(names)[:80]}"
        )
    return cells.iloc[1:].set_axis(names, axis=1)


def is_time(text: str) -> bool:
    """Whether it is a date, with the day or the month first."""
    return bool(to_time(text) or to_time(text, day_first=True))


def sorted_columns(path: Path, table: pd.DataFrame, notes: list[str]) -> tuple[str | None, str | None, list[str]]:
    """The column of times, the column of names, and those of numbers, told from their first rows."""
    time, names, numbers = None, None, []
    sample = table.iloc[:: max(1, len(table) // 100)]
    for column in table.columns:
        cells = sample[column].str.strip()
        cells = cells[cells != ""]
        is_number = are_numbers(cells)
        is_date = column.strip().lower() in NAMES["date"] or not is_number.all()  # 20140131 is a number, too
        if time is None and is_date and len(cells) and all(map(is_time, cells.head(5))):
            time = column
        elif counts_rows(table[column]) and len(table.columns) > 1 and column == table.columns[0]:
            notes.append(f"{column} counts the rows and is left out")
        elif is_number.mean() > 0.5 or not len(cells):
            numbers.append(column)
        elif names is None:
            names = column
        else:
            raise DataError(f"{path}: expected numbers, found {cells.iloc[0][:40]!r} in column {column}")
    return time, names, numbers


# ---- gaps ------------------------------------------------------------------------------------------------------------


def made(name: str, time: np.ndarray, columns: tuple[str, ...], values: np.ndarray, notes: list[str]) -> list[Series]:
    """One series in the order of time, short gaps filled in and longer ones as borders of segments."""
    order = np.argsort(time, kind="stable")
    if (order[1:] < order[:-1]).any():
        notes.append(f"{name}: the rows are sorted by time")
    time, values = time[order], values[order]
    repeated = np.append(False, time[1:] == time[:-1])
    if repeated.any():
        notes.append(f"{name}: {repeated.sum()} rows repeat a time and are left out")
        time, values = time[~repeated], values[~repeated]
    steps = np.diff(time).astype(np.int64)
    usual = np.median(steps) if len(steps) else 1
    gap = np.append(False, steps > 1.5 * usual)
    if gap.mean() > 0.3:
        notes.append(f"{name}: the times have no regular step; records are read one after another")
        gap[:] = False
    elif gap.any():
        notes.append(f"{name}: {gap.sum()} gap{'s' if gap.sum() > 1 else ''} in time, which no window crosses")
    missing = np.isnan(values)
    if missing.any():  # filled in between records of one segment only
        table = pd.DataFrame(values)
        runs = table.isna().apply(lambda column: column.groupby((~column).cumsum()).transform("sum"))  # their lengths
        filled = table.groupby(np.cumsum(gap)).transform(lambda column: column.interpolate(limit_area="inside"))
        values = filled.where(table.notna() | (runs <= FILLED)).to_numpy()
        notes.append(f"{name}: {missing.sum()} values are missing, {missing.sum() - np.isnan(values).sum()} filled in")
    complete = ~np.isnan(values).any(1)
    segment = np.cumsum(gap | np.append(False, ~complete[:-1]))
    if not complete.any():
        raise DataError(f"{name}: expected records with all their values, found none")
    return [Series(name, columns, time[complete], values[complete], segment[complete])]
