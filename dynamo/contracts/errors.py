"""The errors that a user can cause and mend.

All are a :class:`DynamoError`. The kinds below also derive from the built-in error that fits, so that a caller catches
either: ``except DynamoError`` for everything, ``except ValueError`` or ``except InvalidValueError`` for one kind.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Self
from unicodedata import bidirectional, category

#: Unicode's categories and classes of what a terminal obeys instead of showing it: control characters, separators of
#: lines, marks that turn the direction of the text.
_CONTROL = ("Cc", "Cs", "Zl", "Zp")
_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


class DynamoError(Exception):
    """Something the user gave cannot be used; the message says what, where, and what to do.

    The command line prints the message alone (no traceback) and exits with a non-zero status.
    """

    def at(self, where: str) -> Self:
        """The same error of the same kind, its message led by where it happened.

        Example:
            >>> from dynamo.contracts import InvalidValueError
            >>> InvalidValueError("the size is 0").at("population.toml")
            InvalidValueError('population.toml: the size is 0')
        """
        return type(self)(f"{where}: {self}")


class DynamoWarning(UserWarning):
    """Something that was given can be used, but may not be what was meant; the command line prints it as one line."""


class InvalidValueError(DynamoError, ValueError):
    """A value, an option or a shape that does not fit."""


class WrongTypeError(DynamoError, TypeError):
    """An object of another type than is asked for."""


class UnknownNameError(DynamoError, KeyError):
    """A name that nothing has: of a component, an option, a model."""

    __str__ = Exception.__str__  # a KeyError's own puts the message in quotation marks


class UnusableFileError(DynamoError, OSError):
    """A file or folder that cannot be read or written, or holds something else than is asked for."""


class MissingFileError(UnusableFileError, FileNotFoundError):
    """A file or folder that is not there."""


class PluginError(DynamoError):
    """What a plugin offers breaks its contract: its author can mend it, the user can leave it out."""


class Interrupted(DynamoError):
    """Work was stopped by the user; what had been done is saved where the message says."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown ``name``: the nearest known name, and all of them.

    Example:
        >>> from dynamo.contracts import did_you_mean
        >>> did_you_mean("gruu", ["lstm", "gru"])
        "did you mean 'gru'? known: gru, lstm"
    """
    known = sorted(known)
    nearest = get_close_matches(name[:100], known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def has_control_characters(text: str) -> bool:
    """Whether a terminal might obey a part of a text instead of showing it.

    Example:
        >>> from dynamo.contracts import has_control_characters
        >>> has_control_characters("digits"), has_control_characters("digits\\x1b[2J")
        (False, True)
    """
    is_plain = text.isascii() and text.isprintable()  # as nearly all are
    return not is_plain and any(_is_control(character) for character in text)


def _is_control(character: str) -> bool:
    return category(character) in _CONTROL or bidirectional(character) in _TURNING


def printable(text: str) -> str:
    """A text with its control characters written out, so that a terminal shows them.

    Example:
        >>> from dynamo.contracts import printable
        >>> print(printable("digits\\x1b[2J"))
        digits\\x1b[2J
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character for character in text
    )
