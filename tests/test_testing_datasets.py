"""The check of data sets passes sound ones, and fails each mutant that breaks one contract."""

import attrs
import pytest
import torch

from dynamo import Dataset, Encoding, Examples, Inputs, OutputSpace
from dynamo.testing import check_dataset
from sound import IMAGE, REAL, TOKENS, breaks, sound_dataset

SPACES = [TOKENS, REAL, IMAGE]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(
    "outputs", [OutputSpace(kind, 2, readout) for kind in ("classes", "real") for readout in ("last", "every")], ids=str
)
def test_sound_data_sets_pass(space, outputs):
    check_dataset(sound_dataset(space, outputs))


def test_a_sound_data_set_of_two_encodings_passes():
    check_dataset(with_encoding(TEXT, ALIKE, clock(TEXT.train)))


def with_train(dataset: Dataset, values=None, mask=None, targets=None) -> Dataset:
    old = dataset.train
    values = old.inputs.values if values is None else values
    inputs = Inputs(values, old.inputs.mask if mask is None else mask)
    return attrs.evolve(dataset, train=Examples(inputs, old.targets if targets is None else targets))


TEXT, VECTORS, IMAGES = (sound_dataset(space) for space in SPACES)
REAL_TARGETS = sound_dataset(SPACES[1], OutputSpace("real", 2, "every"))
MASK = TEXT.train.inputs.mask


def with_encoding(dataset: Dataset, values: torch.Tensor, steps: torch.Tensor, space=REAL) -> Dataset:
    """Texts whose training examples come in vectors too, and whose test examples do as they should."""

    def read(examples: Examples, values: torch.Tensor, steps: torch.Tensor) -> Examples:
        encoding = Encoding(space, Inputs(values, examples.inputs.mask), steps)
        return Examples(examples.inputs.with_encoding("vectors", encoding), examples.targets)

    test = read(dataset.test, torch.zeros(*dataset.test.inputs.mask.shape, *REAL.shape), clock(dataset.test))
    return attrs.evolve(dataset, train=read(dataset.train, values, steps), test=test)


def clock(examples: Examples) -> torch.Tensor:
    mask = examples.inputs.mask
    return torch.where(mask, torch.arange(mask.shape[1]), -1)


ALIKE = torch.zeros(*MASK.shape, *REAL.shape)
MUTANTS = {
    "no data set": ("data", "contract: "),
    "int32 tokens": (with_train(TEXT, TEXT.train.inputs.values.int()), r"dtype: the token ids \(train\)"),
    "one-hot tokens": (with_train(TEXT, torch.ones(10, 7, 11, dtype=torch.int64)), "shape: the token ids"),
    "double numbers": (with_train(VECTORS, VECTORS.train.inputs.values.double()), "dtype: the inputs"),
    "other size": (with_train(VECTORS, torch.ones(10, 7, 4)), "shape: the inputs"),
    "other channels": (with_train(IMAGES, torch.ones(10, 3, 4, 4)), "shape: the inputs"),
    "image of several steps": (with_train(IMAGES, mask=torch.ones(10, 2, dtype=torch.bool)), "mask: that of images"),
    "vectors of another size": (with_encoding(TEXT, ALIKE[..., :1], clock(TEXT.train)), r"shape: .*encoding 'vectors'"),
    "double vectors": (with_encoding(TEXT, ALIKE.double(), clock(TEXT.train)), r"dtype: .*encoding 'vectors'"),
    "a clock beyond the end": (
        with_encoding(TEXT, ALIKE, clock(TEXT.train) + 7 * MASK),
        r"examples: .*has a step beyond its end",
    ),
    "float classes": (with_train(TEXT, targets=torch.ones(10)), "dtype: the targets"),
    "integer numbers": (
        with_train(REAL_TARGETS, targets=torch.ones(10, 7, 2, dtype=torch.int64)),
        "dtype: the targets",
    ),
    "targets a step": (with_train(TEXT, targets=torch.ones(10, 7, dtype=torch.int64)), "shape: the targets"),
    "one target for all steps": (with_train(REAL_TARGETS, targets=torch.ones(10, 2)), "shape: the targets"),
    "unknown class": (with_train(TEXT, targets=torch.full((10,), 2)), "examples: .* classes outside"),
    "unknown token": (with_train(TEXT, TEXT.train.inputs.values + 11 * MASK), "examples: .* beyond the vocabulary"),
    "padding only": (with_train(TEXT, mask=MASK & (torch.arange(10) != 3)[:, None]), "examples: .* all padding"),
    "padding on the left": (with_train(TEXT, mask=MASK.flip(1)), "examples: .* pad on the right"),
    "NaN": (with_train(VECTORS, VECTORS.train.inputs.values * torch.nan), "examples: .* NaN"),
    "one example": (attrs.evolve(TEXT, train=TEXT.train[:1]), "examples: .* at least 2"),
    "tests on the training examples": (attrs.evolve(TEXT, test=TEXT.train), "test: "),
    "too few words": (attrs.evolve(TEXT, tokens=("the", "a")), "tokens: "),
}


@pytest.mark.parametrize(("mutant", "broken"), MUTANTS.values(), ids=MUTANTS)
def test_check_dataset_fails_each_mutant(mutant, broken):
    with breaks(broken):
        check_dataset(mutant)


def test_halves_must_make_up_the_training_examples():
    class Loses(Dataset):
        def halves(self, seed=0):
            half, rest = super().halves(seed)
            return half, rest[1:]

    with breaks("halves: "):
        check_dataset(Loses(TEXT.inputs, TEXT.outputs, TEXT.train, TEXT.test))
