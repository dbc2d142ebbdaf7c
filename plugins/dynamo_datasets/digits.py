"""Handwritten digits read row by row: an image task for recurrent networks.

The 1,797 images of 8 x 8 grey values that scikit-learn ships (E. Alpaydin and C. Kaynak, 1998, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository).
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from dynamo import Dataset, DynamoError, Encoding, Examples, Inputs, InputSpace, OutputSpace
from dynamo.contracts import did_you_mean
from dynamo_datasets.split import split_rows

if TYPE_CHECKING:
    from dynamo_datasets import DigitsRowsOptions

_WHITE = 16
#: Other encodings than rows, and how many pixels a step has there.
ENCODINGS = {"pixels": 1, "row-pairs": 16}


def digits_rows(options: "DigitsRowsOptions") -> Dataset:
    """The digits as 8 steps, top row first, of 8 grey values in [0, 1]; ten classes, read at the last step.

    Other encodings are ``pixels``, 64 steps of one value, a row from left to right, and ``row-pairs``, 4 steps of two
    rows: they meet the rows at the end of each row, and of each second row.

    Raises:
        DynamoError: an unknown encoding.
    """
    names = [name for name in options.encodings.split("+") if name]
    for name in names:
        if name not in ENCODINGS:
            raise DynamoError(f"data set 'digits-rows' has no encoding {name!r}: {did_you_mean(name, ENCODINGS)}")
    digits = load_digits()
    images = (digits.images / _WHITE).astype(np.float32)
    labels = digits.target.astype(np.int64)

    def examples(rows: NDArray[np.int64]) -> Examples:
        values = torch.from_numpy(images[rows])
        inputs = _inputs(values)
        for name in names:
            inputs = inputs.with_encoding(name, _encoding(values, name))
        return Examples(inputs, torch.from_numpy(labels[rows]))

    train, test = split_rows(len(images), options.test_fraction, options.seed, name="digits-rows")
    space = InputSpace("real", (images.shape[2],))
    task = OutputSpace("classes", 10, group="digits")
    return Dataset(space, task, examples(train), examples(test), encoding="rows")


def _encoding(images: Tensor, name: str) -> Encoding:
    """Images ``[n, 8, 8]`` cut into steps of one size, row by row."""
    size, (count, height, width) = ENCODINGS[name], images.shape
    read = torch.arange(1, height + 1) * width  # pixels at the end of each row
    steps = torch.where(read % size == 0, read // size - 1, -1).expand(count, height)
    return Encoding(InputSpace("real", (size,)), _inputs(images.reshape(count, -1, size)), steps.contiguous())


def _inputs(values: Tensor) -> Inputs:
    return Inputs(values, torch.ones(values.shape[:2], dtype=torch.bool))
