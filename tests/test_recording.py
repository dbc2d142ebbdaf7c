"""Recordings hold exactly what the models do."""

import pytest
import torch

from dynamo import DynamoError, record
from dynamo.recording import run
from problems import population, sequences


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
    assert len(list(tmp_path.rglob("*.npy"))) == 3 * 3


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
