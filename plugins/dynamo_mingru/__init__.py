"""The minGRU meta-model, whose states at all times come from one pass that is parallel over time."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import option, positive

if TYPE_CHECKING:
    from dynamo.contracts.protocols import MetaModel
    from dynamo.contracts.spaces import InputSpace


@attrs.frozen
class MetaMinGRUOptions:
    """Options of the minGRU meta-model."""

    hidden_size: int = option(
        512, "units of each layer; the state has layers times as many", check=lambda value: value > 1, rule="above 1"
    )
    embedding_size: int = positive(256, "size of the meta-model's own token embedding (token inputs only)")
    layers: int = positive(2, "layers; a single one is linear in its own past")


def _meta_mingru(options: MetaMinGRUOptions, inputs: "InputSpace", theta_dim: int) -> "MetaModel":
    from dynamo_mingru.meta import MetaMinGRU

    return MetaMinGRU(inputs, theta_dim, options.hidden_size, options.embedding_size, options.layers)


@hookimpl
def dynamo_components() -> Iterable[Component]:
    """A meta-model."""
    return [
        Component("meta-model", "mingru", _meta_mingru, "stacked minGRUs, parallel over time", MetaMinGRUOptions),
    ]
