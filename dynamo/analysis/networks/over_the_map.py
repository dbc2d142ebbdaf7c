"""How does something change over the map? Any function of θ, at many places, each helped by its neighbours' answers."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.networks.averages import mean_theta
from dynamo.contracts.errors import DynamoError
from dynamo.fit.fit import Fit
from dynamo.system.progress import Progress, silent

Answer = TypeVar("Answer")


@attrs.frozen(eq=False)
class Places:
    """Where on the map to look.

    Attributes:
        names: of the places.
        thetas: ``[M, d]``.
        groups: the group of each place that is a base model's θ_n; None for other places.
        in_order: whether they lie on a way, one after the other.
    """

    names: tuple[str, ...]
    thetas: Floats
    groups: tuple[str | None, ...]
    in_order: bool = False


def places_between(fit: Fit, start: str, end: str, points: int = 9) -> Places:
    """Places at equal distances on the line from one to the other, with both ends (Figure 8).

    Args:
        fit: the fit.
        start: a model's name, or what else :func:`dynamo.analysis.networks.averages.mean_theta` takes; ``fraction=1``
            is the centroid of the models with this label.
        end: the same.
        points: how many places.

    Raises:
        DynamoError: names, labels or values that are unknown, or fewer than two places.
    """
    if points < 2:
        raise DynamoError(f"a way needs at least 2 places, not {points}")
    thetas = np.linspace(mean_theta(fit, start), mean_theta(fit, end), points)
    names = (start, *(f"{number / (points - 1):.3g}" for number in range(1, points - 1)), end)
    return Places(names, thetas, (None,) * points, in_order=True)


def places_by(fit: Fit, label: str) -> Places:
    """Every base model's θ_n, and the centroid of each group of models with one value of a label.

    Raises:
        DynamoError: a label that some models lack.
    """
    groups = [str(value) for value in fit.values_of(label)]
    centroids = [f"{label}={group}" for group in dict.fromkeys(groups)]
    thetas = [*fit.theta.double().numpy(), *(mean_theta(fit, name) for name in centroids)]
    return Places((*fit.names, *centroids), np.stack(thetas), (*groups, *[None] * len(centroids)))


def places_at(fit: Fit, subsets: Sequence[str]) -> Places:
    """The θ_n of models, or the mean thetas of several; each as :func:`places_between` takes it.

    Raises:
        DynamoError: names, labels or values that are unknown.
    """
    return Places(tuple(subsets), np.stack([mean_theta(fit, subset) for subset in subsets]), (None,) * len(subsets))


def neighbours(thetas: AnyFloats) -> list[tuple[int, int]]:
    """A tree of least total length between places: pairs (from, to) in the order of a walk from the first place that
    always goes on to the nearest place that is left (Prim 1957).
    """
    distances = np.linalg.norm(thetas[:, None] - thetas, axis=2)
    nearest, source = distances[0].copy(), np.zeros(len(thetas), dtype=int)
    left = set(range(1, len(thetas)))
    pairs = []
    while left:
        there = min(left, key=lambda place: (nearest[place], place))
        left.remove(there)
        pairs.append((int(source[there]), there))
        closer = distances[there] < nearest
        nearest[closer], source[closer] = distances[there][closer], there
    return pairs


def over_the_map(
    thetas: AnyFloats,
    answer: Callable[[Floats, Answer | None, Sequence[Answer]], Answer],
    rounds: int = 2,
    progress: Progress = silent,
) -> list[Answer]:
    """Answer a question at every place, by continuation: with the neighbours' answers at hand.

    The places are visited along :func:`neighbours`, in the second round backwards, and so on to and fro. So what turns
    up at one place is tried everywhere it can be followed to.

    Args:
        thetas: the places ``[M, d]``.
        answer: called with a θ ``[d]``, the last answer at that place (None at the first visit) and the answers there
            are at its neighbours.
        rounds: how often each place is visited.
        progress: called with (visits done, visits).

    Returns:
        The last answer at each place.
    """
    places = np.asarray(thetas, dtype=np.float64)
    pairs = neighbours(places)
    order = [0, *(there for _, there in pairs)]
    near: dict[int, list[int]] = {place: [] for place in order}
    for one, other in pairs:
        near[one].append(other)
        near[other].append(one)
    answers: dict[int, Answer] = {}
    for number in range(rounds):
        for visited, place in enumerate(order if number % 2 == 0 else order[::-1]):
            known = [answers[other] for other in near[place] if other in answers]
            answers[place] = answer(places[place], answers.get(place), known)
            progress(number * len(order) + visited + 1, rounds * len(order))
    return [answers[place] for place in range(len(places))]
