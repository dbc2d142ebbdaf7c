"""Where tensors live."""

import torch
from torch import nn

from dynamo.errors import DynamoError


def find_device(name: str) -> torch.device:
    """The device of that name, after a first touch.

    Raises:
        DynamoError: there is none here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DynamoError(f"the device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters or buffers are; the CPU where it has none."""
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device
