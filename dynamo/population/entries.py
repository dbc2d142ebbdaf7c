"""The manifest of a population's folder: a table for each model, in ``population.toml``. Of many models the first are
in parts beside it, each of which is written once and never changed, so that a further model costs no more than the
first.
"""

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import LARGEST_TEXT, read_bytes, sha256, write_bytes
from dynamo.contracts.shown import brief
from dynamo.system.storage import read_toml, refuse_control_characters, without_none, write_toml
from dynamo.version import __version__

MANIFEST = "population.toml"
#: The folder of the parts.
PARTS = "parts"
#: How many models a part has, and the most in the manifest itself.
MOST = 512
#: 1: all in one file; 2: with parts, or with the weights of several models in one file.
FORMATS = (1, 2)
#: The key of a table that says in which file something is.
FILE = "file"


@attrs.define(eq=False)
class Entries:
    """The tables of a population's models.

    Attributes:
        folder: the population's.
        models: all of them, in order.
        parts: for each part its file, its checksum, and how many models it has.
    """

    folder: Path
    models: list[dict[str, Any]] = attrs.field(factory=list)
    parts: list[dict[str, Any]] = attrs.field(factory=list)

    __repr__ = brief

    @classmethod
    def read(cls, folder: Path) -> "Entries":
        """The tables that a folder holds.

        Raises:
            DynamoError: the manifest or a part is missing, damaged, of another version, or lacks something.
        """
        path = folder / MANIFEST
        table = read_toml(path, what="population", format_version=FORMATS, known=("models", "parts"))
        parts, own = table.get("parts", []), _tables(table.get("models", []), path)
        models = [entry for part in _tables(parts, path, "parts") for entry in _read_part(folder, part)]
        return cls(folder, [*models, *own], parts)

    def write(self) -> None:
        """Write what is new: full parts first, then the manifest that names them.

        Raises:
            DynamoError: the disk refuses.
        """
        while len(rest := self.models[sum(part["models"] for part in self.parts) :]) > MOST:
            content = json.dumps(without_none({"models": rest[:MOST]})).encode()
            digest = sha256(content)
            name = f"{PARTS}/{digest[:16]}.json"
            write_bytes(self.folder / name, content)
            self.parts.append({FILE: name, "sha256": digest, "models": MOST})
        table = {"format": FORMATS[bool(self.parts)], "dynamo": __version__, "parts": self.parts or None}
        write_toml(self.folder / MANIFEST, {**table, "models": rest})


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """The tables of the models in a population's manifest."""
    return Entries.read(folder).models


def _read_part(folder: Path, part: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of a part."""
    where = f"{folder / MANIFEST}: a part of the models"
    if not isinstance(part.get(FILE), str) or type(part.get("models")) is not int:
        raise DynamoError(f"{where} must be a table with {FILE!r} and the number of its 'models'")
    path = find_inside(folder, part[FILE], where)
    content = read_bytes(path, part.get("sha256"), within=folder, most=LARGEST_TEXT)
    try:
        table = json.loads(content)
        refuse_control_characters(table, str(path))
    except (ValueError, RecursionError) as error:
        raise DynamoError(f"{path} is no valid part of a population: {error}") from None
    models = _tables(table.get("models") if isinstance(table, dict) else None, path)
    if len(models) != part["models"]:
        raise DynamoError(f"{path} has {len(models)} models, and {folder / MANIFEST} says {part['models']}")
    return models


def _tables(entries: Any, path: Path, key: str = "models") -> list[dict[str, Any]]:
    """A list of tables; those of models have all that a model needs."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DynamoError(f"{path}: {key!r} must be a list of tables")
    for entry in entries if key == "models" else []:
        own = {"recording"} if "recording" in entry else {"weights", "architecture"}
        missing = ({"name", "dataset", "inputs", "outputs"} | own) - entry.keys()
        if missing:
            raise DynamoError(f"{path}, model {entry.get('name')!r} lacks {', '.join(sorted(missing))}")
    return entries


def find_inside(folder: Path, name: str, where: str) -> Path:
    """The file of that name; it must lie inside the population's folder, also where it is a link."""
    path = PurePosixPath(name)
    inside = Path(os.path.realpath(folder / path)).is_relative_to(os.path.realpath(folder))
    if path.is_absolute() or ".." in path.parts or not inside:
        raise DynamoError(f"{where} {name!r} must lie inside the population's folder")
    return folder / path
