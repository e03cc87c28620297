"""Stock movement: daily price features and up/down labels of the data sets ACL18 and KDD17, and of one's own prices.

The archive of Feng et al. ("Enhancing stock movement prediction with adversarial training", IJCAI 2019, on
github.com/fulifeng/Adv-ALSTM) holds, per stock and trading date, 11 features in percent, a label and the adjusted
close; beside them lie the raw prices that they were made from. Both ways lead to the same samples: `stock_movement`
reads the archive's features (or, with recompute=True, its raw prices), `movement_of_prices` one's own CSV files in the
forms of `loaders.price_files`. The archive's files have no licence: where it is absent and cannot be downloaded, six
bundled stocks stand in for either data set.

What was seen in the files (`loaders.movement_samples` says what a sample is):
1. The code of a missing value is -123321. It fills whole rows only: the days before a stock has 30 closes of its own.
2. The returns and averages of a stock run over its own trading days, those outside of the archive's dates included.
3. 11 of KDD17's 50 price files have two columns of opening prices, `Original_Open` and `Open`; the features come from
   the former, which belongs to the other prices (`Open` is adjusted for splits and dividends, they are not).

Letters in shapes: N samples, T days of a window, S stocks, D trading dates.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lstm_studies.loaders.files import (
    SAMPLES,
    DataError,
    check_table_size,
    choose,
    download,
    first_present,
    member_names,
    read_bytes,
    read_member,
    reading,
)
from lstm_studies.loaders.movement_samples import MovementTable, StockMovement, aligned, edges, split_samples
from lstm_studies.loaders.price_files import parse_prices
from lstm_studies.loaders.prices import joined, own_prices
from lstm_studies.loaders.tables import to_time

MOVEMENT_URL = "https://github.com/fulifeng/Adv-ALSTM/archive/3d6c3dc921f44832dd48734d79dbf60cd832cf5b.zip"
MOVEMENT_SHA256 = "8feb558461a59f8185d3a0d468f3703df8143ec1efe6a299d5097fb5d1b9365c"  # of `archive_content`
WEIGHTS = re.compile(r"saved_model/(acl18_alstm/exp\.[^/]*:0\.npy|kdd17_alstm/model\.data-00000-of-00001)$")
ARCHIVE = ("Adv-ALSTM-master", "Adv-ALSTM-3d6c3dc921f44832dd48734d79dbf60cd832cf5b", "Adv-ALSTM")
MOVEMENT_ZIP = (*(f"{name}.zip" for name in ARCHIVE[:2]), *ARCHIVE)  # packed, or an unpacked folder
SAMPLE = SAMPLES / "sp500" / "stocks_daily.csv.gz"
MISSING_CODE = -123321.0
MAX_VALUES = 2**26  # 512 MiB of float64: the largest table that is built


class MovementSet(NamedTuple):
    """Where a data set lies in the archive, how its dates are split, and its expected counts."""

    folder: str
    prices: str  # the folder of raw prices in it
    train_from: str
    validation_from: str
    test_from: str
    stocks: int
    days: int


MOVEMENT_SETS = {
    "acl18": MovementSet("stocknet-dataset/price", "raw", "2014-01-02", "2015-08-03", "2015-10-01", 87, 652),
    "kdd17": MovementSet("kdd17", "price_long_50", "2007-01-03", "2015-01-02", "2016-01-04", 50, 2518),
}


def stock_movement(
    data_dir: Path | str,
    dataset: str = "acl18",
    source: str = "auto",
    steps: int = 5,
    limit: int | None = None,
    recompute: bool = False,
    dates: Sequence[str | None] = (None, None, None, None),
) -> StockMovement:
    """ACL18 or KDD17 with the published split, from data_dir/adv_alstm, or the sample in their place.

    Args:
        steps: T, days of a window.
        limit: number of training samples to keep, the first ones.
        recompute: makes features and labels from the archive's raw prices instead of reading them.
        dates: the first training, validation and test date and the last test date; None: the published one.

    Returns:
        The three parts; with T = 5, ACL18 has 20,315 / 2,555 / 3,720 samples, and with T = 15, KDD17 64,307 / 8,070 /
        7,398. metadata: data ("full" or "sample"), dataset ("sample" for six bundled stocks), file, stocks, days,
        first_date, last_date, missing_rows (of all stocks and dates), adjusted_column, steps, and per part its count
        and share of ups.

    Raises:
        DataError: files are missing, damaged or incomplete.
    """
    if dataset not in MOVEMENT_SETS:
        raise DataError(f"dataset: expected one of {', '.join(MOVEMENT_SETS)}, found {dataset!r}")
    known = MOVEMENT_SETS[dataset]
    path, metadata = archive_path(data_dir, source)
    if metadata["data"] == "sample":
        table = price_table(path)
        return split_samples(
            table, edges(table, *dates), steps, limit, {**metadata, "dataset": "sample", "file": path.name}
        )
    table = archive_table(path, dataset, recompute)
    published = known.train_from, known.validation_from, known.test_from, None
    split = tuple(given or date for given, date in zip(dates, published, strict=True))
    return split_samples(table, split, steps, limit, {**metadata, "dataset": dataset, "file": path.name})


def movement_table(dataset: str, data_dir: Path | str, source: str = "auto") -> MovementTable:
    """The table of ACL18 or KDD17, or of the sample, or of the file or folder of prices `dataset`. Raises DataError."""
    if dataset not in MOVEMENT_SETS:
        return price_table(dataset)
    path, metadata = archive_path(data_dir, source)
    return price_table(path) if metadata["data"] == "sample" else archive_table(path, dataset)


def archive_path(data_dir: Path | str, source: str) -> tuple[Path, dict]:
    """The archive, a zip file or the folder that it was unpacked to, or the sample's file; and metadata."""
    folder, metadata = choose(data_dir, source, "adv_alstm", [MOVEMENT_ZIP], _fetch, MOVEMENT_URL)
    return SAMPLE if metadata["data"] == "sample" else first_present(folder, MOVEMENT_ZIP), metadata


