"""What does a GPU give? One command, some minutes, a table for each question.

    python benchmarks/gpu.py --out gpu-results              # about 3 minutes, on the first GPU
    python benchmarks/gpu.py --device cpu --minutes 0.3     # does it run? (the figures mean nothing)

throughput  examples a second of the fit and of Algorithm 1 in plain PyTorch on the same device, with batches of 128:
            8, 32 and 128 GRUs, 8 residual networks; how long a step takes, and how much of it the device works.
quality     seconds until the trainer is as faithful as a whole fit by the plain form (see time_to_quality.py).
batches     a step with batches sent ahead through pinned memory, with batches that the CPU waits for, and with
            recordings that are kept on the device.
paper       a step of Tables 1 and 2 at full size: time, memory, hours of the whole fit; float32, bfloat16.
maps        one population fitted on the CPU, on the device, and there in bfloat16: are the maps alike?

A good result: no fit slower than the plain form by examples a second, and faster from 8 models on; the quality reached
sooner; batches sent ahead no slower; maps on both devices with an ARI within 0.1 and distances that correlate by more
than 0.9; bfloat16 faster for residual networks at the same map. All figures go to PATH.json and PATH.md as they
come, so that nothing is lost where time runs out.
"""

import argparse
import json
import platform
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

import numpy as np
import plain_images
import time_to_quality
import torch
from known_populations import copies_of
from scipy.spatial import procrustes
from scipy.stats import spearmanr
from speed import random_population
from torch import Tensor

from dynamo import Dataset, Examples, FitOptions, Inputs, InputSpace, OutputSpace, Population, Trainer
from dynamo.contracts import trajectory
from dynamo.contracts.protocols import DynamicalModel
from dynamo.fit.fidelity import measure_fidelity
from dynamo.fit.fit import Fit
from dynamo.registry import make
from dynamo.testing import example_inputs
from dynamo.training import batch, objective, trainer
from dynamo.training.presets import PRESETS

BATCH = 128
#: Shares of the time.
PARTS = {"throughput": 0.25, "batches": 0.05, "paper": 0.2, "maps": 0.2, "quality": 0.3}
HIDDEN = 128


