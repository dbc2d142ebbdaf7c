"""Distances between emulators: closed forms, invariances, agreement with brute force."""

import csv
from copy import deepcopy

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist, squareform
from torch import nn
from torch.nn import functional

from command_line import dynamo
from dynamo import DynamoError, Fit, FitOptions, Inputs, InputSpace, OutputSpace
from dynamo.commands.analyse.distances import command
from dynamo.contracts.protocols import MetaModel
from dynamo.fit.distance_kinds import KINDS, DistanceKind
from dynamo.fit.distances import (
    DEFAULT,
    Distances,
    NoiseFloor,
    add_twins,
    distances,
    noise_floor,
    twin_floor,
    without_groups,
)
from dynamo.fit.emulated import Emulated
from dynamo.fit.probes import draw_probes, kept_probes
from dynamo.registry import full_spec
from dynamo.training.blueprint import Blueprint, Subject
from dynamo.training.emulator import Emulator
from problems import dataset, fitted, plane, population

ALL = sorted(KINDS)


def states_of(fit: Fit, probes: Inputs) -> torch.Tensor:
    """The emulated states of every model, run one by one, ``[N, B, T, H]``."""
    with torch.no_grad():
        return torch.stack([fit.model_at(name).trajectory(probes).states[0] for name in fit.names]).double()


