"""What lies between models, and how good is their average? Thetas that belong to no model (section 4.2).

Every average here is a *mixture*, weights over the base models that sum to one. On the map it is θ = Σ w_n θ_n. Two
averages need no map, and the map is measured against them: the network with the averaged weights, and the ensemble,
which averages the base models' outputs.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import Floats
from dynamo.analysis.networks.evaluate import check_targets, scores_at
from dynamo.analysis.networks.geodesic import geodesic
from dynamo.analysis.table import Table
from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief, result_html
from dynamo.fit.fit import Fit
from dynamo.population.base_model import BaseModel, is_written
from dynamo.population.population import Population
from dynamo.population.recording import run
from dynamo.population.scores import score, task_score
from dynamo.registry import full_spec
from dynamo.system.progress import Progress, silent


@attrs.frozen(eq=False)
class Way:
    """One way from A to B.

    Attributes:
        name: ``line`` and ``geodesic`` on the map, ``parameters``, ``ensemble``.
        scores: of the networks on the way, ``[S]``; None where there are none.
        reason: why there are none.
        energy, length: on the map, in the metric of :mod:`dynamo.analysis.networks.geodesic`; None where not measured.
    """

    name: str
    scores: Floats | None
    reason: str = ""
    energy: float | None = None
    length: float | None = None

    __repr__ = brief

    @property
    def dip(self) -> float | None:
        """How far the worst score lies below the straight line between the ends' scores; 0 where none does."""
        if self.scores is None:
            return None
        chord = np.linspace(self.scores[0], self.scores[-1], len(self.scores))
        return float(max(0.0, (chord - self.scores).max()))

    def row(self) -> list[object]:
        """The way's row of :meth:`Between.table`."""
        scores: list[object] = [None] * 3
        if self.scores is not None:
            scores = [float(self.scores[0]), float(self.scores[-1]), float(self.scores.min())]
        return [self.name, *scores, self.dip, self.energy, self.length, self.reason]


@attrs.frozen(eq=False)
class Between:
    """What lies between two models or averages.

    Attributes:
        ends: what A and B are called.
        alphas: the weight of B, from 0 to 1, ``[S]``.
        ways: the ways from A to B.
        base_scores: the scores of the base models of A, and of those of B that do the task that is scored.
    """

    ends: tuple[str, str]
    alphas: Floats
    ways: tuple[Way, ...]
    base_scores: tuple[Floats, Floats]

    __repr__ = brief
    _repr_html_ = result_html

    def table(self) -> Table:
        """The ways: scores at both ends, the least score, the dip, energy and length, why there are no scores."""
        columns = ["way", "score_at_a", "score_at_b", "least", "dip", "energy", "length", "note"]
        return columns, [way.row() for way in self.ways]

    def path_table(self) -> Table:
        """The scores along every way that has some, by the weight of B."""
        scores = {way.name: way.scores.tolist() for way in self.ways if way.scores is not None}
        return ["alpha", *scores], [list(row) for row in zip(self.alphas.tolist(), *scores.values(), strict=True)]


@attrs.frozen
class Average:
    """The average of a subset of the base models. All scores are those of the task on test data.

    Attributes:
        of: what the subset is called.
        models: how many base models it has.
        emulator_score: the meta-model's at the mean of their θ_n.
        base_mean, base_best: of the base models themselves; None where none does the task that is scored.
        ensemble_score: of the mean of their outputs; None where it is not defined.
        parameters_score: of the network with the mean of their weights; None where it is not defined.
        reason: why something is not defined.
    """

    of: str
    models: int
    emulator_score: float
    base_mean: float | None
    base_best: float | None
    ensemble_score: float | None
    parameters_score: float | None
    reason: str = ""


def average_table(averages: Sequence[Average]) -> Table:
    """A row for each average, a column for each of its attributes."""
    return [field.name for field in attrs.fields(Average)], [list(attrs.astuple(average)) for average in averages]


def mixture(fit: Fit, subset: str | Sequence[str]) -> Floats:
    """Equal weights on a subset of the base models and none on the others, ``[N]``.

    Args:
        fit: the fit.
        subset: models' names, metadata as ``KEY=VALUE``, or ``all``; several in a list or with commas.

    Raises:
        DynamoError: an unknown name, key or value, or no models at all.
    """
    parts = [part.strip() for part in (subset.split(",") if isinstance(subset, str) else subset)]
    if not any(parts):
        raise DynamoError("the average of no models is not defined: give names, KEY=VALUE, or all")
    weights = np.zeros(len(fit.names))
    for part in parts:
        weights[_members(fit, part)] = 1
    mixed: Floats = weights / weights.sum()
    return mixed


