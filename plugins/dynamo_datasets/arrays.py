"""Your own data, from one ``.npz`` file.

It holds ``x_train``, ``y_train``, ``x_test``, ``y_test`` and, where sequences differ in length, ``mask_train`` and
``mask_test``::

    x     integers [n, T]: token ids; real numbers [n, T, D]: D numbers a step
    y     integers: classes [n]; real numbers [n, K]. With readout "every": [n, T] and [n, T, K]
    mask  bool [n, T], True on real steps, padding on the right
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamo import Dataset, DynamoError, Examples, Inputs, InputSpace, OutputSpace
from dynamo.contracts.files import name_after, read_arrays
from dynamo_datasets.files import expand

if TYPE_CHECKING:
    from dynamo_datasets import ArraysOptions

Arrays = dict[str, NDArray[Any]]

PARTS = ("train", "test")
_NEEDED = tuple(f"{name}_{part}" for part in PARTS for name in ("x", "y"))
_OPTIONAL = tuple(f"mask_{part}" for part in PARTS)


def arrays(options: "ArraysOptions") -> Dataset:
    """The examples of the file. Padded steps are set to zero; what kind of inputs and outputs it has follows from x, y.

    Raises:
        DynamoError: the file or an array is missing, or an array has another type or shape than the others ask for.
    """
    if not options.path:
        raise DynamoError("data set 'arrays': give path=FILE.npz")
    path = expand(options.path)
    found = read(path)
    train, test = (_examples(found, part, options.readout, path) for part in PARTS)
    inputs, outputs = train.inputs.values, train.labels
    for name, one, other in (("x", inputs, test.inputs.values), ("y", outputs, test.labels)):
        if one.dtype != other.dtype or (one.is_floating_point() and one.shape[-1] != other.shape[-1]):
            raise DynamoError(f"{path}: {name}_train and {name}_test have not the same type and size of a step")
    if inputs.is_floating_point():
        space = InputSpace("real", (inputs.shape[-1],))
    else:
        space = InputSpace("tokens", (options.vocabulary_size or _above(inputs, test.inputs.values),))
    group = options.group or name_after(path)
    if outputs.is_floating_point():
        answer = OutputSpace("real", outputs.shape[-1], options.readout, group)
    else:
        answer = OutputSpace("classes", options.classes or _above(outputs, test.labels), options.readout, group)
    dataset = Dataset(space, answer, train, test)
    dataset.check("arrays")
    return dataset


def read(path: Path) -> Arrays:
    """The arrays of the file by name. Pickled objects are refused.

    Raises:
        DynamoError: it is missing, it is no ``.npz`` of plain arrays, it lacks an array, or it has an unknown one.
    """
    if not path.exists():
        raise DynamoError(f"data set 'arrays': there is no file {path}")
    found = read_arrays(path, (*_NEEDED, *_OPTIONAL))
    for name in _NEEDED:
        if name not in found:
            raise DynamoError(f"{path} has no array {name!r}; it needs {', '.join(_NEEDED)}")
        if found[name].size == 0 or found[name].ndim == 0:
            raise DynamoError(f"{path}: {name} is {_shape(found[name])}; it must hold at least one example of one step")
    masks = [name for name in _OPTIONAL if name in found]
    if len(masks) == 1:
        raise DynamoError(
            f"{path} has {masks[0]} alone of {' and '.join(_OPTIONAL)}: give both, or none where all steps are real"
        )
    return found


def _examples(found: Arrays, part: str, readout: str, path: Path) -> Examples:
    """Part ``train`` or ``test`` with its arrays checked against one another."""
    x, y = found[f"x_{part}"], found[f"y_{part}"]
    wanted = {2: "iu", 3: "f"}
    if x.dtype.kind not in wanted.get(x.ndim, ""):
        raise DynamoError(
            f"{path}: x_{part} is {_shape(x)}; it must be integers [n, T] (token ids) or real numbers [n, T, D]"
        )
    lead = x.shape[: 2 if readout == "every" else 1]
    ndim = len(lead) + (y.dtype.kind == "f")
    if y.dtype.kind not in "iuf" or y.ndim != ndim or y.shape[: len(lead)] != lead:
        raise DynamoError(
            f"{path}: y_{part} is {_shape(y)}; with readout {readout!r} it must be integers {list(lead)} (classes) or "
            f"real numbers {[*lead, 'K']}"
        )
    mask = found.get(f"mask_{part}", np.ones(x.shape[:2], dtype=bool))
    if mask.dtype != bool or mask.shape != x.shape[:2]:
        raise DynamoError(f"{path}: mask_{part} is {_shape(mask)}; it must be bool {list(x.shape[:2])}")
    if readout == "every":
        y = _without_padding(y, mask)
    x = _without_padding(x, mask)
    for name, array in (("x", x), ("y", y)):
        _check_values(array, f"{path}: {name}_{part}")
    return Examples(Inputs(_tensor(x), torch.from_numpy(mask)), _tensor(y))


def _check_values(array: NDArray[Any], where: str) -> None:
    """Make sure that an array's values are the same as float32 or int64, but for precision."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DynamoError(f"{where} has NaN or infinite values")
        if np.abs(array).max(initial=0) > np.finfo(np.float32).max:
            raise DynamoError(f"{where} has values beyond the range of float32, in which they are used: scale them")
    elif array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DynamoError(f"{where} has the value {array.max()}, beyond 64 bits with a sign")


def _without_padding(array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """``array [n, T, ...]`` with zeros on padded steps."""
    return np.where(mask.reshape(*mask.shape, *[1] * (array.ndim - 2)), array, array.dtype.type(0))


def _tensor(array: NDArray[Any]) -> Tensor:
    """Real numbers as float32, integers as int64."""
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def _above(*tensors: Tensor) -> int:
    """The largest value of all, plus one."""
    return max(int(tensor.max()) for tensor in tensors) + 1


def _shape(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
