"""Is there a θ at which the meta-model is better than every base model, also on data it was not chosen on? (Section
4.2.)

Places are chosen by their score on a *tuning set* alone: labelled training examples (see
:attr:`dynamo.analysis.networks.task.Task.labelled`). What is reported of the place that was chosen is its score on the
*held-out set*, the test examples, which are looked at once, when the search is over.
"""

from typing import Literal, get_args

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.geometry.hull import HullDistance, hull_distance
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.networks.descent import ThetaLoss, descend, spread_of
from dynamo.analysis.networks.evaluate import Metric, scores_at
from dynamo.analysis.networks.search_methods import Region, at_random, by_cma
from dynamo.analysis.networks.task import base_scores, name_of, sign_of, task_of
from dynamo.analysis.table import Table, numbered
from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.shown import brief, result_html
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.system.progress import Progress, part, silent

Method = Literal["gradient", "cma", "random"]


@attrs.frozen(eq=False)
class Search:
    """The outcome of a search. All held-out scores are from the same examples.

    Attributes:
        method: how places were chosen.
        metric: the name of what was looked at.
        more_is_better: whether it was maximised.
        seen: whether base models were, or may have been, trained on the tuning set.
        tuning_size, held_out_size: the examples of both sets.
        thetas: every place that was scored, in order, ``[E, d]``. The first are those of the base models and their
            mean.
        tuning: the scores there on the tuning set, ``[E]``.
        known: how many of the places were known before: the number of base models and one.
        best: the index of the place that was chosen.
        held_out: its held-out score.
        mean_held_out: the held-out score of the meta-model at the mean of the models.
        names: the base models with the head that is scored.
        base_tuning, base_held_out: the base models' own scores, ``[n]``.
        chosen: the index of the base model with the best score on the tuning set.
        hull: where the place lies with respect to the hull of the models, in all dimensions.
        distance: its Mahalanobis distance from the models' mean; see
            :class:`dynamo.analysis.networks.search_methods.Region`.
        limit: the largest distance that was allowed.
        model_coordinates: the models along the first two principal components, ``[N, 2]``.
        coordinates: the places, ``[E, 2]``.
    """

    method: Method
    metric: str
    more_is_better: bool
    seen: bool
    tuning_size: int
    held_out_size: int
    thetas: Floats
    tuning: Floats
    known: int
    best: int
    held_out: float
    mean_held_out: float
    names: tuple[str, ...]
    base_tuning: Floats
    base_held_out: Floats
    chosen: int
    hull: HullDistance
    distance: float
    limit: float
    model_coordinates: Floats
    coordinates: Floats

    __repr__ = brief
    _repr_html_ = result_html

    @property
    def theta(self) -> Floats:
        """The place that was chosen, ``[d]``."""
        chosen: Floats = self.thetas[self.best]
        return chosen

    @property
    def best_so_far(self) -> Floats:
        """The best score on the tuning set after each place, ``[E]``."""
        best = np.maximum if self.more_is_better else np.minimum
        return np.asarray(best.accumulate(self.tuning), dtype=np.float64)

    def table(self) -> Table:
        """Scores on the tuning set and on held-out data: of the θ that was chosen, of the mean, of base models."""
        own = self.base_held_out
        best = int(own.argmax() if self.more_is_better else own.argmin())
        alike, test = f"base model chosen alike: {self.names[self.chosen]}", self.names[best]
        return ["what", "tuning", "held_out"], [
            ["theta that was chosen", float(self.tuning[self.best]), self.held_out],
            ["mean of the thetas", float(self.tuning[self.known - 1]), self.mean_held_out],
            [alike, float(self.base_tuning[self.chosen]), float(own[self.chosen])],
            [f"base model best on held-out data: {test}", float(self.base_tuning[best]), float(own[best])],
            ["base models, mean", float(self.base_tuning.mean()), float(own.mean())],
        ]

    def path_table(self) -> Table:
        """Every place in the order in which it was scored: its tuning score, whether it was chosen, its θ."""
        columns = ["place", "tuning", "chosen", *numbered("theta", self.thetas.shape[1])]
        tried = zip(self.tuning.tolist(), self.thetas.tolist(), strict=True)
        return columns, [[index, score, index == self.best, *theta] for index, (score, theta) in enumerate(tried)]

    def describe(self) -> str:
        """The data that were used, and where the θ that was chosen lies."""
        seen = "base models may have been trained on them" if self.seen else "no base model was trained on them"
        hull = f"outside, by {self.hull.relative:.2f} of their spread" if self.hull.outside else "inside"
        return (
            f"chosen on {self.tuning_size} labelled training examples ({seen}), measured on {self.held_out_size} test "
            f"examples\nit lies at {self.distance:.2f} standard deviations from the models' mean (at most "
            f"{self.limit:.2f}); hull of the models: {hull}"
        )


