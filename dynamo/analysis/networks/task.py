"""What an analysis that scores or learns a task needs to know of it: the base models of one head, their data set, and
labelled examples that it may tune on.
"""

import attrs
import torch
from torch import Tensor

from dynamo.analysis.networks.evaluate import Metric, metric_named
from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Inputs, at_readout
from dynamo.fit.fit import Fit
from dynamo.population.base_model import BaseModel
from dynamo.population.population import Population
from dynamo.population.scores import task_score
from dynamo.system.devices import device_of


@attrs.frozen(eq=False)
class Task:
    """The task of one head.

    Attributes:
        head: the head's name.
        space: its output space.
        dataset: the data set of its base models.
        indices: of the base models that have this head, among the thetas.
        models: these base models.
        labelled: examples to tune on, in random order: what no base model was trained on of the labelled half, or the
            whole half where nothing is left. Where the networks were trained elsewhere, all training examples, which
            may have no labels.
        seen: whether base models were, or may have been, trained on ``labelled``.
    """

    head: str
    space: OutputSpace
    dataset: Dataset
    indices: tuple[int, ...]
    models: tuple[BaseModel, ...]
    labelled: Examples
    seen: bool

    __repr__ = brief

    @property
    def names(self) -> list[str]:
        """The names of its base models."""
        return [base.name for base in self.models]


def task_of(fit: Fit, population: Population, head: str | None = None) -> Task:
    """The task of a head.

    Base models are trained on the first ``fraction`` of the labelled half (see
    :func:`dynamo.training.base_models.train_base_model`), so what comes after the largest fraction is new to all
    of them. A model without that metadata may have seen all.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        head: the head's name; needed where there are several.

    Raises:
        DynamoError: a head that is not there or not said, or whose base models have different data sets.
    """
    space = fit.model_at(fit.theta[0], head).outputs
    head = head or fit.emulator.blueprint.heads[0][0]
    indices = tuple(index for index in range(len(fit.names)) if fit.emulator.group_of(index) == head)
    models = tuple(population[index] for index in indices)
    for base in models:
        base.check_runs()
    datasets = [population.dataset(base) for base in models]
    for base, dataset in zip(models, datasets, strict=True):
        if dataset is not datasets[0]:
            raise DynamoError(
                f"the models {models[0].name!r} and {base.name!r} have the head {head!r} and different data sets: fit "
                "them with heads of their own (--head-by)"
            )
    half = _shuffled(datasets[0].train) if datasets[0].only_probes else datasets[0].halves()[0]
    used = max(_fraction(base) for base in models)
    rest = half[round(len(half) * used) :]
    seen = len(rest) == 0 or datasets[0].only_probes
    return Task(
        head=head,
        space=space,
        dataset=datasets[0],
        indices=indices,
        models=models,
        labelled=half if seen else rest,
        seen=seen,
    )


def _shuffled(examples: Examples) -> Examples:
    return examples[torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))]


def _fraction(base: BaseModel) -> float:
    fraction = base.metadata.get("fraction", 1.0)
    return float(fraction) if isinstance(fraction, int | float) and 0 <= fraction <= 1 else 1.0


def some(examples: Examples, count: int | None, seed: int = 0) -> Examples:
    """At most ``count`` of the examples, drawn at random; all of them where it is None."""
    if count is None or count >= len(examples):
        return examples
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    return examples[order[:count]]


def answer_count(examples: Examples, rows: Tensor, space: OutputSpace) -> int:
    """How many answers a task wants on some examples: one each, or with readout ``every`` one a real step."""
    return int(examples.inputs.mask[rows].sum()) if space.readout == "every" else len(rows)


@torch.no_grad()
def answers(model: DynamicalModel, inputs: Inputs, batch_size: int = 512) -> tuple[Tensor, Tensor]:
    """A model's outputs at the readout, and the states at its last site that they are read from; on the CPU.

    Returns:
        Outputs ``[B, K]`` and states ``[B, S]`` (``[B, T, K]`` and ``[B, T, S]`` with readout ``every``). States of
        images are averaged over positions, which leaves channels.
    """
    outputs, states = [], []
    device, readout = device_of(model), model.outputs.readout
    for start in range(0, len(inputs), batch_size):
        trajectory = model.trajectory(inputs[start : start + batch_size].to(device))
        last = trajectory.states[-1]
        last = last.mean((-2, -1)) if last.ndim == 5 else last.flatten(2)
        outputs.append(trajectory.at_readout(readout).cpu())
        states.append(at_readout(last, trajectory.mask, readout).cpu())
    return torch.cat(outputs), torch.cat(states)


def base_scores(task: Task, examples: Examples, metric: str | Metric = "score") -> list[float]:
    """A metric of the task's base models themselves on examples.

    Raises:
        DynamoError: an unknown metric, or examples without labels.
    """
    measure = metric_named(metric) if isinstance(metric, str) else metric
    targets = examples.labels
    outputs = (answers(base.model, examples.inputs)[0] for base in task.models)
    return [measure(own, targets, examples.inputs.mask, task.space) for own in outputs]


def sign_of(metric: str | Metric) -> int:
    """1 where more is better, −1 for ``loss``. A metric given as a function counts as one where more is better."""
    return -1 if metric == "loss" else 1


def name_of(metric: str | Metric) -> str:
    """What a metric is called."""
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")


def is_accuracy(metric: str | Metric, space: OutputSpace) -> bool:
    """Whether a metric is an accuracy, of which one value can be a multiple of another."""
    return metric in ("score", task_score) and space.kind == "classes"
