"""What can be learned from a few labels by moving θ alone? (Section 4.3, Figure 7.)

The labels are drawn from the labelled training half, from what no base model was trained on where the population
leaves some (see :attr:`dynamo.analysis.networks.task.Task.labelled`). On each draw of labels θ is moved by the gradient
of the task loss, the meta-model held fixed, for a number of steps that cross-validation within these labels chooses.
Test data are looked at once, at the end, with every baseline on the same labels and the same test data.

A Gaussian prior with the mean and covariance of the thetas, in place of stopping early, gave accuracies within 0.005 of
these on two small populations (GRUs on rows of digits and on short texts, 30 to 200 labels). Cross-validation was
kept because fine-tuning can be stopped by the same rule, and because a map of one model has no covariance.
"""

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.networks.averages import mean_theta
from dynamo.analysis.networks.descent import ThetaLoss, descend, spread_of
from dynamo.analysis.networks.evaluate import scores_at
from dynamo.analysis.networks.label_baselines import Baseline, baselines
from dynamo.analysis.networks.labels import deal, draw_labels, label_count, stopping_point
from dynamo.analysis.networks.task import Task, task_of
from dynamo.analysis.table import Table, numbered
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief, result_html
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.system.progress import Progress, silent

#: Learning rate of Adam on θ, in spreads of the thetas.
RATE = 0.1


@attrs.frozen(eq=False)
class Estimate:
    """A mean over draws of the labels with its 95 % interval (Student's t).

    The draws share the test data, the base models and the meta-model: the interval tells how much the labels matter,
    not how the result would vary with another population or other test data. Draws from a small pool overlap, which
    makes it too narrow.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: AnyFloats) -> "Estimate":
        """The estimate from one value a draw, ``[D]`` with D at least 2."""
        from scipy.stats import t

        count, mean = len(values), float(values.mean())
        half = float(values.std(ddof=1) / np.sqrt(count) * t.ppf(0.975, count - 1))
        return cls(mean, mean - half, mean + half)


@attrs.frozen(eq=False)
class MethodScores:
    """One method on every draw.

    Attributes:
        name: what it is.
        scores: its test score on each draw, ``[D]``; None where it is not defined.
        score: their mean and interval.
        difference: mean and interval of this method's score minus that of θ-learning, paired by draw.
        note: why it is not defined, or which base models it used.
    """

    name: str
    scores: Floats | None
    score: Estimate | None
    difference: Estimate | None
    note: str = ""

    __repr__ = brief

    def row(self) -> list[object]:
        """The method's row of :meth:`FewLabels.table`."""
        return [self.name, *_cells(self.score), *_cells(self.difference), self.note]


@attrs.frozen(eq=False)
class FewLabels:
    """What was learned from a few labels.

    Attributes:
        labels: how many labelled examples a draw has.
        pool: how many it was drawn from.
        seen: whether base models were, or may have been, trained on them.
        methods: θ-learning first, then the baselines.
        rows: the examples of each draw, as rows of the pool.
        thetas: the path of θ on each draw, all labels used, ``[D, S + 1, d]``.
        steps: the number of steps that cross-validation chose for each draw.
        validation: the cross-validated loss after each number of steps, ``[D, S + 1]``.
    """

    labels: int
    pool: int
    seen: bool
    methods: tuple[MethodScores, ...]
    rows: tuple[Tensor, ...]
    thetas: Floats
    steps: tuple[int, ...]
    validation: Floats

    __repr__ = brief
    _repr_html_ = result_html

    @property
    def learned(self) -> Floats:
        """The θ that each draw ends with, ``[D, d]``."""
        return self.thetas[np.arange(len(self.steps)), list(self.steps)]

    def table(self) -> Table:
        """A row for each method: its score and its difference to θ-learning, with their 95 % intervals."""
        own, *others = self.methods
        columns = ["method", "score", "low", "high", "difference", "difference_low", "difference_high", "note"]
        return columns, [attrs.evolve(own, difference=None).row(), *(method.row() for method in others)]

    def draws_table(self) -> Table:
        """A row for each draw of the labels: the number of steps, the score of every method, the learned θ."""
        known = {method.name: method.scores.tolist() for method in self.methods if method.scores is not None}
        columns = ["draw", "steps", *known, *numbered("theta", self.thetas.shape[2])]
        draws = zip(self.steps, zip(*known.values(), strict=True), self.learned.tolist(), strict=True)
        return columns, [[draw, steps, *scores, *theta] for draw, (steps, scores, theta) in enumerate(draws)]

    def describe(self) -> str:
        """How many labels were drawn from how many, and what the intervals are."""
        seen = (
            "base models may have been trained on them, so those that were look better on them than they are"
            if self.seen
            else "no base model was trained on them"
        )
        return (
            f"{len(self.steps)} draws of {self.labels} labels out of {self.pool} ({seen})\n"
            "intervals: 95 %, over the draws; difference: to θ-learning, paired by draw"
        )


