"""What lies between models, and how good is their average? Places of the map that belong to no model (section 4.2).

Every average here is a *mixture*, weights over the base models that sum to one. On the map it is the place θ = Σ w_n
θ_n. Two averages need no map and are the yardsticks: the network with the averaged weights, and the ensemble, which
averages the base models' outputs.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import Floats
from dynamo.analysis.networks.evaluate import check_targets, scores_at
from dynamo.analysis.networks.geodesic import geodesic
from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.protocols import DynamicalModel
from dynamo.fit.fit import Fit
from dynamo.population.base_model import BaseModel, MetadataValue
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

    @property
    def dip(self) -> float | None:
        """How far the worst score lies below the straight line between the ends' scores; 0 where none does."""
        if self.scores is None:
            return None
        chord = np.linspace(self.scores[0], self.scores[-1], len(self.scores))
        return float(max(0.0, (chord - self.scores).max()))


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


def mixture(fit: Fit, subset: str | Sequence[str]) -> Floats:
    """Equal weights on a subset of the base models and none on the others, ``[N]``.

    Args:
        fit: the fit.
        subset: models' names, label values as ``KEY=VALUE``, or ``all``; several in a list or with commas.

    Raises:
        DynamoError: an unknown name, label or value, or no models at all.
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
    """The θ of the average of a subset, ``[d]``; see :func:`mixture`."""
    theta: Floats = mixture(fit, subset) @ fit.theta.double().numpy()
    return theta


def between(
    fit: Fit,
    population: Population,
    start: str,
    end: str,
    points: int = 21,
    head: str | None = None,
    shortest: bool = False,
    progress: Progress = silent,
) -> Between:
    """Score what lies between two models or averages A and B: on the map (line, geodesic), and without it.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        start: A, as :func:`mixture` takes it.
        end: B.
        points: S, with both ends.
        head: the head that is scored; needed where the models have several. The test data are those of the first of
            the models with that head.
        shortest: also find the geodesic, on the unlabelled half of the training data.
        progress: called with (steps, steps) of the geodesic.

    Raises:
        DynamoError: what :func:`mixture` finds, fewer than two points, a head that is not there or not said, or a
            score that is not defined.
    """
    if points < 2:
        raise DynamoError(f"a way needs at least 2 points, not {points}")
    ends, alphas = np.stack([mixture(fit, start), mixture(fit, end)]), np.linspace(0, 1, points)
    mixtures = np.outer(1 - alphas, ends[0]) + np.outer(alphas, ends[1])
    task = _Task.choose(fit, population, mixtures, head)
    straight = mixtures @ fit.theta.double().numpy()
    line, shorter = Way("line", task.at(straight)), []
    if shortest:
        found = geodesic(fit, straight, task.dataset.halves()[1], task.head, progress=progress)
        line = attrs.evolve(line, energy=found.line_energy, length=found.line_length)
        shorter = [Way("geodesic", task.at(found.thetas), "", found.energy, found.length)]
    scores = (task.base_scores(ends[0]), task.base_scores(ends[1]))
    ways = (line, *shorter, task.parameters(mixtures), task.ensemble(mixtures))
    return Between((start, end), alphas, ways, scores)


def average(fit: Fit, population: Population, subset: str, head: str | None = None) -> Average:
    """Score the average of a subset of the base models on the map, against the models and the two other averages.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        subset: as :func:`mixture` takes it.
        head: as in :func:`between`.

    Raises:
        DynamoError: as :func:`between`.
    """
    weights = mixture(fit, subset)[None]
    task = _Task.choose(fit, population, weights, head)
    base, others = task.base_scores(weights[0]), (task.ensemble(weights), task.parameters(weights))
    ensemble, parameters = (None if way.scores is None else float(way.scores[0]) for way in others)
    return Average(
        subset,
        int((weights > 0).sum()),
        float(task.at(weights @ fit.theta.double().numpy())[0]),
        float(base.mean()) if len(base) else None,
        float(base.max()) if len(base) else None,
        ensemble,
        parameters,
        "; ".join(dict.fromkeys(way.reason for way in others if way.reason)),
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
    there = [table.get(key) for table in fit.metadata]
    known = {key for table in fit.metadata for key in table}
    if key not in known:
        raise DynamoError(f"no metadata is called {key!r}: {did_you_mean(key, known)}")
    found = [number for number, label in enumerate(there) if label is not None and _same(label, value)]
    if not found:
        values = ", ".join(sorted({str(label) for label in there if label is not None}))
        raise DynamoError(f"no model has {part}: the values of {key!r} are {values}")
    return found


def _same(label: MetadataValue, text: str) -> bool:
    """Whether a label is what a user wrote: ``1`` is 1.0, ``true`` is True."""
    if isinstance(label, bool):
        return str(label).lower() == text.lower()
    with suppress(ValueError):
        return label == (text if isinstance(label, str) else float(text))
    return False


@attrs.frozen(eq=False)
class _Task:
    """The task that averages of some of the models are scored on."""

    fit: Fit
    head: str
    dataset: Dataset
    models: list[BaseModel]
    numbers: list[int]

    @classmethod
    def choose(cls, fit: Fit, population: Population, mixtures: Floats, head: str | None) -> "_Task":
        numbers = [int(number) for number in np.flatnonzero(mixtures.any(0))]
        groups = list(dict.fromkeys(fit.emulator.group_of(number) for number in numbers))
        if head is None and len(groups) > 1:
            raise DynamoError(f"these models have several heads: say which with --head, one of {', '.join(groups)}")
        head = head or groups[0]
        space = fit.model_at(fit.theta[0], head).outputs
        first = next(n for n in [*numbers, *range(len(fit.names))] if fit.emulator.group_of(n) == head)
        dataset = population.dataset(population[first])
        check_targets(dataset.test, space)
        return cls(fit, head, dataset, [population[number] for number in numbers], numbers)

    def at(self, thetas: Floats) -> Floats:
        return scores_at(self.fit, thetas, self.dataset.test, head=self.head)

    def base_scores(self, weights: Floats) -> Floats:
        chosen = [base for number, base in zip(self.numbers, self.models, strict=True) if weights[number] > 0]
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
            return Way(name, np.array(scores_of(mixtures[:, self.numbers])))
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
        return [task_score(mean, test.targets, test.inputs.mask, space) for mean in means]

    def _group(self, base: BaseModel) -> str:
        return self.fit.emulator.group_of(self.fit.names.index(base.name))
