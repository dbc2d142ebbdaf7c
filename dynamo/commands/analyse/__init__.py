"""``dynamo analyse``: questions to a run's map, one module each."""

import click

from dynamo.commands._group import LazyGroup


@click.group(cls=LazyGroup, package=__name__)
def command() -> None:
    """Ask a question of a run's map. Each answers with a table, a file of it, and a picture."""
