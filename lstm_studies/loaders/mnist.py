"""Images of 28 x 28 pixels with labels, from IDX files, gzipped or not: MNIST, or files in its format."""

import fnmatch
import math
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lstm_studies.loaders.files import (
    DataError,
    check_sha256,
    checked_folder,
    checked_limit,
    choose,
    download,
    first_present,
    read_bytes,
)

SIDE = 28  # pixels


class Mnist(NamedTuple):
    """Digits, or other labelled images, in three parts."""

    train_images: Tensor  # (N, 28, 28) uint8, 0 = background .. 255 = ink
    train_labels: Tensor  # (N,) int64, 0..K-1
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    source: str  # "full", "sample" or "own": what was read
    metadata: dict  # "data", "train", "validation" and "test" (numbers of images), "classes", "notice"


MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SHA256 = {  # of the unpacked files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# Digits in the training file, in the test file, and how many of the former are validation data.
MNIST_SIZES = {"full": (60_000, 10_000, 5_000), "sample": (6_000, 1_000, 1_000)}
OWN_PATTERNS = {"train": ("*train*",), "test": ("*t10k*", "*test*")}  # names of a person's own files, with "images"


def read_idx(path: Path | str) -> Tensor:
    """A uint8 tensor from an IDX file, gzipped or not: two zero bytes, type 8 (unsigned byte), the number of
    dimensions, each size as a big-endian 32-bit integer, then exactly that many bytes. Raises DataError."""
    data = _content(Path(path))
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        found = data[:4].hex(" ") or "nothing"
        raise DataError(f"{path}: expected IDX magic 00 00 08 01 to 00 00 08 04, found {found}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{path}: expected a header of {start} bytes, found a file of {len(data)}")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    expected = math.prod(shape)  # python integers: four sizes of 32 bits overflow any other
    if not expected or expected != len(data) - start:
        raise DataError(f"{path}: expected {expected or 'more'} bytes for shape {shape}, found {len(data) - start}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def mnist(data_dir: Path | str, source: str = "auto", limit: int | None = None) -> Mnist:
    """MNIST digits from data_dir/MNIST/raw (the four IDX files, gzipped or not).

    Validation is the last 5,000 of the 60,000 training digits (the last 1,000 of the sample's 6,000); `limit`
    keeps the first of the others. Raises DataError for missing, damaged or incomplete files.
    """
    limit = checked_limit(limit)
    needed = [_mnist_names(name) for name in MNIST_SHA256]
    folder, metadata = choose(data_dir, source, "MNIST/raw", needed, _fetch_mnist, MNIST_URL)
    train_count, test_count, held_out = MNIST_SIZES[metadata["data"]]
    train = _mnist_part(folder, "train", train_count)
    test = _mnist_part(folder, "t10k", test_count)
    return _split(train, test, held_out, limit, {**metadata, "classes": 10})


def own_images(folder: Path | str, limit: int | None = None) -> Mnist:
    """A person's own images in the files of MNIST's format, as Fashion-MNIST, KMNIST and EMNIST have them.

    The folder holds four IDX files, gzipped or not: images and labels, whose names contain `train`, and the same with
    `t10k` or `test`. Images are 28 x 28; class k is the k-th smallest of the labels. Validation is the last twelfth of
    the training images. Raises DataError, which names the file.
    """
    limit = checked_limit(limit)
    folder = checked_folder(folder, required=True)
    parts = [_own_part(folder, part) for part in OWN_PATTERNS]
    labels = torch.cat([labels for _, labels in parts]).unique()
    train, test = ((images, torch.searchsorted(labels, own)) for images, own in parts)
    if len(train[0]) < 2:
        raise DataError(f"{folder}: expected at least 2 training images, found {len(train[0])}")
    metadata = {"data": "own", "file": folder.name, "classes": len(labels)}
    if len(labels) > 1 and (train[1].diff() >= 0).all():
        warning = "the training images are sorted by label: shuffle them, or the last twelfth validates one class alone"
        print(f"NOTICE: {folder}: {warning}", file=sys.stderr)
    return _split(train, test, max(1, len(train[0]) // 12), limit, metadata)


def read_images(path: Path | str) -> Tensor:
    """Images (N, 28, 28) uint8 from one IDX file. Raises DataError."""
    images = read_idx(path)
    if images.dim() != 3 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(f"{path}: expected images of {SIDE} x {SIDE} pixels, found shape {tuple(images.shape)}")
    return images


def as_sequences(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Images (B, 28, 28), uint8 or in [0, 1], to sequences (B, T, I) in [0, 1], in reading order.

    shape: of one step: I successive pixels (I,), or a patch of (H, W) pixels, whose sizes divide 28.
    """
    x = images / 255 if images.dtype == torch.uint8 else images
    if len(shape) == 2:
        height, width = shape
        x = x.view(-1, SIDE // height, height, SIDE // width, width).transpose(2, 3)  # patches by row and column
    return x.reshape(len(x), -1, math.prod(shape))


def as_images(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `as_sequences`: (B, T, I) to (B, 28, 28)."""
    if len(shape) == 2:
        height, width = shape
        x = x.view(-1, SIDE // height, SIDE // width, height, width).transpose(2, 3)
    return x.reshape(len(x), SIDE, SIDE)


def random_shifts(images: Tensor, distance: int) -> Tensor:
    """Each image (B, 28, 28) moved by up to `distance` pixels in both directions, background moving in."""
    padded = pad(images, (distance,) * 4)
    rows, columns = torch.randint(2 * distance + 1, (2, len(images), 1), device=images.device)
    line = torch.arange(SIDE, device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[batch, (rows + line)[:, :, None], (columns + line)[:, None, :]]


def _split(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], held_out: int, limit: int | None, metadata: dict
) -> Mnist:
    """Images and labels of the training file, whose last `held_out` are validation data, and of the test file."""
    (images, labels), rest = train, len(train[0]) - held_out
    metadata |= {"train": len(images[:rest][:limit]), "validation": held_out, "test": len(test[0])}
    return Mnist(
        images[:rest][:limit], labels[:rest][:limit], images[rest:], labels[rest:], *test, metadata["data"], metadata
    )


def _own_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 28, 28) and labels (N,) int64 of `train` or `test`."""
    paths = [_own_file(folder, part, kind) for kind in ("images", "labels")]
    images, labels = read_images(paths[0]), read_idx(paths[1])
    if labels.shape != images.shape[:1]:
        raise DataError(f"{paths[1]}: expected {len(images)} labels, one per image, found {tuple(labels.shape)}")
    return images, labels.long()


def _own_file(folder: Path, part: str, kind: str) -> Path:
    patterns = [f"{pattern}{kind}*" for pattern in OWN_PATTERNS[part]]
    paths = [p for p in sorted(folder.iterdir()) if any(fnmatch.fnmatch(p.name.lower(), one) for one in patterns)]
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths) or "none"
        raise DataError(f"{folder}: expected one IDX file named {' or '.join(patterns)}, found {names}")
    return paths[0]


def _mnist_names(name: str) -> list[str]:
    """The names one file is known under; the gzipped standard name, which downloads use, first."""
    dotted = name.replace("-idx", ".idx")
    return [f"{name}.gz", name, f"{dotted}.gz", dotted]


def _mnist_part(folder: Path, part: str, count: int) -> tuple[Tensor, Tensor]:
    """Images (count, 28, 28) uint8 and labels (count,) int64 of `train` or `t10k`."""
    paths = [first_present(folder, _mnist_names(name)) for name in MNIST_SHA256 if name.startswith(part)]
    if None in paths:
        raise DataError(
            f"{folder}: expected the images and the labels of {part}, found not both; "
            f"data/build_samples.py rebuilds the bundled sample"
        )
    images, labels = read_idx(paths[0]), read_idx(paths[1])
    for path, tensor, shape in ((paths[0], images, (count, 28, 28)), (paths[1], labels, (count,))):
        if tensor.shape != shape:
            raise DataError(f"{path}: expected shape {shape}, found {tuple(tensor.shape)}")
    if labels.max() > 9:
        raise DataError(f"{paths[1]}: expected labels 0 to 9, found {int(labels.max())}")
    return images, labels.long()


def _fetch_mnist(folder: Path, absent: list[str]) -> None:
    """Downloads with torchvision if it can be imported, else with `files.download`."""
    if not _fetch_by_torchvision(folder, absent):
        for name in absent:
            download(MNIST_URL + name, folder / name, MNIST_SHA256[name.removesuffix(".gz")], _content)


def _content(path: Path) -> bytes:
    return read_bytes(path, "an IDX file of bytes")


def _fetch_by_torchvision(folder: Path, absent: list[str]) -> bool:
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
                path = Path(temporary, "MNIST", "raw", name)  # one of its mirrors is not encrypted
                check_sha256("torchvision", _content(path), MNIST_SHA256[name.removesuffix(".gz")])
                os.replace(path, folder / name)
    except (ImportError, RuntimeError, OSError, DataError):
        return False
    finally:
        socket.setdefaulttimeout(timeout)
    return True
