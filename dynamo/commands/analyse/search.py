"""``dynamo analyse search``: is there a theta better than every base model?"""

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
@on_a_run("search")
@click.option(
    "--method",
    default="gradient",
    show_default=True,
    help="gradient (of the task loss), cma (CMA-ES, needs the package cma) or random",
)
@metric_option
@head_option("is scored")
@count_option("--budget", 200, "thetas that are scored")
@click.option(
    "--radius",
    type=click.FloatRange(min=0, min_open=True),
    default=1.5,
    show_default=True,
    help="how far to look, in Mahalanobis distances of the farthest base model from the mean",
)
@examples_option(1000, "the most examples to tune on")
@seed_option("cma and random")
@colour_option("the models")
def command(run: AskedRun, colour_by: str | None, **options: Any) -> None:
    """Is there a theta at which the meta-model is better than every base model?

    Theta is chosen on labelled training examples that no base model was trained on, where the population leaves some,
    and scored once on test data.
    """
    from dynamo.analysis.networks.search import search
    from dynamo.report import terminal
    from dynamo.report.plots.search import plot_search

    fit, models, colours, folder = run.fit, run.population, run.colours(colour_by), run.folder
    with terminal.progress() as stages:
        result = search(fit, models, **options, progress=stages("scoring thetas", options["budget"]))
    keep(folder, "search", result.table(), plot_search(result, *colours))
    keep_also(folder, "path", result.path_table())
    click.echo(result.describe())
