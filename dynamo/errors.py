"""The errors that a user can cause and mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class DynamoError(Exception):
    """Something the user gave cannot be used; the message says what, where, and what to do.

    The command line prints the message alone (no traceback) and exits with a non-zero status.
    """


class Interrupted(DynamoError):
    """Work was stopped by the user; what had been done is saved where the message says."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown ``name``: the nearest known name, and all of them."""
    known = sorted(known)
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