def mean_over_steps(values: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Of values ``[N, N, B, T]`` the mean over examples of the mean over real steps."""
    return (values.masked_fill(~mask, 0).sum(-1) / mask.sum(1)).mean(-1).numpy()


def spread_of(states: torch.Tensor, mask: torch.Tensor) -> float:
    """The variance over models, examples and steps, summed over units."""
    weights = (mask / mask.sum(1, keepdim=True) / mask.shape[0]).double()
    mean = torch.einsum("nbth,bt->h", states, weights) / len(states)
    return float(torch.einsum("nbth,bt->", (states - mean).square(), weights)) / len(states)


@pytest.mark.parametrize("kind", ALL)
def test_distances_are_symmetric_and_zero_between_equals(kind):
    fit, _ = fitted(count=4)
    fit.emulator.thetas[3].data = fit.emulator.thetas[1].data.clone()
    fit.emulator.state_maps[3] = fit.emulator.state_maps[1]
    found = fit.distances(kind)
    assert (found.matrix == found.matrix.T).all()
    assert (np.diag(found.matrix) == 0).all()
    assert found.between("m1", "m3") < 1e-4 * found.typical
    assert found.between("m0", "m1") > 0.01 * found.typical
    assert found.matrix.dtype == np.float64


@pytest.mark.parametrize("kind", [name for name in ALL if KINDS[name].is_metric])
def test_the_triangle_inequality_holds_where_it_is_claimed(kind):
    fit, _ = fitted(count=8)
    matrix = fit.distances(kind).matrix
    assert (matrix[:, None, :] <= matrix[:, :, None] + matrix[None] + 1e-9).all()


@pytest.mark.parametrize("kind", ["states", "pullback"])
def test_where_states_are_theta_itself_distances_are_those_of_theta(kind):
    fit, _ = plane(3, count=5)
    wanted = squareform(pdist(fit.theta.double().numpy()))
    spread = float(fit.theta.double().var(0, correction=0).sum().sqrt())
    assert fit.distances(kind).matrix == pytest.approx(wanted / spread, rel=1e-4)


def test_outputs_of_classes_are_compared_by_jensen_shannon():
    fit, _ = plane(3, count=4)
    chances = functional.softmax(fit.theta.double(), dim=-1).numpy()

    def divergence(p, q):
        middle = (p + q) / 2
        return float((p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2)

    wanted = [[np.sqrt(divergence(p, q)) for p in chances] for q in chances]
    assert fit.distances("outputs").matrix == pytest.approx(np.array(wanted), rel=1e-5, abs=1e-7)


def test_outputs_that_hardly_differ_keep_their_distances():
    fit, _ = plane(3, count=4)
    for theta in fit.emulator.thetas:
        theta.data.mul_(1e-3).add_(torch.tensor([1.0, 0.0, -1.0]))
    thetas = fit.theta.double()
    chances = functional.softmax(thetas.mean(0), dim=-1)
    fisher = torch.diag(chances) - torch.outer(chances, chances)  # JS is an eighth of its square length at first order
    apart = thetas[:, None] - thetas
    wanted = torch.einsum("mni,ij,mnj->mn", apart, fisher, apart).div(8).sqrt()
    assert fit.distances("outputs").matrix == pytest.approx(wanted.numpy(), rel=2e-3, abs=1e-9)


def test_real_outputs_are_compared_by_their_differences():
    fit, _ = plane(3, count=4, kind="real")
    assert fit.distances("outputs").matrix == pytest.approx(squareform(pdist(fit.theta.double().numpy())), rel=1e-4)


def test_several_heads_count_alike_and_each_is_read_at_every_theta():
    fit, _ = plane(3, count=4)
    one = fit.distances("outputs").matrix
    blueprint = attrs.evolve(
        fit.emulator.blueprint, heads=(*fit.emulator.blueprint.heads, ("other", OutputSpace("real", 3)))
    )
    fit.emulator.blueprint = blueprint
    fit.emulator.heads = nn.ModuleList([fit.emulator.heads[0], nn.Identity()])
    wanted = np.sqrt((one**2 + squareform(pdist(fit.theta.double().numpy())) ** 2) / 2)
    assert fit.distances("outputs").matrix == pytest.approx(wanted, rel=1e-4)


def test_states_agree_with_brute_force_on_sequences_of_different_lengths():
    fit, models = fitted(count=4)
    probes = draw_probes(models, None)
    states = states_of(fit, probes)
    squared = mean_over_steps((states[:, None] - states[None]).square().sum(-1), probes.mask)
    wanted = np.sqrt(squared / spread_of(states, probes.mask))
    assert fit.distances("states", probes=probes).matrix == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("louder", [1.0, 1.02, 30.0])
def test_combined_weighs_states_outputs_and_activity_by_their_medians(louder):
    fit, models = fitted(5)
    for number in range(5):
        fit.emulator.maps_of(number)[0].map.weight.data *= louder**number
    probes = draw_probes(models, 8)
    upper, squared = np.triu_indices(5, 1), 0
    for kind, least in (("states", 0), ("outputs", 0), ("activity", 0.1)):
        part = distances(fit, kind, probes=probes).matrix
        squared = squared + (part / max(least, np.median(part[upper]))) ** 2 / 3
    np.testing.assert_allclose(distances(fit, "combined", probes=probes).matrix, np.sqrt(squared), rtol=1e-9)


def test_activity_agrees_with_brute_force():
    fit, models = fitted(count=4)
    probes = draw_probes(models, None)
    states = states_of(fit, probes).float()
    logs = []
    for number in range(4):
        with torch.no_grad():
            read = fit.emulator.maps_of(number)[0](states[number]).double()
        logs.append(0.5 * np.log(spread_of(read[None], probes.mask) / read.shape[-1]))
    wanted = np.abs(np.subtract.outer(logs, logs))
    assert fit.distances("activity", probes=probes).matrix == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_activity_is_that_of_a_unit_whatever_the_units_order_signs_and_number():
    fit, _ = fitted(count=3)
    same = fit.distances("activity").matrix
    layer = fit.emulator.maps_of(1)[0].map
    order = torch.randperm(layer.out_features)
    signs = torch.where(torch.arange(len(order)) % 2 == 0, 1.0, -1.0)[:, None]
    turned = nn.Linear(layer.in_features, 2 * len(order))
    turned.weight.data = (signs * layer.weight.data[order]).repeat(2, 1)
    turned.bias.data = (signs[:, 0] * layer.bias.data[order]).repeat(2)
    fit.emulator.maps_of(1)[0].map = turned
    assert fit.distances("activity").matrix == pytest.approx(same, rel=1e-5, abs=1e-7)
    turned.weight.data *= 100
    turned.bias.data += 7.0
    changed = fit.distances("activity").matrix
    assert changed[0, 2] == pytest.approx(same[0, 2])
    assert abs(changed[0, 1] - np.log(100)) == pytest.approx(same[0, 1], rel=1e-4)


def test_a_dead_network_is_far_away_but_not_infinitely_far():
    fit, _ = fitted(count=3)
    fit.emulator.maps_of(1)[0].map.weight.data.zero_()
    matrix = fit.distances("activity").matrix
    assert np.isfinite(matrix).all()
    assert matrix[0, 1] > 5 > matrix[0, 2]


def test_mapped_and_objective_agree_with_brute_force():
    fit, models = fitted(count=3)
    probes = draw_probes(models, None)
    states = states_of(fit, probes).float()
    with torch.no_grad():
        read = [torch.stack([fit.emulator.maps_of(n)[0](states[m]) for m in range(3)]).double() for n in range(3)]
        logits = fit.emulator.heads[0](states).double()
    shares, losses = np.zeros((3, 3)), np.zeros((3, 3))
    for n in range(3):
        error = mean_over_steps((read[n] - read[n][n]).square().sum(-1)[None], probes.mask)[0]
        shares[:, n] = error / spread_of(read[n][n][None], probes.mask)
        target = functional.log_softmax(logits[n], -1)
        kl = (target.exp() * (target - functional.log_softmax(logits, -1))).sum(-1)
        losses[:, n] = error + fit.options.output_weight * mean_over_steps(kl[None], probes.mask)[0]
    mapped, objective = (fit.distances(kind, probes=probes).matrix for kind in ("mapped", "objective"))
    assert mapped == pytest.approx(np.sqrt((shares + shares.T) / 2), rel=1e-3, abs=1e-6)
    assert objective == pytest.approx((losses + losses.T) / 2, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("kind", [name for name in ALL if KINDS[name].needs_probes and name != "pullback"])
def test_padding_and_the_sizes_of_blocks_change_nothing(kind, monkeypatch):
    fit, models = fitted(count=3)
    probes = draw_probes(models, None)
    padded = Inputs(
        torch.cat([probes.values, torch.full_like(probes.values[:, :2], 7.0)], 1),
        torch.cat([probes.mask, torch.zeros_like(probes.mask[:, :2])], 1),
    )
    whole = fit.distances(kind, probes=probes).matrix
    assert fit.distances(kind, probes=padded).matrix == pytest.approx(whole, rel=1e-4, abs=1e-6)
    monkeypatch.setattr("dynamo.fit.emulated.BLOCK", 1)
    monkeypatch.setattr("dynamo.fit.emulated.PASS", 2)
    assert fit.distances(kind, probes=probes).matrix == pytest.approx(whole, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", [name for name in ALL if KINDS[name].needs_probes])
def test_other_coordinates_of_theta_change_nothing(kind):
    """θ turned, stretched and moved, with the meta-model's weights to match, is the same set of emulators."""
    fit, _ = fitted(count=4)
    before = fit.distances(kind).matrix
    by_theta = fit.distances("theta").matrix
    generator = torch.Generator().manual_seed(1)
    change = torch.randn(4, 4, generator=generator) + 2 * torch.eye(4)
    layer = fit.emulator.meta_model.rnn
    with torch.no_grad():
        weight = layer.weight_ih_l0
        weight[:, -4:] = weight[:, -4:] @ torch.linalg.inv(change)
        for theta in fit.emulator.thetas:
            theta.copy_(change @ theta)
    tolerance = 0.05 if kind == "pullback" else 1e-3  # its step follows the spread of the thetas
    assert fit.distances(kind).matrix == pytest.approx(before, rel=tolerance, abs=1e-5)
    assert fit.distances("theta").matrix != pytest.approx(by_theta, rel=0.1)


class Louder(MetaModel):
    """The states of a meta-model, and one more unit that shouts θ all the time."""

    def __init__(self, like: MetaModel) -> None:
        super().__init__()
        self.like, self.inputs, self.theta_dim = like, like.inputs, like.theta_dim
        self.state_shapes, self.feature_size = ((like.state_shapes[0][0] + 1,),), like.feature_size

    def states(self, inputs, theta):
        (own,) = self.like.states(inputs, theta)
        return (torch.cat([own, 50 * theta[:, None, :1].expand(-1, own.shape[1], -1)], -1),)

    def features(self, states):
        return states[0][..., :-1]


def test_mapped_outputs_and_objective_pass_over_a_unit_that_nobody_reads():
    fit, _ = fitted(count=4)
    kinds = ("states", "procrustes", "mapped", "outputs", "objective")
    before = {kind: fit.distances(kind).matrix for kind in kinds}
    fit.emulator.meta_model = Louder(fit.emulator.meta_model)
    for number in range(4):
        layer = fit.emulator.maps_of(number)[0].map
        layer.weight = nn.Parameter(torch.cat([layer.weight, torch.zeros(len(layer.weight), 1)], 1))
    for kind in kinds[:1]:
        assert fit.distances(kind).matrix != pytest.approx(before[kind], rel=0.1)
    for kind in kinds[1:]:
        assert fit.distances(kind).matrix == pytest.approx(before[kind], rel=1e-4, abs=1e-6)


class Turned(MetaModel):
    """The states of a meta-model in coordinates that change with θ."""

    def __init__(self, like: MetaModel) -> None:
        super().__init__()
        self.like, self.inputs, self.theta_dim = like, like.inputs, like.theta_dim
        self.state_shapes, self.feature_size = like.state_shapes, like.feature_size
        size = like.state_shapes[0][0]
        self.generator = torch.randn(size, size, generator=torch.Generator().manual_seed(5)) / 2

    def change(self, theta):
        return torch.matrix_exp(theta[..., 0, None, None] * self.generator)

    def states(self, inputs, theta):
        (own,) = self.like.states(inputs, theta)
        return (own @ self.change(theta),)

    def features(self, states):
        return states[0]


def test_aligned_passes_over_coordinates_of_states_that_change_from_model_to_model():
    """(h, V) and (A h, V A⁻¹) say the same of a base model, and nothing in the hidden loss tells them apart."""
    fit, _ = fitted(count=4)
    kinds = ("states", "procrustes", "mapped", "aligned")
    before = {kind: fit.distances(kind).matrix for kind in kinds}
    fit.emulator.meta_model = Turned(fit.emulator.meta_model)
    with torch.no_grad():
        for number, theta in enumerate(fit.emulator.thetas):
            weight = fit.emulator.maps_of(number)[0].map.weight
            weight.copy_(weight @ torch.linalg.inv(fit.emulator.meta_model.change(theta)).T)
    for kind in kinds[:-1]:
        assert fit.distances(kind).matrix != pytest.approx(before[kind], rel=0.1)
    assert fit.distances("aligned").matrix == pytest.approx(before["aligned"], rel=1e-3, abs=1e-4)


def test_aligned_is_zero_between_a_base_model_and_its_copy_in_another_frame():
    fit, _ = fitted(count=4)
    fit.emulator.thetas[3].data = fit.emulator.thetas[1].data.clone()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
    with torch.no_grad():
        one, other = (fit.emulator.maps_of(number)[0].map for number in (1, 3))
        other.weight.copy_(3 * turn[:, :4] @ one.weight)  # 4 units in a plane of 6, and larger
    found = fit.distances("aligned")
    assert found.between("m1", "m3") < 1e-3 < 0.1 * found.typical


def test_a_projection_is_close_and_says_how_close():
    fit, _ = fitted(count=12)
    exact = fit.distances("states", projection=0)
    found = [fit.distances("states", projection=64, seed=seed) for seed in range(200)]
    assert exact.error == 0
    assert found[0].error == pytest.approx(np.sqrt(0.5 / 64))
    upper = np.triu_indices(12, 1)
    ratios = np.array([item.matrix[upper] / exact.matrix[upper] for item in found])
    assert np.sqrt((ratios - 1) ** 2).mean() < 1.2 * found[0].error
    assert (ratios**2).mean() == pytest.approx(1, abs=0.03)
    matrix = found[0].matrix
    assert (matrix[:, None, :] <= matrix[:, :, None] + matrix[None] + 1e-9).all()


def test_many_models_are_projected(monkeypatch):
    monkeypatch.setattr("dynamo.fit.emulated.EXACT", 3)
    fit, _ = fitted(count=4)
    assert fit.distances("states").error > 0
    assert fit.distances("outputs").error == 0


@pytest.mark.parametrize(
    ("meta_model", "maps"), [("mingru:hidden_size=6,layers=2,embedding_size=3", "affine"), ("gru:hidden_size=6", "mlp")]
)
def test_other_meta_models_and_state_maps(meta_model, maps):
    from dynamo import Trainer

    models = population(3)
    trainer = Trainer(
        models, FitOptions(meta_model=meta_model, state_map=maps, theta_dim=2, steps=2, models_per_step=None)
    )
    trainer.run()
    for number, theta in enumerate(trainer.emulator.thetas):
        theta.data = torch.tensor([float(number), 1.0])
    fit = Fit.of(trainer)
    for kind in ALL:
        assert fit.distances(kind).matrix[0, 2] > 0


def test_residual_meta_models_and_their_sites():
    shapes = ((4, 8, 8), (8, 4, 4))
    blueprint = Blueprint(
        *(full_spec(*spec) for spec in (("meta-model", "resnet:layers=1+1,width=4,stem=small"), ("head", "linear"))),
        full_spec("state-map", "conv"),
        InputSpace("image", (1, 8, 8)),
        3,
        (("digits", OutputSpace("classes", 4)),),
        tuple(Subject(f"m{number}", 0, shapes) for number in range(4)),
    )
    torch.manual_seed(0)
    emulator = Emulator(blueprint).eval()
    for theta in emulator.thetas:
        theta.data = torch.randn(3)
    probes = Inputs(torch.randn(6, 1, 8, 8), torch.ones(6, 1).bool())
    fit = Fit(emulator, FitOptions(hidden_divergence="l2:reduction=mean"), [{}] * 4, probes=probes)
    wanted = np.zeros((4, 4))
    with torch.no_grad():
        places = [emulator.meta_model.states(probes, theta.expand(6, -1)) for theta in emulator.thetas]
    for site in range(2):
        states = torch.stack([place[site] for place in places]).flatten(3).double()
        squared = (states[:, None] - states).square().sum(-1).mean((-1, -2)).numpy()
        wanted += squared / spread_of(states, probes.mask) / 2
    assert fit.distances("states").matrix == pytest.approx(np.sqrt(wanted), rel=1e-3)
    for kind in ALL:
        found = fit.distances(kind)
        assert (found.matrix[np.triu_indices(4, 1)] > 0).all()


# Probes. -------------------------------------------------------------------------------------------------------------


def test_a_fit_keeps_probes_and_needs_no_population(tmp_path):
    fit, models = fitted(count=3)
    fit.save(tmp_path)
    again = Fit.load(tmp_path)
    assert (again.probes.values == kept_probes(models).values).all()
    assert again.distances("states").matrix == pytest.approx(fit.distances("states").matrix)
    assert len(again.probes) == again.distances("states").examples == 12


def test_a_run_of_an_older_version_has_no_probes_and_says_what_to_give(tmp_path):
    fit, models = fitted(count=3)
    attrs.evolve(fit, probes=None).save(tmp_path)
    assert not (tmp_path / "probes.safetensors").exists()
    old = Fit.load(tmp_path)
    with pytest.raises(DynamoError, match=r"kept no probe inputs.*give probes= or population="):
        old.distances("states")
    assert old.distances("theta").examples == 0
    assert old.distances("states", population=models).matrix == pytest.approx(fit.distances("states").matrix)


def test_damaged_probes_are_refused(tmp_path):
    fit, _ = fitted(count=3)
    fit.save(tmp_path)
    path = tmp_path / "probes.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(DynamoError, match="checksum differs"):
        Fit.load(tmp_path)


def test_probes_are_shared_out_among_data_sets_and_bounded(monkeypatch):
    from dynamo import Population
    from problems import base_model

    first, second = dataset(group="a"), dataset(group="b", examples=30)
    models = Population([base_model("a", first), base_model("b", second)])
    assert len(draw_probes(models, 9)) == 9
    assert len(draw_probes(models, None)) == 12 + 15
    with pytest.raises(DynamoError, match="1 examples cannot serve 2 data sets"):
        draw_probes(models, 1)
    monkeypatch.setattr("dynamo.fit.probes.ROOM", 4 * 40)  # an example is 5 steps of 2 numbers of 4 bytes
    assert len(kept_probes(models)) == 4


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        (Inputs(torch.zeros(2, 3, 5), torch.ones(2, 3).bool()), "do not fit this map"),
        (Inputs(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3).bool()), "do not fit this map"),
        (Inputs(torch.full((2, 3, 2), torch.nan), torch.ones(2, 3).bool()), "NaN or infinite"),
    ],
)
def test_inputs_of_another_space_are_refused(probes, message):
    fit, _ = fitted(count=3)
    with pytest.raises(DynamoError, match=message):
        fit.distances("states", probes=probes)


