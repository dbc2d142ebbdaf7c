"""The split of examples that come without one."""

import numpy as np
from numpy.typing import NDArray

from dynamo import DynamoError


def split_rows(
    count: int, test_fraction: float, seed: int, *, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows for training and those for the test, both in random order and at least one each.

    Args:
        count: how many rows there are.
        test_fraction: the share of the test.
        seed: the seed of the order.
        name: the data set's name, for the message.

    Raises:
        DynamoError: fewer than two rows.
    """
    if count < 2:
        raise DynamoError(f"data set {name!r} has {count} examples: at least 2 are needed for training and test")
    order = np.random.default_rng(seed).permutation(count)
    test_count = min(max(round(count * test_fraction), 1), count - 1)
    return order[test_count:], order[:test_count]
