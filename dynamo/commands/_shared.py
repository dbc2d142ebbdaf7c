"""What the commands share: options that several have, how a run is named and opened, and where results go."""

from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from dynamo.contracts.errors import DynamoError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dynamo.analysis.table import Table
    from dynamo.fit.distances import Distances
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

#: ``--device`` of an analysis.
device_option = click.option(
    "--device", default="cpu", show_default=True, help="where models are run: cpu, cuda, cuda:1, mps"
)

#: ``--population``: another folder of the base models than the one that the run remembers.
population_option = click.option(
    "--population",
    type=click.Path(path_type=Path),
    default=None,
    help="the folder of the base models [default: the one that the run was fitted to]",
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


def by_option(text: str, *, required: bool = False) -> Callable[[Decorated], Decorated]:
    """``--by``: the metadata whose values name the groups."""
    # click takes a default that is given, None too, for an answer to what is required.
    default: dict[str, Any] = {} if required else {"default": None}
    return click.option("--by", required=required, metavar="KEY", help=text, **default)


def without_option() -> Callable[[Decorated], Decorated]:
    """``--without``: metadata whose groups' means are taken off."""
    return click.option(
        "--without",
        default=None,
        metavar="KEY",
        help="metadata to account for, such as encoding: the mean of the models that share its value is taken off each",
    )


def head_option(what: str) -> Callable[[Decorated], Decorated]:
    """``--head``, of several."""
    return click.option("--head", default=None, help=f"the head that {what}; needed where there are several")


def count_option(
    name: str, default: int | None, text: str, *, least: int = 1, parameter: str | None = None
) -> Callable[[Decorated], Decorated]:
    """A whole number: a size, a budget, how many draws.

    Args:
        name: of the flag.
        default: its default; where it is None, ``text`` says what happens.
        text: the help.
        least: the smallest number.
        parameter: the name of the command's parameter, if it is not that of the flag.
    """
    return click.option(
        name,
        *([parameter] if parameter else []),
        type=click.IntRange(min=least),
        default=default,
        show_default=default is not None,
        help=text,
    )


def examples_option(default: int, text: str, *, least: int = 1) -> Callable[[Decorated], Decorated]:
    """``--examples``: how many."""
    return count_option("--examples", default, text, least=least)


def starts_option(default: int, *, least: int) -> Callable[[Decorated], Decorated]:
    """``--starts`` of a search for fixed points."""
    return count_option("--starts", default, "visited states that the search for fixed points starts from", least=least)


#: ``--metric``.
metric_option = click.option("--metric", default="score", show_default=True, help="score or loss")


def input_option(default: str | None, text: str) -> Callable[[Decorated], Decorated]:
    """``--input``: the constant input, as the parameter ``held``."""
    return click.option("--input", "held", default=default, show_default=default is not None, help=text)


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
    """``KEY=VALUE`` texts as a table; truth values are read as such, and numbers that are written back alike: ``7`` is
    a number, ``007`` a text.
    """
    from dynamo.population.metadata import typed

    metadata: dict[str, MetadataValue] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise DynamoError(f"cannot read the metadata {text!r}: write KEY=VALUE")
        metadata[key] = typed(value)
    return metadata


def matching(population: "Population", conditions: Sequence[str]) -> "Population":
    """The models whose metadata has, for every key that is named, one of its values."""
    from dynamo.population.base_model import is_written

    wanted: dict[str, list[str]] = {}
    for text in conditions:
        for key in read_metadata([text]):
            wanted.setdefault(key, []).append(text.partition("=")[2])
    known = {key for base in population for key in base.metadata}
    for key in wanted:
        if key not in known:
            raise DynamoError(f"no metadata is called {key!r}: {did_you_mean(key, known)}")
    fits = [
        all(any(is_written(base.metadata.get(key), text) for text in texts) for key, texts in wanted.items())
        for base in population
    ]
    if not any(fits):
        raise DynamoError(f"no model has the metadata that --where asks for: {', '.join(conditions)}")
    return population.select(fits)


@attrs.frozen(eq=False)
class AskedRun:
    """The run that a question is asked of, its base models and the folder of the answer; each is opened on first use.

    Attributes:
        path: the run folder.
        population_path: the folder of the base models; None for the one that the run remembers.
        out: the folder of the results; None for one in the run folder.
        name: of that one.
        device: where emulator and base models are run.
        sample: of so many base models, drawn at random; None for all.
    """

    path: Path
    population_path: Path | None
    out: Path | None
    name: str
    device: str
    sample: int | None = None

    @cached_property
    def fit(self) -> "Fit":
        """The fit, or that of a sample."""
        some = self._whole if self.sample is None else self._whole.sample(self.sample)
        return some.to(self.device)

    @cached_property
    def _whole(self) -> "Fit":
        from dynamo.fit.fit import Fit

        return Fit.load(self.path)

    @cached_property
    def population(self) -> "Population":
        """Its base models."""
        whole = self._whole.open_population(self.population_path)
        return (whole if self.sample is None else whole[self.fit.names]).to(self.device)

    @cached_property
    def folder(self) -> Path:
        """Where the results go; it is locked, and checked before the work starts."""
        return results_folder(self.path, self.out, self.name)

    def with_floor(self, apart: "Distances") -> "Distances":
        """The same with the noise floor, where `dynamo analyse distances --twins` has measured it for this run."""
        from dynamo.fit.distances import NoiseFloor

        noise = NoiseFloor.read(self.path / "distances", apart.kind)
        return apart if noise is None else apart.with_floor(noise)

    def without(self, apart: "Distances", key: str | None) -> "Distances":
        """The same, with the means of the groups that share a value of that metadata taken off.

        Raises:
            DynamoError: some models lack it, or each has a value of its own.
        """
        return apart if key is None else apart.without(key, self.fit.values_of(key))

    def colours(self, key: str | None) -> "tuple[str | None, list[MetadataValue] | None]":
        """The key of the metadata that colours the models, and its value for each model.

        Args:
            key: what was asked for; where it is None, one is chosen.

        Raises:
            DynamoError: some models lack it.
        """
        from dynamo.report.run import check_key, colouring

        check_key(self.fit.metadata, key)
        key = key or colouring(self.fit.metadata)
        return key, None if key is None else self.fit.values_of(key)


def distance_option(name: str = "--distance") -> Callable[[Decorated], Decorated]:
    """``--distance``: the kind of distance between models; None for the default of the library."""
    return click.option(
        name,
        default=None,
        metavar="KIND",
        help="combined, states, outputs, activity, theta, mapped, objective, pullback, procrustes or aligned "
        "[default: combined]",
    )


def on_a_run(name: str, *, models: bool = True) -> Callable[[Decorated], Decorated]:
    """Give a command the argument RUN, as an :class:`AskedRun`, and the options --population, --out, --sample,
    --device and --threads.

    Args:
        name: of the folder of results in RUN.
        models: whether the command reads the base models; without it there is no --population.
    """

    def decorate(command: Decorated) -> Decorated:
        @wraps(command)
        def asked(
            run: Path,
            out: Path | None,
            device: str,
            sample: int | None,
            population: Path | None = None,
            **options: Any,
        ) -> Any:
            return command(AskedRun(run, population, out, name, device, sample), **options)

        asking: Any = asked
        sample = count_option("--sample", None, "ask of so many models, drawn at random [default: all]")
        options = (threads_option, device_option, sample, out_option(name), *([population_option] if models else []))
        for option in (*options, click.argument("run", type=click.Path(path_type=Path))):
            asking = option(asking)
        given: Decorated = asking
        return given

    return decorate


def hold(folder: Path) -> None:
    """Lock a folder until the command ends.

    Raises:
        DynamoError: another process writes into it, or it cannot be written.
    """
    from dynamo.system.locks import locked

    click.get_current_context().with_resource(locked(folder))


def results_folder(run: Path, out: Path | None, name: str) -> Path:
    """Where an analysis writes; checked before the work starts."""
    from dynamo.contracts.files import refuse_links
    from dynamo.system.storage import check_writable

    folder = out or run / name
    if out is None:
        refuse_links(run, folder)
    hold(folder)
    check_writable(folder)
    return folder


def keep(folder: Path, name: str, table: "Table", figure: "Figure | None" = None) -> None:
    """Write ``NAME.csv`` (and the picture ``NAME.png`` and ``NAME.svg``), print the table and say where it is.

    Args:
        folder: where to.
        name: of the files.
        table: columns and rows; at most ``SHOWN`` rows are printed, the file has all.
        figure: the picture.
    """
    from dynamo.report.run import write_figure
    from dynamo.system.storage import write_csv

    write_csv(folder / f"{name}.csv", *table)
    show(table, name)
    say_file("table", folder / f"{name}.csv")
    if figure is not None:
        write_figure(figure, folder, name)
        say_file("picture", folder / f"{name}.png")


def keep_also(folder: Path, name: str, table: "Table") -> None:
    """Write ``NAME.csv`` and say where it is, without printing it."""
    from dynamo.system.storage import write_csv

    write_csv(folder / f"{name}.csv", *table)
    say_file(name, folder / f"{name}.csv")


def say_file(what: str, path: Path) -> None:
    """Say what was written where."""
    from dynamo.report.answer import collected

    answer = collected()
    if answer is None:
        click.echo(f"{what:<8} {path}")
    else:
        answer.files.append(str(path))


def show(table: "Table", name: str = "table", most: int | None = SHOWN) -> None:
    """Print a table; of a long one the first ``most`` rows. An answer in JSON has all of them, under the name."""
    from dynamo.report import terminal

    terminal.table(*table, name, most)
