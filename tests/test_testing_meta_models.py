"""The check of meta-models passes a sound one, and fails each mutant that breaks one contract."""

import pytest
import torch
from torch import nn

from dynamo.testing import check_meta_model, example_inputs
from sound import IMAGE, REAL, TOKENS, SoundMetaBlocks, SoundMetaModel, breaks


class NoMetaModel(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class TwoSites(SoundMetaModel):
    def states(self, inputs, theta):
        return super().states(inputs, theta) * 2


class WrongSteps(SoundMetaModel):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0][:, 1:],)


class WrongStateShape(SoundMetaModel):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((4,),)


class WrongFeatureSize(SoundMetaModel):
    def __init__(self):
        super().__init__()
        self.feature_size = 5
        self.head = nn.Linear(5, 6)

    def features(self, states):
        return self.head(states[0])


class DoubleStates(SoundMetaModel):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0].double(),)


class NaNInPadding(SoundMetaModel):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0].masked_fill(~inputs.mask[..., None], torch.nan),)


class SinglePrecision(SoundMetaModel):
    def step(self, theta, x, h):
        return super().step(theta.float(), x, h)


class AlwaysDropout(SoundMetaModel):
    def features(self, states):
        return nn.functional.dropout(states[0], 0.5)


class Counter(SoundMetaModel):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def encode(self, values):
        self.calls += 1
        return super().encode(values)


class WritesTheta(SoundMetaModel):
    def states(self, inputs, theta):
        states = super().states(inputs, theta)
        with torch.no_grad():
            theta += 1
        return states


class MeanTheta(SoundMetaModel):
    def states(self, inputs, theta):
        return super().states(inputs, theta.mean(0).expand_as(theta))


class FirstTheta(SoundMetaModel):
    def states(self, inputs, theta):
        return super().states(inputs, theta[:1].expand_as(theta))


class NoTheta(SoundMetaModel):
    def step(self, theta, x, h):
        return torch.tanh(x + self.recurrent(h) + self.bias(torch.zeros_like(theta)))


class HalfTheta(SoundMetaModel):
    def step(self, theta, x, h):
        return super().step(theta * theta.new_tensor([1.0, 0.0]), x, h)


class DetachedTheta(SoundMetaModel):
    def step(self, theta, x, h):
        return super().step(theta.detach(), x, h)


class NoGradient(SoundMetaModel):
    @torch.no_grad()
    def states(self, inputs, theta):
        return super().states(inputs, theta)


class SquaredTheta(SoundMetaModel):
    """Stuck at θ = 0, from where training starts."""

    def step(self, theta, x, h):
        return super().step(theta.square(), x, h)


class BatchMean(SoundMetaModel):
    def states(self, inputs, theta):
        states = super().states(inputs, torch.zeros_like(theta))[0]
        return (states - states.mean(0) + self.bias(theta)[:, None],)


class ReadsPadding(SoundMetaModel):
    def states(self, inputs, theta):
        states = super().states(inputs, theta)[0]
        return (states + states.sum(1, keepdim=True),)


class CountsPadding(SoundMetaModel):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0] / inputs.mask.shape[1],)


class UnusedParameter(SoundMetaModel):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


class KeptOutsideState(SoundMetaModel):
    def __init__(self):
        super().__init__()
        self.kept = torch.randn(5)

    def step(self, theta, x, h):
        return super().step(theta, x + self.kept, h)


class SeesFuture(SoundMetaModel):
    def states(self, inputs, theta):
        states = super().states(inputs, theta)[0]
        real = states * inputs.mask[..., None]
        return (real + real.sum(1, keepdim=True),)


class StartAtTheta(SoundMetaModel):
    """The initial state depends on θ, so that iterating from initial_state gives other states."""

    def states(self, inputs, theta):
        h, states = self.bias(theta), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(theta, x, h)
            states.append(h)
        return (torch.stack(states, 1),)


class WrongStart(SoundMetaModel):
    def initial_state(self, batch):
        return super().initial_state(1)


class WritesState(SoundMetaModel):
    def step(self, theta, x, h):
        after = super().step(theta, x, h)
        h.data.mul_(0.5)
        return after

    def states(self, inputs, theta):
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(theta, x, h)
            states.append(h.clone())
        return (torch.stack(states, 1),)


class OtherFeatures(SoundMetaModel):
    def features(self, states):
        return states[0] * 2


MUTANTS = {
    NoMetaModel: "contract: ",
    TwoSites: "sites: the meta-model has 2; state_shapes declares 1",
    WrongSteps: "shape: the states have 6 steps",
    WrongStateShape: "shape: states at site 0",
    WrongFeatureSize: "shape: features",
    DoubleStates: "dtype: states",
    NaNInPadding: "finite: states",
    SinglePrecision: "double precision: ",
    AlwaysDropout: "determinism: .*features",
    Counter: "purity: .*'calls'",
    WritesTheta: "purity: a call changes theta",
    MeanTheta: "theta: an example in a batch of several thetas",
    FirstTheta: "theta: an example in a batch of several thetas",
    NoTheta: "theta: at theta = 0",
    HalfTheta: "theta: at theta = 0",
    DetachedTheta: "theta: at theta = 0",
    NoGradient: "theta: at theta = 0",
    SquaredTheta: "theta: at theta = 0",
    BatchMean: "batch independence: ",
    ReadsPadding: "padding: the values",
    CountsPadding: "padding: the number",
    UnusedParameter: "gradient: none reaches the parameter 'unused'",
    KeptOutsideState: "state dict: ",
    SeesFuture: "causality: ",
    StartAtTheta: "iteration: ",
    WrongStart: "shape: initial states",
    WritesState: "purity: step writes",
    OtherFeatures: "features: ",
}


@pytest.mark.parametrize(("mutant", "broken"), MUTANTS.items(), ids=[mutant.__name__ for mutant in MUTANTS])
def test_check_meta_model_fails_each_mutant(mutant, broken):
    with breaks(broken):
        check_meta_model(mutant(), rebuild=mutant)


@pytest.mark.parametrize("space", [TOKENS, REAL], ids=str)
def test_a_sound_recurrent_meta_model_passes(space):
    check_meta_model(SoundMetaModel(space), rebuild=lambda: SoundMetaModel(space))


class StuckBlocks(SoundMetaBlocks):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.shift.weight)


def test_a_sound_feed_forward_meta_model_passes():
    check_meta_model(SoundMetaBlocks(), example_inputs(IMAGE, batch=3), rebuild=SoundMetaBlocks)


def test_a_meta_model_that_never_leaves_theta_zero_fails():
    with breaks("theta: at theta = 0"):
        check_meta_model(StuckBlocks())
