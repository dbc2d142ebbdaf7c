"""Heads: the hidden-to-output maps G̃_k, which read the meta-model's features and do not depend on θ (section 2.2)."""

from typing import TYPE_CHECKING

import attrs

from dynamo import Component, OutputSpace, hookimpl, option
from dynamo.contracts.options import positive

if TYPE_CHECKING:
    from dynamo import Head


@attrs.frozen
class LinearOptions:
    """Options of ``linear``."""

    bias: bool = option(True, "add a bias")


@attrs.frozen
class MLPOptions:
    """Options of ``mlp``."""

    hidden_size: int = positive(256, "units in the hidden layer")


def _linear(options: LinearOptions, feature_size: int, outputs: OutputSpace) -> "Head":
    from dynamo_heads.heads import Linear

    return Linear(feature_size, outputs, options.bias)


def _mlp(options: MLPOptions, feature_size: int, outputs: OutputSpace) -> "Head":
    from dynamo_heads.heads import MLP

    return MLP(feature_size, outputs, options.hidden_size)


@hookimpl
def dynamo_components() -> list[Component]:
    """The heads ``linear`` and ``mlp``."""
    return [
        Component("head", "linear", _linear, "a matrix and a bias, as the readout of an RNN", LinearOptions),
        Component("head", "mlp", _mlp, "a network with one hidden layer", MLPOptions),
    ]
