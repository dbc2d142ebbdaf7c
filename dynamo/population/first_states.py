"""How an autonomous system starts: what of its first states is told to a meta-model, whose own first state is the same
for all systems.
"""

from collections.abc import Sequence
from itertools import islice, product

import attrs
import numpy as np
from numpy.typing import NDArray

from dynamo.contracts.shown import brief
from dynamo.population.trials import Array, Trial

Floats = NDArray[np.float64]

#: The share of the variance of states that components hold, and the most of them.
KEPT, MOST = 0.99, 8
#: Components with less than this share of the variance are rounding.
LEAST = 1e-6
#: Steps apart at which is read how states move.
LAGS = (1, 2, 4, 8)
#: Rotations that the search for the best one starts from, at most, and rounds of all systems.
STARTS, ROUNDS = 16, 3
#: Iterations from every start, and from the best of them.
FEW, MANY = 10, 300


@attrs.frozen(eq=False)
class Frame:
    """Coordinates of a system's states that do not depend on how its units are numbered, mixed or scaled: components of
    unit variance that do not correlate.

    Attributes:
        mean: ``[H]``.
        axes: ``[H, p]``; columns are zero where the system has fewer dimensions.
    """

    mean: Floats
    axes: Floats

    __repr__ = brief

    def __call__(self, states: Array) -> Array:
        """Components ``[T, p]`` of states ``[T, H]``."""
        found: Array = ((states - self.mean) @ self.axes).astype(np.float32)
        return found

    @property
    def dimensions(self) -> int:
        """How many columns are not zero."""
        return int(self.axes.any(0).sum())


@attrs.frozen(eq=False)
class Motion:
    """What tells frames of one system from one another.

    Attributes:
        later: the covariance of the components with themselves some steps later, ``[lags, p, p]``.
        skew: their third moments, ``[p, p, p]``.
    """

    later: Floats
    skew: Floats

    __repr__ = brief

    @classmethod
    def of(cls, frame: Frame, trials: Sequence[Trial]) -> "Motion":
        """That of the components of some trials; unobserved steps count as zero."""
        count = frame.axes.shape[1]
        later, skew, steps = np.zeros((len(LAGS), count, count)), np.zeros((count, count, count)), 0
        for trial in trials:
            seen = frame(trial.states).astype(np.float64) * trial.observed[:, None]
            skew += np.einsum("ti,tj,tk->ijk", seen, seen, seen, optimize=True)
            steps += int(trial.observed.sum())
            for place, lag in enumerate(LAGS):
                if lag < len(seen):
                    later[place] += seen[:-lag].T @ seen[lag:]
        return cls(later / steps, skew / steps)

    def turned(self, turn: Floats) -> "Motion":
        """That of components ``c @ turn``."""
        return Motion(
            turn.T @ self.later @ turn,
            np.einsum("ibk,ia,kc->abc", np.einsum("ijk,jb->ibk", self.skew, turn), turn, turn),
        )


def component_count(systems: Sequence[Sequence[Trial]]) -> int:
    """As many components as hold :data:`KEPT` of the variance of every system, :data:`MOST` at most."""
    counts = []
    for trials in systems:
        shares = _spectrum(_rows(trials))[0]
        counts.append(1 + int(np.searchsorted(np.cumsum(shares), KEPT)) if shares.sum() > 0 else 1)
    return min(MOST, max(counts))


def frames(systems: Sequence[Sequence[Trial]], count: int, like: Sequence[Sequence[Trial]] = ()) -> list[Frame]:
    """A frame of ``count`` components for each system.

    Principal components of unit variance are what they are but for a rotation or reflection, if the units are mixed.
    That is chosen so that the systems move alike: such that the covariances of the components with themselves some
    steps later, and their third moments, come nearest to the mean of those of all systems. It starts at the first one.

    Args:
        systems: the trials of each.
        count: p.
        like: systems whose frames are to be taken as they were made, as a reference.
    """
    plain = [_principal(trials, count) for trials in systems]
    motions = [Motion.of(frame, trials) for frame, trials in zip(plain, systems, strict=True)]
    if like:
        before = [_principal(trials, count) for trials in like]
        known = [Motion.of(frame, trials) for frame, trials in zip(before, like, strict=True)]
        reference, _ = _consensus(known, [frame.dimensions for frame in before])
        turns = [_turn(own, reference, frame.dimensions) for own, frame in zip(motions, plain, strict=True)]
    else:
        _, turns = _consensus(motions, [frame.dimensions for frame in plain])
    return [attrs.evolve(frame, axes=frame.axes @ turn) for frame, turn in zip(plain, turns, strict=True)]


