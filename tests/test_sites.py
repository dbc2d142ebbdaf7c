"""Base models of any depth under one meta-model: how their sites are paired with its sites."""

import math
from itertools import pairwise

import attrs
import pytest
import torch
from torch import nn

from dynamo import DynamicalModel, DynamoError, Fit, FitOptions, Population, Trainer, Trajectory, measure_fidelity
from dynamo.analysis.dynamics.fixed_points import find_fixed_points
from dynamo.analysis.dynamics.transport import transport
from dynamo.analysis.networks.averages import average
from dynamo.analysis.networks.few_labels import few_labels
from dynamo.analysis.networks.landscape import landscape
from dynamo.analysis.networks.search import search
from dynamo.analysis.rivals.compare import compare
from dynamo.fit.distance_kinds import KINDS
from dynamo.fit.distances import distances
from dynamo.fit.embedding import EmbedOptions, embed
from dynamo.population.base_model import BaseModel
from dynamo.training.blueprint import blueprint_table, read_blueprint
from dynamo.training.sites import Reading, depth_among, read_together
from problems import base_model, dataset

META = "gru-stack:hidden_size=6,embedding_size=3,layers="
SMALL = FitOptions(theta_dim=3, models_per_step=None, batch_size=12, steps=4, learning_rate=1e-2, sites="pool")


