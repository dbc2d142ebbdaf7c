"""What does a fit by many processes cost, and what does it gain?

python benchmarks/processes.py                   # the bytes of each part, the all-reduce, and two processes beside one
python benchmarks/processes.py --only bytes
python benchmarks/processes.py --only plan       # many base models on many GPUs, from counted bytes and FLOPs

The parts are counted on real meta-models, state maps and optimisers, recordings on a few examples of full length. Two
processes are started once, with one thread each; in them one process' steps and those of both alternate, so that a busy
machine slows both.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean, median
from time import perf_counter, process_time

import attrs
import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from dynamo import Dataset, Examples, FitOptions, InputSpace, OutputSpace, Population, Trainer
from dynamo.contracts.protocols import DynamicalModel
from dynamo.fit.torch_processes import TorchProcesses
from dynamo.registry import make
from dynamo.system.process_group import ProcessGroup, SingleProcess
from dynamo.testing import example_inputs
from dynamo.training.presets import PRESETS

COUNTED = 4


@attrs.frozen
class Setting:
    """A kind of base model, and the preset that fits a meta-model to it.

    Attributes:
        architecture: of the base models.
        inputs, outputs: their spaces.
        length: steps of the longest sequences; 1 for images.
        probes: inputs of each base model's recording.
        preset: of the fit.
    """

    architecture: str
    inputs: InputSpace
    outputs: OutputSpace
    length: int
    probes: int
    preset: str

    def trainer(self, models: int, examples: int, processes: ProcessGroup | None = None, **options: object) -> Trainer:
        """For base models that are not trained, on random inputs of full length."""
        torch.manual_seed(0)
        inputs = example_inputs(self.inputs, batch=examples, steps=self.length)
        inputs = attrs.evolve(inputs, mask=torch.ones_like(inputs.mask))
        data = Examples(inputs, torch.arange(examples) % self.outputs.size)
        networks = {
            f"base-{number}": make("architecture", self.architecture, DynamicalModel, self.inputs, self.outputs)
            for number in range(models)
        }
        population = Population.of(networks, Dataset(self.inputs, self.outputs, data, data[:2]))
        return Trainer(population, FitOptions(**{**PRESETS[self.preset], **options}), processes=processes)


SETTINGS = {
    "texts, laptop": Setting(
        "gru:hidden_size=64", InputSpace("tokens", (2000,)), OutputSpace("classes", 2), 32, 900, "laptop"
    ),
    "IMDB, paper": Setting("gru", InputSpace("tokens", (10000,)), OutputSpace("classes", 2), 200, 12500, "paper"),
    "CIFAR-100, paper": Setting(
        "resnet:variant=resnet34", InputSpace("image", (3, 32, 32)), OutputSpace("classes", 100), 1, 25000, "paper-cnn"
    ),
}
#: Fits whose steps are timed: setting, base models, options.
TIMED = {
    "texts, laptop": ("texts, laptop", 16, {"batch_size": 256}),
    "texts, laptop, 4 times the batch": ("texts, laptop", 16, {"batch_size": 1024}),
}


def size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def count_bytes() -> dict[str, int]:
    """Print the bytes of each part; returns those of the all-reduce."""
    print("| | base model | V_n | θ_n | its optimiser | recording, float32 | all-reduce a step |")
    print("|---|---|---|---|---|---|---|")
    payloads = {}
    for name, setting in SETTINGS.items():
        trainer = setting.trainer(1, 2 * COUNTED, steps=1, batch_size=COUNTED, recording="memory")
        trainer.run()
        emulator, recording = trainer.emulator, trainer.recordings[0].trajectory
        maps = list(emulator.state_maps[0].parameters())
        own = [emulator.thetas[0], *maps]
        state = trainer._annealed.optimizer.state
        moments = size(value for parameter in own for value in state[parameter].values() if torch.is_tensor(value))
        recorded = size([*recording.states, recording.outputs, recording.mask]) * setting.probes // COUNTED
        common = [*emulator.meta_model.parameters(), *emulator.heads.parameters()]
        payloads[name] = size([*common, *emulator.meta_model.buffers(), *emulator.heads.buffers()]) + 4 * len(common)
        base = size(trainer.population[0].model.state_dict().values())
        figures = [base, size(maps), size([emulator.thetas[0]]), moments, recorded, payloads[name]]
        print("| " + " | ".join([name, *(f"{figure:,}" for figure in figures)]) + " |", flush=True)
    return payloads


@attrs.frozen
class Plan:
    """A large fit, and what is assumed of the machines: ``flops`` that a GPU does in a second, and bytes that leave or
    enter a machine in a second, through which the ranks' ring passes once.
    """

    models: int = 10_000
    ranks: int = 64
    models_per_step: int = 2048
    examples: int = 4
    flops: float = 10e12
    network: float = 12.5e9


#: Examples that each base model sees in a fit: 100 epochs of 12,500 texts (Table 1); 2^16 batches of 512 images shared
#: by the 20 networks of figure 10 (Table 2).
SEEN = {"IMDB, paper": 100 * 12500, "CIFAR-100, paper": 2**16 * 512 // 20}
#: FLOPs of an example, the backward pass counted as two forward passes: for IMDB the products of the meta-model's GRU,
#: of V_n and (forward) of the base model over 200 steps; for CIFAR-100 those that paper_size.py counts.
FLOPS = {
    "IMDB, paper": 200 * 2 * (3 * (3 * 512 * (256 + 16 + 512) + 512 * 256) + 3 * 256 * (256 + 256)),
    "CIFAR-100, paper": 8.2e9 + 2.3e9,
}


def plan(p: Plan) -> None:
    """Print memory, traffic and time of a large fit with base models live."""
    own, share = -(-p.models // p.ranks), p.models_per_step / p.ranks
    draws = (np.random.default_rng([0, step]).choice(p.models, p.models_per_step, replace=False) for step in range(200))
    slowest = fmean(np.bincount(drawn % p.ranks).max() for drawn in draws) / share
    print(f"{own} models a rank; in a step the slowest rank has {slowest:.2f} times the mean\n")
    for name, seen in SEEN.items():
        trainer = SETTINGS[name].trainer(1, 4, steps=1, batch_size=2, recording="live")
        trainer.run()
        emulator, state = trainer.emulator, trainer._annealed.optimizer.state

        def kept(parameters: Sequence[torch.Tensor], state: Mapping[torch.Tensor, dict[str, object]] = state) -> int:
            moments = (value for part in parameters for value in state[part].values() if torch.is_tensor(value))
            return size([*parameters, *moments])

        common = [*emulator.meta_model.parameters(), *emulator.heads.parameters()]
        mine = [emulator.thetas[0], *emulator.state_maps[0].parameters()]
        base, payload = size(trainer.population[0].model.state_dict().values()), size(common)
        compute = slowest * share * p.examples * FLOPS[name] / p.flops
        traffic = 2 * payload * (p.ranks - 1) / p.ranks
        steps = p.models * seen / p.models_per_step / p.examples
        parts = {
            "V, theta and their optimiser": own * kept(mine),
            "gradients of these": slowest * share * size(mine),
            "base models": own * base,
            "meta-model, its gradients (twice) and optimiser": kept(common) + 2 * payload,
            "checkpoint": p.models * kept(mine) + kept(common),
            "fit": p.models * size(mine) + payload,
            "population": p.models * base,
        }
        print(f"{name}\n" + "".join(f"- {part}: {count / 1e9:.2f} GB\n" for part, count in parts.items()), end="")
        print(
            f"- a step: {1e3 * compute:.0f} ms, all-reduce {traffic / 1e6:.0f} MB in {1e3 * traffic / p.network:.1f} ms"
        )
        hours = steps * (compute + traffic / p.network) / 3600
        print(f"- the fit: {steps:,.0f} steps, {p.models * seen * FLOPS[name]:.1e} FLOPs, {hours:.0f} hours")


def timed(work: Callable[[], None]) -> tuple[float, float]:
    before = perf_counter(), process_time()
    work()
    return perf_counter() - before[0], process_time() - before[1]


def work(rank: int, meeting: str, payloads: dict[str, int], pairs: int, steps: int) -> None:
    """One of two processes; rank 0 prints."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(minutes=30)
    )
    processes = TorchProcesses()
    if rank == 0:
        print("\n| all-reduce of | MB | median ms | least ms | processor ms |\n|---|---|---|---|---|")
    for name, payload in {"one number": 4, **payloads}.items():
        values = torch.ones(payload // 4)
        found = [timed(lambda values=values: processes.add(values)) for _ in range(12)][2:]
        wall, processor = zip(*found, strict=True)
        if rank == 0:
            figures = [
                f"{payload / 1e6:.2f}",
                *(f"{1e3 * f:.2f}" for f in (median(wall), min(wall), median(processor))),
            ]
            print("| " + " | ".join([name, *figures]) + " |", flush=True)
    if rank == 0:
        print("\n| fit | processes | ms a step | processor ms a step, rank 0 + rank 1 | wall speed-up | processor |")
        print("|---|---|---|---|---|---|")
    for name, (setting, models, options) in TIMED.items():
        compare(name, SETTINGS[setting], models, {**options, "steps": steps + 1}, processes, pairs)
    dist.destroy_process_group()


def compare(
    name: str, setting: Setting, models: int, options: dict[str, object], processes: TorchProcesses, pairs: int
) -> None:
    """Steps by one process and by both, in turn."""
    recordings = setting.trainer(models, 256, **options).recordings
    walls: dict[int, list[float]] = {1: [], 2: []}
    processors: dict[int, list[Sequence[float]]] = {1: [], 2: []}
    for _ in range(pairs):
        for count, group in ((1, SingleProcess()), (2, processes)):
            moments = []
            if count == 2 or processes.rank == 0:
                trainer = setting.trainer(models, 256, group, **options)
                trainer._recordings = recordings
                trainer.run(progress=lambda *_, m=moments: m.append((perf_counter(), process_time())))
            spent = [last - first for first, last in zip(*moments[:: len(moments) - 1], strict=True)] or [0.0, 0.0]
            both = processes.gather(spent)
            if processes.rank == 0:
                walls[count].append(both[0][0] / (len(moments) - 1))
                processors[count].append([times[1] / (len(moments) - 1) for times in both])
    if processes.rank == 0:
        for count in (1, 2):
            each = [1e3 * median(times[rank] for times in processors[count]) for rank in range(2)]
            speed = median(one / two for one, two in zip(walls[1], walls[count], strict=True))
            cost = median(sum(two) / sum(one) for one, two in zip(processors[1], processors[count], strict=True))
            text = f"{each[0]:.0f} + {each[1]:.0f}" if count == 2 else f"{each[0]:.0f}"
            print(
                f"| {name} | {count} | {1e3 * median(walls[count]):.0f} | {text} | {speed:.2f} | {cost:.2f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["bytes", "plan"], help="one of the parts")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of one process and two")
    parser.add_argument("--steps", type=int, default=8, help="steps of each, after one that is not counted")
    parser.add_argument("--tflops", type=float, default=10.0, help="10^12 FLOPs a second that a GPU is assumed to do")
    given = parser.parse_args()
    if given.only == "plan":
        plan(Plan(flops=given.tflops * 1e12))
        return
    payloads = count_bytes()
    if given.only != "bytes":
        with tempfile.TemporaryDirectory() as folder:
            spawn(work, (str(Path(folder) / "meeting"), payloads, given.pairs, given.steps), 2)


if __name__ == "__main__":
    main()
