"""``dynamo report``: a run as a page that explains itself."""

from pathlib import Path

import click

from dynamo.commands._shared import colour_option, hold, population_option, threads_option


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN [RUN2 ...]")
@click.option(
    "--format",
    "form",
    default="html",
    show_default=True,
    help="html, one page with the map and the network in it; md, a text with pictures beside it; pdf",
)
@colour_option("the map")
@click.option(
    "--network/--no-network",
    "with_network",
    default=True,
    show_default=True,
    help="put the network's weights and some inputs of the run into the page",
)
@population_option
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default=None,
    help="the file [default: report.html in the first RUN]",
)
@threads_option
def command(
    runs: tuple[Path, ...],
    form: str,
    colour_by: str | None,
    with_network: bool,
    population: Path | None,
    out: Path | None,
) -> None:
    """Write a report on RUN: what was compared, the map, how far to trust it, and every answer that RUN holds.

    An HTML report is one file that needs no network. In that of a recurrent fit the network itself runs: a click on the
    map goes to a place, and the network there answers. Further RUNs are fits to the same models with other seeds; they
    say how stable the map is.
    """
    from dynamo.report import terminal
    from dynamo.report.write import write_report

    if out is None and runs[0].is_dir():
        hold(runs[0])
    with terminal.progress() as stages:
        path = write_report(
            runs,
            out,
            form=form,
            population=population,
            colour_by=colour_by,
            with_network=with_network,
            progress=stages,
        )
    click.echo(f"report   {path} ({path.stat().st_size / 1e6:.1f} MB)")
