"""What a fit gives: thetas, models at any theta, a folder that can be read again; and its fidelity."""

import io
import tomllib

import attrs
import numpy as np
import pytest
import tomli_w
import torch

from dynamo import DynamoError, Fit, FitOptions, Population, Trainer, measure_fidelity
from dynamo.cli import main
from dynamo.contracts.protocols import RecurrentModel
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.fit.fidelity import agreement, unexplained
from dynamo.population.recording import run
from dynamo.testing import check_recurrent_model
from problems import base_model, dataset, population, sequences

OPTIONS = FitOptions(
    meta_model="gru:hidden_size=6,embedding_size=3",
    theta_dim=3,
    models_per_step=None,
    batch_size=9,
    steps=4,
    learning_rate=0.02,
)


@pytest.fixture(scope="module")
def models():
    return population()


@pytest.fixture(scope="module")
def fitted(models):
    trainer = Trainer(models, OPTIONS)
    trainer.run()
    return Fit.of(trainer)


def test_theta_holds_the_embeddings(fitted):
    assert fitted.theta.shape == (3, 3)
    assert fitted.names == ["m0", "m1", "m2"]
    assert fitted.values_of("number") == [0, 1, 2]
    with pytest.raises(DynamoError, match=r"no metadata 'numbr': did you mean 'number'"):
        fitted.values_of("numbr")


def test_model_at_is_the_emulator_at_that_theta(fitted):
    inputs, theta = sequences(6, 5, 2), torch.tensor([0.3, -1.0, 2.0])
    model = fitted.model_at(theta)
    with torch.no_grad():
        states = fitted.emulator.meta_model.states(inputs, theta.expand(6, -1))
        outputs = fitted.emulator.heads[0](states[0])
        last = outputs[torch.arange(6), inputs.mask.sum(1) - 1]
    assert torch.equal(model.trajectory(inputs).states[0], states[0])
    assert torch.equal(model(inputs.values, inputs.mask), last)


