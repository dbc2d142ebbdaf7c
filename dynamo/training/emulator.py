"""The emulator: a meta-model with its heads, and the θ_n and V_n of every base model. What is trained, and what a fit
keeps.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel, Head, MetaModel, RecurrentMetaModel, RecurrentModel, StateMap
from dynamo.contracts.shown import folded, listed
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.registry import make
from dynamo.training.blueprint import Blueprint
from dynamo.training.on_demand import OnDemand
from dynamo.training.sites import Reading

#: The lists of modules of which each base model has its own.
OF_MODELS = ("readings", "state_maps")


class Emulator(nn.Module):
    """(F̃, G̃_1 … G̃_k), {V_n} and {θ_n}. Every θ_n starts at 0 (Algorithm 1).

    Args:
        blueprint: what to build.
        owns: whether the V_n of a base model, by its number, are kept here. Where another process keeps them, they are
            built all the same, so that the random numbers are those of a whole emulator, and left without memory, on
            the meta device.

    Attributes:
        meta_model: F̃.
        heads: G̃_k.
        readings: for each base model, what its V_n read of the meta-model's states.
        state_maps: V_n, a list over the base model's sites for each base model.
        thetas: θ_n ``[d]`` for each base model.
    """

    def __init__(self, blueprint: Blueprint, owns: Callable[[int], bool] = lambda number: True) -> None:
        super().__init__()
        self.blueprint = blueprint
        self.meta_model = make("meta-model", blueprint.meta_model, MetaModel, blueprint.inputs, blueprint.theta_dim)
        readings = [self.new_reading(number) for number in range(len(blueprint.subjects))]
        features = self.meta_model.feature_size
        self.heads = nn.ModuleList(
            NoOutputs(features, space) if space.kind == "none" else make("head", blueprint.head, Head, features, space)
            for _, space in blueprint.heads
        )
        self.readings, self.state_maps = nn.ModuleList(), nn.ModuleList()
        for number, reading in enumerate(readings):
            self.readings.append(reading)
            maps = self.new_maps(number)
            self.state_maps.append(maps if owns(number) else maps.to("meta"))
            if not owns(number):
                reading.to("meta")
        self.thetas = nn.ParameterList(torch.zeros(blueprint.theta_dim) for _ in blueprint.subjects)

    def __repr__(self) -> str:
        plan = self.blueprint
        heads = listed([f"{name}: {space}" for name, space in plan.heads], 2)
        numbers = sum(parameter.numel() for parameter in self.parameters())
        return folded(
            f"Emulator of {len(plan.subjects)} models: meta-model {plan.meta_model}, θ of {plan.theta_dim} dimensions, "
            f"heads {heads}; {numbers:,} parameters"
        )

    def new_reading(self, number: int) -> Reading:
        """How the sites of a base model, by its number, are paired with the meta-model's.

        Raises:
            DynamoError: they cannot be.
        """
        subject = self.blueprint.subjects[number]
        own, sites = len(subject.state_shapes), self.meta_model.state_shapes
        if self.blueprint.sites == "match" and own != len(sites):
            raise DynamoError(
                f"base model {subject.name!r} has states at {own} sites, the meta-model "
                f"{self.blueprint.meta_model.name!r} at {len(sites)}: choose a meta-model with as many, or pair "
                "sites by depth (sites = pool) or by weights that are learnt (sites = learned)"
            )
        try:
            return Reading(self.blueprint.sites, own, sites)
        except DynamoError as error:
            raise error.at(f"base model {subject.name!r}") from None

    def new_maps(self, number: int) -> nn.ModuleList:
        """New V_n for a base model, by its number: one for each of its sites."""
        shapes = self.reading_of(number).shapes, self.blueprint.subjects[number].state_shapes
        return nn.ModuleList(
            make("state-map", self.blueprint.state_map, StateMap, meta, base)
            for meta, base in zip(*shapes, strict=True)
        )

    def select(self, numbers: Sequence[int]) -> "Emulator":
        """The emulator of some of the base models, by their numbers; it has its parts in common with this one."""
        some = Emulator.__new__(Emulator)
        nn.Module.__init__(some)
        subjects = tuple(self.blueprint.subjects[number] for number in numbers)
        some.blueprint = attrs.evolve(self.blueprint, subjects=subjects)
        some.meta_model, some.heads, some.training = self.meta_model, self.heads, self.training
        some.readings = OnDemand(len(numbers), lambda number: self.readings[numbers[number]])
        some.state_maps = OnDemand(len(numbers), lambda number: self.state_maps[numbers[number]])
        some.thetas = nn.ParameterList(self.thetas[number] for number in numbers)
        return some

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As that of any module, part by part: torch looks through all names for each of many parts."""
        wrong = sorted(state_dict.keys() ^ self.state_dict().keys()) if strict else []
        if wrong:
            raise RuntimeError(f"the state dict lacks, or has beside those of the emulator: {', '.join(wrong[:5])}")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state_dict.items():
            words = name.split(".")
            depth = 2 if words[0] in OF_MODELS else 1
            parts.setdefault(".".join(words[:depth]), {})[".".join(words[depth:])] = tensor
        for part, own in parts.items():
            self.get_submodule(part).load_state_dict(own, strict, assign)
        return _IncompatibleKeys([], [])

    def place(self, device: torch.device) -> "Emulator":
        """Move what is kept here to a device."""
        for part in (self.meta_model, self.heads, *self.readings, *self.state_maps, self.thetas):
            if not any(tensor.is_meta for tensor in part.state_dict().values()):
                part.to(device)
        return self

    def number_of(self, name: str) -> int | None:
        """The number of the base model that a parameter or buffer belongs to, by its name; None for what all share."""
        part, _, rest = name.partition(".")
        return int(rest.partition(".")[0]) if part in (*OF_MODELS, "thetas") else None

    def reading_of(self, number: int) -> Reading:
        """What the V_n of a base model read of the meta-model's states, by its number."""
        return cast(Reading, self.readings[number])

    def maps_of(self, number: int) -> Sequence[StateMap]:
        """V_n at each site of a base model, by its number."""
        return cast(Sequence[StateMap], self.state_maps[number])

    def head_of(self, number: int) -> Head:
        """G̃_k of a base model, by its number."""
        return cast(Head, self.heads[self.blueprint.subjects[number].head])

    def group_of(self, number: int) -> str:
        """The name of a base model's head, by the model's number."""
        return self.blueprint.heads[self.blueprint.subjects[number].head][0]

    def model_at(self, theta: Tensor, head: int = 0) -> "ModelAt":
        """A copy of the meta-model held at one θ, as an ordinary module that shares nothing with the emulator."""
        parts = (deepcopy(self.meta_model), deepcopy(cast(Head, self.heads[head])), theta.detach().clone())
        model = RecurrentModelAt(*parts) if isinstance(parts[0], RecurrentMetaModel) else ModelAt(*parts)
        return model.eval()


