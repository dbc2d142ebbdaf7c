"""``dynamo analyse alignment``: do several meta-models draw the same map?"""

from pathlib import Path

import click

from dynamo.commands._shared import colour_option, count_option, distance_option, keep, results_folder, seed_option


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN RUN2 ...")
@colour_option("the map")
@click.option("--scale/--no-scale", default=True, show_default=True, help="bring all maps to the same size first")
@count_option("--permutations", 199, "shuffles of the models")
@distance_option()
@seed_option("the shuffles")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default=None,
    help="the folder of the results [default: alignment in the first RUN]",
)
def command(
    runs: tuple[Path, ...],
    colour_by: str | None,
    scale: bool,
    permutations: int,
    distance: str | None,
    seed: int,
    out: Path | None,
) -> None:
    """Lay the maps of two or more runs of the same models over one another: how stable is each model's place?"""
    from dynamo.analysis.geometry.alignment import align, check_same_models, maps_of
    from dynamo.contracts.errors import DynamoError
    from dynamo.fit.distance_kinds import kind_named
    from dynamo.fit.distances import DEFAULT
    from dynamo.fit.fit import Fit
    from dynamo.report import terminal
    from dynamo.report.plots.alignment import plot_alignment
    from dynamo.report.run import check_key, colouring

    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise DynamoError("an alignment needs two or more different runs of the same models: name another one")
    fits = [Fit.load(run) for run in runs]
    check_key(fits[0].metadata, colour_by)
    kind = kind_named(distance or DEFAULT).name
    check_same_models(fits)
    folder = results_folder(runs[0], out, "alignment")
    with terminal.progress() as stages:
        tick = stages("shuffles", permutations)
        result = align(maps_of(fits, kind), scale=scale, permutations=permutations, seed=seed, progress=tick)
    names, key = fits[0].names, colour_by or colouring(fits[0].metadata)
    values = None if key is None else fits[0].values_of(key)
    keep(folder, "runs", result.runs_table(runs))
    click.echo(f"\ndistances by {kind}\n{result.describe()}\n")
    title = f"{len(names)} models, distances by {kind}"
    figure = plot_alignment(result, names, key, values, title, distance=kind)
    keep(folder, "alignment", result.table(names), figure)
