"""``dynamo analyse search``: is there a theta better than every base model?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynamo.commands._shared import keep, on_a_run, open_run, results_folder

if TYPE_CHECKING:
    from dynamo.analysis.networks.search import Method, Search


@click.command()
@on_a_run("search")
@click.option(
    "--method",
    default="gradient",
    show_default=True,
    help="gradient (of the task loss), cma (CMA-ES, needs the package cma) or random",
)
@click.option("--metric", default="score", show_default=True, help="score or loss")
@click.option("--head", default=None, help="the head that is scored; needed where there are several")
@click.option("--budget", type=click.IntRange(min=1), default=200, show_default=True, help="places that are scored")
@click.option(
    "--radius",
    type=click.FloatRange(min=0, min_open=True),
    default=1.5,
    show_default=True,
    help="how far to look, in Mahalanobis distances of the farthest base model from the mean",
)
@click.option(
    "--examples", type=click.IntRange(min=1), default=1000, show_default=True, help="the most examples to tune on"
)
@click.option("--seed", type=int, default=0, show_default=True, help="of cma and random")
@click.option("--colour-by", default=None, metavar="LABEL", help="the label that colours the models")
def command(
    run: Path,
    population: Path | None,
    out: Path | None,
    method: "Method",
    metric: str,
    head: str | None,
    budget: int,
    radius: float,
    examples: int,
    seed: int,
    colour_by: str | None,
) -> None:
    """Is there a theta at which the meta-model is better than every base model?

    Theta is chosen on labelled training examples that no base model was trained on, where the population leaves some,
    and scored once on test data.
    """
    from dynamo.analysis.networks.search import search
    from dynamo.report import terminal
    from dynamo.report.plots.search import plot_search
    from dynamo.report.run import check_key, colouring
    from dynamo.system.storage import write_csv

    fit, models = open_run(run, population)
    check_key(fit.metadata, colour_by)
    folder = results_folder(run, out, "search")
    with terminal.progress() as stages:
        tick = stages("scoring places", budget)
        found = search(
            fit,
            models,
            method,
            metric,
            head,
            budget=budget,
            radius=radius,
            examples=examples,
            seed=seed,
            progress=tick,
        )
    label = colour_by or colouring(fit.metadata)
    write_csv(folder / "path.csv", *_path(found))
    figure = plot_search(found, label, None if label is None else fit.values_of(label))
    keep(folder, "search", ["what", "tuning", "held_out"], _summary(found), figure)
    click.echo(f"path     {folder / 'path.csv'}\n{_told(found)}")


def _summary(found: "Search") -> list[list[object]]:
    chosen, own = found.chosen, found.base_held_out
    best = int(own.argmax() if found.more_is_better else own.argmin())
    return [
        ["theta that was chosen", float(found.tuning[found.best]), found.held_out],
        ["mean of the thetas", float(found.tuning[found.known - 1]), found.mean_held_out],
        [f"base model chosen alike: {found.names[chosen]}", float(found.base_tuning[chosen]), float(own[chosen])],
        [f"base model best on held-out data: {found.names[best]}", float(found.base_tuning[best]), float(own[best])],
        ["base models, mean", float(found.base_tuning.mean()), float(own.mean())],
    ]


def _told(found: "Search") -> str:
    seen = "base models may have been trained on them" if found.seen else "no base model was trained on them"
    hull = f"outside, by {found.hull.relative:.2f} of their spread" if found.hull.outside else "inside"
    return (
        f"chosen on {found.tuning_size} labelled training examples ({seen}), measured on {found.held_out_size} test "
        f"examples\nit lies at {found.distance:.2f} standard deviations from the models' mean (at most "
        f"{found.limit:.2f}); hull of the models: {hull}"
    )


def _path(found: "Search") -> tuple[list[str], list[list[object]]]:
    columns = ["place", "tuning", "chosen", *(f"theta_{i + 1}" for i in range(found.thetas.shape[1]))]
    rows = zip(found.tuning.tolist(), found.thetas.tolist(), strict=True)
    return columns, [[number, score, number == found.best, *theta] for number, (score, theta) in enumerate(rows)]
