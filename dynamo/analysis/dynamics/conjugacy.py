"""Does V_n carry the dynamics of the meta-model to those of base model n? (Appendix C.)"""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.constant_input import constant_input, recurrent
from dynamo.analysis.dynamics.fixed_points import find_fixed_points, sample_states
from dynamo.analysis.dynamics.linearisation import linearise
from dynamo.analysis.dynamics.slow_points import fixed_within_reach
from dynamo.analysis.dynamics.transport import Transport
from dynamo.analysis.table import Table, columns_of, in_words
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel, RecurrentModel, StateMap
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs
from dynamo.fit.fit import Fit
from dynamo.population.base_model import BaseModel
from dynamo.population.population import Population
from dynamo.population.recording import run
from dynamo.system.devices import CPU, placed
from dynamo.system.progress import Progress, silent

#: Moves below this fraction of the states' own size, both squared, are rounding: the model stands still.
CONSTANT = 1e-12
#: The places of the meta-model: θ_n, the mean θ of n's group, those of the other groups (the mean over them).
PLACES = ("own theta", "own centroid", "other centroid")


@torch.no_grad()
def residual(
    base: RecurrentModel, state_map: StateMap, model: RecurrentModel, *, inputs: Inputs, steps: Sequence[int] = (1,)
) -> Floats:
    """How far F_n^k(V h_t) = V h_{t+k} fails on the states h_t that a meta-model at some θ visits (appendix C).

    The mean of ‖F_n^k(V h_t) − V h_{t+k}‖², over the mean of ‖h_{t+k} − h_t‖² of the base model itself on the same
    inputs: 0 for a conjugacy, 1 is as wrong as a map that stands still. The same base model has the same unit at every
    θ; one that stands still has none, and no residual (NaN). States count from the first step on, since the loss asks
    nothing of V h_0 (section 2.2); padded steps never do.

    Args:
        base: F_n.
        state_map: V_n.
        model: the meta-model at θ.
        inputs: what both read, each through its own ``encode``.
        steps: numbers of steps k.

    Returns:
        The residual for each k.

    Raises:
        DynamoError: a k below 1 or beyond all sequences, or states that are not finite.
    """
    if not steps or min(steps) < 1 or max(steps) >= inputs.longest:
        raise DynamoError(
            f"steps {tuple(steps)}: give whole numbers from 1 to {inputs.longest - 1}, the longest sequence having "
            f"{inputs.longest} steps"
        )
    base, state_map = placed(base, CPU), placed(state_map, CPU)
    images = state_map(run(model, inputs).states[0])
    own, x = run(base, inputs).states[0], base.encode(inputs.values)
    for what, states in (("base model's", own), ("meta-model's", images)):
        if not bool(states[inputs.mask].isfinite().all()):
            raise DynamoError(f"the {what} states are NaN or infinite on these inputs")
    residuals = []
    for k in steps:
        real = inputs.mask[:, k:]
        last = images.shape[1] - k
        h = images[:, :last][real]
        for step in range(1, k + 1):
            h = base.step(x[:, step : last + step][real], h)
        miss = (h - images[:, k:][real]).double().square().sum()
        moves, size = ((part[real]).double().square().sum() for part in (own[:, k:] - own[:, :last], own[:, k:]))
        residuals.append(float(miss / moves) if moves > CONSTANT * size else float("nan"))
    return np.array(residuals)


