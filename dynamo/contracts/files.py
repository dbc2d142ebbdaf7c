"""Files: written whole or not at all, read without running anybody's code."""

import errno
import gzip
import hashlib
import io
import os
import re
import secrets
import stat
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import combining, normalize
from zipfile import ZipFile

from dynamo.contracts.errors import DynamoError, MissingFileError, UnusableFileError, did_you_mean, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The names of files that are not whole yet: nobody else's are like them.
PARTIAL = re.compile(r"\.dynamo-[0-9a-f]{16}\.partial")

_LINE = 300

#: The most bytes that are read of one file, and of one text; more is a mistake, or meant to fill the memory.
LARGEST_FILE, LARGEST_TEXT = 2**35, 2**30


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it, so that readers see the old content or
    the new, also after a loss of power. A link in its place is replaced, and what it leads to left alone.

    Raises:
        DynamoError: the disk is full, or the folder cannot be written.
    """
    try:
        make_folder(path.parent)
        partial = path.with_name(f".dynamo-{secrets.token_hex(8)}.partial")
        try:
            with open(partial, "xb") as file:  # noqa: PTH123  # its rights are those that the umask leaves
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
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
    return UnusableFileError(f"cannot write {path}: {error.strerror or error}; free some room or choose another folder")


def refuse_links(folder: Path, path: Path) -> None:
    """Make sure that no part of a path below a folder is a link: what is written there stays there.

    Args:
        folder: where writing was asked for; it may be a link itself.
        path: below it; it need not exist.

    Raises:
        DynamoError: a part is a link.
    """
    for place in (path, *path.parents):
        if place == folder:
            return
        if place.is_symlink():
            raise UnusableFileError(f"{place} is a link, and nothing is written through links: remove it")


def read_bytes(
    path: Path,
    digest: str | None = None,
    *,
    within: Path | None = None,
    most: int = LARGEST_FILE,
    part: tuple[int, int] | None = None,
) -> bytes:
    """A file's content: the one way in which data and what is saved are read.

    Args:
        path: a regular file, or a link to one; a pipe or a device could be without end.
        digest: its sha256, where it is known.
        within: the folder that it must lie in, also where it is a link.
        most: the most bytes that make sense.
        part: where to begin and how many bytes to read, where it is not the whole file; the digest is that of these.

    Raises:
        DynamoError: it is missing or unreadable, no regular file, too large, outside, or not what was saved.
    """
    with _opened(path, within, most) as (file, size):
        start, size = part or (0, size)
        file.seek(start)
        content = file.read(size)
    if digest is not None and sha256(content) != digest:
        raise _changed(path)
    return content


def check_digest(path: Path, digest: str, *, within: Path | None = None) -> None:
    """Compare a file's content with its sha256, without holding it in memory.

    Raises:
        DynamoError: what :func:`read_bytes` finds.
    """
    with _opened(path, within, LARGEST_FILE) as (file, _):
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise _changed(path)


@contextmanager
def _opened(path: Path, within: Path | None, most: int) -> Iterator[tuple[io.BufferedReader, int]]:
    """A regular file and its size; what goes wrong is a clear error."""
    if within is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(within)):
        raise UnusableFileError(
            f"{path} is a link that leaves its folder, and is not followed: put the file itself there"
        )
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            found = os.fstat(file.fileno())  # of what is opened, not of what had the name before
            if not stat.S_ISREG(found.st_mode):
                raise _irregular(path)
            if found.st_size > most:
                raise UnusableFileError(
                    f"cannot read {path}: it has {found.st_size:,} bytes, and {most:,} are the most"
                )
            yield file, found.st_size
    except DynamoError:
        raise
    except (OSError, ValueError, MemoryError) as error:
        if path.is_dir() or (isinstance(error, OSError) and error.errno == errno.ENXIO):  # a socket
            raise _irregular(path) from None
        why = "it does not fit into memory" if isinstance(error, MemoryError) else error
        kind = MissingFileError if isinstance(error, FileNotFoundError) else UnusableFileError
        raise kind(f"cannot read {path}: {getattr(error, 'strerror', None) or why}") from None


def _changed(path: Path) -> DynamoError:
    return UnusableFileError(
        f"{path} is not the file that was saved (its checksum differs): it is truncated or was changed; restore it"
    )


def _open_at_once(path: str, flags: int) -> int:
    """A pipe would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _irregular(path: Path) -> DynamoError:
    return UnusableFileError(f"cannot read {path}: it is no regular file")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without the byte order mark that editors of Windows put before it; its line ends as
    they are.

    Raises:
        DynamoError: what :func:`read_bytes` finds, or it is not UTF-8.
    """
    try:
        return read_bytes(path, most=LARGEST_TEXT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableFileError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): convert it"
        ) from None


def read_gzip(path: Path, *, most: int) -> bytes:
    """The content of a ``.gz`` file, of which no more than ``most`` bytes are unpacked.

    Raises:
        DynamoError: what :func:`read_bytes` finds, or it is damaged, no gzip file or too large.
    """
    packed = io.BytesIO(read_bytes(path, most=most))
    try:
        with gzip.open(packed) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnusableFileError(f"cannot read {path} ({one_line(error)}): get it anew") from None
    if len(content) > most:
        raise UnusableFileError(f"cannot read {path}: it unpacks to more than {most:,} bytes, the most that make sense")
    return content


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong when a file is read into a clear error; only regular files are read.

    Raises:
        DynamoError: it is missing, unreadable, or no regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise _irregular(path)
        yield
    except DynamoError:
        raise
    except (OSError, ValueError) as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else UnusableFileError
        raise kind(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def sha256(content: bytes | memoryview) -> str:
    """The digest that manifests keep."""
    return hashlib.sha256(content).hexdigest()


def check_parts(file: ZipFile) -> None:
    """Compare the checksum of every part of a zip file."""
    damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of its part {damaged!r} differs")


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, "NDArray[Any]"]:
    """The arrays of an ``.npz`` file, by name. Pickled objects are refused, and the checksums of all parts compared.

    Args:
        path: the file.
        names: those that it may have; None for any.

    Raises:
        DynamoError: it is missing, damaged, no ``.npz`` file of plain arrays, or has an array of another name.
    """
    import numpy as np

    content = read_bytes(path)
    try:
        with ZipFile(io.BytesIO(content)) as file:
            check_parts(file)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            known = arrays.files if names is None else names
            unknown = next((name for name in arrays.files if name not in known), None)
            found = {name: arrays[name] for name in arrays.files if name in known}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):  # numpy gives a part that is no array as bytes
                raise ValueError(f"its part {name!r} is no array")
    except Exception as error:
        raise DynamoError(
            f"{path} is not an .npz file of plain arrays ({one_line(error)}): write it with numpy.savez"
        ) from None
    if unknown is not None:
        raise DynamoError(
            f"{path} has the array {unknown!r}, which nothing would read: rename it or leave it out; "
            f"{did_you_mean(unknown, known)}"
        )
    return found


def one_line(error: Exception) -> str:
    """The first line of an error's message, cut, with nothing in it that a terminal obeys: it may quote a file."""
    return printable((str(error).splitlines() or [type(error).__name__])[0][:_LINE])


def name_after(path: Path) -> str:
    """A name for what comes from a file, without the file's suffix: letters without accents, digits, ``.``, ``_`` and
    ``-``, so that models can be named after it. ``Données (1).npz`` is ``Donnees-1``; of a name with none of these
    ``data`` is left.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{,199}", path.stem):
        return path.stem
    plain = normalize("NFKD", path.stem)
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", "".join(letter for letter in plain if not combining(letter)))
    return kept.strip("._-")[:60] or "data"
