"""When a fit has converged: its loss has stopped falling, as measured on the scale of the steps that it has taken.

The loss of a fit falls ever more slowly, so that a window of fixed length says too early or too late that it stands.
Here the last quarter of the steps so far is compared with the quarter before it, and what it fell by with the loss at
the beginning: a fit that explains nearly everything is done, though its loss may still be halved. Until then the
learning rate stays at its peak; then it is annealed over a quarter as many steps more (S. Hu et al., 2024, MiniCPM,
section 4, call this a schedule of warm-up, stable phase and decay).
"""

from collections.abc import Sequence
from statistics import fmean

#: A fit has converged where its loss falls, from one quarter of its steps to the next, by less than this fraction of
#: the mean loss of its first steps, of so many.
TOLERANCE, FIRST = 0.005, 5
#: It is looked at every so many steps, from the first time that a quarter has so many.
EVERY = 40


def has_converged(losses: Sequence[float]) -> bool:
    """Whether the loss no longer falls.

    Args:
        losses: of all steps so far.

    Example:
        >>> from dynamo.training.convergence import has_converged
        >>> falling = [1 - step / 500 for step in range(400)]
        >>> has_converged(falling), has_converged([*falling[:100], *[falling[99]] * 300])
        (False, True)
    """
    quarter = len(losses) // 4
    if quarter < EVERY:
        return False
    fall = fmean(losses[-2 * quarter : -quarter]) - fmean(losses[-quarter:])
    return fall < TOLERANCE * fmean(losses[:FIRST])


def converged_at(losses: Sequence[float]) -> int | None:
    """The first step at which a fit with these losses was seen to have converged; None where it has not."""
    return next((step for step in range(EVERY, len(losses) + 1, EVERY) if has_converged(losses[:step])), None)


def last_step(start: int) -> int:
    """The steps of the whole fit, where it is annealed from a step on."""
    return start + max(1, start // 4)


def latest_start(most: int) -> int:
    """Where annealing starts at the latest, for a fit of that many steps at most."""
    return max(0, most - max(1, most // 5))
