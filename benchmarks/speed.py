"""How fast is the fit?

quality   time to a quality: Algorithm 1 as a good engineer would write it in plain PyTorch (one sampled base model a
          step, run on the fly; nn.GRU on [x; θ]; affine V_n; AdamW with the paper's schedule; the best of three
          learning rates) with a fixed number of steps, against the shortest whole fit of the trainer that reaches its
          hidden R² and agreement on test data, of budgets that grow by half each and of the same learning rates. Both
          have batches of 128 examples, the trainer's from up to 32 models. Its time includes making its
          recordings. The base models are those of ground_truth.py: GRUs, each with three copies that compute the
          same, so that the groups are known.
peak      a training step of the trainer, with torch's own layer in the meta-model and with ours, in turn; FLOPs of the
          matrix products by formula, as a share of what a product of two 1,024 x 1,024 matrices reaches in the same
          run. "Needed" counts the products that are made, "plain" those that torch's layer makes.
cost      a step, and a model's share of an epoch, against the number of models, with recordings on disk; every number
          in a process of its own, whose peak of memory is shown.

    python benchmarks/speed.py            # about half an hour of processor time, most of it for quality
    python benchmarks/speed.py --quick    # under one

All in one thread and in processor time, medians of repeats that are taken in turn.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import torch
from known_populations import copies_of
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from dynamo import Dataset, Examples, FitOptions, Inputs, InputSpace, OutputSpace, Population, Spec, Trainer
from dynamo.base_training import unexplained_share
from dynamo.optimisation import cosine_7_32
from dynamo.plugins import make
from dynamo.population import BaseModel
from dynamo.presets import PRESETS
from dynamo.protocols import DynamicalModel
from dynamo_rnn.meta import MetaGRU

THETA_DIM, OUTPUT_WEIGHT = 16, 10.0
VOCABULARY, STEPS, EMBEDDING, BASE = 1000, 24, 256, 48

RATES = (1e-2, 2e-2, 4e-2)
BATCH, MODELS = 128, 32
BUDGETS = (40, 60, 90, 135, 200, 300, 450, 675, 1000, 1500)

# Time to a quality. --------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """Algorithm 1 and nothing else."""

    def __init__(self, population: Population, hidden: int, rate: float, steps: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.population, self.rate, self.steps = population, rate, steps
        self.probes = population.dataset(population[0]).halves()[1]
        self.rnn = nn.GRU(population.inputs.size + THETA_DIM, hidden, batch_first=True)
        self.head = nn.Linear(hidden, population[0].model.outputs.size)
        self.maps = nn.ModuleList(nn.Linear(hidden, base.model.state_shapes[0][0]) for base in population)
        self.thetas = nn.ParameterList(torch.zeros(THETA_DIM) for _ in population)
        self.optimizer = torch.optim.AdamW(self.parameters(), rate, weight_decay=1e-4)

    def emulate(self, number: int, values: Tensor) -> tuple[Tensor, Tensor]:
        theta = self.thetas[number].expand(*values.shape[:2], -1)
        states = self.rnn(torch.cat([values, theta], dim=-1))[0]
        return self.maps[number](states), self.head(states)

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
    """Mean hidden R² and agreement on test data; all sequences of the digits have one length."""
    test = population.dataset(population[0]).test.inputs
    errors, agreements = [], []
    for number, base in enumerate(population):
        wanted, (states, outputs) = base.model.trajectory(test), emulate(number, test.values)
        errors.append(float(unexplained_share(states.flatten(0, 1), wanted.states[0].flatten(0, 1))))
        equal = outputs[:, -1].argmax(-1) == wanted.outputs[:, -1].argmax(-1)
        agreements.append(float(equal.float().mean()))
    return 1 - sum(errors) / len(errors), sum(agreements) / len(agreements)


def ari(thetas: Any, population: Population) -> float:
    places = torch.stack([theta.detach() for theta in thetas]).numpy()
    groups = [base.labels["original"] for base in population]
    found = KMeans(len(set(groups)), n_init=50, random_state=0).fit_predict(places)
    return float(adjusted_rand_score(groups, found))


def time_to_quality(count: int, seeds: int, steps_each: int, hidden: int = 64) -> None:
    population = copies_of("gru", originals=count // 4)
    for seed in range(seeds):
        plains = []
        for rate in RATES:
            plain = Plain(population, hidden, rate, steps_each * count, seed)
            wall, started = perf_counter(), process_time()
            for step in range(plain.steps):
                plain.advance(step)
            spent = (process_time() - started, perf_counter() - wall)
            plains.append((*quality(population, plain.emulate), spent, rate, ari(plain.thetas, population)))
        r2, agreement, spent, rate, plain_ari = max(plains, key=lambda entry: entry[0] + entry[1])
        row = [count, seed, f"{r2:.3f}, {agreement:.3f}", f"{rate:g}", f"{spent[0]:.1f}", f"{spent[1]:.0f}"]
        trainer, ours, figures = _reach(population, hidden, seed, r2, agreement)
        row += [f"{figures[0]:.3f}, {figures[1]:.3f}", f"{trainer.options.learning_rate:g}", trainer.step]
        row += [f"{ours[0]:.1f}", f"{ours[1]:.0f}", f"{spent[0] / ours[0]:.1f}", f"{spent[1] / ours[1]:.1f}"]
        row += [f"{plain_ari:.2f}", f"{ari(trainer.emulator.thetas, population):.2f}"]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def _reach(
    population: Population, hidden: int, seed: int, r2: float, agreement: float
) -> tuple[Trainer, tuple[float, float], tuple[float, float]]:
    """The shortest fit that reaches both figures, its processor and wall seconds, and its own figures."""
    for steps in BUDGETS:
        for rate in RATES[::-1]:
            changed = {"meta_model": f"gru:hidden_size={hidden}", "steps": steps, "learning_rate": rate, "seed": seed}
            changed |= {"batch_size": BATCH, "models_per_step": min(MODELS, len(population))}
            wall, started = perf_counter(), process_time()
            trainer = Trainer(population, FitOptions(**{**PRESETS["laptop"], **changed}))
            trainer.run()
            spent = (process_time() - started, perf_counter() - wall)
            figures = quality(population, partial(_emulate, trainer))
            if figures[0] >= r2 and figures[1] >= agreement:
                return trainer, spent, figures
    raise SystemExit(f"{len(population)} models: not reached within {BUDGETS[-1]} steps")


@torch.no_grad()
def _emulate(trainer: Trainer, number: int, values: Tensor) -> tuple[Tensor, Tensor]:
    emulator = trainer.emulator
    theta = emulator.thetas[number].expand(len(values), -1)
    states = emulator.meta_model.states(Inputs(values, torch.ones(values.shape[:2], dtype=torch.bool)), theta)[0]
    return emulator.maps_of(number)[0](states), emulator.head_of(number)(states)


class Layer:
    """The meta-model's states by torch's own layer, or by ours."""

    def __init__(self, fast: bool) -> None:
        self.run = MetaGRU._fast_states if fast else MetaGRU.plain_states

    def __enter__(self) -> None:
        self.before = MetaGRU._fast_states
        MetaGRU._fast_states = self.run  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        MetaGRU._fast_states = self.before  # type: ignore[method-assign]


# Steps, FLOPs and memory. --------------------------------------------------------------------------------------------


def random_population(count: int, examples: int) -> Population:
    """Untrained GRUs on random words, 8 to 24 of them: what a step costs does not depend on what they say."""
    generator = torch.Generator().manual_seed(0)

    def part(size: int) -> Examples:
        lengths = torch.randint(8, STEPS + 1, (size, 1), generator=generator)
        lengths[0] = STEPS
        mask = torch.arange(STEPS) < lengths
        words = torch.randint(VOCABULARY, (size, STEPS), generator=generator)
        return Examples(Inputs(words * mask, mask), torch.randint(2, (size,), generator=generator))

    data = Dataset(InputSpace("tokens", (VOCABULARY,)), OutputSpace("classes", 2), part(2 * examples), part(8))
    torch.manual_seed(0)
    spec = Spec("gru", {"hidden_size": BASE, "embedding_size": 32})
    models = [make("architecture", spec, DynamicalModel, data.inputs, data.outputs) for _ in range(count)]
    return Population([BaseModel(f"m{n}", model.eval(), data) for n, model in enumerate(models)])


def flops(hidden: int, batch: int, rows: int) -> float:
    """Of the matrix products of a step, forward and backward: ``rows`` inputs meet their weights, every example's θ
    once or at every step, and all states the hidden weights, V_n and the head.
    """
    states = batch * STEPS
    theta = batch if rows < states else states
    forward = 3 * hidden * (rows * EMBEDDING + theta * THETA_DIM + states * hidden) + states * hidden * (BASE + 2)
    return 3 * 2 * forward


def peak_flops(size: int = 1024, repeats: int = 5) -> float:
    left, right = torch.randn(2, size, size).unbind()
    return 2 * size**3 / median(_seconds(lambda: left @ right) for _ in range(repeats + 1))


def _seconds(run: Callable[[], object]) -> float:
    started = process_time()
    run()
    return process_time() - started


def share_of_peak(hidden: int, batch: int, repeats: int) -> None:
    population = random_population(20, 256)
    settings: dict[str, Any] = {**PRESETS["laptop"], "batch_size": batch}
    settings["meta_model"] = f"gru:hidden_size={hidden},embedding_size={EMBEDDING}"
    precisions = ("float32", "float32", "bfloat16")
    trainers = [Trainer(population, FitOptions(**settings, precision=precision)) for precision in precisions]
    for trainer in trainers:
        trainer.recordings = trainers[0].recordings
    layers = [Layer(False), Layer(True), Layer(False)]
    rounds = []
    for _ in range(repeats + 1):
        times = []
        for trainer, layer in zip(trainers, layers, strict=True):
            with layer:
                times.append(_seconds(trainer._advance))
        rounds.append([1 / peak_flops(), *times])
    examples = batch // 20 * 20
    plain, needed = (flops(hidden, examples, rows) for rows in (examples * STEPS, VOCABULARY))
    names = {"torch's layer": plain, "ours": needed, "torch's layer, bfloat16": plain}
    for place, (name, made) in enumerate(names.items(), 1):
        seconds = median(row[place] for row in rounds[1:])
        row = [hidden, batch, name, f"{1000 * seconds:.0f}", f"{1 / seconds:.1f}", f"{examples / seconds:,.0f}"]
        row += [f"{median(entry[1] / entry[place] for entry in rounds[1:]):.2f}", f"{made / 1e9:.1f}"]
        row += [f"{median(count / entry[place] * entry[0] for entry in rounds[1:]):.2f}" for count in (made, plain)]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def cost(count: int, recording: str, repeats: int, examples: int = 64) -> dict[str, float]:
    """Of a step with 8 models of ``count``; run in a process of its own."""
    population = random_population(count, examples)
    batch, options = 256, {**PRESETS["laptop"], "models_per_step": min(8, count), "recording": recording}
    before = _resident("VmRSS")
    with TemporaryDirectory() as folder:
        trainer = Trainer(population, FitOptions(**options))
        made = _seconds(lambda: trainer.record(Path(folder)))
        trainer.emulator.train()
        seconds = [_seconds(trainer._advance) for _ in range(repeats + 2)][2:]
        return {
            "step": median(seconds),
            "record": made / count,
            "epoch": median(seconds) * examples / batch,
            "before": before,
            "own": _resident("RssAnon"),
            "peak": _resident("VmHWM"),
        }


def _resident(name: str) -> float:
    """MiB of this process that are in memory (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def cost_against_count(counts: list[int], repeats: int) -> None:
    for count in counts:
        for recording in ("memory", "disk"):
            command = [sys.executable, __file__, "--one", str(count), recording, str(repeats)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            figures = [f"{1000 * found[name]:.1f}" for name in ("step", "epoch", "record")]
            figures += [f"{found[name]:,.0f}" for name in ("before", "own", "peak")]
            print("| " + " | ".join([str(count), recording, *figures]) + " |", flush=True)


def header(*columns: str) -> None:
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers, under a minute: does it run?")
    parser.add_argument("--parts", nargs="+", default=["peak", "cost", "quality"], help="which parts")
    parser.add_argument("--models", type=int, nargs="+", default=[8, 32, 128], help="in the time to a quality")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the time to a quality")
    parser.add_argument("--repeats", type=int, default=7, help="steps that are counted; more come before")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        print(json.dumps(cost(int(given.one[0]), given.one[1], int(given.one[2]))))
        return
    if "peak" in given.parts:
        print(f"one thread, float32, 1,024 x 1,024: {peak_flops() / 1e9:.0f} GFLOPs a second")
        header(
            "hidden", "batch", "meta-model", "ms a step", "steps/s", "examples/s", "faster", "GFLOPs", "peak", "plain"
        )
        for hidden, batch in [(128, 256)] if given.quick else [(128, 128), (128, 256), (512, 128), (512, 256)]:
            share_of_peak(hidden, batch, 2 if given.quick else given.repeats)
    if "cost" in given.parts:
        header(
            "models", "recording", "ms a step", "ms a model and epoch", "ms a recording", "before", "own", "peak MiB"
        )
        cost_against_count([8, 32] if given.quick else [8, 32, 128, 512], given.repeats)
    if "quality" in given.parts:
        plain = ("models", "seed", "R², agreement", "plain rate", "plain CPU s", "wall s")
        ours = ("R², agreement", "rate", "steps", "CPU s", "wall s")
        header(*plain, *ours, "times faster", "by the wall", "ARI plain", "ARI trainer")
        for count in [8] if given.quick else given.models:
            time_to_quality(count, 1 if given.quick else given.seeds, 30 if given.quick else 60)


if __name__ == "__main__":
    main()
