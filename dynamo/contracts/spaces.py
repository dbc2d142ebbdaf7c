"""What goes into a model and what comes out of it."""

from collections.abc import Mapping
from math import prod
from typing import Any, Literal

import attrs

from dynamo.contracts.errors import DynamoError

#: The most numbers in one step of input or output that a table may ask for; 4,096 x 4,096 pixels.
LARGEST = 2**24


@attrs.frozen
class InputSpace:
    """The inputs a model takes.

    ``tokens``: ids below ``shape[0]``, the size of the vocabulary. ``real``: vectors of ``shape[0]`` numbers a step.
    ``image``: ``shape`` is (channels, height, width). ``vocabulary`` identifies the words behind the ids (a digest),
    so that two models whose ids mean different words are not taken for alike.
    """

    kind: Literal["tokens", "real", "image"]
    shape: tuple[int, ...]
    vocabulary: str = ""

    @property
    def size(self) -> int:
        """The vocabulary's size, or the numbers in one step of input."""
        return prod(self.shape)

    def table(self) -> dict[str, Any]:
        """The form that TOML keeps."""
        return {"kind": self.kind, "shape": list(self.shape), "vocabulary": self.vocabulary}

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "InputSpace":
        """Read :meth:`table` back.

        Raises:
            DynamoError: it describes none.
        """
        try:
            kind, shape, vocabulary = table["kind"], table["shape"], table.get("vocabulary", "")
        except (KeyError, TypeError, AttributeError) as error:
            raise DynamoError(f"{table!r} is no input space: it needs 'kind' and 'shape' ({error})") from None
        sizes = {"tokens": 1, "real": 1, "image": 3}.get(str(kind))
        if not (isinstance(shape, list) and len(shape) == sizes and _are_sizes(shape) and isinstance(vocabulary, str)):
            raise DynamoError(
                f"{table!r} is no input space: kind is tokens or real with a shape of one size, or image with three, "
                f"of {LARGEST:,} numbers at most"
            )
        return cls(kind, tuple(shape), vocabulary)

    def __str__(self) -> str:
        if self.kind == "tokens":
            words = f", vocabulary {self.vocabulary}" if self.vocabulary else ""
            return f"token ids below {self.shape[0]}{words}"
        return f"{self.kind} input of shape {self.shape}"


@attrs.frozen
class OutputSpace:
    """The outputs of a model, and when its decision is read.

    ``classes``: ``size`` logits. ``real``: ``size`` numbers. ``readout`` says whether the task's answer is the output
    at the last real step or at every step. ``group`` names the task: models of one output space share a
    hidden-to-output map G̃_k.
    """

    kind: Literal["classes", "real"]
    size: int
    readout: Literal["last", "every"] = "last"
    group: str = "output"

    def table(self) -> dict[str, Any]:
        """The form that TOML keeps."""
        return attrs.asdict(self)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "OutputSpace":
        """Read :meth:`table` back.

        Raises:
            DynamoError: it describes none.
        """
        try:
            made = cls(table["kind"], table["size"], table.get("readout", "last"), table.get("group", "output"))
        except (KeyError, TypeError, AttributeError) as error:
            raise DynamoError(f"{table!r} is no output space: it needs 'kind' and 'size' ({error})") from None
        words = str(made.kind) in ("classes", "real") and str(made.readout) in ("last", "every")
        if not (words and _are_sizes([made.size]) and isinstance(made.group, str)):
            raise DynamoError(
                f"{table!r} is no output space: kind is classes or real, size 1 to {LARGEST:,}, readout last or every"
            )
        return made

    def __str__(self) -> str:
        what = "classes" if self.kind == "classes" else "real outputs"
        return f"{self.size} {what} ({self.group})"


def _are_sizes(values: list[Any]) -> bool:
    return all(type(value) is int and value > 0 for value in values) and prod(values) <= LARGEST
