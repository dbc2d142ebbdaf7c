"""What a report on a run says, whatever form it is written in."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dynamo.analysis.arrays import Floats
from dynamo.analysis.geometry.alignment import Alignment, align, maps_of
from dynamo.analysis.geometry.order import sequences
from dynamo.analysis.geometry.spectrum import Spectrum
from dynamo.analysis.networks.consensus import consensus
from dynamo.analysis.table import Table, in_words
from dynamo.contracts.errors import DynamoError, printable
from dynamo.contracts.options import plain_table
from dynamo.fit.fidelity import (
    LEAST_AGREEMENT,
    LEAST_HIDDEN_R2,
    MOST_LOST,
    Fidelity,
    is_measured,
    read_fidelity,
)
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.report import charts
from dynamo.report.answers import answers
from dynamo.report.coordinates import MapCoordinates, map_coordinates
from dynamo.report.network import Network, network_of
from dynamo.report.plots.alignment import plot_alignment
from dynamo.report.run import check_key, colouring, picture_of
from dynamo.report.section import Section
from dynamo.system.progress import Stages, silent_stages

#: Metadata that numbers the checkpoints of a training.
CHECKPOINTS = ("epoch", "step", "steps", "checkpoint")

#: The figures of fidelity that a report shows, and what they are called there.
FIGURES = {
    "hidden_r2": "hidden R²",
    "agreement": "agreement",
    "base_score": "base score",
    "emulator_score": "emulator score",
}


@attrs.frozen(eq=False)
class Content:
    """A report on a run.

    Attributes:
        run: the run folder.
        fit: its fit.
        title, lead: what stands above.
        drawn: where the models lie.
        colour: the metadata that colours the map at first; None for one colour.
        lines: the numbers of models that are joined, such as checkpoints of one training.
        fidelity: of every model; None where it was not measured.
        network: for the page to run, or why there is none.
        compared: what was compared.
        map: how to read the map.
        sections: all that follows the map and the network.
    """

    run: Path
    fit: Fit
    title: str
    lead: str
    drawn: MapCoordinates
    colour: str | None
    lines: Sequence[Sequence[int]]
    fidelity: Fidelity | None
    network: Network | str
    compared: Section
    map: Section
    sections: Sequence[Section]

    def models_table(self) -> Table:
        """A row for each model: its name, its metadata and its fidelity."""
        keys = keys_of(self.fit)
        measured = self.fidelity.models if self.fidelity else [None] * len(self.fit.names)
        rows = [
            [name, *(own.get(key, "") for key in keys), *([getattr(m, name) for name in FIGURES] if m else [])]
            for name, own, m in zip(self.fit.names, self.fit.metadata, measured, strict=True)
        ]
        return ["model", *keys, *(FIGURES.values() if self.fidelity else [])], rows


def content_of(
    runs: Sequence[Path],
    *,
    population: Path | None = None,
    colour_by: str | None = None,
    with_network: bool = True,
    progress: Stages = silent_stages,
) -> Content:
    """Gather what a report says. Nothing is computed but the distances of the map, the agreement of the base models
    where these are at hand, and the alignment where there are several runs.

    Args:
        runs: the run folders; the report is on the first, the others are fits to the same models.
        population: the folder of the base models; the one that the run remembers where it is None.
        colour_by: the metadata that colours the map; one is chosen where it is None.
        with_network: whether the network and its examples are put in.
        progress: a stage for what takes time.

    Raises:
        DynamoError: a folder that is no run, runs of other models, or metadata that is not there.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise DynamoError("a report on several runs needs different ones: name each once")
    fits = [Fit.load(run) for run in runs]
    fit, run = fits[0], runs[0]
    check_key(fit.metadata, colour_by)
    maps = maps_of(fits) if len(fits) > 1 else []
    drawn = map_coordinates(fit)
    measured = read_fidelity(run) if is_measured(run) else None
    models, missing = _open(fit, population)
    words = models.dataset(models[0]).tokens if models is not None else ()
    network: Network | str = "The network was left out of this page."
    if with_network:
        network = network_of(fit, words)
    agreed = np.zeros(0)
    if models is not None and measured is not None:
        agreed = consensus(models, progress=progress("asking base models", None))
    sections = [_spectrum(drawn.places, len(fit.names)), _fidelity(measured, agreed, missing, run)]
    colour = colour_by or colouring(fit.metadata)
    if maps:
        result = align(maps, progress=progress("shuffles", None))
        sections.append(_stability(result, fit, colour, runs))
    sections += [*answers(run), _training(fit)]
    count = len(fit.names)
    return Content(
        run,
        fit,
        f"{count} network{'s' * (count > 1)} on one map",
        f"{printable(run.resolve().name)}: {_made_of(fit)}",
        drawn,
        colour,
        _checkpoints(fit),
        measured,
        network,
        _compared(fit),
        _map(drawn, fit),
        sections,
    )


