"""New models on an old map. In most tests the base models are places of a known meta-model, so that the answers are
known too.
"""

import csv
from copy import deepcopy

import attrs
import numpy as np
import pytest
import torch

import problems
from dynamo import DynamoError, Fit, FitOptions, Population, Trainer, measure_fidelity
from dynamo.cli import main
from dynamo.fit.embedding import Embedding, EmbedOptions, embed
from dynamo.fit.fidelity import Fidelity
from dynamo.population.base_model import BaseModel
from dynamo.report.coordinates import with_new_models

OPTIONS = FitOptions(meta_model="gru:hidden_size=8", theta_dim=3, models_per_step=None, output_weight=3.0)
LONG = EmbedOptions(steps=150, map_steps=40)


def world(options: FitOptions = OPTIONS, **kwargs):
    """A meta-model whose states and outputs depend strongly on θ and on the inputs, and a data set."""
    data = problems.dataset(**{"classes": 8, "examples": 120, **kwargs})
    fit = Fit.of(Trainer(Population([problems.base_model("seed", data, hidden=8)]), options))
    generator = torch.Generator().manual_seed(7)
    for parameter in [*fit.emulator.meta_model.parameters(), *fit.emulator.heads.parameters()]:
        parameter.data = torch.randn(parameter.shape, generator=generator) * (0.7 if parameter.ndim > 1 else 0.0)
    return fit, data


def at(fit: Fit, theta, data, name: str = "new", **labels) -> BaseModel:
    """The network at a place, as a model of a population."""
    return BaseModel(name, fit.model_at(theta).requires_grad_(False), data, labels)


def planted(options: FitOptions = OPTIONS, count: int = 6, **kwargs) -> tuple[Fit, Population]:
    """A fit without error: its base models are places of its own meta-model, V the identity."""
    fit, data = world(options, **kwargs)
    thetas = 0.5 * torch.randn(count, 3, generator=torch.Generator().manual_seed(3))
    models = Population([at(fit, theta, data, f"m{number}") for number, theta in enumerate(thetas)])
    emulator = Trainer(models, options).emulator.eval()
    emulator.meta_model, emulator.heads = fit.emulator.meta_model, fit.emulator.heads
    for own, theta, (state_map,) in zip(emulator.thetas, thetas, emulator.state_maps, strict=True):
        own.data = theta.clone()
        for parameter in state_map.parameters():
            parameter.data = torch.eye(8) if parameter.ndim == 2 else torch.zeros(8)
    return Fit(emulator, options, [{"number": n} for n in range(count)]), models


@pytest.fixture(scope="module")
def problem():
    fit, models = planted()
    return fit, models, measure_fidelity(fit, models)


def data_of(models: Population):
    return models.dataset(models[0])


def spread(fit: Fit) -> float:
    return float((fit.theta - fit.theta.mean(0)).norm(dim=1).square().mean().sqrt())


def test_the_planted_fit_is_without_error(problem):
    _, _, fidelity = problem
    assert fidelity.mean("agreement") == 1
    assert fidelity.mean("hidden_r2") == pytest.approx(1, abs=1e-5)


def test_a_model_that_is_a_place_of_the_map_is_put_there(problem):
    fit, models, fidelity = problem
    wanted = torch.tensor([[0.25, -0.4, 0.15], [-0.2, 0.1, 0.5]])
    new = Population([at(fit, theta, data_of(models), f"new{number}") for number, theta in enumerate(wanted)])
    found = embed(fit, new, fidelity, LONG)
    assert found.names == ["new0", "new1"]
    assert ((found.theta - wanted).norm(dim=1) < 0.05 * spread(fit)).all()
    assert ((found.theta[:, None] - fit.theta).norm(dim=2).min(1).values > 0.2 * spread(fit)).all()  # not a start
    assert (found.figures > torch.tensor([0.98, 0.95])).all()
    assert found.is_foreign.tolist() == [False, False]


def test_a_base_model_as_new_lands_at_its_own_place(problem):
    fit, models, fidelity = problem
    found = embed(fit, models.select([False, True, False, False, True, False]), fidelity)
    assert ((found.theta - fit.theta[[1, 4]]).norm(dim=1) < 0.15 * spread(fit)).all()
    assert (found.figures > torch.tensor([0.95, 0.9])).all()
    assert not found.is_foreign.any()


