"""Do several meta-models draw the same map of the same models?

A map is fixed only up to rotation, reflection, translation and scale, and another seed of the meta-model gives another
one. Aligned, the maps say how stable each model's place is: smaller differences mean nothing. What is aligned are the
coordinates of the distances that maps are drawn by, or the thetas.
"""

from collections.abc import Sequence
from itertools import combinations
from statistics import median

import attrs
import numpy as np
from scipy.linalg import null_space, orthogonal_procrustes
from scipy.spatial.distance import pdist

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.geometry.spectrum import Spectrum, spectrum
from dynamo.analysis.table import Table
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.fit.fit import Fit
from dynamo.system.progress import Progress, silent


@attrs.frozen(eq=False)
class Alignment:
    """Floats of the same N models from R runs, laid over one another. d is the largest dimension among the runs.

    Attributes:
        mean: the principal components of the mean map; its coordinates are the models' mean places.
        places: the aligned maps in the same coordinates, ``[R, N, d]``.
        spread: root mean square distance of the mean places from their centre, in the units of ``places``.
        pairs: the numbers of the runs in each pair of runs, P = R (R − 1) / 2.
        distances: how far each model's places in the two runs of a pair lie apart, over ``spread``, ``[P, N]``.
        residuals: root mean square distance of each model's places from its mean place, over ``spread``, ``[N]``.
        correlations: of the runs' distances between models, for each pair of runs, ``[R, R]``. It needs no alignment.
        shuffled: what ``distance`` is where each run's models are shuffled before, ``[permutations]``. It is far below
            that of unrelated maps where models are few and dimensions many: then rotations fit anything.
    """

    mean: Spectrum
    places: Floats
    spread: float
    pairs: tuple[tuple[int, int], ...]
    distances: Floats
    residuals: Floats
    correlations: Floats
    shuffled: Floats

    __repr__ = brief

    @property
    def distance(self) -> float:
        """The median over models and pairs of runs, in units of the spread."""
        return float(np.median(self.distances))

    @property
    def model_distances(self) -> Floats:
        """The median over pairs of runs for each model, ``[N]``, in units of the spread."""
        return np.asarray(np.median(self.distances, axis=0))

    @property
    def p_value(self) -> float:
        """(1 + shuffles with as small a distance) / (1 + shuffles)."""
        return (1 + int((self.shuffled <= self.distance + 1e-12).sum())) / (1 + len(self.shuffled))

    def table(self, names: Sequence[str]) -> Table:
        """The residual and the distances of every model, the model with the largest median distance first.

        Args:
            names: of the models.
        """
        columns = ["model", "residual", "median distance", *self._pair_names()]
        models = list(zip(names, self.residuals, self.model_distances, *self.distances, strict=True))
        return columns, [list(models[index]) for index in (-self.model_distances).argsort(kind="stable")]

    def runs_table(self, runs: Sequence[object]) -> Table:
        """The median distance and the correlation of every pair of runs.

        Args:
            runs: what the runs are called, such as their folders.
        """
        columns = ["pair of runs", "run", "other run", "median distance", "correlation of distances"]
        pairs = zip(self._pair_names(), self.pairs, self.distances.tolist(), strict=True)
        return columns, [
            [pair, str(runs[one]), str(runs[other]), median(own), float(self.correlations[one, other])]
            for pair, (one, other), own in pairs
        ]

    def describe(self) -> str:
        """How far the runs lie apart, against models that are shuffled."""
        return (
            f"median distance between a model's places in two runs: {self.distance:.3f} of the map's spread; "
            f"{median(self.shuffled.tolist()):.3f} with models shuffled (p = {self.p_value:.3g})"
        )

    def _pair_names(self) -> list[str]:
        return [f"{one + 1} to {other + 1}" for one, other in self.pairs]