def test_faults_are_told():
    fit, _ = fitted(count=3)
    with pytest.raises(DynamoError, match="no kind of distance is called 'state': did you mean 'states'"):
        fit.distances("state")
    with pytest.raises(DynamoError, match="at least 1 example"):
        fit.distances("states", examples=0)
    with torch.no_grad():
        fit.emulator.thetas[1][0] = torch.nan
    with pytest.raises(DynamoError, match="the fit diverged"):
        fit.distances("theta")


def test_states_that_are_not_finite_name_the_model():
    fit, _ = plane(3, count=3)
    with torch.no_grad():
        fit.emulator.thetas[1][0] = 3e38
        fit.emulator.meta_model.states = lambda inputs, theta: (
            2 * theta[:, None].expand(-1, inputs.mask.shape[1], -1),
        )
    with pytest.raises(DynamoError, match="the emulator of 'm1' gives NaN or infinite states"):
        fit.distances("states")


def test_a_kind_of_your_own():
    fit, _ = fitted(count=3)

    def first_unit(emulated: Emulated, options):
        return np.sqrt(emulated.squared(lambda block: [block.states[0][..., :1]])[0][0])

    kind = DistanceKind("first-unit", "the first unit alone", first_unit, True, "O(N²·P)")
    probes = fit.probes
    unit = states_of(fit, probes)[..., 0]
    wanted = np.sqrt(mean_over_steps((unit[:, None] - unit).square(), probes.mask))
    found = fit.distances(kind)
    assert found.matrix == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert found.kind == "first-unit"


