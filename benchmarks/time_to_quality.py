"""How long until the emulators are as good as those of Algorithm 1 in plain PyTorch?

The plain form is Algorithm 1 as a good engineer would write it: one sampled base model a step, run on the fly; nn.GRU
on [x; θ]; affine V_n; AdamW with the paper's schedule; the best of three learning rates; a fixed number of steps for
each model. Against it stands the shortest whole fit of the trainer, of budgets that grow by a quarter each and of the
same learning rates, that reaches its hidden R² and agreement on test data. Both have batches of 128 examples, the
trainer's from up to 32 models. Its time includes making its recordings. The base models are those of ground_truth.py:
GRUs with 16 units, each with three copies that compute the same, so that the groups are known; on rows of digits (8
steps, a meta-model of 64 units) or on generated sentences (4 to 12 words, 128 units). From the project's folder:

    python benchmarks/time_to_quality.py                    # 8, 32 and 128 models: some fifteen minutes
    python benchmarks/time_to_quality.py --models 512 --rates 0.02 --seeds 3
    python benchmarks/time_to_quality.py --data sentences --models 8 32 --rates 0.005 0.01 0.02
    python benchmarks/time_to_quality.py --quick            # does it run?

All in one thread; each seed is a pair of fits in one process, one after the other.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from known_populations import copies_of
from sklearn.metrics import adjusted_rand_score
from speed import header, timed
from torch import Tensor, nn

from dynamo import FitOptions, Inputs, Population, Trainer
from dynamo.analysis.geometry.kmeans import kmeans
from dynamo.contracts.trajectory import at_readout
from dynamo.population.scores import unexplained_share
from dynamo.system.allocator import keep_freed_memory
from dynamo.training.optimisation import cosine_7_32
from dynamo.training.presets import PRESETS

DATA = {
    "digits": ("digits-rows", 64),
    "sentences": ("synthetic-sentiment:train_size=1600,test_size=400,max_length=12", 128),
}
THETA_DIM, OUTPUT_WEIGHT, EMBEDDING = 16, 10.0, 256
RATES, STEPS_EACH = (1e-2, 2e-2, 4e-2), 60
BATCH, MODELS = 128, 32
BUDGETS = (
    20, 25, 32, 40, 50, 60, 75, 95, 120, 150, 185, 235,
    290, 365, 455, 570, 710, 890, 1100, 1400, 1750, 2200, 2750,
)  # fmt: skip


class Plain(nn.Module):
    """Algorithm 1 and nothing else."""

    def __init__(self, population: Population, hidden: int, rate: float, steps: int, seed: int) -> None:
        super().__init__()
        keep_freed_memory()  # as the trainer does
        torch.manual_seed(seed)
        self.population, self.rate, self.steps = population, rate, steps
        self.probes = population.dataset(population[0]).halves()[1]
        self.embedding = nn.Embedding(population.inputs.size, EMBEDDING) if population.inputs.kind == "tokens" else None
        features = population.inputs.size if self.embedding is None else EMBEDDING
        self.rnn = nn.GRU(features + THETA_DIM, hidden, batch_first=True)
        self.head = nn.Linear(hidden, population[0].model.outputs.size)
        self.maps = nn.ModuleList(nn.Linear(hidden, base.model.state_shapes[0][0]) for base in population)
        self.thetas = nn.ParameterList(torch.zeros(THETA_DIM) for _ in population)
        self.optimizer = torch.optim.AdamW(self.parameters(), rate, weight_decay=1e-4)

    def emulate(self, number: int, values: Tensor) -> tuple[Tensor, Tensor]:
        theta = self.thetas[number].expand(*values.shape[:2], -1)
        x = values if self.embedding is None else self.embedding(values)
        states = self.rnn(torch.cat([x, theta], dim=-1))[0]
        return self.maps[number](states), self.head(states)

    def run(self) -> None:
        for step in range(self.steps):
            self.advance(step)

    def advance(self, step: int) -> None:
        number = int(torch.randint(len(self.thetas), ()))
        inputs = self.probes[torch.randint(len(self.probes), (BATCH,))]
        with torch.no_grad():
            base = self.population[number].model.trajectory(inputs)
        states, outputs = self.emulate(number, inputs.values)
        hidden = (states - base.states[0]).square().sum(-1)
        log_p, log_q = base.outputs.log_softmax(-1), outputs.log_softmax(-1)
        output = (log_p.exp() * (log_p - log_q)).sum(-1)
        loss = (((hidden + OUTPUT_WEIGHT * output) * inputs.mask).sum(1) / inputs.mask.sum(1)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = self.rate * cosine_7_32(step, self.steps)
        self.optimizer.step()


@torch.no_grad()
def quality(population: Population, emulate: Callable[[int, Tensor], tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean hidden R² and agreement on test data."""
    test, errors, agreements = population.dataset(population[0]).test.inputs, [], []
    for number, base in enumerate(population):
        wanted, (states, outputs) = base.model.trajectory(test), emulate(number, test.values)
        errors.append(float(unexplained_share(states[test.mask], wanted.states[0][test.mask])))
        found, answers = (at_readout(tensor, test.mask, "last").argmax(-1) for tensor in (outputs, wanted.outputs))
        agreements.append(float((found == answers).float().mean()))
    return 1 - sum(errors) / len(errors), sum(agreements) / len(agreements)


