"""Where does a recurrent model stand still? Fixed and slow points of h ↦ F(x, h) at a constant input x (section 5).

D. Sussillo and O. Barak, 2013, Opening the Black Box: Low-Dimensional Dynamics in High-Dimensional Recurrent Neural
Networks, Neural Computation 25(3); M. Golub and D. Sussillo, 2018, FixedPointFinder, Journal of Open Source Software
3(31).
"""

from collections.abc import Callable

import attrs
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dynamo.analysis.dynamics.constant_input import ConstantInput
from dynamo.analysis.dynamics.fixed_point_solvers import METHODS, Method, Solve, polish
from dynamo.analysis.dynamics.linearisation import Linearisation
from dynamo.analysis.table import Table
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs
from dynamo.population.recording import run
from dynamo.system.progress import Progress, silent

#: An outlier is outside the box of visited states by more than this fraction of the box's longest side.
BEYOND = 0.5
#: So many eigenvalues and outputs at most are columns of the table.
EIGENVALUES, OUTPUTS = 3, 6
#: Rounds of midpoints after a method that looks for isolated points.
ROUNDS = 3
#: How many numbers the Jacobians of the starts that are solved together have.
ROOM = 2**23


@attrs.frozen(eq=False)
class FixedPoints:
    """The fixed and slow points at one constant input. Tensors are on the CPU.

    Fixed points come before slow ones and outliers last; among them those to which more starts led come first.

    Attributes:
        x: the constant input, ``[E]`` float64.
        states: the points, ``[P, H]`` float64.
        speed: q = ½‖F(x, h) − h‖² at each, ``[P]``.
        is_fixed: whether q is below the tolerance (fixed) or only below the slow tolerance (slow), ``[P]``.
        counts: how many starts led to each, ``[P]``; 0 for a point that only midpoints led to.
        is_outlier: whether the point lies far from where states are, ``[P]``. There the gates of a GRU are shut and any
            state seems fixed: such points say nothing of the model's work.
        ends: the index of the point to which each start led, ``[S]``; -1 where to none.
        exploded: how many starts ended in states that are not finite.
    """

    x: Tensor
    states: Tensor
    speed: Tensor
    is_fixed: Tensor
    counts: Tensor
    is_outlier: Tensor
    ends: Tensor
    exploded: int

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.states)

    @property
    def unconverged(self) -> int:
        """How many starts led to no point."""
        return int((self.ends < 0).sum())

    def table(self, near: Linearisation) -> Table:
        """A row for each point: what it is, its leading eigenvalues and its first outputs.

        Args:
            near: the map linearised at the points, in the same order.
        """
        moduli, outputs = near.eigenvalues.abs()[:, :EIGENVALUES], near.outputs[:, :OUTPUTS]
        columns = ["point", "kind", "q", "starts", "outlier", "stable", "unstable directions", "time constant"]
        columns += [f"modulus {index + 1}" for index in range(moduli.shape[1])]
        columns += [f"output {index + 1}" for index in range(outputs.shape[1])]
        rows: list[list[object]] = [
            [
                index,
                "fixed" if bool(self.is_fixed[index]) else "slow",
                f"{float(self.speed[index]):.1e}",
                int(self.counts[index]),
                "yes" if bool(self.is_outlier[index]) else "",
                "yes" if bool(near.is_stable[index]) else "",
                int(near.unstable[index]),
                float(near.time_constants[index, 0]),
                *moduli[index].tolist(),
                *outputs[index].tolist(),
            ]
            for index in range(len(self))
        ]
        return columns, rows

    def describe(self, near: Linearisation | None = None) -> str:
        """How many points there are of each kind, in sentences.

        Args:
            near: the map linearised at the points, which tells how many are stable.
        """
        fixed = self.is_fixed & ~self.is_outlier
        slow = int((~self.is_fixed & ~self.is_outlier).sum())
        kinds = f" ({int((fixed & near.is_stable).sum())} of them stable)" if near is not None else ""
        sentences = [f"fixed points: {int(fixed.sum())}{kinds}; slow points: {slow}"]
        if outliers := int(self.is_outlier.sum()):
            sentences.append(f"{outliers} more far outside the states that the model visits (outlier in the table)")
        if self.unconverged:
            overflow = f", {self.exploded} of them to numbers that overflow" if self.exploded else ""
            sentences.append(f"{self.unconverged} of {len(self.ends)} starts led to no point{overflow}")
        return "; ".join(sentences)


