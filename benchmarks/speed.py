"""How fast is a step of the fit, what does it cost with many models, and how near is it to what the machine can do?

peak      a training step of the trainer with the meta-model's states by torch's layer or by ours, products of matrices
          by MKL or by oneDNN, AdamW or Muon, all in turn; FLOPs of the matrix products by formula, as a share of what
          the faster library reaches with two 1,024 x 1,024 matrices in the same run. Texts of 24 words, and of 8 to 24.
cost      a step, and a model's share of an epoch, against the number of models, with recordings in memory and on disk;
          every number in processes of its own, in turn, whose memory is shown.

    python benchmarks/speed.py            # some minutes
    python benchmarks/speed.py --quick    # under one: does it run?

All in one thread and in processor time, medians of repeats that are taken in turn. The time to a quality stands in
time_to_quality.py, images in speed_images.py.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, TypeVar

import torch

from dynamo import Dataset, Examples, FitOptions, Inputs, InputSpace, OutputSpace, Population, Spec, Trainer
from dynamo.contracts.protocols import DynamicalModel
from dynamo.population.base_model import BaseModel
from dynamo.registry import make
from dynamo.system.devices import fast_products
from dynamo.training.presets import PRESETS
from dynamo_rnn.meta import MetaGRU

T = TypeVar("T")

THETA_DIM, VOCABULARY, STEPS, EMBEDDING, BASE = 16, 1000, 24, 256, 48


def random_population(count: int, examples: int, shortest: int = 8) -> Population:
    """Untrained GRUs on random words, up to 24 of them: what a step costs does not depend on what they say."""
    generator = torch.Generator().manual_seed(0)

    def part(size: int) -> Examples:
        lengths = torch.randint(shortest, STEPS + 1, (size, 1), generator=generator)
        lengths[0] = STEPS
        mask = torch.arange(STEPS) < lengths
        words = torch.randint(VOCABULARY, (size, STEPS), generator=generator)
        return Examples(Inputs(words * mask, mask), torch.randint(2, (size,), generator=generator))

    data = Dataset(InputSpace("tokens", (VOCABULARY,)), OutputSpace("classes", 2), part(2 * examples), part(8))
    torch.manual_seed(0)
    spec = Spec("gru", {"hidden_size": BASE, "embedding_size": 32})
    models = [make("architecture", spec, DynamicalModel, data.inputs, data.outputs) for _ in range(count)]
    return Population([BaseModel(f"m{n}", model.eval(), data) for n, model in enumerate(models)])


def seconds(run: Callable[[], object]) -> float:
    """Of the processor."""
    return timed(run)[1][0]


def timed(run: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """What it gives; processor and wall seconds."""
    wall, started = perf_counter(), process_time()
    made = run()
    return made, (process_time() - started, perf_counter() - wall)


# Share of the peak. --------------------------------------------------------------------------------------------------


@contextmanager
def products(library: str) -> Iterator[None]:
    """The library that multiplies matrices."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if library == "MKL" else "medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def peak_flops(library: str, size: int = 1024, repeats: int = 5) -> float:
    left, right = torch.randn(2, size, size).unbind()
    with products(library):
        return 2 * size**3 / median(seconds(lambda: left @ right) for _ in range(repeats + 1))


def best_peak() -> float:
    """By the faster library."""
    return max(peak_flops(library) for library in ("MKL", "oneDNN"))


@contextmanager
def torchs_layer() -> Iterator[None]:
    """The meta-model's states by torch's own layer."""
    before = MetaGRU._fast_states
    MetaGRU._fast_states = lambda self, inputs, theta: self.plain_states(inputs.values, theta)  # type: ignore[method-assign]
    try:
        yield
    finally:
        MetaGRU._fast_states = before  # type: ignore[method-assign]


def forward_backward(hidden: int, states: float, inputs: float, thetas: float, read: float) -> float:
    """FLOPs of the matrix products of a step, forward and backward: so many states meet the hidden weights, so many
    inputs and thetas theirs, and so many states V_n and the head.
    """
    forward = 3 * hidden * (inputs * EMBEDDING + thetas * THETA_DIM + states * hidden) + read * hidden * (BASE + 2)
    return 3 * 2 * forward


def muon(hidden: int, models: int) -> float:
    """FLOPs of Muon's products: five times, for each matrix, its square, the square of that and the result."""
    shapes = [(3 * hidden, hidden), (3 * hidden, EMBEDDING + THETA_DIM), (2, hidden)] + models * [(BASE, hidden)]
    return sum(5 * (4 * min(shape) ** 2 * max(shape) + 2 * min(shape) ** 3) for shape in shapes)


PLAIN = "torch's layer"
VARIANTS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    PLAIN: ("MKL", True, {}),
    "ours": ("MKL", False, {}),
    "ours, oneDNN": ("oneDNN", False, {}),
    "ours, oneDNN, Muon": ("oneDNN", False, {"optimizer": "muon"}),
    "torch's layer, bfloat16": ("MKL", True, {"precision": "bfloat16"}),
}