def movement_of_prices(
    path: Path | str,
    steps: int = 5,
    validation_from: str | None = None,
    test_from: str | None = None,
    limit: int | None = None,
    train_from: str | None = None,
    test_until: str | None = None,
) -> StockMovement:
    """Samples of one's own daily prices: a CSV file, or a folder of them, in the forms of `loaders.price_files`.

    The trading dates are those on which any stock has prices. train_from, validation_from, test_from are the parts'
    first dates, test_until the last date of all; by default 70 % of the dates train, 15 % validate, 15 % test.
    Raises DataError.
    """
    table = price_table(path)
    dates = edges(table, train_from, validation_from, test_from, test_until)
    return split_samples(table, dates, steps, limit, {"data": "own", "dataset": Path(path).stem, "file": str(path)})


# ---- tables ----------------------------------------------------------------------------------------------------------


def archive_table(path: Path, dataset: str, recompute: bool = False) -> MovementTable:
    """The table of the archive: its own features, or with `recompute` those of its raw prices on its dates."""
    known = MOVEMENT_SETS[dataset]
    if recompute:
        members, dates = _stock_members(path, known, known.prices), _trading_dates(path, known)
        files = [parse_prices(f"{path}: {name}", read_part(path, name), stock, []) for stock, name in members.items()]
        return aligned(joined(path, files, {}), dates, "the archive's adjusted close")
    members, dates = _stock_members(path, known, "ourpped"), _trading_dates(path, known)
    values = np.stack([_feature_rows(path, name, known.days) for name in members.values()])  # (S, D, 13)
    values[(values < MISSING_CODE + 1).any(2)] = np.nan
    return MovementTable(list(members), dates, values[:, :, :11], values[:, :, 11], values[:, :, 12])


def part_names(path: Path) -> list[str]:
    """The files of the archive, packed or unpacked, with / between folders."""
    if not path.is_dir():
        return member_names(path)
    with reading(path, "the unpacked archive"):
        return [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]


def read_part(path: Path, name: str) -> bytes:
    """One file of the archive, packed or unpacked."""
    return read_bytes(path / name, "a file of the archive") if path.is_dir() else read_member(path, [name])


