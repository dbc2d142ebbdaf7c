"""The blueprint of an emulator: what a run folder keeps, from which the same emulator can be built again."""

from collections.abc import Sequence
from typing import Any, get_args

import attrs

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.options import Spec
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.training.options import SitesRule


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

    __repr__ = brief


@attrs.frozen
class Blueprint:
    """All that is needed to build an emulator of the same form again.

    Attributes:
        meta_model, head, state_map: the specs of the components.
        inputs: the input space.
        theta_dim: d.
        heads: name and output space of each head.
        subjects: the base models.
        sites: how their sites are paired with the meta-model's.
    """

    meta_model: Spec
    head: Spec
    state_map: Spec
    inputs: InputSpace
    theta_dim: int
    heads: tuple[tuple[str, OutputSpace], ...]
    subjects: tuple[Subject, ...]
    sites: SitesRule = "match"

    __repr__ = brief


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
        "sites": blueprint.sites,
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
            table.get("sites", "match"),  # as it was before there was a choice
        )
    except DynamoError as error:
        raise error.at(where) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DynamoError(f"{where} does not describe an emulator: {error!r}") from None
    if made.sites not in get_args(SitesRule):
        rules = ", ".join(get_args(SitesRule))
        raise DynamoError(f"{where} does not describe an emulator: sites is {made.sites!r}, none of {rules}")
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
