"""The optimisers: those of Tables 1 and 2, Muon, and the learning-rate schedule that they share."""

from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn


def cosine_7_32(step: int, steps: int) -> float:
    """The factor on the learning rate, cos(2π·(7/32)·k/K): 1 at the start, 0.195 at the end (Tables 1 and 2)."""
    return cos(2 * pi * (7 / 32) * min(step, steps) / steps)


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) for matrices, AdamW for the parameters of groups that are not marked ``orthogonal``.

    A matrix does not follow its gradient but its momentum made orthogonal: with all singular values near 1, directions
    in which gradients are small are learnt as fast as others. Each step changes its entries by about half of the
    learning rate (root mean square), so that one learning rate suits both kinds of groups. Tensors of more dimensions
    are seen as matrices with one row for each entry of the first.
    """

    momentum = 0.9

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        groups = [group for group in self.param_groups if group.get("orthogonal")]
        drawn = [(group, [entry for entry in group["params"] if entry.grad is not None]) for group in groups]
        gradients = [[entry.grad for entry in entries] for _, entries in drawn]
        for _, entries in drawn:
            for entry in entries:
                entry.grad = None
        super().step(closure)
        for (group, entries), found in zip(drawn, gradients, strict=True):
            for entry, gradient in zip(entries, found, strict=True):
                entry.grad = gradient
            alike: dict[tuple[int, ...], list[Tensor]] = {}
            for entry in entries:
                alike.setdefault(tuple(entry.shape), []).append(entry)
            for matrices in alike.values():
                self._move(matrices, group["lr"], group["weight_decay"])

    def _move(self, matrices: list[Tensor], rate: float, weight_decay: float) -> None:
        """Move matrices of one shape."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momenta: list[Tensor] = []
        for matrix in matrices:
            state = self.state[matrix]
            if not state:  # the step is what AdamW looks for in all that it loads
                state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(matrix)}
            momenta.append(state["momentum"])
        torch._foreach_mul_(momenta, self.momentum)
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=self.momentum)  # Nesterov's
        moves = orthogonalised(torch.stack([move.flatten(1) for move in ahead]))
        scale = 0.5 * max(moves.shape[1:]) ** 0.5
        torch._foreach_mul_(matrices, 1 - rate * weight_decay)
        torch._foreach_add_(matrices, list(moves.view(-1, *matrices[0].shape)), alpha=-scale * rate)


#: Coefficients of x, x³ and x⁵ in each step of :func:`orthogonalised`: each brings what the step before has left of
#: [0.02, 1] as near to 1 as a polynomial of this form can, in the largest error (Amsel et al. 2025). In the end it is
#: 0.093.
TOWARDS_ONE = ((7.7110, -22.1138, 16.2487), (3.2153, -2.4112, 0.5013), (2.2183, -1.5940, 0.4107))


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices ``[N, a, b]`` with their singular values brought to 1 ± 0.093, and nothing else changed. Those below
    a fiftieth of the matrix's Frobenius norm stay smaller; the smallest grow 55 times.
    """
    x = matrices.transpose(1, 2) if matrices.shape[1] > matrices.shape[2] else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-12)
    for first, third, fifth in TOWARDS_ONE:
        square = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=third, alpha=fifth), x, beta=first)
    return x.transpose(1, 2) if matrices.shape[1] > matrices.shape[2] else x


def matrices_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that multiply what enters: all of two and more dimensions but tables of embeddings."""
    found: dict[int, nn.Parameter] = {}
    for part in module.modules():
        if not isinstance(part, nn.Embedding):
            found |= {id(entry): entry for entry in part.parameters(recurse=False) if entry.ndim > 1}
    return list(found.values())


class Annealed:
    """An optimiser whose learning rates are a function of the step: each group's ``peak`` times :func:`cosine_7_32`,
    from the step ``start`` on; the peak before.

    Args:
        name: ``adamw`` (Table 1), ``sgd`` with Nesterov momentum (Table 2), or ``muon``, see :class:`Muon`.
        groups: parameter groups, each with its ``peak`` learning rate.
        steps: K, the steps of the whole run.
        settings: the optimiser's own arguments.

    Attributes:
        start, steps: where annealing starts and ends.
    """

    def __init__(self, name: str, groups: list[dict[str, Any]], steps: int, **settings: Any) -> None:
        kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "muon": Muon}[name]
        if name == "sgd":
            settings["nesterov"] = settings["momentum"] > 0
        self.start, self.steps = 0, steps
        self.optimizer: torch.optim.Optimizer = kind(groups, lr=groups[0]["peak"], **settings)

    def step(self, number: int) -> float:
        """Make the step of that number (from 0); returns the first group's learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * cosine_7_32(max(0, number - self.start), self.steps - self.start)
        self.optimizer.step()
        return float(self.optimizer.param_groups[0]["lr"])
