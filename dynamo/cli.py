"""The command line: it joins the commands of :mod:`dynamo.commands` and turns errors into exit codes."""

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from dynamo.commands._group import LazyGroup
from dynamo.commands._json import choose_json
from dynamo.contracts.errors import DynamoError, DynamoWarning, Interrupted, printable
from dynamo.version import __version__


@click.group(
    cls=LazyGroup,
    package="dynamo.commands",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--json", is_flag=True, expose_value=False, callback=choose_json, help="answer as one JSON document; see COMMAND -h"
)
@click.version_option(__version__, prog_name="dynamo")
def cli() -> None:
    """DYNAMO draws a map of trained neural networks.

    Three steps: `dynamo train` makes a population of base models, `dynamo fit` fits a meta-model to it and draws the
    map, `dynamo show` looks at a run again. `dynamo analyse` asks questions of the map, `dynamo plugins` lists what
    can be used by name.

    A component is given as NAME or NAME:OPTION=VALUE,OPTION=VALUE (for example low-rank:rank=8).
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors that the user can mend are one line, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is written out, and ends no command
            stream.reconfigure(errors="backslashreplace")
    raw = warnings.showwarning
    warnings.showwarning = partial(_show_warning, raw)
    if "OMP_WAIT_POLICY" not in os.environ:
        # Before torch is loaded. Threads that meet thousands of times a second wait a little and then sleep: by default
        # they keep their core, and where another process wants one a fit took thirty times as long.
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    try:
        status = cli.main(
            args=None if arguments is None else list(arguments), prog_name="dynamo", standalone_mode=False
        )
        if isinstance(status, int) and status:  # of a command that has answered, and says so by its status
            sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(128 + signal.SIGINT)
    except Interrupted as error:
        click.echo(printable(str(error)), err=True)
        sys.exit(128 + signal.SIGINT)
    except DynamoError as error:
        click.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(2)
    finally:
        warnings.showwarning = raw


def _show_warning(raw: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Our own warnings are one line, as errors are; those of others stay as Python prints them."""
    if issubclass(category, DynamoWarning):
        click.echo(f"warning: {printable(str(message))}", err=True)
    else:
        raw(message, category, *place)


if __name__ == "__main__":
    main()
