"""What the command line shows: progress bars and tables."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from rich.table import Table
from rich.text import Text

from dynamo.contracts.components import Component
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
        cells = (f"{cell:.3f}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row)
        printed.add_row(*(Text(cell) for cell in cells))
    _console().print(printed)


def components_table(owned: Sequence[Owned]) -> None:
    """Print components with the plugins that offer them."""
    table = _table("kind", "name", "what it is", "options", "plugin")
    for item in owned:
        part = item.component
        options = ", ".join(field.name for field in attrs.fields(part.options))
        table.add_row(part.kind, part.name, Text(part.help), Text(options), Text(item.owner))
    _console().print(table)


def options_table(component: Component) -> None:
    """Print a component's options."""
    fields = attrs.fields(component.options)
    if not fields:
        _console().print(Text(f"\n{component} has no options"))
        return
    table = _table("option", "type", "default", "what it sets")
    for field in fields:
        cells = (field.name, type_name(field.type), repr(field.default), str(field.metadata.get("help", "")))
        table.add_row(*(Text(cell) for cell in cells))
    _console().print(Text(f"\n{component}"), table)


def fidelity_table(measured: "Fidelity", shown: int = 40) -> None:
    """Print the fidelity of every model; of more than ``shown``, of those with the least agreement."""
    models = measured.models
    if len(models) > shown:
        models = tuple(sorted(models, key=lambda model: model.agreement)[:shown])
    table = _table("model", "hidden R²", "output divergence", "agreement", "base score", "emulator score")
    for model in models:
        name, *figures = attrs.astuple(model)
        table.add_row(Text(name), *(f"{figure:.3f}" for figure in figures))
    _console().print(table)
    if len(models) < len(measured.models):
        print(f"… the {shown} models with the least agreement, of {len(measured.models)}\n")


def summary(fit: "Fit", measured: "Fidelity", folder: Path, label: str | None) -> None:
    """Print what a run found and where its files are."""
    from dynamo.analysis.geometry.clusters import group_agreement
    from dynamo.analysis.geometry.spectrum import spectrum
    from dynamo.report.run import colouring

    theta = fit.theta.double().numpy()
    found = spectrum(theta)
    label = label or colouring(fit.metadata)
    mean = measured.mean
    lines = [
        f"models {len(fit.names)}, steps {int(fit.history[-1][0]) if fit.history else 0}",
        f"components for 95 % of the variance: {found.components_for()} of {len(found.eigenvalues)} "
        f"(participation ratio {found.participation_ratio:.2f})",
        f"on test data, means over models: hidden R² {mean('hidden_r2'):.3f}, agreement {mean('agreement'):.3f}, "
        f"score {mean('base_score'):.3f} (base models), {mean('emulator_score'):.3f} (their emulators)",
    ]
    groups = fit.values_of(label) if label is not None else []
    if 2 <= len({str(group) for group in groups}) < len(groups):
        agreement = group_agreement(theta, groups)
        lines.append(f"groups by {label}: k-means ARI {agreement.ari:.2f}, silhouette {agreement.silhouette:.2f}")
    lines += [
        f"map          {folder / 'map.png'}" + (f" (coloured by {label})" if label else ""),
        f"embeddings   {folder / 'embedding.csv'}",
        f"fidelity     {folder / 'fidelity.csv'}",
        f"run folder   {folder}",
    ]
    print("\n".join(lines))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)
