"""State maps: closed forms, ranks, orthogonality, and what each can and cannot fit."""

import pytest
import torch

from dynamo import DynamoError, StateMap
from dynamo.registry import make, registry

FLAT = ["affine", "linear", "low-rank", "mlp", "orthogonal"]


def state_map(text: str, meta_size: int = 6, base_size: int = 6) -> StateMap:
    return make("state-map", text, StateMap, (meta_size,), (base_size,)).double()


def states(size: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 5, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(made: StateMap, size: int) -> torch.Tensor:
    """W [H', H] of V(h) = W h + b, from unit vectors."""
    with torch.no_grad():
        return (made(torch.eye(size, dtype=torch.float64)) - made(torch.zeros(size, dtype=torch.float64))).T


def fit(made: StateMap, inputs: torch.Tensor, targets: torch.Tensor, rounds: int = 100) -> float:
    """The mean squared error after training."""
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=rounds, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = (made(inputs) - targets).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    return float(loss().detach())


def test_all_are_registered():
    assert {"identity", *FLAT} <= set(registry().names("state-map"))


@pytest.mark.parametrize("shape", [(6,), (3, 4, 4)], ids=str)
def test_identity_gives_the_states_of_any_shape(shape):
    values = torch.randn(2, 5, *shape)
    assert torch.equal(make("state-map", "identity", StateMap, shape, shape)(values), values)


def test_identity_refuses_two_shapes_and_names_both():
    with pytest.raises(DynamoError, match=r"one shape.*\(6,\).*\(7,\)"):
        state_map("identity", 6, 7)


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("shapes", [((3, 4, 4), (6,)), ((6,), (3, 4, 4))], ids=["meta", "base"])
def test_maps_of_flat_states_are_unavailable_for_images(name, shapes):
    with pytest.raises(DynamoError, match=rf"state-map '{name}' is unavailable for images.*\(3, 4, 4\)"):
        make("state-map", name, StateMap, *shapes)


@pytest.mark.parametrize("sizes", [(6, 6), (6, 9), (9, 6)], ids=str)
@pytest.mark.parametrize("name", FLAT)
def test_shapes(name, sizes):
    made = state_map(name, *sizes)
    assert made(states(sizes[0])).shape == (8, 5, sizes[1])
    assert (made.meta_shape, made.base_shape) == ((sizes[0],), (sizes[1],))


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("identity", 0),
        ("linear", 36),
        ("affine", 36 + 6),
        ("low-rank:rank=2", 24 + 6),
        ("low-rank:rank=2,bias=false", 24),
        ("mlp:hidden_size=10", 60 + 10 + 60 + 6),
        ("mlp:hidden_size=10,depth=2", 60 + 10 + 100 + 10 + 60 + 6),
        ("orthogonal:bias=true", 36 + 6),
        ("low-rank", 2 * 6 * 8 + 6),
        ("mlp", 2 * 6 * 256 + 256 + 6),
        ("orthogonal", 36),
    ],
)
def test_parameters_are_counted_by_hand(text, parameters):
    assert sum(parameter.numel() for parameter in state_map(text).parameters()) == parameters


@pytest.mark.parametrize("text", ["linear", "low-rank:bias=false", "orthogonal"])
def test_maps_without_bias_keep_zero_and_sums(text):
    made, a, b = state_map(text), states(seed=0), states(seed=1)
    assert torch.equal(made(torch.zeros_like(a)), torch.zeros_like(a))
    assert torch.allclose(made(a + 2 * b), made(a) + 2 * made(b))


@pytest.mark.parametrize("text", ["affine", "low-rank", "orthogonal:bias=true"])
def test_maps_with_bias_keep_weighted_means(text):
    made, a, b = state_map(text), states(seed=0), states(seed=1)
    torch.nn.init.normal_(next(p for name, p in made.named_parameters() if name.endswith("bias")))
    assert torch.allclose(made(0.3 * a + 0.7 * b), 0.3 * made(a) + 0.7 * made(b))
    assert not torch.allclose(made(torch.zeros_like(a)), torch.zeros_like(a))


