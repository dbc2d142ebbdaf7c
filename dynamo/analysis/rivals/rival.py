"""What a pairwise measure is, and all pairs of models by one: each model is prepared once, then pairs are compared."""

from collections.abc import Callable
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from dynamo.analysis.arrays import Floats
from dynamo.contracts.shown import brief

#: What is kept of one model.
Prepared = tuple[NDArray[Any], ...]

#: How many bytes of prepared models are held at a time; models beyond are prepared again when their pairs come.
MEMORY = 2**31


@attrs.frozen
class Rival:
    """A distance between two models, from what both did on the same examples.

    Attributes:
        name: its name.
        help: what it is, in a line.
        prepare: what is computed once for each model.
        compare: the distance of two prepared models.
        cost: the order of the work, in n positions (examples times real steps) and p units.
        source: the article it comes from.
        reads: what ``prepare`` is given: the ``states`` at one site as a matrix ``[n, p]``; ``sequences``, a list of
            states ``[steps, p]``, one an example; ``answers``, decisions ``[n]`` or real outputs ``[n, K]``.
        most_positions: the most positions that are compared, of those drawn; None is all.
    """

    name: str
    help: str
    prepare: Callable[[Any], Prepared]
    compare: Callable[[Prepared, Prepared], float]
    cost: str
    source: str
    reads: Literal["states", "sequences", "answers"] = "states"
    most_positions: int | None = None

    __repr__ = brief

    def distance(self, one: Prepared, other: Prepared) -> float:
        """The distance of two prepared models; between equals it is 0, whatever a root or an arccosine makes of
        rounding.
        """
        return 0.0 if _are_equal(one, other) else max(0.0, float(self.compare(one, other)))


def _are_equal(one: Prepared, other: Prepared) -> bool:
    """Whether two models are the same to the bit. The first rows tell nearly all others apart, in no time."""
    return all(
        np.array_equal(np.atleast_1d(mine)[:1], np.atleast_1d(yours)[:1]) and np.array_equal(mine, yours)
        for mine, yours in zip(one, other, strict=True)
    )


def pairwise(
    rival: Rival,
    read: Callable[[int], Any],
    models: int,
    *,
    step: Callable[[], None] = lambda: None,
    memory: int | None = None,
) -> Floats:
    """The distances between all models, ``[models, models]``.

    Args:
        rival: the measure.
        read: gives what a model is prepared from.
        models: how many there are.
        step: called after each pair.
        memory: bytes of prepared models to hold at a time (``MEMORY`` where it is None), but never fewer than two
            models. Where not all fit, each of b blocks of models is compared with each other block, and models are
            prepared about b/2 times.
    """
    distances = np.zeros((models, models))
    room = (MEMORY if memory is None else memory) // 2

    def block(start: int) -> dict[int, Prepared]:
        """The models from ``start`` on that fit into half the room, at least one."""
        prepared: dict[int, Prepared] = {}
        used = 0
        while start < models and (not prepared or used + used // len(prepared) <= room):
            prepared[start] = rival.prepare(read(start))
            used += sum(part.nbytes for part in prepared[start])
            start += 1
        return prepared

    def compare(rows: dict[int, Prepared], columns: dict[int, Prepared]) -> None:
        for i, one in rows.items():
            for j, other in columns.items():
                if i < j:
                    distances[i, j] = distances[j, i] = rival.distance(one, other)
                    step()

    start = 0
    while start < models:
        rows = block(start)
        compare(rows, rows)
        start = left = start + len(rows)
        while left < models:
            columns = block(left)
            compare(rows, columns)
            left += len(columns)
            del columns
        del rows
    return distances
