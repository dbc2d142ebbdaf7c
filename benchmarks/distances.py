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

Second round, written before any of its populations (``fresh_populations.py``) had been fitted. What base models do not
share is taken up by V_n, and their scale says much: ``activity`` was found on the first round's populations, and
``combined`` has it as a third part since. The judgement is on ten fresh populations of groups and a control. Rivals may
see the scale too: beside the list above ``procrustes-size``, Procrustes without scaling, and ``activity`` of the base
models' own states. ``states and outputs`` is ``combined`` as it was. Target: AUPRC of the default within .01 of every
rival's on 8 of 10, and nowhere below .9 where a rival has .95. Images: preset ``laptop-cnn``.

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
from distance_populations import POPULATIONS as FIRST
from fresh_populations import FRESH
from numpy.typing import NDArray
from scipy.stats import spearmanr

from dynamo import DynamoError, Fit, Population, Trainer, measure_fidelity, preset
from dynamo.analysis.rivals import RIVALS, distance_matrix
from dynamo.analysis.rivals.compare import common_recordings
from dynamo.analysis.rivals.features import readers
from dynamo.analysis.rivals.matrices import centred, narrow
from dynamo.analysis.rivals.mds import mds
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.analysis.rivals.rival import Rival, pairwise
from dynamo.fit.distance_kinds import KINDS, DistanceKind
from dynamo.fit.distances import distances
from dynamo.fit.emulated import Block, Emulated
from dynamo.fit.fidelity import read_fidelity, write_fidelity
from dynamo.training.options import FitOptions

Matrix = NDArray[np.float64]
POPULATIONS = {**FIRST, **FRESH}
TEXTS = {"size": "fraction", "architecture": "architecture", "task": "task"}
RIVALS_USED = [
    name for name in ("svcca", "cka", "procrustes", "gulp", "rsa", "dsa", "output-disagreement") if name in RIVALS
]


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


def states_and_outputs(emulated: Emulated, options: FitOptions) -> Matrix:
    """``combined`` without ``activity``."""
    upper = np.triu_indices(len(emulated), 1)
    parts = [KINDS[kind].measure(emulated, options) for kind in ("states", "outputs")]
    return np.sqrt(np.mean([np.square(part / (np.median(part[upper]) or 1.0)) for part in parts], axis=0))


CANDIDATES = {
    "read": DistanceKind("read", "the states as all V_k read them", read, True, "O(N²)"),
    "states and outputs": DistanceKind("states and outputs", "no activity", states_and_outputs, True, "O(N²)"),
}


def root_mean_square_cloud(features: Matrix) -> tuple[Matrix]:
    features = narrow(centred(features))
    return (features / np.sqrt(len(features)),)


def gap(one: tuple[Matrix], other: tuple[Matrix]) -> float:
    """min ‖X·Q − Y‖ over orthogonal Q."""
    match = np.linalg.svd(one[0].T @ other[0], compute_uv=False).sum()
    return float(np.sqrt(max(0.0, np.square(one[0]).sum() + np.square(other[0]).sum() - 2 * match)))


def activity(features: Matrix) -> tuple[Matrix]:
    return (0.5 * np.log(np.asarray(features, dtype=np.float64).var(0).mean(keepdims=True)),)


#: Rivals that see the scale of states.
SCALED = [
    Rival("procrustes-size", "Procrustes, not scaled", root_mean_square_cloud, gap, "O(n·p²)", "Williams et al. 2021"),
    Rival("activity", "of the states", activity, lambda one, other: abs(float(one[0][0] - other[0][0])), "O(n·p)", ""),
]


