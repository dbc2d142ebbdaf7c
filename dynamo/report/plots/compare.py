"""Maps of one population by several methods side by side, and what the clusterers make of each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dynamo.analysis.rivals.compare import Comparison, MethodResult
from dynamo.report.plots.map import COLOURS, MARKS, draw_models, is_scale
from dynamo.report.plots.picture import LINE, Picture, as_text

COLUMNS = 5


def plot_compare(result: Comparison, title: str = "") -> Figure:
    """Draw the layout of every method, coloured by the label, above the adjusted Rand index of every clusterer.

    Args:
        result: the comparison. Methods without figures are named with the reason.
        title: what stands above.
    """
    drawn = [method for method in result.methods if method.layout is not None]
    columns = min(COLUMNS, max(3, len(drawn)))
    rows = -(-len(drawn) // columns)
    below = 1.2 + 0.42 * len(result.methods)
    figure = Picture(figsize=(2.6 * columns + 1.4, 2.7 * rows + below), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[2.7 * rows, below])
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    panels = top.subplots(rows, columns, squeeze=False).ravel()
    for axes, method in zip(panels, drawn, strict=False):
        _draw_layout(axes, method, result.values)
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    if is_scale(result.values):
        scale = ScalarMappable(Normalize(*_limits(result.values)), "viridis")
        top.colorbar(scale, ax=list(panels), label=as_text(result.by), shrink=0.7)
    else:
        handles, labels = panels[0].get_legend_handles_labels()
        top.legend(handles, labels, title=as_text(result.by), frameon=False, loc="outside right upper")
    draw_clusterers(bottom.subplots(), result.methods)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def draw_clusterers(axes: Axes, methods: Sequence[MethodResult]) -> None:
    """A line for each method, a mark on it for each clusterer's adjusted Rand index."""
    names = next(list(method.figures.ari) for method in methods if method.figures is not None)
    offsets = np.linspace(-0.32, 0.32, len(names))
    for number, name in enumerate(names):
        points = [
            (method.figures.ari[name], row + offsets[number])
            for row, method in enumerate(methods)
            if method.figures is not None
        ]
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        x, y = np.array(points).T
        axes.scatter(x, y, c=colour, marker=mark, s=34, label=name, edgecolors="white", linewidths=0.4, zorder=3)
    for row, method in enumerate(methods):
        axes.axhline(row, color="0.9", linewidth=0.8, zorder=1)
        if method.figures is None:
            reason = method.reason if len(method.reason) < 70 else f"{method.reason[:67]} …"
            axes.text(0.02, row, f"no figures: {reason}", va="center", fontsize=8, color="0.35")
    axes.axvline(0, color="0.6", linestyle=":", linewidth=1, zorder=1)
    axes.set_xlim(min(-0.15, axes.get_xlim()[0]), 1.05)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_yticks(range(len(methods)), [method.name for method in methods])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("adjusted Rand index (0 = chance, 1 = the groups)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(title="clusterer", frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _draw_layout(axes: Axes, method: MethodResult, values: Sequence[object]) -> None:
    assert method.layout is not None
    x, y = method.layout.coordinates.T
    if is_scale(values):
        axes.scatter(x, y, c=_numbers(values), cmap="viridis", norm=Normalize(*_limits(values)), s=24)
    else:
        draw_models(axes, np.column_stack([x, y]), "", values, size=30)
    axes.set_title(method.name, fontsize=10)
    axes.set_xlabel(f"stress {method.layout.stress:.2f}", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.12)
    axes.set_aspect("equal", adjustable="datalim")


def _numbers(values: Sequence[object]) -> NDArray[np.float64]:
    return np.array([float(str(value)) for value in values])


def _limits(values: Sequence[object]) -> tuple[float, float]:
    numbers = _numbers(values)
    return float(numbers.min()), float(numbers.max())
