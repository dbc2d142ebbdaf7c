"""Pictures of averages: scores along the ways between two models, and of the averages of subsets."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynamo.analysis.networks.averages import Average, Between
from dynamo.report.plots.map import COLOURS, MARKS
from dynamo.report.plots.picture import Picture, as_text

#: What each way is called, its colour and its line.
WAYS = {
    "line": ("line on the map", COLOURS[0], "-"),
    "geodesic": ("geodesic on the map", COLOURS[4], "-"),
    "ensemble": ("ensemble of outputs", COLOURS[2], "--"),
    "parameters": ("averaged weights", COLOURS[5], ":"),
}
#: What the averages of a subset are called, the attributes that hold their scores, and the colours.
AVERAGES = {
    "mean of θ": ("emulator_score", COLOURS[0]),
    "ensemble of outputs": ("ensemble_score", COLOURS[2]),
    "averaged weights": ("parameters_score", COLOURS[5]),
    "best base model": ("base_best", COLOURS[7]),
    "mean of base models": ("base_mean", "#888888"),
}


def plot_between(result: Between) -> Figure:
    """Draw the scores along each way from A to B; the black dots are the base models of A and of B."""
    figure = Picture(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for way in result.ways:
        if way.scores is not None:
            name, colour, style = WAYS[way.name]
            axes.plot(result.alphas, way.scores, style, color=colour, label=name, linewidth=2)
    for place, scores in zip((0, 1), result.base_scores, strict=True):
        label = "base models" if place == 0 or not len(result.base_scores[0]) else None
        axes.plot(np.full(len(scores), place), scores, "o", color="black", markersize=5, label=label, clip_on=False)
    axes.set_xticks([0, 0.5, 1], [as_text(result.ends[0]), "half of each", as_text(result.ends[1])])
    axes.set_ylabel("test score")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_subsets(averages: Sequence[Average]) -> Figure:
    """Draw, in a row for each subset, the scores of its averages and of its base models."""
    figure = Picture(figsize=(7.2, 1.8 + 0.6 * len(averages)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(averages))
    for row in rows[1:]:
        axes.axhline(row - 0.5, color="#cccccc", linewidth=0.6)
    for number, (name, (attribute, colour)) in enumerate(AVERAGES.items()):
        scores = [getattr(average, attribute) for average in averages]
        known = [row for row in rows if scores[row] is not None]
        heights = [row + 0.15 * (number - 2) for row in known]  # each in its own lane, so that none hides another
        axes.plot([scores[row] for row in known], heights, MARKS[number], color=colour, markersize=6, label=name)
    axes.set_yticks(rows, [f"{as_text(average.of)} ({average.models})" for average in averages])
    axes.set_ylim(len(averages) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("test score")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    return figure
