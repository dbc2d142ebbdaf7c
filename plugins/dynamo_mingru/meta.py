"""The minGRU meta-model."""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from dynamo.errors import DynamoError
from dynamo.protocols import RecurrentMetaModel
from dynamo.spaces import InputSpace
from dynamo.trajectory import Inputs
from dynamo_mingru.recurrence import recurrence


class MetaMinGRU(RecurrentMetaModel):
    """Layers of minGRUs (Feng et al. 2024, Were RNNs all we needed?): h' = (1 − z) h + z h̃, where z = σ(W u + b) and
    h̃ = tanh(W̃ u + b̃) depend on the layer's input u alone and never on h.

    u is [x_t; θ] in the first layer and [h_t of the layer below; θ] above it, so that θ is a bias that does not change
    with time, as in the meta-model ``gru``. Each layer is linear in its own past; all nonlinearity in the past comes
    from the layers below. For token inputs x_t is the meta-model's own embedding of the token; real inputs enter as
    they are. The state is that of all layers, one after the other; h_0 = 0 whatever θ is.
    """

    def __init__(self, inputs: InputSpace, theta_dim: int, hidden_size: int, embedding_size: int, layers: int) -> None:
        super().__init__()
        if inputs.kind not in ("tokens", "real"):
            raise DynamoError(f"the meta-model 'mingru' reads sequences of tokens or of real vectors, not {inputs}")
        self.inputs, self.theta_dim = inputs, theta_dim
        self.embedding = nn.Embedding(inputs.size, embedding_size) if inputs.kind == "tokens" else None
        features = embedding_size if self.embedding is not None else inputs.size
        sizes = [features, *[hidden_size] * layers]
        self.gates = nn.ModuleList(nn.Linear(size + theta_dim, 2 * units) for size, units in pairwise(sizes))
        self.feature_size = hidden_size * layers
        self.state_shapes = ((self.feature_size,),)

    def encode(self, values: Tensor) -> Tensor:
        """Token embeddings, or the real inputs themselves."""
        return values if self.embedding is None else self.embedding(values)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros."""
        return cast(Tensor, self.gates[0].weight).new_zeros(batch, self.feature_size)

    def step(self, theta: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """One update of all layers, from the first to the last."""
        states, below = [], x
        for gates, before in zip(self.gates, h.chunk(len(self.gates), dim=-1), strict=True):
            kept, added = _kept_and_added(gates, below, theta)
            below = kept * before + added
            states.append(below)
        return torch.cat(states, dim=-1)

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The states after each step, one layer at a time."""
        states, below = [], self.encode(inputs.values)
        for gates in self.gates:
            below = recurrence(*_kept_and_added(gates, below, theta[:, None].expand(-1, below.shape[1], -1)))
            states.append(below)
        return (torch.cat(states, dim=-1),)

    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """The states."""
        return states[0]


def _kept_and_added(gates: nn.Module, below: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """1 − z and z h̃. They are in the precision of θ, since in bfloat16 1 − z would round to 1 and never forget."""
    kept, proposed = gates(torch.cat([below, theta], dim=-1)).to(theta.dtype).chunk(2, dim=-1)
    kept = torch.sigmoid(kept)
    return kept, (1 - kept) * torch.tanh(proposed)
