"""What does the state space of a recurrent model look like at constant input? What a picture of it shows."""

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.constant_input import ConstantInput
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs
from dynamo.population.recording import run

#: How far the flow is shown beyond the states and points, as a fraction of their range.
MARGIN = 0.1


@attrs.frozen(eq=False)
class Portrait:
    """State space along the first three principal components of the states that a model visits.

    A model of fewer than three units has zeros in place of the components that it lacks.

    Attributes:
        mean: of the visited states, ``[H]``.
        axes: the components, of length 1, ``[3, H]``.
        shares: their shares of the variance, ``[3]``.
        trajectories: the coordinates of some trajectories, each ``[T, 3]``, without padding.
        sides: the coordinates of the flow's grid along the first and the second component, each ``[G]``.
        flow: the part of F(x, h) − h in the plane of these two, at the states h of the plane through the mean,
            ``[G, G, 2]``, the second component running fastest. Off the plane the flow is another.
    """

    mean: Floats
    axes: Floats
    shares: Floats
    trajectories: tuple[Floats, ...]
    sides: tuple[Floats, Floats]
    flow: Floats

    __repr__ = brief

    def coordinates(self, states: ArrayLike | Tensor) -> Floats:
        """Where states ``[..., H]`` are, ``[..., 3]``."""
        return np.asarray((np.asarray(states) - self.mean) @ self.axes.T)


def portrait(
    model: DynamicalModel,
    x: Tensor | ArrayLike,
    inputs: Inputs,
    *,
    points: Tensor | ArrayLike | None = None,
    trajectories: int = 30,
    grid: int = 25,
) -> Portrait:
    """Prepare a picture of state space.

    Args:
        model: a recurrent model; it is left as it is.
        x: the constant input of the flow, ``[E]``.
        inputs: typical inputs; the trajectories are those on the first of them.
        points: further states that the flow should reach to, ``[P, H]`` with P above 0.
        trajectories: how many are shown.
        grid: points of the flow along each side.

    Raises:
        DynamoError: a model without ``step``, an x or points of the wrong shape, states that are not finite, or a grid
            of fewer than 2 points.

    Example:
        >>> inputs = population.dataset(population[0]).test.inputs[:20]
        >>> portrait(population[0].model, torch.zeros(8), inputs, grid=5).flow.shape
        (5, 5, 2)
    """
    if grid < 2:
        raise DynamoError(f"a flow on {grid} places a side: give at least 2")
    dynamics = ConstantInput(model, x)
    trajectory = run(model, inputs)
    states = trajectory.states[0].double().numpy()
    visited = states[trajectory.mask.numpy()]
    if not np.isfinite(visited).all():
        raise DynamoError("the model's states are NaN or infinite on these inputs")
    mean = visited.mean(0)
    _, deviations, components = np.linalg.svd(visited - mean, full_matrices=False)
    axes, shares = np.zeros((3, len(mean))), np.zeros(3)
    count = min(3, len(components))
    largest = components[np.arange(len(components)), np.abs(components).argmax(1)]
    axes[:count] = components[:count] * np.sign(largest)[:count, None]
    shares[:count] = deviations[:count] ** 2 / max(float((deviations**2).sum()), 1e-300)
    own = tuple((states[row][mask] - mean) @ axes.T for row, mask in enumerate(trajectory.mask.numpy()[:trajectories]))
    shown = [*own]
    if points is not None:
        shown.append((dynamics.states(points).cpu().numpy() - mean) @ axes.T)
    low, high = np.concatenate(shown).min(0), np.concatenate(shown).max(0)
    room = np.where(high > low, MARGIN * (high - low), 1.0)
    sides = np.linspace(low - room, high + room, grid).T
    flat = np.stack(np.meshgrid(sides[0], sides[1], indexing="ij"), -1)
    plane = torch.from_numpy(mean + flat.reshape(-1, 2) @ axes[:2]).to(dynamics.device)
    moves = (dynamics(plane) - plane).cpu().numpy() @ axes[:2].T
    return Portrait(
        mean=mean,
        axes=axes,
        shares=shares,
        trajectories=own,
        sides=(sides[0], sides[1]),
        flow=moves.reshape(grid, grid, 2),
    )
