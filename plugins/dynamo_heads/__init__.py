"""Heads: the hidden-to-output maps G̃_k, which read the meta-model's features and do not depend on θ (section 2.2)."""

import attrs

from dynamo import Component, hookimpl, option
from dynamo.contracts.options import positive


@attrs.frozen
class LinearOptions:
    """Options of ``linear``."""

    bias: bool = option(True, "add a bias")


@attrs.frozen
class MLPOptions:
    """Options of ``mlp``."""

    hidden_size: int = positive(256, "units in the hidden layer", most=2**20)


@hookimpl
def dynamo_components() -> list[Component]:
    """The heads ``linear`` and ``mlp``."""
    return [
        Component(
            "head",
            "linear",
            "dynamo_heads.heads:Linear",
            "a matrix and a bias, as the readout of an RNN",
            LinearOptions,
        ),
        Component("head", "mlp", "dynamo_heads.heads:MLP", "a network with one hidden layer", MLPOptions),
    ]
