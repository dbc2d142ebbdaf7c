"""How many clusters are there? One, until a cut in two explains more than it would of models spread along a line.

A cloud is cut in two across one of its widest principal coordinates where that explains most of the variance along it.
Of one cluster with a single peak, whatever its shape, no cut in halves explains more than of an even spread along a
line, 3/4 (by Khinchin's theorem: a symmetric density with one peak is a mixture of uniform ones, and their share is
the largest). So an even spread is the null, as in the dip test (J. Hartigan and P. Hartigan, 1985, Annals of
Statistics 13(1)); one-parameter families of models, which look like it, are no clusters either. Each side is then cut
in its turn, at a level in proportion to its models (P. Kimes et al., 2017, Biometrics 73(3)).
"""

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats, Integers
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.table import Table
from dynamo.system.progress import Progress, silent

#: The fewest models of a cluster that can be shown.
SMALLEST = 3

#: Coordinates that are tried: those with this share of the variance of the widest, at most so many.
WIDE, MOST_AXES = 2 / 3, 3

#: Coordinates of the null that are drawn at a time.
CHUNK = 2_000_000


@attrs.frozen(eq=False)
class Cut:
    """A cut of some models in two.

    Attributes:
        models: their numbers, ``[n]``.
        axis: the principal coordinate of these models that is cut, numbered from 0.
        places: of the models along it, centred, ``[n]``.
        border: the place of the cut.
        share: of the variance along the axis that the two sides explain.
        usual: the share that is reached with probability ``level`` where models are spread evenly along a line.
        p_value: of one cluster: how often such models reach ``share``, this map counted in.
        level: the p-value at which the cut counts.
    """

    models: Integers
    axis: int
    places: Floats
    border: float
    share: float
    usual: float
    p_value: float
    level: float

    @property
    def counts(self) -> bool:
        """Whether there are two clusters or more."""
        return self.p_value <= self.level


@attrs.frozen(eq=False)
class Evidence:
    """What speaks against one cluster.

    Attributes:
        cuts: the best cut of all models, and of each side of every cut that counts. Fewer than six models, or models at
            one place, are not cut.
        draws: from the null.
    """

    cuts: tuple[Cut, ...]
    draws: int

    @property
    def count(self) -> int:
        """How many clusters can be shown."""
        return 1 + sum(cut.counts for cut in self.cuts)

    @property
    def p_value(self) -> float:
        """Of one cluster; 1 where nothing can be cut."""
        return self.cuts[0].p_value if self.cuts else 1.0

    def table(self) -> Table:
        """The cuts that were tried."""
        columns = ["models", "one side", "other side", "share", "even spread", "p", "level", "cut"]
        rows: list[list[object]] = []
        for cut in self.cuts:
            low = int((cut.places < cut.border).sum())
            sizes = [len(cut.models), low, len(cut.models) - low]
            rows.append([*sizes, cut.share, cut.usual, cut.p_value, cut.level, cut.counts])
        return columns, rows

    def describe(self) -> str:
        """The p-value of one cluster."""
        if not self.cuts:
            return f"one cluster: fewer than {2 * SMALLEST} models, or models at one place, cannot be told from it"
        return f"one cluster: p = {self.p_value:.3g} (cuts in two, against {self.draws} even spreads along a line)"


def find_cuts(
    points: AnyFloats, *, draws: int = 999, level: float = 0.05, seed: int = 0, progress: Progress = silent
) -> Evidence:
    """Cut models in two, and each side again, as long as a cut explains more than it would of an even spread.

    The chance that one cluster is cut is at most ``level``: that of a Gaussian of any covariance and of any number of
    models, of heavy tails, and of models spread evenly along a line. A family of models along a bent line can look like
    clusters at its ends.

    Args:
        points: the models ``[N, d]``.
        draws: from the null.
        level: of all cuts.
        seed: of the draws.
        progress: called with (cuts tried, cuts tried).
    """
    points = np.asarray(points, dtype=np.float64)
    null: dict[tuple[int, int], Floats] = {}
    tried: list[Cut] = []
    waiting = [np.arange(len(points))]
    while waiting:
        models = waiting.pop(0)
        if len(models) < 2 * SMALLEST or not np.ptp(points[models], axis=0).any():
            continue
        seen = spectrum(points[models])
        axes = int((seen.eigenvalues[:MOST_AXES] >= WIDE * seen.eigenvalues[0]).sum())
        shares, sizes = _best_cuts(seen.coordinates[:, :axes])
        axis = int(shares.argmax())
        key = (len(models), axes)
        if key not in null:
            null[key] = _even_spreads(*key, draws, seed)
        places = seen.coordinates[:, axis]
        ordered = np.sort(places)
        size = int(sizes[axis])
        own = level * (len(models) - 1) / (len(points) - 1)
        cut = Cut(
            models=models,
            axis=axis,
            places=places,
            border=float(ordered[size - 1 : size + 1].mean()),
            share=float(shares[axis]),
            usual=float(np.quantile(null[key], 1 - own)),
            p_value=float((1 + (null[key] >= shares[axis] - 1e-12).sum()) / (1 + draws)),
            level=own,
        )
        tried.append(cut)
        progress(len(tried), len(tried))
        if cut.counts:
            low = places < cut.border
            waiting += [models[low], models[~low]]
    return Evidence(tuple(tried), draws)


def _best_cuts(places: Floats) -> tuple[Floats, Integers]:
    """The largest share of the variance that a cut in two explains, and how many models are below it.

    Args:
        places: ``[..., n, axes]``.

    Returns:
        Shares and numbers ``[..., axes]``.
    """
    count = places.shape[-2]
    ordered = np.sort(places, axis=-2)
    ordered = ordered - ordered.mean(axis=-2, keepdims=True)
    below = np.arange(SMALLEST, count - SMALLEST + 1)[:, None]
    sums = np.cumsum(ordered, axis=-2)[..., SMALLEST - 1 : count - SMALLEST, :]
    between = sums**2 * count / (below * (count - below))
    return between.max(axis=-2) / (ordered**2).sum(axis=-2), between.argmax(axis=-2) + SMALLEST


def _even_spreads(count: int, axes: int, draws: int, seed: int) -> Floats:
    """The largest share over axes of models that are spread evenly along the first and normally along the others."""
    rng, found = np.random.default_rng(seed), []
    for part in np.array_split(np.arange(draws), max(1, draws * count * axes // CHUNK)):
        places = rng.standard_normal((len(part), count, axes))
        places[..., 0] = rng.uniform(-1, 1, (len(part), count))
        found.append(_best_cuts(places)[0].max(axis=-1))
    return np.concatenate(found)
