"""Generated inputs, and the changes to them that must not matter."""

import torch
from torch import Tensor

from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs, pad_time


def example_inputs(space: InputSpace, batch: int = 5, steps: int = 7, seed: int = 0) -> Inputs:
    """Random inputs of a space: sequences of several lengths, the first of ``steps`` steps; or images, of one step.

    Padding is zero. Numbers are normal and of torch's default dtype; token ids are uniform.

    Example:
        >>> from dynamo import InputSpace
        >>> from dynamo.testing import example_inputs
        >>> example_inputs(InputSpace("tokens", (11,)), batch=3).mask.sum(1)[0]
        tensor(7)
    """
    generator = torch.Generator().manual_seed(seed)
    if space.kind == "image":
        return Inputs(torch.randn(batch, *space.shape, generator=generator), torch.ones(batch, 1, dtype=torch.bool))
    lengths = torch.randint(1, steps + 1, (batch,), generator=generator)
    lengths[0] = steps
    lengths[1:2] = max(1, steps // 2)
    mask = torch.arange(steps) < lengths[:, None]
    if space.kind == "tokens":
        return Inputs(torch.randint(space.size, (batch, steps), generator=generator) * mask, mask)
    return Inputs(torch.randn(batch, steps, space.size, generator=generator) * mask[:, :, None], mask)


def example_thetas(batch: int, theta_dim: int) -> Tensor:
    """Random model embeddings ``[batch, theta_dim]`` in double precision."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, theta_dim, generator=generator, dtype=torch.float64)


def as_dtype(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """A copy of the inputs with numbers of that dtype; token ids keep theirs."""
    values = inputs.values.to(dtype) if inputs.values.is_floating_point() else inputs.values
    return Inputs(values.clone(), inputs.mask.clone())


def changed(inputs: Inputs, where: Tensor, space: InputSpace) -> Inputs:
    """Sequences with other values at the steps ``where [B, T]``: the next token, or numbers moved by 1."""
    other = (inputs.values + 1) % space.size if space.kind == "tokens" else inputs.values + 1
    steps = where if inputs.values.ndim == 2 else where[:, :, None]
    return Inputs(torch.where(steps, other, inputs.values), inputs.mask)


def padded(inputs: Inputs, steps: int) -> Inputs:
    """Sequences with so many steps of padding more."""
    total = inputs.mask.shape[1] + steps
    return Inputs(pad_time(inputs.values, total), pad_time(inputs.mask, total))


def real_steps(tensor: Tensor, inputs: Inputs) -> Tensor:
    """The real steps ``[N, ...]`` of a tensor ``[B, T, ...]``; all of it where one step stands for the whole input."""
    return tensor[inputs.mask] if tensor.shape[1] == inputs.mask.shape[1] else tensor.flatten(0, 1)
