"""Divergences between vectors: hidden states, or real outputs."""

from math import sqrt
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from dynamo import Divergence
from dynamo.contracts import NoOptions

if TYPE_CHECKING:
    from dynamo_divergences import HuberOptions, L1Options, L2Options

Reduction = Literal["sum", "mean"]


def _reduce(terms: Tensor, reduction: Reduction) -> Tensor:
    """``[..., D] -> [...]``."""
    return terms.sum(-1) if reduction == "sum" else terms.mean(-1)


@final
class L1(Divergence):
    """Σ|a − b|, or its mean over the units; a metric either way."""

    domain = "any"
    is_symmetric = True
    is_metric = True

    def __init__(self, options: "L1Options") -> None:
        self.reduction = options.reduction

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., D], [..., D] -> [...]``."""
        return _reduce((prediction - target).abs(), self.reduction)


@final
class L2(Divergence):
    """‖a − b‖² as in equation 2, or ‖a − b‖, which is a metric; with reduction ``mean``, ‖·‖² is divided by D.

    The gradient of ‖a − b‖ at a = b is zero, which is one of its subgradients.
    """

    domain = "any"
    is_symmetric = True

    def __init__(self, options: "L2Options") -> None:
        self.squared = options.squared
        self.reduction = options.reduction
        self.is_metric = not options.squared

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., D], [..., D] -> [...]``."""
        difference = prediction - target
        if self.squared:
            return _reduce(difference.square(), self.reduction)
        norm: Tensor = torch.linalg.vector_norm(difference, dim=-1)
        return norm if self.reduction == "sum" else norm / sqrt(difference.shape[-1])


@final
class Huber(Divergence):
    """Σ of (a − b)²/2 where |a − b| ≤ δ and of δ(|a − b| − δ/2) beyond (Huber, 1964), or its mean over the units."""

    domain = "any"
    is_symmetric = True
    is_metric = False

    def __init__(self, options: "HuberOptions") -> None:
        self.delta = options.delta
        self.reduction = options.reduction

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., D], [..., D] -> [...]``."""
        return _reduce(functional.huber_loss(prediction, target, reduction="none", delta=self.delta), self.reduction)


@final
class Cosine(Divergence):
    """1 − cos(a, b), from 0 for one direction to 2 for opposite ones.

    A zero vector has no direction: the divergence is 0 between two of them, and 1 between it and any other vector, as
    if they were orthogonal. No metric: it is 0 between vectors of one direction and different lengths.
    """

    domain = "any"
    is_symmetric = True
    is_metric = False

    def __init__(self, options: NoOptions) -> None:
        """Nothing to set."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., D], [..., D] -> [...]``."""
        a, a_is_zero = _unit(prediction)
        b, b_is_zero = _unit(target)
        # 1 − cos = ‖a − b‖²/2 for unit vectors: never negative, zero between equals, and accurate between close ones.
        return (a - b).square().sum(-1) / 2 + (a_is_zero != b_is_zero) / 2


def _unit(vector: Tensor) -> tuple[Tensor, Tensor]:
    """``[..., D]`` scaled to length 1 where it is not zero, and where it is ``[...]``; no NaN in value or gradient."""
    norm = torch.linalg.vector_norm(vector, dim=-1)
    is_zero = norm == 0
    return vector / torch.where(is_zero, 1, norm).unsqueeze(-1), is_zero
