"""A GRU over whole sequences on the CPU, with a gradient written by hand.

torch's own layer makes a node of the graph for every operation of every step, and runs over padding. Here hardly
any padded steps are computed, the gates are kept as they are computed, and the backward pass forms the weights'
gradient with one matrix product over all steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, cast, final

import attrs
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

#: Multiplications in one step of the loop over time below which one thread makes it.
SMALL = 50_000_000


@contextmanager
def _threads_for(batch: int, weight: Tensor) -> Iterator[None]:
    """One thread for loops of small steps. Their operations last some tens of microseconds; threads that meet after
    each gain little where every core is free, and where one is not they wait for it a thousand times.
    """
    threads = torch.get_num_threads()
    if threads == 1 or batch * weight.numel() >= SMALL:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@attrs.frozen(eq=False)
class Packing:
    """Where the steps of a batch stand when they are put one after the other: the first steps of all sequences, longest
    first, then the second steps of those that have one, and so on.

    Sixteenths of the batch are the grain: a few sequences that have ended go on for some padded steps, so that products
    come in few shapes (the first of every shape is slow, since code for it is made then).

    Attributes:
        order: the examples from the longest to the shortest, ``[B]``.
        counts: how many examples are run at the first step, at the second, ....
        places: of each of these steps in the padded batch ``[B * T]``, ``[R]``.
        shape: (B, T).
    """

    order: Tensor
    counts: list[int]
    places: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: Tensor) -> "Packing":
        """The packing of a batch by its mask ``[B, T]``; sequences are padded on the right."""
        batch, steps = mask.shape
        grain = max(1, batch // 16)
        order = torch.argsort(mask.sum(1), descending=True, stable=True)
        counts = [min(batch, -(-count // grain) * grain) for count in mask.sum(0).tolist() if count]
        places = torch.cat([order[:count] * steps + step for step, count in enumerate(counts)])
        return cls(order, counts, places, (batch, steps))


@final
class GRUSequence(Function):
    """The states of a GRU from h_0 = 0, whose inputs have met their weights already.

    What enters a step of the b-th example in the packing's order is ``table[rows] + bias[b]``: inputs that occur more
    than once stand in the table once. Gates are in torch's order, reset, update, new.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, rows: Tensor, packing: Packing, bias: Tensor, weight: Tensor, bias_hh: Tensor
    ) -> Tensor:
        """Run over the sequences.

        Args:
            ctx: what the backward pass needs is kept here.
            table: the input's share of the gates, ``[V, 3H]``.
            rows: which row of it enters at each packed step, ``[R]``.
            packing: the steps that are run.
            bias: what enters at all steps of an example, ``[B, 3H]``, in the packing's order.
            weight: the hidden weights, ``[3H, H]``.
            bias_hh: the hidden bias, ``[3H]``.

        Returns:
            The states ``[B, T, H]``, zero on steps that were not run.
        """
        (batch, steps), counts, size = packing.shape, packing.counts, weight.shape[1]
        gates = table.index_select(0, rows)
        fed, states = (table.new_empty(len(rows), size) for _ in range(2))  # U_n h + c_n, and h
        to_rz, to_n = torch.split(weight.t(), [2 * size, size], dim=1)
        c_rz, c_n = torch.split(bias_hh, [2 * size, size])
        bias = bias + torch.cat([c_rz, torch.zeros_like(c_n)])
        h = table.new_zeros(batch, size)
        by_step = zip(*(torch.split(part, counts) for part in (gates, *_gates(gates), fed, states)), strict=True)
        with _threads_for(batch, weight):
            for t, (every, rz, r, z, n, from_h, state) in enumerate(by_step):
                h = h[: len(every)]
                every.add_(bias[: len(every)])
                if t:
                    rz.addmm_(h, to_rz)
                    torch.addmm(c_n, h, to_n, out=from_h)
                else:  # h is zero
                    from_h.copy_(c_n.expand_as(from_h))
                rz.sigmoid_()
                n.addcmul_(r, from_h).mul_(2).sigmoid_().mul_(2).sub_(1)  # tanh, whose own kernel takes far longer
                h = torch.lerp(n, h, z, out=state)
        ctx.save_for_backward(gates, fed, states, rows, weight)
        ctx.packing, ctx.table_size = packing, len(table)
        padded = table.new_zeros(batch * steps, size).index_copy_(0, packing.places, states)
        return padded.view(batch, steps, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all tensors from that of the states, back through time."""
        gates, fed, states, rows, weight = cast(tuple[Tensor, ...], ctx.saved_tensors)
        counts, (batch, size), total = ctx.packing.counts, (ctx.packing.shape[0], states.shape[1]), len(states)
        gradient = gradient.flatten(0, 1).index_select(0, ctx.packing.places)
        from_rz, from_n = torch.split(weight, [2 * size, size])
        whole = -(-total // batch) * batch  # the weights' gradient has as few shapes as there are steps
        all_gates, all_fed = gates.new_zeros(whole, 3 * size), fed.new_zeros(whole, size)
        d_gates, d_fed, before = all_gates[:total], all_fed[:total], _before(states, counts, whole - batch)
        d_bias = gates.new_zeros(batch, 3 * size)
        d_h, rest = (states.new_zeros(batch, size) for _ in range(2))
        old = [None, *torch.split(before[: total - batch], counts[1:])] if len(counts) > 1 else [None]
        parts = (gradient, *_gates(gates)[1:], fed, d_gates, *_gates(d_gates), d_fed)
        by_step = list(zip(old, *(torch.split(part, counts) for part in parts), strict=True))
        with _threads_for(batch, weight):
            for h, d_state, r, z, n, from_h, d_every, d_rz, d_r, d_z, d_n, d_from_h in reversed(by_step):
                now, past = d_h[: len(r)].add_(d_state), rest[: len(r)]
                torch.neg(n, out=past) if h is None else torch.sub(h, n, out=past)
                torch.ops.aten.sigmoid_backward.grad_input(past.mul_(now), z, grad_input=d_z)
                torch.mul(now, z, out=past)  # what the state before gets past the gates
                torch.ops.aten.tanh_backward.grad_input(now.sub_(past), n, grad_input=d_n)
                torch.mul(d_n, r, out=d_from_h)
                torch.ops.aten.sigmoid_backward.grad_input(torch.mul(d_n, from_h, out=now), r, grad_input=d_r)
                d_bias[: len(r)] += d_every
                if h is not None:
                    past.addmm_(d_rz, from_rz).addmm_(d_from_h, from_n)
                d_h, rest = rest, d_h  # rows beyond the step's are zero in both
        d_table = None
        if ctx.needs_input_grad[0]:
            d_table = gates.new_zeros(ctx.table_size, 3 * size).index_add_(0, rows, d_gates)
        d_bias_hh = torch.cat([d_bias[:, : 2 * size].sum(0), d_fed.sum(0)])
        d_weight = torch.zeros_like(weight)
        if ctx.needs_input_grad[4]:
            d_weight[: 2 * size].addmm_(all_gates[batch:, : 2 * size].t(), before)
            d_weight[2 * size :].addmm_(all_fed[batch:].t(), before)
        return d_table, None, None, d_bias, d_weight, d_bias_hh


def _gates(joint: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reset and update together, reset, update, and new, of ``[R, 3H]``."""
    size = joint.shape[1] // 3
    both, new = torch.split(joint, [2 * size, size], dim=1)
    reset, update = both.chunk(2, dim=1)
    return both, reset, update, new


def _before(states: Tensor, counts: list[int], length: int) -> Tensor:
    """The state before each packed step but the first ones, and zeros up to that length."""
    if counts[-1] == counts[0]:
        return states[:length]
    parts, start = [], 0
    for count, following in pairwise(counts):
        parts.append(states[start : start + following])
        start += count
    return torch.cat([*parts, states.new_zeros(length - sum(counts[1:]), states.shape[1])])
