"""Every data set as checked tensors: toy sequences, MNIST, S&P 500 prices.

Those of the modules `load_*` are reached through this one, too: stock movement, Japanese Vowels, messages.

Each loader finds its files under `data_dir`, fetches or replaces them as `source` says (see `data_files`), and returns
tensors of documented shape together with `facts`, a dict of plain values that a script prints and stores.

Letters in shapes: N sequences or digits, T time steps, S symbols, D trading dates.
"""

import csv
import datetime
import difflib
import io
import math
import os
import re
import socket
import struct
import tempfile
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from loaders.files import (
    DataError,
    checked_limit,
    choose,
    decoded,
    download,
    first_present,
    read_bytes,
    read_member,
    reading,
)
from loaders.messages import labelled_messages, spy_messages  # noqa: F401
from loaders.movement import movement_of_prices, stock_movement  # noqa: F401
from loaders.vowels import japanese_vowels  # noqa: F401

SIGNALS = ("waves", "uniform", "walk")
MAX_CELLS = 2**26  # 512 MiB of float64: the largest price table or toy set that is built


# ---------------------------------------------------------------------------------------------- toy sequences


class ToySignals(NamedTuple):
    train: torch.Tensor  # (N, T) float32 in [0, 1], each row with mean 1/2
    validation: torch.Tensor
    test: torch.Tensor
    facts: dict


def generate_signals(signal, count, length=50, seed=0):
    """Raw synthetic sequences (N, T) float32; the same seed gives the same values.

    waves: the sum of 3 sines, amplitude U(.2, 1), frequency U(.5, 12) cycles per sequence, phase U(0, 2 pi).
    uniform: independent U(0, 1) values, the ten at steps 20..29 (counted from 0) times .1.
    walk: Gaussian random walks, running sums of N(0, 1) steps.
    Raises DataError for an unknown kind, a negative seed, and sizes below 1 or past memory.
    """
    if signal not in SIGNALS:
        raise DataError(f"signal: expected one of {', '.join(SIGNALS)}, found {signal!r}")
    if count < 1 or length < 1 or seed < 0 or count * length > MAX_CELLS:
        raise DataError(
            f"signals: expected count >= 1, length >= 1, seed >= 0, at most {MAX_CELLS} values, "
            f"found count {count}, length {length}, seed {seed}"
        )
    rng = np.random.default_rng(seed)
    if signal == "waves":
        ranges = ((0.2, 1.0), (0.0, 2 * np.pi), (0.5, 12.0))
        amplitude, phase, frequency = (rng.uniform(low, high, (count, 3, 1)) for low, high in ranges)
        turn = 2 * np.pi * np.arange(length) / length
        values = sum(amplitude[:, k] * np.sin(frequency[:, k] * turn + phase[:, k]) for k in range(3))
    elif signal == "uniform":
        values = rng.random((count, length))
        values[:, 20:30] *= 0.1
    else:
        values = rng.standard_normal((count, length)).cumsum(axis=1)
    return torch.from_numpy(values.astype(np.float32))


def scale_sequences(x):
    """Map each sequence to (x - offset) / scale + 1/2: mean 1/2, all values within [0, 1].

    x: (N, T) or (N, T, features), any unit; the statistics run over the T steps of one sequence.
    Returns scaled (shaped as x), offset (N, 1[, features]), the mean, and scale, twice the largest distance
    from it. A constant sequence becomes 1/2 everywhere, with scale 1. Raises DataError for values not finite.
    """
    if x.ndim < 2 or 0 in x.shape or not torch.isfinite(x).all():
        raise DataError(
            f"scale_sequences: expected finite values (N, T), found shape {tuple(x.shape)} "
            f"with {int((~torch.isfinite(x)).sum())} values that are not finite"
        )
    dtype = x.dtype if x.is_floating_point() else torch.float32
    x = x.double()
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    constant = low == high  # asked of the values: x - mean need not round to exactly 0
    offset = torch.where(constant, low, x.mean(1, keepdim=True))
    scale = torch.where(constant, 1.0, 2 * torch.maximum(high - offset, offset - low))
    scaled = (x - offset) / scale + 0.5
    return scaled.to(dtype), offset.to(dtype), scale.to(dtype)


