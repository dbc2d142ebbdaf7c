"""How many clusters are there? One, until parting it explains more than it would of models that are spread evenly.

Clusters lie along the widest principal coordinates. These are parted: one of them in two, or q of them together in
q + 1, since so many centres span q dimensions. Of a symmetric density with one peak, no cut in the middle explains more
than of an even spread along a line, 3/4: by Khinchin's theorem the density is that of Z·U, U even, and (E|Z·U|)² /
E(Z·U)² = 3/4 · (E|Z|)² / EZ². So an even spread is the null, as in the dip test (J. Hartigan and P. Hartigan, 1985,
Annals of Statistics 13(1)); one-parameter families of models, which look like it, are no clusters either. Each part is
then parted in its turn, at a level in proportion to its models (P. Kimes et al., 2017, Biometrics 73(3)).
"""

from functools import lru_cache

import attrs
import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import beta, rankdata

from dynamo.analysis.arrays import AnyFloats, Floats, Integers
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.table import Table
from dynamo.contracts.shown import brief, result_html
from dynamo.system.progress import Progress, silent

#: The fewest models of a cluster that can be shown.
SMALLEST = 3

#: Of more models than this the draws from the null end as soon as it is clear whether a cut counts: when the p-value's
#: 99.9 % interval (Clopper and Pearson, 1934, Biometrika 26(4)) is on one side of the level. It is looked at after so
#: many draws, and then each time there are half as many more.
MANY, FIRST, DOUBT = 100, 49, 1e-3

#: Coordinates that are tried: those with this share of the variance of the widest, at most so many.
WIDE, MOST_AXES = 2 / 3, 9


@attrs.frozen(eq=False)
class Cut:
    """Some models, parted in two or more.

    Attributes:
        models: their numbers, ``[n]``.
        sides: the part of each, ``[n]``, numbered from 0.
        places: of the models along one principal coordinate of theirs: the one that is parted, or the widest.
        share: of the variance of the parted coordinates that the parts explain.
        usual: the same of models that are spread evenly, on average.
        p_value: of one cluster: how often an even spread can be parted as well, this map counted in.
        level: the p-value at which the cut counts.
        draws: from the null; of many models, as many as it took to decide.
    """

    models: Integers
    sides: Integers
    places: Floats
    share: float
    usual: float
    p_value: float
    level: float
    draws: int

    __repr__ = brief

    @property
    def counts(self) -> bool:
        """Whether there is more than one cluster."""
        return self.p_value <= self.level


@attrs.frozen(eq=False)
class Evidence:
    """What speaks against one cluster.

    Attributes:
        cuts: the best cut of all models, and of each part of every cut that counts. Fewer than six models, or models at
            one place, are not cut.
        draws: from the null, at most.
    """

    cuts: tuple[Cut, ...]
    draws: int

    __repr__ = brief
    _repr_html_ = result_html

    @property
    def count(self) -> int:
        """How many clusters can be shown."""
        return 1 + sum(int(cut.sides.max()) for cut in self.cuts if cut.counts)

    @property
    def p_value(self) -> float:
        """Of one cluster; 1 where nothing can be cut."""
        return self.cuts[0].p_value if self.cuts else 1.0

    def table(self) -> Table:
        """The cuts that were tried."""
        columns = ["models", "parts", "share", "even spread", "p", "level", "cut"]
        rows: list[list[object]] = []
        for cut in self.cuts:
            parts = " + ".join(map(str, np.bincount(cut.sides).tolist()))
            rows.append([len(cut.models), parts, cut.share, cut.usual, cut.p_value, cut.level, cut.counts])
        return columns, rows

    def describe(self) -> str:
        """The p-value of one cluster."""
        if not self.cuts:
            return f"one cluster: fewer than {2 * SMALLEST} models, or models at one place, cannot be told from it"
        return f"one cluster: p = {self.p_value:.3g} (parts of the map, against {self.cuts[0].draws} even spreads)"


def find_cuts(
    points: AnyFloats, *, draws: int = 999, level: float = 0.05, seed: int = 0, progress: Progress = silent
) -> Evidence:
    """Part models, and each part again, as long as that explains more than it would of an even spread.

    The chance that one cluster is parted is at most about ``level``: a Gaussian of any covariance, heavy tails, and
    models spread evenly along a line. A family of models along a bent line can look like clusters at its ends.

    Args:
        points: the models ``[N, d]``.
        draws: from the null.
        level: of all cuts.
        seed: of the draws.
        progress: called with (cuts tried, cuts tried).
    """
    places = np.asarray(points, dtype=np.float64)
    tried: list[Cut] = []
    waiting = [np.arange(len(places))]
    while waiting:
        models = waiting.pop(0)
        if len(models) < 2 * SMALLEST or not np.ptp(places[models], axis=0).any():
            continue
        own = level * (len(models) - 1) / (len(places) - 1)
        cut = _cut(places[models], models, draws, own, seed)
        tried.append(cut)
        progress(len(tried), len(tried))
        if cut.counts:
            waiting += [models[cut.sides == side] for side in range(int(cut.sides.max()) + 1)]
    return Evidence(tuple(tried), draws)


