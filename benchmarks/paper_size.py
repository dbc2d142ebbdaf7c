"""What does the paper's setting for CNNs cost at full size? (Table 2 and figure 10: ResNet-34, ResNet-50, CIFAR-100)

python benchmarks/paper_size.py --batch-size 32 64

Takes optimiser steps with the preset `paper-cnn`, which runs base models live, on random images of CIFAR-100's form,
in a new process for each batch size; tells parameters, FLOPs, memory and time. FLOPs are those of convolutions and
matrix products, two for each multiplication with its addition; they do not depend on the values of weights and images.
"""

import argparse
import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import fmean
from time import perf_counter, process_time

import attrs
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dynamo import Dataset, Examples, FitOptions, InputSpace, OutputSpace, Population, Trainer
from dynamo.contracts.protocols import DynamicalModel
from dynamo.registry import make
from dynamo.testing import example_inputs
from dynamo.training.presets import PRESETS

IMAGES, CLASSES = InputSpace("image", (3, 32, 32)), OutputSpace("classes", 100)
BASE_MODEL, BASE_MODELS, STEPS = "resnet:variant=resnet34", 2, 2
#: Images that there are, and of which FLOPs are counted; those of a batch are drawn with replacement.
EXAMPLES, COUNTED = 64, 2
BATCH = 512
#: CIFAR-100 gives 25,000 images to the base models: 49 batches an epoch, 1,337 epochs for 2^16 of them.
COMMANDS = """\
TRAIN="-a resnet:variant=resnet34 -d cifar100:download=true --seeds 10 --optimizer sgd --learning-rate 0.03 \\
    --batch-size 512 --epochs 1337 --device cuda"
dynamo train figure10 $TRAIN --augmentation weak --prefix weak
dynamo train figure10 $TRAIN --augmentation strong --prefix strong
for DISTANCE in l1 l2; do
    dynamo fit figure10 --out figure10-$DISTANCE --preset paper-cnn --hidden-divergence $DISTANCE:reduction=mean \\
        --colour-by augmentation --device cuda
done"""


@attrs.frozen
class Cost:
    """What the setting costs at one batch size.

    Attributes:
        base, meta, maps: parameters of a base model, of the meta-model with its head, and of one base model's V_n.
        flops: of the meta-model and the state maps for one image, forward and backward.
        base_flops: of a base model for one image, forward.
        ready, peak: the process's largest memory in MiB before the first step, and after the last.
        seconds, processor: the wall time and the processor's time of the last step.
    """

    base: int
    meta: int
    maps: int
    flops: float
    base_flops: float
    ready: float
    peak: float
    seconds: float
    processor: float

    @property
    def image(self) -> float:
        """FLOPs of a step for one image."""
        return self.flops + self.base_flops


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def measure(batch_size: int, threads: int) -> Cost:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    models = {
        f"base-{number}": make("architecture", BASE_MODEL, DynamicalModel, IMAGES, CLASSES).eval().requires_grad_(False)
        for number in range(BASE_MODELS)
    }
    examples = Examples(example_inputs(IMAGES, batch=EXAMPLES), torch.arange(EXAMPLES) % CLASSES.size)
    population = Population.of(models, Dataset(IMAGES, CLASSES, examples, examples[:2]))
    trainer = Trainer(population, FitOptions(**{**PRESETS["paper-cnn"], "batch_size": batch_size, "steps": STEPS}))
    emulator, rows = trainer.emulator, torch.arange(COUNTED)
    with FlopCounterMode(display=False) as whole:
        trainer.loss(*trainer.losses([0], [rows])).backward()
    with FlopCounterMode(display=False) as base:
        trainer.recordings[0].batch(rows)
    ready, moments = peak_memory(), []
    trainer.run(progress=lambda step, steps, loss: moments.append((perf_counter(), process_time())))
    return Cost(
        parameters(models["base-0"]),
        parameters(emulator.meta_model, *emulator.heads),
        parameters(*emulator.maps_of(0)),
        (whole.get_total_flops() - base.get_total_flops()) / COUNTED,
        base.get_total_flops() / COUNTED,
        ready,
        peak_memory(),
        *(after - before for before, after in zip(*moments[-2:], strict=True)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[32, 64], help="the paper's is 512")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    parser.add_argument("--tflops", type=float, default=10.0, help="10^12 FLOPs a second that a GPU is assumed to do")
    given = parser.parse_args()
    costs: dict[int, Cost] = {}
    for batch_size in given.batch_size:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            costs[batch_size] = pool.submit(measure, batch_size, given.threads).result()
    cost = next(iter(costs.values()))
    print(f"parameters: base model {cost.base:,}, meta-model {cost.meta:,}, state maps of a base model {cost.maps:,}")
    print(f"GFLOPs an image: meta-model {cost.flops / 1e9:.2f} (forward and backward)", end=", ")
    print(f"base model {cost.base_flops / 1e9:.2f} (forward)\n")
    print("| batch | TFLOPs a step | MiB before | MiB at most | s a step | processor s | GFLOPs a second |")
    print("|---|---|---|---|---|---|---|")
    for batch_size, found in costs.items():
        flops = batch_size * found.image
        figures = [f"{flops / 1e12:.2f}", f"{found.ready:,.0f}", f"{found.peak:,.0f}", f"{found.seconds:.1f}"]
        figures += [f"{found.processor:.1f}", f"{flops / found.seconds / 1e9:.0f}"]
        print("| " + " | ".join([str(batch_size), *figures]) + " |")
    if len(costs) > 1:
        small, large = min(costs), max(costs)
        growth = (costs[large].peak - costs[small].peak) / (large - small)
        at_paper = costs[small].peak + growth * (BATCH - small)
        print(f"\nmemory grows by {growth:.1f} MiB an image: to {at_paper / 1024:.1f} GiB at {BATCH}")
    images = BATCH * 2**16
    speed = fmean(batch_size * found.image / found.seconds for batch_size, found in costs.items())
    print(f"\n{2**16:,} batches of {BATCH} images, at {given.tflops:g} TFLOPs a second and at the speed above:")
    for what, flops in (
        ("a fit", cost.image),
        ("training one base model", 3 * cost.base_flops),  # the backward pass costs twice the forward pass
    ):
        whole = images * flops
        there, here = whole / given.tflops / 1e12 / 3600, whole / speed / 86400
        print(f"- {what}: {whole / 1e18:.2f} * 10^18 FLOPs, {there:.0f} hours and {here:.0f} days")
    print(f"\nOn a machine with a GPU and CIFAR-100:\n{COMMANDS}")


if __name__ == "__main__":
    main()
