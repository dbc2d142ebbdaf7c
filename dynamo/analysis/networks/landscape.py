"""How good is the meta-model over the map, and does its best place belong to no model? (Section 4.2, Figure 6.)"""

from collections.abc import Sequence
from math import isnan
from typing import Literal

import attrs
import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.geometry.hull import HullDistance, hull_distance, outline
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.networks.evaluate import Metric, scores_at
from dynamo.analysis.networks.task import base_scores, is_accuracy, name_of, sign_of, some, task_of
from dynamo.analysis.table import Table, numbered
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.shown import brief, result_html
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.system.progress import Progress, silent

#: Directions with less than this fraction of the largest spread are none.
FLAT = 1e-5


@attrs.frozen(eq=False)
class Frame:
    """A line or a plane through the map.

    Attributes:
        origin: a place on it, ``[d]``.
        axes: orthonormal directions, ``[k, d]`` with k = 1 or 2.
        names: of the axes.
    """

    origin: Floats
    axes: Floats
    names: tuple[str, ...]

    __repr__ = brief

    def coordinates(self, thetas: AnyFloats) -> Floats:
        """Thetas ``[..., d]`` projected: ``[..., k]``."""
        projected: Floats = (np.asarray(thetas, dtype=np.float64) - self.origin) @ self.axes.T
        return projected

    def thetas(self, coordinates: AnyFloats) -> Floats:
        """The thetas at coordinates ``[..., k]``: ``[..., d]``."""
        thetas: Floats = self.origin + np.asarray(coordinates, dtype=np.float64) @ self.axes
        return thetas


@attrs.frozen(eq=False)
class Landscape:
    """A metric over a line or a plane of the map.

    Attributes:
        metric: its name.
        more_is_better: whether its best place has the largest value.
        relation: ``ratio`` or ``difference``: how a score is compared with that of the best base model.
        examples: the number of test examples it was measured on.
        frame: the line or the plane.
        sides: the coordinates along each axis, one array ``[size]`` an axis.
        thetas: the places, ``[size, d]`` or ``[size, size, d]``, the first axis first.
        scores: the metric there, ``[size]`` or ``[size, size]``.
        names: the base models.
        model_coordinates: their θ_n projected, ``[N, k]``.
        outline: the indices of the models around the hull of these coordinates, in order; none on a line.
        off_frame: how far their θ_n lie from the line or plane, ``[N]``.
        emulator_scores: the metric of the meta-model at their θ_n, ``[N]``.
        base_scores: that of the base models themselves, ``[N]``; NaN for those of another head.
        best_model: the name of the base model with the best score.
        reference: its score.
        best: the index of the best place in ``scores``.
        hull_in_frame: the best place and the hull of the models' coordinates.
        hull: the best place and the hull of the thetas in all d dimensions. With no more models than dimensions the
            hull is thin, and most places of any plane lie outside it.
    """

    metric: str
    more_is_better: bool
    relation: Literal["ratio", "difference"]
    examples: int
    frame: Frame
    sides: tuple[Floats, ...]
    thetas: Floats
    scores: Floats
    names: tuple[str, ...]
    model_coordinates: Floats
    outline: tuple[int, ...]
    off_frame: Floats
    emulator_scores: Floats
    base_scores: Floats
    best_model: str
    reference: float
    best: tuple[int, ...]
    hull_in_frame: HullDistance
    hull: HullDistance

    __repr__ = brief
    _repr_html_ = result_html

    @property
    def relative(self) -> Floats:
        """The scores relative to the best base model, by ``relation``."""
        return self.scores / self.reference if self.relation == "ratio" else self.scores - self.reference

    @property
    def best_coordinates(self) -> Floats:
        """Where the best place is, ``[k]``."""
        return np.array([side[index] for side, index in zip(self.sides, self.best, strict=True)])

    def table(self) -> Table:
        """The base models: where their θ_n lie, and the scores of the models and of the meta-model there."""
        columns = ["model", *numbered("coordinate", len(self.sides)), "off_frame", "base_score", "emulator_score"]
        models = zip(
            self.names,
            self.model_coordinates.tolist(),
            self.off_frame.tolist(),
            self.base_scores.tolist(),
            self.emulator_scores.tolist(),
            strict=True,
        )
        return columns, [
            [name, *coordinates, off, None if isnan(own) else own, emulated]
            for name, coordinates, off, own, emulated in models
        ]

    def grid_table(self) -> Table:
        """Every place of the grid: its coordinates, its score, also relative to the best base model, and its θ."""
        axes, d = len(self.sides), self.thetas.shape[-1]
        columns = [*numbered("coordinate", axes), "score", "relative", *numbered("theta", d)]
        grid = zip(
            self.frame.coordinates(self.thetas).reshape(-1, axes).tolist(),
            self.scores.ravel().tolist(),
            self.relative.ravel().tolist(),
            self.thetas.reshape(-1, d).tolist(),
            strict=True,
        )
        return columns, [[*coordinates, score, relative, *theta] for coordinates, score, relative, theta in grid]

    def describe(self) -> str:
        """The best place, in sentences."""
        where = ", ".join(f"{value:.3g}" for value in self.best_coordinates)
        best = self.relative[self.best]
        relation = f"{best:.3f} times" if self.relation == "ratio" else f"{best:+.3f} against"
        sentences = [
            f"best of {self.scores.size} places: {self.metric} {self.scores[self.best]:.3f} at ({where}), {relation} "
            f"the best base model, {self.best_model} ({self.reference:.3f}); chosen on the same {self.examples} test "
            "examples, so rather too good"
        ]
        for where, hull in (("these coordinates", self.hull_in_frame), ("all dimensions", self.hull)):
            far = f"outside the hull of the base models, by {hull.relative:.2f} of their spread"
            sentences.append(f"in {where} it lies {far if hull.outside else 'inside the hull of the base models'}")
        return "\n".join(sentences)


