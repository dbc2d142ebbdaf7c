"""``dynamo analyse averages``: what lies between models, and how good are averages?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder
from dynamo.system.progress import silent

if TYPE_CHECKING:
    from dynamo.analysis.networks.averages import Way


@click.command()
@on_a_run("averages")
@click.option(
    "--between", nargs=2, metavar="A B", default=None, help="two models or averages; score the ways from A to B"
)
@click.option("--of", "subsets", multiple=True, metavar="SUBSET", help="score the average of a subset; again for more")
@click.option("--points", type=click.IntRange(min=2), default=21, show_default=True, help="places from A to B")
@click.option("--geodesic", is_flag=True, help="find the shortest way from A to B too, by how far outputs change")
@click.option("--head", default=None, help="the head that is scored; needed where the models have several")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    between: tuple[str, str] | None,
    subsets: tuple[str, ...],
    points: int,
    geodesic: bool,
    head: str | None,
) -> None:
    """What lies between models, and how good is their average?

    A, B and SUBSET are models' names, label values (KEY=VALUE) or all; with commas, several together. The average of
    models is the meta-model at the mean of their thetas. It is compared with the network that has the mean of their
    weights and with the ensemble that has the mean of their outputs, on test data.
    """
    if (between is None) == (not subsets):
        raise click.UsageError("give --between A B, or --of SUBSET (again for more)")
    import attrs

    from dynamo.analysis.networks import averages
    from dynamo.report import terminal
    from dynamo.report.plots.averages import plot_between, plot_subsets
    from dynamo.system.storage import write_csv

    fit, models = open_run(run, population)
    folder = results_folder(run, out, "averages")
    if between is None:
        found = [averages.average(fit, models, subset, head) for subset in subsets]
        columns = [field.name for field in attrs.fields(averages.Average)]
        keep(folder, "averages", columns, [attrs.astuple(item) for item in found], plot_subsets(found))
        return
    with terminal.progress() as stages:
        tick = stages("looking for the geodesic", None) if geodesic else silent
        result = averages.between(fit, models, *between, points, head, geodesic, tick)
    ways = [way for way in result.ways if way.scores is not None]
    rows = list(
        zip(result.alphas.tolist(), *(way.scores.tolist() for way in ways if way.scores is not None), strict=True)
    )
    write_csv(folder / "path.csv", ["alpha", *(way.name for way in ways)], rows)
    columns = ["way", "score_at_a", "score_at_b", "least", "dip", "energy", "length", "note"]
    keep(folder, "ways", columns, [_row(way) for way in result.ways], plot_between(result))
    click.echo(f"path     {folder / 'path.csv'}")


def _row(way: "Way") -> list[object]:
    scores = (
        (None,) * 3 if way.scores is None else (float(way.scores[0]), float(way.scores[-1]), float(way.scores.min()))
    )
    return [way.name, *scores, way.dip, way.energy, way.length, way.reason]
