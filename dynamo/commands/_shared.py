"""What the analyses' commands share: how a run is named and opened, and where results go."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dynamo.fit import Fit
    from dynamo.population import Population

#: The most rows of a table that are printed; its file has all.
SHOWN = 40

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def on_a_run(command: Decorated) -> Decorated:
    """Give a command the argument RUN and the options --population, --out and --threads."""
    options = (
        click.argument("run", type=click.Path(path_type=Path)),
        click.option(
            "--population",
            type=click.Path(path_type=Path),
            default=None,
            help="the folder of the base models [default: where the run found them]",
        ),
        click.option(
            "--out",
            "-o",
            type=click.Path(path_type=Path),
            default=None,
            help="the folder of the results [default: one in RUN, named like the command]",
        ),
        click.option("--threads", type=click.IntRange(min=1), default=None, help="processor threads [default: all]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def open_run(run: Path, population: Path | None, threads: int | None) -> "tuple[Fit, Population]":
    """A run with its base models."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    from dynamo.fit import Fit

    fit = Fit.load(run)
    return fit, fit.open_population(population)


def hold(folder: Path) -> None:
    """Lock a folder until the command ends.

    Raises:
        DynamoError: another process writes into it, or it cannot be written.
    """
    from dynamo.locks import locked

    click.get_current_context().with_resource(locked(folder))


def results_folder(run: Path, out: Path | None, name: str) -> Path:
    """Where an analysis writes; checked before the work starts."""
    from dynamo.storage import check_writable

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
    from dynamo import terminal
    from dynamo.report import write_figure
    from dynamo.storage import write_csv

    write_csv(folder / f"{name}.csv", columns, rows)
    terminal.table(columns, rows[:shown])
    if len(rows) > shown:
        click.echo(f"… {len(rows) - shown} more rows")
    click.echo(f"table    {folder / name}.csv")
    if figure is not None:
        write_figure(figure, folder, name)
        click.echo(f"picture  {folder / name}.png")