def test_model_at_is_an_ordinary_module(fitted):
    model = fitted.model_at([0.1, 0.2, 0.3])
    assert isinstance(model, RecurrentModel)
    check_recurrent_model(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    again = torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    values = torch.randn(4, 5, 2)
    assert torch.equal(again(values), model(values))
    exported = torch.export.export(model, (values, torch.ones(4, 5, dtype=torch.bool))).module()
    torch.testing.assert_close(exported(values, torch.ones(4, 5, dtype=torch.bool)), model(values))


def test_training_a_model_at_theta_leaves_the_fit_alone(fitted):
    before = {name: tensor.clone() for name, tensor in fitted.emulator.state_dict().items()}
    model = fitted.model_at("m1")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.randn(4, 5, 2)).square().sum().backward()
    optimizer.step()
    assert model.theta.grad.abs().sum() > 0
    assert not torch.equal(model.theta.detach(), fitted.theta[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in fitted.emulator.state_dict().items())


def test_model_at_refuses_what_it_cannot_use(fitted):
    with pytest.raises(DynamoError, match=r"theta has shape \(2,\); this fit's have \(3,\)"):
        fitted.model_at(torch.zeros(2))
    with pytest.raises(DynamoError, match="no base model is called 'm9'"):
        fitted.model_at("m9")
    with pytest.raises(DynamoError, match="no head is called 'tox': did you mean 'toy'"):
        fitted.model_at(torch.zeros(3), head="tox")


def test_several_heads_must_be_told_apart():
    two = Population([base_model("a", dataset(classes=3, group="x")), base_model("b", dataset(classes=2, group="y"))])
    fit = Fit.of(Trainer(two, OPTIONS))
    assert fit.model_at("b").outputs.size == 2
    assert fit.model_at(torch.zeros(3), head="x").outputs.size == 3
    with pytest.raises(DynamoError, match="several heads: say which with head=, one of x, y"):
        fit.model_at(torch.zeros(3))


def test_a_saved_fit_is_the_same_fit_without_its_population(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = Fit.load(tmp_path)
    assert torch.equal(loaded.theta, fitted.theta)
    assert loaded.options == fitted.options
    assert [dict(labels) for labels in loaded.metadata] == [dict(labels) for labels in fitted.metadata]
    assert [row[2] for row in loaded.history] == [row[2] for row in fitted.history]
    values = torch.randn(4, 5, 2)
    assert torch.equal(loaded.model_at("m2")(values), fitted.model_at("m2")(values))
    table = tomllib.loads((tmp_path / "run.toml").read_text())
    assert table["population"]["fingerprint"] == fitted.source["fingerprint"]
    assert table["options"]["seed"] == 0
    plugin = {"plugin": "rnn (dynamo-embedding)"}
    assert table["emulator"]["meta_model"] == {"name": "gru", **plugin, "hidden_size": 6, "embedding_size": 3}


def edit(folder, change):
    table = tomllib.loads((folder / "run.toml").read_text())
    change(table)
    del table["digest"]  # as a user does who edits it
    (folder / "run.toml").write_text(tomli_w.dumps(table))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "run.toml").unlink(), "no finished run at .*: the folder has no run.toml"),
        (lambda f: (f / "fit.safetensors").write_bytes(b""), "checksum differs"),
        (lambda f: edit(f, lambda t: t.update(format=7)), "run folder of format 7; this version reads format 1"),
        (lambda f: edit(f, lambda t: t.pop("emulator")), "lacks emulator"),
        (lambda f: edit(f, lambda t: t["emulator"].update(theta_dim=4)), "do not fit the architecture"),
        (
            lambda f: edit(f, lambda t: t["emulator"]["meta_model"].update(name="gruu")),
            "no meta-model is called 'gruu'",
        ),
        (lambda f: edit(f, lambda t: t["emulator"]["subjects"][0].pop("head")), "does not describe an emulator"),
        (lambda f: edit(f, lambda t: t["options"].update(theta_dim=-1)), "'theta_dim' is -1: it must be above 0"),
    ],
)
def test_a_spoilt_run_folder_is_refused(fitted, tmp_path, spoil, message):
    fitted.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DynamoError, match=message):
        Fit.load(tmp_path)


def test_options_that_are_none_survive_the_folder(models, tmp_path):
    options = attrs.evolve(OPTIONS, theta_learning_rate=None, models_per_step=None)
    Fit.of(Trainer(models, options)).save(tmp_path)
    assert Fit.load(tmp_path).options == options


