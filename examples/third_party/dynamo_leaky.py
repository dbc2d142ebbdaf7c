"""An example plugin: one component of each kind, in one file.

A component is a class that fulfils a contract of ``dynamo``, a frozen attrs class of its options, and a line in
``dynamo_components``, which is what DYNAMO calls.
"""

from math import log

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from dynamo import (
    Augmentation,
    Component,
    Dataset,
    Divergence,
    Examples,
    Head,
    Inputs,
    InputSpace,
    OutputSpace,
    RecurrentMetaModel,
    RecurrentModel,
    StateMap,
    hookimpl,
    option,
)
from dynamo.contracts import InvalidValueError, NoOptions, at_least, positive, seed

Shape = tuple[int, ...]


def encoder(inputs: InputSpace, embedding_size: int) -> tuple[nn.Module, int]:
    """What turns inputs into vectors, and the size of these: an embedding of tokens, or nothing for real vectors.

    Raises:
        InvalidValueError: the inputs are images.
    """
    if inputs.kind == "tokens":
        return nn.Embedding(inputs.size, embedding_size), embedding_size
    if inputs.kind == "real":
        return nn.Identity(), inputs.size
    raise InvalidValueError(f"a leaky network reads sequences, not {inputs}")


# An architecture: base models are trained from it. -------------------------------------------------------------------


@attrs.frozen
class LeakyOptions:
    """Options of the architecture ``leaky``."""

    hidden_size: int = positive(64, "units of the hidden state", most=2**20)
    embedding_size: int = positive(32, "size of the token embedding", most=2**20)
    leak: float = option(
        0.5, "the share of the state that each step renews", check=lambda a: 0 < a <= 1, rule="in (0, 1]"
    )


class Leaky(RecurrentModel):
    """A leaky integrator, h' = (1 - a) h + a tanh(W x + U h + b), from h_0 = 0, with a linear readout.

    A recurrent model says what one step does; that it is iterated over a sequence it need not say.
    """

    def __init__(self, options: LeakyOptions, inputs: InputSpace, outputs: OutputSpace) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.state_shapes = ((options.hidden_size,),)
        self.leak = options.leak
        self.encoder, size = encoder(inputs, options.embedding_size)
        self.from_input = nn.Linear(size, options.hidden_size)
        self.from_state = nn.Linear(options.hidden_size, options.hidden_size, bias=False)
        self.to_output = nn.Linear(options.hidden_size, outputs.size)

    def encode(self, values: Tensor) -> Tensor:
        """``[B, T]`` or ``[B, T, D] -> [B, T, E]``."""
        x: Tensor = self.encoder(values)
        return x

    def initial_state(self, batch: int) -> Tensor:
        """Zeros ``[batch, H]``."""
        return self.from_state.weight.new_zeros(batch, self.from_state.in_features)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """``[B, E], [B, H] -> [B, H]``."""
        return (1 - self.leak) * h + self.leak * torch.tanh(self.from_input(x) + self.from_state(h))

    def readout(self, h: Tensor) -> Tensor:
        """``[..., H] -> [..., K]``."""
        outputs: Tensor = self.to_output(h)
        return outputs


# A meta-model: it imitates all base models. --------------------------------------------------------------------------


@attrs.frozen
class FilmOptions:
    """Options of the meta-model ``film``."""

    hidden_size: int = positive(128, "units of the hidden state", most=2**20)
    embedding_size: int = positive(32, "size of the token embedding", most=2**20)