def _cut(points: Floats, models: Integers, draws: int, level: float, seed: int) -> Cut:
    """The way of parting that the fewest even spreads reach; of equal ones that with the fewest parts."""
    seen = spectrum(points)
    wide = int((seen.eigenvalues >= WIDE * seen.eigenvalues[0]).sum())
    axes = max(1, min(wide, MOST_AXES, len(points) // SMALLEST - 1))
    places = seen.coordinates[:, :axes] / np.sqrt(seen.eigenvalues[:axes])
    shares, sides = _ways(places)
    drawn = draws if len(points) <= MANY else min(FIRST, draws)
    spreads = _even_spreads(len(points), axes, seed)
    while True:
        null = spreads.first(drawn)
        ranks = rankdata(-np.round(np.vstack([shares, null]), 12), method="max", axis=0)
        best = ranks.min(axis=1)
        reached = int((best[1:] <= best[0]).sum())
        if drawn == draws or _is_decided(reached, drawn, level):
            break
        drawn = min(drawn + drawn // 2, draws)
    way = int(ranks[0].argmin())
    along = int(_best_cuts(places)[0].argmax()) if way == 0 else 0
    return Cut(
        models=models,
        sides=sides[way],
        places=seen.coordinates[:, along],
        share=float(shares[way]),
        usual=float(null[:, way].mean()),
        p_value=(1 + reached) / (1 + drawn),
        level=level,
        draws=drawn,
    )


def _is_decided(reached: int, drawn: int, level: float) -> bool:
    """Whether a p-value is on one side of the level, where so many draws of the null reached what was found."""
    low = beta.ppf(DOUBT / 2, reached, drawn - reached + 1) if reached else 0.0
    high = beta.ppf(1 - DOUBT / 2, reached + 1, drawn - reached) if reached < drawn else 1.0
    return bool(low > level or high <= level)


def _ways(places: Floats) -> tuple[Floats, list[Integers]]:
    """Places ``[n, q]`` parted in two along the best of the coordinates, and in k along the first k − 1 by Ward's
    linkage, k from 3 to q + 1.

    Returns:
        The share of the variance of these coordinates that each explains, ``[q]``, 0 where a part has fewer than
        :data:`SMALLEST` models; and the parts of each, ``[n]``.
    """
    lines, below = _best_cuts(places)
    axis = int(lines.argmax())
    ordered = np.argsort(places[:, axis], kind="stable")
    sides = np.zeros(len(places), dtype=np.int64)
    sides[ordered[below[axis] :]] = 1
    shares, parted = [float(lines[axis])], [sides]
    for count in range(3, places.shape[1] + 2):
        some = places[:, : count - 1]
        parts = _topmost(linkage(some, "ward"), count)
        sizes = np.bincount(parts, minlength=count)
        sums = np.eye(count)[parts].T @ some
        between = float((sums**2 / np.maximum(sizes, 1)[:, None]).sum())
        shares.append(between / float((some**2).sum()) if sizes.min() >= SMALLEST else 0.0)
        parted.append(parts)
    return np.array(shares), parted


def _topmost(tree: Floats, count: int) -> Integers:
    """The part of each model, ``[n]``, where the topmost merges of a tree of :func:`scipy.cluster.hierarchy.linkage`
    are undone, so that ``count`` parts are left, or fewer where merges are equally high. They are numbered from left to
    right.

    scipy's ``fcluster`` does the same, and takes as long as making the tree, for its checks.
    """
    if tree[-count, 2] == tree[1 - count, 2]:
        return np.asarray(fcluster(tree, count, "maxclust").astype(np.int64) - 1)
    models, children = len(tree) + 1, tree[:, :2].astype(np.int64)
    lowest = 2 * models - count  # of the merges that are undone; nodes from 0 are models, those from n on merges

    def parts(node: int) -> list[int]:
        return [node] if node < lowest else [part for child in children[node - models] for part in parts(child)]

    above = np.arange(2 * models - 1)  # a node above each, or itself
    above[children[: lowest - models]] = np.arange(models, lowest)[:, None]
    while (higher := above[above])[:models].tobytes() != above[:models].tobytes():
        above = higher
    numbers = np.empty(2 * models - 1, dtype=np.int64)
    numbers[parts(2 * models - 2)] = np.arange(count)
    return numbers[above[:models]]


def _best_cuts(places: Floats) -> tuple[Floats, Integers]:
    """The largest share of the variance that a cut in two explains, and how many models are below it, of each axis of
    centred places ``[n, axes]``.
    """
    count = len(places)
    ordered = np.sort(places, axis=0)
    below = np.arange(SMALLEST, count - SMALLEST + 1)[:, None]
    sums = np.cumsum(ordered, axis=0)[SMALLEST - 1 : count - SMALLEST]
    between = sums**2 * count / (below * (count - below))
    return between.max(axis=0) / (ordered**2).sum(axis=0), between.argmax(axis=0) + SMALLEST


@attrs.frozen(eq=False)
class _EvenSpreads:
    """Models that are spread evenly in a box, ``count`` in ``axes`` dimensions, drawn as they are asked for."""

    count: int
    axes: int
    rng: np.random.Generator
    shares: list[Floats] = attrs.field(factory=list)

    def first(self, draws: int) -> Floats:
        """What :func:`_ways` explains of the first so many, ``[draws, axes]``."""
        while len(self.shares) < draws:
            places = self.rng.uniform(-1, 1, (self.count, self.axes))
            places -= places.mean(axis=0)
            self.shares.append(_ways(places / places.std(axis=0))[0])
        return np.stack(self.shares[:draws])


@lru_cache(maxsize=256)
def _even_spreads(count: int, axes: int, seed: int) -> _EvenSpreads:
    return _EvenSpreads(count, axes, np.random.default_rng(seed))
