"""Populations whose manifest is in parts, fits that are opened without their V_n, and fits of some of the models."""

import json
import tomllib

import numpy as np
import pytest
import torch

from dynamo import DynamoError, Fit, FitOptions, Population, cli
from dynamo.contracts.files import sha256
from dynamo.fit import distances, distributed
from dynamo.fit.ranks import Ranks
from dynamo.population import entries, manifest
from dynamo.population.entries import Entries
from dynamo.population.manifest import PopulationWriter
from dynamo.report import coordinates, terminal
from dynamo.report.coordinates import map_coordinates
from dynamo.report.run import write_map
from dynamo.system.storage import write_toml
from dynamo.system.tensor_files import TensorFile
from dynamo.training.on_demand import OnDemand
from problems import base_model, dataset, fitted
from test_population import on_digits

SIX = [f"m{number}" for number in range(6)]


@pytest.fixture
def few(monkeypatch):
    """Two models are many."""
    monkeypatch.setattr(entries, "MOST", 2)
    monkeypatch.setattr(manifest, "MOST", 2)


@pytest.fixture
def models():
    return [on_digits(name, seed, number=seed) for seed, name in enumerate(SIX)]


@pytest.fixture
def packed(few, models, tmp_path):
    path = tmp_path / "population"
    Population(models).save(path)
    return path


def test_a_population_in_parts_is_the_one_that_was_saved(packed, models, tmp_path):
    assert sorted(path.name for path in packed.iterdir()) == ["packs", "parts", "population.toml"]
    table = tomllib.loads((packed / "population.toml").read_text())
    assert (table["format"], [part["models"] for part in table["parts"]], len(table["models"])) == (2, [2, 2], 2)
    assert len(list((packed / "packs").iterdir())) == 1
    loaded = Population.load(packed)
    assert loaded.names == SIX
    for base, wanted in zip(loaded, models, strict=True):
        assert base.metadata == wanted.metadata
        assert base.fingerprint == wanted.fingerprint
        for name, tensor in base.model.state_dict().items():
            assert torch.equal(tensor, wanted.model.state_dict()[name])
    plain = tmp_path / "plain"
    Population(models[:2]).save(plain)  # few: as it always was
    assert tomllib.loads((plain / "population.toml").read_text())["format"] == 1
    assert Population.load(plain).fingerprint == loaded[:2].fingerprint


def test_packs_are_no_larger_than_they_may_be(few, models, tmp_path, monkeypatch):
    size = len(manifest.tensors_to_bytes(models[0].model.state_dict()))
    monkeypatch.setattr(manifest, "PACK", 2 * size + 1)
    Population(models).save(tmp_path / "population")
    packs = list((tmp_path / "population" / "packs").iterdir())
    assert [path.stat().st_size for path in packs] == [2 * size] * 3
    assert Population.load(tmp_path / "population").fingerprint == Population(models).fingerprint


def test_models_that_are_added_one_by_one_leave_full_parts_as_they_are(few, models, tmp_path):
    writer, seen = PopulationWriter(tmp_path), {}
    for number, base in enumerate(models, start=1):
        writer.add(base)
        assert Population.load(tmp_path).names == SIX[:number]
        there = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*")}
        assert seen.items() <= there.items()
        seen = there
    assert len(seen) == 2
    again = PopulationWriter(tmp_path)
    again.add(on_digits("later", 9))
    assert Population.load(tmp_path).names == [*SIX, "later"]
    assert sorted(path.name for path in (tmp_path / "weights").iterdir())[0] == "later.safetensors"


def test_a_kill_between_a_part_and_the_manifest_loses_nothing(few, models, tmp_path, monkeypatch):
    writer = PopulationWriter(tmp_path)
    writer.add(*models[:2])
    with monkeypatch.context() as patched:
        patched.setattr(entries, "write_toml", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.add(models[2])
    assert len(list((tmp_path / "parts").iterdir())) == 1
    assert Population.load(tmp_path).names == SIX[:2]
    PopulationWriter(tmp_path).add(models[2])
    assert Population.load(tmp_path).names == SIX[:3]
    assert len(list((tmp_path / "parts").iterdir())) == 1


def edited(path, change):
    """Change a JSON part and the manifest that names it."""
    table = tomllib.loads((path / "population.toml").read_text())
    part = path / table["parts"][0]["file"]
    content = json.loads(part.read_text())
    change(content["models"], table)
    part.write_text(json.dumps(content))
    table["parts"][0]["sha256"] = sha256(part.read_bytes())
    write_toml(path / "population.toml", {key: value for key, value in table.items() if key != "digest"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda models, table: models[0].pop("inputs"), "model 'm0' lacks inputs"),
        (lambda models, table: models.pop(), "has 1 models, and .* says 2"),
        (lambda models, table: models[0].update(name="a\x1b[2J"), "control characters"),
        (lambda models, table: models[0].update(part=[0, -1]), "'part' must be where the weights begin"),
        (lambda models, table: models[0].update(part=[0, 10**9]), "holds no readable tensors: it is incomplete"),
        (lambda models, table: models[0].update(part=[8, 400]), "holds no readable tensors"),
        (lambda models, table: models[0].update(weights="../x"), "must lie inside"),
        (lambda models, table: table["parts"][1].update(file="../x.json"), "must lie inside"),
        (lambda models, table: table["parts"][1].update(models="2"), "the number of its 'models'"),
    ],
)
def test_a_spoilt_part_is_refused_with_the_place_and_the_cause(packed, spoil, message):
    edited(packed, spoil)
    with pytest.raises(DynamoError, match=message):
        Population.load(packed)


