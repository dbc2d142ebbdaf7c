"""The check of divergences passes sound ones, and fails each mutant that breaks one contract."""

import pytest
import torch

from dynamo.testing import check_divergence
from sound import SoundDivergence, breaks


class Absolute(SoundDivergence):
    """A sound metric."""

    is_metric = True

    def of(self, difference, a, b):
        return difference.abs().sum(-1)


class SoundLogits(SoundDivergence):
    """A sound divergence of logits that is not symmetric."""

    domain = "logits"
    is_symmetric = False

    def of(self, difference, a, b):
        log_p = b.log_softmax(-1)
        return (log_p.exp() * (log_p - a.log_softmax(-1))).sum(-1).clamp_min(0)


class NoDivergence:
    domain, is_symmetric, is_metric = "any", True, False


class NoDomain(SoundDivergence):
    domain = "images"


class NoSymmetryFlag(SoundDivergence):
    is_symmetric = None


class AsymmetricMetric(SoundDivergence):
    is_symmetric, is_metric = False, True


class WritesArguments(SoundDivergence):
    def of(self, difference, a, b):
        a.data.mul_(2)
        return super().of(difference, a, b)


class KeepsDimension(SoundDivergence):
    def of(self, difference, a, b):
        return difference.square().sum(-1, keepdim=True)


class OneNumber(SoundDivergence):
    def of(self, difference, a, b):
        return difference.square().sum()


class SinglePrecision(SoundDivergence):
    def of(self, difference, a, b):
        return super().of(difference, a, b).float()


class MixesPositions(SoundDivergence):
    def of(self, difference, a, b):
        values = super().of(difference, a, b)
        return values * values.mean()


class Negative(SoundDivergence):
    def of(self, difference, a, b):
        return difference.prod(-1) * super().of(difference, a, b)


class NotZeroAtEquality(SoundDivergence):
    def of(self, difference, a, b):
        return super().of(difference, a, b) + 1e-3


class AlwaysZero(SoundDivergence):
    def of(self, difference, a, b):
        return 0 * super().of(difference, a, b)


class RootOfZero(Absolute):
    """The Euclidean distance, with a gradient of 0/0 between equals."""

    def of(self, difference, a, b):
        return difference.square().sum(-1).sqrt()


class OwnCosine(SoundDivergence):
    """NaN at zero vectors."""

    def of(self, difference, a, b):
        return (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).clamp_min(0)


class Overflowing(SoundDivergence):
    def of(self, difference, a, b):
        return (difference / 1e2).cosh().log().sum(-1)


class DetachedTarget(SoundDivergence):
    def __call__(self, prediction, target):
        return (prediction - target.detach()).square().sum(-1)


class DetachedPrediction(SoundDivergence):
    def __call__(self, prediction, target):
        return (prediction.detach() - target).square().sum(-1)


class NoGradient(SoundDivergence):
    @torch.no_grad()
    def of(self, difference, a, b):
        return super().of(difference, a, b)


class WrongGradient(SoundDivergence):
    def of(self, difference, a, b):
        return (difference * (2 * difference - difference.detach())).sum(-1)


class SymmetricAfterAll(SoundDivergence):
    is_symmetric = False


class NotSymmetric(SoundDivergence):
    def of(self, difference, a, b):
        return (difference.square() * b.square()).sum(-1)


class NoTriangle(SoundDivergence):
    is_metric = True


class NotDefinite(SoundDivergence):
    """The distance of directions, which is no metric of vectors although it keeps the triangle inequality."""

    is_metric = True

    def of(self, difference, a, b):
        units = [v / torch.where(v == 0, 1, v).norm(dim=-1, keepdim=True).clamp_min(1e-6) for v in (a, b)]
        return (units[0] - units[1]).abs().sum(-1)


class NoLogits(SoundDivergence):
    domain = "logits"


MUTANTS = {
    NoDivergence: "contract: ",
    NoDomain: "declaration: domain",
    NoSymmetryFlag: "declaration: is_symmetric",
    AsymmetricMetric: "declaration: a metric",
    WritesArguments: "purity: ",
    KeepsDimension: "shape: ",
    OneNumber: "shape: ",
    SinglePrecision: "dtype: ",
    MixesPositions: "position independence: ",
    Negative: "non-negative: ",
    NotZeroAtEquality: "zero: it is not zero between equals",
    AlwaysZero: "zero: it is zero between random vectors",
    RootOfZero: "finite: the gradient of the prediction is NaN or infinite between equals",
    OwnCosine: "finite: the value is NaN or infinite between zero vectors",
    Overflowing: "finite: the value is NaN or infinite at large vectors",
    DetachedTarget: "gradient: none reaches the target",
    DetachedPrediction: "gradient: none reaches the prediction",
    NoGradient: "gradient: none reaches the prediction",
    WrongGradient: "gradient: it disagrees",
    SymmetricAfterAll: "symmetry: it declares none",
    NotSymmetric: "symmetry: it declares symmetry",
    NoTriangle: "triangle inequality: ",
    NotDefinite: "zero: it declares a metric",
    NoLogits: "logits: ",
}


@pytest.mark.parametrize(("mutant", "broken"), MUTANTS.items(), ids=[mutant.__name__ for mutant in MUTANTS])
def test_check_divergence_fails_each_mutant(mutant, broken):
    with breaks(broken):
        check_divergence(mutant())


@pytest.mark.parametrize("sound", [SoundDivergence, Absolute, SoundLogits])
def test_sound_divergences_pass(sound):
    check_divergence(sound())
