"""Augmentations against what they must and must not change, and base training with them."""

import pytest
import torch

from dynamo import Augmentation, Dataset, DynamoError, InputSpace, Spec
from dynamo.registry import make
from dynamo.testing import check_augmentation, example_inputs
from dynamo.training.base_models import BaseTrainingOptions, jobs, train_base_model
from dynamo_images.augmentations import Strong, Weak

GREY, COLOUR = InputSpace("image", (1, 8, 8)), InputSpace("image", (3, 12, 10))


@pytest.mark.parametrize("space", [GREY, COLOUR])
@pytest.mark.parametrize("name", ["weak", "strong"])
def test_contract(name, space):
    augmentation = make("augmentation", name, Augmentation, space)
    check_augmentation(augmentation, example_inputs(space, batch=8))


def test_weak_images_are_all_the_shifts_and_flips_and_nothing_else():
    image = torch.arange(64.0).reshape(1, 8, 8)
    seen = {tuple(item.flatten().tolist()) for item in Weak(GREY, 1, True)(image.expand(2000, 1, 8, 8))}
    padded = torch.nn.functional.pad(image[None], (1, 1, 1, 1), mode="reflect")[0]
    wanted = set()
    for down in range(3):
        for right in range(3):
            part = padded[:, down : down + 8, right : right + 8]
            wanted |= {tuple(part.flatten().tolist()), tuple(part.flip(2).flatten().tolist())}
    assert seen == wanted


def test_no_shift_and_no_flip_is_the_identity():
    values = torch.randn(5, 3, 12, 10)
    assert torch.equal(Weak(COLOUR, 0, False)(values), values)


def test_strong_keeps_each_images_range():
    values = 3 * torch.randn(16, 3, 12, 10) + torch.arange(16.0)[:, None, None, None]
    changed = Strong(Weak(COLOUR, 0, False), 2, 9, 4)(values)
    low, high = values.amin((1, 2, 3)), values.amax((1, 2, 3))
    assert bool((changed.amin((1, 2, 3)) >= low - 1e-4).all())
    assert bool((changed.amax((1, 2, 3)) <= high + 1e-4).all())
    assert not torch.equal(changed, values)


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        ("weak", InputSpace("tokens", (7,)), "changes images, not token ids"),
        ("weak:shift=8", GREY, "a shift of 8 pixels"),
        ("strong", InputSpace("image", (2, 8, 8)), "1 or 3 channels; these have 2"),
    ],
)
def test_what_cannot_be_augmented_is_told(name, space, message):
    with pytest.raises(DynamoError, match=message):
        make("augmentation", name, Augmentation, space)


def test_base_training_sees_augmented_images_and_is_seeded():
    dataset = make("dataset", "digits:train_size=64,test_size=16", Dataset)
    job = jobs("test", [Spec("cifar-resnet", {"depth": 8, "width": 4})], [1.0], [0])[0]

    def weights(augmentation):
        options = BaseTrainingOptions(epochs=1, batch_size=16, augmentation=augmentation)
        _, model = next(iter(train_base_model(job, dataset, options)))
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    plain, weak, again = weights("none"), weights("weak:flip=false"), weights("weak:flip=false")
    assert torch.equal(weak, again)
    assert not torch.equal(plain, weak)
