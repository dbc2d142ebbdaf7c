"""GULP: how differently do the best linear predictors on two models' states answer, over all tasks?"""

import numpy as np

from dynamo.analysis.arrays import AnyFloats
from dynamo.analysis.rivals.matrices import TINY, centred, narrow
from dynamo.analysis.rivals.rival import Prepared, Rival

#: λ of the ridge regressions, in units of the total variance of the states.
RIDGE = 1e-2


def _smoother(features: AnyFloats) -> Prepared:
    """B = X·(Σ + λ)^−½ / √n of features X ``[n, p]`` with total variance 1, and ‖B·Bᵀ‖²; B·Bᵀ is what ridge regression
    on X makes of the targets.
    """
    features = narrow(centred(features))
    features = features / max(float(np.linalg.norm(features)), TINY)  # now Σ = XᵀX
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    shrunk = singular**2 / (singular**2 + RIDGE)
    return left * np.sqrt(shrunk), np.array((shrunk**2).sum())


def _apart(one: Prepared, other: Prepared) -> float:
    """‖B₁·B₁ᵀ − B₂·B₂ᵀ‖."""
    crossed = float(np.linalg.norm(one[0].T @ other[0])) ** 2
    return float(np.sqrt(max(0.0, float(one[1]) + float(other[1]) - 2 * crossed)))


GULP = Rival(
    name="gulp",
    help="root mean square difference of ridge regressions (λ = 0.01 of the variance) on the states, over all targets;"
    " a metric",
    prepare=_smoother,
    compare=_apart,
    cost="O(n·p·min(n, p)) a model, O(n·p²) a pair",
    source="Boix-Adserà et al. 2022, GULP: a prediction-based metric between representations",
)
