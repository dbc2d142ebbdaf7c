"""Where the files of a data set are: a population opens from any folder, and can be moved together with its data.

Options that name a file or folder are called ``path`` or ``root``. What a manifest keeps of them is absolute; beside it
``data_paths`` keeps how those that lie in the population's folder, or beside it, are reached from there.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from dynamo.contracts.options import Spec

NAMES = ("path", "root")


def absolute(data: Spec) -> Spec:
    """The spec with the paths that it gives made absolute."""
    return attrs.evolve(data, options={**data.options, **{name: _whole(path) for name, path in _paths(data)}})


def relative_paths(data: Spec, folder: Path) -> dict[str, str]:
    """Of a spec with absolute paths, those in or beside a population's folder, as seen from there."""
    home = folder.resolve()
    near = {name: Path(path) for name, path in _paths(data) if Path(path).resolve().is_relative_to(home.parent)}
    return {name: Path(os.path.relpath(path.resolve(), home)).as_posix() for name, path in near.items()}


def resolved(data: Spec, relative: Any, folder: Path) -> Spec:
    """The spec that a manifest keeps, as it is here: what is there as seen from the population's folder comes before
    what is there by its absolute path.

    Args:
        data: the spec.
        relative: what :func:`relative_paths` gave when it was written, as the manifest has it.
        folder: the population's.
    """
    found = {name: Path(path) for name, path in _paths(data)}
    home = folder.resolve()
    for name, path in found.items():
        seen = relative.get(name) if isinstance(relative, Mapping) else None
        places = [home / seen] if isinstance(seen, str) else []
        if not path.is_absolute():  # of a manifest that was written before paths were made absolute
            places += [Path.cwd() / path, home.parent / path, home / path]
        near = (Path(os.path.normpath(place)) for place in places)
        found[name] = next((place for place in near if place.is_relative_to(home.parent) and place.exists()), path)
    return attrs.evolve(data, options={**data.options, **{name: str(path) for name, path in found.items()}})


def _paths(data: Spec) -> list[tuple[str, str]]:
    given = [(name, data.options.get(name)) for name in NAMES]
    return [(name, path) for name, path in given if isinstance(path, str) and path and not path.startswith("~")]


def _whole(path: str) -> str:
    return os.path.normpath(Path.cwd() / path)
