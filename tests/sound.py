"""Something sound of each kind: small, and right about every contract. Mutants of it break one contract each."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from dynamo import (
    Dataset,
    Divergence,
    DynamicalModel,
    Examples,
    Head,
    InputSpace,
    MetaModel,
    OutputSpace,
    RecurrentMetaModel,
    RecurrentModel,
    StateMap,
    Trajectory,
)
from dynamo.testing import example_inputs

TOKENS = InputSpace("tokens", (11,))
REAL = InputSpace("real", (3,))
IMAGE = InputSpace("image", (2, 4, 4))
CLASSES = OutputSpace("classes", 4)
EVERY = OutputSpace("real", 2, readout="every")
TWO_CLASSES = OutputSpace("classes", 2)


@contextmanager
def breaks(contract: str) -> Iterator[None]:
    """Expect a check to fail with a message that begins with a contract (a regular expression)."""
    with pytest.raises(AssertionError) as failure:
        yield
    assert re.match(contract, str(failure.value)), str(failure.value)


class SoundModel(RecurrentModel):
    """A tanh RNN."""

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


class SoundBlocks(DynamicalModel):
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


class SoundMetaModel(RecurrentMetaModel):
    """A tanh RNN with θ as a bias."""

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


class SoundMetaBlocks(MetaModel):
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


class SoundMap(StateMap):
    def __init__(self):
        super().__init__()
        self.meta_shape, self.base_shape = (5,), (3,)
        self.map = nn.Linear(5, 3)

    def forward(self, states):
        return self.map(states)


class SoundHead(Head):
    def __init__(self):
        super().__init__()
        self.feature_size, self.outputs = 5, OutputSpace("classes", 3)
        self.map = nn.Linear(5, 3)

    def forward(self, features):
        return self.map(features)


class SoundDivergence(Divergence):
    """Squares: no metric. Mutants replace the formula or what it declares."""

    domain = "any"
    is_symmetric = True
    is_metric = False

    def __call__(self, prediction, target):
        return self.of(prediction - target, prediction, target)

    def of(self, difference, a, b):
        return difference.square().sum(-1)


def sound_dataset(space: InputSpace = TOKENS, outputs: OutputSpace = TWO_CLASSES) -> Dataset:
    def examples(count: int, seed: int) -> Examples:
        inputs = example_inputs(space, batch=count, seed=seed)
        shape = inputs.mask.shape if outputs.readout == "every" else inputs.mask.shape[:1]
        if outputs.kind == "classes":
            return Examples(inputs, torch.arange(count).view(-1, *[1] * (len(shape) - 1)).expand(shape) % 2)
        return Examples(inputs, torch.ones(*shape, outputs.size))

    return Dataset(space, outputs, examples(10, 0), examples(10, 1))
