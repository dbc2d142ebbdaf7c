"""Results as tables, as the commands write and print them."""

#: The names of the columns, and the rows.
Table = tuple[list[str], list[list[object]]]


def numbered(name: str, count: int) -> list[str]:
    """Names of columns: ``theta_1``, ``theta_2`` and so on."""
    return [f"{name}_{index + 1}" for index in range(count)]
