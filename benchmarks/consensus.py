"""How far do the networks of a population agree with one another? The yardstick for the agreement of their emulators.

python benchmarks/consensus.py figure3/population --by fraction architecture task checkpoints
"""

import argparse
from itertools import combinations
from pathlib import Path
from statistics import fmean

import torch

from dynamo import Population
from dynamo.population.recording import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("population", type=Path)
    parser.add_argument("--by", nargs="+", required=True, help="labels that name the groups")
    given = parser.parse_args()
    population = Population.load(given.population)
    groups: dict[tuple[object, ...], list[torch.Tensor]] = {}
    for base in population:
        outputs = run(base.model, population.dataset(base).test.inputs).at_readout(base.outputs.readout)
        groups.setdefault(tuple(base.metadata[key] for key in given.by), []).append(outputs.log_softmax(-1))
    print("| " + " | ".join([*given.by, "networks", "two networks agree", "a network agrees with the ensemble"]) + " |")
    print("|" + "---|" * (len(given.by) + 3))
    for group, outputs in groups.items():
        decisions = [output.argmax(-1) for output in outputs]
        pairs = [float((one == two).float().mean()) for one, two in combinations(decisions, 2)]
        ensemble = torch.stack([output.exp() for output in outputs]).mean(0).argmax(-1)
        whole = [float((one == ensemble).float().mean()) for one in decisions]
        figures = [str(len(outputs)), f"{fmean(pairs):.3f}" if pairs else "", f"{fmean(whole):.3f}"]
        print("| " + " | ".join([*map(str, group), *figures]) + " |")


if __name__ == "__main__":
    main()
