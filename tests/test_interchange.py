"""States of one model put into another: between copies nothing is lost, between strangers nothing is carried."""

import numpy as np
import pytest
import torch

import problems
from dynamo import DynamoError, Inputs, OutputSpace, Population
from dynamo.analysis.dynamics.interchange import STATES, continued, interchange
from dynamo.population.recording import run
from test_conjugacy import Blocks, conjugates

GROUPS = ["a", "a", "b", "b"]


def remembering(matrices, size=6):
    """Conjugates whose meta-model adds up its inputs, so that what it answers depends on its state."""
    fit, _ = conjugates(torch.zeros(len(matrices), 2), matrices)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        rnn = fit.emulator.meta_model.rnn
        for weight in rnn.parameters():
            weight.zero_()
        rnn.bias_ih_l0[size : 2 * size] = 3  # 0.95 of the state stays
        rnn.weight_ih_l0[2 * size :] = torch.randn(size, rnn.weight_ih_l0.shape[1], generator=generator)
        for head in fit.emulator.heads:
            for weight in head.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator) if weight.ndim > 1 else 0 * weight)
    _, population = conjugates_of(fit, matrices)
    return fit, population


def conjugates_of(fit, matrices):
    """The base models that are conjugates of a fit's meta-model by these matrices."""
    from test_conjugacy import Conjugate

    data = problems.dataset(examples=60, steps=9)
    models = {name: Conjugate(fit.model_at(name), one).eval() for name, one in zip(fit.names, matrices, strict=True)}
    return fit, Population.of(models, data)


def permutations(count=4, size=6):
    return [torch.eye(size)[torch.randperm(size, generator=torch.Generator().manual_seed(n))] for n in range(count)]


@pytest.fixture(scope="module")
def copies():
    """One network and copies of it whose units are permuted, with state maps that are these permutations."""
    return remembering(permutations())


def test_between_copies_with_permuted_units_nothing_is_lost(copies):
    fit, population = copies
    found = interchange(fit, population, GROUPS, examples=60)
    print({s: found.mean(s) for s in STATES})
    assert found.kept.shape == (12, len(STATES))
    assert {tuple(pair) for pair in found.pairs.tolist()} == {(n, m) for n in range(4) for m in range(4) if n != m}
    for state in ("own", "carried", "fitted"):
        assert found.mean(state) == 1, state
    assert found.mean("other input") < 0.9
    assert found.mean("mean") < 0.9


def test_between_strangers_no_more_is_kept_than_from_another_input(copies):
    """The same copies, with state maps that have nothing to do with them: the fitted map still carries all."""
    fit, population = remembering(permutations())
    with torch.no_grad():
        for number in range(4):
            weight = fit.emulator.maps_of(number)[0].map.weight
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(100 + number)))
    found = interchange(fit, population, GROUPS, examples=60)
    assert found.mean("fitted") == 1
    print({s: found.mean(s) for s in STATES})
    assert found.mean("carried") < 0.5 + 0.5 * found.mean("other input")