def unscale_sequences(scaled, offset, scale):
    """The inverse of scale_sequences: back to the unit of its input."""
    return (scaled - 0.5) * scale + offset


def toy_signals(signal, count=10_000, length=50, seed=0, limit=None):
    """Scaled synthetic sequences, split 60/20/20 in order of generation (they are independent draws).

    Returns ToySignals. `limit` keeps the first sequences of the training part only. Raises DataError as
    generate_signals does, and for fewer than 5 sequences.
    """
    if count < 5:
        raise DataError(f"count: expected at least 5 sequences to split 60/20/20, found {count}")
    scaled = scale_sequences(generate_signals(signal, count, length, seed))[0]
    first, second = count * 3 // 5, count * 4 // 5
    train, validation, test = scaled[:first][: checked_limit(limit)], scaled[first:second], scaled[second:]
    facts = {
        "signal": signal,
        "seed": seed,
        "length": length,
        "train": len(train),
        "validation": len(validation),
        "test": len(test),
    }
    return ToySignals(train, validation, test, facts)


# ------------------------------------------------------------------------------------------------------ MNIST


class Mnist(NamedTuple):
    train_images: torch.Tensor  # (N, 28, 28) uint8, 0 = background .. 255 = ink
    train_labels: torch.Tensor  # (N,) int64, 0..9
    validation_images: torch.Tensor
    validation_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    source: str  # "full" or "sample": what was really read
    facts: dict


MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_MD5 = {  # of the gzipped files at MNIST_URL
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
# Digits in the training file, in the test file, and how many of the former are validation data.
MNIST_SIZES = {"full": (60_000, 10_000, 5_000), "sample": (6_000, 1_000, 1_000)}


def read_idx(path):
    """A uint8 tensor from an IDX file, gzipped or not: two zero bytes, type 8 (unsigned byte), the number of
    dimensions, each size as a big-endian 32-bit integer, then exactly that many bytes. Raises DataError."""
    data = read_bytes(path, "an IDX file of bytes")
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise DataError(f"{path}: expected IDX magic 00 00 08 01 to 00 00 08 04, found {data[:4].hex(' ')!r}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{path}: expected a header of {start} bytes, found a file of {len(data)}")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    expected = math.prod(shape)  # python integers: four sizes of 32 bits overflow any other
    if not expected or expected != len(data) - start:
        raise DataError(f"{path}: expected {expected or 'more'} bytes for shape {shape}, found {len(data) - start}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def mnist(data_dir, source="auto", limit=None):
    """MNIST digits from data_dir/MNIST/raw (the four IDX files, gzipped or not).

    Validation is the last 5,000 of the 60,000 training digits (the last 1,000 of the sample's 6,000); `limit`
    keeps the first of the others. Returns Mnist. Raises DataError for missing, damaged or incomplete files.
    """
    limit = checked_limit(limit)
    needed = [_mnist_names(name) for name in MNIST_MD5]
    folder, facts = choose(data_dir, source, "MNIST/raw", needed, _fetch_mnist, MNIST_URL)
    train_count, test_count, held_out = MNIST_SIZES[facts["data"]]
    images, labels = _mnist_part(folder, "train", train_count)
    test_images, test_labels = _mnist_part(folder, "t10k", test_count)
    rest = train_count - held_out
    facts |= {"train": len(images[:rest][:limit]), "validation": held_out, "test": test_count, "classes": 10}
    return Mnist(
        images[:rest][:limit],
        labels[:rest][:limit],
        images[rest:],
        labels[rest:],
        test_images,
        test_labels,
        facts["data"],
        facts,
    )


def _mnist_names(name):
    """The names one file is known under; the gzipped standard name, which downloads use, first."""
    dotted = name.replace("-idx", ".idx")
    return [f"{name}.gz", name, f"{dotted}.gz", dotted]


def _mnist_part(folder, part, count):
    """Images (count, 28, 28) uint8 and labels (count,) int64 of `train` or `t10k`."""
    paths = [first_present(folder, _mnist_names(name)) for name in MNIST_MD5 if name.startswith(part)]
    if None in paths:
        raise DataError(
            f"{folder}: expected the images and the labels of {part}, found not both; "
            f"data/build_samples.py rebuilds the bundled sample"
        )
    images, labels = _images(paths[0], (count, 28, 28)), read_idx(paths[1])
    for path, tensor, shape in ((paths[0], images, (count, 28, 28)), (paths[1], labels, (count,))):
        if tensor.shape != shape:
            raise DataError(f"{path}: expected shape {shape}, found {tuple(tensor.shape)}")
    if labels.max() > 9:
        raise DataError(f"{paths[1]}: expected labels 0 to 9, found {int(labels.max())}")
    return images, labels.long()


def _images(path, shape):
    """`read_idx`; the digits of a gzipped file are kept unpacked."""
    if path.suffix != ".gz":
        return read_idx(path)
    arrays = decoded(
        path,
        "idx",
        1,
        lambda: {"images": read_idx(path).numpy()},
        lambda kept: (kept["images"].dtype, kept["images"].shape) == (np.uint8, shape),
    )
    return torch.from_numpy(arrays["images"])


def _fetch_mnist(folder, absent):
    """By torchvision where it works (its mirrors, its checks), else by our own downloader."""
    if not _fetch_by_torchvision(folder, absent):
        for name in absent:
            download(MNIST_URL + name, folder / name, [MNIST_MD5[name.removesuffix(".gz")]])


def _fetch_by_torchvision(folder, absent):
    """True if torchvision fetched the files. It writes in place, so it gets a temporary folder in ours."""
    timeout = socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A RuntimeError comes from a torchvision built for another torch (operator nms does not exist).
        from torchvision import datasets

        socket.setdefaulttimeout(10.0)  # torchvision sets none: without a network it would wait for minutes
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            datasets.MNIST(temporary, download=True)
            for name in absent:
                os.replace(Path(temporary, "MNIST", "raw", name), folder / name)
    except (ImportError, RuntimeError, OSError):
        return False
    finally:
        socket.setdefaulttimeout(timeout)
    return True


# --------------------------------------------------------------------------------------------- S&P 500 prices


class StockPrices(NamedTuple):
    symbols: list  # S names
    dates: np.ndarray  # (D,) datetime64[D], ascending: every date on which any symbol of the file has a row
    # (S, D, 5) float64: open, high, low, close in dollars, volume in shares; NaN where missing
    values: torch.Tensor
    facts: dict


STOCKS_URL = "https://www.kaggle.com/api/v1/datasets/download/gauravmehta13/sp-500-stock-prices"
STOCKS_ZIP = "sp-500-stock-prices.zip"
STOCKS_CSV = ("S&P 500 Stock Prices 2014-2017.csv", "SP 500 Stock Prices 2014-2017.csv")
STOCKS_SAMPLE = "stocks_daily.csv.gz"
PRICE_FIELDS = ("open", "high", "low", "close", "volume")
STOCKS_TABLE = "a table of symbol, date, open, high, low, close, volume"
MISSING = {"", "na", "n/a", "nan", "null", "none"}


def stock_prices(data_dir, source="auto", symbols=None):
    """Daily prices from data_dir/sp500: the Kaggle archive, or its CSV file unpacked (or gzipped).

    Returns StockPrices, sorted by symbol and date; `symbols` selects some, in the order given. Rows that lack
    a value are kept as NaN and counted, and dates without a row are NaN too: to drop, fill or skip them is
    the caller's decision (see complete_symbols). facts describes the whole file: rows, symbols, dates,
    first_date, last_date, rows_with_missing, missing (per column), duplicates (identical rows, which are
    dropped), incomplete (names of symbols).
    Raises DataError for damaged files, unknown symbols, and, with the line, impossible or contradicting rows.
    """
    names = [STOCKS_ZIP, *STOCKS_CSV, *(f"{name}.gz" for name in STOCKS_CSV)]
    folder, facts = choose(data_dir, source, "sp500", [names], _fetch_stocks, STOCKS_URL)
    path = folder / STOCKS_SAMPLE if facts["data"] == "sample" else first_present(folder, names)
    arrays = decoded(path, "prices", 1, lambda: _stock_table(path), _is_stock_table)
    prices = StockPrices(arrays["symbols"].tolist(), arrays["dates"], torch.from_numpy(arrays["values"]), {})
    prices = prices._replace(facts={**facts, "file": path.name, **_stock_facts(prices, arrays["counts"].tolist())})
    return prices if symbols is None else select_symbols(prices, symbols)


def select_symbols(prices, symbols):
    """The same prices of some symbols only, in the order given. Raises DataError with the nearest names for others."""
    symbols = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
    for symbol in symbols:
        if symbol not in prices.symbols:
            near = difflib.get_close_matches(symbol.upper(), prices.symbols, 3, 0.5) or prices.symbols[:6]
            raise DataError(
                f"{prices.facts['file']}: expected one of its {len(prices.symbols)} symbols, "
                f"found {symbol!r}; nearest: {', '.join(near)}"
            )
    rows = [prices.symbols.index(symbol) for symbol in symbols]
    return prices._replace(symbols=symbols, values=prices.values[rows])


def complete_symbols(prices):
    """The symbols with a full history: no trading date missing and no value missing."""
    complete = torch.isfinite(prices.values).flatten(1).all(1).tolist()
    return [symbol for symbol, whole in zip(prices.symbols, complete, strict=True) if whole]


def _fetch_stocks(folder, absent):
    download(STOCKS_URL, folder / absent[0], check=lambda path: read_member(path, STOCKS_CSV))


def _stock_table(path):
    """Arrays of one CSV file: symbols (S,), dates (D,), values (S, D, 5), and the counts that `_stock_facts` names."""
    data = read_member(path, STOCKS_CSV) if path.suffix == ".zip" else read_bytes(path, STOCKS_TABLE)
    symbols, symbol_codes, dates, date_codes, numbers, lines = _parse_rows(path, data)
    _check_numbers(path, numbers, lines)
    cells = len(symbols) * len(dates)
    if cells * len(PRICE_FIELDS) > MAX_CELLS:
        raise DataError(
            f"{path}: expected at most {MAX_CELLS} values, found {len(symbols)} symbols on {len(dates)} dates"
        )
    symbol_order, date_order = np.argsort(symbols), np.argsort(dates)
    cell = np.argsort(symbol_order)[symbol_codes] * len(dates) + np.argsort(date_order)[date_codes]  # (R,)
    keep = _distinct(path, cell, numbers, lines)
    values = np.full((cells, len(PRICE_FIELDS)), np.nan)
    values[cell[keep]] = numbers[keep]
    missing = np.isnan(numbers[keep])
    return {
        "symbols": np.array(symbols)[symbol_order],
        "dates": np.array(dates, dtype="datetime64[D]")[date_order],
        "values": values.reshape(len(symbols), len(dates), len(PRICE_FIELDS)),
        "counts": np.array([len(numbers), (~keep).sum(), missing.any(1).sum(), *missing.sum(0)]),
    }


def _is_stock_table(arrays):
    """Whether types and shapes are those of `_stock_table`."""
    symbols, dates, values, counts = (arrays[name] for name in ("symbols", "dates", "values", "counts"))
    return (
        symbols.dtype.kind == "U"
        and dates.dtype == "datetime64[D]"
        and values.dtype == np.float64
        and values.size
        and counts.dtype == np.int64
        and counts.shape == (3 + len(PRICE_FIELDS),)
        and symbols.shape + dates.shape + (len(PRICE_FIELDS),) == values.shape
    )


def _parse_rows(path, data):
    """Symbols and dates as they appear; for R rows the codes into them (R,), numbers (R, 5), lines (R,)."""
    symbols, dates, numbers, lines = {}, {}, array("d"), array("q")
    symbol_codes, date_codes = array("q"), array("q")
    with reading(path, STOCKS_TABLE):
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        width, symbol_at, date_at, fields_at = _columns(path, next(rows, []))
        for row in rows:
            if not row:  # an empty line
                continue
            if len(row) != width:
                raise DataError(f"{path}, line {rows.line_num}: expected {width} fields, found {len(row)}")
            symbol, date = row[symbol_at], row[date_at]
            if symbol not in symbols or date not in dates:
                _check_keys(path, rows.line_num, symbol, date)
            symbol_codes.append(symbols.setdefault(symbol, len(symbols)))
            date_codes.append(dates.setdefault(date, len(dates)))
            lines.append(rows.line_num)
            try:
                numbers.extend([float(row[k]) for k in fields_at])
            except ValueError:
                numbers.extend([_number(path, rows.line_num, row[k]) for k in fields_at])
    if not lines:
        raise DataError(f"{path}: expected {STOCKS_TABLE}, found no rows")
    numbers = np.array(numbers).reshape(-1, len(PRICE_FIELDS))
    return list(symbols), np.array(symbol_codes), list(dates), np.array(date_codes), numbers, np.array(lines)


def _columns(path, header):
    """Width of the table and the places of symbol, date and the five numbers; other columns are ignored."""
    header = [name.strip().lower() for name in header]
    wanted = ("symbol", "date", *PRICE_FIELDS)
    if any(header.count(name) != 1 for name in wanted):
        raise DataError(
            f"{path}: expected the columns {', '.join(wanted)} once each, "
            f"found {', '.join(header)[:200] or 'an empty file'}"
        )
    symbol_at, date_at, *fields_at = (header.index(name) for name in wanted)
    return len(header), symbol_at, date_at, fields_at


def _number(path, line, cell):
    if cell.strip().lower() in MISSING:
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        raise DataError(f"{path}, line {line}: expected a number, found {cell[:40]!r}") from None


def _check_keys(path, line, symbol, date):
    if not re.fullmatch(r"[A-Za-z0-9.^=-]{1,16}", symbol):
        raise DataError(f"{path}, line {line}: expected a ticker symbol, found {symbol[:40]!r}")
    try:
        if datetime.date.fromisoformat(date).isoformat() == date:  # 20140102 and 2014-W01-4 parse as well
            return
    except ValueError:
        pass
    raise DataError(f"{path}, line {line}: expected a date YYYY-MM-DD, found {date[:40]!r}")


def _check_numbers(path, numbers, lines):
    """Prices are missing or positive, volumes missing or at least 0; 1e15 stands for everything absurd."""
    good = np.isnan(numbers) | (numbers > 0) & (numbers < 1e15)
    good[:, 4] |= numbers[:, 4] == 0
    if not good.all():
        row, column = np.argwhere(~good)[0]
        expected = "a volume of at least 0" if column == 4 else "a price above 0"
        raise DataError(
            f"{path}, line {lines[row]}: expected {expected} in {PRICE_FIELDS[column]}, found {numbers[row, column]:g}"
        )


def _distinct(path, cell, numbers, lines):
    """Which rows (R,) to keep: the first of each cell. Raises DataError where two rows of one cell differ."""
    order = np.argsort(cell, kind="stable")
    again = np.flatnonzero(cell[order[1:]] == cell[order[:-1]])
    first, second = order[again], order[again + 1]
    same = (numbers[first] == numbers[second]) | np.isnan(numbers[first]) & np.isnan(numbers[second])
    for k in np.flatnonzero(~same.all(axis=1))[:1]:
        raise DataError(
            f"{path}, line {lines[second[k]]}: expected one row per symbol and date, "
            f"found other values than on line {lines[first[k]]}"
        )
    keep = np.ones(len(cell), dtype=bool)
    keep[second] = False
    return keep


def _stock_facts(prices, counts):
    rows, duplicates, rows_with_missing, *missing = counts
    complete = set(complete_symbols(prices))
    return {
        "rows": rows,
        "symbols": len(prices.symbols),
        "dates": len(prices.dates),
        "first_date": str(prices.dates[0]),
        "last_date": str(prices.dates[-1]),
        "rows_with_missing": rows_with_missing,
        "missing": dict(zip(PRICE_FIELDS, missing, strict=True)),
        "duplicates": duplicates,
        "incomplete": [symbol for symbol in prices.symbols if symbol not in complete],
    }
