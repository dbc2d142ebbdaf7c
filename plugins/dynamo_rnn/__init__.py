"""Recurrent base models (GRU, vanilla tanh RNN, LSTM) and the GRU meta-model."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import fraction, positive

if TYPE_CHECKING:
    from dynamo.contracts.protocols import DynamicalModel, MetaModel
    from dynamo.contracts.spaces import InputSpace, OutputSpace


@attrs.frozen
class RecurrentOptions:
    """Options of the recurrent base models; the defaults are Table 1 of the paper."""

    hidden_size: int = positive(256, "units of the hidden state")
    embedding_size: int = positive(256, "size of the token embedding (token inputs only)")
    dropout: float = fraction(0.0, "dropout on the inputs and before the readout, in training")


@attrs.frozen
class MetaGRUOptions:
    """Options of the GRU meta-model; the defaults are Table 1 of the paper."""

    hidden_size: int = positive(512, "units of the hidden state")
    embedding_size: int = positive(256, "size of the meta-model's own token embedding (token inputs only)")


def _gru(options: RecurrentOptions, inputs: "InputSpace", outputs: "OutputSpace") -> "DynamicalModel":
    from dynamo_rnn.models import GRU

    return GRU.build(options, inputs, outputs)


def _tanh(options: RecurrentOptions, inputs: "InputSpace", outputs: "OutputSpace") -> "DynamicalModel":
    from dynamo_rnn.models import TanhRNN

    return TanhRNN.build(options, inputs, outputs)


def _lstm(options: RecurrentOptions, inputs: "InputSpace", outputs: "OutputSpace") -> "DynamicalModel":
    from dynamo_rnn.models import LSTM

    return LSTM.build(options, inputs, outputs)


def _meta_gru(options: MetaGRUOptions, inputs: "InputSpace", theta_dim: int) -> "MetaModel":
    from dynamo_rnn.meta import MetaGRU

    return MetaGRU(inputs, theta_dim, options.hidden_size, options.embedding_size)


@hookimpl
def dynamo_components() -> Iterable[Component]:
    """Three architectures and a meta-model."""
    return [
        Component("architecture", "gru", _gru, "gated recurrent unit", RecurrentOptions),
        Component("architecture", "rnn", _tanh, "vanilla RNN with tanh units", RecurrentOptions),
        Component("architecture", "lstm", _lstm, "long short-term memory; its state is [h; c]", RecurrentOptions),
        Component("meta-model", "gru", _meta_gru, "GRU that reads [x_t; θ] at every step (B.1)", MetaGRUOptions),
    ]
