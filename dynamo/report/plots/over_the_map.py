"""How attractors change over the map: their figures along a way, or their sizes and distances from one another."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynamo.analysis.dynamics.attractor_map import AttractorMap
from dynamo.report.plots.map import COLOURS, MARKS
from dynamo.report.plots.picture import Picture, as_entry, as_text


def plot_over_the_map(result: AttractorMap) -> Figure:
    """Draw length, width and the numbers of fixed points along a way; for places without an order, length against
    width, and how far the attractors lie from one another.
    """
    return _along(result) if result.places.in_order else _apart(result)


def _along(result: AttractorMap) -> Figure:
    figure = Picture(figsize=(6.4, 5.6), layout="constrained")
    sizes, numbers = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
    x = np.arange(len(result.attractors))
    for number, name in enumerate(("length", "width")):
        values = [getattr(found.shape, name) for found in result.attractors]
        sizes.plot(x, values, marker=MARKS[number], color=COLOURS[number], label=name)
    sizes.set_ylim(bottom=0)
    sizes.set_ylabel("units of the state")
    for number, name in enumerate(("stable", "saddles")):
        values = [getattr(found, name) for found in result.attractors]
        numbers.step(x, values, where="mid", color=COLOURS[(0, 5)[number]], linestyle=("-", "--")[number], label=name)
    numbers.set_ylim(bottom=-0.1)
    numbers.yaxis.set_major_locator(MaxNLocator(integer=True))
    numbers.set_ylabel("fixed points")
    numbers.set_xticks(x, [as_text(name) for name in result.places.names], rotation=45, ha="right")
    for axes in (sizes, numbers):
        for one, other in result.bifurcations:
            axes.axvline((one + other) / 2, color="#888888", linestyle=":", linewidth=0.9, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _apart(result: AttractorMap) -> Figure:
    figure = Picture(figsize=(10.4, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    _draw_sizes(left, result)
    groups = [group or "" for group in result.places.groups]
    order = np.argsort(np.array([group or "~" for group in groups]), kind="stable")
    drawn = right.imshow(result.chamfer[np.ix_(order, order)], cmap="viridis_r", vmin=0)
    figure.colorbar(drawn, ax=right, label="chamfer distance (1 = the widest visited set)", shrink=0.85)
    names = [as_text(result.places.names[place]) for place in order]
    if len(names) <= 30:
        right.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        right.set_yticks(range(len(names)), names, fontsize=7)
    ends = [row for row in range(1, len(order)) if groups[order[row]] != groups[order[row - 1]]]
    for end in ends:
        right.axhline(end - 0.5, color="white", linewidth=1.2)
        right.axvline(end - 0.5, color="white", linewidth=1.2)
    return figure


def _draw_sizes(axes: Axes, result: AttractorMap) -> None:
    for number, group in enumerate(dict.fromkeys(result.places.groups)):
        chosen = [place for place, own in enumerate(result.places.groups) if own == group]
        shapes = [result.attractors[place].shape for place in chosen]
        colour = "black" if group is None else COLOURS[number % len(COLOURS)]
        mark, size = ("*", 90) if group is None else (MARKS[number % len(MARKS)], 42)
        width, length = [shape.width for shape in shapes], [shape.length for shape in shapes]
        axes.scatter(
            width,
            length,
            label="other places" if group is None else as_entry(group),
            edgecolors="white",
            linewidths=0.6,
            c=colour,
            marker=mark,
            s=size,
        )
        if group is None:
            for place, x, y in zip(chosen, width, length, strict=True):
                axes.annotate(
                    as_text(result.places.names[place]),
                    (x, y),
                    (0, 9),
                    textcoords="offset points",
                    fontsize=7,
                    ha="center",
                )
    axes.set_xlabel("width")
    axes.set_ylabel("length")
    for limit, name in ((axes.set_xlim, "width"), (axes.set_ylim, "length")):
        limit(0, 1.25 * np.nanmax([getattr(found.shape, name) for found in result.attractors] + [1e-9]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
