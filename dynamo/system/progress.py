"""How work tells how far it has come. Work says nothing unless it is given somebody to tell."""

from typing import Literal, Protocol

#: How a user asks for progress without writing any: True for bars on the terminal or in the notebook, "notebook" for
#: those of a notebook in any case, False for none.
Setting = bool | Literal["notebook"]


class Progress(Protocol):
    """Told how far a piece of work has come."""

    def __call__(self, done: int, total: int, note: str | float = "", /) -> None:
        """So much is done.

        Args:
            done: steps done.
            total: steps in all.
            note: what there is to say of the last one: a text, or a loss.
        """


class Stages(Protocol):
    """Work of several stages asks it for a :class:`Progress` for each."""

    def __call__(self, description: str, total: int | None, /) -> Progress:
        """The next stage; ``total`` is None where it is not known yet."""


def silent(done: int, total: int, note: str | float = "", /) -> None:
    """A :class:`Progress` that says nothing."""


def silent_stages(description: str, total: int | None, /) -> Progress:
    """:class:`Stages` that say nothing."""
    return silent


def part(progress: Progress, before: int, whole: int) -> Progress:
    """A :class:`Progress` for a part of a piece of work: ``before`` of ``whole`` steps are done when it begins."""

    def tell(done: int, total: int, note: str | float = "", /) -> None:
        progress(before + done, whole, note)

    return tell


def later(stages: Stages, description: str, total: int | None) -> Progress:
    """A :class:`Progress` for a stage that begins when something of it is told first."""
    begun: list[Progress] = []

    def tell(done: int, of: int, note: str | float = "", /) -> None:
        if not begun:
            begun.append(stages(description, total))
        begun[0](done, of, note)

    return tell