@pytest.mark.parametrize("kind", ["theta", "states", "outputs", "pullback"])
def test_the_points_have_the_distances(kind):
    fit, _ = fitted(count=6)
    found = fit.distances(kind)
    assert squareform(pdist(found.points)) == pytest.approx(found.matrix, rel=1e-4, abs=1e-6 * found.typical)


# The record. ---------------------------------------------------------------------------------------------------------


def line(*places: float) -> Distances:
    places = np.array(places)
    return Distances([f"m{n}" for n in range(len(places))], np.abs(places[:, None] - places), "states", True)


def test_the_nearest_models_of_a_fit():
    fit, _ = fitted(count=5)
    theta = fit.theta.numpy()
    own = np.linalg.norm(theta - theta[2], axis=1)
    wanted = [(fit.names[n], pytest.approx(own[n], rel=1e-5)) for n in np.argsort(own)[1:3]]
    assert fit.nearest("m2", 2, "theta") == wanted
    assert fit.nearest("m2") == fit.distances().nearest("m2", 4)  # all others there are
    with pytest.raises(DynamoError, match="did you mean"):
        fit.nearest("n2")
    with pytest.raises(DynamoError, match="ask for at least 1"):
        fit.nearest("m2", 0)


@pytest.mark.parametrize("kind", ["combined", "states", "outputs", "theta", "pullback", "mapped", "aligned"])
def test_further_models_change_no_distance_between_those_that_set_the_units(kind):
    fit, _ = fitted(count=4)
    far, _ = fitted(count=2)
    for theta in far.emulator.thetas:
        theta.data = 20 * theta.data
    emulator = deepcopy(fit.emulator)
    subjects = [attrs.evolve(subject, name=f"far-{subject.name}") for subject in far.emulator.blueprint.subjects]
    emulator.blueprint = attrs.evolve(emulator.blueprint, subjects=(*emulator.blueprint.subjects, *subjects))
    emulator.readings.extend(far.emulator.readings)
    emulator.state_maps.extend(far.emulator.state_maps)
    emulator.thetas.extend(far.emulator.thetas)
    together = attrs.evolve(fit, emulator=emulator, metadata=[{}] * 6)
    alone = fit.distances(kind).matrix
    assert together.distances(kind, reference=4).matrix[:4, :4] == pytest.approx(alone, rel=1e-4, abs=1e-6)
    if kind in ("combined", "states", "pullback"):
        assert together.distances(kind).matrix[:4, :4] != pytest.approx(alone, rel=1e-2)


