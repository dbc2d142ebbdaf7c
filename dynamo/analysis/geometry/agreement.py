"""How well do clusters and map agree with metadata, and how sure is that? (Section 4.1, Figures 3 and 4.)"""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.metrics.cluster import expected_mutual_information

from dynamo.analysis.arrays import AnyFloats, Booleans, Floats, Integers
from dynamo.analysis.geometry.clusters import Clusters, find_clusters, group_codes
from dynamo.analysis.geometry.cuts import MANY
from dynamo.analysis.geometry.kmeans import kmeans
from dynamo.analysis.geometry.partitions import check_thetas, cluster, silhouettes
from dynamo.analysis.table import Table, columns_of
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief, result_html
from dynamo.system.progress import Progress, silent

MEASURES = ("ARI", "AMI", "silhouette", "neighbours")

#: k-means of half-samples of many models starts so often, which leaves it among equally good clusters.
_STARTS = 10


@attrs.frozen
class Measure:
    """One figure of agreement.

    Attributes:
        name: one of ``MEASURES``. ``ARI`` and ``AMI``: adjusted Rand index and adjusted mutual information of groups
            and clusters (1 = the same, 0 = chance). ``silhouette``: the mean silhouette of the groups (−1 to 1).
            ``neighbours``: the fraction of models whose group their nearest other models vote for.
        value: on all models.
        low, high: its 95 % interval, from half-samples; NaN where no group has more than two models.
        chance: its mean where the groups are shuffled over the models.
        p_value: (1 + shuffles at least as good) / (1 + shuffles).
    """

    name: str
    value: float
    low: float
    high: float
    chance: float
    p_value: float


@attrs.frozen
class GroupDistances:
    """How far the models of one group lie from one another. Badly trained networks may be as far from each other as
    from others: where ``within`` is not below ``between``, the group is no cluster but scattered around the others.

    Attributes:
        name: of the group.
        models: how many it has.
        spread: mean distance of its models to their centroid.
        within: mean distance between two of its models; NaN for one model.
        between: mean distance between its models and those of other groups.
    """

    name: str
    models: int
    spread: float
    within: float
    between: float


@attrs.frozen
class Agreement:
    """How well the groups of a piece of metadata agree with a map.

    Attributes:
        measures: one for each of ``MEASURES``.
        groups: one for each group, sorted by name.
    """

    measures: tuple[Measure, ...]
    groups: tuple[GroupDistances, ...]

    __repr__ = brief
    _repr_html_ = result_html

    def __getitem__(self, name: str) -> Measure:
        return self.measures[MEASURES.index(name)]

    def table(self) -> Table:
        """A row for each measure."""
        columns = ["measure", "value", "low", "high", "shuffled", "p"]
        return columns, [list(attrs.astuple(measure)) for measure in self.measures]

    def groups_table(self, key: str = "group") -> Table:
        """A row for each group: its mean distances.

        Args:
            key: of the metadata whose values name the groups.
        """
        columns = ["models", "to the centroid", "in the group", "to others"]
        return [*columns_of([key], columns), *columns], [list(attrs.astuple(group)) for group in self.groups]


#: Shuffles that are looked at together.
_TOGETHER = 64


