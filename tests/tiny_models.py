"""The smallest valid files of each kind that the scripts read, and models trained on them in a moment."""

import functools
import gzip
import importlib
from pathlib import Path

import movement_archive
import numpy as np
from fuzzing import put

gzipped = functools.partial(gzip.compress, mtime=0)

SEQUENCES = "a,b,c,d\n" + "".join(f"{k / 2},{k * k % 7},{-k / 4},{k % 5}\n" for k in range(12))
DAYS = [f"2014-{month:02d}-{day:02d}" for month in (1, 2, 3, 4) for day in range(1, 16)]
PRICES = "symbol,date,open,high,low,close,volume\n" + "".join(
    f"{symbol},{day},{k + 5}.5,{k + 6 + k % 3}.75,{k + 5},{k + 5}.25,{1000 * k + 1}\n"
    for symbol in ("BB", "A", "C.C")
    for k, day in enumerate(DAYS)
)
SERIES = "date,north,south\n" + "".join(f"{day},{k % 7 + 1}.5,{k % 5 + 2}\n" for k, day in enumerate(DAYS))
MOVEMENT = movement_archive.price_file(movement_archive.random_prices(1))


def idx(shape: tuple[int, ...], payload: bytes) -> bytes:
    return b"\0\0\x08" + bytes([len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape) + payload


IMAGES = {
    "my-train-images": idx((12, 28, 28), bytes(k % 256 for k in range(12 * 784))),
    "my-train-labels.gz": gzipped(idx((12,), bytes([3, 5, 9] * 4))),
    "my-test-images.gz": gzipped(idx((4, 28, 28), bytes(k % 251 for k in range(4 * 784)))),
    "my-test-labels": idx((4,), bytes([3, 5, 9, 5])),
}


def ts_file(sequences: int, seed: int) -> str:
    """Sequences of 4 to 6 steps of two features, of the classes a and b."""
    rng, rows = np.random.default_rng(seed), []
    for k in range(sequences):
        x = rng.normal(size=(2, 4 + k % 3)).round(3)
        rows.append(":".join(",".join(map(str, column)) for column in x) + f":{'ab'[k % 2]}")
    return "# a comment\n@dimensions 2\n@classLabel true a b\n@data\n" + "\n".join(rows) + "\n"


TS = {"train": ts_file(8, 1), "test": ts_file(5, 2)}
WORDS = ("buy", "sell", "$250", "@joe", "https://a.b", "don’t é", "!!!!", "=1+1")
LINES = [f"{WORDS[i % 8]} {WORDS[i // 8 % 8]} {i % 3}x{i}" for i in range(40)]


def message_table(separator: str) -> str:
    rows = [f'{i}{separator}"{line}"{separator}{("bad", "good")[i % 2]}\n' for i, line in enumerate(LINES)]
    return f"id{separator}text{separator}label\n{''.join(rows)}"


TOY = "--epochs 1 --hidden_size 2 --batch_size 4 --positional_harmonics 1 --input_size 2 --code_size 2".split()
STOCKS = "--epochs 1 --hidden_size 2 --batch_size 64 --window 4".split()
DIGITS = "--model fc --epochs 1 --hidden_size 2 --code_size 2 --batch_size 8 --positional_harmonics 1".split()
VOWELS = "--folds 2 --repeats 1 --seeds 1 --epochs 1 --batch_size 4 --hidden_size 2 --channels 2".split()
ALSTM = "--model alstm --epochs 1 --steps 3".split()
COLUMNS = "--text_column text --label_column label".split()
TEXTS = "--epochs 1 --hidden_size 2 --num_layers 1 --embedding_size 4 --ngram_buckets 8".split()

MODELS = {  # script, function that trains, name and content of the data files, and the other flags
    "sequences": ("lstm_ae_toy", "reconstruct", {"data": SEQUENCES}, TOY),
    "prices": ("lstm_ae_snp500", "reconstruct", {"data": PRICES}, [*STOCKS, "--input_size", "2"]),
    "tomorrow": ("lstm_ae_snp500", "predict", {"data": PRICES}, [*STOCKS, "--inputs", "high"]),
    "images": ("lstm_ae_mnist", "reconstruct", {"data": IMAGES}, DIGITS),
    "classes": ("jv_training", "basic", TS, VOWELS),
    "movement": ("adv_alstm", "train", {"dataset": MOVEMENT}, ALSTM),
    "messages": ("stocktwits_sentiment", "train", {"data": message_table(",")}, [*TEXTS, *COLUMNS]),
}


def train(name: str, folder: Path) -> Path:
    """Trains the model `name` of MODELS in `folder`, on data beside it; returns its run folder."""
    script, function, files, more = MODELS[name]
    argv = ["--function", function, *more, "--quiet", "--output_dir", str(folder)]
    for flag, content in files.items():
        path = folder.with_name(f"{folder.name}-{flag}") / "good"
        if isinstance(content, dict):
            for member, data in content.items():
                put(path / member, data)
        else:
            put(path, content.encode())
        argv += [f"--{flag}", str(path)]
    importlib.import_module(script).main(argv)
    return folder / function
