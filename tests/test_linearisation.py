"""Jacobians, spectra and modes, against closed forms and finite differences."""

import math

import numpy as np
import pytest
import torch

import dynamics_problems as known
import problems
from dynamics_problems import scattered
from dynamo import DynamoError
from dynamo.analysis.dynamics.linearisation import linearise
from dynamo.analysis.dynamics.portrait import portrait

ZERO = torch.zeros(2)


def differences(step, at, size=1e-6):
    """The Jacobian of step at one vector, by central differences."""
    columns = [(step(at + size * e) - step(at - size * e)) / (2 * size) for e in torch.eye(len(at), dtype=at.dtype)]
    return torch.stack(columns, -1)


def models():
    fit, _ = problems.fitted()
    yield "meta-gru", fit.model_at(fit.theta[0])
    for architecture in ("gru", "rnn", "lstm"):
        yield architecture, problems.base_model("m", problems.dataset(), architecture, hidden=5).model
    yield "own cell", known.Ring()


@pytest.mark.parametrize(("name", "model"), list(models()))
@pytest.mark.parametrize("count", [1, 3, 600])
def test_jacobians_are_those_of_finite_differences(name, model, count):
    x, states = torch.tensor([0.4, -0.7]), scattered(count, model.state_shapes[0][0], 0.5)
    found = linearise(model, x, states)
    double = model.double().requires_grad_(False)
    for row in {0, count - 1}:
        h = states[row]
        own = differences(lambda h: double.step(x.double()[None], h[None])[0], h)
        torch.testing.assert_close(found.jacobian[row], own, atol=1e-8, rtol=1e-6)
        own = differences(lambda x, h=h: double.step(x[None], h[None])[0], x.double())
        torch.testing.assert_close(found.input_jacobian[row], own, atol=1e-8, rtol=1e-6)
        torch.testing.assert_close(found.outputs[row], double.readout(h))


def test_the_jacobian_of_a_gru_is_its_closed_form():
    model = problems.base_model("m", problems.dataset(), "gru", hidden=5).model
    x, h = torch.tensor([0.4, -0.7], dtype=torch.float64), scattered(4, 5, 0.5)
    found = linearise(model, x, h)
    w_in, w, b_in, b = (part.double() for part in model.weights())
    given, own = x @ w_in.T + b_in, h @ w.T + b
    reset = torch.sigmoid(given[:5] + own[:, :5])
    keep = torch.sigmoid(given[5:10] + own[:, 5:10])
    new = torch.tanh(given[10:] + reset * own[:, 10:])
    slope = (1 - keep) * (1 - new**2)
    closed = torch.diag_embed(keep) + (keep * (1 - keep) * (h - new))[..., None] * w[5:10]
    closed = closed + (slope * reset)[..., None] * w[10:]
    closed = closed + (slope * own[:, 10:] * reset * (1 - reset))[..., None] * w[:5]
    torch.testing.assert_close(found.jacobian, closed)


def test_a_linear_map_is_its_own_linearisation():
    matrix, inputs = scattered(4, 4, 0.5), scattered(4, 2, seed=1)
    model = known.Linear(matrix, inputs, torch.zeros(4, dtype=torch.float64))
    found = linearise(model, torch.ones(2), scattered(3, 4))
    torch.testing.assert_close(found.jacobian, matrix.expand(3, 4, 4))
    torch.testing.assert_close(found.input_jacobian, inputs.expand(3, 4, 2))
    wanted = torch.linalg.eigvals(matrix)
    for values in found.eigenvalues:
        assert torch.cdist(torch.view_as_real(values), torch.view_as_real(wanted)).min(1).values.max() < 1e-9


def test_a_circulant_network_has_the_fourier_transform_of_its_weights_for_a_spectrum():
    weights = torch.tensor([0.9, 0.4, -0.2, 0.1, 0.1, 0.2, 0.3])
    model = known.Circulant(weights)
    for level in (0.0, 0.6):
        # h = c·1 maps to the state c·1 under the input artanh(c) − s c.
        x = torch.atanh(torch.tensor([level], dtype=torch.float64)) - weights.double().sum() * level
        found = linearise(model, x, torch.full((1, 7), level))
        spectrum = model.spectrum(level)
        distances = torch.cdist(torch.view_as_real(found.eigenvalues[0]), torch.view_as_real(spectrum))
        assert float(distances.min(0).values.max()) < 1e-7
        assert float(distances.min(1).values.max()) < 1e-7
        assert int(found.unstable[0]) == int((spectrum.abs() > 1).sum())


def test_the_index_of_every_point_of_a_cube():
    model = known.Cube(3)
    points = model.points()
    found = linearise(model, ZERO, points)
    assert found.unstable.tolist() == model.index(points).tolist()
    assert found.is_stable.tolist() == (model.index(points) == 0).tolist()
    slope = model.slope.item()
    corner = linearise(model, ZERO, points[:1]).eigenvalues
    torch.testing.assert_close(corner.real, torch.full((1, 3), slope * (1 - model.level**2), dtype=torch.float64))


