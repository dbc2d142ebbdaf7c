"""Files: written whole or not at all, read without running anybody's code."""

import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from dynamo.contracts.errors import DynamoError, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How the names of files end that are not whole yet.
PARTIAL = ".partial"


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
        raise unwritable(path, error) from None


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


def unwritable(path: Path, error: OSError) -> DynamoError:
    """The error of a file or folder that cannot be written."""
    return DynamoError(f"cannot write {path}: {error.strerror or error}; free some room or choose another folder")


def read_bytes(path: Path, digest: str | None = None) -> bytes:
    """A file's content.

    Args:
        path: a regular file, or a link to one; a pipe or a device could be without end.
        digest: its sha256, where it is known.

    Raises:
        DynamoError: it is missing or unreadable, or not what was saved.
    """
    with readable(path):
        content = path.read_bytes()
    if digest is not None and sha256(content) != digest:
        raise DynamoError(
            f"{path} is not the file that was saved (its checksum differs): it is truncated or was changed; restore it"
        )
    return content


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong when a file is read into a clear error; only regular files are read.

    Raises:
        DynamoError: it is missing, unreadable, or no regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise DynamoError(f"cannot read {path}: it is no regular file")
        yield
    except (OSError, ValueError) as error:
        raise DynamoError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def sha256(content: bytes | memoryview) -> str:
    """The digest that manifests keep."""
    return hashlib.sha256(content).hexdigest()


def check_parts(file: ZipFile) -> None:
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
            check_parts(file)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in names if name in arrays}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):  # numpy gives a part that is no array as bytes
                raise ValueError(f"its part {name!r} is no array")
        return found
    except Exception as error:
        raise DynamoError(
            f"{path} is not an .npz file of plain arrays ({one_line(error)}): write it with numpy.savez"
        ) from None


def one_line(error: Exception) -> str:
    """The first line of an error's message, with nothing in it that a terminal obeys: it may quote a file."""
    return printable((str(error).splitlines() or [type(error).__name__])[0])
