"""Training a population into a folder, model by model: what ``dynamo train`` does."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.options import Spec
from dynamo.population.base_model import MetadataValue, check_metadata, check_name
from dynamo.population.data_paths import absolute
from dynamo.population.manifest import EXAMPLES, PopulationWriter
from dynamo.population.population import Population
from dynamo.registry import full_spec, make
from dynamo.system.bars import stages_of
from dynamo.system.locks import locked
from dynamo.system.progress import Progress, Setting, Stages
from dynamo.training.base_models import (
    BaseTrainingOptions,
    Job,
    as_base_model,
    check_jobs,
    check_trains,
    jobs,
    train_base_model,
)


def train_population(
    folder: Path | str,
    architectures: Sequence[Spec | str],
    dataset: Spec | str,
    *,
    fractions: Sequence[float] = (1.0,),
    seeds: Sequence[int] = (0,),
    options: BaseTrainingOptions | None = None,
    metadata: Mapping[str, MetadataValue] | None = None,
    prefix: str | None = None,
    encoding: str | None = None,
    keep_epochs: bool = False,
    skip_existing: bool = False,
    progress: Stages | Setting = False,
) -> Population:
    """Train every architecture on every fraction of a data set with every seed, and add the networks to a folder.

    Each network is on the disk as soon as it is trained, so that a run that was cut off goes on with
    ``skip_existing``.

    Args:
        folder: the population's; made where it is missing.
        architectures: registered architectures.
        dataset: a registered data set.
        fractions: shares of the first half of its training data, see
            :func:`~dynamo.training.base_models.train_base_model`.
        seeds: a network for each.
        options: how to train.
        metadata: what else is known of these networks.
        prefix: the start of their names; the data set's task where it is None, and the encoding if there is one.
        encoding: the encoding of the inputs that the networks read, of those that the data set comes in; where it is
            None they read what the meta-model reads.
        keep_epochs: keep a checkpoint of every epoch as a model of its own.
        skip_existing: leave out networks that the folder has already.
        progress: True, "notebook" or False, see :meth:`dynamo.Trainer.run`; or a function that is called with each
            stage (networks, and the steps of each), see :func:`dynamo.fit_population`.

    Returns:
        The networks that were asked for, those that were there already among them.

    Raises:
        DynamoError: names that are taken, components that do not fit, what :func:`train_base_model` finds, or a folder
            in use.

    Example:
        >>> from dynamo import train_population
        >>> population = train_population("population", ["gru:hidden_size=8"], "digits-rows", seeds=[0, 1])
        >>> [base.name for base in population]
        ['digits-gru-100-s0', 'digits-gru-100-s1']
    """
    folder, options, known = Path(folder), options or BaseTrainingOptions(), dict(metadata or {})
    if options.augmentation != "none":
        known.setdefault("augmentation", Spec.parse(options.augmentation).name)
    specs, data = [full_spec("architecture", spec) for spec in architectures], absolute(full_spec("dataset", dataset))
    check_metadata(known, "metadata")
    made = make("dataset", data, Dataset)
    made.check(data.name)
    check_trains(made, data.name)
    start = prefix or "-".join(filter(None, (made.task.group, encoding)))
    wanted = jobs(start, specs, fractions, seeds, encoding or "")
    epochs: list[int | None] = list(range(1, options.epochs + 1)) if keep_epochs else [None]
    for job in wanted:
        check_name(job.checkpoint_name(epochs[-1]))
    with locked(folder), stages_of(progress) as stages:
        writer, fingerprint = PopulationWriter(folder), made.fingerprint()
        writer.check_data(data, fingerprint)
        there = writer.names
        todo = _unfinished(wanted, epochs, there, folder, skip_existing)
        check_jobs(todo, made)
        overall, tick = stages("models", len(todo)), stages("steps", None)
        for number, job in enumerate(todo):
            named = partial(_named, tick, job.name)
            for epoch, model in train_base_model(job, made, options, named):
                if not keep_epochs and epoch < options.epochs:
                    continue
                base = as_base_model(job, model, data, made, epoch if keep_epochs else None, known, fingerprint)
                if base.name not in there:
                    writer.check(base, made.test.inputs[:EXAMPLES])
                    writer.add(base)
            told = f"test score {base.metadata['score']:.3f}" if "score" in base.metadata else "no score"
            overall(number + 1, len(todo), f"{job.name}: {told}")
    return Population.load(folder, {job.checkpoint_name(epoch) for job in wanted for epoch in epochs})


def _named(tick: Progress, name: str, done: int, total: int, note: str | float = "", /) -> None:
    """Tell whose steps these are."""
    tick(done, total, name)


def _unfinished(
    wanted: Sequence[Job], epochs: Sequence[int | None], there: set[str], folder: Path, skip_existing: bool
) -> list[Job]:
    """The jobs with a checkpoint that the folder lacks."""
    names = {job.name: {job.checkpoint_name(epoch) for epoch in epochs} for job in wanted}
    clashes = sorted(there & set().union(*names.values()))
    if clashes and not skip_existing:
        raise DynamoError(
            f"{folder} has {clashes[0]!r} already: use --skip-existing, --first-seed or --prefix, or another folder"
        )
    return [job for job in wanted if not names[job.name] <= there]
