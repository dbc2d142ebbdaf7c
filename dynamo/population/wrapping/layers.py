"""The states of torch's recurrent layers: of every layer and direction, and of LSTMs h and c."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.trajectory import iterate
from dynamo.population.wrapping.answers import padded
from dynamo.population.wrapping.watching import Call

Step = Callable[[Tensor, Tensor], Tensor]


def is_simple(rnn: nn.RNNBase) -> bool:
    """Whether its dynamics are one map iterated: one layer, one direction, no projection."""
    return rnn.num_layers == 1 and not rnn.bidirectional and not rnn.proj_size


def layer_states(rnn: nn.RNNBase, call: Call) -> Tensor:
    """The states of a recurrent layer of torch after each step.

    Args:
        rnn: a GRU, LSTM or RNN.
        call: what it was called with and gave.

    Returns:
        ``[B, T, S]``: layer by layer, in each forwards and backwards, h, and for an LSTM [h; c]. The backward state
        at a step is what that direction knows of the steps from there to the end.

    Raises:
        InvalidValueError: inputs without a batch.
    """
    x, start, output = call.argument(0, "input"), call.argument(1, "hx"), call.output[0]
    if is_simple(rnn) and not isinstance(rnn, nn.LSTM):
        return _batch_first(rnn, output)
    lengths: Tensor | None = None
    if isinstance(x, PackedSequence):
        x, lengths = pad_packed_sequence(x, batch_first=True)
    elif isinstance(x, Tensor) and x.ndim == 3:
        x = x if rnn.batch_first else x.transpose(0, 1)
    else:
        raise InvalidValueError(f"a {type(rnn).__name__} is called without a batch: give it [batch, steps, features]")
    directions = 2 if rnn.bidirectional else 1
    found: list[Tensor] = []
    for layer in range(rnn.num_layers):
        hidden = []
        for direction in range(directions):
            h = _initial(rnn, start, layer * directions + direction, x)
            backwards = direction == 1
            states = _run(rnn, _turned(x, lengths) if backwards else x, h, layer, backwards)
            states = _turned(states, lengths) if backwards else states
            found.append(states)
            hidden.append(states[..., : rnn.proj_size or rnn.hidden_size])
        x = torch.cat(hidden, dim=-1)
    return torch.cat(found, dim=-1)


def step_of(rnn: nn.RNNBase, layer: int = 0, backwards: bool = False) -> Step:
    """The map that one layer iterates in one direction: ``x [B, E], h [B, S] -> [B, S]``."""
    w_ih, w_hh, *bias = _weights(rnn, layer, backwards)
    biases = bias[:2] if rnn.bias else [None, None]
    if isinstance(rnn, nn.LSTM):
        size = rnn.proj_size or rnn.hidden_size

        def lstm(x: Tensor, h: Tensor) -> Tensor:
            hidden, cell = h[..., :size], h[..., size:]
            if not rnn.proj_size:
                return torch.cat(torch.lstm_cell(x, (hidden, cell), w_ih, w_hh, *biases), dim=-1)
            gates = nn.functional.linear(x, w_ih, biases[0]) + nn.functional.linear(hidden, w_hh, biases[1])
            entering, forgetting, new, leaving = gates.chunk(4, dim=-1)
            cell = forgetting.sigmoid() * cell + entering.sigmoid() * new.tanh()
            return torch.cat([(leaving.sigmoid() * cell.tanh()) @ bias[-1].t(), cell], dim=-1)

        return lstm
    if isinstance(rnn, nn.GRU):
        return lambda x, h: torch.gru_cell(x, h, w_ih, w_hh, *biases)
    if getattr(rnn, "nonlinearity", "tanh") == "relu":
        return lambda x, h: torch.rnn_relu_cell(x, h, w_ih, w_hh, *biases)
    return lambda x, h: torch.rnn_tanh_cell(x, h, w_ih, w_hh, *biases)


def _run(rnn: nn.RNNBase, x: Tensor, h: Tensor, layer: int, backwards: bool) -> Tensor:
    """One layer in one direction, forwards in time: the states ``[B, T, S]``."""
    if isinstance(rnn, nn.LSTM):
        return iterate(step_of(rnn, layer, backwards), x, h)
    fused: Any = torch.gru if isinstance(rnn, nn.GRU) else torch.rnn_tanh
    if getattr(rnn, "nonlinearity", "tanh") == "relu":
        fused = torch.rnn_relu
    weights = _weights(rnn, layer, backwards)
    states: Tensor = fused(x, h[None], weights, rnn.bias, 1, 0.0, False, False, True)[0]
    return states


def _weights(rnn: nn.RNNBase, layer: int, backwards: bool) -> list[Tensor]:
    return list(rnn.all_weights[layer * (2 if rnn.bidirectional else 1) + backwards])


def _initial(rnn: nn.RNNBase, start: Any, index: int, x: Tensor) -> Tensor:
    if start is None:
        size = (rnn.proj_size or rnn.hidden_size) + (rnn.hidden_size if isinstance(rnn, nn.LSTM) else 0)
        return x.new_zeros(len(x), size)
    parts = start if isinstance(start, tuple) else (start,)
    return torch.cat([part[index] for part in parts], dim=-1)


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The real steps of each example in reverse order; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1])
    order = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps).to(x.device)
    return x[torch.arange(len(x), device=x.device)[:, None], order]


def _batch_first(rnn: nn.RNNBase, output: Tensor | PackedSequence) -> Tensor:
    if isinstance(output, PackedSequence):
        return padded(output)
    return output if rnn.batch_first else output.transpose(0, 1)