def test_mlp_is_not_linear():
    made, a, b = state_map("mlp"), states(seed=0), states(seed=1)
    assert not torch.allclose(made((a + b) / 2), (made(a) + made(b)) / 2)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_low_rank_has_exactly_its_rank(rank):
    assert int(torch.linalg.matrix_rank(matrix(state_map(f"low-rank:rank={rank}", 8, 6), 8))) == rank


def test_a_rank_above_both_sizes_bounds_nothing():
    assert int(torch.linalg.matrix_rank(matrix(state_map("low-rank:rank=50", 8, 6), 8))) == 6


@pytest.mark.parametrize("sizes", [(6, 6), (6, 9), (9, 6)], ids=str)
def test_orthogonal_stays_so_in_training(sizes):
    made = state_map("orthogonal", *sizes)
    before = matrix(made, sizes[0])
    fit(made, states(sizes[0]), states(sizes[1], seed=1), rounds=5)
    after = matrix(made, sizes[0])
    assert not torch.allclose(before, after)
    unit = torch.eye(min(sizes), dtype=torch.float64)
    for w in (before, after):
        assert torch.allclose(w.T @ w if sizes[1] > sizes[0] else w @ w.T, unit, atol=1e-6)


def test_orthogonal_into_no_smaller_space_keeps_lengths():
    made, values = state_map("orthogonal", 6, 9), states()
    assert torch.allclose(made(values).norm(dim=-1), values.norm(dim=-1))


def rotation(size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q if torch.linalg.det(q) > 0 else q[[1, 0, *range(2, size)]]


W = torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
RANK_2 = W[:, :2] @ W[:2]


@pytest.mark.parametrize(
    ("text", "target", "fits"),
    [
        ("linear", lambda h: h @ W, True),
        ("linear", lambda h: h @ W + 1, False),
        ("affine", lambda h: h @ W + 1, True),
        ("affine", lambda h: (h @ W).relu(), False),
        ("low-rank:rank=2", lambda h: h @ RANK_2 + 1, True),
        ("low-rank:rank=1", lambda h: h @ RANK_2, False),
        ("low-rank:rank=2,bias=false", lambda h: h @ RANK_2 + 1, False),
        ("mlp:hidden_size=64", lambda h: (h @ W).relu(), True),
        ("orthogonal", lambda h: 2 * h, False),
    ],
)
def test_what_each_map_can_fit(text, target, fits):
    error = fit(state_map(text), states(), target(states()), rounds=300)
    assert (error < 1e-4) == fits


def test_orthogonal_recovers_a_rotation():
    made = state_map("orthogonal")
    start = matrix(made, 6)
    target = start @ torch.linalg.matrix_power(rotation(6), 1)
    error = fit(made, states(), states() @ target.T, rounds=300)
    assert error < 1e-6
    assert torch.allclose(matrix(made, 6), target, atol=1e-2)


def test_linear_recovers_the_matrix_that_made_the_states():
    made = state_map("linear", 6, 4)
    solution = torch.linalg.lstsq(states().flatten(0, 1), (states() @ W[:, :4]).flatten(0, 1)).solution
    fit(made, states(), states() @ W[:, :4])
    assert torch.allclose(matrix(made, 6), solution.T, atol=1e-3)
    assert torch.allclose(solution, W[:, :4])


@pytest.mark.parametrize("sizes", [(6, 6), (9, 6)], ids=str)
@pytest.mark.parametrize("name", FLAT)
def test_state_dict_round_trip(name, sizes, tmp_path):
    one, other = state_map(name, *sizes), state_map(name, *sizes)
    assert not torch.allclose(one(states(sizes[0])), other(states(sizes[0])))
    torch.save(one.state_dict(), tmp_path / "map.pt")
    other.load_state_dict(torch.load(tmp_path / "map.pt", weights_only=True))
    assert torch.allclose(one(states(sizes[0])), other(states(sizes[0])))


@pytest.mark.parametrize(
    ("text", "rule"),
    [("low-rank:rank=0", "above 0"), ("mlp:hidden_size=0", "above 0"), ("mlp:depth=-1", "from 1 to 100")],
)
def test_sizes_must_be_positive(text, rule):
    with pytest.raises(DynamoError, match=f"must be {rule}"):
        state_map(text)
