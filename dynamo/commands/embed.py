"""``dynamo embed``: put new models on the map of a run."""

from pathlib import Path
from typing import Any

import click

from dynamo.commands._options import OptionsCommand
from dynamo.commands._shared import (
    colour_option,
    distance_option,
    out_option,
    results_folder,
    say_file,
    show,
    threads_option,
)


@click.command(cls=OptionsCommand, options="dynamo.training.options:EmbedOptions")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("population", type=click.Path(path_type=Path))
@out_option("embed")
@colour_option("the map")
@distance_option()
@threads_option
def command(run: Path, population: Path, out: Path | None, options: dict[str, Any], **drawn: str | None) -> None:
    """Put the models in the folder POPULATION on the map of RUN, which stays as it is.

    Leaves embedding.csv and the map with the new models on it. A new model is foreign to the map where it is imitated
    worse than base models would be from the thetas of their neighbours.
    """
    from dynamo.analysis.geometry.new_models import embedding_table, summary_table
    from dynamo.analysis.geometry.spectrum import spectrum
    from dynamo.contracts.options import build_options
    from dynamo.fit.distance_kinds import kind_named
    from dynamo.fit.distances import DEFAULT
    from dynamo.fit.embedding import EmbedOptions, embed
    from dynamo.fit.fidelity import read_fidelity
    from dynamo.fit.fit import Fit
    from dynamo.population.population import Population
    from dynamo.report import terminal
    from dynamo.report.coordinates import with_new_models
    from dynamo.report.plots.embedding import plot_embedding
    from dynamo.report.run import check_key, colouring, write_figure
    from dynamo.system.storage import write_csv

    settings = build_options(EmbedOptions, options, where="dynamo embed")
    fit, new, colour_by = Fit.load(run), Population.load(population), drawn["colour_by"]
    check_key(fit.metadata, colour_by)
    kind_named(drawn["distance"] or DEFAULT)
    folder = results_folder(run, out, "embed")
    with terminal.progress() as stages:
        result = embed(fit, new, read_fidelity(run), settings, progress=stages("embedding", None))
    old, places = with_new_models(fit, result, drawn["distance"])
    components = spectrum(fit.theta.double().numpy()).components
    coordinates = {"pc": (result.theta - fit.theta.mean(0)).double().numpy() @ components.T}
    if old.kind != "theta":
        coordinates[old.kind] = places[:, : len(components)]
    write_csv(folder / "embedding.csv", *embedding_table(result, coordinates))
    key = colour_by or colouring(fit.metadata)
    values = None if key is None else fit.values_of(key)
    foreign = result.is_foreign.tolist()
    figure = plot_embedding(old.places, key, values, places, result.names, foreign, distance=old.kind)
    write_figure(figure, folder, "embedding")
    show(summary_table(result), "new models")
    click.echo(f"\n{old.describe()}")
    say_file("table", folder / "embedding.csv")
    say_file("picture", folder / "embedding.png")
