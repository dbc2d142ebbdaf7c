"""What do channels last and bfloat16 change in the time of the residual meta-model on a CPU?

python benchmarks/precision.py

Measured is one pass forward and backward in training mode: the time of the processor in one thread, with the variants
taken in turn, so that other work on the machine disturbs the comparison little.
"""

import argparse
from collections.abc import Callable
from itertools import product
from statistics import median
from time import process_time

import torch

from dynamo import InputSpace, MetaModel
from dynamo.registry import make
from dynamo.testing import example_inputs

CASES = {"resnet:layers=1+1+1,width=16": 128, "resnet:variant=resnet18": 32}
IMAGES, THETA_DIM = InputSpace("image", (3, 32, 32)), 16


def prepare(spec: str, batch: int, channels_last: bool, bfloat16: bool) -> Callable[[], float]:
    """A function that makes one pass and gives its milliseconds."""
    torch.manual_seed(0)
    model = make("meta-model", spec, MetaModel, IMAGES, THETA_DIM).train()
    inputs = example_inputs(IMAGES, batch=batch)
    theta = torch.randn(batch, THETA_DIM, requires_grad=True)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.with_values(inputs.values.contiguous(memory_format=torch.channels_last))

    def run() -> float:
        model.zero_grad(set_to_none=True)
        started = process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            states = model.states(inputs, theta)
            features = model.features(states)
        torch.stack([part.float().square().mean() for part in (*states, features)]).sum().backward()
        return 1000 * (process_time() - started)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="passes that are counted; one more comes before")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| meta-model | batch | precision | memory format | median ms | least ms | speed-up |")
    print("|---|---|---|---|---|---|---|")
    for spec, batch in CASES.items():
        variants = list(product(("float32", "bfloat16"), ("contiguous", "channels last")))
        runs = [prepare(spec, batch, layout == "channels last", kind == "bfloat16") for kind, layout in variants]
        rounds = [[run() for run in runs] for _ in range(given.repeats + 1)]
        columns = list(zip(*rounds[1:], strict=True))
        for names, times in zip(variants, columns, strict=True):
            figures = [f"{median(times):.0f}", f"{min(times):.0f}", f"{median(columns[0]) / median(times):.2f}"]
            print("| " + " | ".join([f"`{spec}`", str(batch), *names, *figures]) + " |", flush=True)


if __name__ == "__main__":
    main()
