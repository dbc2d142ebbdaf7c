"""Your own images, in folders: ``train/CLASS/`` and ``test/CLASS/`` with picture files of any format that Pillow reads.

They are read as colour images (three channels).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo_images.files import need_torchvision
from dynamo_images.pixels import Images, as_dataset

if TYPE_CHECKING:
    from dynamo_images import ImageFolderOptions


def image_folder(options: "ImageFolderOptions") -> Dataset:
    """The images of the folders; classes are numbered in the order of their folders' names.

    Raises:
        DynamoError: a folder is missing or empty, training and test differ in classes, a file cannot be read, or
        images differ in size and no size is given.
    """
    if not options.root:
        raise DynamoError("data set 'image-folder': give root=FOLDER with train/CLASS/ and test/CLASS/")
    root = Path(options.root).expanduser()
    train, test = (_open(root / part) for part in ("train", "test"))
    if train.classes != test.classes:
        differing = sorted(set(train.classes) ^ set(test.classes))
        raise DynamoError(f"{root}: train and test must have folders of the same names; only one has {differing[0]!r}")
    images, tested = (_read(found, options.size) for found in (train, test))
    return as_dataset("image-folder", images, tested, len(train.classes), options, options.group or root.resolve().name)


def _open(folder: Path) -> Any:
    """torchvision's ``ImageFolder``: the files with their classes."""
    try:
        return need_torchvision("image-folder").ImageFolder(folder)
    except OSError as error:
        raise DynamoError(f"data set 'image-folder': {str(error).splitlines()[0]}; give each class a folder") from None


def _read(found: Any, size: int | None) -> Images:
    images = [_read_image(found, file, size) for file, _ in found.samples]
    for (file, _), image in zip(found.samples, images, strict=True):
        if image.shape != images[0].shape:
            raise DynamoError(
                f"{file} has {image.shape[1]} x {image.shape[2]} pixels, {found.samples[0][0]} "
                f"{images[0].shape[1]} x {images[0].shape[2]}: give size=PIXELS to make them alike"
            )
    return Images(torch.stack(images), torch.tensor(found.targets))


def _read_image(found: Any, file: str, size: int | None) -> Tensor:
    """One image ``[3, H, W]`` uint8."""
    from torchvision.transforms import functional  # type: ignore[import-untyped]

    try:
        image = found.loader(file)
    except Exception as error:  # a damaged picture can raise anything, one of absurd size a DecompressionBombError
        raise DynamoError(
            f"{file} cannot be read as an image ({type(error).__name__}: {error}): repair it or take it away"
        ) from None
    if size is not None:
        image = functional.center_crop(functional.resize(image, size), [size, size])
    pixels: Tensor = functional.pil_to_tensor(image)
    return pixels
