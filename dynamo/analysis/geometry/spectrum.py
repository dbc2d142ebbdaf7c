"""How many dimensions does a map have? The spectrum of the thetas' covariance (section 4.1, Figure 3's second row)."""

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.contracts.shown import brief
from dynamo.fit.distances import principal_coordinates


@attrs.frozen(eq=False)
class Spectrum:
    """Principal components of a set of model embeddings, or principal coordinates of the distances between models.

    The number of components and the participation ratio are those of these models; of all models of their kind they are
    too low unless the models are many times the dimensions. No interval is given: resampled models are fewer different
    ones, lie in fewer dimensions still, and bootstrap intervals miss the truth.

    Attributes:
        eigenvalues: of the covariance of the thetas, in descending order, ``[min(N - 1, d)]``; empty for one model. Of
            distances: the variance of each coordinate.
        components: the axes, ``[components, d]``, each with its largest entry positive; those of distances are the
            coordinates themselves.
        coordinates: the thetas along the axes, centred, ``[N, components]``.
    """

    eigenvalues: Floats
    components: Floats
    coordinates: Floats

    __repr__ = brief

    @property
    def shares(self) -> Floats:
        """Each component's share of the variance."""
        return self.eigenvalues / max(float(self.eigenvalues.sum()), 1e-300)

    def components_for(self, share: float = 0.95) -> int:
        """How many components explain a share of the variance."""
        if len(self.eigenvalues) == 0:
            return 0
        return int(np.searchsorted(np.cumsum(self.shares), share - 1e-12) + 1)

    @property
    def participation_ratio(self) -> float:
        """(Σλ)² / Σλ²: the effective number of components."""
        return float(self.eigenvalues.sum() ** 2 / max(float((self.eigenvalues**2).sum()), 1e-300))


def spectrum(theta: AnyFloats) -> Spectrum:
    """The principal components of model embeddings.

    Args:
        theta: the embeddings, ``[N, d]``.

    Example:
        >>> result = spectrum(fit.theta.numpy())
        >>> result.coordinates.shape[0] == len(population)
        True
        >>> 1 <= result.components_for(0.95) <= len(result.eigenvalues)
        True
    """
    centred = np.asarray(theta, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    keep = min(len(centred) - 1, centred.shape[1])
    axes = axes[:keep]
    axes = axes * np.sign(axes[np.arange(keep), np.abs(axes).argmax(axis=1)])[:, None]
    return Spectrum(singular[:keep] ** 2 / max(len(centred) - 1, 1), axes, centred @ axes.T)


def spectrum_of_distances(distances: AnyFloats) -> Spectrum:
    """The principal coordinates of distances between models (Torgerson 1952): points, centred and along their principal
    axes, whose Euclidean distances are the given ones, or the nearest to them if no points have these.

    Of Euclidean distances between thetas they are the principal components. Each coordinate has its largest entry
    positive.

    Args:
        distances: ``[N, N]``, symmetric, 0 on the diagonal.

    Example:
        >>> result = spectrum_of_distances(fit.distances("theta").matrix)
        >>> np.allclose(result.eigenvalues, spectrum(fit.theta.numpy()).eigenvalues, atol=1e-5)
        True
    """
    points, eigenvalues = principal_coordinates(np.asarray(distances, dtype=np.float64))
    count = points.shape[1]
    if count:
        points = points * np.where(points[np.abs(points).argmax(axis=0), np.arange(count)] < 0, -1.0, 1.0)
    return Spectrum(eigenvalues[:count] / max(len(points) - 1, 1), np.eye(count), points)


def placed(old: Spectrum, distances: AnyFloats) -> Floats:
    """Where further models lie along the principal coordinates of others, ``[M, components]`` (J. Gower, 1968,
    Biometrika 55(3)): for Euclidean distances their projection, which leaves the others where they are.

    Args:
        old: the principal coordinates of the N others.
        distances: of each further model to each of them, ``[M, N]``.
    """
    points = old.coordinates
    from_centre = (points**2).sum(axis=1)
    squared = np.asarray(distances, dtype=np.float64) ** 2
    result: Floats = 0.5 * (from_centre - squared) @ points / np.maximum((points**2).sum(axis=0), 1e-300)
    return result
