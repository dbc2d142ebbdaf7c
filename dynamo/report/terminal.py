"""What the command line shows: progress bars and tables."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from dynamo.contracts.components import Component
from dynamo.contracts.errors import printable
from dynamo.contracts.options import type_name
from dynamo.registry import Owned

if TYPE_CHECKING:
    from dynamo.fit.fidelity import Fidelity
    from dynamo.fit.fit import Fit


@contextmanager
def progress(quiet: bool = False) -> Iterator["Bars"]:
    """Progress bars on the error stream; without a terminal, their last state only; ``quiet``, none."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    note = TextColumn("{task.fields[note]}", markup=False)
    with Progress(*columns, note, console=Console(stderr=True), refresh_per_second=4, disable=quiet) as bars:
        yield Bars(bars)


@attrs.frozen
class Bars:
    """:class:`~dynamo.system.progress.Stages` with a bar for each."""

    shown: Progress

    def __call__(self, description: str, total: int | None, /) -> "Bar":
        """A new bar."""
        return Bar(self.shown, self.shown.add_task(description, total=total, note=""))


@attrs.frozen
class Bar:
    """A :class:`~dynamo.system.progress.Progress` that moves a bar."""

    shown: Progress
    number: TaskID

    def __call__(self, done: int, total: int, note: str | float = "", /) -> None:
        """Move the bar."""
        text = f"loss {note:.4f}" if isinstance(note, float) else note
        self.shown.update(self.number, completed=done, total=total, note=text)

    def remove(self) -> None:
        """Take the bar away."""
        self.shown.remove_task(self.number)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers with three decimals."""
    printed = _table(*columns)
    for row in rows:
        cells = (_figure(cell) if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row)
        printed.add_row(*(Text(printable(cell)) for cell in cells))
    _console().print(printed)


def _figure(value: float) -> str:
    return "undefined" if isnan(value) else f"{value:.3f}"


def components_table(owned: Sequence[Owned]) -> None:
    """Print components with the plugins that offer them."""
    printed = _table("kind", "name", "what it is", "options", "plugin")
    for item in owned:
        part = item.component
        options = ", ".join(field.name for field in attrs.fields(part.options))
        printed.add_row(part.kind, part.name, Text(part.help), Text(options), Text(item.owner))
    _console().print(printed)


def options_table(component: Component) -> None:
    """Print a component's options."""
    fields = attrs.fields(component.options)
    if not fields:
        _console().print(Text(f"\n{component} has no options"))
        return
    printed = _table("option", "type", "default", "what it sets")
    for field in fields:
        cells = (field.name, type_name(field.type), repr(field.default), str(field.metadata.get("help", "")))
        printed.add_row(*(Text(cell) for cell in cells))
    _console().print(Text(f"\n{component}"), printed)


def fidelity_table(measured: "Fidelity", shown: int = 40) -> None:
    """Print the fidelity of every model; of more than ``shown``, of those with the least agreement."""
    models = measured.models
    if len(models) > shown:
        models = tuple(sorted(models, key=lambda model: (not isnan(model.agreement), model.agreement))[:shown])
    columns = ("model", "hidden R²", "output divergence", "agreement", "base score", "emulator score")
    table(columns, [attrs.astuple(model) for model in models])
    if len(models) < len(measured.models):
        print(f"… the {shown} models with the least agreement, of {len(measured.models)}\n")