def _rows(trials: Sequence[Trial]) -> Floats:
    return np.concatenate([trial.states[trial.observed] for trial in trials]).astype(np.float64)


def _spectrum(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Shares of variance, directions in columns and variances, the widest first."""
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    return values / (values.sum() or 1.0), vectors, values


def _principal(trials: Sequence[Trial], count: int) -> Frame:
    """Principal components of unit variance, the largest weight of each positive."""
    rows = _rows(trials)
    shares, vectors, values = _spectrum(rows)
    axes = np.zeros((rows.shape[1], count))
    real = min(int((shares > LEAST).sum()), count)
    axes[:, :real] = vectors[:, :real] / np.sqrt(values[:real])
    largest = axes[np.abs(axes).argmax(0), np.arange(count)]
    return Frame(rows.mean(0), axes * np.where(largest < 0, -1.0, 1.0))


def _consensus(motions: Sequence[Motion], dimensions: Sequence[int]) -> tuple[Motion, list[Floats]]:
    """The mean of all motions after turns that bring each near to it, and these turns."""
    reference, turns = motions[0], [np.eye(len(motions[0].skew))] * len(motions)
    for _ in range(ROUNDS):
        known = zip(motions, dimensions, turns, strict=True)
        turns = [_turn(own, reference, size, last) for own, size, last in known]
        turned = [own.turned(turn) for own, turn in zip(motions, turns, strict=True)]
        reference = Motion(
            np.mean([one.later for one in turned], axis=0), np.mean([one.skew for one in turned], axis=0)
        )
    return reference, turns


def _turn(own: Motion, reference: Motion, dimensions: int, last: Floats | None = None) -> Floats:
    """The rotation or reflection of the first ``dimensions`` components, ``[p, p]``, that brings a motion nearest to a
    reference: from the best of several starts.
    """
    some = slice(0, dimensions)
    part, wanted = (Motion(one.later[:, some, some], one.skew[some, some, some]) for one in (own, reference))
    signs = (np.diag(sign) for sign in product((1.0, -1.0), repeat=dimensions))
    starts = [*islice(signs, STARTS // 2), *_rotations(dimensions, STARTS // 2)]
    starts += [] if last is None else [last[some, some]]
    nearest = max(
        (_climb(part, wanted, start, FEW) for start in starts), key=lambda turn: _likeness(part, wanted, turn)
    )
    found = np.eye(len(own.skew))
    found[some, some] = _climb(part, wanted, nearest, MANY)
    return found


def _climb(own: Motion, wanted: Motion, turn: Floats, iterations: int) -> Floats:
    """Make a motion more like another: each iteration goes to the orthogonal matrix nearest to the gradient, with as
    much of the last matrix added as it takes not to overshoot.
    """
    reached, damping = _likeness(own, wanted, turn), 1.0
    for _ in range(iterations):
        half = np.einsum("ijk,jb->ibk", own.skew, turn)
        gradient = 3 * np.einsum("ibk,kc,abc->ia", half, turn, wanted.skew)
        gradient += np.einsum("lij,jb,lab->ia", own.later, turn, wanted.later)
        gradient += np.einsum("lji,jb,lba->ia", own.later, turn, wanted.later)
        left, _, right = np.linalg.svd(gradient + damping * turn)
        likeness = _likeness(own, wanted, left @ right)
        if likeness > reached:
            moved = float(np.abs(left @ right - turn).max())
            turn, reached, damping = left @ right, likeness, damping / 2
            if moved < 1e-6:
                break
        else:
            damping *= 4
            if damping > 1e6:
                break
    return turn


def _likeness(own: Motion, wanted: Motion, turn: Floats) -> float:
    turned = own.turned(turn)
    return float((turned.later * wanted.later).sum() + (turned.skew * wanted.skew).sum())


def _rotations(dimensions: int, count: int) -> Floats:
    """Some orthogonal matrices, always the same."""
    drawn = np.random.default_rng(0).normal(size=(count, dimensions, dimensions))
    return np.asarray(np.linalg.qr(drawn)[0])
