"""Each check of models and meta-models passes a sound one, and fails each mutant that breaks one contract."""

import copy

import pytest
import torch
from torch import nn

from dynamo import DynamicalModel, Inputs, InputSpace, OutputSpace, RecurrentMetaModel, RecurrentModel, Trajectory
from dynamo.testing import check_meta_model, check_model, check_recurrent_model, example_inputs

TOKENS = InputSpace("tokens", (11,))
REAL = InputSpace("real", (3,))
IMAGE = InputSpace("image", (2, 4, 4))
CLASSES = OutputSpace("classes", 4)
EVERY = OutputSpace("real", 2, readout="every")


class Sound(RecurrentModel):
    """A tanh RNN; mutants replace one of its methods."""

    def __init__(self, inputs: InputSpace = TOKENS, outputs: OutputSpace = CLASSES, size: int = 5) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = inputs, outputs, ((size,),)
        tokens = inputs.kind == "tokens"
        self.embedding = nn.Embedding(inputs.size, size) if tokens else nn.Linear(inputs.size, size)
        self.recurrent = nn.Linear(size, size)
        self.head = nn.Linear(size, outputs.size)

    def encode(self, values):
        return self.embedding(values)

    def initial_state(self, batch):
        return self.head.weight.new_zeros(batch, self.head.in_features)

    def step(self, x, h):
        return torch.tanh(x + self.recurrent(h))

    def readout(self, h):
        return self.head(h)

    def run(self, inputs):
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(x, h)
            states.append(h)
        return torch.stack(states, 1)

    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states,), self.readout(states), inputs.mask)


def masked_mean(states, mask):
    """The mean over real steps, [B, 1, H]."""
    return (states * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]


class NoModel(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class TwoSites(Sound):
    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states, states), self.readout(states), inputs.mask)


class WrongStateShape(Sound):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((6,),)


class WrongOutputSize(Sound):
    def readout(self, h):
        return self.head(h)[..., :3]


class WrongMask(Sound):
    def trajectory(self, inputs):
        return Trajectory((self.run(inputs),), self.readout(self.run(inputs)), torch.ones_like(inputs.mask))


class DoubleOutputs(Sound):
    def readout(self, h):
        return self.head(h).double()


class NaNInPadding(Sound):
    def run(self, inputs):
        return super().run(inputs).masked_fill(~inputs.mask[..., None], torch.nan)


class SinglePrecision(Sound):
    def initial_state(self, batch):
        return torch.zeros(batch, self.head.in_features, dtype=torch.float32)

    def step(self, x, h):
        return torch.tanh(x.float() + nn.functional.linear(h, self.recurrent.weight.float()))

    def readout(self, h):
        return nn.functional.linear(h, self.head.weight.float())


class MixedPrecision(Sound):
    def readout(self, h):
        return self.head(h.float())


class AlwaysDropout(Sound):
    def readout(self, h):
        return self.head(nn.functional.dropout(h, 0.5))


class Counter(Sound):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def run(self, inputs):
        self.calls += 1
        return super().run(inputs)


class ChangesParameter(Sound):
    def run(self, inputs):
        with torch.no_grad():
            self.recurrent.weight *= 0.9
        return super().run(inputs)


class WritesInputs(Sound):
    def run(self, inputs):
        states = super().run(inputs)
        inputs.values[:] = 0
        return states


class BatchMean(Sound):
    def run(self, inputs):
        states = super().run(inputs)
        return states - states.mean(0)


class ReadsPadding(Sound):
    def run(self, inputs):
        states = super().run(inputs)
        return states + states.mean(1, keepdim=True) * states.shape[1]


class CountsPadding(Sound):
    def run(self, inputs):
        return super().run(inputs) / inputs.mask.shape[1]


class UnusedParameter(Sound):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


class Detached(Sound):
    def readout(self, h):
        return self.head(h.detach())


class NaNGradient(Sound):
    def readout(self, h):
        return self.head(h + 0 * (self.recurrent.bias - self.recurrent.bias.detach()).abs().sqrt())


class KeptOutsideState(Sound):
    def __init__(self):
        super().__init__()
        self.kept = torch.randn(5)

    def step(self, x, h):
        return torch.tanh(x + self.recurrent(h) + self.kept)


class ExtraState(Sound):
    def get_extra_state(self):
        return "text"

    def set_extra_state(self, state):
        pass


class OtherNames(Sound):
    made = 0

    def __init__(self):
        super().__init__()
        OtherNames.made += 1
        self.register_buffer(f"number_{OtherNames.made}", torch.zeros(1))


class ForwardShape(Sound):
    def forward(self, values, mask=None):
        return self.trajectory(Inputs(values, mask)).outputs


