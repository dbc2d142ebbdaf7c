"""``dynamo import``: make a population of what is there already. Each kind of source is a module of
:mod:`dynamo.population.doors`.
"""

from pathlib import Path

import click

from dynamo.contracts.errors import DynamoError


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--recordings", is_flag=True, help="SOURCE is a file of recorded trajectories: .npz, .h5, .hdf5 or .nc")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="the folder of the population")
@click.option(
    "--units",
    type=click.Choice(["own", "shared"]),
    default="own",
    show_default=True,
    help="shared: a unit is the same quantity in all systems, as in simulations; own: it is not, as with neurons",
)
@click.option(
    "--context",
    type=click.IntRange(min=0),
    default=None,
    help="first states of each trial that the meta-model is shown [default: 0 with inputs, 1 without]",
)
@click.option("--clip", type=click.IntRange(min=1), default=None, help="cut trials into clips of so many steps at most")
@click.option(
    "--missing",
    type=click.Choice(["refuse", "mask"]),
    default="refuse",
    show_default=True,
    help="what NaN is taken for: an error, or steps that were not observed",
)
@click.option(
    "--standardise/--as-given", default=True, show_default=True, help="take off the mean of the states and scale them"
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="the part of the trials on which fidelity is measured and nothing is fitted",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="the seed of their draw")
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    default=None,
    metavar="POPULATION",
    help="recordings with whose map these shall be compared (dynamo embed): their scales are taken",
)
def command(source: Path, recordings: bool, out: Path, like: Path | None, **options: object) -> None:
    """Make the population --out of SOURCE.

    With --recordings: of the systems in a file. It holds the array states [system, trial, time, unit], or one
    states/NAME [trial, time, unit] for each system; likewise inputs, outputs and mask (true where the states were
    observed); and metadata/KEY [system].
    """
    from dynamo.population.doors.recordings import read_recordings
    from dynamo.population.population import Population

    if not recordings:
        raise DynamoError(f"say what {source} is: --recordings for a file of recorded trajectories")
    population = read_recordings(source, like=None if like is None else Population.load(like), **options)
    population.save(out)
    probes = sum(population.dataset(base).probe_size for base in population)
    held_out = sum(len(population.dataset(base).test) for base in population)
    click.echo(
        f"{len(population)} recorded systems in {out}: {probes} trials to fit, {held_out} held out\n"
        f"next: dynamo fit {out} --preset laptop"
    )
