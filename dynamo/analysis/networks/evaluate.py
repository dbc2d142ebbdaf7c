"""How well does the meta-model do the task at many thetas? The one place where it is run over many thetas."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Inputs, at_readout
from dynamo.fit.fit import Fit
from dynamo.population.scores import task_loss, task_score
from dynamo.system.progress import Progress, silent

#: A metric: outputs at the readout, targets, mask and output space to one number.
Metric = Callable[[Tensor, Tensor, Tensor, OutputSpace], float]

#: The metrics known by name: ``score`` (accuracy, or R² for real outputs) and ``loss`` (cross-entropy, or mean square).
METRICS: dict[str, Metric] = {"score": task_score, "loss": lambda *parts: float(task_loss(*parts))}


def metric_named(name: str) -> Metric:
    """A metric by name.

    Raises:
        DynamoError: there is none of that name.
    """
    if name not in METRICS:
        raise DynamoError(f"no metric is called {name!r}: {did_you_mean(name, METRICS)}")
    return METRICS[name]


@torch.no_grad()
def outputs_at(
    fit: Fit,
    thetas: AnyFloats,
    examples: Examples,
    *,
    head: str | None = None,
    batch_size: int = 4096,
    progress: Progress = silent,
) -> list[Tensor]:
    """The meta-model's outputs at the readout, for each of many thetas on the same examples.

    Args:
        fit: the emulator.
        thetas: ``[M, d]``.
        examples: their inputs are run.
        head: the name of the head; needed where there are several.
        batch_size: pairs of a theta and an example in one pass; one pass serves many thetas.
        progress: called with (thetas done, thetas).

    Returns:
        For each theta ``[B, K]`` (or ``[B, T, K]`` with readout ``every``), on the CPU.

    Raises:
        DynamoError: thetas of another size, or a head that is not there or not said.
    """
    model = fit.model_at(np.asarray(thetas[0], dtype=np.float32).tolist(), head)
    meta_model, readout, device = model.meta_model, model.outputs.readout, fit.emulator.thetas[0].device
    given = torch.as_tensor(np.asarray(thetas), dtype=fit.emulator.thetas[0].dtype)
    if given.ndim != 2 or given.shape[1] != fit.theta.shape[1]:
        raise DynamoError(f"thetas have shape {tuple(given.shape)}; this fit's are [M, {fit.theta.shape[1]}]")
    inputs, outputs = examples.inputs, []
    rows = min(len(inputs), batch_size)
    together = max(1, batch_size // rows)
    for first in range(0, len(given), together):
        some = given[first : first + together]
        parts: list[list[Tensor]] = [[] for _ in some]
        for start in range(0, len(inputs), rows):
            part = inputs[start : start + rows]
            repeated = Inputs(
                part.values.repeat(len(some), *[1] * (part.values.ndim - 1)), part.mask.repeat(len(some), 1)
            ).to(device)
            theta = some.repeat_interleave(len(part), dim=0).to(device)
            states = meta_model.states(repeated, theta)
            every = model.head(meta_model.features(states))
            answered = at_readout(every, repeated.mask, readout).cpu()
            for index, own in enumerate(torch.split(answered, len(part))):
                parts[index].append(own)
        outputs += [torch.cat(own) for own in parts]
        progress(min(first + together, len(given)), len(given))
    return outputs


def scores_at(
    fit: Fit,
    thetas: AnyFloats,
    examples: Examples,
    *,
    metric: str | Metric = "score",
    head: str | None = None,
    batch_size: int = 4096,
    progress: Progress = silent,
) -> Floats:
    """A metric of the meta-model at each of many thetas ``[M, d]``, on the same examples; see :func:`outputs_at`.

    Raises:
        DynamoError: what :func:`outputs_at` raises, an unknown metric, or targets that do not fit the head.

    Example:
        >>> test = population.dataset(population[0]).test
        >>> scores_at(fit, fit.theta.numpy(), test).shape == (len(population),)
        True
    """
    measure = metric_named(metric) if isinstance(metric, str) else metric
    space = fit.model_at(fit.theta[0].tolist(), head).outputs
    check_targets(examples, space)
    return np.array(
        [
            measure(outputs, examples.labels, examples.inputs.mask, space)
            for outputs in outputs_at(fit, thetas, examples, head=head, batch_size=batch_size, progress=progress)
        ]
    )


def check_targets(examples: Examples, space: OutputSpace) -> None:
    """Check that the targets of examples are those of an output space.

    Raises:
        DynamoError: they are not, or there are none.
    """
    targets = examples.labels
    fits = (
        not targets.is_floating_point() and int(targets.max()) < space.size
        if space.kind == "classes"
        else targets.is_floating_point() and targets.shape[-1] == space.size
    )
    if not fits:
        raise DynamoError(
            f"the metric is not defined: the head gives {space}, the targets are {targets.dtype} of shape "
            f"{tuple(targets.shape)}"
        )
