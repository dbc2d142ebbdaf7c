"""Files: written whole or not at all, read without running anybody's code."""

import csv
import hashlib
import io
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from dynamo.errors import DynamoError

if TYPE_CHECKING:
    from torch import Tensor


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it, so that readers see the old content or
    the new.

    Raises:
        DynamoError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise DynamoError(
            f"cannot write {path}: {error.strerror or error}; free some room or choose another folder"
        ) from None


def check_writable(folder: Path) -> None:
    """Make sure that files can be made in a folder, before long work starts; leaves nothing behind.

    Raises:
        DynamoError: it cannot be made or written.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    probe = folder / ".writable"
    write_bytes(probe, b"")
    probe.unlink()
    for place in missing:
        place.rmdir()


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        DynamoError: it is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DynamoError(f"cannot read {path}: {error.strerror or error}") from None


def sha256(content: bytes) -> str:
    """The digest that manifests keep."""
    return hashlib.sha256(content).hexdigest()


def write_toml(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table; entries that are None are left out, since TOML has no such value."""
    write_bytes(path, tomli_w.dumps(_without_none(table)).encode())


def read_toml(path: Path, *, what: str, format_version: int) -> dict[str, Any]:
    """Read a table that carries ``format``, the version of its layout.

    Raises:
        DynamoError: missing, not TOML, or of another version.
    """
    try:
        table = tomllib.loads(read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DynamoError(f"{path} is no valid {what}: {error}") from None
    if table.get("format") != format_version:
        raise DynamoError(
            f"{path} is a {what} of format {table.get('format')!r}; this version reads format {format_version}: "
            "make it again, or install the version of dynamo-embedding that wrote it "
            f"({table.get('dynamo', 'unknown')})"
        )
    return table


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
    content = read_bytes(path)
    if digest is not None and sha256(content) != digest:
        raise DynamoError(
            f"{path} is not the file that was saved (its checksum differs): it is truncated or was changed; restore it"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(content)
        import torch

        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DynamoError(f"{path} holds no readable tensors: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, dict) or not all(isinstance(item, torch.Tensor) for item in loaded.values()):
        raise DynamoError(f"{path} holds no state dict: save the model's state_dict()")
    return loaded
