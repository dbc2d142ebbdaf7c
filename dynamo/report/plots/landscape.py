"""A metric over a plane or a line of the map, with the base models on top (Figure 6)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from dynamo.analysis.networks.landscape import Landscape
from dynamo.report.plots.map import COLOURS, draw_models, legend_title
from dynamo.report.plots.picture import LINE, Picture, as_text


def plot_landscape(result: Landscape, label: str | None, values: Sequence[object] | None, title: str = "") -> Figure:
    """Draw the landscape, the base models coloured by a label, and a star at the best place.

    Args:
        result: the landscape.
        label: the name of the label that colours the models; None for one colour.
        values: the label of each model.
        title: what stands above.
    """
    figure = Picture(figsize=(7.6, 5.6), layout="constrained")
    axes = figure.subplots()
    if len(result.sides) == 1:
        _draw_line(axes, result, label, values)
    else:
        draw_plane(axes, result)
        draw_models(axes, result.model_coordinates, label, values)
        _star(axes, *result.best_coordinates)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, title=legend_title(label, values))
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def draw_plane(axes: Axes, result: Landscape) -> None:
    """Draw the scores of a plane relative to the best base model: light is good, without hues, so that the models'
    colours stand out. A line runs where they equal the best base model, another around the models.
    """
    relative = result.relative.T
    finite = relative[np.isfinite(relative)]
    # The worst few places get the darkest shade together, so that they leave shades for the others.
    low, high = (0.02, 1) if result.more_is_better else (0, 0.98)
    norm = Normalize(*np.quantile(finite, [low, high]))
    shades = "gray" if result.more_is_better else "gray_r"
    x, y = result.sides
    drawn = axes.pcolormesh(x, y, relative, cmap=shades, norm=norm, shading="gouraud")
    axes.figure.colorbar(drawn, ax=axes, label=_relation(result), extend="min" if low else "max")
    level = 1.0 if result.relation == "ratio" else 0.0
    if finite.min() < level < finite.max():
        axes.contour(x, y, relative, levels=[level], colors=COLOURS[5], linewidths=1.4)
        axes.plot([], [], color=COLOURS[5], linewidth=1.4, label="as good as the best base model")
    if result.outline:
        corners = result.model_coordinates[[*result.outline, result.outline[0]]]
        axes.plot(*corners.T, color=COLOURS[4], linestyle="--", linewidth=1.2, label="hull of the base models")
    axes.set_xlabel(as_text(result.frame.names[0], LINE))
    axes.set_ylabel(as_text(result.frame.names[1], LINE))
    axes.set_aspect("equal")
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])


def _draw_line(axes: Axes, result: Landscape, label: str | None, values: Sequence[object] | None) -> None:
    (x,) = result.sides
    axes.plot(x, result.scores, color=COLOURS[0], linewidth=2, label="meta-model")
    axes.axhline(result.reference, color=COLOURS[5], linestyle="--", linewidth=1.2, label="best base model")
    known = np.isfinite(result.base_scores)
    shown = None if values is None else [value for value, there in zip(values, known, strict=True) if there]
    points = np.column_stack([result.model_coordinates[known, 0], result.base_scores[known]])
    draw_models(axes, points, label, shown)
    _star(axes, result.best_coordinates[0], result.scores[result.best])
    axes.set_xlabel(as_text(result.frame.names[0], LINE))
    axes.set_ylabel(f"{result.metric} on {result.examples} test examples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), title=legend_title(label, values))


def _star(axes: Axes, x: float, y: float) -> None:
    axes.scatter(
        x,
        y,
        marker="*",
        s=260,
        c=COLOURS[6],
        edgecolors="black",
        linewidths=1,
        zorder=4,
        label="best place",
        clip_on=False,
    )


def _relation(result: Landscape) -> str:
    how = "divided by" if result.relation == "ratio" else "minus"
    return f"{result.metric} {how} that of the best base model ({result.reference:.3f})"
