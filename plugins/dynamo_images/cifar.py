"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels.

A. Krizhevsky, 2009, Learning Multiple Layers of Features from Tiny Images. They are read from the official archives for
Python (``cifar-10-batches-py`` and ``cifar-100-python``). Those are pickles, which could hold code; they are read by
their opcodes, see :mod:`dynamo_images.plain_pickle`, so that files from any source are safe to open.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import one_line, read_bytes
from dynamo_images.files import find_folder
from dynamo_images.pixels import Images, as_dataset
from dynamo_images.plain_pickle import read_plain

if TYPE_CHECKING:
    from dynamo_images import DownloadOptions

_SHAPE = (3, 32, 32)
_SIZE = 3 * 32 * 32
_LARGEST = 2**30


def cifar10(options: "DownloadOptions") -> Dataset:
    """50,000 training and 10,000 test images of ten classes.

    Raises:
        DynamoError: a file is missing, cannot be downloaded, or is damaged.
    """
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    return _cifar("cifar10", "cifar-10-batches-py", batches, ["test_batch"], "labels", 10, options)


def cifar100(options: "DownloadOptions") -> Dataset:
    """50,000 training and 10,000 test images of a hundred classes.

    Raises:
        DynamoError: a file is missing, cannot be downloaded, or is damaged.
    """
    return _cifar("cifar100", "cifar-100-python", ["train"], ["test"], "fine_labels", 100, options)


def _cifar(
    name: str, folder: str, train: list[str], test: list[str], labels: str, classes: int, options: "DownloadOptions"
) -> Dataset:
    def is_whole(place: Path) -> bool:
        return all((place / file).is_file() for file in [*train, *test])

    found = find_folder(name, options.root, [folder], is_whole, options.download, name.upper(), "")
    images, tested = (_read_all([found / file for file in files], labels) for files in (train, test))
    return as_dataset(name, images, tested, classes, options)


def _read_all(files: list[Path], labels: str) -> Images:
    batches = [read_batch(file, labels) for file in files]
    pixels = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, *_SHAPE)
    return Images(torch.from_numpy(pixels), torch.tensor([label for _, own in batches for label in own]))


def read_batch(file: Path, labels: str) -> tuple[NDArray[np.uint8], list[int]]:
    """The pixels ``[n, 3072]`` uint8 and the labels of one file.

    Raises:
        DynamoError: it is damaged, or not of that form.
    """
    content = read_bytes(file, most=_LARGEST)
    try:
        found = read_plain(content)
        pixels, classes = found["data"], [int(label) for label in found[labels]]
    except Exception as error:  # a damaged pickle can raise anything
        raise DynamoError(
            f"{file} is no file of the official archive for Python ({type(error).__name__}: {one_line(error)}): get it "
            "anew"
        ) from None
    if not isinstance(pixels, np.ndarray) or pixels.shape != (len(classes), _SIZE):
        raise DynamoError(f"{file} does not hold {len(classes)} rows of {_SIZE} bytes: get it anew")
    return pixels, classes
