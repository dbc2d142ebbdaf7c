"""Data sets of images: digits, CIFAR, Fashion-MNIST, and images of one's own; weak and strong augmentation.

All are normalised: each channel has mean 0 and standard deviation 1 over all training images of the source, whatever
part of them is taken. Listing them is instant; what a data set needs is imported when it is built.
"""

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import at_least, option, positive, seed

#: The most images, and pixels a side, that an option may ask for.
MOST, LONGEST_SIDE = 10**8, 2**14


@attrs.frozen
class PartOptions:
    """The options that all data sets of images share."""

    train_size: int | None = positive(None, "training images, drawn at random; none = all", most=MOST)
    test_size: int | None = positive(None, "test images, drawn at random; none = all", most=MOST)
    seed: int = seed("seed of what is drawn at random")
    encodings: str = option("", "other encodings that base models may read, joined by '+', of half and grey")


@attrs.frozen
class DigitsOptions(PartOptions):
    """Options of ``digits``."""

    test_fraction: float = option(
        0.25,
        "the share of the images kept for the test",
        check=lambda value: 0 < value < 1,
        rule="above 0 and below 1",
    )


@attrs.frozen
class DownloadOptions(PartOptions):
    """Options of ``cifar10``, ``cifar100`` and ``fashion-mnist``."""

    root: str = option("~/.cache/dynamo", "the folder of the files, or of their folder as torchvision names it")
    download: bool = option(False, "get the files with torchvision where they are not in root")


@attrs.frozen
class ImageArraysOptions(PartOptions):
    """Options of ``image-arrays``."""

    path: str = option("", "the .npz file")
    group: str = option("", "the task's name; empty: the file's name without .npz")


@attrs.frozen
class ImageFolderOptions(PartOptions):
    """Options of ``image-folder``."""

    root: str = option("", "the folder with train/CLASS/ and test/CLASS/")
    size: int | None = positive(
        None,
        "pixels a side: the shorter side is scaled to it and the middle cut out; none = as they are",
        most=LONGEST_SIDE,
    )
    group: str = option("", "the task's name; empty: the folder's name")


@attrs.frozen
class WeakOptions:
    """Options of ``weak``."""

    shift: int = at_least(0, 2, "pixels that an image is shifted by, at most", most=LONGEST_SIDE)
    flip: bool = option(True, "flip half of the images, at random; false where that changes the class, as for digits")


@attrs.frozen
class StrongOptions(WeakOptions):
    """Options of ``strong``."""

    operations: int = positive(2, "RandAugment's operations on an image", most=1000)
    magnitude: int = option(9, "RandAugment's strength, 0 to 30", check=lambda value: 0 <= value <= 30, rule="0 to 30")
    draw_for: int = positive(8, "images that share one draw of operations; 1 is slowest", most=2**20)


@hookimpl
def dynamo_components() -> list[Component]:
    """The data sets and augmentations of this plugin."""
    return [
        Component(
            "dataset", "digits", "dynamo_images.digits:digits", "handwritten digits, 8 x 8, as images", DigitsOptions
        ),
        Component(
            "dataset", "cifar10", "dynamo_images.cifar:cifar10", "colour images of 10 classes, 32 x 32", DownloadOptions
        ),
        Component(
            "dataset",
            "cifar100",
            "dynamo_images.cifar:cifar100",
            "colour images of 100 classes, 32 x 32",
            DownloadOptions,
        ),
        Component(
            "dataset",
            "fashion-mnist",
            "dynamo_images.fashion:fashion_mnist",
            "grey images of clothes, 28 x 28",
            DownloadOptions,
        ),
        Component(
            "dataset",
            "image-arrays",
            "dynamo_images.arrays:image_arrays",
            "your own images, from an .npz file",
            ImageArraysOptions,
        ),
        Component(
            "dataset",
            "image-folder",
            "dynamo_images.folder:image_folder",
            "your own images, a folder a class",
            ImageFolderOptions,
        ),
        Component(
            "augmentation",
            "weak",
            "dynamo_images.augmentations:weak",
            "random shifts and horizontal flips",
            WeakOptions,
        ),
        Component(
            "augmentation",
            "strong",
            "dynamo_images.augmentations:strong",
            "RandAugment after shifts and flips",
            StrongOptions,
        ),
    ]