def sample_states(model: DynamicalModel, inputs: Inputs, count: int, *, noise: float = 0.0, seed: int = 0) -> Tensor:
    """States that a model passes through, drawn at random over all real steps of all inputs.

    Args:
        model: a model with states at one site.
        inputs: typical inputs.
        count: how many states; none comes twice unless there are not as many.
        noise: standard deviation of normal noise that is added to each unit, to spread the states.
        seed: of the draw and the noise.

    Returns:
        ``[count, H]`` float64, on the CPU.

    Raises:
        DynamoError: fewer than one state is asked for, negative noise, a model with several sites, or states that are
            not finite.

    Example:
        >>> inputs = population.dataset(population[0]).test.inputs
        >>> sample_states(population[0].model, inputs, 5).shape
        torch.Size([5, 8])
    """
    if count < 1 or not noise >= 0:
        raise DynamoError(f"asked for {count} states with noise {noise}: give at least 1 and noise of at least 0")
    if len(model.state_shapes) != 1 or len(model.state_shapes[0]) != 1:
        raise DynamoError(
            f"a {type(model).__name__} has states of shapes {model.state_shapes}, not vectors at one site"
        )
    trajectory = run(model, inputs)
    visited = trajectory.states[0][trajectory.mask]
    generator = torch.Generator().manual_seed(seed)
    if count <= len(visited):
        rows = torch.randperm(len(visited), generator=generator)[:count]
    else:
        rows = torch.randint(len(visited), (count,), generator=generator)
    states = visited[rows].double()
    if not bool(states.isfinite().all()):
        raise DynamoError("the model's states are NaN or infinite on these inputs")
    return states + noise * torch.randn(states.shape, generator=generator, dtype=torch.float64)


