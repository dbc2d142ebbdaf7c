"""The report on a run: the map as a picture, the tables of embeddings and of fidelity."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from matplotlib.figure import Figure

from dynamo.analysis.spectrum import Spectrum, spectrum
from dynamo.errors import DynamoError, did_you_mean, has_control_characters
from dynamo.fidelity import Fidelity, ModelFidelity
from dynamo.fit import Fit, saved_digest
from dynamo.plots.map import plot_map
from dynamo.population import Label
from dynamo.storage import read_bytes, write_bytes, write_csv

FIDELITY = "fidelity.csv"
FIDELITY_COLUMNS = tuple(field.name for field in attrs.fields(ModelFidelity))


def write_map(fit: Fit, folder: Path, label: str | None) -> Spectrum:
    """Write ``map.png``, ``map.svg`` and ``embedding.csv``.

    Args:
        fit: the fit.
        folder: where to.
        label: what colours the map; one is chosen where it is None (see :func:`colouring`).
    """
    result = spectrum(fit.theta.double().numpy())
    label = label or colouring(fit.labels)
    values = fit.label(label) if label else None
    figure = plot_map(result, label, values, f"{len(fit.names)} models, embedding in {fit.theta.shape[1]} dimensions")
    write_figure(figure, folder, "map")
    keys = sorted({key for labels in fit.labels for key in labels})
    columns = [
        "name",
        *keys,
        *(f"theta_{i + 1}" for i in range(fit.theta.shape[1])),
        *(f"pc_{i + 1}" for i in range(len(result.shares))),
    ]
    rows = [
        [name, *(labels.get(key, "") for key in keys), *theta, *place]
        for name, labels, theta, place in zip(
            fit.names, fit.labels, fit.theta.tolist(), result.coordinates.tolist(), strict=True
        )
    ]
    write_csv(folder / "embedding.csv", columns, rows)
    return result


def write_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a picture as ``NAME.png`` and ``NAME.svg``."""
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        write_bytes(folder / f"{name}.{kind}", buffer.getvalue())


def colouring(tables: Sequence[Mapping[str, Label]]) -> str | None:
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


def write_fidelity(result: Fidelity, folder: Path) -> None:
    """Write ``fidelity.csv``: a row per model and a row of means."""
    rows = [attrs.astuple(model) for model in result.models]
    means = ["(mean)", *(result.mean(column) for column in FIDELITY_COLUMNS[1:])]
    write_csv(folder / FIDELITY, FIDELITY_COLUMNS, [*rows, means])


def read_fidelity(folder: Path) -> Fidelity:
    """Read ``fidelity.csv`` back.

    Raises:
        DynamoError: it is missing or damaged.
    """
    path = folder / FIDELITY
    content = read_bytes(path, saved_digest(folder, FIDELITY))
    try:
        rows = list(csv.DictReader(content.decode().splitlines()))
        models = [ModelFidelity(row["name"], *(float(row[column]) for column in FIDELITY_COLUMNS[1:])) for row in rows]
        if models.pop().name != "(mean)" or any(has_control_characters(model.name) for model in models):
            raise ValueError("its last row is not (mean), or a name has control characters")
    except (KeyError, IndexError, ValueError, TypeError, csv.Error) as error:
        raise DynamoError(f"{path} is damaged ({error!r}): make it again with `dynamo fit`") from None
    return Fidelity(tuple(models))


def check_label(fit: Fit, label: str | None) -> None:
    """Raise a clear error where the label is not one that every model has."""
    if label is not None:
        known = {key for labels in fit.labels for key in labels}
        if label not in known:
            raise DynamoError(f"no label is called {label!r}: {did_you_mean(label, known)}")
        fit.label(label)