def test_modes_of_lines_rings_and_saddles():
    line = known.Segment(fading=0.5)
    found = linearise(line, ZERO, 0.7 * line.direction[None])
    assert (found.unstable.item(), found.marginal.item(), found.is_stable.item()) == (0, 1, False)
    torch.testing.assert_close(found.right[0, :, 0].real.abs(), line.direction.double().abs(), atol=1e-7, rtol=0)
    ring = known.Ring(rate=0.3)
    found = linearise(ring, ZERO, torch.stack([ring.frame[0], 0 * ring.frame[0]]))
    np.testing.assert_allclose(found.eigenvalues[0].real, [1, 0.4, 0.2, 0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(found.eigenvalues[1].real, [1.3, 1.3, 0.2, 0.2, 0.2], atol=1e-6)
    assert found.unstable.tolist() == [0, 2]
    assert found.marginal.tolist() == [1, 0]
    saddle = known.Saddle(rate=0.4)
    found = linearise(saddle, ZERO, saddle.points())
    np.testing.assert_allclose(found.eigenvalues.real[:, 0], [0.3, 1.4, 0.3], atol=1e-6)
    assert found.is_stable.tolist() == [True, False, True]


def test_time_constants_are_the_steps_to_one_over_e():
    factors = [1.2, 1.0, -0.9, 0.5, 0.0]
    model = known.Linear(torch.diag(torch.tensor(factors)), torch.zeros(5, 2), torch.zeros(5))
    found = linearise(model, ZERO, torch.zeros(1, 5))
    np.testing.assert_allclose(found.eigenvalues[0].real, factors, atol=1e-6)
    steps = found.time_constants[0]
    assert steps[0] == pytest.approx(-1 / math.log(1.2), rel=1e-6)
    assert steps[1] == torch.inf
    assert 0.9 ** float(steps[2]) == pytest.approx(1 / math.e, rel=1e-6)
    assert 0.5 ** float(steps[3]) == pytest.approx(1 / math.e, rel=1e-6)
    assert steps[4] == 0


def test_left_and_right_eigenvectors():
    model = problems.base_model("m", problems.dataset(), "gru", hidden=6).model
    found = linearise(model, ZERO, scattered(5, 6))
    jacobian, values = found.jacobian.to(torch.complex128), found.eigenvalues
    assert bool((values.abs().diff(dim=1) < 1e-9).all())
    torch.testing.assert_close(jacobian @ found.right, found.right * values[:, None])
    torch.testing.assert_close(found.left @ jacobian, values[..., None] * found.left)
    identity = torch.eye(6, dtype=torch.complex128).expand(5, 6, 6)
    torch.testing.assert_close(found.left @ found.right, identity, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.vector_norm(found.right, dim=1), torch.ones(5, 6, dtype=torch.float64))


def test_input_sensitivity_is_how_far_an_input_moves_a_mode():
    # Modes along (1, 0) with 0.9 and along (1, 1)/√2 with 0.5; an input of length 1 pushes along (1, 1).
    right = torch.tensor([[1.0, 1 / math.sqrt(2)], [0.0, 1 / math.sqrt(2)]])
    matrix = right @ torch.diag(torch.tensor([0.9, 0.5])) @ torch.linalg.inv(right)
    model = known.Linear(matrix, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.zeros(2))
    found = linearise(model, ZERO, torch.zeros(1, 2))
    np.testing.assert_allclose(found.input_sensitivity[0], [0, math.sqrt(2)], atol=1e-6)


def test_a_jacobian_that_cannot_be_diagonalised_gives_finite_modes():
    model = known.Linear(torch.tensor([[0.5, 1.0], [0.0, 0.5]]), torch.eye(2), torch.zeros(2))
    found = linearise(model, ZERO, torch.zeros(1, 2))
    assert bool(torch.view_as_real(found.left).isfinite().all())
    np.testing.assert_allclose(found.eigenvalues.abs(), [[0.5, 0.5]], atol=1e-7)


def test_of_a_conjugate_pair_the_positive_one_comes_first():
    turn = torch.tensor([[0.6, -0.6], [0.6, 0.6]])
    found = linearise(known.Linear(turn, torch.eye(2), torch.zeros(2)), ZERO, torch.zeros(1, 2))
    np.testing.assert_allclose(found.eigenvalues, [[0.6 + 0.6j, 0.6 - 0.6j]], atol=1e-6)


def test_where_the_jacobian_overflows_it_is_said():
    with pytest.raises(DynamoError, match="not finite at some of the states"):
        linearise(known.Explosion(2), ZERO, torch.full((1, 2), 1e3))


def test_the_portrait_shows_the_flow_and_the_real_steps_only():
    model, inputs = known.Ring(), problems.sequences(6, 4, 2)
    states = scattered(20, 5)
    model.trajectory = lambda given: known.Iterated.trajectory(model, given)
    start = model.initial_state
    model.initial_state = lambda batch: start(batch) + states[:1].to(torch.float32)
    found = portrait(model, ZERO, inputs, points=states, trajectories=4, grid=7)
    assert [len(own) for own in found.trajectories] == inputs.mask.sum(1).tolist()[:4]
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(3), atol=1e-9)
    assert found.flow.shape == (7, 7, 2)
    low = [side[0] for side in found.sides]
    assert bool((found.coordinates(states)[:, :2] > low).all())
    place = torch.from_numpy(found.mean + found.sides[0][2] * found.axes[0] + found.sides[1][5] * found.axes[1])
    move = (model.double().step(None, place[None]) - place)[0].detach().numpy()
    np.testing.assert_allclose(found.flow[2, 5], found.axes[:2] @ move, atol=1e-9)
    with pytest.raises(DynamoError, match="at least 2"):
        portrait(model, ZERO, inputs, grid=1)


def test_a_portrait_of_one_unit():
    found = portrait(known.Cube(1), ZERO, problems.sequences(6, 4, 2))
    assert found.axes.shape == (3, 1)
    assert found.flow.shape == (25, 25, 2)
    assert np.isfinite(found.flow).all()
