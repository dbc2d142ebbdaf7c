"""Training base models: many networks of given architectures, on given shares of a data set's first half."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import isfinite

import attrs
import torch

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import Augmentation, DynamicalModel
from dynamo.population.base_model import BaseModel, MetadataValue
from dynamo.population.manifest import build_model
from dynamo.population.scores import score, task_loss
from dynamo.registry import make
from dynamo.system.allocator import keep_freed_memory
from dynamo.system.devices import find_device
from dynamo.system.progress import Progress, silent
from dynamo.training.optimisation import Annealed
from dynamo.training.options import BaseTrainingOptions as BaseTrainingOptions
from dynamo.training.randomness import Randomness


@attrs.frozen
class Job:
    """One network to train; ``encoding`` is the one that it reads, where it is not what the meta-model reads."""

    prefix: str
    architecture: Spec
    fraction: float
    seed: int
    encoding: str = ""

    def build(self, dataset: Dataset) -> DynamicalModel:
        """The network as it is before it is trained, for the encoding of the inputs that it is to read.

        Raises:
            DynamoError: the architecture cannot be built for the data set, or that has no such encoding.
        """
        reading = None
        if self.encoding and self.encoding != dataset.encoding:
            if self.encoding not in dataset.encodings:
                known = [dataset.encoding, *dataset.encodings]
                told = did_you_mean(self.encoding, known) if dataset.encodings else "it comes in one alone"
                raise DynamoError(f"the data set does not come in the encoding {self.encoding!r}: {told}")
            reading = self.encoding, dataset.encodings[self.encoding]
        return build_model(self.architecture, dataset.inputs, dataset.task, reading)

    @property
    def name(self) -> str:
        """A name that tells what it is: ``digits-gru-100-s0`` was trained on 100 % of the digits with seed 0."""
        return f"{self.prefix}-{self.architecture.name}-{self.fraction * 100:g}-s{self.seed}"

    def checkpoint_name(self, epoch: int | None) -> str:
        """The name of the network after an epoch; without one, that of the finished network."""
        return self.name if epoch is None else f"{self.name}-e{epoch:03d}"


def jobs(
    prefix: str,
    architectures: Sequence[Spec],
    fractions: Sequence[float],
    seeds: Sequence[int],
    encoding: str = "",
) -> list[Job]:
    """Every architecture with every fraction and seed; names start with the prefix.

    Raises:
        DynamoError: a fraction outside (0, 1], or two jobs of one name.
    """
    for share in fractions:
        if not 0 < share <= 1:
            raise DynamoError(f"the fraction {share} must be above 0 and at most 1")
    made = [Job(prefix, *parts, encoding) for parts in product(architectures, fractions, seeds)]
    if len({job.name for job in made}) < len(made):
        raise DynamoError(
            "two of the models asked for would have one name: train the same architecture with other options in a "
            "second call, with another --prefix"
        )
    return made


def check_trains(dataset: Dataset, name: str) -> None:
    """Check that base models can be trained on a data set.

    Raises:
        DynamoError: it has no task or no labels, or all its examples serve the meta-model.
    """
    try:
        dataset.halves()
        for needed in (dataset, dataset.train, dataset.test):
            _ = needed.task if isinstance(needed, Dataset) else needed.labels
    except DynamoError as error:
        raise error.at(f"data set {name!r}") from None


def check_jobs(todo: Sequence[Job], dataset: Dataset) -> None:
    """Build every architecture once, so that one that does not fit the data is told before the others are trained.

    Raises:
        DynamoError: an architecture cannot be built for the data set.
    """
    with torch.random.fork_rng(devices=[]):
        for job in {str(job.architecture): job for job in todo}.values():
            job.build(dataset)


def train_base_model(
    job: Job,
    dataset: Dataset,
    options: BaseTrainingOptions,
    progress: Progress = silent,
) -> Iterator[tuple[int, DynamicalModel]]:
    """Train one network; yields (epoch, model) after each epoch, the model being the same object each time.

    A run depends on the job, the data and the options alone: the seed sets the initial weights, dropout and the order
    of the examples.

    Args:
        job: what to train.
        dataset: its task; the fraction is taken of the first half (see :meth:`Dataset.halves`).
        options: how.
        progress: called with (step, steps) after each step.

    Raises:
        DynamoError: the fraction leaves no examples, or the loss is not finite.
    """
    keep_freed_memory()
    half, _ = dataset.halves()
    examples = half[: round(len(half) * job.fraction)]
    if len(examples) == 0:
        raise DynamoError(f"{job.name}: {job.fraction:.3g} of {len(half)} training examples leaves none")
    device = find_device(options.device)
    augment = None
    if options.augmentation != "none":
        augment = make("augmentation", options.augmentation, Augmentation, dataset.inputs)
    random = Randomness(device, job.seed)
    with random.drawn():
        model = job.build(dataset).to(device)
    batches = _batches(len(examples), options.batch_size)
    steps = options.epochs * batches
    groups = [{"params": list(model.parameters()), "peak": options.learning_rate}]
    settings = {"momentum": options.momentum} if options.optimizer == "sgd" else {}
    optimizer = Annealed(options.optimizer, groups, steps, weight_decay=options.weight_decay, **settings)
    step = 0
    for epoch in range(1, options.epochs + 1):
        with random.drawn():
            model.train()
            for rows in torch.tensor_split(torch.randperm(len(examples)), batches):
                batch = examples[rows]
                inputs = batch.inputs if augment is None else batch.inputs.with_values(augment(batch.inputs.values))
                inputs, targets = inputs.to(device), batch.labels.to(device)
                run = model.trajectory(inputs)
                loss = task_loss(run.at_readout(model.outputs.readout), targets, run.mask, model.outputs)
                if not bool(loss.isfinite()):
                    raise DynamoError(
                        f"{job.name}: the loss is {loss.item()} in epoch {epoch}: "
                        "lower --learning-rate or set --clip-norm"
                    )
                optimizer.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                if options.clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
                optimizer.step(step)
                step += 1
                progress(step, steps)
        yield epoch, model.eval()


def _batches(examples: int, batch_size: int) -> int:
    """How many batches an epoch has; of equal size to within one, so that none is left with a single example."""
    return max(1, -(-examples // batch_size))


def as_base_model(
    job: Job,
    model: DynamicalModel,
    data: Spec,
    dataset: Dataset,
    epoch: int | None,
    metadata: Mapping[str, MetadataValue],
    fingerprint: str | None = None,
) -> BaseModel:
    """A trained network with the metadata that tells where it comes from; ``epoch`` is given for one of several
    checkpoints of a run, ``fingerprint`` where that of the data set is known.
    """
    known: dict[str, MetadataValue] = {
        "architecture": job.architecture.name,
        "task": dataset.task.group,
        "fraction": job.fraction,
        "seed": job.seed,
    }
    if dataset.encodings:
        known["encoding"] = job.encoding or dataset.encoding
    reached = score(model, dataset.test)
    if isfinite(reached):  # R² of targets that do not vary is undefined
        known["score"] = round(reached, 4)
    if epoch is not None:
        known["epoch"] = epoch
    return BaseModel(job.checkpoint_name(epoch), model, data, {**known, **metadata}, job.architecture, fingerprint)
