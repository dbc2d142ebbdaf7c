"""Batches as users have them, as :class:`~dynamo.contracts.trajectory.Inputs`: padded on either side, with a mask or
without, packed, or in a dictionary.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from dynamo.contracts.errors import InvalidValueError, WrongTypeError
from dynamo.contracts.trajectory import Inputs

#: What inputs and masks are called in batches that are dictionaries, in the order in which they are looked for.
VALUES = ("input_ids", "inputs", "input_values", "pixel_values", "values", "input", "x", "src")
MASKS = ("attention_mask", "mask", "input_mask")
TARGETS = ("labels", "label", "targets", "target", "y")


def as_batch(given: Any, where: str) -> Inputs:
    """A batch of inputs from what users have.

    Args:
        given: ``Inputs``; a tensor or array of token ids ``[B, T]``, sequences ``[B, T, D]``, images ``[B, C, H, W]``
            or vectors ``[B, D]``, which are sequences of one step; a pair of values and mask; a ``PackedSequence``; a
            dictionary with ``input_ids``, ``inputs`` or the like, and with ``attention_mask`` or ``mask`` or none.
        where: what it is, for messages.

    Returns:
        The inputs, padded on the right, whichever side they were padded on.

    Raises:
        WrongTypeError: something else.
        InvalidValueError: shapes that are none of these, or a mask with holes.
    """
    if isinstance(given, Inputs):
        return given
    if isinstance(given, PackedSequence):
        values, lengths = pad_packed_sequence(given, batch_first=True)
        return Inputs(_numbers(values, where), torch.arange(values.shape[1]) < lengths[:, None])
    mask: Any = None
    if isinstance(given, Mapping):
        names = [name for name in VALUES if name in given]
        if not names:
            raise InvalidValueError(
                f"{where} has {', '.join(map(str, given)) or 'nothing'}; its inputs must be called one of "
                f"{', '.join(VALUES)}"
            )
        mask = next((given[name] for name in MASKS if name in given), None)
        given = given[names[0]]
    elif isinstance(given, tuple | list) and len(given) == 2:
        given, mask = given
    values = _numbers(as_tensor(given, where), where)
    if values.ndim == 2 and values.is_floating_point():
        values = values[:, None]
    if values.ndim not in (2, 3, 4):
        raise InvalidValueError(
            f"{where} has shape {tuple(values.shape)}; inputs are token ids [batch, steps], sequences "
            "[batch, steps, features], vectors [batch, features] or images [batch, channels, height, width]"
        )
    steps = values.shape[:2] if values.ndim < 4 else (len(values), 1)
    if mask is None:
        return Inputs(values, torch.ones(*steps, dtype=torch.bool))
    mask = as_tensor(mask, f"the mask of {where}")
    if tuple(mask.shape) != tuple(steps):
        raise InvalidValueError(f"the mask of {where} has shape {tuple(mask.shape)}; it must be {tuple(steps)}")
    return padded_right(values, mask != 0, where)


def as_tensor(given: Any, where: str) -> Tensor:
    """A tensor of numbers from a tensor, an array, or nested lists of equal length.

    Raises:
        WrongTypeError: none of these.
        InvalidValueError: lists of different lengths.
    """
    if isinstance(given, Tensor):
        return given.detach().cpu()
    try:
        array = np.asarray(given)
    except ValueError:
        raise InvalidValueError(f"{where} has sequences of different lengths: pad them and give a mask") from None
    if array.dtype.kind not in "biuf":
        raise WrongTypeError(f"{where} is a {type(given).__name__}; give a tensor or an array of numbers")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))


def padded_right(values: Tensor, mask: Tensor, where: str) -> Inputs:
    """The real steps of each example first, whichever side they were padded on; padding is left as it was.

    Args:
        values: ``[B, T, ...]``.
        mask: ``[B, T]`` bool.
        where: what it is, for messages.

    Raises:
        InvalidValueError: an example without real steps, or with padding between them.
    """
    first = mask.int().argmax(1)
    lengths = mask.sum(1)
    steps = torch.arange(mask.shape[1])
    wanted = (steps >= first[:, None]) & (steps < (first + lengths)[:, None])
    for fault, text in (
        ((lengths == 0), "is all padding"),
        ((wanted != mask).any(1), "has padding between real steps"),
    ):
        if bool(fault.any()):
            raise InvalidValueError(f"{where}: example {int(fault.nonzero()[0])} {text}; drop it or mend its mask")
    if not bool(first.any()):
        return Inputs(values, mask)
    order = (steps + first[:, None]) % mask.shape[1]
    return Inputs(values[torch.arange(len(values))[:, None], order], steps < lengths[:, None])


def _numbers(values: Tensor, where: str) -> Tensor:
    if values.dtype == torch.bool or values.is_complex():
        raise WrongTypeError(f"{where} is {values.dtype}; give whole or real numbers")
    return values.float() if values.is_floating_point() else values.long()
