"""Does dynamical similarity analysis do better with other settings, or where it is told the inputs?

Protocol, written before the first run: four populations of ``distances.py`` (``memory``, ``architectures``,
``optimiser``, ``pulses``), 256 examples as there. DSA with 1, 2 and 5 delays and ranks 5, 10 and 20 (at most as many as
there are dimensions), beside the rival's default of 1 delay and 99 % of the variance. InputDSA, which fits
h_{t+1} = A h_t + B x_{t+1} by the package's ``SubspaceDMDc``, with 1 and 2 delays and ranks 5 and 10, scored in three
ways: ``state``, Wasserstein between the eigenvalues of A; ``joint``, the package's default; ``joint, aligned``, the
same with the rotation that makes it least.

The last is here because dsa-metric 2.0.2 turns one system by the transpose of the rotation that it looks for
(``U @ Vh`` in ``simdist_controllability.py``): a system and its rotated copy come out as far apart as strangers
(``check`` below). AUPRC as in ``dynamo.analysis.rivals.pairs``. Told are the best setting of each population, chosen
with its groups in view, and the best single one.

    python benchmarks/dsa_settings.py --out distances    # with dsa-metric; the map's row is read from fits in --out
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
from distances import POPULATIONS, Matrix, group_figures, table
from DSA import DMD, SimilarityTransformDist
from DSA.simdist_controllability import ControllabilitySimilarityTransformDist
from DSA.subspace_dmdc import SubspaceDMDc

from dynamo import Population
from dynamo.analysis.rivals import distance_matrix
from dynamo.analysis.rivals.compare import common_recordings
from dynamo.population.recording import Recording

NAMES = ("memory", "architectures", "optimiser", "pulses")
DELAYS, RANKS = (1, 2, 5), (5, 10, 20)
INPUT_DELAYS, INPUT_RANKS = (1, 2), (5, 10)
System = tuple[Matrix, Matrix]


def states(recording: Recording) -> Matrix:
    """``[B, T, H]``; all sequences of these populations have the same length."""
    assert bool(recording.inputs.mask.all())
    return recording.trajectory.states[0].double().numpy()


def eigenvalues(recording: Recording, delays: int, rank: int) -> np.ndarray:
    law = DMD(states(recording), n_delays=delays, rank=rank)
    law.fit()
    return np.linalg.eigvals(law.A_v.numpy()).astype(np.complex64)


def system(recording: Recording, delays: int, rank: int) -> System:
    """A and B of the states under the inputs that lead from each to the next."""
    given = recording.inputs.values.double().numpy()
    law = SubspaceDMDc(list(states(recording)[:, :-1]), control_data=list(given[:, 1:]), n_delays=delays, rank=rank)
    law.fit()
    return law.A_v, law.B_v


def wasserstein(one: np.ndarray, other: np.ndarray) -> float:
    return float(SimilarityTransformDist(score_method="wasserstein").fit_score(one, other))


def state(one: System, other: System) -> float:
    return wasserstein(*(np.linalg.eigvals(part[0]).astype(np.complex64) for part in (one, other)))


def joint(one: System, other: System) -> float:
    return float(ControllabilitySimilarityTransformDist().fit_score(one[0], other[0], one[1], other[1]))


def aligned(one: System, other: System) -> float:
    """min ‖K₁ − Q K₂‖ over rotations Q of the package's controllability matrices."""
    first, second = (
        ControllabilitySimilarityTransformDist().get_controllability_matrix(*part) for part in (one, other)
    )
    match = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(np.sqrt(max(0.0, np.square(first).sum() + np.square(second).sum() - 2 * match)))


INPUT_SCORES: dict[str, Callable[[System, System], float]] = {"state": state, "joint": joint, "joint, aligned": aligned}


def matrix(parts: Sequence, distance: Callable) -> Matrix:
    found = np.zeros((len(parts), len(parts)))
    for i, j in combinations(range(len(parts)), 2):
        found[i, j] = found[j, i] = distance(parts[i], parts[j])
    return found


def check() -> str:
    """How far a random system lies from its rotated copy, and from another system."""
    source = np.random.RandomState(0)
    a, b, c, d = (source.standard_normal(shape) / 3 for shape in ((5, 5), (5, 2), (5, 5), (5, 2)))
    turn = np.linalg.qr(source.standard_normal((5, 5)))[0]
    copy = (turn @ a @ turn.T, turn @ b)
    told = [f"{name}: {f((a, b), copy):.3f}, {f((a, b), (c, d)):.3f}" for name, f in INPUT_SCORES.items()]
    return "distance to the rotated copy and to another system. " + "; ".join(told)


def of_population(population: Population) -> dict[str, Matrix]:
    """The matrices of all settings."""
    recordings = common_recordings(population, 256)
    found = {"dsa, default": distance_matrix("dsa", recordings, examples=None)}
    for delays, rank in product(DELAYS, RANKS):
        laws = [eigenvalues(one, delays, rank) for one in recordings]
        found[f"dsa, {delays} delays, rank {rank}"] = matrix(laws, wasserstein)
    for delays, rank in product(INPUT_DELAYS, INPUT_RANKS):
        systems = [system(one, delays, rank) for one in recordings]
        for score, distance in INPUT_SCORES.items():
            found[f"InputDSA {score}, {delays} delays, rank {rank}"] = matrix(systems, distance)
    return found


def report(matrices: dict[str, dict[str, Matrix]], values: dict[str, list[object]]) -> str:
    """AUPRC of each setting on each population; NaN where the sequences are too short."""
    kinds = list(dict.fromkeys(kind for found in matrices.values() for kind in found))
    rows = {
        kind: {
            name: [group_figures(found[kind], values[name])["AUPRC"] if kind in found else float("nan")]
            for name, found in matrices.items()
        }
        for kind in kinds
    }
    for figures in rows.values():
        figures["mean"] = [float(np.mean([one[0] for one in figures.values()]))]
    lines = table("AUPRC", rows)
    for prefix in ("dsa", "InputDSA"):
        some = {kind: figures for kind, figures in rows.items() if kind.startswith(prefix)}
        best = max(some, key=lambda kind: some[kind]["mean"][0])
        each = [f"{name} {max(figures[name][0] for figures in some.values()):.2f}" for name in matrices]
        lines += f"{prefix}: best single setting {best}; the best on each: {', '.join(each)}\n"
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("distances"), help="folder of distances.py, for the map's row")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(check(), flush=True)
    matrices, values = {}, {}
    for name in NAMES:
        population = POPULATIONS[name]()
        matrices[name] = of_population(population)
        values[name] = [base.metadata["group"] for base in population]
        path = given.out / f"{name}-0.npz"
        if path.exists():  # of other networks, unless they were trained by the same version of torch
            with np.load(path) as arrays:
                matrices[name]["map, combined"] = arrays["combined"]
    print(report(matrices, values))


if __name__ == "__main__":
    main()
