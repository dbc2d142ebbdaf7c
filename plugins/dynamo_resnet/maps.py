"""State maps between feature maps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import StateMap

if TYPE_CHECKING:
    from dynamo_resnet import ConvOptions

Shape = tuple[int, ...]


@final
class Conv(StateMap):
    """V_{n,t} (appendix A) as a 1x1 convolution: one affine map of the channels, the same at every pixel.

    Where the base model's feature maps are smaller than the meta-model's, these are averaged over the pixels that
    become one; where they are larger, these are interpolated bilinearly; height and width by themselves. (Both commute
    with the convolution, which therefore runs on the smaller maps.)

    Args:
        meta_shape: (channels, height, width) of the meta-model's states.
        base_shape: those of the base model's.
        rank: bounds the rank of the map of the channels; none bounds nothing.
        bias: adds a bias to each channel.
        per_channel: a scale for each channel, 1 at first, in place of a matrix.

    Raises:
        DynamoError: states that are no feature maps, or different channels with ``per_channel``.
    """

    def __init__(self, meta_shape: Shape, base_shape: Shape, rank: int | None, bias: bool, per_channel: bool) -> None:
        super().__init__()
        for whose, shape in (("meta-model", meta_shape), ("base model", base_shape)):
            if len(shape) != 3:
                raise InvalidValueError(
                    f"state-map 'conv' maps features (channels, height, width), and the states of the {whose} have "
                    f"shape {shape}: between flat states take 'affine', 'linear', 'low-rank' or 'mlp', from feature "
                    "maps to tokens or flat states 'tokens'"
                )
        if per_channel and meta_shape[0] != base_shape[0]:
            raise InvalidValueError(
                f"state-map 'conv' with per_channel needs as many channels on both sides; the meta-model has "
                f"{meta_shape[0]} and the base model {base_shape[0]}: give the meta-model that width, or leave "
                "per_channel out"
            )
        self.meta_shape, self.base_shape = meta_shape, base_shape
        self._pooled = (min(meta_shape[1], base_shape[1]), min(meta_shape[2], base_shape[2]))
        self.map = _channel_map(meta_shape[0], base_shape[0], rank, bias, per_channel)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, C, H, W] -> [B, T, C', H', W']``."""
        x = self._enlarged(cast(Tensor, self.map(self._averaged(states.flatten(0, 1)))))
        return x.reshape(*states.shape[:2], *self.base_shape)

    @classmethod
    def map_together(cls, state_maps: Sequence[StateMap], states: Tensor) -> Tensor:
        """``[K, B, T, C, H, W] -> [K, B, T, C', H', W']``; the channels of all maps in one batched product."""
        maps = [cast(Conv, state_map) for state_map in state_maps]
        first = maps[0]
        if first._layers()[0].groups > 1:
            return super().map_together(state_maps, states)
        x = first._averaged(states.flatten(0, 2)).movedim(1, -1)
        for layers in zip(*(own._layers() for own in maps), strict=True):
            x = _product(layers, x.reshape(len(maps), -1, x.shape[-1])).view(*x.shape[:-1], -1)
        return first._enlarged(x.movedim(-1, 1)).reshape(*states.shape[:3], *first.base_shape)

    def _layers(self) -> list[nn.Conv2d]:
        return [part for part in self.map.modules() if isinstance(part, nn.Conv2d)]

    def _averaged(self, x: Tensor) -> Tensor:
        return x if self._pooled == self.meta_shape[1:] else functional.adaptive_avg_pool2d(x, self._pooled)

    def _enlarged(self, x: Tensor) -> Tensor:
        if self._pooled == self.base_shape[1:]:
            return x
        return functional.interpolate(x, self.base_shape[1:], mode="bilinear", align_corners=False)


def conv(options: "ConvOptions", meta_shape: Shape, base_shape: Shape) -> Conv:
    """The state map ``conv``."""
    return Conv(meta_shape, base_shape, options.rank, options.bias, options.per_channel)


def _product(layers: Sequence[nn.Conv2d], pixels: Tensor) -> Tensor:
    """Each 1x1 convolution on pixels of its own: ``[K, P, C] -> [K, P, C']``."""
    weights = torch.stack([layer.weight.flatten(1) for layer in layers]).transpose(1, 2)
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return torch.baddbmm(torch.stack(biases).unsqueeze(1), pixels, weights) if biases else torch.bmm(pixels, weights)


def _channel_map(taken: int, given: int, rank: int | None, bias: bool, per_channel: bool) -> nn.Module:
    if per_channel:
        scale = nn.Conv2d(taken, given, 1, groups=taken, bias=bias)
        nn.init.ones_(scale.weight)
        if scale.bias is not None:
            nn.init.zeros_(scale.bias)
        return scale
    if rank is None:
        return nn.Conv2d(taken, given, 1, bias=bias)
    return nn.Sequential(nn.Conv2d(taken, rank, 1, bias=False), nn.Conv2d(rank, given, 1, bias=bias))
