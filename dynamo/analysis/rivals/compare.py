"""Does DYNAMO's map tell groups apart that other measures of similarity do not? All on one population."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter, process_time

import attrs
import numpy as np
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.rivals import RIVALS, distance_matrix, rival_named
from dynamo.analysis.rivals.mds import Kind, Layout, mds
from dynamo.analysis.rivals.pairs import CLUSTERERS, PairFigures, pair_figures
from dynamo.analysis.table import Table
from dynamo.contracts.errors import DynamoError, DynamoWarning
from dynamo.contracts.shown import brief, result_html
from dynamo.contracts.trajectory import Inputs, collate, join
from dynamo.fit.distances import Distances, NoiseFloor, without_groups
from dynamo.fit.fit import Fit
from dynamo.fit.probes import drawn_rows
from dynamo.population.base_model import BaseModel, MetadataValue
from dynamo.population.population import Population
from dynamo.population.recording import Recording, run
from dynamo.system.progress import Progress, Stages, silent, silent_stages

#: The name of DYNAMO's own row.
DYNAMO = "dynamo"

#: Above so many models the time that all pairs will take is found beforehand, and told where it is so many seconds.
MANY, LONG = 128, 300.0
#: What it is found from: the times of so many models.
FEW, TWICE = 6, 12

#: Columns of the table, and the attributes of :class:`~dynamo.analysis.rivals.pairs.PairFigures` that they show.
COLUMNS = {
    "auprc": "auprc",
    "p": "auprc_p",
    "violation rate": "violation_rate",
    "silhouette": "silhouette",
    "neighbour accuracy": "neighbour_accuracy",
}


@attrs.frozen(eq=False)
class MethodResult:
    """What one method makes of the population.

    Attributes:
        name: of the method.
        distances: ``[N, N]``; None where it gave none.
        figures: of the distances against the groups.
        layout: of the distances in two dimensions.
        reason: why there are no figures; empty where there are.
        seconds: wall time of the distances, without the recordings; None for DYNAMO, whose time is that of the fit.
        cpu_seconds: processor time of the same, over all threads.
        growth: pairs of a number of models and the seconds for them.
    """

    name: str
    distances: Floats | None = None
    figures: PairFigures | None = None
    layout: Layout | None = None
    reason: str = ""
    seconds: float | None = None
    cpu_seconds: float | None = None
    growth: tuple[tuple[int, float], ...] = ()

    __repr__ = brief

    @property
    def exponent(self) -> float | None:
        """b of seconds ∝ models^b, by least squares on logarithms; None with fewer than two times of 10 ms or more,
        since shorter ones are mostly noise.
        """
        measured = [step for step in self.growth if step[1] >= 0.01]
        if len(measured) < 2:
            return None
        models, seconds = np.log(np.array(measured)).T
        return float(np.polyfit(models, seconds, 1)[0])


@attrs.frozen(eq=False)
class Comparison:
    """All methods on one population.

    Attributes:
        by: the key of the metadata whose values name the groups.
        values: that metadata of each model.
        names: of the models.
        methods: one result per method, DYNAMO's first.
        recording_seconds: wall time of the recordings that all rivals read.
        fit_seconds: wall time of DYNAMO's fit, on the machine that made it; None where the run does not tell.
        own: DYNAMO's distances, with their noise floor where it was given.
    """

    by: str
    values: Sequence[MetadataValue]
    names: Sequence[str]
    methods: tuple[MethodResult, ...]
    recording_seconds: float
    fit_seconds: float | None
    own: Distances

    __repr__ = brief
    _repr_html_ = result_html

    def table(self) -> Table:
        """A row for each method: its figures; None for what it lacks."""
        columns = ["method", *COLUMNS, *(f"ari {name}" for name in CLUSTERERS)]
        return columns, [[method.name, *_cells(method.figures)] for method in self.methods]

    def costs_table(self) -> Table:
        """A row for each method: the time that it took, or why it gave nothing. The recordings serve all rivals."""
        columns = ["method", "seconds", "cpu seconds", "exponent", "recording seconds", "fit seconds", "note"]
        rows: list[list[object]] = []
        for method in self.methods:
            recording, fit = (None, self.fit_seconds) if method.name == DYNAMO else (self.recording_seconds, None)
            times = (method.seconds, method.cpu_seconds, method.exponent, recording, fit)
            rows.append([method.name, *times, method.reason])
        return columns, rows

    def clusterers_table(self) -> Table:
        """A row for each method and clusterer: the adjusted Rand index and its p-value."""
        return ["method", "clusterer", "ari", "p"], [
            [method.name, name, ari, method.figures.ari_p[name]]
            for method in self.methods
            if method.figures is not None
            for name, ari in method.figures.ari.items()
        ]

    def groups_table(self) -> Table:
        """A row for each method and group: how wide the group is, and how far apart equal models come out."""
        return ["method", "group", "within", "between", "ratio", "equal models"], [
            [
                *(method.name, group, spread.within, spread.between, spread.ratio),
                self.own.floor if method.name == DYNAMO else None,
            ]
            for method in self.methods
            if method.figures is not None
            for group, spread in method.figures.spreads.items()
        ]

    def growth_table(self) -> Table:
        """The seconds that each rival took for some numbers of models."""
        return ["method", "models", "seconds"], [
            [method.name, models, seconds] for method in self.methods for models, seconds in method.growth
        ]

    def distances_tables(self) -> dict[str, Table]:
        """The distances between all models, by the name of the method."""
        return {
            method.name: (
                ["", *self.names],
                [[name, *row] for name, row in zip(self.names, method.distances.tolist(), strict=True)],
            )
            for method in self.methods
            if method.distances is not None and method.figures is not None
        }


def compare(
    fit: Fit,
    population: Population,
    by: str,
    *,
    methods: Sequence[str] | None = None,
    examples: int | None = 512,
    distance: str | None = None,
    kind: Kind = "classical",
    seed: int = 0,
    noise: NoiseFloor | None = None,
    without: str | None = None,
    progress: Stages = silent_stages,
) -> Comparison:
    """Compare DYNAMO's map with rivals, by the figures of :mod:`dynamo.analysis.rivals.pairs`.

    A rival that fails is kept, with the reason. Each rival's time is measured for all models, a half and a quarter of
    them; above :data:`MANY` models for all, a quarter and a sixteenth.

    Warns:
        DynamoWarning: all pairs of more than :data:`MANY` models will take longer than :data:`LONG` seconds; it says
        how long, as measured with some models.

    Args:
        fit: the fit.
        population: its base models, in the order of the thetas.
        by: the key of the metadata whose values name the groups.
        methods: the names of rivals; None for all.
        examples: inputs on which the rivals compare models; None for all.
        distance: the kind of DYNAMO's own distances, see :func:`dynamo.fit.distances.distances`; the default where it
            is None.
        kind: of the layouts.
        seed: of the examples, the rivals, the parts of the population, the clusterers and the permutations.
        noise: the noise floor of DYNAMO's distances, see :func:`dynamo.fit.distances.noise_floor`.
        without: the key of metadata to account for, such as the encoding that models read: taken off every method's
            distances alike, see :func:`dynamo.fit.distances.without_groups`.
        progress: a stage for each rival, in pairs of models.

    Raises:
        DynamoError: an unknown method, metadata that some models lack, groups that give no figures, or fewer than three
            models.

    Example:
        >>> result = compare(fit, population, "fraction", methods=["cka"], examples=20)
        >>> [method.name for method in result.methods]
        ['dynamo', 'cka']
    """
    chosen = list(RIVALS) if methods is None else list(dict.fromkeys(methods))
    for name in chosen:
        rival_named(name)
    if [base.name for base in population] != fit.names:
        raise DynamoError("the population's models are not those of the fit, in its order: use fit.open_population()")
    values = fit.values_of(by)
    taken_off = None if without is None else fit.values_of(without)
    judged = partial(_judged, values=values, without=taken_off, kind=kind, seed=seed)
    own = fit.distances(distance, population=None if fit.probes is not None else population)
    own = own if noise is None else own.with_floor(noise)
    results = [judged(MethodResult(DYNAMO, own.matrix))]
    own = own if without is None or taken_off is None else own.without(without, taken_off)
    started = perf_counter()
    recordings = common_recordings(population, examples, seed) if chosen else []
    recording_seconds = perf_counter() - started
    if len(recordings) > MANY:
        _tell_if_long(chosen, population, recordings, seed)
    for name in chosen:
        try:
            results.append(judged(_measured(name, population, recordings, seed, progress(name, None))))
        except Exception as error:  # what a rival or its library raises is not known
            reason = str(error) if isinstance(error, DynamoError) else f"{type(error).__name__}: {error}"
            results.append(MethodResult(name, reason=reason))
    return Comparison(
        by=by,
        values=values,
        names=fit.names,
        methods=tuple(results),
        recording_seconds=recording_seconds,
        fit_seconds=fit.seconds or None,
        own=own,
    )


def common_recordings(population: Population, examples: int | None, seed: int = 0) -> list[Recording]:
    """Every model on the same inputs, so that models of different data sets can be compared. A model that is a
    recording cannot be run on the inputs of others: where there is one, and several data sets, each model is given on
    inputs of its own, and only measures that do not compare example by example can be used.

    Args:
        population: the base models.
        examples: how many, drawn in equal numbers from the probe inputs of the population's data sets, or, of models on
            inputs of their own, from those of each; None for all of them.
        seed: of the draw.

    Raises:
        DynamoError: fewer examples than data sets.
    """
    drawn = drawn_rows(population, examples, seed)
    if len(drawn) > 1 and any(base.is_recording for base in population):
        return [_own_recording(population, base, examples, seed) for base in population]
    inputs = collate([dataset.probes()[rows] for dataset, rows in drawn])
    return [
        _read(base, inputs, drawn[0][1]) if base.is_recording else Recording(inputs, run(base.model, inputs))
        for base in population
    ]


def _own_recording(population: Population, base: BaseModel, examples: int | None, seed: int) -> Recording:
    """A model on probe inputs of its own data set."""
    alone = population.select([other is base for other in population])
    ((dataset, rows),) = drawn_rows(alone, examples, seed)
    inputs = collate([dataset.probes()[rows]])
    return _read(base, inputs, rows) if base.is_recording else Recording(inputs, run(base.model, inputs))


def _read(base: BaseModel, inputs: Inputs, rows: Tensor) -> Recording:
    """A recorded model on some rows of its probe inputs."""
    trajectory = base.trajectories.probe[rows]
    return Recording(inputs, join([trajectory], min(inputs.mask.shape[1], trajectory.mask.shape[1])))


def _cells(figures: PairFigures | None) -> list[object]:
    if figures is None:
        return [None] * (len(COLUMNS) + len(CLUSTERERS))
    return [*(float(getattr(figures, name)) for name in COLUMNS.values()), *(figures.ari[name] for name in CLUSTERERS)]


def _judged(
    result: MethodResult,
    values: Sequence[MetadataValue],
    without: Sequence[MetadataValue] | None,
    kind: Kind,
    seed: int,
) -> MethodResult:
    """The same with figures and layout, and with distances that account for metadata if there are any to."""
    assert result.distances is not None
    if without is not None:
        result = attrs.evolve(result, distances=without_groups(result.distances, without))
    assert result.distances is not None
    figures = pair_figures(result.distances, values, seed=seed)
    return attrs.evolve(result, figures=figures, layout=mds(result.distances, 2, kind))


def _some(
    name: str, population: Population, recordings: Sequence[Recording], seed: int
) -> Callable[[Iterable[int], Progress], Floats]:
    """A rival's distances between some of the models."""

    def distances(models: Iterable[int], tick: Progress) -> Floats:
        chosen = list(models)
        spaces, some = [population[index].outputs for index in chosen], [recordings[index] for index in chosen]
        return distance_matrix(name, some, examples=None, seed=seed, progress=tick, spaces=spaces)

    return distances


