"""Does a θ lie outside the convex hull of the base models, and how far? (Section 4.2.)"""

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.contracts.shown import brief

#: Points nearer to the hull than this many spreads of the models count as inside.
TOLERANCE = 1e-6


@attrs.frozen(eq=False)
class HullDistance:
    """Where a point lies with respect to a convex hull.

    Attributes:
        distance: Euclidean, to the nearest point of the hull; 0 inside.
        spread: root mean square distance of the hull's points from their mean.
        weights: the mixture of the points that is nearest, ``[N]``.
    """

    distance: float
    spread: float
    weights: Floats

    __repr__ = brief

    @property
    def outside(self) -> bool:
        """Whether the point lies outside."""
        return self.distance > 0

    @property
    def relative(self) -> float:
        """The distance in spreads."""
        if not self.outside:
            return 0.0
        return self.distance / self.spread if self.spread else float("inf")


def hull_distance(points: AnyFloats, point: AnyFloats) -> HullDistance:
    """The distance of a point from the convex hull of some points, in any number of dimensions.

    The hull may be of lower dimension than the space: a point, a segment, a simplex. The nearest mixture λ of the
    points p_n comes from non-negative least squares (Lawson and Hanson 1974): min ‖Σ y_n (p_n − x)‖² + (Σ y_n − 1)²
    over y ≥ 0 is reached at a multiple of λ, since along y = sλ its least value ‖v‖² / (1 + ‖v‖²) grows with the
    distance ‖v‖ = ‖Σ λ_n p_n − x‖.

    Args:
        points: ``[N, k]``.
        point: ``[k]``.
    """
    from scipy.optimize import nnls

    points, point = np.asarray(points, dtype=np.float64), np.asarray(point, dtype=np.float64)
    spread = float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))
    unit = spread or float(np.linalg.norm(points[0] - point)) or 1.0
    system = np.vstack([(points - point).T / unit, np.ones(len(points))])
    wanted = np.append(np.zeros(points.shape[1]), 1.0)
    solution, _ = nnls(system, wanted, maxiter=100 * len(points))
    weights: Floats = solution / solution.sum()
    distance = float(np.linalg.norm(weights @ points - point))
    return HullDistance(distance if distance > TOLERANCE * unit else 0.0, spread, weights)


def outline(points: AnyFloats) -> tuple[int, ...]:
    """The indices of those of some points ``[N, 2]`` of a plane that are the corners of their hull, in order around it.

    None where the points lie on one line, or have one coordinate only.
    """
    from scipy.spatial import ConvexHull, QhullError

    if points.shape[1] != 2 or len(points) < 3:
        return ()
    try:
        return tuple(int(index) for index in ConvexHull(points).vertices)
    except QhullError:
        return ()
