"""Points on the map that have names: ``points.toml`` in the run folder, written whole or not at all."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from threading import Lock
from typing import Any

import attrs

from dynamo.contracts.errors import DynamoError, has_control_characters
from dynamo.contracts.files import refuse_links
from dynamo.contracts.shown import brief
from dynamo.serve.asked import NAME
from dynamo.system.locks import locked
from dynamo.system.storage import read_toml, write_toml
from dynamo.version import __version__

#: The file in a run folder.
POINTS = "points.toml"

#: The most points of a run.
MOST = 1000

_FORMAT = 1


@attrs.frozen
class Point:
    """A point with a name.

    Attributes:
        name: of the point.
        theta: ``[d]``.
        head: the name of the head that reads it.
        models: the base models whose mean θ it is; empty where it is something else.
        place: where it was chosen on the picture of the map, two coordinates; empty where it was not chosen there.
    """

    name: str
    theta: tuple[float, ...]
    head: str
    models: tuple[str, ...] = ()
    place: tuple[float, ...] = ()

    __repr__ = brief


@attrs.define
class Points:
    """The named points of a run folder. The file is read anew each time, so that several explorers see one another's.

    Attributes:
        folder: the run folder.
        size: of θ.
    """

    folder: Path
    size: int
    _writing: Lock = attrs.field(factory=Lock, init=False)

    def all(self) -> list[Point]:
        """The points, in the order in which they were named.

        Raises:
            DynamoError: the file is damaged, or is of another run.
        """
        path = self.folder / POINTS
        if not path.exists():
            return []
        table = read_toml(path, what="table of points", format_version=_FORMAT, known=("points",))
        rows = table.get("points", [])
        if not isinstance(rows, list):
            raise DynamoError(f"{path}: 'points' must be a list of tables")
        return [self._read(row, path) for row in rows]

    def get(self, name: str) -> Point:
        """A point by name.

        Raises:
            DynamoError: there is none.
        """
        for point in self.all():
            if point.name == name:
                return point
        raise DynamoError(f"no point is called {name!r}")

    def add(self, point: Point) -> None:
        """Keep a further point.

        Raises:
            DynamoError: its name is taken, empty, too long or has control characters; there are too many; the disk
                refuses, or another process holds the folder.
        """
        if not point.name.strip() or len(point.name) > NAME or has_control_characters(point.name):
            raise DynamoError(f"a name has 1 to {NAME} characters, none of them a control character")
        with self._writing:
            known = self.all()
            if point.name in [other.name for other in known]:
                raise DynamoError(f"a point is called {point.name!r} already: choose another name, or remove it first")
            if len(known) >= MOST:
                raise DynamoError(f"there are {MOST} points, the most that a run keeps: remove some")
            self._write([*known, point])

    def remove(self, name: str) -> None:
        """Forget a point.

        Raises:
            DynamoError: there is none of that name, or the file cannot be written.
        """
        with self._writing:
            known = self.all()
            rest = [point for point in known if point.name != name]
            if len(rest) == len(known):
                raise DynamoError(f"no point is called {name!r}")
            self._write(rest)

    def _write(self, points: Sequence[Point]) -> None:
        rows = [
            {key: list(value) if isinstance(value, tuple) else value for key, value in attrs.asdict(point).items()}
            for point in points
        ]
        refuse_links(self.folder, self.folder / POINTS)
        with locked(self.folder):
            write_toml(self.folder / POINTS, {"format": _FORMAT, "dynamo": __version__, "points": rows})

    def _read(self, row: Any, path: Path) -> Point:
        names = [field.name for field in attrs.fields(Point)]
        if not isinstance(row, dict) or set(row) != set(names):
            raise DynamoError(f"{path}: a point has the keys {', '.join(names)}")
        texts = isinstance(row["name"], str) and isinstance(row["head"], str)
        if not texts or not _numbers(row["theta"], (self.size,)) or not _numbers(row["place"], (0, 2)):
            raise DynamoError(f"{path}: a point of this run has a name, a head and a theta of {self.size} numbers")
        if not isinstance(row["models"], list) or not all(isinstance(name, str) for name in row["models"]):
            raise DynamoError(f"{path}: 'models' of a point must be a list of names")
        parts = {key: tuple(row[key]) for key in ("theta", "models", "place")}
        return Point(row["name"], head=row["head"], **parts)


def _numbers(value: Any, sizes: Sequence[int]) -> bool:
    return (
        isinstance(value, list)
        and len(value) in sizes
        and all(isinstance(one, int | float) and not isinstance(one, bool) and isfinite(one) for one in value)
    )
