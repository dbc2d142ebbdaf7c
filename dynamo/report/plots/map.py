"""The first picture: the map of the models above its spectrum (the two rows of Figure 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dynamo.analysis.geometry.order import Trend
from dynamo.analysis.geometry.spectrum import Spectrum
from dynamo.report.plots.picture import LINE, Picture, as_entry, as_text

# Okabe and Ito's palette, which colour-blind readers can tell apart; the marks differ too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


#: The most bars of a spectrum.
BARS = 40


def plot_map(
    result: Spectrum,
    label: str | None,
    values: Sequence[object] | None,
    title: str = "",
    *,
    distance: str = "theta",
    lines: Sequence[Sequence[int]] = (),
    trend: Trend | None = None,
) -> Figure:
    """Draw the map and the spectrum.

    Args:
        result: the principal components of the thetas, or the principal coordinates of distances.
        label: the name of the label that colours the points; None for one colour.
        values: the label of each model. Numbers with many different values get a colour scale, everything else a
            legend.
        title: what stands above.
        distance: the kind of the distances, for the axes.
        lines: the numbers of models that are joined by a line, in order.
        trend: of the label, for an arrow; None for none.
    """
    figure = Picture(figsize=(6.4, 7.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[2.4, 1])
    draw_points(top, result, label, values, distance)
    draw_order(top, result, lines, trend)
    draw_spectrum(bottom, result, "component" if distance == "theta" else "coordinate")
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def draw_points(
    axes: Axes, result: Spectrum, label: str | None, values: Sequence[object] | None, distance: str = "theta"
) -> None:
    """Draw the models along the first two components; see :func:`plot_map`."""
    draw_models(axes, first_two(result.coordinates), label, values, size=52)
    title = legend_title(label, values)
    if title is not None:
        axes.legend(title=title, frameon=False)
    label_axes(axes, result, distance)


def label_axes(axes: Axes, result: Spectrum, distance: str) -> None:
    """Say what the two axes are and how much they hold, and give both the same scale."""
    shares = [*result.shares, 0.0, 0.0]
    of = "component of θ" if distance == "theta" else f"coordinate of the {as_text(distance)} distances"
    axes.set_xlabel(f"first {of} ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second {of} ({shares[1]:.0%})")
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)


def draw_models(
    axes: Axes,
    xy: NDArray[np.floating],
    label: str | None,
    values: Sequence[object] | None,
    size: float = 58,
    scale: bool | None = None,
) -> None:
    """Draw models as points ``[N, 2]``, with a legend entry for each value of the label, or a colour scale (where
    ``scale`` is None, :func:`is_scale` decides). Above 200 models the points are the smaller the more there are, so
    that they do not hide one another.
    """
    shrink = min(1.0, (200 / len(xy)) ** 0.5)
    edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.9 * shrink, "s": size * shrink, "zorder": 3}
    if label is None or values is None:
        axes.scatter(xy[:, 0], xy[:, 1], c=COLOURS[0], label="base models", **edge)
    elif is_scale(values) if scale is None else scale:
        numbers = np.array([float(str(value)) for value in values])
        drawn = axes.scatter(xy[:, 0], xy[:, 1], c=numbers, cmap="viridis", norm=Normalize(), **edge)
        axes.figure.colorbar(drawn, ax=axes, label=as_text(label))
    else:
        groups = np.array([str(value) for value in values])
        for number, group in enumerate(np.unique(groups)):
            colour, mark = COLOURS[number % len(COLOURS)], MARKS[(number // len(COLOURS) + number) % len(MARKS)]
            own = groups == group
            axes.scatter(xy[own, 0], xy[own, 1], c=colour, marker=mark, label=as_entry(group), **edge)


def draw_order(axes: Axes, result: Spectrum, lines: Sequence[Sequence[int]], trend: Trend | None) -> None:
    """Draw lines between models, and an arrow in the direction in which a number rises over the map, if it does."""
    xy = first_two(result.coordinates)
    for line in lines:
        axes.plot(*xy[list(line)].T, color="0.6", linewidth=1, zorder=1)
    if trend is not None and trend.is_clear:
        low, high = xy.min(axis=0), xy.max(axis=0)
        arrow = np.array(trend.direction) * 0.25 * float((high - low).max())
        start = (low + high) / 2 - arrow / 2
        axes.annotate(
            "",
            start + arrow,
            start,
            arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1.6, "mutation_scale": 18},
            zorder=4,
        )


def first_two(coordinates: NDArray[np.floating]) -> NDArray[np.float64]:
    """The first two columns, ``[N, 2]``; zeros for those that there are not."""
    xy = np.zeros((len(coordinates), 2))
    shown = min(2, coordinates.shape[1])
    xy[:, :shown] = coordinates[:, :shown]
    return xy


def draw_spectrum(axes: Axes, result: Spectrum, what: str = "component") -> None:
    """Draw each component's share of the variance, and the line at which 95 % are explained."""
    count = result.components_for(0.95)
    positions = np.arange(1, min(len(result.shares), BARS) + 1)
    axes.bar(positions, result.shares[:BARS], color=COLOURS[0])
    if 0 < count <= len(positions):
        axes.axvline(count + 0.5, linestyle=":", color="black")
        right = count < len(positions) / 2  # where there is room for the words
        axes.annotate(
            f"95 % in {count}",
            (count + 0.5, 0.9),
            xycoords=("data", "axes fraction"),
            xytext=(5 if right else -5, 0),
            textcoords="offset points",
            ha="left" if right else "right",
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(what)
    axes.set_ylabel("share of variance")
    axes.spines[["top", "right"]].set_visible(False)


def is_scale(values: Sequence[object]) -> bool:
    """Whether labels are numbers with so many different values that a colour scale serves better than a legend."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numeric and len(set(values)) > len(COLOURS) - 2


def legend_title(label: str | None, values: Sequence[object] | None) -> str | None:
    """The label as the title of a legend, where the models' colours stand in it and not in a colour scale."""
    return None if label is None or values is None or is_scale(values) else as_text(label)
