"""``dynamo analyse few-labels``: what can be learned from a few labels by moving theta alone?"""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    colour_option,
    count_option,
    head_option,
    keep,
    keep_also,
    on_a_run,
    seed_option,
)


@click.command()
@on_a_run("few-labels")
@click.option(
    "--labels",
    type=click.FloatRange(min=0, min_open=True),
    default=0.01,
    show_default=True,
    help="how many labels: a count, or below 1 a fraction of all training examples",
)
@count_option("--draws", 10, "draws of the labels", least=2)
@click.option("--balanced", is_flag=True, help="draw equally many labels of each class")
@click.option(
    "--start",
    default="all",
    show_default=True,
    help="where theta starts: zero (as in the paper), or the mean of all, of names or of KEY=VALUE",
)
@count_option("--steps", 50, "the most steps")
@count_option("--folds", 5, "folds of the cross-validation", least=2)
@head_option("is trained")
@seed_option("the draws")
@colour_option("the models")
def command(run: AskedRun, labels: float, colour_by: str | None, **options: Any) -> None:
    """What can be learned from a few labels by moving theta alone?

    The meta-model is held fixed. How many steps theta makes is chosen by cross-validation within the few labels.
    Choosing, fine-tuning, averaging and reading out the base models are measured on the same labels and test data.
    """
    from dynamo.analysis.networks.few_labels import few_labels
    from dynamo.analysis.networks.landscape import landscape
    from dynamo.contracts.errors import DynamoError
    from dynamo.report import terminal
    from dynamo.report.plots.few_labels import plot_few_labels

    fit, models, colours, folder = run.fit, run.population, run.colours(colour_by), run.folder
    with terminal.progress() as stages:
        moving, others = stages("moving theta", options["steps"]), stages("baselines", options["draws"])
        result = few_labels(fit, models, labels, **options, progress=moving, baseline_progress=others)
        tick = stages("drawing the landscape", None)
        try:
            background = landscape(fit, models, size=15, head=options["head"], examples=500, progress=tick)
        except DynamoError as error:
            background = None
            click.echo(f"no landscape is drawn: {error}", err=True)
    keep(folder, "few-labels", result.table(), plot_few_labels(result, background, *colours))
    keep_also(folder, "draws", result.draws_table())
    click.echo(result.describe())
