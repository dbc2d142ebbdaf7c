"""States of one model put into another: between copies nothing is lost, between strangers nothing is carried."""

import numpy as np
import pytest
import torch

import problems
from dynamo import DynamoError, Inputs, OutputSpace, Population
from dynamo.analysis.dynamics.interchange import STATES, continued, interchange
from dynamo.population.recording import run
from test_conjugacy import Blocks, Conjugate, conjugates

GROUPS = ["a", "a", "b", "b"]


def permuted(count=4, size=6):
    return [torch.eye(size)[torch.randperm(size, generator=torch.Generator().manual_seed(n))] for n in range(count)]


def copies():
    """Copies of one network whose units are permuted, with state maps that are these permutations. It adds up its
    inputs, so that what it answers depends on its state."""
    matrices, size = permuted(), 6
    fit, _ = conjugates(torch.zeros(len(matrices), 2), matrices)
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        rnn = fit.emulator.meta_model.rnn
        for weight in rnn.parameters():
            weight.zero_()
        rnn.bias_ih_l0[size : 2 * size] = 3  # 0.95 of the state stays
        rnn.weight_ih_l0[2 * size :] = torch.randn(size, rnn.weight_ih_l0.shape[1], generator=source)
        for weight in fit.emulator.heads.parameters():
            weight.copy_(torch.randn(weight.shape, generator=source) if weight.ndim > 1 else torch.zeros(weight.shape))
    models = {name: Conjugate(fit.model_at(name), one).eval() for name, one in zip(fit.names, matrices, strict=True)}
    return fit, Population.of(models, problems.dataset(examples=60, steps=9))


def test_between_copies_with_permuted_units_nothing_is_lost():
    found = interchange(*copies(), GROUPS, examples=60)
    assert found.kept.shape == (12, len(STATES))
    assert {tuple(pair) for pair in found.pairs.tolist()} == {(n, m) for n in range(4) for m in range(4) if n != m}
    for state in ("own", "carried", "fitted"):
        assert found.mean(state) == 1, state
    assert found.mean("other input") < 0.7
    assert found.mean("mean") < 0.7
    assert found.within.tolist() == [GROUPS[n] == GROUPS[m] for n, m in found.pairs.tolist()]
    columns, rows = found.table()
    assert (len(columns), len(rows)) == (9, 12)
    assert "1.000 from V_m V_n⁺ h_n" in found.describe().replace("1 from", "1.000 from")


def test_state_maps_of_strangers_carry_nothing():
    """The same copies, with random state maps: no better than another input; the fitted map does not care."""
    fit, population = copies()
    source = torch.Generator().manual_seed(100)
    with torch.no_grad():
        for number in range(4):
            weight = fit.emulator.maps_of(number)[0].map.weight
            weight.copy_(torch.randn(weight.shape, generator=source))
    found = interchange(fit, population, GROUPS, examples=60)
    assert found.mean("own") == found.mean("fitted") == 1
    assert found.mean("carried") < 0.7


def test_a_model_goes_on_from_its_own_states_as_if_nothing_had_happened():
    _, population = copies()
    inputs = problems.dataset(examples=12, steps=9).test.inputs
    inputs = Inputs(inputs.values, torch.arange(9) < torch.arange(12)[:, None] % 6 + 4)
    whole, after = run(population[0].model, inputs), torch.arange(12) % 3
    there = whole.states[0][torch.arange(12), after]
    found = continued(population[0].model, inputs, there, after)
    assert found.mask.tolist() == (inputs.mask & (torch.arange(9) > after[:, None])).tolist()
    torch.testing.assert_close(found.states[0][found.mask], whole.states[0][found.mask])
    torch.testing.assert_close(found.outputs[found.mask], whole.outputs[found.mask])
    moved = continued(population[0].model, inputs, there + 1, after)
    assert not torch.isclose(moved.states[0][found.mask], whole.states[0][found.mask]).all(-1).any()


def test_pairs_are_drawn_by_the_seed():
    fit, population = copies()
    some, again, other = (interchange(fit, population, GROUPS, pairs=5, seed=seed).pairs for seed in (0, 0, 1))
    assert len(some) == 5
    np.testing.assert_array_equal(some, again)
    assert some.tolist() != other.tolist()


def test_errors():
    fit, population = copies()
    data = population.dataset(population[0])
    with pytest.raises(DynamoError, match="4 base models, and groups of 2"):
        interchange(fit, population, ["a", "b"])
    with pytest.raises(DynamoError, match="3 of these examples have two steps or more"):
        interchange(fit, population, GROUPS, examples=3)
    blocks = {name: Blocks(base.model) for name, base in zip(fit.names, population, strict=True)}
    with pytest.raises(DynamoError, match=r"a Blocks has no step\(\)"):
        interchange(fit, Population.of(blocks, data), GROUPS)
    for number, base in enumerate(population):
        base.model.outputs = OutputSpace("classes", 3, group=f"task {number}")
    with pytest.raises(DynamoError, match="no two of these models answer the same question"):
        interchange(fit, population, GROUPS)
