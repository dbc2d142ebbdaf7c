"""State maps as conjugacies, on base models that are conjugates of the meta-model by construction, and on others."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import problems
from dynamo import DynamoError, Fit, FitOptions, Population, Trainer
from dynamo.analysis.dynamics.conjugacy import conjugacy, residual, spectral_distance
from dynamo.analysis.dynamics.transport import inverse, transport
from dynamo.contracts.protocols import DynamicalModel, RecurrentModel, StateMap
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.report.plots.conjugacy import plot_conjugacy
from dynamo.report.run import write_figure

GROUPS = ("left", "left", "left", "right", "right")
THETAS = torch.tensor([[2.0, 0.1], [2.0, -0.1], [2.1, 0.0], [-2.0, 0.1], [-2.0, -0.1]])


class Conjugate(RecurrentModel):
    """M F(x, M⁻¹ h) for another recurrent model F and an invertible matrix M."""

    def __init__(self, model: RecurrentModel, matrix: torch.Tensor) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = model.inputs, model.outputs, ((len(matrix),),)
        self.model = model
        self.matrix = nn.Parameter(matrix, requires_grad=False)

    def back(self, h):
        return torch.linalg.solve(self.matrix, h.unsqueeze(-1)).squeeze(-1)

    def encode(self, values):
        return self.model.encode(values)

    def initial_state(self, batch):
        return self.model.initial_state(batch) @ self.matrix.T

    def step(self, x, h):
        return self.model.step(x, self.back(h)) @ self.matrix.T

    def readout(self, h):
        return self.model.readout(self.back(h))

    def trajectory(self, inputs):
        x, h, states = self.encode(inputs.values), self.initial_state(len(inputs)), []
        for step in range(x.shape[1]):
            h = self.step(x[:, step], h)
            states.append(h)
        stacked = torch.stack(states, 1)
        return Trajectory((stacked,), self.readout(stacked), inputs.mask)


class Matrix(StateMap):
    def __init__(self, matrix):
        super().__init__()
        self.meta_shape, self.base_shape = (matrix.shape[1],), (matrix.shape[0],)
        self.matrix = nn.Parameter(matrix)

    def forward(self, states):
        return states @ self.matrix.T


def matrix(seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator))[0] @ torch.diag(torch.linspace(0.5, 2, size))


def conjugates(thetas=THETAS, matrices=None):
    """A fit whose base models are exact conjugates of its meta-model at their θ_n, by the matrices of their V_n."""
    data = problems.dataset(examples=60, steps=9)
    stand_ins = Population([problems.base_model(f"m{n}", data, hidden=6, seed=n) for n in range(len(thetas))])
    options = FitOptions(meta_model="gru:hidden_size=6", state_map="linear", theta_dim=2, steps=1, batch_size=8)
    fit = Fit.of(Trainer(stand_ins, options))
    with torch.no_grad():
        for weight in fit.emulator.meta_model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        for number, theta in enumerate(thetas):
            fit.emulator.thetas[number].copy_(theta)
            fit.emulator.maps_of(number)[0].map.weight.copy_(matrix(number) if matrices is None else matrices[number])
    models = {
        name: Conjugate(fit.model_at(name), fit.emulator.maps_of(number)[0].map.weight.detach()).eval()
        for number, name in enumerate(fit.names)
    }
    return fit, Population.of(models, data)


@pytest.fixture(scope="module")
def pair():
    return conjugates()


def parts(fit, population, number):
    base = population[number]
    inputs = population.dataset(base).halves()[1]
    return base.model, fit.emulator.maps_of(number)[0], inputs


def test_a_conjugate_has_no_residual_and_another_theta_has(pair):
    fit, population = pair
    base, state_map, inputs = parts(fit, population, 0)
    exact = residual(base, state_map, fit.model_at("m0"), inputs=inputs, steps=(1, 3, 8))
    assert exact.shape == (3,)
    assert exact.max() < 1e-6
    near = residual(base, state_map, fit.model_at("m2"), inputs=inputs, steps=(1, 3))
    far = residual(base, state_map, fit.model_at("m3"), inputs=inputs, steps=(1, 3))
    assert (near > 1e-6).all()
    assert (near < 0.1 * far).all()


def test_a_residual_by_hand():
    """F doubles its state, the meta-model triples it, V multiplies by 5: after k steps 5·2^k h against 5·3^k h."""
    double, triple = Scaling(2.0), Scaling(3.0)
    values = torch.tensor([[[1.0], [0], [0], [0]], [[2.0], [0], [0], [99]]])
    inputs = Inputs(values, torch.tensor([[True] * 4, [True, True, True, False]]))
    found = residual(double, Matrix(torch.tensor([[5.0]])), triple, inputs=inputs, steps=(1, 2))
    # States of the meta-model 1, 3, 9, 27 and 2, 6, 18; of the base model 1, 2, 4, 8 and 2, 4, 8; padding never counts.
    one = 25 * sum(h**2 for h in (1, 3, 9, 2, 6)) / sum(h**2 for h in (1, 2, 4, 2, 4))
    two = 25 * sum((9 * h - 4 * h) ** 2 for h in (1, 3, 2)) / sum((4 * h - h) ** 2 for h in (1, 2, 2))
    np.testing.assert_allclose(found, [one, two], rtol=1e-6)


def test_what_lies_on_padded_steps_does_not_matter(pair):
    fit, population = pair
    base, state_map, inputs = parts(fit, population, 0)
    spoilt = Inputs(inputs.values.masked_fill(~inputs.mask[..., None], 1e3), inputs.mask)
    wanted = residual(base, state_map, fit.model_at("m3"), inputs=inputs, steps=(1, 4))
    np.testing.assert_allclose(
        residual(base, state_map, fit.model_at("m3"), inputs=spoilt, steps=(1, 4)), wanted, rtol=1e-5
    )


@pytest.mark.parametrize("steps", [(), (0,), (1, 9)])
def test_steps_must_fit_the_sequences(pair, steps):
    fit, population = pair
    base, state_map, inputs = parts(fit, population, 0)
    with pytest.raises(DynamoError, match="whole numbers from 1 to 8, the longest sequence having 9"):
        residual(base, state_map, fit.model_at("m0"), inputs=inputs, steps=steps)


class Scaling(RecurrentModel):
    """h' = c h + x on one unit."""

    def __init__(self, factor):
        super().__init__()
        data = problems.dataset(classes=2, features=1)
        self.inputs, self.outputs, self.state_shapes, self.factor = data.inputs, data.outputs, ((1,),), factor

    def encode(self, values):
        return values

    def initial_state(self, batch):
        return torch.zeros(batch, 1)

    def step(self, x, h):
        return self.factor * h + x

    def readout(self, h):
        return torch.cat([-h, h], -1)

    def trajectory(self, inputs):
        h, states = self.initial_state(len(inputs)), []
        for x in inputs.values.unbind(1):
            h = self.step(x, h)
            states.append(h)
        stacked = torch.stack(states, 1)
        return Trajectory((stacked,), self.readout(stacked), inputs.mask)


