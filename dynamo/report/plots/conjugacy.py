"""Pictures of conjugacy: the residuals at three places of the map, and how state maps carry models onto one another."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from dynamo.analysis.dynamics.conjugacy import PLACES, Conjugacy
from dynamo.analysis.dynamics.transport import Transport
from dynamo.report.plots.map import COLOURS, MARKS
from dynamo.report.plots.picture import TICK, Picture, as_entry, as_text


def plot_conjugacy(result: Conjugacy, carried: Transport) -> Figure:
    """Draw a panel of residuals for each number of steps, and the matrix of what V_m V_n⁺ leaves unexplained.

    Args:
        result: the residuals.
        carried: the matrix, of the same models.
    """
    count = len(result.steps)
    figure = Picture(figsize=(2.9 * count + 5.2, 4.6), layout="constrained")
    axes = figure.subplots(1, count + 1, width_ratios=[1] * count + [1.5])
    for number, (panel, k) in enumerate(zip(axes[:count], result.steps, strict=True)):
        _draw_residuals(panel, result, number)
        panel.set_title(f"{k} step{'s' if k > 1 else ''}", fontsize=10)
    axes[0].set_ylabel("residual (1 = standing still)")
    axes[0].legend(title="group", frameon=False, fontsize=8, loc="upper left")
    known = result.residual[np.isfinite(result.residual)].clip(1e-12)
    for panel in axes[:count] if len(known) else []:
        panel.set_ylim(known.min() / 1.2, known.max() * 1.2)
    _draw_carried(axes[-1], carried)
    return figure


def _draw_residuals(axes: Axes, result: Conjugacy, number: int) -> None:
    groups = sorted(set(result.groups))
    for row, group in enumerate(groups):
        colour, mark = COLOURS[row % len(COLOURS)], MARKS[row % len(MARKS)]
        for model in np.flatnonzero([own == group for own in result.groups]):
            label = as_entry(group, TICK) if model == result.groups.index(group) else None
            values = result.residual[model, :, number].clip(1e-12)
            axes.plot(range(len(PLACES)), values, marker=mark, color=colour, label=label, linewidth=0.9, markersize=5)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xticks(range(len(PLACES)), [place.replace(" ", "\n") for place in PLACES])
    axes.set_xlim(-0.3, len(PLACES) - 0.7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_carried(axes: Axes, result: Transport) -> None:
    order = np.argsort(np.array(result.groups), kind="stable")
    drawn = axes.imshow(result.carried[np.ix_(order, order)], cmap="viridis", vmin=0, vmax=1)
    figure = axes.figure
    figure.colorbar(drawn, ax=axes, label="share of variance left unexplained", shrink=0.8, extend="max")
    groups = np.array(result.groups)[order]
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
    middles = (starts + np.append(starts[1:], len(groups)) - 1) / 2
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="white", linewidth=1.5)
        axes.axvline(start - 0.5, color="white", linewidth=1.5)
    names = [as_text(group, TICK) for group in groups[starts]]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.set_xlabel("carried to the model …")
    axes.set_ylabel("states of the model …")
    axes.set_title("carried by Vₘ Vₙ⁺", fontsize=10)
