"""How far apart are base models by the established pairwise measures of similarity?

Rivals of the map in that each gives a matrix of distances between models, which can be embedded in its turn. They need
Θ(N²) comparisons (section 3) and give no model back. Each reads what models did on the same examples and learns
nothing.
"""

from collections.abc import Sequence
from itertools import count

import numpy as np

from dynamo.analysis.arrays import Floats
from dynamo.analysis.rivals.canonical import PWCCA, SVCCA
from dynamo.analysis.rivals.decisions import OUTPUT_DISAGREEMENT
from dynamo.analysis.rivals.dissimilarity import RSA
from dynamo.analysis.rivals.dynamics import DSA
from dynamo.analysis.rivals.features import readers
from dynamo.analysis.rivals.kernel import CKA, CKA_DEBIASED
from dynamo.analysis.rivals.predictor import GULP
from dynamo.analysis.rivals.rival import Rival, pairwise
from dynamo.analysis.rivals.shape import PROCRUSTES
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.spaces import OutputSpace
from dynamo.population.recording import Recording
from dynamo.system.progress import Progress, silent

__all__ = ["RIVALS", "Rival", "distance_matrix", "rival_named"]

#: The measures known by name.
RIVALS: dict[str, Rival] = {
    rival.name: rival for rival in (SVCCA, PWCCA, CKA, CKA_DEBIASED, PROCRUSTES, GULP, RSA, DSA, OUTPUT_DISAGREEMENT)
}


def rival_named(name: str) -> Rival:
    """A measure by name.

    Raises:
        DynamoError: there is none of that name.
    """
    if name not in RIVALS:
        raise DynamoError(f"no pairwise measure is called {name!r}: {did_you_mean(name, RIVALS)}")
    return RIVALS[name]


def distance_matrix(
    name: str,
    recordings: Sequence[Recording],
    *,
    examples: int | None = 512,
    seed: int = 0,
    progress: Progress = silent,
    spaces: Sequence[OutputSpace] | None = None,
    pooling: int | None = 4,
) -> Floats:
    """The distances between all pairs of models by one measure; where models have several sites, their mean over sites.

    The positions that are compared are the real steps of the examples; padding is left out. Each model is prepared once
    and then compared with every other, unless what is kept of all models outgrows
    :data:`~dynamo.analysis.rivals.rival.MEMORY`.

    Args:
        name: the measure, a key of ``RIVALS``.
        recordings: what each model did on the same inputs, ``N`` of them.
        examples: how many of the examples to compare; None is all.
        seed: draws the examples, the same for all models.
        progress: called with (pairs done, pairs), over all sites.
        spaces: the output space of each model; ``output-disagreement`` needs them and nothing else reads them.
        pooling: states that are maps ``[channels, height, width]`` are averaged to at most so many rows and columns of
            positions before they are flattened; None keeps every position.

    Returns:
        ``[N, N]``: symmetric, finite, not negative, zero on the diagonal.

    Raises:
        DynamoError: an unknown measure, fewer than two models, recordings on different inputs, models with different
        numbers of sites or different output spaces, or too little data for the measure.

    Example:
        >>> from dynamo.analysis.rivals.compare import common_recordings
        >>> distance_matrix("cka", common_recordings(population, 20)).shape == (len(population), len(population))
        True
    """
    rival = rival_named(name)
    sites = readers(rival, recordings, spaces, examples=examples, seed=seed, pooling=pooling)
    done, pairs = count(1), len(sites) * len(recordings) * (len(recordings) - 1) // 2
    total = np.zeros((len(recordings), len(recordings)))
    for read in sites:
        total += pairwise(rival, read, len(recordings), step=lambda: progress(next(done), pairs))
    return total / len(sites)
