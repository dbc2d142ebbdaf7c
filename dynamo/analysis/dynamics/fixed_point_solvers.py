"""Ways to solve F(x, h) = h from many starts at once. Each start is followed on its own, whatever the others are.

All lower the speed q = ½‖F(x, h) − h‖² (D. Sussillo and O. Barak, 2013). ``newton`` and ``nearest`` are of second order
with exact Jacobians; ``gradient`` and ``lbfgs`` are of first order, many times slower, and there for comparison.
"""

from collections.abc import Mapping
from typing import Protocol

import attrs
import torch
from torch import Tensor

from dynamo.analysis.dynamics.constant_input import ConstantInput
from dynamo.contracts.shown import brief

#: No step is longer than this fraction of the size of the states: of ‖h‖, or of ‖h‖ or ‖F(x, h)‖ at the start. Longer
#: ones find fewer points, and lead far out to where the gates of a GRU are shut and every state seems fixed.
LONGEST = 0.25
#: Directions that I − J shrinks to less than this fraction of its usual stretch are left alone: a singular Jacobian
#: does no harm, and on a line of fixed points no step goes along the line.
SINGULAR = 1e-5
#: Newton's method gives up a start that has gone this many sizes away from zero: it seldom comes back.
FAR = 3.0
#: Iterations of ``nearest`` for starts that ``newton`` has given up, and steps of the map itself for those of them that
#: do not find a fixed point nearby.
RESCUE, SETTLING = 40, 100
#: Steps by which fixed points are polished in the end.
POLISHING = 2
#: ``nearest`` stops where so many steps in a row lower q by less than this fraction: at a least value of q above zero.
STALLED, PATIENCE = 1e-3, 5


class Solve(Protocol):
    """A way to solve F(x, h) = h."""

    def __call__(
        self, dynamics: ConstantInput, starts: Tensor, /, *, tolerance: float, iterations: int
    ) -> tuple[Tensor, Tensor]:
        """States ``[S, H]`` and their speeds ``[S]``.

        Args:
            dynamics: the map.
            starts: ``[S, H]``.
            tolerance: the q that is low enough.
            iterations: the most.
        """


