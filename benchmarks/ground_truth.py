"""Does the map find what is known to be so? Small populations whose truth is known by construction.

Groups. Four (width: three) networks, trained with different seeds on all or on a tenth of the digits, read row by row;
each is there with a twin of the same weights and with copies that compute the same with other weights:

    tanh     tanh RNNs; two copies, with units permuted and half of them flipped in sign
    gru      GRUs; two copies, with units permuted
    linear   linear RNNs; two copies, conjugated by a random orthogonal matrix
    width    GRUs of 16 units; copies with 8 dead units, with every unit doubled, and with both

Twins differ on the map by what training leaves to chance, so their distance is the noise: copies should be no farther
apart than twins, and others much farther.

Families. 16 networks that differ in one number, which should come out in order along the first component:

    leak       a leaky tanh RNN with random weights, its leak from 0.1 to 1
    frequency  a damped rotation of the plane by 0.1 to 1 radians a step, in 16 units, in a random frame of its own

Settings, fixed before looking: 16 or 32 units; the preset `laptop` with a meta-model of 64 units, three seeds; rivals
on 256 examples; the clusterers of dynamo.analysis.rivals.pairs, all of them; the first axis of classical scaling.
"Shuffled" is the mean of 20 permutations of the labels. The rivals are measured once.

    python benchmarks/ground_truth.py --seeds 3
"""

import argparse
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import numpy as np
from known_populations import copies_of, leaks, rotations
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from dynamo import DynamoError, Fit, FitOptions, Population, Trainer, measure_fidelity
from dynamo.analysis.rivals import RIVALS, distance_matrix
from dynamo.analysis.rivals.compare import DYNAMO, common_recordings
from dynamo.analysis.rivals.mds import mds, principal_coordinates
from dynamo.analysis.rivals.pairs import CLUSTERERS, auprc, clusterings, pair_figures
from dynamo.training.presets import PRESETS

OPTIONS: dict[str, Any] = {**PRESETS["laptop"], "meta_model": "gru:hidden_size=64"}
EXAMPLES = 256
SHUFFLES = 20
PROBLEMS: dict[str, Callable[[], Population]] = {
    "tanh": lambda: copies_of("tanh"),
    "gru": lambda: copies_of("gru"),
    "linear": lambda: copies_of("linear"),
    "width": lambda: copies_of("width", originals=3),
    "leak": leaks,
    "frequency": rotations,
}

Row = dict[str, str]


def fitted(population: Population, seed: int = 0, **options: Any) -> Fit:
    trainer = Trainer(population, FitOptions(**{**OPTIONS, "seed": seed, **options}))
    trainer.run()
    return Fit.of(trainer)


def relation_means(distances: NDArray[np.float64], population: Population) -> tuple[float, float, float]:
    """Mean distances: of twins; of copies from what they are copies of; of models that compute something else."""
    originals = np.array([base.metadata["original"] for base in population])
    changed = np.array([base.metadata["copy"] == "copy" for base in population])
    pairs = np.triu(np.ones_like(distances, dtype=bool), 1)
    same = (originals[:, None] == originals) & pairs
    twins = same & ~changed[:, None] & ~changed
    copies = same & (changed[:, None] != changed)
    others = (originals[:, None] != originals) & pairs
    return float(distances[twins].mean()), float(distances[copies].mean()), float(distances[others].mean())


def order_of(distances: NDArray[np.float64], values: Sequence[float]) -> float:
    """Spearman's |ρ| of a parameter with the first axis of classical scaling."""
    return abs(float(spearmanr(mds(distances, 1).coordinates[:, 0], values)[0]))


def group_row(distances: NDArray[np.float64], population: Population) -> Row:
    labels = np.array([int(str(base.metadata["original"])) for base in population])
    figures = pair_figures(distances, labels)
    twins, copies, others = relation_means(distances, population)
    rng, clusters = np.random.default_rng(0), clusterings(distances, figures.groups)
    shuffled = [rng.permutation(labels) for _ in range(SHUFFLES)]
    chance = [adjusted_rand_score(order, found) for order in shuffled for found in clusters.values()]
    return {
        "twins / others": f"{twins / others:.3f}",
        "copies / others": f"{copies / others:.3f}",
        "AUPRC": f"{figures.auprc:.2f}",
        "violation rate": f"{figures.violation_rate:.3f}",
        f"ARI {', '.join(CLUSTERERS)}": " ".join(f"{ari:.2f}" for ari in figures.ari.values()),
        "shuffled: ARI": f"{np.mean(chance):+.2f}",
        "shuffled: AUPRC": f"{np.mean([auprc(distances, order) for order in shuffled]):.2f}",
    }


def family_row(distances: NDArray[np.float64], population: Population) -> Row:
    eigenvalues = principal_coordinates(distances)[1]
    return {
        "Spearman with the first axis": f"{order_of(distances, parameters(population)):.3f}",
        "its share": f"{eigenvalues[0] / np.abs(eigenvalues).sum():.2f}",
    }


def parameters(population: Population) -> list[float]:
    return [float(str(base.metadata["parameter"])) for base in population]


def rows_of(name: str, population: Population, seeds: int, rivals: Sequence[str]) -> list[Row]:
    row = group_row if "original" in population[0].metadata else family_row
    rows = []
    for seed in range(seeds):
        started = process_time()
        fit = fitted(population, seed)
        seconds, fidelity = process_time() - started, measure_fidelity(fit, population)
        rows.append(
            {"problem": name, "method": f"{DYNAMO}, seed {seed}", **row(fit.distances("theta").matrix, population)}
        )
        rows[-1] |= {"hidden R²": f"{fidelity.mean('hidden_r2'):.3f}", "CPU seconds": f"{seconds:.0f}"}
        print(rows[-1], flush=True)
    recordings, spaces = common_recordings(population, EXAMPLES), [base.outputs for base in population]
    for rival in rivals:
        started = process_time()
        try:
            found = row(distance_matrix(rival, recordings, examples=None, spaces=spaces), population)
        except DynamoError as error:
            found = {"note": str(error)}
        seconds = process_time() - started
        rows.append({"problem": name, "method": rival, **found, "CPU seconds": f"{seconds:.1f}"})
        print(rows[-1], flush=True)
    return rows


def table(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([row.get(column, "") for column in columns] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the meta-model")
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS))
    given = parser.parse_args()
    groups, families = [], []
    for name in given.problems:
        population = PROBLEMS[name]()
        found = rows_of(name, population, given.seeds, given.rivals)
        (groups if "original" in population[0].metadata else families).extend(found)
    for rows in (groups, families):
        if rows:
            print(table(rows))


if __name__ == "__main__":
    main()
