"""How often is the true number of clusters found, and how often is one cluster split?

Simulated maps have groups around the corners of a simplex in random directions, so far apart that the mean silhouette
of the true groups is exactly .15, .2, .3 or .4. Two spectra within groups, after those of real fits by ``combined``:
``flat`` (48 dimensions, .97^i: label noise, rate, control) and ``steep`` (16 dimensions, .7^i: memory, texts).
One cluster: a Gaussian, heavy tails (Student's t with 5 degrees of freedom), a line and a half circle with noise.

Tests: ``silhouettes``, that of version 0.1 (gaps of silhouettes against one Gaussian of the very same covariance);
``cuts``, that of :mod:`dynamo.analysis.geometry.cuts`; ``cuts, Gaussian``, the same against normal draws; ``SigClust``,
silhouettes against draws from the observed covariance; ``gap`` (Tibshirani et al. 2001); ``shuffled``, silhouettes
against coordinates that are shuffled one by one; ``consensus`` of clusters over subsamples of the models, against
Gaussians; ``dip`` of the first coordinate, where the package ``diptest`` is there. Silhouettes and gaps use Ward's
linkage and 2 to 4 clusters, and 39 draws, to save
time.

Protocol: settings of ``cuts`` (the null, the axes, the smallest side) were fixed on silhouettes .15 and .3; .2 and .4
are held out.

    python benchmarks/cluster_power.py                     # 15 minutes of one core
    python benchmarks/cluster_power.py --fast              # without the slow tests: 2 minutes
    python benchmarks/cluster_power.py --runs distances    # on the fits of distances.py
"""

import argparse
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from dynamo import Fit
from dynamo.analysis.geometry import cuts
from dynamo.analysis.geometry.cuts import find_cuts
from dynamo.analysis.geometry.partitions import silhouettes
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.fit.distances import principal_coordinates

Points = NDArray[np.float64]
Rng = np.random.Generator

SPECTRA = {"flat": 0.97 ** np.arange(48), "steep": 0.7 ** np.arange(16)}
SIZES = {"8 + 8": (8, 8), "4 + 4": (4, 4), "6 + 6 + 6": (6, 6, 6), "12 + 4": (12, 4), "8 x 5": (8,) * 5}
LEVEL, DRAWS, MOST = 0.05, 39, 4


