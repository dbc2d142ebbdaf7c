"""Which models lie together on the map, and in how many clusters? (Section 4.1, Figure 3.)

The number of clusters is given, or chosen: the number with the largest silhouette, provided that one cluster can be
ruled out. How well clusters and map agree with metadata is asked in
:mod:`dynamo.analysis.geometry.agreement`.
"""

from collections.abc import Sequence
from functools import partial

import attrs
import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score

from dynamo.analysis.arrays import AnyFloats, Floats, Integers
from dynamo.analysis.geometry.partitions import (
    check_count,
    check_method,
    check_thetas,
    cluster,
    count_of,
    silhouettes,
)
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.table import Table, columns_of
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief, result_html
from dynamo.system.progress import Progress, silent

#: Starts of k-means where the number of clusters is given; to choose it, each of many searches has fewer.
STARTS = 200


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
class Evidence:
    """What speaks against one cluster.

    Attributes:
        numbers: the numbers of clusters that were tried, ``[K]``; for HDBSCAN its own.
        scores: the mean silhouette of each number, ``[K]``.
        null: the same for points drawn from one Gaussian with the same mean and covariance, ``[draws, K]``.
        p_value: of one cluster: the fraction of draws with as large a gap above the mean score, this map counted in.
    """

    numbers: tuple[int, ...]
    scores: Floats
    null: Floats
    p_value: float

    __repr__ = brief
    _repr_html_ = result_html

    def table(self) -> Table:
        """The mean silhouette of each number of clusters, of the map and of the null."""
        rows = zip(self.numbers, self.scores.tolist(), self.null.mean(axis=0).tolist(), strict=True)
        return ["clusters", "silhouette", "of one Gaussian"], [list(row) for row in rows]

    def describe(self) -> str:
        """The p-value of one cluster."""
        return f"one cluster: p = {self.p_value:.3g} (gaps in silhouette against {len(self.null)} Gaussians)"


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
    most: int | None = None,
    draws: int = 199,
    level: float = 0.05,
    seed: int = 0,
    progress: Progress = silent,
) -> Clusters:
    """Cluster the models; one cluster is an allowed answer.

    To choose a number, each of 2 to ``most`` is tried, and the silhouettes are compared with what the same search finds
    in one Gaussian of the same mean and covariance (the null of Liu, Hayes, Nobel and Marron 2008). What is tested is
    the largest gap between a number's silhouette and its mean over draws and map, so that numbers whose silhouettes are
    always low count too. What is chosen is the number with the largest silhouette as it is. Where the p-value is above
    ``level``, the answer is one cluster.

    The draws keep mean and covariance exactly: given these two, samples of any Gaussian are random rotations of one
    another (Langsrud 2005), so the p-value is exact for a Gaussian of any shape and any number of models. It is strict:
    the covariance of two clusters is long in the direction between them, and they must look better parted than one
    long cloud does. With fewer than about 20 models only clusters with wide gaps do.

    Args:
        theta: the model embeddings ``[N, d]``.
        method: one of ``dynamo.analysis.geometry.partitions.METHODS``.
        count: the number of clusters; None to choose it. HDBSCAN chooses its own number, which is then tested.
        most: the largest number that is tried, at most N − 1; None for the smaller of 10 and N / 2, at least 2.
        draws: from the null.
        level: the p-value at which one cluster is given up.
        seed: of the clustering and of the draws.
        progress: called with (draws done, draws).

    Raises:
        DynamoError: an unknown method, fewer than three models, values that are not finite, more clusters than
            different thetas, a number for HDBSCAN, or too few draws for the level.

    Example:
        >>> result = find_clusters(fit.theta.numpy(), count=2)
        >>> result.count, len(result.numbers) == len(population)
        (2, True)
    """
    if count is not None:
        return Clusters(method, cluster(theta, method, count, seed=seed, starts=STARTS), None)
    check_method(method)
    distinct = check_thetas(theta)
    if (draws + 1) * level < 1:
        raise DynamoError(
            f"with {draws} draws no p-value is below {1 / (draws + 1):.2g}: a level of {level:g} needs at least "
            f"{int(np.ceil(1 / level - 1e-9)) - 1} draws"
        )
    if most is None:
        most = max(2, min(10, len(theta) // 2, distinct - 1))
    if most < 2:
        raise DynamoError(f"to choose a number of clusters at least 2 must be tried; the most is {most}")
    check_count(most, distinct, len(theta))
    points = spectrum(theta).coordinates
    search = partial(_search, method=method, numbers=range(2, most + 1), seed=seed)
    clusterings, scores = search(points)
    rng, null = np.random.default_rng(seed), np.empty((draws, len(clusterings)))
    for draw in range(draws):
        null[draw] = search(_gaussian_like(points, rng))[1]
        progress(draw + 1, draws)
    evidence = Evidence(tuple(map(count_of, clusterings)), scores, null, _p_value(scores, null))
    best = clusterings[int(scores.argmax())]
    is_one = evidence.p_value > level or count_of(best) < 2
    return Clusters(method, np.zeros(len(points), dtype=np.int64) if is_one else best, evidence)


def group_agreement(theta: AnyFloats, groups: Sequence[object], seed: int = 0) -> GroupAgreement:
    """Compare a map with known groups; :func:`dynamo.analysis.geometry.agreement.agreement` says how sure the figures
    are.

    Args:
        theta: the model embeddings ``[N, d]``.
        groups: the group of each model.
        seed: of the k-means starts.

    Raises:
        DynamoError: fewer than two groups, or as many groups as models.

    Example:
        >>> group_agreement(fit.theta.numpy(), fit.values_of("fraction")).groups
        2
    """
    names, codes = group_codes(groups)
    clusters = cluster(theta, "kmeans", min(len(names), check_thetas(theta)), seed=seed, starts=STARTS)
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


def _search(points: AnyFloats, method: str, numbers: Sequence[int], seed: int) -> tuple[list[Integers], Floats]:
    """Clusterings of points, one a number (HDBSCAN: one), and the mean silhouette of each."""
    wanted = [None] if method == "hdbscan" else numbers
    clusterings = [cluster(points, method, count, seed=seed) for count in wanted]
    distances = squareform(pdist(points))
    return clusterings, np.array([silhouettes(distances, numbers).mean() for numbers in clusterings])


def _p_value(scores: Floats, null: Floats) -> float:
    """The fraction of rows, those of the null and the scores, whose largest gap is at least that of the scores."""
    rows = np.vstack([scores, null])
    gaps = (rows - rows.mean(axis=0)).max(axis=1)
    return float((gaps >= gaps[0] - 1e-12).mean())


def _gaussian_like(points: AnyFloats, rng: np.random.Generator) -> AnyFloats:
    """Points from a Gaussian, given that their mean is 0 and their covariance that of centred principal coordinates."""
    drawn = rng.standard_normal(points.shape)
    rotation, _ = np.linalg.qr(drawn - drawn.mean(axis=0))
    scaled: AnyFloats = rotation * np.linalg.norm(points, axis=0)
    return scaled