def share_of_peak(hidden: int, batch: int, shortest: int, repeats: int) -> None:
    population = random_population(20, 256, shortest)
    settings: dict[str, Any] = {**PRESETS["laptop"], "optimizer": "adamw", "batch_size": batch}
    settings["meta_model"] = f"gru:hidden_size={hidden},embedding_size={EMBEDDING}"
    trainers = {
        name: Trainer(population, FitOptions(**{**settings, **changes})) for name, (_, _, changes) in VARIANTS.items()
    }
    first = next(iter(trainers.values()))
    for trainer in trainers.values():
        trainer._recordings = first.recordings
    rounds: list[dict[str, float]] = []
    for _ in range(repeats + 1):
        times = {"peak": best_peak()}
        for name, trainer in trainers.items():
            library, plain, _ = VARIANTS[name]
            with products(library):
                if plain:
                    with torchs_layer():
                        times[name] = seconds(trainer._advance)
                else:
                    times[name] = seconds(trainer._advance)
        rounds.append(times)
    rounds = rounds[1:]
    examples = batch // 20 * 20
    padded = examples * STEPS
    real = float(first.recordings[0].batch(torch.arange(256))[0].mask.sum(1).float().mean()) * examples
    for name in trainers:
        made = forward_backward(hidden, real, VOCABULARY, examples, padded)
        if VARIANTS[name][1]:
            made = forward_backward(hidden, padded, padded, padded, padded)
        made += muon(hidden, 20) if "Muon" in name else 0
        middle = median(row[name] for row in rounds)
        row = [hidden, batch, f"{shortest} to {STEPS}" if shortest < STEPS else STEPS, name, f"{1000 * middle:.0f}"]
        row += [f"{1 / middle:.1f}", f"{examples / middle:,.0f}"]
        row += [f"{median(entry[PLAIN] / entry[name] for entry in rounds):.2f}"]
        row += [f"{made / 1e9:.1f}", f"{median(made / entry[name] / entry['peak'] for entry in rounds):.2f}"]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


# Cost against the number of models. ----------------------------------------------------------------------------------


def cost(count: int, recording: str, repeats: int, examples: int = 64) -> dict[str, float]:
    """Of a step with 8 models of ``count``; run in a process of its own."""
    options = {**PRESETS["laptop"], "batch_size": 256, "models_per_step": min(8, count), "recording": recording}
    return cost_of(random_population(count, examples), FitOptions(**options), repeats, examples)


def cost_of(population: Population, options: FitOptions, repeats: int, examples: int) -> dict[str, float]:
    """Seconds of a step, of a recording and of a model's share of an epoch with so many examples, and MiB."""
    before = _resident("VmRSS")
    with TemporaryDirectory() as folder:
        trainer = Trainer(population, options)
        made = seconds(lambda: trainer.record(Path(folder)))
        trainer.emulator.train()
        with fast_products(torch.device("cpu")):
            times = [seconds(trainer._advance) for _ in range(repeats + 2)][2:]
        return {
            "step": median(times),
            "record": made / len(population),
            "epoch": median(times) * examples / options.batch_size,
            "before": before,
            "own": _resident("RssAnon"),
            "peak": _resident("VmHWM"),
        }


def _resident(name: str) -> float:
    """MiB of this process that are in memory (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


Kind = tuple[int, str]


def costs_in_turn(
    script: str, kinds: Sequence[Kind], processes: int, repeats: int
) -> dict[Kind, list[dict[str, float]]]:
    """What ``script --one MODELS RECORDING REPEATS`` prints, in several processes for each kind, in turn."""
    found: dict[Kind, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(processes):
        for kind in kinds:
            command = [sys.executable, script, "--one", *map(str, kind), str(repeats)]
            found[kind].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return found


def cost_against_count(counts: list[int], processes: int, repeats: int) -> None:
    kinds = [(count, recording) for count in counts for recording in ("memory", "disk")]
    found = costs_in_turn(__file__, kinds, processes, repeats)
    for (count, recording), rows in found.items():
        figures = [f"{1000 * median(row[name] for row in rows):.1f}" for name in ("step", "epoch", "record")]
        base = found[counts[0], recording]
        ratios = [row["epoch"] / first["epoch"] for row, first in zip(rows, base, strict=True)]
        figures += [f"{median(ratios):.2f}"]
        figures += [f"{median(row[name] for row in rows):,.0f}" for name in ("before", "own", "peak")]
        print("| " + " | ".join([str(count), recording, *figures]) + " |", flush=True)


def header(*columns: str) -> None:
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers, under a minute: does it run?")
    parser.add_argument("--parts", nargs="+", default=["peak", "cost"], help="which parts")
    parser.add_argument("--repeats", type=int, default=7, help="steps that are counted; more come before")
    parser.add_argument("--processes", type=int, default=5, help="of each number of models")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        print(json.dumps(cost(int(given.one[0]), given.one[1], int(given.one[2]))))
        return
    if "peak" in given.parts:
        rates = ", ".join(f"{library} {peak_flops(library) / 1e9:.0f}" for library in ("MKL", "oneDNN"))
        print(f"one thread, float32, 1,024 x 1,024: {rates} GFLOPs a second")
        columns = ("hidden", "batch", "words", "meta-model", "ms a step", "steps/s", "examples/s", "faster")
        header(*columns, "GFLOPs made", "of the peak")
        sizes = [(128, 256)] if given.quick else [(128, 128), (128, 256), (512, 128), (512, 256)]
        for hidden, batch in sizes:
            for shortest in (STEPS, 8):
                share_of_peak(hidden, batch, shortest, 2 if given.quick else given.repeats)
    if "cost" in given.parts:
        columns = ("models", "recording", "ms a step", "ms a model and epoch", "ms a recording", "to the first row")
        header(*columns, "MiB before", "own", "peak")
        counts = [8, 32] if given.quick else [8, 32, 128, 512]
        cost_against_count(counts, 1 if given.quick else given.processes, given.repeats)


if __name__ == "__main__":
    main()
