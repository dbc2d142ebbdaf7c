"""Fast forms of the benchmark of known populations, and the tests of its populations."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dynamo import Fit, FitOptions, Population, Trainer
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.testing import check_recurrent_model

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from ground_truth import order_of, parameters, relation_means
from known_populations import copies_of, leaks, rotations


def outputs(population: Population) -> list[torch.Tensor]:
    inputs = population.dataset(population[0]).test.inputs[:50]
    return [base.model.trajectory(inputs).outputs for base in population]


@pytest.fixture(scope="module")
def tanh() -> Population:
    return copies_of("tanh", hidden=6, originals=2)


@pytest.mark.parametrize("kind", ["gru", "linear", "width"])
def test_copies_compute_the_same_with_other_weights(kind):
    check_copies(copies_of(kind, hidden=6, originals=2))


def test_flipped_and_permuted_tanh_units_compute_the_same(tanh):
    check_copies(tanh)
    copy = tanh[2].model.rnn.weight_hh_l0
    assert not torch.allclose(copy.abs().sum(), copy.sum().abs())
    assert (
        torch.sort(copy.abs().flatten())[0] - torch.sort(tanh[0].model.rnn.weight_hh_l0.abs().flatten())[0]
    ).max() < 1e-6


def check_copies(population: Population) -> None:
    found = outputs(population)
    weights = [torch.cat([part.flatten() for part in base.model.parameters()]) for base in population]
    for one, base in enumerate(population):
        for other in range(one):
            same = base.metadata["original"] == population[other].metadata["original"]
            assert (float((found[one] - found[other]).abs().max()) < 1e-3) == same, (one, other)
            equal = weights[one].shape == weights[other].shape and torch.allclose(weights[one], weights[other])
            assert equal == (same and "copy" not in (base.metadata["copy"], population[other].metadata["copy"]))


def test_dead_and_doubled_units_make_networks_wider():
    population = copies_of("width", hidden=6, originals=2)
    assert [base.model.rnn.hidden_size for base in population[:5]] == [6, 6, 14, 12, 28]
    dead = population[2].model.trajectory(population.dataset(population[2]).test.inputs[:5]).states[0][..., 6:]
    assert float(dead.abs().max()) == 0


def test_rotations_turn_by_their_angle_whatever_the_frame():
    population = rotations(count=3)
    for base in population:
        values = torch.linalg.eigvals(base.model.from_state)
        angle = values[values.abs().argmax()].angle().abs()
        assert float(angle) == pytest.approx(base.metadata["parameter"], abs=1e-5)
    impulse = torch.zeros(1, 5, 1)
    impulse[0, 0] = 1
    answers = population[1].model(impulse, torch.ones(1, 5).bool())[0, :, 0].numpy()
    steps = np.arange(5)
    np.testing.assert_allclose(answers, 0.95**steps * np.cos(parameters(population)[1] * steps), atol=1e-5)
    assert not torch.allclose(population[0].model.to_output, population[1].model.to_output)


def test_a_leak_of_one_is_a_plain_rnn():
    population = leaks(count=3, hidden=5)
    base = population[2]
    assert base.metadata["parameter"] == base.model.leak == 1
    x, h = torch.randn(4, 2), torch.randn(4, 5)
    plain = torch.tanh(x @ base.model.from_input.T + h @ base.model.from_state.T)
    torch.testing.assert_close(base.model.step(x, h), plain)
    assert torch.equal(base.model.from_state, population[0].model.from_state)
    check_recurrent_model(population[0].model)


def test_mean_distances_of_twins_copies_and_others_by_hand(tanh):
    assert [base.metadata["copy"] for base in tanh] == ["none", "twin", "copy", "copy"] * 2
    distances = np.full((8, 8), 9.0)
    for first in (0, 4):
        distances[first : first + 4, first : first + 4] = [[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 7], [3, 5, 7, 0]]
    assert relation_means(distances, tanh) == (1, 3.5, 9)


def fitted(population: Population, steps: int, **options) -> Fit:
    settings = {"meta_model": "gru:hidden_size=24", "theta_dim": 4, "output_weight": 10, "learning_rate": 5e-3}
    whole = {"models_per_step": None, "batch_size": 16 * len(population), "steps": steps}
    trainer = Trainer(population, FitOptions(**settings, **whole, **options))
    trainer.run()
    return Fit.of(trainer)


@pytest.mark.slow
def test_copies_lie_with_their_twins_and_away_from_others():
    population = copies_of("tanh", hidden=8, originals=3)
    distances = fitted(population, steps=400).distances("theta").matrix
    twins, copies, others = relation_means(distances, population)
    assert copies < 2 * twins
    assert others > 5 * copies
    figures = pair_figures(distances, [base.metadata["original"] for base in population])
    assert figures.auprc == 1
    assert min(figures.ari.values()) == 1


@pytest.mark.slow
def test_a_leak_comes_out_in_order():
    population = leaks(count=8, hidden=12, steps=8)
    distances = fitted(population, steps=400).distances("theta").matrix
    assert order_of(distances, parameters(population)) >= 0.95
