"""A meta-model of several layers of GRUs, each a site, in one direction or in both."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import MetaModel
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo_rnn.layer import fast_states, is_fast, plain_states
from dynamo_rnn.sequence import Packing

if TYPE_CHECKING:
    from dynamo_rnn import MetaGRUStackOptions


class MetaGRUStack(MetaModel):
    """Layers of GRUs that read [u_t; θ] at every step, so that θ acts in each as a bias that does not change with time.

    u is x_t in the first layer, and above it the state of the layer below. For token inputs x_t is the meta-model's own
    embedding of the token; real inputs enter as they are. Every layer starts at h_0 = 0, whatever θ is.

    A bidirectional layer is two GRUs, of which one reads the real steps from the last to the first; its state is both
    of theirs at a step, one after the other. It knows what comes later: no map takes it from one step to the next.

    Every layer is a site. The features are the states of the last.
    """

    def __init__(self, options: "MetaGRUStackOptions", inputs: InputSpace, theta_dim: int) -> None:
        super().__init__()
        if inputs.kind not in ("tokens", "real"):
            raise InvalidValueError(
                f"the meta-model 'gru-stack' reads sequences of tokens or of real vectors, not {inputs}"
            )
        self.inputs, self.theta_dim = inputs, theta_dim
        self.embedding = nn.Embedding(inputs.size, options.embedding_size) if inputs.kind == "tokens" else None
        features = options.embedding_size if self.embedding is not None else inputs.size
        directions = 2 if options.bidirectional else 1
        self.feature_size = directions * options.hidden_size
        self.layers = nn.ModuleList()
        for size in (features, *[self.feature_size] * (options.layers - 1)):
            grus = (nn.GRU(size + theta_dim, options.hidden_size, batch_first=True) for _ in range(directions))
            self.layers.append(nn.ModuleList(grus))
        self.state_shapes = ((self.feature_size,),) * options.layers

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The states of each layer after each step, ``[B, T, H]`` or ``[B, T, 2H]``, forwards first."""
        mask = inputs.mask
        turned = _turned(mask)
        packing = Packing.of(mask) if is_fast(theta) else None
        below, states = inputs.values if self.embedding is None else self.embedding(inputs.values), []
        for layer in self.layers:
            forwards, *backwards = cast(Iterable[nn.GRU], layer)
            found = [_run(forwards, below, theta, packing)]
            for gru in backwards:
                found.append(_taken(_run(gru, _taken(below, turned), theta, packing), turned))
            below = torch.cat(found, dim=-1)
            states.append(below)
        return tuple(states)

    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """The states of the last layer."""
        return states[-1]


def _run(rnn: nn.GRU, x: Tensor, theta: Tensor, packing: Packing | None) -> Tensor:
    if packing is None:
        return plain_states(rnn, x, theta)
    entering = x.flatten(0, 1).index_select(0, packing.places)
    rows = torch.arange(len(entering), device=x.device)
    return fast_states(rnn, entering, rows, packing, theta)


def _turned(mask: Tensor) -> Tensor:
    """For each step ``[B, T]`` which one stands there when the real steps are read from the last to the first; padding
    stays where it is.
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - steps, steps)


def _taken(x: Tensor, steps: Tensor) -> Tensor:
    """Of each example of ``x [B, T, E]`` those steps ``[B, T]``."""
    return torch.take_along_dim(x, steps[:, :, None], dim=1)