def test_unexplained_variance_by_hand():
    target = torch.tensor([[[0.0], [2.0], [50.0]], [[4.0], [9.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    # Real states 0, 2, 4 around their mean 2: variance 8. Guesses 0, 1, 4 miss by 1.
    guess = torch.tensor([[[0.0], [1.0], [7.0]], [[4.0], [0.0], [0.0]]])
    assert unexplained(guess, target, mask).item() == pytest.approx(1 / 8)
    assert unexplained(target, target, mask).item() == 0


def test_agreement_counts_decisions_at_the_last_real_step():
    space = dataset(classes=2).outputs
    mask = torch.tensor([[True, True], [True, False]])

    def decide(*classes):
        outputs = torch.nn.functional.one_hot(torch.tensor(classes), 2).float()
        return Trajectory((), outputs, mask)

    # The second example ends at its first step; what follows is padding.
    assert agreement(decide([0, 1], [1, 0]), decide([1, 1], [1, 1]), space) == 1.0
    assert agreement(decide([0, 1], [0, 1]), decide([1, 1], [1, 1]), space) == 0.5


def test_fidelity_of_a_perfect_emulator_is_perfect_and_matches_a_separate_computation(models):
    """The meta-model is made to be base model 0 itself: θ without effect, V the identity, the same readout."""
    alone = models.select([True, False, False])
    trainer = Trainer(alone, attrs.evolve(OPTIONS, meta_model="gru:hidden_size=3"))
    base, emulator = alone[0].model, trainer.emulator
    with torch.no_grad():
        layer = emulator.meta_model.rnn
        layer.weight_ih_l0.zero_()
        layer.weight_ih_l0[:, :2] = base.rnn.weight_ih_l0
        layer.weight_hh_l0.copy_(base.rnn.weight_hh_l0)
        layer.bias_ih_l0.copy_(base.rnn.bias_ih_l0)
        layer.bias_hh_l0.copy_(base.rnn.bias_hh_l0)
        emulator.heads[0].load_state_dict(
            dict(zip(emulator.heads[0].state_dict(), base.readout_layer.state_dict().values(), strict=True))
        )
        state_map = emulator.state_maps[0][0]
        for parameter in state_map.parameters():
            parameter.copy_(torch.eye(3) if parameter.ndim == 2 else torch.zeros(3))
    found = measure_fidelity(Fit.of(trainer), alone).models[0]
    assert found.hidden_r2 == pytest.approx(1, abs=1e-5)
    assert found.output_divergence == pytest.approx(0, abs=1e-5)
    assert found.agreement == 1
    test = alone.dataset(alone[0]).test
    answers = torch.stack(
        [
            run(base, Inputs(test.inputs.values[i : i + 1], test.inputs.mask[i : i + 1]))
            .outputs[0, int(n) - 1]
            .argmax()
            for i, n in enumerate(test.inputs.mask.sum(1))
        ]
    )
    assert found.base_score == pytest.approx(float((answers == test.targets).float().mean()))
    assert found.emulator_score == found.base_score


def test_fidelity_before_training_is_poor(models):
    found = measure_fidelity(Fit.of(Trainer(models, OPTIONS)), models)
    assert found.mean("hidden_r2") < 0.5
    assert np.isfinite([attrs.astuple(model)[1:] for model in found.models]).all()


def test_a_run_finds_its_population_again(tmp_path, monkeypatch):
    main(
        ["train", str(tmp_path / "p"), "-a", "gru:hidden_size=4", "-d", "digits-rows", "--seeds", "3", "--epochs", "1"]
    )
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(Population.load("p").select([True, False, True]), OPTIONS)
    trainer.run()
    Fit.of(trainer).save(tmp_path / "run")
    found = Fit.load(tmp_path / "run")
    monkeypatch.chdir("run")  # the population's folder was given as seen from another one
    assert [base.name for base in found.open_population()] == found.names
    (tmp_path / "p").rename(tmp_path / "moved")
    with pytest.raises(DynamoError, match="there is no population"):
        found.open_population()
    assert [base.name for base in found.open_population(tmp_path / "moved")] == found.names
    main(
        ["train", str(tmp_path / "q"), "-a", "gru:hidden_size=4", "-d", "digits-rows", "--seeds", "2", "--epochs", "1"]
    )
    with pytest.raises(DynamoError, match="lacks 'digits-gru-100-s2'"):
        found.open_population(tmp_path / "q")
    main(
        ["train", str(tmp_path / "r"), "-a", "gru:hidden_size=4", "-d", "digits-rows", "--seeds", "3", "--epochs", "2"]
    )
    with pytest.raises(DynamoError, match="other weights"):
        found.open_population(tmp_path / "r")


def test_a_fit_of_live_models_asks_where_they_are(fitted):
    with pytest.raises(DynamoError, match="live models"):
        fitted.open_population()


def test_places_that_are_none_are_refused(fitted):
    for theta, message in (
        ([0.0, float("nan"), 1.0], "theta is not finite"),
        ([0.0, float("inf"), 1.0], "theta is not finite"),
        ([0.0, "x", 1.0], "theta must be 3 numbers or a base model's name"),
        ([0.0, [1.0], 1.0], "theta must be 3 numbers"),
    ):
        with pytest.raises(DynamoError, match=message):
            fitted.model_at(theta)


def test_a_fit_to_live_models_says_where_its_population_is(fitted):
    with pytest.raises(DynamoError, match="live models, which are in no folder: use the population that it was fitted"):
        fitted.open_population()
