"""What the command line shows: tables and summaries."""

import sys
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dynamo.contracts.components import Component
from dynamo.contracts.errors import printable
from dynamo.contracts.options import type_name
from dynamo.registry import Owned
from dynamo.report.answer import collected
from dynamo.system.bars import terminal_bars
from dynamo.training.convergence import converged_at

if TYPE_CHECKING:
    from dynamo.fit.fidelity import Fidelity
    from dynamo.fit.fit import Fit

#: How many models a summary puts in order or in groups, where those of a run are too many to compare all pairs.
SAMPLE = 2000

#: Progress bars on the error stream.
progress = terminal_bars


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], name: str = "table", most: int | None = None
) -> None:
    """Print a table; numbers with three decimals. Where an answer is collected, it goes there instead, whole.

    Args:
        columns: their names.
        rows: a cell for each column.
        name: of the table in an answer.
        most: the most rows that are printed; None for all.
    """
    answer = collected()
    if answer is not None:
        answer.add(name, columns, rows)
        return
    printed = _table(*columns)
    for row in rows[:most]:
        cells = (_figure(cell) if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row)
        printed.add_row(*(Text(printable(cell)) for cell in cells))
    _console().print(printed)
    if most is not None and len(rows) > most:
        print(f"… {len(rows) - most} more rows")


def _ending(fit: "Fit") -> str:
    """Why a fit took the steps that it took, where it was to end when it had converged."""
    if fit.options.until == "steps" or not fit.history:
        return ""
    rates = [row[1] for row in fit.history]
    peak = sum(rate == rates[0] for rate in rates) - 1  # the first step of the annealing has that rate too
    told = "converged" if converged_at([row[2] for row in fit.history[:peak]]) else "not converged"
    return f" ({told} after {peak}, then annealed)"


def _figure(value: float) -> str:
    return "undefined" if isnan(value) else f"{value:.3f}"


def components_table(owned: Sequence[Owned]) -> None:
    """Print components with the plugins that offer them."""
    rows = []
    for item in owned:
        part = item.component
        options = ", ".join(field.name for field in attrs.fields(part.options))
        rows.append([part.kind, part.name, part.help, options, item.owner])
    table(["kind", "name", "what it is", "options", "plugin"], rows, "components")


def options_table(component: Component) -> None:
    """Print a component's options."""
    fields = attrs.fields(component.options)
    if not fields:
        print(f"\n{component} has no options")
        return
    rows = [
        (field.name, type_name(field.type), repr(field.default), str(field.metadata.get("help", "")))
        for field in fields
    ]
    print(f"\n{component}")
    table(["option", "type", "default", "what it sets"], rows, f"options of {component}")


def fidelity_table(measured: "Fidelity", shown: int = 40) -> None:
    """Print the fidelity of every model; of more than ``shown``, of those with the least agreement."""
    answer, models = collected(), measured.models
    if answer is not None:
        answer.add("fidelity", *measured.table())
        return
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
        f"models {len(fit.names)}, steps {int(fit.history[-1][0]) if fit.history else 0}{_ending(fit)}",
        f"components of θ for 95 % of the variance: {found.components_for()} of {len(found.eigenvalues)} "
        f"(participation ratio {found.participation_ratio:.2f})",
    ]
    apart = map_coordinates(fit, distance)
    figures: dict[str, object] = {
        "models": len(fit.names),
        "steps": len(fit.history),
        "components_for_95_percent": found.components_for(),
        "participation_ratio": found.participation_ratio,
        "distance": apart.kind,
        "coloured_by": label,
        "run": folder,
    }
    if measured is None:
        lines.append(f"fidelity not measured: `dynamo fit POPULATION --out {folder} --resume` measures it")
    else:
        means = {name: measured.mean(name) for name in ("hidden_r2", "agreement", "base_score", "emulator_score")}
        figures |= {f"mean_{name}": value for name, value in means.items()}
        figures["poor"] = [model.name for model in measured.poor]
        hidden, same, base, own = map(_figure, means.values())
        lines.append(
            f"on test data, means over models: hidden R² {hidden}, agreement {same}, score {base} (base models), {own} "
            "(their emulators)"
        )
    some, of_whom = apart, f"distances by {apart.kind}"
    if apart.distances is None:  # all pairs would be too many
        fit, of_whom = fit.sample(SAMPLE), f"{of_whom}, of {SAMPLE:,} models drawn at random"
        some = map_coordinates(fit, apart.kind)
    groups = fit.values_of(label) if label is not None else []
    if is_scale(groups) and some.distances is not None and some.places.coordinates.size:
        in_order = order(some.distances.matrix, groups, permutations=199)
        figures["order"] = {own.name: {"value": own.value, "p": own.p_value} for own in in_order.measures}
        leading, way, near = (f"{own.value:.2f} (p {own.p_value:.2g})" for own in in_order.measures)
        lines.append(
            f"order of {label}: Spearman {leading} along the leading coordinate, {way} along ways, R² {near} by "
            f"neighbours ({of_whom})"
        )
    elif 2 <= len({str(group) for group in groups}) < len(groups):
        agreement = group_agreement(some.places.coordinates, groups)
        figures["groups"] = {"ari": agreement.ari, "silhouette": agreement.silhouette}
        lines.append(
            f"groups by {label}: k-means ARI {agreement.ari:.2f}, silhouette {agreement.silhouette:.2f} ({of_whom})"
        )
    lines.append(apart.describe())
    drawn = f" (coloured by {label})" if label else ""
    files = [("map", "map.png", drawn), ("embeddings", "embedding.csv", ""), ("fidelity", "fidelity.csv", "")]
    lines += [f"{what:<12} {folder / name}{more}" for what, name, more in files if (folder / name).exists()]
    lines.append(f"run folder   {folder}")
    answer = collected()
    if answer is not None:
        answer.figures.update(figures)
        answer.files.extend(str(folder / name) for _, name, _ in files if (folder / name).exists())
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
