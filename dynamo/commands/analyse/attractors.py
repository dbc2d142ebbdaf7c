"""``dynamo analyse attractors``: what shape have the attractors, and how do they change over the map?"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder

if TYPE_CHECKING:
    from dynamo.analysis.dynamics.attractor_map import AttractorMap

FIGURES = {
    "extent": "extent",
    "length": "length",
    "width": "width",
    "elongation": "elongation",
    "curvature": "curvature",
    "dimension": "dim",
    "local_dimension": "local_dim",
    "crossing_time": "crossing",
    "alignment": "alignment",
}


@click.command()
@on_a_run("attractors")
@click.option("--between", nargs=2, metavar="A B", default=None, help="places on the line from A to B")
@click.option("--points", type=click.IntRange(min=2), default=9, show_default=True, help="how many, with both ends")
@click.option("--by", default=None, metavar="LABEL", help="every model, and the centroid of each group with one value")
@click.option("--at", multiple=True, metavar="PLACE", help="a place; again for more")
@click.option(
    "--input", "held", default="zeros", show_default=True, help="the constant input: zeros, mean or token:WORD"
)
@click.option("--head", default=None, help="the head that is read; needed where the models have several")
@click.option(
    "--starts", type=click.IntRange(min=10), default=100, show_default=True, help="visited states to search from"
)
@click.option(
    "--slow", default="rest", show_default=True, help="rest: where it comes to rest; nearest: approximate fixed points"
)
@click.option("--seen", is_flag=True, help="measure what the base models see of it, through their state maps")
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="times to and fro")
@click.option("--seed", type=int, default=0, show_default=True, help="of the states that are drawn")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    between: tuple[str, str] | None,
    points: int,
    by: str | None,
    at: tuple[str, ...],
    held: str,
    head: str | None,
    starts: int,
    slow: Literal["rest", "nearest"],
    seen: bool,
    rounds: int,
    seed: int,
) -> None:
    """What shape have the attractors, and how do they change over the map?

    Fixed and slow points of the meta-model under a constant input, at many thetas. A, B and PLACE are models' names, or
    label values (KEY=VALUE) for the mean theta of these models.
    """
    if sum((between is not None, by is not None, bool(at))) != 1:
        raise click.UsageError("give one of --between A B, --by LABEL and --at PLACE")
    from dynamo.analysis.dynamics.attractor_map import attractors_over_the_map
    from dynamo.analysis.dynamics.base_view import BaseView
    from dynamo.analysis.networks.over_the_map import places_at, places_between, places_by
    from dynamo.analysis.networks.task import task_of
    from dynamo.report import terminal
    from dynamo.report.plots.attractor import plot_attractors
    from dynamo.report.plots.over_the_map import plot_over_the_map
    from dynamo.report.run import write_figure

    fit, models = open_run(run, population)
    if between is not None:
        places = places_between(fit, *between, points)
    else:
        places = places_by(fit, by) if by is not None else places_at(fit, at)
    task = task_of(fit, models, head)
    folder = results_folder(run, out, "attractors")
    with terminal.progress() as stages:
        tick = stages("searching", None)
        inputs = task.dataset.halves()[1][:512]
        result = attractors_over_the_map(
            lambda theta: fit.model_at(theta.tolist(), task.head),
            places,
            inputs,
            held=held,
            tokens=task.dataset.tokens,
            starts=starts,
            rounds=rounds,
            seed=seed,
            progress=tick,
            slow=slow,
            view=BaseView.of(fit, models, task.numbers) if seen else None,
        )
    columns = ["place", "kind", "parts", "stable", "saddles", "slow", *FIGURES.values()]
    keep(folder, "attractors", columns, _rows(result), plot_over_the_map(result))
    write_figure(plot_attractors(result), folder, "points")
    click.echo(f"points   {folder / 'points'}.png")
    for one, other in result.bifurcations if places.in_order else ():
        click.echo(f"the fixed points change between {places.names[one]} and {places.names[other]}")
    _tell_groups(result)


def _rows(result: "AttractorMap") -> list[list[object]]:
    return [
        [
            found.name,
            found.shape.kind,
            found.shape.number,
            found.stable,
            found.saddles,
            len(found.slow),
            *(getattr(found.shape, figure) for figure in FIGURES),
        ]
        for found in result.attractors
    ]


def _tell_groups(result: "AttractorMap") -> None:
    """Whether attractors of one group are nearer to one another than to others'."""
    import numpy as np

    from dynamo.analysis.rivals.pairs import pair_figures

    models = [place for place, group in enumerate(result.places.groups) if group is not None]
    groups = [result.places.groups[place] for place in models]
    distances = result.chamfer[np.ix_(models, models)]
    if not 2 <= len(set(groups)) < len(groups) or not np.isfinite(distances).all():
        return
    found = pair_figures(distances, groups)
    for group, spread in found.spreads.items():
        click.echo(f"{group}: mean chamfer distance {spread.within:.3f} within, {spread.between:.3f} to other groups")
    click.echo(
        f"pairs of one group found by their distance: average precision {found.auprc:.2f} "
        f"(chance {found.auprc_chance:.2f}, p {found.auprc_p:.3f})"
    )
