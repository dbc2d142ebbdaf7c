"""The map with its clusters outlined, and what speaks for their number."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from dynamo.analysis.geometry.clusters import Clusters
from dynamo.analysis.geometry.cuts import Evidence
from dynamo.analysis.geometry.spectrum import Spectrum
from dynamo.report.plots.map import COLOURS, draw_points
from dynamo.report.plots.picture import LINE, Picture, as_text


def plot_clusters(
    result: Clusters,
    places: Spectrum,
    label: str | None = None,
    values: Sequence[object] | None = None,
    title: str = "",
    *,
    distance: str = "theta",
) -> Figure:
    """Draw the clusters and, where their number was chosen, the cuts that were tried.

    Args:
        result: the clusters.
        places: the principal components of the thetas, or the principal coordinates of distances.
        label: the name of the label that colours the points; None for one colour.
        values: the label of each model.
        title: what stands above.
        distance: the kind of the distances, for the axes.
    """
    figure = Picture(figsize=(6.4 if result.evidence is None else 10.4, 5.6), layout="constrained")
    if result.evidence is None:
        left = figure.subplots()
    else:
        left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
        draw_evidence(right, result.evidence)
    draw_points(left, places, label, values, distance)
    draw_outlines(left, places, result)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def draw_outlines(axes: Axes, places: Spectrum, result: Clusters) -> None:
    """Draw a line around each of several clusters, along the first two components.

    Clusters that lie apart in further dimensions may overlap here.
    """
    xy = np.zeros((len(places.coordinates), 2))
    shown = min(2, places.coordinates.shape[1])
    xy[:, :shown] = places.coordinates[:, :shown]
    radius = 0.035 * float(np.ptp(xy, axis=0).max())
    for number in range(result.count if result.count > 1 and radius > 0 else 0):
        line = _around(xy[result.numbers == number], radius)
        axes.plot(line[:, 0], line[:, 1], color="0.45", linewidth=1, zorder=0)
        top = line[line[:, 1].argmax()]
        axes.annotate(
            str(number + 1), top, (0, 3), textcoords="offset points", ha="center", color="0.35", fontsize="small"
        )
    what = "1 cluster" if result.count == 1 else f"{result.count} clusters"
    left_out = int((result.numbers < 0).sum())
    axes.set_title(
        f"{what} ({result.method})" + (f", {left_out} models in none" if left_out else ""), fontsize="medium"
    )


def draw_evidence(axes: Axes, evidence: Evidence, shown: int = 12) -> None:
    """Draw the models along the axis of each cut that was tried, a row each; coloured by their parts where the cut
    counts.
    """
    for row, cut in enumerate(evidence.cuts[:shown]):
        spread = max(float(cut.places.std()), 1e-300)
        places, parts = cut.places / spread, int(cut.sides.max()) + 1
        colours = [COLOURS[side % len(COLOURS)] if cut.counts else "0.55" for side in cut.sides]
        axes.scatter(places, np.full(len(places), row), c=colours, s=24, alpha=0.7, linewidths=0)
        told = (
            f"{len(places)} models in {parts}: {cut.share:.0%} explained, even spread {cut.usual:.0%}, "
            f"p = {cut.p_value:.2g}"
        )
        axes.annotate(told, (0.5, row - 0.34), xycoords=("axes fraction", "data"), ha="center", fontsize="small")
    axes.set_ylim(min(len(evidence.cuts), shown) - 0.5, -0.7)
    axes.set_title(f"one cluster: p = {evidence.p_value:.2g}", fontsize="medium")
    axes.set_xlabel("along the widest coordinate (s.d.)")
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)


def _around(points: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """A closed line around points, at a distance from them."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rim = (points[:, None] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).reshape(-1, 2)
    corners = ConvexHull(rim).vertices
    line: NDArray[np.float64] = rim[[*corners, corners[0]]]
    return line
