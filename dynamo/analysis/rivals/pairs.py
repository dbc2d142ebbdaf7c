"""Are models of one group nearer to one another than to others? Figures of a matrix of distances against known groups.

They need distances alone, so that maps and measures of similarity can be compared. What they are compared by is fixed
here, once for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynamo.analysis.arrays import Booleans, Floats
from dynamo.analysis.geometry.kmeans import kmeans
from dynamo.analysis.rivals.mds import checked, principal_coordinates
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief

Numbers = NDArray[np.intp]
Short = NDArray[np.int32]

#: Neighbours that vote in :attr:`PairFigures.neighbour_accuracy`.
NEIGHBOURS = 3


@attrs.frozen
class Spread:
    """How wide a group is.

    Attributes:
        within: mean distance of two of its models; NaN for a group of one.
        between: mean distance of one of its models and one of another group.
    """

    within: float
    between: float

    @property
    def ratio(self) -> float:
        """Within over between; 1 or more where its models are as far from one another as from the others."""
        return self.within / self.between if self.between else float("nan")


@attrs.frozen
class PairFigures:
    """How far distances tell known groups apart.

    Attributes:
        groups: how many there are.
        auprc: area under the precision-recall curve (average precision) of finding a group's own pairs among all pairs
            with one of its models, by their distance; the mean over groups (ReSi: M. Klabunde et al., 2024,
            arXiv:2408.00531).
        auprc_chance: the fraction of own pairs; random distances of few models give somewhat more.
        auprc_p: fraction of permutations of the groups (the true order counted as one) that reach it.
        violation_rate: fraction of comparisons of a pair within a group with a pair of that group and another in which
            the first is not the nearer; the mean over groups (ReSi); 0 = perfect, 0.5 = chance, all equal = 1.
        silhouette: mean silhouette (P. Rousseeuw, 1987), −1 to 1.
        neighbour_accuracy: leave-one-out accuracy of the vote of the :data:`NEIGHBOURS` nearest.
        ari: adjusted Rand index (L. Hubert and P. Arabie, 1985) of every clusterer of :data:`CLUSTERERS`, given the
            number of groups and nothing else of them.
        ari_p: fraction of permutations of the groups that reach it.
        spreads: the spread of each group.
    """

    groups: int
    auprc: float
    auprc_chance: float
    auprc_p: float
    violation_rate: float
    silhouette: float
    neighbour_accuracy: float
    ari: Mapping[str, float]
    ari_p: Mapping[str, float]
    spreads: Mapping[str, Spread]

    __repr__ = brief


def pair_figures(
    distances: ArrayLike, groups: Sequence[object], *, permutations: int = 999, seed: int = 0
) -> PairFigures:
    """Compare distances with known groups.

    Args:
        distances: ``[N, N]``, see :func:`dynamo.analysis.rivals.mds.checked`.
        groups: the group of each model.
        permutations: of the groups, for the p-values.
        seed: of the permutations, of the clusterers and of the order of equally near neighbours.

    Raises:
        DynamoError: no matrix of distances, not one group per model, fewer than two groups, or as many as models.

    Example:
        >>> distances = np.abs(np.subtract.outer([0.0, 1.0, 5.0, 6.0], [0.0, 1.0, 5.0, 6.0]))
        >>> pair_figures(distances, ["a", "a", "b", "b"], permutations=19).auprc
        1.0
    """
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    given = checked(distances)
    names, numbers = np.unique([str(group) for group in groups], return_inverse=True)
    if len(numbers) != len(given):
        raise DynamoError(f"there are distances between {len(given)} models, and groups of {len(numbers)}")
    if not 2 <= len(names) < len(numbers):
        raise DynamoError(
            f"{len(numbers)} models in {len(names)} group(s): the figures need at least 2 groups, and fewer "
            "groups than models"
        )
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(numbers) for _ in range(permutations)]
    by_clusterer = clusterings(given, len(names), seed)
    scores = {name: float(adjusted_rand_score(numbers, clusters)) for name, clusters in by_clusterer.items()}
    pairs = _sorted_pairs(given)
    area = _area(pairs, numbers)
    return PairFigures(
        groups=len(names),
        auprc=area,
        auprc_chance=fmean(len(own) / (len(own) + len(other)) for own, other in _pairs(given, numbers)),
        auprc_p=_p_value(area, [_area(pairs, order) for order in shuffled]),
        violation_rate=violation_rate(given, numbers),
        silhouette=float(silhouette_score(given, numbers, metric="precomputed")),
        neighbour_accuracy=neighbour_accuracy(given, numbers, seed=seed),
        ari=scores,
        ari_p={
            name: _p_value(_together(numbers, clusters), [_together(order, clusters) for order in shuffled])
            for name, clusters in by_clusterer.items()
        },
        spreads={str(name): _spread(given, numbers == code) for code, name in enumerate(names)},
    )


def clusterings(distances: Floats, clusters: int, seed: int = 0) -> dict[str, Numbers]:
    """The cluster of each model, from every clusterer of :data:`CLUSTERERS`.

    They see the models in a random order, so that ties are not broken in favour of models that are listed side by side.
    """
    order = np.random.default_rng(seed).permutation(len(distances))
    mixed, back = distances[np.ix_(order, order)], np.argsort(order)
    return {name: clusterer(mixed, clusters, seed)[back] for name, clusterer in CLUSTERERS.items()}


def auprc(distances: Floats, groups: Numbers) -> float:
    """See :attr:`PairFigures.auprc`; each group's is scikit-learn's ``average_precision_score`` of −distance."""
    return _area(_sorted_pairs(distances), groups)


def _sorted_pairs(distances: Floats) -> tuple[Numbers, Numbers, Short]:
    """Both models of every pair and the rank of its distance, the nearest pairs first."""
    rows, columns = np.triu_indices(len(distances), 1)
    size = distances[rows, columns]
    order = np.argsort(size)
    rank = np.cumsum(np.diff(size[order], prepend=-1.0) > 0, dtype=np.int32)
    return rows[order], columns[order], rank


def _area(pairs: tuple[Numbers, Numbers, Short], groups: Numbers) -> float:
    """:func:`auprc` of sorted pairs, which all permutations of the groups share."""
    rows, columns, rank = pairs
    codes = groups.astype(np.min_scalar_type(int(groups.max())))  # narrow ones are gathered and compared much faster
    one, other = codes[rows], codes[columns]
    is_own, areas = one == other, []
    has_ties = rank[-1] < len(rank)
    for group in np.unique(codes):
        listed = (one == group) | (other == group)
        own = np.compress(listed, is_own)
        if own.any():
            areas.append(_tied_precision(own, np.compress(listed, rank)) if has_ties else _precision(own))
    return fmean(areas)


def _precision(own: Booleans) -> float:
    """The average precision of pairs of different distances, the nearest first: at the place of every own pair the
    fraction of own ones so far.
    """
    places = np.flatnonzero(own) + 1
    return float((np.arange(1, len(places) + 1) / places).mean())


def _tied_precision(own: Booleans, rank: Short) -> float:
    """The same where pairs may have equal distances, and so equal ranks: they count together."""
    last = np.flatnonzero(np.diff(rank, append=-1))
    hits = np.cumsum(own)[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / own.sum())


def violation_rate(distances: Floats, groups: Numbers) -> float:
    """See :attr:`PairFigures.violation_rate`."""
    rates = []
    for own, other in _pairs(distances, groups):
        nearer = np.searchsorted(np.sort(other), own, side="right")  # the pairs with others that are no farther
        rates.append(float(nearer.mean() / len(other)))
    return fmean(rates)


def neighbour_accuracy(distances: Floats, groups: Numbers, *, neighbours: int = NEIGHBOURS, seed: int = 0) -> float:
    """Leave-one-out accuracy of the vote of the nearest; a tie of votes goes to the group with the nearest model.

    Equally near neighbours come in a random order, so that the order of the models tells nothing.
    """
    order = np.random.default_rng(seed).permutation(len(distances))
    right = 0
    for index, row in enumerate(distances):
        others = order[order != index]
        near = groups[others[np.argsort(row[others], kind="stable")[:neighbours]]]
        votes = [int((near == group).sum()) for group in near]
        right += int(near[np.argmax(votes)] == groups[index])
    return right / len(distances)


def _pairs(distances: Floats, groups: Numbers) -> list[tuple[Floats, Floats]]:
    """For each group of two models or more, the distances within it and those from it to others."""
    pairs = []
    for group in np.unique(groups):
        inside = groups == group
        own = distances[np.ix_(inside, inside)]
        if len(own) > 1:
            pairs.append((own[np.triu_indices(len(own), 1)], distances[np.ix_(inside, ~inside)].ravel()))
    return pairs


def _spread(distances: Floats, inside: Booleans) -> Spread:
    own = distances[np.ix_(inside, inside)][np.triu_indices(int(inside.sum()), 1)]
    return Spread(float(own.mean()) if len(own) else float("nan"), float(distances[np.ix_(inside, ~inside)].mean()))


def _together(groups: Numbers, clusters: Numbers) -> float:
    """Σ n_ij² over groups i and clusters j: with sizes of groups and clusters fixed, the ARI grows with it linearly."""
    table = (groups[:, None] == np.unique(groups)).T.astype(float) @ (clusters[:, None] == np.unique(clusters))
    return float((table**2).sum())


def _p_value(true: float, shuffled: Sequence[float]) -> float:
    """B. Phipson and G. Smyth, 2010: the true order is one of the permutations, so that p is never 0."""
    return (1 + sum(value >= true - 1e-12 for value in shuffled)) / (1 + len(shuffled))


def _agglomerative(distances: Floats, clusters: int, seed: int, linkage: str) -> Numbers:
    from sklearn.cluster import AgglomerativeClustering

    clusterer = AgglomerativeClustering(clusters, metric="precomputed", linkage=linkage)
    return np.asarray(clusterer.fit_predict(distances))


def _spectral(distances: Floats, clusters: int, seed: int) -> Numbers:
    from sklearn.cluster import SpectralClustering

    apart = distances[distances > 0]
    if not len(apart):  # models that are all the same are one cluster; what would tell them apart is rounding
        return np.zeros(len(distances), dtype=np.int64)
    bandwidth = float(np.median(apart))
    affinity = np.exp(-(distances**2) / (2 * bandwidth**2)).clip(1e-12)  # the floor keeps far models connected
    return np.asarray(SpectralClustering(clusters, affinity="precomputed", random_state=seed).fit_predict(affinity))


def _k_means(distances: Floats, clusters: int, seed: int) -> Numbers:
    points, _ = principal_coordinates(distances)
    points = np.pad(points, ((0, 0), (0, 1)))  # where all distances are zero, there is no other coordinate
    return kmeans(points, min(clusters, len(np.unique(points, axis=0))))


#: Distances, number of clusters and seed to the cluster of each model. The three linkages work on the distances;
#: ``spectral`` on exp(−d²/2σ²), σ being the median of the distances that are not zero; ``k-means`` on all classical
#: coordinates with a positive eigenvalue, which for Euclidean distances is k-means on the points themselves.
CLUSTERERS: Mapping[str, Callable[[Floats, int, int], Numbers]] = {
    "average": partial(_agglomerative, linkage="average"),
    "complete": partial(_agglomerative, linkage="complete"),
    "single": partial(_agglomerative, linkage="single"),
    "spectral": _spectral,
    "k-means": _k_means,
}
