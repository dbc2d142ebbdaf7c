"""Does DYNAMO's map tell groups apart that other measures of similarity do not? All on one population."""

from collections.abc import Sequence
from functools import partial
from time import perf_counter, process_time

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import Floats
from dynamo.analysis.rivals import RIVALS, distance_matrix, rival_named
from dynamo.analysis.rivals.mds import Kind, Layout, mds
from dynamo.analysis.rivals.pairs import CLUSTERERS, PairFigures, pair_figures
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.trajectory import Inputs, collate
from dynamo.fit.fit import Fit
from dynamo.population.base_model import MetadataValue
from dynamo.population.population import Population
from dynamo.population.recording import Recording, run
from dynamo.system.progress import Progress, Stages, silent, silent_stages

#: The name of DYNAMO's own row: Euclidean distances of the model embeddings.
DYNAMO = "dynamo"

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
        label: what names the groups.
        values: the label of each model.
        names: of the models.
        methods: one result per method, DYNAMO's first.
        recording_seconds: wall time of the recordings that all rivals read.
        fit_seconds: wall time of DYNAMO's fit, on the machine that made it; None where the run does not tell.
    """

    label: str
    values: Sequence[MetadataValue]
    names: Sequence[str]
    methods: tuple[MethodResult, ...]
    recording_seconds: float
    fit_seconds: float | None

    def table(self) -> list[dict[str, str | float | None]]:
        """What each method found: a row per method, by column; what it lacks is None."""
        return [
            {
                "method": method.name,
                **{column: _of(method.figures, name) for column, name in COLUMNS.items()},
                **{f"ari {name}": method.figures.ari[name] if method.figures else None for name in CLUSTERERS},
            }
            for method in self.methods
        ]

    def costs(self) -> list[dict[str, str | float | None]]:
        """What each method took, or why it gave nothing: a row per method, by column. The recordings serve all rivals
        together.
        """
        return [
            {
                "method": method.name,
                "seconds": method.seconds,
                "cpu seconds": method.cpu_seconds,
                "exponent": method.exponent,
                "recording seconds": None if method.name == DYNAMO else self.recording_seconds,
                "fit seconds": self.fit_seconds if method.name == DYNAMO else None,
                "note": method.reason,
            }
            for method in self.methods
        ]


def compare(
    fit: Fit,
    population: Population,
    label: str,
    *,
    methods: Sequence[str] | None = None,
    examples: int | None = 512,
    kind: Kind = "classical",
    seed: int = 0,
    progress: Stages = silent_stages,
) -> Comparison:
    """Compare DYNAMO's map with rivals, by the figures of :mod:`dynamo.analysis.rivals.pairs`.

    A rival that fails is kept, with the reason. Each rival's time is measured for all models, a half and a quarter of
    them.

    Args:
        fit: the fit.
        population: its base models, in the order of the thetas.
        label: what names the groups.
        methods: the names of rivals; None for all.
        examples: inputs on which the rivals compare models; None for all.
        kind: of the layouts.
        seed: of the examples, the rivals, the parts of the population, the clusterers and the permutations.
        progress: a stage for each rival, in pairs of models.

    Raises:
        DynamoError: an unknown method, a label that some models lack, groups that give no figures, or fewer than three
        models.
    """
    chosen = list(RIVALS) if methods is None else list(dict.fromkeys(methods))
    for name in chosen:
        rival_named(name)
    if [base.name for base in population] != fit.names:
        raise DynamoError("the population's models are not those of the fit, in its order: use fit.open_population()")
    values = fit.values_of(label)
    judged = partial(_judged, values=values, kind=kind, seed=seed)
    results = [judged(MethodResult(DYNAMO, theta_distances(fit)))]
    started = perf_counter()
    recordings = common_recordings(population, examples, seed) if chosen else []
    recording_seconds = perf_counter() - started
    for name in chosen:
        try:
            results.append(judged(_measured(name, population, recordings, seed, progress(name, None))))
        except Exception as error:  # what a rival or its library raises is not known
            reason = str(error) if isinstance(error, DynamoError) else f"{type(error).__name__}: {error}"
            results.append(MethodResult(name, reason=reason))
    return Comparison(label, values, fit.names, tuple(results), recording_seconds, fit.seconds or None)


def theta_distances(fit: Fit) -> Floats:
    """DYNAMO's own distances ``[N, N]``: Euclidean, of the model embeddings."""
    from scipy.spatial.distance import pdist, squareform

    found: Floats = squareform(pdist(fit.theta.double().numpy()))
    return found


def common_recordings(population: Population, examples: int | None, seed: int = 0) -> list[Recording]:
    """Every model on the same inputs, so that models of different data sets can be compared.

    Args:
        population: the base models.
        examples: how many, drawn in equal shares from the unlabelled halves of the population's data sets; None for all
            of them.
        seed: of the draw.

    Raises:
        DynamoError: fewer examples than data sets.
    """
    datasets = {id(dataset): dataset for dataset in (population.dataset(base) for base in population)}.values()
    if examples is not None and examples < len(datasets):
        raise DynamoError(f"{examples} examples cannot serve {len(datasets)} data sets: take more")
    generator = torch.Generator().manual_seed(seed)
    parts: list[Inputs] = []
    for number, dataset in enumerate(datasets):
        _, probe = dataset.halves()
        share = len(probe) if examples is None else (examples + number) // len(datasets)
        parts.append(probe[torch.randperm(len(probe), generator=generator)[:share].sort().values])
    inputs = collate(parts)
    return [Recording(inputs, run(base.model, inputs)) for base in population]


def _of(part: object, name: str) -> float | None:
    return None if part is None else float(getattr(part, name))


def _judged(result: MethodResult, values: Sequence[MetadataValue], kind: Kind, seed: int) -> MethodResult:
    """The same with figures and layout."""
    assert result.distances is not None
    figures = pair_figures(result.distances, values, seed=seed)
    return attrs.evolve(result, figures=figures, layout=mds(result.distances, 2, kind))


def _measured(
    name: str,
    population: Population,
    recordings: Sequence[Recording],
    seed: int,
    progress: Progress,
) -> MethodResult:
    """A rival's distances and times. A first call, with two models, is not counted: it loads the libraries."""

    def distances(models: Sequence[int], tick: Progress = silent) -> Floats:
        spaces = [population[number].outputs for number in models]
        return distance_matrix(
            name, [recordings[number] for number in models], examples=None, seed=seed, progress=tick, spaces=spaces
        )

    order = np.random.default_rng(seed).permutation(len(recordings)).tolist()
    distances(order[:2])
    growth = []
    for count in sorted({len(order) // 4, len(order) // 2} - {0, 1}):
        started = perf_counter()
        distances(sorted(order[:count]))
        growth.append((count, perf_counter() - started))
    started, processor = perf_counter(), process_time()
    found = distances(range(len(order)), progress)
    seconds, cpu_seconds = perf_counter() - started, process_time() - processor
    growth.append((len(order), seconds))
    return MethodResult(name, found, seconds=seconds, cpu_seconds=cpu_seconds, growth=tuple(growth))
