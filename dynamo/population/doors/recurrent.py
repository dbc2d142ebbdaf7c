"""Recurrent networks by the names and shapes of their parameters: torch's GRU, LSTM or RNN of any layers and
directions, with an embedding or without, and one linear readout or none.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dynamo.contracts.errors import DynamoError, printable
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import Readout

_WEIGHT = re.compile(r"(?:(.*)\.)?weight_ih_l(\d{1,3})(_reverse)?")
#: The rows of a weight for each unit tell the kind of layer.
_KINDS: dict[int, type[nn.RNNBase]] = {1: nn.RNN, 3: nn.GRU, 4: nn.LSTM}


@attrs.frozen
class Layout:
    """What a state dict of a recurrent network is made of.

    Attributes:
        kind: the class of its recurrent layers.
        prefix: of their parameters.
        sizes: input size, hidden size, layers, projection (0 for none).
        bidirectional, bias: of the layers.
        embedding, readout: the prefixes of these parts; None where there are none.
        shapes: of their weights.
        readout_bias: whether the readout has one.
    """

    kind: type[nn.RNNBase]
    prefix: str
    sizes: tuple[int, int, int, int]
    bidirectional: bool
    bias: bool
    embedding: str | None
    readout: str | None
    shapes: Mapping[str, tuple[int, ...]]
    readout_bias: bool

    __repr__ = brief

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Layout":
        """The layout of a state dict.

        Raises:
            DynamoError: it has no recurrent layers, or parts of which it is not clear what they are for.
        """
        matches = [match for match in map(_WEIGHT.fullmatch, tensors) if match]
        prefixes = sorted({match[1] or "" for match in matches})
        if len(prefixes) != 1:
            what = f"several recurrent layers ({', '.join(map(printable, prefixes))})" if prefixes else "none"
            raise DynamoError(
                "its parts can only be told from the names of its parameters where there are recurrent layers of torch "
                f"under one name (weight_ih_l0), and it has {what}: say what it is with --module FILE.py:CLASS or "
                "--architecture NAME"
            )
        prefix = prefixes[0]
        own = {key: tensor for key, tensor in tensors.items() if _parent(key) == prefix and _is_recurrent(key)}
        dotted = f"{prefix}." if prefix else ""
        first, hidden = tensors[f"{dotted}weight_ih_l0"], tensors.get(f"{dotted}weight_hh_l0")
        if first.ndim != 2 or hidden is None or hidden.ndim != 2 or 0 in (*first.shape, *hidden.shape):
            raise DynamoError(f"{printable(dotted)}weight_ih_l0 and weight_hh_l0 are no weights of a recurrent layer")
        projection = tensors.get(f"{dotted}weight_hr_l0")
        size = hidden.shape[1] if projection is None else projection.shape[-1]
        kind = _KINDS.get(len(first) // size) if len(first) % size == 0 else None
        if kind is None or (projection is not None and kind is not nn.LSTM):
            raise DynamoError(
                f"{printable(dotted)}weight_ih_l0 has {len(first)} rows for {size} units; a GRU has 3 for each, an "
                "LSTM 4, an RNN 1"
            )
        layers = 1 + max(int(match[2]) for match in matches)
        bidirectional = any(match[3] for match in matches)
        answered = (size if projection is None else hidden.shape[1]) * (1 + bidirectional)
        embedding, readout = _parts(tensors.keys() - own.keys(), tensors, first.shape[1], answered)
        shapes = {part: tuple(tensors[f"{part}.weight"].shape) for part in (embedding, readout) if part is not None}
        projected = 0 if projection is None else hidden.shape[1]
        return cls(
            kind,
            prefix,
            (first.shape[1], size, layers, projected),
            bidirectional,
            f"{dotted}bias_ih_l0" in tensors,
            embedding,
            readout,
            shapes,
            readout is not None and f"{readout}.bias" in tensors,
        )

    def names(self, key: str) -> str:
        """The name of a parameter of :class:`RecurrentNetwork` in the state dict."""
        part, _, rest = key.partition(".")
        prefix = {"layers": self.prefix, "embedding": self.embedding, "head": self.readout}[part]
        return f"{prefix}.{rest}" if prefix else rest

    def __str__(self) -> str:
        count, size = self.sizes[2], self.sizes[1]
        many = f"{count} layers" if count > 1 else "1 layer"
        both = "bidirectional " if self.bidirectional else ""
        return f"{both}{self.kind.__name__} of {many} of {size} units"


class RecurrentNetwork(nn.Module):
    """Layers as a layout says.

    Args:
        layout: the parts and their sizes.
        answers: when the readout answers: at every step, or ``last``, once, from the last state of each direction, as
            torch's ``h_n`` has them.
        nonlinearity: of an RNN, ``tanh`` or ``relu``, which its parameters do not tell.
    """

    def __init__(self, layout: Layout, answers: Readout = "last", nonlinearity: str = "tanh") -> None:
        super().__init__()
        features, units, layers, projected = layout.sizes
        more: dict[str, Any] = {"nonlinearity": nonlinearity} if layout.kind is nn.RNN else {}
        more |= {"proj_size": projected} if projected else {}
        make = cast(Any, layout.kind)
        self.layers = make(
            features, units, layers, bias=layout.bias, batch_first=True, bidirectional=layout.bidirectional, **more
        )
        self.embedding: nn.Embedding | None = None
        if layout.embedding is not None:
            tokens, width = layout.shapes[layout.embedding]
            self.embedding = nn.Embedding(tokens, width)
        self.head: nn.Linear | None = None
        if layout.readout is not None:
            outputs, inputs = layout.shapes[layout.readout]
            self.head = nn.Linear(inputs, outputs, bias=layout.readout_bias)
        self.answers = answers

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs ``[B, T, K]``, or ``[B, K]`` where it answers once; ``lengths`` ``[B]`` are those of ``x``."""
        values = x if self.embedding is None else self.embedding(x)
        packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, last = self.layers(packed)
        if self.answers == "every":
            found = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])[0]
        else:
            last = last[0] if isinstance(last, tuple) else last
            found = torch.cat(list(last[-2:] if self.layers.bidirectional else last[-1:]), dim=-1)
        return found if self.head is None else self.head(found)


def _parent(key: str) -> str:
    return key.rpartition(".")[0]


def _is_recurrent(key: str) -> bool:
    return re.fullmatch(r"(weight|bias)_(ih|hh|hr)_l\d+(_reverse)?", key.rpartition(".")[2]) is not None


def _parts(
    keys: set[str], tensors: Mapping[str, Tensor], features: int, answered: int
) -> tuple[str | None, str | None]:
    """The embedding and the readout among what is no recurrent layer."""
    embedding = readout = None
    left = set(keys)
    for key in sorted(keys):
        part = _parent(key)
        if not part or key != f"{part}.weight" or tensors[key].ndim != 2:
            continue
        rows, width = tensors[key].shape
        bias = f"{part}.bias"
        has_bias = bias in keys and tuple(tensors[bias].shape) == (rows,)
        if width == answered and readout is None and (has_bias or width != features or embedding is not None):
            readout, left = part, left - {key, bias}
        elif width == features and embedding is None and bias not in keys:
            embedding, left = part, left - {key}
    if left:
        raise DynamoError(
            f"it has recurrent layers, and {', '.join(map(printable, sorted(left)[:4]))}, of which it is not clear "
            "what they are for: say what it is with --module FILE.py:CLASS"
        )
    return embedding, readout
