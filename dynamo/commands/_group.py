"""Groups of commands that are imported when they are used or listed."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from dynamo.commands._json import with_json


class LazyGroup(click.Group):
    """Every module of a package that does not start with ``_`` is a command: its attribute ``command``. One that would
    be a word of Python ends with ``_``: ``import_`` is the command ``import``.
    """

    def __init__(self, *args: Any, package: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package = package

    def _modules(self) -> dict[str, str]:
        """The module of each command, by the command's name."""
        names = (module.name for module in iter_modules(import_module(self.package).__path__))
        return {name.rstrip("_").replace("_", "-"): name for name in names if not name.startswith("_")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(self._modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        module = self._modules().get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"{self.package}.{module}").command
        return command if isinstance(command, click.Group) else with_json(command)
