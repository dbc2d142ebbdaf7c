"""How well a network does its task: the loss it was trained on, and the score that people read."""

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from dynamo.contracts.data import Examples
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import at_readout
from dynamo.population.recording import CONSTANT, trajectories


def task_loss(outputs: Tensor, targets: Tensor, mask: Tensor, space: OutputSpace) -> Tensor:
    """Cross-entropy for classes, mean squared error for real outputs; over the readout step, or over all real steps."""
    if space.readout == "every":
        outputs, targets = outputs[mask], targets[mask]
    if space.kind == "classes":
        return functional.cross_entropy(outputs, targets)
    return functional.mse_loss(outputs, targets)


@attrs.define(eq=False)
class Unexplained:
    """1 − R², batch by batch: the share of the variance of a target that a guess leaves unexplained."""

    _count: int = 0
    _mean: Tensor = attrs.field(factory=lambda: torch.zeros((), dtype=torch.float64))
    _variation: Tensor = attrs.field(factory=lambda: torch.zeros((), dtype=torch.float64))
    _squares: float = 0.0
    _error: float = 0.0

    __repr__ = brief

    def add(self, guess: Tensor, target: Tensor) -> None:
        """Further rows ``[n, D]``, wherever they lie; summed up in double precision where the device has it."""
        wide = torch.float32 if target.device.type == "mps" else torch.float64
        guess, target = guess.to(wide), target.to(wide)
        count = len(target)
        if count == 0:
            return
        mean = target.mean(0)
        own = (target - mean).square().sum(0)
        self._error += float((guess - target).square().sum())
        self._squares += float(target.square().sum())
        mean, own, whole = mean.cpu().double(), own.cpu().double(), self._count + count
        step = mean - self._mean
        self._variation = self._variation + own + step.square() * (self._count * count / whole)
        self._mean = self._mean + step * (count / whole)
        self._count = whole

    @property
    def share(self) -> float:
        """The share; NaN where the target does not vary, so that there is nothing to explain."""
        variation = float(self._variation.sum())
        return self._error / variation if variation > CONSTANT * self._squares else float("nan")


@attrs.define(eq=False)
class Score:
    """The task score, batch by batch: accuracy for classes, R² for real outputs; over the readout step, or over all
    real steps.
    """

    space: OutputSpace
    _right: int = 0
    _count: int = 0
    _unexplained: Unexplained = attrs.field(factory=Unexplained)

    __repr__ = brief

    def add(self, outputs: Tensor, targets: Tensor, mask: Tensor) -> None:
        """Further examples: ``[B, K]``, or ``[B, T, K]`` with readout ``every``, and their targets."""
        targets = targets.to(outputs.device)
        if self.space.readout == "every":
            outputs, targets = outputs[mask], targets[mask]
        if self.space.kind == "classes":
            self._right += int((outputs.argmax(-1) == targets).sum())
            self._count += targets.numel()
        else:
            self._unexplained.add(outputs, targets)

    @property
    def value(self) -> float:
        """The score; NaN where R² is undefined, since the targets do not vary."""
        if self.space.kind == "classes":
            return self._right / self._count if self._count else float("nan")
        return 1 - self._unexplained.share


def task_score(outputs: Tensor, targets: Tensor, mask: Tensor, space: OutputSpace) -> float:
    """The score of all examples at once; see :class:`Score`."""
    found = Score(space)
    found.add(outputs, targets, mask)
    return found.value


def unexplained_share(guess: Tensor, target: Tensor) -> Tensor:
    """1 − R² of all rows ``[n, D]`` at once; see :class:`Unexplained`."""
    found = Unexplained()
    found.add(guess, target)
    return torch.tensor(found.share, dtype=torch.float64)


def score(model: DynamicalModel, examples: Examples) -> float:
    """The model's task score on examples, a batch at a time on the model's device; see :class:`Score`.

    Raises:
        InvalidValueError: the examples have no labels.
    """
    found, targets, done = Score(model.outputs), examples.labels, 0
    for part in trajectories(model, examples.inputs):
        rows = slice(done, done + len(part.mask))
        found.add(at_readout(part.outputs, part.mask, model.outputs.readout), targets[rows], part.mask)
        done = rows.stop
    return found.value
