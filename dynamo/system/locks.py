"""Locks: one process at a time writes into a folder."""

import errno
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import make_folder

#: The file that is locked; a name that nobody else gives a file of theirs.
LOCK = ".dynamo.lock"

_HOLDER = re.compile(rb"(process \d+ on .{,300})?", re.DOTALL)

#: What file systems answer that have no locks; there, folders are not guarded.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, and taken away again where it stays empty.

    The lock is the operating system's, on the file ``.dynamo.lock``, which names its holder. It ends with the process,
    however that ends: a file that a killed process has left locks nothing. A file of that name that something else has
    made is left alone.

    Raises:
        DynamoError: another process holds the folder, it cannot be written, or has a foreign file of that name.
    """
    try:
        made = make_folder(folder)
        handle = _take(folder)
    except OSError as error:
        raise DynamoError(
            f"cannot write {folder}: {error.strerror or error}; free some room or choose another folder"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(handle)
        with suppress(OSError):
            for place in made:
                place.rmdir()


def _take(folder: Path) -> int:
    """The open lock file, with its lock."""
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)  # a holder that has just ended may have taken it away
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except FileNotFoundError:
            continue
        try:
            _lock(handle, folder)
            if os.path.samestat(os.fstat(handle), path.stat()):
                _check_own(handle, path)
                break
        except FileNotFoundError:  # the holder has ended, and its file with it: try again
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    with suppress(OSError):  # a full disk has no room for the name, and yet the lock
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return handle


def _check_own(handle: int, path: Path) -> None:
    """A lock file is empty or names its holder, and has one name."""
    found = os.fstat(handle)
    if stat.S_ISREG(found.st_mode):
        os.lseek(handle, 0, os.SEEK_SET)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or not _HOLDER.fullmatch(os.read(handle, 1000)):
        raise DynamoError(f"{path} is no lock of this program: take it away, or choose another folder")


def _lock(handle: int, folder: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 2**30, os.SEEK_SET)  # locked bytes cannot be read there: lock one behind the name
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.lseek(handle, 0, os.SEEK_SET)
        holder = os.read(handle, 200).decode(errors="replace") or "another process"
        raise DynamoError(
            f"{folder} is in use by {holder}: wait until it has ended, or choose another folder"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
