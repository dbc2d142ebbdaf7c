"""Word scores over the map (Figure 11), and against accuracy."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamo.analysis.dynamics.word_map import Correlation, WordMap
from dynamo.report.plots.map import COLOURS, draw_models, legend_title
from dynamo.report.plots.picture import LINE, Picture, as_text


def plot_words(result: WordMap, label: str | None, values: Sequence[object] | None) -> Figure:
    """Draw the score over the plane with the base models on it, and score against accuracy.

    Args:
        result: the scores.
        label: the name of the label that colours the models; None for one colour.
        values: the label of each model.
    """
    figure = Picture(figsize=(11.4, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    plane = result.landscape
    finite = result.scores[np.isfinite(result.scores)]
    low = float(np.quantile(finite, 0.05)) if len(finite) else 0.0  # a few poor places leave shades for the others
    drawn = left.pcolormesh(*plane.sides, result.scores.T, cmap="gray", shading="nearest", vmin=low)
    figure.colorbar(drawn, ax=left, label="word score (equation 8)", extend="min", shrink=0.8)
    draw_models(left, plane.model_coordinates, label, values)
    figure.legend(
        *left.get_legend_handles_labels(),
        title=legend_title(label, values),
        frameon=False,
        ncols=4,
        loc="outside lower left",
    )
    left.set_xlabel(as_text(plane.frame.names[0], LINE))
    left.set_ylabel(as_text(plane.frame.names[1], LINE))
    left.set_aspect("equal", adjustable="box")
    _draw_correlation(right, result)
    return figure


def _draw_correlation(axes: Axes, result: WordMap) -> None:
    plane = result.landscape
    axes.plot(
        plane.scores.ravel(),
        result.scores.ravel(),
        ".",
        color="#999999",
        markersize=5,
        label=f"grid: {_words(result.over_grid)}",
    )
    emulators = [np.nan if found is None else found.score for found in result.emulators]
    base_models = [np.nan if found is None else found.score for found in result.base_models]
    axes.plot(
        plane.emulator_scores,
        emulators,
        "o",
        color=COLOURS[0],
        label=f"meta-model at θ_n: {_words(result.over_models)}",
    )
    axes.plot(
        plane.base_scores, base_models, "^", color=COLOURS[5], label=f"base models: {_words(result.over_base_models)}"
    )
    axes.set_xlabel("test score of the task")
    axes.set_ylabel("word score")
    axes.legend(frameon=False, fontsize=8, loc="best")
    axes.spines[["top", "right"]].set_visible(False)


def _words(found: Correlation) -> str:
    return f"ρ = {found.rho:.2f}, p = {found.p:.2g}"