class ForwardFirstStep(Sound):
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
    ChangesParameter: "purity: .*'recurrent.weight'",
    WritesInputs: "purity: a call changes the values",
    BatchMean: "batch independence: ",
    ReadsPadding: "padding: the values",
    CountsPadding: "padding: the number",
    UnusedParameter: "gradient: none reaches the parameter 'unused'",
    Detached: "gradient: none reaches the parameter 'embedding.weight'",
    NaNGradient: "gradient: .* NaN",
    KeptOutsideState: "state dict: a module that has loaded it answers otherwise",
    ExtraState: "state dict: '_extra_state' is a str",
    OtherNames: "state dict: a new module of the same options does not load it",
    ForwardShape: "forward: it answers with shape",
    ForwardFirstStep: "forward: its answer differs",
}


@pytest.mark.parametrize(("mutant", "broken"), MODEL_MUTANTS.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_check_model_fails_each_mutant(mutant, broken):
    with pytest.raises(AssertionError, match=f"^{broken}"):
        check_model(mutant(), rebuild=mutant)


class Backward(Sound):
    """Runs from the last real step to the first: not causal, but right about padding."""

    def run(self, inputs):
        reverse = Inputs(inputs.values.flip(1), inputs.mask.flip(1))
        h, states = self.initial_state(len(inputs)), []
        for x, real in zip(self.encode(reverse.values).unbind(1), reverse.mask.unbind(1), strict=True):
            h = torch.where(real[:, None], self.step(x, h), h)
            states.append(h)
        return torch.stack(states, 1).flip(1)


class OtherStep(Sound):
    def run(self, inputs):
        return super().run(inputs) * 2


class OtherStart(Sound):
    def run(self, inputs):
        sound = copy.copy(self)
        sound.initial_state = lambda batch: torch.ones_like(self.initial_state(batch))
        return Sound.run(sound, inputs)


class WrongStart(Sound):
    def initial_state(self, batch):
        return super().initial_state(1)


class WritesState(Sound):
    def step(self, x, h):
        after = super().step(x, h)
        h.data.mul_(0.5)
        return after


class OtherReadout(Sound):
    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states,), self.readout(states) + 1, inputs.mask)


class ReadoutOfSequencesOnly(Sound):
    def readout(self, h):
        return self.head(h) if h.ndim == 3 else self.head(h) * 2


class FlatEncode(Sound):
    def encode(self, values):
        return super().encode(values).transpose(0, 1)

    def run(self, inputs):
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values):
            h = self.step(x, h)
            states.append(h)
        return torch.stack(states, 1)


class SquareStates(Sound):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((5, 1),)

    def trajectory(self, inputs):
        states = self.run(inputs)
        return Trajectory((states[..., None],), self.readout(states), inputs.mask)


class DoubledSite(TwoSites):
    def __init__(self):
        super().__init__()
        self.state_shapes = ((5,), (5,))


RECURRENT_MUTANTS = {
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
    DoubledSite: "sites: a recurrent model has one site; this one has 2",
}


@pytest.mark.parametrize(("mutant", "broken"), RECURRENT_MUTANTS.items(), ids=lambda m: getattr(m, "__name__", ""))
def test_check_recurrent_model_fails_each_mutant(mutant, broken):
    with pytest.raises(AssertionError, match=f"^{broken}"):
        check_recurrent_model(mutant(), rebuild=mutant)


def test_what_is_not_causal_still_is_a_model():
    check_model(Backward())


@pytest.mark.parametrize("space", [TOKENS, REAL], ids=str)
@pytest.mark.parametrize("outputs", [CLASSES, EVERY], ids=str)
def test_a_sound_recurrent_model_passes(space, outputs):
    check_recurrent_model(Sound(space, outputs), rebuild=lambda: Sound(space, outputs))


def test_checks_leave_the_model_and_the_random_state_alone():
    model = Sound().train()
    before, random = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    check_recurrent_model(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(random, torch.random.get_rng_state())


class Blocks(DynamicalModel):
    """A feed-forward network of two blocks with batch normalisation; its second block starts as zero."""

    def __init__(self, inputs=IMAGE):
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = inputs, CLASSES, ((3, 4, 4), (3, 2, 2))
        self.first = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(12, 4)
        nn.init.zeros_(self.head.weight)

    def trajectory(self, inputs):
        one = self.first(inputs.values)
        two = nn.functional.max_pool2d(one + self.second(one), 2)
        outputs = self.head(two.flatten(1))[:, None]
        return Trajectory((one[:, None], two[:, None]), outputs, torch.ones_like(inputs.mask[:, :1]))


class BlocksOfBatch(Blocks):
    def trajectory(self, inputs):
        return super().trajectory(Inputs(inputs.values - inputs.values.mean(0), inputs.mask))


def test_a_sound_feed_forward_model_passes():
    check_model(Blocks(), rebuild=Blocks)
    check_model(Blocks(), example_inputs(IMAGE, batch=2, seed=3))


def test_a_feed_forward_model_that_mixes_its_batch_fails():
    with pytest.raises(AssertionError, match="^batch independence"):
        check_model(BlocksOfBatch())
