"""Files of tensors in the safetensors format of which a part is read: the header, or some of the tensors."""

import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import one_line, readable
from dynamo.contracts.shown import brief

#: The most bytes of a header; as in the library of that name.
_LARGEST = 10**8
_KINDS = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@attrs.frozen(eq=False)
class TensorFile:
    """A file of tensors that stays on the disk, or one of several that lie one after the other in one file.

    Attributes:
        path: the file.
        forms: the tensors' names, shapes and types, as tensors without memory.
        metadata: texts by name.
    """

    path: Path
    forms: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    _starts: Mapping[str, int]

    __repr__ = brief

    @classmethod
    def open(cls, path: Path, part: tuple[int, int] | None = None) -> "TensorFile":
        """Read the header, and compare it with the file's size.

        Args:
            path: the file.
            part: where it begins in the file and how many bytes it has; None for the whole file.

        Raises:
            DynamoError: missing, truncated, or no file of tensors.
        """
        with readable(path):
            whole = path.stat().st_size
            start, size = (0, whole) if part is None else part
            try:
                if start < 0 or start + size > whole:
                    raise ValueError("it is incomplete")
                with path.open("rb") as file:
                    file.seek(start)
                    length = int.from_bytes(file.read(8), "little")
                    if not 2 <= length <= min(size - 8, _LARGEST):
                        raise ValueError("it has no header, or is incomplete")
                    text = file.read(length)
                forms, metadata, starts = _parsed(text, size - 8 - length)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError) as error:
                raise DynamoError(f"{path} holds no readable tensors: {one_line(error)}") from None
        return cls(path.absolute(), forms, metadata, {name: start + 8 + length + own for name, own in starts.items()})

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some of the tensors.

        Raises:
            DynamoError: the file is gone or truncated.
        """
        found = {}
        with readable(self.path), self.path.open("rb") as file:
            for name in names:
                form = self.forms[name]
                file.seek(self._starts[name])
                content = bytearray(file.read(form.numel() * form.itemsize))
                if len(content) != form.numel() * form.itemsize:
                    raise DynamoError(f"{self.path} holds no readable tensors: it is incomplete")
                flat = torch.frombuffer(content, dtype=form.dtype) if content else torch.empty(0, dtype=form.dtype)
                found[name] = flat.view(form.shape)
        return found


def _parsed(text: bytes, room: int) -> tuple[dict[str, Tensor], dict[str, str], dict[str, int]]:
    """The tensors of a header without memory, the metadata, and where each tensor starts in a room of so many bytes."""
    table: dict[str, Any] = json.loads(text)
    metadata = table.pop("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    forms, starts, end = {}, {}, 0
    for name, own in sorted(table.items(), key=lambda item: item[1]["data_offsets"]):
        (start, stop), shape = own["data_offsets"], own["shape"]
        kind = _KINDS[own["dtype"]]
        if not all(type(size) is int and size >= 0 for size in (start, *shape)):
            raise ValueError(f"the shape of {name!r} is no list of sizes")
        if start != end or stop - start != prod(shape) * kind.itemsize:
            raise ValueError(f"the room of {name!r} is not as its shape says")
        forms[name], starts[name], end = torch.empty(shape, dtype=kind, device="meta"), start, stop
    if end != room:
        raise ValueError(f"its tensors have {end:,} bytes, and {room:,} are there: it is incomplete")
    return forms, metadata, starts
