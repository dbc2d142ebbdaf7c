"""How do the attractors change over the map? Fixed and slow points at many places (section 5, Figure 8).

All thetas share the state space of the meta-model, so that attractors at two of them can be laid over each other.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import Floats, Integers
from dynamo.analysis.dynamics.attractor import AttractorGeometry, attractor_geometry
from dynamo.analysis.dynamics.base_view import BaseView, readout_gradient
from dynamo.analysis.dynamics.constant_input import ConstantInput, constant_input
from dynamo.analysis.dynamics.fixed_points import find_fixed_points, sample_states
from dynamo.analysis.dynamics.linearisation import linearise
from dynamo.analysis.dynamics.slow_points import fixed_within_reach, nearly_fixed, slow_points
from dynamo.analysis.networks.over_the_map import Places, neighbours, over_the_map
from dynamo.analysis.rivals.pairs import PairFigures, pair_figures
from dynamo.analysis.table import Table
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief, result_html
from dynamo.contracts.trajectory import Inputs
from dynamo.system.progress import Progress, silent

Slow = Literal["rest", "nearest"]

#: Columns of the table, and the attributes of the geometry that they show.
FIGURES = {
    "extent": "extent",
    "length": "length",
    "width": "width",
    "elongation": "elongation",
    "curvature": "curvature",
    "dim": "dimension",
    "local_dim": "local_dimension",
    "crossing": "crossing_time",
    "alignment": "alignment",
}


@attrs.frozen(eq=False)
class AttractorAt:
    """The attractor at one place. Points far from all visited states are left out.

    Attributes:
        name: of the place.
        fixed: its fixed points, ``[P, H]``, as they are seen where there is a view.
        unstable: the number of directions that grow at each, ``[P]``.
        slow: states that it comes to rest in, or the nearest that are nearly fixed, ``[Q, H]``, as they are seen; see
            :mod:`dynamo.analysis.dynamics.slow_points`.
        shape: the geometry of fixed and slow points together.
    """

    name: str
    fixed: Floats
    unstable: Integers
    slow: Floats
    shape: AttractorGeometry

    __repr__ = brief

    @property
    def stable(self) -> int:
        """How many fixed points are stable."""
        return int((self.unstable == 0).sum())

    @property
    def saddles(self) -> int:
        """How many fixed points are unstable in some direction."""
        return int((self.unstable > 0).sum())

    def row(self) -> list[object]:
        """The place's row of :meth:`AttractorMap.table`."""
        figures = [getattr(self.shape, figure) for figure in FIGURES.values()]
        return [self.name, self.shape.kind, self.shape.number, self.stable, self.saddles, len(self.slow), *figures]


