"""``dynamo plugins``: what can be used by name."""

import click

from dynamo.contracts.errors import DynamoError, did_you_mean


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List every component with its plugin; with NAME, its options too."""
    from dynamo.registry import registry
    from dynamo.report import terminal

    owned = registry().owned()
    chosen = [item for item in owned if name in (None, item.component.name)]
    if not chosen:
        known = {item.component.name for item in owned}
        raise DynamoError(f"no component is called {name!r}: {did_you_mean(str(name), known)}")
    terminal.components_table(chosen)
    if name is not None:
        for item in chosen:
            terminal.options_table(item.component)
    for broken in registry().broken:
        click.echo(f"skipped plugin {broken.owner}: {broken.reason}", err=True)
