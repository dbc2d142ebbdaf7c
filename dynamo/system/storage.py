"""Files: written whole or not at all, read without running anybody's code."""

import csv
import io
import json
import pickle
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile

import tomli_w

from dynamo.contracts.errors import DynamoError, did_you_mean, has_control_characters
from dynamo.contracts.files import (
    LARGEST_TEXT,
    PARTIAL,
    check_parts,
    one_line,
    read_bytes,
    sha256,
    unwritable,
    write_bytes,
)

if TYPE_CHECKING:
    from torch import Tensor

#: The most dots in a line of a table.
_DEEPEST = 200

#: How files begin that torch wrote before version 1.6: a pickle of its magic number.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

#: Where training tools keep the state dict in a checkpoint of theirs.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")

#: How often a tensor may be shared, as layers share weights, before a file is taken for one that is meant to fill the
#: memory.
_SHARED = 64

#: How what a spreadsheet takes for a formula begins, in Japanese and Chinese too.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def check_writable(folder: Path) -> None:
    """Make sure that files can be made in a folder, before long work starts. Leaves nothing behind, and removes what
    processes of this program that were killed have left half-written there.

    Raises:
        DynamoError: it cannot be made or written.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    probe = folder / f".dynamo-{'0' * 16}.partial"
    write_bytes(probe, b"")
    try:
        for path in folder.iterdir():
            if PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
        for place in missing:
            place.rmdir()
    except OSError as error:
        raise unwritable(folder, error) from None


def write_toml(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table with the digest of its content; entries that are None are left out, since TOML has no such
    value.
    """
    plain = without_none(table)
    write_bytes(path, tomli_w.dumps({**plain, "digest": table_digest(plain)}).encode())


def table_digest(table: Mapping[str, Any]) -> str:
    """The sha256 of a table's content but for its key ``digest``; order, blanks and comments do not count."""
    rest = {key: value for key, value in table.items() if key != "digest"}
    return sha256(json.dumps(rest, sort_keys=True, default=repr).encode())


def read_toml(path: Path, *, what: str, format_version: int | Sequence[int], known: Collection[str]) -> dict[str, Any]:
    """Read a table that carries ``format``, the version of its layout.

    Where it has a ``digest``, its content must be as that says; tables written by hand have none.

    Args:
        path: the file.
        what: what it describes, for messages.
        format_version: the one that can be read, or those.
        known: the keys that it may have, beside ``format``, ``dynamo`` and ``digest``.

    Raises:
        DynamoError: missing, not TOML, of another version, damaged, or with control characters or unknown keys.
    """
    try:
        text = read_bytes(path, within=path.parent, most=LARGEST_TEXT).decode()
        if any(line.count(".") > _DEEPEST for line in text.splitlines()):
            raise RecursionError("it is nested too deeply")  # tomllib's time grows with the square of a key's parts
        table = tomllib.loads(text)
        differs = "digest" in table and table["digest"] != table_digest(table)
        refuse_control_characters(table, str(path))
    except (ValueError, RecursionError) as error:
        raise DynamoError(f"{path} is no valid {what}: {error}") from None
    versions = [format_version] if isinstance(format_version, int) else format_version
    check_format(path, what, table.get("format"), versions, str(table.get("dynamo", "unknown")))
    if differs:
        raise DynamoError(
            f"{path} is not as it was saved (its digest differs): restore it; if it was changed on purpose, remove its "
            "line 'digest'"
        )
    for key in table:
        if key not in {"format", "dynamo", "digest", *known}:
            raise DynamoError(f"{path} has the unknown key {key!r}: {did_you_mean(key, known)}")
    return table


def check_format(path: Path, what: str, found: object, known: Sequence[int], writer: str) -> None:
    """Raise a clear error where a file's layout is not of the version that can be read.

    Args:
        path: the file.
        what: what it is, for the message.
        found: the version that it says.
        known: the versions that can be read.
        writer: the version of dynamo-embedding that wrote it.
    """
    if type(found) is not int or found not in known:
        versions = " or ".join(map(str, known))
        raise DynamoError(
            f"{path} is a {what} of format {found!r}; this version reads format {versions}: make it again, or install "
            f"the version of dynamo-embedding that wrote it ({writer!r})"
        )


def refuse_control_characters(value: Any, where: str) -> None:
    """They would reach the terminal of whoever looks at the table."""
    if isinstance(value, str) and has_control_characters(value):
        raise DynamoError(f"{where} has control characters in {value!r}: remove them")
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_control_characters(key, where)
            refuse_control_characters(item, where)
    if isinstance(value, list | tuple):
        for item in value:
            refuse_control_characters(item, where)


