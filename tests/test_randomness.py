"""Random numbers of trainings: on every device their own, kept in checkpoints, and the caller's left alone."""

import pytest
import torch

from dynamo import DynamicalModel, Trainer
from dynamo.fit import fidelity
from dynamo.fit.fidelity import measure_fidelity
from dynamo.fit.fit import Fit
from dynamo.population import recording
from dynamo.population.recording import record
from dynamo.training import randomness
from dynamo.training.checkpoint import read_checkpoint
from dynamo.training.randomness import Randomness
from problems import population
from test_trainer import SMALL, small


@pytest.fixture
def device(monkeypatch):
    """A further generator, as that of a GPU is."""
    generator = torch.Generator().manual_seed(123)
    monkeypatch.setattr(randomness, "_generators_of", lambda device: [generator])
    return generator


def numbers(generator):
    return torch.rand(3), torch.rand(3, generator=generator)


def test_what_is_drawn_goes_on_and_the_callers_generators_too(device):
    before = torch.get_rng_state(), device.get_state()
    own = Randomness(torch.device("cpu"), 7)
    with own.drawn():
        first = numbers(device)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(device.get_state(), before[1])
    with own.drawn():
        second = numbers(device)
    again = Randomness(torch.device("cpu"), 7)
    with again.drawn():
        for wanted in (first, second):
            for found, there in zip(numbers(device), wanted, strict=True):
                assert torch.equal(found, there)


def test_a_checkpoint_keeps_the_devices_generator(device, tmp_path):
    trainer = Trainer(population(), small(steps=4, checkpoint_every=2))
    inner = trainer._advance

    def advance():  # draws on the device, as dropout does
        loss = inner()
        torch.rand(1, generator=device)
        trainer._random.keep()
        return loss

    trainer._advance = advance
    trainer.run(tmp_path / "c.pt")
    saved = read_checkpoint(tmp_path / "c.pt")
    assert len(saved["device_rng"]) == 1
    resumed = Trainer(population(), small(steps=4, checkpoint_every=2))
    resumed.resume(tmp_path / "c.pt")
    assert all(torch.equal(a, b) for a, b in zip(resumed._random.states, trainer._random.states, strict=True))
    assert not torch.equal(device.get_state(), saved["device_rng"][0])


def test_a_checkpoint_of_another_kind_of_device_starts_the_devices_generator_anew(device):
    own = Randomness(torch.device("cpu"), 1)
    own.load([own.states[0], torch.zeros(3, dtype=torch.uint8)], seed=5)
    assert torch.equal(own.states[1], torch.Generator().manual_seed(5).get_state())
    own.load([own.states[0]], seed=6)
    assert torch.equal(own.states[1], torch.Generator().manual_seed(6).get_state())


def test_base_models_run_on_the_device_of_the_fit(monkeypatch):
    asked = []

    def placed(model, device):
        if isinstance(model, DynamicalModel):  # and not a state map
            asked.append(device)
        return model

    monkeypatch.setattr(recording, "placed", placed)
    monkeypatch.setattr(fidelity, "placed", placed)
    models, there = population(2), torch.device("cpu", 0)
    trainer = Trainer(models, SMALL)
    trainer._device = there
    trainer.record()
    record(models)
    trainer._device = torch.device("cpu")
    measure_fidelity(Fit.of(trainer), models)
    measure_fidelity(Fit.of(trainer), models, device=torch.device("cpu"))
    assert asked == [there] * 2 + [None] * 2 + [torch.device("cpu")] * 4