def groups(sizes: tuple[int, ...], silhouette: float, shape: Points, rng: Rng) -> Points:
    """Groups whose mean silhouette is as given."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.standard_normal((len(codes), len(shape))) * np.sqrt(shape)
    corners = np.linalg.qr(rng.standard_normal((len(shape), len(sizes))))[0].T
    low, high = 0.0, 8 * float(np.sqrt(shape.sum()))
    for _ in range(18):
        middle = (low + high) / 2
        points = noise + middle * corners[codes]
        reached = silhouettes(squareform(pdist(points)), codes).mean()
        low, high = (middle, high) if reached < silhouette else (low, middle)
    return points


def gaussian(count: int, shape: Points, rng: Rng) -> Points:
    return rng.standard_normal((count, len(shape))) * np.sqrt(shape)


def heavy(count: int, shape: Points, rng: Rng) -> Points:
    return gaussian(count, shape, rng) * np.sqrt(5 / rng.chisquare(5, (count, 1)))


def line(count: int, shape: Points, rng: Rng) -> Points:
    points = 0.3 * gaussian(count, shape, rng)
    points[:, 0] += 2 * np.sqrt(shape.sum()) * np.linspace(-1, 1, count)
    return points


def arc(count: int, shape: Points, rng: Rng) -> Points:
    points, angles = 0.3 * gaussian(count, shape, rng), np.linspace(0, np.pi, count)
    points[:, :2] += 2 * np.sqrt(shape.sum()) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points


def frames(points: Points, draws: int, rng: Rng) -> Points:
    """Draws of one Gaussian with the very same covariance, from principal coordinates."""
    drawn = rng.standard_normal((draws, *points.shape))
    return np.linalg.qr(drawn - drawn.mean(1, keepdims=True))[0] * np.linalg.norm(points, axis=0)


def partitions(points: Points, most: int) -> NDArray[np.int64]:
    tree = linkage(points, "ward")
    return np.array([fcluster(tree, count, "maxclust") - 1 for count in range(2, most + 1)])


def scores(maps: Points, most: int) -> Points:
    """The mean silhouettes of 2 to ``most`` clusters of each map ``[maps, N, d]``."""
    distances = np.array([squareform(pdist(points)) for points in maps])
    labels = np.array([partitions(points, most) for points in maps])
    found = []
    for number in range(2, most + 1):
        own = labels[:, number - 2]
        member = (own[..., None] == np.arange(number)).astype(float)
        sums, sizes = distances @ member, member.sum(1)
        held = np.take_along_axis(sizes, own, 1)
        within = np.take_along_axis(sums, own[..., None], 2)[..., 0] / np.maximum(held - 1, 1)
        means = sums / sizes[:, None]
        np.put_along_axis(means, own[..., None], np.inf, 2)
        nearest = means.min(2)
        found.append(np.where(held > 1, (nearest - within) / np.maximum(nearest, within), 0).mean(1))
    return np.array(found).T


def by_silhouettes(points: Points, null: Points) -> int:
    """The number with the largest silhouette, if its gap above the mean of the null is large."""
    rows = scores(np.concatenate([points[None], null]), min(MOST, len(points) // 2))
    gaps = (rows - rows.mean(0)).max(1)
    return int(rows[0].argmax()) + 2 if (gaps >= gaps[0] - 1e-12).mean() <= LEVEL else 1


def shuffled(points: Points, rng: Rng) -> Points:
    return np.stack([rng.permuted(points, axis=0) for _ in range(DRAWS)])


def gap(points: Points, rng: Rng) -> int:
    most = min(MOST, len(points) // 2)

    def logs(points: Points) -> Points:
        total = np.square(points).sum()
        labels = [np.zeros(len(points), dtype=int), *partitions(points, most)]
        spreads = [
            total - sum(np.square(points[own == n].sum(0)).sum() / (own == n).sum() for n in set(own)) for own in labels
        ]
        return np.log(np.maximum(spreads, 1e-12))

    drawn = np.array([logs(rng.uniform(points.min(0), points.max(0), points.shape)) for _ in range(10)])
    gaps, errors = drawn.mean(0) - logs(points), drawn.std(0) * np.sqrt(1 + 1 / 10)
    good = [number for number in range(len(gaps) - 1) if gaps[number] >= gaps[number + 1] - errors[number + 1]]
    return good[0] + 1 if good else len(gaps)


def consensus(points: Points, rng: Rng) -> int:
    """Two clusters, if pairs of models are together or apart in subsamples more surely than in Gaussians."""
    count = len(points)
    rows = [np.sort(rng.permutation(count)[: 3 * count // 4]) for _ in range(8)]

    def sureness(points: Points) -> float:
        together, seen = np.zeros((count, count)), np.zeros((count, count))
        for own in rows:
            numbers = fcluster(linkage(points[own], "ward"), 2, "maxclust")
            together[np.ix_(own, own)] += numbers[:, None] == numbers
            seen[np.ix_(own, own)] += 1
        share = (together / np.maximum(seen, 1))[np.triu_indices(count, 1)]
        return float(np.square(2 * share - 1).mean())

    own = sureness(points)
    return 2 if all(own > sureness(drawn) for drawn in frames(points, 19, rng)) else 1


def gaussian_cuts(points: Points) -> int:
    given, cuts._even_spreads = cuts._even_spreads, normal_spreads
    try:
        return find_cuts(points).count
    finally:
        cuts._even_spreads = given


@cache
def normal_spreads(count: int, axes: int, draws: int, seed: int) -> Points:
    drawn = np.random.default_rng(seed).standard_normal((draws, count, axes))
    turned = np.linalg.qr(drawn - drawn.mean(1, keepdims=True))[0]
    return np.array([cuts._ways(places)[0] for places in turned])


def dip(points: Points, rng: Rng) -> int:
    from diptest import diptest

    return 2 if diptest(np.ascontiguousarray(points[:, 0]))[1] <= LEVEL else 1


def tests(fast: bool) -> Mapping[str, Callable[[Points, Rng], int]]:
    found: dict[str, Callable[[Points, Rng], int]] = {
        "cuts": lambda points, rng: find_cuts(points).count,
        "cuts, Gaussian": lambda points, rng: gaussian_cuts(points),
    }
    try:
        import diptest  # noqa: F401

        found["dip"] = dip
    except ImportError:
        pass
    if not fast:
        found["silhouettes"] = lambda points, rng: by_silhouettes(points, frames(points, DRAWS, rng))
        found["SigClust"] = lambda points, rng: by_silhouettes(
            points, rng.standard_normal((DRAWS, *points.shape)) * np.linalg.norm(points, axis=0) / len(points) ** 0.5
        )
        found["gap"] = gap
        found["shuffled"] = lambda points, rng: by_silhouettes(points, shuffled(points, rng))
        found["consensus"] = consensus
    return found


def row(name: str, true: int, make: Callable[[Rng], Points], simulations: int, chosen: Mapping) -> None:
    rng = np.random.default_rng(list(name.encode()))
    found: dict[str, list[int]] = {test: [] for test in chosen}
    for _ in range(simulations):
        points = spectrum(make(rng)).coordinates
        for test, count in chosen.items():
            found[test].append(count(points, rng))
    cells = []
    for numbers in (np.array(own) for own in found.values()):
        split = f"{100 * (numbers > 1).mean():.0f}"
        cells.append(split if true == 1 else f"{100 * (numbers == true).mean():.0f} ({split})")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def of_runs(folder: Path, chosen: Mapping) -> None:
    """The number of clusters in fits of ``distances.py``, by ``combined`` and by ``theta``."""
    print(f"| fit | groups | kind | {' | '.join(chosen)} |")
    for path in sorted(folder.glob("*.npz")):
        fit = Fit.load(path.with_suffix(""))
        keys = ("group", "architecture", "task", "fraction")
        sizes = [len(set(map(str, fit.values_of(key)))) for key in keys if key in fit.metadata[0]]
        true = max([size for size in sizes if size < len(fit.names)], default=1)
        with np.load(path) as arrays:
            found = dict(arrays)
        for kind in ("combined", "theta"):
            matrix = found[kind] if kind in found else fit.distances(kind).matrix
            points = principal_coordinates(matrix)[0]
            rng = np.random.default_rng(0)
            counts = [str(count(points, rng)) for count in chosen.values()]
            print(f"| {path.stem} | {true} | {kind} | {' | '.join(counts)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--fast", action="store_true", help="without the slow tests")
    parser.add_argument("--runs", type=Path, default=None, help="folder of distances.py: real fits instead")
    given = parser.parse_args()
    chosen = tests(given.fast)
    if given.runs is not None:
        of_runs(given.runs, chosen)
        return
    print(f"| percent found (split) | {' | '.join(chosen)} |\n|{' --- |' * (len(chosen) + 1)}")
    for kind, shape in SPECTRA.items():
        for make, counts in ((gaussian, (8, 16, 60)), (heavy, (8, 16, 60)), (line, (16, 60)), (arc, (16, 60))):
            for count in counts:
                name = f"one, {make.__name__}, {count}, {kind}"
                simulations = given.simulations if count < 60 else given.simulations // 4
                row(name, 1, partial(make, count, shape), simulations, chosen)
        for silhouette in (0.15, 0.3, 0.2, 0.4):
            for name, sizes in SIZES.items():
                held = ", held out" if silhouette in (0.2, 0.4) else ""
                make_groups = partial(groups, sizes, silhouette, shape)
                row(f"{name}, {silhouette}, {kind}{held}", len(sizes), make_groups, given.simulations, chosen)


if __name__ == "__main__":
    main()
