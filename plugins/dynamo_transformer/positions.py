"""Where a step stands in its sequence, as a vector that is added to it."""

from math import log

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError


class Sinusoidal(nn.Module):
    """Sines and cosines of wavelengths from 2π to 10,000 · 2π steps (A. Vaswani et al., 2017, Attention is all you
    need, section 3.5), the sines first. Any number of steps has them.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """The positions of the steps of ``x [B, T, size]``: ``[T, size]``."""
        half = self.size // 2
        rates = torch.exp(torch.arange(half, device=x.device) * (-log(10_000.0) / half))
        angles = torch.arange(x.shape[1], device=x.device)[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(x.dtype)


class Learned(nn.Module):
    """A table of vectors that are learnt, one for each step."""

    def __init__(self, size: int, longest: int) -> None:
        super().__init__()
        self.table = nn.Embedding(longest, size)

    def forward(self, x: Tensor) -> Tensor:
        """The positions of the steps of ``x [B, T, size]``: ``[T, size]``.

        Raises:
            InvalidValueError: there are more steps than the table has.
        """
        steps, longest = x.shape[1], self.table.num_embeddings
        if steps > longest:
            raise InvalidValueError(
                f"the meta-model 'transformer' has learnt positions for {longest} steps, and a sequence has {steps}: "
                f"raise longest, take positions=sinusoidal, or cut the sequences"
            )
        return self.table.weight[:steps]