def principal_frame(theta: AnyFloats, dimensions: int = 2) -> Frame:
    """The line or plane through the mean of the thetas ``[N, d]`` along their first principal components.

    Raises:
        DynamoError: the thetas do not span it.
    """
    components = spectrum(theta)
    spread = np.sqrt(components.eigenvalues)
    there = int((spread > FLAT * max(float(spread.max(initial=0)), 1e-12)).sum())
    if there == 0:
        raise DynamoError("the map has no directions: it needs at least two base models with different thetas")
    if there < dimensions:
        raise DynamoError(
            f"the base models lie on one line ({len(theta)} models, {theta.shape[1]} dimensions): a plane needs three "
            "that do not; ask for a line (dimensions=1, --line)"
        )
    names = tuple(
        f"{ordinal} component of θ ({share:.0%} of the variance)"
        for ordinal, share in zip(("first", "second")[:dimensions], components.shares[:dimensions], strict=True)
    )
    return Frame(np.asarray(theta, dtype=np.float64).mean(0), components.components[:dimensions], names)


def frame_through(fit: Fit, models: Sequence[str]) -> Frame:
    """The line through two named base models, or the plane through three; the first is the origin.

    Raises:
        DynamoError: not two or three names, a name that is unknown or comes twice, models with equal thetas or on one
            line.
    """
    for name in models:
        if name not in fit.names:
            raise DynamoError(f"no base model is called {name!r}: {did_you_mean(name, fit.names)}")
    if len(models) not in (2, 3) or len(set(models)) < len(models):
        raise DynamoError(f"a line goes through two base models and a plane through three; {', '.join(models)} given")
    origin, *others = fit.theta.double().numpy()[[fit.names.index(name) for name in models]]
    axes: list[Floats] = []
    sides = [other - origin for other in others]
    for side in sides:
        rest = side - sum((axis * (axis @ side) for axis in axes), np.zeros_like(side))
        length = float(np.linalg.norm(rest))
        if length <= FLAT * max(float(np.linalg.norm(other)) for other in sides):
            what = "have the same theta" if not axes else "lie on one line: leave one out to draw that line"
            raise DynamoError(f"the base models {', '.join(models)} {what}")
        axes.append(rest / length)
    names = (f"from {models[0]} to {models[1]}", f"at a right angle, towards {models[-1]}")
    return Frame(origin, np.stack(axes), names[: len(axes)])


