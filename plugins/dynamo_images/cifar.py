"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels.

A. Krizhevsky, 2009, Learning Multiple Layers of Features from Tiny Images. They are read from the official archives for
Python (``cifar-10-batches-py`` and ``cifar-100-python``). Those are pickles, which could hold code; they are read by an
unpickler that knows arrays and plain values and nothing else, so that files from any source are safe to open.
"""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo_images.files import find_folder
from dynamo_images.pixels import Images, as_dataset

if TYPE_CHECKING:
    from dynamo_images import DownloadOptions

_SHAPE = (3, 32, 32)
_SIZE = 3 * 32 * 32


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


def read_batch(file: Path, labels: str) -> tuple[Any, list[int]]:
    """The pixels ``[n, 3072]`` uint8 and the labels of one file.

    Raises:
        DynamoError: it is damaged, or not of that form.
    """
    try:
        with file.open("rb") as opened:
            content = _PlainUnpickler(opened, encoding="latin1").load()
        pixels, classes = content["data"], [int(label) for label in content[labels]]
    except OSError as error:
        raise DynamoError(f"cannot read {file}: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise DynamoError(
            f"{file} is no file of the official archive for Python ({type(error).__name__}: {error}): get it anew"
        ) from None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(classes), _SIZE):
        raise DynamoError(f"{file} does not hold {len(classes)} rows of {_SIZE} bytes: get it anew")
    return pixels, classes


class _PlainUnpickler(pickle.Unpickler):
    """Reads arrays and plain values, and refuses whatever else a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _KNOWN[module, name]


def _dtype(code: str, *flags: object) -> "np.dtype[Any]":
    """A dtype by its code; old pickles add flags that numpy has deprecated."""
    return np.dtype(code)


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_KNOWN = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}
