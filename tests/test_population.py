"""Populations in memory and on disk, and what is refused on the way."""

import tomllib

import attrs
import numpy as np
import pytest
import tomli_w
import torch

from dynamo import DynamoError, Population, Spec
from dynamo.contracts.trajectory import Trajectory
from dynamo.population.base_model import BaseModel
from dynamo.population.manifest import PopulationWriter
from problems import base_model, dataset, sequences

DIGITS = Spec("digits-rows")


def on_digits(name="a", seed=0, **labels):
    from dynamo import Dataset
    from dynamo.registry import make

    made = base_model(name, make("dataset", DIGITS, Dataset), seed=seed, **labels)
    return BaseModel(made.name, made.model, DIGITS, made.metadata, made.architecture)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "population"
    Population([on_digits("a", 0, fraction=0.25, epoch=3, good=True, site="x"), on_digits("b", 1)]).save(path)
    return path


def edit(folder, change):
    path = folder / "population.toml"
    table = tomllib.loads(path.read_text())
    change(table)
    del table["digest"]  # as a user does who edits it
    path.write_text(tomli_w.dumps(table))


def test_save_and_load_give_the_same_models(folder):
    loaded = Population.load(folder)
    assert [base.name for base in loaded] == ["a", "b"]
    assert loaded[0].metadata == {"fraction": 0.25, "epoch": 3, "good": True, "site": "x"}
    inputs = sequences(5, 8, 8)
    for base, original in zip(loaded, [on_digits("a", 0), on_digits("b", 1)], strict=True):
        found, wanted = base.model.trajectory(inputs), original.model.trajectory(inputs)
        assert torch.equal(found.states[0], wanted.states[0])
        assert torch.equal(found.outputs, wanted.outputs)
        assert not base.model.training
        assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert loaded.fingerprint == Population.load(folder).fingerprint
    assert loaded.fingerprint != loaded.select([True, False]).fingerprint


def test_a_torch_state_dict_can_stand_for_the_safetensors(folder):
    base = Population.load(folder)[0]
    torch.save(base.model.state_dict(), folder / "weights" / "a.pt")

    def change(table):
        table["models"][0]["weights"] = "weights/a.pt"
        del table["models"][0]["sha256"]

    edit(folder, change)
    assert Population.load(folder).fingerprint == Population([on_digits("a", 0), on_digits("b", 1)]).fingerprint


def test_a_pickle_is_not_executed(folder):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(folder / 'executed')!r}, 'w')",))

    (folder / "weights" / "a.pt").write_bytes(pickle.dumps(Bomb()))
    edit(
        folder,
        lambda table: table["models"][0].update(weights="weights/a.pt", sha256="") or table["models"][0].pop("sha256"),
    )
    with pytest.raises(DynamoError, match="no readable tensors"):
        Population.load(folder)
    assert not (folder / "executed").exists()


def test_models_can_be_added_one_at_a_time(folder):
    writer = PopulationWriter(folder)
    assert writer.names == {"a", "b"}
    writer.add(on_digits("c", 2))
    assert [base.name for base in Population.load(folder)] == ["a", "b", "c"]
    with pytest.raises(DynamoError, match="called 'c' already"):
        writer.add(on_digits("c", 3))


def test_models_that_share_a_data_set_share_its_object(folder):
    loaded = Population.load(folder)
    assert loaded.dataset(loaded[0]) is loaded.dataset(loaded[1])


def test_live_modules_are_saved_without_specs_as_what_they_did(tmp_path):
    from torch import nn

    from dynamo_rnn.models import GRU

    data = dataset()
    live = Population.of(
        {"mine": GRU(data.inputs, data.outputs, nn.GRU(2, 7, batch_first=True), nn.Linear(7, 3))}, data
    )
    assert live[0].model(torch.zeros(4, 5, 2)).shape == (4, 3)
    live.save(tmp_path / "population")
    (again,) = Population.load(tmp_path / "population")
    assert again.is_recording
    probes = data.probes()
    assert torch.equal(again.trajectories.probe.states[0], live[0].model.trajectory(probes).states[0])


