"""Fixed points, on maps where all of them are known."""

import pytest
import torch
from scipy.optimize import brentq

import dynamics_problems as known
import problems
from dynamics_problems import scattered
from dynamo import DynamoError, Inputs
from dynamo.analysis.dynamics import fixed_points
from dynamo.analysis.dynamics.constant_input import constant_input
from dynamo.analysis.dynamics.fixed_points import find_fixed_points, sample_states

ZERO = torch.zeros(2)


def assert_same_points(found, wanted, atol=1e-6):
    """Precision and recall are both 1."""
    distances = torch.cdist(found, wanted.double())
    assert len(found) == len(wanted)
    assert float(distances.min(0).values.max()) < atol
    assert float(distances.min(1).values.max()) < atol


def linear(size=5, seed=0, spectral=0.9):
    matrix = scattered(size, size, seed=seed)
    matrix = spectral * matrix / torch.linalg.eigvals(matrix).abs().max()
    return known.Linear(matrix.float(), scattered(size, 2, seed=seed + 1).float(), scattered(1, size)[0].float())


@pytest.mark.parametrize("method", ["newton", "nearest", "gradient", "lbfgs"])
def test_every_method_finds_the_one_fixed_point_of_a_linear_map(method):
    model, x = linear(), torch.tensor([0.3, -1.0])
    found = find_fixed_points(model, x, scattered(20, 5), method=method)
    assert_same_points(found.states, model.fixed_point(x)[None], atol=1e-4)
    assert found.is_fixed.all()
    assert found.counts.tolist() == [20]
    assert found.ends.tolist() == [0] * 20
    assert found.unconverged == found.exploded == 0


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_points_of_a_cube_are_found_and_nothing_else(size):
    model = known.Cube(size)
    found = find_fixed_points(model, ZERO, scattered(300, size))
    assert_same_points(found.states, model.points())
    assert found.is_fixed.all()
    assert not found.is_outlier.any()


@pytest.mark.parametrize("method", ["newton", "nearest", "gradient", "lbfgs"])
@pytest.mark.parametrize(("size", "count"), [(2, 3), (3, 3), (4, 9)])
def test_every_method_finds_all_points_of_the_problems_of_another_program(size, count, method):
    """From the grid of 3 ** n starts that this program takes."""
    model = known.Rolled(size)
    wanted = model.points()
    assert len(wanted) == count
    assert float((model.step(None, wanted) - wanted).abs().max()) < 2e-9
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 3, dtype=torch.float64)] * size)
    found = find_fixed_points(model, torch.zeros(1), grid, method=method)
    assert_same_points(found.states[found.is_fixed], wanted, atol=2e-3)
    assert not found.is_outlier[found.is_fixed].any()


def test_midpoints_find_saddles_that_starts_at_the_attractors_cannot():
    model = known.Cube(3)
    points = model.points()
    corners = points[model.index(points) == 0] + 1e-3
    alone = find_fixed_points(model, ZERO, corners, midpoints=0)
    assert_same_points(alone.states, points[model.index(points) == 0])
    found = find_fixed_points(model, ZERO, corners.repeat(40, 1))
    assert_same_points(found.states, points)
    assert sorted(found.counts.tolist()) == [0] * 19 + [40] * 8
    assert found.counts[:8].tolist() == [40] * 8


def test_a_circulant_network_of_one_mode_has_three_fixed_points():
    model = known.Circulant(torch.full((6,), 1.5 / 6))
    level = brentq(lambda c: torch.tanh(torch.tensor(1.5 * c, dtype=torch.float64)).item() - c, 0.1, 1)
    found = find_fixed_points(model, torch.zeros(1), scattered(60, 6))
    assert_same_points(found.states, level * torch.tensor([[-1.0], [0], [1]]).expand(3, 6))


def test_a_saddle_between_two_attractors():
    model = known.Saddle()
    found = find_fixed_points(model, ZERO, scattered(40, 4))
    assert_same_points(found.states, model.points())


