"""Recurrent base models built of torch's own layers.

A trained ``nn.GRU``, ``nn.RNN`` or ``nn.LSTM`` of one layer, with its embedding and its readout, becomes a base model
by passing the modules to the class: ``GRU(inputs, outputs, rnn, readout_layer, embedding)``.
"""

from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError, WrongTypeError
from dynamo.contracts.protocols import RecurrentModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory, iterate

if TYPE_CHECKING:
    from dynamo_rnn import RecurrentOptions


class TorchRecurrent(RecurrentModel):
    """What the recurrent base models share: an optional token embedding, one recurrent layer of torch, and a linear
    readout.

    Args:
        inputs: token or real inputs.
        outputs: the output space.
        rnn: a batch-first recurrent layer of torch with one layer and one direction.
        readout_layer: G, from the hidden units to the outputs.
        embedding: token ids to vectors; for token inputs.
        dropout: on the inputs and before the readout, in training.

    Raises:
        DynamoError: the modules do not fit each other or the spaces.
    """

    layer: type[nn.RNNBase]

    def __init__(
        self,
        inputs: InputSpace,
        outputs: OutputSpace,
        rnn: nn.RNNBase,
        readout_layer: nn.Module,
        embedding: nn.Embedding | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(type(self).layer, inputs, outputs, rnn, readout_layer, embedding)
        self.inputs, self.outputs = inputs, outputs
        self.embedding, self.rnn, self.readout_layer = embedding, rnn, readout_layer
        self.dropout = nn.Dropout(dropout)
        self.state_shapes = ((self.state_size,),)

    @classmethod
    def build(cls, options: "RecurrentOptions", inputs: InputSpace, outputs: OutputSpace) -> Self:
        """A new model with torch's initial weights."""
        if inputs.kind not in ("tokens", "real"):
            raise InvalidValueError(f"a recurrent network reads sequences of tokens or of real vectors, not {inputs}")
        embedding = nn.Embedding(inputs.size, options.embedding_size) if inputs.kind == "tokens" else None
        features = options.embedding_size if embedding is not None else inputs.size
        layer = cast(type[nn.GRU], cls.layer)
        rnn = layer(features, options.hidden_size, batch_first=True)
        return cls(inputs, outputs, rnn, nn.Linear(options.hidden_size, outputs.size), embedding, options.dropout)

    @property
    def state_size(self) -> int:
        """H, the size of the state: the hidden units, and what else the next step depends on."""
        return self.rnn.hidden_size

    def states(self, x: Tensor) -> Tensor:
        """The states after each step of encoded inputs, from torch's layer: ``[B, T, E] -> [B, T, H]``."""
        return cast(Tensor, self.rnn(x)[0])

    def encode(self, values: Tensor) -> Tensor:
        """Token embeddings, or the real inputs themselves."""
        return values if self.embedding is None else self.embedding(values)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros, as torch's layers start."""
        return cast(Tensor, self.rnn.weight_hh_l0).new_zeros(batch, self.state_size)

    def readout(self, h: Tensor) -> Tensor:
        """G(h): the readout layer on the hidden units."""
        return cast(Tensor, self.readout_layer(self.dropout(h[..., : self.rnn.hidden_size])))

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """Run over the sequences."""
        states = self.states(self.dropout(self.encode(inputs.values)))
        return Trajectory((states,), self.readout(states), inputs.mask)

    def weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The recurrent layer's input and hidden weights and its two biases."""
        bias = (self.rnn.bias_ih_l0, self.rnn.bias_hh_l0) if self.rnn.bias else (None, None)
        return cast(
            tuple[Tensor, Tensor, Tensor | None, Tensor | None], (self.rnn.weight_ih_l0, self.rnn.weight_hh_l0, *bias)
        )


class GRU(TorchRecurrent):
    """A gated recurrent unit (Cho et al. 2014)."""

    layer = nn.GRU

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """One GRU update."""
        return torch.gru_cell(x, h, *self.weights())


class TanhRNN(TorchRecurrent):
    """A vanilla RNN: h' = tanh(W x + U h + b)."""

    layer = nn.RNN

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """One tanh update."""
        return torch.rnn_tanh_cell(x, h, *self.weights())


class LSTM(TorchRecurrent):
    """A long short-term memory (Hochreiter and Schmidhuber 1997) whose state is [h; c], all that its next step
    depends on.
    """

    layer = nn.LSTM

    @property
    def state_size(self) -> int:
        """2 H: h and c."""
        return 2 * self.rnn.hidden_size

    def states(self, x: Tensor) -> Tensor:
        """[h; c] after each step; torch's fused layer gives h alone, so the cell runs step by step."""
        return iterate(self.step, x, self.initial_state(x.shape[0]))

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """One LSTM update of [h; c]."""
        hidden, cell = h.chunk(2, dim=-1)
        return torch.cat(torch.lstm_cell(x, (hidden, cell), *self.weights()), dim=-1)


def _check(
    layer: type[nn.RNNBase],
    inputs: InputSpace,
    outputs: OutputSpace,
    rnn: nn.RNNBase,
    readout_layer: nn.Module,
    embedding: nn.Embedding | None,
) -> None:
    if not isinstance(rnn, layer):
        raise WrongTypeError(f"the recurrent layer is a {type(rnn).__name__}; this class takes a {layer.__name__}")
    if not rnn.batch_first or rnn.num_layers != 1 or rnn.bidirectional or rnn.proj_size:
        raise InvalidValueError(
            "the recurrent layer must be batch-first, with one layer, one direction and no projection; dynamo.wrap "
            "takes any module"
        )
    if isinstance(rnn, nn.RNN) and rnn.nonlinearity != "tanh":
        raise InvalidValueError(f"the vanilla RNN must have tanh units, not {rnn.nonlinearity}")
    if inputs.kind == "tokens":
        if embedding is None or embedding.num_embeddings != inputs.size:
            raise InvalidValueError(f"token inputs need an embedding of {inputs.size} tokens")
        features = embedding.embedding_dim
    else:
        features = inputs.size
    if rnn.input_size != features:
        raise InvalidValueError(
            f"the recurrent layer takes {rnn.input_size} features a step; its inputs have {features}"
        )
    if isinstance(readout_layer, nn.Linear):  # what another module gives is checked on the first batch
        sizes = readout_layer.in_features, readout_layer.out_features
        if sizes != (rnn.hidden_size, outputs.size):
            raise InvalidValueError(
                f"the readout maps {sizes[0]} to {sizes[1]}; "
                f"it must map {rnn.hidden_size} units to {outputs.size} outputs"
            )
