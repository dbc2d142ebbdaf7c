"""Does a number that is known of each model, such as a step, a size or a score, follow the map?

Three answers that need nothing but distances: the leading coordinate, ways through the models, and the number of each
model as its neighbours predict it.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any

import attrs
import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import rankdata

from dynamo.analysis.arrays import AnyFloats, Floats, Integers
from dynamo.analysis.geometry.spectrum import Spectrum, spectrum_of_distances
from dynamo.analysis.table import Table, columns_of, in_words
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief, result_html
from dynamo.system.progress import Progress, silent

MEASURES = ("leading coordinate", "way", "neighbours")

#: Metadata that says how good a model is. Models of one sequence may differ in it.
SCORES = ("score", "loss", "accuracy", "error")


@attrs.frozen
class OrderMeasure:
    """One figure of how well the numbers follow the map.

    Attributes:
        name: one of ``MEASURES``. ``leading coordinate`` and ``way``: Spearman's rank correlation with the first
            principal coordinate and with the length of the way from :attr:`Order.start`, without its sign.
            ``neighbours``: R², the part of the squared error of the mean that the nearest models do without.
        value: on these numbers.
        chance: its mean where the numbers are shuffled over the models.
        p_value: (1 + shuffles at least as good) / (1 + shuffles).
    """

    name: str
    value: float
    chance: float
    p_value: float


@attrs.frozen
class Trend:
    """In which direction a number rises over the first two coordinates.

    Attributes:
        direction: its covariance with each of the two, scaled to length 1; zeros where there is none. It points from
            the models with low numbers to those with high ones, also where the models lie along a line, across which
            a gradient would be mostly chance.
        r2: the part of the number's variance that a plane over the two coordinates explains.
        p_value: of no such plane, by the F-test; NaN with too few models for it.
    """

    direction: tuple[float, float]
    r2: float
    p_value: float

    __repr__ = brief

    @property
    def is_clear(self) -> bool:
        """Whether chance would hardly give it (p < 0.01)."""
        return self.p_value < 0.01


@attrs.frozen(eq=False)
class Order:
    """How well a number follows the map.

    Attributes:
        values: the number of each model, ``[N]``.
        places: the principal coordinates of the distances.
        start: the number of the model from which ways order the models best.
        ways: how long the way from there to each model is, ``[N]``.
        predicted: the mean number of each model's nearest others, ``[N]``.
        neighbours: how many these are.
        measures: one for each of ``MEASURES``.
        error: root mean square of ``predicted − values``.
        mean_error: the same where each model's number is predicted by the mean of all others.
        trend: over the first two coordinates.
    """

    values: Floats
    places: Spectrum
    start: int
    ways: Floats
    predicted: Floats
    neighbours: int
    measures: tuple[OrderMeasure, ...]
    error: float
    mean_error: float
    trend: Trend

    __repr__ = brief
    _repr_html_ = result_html

    def __getitem__(self, name: str) -> OrderMeasure:
        return self.measures[MEASURES.index(name)]

    def table(self) -> Table:
        """A row for each measure."""
        columns = ["measure", "figure", "value", "shuffled", "p"]
        figures = ("Spearman", "Spearman", "R²")
        return columns, [
            [own.name, figure, own.value, own.chance, own.p_value]
            for own, figure in zip(self.measures, figures, strict=True)
        ]

    def models_table(self, names: Sequence[str], key: str = "number") -> Table:
        """A row for each model, in the order of its number.

        Args:
            names: of the models.
            key: of the metadata that the number is.
        """
        columns = ["model", "predicted", "first coordinate", "way"]
        rows = zip(
            names,
            [int(value) if value.is_integer() else value for value in self.values.tolist()],
            self.predicted.tolist(),
            self.places.coordinates[:, 0].tolist(),
            self.ways.tolist(),
            strict=True,
        )
        order = np.argsort(self.values, kind="stable")
        models = [list(row) for row in rows]
        return [columns[0], *columns_of([key], columns), *columns[1:]], [models[index] for index in order]

    def describe(self, key: str = "the number") -> str:
        """The error of the prediction, in the units of the number, beside that of the mean."""
        return (
            f"{key} as the {self.neighbours} nearest models predict it: root mean square error {self.error:.4g}; as "
            f"the mean of all others does: {self.mean_error:.4g} (R² {in_words(self['neighbours'].value, 2)})"
        )


def order(
    distances: AnyFloats,
    values: Sequence[object],
    *,
    neighbours: int = 3,
    permutations: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> Order:
    """Ask whether a number follows the map.

    Ways lead through the minimum spanning tree of the models. On models along a curve, however it bends, the tree is
    that curve; of runs with a common start it has a branch for each. Of all models that one is the start from which the
    lengths of the ways have the largest rank correlation with the number. The p-values are those of a permutation test:
    the numbers are shuffled over the models and the start is chosen anew, while the map stays.

    Args:
        distances: between the models, ``[N, N]``.
        values: the number of each model.
        neighbours: how many of the nearest other models predict a model's number; at most all others.
        permutations: shuffles of the numbers.
        seed: of the shuffles.
        progress: called with (shuffles done, permutations).

    Raises:
        DynamoError: what is no number, numbers that are all the same, fewer than four models, all models at one place,
            no neighbours or no shuffles.

    Example:
        >>> result = order(fit.distances().matrix, range(len(population)), permutations=9)
        >>> [measure.name for measure in result.measures]
        ['leading coordinate', 'way', 'neighbours']
    """
    numbers = as_numbers(values)
    given: Floats = np.asarray(distances, dtype=np.float64)
    if given.shape != (len(numbers), len(numbers)):
        raise DynamoError(f"distances of shape {given.shape} are not those of {len(numbers)} models")
    if neighbours < 1 or permutations < 1:
        raise DynamoError(f"{neighbours} neighbours and {permutations} shuffles: take at least 1 of each")
    places = spectrum_of_distances(given)
    if not places.coordinates.size:
        raise DynamoError("all models lie at one place of the map: there is nothing to put in order")
    near = _nearest(given, min(neighbours, len(numbers) - 1))
    ways = _through_the_tree(given)
    ranked = _standard(rankdata(np.vstack([places.coordinates[:, 0], ways]), axis=1))
    value = _figures(numbers, ranked, near)
    rng, shuffled = np.random.default_rng(seed), np.empty((permutations, len(MEASURES)))
    for index in range(permutations):
        shuffled[index] = _figures(rng.permutation(numbers), ranked, near)
        progress(index + 1, permutations)
    predicted, along = numbers[near].mean(axis=1), ranked[1:] @ _standard(rankdata(numbers)[None])[0]
    start = int(np.argmax(np.abs(along) + 1e-9 * along))  # of both ends of a line, that with the low numbers
    return Order(
        values=numbers,
        places=places,
        start=start,
        ways=ways[start],
        predicted=predicted,
        neighbours=near.shape[1],
        measures=tuple(
            OrderMeasure(name, float(value[m]), float(shuffled[:, m].mean()), _p_value(value[m], shuffled[:, m]))
            for m, name in enumerate(MEASURES)
        ),
        error=_root_mean_square(predicted - numbers),
        mean_error=_root_mean_square(_of_the_others(numbers) - numbers),
        trend=trend(places.coordinates, numbers.tolist()),
    )


def as_numbers(values: Sequence[object], key: str | None = None) -> Floats:
    """The numbers that a piece of metadata is, ``[N]``.

    Args:
        values: of each model.
        key: of the metadata, for messages.

    Raises:
        DynamoError: texts or truth values, numbers that are not finite, fewer than four models, or numbers that are all
            the same.
    """
    what = "the metadata" if key is None else repr(key)
    for value in values:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise DynamoError(
                f"{what} is {value!r} for some model; an order needs numbers. Texts and truth values name groups: "
                f"`dynamo analyse clusters RUN --by {key or 'KEY'}` compares them with the map"
            )
    numbers = np.array(values, dtype=np.float64)
    if len(numbers) < 4:
        raise DynamoError(f"an order needs at least 4 models; there are {len(numbers)}")
    if not all(map(isfinite, numbers)):
        raise DynamoError(f"{what} is not finite for some model")
    if np.ptp(numbers) == 0:
        raise DynamoError(f"{what} is {values[0]} for all models: an order needs numbers that differ")
    return numbers


def trend(coordinates: AnyFloats, values: Sequence[Any]) -> Trend:
    """The direction in which a number rises over the first two coordinates.

    Args:
        coordinates: of the models, ``[N, components]``.
        values: the number of each.
    """
    numbers = np.array(values, dtype=np.float64)
    own = np.asarray(coordinates, dtype=np.float64)[:, :2]
    numbers, own = numbers - numbers.mean(), own - own.mean(axis=0)
    slopes, _, rank, _ = np.linalg.lstsq(own, numbers, rcond=None)
    covariances = numbers @ own
    total, left = float((numbers**2).sum()), float(((numbers - own @ slopes) ** 2).sum())
    length = float(np.linalg.norm(covariances))
    if not total or not rank or not length:
        return Trend((0.0, 0.0), 0.0, nan)
    free = len(numbers) - 1 - int(rank)
    explained = max(total - left, 0.0)
    p_value = nan
    if free > 0:
        p_value = float(f_distribution.sf(explained / rank / (left / free), rank, free)) if left else 0.0
    x, y = [*(covariances / length).tolist(), 0.0][:2]
    return Trend((x, y), explained / total, p_value)


def sequences(
    metadata: Sequence[Mapping[str, object]], key: str, alike: Sequence[str] | None = None
) -> list[list[int]]:
    """Models that are the same but for one number, such as the checkpoints of a run, in the order of that number.

    Models belong together whose other metadata is the same. Left out are :data:`SCORES`, and what the number
    determines, as an epoch determines the step. Where two models of a sequence have the same number, the rest of the
    metadata does not tell them apart, and they are not in order; neither is a ``seed`` ever.

    Args:
        metadata: of each model.
        key: of the number.
        alike: the keys in which models of a sequence are the same; chosen as above where it is None.

    Returns:
        For each sequence of two models or more their numbers.
    """
    if key == "seed" and alike is None:
        return []
    if alike is None:
        keys = sorted({name for own in metadata for name in own} - {key, *SCORES})
        alike = [name for name in keys if not _determines(metadata, key, name)]
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, own in enumerate(metadata):
        groups.setdefault(tuple(str(own.get(name)) for name in alike), []).append(number)
    found = [sorted(group, key=lambda number: float(str(metadata[number][key]))) for group in groups.values()]
    return [group for group in found if 1 < len(group) == len({metadata[number][key] for number in group})]


def _determines(metadata: Sequence[Mapping[str, object]], key: str, other: str) -> bool:
    """Whether models with the same value of one key have the same of another."""
    values: dict[object, set[str]] = {}
    for own in metadata:
        values.setdefault(own[key], set()).add(str(own.get(other)))
    return len(values) < len(metadata) and all(len(found) == 1 for found in values.values())


def _figures(numbers: Floats, ranked: Floats, near: Integers) -> Floats:
    """The measures, in their order."""
    ranks = _standard(rankdata(numbers)[None])[0]
    along = np.abs(ranked @ ranks)
    left = ((numbers[near].mean(axis=1) - numbers) ** 2).sum()
    return np.array([along[0], along[1:].max(), 1 - left / ((_of_the_others(numbers) - numbers) ** 2).sum()])


def _standard(rows: Floats) -> Floats:
    """Rows of mean 0 and norm 1; zeros where all entries are the same."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(norms > 0, norms, 1.0))


