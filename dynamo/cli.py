"""The command line: a thin face over the library, and the only place that joins names to objects."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from dynamo import __version__
from dynamo.commands import Analyses, _embed
from dynamo.commands._shared import hold
from dynamo.errors import DynamoError, Interrupted, did_you_mean, printable
from dynamo.options import Spec, build_options, type_name

if TYPE_CHECKING:
    from dynamo.plugins import Owned
    from dynamo.population import Population


#: Where the options of a command come from: read as text, since importing the classes themselves would import torch.
LAZY_OPTIONS = {
    "train": ("dynamo.base_training", "BaseTrainingOptions"),
    "fit": ("dynamo.fit_options", "FitOptions"),
    "embed": ("dynamo.embedding", "EmbedOptions"),
}


class _OptionsCommand(click.Command):
    """A command whose further flags are the fields of an options class, imported only when the command is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        return [*params[:-1], *_flags(str(self.name)), *params[-1:]]


def _options_class(command: str) -> type:
    from importlib import import_module

    module, name = LAZY_OPTIONS[command]
    found: type = getattr(import_module(module), name)
    return found


def _flags(command: str) -> list[click.Parameter]:
    flags: list[click.Parameter] = []
    for field in attrs.fields(_options_class(command)):
        default = "none" if field.default is None else field.default
        text = f"{field.metadata['help']} [{type_name(field.type)}; default {default}]"
        flags.append(click.Option([f"--{field.name.replace('_', '-')}"], default=None, help=text, metavar="VALUE"))
    return flags


