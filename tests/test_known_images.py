"""Residual networks with their channels in another order, as the benchmark of speed on images makes them."""

import sys
from pathlib import Path

import pytest
import torch

from dynamo import Dataset, Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.registry import make
from dynamo_resnet.models import ResNet

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import known_images


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make("dataset", "digits", Dataset)


@pytest.fixture
def network(data: Dataset) -> ResNet:
    """Two blocks in each stage, so that some shortcuts have no projection; no two channels are alike."""
    model = make(
        "architecture", Spec("cifar-resnet", {"depth": 14, "width": 4}), DynamicalModel, data.inputs, data.outputs
    )
    for norm in (part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def test_a_permuted_residual_network_computes_the_same_in_another_order(data, network, monkeypatch):
    monkeypatch.setattr(known_images, "ARCHITECTURE", Spec("cifar-resnet", {"depth": 14, "width": 4}))
    copy = known_images.permuted(network, data, seed=1)
    inputs = data.test.inputs[:40]
    with torch.no_grad():
        wanted, found = network.trajectory(inputs), copy.trajectory(inputs)
    torch.testing.assert_close(found.outputs, wanted.outputs, rtol=1e-5, atol=1e-5)
    for one, two in zip(found.states, wanted.states, strict=True):
        assert not torch.allclose(one, two, atol=1e-2)
        ordered = [state.flatten(3).transpose(0, 2).flatten(1).double().norm(dim=1).sort()[0] for state in (one, two)]
        torch.testing.assert_close(*ordered, rtol=1e-5, atol=1e-5)


def test_groups_are_as_large_as_they_can_be_and_their_networks_agree(monkeypatch):
    monkeypatch.setattr(known_images, "TRAINING", known_images.BaseTrainingOptions(epochs=1))
    known_images.original.cache_clear()
    population = known_images.copies_of(10, originals=2)
    assert [base.metadata["original"] for base in population] == [0] * 5 + [1] * 5
    inputs = population.dataset(population[0]).test.inputs
    outputs = [base.model.trajectory(inputs).outputs for base in population]
    for number in range(5):
        torch.testing.assert_close(outputs[number], outputs[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(outputs[5 + number], outputs[5], rtol=1e-5, atol=1e-5)
    assert (outputs[0] - outputs[5]).abs().max() > 0.1
    known_images.original.cache_clear()