def test_nearest_table_and_coordinates():
    found = line(0.0, 1.0, 3.0)
    assert found.nearest("m0", 2) == [("m1", 1.0), ("m2", 3.0)]
    assert found.nearest("m2") == [("m1", 2.0)]
    assert found.table() == (
        ["model", "m0", "m1", "m2"],
        [["m0", 0.0, 1.0, 3.0], ["m1", 1.0, 0.0, 2.0], ["m2", 3.0, 2.0, 0.0]],
    )
    assert found.neighbours_table()[1][2] == ["m2", "m1", 2.0, "m0", 3.0, None]
    noisy = attrs.evolve(found, floor=1.0).neighbours_table()[1]
    assert [row[-1] for row in noisy] == [True, True, False]
    points = found.coordinates(2)
    assert squareform(pdist(points)) == pytest.approx(found.matrix)
    assert points[:, 1] == pytest.approx(0, abs=1e-7)
    assert points[2, 0] > 0
    assert found.typical == 2.0
    with pytest.raises(DynamoError, match="no base model is called 'm9'"):
        found.nearest("m9")


def test_a_floor_is_in_the_units_of_the_distances():
    noise = NoiseFloor("states", ["m0"], [0.2, 0.4, 0.3], 1.5)
    assert noise.ratio == pytest.approx(0.2)
    assert line(0.0, 1.0, 3.0).with_floor(noise).floor == pytest.approx(0.4)
    with pytest.raises(DynamoError, match="says nothing of distances by 'states'"):
        line(0.0, 1.0).with_floor(attrs.evolve(noise, kind="theta"))


