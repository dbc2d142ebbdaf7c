"""The Transformer meta-model, an encoder or a decoder with θ in every block.

Listing it is instant; torch is imported when it is built.
"""

from collections.abc import Iterable
from typing import Literal

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import option, positive


@attrs.frozen
class TransformerOptions:
    """Options of the Transformer meta-model."""

    hidden_size: int = positive(128, "units of each step's state", most=2**16)
    layers: int = positive(4, "blocks", most=1000)
    heads: int = positive(4, "heads of the attention; they divide hidden_size", most=2**16)
    widening: int = positive(4, "units of the layer between, in multiples of hidden_size", most=64)
    causal: bool = option(False, "a decoder, whose steps see no later ones; else an encoder, whose steps see all")
    conditioning: Literal["bias", "film", "prefix"] = option(
        "bias", "θ in each block as a bias, as a scale and a bias (film), or as a step that all others see (prefix)"
    )
    sites: int | None = positive(
        None, "blocks after which states are read, spread evenly, the last among them; none = all", most=1000
    )
    positions: Literal["sinusoidal", "learned"] = option(
        "sinusoidal", "sinusoidal, for sequences of any length, or learned, from a table"
    )
    longest: int = positive(512, "steps of the longest sequence; for learned positions", most=2**20)

    def __attrs_post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise InvalidValueError(
                f"option 'heads' is {self.heads}: it must divide hidden_size, {self.hidden_size}, so that all "
                "heads have as many units"
            )
        if self.hidden_size % 2 and self.positions == "sinusoidal":
            raise InvalidValueError(
                f"option 'hidden_size' is {self.hidden_size}: sinusoidal positions come in pairs, so take an even "
                "number, or positions=learned"
            )
        if self.sites is not None and self.sites > self.layers:
            raise InvalidValueError(
                f"option 'sites' is {self.sites}: there are states after {self.layers} blocks only; ask for fewer, or "
                "for more layers"
            )


@hookimpl
def dynamo_components() -> Iterable[Component]:
    """A meta-model."""
    return [
        Component(
            "meta-model",
            "transformer",
            "dynamo_transformer.meta:MetaTransformer",
            "Transformer encoder or decoder with θ in each block",
            TransformerOptions,
        ),
    ]