def expected(seconds: Callable[[int], float], models: int) -> float:
    """The seconds of a number of models, from those of :data:`FEW` and of :data:`TWICE` as many: those for each model
    and those for each pair.

    Example:
        >>> from dynamo.analysis.rivals.compare import expected
        >>> expected(lambda models: 3 * models + models * (models - 1) / 2, 1000)
        502500.0
    """
    few, twice = seconds(FEW), seconds(TWICE)
    pair = max(0.0, twice - 2 * few) / (_pairs(TWICE) - 2 * _pairs(FEW))
    each = max(0.0, twice - pair * _pairs(TWICE)) / TWICE
    return each * models + pair * _pairs(models)


def _pairs(models: int) -> int:
    return models * (models - 1) // 2


def _tell_if_long(names: Sequence[str], population: Population, recordings: Sequence[Recording], seed: int) -> None:
    """Warn of the time that all pairs will take, in rivals that do not fail."""
    models, minutes = len(recordings), {}
    for name in names:
        distances = _some(name, population, recordings, seed)
        with suppress(Exception):  # it is told with the results
            distances(range(2), silent)  # loads the libraries
            minutes[name] = expected(partial(_seconds, distances), models) / 60
    if sum(minutes.values()) * 60 > LONG:
        each = ", ".join(
            f"{name} {minutes[name]:.1f}" for name in sorted(minutes, key=minutes.__getitem__, reverse=True)
        )
        warnings.warn(
            f"{models:,} models have {_pairs(models):,} pairs, which will take some {sum(minutes.values()):.0f} "
            f"minutes ({each}): fewer examples take less, half of the models a quarter; or choose fewer methods",
            DynamoWarning,
            stacklevel=3,
        )


def _seconds(distances: Callable[[Iterable[int], Progress], Floats], models: int) -> float:
    started = perf_counter()
    distances(range(models), silent)
    return perf_counter() - started


def _measured(
    name: str,
    population: Population,
    recordings: Sequence[Recording],
    seed: int,
    progress: Progress,
) -> MethodResult:
    """A rival's distances and times. A first call, with two models, is not counted: it loads the libraries."""

    distances = _some(name, population, recordings, seed)
    order = np.random.default_rng(seed).permutation(len(recordings)).tolist()
    distances(order[:2], silent)
    growth = []
    parts = (4, 2) if len(order) <= MANY else (16, 4)
    for count in sorted({len(order) // part for part in parts} - {0, 1}):
        started = perf_counter()
        distances(sorted(order[:count]), silent)
        growth.append((count, perf_counter() - started))
    started, processor = perf_counter(), process_time()
    matrix = distances(range(len(order)), progress)
    seconds, cpu_seconds = perf_counter() - started, process_time() - processor
    growth.append((len(order), seconds))
    return MethodResult(name, matrix, seconds=seconds, cpu_seconds=cpu_seconds, growth=tuple(growth))
