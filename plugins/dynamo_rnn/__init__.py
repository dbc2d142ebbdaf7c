"""Recurrent base models (GRU, vanilla tanh RNN, LSTM) and the meta-models of one GRU and of several."""

from collections.abc import Iterable

import attrs

from dynamo.contracts.components import Component
from dynamo.contracts.hookspecs import hookimpl
from dynamo.contracts.options import fraction, option, positive


@attrs.frozen
class RecurrentOptions:
    """Options of the recurrent base models; the defaults are Table 1 of the paper."""

    hidden_size: int = positive(256, "units of the hidden state", most=2**20)
    embedding_size: int = positive(256, "size of the token embedding (token inputs only)", most=2**20)
    dropout: float = fraction(0.0, "dropout on the inputs and before the readout, in training")


@attrs.frozen
class MetaGRUOptions:
    """Options of the GRU meta-model; the defaults are Table 1 of the paper."""

    hidden_size: int = positive(512, "units of the hidden state", most=2**20)
    embedding_size: int = positive(256, "size of the meta-model's own token embedding (token inputs only)", most=2**20)


@attrs.frozen
class MetaGRUStackOptions:
    """Options of the meta-model of several GRUs."""

    layers: int = positive(2, "layers, each a site", most=1000)
    bidirectional: bool = option(False, "two GRUs in each layer, one of which reads from the last step to the first")
    hidden_size: int = positive(256, "units of each layer, in each direction", most=2**20)
    embedding_size: int = positive(256, "size of the meta-model's own token embedding (token inputs only)", most=2**20)


@hookimpl
def dynamo_components() -> Iterable[Component]:
    """Three architectures and two meta-models."""
    return [
        Component("architecture", "gru", "dynamo_rnn.models:GRU.build", "gated recurrent unit", RecurrentOptions),
        Component(
            "architecture", "rnn", "dynamo_rnn.models:TanhRNN.build", "vanilla RNN with tanh units", RecurrentOptions
        ),
        Component(
            "architecture",
            "lstm",
            "dynamo_rnn.models:LSTM.build",
            "long short-term memory; its state is [h; c]",
            RecurrentOptions,
        ),
        Component(
            "meta-model",
            "gru",
            "dynamo_rnn.meta:MetaGRU",
            "GRU that reads [x_t; θ] at every step (B.1)",
            MetaGRUOptions,
        ),
        Component(
            "meta-model",
            "gru-stack",
            "dynamo_rnn.stack:MetaGRUStack",
            "layers of GRUs, in one direction or in both, each a site",
            MetaGRUStackOptions,
        ),
    ]
