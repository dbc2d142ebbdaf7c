"""Questions asked all over the map, by continuation; and attractors as the first of them."""

import numpy as np
import pytest
import torch

import problems
from dynamo import DynamoError, Inputs, InputSpace, OutputSpace
from dynamo.analysis.dynamics.attractor_map import attractors_over_the_map, set_distances
from dynamo.analysis.dynamics.base_view import readout_gradient
from dynamo.analysis.dynamics.slow_points import slow_points
from dynamo.analysis.networks.over_the_map import Places, neighbours, over_the_map, places_at, places_between, places_by
from dynamo.contracts.protocols import DynamicalModel, RecurrentModel
from dynamo.contracts.trajectory import Trajectory


class Iterated(RecurrentModel):
    """h' = f(h) + x on some units, from a given state; logits (−h_0, h_0)."""

    def __init__(self, function, start=(0.0,)):
        super().__init__()
        self.inputs, self.outputs = InputSpace("real", (len(start),)), OutputSpace("classes", 2)
        self.state_shapes, self.function = ((len(start),),), function
        self.start = torch.nn.Parameter(torch.tensor([start]), requires_grad=False)

    def encode(self, values):
        return values

    def initial_state(self, batch):
        return self.start.expand(batch, -1)

    def step(self, x, h):
        return self.function(h) + x

    def readout(self, h):
        return torch.stack([-h[..., 0], h[..., 0]], -1)

    def trajectory(self, inputs):
        h, states = self.initial_state(len(inputs)), []
        for x in inputs.values.unbind(1):
            h = self.step(x, h)
            states.append(h)
        stacked = torch.stack(states, 1)
        return Trajectory((stacked,), self.readout(stacked), inputs.mask)


def noise(units=1, size=0.5):
    values = size * torch.randn(20, 6, units, generator=torch.Generator().manual_seed(0))
    return Inputs(values, torch.ones(20, 6, dtype=torch.bool))


def pitchfork(gain, start=0.0):
    """One fixed point for a gain below 1; above, it is unstable between two stable ones."""
    return Iterated(lambda h: torch.tanh(float(gain) * h), (start,))


def places_of(numbers):
    return Places(tuple(f"{number:g}" for number in numbers), np.array(numbers)[:, None], (None,) * len(numbers), True)


def test_neighbours_make_the_shortest_tree():
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    places = np.random.default_rng(0).normal(size=(20, 3))
    pairs = neighbours(places)
    distances = cdist(places, places)
    assert sum(distances[pair] for pair in pairs) == pytest.approx(minimum_spanning_tree(distances).sum())
    reached = {0}
    for source, there in pairs:
        assert source in reached
        assert there not in reached
        reached.add(there)
    assert reached == set(range(20))
    assert neighbours(np.zeros((1, 3))) == []
    assert neighbours(np.array([[0.0], [2], [1], [3]])) == [(0, 2), (2, 1), (1, 3)]


def test_every_answer_starts_from_those_of_its_neighbours():
    seen = []

    def answer(theta, own, near):
        seen.append((float(theta[0]), own, sorted(near)))
        return float(theta[0]) + 100 * len(seen)

    found = over_the_map(np.array([[0.0], [2], [1]]), answer)
    # There, from the place before; and back, also from the place itself and from what came after it.
    assert seen == [
        (0, None, []),
        (1, None, [100]),
        (2, None, [201]),
        (2, 302, [201]),
        (1, 201, [100, 402]),
        (0, 100, [501]),
    ]
    assert found == [600, 402, 501]
    assert over_the_map(np.zeros((1, 2)), lambda theta, own, near: len(near), rounds=1) == [0]


def test_a_pitchfork_is_found_where_it_is():
    gains = np.arange(0.75, 1.3, 0.1)
    found = attractors_over_the_map(lambda theta: pitchfork(theta[0]), places_of(gains), noise(), starts=20)
    below = gains < 1
    np.testing.assert_array_equal([one.stable for one in found.attractors], np.where(below, 1, 2))
    np.testing.assert_array_equal([one.saddles for one in found.attractors], np.where(below, 0, 1))
    assert found.bifurcations == ((2, 3),)
    assert found.attractors[0].shape.kind == "point"
    last = found.attractors[-1]
    assert (last.shape.kind, last.shape.number) == ("discrete", 3)
    branch = last.fixed[last.unstable == 0]
    np.testing.assert_allclose(np.tanh(gains[-1] * branch), branch, atol=1e-6)
    np.testing.assert_allclose(last.fixed[last.unstable > 0], 0, atol=1e-6)
    # The readout grows with the state, and reads nothing else.
    assert last.shape.alignment == pytest.approx(1)
    assert last.shape.points[last.shape.arc.argmax()] > 0


