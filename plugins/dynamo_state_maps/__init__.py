"""State maps V_n from hidden states of the meta-model to those of a base model, for flat states (section 2.2)."""

from typing import TYPE_CHECKING

import attrs

from dynamo import Component, hookimpl, option
from dynamo.contracts.options import positive

if TYPE_CHECKING:
    from dynamo import StateMap

Shape = tuple[int, ...]


@attrs.frozen
class LowRankOptions:
    """Options of ``low-rank``."""

    rank: int = positive(8, "the largest rank that the map can have")
    bias: bool = option(True, "add a bias, as affine does")


@attrs.frozen
class MLPOptions:
    """Options of ``mlp``."""

    hidden_size: int = positive(256, "units in each hidden layer")
    depth: int = option(1, "hidden layers", check=lambda value: 0 < value <= 100, rule="from 1 to 100")


@attrs.frozen
class OrthogonalOptions:
    """Options of ``orthogonal``."""

    bias: bool = option(False, "add a bias: a rotation and a shift")


def _identity(options: object, meta_shape: Shape, base_shape: Shape) -> "StateMap":
    from dynamo_state_maps.maps import Identity

    return Identity(meta_shape, base_shape)


def _linear(options: object, meta_shape: Shape, base_shape: Shape) -> "StateMap":
    from dynamo_state_maps.maps import Linear

    return Linear(meta_shape, base_shape)


def _affine(options: object, meta_shape: Shape, base_shape: Shape) -> "StateMap":
    from dynamo_state_maps.maps import Affine

    return Affine(meta_shape, base_shape)


def _low_rank(options: LowRankOptions, meta_shape: Shape, base_shape: Shape) -> "StateMap":
    from dynamo_state_maps.maps import LowRank

    return LowRank(meta_shape, base_shape, options.rank, options.bias)


def _mlp(options: MLPOptions, meta_shape: Shape, base_shape: Shape) -> "StateMap":
    from dynamo_state_maps.maps import MLP

    return MLP(meta_shape, base_shape, options.hidden_size, options.depth)


def _orthogonal(options: OrthogonalOptions, meta_shape: Shape, base_shape: Shape) -> "StateMap":
    from dynamo_state_maps.maps import Orthogonal

    return Orthogonal(meta_shape, base_shape, options.bias)


@hookimpl
def dynamo_components() -> list[Component]:
    """The state maps ``identity``, ``linear``, ``affine``, ``low-rank``, ``mlp`` and ``orthogonal``."""
    return [
        Component("state-map", "identity", _identity, "the states as they are; needs states of one shape"),
        Component("state-map", "linear", _linear, "a matrix"),
        Component("state-map", "affine", _affine, "a matrix and a bias"),
        Component("state-map", "low-rank", _low_rank, "a matrix of bounded rank", LowRankOptions),
        Component("state-map", "mlp", _mlp, "a network with hidden layers: maps that are not linear", MLPOptions),
        Component(
            "state-map",
            "orthogonal",
            _orthogonal,
            "a rotation or reflection; where sizes differ, a projection or isometric embedding",
            OrthogonalOptions,
        ),
    ]
