"""The sub-commands of ``dynamo analyse``: every module here that does not start with ``_`` is one, its ``command``.

They are imported when they are used or listed; none may import torch, scikit-learn or matplotlib at its top.
"""

from importlib import import_module
from pkgutil import iter_modules

import click


class Analyses(click.Group):
    """The group ``dynamo analyse``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all analyses."""
        return sorted(
            module.name.replace("_", "-") for module in iter_modules(__path__) if not module.name.startswith("_")
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        return found
