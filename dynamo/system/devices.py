"""Where tensors live, and what multiplies them there."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

from dynamo.contracts.errors import DynamoError

CPU = torch.device("cpu")

Placed = TypeVar("Placed", bound=nn.Module)


def find_device(name: str) -> torch.device:
    """The device of that name with its number, after a first touch.

    Raises:
        DynamoError: there is none here.
    """
    try:
        return torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        raise DynamoError(f"the device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters or buffers are; the CPU where it has none."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def placed(module: Placed, device: torch.device | None) -> Placed:
    """The module on a device; a copy of it where it is on another. Where it is, if no device is given."""
    return module if device is None or device_of(module) == device else deepcopy(module).to(device)


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Let oneDNN multiply matrices in place of MKL while this holds, on CPUs where it does so in single precision.

    MKL leaves more than half of what AMD's processors can do unused. torch turns to oneDNN where products may be
    computed with bfloat16 inside; a processor without units for that computes in float32 as before, which is tried out
    here and not guessed. Whoever has chosen a precision for themselves keeps it.
    """
    if device.type != "cpu" or torch.get_float32_matmul_precision() != "highest" or not _keeps_single_precision():
        yield
        return
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def without_tf32() -> Iterator[None]:
    """Keep cuDNN from TF32, which torch lets it use for recurrent layers and convolutions: what is measured is then the
    same on a GPU as on the CPU, but for rounding. Whoever has chosen a precision for each of them keeps it.
    """
    cudnn = torch.backends.cudnn
    try:
        before = cudnn.allow_tf32
    except RuntimeError:  # torch: what is set for the one and the other differs
        yield
        return
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


@cache
def _keeps_single_precision() -> bool:
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.rand(256, 256, generator=generator, dtype=torch.float32) for _ in range(2)
    )  # bfloat16 errs by 7e-4 here
    torch.set_float32_matmul_precision("medium")
    try:
        found = left @ right
    finally:
        torch.set_float32_matmul_precision("highest")
    exact = left.double() @ right.double()
    return bool(((found - exact).abs() / exact).max() < 1e-5)