def keys_of(fit: Fit) -> list[str]:
    """All metadata that some model has."""
    return sorted({key for table in fit.metadata for key in table})


def _open(fit: Fit, folder: Path | None) -> tuple[Population | None, str]:
    """The base models, or why they are not at hand. A folder that is asked for must be right."""
    try:
        return fit.open_population(folder), ""
    except DynamoError as error:
        if folder is not None:
            raise
        return None, str(error)


def _checkpoints(fit: Fit) -> list[list[int]]:
    """The numbers of models that are states of one training, in order; none where there are no checkpoints."""
    for key in CHECKPOINTS:
        numbers = [table.get(key) for table in fit.metadata]
        if all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            return sequences(fit.metadata, key)
    return []


def _made_of(fit: Fit) -> str:
    heads = ", ".join(f"{printable(name)} ({space.size} {space.kind})" for name, space in fit.emulator.blueprint.heads)
    return f"one meta-model that imitates each of them, on {fit.emulator.blueprint.inputs.kind}; {heads}"


def _compared(fit: Fit) -> Section:
    rows: list[list[object]] = []
    for key in keys_of(fit):
        values = [table.get(key) for table in fit.metadata]
        known = [value for value in values if value is not None]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
        distinct = sorted(set(known), key=lambda value: (not isinstance(value, int | float), value if numeric else str(value)))
        if numeric and len(distinct) > 8:
            told = f"{distinct[0]:.4g} to {distinct[-1]:.4g}"
        else:
            told = ", ".join(f"{value} ({known.count(value)})" for value in distinct[:12])
            told += f" and {len(distinct) - 12} more" if len(distinct) > 12 else ""
        rows.append([key, told, len(values) - len(known) or ""])
    blueprint = fit.emulator.blueprint
    told = [
        f"{len(fit.names)} trained networks, each imitated by one meta-model ({blueprint.meta_model}) at a θ of its own "
        f"of {blueprint.theta_dim} numbers. Networks that compute alike get thetas at which the meta-model does alike.",
    ]
    return Section(
        "compared",
        "What was compared?",
        "The metadata of the networks: each key, its values and how many networks have each.",
        told,
        tables=[("metadata", (["key", "values", "without"], rows))],
    )


def _map(drawn: MapCoordinates, fit: Fit) -> Section:
    held = float(drawn.places.shares[:2].sum())
    cautions = []
    if held < 0.5:
        cautions.append(f"The plane holds {held:.0%} of the variance: models that lie together here may lie apart.")
    if drawn.instead:
        cautions.append(f"The map is drawn by θ: {drawn.instead}.")
    if len(fit.names) < 4:
        cautions.append("Of so few models no map says much.")
    return Section(
        "map",
        "The map",
        "Each mark is a network, and networks that compute alike lie close together. Directions and the sides mean "
        "nothing, distances do.",
        [f"Principal coordinates of {drawn.describe()}."],
        cautions,
    )


