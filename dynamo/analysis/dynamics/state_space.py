"""All that ``dynamo analyse fixed-points`` shows of one model: its points, the map near them, and a portrait."""

from collections.abc import Sequence
from typing import Any

import attrs

from dynamo.analysis.dynamics.constant_input import constant_input
from dynamo.analysis.dynamics.fixed_points import FixedPoints, find_fixed_points, sample_states
from dynamo.analysis.dynamics.linearisation import Linearisation, linearise
from dynamo.analysis.dynamics.portrait import Portrait, portrait
from dynamo.analysis.networks.averages import mean_theta
from dynamo.contracts.data import Dataset
from dynamo.contracts.encoding import Reencoded
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs
from dynamo.fit.fit import Fit
from dynamo.population.population import Population


@attrs.frozen(eq=False)
class StateSpace:
    """The state space of a recurrent model at one constant input.

    Attributes:
        points: the fixed and slow points.
        linearisation: of the map at the points; None where there are none.
        portrait: the flow, the trajectories and the axes of a picture; None where there are no points.
    """

    points: FixedPoints
    linearisation: Linearisation | None = None
    portrait: Portrait | None = None

    __repr__ = brief


def state_space(
    model: DynamicalModel,
    inputs: Inputs,
    held: str = "zeros",
    *,
    tokens: Sequence[str] = (),
    starts: int = 1024,
    noise: float = 0.1,
    seed: int = 0,
    **options: Any,
) -> StateSpace:
    """Find the fixed points of a model from states that it visits, linearise it there and prepare a portrait.

    Args:
        model: a base model, or the meta-model at some θ.
        inputs: typical inputs, on which states are visited.
        held: the constant input by name, see :func:`dynamo.analysis.dynamics.constant_input.constant_input`.
        tokens: the vocabulary, where the inputs are tokens.
        starts: visited states to start from.
        noise: standard deviation of what is added to them.
        seed: of the states that are drawn.
        options: further ones of :func:`dynamo.analysis.dynamics.fixed_points.find_fixed_points`.

    Raises:
        DynamoError: what the functions of these steps raise.

    Example:
        >>> inputs = population.dataset(population[0]).test.inputs[:50]
        >>> result = state_space(fit.model_at(fit.theta[0]), inputs, starts=30, slow_tolerance=1e-3)
        >>> result.points.describe(result.linearisation)
        'fixed points: ...'
    """
    x = constant_input(model, held, inputs, tokens=tokens)
    visited = sample_states(model, inputs, starts, noise=noise, seed=seed)
    points = find_fixed_points(model, x, visited, seed=seed, **options)
    if len(points) == 0:
        return StateSpace(points)
    within_reach = None if bool(points.is_outlier.all()) else points.states[~points.is_outlier]
    return StateSpace(points, linearise(model, x, points.states), portrait(model, x, inputs, points=within_reach))


def model_and_data(
    fit: Fit, population: Population, at: str, *, base: bool = False, head: str | None = None
) -> tuple[DynamicalModel, Dataset]:
    """The meta-model at a place, or a base model, and the data set whose inputs it reads, in its own encoding.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        at: a base model's name, ``KEY=VALUE`` for the mean θ of a group, ``mean``, or ``zero``.
        base: the base model itself instead of the meta-model at its θ_n.
        head: the head that reads the meta-model; needed where there are several.

    Raises:
        DynamoError: a name, key or value that is unknown, ``base`` without a base model's name, or a head that is not
            there or not said.
    """
    if at in fit.names:
        chosen = population[fit.names.index(at)]
        data, model = population.dataset(chosen), chosen.model if base else fit.model_at(at, head)
        return (model.model, data.read_as(model.encoding)) if isinstance(model, Reencoded) else (model, data)
    if base:
        raise DynamoError(f"--base needs --at with a base model's name, not {at!r}: {did_you_mean(at, fit.names)}")
    theta = [0.0] * fit.theta.shape[1] if at == "zero" else mean_theta(fit, "all" if at == "mean" else at).tolist()
    model = fit.model_at(theta, head)
    of_this_head = (one for index, one in enumerate(population) if head in (None, fit.emulator.group_of(index)))
    return model, population.dataset(next(of_this_head))
