"""MNIST digits from IDX files, gzipped or not."""

import math
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from loaders.files import DataError, checked_limit, choose, download, first_present, read_bytes


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
    images, labels = read_idx(paths[0]), read_idx(paths[1])
    for path, tensor, shape in ((paths[0], images, (count, 28, 28)), (paths[1], labels, (count,))):
        if tensor.shape != shape:
            raise DataError(f"{path}: expected shape {shape}, found {tuple(tensor.shape)}")
    if labels.max() > 9:
        raise DataError(f"{paths[1]}: expected labels 0 to 9, found {int(labels.max())}")
    return images, labels.long()


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
