"""The map with its clusters outlined, and what speaks for their number."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from dynamo.analysis.geometry.clusters import Clusters, Evidence
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
    """Draw the clusters and, where their number was chosen, the silhouette of each number beside the null.

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
        draw_evidence(right, result.evidence, result.count)
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


def draw_evidence(axes: Axes, evidence: Evidence, count: int) -> None:
    """Draw the silhouette of each number of clusters, and the range of the null."""
    low, middle, high = np.quantile(evidence.null, [0.05, 0.5, 0.95], axis=0)
    numbers = np.array(evidence.numbers, dtype=float)
    if len(numbers) > 1:
        axes.fill_between(numbers, low, high, color="0.85", label="one Gaussian, 5 to 95 %")
        axes.plot(numbers, middle, color="0.55", linestyle="--", label="one Gaussian, median")
    else:
        axes.errorbar(
            numbers,
            middle,
            np.stack([middle - low, high - middle]),
            color="0.55",
            marker="_",
            capsize=6,
            label="one Gaussian, 5 to 95 %",
        )
    axes.plot(numbers, evidence.scores, color=COLOURS[0], marker="o", label="this map")
    if count in evidence.numbers:
        best = evidence.numbers.index(count)
        axes.plot(count, evidence.scores[best], "o", markersize=12, fillstyle="none", color=COLOURS[5], label="chosen")
    axes.set_title(f"one cluster: p = {evidence.p_value:.2g}", fontsize="medium")
    axes.set_xlabel("number of clusters")
    axes.set_ylabel("mean silhouette")
    axes.set_xlim(numbers.min() - 0.5, numbers.max() + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12))
    axes.spines[["top", "right"]].set_visible(False)


def _around(points: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """A closed line around points, at a distance from them."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rim = (points[:, None] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).reshape(-1, 2)
    corners = ConvexHull(rim).vertices
    line: NDArray[np.float64] = rim[[*corners, corners[0]]]
    return line
