"""How objects are shown where they are evaluated: a few lines of text, and a small table in a notebook."""

from collections.abc import Collection, Mapping, Sequence
from html import escape
from inspect import signature
from math import isnan
from textwrap import wrap
from typing import Any

import attrs

from dynamo.contracts.errors import printable

#: The most lines of a repr, and characters of a line.
LINES, WIDTH = 9, 100
#: The most items of a sequence, and characters of a text, in a repr.
ITEMS, CHARACTERS = 3, 60
#: The most rows and columns of a table in a notebook.
ROWS, COLUMNS = 20, 12


def brief(instance: Any, without: Collection[str] = ()) -> str:
    """The repr of an attrs class that holds arrays: shapes in place of their numbers, and the length of what is long;
    some fields may be left out.

    Example:
        >>> from dynamo import Inputs
        >>> Inputs(torch.zeros(500, 8, 3), torch.ones(500, 8, dtype=torch.bool))
        Inputs(values=float32[500, 8, 3], mask=bool[500, 8])
    """
    fields = [field.name for field in attrs.fields(type(instance)) if not field.name.startswith("_")]
    fields = [name for name in fields if name not in without]
    parts = [f"{name}={short(getattr(instance, name))}" for name in fields]
    return folded(f"{type(instance).__name__}({', '.join(parts)})")


def folded(text: str) -> str:
    """A text in at most :data:`LINES` lines of :data:`WIDTH` characters."""
    lines = wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, max_lines=LINES, placeholder=" …")
    return "\n".join(lines)


def short(value: Any, depth: int = 1) -> str:
    """A value in some words.

    Args:
        value: anything.
        depth: how many levels of containers are shown item by item.

    Example:
        >>> from dynamo.contracts.shown import short
        >>> short(torch.zeros(2, 3)), short(["a", "b", "c", "d"]), short(1 / 3)
        ('float32[2, 3]', "['a', 'b', 'c', … 4 items]", '0.3333')
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{kind}{list(value.shape)}" if len(value.shape) else short(value.item())
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, str):
        return repr(cut(value))
    if isinstance(value, Mapping):
        return _container(
            "{}", [(f"{cut(str(key))}: ", item) for key, item in _first(value.items())], len(value), depth
        )
    if isinstance(value, Collection):
        signs = "()" if isinstance(value, tuple) else "[]"
        return _container(signs, [("", item) for item in _first(value)], len(value), depth)
    has_text = any("__str__" in vars(kind) for kind in type(value).__mro__[:-1])
    if has_text and not hasattr(value, "state_dict"):  # the text of a torch module runs over pages
        return cut(str(value))
    return f"{type(value).__name__}(…)"


def cut(text: str, most: int = CHARACTERS) -> str:
    """The beginning of a text, in one line, with control characters written out."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first of some names.

    Example:
        >>> from dynamo.contracts.shown import listed
        >>> listed(["a", "b", "c"], 2)
        'a, b, … (3)'
    """
    shown = ", ".join(map(cut, names[:most]))
    return shown if len(names) <= most else f"{shown}, … ({len(names)})"


def _first(items: Collection[Any]) -> list[Any]:
    return [item for item, _ in zip(items, range(ITEMS), strict=False)]


def _container(signs: str, items: Sequence[tuple[str, Any]], count: int, depth: int) -> str:
    if depth == 0 and count:
        return f"{signs[0]}{count} items{signs[1]}"
    inside = ", ".join(f"{key}{short(item, depth - 1)}" for key, item in items)
    return f"{signs[0]}{inside}{f', … {count} items' if count > len(items) else ''}{signs[1]}"


def table_html(columns: Sequence[object], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table for a notebook: at most :data:`ROWS` rows and :data:`COLUMNS` columns, all text escaped.

    Args:
        columns: their names.
        rows: a cell for each column.
        caption: what stands above.
    """
    wide = len(columns) > COLUMNS
    head = "".join(f"<th>{_cell(name)}</th>" for name in columns[:COLUMNS]) + ("<th>…</th>" if wide else "")
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row[:COLUMNS])}{'<td>…</td>' if wide else ''}</tr>"
        for row in rows[:ROWS]
    )
    more = f"<p>{len(rows) - ROWS} more rows</p>" if len(rows) > ROWS else ""
    above = f"<caption>{_cell(caption, 400)}</caption>" if caption else ""
    return f"<div><table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"


def _cell(value: object, most: int = CHARACTERS) -> str:
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.4g}"
    return "" if value is None else escape(cut(str(value), most))


def result_html(result: Any) -> str:
    """The ``_repr_html_`` of what has ``table()``; ``describe()`` is its caption, where there is one."""
    describe = getattr(result, "describe", None)
    needs = describe is None or any(one.default is one.empty for one in signature(describe).parameters.values())
    told = type(result).__name__ if describe is None or needs else describe()
    columns, rows = result.table()
    return table_html(columns, rows, told.partition("\n")[0])
