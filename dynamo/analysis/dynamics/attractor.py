"""What shape has an attractor? A point, some points, a line, a ring or a plane, in numbers (section 5, Figure 8)."""

from typing import Literal

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Booleans, Floats, Integers
from dynamo.analysis.dynamics.curve import Curve, principal_curve, straight_line
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief

Kind = Literal["none", "point", "discrete", "line", "ring", "plane", "cloud"]

#: Points nearer than this fraction of the scale are one.
MERGE = 1e-3
#: Points are of one piece if steps of at most this fraction of the scale lead from one to the other; a piece that is
#: not larger than this is a point.
APART = 0.15
#: Without a scale, differences below this fraction of the coordinates are taken for round-off.
ROUND_OFF = 1e-6
#: With fewer distinct points than this nothing is called continuous.
FEW = 8
#: Separate points are each given at least this many times, on average.
OFTEN = 3
#: A set is a line if it is this many times as long as wide, a plane if it is this many times as wide as thick.
ELONGATED = 3.0
#: A ring is empty inside up to this fraction of its radius, and has no gap above this fraction of a turn.
HOLLOW, OPENING = 0.5, 1 / 6


@attrs.frozen(eq=False)
class AttractorGeometry:
    """The shape of a set of fixed and slow points. Figures that have no meaning for a shape are NaN.

    ``kind`` follows from the other figures, by the first of these rules that holds (the constants are those of
    :mod:`dynamo.analysis.dynamics.attractor`; the scale is what is passed for it, or the largest distance between two
    points):

    - ``none``: no points; ``point``: one piece, not larger than ``APART`` × scale;
    - ``discrete``: several such pieces and nothing else, in each of them ``OFTEN`` of the points given on average; or
      fewer than ``FEW`` distinct points;
    - ``ring``: unrolled to a plane along its own shortest paths it is ``hollow`` ≥ ``HOLLOW`` and ``opening`` ≤
      ``OPENING``;
    - ``line``: ``elongation`` ≥ ``ELONGATED``; ``plane``: ``flatness`` ≥ ``ELONGATED``; else ``cloud``.

    Lines, rings, planes and clouds are measured on the piece with most points; ``discrete`` points along the straight
    line that fits them best.

    Attributes:
        kind: the shape.
        points: the distinct points, ``[P, H]``.
        piece: the index of the piece that each belongs to, ``[P]``; 0 has most points.
        number: of separate points (``none``, ``point``, ``discrete``) or of pieces.
        dimension: participation ratio of the covariance of the points: its linear dimension, which a bend raises.
        local_dimension: median over points of the participation ratio of their neighbourhood.
        length: extent along the principal curve, in units of the state; once around for a ring.
        width: √12 × the root of the mean square distance from the curve: that of a flat strip is its breadth.
        turning: the angle through which the curve turns in all, in radians; 2π for a flat ring.
        flatness: second over third standard deviation along the principal axes.
        hollow: 5th percentile over median of the distance from the middle of the unrolled set; about 0.3 for a disc.
        opening: the largest gap between directions from there, as a fraction of a turn.
        arc: the position of each point along the curve, from 0 to ``length``, ``[P]``; NaN outside the piece measured.
        tangents: unit vectors along the curve at each point, ``[P, H]``; NaN outside the piece measured.
        curve: the nodes of the curve, ``[M, H]``.
        drift: the part of F(x, h) − h along the tangent at each point, ``[P]``; NaN where no drift is given.
        alignment: the mean over points of the cosine between the tangent and what the readout reads: 1 where moving
            along the curve changes the outputs as much as any move of that size could, 0 where it does not.
    """

    kind: Kind
    points: Floats
    piece: Integers
    number: int
    dimension: float
    local_dimension: float
    length: float
    width: float
    turning: float
    flatness: float
    hollow: float
    opening: float
    arc: Floats
    tangents: Floats
    curve: Floats
    drift: Floats
    alignment: float

    __repr__ = brief

    @property
    def elongation(self) -> float:
        """Length over width; infinite for a curve without any."""
        if not self.length > 0:
            return float("nan")
        return self.length / self.width if self.width > 0 else float("inf")

    @property
    def extent(self) -> float:
        """How far all points reach along their first principal axis, of whatever pieces; NaN where there are none."""
        if len(self.points) == 0:
            return float("nan")
        centred = self.points - self.points.mean(0)
        return float(np.ptp(centred @ np.linalg.svd(centred, full_matrices=False)[2][0]))

    @property
    def curvature(self) -> float:
        """Turning per length; 1/r for a ring of radius r."""
        return self.turning / self.length if self.length > 0 else float("nan")

    @property
    def crossing_time(self) -> float:
        """Steps that the mean size of the drift would need along a line or ring: how long a position is kept."""
        if self.kind not in ("line", "ring") or not np.isfinite(self.drift).any():
            return float("nan")
        speed = float(np.nanmean(np.abs(self.drift)))
        return self.length / speed if speed > 0 else float("inf")


