"""Fashion-MNIST: 70,000 grey images of clothes, 28 x 28 pixels, ten classes.

H. Xiao, K. Rasul and R. Vollgraf, 2017, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms. It is read from the four official idx files, as they are or compressed by gzip.
"""

import struct
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import read_bytes, read_gzip
from dynamo_images.files import find_folder
from dynamo_images.pixels import Images, as_dataset

if TYPE_CHECKING:
    from dynamo_images import DownloadOptions

_FILES = tuple((f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in ("train", "t10k"))
_UNSIGNED_BYTES = 8
_LARGEST = 2**30
_HINT = "; Debian and Ubuntu have it as the package dataset-fashion-mnist (then root=/usr/share/datasets/fashion-mnist)"


def fashion_mnist(options: "DownloadOptions") -> Dataset:
    """60,000 training and 10,000 test images of one channel.

    Raises:
        DynamoError: a file is missing, cannot be downloaded, or is damaged.
    """

    def is_whole(place: Path) -> bool:
        return all(_find(place, name) is not None for names in _FILES for name in names)

    below = ["FashionMNIST/raw"]
    found = find_folder("fashion-mnist", options.root, below, is_whole, options.download, "FashionMNIST", _HINT)
    train, test = (_read_part(found, *names) for names in _FILES)
    return as_dataset("fashion-mnist", train, test, 10, options)


def _find(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _read_part(folder: Path, images: str, labels: str) -> Images:
    pixels, classes = (read_idx(_find(folder, name) or folder / name) for name in (images, labels))
    if pixels.ndim != 3 or classes.ndim != 1:
        raise DynamoError(
            f"{folder}: {images} has {pixels.ndim} dimensions and {labels} {classes.ndim}; they must have 3 and 1"
        )
    return Images(pixels[:, None], classes.long())


def read_idx(file: Path) -> Tensor:
    """The bytes of an idx file as a uint8 tensor.

    The format: two zero bytes, the type (8 for bytes), the number of dimensions, their sizes as big-endian integers of
    32 bits, the data.

    Raises:
        DynamoError: it is missing, truncated, or of another format.
    """
    content = read_gzip(file, most=_LARGEST) if file.suffix == ".gz" else read_bytes(file, most=_LARGEST)
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTES)):
        raise DynamoError(f"{file} is no idx file of bytes: get it anew")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start]) if len(content) >= start else ()
    if not shape or len(content) != start + prod(shape):
        raise DynamoError(f"{file} has {len(content)} bytes, not those of its shape {shape}: get it anew")
    if prod(shape) == 0:  # whatever the other sizes are: they may be too large for a tensor
        return torch.empty((0,) * len(shape), dtype=torch.uint8)
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)
