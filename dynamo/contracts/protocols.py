"""The contracts that plugins fulfil: what the trainer and the analyses rely on, and all that they rely on.

Each class is abstract. A plugin derives from one and implements what is abstract. Of the rest it may override what its
docstring says, where it can be faster; what is final is what it seems. ``dynamo.testing`` has a check for each
contract, and the core checks the first batch of every model itself (:mod:`dynamo.contracts.checks`). Shapes follow the
legend in :mod:`dynamo.contracts.trajectory`. All are batched; none may change its parameters or buffers when it is
called in eval mode.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory, as_inputs, iterate


class DynamicalModel(nn.Module, ABC):
    """A network seen as a dynamical system (F_n, G_n): inputs go in, a trajectory of states and outputs comes out.

    Attributes:
        inputs: the space of its inputs.
        outputs: the space of its outputs.
        state_shapes: the shape of its state at each site, without batch and time.

    Example:
        >>> from dynamo import DynamicalModel, InputSpace, OutputSpace, Trajectory
        >>> class Mean(DynamicalModel):
        ...     '''Reads a sequence; its state is the mean of what it has read.'''
        ...     inputs, outputs, state_shapes = InputSpace("real", (3,)), OutputSpace("real", 3), ((3,),)
        ...     def trajectory(self, inputs):
        ...         counts = torch.arange(1, inputs.values.shape[1] + 1)[:, None]
        ...         means = inputs.values.cumsum(1) / counts
        ...         return Trajectory((means,), means, inputs.mask)
        >>> Mean()(torch.ones(2, 5, 3)).shape
        torch.Size([2, 3])
    """

    inputs: InputSpace
    outputs: OutputSpace
    state_shapes: tuple[tuple[int, ...], ...]

    @abstractmethod
    def trajectory(self, inputs: Inputs) -> Trajectory:
        """Run the model; the states and outputs after each step (section 2.1: h_{t+1} = F(x_t, h_t), and G(h_t)).

        Called by the recorder on the unlabelled inputs (in eval mode, without gradients), by the trainer of base models
        (in training mode), by the fidelity and by every analysis that runs networks.

        Args:
            inputs: a batch of the model's input space, on the model's device.

        Returns:
            One tensor of states a site, ``[B, T, *S]`` with S as :attr:`state_shapes` says, and the outputs
            ``[B, T, K]``. The mask is :meth:`clock`, or ``[B, 1]`` where one step stands for the whole input;
            of a sequence it is compared with the meta-model at the end.
        """

    def clock(self, inputs: Inputs) -> Tensor:
        """At which steps of the inputs the model has a state: ``[B, T]`` bool, True on some of their real steps, the
        last among them if the answer is read there. All real steps, unless a class says otherwise, as one with strides
        may.

        Called where a trajectory is checked.
        """
        return inputs.mask

    @final  # type: ignore[misc]  # torch declares forward as an attribute
    def forward(self, values: Any, mask: Any = None) -> Tensor:
        """The answer to the task, as any ``nn.Module`` gives it: ``[B, K]``, or ``[B, T, K]`` with readout ``every``.

        For the model's users; the core calls :meth:`trajectory`.

        Args:
            values: token ids ``[B, T]``, sequences ``[B, T, D]`` or images ``[B, C, H, W]``; tensors or numpy arrays,
                converted to the model's precision.
            mask: ``[B, T]``, True on real steps; all steps are real where it is left out.

        Raises:
            DynamoError: values that are not of the model's input space; see
                :func:`dynamo.contracts.trajectory.as_inputs`.
        """
        like = next((parameter for parameter in self.parameters() if parameter.is_floating_point()), None)
        return self.trajectory(as_inputs(self.inputs, values, mask, like=like)).at_readout(self.outputs.readout)


class RecurrentModel(DynamicalModel):
    """A model whose dynamics are one map iterated, so that it has fixed points. It has one site.

    Example:
        >>> from dynamo import InputSpace, OutputSpace, RecurrentModel
        >>> class Leaky(RecurrentModel):
        ...     '''A leaky integrator of its input.'''
        ...     inputs, outputs, state_shapes = InputSpace("real", (1,)), OutputSpace("real", 1), ((1,),)
        ...     def encode(self, values):
        ...         return values
        ...     def initial_state(self, batch):
        ...         return torch.zeros(batch, 1)
        ...     def step(self, x, h):
        ...         return 0.5 * h + 0.5 * x
        ...     def readout(self, h):
        ...         return h
        >>> Leaky()(torch.ones(1, 3, 1))
        tensor([[0.8750]])
    """

    @abstractmethod
    def encode(self, values: Tensor) -> Tensor:
        """What enters the map at each step: ``[B, T] or [B, T, D] -> x [B, T, E]`` (token embeddings, or the inputs
        themselves).

        Called by :meth:`trajectory`, and by the analyses of dynamics, which hold an input for ever.
        """

    @abstractmethod
    def initial_state(self, batch: int) -> Tensor:
        """h_0 ``[batch, H]``, on the model's device and in its precision. Called by :meth:`trajectory`, and by the
        analyses of dynamics.
        """

    @abstractmethod
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """F(x, h): ``[B, E], [B, H] -> [B, H]``.

        Called by :meth:`trajectory` once a step, and by the analyses of dynamics (fixed points, linearisation), which
        differentiate it.
        """

    @abstractmethod
    def readout(self, h: Tensor) -> Tensor:
        """G(h): ``[..., H] -> [..., K]``. Called by :meth:`trajectory` on all states at once, and by the analyses of
        dynamics.
        """

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """The step iterated from the initial state, and the readout of every state; see
        :meth:`DynamicalModel.trajectory`. A class may override it to be faster, with the same result.
        """
        h = self.initial_state(inputs.mask.shape[0])  # its length would fix the batch where a model is exported
        states = iterate(self.step, self.encode(inputs.values), h)
        return Trajectory((states,), self.readout(states), inputs.mask)


class MetaModel(nn.Module, ABC):
    """The emulator's dynamics F̃(θ, x, h), for a batch in which every example carries its own θ. Heads G̃_k read its
    features.

    The initial state must not depend on θ (section 2.2).

    Attributes:
        inputs: the space of its inputs.
        theta_dim: d, the size of a model embedding.
        state_shapes: the shape of its state at each site.
        feature_size: the size of what :meth:`features` returns.

    Example:
        >>> from dynamo import InputSpace, component
        >>> meta_model = component("meta-model", "gru").make({"hidden_size": 4}, InputSpace("real", (3,)), 2)
        >>> meta_model.state_shapes, meta_model.feature_size, meta_model.theta_dim
        (((4,),), 4, 2)
    """

    inputs: InputSpace
    theta_dim: int
    state_shapes: tuple[tuple[int, ...], ...]
    feature_size: int

    @abstractmethod
    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The states h_θ at each site, ``[B, T, *S]``, for thetas ``[B, d]``.

        Called by the trainer on each batch, whose examples are those of several base models with their θs, and by
        models held at one θ (``Fit.model_at``).
        """

    @abstractmethod
    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """What the heads read, from the states at all sites: ``[B, T, feature_size]``.

        Called wherever :meth:`states` was, with what it gave.
        """


