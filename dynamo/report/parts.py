"""The parts of a report that are there for every run: what was compared, the map, its dimensions, how well the networks
are imitated, how the fit was made.
"""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

import attrs
import numpy as np

from dynamo.analysis.arrays import Floats
from dynamo.analysis.geometry.alignment import Alignment
from dynamo.analysis.geometry.spectrum import Spectrum
from dynamo.analysis.table import in_words
from dynamo.contracts.errors import printable
from dynamo.contracts.options import plain_table
from dynamo.fit.fidelity import LEAST_AGREEMENT, LEAST_HIDDEN_R2, MOST_LOST, Fidelity
from dynamo.fit.fit import Fit
from dynamo.report.coordinates import MapCoordinates
from dynamo.report.plots.alignment import plot_alignment
from dynamo.report.run import picture_of
from dynamo.report.section import Bars, Dots, Line, Section

#: The figures of fidelity that a report shows, and what they are called there.
FIGURES = {
    "hidden_r2": "hidden R²",
    "agreement": "agreement",
    "base_score": "base score",
    "emulator_score": "emulator score",
}


def keys_of(fit: Fit) -> list[str]:
    """All metadata that some model has."""
    return sorted({key for table in fit.metadata for key in table})


def lead(fit: Fit) -> str:
    """What the networks do, and in what they differ, in two sentences."""
    space = fit.emulator.blueprint.inputs
    read = {
        "tokens": f"texts of {space.size:,} words",
        "real": f"sequences of {space.size} number{'s' * (space.size > 1)} a step",
        "image": f"images of {' × '.join(map(str, space.shape))}",
    }[space.kind]
    tasks = ", ".join(
        f"{printable(name)}, {own.size} {'classes' if own.kind == 'classes' else 'numbers'}"
        if own.kind != "none"
        else f"{printable(name)}, nothing but their states"
        for name, own in fit.emulator.blueprint.heads
    )
    apart = [key for key in keys_of(fit) if len({str(table.get(key)) for table in fit.metadata}) > 1]
    differ = f" They differ in {', '.join(map(printable, apart))}." if apart else ""
    return f"They read {read} and answer: {tasks}.{differ}"


def compared(fit: Fit) -> Section:
    """The networks by their metadata."""
    rows: list[list[object]] = []
    for key in keys_of(fit):
        values = [table.get(key) for table in fit.metadata]
        known = [value for value in values if value is not None]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
        distinct = sorted(
            set(known), key=lambda value: (not isinstance(value, int | float), value if numeric else str(value))
        )
        if numeric and len(distinct) > 8:
            told = f"{distinct[0]:.4g} to {distinct[-1]:.4g}"
        else:
            told = ", ".join(f"{value} ({known.count(value)})" for value in distinct[:12])
            told += f" and {len(distinct) - 12} more" if len(distinct) > 12 else ""
        told += f"; {len(values) - len(known)} without" if len(known) < len(values) else ""
        rows.append([key, told])
    blueprint = fit.emulator.blueprint
    found = [
        f"{len(fit.names)} trained networks. One meta-model ({blueprint.meta_model.name}) imitates each of them at a θ "
        f"of its own, {blueprint.theta_dim} numbers: the same network with other settings.",
    ]
    return Section(
        "compared",
        "What was compared?",
        "What is known of the networks beside their weights.",
        found,
        tables=[("metadata", (["key", "values and how many networks have each"], rows))],
    )


def map_part(drawn: MapCoordinates, fit: Fit, damaged: str = "") -> Section:
    """How to read the map.

    Args:
        drawn: where the models lie.
        fit: the fit.
        damaged: what is wrong with what is known of the noise floor.
    """
    told_of = "" if drawn.distances is None else drawn.distances.describe()
    figures = told_of.removeprefix(f"distances by {drawn.kind}")
    held = float(drawn.places.shares[:2].sum())
    floor = drawn.floor
    cautions = [f"The noise floor cannot be shown: {damaged}."] if damaged else []
    told = [f"Drawn from the principal coordinates of the {drawn.kind} distances{figures}."]
    if floor is not None:
        told.append(
            "The bar on the map is the noise floor: equal models lie that far apart, and nothing nearer is told apart."
        )
    if held < 0.5:
        cautions.append(f"The plane holds {held:.0%} of the variance: models that lie together here may lie apart.")
    if drawn.instead:
        cautions.append(f"The map is drawn by θ: {drawn.instead}.")
    if len(fit.names) < 4:
        cautions.append("Of so few models no map says much.")
    return Section(
        "map",
        "The map",
        "Each mark is a network; networks that compute alike lie close together. Distances mean something, directions "
        "do not.",
        told,
        cautions,
    )


