"""Commands whose further flags are the fields of an options class."""

from importlib import import_module
from typing import Any

import attrs
import click

from dynamo.contracts.options import type_name


class OptionsCommand(click.Command):
    """A command with a flag for every field of an options class. It is called with ``options``, a table of those that
    were given.

    Args:
        options: the class as ``module:Class``; it is imported only when the command is used, since that imports torch.
    """

    def __init__(self, *args: Any, options: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options

    def _fields(self) -> "tuple[attrs.Attribute[Any], ...]":
        module, _, name = self.options.partition(":")
        fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(getattr(import_module(module), name))
        return fields

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, the flags of the options class, and --help."""
        own = super().get_params(ctx)
        given = [parameter for parameter in own if parameter.name != "help"]
        return [*given, *map(_flag, self._fields()), *(parameter for parameter in own if parameter.name == "help")]

    def invoke(self, ctx: click.Context) -> Any:
        """Hand the options that were given to the command as one table."""
        values = {field.name: ctx.params.pop(field.name, None) for field in self._fields()}
        ctx.params["options"] = {name: value for name, value in values.items() if value is not None}
        return super().invoke(ctx)


def _flag(field: "attrs.Attribute[Any]") -> click.Option:
    default = "none" if field.default is None else field.default
    text = f"{field.metadata['help']} [{type_name(field.type)}; default {default}]"
    return click.Option([f"--{field.name.replace('_', '-')}"], default=None, help=text, metavar="VALUE")
