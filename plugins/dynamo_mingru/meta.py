"""The minGRU meta-model."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import RecurrentMetaModel
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo_mingru.recurrence import recurrence

if TYPE_CHECKING:
    from dynamo_mingru import MetaMinGRUOptions


class MinGRU(nn.Module):
    """One layer (Feng et al. 2024, Were RNNs all we needed?): h' = (1 − z) h + z h̃, where z = σ(W u + b) and
    h̃ = tanh(W̃ u + b̃) depend on the layer's input u alone and never on h. The tanh is ours: it keeps states within
    (−1, 1).
    """

    def __init__(self, input_size: int, theta_dim: int, hidden_size: int, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_size) if normalise else nn.Identity()
        self.gates = nn.Linear(input_size + theta_dim, 2 * hidden_size)

    def forward(self, below: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """1 − z and z h̃ of u ``[..., U]`` and θ ``[..., d]``; where u has a time that θ has not, θ's share is computed
        once. Both are in the precision of θ: in bfloat16 1 − z would round to 1 and never forget.
        """
        from_below, from_theta = torch.split(self.gates.weight, [below.shape[-1], theta.shape[-1]], dim=1)
        gates = linear(self.norm(below), from_below, self.gates.bias) + linear(theta, from_theta)
        kept, proposed = gates.to(theta.dtype).chunk(2, dim=-1)
        kept = torch.sigmoid(kept)
        return kept, (1 - kept) * torch.tanh(proposed)


class MetaMinGRU(RecurrentMetaModel):
    """Layers of minGRUs that read [u_t; θ] at every step, so that θ acts as a bias that does not change with time.

    u is x_t in the first layer, and above it the normalised state of the layer below. Each layer is linear in its own
    past; whatever else depends on the past comes from the layers below. For token inputs x_t is the meta-model's own
    embedding of the token; real inputs enter as they are. The state is that of all layers, one after the other;
    h_0 = 0 whatever θ is.
    """

    def __init__(self, options: "MetaMinGRUOptions", inputs: InputSpace, theta_dim: int) -> None:
        super().__init__()
        if inputs.kind not in ("tokens", "real"):
            raise InvalidValueError(
                f"the meta-model 'mingru' reads sequences of tokens or of real vectors, not {inputs}"
            )
        self.inputs, self.theta_dim = inputs, theta_dim
        self.embedding = nn.Embedding(inputs.size, options.embedding_size) if inputs.kind == "tokens" else None
        features = options.embedding_size if self.embedding is not None else inputs.size
        hidden_size, layers = options.hidden_size, options.layers
        above = [MinGRU(hidden_size, theta_dim, hidden_size, normalise=True) for _ in range(layers - 1)]
        self.layers = nn.ModuleList([MinGRU(features, theta_dim, hidden_size, normalise=False), *above])
        self.feature_size = hidden_size * layers
        self.state_shapes = ((self.feature_size,),)

    def encode(self, values: Tensor) -> Tensor:
        """Token embeddings, or the real inputs themselves."""
        return values if self.embedding is None else self.embedding(values)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros."""
        return next(self.parameters()).new_zeros(batch, self.feature_size)

    def step(self, theta: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """One update of all layers, from the first to the last."""
        states, below = [], x
        for layer, before in zip(self.layers, h.chunk(len(self.layers), dim=-1), strict=True):
            kept, added = layer(below, theta)
            below = kept * before + added
            states.append(below)
        return torch.cat(states, dim=-1)

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The states after each step, layer by layer."""
        states, below = [], self.encode(inputs.values)
        for layer in self.layers:
            below = recurrence(*layer(below, theta[:, None]))
            states.append(below)
        return (torch.cat(states, dim=-1),)
