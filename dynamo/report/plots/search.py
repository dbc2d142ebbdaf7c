"""Where a search went on the map, and how its best score grew."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dynamo.analysis.networks.search import Search
from dynamo.report.plots.map import COLOURS, draw_models, legend_title
from dynamo.report.plots.picture import LINE, Picture, as_text


def plot_search(result: Search, label: str | None, values: Sequence[object] | None, title: str = "") -> Figure:
    """Draw the places that were tried among the models, and the best score so far beside it.

    Args:
        result: the search.
        label: the name of the label that colours the models; None for one colour.
        values: the label of each model.
        title: what stands above.
    """
    figure = Picture(figsize=(10.4, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    tried = result.coordinates[result.known :]
    if result.method == "gradient":
        left.plot(*tried.T, color=COLOURS[5], linewidth=1.4, label="path")
    else:
        left.scatter(*tried.T, color="0.6", s=9, linewidths=0, label="places tried")
    draw_models(left, result.model_coordinates, label, values)
    left.scatter(
        *result.coordinates[result.best],
        marker="*",
        s=260,
        c=COLOURS[6],
        edgecolors="black",
        linewidths=1,
        zorder=4,
        label="chosen",
    )
    left.set_xlabel("first component of θ")
    left.set_ylabel("second component of θ")
    left.set_aspect("equal", adjustable="datalim")
    left.legend(title=legend_title(label, values), frameon=False, fontsize=8, loc="best")

    places = np.arange(1, len(result.tuning) + 1)
    right.plot(places, result.tuning, ".", color="0.7", markersize=4, label="each place")
    right.step(places, result.best_so_far, where="post", color=COLOURS[0], linewidth=1.8, label="best so far")
    right.axvline(result.known + 0.5, color="0.6", linestyle=":", linewidth=1)
    right.annotate("models and their mean", (result.known, 0.01), xycoords=("data", "axes fraction"), **_BESIDE)
    right.axhline(
        result.base_tuning[result.chosen], color=COLOURS[5], linestyle="--", linewidth=1.2, label="best base model"
    )
    right.set_xlabel("places scored")
    right.set_ylabel(f"{result.metric} on {result.tuning_size} tuning examples")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


_BESIDE = {"xytext": (5, 0), "textcoords": "offset points", "fontsize": 8, "color": "0.4"}
