"""How well a network does its task: the loss it was trained on, and the score that people read."""

from torch import Tensor
from torch.nn import functional

from dynamo.contracts.data import Examples
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import OutputSpace
from dynamo.population.recording import run


def task_loss(outputs: Tensor, targets: Tensor, mask: Tensor, space: OutputSpace) -> Tensor:
    """Cross-entropy for classes, mean squared error for real outputs; over the readout step, or over all real steps."""
    if space.readout == "every":
        outputs, targets = outputs[mask], targets[mask]
    if space.kind == "classes":
        return functional.cross_entropy(outputs, targets)
    return functional.mse_loss(outputs, targets)


def task_score(outputs: Tensor, targets: Tensor, mask: Tensor, space: OutputSpace) -> float:
    """Accuracy for classes, R² for real outputs; over the readout step, or over all real steps."""
    if space.readout == "every":
        outputs, targets = outputs[mask], targets[mask]
    if space.kind == "classes":
        return float((outputs.argmax(-1) == targets).float().mean())
    return float(1 - unexplained_share(outputs, targets))


def unexplained_share(guess: Tensor, target: Tensor) -> Tensor:
    """1 − R²: the share of the variance of ``target [n, D]`` that ``guess`` leaves unexplained."""
    return (guess - target).square().sum() / (target - target.mean(0)).square().sum().clamp_min(1e-12)


def score(model: DynamicalModel, examples: Examples) -> float:
    """The model's task score on examples; see :func:`task_score`."""
    trajectory = run(model, examples.inputs)
    outputs = trajectory.at_readout(model.outputs.readout)
    return task_score(outputs, examples.targets, trajectory.mask, model.outputs)