def mean_theta(fit: Fit, subset: str | Sequence[str] = "all") -> Floats:
    """The mean of the θ_n of a subset of the base models, ``[d]``.

    Args:
        fit: the fit.
        subset: as :func:`mixture` takes it.

    Raises:
        DynamoError: what :func:`mixture` raises.

    Example:
        >>> bool(np.allclose(mean_theta(fit), fit.theta.mean(0), atol=1e-6))
        True
        >>> mean_theta(fit, "fraction=1").shape == fit.theta[0].shape
        True
    """
    theta: Floats = mixture(fit, subset) @ fit.theta.double().numpy()
    return theta


def between(
    fit: Fit,
    population: Population,
    ends: tuple[str, str],
    *,
    points: int = 21,
    head: str | None = None,
    shortest: bool = False,
    progress: Progress = silent,
) -> Between:
    """Score what lies between two models or averages A and B: on the map (line, geodesic), and without it.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        ends: A and B, each as :func:`mixture` takes it.
        points: S, with both ends.
        head: the head that is scored; needed where the models have several. The test data are those of the first of
            the models with that head.
        shortest: also find the geodesic, on the probe inputs of the data.
        progress: called with (steps, steps) of the geodesic.

    Raises:
        DynamoError: what :func:`mixture` raises, fewer than two points, a head that is not there or not said, or a
            score that is not defined.

    Example:
        >>> result = between(fit, population, ("fraction=1", "fraction=0.5"), points=5)
        >>> [way.name for way in result.ways]
        ['line', 'parameters', 'ensemble']
        >>> result.ways[0].scores.shape
        (5,)
    """
    if points < 2:
        raise DynamoError(f"a way needs at least 2 points, not {points}")
    start, end = (mixture(fit, subset) for subset in ends)
    alphas = np.linspace(0, 1, points)
    mixtures = np.outer(1 - alphas, start) + np.outer(alphas, end)
    scoring = _Scoring.of(fit, population, mixtures, head=head)
    straight = mixtures @ fit.theta.double().numpy()
    line, shorter = Way("line", scoring.at(straight)), []
    if shortest:
        unlabelled = scoring.dataset.probes()
        shortest_way = geodesic(fit, straight, unlabelled, head=scoring.head, progress=progress)
        line = attrs.evolve(line, energy=shortest_way.line_energy, length=shortest_way.line_length)
        scores = scoring.at(shortest_way.thetas)
        shorter = [Way("geodesic", scores, energy=shortest_way.energy, length=shortest_way.length)]
    return Between(
        ends=ends,
        alphas=alphas,
        ways=(line, *shorter, scoring.parameters(mixtures), scoring.ensemble(mixtures)),
        base_scores=(scoring.base_scores(start), scoring.base_scores(end)),
    )


def average(fit: Fit, population: Population, subset: str, *, head: str | None = None) -> Average:
    """Score the average of a subset of the base models on the map, against the models and the two other averages.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        subset: as :func:`mixture` takes it.
        head: as in :func:`between`.

    Raises:
        DynamoError: as :func:`between`.

    Example:
        >>> result = average(fit, population, "all")
        >>> result.models == len(population)
        True
        >>> 0 <= result.emulator_score <= 1
        True
    """
    weights = mixture(fit, subset)[None]
    scoring = _Scoring.of(fit, population, weights, head=head)
    base, others = scoring.base_scores(weights[0]), (scoring.ensemble(weights), scoring.parameters(weights))
    ensemble, parameters = (None if way.scores is None else float(way.scores[0]) for way in others)
    return Average(
        of=subset,
        models=int((weights > 0).sum()),
        emulator_score=float(scoring.at(weights @ fit.theta.double().numpy())[0]),
        base_mean=float(base.mean()) if len(base) else None,
        base_best=float(base.max()) if len(base) else None,
        ensemble_score=ensemble,
        parameters_score=parameters,
        reason="; ".join(dict.fromkeys(way.reason for way in others if way.reason)),
    )