class Film(RecurrentMetaModel):
    """A vanilla RNN in which θ scales and shifts the units: h' = tanh((1 + S θ) ∘ (W x + U h) + B θ + b).

    After "FiLM: visual reasoning with a general conditioning layer" (Perez et al., 2018).
    """

    def __init__(self, options: FilmOptions, inputs: InputSpace, theta_dim: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.theta_dim = theta_dim
        self.state_shapes = ((options.hidden_size,),)
        self.feature_size = options.hidden_size
        self.encoder, size = encoder(inputs, options.embedding_size)
        self.from_input = nn.Linear(size, options.hidden_size, bias=False)
        self.from_state = nn.Linear(options.hidden_size, options.hidden_size, bias=False)
        self.scale = nn.Linear(theta_dim, options.hidden_size, bias=False)
        self.shift = nn.Linear(theta_dim, options.hidden_size)

    def encode(self, values: Tensor) -> Tensor:
        """``[B, T]`` or ``[B, T, D] -> [B, T, E]``."""
        x: Tensor = self.encoder(values)
        return x

    def initial_state(self, batch: int) -> Tensor:
        """Zeros ``[batch, H]``, for every θ."""
        return self.from_state.weight.new_zeros(batch, self.feature_size)

    def step(self, theta: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """``[B, d], [B, E], [B, H] -> [B, H]``."""
        return torch.tanh((1 + self.scale(theta)) * (self.from_input(x) + self.from_state(h)) + self.shift(theta))


# A state map: from states of the meta-model to those of a base model. ------------------------------------------------


class Scaled(StateMap):
    """V(h) = s ∘ h: each unit with a factor of its own, for states of one size."""

    def __init__(self, options: NoOptions, meta_shape: Shape, base_shape: Shape) -> None:
        super().__init__()
        if meta_shape != base_shape or len(meta_shape) != 1:
            raise InvalidValueError(
                f"state-map 'scaled' needs flat states of one size, not {meta_shape} and {base_shape}"
            )
        self.meta_shape = meta_shape
        self.base_shape = base_shape
        self.scale = nn.Parameter(torch.ones(meta_shape))

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, H] -> [B, T, H]``."""
        return self.scale * states


# A head: from features of the meta-model to outputs. -----------------------------------------------------------------


class CosineHead(Head):
    """G̃(h)_k = s cos(w_k, h): outputs that depend on the direction of the features alone."""

    def __init__(self, options: NoOptions, feature_size: int, outputs: OutputSpace) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.outputs = outputs
        self.weight = nn.Parameter(torch.randn(outputs.size, feature_size))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., K]``."""
        return self.scale * functional.normalize(features, dim=-1) @ functional.normalize(self.weight, dim=-1).T


# A divergence: how hidden states or outputs are compared. ------------------------------------------------------------


class LogCosh(Divergence):
    """Σ log cosh(a − b): a square for small differences, a straight line for large ones, smooth throughout."""

    domain = "any"
    is_symmetric = True
    is_metric = False

    def __init__(self, options: NoOptions) -> None:
        """Nothing to set."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., D], [..., D] -> [...]``."""
        size = (prediction - target).abs()
        return (size + functional.softplus(-2 * size) - log(2)).sum(-1).clamp_min(0)  # cosh itself would overflow


# A data set. ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class RampsOptions:
    """Options of the data set ``ramps``."""

    examples: int = at_least(4, 400, "training examples; a quarter as many for tests", most=10**6)
    steps: int = at_least(2, 12, "steps of the longest sequences", most=1000)
    noise: float = at_least(0, 0.3, "standard deviation of the noise")
    seed: int = seed("seed of slopes, lengths and noise")


def make_ramps(options: RampsOptions) -> Dataset:
    """Does a noisy straight line, of 2 to ``steps`` steps, fall (class 0) or rise (class 1)?"""
    generator = torch.Generator().manual_seed(options.seed)

    def examples(count: int) -> Examples:
        slopes = torch.randn(count, 1, generator=generator)
        lengths = torch.randint(2, options.steps + 1, (count, 1), generator=generator)
        times = torch.arange(options.steps)
        noise = options.noise * torch.randn(count, options.steps, generator=generator)
        mask = times < lengths
        values = (slopes * times + noise) * mask
        return Examples(Inputs(values[:, :, None], mask), (slopes[:, 0] > 0).long())

    space, classes = InputSpace("real", (1,)), OutputSpace("classes", 2, group="direction")
    return Dataset(space, classes, train=examples(options.examples), test=examples(options.examples // 4))


# An augmentation: what base models see differs a little each time. ---------------------------------------------------


class Jitter(Augmentation):
    """Adds noise of standard deviation 0.1 to real inputs.

    Raises:
        InvalidValueError: the inputs are token ids.
    """

    def __init__(self, options: NoOptions, inputs: InputSpace) -> None:
        if inputs.kind == "tokens":
            raise InvalidValueError(f"noise can be added to numbers, not to {inputs}")
        self.inputs = inputs

    def __call__(self, values: Tensor) -> Tensor:
        """``[B, ...] -> [B, ...]``."""
        return values + 0.1 * torch.randn_like(values)


# What the plugin offers. ---------------------------------------------------------------------------------------------


@hookimpl
def dynamo_components() -> list[Component]:
    """One component of each kind."""
    return [
        Component("architecture", "leaky", Leaky, "leaky-integrator RNN", LeakyOptions),
        Component("meta-model", "film", Film, "RNN whose units θ scales and shifts", FilmOptions),
        Component("state-map", "scaled", Scaled, "a factor for each unit"),
        Component("head", "cosine", CosineHead, "cosines with a vector for each output"),
        Component("divergence", "log-cosh", LogCosh, "smooth mixture of l2 and l1; no metric"),
        Component("augmentation", "jitter", Jitter, "noise on real inputs"),
        Component("dataset", "ramps", make_ramps, "does a noisy line rise or fall?", RampsOptions),
    ]
