"""How do states of the meta-model look to the base models? Through all state maps V_n side by side.

A meta-model may be slow in directions that no V_n reads; the shape that counts is the one that base models see.
"""

from collections.abc import Sequence
from copy import deepcopy

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.constant_input import recurrent
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import RecurrentModel, StateMap
from dynamo.contracts.shown import brief
from dynamo.fit.fit import Fit
from dynamo.population.population import Population


@attrs.frozen(eq=False)
class BaseView:
    """h ↦ (V_1 h, …, V_N h) / √N: distances are the root mean square over the base models of the distances in them.

    Attributes:
        maps: the V_n.
        models: the base models, in the same order.
    """

    maps: tuple[StateMap, ...]
    models: tuple[RecurrentModel, ...]

    __repr__ = brief

    @classmethod
    def of(cls, fit: Fit, population: Population, indices: Sequence[int] | None = None) -> "BaseView":
        """The view of a fit's base models, or of some of them.

        Args:
            fit: the fit, of base models with one site and flat states.
            population: its base models, in the same order.
            indices: which of them; those that share a head.

        Raises:
            DynamoError: no models, or models that are not recurrent.
        """
        chosen = range(len(population)) if indices is None else indices
        if len(chosen) == 0:
            raise DynamoError("a view needs at least one base model")
        models = [recurrent(population[index].model) for index in chosen]
        return cls(
            tuple(deepcopy(fit.emulator.maps_of(index)[0]).cpu().double() for index in chosen),
            tuple(deepcopy(model).cpu().double().eval().requires_grad_(False) for model in models),
        )

    @torch.no_grad()
    def __call__(self, states: Tensor) -> Tensor:
        """What is seen of states ``[P, H]``: ``[P, Σ H_n]``, in double precision."""
        h = states.cpu().double()[:, None]
        seen: Tensor = torch.cat([state_map(h)[:, 0] for state_map in self.maps], -1)
        return seen.div(len(self.maps) ** 0.5)

    def readout_gradient(self, seen: Tensor) -> Floats:
        """The gradient of the mean of the base models' outputs with respect to what is seen ``[P, Σ H_n]``, but for a
        factor; of logits, without their mean over classes. ``[P, K, Σ H_n]``.
        """
        sizes = [model.state_shapes[0][0] for model in self.models]
        parts = (seen * len(self.maps) ** 0.5).split(sizes, -1)
        return np.concatenate([readout_gradient(*pair) for pair in zip(self.models, parts, strict=True)], -1)


def readout_gradient(model: RecurrentModel, states: Tensor) -> Floats:
    """The gradient of each output with respect to the state, ``[P, K, H]``; of logits, without their mean."""
    h = states.detach().requires_grad_()
    outputs = model.readout(h)
    if model.outputs.kind == "classes":
        outputs = outputs - outputs.mean(-1, keepdim=True)
    rows = [torch.autograd.grad(output.sum(), h, retain_graph=True)[0] for output in outputs.unbind(-1)]
    return np.asarray(torch.stack(rows, 1).cpu().numpy())
