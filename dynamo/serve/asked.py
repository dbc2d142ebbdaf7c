"""What a browser asks for, read with care: every field is of the kind that it must be, or there is a message."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs, as_inputs

#: The most steps of a sequence that is asked about, and the most characters of a name.
STEPS, NAME = 2000, 80

#: Numbers in a θ or a place are smaller.
LARGEST = 1e30


def read_json(content: bytes) -> dict[str, Any]:
    """The table that a request carries.

    Raises:
        DynamoError: it is no JSON, or no table.
    """
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DynamoError(f"the request is no JSON: {str(error)[:200]}") from None
    if not isinstance(table, dict):
        raise DynamoError('the request must be a JSON object, such as {"model": "NAME", "values": [3, 1]}')
    return table


def read_text(table: Mapping[str, Any], key: str, *, needed: bool = True) -> str | None:
    """A short text; None where it is not needed and not there.

    Raises:
        DynamoError: it is missing, no text, empty, or too long.
    """
    value = table.get(key)
    if value is None and not needed:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > 4096:
        raise DynamoError(f"{key!r} must be a text of 1 to 4096 characters")
    return value


def read_count(table: Mapping[str, Any], key: str, most: int) -> int:
    """A whole number from 1 on.

    Raises:
        DynamoError: it is missing, something else, or above ``most``.
    """
    value = table.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise DynamoError(f"{key!r} must be a whole number from 1 to {most}")
    return value


def read_names(table: Mapping[str, Any], key: str, most: int) -> list[str]:
    """A list of texts, which may be missing.

    Raises:
        DynamoError: it is something else, or longer than ``most``.
    """
    value = table.get(key, [])
    if not isinstance(value, list) or len(value) > most or not all(isinstance(name, str) for name in value):
        raise DynamoError(f"{key!r} must be a list of at most {most} names")
    return list(value)


def read_theta(table: Mapping[str, Any], size: int) -> list[float] | str:
    """Where on the map: the name of a base model under ``model``, or numbers under ``theta``.

    Raises:
        DynamoError: neither or both are there, or the numbers are not as many as θ has, or not finite.
    """
    if ("model" in table) == ("theta" in table):
        raise DynamoError("say where: either 'model', a base model's name, or 'theta', a list of numbers")
    if "model" in table:
        return str(read_text(table, "model"))
    theta = table["theta"]
    if not isinstance(theta, list) or len(theta) != size or not all(map(_is_number, theta)):
        raise DynamoError(f"'theta' must be a list of {size} numbers")
    if not all(abs(value) < LARGEST for value in theta):  # NaN is not below it either
        raise DynamoError(f"'theta' must be finite numbers below {LARGEST:.0e}")
    return [float(value) for value in theta]


def read_inputs(table: Mapping[str, Any], space: InputSpace) -> Inputs:
    """One example under ``values``: token ids ``[T]``, a sequence ``[T][D]``, or an image ``[C][H][W]``.

    Raises:
        DynamoError: numbers of another shape or kind, too many steps, or ids outside the vocabulary.
    """
    values = table.get("values")
    if not isinstance(values, list) or not values:
        raise DynamoError(f"'values' must be one example as a list: {_told(space)}")
    if space.kind != "image" and len(values) > STEPS:
        raise DynamoError(f"the sequence has {len(values)} steps, and {STEPS} are the most that are read here")
    if space.kind == "tokens" and not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        raise DynamoError(f"'values' must be whole numbers: {_told(space)}")
    try:
        with np.errstate(over="ignore"):  # it is infinite then, and refused below
            array = np.asarray(values, dtype=np.int64 if space.kind == "tokens" else np.float32)
    except (ValueError, TypeError, OverflowError):
        raise DynamoError(f"'values' cannot be read: {_told(space)}") from None
    if not np.isfinite(array).all():
        raise DynamoError("'values' must be finite numbers")
    return as_inputs(space, torch.from_numpy(array)[None])


def read_place(table: Mapping[str, Any]) -> tuple[float, ...]:
    """Two coordinates under ``place``; empty where there are none.

    Raises:
        DynamoError: it is something else.
    """
    place = table.get("place", [])
    if not isinstance(place, list) or len(place) not in (0, 2) or not all(map(_is_number, place)):
        raise DynamoError("'place' must be two numbers")
    if not all(abs(value) < LARGEST for value in place):
        raise DynamoError(f"'place' must be finite numbers below {LARGEST:.0e}")
    return tuple(float(value) for value in place)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(space: InputSpace) -> str:
    if space.kind == "tokens":
        return f"token ids below {space.size}, one for each word"
    if space.kind == "real":
        return f"steps of {space.size} number{'s' * (space.size > 1)} each"
    return "an image as [channels][rows][columns] of shape {}".format(" x ".join(map(str, space.shape)))


def rows_of(values: Sequence[Sequence[float]], digits: int = 7) -> list[list[float]]:
    """Numbers for JSON.

    Args:
        values: rows.
        digits: that are kept.
    """
    return [[float(f"{value:.{digits}g}") for value in row] for row in values]
