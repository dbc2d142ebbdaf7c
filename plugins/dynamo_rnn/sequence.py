"""A GRU over whole sequences on the CPU, with a gradient written by hand.

torch's own layer makes a node of the graph for every operation of every step. Here the gates are kept as they are
computed, and the backward pass forms the weights' gradient with one matrix product over all steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, final

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


@final
class GRUSequence(Function):
    """The states of a GRU from h_0 = 0, whose inputs have met their weights already.

    What enters step t of example b is ``table[rows[t, b]] + bias[b]``: inputs that occur more than once stand in the
    table once. Gates are in torch's order, reset, update, new.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, bias: Tensor, weight: Tensor, bias_hh: Tensor) -> Tensor:
        """Run over the sequences.

        Args:
            ctx: what the backward pass needs is kept here.
            table: the input's share of the gates, ``[R, 3H]``.
            rows: which row enters at each step, ``[T, B]``.
            bias: what enters at all steps of an example, ``[B, 3H]``.
            weight: the hidden weights, ``[3H, H]``.
            bias_hh: the hidden bias, ``[3H]``.

        Returns:
            The states ``[B, T, H]``, with time outermost in memory.
        """
        (steps, batch), size = rows.shape, weight.shape[1]
        gates = table.index_select(0, rows.flatten()).view(steps, batch, 3 * size)
        fed, states = (table.new_empty(steps, batch, size) for _ in range(2))  # U_n h + c_n, and h
        to_rz, to_n = torch.split(weight.t(), [2 * size, size], dim=1)
        bias = bias + torch.cat([bias_hh[: 2 * size], torch.zeros_like(bias_hh[2 * size :])])
        h = table.new_zeros(batch, size)
        with _threads_for(batch, weight):
            for t in range(steps):
                rz, n = torch.split(gates[t].add_(bias), [2 * size, size], dim=1)
                rz.addmm_(h, to_rz).sigmoid_()
                torch.addmm(bias_hh[2 * size :], h, to_n, out=fed[t])
                r, z = rz.chunk(2, dim=1)
                n.addcmul_(r, fed[t]).tanh_()
                h = torch.lerp(n, h, z, out=states[t])
        ctx.save_for_backward(gates, fed, states, rows, weight)
        ctx.table_size = len(table)
        return states.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all tensors from that of the states, back through time."""
        gates, fed, states, rows, weight = cast(tuple[Tensor, ...], ctx.saved_tensors)
        steps, batch, size = states.shape
        from_rz, from_n = torch.split(weight, [2 * size, size])
        d_gates, d_fed = torch.empty_like(gates), torch.empty_like(fed)
        d_table = gates.new_zeros(ctx.table_size, 3 * size)
        d_bias = gates.new_zeros(batch, 3 * size)
        d_h, rest, start = (states.new_zeros(batch, size) for _ in range(3))
        with _threads_for(batch, weight):
            for t in reversed(range(steps)):
                (r, z, n), (d_r, d_z, d_n) = gates[t].chunk(3, dim=1), d_gates[t].chunk(3, dim=1)
                d_h += gradient[:, t]
                torch.sub(states[t - 1] if t else start, n, out=rest).mul_(d_h)
                torch.ops.aten.sigmoid_backward.grad_input(rest, z, grad_input=d_z)
                torch.mul(d_h, z, out=rest)  # what h_t−1 gets past the gates
                torch.ops.aten.tanh_backward.grad_input(d_h.sub_(rest), n, grad_input=d_n)
                torch.mul(d_n, r, out=d_fed[t])
                torch.ops.aten.sigmoid_backward.grad_input(torch.mul(d_n, fed[t], out=d_h), r, grad_input=d_r)
                d_bias += d_gates[t]
                if ctx.needs_input_grad[0]:
                    d_table.index_add_(0, rows[t], d_gates[t])
                d_h, rest = rest, d_h
                if t:
                    d_h.addmm_(d_gates[t, :, : 2 * size], from_rz).addmm_(d_fed[t], from_n)
        d_bias_hh = torch.cat([d_bias[:, : 2 * size].sum(0), d_fed.sum((0, 1))])
        d_weight = torch.zeros_like(weight)
        if ctx.needs_input_grad[3]:
            before = states[:-1].flatten(0, 1)
            d_weight[: 2 * size].addmm_(d_gates[1:, :, : 2 * size].flatten(0, 1).t(), before)
            d_weight[2 * size :].addmm_(d_fed[1:].flatten(0, 1).t(), before)
        return d_table, None, d_bias, d_weight, d_bias_hh
