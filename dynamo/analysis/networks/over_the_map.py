"""How does something change over the map? Any function of θ, at many thetas, each helped by its neighbours' answers.

A *place* is a θ with a name."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.networks.averages import mean_theta
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.fit.fit import Fit
from dynamo.system.progress import Progress, silent

Answer = TypeVar("Answer")


@attrs.frozen(eq=False)
class Places:
    """Thetas with names: where on the map to look.

    Attributes:
        names: of the places.
        thetas: ``[M, d]``.
        groups: the group of each place that is a base model's θ_n; None for other places.
        in_order: whether they lie along a line, one after the other.
    """

    names: tuple[str, ...]
    thetas: Floats
    groups: tuple[str | None, ...]
    in_order: bool = False

    __repr__ = brief


def places_between(fit: Fit, start: str, end: str, *, points: int = 9) -> Places:
    """Places at equal distances on the line from one to the other, with both ends (Figure 8).

    Args:
        fit: the fit.
        start: a model's name, or what else :func:`dynamo.analysis.networks.averages.mean_theta` takes; ``fraction=1``
            is the centroid of the models with this metadata.
        end: the same.
        points: how many places.

    Raises:
        DynamoError: names, keys or values that are unknown, or fewer than two places.

    Example:
        >>> places_between(fit, "fraction=1", "fraction=0.5", points=3).names
        ('fraction=1', '0.5', 'fraction=0.5')
    """
    if points < 2:
        raise DynamoError(f"a way needs at least 2 places, not {points}")
    thetas = np.linspace(mean_theta(fit, start), mean_theta(fit, end), points)
    names = (start, *(f"{step / (points - 1):.3g}" for step in range(1, points - 1)), end)
    return Places(names, thetas, (None,) * points, in_order=True)


def places_by(fit: Fit, key: str) -> Places:
    """Every base model's θ_n, and the centroid of each group of models.

    Args:
        fit: the fit.
        key: the metadata whose values are the groups.

    Raises:
        DynamoError: metadata that some models lack.

    Example:
        >>> places_by(fit, "fraction").names[-2:]
        ('fraction=1.0', 'fraction=0.5')
    """
    groups = [str(value) for value in fit.values_of(key)]
    centroids = [f"{key}={group}" for group in dict.fromkeys(groups)]
    thetas = [*fit.theta.double().numpy(), *(mean_theta(fit, name) for name in centroids)]
    return Places((*fit.names, *centroids), np.stack(thetas), (*groups, *[None] * len(centroids)))


def places_at(fit: Fit, subsets: Sequence[str]) -> Places:
    """The θ_n of models, or the mean thetas of several.

    Args:
        fit: the fit.
        subsets: each as :func:`places_between` takes it.

    Raises:
        DynamoError: names, keys or values that are unknown.

    Example:
        >>> places_at(fit, ["all", "fraction=1"]).thetas.shape == (2, len(fit.theta[0]))
        True
    """
    return Places(tuple(subsets), np.stack([mean_theta(fit, subset) for subset in subsets]), (None,) * len(subsets))


def neighbours(thetas: AnyFloats) -> list[tuple[int, int]]:
    """A tree of least total length between thetas ``[M, d]``: pairs of indices (from, to). From the first θ on,
    the next is always the nearest to those already in the tree (Prim 1957).
    """
    distances = np.linalg.norm(thetas[:, None] - thetas, axis=2)
    nearest, source = distances[0].copy(), np.zeros(len(thetas), dtype=int)
    left = set(range(1, len(thetas)))
    pairs = []
    while left:
        index = min(left, key=lambda other: (nearest[other], other))
        left.remove(index)
        pairs.append((int(source[index]), index))
        closer = distances[index] < nearest
        nearest[closer], source[closer] = distances[index][closer], index
    return pairs


def over_the_map(
    thetas: AnyFloats,
    answer: Callable[[Floats, Answer | None, Sequence[Answer]], Answer],
    *,
    rounds: int = 2,
    progress: Progress = silent,
) -> list[Answer]:
    """Answer a question at every θ, by continuation: with the neighbours' answers at hand.

    The thetas are visited along :func:`neighbours`, in every second round backwards. So what turns up at one θ is tried
    everywhere it can be followed to.

    Args:
        thetas: ``[M, d]``.
        answer: called with a θ ``[d]``, the last answer at that θ (None at the first visit) and the answers there are
            at its neighbours.
        rounds: how often each θ is visited.
        progress: called with (visits done, visits).

    Returns:
        The last answer at each θ.

    Example:
        >>> norms = over_the_map(fit.theta.numpy(), lambda theta, last, near: float(np.linalg.norm(theta)), rounds=1)
        >>> len(norms) == len(population)
        True
    """
    thetas = np.asarray(thetas, dtype=np.float64)
    pairs = neighbours(thetas)
    order = [0, *(index for _, index in pairs)]
    near: dict[int, list[int]] = {index: [] for index in order}
    for one, other in pairs:
        near[one].append(other)
        near[other].append(one)
    answers: dict[int, Answer] = {}
    for past in range(rounds):
        for visited, index in enumerate(order if past % 2 == 0 else order[::-1]):
            known = [answers[other] for other in near[index] if other in answers]
            answers[index] = answer(thetas[index], answers.get(index), known)
            progress(past * len(order) + visited + 1, rounds * len(order))
    return [answers[index] for index in range(len(thetas))]