@pytest.mark.parametrize("method", ["newton", "nearest"])
def test_on_a_line_of_fixed_points_every_start_stays_where_it_is_along_the_line(method):
    model = known.Segment()
    starts = scattered(200, 6, scale=1.5)
    found = find_fixed_points(model, ZERO, starts, method=method, midpoints=0)
    assert found.unconverged == 0
    assert found.is_fixed.all()
    along = found.states @ model.direction.double()
    across = found.states - along[:, None] * model.direction
    assert float(across.abs().max()) < 1e-5
    inside = (starts @ model.direction).abs() < model.half_length
    assert inside.sum() > 100
    torch.testing.assert_close(along[found.ends[inside]], (starts @ model.direction)[inside], atol=2e-3, rtol=0)
    assert float(along.max()) == pytest.approx(model.half_length, abs=1e-3)
    assert float(along.min()) == pytest.approx(-model.half_length, abs=1e-3)


def test_a_ring_and_the_point_in_its_middle():
    model = known.Ring()
    found = find_fixed_points(model, ZERO, scattered(300, 5))
    plane = found.states @ model.frame[:2].T
    radius = plane.norm(dim=1)
    middle = radius < 1e-4
    assert middle.sum() == 1
    torch.testing.assert_close(radius[~middle], torch.ones_like(radius[~middle]), atol=1e-5, rtol=0)
    angles = torch.atan2(plane[~middle, 1], plane[~middle, 0]).sort().values
    assert float(angles.diff().max()) < 0.3
    assert float((found.states @ model.frame[2:].T).abs().max()) < 1e-5


def test_the_nearest_slow_points_lie_as_widely_spread_as_the_starts():
    # Along the line q = (0.001 s)² / 2 < 1e-6 for |s| < 1.4, though its one fixed point is s = 0.
    matrix = torch.diag(torch.tensor([0.999, 0.5, 0.4]))
    model = known.Linear(matrix, torch.zeros(3, 2), torch.zeros(3))
    starts = scattered(100, 3)
    near = find_fixed_points(model, ZERO, starts, method="nearest", tolerance=1e-6)
    inside = starts[:, 0].abs() < 1.3
    torch.testing.assert_close(near.states[near.ends[inside], 0], starts[inside, 0], atol=2e-3, rtol=0)
    exact = find_fixed_points(model, ZERO, starts)
    assert_same_points(exact.states, torch.zeros(1, 3), atol=1e-5)


def test_a_slow_point_is_found_and_called_slow():
    model = known.Ghost(gap=1e-4)
    found = find_fixed_points(model, ZERO, scattered(10, 3, scale=0.3), slow_tolerance=1e-7)
    assert found.is_fixed.tolist() == [False]
    torch.testing.assert_close(found.speed, torch.full((1,), 0.5e-8, dtype=torch.float64), rtol=1e-3, atol=0)
    torch.testing.assert_close(found.states, torch.zeros(1, 3, dtype=torch.float64), atol=1e-3, rtol=0)
    assert len(find_fixed_points(model, ZERO, scattered(10, 3, scale=0.3), slow_tolerance=1e-9)) == 0


def test_where_there_is_nothing_nothing_is_found():
    found = find_fixed_points(known.Drift(3), ZERO, scattered(7, 3))
    assert len(found) == 0
    assert found.states.shape == (0, 3)
    assert found.unconverged == 7
    assert found.exploded == 0
    assert found.ends.tolist() == [-1] * 7


def test_states_that_overflow_stop_their_start_alone():
    model = known.Explosion(2)
    found = find_fixed_points(model, ZERO, torch.tensor([[0.1, 0.1], [1e3, 0]]))
    assert len(found) == 0
    assert (found.unconverged, found.exploded) == (2, 1)
    cube = known.Cube(2)
    cube.step = lambda x, h: torch.tanh(cube.slope.to(h.dtype) * h) + torch.where(h.abs() > 50, torch.inf, 0.0)
    found = find_fixed_points(cube, ZERO, torch.tensor([[0.8, 0.9], [60.0, 0]], dtype=torch.float64))
    assert found.ends.tolist() == [0, -1]
    assert found.exploded == 1


@pytest.mark.parametrize("architecture", ["gru", "rnn", "lstm"])
def test_base_models_fixed_points_are_where_iteration_ends(architecture):
    model = problems.base_model("m", problems.dataset(), architecture, hidden=6).model
    x = torch.tensor([0.5, -0.2])
    starts = sample_states(model, problems.sequences(10, 5, 2), 20)
    found = find_fixed_points(model, x, starts)
    h = model.double().initial_state(1)
    for _ in range(1000):
        h = model.step(x.double()[None], h)
    assert_same_points(found.states, h, atol=1e-6)


