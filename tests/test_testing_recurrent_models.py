"""The check of recurrent models passes sound ones, and fails each mutant that breaks one contract."""

import copy

import pytest
import torch
from torch import nn

from dynamo import Inputs, Trajectory
from dynamo.testing import check_model, check_recurrent_model
from sound import CLASSES, EVERY, REAL, TOKENS, SoundModel, breaks


class NoModel(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class BatchMean(SoundModel):
    def run(self, inputs):
        states = super().run(inputs)
        return states - states.mean(0)


class Backward(SoundModel):
    """Runs from the last real step to the first: not causal, but right about padding."""

    def run(self, inputs):
        reverse = Inputs(inputs.values.flip(1), inputs.mask.flip(1))
        h, states = self.initial_state(len(inputs)), []
        for x, real in zip(self.encode(reverse.values).unbind(1), reverse.mask.unbind(1), strict=True):
            h = torch.where(real[:, None], self.step(x, h), h)
            states.append(h)
        return torch.stack(states, 1).flip(1)


class OtherStep(SoundModel):
    def run(self, inputs):
        return super().run(inputs) * 2


class OtherStart(SoundModel):
    def run(self, inputs):
        sound = copy.copy(self)
        sound.initial_state = lambda batch: torch.ones_like(self.initial_state(batch))
        return SoundModel.run(sound, inputs)


class WrongStart(SoundModel):
    def initial_state(self, batch):
        return super().initial_state(1)


class WritesState(SoundModel):
    def step(self, x, h):
        after = super().step(x, h)
        h.data.mul_(0.5)
        return after

    def run(self, inputs):
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(x, h)
            states.append(h.clone())
        return torch.stack(states, 1)


class OtherReadout(SoundModel):
    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states,), self.readout(states) + 1, inputs.mask)


class ReadoutOfSequencesOnly(SoundModel):
    def readout(self, h):
        return self.head(h) if h.ndim == 3 else self.head(h) * 2


class FlatEncode(SoundModel):
    def encode(self, values):
        return super().encode(values).transpose(0, 1)

    def run(self, inputs):
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values):
            h = self.step(x, h)
            states.append(h)
        return torch.stack(states, 1)


class SquareStates(SoundModel):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((5, 1),)

    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states[..., None],), self.readout(states), inputs.mask)


class TwoSites(SoundModel):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((5,), (5,))

    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states, states), self.readout(states), inputs.mask)


MUTANTS = {
    NoModel: "contract: .* no RecurrentModel",
    BatchMean: "batch independence",
    Backward: "causality: ",
    OtherStep: "iteration: ",
    OtherStart: "iteration: ",
    WrongStart: "shape: initial states",
    WritesState: "purity: step writes",
    OtherReadout: "readout: readout",
    ReadoutOfSequencesOnly: r"readout: .*\[B, H\]",
    FlatEncode: "shape: encode",
    SquareStates: "sites: a recurrent model has flat states",
    TwoSites: "sites: a recurrent model has one site; this one has 2",
}


@pytest.mark.parametrize(("mutant", "broken"), MUTANTS.items(), ids=[mutant.__name__ for mutant in MUTANTS])
def test_check_recurrent_model_fails_each_mutant(mutant, broken):
    with breaks(broken):
        check_recurrent_model(mutant(), rebuild=mutant)


def test_what_is_not_causal_still_is_a_model():
    check_model(Backward())


@pytest.mark.parametrize("space", [TOKENS, REAL], ids=str)
@pytest.mark.parametrize("outputs", [CLASSES, EVERY], ids=str)
def test_a_sound_recurrent_model_passes(space, outputs):
    check_recurrent_model(SoundModel(space, outputs), rebuild=lambda: SoundModel(space, outputs))
