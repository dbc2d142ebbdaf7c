"""The emulator: a meta-model with its heads, and the θ_n and V_n of every base model. What is trained, and what a fit
keeps.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from dynamo.errors import DynamoError
from dynamo.options import Spec
from dynamo.plugins import make
from dynamo.protocols import DynamicalModel, Head, MetaModel, RecurrentMetaModel, RecurrentModel, StateMap
from dynamo.spaces import InputSpace, OutputSpace
from dynamo.trajectory import Inputs, Trajectory


@attrs.frozen
class Subject:
    """A base model as the emulator knows it.

    Attributes:
        name: its name in the population.
        head: the number of its head G̃_k.
        state_shapes: the shape of its state at each site.
    """

    name: str
    head: int
    state_shapes: tuple[tuple[int, ...], ...]


@attrs.frozen
class Blueprint:
    """All that is needed to build an emulator of the same form again.

    Attributes:
        meta_model, head, state_map: the specs of the components.
        inputs: the input space.
        theta_dim: d.
        heads: name and output space of each head.
        subjects: the base models.
    """

    meta_model: Spec
    head: Spec
    state_map: Spec
    inputs: InputSpace
    theta_dim: int
    heads: tuple[tuple[str, OutputSpace], ...]
    subjects: tuple[Subject, ...]


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
        state_maps: V_n, a list over sites for each base model.
        thetas: θ_n ``[d]`` for each base model.
    """

    def __init__(self, blueprint: Blueprint, owns: Callable[[int], bool] = lambda number: True) -> None:
        super().__init__()
        self.blueprint = blueprint
        self.meta_model = make("meta-model", blueprint.meta_model, MetaModel, blueprint.inputs, blueprint.theta_dim)
        sites = self.meta_model.state_shapes
        for subject in blueprint.subjects:
            if len(subject.state_shapes) != len(sites):
                raise DynamoError(
                    f"base model {subject.name!r} has states at {len(subject.state_shapes)} sites, the meta-model "
                    f"{blueprint.meta_model.name!r} at {len(sites)}: choose a meta-model with as many"
                )
        features = self.meta_model.feature_size
        self.heads = nn.ModuleList(make("head", blueprint.head, Head, features, space) for _, space in blueprint.heads)
        self.state_maps = nn.ModuleList()
        for number, subject in enumerate(blueprint.subjects):
            maps = nn.ModuleList(
                make("state-map", blueprint.state_map, StateMap, meta, base)
                for meta, base in zip(sites, subject.state_shapes, strict=True)
            )
            self.state_maps.append(maps if owns(number) else maps.to("meta"))
        self.thetas = nn.ParameterList(torch.zeros(blueprint.theta_dim) for _ in blueprint.subjects)

    def place(self, device: torch.device) -> "Emulator":
        """Move what is kept here to a device."""
        for part in (self.meta_model, self.heads, *self.state_maps, self.thetas):
            if not any(tensor.is_meta for tensor in part.state_dict().values()):
                part.to(device)
        return self

    def number_of(self, name: str) -> int | None:
        """The number of the base model that a parameter or buffer belongs to, by its name; None for what all share."""
        part, _, rest = name.partition(".")
        return int(rest.partition(".")[0]) if part in ("state_maps", "thetas") else None

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


class ModelAt(DynamicalModel):
    """A meta-model held at one θ: a network like any base model. θ is a parameter, so that it can be trained alone."""

    def __init__(self, meta_model: MetaModel, head: Head, theta: Tensor) -> None:
        super().__init__()
        self.meta_model, self.head, self.theta = meta_model, head, nn.Parameter(theta)
        self.inputs, self.outputs, self.state_shapes = meta_model.inputs, head.outputs, meta_model.state_shapes

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


def group_heads(
    spaces: Sequence[OutputSpace], groups: Sequence[str]
) -> tuple[tuple[tuple[str, OutputSpace], ...], list[int]]:
    """Heads for base models: one per group.

    Args:
        spaces: each base model's output space.
        groups: the group that each belongs to.

    Returns:
        The heads (name and output space), and the number of each base model's head.

    Raises:
        DynamoError: one group has outputs of different kinds or sizes.
    """
    heads: dict[str, OutputSpace] = {}
    for space, group in zip(spaces, groups, strict=True):
        first = heads.setdefault(group, space)
        if (first.kind, first.size, first.readout) != (space.kind, space.size, space.readout):
            raise DynamoError(
                f"the head of group {group!r} would serve outputs that differ ({first}; {space}): give them heads of "
                "their own (head-by = output, or a label that tells them apart)"
            )
    numbers = {group: number for number, group in enumerate(heads)}
    return tuple(heads.items()), [numbers[group] for group in groups]


def blueprint_table(blueprint: Blueprint) -> dict[str, Any]:
    """The form that TOML keeps; :func:`read_blueprint` reads it back."""
    return {
        "meta_model": blueprint.meta_model.table(),
        "head": blueprint.head.table(),
        "state_map": blueprint.state_map.table(),
        "inputs": blueprint.inputs.table(),
        "theta_dim": blueprint.theta_dim,
        "heads": [{"name": name, "outputs": space.table()} for name, space in blueprint.heads],
        "subjects": [
            {
                "name": subject.name,
                "head": subject.head,
                "state_shapes": [list(shape) for shape in subject.state_shapes],
            }
            for subject in blueprint.subjects
        ],
    }


def read_blueprint(table: dict[str, Any], where: str) -> Blueprint:
    """Read :func:`blueprint_table` back.

    Raises:
        DynamoError: parts that are missing or of the wrong form.
    """
    try:
        made = Blueprint(
            Spec.of(table["meta_model"]),
            Spec.of(table["head"]),
            Spec.of(table["state_map"]),
            InputSpace.of(table["inputs"]),
            table["theta_dim"],
            tuple((head["name"], OutputSpace.of(head["outputs"])) for head in table["heads"]),
            tuple(
                Subject(item["name"], item["head"], tuple(tuple(shape) for shape in item["state_shapes"]))
                for item in table["subjects"]
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DynamoError(f"{where} does not describe an emulator: {error!r}") from None
    names = [subject.name for subject in made.subjects]
    sizes = [made.theta_dim, *(size for subject in made.subjects for shape in subject.state_shapes for size in shape)]
    if not names or not all(isinstance(name, str) for name in [*names, *(name for name, _ in made.heads)]):
        raise DynamoError(f"{where} does not describe an emulator: it needs subjects, and names that are text")
    if len(set(names)) < len(names):
        raise DynamoError(f"{where} does not describe an emulator: two subjects have one name")
    if not all(type(size) is int and 0 < size < 2**31 for size in sizes):
        raise DynamoError(f"{where} does not describe an emulator: theta_dim and state_shapes are sizes, above 0")
    if not all(type(subject.head) is int and 0 <= subject.head < len(made.heads) for subject in made.subjects):
        raise DynamoError(f"{where} does not describe an emulator: a subject's head is none of 'heads'")
    return made
