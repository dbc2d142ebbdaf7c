"""Heads ``[..., feature_size] -> [..., K]``."""

from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from dynamo import Head, OutputSpace

if TYPE_CHECKING:
    from dynamo_heads import LinearOptions, MLPOptions


@final
class Linear(Head):
    """G̃(h) = W h (+ b)."""

    def __init__(self, options: "LinearOptions", feature_size: int, outputs: OutputSpace) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.outputs = outputs
        self.map = nn.Linear(feature_size, outputs.size, bias=options.bias)

    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., K]``."""
        outputs: Tensor = self.map(features)
        return outputs


@final
class MLP(Head):
    """G̃(h) = a perceptron with one hidden layer of GELU units."""

    def __init__(self, options: "MLPOptions", feature_size: int, outputs: OutputSpace) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.outputs = outputs
        hidden_size = options.hidden_size
        self.map = nn.Sequential(nn.Linear(feature_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, outputs.size))

    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., K]``."""
        outputs: Tensor = self.map(features)
        return outputs
