"""``dynamo analyse landscape``: how good is the meta-model over the map?"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder

if TYPE_CHECKING:
    from dynamo.analysis.networks.landscape import Landscape


@click.command()
@on_a_run("landscape")
@click.option(
    "--through", multiple=True, metavar="MODEL", help="a line through two base models, or a plane through three"
)
@click.option("--line", is_flag=True, help="only along the first principal component, instead of the first two")
@click.option("--size", type=click.IntRange(min=2), default=21, show_default=True, help="places along each axis")
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.35,
    show_default=True,
    help="how far to go beyond the models, as a share of their range",
)
@click.option("--metric", default="score", show_default=True, help="score or loss")
@click.option("--head", default=None, help="the head that is scored; needed where there are several")
@click.option(
    "--examples", type=click.IntRange(min=1), default=1000, show_default=True, help="test examples, drawn at random"
)
@click.option("--seed", type=int, default=0, show_default=True, help="of that draw")
@click.option("--colour-by", default=None, metavar="LABEL", help="the label that colours the models")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    through: tuple[str, ...],
    line: bool,
    size: int,
    margin: float,
    metric: str,
    head: str | None,
    examples: int,
    seed: int,
    colour_by: str | None,
) -> None:
    """How good is the meta-model over the map, and is its best place outside the hull of the base models?

    A metric on test data over the plane of the first two principal components, relative to the best base model.
    """
    if line and through:
        raise click.UsageError("--line is the first principal component, --through a choice of your own: give one")
    from dynamo.analysis.networks.landscape import landscape
    from dynamo.report import terminal
    from dynamo.report.plots.landscape import plot_landscape
    from dynamo.report.run import check_key, colouring
    from dynamo.system.storage import write_csv

    fit, models = open_run(run, population)
    check_key(fit.metadata, colour_by)
    folder = results_folder(run, out, "landscape")
    dimensions: Literal[1, 2] = 1 if line else 2
    with terminal.progress() as stages:
        tick = stages("scoring places", None)
        found = landscape(fit, models, through, dimensions, size, margin, metric, head, examples, seed, tick)
    label = colour_by or colouring(fit.metadata)
    figure = plot_landscape(found, label, None if label is None else fit.values_of(label))
    write_csv(folder / "grid.csv", *_grid(found))
    keep(folder, "landscape", *_models(found), figure)
    click.echo(f"grid     {folder / 'grid.csv'}\n{told(found)}")


def told(found: "Landscape") -> str:
    """What a landscape says, in sentences."""
    place = ", ".join(f"{value:.3g}" for value in found.best_coordinates)
    best = found.relative[found.best]
    relation = f"{best:.3f} times" if found.relation == "ratio" else f"{best:+.3f} against"
    sentences = [
        f"best of {found.scores.size} places: {found.metric} {found.scores[found.best]:.3f} at ({place}), {relation} "
        f"the best base model, {found.best_model} ({found.reference:.3f}); chosen on the same {found.examples} test "
        "examples, so rather too good"
    ]
    for where, hull in (("these coordinates", found.hull_in_frame), ("all dimensions", found.hull)):
        far = f"outside the hull of the base models, by {hull.relative:.2f} of their spread"
        sentences.append(f"in {where} it lies {far if hull.outside else 'inside the hull of the base models'}")
    return "\n".join(sentences)


def _grid(found: "Landscape") -> tuple[list[str], list[list[object]]]:
    axes, d = len(found.sides), found.thetas.shape[-1]
    columns = [
        *(f"coordinate_{i + 1}" for i in range(axes)),
        "score",
        "relative",
        *(f"theta_{i + 1}" for i in range(d)),
    ]
    thetas, coordinates = found.thetas.reshape(-1, d), found.frame.coordinates(found.thetas).reshape(-1, axes)
    parts = zip(coordinates, found.scores.ravel(), found.relative.ravel(), thetas, strict=True)
    return columns, [
        [*place.tolist(), float(score), float(share), *theta.tolist()] for place, score, share, theta in parts
    ]


def _models(found: "Landscape") -> tuple[list[str], list[list[object]]]:
    axes = [f"coordinate_{i + 1}" for i in range(len(found.sides))]
    rows: list[list[object]] = [
        [name, *place, off, None if own != own else own, emulated]
        for name, place, off, own, emulated in zip(
            found.names,
            found.model_coordinates.tolist(),
            found.off_frame.tolist(),
            found.base_scores.tolist(),
            found.emulator_scores.tolist(),
            strict=True,
        )
    ]
    return ["model", *axes, "off_frame", "base_score", "emulator_score"], rows
