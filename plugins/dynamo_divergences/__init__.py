"""Divergences d(prediction, target) for hidden states (equation 2 of the paper) and outputs (equation 1)."""

from typing import Literal

import attrs

from dynamo import Component, hookimpl, option
from dynamo.contracts.options import positive

_REDUCTION_HELP = "sum over the units, or their mean, so that wide and narrow states weigh the same"


@attrs.frozen
class L1Options:
    """Options of ``l1``."""

    reduction: Literal["sum", "mean"] = option("sum", _REDUCTION_HELP)


@attrs.frozen
class L2Options:
    """Options of ``l2``."""

    squared: bool = option(True, "the squared norm of equation 2; false: the Euclidean distance, which is a metric")
    reduction: Literal["sum", "mean"] = option("sum", _REDUCTION_HELP)


@attrs.frozen
class HuberOptions:
    """Options of ``huber``."""

    delta: float = positive(1.0, "the difference at which the square turns into a straight line")
    reduction: Literal["sum", "mean"] = option("sum", _REDUCTION_HELP)


@attrs.frozen
class KLOptions:
    """Options of ``kl``."""

    temperature: float = positive(1.0, "logits are divided by it and the divergence multiplied by its square")


@hookimpl
def dynamo_components() -> list[Component]:
    """The divergences ``l1``, ``l2``, ``huber``, ``cosine``, ``kl`` and ``js``."""
    return [
        Component(
            "divergence",
            "l1",
            "dynamo_divergences.vectors:L1",
            "absolute differences of two vectors; a metric",
            L1Options,
        ),
        Component(
            "divergence",
            "l2",
            "dynamo_divergences.vectors:L2",
            "squared differences of two vectors (equation 2); a metric only with squared=false",
            L2Options,
        ),
        Component(
            "divergence",
            "huber",
            "dynamo_divergences.vectors:Huber",
            "differences of two vectors, squared when small and absolute when large; no metric",
            HuberOptions,
        ),
        Component(
            "divergence", "cosine", "dynamo_divergences.vectors:Cosine", "directions of two vectors, 1 - cos; no metric"
        ),
        Component(
            "divergence",
            "kl",
            "dynamo_divergences.distributions:KullbackLeibler",
            "softmax distributions of two vectors of logits, KL(target || prediction); no metric, not symmetric",
            KLOptions,
        ),
        Component(
            "divergence",
            "js",
            "dynamo_divergences.distributions:JensenShannon",
            "softmax distributions of two vectors of logits, Jensen-Shannon; no metric, though its square root is",
        ),
    ]
