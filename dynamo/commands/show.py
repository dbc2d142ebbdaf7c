"""``dynamo show``: look at a run again."""

from pathlib import Path

import click

from dynamo.commands._shared import colour_option, hold


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@colour_option("the map, which is drawn again")
def command(run: Path, colour_by: str | None) -> None:
    """Show the fidelity of every model, the spectrum, and how the groups of the metadata lie on the map."""
    from dynamo.fit.fidelity import is_measured, read_fidelity
    from dynamo.fit.fit import Fit
    from dynamo.report import terminal
    from dynamo.report.run import check_key, write_map

    loaded = Fit.load(run)
    check_key(loaded.metadata, colour_by)
    measured = read_fidelity(run) if is_measured(run) else None
    if colour_by is not None:
        hold(run)
        write_map(loaded, run, colour_by)
    if measured is not None:
        terminal.fidelity_table(measured)
    terminal.summary(loaded, measured, run, colour_by)
