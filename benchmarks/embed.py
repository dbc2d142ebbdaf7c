"""Is a new model put where a refit would put it, and how long does it take?

GRUs trained on all and on a tenth of the digits (rows of an image as steps), 8 seeds each. Two seeds of each are held
out. A map of the other 12 is fitted, and the 4 held-out ones are embedded in it; a refit is a map of all 16, with
another seed. Maps are brought together by the rotation that fits the 12 shared models best (orthogonal Procrustes, no
scaling); then the places of the 4 are compared: embedded with refitted and, as the yardstick, refitted with refitted.
θ has 8 dimensions, so that 12 models fix the rotation. As a second yardstick the 12 themselves, each left out of the
rotation in turn: how far apart do a map and a refit put a model that both were fitted to? Times are CPU seconds of one
thread, with recording and measuring. From the project's folder:

    python benchmarks/embed.py --out embed
"""

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from time import process_time

import attrs
import numpy as np
import torch
from campaign import train
from scipy.linalg import orthogonal_procrustes

from dynamo import Fit, FitOptions, Population, Trainer, measure_fidelity, preset
from dynamo.fit.embedding import embed
from dynamo.fit.fidelity import Fidelity
from dynamo.training.presets import PRESETS

TRAIN = "-a gru:hidden_size=32 -d digits-rows -f 1 -f 0.1 --seeds 8 --epochs 40 --learning-rate 5e-3"
HELD_OUT = (6, 7)


@attrs.frozen
class Timed:
    fit: Fit
    fidelity: Fidelity
    seconds: float

    def places(self, names: Sequence[str]) -> np.ndarray:
        return np.stack([self.fit.theta[self.fit.names.index(name)].double().numpy() for name in names])


def make(population: Population, options: FitOptions) -> Timed:
    start = process_time()
    trainer = Trainer(population, options)
    trainer.run()
    fit = Fit.of(trainer)
    fidelity = measure_fidelity(fit, population)
    return Timed(fit, fidelity, process_time() - start)


def distances(shared: tuple[np.ndarray, np.ndarray], places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """From places on the first map to others on the second, after the first is rotated onto the second."""
    means = [points.mean(0) for points in shared]
    rotation, _ = orthogonal_procrustes(shared[0] - means[0], shared[1] - means[1])
    return np.linalg.norm((places - means[0]) @ rotation - (others - means[1]), axis=1)


def left_out(one: Timed, two: Timed, shared: Sequence[str]) -> list[float]:
    """The distance of every shared model's two places, when the others alone bring the maps together."""
    found = []
    for name in shared:
        rest = [other for other in shared if other != name]
        pair = (one.places(rest), two.places(rest))
        found.append(float(distances(pair, one.places([name]), two.places([name]))[0]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("embed"), help="folder of the population")
    parser.add_argument("--seeds", type=int, default=3, help="maps of the 12, and refits of all 16")
    parser.add_argument("--steps", type=int, default=PRESETS["laptop"]["steps"], help="of every fit")
    given = parser.parse_args()
    torch.set_num_threads(1)
    train(TRAIN, given.out / "population")
    everyone = Population.load(given.out / "population")
    is_new = [base.metadata["seed"] in HELD_OUT for base in everyone]
    new, old = everyone.select(is_new), everyone.select([not chosen for chosen in is_new])
    names, shared = [base.name for base in new], [base.name for base in old]
    options = preset("laptop", theta_dim=8, steps=given.steps)
    seeds = range(given.seeds)
    maps = [make(old, attrs.evolve(options, seed=seed)) for seed in seeds]
    refits = [make(everyone, attrs.evolve(options, seed=100 + seed)) for seed in seeds]
    embeddings, times = [], []
    for item in maps:
        start = process_time()
        embeddings.append(embed(item.fit, new, item.fidelity))
        times.append(process_time() - start)

    yardstick = np.array(
        [
            distances((one.places(shared), two.places(shared)), one.places(names), two.places(names))
            for one, two in combinations(refits, 2)
        ]
    )

    def to_refits(places: Sequence[np.ndarray]) -> np.ndarray:
        return np.array(
            [
                distances((item.places(shared), refit.places(shared)), place, refit.places(names))
                for item, place in zip(maps, places, strict=True)
                for refit in refits
            ]
        )

    embedded = to_refits([found.theta.double().numpy() for found in embeddings])
    fractions = [
        [base.name for base in old if base.metadata["fraction"] == other.metadata["fraction"]] for other in new
    ]
    centred = to_refits([np.stack([item.places(group).mean(0) for group in fractions]) for item in maps])
    spread = median(float(np.sqrt(item.places(shared).var(0).sum())) for item in refits)
    figures = torch.stack([found.figures for found in embeddings]).mean(0).tolist()
    foreign = torch.stack([found.is_foreign for found in embeddings]).sum(0).tolist()
    columns = ["new model", "embedded to refitted", "refitted to refitted", "mean of its fraction to refitted"]
    print("| " + " | ".join([*columns, "hidden R²", "agreement", "foreign"]) + " |\n|" + "---|" * 7)
    rows = zip(names, embedded.T, yardstick.T, centred.T, figures, foreign, strict=True)
    for name, one, two, three, (r2, agreement), times_foreign in rows:
        cells = [f"{np.median(part):.2f}" for part in (one, two, three)] + [f"{r2:.3f}", f"{agreement:.3f}"]
        print(f"| {name} | " + " | ".join(cells) + f" | {times_foreign} of {len(maps)} |")
    whole = [f"{np.median(part):.2f}" for part in (embedded, yardstick, centred)]
    print("| (median) | " + " | ".join(whole) + " |  |  |  |")
    fitted = np.median([left_out(item, refit, shared) for item in maps for refit in refits])
    again = np.median([left_out(one, two, shared) for one, two in combinations(refits, 2)])
    print(f"\nthe 12 themselves, each left out of the rotation: map to refit {fitted:.2f}, refit to refit {again:.2f}")
    refit_seconds = fmean(item.seconds for item in refits)
    base = [item.fidelity.mean("agreement") for item in maps]
    print(f"spread of the 12 on the refits {spread:.2f}; agreement of the 12 with their emulators {fmean(base):.3f}")
    share = fmean(times) / refit_seconds
    print(f"CPU seconds: embedding {fmean(times):.2f}, refit {refit_seconds:.1f}: {share:.1%}")


if __name__ == "__main__":
    main()