def archive_content(path: Path) -> bytes:
    """All files of the archive that are read here, one after another: its packing may change, they may not."""
    names = [name for name in sorted(part_names(path)) if WEIGHTS.search(name)]
    for known in MOVEMENT_SETS.values():
        _trading_dates(path, known)
        features = _stock_members(path, known, "ourpped").values()
        prices = [name.replace("/ourpped/", f"/{known.prices}/") for name in features]
        names += [full_name(path, f"data/{known.folder}/trading_dates.csv"), *features, *prices]
    return b"".join(read_part(path, name) for name in names)


def full_name(path: Path, ending: str) -> str:
    """The name of the archive's file that is `ending` under a root folder of any name, or none."""
    return next((name for name in part_names(path) if name == ending or name.endswith(f"/{ending}")), ending)


def _stock_members(path: Path, known: MovementSet, folder: str) -> dict[str, str]:
    """Ticker and name of each CSV file of a folder, sorted by ticker. The archive's root folder may have any name."""
    pattern = re.compile(rf"(?:[^/]+/)?data/{re.escape(known.folder)}/{folder}/([A-Za-z0-9.^=-]{{1,16}})\.csv")
    members = {match[1]: match[0] for match in map(pattern.fullmatch, part_names(path)) if match}
    if len(members) != known.stocks:
        raise DataError(
            f"{path}: expected {known.stocks} files data/{known.folder}/{folder}/TICKER.csv, found {len(members)}"
        )
    return dict(sorted(members.items()))


def _trading_dates(path: Path, known: MovementSet) -> np.ndarray:
    name = full_name(path, f"data/{known.folder}/trading_dates.csv")
    with reading(f"{path}: {name}", "one date YYYY-MM-DD per line"):
        lines = read_part(path, name).decode("ascii").split()
        days = [to_time(line) for line in lines]
        if None in days:
            raise ValueError(f"{lines[days.index(None)][:40]!r} is no date")
        dates = np.array(days, "datetime64[D]")
    if len(dates) != known.days or not (np.diff(dates) > np.timedelta64(0)).all():
        raise DataError(f"{path}: {name}: expected {known.days} ascending dates, found {len(dates)}")
    return dates


def _feature_rows(path: Path, name: str, days: int) -> np.ndarray:
    """The rows (D, 13) of one stock's file: features, label, adjusted close. Checked for shape, labels and range."""
    label, data = f"{path}: {name}", read_part(path, name)
    if data.count(b"\n") > days + 1:
        raise DataError(f"{label}: expected {days} rows, found more")
    check_table_size(label, data)
    with reading(label, f"{days} rows of 13 numbers"):
        values = pd.read_csv(io.BytesIO(data), header=None, keep_default_na=False, encoding="ascii").to_numpy(float)
    if values.shape != (days, 13):
        raise DataError(f"{label}: expected {days} rows of 13 numbers, found shape {values.shape}")
    missing = (values < MISSING_CODE + 1).any(1)
    good = (np.abs(values[:, :11]) < 1e5).all(1) & np.isin(values[:, 11], (-1, 0, 1)) & (values[:, 12] > 0)
    if not (good | missing).all():
        row = int(np.argmin(good | missing))
        raise DataError(
            f"{label}, line {row + 1}: expected percentages, a label -1, 0 or 1 and an adjusted close "
            f"above 0, found {', '.join(f'{value:g}' for value in values[row])}"
        )
    return values


def price_table(path: Path | str) -> MovementTable:
    """The table of one's own prices: a CSV file or a folder of them. Raises DataError."""
    prices = own_prices(path)
    if prices.metadata["fields"] == 1:
        raise DataError(f"{path}: expected the columns Open, High, Low, Close of each stock, found one number per date")
    if prices.adjusted.numel() * 13 > MAX_VALUES:
        raise DataError(
            f"{path}: expected at most {MAX_VALUES} values, found {len(prices.symbols)} stocks on "
            f"{len(prices.dates)} dates"
        )
    return aligned(prices, prices.dates, prices.metadata["adjusted_column"])


def _fetch(folder: Path, absent: list[str]) -> None:
    """Downloads the archive, which is refused if a file that is read lacks in it, or is another one."""
    download(MOVEMENT_URL, folder / absent[0], MOVEMENT_SHA256, archive_content, timeout=30.0)
