"""Where does a recurrent model come to rest, or nearly so, when its input is held?"""

import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.constant_input import ConstantInput
from dynamo.analysis.dynamics.fixed_points import FixedPoints, find_fixed_points, sample_states
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.trajectory import Inputs
from dynamo.population.recording import run

#: A state is slow if a step moves it by at most this fraction of the usual step.
SLOW = 0.01
#: A state is nearly fixed if a step moves it by at most this fraction of the usual step.
NEARLY = 0.05
#: What is not slow after this many steps never comes to rest: it goes round, or far away.
PATIENCE = 1000


@torch.no_grad()
def slow_points(model: DynamicalModel, x: Tensor, inputs: Inputs, *, starts: int, seed: int = 0) -> Floats:
    """Where h ↦ F(x, h) leads visited states to, until a step moves them by at most :data:`SLOW` of the usual step.

    The usual step is the root mean square of ‖h_{t+1} − h_t‖ on the inputs, so that "slow" means the same for states of
    any size. On a line attractor the points lie along the line, near to where the input left the states. Descent on
    ‖F(x, h) − h‖² (section 5) also finds slow states that the model leaves at once; these points are where it stays.

    Args:
        model: the model.
        x: the encoded input that is held, ``[E]``.
        inputs: sequences that the model is run on.
        starts: how many visited states to start from.
        seed: of their draw.

    Returns:
        A point for each start that comes to rest, ``[P, H]``.

    Raises:
        DynamoError: a model without ``step``, states that are not finite, no sequence of two steps, or a model that
            does not move on the inputs.

    Example:
        >>> inputs = population.dataset(population[0]).test.inputs[:20]
        >>> slow_points(population[0].model, torch.zeros(8), inputs, starts=5).shape[1]
        8
    """
    dynamics = ConstantInput(model, x)
    h = dynamics.states(sample_states(model, inputs, starts, seed=seed))
    limit = _speed_of(SLOW, model, inputs)
    for _ in range(PATIENCE):
        fast = dynamics.speed(h) > limit
        if not bool(fast.any()):
            break
        h[fast] = dynamics(h[fast])
    rest = h[dynamics.speed(h) <= limit]
    return np.asarray(rest.cpu().numpy())


def nearly_fixed(
    model: DynamicalModel, x: Tensor, inputs: Inputs, *, starts: int, seed: int = 0, fraction: float = NEARLY
) -> Floats:
    """The approximate fixed points of section 5: the nearest states to visited ones that a step moves by at most
    ``fraction`` of the usual step.

    Unlike :func:`slow_points` they also lie where the model does not stay, such as along a line between two stable ends
    and a saddle. Midpoints between them are tried too, so that a line without a gap comes out as one.

    Args:
        model: the model.
        x: the encoded input that is held, ``[E]``.
        inputs: sequences that the model is run on.
        starts: how many visited states to start from.
        seed: of their draw.
        fraction: of the usual step.

    Returns:
        The points, ``[P, H]``; P may be 0.

    Raises:
        DynamoError: what :func:`slow_points` raises, or a fraction that is not above 0.

    Example:
        >>> inputs = population.dataset(population[0]).test.inputs[:20]
        >>> nearly_fixed(population[0].model, torch.zeros(8), inputs, starts=5).shape[1]
        8
    """
    if not fraction > 0:
        raise DynamoError(f"the fraction of the usual step is {fraction}: it must be above 0")
    visited = sample_states(model, inputs, starts, seed=seed)
    enough = _speed_of(fraction, model, inputs)
    points = find_fixed_points(
        model, x, visited, method="nearest", tolerance=enough, slow_tolerance=enough, midpoints=1, seed=seed
    )
    return np.asarray(points.states[~points.is_outlier].numpy())


def _speed_of(fraction: float, model: DynamicalModel, inputs: Inputs) -> float:
    """q of a step that is a fraction of the usual one on the inputs."""
    trajectory = run(model, inputs)
    states, real = trajectory.states[0], trajectory.mask[:, 1:]
    moves = (states[:, 1:] - states[:, :-1])[real].double()
    usual = float(moves.square().sum(1).mean()) if len(moves) else 0.0
    if not usual > 0:
        raise DynamoError("the model does not move on these inputs: give sequences of two steps or more")
    return fraction**2 * usual / 2


def fixed_within_reach(points: FixedPoints) -> Floats:
    """The fixed ones of some points, without outliers, ``[P, H]``."""
    return np.asarray(points.states[points.is_fixed & ~points.is_outlier].numpy())
