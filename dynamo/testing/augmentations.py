"""The contract of augmentations."""

import torch

from dynamo.contracts.protocols import Augmentation
from dynamo.contracts.trajectory import Inputs
from dynamo.testing.claims import claim


def check_augmentation(augmentation: Augmentation, inputs: Inputs) -> None:
    """Check an augmentation on a batch: shape and kind of number kept, the batch left alone, seeded, random, finite.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import InputSpace, component
        >>> from dynamo.testing import check_augmentation, example_inputs
        >>> space = InputSpace("image", (3, 8, 8))
        >>> check_augmentation(component("augmentation", "weak").make({}, space), example_inputs(space))
    """
    values = inputs.values
    before = values.clone()
    runs = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 0, 1, 2, 3, 4):
            torch.manual_seed(seed)
            runs.append(augmentation(values))
    claim(torch.equal(values, before), "purity: the batch was changed in place; return a changed copy")
    for changed in runs:
        claim(changed.shape == values.shape, f"shape: {tuple(values.shape)} became {tuple(changed.shape)}")
        claim(changed.dtype == values.dtype, f"dtype: {values.dtype} became {changed.dtype}")
        claim(bool(changed.isfinite().all()), "finite: the changed batch has NaN or infinite values")
    claim(torch.equal(runs[0], runs[1]), "determinism: one seed of torch gave two results; use torch's randomness")
    claim(any(not torch.equal(runs[0], other) for other in runs[2:]), "randomness: five seeds gave one result")
