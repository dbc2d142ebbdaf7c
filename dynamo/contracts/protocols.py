"""The contracts that plugins fulfil: what the trainer and the analyses rely on, and all that they rely on.

Each class is abstract. A plugin derives from one, implements what is abstract and overrides nothing else (but for
:meth:`StateMap.map_together`, where it can be faster).
``dynamo.testing`` has a check for each contract. Shapes follow the legend in :mod:`dynamo.contracts.trajectory`. All
are batched; none may change its parameters or buffers when it is called in eval mode.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory


class DynamicalModel(nn.Module, ABC):
    """A network seen as a dynamical system (F_n, G_n): inputs go in, a trajectory of states and outputs comes out.

    Attributes:
        inputs: the space of its inputs.
        outputs: the space of its outputs.
        state_shapes: the shape of its state at each site, without batch and time.
    """

    inputs: InputSpace
    outputs: OutputSpace
    state_shapes: tuple[tuple[int, ...], ...]

    @abstractmethod
    def trajectory(self, inputs: Inputs) -> Trajectory:
        """Run the model; the states and outputs after each step (section 2.1: h_{t+1} = F(x_t, h_t), and G(h_t))."""

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """The answer to the task, as any ``nn.Module`` gives it: ``[B, K]``, or ``[B, T, K]`` with readout ``every``.

        Args:
            values: token ids ``[B, T]``, sequences ``[B, T, D]`` or images ``[B, C, H, W]``.
            mask: ``[B, T]``, True on real steps; all steps are real where it is left out.
        """
        if mask is None:
            steps = values.shape[1] if values.ndim < 4 else 1
            mask = torch.ones(values.shape[0], steps, dtype=torch.bool, device=values.device)
        return self.trajectory(Inputs(values, mask)).at_readout(self.outputs.readout)


class RecurrentModel(DynamicalModel):
    """A model whose dynamics are one map iterated, so that it has fixed points. It has one site."""

    @abstractmethod
    def encode(self, values: Tensor) -> Tensor:
        """What enters the map at each step: ``[B, T] or [B, T, D] -> x [B, T, E]`` (token embeddings, or the inputs
        themselves).
        """

    @abstractmethod
    def initial_state(self, batch: int) -> Tensor:
        """h_0 ``[batch, H]``."""

    @abstractmethod
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """F(x, h): ``[B, E], [B, H] -> [B, H]``."""

    @abstractmethod
    def readout(self, h: Tensor) -> Tensor:
        """G(h): ``[..., H] -> [..., K]``."""


class MetaModel(nn.Module, ABC):
    """The emulator's dynamics F̃(θ, x, h), for a batch in which every example carries its own θ. Heads G̃_k read its
    features.

    The initial state must not depend on θ (section 2.2).

    Attributes:
        inputs: the space of its inputs.
        theta_dim: d, the size of a model embedding.
        state_shapes: the shape of its state at each site.
        feature_size: the size of what :meth:`features` returns.
    """

    inputs: InputSpace
    theta_dim: int
    state_shapes: tuple[tuple[int, ...], ...]
    feature_size: int

    @abstractmethod
    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The states h_θ at each site, ``[B, T, *S]``, for thetas ``[B, d]``."""

    @abstractmethod
    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """What the heads read, from the states at all sites: ``[B, T, feature_size]``."""


class RecurrentMetaModel(MetaModel):
    """A meta-model whose dynamics at any θ are one map iterated. It has one site; its features are its states."""

    @abstractmethod
    def encode(self, values: Tensor) -> Tensor:
        """What enters the map at each step: ``x [B, T, E]``."""

    @abstractmethod
    def initial_state(self, batch: int) -> Tensor:
        """h_0 ``[batch, H]``."""

    @abstractmethod
    def step(self, theta: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """F̃(θ, x, h): ``[B, d], [B, E], [B, H] -> [B, H]``."""


class StateMap(nn.Module, ABC):
    """V_n at one site: states of the meta-model to states of a base model, the same at all times.

    Attributes:
        meta_shape: the shape of the states it takes.
        base_shape: the shape of the states it gives.
    """

    meta_shape: tuple[int, ...]
    base_shape: tuple[int, ...]

    @abstractmethod
    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, *meta_shape] -> [B, T, *base_shape]``."""

    @classmethod
    def map_together(cls, state_maps: Sequence["StateMap"], states: Tensor) -> Tensor:
        """Several maps of this class, each on states of its own: ``[K, B, T, *meta_shape] -> [K, B, T, *base_shape]``.

        One by one, as here, it is always right. A class may do it faster, say with one batched product; this is the one
        method that is there to be overridden.

        Args:
            state_maps: K maps of one class, options and shapes.
            states: K times as many states.
        """
        return torch.stack([state_map(part) for state_map, part in zip(state_maps, states, strict=True)])


class Head(nn.Module, ABC):
    """A hidden-to-output map G̃_k of the meta-model; all base models of one group share it.

    Attributes:
        feature_size: the size of the features it reads.
        outputs: the output space it writes.
    """

    feature_size: int
    outputs: OutputSpace

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., K]``."""


class Divergence(ABC):
    """d(prediction, target), position by position; differentiable in both.

    Attributes:
        domain: what it compares: hidden ``states`` or real outputs, ``logits`` of a softmax, or ``any`` vectors.
        is_symmetric: whether d(a, b) = d(b, a).
        is_metric: whether it also is zero only between equals and keeps the triangle inequality.
    """

    domain: Literal["states", "logits", "any"]
    is_symmetric: bool
    is_metric: bool

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., D], [..., D] -> [...]``, non-negative, zero where both are equal."""


class Augmentation(ABC):
    """Changes training inputs at random in ways that keep their meaning. Its randomness is torch's: a seed fixes it.

    Attributes:
        inputs: the space of the inputs that it changes.
    """

    inputs: InputSpace

    @abstractmethod
    def __call__(self, values: Tensor) -> Tensor:
        """A changed copy of the values of a batch, of the same shape; the batch itself is left as it is."""
