"""Many small GRUs, trained all at once on the rows of digits: the populations of ``size.py``. Or very many that are not
trained at all, of which 64 differ.

Four groups, fixed before looking: the whole labelled half of the data or a tenth of it, each with full or with diagonal
recurrent weights (every unit sees its own past alone). Network i is of group i mod 4 and has random numbers of its own,
so that the first N are the same networks, to rounding, however many are trained.
"""

from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dynamo import Dataset, Population
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.population.base_model import BaseModel
from dynamo.registry import make

UNITS, STEPS, BATCH, RATE = 16, 150, 32, 1e-2
#: Networks that are trained together: what their passes keep should fit into the processor's cache.
TOGETHER = 100
GROUPS = list(product((1.0, 0.1), ("full", "diagonal")))
NAMES = ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0")
NAMES += ("readout_layer.weight", "readout_layer.bias")

DATA, ARCHITECTURE = Spec("digits-rows"), Spec("gru", {"hidden_size": UNITS})


def logits(weights: dict[str, Tensor], values: Tensor) -> Tensor:
    """The networks' logits after the last step: stacked weights, ``[N, B, T, D] -> [N, B, K]``."""
    w_x, w_h, b_x, b_h, w_out, b_out = (weights[name] for name in NAMES)
    h = values.new_zeros(*values.shape[:2], UNITS)
    for x in values.unbind(2):
        reset, update, new = torch.baddbmm(b_x[:, None], x, w_x.mT).chunk(3, dim=-1)
        own_reset, own_update, own_new = torch.baddbmm(b_h[:, None], h, w_h.mT).chunk(3, dim=-1)
        proposed = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
        h = proposed + torch.sigmoid(update + own_update) * (h - proposed)
    return torch.baddbmm(b_out[:, None], h, w_out.mT)


def trained(numbers: range, data: Dataset) -> dict[str, Tensor]:
    """The stacked weights of some networks. Adam works number by number, so that none notices the others."""
    half, _ = data.halves()
    shares = [round(GROUPS[number % len(GROUPS)][0] * len(half)) for number in numbers]
    draws = [np.random.default_rng(number) for number in numbers]
    rows = np.stack([draw.integers(share, size=(STEPS, BATCH)) for draw, share in zip(draws, shares, strict=True)], 1)
    like = make("architecture", ARCHITECTURE, DynamicalModel, data.inputs, data.outputs).state_dict()
    weights = {}
    for name in NAMES:
        start = np.stack([draw.uniform(-1, 1, size=like[name].shape) for draw in draws]) / UNITS**0.5
        weights[name] = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    is_diagonal = torch.tensor([GROUPS[number % len(GROUPS)][1] == "diagonal" for number in numbers])
    kept = torch.where(is_diagonal[:, None, None], torch.eye(UNITS).repeat(3, 1), 1.0)

    def held() -> dict[str, Tensor]:
        return {**weights, "rnn.weight_hh_l0": weights["rnn.weight_hh_l0"] * kept}

    optimizer = torch.optim.Adam(weights.values(), RATE)
    for some in torch.from_numpy(rows):
        found = logits(held(), half.inputs.values[some])
        loss = functional.cross_entropy(found.flatten(0, 1), half.targets[some].flatten(), reduction="sum") / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: weight.detach() for name, weight in held().items()}


def make_networks(count: int) -> list[BaseModel]:
    """Train the first ``count`` networks."""
    data, models = make("dataset", DATA, Dataset), []
    for start in range(0, count, TOGETHER):
        numbers = range(start, min(start + TOGETHER, count))
        weights = trained(numbers, data)
        answers = logits(weights, data.test.inputs.values.expand(len(numbers), -1, -1, -1)).argmax(-1)
        scores = (answers == data.test.targets).float().mean(1).tolist()
        for row, number in enumerate(numbers):
            model = make("architecture", ARCHITECTURE, DynamicalModel, data.inputs, data.outputs)
            model.load_state_dict({name: weight[row] for name, weight in weights.items()})
            fraction, recurrence = GROUPS[number % len(GROUPS)]
            labels = {"fraction": fraction, "recurrence": recurrence, "group": f"{fraction:.0%} {recurrence}"}
            labels |= {"seed": number, "score": round(scores[row], 4)}
            model.eval().requires_grad_(False)
            models.append(BaseModel(f"{recurrence}-{fraction:g}-{number:05d}", model, DATA, labels, ARCHITECTURE))
    return models


def save_populations(counts: list[int], out: Path) -> None:
    """Write the first networks as a population for each count; those that are there are left alone."""
    missing = [count for count in counts if not (out / f"population-{count}" / "population.toml").exists()]
    networks = make_networks(max(missing)) if missing else []
    for count in missing:
        Population(networks[:count]).save(out / f"population-{count}")


def save_random(count: int, units: int, out: Path) -> None:
    """Write a population of GRUs with random weights, 64 different ones again and again, that are measured on few
    examples.
    """
    spec, architecture = Spec("digits-rows", {"test_fraction": 0.02}), Spec("gru", {"hidden_size": units})
    data = make("dataset", spec, Dataset)
    models = []
    for number in range(count):
        torch.manual_seed(number % 64)
        model = make("architecture", architecture, DynamicalModel, data.inputs, data.outputs)
        labels = {"seed": number, "group": number % 2}
        models.append(BaseModel(f"gru-{number:05d}", model.eval().requires_grad_(False), spec, labels, architecture))
    Population(models).save(out)
