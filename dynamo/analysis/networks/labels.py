"""Draws of a few labelled examples, and cross-validation within each draw."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.networks.task import Task
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.spaces import OutputSpace


def has_classes(space: OutputSpace) -> bool:
    """Whether every example has one class."""
    return space.kind == "classes" and space.readout == "last"


def label_count(labels: float, task: Task) -> int:
    """How many examples a fraction of all training examples, or a count, comes to.

    Raises:
        DynamoError: none, no whole number, or more than there are.
    """
    count = round(labels * len(task.dataset.train)) if 0 < labels < 1 else round(labels)
    if count < 1 or (labels >= 1 and count != labels):
        raise DynamoError(f"{labels} labels: give a fraction between 0 and 1, or a whole number")
    if count > len(task.labelled):
        raise DynamoError(
            f"{count} labels are asked for; there are {len(task.labelled)} labelled examples"
            + ("" if task.seen else " that no base model was trained on")
        )
    return count


def draw_labels(task: Task, count: int, draws: int, *, balanced: bool, seed: int) -> list[Tensor]:
    """Rows of the labelled examples, drawn without replacement; each draw begins anew.

    Raises:
        DynamoError: one class only, a class with fewer than two labels in a draw, or a task without classes to balance.
    """
    targets, generator = task.labelled.labels, torch.Generator().manual_seed(seed)
    by_class = has_classes(task.space)
    if by_class and len(torch.unique(targets)) == 1:
        raise DynamoError(
            f"all {len(targets)} labelled examples are of class {int(targets[0])}: there is nothing to learn"
        )
    if balanced and not by_class:
        raise DynamoError(f"labels cannot be balanced: the task is {task.space}, without one class an example")
    drawn = []
    for draw in range(draws):
        order = torch.randperm(len(targets), generator=generator)
        if balanced:
            order = _in_turn(targets, order)
        chosen = order[:count]
        if by_class:
            _check_classes(targets, chosen, draw)
        drawn.append(chosen)
    return drawn


def _in_turn(targets: Tensor, order: Tensor) -> Tensor:
    """The same rows with the classes in turn, as long as each lasts."""
    ranks = torch.empty(len(order), dtype=torch.long)
    for value in torch.unique(targets):
        own = (targets[order] == value).nonzero()[:, 0]
        ranks[own] = torch.arange(len(own))
    return order[ranks.argsort(stable=True)]


def _check_classes(targets: Tensor, chosen: Tensor, draw: int) -> None:
    for value in torch.unique(targets).tolist():
        there = int((targets[chosen] == value).sum())
        if there < 2:
            raise DynamoError(
                f"draw {draw} of {len(chosen)} labels has {there or 'no'} example{'s' * (there != 1)} of class "
                f"{value}: cross-validation needs 2 of each; ask for more labels, or balance them (--balanced)"
            )


def deal(task: Task, rows: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    """Folds of some labelled examples: what each learns from, and what it is checked on.

    The examples are dealt out in turn, class by class, so that folds are of like size and like classes.

    Raises:
        DynamoError: fewer examples than folds.
    """
    if len(rows) < folds:
        raise DynamoError(f"{len(rows)} labels cannot be dealt into {folds} folds")
    if has_classes(task.space):
        rows = rows[task.labelled.labels[rows].argsort(stable=True)]
    turn = torch.arange(len(rows)) % folds
    return [(rows[turn != fold], rows[turn == fold]) for fold in range(folds)]


def stopping_point(checks: AnyFloats, sizes: Sequence[int]) -> tuple[int, Floats]:
    """The number of steps with the least cross-validated loss.

    Args:
        checks: the loss of each fold on what it was checked on, ``[F, S + 1]``.
        sizes: how many examples each was checked on.

    Returns:
        The number of steps (the least where there are several), and the loss after each number, ``[S + 1]``.
    """
    loss: Floats = np.average(np.asarray(checks, dtype=np.float64), axis=0, weights=sizes)
    return int(loss.argmin()), loss
