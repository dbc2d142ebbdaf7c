"""``dynamo analyse landscape``: how good is the meta-model over the map?"""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    colour_option,
    count_option,
    examples_option,
    head_option,
    keep,
    keep_also,
    metric_option,
    on_a_run,
    seed_option,
)


@click.command()
@on_a_run("landscape")
@click.option(
    "--through", multiple=True, metavar="MODEL", help="a line through two base models, or a plane through three"
)
@click.option("--line", is_flag=True, help="only along the first principal component, instead of the first two")
@count_option("--size", 21, "places along each axis", least=2)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.35,
    show_default=True,
    help="how far to go beyond the models, as a fraction of their range",
)
@metric_option
@head_option("is scored")
@examples_option(1000, "test examples, drawn at random")
@seed_option("that draw")
@colour_option("the models")
def command(run: AskedRun, through: tuple[str, ...], line: bool, colour_by: str | None, **options: Any) -> None:
    """How good is the meta-model over the map, and is its best place outside the hull of the base models?

    A metric on test data over the plane of the first two principal components, relative to the best base model.
    """
    if line and through:
        raise click.UsageError("--line is the first principal component, --through a choice of your own: give one")
    from dynamo.analysis.networks.landscape import landscape
    from dynamo.report import terminal
    from dynamo.report.plots.landscape import plot_landscape

    fit, models, colours, folder = run.fit, run.population, run.colours(colour_by), run.folder
    with terminal.progress() as stages:
        tick = stages("scoring places", None)
        result = landscape(fit, models, through=through, dimensions=1 if line else 2, **options, progress=tick)
    keep(folder, "landscape", result.table(), plot_landscape(result, *colours))
    keep_also(folder, "grid", result.grid_table())
    click.echo(result.describe())
