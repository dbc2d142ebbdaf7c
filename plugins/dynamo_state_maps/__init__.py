"""State maps V_n from hidden states of the meta-model to those of a base model, for flat states (section 2.2)."""

import attrs

from dynamo import Component, hookimpl, option
from dynamo.contracts.options import positive


@attrs.frozen
class LowRankOptions:
    """Options of ``low-rank``."""

    rank: int = positive(8, "the largest rank that the map can have", most=2**20)
    bias: bool = option(True, "add a bias, as affine does")


@attrs.frozen
class MLPOptions:
    """Options of ``mlp``."""

    hidden_size: int = positive(256, "units in each hidden layer", most=2**20)
    depth: int = option(1, "hidden layers", check=lambda value: 0 < value <= 100, rule="from 1 to 100")


@attrs.frozen
class OrthogonalOptions:
    """Options of ``orthogonal``."""

    bias: bool = option(False, "add a bias: a rotation and a shift")


@hookimpl
def dynamo_components() -> list[Component]:
    """The state maps ``identity``, ``linear``, ``affine``, ``low-rank``, ``mlp`` and ``orthogonal``."""
    return [
        Component(
            "state-map",
            "identity",
            "dynamo_state_maps.maps:Identity",
            "the states as they are; needs states of one shape",
        ),
        Component("state-map", "linear", "dynamo_state_maps.maps:Linear", "a matrix"),
        Component("state-map", "affine", "dynamo_state_maps.maps:Affine", "a matrix and a bias"),
        Component(
            "state-map", "low-rank", "dynamo_state_maps.maps:LowRank", "a matrix of bounded rank", LowRankOptions
        ),
        Component(
            "state-map",
            "mlp",
            "dynamo_state_maps.maps:MLP",
            "a network with hidden layers: maps that are not linear",
            MLPOptions,
        ),
        Component(
            "state-map",
            "orthogonal",
            "dynamo_state_maps.maps:Orthogonal",
            "a rotation or reflection; where sizes differ, a projection or isometric embedding",
            OrthogonalOptions,
        ),
    ]