def attractor_geometry(
    points: AnyFloats,
    drift: AnyFloats | None = None,
    *,
    readout: AnyFloats | None = None,
    scale: float | None = None,
) -> AttractorGeometry:
    """Measure the shape of fixed and slow points.

    The curve is a principal curve (Hastie and Stuetzle 1989) that starts from the points' order along their longest
    shortest path (Isomap, Tenenbaum et al. 2000). It runs the way in which the first readout grows; without a readout
    the way in which the coordinate that changes most grows.

    Args:
        points: fixed and slow points, ``[P, H]``, each as often as starts led to it: that tells separate points from a
            thinly sampled continuum.
        drift: F(x, h) − h at each of them, ``[P, H]``.
        readout: the gradient of each output with respect to the state at each of them, ``[P, K, H]``. Of logits, only
            what tells classes apart should be left: subtract their mean over classes.
        scale: the size of what the model visits, such as the largest distance between visited states; points nearer
            to each other than a small fraction of it are not told apart.

    Raises:
        DynamoError: points that are not ``[P, H]`` or not finite, a drift or readout that does not fit them, or a
            scale that is not above 0.

    Example:
        >>> angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
        >>> ring = attractor_geometry(np.stack([np.cos(angles), np.sin(angles)], axis=1))
        >>> ring.kind, round(ring.length)
        ('ring', 6)
    """
    given = np.asarray(points, dtype=np.float64)
    _check(given, drift, readout, scale)
    distances = _distances(given)
    size = scale or max(float(distances.max(initial=0.0)), ROUND_OFF * float(np.abs(given).max(initial=0.0)))
    kept = _distinct(distances, MERGE * size)
    given, distances = given[kept], distances[np.ix_(kept, kept)]
    piece = _pieces(distances, APART * size)
    number = len(np.unique(piece))
    compact = all(_diameter(distances, piece == one) <= APART * size for one in range(number))
    separate = (compact and (number == 1 or number * OFTEN <= len(points))) or len(given) < FEW
    measured = np.ones(len(given), dtype=bool) if separate else piece == 0
    main = given[measured]
    axes = _deviations(main)
    hollow = opening = float("nan")
    curve: Curve | None = None
    if separate:
        kind: Kind = "discrete" if number > 1 or not compact else "point" if number else "none"
        number = number if compact else len(given)
        curve = straight_line(main) if kind == "discrete" else None
    else:
        unrolled = _unrolled(main)
        hollow, opening = _ring_figures(unrolled)
        closed = hollow >= HOLLOW and opening <= OPENING
        curve = principal_curve(main, np.arctan2(*unrolled.T) if closed else unrolled[:, 0], closed)
        kind = _continuous_kind(closed, curve, axes)
    arc, tangents = np.full(len(given), np.nan), np.full(given.shape, np.nan)
    drift_along, alignment = arc.copy(), float("nan")
    if curve is not None:
        reads = None if readout is None else np.asarray(readout, dtype=np.float64)[kept][measured]
        curve = _oriented(curve, reads)
        arc[measured], tangents[measured] = curve.arc, curve.tangents
        if drift is not None:
            moves = np.asarray(drift, dtype=np.float64)[kept][measured]
            drift_along[measured] = (moves * curve.tangents).sum(1)
        if reads is not None:
            alignment = _alignment(reads, curve.tangents)
    still = 0.0 if kind == "point" else float("nan")
    return AttractorGeometry(
        kind=kind,
        points=given,
        piece=piece,
        number=number,
        dimension=_participation(axes**2),
        local_dimension=_local_dimension(main) if kind in ("line", "ring", "plane", "cloud") else float("nan"),
        length=curve.length if curve else still,
        width=curve.width if curve else still,
        turning=curve.turning if curve else float("nan"),
        flatness=_flatness(axes) if len(main) > 2 else float("nan"),
        hollow=hollow,
        opening=opening,
        arc=arc,
        tangents=tangents,
        curve=curve.nodes if curve else given[:0],
        drift=drift_along,
        alignment=alignment,
    )


def _check(points: Floats, drift: AnyFloats | None, readout: AnyFloats | None, scale: float | None) -> None:
    if points.ndim != 2 or not np.isfinite(points).all():
        raise DynamoError(f"points must be finite numbers of shape [points, units]; these are {points.shape}")
    if drift is not None and drift.shape != points.shape:
        raise DynamoError(f"the drift has shape {drift.shape}, the points {points.shape}: give one vector a point")
    if readout is not None and (readout.ndim != 3 or readout[:, 0].shape != points.shape):
        raise DynamoError(f"the readout has shape {readout.shape}; for points {points.shape} it is [P, K, H]")
    if scale is not None and not scale > 0:
        raise DynamoError(f"the scale is {scale}: it must be above 0")


