"""Weak and strong augmentation, the two policies of Figure 4."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import Augmentation
from dynamo.contracts.spaces import InputSpace

if TYPE_CHECKING:
    from dynamo_images import StrongOptions, WeakOptions


class Weak(Augmentation):
    """Random shifts and horizontal flips (appendix B.3). What a shift uncovers is filled with the image's reflection.

    Args:
        inputs: a space of images.
        shift: the largest shift along each axis, in pixels.
        flip: whether every other image, at random, is flipped from left to right.

    Raises:
        DynamoError: the inputs are no images, or too small for the shift.
    """

    def __init__(self, inputs: InputSpace, shift: int, flip: bool) -> None:
        if inputs.kind != "image":
            raise DynamoError(f"this augmentation changes images, not {inputs}")
        if shift >= min(inputs.shape[1:]):
            raise DynamoError(f"a shift of {shift} pixels needs images of more than that; these are {inputs.shape[1:]}")
        self.inputs, self.shift, self.flip = inputs, shift, flip

    def __call__(self, values: Tensor) -> Tensor:
        """Shift and flip each image by its own draw: ``[B, C, H, W]``."""
        batch, channels, height, width = values.shape
        padded = functional.pad(values, (self.shift,) * 4, mode="reflect")
        down, right = torch.randint(0, 2 * self.shift + 1, (2, batch, 1))
        rows, columns = down + torch.arange(height), right + torch.arange(width)
        if self.flip:
            columns = torch.where(torch.rand(batch, 1) < 0.5, columns.flip(1), columns)
        example, channel = torch.arange(batch)[:, None, None, None], torch.arange(channels)[:, None, None]
        return padded[example, channel, rows[:, None, :, None], columns[:, None, None, :]]


class Strong(Augmentation):
    """RandAugment (Cubuk et al. 2020) after weak augmentation.

    RandAugment works on pixels of 256 levels; each image is brought to its own range of levels and back.

    Args:
        weak: what comes first.
        operations: RandAugment's N.
        magnitude: RandAugment's M, on its scale of 0 to 30.
        draw_for: how many images share one draw of operations; they are changed in one go.
    """

    def __init__(self, weak: Weak, operations: int, magnitude: int, draw_for: int) -> None:
        from torchvision.transforms import v2  # type: ignore[import-untyped]

        self.inputs, self.weak, self.draw_for = weak.inputs, weak, draw_for
        if self.inputs.shape[0] not in (1, 3):
            raise DynamoError(f"RandAugment changes images of 1 or 3 channels; these have {self.inputs.shape[0]}")
        self.randaugment = v2.RandAugment(operations, magnitude)

    def __call__(self, values: Tensor) -> Tensor:
        """Change each image: ``[B, C, H, W]``."""
        values = self.weak(values)
        low = values.amin((1, 2, 3), keepdim=True)
        unit = ((values.amax((1, 2, 3), keepdim=True) - low) / 255).clamp_min(1e-12)
        levels = ((values - low) / unit).round().to(torch.uint8)
        changed = torch.cat([self.randaugment(part) for part in torch.split(levels, self.draw_for)])
        return changed.to(values.dtype) * unit + low


def weak(options: "WeakOptions", inputs: InputSpace) -> Weak:
    """The augmentation ``weak``."""
    return Weak(inputs, options.shift, options.flip)


def strong(options: "StrongOptions", inputs: InputSpace) -> Strong:
    """The augmentation ``strong``, which starts with ``weak``."""
    return Strong(weak(options, inputs), options.operations, options.magnitude, options.draw_for)
