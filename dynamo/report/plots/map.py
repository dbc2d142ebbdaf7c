"""The first picture: the map of the models above its spectrum (the two rows of Figure 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dynamo.analysis.geometry.spectrum import Spectrum
from dynamo.report.plots.picture import LINE, Picture, as_entry, as_text

# Okabe and Ito's palette, which colour-blind readers can tell apart; the marks differ too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot_map(result: Spectrum, label: str | None, values: Sequence[object] | None, title: str = "") -> Figure:
    """Draw the map and the spectrum.

    Args:
        result: the principal components of the thetas.
        label: the name of the label that colours the points; None for one colour.
        values: the label of each model. Numbers with many different values get a colour scale, everything else a
            legend.
        title: what stands above.
    """
    figure = Picture(figsize=(6.4, 7.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[2.4, 1])
    draw_points(top, result, label, values)
    draw_spectrum(bottom, result)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def draw_points(axes: Axes, result: Spectrum, label: str | None, values: Sequence[object] | None) -> None:
    """Draw the models along the first two components; see :func:`plot_map`."""
    xy = np.zeros((len(result.coordinates), 2))
    shown = min(2, result.coordinates.shape[1])
    xy[:, :shown] = result.coordinates[:, :shown]
    draw_models(axes, xy, label, values, size=52)
    title = legend_title(label, values)
    if title is not None:
        axes.legend(title=title, frameon=False)
    shares = [*result.shares, 0.0, 0.0]
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({shares[1]:.0%})")
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)


def draw_models(
    axes: Axes, xy: NDArray[np.floating], label: str | None, values: Sequence[object] | None, size: float = 58
) -> None:
    """Draw models as points ``[N, 2]``, with a legend entry for each value of the label, or a colour scale. Above 200
    models the points are the smaller the more there are, so that they do not hide one another.
    """
    shrink = min(1.0, (200 / len(xy)) ** 0.5)
    edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.9 * shrink, "s": size * shrink, "zorder": 3}
    if label is None or values is None:
        axes.scatter(xy[:, 0], xy[:, 1], c=COLOURS[0], label="base models", **edge)
    elif is_scale(values):
        numbers = np.array([float(str(value)) for value in values])
        drawn = axes.scatter(xy[:, 0], xy[:, 1], c=numbers, cmap="viridis", norm=Normalize(), **edge)
        axes.figure.colorbar(drawn, ax=axes, label=as_text(label))
    else:
        groups = np.array([str(value) for value in values])
        for number, group in enumerate(np.unique(groups)):
            colour, mark = COLOURS[number % len(COLOURS)], MARKS[(number // len(COLOURS) + number) % len(MARKS)]
            own = groups == group
            axes.scatter(xy[own, 0], xy[own, 1], c=colour, marker=mark, label=as_entry(group), **edge)


def draw_spectrum(axes: Axes, result: Spectrum) -> None:
    """Draw each component's share of the variance, and the line at which 95 % are explained."""
    count = result.components_for(0.95)
    positions = np.arange(1, len(result.shares) + 1)
    axes.bar(positions, result.shares, color=COLOURS[0])
    if count:
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
    axes.set_xlabel("component")
    axes.set_ylabel("share of variance")
    axes.spines[["top", "right"]].set_visible(False)


def is_scale(values: Sequence[object]) -> bool:
    """Whether labels are numbers with so many different values that a colour scale serves better than a legend."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numeric and len(set(values)) > len(COLOURS) - 2


def legend_title(label: str | None, values: Sequence[object] | None) -> str | None:
    """The label as the title of a legend, where the models' colours stand in it and not in a colour scale."""
    return None if label is None or values is None or is_scale(values) else as_text(label)