def _distances(points: Floats) -> Floats:
    from scipy.spatial.distance import pdist, squareform

    return np.asarray(squareform(pdist(points)) if len(points) > 1 else np.zeros((len(points), len(points))))


def _distinct(distances: Floats, within: float) -> Integers:
    """The indices of points of which none is within a distance of an earlier one."""
    kept: list[int] = []
    for index, row in enumerate(distances):
        if not kept or row[kept].min() > within:
            kept.append(index)
    return np.array(kept, dtype=np.int64)


def _pieces(distances: Floats, step: float) -> Integers:
    """Single linkage: the piece of each point, the largest being 0."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if len(distances) == 0:
        return np.zeros(0, dtype=np.int64)
    count, pieces = connected_components(csr_array(distances <= step), directed=False)
    order = np.argsort(-np.bincount(pieces, minlength=count), kind="stable")
    return np.asarray(np.argsort(order)[pieces], dtype=np.int64)


def _diameter(distances: Floats, chosen: Booleans) -> float:
    return float(distances[np.ix_(chosen, chosen)].max(initial=0.0))


def _deviations(points: Floats) -> Floats:
    """Standard deviations along the principal axes, in descending order."""
    if len(points) < 2:
        return np.zeros(0)
    deviations = np.linalg.svd(points - points.mean(0), compute_uv=False) / np.sqrt(len(points))
    return np.asarray(np.where(deviations > 1e-9 * deviations[0], deviations, 0.0))


def _flatness(deviations: Floats) -> float:
    """Second over third of the deviations; infinite where there is no third."""
    return float(deviations[1] / deviations[2]) if len(deviations) > 2 and deviations[2] > 0 else float("inf")


def _participation(variances: Floats) -> float:
    total = float(variances.sum())
    return total**2 / float((variances**2).sum()) if total > 0 else 0.0


def _local_dimension(points: Floats) -> float:
    """The median participation ratio of neighbourhoods of a tenth of the points, of at least 6."""
    neighbours = np.argsort(_distances(points), axis=1, kind="stable")[:, : max(6, len(points) // 10)]
    return float(np.median([_participation(_deviations(points[rows]) ** 2) for rows in neighbours]))


def _unrolled(points: Floats) -> Floats:
    """The points in a plane that keeps the lengths of shortest paths among them (Isomap), ``[P, 2]``."""
    from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path
    from sklearn.neighbors import kneighbors_graph

    distances = _distances(points)
    near = kneighbors_graph(points, min(6, len(points) - 1), mode="distance")
    paths = shortest_path(near.maximum(near.T).maximum(minimum_spanning_tree(distances)), directed=False)
    squares = -0.5 * paths**2
    centred = squares - squares.mean(0) - squares.mean(1, keepdims=True) + squares.mean()
    values, vectors = np.linalg.eigh(centred)
    return np.asarray(vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0)))


def _ring_figures(unrolled: Floats) -> tuple[float, float]:
    """``hollow`` and ``opening`` of :class:`AttractorGeometry`."""
    radius = np.linalg.norm(unrolled, axis=1)
    angles = np.sort(np.arctan2(*unrolled.T)) / (2 * np.pi)
    gaps = np.diff(angles, append=angles[0] + 1)
    return float(np.percentile(radius, 5) / np.median(radius)), float(gaps.max())


def _continuous_kind(closed: bool, curve: Curve, axes: Floats) -> Kind:
    if closed:
        return "ring"
    if curve.length >= ELONGATED * curve.width:
        return "line"
    return "plane" if len(axes) < 3 or axes[1] >= ELONGATED * axes[2] else "cloud"


def _oriented(curve: Curve, readout: Floats | None) -> Curve:
    """The curve in the direction that :func:`attractor_geometry` names."""
    if readout is not None:
        growth = float((readout[:, -1] * curve.tangents).sum(1).mean())
    else:
        mean = curve.tangents.mean(0)
        growth = float(mean[np.abs(mean).argmax()])
    return curve if growth >= 0 else curve.reversed()


def _alignment(readout: Floats, tangents: Floats) -> float:
    """The mean length of the tangents' part within the span of the rows of the readout ``[P, K, H]``."""
    cosines = []
    for rows, tangent in zip(readout, tangents, strict=True):
        _, values, span = np.linalg.svd(rows, full_matrices=False)
        real = values > 1e-9 * max(float(values[0]), 1e-300)
        cosines.append(float(np.linalg.norm(span[real] @ tangent)))
    return float(np.mean(cosines))