def test_what_is_placed_is_a_fit_of_the_new_models(problem):
    fit, models, fidelity = problem
    new = Population([at(fit, [0.1, 0.2, 0.3], data_of(models), colour="blue")])
    seen = []
    found = embed(fit, new, fidelity, EmbedOptions(steps=3, map_steps=1), lambda *now: seen.append(now))
    assert [(step, steps) for step, steps, _ in seen] == [(n, 5) for n in range(1, 6)]
    assert found.placed.values_of("colour") == ["blue"]
    values = data_of(models).test.inputs.values
    place = found.theta[0]
    torch.testing.assert_close(found.placed.model_at("new")(values), fit.model_at(place)(values))
    assert found.fidelity == measure_fidelity(found.placed, new)
    assert all(parameter.requires_grad for parameter in found.placed.model_at("new").parameters())


def test_the_fit_and_the_random_numbers_are_left_as_they_were(problem):
    fit, models, fidelity = problem
    before = {key: tensor.clone() for key, tensor in fit.emulator.state_dict().items()}
    new = Population([at(fit, [0.1, 0.2, 0.3], data_of(models))])
    weights, state = new.fingerprint, torch.get_rng_state()
    embed(fit, new, fidelity, EmbedOptions(steps=4, map_steps=4))
    assert all(torch.equal(tensor, before[key]) for key, tensor in fit.emulator.state_dict().items())
    assert all(parameter.requires_grad for parameter in fit.emulator.parameters())
    assert new.fingerprint == weights
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("plain", [("ROOM", 0), ("_alike", lambda batch, models: 1)])
def test_what_is_run_once_gives_what_running_it_each_time_does(plain, problem, monkeypatch):
    fit, models, fidelity = problem
    other = problems.dataset(classes=8, examples=90, steps=4)
    wide = [problems.base_model(f"wide{n}", other, hidden=5 + n, seed=n) for n in range(2)]
    same = [at(fit, [0.1 * n, 0.2, 0.3], data_of(models), f"new{n}") for n in range(3)]
    for new in (Population(same), Population([wide[0], same[0], wide[1], same[1]])):
        wanted = embed(fit, new, fidelity, EmbedOptions(steps=4, map_steps=4))
        with monkeypatch.context() as patch:
            patch.setattr("dynamo.fit.embedding." + plain[0], plain[1])
            found = embed(fit, new, fidelity, EmbedOptions(steps=4, map_steps=4))
        torch.testing.assert_close(found.theta, wanted.theta, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.figures, wanted.figures, rtol=1e-4, atol=1e-5)


def test_alone_or_together_makes_no_difference(problem):
    fit, models, fidelity = problem
    thetas = torch.randn(3, 3, generator=torch.Generator().manual_seed(9))
    new = Population([at(fit, theta, data_of(models), f"n{number}") for number, theta in enumerate(thetas)])
    short = EmbedOptions(steps=20, map_steps=10)
    together = embed(fit, new, fidelity, short)
    again = embed(fit, new, fidelity, short)
    assert torch.equal(together.theta, again.theta)
    for number in range(3):
        alone = embed(fit, new.select([number == other for other in range(3)]), fidelity, short)
        torch.testing.assert_close(alone.theta[0], together.theta[number], atol=1e-3, rtol=0)
    other = embed(fit, new, fidelity, attrs.evolve(short, seed=1))
    assert not torch.equal(other.theta, together.theta)


def test_networks_that_do_something_else_are_foreign(problem):
    fit, models, fidelity = problem
    upside_down = fit.model_at([0.1, 0.2, 0.3]).requires_grad_(False)
    for parameter in upside_down.head.parameters():
        parameter.neg_()
    new = Population(
        [
            problems.base_model("untrained", data_of(models), hidden=8, seed=5),
            BaseModel("upside-down", upside_down, data_of(models)),
            at(fit, [0.1, 0.2, 0.3], data_of(models), "known"),
        ]
    )
    found = embed(fit, new, fidelity)
    assert found.is_foreign.tolist() == [True, True, False]
    assert (found.limits == found.limits[0]).all()


