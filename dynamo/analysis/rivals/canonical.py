"""Canonical correlations (Hotelling 1936): how well do the best matching directions of two models correlate?

Where there are no more positions than directions, all correlations are 1 and say nothing (Kornblith et al. 2019).
"""

import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.rivals.matrices import RESOLUTION, TINY, centred, narrow
from dynamo.analysis.rivals.rival import Prepared, Rival

#: The share of the variance that SVCCA keeps.
KEPT = 0.99


def _axes(features: Floats) -> tuple[Floats, Floats, Floats]:
    """The singular value decomposition of centred features, as far as it is not rounding; one zero axis if all is."""
    left, singular, right = np.linalg.svd(features, full_matrices=False)
    rank = max(1, int((singular > RESOLUTION * singular[0]).sum()))
    return left[:, :rank] * (singular[:rank] > 0), singular[:rank], right[:rank]


def _principal(features: AnyFloats) -> Prepared:
    """Orthonormal axes ``[n, k]`` of the principal directions that hold 99 % of the variance."""
    left, singular, _ = _axes(narrow(centred(features)))
    shares = np.cumsum(singular**2) / max(float((singular**2).sum()), TINY)
    return (left[:, : int(np.searchsorted(shares, KEPT - 1e-12)) + 1].copy(),)


def _svcca(one: Prepared, other: Prepared) -> float:
    correlations = np.linalg.svd(one[0].T @ other[0], compute_uv=False)
    return float(np.sqrt(2 * max(0.0, 1 - correlations.mean())))


def _axes_and_loadings(features: AnyFloats) -> Prepared:
    """Orthonormal axes ``[n, r]`` of all directions, and the units along them ``[r, p]``."""
    left, singular, right = _axes(centred(features))
    return left, singular[:, None] * right


def _pwcca(one: Prepared, other: Prepared) -> float:
    """Canonical direction h weighs Σ_j |⟨h, x_j⟩| over the units x_j of its model, as in the article.

    The code published with it (pwcca.py of google/svcca) projects on directions that it has not whitened and uses the
    weights of one model alone, so its numbers differ by some hundredths.
    """
    first, correlations, second = np.linalg.svd(one[0].T @ other[0], full_matrices=False)
    sides = []
    for directions, (_, loadings) in ((first.T, one), (second, other)):
        weights = np.abs(directions @ loadings).sum(axis=1)
        sides.append(float(weights @ correlations) / max(float(weights.sum()), TINY))
    return 1 - sum(sides) / 2


SVCCA = Rival(
    name="svcca",
    help="L2 distance of the best matching principal directions (99 % of the variance): √(2 − 2ρ), ρ the mean canonical"
    " correlation",
    prepare=_principal,
    compare=_svcca,
    cost="O(n·p·min(n, p)) a model, O(n·k²) a pair; k directions are kept",
    source="Raghu et al. 2017, SVCCA; as L2 distances in section 4.1, Figure 5, of the DYNAMO paper",
)

PWCCA = Rival(
    name="pwcca",
    help="1 − the mean canonical correlation, weighted by how much each direction says of the units; the mean of both"
    " models' weights",
    prepare=_axes_and_loadings,
    compare=_pwcca,
    cost="O(n·p·min(n, p)) a model, O(n·p²) a pair",
    source="Morcos et al. 2018, Insights on representational similarity with canonical correlation",
)
