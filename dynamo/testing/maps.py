"""The contracts of state maps and heads, which act on each example and step by itself."""

from collections.abc import Callable

import torch
from torch import Tensor

from dynamo.contracts.protocols import Head, StateMap
from dynamo.testing.claims import Answers, claim, claim_close, claim_floats, claim_gradient, gradients
from dynamo.testing.modules import (
    M,
    check_calls,
    check_gradients,
    check_state_dict,
    double,
    evaluated,
    own_device,
    own_dtype,
    random_sum,
)

BATCH, STEPS = 3, 4


def check_state_map(state_map: StateMap, *, rebuild: Callable[[], StateMap] | None = None) -> None:
    """Check the contract of :class:`dynamo.StateMap`.

    Args:
        state_map: the state map.
        rebuild: makes a new one of the same options, to test that the state dict holds all that was learnt.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import component
        >>> from dynamo.testing import check_state_map
        >>> check_state_map(component("state-map", "affine").make({}, (6,), (4,)))
    """
    claim(isinstance(state_map, StateMap), f"contract: {type(state_map).__name__} is no StateMap")
    _check_map(state_map, state_map.meta_shape, state_map.base_shape, rebuild)
    _check_together(state_map, rebuild() if rebuild else state_map)


def _check_together(first: StateMap, second: StateMap) -> None:
    """Check that two maps of one kind run together give what each gives alone, and as exact gradients."""
    maps = [evaluated(part).double() for part in (first, second)]
    states = torch.stack([_examples(first.meta_shape), 2 * _examples(first.meta_shape)]).to(own_device(first))
    states.requires_grad_()
    alone = torch.stack([state_map(part) for state_map, part in zip(maps, states, strict=True)])
    together = type(first).map_together(maps, states)
    claim_close(together, alone, "map_together: maps run together give something else than one by one")
    leaves = [states, *maps[0].parameters()]
    found, wanted = (gradients(random_sum({"": answers}), *leaves) for answers in (together, alone))
    for one, other in zip(found, wanted, strict=True):
        claim((one is None) == (other is None), "map_together: a gradient is missing")
        if one is not None and other is not None:
            claim_close(one, other, "map_together: gradients differ from those of maps run one by one")


def check_head(head: Head, *, rebuild: Callable[[], Head] | None = None) -> None:
    """Check the contract of :class:`dynamo.Head`.

    Args:
        head: the head.
        rebuild: makes a new one of the same options, to test that the state dict holds all that was learnt.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import OutputSpace, component
        >>> from dynamo.testing import check_head
        >>> check_head(component("head", "linear").make({}, 6, OutputSpace("classes", 4)))
    """
    claim(isinstance(head, Head), f"contract: {type(head).__name__} is no Head")
    _check_map(head, (head.feature_size,), (head.outputs.size,), rebuild)
    features = _examples((head.feature_size,)).to(own_device(head))
    head = evaluated(head).double()
    claim_close(
        head(features[0]),
        head(features)[0],
        "shape: features [N, feature_size] are mapped otherwise than [B, T, feature_size]",
    )


def _check_map(module: M, taken: tuple[int, ...], given: tuple[int, ...], rebuild: Callable[[], M] | None) -> None:
    """Check a module that maps ``[B, T, *taken] -> [B, T, *given]`` position by position."""
    values = _examples(taken).to(own_device(module))
    mapped = evaluated(module)(values.to(own_dtype(module)))
    claim_floats(mapped, (BATCH, STEPS, *given), own_dtype(module), "mapped values")

    def call(module: M) -> Answers:
        return {"mapped values": module(values)}

    before = values.clone()
    module = double(module, call)
    check_calls(module, call)
    claim(torch.equal(before, values), "purity: a call changes the values it is given, in place")
    for b in range(BATCH):
        for t in range(STEPS):
            claim_close(
                module(values[b : b + 1, t : t + 1])[0, 0],
                module(values)[b, t],
                "position independence: a state alone is mapped otherwise than among others",
            )
    leaf = values.clone().requires_grad_()
    (gradient,) = gradients(random_sum({"mapped values": module(leaf)}), leaf)
    claim_gradient(gradient, "the values that are mapped")
    check_gradients(module, call)
    check_state_dict(module, call, rebuild)


def _examples(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(BATCH, STEPS, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
