"""Files: written whole or not at all, read without running anybody's code."""

import csv
import io
import json
import pickle
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile

import tomli_w

from dynamo.contracts.errors import DynamoError, did_you_mean, has_control_characters
from dynamo.contracts.files import PARTIAL, check_parts, one_line, read_bytes, readable, sha256, unwritable, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

#: The most dots in a line of a table.
_DEEPEST = 200


def check_writable(folder: Path) -> None:
    """Make sure that files can be made in a folder, before long work starts. Leaves nothing behind, and removes what
    processes that were killed have left half-written there.

    Raises:
        DynamoError: it cannot be made or written.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    write_bytes(folder / f".probe{PARTIAL}", b"")
    try:
        for path in folder.glob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)
        for place in missing:
            place.rmdir()
    except OSError as error:
        raise unwritable(folder, error) from None


def write_toml(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table with the digest of its content; entries that are None are left out, since TOML has no such
    value.
    """
    plain = _without_none(table)
    write_bytes(path, tomli_w.dumps({**plain, "digest": table_digest(plain)}).encode())


def table_digest(table: Mapping[str, Any]) -> str:
    """The sha256 of a table's content but for its key ``digest``; order, blanks and comments do not count."""
    rest = {key: value for key, value in table.items() if key != "digest"}
    return sha256(json.dumps(rest, sort_keys=True, default=repr).encode())


def read_toml(path: Path, *, what: str, format_version: int, known: Collection[str]) -> dict[str, Any]:
    """Read a table that carries ``format``, the version of its layout.

    Where it has a ``digest``, its content must be as that says; tables written by hand have none.

    Args:
        path: the file.
        what: what it describes, for messages.
        format_version: the one that can be read.
        known: the keys that it may have, beside ``format``, ``dynamo`` and ``digest``.

    Raises:
        DynamoError: missing, not TOML, of another version, damaged, or with control characters or unknown keys.
    """
    try:
        text = read_bytes(path).decode()
        if any(line.count(".") > _DEEPEST for line in text.splitlines()):
            raise RecursionError("it is nested too deeply")  # tomllib's time grows with the square of a key's parts
        table = tomllib.loads(text)
        differs = "digest" in table and table["digest"] != table_digest(table)
        _refuse_control_characters(table, str(path))
    except (ValueError, RecursionError) as error:
        raise DynamoError(f"{path} is no valid {what}: {error}") from None
    check_format(path, what, table.get("format"), [format_version], str(table.get("dynamo", "unknown")))
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


def _refuse_control_characters(value: Any, where: str) -> None:
    """They would reach the terminal of whoever looks at the table."""
    if isinstance(value, str) and has_control_characters(value):
        raise DynamoError(f"{where} has control characters in {value!r}: remove them")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_control_characters(key, where)
            _refuse_control_characters(item, where)
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_control_characters(item, where)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def tensors_to_bytes(tensors: Mapping[str, "Tensor"]) -> bytes:
    """Tensors in the safetensors format."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def read_tensors(path: Path, digest: str | None = None) -> dict[str, "Tensor"]:
    """Tensors from ``.safetensors``, or from a state dict saved by torch (``.pt``, ``.pth``), which is read with
    ``weights_only=True``.

    Args:
        path: the file.
        digest: its sha256, where it is known.

    Raises:
        DynamoError: missing, truncated, changed, or no file of tensors.
    """
    content = read_bytes(path, digest)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(content)
        loaded = load_plain(content)
    except Exception as error:
        raise DynamoError(f"{path} holds no readable tensors: {one_line(error)}") from None
    import torch

    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in loaded.items()
    ):
        raise DynamoError(f"{path} holds no state dict: save the model's state_dict()")
    return loaded


def read_header(path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """The names, shapes and types of the tensors in a ``.safetensors`` file, as tensors without memory, and its
    metadata. The header is compared with the file's size; the tensors are not read.

    Raises:
        DynamoError: missing, truncated, or no file of tensors.
    """
    from safetensors import SafetensorError, safe_open

    with readable(path):
        try:
            with safe_open(path, "pt") as file:
                names = file.keys()  # it is no mapping
                return {name: file.get_tensor(name).to("meta") for name in names}, file.metadata() or {}
        except SafetensorError as error:
            raise DynamoError(f"{path} holds no readable tensors: {one_line(error)}") from None


def load_plain(content: bytes) -> Any:
    """What ``torch.save`` wrote, tensors and plain values only. Torch passes over the checksums in its files; here they
    are compared. The memory it takes is bounded by the file's size.

    Raises:
        Exception: of many kinds; the content is damaged, or asks for more than tensors and plain values.
    """
    import torch

    with ZipFile(io.BytesIO(content)) as file:
        if any(part.compress_type != ZIP_STORED for part in file.infolist()):
            raise ValueError("it is compressed, as torch.save never does")
        check_parts(file)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message says how to run the code
        raise ValueError("it is damaged, or asks for more than tensors and plain values") from None
