"""Centred kernel alignment: are the same examples alike in both models, by the products of their states?"""

import numpy as np

from dynamo.analysis.arrays import AnyFloats
from dynamo.analysis.rivals.matrices import RESOLUTION, TINY, centred, narrow
from dynamo.analysis.rivals.rival import Prepared, Rival
from dynamo.contracts.errors import DynamoError


def _unit_kernel(features: AnyFloats) -> Prepared:
    """Features ``[n, p]`` whose kernel X·Xᵀ has norm 1."""
    features = narrow(centred(features))
    return (features / max(float(np.linalg.norm(features.T @ features)), TINY) ** 0.5,)


def _cka(one: Prepared, other: Prepared) -> float:
    return 1 - float(np.linalg.norm(one[0].T @ other[0])) ** 2


def _dependence(one: Prepared, other: Prepared) -> float:
    """The unbiased estimate of HSIC with linear kernels, times n·(n − 3) (Song et al. 2007).

    It is ⟨K, L⟩ for kernels without their diagonals and with the means of what is left taken out; written with the
    features and the squared length of each row, it needs no ``[n, n]`` matrix.
    """
    (first, first_squares), (second, second_squares) = one, other
    n = len(first)
    return float(
        np.linalg.norm(first.T @ second) ** 2
        - n / (n - 2) * (first_squares @ second_squares)
        + first_squares.sum() * second_squares.sum() / ((n - 1) * (n - 2))
    )


def _unit_debiased_kernel(features: AnyFloats) -> Prepared:
    """Features of which :func:`_dependence` on themselves is 1, and the squared length of each row."""
    if len(features) < 4:
        raise DynamoError(
            f"cka-debiased needs at least 4 positions (examples times real steps); there are {len(features)}"
        )
    features = narrow(centred(features))
    squares = np.square(features).sum(axis=1)
    own = _dependence((features, squares), (features, squares))
    if own <= RESOLUTION * squares.sum() ** 2:
        return np.zeros((len(features), 1)), np.zeros(len(features))
    return features / own**0.25, squares / own**0.5


def _debiased_cka(one: Prepared, other: Prepared) -> float:
    return 1 - _dependence(one, other)


CKA = Rival(
    name="cka",
    help="1 − linear centred kernel alignment",
    prepare=_unit_kernel,
    compare=_cka,
    cost="O(n·p²) a model, O(n·p²) a pair",
    source="Kornblith et al. 2019, Similarity of neural network representations revisited",
)

CKA_DEBIASED = Rival(
    name="cka-debiased",
    help="1 − linear centred kernel alignment from unbiased estimates, for few examples and many units; up to 2",
    prepare=_unit_debiased_kernel,
    compare=_debiased_cka,
    cost="O(n·p²) a model, O(n·p²) a pair",
    source="Kornblith et al. 2019, with the estimate of Song et al. 2007",
)
