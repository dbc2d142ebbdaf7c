"""What a command answers, as one JSON document: ``dynamo --json``.

Commands print tables and sentences. While an answer is collected, tables and figures are kept as they are, and what is
printed otherwise becomes lines of text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

import attrs

from dynamo.contracts.shown import brief


@attrs.frozen
class Answer:
    """What has been collected.

    Attributes:
        tables: the rows of each table, by its name; of each row its cells, by the names of the columns.
        figures: numbers and names that belong to no table.
        files: what was written.
    """

    tables: dict[str, list[dict[str, Any]]] = attrs.field(factory=dict)
    figures: dict[str, Any] = attrs.field(factory=dict)
    files: list[str] = attrs.field(factory=list)

    __repr__ = brief

    def add(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Take in a table; of a second one of the same name, the name gets a number."""
        own, number = name, 1
        while own in self.tables:
            number += 1
            own = f"{name} {number}"
        self.tables[own] = [dict(zip(columns, map(plain, row), strict=True)) for row in rows]

    def document(self, command: str, printed: str) -> str:
        """The answer as JSON.

        Args:
            command: that was asked.
            printed: what it has printed.
        """
        lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
        parts = {"command": command, "tables": self.tables, "figures": self.figures, "files": self.files, "text": lines}
        return json.dumps(plain(parts), indent=2, ensure_ascii=False, allow_nan=False)


_collected: ContextVar[Answer | None] = ContextVar("answer", default=None)


def collected() -> Answer | None:
    """The answer that is being collected; None where the command prints."""
    return _collected.get()


@contextmanager
def collecting() -> Iterator[tuple[Answer, StringIO]]:
    """Collect an answer, and what is printed meanwhile."""
    answer, printed = Answer(), StringIO()
    token = _collected.set(answer)
    try:
        with redirect_stdout(printed):
            yield answer, printed
    finally:
        _collected.reset(token)


def plain(value: Any) -> Any:
    """A value as JSON knows it: figures that are not defined are null, paths are text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numbers and arrays of numpy and torch
        return plain(value.tolist())
    if isinstance(value, float):
        return value if isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value) if isinstance(value, Path) else repr(value)