def test_points_are_followed_to_places_that_never_visit_them():
    """At the first place states are below zero, at the others above; alone, neither sees the other's fixed point."""
    quiet = noise(size=0.01)

    def model_at(theta):
        return pitchfork(theta[0], -1.0 if theta[0] < 1.55 else 1.0)

    places = places_of([1.5, 1.6, 1.7])
    alone = attractors_over_the_map(model_at, places_of([1.7]), quiet, starts=10).attractors[0]
    assert (alone.stable, alone.saddles) == (1, 0)
    once = attractors_over_the_map(model_at, places, quiet, starts=10, rounds=1).attractors
    assert [one.stable for one in once] == [1, 2, 2]
    twice = attractors_over_the_map(model_at, places, quiet, starts=10, rounds=2).attractors
    assert [(one.stable, one.saddles) for one in twice] == [(2, 1)] * 3


def test_an_integrator_rests_where_it_is_and_a_rotation_never():
    line = Iterated(lambda h: torch.stack([h[..., 0], 0 * h[..., 1]], -1), (0.0, 0.0))
    rest = slow_points(line, torch.zeros(2), noise(2), starts=40)
    assert rest.shape == (40, 2)
    np.testing.assert_allclose(rest[:, 1], 0, atol=0.02)
    assert np.ptp(rest[:, 0]) > 2
    found = attractors_over_the_map(lambda theta: line, places_of([0.0]), noise(2), starts=60).attractors[0]
    assert found.shape.kind == "line"
    np.testing.assert_allclose(found.shape.drift, 0, atol=1e-3)
    turn = Iterated(lambda h: torch.stack([-h[..., 1], h[..., 0]], -1), (1.0, 0.0))
    assert slow_points(turn, torch.zeros(2), noise(2), starts=10).shape == (0, 2)
    with pytest.raises(DynamoError, match="does not move"):
        slow_points(line, torch.zeros(2), Inputs(torch.zeros(2, 3, 2), torch.ones(2, 3, dtype=torch.bool)), starts=10)


def test_distances_of_sets_by_hand():
    one, other = np.array([[0.0], [1], [2]]), np.array([[0.0], [4]])
    chamfer, hausdorff = set_distances([one, other, np.zeros((0, 1))])
    assert chamfer[0, 1] == chamfer[1, 0] == pytest.approx(((0 + 1 + 2) / 3 + (0 + 2) / 2) / 2)
    assert hausdorff[0, 1] == hausdorff[1, 0] == 2
    assert chamfer[0, 0] == hausdorff[1, 1] == 0
    assert np.isnan(chamfer[2]).all()


def test_the_gradient_of_logits_is_without_their_mean():
    model = problems.base_model("m", problems.dataset(classes=3), hidden=4).model
    weight = model.readout_layer.weight.detach().numpy()
    found = readout_gradient(model, torch.randn(5, 4))
    np.testing.assert_allclose(found, np.broadcast_to(weight - weight.mean(0), (5, 3, 4)), atol=1e-6)


def test_places_by_name():
    fit, _ = problems.fitted(4)
    theta = fit.theta.double().numpy()
    way = places_between(fit, "m0", "m1,m2", points=5)
    np.testing.assert_allclose(way.thetas, np.linspace(theta[0], theta[1:3].mean(0), 5))
    assert way.names == ("m0", "0.25", "0.5", "0.75", "m1,m2")
    assert way.in_order
    groups = places_by(fit, "number")
    assert groups.names == ("m0", "m1", "m2", "m3", "number=0", "number=1", "number=2", "number=3")
    np.testing.assert_allclose(groups.thetas, np.concatenate([theta, theta]))
    assert groups.groups == ("0", "1", "2", "3", None, None, None, None)
    np.testing.assert_allclose(places_at(fit, ["m3", "all"]).thetas, [theta[3], theta.mean(0)])
    with pytest.raises(DynamoError, match="at least 2 places"):
        places_between(fit, "m0", "m1", points=1)
    with pytest.raises(DynamoError, match="did you mean"):
        places_at(fit, ["m33"])


class Blocks(DynamicalModel):
    def __init__(self):
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = InputSpace("real", (1,)), OutputSpace("classes", 2), ((1,),)

    def trajectory(self, inputs):
        raise NotImplementedError


def test_models_without_steps_are_refused():
    with pytest.raises(DynamoError, match=r"a Blocks has no step\(\)"):
        attractors_over_the_map(lambda theta: Blocks(), places_of([0.0]), noise())
