"""Networks that others trained and published: do they come in unchanged, and is their map one that repeats itself?

    madmom   CPJKU/madmom_models at 4829057: `onsets/2013`, eight tanh RNNs of three layers of 25 units on 236 inputs,
             and eight bidirectional ones on 266. Read from their own `.npz` files by the 20 lines of `Madmom`, on
             made-up spectrograms: noise with onsets that decay, and its increments, as these networks get them.
    sparrow  idptools/sparrow: 29 bidirectional LSTMs of one to four layers in folders that are named after tasks, on
             made-up sequences of amino acids of different compositions. Imported by one command.

    python benchmarks/real_networks.py --madmom FOLDER --sparrow FOLDER --out real

FOLDER is your own checkout; nothing of it is kept here. What is reported:

    hidden R²   on held-out inputs, the mean over networks
    agreement   on held-out inputs, too: the share of equal decisions, or R² of real outputs
    map         Spearman correlation of the distances of all pairs of networks between the fits of two seeds
    same task   of networks whose task another one has too, the share whose nearest network has it, by θ, by the default
                distance and by outputs; with the output loss over all steps and over the readout step alone. Chance is
                the mean share of such networks among all others.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from dynamo import Fit, Population, Trainer, import_networks, measure_fidelity, preset

#: So many inputs, steps of each, and what small fits have in common.
INPUTS, STEPS = 120, 30
FIT: dict[str, Any] = {"batch_size": 128, "sites": "pool"}
#: Meta-models whose states have 64 units each: one that sees the past alone, and two that see the future too.
META = ("gru:hidden_size=64", "gru-stack:bidirectional=true,hidden_size=32", "transformer:layers=2,hidden_size=64")
#: How sparrow uses them: a value for a whole sequence, or one for each residue.
WHOLE = ("asphericity", "prefactor", "re", "rg", "scaled_re", "scaled_rg", "scaling_exponent")
CLASSES = ("dssp", "mitochondrial_targeting", "nuclear_export_signal", "nuclear_import_signal", "phosphorylation",
           "transactivation_domains", "transmembrane")  # fmt: skip


class Madmom(nn.Module):
    """A network of tanh layers from its file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        file = np.load(path, allow_pickle=False)
        part = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind == "f"}
        both = "layer_0_reverse_weights" in part
        features, units = part["layer_0_weights"].shape
        self.rnn = nn.RNN(features, units, 3, batch_first=True, bidirectional=both)
        self.head = nn.Linear(*part["layer_3_weights"].shape)
        state = {"head.weight": part["layer_3_weights"].T, "head.bias": part["layer_3_bias"][0]}
        for layer in range(3):
            for way in ("", "_reverse")[: 1 + both]:
                old, new = f"layer_{layer}{way}_", f"l{layer}{way}"
                state[f"rnn.weight_ih_{new}"] = part[f"{old}weights"].T
                state[f"rnn.weight_hh_{new}"] = part[f"{old}recurrent_weights"].T
                state[f"rnn.bias_ih_{new}"] = part[f"{old}bias"][0]
                state[f"rnn.bias_hh_{new}"] = torch.zeros(units)
        self.load_state_dict(state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0])


def spectrograms(features: int) -> np.ndarray:
    """Logarithmic magnitudes of noise with onsets that decay, and how much they rise: ``[B, T, features]``."""
    rng, bands = np.random.default_rng(0), features // 2
    played = (rng.random((INPUTS, STEPS, 1)) < 0.15) * rng.gamma(2, 1.5, size=(INPUTS, STEPS, bands))
    level = np.zeros((INPUTS, STEPS, bands))
    for step in range(STEPS):
        level[:, step] = np.maximum(0.7 * level[:, step - 1] if step else 0, played[:, step])
    level = np.log10(1 + level + 0.1 * rng.random(level.shape))
    rise = np.maximum(np.diff(level, axis=1, prepend=0), 0)
    return np.concatenate([level, rise], axis=2).astype(np.float32)


def proteins() -> tuple[np.ndarray, np.ndarray]:
    """One-hot sequences of 15 to 30 residues and their mask; each has a composition of its own."""
    rng = np.random.default_rng(0)
    values, lengths = np.zeros((INPUTS, STEPS, 20), np.float32), rng.integers(15, STEPS + 1, INPUTS)
    for row, length in zip(values, lengths, strict=True):
        row[np.arange(length), rng.choice(20, length, p=rng.dirichlet(np.full(20, 0.5)))] = 1
    return values, np.arange(STEPS) < lengths[:, None]


