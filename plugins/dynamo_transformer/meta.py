"""The Transformer meta-model.

Shapes: B examples, T steps, D units of a step, N heads, d the size of θ.
"""

from typing import TYPE_CHECKING, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import MetaModel
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo_transformer.positions import Learned, Sinusoidal

if TYPE_CHECKING:
    from dynamo_transformer import TransformerOptions


class Conditioned(nn.Module):
    """Layer normalisation, after which θ moves the units of every step alike: Wθ is added (``bias``), or they become
    (1 + Uθ) u + Wθ (``film``; E. Perez et al., 2018, FiLM). At θ = 0, or without a conditioning, it normalises only.
    """

    def __init__(self, size: int, theta_dim: int, conditioning: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        moves, scales = conditioning != "prefix", conditioning == "film"
        self.shift = nn.Linear(theta_dim, size, bias=False) if moves else None
        self.scale = nn.Linear(theta_dim, size, bias=False) if scales else None

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        """``x [B, T, D]``, ``theta [B, d]`` -> ``[B, T, D]``."""
        u = cast(Tensor, self.norm(x))
        if self.scale is not None:
            u = u * (1 + self.scale(theta)[:, None])
        return u if self.shift is None else u + self.shift(theta)[:, None]


class Attention(nn.Module):
    """Steps that look at each other; with ``prefix`` also at one more step, which is an affine function of θ."""

    def __init__(self, size: int, heads: int, theta_dim: int, has_prefix: bool) -> None:
        super().__init__()
        self.heads = heads
        self.entering = nn.Linear(size, 3 * size)
        self.leaving = nn.Linear(size, size)
        self.prefix = nn.Linear(theta_dim, size) if has_prefix else None

    def forward(self, u: Tensor, theta: Tensor, seen: Tensor) -> Tensor:
        """``u [B, T, D]``; ``seen``, broadcast to ``[B, N, T, T]``, says which steps (last) a step sees."""
        query, key, value = self._heads(functional.linear(u, self.entering.weight, self.entering.bias), 3)
        if self.prefix is not None:
            weight, bias = self.entering.weight[u.shape[-1] :], self.entering.bias[u.shape[-1] :]
            before = self._heads(functional.linear(self.prefix(theta)[:, None], weight, bias), 2)
            key, value = (torch.cat([one, own], dim=2) for one, own in zip(before, (key, value), strict=True))
            seen = functional.pad(seen, (1, 0), value=True)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return cast(Tensor, self.leaving(found.transpose(1, 2).flatten(2)))

    def _heads(self, joint: Tensor, parts: int) -> tuple[Tensor, ...]:
        """``[B, T, parts D]`` as that many of ``[B, N, T, D / N]``."""
        batch, steps, size = joint.shape
        split = joint.view(batch, steps, parts, self.heads, size // (parts * self.heads))
        return split.permute(2, 0, 3, 1, 4).unbind(0)


class Block(nn.Module):
    """Attention and a perceptron, each added to what it reads, which is normalised before (R. Xiong et al., 2020, On
    layer normalization in the transformer architecture).
    """

    def __init__(self, options: "TransformerOptions", theta_dim: int) -> None:
        super().__init__()
        size, conditioning = options.hidden_size, options.conditioning
        self.before_attention = Conditioned(size, theta_dim, conditioning)
        self.attention = Attention(size, options.heads, theta_dim, conditioning == "prefix")
        self.before_perceptron = Conditioned(size, theta_dim, conditioning)
        inner = options.widening * size
        self.perceptron = nn.Sequential(nn.Linear(size, inner), nn.GELU(), nn.Linear(inner, size))

    def forward(self, x: Tensor, theta: Tensor, seen: Tensor) -> Tensor:
        """``[B, T, D] -> [B, T, D]``."""
        x = x + self.attention(self.before_attention(x, theta), theta, seen)
        return x + cast(Tensor, self.perceptron(self.before_perceptron(x, theta)))


@final
class MetaTransformer(MetaModel):
    """A Transformer with θ in every block: an encoder, whose steps see all real steps, or with ``causal`` a decoder,
    whose steps see none that come later.

    Its states are those after the blocks, x_l; blocks without a site of their own lie between. Its features are the
    normalised states after the last block. For token inputs a step is the meta-model's own embedding of the token, for
    real inputs an affine map of it; to both their position is added. Steps of padding are seen by no other step.

    Raises:
        DynamoError: inputs that are no sequences, or sequences longer than a table of positions.
    """

    def __init__(self, options: "TransformerOptions", inputs: InputSpace, theta_dim: int) -> None:
        super().__init__()
        if inputs.kind not in ("tokens", "real"):
            raise InvalidValueError(
                f"the meta-model 'transformer' reads sequences of tokens or of real vectors, not {inputs}"
            )
        size, layers, sites = options.hidden_size, options.layers, options.sites or options.layers
        self.inputs, self.theta_dim, self.causal = inputs, theta_dim, options.causal
        is_tokens = inputs.kind == "tokens"
        self.encode = nn.Embedding(inputs.size, size) if is_tokens else nn.Linear(inputs.size, size)
        learned = options.positions == "learned"
        self.positions = Learned(size, options.longest) if learned else Sinusoidal(size)
        self.blocks = nn.ModuleList(Block(options, theta_dim) for _ in range(layers))
        self.norm = nn.LayerNorm(size)
        self.read_after = [(site + 1) * layers // sites for site in range(sites)]
        self.state_shapes = ((size,),) * sites
        self.feature_size = size

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The states ``[B, T, D]`` after the blocks that are sites."""
        x = self.encode(inputs.values).to(theta.dtype)  # under autocast too, what is added up keeps its digits
        x, seen, states = x + self.positions(x), self._seen(inputs.mask), []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, theta, seen)
            if number in self.read_after:
                states.append(x)
        return tuple(states)

    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """The last states, normalised."""
        return cast(Tensor, self.norm(states[-1]))

    def _seen(self, mask: Tensor) -> Tensor:
        """Which steps each step sees: ``[1, 1, T, T]`` of a decoder, where padding comes later than all real steps;
        ``[B, 1, T, T]`` of an encoder.
        """
        steps = mask.shape[1]
        if self.causal:
            return mask.new_ones(steps, steps).tril()[None, None]
        return mask[:, None, None].expand(-1, -1, steps, -1)
