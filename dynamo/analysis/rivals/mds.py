"""Where do models lie, given nothing but the distances between them? Multidimensional scaling.

I. Borg and P. Groenen, 2005, Modern Multidimensional Scaling.
"""

from typing import Literal

import attrs
import numpy as np
from numpy.typing import ArrayLike

from dynamo.analysis.arrays import Floats
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.fit.distances import principal_coordinates as principal_coordinates

#: ``classical``: Torgerson's, by eigenvectors; of Euclidean distances it gives the principal components. ``metric``:
#: SMACOF, which lowers the stress from there. ``non-metric``: Kruskal's, which keeps the order of the distances alone.
Kind = Literal["classical", "metric", "non-metric"]


@attrs.frozen(eq=False)
class Layout:
    """Points whose Euclidean distances approximate given distances.

    Attributes:
        kind: the method.
        coordinates: ``[N, components]``, centred, along their principal axes; each axis has its largest entry positive.
        stress: Kruskal's stress-1, √(Σ (d − d̂)² / Σ d²) over pairs, d being the distances of the points and d̂ the
            given ones (for ``non-metric``, the best increasing function of them); 0 = none, 0.2 = poor.
        non_euclidean: Σ |λ| of the negative eigenvalues as a fraction of all, of the doubly centred squared distances;
            0 = the given distances are those of points in some Euclidean space.
    """

    kind: Kind
    coordinates: Floats
    stress: float
    non_euclidean: float

    __repr__ = brief


def mds(distances: ArrayLike, components: int = 2, kind: Kind = "classical") -> Layout:
    """Place models by their distances. There is no randomness: SMACOF starts from the classical solution.

    Args:
        distances: ``[N, N]``, see :func:`checked`.
        components: dimensions of the layout.
        kind: see :data:`Kind`.

    Raises:
        DynamoError: no matrix of distances, or as many components as models.

    Example:
        >>> layout = mds([[0, 3, 4], [3, 0, 5], [4, 5, 0]])
        >>> layout.coordinates.shape, layout.stress < 1e-6
        ((3, 2), True)
    """
    given = checked(distances)
    if not 1 <= components < len(given):
        raise DynamoError(
            f"{len(given)} models span at most {len(given) - 1} components; {components} were asked for: lower the "
            "components or take more models"
        )
    points, eigenvalues = principal_coordinates(given)
    points = points[:, :components]
    points = np.pad(points, ((0, 0), (0, components - points.shape[1])))
    if kind != "classical" and eigenvalues.any():
        points = _smacof(given, points, metric=kind == "metric")
    size = float(np.abs(eigenvalues).sum())
    negative = float(-eigenvalues[eigenvalues < 0].sum()) / size if size else 0.0
    return Layout(kind, _upright(points), _stress(given, points, kind), negative)


def checked(distances: ArrayLike) -> Floats:
    """A matrix of distances as float64, exactly symmetric with an exactly zero diagonal.

    Raises:
        DynamoError: it is not square, not finite, not symmetric, has negative entries, or does not have a zero diagonal
            (within 1e-6 of its largest entry).
    """
    given = np.asarray(distances, dtype=np.float64)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or len(given) < 2:
        raise DynamoError(f"distances have shape {given.shape}; they must be [N, N], of at least 2 models")
    if not np.isfinite(given).all():
        one, other = np.argwhere(~np.isfinite(given))[0]
        raise DynamoError(f"the distance of models {one} and {other} is {given[one, other]}")
    tolerance = 1e-6 * np.abs(given).max()
    faults = {
        "symmetric": np.abs(given - given.T).max(),
        "zero on the diagonal": np.abs(np.diag(given)).max(),
        "non-negative": -given.min(),
    }
    for wanted, size in faults.items():
        if size > tolerance:
            raise DynamoError(f"distances must be {wanted}; these are not, by {size:.3g}")
    symmetric = np.maximum((given + given.T) / 2, 0.0)
    np.fill_diagonal(symmetric, 0.0)
    return symmetric


def _smacof(given: Floats, start: Floats, metric: bool) -> Floats:
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata
    from sklearn.manifold import smacof

    # scikit-learn's non-metric form takes a distance of zero for a missing one; ranks carry all that it uses.
    wanted = given if metric else squareform(rankdata(squareform(given, checks=False)))
    settings = {"n_init": 1, "max_iter": 3000, "eps": 1e-9, "normalized_stress": False}
    points, _ = smacof(wanted, metric=metric, n_components=start.shape[1], init=start, **settings)
    return np.asarray(points, dtype=np.float64)


def _upright(points: Floats) -> Floats:
    """The points centred, along their principal axes."""
    centred = points - points.mean(0)
    turned: Floats = centred @ np.linalg.svd(centred, full_matrices=False)[2].T
    largest = turned[np.abs(turned).argmax(0), np.arange(turned.shape[1])]
    return np.asarray(turned * np.where(largest < 0, -1.0, 1.0))


def _stress(given: Floats, points: Floats, kind: Kind) -> float:
    from scipy.spatial.distance import pdist, squareform
    from sklearn.isotonic import IsotonicRegression

    wanted, reached = squareform(given, checks=False), pdist(points)
    if kind == "non-metric":
        wanted = IsotonicRegression().fit_transform(wanted, reached)
    size = float((reached**2).sum())
    return float(np.sqrt(((reached - wanted) ** 2).sum() / size)) if size else 0.0