def cut_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "weights/a.safetensors").unlink(), "cannot read .*a.safetensors"),
        (lambda f: cut_byte(f / "weights/a.safetensors"), "a.safetensors holds no readable tensors: .*incomplete"),
        (lambda f: (f / "population.toml").write_text("models = ["), "no valid population"),
        (lambda f: (f / "population.toml").unlink(), "cannot read"),
        (lambda f: edit(f, lambda t: t.update(format=99)), "of format 99; this version reads format 1"),
        (lambda f: edit(f, lambda t: t.update(models=[])), "population is empty"),
        (lambda f: edit(f, lambda t: t.update(models=3)), "must be a list"),
        (lambda f: edit(f, lambda t: t["models"][1].update(name="a")), "two models are called 'a'"),
        (lambda f: edit(f, lambda t: t["models"][1].pop("inputs")), "model 'b' lacks inputs"),
        (lambda f: edit(f, lambda t: t["models"][0].update(weights="../x.safetensors")), "must lie inside"),
        (lambda f: edit(f, lambda t: t["models"][0].update(weights="/etc/passwd")), "must lie inside"),
        (lambda f: edit(f, lambda t: t["models"][0]["architecture"].update(name="gruu")), "did you mean 'gru'"),
        (
            lambda f: edit(f, lambda t: t["models"][0]["architecture"].update(hidden_size=9)),
            r"do not fit the architecture: .* has shape \(12, 8\) instead of \(27, 8\)",
        ),
        (lambda f: edit(f, lambda t: t["models"][0]["outputs"].pop("kind")), "no output space"),
    ],
)
def test_a_spoilt_folder_is_refused_with_the_place_and_the_cause(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DynamoError, match=message):
        Population.load(folder)


def test_there_is_no_population_at_all(tmp_path):
    with pytest.raises(DynamoError, match=r"there is no population at .*dynamo train"):
        Population.load(tmp_path / "nothing")


def test_a_folder_with_a_population_is_not_overwritten(folder):
    with pytest.raises(DynamoError, match="holds a population already"):
        Population([on_digits("z")]).save(folder)


def test_models_that_cannot_stand_in_a_population():
    with pytest.raises(DynamoError, match="empty"):
        Population([])
    with pytest.raises(DynamoError, match="cannot be a model's name"):
        Population([base_model("../x", dataset())])
    with pytest.raises(DynamoError, match="is a Linear, which is no DynamicalModel"):
        Population.of({"x": torch.nn.Linear(2, 2)}, dataset())
    spoilt = base_model("spoilt", dataset())
    spoilt.model.readout_layer.bias.data[1] = float("nan")
    with pytest.raises(DynamoError, match=r"'spoilt' has NaN or infinite values in 'readout_layer\.bias'"):
        Population([spoilt])
    with pytest.raises(DynamoError, match="'a' and 'b' take different inputs"):
        Population([base_model("a", dataset(features=2)), base_model("b", dataset(features=3))])


def test_a_data_set_that_no_longer_fits_its_model_is_told():
    base = base_model("a", dataset(classes=3))
    changed = BaseModel("a", base.model, DIGITS)
    with pytest.raises(DynamoError, match="does not fit its data set 'digits-rows'"):
        Population([changed]).dataset(changed)


def test_metadata_is_of_models_that_are_there_and_of_plain_values():
    data = dataset()
    live = base_model("a", data).model
    with pytest.raises(DynamoError, match="metadata for 'aa', but no such model: did you mean 'a'"):
        Population.of({"a": live}, data, {"aa": {"x": 1}})
    given = {"t": np.bool_(True), "i": np.int64(3), "f": np.float32(0.5), "s": np.str_("x"), "z": torch.tensor(2)}
    found = Population.of({"a": live}, data, {"a": given})[0].metadata
    assert found == {"t": True, "i": 3, "f": 0.5, "s": "x", "z": 2}
    assert [type(value) for value in found.values()] == [bool, int, float, str, int]
    with pytest.raises(DynamoError, match="the metadata 'x' is"):
        Population.of({"a": live}, data, {"a": {"x": np.zeros(2)}})


def test_specs_may_be_given_as_text():
    model = base_model("a", dataset()).model
    base = BaseModel("a", model, "arrays:path=x.npz", architecture="gru:hidden_size=4,embedding_size=3")
    assert base.data == Spec("arrays", {"path": "x.npz"})
    assert base.architecture == Spec("gru", {"hidden_size": "4", "embedding_size": "3"})


def test_tasks_of_two_names_are_told_as_that():
    data = dataset(group="toy")
    other = attrs.evolve(data, outputs=attrs.evolve(data.outputs, group="other"))
    population = Population([attrs.evolve(base_model("a", data), data=other)])
    with pytest.raises(DynamoError, match=r"its task is called 'toy', its data set .* 'other': give both outputs the"):
        population.dataset(population[0])


def test_a_model_that_its_spec_does_not_rebuild_is_not_saved(tmp_path):
    base = on_digits("a")
    Population([base]).save(tmp_path / "good")

    class Louder(type(base.model)):
        def trajectory(self, inputs):
            found = super().trajectory(inputs)
            return Trajectory(found.states, 2 * found.outputs, found.mask)

    louder = on_digits("a").model
    louder.__class__ = Louder
    with pytest.raises(DynamoError, match=r"model 'a' would be another one when .*, its outputs differ"):
        Population([BaseModel("a", louder, base.data, architecture=base.architecture)]).save(tmp_path / "bad")
    with pytest.raises(DynamoError, match="do not fit the architecture"):
        Population([BaseModel("a", base.model, base.data, architecture="gru:hidden_size=7")]).save(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