def fits_of(population: Population, seeds: int, **options: Any) -> list[Fit]:
    """Small fits."""
    trainers = [Trainer(population, preset("laptop", seed=seed, **FIT, **options)) for seed in range(seeds)]
    for trainer in trainers:
        trainer.run()
    return [Fit.of(trainer) for trainer in trainers]


def imitated(fits: Sequence[Fit], population: Population) -> dict[str, Any]:
    """How faithful the fits are, and whether they draw one map."""
    measured = [measure_fidelity(fit, population) for fit in fits]
    return {
        "hidden r2": [one.mean("hidden_r2") for one in measured],
        "agreement": [one.mean("agreement") for one in measured],
        **{f"map {kind}": repeats(fits, kind) for kind in ("theta", "combined")},
    }


def pairs(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.triu_indices(len(matrix), 1)]


def repeats(fits: Sequence[Fit], kind: str) -> float:
    """The least Spearman correlation of distances between two fits."""
    found = [pairs(fit.distances(kind).matrix) for fit in fits]
    return min(float(spearmanr(one, other).statistic) for one, other in combinations(found, 2))


def madmom(folder: Path, meta_models: Iterable[str], seeds: int, **options: Any) -> dict[str, Any]:
    rows = {}
    for name in ("rnn", "brnn"):
        files = sorted((folder / "onsets/2013").glob(f"onsets_{name}_*.npz"))
        networks = {path.stem: Madmom(path) for path in files}
        population = Population.of(networks, spectrograms(networks[files[0].stem].rnn.input_size))
        for meta_model in meta_models:
            fits = fits_of(population, seeds, meta_model=meta_model, **options)
            row = {"networks": len(networks), **imitated(fits, population)}
            rows[f"{name}, {meta_model}"] = row
            print("madmom", name, meta_model, row, flush=True)
    return rows


def same_task(matrix: np.ndarray, tasks: list[str]) -> tuple[float, float]:
    """The share of networks whose nearest one has their task, and what chance would give."""
    matrix, names = matrix + np.diag(np.full(len(matrix), np.inf)), np.array(tasks)
    shared = [row for row, task in enumerate(tasks) if tasks.count(task) > 1]
    hits = [names[matrix[row].argmin()] == names[row] for row in shared]
    chance = [(tasks.count(tasks[row]) - 1) / (len(tasks) - 1) for row in shared]
    return float(np.mean(hits)), float(np.mean(chance))


def sparrow(folder: Path, out: Path, meta_models: Iterable[str], seeds: int, **options: Any) -> dict[str, Any]:
    networks = folder / "sparrow/data/networks"
    values, mask = proteins()
    np.savez(out / "probes.npz", inputs=values, mask=mask)
    with (out / "tasks.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "task", "outputs", "readout"])
        for path in sorted(networks.rglob("*.pt")):
            task = path.parent.name
            kind = "classes" if task in CLASSES else "real"
            table.writerow([path.stem, task, kind, "last" if task in WHOLE else "every"])
    # dynamo import sparrow/data/networks --out sparrow --data probes.npz --metadata tasks.csv
    probes, table_of_tasks = str(out / "probes.npz"), out / "tasks.csv"
    found = import_networks(networks, out / "sparrow", probes, metadata=table_of_tasks)
    population = found.population
    print("sparrow", len(population), "imported,", len(found.left_out), "left out", flush=True)
    tasks = [str(base.metadata["task"]) for base in population]
    rows: dict[str, Any] = {"networks": len(population)}
    for meta_model, steps in product(meta_models, ("all", "readout")):
        fits = fits_of(population, seeds, meta_model=meta_model, output_steps=steps, **options)
        row = {
            **imitated(fits, population),
            **{
                f"same task {kind}": [same_task(fit.distances(kind).matrix, tasks)[0] for fit in fits]
                for kind in ("theta", "combined", "outputs")
            },
            "chance": same_task(fits[0].distances("theta").matrix, tasks)[1],
        }
        rows[f"{steps}, {meta_model}"] = row
        print("sparrow", steps, meta_model, row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--madmom", type=Path, default=None)
    parser.add_argument("--sparrow", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200, help="of each fit")
    parser.add_argument("--meta-models", nargs="+", default=META, metavar="SPEC", help="as dynamo fit takes them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {}
    if arguments.madmom is not None:
        found["madmom"] = madmom(arguments.madmom, arguments.meta_models, arguments.seeds, steps=arguments.steps)
    if arguments.sparrow is not None:
        given = (arguments.out, arguments.meta_models, arguments.seeds)
        found["sparrow"] = sparrow(arguments.sparrow, *given, steps=arguments.steps)
    (arguments.out / "real_networks.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
