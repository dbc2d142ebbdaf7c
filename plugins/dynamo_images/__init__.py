"""Data sets of images: digits, CIFAR, Fashion-MNIST, and images of one's own; weak and strong augmentation.

All are normalised: each channel has mean 0 and standard deviation 1 over all training images of the source, whatever
part of them is taken. Listing them is instant; what a data set needs is imported when it is built.
"""

from typing import TYPE_CHECKING, Any

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import option

if TYPE_CHECKING:
    from dynamo.contracts.data import Dataset
    from dynamo.contracts.protocols import Augmentation
    from dynamo.contracts.spaces import InputSpace


def _size(help: str) -> Any:
    return option(None, help, check=lambda value: value > 0, rule="above 0")


@attrs.frozen
class PartOptions:
    """The options that all data sets of images share."""

    train_size: int | None = _size("training images, drawn at random; none = all")
    test_size: int | None = _size("test images, drawn at random; none = all")
    seed: int = option(0, "seed of what is drawn at random", check=lambda value: value >= 0, rule="at least 0")


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
    size: int | None = option(
        None,
        "pixels a side: the shorter side is scaled to it and the middle cut out; none = as they are",
        check=lambda value: value > 0,
        rule="above 0",
    )
    group: str = option("", "the task's name; empty: the folder's name")


@attrs.frozen
class WeakOptions:
    """Options of ``weak``."""

    shift: int = option(
        2, "pixels that an image is shifted by, at most", check=lambda value: value >= 0, rule="at least 0"
    )
    flip: bool = option(True, "flip half of the images, at random; false where that changes the class, as for digits")


@attrs.frozen
class StrongOptions(WeakOptions):
    """Options of ``strong``."""

    operations: int = option(2, "RandAugment's operations on an image", check=lambda value: value > 0, rule="above 0")
    magnitude: int = option(9, "RandAugment's strength, 0 to 30", check=lambda value: 0 <= value <= 30, rule="0 to 30")
    draw_for: int = option(
        8, "images that share one draw of operations; 1 is slowest", check=lambda value: value > 0, rule="above 0"
    )


def _digits(options: DigitsOptions) -> "Dataset":
    from dynamo_images.digits import digits

    return digits(options)


def _cifar10(options: DownloadOptions) -> "Dataset":
    from dynamo_images.cifar import cifar10

    return cifar10(options)


def _cifar100(options: DownloadOptions) -> "Dataset":
    from dynamo_images.cifar import cifar100

    return cifar100(options)


def _fashion_mnist(options: DownloadOptions) -> "Dataset":
    from dynamo_images.fashion import fashion_mnist

    return fashion_mnist(options)


def _image_arrays(options: ImageArraysOptions) -> "Dataset":
    from dynamo_images.arrays import image_arrays

    return image_arrays(options)


def _image_folder(options: ImageFolderOptions) -> "Dataset":
    from dynamo_images.folder import image_folder

    return image_folder(options)


def _weak(options: WeakOptions, inputs: "InputSpace") -> "Augmentation":
    from dynamo_images.augmentations import Weak

    return Weak(inputs, options.shift, options.flip)


def _strong(options: StrongOptions, inputs: "InputSpace") -> "Augmentation":
    from dynamo_images.augmentations import Strong, Weak

    weak = Weak(inputs, options.shift, options.flip)
    return Strong(weak, options.operations, options.magnitude, options.draw_for)


@hookimpl
def dynamo_components() -> list[Component]:
    """The data sets and augmentations of this plugin."""
    return [
        Component("dataset", "digits", _digits, "handwritten digits, 8 x 8, as images", DigitsOptions),
        Component("dataset", "cifar10", _cifar10, "colour images of 10 classes, 32 x 32", DownloadOptions),
        Component("dataset", "cifar100", _cifar100, "colour images of 100 classes, 32 x 32", DownloadOptions),
        Component("dataset", "fashion-mnist", _fashion_mnist, "grey images of clothes, 28 x 28", DownloadOptions),
        Component("dataset", "image-arrays", _image_arrays, "your own images, from an .npz file", ImageArraysOptions),
        Component("dataset", "image-folder", _image_folder, "your own images, a folder a class", ImageFolderOptions),
        Component("augmentation", "weak", _weak, "random shifts and horizontal flips", WeakOptions),
        Component("augmentation", "strong", _strong, "RandAugment after shifts and flips", StrongOptions),
    ]
