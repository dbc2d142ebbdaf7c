"""The populations of the second round of ``distances.py``: none had been fitted when the default was changed.

Groups of 8 and 8 (or three of 6) networks that differ in one known thing of their training, and a control.
"""

from collections.abc import Callable

import attrs
import torch
from distance_populations import DIGITS, GRU, pair

from dynamo import Dataset, Examples, Inputs, Population
from dynamo.registry import make
from dynamo.training.base_models import BaseTrainingOptions

SENTENCES = "synthetic-sentiment:train_size=4000,test_size=400,max_length={}"
TEXT_GRU = "gru:hidden_size=16,embedding_size=16"
READING = BaseTrainingOptions(epochs=20, learning_rate=1e-2)


def changed(data: Dataset, change: Callable[[torch.Tensor], torch.Tensor]) -> Dataset:
    """The data set with other training inputs."""
    inputs = data.train.inputs
    return attrs.evolve(data, train=Examples(Inputs(change(inputs.values), inputs.mask), data.train.targets))


def digits(**recipes: BaseTrainingOptions) -> Population:
    """Digits read by rows, by GRUs of several recipes."""
    data = make("dataset", "digits-rows", Dataset)
    return pair({name: (GRU, data, options) for name, options in recipes.items()}, data)


def optimiser() -> Population:
    """AdamW, or stochastic gradient descent with momentum."""
    momentum = attrs.evolve(DIGITS, optimizer="sgd", learning_rate=0.1, batch_size=32)
    return digits(adamw=DIGITS, sgd=momentum)


def batch() -> Population:
    """Batches of 16 or of 256 examples."""
    return digits(small=attrs.evolve(DIGITS, batch_size=16, epochs=15), large=attrs.evolve(DIGITS, batch_size=256))


def epochs() -> Population:
    """10 or 40 passes over the examples."""
    return digits(short=attrs.evolve(DIGITS, epochs=10), long=attrs.evolve(DIGITS, epochs=40))


def input_noise() -> Population:
    """Taught with clean inputs, or with noise of half their standard deviation."""
    data = make("dataset", "digits-rows", Dataset)
    generator = torch.Generator().manual_seed(0)

    def noisy(values: torch.Tensor) -> torch.Tensor:
        return values + 0.5 * values.std() * torch.randn(values.shape, generator=generator)

    return pair({"clean": (GRU, data, DIGITS), "noisy": (GRU, changed(data, noisy), DIGITS)}, data)


def hidden_rows() -> Population:
    """Taught with all rows of a digit, or without its last two."""
    data = make("dataset", "digits-rows", Dataset)

    def cut(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values[:, :-2], torch.zeros_like(values[:, -2:])], dim=1)

    return pair({"all": (GRU, data, DIGITS), "cut": (GRU, changed(data, cut), DIGITS)}, data)


def width() -> Population:
    """GRUs of 12 or of 24 units."""
    data = make("dataset", "digits-rows", Dataset)
    sizes = {str(units): (f"gru:hidden_size={units}", data, DIGITS) for units in (12, 24)}
    return pair(sizes, data)


def cells() -> Population:
    """Sentences read by GRUs, LSTMs and tanh RNNs."""
    data = make("dataset", SENTENCES.format(10), Dataset)
    kinds = {name: (f"{name}:hidden_size=16,embedding_size=16", data, READING) for name in ("gru", "lstm", "rnn")}
    return pair(kinds, data, each=6)


def pulses() -> Population:
    """The 2-bit flip-flop, taught with rare or with frequent pulses; asked about pulses in between."""
    spec = "flip-flop:bits=2,steps=20,train_size=1600,test_size=300,pulse_probability={}"
    rare, frequent, common = (make("dataset", spec.format(chance), Dataset) for chance in (0.1, 0.4, 0.2))
    options = BaseTrainingOptions(epochs=20, learning_rate=1e-2, batch_size=64)
    return pair({"rare": (GRU, rare, options), "frequent": (GRU, frequent, options)}, common)


def length() -> Population:
    """Sentences of up to 6 or up to 12 words; asked about the longer ones."""
    short, long = (make("dataset", SENTENCES.format(words), Dataset) for words in (6, 12))
    return pair({"short": (TEXT_GRU, short, READING), "long": (TEXT_GRU, long, READING)}, long)


def augmented() -> Population:
    """Residual networks on pictures of digits, with or without augmentation."""
    data = make("dataset", "digits", Dataset)
    plain = BaseTrainingOptions(epochs=10, learning_rate=1e-2)
    architecture = "cifar-resnet:depth=8,width=8"
    recipes = {"plain": plain, "augmented": attrs.evolve(plain, augmentation="weak")}
    return pair({name: (architecture, data, options) for name, options in recipes.items()}, data, each=6)


def text_control() -> Population:
    """16 networks of one recipe on sentences, half of them called otherwise."""
    data = make("dataset", SENTENCES.format(10), Dataset)
    return pair({"one": (TEXT_GRU, data, READING), "other": (TEXT_GRU, data, READING)}, data)


FRESH: dict[str, Callable[[], Population]] = {
    "optimiser": optimiser,
    "batch": batch,
    "epochs": epochs,
    "input noise": input_noise,
    "hidden rows": hidden_rows,
    "width": width,
    "cells": cells,
    "pulses": pulses,
    "length": length,
    "augmented": augmented,
    "text control": text_control,
}
