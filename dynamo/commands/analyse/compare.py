"""``dynamo analyse compare``: DYNAMO's map and rival measures of similarity on one population, in one table."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder

if TYPE_CHECKING:
    from dynamo.analysis.rivals.mds import Kind


@click.command()
@on_a_run("compare")
@click.option("--by", "label", required=True, metavar="LABEL", help="the label that names the groups")
@click.option("--methods", default=None, metavar="A,B", help="rivals, by name [default: all]")
@click.option(
    "--examples",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    help="inputs on which the rivals compare models",
)
@click.option(
    "--mds",
    "kind",
    type=click.Choice(["classical", "metric", "non-metric"]),
    default="classical",
    show_default=True,
    help="how distances become a picture; the figures do not depend on it",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="seed of all that is drawn")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    label: str,
    methods: str | None,
    examples: int,
    kind: "Kind",
    seed: int,
) -> None:
    """Does the map tell groups apart that other measures of similarity do not?

    Every method gives the distances between all models, and all are judged alike by the groups that LABEL names:
    average precision (with its p-value) and violation rate of pairs within groups, silhouette, vote of the nearest
    neighbours, and the adjusted Rand index of five clusterers. A rival that fails is listed with the reason.
    """
    from dynamo.analysis.rivals.compare import compare
    from dynamo.report import terminal
    from dynamo.report.plots.compare import plot_compare
    from dynamo.system.storage import write_csv

    fit, models = open_run(run, population)
    folder = results_folder(run, out, "compare")
    with terminal.progress() as stages:
        names = None if methods is None else [name.strip() for name in methods.split(",")]
        result = compare(fit, models, label, methods=names, examples=examples, kind=kind, seed=seed, progress=stages)
    clusterers, groups, growth = [], [], []
    for method in result.methods:
        growth += [[method.name, *step] for step in method.growth]
        if method.figures is None or method.distances is None:
            continue
        figures, rows = method.figures, method.distances.tolist()
        named = [[name, *row] for name, row in zip(result.names, rows, strict=True)]
        write_csv(folder / f"distances-{method.name}.csv", ["", *result.names], named)
        clusterers += [[method.name, name, ari, figures.ari_p[name]] for name, ari in figures.ari.items()]
        groups += [
            [method.name, group, spread.within, spread.between, spread.ratio]
            for group, spread in figures.spreads.items()
        ]
    write_csv(folder / "clusterers.csv", ["method", "clusterer", "ari", "p"], clusterers)
    write_csv(folder / "groups.csv", ["method", "group", "within", "between", "ratio"], groups)
    write_csv(folder / "growth.csv", ["method", "models", "seconds"], growth)
    keep(folder, "costs", list(result.costs()[0]), [list(row.values()) for row in result.costs()])
    keep(
        folder, "compare", list(result.table()[0]), [list(row.values()) for row in result.table()], plot_compare(result)
    )
    click.echo(f"more     {folder}: p-values, spread of the groups, growth of the time, distances")
