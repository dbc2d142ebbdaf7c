"""The maps of several runs over one another, and how far each model's places lie apart."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from dynamo.analysis.geometry.alignment import Alignment
from dynamo.report.plots.map import COLOURS, MARKS, draw_points
from dynamo.report.plots.picture import LINE, Picture, as_text


def plot_alignment(
    result: Alignment,
    names: Sequence[str],
    label: str | None = None,
    values: Sequence[object] | None = None,
    title: str = "",
    *,
    distance: str = "theta",
) -> Figure:
    """Draw the mean map with a line from each mean place to the model's place in each run; beside it the models.

    Args:
        result: the alignment.
        names: of the models.
        label: the name of the label that colours the mean places; None for one colour.
        values: the label of each model.
        title: what stands above.
        distance: the kind of the distances, for the axes.
    """
    figure = Picture(figsize=(11.2, 6.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    draw_lines(left, result)
    draw_points(left, result.mean, label, values, distance)
    left.set_title(f"mean of {len(result.places)} runs; lines to a model's place in each", fontsize="medium")
    draw_distances(right, result, names)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def draw_lines(axes: Axes, result: Alignment) -> None:
    """Draw a line from each model's mean place to its place in each run, along the first two components."""
    shown = min(2, result.places.shape[2])
    ends = np.zeros((*result.places.shape[:2], 2))
    ends[..., :shown] = result.places[..., :shown]
    means = ends.mean(axis=0)
    for number, places in enumerate(ends):
        axes.add_collection(
            LineCollection([*np.stack([means, places], axis=1)], colors="0.75", linewidths=0.8, zorder=0)
        )
        axes.scatter(places[:, 0], places[:, 1], marker=MARKS[number % len(MARKS)], c="0.6", s=10, zorder=0.5)


def draw_distances(axes: Axes, result: Alignment, names: Sequence[str], shown: int = 24) -> None:
    """Draw, for the models whose places differ most, the distances between pairs of runs and their median."""
    order = np.argsort(-result.model_distances, kind="stable")[:shown][::-1]
    rows = np.arange(len(order))
    axes.scatter(result.distances[:, order], np.broadcast_to(rows, (len(result.pairs), len(rows))), c="0.75", s=10)
    axes.scatter(result.model_distances[order], rows, c=COLOURS[0], s=26, label="a model's median")
    axes.axvline(result.distance, color=COLOURS[0], linewidth=1, label="median of all models")
    chance = float(np.median(result.shuffled))
    axes.axvline(chance, color="black", linestyle=":", label="median, models shuffled")
    axes.set_xlim(0, 1.08 * max(chance, float(result.distances[:, order].max())))
    axes.set_yticks(rows, [as_text(names[number]) for number in order], fontsize="x-small")
    axes.set_xlabel("distance between runs / spread of the map")
    some = "all models" if len(order) == len(names) else f"the {len(order)} least stable of {len(names)} models"
    axes.set_title(some, fontsize="medium")
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12))
    axes.spines[["top", "right"]].set_visible(False)