def _given(command: str, values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given on the command line."""
    names = {field.name for field in attrs.fields(_options_class(command))}
    return {name: value for name, value in values.items() if name in names and value is not None}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="dynamo")
def cli() -> None:
    """DYNAMO draws a map of trained neural networks.

    Three steps: `dynamo train` makes a population of base models, `dynamo fit` fits a meta-model to it and draws the
    map, `dynamo show` looks at a run again. `dynamo analyse` asks questions of the map, `dynamo plugins` lists what
    can be used by name.

    A component is given as NAME or NAME:OPTION=VALUE,OPTION=VALUE (for example low-rank:rank=8).
    """


@cli.command(cls=_OptionsCommand)
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
    help="share of the training data; give it again for more",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="networks of each kind")
@click.option("--first-seed", type=click.IntRange(min=0), default=0, show_default=True, help="the first of the seeds")
@click.option("--keep-epochs", is_flag=True, help="keep a checkpoint of every epoch as a model of its own")
@click.option("--label", "-l", "labels", multiple=True, metavar="KEY=VALUE", help="a further label for these models")
@click.option("--prefix", default=None, help="start of the models' names [default: the data set's task]")
@click.option("--skip-existing", is_flag=True, help="leave out models that the population has already")
@click.option("--threads", type=click.IntRange(min=1), default=None, help="processor threads [default: all]")
def train(population: Path, **values: Any) -> None:
    """Train base models and add them to the folder POPULATION.

    Every architecture is trained on every fraction with every seed. Base models see the first half of the training
    data (or the given share of it); the other half is kept, without labels, for the meta-model.
    """
    _threads(values["threads"])
    from dynamo import terminal
    from dynamo.base_training import BaseTrainingOptions, as_base_model, check_jobs, jobs, train_base_model
    from dynamo.data import Dataset
    from dynamo.plugins import full_spec, make
    from dynamo.population import PopulationWriter

    options = build_options(BaseTrainingOptions, _given("train", values), where="dynamo train")
    labels = _labels(values["labels"])
    if options.augmentation != "none":
        labels.setdefault("augmentation", Spec.parse(options.augmentation).name)
    architectures = [full_spec("architecture", spec) for spec in values["architectures"]]
    data = full_spec("dataset", values["dataset"])
    dataset = make("dataset", data, Dataset)
    dataset.check(data.name)
    seeds = range(values["first_seed"], values["first_seed"] + values["seeds"])
    todo = jobs(values["prefix"] or dataset.outputs.group, architectures, values["fractions"], seeds)
    hold(population)
    writer, fingerprint = PopulationWriter(population), dataset.fingerprint()
    writer.check_data(data, fingerprint)
    there = writer.names
    kept: list[int | None] = list(range(1, options.epochs + 1)) if values["keep_epochs"] else [None]
    wanted = {job.name: {job.checkpoint_name(epoch) for epoch in kept} for job in todo}
    clashes = sorted(there & set().union(*wanted.values()))
    if clashes and not values["skip_existing"]:
        raise DynamoError(
            f"{population} has {clashes[0]!r} already: use --skip-existing, --first-seed or --prefix, or another folder"
        )
    todo = [job for job in todo if not wanted[job.name] <= there]
    check_jobs(todo, dataset)
    with terminal.progress() as bar:
        overall = terminal.task(bar, "models", len(todo))
        for number, job in enumerate(todo):
            tick = terminal.task(bar, job.name, None)
            for epoch, model in train_base_model(job, dataset, options, tick):
                if not values["keep_epochs"] and epoch < options.epochs:
                    continue
                kept_epoch = epoch if values["keep_epochs"] else None
                made = as_base_model(job, model, data, dataset, kept_epoch, labels, fingerprint)
                if made.name not in there:
                    writer.add(made)
            tick.remove()
            overall(number + 1, len(todo), f"{job.name}: test score {made.labels['score']:.3f}")
    preset = "laptop-cnn" if dataset.inputs.kind == "image" else "laptop"
    click.echo(f"{len(writer.entries)} models in {population}\nnext: dynamo fit {population} --preset {preset}")


@cli.command(cls=_OptionsCommand)
@click.argument("population", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default=None, help="the run folder [default: POPULATION-run]"
)
@click.option(
    "--preset",
    default="paper",
    show_default=True,
    help="options to start from: paper (Table 1), paper-cnn (Table 2), laptop, laptop-cnn; flags below go first",
)
@click.option(
    "--where",
    multiple=True,
    metavar="KEY=VALUE",
    help="fit only models with this label; again: other values, or other keys",
)
@click.option(
    "--colour-by", default=None, metavar="LABEL", help="the label that colours the map [default: one is chosen]"
)
@click.option("--resume", is_flag=True, help="go on from the run folder's checkpoint")
@click.option("--threads", type=click.IntRange(min=1), default=None, help="processor threads [default: all]")
@click.option("--devices", type=click.IntRange(min=1), default=None, help="processes on each machine [default: 1]")
@click.option("--nodes", type=click.IntRange(min=1), default=None, help="machines, started by torchrun [default: 1]")
def fit(population: Path, **values: Any) -> None:
    """Fit a meta-model to the base models in the folder POPULATION.

    Leaves a run folder with the fit, the map (map.png, map.svg), embedding.csv, fidelity.csv and history.csv. Ctrl-C
    saves a checkpoint from which --resume goes on.
    """
    _threads(values["threads"])
    import shutil

    from dynamo import distributed, terminal
    from dynamo.checkpoint import remove_checkpoint
    from dynamo.fidelity import measure_fidelity
    from dynamo.fit import RUN, Fit
    from dynamo.fit_options import FitOptions
    from dynamo.population import Population
    from dynamo.presets import PRESETS
    from dynamo.ranks import Ranks
    from dynamo.report import FIDELITY, check_label, write_fidelity, write_map
    from dynamo.storage import check_writable

    if values["preset"] not in PRESETS:
        raise DynamoError(f"no preset is called {values['preset']!r}: {did_you_mean(values['preset'], PRESETS)}")
    options = build_options(FitOptions, {**PRESETS[values["preset"]], **_given("fit", values)}, where="dynamo fit")
    out = values["out"] or population.with_name(f"{population.resolve().name}-run")
    checkpoint = out / "checkpoint.pt"
    ranks = Ranks.plan(values["devices"], values["nodes"])
    if not ranks.rank:
        hold(out)
        check_writable(out)
    if (out / RUN).exists():
        raise DynamoError(f"{out} holds a finished run already: choose another folder with --out")
    if checkpoint.exists() != values["resume"]:
        hint = (
            "add --resume to go on from it, or choose another folder" if checkpoint.exists() else "leave --resume out"
        )
        raise DynamoError(f"{out} has {'a' if checkpoint.exists() else 'no'} checkpoint: {hint}")
    loaded = _where(Population.load(population), values["where"])
    ranks.check(loaded, options)
    if ranks.rank:  # started by torchrun: rank 0 alone shows and writes
        distributed.fit(loaded, options, ranks, checkpoint, values["resume"], out / "recording")
        return
    trainer = distributed.preview(loaded, options, ranks)
    check_label(Fit(trainer.emulator, options, [base.labels for base in loaded]), values["colour_by"])
    if values["resume"]:
        trainer.resume(checkpoint)
    try:
        shutil.rmtree(out / "recording", ignore_errors=True)  # of a process that was killed
        with terminal.progress() as bar:
            tick = terminal.task(bar, "recording base models", len(loaded))
            tock, recording = terminal.task(bar, "fitting", trainer.steps), out / "recording"
            if ranks.size == 1:
                trainer.record(recording, tick)
                trainer.run(checkpoint, tock)
                result = Fit.of(trainer)
            else:
                result = distributed.fit(loaded, options, ranks, checkpoint, values["resume"], recording, tick, tock)
            measured = measure_fidelity(result, loaded, terminal.task(bar, "measuring fidelity", len(loaded)))
    finally:
        shutil.rmtree(out / "recording", ignore_errors=True)
    write_fidelity(measured, out)
    write_map(result, out, values["colour_by"])
    result.save(out, beside=[FIDELITY])
    remove_checkpoint(checkpoint)
    terminal.summary(result, measured, out, values["colour_by"])


def _where(population: "Population", conditions: Sequence[str]) -> "Population":
    """The models whose labels have, for every key that is named, one of its values."""
    wanted: dict[str, set[object]] = {}
    for text in conditions:
        for key, value in _labels([text]).items():
            wanted.setdefault(key, set()).add(value)
    known = {key for base in population for key in base.labels}
    for key in wanted:
        if key not in known:
            raise DynamoError(f"no label is called {key!r}: {did_you_mean(key, known)}")
    fits = [all(base.labels.get(key) in values for key, values in wanted.items()) for base in population]
    if not any(fits):
        raise DynamoError(f"no model has the labels that --where asks for: {', '.join(conditions)}")
    return population.select(fits)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--colour-by", default=None, metavar="LABEL", help="draw the map again, coloured by this label")
def show(run: Path, colour_by: str | None) -> None:
    """Tell what a run found: fidelity of every model, spectrum, and how the labelled groups lie on the map."""
    from dynamo import terminal
    from dynamo.fit import Fit
    from dynamo.report import check_label, read_fidelity, write_map

    loaded = Fit.load(run)
    check_label(loaded, colour_by)
    measured = read_fidelity(run)
    if colour_by is not None:
        hold(run)
        write_map(loaded, run, colour_by)
    terminal.fidelity_table(measured)
    terminal.summary(loaded, measured, run, colour_by)


@cli.command()
@click.argument("name", required=False)
def plugins(name: str | None) -> None:
    """List every component with its plugin; with NAME, its options too."""
    from dynamo import terminal
    from dynamo.plugins import registry

    owned = registry().owned()
    chosen = [item for item in owned if name in (None, item.component.name)]
    if not chosen:
        raise DynamoError(f"no component is called {name!r}: {did_you_mean(str(name), _names(owned))}")
    terminal.components_table(chosen)
    if name is not None:
        for item in chosen:
            terminal.options_table(item.component)
    for broken in registry().broken:
        click.echo(f"skipped plugin {broken.owner}: {broken.reason}", err=True)


cli.add_command(
    _OptionsCommand("embed", params=_embed.command.params, callback=_embed.command.callback, help=_embed.command.help)
)


@cli.group(cls=Analyses)
def analyse() -> None:
    """Ask a question of a run's map. Each answers with a table, a file of it, and a picture."""


def _names(owned: Sequence["Owned"]) -> set[str]:
    return {item.component.name for item in owned}


def _labels(given: Sequence[str]) -> dict[str, str | int | float | bool]:
    labels: dict[str, str | int | float | bool] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise DynamoError(f"cannot read the label {text!r}: write --label KEY=VALUE")
        labels[key] = _value(value)
    return labels


def _value(text: str) -> str | int | float | bool:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def _threads(count: int | None) -> None:
    if count is not None:
        import torch

        torch.set_num_threads(count)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors that the user can mend are one line, without a traceback."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # Before torch is loaded. Threads that meet thousands of times a second wait a little and then sleep: by default
        # they keep their core, and where another process wants one a fit took thirty times as long.
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="dynamo", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(128 + signal.SIGINT)
    except Interrupted as error:
        click.echo(printable(str(error)), err=True)
        sys.exit(128 + signal.SIGINT)
    except DynamoError as error:
        click.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
