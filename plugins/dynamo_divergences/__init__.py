"""Divergences d(prediction, target) for hidden states (equation 2 of the paper) and outputs (equation 1)."""

from typing import TYPE_CHECKING, Literal

import attrs

from dynamo import Component, hookimpl, option
from dynamo.contracts.options import positive

if TYPE_CHECKING:
    from dynamo import Divergence

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


def _l1(options: L1Options) -> "Divergence":
    from dynamo_divergences.vectors import L1

    return L1(options.reduction)


def _l2(options: L2Options) -> "Divergence":
    from dynamo_divergences.vectors import L2

    return L2(options.squared, options.reduction)


def _huber(options: HuberOptions) -> "Divergence":
    from dynamo_divergences.vectors import Huber

    return Huber(options.delta, options.reduction)


def _cosine(options: object) -> "Divergence":
    from dynamo_divergences.vectors import Cosine

    return Cosine()


def _kl(options: KLOptions) -> "Divergence":
    from dynamo_divergences.distributions import KullbackLeibler

    return KullbackLeibler(options.temperature)


def _js(options: object) -> "Divergence":
    from dynamo_divergences.distributions import JensenShannon

    return JensenShannon()


@hookimpl
def dynamo_components() -> list[Component]:
    """The divergences ``l1``, ``l2``, ``huber``, ``cosine``, ``kl`` and ``js``."""
    return [
        Component("divergence", "l1", _l1, "absolute differences of two vectors; a metric", L1Options),
        Component(
            "divergence",
            "l2",
            _l2,
            "squared differences of two vectors (equation 2); a metric only with squared=false",
            L2Options,
        ),
        Component(
            "divergence",
            "huber",
            _huber,
            "differences of two vectors, squared when small and absolute when large; no metric",
            HuberOptions,
        ),
        Component("divergence", "cosine", _cosine, "directions of two vectors, 1 - cos; no metric"),
        Component(
            "divergence",
            "kl",
            _kl,
            "softmax distributions of two vectors of logits, KL(target || prediction); no metric, not symmetric",
            KLOptions,
        ),
        Component(
            "divergence",
            "js",
            _js,
            "softmax distributions of two vectors of logits, Jensen-Shannon; no metric, though its square root is",
        ),
    ]
