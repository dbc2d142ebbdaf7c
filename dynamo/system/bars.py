"""Progress bars for whoever asks for them: on a terminal with rich, in a notebook with what it has itself."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from time import monotonic
from typing import Any

import attrs
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dynamo.contracts.errors import InvalidValueError, printable
from dynamo.system.progress import Progress as Told
from dynamo.system.progress import Setting, Stages, silent, silent_stages

#: Seconds between two changes of a bar in a notebook.
EVERY = 0.2


@contextmanager
def stages_of(setting: "Setting | Stages") -> Iterator[Stages]:
    """What a setting of progress stands for, for work of several stages.

    Args:
        setting: True for bars where the output goes; ``"notebook"`` for those of a notebook; False for none; or
            :class:`~dynamo.system.progress.Stages` of your own.

    Raises:
        InvalidValueError: another setting, or a notebook where there is none.
    """
    if setting is False:
        yield silent_stages
    elif setting is True and not in_notebook():
        with terminal_bars() as bars:
            yield bars
    elif setting is True or (isinstance(setting, str) and setting == "notebook"):
        yield notebook_bars()
    elif callable(setting):
        yield setting
    else:
        raise InvalidValueError(f"progress is {setting!r}: give True, False, 'notebook' or a function")


@contextmanager
def progress_of(setting: "Setting | Told", description: str) -> Iterator[Told]:
    """What a setting of progress stands for, for work of one stage; see :func:`stages_of`.

    Args:
        setting: as there, but a function is a :class:`~dynamo.system.progress.Progress`.
        description: of the work.

    Raises:
        InvalidValueError: what :func:`stages_of` finds.
    """
    if setting is silent or callable(setting):
        yield setting
    else:
        with stages_of(setting) as stages:
            yield stages(description, None)


@contextmanager
def terminal_bars(quiet: bool = False) -> Iterator["Bars"]:
    """Progress bars on the error stream; without a terminal, their last state only; ``quiet``, none."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    note = TextColumn("{task.fields[note]}", markup=False)
    with Progress(*columns, note, console=Console(stderr=True), refresh_per_second=4, disable=quiet) as bars:
        yield Bars(bars)


@attrs.frozen
class Bars:
    """:class:`~dynamo.system.progress.Stages` with a bar for each."""

    shown: Progress

    def __call__(self, description: str, total: int | None, /) -> "Bar":
        """A new bar."""
        return Bar(self.shown, self.shown.add_task(description, total=total, note=""))


@attrs.frozen
class Bar:
    """A :class:`~dynamo.system.progress.Progress` that moves a bar."""

    shown: Progress
    number: TaskID

    def __call__(self, done: int, total: int, note: str | float = "", /) -> None:
        """Move the bar."""
        self.shown.update(self.number, completed=done, total=total, note=in_words(note))

    def remove(self) -> None:
        """Take the bar away."""
        self.shown.remove_task(self.number)


def in_words(note: str | float) -> str:
    """What there is to say of a step: a text, or a loss."""
    return f"loss {note:.4f}" if isinstance(note, float) else note


def in_notebook() -> bool:
    """Whether this runs in a notebook: under a kernel that shows HTML."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def notebook_bars() -> Stages:
    """:class:`~dynamo.system.progress.Stages` that show a bar for each in a notebook.

    Raises:
        InvalidValueError: IPython is not installed, so that this is no notebook.
    """
    try:
        from IPython.display import HTML, display
    except ImportError as error:
        raise InvalidValueError(f"progress='notebook' is for notebooks ({error}): give progress=True here") from None

    def stage(description: str, total: int | None, /) -> NotebookBar:
        handle = display(HTML(bar_html(description, 0, total, "", 0.0)), display_id=True)
        return NotebookBar(description, lambda text: handle.update(HTML(text)))

    return stage


@attrs.define
class NotebookBar:
    """A :class:`~dynamo.system.progress.Progress` that shows its bar again, at most some times in a second.

    Attributes:
        description: of the work.
        show: called with the HTML.
    """

    description: str
    show: Callable[[str], Any]
    _began: float = attrs.field(factory=lambda: monotonic())
    _shown: float = 0.0

    def __call__(self, done: int, total: int, note: str | float = "", /) -> None:
        """Move the bar."""
        now = monotonic()
        if done >= total or now - self._shown >= EVERY:
            self._shown = now
            self.show(bar_html(self.description, done, total, in_words(note), now - self._began))


def bar_html(description: str, done: int, total: int | None, note: str, seconds: float) -> str:
    """A bar as HTML, with all text escaped."""
    of = f' value="{done}" max="{total}"' if total else ""
    counts = f"{done}/{total}" if total else ""
    text = f"{counts} {seconds:.0f} s {printable(note)}"
    return f"<div>{escape(printable(description))} <progress{of}></progress> {escape(text.strip())}</div>"
