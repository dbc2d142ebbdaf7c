"""Which distance between models tells most of what is known of them?

Protocol, written before any of these populations was trained:

- New populations (``distance_populations.py``): five of 8 + 8 networks (``negation``, ``label noise``, ``memory``,
  ``rate``, ``decay``), a ``control`` whose label should not matter, and two families (``damping``, ``gain``). Beside
  them the families of ``ground_truth.py`` (``leak``, ``frequency``) and the texts of ``figure3.py``, which were looked
  at before.
- Preset ``laptop``, meta-model seeds 0 to 2; 256 probe inputs; every kind of distance, and two candidates: ``read``,
  the states as all V_k read them, each in units of its variance; ``combined``, the root mean square of ``states`` and
  ``outputs``, each over its median (it has become a kind since).
- Rivals: svcca, cka, procrustes, rsa, output-disagreement on 256 examples (dsa where it is installed).
- Groups: AUPRC, silhouette, neighbour accuracy, ARI of k-means as in ``dynamo.analysis.rivals.pairs``. Families:
  Spearman's |ρ| with the first coordinate; monotonicity, the mean over models of Spearman's ρ of a model's distances
  with the differences in the parameter; share of models whose nearest neighbour is next to them in the parameter.
  Stability: Pearson's r of distances between meta-model seeds.
- The default is the kind with the best mean AUPRC over the five new populations of groups and all seeds; if kinds are
  within .01, the one with the higher monotonicity over the two new families; the control must be at chance. A metric
  that costs O(N) passes wins over one that does not, unless it is worse by more than .02.

Finished fits and distances are used again, so that an interrupted run goes on.

    python benchmarks/distances.py --out distances
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from time import process_time

import numpy as np
from distance_populations import POPULATIONS
from numpy.typing import NDArray
from scipy.stats import spearmanr

from dynamo import DynamoError, Fit, Population, Trainer, measure_fidelity, preset
from dynamo.analysis.rivals import RIVALS, distance_matrix
from dynamo.analysis.rivals.compare import common_recordings
from dynamo.analysis.rivals.mds import mds
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.fit.distance_kinds import KINDS, DistanceKind
from dynamo.fit.distances import distances
from dynamo.fit.emulated import Block, Emulated
from dynamo.fit.fidelity import read_fidelity, write_fidelity

Matrix = NDArray[np.float64]
TEXTS = {"size": "fraction", "architecture": "architecture", "task": "task"}
RIVALS_USED = [name for name in ("svcca", "cka", "procrustes", "rsa", "dsa", "output-disagreement") if name in RIVALS]


def read(emulated: Emulated, options: object) -> Matrix:
    """The states as every V_k reads them, the same readings for all emulators."""
    emulator = emulated.emulator

    def readings(block: Block) -> list:
        found = []
        for number in range(len(emulated)):
            (state_map,) = emulator.maps_of(number)
            states = block.states[0]
            found.append(state_map(states.flatten(0, 1)).detach().reshape(*states.shape[:3], -1))
        return found

    squared, variances = emulated.squared(readings)
    return np.sqrt(np.mean([own / spread for own, spread in zip(squared, variances, strict=True)], axis=0))


CANDIDATES = {"read": DistanceKind("read", "the states as all V_k read them", read, True, "O(N²)")}


def of_texts(panel: str, parts: Path) -> Population:
    """A panel of ``figure3.py`` from the folders of its parts."""
    names = {"size": ["gru"], "architecture": ["gru", "rnn"], "task": ["gru", "source"]}[panel]
    models = [base for name in names for base in Population.load(parts / name)]
    return Population([base for base in models if panel == "size" or base.metadata["fraction"] == 1])


def measured(name: str, make: Callable[[], Population], seed: int, folder: Path) -> None:
    """Fit one population with one seed of the meta-model, and keep all matrices; those of rivals with seed 0."""
    run = folder / f"{name.replace(' ', '-')}-{seed}"
    path = run.with_name(f"{run.name}.npz")
    if not (run / "fidelity.csv").exists():
        population, started = make(), process_time()
        trainer = Trainer(population, preset("laptop", seed=seed))
        trainer.run()
        fit = Fit.of(trainer)
        fit.save(run)
        write_fidelity(measure_fidelity(fit, population), run)
        print(f"{run.name}: fitted in {process_time() - started:.0f} CPU seconds", flush=True)
    fit, found = Fit.load(run), dict[str, Matrix]()
    if path.exists():
        with np.load(path) as arrays:
            found = dict(arrays)
    for kind, made in {**KINDS, **CANDIDATES}.items():
        if kind not in found:
            found[kind] = distances(fit, made).matrix
    if seed == 0 and not any(kind.startswith("rival") for kind in found):
        population = make()
        recordings, spaces = common_recordings(population, 256), [base.outputs for base in population]
        for rival in RIVALS_USED:
            try:
                found[f"rival {rival}"] = distance_matrix(rival, recordings, examples=None, spaces=spaces)
            except DynamoError as error:
                print(f"{run.name}: {rival}: {error}", flush=True)
    np.savez(path, **found)


def group_figures(matrix: Matrix, values: Sequence[object]) -> dict[str, float]:
    found = pair_figures(matrix, values, permutations=99)
    return {
        "AUPRC": found.auprc,
        "silhouette": found.silhouette,
        "neighbours": found.neighbour_accuracy,
        "ARI": found.ari["k-means"],
    }


def family_figures(matrix: Matrix, values: Sequence[object]) -> dict[str, float]:
    place = np.array([float(str(value)) for value in values])
    apart = np.abs(place[:, None] - place)
    others = ~np.eye(len(place), dtype=bool)
    order = np.argsort(np.argsort(place))
    nearest = np.where(others, matrix, np.inf).argmin(1)
    rows = [spearmanr(matrix[n, others[n]], apart[n, others[n]])[0] for n in range(len(place))]
    return {
        "Spearman": abs(float(spearmanr(mds(matrix, 1).coordinates[:, 0], place)[0])),
        "monotonicity": float(np.mean(rows)),
        "nearest": float(np.mean(np.abs(order[nearest] - order) == 1)),
    }


def stability(matrices: Sequence[Matrix]) -> float:
    upper = np.triu_indices(len(matrices[0]), 1)
    pairs = [np.corrcoef(one[upper], other[upper])[0, 1] for one, other in combinations(matrices, 2)]
    return float(np.mean(pairs)) if pairs else float("nan")


def table(title: str, rows: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = [[title, *columns], ["---"] * (len(columns) + 1)]
    for kind, figures in rows.items():
        lines.append([kind, *(", ".join(f"{value:.2f}" for value in figures.get(column, ())) for column in columns)])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def report(name: str, folder: Path, seeds: int) -> str:
    """What is there of a population, as a table."""
    stem = name.replace(" ", "-")
    paths = [folder / f"{stem}-{seed}.npz" for seed in range(seeds) if (folder / f"{stem}-{seed}.npz").exists()]
    if not paths:
        return f"{name}: nothing yet\n"
    loaded = []
    for path in paths:
        with np.load(path) as arrays:
            loaded.append(dict(arrays))
    fits = [Fit.load(path.with_suffix("")) for path in paths]
    key = TEXTS.get(name, "group" if "group" in fits[0].metadata[0] else "parameter")
    values = fits[0].values_of(key)
    figures = family_figures if key == "parameter" else group_figures
    rows: dict[str, dict[str, list[float]]] = {}
    for kind in loaded[0]:
        matrices = [found[kind] for found in loaded if kind in found]
        each = [figures(matrix, values) for matrix in matrices]
        rows[kind] = {column: [one[column] for one in each] for column in each[0]}
        rows[kind]["stability"] = [stability(matrices)] if len(matrices) > 1 else []
    fidelity = [read_fidelity(path.with_suffix("")) for path in paths]
    told = ", ".join(f"{one.mean('hidden_r2'):.3f}/{one.mean('agreement'):.3f}" for one in fidelity)
    return f"{table(f'{name} (hidden R²/agreement {told})', rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("distances"), help="folder of fits and distances")
    parser.add_argument("--texts", type=Path, default=None, help="folder `parts` of figure3.py, to add its panels")
    parser.add_argument("--populations", nargs="*", choices=[*POPULATIONS, *TEXTS], default=None)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the meta-model")
    parser.add_argument("--report", action="store_true", help="only print what is there")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    chosen = given.populations or [*POPULATIONS, *(TEXTS if given.texts else ())]
    makers = {
        name: cache(partial(of_texts, name, given.texts) if name in TEXTS else POPULATIONS[name]) for name in chosen
    }
    for seed in range(0 if given.report else given.seeds):
        for name in chosen:
            measured(name, makers[name], seed, given.out)
    for name in chosen:
        print(report(name, given.out, given.seeds), flush=True)


if __name__ == "__main__":
    main()
