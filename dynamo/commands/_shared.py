"""What the commands share: options that several have, how a run is named and opened, and where results go."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dynamo.contracts.errors import DynamoError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dynamo.fit.fit import Fit
    from dynamo.population.base_model import MetadataValue
    from dynamo.population.population import Population

#: The most rows of a table that are printed; its file has all.
SHOWN = 40

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _set_threads(ctx: click.Context, parameter: click.Parameter, count: int | None) -> None:
    if count is not None and not ctx.resilient_parsing:
        import torch

        torch.set_num_threads(count)


#: ``--threads``, which takes effect by itself.
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=None,
    expose_value=False,
    callback=_set_threads,
    help="processor threads [default: all]",
)

#: ``--population``: another place of the base models than the one that the run remembers.
population_option = click.option(
    "--population",
    type=click.Path(path_type=Path),
    default=None,
    help="the folder of the base models [default: where the run found them]",
)


def out_option(name: str) -> Callable[[Decorated], Decorated]:
    """``--out``: the folder of an analysis, by default one in RUN."""
    return click.option(
        "--out",
        "-o",
        type=click.Path(path_type=Path),
        default=None,
        help=f"the folder of the results [default: RUN/{name}]",
    )


def seed_option(what: str) -> Callable[[Decorated], Decorated]:
    """``--seed`` of what is random in a command."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=f"the seed of {what}")


def colour_option(what: str) -> Callable[[Decorated], Decorated]:
    """``--colour-by``: the metadata that colours something."""
    return click.option(
        "--colour-by", default=None, metavar="KEY", help=f"the metadata that colours {what} [default: one is chosen]"
    )


def _old_label(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> None:
    if given:
        click.echo("--label is now called --metadata", err=True)
        ctx.params["metadata"] = (*ctx.params.get("metadata", ()), *given)


def metadata_option(command: Decorated) -> Decorated:
    """``--metadata KEY=VALUE``, and its old name ``--label``."""
    command = click.option(
        "--label", "-l", multiple=True, hidden=True, expose_value=False, callback=_old_label, metavar="KEY=VALUE"
    )(command)
    return click.option(
        "--metadata",
        "-m",
        multiple=True,
        is_eager=True,
        metavar="KEY=VALUE",
        help="what else is known of these models; give it again for more",
    )(command)


def read_metadata(given: Sequence[str]) -> "dict[str, MetadataValue]":
    """``KEY=VALUE`` texts as a table; numbers and truth values are read as such."""
    metadata: dict[str, MetadataValue] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise DynamoError(f"cannot read the metadata {text!r}: write KEY=VALUE")
        metadata[key] = _value(value)
    return metadata


def _value(text: str) -> "MetadataValue":
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def matching(population: "Population", conditions: Sequence[str]) -> "Population":
    """The models whose metadata has, for every key that is named, one of its values."""
    wanted: dict[str, set[object]] = {}
    for text in conditions:
        for key, value in read_metadata([text]).items():
            wanted.setdefault(key, set()).add(value)
    known = {key for base in population for key in base.metadata}
    for key in wanted:
        if key not in known:
            raise DynamoError(f"no metadata is called {key!r}: {did_you_mean(key, known)}")
    fits = [all(base.metadata.get(key) in values for key, values in wanted.items()) for base in population]
    if not any(fits):
        raise DynamoError(f"no model has the metadata that --where asks for: {', '.join(conditions)}")
    return population.select(fits)


def on_a_run(name: str) -> Callable[[Decorated], Decorated]:
    """Give a command the argument RUN and the options --population, --out and --threads.

    Args:
        name: of the folder of results in RUN.
    """

    def decorate(command: Decorated) -> Decorated:
        run = click.argument("run", type=click.Path(path_type=Path))
        for option in (threads_option, out_option(name), population_option, run):
            command = option(command)
        return command

    return decorate


def open_run(run: Path, population: Path | None) -> "tuple[Fit, Population]":
    """A run with its base models."""
    from dynamo.fit.fit import Fit

    fit = Fit.load(run)
    return fit, fit.open_population(population)


def hold(folder: Path) -> None:
    """Lock a folder until the command ends.

    Raises:
        DynamoError: another process writes into it, or it cannot be written.
    """
    from dynamo.system.locks import locked

    click.get_current_context().with_resource(locked(folder))


def results_folder(run: Path, out: Path | None, name: str) -> Path:
    """Where an analysis writes; checked before the work starts."""
    from dynamo.system.storage import check_writable

    folder = out or run / name
    hold(folder)
    check_writable(folder)
    return folder


def keep(
    folder: Path,
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    figure: "Figure | None" = None,
    shown: int = SHOWN,
) -> None:
    """Write ``NAME.csv`` (and the picture ``NAME.png`` and ``NAME.svg``), print the table and say where it is.

    Args:
        folder: where to.
        name: of the files.
        columns: of the table.
        rows: of the table.
        figure: the picture.
        shown: the most rows that are printed; the file has all.
    """
    from dynamo.report import terminal
    from dynamo.report.run import write_figure
    from dynamo.system.storage import write_csv

    write_csv(folder / f"{name}.csv", columns, rows)
    terminal.table(columns, rows[:shown])
    if len(rows) > shown:
        click.echo(f"… {len(rows) - shown} more rows")
    click.echo(f"table    {folder / name}.csv")
    if figure is not None:
        write_figure(figure, folder, name)
        click.echo(f"picture  {folder / name}.png")
