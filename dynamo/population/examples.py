"""Examples as users have them: tensors, arrays, pairs, torch data sets and loaders, data sets of Hugging Face, frames,
and texts with a tokenizer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError, InvalidValueError, WrongTypeError
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Inputs, collate, pad_time
from dynamo.population.wrapping.batches import MASKS, TARGETS, VALUES, as_batch, as_tensor, padded_right

#: What a column of texts is called, in the order in which it is looked for.
TEXTS = ("text", "texts", "sentence", "sentences", "review", "content", "document")

#: Texts to token ids: for a list of them, or for each by itself.
Tokenizer = Callable[[Any], Any]

WHERE = "the inputs"


def examples_of(given: Any, tokenizer: Tokenizer | None = None) -> Examples:
    """Inputs, and targets where there are any, from what users have.

    Args:
        given: a tensor or array of inputs as :func:`dynamo.wrap` takes them; a pair of inputs and targets, or of values
            and a mask (bool ``[B, T]``), or all three; a dictionary or a frame with columns; a torch ``Dataset`` of
            inputs, pairs or dictionaries, or a ``DataLoader`` of batches of them; a data set of Hugging Face; a list of
            texts. Sequences may have different lengths.
        tokenizer: what makes ids of texts: a function of a list of texts or of one, that gives ids or a dictionary with
            ``input_ids``, as tokenizers of ``transformers`` do.

    Raises:
        WrongTypeError: something else, or texts without a tokenizer.
        InvalidValueError: no examples, or parts that do not fit one another.
    """
    if isinstance(given, Examples):
        return given
    if isinstance(given, IterableDataset):
        return _of_rows(list(given))
    if isinstance(given, DataLoader):
        return _of_batches(given)
    if isinstance(given, Mapping) or _is_frame(given) or _is_columns(given):
        return _of_columns(_columns(given), tokenizer)
    if isinstance(given, TorchDataset) or _has_rows(given):
        return _of_rows([given[row] for row in range(len(given))])
    if _are_texts(given):
        return _of_columns({TEXTS[0]: list(given)}, tokenizer)
    if isinstance(given, tuple | list) and given and not _is_nested_numbers(given):
        return _of_parts(given)
    return Examples(as_batch(given, WHERE))


def fitting(targets: Tensor, space: OutputSpace) -> Tensor:
    """Targets in the form that an output space asks for: classes as int64, numbers as float32 ``[..., K]``."""
    if space.kind == "classes":
        if targets.is_floating_point() and bool((targets == targets.round()).all()):
            targets = targets.long()
        return targets if targets.is_floating_point() else targets.long()
    steps = 2 if space.readout == "every" else 1
    targets = targets.float()
    return targets[..., None] if targets.ndim == steps and space.size == 1 else targets


def _of_parts(given: Sequence[Any]) -> Examples:
    if len(given) not in (2, 3):
        raise InvalidValueError(
            f"{WHERE} are a {type(given).__name__} of {len(given)}: give inputs, (inputs, targets), (values, mask) or "
            "(values, mask, targets)"
        )
    first, second = given[0], given[1]
    if len(given) == 3 or _is_mask(second):
        inputs = as_batch((first, second), WHERE)
        return _with(inputs, given[2] if len(given) == 3 else None)
    return _with(as_batch(first, WHERE), second)


def _with(inputs: Inputs, targets: Any) -> Examples:
    if targets is None:
        return Examples(inputs)
    made = as_tensor(targets, "the targets")
    made = made.long() if made.dtype == torch.bool else made
    if len(made) != len(inputs):
        raise InvalidValueError(f"there are {len(inputs)} inputs and {len(made)} targets")
    return Examples(inputs, made)


def _of_columns(columns: Mapping[str, Any], tokenizer: Tokenizer | None) -> Examples:
    targets = next((columns[name] for name in TARGETS if name in columns), None)
    if not any(name in columns for name in VALUES):
        texts = _text_column(columns)
        if tokenizer is None:
            raise WrongTypeError(
                f"the column {texts!r} holds texts: give tokenizer=, a function that makes ids of them"
            )
        columns = _tokenized(tokenizer, [str(text) for text in columns[texts]])
    name = next((name for name in VALUES if name in columns), None)
    if name is None:
        raise InvalidValueError(f"the tokenizer gives {', '.join(columns)}: it must give ids, or input_ids")
    mask = next((columns[one] for one in MASKS if one in columns), None)
    return _with(_padded(columns[name], mask), targets)


def _text_column(columns: Mapping[str, Any]) -> str:
    named = [name for name in TEXTS if name in columns]
    own = named or [name for name in columns if name not in TARGETS and _are_texts(columns[name])]
    if len(own) != 1 and not named:
        raise InvalidValueError(
            f"{WHERE} have the columns {', '.join(columns) or 'none'}; inputs are called one of {', '.join(VALUES)}, "
            f"texts one of {', '.join(TEXTS)}"
        )
    return own[0]


def _tokenized(tokenizer: Tokenizer, texts: list[str]) -> Mapping[str, Any]:
    """The columns that a tokenizer gives: text by text where it makes flat ids of one, else for all at once."""
    try:
        one = tokenizer(texts[0])
        flat = _is_flat(one[VALUES[0]] if isinstance(one, Mapping) else one)
    except Exception:  # it may take lists alone
        flat = False
    if not flat:
        found = tokenizer(texts)
        return found if isinstance(found, Mapping) else {VALUES[0]: found}
    each = [one, *(tokenizer(text) for text in texts[1:])]
    if isinstance(one, Mapping):
        return {key: [own[key] for own in each] for key in one}
    return {VALUES[0]: each}


def _is_flat(ids: Any) -> bool:
    return as_tensor(ids, "what the tokenizer gives").ndim == 1


def _padded(values: Any, mask: Any) -> Inputs:
    """Inputs from a column: one array, or a value an example, of different lengths where there is no mask for it."""
    if isinstance(values, Tensor) or (isinstance(values, np.ndarray) and values.dtype.kind != "O"):
        return as_batch(values if mask is None else (values, mask), WHERE)
    rows = [as_tensor(value, f"input {number}") for number, value in enumerate(values)]
    if not rows:
        raise InvalidValueError(f"{WHERE} have no examples")
    if len({tuple(row.shape) for row in rows}) == 1:
        stacked = torch.stack(rows)
        return as_batch(stacked if mask is None else (stacked, np.stack([np.asarray(one) for one in mask])), WHERE)
    longest = max(len(row) for row in rows)
    alike = {(row.ndim, tuple(row.shape[1:])) for row in rows}
    if len(alike) > 1 or rows[0].ndim not in (1, 2):
        raise InvalidValueError(
            f"{WHERE} have different shapes: {', '.join(sorted({str(tuple(r.shape)) for r in rows}))}"
        )
    together = torch.cat([pad_time(row[None], longest) for row in rows])
    real = torch.stack([torch.arange(longest) < len(row) for row in rows])
    if mask is not None:
        masks = [as_tensor(one, "a mask") != 0 for one in mask]
        real &= torch.cat([pad_time(one[None], longest) for one in masks])
    checked = as_batch(together, WHERE)
    return padded_right(checked.values, real, WHERE)


def _of_rows(rows: Sequence[Any]) -> Examples:
    """From examples one by one: inputs, pairs with a target, or dictionaries."""
    if not rows:
        raise InvalidValueError(f"{WHERE} have no examples")
    if isinstance(rows[0], Mapping):
        return _of_columns({key: [row[key] for row in rows] for key in rows[0]}, None)
    if isinstance(rows[0], tuple | list):
        targets = [row[1] for row in rows] if len(rows[0]) > 1 else None
        return _with(_padded([row[0] for row in rows], None), None if targets is None else _stacked(targets))
    return Examples(_padded(list(rows), None))


def _of_batches(loader: Iterable[Any]) -> Examples:
    parts = [_of_batch(batch) for batch in loader]
    if not parts:
        raise InvalidValueError("the loader has no batches")
    targets = [part.targets for part in parts if part.targets is not None]
    return _with(collate([part.inputs for part in parts]), torch.cat(targets) if len(targets) == len(parts) else None)


def _of_batch(batch: Any) -> Examples:
    if isinstance(batch, Mapping):
        return _of_columns(batch, None)
    if isinstance(batch, tuple | list):
        return _of_parts(batch) if len(batch) > 1 else Examples(as_batch(batch[0], WHERE))
    return Examples(as_batch(batch, WHERE))


def _stacked(targets: Sequence[Any]) -> Tensor:
    try:
        return torch.stack([as_tensor(target, "a target") for target in targets])
    except RuntimeError:
        raise InvalidValueError("the targets have different shapes: they must be one for each example") from None


def _columns(given: Any) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    if _is_frame(given):
        return {str(key): values for key, values in given.to_dict("list").items()}
    return {name: list(given[name]) for name in given.column_names}


def _is_frame(given: Any) -> bool:
    return hasattr(given, "to_dict") and hasattr(given, "columns") and not isinstance(given, Mapping)


def _is_columns(given: Any) -> bool:
    """Whether it is a data set of Hugging Face."""
    return hasattr(given, "column_names") and hasattr(given, "__getitem__")


def _has_rows(given: Any) -> bool:
    """Whether it is a data set of somebody's own class, with rows by number."""
    known = (Tensor, np.ndarray, Inputs, PackedSequence, tuple, list, str, bytes)
    return not isinstance(given, known) and hasattr(given, "__getitem__") and hasattr(given, "__len__")


def _are_texts(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str) and bool(given) and isinstance(given[0], str)


def _is_nested_numbers(given: Sequence[Any]) -> bool:
    return isinstance(given[0], int | float) or (isinstance(given[0], list) and _is_nested_numbers(given[0] or [0]))


def _is_mask(given: Any) -> bool:
    try:
        made = as_tensor(given, "")
    except DynamoError:
        return False
    return made.dtype == torch.bool and made.ndim == 2
