"""The fast path of the GRU meta-model against torch's own layer and cell: states, gradients, precisions."""

import pytest
import torch
from torch import nn

from dynamo import Inputs, InputSpace
from dynamo.contracts.protocols import MetaModel
from dynamo.registry import make
from dynamo_rnn.sequence import GRUSequence, Packing

REAL, TOKENS = InputSpace("real", (2,)), InputSpace("tokens", (7,))


def meta_gru(space, hidden=6):
    torch.manual_seed(0)
    return make("meta-model", f"gru:hidden_size={hidden},embedding_size=5", MetaModel, space, 3)


def example(space, batch=4, steps=8):
    torch.manual_seed(1)
    values = torch.randn(batch, steps, 2) if space is REAL else torch.randint(7, (batch, steps))
    return values, torch.randn(batch, 3, requires_grad=True)


def gradients(meta, states, theta, weights):
    """Those of every parameter and of θ, for a fixed weighted sum of the states."""
    leaves = {**dict(meta.named_parameters()), "theta": theta}
    return dict(zip(leaves, torch.autograd.grad((states * weights).sum(), list(leaves.values())), strict=True))


def all_real(values):
    return torch.ones(values.shape[:2], dtype=torch.bool)


def fast(meta, values, theta, mask=None):
    return meta.states(Inputs(values, all_real(values) if mask is None else mask), theta)[0]


@pytest.mark.parametrize("space", [REAL, TOKENS])
@pytest.mark.parametrize(("batch", "steps"), [(4, 8), (1, 1), (5, 1), (1, 9)])
def test_the_fast_path_is_torchs_layer(space, batch, steps):
    meta = meta_gru(space).double()
    values, theta = example(space, batch, steps)
    values, theta = values.double() if space is REAL else values, theta.detach().double().requires_grad_()
    found, wanted = fast(meta, values, theta), meta.plain_states(values, theta)
    assert "GRUSequence" in type(found.grad_fn).__name__
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(found.shape, dtype=torch.float64)
    torch.testing.assert_close(gradients(meta, found, theta, weights), gradients(meta, wanted, theta, weights))


@pytest.mark.parametrize("space", [REAL, TOKENS])
@pytest.mark.parametrize("lengths", [(8, 8, 8, 8), (3, 8, 1, 8), (2, 5, 1, 4), (1, 1, 1, 1)])
def test_padded_steps_are_left_out_and_nothing_else_changes(space, lengths):
    meta = meta_gru(space).double()
    values, theta = example(space)
    values, theta = values.double() if space is REAL else values, theta.detach().double().requires_grad_()
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    found, wanted = fast(meta, values, theta, mask), meta.plain_states(values, theta)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found[mask], wanted[mask])
    weights = torch.randn(found.shape, dtype=torch.float64) * mask[..., None]
    torch.testing.assert_close(gradients(meta, found, theta, weights), gradients(meta, wanted, theta, weights))


def test_real_steps_stand_one_after_the_other_longest_sequence_first():
    packing = Packing.of(torch.arange(4) < torch.tensor([2, 3, 1])[:, None])
    assert packing.order.tolist() == [1, 0, 2]
    assert packing.counts == [3, 2, 1]  # no sequence has a fourth step
    assert packing.places.tolist() == [4, 0, 8, 5, 1, 6]
    assert packing.shape == (3, 4)