def find_fixed_points(
    model: DynamicalModel,
    x: Tensor | ArrayLike,
    starts: Tensor | ArrayLike,
    *,
    method: str = "newton",
    tolerance: float = 1e-12,
    slow_tolerance: float = 1e-6,
    iterations: int | None = None,
    merge: float = 1e-3,
    midpoints: int | None = None,
    visited: Tensor | ArrayLike | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> FixedPoints:
    """Find the states h with F(x, h) = h, or nearly so.

    Every start is followed on its own until q is below the tolerance. After ``newton``, the midpoints of pairs of the
    fixed points are tried as starts too, since saddles lie between attractors, and so on with the new ones.

    Where much of a line is nearly fixed, ``newton`` finds the few points on it that are truly fixed. For the line
    itself (Figure 8) take ``nearest``, with the q that counts as nearly fixed for a tolerance.

    Args:
        model: a base model, a meta-model held at one θ, or any other recurrent model; it is left as it is.
        x: the constant input ``[E]``, as ``encode`` gives it; zeros in section 5.
        starts: states to start from, ``[S, H]``; see :func:`sample_states`.
        method: ``newton``, ``nearest``, ``gradient`` or ``lbfgs``; see
            :mod:`dynamo.analysis.dynamics.fixed_point_solvers`.
        tolerance: q below which a point is fixed.
        slow_tolerance: q below which a point is slow.
        iterations: after how many a start is given up; None for what suits the method.
        merge: points nearer to each other than this are one.
        midpoints: the most rounds of midpoints, of no more than S each; None for 3 after ``newton``, else 0.
        visited: states that tell where states are, ``[M, H]``, for ``is_outlier``; the starts where it is None.
        seed: of the draw of pairs, where there are more than starts.
        progress: called with (starts done, starts).

    Returns:
        The points. There may be none.

    Raises:
        DynamoError: a model without ``step``, an unknown method, an x or states of the wrong shape or not finite,
            tolerances that are not 0 < tolerance ≤ slow_tolerance, or no iterations.

    Example:
        >>> model, inputs = population[0].model, population.dataset(population[0]).test.inputs
        >>> points = find_fixed_points(model, torch.zeros(8), sample_states(model, inputs, 20))
        >>> len(points) == len(points.is_fixed)
        True
    """
    if method not in METHODS:
        raise DynamoError(f"no method is called {method!r}: {did_you_mean(method, METHODS)}")
    if not 0 < tolerance <= slow_tolerance or not merge > 0:
        raise DynamoError(
            f"tolerance {tolerance:g}, slow tolerance {slow_tolerance:g}, merge {merge:g}: all must be above 0, and "
            "the slow tolerance at least the tolerance"
        )
    if iterations is not None and iterations < 1:
        raise DynamoError(f"asked for {iterations} iterations: give at least 1, or None for what suits the method")
    chosen = METHODS[method]
    dynamics = ConstantInput(model, x)
    given = dynamics.states(starts)
    box = given if visited is None else dynamics.states(visited)
    search = _Search(dynamics, chosen, iterations or chosen.iterations, tolerance, slow_tolerance, merge)
    states, speed, ends, exploded = search.run(chosen.solve, given, progress)
    counts = torch.bincount(ends[ends >= 0], minlength=len(states))
    fixed = (speed < tolerance) & ~_outliers(states, box)
    rounds = (ROUNDS if chosen.between else 0) if midpoints is None else midpoints
    between, between_speed = search.between(states[fixed], most=len(given), rounds=rounds, seed=seed)
    states, speed = torch.cat([states, between]), torch.cat([speed, between_speed])
    counts = torch.cat([counts, counts.new_zeros(len(between))])
    order = torch.arange(len(states), device=states.device)
    outliers = _outliers(states, box)
    for key in (counts, speed < tolerance, ~outliers):  # the last sort counts most
        order = order[key[order].sort(descending=True, stable=True).indices]
    ranks = order.argsort()
    ends = torch.where(ends >= 0, ranks[ends], -1) if len(ranks) else ends
    states, speed = states[order], speed[order]
    return FixedPoints(
        x=dynamics.x.cpu(),
        states=states.cpu(),
        speed=speed.cpu(),
        is_fixed=(speed < tolerance).cpu(),
        counts=counts[order].cpu(),
        is_outlier=outliers[order].cpu(),
        ends=ends.cpu(),
        exploded=exploded,
    )


@attrs.frozen
class _Search:
    """What all searches for points of one map have in common."""

    dynamics: ConstantInput
    method: Method
    iterations: int
    tolerance: float
    slow_tolerance: float
    merge: float

    def run(self, solve: Solve, starts: Tensor, progress: Progress = silent) -> tuple[Tensor, Tensor, Tensor, int]:
        """The distinct points, their speeds, the index of the point to which each start led (-1: none), and how many
        starts overflowed.
        """
        states, speed = _in_parts(
            lambda part: solve(self.dynamics, part, tolerance=self.tolerance, iterations=self.iterations),
            starts,
            progress,
        )
        good = (speed < self.slow_tolerance).nonzero()[:, 0]
        ends = torch.full_like(speed, -1, dtype=torch.int64)
        chosen, ends[good] = _distinct(states[good], speed[good], self.merge)
        exploded = int((~speed.isfinite()).sum())
        states, speed = states[good][chosen], speed[good][chosen]
        fixed = speed < self.tolerance
        if self.method.between and bool(fixed.any()):
            states[fixed], speed[fixed] = _in_parts(lambda part: polish(self.dynamics, part), states[fixed])
        chosen, again = _distinct(states, speed, self.merge)
        ends[good] = again[ends[good]]
        return states[chosen], speed[chosen], ends, exploded

    def between(self, known: Tensor, *, most: int, rounds: int, seed: int) -> tuple[Tensor, Tensor]:
        """Further fixed points and their speeds, from midpoints between known ones.

        A round that leads to something new from more than half of its starts is the last: that is a continuum.
        """
        solve = self.method.between or self.method.solve
        generator = torch.Generator().manual_seed(seed)
        first, old, speeds = len(known), 0, [known.new_zeros(0)]
        for _ in range(rounds):
            one, other = torch.triu_indices(len(known), len(known), 1)
            one, other = one[other >= old], other[other >= old]
            if len(one) == 0:
                break
            drawn = torch.randperm(len(one), generator=generator)[:most].sort().values
            states, speed, _, _ = self.run(solve, (known[one[drawn]] + known[other[drawn]]) / 2)
            new = (speed < self.tolerance) & (torch.cdist(states, known).min(1).values >= self.merge)
            old, known = len(known), torch.cat([known, states[new]])
            speeds.append(speed[new])
            if 2 * int(new.sum()) > len(drawn):
                break
        return known[first:], torch.cat(speeds)


def _in_parts(
    work: Callable[[Tensor], tuple[Tensor, Tensor]],
    states: Tensor,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """What ``work`` makes of states, so few at a time that their Jacobians find room."""
    parts, done = [], 0
    for part in torch.split(states, max(1, ROOM // states.shape[1] ** 2)):
        parts.append(work(part))
        done += len(part)
        progress(done, len(states))
    reached, speed = (torch.cat(column) for column in zip(*parts, strict=True))
    return reached, speed


def _distinct(states: Tensor, speed: Tensor, merge: float) -> tuple[Tensor, Tensor]:
    """The indices of states that differ, the slowest first, and for every state the one of these that it belongs to."""
    chosen: list[int] = []
    belongs = torch.full_like(speed, -1, dtype=torch.int64)
    for index in speed.argsort(stable=True).tolist():
        if belongs[index] < 0:
            near = (belongs < 0) & ((states - states[index]).norm(dim=1) < merge)
            belongs[near] = len(chosen)
            chosen.append(index)
    return torch.tensor(chosen, dtype=torch.int64, device=states.device), belongs


def _outliers(states: Tensor, visited: Tensor) -> Tensor:
    """Which states are far outside the box of the visited ones; none where the box has no extent."""
    low, high = visited.min(0).values, visited.max(0).values
    room = BEYOND * (high - low).max()
    return ((states < low - room) | (states > high + room)).any(1) & (room > 0)
