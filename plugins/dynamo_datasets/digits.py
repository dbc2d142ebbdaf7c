"""Handwritten digits read row by row: an image task for recurrent networks.

The 1,797 images of 8 x 8 grey values that scikit-learn ships (E. Alpaydin and C. Kaynak, 1998, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository).
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from dynamo import Dataset, Examples, Inputs, InputSpace, OutputSpace
from dynamo_datasets.split import split_rows

if TYPE_CHECKING:
    from dynamo_datasets import DigitsRowsOptions

_WHITE = 16


def digits_rows(options: "DigitsRowsOptions") -> Dataset:
    """The digits as 8 steps, top row first, of 8 grey values in [0, 1]; ten classes, read at the last step."""
    digits = load_digits()
    images = (digits.images / _WHITE).astype(np.float32)
    labels = digits.target.astype(np.int64)

    def examples(rows: NDArray[np.int64]) -> Examples:
        values = torch.from_numpy(images[rows])
        return Examples(Inputs(values, torch.ones(values.shape[:2], dtype=torch.bool)), torch.from_numpy(labels[rows]))

    train, test = split_rows(len(images), options.test_fraction, options.seed, name="digits-rows")
    space = InputSpace("real", (images.shape[2],))
    return Dataset(space, OutputSpace("classes", 10, group="digits"), examples(train), examples(test))
