"""The processes that share the work of a fit, and what they tell one another."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class ProcessGroup(ABC):
    """All processes of a fit, as one of them sees them.

    Base models are dealt out in turn: model n belongs to rank n mod size, which alone keeps its recording, V_n, θ_n and
    optimiser state. The meta-model and the heads are the same in every rank.

    Attributes:
        rank: the number of this process.
        size: how many there are.
    """

    rank: int
    size: int

    def owns(self, number: int) -> bool:
        """Whether a base model, by its number, belongs to this rank."""
        return number % self.size == self.rank

    @abstractmethod
    def add(self, values: Tensor) -> None:
        """Put the sum over all ranks in the place of each rank's values."""

    @abstractmethod
    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is true; the same answer in all of them."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Each rank's value, in their order, at rank 0; nothing at the others."""


class SingleProcess(ProcessGroup):
    """One process that does everything."""

    rank, size = 0, 1

    def add(self, values: Tensor) -> None:
        """Nothing: the sum of one."""

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def gather(self, value: Any) -> list[Any]:
        """The value itself."""
        return [value]


@torch.no_grad()
def share_step(
    processes: ProcessGroup,
    parameters: Sequence[Tensor],
    buffers: Sequence[tuple[Tensor, Tensor]],
    weight: float,
    figures: Tensor,
) -> None:
    """Make what all ranks have in common equal after a step's backward pass, in place and with one sum over the ranks.

    Args:
        processes: the ranks.
        parameters: those that all ranks share. Their gradients are added up; where no rank has one, there is none.
        buffers: each with its value before the step, the same in all ranks; their changes are averaged.
        weight: of this rank in that average; the weights of all ranks sum to 1.
        figures: further numbers to add up.
    """
    if processes.size == 1:
        return
    used = figures.new_tensor([parameter.grad is not None for parameter in parameters])
    gradients = [torch.zeros_like(entry) if entry.grad is None else entry.grad for entry in parameters]
    changes = [weight * torch.where(new == old, 0, new.to(figures) - old.to(figures)) for new, old in buffers]
    parts = [figures, used, *gradients, *changes]
    flat = torch.cat([part.to(figures).flatten() for part in parts])
    processes.add(flat)
    pieces = torch.split(flat, [part.numel() for part in parts])
    figures.copy_(pieces[0].view_as(figures))
    count = len(parameters)
    for parameter, users, total in zip(parameters, pieces[1].tolist(), pieces[2 : 2 + count], strict=True):
        parameter.grad = total.view_as(parameter).to(parameter) if users else None
    for (buffer, old), change in zip(buffers, pieces[2 + count :], strict=True):
        whole = change if buffer.is_floating_point() else change.round()
        buffer.copy_(old + whole.view_as(old).to(old.dtype))
