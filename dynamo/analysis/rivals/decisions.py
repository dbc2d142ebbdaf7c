"""Do two models give the same answers?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamo.analysis.rivals.rival import Prepared, Rival


def _answers(answers: NDArray[Any]) -> Prepared:
    return (answers,)


def _disagreement(one: Prepared, other: Prepared) -> float:
    """Decisions ``[n]``: the fraction that differs. Real outputs ``[n, K]``: the harmonic mean of 1 − R² of the one
    against the other and of the other against the one, which is finite where only one of them is constant.
    """
    (first,), (second,) = one, other
    if first.ndim == 1:
        return float((first != second).mean())
    variation = sum(float(np.square(outputs - outputs.mean(axis=0)).sum()) for outputs in (first, second))
    return 2 * float(np.square(first - second).sum()) / max(variation, 1e-12)


OUTPUT_DISAGREEMENT = Rival(
    name="output-disagreement",
    help="fraction of different decisions; for real outputs 1 − R², the harmonic mean of both directions",
    prepare=_answers,
    compare=_disagreement,
    cost="O(n) a pair",
    source="disagreement of classifiers: Skalak 1996",
    reads="answers",
)
