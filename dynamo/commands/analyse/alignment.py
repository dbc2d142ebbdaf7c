"""``dynamo analyse alignment``: do several meta-models draw the same map?"""

from pathlib import Path
from statistics import median

import click


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN RUN2 ...")
@click.option(
    "--colour-by", default=None, metavar="LABEL", help="the label that colours the map [default: one is chosen]"
)
@click.option("--scale/--no-scale", default=True, show_default=True, help="bring all maps to the same size first")
@click.option(
    "--permutations", type=click.IntRange(min=1), default=199, show_default=True, help="shuffles of the models"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="of the shuffles")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default=None,
    help="the folder of the results [default: alignment in the first RUN]",
)
def command(
    runs: tuple[Path, ...], colour_by: str | None, scale: bool, permutations: int, seed: int, out: Path | None
) -> None:
    """Lay the maps of two or more runs of the same models over one another: how stable is each model's place?"""
    from dynamo.analysis.geometry.alignment import align, maps_of
    from dynamo.commands._shared import keep, results_folder
    from dynamo.contracts.errors import DynamoError
    from dynamo.fit.fit import Fit
    from dynamo.report import terminal
    from dynamo.report.plots.alignment import plot_alignment
    from dynamo.report.run import check_key, colouring

    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise DynamoError("an alignment needs two or more different runs of the same models: name another one")
    fits = [Fit.load(run) for run in runs]
    check_key(fits[0].metadata, colour_by)
    maps = maps_of(fits)
    folder = results_folder(runs[0], out, "alignment")
    with terminal.progress() as stages:
        found = align(maps, scale, permutations, seed, stages("shuffles", permutations))
    label = colour_by or colouring(fits[0].metadata)
    values = fits[0].values_of(label) if label is not None else None
    names = fits[0].names
    figure = plot_alignment(found, names, label, values, f"{len(names)} models")
    pairs = [f"{first + 1} to {second + 1}" for first, second in found.pairs]
    numbers = zip(pairs, found.pairs, found.distances.tolist(), strict=True)
    keep(
        folder,
        "runs",
        ("pair of runs", "run", "other run", "median distance", "correlation of distances"),
        [
            (
                pair,
                str(runs[first]),
                str(runs[second]),
                median(own),
                float(found.correlations[first, second]),
            )
            for pair, (first, second), own in numbers
        ],
    )
    click.echo(
        f"\nmedian distance between a model's places in two runs: {found.distance:.3f} of the map's spread; "
        f"{median(found.shuffled.tolist()):.3f} with models shuffled (p = {found.p_value:.3g})\n"
    )
    rows = list(zip(names, found.residuals, found.model_distances, *found.distances, strict=True))
    order = (-found.model_distances).argsort(kind="stable")
    columns = ("model", "residual", "median distance", *pairs)
    keep(folder, "alignment", columns, [rows[number] for number in order], figure)
