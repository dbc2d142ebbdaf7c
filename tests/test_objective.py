"""Equations 1 to 7 against values worked out by hand and against slow loops."""

import pytest
import torch
from torch import nn

from dynamo.contracts.protocols import Divergence, StateMap
from dynamo.contracts.trajectory import Trajectory, at_readout, join
from dynamo.registry import make
from dynamo.training.objective import (
    block_output_loss,
    hidden_loss,
    losses_together,
    masked_mean,
    model_loss,
    output_loss,
    population_loss,
    readout_mask,
)


def divergence(spec):
    return make("divergence", spec, Divergence)


def test_masked_mean_by_hand():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 100.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    # 1/T over real steps first: (1 + 3)/2 = 2 and 5/1 = 5; then the mean over the batch.
    assert masked_mean(values, mask).item() == pytest.approx(3.5)


def test_padded_steps_reach_neither_value_nor_gradient():
    values = torch.tensor([[1.0, float("nan")], [2.0, float("inf")]], requires_grad=True)
    loss = masked_mean(values, torch.tensor([[True, False], [True, False]]))
    loss.backward()
    assert loss.item() == pytest.approx(1.5)
    assert values.grad.tolist() == [[0.5, 0.0], [0.5, 0.0]]


def test_the_readout_step_is_the_last_that_is_real_or_observed():
    mask = torch.tensor([[True, True, False], [True, False, True], [True, False, False]])
    wanted = torch.tensor([[False, True, False], [False, False, True], [True, False, False]])
    assert torch.equal(readout_mask(mask, "last"), wanted)
    assert readout_mask(mask, "every") is mask


def test_equation_1_against_a_loop():
    prediction, target = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    lengths = [3, 1, 2, 3]
    mask = torch.arange(3) < torch.tensor(lengths)[:, None]
    kl = divergence("kl")
    wanted = sum(sum(kl(prediction[b, t], target[b, t]) for t in range(n)) / n for b, n in enumerate(lengths)) / 4
    torch.testing.assert_close(output_loss(kl, prediction, target, mask), wanted)


def test_equation_2_by_hand():
    # V doubles; states (1, 2) and (3, 0) against (2, 5) and (6, 1): squared errors 0 + 1 and 0 + 1.
    double = nn.Linear(2, 2, bias=False)
    double.weight.data = 2 * torch.eye(2)
    meta, base = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), torch.tensor([[[2.0, 5.0], [6.0, 1.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert hidden_loss(divergence("l2"), [double], [meta], [base], mask).item() == pytest.approx(1.0)


def test_equation_6_is_a_mean_over_blocks():
    # Three blocks of images with one step each; the divergence sums over channels and positions.
    shapes = [(2, 4, 4), (3, 2, 2), (5, 1, 1)]
    meta = [torch.randn(2, 1, *shape) for shape in shapes]
    base = [torch.randn(2, 1, *shape) for shape in shapes]
    found = hidden_loss(divergence("l2"), [nn.Identity()] * 3, meta, base, torch.ones(2, 1, dtype=torch.bool))
    wanted = sum(((a - b) ** 2).sum() / 2 for a, b in zip(meta, base, strict=True)) / 3
    torch.testing.assert_close(found, wanted)


def test_equations_3_and_4_by_hand():
    one = model_loss(torch.tensor(4.0), torch.tensor(3.0), output_weight=0.5)
    two = model_loss(torch.tensor(4.0), torch.tensor(3.0), output_weight=0.0)
    assert one.item() == 5.5
    assert two.item() == 4.0
    assert population_loss(torch.stack([one, two])).item() == 4.75


def test_each_site_is_divided_by_its_own_scale():
    meta, base = [torch.zeros(1, 1, 2), torch.zeros(1, 1, 3)], [torch.ones(1, 1, 2), torch.full((1, 1, 3), 2.0)]
    mask = torch.ones(1, 1, dtype=torch.bool)
    # Squared distances 2 and 12, divided by 4 and 6.
    found = hidden_loss(divergence("l2"), [nn.Identity()] * 2, meta, base, mask, scales=[4.0, 6.0])
    assert found.item() == pytest.approx((0.5 + 2.0) / 2)


def test_equation_5_by_hand():
    # Two blocks, b_t as they are: squared distances 2 and 12; the outputs are the third of B = 3 terms.
    meta, base = [torch.zeros(1, 1, 2), torch.zeros(1, 1, 3)], [torch.ones(1, 1, 2), torch.full((1, 1, 3), 2.0)]
    found = block_output_loss(divergence("l2"), meta, base, torch.ones(1, 1, dtype=torch.bool), torch.tensor(4.0))
    assert found.item() == pytest.approx((2 + 12 + 4) / 3)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 1, 4), (5,)])
@pytest.mark.parametrize("block_outputs", [False, True])
@pytest.mark.parametrize("readout", ["every", "last"])
@pytest.mark.parametrize("kind", ["affine", "linear", "mlp:hidden_size=3"])
def test_losses_together_are_those_of_each_model_alone(kind, sizes, block_outputs, readout):
    """Values and gradients, for two sites, models with equal and with different numbers of examples."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        count, steps, sites = len(sizes), 3, ((4,), (2,))
        made = [[make("state-map", kind, StateMap, shape, shape) for shape in sites] for _ in sizes]
        maps = [[state_map.double() for state_map in pair] for pair in made]
        head, distances = nn.Linear(4, 3), (divergence("huber"), divergence("kl"))
        meta = [torch.randn(sum(sizes), steps, *shape, requires_grad=True) for shape in sites]
        bases = []
        for size in sizes:
            mask = torch.arange(steps) < torch.randint(1, steps + 1, (size, 1))
            states = tuple(torch.randn(size, steps, *shape) for shape in sites)
            bases.append(Trajectory(states, torch.randn(size, steps, 3), mask))
        scales = [[1.0 + number, 2.0] for number in range(count)]
    finally:
        torch.set_default_dtype(torch.float32)
    wanted = []
    for number, base in enumerate(bases):
        own = [torch.split(state, sizes)[number] for state in meta]
        hidden = hidden_loss(distances[0], maps[number], own, base.states, base.mask, scales[number])
        output = output_loss(distances[1], head(own[0]), base.outputs, base.mask)
        if readout == "last":
            answers = at_readout(head(own[0]), base.mask, "last"), at_readout(base.outputs, base.mask, "last")
            output = distances[1](*answers).mean()
        if block_outputs:
            output = block_output_loss(distances[0], own, base.states, base.mask, output)
        wanted.append(torch.stack([hidden, output]))
    joined = join(bases, steps)
    losses = losses_together(distances, maps, head, meta, meta[0], joined, sizes, scales, block_outputs, readout)
    found = torch.stack(losses, dim=1)
    torch.testing.assert_close(found, torch.stack(wanted))
    leaves = [*meta, *head.parameters(), *(p for pair in maps for part in pair for p in part.parameters())]
    weights = torch.randn(count, 2, dtype=torch.float64)
    gradients = [torch.autograd.grad((loss * weights).sum(), leaves) for loss in (found, torch.stack(wanted))]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