def test_equal_models_come_out_nearer_than_others():
    from dynamo import Trainer

    models = population(4, examples=64)
    options = FitOptions(
        meta_model="gru:hidden_size=24", theta_dim=4, models_per_step=None, batch_size=64, steps=400, learning_rate=1e-2
    )
    trainer = Trainer(models, options)
    trainer.run()
    fit = Fit.of(trainer)
    before = [theta.clone() for theta in fit.emulator.thetas]
    noise = noise_floor(fit, models, "states", twins=3)
    assert len(noise.twins) == len(noise.names) == 3
    assert 0 < noise.ratio < 0.5
    assert all(torch.equal(*pair) for pair in zip(before, fit.emulator.thetas, strict=True))
    apart = distances(fit, "states")
    assert apart.with_floor(noise).floor < apart.typical / 2
    with pytest.raises(DynamoError, match="at least one model"):
        noise_floor(fit, models, twins=0)


def test_twins_are_told_by_their_names():
    _, models = fitted(count=4)
    assert [base.name for base in add_twins(models, 9)][4:] == ["m0.twin", "m1.twin", "m2.twin", "m3.twin"]
    assert len(add_twins(models, 2)) == 6
    fit, _ = plane(2, count=4)
    with pytest.raises(DynamoError, match="no model of this fit is there twice"):
        twin_floor(fit, "theta")
    fit.emulator.blueprint = attrs.evolve(
        fit.emulator.blueprint,
        subjects=tuple(
            attrs.evolve(subject, name=name)
            for subject, name in zip(fit.emulator.blueprint.subjects, ["a", "b", "c", "b.twin"], strict=True)
        ),
    )
    for theta, place in zip(fit.emulator.thetas, [(0.0, 0.0), (3.0, 0.0), (0.0, 4.0), (3.0, 0.5)], strict=True):
        theta.data = torch.tensor(place)
    noise = twin_floor(fit, "theta")
    assert noise.names == ["b"]
    assert noise.twins == pytest.approx([0.5])
    assert noise.typical == pytest.approx(4.0)
    assert noise.ratio == pytest.approx(0.125)


