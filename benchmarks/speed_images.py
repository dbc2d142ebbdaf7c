"""How fast is the fit to residual networks?

quality   time to a quality: Algorithm 1 as a good engineer would write it in plain PyTorch (one sampled base model a
          step, run on the fly; residual blocks of Algorithm 2; a 1x1 convolution V_n at each site; SGD with Nesterov
          momentum (Table 2) or AdamW, with the paper's schedule; the best of the rates) with 60 steps a model, against
          the shortest whole fit of the trainer that reaches its hidden R² and agreement on test data, and the shortest
          that reaches its AUPRC too, of budgets that grow by half each and of the same rates. Both have batches of 128
          images, the trainer's from up to 32 models. Its time includes making its recordings. The base models are
          ResNet-8s on digits, in groups that compute the same (``known_images.py``). A batch of Algorithm 1 is of one
          base model, and so are the statistics of batch norm that it trains with; the running ones, of all models, fit
          it worse. So it is measured with both: ``running``, and ``own``, those of the test images at the θ of the
          model. The trainer is measured with the running ones.
peak      a training step of the trainer: FLOPs of convolutions and products by formula (torch's flop counter), as a
          share of the best that a product of two 1,024 x 1,024 float32 matrices reaches in the same run.
cost      a step, and a model's share of an epoch, against the number of models, with recordings in memory, on disk and
          live; every number in a process of its own, whose peak of memory is shown.
map       what settings do to the loss and to the map, at a fixed number of steps: the known groups (ARI of k-means,
          AUPRC), and the Spearman correlation of the distances of different groups between seeds.

    python benchmarks/speed_images.py            # hours of processor time with 128 models, most of them for quality
    python benchmarks/speed_images.py --quick    # a minute

All in one thread and in processor time, medians of repeats that are taken in turn.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import combinations
from math import cos, pi
from statistics import mean, median
from typing import Any

import attrs
import numpy as np
import torch
from known_images import ARCHITECTURE, copies_of
from plain_images import BATCH, Emulate, emulation, quality, run_plain
from scipy.stats import spearmanr
from settings import ADAMW
from speed import best_peak, cost_of, costs_in_turn, header, products, seconds, timed
from time_to_quality import ari, run_trainer
from torch.utils.flop_counter import FlopCounterMode

from dynamo import Dataset, Examples, FitOptions, Inputs, InputSpace, OutputSpace, Population, Trainer
from dynamo.analysis.rivals.pairs import auprc
from dynamo.contracts.protocols import DynamicalModel
from dynamo.population.base_model import BaseModel
from dynamo.registry import make
from dynamo.training import optimisation
from dynamo.training.presets import PRESETS

MODELS, STEPS_EACH = 32, 60
RATES = {"adamw": (3e-3, 1e-2, 3e-2), "sgd": (0.03, 0.1, 0.3), "muon": (3e-3, 1e-2, 3e-2)}
BUDGETS = (40, 60, 90, 135, 200, 300, 450, 675, 1000, 1500, 2250, 3400, 5000, 7500)

# Time to a quality. --------------------------------------------------------------------------------------------------


def settings(population: Population, **changed: Any) -> FitOptions:
    """The preset for images, with as many models in a step as there are, up to 32."""
    options = {**PRESETS["laptop-cnn"], "batch_size": BATCH, "models_per_step": min(MODELS, len(population)), **changed}
    return FitOptions(**options)


@attrs.frozen
class Outcome:
    """What a whole fit has cost and reached.

    Attributes:
        said: its optimiser, or its steps, and its rate.
        cpu, wall: seconds.
        r2, agreement: see :func:`quality`.
        map: AUPRC of the groups by the distances of the thetas.
        clusters: ARI of k-means.
    """

    said: str
    cpu: float
    wall: float
    r2: float
    agreement: float
    map: float
    clusters: float

    @classmethod
    def of(
        cls, said: str, spent: tuple[float, float], population: Population, emulate: Emulate, thetas: Any
    ) -> "Outcome":
        """Measured, and told on the error stream."""
        figures = (*quality(population, emulate), auprc(distances_of(thetas), groups_of(population)))
        made = cls(said, *spent, *figures, ari(thetas, population))
        print(made, file=sys.stderr, flush=True)
        return made

    def reaches(self, other: "Outcome") -> bool:
        """Whether it is as faithful."""
        return self.r2 >= other.r2 and self.agreement >= other.agreement

    def cells(self) -> list[str]:
        figures = [f"{self.r2:.3f}, {self.agreement:.3f}", f"{self.map:.2f}, {self.clusters:.2f}"]
        return [self.said, *figures, f"{self.cpu:.1f}", f"{self.wall:.0f}"]


def groups_of(population: Population) -> Any:
    return np.array([int(str(base.metadata["original"])) for base in population])


def distances_of(thetas: Any) -> Any:
    places = torch.stack([theta.detach() for theta in thetas]).double()
    return torch.cdist(places, places).numpy()


def plain_outcomes(
    population: Population, seed: int, given: argparse.Namespace
) -> dict[str, list[tuple[str, Outcome]]]:
    """The optimiser and the fit of every rate, measured with batch norm's running statistics and with those of the test
    images themselves.
    """
    found: dict[str, list[tuple[str, Outcome]]] = {"running": [], "own": []}
    for kind in given.optimizers:
        for rate in (rate for rate in RATES[kind] if given.rates is None or rate in given.rates):
            plain, spent = timed(partial(run_plain, population, kind, rate, given.each * len(population), seed))
            for statistics, entries in found.items():
                plain.train(statistics == "own")
                made = Outcome.of(f"{kind} {rate:g}", spent, population, plain.emulate, plain.thetas)
                entries.append((kind, made))
    return found


def time_to_quality(count: int, given: argparse.Namespace) -> None:
    population = copies_of(count)
    for seed in range(given.from_seed, given.from_seed + given.seeds):
        for statistics, entries in plain_outcomes(population, seed, given).items():
            kind, plain = max(entries, key=lambda entry: entry[1].r2 + entry[1].agreement)
            row = [count, seed, statistics, *plain.cells()]
            for with_map in (False, True):
                ours = reach(population, seed, given.trainer or kind, plain, with_map, given.longest)
                if ours is None:
                    row += [f"not within {given.longest} steps", *[""] * 6]
                else:
                    row += [*ours.cells(), f"{plain.cpu / ours.cpu:.1f}", f"{plain.wall / ours.wall:.1f}"]
            tell(row)


@cache
def fitted(population: Population, seed: int, kind: str, steps: int, rate: float) -> Outcome:
    changed: dict[str, Any] = {"steps": steps, "learning_rate": rate, "seed": seed, "optimizer": kind}
    options = settings(population, **changed, weight_decay=5e-4 if kind == "sgd" else 1e-4)
    trainer, spent = timed(partial(run_trainer, population, options))
    return Outcome.of(f"{steps} at {rate:g}", spent, population, emulation(trainer), trainer.emulator.thetas)


def reach(population: Population, seed: int, kind: str, plain: Outcome, with_map: bool, longest: int) -> Outcome | None:
    """The shortest fit that is as faithful, and separates the groups as well where that is asked for."""
    for steps in (budget for budget in BUDGETS if budget <= longest):
        for rate in RATES[kind][::-1]:
            made = fitted(population, seed, kind, steps, rate)
            if made.reaches(plain) and (made.map >= plain.map or not with_map):
                return made
    return None


# Steps, FLOPs and memory. --------------------------------------------------------------------------------------------


def random_population(count: int, shape: tuple[int, int, int] = (1, 8, 8), examples: int = 674) -> Population:
    """Untrained ResNet-8s on noise: what a step costs does not depend on what they say."""
    generator = torch.Generator().manual_seed(0)

    def part(size: int) -> Examples:
        images = torch.randn(size, *shape, generator=generator)
        classes = torch.randint(10, (size,), generator=generator)
        return Examples(Inputs(images, torch.ones(size, 1, dtype=torch.bool)), classes)

    data = Dataset(InputSpace("image", shape), OutputSpace("classes", 10), part(2 * examples), part(8))
    torch.manual_seed(0)
    models = [make("architecture", ARCHITECTURE, DynamicalModel, data.inputs, data.outputs) for _ in range(count)]
    return Population([BaseModel(f"m{n}", model.eval(), data) for n, model in enumerate(models)])


def share_of_peak(count: int, width: int, side: int, repeats: int) -> None:
    population = random_population(count, (1, side, side), 256)
    forms: dict[str, dict[str, Any]] = {
        "float32": {},
        "channels last": {"channels_last": True},
        "channels last, bfloat16": {"channels_last": True, "precision": "bfloat16"},
    }
    meta_model = f"resnet:layers=1+1+1,width={width}"
    trainers = [Trainer(population, settings(population, meta_model=meta_model, **form)) for form in forms.values()]
    for trainer in trainers:
        trainer._recordings = trainers[0].recordings
        trainer.emulator.train()
    with FlopCounterMode(display=False) as counter:
        trainers[0]._advance()
    rounds = []
    for _ in range(repeats + 1):
        peak = best_peak()
        with products("oneDNN"):
            rounds.append([1 / peak, *(seconds(trainer._advance) for trainer in trainers)])
    for place, name in enumerate(forms, 1):
        step, made = median(row[place] for row in rounds[1:]), counter.get_total_flops()
        row = [count, f"{side} x {side}", width, name, f"{1000 * step:.1f}", f"{1 / step:.1f}"]
        row += [f"{BATCH / step:,.0f}", f"{median(entry[1] / entry[place] for entry in rounds[1:]):.2f}"]
        row += [f"{made / 1e9:.2f}", f"{median(made / entry[place] * entry[0] for entry in rounds[1:]):.2f}"]
        tell(row)


def cost(count: int, recording: str, repeats: int, examples: int = 674) -> dict[str, float]:
    """Of a step with 8 models of ``count``; run in a process of its own."""
    population = random_population(count, examples=examples)
    return cost_of(population, settings(population, models_per_step=8, recording=recording), repeats, examples)


def cost_against_count(counts: list[int], repeats: int, turns: int = 3) -> None:
    """Medians of several processes each, all numbers of models in turn."""
    forms = [(count, recording) for recording in ("memory", "disk", "live") for count in counts]
    found = costs_in_turn(__file__, forms, turns, repeats)
    for form, rows in found.items():
        figures = {name: median(row[name] for row in rows) for name in rows[0]}
        steps = [row["step"] for row in rows]
        row = [*form, f"{1000 * figures['step']:.1f}", f"{1000 * min(steps):.1f} to {1000 * max(steps):.1f}"]
        row += [f"{1000 * figures[name]:.1f}" for name in ("epoch", "record")]
        tell(row + [f"{figures[name]:,.0f}" for name in ("before", "own", "peak")])


# Settings and the map. -----------------------------------------------------------------------------------------------

MAPS: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "β2 0.95": {"beta2": 0.95},
    "β2 0.99": {"beta2": 0.99},
    "cosine to 0": {"to_zero": True},
    "rate of θ x 1/3": {"theta_times": 1 / 3},
    "rate of θ x 3": {"theta_times": 3},
    "rate 1e-2": {"learning_rate": 1e-2},
    "rate 1e-2, cosine to 0": {"learning_rate": 1e-2, "to_zero": True},
    "rate 1e-2, θ 3e-3": {"learning_rate": 1e-2, "theta_learning_rate": 3e-3},
    "rate 1e-2, θ 3e-3, cosine to 0": {"learning_rate": 1e-2, "theta_learning_rate": 3e-3, "to_zero": True},
    "rate 3e-2": {"learning_rate": 3e-2},
    "8 models a step": {"models_per_step": 8},
    "1 model a step": {"models_per_step": 1},
    "batch 64, twice the steps": {"batch_size": 64, "steps_times": 2},
    "batch 256, half the steps": {"batch_size": 256, "steps_times": 0.5},
    "rate 1e-2, β2 0.95": {"learning_rate": 1e-2, "beta2": 0.95},
    "rate 1e-2, θ 3e-2": {"learning_rate": 1e-2, "theta_learning_rate": 3e-2},
    "rate 2e-2": {"learning_rate": 2e-2},
    "rate 3e-2, θ 1e-2": {"learning_rate": 3e-2, "theta_learning_rate": 1e-2},
    "rate 3e-2, cosine to 0": {"learning_rate": 3e-2, "to_zero": True},
    "rate 1e-2, batch 64, twice the steps": {"learning_rate": 1e-2, "batch_size": 64, "steps_times": 2},
    "Muon": {"optimizer": "muon"},
    "Muon, rate 1e-2": {"optimizer": "muon", "learning_rate": 1e-2},
    "Muon, rate 1e-2, θ 3e-3": {"optimizer": "muon", "learning_rate": 1e-2, "theta_learning_rate": 3e-3},
    "Muon, rate 3e-2": {"optimizer": "muon", "learning_rate": 3e-2},
    "bfloat16": {"precision": "bfloat16", "channels_last": True},
}


@contextmanager
def schedule(to_zero: bool) -> Iterator[None]:
    """The paper's schedule, or a cosine that ends at 0."""
    before = optimisation.cosine_7_32
    if to_zero:
        optimisation.cosine_7_32 = lambda step, steps: (1 + cos(pi * min(step, steps) / steps)) / 2
    try:
        yield
    finally:
        optimisation.cosine_7_32 = before


