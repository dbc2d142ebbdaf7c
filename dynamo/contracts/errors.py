"""The errors that a user can cause and mend."""

from collections.abc import Iterable
from difflib import get_close_matches
from unicodedata import bidirectional, category

#: Unicode's categories and classes of what a terminal obeys instead of showing it: control characters, separators of
#: lines, marks that turn the direction of the text.
_CONTROL = ("Cc", "Cs", "Zl", "Zp")
_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


class DynamoError(Exception):
    """Something the user gave cannot be used; the message says what, where, and what to do.

    The command line prints the message alone (no traceback) and exits with a non-zero status.
    """


class Interrupted(DynamoError):
    """Work was stopped by the user; what had been done is saved where the message says."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown ``name``: the nearest known name, and all of them."""
    known = sorted(known)
    nearest = get_close_matches(name[:100], known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def has_control_characters(text: str) -> bool:
    """Whether a terminal might obey a part of a text instead of showing it."""
    return any(_is_control(character) for character in text)


def _is_control(character: str) -> bool:
    return category(character) in _CONTROL or bidirectional(character) in _TURNING


def printable(text: str) -> str:
    """A text with its control characters written out, so that a terminal shows them."""
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character for character in text
    )
