"""``dynamo analyse attractors``: what shape have the attractors, and how do they change over the map?"""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    by_option,
    count_option,
    head_option,
    input_option,
    keep,
    on_a_run,
    say_file,
    seed_option,
    starts_option,
)


@click.command()
@on_a_run("attractors")
@click.option("--between", nargs=2, metavar="A B", default=None, help="places on the line from A to B")
@count_option("--points", 9, "how many, with both ends", least=2)
@by_option("every model, and the centroid of each group with one value of this metadata")
@click.option("--at", multiple=True, metavar="PLACE", help="a place; again for more")
@input_option("zeros", "the constant input: zeros, mean or token:WORD")
@head_option("is read")
@starts_option(100, least=10)
@click.option(
    "--slow", default="rest", show_default=True, help="rest: where it comes to rest; nearest: approximate fixed points"
)
@click.option("--seen", is_flag=True, help="measure what the base models see of it, through their state maps")
@count_option("--rounds", 2, "how often each place is visited, in turn forwards and backwards")
@seed_option("the states that are drawn")
def command(
    run: AskedRun,
    between: tuple[str, str] | None,
    points: int,
    by: str | None,
    at: tuple[str, ...],
    head: str | None,
    seen: bool,
    **options: Any,
) -> None:
    """What shape have the attractors, and how do they change over the map?

    Fixed and slow points of the meta-model under a constant input, at many thetas. A, B and PLACE are models' names, or
    metadata (KEY=VALUE) for the mean theta of these models.
    """
    if sum((between is not None, by is not None, bool(at))) != 1:
        raise click.UsageError("give one of --between A B, --by KEY and --at PLACE")
    from dynamo.analysis.dynamics.attractor_map import attractors_over_the_map
    from dynamo.analysis.dynamics.base_view import BaseView
    from dynamo.analysis.networks.over_the_map import places_at, places_between, places_by
    from dynamo.contracts.trajectory import collate
    from dynamo.report import terminal
    from dynamo.report.plots.attractor import plot_attractors
    from dynamo.report.plots.over_the_map import plot_over_the_map
    from dynamo.report.run import write_figure

    fit, models = run.fit, run.population
    if between is not None:
        places = places_between(fit, *between, points=points)
    else:
        places = places_by(fit, by) if by is not None else places_at(fit, at)
    fit.model_at(fit.theta[0], head)  # a head that is not there, or not said, is told
    head = head or fit.emulator.group_of(0)
    indices = [number for number in range(len(models)) if fit.emulator.group_of(number) == head]
    view = BaseView.of(fit, models, indices) if seen else None
    datasets = list({id(data): data for data in (models.dataset(models[number]) for number in indices)}.values())
    inputs, tokens, folder = collate([data.probes() for data in datasets])[:512], datasets[0].tokens, run.folder
    with terminal.progress() as stages:
        result = attractors_over_the_map(
            lambda theta: fit.model_at(theta.tolist(), head),
            places,
            inputs,
            tokens=tokens,
            view=view,
            progress=stages("searching", None),
            **options,
        )
    keep(folder, "attractors", result.table(), plot_over_the_map(result))
    write_figure(plot_attractors(result), folder, "points")
    say_file("points", folder / "points.png")
    if result.describe():
        click.echo(result.describe())