def without_none(value: Any) -> Any:
    """A table without the entries that are None."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a header line. Texts that a spreadsheet would take for a formula get an apostrophe before
    them, which makes it take them for text.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([_no_formula(cell) for cell in row])
    write_bytes(path, text.getvalue().encode())


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", "\n")  # the csv module writes the one as it is, and quotes the other
    if not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def tensors_to_bytes(tensors: Mapping[str, "Tensor"]) -> bytes:
    """Tensors in the safetensors format."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def read_tensors(
    path: Path, digest: str | None = None, *, within: Path | None = None, part: tuple[int, int] | None = None
) -> dict[str, "Tensor"]:
    """Tensors from ``.safetensors``, or from a state dict saved by torch (``.pt``, ``.pth``), which is read with
    ``weights_only=True``. A state dict inside a training checkpoint is found under its usual names.

    Args:
        path: the file.
        digest: its sha256, where it is known.
        within: the folder that it must lie in, also where it is a link.
        part: where a ``.safetensors`` file begins in this one and how many bytes it has, where several lie one after
            the other; the digest is that of the part.

    Raises:
        DynamoError: missing, truncated, changed, outside, or no file of plain tensors.
    """
    return read_state(path, digest, within=within, part=part)[0]


def read_state(
    path: Path, digest: str | None = None, *, within: Path | None = None, part: tuple[int, int] | None = None
) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """What :func:`read_tensors` gives, and what else lies beside the state dict in a training checkpoint.

    Args:
        path: the file.
        digest: its sha256, where it is known.
        within: the folder that it must lie in, also where it is a link.
        part: see :func:`read_tensors`.

    Raises:
        DynamoError: missing, truncated, changed, outside, or no file of plain tensors.
    """
    content = read_bytes(path, digest, within=within, part=part)
    try:
        if part is not None or path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(content), {}
        loaded = load_plain(content)
    except Exception as error:
        raise DynamoError(f"{path} holds no readable tensors: {one_line(error)}") from None
    if _is_state(loaded):
        return dict(loaded), {}
    wrapped = [key for key in _WRAPPERS if isinstance(loaded, dict) and _is_state(loaded.get(key))]
    if len(wrapped) == 1:
        return dict(loaded[wrapped[0]]), {key: value for key, value in loaded.items() if key != wrapped[0]}
    which = f"several of them ({', '.join(wrapped)})" if wrapped else "no state dict"
    raise DynamoError(f"{path} holds {which}: save the model's state_dict() alone")


def _is_state(loaded: Any) -> bool:
    import torch

    return (
        isinstance(loaded, dict)
        and bool(loaded)
        and all(isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in loaded.items())
    )


def load_plain(content: bytes) -> Any:
    """What ``torch.save`` wrote, tensors and plain values only. Torch passes over the checksums in its files; here they
    are compared. The memory that it takes, also when tensors are copied, is bounded by the file's size.

    Raises:
        Exception: of many kinds; the content is damaged, or asks for more than tensors and plain values.
    """
    import torch

    if content[: len(_LEGACY)] == _LEGACY:
        raise ValueError(
            "it has the form that torch wrote before version 1.6: load it with torch.load(..., weights_only=True) and "
            "save it again with torch.save"
        )
    with ZipFile(io.BytesIO(content)) as file:
        parts = file.infolist()
        if any(part.filename.endswith("/constants.pkl") for part in parts):
            raise ValueError("it is a TorchScript program: save the model's state_dict()")
        if any(part.compress_type != ZIP_STORED for part in parts):
            raise ValueError("it is compressed, as torch.save never does")
        if sum(part.file_size for part in parts) > len(content):
            raise ValueError("its parts lie one over the other")
        check_parts(file)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message says how to run the code
        raise ValueError(
            "it is a whole model and no state_dict(), is damaged, or asks for more than tensors and plain values"
        ) from None
    room = 0
    for tensor in _tensors_in(loaded):
        _check_plain(tensor)
        room += tensor.numel() * tensor.itemsize
    if room > _SHARED * len(content):
        raise ValueError(f"its tensors share their memory: apart they would take {room:,} bytes")
    return loaded


def _tensors_in(loaded: Any) -> "Iterator[Tensor]":
    """All tensors, those of dicts and lists within others too; each container is looked at once."""
    import torch

    seen, waiting = set[int](), [loaded]
    while waiting:
        item = waiting.pop()
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, dict | list | tuple | set | frozenset) and id(item) not in seen:
            seen.add(id(item))
            waiting += [*item, *item.values()] if isinstance(item, dict) else item


def _check_plain(tensor: "Tensor") -> None:
    """Refuse a tensor that is no array of numbers in memory of its own."""
    import torch

    kind = str(tensor.layout).removeprefix("torch.")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise ValueError(f"it has a tensor of the class {type(tensor).__name__}: save plain tensors")
    if tensor.is_nested:
        raise ValueError("it has a nested tensor: save plain ones")
    if tensor.layout != torch.strided:
        raise ValueError(f"it has a tensor in the layout {kind}: save it as tensor.to_dense()")
    if tensor.is_quantized:
        raise ValueError("it has a quantised tensor: save it as tensor.dequantize()")
    if tensor.is_meta:
        raise ValueError(
            "it has a tensor without values, on the device 'meta': load the model's weights before it is saved"
        )
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise ValueError(
            f"it has a tensor of shape {tuple(tensor.shape)} whose numbers lie one over the other: save it as "
            "tensor.clone()"
        )
