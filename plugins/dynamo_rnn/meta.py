"""The GRU meta-model of appendix B.1."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import RecurrentMetaModel
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo_rnn.layer import fast_states, is_fast, plain_states, weights_of
from dynamo_rnn.sequence import Packing

if TYPE_CHECKING:
    from dynamo_rnn import MetaGRUOptions


class MetaGRU(RecurrentMetaModel):
    """A GRU that reads [x_t; θ] at every step, so that θ acts as a bias that does not change with time.

    For token inputs x_t is the meta-model's own embedding of the token; real inputs enter as they are. h_0 = 0
    whatever θ is.

    On the CPU the states come from :class:`~dynamo_rnn.sequence.GRUSequence`: θ's share of the gates is computed once
    for a sequence, that of a token once for a batch, however often it occurs, and padded steps hardly at all. On other
    devices, under autocast, and where the meta-model is compiled or exported, they come from torch's layer. Both have
    the same parameters and give the same numbers on real steps up to rounding; on the CPU a gradient of a gradient is
    not available.
    """

    def __init__(self, options: "MetaGRUOptions", inputs: InputSpace, theta_dim: int) -> None:
        super().__init__()
        if inputs.kind not in ("tokens", "real"):
            raise InvalidValueError(f"the meta-model 'gru' reads sequences of tokens or of real vectors, not {inputs}")
        self.inputs, self.theta_dim = inputs, theta_dim
        self.embedding = nn.Embedding(inputs.size, options.embedding_size) if inputs.kind == "tokens" else None
        features = options.embedding_size if self.embedding is not None else inputs.size
        self.rnn = nn.GRU(features + theta_dim, options.hidden_size, batch_first=True)
        self.state_shapes = ((options.hidden_size,),)
        self.feature_size = options.hidden_size

    def encode(self, values: Tensor) -> Tensor:
        """Token embeddings, or the real inputs themselves."""
        return values if self.embedding is None else self.embedding(values)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros."""
        return cast(Tensor, self.rnn.weight_hh_l0).new_zeros(batch, self.rnn.hidden_size)

    def step(self, theta: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """One GRU update on [x; θ]."""
        return torch.gru_cell(torch.cat([x, theta], dim=-1), h, *weights_of(self.rnn))

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The hidden states after each step."""
        return (self._fast_states(inputs, theta) if is_fast(theta) else self.plain_states(inputs.values, theta),)

    def plain_states(self, values: Tensor, theta: Tensor) -> Tensor:
        """The hidden states ``[B, T, H]`` as torch's layer gives them for [x_t; θ]: the reference."""
        return plain_states(self.rnn, self.encode(values), theta)

    def _fast_states(self, inputs: Inputs, theta: Tensor) -> Tensor:
        packing, entering = Packing.of(inputs.mask), inputs.values.flatten(0, 1)
        rows = packing.places
        if self.embedding is not None:
            entering, rows = self._words(entering.index_select(0, rows))
        return fast_states(self.rnn, self.encode(entering), rows, packing, theta)

    def _words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The words whose share of the gates is needed, each once, and which of them each token is: the whole
        vocabulary where it is smaller than the batch.
        """
        if self.inputs.size <= len(tokens):
            return torch.arange(self.inputs.size), tokens
        words, rows = torch.unique(tokens, return_inverse=True)
        return functional.pad(words, (0, -len(words) % 256)), rows
