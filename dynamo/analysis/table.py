"""Results as tables, as the commands write and print them."""

from math import isnan

from dynamo.system.tables import Table as Table
from dynamo.system.tables import columns_of as columns_of
from dynamo.system.tables import numbered as numbered


def in_words(value: float, digits: int = 3) -> str:
    """A figure in a sentence; one that is not defined is said to be so."""
    return "undefined" if isnan(value) else f"{value:.{digits}f}"
