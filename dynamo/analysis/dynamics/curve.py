"""A curve through the middle of a set of points."""

import attrs
import numpy as np

from dynamo.analysis.arrays import Floats
from dynamo.contracts.shown import brief

MOST_NODES = 24
ROUNDS = 3


@attrs.frozen(eq=False)
class Curve:
    """A polygon through the middle of points; the ends of an open one are prolonged to its outermost points.

    Attributes:
        nodes: the corners, ``[M, H]``.
        length: the extent of the points along it, or once around.
        width: √12 × the root of the mean square distance of the points.
        turning: the sum of the angles at the corners.
        arc: the position of each point, from 0, ``[P]``.
        tangents: the direction at each point, ``[P, H]``.
    """

    nodes: Floats
    length: float
    width: float
    turning: float
    arc: Floats
    tangents: Floats

    __repr__ = brief

    def reversed(self) -> "Curve":
        """The same curve in the other direction."""
        return attrs.evolve(self, nodes=self.nodes[::-1], arc=self.length - self.arc, tangents=-self.tangents)


def straight_line(points: Floats) -> Curve:
    """The first principal axis of at least two points ``[P, H]``."""
    centre = points.mean(0)
    axis = np.linalg.svd(points - centre)[2][0]
    reach = (points - centre) @ axis
    return _measured(points, centre + np.outer([reach.min(), reach.max()], axis), closed=False)


def principal_curve(points: Floats, start: Floats, closed: bool) -> Curve:
    """A principal curve (Hastie and Stuetzle 1989): each node is the mean of the points nearest to its stretch.

    There are as many nodes as fit at two widths apart, so that a broad set gets a smooth curve.

    Args:
        points: ``[P, H]``.
        start: a first order of the points along the curve, ``[P]``; an angle where it is closed.
        closed: whether the curve ends where it began.
    """
    fewest = 8 if closed else 2
    count = max(fewest, min(MOST_NODES, len(points) // 4))
    while True:
        position = start
        for _ in range(ROUNDS):
            curve = _measured(points, _nodes(points, position, count, closed), closed)
            position = curve.arc
        if count == fewest or curve.length >= 2 * curve.width * count:
            return curve
        count = max(fewest, int(0.8 * count))


def _nodes(points: Floats, position: Floats, count: int, closed: bool) -> Floats:
    """The means of the points in stretches of one length; a stretch without points has no node."""
    low, high = position.min(), position.max()
    stretch = np.minimum(((position - low) / (high - low) * count).astype(int), count - 1)
    return np.stack([points[stretch == index].mean(0) for index in range(count) if (stretch == index).any()])


def _measured(points: Floats, nodes: Floats, closed: bool) -> Curve:
    ends = np.roll(nodes, -1, axis=0) if closed else nodes[1:]
    starts = nodes if closed else nodes[:-1]
    steps = ends - starts
    sizes = np.linalg.norm(steps, axis=1)
    position = ((points[:, None] - starts) * steps).sum(2) / sizes**2  # [P, segments]
    low, high = np.zeros(len(steps)), np.ones(len(steps))
    if not closed:
        low[0], high[-1] = -np.inf, np.inf
    position = np.clip(position, low, high)
    offsets = np.linalg.norm(points[:, None] - starts - position[:, :, None] * steps, axis=2)
    nearest = offsets.argmin(1)
    rows = np.arange(len(points))
    along = position[rows, nearest]
    arc = np.concatenate([[0.0], np.cumsum(sizes)])[nearest] + along * sizes[nearest]
    directions = steps / sizes[:, None]
    corners = directions + np.roll(directions, 1, axis=0)
    if not closed:
        corners = np.concatenate([directions[:1], corners[1:], directions[-1:]])
    corners = corners / np.maximum(np.linalg.norm(corners, axis=1, keepdims=True), 1e-300)
    blend = np.clip(along, 0, 1)[:, None]
    tangents = (1 - blend) * corners[nearest] + blend * corners[(nearest + 1) % len(corners)]
    before = directions if closed else directions[:-1]
    after = np.roll(directions, -1, axis=0) if closed else directions[1:]
    return Curve(
        nodes=nodes,
        length=float(sizes.sum() if closed else np.ptp(arc)),
        width=float(np.sqrt(12 * (offsets[rows, nearest] ** 2).mean())),
        turning=float(np.arccos(np.clip((before * after).sum(1), -1, 1)).sum()),
        arc=arc if closed else arc - arc.min(),
        tangents=tangents / np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-300),
    )
