"""Which models lie together on the map, and in how many clusters? (Section 4.1, Figure 3.)

The number of clusters is given, or as many as can be shown (:mod:`dynamo.analysis.geometry.cuts`). How well clusters
and map agree with metadata is asked in :mod:`dynamo.analysis.geometry.agreement`.
"""

from collections.abc import Sequence

import attrs
import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score

from dynamo.analysis.arrays import AnyFloats, Integers
from dynamo.analysis.geometry.cuts import Evidence, find_cuts
from dynamo.analysis.geometry.partitions import (
    check_count,
    check_method,
    check_thetas,
    cluster,
    count_of,
    silhouettes,
)
from dynamo.analysis.table import Table, columns_of
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.system.progress import Progress, silent


@attrs.frozen
class GroupAgreement:
    """How far a map separates known groups, in two figures.

    Attributes:
        groups: how many there are.
        ari: adjusted Rand index between the groups and k-means with as many clusters (Hubert and Arabie 1985); 1 =
            the same, 0 = chance.
        silhouette: mean silhouette of the groups (Rousseeuw 1987), −1 to 1.
    """

    groups: int
    ari: float
    silhouette: float


@attrs.frozen(eq=False)
class Clusters:
    """The models in clusters.

    Attributes:
        method: of the clustering, one of ``dynamo.analysis.geometry.partitions.METHODS``.
        numbers: the cluster of each model, ``[N]``, numbered from 0 as they come; −1 for models that HDBSCAN leaves
            out.
        evidence: for the number of clusters; None where the number was given.
    """

    method: str
    numbers: Integers
    evidence: Evidence | None

    __repr__ = brief

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return count_of(self.numbers)

    def table(self, names: Sequence[str], key: str | None = None, values: Sequence[object] | None = None) -> Table:
        """The cluster of each model, numbered from 1.

        Args:
            names: of the models.
            key: of metadata for a column of its own; None for none.
            values: that metadata of each model.
        """
        clusters = [int(number) + 1 if number >= 0 else "none" for number in self.numbers]
        if key is None or values is None:
            return ["model", "cluster"], [list(row) for row in zip(names, clusters, strict=True)]
        columns = ["model", *columns_of([key], ["model", "cluster"]), "cluster"]
        return columns, [list(row) for row in zip(names, values, clusters, strict=True)]


def find_clusters(
    theta: AnyFloats,
    method: str = "kmeans",
    count: int | None = None,
    *,
    draws: int = 999,
    level: float = 0.05,
    seed: int = 0,
    progress: Progress = silent,
) -> Clusters:
    """Cluster the models; one cluster is an allowed answer.

    The number is that of :func:`dynamo.analysis.geometry.cuts.find_cuts`, which asks the map and not the method: as
    many clusters as can be shown. The chance that one cluster is split is at most ``level``. What groups are found in
    how many of 200 simulations is in ``benchmarks/README.md``.

    Args:
        theta: the model embeddings ``[N, d]``, or points that lie as far apart as models do.
        method: one of ``dynamo.analysis.geometry.partitions.METHODS``.
        count: the number of clusters; None to choose it. HDBSCAN chooses its own number, where there is more than one
            cluster.
        draws: from the null.
        level: the p-value at which one cluster is given up.
        seed: of spectral clustering and of the draws.
        progress: called with (cuts tried, cuts tried).

    Raises:
        DynamoError: an unknown method, fewer than three models, values that are not finite, more clusters than
            different thetas, a number for HDBSCAN, or too few draws for the level.

    Example:
        >>> result = find_clusters(fit.theta.numpy(), count=2)
        >>> result.count, len(result.numbers) == len(population)
        (2, True)
    """
    if count is not None:
        return Clusters(method, cluster(theta, method, count, seed=seed), None)
    check_method(method)
    distinct = check_thetas(theta)
    if (draws + 1) * level < 1:
        raise DynamoError(
            f"with {draws} draws no p-value is below {1 / (draws + 1):.2g}: a level of {level:g} needs at least "
            f"{int(np.ceil(1 / level - 1e-9)) - 1} draws"
        )
    check_count(2, distinct, len(theta))
    evidence = find_cuts(theta, draws=draws, level=level, seed=seed, progress=progress)
    number = evidence.count
    if number > 1 and method == "hdbscan":
        found = cluster(theta, method)
        return Clusters(method, found if count_of(found) > 1 else np.zeros_like(found), evidence)
    numbers = cluster(theta, method, number, seed=seed) if number > 1 else np.zeros(len(theta), dtype=np.int64)
    return Clusters(method, numbers, evidence)


def group_agreement(theta: AnyFloats, groups: Sequence[object]) -> GroupAgreement:
    """Compare a map with known groups; :func:`dynamo.analysis.geometry.agreement.agreement` says how sure the figures
    are.

    Args:
        theta: the model embeddings ``[N, d]``.
        groups: the group of each model.

    Raises:
        DynamoError: fewer than two groups, or as many groups as models.

    Example:
        >>> group_agreement(fit.theta.numpy(), fit.values_of("fraction")).groups
        2
    """
    names, codes = group_codes(groups)
    clusters = cluster(theta, "kmeans", min(len(names), check_thetas(theta)))
    scores = silhouettes(squareform(pdist(theta)), codes)
    return GroupAgreement(len(names), float(adjusted_rand_score(codes, clusters)), float(scores.mean()))


def group_codes(groups: Sequence[object]) -> tuple[list[str], Integers]:
    """The names of the groups, sorted, and for each model the number of its group, ``[N]``.

    Raises:
        DynamoError: fewer than two groups, or as many groups as models.
    """
    names, codes = np.unique([str(group) for group in groups], return_inverse=True)
    if not 2 <= len(names) < len(codes):
        raise DynamoError(
            f"{len(codes)} models in {len(names)} groups: agreement needs at least 2 groups, and fewer groups than "
            "models"
        )
    return [str(name) for name in names], codes.astype(np.int64)