def agreement(
    theta: AnyFloats,
    groups: Sequence[object],
    *,
    clusters: Clusters | None = None,
    neighbours: int = 1,
    permutations: int = 1000,
    halves: int = 200,
    seed: int = 0,
    progress: Progress = silent,
) -> Agreement:
    """Compare map and clusters with known groups.

    The p-values are those of a permutation test: the groups are shuffled over the models, map and clusters stay. The
    intervals are from half-samples: half of each group's models (at least two), drawn without replacement and clustered
    anew, in as many clusters or as many as so few models and places allow. A bootstrap with replacement would put
    copies of a model at distance 0 of each other and so raise silhouette, neighbours and ARI. Of all subsamples the
    half needs no rescaling: a mean over it varies about the mean over all as the latter does about the truth (Shao and
    Wu 1989). Since half as many models tend to agree less, the half-samples' middle 95 % are moved from their mean to
    the value of all models, and cut at the ends of the measure's range. The interval is too narrow for groups of less
    than four models.

    Args:
        theta: the model embeddings ``[N, d]``.
        groups: the group of each model.
        clusters: what ARI and AMI compare the groups with; None for k-means with as many clusters as groups.
        neighbours: how many other models vote. Among groups with equally many votes the nearest model's wins.
        permutations: shuffles of the groups.
        halves: half-samples.
        seed: of shuffles, half-samples and clusterings.
        progress: called with (shuffles and half-samples done, all).

    Raises:
        DynamoError: fewer than two groups, as many groups as models, groups or clusters of another number of models,
            more neighbours than other models, no shuffles or fewer than 20 half-samples, or what ``find_clusters``
            raises.

    Example:
        >>> result = agreement(fit.theta.numpy(), fit.values_of("fraction"), permutations=9, halves=20)
        >>> [measure.name for measure in result.measures]
        ['ARI', 'AMI', 'silhouette', 'neighbours']
        >>> 0 < result["neighbours"].p_value <= 1
        True
    """
    check_groups(groups, neighbours)
    names, codes = group_codes(groups)
    theta = np.asarray(theta, dtype=np.float64)
    clusters = clusters or find_clusters(theta, "kmeans", min(len(names), check_thetas(theta)), seed=seed)
    if not len(theta) == len(codes) == len(clusters.numbers):
        raise DynamoError(
            f"{len(theta)} models, {len(codes)} groups and {len(clusters.numbers)} clustered models differ"
        )
    if permutations < 1 or halves < 20:
        raise DynamoError(f"{permutations} shuffles and {halves} half-samples are too few: take at least 1 and 20")
    distances = squareform(pdist(theta))
    near = nearest_others(distances, neighbours)
    value = _measure(distances, codes, clusters.numbers, near)
    rng, total = np.random.default_rng(seed), permutations + halves
    shuffled, halved = np.empty((permutations, len(MEASURES))), np.empty((halves, len(MEASURES)))
    for start in range(0, permutations, _TOGETHER):
        stop = min(start + _TOGETHER, permutations)
        shuffles = np.stack([rng.permutation(codes) for _ in range(start, stop)])
        shuffled[start:stop] = _measure_shuffles(distances, shuffles, clusters.numbers, near)
        progress(stop, total)
    places = np.unique(theta, axis=0, return_inverse=True)[1]
    for index in range(halves):
        rows = _half(codes, rng)
        numbers = _again(theta[rows], len(np.unique(places[rows])), clusters, seed)
        half = distances[np.ix_(rows, rows)]
        halved[index] = _measure(half, codes[rows], numbers, nearest_others(half, min(neighbours, len(rows) - 1)))
        progress(permutations + index + 1, total)
    p_values = (1 + (shuffled >= value - 1e-12).sum(axis=0)) / (1 + permutations)
    low, high = value + np.quantile(halved - halved.mean(axis=0), [0.025, 0.975], axis=0)
    if np.bincount(codes).max() <= 2:
        low = high = np.full(len(MEASURES), np.nan)  # each half-sample was the whole
    least = [0.0 if name == "neighbours" else -1.0 for name in MEASURES]
    low, high, chance = np.clip(low, least, 1.0), np.clip(high, least, 1.0), shuffled.mean(axis=0)
    measures = (
        Measure(
            name=name,
            value=float(value[index]),
            low=float(low[index]),
            high=float(high[index]),
            chance=float(chance[index]),
            p_value=float(p_values[index]),
        )
        for index, name in enumerate(MEASURES)
    )
    own_distances = (_distances(name, theta, distances, codes == code) for code, name in enumerate(names))
    return Agreement(tuple(measures), tuple(own_distances))


def check_groups(groups: Sequence[object], neighbours: int = 1) -> None:
    """Check that agreement can be asked for, before models are clustered.

    Args:
        groups: the group of each model.
        neighbours: how many other models vote.

    Raises:
        DynamoError: fewer than two groups, as many groups as models, or more neighbours than other models.
    """
    group_codes(groups)
    if not 1 <= neighbours < len(groups):
        raise DynamoError(f"{neighbours} neighbours were asked for: each model has 1 to {len(groups) - 1} others")


def nearest_others(distances: AnyFloats, neighbours: int) -> NDArray[np.intp]:
    """The nearest other models of each model, the nearest first, ``[N, neighbours]``."""
    others = np.array(distances, dtype=np.float64)
    np.fill_diagonal(others, np.inf)
    return np.argsort(others, axis=1, kind="stable")[:, :neighbours]


def neighbour_votes(near: NDArray[np.intp], codes: Integers) -> Integers:
    """The group that the nearest other models of each model vote for, ``[N]`` (leave-one-out k-NN).

    Args:
        near: the models that vote, the nearest first, ``[N, neighbours]``; among groups with equally many votes the
            nearest model's wins.
        codes: the group of each model as a number, ``[N]``.
    """
    neighbours = near.shape[1]
    votes = np.eye(int(codes.max()) + 1)[codes[near]]
    first = np.where(votes.any(axis=1), votes.argmax(axis=1), neighbours)
    return np.asarray((votes.sum(axis=1) - first / (neighbours + 1)).argmax(axis=1), dtype=np.int64)


def _measure(distances: AnyFloats, codes: Integers, numbers: Integers, near: NDArray[np.intp]) -> Floats:
    """The values of ``MEASURES``."""
    return np.array(
        [
            adjusted_rand_score(codes, numbers),
            adjusted_mutual_info_score(codes, numbers),
            silhouettes(distances, codes).mean(),
            (neighbour_votes(near, codes) == codes).mean(),
        ]
    )