class RecurrentMetaModel(MetaModel):
    """A meta-model whose dynamics at any θ are one map iterated. It has one site; its features are its states.

    Example:
        >>> from dynamo import InputSpace, RecurrentMetaModel, component
        >>> made = component("meta-model", "gru").make({}, InputSpace("tokens", (11,)), 16)
        >>> isinstance(made, RecurrentMetaModel)
        True
    """

    @abstractmethod
    def encode(self, values: Tensor) -> Tensor:
        """What enters the map at each step: ``x [B, T, E]``. Called as :meth:`RecurrentModel.encode` is."""

    @abstractmethod
    def initial_state(self, batch: int) -> Tensor:
        """h_0 ``[batch, H]``. Called as :meth:`RecurrentModel.initial_state` is."""

    @abstractmethod
    def step(self, theta: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """F̃(θ, x, h): ``[B, d], [B, E], [B, H] -> [B, H]``. Called as :meth:`RecurrentModel.step` is, with a θ for
        each example.
        """

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The step iterated from the initial state; see :meth:`MetaModel.states`. A class may override it to be faster,
        with the same result.
        """
        x, h = self.encode(inputs.values), self.initial_state(inputs.mask.shape[0])
        return (iterate(lambda x, h: self.step(theta, x, h), x, h),)

    @final
    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """The states; see :meth:`MetaModel.features`."""
        return states[0]


class StateMap(nn.Module, ABC):
    """V_n at one site: states of the meta-model to states of a base model, the same at all times.

    Attributes:
        meta_shape: the shape of the states it takes.
        base_shape: the shape of the states it gives.

    Example:
        >>> from dynamo import component
        >>> component("state-map", "affine").make({}, (6,), (4,))(torch.zeros(2, 5, 6)).shape
        torch.Size([2, 5, 4])
    """

    meta_shape: tuple[int, ...]
    base_shape: tuple[int, ...]

    @abstractmethod
    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, *meta_shape] -> [B, T, *base_shape]``. Called by :meth:`map_together` in training, and by the
        fidelity and the analyses of geometry.
        """

    @classmethod
    def map_together(cls, state_maps: Sequence["StateMap"], states: Tensor) -> Tensor:
        """Several maps of this class, each on states of its own: ``[K, B, T, *meta_shape] -> [K, B, T, *base_shape]``.

        Called by the objective, where a step draws several base models of one kind. One by one, as here, it is always
        right. A class may override it to be faster, say with one batched product.

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

    Example:
        >>> from dynamo import OutputSpace, component
        >>> component("head", "linear").make({}, 6, OutputSpace("classes", 4))(torch.zeros(2, 5, 6)).shape
        torch.Size([2, 5, 4])
    """

    feature_size: int
    outputs: OutputSpace

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., K]``. Called by the objective, and by models held at one θ."""


class Divergence(ABC):
    """d(prediction, target), position by position; differentiable in both.

    Attributes:
        domain: what it compares: hidden ``states`` or real outputs, ``logits`` of a softmax, or ``any`` vectors.
        is_symmetric: whether d(a, b) = d(b, a).
        is_metric: whether it also is zero only between equals and keeps the triangle inequality.

    Example:
        >>> from dynamo import component
        >>> component("divergence", "l2").make({})(torch.zeros(1, 3), torch.ones(1, 3))
        tensor([3.])
    """

    domain: Literal["states", "logits", "any"]
    is_symmetric: bool
    is_metric: bool

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., D], [..., D] -> [...]``, non-negative, zero where both are equal.

        Called by the objective on states and outputs ``[B, T, D]``, and by the fidelity and the search over θ.
        """


class Augmentation(ABC):
    """Changes training inputs at random in ways that keep their meaning. Its randomness is torch's: a seed fixes it.

    Attributes:
        inputs: the space of the inputs that it changes.

    Example:
        >>> from dynamo import InputSpace, component
        >>> weak = component("augmentation", "weak").make({}, InputSpace("image", (3, 8, 8)))
        >>> weak(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    inputs: InputSpace

    @abstractmethod
    def __call__(self, values: Tensor) -> Tensor:
        """A changed copy of the values of a batch, of the same shape; the batch itself is left as it is.

        Called by the trainer of base models, and by live sources, on each batch.
        """
