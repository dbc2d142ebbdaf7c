"""``dynamo analyse averages``: what lies between models, and how good are averages?"""

import click

from dynamo.commands._shared import AskedRun, count_option, head_option, keep, keep_also, on_a_run
from dynamo.system.progress import silent


@click.command()
@on_a_run("averages")
@click.option("--between", nargs=2, default=None, metavar="A B", help="two models or averages; score what lies between")
@click.option("--of", "subsets", multiple=True, metavar="SUBSET", help="score the average of a subset; again for more")
@count_option("--points", 21, "thetas from A to B", least=2)
@click.option("--geodesic", is_flag=True, help="find the shortest way from A to B too, by how far outputs change")
@head_option("is scored")
def command(
    run: AskedRun,
    between: tuple[str, str] | None,
    subsets: tuple[str, ...],
    points: int,
    geodesic: bool,
    head: str | None,
) -> None:
    """What lies between models, and how good is their average?

    A, B and SUBSET are models' names, metadata (KEY=VALUE) or all; with commas, several together. The average of models
    is the meta-model at the mean of their thetas. It is compared with the network that has the mean of their weights
    and with the ensemble that has the mean of their outputs, on test data.
    """
    if between is None and not subsets:
        raise click.UsageError("give --between A B, or --of SUBSET (again for more)")
    if between is not None and subsets:
        raise click.UsageError("--between and --of ask two questions: give one of them at a time")
    from dynamo.analysis.networks import averages
    from dynamo.report import terminal
    from dynamo.report.plots.averages import plot_between, plot_subsets

    fit, models, folder = run.fit, run.population, run.folder
    if between is None:
        scored = [averages.average(fit, models, subset, head=head) for subset in subsets]
        keep(folder, "averages", averages.average_table(scored), plot_subsets(scored))
        return
    with terminal.progress() as stages:
        tick = stages("looking for the geodesic", None) if geodesic else silent
        result = averages.between(fit, models, between, points=points, head=head, shortest=geodesic, progress=tick)
    keep(folder, "ways", result.table(), plot_between(result))
    keep_also(folder, "path", result.path_table())
