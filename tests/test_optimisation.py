"""The schedule and the optimisers against their update rules."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from dynamo import Dataset, FitOptions, Spec
from dynamo.contracts.options import build_options
from dynamo.registry import full_spec, make
from dynamo.training.base_models import BaseTrainingOptions, jobs, train_base_model
from dynamo.training.optimisation import TOWARDS_ONE, Annealed, cosine_7_32, matrices_of, orthogonalised
from dynamo.training.presets import PRESETS


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


def step_towards_one(x):
    """The coefficients of x, x³ and x⁵ that come nearest to 1 on the points x, by their largest error; and that."""
    powers, error = np.stack([x, x**3, x**5], axis=1), np.ones((len(x), 1))
    above, below = np.hstack([powers, -error]), np.hstack([-powers, -error])
    bounds = np.concatenate([np.ones(len(x)), -np.ones(len(x))])
    found = linprog([0, 0, 0, 1], np.vstack([above, below]), bounds, bounds=[*[(None, None)] * 3, (0, None)])
    return found.x[:3], found.x[3]


def test_each_step_of_the_orthogonalisation_is_the_best_of_its_form():
    low, high = 0.02, 1.0
    for coefficients in TOWARDS_ONE:
        wanted, error = step_towards_one(np.linspace(low, high, 2000))
        np.testing.assert_allclose(coefficients, wanted, atol=2e-3)
        low, high = 1 - error, 1 + error
    assert error == pytest.approx(0.093, abs=1e-3)


def through_the_polynomial(matrix):
    """The same by the singular values."""
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    values = values / matrix.norm()
    for first, third, fifth in TOWARDS_ONE:
        values = first * values + third * values**3 + fifth * values**5
    return u @ torch.diag(values) @ v


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (1, 6)])
def test_orthogonalised_matrices_keep_their_singular_vectors_and_get_values_near_one(shape):
    matrices = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrices)
    torch.testing.assert_close(found, torch.stack([through_the_polynomial(matrix) for matrix in matrices]))
    before, after = (torch.linalg.svdvals(entries) for entries in (matrices, found))
    within = before >= 0.02 * matrices.flatten(1).norm(dim=1, keepdim=True)
    assert within.float().mean() > 0.9
    assert (after[within] - 1).abs().max() < 0.0935
    assert (after[~within] < 1).all()
    torch.testing.assert_close(orthogonalised(1000 * matrices), found)
    assert torch.equal(orthogonalised(torch.zeros(1, *shape)), torch.zeros(1, *shape))


def test_muon_moves_matrices_by_their_orthogonalised_momentum_and_all_else_as_adamw():
    torch.manual_seed(0)
    start, filters, vector = torch.randn(6, 4), torch.randn(6, 2, 2), torch.randn(3)
    matrix, conv, theta = (nn.Parameter(tensor.clone()) for tensor in (start, filters, vector))
    groups = [{"params": [theta], "peak": 0.1}, {"params": [matrix, conv], "peak": 0.1, "orthogonal": True}]
    muon = Annealed("muon", groups, 10, weight_decay=0.5)
    alone = nn.Parameter(vector.clone())
    adamw = Annealed("adamw", [{"params": [alone], "peak": 0.1}], 10, weight_decay=0.5)
    momentum = torch.zeros(6, 4)
    for step in range(3):
        matrix.grad, conv.grad = torch.randn(6, 4), None if step else torch.randn(6, 2, 2)
        theta.grad = alone.grad = torch.randn(3)
        rate = muon.step(step)
        adamw.step(step)
        assert torch.equal(theta, alone)
        assert matrix.grad is not None
        momentum = 0.9 * momentum + matrix.grad
        move = through_the_polynomial(matrix.grad + 0.9 * momentum)
        start = start * (1 - 0.5 * rate) - rate * 0.5 * 6**0.5 * move
        torch.testing.assert_close(matrix.detach(), start)
        if step == 0:  # and afterwards, without a gradient, it stays
            move = through_the_polynomial(1.9 * conv.grad.flatten(1)).view_as(filters)
            filters = filters * (1 - 0.5 * rate) - rate * 0.5 * 6**0.5 * move
        torch.testing.assert_close(conv.detach(), filters)


def test_matrices_are_all_that_multiplies_but_not_tables_of_embeddings():
    network = nn.ModuleList([nn.Embedding(5, 3), nn.GRU(3, 4), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)])
    thetas = nn.ParameterList([torch.zeros(3)])
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {names[id(parameter)] for parameter in matrices_of(nn.ModuleList([network, thetas]))}
    assert found == {"1.weight_ih_l0", "1.weight_hh_l0", "2.weight"}


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