def test_damaged_packs_and_parts_are_told(packed):
    loaded = Population.load(packed)
    pack = next((packed / "packs").iterdir())
    content = bytearray(pack.read_bytes())
    content[-1] ^= 1
    pack.write_bytes(content)
    assert loaded[0].model is not None
    with pytest.raises(DynamoError, match="its checksum differs"):
        _ = loaded[5].model
    pack.write_bytes(content[:-1])
    with pytest.raises(DynamoError, match="it is incomplete"):
        Population.load(packed)
    part = next((packed / "parts").iterdir())
    part.write_text(part.read_text().replace("m", "n", 1))
    with pytest.raises(DynamoError, match="its checksum differs"):
        Population.load(packed)
    part.unlink()
    with pytest.raises(DynamoError, match="cannot read"):
        Entries.read(packed)


# Files of tensors


def test_tensors_are_read_one_by_one_as_the_library_reads_them(tmp_path):
    from safetensors.torch import load, save

    kinds = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
    tensors = {f"t{number}": torch.randn(number, 3).to(kind) for number, kind in enumerate(kinds)}
    tensors["scalar"] = torch.tensor(2.5)
    content = save(tensors, {"a": "b"})
    (tmp_path / "file").write_bytes(b"before" + content + b"after")
    file = TensorFile.open(tmp_path / "file", (6, len(content)))
    assert file.metadata == {"a": "b"}
    for name, wanted in load(content).items():
        found = file.read([name])[name]
        assert found.dtype == file.forms[name].dtype == wanted.dtype
        assert torch.equal(found, wanted)
    for damaged in (content[:-1], content + b"x", content[:20], b"", b"\xff" * 40, content.replace(b"F64", b"F65")):
        (tmp_path / "file").write_bytes(damaged)
        with pytest.raises(DynamoError, match="holds no readable tensors"):
            TensorFile.open(tmp_path / "file")


# Fits


