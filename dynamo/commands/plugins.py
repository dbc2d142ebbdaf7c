"""``dynamo plugins``: what can be used by name."""

import click

from dynamo.contracts.errors import PluginError, UnknownNameError, did_you_mean


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List every component with its plugin; with NAME, its options too."""
    from dynamo.registry import registry
    from dynamo.report import terminal

    found = registry()
    owned = found.owned()
    chosen = [item for item in owned if name in (None, item.component.name)]
    if not chosen:
        for broken in found.broken:
            if name in (broken.owner, broken.owner.partition(" ")[0]):
                raise PluginError(
                    f"plugin {broken.owner!r} is broken, and none of its components can be used: {broken.reason}"
                )
        known = {item.component.name for item in owned}
        hint = did_you_mean(str(name), known)
        raise UnknownNameError(f"no component is called {name!r}: {hint}{found.skipped()}")
    terminal.components_table(chosen)
    if name is not None:
        for item in chosen:
            terminal.options_table(item.component)
    for broken in found.broken:
        click.echo(f"skipped plugin {broken.owner}: {broken.reason}", err=True)
