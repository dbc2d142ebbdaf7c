"""The contract of data sets."""

import torch
from torch import Tensor

from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.testing.claims import claim


def check_dataset(dataset: Dataset) -> None:
    """Check the contract of :class:`dynamo.Dataset`: examples that fit its spaces and can be split in halves.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import component
        >>> from dynamo.testing import check_dataset
        >>> check_dataset(component("dataset", "flip-flop").make({"train_size": 10, "test_size": 4}))
    """
    claim(isinstance(dataset, Dataset), f"contract: {type(dataset).__name__} is no Dataset")
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        _check_inputs(examples, dataset.inputs, part)
        for name, encoding in examples.inputs.encodings.items():
            _check_inputs(Examples(encoding.inputs), encoding.space, f"{part}, encoding {name!r}")
        if examples.targets is not None:
            _check_targets(examples.targets, examples, dataset.task, part)
    try:
        dataset.check("this one")
        half, rest = (dataset.train[:0], dataset.probes()) if dataset.only_probes else dataset.halves()
    except DynamoError as error:
        raise AssertionError(f"examples: {error}") from error
    claim(len(half) + len(rest) == len(dataset.train), "halves: they do not make up the training examples")
    train, test = dataset.train.inputs.values, dataset.test.inputs.values
    claim(not torch.equal(train, test), "test: the test examples are the training examples")
    if dataset.tokens:
        claim(
            len(dataset.tokens) == dataset.inputs.size,
            f"tokens: there are {len(dataset.tokens)} words for {dataset.inputs.size} token ids",
        )


def _check_inputs(examples: Examples, space: InputSpace, part: str) -> None:
    values, mask = examples.inputs.values, examples.inputs.mask
    if space.kind == "tokens":
        claim(
            values.dtype == torch.int64,
            f"dtype: the token ids ({part}) are {values.dtype}; the contract says torch.int64",
        )
        claim(
            values.ndim == 2,
            f"shape: the token ids ({part}) have shape {tuple(values.shape)}; the contract says (examples, steps)",
        )
        return
    claim(
        values.dtype == torch.float32, f"dtype: the inputs ({part}) are {values.dtype}; the contract says torch.float32"
    )
    steps = mask.shape[1:] if space.kind == "real" else ()
    expected = (len(examples), *steps, *space.shape)
    claim(
        tuple(values.shape) == expected,
        f"shape: the inputs ({part}) have shape {tuple(values.shape)}; the contract says {expected}",
    )
    whole = mask.shape[1] == 1 and bool(mask.all())
    claim(space.kind == "real" or whole, f"mask: that of images ({part}) is one real step [B, 1] each")


def _check_targets(targets: Tensor, examples: Examples, space: OutputSpace, part: str) -> None:
    dtype = torch.int64 if space.kind == "classes" else torch.float32
    claim(targets.dtype == dtype, f"dtype: the targets ({part}) are {targets.dtype}; {space.kind} say {dtype}")
    steps = tuple(examples.inputs.mask.shape[1:]) if space.readout == "every" else ()
    expected = (len(examples), *steps, *(() if space.kind == "classes" else (space.size,)))
    claim(
        tuple(targets.shape) == expected,
        f"shape: the targets ({part}) have shape {tuple(targets.shape)}; readout {space.readout!r} says {expected}",
    )
