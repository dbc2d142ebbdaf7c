"""``dynamo import``: make a population of what is there already. Each kind of source is a module of
:mod:`dynamo.population.doors`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dynamo.contracts.errors import DynamoError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: The flags of networks, and those of recordings.
NETWORKS = (
    click.option(
        "--data", "-d", default=None, help="networks: a data set, or a file .npz of inputs to probe them with"
    ),
    click.option("--architecture", "-a", default=None, help="networks: the architecture that all of them have"),
    click.option(
        "--module", default=None, metavar="FILE.py:CLASS", help="networks: their class in a file of yours, which is run"
    ),
    click.option(
        "--module-options",
        multiple=True,
        metavar="NAME=VALUE",
        help="its arguments; NAME=@KEY for what the metadata KEY of each network says; again for more",
    ),
    click.option("--metadata", "-m", default=None, metavar="TABLE.csv", help="networks: a table with a column `name`"),
    click.option(
        "--outputs", default=None, metavar="KIND[:SIZE]", help="networks: classes, real, classes:10 … [default: tried]"
    ),
    click.option(
        "--readout",
        type=click.Choice(["last", "every"]),
        default=None,
        help="networks: whether they answer at the last step or at every step [default: tried]",
    ),
    click.option("--states", multiple=True, metavar="NAME", help="networks: modules whose outputs are the states"),
    click.option("--time", type=click.Choice(["steps", "blocks", "both"]), default=None, help="networks: what time is"),
)
RECORDINGS = (
    click.option(
        "--units",
        type=click.Choice(["own", "shared"]),
        default="own",
        show_default=True,
        help="recordings: shared, where a unit is the same quantity in all systems, as in simulations; own, where it "
        "is not, as with neurons",
    ),
    click.option(
        "--context",
        type=click.IntRange(min=0),
        default=None,
        help="recordings: first states of each trial that the meta-model is shown [default: 0 with inputs, 1 without]",
    ),
    click.option(
        "--clip", type=click.IntRange(min=1), default=None, help="recordings: cut trials into so many steps at most"
    ),
    click.option(
        "--missing",
        type=click.Choice(["refuse", "mask"]),
        default="refuse",
        show_default=True,
        help="recordings: what NaN is taken for: an error, or steps that were not observed",
    ),
    click.option(
        "--standardise/--as-given",
        default=True,
        show_default=True,
        help="recordings: take off the mean of the states and scale them",
    ),
    click.option(
        "--like",
        type=click.Path(path_type=Path),
        default=None,
        metavar="POPULATION",
        help="recordings: those with whose map these shall be compared (dynamo embed): their scales are taken",
    ),
)


def _all(options: tuple[Callable[[Decorated], Decorated], ...]) -> Callable[[Decorated], Decorated]:
    """Several flags as one decorator."""

    def decorate(command: Decorated) -> Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--recordings", is_flag=True, help="SOURCE is a file of recorded trajectories: .npz, .h5, .hdf5 or .nc")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="the folder of the population")
@_all(NETWORKS)
@_all(RECORDINGS)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="the part of inputs or trials on which fidelity is measured and nothing is fitted",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="the seed of their draw")
def command(source: Path, recordings: bool, out: Path, **options: Any) -> None:
    """Make the population --out of SOURCE.

    SOURCE is a folder of networks: state dicts (.pt, .pth, .safetensors), checkpoints of Lightning (.ckpt), models and
    checkpoints of transformers. They are probed with --data. What they are is said by --architecture or --module, or
    read from their files: models of transformers, and recurrent networks of torch's layers. No code in the files is
    run. What cannot be imported is listed, and the exit status is then 1. The same command goes on with an import that
    was cut off.

    With --recordings: SOURCE is a file of recorded systems. It holds the array states [system, trial, time, unit], or
    one states/NAME [trial, time, unit] for each system; likewise inputs, outputs and mask (true where the states were
    observed); and metadata/KEY [system].
    """
    ctx = click.get_current_context()
    unfit = _names(NETWORKS if recordings else RECORDINGS)
    for name in unfit:
        if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None):
            kind = "networks" if recordings else "recordings"
            raise DynamoError(f"--{name.replace('_', '-')} is for {kind}: {_HINT[recordings]}")
    given = {key: value for key, value in options.items() if key not in unfit}
    if recordings:
        _recordings(source, out, **given)
    else:
        _networks(ctx, source, out, **given)


_HINT = {True: "leave it out, or leave --recordings out", False: "leave it out, or give --recordings"}


def _names(options: tuple[Callable[[Any], Any], ...]) -> set[str]:
    """The names of the parameters that flags have."""

    def bare() -> None:
        """Nothing."""

    for option in options:
        option(bare)
    return {str(parameter.name) for parameter in bare.__click_params__}  # type: ignore[attr-defined]


def _recordings(source: Path, out: Path, like: Path | None, **options: Any) -> None:
    from dynamo.population.doors.recordings import read_recordings
    from dynamo.population.population import Population

    population = read_recordings(source, like=None if like is None else Population.load(like), **options)
    population.save(out)
    probes = sum(population.dataset(base).probe_size for base in population)
    held_out = sum(len(population.dataset(base).test) for base in population)
    click.echo(
        f"{len(population)} recorded systems in {out}: {probes} trials to fit, {held_out} held out\n"
        f"next: dynamo fit {out} --preset laptop"
    )


def _networks(
    ctx: click.Context, source: Path, out: Path, data: str | None, module_options: tuple[str, ...], **options: Any
) -> None:
    from dynamo.population.doors.networks import import_networks
    from dynamo.report import terminal

    if data is None:
        raise DynamoError(
            f"say what {source} is: --recordings for a file of recorded trajectories; for networks, what to probe them "
            "with: --data FILE.npz, or a data set"
        )
    arguments = {}
    for text in module_options:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DynamoError(f"cannot read --module-options {text!r}: write NAME=VALUE")
        arguments[name] = value
    options["states"] = list(options["states"]) or None
    with terminal.progress() as stages:
        found = import_networks(source, out, data, module_options=arguments, **options, progress=stages)
    for name, reason in found.left_out.items():
        click.echo(f"left out {name}: {reason}", err=True)
    before = f" ({found.already} were there)" if found.already else ""
    click.echo(f"{len(found.population)} networks in {out}{before}, {len(found.left_out)} left out")
    preset = "laptop-cnn" if found.population.inputs.kind == "image" else "laptop"
    click.echo(f"next: dynamo fit {out} --preset {preset}")
    if found.left_out:
        ctx.exit(1)
