"""Attractors side by side, in one plane of the state space (the right of Figure 8)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from dynamo.analysis.dynamics.attractor_map import AttractorAt, AttractorMap
from dynamo.report.plots.map import COLOURS
from dynamo.report.plots.picture import Picture, as_text

#: Panels in a row, and in all.
COLUMNS, MOST = 5, 25


def plot_attractors(result: AttractorMap) -> Figure:
    """Draw a panel for each place, along the first two principal axes of all their points together.

    Args:
        result: the attractors; of more than :data:`MOST` places, the last ones are shown.
    """
    shown = result.attractors[-MOST:]
    columns = min(COLUMNS, len(shown))
    figure = Picture(
        figsize=(2.5 * columns + 0.6, 2.6 * -(-len(shown) // columns) + 1.0), layout=ConstrainedLayoutEngine(h_pad=0.1)
    )
    draw_attractors(figure, shown, columns)
    return figure


def draw_attractors(figure: Figure | SubFigure, shown: Sequence[AttractorAt], columns: int = COLUMNS) -> None:
    """Draw a panel for each attractor into a figure or a part of one; see :func:`plot_attractors`."""
    every = np.concatenate([points for found in shown for points in (found.fixed, found.slow)])
    centre, axes = _plane(every)
    rows = -(-len(shown) // columns)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, found in zip(panels, shown, strict=False):
        _draw(panel, found, centre, axes)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    flat = (every - centre) @ axes.T
    middle, room = (flat.min(0) + flat.max(0)) / 2, 0.56 * float(np.ptp(flat, axis=0).max(initial=1e-9))
    panels[0].set_xlim(middle[0] - room, middle[0] + room)
    panels[0].set_ylim(middle[1] - room, middle[1] + room)
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=4)
    figure.supxlabel("first axis of the states", fontsize=9)
    figure.supylabel("second axis", fontsize=9)


def _plane(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of points and their first two principal axes."""
    if len(points) == 0:
        return np.zeros(points.shape[1]), np.eye(2, points.shape[1])
    centre = points.mean(0)
    axes = np.zeros((2, points.shape[1]))
    found = np.linalg.svd(points - centre, full_matrices=False)[2][:2]
    axes[: len(found)] = found
    return centre, axes


def _draw(axes: Axes, found: AttractorAt, centre: NDArray[np.float64], plane: NDArray[np.float64]) -> None:
    fixed, slow = ((points - centre) @ plane.T for points in (found.fixed, found.slow))
    curve = (found.shape.curve - centre) @ plane.T
    if found.shape.kind == "ring":
        curve = np.append(curve, curve[:1], axis=0)
    axes.plot(*slow.T, ".", color="#888888", markersize=4, label="slow", zorder=2)
    axes.plot(*curve.T, color=COLOURS[4], linewidth=1.2, label="principal curve", zorder=2.5)
    axes.plot(*fixed[found.unstable == 0].T, "o", color=COLOURS[0], markersize=6, label="stable", zorder=3)
    axes.plot(*fixed[found.unstable > 0].T, "X", color=COLOURS[5], markersize=6, label="saddle", zorder=4)
    sizes = {"extent": found.shape.extent, "width": found.shape.width}
    told = [f"{name} {size:.2g}" for name, size in sizes.items() if np.isfinite(size) and size > 0]
    axes.set_title(f"{as_text(found.name)}\n{', '.join([found.shape.kind, *told])}", fontsize=8)
    axes.set_aspect("equal", adjustable="box")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
