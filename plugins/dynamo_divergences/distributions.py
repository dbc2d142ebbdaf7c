"""Divergences between the softmax distributions of two vectors of logits."""

from math import log
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from dynamo import Divergence
from dynamo.contracts import NoOptions

if TYPE_CHECKING:
    from dynamo_divergences import KLOptions


@final
class KullbackLeibler(Divergence):
    """T² · KL(softmax(target / T) ‖ softmax(prediction / T)), in nats.

    The factor T² keeps the size of the gradient, which would otherwise shrink as 1/T², comparable across temperatures
    (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015).
    """

    domain = "logits"
    is_symmetric = False
    is_metric = False

    def __init__(self, options: "KLOptions") -> None:
        self.temperature = options.temperature

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., K], [..., K] -> [...]``."""
        log_q = _log_softmax(prediction / self.temperature)
        log_p = _log_softmax(target / self.temperature)
        return self.temperature**2 * _kl(log_p, log_q)


@final
class JensenShannon(Divergence):
    """½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2, for the softmaxes p and q; in nats, at most ln 2 (Lin, 1991).

    It is symmetric. Its square root is a metric on distributions (Endres and Schindelin, 2003); it is not.
    """

    domain = "logits"
    is_symmetric = True
    is_metric = False

    def __init__(self, options: NoOptions) -> None:
        """Nothing to set."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``[..., K], [..., K] -> [...]``."""
        log_q, log_p = _log_softmax(prediction), _log_softmax(target)
        log_m = torch.logaddexp(log_p, log_q) - log(2)
        return (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) ``[...]`` from log-probabilities ``[..., K]``; the clamp removes rounding below zero."""
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min(0)


def _log_softmax(logits: Tensor) -> Tensor:
    """Over the last dimension; several times faster than torch's kernel for few classes."""
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()
