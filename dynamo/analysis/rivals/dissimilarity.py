"""Representational similarity analysis: do both models find the same pairs of examples dissimilar?"""

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from dynamo.analysis.arrays import AnyFloats
from dynamo.analysis.rivals.matrices import TINY, centred
from dynamo.analysis.rivals.rival import Prepared, Rival


def _ranks(features: AnyFloats) -> Prepared:
    """The ranks of the Euclidean distances between all rows, centred and of norm 1."""
    ranks = rankdata(pdist(centred(features), "sqeuclidean"))
    ranks -= ranks.mean() if len(ranks) else 0.0
    return (ranks / max(float(np.linalg.norm(ranks)), TINY),)


def _unlikeness(one: Prepared, other: Prepared) -> float:
    return 1 - float(one[0] @ other[0])


RSA = Rival(
    name="rsa",
    help="1 − Spearman correlation of the Euclidean distances between examples; of at most 1,000 positions",
    prepare=_ranks,
    compare=_unlikeness,
    cost="O(m²·p + m²·log m) a model, O(m²) a pair; m is n, at most 1,000",
    source="Kriegeskorte et al. 2008, Representational similarity analysis",
    most_positions=1000,
)
