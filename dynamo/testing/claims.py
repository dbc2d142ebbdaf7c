"""What every check is made of: a claim that holds or a message that names the broken contract."""

from collections.abc import Mapping

import torch
from torch import Tensor

Answers = Mapping[str, Tensor]


def claim(holds: bool, broken: str) -> None:
    """Raise ``AssertionError(broken)`` unless the claim holds."""
    if not holds:
        raise AssertionError(broken)


def claim_close(got: Tensor, expected: Tensor, broken: str) -> None:
    """Claim that two tensors are equal up to rounding in double precision; the message gets the largest difference."""
    claim(got.shape == expected.shape, f"{broken} (shapes {tuple(got.shape)} and {tuple(expected.shape)})")
    if not torch.allclose(got, expected, rtol=1e-6, atol=1e-8):
        raise AssertionError(f"{broken} (largest difference {float((got - expected).detach().abs().max()):.3g})")


def claim_answers_close(got: Answers, expected: Answers, broken: str) -> None:
    """Claim that the answers of two calls are equal up to rounding; the message gets the name of one that is not."""
    for name, tensor in expected.items():
        claim_close(got[name], tensor, f"{broken}: {name}")


def gradients(total: Tensor, *leaves: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of a scalar to each leaf; None where there is no path."""
    if not total.requires_grad:
        return (None,) * len(leaves)
    return torch.autograd.grad(total, leaves, allow_unused=True)


def claim_gradient(gradient: Tensor | None, name: str) -> None:
    """Claim that a gradient is there, finite, and not zero throughout."""
    claim(gradient is not None and bool((gradient != 0).any()), f"gradient: none reaches {name}")
    claim(gradient is None or bool(gradient.isfinite().all()), f"gradient: that of {name} has NaN or infinite values")


def claim_floats(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> None:
    """Claim the shape and the dtype of a tensor, and that it is finite."""
    claim(tuple(tensor.shape) == shape, f"shape: {name} have shape {tuple(tensor.shape)}; the contract says {shape}")
    claim(tensor.dtype == dtype, f"dtype: {name} are {tensor.dtype}; the parameters and inputs are {dtype}")
    claim(
        bool(tensor.isfinite().all()), f"finite: {name} have NaN or infinite values (also padded steps must be finite)"
    )