def test_the_limits_by_hand(problem):
    """Two base models with V the identity: each is the other's neighbour."""
    fit, models, _ = problem
    kept = [n in (0, 2) for n in range(6)]
    pair = models.select(kept)
    emulator = Trainer(pair, OPTIONS).emulator.eval()
    emulator.meta_model, emulator.heads = fit.emulator.meta_model, fit.emulator.heads
    for number, old in enumerate((0, 2)):
        emulator.thetas[number].data = fit.theta[old]
        emulator.state_maps[number] = fit.emulator.state_maps[old]
    two = Fit(emulator, OPTIONS, [{}, {}])
    own = measure_fidelity(two, pair)
    lower = Fidelity(tuple(attrs.evolve(model, agreement=model.agreement - 0.1) for model in own.models))
    found = embed(two, models.select([n == 4 for n in range(6)]), lower, EmbedOptions(steps=1, map_steps=1))
    test = data_of(models).test.inputs
    one, other = (base.model.trajectory(test) for base in pair)
    answers = [trajectory.at_readout("last").argmax(-1) for trajectory in (one, other)]
    alike = float((answers[0] == answers[1]).float().mean())
    assert 0.2 < alike < 0.99
    states = [trajectory.states[0][test.mask] for trajectory in (one, other)]
    variance = min(float((state - state.mean(0)).square().sum()) for state in states)
    unlike = float((states[0] - states[1]).square().sum()) / variance
    assert found.limits[0].tolist() == pytest.approx([1 - unlike, alike - 0.1], abs=1e-4)


def test_one_base_model_has_no_neighbour(problem):
    _, models, _ = problem
    alone = planted(count=1)
    fidelity = measure_fidelity(*alone)
    found = embed(alone[0], models.select([n == 0 for n in range(6)]), fidelity, EmbedOptions(steps=1, map_steps=1))
    assert found.limits[0].tolist() == pytest.approx([1, 1], abs=1e-5)


def test_states_of_another_size(problem):
    fit, models, fidelity = problem
    new = Population([problems.base_model(f"w{hidden}", data_of(models), hidden=hidden) for hidden in (3, 11)])
    found = embed(fit, new, fidelity, EmbedOptions(steps=2, map_steps=2))
    assert [maps[0].base_shape for maps in found.placed.emulator.state_maps] == [(3,), (11,)]


@pytest.mark.parametrize(
    "changes", [{"state_map": "identity"}, {"output_weight": 0.0}, {"hidden_divergence": "l1", "scale_hidden": True}]
)
def test_other_state_maps_weights_and_divergences(changes):
    options = attrs.evolve(OPTIONS, **changes)
    fit, models = planted(options)
    wanted = torch.tensor([0.1, -0.25, 0.2])
    new = Population([at(fit, wanted, data_of(models))])
    found = embed(fit, new, measure_fidelity(fit, models), LONG)
    assert (found.theta[0] - wanted).norm() < 0.1 * spread(fit)


def test_real_outputs():
    fit, models = planted(kind="real")
    wanted = torch.tensor([0.1, -0.25, 0.2])
    found = embed(fit, Population([at(fit, wanted, data_of(models))]), measure_fidelity(fit, models), LONG)
    assert (found.theta[0] - wanted).norm() < 0.1 * spread(fit)
    assert not found.is_foreign.any()


