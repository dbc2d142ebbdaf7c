"""Do models that read words well do the task well? Word scores over the map against accuracy (Figure 11)."""

from collections.abc import Sequence

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.constant_input import constant_input, recurrent
from dynamo.analysis.dynamics.fixed_points import find_fixed_points, sample_states
from dynamo.analysis.dynamics.slow_points import fixed_within_reach, nearly_fixed
from dynamo.analysis.dynamics.words import TABLE_3, WordLists, WordScore, word_score
from dynamo.analysis.networks.landscape import Landscape, landscape
from dynamo.analysis.networks.over_the_map import over_the_map
from dynamo.analysis.networks.task import task_of
from dynamo.analysis.table import Table, numbered
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief, result_html
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.system.progress import Progress, part, silent


@attrs.frozen
class Correlation:
    """Spearman's rank correlation.

    Attributes:
        rho: the correlation.
        p: fraction of permutations, the true order counted as one, with a correlation at least as large in size.
        count: how many pairs of numbers.
    """

    rho: float
    p: float
    count: int

    def describe(self) -> str:
        """The figures in words."""
        return f"Spearman {self.rho:.2f}, p {self.p:.3f}, {self.count} pairs"


@attrs.frozen(eq=False)
class WordMap:
    """Word scores over a plane of the map. Where there is no fixed or slow point they are NaN.

    Attributes:
        landscape: the plane with the accuracy of the meta-model there and at the base models' θ_n.
        lists: the words that were used.
        missing: words that the vocabulary lacks.
        scores: equation 8 on the grid, ``[size, size]``.
        rest: the readout at the neutral point h*, ``[size, size]``.
        emulators: of the meta-model at every θ_n; None where there is no point.
        base_models: of the base models themselves; None for those of another head or without a point.
        on_grid: of the meta-model on the grid, row by row; None where there is no point.
        over_models: word score and accuracy of the meta-model at the θ_n.
        over_base_models: those of the base models themselves.
        over_grid: those on the grid. Neighbours on a grid resemble each other, so a shuffled grid would be too easy to
            beat: the permutations are all cyclic shifts of the grid.
    """

    landscape: Landscape
    lists: WordLists
    missing: tuple[str, ...]
    scores: Floats
    rest: Floats
    emulators: tuple[WordScore | None, ...]
    base_models: tuple[WordScore | None, ...]
    on_grid: tuple[WordScore | None, ...]
    over_models: Correlation
    over_base_models: Correlation
    over_grid: Correlation

    __repr__ = brief
    _repr_html_ = result_html

    def table(self) -> Table:
        """A row for each base model: scores of the task and of words, of the meta-model at its θ_n and its own."""
        figures, plane = ["word_score", "rest", "separation"], self.landscape
        columns = ["model", "task_score", *figures, "base_task_score", *(f"base_{figure}" for figure in figures)]
        models = zip(
            plane.names,
            plane.emulator_scores.tolist(),
            self.emulators,
            plane.base_scores.tolist(),
            self.base_models,
            strict=True,
        )
        return columns, [
            [name, task, *_figures(emulator), base_task, *_figures(base)]
            for name, task, emulator, base_task, base in models
        ]

    def readouts_table(self) -> Table:
        """The readout of the meta-model at each θ_n after each word."""
        words = [*self.lists.positive, *self.lists.negative, *self.lists.neutral]
        return ["model", *words], [
            [name, *(one.readouts[word] for word in words)]
            for name, one in zip(self.landscape.names, self.emulators, strict=True)
            if one is not None
        ]

    def grid_table(self) -> Table:
        """The scores at each place of the grid."""
        plane = self.landscape
        grid = zip(
            plane.frame.coordinates(plane.thetas).reshape(-1, 2).tolist(),
            plane.scores.ravel().tolist(),
            self.scores.ravel().tolist(),
            self.rest.ravel().tolist(),
            strict=True,
        )
        return ["pc_1", "pc_2", "task_score", "word_score", "rest"], [
            [*coordinates, task, word, rest] for coordinates, task, word, rest in grid
        ]

    def points_table(self) -> Table:
        """The neutral point h* that each score starts from, with its speed: of the meta-model at each θ_n, of the base
        models, and of the meta-model at each place of the grid. States of fewer units leave their last columns empty.
        """
        plane = self.landscape
        places = plane.frame.coordinates(plane.thetas).reshape(-1, 2).tolist()
        found: list[tuple[str, str | None, Sequence[float | None], WordScore | None]] = []
        for of, scores in (("meta-model", self.emulators), ("base model", self.base_models)):
            found += [(of, name, [None, None], one) for name, one in zip(plane.names, scores, strict=True)]
        found += [("grid", None, place, one) for place, one in zip(places, self.on_grid, strict=True)]
        known = [(of, name, place, one) for of, name, place, one in found if one is not None]
        size = max((len(one.point) for *_, one in known), default=0)
        return ["of", "model", "pc_1", "pc_2", "speed", "rest", *numbered("h", size)], [
            [of, name, *place, one.speed, one.rest, *one.point, *[None] * (size - len(one.point))]
            for of, name, place, one in known
        ]

    def describe(self) -> str:
        """What the vocabulary lacks, and how word scores and accuracies go together."""
        sentences = [f"not in the vocabulary: {', '.join(self.missing)}"] if self.missing else []
        for where, correlation in (
            ("meta-model at θ_n", self.over_models),
            ("base models", self.over_base_models),
            ("grid", self.over_grid),
        ):
            sentences.append(f"word score and task score, {where}: {correlation.describe()}")
        return "\n".join(sentences)