def test_the_inverse_of_an_invertible_map_brings_every_state_back():
    visited = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    weights = matrix(3)
    found = inverse(Matrix(weights), visited, share=1.0)
    assert (found.dimension, found.rank) == (6, 6)
    assert found.condition == pytest.approx(4, rel=1e-4)
    assert found.lost == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(found(visited @ weights.T), visited, atol=1e-4, rtol=1e-4)


def test_what_is_lost_matters_only_where_it_is_visited():
    flat = torch.randn(80, 2, generator=torch.Generator().manual_seed(0)) @ torch.eye(6)[:2] + 1.0
    narrow = torch.eye(6)[:3]
    found = inverse(Matrix(narrow), flat)
    assert (found.dimension, found.rank) == (2, 2)
    torch.testing.assert_close(found(flat @ narrow.T), flat, atol=1e-5, rtol=1e-5)
    blind = inverse(Matrix(torch.eye(6)[1:4]), flat)
    assert (blind.dimension, blind.rank) == (2, 1)
    assert blind.condition > 1e4
    assert blind.lost == pytest.approx(float(flat.var(0)[0] / flat.var(0).sum()), rel=0.1)
    wide = torch.randn(80, 6, generator=torch.Generator().manual_seed(0))
    squeezed = inverse(Matrix(narrow), wide, share=1.0)
    assert (squeezed.dimension, squeezed.rank, squeezed.condition) == (6, 3, float("inf"))


def test_the_subspace_holds_the_share_of_the_variance_that_is_asked_for():
    states = torch.diag(torch.tensor([3.0, 2, 1, 0])).repeat(2, 1) * torch.tensor([1.0] * 4 + [-1.0] * 4)[:, None]
    for share, dimension in ((0.6, 1), (0.7, 2), (0.92, 2), (0.93, 3), (1.0, 3)):
        assert inverse(Matrix(torch.eye(4)), states, share).dimension == dimension


@pytest.mark.parametrize(
    ("visited", "share", "message"),
    [(torch.ones(5, 2), 0.9, "all the same"), (torch.ones(1, 2), 0.9, "span nothing"), (torch.eye(2), 0.0, "share")],
)
def test_states_that_span_nothing_have_no_inverse(visited, share, message):
    with pytest.raises(DynamoError, match=message):
        inverse(Matrix(torch.eye(2)), visited, share)


def test_conjugates_of_one_theta_are_carried_onto_one_another():
    fit, population = conjugates(THETAS[:1].expand(3, -1))
    found = transport(fit, population, ["a", "a", "b"], share=1.0)
    assert found.carried.max() < 1e-6
    for one in found.inverses:
        assert (one.rank, one.condition) == (one.dimension, pytest.approx(4, rel=1e-3))


def test_models_of_one_group_are_carried_better_than_others(pair):
    fit, population = pair
    found = transport(fit, population, GROUPS, share=1.0)
    assert found.carried.shape == (5, 5)
    np.testing.assert_allclose(np.diag(found.carried), 0, atol=1e-6)
    assert found.mean(within=True) < 0.1 * found.mean(within=False)
    same = np.array(GROUPS)[:, None] == np.array(GROUPS)
    assert found.mean(within=False) == pytest.approx(found.carried[~same].mean())
    assert np.isnan(transport(fit, population, ["one"] * 5).mean(within=False))
    with pytest.raises(DynamoError, match="groups of 2"):
        transport(fit, population, ["a", "b"])