def test_each_new_model_has_the_limits_of_its_head():
    one, two = problems.dataset(classes=3, group="x"), problems.dataset(classes=2, group="y")
    base = [problems.base_model(f"{name}{n}", data, seed=n) for name, data in (("a", one), ("b", two)) for n in (0, 1)]
    models = Population(base)
    fit = Fit.of(Trainer(models, attrs.evolve(OPTIONS, batch_size=16)))
    for number, theta in enumerate(fit.emulator.thetas):
        theta.data = torch.randn(3, generator=torch.Generator().manual_seed(number))
    fidelity = measure_fidelity(fit, models)
    brief = EmbedOptions(steps=2, map_steps=2)
    new = Population([problems.base_model(name, data, seed=5) for name, data in (("p", two), ("q", one), ("r", two))])
    found = embed(fit, new, fidelity, brief)
    assert [found.placed.emulator.head_of(n).outputs.size for n in range(3)] == [2, 3, 2]
    assert torch.equal(found.limits[0], found.limits[2])
    assert not torch.equal(found.limits[0], found.limits[1])
    for mine, theirs in zip(
        found.placed.emulator.head_of(1).parameters(), fit.emulator.heads[0].parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
    alone = embed(fit, new.select([False, True, False]), fidelity, brief)
    torch.testing.assert_close(alone.limits[0], found.limits[1])


def test_errors(problem):
    fit, models, fidelity = problem
    data = data_of(models)
    with pytest.raises(DynamoError, match=r"take other inputs \(real input of shape \(4,\)\) than the map's"):
        embed(fit, Population([problems.base_model("a", problems.dataset(features=4))]), fidelity)
    for other in (problems.dataset(classes=5), problems.dataset(8, group="else"), problems.dataset(8, kind="real")):
        with pytest.raises(
            DynamoError, match=r"no head for the outputs of 'a', .*: it has 'toy' for 8 classes \(toy\)"
        ):
            embed(fit, Population([problems.base_model("a", other)]), fidelity)
    with pytest.raises(DynamoError, match="fidelity of the base model 'm0' is missing"):
        embed(fit, models, Fidelity(fidelity.models[1:]))
    with pytest.raises(DynamoError, match="the loss of the new model 'm0' is not finite"):
        embed(fit, models.select([True] + [False] * (len(models) - 1)), fidelity, EmbedOptions(map_rate=1e30, steps=2))
    broken = deepcopy(models[0].model)
    with torch.no_grad():
        next(broken.head.parameters()).mul_(1e38)
    with pytest.raises(DynamoError, match="model 'broken' gives NaN or infinite states or outputs on its data"):
        embed(fit, Population([BaseModel("broken", broken, data)]), fidelity, EmbedOptions(steps=2))
    labelled = attrs.evolve(fit, options=attrs.evolve(fit.options, head_by="task"))
    with pytest.raises(DynamoError, match="names the metadata 'task', which model 'm0' lacks"):
        embed(labelled, models, fidelity)
    with pytest.raises(DynamoError, match="option 'steps' is 0: it must be above 0"):
        EmbedOptions(steps=0)


@pytest.mark.parametrize("distance", [None, "theta", "mapped"])
def test_on_the_picture_new_models_lie_by_the_distance_and_old_ones_stay(problem, distance):
    """A new model at an old one's θ has its place, and far ones move nobody."""
    fit, models, fidelity = problem
    fit = attrs.evolve(fit, probes=data_of(models).train.inputs)
    placed = planted(count=3)[0]
    for theta, place in zip(placed.emulator.thetas, (fit.theta[4], 30 * fit.theta[0], fit.theta[2]), strict=True):
        theta.data = place.clone()
    embedding = Embedding(placed, Fidelity(fidelity.models[:3]), torch.zeros(3, 2))
    old, found = with_new_models(fit, embedding, distance)
    np.testing.assert_allclose(found[[0, 2]], old.places.coordinates[[4, 2]], atol=1e-3)
    np.testing.assert_allclose(old.distances.matrix, fit.distances(distance).matrix)
    assert embedding.with_old(fit).names == [*fit.names, *placed.names]


def test_the_command(tmp_path, capsys):
    train = ["-a", "gru:hidden_size=6", "-d", "digits-rows", "--epochs", "1"]
    main(["train", str(tmp_path / "p"), *train, "--seeds", "3"])
    main(["train", str(tmp_path / "q"), *train, "--seeds", "2", "--first-seed", "7"])
    fit = ["--meta-model", "gru:hidden_size=8", "--theta-dim", "3", "--models-per-step", "none", "--steps", "4"]
    run = tmp_path / "run"
    main(["fit", str(tmp_path / "p"), "-o", str(run), *fit])
    before = (run / "fit.safetensors").read_bytes()
    capsys.readouterr()
    main(["embed", str(run), str(tmp_path / "q"), "--steps", "3", "--map-steps", "3", "--colour-by", "seed"])
    told = capsys.readouterr().out
    assert "least_agreement" in told
    assert "digits-gru-100-s8" in told
    rows = list(csv.DictReader((run / "embed" / "embedding.csv").open()))
    assert [row["name"] for row in rows] == ["digits-gru-100-s7", "digits-gru-100-s8"]
    assert [row["seed"] for row in rows] == ["7", "8"]
    assert {row["foreign"] for row in rows} <= {"yes", "no"}
    assert all(float(row["theta_3"]) is not None and row["pc_2"] and row["combined_2"] for row in rows)
    assert "distances by combined" in told
    assert (run / "embed" / "embedding.png").stat().st_size > 0
    assert (run / "fit.safetensors").read_bytes() == before
    for wrong, message in ((["--step", "0"], "No such option"), (["--steps", "x"], "must be int")):
        with pytest.raises(SystemExit):
            main(["embed", str(run), str(tmp_path / "q"), *wrong])
        assert message in capsys.readouterr().err
