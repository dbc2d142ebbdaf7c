"""Finding and reading files, with errors that name them."""

from pathlib import Path

from dynamo import DynamoError


def expand(path: str | Path) -> Path:
    """The path with ``~`` as the user's home."""
    return Path(path).expanduser()


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        DynamoError: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DynamoError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): convert it") from None
    except OSError as error:
        raise DynamoError(f"cannot read {path}: {error.strerror or error}") from None