def _of_the_others(numbers: Floats) -> Floats:
    return np.asarray((numbers.sum() - numbers) / (len(numbers) - 1))


def _root_mean_square(errors: Floats) -> float:
    return float(np.sqrt((errors**2).mean()))


def _p_value(value: float, shuffled: Floats) -> float:
    return (1 + int((shuffled >= value - 1e-12).sum())) / (1 + len(shuffled))


def _nearest(distances: Floats, count: int) -> Integers:
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    return np.argsort(others, axis=1, kind="stable")[:, :count].astype(np.int64)


def _through_the_tree(distances: Floats) -> Floats:
    """The lengths of the ways between all models through their minimum spanning tree, ``[N, N]`` (Prim 1957; scipy's
    tree takes a distance of 0 for no edge).
    """
    ways = np.zeros_like(distances)
    nearest, linked = distances[0].copy(), np.zeros(len(distances), dtype=np.int64)
    outside = np.arange(len(distances)) > 0
    while outside.any():
        new = int(np.argmin(np.where(outside, nearest, np.inf)))
        inside = ~outside
        ways[new, inside] = ways[inside, new] = ways[linked[new], inside] + nearest[new]
        outside[new] = False
        closer = outside & (distances[new] < nearest)
        nearest[closer], linked[closer] = distances[new][closer], new
    return ways
