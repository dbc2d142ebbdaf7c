"""k-means, the one that all analyses and benchmarks use, so that one map has one answer.

Lloyd's algorithm alone stops early: with few models in many dimensions, hundreds of starts miss the best clusters.
Moving one model at a time where that helps (J. Hartigan and M. Wong, 1979, Applied Statistics 28(1)) repairs it.
"""

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats, Integers

#: Starts, each from models drawn at random; fewer where there are more than 64 models, so that starts times models
#: stays the same, but never fewer than :data:`LEAST_STARTS`.
STARTS = 200
LEAST_STARTS = 20

#: Passes of Lloyd's algorithm, and of moves, at most.
PASSES = 300


def kmeans(points: AnyFloats, count: int, starts: int | None = None) -> Integers:
    """The cluster of each point, ``[N]``: the least sum of squared distances to the means, of all starts.

    Nothing is left to a seed: the starts are drawn in the same way each time, from the points in the order of their
    distance to the common mean. So neither the order of the points nor a rotation changes the clusters.

    Args:
        points: ``[N, d]``.
        count: of clusters; at most as many as there are different points.
        starts: how many; where it is None, see :data:`STARTS`.
    """
    given = np.asarray(points, dtype=np.float64)
    centred = given - given.mean(axis=0)
    order = np.argsort(np.round(_squares(centred) / max(float(_squares(centred).max()), 1e-300), 9), kind="stable")
    ordered = centred[order]
    labels = _lloyd(ordered, count, starts or max(LEAST_STARTS, min(STARTS, 64 * STARTS // len(given))))
    _, first = np.unique(np.round(_spread(ordered, labels, count), 12), return_index=True)
    labels = _exchange(ordered, labels[np.sort(first)], count)
    spread = _spread(ordered, labels, count)
    best = np.flatnonzero(spread <= spread.min() + 1e-9)[0]  # of equally good ones the first
    clusters = np.empty(len(given), dtype=np.int64)
    clusters[order] = labels[best]
    return clusters


def _lloyd(points: Floats, count: int, starts: int) -> Integers:
    """Where Lloyd's algorithm ends from every start, ``[starts, N]``."""
    drawn = np.argsort(np.random.default_rng(0).random((starts, len(points))), axis=1)[:, :count]
    weights = np.zeros((starts, len(points), count))  # of the points in each mean; of one that is left alone the last
    weights[np.arange(starts)[:, None], drawn, np.arange(count)] = 1.0
    labels = np.full((starts, len(points)), -1)
    moving, products, squares = np.arange(starts), _Products.of(points), _squares(points)
    for _ in range(PASSES):
        sums = products.with_means(weights[moving])
        new = (squares[:, None] - 2 * sums + (sums * weights[moving]).sum(axis=1)[:, None]).argmin(axis=2)
        changed = (new != labels[moving]).any(axis=1)
        labels[moving] = new
        moving = moving[changed]
        if not len(moving):
            break
        member = _member(labels[moving], count)
        sizes = member.sum(axis=1)[:, None]
        weights[moving] = np.where(sizes > 0, member / np.maximum(sizes, 1), weights[moving])
    return labels


def _exchange(points: Floats, labels: Integers, count: int) -> Integers:
    """Move, in each clustering, the one point that lowers the sum of squares most, as long as one does.

    Products of points say how far each is from each mean, and a move changes few of their sums: a pass takes time in
    proportion to points and clusters, whatever the dimension.
    """
    labels, moving, squares = labels.copy(), np.arange(len(labels)), _squares(points)
    least = 1e-9 * float(squares.sum())
    products, member = _Products.of(points), _member(labels, count)
    sums = products.with_means(member)  # of each point's products with those of a cluster
    within, sizes = (sums * member).sum(axis=1), member.sum(axis=1)
    for _ in range(PASSES):
        own = labels[moving][..., None]
        many = np.maximum(sizes, 1)[:, None]
        apart = np.maximum(squares[:, None] - 2 * sums / many + (within[:, None] / many) / many, 0)
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
        sums, within, sizes = sums[helps], within[helps], sizes[helps]
        point, to, rows = best // count, best % count, np.arange(len(moving))
        for cluster, sign in ((labels[moving, point], -1.0), (to, 1.0)):
            within[rows, cluster] += sign * 2 * sums[rows, point, cluster] + squares[point]
            sums[rows, :, cluster] += sign * products.of_points(point)
            sizes[rows, cluster] += sign
        labels[moving, point] = to
    return labels


def _spread(points: Floats, labels: Integers, count: int) -> Floats:
    """The sum of squared distances to the means as a share of that to the common mean, ``[starts]``."""
    member = _member(labels, count)
    sizes = np.maximum(member.sum(axis=1), 1)
    explained = ((_Products.of(points).with_means(member) * member).sum(axis=1) / sizes).sum(axis=1)
    return np.asarray(1 - explained / max(float(_squares(points).sum()), 1e-300))


def _squares(points: Floats) -> Floats:
    return np.asarray((points**2).sum(axis=-1))


def _member(labels: Integers, count: int) -> Floats:
    """Which points are in which cluster, 1 or 0, ``[starts, N, clusters]``."""
    return np.asarray(labels[..., None] == np.arange(count), dtype=np.float64)


@attrs.frozen(eq=False)
class _Products:
    """The scalar products of all points with one another, computed once where that is less than their dimension asks.

    Attributes:
        points: ``[N, d]``.
        table: ``[N, N]``; None where the points have fewer dimensions.
    """

    points: Floats
    table: Floats | None

    @classmethod
    def of(cls, points: Floats) -> "_Products":
        return cls(points, points @ points.T if points.shape[1] > len(points) else None)

    def with_means(self, weights: Floats) -> Floats:
        """Of each point with weighted sums of points: ``[starts, N, clusters] -> [starts, N, clusters]``."""
        starts, number, count = weights.shape
        flat = weights.transpose(1, 0, 2).reshape(number, -1)
        found = self.points @ (self.points.T @ flat) if self.table is None else self.table @ flat
        return np.asarray(found.reshape(number, starts, count).transpose(1, 0, 2))

    def of_points(self, rows: Integers) -> Floats:
        """Of some points with all, ``[rows, N]``."""
        return np.asarray(self.points[rows] @ self.points.T if self.table is None else self.table[rows])
