"""``dynamo serve``: explore a run in the browser, with Python behind the page."""

import webbrowser
from pathlib import Path

import click

from dynamo.commands._shared import colour_option, population_option, threads_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(min=0, max=65535), default=8765, show_default=True, help="0 for any that is free"
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="the address to listen on; others than this machine's own need a token",
)
@click.option("--token", default="", help="what opens the page [default: none on this machine, else a random one]")
@click.option(
    "--uploads",
    type=click.Path(path_type=Path),
    default=None,
    help="a folder; populations in it can be put on the map from the page",
)
@click.option("--browser/--no-browser", default=True, show_default=True, help="open the page")
@colour_option("the map")
@population_option
@threads_option
def command(
    run: Path,
    port: int,
    host: str,
    token: str,
    uploads: Path | None,
    browser: bool,
    colour_by: str | None,
    population: Path | None,
) -> None:
    """Explore RUN in the browser: every point of the map is a network that answers.

    The page of `dynamo report`, with Python behind it: click anywhere or drag between two models, and type, draw or
    paste; name points, save and export them; look for fixed points. Ctrl-C ends it.
    """
    from dynamo.report import terminal
    from dynamo.serve import server

    server.check_installed()
    address = server.listen(host, port, token)

    def started() -> None:
        click.echo(f"explorer {address.url} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address.url)

    with terminal.progress() as stages:
        server.serve(
            run,
            address,
            population=population,
            uploads=uploads,
            colour_by=colour_by,
            progress=stages,
            started=started,
        )
