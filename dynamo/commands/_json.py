"""``--json``: what a command answers as one JSON document on the output; progress and errors go to the error stream."""

from functools import wraps
from typing import Any

import click

#: The key of click's ``meta`` that says so.
_KEY = "dynamo.json"


def choose_json(ctx: click.Context, parameter: click.Parameter, chosen: bool) -> None:
    """Remember that JSON is asked for, for the command and those below it."""
    if chosen:
        ctx.meta[_KEY] = True


def json_option() -> click.Option:
    """``--json``, which takes effect by itself; before the command's name or behind it."""
    return click.Option(
        ["--json", "as_json"],
        is_flag=True,
        expose_value=False,
        callback=choose_json,
        help="answer as one JSON document",
    )


def with_json(command: click.Command) -> click.Command:
    """Give a command the option, once."""
    if any(parameter.name == "as_json" for parameter in command.params) or command.callback is None:
        return command
    callback = command.callback

    @wraps(callback)
    def answered(*args: Any, **options: Any) -> Any:
        ctx = click.get_current_context()
        if not ctx.meta.get(_KEY):
            return callback(*args, **options)
        from dynamo.report.answer import collecting

        stopped: click.exceptions.Exit | None = None
        with collecting() as (answer, printed):
            try:
                callback(*args, **options)
            except click.exceptions.Exit as stop:  # it has answered, and says by its status what
                stopped = stop
        click.echo(answer.document(ctx.command_path.partition(" ")[2], printed.getvalue()))
        if stopped is not None:
            raise stopped

    command.callback = answered
    command.params.append(json_option())
    return command
