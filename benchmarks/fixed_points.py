"""How many fixed points are found, and at what cost? Networks that were trained on the 3-bit flip-flop, against
FixedPointFinder (M. Golub and D. Sussillo, 2018) on the same network, the same starts and by the same criterion.

python benchmarks/fixed_points.py --out fixed-points --finder PATH

PATH is a checkout of https://github.com/mattgolub/fixed-point-finder; without it only our own methods are run. Its
learning rate and number of iterations are searched, and the setting that finds most is shown, the cheapest of several.
A point is valid if q = ½‖F(h) − h‖² < 1e-12 in double precision and all its units are inside (−1, 1). A network that
solves the task has 8 stable points, the corners of a cube; with a saddle in the middle of each edge and of each face
and one in the middle of the cube there are 27.
"""

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path

import attrs
import torch
from campaign import train
from torch import Tensor

from dynamo import Population
from dynamo.analysis.dynamics.constant_input import ConstantInput
from dynamo.analysis.dynamics.fixed_points import find_fixed_points, sample_states
from dynamo.analysis.dynamics.linearisation import linearise

TRAINING = "-d flip-flop --epochs 30 --learning-rate 0.005 --batch-size 64 --clip-norm 1"
#: Architecture, units, and how widely the starts are spread besides not at all.
NETWORKS = (("gru", 64, 0.3), ("gru", 16, 0.5), ("rnn", 16, 0.5))
STARTS, TOLERANCE, MERGE = 1024, 1e-12, 1e-3
RATES, ITERATIONS, MORE = (1.0, 0.1, 0.05, 0.02, 0.01, 0.005), (1000, 5000), 20000


@attrs.frozen
class Outcome:
    """What one way of searching found.

    Attributes:
        way: its name and setting.
        seconds: of the processor.
        points: valid points, ``[P, H]``.
        stable: how many of them are stable.
    """

    way: str
    seconds: float
    points: Tensor
    stable: int

    def lacks(self, other: "Outcome") -> int:
        """How many points of another search are not among these."""
        if len(other.points) == 0 or len(self.points) == 0:
            return len(other.points)
        return int((torch.cdist(other.points, self.points).min(1).values > 2 * MERGE).sum())


def outcome(way: str, search: Callable[..., Tensor], model: torch.nn.Module, x: Tensor, *given: object) -> Outcome:
    start = time.process_time()
    found = search(model, x, *given).double()
    seconds = time.process_time() - start
    good = (ConstantInput(model, x).speed(found) < TOLERANCE) & (found.abs() < 1).all(1)
    kept: list[Tensor] = []
    for state in found[good]:
        if not kept or float((torch.stack(kept) - state).norm(dim=1).min()) > MERGE:
            kept.append(state)
    points = torch.stack(kept) if kept else found[:0]
    return Outcome(way, seconds, points, int(linearise(model, x, points).is_stable.sum()) if kept else 0)


def ours(model: torch.nn.Module, x: Tensor, starts: Tensor, method: str) -> Tensor:
    return find_fixed_points(model, x, starts, method=method).states


def theirs(model: torch.nn.Module, x: Tensor, starts: Tensor, rate: float, iterations: int, kind: str) -> Tensor:
    from FixedPointFinderTorch import FixedPointFinderTorch

    network = deepcopy(model.rnn).to(getattr(torch, kind))
    given = starts.to(getattr(torch, kind)).numpy().copy()
    # It is asked for the states alone: what it does with them afterwards is not counted.
    options = {"do_compute_jacobians": False, "do_decompose_jacobians": False, "verbose": False}
    with contextlib.redirect_stdout(io.StringIO()):
        searching = FixedPointFinderTorch(network, lr_init=rate, max_iters=iterations, dtype=kind, **options)
        _, everything = searching.find_fixed_points(given, x[None].to(getattr(torch, kind)).numpy())
    return torch.from_numpy(everything.xstar)


def searched(model: torch.nn.Module, x: Tensor, starts: Tensor) -> Iterator[Outcome]:
    """Its outcomes over all settings, and with more iterations and in double precision at the best of them."""

    def one(rate: float, iterations: int, kind: str) -> Outcome:
        way = f"FixedPointFinder, rate {rate:g}, {iterations} iterations, {kind}"
        found = outcome(way, theirs, model, x, starts, rate, iterations, kind)
        print(f"    {found.way}: {len(found.points)} points, {found.seconds:.1f} s", flush=True)
        return found

    tried = {setting: one(*setting, "float32") for setting in product(RATES, ITERATIONS)}
    yield from tried.values()
    rate, iterations = max(tried, key=lambda setting: (len(tried[setting].points), -tried[setting].seconds))
    yield one(rate, MORE, "float32")
    yield one(rate, iterations, "float64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("fixed-points"), help="where the networks are kept")
    parser.add_argument("--finder", type=Path, default=None, help="a checkout of FixedPointFinder")
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--units", type=int, nargs="*", default=[64, 16], help="only networks of these sizes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.finder:
        sys.path.insert(0, str(given.finder))
    networks = [network for network in NETWORKS if network[1] in given.units]
    for architecture, units, _ in networks:
        train(f"-a {architecture}:hidden_size={units} --prefix flip{units} {TRAINING}", given.out / "population")
    population = Population.load(given.out / "population")
    lines = ["| network | noise | way | CPU s | valid points | stable | missed of the other's |", "|" + "---|" * 7]
    for architecture, units, spread in networks:
        name = f"flip{units}-{architecture}-100-s0"
        base = next(base for base in population if base.name == name)
        model, x = base.model, torch.zeros(3)
        for noise in (0.0, spread):
            starts = sample_states(model, population.dataset(base).test.inputs, given.starts, noise=noise)
            find_fixed_points(model, x, starts[:8])  # what is loaded on first use is not counted
            own = [outcome(f"`{method}`", ours, model, x, starts, method) for method in ("newton", "nearest")]
            print(f"{name}, noise {noise}", flush=True)
            others = list(searched(model, x, starts)) if given.finder else []
            best = max(others, key=lambda found: (len(found.points), -found.seconds), default=None)
            for found in [*own, *([best] if best else [])]:
                other = own[0] if found is best else best
                cells = [f"{architecture.upper()} {units}", noise, found.way, f"{found.seconds:.2f}"]
                cells += [len(found.points), found.stable, found.lacks(other) if other else ""]
                lines.append("| " + " | ".join(map(str, cells)) + " |")
            print("\n".join(lines[2:]), flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
