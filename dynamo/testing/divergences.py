"""The contract of divergences."""

import copy

import torch
from torch import Tensor

from dynamo.contracts.checks import divergence_declaration_fault, metric_fault
from dynamo.contracts.protocols import Divergence
from dynamo.testing.claims import claim, claim_close, gradients

SIZE = 6


def check_divergence(divergence: Divergence) -> None:
    """Check the contract of :class:`dynamo.Divergence`, and what it declares: domain, symmetry, metric.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import component
        >>> from dynamo.testing import check_divergence
        >>> check_divergence(component("divergence", "l1").make({}))
    """
    claim(isinstance(divergence, Divergence), f"contract: {type(divergence).__name__} is no Divergence")
    divergence = copy.deepcopy(divergence)
    _check_declaration(divergence)
    _check_values(divergence)
    _check_finite(divergence)
    _check_gradient(divergence)
    _check_symmetry(divergence)
    if divergence.is_metric:
        _check_metric(divergence)
    if divergence.domain == "logits":
        _check_logits(divergence)


def _vectors(seed: int, *batch: int) -> Tensor:
    """Normal vectors ``[*batch, SIZE]`` in double precision."""
    return torch.randn(*batch, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _check_declaration(divergence: Divergence) -> None:
    fault = divergence_declaration_fault(divergence)
    claim(not fault, fault)


def _check_values(divergence: Divergence) -> None:
    """``[..., D] -> [...]`` position by position, non-negative, zero between equals, of the dtype of the arguments."""
    a, b = _vectors(0, 3, 4), _vectors(1, 3, 4)
    before = a.clone(), b.clone()
    values = divergence(a, b)
    claim(torch.equal(a, before[0]) and torch.equal(b, before[1]), "purity: it changes its arguments in place")
    claim(tuple(values.shape) == (3, 4), f"shape: [3, 4, {SIZE}] gives {tuple(values.shape)}; the contract says (3, 4)")
    for dtype in (torch.float32, torch.float64):
        got = divergence(a.to(dtype), b.to(dtype)).dtype
        claim(got == dtype, f"dtype: arguments of {dtype} give {got}")
    claim_close(
        divergence(a[1, 2], b[1, 2]),
        values[1, 2],
        "position independence: a pair alone differs from the same among others",
    )
    for scale in (1e-3, 1.0, 1e3):
        claim(bool((divergence(scale * a, scale * b) >= 0).all()), "non-negative: some values are below zero")
        claim_close(divergence(scale * a, scale * a), torch.zeros_like(values), "zero: it is not zero between equals")
    claim(bool((values > 0).all()), "zero: it is zero between random vectors")


def _check_finite(divergence: Divergence) -> None:
    """Values and gradients are finite in single precision, also where formulas tend to divide by zero or overflow."""
    a, b, zero = _vectors(0, 5).float(), _vectors(1, 5).float(), torch.zeros(5, SIZE)
    places = {
        "at random vectors": (a, b),
        "between equals": (a, a),
        "between zero vectors": (zero, zero),
        "at a zero prediction": (zero, b),
        "at a zero target": (a, zero),
        "at large vectors": (1e4 * a, 1e4 * b),
    }
    for place, pair in places.items():
        prediction, target = (vector.clone().requires_grad_() for vector in pair)
        value = divergence(prediction, target)
        claim(bool(value.isfinite().all()), f"finite: the value is NaN or infinite {place}")
        for name, gradient in zip(("prediction", "target"), gradients(value.sum(), prediction, target), strict=True):
            claim(gradient is not None, f"gradient: none reaches the {name}")
            claim(
                gradient is None or bool(gradient.isfinite().all()),
                f"finite: the gradient of the {name} is NaN or infinite {place}",
            )


def _check_gradient(divergence: Divergence) -> None:
    """The gradients of both arguments agree with finite differences at random vectors (where kinks have no weight)."""
    arguments = (_vectors(0, 3).requires_grad_(), _vectors(1, 3).requires_grad_())
    try:
        torch.autograd.gradcheck(divergence, arguments)
    except RuntimeError as error:
        raise AssertionError(f"gradient: it disagrees with finite differences: {error}") from error


def _check_symmetry(divergence: Divergence) -> None:
    a, b = _vectors(0, 20), _vectors(1, 20)
    if divergence.is_symmetric:
        claim_close(
            divergence(a, b), divergence(b, a), "symmetry: it declares symmetry, and d(a, b) differs from d(b, a)"
        )
    else:
        differ = not torch.allclose(divergence(a, b), divergence(b, a))
        claim(differ, "symmetry: it declares none, and d(a, b) equals d(b, a)")


def _check_metric(divergence: Divergence) -> None:
    """Zero between equals alone, and the triangle inequality on random triples and with a middle on the straight line,
    at several scales.
    """
    fault = metric_fault(divergence, _vectors(0, 50), _vectors(1, 50))
    claim(not fault, fault)
    for scale in (1e-2, 1.0, 1e2):
        a, b, c = (scale * _vectors(seed, 50) for seed in range(3))
        for middle in (b, (a + c) / 2, (a + 9 * c) / 10):
            direct, detour = divergence(a, c), divergence(a, middle) + divergence(middle, c)
            claim(
                bool((direct <= detour * (1 + 1e-9)).all()),
                "triangle inequality: it declares a metric, and some d(a, c) exceeds d(a, b) + d(b, c)",
            )


def _check_logits(divergence: Divergence) -> None:
    """Logits mean the same when a constant is added to all of one vector."""
    a, b = _vectors(0, 20), _vectors(1, 20)
    for shifted in ((a + 3, b), (a, b - 5)):
        claim_close(
            divergence(*shifted), divergence(a, b), "logits: adding a constant to all logits of a vector changes it"
        )
