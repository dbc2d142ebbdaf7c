"""Your own images, from one ``.npz`` file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``::

x  uint8 [n, H, W] or [n, H, W, C], channels last as picture files have them
y  integers [n]: classes from 0
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import name_after, read_arrays
from dynamo.contracts.spaces import LARGEST
from dynamo_images.pixels import Images, as_dataset

if TYPE_CHECKING:
    from dynamo_images import ImageArraysOptions

_NEEDED = ("x_train", "y_train", "x_test", "y_test")


def image_arrays(options: "ImageArraysOptions") -> Dataset:
    """The images of the file; there are as many classes as the largest label says.

    Raises:
        DynamoError: the file or an array is missing, or an array has another type or shape.
    """
    if not options.path:
        raise DynamoError("data set 'image-arrays': give path=FILE.npz")
    path = Path(options.path).expanduser()
    found = _read(path)
    train, test = (_images(found[f"x_{part}"], found[f"y_{part}"], f"{path} ({part})") for part in ("train", "test"))
    classes = 1 + max(int(part.classes.max()) for part in (train, test))
    return as_dataset("image-arrays", train, test, classes, options, options.group or name_after(path))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name. Pickled objects are refused."""
    if not path.exists():
        raise DynamoError(f"data set 'image-arrays': there is no file {path}")
    found = read_arrays(path, _NEEDED)
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise DynamoError(f"{path} has no array {', '.join(missing)}; it needs {', '.join(_NEEDED)}")
    return found


def _images(x: NDArray[Any], y: NDArray[Any], where: str) -> Images:
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or x.size == 0:
        raise DynamoError(
            f"{where}: x is {x.dtype} {list(x.shape)}; it must be uint8 [n, H, W] or [n, H, W, C], 0 the darkest and "
            "255 the brightest"
        )
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] > 4:
        raise DynamoError(
            f"{where}: x is {list(x.shape)}, which looks like channels first; they must come last, [n, H, W, C]: save "
            "x.transpose(0, 2, 3, 1)"
        )
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DynamoError(f"{where}: y is {y.dtype} {list(y.shape)}; it must be integers [{len(x)}], classes from 0")
    if y.size and int(y.max()) >= LARGEST:
        raise DynamoError(f"{where}: y has the class {y.max()}; number classes from 0 on")
    pixels = np.ascontiguousarray(x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2))
    return Images(torch.from_numpy(pixels), torch.from_numpy(y.astype(np.int64)))
