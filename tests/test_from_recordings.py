"""Populations from arrays of what systems did: shapes of all kinds, what was not observed, how a trial starts."""

import warnings

import attrs
import numpy as np
import pytest
import torch

from dynamo import DynamoError, Fit, FitOptions, Population, Trainer, embed, measure_fidelity
from dynamo.contracts.errors import DynamoWarning
from dynamo.population.first_states import Frame, component_count, frames
from dynamo.population.trials import Trial

OPTIONS = FitOptions(meta_model="gru:hidden_size=6", theta_dim=3, models_per_step=None, batch_size=12, steps=3)
RNG = np.random.default_rng(0)


def walk(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).cumsum(-2)


def fitted(models, **options):
    trainer = Trainer(models, attrs.evolve(OPTIONS, **options))
    trainer.run()
    return Fit.of(trainer)


def all_trials(base):
    """States and mask of all trials of a system, as they were given."""
    found = base.trajectories
    runs = [(found.original(run.states[0]), run.mask) for run in (found.probe, found.held_out)]
    return [state[mask] for states, masks in runs for state, mask in zip(states, masks, strict=True)]


def same_trials(found, wanted):
    """Whether both hold the same trials, in some order."""
    found, wanted = (sorted(np.asarray(one).round(3).tolist() for one in many) for many in (found, wanted))
    return len(found) == len(wanted) and all(np.allclose(a, b, atol=2e-3) for a, b in zip(found, wanted, strict=True))


# What goes in. --------------------------------------------------------------------------------------------------------


def test_one_array_a_list_a_dict_and_tensors_are_the_same():
    states = walk(3, 5, 8, 2)
    wanted = Population.from_recordings(states)
    assert [base.name for base in wanted] == ["system-0", "system-1", "system-2"]
    forms = [
        list(states),
        {f"system-{n}": own for n, own in enumerate(states)},
        torch.from_numpy(states),
        [[torch.from_numpy(trial) for trial in own] for own in states],
        states.tolist(),
    ]
    for form in forms:
        assert Population.from_recordings(form).fingerprint == wanted.fingerprint


def test_every_trial_is_there_and_a_fifth_is_held_out():
    states = walk(2, 20, 6, 3)
    models = Population.from_recordings(states)
    for base, own in zip(models, states, strict=True):
        assert (len(models.dataset(base).probes()), len(models.dataset(base).test)) == (16, 4)
        assert same_trials(all_trials(base), own)
    other = Population.from_recordings(states, seed=1)
    assert not torch.equal(other[0].trajectories.held_out.states[0], models[0].trajectories.held_out.states[0])
    few = Population.from_recordings(walk(1, 2, 6, 3))
    assert (few.dataset(few[0]).probe_size, len(few.dataset(few[0]).test)) == (1, 1)


def test_systems_of_different_units_trials_and_lengths_share_a_map():
    lengths = [[9, 4, 7], [5, 12, 6, 8]]
    states = [[walk(t, 2 + 3 * n, seed=t) for t in own] for n, own in enumerate(lengths)]
    models = Population.from_recordings(states)
    assert [base.state_shapes for base in models] == [((2,),), ((5,),)]
    assert all(same_trials(all_trials(base), own) for base, own in zip(models, states, strict=True))
    for base in models:
        data = models.dataset(base)
        assert torch.equal(base.trajectories.probe.mask, data.probes().mask)
    fit = fitted(models)
    assert np.isfinite(fit.distances().matrix).all()
    assert all(np.isfinite(one.hidden_r2) for one in measure_fidelity(fit, models).models)


def test_padding_that_a_mask_says_is_that_of_trials_of_different_lengths():
    lengths = [9, 4, 7, 9, 5]
    whole = walk(5, 9, 2)
    mask = np.arange(9) < np.array(lengths)[:, None]
    ragged = [trial[:length] for trial, length in zip(whole, lengths, strict=True)]
    wanted = Population.from_recordings([ragged])
    garbage = np.where(mask[..., None], whole, 1e9)
    nan = np.where(mask[..., None], whole, np.nan)
    for found in (
        Population.from_recordings([garbage], mask=[mask]),
        Population.from_recordings([nan], missing="mask"),
        Population.from_recordings([nan], mask=[mask]),
    ):
        assert found.fingerprint == wanted.fingerprint
        assert found.data_fingerprints == wanted.data_fingerprints