def test_a_meta_model_at_a_theta_has_fixed_points_like_any_model():
    fit, _ = problems.fitted()
    for theta in fit.theta[:2]:
        model = fit.model_at(theta)
        found = find_fixed_points(model, ZERO, scattered(10, 6, scale=0.3))
        h = model.double().initial_state(1)
        for _ in range(1000):
            h = model.step(ZERO.double()[None], h)
        assert_same_points(found.states, h.detach(), atol=1e-6)


def test_points_far_from_where_states_are_are_named():
    # Two stable points at ±1 and, by a fourth root, one at 30 that no start is near to.
    class Far(known.Iterated):
        def step(self, x, h):
            return h - 0.02 * h * (h**2 - 1) * (h - 30) / (1 + h.abs() ** 3)

    starts = torch.cat([scattered(50, 1), torch.tensor([[29.0]], dtype=torch.float64)])
    visited = starts[:50]
    found = find_fixed_points(Far(1), ZERO, starts, visited=visited)
    assert_same_points(found.states, torch.tensor([[-1.0], [0], [1], [30]]), atol=1e-3)
    assert found.states[found.is_outlier].flatten().tolist() == pytest.approx([30], abs=1e-3)
    assert found.is_outlier.tolist() == [False, False, False, True]
    assert found.counts.sum() == 51


def test_each_start_goes_its_own_way_whatever_the_others_are():
    model = known.Cube(3)
    starts = scattered(40, 3)
    together = find_fixed_points(model, ZERO, starts, midpoints=0)
    for rows in (slice(0, 1), slice(7, 20), slice(39, 40)):
        alone = find_fixed_points(model, ZERO, starts[rows], midpoints=0)
        torch.testing.assert_close(alone.states[alone.ends], together.states[together.ends[rows]], atol=1e-6, rtol=0)


def test_the_same_call_gives_the_same_answer_and_leaves_torchs_random_state():
    model, starts = known.Cube(3), scattered(10, 3)
    state = torch.get_rng_state()
    first, second = (find_fixed_points(model, ZERO, starts, seed=3) for _ in range(2))
    for name in ("states", "speed", "counts", "ends"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_of_the_callers_is_changed():
    model = problems.base_model("m", problems.dataset()).model
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    starts, x = scattered(5, 4, scale=0.3), torch.tensor([0.1, 0.2])
    before = starts.clone(), x.clone()
    find_fixed_points(model, x, starts)
    assert torch.equal(starts, before[0])
    assert torch.equal(x, before[1])
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_starts_that_are_solved_in_parts_give_the_same_points(monkeypatch):
    whole = find_fixed_points(known.Cube(2), ZERO, scattered(50, 2))
    monkeypatch.setattr(fixed_points, "ROOM", 28)
    seen = []
    parts = find_fixed_points(known.Cube(2), ZERO, scattered(50, 2), progress=lambda *where: seen.append(where))
    assert seen[:2] == [(7, 50), (14, 50)]
    assert torch.equal(parts.ends, whole.ends)
    torch.testing.assert_close(parts.states, whole.states, atol=1e-9, rtol=0)


def test_points_come_in_order_and_progress_is_told():
    seen = []
    found = find_fixed_points(known.Cube(2), ZERO, scattered(50, 2), progress=lambda *where: seen.append(where))
    assert seen[-1] == (50, 50)
    assert found.counts.tolist() == sorted(found.counts.tolist(), reverse=True)
    assert found.counts.tolist() == torch.bincount(found.ends, minlength=9).tolist()


def test_one_start_is_enough():
    found = find_fixed_points(known.Saddle(), ZERO, known.Saddle().points()[2:] + 0.1)
    assert_same_points(found.states, known.Saddle().points()[2:])
    assert not found.is_outlier.any()


def test_sampled_states_are_visited_ones_of_real_steps():
    model = known.Linear(torch.eye(2), torch.eye(2), torch.zeros(2))  # the state is the sum of the inputs
    inputs = Inputs(
        torch.full((3, 4, 2), 1.0), torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True, False, False, False]])
    )
    states = sample_states(model, inputs, 7)
    assert sorted(states[:, 0].tolist()) == [1, 1, 1, 2, 2, 3, 4]
    assert states.dtype == torch.float64
    assert len(sample_states(model, inputs, 50)) == 50
    noisy = sample_states(model, inputs, 2000, noise=0.5, seed=1)
    off = noisy - noisy.round()
    assert torch.equal(noisy, sample_states(model, inputs, 2000, noise=0.5, seed=1))
    assert not torch.equal(noisy, sample_states(model, inputs, 2000, noise=0.5, seed=2))
    assert float(off.abs().max()) > 0.3
    spread = sample_states(model, inputs.with_values(torch.zeros(3, 4, 2)), 4000, noise=0.5)
    assert float(spread.std()) == pytest.approx(0.5, rel=0.05)