def test_large_batches_are_run_in_sixteenths():
    lengths = torch.arange(64) % 7 + 1
    mask = torch.arange(9) < lengths[:, None]
    packing = Packing.of(mask)
    real = mask.sum(0)[:7].tolist()
    assert packing.counts == [-(-count // 4) * 4 for count in real]
    for places, count in zip(torch.split(packing.places, packing.counts), real, strict=True):
        assert bool(mask.flatten()[places[:count]].all())
        assert not bool(mask.flatten()[places[count:]].any())
    assert len(set(packing.places.tolist())) == len(packing.places)
    meta = meta_gru(TOKENS).double()
    values, theta = example(TOKENS, 64, 9)
    theta = theta.detach().double().requires_grad_()
    found, wanted = fast(meta, values, theta, mask), meta.plain_states(values, theta)
    torch.testing.assert_close(found[mask], wanted[mask])
    weights = torch.randn(found.shape, dtype=torch.float64) * mask[..., None]
    torch.testing.assert_close(gradients(meta, found, theta, weights), gradients(meta, wanted, theta, weights))


@pytest.mark.parametrize("vocabulary", [7, 500])  # smaller and larger than the batch
def test_each_word_meets_the_weights_once(vocabulary):
    space = InputSpace("tokens", (vocabulary,))
    meta = meta_gru(space).double()
    values, theta = torch.randint(vocabulary, (4, 8)), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    found, wanted = fast(meta, values, theta), meta.plain_states(values, theta)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(found.shape, dtype=torch.float64)
    torch.testing.assert_close(gradients(meta, found, theta, weights), gradients(meta, wanted, theta, weights))


@pytest.mark.parametrize("space", [REAL, TOKENS])
def test_the_fast_path_is_the_cell_iterated(space):
    meta = meta_gru(space)
    values, theta = example(space)
    x, h = meta.encode(values), meta.initial_state(len(values))
    for t, found in enumerate(fast(meta, values, theta).unbind(1)):
        h = meta.step(theta, x[:, t], h)
        torch.testing.assert_close(found, h)


@pytest.mark.parametrize("lengths", [(4, 4), (2, 4)])
def test_gradients_against_finite_differences(lengths):
    torch.manual_seed(0)
    shapes = ((5, 9), (2, 9), (9, 3), (9,))
    table, bias, weight, bias_hh = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    packing = Packing.of(torch.arange(4) < torch.tensor(lengths)[:, None])
    rows = torch.tensor([0, 3, 3, 3, 1, 0, 4, 1])[: sum(lengths)]  # 2 stands nowhere, 3 three times

    def run(*tensors):
        return GRUSequence.apply(tensors[0], rows, packing, *tensors[1:])

    assert torch.autograd.gradcheck(run, (table, bias, weight, bias_hh))


def test_frozen_weights_get_no_gradient_and_theta_the_same_one():
    meta = meta_gru(TOKENS)
    values, theta = example(TOKENS)
    (wanted,) = torch.autograd.grad(fast(meta, values, theta).sum(), theta)
    meta.requires_grad_(False)
    (found,) = torch.autograd.grad(fast(meta, values, theta).sum(), theta)
    assert torch.equal(found, wanted)


def test_the_layers_parameters_are_torchs():
    """Fits that were saved with torch's layer load, and nothing else is kept."""
    names = {"embedding.weight"} | {f"rnn.{name}" for name in nn.GRU(5, 6).state_dict()}
    assert set(meta_gru(TOKENS).state_dict()) == names


def test_autocast_is_left_to_torchs_layer():
    meta = meta_gru(TOKENS)
    values, theta = example(TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(meta, values, theta), meta.plain_states(values, theta))


def test_states_can_be_differentiated_again_and_again_but_not_twice():
    meta = meta_gru(TOKENS)
    values, theta = example(TOKENS)
    total = fast(meta, values, theta).square().sum()
    first, second = (torch.autograd.grad(total, theta, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    (graph,) = torch.autograd.grad(total, theta, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        graph.sum().backward()


def test_what_leaves_for_other_runtimes_holds_torchs_layer():
    class States(nn.Module):
        def __init__(self):
            super().__init__()
            self.meta = meta_gru(TOKENS)

        def forward(self, values, theta):
            return fast(self.meta, values, theta)

    program = torch.export.export(States(), example(TOKENS))
    assert "aten.gru.input" in {str(node.target) for node in program.graph.nodes}


@pytest.mark.parametrize(
    ("training", "gradients", "fused"), [(True, True, True), (False, True, False), (False, False, True)]
)
def test_gradients_in_eval_mode_do_without_cudnn(monkeypatch, training, gradients, fused):
    meta = meta_gru(REAL).train(training)
    seen = []
    monkeypatch.setattr(meta.rnn, "forward", lambda x: seen.append(torch.backends.cudnn.enabled) or [x])
    with torch.set_grad_enabled(gradients):
        meta.plain_states(*example(REAL))
    assert seen == [fused]
