"""How do the attractors change over the map? Fixed and slow points at many thetas (section 5, Figure 8).

All thetas share the state space of the meta-model, so that attractors at two of them can be laid over each other.
"""

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamo.analysis.attractor import AttractorGeometry, attractor_geometry
from dynamo.analysis.constant_input import ConstantInput, constant_input
from dynamo.analysis.fixed_points import find_fixed_points, sample_states
from dynamo.analysis.linearisation import linearise
from dynamo.analysis.over_the_map import Places, neighbours, over_the_map
from dynamo.analysis.slow_points import fixed_within_reach, slow_points
from dynamo.protocols import DynamicalModel, RecurrentModel
from dynamo.trajectory import Inputs

Floats = NDArray[np.float64]


@attrs.frozen(eq=False)
class AttractorAt:
    """The attractor at one place. Points far from all visited states are left out.

    Attributes:
        name: of the place.
        fixed: its fixed points, ``[P, H]``.
        unstable: the number of directions that grow at each, ``[P]``.
        slow: states that it comes to rest in, ``[Q, H]``; see :func:`dynamo.analysis.slow_points.slow_points`.
        shape: the geometry of fixed and slow points together.
    """

    name: str
    fixed: Floats
    unstable: NDArray[np.int64]
    slow: Floats
    shape: AttractorGeometry

    @property
    def stable(self) -> int:
        """How many fixed points are stable."""
        return int((self.unstable == 0).sum())

    @property
    def saddles(self) -> int:
        """How many fixed points are unstable in some direction."""
        return int((self.unstable > 0).sum())


@attrs.frozen(eq=False)
class AttractorMap:
    """Attractors over the map.

    Attributes:
        places: where.
        attractors: what was found at each.
        pairs: which places are neighbours; each place was solved with the fixed points of its neighbours as starts.
        scale: the largest distance between two states that are visited at one place; the unit of the distances.
        chamfer: mean distance from a point of one attractor to the nearest of the other, the mean of both ways,
            ``[M, M]``; NaN where one has no points.
        hausdorff: the same with the largest distance and the larger of both ways.
    """

    places: Places
    attractors: tuple[AttractorAt, ...]
    pairs: tuple[tuple[int, int], ...]
    scale: float
    chamfer: Floats
    hausdorff: Floats

    @property
    def bifurcations(self) -> tuple[tuple[int, int], ...]:
        """The neighbours between which the number of stable fixed points or of saddles changes."""
        kinds = [(found.stable, found.saddles) for found in self.attractors]
        return tuple(pair for pair in self.pairs if kinds[pair[0]] != kinds[pair[1]])


def attractors_over_the_map(
    model_at: Callable[[Floats], DynamicalModel],
    places: Places,
    inputs: Inputs,
    held: str = "zeros",
    tokens: Sequence[str] = (),
    starts: int = 100,
    rounds: int = 2,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AttractorMap:
    """Find and measure the attractor of h ↦ F̃(θ, x*, h) at every place, for a constant input x*.

    Fixed points are searched for from states that the model there visits on the inputs, and from the fixed points at
    neighbouring places (:func:`dynamo.analysis.over_the_map.over_the_map`).

    Args:
        model_at: the model at a θ ``[d]``, such as ``fit.model_at``.
        places: where.
        inputs: sequences that the models are run on for states to start from.
        held: the constant input by name, see :func:`dynamo.analysis.constant_input.constant_input`.
        tokens: the vocabulary, where the inputs are tokens.
        starts: visited states that the search starts from at each place.
        rounds: how often each place is visited; from the second time on only neighbours' fixed points are tried.
        seed: of the states that are drawn.
        progress: called with (visits done, visits).

    Raises:
        DynamoError: models that are not recurrent, or a constant input that is not known.
    """

    def solve(theta: Floats, own: Floats | None, near: Sequence[Floats]) -> Floats:
        model = model_at(theta)
        x = constant_input(model, held, inputs, tokens)
        inhabited = np.concatenate([sample_states(model, inputs, starts, seed=seed).numpy(), *near])
        first = inhabited if own is None else np.concatenate([own, *near])
        if len(first) == 0:
            return first
        return fixed_within_reach(find_fixed_points(model, x, first, visited=inhabited))

    fixed = over_the_map(places.thetas, solve, rounds, progress)
    models = [model_at(theta) for theta in places.thetas]
    scale = max(float(torch.pdist(sample_states(model, inputs, starts, seed=seed)).max()) for model in models)
    attractors = []
    for name, model, points in zip(places.names, models, fixed, strict=True):
        x = constant_input(model, held, inputs, tokens)
        slow = slow_points(model, x, inputs, starts, seed)
        attractors.append(_attractor(name, ConstantInput(model, x), points, slow, scale))
    chamfer, hausdorff = set_distances([found.shape.points for found in attractors])
    return AttractorMap(
        places, tuple(attractors), tuple(neighbours(places.thetas)), scale, chamfer / scale, hausdorff / scale
    )


def _attractor(name: str, dynamics: ConstantInput, fixed: Floats, slow: Floats, scale: float) -> AttractorAt:
    model, unstable, points = dynamics.model, np.zeros(0, dtype=np.int64), np.concatenate([fixed, slow])
    if len(fixed):
        unstable = linearise(model, dynamics.x, fixed).unstable.numpy()
    if len(points) == 0:
        return AttractorAt(name, fixed, unstable, slow, attractor_geometry(points))
    states = dynamics.states(points)
    drift, gradient = (dynamics(states) - states).cpu().numpy(), readout_gradient(model, states)
    return AttractorAt(name, fixed, unstable, slow, attractor_geometry(points, drift, gradient, scale))


def readout_gradient(model: RecurrentModel, states: Tensor) -> Floats:
    """The gradient of each output with respect to the state, ``[P, K, H]``; of logits, without their mean."""
    h = states.detach().requires_grad_()
    outputs = model.readout(h)
    if model.outputs.kind == "classes":
        outputs = outputs - outputs.mean(-1, keepdim=True)
    rows = [torch.autograd.grad(output.sum(), h, retain_graph=True)[0] for output in outputs.unbind(-1)]
    return np.asarray(torch.stack(rows, 1).cpu().numpy())


def set_distances(sets: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Chamfer and Hausdorff distances between sets of points, see :class:`AttractorMap`."""
    from scipy.spatial.distance import cdist

    chamfer, hausdorff = np.full((2, len(sets), len(sets)), np.nan)
    for row, one in enumerate(sets):
        for column, other in enumerate(sets[: row + 1]):
            if len(one) and len(other):
                between = cdist(one, other)
                there, back = between.min(1), between.min(0)
                chamfer[row, column] = chamfer[column, row] = (there.mean() + back.mean()) / 2
                hausdorff[row, column] = hausdorff[column, row] = max(there.max(), back.max())
    return chamfer, hausdorff