def test_one_system_and_one_trial_are_enough():
    trial = walk(12, 2)
    with pytest.warns(DynamoWarning, match=r"system 'a' has a single trial: .*clip=STEPS"):
        models = Population.from_recordings({"a": trial})
    data, found = models.dataset(models[0]), models[0].trajectories
    assert torch.equal(data.probes().values, data.test.inputs.values)
    assert torch.equal(found.probe.states[0], found.held_out.states[0])
    assert fitted(models).distances().matrix.tolist() == [[0.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = Population.from_recordings({"a": trial}, clip=4)
    assert (cut.dataset(cut[0]).probe_size, len(cut.dataset(cut[0]).test)) == (2, 1)
    assert same_trials(all_trials(cut[0]), trial.reshape(3, 4, 2))


@pytest.mark.parametrize(
    ("steps", "clip", "lengths"), [(10, 4, [3, 3, 4]), (9, 3, [3, 3, 3]), (5, 9, [5]), (7, 1, [1] * 7)]
)
def test_clips_are_of_equal_length_and_leave_no_step_out(steps, clip, lengths):
    models = Population.from_recordings([walk(4, steps, 2)], clip=clip)
    base = models[0]
    found = [len(trial) for trial in all_trials(base)]
    assert sorted(found) == sorted(lengths * 4)
    shown = models.dataset(base).probes().values
    assert shown[:, 0, -1].eq(1).all()  # each tells its own first state
    held = base.trajectories.held_out.mask.sum()
    assert int(held) == steps  # clips of one trial are held out together


def test_known_inputs_are_shared_or_each_system_has_its_own():
    states, inputs = walk(3, 6, 5, 4), walk(6, 5, 2, seed=3)
    shared = Population.from_recordings(states, inputs)
    assert len({id(shared.dataset(base)) for base in shared}) == 1
    own = Population.from_recordings(states, [inputs + n for n in range(3)])
    assert len({id(own.dataset(base)) for base in own}) == 3
    for base in shared:
        data = shared.dataset(base)
        both = torch.cat([data.probes().values, data.test.inputs.values]).sort(0).values
        assert torch.equal(both, torch.from_numpy(inputs).float().sort(0).values)
    told = Population.from_recordings(states, inputs, context=1)
    assert len({id(told.dataset(base)) for base in told}) == 3
    assert told.inputs.size > shared.inputs.size == 2


def test_inputs_states_and_outputs_of_a_trial_stay_together():
    """The states are the running sums of the inputs, the outputs twice the states."""
    inputs = [walk(length, 2, seed=length) for length in (5, 9, 4, 7, 6)]
    states = [own.cumsum(0) for own in inputs]
    models = Population.from_recordings(
        [states, [2 * own for own in states]],
        [inputs, inputs],
        [[2 * own for own in states], [4 * own for own in states]],
        standardise=False,
    )
    for factor, base in enumerate(models, 1):
        data = models.dataset(base)
        for values, run in ((data.probes(), base.trajectories.probe), (data.test.inputs, base.trajectories.held_out)):
            assert torch.equal(values.mask, run.mask)
            wanted = factor * values.values.double().cumsum(1)
            torch.testing.assert_close(run.states[0][run.mask], wanted[run.mask].float(), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(run.outputs, 2 * run.states[0], rtol=1e-4, atol=1e-4)


# How a trial starts. --------------------------------------------------------------------------------------------------


def test_shared_units_show_the_first_state_itself():
    states = walk(2, 6, 7, 3)
    models = Population.from_recordings(states, units="shared")
    for base in models:
        data, run = models.dataset(base), base.trajectories.probe
        values = data.probes().values
        assert values.shape[2] == 4
        assert torch.equal(values[:, 0, :3], run.states[0][:, 0])
        assert values[:, 0, 3].eq(1).all()
        assert values[:, 1:].eq(0).all()
        assert torch.equal(run.outputs, run.states[0])
    two = Population.from_recordings(states, units="shared", context=2)
    values, run = two.dataset(two[0]).probes().values, two[0].trajectories.probe
    assert torch.equal(values[:, :2, :3], run.states[0][:, :2])
    assert values[:, :2, 3].eq(1).all()
    assert values[:, 2:].eq(0).all()


def test_a_trial_starts_where_it_was_first_observed():
    states = walk(5, 8, 2)
    mask = np.ones((5, 8), dtype=bool)
    mask[:, :3] = False
    mask[2, 5] = False
    late = Population.from_recordings([states], mask=[mask], units="shared")
    wanted = Population.from_recordings([states[:, 3:]], mask=[mask[:, 3:]], units="shared")
    assert late.fingerprint == wanted.fingerprint
    assert late.data_fingerprints == wanted.data_fingerprints
    assert not bool(torch.cat([late[0].trajectories.probe.mask, late[0].trajectories.held_out.mask]).all())


def trials_of(states):
    return [Trial(own.astype(np.float32), np.ones(len(own), dtype=bool), None, None, n) for n, own in enumerate(states)]


def spirals(seed, speed=0.5):
    """A spiral that starts on one side, around an axis along which a skewed dimension fades."""
    random, found = np.random.default_rng(seed), []
    for _ in range(30):
        turn = random.uniform(0, 2) + speed * np.arange(20)
        size = random.uniform(1, 2) * 0.97 ** np.arange(20)
        found.append(np.stack([3 * size * np.cos(turn), 1.5 * size * np.sin(turn), random.exponential() * size], 1))
    return np.stack(found)


def test_components_do_not_depend_on_how_a_system_is_read():
    """Turned, mirrored, permuted and scaled units give the same components, with the same signs."""
    states = spirals(0)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 3)))[0].T
    mirrored = states * np.array([1, -1, 1])
    readings = [states, 5 * states @ turn + 2, mirrored, states[..., [2, 0, 1]], -states]
    trials = [trials_of(own) for own in readings]
    assert component_count(trials) == 3
    made = frames(trials, 3)
    wanted = made[0](trials[0][4].states)
    assert all(isinstance(frame, Frame) for frame in made)
    for frame, own in zip(made, trials, strict=True):
        np.testing.assert_allclose(frame(own[4].states), wanted, atol=2e-3)
    np.testing.assert_allclose(np.concatenate([made[1](one.states) for one in trials[1]]).std(0), 1, atol=1e-3)
    later = frames(trials[2:3], 3, like=trials[:2])[0]
    np.testing.assert_allclose(later(trials[2][4].states), wanted, atol=2e-3)


