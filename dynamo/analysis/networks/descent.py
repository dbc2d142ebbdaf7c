"""Gradient descent on θ alone: the meta-model is held fixed, and the task loss of labelled examples moves θ (section
4.3).
"""

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.networks.evaluate import check_targets
from dynamo.analysis.networks.task import answer_count
from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import at_readout
from dynamo.fit.fit import Fit
from dynamo.population.scores import task_loss
from dynamo.system.progress import Progress, silent


@attrs.frozen(eq=False)
class Descent:
    """Paths of several θ that were moved side by side.

    Attributes:
        thetas: each path, ``[R, S + 1, d]``, with its start.
        losses: on the examples that each learns from, ``[R, S + 1]``.
        checks: on the examples that each is checked on, ``[R, S + 1]``; NaN where there are none.
    """

    thetas: Floats
    losses: Floats
    checks: Floats

    __repr__ = brief


@attrs.frozen(eq=False)
class _Piece:
    """Some examples of one run, with their weight in that run's loss."""

    run: int
    rows: Tensor
    weight: float
    learns: bool


class ThetaLoss:
    """The task loss of the meta-model as a function of θ alone, for many θ at once, each on examples of its own.

    The emulator is copied, so that nothing of the fit can change.

    Args:
        fit: the fit.
        examples: the labelled examples that rows refer to.
        head: the head's name; needed where there are several.
        batch_size: pairs of a θ and an example in one pass.

    Raises:
        DynamoError: a head that is not there or not said, or targets that do not fit it.
    """

    def __init__(self, fit: Fit, examples: Examples, *, head: str | None = None, batch_size: int = 2048) -> None:
        self.model = fit.model_at(fit.theta[0], head).requires_grad_(False)
        self.examples, self.batch_size = examples, batch_size
        check_targets(examples, self.model.outputs)

    def backward(self, theta: Tensor, learn: Sequence[Tensor], check: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Add the gradient of each run's loss to ``theta.grad``.

        Args:
            theta: one θ a run, a leaf ``[R, d]`` that requires a gradient.
            learn: the rows of the examples that each run learns from.
            check: the rows of those that it is only checked on; may be empty.

        Returns:
            The losses on both, each ``[R]``; NaN where there are no rows.
        """
        learned, checked = torch.zeros(len(theta)), torch.zeros(len(theta))
        for batch in self._batches(learn, check):
            rows = torch.cat([piece.rows for piece in batch])
            runs = torch.tensor([piece.run for piece in batch]).repeat_interleave(
                torch.tensor([len(piece.rows) for piece in batch])
            )
            inputs = self.examples.inputs[rows].to(theta.device)
            targets = self.examples.labels[rows].to(theta.device)
            with torch.enable_grad():
                states = self.model.meta_model.states(inputs, theta[runs.to(theta.device)])
                outputs = self.model.head(self.model.meta_model.features(states))
                answered = at_readout(outputs, inputs.mask, self.model.outputs.readout)
                total = theta.new_zeros(())
                start = 0
                for piece in batch:
                    own = slice(start, start + len(piece.rows))
                    loss = piece.weight * task_loss(answered[own], targets[own], inputs.mask[own], self.model.outputs)
                    (learned if piece.learns else checked)[piece.run] += loss.detach().cpu()
                    total = total + loss if piece.learns else total
                    start = own.stop
            if total.requires_grad:
                total.backward()  # type: ignore[no-untyped-call]
        for losses, parts in ((learned, learn), (checked, check)):
            losses[torch.tensor([len(rows) == 0 for rows in parts])] = float("nan")
        return learned, checked

    def _batches(self, learn: Sequence[Tensor], check: Sequence[Tensor]) -> list[list[_Piece]]:
        batches: list[list[_Piece]] = [[]]
        room, space = self.batch_size, self.model.outputs
        for run, parts in enumerate(zip(learn, check, strict=True)):
            for learns, rows in zip((True, False), parts, strict=True):
                whole = answer_count(self.examples, rows, space)
                for some in torch.split(rows, self.batch_size) if len(rows) else ():
                    weight = answer_count(self.examples, some, space) / whole
                    if len(some) > room:
                        batches.append([])
                        room = self.batch_size
                    batches[-1].append(_Piece(run, some, weight, learns))
                    room -= len(some)
        return batches


def spread_of(theta: AnyFloats) -> float:
    """The unit of step sizes on a map: root mean square of the thetas ``[N, d]`` about their mean.

    For one model, or models with equal thetas, about 0, where every θ started.
    """
    for centre in (theta.mean(0), 0.0):
        spread = float(np.sqrt(((theta - centre) ** 2).mean()))
        if spread > 0:
            return spread
    return 1.0


def descend(
    loss: ThetaLoss,
    start: AnyFloats,
    learn: Sequence[Tensor],
    *,
    check: Sequence[Tensor] | None = None,
    steps: int = 50,
    rate: float = 0.1,
    project: Callable[[Floats], Floats] | None = None,
    watch: Callable[[Floats], None] | None = None,
    progress: Progress = silent,
) -> Descent:
    """Move several θ by Adam (Kingma and Ba 2015), each on all of its examples at every step. Nothing is random.

    Args:
        loss: the loss.
        start: where each begins, ``[R, d]``.
        learn, check: see :meth:`ThetaLoss.backward`.
        steps: S.
        rate: Adam's learning rate, in the units of θ.
        project: called with the thetas after each step; gives those to go on with.
        watch: called with the thetas ``[R, d]`` before each step and after the last.
        progress: called with (steps done, steps).

    Raises:
        DynamoError: a loss that is not finite.
    """
    check = [torch.arange(0) for _ in learn] if check is None else check
    like = loss.model.theta
    theta = torch.as_tensor(np.asarray(start), dtype=like.dtype, device=like.device).clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=rate)
    thetas, losses, checks = [], [], []
    for step in range(steps + 1):
        optimizer.zero_grad(set_to_none=True)
        learned, checked = loss.backward(theta, learn, check)
        if not bool(learned.isfinite().all()):
            raise DynamoError(f"the loss is {float(learned.sum())} after {step} steps: make smaller steps (rate)")
        thetas.append(theta.detach().cpu().double().numpy().copy())
        losses.append(learned.numpy())
        checks.append(checked.numpy())
        if watch is not None:
            watch(thetas[-1])
        progress(step, steps)
        if step == steps:
            break
        optimizer.step()
        if project is not None:
            with torch.no_grad():
                moved = project(theta.cpu().double().numpy())
                theta.copy_(torch.as_tensor(moved, dtype=theta.dtype))
    return Descent(np.stack(thetas, 1), np.stack(losses, 1), np.stack(checks, 1))
