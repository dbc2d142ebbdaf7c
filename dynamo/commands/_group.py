"""Groups of commands that are imported when they are used or listed."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from dynamo.commands._json import with_json


class LazyGroup(click.Group):
    """Every module of a package that does not start with ``_`` is a command: its attribute ``command``."""

    def __init__(self, *args: Any, package: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        modules = iter_modules(import_module(self.package).__path__)
        return sorted(module.name.replace("_", "-") for module in modules if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{self.package}.{cmd_name.replace('-', '_')}").command
        return command if isinstance(command, click.Group) else with_json(command)
