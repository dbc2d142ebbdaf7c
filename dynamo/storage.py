"""Files: written whole or not at all, read without running anybody's code."""

import csv
import errno
import hashlib
import io
import json
import os
import pickle
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile

import tomli_w

from dynamo.errors import DynamoError, did_you_mean, has_control_characters

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: How the names of files end that are not whole yet.
PARTIAL = ".partial"

#: The most dots in a line of a table.
_DEEPEST = 200


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it, so that readers see the old content or
    the new, also after a loss of power.

    Raises:
        DynamoError: the disk is full, or the folder cannot be written.
    """
    try:
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=PARTIAL)
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
        _flush_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None


def make_folder(folder: Path) -> list[Path]:
    """Make a folder with its parents, and flush their names to the disk; returns those that were missing, the innermost
    first.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for place in missing:
            _flush_folder(place.parent)
    except OSError:
        with suppress(OSError):
            for place in missing:
                place.rmdir()
        raise
    return missing


def _flush_folder(folder: Path) -> None:
    """Flush a folder's table of names, without which a renamed file may have its old name after a loss of power."""
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems flush no folders
            raise
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> DynamoError:
    return DynamoError(f"cannot write {path}: {error.strerror or error}; free some room or choose another folder")


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
        raise _unwritable(folder, error) from None


def read_bytes(path: Path, digest: str | None = None) -> bytes:
    """A file's content.

    Args:
        path: a regular file, or a link to one; a pipe or a device could be without end.
        digest: its sha256, where it is known.

    Raises:
        DynamoError: it is missing or unreadable, or not what was saved.
    """
    with _readable(path):
        content = path.read_bytes()
    if digest is not None and sha256(content) != digest:
        raise DynamoError(
            f"{path} is not the file that was saved (its checksum differs): it is truncated or was changed; restore it"
        )
    return content


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        if path.exists() and not path.is_file():
            raise DynamoError(f"cannot read {path}: it is no regular file")
        yield
    except (OSError, ValueError) as error:
        raise DynamoError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def sha256(content: bytes | memoryview) -> str:
    """The digest that manifests keep."""
    return hashlib.sha256(content).hexdigest()


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
    if table.get("format") != format_version:
        raise DynamoError(
            f"{path} is a {what} of format {table.get('format')!r}; this version reads format {format_version}: "
            "make it again, or install the version of dynamo-embedding that wrote it "
            f"({table.get('dynamo', 'unknown')!r})"
        )
    if differs:
        raise DynamoError(
            f"{path} is not as it was saved (its digest differs): restore it; if it was changed on purpose, remove its "
            "line 'digest'"
        )
    for key in table:
        if key not in {"format", "dynamo", "digest", *known}:
            raise DynamoError(f"{path} has the unknown key {key!r}: {did_you_mean(key, known)}")
    return table


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
        raise DynamoError(f"{path} holds no readable tensors: {_first_line(error)}") from None
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

    with _readable(path):
        try:
            with safe_open(path, "pt") as file:
                names = file.keys()  # it is no mapping
                return {name: file.get_tensor(name).to("meta") for name in names}, file.metadata() or {}
        except SafetensorError as error:
            raise DynamoError(f"{path} holds no readable tensors: {_first_line(error)}") from None


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
        _check_parts(file)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message says how to run the code
        raise ValueError("it is damaged, or asks for more than tensors and plain values") from None


def _check_parts(file: ZipFile) -> None:
    """Compare the checksum of every part of a zip file."""
    damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of its part {damaged!r} differs")


def read_arrays(path: Path, names: Collection[str]) -> dict[str, "NDArray[Any]"]:
    """Those of the named arrays that an ``.npz`` file has. Pickled objects are refused, and the checksums of all parts
    compared.

    Raises:
        DynamoError: it is missing, damaged, or no ``.npz`` file of plain arrays.
    """
    import numpy as np

    content = read_bytes(path)
    try:
        with ZipFile(io.BytesIO(content)) as file:
            _check_parts(file)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in names if name in arrays}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):  # numpy gives a part that is no array as bytes
                raise ValueError(f"its part {name!r} is none")
        return found
    except Exception as error:
        raise DynamoError(
            f"{path} is not an .npz file of plain arrays ({_first_line(error)}): write it with numpy.savez"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
