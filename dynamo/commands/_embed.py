"""``dynamo embed``: put new models on the map of a run."""

from pathlib import Path
from typing import Any

import click

from dynamo.commands._shared import SHOWN, results_folder


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("population", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default=None,
    help="the folder of the results [default: RUN/embed]",
)
@click.option(
    "--colour-by", default=None, metavar="LABEL", help="the label that colours the map [default: one is chosen]"
)
@click.option("--threads", type=click.IntRange(min=1), default=None, help="processor threads [default: all]")
def command(
    run: Path, population: Path, out: Path | None, colour_by: str | None, threads: int | None, **options: Any
) -> None:
    """Put the models in the folder POPULATION on the map of RUN, which stays as it is.

    Leaves embedding.csv and the map with the new models on it. A new model is foreign to the map where it is imitated
    worse than base models would be from the places of their neighbours.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    from dynamo import terminal
    from dynamo.analysis.spectrum import spectrum
    from dynamo.embedding import EmbedOptions, embed
    from dynamo.fit import Fit
    from dynamo.options import build_options
    from dynamo.plots.embedding import plot_embedding
    from dynamo.population import Population
    from dynamo.report import check_label, colouring, read_fidelity, write_figure
    from dynamo.storage import write_csv

    given = {name: value for name, value in options.items() if value is not None}
    settings = build_options(EmbedOptions, given, where="dynamo embed")
    fit, new = Fit.load(run), Population.load(population)
    check_label(fit, colour_by)
    folder = results_folder(run, out, "embed")
    with terminal.progress() as bar:
        found = embed(fit, new, read_fidelity(run), settings, terminal.task(bar, "embedding", None))
    old = spectrum(fit.theta.double().numpy())
    places = (found.theta - fit.theta.mean(0)).double().numpy() @ old.components.T
    foreign = found.is_foreign.tolist()
    keys = sorted({key for labels in found.placed.labels for key in labels})
    figures = ["hidden_r2", "agreement", "least_hidden_r2", "least_agreement", "foreign"]
    axes = [*(f"theta_{i + 1}" for i in range(found.theta.shape[1])), *(f"pc_{i + 1}" for i in range(places.shape[1]))]
    told = [
        [name, *own, *limits, "yes" if strange else "no"]
        for name, own, limits, strange in zip(
            found.names, found.figures.tolist(), found.limits.tolist(), foreign, strict=True
        )
    ]
    rows = [
        [*row, *(labels.get(key, "") for key in keys), *theta, *place]
        for row, labels, theta, place in zip(
            told, found.placed.labels, found.theta.tolist(), places.tolist(), strict=True
        )
    ]
    write_csv(folder / "embedding.csv", ["name", *figures, *keys, *axes], rows)
    label = colour_by or colouring(fit.labels)
    figure = plot_embedding(old, label, fit.label(label) if label else None, places, found.names, foreign)
    write_figure(figure, folder, "embedding")
    terminal.table(["name", *figures], told[:SHOWN])
    if len(told) > SHOWN:
        click.echo(f"… {len(told) - SHOWN} more rows")
    click.echo(f"embedding  {folder / 'embedding.csv'}\nmap        {folder / 'embedding.png'}")