@attrs.frozen(eq=False)
class _Answer:
    fixed: Floats
    score: WordScore | None


def word_map(
    fit: Fit,
    population: Population,
    lists: WordLists = TABLE_3,
    *,
    positive: int = -1,
    size: int = 9,
    starts: int = 20,
    head: str | None = None,
    examples: int | None = 1000,
    permutations: int = 9999,
    seed: int = 0,
    progress: Progress = silent,
) -> WordMap:
    """Word scores and accuracies on a grid over the first two components, at the θ_n, and of the base models.

    h* is the most neutral of the fixed points and of the approximate ones, see
    :func:`dynamo.analysis.dynamics.slow_points.nearly_fixed`: of a line attractor that is not exact, what is fixed to
    the last digit may be its two ends alone.

    Args:
        fit: the fit.
        population: its base models, in the same order.
        lists: words by valence.
        positive: the class that positive words speak for, see :func:`dynamo.analysis.dynamics.words.valence`.
        size: places along each side of the grid.
        starts: visited states that the search for fixed points starts from at each place.
        head: the head that is read; needed where there are several.
        examples: how many test examples the accuracy is measured on; None for all.
        permutations: for the p-values over models.
        seed: of the starts, the examples and the permutations.
        progress: called with (places done, places).

    Raises:
        DynamoError: models that are not recurrent, inputs that are not tokens, and what
            :func:`dynamo.analysis.networks.landscape.landscape` and
            :meth:`~dynamo.analysis.dynamics.words.WordLists.within` raise.

    Example:
        Word scores need models that read words:

        >>> word_map(fit, population)
        Traceback (most recent call last):
            ...
        dynamo.contracts.errors.DynamoError: word scores need a data set of tokens that says which words they are
    """
    task = task_of(fit, population, head)
    recurrent(fit.model_at(fit.theta[0], task.head))
    tokens = task.dataset.tokens
    known, missing = lists.within(tokens)
    inputs = task.dataset.probes()[:512]
    plane = landscape(fit, population, size=size, head=task.head, examples=examples, seed=seed)
    theta = fit.theta.double().numpy()
    count = size * size + len(theta) + len(task.models)

    def answer(model: DynamicalModel, near: Sequence[_Answer]) -> _Answer:
        there = recurrent(model)
        x, visited = constant_input(there, "zeros", inputs), sample_states(there, inputs, starts, seed=seed).numpy()
        search = np.concatenate([visited, *(one.fixed for one in near)])
        fixed = fixed_within_reach(find_fixed_points(there, x, search))
        states = np.concatenate([fixed, nearly_fixed(there, x, inputs, starts=starts, seed=seed)])
        scored = (
            word_score(there, torch.from_numpy(states), tokens, lists=known, positive=positive) if len(states) else None
        )
        return _Answer(fixed, scored)

    thetas = np.concatenate([plane.thetas.reshape(size * size, -1), theta])
    answers = over_the_map(
        thetas,
        lambda one, last, near: answer(fit.model_at(one.tolist(), task.head), near),
        rounds=1,
        progress=part(progress, 0, count),
    )
    own: dict[int, WordScore | None] = {}
    for done, (index, base) in enumerate(zip(task.indices, task.models, strict=True)):
        own[index] = answer(base.model, ()).score if base.reading is None else None  # it reads no words
        progress(len(thetas) + done + 1, count)
    on_grid, emulators = [one.score for one in answers[: size * size]], [one.score for one in answers[size * size :]]
    base_models = [own.get(index) for index in range(len(theta))]
    scores = _numbers(on_grid, "score").reshape(size, size)
    over_models, over_base_models = (
        shuffled_correlation(_numbers(words, "score"), accuracies, permutations=permutations, seed=seed)
        for words, accuracies in ((emulators, plane.emulator_scores), (base_models, plane.base_scores))
    )
    return WordMap(
        landscape=plane,
        lists=known,
        missing=missing,
        scores=scores,
        rest=_numbers(on_grid, "rest").reshape(size, size),
        emulators=tuple(emulators),
        base_models=tuple(base_models),
        on_grid=tuple(on_grid),
        over_models=over_models,
        over_base_models=over_base_models,
        over_grid=shifted_correlation(scores, plane.scores),
    )


