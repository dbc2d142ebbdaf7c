"""What a report on a run says, whatever form it is written in."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from dynamo.analysis.geometry.alignment import align, maps_of
from dynamo.analysis.geometry.order import sequences
from dynamo.analysis.networks.consensus import consensus
from dynamo.analysis.table import Table
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.fit.distances import NoiseFloor
from dynamo.fit.fidelity import Fidelity, is_measured, read_fidelity
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.report import parts
from dynamo.report.answers import answers
from dynamo.report.coordinates import MapCoordinates, map_coordinates
from dynamo.report.network import Network, network_of
from dynamo.report.run import check_key, colouring
from dynamo.report.section import Section
from dynamo.system.progress import Stages, silent_stages

#: Metadata that numbers the checkpoints of a training.
CHECKPOINTS = ("epoch", "step", "steps", "checkpoint")


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

    __repr__ = brief

    def models_table(self) -> Table:
        """A row for each model: its name, its metadata and its fidelity."""
        keys = parts.keys_of(self.fit)
        measured = self.fidelity.models if self.fidelity else [None] * len(self.fit.names)
        rows = [
            [name, *(own.get(key, "") for key in keys), *([getattr(m, name) for name in parts.FIGURES] if m else [])]
            for name, own, m in zip(self.fit.names, self.fit.metadata, measured, strict=True)
        ]
        return ["model", *keys, *(parts.FIGURES.values() if self.fidelity else [])], rows


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
    drawn, damaged = with_floor(map_coordinates(fit), run)
    measured = read_fidelity(run) if is_measured(run) else None
    models, missing = _open(fit, population)
    words = _words(models) if models is not None else ()
    network: Network | str = "The network was left out of this page."
    if with_network:
        network = network_of(fit, words)
    agreed = np.zeros(0)
    if models is not None and measured is not None:
        try:
            agreed = consensus(models, progress=progress("asking base models", None))
        except DynamoError as error:
            missing = str(error)
    sections = [parts.spectrum(drawn.places, len(fit.names)), parts.fidelity(measured, agreed, missing, run)]
    colour = colour_by or colouring(fit.metadata)
    if maps:
        result = align(maps, progress=progress("shuffles", None))
        sections.append(parts.stability(result, fit, colour, runs))
    sections += [*answers(run), parts.training(fit)]
    count = len(fit.names)
    return Content(
        run,
        fit,
        f"{count} network{'s' * (count > 1)} on one map",
        parts.lead(fit),
        drawn,
        colour,
        checkpoints(fit),
        measured,
        network,
        parts.compared(fit),
        parts.map_part(drawn, fit, damaged),
        sections,
    )


def with_floor(drawn: MapCoordinates, run: Path) -> tuple[MapCoordinates, str]:
    """The map with the noise floor, where it was measured for this run, or what is wrong with the file."""
    try:
        noise = NoiseFloor.read(run / "distances", drawn.kind)
    except DynamoError as error:
        return drawn, str(error)
    if noise is None or drawn.distances is None:
        return drawn, ""
    return attrs.evolve(drawn, distances=drawn.distances.with_floor(noise)), ""


def _open(fit: Fit, folder: Path | None) -> tuple[Population | None, str]:
    """The base models, or why they are not at hand. A folder that is asked for must be right."""
    try:
        return fit.open_population(folder), ""
    except DynamoError as error:
        if folder is not None:
            raise
        return None, str(error)


def _words(models: Population) -> Sequence[str]:
    """Those behind token ids; none where the data cannot be had, or has no words."""
    try:
        return models.dataset(models[0]).tokens
    except DynamoError:
        return ()


def checkpoints(fit: Fit) -> list[list[int]]:
    """The numbers of models that are states of one training, in order; none where there are no checkpoints.

    Metadata with a value of its own for each model, such as a path, does not part them.
    """
    shared = [key for key in parts.keys_of(fit) if len({str(own.get(key)) for own in fit.metadata}) < len(fit.metadata)]
    tables = [{key: own[key] for key in shared if key in own} for own in fit.metadata]
    for key in CHECKPOINTS:
        numbers = [table.get(key) for table in tables]
        if all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            return sequences(tables, key)
    return []
