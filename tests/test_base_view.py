"""What base models see of the meta-model's attractors, and the approximate fixed points of section 5."""

import numpy as np
import pytest
import torch

import dynamics_problems as known
import problems
from dynamo import DynamoError, Inputs
from dynamo.analysis.dynamics.attractor import attractor_geometry
from dynamo.analysis.dynamics.attractor_map import attractors_over_the_map
from dynamo.analysis.dynamics.base_view import BaseView, readout_gradient
from dynamo.analysis.dynamics.slow_points import nearly_fixed, slow_points
from dynamo.analysis.networks.over_the_map import Places
from dynamo.contracts.protocols import StateMap


class Matrix(StateMap):
    def __init__(self, matrix):
        super().__init__()
        self.meta_shape, self.base_shape = (matrix.shape[1],), (matrix.shape[0],)
        self.register_buffer("matrix", matrix.double())

    def forward(self, states):
        return states @ self.matrix.T


class Pushed(known.Segment):
    """A line attractor whose position the first input pushes along, and whose other directions the second disturbs."""

    def step(self, x, h):
        across = known.rotation(self.state_shapes[0][0])[1].to(h.dtype)
        return super().step(x, h) + x[:, :1] * self.direction.to(h.dtype) + x[:, 1:] * across


def inputs(count=40, steps=8, seed=0):
    values = 0.7 * torch.randn(count, steps, 2, generator=torch.Generator().manual_seed(seed))
    return Inputs(values, torch.ones(count, steps, dtype=torch.bool))


ZERO = torch.zeros(2)
HERE = Places(("here",), np.zeros((1, 1)), (None,))


def view_of(matrices, models):
    return BaseView(tuple(Matrix(matrix) for matrix in matrices), tuple(model.double() for model in models))


def test_nearly_fixed_points_cover_a_line_attractor_of_known_length_and_nothing_else():
    model = Pushed(half_length=2.0)
    found = nearly_fixed(model, ZERO, inputs(), starts=100)
    shape = attractor_geometry(found)
    assert (shape.kind, shape.number) == ("line", 1)
    assert shape.length == pytest.approx(4, rel=0.05)
    assert shape.width < 0.3
    along = found @ model.direction.numpy()
    assert np.abs(along).max() < 2.2


def test_between_stable_ends_nearly_fixed_points_lie_where_nothing_rests():
    """h₁' = h₁ + a (h₁ − h₁³): all that rests is at ±1, and all between is slow where a is small."""
    model = known.Saddle(rate=0.02)
    model.step = lambda x, h, step=model.step: step(x, h) + x[:, :1] * model.frame[0].to(h.dtype)
    there = nearly_fixed(model, ZERO, inputs(), starts=60) @ model.frame[0].double().numpy()
    assert np.diff(np.sort(there)).max() < 0.2
    assert np.ptp(there) > 1.9
    rest = slow_points(model, ZERO, inputs(), starts=60) @ model.frame[0].double().numpy()
    middle = (np.abs(there) > 0.4) & (np.abs(there) < 0.8)
    assert middle.mean() > 0.15
    assert (np.abs(rest[(np.abs(rest) > 0.4)]) > 0.6).all()


@pytest.mark.parametrize(("change", "message"), [({"fraction": 0.0}, "above 0"), ({"starts": 0}, "at least 1")])
def test_what_cannot_be_nearly_fixed(change, message):
    with pytest.raises(DynamoError, match=message):
        nearly_fixed(**{"model": Pushed(), "x": ZERO, "inputs": inputs(), "starts": 4} | change)


def test_a_view_keeps_root_mean_square_distances():
    matrices = [known.scattered(3, 6, seed=1), known.scattered(5, 6, seed=2)]
    view = view_of(matrices, [known.Drift(3), known.Drift(5)])
    one, other = known.scattered(2, 6, seed=3)
    seen = view(torch.stack([one, other]))
    assert seen.shape == (2, 8)
    square = sum(float(((one - other) @ matrix.T).square().sum()) for matrix in matrices) / 2
    assert float((seen[0] - seen[1]).square().sum()) == pytest.approx(square)


def test_the_gradient_of_what_is_seen_is_that_of_the_base_models_side_by_side():
    models = [problems.base_model(f"m{n}", problems.dataset(), hidden=n).model for n in (3, 4)]
    view = view_of([known.scattered(3, 6), known.scattered(4, 6)], models)
    gradient = view.readout_gradient(view(known.scattered(2, 6, seed=5)))
    assert gradient.shape == (2, 3, 7)
    for block, model in ((slice(0, 3), models[0]), (slice(3, 7), models[1])):
        weight = model.readout_layer.weight.detach().numpy()
        np.testing.assert_allclose(gradient[0, :, block], weight - weight.mean(0), atol=1e-12)


def test_directions_that_no_state_map_reads_do_not_count():
    """A plane of fixed points, of which base models see one direction, twice as large."""
    plane = known.Linear(torch.diag(torch.tensor([1.0, 1, 0.1])), torch.eye(3)[:, :2], torch.zeros(3))
    unseen = attractors_over_the_map(lambda theta: plane, HERE, inputs(), starts=80, slow="nearest").attractors[0]
    view = view_of([2 * torch.eye(3)[:1]], [known.Drift(1)])
    seen = attractors_over_the_map(lambda theta: plane, HERE, inputs(), starts=80, slow="nearest", view=view)
    assert unseen.shape.kind in ("plane", "cloud")
    assert unseen.shape.dimension > 1.5
    shape = seen.attractors[0].shape
    assert (shape.kind, shape.points.shape[1]) == ("line", 1)
    assert shape.dimension == pytest.approx(1)
    assert shape.length == pytest.approx(2 * np.ptp(unseen.shape.points[:, 0]), rel=0.05)
    assert shape.alignment == pytest.approx(1)
    np.testing.assert_allclose(shape.drift, 0, atol=1e-6)


def test_a_fits_state_maps_are_seen():
    fit, population = problems.fitted()
    view = BaseView.of(fit, population)
    states = torch.randn(4, 6)
    with torch.no_grad():
        wanted = [fit.emulator.maps_of(number)[0](states[:, None])[:, 0] for number in range(3)]
    torch.testing.assert_close(view(states).float(), torch.cat(wanted, -1) / 3**0.5)
    assert BaseView.of(fit, population, [1])(states).shape == (4, 4)
    assert fit.emulator.maps_of(0)[0](states[:, None]).dtype == torch.float32
    assert readout_gradient(population[0].model, torch.randn(2, 3)).dtype == np.float32
    with pytest.raises(DynamoError, match="at least one base model"):
        BaseView.of(fit, population, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slow": "neares"}, "did you mean 'nearest'"),
        ({"starts": 1}, "at least 2"),
        ({"held": "ones"}, "called 'ones'"),
    ],
)
def test_mistakes_over_the_map(change, message):
    with pytest.raises(DynamoError, match=message):
        attractors_over_the_map(lambda theta: Pushed(), HERE, inputs(), **change)
