"""k-means, the one that all analyses and benchmarks use, so that one map has one answer.

Lloyd's algorithm alone stops early: with few models in many dimensions, hundreds of starts miss the best clusters.
Moving one model at a time where that helps (J. Hartigan and M. Wong, 1979, Applied Statistics 28(1)) repairs it.
"""

import numpy as np
from numpy.typing import NDArray

from dynamo.analysis.arrays import AnyFloats, Floats, Integers

#: Starts, each from models drawn at random; fewer where there are more than 64 models, so that starts times models
#: stays the same, but never fewer than :data:`LEAST_STARTS`.
STARTS = 200
LEAST_STARTS = 20

#: Passes of Lloyd's algorithm, and of moves, at most.
PASSES = 300


def kmeans(points: AnyFloats, count: int) -> Integers:
    """The cluster of each point, ``[N]``: the least sum of squared distances to the means, of all starts.

    Nothing is left to a seed: the starts are drawn in the same way each time, from the points in the order of their
    distance to the common mean. So neither the order of the points nor a rotation changes the clusters.

    Args:
        points: ``[N, d]``.
        count: of clusters; at most as many as there are different points.
    """
    given = np.asarray(points, dtype=np.float64)
    centred = given - given.mean(axis=0)
    order = np.argsort(np.round(_squares(centred) / max(float(_squares(centred).max()), 1e-300), 9), kind="stable")
    ordered = centred[order]
    labels = _lloyd(ordered, count)
    _, first = np.unique(np.round(_spread(ordered, labels, count), 12), return_index=True)
    labels = _exchange(ordered, labels[np.sort(first)], count)
    spread = _spread(ordered, labels, count)
    best = np.flatnonzero(spread <= spread.min() + 1e-9)[0]  # of equally good ones the first
    clusters = np.empty(len(given), dtype=np.int64)
    clusters[order] = labels[best]
    return clusters


def _squares(points: Floats) -> Floats:
    return np.asarray((points**2).sum(axis=-1))


def _lloyd(points: Floats, count: int) -> Integers:
    """Where Lloyd's algorithm ends from every start, ``[starts, N]``."""
    starts = max(LEAST_STARTS, min(STARTS, 64 * STARTS // len(points)))
    drawn = np.argsort(np.random.default_rng(0).random((starts, len(points))), axis=1)[:, :count]
    means = points[drawn]
    labels = np.full((starts, len(points)), -1)
    moving = np.arange(starts)
    for _ in range(PASSES):
        new = _to_means(points, means[moving]).argmin(axis=2)
        changed = (new != labels[moving]).any(axis=1)
        labels[moving] = new
        moving = moving[changed]
        if not len(moving):
            break
        means[moving], _ = _means(points, labels[moving], count, means[moving])
    return labels


def _exchange(points: Floats, labels: Integers, count: int) -> Integers:
    """Move, in each clustering, the one point that lowers the sum of squares most, as long as one does."""
    labels, moving = labels.copy(), np.arange(len(labels))
    least = 1e-9 * float(_squares(points).sum())
    for _ in range(PASSES):
        own = labels[moving][..., None]
        means, sizes = _means(points, labels[moving], count)
        apart = np.maximum(_to_means(points, means), 0)
        held = np.take_along_axis(sizes, labels[moving], axis=1)
        leaving = np.take_along_axis(apart, own, axis=2)[..., 0] * held / np.maximum(held - 1, 1)
        gain = np.where(held > 1, leaving, -np.inf)[..., None] - apart * (sizes / (sizes + 1))[:, None]
        np.put_along_axis(gain, own, -np.inf, axis=2)
        flat = gain.reshape(len(moving), -1)
        best = flat.argmax(axis=1)
        helps = flat[np.arange(len(moving)), best] > least
        moving, best = moving[helps], best[helps]
        if not len(moving):
            break
        labels[moving, best // count] = best % count
    return labels


def _spread(points: Floats, labels: Integers, count: int) -> Floats:
    """The sum of squared distances to the means as a share of that to the common mean, ``[starts]``."""
    means, sizes = _means(points, labels, count)
    total = float(_squares(points).sum())
    return np.asarray(1 - (sizes * _squares(means)).sum(axis=1) / max(total, 1e-300))


def _to_means(points: Floats, means: Floats) -> Floats:
    """Squared distances ``[starts, N, clusters]``, but for rounding errors."""
    crossed = np.tensordot(points, means, axes=(1, 2)).transpose(1, 0, 2)
    return np.asarray(_squares(points)[None, :, None] - 2 * crossed + _squares(means)[:, None])


def _means(
    points: Floats, labels: Integers, count: int, empty: Floats | float = 0.0
) -> tuple[Floats, NDArray[np.float64]]:
    """The mean of each cluster, ``[starts, clusters, d]``, ``empty`` for one without points, and their sizes."""
    member = (labels[:, None] == np.arange(count)[:, None]).astype(np.float64)
    sizes = member.sum(axis=2)
    means = member @ points / np.maximum(sizes, 1)[..., None]
    return np.where(sizes[..., None] > 0, means, empty), sizes
