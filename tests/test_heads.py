"""Heads: closed forms, sizes and options."""

import pytest
import torch

from dynamo import DynamoError, Head, OutputSpace
from dynamo.registry import make, registry

CLASSES = OutputSpace("classes", 3)


def head(text: str, outputs: OutputSpace = CLASSES) -> Head:
    return make("head", text, Head, 5, outputs)


def test_both_are_registered():
    assert {"linear", "mlp"} <= set(registry().names("head"))


@pytest.mark.parametrize("text", ["linear", "mlp"])
@pytest.mark.parametrize("outputs", [CLASSES, OutputSpace("real", 2, "every", "velocity")], ids=str)
@pytest.mark.parametrize("shape", [(4, 7), (4,), ()], ids=str)
def test_shapes(text, outputs, shape):
    made = head(text, outputs)
    assert made(torch.randn(*shape, 5)).shape == (*shape, outputs.size)
    assert (made.feature_size, made.outputs) == (5, outputs)


def test_linear_is_a_matrix_and_a_bias():
    made, features = head("linear"), torch.randn(4, 7, 5)
    weight, bias = (made.state_dict()[f"map.{name}"] for name in ("weight", "bias"))
    assert torch.allclose(made(features), torch.einsum("kf,btf->btk", weight, features) + bias, atol=1e-6)


def test_linear_without_bias_keeps_zero():
    assert torch.equal(head("linear:bias=no")(torch.zeros(5)), torch.zeros(3))
    assert not torch.equal(head("linear")(torch.zeros(5)), torch.zeros(3))


def test_mlp_by_hand():
    made, features = head("mlp:hidden_size=4"), torch.randn(2, 5)
    first, first_bias, second, second_bias = made.parameters()
    hidden = features @ first.T + first_bias
    gelu = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    assert torch.allclose(made(features), gelu @ second.T + second_bias, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [("linear", 18), ("linear:bias=false", 15), ("mlp:hidden_size=4", 39), ("mlp", 8 * 256 + 259)],
)
def test_parameters_are_counted_by_hand(text, parameters):
    assert sum(parameter.numel() for parameter in head(text).parameters()) == parameters


def test_hidden_size_must_be_positive():
    with pytest.raises(DynamoError, match="'hidden_size' is 0: it must be above 0"):
        head("mlp:hidden_size=0")