def summary(
    fit: "Fit", measured: "Fidelity | None", folder: Path, label: str | None, distance: str | None = None
) -> None:
    """Print what a run found and where its files are.

    Args:
        fit: the fit.
        measured: its fidelity; None where it was not measured.
        folder: the run folder.
        label: the metadata that colours the map; one is chosen where it is None.
        distance: the kind of distance that the map is drawn by; the default where it is None.
    """
    from dynamo.analysis.geometry.clusters import group_agreement
    from dynamo.analysis.geometry.order import order
    from dynamo.analysis.geometry.spectrum import spectrum
    from dynamo.report.coordinates import map_coordinates
    from dynamo.report.plots.map import is_scale
    from dynamo.report.run import colouring

    theta = fit.theta.double().numpy()
    found = spectrum(theta)
    label = label or colouring(fit.metadata)
    lines = [
        f"models {len(fit.names)}, steps {int(fit.history[-1][0]) if fit.history else 0}",
        f"components of θ for 95 % of the variance: {found.components_for()} of {len(found.eigenvalues)} "
        f"(participation ratio {found.participation_ratio:.2f})",
    ]
    apart = map_coordinates(fit, distance)
    if measured is None:
        lines.append(f"fidelity not measured: `dynamo fit POPULATION --out {folder} --resume` measures it")
    else:
        hidden, same, base, own = (
            _figure(measured.mean(name)) for name in ("hidden_r2", "agreement", "base_score", "emulator_score")
        )
        lines.append(
            f"on test data, means over models: hidden R² {hidden}, agreement {same}, score {base} (base models), {own} "
            "(their emulators)"
        )
    groups = fit.values_of(label) if label is not None else []
    if is_scale(groups) and apart.places.coordinates.size:
        in_order = order(apart.distances.matrix, groups, permutations=199)
        leading, way, near = (f"{own.value:.2f} (p {own.p_value:.2g})" for own in in_order.measures)
        lines.append(
            f"order of {label}: Spearman {leading} along the leading coordinate, {way} along ways, R² {near} by "
            f"neighbours (distances by {apart.kind})"
        )
    elif 2 <= len({str(group) for group in groups}) < len(groups):
        agreement = group_agreement(apart.places.coordinates, groups)
        lines.append(
            f"groups by {label}: k-means ARI {agreement.ari:.2f}, silhouette {agreement.silhouette:.2f} (distances by "
            f"{apart.kind})"
        )
    lines.append(apart.describe())
    drawn = f" (coloured by {label})" if label else ""
    files = [("map", "map.png", drawn), ("embeddings", "embedding.csv", ""), ("fidelity", "fidelity.csv", "")]
    lines += [f"{what:<12} {folder / name}{more}" for what, name, more in files if (folder / name).exists()]
    lines.append(f"run folder   {folder}")
    lines += [] if measured is None else [*_warnings(measured)]
    print("\n".join(map(printable, lines)))


def _warnings(measured: "Fidelity", shown: int = 8) -> Iterator[str]:
    """What to think of those models that are imitated poorly."""
    from dynamo.fit.fidelity import LEAST_AGREEMENT, LEAST_HIDDEN_R2, MOST_LOST

    broken = [model.name for model in measured.poor if model.is_broken]
    if broken:
        yield (
            f"warning: NaN or infinite states or outputs on the test data of {_some(broken, shown)}: the base model or "
            "what imitates it breaks down there, and nothing could be measured"
        )
    poor = [
        f"{model.name} (hidden R² {_figure(model.hidden_r2)}, agreement {_figure(model.agreement)}, score "
        f"{_figure(model.base_score)} → {_figure(model.emulator_score)})"
        for model in measured.poor
        if not model.is_broken
    ]
    if poor:
        yield (
            f"warning: {len(poor)} of {len(measured.models)} models are imitated poorly (hidden R² below "
            f"{LEAST_HIDDEN_R2}, agreement below {LEAST_AGREEMENT}, or a score more than {MOST_LOST} below the base "
            f"model's), so that their places on the map mean little: {_some(poor, shown)}. Fit for more steps, or with "
            "a larger meta-model or one of another kind"
        )


def _some(names: Sequence[str], shown: int) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


def _table(*columns: str) -> Table:
    """An empty table; what stands in its head is no markup either."""
    return Table(*(Column(Text(printable(column))) for column in columns), box=None, pad_edge=False)
