"""``dynamo train``: make a population of base models."""

from pathlib import Path
from typing import Any

import click

from dynamo.commands._options import OptionsCommand
from dynamo.commands._shared import metadata_option, read_metadata, threads_option
from dynamo.contracts.options import build_options


@click.command(cls=OptionsCommand, options="dynamo.training.options:BaseTrainingOptions")
@click.argument("population", type=click.Path(path_type=Path))
@click.option(
    "--architecture",
    "-a",
    "architectures",
    multiple=True,
    required=True,
    help="an architecture; give it again for more",
)
@click.option("--dataset", "-d", required=True, help="the data set")
@click.option(
    "--fraction",
    "-f",
    "fractions",
    multiple=True,
    type=float,
    default=(1.0,),
    show_default=True,
    help="fraction of the training data; give it again for more",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="networks of each kind")
@click.option("--first-seed", type=click.IntRange(min=0), default=0, show_default=True, help="the first of the seeds")
@click.option("--keep-epochs", is_flag=True, help="keep a checkpoint of every epoch as a model of its own")
@metadata_option
@click.option(
    "--encoding", default=None, help="the encoding that they read, if the data set has several [default: the first]"
)
@click.option(
    "--prefix", default=None, help="start of the models' names [default: the data set's task, and the encoding]"
)
@click.option("--skip-existing", is_flag=True, help="leave out models that the population has already")
@threads_option
def command(population: Path, options: dict[str, Any], **values: Any) -> None:
    """Train base models and add them to the folder POPULATION.

    Every architecture is trained on every fraction with every seed. Base models see the first half of the training
    data (or the given fraction of it); the other half is kept, without labels, for the meta-model.
    """
    from dynamo.population.entries import read_entries
    from dynamo.report import terminal
    from dynamo.training.options import BaseTrainingOptions
    from dynamo.training.train_population import train_population

    first = values["first_seed"]
    with terminal.progress() as stages:
        trained = train_population(
            population,
            values["architectures"],
            values["dataset"],
            fractions=values["fractions"],
            seeds=range(first, first + values["seeds"]),
            options=build_options(BaseTrainingOptions, options, where="dynamo train"),
            metadata=read_metadata(values["metadata"]),
            prefix=values["prefix"],
            encoding=values["encoding"],
            keep_epochs=values["keep_epochs"],
            skip_existing=values["skip_existing"],
            progress=stages,
        )
    preset = "laptop-cnn" if trained.inputs.kind == "image" else "laptop"
    click.echo(
        f"{len(read_entries(population))} models in {population}\nnext: dynamo fit {population} --preset {preset}"
    )
