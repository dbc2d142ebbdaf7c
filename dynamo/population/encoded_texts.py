"""Texts in the encodings of several tokenizers, for networks that do not read them alike."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dynamo.contracts.encoding import Encoding, match_steps
from dynamo.contracts.errors import DynamoError, InvalidValueError
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo.population.examples import Tokenizer

#: Under which names a tokenizer tells where in the text its tokens are.
_SPANS, _ENDS = "offset_mapping", "ends"


def encode_texts(
    texts: Sequence[str], tokenizers: Mapping[str, Tokenizer], sizes: Mapping[str, int] | None = None
) -> Inputs:
    """Texts as token ids of several tokenizers, which meet where tokens of both end at one character.

    Args:
        texts: the raw examples.
        tokenizers: name to tokenizer; the first makes what the meta-model reads. Each is called with one text, and
            gives a dictionary with ``input_ids``, and where each token ends: ``ends``, or pairs of start and end as
            ``offset_mapping``, which fast tokenizers of ``transformers`` give (they are asked for it).
        sizes: ids that a tokenizer has; by default what it says by ``len()``, or one more than the largest id.

    Raises:
        InvalidValueError: no texts or tokenizers, a text without tokens, or tokens that are not told where they end.
        DynamoError: a tokenizer fails.

    Example:
        >>> from dynamo import encode_texts
        >>> def words(text):
        ...     found = text.split()
        ...     ends = [len(" ".join(found[: count + 1])) for count in range(len(found))]
        ...     return {"input_ids": [len(word) for word in found], "ends": ends}
        >>> def letters(text):
        ...     return {"input_ids": [ord(letter) % 32 for letter in text], "ends": range(1, len(text) + 1)}
        >>> inputs = encode_texts(["so good", "no"], {"words": words, "letters": letters}, {"letters": 32})
        >>> inputs.values.tolist(), inputs.read_as("letters").steps.tolist()
        ([[2, 4], [2, 0]], [[1, 6], [1, -1]])
    """
    if not texts or not tokenizers:
        raise InvalidValueError("give texts, and a tokenizer at least")
    shared, *others = tokenizers
    inputs, times = _read_all(tokenizers[shared], texts, shared)
    for name in others:
        own, own_times = _read_all(tokenizers[name], texts, name)
        size = (sizes or {}).get(name) or _size(tokenizers[name]) or int(own.values.max()) + 1
        steps = match_steps(times, inputs.mask, own_times, own.mask)
        encoding = Encoding(InputSpace("tokens", (size,)), own, steps)
        encoding.check(inputs.mask, where=f"encoding {name!r}")
        inputs = inputs.with_encoding(name, encoding)
    return inputs


def _read_all(tokenizer: Tokenizer, texts: Sequence[str], name: str) -> tuple[Inputs, Tensor]:
    """The texts as ids, and where in them each token ends ``[B, T]``."""
    ids, ends = zip(*(_read(tokenizer, text, name) for text in texts), strict=True)
    lengths = torch.tensor([len(row) for row in ids])
    return Inputs(_padded(ids), torch.arange(int(lengths.max())) < lengths[:, None]), _padded(ends)


def _read(tokenizer: Tokenizer, text: str, name: str) -> tuple[list[int], list[int]]:
    """The ids of a text, and where their tokens end; what stands for no characters ends where the one before does."""
    asked = {"return_offsets_mapping": True} if getattr(tokenizer, "is_fast", False) else {}
    try:
        found: Any = tokenizer(text, **asked)
    except Exception as error:
        raise DynamoError(f"tokenizer {name!r} fails on the text {text[:60]!r} ({error})") from error
    if not isinstance(found, Mapping) or "input_ids" not in found or not {_SPANS, _ENDS} & found.keys():
        raise InvalidValueError(
            f"tokenizer {name!r} must give a dictionary with 'input_ids' and {_ENDS!r} or {_SPANS!r}, which say where "
            "in the text each token ends: without it there are no steps at which encodings meet"
        )
    ids = [int(one) for one in found["input_ids"]]
    ends = [int(one) for one in found[_ENDS]] if _ENDS in found else [int(end) for _, end in found[_SPANS]]
    if not ids or len(ids) != len(ends):
        raise InvalidValueError(
            f"tokenizer {name!r} gives {len(ids)} ids and {len(ends)} ends for the text {text[:60]!r}: it must give as "
            "many, and at least one; drop texts without tokens"
        )
    return ids, list(accumulate(ends, max))


def _size(tokenizer: Any) -> int:
    return len(tokenizer) if hasattr(tokenizer, "__len__") else int(getattr(tokenizer, "vocab_size", 0))


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True)