def test_the_command_writes_tables_and_a_picture(tmp_path, capsys):
    fit, _ = fitted(count=4)
    fit.save(tmp_path)
    assert dynamo("analyse", "distances", tmp_path, "--kind", "outputs") == 0
    assert "distances by outputs" in capsys.readouterr().out
    with (tmp_path / "distances" / "distances.csv").open() as file:
        rows = list(csv.reader(file))
    found = fit.distances("outputs")
    assert rows[0] == ["model", *fit.names]
    assert np.array([row[1:] for row in rows[1:]], dtype=float) == pytest.approx(found.matrix)
    assert (tmp_path / "distances" / "neighbours.png").exists()
    assert dynamo("analyse", "distances", tmp_path, "--kind", "output") == 2
    assert "did you mean 'outputs'" in capsys.readouterr().err


def test_the_option_names_every_kind_and_the_default():
    """Its help is a text of its own, since the kinds themselves would import torch."""
    (option,) = [one for one in command.params if one.name == "kind"]
    named, default = option.help.removesuffix("]").split(" [default: ")
    assert set(named.replace(" or ", ", ").split(", ")) == set(KINDS)
    assert default == DEFAULT


def test_the_default_distance_runs_the_emulators_once(monkeypatch):
    fit, models = fitted(count=3)
    probes, runs = draw_probes(models, 8), []
    whole = fit.distances("combined", probes=probes).matrix
    run = type(fit.emulator.meta_model).states
    monkeypatch.setattr(
        type(fit.emulator.meta_model), "states", lambda self, *given: runs.append(1) or run(self, *given)
    )
    assert (fit.distances("combined", probes=probes).matrix == whole).all()
    assert len(runs) == 1
    monkeypatch.setattr("dynamo.fit.emulated.BLOCK", 1)  # nothing fits: an input at a time, and again for each part
    assert fit.distances("combined", probes=probes).matrix == pytest.approx(whole, rel=1e-4)
    assert len(runs) == 1 + 3 * len(probes)