def _numbers(scores: Sequence[WordScore | None], figure: str) -> Floats:
    return np.array([np.nan if one is None else getattr(one, figure) for one in scores])


def _figures(one: WordScore | None) -> list[object]:
    return [None] * 3 if one is None else [one.score, one.rest, one.separation]


def shuffled_correlation(one: Floats, other: Floats, *, permutations: int = 9999, seed: int = 0) -> Correlation:
    """Spearman's correlation of two lists of numbers with a permutation p-value; pairs with a NaN are left out.

    Raises:
        DynamoError: lists of different lengths.
    """
    if one.shape != other.shape:
        raise DynamoError(f"numbers of shapes {one.shape} and {other.shape} are no pairs")
    there = np.isfinite(one) & np.isfinite(other)
    rng = np.random.default_rng(seed)
    first, second = _ranks(one[there]), _ranks(other[there])
    shuffled = [float(first @ rng.permutation(second)) for _ in range(permutations)]
    return _correlation(float(first @ second), shuffled, len(first))


def shifted_correlation(one: Floats, other: Floats) -> Correlation:
    """Spearman's correlation of two fields on one grid; its p-value is over all cyclic shifts of one against the other.

    Where one of the fields has no number, it counts as the middle rank.

    Raises:
        DynamoError: fields of different shapes.
    """
    if one.shape != other.shape:
        raise DynamoError(f"fields of shapes {one.shape} and {other.shape} are not on one grid")
    first, second = _ranks(one.ravel()).reshape(one.shape), _ranks(other.ravel()).reshape(one.shape)
    shifts = [index for index in np.ndindex(*one.shape) if any(index)]
    shuffled = [float((first * np.roll(second, shift, axis=tuple(range(one.ndim)))).sum()) for shift in shifts]
    return _correlation(float((first * second).sum()), shuffled, int((np.isfinite(one) & np.isfinite(other)).sum()))


def _ranks(numbers: Floats) -> Floats:
    """Ranks of mean 0 and length 1, NaN getting the mean; all 0 where there is nothing to rank."""
    from scipy.stats import rankdata

    there = np.isfinite(numbers)
    ranks = np.zeros(len(numbers))
    ranks[there] = rankdata(numbers[there])
    ranks[there] -= ranks[there].mean() if there.any() else 0
    return np.asarray(ranks / max(float(np.linalg.norm(ranks)), 1e-300))


def _correlation(rho: float, others: Sequence[float], count: int) -> Correlation:
    if count < 3:
        return Correlation(float("nan"), float("nan"), count)
    reached = sum(abs(other) >= abs(rho) - 1e-12 for other in others)
    return Correlation(rho, (1 + reached) / (1 + len(others)), count)
