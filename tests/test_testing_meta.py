"""The check of meta-models passes a sound one, and fails each mutant that breaks one contract."""

import pytest
import torch
from torch import nn

from dynamo import InputSpace, MetaModel, RecurrentMetaModel
from dynamo.testing import check_meta_model, example_inputs

TOKENS = InputSpace("tokens", (11,))
REAL = InputSpace("real", (3,))
IMAGE = InputSpace("image", (2, 4, 4))


class Sound(RecurrentMetaModel):
    """A tanh RNN with θ as a bias; mutants replace one of its methods."""

    def __init__(self, inputs=TOKENS, size=5):
        super().__init__()
        self.inputs, self.theta_dim, self.state_shapes, self.feature_size = inputs, 2, ((size,),), size
        tokens = inputs.kind == "tokens"
        self.embedding = nn.Embedding(inputs.size, size) if tokens else nn.Linear(inputs.size, size)
        self.recurrent = nn.Linear(size, size)
        self.bias = nn.Linear(2, size)

    def encode(self, values):
        return self.embedding(values)

    def initial_state(self, batch):
        return self.recurrent.weight.new_zeros(batch, self.feature_size)

    def step(self, theta, x, h):
        return torch.tanh(x + self.recurrent(h) + self.bias(theta))

    def states(self, inputs, theta):
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(theta, x, h)
            states.append(h)
        return (torch.stack(states, 1),)

    def features(self, states):
        return states[0]


class NoMetaModel(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class TwoSites(Sound):
    def states(self, inputs, theta):
        return super().states(inputs, theta) * 2


class WrongSteps(Sound):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0][:, 1:],)


class WrongStateShape(Sound):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((4,),)


class WrongFeatureSize(Sound):
    def __init__(self):
        super().__init__()
        self.feature_size = 5
        self.head = nn.Linear(5, 6)

    def features(self, states):
        return self.head(states[0])


class DoubleStates(Sound):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0].double(),)


class NaNInPadding(Sound):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0].masked_fill(~inputs.mask[..., None], torch.nan),)


class SinglePrecision(Sound):
    def step(self, theta, x, h):
        return super().step(theta.float(), x, h)


class AlwaysDropout(Sound):
    def features(self, states):
        return nn.functional.dropout(states[0], 0.5)


class Counter(Sound):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def encode(self, values):
        self.calls += 1
        return super().encode(values)


class WritesTheta(Sound):
    def states(self, inputs, theta):
        states = super().states(inputs, theta)
        with torch.no_grad():
            theta += 1
        return states


class MeanTheta(Sound):
    def states(self, inputs, theta):
        return super().states(inputs, theta.mean(0).expand_as(theta))


class FirstTheta(Sound):
    def states(self, inputs, theta):
        return super().states(inputs, theta[:1].expand_as(theta))


class NoTheta(Sound):
    def step(self, theta, x, h):
        return torch.tanh(x + self.recurrent(h) + self.bias(torch.zeros_like(theta)))


class HalfTheta(Sound):
    def step(self, theta, x, h):
        return super().step(theta * theta.new_tensor([1.0, 0.0]), x, h)


class DetachedTheta(Sound):
    def step(self, theta, x, h):
        return super().step(theta.detach(), x, h)


class SquaredTheta(Sound):
    """Stuck at θ = 0, from where training starts."""

    def step(self, theta, x, h):
        return super().step(theta.square(), x, h)


class BatchMean(Sound):
    def states(self, inputs, theta):
        states = super().states(inputs, torch.zeros_like(theta))[0]
        return (states - states.mean(0) + self.bias(theta)[:, None],)


class ReadsPadding(Sound):
    def states(self, inputs, theta):
        states = super().states(inputs, theta)[0]
        return (states + states.sum(1, keepdim=True),)


class CountsPadding(Sound):
    def states(self, inputs, theta):
        return (super().states(inputs, theta)[0] / inputs.mask.shape[1],)


class UnusedParameter(Sound):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


class KeptOutsideState(Sound):
    def __init__(self):
        super().__init__()
        self.kept = torch.randn(5)

    def step(self, theta, x, h):
        return super().step(theta, x + self.kept, h)


class SeesFuture(Sound):
    def states(self, inputs, theta):
        states = super().states(inputs, theta)[0]
        real = states * inputs.mask[..., None]
        return (real + real.sum(1, keepdim=True),)


class StartAtTheta(Sound):
    """The initial state depends on θ, so that iterating from initial_state gives other states."""

    def states(self, inputs, theta):
        h, states = self.bias(theta), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(theta, x, h)
            states.append(h)
        return (torch.stack(states, 1),)


class WrongStart(Sound):
    def initial_state(self, batch):
        return super().initial_state(1)


class WritesState(Sound):
    def step(self, theta, x, h):
        after = super().step(theta, x, h)
        h.data.mul_(0.5)
        return after


class OtherFeatures(Sound):
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


@pytest.mark.parametrize(("mutant", "broken"), MUTANTS.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_check_meta_model_fails_each_mutant(mutant, broken):
    with pytest.raises(AssertionError, match=f"^{broken}"):
        check_meta_model(mutant(), rebuild=mutant)


@pytest.mark.parametrize("space", [TOKENS, REAL], ids=str)
def test_a_sound_recurrent_meta_model_passes(space):
    check_meta_model(Sound(space), rebuild=lambda: Sound(space))


class Blocks(MetaModel):
    """A feed-forward meta-model of two blocks, each with Wθ added to its channels (algorithm 2)."""

    def __init__(self):
        super().__init__()
        self.inputs, self.theta_dim = IMAGE, 2
        self.state_shapes, self.feature_size = ((3, 4, 4), (3, 2, 2)), 12
        self.first = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.shift = nn.Linear(2, 3, bias=False)

    def states(self, inputs, theta):
        bias = self.shift(theta)[:, :, None, None]
        one = torch.relu(self.first(inputs.values) + bias)
        two = nn.functional.max_pool2d(torch.relu(self.second(one) + bias), 2)
        return one[:, None], two[:, None]

    def features(self, states):
        return states[1].flatten(2)


class StuckBlocks(Blocks):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.shift.weight)


def test_a_sound_feed_forward_meta_model_passes():
    check_meta_model(Blocks(), example_inputs(IMAGE, batch=3), rebuild=Blocks)


def test_a_meta_model_that_never_leaves_theta_zero_fails():
    with pytest.raises(AssertionError, match="^theta: at theta = 0"):
        check_meta_model(StuckBlocks())