def ari(thetas: Any, population: Population) -> float:
    places = torch.stack([theta.detach() for theta in thetas]).numpy()
    groups = [base.metadata["original"] for base in population]
    found = kmeans(places, len(set(groups)))
    return float(adjusted_rand_score(groups, found))


def time_to_quality(population: Population, hidden: int, seed: int, rates: Sequence[float]) -> tuple[float, float]:
    """Print the row of a seed; how many times faster the trainer is by the processor's time and by the clock."""
    count, plains = len(population), []
    for rate in rates:
        plain = Plain(population, hidden, rate, STEPS_EACH * count, seed)
        _, spent = timed(plain.run)
        plains.append((*quality(population, plain.emulate), spent, rate, ari(plain.thetas, population)))
    r2, agreement, spent, rate, plain_ari = max(plains, key=lambda entry: entry[0] + entry[1])
    row = [count, seed, f"{r2:.3f}, {agreement:.3f}", f"{rate:g}", f"{spent[0]:.1f}", f"{spent[1]:.1f}"]
    trainer, ours, figures = reach(population, hidden, seed, rates, r2, agreement)
    row += [f"{figures[0]:.3f}, {figures[1]:.3f}", f"{trainer.options.learning_rate:g}", trainer.step]
    row += [f"{ours[0]:.1f}", f"{ours[1]:.1f}", f"{spent[0] / ours[0]:.1f}", f"{spent[1] / ours[1]:.1f}"]
    row += [f"{plain_ari:.2f}", f"{ari(trainer.emulator.thetas, population):.2f}"]
    print("| " + " | ".join(map(str, row)) + " |", flush=True)
    return spent[0] / ours[0], spent[1] / ours[1]


def run_trainer(population: Population, options: FitOptions) -> Trainer:
    trainer = Trainer(population, options)
    trainer.run()
    return trainer


def reach(
    population: Population, hidden: int, seed: int, rates: Sequence[float], r2: float, agreement: float
) -> tuple[Trainer, tuple[float, float], tuple[float, float]]:
    """The shortest fit that reaches both figures, its processor and wall seconds, and its own figures."""
    for steps in BUDGETS:
        for rate in rates:
            changed: dict[str, Any] = {
                "meta_model": f"gru:hidden_size={hidden},embedding_size={EMBEDDING}",
                "steps": steps,
                "seed": seed,
            }
            changed |= {"learning_rate": rate, "theta_learning_rate": None}
            changed |= {"batch_size": BATCH, "models_per_step": min(MODELS, len(population))}
            trainer, spent = timed(partial(run_trainer, population, FitOptions(**{**PRESETS["laptop"], **changed})))
            figures = quality(population, partial(emulate, trainer))
            if figures[0] >= r2 and figures[1] >= agreement:
                return trainer, spent, figures
    raise SystemExit(f"{len(population)} models: not reached within {BUDGETS[-1]} steps")


@torch.no_grad()
def emulate(trainer: Trainer, number: int, values: Tensor) -> tuple[Tensor, Tensor]:
    emulator = trainer.emulator
    theta = emulator.thetas[number].expand(len(values), -1)
    states = emulator.meta_model.states(Inputs(values, torch.ones(values.shape[:2], dtype=torch.bool)), theta)[0]
    return emulator.maps_of(number)[0](states), emulator.head_of(number)(states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 models, one seed, one rate: does it run?")
    parser.add_argument("--data", choices=DATA, default="digits", help="what the base models were trained on")
    parser.add_argument("--models", type=int, nargs="+", default=[8, 32, 128], help="multiples of 4")
    parser.add_argument("--seeds", type=int, default=5, help="of the meta-model")
    parser.add_argument("--from-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates, for both forms")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plain = ("models", "seed", "R², agreement", "plain rate", "plain CPU s", "wall s")
    header(
        *plain, "R², agreement", "rate", "steps", "CPU s", "wall s", "times faster", "by the wall", "ARI plain", "ARI"
    )
    for count in given.models[:1] if given.quick else given.models:
        dataset, hidden = DATA[given.data]
        population = copies_of("gru", originals=count // 4, dataset=dataset)
        seeds, rates = (1, [2e-2]) if given.quick else (given.seeds, given.rates)
        chosen = range(given.from_seed, given.from_seed + seeds)
        ratios = [time_to_quality(population, hidden, seed, rates) for seed in chosen]
        processor, wall = (
            f"{median(part):.1f} ({min(part):.1f} to {max(part):.1f})" for part in zip(*ratios, strict=True)
        )
        print(f"{count} models: {processor} times faster by processor time, {wall} by the clock", flush=True)


if __name__ == "__main__":
    main()
