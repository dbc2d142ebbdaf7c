"""The report on a run: the map as a picture, the tables of embeddings and of fidelity."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from dynamo.analysis.geometry.order import sequences, trend
from dynamo.analysis.geometry.spectrum import Spectrum, spectrum
from dynamo.analysis.table import columns_of, numbered
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.files import write_bytes
from dynamo.fit.fit import Fit
from dynamo.population.base_model import MetadataValue
from dynamo.report.coordinates import MapCoordinates, map_coordinates
from dynamo.report.plots.map import draw_order, draw_points, is_scale, plot_map
from dynamo.report.plots.picture import Picture
from dynamo.system.storage import write_csv

#: The table of the thetas and of the map; of all that a fit leaves, it is written last.
EMBEDDING = "embedding.csv"


def write_map(fit: Fit, folder: Path, label: str | None, distance: str | None = None) -> MapCoordinates:
    """Write ``map.png``, ``map.svg`` and ``embedding.csv``.

    The table has for each model its metadata, its θ (``theta_1`` …), the principal components of θ (``pc_1`` …) and,
    unless the map is drawn by θ, the first coordinates that it is drawn from, named after the kind of distance
    (``combined_1`` …), as many as θ has.

    Args:
        fit: the fit.
        folder: where to.
        label: what colours the map; one is chosen where it is None (see :func:`colouring`).
        distance: the kind that the map is drawn by; the default where it is None, see
            :func:`~dynamo.report.coordinates.map_coordinates`.
    """
    drawn, components = map_coordinates(fit, distance), spectrum(fit.theta.double().numpy())
    label = label or colouring(fit.metadata)
    values = fit.values_of(label) if label else None
    figure = plot_map(
        drawn.places,
        label,
        values,
        f"{len(fit.names)} models, embedding in {fit.theta.shape[1]} dimensions",
        distance=drawn.kind,
        **over_the_points(fit, drawn.places, label),
    )
    write_figure(figure, folder, "map")
    keys = sorted({key for table in fit.metadata for key in table})
    parts = {"theta": fit.theta.double().numpy(), "pc": components.coordinates}
    if drawn.distances is not None and drawn.kind != "theta":
        parts[drawn.kind] = drawn.distances.coordinates(components.coordinates.shape[1])
    numbers = [name for part, own in parts.items() for name in numbered(part, own.shape[1])]
    columns = ["name", *columns_of(keys, ["name", *numbers]), *numbers]
    rows = [
        [name, *(table.get(key, "") for key in keys), *own]
        for name, table, own in zip(fit.names, fit.metadata, np.hstack([*parts.values()]).tolist(), strict=True)
    ]
    write_csv(folder / EMBEDDING, columns, rows)
    return drawn


def over_the_points(fit: Fit, places: Spectrum, label: str | None) -> dict[str, Any]:
    """What a map shows of metadata with a scale beside the points: lines and the trend, as
    :func:`~dynamo.report.plots.map.plot_map` takes them.
    """
    if label is None or not is_scale(fit.values_of(label)):
        return {}
    return {"lines": sequences(fit.metadata, label), "trend": trend(places.coordinates, fit.values_of(label))}


def draw_map(fit: Fit, by: str | None = None, ax: Axes | None = None, distance: str | None = None) -> Axes:
    """Draw the map of a fit; see :meth:`dynamo.Fit.plot`."""
    check_key(fit.metadata, by)
    key = by or colouring(fit.metadata)
    drawn = map_coordinates(fit, distance)
    if ax is None:
        ax = plt.figure(FigureClass=Picture, layout="constrained").subplots()
    draw_points(ax, drawn.places, key, fit.values_of(key) if key else None, drawn.kind)
    order = over_the_points(fit, drawn.places, key)
    draw_order(ax, drawn.places, order.get("lines", ()), order.get("trend"))
    for text in ax.findobj(Text):  # names are no formulas
        assert isinstance(text, Text)
        text.set_parse_math(False)
    return ax


def write_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a picture as ``NAME.png`` and ``NAME.svg``."""
    for kind in ("png", "svg"):
        write_bytes(folder / f"{name}.{kind}", picture_of(figure, name, kind))


def picture_of(figure: Figure, name: str = "picture", kind: str = "png") -> bytes:
    """A picture as the content of a file.

    Args:
        figure: what is drawn.
        name: the same name and figure give the same SVG.
        kind: png or svg.
    """
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": name}):  # without it, matplotlib draws the names of parts at random
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def colouring(tables: Sequence[Mapping[str, MetadataValue]]) -> str | None:
    """The label that tells most about a population at a glance: of those that all models have, the one with fewest
    values above one.

    Ties go to the first of: architecture, task, augmentation, fraction, epoch, then the alphabet. ``seed`` and
    ``score`` come last.
    """
    shared = set.intersection(*(set(table) for table in tables))
    varied = {key: len({str(table[key]) for table in tables}) for key in shared}
    order = ("architecture", "task", "augmentation", "fraction", "epoch")

    def rank(key: str) -> tuple[bool, bool, int, int, str]:
        first = order.index(key) if key in order else len(order)
        return key in ("seed", "score"), varied[key] > 12 and key != "epoch", varied[key], first, key

    return min((key for key, count in varied.items() if count > 1), key=rank, default=None)


def check_grouping(tables: Sequence[Mapping[str, MetadataValue]], key: str) -> None:
    """Check that models share values of a piece of metadata, so that these can name groups.

    Args:
        tables: the metadata of each model.
        key: its name.

    Raises:
        DynamoError: what :func:`check_key` finds, or a value for each model; it says what to ask instead.
    """
    check_key(tables, key)
    values = [table[key] for table in tables]
    if len(tables) < 2 or len(set(map(str, values))) < len(tables):
        return
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        what = f"whether a number follows the map is asked with `dynamo analyse order RUN --by {key}`"
    else:
        shared = sorted(set.intersection(*(set(table) for table in tables)))
        good = [name for name in shared if 1 < len({str(table[name]) for table in tables}) < len(tables)]
        what = (
            f"choose a key whose values some models share: {', '.join(good)}" if good else "the models have no such key"
        )
    raise DynamoError(
        f"{key!r} has a value of its own for each of the {len(tables)} models, and names no groups; {what}"
    )


def check_key(tables: Sequence[Mapping[str, MetadataValue]], key: str | None) -> None:
    """Check that every model has metadata of that name, where one is given.

    Args:
        tables: the metadata of each model.
        key: its name.

    Raises:
        DynamoError: no model has it, or some lack it.
    """
    if key is None:
        return
    known = {name for table in tables for name in table}
    if key not in known:
        raise DynamoError(f"no metadata is called {key!r}: {did_you_mean(key, known)}")
    lacking = sum(key not in table for table in tables)
    if lacking:
        raise DynamoError(f"{lacking} of {len(tables)} models have no metadata {key!r}: choose a key that all have")
