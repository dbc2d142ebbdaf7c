"""State maps from feature maps to the states of vision transformers, and to flat states."""

from math import isqrt
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import StateMap
from dynamo_resnet.maps import Conv

if TYPE_CHECKING:
    from dynamo_resnet import TokensOptions

Shape = tuple[int, ...]


@final
class Tokens(StateMap):
    """V_{n,t} (appendix A) from feature maps to tokens: one affine map of the channels, the same at every patch.

    Tokens of the base model that are no square number are one token for the whole image, the first (such as a class
    token), and a square of patches. The patches read the meta-model's pixels through a 1x1 convolution, resampled to
    their square as :class:`~dynamo_resnet.maps.Conv` does. The token of the whole image reads the mean over the pixels
    through an affine map of its own; a flat state is such a token alone.

    Args:
        meta_shape: (channels, height, width) of the meta-model's states.
        base_shape: (tokens, features) of the base model's, or (features,).
        rank: bounds the rank of each affine map's matrix; none bounds nothing.
        bias: adds a bias to each feature.

    Raises:
        DynamoError: states of the meta-model that are no feature maps; of the base model, that are neither tokens nor
        flat, or tokens that are no square of patches, with or without one more.
    """

    def __init__(self, meta_shape: Shape, base_shape: Shape, rank: int | None, bias: bool) -> None:
        super().__init__()
        if len(meta_shape) != 3:
            raise InvalidValueError(
                "state-map 'tokens' reads features (channels, height, width), and the states of the meta-model have "
                f"shape {meta_shape}: between flat states take 'affine', 'linear', 'low-rank' or 'mlp'"
            )
        side, has_whole = _layout(base_shape)
        self.meta_shape, self.base_shape = meta_shape, base_shape
        features = base_shape[-1]
        self.whole = _affine(meta_shape[0], features, rank, bias) if has_whole else None
        self.patches = Conv(meta_shape, (features, side, side), rank, bias, per_channel=False) if side else None

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, C, H, W] -> [B, T, L, D]``, or ``[B, T, D]``."""
        tokens: list[Tensor] = []
        if self.whole is not None:
            tokens.append(self.whole(states.mean((-2, -1))).unsqueeze(2))
        if self.patches is not None:
            tokens.append(self.patches(states).flatten(3).transpose(2, 3))
        return torch.cat(tokens, dim=2).reshape(*states.shape[:2], *self.base_shape)


def tokens(options: "TokensOptions", meta_shape: Shape, base_shape: Shape) -> StateMap:
    """The state map ``tokens``. Feature maps are mapped as ``conv`` does: one fit can have sites of both kinds, as a
    transformer's first has.
    """
    if len(meta_shape) == len(base_shape) == 3:
        return Conv(meta_shape, base_shape, options.rank, options.bias, per_channel=False)
    return Tokens(meta_shape, base_shape, options.rank, options.bias)


def _layout(base_shape: Shape) -> tuple[int, bool]:
    """The side of the square of patches, 0 where there are none, and whether a token stands for the whole image."""
    if len(base_shape) == 1:
        return 0, True
    if len(base_shape) == 2:
        for whole in (False, True):
            side = isqrt(base_shape[0] - whole)
            if side**2 == base_shape[0] - whole:
                return side, whole
        raise InvalidValueError(
            f"state-map 'tokens' takes a square of patches, with or without one token more, and the base model has "
            f"{base_shape[0]} tokens (shape {base_shape}): tap a module before tokens are added or merged"
        )
    raise InvalidValueError(
        f"state-map 'tokens' gives states (tokens, features), flat ones or feature maps; those of the base model have "
        f"shape {base_shape}: tap another module"
    )


def _affine(taken: int, given: int, rank: int | None, bias: bool) -> nn.Module:
    if rank is None:
        return nn.Linear(taken, given, bias=bias)
    return nn.Sequential(nn.Linear(taken, rank, bias=False), nn.Linear(rank, given, bias=bias))
