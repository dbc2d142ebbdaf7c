"""The check of models passes sound ones, and fails each mutant that breaks one contract."""

import copy

import pytest
import torch
from torch import nn

from dynamo import Inputs, Trajectory
from dynamo.testing import check_model, example_inputs
from sound import IMAGE, SoundBlocks, SoundModel, breaks


def masked_mean(states, mask):
    """The mean over real steps, [B, 1, H]."""
    return (states * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]


class NoModel(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class TwoSites(SoundModel):
    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states, states), self.readout(states), inputs.mask)


class WrongStateShape(SoundModel):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((6,),)


class WrongOutputSize(SoundModel):
    def readout(self, h):
        return self.head(h)[..., :3]


class WrongMask(SoundModel):
    def trajectory(self, inputs):
        return Trajectory((self.run(inputs),), self.readout(self.run(inputs)), torch.ones_like(inputs.mask))


class DoubleOutputs(SoundModel):
    def readout(self, h):
        return self.head(h).double()


class NaNInPadding(SoundModel):
    def run(self, inputs):
        return super().run(inputs).masked_fill(~inputs.mask[..., None], torch.nan)


class SinglePrecision(SoundModel):
    def initial_state(self, batch):
        return torch.zeros(batch, self.head.in_features, dtype=torch.float32)

    def step(self, x, h):
        return torch.tanh(x.float() + nn.functional.linear(h, self.recurrent.weight.float()))

    def readout(self, h):
        return nn.functional.linear(h, self.head.weight.float())


class MixedPrecision(SoundModel):
    def readout(self, h):
        return self.head(h.float())


class AlwaysDropout(SoundModel):
    def readout(self, h):
        return self.head(nn.functional.dropout(h, 0.5))


class Counter(SoundModel):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def run(self, inputs):
        self.calls += 1
        return super().run(inputs)


class ChangesParameter(SoundModel):
    def run(self, inputs):
        with torch.no_grad():
            self.recurrent.weight *= 0.9
        return super().run(inputs)


class FirstCall(SoundModel):
    def __init__(self):
        super().__init__()
        self.register_buffer("started", torch.zeros(()))

    def run(self, inputs):
        self.started.fill_(1)
        return super().run(inputs)


class WritesInputs(SoundModel):
    def run(self, inputs):
        states = super().run(inputs)
        inputs.values[:] = 0
        return states


class BatchMean(SoundModel):
    def run(self, inputs):
        states = super().run(inputs)
        return states - states.mean(0)


class ReadsPadding(SoundModel):
    def run(self, inputs):
        states = super().run(inputs)
        return states + states.mean(1, keepdim=True) * states.shape[1]


class CountsPadding(SoundModel):
    def run(self, inputs):
        return super().run(inputs) / inputs.mask.shape[1]


class UnusedParameter(SoundModel):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


class Detached(SoundModel):
    def readout(self, h):
        return self.head(h.detach())


class NoGradient(SoundModel):
    @torch.no_grad()
    def trajectory(self, inputs):
        return super().trajectory(inputs)


class NaNGradient(SoundModel):
    def readout(self, h):
        return self.head(h + 0 * (self.recurrent.bias - self.recurrent.bias.detach()).abs().sqrt())


class KeptOutsideState(SoundModel):
    def __init__(self):
        super().__init__()
        self.kept = torch.randn(5)

    def step(self, x, h):
        return torch.tanh(x + self.recurrent(h) + self.kept)


class ExtraState(SoundModel):
    def get_extra_state(self):
        return "text"

    def set_extra_state(self, state):
        pass


class OtherNames(SoundModel):
    made = 0

    def __init__(self):
        super().__init__()
        OtherNames.made += 1
        self.register_buffer(f"number_{OtherNames.made}", torch.zeros(1))


class ForwardShape(SoundModel):
    def forward(self, values, mask=None):
        return self.trajectory(Inputs(values, mask)).outputs


class ForwardFirstStep(SoundModel):
    def forward(self, values, mask=None):
        return self.trajectory(Inputs(values, mask)).outputs[:, 0]


MODEL_MUTANTS = {
    NoModel: "contract: .* no DynamicalModel",
    TwoSites: "sites: the trajectory has 2; state_shapes declares 1",
    WrongStateShape: "shape: states at site 0",
    WrongOutputSize: "shape: outputs",
    WrongMask: "mask: ",
    DoubleOutputs: "dtype: outputs",
    NaNInPadding: "finite: states at site 0",
    SinglePrecision: r"double precision: after .double\(\), states",
    MixedPrecision: r"double precision: after .double\(\) the module fails",
    AlwaysDropout: "determinism: .*outputs",
    Counter: "purity: .*'calls'",
    FirstCall: "purity: .*'started'",
    ChangesParameter: "purity: .*'recurrent.weight'",
    WritesInputs: "purity: a call changes the values",
    BatchMean: "batch independence: ",
    ReadsPadding: "padding: the values",
    CountsPadding: "padding: the number",
    UnusedParameter: "gradient: none reaches the parameter 'unused'",
    NoGradient: "gradient: none reaches the parameter 'embedding.weight'",
    Detached: "gradient: none reaches the parameter 'embedding.weight'",
    NaNGradient: "gradient: .* NaN",
    KeptOutsideState: "state dict: a module that has loaded it answers otherwise",
    ExtraState: "state dict: '_extra_state' is a str",
    OtherNames: "state dict: a new module of the same options does not load it",
    ForwardShape: "forward: it answers with shape",
    ForwardFirstStep: "forward: its answer differs",
}


@pytest.mark.parametrize(("mutant", "broken"), MODEL_MUTANTS.items(), ids=[mutant.__name__ for mutant in MODEL_MUTANTS])
def test_check_model_fails_each_mutant(mutant, broken):
    with breaks(broken):
        check_model(mutant(), rebuild=mutant)


def test_checks_leave_the_model_and_the_random_state_alone():
    model = SoundModel().train()
    before, random = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    check_model(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(random, torch.random.get_rng_state())


class BlocksOfBatch(SoundBlocks):
    def trajectory(self, inputs):
        return super().trajectory(Inputs(inputs.values - inputs.values.mean(0), inputs.mask))


def test_a_sound_feed_forward_model_passes():
    check_model(SoundBlocks(), rebuild=SoundBlocks)
    check_model(SoundBlocks(), example_inputs(IMAGE, batch=2, seed=3))


def test_a_feed_forward_model_that_mixes_its_batch_fails():
    with breaks("batch independence"):
        check_model(BlocksOfBatch())
