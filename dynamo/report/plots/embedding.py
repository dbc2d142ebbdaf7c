"""The map of a fit with new models on it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dynamo.analysis.geometry.spectrum import Spectrum
from dynamo.report.plots.map import draw_points, first_two, legend_title
from dynamo.report.plots.picture import Picture, as_text

#: Up to so many new models are named in the picture.
NAMED = 12


def plot_embedding(
    old: Spectrum,
    label: str | None,
    values: Sequence[object] | None,
    places: NDArray[np.floating],
    names: Sequence[str],
    is_foreign: Sequence[bool],
    *,
    distance: str = "theta",
) -> Figure:
    """Draw new models on an old map: as black crosses, foreign ones as red three-pointed stars.

    Args:
        old: the principal components of the fit's own thetas, or the principal coordinates of its distances.
        label: the name of the label that colours the old points; None for one colour.
        values: the label of each old model.
        places: the new models along the same, ``[M, components]``.
        names: the new models' names.
        is_foreign: which of them are foreign to the map.
        distance: the kind of the distances, for the axes.
    """
    figure = Picture(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    draw_points(axes, old, label, values, distance)
    for points in axes.collections:
        points.set_alpha(0.55)
    xy = first_two(places)
    foreign = np.asarray(is_foreign)
    for chosen, mark, colour, name in ((~foreign, "x", "black", "new"), (foreign, "1", "#B00020", "new and foreign")):
        if chosen.any():
            axes.plot(*xy[chosen].T, mark, color=colour, markersize=10, markeredgewidth=2.2, label=name)
    if len(names) <= NAMED:
        for name, (x, y) in zip(names, xy.tolist(), strict=True):
            axes.annotate(as_text(name), (x, y), xytext=(7, 5), textcoords="offset points", fontsize=8)
    title = legend_title(label, values)
    axes.legend(title=title, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
