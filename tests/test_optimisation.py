"""The schedule and the optimisers against their update rules."""

import pytest
import torch
from torch import nn

from dynamo import Dataset, FitOptions, Spec
from dynamo.base_training import BaseTrainingOptions, jobs, train_base_model
from dynamo.optimisation import Annealed, cosine_7_32
from dynamo.options import build_options
from dynamo.plugins import full_spec, make
from dynamo.presets import PRESETS


def test_the_schedule():
    assert cosine_7_32(0, 10) == 1
    assert cosine_7_32(5, 10) == pytest.approx(0.77301, abs=1e-5)  # cos(7π/32)
    assert cosine_7_32(10, 10) == pytest.approx(0.19509, abs=1e-5)  # cos(7π/16)


def test_sgd_is_nesterovs_update_with_the_annealed_rate():
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    annealed = Annealed("sgd", [{"params": [weight], "peak": 0.1}], 4, momentum=0.9, weight_decay=0.01)
    value, velocity = 1.0, 0.0
    for step in range(4):
        weight.grad = 3 * weight.detach()
        rate = annealed.step(step)
        gradient = 3 * value + 0.01 * value
        velocity = 0.9 * velocity + gradient
        value -= 0.1 * cosine_7_32(step, 4) * (gradient + 0.9 * velocity)
        assert rate == pytest.approx(0.1 * cosine_7_32(step, 4))
        assert weight.item() == pytest.approx(value)


def test_adamw_decays_each_group_at_its_own_rate():
    one, two = (nn.Parameter(torch.tensor([2.0])) for _ in range(2))
    groups = [{"params": [one], "peak": 0.1}, {"params": [two], "peak": 0.01}]
    annealed = Annealed("adamw", groups, 10, weight_decay=0.5)
    one.grad, two.grad = torch.zeros(1), torch.zeros(1)
    annealed.step(0)
    assert one.item() == pytest.approx(2 * (1 - 0.1 * 0.5))
    assert two.item() == pytest.approx(2 * (1 - 0.01 * 0.5))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_components_and_options_that_exist(name):
    options = build_options(FitOptions, PRESETS[name], where=name)
    full_spec("meta-model", options.meta_model)
    full_spec("state-map", options.state_map)
    full_spec("divergence", options.hidden_divergence)


def test_table_2():
    options = build_options(FitOptions, PRESETS["paper-cnn"], where="test")
    assert (options.optimizer, options.momentum, options.learning_rate) == ("sgd", 0.9, 0.03)
    assert (options.weight_decay, options.steps, options.batch_size) == (5e-4, 65536, 512)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_epochs_batches_are_of_equal_size_so_none_is_left_with_one_example(optimizer):
    dataset = make("dataset", "digits-rows", Dataset)
    half = len(dataset.halves()[0])
    options = BaseTrainingOptions(epochs=3, batch_size=half - 1, optimizer=optimizer, learning_rate=0.05, momentum=0.9)
    job = jobs("test", [Spec("gru", {"hidden_size": 8})], [1.0], [0])[0]
    sizes = []
    steps = list(train_base_model(job, dataset, options, lambda step, total: sizes.append(total)))
    assert [epoch for epoch, _ in steps] == [1, 2, 3]
    assert sizes == [6] * 6  # two batches an epoch
