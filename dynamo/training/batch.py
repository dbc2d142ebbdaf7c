"""The batch of a step: what the base models that were drawn did on the rows that were drawn for them, read and put in
order so that alike models lie together.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import attrs
import torch
from torch import Tensor

from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs, Trajectory, collate, join, send
from dynamo.population.recording import Source, read_together


@attrs.frozen(eq=False)
class Group:
    """Base models of one kind in a batch.

    Attributes:
        numbers: which.
        sizes: how many examples each has.
        targets: their trajectories, one model after the other.
    """

    numbers: list[int]
    sizes: list[int]
    targets: Trajectory

    __repr__ = brief


@attrs.frozen(eq=False)
class Batch:
    """The examples of all drawn base models, kind by kind.

    Attributes:
        inputs: of all groups, one after the other.
        groups: the models in the order of the batch.
        order: the place of each of these models among those that were drawn.
    """

    inputs: Inputs
    groups: list[Group]
    order: list[int]

    __repr__ = brief

    @classmethod
    def read(
        cls, chosen: Sequence[int], rows: Sequence[Tensor], kinds: Sequence[Any], sources: Sequence[Source]
    ) -> "Batch":
        """Read what was drawn.

        Args:
            chosen: the numbers of K base models.
            rows: the rows of data for each.
            kinds: the kind of every base model, comparable.
            sources: the trajectories of every base model.
        """
        order = sorted(range(len(chosen)), key=lambda drawn: kinds[chosen[drawn]])
        inputs, groups = [], []
        for _, alike in groupby(order, key=lambda drawn: kinds[chosen[drawn]]):
            members = list(alike)
            numbers, own = [chosen[drawn] for drawn in members], [rows[drawn] for drawn in members]
            read, targets = read_together([sources[number] for number in numbers], own)
            inputs.append(read)
            groups.append(Group(numbers, [len(part) for part in own], targets))
        return cls(collate(inputs), groups, order)

    def to(self, device: torch.device, precision: torch.dtype) -> "Batch":
        """The batch on a device, its targets in a precision, that of the emulator, and padded to the length of its
        inputs.
        """
        inputs, steps = self.inputs.to(device), self.inputs.mask.shape[1]
        groups = [
            attrs.evolve(group, targets=_sent(join([group.targets], steps), device, precision)) for group in self.groups
        ]
        return Batch(inputs, groups, self.order)

    def spread(self, thetas: Sequence[Tensor]) -> Tensor:
        """θ_n for every example, ``[B, d]``, from those of all base models."""
        numbers = [number for group in self.groups for number in group.numbers]
        sizes = torch.tensor([size for group in self.groups for size in group.sizes])
        places = send(torch.repeat_interleave(sizes), thetas[0].device)
        return torch.stack([thetas[number] for number in numbers]).index_select(0, places)

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The part of each group of a tensor ``[B, ...]``.

        Split, not sliced: the gradient of a split is one concatenation, that of slices a whole tensor for each.
        """
        return torch.split(tensor, [sum(group.sizes) for group in self.groups])

    def restore(self, values: Tensor) -> Tensor:
        """Values ``[..., K]`` of the models in the order of the batch, in the order in which they were drawn."""
        if self.order == sorted(self.order):
            return values
        back = torch.tensor(sorted(range(len(self.order)), key=self.order.__getitem__))
        return values.index_select(-1, send(back, values.device))


@attrs.frozen(eq=False)
class Passed:
    """What the meta-model gives for the inputs of a batch.

    Attributes:
        batch: the batch.
        features: what the heads read, ``[B, ...]``.
        states: the meta-model's, at each of its sites, ``[B, T, *S]``.
    """

    batch: Batch
    features: Tensor
    states: tuple[Tensor, ...]

    __repr__ = brief

    def rows(self, rows: Sequence[Tensor]) -> "Passed":
        """The same of some examples of each model; ``rows`` are theirs, in the order in which models were drawn."""
        groups, places, start = [], [], 0
        drawn = iter(self.batch.order)
        for group in self.batch.groups:
            own, first = [], start
            for size in group.sizes:
                own.append(rows[next(drawn)] + start)
                start += size
            chosen = torch.cat(own)
            targets = group.targets[send(chosen - first, group.targets.mask.device)]
            groups.append(Group(group.numbers, [len(some) for some in own], targets))
            places.append(chosen)
        every = torch.cat(places)
        there = send(every, self.features.device)
        batch = Batch(self.batch.inputs[send(every, self.batch.inputs.mask.device)], groups, self.batch.order)
        return Passed(batch, self.features[there], tuple(state[there] for state in self.states))


def _sent(targets: Trajectory, device: torch.device, precision: torch.dtype) -> Trajectory:
    """Targets on a device in a precision: narrowed before they go there, or widened when they are there."""

    def there(tensor: Tensor) -> Tensor:
        is_wider = tensor.dtype.itemsize > precision.itemsize
        return send(tensor.to(precision) if is_wider else tensor, device).to(precision)

    return Trajectory(tuple(map(there, targets.states)), there(targets.outputs), send(targets.mask, device))
