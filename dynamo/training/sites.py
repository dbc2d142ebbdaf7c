"""Which sites of the meta-model a base model is compared with.

The i-th of I sites, counted from 1, lies at the depth i / I: the last site of every model at depth 1. So models with
few and with many layers can be compared with one meta-model. The rules are those of
:data:`dynamo.training.options.SitesRule`.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.trajectory import send
from dynamo.training.options import SitesRule

Shape = tuple[int, ...]


def depth_among(site: int, own: int, others: int) -> tuple[int, float]:
    """Where the depth of a site lies among the sites of another model.

    Args:
        site: its number, from 0.
        own: how many sites its model has.
        others: how many the other has.

    Returns:
        The other's last site that is no deeper (the first, where there is none), and the share of the way from there
        to the next one.

    >>> [depth_among(site, 2, 6) for site in range(2)], [depth_among(site, 4, 2) for site in range(4)]
    ([(2, 0.0), (5, 0.0)], [(0, 0.0), (0, 0.0), (0, 0.5), (1, 0.0)])
    """
    below, rest = divmod((site + 1) * others - own, own)
    return (0, 0.0) if below < 0 else (below, rest / own)


class Reading(nn.Module):
    """What the V_n of one base model read of the meta-model's states, at each site of the base model.

    Args:
        rule: how sites are paired.
        own: how many sites the base model has; as many as the meta-model under ``match``.
        sites: the shapes of the meta-model's states at its sites.

    Attributes:
        shapes: the shapes of what is read, one for each site of the base model.

    Raises:
        InvalidValueError: a mean of states of different shapes.
    """

    def __init__(self, rule: SitesRule, own: int, sites: Sequence[Shape]) -> None:
        super().__init__()
        self.rule = rule
        self.places = [depth_among(site, own, len(sites)) for site in range(own)]
        self.shapes = [sites[place] for place, _ in self.places]
        mixed = [(place, place + 1) for place, share in self.places if share]
        if rule == "learned":
            mixed = list(pairwise(range(len(sites))))
            depths = torch.tensor([place + share for place, share in self.places])
            away = (depths[:, None] - torch.arange(len(sites))).abs()
            # One row, since an optimiser may treat a matrix as a map. It starts near the same depth.
            self.logits = nn.Parameter(-away.flatten())
        for one, other in mixed:
            if sites[one] != sites[other]:
                raise InvalidValueError(
                    f"sites = {rule} takes a mean of the meta-model's sites {one} and {other}, whose states have the "
                    f"shapes {sites[one]} and {sites[other]}: choose a meta-model whose sites have one shape, or one "
                    "with as many sites as the base model and sites = match"
                )

    def weights(self) -> Tensor:
        """The learnt weights ``[I, J]`` of the meta-model's J sites at each of the base model's."""
        return self.logits.view(len(self.places), -1).softmax(1)

    def forward(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """The meta-model's states ``[B, T, *S]`` at its sites -> what is read at each site of the base model."""
        return read_together([self], states, [len(states[0])])


def read_together(readings: Sequence[Reading], states: Sequence[Tensor], sizes: Sequence[int]) -> Sequence[Tensor]:
    """What the V_n of several base models read, each of the states of its own examples.

    Args:
        readings: of the models; of one rule and number of sites.
        states: the meta-model's states at each site, ``[B, T, *S]``, for the models' examples one after the other.
        sizes: how many examples each model has.
    """
    first = readings[0]
    if first.rule == "match":
        return states
    if first.rule == "pool":
        return [_between(states, *place) for place in first.places]
    weights = torch.stack([reading.weights() for reading in readings]).to(states[0])
    owners = send(torch.repeat_interleave(torch.tensor(sizes)), weights.device)
    every = torch.stack(list(states), dim=1)
    read = torch.bmm(weights.index_select(0, owners), every.flatten(2))
    return read.view(len(read), -1, *every.shape[2:]).unbind(1)


def _between(states: Sequence[Tensor], place: int, share: float) -> Tensor:
    return torch.lerp(states[place], states[place + 1], share) if share else states[place]
