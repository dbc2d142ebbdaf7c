"""What modules give, as tensors: one tensor, a tuple, a dictionary, an object with named parts, packed sequences."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from dynamo.contracts.errors import InvalidValueError, UnknownNameError, did_you_mean

#: What outputs are called in answers with named parts, in the order in which they are looked for, and states.
OUTPUTS = ("logits", "outputs", "output", "prediction", "predictions", "last_hidden_state", "y")
STATES = ("last_hidden_state", "hidden_states", "output", "outputs", "state", "h")
HIDDEN = "hidden_states"

Answer = str | int | Callable[[Any], Any]


def named_parts(answer: Any) -> dict[str, Any]:
    """The parts of an answer that have names; none of one that has no names."""
    if isinstance(answer, PackedSequence):
        return {}
    if isinstance(answer, Mapping):
        return {str(name): part for name, part in answer.items()}
    if hasattr(answer, "_asdict"):
        return dict(answer._asdict())
    if hasattr(answer, "__dict__") and not isinstance(answer, Tensor | tuple | list | type):
        return {name: part for name, part in vars(answer).items() if not name.startswith("_")}
    return {}


def outputs_of(answer: Any, which: Answer | None = None) -> tuple[Tensor, str]:
    """The outputs in a module's answer, and what they are called.

    Args:
        answer: what the module gave.
        which: a name, a number, or a function of the answer; None for the usual names, or the first tensor.

    Raises:
        UnknownNameError: there is no part of that name.
        InvalidValueError: there is no tensor, or it is not clear which.
    """
    if callable(which):
        return _tensor(which(answer), "what 'answer' gives"), ""
    parts = named_parts(answer)
    if isinstance(which, str):
        if which not in parts:
            raise UnknownNameError(f"the module's answer has no part {which!r}: {did_you_mean(which, parts)}")
        return _tensor(parts[which], f"the part {which!r} of the module's answer"), which
    if isinstance(which, int):
        whole = list(parts.values()) if parts and not isinstance(answer, tuple) else answer
        if not isinstance(whole, tuple | list) or not -len(whole) <= which < len(whole):
            raise InvalidValueError(f"the module's answer has no part number {which}: it is {described(answer)}")
        return _tensor(whole[which], f"part {which} of the module's answer"), ""
    if parts:
        usual = [name for name in OUTPUTS if parts.get(name) is not None]
        tensors = [name for name, part in parts.items() if isinstance(part, Tensor | PackedSequence)]
        if not usual and len(tensors) != 1:
            raise InvalidValueError(
                f"the module answers with {', '.join(parts)}: say which are its outputs, with answer='NAME'"
            )
        name = (usual or tensors)[0]
        return _tensor(parts[name], f"the part {name!r} of the module's answer"), name
    return _tensor(answer, "the module's answer"), ""


def state_of(output: Any, where: str) -> Tensor:
    """The state in what a module within the network gave: a tensor, or the first one in it.

    Raises:
        InvalidValueError: it has none.
    """
    parts = named_parts(output)
    for name in STATES:
        if parts.get(name) is not None:
            return _tensor(parts[name], where)
    return _tensor(next(iter(parts.values())) if parts else output, where)


def described(answer: Any) -> str:
    """An answer in words, for messages."""
    if isinstance(answer, Tensor):
        return f"a tensor {tuple(answer.shape)}"
    if isinstance(answer, tuple | list) and not hasattr(answer, "_asdict"):
        return f"a {type(answer).__name__} of {len(answer)} ({', '.join(type(part).__name__ for part in answer)})"
    names = ", ".join(named_parts(answer))
    return f"a {type(answer).__name__}" + (f" with {names}" if names else "")


def padded(packed: Tensor | PackedSequence) -> Tensor:
    """A packed sequence as ``[B, T, ...]``; a tensor as it is."""
    return pad_packed_sequence(packed, batch_first=True)[0] if isinstance(packed, PackedSequence) else packed


def _tensor(found: Any, where: str) -> Tensor:
    if isinstance(found, PackedSequence):
        return padded(found)
    while isinstance(found, tuple | list) and len(found) and not isinstance(found, PackedSequence):
        found = found[0]
    if isinstance(found, PackedSequence):
        return padded(found)
    if not isinstance(found, Tensor):
        raise InvalidValueError(f"{where} is {described(found)}; it must be, or begin with, a tensor")
    if found.dtype == torch.bool or not found.is_floating_point():
        raise InvalidValueError(f"{where} is {found.dtype} {tuple(found.shape)}; it must be real numbers")
    return found