def test_what_groups_differ_in_on_average_is_taken_off():
    generator = np.random.default_rng(3)
    groups = np.array(list("aaabbbbcc"))
    places, offsets = generator.normal(size=(9, 4)), dict(zip("abc", generator.normal(size=(3, 4)) * 50, strict=True))
    means = np.stack([places[groups == group].mean(0) for group in groups])
    expected = cdist(places - means, places - means)
    moved = places + np.stack([offsets[group] for group in groups])
    np.testing.assert_allclose(without_groups(cdist(moved, moved), groups), expected, atol=1e-6)
    # one group of all leaves Euclidean distances as they are
    np.testing.assert_allclose(without_groups(cdist(places, places), ["all"] * 9), cdist(places, places), atol=1e-7)
    with pytest.raises(DynamoError, match="nothing would be left"):
        without_groups(expected, range(9))
    with pytest.raises(DynamoError, match="groups of 2"):
        without_groups(expected, "ab")


def test_distances_without_metadata_tell_so():
    fit, _ = fitted(count=6)
    apart = fit.distances("theta").without("half", ["a", "b"] * 3)
    assert apart.kind == "theta without half"
    centred = fit.theta.double().numpy()
    centred = centred - np.stack([centred[number % 2 :: 2].mean(0) for number in range(6)])
    np.testing.assert_allclose(apart.matrix, cdist(centred, centred), atol=1e-6)
