"""Data sets: their halves, and what is refused where data enter."""

import attrs
import pytest
import torch

from dynamo import Dataset, DynamoError, Examples, Inputs, InputSpace, OutputSpace, Trainer
from dynamo.contracts.trajectory import collate, pad_time
from dynamo.population.population import Population
from problems import base_model, dataset, sequences


def tokens(values, mask=None, targets=None, classes=2):
    values = torch.tensor(values)
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else torch.tensor(mask)
    part = Examples(Inputs(values, mask), torch.zeros(len(values), dtype=torch.long) if targets is None else targets)
    return Dataset(InputSpace("tokens", (5,)), OutputSpace("classes", classes), part, part)


def test_halves_are_disjoint_complete_fixed_and_nested():
    data = tokens([[n % 5, n // 5] for n in range(25)])
    base, probe = data.halves()
    again, _ = data.halves()
    codes = [sorted((part[:, 0] + 5 * part[:, 1]).tolist()) for part in (base.inputs.values, probe.values)]
    assert sorted(codes[0] + codes[1]) == list(range(25))
    assert (len(base), len(probe)) == (12, 13)
    assert data.probe_size == 13
    assert torch.equal(base.inputs.values, again.inputs.values)
    assert not torch.equal(base.inputs.values, data.halves(seed=1)[0].inputs.values)
    assert base.inputs.values[:, 0].tolist() != sorted(base.inputs.values[:, 0].tolist())


def test_fingerprint_changes_with_every_part():
    data = dataset()
    values = data.train.inputs.values.clone()
    values[0, 0, 0] += 1
    changed = attrs.evolve(data, train=attrs.evolve(data.train, inputs=data.train.inputs.with_values(values)))
    assert data.fingerprint() == dataset().fingerprint()
    assert data.fingerprint() != changed.fingerprint()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tokens([[1, 7], [0, 1]]), r"token id 7 at example 0, step 1 is beyond the vocabulary of 5"),
        (tokens([[1, -1], [0, 1]]), r"token id -1 at example 0, step 1"),
        (tokens([[1, 2], [3, 4]], [[True, True], [False, False]]), "example 1 is all padding"),
        (tokens([[1, 2], [3, 4]], [[True, True], [False, True]]), "example 1 has padding before a real step"),
        (tokens([[], []]), "sequences of length zero"),
        (tokens([[1], [2]], targets=torch.tensor([0, 2])), "classes outside 0 to 1"),
        (tokens([[1], [2]], targets=torch.tensor([0])), r"targets of shape \(1,\); its output space asks for \(2,\)"),
    ],
)
def test_data_that_cannot_be_used_are_refused_where_they_enter(data, message):
    with pytest.raises(DynamoError, match=rf"data set 'mine' \(train\).*{message}"):
        data.check("mine")


def test_an_empty_data_set_is_refused():
    empty = Examples(Inputs(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3, dtype=torch.bool)), torch.zeros(0))
    data = attrs.evolve(tokens([[1], [2]]), test=empty)
    with pytest.raises(DynamoError, match=r"data set 'mine' \(test\) has no examples"):
        data.check("mine")


def test_real_inputs_and_targets_must_be_finite():
    data = dataset(kind="real")
    data.train.inputs.values[2, 0, 1] = float("inf")
    with pytest.raises(DynamoError, match="NaN or infinite values"):
        data.check("mine")
    data = dataset(kind="real")
    data.test.targets[0, 0] = float("nan")
    with pytest.raises(DynamoError, match="targets that are NaN"):
        data.check("mine")


def test_a_live_data_set_is_checked_before_a_fit():
    data = dataset()
    data.train.inputs.values[0, 0, 0] = float("nan")
    with pytest.raises(DynamoError, match=r"of model m.*NaN or infinite"):
        Trainer(Population([base_model("m", data)]))


def test_inputs_refuse_shapes_that_do_not_fit():
    with pytest.raises(DynamoError, match="a mask is bool"):
        Inputs(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(DynamoError, match="3 steps, the mask 4"):
        Inputs(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(DynamoError, match="do not fit the mask"):
        Inputs(torch.zeros(2, 3), torch.ones(3, 3, dtype=torch.bool))


def test_collate_cuts_and_pads_to_the_longest_real_sequence():
    mask = torch.tensor([[True, True, False, False]])
    short = Inputs(torch.arange(4.0).reshape(1, 4, 1), mask)
    long = sequences(2, 3, 1)
    both = collate([short, long])
    assert both.values.shape == (3, 3, 1)
    assert both.mask[0].tolist() == [True, True, False]
    assert torch.equal(both.values[1:], long.values)
    assert pad_time(torch.ones(1, 2), 4).tolist() == [[1, 1, 0, 0]]
