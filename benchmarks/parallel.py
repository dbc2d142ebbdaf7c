"""Does a meta-model that is parallel over time emulate and map as well as the GRU, and how much faster is it?

Populations: the known groups ``tanh`` and ``gru`` of ground_truth.py (copies that compute the same must lie together),
and ``digits``: 6 GRUs and 6 vanilla RNNs of 16 units, trained on rows of digits with different seeds, labelled with
their architecture. Each is fitted with the meta-models ``gru`` and ``mingru``, which have the same number of parameters
to within 10 %, at the same batches and steps. The minGRU's state is larger, so the V_n and heads that read it are too;
both counts are in the table. Settings otherwise as in ground_truth.py: `--preset laptop` with a GRU of 64 units.

Times are processor times of one thread, medians, with the variants taken in turn: of the losses and their gradients in
one step of training on these populations (batches of 256, 8 steps of time), and of the meta-model alone, forward and
backward, over sequences of 8 real numbers a step in batches of 16. "In pairs" is the way that other devices than a CPU
take. From the project's folder:

    python benchmarks/parallel.py
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import process_time
from unittest.mock import patch

import numpy as np
import torch
from ground_truth import OPTIONS, Row, table
from known_populations import copies_of, trained

from dynamo import Dataset, Fit, FitOptions, Inputs, InputSpace, MetaModel, Population, Trainer, measure_fidelity
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.population.base_model import BaseModel
from dynamo.registry import make
from dynamo_mingru.recurrence import in_pairs

THETA_DIM, FEATURES = 16, 8
#: A GRU, and two layers of minGRUs with as many parameters.
PAIRS = {64: ("gru:hidden_size=64", "mingru:hidden_size=74"), 256: ("gru:hidden_size=256", "mingru:hidden_size=314")}
LENGTHS, BATCH, REPEATS = (24, 96, 384, 1536), 16, 5


def digits(models: int = 6) -> Population:
    data = make("dataset", "digits-rows", Dataset)
    return Population(
        [
            BaseModel(f"{kind}-{seed}", trained(kind, data, 16, share=1.0, seed=seed), data, {"original": kind})
            for kind in ("gru", "tanh")
            for seed in range(models)
        ]
    )


POPULATIONS: dict[str, Callable[[], Population]] = {
    "tanh": lambda: copies_of("tanh"),
    "gru": lambda: copies_of("gru"),
    "digits": digits,
}


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def check_sizes() -> None:
    """The meta-models of a pair are of one size, to within 10 %."""
    space = InputSpace("real", (FEATURES,))
    for pair in PAIRS.values():
        sizes = [size(make("meta-model", spec, MetaModel, space, THETA_DIM)) for spec in pair]
        assert max(sizes) < 1.1 * min(sizes), (pair, sizes)


def fit_row(name: str, population: Population, spec: str, seed: int, steps: int) -> Row:
    trainer = Trainer(population, FitOptions(**{**OPTIONS, "meta_model": spec, "seed": seed, "steps": steps}))
    trainer.run()
    fit = Fit.of(trainer)
    fidelity = measure_fidelity(fit, population)
    labels = np.unique([str(base.metadata["original"]) for base in population], return_inverse=True)[1]
    figures = pair_figures(fit.distances("theta").matrix, labels)
    row = {
        "population": name,
        "meta-model": spec.partition(":")[0],
        "seed": str(seed),
        "parameters": f"{size(trainer.emulator.meta_model):,}",
        "with V and heads": f"{size(trainer.emulator):,}",
        "hidden R²": f"{fidelity.mean('hidden_r2'):.3f}",
        "agreement": f"{fidelity.mean('agreement'):.3f}",
        "AUPRC": f"{figures.auprc:.2f}",
        "silhouette": f"{figures.silhouette:.2f}",
        "ARI": " ".join(f"{ari:.2f}" for ari in figures.ari.values()),
    }
    print(row, flush=True)
    return row


def training_row(name: str, population: Population) -> Row:
    trainers = [Trainer(population, FitOptions(**{**OPTIONS, "meta_model": spec})) for spec in PAIRS[64]]

    def run(trainer: Trainer, step: int) -> float:
        trainer.emulator.zero_grad(set_to_none=True)
        started = process_time()
        trainer.loss(*trainer.losses(*trainer.draw(step))).backward()
        return 1000 * (process_time() - started)

    rounds = [[run(trainer, step) for trainer in trainers] for step in range(4 * REPEATS + 1)][1:]
    gru, mingru = (f"{median(times):.1f}" for times in zip(*rounds, strict=True))
    ratio = median(first / second for first, second in rounds)
    row = {"population": name, "gru, ms": gru, "mingru, ms": mingru, "gru / mingru": f"{ratio:.2f}"}
    print(row, flush=True)
    return row


def prepared(spec: str, steps: int, pairs: bool) -> Callable[[], float]:
    """A function that makes one pass forward and backward and gives its milliseconds."""
    torch.manual_seed(0)
    model = make("meta-model", spec, MetaModel, InputSpace("real", (FEATURES,)), THETA_DIM)
    inputs = Inputs(torch.randn(BATCH, steps, FEATURES), torch.ones(BATCH, steps, dtype=torch.bool))
    theta = torch.randn(BATCH, THETA_DIM, requires_grad=True)

    def run() -> float:
        model.zero_grad(set_to_none=True)
        started = process_time()
        model.states(inputs, theta)[0].square().mean().backward()
        return 1000 * (process_time() - started)

    def run_in_pairs() -> float:
        with patch("dynamo_mingru.recurrence.step_by_step", in_pairs):
            return run()

    return run_in_pairs if pairs else run


def time_row(units: int, steps: int) -> Row:
    gru, mingru = PAIRS[units]
    runs = {
        "gru": prepared(gru, steps, False),
        "mingru": prepared(mingru, steps, False),
        "mingru, in pairs": prepared(mingru, steps, True),
    }
    rounds = [{name: run() for name, run in runs.items()} for _ in range(REPEATS + 1)][1:]
    times = {name: median(each[name] for each in rounds) for name in runs}
    ratios = {f"gru / {name}": median(each["gru"] / each[name] for each in rounds) for name in list(runs)[1:]}
    row = {"units of the GRU": str(units), "steps": str(steps)}
    row |= {f"{name}, ms": f"{time:.1f}" for name, time in times.items()}
    row |= {name: f"{ratio:.2f}" for name, ratio in ratios.items()}
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the meta-model")
    parser.add_argument("--steps", type=int, default=400, help="of every fit")
    parser.add_argument("--populations", nargs="*", choices=POPULATIONS, default=list(POPULATIONS))
    parser.add_argument("--no-times", action="store_true", help="leave the table of times out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    check_sizes()
    populations = {name: POPULATIONS[name]() for name in given.populations}
    runs = [(name, seed, spec) for name in populations for seed in range(given.seeds) for spec in PAIRS[64]]
    tables = [[fit_row(name, populations[name], spec, seed, given.steps) for name, seed, spec in runs]]
    if not given.no_times:
        tables.append([training_row(name, population) for name, population in populations.items()])
        tables.append([time_row(units, steps) for units in PAIRS for steps in LENGTHS])
    for rows in filter(None, tables):
        print(table(rows))


if __name__ == "__main__":
    main()
