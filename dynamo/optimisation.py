"""The optimisers of Tables 1 and 2, and the learning-rate schedule that they share."""

from math import cos, pi
from typing import Any

import torch


def cosine_7_32(step: int, steps: int) -> float:
    """The factor on the learning rate, cos(2π·(7/32)·k/K): 1 at the start, 0.195 at the end (Tables 1 and 2)."""
    return cos(2 * pi * (7 / 32) * min(step, steps) / steps)


class Annealed:
    """An optimiser whose learning rates are a function of the step: each group's ``peak`` times :func:`cosine_7_32`.

    Args:
        name: ``adamw`` (Table 1) or ``sgd`` with Nesterov momentum (Table 2).
        groups: parameter groups, each with its ``peak`` learning rate.
        steps: K, the steps of the whole run.
        settings: the optimiser's own arguments.
    """

    def __init__(self, name: str, groups: list[dict[str, Any]], steps: int, **settings: Any) -> None:
        kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
        if name == "sgd":
            settings["nesterov"] = settings["momentum"] > 0
        self.steps = steps
        self.optimizer: torch.optim.Optimizer = kind(groups, lr=groups[0]["peak"], **settings)

    def step(self, number: int) -> float:
        """Make the step of that number (from 0); returns the first group's learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * cosine_7_32(number, self.steps)
        self.optimizer.step()
        return float(self.optimizer.param_groups[0]["lr"])
