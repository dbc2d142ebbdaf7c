"""Pickles of plain values and of arrays of bytes, read by their opcodes: nothing that they name is looked up or called.

An unpickler runs what it is told to; even one that knows numpy's functions alone can be told to make a dtype of object
pointers of bytes of the file. Here a name stays a name, and an array is its shape beside its bytes.
"""

import pickletools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

_MARK = object()

#: The opcodes whose argument is the value.
_VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_VALUES |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_VALUES |= {"BYTEARRAY8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_BYTE = ("u1", "|u1", "B", "uint8")


@attrs.frozen
class _Name:
    """A global name, which stays one."""

    text: str


class _Byte:
    """The dtype of bytes."""


@attrs.define(eq=False)
class _Array:
    """An array of bytes: its shape and its content, once they are known."""

    shape: tuple[int, ...] = (0,)
    content: bytes | bytearray = b""
    order: Any = "C"

    def values(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.content, dtype=np.uint8).reshape(self.shape, order=self.order)


def read_plain(content: bytes) -> dict[str, Any]:
    """The dict that a pickle holds, by its keys that are text: plain values, and arrays of bytes. The official files of
    CIFAR are such, and what Python 2 and 3 with numpy 1 and 2 write of the same content.

    Raises:
        Exception: of many kinds; the pickle is damaged, or has anything else in it.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(content)
    for opcode, argument, _ in operations:
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name == "GLOBAL":
            stack.append(_Name(argument.replace(" ", ".")))
        elif name in _WAYS:
            _WAYS[name](stack)
        elif name == "STOP":
            break
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it has the opcode {name}")
    (found,) = stack
    if not isinstance(found, dict):
        raise ValueError("it holds no dict")
    return {key: item.values() if isinstance(item, _Array) else item for key, item in found.items()}


def _marked(stack: list[Any]) -> list[Any]:
    """Take off what lies above the last mark, and the mark."""
    last = len(stack) - 1
    while stack[last] is not _MARK:
        last -= 1
    found = stack[last + 1 :]
    del stack[last:]
    return found


def _tuple(size: int) -> Callable[[list[Any]], None]:
    def make(stack: list[Any]) -> None:
        found = tuple(stack[len(stack) - size :])
        del stack[len(stack) - size :]
        stack.append(found)

    return make


def _dict(stack: list[Any]) -> None:
    items = _marked(stack)
    stack.append({})
    _add_items(stack[-1], items)


def _set_item(stack: list[Any]) -> None:
    item, key = stack.pop(), stack.pop()
    _add_items(stack[-1], [key, item])


def _set_items(stack: list[Any]) -> None:
    items = _marked(stack)
    _add_items(stack[-1], items)


def _add_items(found: Any, items: list[Any]) -> None:
    for key, item in zip(items[::2], items[1::2], strict=True):
        if not isinstance(found, dict) or not isinstance(key, str | bytes):
            raise ValueError("it has a key that is no text")
        found[key if isinstance(key, str) else key.decode("latin1")] = item


def _append(stack: list[Any]) -> None:
    item = stack.pop()
    _add_to(stack[-1], [item])


def _append_all(stack: list[Any]) -> None:
    items = _marked(stack)
    _add_to(stack[-1], items)


def _add_to(found: Any, items: list[Any]) -> None:
    if not isinstance(found, list):
        raise ValueError("it appends to what is no list")
    found.extend(items)


def _name(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("it has a name that is no text")
    stack.append(_Name(f"{module}.{name}"))


def _call(stack: list[Any]) -> None:
    """What a call gives, of those that come in pickles of arrays of bytes."""
    given, called = stack.pop(), stack.pop()
    text = called.text.replace("numpy._core.", "numpy.core.") if isinstance(called, _Name) else "a call"
    if text == "numpy.core.multiarray._reconstruct":
        stack.append(_Array())
    elif text == "numpy.core.numeric._frombuffer":
        content, kind, shape, order = given
        stack.append(_array(content, kind, shape, order))
    elif text == "numpy.dtype" and given[0] in _BYTE:
        stack.append(_Byte())
    elif text == "_codecs.encode" and given[1] == "latin1":
        stack.append(given[0].encode("latin1"))
    else:
        raise ValueError(f"it asks for {text}")


def _set(stack: list[Any]) -> None:
    """Give an array its content; what a dtype of bytes is given changes nothing."""
    state, target = stack.pop(), stack[-1]
    if isinstance(target, _Array):
        _, shape, kind, by_columns, content = state
        made = _array(content, kind, shape, "F" if by_columns else "C")
        target.shape, target.content, target.order = made.shape, made.content, made.order
    elif not isinstance(target, _Byte):
        raise ValueError("it changes what is no array")


def _array(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    content = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(content, bytes | bytearray) or not isinstance(kind, _Byte):
        raise ValueError("it has an array of another type than bytes")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("it has an array of a shape that is none")
    return _Array(tuple(shape), content, order)


_WAYS: dict[str, Callable[[list[Any]], None]] = {
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_TUPLE": lambda stack: stack.append(()),
    "TUPLE": lambda stack: stack.append(tuple(_marked(stack))),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": lambda stack: stack.append(_marked(stack)),
    "DICT": _dict,
    "APPEND": _append,
    "APPENDS": _append_all,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "STACK_GLOBAL": _name,
    "REDUCE": _call,
    "BUILD": _set,
}
