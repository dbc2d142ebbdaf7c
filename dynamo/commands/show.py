"""``dynamo show``: look at a run again."""

from pathlib import Path

import click

from dynamo.commands._shared import colour_option, distance_option, hold


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@colour_option("the map, which is drawn again")
@distance_option()
def command(run: Path, colour_by: str | None, distance: str | None) -> None:
    """Show the fidelity of every model, the spectrum, and how the groups of the metadata lie on the map.

    The map is drawn again with other colours or another distance.
    """
    from dynamo.fit.distance_kinds import kind_named
    from dynamo.fit.distances import DEFAULT
    from dynamo.fit.fidelity import is_measured, read_fidelity
    from dynamo.fit.fit import Fit
    from dynamo.report import terminal
    from dynamo.report.run import check_key, write_map

    loaded = Fit.load(run)
    check_key(loaded.metadata, colour_by)
    kind_named(distance or DEFAULT)
    measured = read_fidelity(run) if is_measured(run) else None
    if colour_by is not None or distance is not None:
        hold(run)
        write_map(loaded, run, colour_by, distance)
    if measured is not None:
        terminal.fidelity_table(measured)
    terminal.summary(loaded, measured, run, colour_by, distance)