def test_constant_inputs_by_name():
    model = problems.base_model("m", problems.dataset()).model
    inputs = problems.sequences(4, 3, 2)
    assert torch.equal(constant_input(model, "zeros", inputs), torch.zeros(2))
    torch.testing.assert_close(constant_input(model, "mean", inputs), inputs.values[inputs.mask].mean(0))
    with pytest.raises(DynamoError, match="did you mean 'zeros'"):
        constant_input(model, "zero", inputs)
    with pytest.raises(DynamoError, match="0 words has no 'good'"):
        constant_input(model, "token:good", inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "newtn"}, "did you mean 'newton'"),
        ({"tolerance": 1e-3}, "the slow tolerance at least the tolerance"),
        ({"tolerance": 0.0}, "must be above 0"),
        ({"merge": 0.0}, "must be above 0"),
        ({"iterations": 0}, "at least 1, or None"),
        ({"x": torch.zeros(3)}, r"of shape \[2\].*got \[3\]"),
        ({"x": torch.zeros(1, 2)}, r"of shape \[2\].*got \[1, 2\]"),
        ({"x": torch.tensor([0.0, torch.nan])}, "NaN or infinite"),
        ({"starts": torch.zeros(4, 5)}, r"of shape \[any number, 2\].*got \[4, 5\]"),
        ({"starts": torch.zeros(2)}, r"of shape \[any number, 2\].*got \[2\]"),
        ({"starts": torch.zeros(0, 2)}, "at least one"),
        ({"starts": torch.full((1, 2), torch.inf)}, "NaN or infinite"),
    ],
)
def test_bad_arguments(change, message):
    given = {"model": known.Cube(2), "x": ZERO, "starts": torch.zeros(4, 2)} | change
    with pytest.raises(DynamoError, match=message):
        find_fixed_points(**given)


def test_models_that_cannot_be_searched():
    class Detached(known.Iterated):
        def step(self, x, h):
            return 0.5 * h.detach()

    class Wider(known.Iterated):
        def step(self, x, h):
            return torch.cat([h, h], 1)

    class Single(known.Iterated):
        def step(self, x, h):
            return h @ torch.eye(2)

    wrong = {"differentiated": (Detached(2), Single(2)), r"gives \[1, 4\]": (Wider(2),)}
    for message, model in ((message, model) for message, models in wrong.items() for model in models):
        with pytest.raises(DynamoError, match=message):
            find_fixed_points(model, ZERO, torch.zeros(1, 2))
    fit, _ = problems.fitted()
    plain = fit.model_at(fit.theta[0])
    plain.__class__ = plain.__class__.__mro__[1]  # the same model without step()
    with pytest.raises(DynamoError, match="no step"):
        find_fixed_points(plain, ZERO, torch.zeros(1, 6))
    with pytest.raises(DynamoError, match="at least 1"):
        sample_states(known.Cube(2), problems.sequences(2, 3, 2), 0)
    with pytest.raises(DynamoError, match="at least 0"):
        sample_states(known.Cube(2), problems.sequences(2, 3, 2), 1, noise=-1)
    with pytest.raises(DynamoError, match="NaN or infinite on these inputs"):
        sample_states(known.Explosion(2), Inputs(torch.zeros(1, 9, 2), torch.ones(1, 9, dtype=torch.bool)), 9)
