"""Results as tables, as the commands write and print them."""

from collections.abc import Collection, Sequence
from math import isnan

#: The names of the columns, and the rows.
Table = tuple[list[str], list[list[object]]]


def in_words(value: float, digits: int = 3) -> str:
    """A figure in a sentence; one that is not defined is said to be so."""
    return "undefined" if isnan(value) else f"{value:.{digits}f}"


def numbered(name: str, count: int) -> list[str]:
    """Names of columns: ``theta_1``, ``theta_2`` and so on."""
    return [f"{name}_{index + 1}" for index in range(count)]


def columns_of(keys: Sequence[str], taken: Collection[str]) -> list[str]:
    """Names of the columns that hold metadata: its keys, each with ``metadata_`` before it where the table has a column
    of that name already.
    """
    columns: list[str] = []
    for key in keys:
        column = key
        while column in taken or column in columns or (column != key and column in keys):
            column = f"metadata_{column}"
        columns.append(column)
    return columns
