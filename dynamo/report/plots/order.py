"""A number over the map, and what each model's neighbours say that it is."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from dynamo.analysis.geometry.order import Order
from dynamo.report.plots.map import draw_models, draw_order, first_two, label_axes
from dynamo.report.plots.picture import LINE, Picture, as_text


def plot_order(
    result: Order, key: str, lines: Sequence[Sequence[int]] = (), title: str = "", *, distance: str = "theta"
) -> Figure:
    """Draw the map, coloured by the number, with lines between the models of a sequence and an arrow of the trend;
    beside it the number of each model against what its neighbours say.

    Args:
        result: the order.
        key: of the number.
        lines: the numbers of models that are joined by a line, in order.
        title: what stands above.
        distance: the kind of the distances, for the axes.
    """
    figure = Picture(figsize=(11.2, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    draw_models(left, first_two(result.places.coordinates), key, result.values.tolist(), size=52, scale=True)
    draw_order(left, result.places, lines, result.trend)
    label_axes(left, result.places, distance)
    low, high = float(result.values.min()), float(result.values.max())
    right.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
    right.scatter(result.values, result.predicted, c=result.values, cmap="viridis", edgecolors="white", linewidths=0.7)
    right.set_xlabel(as_text(key))
    right.set_ylabel(f"mean of the {result.neighbours} nearest models")
    right.set_title(f"R² {result['neighbours'].value:.2f}, p = {result['neighbours'].p_value:.2g}", fontsize="medium")
    right.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure
