"""Models parted into clusters: the methods that are known by name, and the silhouettes that judge them."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, SpectralClustering

from dynamo.analysis.arrays import AnyFloats, Floats, Integers
from dynamo.analysis.geometry.kmeans import kmeans
from dynamo.contracts.errors import DynamoError, did_you_mean


def cluster(theta: AnyFloats, method: str = "kmeans", count: int | None = None, *, seed: int = 0) -> Integers:
    """The cluster of each model, ``[N]``, numbered from 0 as they come.

    Args:
        theta: the model embeddings ``[N, d]``.
        method: one of ``METHODS``.
        count: the number of clusters; None for HDBSCAN, which finds it (its noise is −1).
        seed: of spectral clustering; nothing else is random (:func:`dynamo.analysis.geometry.kmeans.kmeans`).

    Raises:
        DynamoError: an unknown method, fewer than three models, values that are not finite, more clusters than
            different thetas, or a number for HDBSCAN.
    """
    check_method(method)
    distinct = check_thetas(theta)
    if method == "hdbscan":
        if count is not None:
            raise DynamoError(f"hdbscan finds the number of clusters itself: it cannot be asked for {count}")
        return _hdbscan(theta)
    if count is None:
        raise DynamoError(f"{method} needs the number of clusters")
    check_count(count, distinct, len(theta))
    return METHODS[method](theta, count, seed)


def count_of(numbers: Integers) -> int:
    """How many clusters there are, from the cluster of each model; models that are left out (−1) are in none."""
    return int(numbers.max()) + 1


def silhouettes(distances: AnyFloats, numbers: Integers) -> Floats:
    """The silhouette of each model (Rousseeuw 1987), ``[N]``; 0 for one that is alone or left out (−1).

    Args:
        distances: between the models, ``[N, N]``.
        numbers: the cluster of each, ``[N]``. With fewer than two clusters all silhouettes are 0.
    """
    scores = np.zeros(len(numbers))
    kept = np.flatnonzero(numbers >= 0)
    clusters, own, sizes = np.unique(numbers[kept], return_inverse=True, return_counts=True)
    if len(clusters) < 2:
        return scores
    sums = distances[np.ix_(kept, kept)] @ np.eye(len(clusters))[own]
    rows = np.arange(len(kept))
    within = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[rows, own] = np.inf
    nearest = means.min(axis=1)
    larger = np.maximum(within, nearest)
    scores[kept] = np.where((sizes[own] > 1) & (larger > 0), (nearest - within) / np.where(larger > 0, larger, 1), 0)
    return scores


def check_method(method: str) -> None:
    """Check that there is a clustering of this name.

    Raises:
        DynamoError: there is none.
    """
    if method not in METHODS:
        raise DynamoError(f"no clustering is called {method!r}: {did_you_mean(method, METHODS)}")


def check_thetas(theta: AnyFloats) -> int:
    """Check that a map can be clustered, and count its different thetas.

    Raises:
        DynamoError: fewer than three models, another shape than ``[N, d]``, or values that are not finite.
    """
    theta = np.asarray(theta)
    if theta.ndim != 2 or len(theta) < 3:
        raise DynamoError(f"clusters need at least 3 models, thetas [N, d]; got {tuple(theta.shape)}")
    if not np.isfinite(theta).all():
        raise DynamoError(
            "the map has NaN or infinite places: the fit diverged; make it again with a lower learning rate"
        )
    return len(np.unique(theta, axis=0))


def check_count(count: int, distinct: int, models: int) -> None:
    """Check that ``models`` models with ``distinct`` different thetas can be in ``count`` clusters.

    Raises:
        DynamoError: they cannot.
    """
    if not 1 <= count < models:
        raise DynamoError(f"{models} models cannot be in {count} clusters: ask for 1 to {models - 1}")
    if count > distinct:
        raise DynamoError(
            f"the {models} models lie at {distinct} different places: ask for at most {distinct} clusters"
        )


def _linked(linkage: str, points: AnyFloats, count: int, seed: int) -> Integers:
    return _in_order(AgglomerativeClustering(count, linkage=linkage).fit_predict(points))


def _spectral(points: AnyFloats, count: int, seed: int) -> Integers:
    """Spectral clustering with affinities in the scale of each point (Zelnik-Manor and Perona 2004), the distance to
    its √N-th neighbour.
    """
    distances = squareform(pdist(points))
    scale = np.sort(distances, axis=1)[:, round(np.sqrt(len(points)))]
    scale = np.maximum(scale, 1e-9 * max(float(distances.max()), 1e-300))
    affinity = np.maximum(np.exp(-(distances**2) / np.outer(scale, scale)), 1e-9)
    clustering = SpectralClustering(count, affinity="precomputed", random_state=seed, assign_labels="cluster_qr")
    return _in_order(clustering.fit_predict(affinity))


def _hdbscan(points: AnyFloats) -> Integers:
    """HDBSCAN; a cluster has at least 5 models, or a quarter of a small population, but at least 2."""
    smallest = max(2, min(5, len(points) // 4))
    return _in_order(HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(points))


#: The clusterings known by name: points ``[N, d]``, number of clusters and seed to the cluster of each point.
METHODS: dict[str, Callable[[AnyFloats, int, int], Integers]] = {
    "kmeans": lambda points, count, seed: _in_order(kmeans(points, count)),
    "agglomerative": partial(_linked, "ward"),
    "complete": partial(_linked, "complete"),
    "average": partial(_linked, "average"),
    "spectral": _spectral,
    "hdbscan": lambda points, count, seed: _hdbscan(points),
}


def _in_order(numbers: NDArray[np.integer]) -> Integers:
    """The same clusters, numbered from 0 as they come; −1 stays."""
    clusters, first = np.unique(numbers[numbers >= 0], return_index=True)
    new = np.full(int(numbers.max(initial=-1)) + 2, -1)  # its last entry is that of -1
    new[clusters[np.argsort(first)]] = np.arange(len(clusters))
    return np.asarray(new[numbers], dtype=np.int64)
