"""Finding files, getting them with torchvision, and errors that name them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dynamo.contracts.errors import DynamoError


def need_torchvision(name: str) -> Any:
    """The module ``torchvision.datasets``.

    Raises:
        DynamoError: torchvision is not installed.
    """
    try:
        from torchvision import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise DynamoError(f"data set {name!r} needs torchvision for this ({error}): pip install torchvision") from None
    return datasets


def find_folder(
    name: str, root: str, below: Iterable[str], needed: Callable[[Path], bool], download: bool, source: str, hint: str
) -> Path:
    """The folder that holds the files of a data set: the root, or one of those below it.

    Args:
        name: the data set, for messages.
        root: where to look.
        below: the folders below the root, as torchvision names them.
        needed: whether a folder has all the files.
        download: get them with torchvision where there are none.
        source: the class of ``torchvision.datasets`` that downloads them.
        hint: what else a user can do, for the message.

    Raises:
        DynamoError: they are not there, or cannot be downloaded.
    """
    top = Path(root).expanduser()
    folders = [top, *(top / folder for folder in below)]
    found = next((folder for folder in folders if needed(folder)), None)
    if found is None and download:
        datasets = need_torchvision(name)
        try:
            getattr(datasets, source)(top, download=True)
        except (OSError, RuntimeError) as error:
            raise DynamoError(
                f"data set {name!r} cannot be downloaded to {top} ({error}): see that the network and the disk are "
                "there, or put its files into root yourself"
            ) from None
        found = next((folder for folder in folders if needed(folder)), None)
    if found is None:
        places = " nor ".join(str(folder) for folder in folders)
        raise DynamoError(f"data set {name!r} is neither in {places}: give root=FOLDER or download=true{hint}")
    return found
