"""Orthogonal Procrustes: how close do two clouds of states come when one is turned, mirrored and scaled?"""

import numpy as np

from dynamo.analysis.arrays import AnyFloats
from dynamo.analysis.rivals.matrices import TINY, centred, narrow
from dynamo.analysis.rivals.rival import Prepared, Rival


def _unit_cloud(features: AnyFloats) -> Prepared:
    """Features ``[n, p]`` of norm 1."""
    features = narrow(centred(features))
    return (features / max(float(np.linalg.norm(features)), TINY),)


def _angle(one: Prepared, other: Prepared) -> float:
    """arccos of the largest ⟨X·Q, Y⟩ over orthogonal Q, which is the sum of the singular values of Xᵀ·Y."""
    return float(np.arccos(min(1.0, np.linalg.svd(one[0].T @ other[0], compute_uv=False).sum())))


PROCRUSTES = Rival(
    name="procrustes",
    help="the angle between two clouds of states after the best rotation or reflection, 0 to π/2; a metric",
    prepare=_unit_cloud,
    compare=_angle,
    cost="O(n·p) a model, O(n·p² + p³) a pair",
    source="Williams et al. 2021, Generalized shape metrics on neural representations (angular, α = 1)",
)