@attrs.frozen(eq=False)
class Conjugacy:
    """How far the state maps V_n are conjugacies between the meta-model at three places and the base models.

    N base models; places in the order of :data:`PLACES`; K numbers of steps. What is not defined is NaN.

    Attributes:
        names, groups: the base models and the group of each.
        steps: the numbers of steps.
        residual: see :func:`residual`, ``[N, 3, K]``.
        fixed_points: how many fixed points the meta-model has there under the input that is held, ``[N, 3]``.
        speed: root mean square of F_n(x, V_n h*) − V_n h* over these points h*, divided by the same at the states
            V_n h that the meta-model visits at θ_n, ``[N, 3]``: 0 where fixed points become fixed points, 1 where they
            become points like any other.
        spectra: mean distance between the leading eigenvalues of the meta-model's Jacobian at h* and those of
            the base model's at V_n h*, paired so that it is least, ``[N, 3]``.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    steps: tuple[int, ...]
    residual: Floats
    fixed_points: Floats
    speed: Floats
    spectra: Floats

    __repr__ = brief

    @property
    def ordered(self) -> Floats:
        """The fraction of models with a residual that is smaller at their own centroid than at the others, ``[K]``, of
        those that have both.
        """
        _, centroid, other = np.moveaxis(self.residual, 1, 0)
        both = np.isfinite(centroid) & np.isfinite(other)
        return np.array([_mean((centroid < other)[both[:, k], k].tolist()) for k in range(len(self.steps))])

    def table(self, carried: Transport, key: str = "group") -> Table:
        """A row for each base model and place.

        Args:
            carried: what the state maps carry over, of the same models.
            key: of the metadata whose values are the groups.
        """
        figures = [*(f"residual_{k}" for k in self.steps), "fixed_points", "speed", "spectra"]
        figures += ["dimension", "rank", "condition", "lost"]
        columns = ["model", *columns_of([key], ["model", "place", *figures]), "place", *figures]
        rows: list[list[object]] = []
        for index, (name, group, one) in enumerate(zip(self.names, self.groups, carried.inverses, strict=True)):
            for where, place in enumerate(PLACES):
                own = (float(figure[index, where]) for figure in (self.fixed_points, self.speed, self.spectra))
                inverse = (one.dimension, one.rank, one.condition, one.lost)
                rows.append([name, group, place, *self.residual[index, where].tolist(), *own, *inverse])
        return columns, rows

    def describe(self) -> str:
        """The mean residuals at each number of steps, of the models that have them."""
        sentences = []
        for index, (k, ordered) in enumerate(zip(self.steps, self.ordered.tolist(), strict=True)):
            own, centroid, other = (in_words(_mean(values.tolist())) for values in self.residual[:, :, index].T)
            below = "" if np.isnan(ordered) else f"; own below other for {ordered:.0%} of the models"
            sentences.append(
                f"{k} step(s): mean residual {own} at θ_n, {centroid} at the own centroid, {other} at the others{below}"
            )
        return "\n".join(sentences)


@torch.no_grad()
def conjugacy(
    fit: Fit,
    population: Population,
    groups: Sequence[object],
    *,
    steps: Sequence[int] = (1, 5),
    held: str | None = None,
    examples: int = 256,
    starts: int = 40,
    leading: int = 5,
    seed: int = 0,
    progress: Progress = silent,
) -> Conjugacy:
    """Test appendix C at θ_n, at the centroid of n's group and at those of the other groups.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        groups: the group of each; the mean theta of a group is its centroid.
        steps: numbers of steps k.
        held: the constant input for the fixed points, by the names of :mod:`dynamo.analysis.dynamics.constant_input`;
            where it is None, the most frequent token, or the mean of inputs without words. (An encoded input of zero,
            as in section 5, is none that both models know.)
        examples: how many examples of the unlabelled half of each model's data, the first ones.
        starts: visited states that the search for fixed points starts from.
        leading: how many eigenvalues are compared.
        seed: of the starts.
        progress: called with (models done, models).

    Raises:
        DynamoError: models that are not recurrent, not one group a model, or what :func:`residual` raises.

    Example:
        >>> result = conjugacy(fit, population, fit.values_of("fraction"), steps=[1], examples=20, starts=4)
        >>> result.residual.shape == (len(population), 3, 1)
        True
    """
    names = tuple(str(group) for group in groups)
    if len(names) != len(population):
        raise DynamoError(f"there are {len(population)} base models, and groups of {len(names)}")
    population.check_steps()
    centroids = {name: fit.theta[[own == name for own in names]].mean(0) for name in sorted(set(names))}
    residuals = np.full((len(names), len(PLACES), len(steps)), np.nan)
    fixed_points, speeds, spectra = np.full((3, len(names), len(PLACES)), np.nan)
    for index, (base, group) in enumerate(zip(population, names, strict=True)):
        dataset = population.dataset(base)
        inputs = dataset.probes()[:examples]
        pair = _Pair.of(fit, index, base, inputs=inputs, held=held, tokens=dataset.tokens)
        others = [centroid for name, centroid in centroids.items() if name != group]
        for place, thetas in enumerate(([fit.theta[index]], [centroids[group]], others)):
            if not thetas:
                continue
            models = (fit.model_at(theta, pair.head) for theta in thetas)
            figures = _Figures.mean(
                [pair.figures(model, steps=steps, starts=starts, leading=leading, seed=seed) for model in models]
            )
            residuals[index, place] = figures.residual
            fixed_points[index, place] = figures.fixed_points
            speeds[index, place] = figures.speed
            spectra[index, place] = figures.spectra
        progress(index + 1, len(names))
    return Conjugacy(
        names=tuple(fit.names),
        groups=names,
        steps=tuple(steps),
        residual=residuals,
        fixed_points=fixed_points,
        speed=speeds,
        spectra=spectra,
    )


@attrs.frozen
class _Figures:
    """The figures of :class:`Conjugacy` for one base model and the meta-model at one θ; NaN where not defined."""

    residual: tuple[float, ...]
    fixed_points: float
    speed: float = float("nan")
    spectra: float = float("nan")

    @classmethod
    def mean(cls, several: "Sequence[_Figures]") -> "_Figures":
        """The means of the numbers that are finite."""
        return cls(
            residual=tuple(map(_mean, zip(*(one.residual for one in several), strict=True))),
            fixed_points=_mean([one.fixed_points for one in several]),
            speed=_mean([one.speed for one in several]),
            spectra=_mean([one.spectra for one in several]),
        )


def _mean(numbers: Sequence[float]) -> float:
    """The mean of the finite ones; NaN where there are none."""
    known = [number for number in numbers if np.isfinite(number)]
    return sum(known) / len(known) if known else float("nan")


@attrs.frozen(eq=False)
class _Pair:
    """A base model with its state map.

    Attributes:
        typical: the speed of the base model at V_n of the states visited at θ_n, under the constant input.
    """

    base: RecurrentModel
    state_map: StateMap
    head: str
    inputs: Inputs
    held: str
    tokens: Sequence[str]
    typical: float

    @classmethod
    def of(
        cls, fit: Fit, index: int, base: BaseModel, *, inputs: Inputs, held: str | None, tokens: Sequence[str]
    ) -> "_Pair":
        held = held or _usual(inputs, tokens)
        model, state_map = placed(recurrent(base.model), CPU), placed(fit.emulator.maps_of(index)[0], CPU)
        images = state_map(run(recurrent(fit.model_at(base.name)), inputs).states[0])[inputs.mask]
        return cls(
            base=model,
            state_map=state_map,
            head=fit.emulator.group_of(index),
            inputs=inputs,
            held=held,
            tokens=tokens,
            typical=_speed(model, constant_input(model, held, inputs, tokens=tokens), images),
        )

    def figures(self, model: DynamicalModel, *, steps: Sequence[int], starts: int, leading: int, seed: int) -> _Figures:
        """The figures for a meta-model."""
        there = recurrent(model)
        x, base_x = (constant_input(one, self.held, self.inputs, tokens=self.tokens) for one in (there, self.base))
        visited = sample_states(there, self.inputs, starts, seed=seed)
        fixed = fixed_within_reach(find_fixed_points(there, x, visited))
        residuals = residual(self.base, self.state_map, there, inputs=self.inputs, steps=steps)
        figures = _Figures(tuple(residuals.tolist()), float(len(fixed)))
        if len(fixed) == 0:
            return figures
        images = self.state_map(torch.from_numpy(fixed).to(base_x.dtype)[:, None])[:, 0]
        spectra = (linearise(there, x, fixed).eigenvalues, linearise(self.base, base_x, images).eigenvalues)
        return attrs.evolve(
            figures,
            speed=_speed(self.base, base_x, images) / self.typical if self.typical > 0 else float("nan"),
            spectra=spectral_distance(spectra[0].numpy(), spectra[1].numpy(), leading),
        )


def _usual(inputs: Inputs, tokens: Sequence[str]) -> str:
    """The name of the most frequent token, or of the mean of inputs without words."""
    if not tokens:
        return "mean"
    return f"token:{tokens[int(inputs.values[inputs.mask].mode().values)]}"


def _speed(model: RecurrentModel, x: Tensor, states: Tensor) -> float:
    """The root mean square of ‖F(x, h) − h‖."""
    moves = model.step(x.expand(len(states), -1), states) - states
    return float(moves.double().square().sum(1).mean().sqrt())


def spectral_distance(one: NDArray[np.complexfloating], other: NDArray[np.complexfloating], leading: int = 5) -> float:
    """The mean distance of the leading eigenvalues of pairs of spectra ``[P, H]`` and ``[P, H']``.

    Of each spectrum the ``leading`` largest in size are taken (fewer where there are fewer), and paired so that the
    mean distance is least.
    """
    from scipy.optimize import linear_sum_assignment

    count = min(leading, one.shape[1], other.shape[1])
    distances = []
    for first, second in zip(one, other, strict=True):
        leaders = [values[np.argsort(-np.abs(values), kind="stable")[:count]] for values in (first, second)]
        apart = np.abs(leaders[0][:, None] - leaders[1])
        distances.append(apart[linear_sum_assignment(apart)].mean())
    return float(np.mean(distances))
