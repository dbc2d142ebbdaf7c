"""Dynamical similarity analysis, by its authors' package: do the states of two models move by alike linear laws?"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from dynamo.analysis.arrays import AnyFloats
from dynamo.analysis.rivals.matrices import narrow
from dynamo.analysis.rivals.rival import Prepared, Rival
from dynamo.contracts.errors import DynamoError

#: The share of the variance of the states that the linear law is fitted to.
KEPT = 0.99


def _package() -> Any:
    try:
        return import_module("DSA")
    except ImportError as error:
        raise DynamoError(
            f"dsa runs the package of its authors, which cannot be imported ({error}): pip install dsa-metric"
        ) from None


def _eigenvalues(sequences: Sequence[AnyFloats]) -> Prepared:
    """The eigenvalues of the linear map that best takes each state to the next; of sequences of two steps and more."""
    package = _package()
    moving = [steps for steps in sequences if len(steps) > 1]
    if not moving:
        raise DynamoError("dsa compares how states move, and no example has two steps: take another measure")
    states = narrow(np.concatenate(moving).astype(np.float64))
    if not states.any():
        return (np.zeros(1, dtype=np.complex64),)
    ends = np.cumsum([len(steps) for steps in moving])[:-1]
    law = package.DMD(np.split(states, ends), rank_explained_variance=KEPT)
    law.fit()
    return (np.linalg.eigvals(law.A_v.numpy()).astype(np.complex64),)


def _transport(one: Prepared, other: Prepared) -> float:
    return float(_package().SimilarityTransformDist(score_method="wasserstein").fit_score(one[0], other[0]))


DSA = Rival(
    name="dsa",
    help="Wasserstein distance of the eigenvalues of linear laws fitted to the states over steps (dsa-metric's default"
    " score); for sequences only",
    prepare=_eigenvalues,
    compare=_transport,
    cost="O(n·p²) a model, about O(k³) a pair; k directions hold 99 % of the variance",
    source="Ostrow et al. 2023, Beyond geometry (dynamical similarity analysis)",
    reads="sequences",
)
