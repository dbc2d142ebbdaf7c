"""The minGRU meta-model, whose states at all times come from one pass that is parallel over time."""

from collections.abc import Iterable

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import option, positive


@attrs.frozen
class MetaMinGRUOptions:
    """Options of the minGRU meta-model."""

    hidden_size: int = option(
        512,
        "units of each layer; the state has layers times as many",
        check=lambda value: 1 < value <= 2**20,
        rule="above 1 and at most 1,048,576",
    )
    embedding_size: int = positive(256, "size of the meta-model's own token embedding (token inputs only)", most=2**20)
    layers: int = positive(2, "layers; a single one is linear in its own past", most=1000)


@hookimpl
def dynamo_components() -> Iterable[Component]:
    """A meta-model."""
    return [
        Component(
            "meta-model",
            "mingru",
            "dynamo_mingru.meta:MetaMinGRU",
            "stacked minGRUs, parallel over time",
            MetaMinGRUOptions,
        ),
    ]
