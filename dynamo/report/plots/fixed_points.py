"""State space with fixed and slow points, flow and trajectories, and the eigenvalues at the points (Figure 8)."""

import json
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dynamo.analysis.dynamics.fixed_points import FixedPoints
from dynamo.analysis.dynamics.linearisation import Linearisation
from dynamo.analysis.dynamics.portrait import Portrait
from dynamo.contracts.errors import DynamoError
from dynamo.report.plots.map import COLOURS, MARKS
from dynamo.report.plots.picture import LINE, Picture, as_text

#: How marks are outlined; a cross has no outline.
EDGE: dict[bool, dict[str, Any]] = {False: {"edgecolors": "white", "linewidths": 0.8}, True: {"linewidths": 1.2}}
#: The most kinds of points that are told apart by their number of unstable directions.
KINDS = 4


def plot_fixed_points(portrait: Portrait, points: FixedPoints, linearisation: Linearisation, title: str = "") -> Figure:
    """Draw state space in the plane with the flow, in three dimensions, and the eigenvalues.

    Outliers are left out.

    Args:
        portrait: state space.
        points: the points.
        linearisation: of the map at the points, in the same order.
        title: what stands above.
    """
    figure = Picture(figsize=(15.5, 5.6), layout="constrained")
    plane = figure.add_subplot(1, 3, 1)
    space = figure.add_subplot(1, 3, 2, projection="3d")
    circle = figure.add_subplot(1, 3, 3)
    kinds = kinds_of(points, linearisation)
    draw_plane(plane, portrait, points, kinds)
    _draw_space(space, portrait, points, kinds)
    draw_eigenvalues(circle, linearisation, kinds)
    figure.legend(*plane.get_legend_handles_labels(), loc="outside lower center", ncols=KINDS + 3, frameon=False)
    if title:
        figure.suptitle(as_text(title, LINE))
    return figure


def kinds_of(points: FixedPoints, linearisation: Linearisation) -> dict[str, NDArray[np.bool_]]:
    """Names of the kinds of points that there are, and which points are of each; outliers are of none."""
    shown, fixed = ~points.is_outlier.numpy(), points.is_fixed.numpy()
    unstable, stable = linearisation.unstable.numpy(), linearisation.is_stable.numpy()
    kinds = {"stable": fixed & stable, "marginal": fixed & ~stable & (unstable == 0)}
    for number in range(1, KINDS):
        kinds[f"{number} unstable direction{'s' * (number > 1)}"] = fixed & (unstable == number)
    kinds[f"{KINDS} or more unstable directions"] = fixed & (unstable >= KINDS)
    kinds["slow point"] = ~fixed
    return {name: chosen & shown for name, chosen in kinds.items() if (chosen & shown).any()}


def style_of(kind: str) -> tuple[str, str]:
    """Colour and mark of a kind of point."""
    names = ["stable", "1 unstable direction", "2 unstable directions", "3 unstable directions", "marginal"]
    names += [f"{KINDS} or more unstable directions", "slow point"]
    number = names.index(kind)
    return (COLOURS[7], "x") if kind == "slow point" else (COLOURS[number], MARKS[number])


