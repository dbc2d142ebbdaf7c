"""The report on a run: the map as a picture, the tables of embeddings and of fidelity."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from dynamo.analysis.geometry.spectrum import Spectrum, spectrum
from dynamo.analysis.table import columns_of, numbered
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.files import write_bytes
from dynamo.fit.fit import Fit
from dynamo.population.base_model import MetadataValue
from dynamo.report.plots.map import draw_points, plot_map
from dynamo.report.plots.picture import Picture
from dynamo.system.storage import write_csv

#: The table of the thetas and of the map; of all that a fit leaves, it is written last.
EMBEDDING = "embedding.csv"


def write_map(fit: Fit, folder: Path, label: str | None) -> Spectrum:
    """Write ``map.png``, ``map.svg`` and ``embedding.csv``.

    Args:
        fit: the fit.
        folder: where to.
        label: what colours the map; one is chosen where it is None (see :func:`colouring`).
    """
    result = spectrum(fit.theta.double().numpy())
    label = label or colouring(fit.metadata)
    values = fit.values_of(label) if label else None
    figure = plot_map(result, label, values, f"{len(fit.names)} models, embedding in {fit.theta.shape[1]} dimensions")
    write_figure(figure, folder, "map")
    keys = sorted({key for table in fit.metadata for key in table})
    theta, components = numbered("theta", fit.theta.shape[1]), numbered("pc", len(result.shares))
    columns = ["name", *columns_of(keys, ["name", *theta, *components]), *theta, *components]
    rows = [
        [name, *(table.get(key, "") for key in keys), *own, *place]
        for name, table, own, place in zip(
            fit.names, fit.metadata, fit.theta.tolist(), result.coordinates.tolist(), strict=True
        )
    ]
    write_csv(folder / EMBEDDING, columns, rows)
    return result


def draw_map(fit: Fit, by: str | None = None, ax: Axes | None = None, distance: str | None = None) -> Axes:
    """Draw the map of a fit; see :meth:`dynamo.Fit.plot`."""
    check_key(fit.metadata, by)
    key = by or colouring(fit.metadata)
    apart = fit.distances("theta" if distance is None and fit.probes is None else distance)
    if ax is None:
        ax = plt.figure(FigureClass=Picture, layout="constrained").subplots()
    draw_points(ax, spectrum(apart.points), key, fit.values_of(key) if key else None)
    ax.set_title(apart.describe(), fontsize="small")
    for text in ax.findobj(Text):  # names are no formulas
        assert isinstance(text, Text)
        text.set_parse_math(False)
    return ax


def write_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a picture as ``NAME.png`` and ``NAME.svg``."""
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        with rc_context({"svg.hashsalt": name}):  # without it, matplotlib draws the names of parts at random
            figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        write_bytes(folder / f"{name}.{kind}", buffer.getvalue())


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
