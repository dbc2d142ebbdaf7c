"""What goes into a model and what comes out of it."""

from collections.abc import Mapping, Sequence
from math import prod
from operator import index
from typing import Any, Literal, get_args

import attrs

from dynamo.contracts.errors import InvalidValueError, WrongTypeError, did_you_mean

#: The most numbers in one step of input or output that a table may ask for; 4,096 x 4,096 pixels.
LARGEST = 2**24


def _word(value: str, known: Any, what: str) -> None:
    """Check that a value is one of the words of a ``Literal``."""
    if value not in get_args(known):
        raise InvalidValueError(f"{what} is {value!r}: {did_you_mean(str(value), get_args(known))}")


def _size(value: Any) -> int:
    """A size as an int, also from numpy's integers."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise WrongTypeError(f"a size is a whole number, not {value!r}")
    return index(value)


def _shape(values: Any) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise WrongTypeError(f"a shape is a tuple of sizes, such as (3,), not {values!r}")
    return tuple(map(_size, values))


InputKind = Literal["tokens", "real", "image"]
OutputKind = Literal["classes", "real", "none"]
Readout = Literal["last", "every"]


@attrs.frozen
class InputSpace:
    """The inputs a model takes.

    ``tokens``: ids below ``shape[0]``, the size of the vocabulary. ``real``: vectors of ``shape[0]`` numbers a step.
    ``image``: ``shape`` is (channels, height, width). ``vocabulary`` identifies the words behind the ids (a digest),
    so that two models whose ids mean different words are not taken for alike.

    Raises:
        InvalidValueError: a kind that there is not, sizes below 1, or a shape that does not fit the kind.
        WrongTypeError: a shape of something else than whole numbers.

    Example:
        >>> from dynamo import InputSpace
        >>> str(InputSpace("image", (3, 32, 32)))
        'image input of shape (3, 32, 32)'
    """

    kind: InputKind
    shape: tuple[int, ...] = attrs.field(converter=_shape)
    vocabulary: str = ""

    def __attrs_post_init__(self) -> None:
        _word(self.kind, InputKind, "the kind")
        sizes = 3 if self.kind == "image" else 1
        if len(self.shape) != sizes or min(self.shape) < 1:
            wanted = "(channels, height, width)" if sizes == 3 else "one size"
            raise InvalidValueError(
                f"an input space of kind {self.kind!r} has a shape of {wanted}, each at least 1, not {self.shape}"
            )

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
            InvalidValueError: it describes none, or one of absurd size.
        """
        try:
            made = cls(table["kind"], table["shape"], table.get("vocabulary", ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidValueError(
                f"{table!r} is no input space: it needs a kind, tokens or real with a shape of one size, or image "
                f"with three ({error})"
            ) from None
        if made.size > LARGEST or not isinstance(made.vocabulary, str):
            raise InvalidValueError(f"{table!r} is no input space: {LARGEST:,} numbers are the most")
        return made

    def __str__(self) -> str:
        if self.kind == "tokens":
            words = f", vocabulary {self.vocabulary}" if self.vocabulary else ""
            return f"token ids below {self.shape[0]}{words}"
        return f"{self.kind} input of shape {self.shape}"


@attrs.frozen
class OutputSpace:
    """The outputs of a model, and when its decision is read.

    ``classes``: ``size`` logits. ``real``: ``size`` numbers. ``none``: nothing, of size 0, where only states are known.
    ``readout`` says whether the task's answer is the output at the last real step or at every step. ``group`` names the
    task: models of one output space share a hidden-to-output map G̃_k.

    Raises:
        InvalidValueError: a kind or readout that there is not, or a size below 1 (of kind ``none`` other than 0).
        WrongTypeError: a size that is no whole number.

    Example:
        >>> from dynamo import OutputSpace
        >>> str(OutputSpace("classes", 10, group="digits"))
        '10 classes (digits)'
        >>> OutputSpace("class", 2)
        Traceback (most recent call last):
        dynamo.contracts.errors.InvalidValueError: the kind is 'class': did you mean 'classes'? known: classes, none, \
real
    """

    kind: OutputKind
    size: int = attrs.field(converter=_size)
    readout: Readout = "last"
    group: str = "output"

    def __attrs_post_init__(self) -> None:
        _word(self.kind, OutputKind, "the kind")
        _word(self.readout, Readout, "the readout")
        if self.kind == "none" and self.size != 0:
            raise InvalidValueError(f"an output space of kind 'none' has the size 0, not {self.size}")
        if self.size < 1 and self.kind != "none":
            raise InvalidValueError(f"the size of an output space is at least 1, not {self.size}")

    def table(self) -> dict[str, Any]:
        """The form that TOML keeps."""
        return attrs.asdict(self)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "OutputSpace":
        """Read :meth:`table` back.

        Raises:
            InvalidValueError: it describes none, or one of absurd size.
        """
        try:
            made = cls(table["kind"], table["size"], table.get("readout", "last"), table.get("group", "output"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidValueError(
                f"{table!r} is no output space: it needs 'kind' (classes, real or none) and 'size' ({error})"
            ) from None
        if made.size > LARGEST or not isinstance(made.group, str):
            raise InvalidValueError(f"{table!r} is no output space: its size is at most {LARGEST:,}, its group a text")
        return made

    def __str__(self) -> str:
        if self.kind == "none":
            return "no outputs"
        what = "classes" if self.kind == "classes" else "real outputs"
        return f"{self.size} {what} ({self.group})"
