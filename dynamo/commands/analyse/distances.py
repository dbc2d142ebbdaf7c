"""``dynamo analyse distances``: how far apart are the models?"""

import click

from dynamo.commands._shared import (
    AskedRun,
    colour_option,
    count_option,
    distance_option,
    examples_option,
    keep,
    keep_also,
    on_a_run,
    seed_option,
    without_option,
)


@click.command()
@on_a_run("distances")
@distance_option("--kind")
@without_option()
@colour_option("the map")
@examples_option(256, "probe inputs that the emulators are run on")
@count_option("--twins", 0, "fit again with so many models there twice, to measure the noise floor", least=0)
@seed_option("the draw of inputs and twins")
def command(
    run: AskedRun, kind: str | None, without: str | None, colour_by: str | None, examples: int, twins: int, seed: int
) -> None:
    """The distances between the models of RUN, by what their emulators do."""
    from dynamo.analysis.geometry.spectrum import spectrum_of_distances
    from dynamo.fit.distance_kinds import kind_named
    from dynamo.fit.distances import DEFAULT, distances, noise_floor
    from dynamo.report import terminal
    from dynamo.report.plots.map import plot_map
    from dynamo.report.run import over_the_points

    fit, chosen, (key, values) = run.fit, kind_named(kind or DEFAULT), run.colours(colour_by)
    population = run.population if twins or run.population_path is not None else None
    folder = run.folder
    with terminal.progress() as stages:
        drawn = population if run.population_path is not None else None
        result = distances(
            fit, chosen, population=drawn, examples=examples, seed=seed, progress=stages("running emulators", None)
        )
        if population is not None and twins:
            tick = stages("fitting with twins", None)
            noise = noise_floor(fit, population, chosen, twins=twins, seed=seed, progress=tick)
            noise.write(folder)
            result = result.with_floor(noise)
        else:
            result = run.with_floor(result)
        result = run.without(result, without)
    click.echo(result.describe())
    title = f"{len(result)} models, distances by {result.kind}"
    places = spectrum_of_distances(result.matrix)
    order = over_the_points(fit, places, key)
    figure = plot_map(places, key, values, title, distance=result.kind, **order) if len(result) > 1 else None
    keep(folder, "neighbours", result.neighbours_table(), figure)
    keep_also(folder, "distances", result.table())
