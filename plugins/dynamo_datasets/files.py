"""Places of files."""

from pathlib import Path


def expand(path: str | Path) -> Path:
    """The path with ``~`` as the user's home."""
    return Path(path).expanduser()