def _spectrum(places: Spectrum, count: int) -> Section:
    shares, needed = places.shares.tolist(), places.components_for(0.95)
    told = f"{needed} of {len(shares)} coordinates hold 95 % of the variance (participation ratio {places.participation_ratio:.1f})."
    cautions = []
    if count < 10 * max(needed, 1):
        cautions.append(f"From {count} models the number of dimensions comes out too low.")
    return Section(
        "spectrum",
        "How many dimensions has the map?",
        "The share of the variance in each coordinate: where few bars are high, the map shows nearly all there is.",
        [told],
        cautions,
        chart=charts.bars(shares, needed, told),
    )


def _fidelity(measured: Fidelity | None, agreed: Floats, missing: str, run: Path) -> Section:
    title = "How well is each network imitated?"
    reading = "A dot for each network and a stroke at the median; 1 is perfect. Read this before the map."
    if measured is None:
        again = f"`dynamo fit POPULATION --out {run} --resume` measures it."
        return Section("fidelity", title, reading, cautions=[f"The fidelity was not measured: {again}"])
    rows = [(told, [getattr(model, name) for model in measured.models]) for name, told in FIGURES.items()]
    told = [f"Means on test data: {', '.join(f'{told} {in_words(measured.mean(name))}' for name, told in FIGURES.items())}."]
    if len(agreed):
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
        cautions.append(f"The base models are not at hand, so their agreement with one another is not shown: {missing}.")
    return Section("fidelity", title, reading, told, cautions, chart=charts.dots(rows, " ".join(told)))


def _too_poor(measured: Fidelity) -> str:
    names = [model.name for model in measured.poor]
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return (
        f"{len(names)} of {len(measured.models)} networks are imitated poorly (hidden R² below {LEAST_HIDDEN_R2}, "
        f"agreement below {LEAST_AGREEMENT}, or a score more than {MOST_LOST} below the base model's), so that their "
        f"places mean little: {some}."
    )


def _stability(result: Alignment, fit: Fit, colour: str | None, runs: Sequence[Path]) -> Section:
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


def _training(fit: Fit) -> Section:
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
        chart=charts.line(losses, f"the loss over {len(losses)} steps") if shown else "",
        tables=[("options", (["option", "value"], rows))],
    )


def page_data(content: Content, spaces: Sequence[Any]) -> dict[str, Any]:
    """What the page's programs read: the models, the network, and points in three dimensions."""
    fit, places = content.fit, content.drawn.places
    xyz = np.zeros((len(fit.names), 3))
    shown = min(3, places.coordinates.shape[1])
    xyz[:, :shown] = places.coordinates[:, :shown]
    fidelity = content.fidelity.models if content.fidelity else ()
    return {
        "run": printable(str(content.run)),
        "colour": None if content.colour is None else printable(content.colour),
        "models": {
            "names": [printable(name) for name in fit.names],
            "metadata": [
                {"key": printable(key), "values": [_plain(own.get(key)) for own in fit.metadata]} for key in keys_of(fit)
            ],
            "fidelity": [
                {"key": told, "values": [_plain(getattr(model, name)) for model in fidelity]}
                for name, told in FIGURES.items()
                if fidelity
            ],
            "places": [[float(f"{value:.7g}") for value in place] for place in xyz.tolist()],
            "shares": [float(f"{share:.4g}") for share in places.shares.tolist()[:3]],
            "theta": [[float(f"{value:.9g}") for value in theta] for theta in fit.theta.tolist()],
            "heads": [subject.head for subject in fit.emulator.blueprint.subjects],
            "lines": [list(line) for line in content.lines],
        },
        "network": content.network.content() if isinstance(content.network, Network) else None,
        "spaces": list(spaces),
    }


def _plain(value: object) -> object:
    """A value for JSON, which has no NaN."""
    if isinstance(value, str):
        return printable(value)
    return None if isinstance(value, float) and not np.isfinite(value) else value
