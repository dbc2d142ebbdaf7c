"""The networks in a folder: files of weights, and folders as Hugging Face's ``transformers`` writes them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from dynamo.contracts.errors import DynamoError, MissingFileError, has_control_characters
from dynamo.contracts.files import name_after, read_bytes, sha256
from dynamo.population.base_model import MetadataValue
from dynamo.population.metadata import typed
from dynamo.system.storage import read_state

#: What files of weights are called.
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
#: The files that tell a folder of populations and runs.
OURS = ("population.toml", "run.toml")
#: What the description of a model of ``transformers`` is called, and a file that tells it from any other.
CONFIG, SHARDS = "config.json", "*.safetensors"
#: The most letters of a text that becomes metadata.
_LONGEST = 1000
#: Of a training checkpoint's plain values those that say when it was written; Lightning's hyper-parameters.
_WHEN, _HYPER_PARAMETERS = ("epoch", "step", "global_step"), "hyper_parameters"


@attrs.frozen
class Source:
    """A network on the disk.

    Attributes:
        name: what it is called in a population.
        path: the file of its weights, or its folder.
        place: where that is in the folder that is imported.
        step: the training step that the name of its folder says, ``checkpoint-500``.
    """

    name: str
    path: Path
    place: str
    step: int | None = None

    @property
    def files(self) -> list[Path]:
        """All files that it is read from."""
        if not self.path.is_dir():
            return [self.path]
        return [self.path / CONFIG, *sorted(self.path.glob(SHARDS))]

    def digest(self) -> str:
        """The sha256 of its file, or of the digests of its files.

        Raises:
            DynamoError: one cannot be read.
        """
        digests = [sha256(read_bytes(path)) for path in self.files]
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode())

    def read(self) -> tuple[dict[str, Tensor], dict[str, MetadataValue]]:
        """Its weights, and what its file says of it: epoch, step, Lightning's hyper-parameters. No code in it runs.

        Raises:
            DynamoError: a file is missing or damaged, holds anything but tensors and plain values, or has no state
                dict.
        """
        if not self.path.is_dir():
            state, rest = read_state(self.path)
            return state, _told(rest)
        tensors: dict[str, Tensor] = {}
        for path in self.files[1:]:
            tensors.update(read_state(path)[0])
        return tensors, {} if self.step is None else {"step": self.step}


def sources_in(folder: Path, *, folders: bool = True) -> list[Source]:
    """All networks in a folder and the folders within it, by name.

    A network is called like its file, without what follows the last dot, or like its folder; where two are called so,
    all are called after their places, ``a/net.pt`` being ``a-net``. What begins with a dot is passed over.

    Args:
        folder: where they are; or a single file, or a single folder of ``transformers``.
        folders: whether a folder with ``config.json`` and ``.safetensors`` is one network.

    Raises:
        DynamoError: there are none, or two have one name.
    """
    if not folder.exists():
        raise MissingFileError(f"there is nothing at {folder}")
    if folder.is_file():
        places = [Path(folder.name)] if folder.suffix in SUFFIXES else []
        folder = folder.parent
    else:
        places = _places(folder, folders)
    if not places:
        raise DynamoError(
            f"{folder} holds no networks: files {', '.join(SUFFIXES)}, or folders with {CONFIG} and {SHARDS}"
        )
    names = [_name(folder, place) for place in places]
    if max(Counter(names).values()) > 1:
        names = [_name(folder, place, whole=True) for place in places]
    if max(Counter(names).values()) > 1:
        name = Counter(names).most_common(1)[0][0]
        first, second = [place for place, own in zip(places, names, strict=True) if own == name][:2]
        raise DynamoError(f"{first} and {second} in {folder} would both be called {name!r}: rename one")
    found = [
        Source(name, folder / place, place.as_posix(), _step(folder / place))
        for name, place in zip(names, places, strict=True)
    ]
    return sorted(found, key=lambda source: _natural(source.name))


def _places(folder: Path, folders: bool) -> list[Path]:
    if folders and _is_model(folder):
        return [Path()]
    ours = [path.parent for name in OURS for path in folder.rglob(name)]
    files = [path for path in sorted(folder.rglob("*")) if _is_given(path, folder, ours)]
    models = [path for path in files if folders and path.is_dir() and _is_model(path)]
    single = [
        path
        for path in files
        if path.suffix in SUFFIXES and not path.is_dir() and not any(model in path.parents for model in models)
    ]
    return [path.relative_to(folder) for path in (*models, *single)]


def _is_given(path: Path, folder: Path, ours: Sequence[Path]) -> bool:
    """Whether it is neither hidden nor in a population or a run."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and not any(place in path.parents for place in ours)


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and next(folder.glob(SHARDS), None) is not None


def _name(folder: Path, place: Path, whole: bool = False) -> str:
    if not place.parts:
        return name_after(Path(f"{folder.resolve().name}.x"))
    plain = place.with_suffix("") if place.suffix in SUFFIXES else place
    text = "-".join(plain.parts) if whole else plain.name
    return name_after(Path(f"{text}.x"))  # only the last suffix is taken off there, and it is ours


def _step(path: Path) -> int | None:
    match = re.fullmatch(r"checkpoint-(\d{1,15})", path.name)
    return int(match[1]) if match and path.is_dir() else None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which ``net-2`` comes before ``net-10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d{1,15})", name)]


def _told(rest: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """What a checkpoint says of its network in plain values."""
    given = rest.get(_HYPER_PARAMETERS)
    found = {key: rest[key] for key in _WHEN if key in rest}
    found |= {key: value for key, value in given.items() if isinstance(key, str)} if isinstance(given, Mapping) else {}
    return {key: value for key, value in found.items() if _is_plain(key) and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) < _LONGEST and not has_control_characters(value)
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63)


def options_of(texts: Mapping[str, str], metadata: Mapping[str, MetadataValue]) -> dict[str, MetadataValue]:
    """Arguments as they are written: numbers and truth values as such, and ``@key`` for what is known of a network.

    Raises:
        DynamoError: nothing is known under such a key.
    """
    found = {}
    for key, text in texts.items():
        if text.startswith("@"):
            if text[1:] not in metadata:
                raise DynamoError(
                    f"nothing is known of it under {text[1:]!r}, which {key}={text} asks for: it has "
                    f"{', '.join(sorted(metadata)) or 'no metadata'}"
                )
            found[key] = metadata[text[1:]]
        else:
            found[key] = typed(text)
    return found
