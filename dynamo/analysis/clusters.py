"""Do the groups that a label names lie apart on the map? (Section 4.1, Figure 3.)"""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from dynamo.errors import DynamoError


@attrs.frozen
class GroupAgreement:
    """How far a map separates known groups.

    Attributes:
        groups: how many there are.
        ari: adjusted Rand index between the groups and k-means with as many clusters (Hubert and Arabie 1985); 1 =
            the same, 0 = chance.
        silhouette: mean silhouette of the groups (Rousseeuw 1987), −1 to 1.
    """

    groups: int
    ari: float
    silhouette: float


def group_agreement(theta: NDArray[np.floating], groups: Sequence[object], seed: int = 0) -> GroupAgreement:
    """Compare a map with known groups.

    Args:
        theta: the model embeddings ``[N, d]``.
        groups: the group of each model.
        seed: of the k-means starts (there are 20).

    Raises:
        DynamoError: fewer than two groups, or as many groups as models.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    names = [str(group) for group in groups]
    count = len(set(names))
    if not 2 <= count < len(names):
        raise DynamoError(
            f"{len(names)} models in {count} groups: agreement needs at least 2 groups, and fewer groups than models"
        )
    found = KMeans(count, n_init=20, random_state=seed).fit_predict(theta)
    return GroupAgreement(count, float(adjusted_rand_score(names, found)), float(silhouette_score(theta, names)))
