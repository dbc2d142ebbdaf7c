"""From pixels and labels to a data set: every source ends here."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.encoding import Encoding
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs

if TYPE_CHECKING:
    from dynamo_images import PartOptions

_LEVELS = 256


def _half(values: Tensor) -> Tensor:
    """Half as many pixels a side, each the mean of four; the last row or column of an odd number is left out."""
    return functional.avg_pool2d(values, 2)


def _grey(values: Tensor) -> Tensor:
    return values.mean(1, keepdim=True)


#: Other encodings of images, for base models that read these.
ENCODINGS: Mapping[str, Callable[[Tensor], Tensor]] = {"half": _half, "grey": _grey}


@attrs.frozen(eq=False)
class Images:
    """Labelled images as they are stored.

    Attributes:
        pixels: ``[n, C, H, W]`` uint8.
        classes: ``[n]`` int64.
    """

    pixels: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


def as_dataset(
    name: str, train: Images, test: Images, classes: int, options: "PartOptions", group: str = ""
) -> Dataset:
    """The data set of some or all of the images, normalised: ``[n, C, H, W]`` float32.

    Each channel is shifted and scaled to mean 0 and standard deviation 1 over all training images, so that a part of
    them has the same values as in the whole. A smaller part is contained in a larger one of the same seed.

    Raises:
        DynamoError: no images, images of different shapes, more asked for than there are, or labels that are none of
        the classes, or an unknown encoding.
    """
    for part, images in (("train", train), ("test", test)):
        if len(images) == 0 or len(images) != len(images.classes):
            raise DynamoError(
                f"data set {name!r} ({part}) has {len(images)} images and {len(images.classes)} labels: it needs as "
                "many, and at least one"
            )
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        shapes = [tuple(images.pixels.shape[1:]) for images in (train, test)]
        raise DynamoError(f"data set {name!r} has training images of shape {shapes[0]} and test images of {shapes[1]}")
    kinds = [kind for kind in options.encodings.split("+") if kind]
    for kind in kinds:
        if kind not in ENCODINGS:
            raise DynamoError(f"data set {name!r} has no encoding {kind!r}: {did_you_mean(kind, ENCODINGS)}")
    if "half" in kinds and min(train.pixels.shape[2:]) < 2:
        raise DynamoError(f"data set {name!r} has images of one row or column, which cannot be halved")
    mean, deviation = channel_statistics(train.pixels)

    def examples(images: Images, size: int | None, part: str) -> Examples:
        rows = _rows(len(images), size, options.seed, f"data set {name!r}: option '{part}_size'")
        values = images.pixels[rows].to(torch.float32).sub_(mean).div_(deviation)
        inputs = _inputs(values)
        for kind in kinds:
            own = ENCODINGS[kind](values)
            space, clock = InputSpace("image", tuple(own.shape[1:])), torch.zeros(len(own), 1, dtype=torch.int64)
            inputs = inputs.with_encoding(kind, Encoding(space, _inputs(own), clock))
        return Examples(inputs, images.classes[rows])

    dataset = Dataset(
        InputSpace("image", tuple(train.pixels.shape[1:])),
        OutputSpace("classes", classes, group=group or name),
        examples(train, options.train_size, "train"),
        examples(test, options.test_size, "test"),
        encoding="full",
    )
    dataset.check(name)
    return dataset


def _inputs(values: Tensor) -> Inputs:
    return Inputs(values, torch.ones(len(values), 1, dtype=torch.bool))


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each channel of uint8 images ``[n, C, H, W]``, as ``[C, 1, 1]`` float32.

    They are exact, from how often each of the 256 levels occurs. The deviation of a channel of one level counts as 1.
    """
    levels = torch.arange(_LEVELS, dtype=torch.float64)
    counts = torch.stack(
        [torch.bincount(channel.flatten(), minlength=_LEVELS) for channel in pixels.unbind(1)]
    ).double()
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]).square()).sum(1)
    deviation = torch.where(variance > 0, variance.sqrt(), 1)
    return mean.float()[:, None, None], deviation.float()[:, None, None]


def _rows(count: int, size: int | None, seed: int, where: str) -> Tensor | slice:
    if size is None:
        return slice(None)
    if size > count:
        raise DynamoError(f"{where} is {size}, and there are {count} images: take fewer, or none for all")
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:size]
