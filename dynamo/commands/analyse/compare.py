"""``dynamo analyse compare``: DYNAMO's map and rival measures of similarity on one population, in one table."""

from typing import Any

import click

from dynamo.commands._shared import (
    AskedRun,
    by_option,
    distance_option,
    examples_option,
    keep,
    on_a_run,
    seed_option,
    without_option,
)


@click.command()
@on_a_run("compare")
@by_option("the metadata that names the groups", required=True)
@click.option("--methods", default=None, metavar="A,B", help="rivals, by name [default: all]")
@examples_option(512, "inputs on which the rivals compare models", least=2)
@click.option(
    "--mds",
    "kind",
    type=click.Choice(["classical", "metric", "non-metric"]),
    default="classical",
    show_default=True,
    help="how distances become a picture; the figures do not depend on it",
)
@distance_option()
@without_option()
@seed_option("all that is drawn")
def command(run: AskedRun, by: str, methods: str | None, **options: Any) -> None:
    """Does the map tell groups apart that other measures of similarity do not?

    Every method gives the distances between all models, and all are judged alike by the groups that the metadata KEY
    names: average precision (with its p-value) and violation rate of pairs within groups, silhouette, vote of the
    nearest neighbours, and the adjusted Rand index of five clusterers. A rival that fails is listed with the reason.
    """
    from dynamo.analysis.rivals.compare import compare
    from dynamo.fit.distances import DEFAULT, NoiseFloor
    from dynamo.report import terminal
    from dynamo.report.plots.compare import plot_compare
    from dynamo.report.run import check_grouping
    from dynamo.system.storage import write_csv

    check_grouping(run.fit.metadata, by)
    fit, models, folder = run.fit, run.population, run.folder
    noise = NoiseFloor.read(run.path / "distances", options["distance"] or DEFAULT)
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    with terminal.progress() as stages:
        result = compare(fit, models, by, methods=names, **options, noise=noise, progress=stages)
    click.echo(result.own.describe())
    further = {
        "clusterers": result.clusterers_table(),
        "groups": result.groups_table(),
        "growth": result.growth_table(),
        **{f"distances-{method}": table for method, table in result.distances_tables().items()},
    }
    for name, table in further.items():
        write_csv(folder / f"{name}.csv", *table)
    keep(folder, "costs", result.costs_table())
    keep(folder, "compare", result.table(), plot_compare(result))
    click.echo(f"more     {folder}: p-values, spread of the groups, growth of the time, distances")