def align(
    maps: Sequence[AnyFloats],
    *,
    scale: bool = True,
    permutations: int = 199,
    seed: int = 0,
    progress: Progress = silent,
) -> Alignment:
    """Lay maps of the same models over one another: generalized orthogonal Procrustes analysis (Gower 1975).

    Each map is centred, then rotated (or reflected) onto the mean of all until the mean stays. Maps of fewer dimensions
    are filled up with zeros.

    Args:
        maps: R maps ``[N, d_r]`` with the models in the same order, see :func:`maps_of`.
        scale: whether each map is first brought to the same root mean square distance from its centre. The scale of
            theta, and the units of distances, are those of a single fit, so this is the default.
        permutations: shuffles of the models of all runs but the first, for ``Alignment.shuffled``.
        seed: of the shuffles.
        progress: called with (shuffles done, permutations).

    Raises:
        DynamoError: fewer than two maps or three models, maps of different numbers of models, values that are not
            finite, a map with all models at one place, or no shuffles.

    Example:
        >>> result = align([fit.theta.numpy(), 2 * fit.theta.numpy()[:, ::-1]], permutations=9)
        >>> result.distance < 1e-6
        True
    """
    if len(maps) < 2:
        raise DynamoError(f"an alignment needs at least two maps; got {len(maps)}")
    if len({len(item) for item in maps}) > 1 or len(maps[0]) < 3:
        raise DynamoError(
            f"maps of the same 3 or more models can be aligned; these have {[len(item) for item in maps]}"
        )
    if permutations < 1:
        raise DynamoError(f"an alignment is compared with at least one shuffle; {permutations} were asked for")
    centred = np.stack(
        [_centred(item, index, max(other.shape[1] for other in maps)) for index, item in enumerate(maps)]
    )
    if scale:
        spreads = np.sqrt((centred**2).sum(axis=2).mean(axis=1))
        centred *= (spreads.mean() / spreads)[:, None, None]
    places = _onto_the_mean(centred)
    mean = spectrum(places.mean(axis=0))
    axes = np.vstack([mean.components, null_space(mean.components).T])
    places = places @ axes.T
    spread, pairs, distances = _distances(places)
    residuals = np.sqrt(((places - places.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)) / spread
    correlations = np.corrcoef([pdist(item) for item in centred])
    rng, shuffled = np.random.default_rng(seed), np.empty(permutations)
    for index in range(permutations):
        others = [item[rng.permutation(len(item))] for item in centred[1:]]
        shuffled[index] = np.median(_distances(_onto_the_mean(np.stack([centred[0], *others])))[2])
        progress(index + 1, permutations)
    return Alignment(
        mean=mean,
        places=places,
        spread=spread,
        pairs=pairs,
        distances=distances,
        residuals=residuals,
        correlations=correlations,
        shuffled=shuffled,
    )


def maps_of(fits: Sequence[Fit], distance: str | None = None) -> list[Floats]:
    """The maps of several fits to the same models, ``[N, d_r]`` each, in the order of the first fit's models.

    They are the first principal coordinates of the distances, as many as θ has dimensions: with all N − 1 of them
    rotations would lay any map over any other.

    Args:
        fits: the fits.
        distance: the kind of distance; the default where it is None, ``theta`` for the thetas as they are.

    Raises:
        DynamoError: they are not of the same models, or what :func:`dynamo.fit.distances.distances` finds.
    """
    check_same_models(fits)
    names, maps = fits[0].names, []
    for fit in fits:
        theta = fit.theta.double().numpy()
        own = theta if distance == "theta" else fit.distances(distance).coordinates(theta.shape[1])
        maps.append(own[[fit.names.index(name) for name in names]])
    return maps


def check_same_models(fits: Sequence[Fit]) -> None:
    """Check that several fits are of the same models.

    Raises:
        DynamoError: they are not.
    """
    names = fits[0].names
    for number, fit in enumerate(fits[1:], start=2):
        odd = sorted(set(names) ^ set(fit.names))
        if odd:
            has, lacks = (1, number) if odd[0] in names else (number, 1)
            raise DynamoError(
                f"run 1 and run {number} are not of the same models: run {has} has {odd[0]!r}, run {lacks} lacks it "
                f"({len(odd)} models differ)"
            )
        if fit.names == names and fit.source.get("fingerprint") != fits[0].source.get("fingerprint"):
            raise DynamoError(
                f"run 1 and run {number} are of models of the same names with other weights: fit both to one population"
            )


def _centred(theta: AnyFloats, index: int, dimensions: int) -> Floats:
    """A map around its centre, filled up with zeros to so many dimensions."""
    if not np.isfinite(theta).all():
        raise DynamoError(f"map {index + 1} has NaN or infinite places: its fit diverged")
    centred = np.zeros((len(theta), dimensions))
    centred[:, : theta.shape[1]] = theta - theta.mean(axis=0, dtype=np.float64)
    if np.abs(centred).max() <= 1e-12 * np.abs(theta).max(initial=1e-300):
        raise DynamoError(f"map {index + 1} has all models at one place: there is nothing to align")
    return centred


def _onto_the_mean(centred: Floats, tolerance: float = 1e-5, rounds: int = 200) -> Floats:
    """Centred maps ``[R, N, d]``, each rotated onto the mean of all."""
    aligned = np.stack([item @ orthogonal_procrustes(item, centred[0])[0] for item in centred])
    for _ in range(rounds):
        mean = aligned.mean(axis=0)
        aligned = np.stack([item @ orthogonal_procrustes(item, mean)[0] for item in aligned])
        if np.linalg.norm(aligned.mean(axis=0) - mean) <= tolerance * np.linalg.norm(mean):
            break
    return aligned


def _distances(places: Floats) -> tuple[float, tuple[tuple[int, int], ...], Floats]:
    """The spread of the mean map, the pairs of runs, and each model's distances between runs, over the spread."""
    spread = float(np.sqrt((places.mean(axis=0) ** 2).sum(axis=1).mean()))
    pairs = tuple(combinations(range(len(places)), 2))
    distances = np.stack([np.linalg.norm(places[first] - places[second], axis=1) for first, second in pairs])
    return spread, pairs, distances / spread