class Tower(DynamicalModel):
    """Layers that mix each step with the mean of the steps before; the state of each is a site."""

    def __init__(self, data, layers, units, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = [data.inputs.size, *[units] * layers]
            self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
            self.readout = nn.Linear(units, data.outputs.size)
        self.inputs, self.outputs, self.state_shapes = data.inputs, data.outputs, ((units,),) * layers

    def trajectory(self, inputs):
        x, states = inputs.values, []
        counts = torch.arange(1, x.shape[1] + 1)[:, None]
        for layer in self.layers:
            x = torch.tanh(3 * layer(x.cumsum(1) / counts))
            states.append(x)
        return Trajectory(tuple(states), self.readout(x), inputs.mask)


def tower(name, data, layers, units=4, seed=0):
    return BaseModel(name, Tower(data, layers, units, seed).eval().requires_grad_(False), data, {"layers": layers})


def towers(*layers):
    data = dataset()
    return Population([tower(f"t{n}", data, count, 3 + n, seed=n) for n, count in enumerate(layers)])


def mixed():
    """Networks of two and of three layers, and a GRU, which has one site."""
    data = dataset()
    some = [tower("two", data, 2), tower("three", data, 3, 5), base_model("gru", data)]
    return Population([*some, tower("deep", data, 5, seed=1)])


def small(layers=2, **changes):
    return attrs.evolve(SMALL, meta_model=META + str(layers), **changes)


def fitted(models, **changes):
    trainer = Trainer(models, small(**changes))
    trainer.run()
    return Fit.of(trainer)


@pytest.mark.parametrize(
    ("own", "others", "depths"),
    [
        (3, 3, [0, 1, 2]),
        (2, 6, [2, 5]),
        (1, 4, [3]),
        (4, 1, [0, 0, 0, 0]),
        (4, 2, [0, 0, 0.5, 1]),
        (3, 4, [1 / 3, 5 / 3, 3]),
    ],
)
def test_a_site_lies_at_its_share_of_all_sites(own, others, depths):
    places = [depth_among(site, own, others) for site in range(own)]
    assert [place + share for place, share in places] == pytest.approx(depths)
    assert all(0 <= place <= others - 1 and 0 <= share < 1 for place, share in places)


def given(sites=2, batch=6):
    return [torch.randn(batch, 5, 4, generator=torch.Generator().manual_seed(site)) for site in range(sites)]


def test_pool_interpolates_between_neighbours_and_copies_at_equal_depth():
    states = given()
    first, _, third, last = Reading("pool", 4, [(4,), (4,)])(states)
    assert first is states[0]
    assert last is states[1]
    torch.testing.assert_close(third, (states[0] + states[1]) / 2)
    assert Reading("match", 2, [(4,), (4,)])(states) is states


def test_learned_is_a_softmax_of_its_own_for_each_model_and_site():
    states, readings = given(3), [Reading("learned", 2, [(4,)] * 3) for _ in range(2)]
    for number, reading in enumerate(readings):
        nn.init.normal_(reading.logits, generator=torch.Generator().manual_seed(number))
    found = read_together(readings, states, [2, 4])
    for rows, reading in ((slice(0, 2), readings[0]), (slice(2, 6), readings[1])):
        weights = reading.logits.view(2, 3).exp()
        weights = weights / weights.sum(1, keepdim=True)
        for site, read in enumerate(found):
            wanted = sum(weight * state[rows] for weight, state in zip(weights[site], states, strict=True))
            torch.testing.assert_close(read[rows], wanted)
            torch.testing.assert_close(reading([state[rows] for state in states])[site], wanted)


def test_learned_starts_nearest_to_the_same_depth():
    reading = Reading("learned", 2, [(4,)] * 6)
    assert reading.weights().argmax(1).tolist() == [2, 5]
    assert [part.ndim for part in reading.parameters()] == [1]  # what multiplies states is a matrix to Muon


def test_pool_with_equal_depth_is_match_to_the_bit():
    one, other = (Trainer(towers(2, 2, 2), small(sites=rule)) for rule in ("match", "pool"))
    for trainer in (one, other):
        trainer.run()
    assert one.history == other.history
    assert one.emulator.state_dict().keys() == other.emulator.state_dict().keys()
    for name, tensor in one.emulator.state_dict().items():
        assert torch.equal(tensor, other.emulator.state_dict()[name]), name
    for kind in KINDS:
        found, wanted = (distances(Fit.of(trainer), kind).matrix for trainer in (other, one))
        assert (found == wanted).all(), kind


def test_learned_weights_find_the_site_that_is_imitated():
    """The base model's only site is the meta-model's first, while the rule starts at the last."""
    torch.manual_seed(0)
    data = dataset()
    options = small(3, sites="learned", state_map="identity", output_weight=0.0, steps=300, learning_rate=0.05)
    models = Population([tower("t", data, 1, units=6)])
    trainer = Trainer(models, options)
    for part in trainer.emulator.meta_model.parameters():
        part.requires_grad_(False)
    inputs = data.halves()[1]
    with torch.no_grad():
        wanted = trainer.emulator.meta_model.states(inputs, torch.zeros(len(inputs), 3))[0]
    target = trainer.recordings[0].trajectory.states[0]
    target.copy_(wanted)
    reading = trainer.emulator.reading_of(0)
    assert reading.weights().argmax().item() == 2
    trainer.run()
    assert reading.weights()[0, 0].item() > 0.9


@pytest.mark.parametrize("rule", ["pool", "learned"])
@pytest.mark.parametrize("settings", [{}, {"scale_hidden": True}, {"models_per_step": 2}, {"optimizer": "muon"}])
def test_networks_of_many_depths_stand_on_one_map(rule, settings):
    models = mixed()
    fit = fitted(models, sites=rule, steps=12, learning_rate=0.05, **settings)
    assert [len(fit.emulator.maps_of(number)) for number in range(4)] == [2, 3, 1, 5]
    assert all(bool((theta != 0).all()) for theta in fit.theta)
    result = measure_fidelity(fit, models)
    assert all(math.isfinite(model.hidden_r2) for model in result.models)
    assert fit.model_at("deep").state_shapes == ((6,), (6,))
    for kind in KINDS:
        matrix = distances(fit, kind).matrix
        assert (matrix[~torch.eye(4, dtype=torch.bool).numpy()] > 0).all(), kind


def test_the_hidden_loss_is_the_mean_over_the_base_models_own_sites():
    models = towers(3)
    trainer = Trainer(models, small(2))
    rows = torch.arange(8)
    hidden, _ = trainer.losses([0], [rows])
    inputs, target = trainer.recordings[0].batch(rows)
    emulator = trainer.emulator
    first, last = emulator.meta_model.states(inputs, torch.zeros(8, 3))
    # The sites at a third and two thirds lie before the first of two and a third of the way between them.
    read = [first, first + (last - first) / 3, last]
    losses = []
    for state_map, state, wanted in zip(emulator.maps_of(0), read, target.states, strict=True):
        squares = ((state_map(state) - wanted) ** 2).sum(-1) * target.mask
        losses.append((squares.sum(1) / target.mask.sum(1)).mean())
    torch.testing.assert_close(hidden[0], torch.stack(losses).mean())


def test_activity_of_doubled_states_is_log_two_whatever_the_depth():
    fit = fitted(towers(3, 3, 5))
    emulator = fit.emulator
    with torch.no_grad():
        emulator.thetas[1].copy_(emulator.thetas[0])
        for number in (0, 1):
            for site, own in enumerate(emulator.maps_of(number)):
                own.map = nn.Linear(6, 4)
                nn.init.constant_(own.map.weight, (1.0 + site) * (1 + number))
    found = distances(fit, "activity")
    assert found.between("t0", "t1") == pytest.approx(math.log(2), rel=1e-5)
    assert distances(fit, "aligned").between("t0", "t1") == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("rule", ["pool", "learned"])
def test_a_run_of_many_depths_is_saved_and_resumed(rule, tmp_path):
    models, options = mixed(), small(sites=rule)
    options = attrs.evolve(options, checkpoint_every=2)
    whole, half, rest = (Trainer(models, options) for _ in range(3))
    whole.run()

    def fail(step, steps, loss):
        if step == 3:
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        half.run(tmp_path / "checkpoint.pt", fail)
    rest.resume(tmp_path / "checkpoint.pt")
    rest.run()
    for name, tensor in whole.emulator.state_dict().items():
        assert torch.equal(tensor, rest.emulator.state_dict()[name]), name
    Fit.of(whole).save(tmp_path / "run")
    loaded = Fit.load(tmp_path / "run")
    assert loaded.emulator.blueprint.sites == rule
    assert measure_fidelity(loaded, models).models == measure_fidelity(Fit.of(whole), models).models
    with pytest.raises(DynamoError, match=r"made with other options \(sites\)"):
        Trainer(models, small(sites="learned" if rule == "pool" else "pool")).resume(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("rule", ["pool", "learned"])
def test_a_new_model_of_another_depth_is_embedded(rule):
    models = towers(2, 3, 2)
    fit = fitted(models, sites=rule)
    fidelity = measure_fidelity(fit, models)
    found = embed(fit, Population([tower("new", models[0].data, 4)]), fidelity, EmbedOptions(steps=3, map_steps=3))
    assert [len(own) for own in (found.placed.emulator.maps_of(0), found.placed.emulator.reading_of(0).shapes)] == [
        4,
        4,
    ]
    assert bool(found.limits.isfinite().all())
    together = found.with_old(fit)
    assert [len(together.emulator.maps_of(number)) for number in range(4)] == [2, 3, 2, 4]
    assert distances(together, "mapped").matrix.shape == (4, 4)
    if rule == "learned":
        before = Reading("learned", 4, fit.emulator.meta_model.state_shapes).logits
        assert not torch.equal(found.placed.emulator.reading_of(0).logits, before)


def test_depths_that_differ_need_a_rule_and_the_error_names_the_model():
    with pytest.raises(DynamoError, match=r"'three' has states at 3 sites, the meta-model 'gru-stack' at 2: .*pool"):
        Trainer(mixed(), small(sites="match"))


@pytest.mark.parametrize("rule", ["pool", "learned"])
def test_means_of_states_of_different_shapes_are_refused(rule):
    with pytest.raises(DynamoError, match=r"sites 0 and 1, whose states have the shapes \(4,\) and \(5,\)"):
        Reading(rule, 3, [(4,), (5,)])
    assert Reading("pool", 2, [(4,), (5,)]).shapes == [(4,), (5,)]  # nothing is mixed there


def test_block_outputs_need_match():
    with pytest.raises(DynamoError, match="set sites to match"):
        small(block_outputs=True)


def test_state_maps_are_inverted_at_one_site_only():
    models = towers(2, 3)
    fit = fitted(models, layers=1)
    with pytest.raises(DynamoError, match=r"those of base model 't0' are \(\(3,\), \(3,\)\)"):
        transport(fit, models, ["a", "b"], examples=4)


def test_a_run_from_before_there_was_a_choice_matches_and_nonsense_is_refused():
    table = blueprint_table(fitted(towers(2), sites="match").emulator.blueprint)
    assert read_blueprint({**table, "sites": "learned"}, "run.toml").sites == "learned"
    with pytest.raises(DynamoError, match="sites is 'depth', none of match, pool, learned"):
        read_blueprint({**table, "sites": "depth"}, "run.toml")
    del table["sites"]
    assert read_blueprint(table, "run.toml").sites == "match"


@pytest.mark.parametrize("meta_model", [META + "2,bidirectional=true", "transformer:hidden_size=8,heads=2,layers=2"])
def test_every_question_to_a_map_of_many_depths_is_answered_or_refused_with_the_reason(meta_model):
    models = mixed()
    trainer = Trainer(models, attrs.evolve(SMALL, meta_model=meta_model, steps=6))
    trainer.run()
    fit = Fit.of(trainer)
    for number, theta in enumerate(fit.emulator.thetas):
        theta.data = torch.randn(3, generator=torch.Generator().manual_seed(number))
    answer = average(fit, models, "all")
    assert math.isfinite(answer.emulator_score)
    assert answer.parameters_score is None
    assert answer.reason
    assert landscape(fit, models, size=2, examples=8).scores.shape == (2, 2)
    assert search(fit, models, budget=6, examples=8).thetas.shape == (6, 3)
    assert few_labels(fit, models, labels=8, draws=2, steps=2, folds=2).learned.shape == (2, 3)
    labelled = [attrs.evolve(base, metadata={"kind": kind}) for base, kind in zip(models, "aabb", strict=True)]
    fit = attrs.evolve(fit, metadata=[base.metadata for base in labelled])
    found = compare(fit, Population(labelled), "kind", methods=["cka", "output-disagreement"], examples=8)
    own, cka, answers = found.methods
    assert own.figures is not None
    assert answers.figures is not None
    assert "states are compared site by site" in cka.reason
    with pytest.raises(DynamoError, match="no fixed points"):
        find_fixed_points(fit.model_at("deep"), torch.zeros(2), torch.zeros(4, 8))


@pytest.mark.parametrize("sites", ["pool", "learned"])
def test_an_emulation_has_the_sites_and_units_of_the_base_model(sites):
    models = towers(2, 5)
    fit = fitted(models, sites=sites)
    inputs = models[0].data.test.inputs
    for number, base in enumerate(models):
        found = fit.emulate(base.name, inputs)
        assert [state.shape[2:] for state in found.states] == [torch.Size(shape) for shape in base.state_shapes]
        with torch.no_grad():
            read = fit.emulator.reading_of(number)(fit.model_at(base.name).trajectory(inputs).states)
            wanted = [own(part) for own, part in zip(fit.emulator.maps_of(number), read, strict=True)]
        for one, other in zip(found.states, wanted, strict=True):
            torch.testing.assert_close(one, other)
