"""A miniature of the archive with the data sets of stock movement: same folders and formats, random walks as prices.

Its features are computed here in plain Python, row by row, so that they are a second opinion on `load_movement`.
"""

import datetime
import io
import random
import zipfile
from pathlib import Path

import numpy as np

from lstm_studies.loaders.movement import MovementSet

MISSING = ",".join(["-123321.000000"] * 13)
# 90 trading dates from 2013-01-01 on, every day; a stock has prices from 40 days before to 3 days after them.
START, DAYS = datetime.date(2013, 1, 1), 90
SETS = {
    "acl18": MovementSet("stocknet-dataset/price", "raw", "2013-01-01", "2013-02-20", "2013-03-10", 4, DAYS),
    "kdd17": MovementSet("kdd17", "price_long_50", "2013-01-01", "2013-02-20", "2013-03-10", 3, DAYS),
}


def day(k: int) -> datetime.date:
    return START + datetime.timedelta(days=k)


def random_prices(seed: int, first: int = -40, last: int = DAYS + 3) -> dict[int, tuple[float, ...]]:
    """Open, high, low, close, adjusted close of the days first..last-1, with cents."""
    rng, close, rows = random.Random(seed), 50.0, {}
    for k in range(first, last):
        opening, close = close * (1 + rng.gauss(0, 0.004)), close * (1 + rng.gauss(0, 0.012))
        high, low = max(opening, close) * (1 + rng.random() / 90), min(opening, close) * (1 - rng.random() / 90)
        rows[k] = tuple(round(value, 2) for value in (opening, high, low, close)) + (round(close * 0.9, 6),)
    return rows


def price_file(rows: dict[int, tuple], american: bool = False, descending: bool = False, own_open: bool = False) -> str:
    """A CSV of prices; `own_open`: with the true opening price under Original_Open and another one under Open."""
    header = (
        "Date,Original_Open,High,Low,Close,Volume,Adj Close,,Open"
        if own_open
        else "Date,Open,High,Low,Close,Volume,Adj Close"
    )
    lines = []
    for k, (opening, high, low, close, adjusted) in rows.items():
        date = f"{day(k).month}/{day(k).day}/{day(k).year}" if american else day(k).isoformat()
        line = f"{date},{opening},{high},{low},{close},1000,{adjusted}"
        lines.append(line + (f",,{opening * 0.7:.4f}" if own_open else ""))
    return "\n".join([header, *(reversed(lines) if descending else lines)]) + "\n"


def feature_file(rows: dict[int, tuple]) -> str:
    """The 13 columns of every trading date as the archive writes them."""
    own, lines = list(rows), []
    for k in range(DAYS):
        at = own.index(k) if k in rows else -1
        if at < 29:
            lines.append(MISSING)
            continue
        opening, high, low, close, adjusted = rows[k]
        before = rows[own[at - 1]]
        change = 100 * (adjusted / before[4] - 1)
        label = 1 if change >= 0.55 else -1 if change <= -0.5 else 0
        means = [100 * (sum(rows[j][4] for j in own[at - n + 1 : at + 1]) / n / adjusted - 1) for n in range(5, 31, 5)]
        ratios = [100 * (price / close - 1) for price in (opening, high, low)]
        values = [*ratios, 100 * (close / before[3] - 1), change, *means, label, adjusted]
        lines.append(",".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + "\n"


def variables(units: int) -> dict[str, np.ndarray]:
    """The published graph's variables, sorted by name, of small random numbers."""
    rng = np.random.default_rng(units)
    shapes = {
        "in_fc/bias": (11,),
        "in_fc/kernel": (11, 11),
        "lstm_att/att_W": (units, units),
        "lstm_att/att_h": (units,),
        "lstm_att/att_u": (units,),
        "lstm_att/pre_fc/biases": (1,),
        "lstm_att/pre_fc/weights": (2 * units, 1),
        "rnn/basic_lstm_cell/bias": (4 * units,),
        "rnn/basic_lstm_cell/kernel": (11 + units, 4 * units),
    }
    return {name: rng.normal(0, 0.2, shape).astype("f4") for name, shape in shapes.items()}


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def saved_models() -> dict[str, bytes]:
    """The weights of two ALSTMs: a file per variable, and a TensorFlow checkpoint with two moments beside each."""
    folder = "saved_model/acl18_alstm"
    files = {f"{folder}/exp.{n.replace('/', '|')}:0.npy": npy(values) for n, values in variables(4).items()}
    numbers = [np.zeros(2, "f4")]
    for values in variables(16).values():
        numbers += [values.ravel(), np.full(2 * values.size, 9.0, "f4")]
    files["saved_model/kdd17_alstm/model.data-00000-of-00001"] = np.concatenate(numbers).astype("<f4").tobytes()
    return files


def members() -> dict[str, str | bytes]:
    """Names under the archive's root folder and contents."""
    dates = "\n".join(day(k).isoformat() for k in range(DAYS)) + "\n"
    stocks = {
        "acl18": {f"{name}": random_prices(i) for i, name in enumerate(("BBB", "AAA", "C-C"))}
        | {"LATE": random_prices(9, first=20)},
        "kdd17": {f"{name}": random_prices(20 + i) for i, name in enumerate(("XX", "YY", "ZZ"))},
    }
    files = {"README.md": "not read\n", **saved_models()}
    for name, known in SETS.items():
        files[f"data/{known.folder}/trading_dates.csv"] = dates
        for i, (ticker, rows) in enumerate(stocks[name].items()):
            files[f"data/{known.folder}/ourpped/{ticker}.csv"] = feature_file(rows)
            kind = {"american": i == 1, "descending": name == "kdd17", "own_open": name == "kdd17" and i == 1}
            files[f"data/{known.folder}/{known.prices}/{ticker}.csv"] = price_file(rows, **kind)
    return files


def write_archive(data_dir: Path, changed: dict[str, str | bytes | None] | None = None) -> Path:
    """The archive under `data_dir`, with some members replaced, or left out where the content is None."""
    path = data_dir / "adv_alstm" / "Adv-ALSTM-master.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members(), **(changed or {})}.items():
            if content is not None:
                archive.writestr(f"Adv-ALSTM-master/{name}", content)
    return path
