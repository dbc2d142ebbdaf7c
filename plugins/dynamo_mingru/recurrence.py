"""The linear recurrence h_t = a_t h_{t−1} + b_t over all times at once, with h_0 = 0.

G. Blelloch, 1990, Prefix sums and their applications: the recurrence is a prefix sum of the maps h ↦ a h + b, whose
composition is associative. Only products and sums occur, so that for a in [0, 1] nothing can overflow, and an a of 0 is
as good as any other.
"""

from typing import Any, cast

import torch
from torch import Tensor


def recurrence(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t−1} + b_t along dimension 1, from h_0 = 0; it can be differentiated any number of times.

    Args:
        a: what remains of the state before, ``[B, T, H]``; the first step's does not matter.
        b: what is added, ``[B, T, H]``.

    Returns:
        h ``[B, T, H]``.
    """
    return cast(Tensor, _Recurrence.apply(a[:, 1:], b, False))


def step_by_step(between: Tensor, b: Tensor) -> Tensor:
    """The recurrence as a loop over T steps. ``between [B, T − 1, H]`` is a from the second step on."""
    first, *rest = b.unbind(1)
    h = [first]
    for a, added in zip(between.unbind(1), rest, strict=True):
        h.append(torch.addcmul(added, a, h[-1]))
    return torch.stack(h, dim=1)


def in_pairs(between: Tensor, b: Tensor) -> Tensor:
    """The recurrence in 2 log₂ T rounds: neighbours are joined, the pairs' recurrence is solved alike, and what lies
    between its states is filled in. All rounds together do less than three times the work of :func:`step_by_step`.
    """
    steps = b.shape[1]
    if steps == 1:
        return b.clone()
    first, second = b[:, : steps - 1 : 2], b[:, 1::2]
    within, across = between[:, ::2], between[:, 1::2]
    ends = in_pairs(within[:, 1:] * across[:, : within.shape[1] - 1], torch.addcmul(second, within, first))
    h = b.clone()
    h[:, 1::2] = ends
    h[:, 2::2].addcmul_(across, ends[:, : across.shape[1]])
    return h


class _Recurrence(torch.autograd.Function):
    """Its gradient is the same recurrence backwards in time, so that neither keeps a graph of its steps.

    On a CPU the loop is the faster way, most of all for large states; other devices would wait for each of its steps.
    """

    @staticmethod
    def forward(ctx: Any, between: Tensor, b: Tensor, backwards: bool) -> Tensor:
        solve = step_by_step if b.device.type == "cpu" else in_pairs
        h = solve(between.flip(1), b.flip(1)).flip(1) if backwards else solve(between, b)
        ctx.save_for_backward(between, h)
        ctx.backwards = backwards
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        between, h = ctx.saved_tensors
        moved = _Recurrence.apply(between, gradients[0], not ctx.backwards)
        of_between = moved[:, :-1] * h[:, 1:] if ctx.backwards else moved[:, 1:] * h[:, :-1]
        return of_between, moved, None
