"""Which settings give the best map for a given number of steps? Several seeds of each; where nothing is said of the
optimiser, the laptop preset with AdamW and one setting changed.

16 GRUs on rows of digits, 8 trained on all and 8 on a tenth of the labelled half. A map is judged by what tells the two
groups apart (AUPRC of pairs, ARI of k-means, silhouette), by its stability (correlation of the distances between
models, over pairs of seeds: 1 where all seeds draw one map), and by how well the emulators imitate (hidden R²,
agreement). Processor seconds are of the fit alone, without recording. From the project's folder:

    python benchmarks/settings.py --out settings
    python benchmarks/settings.py --population figure3/population --where task=sentiment architecture=gru \
      checkpoints=false    # another population, after figure3.py
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any

import numpy as np
import torch
from campaign import train
from scipy.spatial.distance import pdist, squareform

from dynamo import Fit, FitOptions, Population, Trainer, measure_fidelity
from dynamo.analysis.geometry.alignment import align
from dynamo.analysis.geometry.clusters import group_agreement
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.training.presets import PRESETS

TRAIN = "-a gru:hidden_size=32 -d digits-rows -f 1 -f 0.1 --seeds 8 --epochs 40 --learning-rate 5e-3"
#: What the preset's Muon is compared with: AdamW, one rate for all.
ADAMW: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 3e-3, "theta_learning_rate": None}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "AdamW": {},
    "rate of θ x 3": {"theta_learning_rate": 9e-3},
    "rate of θ x 10": {"theta_learning_rate": 3e-2},
    "rate of θ / 3": {"theta_learning_rate": 1e-3},
    "all rates x 3": {"learning_rate": 9e-3},
    "all rates / 3": {"learning_rate": 1e-3},
    "all rates x 3, θ's as it was": {"learning_rate": 9e-3, "theta_learning_rate": 3e-3},
    "all rates x 7, θ's as it was": {"learning_rate": 2e-2, "theta_learning_rate": 3e-3},
    "λ = 1": {"output_weight": 1.0},
    "λ = 100": {"output_weight": 100.0},
    "hidden loss scaled, λ = 1": {"scale_hidden": True, "output_weight": 1.0},
    "one model a step": {"models_per_step": 1},
    "bfloat16": {"precision": "bfloat16"},
    "muon": {"optimizer": "muon"},
    "muon, θ's rate / 3": {"optimizer": "muon", "theta_learning_rate": 1e-3},
    "muon, all rates x 3": {"optimizer": "muon", "learning_rate": 9e-3},
    "muon, all rates x 3, θ's as it was": {"optimizer": "muon", "learning_rate": 9e-3, "theta_learning_rate": 3e-3},
    "muon, all rates x 3, θ's / 3": {"optimizer": "muon", "learning_rate": 9e-3, "theta_learning_rate": 1e-3},
}
COLUMNS = ("setting", "steps", "AUPRC", "ARI", "silhouette", "stability", "hidden R²", "agreement", "processor s")


def row(population: Population, by: str, name: str, steps: int, seeds: int) -> list[str]:
    groups = [base.metadata[by] for base in population]
    maps, seconds, fidelity = [], [], []
    for seed in range(seeds):
        options = FitOptions(**{**PRESETS["laptop"], **ADAMW, **SETTINGS[name], "steps": steps, "seed": seed})
        trainer = Trainer(population, options)
        trainer.record()
        start = process_time()
        trainer.run()
        seconds.append(process_time() - start)
        fit = Fit.of(trainer)
        maps.append(fit.theta.double().numpy())
        fidelity.append(measure_fidelity(fit, population))
    pairs = [pair_figures(squareform(pdist(theta)), groups, permutations=1) for theta in maps]
    clusters = [group_agreement(theta, groups) for theta in maps]
    correlations = align(maps, permutations=1).correlations[np.triu_indices(seeds, 1)]
    return [
        name,
        str(steps),
        ", ".join(f"{item.auprc:.2f}" for item in pairs),
        ", ".join(f"{item.ari:.2f}" for item in clusters),
        ", ".join(f"{item.silhouette:.2f}" for item in clusters),
        f"{correlations.mean():.2f}",
        *(f"{fmean(item.mean(figure) for item in fidelity):.3f}" for figure in ("hidden_r2", "agreement")),
        f"{fmean(seconds):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("settings"), help="folder of the population")
    parser.add_argument("--seeds", type=int, default=3, help="of the meta-model, for each setting; at least 2")
    parser.add_argument("--steps", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--population", type=Path, help="a population that is there, in place of the GRUs on digits")
    parser.add_argument("--where", nargs="*", default=[], metavar="LABEL=VALUE", help="which of its models")
    parser.add_argument("--by", default="fraction", metavar="LABEL", help="what tells its groups apart")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.population is None:
        train(TRAIN, given.out / "population")
    population = Population.load(given.population or given.out / "population")
    wanted = dict(condition.split("=") for condition in given.where)
    population = population.select(
        [all(str(base.metadata[label]).lower() == value for label, value in wanted.items()) for base in population]
    )
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    for name in given.settings:
        for steps in given.steps:
            print("| " + " | ".join(row(population, given.by, name, steps, given.seeds)) + " |", flush=True)


if __name__ == "__main__":
    main()