class NoOutputs(Head):
    """The head of base models of which only states are known."""

    def __init__(self, feature_size: int, outputs: OutputSpace) -> None:
        super().__init__()
        self.feature_size, self.outputs = feature_size, outputs

    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., 0]``."""
        return features[..., :0]


class ModelAt(DynamicalModel):
    """A meta-model held at one θ: a network like any base model. θ is a parameter, so that it can be trained alone."""

    def __init__(self, meta_model: MetaModel, head: Head, theta: Tensor) -> None:
        super().__init__()
        self.meta_model, self.head, self.theta = meta_model, head, nn.Parameter(theta)
        self.inputs, self.outputs, self.state_shapes = meta_model.inputs, head.outputs, meta_model.state_shapes

    def __repr__(self) -> str:
        kind = f"{type(self.meta_model).__name__} at a theta of {len(self.theta)} dimensions"
        return folded(f"{type(self).__name__}({kind}: {self.inputs} → {self.outputs})")

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """Run at θ."""
        states = self.meta_model.states(inputs, self.theta.expand(inputs.mask.shape[0], -1))
        return Trajectory(states, self.head(self.meta_model.features(states)), inputs.mask)


class RecurrentModelAt(ModelAt, RecurrentModel):
    """A recurrent meta-model held at one θ: one map iterated, h ↦ F̃(θ, x, h)."""

    @property
    def _recurrent(self) -> RecurrentMetaModel:
        return cast(RecurrentMetaModel, self.meta_model)

    def encode(self, values: Tensor) -> Tensor:
        """What enters the map at each step."""
        return self._recurrent.encode(values)

    def initial_state(self, batch: int) -> Tensor:
        """h_0, the same for every θ."""
        return self._recurrent.initial_state(batch)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """F̃(θ, x, h)."""
        return self._recurrent.step(self.theta.expand(h.shape[0], -1), x, h)

    def readout(self, h: Tensor) -> Tensor:
        """G̃(h)."""
        return cast(Tensor, self.head(h))