def by_rivals(population: Population, run: str) -> dict[str, Matrix]:
    recordings, spaces = common_recordings(population, 256), [base.outputs for base in population]
    found = dict[str, Matrix]()
    for name in RIVALS_USED:
        try:
            found[f"rival {name}"] = distance_matrix(name, recordings, examples=None, spaces=spaces)
        except DynamoError as error:
            print(f"{run}: {name}: {error}", flush=True)
    for rival in SCALED:
        sites = readers(rival, recordings, spaces, examples=None, seed=0, pooling=4)
        parts = [pairwise(rival, site, len(recordings)) for site in sites]
        found[f"rival {rival.name}"] = np.mean(parts, axis=0)
    return found


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
        images = population.inputs.kind == "image"
        trainer = Trainer(population, preset("laptop-cnn" if images else "laptop", seed=seed))
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
        if kind == "read" and len(fit.emulator.maps_of(0)) > 1:
            continue  # it is for one site
        if kind not in found:
            found[kind] = distances(fit, made).matrix
    if seed == 0 and "rival activity" not in found:
        population = make()
        found.update(by_rivals(population, run.name))
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


def grounded_figures(matrix: Matrix, fit: Fit, answers: Matrix | None) -> dict[str, float]:
    """Spearman's ρ of distances with the differences of the networks' scores, and with their disagreement (ReSi)."""
    upper = np.triu_indices(len(matrix), 1)
    figures = {}
    if all("score" in metadata for metadata in fit.metadata):
        scores = np.array([float(str(value)) for value in fit.values_of("score")])
        figures["with scores"] = float(spearmanr(matrix[upper], np.abs(scores[:, None] - scores)[upper])[0])
    if answers is not None:
        figures["with answers"] = float(spearmanr(matrix[upper], answers[upper])[0])
    return figures


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


def stored(name: str, folder: Path, seeds: int) -> tuple[list[Path], list[dict[str, Matrix]]]:
    """The files of a population that are there, and the matrices in each."""
    stem = name.replace(" ", "-")
    paths = [folder / f"{stem}-{seed}.npz" for seed in range(seeds) if (folder / f"{stem}-{seed}.npz").exists()]
    loaded = []
    for path in paths:
        with np.load(path) as arrays:
            loaded.append(dict(arrays))
    return paths, loaded


def grounded_report(names: Sequence[str], folder: Path, seeds: int) -> str:
    """Two tables over all populations: Spearman's ρ of each distance with differences of scores, and of answers."""
    rows: dict[str, dict[str, dict[str, list[float]]]] = {"with scores": {}, "with answers": {}}
    used = [name for name in names if stored(name, folder, seeds)[0]]
    for name in used:
        paths, loaded = stored(name, folder, seeds)
        fit, answers = Fit.load(paths[0].with_suffix("")), loaded[0].get("rival output-disagreement")
        for kind in loaded[0]:
            each = [grounded_figures(found[kind], fit, answers) for found in loaded if kind in found]
            for figure, value in ((figure, value) for one in each for figure, value in one.items()):
                row = rows[figure].setdefault(kind, {column: [] for column in ["mean", *used]})
                row[name].append(value)
    for kinds in rows.values():
        for kind, row in kinds.items():
            kinds[kind] = {column: [float(np.mean(values))] if values else [] for column, values in row.items()}
            kinds[kind]["mean"] = [float(np.nanmean([values[0] for values in kinds[kind].values() if values]))]
    return "\n".join(table(figure, kinds) for figure, kinds in rows.items() if kinds)


def report(name: str, folder: Path, seeds: int) -> str:
    """What is there of a population, as a table."""
    paths, loaded = stored(name, folder, seeds)
    if not paths:
        return f"{name}: nothing yet\n"
    fits = [Fit.load(path.with_suffix("")) for path in paths]
    key = TEXTS.get(name, "group" if "group" in fits[0].metadata[0] else "parameter")
    values = fits[0].values_of(key)
    figures = family_figures if key == "parameter" else group_figures
    rows: dict[str, dict[str, list[float]]] = {}
    for kind in loaded[0]:
        matrices = [found[kind] for found in loaded if kind in found]
        answers = loaded[0].get("rival output-disagreement")
        each = [{**figures(matrix, values), **grounded_figures(matrix, fits[0], answers)} for matrix in matrices]
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
    parser.add_argument("--grounded", action="store_true", help="only print correlations with scores and answers")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    chosen = given.populations or [*POPULATIONS, *(TEXTS if given.texts else ())]
    if given.grounded:
        print(grounded_report(chosen, given.out, given.seeds))
        return
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