def spectrum(places: Spectrum, count: int) -> Section:
    """The spectrum of a map of so many models."""
    shares, needed = places.shares.tolist(), places.components_for(0.95)
    ratio = f"participation ratio {places.participation_ratio:.1f}"
    told = f"{needed} of {len(shares)} coordinates hold 95 % of the variance ({ratio})."
    cautions = []
    if count < 10 * max(needed, 1):
        cautions.append(f"From {count} models the number of dimensions comes out too low.")
    return Section(
        "spectrum",
        "How many dimensions has the map?",
        "The share of the variance in each coordinate: where few bars are high, the map shows nearly all there is.",
        [told],
        cautions,
        chart=Bars(shares, needed),
    )


def fidelity(measured: Fidelity | None, agreed: Floats, missing: str, run: Path) -> Section:
    """The fidelity of every network, beside what base models agree among themselves.

    Args:
        measured: the fidelity; None where it was not measured.
        agreed: the agreement of pairs of base models; none where these are not at hand.
        missing: why they are not.
        run: the run folder.
    """
    title = "How well is each network imitated?"
    reading = "A dot for each network and a stroke at the median; 1 is perfect. Read this before the map."
    if measured is None:
        again = f"`dynamo fit POPULATION --out {run} --resume` measures it."
        return Section("fidelity", title, reading, cautions=[f"The fidelity was not measured: {again}"])
    known = {name: what for name, what in FIGURES.items() if not isnan(measured.mean(name))}
    rows = [(what, [getattr(model, name) for model in measured.models]) for name, what in known.items()]
    means = ", ".join(f"{what} {in_words(measured.mean(name))}" for name, what in known.items())
    told = [f"Means on test data: {means}."] if known else ["All figures are undefined."]
    if len(agreed) and "agreement" in known:
        rows.insert(2, ("base models with one another", agreed.tolist()))
        middle = float(np.median(agreed))
        better = measured.mean("agreement") > middle
        told.append(
            f"Two base models agree in {middle:.3f} of the cases in the median (R² for real outputs): an imitation is "
            f"{'closer to its own base model than' if better else 'no closer to its own base model than'} another base "
            "model is."
        )
    cautions = [_too_poor(measured)] if measured.poor else []
    if missing:
        cautions.append(
            f"How far base models agree among themselves is not shown, since they cannot be run: {missing}."
        )
    return Section("fidelity", title, reading, told, cautions, chart=Dots(rows))


def _too_poor(measured: Fidelity) -> str:
    names = [model.name for model in measured.poor]
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return (
        f"{len(names)} of {len(measured.models)} networks are imitated poorly (hidden R² below {LEAST_HIDDEN_R2}, "
        f"agreement below {LEAST_AGREEMENT}, or a score more than {MOST_LOST} below the base model's), so that their "
        f"places mean little: {some}."
    )


def stability(result: Alignment, fit: Fit, colour: str | None, runs: Sequence[Path]) -> Section:
    """The maps of several fits over one another."""
    values = None if colour is None else fit.values_of(colour)
    cautions = ["With few models and many dimensions unrelated maps fit one another too: compare with shuffled models."]
    if result.p_value > 0.05:
        cautions.insert(0, "These maps are no more alike than maps of shuffled models: do not trust the map.")
    return Section(
        "stability",
        "Would another meta-model draw the same map?",
        "The maps of several fits, laid over one another: lines lead from each network's mean place to its place in "
        "each map. Distances shorter than these lines mean nothing.",
        [f"{len(runs)} fits; {result.describe()}."],
        cautions,
        picture=picture_of(plot_alignment(result, fit.names, colour, values)),
        tables=[
            ("pairs of runs", result.runs_table([printable(str(run)) for run in runs])),
            ("the networks, the least stable first", result.table(fit.names)),
        ],
    )


def training(fit: Fit) -> Section:
    """How the fit was made."""
    blueprint, options = fit.emulator.blueprint, plain_table(attrs.asdict(fit.options))
    losses = [row[2] for row in fit.history]
    source = {key: value for key, value in fit.source.items() if isinstance(value, str) and key != "path"}
    rows: list[list[object]] = [[key, str(value)] for key, value in {**options, **source}.items()]
    told = [
        f"{len(losses)} steps in {fit.seconds:.0f} s; meta-model {blueprint.meta_model}, head {blueprint.head}, state "
        f"maps {blueprint.state_map}."
    ]
    shown = bool(losses) and not any(map(isnan, losses))
    return Section(
        "fit",
        "How was it fitted?",
        "The loss of the fit over its steps, on a logarithmic axis." if shown else "The options of the fit.",
        told,
        chart=Line(losses) if shown else None,
        tables=[("options", (["option", "value"], rows))],
    )
