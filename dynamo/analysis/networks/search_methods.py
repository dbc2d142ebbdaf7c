"""How to look for a good θ: at random, by CMA-ES, and by the gradient; and how far from the models to look."""

from collections.abc import Callable

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief

#: Scores of many places ``[M, d] -> [M]``; more is better.
Objective = Callable[[Floats], Floats]

#: Principal components with less than this fraction of the largest standard deviation are no directions to look in.
FLAT = 1e-4


@attrs.frozen(eq=False)
class Region:
    """A trust region: the places that are at most so many times as far from the models' mean as the farthest model.

    Distance is Mahalanobis's: along each principal component in units of the models' standard deviation there, so
    that the region reaches far where the map is wide and stays thin where it is thin. It lies in the span of the
    models. About the mean, and not about the nearest model, it is one ellipsoid, onto which places are moved
    back by shrinking.

    Attributes:
        centre: the mean of the thetas, ``[d]``.
        axes: the principal components, each as long as the standard deviation along it, ``[k, d]``.
        limit: the largest distance.
    """

    centre: Floats
    axes: Floats
    limit: float

    __repr__ = brief

    @classmethod
    def around(cls, theta: AnyFloats, radius: float = 1.5) -> "Region":
        """The region about models.

        Args:
            theta: their embeddings, ``[N, d]``.
            radius: how many times as far as the farthest of them.

        Raises:
            DynamoError: fewer than two different thetas, or a radius that is not positive.
        """
        if not radius > 0:
            raise DynamoError(f"the radius of the trust region is {radius}: it must be above 0")
        components = spectrum(theta)
        deviations = np.sqrt(components.eigenvalues)
        keep = deviations > FLAT * deviations.max(initial=0)
        if not keep.any():
            raise DynamoError("the map has no directions to search in: it needs two base models with different thetas")
        axes = components.components[keep] * deviations[keep, None]
        region = cls(np.asarray(theta, dtype=np.float64).mean(0), axes, np.inf)
        return attrs.evolve(region, limit=radius * float(region.distances(theta).max()))

    def whitened(self, thetas: AnyFloats) -> Floats:
        """Places in units of standard deviations, ``[M, d] -> [M, k]``; what lies across the span is dropped."""
        whitened: Floats = (thetas - self.centre) @ (self.axes / (self.axes**2).sum(1, keepdims=True)).T
        return whitened

    def thetas(self, whitened: AnyFloats) -> Floats:
        """The inverse of :meth:`whitened`, ``[M, k] -> [M, d]``."""
        thetas: Floats = self.centre + whitened @ self.axes
        return thetas

    def distances(self, thetas: AnyFloats) -> Floats:
        """The Mahalanobis distance of places from the centre, ``[M, d] -> [M]``."""
        distances: Floats = np.linalg.norm(self.whitened(thetas), axis=-1)
        return distances

    def shrink(self, whitened: AnyFloats) -> Floats:
        """Places ``[M, k]``, those beyond the limit moved straight towards the centre onto it."""
        lengths = np.linalg.norm(whitened, axis=-1, keepdims=True)
        kept: Floats = whitened * np.minimum(1, self.limit / np.maximum(lengths, 1e-300))
        return kept

    def project(self, thetas: AnyFloats) -> Floats:
        """Thetas ``[M, d]`` moved into the region."""
        return self.thetas(self.shrink(self.whitened(thetas)))


def at_random(objective: Objective, region: Region, *, budget: int, seed: int, radius: float) -> tuple[Floats, Floats]:
    """Draw places from the Gaussian with the mean of the models and ``radius`` times their standard deviations.

    Returns:
        The places ``[budget, d]`` and their scores ``[budget]``.
    """
    drawn = np.random.default_rng(seed).standard_normal((budget, len(region.axes)))
    thetas = region.thetas(region.shrink(radius * drawn))
    return thetas, objective(thetas)


def by_cma(objective: Objective, region: Region, start: Floats, *, budget: int, seed: int) -> tuple[Floats, Floats]:
    """CMA-ES (Hansen 2016, The CMA evolution strategy: a tutorial) in the whitened coordinates, first with half a
    standard deviation.

    Args:
        objective: what is maximised.
        region: where; candidates beyond its limit are moved back before they are scored.
        start: the first mean, ``[d]``.
        budget: how many thetas are scored.
        seed: of the candidates.

    Returns:
        The thetas ``[M, d]`` and their scores, in the order in which they were tried. M is below the budget where CMA
        sees no more progress.

    Raises:
        DynamoError: the package ``cma`` is not installed.
    """
    try:
        import cma
    except ImportError:
        raise DynamoError(
            "the method 'cma' needs the package cma: pip install 'dynamo-embedding[search]' (or pip install cma)"
        ) from None
    rng = np.random.default_rng(seed)
    settings = {
        "verbose": -9,
        "seed": np.nan,  # numpy's global generator is left alone
        "randn": lambda *shape: rng.standard_normal(shape),
    }
    strategy = cma.CMAEvolutionStrategy(region.whitened(start[None])[0], 0.5, settings)
    tried: list[Floats] = []
    scores: list[Floats] = []
    while (left := budget - sum(map(len, scores))) > 0 and not strategy.stop():
        asked = region.shrink(np.stack(strategy.ask()))
        thetas = region.thetas(asked[:left])
        reached = objective(thetas)
        tried.append(thetas)
        scores.append(reached)
        if len(thetas) == len(asked):
            strategy.tell(list(asked), (-reached).tolist())
    return np.concatenate(tried), np.concatenate(scores)