def landscape(
    fit: Fit,
    population: Population,
    *,
    through: Sequence[str] = (),
    dimensions: Literal[1, 2] = 2,
    size: int = 21,
    margin: float = 0.35,
    metric: str | Metric = "score",
    head: str | None = None,
    examples: int | None = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> Landscape:
    """Score the meta-model on a grid over a line or a plane of the map, on test examples.

    The best place is chosen on the examples that it is scored on, out of many; :mod:`dynamo.analysis.networks.search`
    measures a place that was chosen elsewhere.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        through: two names of base models for a line, three for a plane; where there are none, the frame is that of
            the first principal components.
        dimensions: of that frame.
        size: places along each axis.
        margin: how far the grid goes beyond the models on each side, as a fraction of their larger
            range.
        metric: ``score``, ``loss``, or a function (more is better).
        head: the head that is scored; needed where there are several.
        examples: how many test examples, drawn at random; None for all.
        seed: of that draw.
        progress: called with (places done, places).

    Raises:
        DynamoError: fewer than two places a side, models that do not span the frame, unknown names, or what
            :func:`dynamo.analysis.networks.evaluate.scores_at` raises.

    Example:
        >>> result = landscape(fit, population, size=3)
        >>> result.scores.shape
        (3, 3)
        >>> columns, rows = result.table()
        >>> len(rows) == len(population)
        True
    """
    if size < 2:
        raise DynamoError(f"a landscape needs at least 2 places a side, not {size}")
    theta = fit.theta.double().numpy()
    frame = frame_through(fit, through) if through else principal_frame(theta, dimensions)
    task = task_of(fit, population, head)
    test = some(task.dataset.test, examples, seed)
    own = np.full(len(theta), np.nan)
    own[list(task.indices)] = base_scores(task, test, metric)
    sign = sign_of(metric)
    if not np.isfinite(own).any():
        raise DynamoError("the metric is NaN or infinite for every base model: is it defined on these data?")
    top = int(np.nanargmax(sign * own))
    coordinates = frame.coordinates(theta)
    spanned = coordinates[[fit.names.index(name) for name in through]] if through else coordinates
    low, high = spanned.min(0), spanned.max(0)
    room = margin * (high - low).max()
    sides = tuple(np.linspace(start - room, end + room, size) for start, end in zip(low, high, strict=True))
    thetas = frame.thetas(np.stack(np.meshgrid(*sides, indexing="ij"), -1))
    all_thetas = np.concatenate([thetas.reshape(-1, theta.shape[1]), theta])
    all_scores = scores_at(fit, all_thetas, test, metric=metric, head=task.head, progress=progress)
    scores = all_scores[: -len(theta)].reshape(thetas.shape[:-1])
    if not np.isfinite(scores).any():
        raise DynamoError("the metric is NaN or infinite at every place: is it defined on these data?")
    ranked = np.where(np.isfinite(scores), sign * scores, -np.inf)
    best = tuple(int(index) for index in np.unravel_index(ranked.argmax(), scores.shape))
    return Landscape(
        metric=name_of(metric),
        more_is_better=sign > 0,
        relation="ratio" if is_accuracy(metric, task.space) and own[top] > 0 else "difference",
        examples=len(test),
        frame=frame,
        sides=sides,
        thetas=thetas,
        scores=scores,
        names=tuple(fit.names),
        model_coordinates=coordinates,
        outline=outline(coordinates),
        off_frame=np.linalg.norm(theta - frame.thetas(coordinates), axis=1),
        emulator_scores=all_scores[-len(theta) :],
        base_scores=own,
        best_model=fit.names[top],
        reference=float(own[top]),
        best=best,
        hull_in_frame=hull_distance(coordinates, frame.coordinates(thetas[best])),
        hull=hull_distance(theta, thetas[best]),
    )
