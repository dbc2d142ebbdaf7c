"""``dynamo embed``: put new models on the map of a run."""

from pathlib import Path
from typing import Any

import click

from dynamo.commands._options import OptionsCommand
from dynamo.commands._shared import SHOWN, colour_option, out_option, results_folder, threads_option


@click.command(cls=OptionsCommand, options="dynamo.fit.embedding:EmbedOptions")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("population", type=click.Path(path_type=Path))
@out_option("embed")
@colour_option("the map")
@threads_option
def command(run: Path, population: Path, out: Path | None, colour_by: str | None, options: dict[str, Any]) -> None:
    """Put the models in the folder POPULATION on the map of RUN, which stays as it is.

    Leaves embedding.csv and the map with the new models on it. A new model is foreign to the map where it is imitated
    worse than base models would be from the places of their neighbours.
    """
    from dynamo.analysis.geometry.spectrum import spectrum
    from dynamo.contracts.options import build_options
    from dynamo.fit.embedding import EmbedOptions, embed
    from dynamo.fit.fidelity import read_fidelity
    from dynamo.fit.fit import Fit
    from dynamo.population.population import Population
    from dynamo.report import terminal
    from dynamo.report.plots.embedding import plot_embedding
    from dynamo.report.run import check_key, colouring, write_figure
    from dynamo.system.storage import write_csv

    settings = build_options(EmbedOptions, options, where="dynamo embed")
    fit, new = Fit.load(run), Population.load(population)
    check_key(fit.metadata, colour_by)
    folder = results_folder(run, out, "embed")
    with terminal.progress() as stages:
        found = embed(fit, new, read_fidelity(run), settings, stages("embedding", None))
    old = spectrum(fit.theta.double().numpy())
    places = (found.theta - fit.theta.mean(0)).double().numpy() @ old.components.T
    foreign = found.is_foreign.tolist()
    keys = sorted({key for table in found.placed.metadata for key in table})
    figures = ["hidden_r2", "agreement", "least_hidden_r2", "least_agreement", "foreign"]
    axes = [*(f"theta_{i + 1}" for i in range(found.theta.shape[1])), *(f"pc_{i + 1}" for i in range(places.shape[1]))]
    told = [
        [name, *own, *limits, "yes" if strange else "no"]
        for name, own, limits, strange in zip(
            found.names, found.figures.tolist(), found.limits.tolist(), foreign, strict=True
        )
    ]
    rows = [
        [*row, *(table.get(key, "") for key in keys), *theta, *place]
        for row, table, theta, place in zip(
            told, found.placed.metadata, found.theta.tolist(), places.tolist(), strict=True
        )
    ]
    write_csv(folder / "embedding.csv", ["name", *figures, *keys, *axes], rows)
    label = colour_by or colouring(fit.metadata)
    figure = plot_embedding(old, label, fit.values_of(label) if label else None, places, found.names, foreign)
    write_figure(figure, folder, "embedding")
    terminal.table(["name", *figures], told[:SHOWN])
    if len(told) > SHOWN:
        click.echo(f"… {len(told) - SHOWN} more rows")
    click.echo(f"embedding  {folder / 'embedding.csv'}\nmap        {folder / 'embedding.png'}")