def map_of_settings(count: int, steps: int, seeds: int, names: list[str]) -> None:
    population = copies_of(count)
    groups = groups_of(population)
    for name in names:
        figures, distances, spent = [], [], []
        for seed in range(seeds):
            changed = dict(MAPS[name])
            to_zero, times = changed.pop("to_zero", False), changed.pop("steps_times", 1)
            if "theta_times" in changed:
                changed["theta_learning_rate"] = ADAMW["learning_rate"] * changed.pop("theta_times")
            options = settings(population, **{**ADAMW, "steps": round(steps * times), "seed": seed, **changed})
            with schedule(to_zero):
                trainer, seconds = timed(partial(run_trainer, population, options))
            spent.append(seconds[0])
            distances.append(distances_of(trainer.emulator.thetas))
            last = [row[2] for row in trainer.history[-len(trainer.history) // 10 :]]
            found = (mean(last), *quality(population, emulation(trainer)), ari(trainer.emulator.thetas, population))
            figures.append((*found, auprc(distances[-1], groups), own_share(distances[-1], groups)))
        others = groups[:, None] != groups
        agreed = [spearmanr(one[others], two[others])[0] for one, two in combinations(distances, 2)]
        row = [count, name, *(spread([row[place] for row in figures]) for place in range(6))]
        tell([*row, spread(agreed) if agreed else "", f"{median(spent):.1f}"])


def own_share(distances: Any, groups: Any) -> float:
    """The mean distance within groups as a share of that between groups."""
    same, pairs = groups[:, None] == groups, np.triu(np.ones_like(distances, dtype=bool), 1)
    return float(distances[same & pairs].mean() / distances[~same & pairs].mean())


def spread(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if max(values) > min(values) else "")


# Output. -------------------------------------------------------------------------------------------------------------


def tell(cells: list[Any]) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers: does it run?")
    parser.add_argument("--parts", nargs="+", default=["peak", "cost", "quality", "map"], help="which parts")
    parser.add_argument("--models", type=int, nargs="+", default=[8, 32, 128], help="in the time to a quality")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the time to a quality and of the map")
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "sgd"], help="that the plain form tries")
    parser.add_argument("--from-seed", type=int, default=0, help="the first seed of the time to a quality")
    parser.add_argument("--trainer", choices=RATES, help="the trainer's optimiser; that of the plain form if not given")
    parser.add_argument("--rates", type=float, nargs="+", help="that the plain form tries, of those it knows")
    parser.add_argument("--longest", type=int, default=BUDGETS[-1], help="the trainer's largest budget of steps")
    parser.add_argument("--each", type=int, default=STEPS_EACH, help="steps of the plain form for each model")
    parser.add_argument("--settings", nargs="+", choices=MAPS, default=list(MAPS), help="of the map")
    parser.add_argument("--map-models", type=int, default=32)
    parser.add_argument("--map-steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=15, help="steps that are counted; more come before")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        print(json.dumps(cost(int(given.one[0]), given.one[1], int(given.one[2]))))
        return
    if given.quick:
        given.models, given.seeds, given.map_models, given.map_steps, given.repeats = [8], 1, 8, 20, 2
        given.settings, given.optimizers, given.each = given.settings[:2], ["adamw"], 10
    if "peak" in given.parts:
        print(f"one thread, float32, 1,024 x 1,024: {best_peak() / 1e9:.0f} GFLOPs a second")
        columns = ("models a step", "images", "width", "form", "ms a step", "steps/s", "images/s", "faster", "GFLOPs")
        header(*columns, "peak")
        sizes = [(8, 16, 8), (32, 16, 8), (32, 64, 8), (8, 16, 32), (8, 64, 32)]
        for size in sizes[:1] if given.quick else sizes:
            share_of_peak(*size, given.repeats)
    if "cost" in given.parts:
        columns = ("models", "recording", "ms a step", "least to most", "ms a model and epoch", "ms a recording")
        header(*columns, "before", "own", "peak MiB")
        cost_against_count([8, 32] if given.quick else [8, 32, 128, 512], given.repeats, 1 if given.quick else 3)
    if "quality" in given.parts:
        figures = ("R², agreement", "AUPRC, ARI", "CPU s", "wall s")
        ours = (*figures, "times faster", "by the wall")
        header("models", "seed", "statistics", "plain", *figures, "as faithful", *ours, "and as good a map", *ours)
        for count in given.models:
            time_to_quality(count, given)
    if "map" in given.parts:
        columns = ("models", "setting", "loss", "hidden R²", "agreement", "ARI", "AUPRC", "within / between")
        header(*columns, "stability", "CPU s")
        map_of_settings(given.map_models, given.map_steps, given.seeds, given.settings)


if __name__ == "__main__":
    main()
