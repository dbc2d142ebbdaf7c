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
from dynamo.analysis.networks.task import base_scores, sign_of, task_of
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.system.progress import Progress, part, silent

Method = Literal["gradient", "cma", "random"]


@attrs.frozen(eq=False)
class Search:
    """What a search found. All held-out scores are from the same examples.

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
        best: the number of the place that was chosen.
        held_out: its held-out score.
        mean_held_out: the held-out score of the meta-model at the mean of the models.
        names: the base models with the head that is scored.
        base_tuning, base_held_out: the base models' own scores, ``[n]``.
        chosen: the number of the base model with the best score on the tuning set.
        hull: where the place lies with respect to the hull of the models, in all dimensions.
        distance: its Mahalanobis distance from the models' mean; see
        :class:`dynamo.analysis.networks.search_methods.Region`. limit: the largest distance that was allowed.
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


def search(
    fit: Fit,
    population: Population,
    method: Method = "gradient",
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
    """
    if method not in get_args(Method):
        raise DynamoError(f"no search method is called {method!r}: {did_you_mean(method, get_args(Method))}")
    theta = fit.theta.double().numpy()
    if budget <= len(theta) + 1:
        raise DynamoError(f"a budget of {budget} places is used up by the models and their mean: give more")
    task, region = task_of(fit, population, head), Region.around(theta, radius)
    tuning, held_out = task.labelled[:examples], task.dataset.test
    sign, scored = sign_of(metric), 0

    def objective(thetas: Floats) -> Floats:
        nonlocal scored
        found = sign * scores_at(fit, thetas, tuning, metric, task.head)
        if np.isnan(found).any():
            raise DynamoError("the metric is NaN at a place that was tried: is it defined on these data?")
        scored += len(thetas)
        progress(scored, budget)
        return found

    known = region.project(np.vstack([theta, theta.mean(0)]))
    known_scores = objective(known)
    start, left = known[known_scores.argmax()], budget - len(known)
    if method == "random":
        places, scores = at_random(objective, region, left, seed, radius)
    elif method == "cma":
        places, scores = by_cma(objective, region, start, left, seed)
    else:
        loss = ThetaLoss(fit, tuning, task.head)
        rows, step = [torch.arange(len(tuning))], rate * spread_of(theta)
        tick = part(progress, len(known), budget)
        places = descend(loss, start[None], rows, None, left, step, region.project, tick).thetas[0, 1:]
        scores = objective(places)
    thetas, found = np.vstack([known, places]), np.concatenate([known_scores, scores])
    best = int(found.argmax())
    own = np.array(base_scores(task, tuning, metric))
    at_best, at_mean = scores_at(fit, np.stack([thetas[best], known[-1]]), held_out, metric, task.head)
    return Search(
        method,
        metric if isinstance(metric, str) else getattr(metric, "__name__", "metric"),
        sign > 0,
        task.seen,
        len(tuning),
        len(held_out),
        thetas,
        sign * found,
        len(known),
        best,
        float(at_best),
        float(at_mean),
        tuple(task.names),
        own,
        np.array(base_scores(task, held_out, metric)),
        int((sign * own).argmax()),
        hull_distance(theta, thetas[best]),
        float(region.distances(thetas[best])),
        region.limit,
        *_shown(theta, thetas),
    )


def _shown(theta: AnyFloats, thetas: Floats) -> tuple[Floats, Floats]:
    """Models and places along the first two principal components of the models; zeros where there is one only."""
    axes = np.zeros((2, theta.shape[1]))
    found = spectrum(theta).components[:2]
    axes[: len(found)] = found
    return (theta - theta.mean(0)) @ axes.T, (thetas - theta.mean(0)) @ axes.T