def test_images_have_no_inverse_maps(pair, monkeypatch):
    fit, population = pair
    monkeypatch.setattr(fit.emulator.meta_model, "state_shapes", ((4, 2, 2),))
    with pytest.raises(DynamoError, match="one site with flat states"):
        transport(fit, population, GROUPS)


def test_exact_conjugates_carry_fixed_points_and_spectra(pair):
    fit, population = pair
    found = conjugacy(fit, population, GROUPS, steps=(1, 4), starts=8, examples=20)
    assert found.residual.shape == (5, 3, 2)
    own, centroid, other = np.moveaxis(found.residual, 1, 0)
    assert own.max() < 1e-6
    assert (own < centroid).all()
    assert (centroid < 0.1 * other).all()
    np.testing.assert_array_equal(found.ordered, [1, 1])
    assert (found.fixed_points[:, 0] >= 1).all()
    assert np.nanmax(found.speed[:, 0]) < 1e-4
    assert np.nanmax(found.spectra[:, 0]) < 1e-4
    assert (found.speed[:, 2] > 100 * found.speed[:, 0]).all()
    assert (found.spectra[:, 2] > 100 * found.spectra[:, 0]).all()


def test_base_models_that_are_no_conjugates_have_a_residual():
    fit, _ = conjugates()
    others = problems.population(5)
    data = others.dataset(others[0])
    strangers = Population.of(
        {name: problems.base_model(name, data, hidden=6, seed=9 + n).model for n, name in enumerate(fit.names)}, data
    )
    found = conjugacy(fit, strangers, ["one"] * 5, steps=(1,), starts=8, examples=20)
    assert (found.residual[:, :2] > 0.1).all()
    assert np.isnan(found.residual[:, 2]).all()


def test_one_group_a_model(pair):
    fit, population = pair
    with pytest.raises(DynamoError, match="5 base models, and groups of 2"):
        conjugacy(fit, population, ["a", "b"])


def test_spectra_are_paired_so_that_they_are_nearest():
    one = np.array([[0.9, 0.5 + 0.1j, 0.5 - 0.1j, 0.1]])
    other = np.array([[0.5 - 0.1j, 0.8, 0.5 + 0.1j, 0.0, 0.0, 0.0]])
    assert spectral_distance(one, other, 3) == pytest.approx(0.1 / 3)
    assert spectral_distance(one, other, 9) == pytest.approx((0.1 + 0.1) / 4)
    assert spectral_distance(one, one[:, ::-1]) == pytest.approx(0)


def test_models_without_steps_are_refused(pair):
    fit, population = pair
    blocks = Population.of(
        {name: Blocks(base.model) for name, base in zip(fit.names, population, strict=True)},
        population.dataset(population[0]),
    )
    with pytest.raises(DynamoError, match=r"a Blocks has no step\(\)"):
        conjugacy(fit, blocks, GROUPS)


class Blocks(DynamicalModel):
    """A recurrent model of which only the trajectory is known."""

    def __init__(self, model):
        super().__init__()
        self.inputs, self.outputs, self.state_shapes, self.model = (
            model.inputs,
            model.outputs,
            model.state_shapes,
            model,
        )

    def trajectory(self, inputs):
        return self.model.trajectory(inputs)


def test_models_that_stand_still_have_no_residual_and_are_drawn(tmp_path):
    fit, models = problems.fitted()
    with torch.no_grad():
        for base in models:
            for parameter in base.model.rnn.parameters():
                parameter.zero_()
    result = conjugacy(fit, models, ["a", "a", "b"], steps=[1, 2], examples=8, starts=4)
    assert np.isnan(result.residual).all()
    carried = transport(fit, models, ["a", "a", "b"], examples=8)
    write_figure(plot_conjugacy(result, carried), tmp_path, "conjugacy")
    assert "mean residual undefined at θ_n, undefined at the own centroid, undefined at the others" in result.describe()
    assert "own below other" not in result.describe()


def test_one_model_has_no_others_and_says_so():
    fit, models = problems.fitted(1)
    result = conjugacy(fit, models, ["a"], steps=[1], examples=8, starts=4)
    told = f"{result.describe()}\n{transport(fit, models, ['a'], examples=8).describe()}"
    assert "nan" not in told
    assert "undefined at the others" in told
    assert "leaves unexplained undefined within groups, undefined between" in told


def test_names_of_groups_as_long_as_a_line_leave_room_for_the_picture(tmp_path):
    """matplotlib warns, and draws nothing of use, where the texts beside the axes leave no room for them."""
    fit, models = problems.fitted()
    groups = ["a" * 200, "a" * 200, "b" * 200]
    result = conjugacy(fit, models, groups, steps=[1], examples=8, starts=4)
    carried = transport(fit, models, groups, examples=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figure(plot_conjugacy(result, carried), tmp_path, "conjugacy")