def test_modules_are_made_when_they_are_asked_for():
    made = []

    def make(number):
        made.append(number)
        return torch.nn.Linear(number + 1, 1)

    modules = OnDemand(4, make)
    assert (len(modules), made) == (4, [])
    assert modules[2] is modules[2]
    assert modules[-1].in_features == 4
    assert made == [2, 3]
    modules[0] = torch.nn.Identity()
    modules.append(torch.nn.Tanh())
    assert [type(part).__name__ for part in modules] == ["Identity", "Linear", "Linear", "Linear", "Tanh"]
    assert made == [2, 3, 1]
    assert list(modules.state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias"]
    with pytest.raises(IndexError):
        modules[5]


def test_a_fit_is_opened_without_its_state_maps_and_reads_those_that_are_asked_for(tmp_path, monkeypatch):
    fit, _ = fitted(5, theta_dim=3)
    fit.save(tmp_path / "run")
    read = []
    whole = TensorFile.read
    monkeypatch.setattr(TensorFile, "read", lambda self, names: read.extend(names) or whole(self, names))
    again = Fit.load(tmp_path / "run")
    assert torch.equal(again.theta, fit.theta)
    again.distances("states")
    assert not [name for name in read if name.startswith("state_maps")]
    state_map = again.emulator.maps_of(3)[0]
    assert not state_map.training
    assert {name.split(".")[1] for name in read if name.startswith("state_maps")} == {"3"}
    assert again.emulator.maps_of(3)[0] is state_map
    for name, tensor in again.emulator.state_dict().items():
        assert torch.equal(tensor, fit.emulator.state_dict()[name]), name


def test_opening_a_fit_and_its_state_maps_uses_up_no_random_number(tmp_path):
    fit, _ = fitted(3)
    fit.save(tmp_path / "run")
    before = torch.random.get_rng_state()
    Fit.load(tmp_path / "run").emulator.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ranks_save_what_is_their_own(tmp_path):
    data = dataset()
    population = Population([base_model(f"m{n}", data, hidden=4 + n, seed=n) for n in range(5)])
    options = FitOptions(meta_model="gru:hidden_size=6,embedding_size=3", theta_dim=3, models_per_step=None, steps=4)
    wanted = distributed.fit(population, options)
    found = distributed.fit(population, options, Ranks(2), out=tmp_path / "run")
    assert found.folder == tmp_path / "run"
    names = {path.name for path in (tmp_path / "run").glob("fit*")}
    assert names == {"fit.safetensors", "fit-0.safetensors", "fit-1.safetensors"}
    owned = TensorFile.open(tmp_path / "run" / "fit-1.safetensors").forms
    assert {name.split(".")[1] for name in owned} == {"1", "3"}
    assert not any(name.startswith(("thetas", "state_maps")) for name in file_names(tmp_path / "run"))
    for name, tensor in found.emulator.state_dict().items():
        torch.testing.assert_close(tensor, wanted.emulator.state_dict()[name], rtol=1e-4, atol=1e-5)
    own = tmp_path / "run" / "fit-1.safetensors"
    content = own.read_bytes()
    for damaged, message in ((content[:-1] + b"\x01", "its checksum differs"), (None, "cannot read")):
        own.unlink() if damaged is None else own.write_bytes(damaged)
        with pytest.raises(DynamoError, match=message):
            Fit.load(tmp_path / "run")
    alone = distributed.fit(population, options, Ranks(2))  # saved nowhere: whole in memory
    assert alone.folder is None
    for name, tensor in alone.emulator.state_dict().items():
        assert torch.equal(tensor, found.emulator.state_dict()[name]) or "maps.1" in name or "maps.3" in name


def test_shares_of_a_fit_that_was_not_finished_are_swept_and_questions_are_asked_of_a_sample(tmp_path, capsys):
    fit, _ = fitted(5)
    run = tmp_path / "run"
    run.mkdir()
    (run / "fit-7.safetensors").write_bytes(b"half")
    fit.save(run)
    assert not (run / "fit-7.safetensors").exists()
    assert cli.main(["analyse", "distances", str(run), "--kind", "theta", "--sample", "3"]) in (None, 0)
    told = capsys.readouterr().out
    assert [name in told for name in fit.names] == [name in fit.sample(3).names for name in fit.names]


def file_names(run):
    return TensorFile.open(run / "fit.safetensors").forms


def test_a_fit_of_some_models_is_their_part_of_the_map(tmp_path):
    fit, population = fitted(5)
    population.save(tmp_path / "population")
    names = [fit.names[3], fit.names[0]]
    some = fit.select(names)
    assert some.names == names
    assert torch.equal(some.theta, fit.theta[[3, 0]])
    assert list(some.metadata) == [fit.metadata[3], fit.metadata[0]]
    assert some.emulator.maps_of(0) is fit.emulator.maps_of(3)
    whole = fit.distances("states", reference=5).matrix
    part = some.distances("states").matrix
    assert part[0, 1] > 0
    assert np.isclose(fit.distances("theta").matrix[3, 0], some.distances("theta").matrix[0, 1])
    assert whole.shape == (5, 5)
    inputs = population.dataset(population[0]).test.inputs
    assert torch.equal(some.emulate(names[0], inputs).states[0], fit.emulate(names[0], inputs).states[0])
    assert some.open_population(tmp_path / "population").names == names
    assert fit.sample(9) is fit
    drawn = fit.sample(3)
    assert [name for name in fit.names if name in drawn.names] == drawn.names
    assert drawn.names == fit.sample(3).names != fit.sample(3, seed=1).names
    for wrong in ([], [names[0], names[0]], ["nobody"]):
        with pytest.raises(DynamoError, match=r"at least one of them, and each once|no base model is called"):
            fit.select(wrong)
    with pytest.raises(DynamoError, match="at least 1"):
        fit.sample(0)


def test_too_many_models_are_mapped_by_their_thetas(tmp_path, monkeypatch, capsys):
    fit, _ = fitted(6)
    by_theta = map_coordinates(fit, "theta").places
    monkeypatch.setattr(distances, "MOST", 5)
    monkeypatch.setattr(coordinates, "MOST", 5)
    monkeypatch.setattr(terminal, "SAMPLE", 4)
    for kind in ("theta", "combined"):
        with pytest.raises(DynamoError, match=r"6 models have 15 pairs.* up to 5 models: .*--sample 1000"):
            fit.distances(kind)
    with pytest.raises(DynamoError, match="6 models have 15 pairs"):
        map_coordinates(fit, "states")
    drawn = map_coordinates(fit)
    assert (drawn.kind, drawn.distances, drawn.floor) == ("theta", None, None)
    assert drawn.describe() == "distances by theta: the combined distance is computed of up to 5 models"
    np.testing.assert_allclose(np.abs(drawn.places.coordinates), np.abs(by_theta.coordinates[:, :4]), atol=1e-5)
    write_map(fit, tmp_path, None)
    assert (tmp_path / "map.png").exists()
    assert len((tmp_path / "embedding.csv").read_text().splitlines()) == 7
    fit = fit.select(fit.names)
    for number, table in enumerate(fit.metadata):
        table["group"] = "ab"[number % 2]
    terminal.summary(fit, None, tmp_path, "group")
    assert "(distances by theta, of 4 models drawn at random)" in " ".join(capsys.readouterr().out.split())
    assert len(fit.sample(5).distances()) == 5