def _measure_shuffles(distances: AnyFloats, shuffles: Integers, numbers: Integers, near: NDArray[np.intp]) -> Floats:
    """What :func:`_measure` gives for each of several shuffles of the same groups ``[P, N]``, ``[P, MEASURES]``: much
    faster, since the groups' sizes, and so what the indices are by chance, are those of all of them.
    """
    count, clustered = int(shuffles.max()) + 1, np.unique(numbers, return_inverse=True)[1]
    of_group = np.eye(count)[shuffles]
    table = np.einsum("png,nc->pgc", of_group, np.eye(int(clustered.max()) + 1)[clustered])
    silhouette = _mean_silhouettes(distances, shuffles, of_group)
    right = np.stack([(neighbour_votes(near, codes) == codes).mean() for codes in shuffles])
    return np.stack([*_adjusted_indices(table), silhouette, right], axis=1)


def _adjusted_indices(table: Floats) -> tuple[Floats, Floats]:
    """The adjusted Rand index (Hubert and Arabie 1985) and the adjusted mutual information (Vinh, Epps and Bailey 2010,
    with the arithmetic mean) of several tables of one pair of margins: how many models each group has in each cluster,
    ``[P, groups, clusters]``.
    """
    rows, columns, total = table[0].sum(1), table[0].sum(0), table[0].sum()
    together, in_rows, in_columns, pairs = (
        (counts * (counts - 1) / 2).sum(axis=axes)
        for counts, axes in ((table, (1, 2)), (rows, None), (columns, None), (total, None))
    )
    chance, most = in_rows * in_columns / pairs, (in_rows + in_columns) / 2
    rand = (together - chance) / (most - chance) if most > chance else np.ones(len(table))
    if len(rows) == len(columns) == 1 or len(rows) == len(columns) == total:
        return rand, np.ones(len(table))  # by convention, as scikit-learn has it
    by_chance = np.outer(rows, columns) / total
    information = np.where(table > 0, table * np.log(np.where(table > 0, table, 1) / by_chance), 0.0)
    mutual = np.maximum(information.sum(axis=(1, 2)) / total, 0.0)
    entropies = [-(part * np.log(part)).sum() for part in (rows / total, columns / total)]
    expected = expected_mutual_information(table[0].astype(np.int64), int(total))
    left = sum(entropies) / 2 - expected
    least = np.finfo(np.float64).eps
    return rand, (mutual - expected) / (min(left, -least) if left < 0 else max(left, least))


def _mean_silhouettes(distances: AnyFloats, shuffles: Integers, of_group: Floats) -> Floats:
    """The mean of :func:`silhouettes` of each of several shuffles of the same groups, ``[P]``."""
    sizes = np.bincount(shuffles[0])
    sums = np.einsum("nm,pmg->png", distances, of_group, optimize=True)
    own = np.take_along_axis(sums, shuffles[..., None], 2)[..., 0] / np.maximum(sizes[shuffles] - 1, 1)
    nearest = np.where(of_group > 0, np.inf, sums / sizes).min(axis=2)
    larger = np.maximum(own, nearest)
    scores = np.where((sizes[shuffles] > 1) & (larger > 0), (nearest - own) / np.where(larger > 0, larger, 1), 0)
    return np.asarray(scores.mean(axis=1))


def _half(codes: Integers, rng: np.random.Generator) -> NDArray[np.intp]:
    """Half of the models of each group, but at least two (one of one), in order."""
    groups = (np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1))
    return np.sort(np.concatenate([rng.permutation(group)[: max(2, (len(group) + 1) // 2)] for group in groups]))


def _again(theta: AnyFloats, distinct: int, clusters: Clusters, seed: int) -> Integers:
    """Some of the models, clustered in the same way: in as many clusters, or in as many as their number and their
    different places allow. Many are clustered by k-means from :data:`_STARTS` starts.
    """
    count = min(clusters.count, distinct, len(theta) - 1)
    if count < 2:
        return np.zeros(len(theta), dtype=np.int64)
    if clusters.method == "kmeans" and len(theta) > MANY:
        return kmeans(theta, count, _STARTS)
    return cluster(theta, clusters.method, None if clusters.method == "hdbscan" else count, seed=seed)


def _distances(name: str, theta: AnyFloats, distances: AnyFloats, own: Booleans) -> GroupDistances:
    count = int(own.sum())
    spread = np.linalg.norm(theta[own] - theta[own].mean(axis=0), axis=1).mean()
    within = distances[np.ix_(own, own)].sum() / (count * (count - 1)) if count > 1 else np.nan
    return GroupDistances(
        name=name,
        models=count,
        spread=float(spread),
        within=float(within),
        between=float(distances[np.ix_(own, ~own)].mean()),
    )