def search(
    fit: Fit,
    population: Population,
    method: Method = "gradient",
    *,
    metric: str | Metric = "score",
    head: str | None = None,
    budget: int = 200,
    radius: float = 1.5,
    rate: float = 0.1,
    examples: int | None = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> Search:
    """Look for the θ with the best score on the tuning set, within a trust region about the models.

    Every method first scores the meta-model at the base models' θ_n and at their mean. ``gradient`` goes on from the
    best of these down the task loss of the tuning set, whatever the metric, and keeps the place on its way that has
    the best metric; ``cma`` starts there too; ``random`` draws about the mean.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        method: ``gradient`` (Adam), ``cma`` (CMA-ES), or ``random``.
        metric: ``score``, ``loss``, or a function (more is better).
        head: the head that is scored; needed where there are several.
        budget: places that are scored, with those of the models.
        radius: of the trust region, in distances of the farthest model; see
            :class:`dynamo.analysis.networks.search_methods.Region`.
        rate: Adam's step, in spreads of the thetas.
        examples: the most examples of the tuning set; None for all.
        seed: of ``cma`` and ``random``.
        progress: called with (places scored, places).

    Raises:
        DynamoError: an unknown method or metric, a budget that the models use up, thetas that are all alike, or a
            metric that is not defined.

    Example:
        >>> result = search(fit, population, budget=8)
        >>> result.theta.shape == fit.theta[0].shape
        True
        >>> columns, rows = result.table()
        >>> rows[0][0]
        'theta that was chosen'
    """
    if method not in get_args(Method):
        raise DynamoError(f"no search method is called {method!r}: {did_you_mean(method, get_args(Method))}")
    theta = fit.theta.double().numpy()
    if budget <= len(theta) + 1:
        raise DynamoError(f"a budget of {budget} places is used up by the models and their mean: give more")
    task, region = task_of(fit, population, head), Region.around(theta, radius)
    tuning, held_out = task.labelled[:examples], task.dataset.test
    objective = _Objective(fit, tuning, metric, task.head, budget, progress)
    known = region.project(np.vstack([theta, theta.mean(0)]))
    known_scores = objective(known)
    start, left = known[known_scores.argmax()], budget - len(known)
    if method == "random":
        tried, tried_scores = at_random(objective, region, budget=left, seed=seed, radius=radius)
    elif method == "cma":
        tried, tried_scores = by_cma(objective, region, start, budget=left, seed=seed)
    else:
        tried = descend(
            ThetaLoss(fit, tuning, head=task.head),
            start[None],
            [torch.arange(len(tuning))],
            steps=left,
            rate=rate * spread_of(theta),
            project=region.project,
            progress=part(progress, len(known), budget),
        ).thetas[0, 1:]
        tried_scores = objective(tried)
    thetas, scores = np.vstack([known, tried]), np.concatenate([known_scores, tried_scores])
    best = int(scores.argmax())
    base_tuning = np.array(base_scores(task, tuning, metric))
    at_best, at_mean = scores_at(fit, np.stack([thetas[best], known[-1]]), held_out, metric=metric, head=task.head)
    axes = _first_two_components(theta)
    return Search(
        method=method,
        metric=name_of(metric),
        more_is_better=objective.sign > 0,
        seen=task.seen,
        tuning_size=len(tuning),
        held_out_size=len(held_out),
        thetas=thetas,
        tuning=objective.sign * scores,
        known=len(known),
        best=best,
        held_out=float(at_best),
        mean_held_out=float(at_mean),
        names=tuple(task.names),
        base_tuning=base_tuning,
        base_held_out=np.array(base_scores(task, held_out, metric)),
        chosen=int((objective.sign * base_tuning).argmax()),
        hull=hull_distance(theta, thetas[best]),
        distance=float(region.distances(thetas[best])),
        limit=region.limit,
        model_coordinates=(theta - theta.mean(0)) @ axes.T,
        coordinates=(thetas - theta.mean(0)) @ axes.T,
    )


@attrs.define(eq=False)
class _Objective:
    """The score of thetas on the tuning set, with its sign changed where less is better; it counts them."""

    fit: Fit
    tuning: Examples
    metric: str | Metric
    head: str
    budget: int
    progress: Progress
    scored: int = 0

    @property
    def sign(self) -> int:
        return sign_of(self.metric)

    def __call__(self, thetas: Floats) -> Floats:
        scores: Floats = self.sign * scores_at(self.fit, thetas, self.tuning, metric=self.metric, head=self.head)
        if np.isnan(scores).any():
            raise DynamoError("the metric is NaN at a place that was tried: is it defined on these data?")
        self.scored += len(thetas)
        self.progress(self.scored, self.budget)
        return scores


def _first_two_components(theta: AnyFloats) -> Floats:
    """The first two principal components, ``[2, d]``; zeros for those that there are not."""
    axes = np.zeros((2, theta.shape[1]))
    components = spectrum(theta).components[:2]
    axes[: len(components)] = components
    return axes
