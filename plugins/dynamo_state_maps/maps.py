"""State maps ``[B, T, H] -> [B, T, H']`` between flat states. Only ``identity`` takes states of any shape."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dynamo import StateMap
from dynamo.contracts import InvalidValueError, NoOptions

if TYPE_CHECKING:
    from dynamo_state_maps import LowRankOptions, MLPOptions, OrthogonalOptions

Shape = tuple[int, ...]


def _sizes(name: str, meta_shape: Shape, base_shape: Shape) -> tuple[int, int]:
    """The sizes of two flat shapes.

    Raises:
        InvalidValueError: a shape of several dimensions.
    """
    for whose, shape in (("meta-model", meta_shape), ("base model", base_shape)):
        if len(shape) != 1:
            raise InvalidValueError(
                f"state-map {name!r} is unavailable for images: it maps flat states, and those of the {whose} have "
                f"shape {shape}; take 'conv', or 'tokens' for transformers"
            )
    return meta_shape[0], base_shape[0]


def _layers_together(layers: Sequence[nn.Linear], states: Tensor) -> Tensor:
    """Each layer on states of its own, in one batched product: ``[K, B, T, H] -> [K, B, T, H']``."""
    weights, flat = torch.stack([layer.weight for layer in layers]).transpose(1, 2), states.flatten(1, 2)
    if layers[0].bias is None:
        mapped = torch.bmm(flat, weights)
    else:
        mapped = torch.baddbmm(torch.stack([layer.bias for layer in layers]).unsqueeze(1), flat, weights)
    return mapped.view(*states.shape[:3], -1)


@final
class Identity(StateMap):
    """V(h) = h, for states of one shape (flat or not).

    Raises:
        InvalidValueError: the two shapes differ.
    """

    def __init__(self, options: NoOptions, meta_shape: Shape, base_shape: Shape) -> None:
        super().__init__()
        if meta_shape != base_shape:
            raise InvalidValueError(
                f"state-map 'identity' needs states of one shape; those of the meta-model have {meta_shape} and those "
                f"of the base model {base_shape}: give the meta-model that shape, or use another map"
            )
        self.meta_shape = meta_shape
        self.base_shape = base_shape

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, *S] -> [B, T, *S]``."""
        return states


@final
class Linear(StateMap):
    """V(h) = W h."""

    def __init__(self, options: NoOptions, meta_shape: Shape, base_shape: Shape) -> None:
        super().__init__()
        self.meta_shape = meta_shape
        self.base_shape = base_shape
        self.map = nn.Linear(*_sizes("linear", meta_shape, base_shape), bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, H] -> [B, T, H']``."""
        mapped: Tensor = self.map(states)
        return mapped

    @classmethod
    def map_together(cls, state_maps: Sequence[StateMap], states: Tensor) -> Tensor:
        """``[K, B, T, H] -> [K, B, T, H']``."""
        return _layers_together([cast(Linear, state_map).map for state_map in state_maps], states)


@final
class Affine(StateMap):
    """V(h) = W h + b."""

    def __init__(self, options: NoOptions, meta_shape: Shape, base_shape: Shape) -> None:
        super().__init__()
        self.meta_shape = meta_shape
        self.base_shape = base_shape
        self.map = nn.Linear(*_sizes("affine", meta_shape, base_shape))

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, H] -> [B, T, H']``."""
        mapped: Tensor = self.map(states)
        return mapped

    @classmethod
    def map_together(cls, state_maps: Sequence[StateMap], states: Tensor) -> Tensor:
        """``[K, B, T, H] -> [K, B, T, H']``."""
        return _layers_together([cast(Affine, state_map).map for state_map in state_maps], states)


@final
class LowRank(StateMap):
    """V(h) = L R h (+ b) with L ``[H', rank]`` and R ``[rank, H]``; a rank above both sizes bounds nothing."""

    def __init__(self, options: "LowRankOptions", meta_shape: Shape, base_shape: Shape) -> None:
        super().__init__()
        self.meta_shape = meta_shape
        self.base_shape = base_shape
        meta_size, base_size = _sizes("low-rank", meta_shape, base_shape)
        self.right = nn.Linear(meta_size, options.rank, bias=False)
        self.left = nn.Linear(options.rank, base_size, bias=options.bias)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, H] -> [B, T, H']``."""
        mapped: Tensor = self.left(self.right(states))
        return mapped


@final
class MLP(StateMap):
    """V(h) = a perceptron with ``depth`` hidden layers of ``hidden_size`` GELU units."""

    def __init__(self, options: "MLPOptions", meta_shape: Shape, base_shape: Shape) -> None:
        super().__init__()
        self.meta_shape = meta_shape
        self.base_shape = base_shape
        meta_size, base_size = _sizes("mlp", meta_shape, base_shape)
        hidden_size, layers = options.hidden_size, list[nn.Module]()
        for fan_in, fan_out in pairwise([meta_size, *[hidden_size] * options.depth]):
            layers += [nn.Linear(fan_in, fan_out), nn.GELU()]
        self.map = nn.Sequential(*layers, nn.Linear(hidden_size, base_size))

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, H] -> [B, T, H']``."""
        mapped: Tensor = self.map(states)
        return mapped


@final
class Orthogonal(StateMap):
    """V(h) = Q h (+ b), where Q ``[H', H]`` has orthonormal rows or, if H' > H, orthonormal columns, also in training.

    Q is parametrized by the matrix exponential, or by Householder reflections where sizes differ, see
    ``torch.nn.utils.parametrizations.orthogonal``. Where H' ≥ H it keeps lengths and angles: it cannot rescale states.
    """

    def __init__(self, options: "OrthogonalOptions", meta_shape: Shape, base_shape: Shape) -> None:
        super().__init__()
        self.meta_shape = meta_shape
        self.base_shape = base_shape
        layer = nn.Linear(*_sizes("orthogonal", meta_shape, base_shape), bias=options.bias)
        self.map = parametrizations.orthogonal(layer)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, H] -> [B, T, H']``."""
        mapped: Tensor = self.map(states)
        return mapped
