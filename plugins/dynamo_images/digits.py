"""Handwritten digits as images.

The 1,797 images of 8 x 8 grey values that scikit-learn ships (E. Alpaydin and C. Kaynak, 1998, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository).
"""

from typing import TYPE_CHECKING

import torch
from sklearn.datasets import load_digits

from dynamo.contracts.data import Dataset
from dynamo_images.pixels import Images, as_dataset

if TYPE_CHECKING:
    from dynamo_images import DigitsOptions


def digits(options: "DigitsOptions") -> Dataset:
    """The digits, one channel of 8 x 8 pixels, ten classes; a random share of them is the test."""
    found = load_digits()
    pixels, classes = torch.from_numpy(found.images).to(torch.uint8)[:, None], torch.from_numpy(found.target).long()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(options.seed))
    tested = min(max(round(len(order) * options.test_fraction), 1), len(order) - 1)
    train, test = (Images(pixels[rows], classes[rows]) for rows in (order[tested:], order[:tested]))
    return as_dataset("digits", train, test, 10, options)