def parameter_average(models: Sequence[BaseModel], weights: Sequence[float]) -> DynamicalModel:
    """The network whose weights, and whose batch-norm statistics, are the weighted means of those of some models.

    Raises:
        DynamoError: the models are not all of one registered architecture.
    """
    specs = []
    for base in models:
        if base.architecture is None:
            raise DynamoError(f"{base.name} is a live module: whether its weights match others' is not known")
        specs.append(full_spec("architecture", base.architecture))
        if specs[-1] != specs[0]:
            raise DynamoError(f"{models[0].name} is a {specs[0]}, {base.name} a {specs[-1]}")
    states = [base.model.state_dict() for base in models]
    mixed = {
        key: sum((weight * state[key] for weight, state in zip(weights, states, strict=True)), torch.zeros_like(first))
        if first.is_floating_point()
        else first
        for key, first in states[0].items()
    }
    model = deepcopy(models[0].model)
    model.load_state_dict(mixed)
    return model


def _members(fit: Fit, part: str) -> list[int]:
    if part in fit.names:
        return [fit.names.index(part)]
    if part == "all":
        return list(range(len(fit.names)))
    key, equals, value = part.partition("=")
    if not equals:
        raise DynamoError(f"no base model is called {part!r}: {did_you_mean(part, fit.names)}")
    known = {key for table in fit.metadata for key in table}
    if key not in known:
        raise DynamoError(f"no metadata is called {key!r}: {did_you_mean(key, known)}")
    own = {index: table[key] for index, table in enumerate(fit.metadata) if key in table}
    members = [index for index, written in own.items() if is_written(written, value)]
    if not members:
        values = ", ".join(sorted({str(written) for written in own.values()}))
        raise DynamoError(f"no model has {part}: the values of {key!r} are {values}")
    return members


@attrs.frozen(eq=False)
class _Scoring:
    """How averages of some of the models are scored, on the test data of one head.

    Attributes:
        indices: of the base models that any of the averages has, among all.
        models: these base models.
    """

    fit: Fit
    head: str
    dataset: Dataset
    models: list[BaseModel]
    indices: list[int]

    @classmethod
    def of(cls, fit: Fit, population: Population, mixtures: Floats, *, head: str | None) -> "_Scoring":
        indices = [int(index) for index in np.flatnonzero(mixtures.any(0))]
        groups = list(dict.fromkeys(fit.emulator.group_of(index) for index in indices))
        if head is None and len(groups) > 1:
            raise DynamoError(f"these models have several heads: say which with --head, one of {', '.join(groups)}")
        head = head or groups[0]
        space = fit.model_at(fit.theta[0], head).outputs
        first = next(n for n in [*indices, *range(len(fit.names))] if fit.emulator.group_of(n) == head)
        for index in indices:
            population[index].check_runs()
        dataset = population.dataset(population[first])
        check_targets(dataset.test, space)
        return cls(fit, head, dataset, [population[index] for index in indices], indices)

    def at(self, thetas: Floats) -> Floats:
        return scores_at(self.fit, thetas, self.dataset.test, head=self.head)

    def base_scores(self, weights: Floats) -> Floats:
        chosen = [base for index, base in zip(self.indices, self.models, strict=True) if weights[index] > 0]
        mine = [base for base in chosen if self._group(base) == self.head]
        return np.array([score(base.model, self.dataset.test) for base in mine])

    def parameters(self, mixtures: Floats) -> Way:
        return self._way("parameters", self._parameters, mixtures)

    def ensemble(self, mixtures: Floats) -> Way:
        return self._way("ensemble", self._ensemble, mixtures)

    def _way(self, name: str, scores_of: Callable[[Floats], list[float]], mixtures: Floats) -> Way:
        for base in self.models:
            if self._group(base) != self.head:
                return Way(name, None, f"{base.name} does another task ({self._group(base)})")
        try:
            return Way(name, np.array(scores_of(mixtures[:, self.indices])))
        except DynamoError as error:
            return Way(name, None, str(error))

    def _parameters(self, mixtures: Floats) -> list[float]:
        networks = (parameter_average(self.models, weights.tolist()) for weights in mixtures)
        return [score(network, self.dataset.test) for network in networks]

    def _ensemble(self, mixtures: Floats) -> list[float]:
        test, space = self.dataset.test, self.models[0].outputs
        outputs = torch.stack([run(base.model, test.inputs).at_readout(space.readout) for base in self.models])
        outputs = outputs.softmax(-1) if space.kind == "classes" else outputs
        means = (torch.tensordot(weights, outputs, 1) for weights in torch.as_tensor(mixtures, dtype=outputs.dtype))
        return [task_score(mean, test.labels, test.inputs.mask, space) for mean in means]

    def _group(self, base: BaseModel) -> str:
        return self.fit.emulator.group_of(self.fit.names.index(base.name))