class Clock:
    """Time on a device."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device, self.minutes, self.until = device, minutes, perf_counter()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter()

    def give(self, share: float) -> None:
        """This share of the time from now on."""
        self.until = perf_counter() + 60 * self.minutes * share

    @property
    def left(self) -> float:
        return self.until - perf_counter()

    def step_time(self, step: Callable[[], Any], seconds: float, most: int = 200) -> float:
        """Milliseconds of a step: the median of blocks of steps, after some that are not counted."""
        for _ in range(3):
            step()
        blocks, until = [], self.now() + seconds
        while len(blocks) < 3 or (self.now() < until and sum(count for count, _ in blocks) < most):
            started = self.now()
            count = 0
            while count < 10 and (count == 0 or perf_counter() - started < 1):
                step()
                count += 1
            blocks.append((count, self.now() - started))
            if self.now() > until + 10:
                break
        return 1000 * median(spent / count for count, spent in blocks)


# The plain forms on a device. ----------------------------------------------------------------------------------------


def there(population: Population, device: torch.device) -> Population:
    """The population with its models on the device, held there."""
    data = population.dataset(population[0])
    return Population.of(
        {base.name: base.model.to(device) for base in population},
        data,
        {base.name: dict(base.metadata) for base in population},
    )


class PlainGRU(time_to_quality.Plain):
    """Algorithm 1 with all that it reads on the device, and rows drawn there: nothing is sent in a step."""

    def __init__(self, population: Population, hidden: int, rate: float, steps: int, device: torch.device) -> None:
        super().__init__(population, hidden, rate, steps, 0)
        self.to(device)
        self.probes, self.device = self.probes.to(device), device
        self.optimizer = torch.optim.AdamW(self.parameters(), rate, weight_decay=1e-4, fused=True)

    def advance(self, step: int) -> None:
        drawn = torch.randint
        with mock.patch.object(
            torch, "randint", lambda high, size: drawn(high, size, device=self.device if size else None)
        ):
            super().advance(step)


class PlainResNet(plain_images.Plain):
    """The same for residual networks."""

    def __init__(self, population: Population, device: torch.device) -> None:
        super().__init__(population, "adamw", 1e-3, 10_000, 0)
        self.to(device)
        self.probes, self.device = self.probes.to(device), device
        self.optimizer = torch.optim.AdamW(self.parameters(), 1e-3, weight_decay=1e-4, fused=True)

    def advance(self, step: int) -> None:
        drawn, ones = torch.randint, torch.ones
        with (
            mock.patch.object(
                torch, "randint", lambda high, size: drawn(high, size, device=self.device if size else None)
            ),
            mock.patch.object(torch, "ones", partial(ones, device=self.device)),
        ):
            super().advance(step)


def residual_population(count: int, examples: int = 512) -> Population:
    """Untrained residual networks on random images: what a step costs does not depend on them."""
    space, outputs = InputSpace("image", (3, 32, 32)), OutputSpace("classes", 10)
    part = Examples(example_inputs(space, batch=examples), torch.arange(examples) % 10)
    models = {}
    for number in range(count):
        torch.manual_seed(number)
        models[f"m{number}"] = make("architecture", "cifar-resnet:depth=8", DynamicalModel, space, outputs).eval()
    return Population.of(models, Dataset(space, outputs, part, part[:8]))


@contextmanager
def running(fit: Trainer) -> Iterator[Callable[[], None]]:
    """Gives a function that takes one step."""
    fit.record()
    _ = fit.scales
    fit.emulator.train()

    def step() -> None:
        fit._advance()
        if len(fit._unseen) >= fit._ahead:
            fit._look(lambda *told: None)

    with fit._random.drawn():
        yield step


def options(preset: str, where: torch.device, **changed: Any) -> FitOptions:
    return FitOptions(**{**PRESETS[preset], "device": str(where), **changed})


def busy(step: Callable[[], None], clock: Clock, steps: int = 10) -> float:
    """The share of the time in which the device works."""
    if clock.device.type != "cuda":
        return float("nan")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        started = clock.now()
        for _ in range(steps):
            step()
        spent = clock.now() - started
    return sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6 / spent


# The questions. ------------------------------------------------------------------------------------------------------


def raced(
    models: str, plain: PlainGRU | PlainResNet, fit: Trainer, examples: int, clock: Clock, seconds: float
) -> dict[str, Any]:
    """A row: steps of the plain form beside those of a fit, with so many examples each."""
    row: dict[str, Any] = {"models": models, "batch": examples}
    row["plain ms"] = clock.step_time(partial(plain.advance, 0), seconds)
    with running(fit) as step:
        row["fit ms"] = clock.step_time(step, seconds)
        row["device busy"] = busy(step, clock)
    row["plain examples/s"] = 1000 * BATCH / row["plain ms"]
    row["fit examples/s"] = 1000 * examples / row["fit ms"]
    return row


def throughput(clock: Clock, quick: bool) -> Iterator[dict[str, Any]]:
    each = clock.left / 10
    for count in (8,) if quick else (8, 32, 128):
        held = there(random_population(count, 16 * BATCH), clock.device)
        plain = PlainGRU(held, HIDDEN, 1e-3, 10_000, clock.device)
        for preset_steps, per_step in ((BATCH, None), (8 * BATCH, None)):
            chosen = options(
                "laptop", clock.device, batch_size=preset_steps, models_per_step=per_step or min(32, count)
            )
            yield raced(f"{count} GRUs", plain, Trainer(held, chosen), preset_steps, clock, each / 2)
    held = there(residual_population(8), clock.device)
    plain_images_form = PlainResNet(held, clock.device)
    for precision, last in (("float32", False), ("bfloat16", True)):
        chosen = options("laptop-cnn", clock.device, precision=precision, channels_last=last, steps=10_000)
        yield raced(f"8 ResNets, {precision}", plain_images_form, Trainer(held, chosen), BATCH, clock, each / 2)


@torch.no_grad()
def quality_of(
    held: Population, emulate: Callable[[int, Tensor], tuple[Tensor, Tensor]], device: Any
) -> tuple[float, float]:
    """See time_to_quality.quality; on the device."""
    data = held.dataset(held[0])
    moved = Dataset(data.inputs, data.outputs, data.train, Examples(data.test.inputs.to(device), data.test.targets))
    with mock.patch.object(Population, "dataset", return_value=moved):
        return time_to_quality.quality(held, emulate)


def emulated(fit: Trainer, number: int, values: Tensor) -> tuple[Tensor, Tensor]:
    emulator = fit.emulator
    theta = emulator.thetas[number].expand(len(values), -1)
    mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    states = emulator.meta_model.states(Inputs(values, mask), theta)[0]
    return emulator.maps_of(number)[0](states), emulator.head_of(number)(states)


def quality(clock: Clock, quick: bool) -> Iterator[dict[str, Any]]:
    rate = 2e-2
    for count in (8,) if quick else (8, 32):
        held = there(copies_of("gru", originals=count // 4, dataset="digits-rows"), clock.device)
        steps = 30 if quick else time_to_quality.STEPS_EACH * count
        plain = PlainGRU(held, 64, rate, steps, clock.device)
        plain.advance(0)  # what is made once
        plain = PlainGRU(held, 64, rate, steps, clock.device)
        started = clock.now()
        plain.run()
        row: dict[str, Any] = {"models": f"{count} GRUs", "plain s": clock.now() - started}
        wanted = quality_of(held, plain.emulate, clock.device)
        row["plain R², agreement"] = "{:.3f}, {:.3f}".format(*wanted)
        for budget in time_to_quality.BUDGETS:
            chosen = options(
                "laptop", clock.device, steps=budget, batch_size=BATCH,
                meta_model="gru:hidden_size=64,embedding_size=256",
                learning_rate=rate, theta_learning_rate=None, models_per_step=min(32, count),
            )  # fmt: skip
            started = clock.now()
            fit = Trainer(held, chosen)
            fit.run()
            spent = clock.now() - started
            reached = quality_of(held, partial(emulated, fit), clock.device)
            row |= {"fit s": spent, "steps": budget, "R², agreement": "{:.3f}, {:.3f}".format(*reached)}
            if reached[0] >= wanted[0] and reached[1] >= wanted[1]:
                row["times faster"] = row["plain s"] / spent
                break
            if clock.left < 2 * spent:
                row["times faster"] = "not reached in time"
                break
        yield row


def waiting_send(tensor: Tensor, device: Any) -> Tensor:
    return tensor.to(device)


def batches(clock: Clock, quick: bool) -> Iterator[dict[str, Any]]:
    held = there(random_population(8, 8 * BATCH), clock.device)
    ways = (("sent ahead", trajectory.send, "memory"), ("waited for", waiting_send, "memory"),
            ("read there", trajectory.send, "device"))  # fmt: skip
    for name, sends, kept in ways:
        with (
            mock.patch.object(trajectory, "send", sends),
            mock.patch.object(batch, "send", sends),
            mock.patch.object(objective, "send", sends),
            mock.patch.object(trainer, "send", sends),
        ):
            fit = Trainer(held, options("laptop", clock.device, batch_size=8 * BATCH, recording=kept))
            with running(fit) as step:
                yield {"batches": name, "ms": clock.step_time(step, clock.left / 4)}


def cost(clock: Clock, held: Population, chosen: FitOptions, steps: int, what: str, seconds: float) -> dict[str, Any]:
    """A step of a fit at full size."""
    is_gpu = clock.device.type == "cuda"
    if is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    fit = Trainer(held, chosen)
    with running(fit) as step:
        spent = clock.step_time(step, seconds, most=60)
    memory = torch.cuda.max_memory_allocated() / 2**30 if is_gpu else float("nan")
    hours = spent * steps / 3.6e6
    return {
        "setting": what,
        "batch": chosen.batch_size,
        "ms a step": spent,
        "GiB": memory,
        "steps": steps,
        "hours": hours,
    }


def paper(clock: Clock, quick: bool) -> Iterator[dict[str, Any]]:
    each = clock.left / 8
    texts = random_texts(4 if quick else 20, 64)
    whole = round(100 * 12_500 * 20 / BATCH)
    for what, changed in (
        ("Table 1, one model a step", {}),
        ("Table 1, all models", {"models_per_step": None}),
        ("Table 1, bfloat16", {"precision": "bfloat16"}),
    ):
        chosen = options("paper", clock.device, **changed)
        yield cost(clock, there(texts, clock.device), chosen, whole, what, each)
    spaces = InputSpace("image", (3, 32, 32)), OutputSpace("classes", 100)
    part = Examples(example_inputs(spaces[0], batch=1024), torch.arange(1024) % 100)
    models = {}
    for number in range(2):
        torch.manual_seed(number)
        models[f"m{number}"] = make("architecture", "resnet:variant=resnet34", DynamicalModel, *spaces).eval()
    images = there(Population.of(models, Dataset(*spaces, part, part[:4])), clock.device)
    size = {"batch_size": 4} if quick else {}
    for what, changed, searches in (
        ("Table 2", {}, False),
        ("Table 2, bfloat16", {"precision": "bfloat16"}, False),
        ("Table 2, bfloat16, channels last", {"precision": "bfloat16", "channels_last": True}, False),
        ("the same, cuDNN chooses by trial", {"precision": "bfloat16", "channels_last": True}, True),
    ):
        torch.backends.cudnn.benchmark = searches
        yield cost(clock, images, options("paper-cnn", clock.device, **size, **changed), 2**16, what, each)
        torch.backends.cudnn.benchmark = False
        if clock.left < 0:
            break


def random_texts(count: int, steps: int) -> Population:
    """Untrained GRUs of the default size on random words."""
    generator = torch.Generator().manual_seed(0)
    space, outputs = InputSpace("tokens", (10_000,)), OutputSpace("classes", 2)

    def part(size: int) -> Examples:
        mask = torch.arange(steps) < torch.randint(steps // 3, steps + 1, (size, 1), generator=generator)
        words = torch.randint(10_000, (size, steps), generator=generator)
        return Examples(Inputs(words * mask, mask), torch.randint(2, (size,), generator=generator))

    torch.manual_seed(0)
    models = {f"m{n}": make("architecture", "gru", DynamicalModel, space, outputs).eval() for n in range(count)}
    return Population.of(models, Dataset(space, outputs, part(1024), part(8)))


def maps(clock: Clock, quick: bool) -> Iterator[dict[str, Any]]:
    population = copies_of("gru", originals=2 if quick else 4, dataset="digits-rows")
    upper, reference = np.triu_indices(len(population), 1), None
    torch.set_num_threads(1)  # the fastest for steps so small
    for where, changed in (
        ("CPU", {"device": "cpu"}),
        ("CPU, another seed", {"device": "cpu", "seed": 1}),
        ("device", {}),
        ("device, bfloat16", {"precision": "bfloat16"}),
    ):
        chosen = options("laptop", clock.device, **{"steps": 20 if quick else 300, **changed})
        started = clock.now()
        fit_trainer = Trainer(population, chosen)
        fit_trainer.run()
        spent = clock.now() - started
        fit = Fit.of(fit_trainer)
        found = fit.distances().matrix
        reference = (fit.theta.numpy(), found) if reference is None else reference
        fidelity = measure_fidelity(fit, population)
        yield {
            "map": where,
            "s": spent,
            "hidden R²": fidelity.mean("hidden_r2"),
            "agreement": fidelity.mean("agreement"),
            "ARI": time_to_quality.ari([theta.cpu() for theta in fit.emulator.thetas], population),
            "distances, Spearman with CPU": float(spearmanr(found[upper], reference[1][upper]).statistic),
            "thetas, Procrustes disparity": float(procrustes(reference[0], fit.theta.numpy())[2]),
        }


# Told and kept. ------------------------------------------------------------------------------------------------------


QUESTIONS = {"throughput": throughput, "quality": quality, "batches": batches, "paper": paper, "maps": maps}


def cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(
        [*lines, *("| " + " | ".join(cell(row.get(column, "")) for column in columns) + " |" for row in rows)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=3.0, help="about how long all parts take together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="PATH.json and PATH.md are written")
    given = parser.parse_args()
    device = torch.device(given.device)
    clock, quick = Clock(device, given.minutes), given.minutes < 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__}
    texts = {"": f"{name}, torch {torch.__version__}"}
    whole, stopped = sum(PARTS[part] for part in given.parts), False

    def keep(part: str, rows: list[dict[str, Any]], started: float, said: str = "") -> None:
        results[part] = rows or said
        texts[part] = f"\n## {part} ({perf_counter() - started:.0f} s)\n\n{table(rows)}{said}"
        given.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
        given.out.with_suffix(".md").write_text("\n".join(texts.values()) + "\n")

    for part in (part for part in PARTS if part in given.parts):  # the one that may take longest is the last
        clock.give(PARTS[part] / whole)
        started, rows = perf_counter(), list[dict[str, Any]]()
        try:
            for row in QUESTIONS[part](clock, quick):
                rows.append(row)
                print(row, flush=True)
                keep(part, rows, started)
        except KeyboardInterrupt:
            keep(part, rows, started, "\n\nstopped here")
            stopped = True
        except Exception:  # the next part is measured all the same
            keep(part, rows, started, "\n\n```\n" + traceback.format_exc() + "```")
        if stopped:
            break
    print("\n".join(texts.values()), flush=True)


if __name__ == "__main__":
    main()
