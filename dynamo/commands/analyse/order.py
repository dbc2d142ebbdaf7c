"""``dynamo analyse order``: does a number follow the map?"""

import click

from dynamo.commands._shared import (
    AskedRun,
    by_option,
    count_option,
    distance_option,
    keep,
    on_a_run,
    seed_option,
)


@click.command()
@on_a_run("order", models=False)
@by_option("the metadata that is a number: a step, a size, a score", required=True)
@click.option(
    "--join",
    multiple=True,
    metavar="KEY",
    help="join models by a line that are alike in this metadata; again for more [default: in all but --by and scores]",
)
@count_option("--neighbours", 3, "nearest models that predict a model's number")
@count_option("--permutations", 1000, "shuffles of the numbers")
@distance_option()
@seed_option("the shuffles")
def command(run: AskedRun, by: str, join: tuple[str, ...], distance: str | None, **options: int) -> None:
    """Does the number KEY follow the map of RUN?

    Three answers, each with a p-value: rank correlations with the leading coordinate and with ways through the
    models, and R² of the number as each model's nearest others predict it.
    """
    from dynamo.analysis.geometry.order import as_numbers, order, sequences
    from dynamo.report import terminal
    from dynamo.report.plots.order import plot_order
    from dynamo.report.run import check_key

    fit = run.fit
    for key in (by, *join):
        check_key(fit.metadata, key)
    values = fit.values_of(by)
    as_numbers(values, by)
    folder = run.folder
    with terminal.progress() as stages:
        apart = fit.distances(distance, progress=stages("running emulators", None))
        result = order(apart.matrix, values, **options, progress=stages("shuffles", options["permutations"]))
    click.echo(f"{apart.describe()}\n{result.describe(by)}\nways start at {fit.names[result.start]}\n")
    lines, title = sequences(fit.metadata, by, join or None), f"{len(fit.names)} models, distances by {apart.kind}"
    keep(folder, "models", result.models_table(fit.names, by))
    click.echo()
    keep(folder, "order", result.table(), plot_order(result, by, lines, title, distance=apart.kind))
