"""The way of θ over the landscape (Figure 7), and what each method made of the same few labels."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamo.analysis.networks.few_labels import FewLabels
from dynamo.analysis.networks.landscape import Landscape
from dynamo.report.plots.landscape import draw_plane
from dynamo.report.plots.map import COLOURS, draw_models, legend_title
from dynamo.report.plots.picture import LINE, Picture, as_text


def plot_few_labels(
    result: FewLabels,
    background: Landscape | None,
    label: str | None,
    values: Sequence[object] | None,
    title: str = "",
) -> Figure:
    """Draw the ways of θ on every draw of the labels, and every method's score with its 95 % interval.

    Args:
        result: what was learned.
        background: the landscape of a plane, on which the ways are drawn; None where the map has no plane.
        label: the name of the label that colours the models; None for one colour.
        values: the label of each model.
        title: what stands above.
    """
    if background is None:
        figure = Picture(figsize=(6.4, 3.6), layout="constrained")
        draw_methods(figure.subplots(), result)
    else:
        figure = Picture(figsize=(12.4, 5.6), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1], squeeze=False)[0]
        draw_paths(left.subplots(), result, background, label, values)
        left.legend(loc="outside lower center", ncols=3, frameon=False, title=legend_title(label, values))
        draw_methods(right.subplots(), result)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def draw_paths(
    axes: Axes, result: FewLabels, background: Landscape, label: str | None, values: Sequence[object] | None
) -> None:
    """Draw the way of θ on each draw, as far as cross-validation let it go, over the landscape."""
    draw_plane(axes, background)
    draw_models(axes, background.model_coordinates, label, values)
    end: dict[str, Any] = {"s": 90, "color": OWN, "linewidths": 2.2, "zorder": 4}
    for number, (path, steps) in enumerate(zip(result.thetas, result.steps, strict=True)):
        way = background.frame.coordinates(path[: steps + 1])
        axes.plot(*way.T, color="white", linewidth=3, solid_capstyle="round")
        axes.plot(*way.T, color=OWN, linewidth=1.5, label="way of θ, one a draw" if number == 0 else None)
        axes.scatter(way[-1, 0], way[-1, 1], marker="x", label="its end" if number == 0 else None, **end)


def draw_methods(axes: Axes, result: FewLabels) -> None:
    """Draw each method's mean score and its interval, in a row of its own."""
    shown = [method for method in result.methods if method.score is not None]
    for row, method in enumerate(shown):
        assert method.score is not None
        colour = OWN if row == 0 else COLOURS[0]
        axes.plot([method.score.low, method.score.high], [row, row], color=colour, linewidth=2.4)
        axes.plot(method.score.mean, row, "o", color=colour, markersize=7)
    axes.axvline(shown[0].score.mean if shown[0].score else 0.0, color=OWN, linestyle=":", linewidth=1, zorder=0)
    axes.set_yticks(range(len(shown)), [method.name for method in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel(f"test score, {result.labels} labels, {len(result.steps)} draws\n(mean and 95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)


#: The colour of θ-learning.
OWN = COLOURS[3]
