"""Recordings hold exactly what the models do."""

import errno
import os
from pathlib import Path

import attrs
import pytest
import torch

from dynamo import Augmentation, DynamicalModel, DynamoError, Population, Trajectory, record
from dynamo.population.recording import Recording, live, read_together, run
from problems import base_model, dataset, population, sequences


class Big(DynamicalModel):
    """A model with states a million times as large, of any precision."""

    def __init__(self, model, dtype=torch.float32):
        super().__init__()
        self.dtype = dtype
        self.model, self.inputs, self.outputs, self.state_shapes = (
            model,
            model.inputs,
            model.outputs,
            model.state_shapes,
        )

    def trajectory(self, inputs):
        found = self.model.trajectory(inputs)
        return Trajectory(tuple(1e6 * state.to(self.dtype) for state in found.states), found.outputs, found.mask)


def test_a_recording_is_the_models_trajectory_on_the_unlabelled_half():
    models = population()
    for base, recording in zip(models, record(models), strict=True):
        probe = models.dataset(base).halves()[1]
        wanted = base.model.trajectory(probe)
        assert torch.equal(recording.inputs.values, probe.values)
        torch.testing.assert_close(recording.trajectory.states[0], wanted.states[0])
        torch.testing.assert_close(recording.trajectory.outputs, wanted.outputs)
        assert torch.equal(recording.trajectory.mask, probe.mask)


def test_recordings_on_disk_equal_those_in_memory(tmp_path):
    models = population()
    for kept, streamed in zip(record(models), record(models, tmp_path), strict=True):
        rows = torch.tensor([3, 0, 7])
        assert torch.equal(kept.trajectory[rows].states[0], streamed.trajectory[rows].states[0])
        assert torch.equal(kept.trajectory[rows].outputs, streamed.trajectory[rows].outputs)
    assert len(list(tmp_path.rglob("*.bin"))) == 3 * 3


@pytest.mark.parametrize("disk", [False, True])
def test_models_of_one_kind_are_read_in_one_go_as_they_are_one_by_one(disk, tmp_path):
    """Whichever of them, and however many rows each; also beside one of another precision and one of another kind."""
    task = dataset(steps=6)
    networks = [base_model(f"m{n}", task, hidden=3 + (n == 2), seed=n) for n in range(5)]
    networks[3] = attrs.evolve(networks[3], model=Big(networks[3].model, torch.float64))
    models = Population(networks)
    recordings = record(models, tmp_path if disk else None)
    rooms = {id(recording.room) for recording in recordings}
    assert len(rooms) == 3
    assert len(list(tmp_path.rglob("*.bin"))) == 3 * 3 * disk  # states, outputs and mask
    rows = [torch.tensor([7, 0]), torch.tensor([2]), torch.tensor([1, 1, 3])]
    chosen = [recordings[number] for number in (4, 0, 1)]
    alone = [Recording(one.inputs, one.trajectory) for one in chosen]
    (inputs, found), (wanted_inputs, wanted) = read_together(chosen, rows), read_together(alone, rows)
    assert torch.equal(inputs.values, wanted_inputs.values)
    for one, other in zip(
        (*found.states, found.outputs, found.mask), (*wanted.states, wanted.outputs, wanted.mask), strict=True
    ):
        assert torch.equal(one, other)
    assert recordings[3].trajectory.states[0].dtype == torch.float64
    for base, recording in zip(models, recordings, strict=True):
        torch.testing.assert_close(recording.trajectory.states[0], run(base.model, recording.inputs).states[0])


def test_recordings_on_disk_keep_no_files_open(tmp_path):
    before = len(list(Path("/dev/fd").iterdir()))
    kept = record(population(), tmp_path)
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert kept[0].trajectory.states[0].isfinite().all()


def test_a_disk_without_room_for_a_recording_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(DynamoError, match="No space left on device; free some room"):
        record(population(), tmp_path)


def test_batches_do_not_change_a_run_and_the_mode_is_restored():
    model = population()[0].model.train()
    inputs = sequences(11, 5, 2)
    whole, parts = run(model, inputs), run(model, inputs, batch_size=4)
    torch.testing.assert_close(whole.states[0], parts.states[0])
    assert model.training


def test_a_model_that_gives_nan_is_named():
    models = population()
    with torch.no_grad():
        models[1].model.rnn.weight_hh_l0.fill_(float("nan"))
    with pytest.raises(DynamoError, match="model 'm1' gives NaN or infinite"):
        record(models)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DynamoError, match="cannot keep recordings in"):
        record(population(), tmp_path / "file")


def test_half_precision_halves_the_room_and_keeps_three_digits(tmp_path):
    models = population()
    for whole, half in zip(record(models), record(models, tmp_path, precision="float16"), strict=True):
        assert half.trajectory.states[0].dtype == torch.float16
        assert half.trajectory.outputs.dtype == torch.float32
        (_, wanted), (_, found) = (source.batch(torch.tensor([5, 1])) for source in (whole, half))
        assert found.states[0].dtype == torch.float32
        torch.testing.assert_close(found.states[0], wanted.states[0], rtol=1e-3, atol=1e-3)
        assert not torch.equal(found.states[0], wanted.states[0])


def test_states_beyond_half_precision_are_told():
    models = population()
    big = Population([attrs.evolve(base, model=Big(base.model)) for base in models])
    with pytest.raises(DynamoError, match="beyond the range of float16: record in float32"):
        record(big, precision="float16")
    record(big)


def test_live_models_give_what_was_recorded_and_are_left_as_they_were():
    models = population()
    models[0].model.train()
    rows = torch.tensor([2, 2, 9])
    for kept, source in zip(record(models), live(models, torch.device("cpu")), strict=True):
        (inputs, wanted), (same, found) = kept.batch(rows), source.batch(rows)
        assert torch.equal(inputs.values, same.values)
        assert len(source) == len(kept)
        torch.testing.assert_close(found.states[0], wanted.states[0])
        torch.testing.assert_close(found.outputs, wanted.outputs)
        assert not found.outputs.requires_grad
    assert [base.model.training for base in models] == [True, False, False]


def test_live_inputs_are_augmented_for_model_and_meta_model_alike():
    class Shift(Augmentation):
        def __call__(self, values):
            return values + torch.rand(())

    models = population()
    source = live(models, torch.device("cpu"), Shift())[1]
    (first, found), (second, _) = source.batch(torch.arange(3)), source.batch(torch.arange(3))
    assert not torch.equal(first.values, second.values)
    assert not torch.equal(first.values, source.inputs.values[:3])
    torch.testing.assert_close(found.states[0], models[1].model.trajectory(first).states[0])
