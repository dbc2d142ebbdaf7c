"""Tables: as columns and rows, and as data frames of pandas."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from dynamo.contracts.errors import DynamoError

if TYPE_CHECKING:
    from pandas import DataFrame

#: The names of the columns, and the rows.
Table = tuple[list[str], list[list[object]]]


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


def frame(table: Table) -> "DataFrame":
    """A table as a data frame of pandas. A cell that is None is missing.

    Raises:
        DynamoError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise DynamoError(
            f"a data frame needs pandas ({error}): pip install 'dynamo-embedding[pandas]' (or pip install pandas)"
        ) from None
    columns, rows = table
    return DataFrame(rows, columns=columns)