@attrs.frozen(eq=False)
class AttractorMap:
    """Attractors over the map.

    Attributes:
        places: where.
        attractors: the attractor at each.
        pairs: which places are neighbours, by index; each place was solved with the fixed points of its neighbours as
            starts.
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

    __repr__ = brief
    _repr_html_ = result_html

    @property
    def bifurcations(self) -> tuple[tuple[int, int], ...]:
        """The neighbours between which the number of stable fixed points or of saddles changes."""
        kinds = [(attractor.stable, attractor.saddles) for attractor in self.attractors]
        return tuple(pair for pair in self.pairs if kinds[pair[0]] != kinds[pair[1]])

    def table(self) -> Table:
        """A row for each place: its fixed and slow points, and the figures of their shape."""
        columns = ["place", "kind", "parts", "stable", "saddles", "slow", *FIGURES]
        return columns, [attractor.row() for attractor in self.attractors]

    def group_figures(self) -> PairFigures | None:
        """How far the chamfer distances between the models' attractors tell their groups apart; None where there are
        not two groups, one of them of two models, or where some model has no attractor.
        """
        models = [index for index, group in enumerate(self.places.groups) if group is not None]
        groups = [self.places.groups[index] for index in models]
        distances = self.chamfer[np.ix_(models, models)]
        if not 2 <= len(set(groups)) < len(groups) or not np.isfinite(distances).all():
            return None
        return pair_figures(distances, groups)

    def describe(self) -> str:
        """Between which places the fixed points change, and whether attractors of one group are alike."""
        changes = self.bifurcations if self.places.in_order else ()
        names, figures = self.places.names, self.group_figures()
        sentences = [f"the fixed points change between {names[one]} and {names[other]}" for one, other in changes]
        if figures is not None:
            sentences += [
                f"{group}: mean chamfer distance {spread.within:.3f} within, {spread.between:.3f} to other groups"
                for group, spread in figures.spreads.items()
            ]
            sentences.append(
                f"pairs of one group found by their distance: average precision {figures.auprc:.2f} "
                f"(chance {figures.auprc_chance:.2f}, p {figures.auprc_p:.3f})"
            )
        return "\n".join(sentences)


def attractors_over_the_map(
    model_at: Callable[[Floats], DynamicalModel],
    places: Places,
    inputs: Inputs,
    *,
    held: str = "zeros",
    tokens: Sequence[str] = (),
    starts: int = 100,
    rounds: int = 2,
    seed: int = 0,
    progress: Progress = silent,
    slow: Slow = "rest",
    view: BaseView | None = None,
) -> AttractorMap:
    """Find and measure the attractor of h ↦ F̃(θ, x*, h) at every place, for a constant input x*.

    Fixed points are searched for from states that the model there visits on the inputs, and from the fixed points at
    neighbouring places (:func:`dynamo.analysis.networks.over_the_map.over_the_map`).

    Args:
        model_at: the model at a θ ``[d]``, such as ``fit.model_at``.
        places: where.
        inputs: sequences that the models are run on for states to start from.
        held: the constant input by name, see :func:`dynamo.analysis.dynamics.constant_input.constant_input`.
        tokens: the vocabulary, where the inputs are tokens.
        starts: visited states that the search starts from at each place.
        rounds: how often each place is visited; from the second time on only neighbours' fixed points are tried.
        seed: of the states that are drawn.
        progress: called with (visits done, visits).
        slow: ``rest`` for the states that the map leads to and keeps, or ``nearest`` for the approximate fixed points
            of section 5, which also lie where it does not stay.
        view: measure what the base models see of it; None for the states themselves.

    Raises:
        DynamoError: models that are not recurrent, a constant input or a kind of slow points that is not known, or
            fewer than two starts.

    Example:
        >>> from dynamo.analysis import places_at
        >>> inputs = population.dataset(population[0]).test.inputs[:32]
        >>> model_at = lambda theta: fit.model_at(theta.tolist())
        >>> result = attractors_over_the_map(model_at, places_at(fit, ["all"]), inputs, starts=10, rounds=1)
        >>> result.attractors[0].name
        'all'
    """
    if slow not in get_args(Slow):
        raise DynamoError(f"no slow points are called {slow!r}: {did_you_mean(slow, get_args(Slow))}")
    if starts < 2:
        raise DynamoError(f"asked for {starts} starts at each place: an attractor's shape needs at least 2")
    look = (lambda states: states) if view is None else view

    def solve(theta: Floats, own: Floats | None, near: Sequence[Floats]) -> Floats:
        model = model_at(theta)
        x = constant_input(model, held, inputs, tokens=tokens)
        inhabited = np.concatenate([sample_states(model, inputs, starts, seed=seed).numpy(), *near])
        first = inhabited if own is None else np.concatenate([own, *near])
        if len(first) == 0:
            return first
        return fixed_within_reach(find_fixed_points(model, x, first, visited=inhabited))

    fixed = over_the_map(places.thetas, solve, rounds=rounds, progress=progress)
    models = [model_at(theta) for theta in places.thetas]
    scale = max(float(torch.pdist(look(sample_states(model, inputs, starts, seed=seed))).max()) for model in models)
    attractors = []
    for name, model, points in zip(places.names, models, fixed, strict=True):
        x = constant_input(model, held, inputs, tokens=tokens)
        others = (slow_points if slow == "rest" else nearly_fixed)(model, x, inputs, starts=starts, seed=seed)
        attractors.append(_attractor(name, ConstantInput(model, x), points, others, scale=scale, view=view))
    chamfer, hausdorff = set_distances([attractor.shape.points for attractor in attractors])
    return AttractorMap(
        places=places,
        attractors=tuple(attractors),
        pairs=tuple(neighbours(places.thetas)),
        scale=scale,
        chamfer=chamfer / scale,
        hausdorff=hausdorff / scale,
    )


def _attractor(
    name: str, dynamics: ConstantInput, fixed: Floats, slow: Floats, *, scale: float, view: BaseView | None
) -> AttractorAt:
    points, unstable = np.concatenate([fixed, slow]), np.zeros(0, dtype=np.int64)
    if len(fixed):
        unstable = linearise(dynamics.model, dynamics.x, fixed).unstable.numpy()
    if len(points) == 0:
        return AttractorAt(name=name, fixed=fixed, unstable=unstable, slow=slow, shape=attractor_geometry(points))
    states = dynamics.states(points)
    if view is None:
        seen, drift, gradient = points, dynamics(states) - states, readout_gradient(dynamics.model, states)
    else:
        images = view(states)
        seen, drift, gradient = images.numpy(), view(dynamics(states)) - images, view.readout_gradient(images)
    shape = attractor_geometry(seen, drift.cpu().numpy(), readout=gradient, scale=scale)
    return AttractorAt(name=name, fixed=seen[: len(fixed)], unstable=unstable, slow=seen[len(fixed) :], shape=shape)


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