def test_components_of_a_flat_system_are_padded_with_zeros():
    flat = trials_of(spirals(0) * np.array([1, 1, 0]))
    assert component_count([flat]) == 2
    assert frames([flat, trials_of(spirals(1))], 3)[0].axes[:, 2].tolist() == [0, 0, 0]
    still = trials_of(np.ones((3, 5, 2)))
    assert component_count([still]) == 1
    assert np.isfinite(frames([still], 1)[0](still[0].states)).all()


# Units of measure. ----------------------------------------------------------------------------------------------------


def test_shared_units_are_measured_over_all_systems_and_own_ones_over_each():
    states = [walk(6, 9, 3, seed=1), 10 * walk(6, 9, 3, seed=2) + 4]
    shared = Population.from_recordings(states, units="shared")
    rows = torch.cat([base.trajectories.probe.states[0].flatten(0, 1) for base in shared])
    torch.testing.assert_close(rows.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.var(0, correction=0), torch.ones(3))
    own = Population.from_recordings(states)
    for base in own:
        rows = base.trajectories.probe.states[0].flatten(0, 1)
        torch.testing.assert_close(rows.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(rows.var(0, correction=0).mean(), torch.tensor(1.0))
    for models in (shared, own):
        assert all(same_trials(all_trials(base), given) for base, given in zip(models, states, strict=True))
    as_given = Population.from_recordings(states, standardise=False)
    assert same_trials(list(as_given[0].trajectories.probe.states[0]), states[0][kept(6)])


def kept(count):
    drawn = np.random.default_rng(0).permutation(count)[: max(1, round(0.2 * count))]
    return [n for n in range(count) if n not in drawn]


def test_later_systems_take_the_measure_of_those_on_the_map():
    states = walk(4, 8, 6, 3)
    for units in ("shared", "own"):
        models = Population.from_recordings(states[:3], units=units)
        new = Population.from_recordings(5 * states[3:], names=["new"], units=units, like=models)
        assert new.inputs == models.inputs
        if units == "shared":
            assert torch.equal(new[0].trajectories.offset, models[0].trajectories.offset)
            assert torch.equal(new[0].trajectories.scale, models[0].trajectories.scale)
        fit = fitted(models)
        assert embed(fit, new, measure_fidelity(fit, models)).names == ["new"]
    with pytest.raises(DynamoError, match=r"has 3 units.*these have 2 units"):
        Population.from_recordings(walk(1, 8, 6, 2), units="shared", like=models)


def test_a_system_that_rests_is_there():
    """A fixed point is a system too."""
    models = Population.from_recordings([walk(5, 6, 2), np.full((5, 6, 2), 3.0)], names=["moves", "rests"])
    measured = measure_fidelity(fitted(models), models)
    assert np.isnan(measured.models[1].hidden_r2)
    assert np.isfinite(measured.models[0].hidden_r2)


# Metadata. ------------------------------------------------------------------------------------------------------------


def test_metadata_is_given_by_name_in_order_or_in_columns():
    import pandas

    states = walk(2, 4, 5, 2)
    forms = [
        {"system-0": {"mu": 1.0, "kind": "a"}, "system-1": {"mu": 2.0, "kind": "b"}},
        [{"mu": 1.0, "kind": "a"}, {"mu": 2.0, "kind": "b"}],
        {"mu": np.array([1.0, 2.0]), "kind": ["a", "b"]},
        pandas.DataFrame({"mu": [1.0, 2.0], "kind": ["a", "b"]}),
    ]
    for form in forms:
        models = Population.from_recordings(states, metadata=form)
        assert [dict(base.metadata) for base in models] == forms[1]


# What is refused. -----------------------------------------------------------------------------------------------------

NAN = walk(2, 3, 4, 2)
NAN[1, 2, 2, 0] = np.nan
FINE, HOLE = walk(2, 3, 4, 2), np.ones((2, 3, 4), dtype=bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"states": NAN},
            r"system 'system-1', trial 2: the states are NaN at 1 of 4 steps, the first of them 2: .*"
            "missing='mask'",
        ),
        ({"states": np.where(np.isnan(NAN), np.inf, NAN), "missing": "mask"}, "infinite at 1 of 4 steps"),
        (
            {"states": walk(3, 4, 2)},
            r"the shape \(3, 4, 2\); one array for all systems is \[system, trial, time, unit\]",
        ),
        ({"states": [walk(3, 4, 2), "x"]}, "system 'system-1': states are a str: give an array"),
        ({"states": [walk(3, 4, 2), []]}, "there are no trials"),
        ({"states": []}, "there are no states"),
        ({"states": 3.0}, "states are a float: give an array"),
        ({"states": [[walk(4, 2), walk(4, 3)]]}, "trials have 2 and 3 units: give equally many"),
        ({"states": [np.zeros((3, 0, 2))]}, r"trial 0: a trial has the shape \[0, 2\]"),
        ({"states": [np.zeros((3, 4, 2), dtype=complex)]}, "are complex128: give real numbers"),
        ({"states": [np.full((3, 4, 2), 1e300)]}, "beyond the range of float32"),
        ({"states": FINE, "names": ["a"]}, "states of 2 systems, and 1 names"),
        ({"states": FINE, "names": ["a", "a"]}, "two systems have one name"),
        ({"states": FINE, "names": ["a", "b c"]}, "'b c' cannot be a model's name"),
        ({"states": {"a": walk(3, 4, 2)}, "mask": {"b": HOLE[0]}}, "no mask are given for the system 'a': .*known: b"),
        ({"states": FINE, "mask": np.ones((2, 3, 5), dtype=bool)}, "4 steps of states and 5 of the mask"),
        ({"states": FINE, "mask": np.ones((2, 3, 4))}, r"is float64 \[4\]; give bool \[trial, time\]"),
        ({"states": FINE, "mask": HOLE & (np.arange(3) != 1)[:, None]}, "trial 1 has no observed step"),
        ({"states": FINE, "inputs": walk(2, 4, 1)}, "3 trials of states and 2 of inputs"),
        ({"states": FINE, "inputs": walk(3, 5, 1)}, "4 steps of states and 5 of inputs"),
        (
            {"states": FINE, "inputs": np.full((3, 4, 1), np.nan), "missing": "mask"},
            "inputs are NaN or infinite at step 0",
        ),
        ({"states": FINE, "inputs": [walk(3, 4, 1), walk(3, 4, 2)]}, "has 1 inputs, system 'system-1' has 2"),
        ({"states": FINE, "outputs": [walk(3, 4, 1), walk(3, 4, 2)]}, "has 1 outputs, system 'system-1' has 2"),
        ({"states": [walk(3, 4, 2), walk(3, 4, 3)], "units": "shared"}, "has 2 units, system 'system-1' has 3"),
        ({"states": FINE, "units": "sharde"}, "did you mean 'shared'"),
        ({"states": FINE, "missing": "drop"}, "missing is 'drop'"),
        ({"states": FINE, "held_out": 1.0}, "between 0 and 1"),
        ({"states": FINE, "context": 0}, "nothing tells a trial from another"),
        ({"states": FINE, "inputs": walk(3, 4, 1), "clip": 2}, "give context=1"),
        ({"states": FINE, "clip": 0}, "give whole numbers of steps"),
        ({"states": FINE, "metadata": {"mu": [1.0]}}, "'mu' has 1 values, and there are 2 systems"),
        ({"states": FINE, "metadata": {"mu": "ab"}}, "the metadata 'mu'"),
        ({"states": FINE, "metadata": [{}]}, "a table for each of the 2 systems"),
        ({"states": FINE, "metadata": {"system-2": {"mu": 1}}}, "no such system"),
    ],
)
def test_what_cannot_be_used_is_told(arguments, message):
    with pytest.raises(DynamoError, match=message):
        Population.from_recordings(**arguments)


def test_a_missing_value_hides_its_step_alone():
    models = Population.from_recordings(NAN, missing="mask")
    seen = torch.cat([models[1].trajectories.probe.mask, models[1].trajectories.held_out.mask])
    assert int((~seen).sum()) == 1
    found = [trial for base in models for trial in all_trials(base)]
    assert sum(map(len, found)) == 2 * 3 * 4 - 1