def draw_plane(axes: Axes, portrait: Portrait, points: FixedPoints, kinds: dict[str, NDArray[np.bool_]]) -> None:
    """Draw the flow, the trajectories and the points along the first two components."""
    x, y = portrait.sides
    flow = portrait.flow
    if np.abs(flow).max() > 0:
        axes.streamplot(x, y, flow[..., 0].T, flow[..., 1].T, color="0.82", linewidth=0.7, density=1.1, arrowsize=0.7)
    for number, own in enumerate(portrait.trajectories):
        axes.plot(own[:, 0], own[:, 1], color="0.55", linewidth=0.6, label="trajectories" if number == 0 else None)
    places = portrait.coordinates(points.states)
    for kind, chosen in kinds.items():
        colour, mark = style_of(kind)
        axes.scatter(
            places[chosen, 0], places[chosen, 1], c=colour, marker=mark, s=62, zorder=3, label=kind, **EDGE[mark == "x"]
        )
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel(f"first component ({portrait.shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({portrait.shares[1]:.0%})")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_space(axes: Any, portrait: Portrait, points: FixedPoints, kinds: dict[str, NDArray[np.bool_]]) -> None:
    for own in portrait.trajectories:
        axes.plot(*own.T, color="0.6", linewidth=0.4)
    places = portrait.coordinates(points.states)
    for kind, chosen in kinds.items():
        colour, mark = style_of(kind)
        x, y, z = places[chosen].T
        axes.scatter(x, y, z, c=colour, marker=mark, s=36, depthshade=False)
    names = ("first", "second", "third")
    for name, which, share in zip("xyz", names, portrait.shares, strict=True):
        getattr(axes, f"set_{name}label")(f"{which} ({share:.0%})", labelpad=-8)
        getattr(axes, f"set_{name}ticklabels")([])


def draw_eigenvalues(axes: Axes, linearisation: Linearisation, kinds: dict[str, NDArray[np.bool_]]) -> None:
    """Draw the eigenvalues at the points in the complex plane, with the unit circle."""
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turn), np.sin(turn), color="black", linewidth=0.8)
    axes.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    axes.axvline(0, color="0.85", linewidth=0.6, zorder=0)
    for kind, chosen in kinds.items():
        colour, mark = style_of(kind)
        values = linearisation.eigenvalues.numpy()[chosen].ravel()
        axes.scatter(values.real, values.imag, c=colour, marker=mark, s=16, alpha=0.5, linewidths=0.6)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("real part of the eigenvalues")
    axes.set_ylabel("imaginary part")
    axes.spines[["top", "right"]].set_visible(False)


def turning_page(portrait: Portrait, points: FixedPoints, linearisation: Linearisation, title: str = "") -> str:
    """State space in three dimensions as a web page that needs nothing else; it is turned with the pointer."""
    places = portrait.coordinates(points.states)
    kinds = [
        {"name": kind, "colour": style_of(kind)[0], "places": places[chosen].round(4).tolist()}
        for kind, chosen in kinds_of(points, linearisation).items()
    ]
    axes = [f"{name} ({share:.0%})" for name, share in zip(("first", "second", "third"), portrait.shares, strict=True)]
    lines = [own.round(4).tolist() for own in portrait.trajectories]
    content = {"title": title, "kinds": kinds, "lines": lines, "axes": axes}
    page = Template(files("dynamo.report.plots").joinpath("turning.html").read_text(encoding="utf-8"))
    return page.substitute(content=json.dumps(content, ensure_ascii=False).replace("<", "\\u003c"))


def read_turning_page(page: str, where: str) -> dict[str, Any]:
    """What :func:`turning_page` has written, read back: ``kinds`` (each with ``name`` and ``places``), ``lines``, the
    names of the ``axes`` and the ``title``.

    Args:
        page: its text.
        where: what it is called in messages.

    Raises:
        DynamoError: it is no such page.
    """
    lines = [line for line in page.splitlines() if line.startswith(_CONTENT)]
    try:
        content = json.loads(lines[0].removeprefix(_CONTENT).removesuffix(";"))
        kinds = [{"name": str(kind["name"]), "places": _places(kind["places"])} for kind in content["kinds"]]
        read = {
            "title": str(content["title"]),
            "kinds": kinds,
            "lines": [_places(line) for line in content["lines"]],
            "axes": [str(name) for name in content["axes"]],
        }
    except (IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DynamoError(f"{where} is no page of fixed points ({error!r})") from None
    if len(read["axes"]) != 3 or not any(kind["places"] for kind in kinds):
        raise DynamoError(f"{where} is no page of fixed points: it must have three axes and a point")
    return read


#: How the line of a page begins that holds its content.
_CONTENT = "const content = "


def _places(found: Any) -> list[list[float]]:
    places = np.asarray(found, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(places).all():
        raise ValueError("a place is not finite")
    return [[float(value) for value in place] for place in places]
