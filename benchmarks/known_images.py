"""Residual networks whose groups are known: a few trained ones, each with copies that compute the same."""

from functools import cache

import torch
from torch import Tensor, nn

from dynamo import Dataset, Population, Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.population.base_model import BaseModel
from dynamo.registry import make
from dynamo.training.base_models import BaseTrainingOptions, Job, train_base_model
from dynamo_resnet.models import ResNet
from dynamo_resnet.residual import stages

ARCHITECTURE = Spec("cifar-resnet", {"depth": 8, "width": 8})
TRAINING = BaseTrainingOptions(epochs=10, learning_rate=1e-2)


@torch.no_grad()
def permuted(model: ResNet, data: Dataset, seed: int) -> ResNet:
    """A copy whose channels stand in another order, drawn for each stage and for the inside of each block.

    The order of a stage's channels is that of all its blocks, whose shortcuts carry it on; where a stage has no
    projection of the shortcut, it is that of the stage before.
    """
    generator = torch.Generator().manual_seed(seed)
    copy = make("architecture", ARCHITECTURE, DynamicalModel, data.inputs, data.outputs)
    copy.load_state_dict(model.state_dict())
    assert isinstance(copy, ResNet)
    network, drawn = copy.module, lambda size: torch.randperm(size, generator=generator)
    stream = drawn(network.conv1.out_channels)
    reorder(network.conv1, network.bn1, stream)
    for stage in stages(network):
        for block in stage:
            inner, before = drawn(block.conv1.out_channels), stream
            if block.downsample is not None:
                stream = drawn(block.conv2.out_channels)
                reorder(block.downsample[0], block.downsample[1], stream, before)
            reorder(block.conv1, block.bn1, inner, before)
            reorder(block.conv2, block.bn2, stream, inner)
    network.fc.weight.copy_(network.fc.weight[:, stream])
    return copy.eval().requires_grad_(False)


def reorder(conv: nn.Conv2d, norm: nn.BatchNorm2d, into: Tensor, source: Tensor | None = None) -> None:
    """Give a convolution and its batch norm another order of channels, of what they read as well."""
    weight = conv.weight[into]
    conv.weight.copy_(weight if source is None else weight[:, source])
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.copy_(tensor[into])


@cache
def original(number: int) -> tuple[ResNet, Dataset]:
    """A ResNet-8 of 8, 16 and 32 channels, trained on all of the labelled digits (even numbers) or on a tenth of
    them.
    """
    data = make("dataset", "digits", Dataset)
    job = Job("digits", ARCHITECTURE, (1.0, 0.1)[number % 2], number)
    *_, (_, model) = train_base_model(job, data, TRAINING)
    assert isinstance(model, ResNet)
    return model.requires_grad_(False), data


def copies_of(count: int, originals: int = 8) -> Population:
    """At most so many trained networks, and as many copies of each as make ``count`` models, at least 4 of each group.

    The label ``original`` is the group.
    """
    groups = min(originals, count // 4)
    models = []
    for number in range(groups):
        model, data = original(number)
        for copy in range(count // groups):
            same = permuted(model, data, seed=1000 * number + copy) if copy else model
            models.append(BaseModel(f"resnet-{number}-{copy}", same, data, {"original": number}))
    return Population(models)
