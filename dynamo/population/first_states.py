"""How an autonomous system starts: what of its first states is told to a meta-model, whose own first state is the same
for all systems.
"""

from collections.abc import Sequence
from itertools import product

import attrs
import numpy as np
from numpy.typing import NDArray

from dynamo.population.trials import Array, Trial

Floats = NDArray[np.float64]

#: The share of the variance of states that components hold, and the most of them.
KEPT, MOST = 0.99, 8
#: Components with less than this share of the variance are rounding.
LEAST = 1e-6
#: Steps apart at which the rotation of states is read.
LAGS = (1, 2, 4, 8)


@attrs.frozen(eq=False)
class Frame:
    """Coordinates of a system's states that do not depend on how its units are numbered, turned or scaled: principal
    components of unit variance.

    Attributes:
        mean: ``[H]``.
        axes: ``[H, p]``; columns are zero where the system has fewer dimensions.
    """

    mean: Floats
    axes: Floats

    def __call__(self, states: Array) -> Array:
        """Components ``[T, p]`` of states ``[T, H]``."""
        found: Array = ((states - self.mean) @ self.axes).astype(np.float32)
        return found


def component_count(systems: Sequence[Sequence[Trial]]) -> int:
    """As many components as hold :data:`KEPT` of the variance of every system, :data:`MOST` at most."""
    counts = []
    for trials in systems:
        shares = _spectrum(_rows(trials))[0]
        counts.append(1 + int(np.searchsorted(np.cumsum(shares), KEPT)) if shares.sum() > 0 else 1)
    return min(MOST, max(counts))


def frames(systems: Sequence[Sequence[Trial]], count: int, like: Sequence[Sequence[Trial]] = ()) -> list[Frame]:
    """A frame of ``count`` components for each system.

    A principal component has no sign of its own. Signs are chosen so that the systems turn alike: such that the
    rotation of the components (the skew part of their covariance with themselves some steps later) and their third
    moments come nearest to those of the other systems.

    Args:
        systems: the trials of each.
        count: p.
        like: systems whose frames are to be taken as they were made, as a reference.
    """
    reference = None
    if like:
        own = [_unsigned(trials, count) for trials in like]
        reference = _consensus([_figures(frame, trials) for frame, trials in zip(own, like, strict=True)], count)[0]
    plain = [_unsigned(trials, count) for trials in systems]
    figures = [_figures(frame, trials) for frame, trials in zip(plain, systems, strict=True)]
    if reference is None:
        _, signs = _consensus(figures, count)
    else:
        signs = [_signs(own, reference, count) for own in figures]
    return [attrs.evolve(frame, axes=frame.axes * sign) for frame, sign in zip(plain, signs, strict=True)]


def _rows(trials: Sequence[Trial]) -> Floats:
    return np.concatenate([trial.states[trial.observed] for trial in trials]).astype(np.float64)


def _spectrum(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Shares of variance, directions in columns and variances, the widest first."""
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    return values / (values.sum() or 1.0), vectors, values


def _unsigned(trials: Sequence[Trial], count: int) -> Frame:
    rows = _rows(trials)
    shares, vectors, values = _spectrum(rows)
    axes = np.zeros((rows.shape[1], count))
    real = min(int((shares > LEAST).sum()), count)
    axes[:, :real] = vectors[:, :real] / np.sqrt(values[:real])
    largest = axes[np.abs(axes).argmax(0), np.arange(count)]
    return Frame(rows.mean(0), axes * np.where(largest < 0, -1.0, 1.0))


def _figures(frame: Frame, trials: Sequence[Trial]) -> tuple[Floats, Floats]:
    """The rotation ``[lags, p, p]`` and the third moments E[c_i² c_j] ``[p, p]`` of a system's components."""
    count = frame.axes.shape[1]
    rotation, moments, steps = np.zeros((len(LAGS), count, count)), np.zeros((count, count)), 0
    for trial in trials:
        seen = frame(trial.states).astype(np.float64) * trial.observed[:, None]
        moments += (seen**2).T @ seen
        steps += int(trial.observed.sum())
        for place, lag in enumerate(LAGS):
            if lag < len(seen):
                later = seen[:-lag].T @ seen[lag:]
                rotation[place] += (later - later.T) / 2
    return rotation / steps, moments / steps


def _consensus(figures: Sequence[tuple[Floats, Floats]], count: int) -> tuple[tuple[Floats, Floats], list[Floats]]:
    """The mean of all figures after signs that bring each near to it, and these signs; it starts at the first."""
    reference, signs = figures[0], [np.ones(count)] * len(figures)
    for _ in range(3):
        signs = [_signs(own, reference, count) for own in figures]
        turned = [(own[0] * np.outer(sign, sign), own[1] * sign) for own, sign in zip(figures, signs, strict=True)]
        reference = np.mean([own[0] for own in turned], axis=0), np.mean([own[1] for own in turned], axis=0)
    return reference, signs


def _signs(own: tuple[Floats, Floats], reference: tuple[Floats, Floats], count: int) -> Floats:
    """The signs that bring a system's figures nearest to a reference."""
    rotation, moments = (own[0] * reference[0]).sum(0), (own[1] * reference[1]).sum(0)
    choices = np.array(list(product((1.0, -1.0), repeat=count)))
    return np.asarray(choices[np.argmax(np.einsum("si,ij,sj->s", choices, rotation, choices) + choices @ moments)])