def few_labels(
    fit: Fit,
    population: Population,
    labels: float = 0.01,
    *,
    draws: int = 10,
    balanced: bool = False,
    start: str | Sequence[float] = "all",
    steps: int = 50,
    folds: int = 5,
    head: str | None = None,
    seed: int = 0,
    watch: Callable[[Floats], None] | None = None,
    progress: Progress = silent,
    baseline_progress: Progress = silent,
) -> FewLabels:
    """Learn θ from a few labels, on several draws of them, and compare with what else these labels could do.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        labels: how many: a count, or below 1 a fraction of all training examples.
        draws: D, at least 2.
        balanced: draw equally many of each class.
        start: where θ starts: ``zero``, the mean of some base models as
            :func:`dynamo.analysis.networks.averages.mixture` takes them (``all``, a name, ``KEY=VALUE``), or d numbers.
        steps: S, the most steps of θ-learning and of fine-tuning.
        folds: of the cross-validation.
        head: the head that is trained; needed where there are several.
        seed: of the draws.
        watch: called with the θ of every draw, ``[D, d]``, at the start and after each step of θ-learning.
        progress: called with (steps, steps) of θ-learning.
        baseline_progress: called with (draws, draws) of the baselines.

    Raises:
        DynamoError: more labels than there are, a class with fewer than two labels, fewer than two draws or folds, or
            a start or head that is not there, or a start that is no θ.

    Example:
        >>> result = few_labels(fit, population, 30, draws=2, steps=3, folds=2, balanced=True)
        >>> result.methods[0].name, result.thetas.shape[:2]
        ('θ-learning', (2, 4))
    """
    if draws < 2 or folds < 2:
        raise DynamoError(f"{draws} draws and {folds} folds: an interval needs 2 draws, cross-validation 2 folds")
    task = task_of(fit, population, head)
    theta = fit.theta.double().numpy()
    begin = _start(fit, start, task.head)
    rows = draw_labels(task, label_count(labels, task), draws, balanced=balanced, seed=seed)
    splits = [deal(task, chosen, folds) for chosen in rows]
    thetas, chosen, validation = _learn(fit, task, begin, rows, splits, steps, RATE * spread_of(theta), watch, progress)
    ends = np.vstack([thetas[np.arange(draws), chosen], begin])
    scores = scores_at(fit, ends, task.dataset.test, head=task.head)
    learned = Baseline("θ-learning", scores[:-1], f"{np.min(chosen)} to {np.max(chosen)} steps")
    untouched = Baseline("meta-model at the start", np.full(draws, scores[-1]), "no labels")
    others = baselines(task, rows, splits, steps=steps, progress=baseline_progress)
    return FewLabels(
        labels=len(rows[0]),
        pool=len(task.labelled),
        seen=task.seen,
        methods=tuple(_compared(method, scores[:-1]) for method in (learned, untouched, *others)),
        rows=tuple(rows),
        thetas=thetas,
        steps=tuple(chosen),
        validation=validation,
    )


def _start(fit: Fit, start: str | Sequence[float], head: str) -> Floats:
    if not isinstance(start, str):
        return fit.model_at(start, head).theta.detach().cpu().double().numpy()
    return np.zeros(fit.theta.shape[1]) if start == "zero" else mean_theta(fit, start)


def _cells(estimate: Estimate | None) -> list[object]:
    return [None, None, None] if estimate is None else [estimate.mean, estimate.low, estimate.high]


def _learn(
    fit: Fit,
    task: Task,
    begin: Floats,
    rows: Sequence[Tensor],
    splits: Sequence[Sequence[tuple[Tensor, Tensor]]],
    steps: int,
    rate: float,
    watch: Callable[[Floats], None] | None,
    progress: Progress,
) -> tuple[Floats, list[int], Floats]:
    """All draws and all their folds side by side: one θ each."""
    nothing = torch.arange(0)
    runs = [*((chosen, nothing) for chosen in rows), *(fold for split in splits for fold in split)]
    learn, check = zip(*runs, strict=True)
    loss = ThetaLoss(fit, task.labelled, head=task.head)
    own = None if watch is None else lambda thetas: watch(thetas[: len(rows)])
    path = descend(
        loss,
        np.tile(begin, (len(runs), 1)),
        learn,
        check=check,
        steps=steps,
        rate=rate,
        watch=own,
        progress=progress,
    )
    checks = path.checks[len(rows) :].reshape(len(rows), -1, steps + 1)
    points = [
        stopping_point(own, [len(checked) for _, checked in split]) for own, split in zip(checks, splits, strict=True)
    ]
    return path.thetas[: len(rows)], [point for point, _ in points], np.stack([curve for _, curve in points])


def _compared(method: Baseline, reference: Floats) -> MethodScores:
    if method.scores is None:
        return MethodScores(method.name, scores=None, score=None, difference=None, note=method.note)
    return MethodScores(
        method.name,
        scores=method.scores,
        score=Estimate.of(method.scores),
        difference=Estimate.of(method.scores - reference),
        note=method.note,
    )
