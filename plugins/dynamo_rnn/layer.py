"""A layer of torch's GRU that reads [x_t; θ] at every step: as torch runs it, and faster on the CPU."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynamo_rnn.sequence import GRUSequence, Packing


def weights_of(rnn: nn.GRU) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The input and hidden weights of a layer, and its two biases."""
    weights = (rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0)
    return cast(tuple[Tensor, Tensor, Tensor, Tensor], weights)


def is_fast(theta: Tensor) -> bool:
    """Whether :func:`fast_states` can run: on the CPU, neither under autocast nor compiled nor exported."""
    return not (theta.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def plain_states(rnn: nn.GRU, x: Tensor, theta: Tensor) -> Tensor:
    """The states ``[B, T, H]`` as torch's layer gives them for [x_t; θ], ``x [B, T, E]`` and ``theta [B, d]``."""
    x = torch.cat([x, theta[:, None].expand(-1, x.shape[1], -1)], dim=-1)
    if torch.compiler.is_compiling() or rnn.training or not torch.is_grad_enabled():
        return cast(Tensor, rnn(x)[0])
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no backward pass in eval mode, where θ alone moves
        return cast(Tensor, rnn(x)[0])


def fast_states(rnn: nn.GRU, x: Tensor, rows: Tensor, packing: Packing, theta: Tensor) -> Tensor:
    """The same, up to rounding, on real steps; padded steps are hardly run, and zero where they are not.

    Args:
        rnn: the layer.
        x: what enters, each vector once, ``[V, E]``.
        rows: which of them enters at each packed step, ``[R]``.
        packing: the steps that are run.
        theta: ``[B, d]``.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = weights_of(rnn)
    weight_x, weight_theta = torch.split(weight_ih, [x.shape[1], theta.shape[1]], dim=1)
    table = functional.linear(x, weight_x, bias_ih)
    bias = functional.linear(theta.index_select(0, packing.order), weight_theta)
    return cast(Tensor, GRUSequence.apply(table, rows, packing, bias, weight_hh, bias_hh))
