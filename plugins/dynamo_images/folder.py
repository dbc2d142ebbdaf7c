"""Your own images, in folders: ``train/CLASS/`` and ``test/CLASS/`` with picture files.

They are read as colour images (three channels) of 8 bits, turned as a camera's note in them says; transparent pixels
are laid on white. Hidden files and folders are passed over, and so are other files, which a warning counts.
"""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError, DynamoWarning, printable
from dynamo.contracts.files import name_after
from dynamo_images.pictures import SUFFIXES, read_picture
from dynamo_images.pixels import Images, as_dataset

if TYPE_CHECKING:
    from dynamo_images import ImageFolderOptions

Files = dict[str, list[Path]]


def image_folder(options: "ImageFolderOptions") -> Dataset:
    """The images of the folders; classes are numbered in the order of their folders' names.

    Raises:
        DynamoError: a folder is missing or empty, training and test differ in classes, a file cannot be read, or
        images differ in size and no size is given.
    """
    if not options.root:
        raise DynamoError("data set 'image-folder': give root=FOLDER with train/CLASS/ and test/CLASS/")
    root = Path(options.root).expanduser()
    train, test = (find_pictures(root / part) for part in ("train", "test"))
    if train.keys() != test.keys():
        differing = sorted(train.keys() ^ test.keys())
        raise DynamoError(f"{root}: train and test must have folders of the same names; only one has {differing[0]!r}")
    images, tested = (_read(found, options.size) for found in (train, test))
    group = options.group or name_after(Path(f"{root.resolve().name}.d"))
    return as_dataset("image-folder", images, tested, len(train), options, group)


def find_pictures(folder: Path) -> Files:
    """The picture files of each class, in the order of their names; those in folders below a class belong to it.

    Raises:
        DynamoError: there is no such folder, or a class has no pictures.
    """
    try:
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
    except OSError as error:
        raise DynamoError(
            f"data set 'image-folder': cannot read {folder} ({error.strerror or error}); give each class a folder"
        ) from None
    if not classes:
        raise DynamoError(f"data set 'image-folder': {folder} has no folders; give each class a folder")
    passed = [entry for entry in folder.iterdir() if not entry.is_dir() and not _is_hidden(entry.name)]
    found: Files = {}
    for name in classes:
        files = _files_below(folder / name)
        found[name] = [file for file in files if file.suffix.lower() in SUFFIXES]
        passed += [file for file in files if file.suffix.lower() not in SUFFIXES]
        if not found[name]:
            raise DynamoError(
                f"data set 'image-folder': {folder / name} has no pictures ({', '.join(sorted(SUFFIXES))}); give each "
                "class a folder with some"
            )
    if passed:
        warnings.warn(
            f"data set 'image-folder': {len(passed)} files in {folder} are no pictures of a class and were passed "
            f"over, the first is {printable(str(passed[0]))}",
            DynamoWarning,
            stacklevel=2,
        )
    return found


def _files_below(folder: Path) -> list[Path]:
    """All files but hidden ones, in the order of their folders' names and then of their own; no folder twice."""
    seen, found = set[str](), list[Path]()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not _is_hidden(name)) if real not in seen else []
        if real not in seen:
            found += [Path(place, name) for name in names if not _is_hidden(name)]
        seen.add(real)
    return sorted(found, key=lambda file: (str(file.parent), file.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _read(found: Files, size: int | None) -> Images:
    files = [file for own in found.values() for file in own]
    images = list[Tensor]()
    for file in files:
        image = read_picture(file, size)
        if images and image.shape != images[0].shape:
            raise DynamoError(
                f"{file} has {image.shape[1]} x {image.shape[2]} pixels, {files[0]} "
                f"{images[0].shape[1]} x {images[0].shape[2]}: give size=PIXELS to make them alike"
            )
        images.append(image)
    classes = [number for number, own in enumerate(found.values()) for _ in own]
    return Images(torch.stack(images), torch.tensor(classes))