def newton(dynamics: ConstantInput, starts: Tensor, *, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Newton's method; starts that it leads nowhere are left to :func:`nearest`, and where that runs far away, they
    follow the map itself for some steps, which stays where states are, and then Newton's method again.
    """
    states, speed = newton_alone(dynamics, starts, tolerance=tolerance, iterations=iterations)
    lost = (~(speed < tolerance)).nonzero()[:, 0]
    if len(lost):
        states[lost], speed[lost] = nearest(dynamics, starts[lost], tolerance=tolerance, iterations=RESCUE)
        astray = lost[~(states[lost].norm(dim=1) < FAR * _size(dynamics, starts[lost]))]
        settled = starts[astray]
        for _ in range(SETTLING if len(astray) else 0):
            settled = dynamics(settled)
        settled, settled_speed = newton_alone(dynamics, settled, tolerance=tolerance, iterations=iterations)
        good = settled_speed < tolerance
        states[astray[good]], speed[astray[good]] = settled[good], settled_speed[good]
    return states, speed


def newton_alone(
    dynamics: ConstantInput, starts: Tensor, *, tolerance: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Newton's method with steps of bounded length; a start that goes far away is given up, with an infinite speed."""
    states, speed, size = starts.clone(), dynamics.speed(starts), _size(dynamics, starts)
    active = _going(speed, tolerance).nonzero()[:, 0]
    for _ in range(iterations):
        if len(active) == 0:
            break
        h = states[active]
        step, _ = _step(h, dynamics(h), dynamics.rough_jacobian(h), torch.zeros_like(speed[active]), size[active])
        states[active] = h + step
        near = states[active].norm(dim=1) < FAR * size[active]
        speed[active] = dynamics.speed(states[active]).where(near, torch.inf)
        active = active[_going(speed[active], tolerance)]
    return states, speed


def nearest(dynamics: ConstantInput, starts: Tensor, *, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Levenberg's and Marquardt's method, which stops at the first state with q < tolerance, or at a least value of q.

    The damping starts high and is lowered only where q falls by less than half in a whole step. So fast directions
    settle first, as under gradient descent, and a start does not run along a slow one if it need not: with a loose
    tolerance the slow points lie as widely spread as the starts.
    """
    states, speed = starts.clone(), dynamics.speed(starts)
    size, damping, stalled = _size(dynamics, starts), torch.ones_like(speed), torch.zeros_like(speed)
    active = _going(speed, tolerance).nonzero()[:, 0]
    fresh = torch.ones_like(active, dtype=torch.bool)
    moved, jacobian = torch.empty_like(states[active]), states.new_empty(len(active), *2 * states.shape[1:])
    for _ in range(iterations):
        if len(active) == 0:
            break
        h, q = states[active], speed[active]
        if bool(fresh.any()):
            moved[fresh], jacobian[fresh] = dynamics(h[fresh]), dynamics.rough_jacobian(h[fresh])
        step, cut = _step(h, moved, jacobian, damping[active], size[active])
        tried = h + step
        reached = dynamics.speed(tried)
        fresh = reached < q
        states[active], speed[active] = torch.where(fresh[:, None], tried, h), torch.where(fresh, reached, q)
        change = torch.where(~fresh, 8.0, torch.where((reached > q / 2) & ~cut, 0.1, 1.0))
        damping[active] = (damping[active] * change).clamp(min=1e-16)
        slow = fresh & (reached > (1 - STALLED) * q)
        stalled[active] = torch.where(slow, stalled[active] + 1, torch.where(fresh, 0.0, stalled[active]))
        going = _going(speed[active], tolerance) & (stalled[active] < PATIENCE) & (damping[active] < 1e8)
        active, fresh, moved, jacobian = active[going], fresh[going], moved[going], jacobian[going]
    return states, speed


def gradient(dynamics: ConstantInput, starts: Tensor, *, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Gradient descent on q, as in section 5; the rate of each start grows while q falls and is halved where not."""
    states, speed = starts.clone(), dynamics.speed(starts)
    rate = torch.full_like(speed, 0.1)
    active = _going(speed, tolerance).nonzero()[:, 0]
    for _ in range(iterations):
        if len(active) == 0:
            break
        h, q = states[active], speed[active]
        tried = h - rate[active, None] * dynamics.gradient(h)
        reached = dynamics.speed(tried)
        falls = reached < q
        states[active], speed[active] = torch.where(falls[:, None], tried, h), torch.where(falls, reached, q)
        rate[active] *= torch.where(falls, 1.1, 0.5)
        active = active[_going(speed[active], tolerance) & (rate[active] > 1e-12)]
    return states, speed


def lbfgs(dynamics: ConstantInput, starts: Tensor, *, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """SciPy's L-BFGS-B on q, one start after another."""
    from scipy.optimize import OptimizeResult, minimize

    def value(h: object) -> tuple[float, object]:
        state = torch.as_tensor(h, device=starts.device)[None]
        return float(dynamics.speed(state)), dynamics.gradient(state)[0].cpu().numpy()

    def enough(intermediate_result: OptimizeResult) -> None:
        if intermediate_result.fun < tolerance:
            raise StopIteration

    states = starts.clone()
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 0.0, "gtol": 0.0}
    for index in _going(dynamics.speed(starts), tolerance).nonzero()[:, 0].tolist():
        done = minimize(
            value, starts[index].cpu().numpy(), jac=True, method="L-BFGS-B", callback=enough, options=options
        )
        states[index] = torch.as_tensor(done.x)
    return states, dynamics.speed(states)


def polish(dynamics: ConstantInput, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """States that are fixed already, after a few more of Newton's steps, and their speeds."""
    states, speed = fixed.clone(), dynamics.speed(fixed)
    anywhere = torch.full_like(speed, torch.inf)
    for _ in range(POLISHING):
        step, _ = _step(states, dynamics(states), dynamics.rough_jacobian(states), torch.zeros_like(speed), anywhere)
        reached = dynamics.speed(states + step)
        better = reached < speed
        states[better], speed[better] = (states + step)[better], reached[better]
    return states, speed


@attrs.frozen
class Method:
    """A way to look for points.

    Attributes:
        solve: the function.
        iterations: after how many a start is given up.
        between: what follows the midpoints of the points, where it goes all the way to isolated points, which may
            then be polished too; None where it does not.
    """

    solve: Solve
    iterations: int
    between: Solve | None = None

    __repr__ = brief


METHODS: Mapping[str, Method] = {
    "newton": Method(newton, 20, newton_alone),
    "nearest": Method(nearest, 60),
    "gradient": Method(gradient, 10000),
    "lbfgs": Method(lbfgs, 1000),
}


def _going(speed: Tensor, tolerance: float) -> Tensor:
    """Which starts are to go on; those whose states have overflowed are not."""
    return (speed >= tolerance) & speed.isfinite()


def _size(dynamics: ConstantInput, starts: Tensor) -> Tensor:
    """The size of the states around each start, ``[S]``."""
    return torch.maximum(starts.norm(dim=1), dynamics(starts).norm(dim=1))


def _step(h: Tensor, moved: Tensor, jacobian: Tensor, damping: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The d that makes ‖F + J d − (h + d)‖² + damping ‖d‖² least, cut to the longest step that is allowed, and whether
    it was cut.
    """
    change, residual = jacobian.neg(), moved - h
    change.diagonal(dim1=1, dim2=2).add_(1)
    gram = change.mT @ change
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += (damping + SINGULAR**2 * diagonal.mean(1))[:, None]
    factor, _ = torch.linalg.cholesky_ex(gram)
    half = torch.linalg.solve_triangular(factor, change.mT @ residual[..., None], upper=False)
    step = torch.linalg.solve_triangular(factor.mT, half, upper=True)[..., 0]
    step = torch.where(step.isfinite().all(1, keepdim=True), step, residual)
    length, longest = step.norm(dim=1), LONGEST * torch.maximum(size, h.norm(dim=1))
    cut = length > longest
    return torch.where(cut[:, None], step * (longest / length)[:, None], step), cut
