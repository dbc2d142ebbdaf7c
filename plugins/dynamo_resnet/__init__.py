"""Networks with blocks as time (appendix A): residual base models, taps into any network of images, the residual
meta-model of Algorithm 2, and the state maps for feature maps and for tokens.

Listing them is instant; torch and torchvision are imported when one is built.
"""

import re
from collections.abc import Iterable
from typing import Any, Literal

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import option, positive

#: The most blocks of a network of one's own.
MOST_BLOCKS = 2000


def _sites() -> Any:
    return option("layers", "where states are read: after each stage (layers) or after every block")


def _stem() -> Any:
    return option("small", "imagenet: 7x7 with stride 2 and a max-pool; small: 3x3 with stride 1, for small images")


@attrs.frozen
class ResNetOptions:
    """Options of the architecture ``resnet``."""

    variant: Literal[
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext50_32x4d",
        "resnext101_32x8d",
        "resnext101_64x4d",
        "wide_resnet50_2",
        "wide_resnet101_2",
    ] = option("resnet18", "which of torchvision's ResNets")
    stem: Literal["imagenet", "small"] = _stem()
    states: Literal["layers", "blocks"] = _sites()


@attrs.frozen
class CifarResNetOptions:
    """Options of ``cifar-resnet``; the defaults are the smallest network of He et al. 2016, section 4.2."""

    depth: int = option(
        20,
        "layers with weights",
        check=lambda value: 8 <= value <= 1202 and value % 6 == 2,
        rule="6n + 2: 8, 14, 20, 32, 56, at most 1202",
    )
    width: int = positive(16, "channels of the first stage; they double with each stage", most=2**16)
    states: Literal["layers", "blocks"] = _sites()


@attrs.frozen
class TapsOptions:
    """Options of ``taps``."""

    model: str = option("shufflenet_v2_x0_5", "the name of a classifier in torchvision.models; its weights are new")
    points: str = option(
        "stage2+stage3+stage4",
        "the modules whose outputs are the states, by name, joined by '+'",
        check=lambda value: all(value.split("+")),
        rule="names of modules joined by '+', such as stage2+stage3",
    )


@attrs.frozen
class MetaResNetOptions:
    """Options of the meta-model ``resnet``; ``resnet:variant=resnet50`` is that of the paper's figure 10."""

    variant: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = option(
        "resnet18", "the standard network that gives block and layers where they are none"
    )
    block: Literal["basic", "bottleneck"] | None = option(None, "the kind of residual block; none = as the variant")
    layers: str | None = option(
        None,
        "blocks of each stage joined by '+'; none = as the variant",
        check=lambda value: re.fullmatch(r"[1-9]\d{0,2}(\+[1-9]\d{0,2}){0,15}", value) is not None,
        rule="numbers of blocks joined by '+', such as 3+4+6+3; at most 16 stages of 999",
    )
    width: int = positive(64, "channels of the first stage; they double with each stage", most=2**16)
    stem: Literal["imagenet", "small"] = _stem()
    states: Literal["layers", "blocks"] = _sites()

    def __attrs_post_init__(self) -> None:
        blocks = sum(map(int, (self.layers or "0").split("+")))
        if blocks > MOST_BLOCKS:
            raise InvalidValueError(f"option 'layers' asks for {blocks:,} blocks; {MOST_BLOCKS:,} are the most")


@attrs.frozen
class TokensOptions:
    """Options of ``tokens``; ``conv`` has them too."""

    rank: int | None = positive(None, "the largest rank that the map can have; none = full", most=2**20)
    bias: bool = option(True, "add a bias to each channel")


@attrs.frozen
class ConvOptions(TokensOptions):
    """Options of ``conv``."""

    per_channel: bool = option(False, "only scale each channel; needs as many channels on both sides")

    def __attrs_post_init__(self) -> None:
        if self.per_channel and self.rank is not None:
            raise InvalidValueError(
                "option 'rank' bounds a matrix, and with per_channel there is none: leave one of them out"
            )


@hookimpl
def dynamo_components() -> Iterable[Component]:
    """Three architectures, a meta-model and two state maps."""
    return [
        Component(
            "architecture", "resnet", "dynamo_resnet.models:resnet", "torchvision's residual networks", ResNetOptions
        ),
        Component(
            "architecture",
            "cifar-resnet",
            "dynamo_resnet.models:cifar_resnet",
            "the small residual networks for small images (He et al. 2016)",
            CifarResNetOptions,
        ),
        Component(
            "architecture",
            "taps",
            "dynamo_resnet.zoo:taps",
            "any classifier of torchvision, tapped at named modules",
            TapsOptions,
        ),
        Component(
            "meta-model",
            "resnet",
            "dynamo_resnet.meta:meta_resnet",
            "residual network with Wθ in each block (B.1)",
            MetaResNetOptions,
        ),
        Component(
            "state-map",
            "conv",
            "dynamo_resnet.maps:conv",
            "a 1x1 convolution, with resampling where sizes differ",
            ConvOptions,
        ),
        Component(
            "state-map",
            "tokens",
            "dynamo_resnet.tokens:tokens",
            "feature maps to a transformer's tokens or a flat state",
            TokensOptions,
        ),
    ]
