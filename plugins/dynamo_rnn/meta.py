"""The GRU meta-model of appendix B.1."""

from typing import cast

import torch
from torch import Tensor, nn

from dynamo.errors import DynamoError
from dynamo.protocols import RecurrentMetaModel
from dynamo.spaces import InputSpace
from dynamo.trajectory import Inputs


class MetaGRU(RecurrentMetaModel):
    """A GRU that reads [x_t; θ] at every step, so that θ acts as a bias that does not change with time.

    For token inputs x_t is the meta-model's own embedding of the token; real inputs enter as they are. h_0 = 0
    whatever θ is.
    """

    def __init__(self, inputs: InputSpace, theta_dim: int, hidden_size: int, embedding_size: int) -> None:
        super().__init__()
        if inputs.kind not in ("tokens", "real"):
            raise DynamoError(f"the meta-model 'gru' reads sequences of tokens or of real vectors, not {inputs}")
        self.inputs, self.theta_dim = inputs, theta_dim
        self.embedding = nn.Embedding(inputs.size, embedding_size) if inputs.kind == "tokens" else None
        features = embedding_size if self.embedding is not None else inputs.size
        self.rnn = nn.GRU(features + theta_dim, hidden_size, batch_first=True)
        self.state_shapes = ((hidden_size,),)
        self.feature_size = hidden_size

    def encode(self, values: Tensor) -> Tensor:
        """Token embeddings, or the real inputs themselves."""
        return values if self.embedding is None else self.embedding(values)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros."""
        return cast(Tensor, self.rnn.weight_hh_l0).new_zeros(batch, self.rnn.hidden_size)

    def step(self, theta: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """One GRU update on [x; θ]."""
        layer = self.rnn
        weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        return torch.gru_cell(torch.cat([x, theta], dim=-1), h, *cast(tuple[Tensor, Tensor, Tensor, Tensor], weights))

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The hidden states after each step."""
        x = self.encode(inputs.values)
        x = torch.cat([x, theta[:, None].expand(-1, x.shape[1], -1)], dim=-1)
        return (self.rnn(x)[0],)

    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """The hidden states."""
        return states[0]
