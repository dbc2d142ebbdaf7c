"""``dynamo analyse few-labels``: what can be learned from a few labels by moving theta alone?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder

if TYPE_CHECKING:
    from dynamo.analysis.networks.few_labels import Estimate, FewLabels

COLUMNS = ["method", "score", "low", "high", "difference", "difference_low", "difference_high", "note"]


@click.command()
@on_a_run("few-labels")
@click.option(
    "--labels",
    type=click.FloatRange(min=0, min_open=True),
    default=0.01,
    show_default=True,
    help="how many labels: a count, or below 1 a share of all training examples",
)
@click.option("--draws", type=click.IntRange(min=2), default=10, show_default=True, help="draws of the labels")
@click.option("--balanced", is_flag=True, help="draw equally many labels of each class")
@click.option(
    "--start",
    default="all",
    show_default=True,
    help="where theta starts: zero (as in the paper), or the mean of all, of names or of KEY=VALUE",
)
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True, help="the most steps")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="of the cross-validation")
@click.option("--head", default=None, help="the head that is trained; needed where there are several")
@click.option("--seed", type=int, default=0, show_default=True, help="of the draws")
@click.option("--colour-by", default=None, metavar="LABEL", help="the label that colours the models")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    labels: float,
    draws: int,
    balanced: bool,
    start: str,
    steps: int,
    folds: int,
    head: str | None,
    seed: int,
    colour_by: str | None,
) -> None:
    """What can be learned from a few labels by moving theta alone?

    The meta-model is held fixed. How many steps theta makes is chosen by cross-validation within the few labels.
    Choosing, fine-tuning, averaging and reading out the base models are measured on the same labels and test data.
    """
    from dynamo.analysis.networks.few_labels import few_labels
    from dynamo.analysis.networks.landscape import landscape
    from dynamo.contracts.errors import DynamoError
    from dynamo.report import terminal
    from dynamo.report.plots.few_labels import plot_few_labels
    from dynamo.report.run import check_key, colouring
    from dynamo.system.storage import write_csv

    fit, models = open_run(run, population)
    check_key(fit.metadata, colour_by)
    folder = results_folder(run, out, "few-labels")
    with terminal.progress() as stages:
        ticks = (stages("moving theta", steps), stages("baselines", draws))
        found = few_labels(fit, models, labels, draws, balanced, start, steps, folds, head, seed, *ticks)
        tick = stages("drawing the landscape", None)
        try:
            background = landscape(fit, models, size=15, head=head, examples=500, progress=tick)
        except DynamoError as error:
            background = None
            click.echo(f"no landscape is drawn: {error}", err=True)
    label = colour_by or colouring(fit.metadata)
    figure = plot_few_labels(found, background, label, None if label is None else fit.values_of(label))
    write_csv(folder / "draws.csv", *_draws(found))
    keep(folder, "few-labels", COLUMNS, rows(found), figure)
    click.echo(f"draws    {folder / 'draws.csv'}\n{_told(found)}")


def rows(found: "FewLabels") -> list[list[object]]:
    """The table: a row for each method."""
    own, *others = found.methods
    first = [own.name, *_cells(own.score), *_cells(None), own.note]
    return [first, *([item.name, *_cells(item.score), *_cells(item.difference), item.note] for item in others)]


def _cells(estimate: "Estimate | None") -> list[object]:
    return [None, None, None] if estimate is None else [estimate.mean, estimate.low, estimate.high]


def _told(found: "FewLabels") -> str:
    seen = (
        "base models may have been trained on them, so those that were look better on them than they are"
        if found.seen
        else "no base model was trained on them"
    )
    return (
        f"{len(found.steps)} draws of {found.labels} labels out of {found.pool} ({seen})\n"
        "intervals: 95 %, over the draws; difference: to θ-learning, paired by draw"
    )


def _draws(found: "FewLabels") -> tuple[list[str], list[list[object]]]:
    known = [method for method in found.methods if method.scores is not None]
    columns = [
        "draw",
        "steps",
        *(method.name for method in known),
        *(f"theta_{i + 1}" for i in range(found.thetas.shape[2])),
    ]
    scores = [
        [float(method.scores[draw]) for method in known if method.scores is not None]
        for draw in range(len(found.steps))
    ]
    table = zip(found.steps, scores, found.learned.tolist(), strict=True)
    return columns, [[draw, steps, *own, *theta] for draw, (steps, own, theta) in enumerate(table)]
