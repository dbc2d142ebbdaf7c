"""Metadata of models as users have it: tables by name or in the models' order, columns, frames, files of CSV."""

import csv
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.files import read_text

#: What the column of names is called, in the order in which it is looked for.
NAMES = ("name", "model")


def tables_of(metadata: Any, names: Sequence[str], what: str = "model") -> dict[str, dict[str, Any]]:
    """The metadata of each model.

    Args:
        metadata: tables by name; tables in the models' order, or each with its ``name``; columns with a value a
            model, or with a column ``name``; a frame of pandas with such a column, or with names for an index; the path
            of a CSV file with such a column. None for none. Cells that are empty are left out.
        names: of the models.
        what: what they are, for messages.

    Raises:
        DynamoError: it is of another form, has another number of rows, or its names are not those of the models.
    """
    if metadata is None:
        return {}
    if isinstance(metadata, str | Path):
        return _by_column(_read_csv(Path(metadata)), names, what, f"the table {metadata}")
    if hasattr(metadata, "to_dict") and hasattr(metadata, "columns"):
        return _by_column(_frame(metadata, names), names, what, "the metadata")
    if not isinstance(metadata, Mapping):
        rows = list(metadata)
        if not all(isinstance(row, Mapping) for row in rows):
            raise DynamoError(
                f"metadata must be a table for each of the {len(names)} {what}s, in their order, or by name"
            )
        if any(key in row for row in rows for key in NAMES):
            columns = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
            return _by_column(columns, names, what, "the metadata")
        if len(rows) != len(names):
            raise DynamoError(
                f"metadata must be a table for each of the {len(names)} {what}s, in their order, or by name: there "
                f"are {len(rows)}"
            )
        return {name: dict(row) for name, row in zip(names, rows, strict=True)}
    if all(isinstance(own, Mapping) for own in metadata.values()):
        for name in metadata:
            if name not in names:
                raise DynamoError(f"there is metadata for {name!r}, but no such {what}: {did_you_mean(name, names)}")
        return {str(name): dict(own) for name, own in metadata.items()}
    return _by_column(metadata, names, what, "the metadata")


def typed(text: str) -> str | int | float | bool:
    """A text as what it says: truth values, numbers that are written back alike. ``7`` is a number, ``007`` a text."""
    for kind, bound in ((int, 2**63), (float, inf)):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text and abs(number) < bound:
            return number
    return {"true": True, "false": False}.get(text, text)


def _by_column(columns: Mapping[str, Any], names: Sequence[str], what: str, where: str) -> dict[str, dict[str, Any]]:
    column = next((key for key in NAMES if key in columns), None)
    rows = list(names) if column is None else [str(name) for name in columns[column]]
    for key, values in columns.items():
        if isinstance(values, str) or not hasattr(values, "__len__") or len(values) != len(rows):
            found = f"has {len(values)} values" if hasattr(values, "__len__") else f"is {values!r}"
            raise DynamoError(f"the metadata {key!r} {found}, and there are {len(rows)} {what}s: give a value for each")
    unknown = [name for name in rows if name not in names]
    without = [name for name in names if name not in rows]
    if unknown or without:
        parts = [
            f"{where} has {_some(unknown)}, which no {what} is called" if unknown else "",
            f"{where} has no row for the {what}s {_some(without)}" if without else "",
        ]
        hint = f" ({did_you_mean(unknown[0], names)})" if unknown else ""
        raise DynamoError("; ".join(filter(None, parts)) + hint)
    if len(set(rows)) < len(rows):
        twice = next(name for name in rows if rows.count(name) > 1)
        raise DynamoError(f"{where} has two rows for {twice!r}")
    kept = [key for key in columns if key != column]
    return {
        name: {str(key): columns[key][row] for key in kept if not _is_empty(columns[key][row])}
        for row, name in enumerate(rows)
    }


def _frame(frame: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    columns = {str(key): list(values) for key, values in frame.to_dict("list").items()}
    index = [str(name) for name in getattr(frame, "index", [])]
    if not any(key in columns for key in NAMES) and set(index) & set(names):
        columns = {NAMES[0]: index, **columns}
    return columns


def _read_csv(path: Path) -> dict[str, list[Any]]:
    """The columns of a file, with numbers and truth values as such; an empty cell is None."""
    lines = list(csv.reader(read_text(path).splitlines()))
    if len(lines) < 2 or not any(key in lines[0] for key in NAMES):
        raise DynamoError(
            f"{path} must be a table in CSV with a line of column names, one of them {NAMES[0]!r} or {NAMES[1]!r}, and "
            "a line for each model"
        )
    header = lines[0]
    if len(set(header)) < len(header):
        raise DynamoError(f"{path} has two columns of one name: {', '.join(header)}")
    for number, line in enumerate(lines[1:], start=2):
        if line and len(line) != len(header):
            raise DynamoError(f"{path}, line {number} has {len(line)} cells; there are {len(header)} columns")
    rows = [line for line in lines[1:] if line]
    return {
        key: [line[column] if key in NAMES else (typed(line[column]) if line[column] else None) for line in rows]
        for column, key in enumerate(header)
    }


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
