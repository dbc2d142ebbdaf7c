"""Base models of a saved population: opened without their weights, read when they are needed, and let go of."""

import pickle
import resource
import tomllib
import weakref
from functools import partial

import attrs
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dynamo import DynamoError, FitOptions, Population, Trainer
from dynamo.contracts.files import sha256
from dynamo.fit.distributed import fit
from dynamo.fit.ranks import Ranks
from dynamo.population import weights
from dynamo.population.base_model import BaseModel
from dynamo.population.recording import record
from dynamo.population.weights import Form, load_module
from dynamo.system.storage import tensors_to_bytes, write_toml
from test_distributed import Threads, assert_equal
from test_population import on_digits

SMALL = FitOptions(
    meta_model="gru:hidden_size=6,embedding_size=3", theta_dim=3, models_per_step=2, batch_size=16, steps=4
)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "population"
    Population([on_digits(name, seed) for seed, name in enumerate("abcd")]).save(path)
    return path


@pytest.fixture
def alive(monkeypatch):
    """The models that were read and are still held by somebody."""
    found, check = weakref.WeakSet(), weights.check_finite

    def watch(model, name):
        found.add(model)
        check(model, name)

    monkeypatch.setattr(weights, "check_finite", watch)
    return found


def damage(folder, *names):
    """Spoil the values, which the header does not show."""
    for name in names:
        path = folder / "weights" / f"{name}.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)


def in_memory(population):
    """The same population with all models read."""
    return Population([attrs.evolve(base, model=base.model) for base in population])


def rewrite(folder, change):
    path = folder / "population.toml"
    table = tomllib.loads(path.read_text())
    change(table["models"][0])
    write_toml(path, {key: value for key, value in table.items() if key != "digest"})


def test_opening_reads_no_weights_and_reading_tells_damage(folder):
    sound = Population.load(folder).fingerprint
    damage(folder, *"abcd")
    opened = Population.load(folder)
    assert opened.fingerprint == opened.select([True] * 4).fingerprint == sound
    assert opened[0].state_shapes == ((4,),)
    with pytest.raises(DynamoError, match=r"/weights/c\.safetensors is not the file that was saved") as error:
        _ = opened[2].model
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("recording", ["memory", "live"])
def test_a_process_reads_its_own_models_alone(folder, recording):
    damage(folder, "a", "c")
    ranks = [
        Trainer(Population.load(folder), attrs.evolve(SMALL, recording=recording), processes=group)
        for group in Threads.of(2)
    ]
    assert [type(source).__name__ for source in ranks[1].recordings][::2] == ["Elsewhere"] * 2
    with pytest.raises(DynamoError, match=r"a\.safetensors is not the file that was saved"):
        ranks[0].record()


@pytest.mark.parametrize("kind", ["memory", "disk", "live"])
def test_models_are_held_for_as_long_as_they_are_needed(folder, tmp_path, alive, kind):
    trainer = Trainer(Population.load(folder), attrs.evolve(SMALL, recording=kind))
    assert not alive
    most = []
    trainer.record(tmp_path / "recording", lambda done, total: most.append(len(alive)))
    assert most == ([] if kind == "live" else [0] * 4)
    assert len(alive) == (4 if kind == "live" else 0)


@pytest.mark.parametrize("recording", ["memory", "live"])
def test_a_fit_to_models_on_disk_is_that_to_models_in_memory(folder, recording):
    opened = Population.load(folder)
    states, options = [], attrs.evolve(SMALL, recording=recording)
    for population in (opened, in_memory(opened)):
        trainer = Trainer(population, options)
        trainer.run()
        states.append(trainer.emulator.state_dict())
    assert_equal(*states, rtol=0, atol=0)


def test_two_processes_fit_a_population_on_disk_as_one_does_and_tell_damage(folder, tmp_path):
    opened = Population.load(folder)
    one = Trainer(opened, SMALL)
    one.run()
    found = fit(opened, SMALL, Ranks(2))
    assert_equal(found.emulator.state_dict(), one.emulator.state_dict(), rtol=1e-4, atol=1e-6)
    damage(folder, "d")
    with pytest.raises(DynamoError, match=r"d\.safetensors is not the file that was saved"):
        fit(opened, SMALL, Ranks(2))


def test_a_model_is_one_object_while_it_is_held_and_draws_no_random_numbers(folder, alive):
    base, before = Population.load(folder)[0], torch.get_rng_state()
    model = base.model
    assert base.model is model
    assert torch.equal(torch.get_rng_state(), before)
    del model
    assert not alive
    assert_equal(base.model.state_dict(), on_digits("a", 0).model.state_dict(), rtol=0, atol=0)


def test_an_opened_population_is_small_when_it_is_given_to_another_process(folder):
    population = Population.load(folder)
    values = population[0].model.readout_layer.weight.numpy().tobytes()
    held = [base.model for base in population]
    assert values in pickle.dumps(held)
    one, four = (pickle.dumps(population.select([n < count for n in range(4)])) for count in (1, 4))
    assert values not in four
    assert (len(four) - len(one)) / 3 < 800
    assert pickle.loads(pickle.dumps(population)).fingerprint == population.fingerprint


def test_a_population_that_was_opened_by_a_relative_path_is_read_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    population = Population.load(folder.name)
    monkeypatch.chdir(folder)
    assert len(record(population)) == 4


def test_values_that_are_not_finite_are_told_when_they_are_read(folder):
    state = dict(on_digits("a", 0).model.state_dict())
    state["readout_layer.bias"] = torch.full_like(state["readout_layer.bias"], float("nan"))
    content = tensors_to_bytes(state)
    (folder / "weights" / "a.safetensors").write_bytes(content)
    rewrite(folder, lambda entry: entry.update(sha256=sha256(content)))
    population = Population.load(folder)
    with pytest.raises(DynamoError, match=r"'a' has NaN or infinite values in 'readout_layer\.bias'"):
        record(population)


@pytest.mark.parametrize("form", ["plain", "float64", "metadata", "torch"])
@pytest.mark.parametrize("signed", [True, False])
def test_the_fingerprint_is_that_of_the_weights_whatever_the_file(folder, form, signed):
    """Also where the file's own checksum is another; a file that this package did not sign is read when it is opened,
    and must not change from then on.
    """
    state = on_digits("a", 0).model.state_dict()
    path = folder / "weights" / ("own.pt" if form == "torch" else "own.safetensors")
    if form == "torch":
        torch.save(state, path)
    else:
        stored = {key: tensor.double() if form == "float64" else tensor for key, tensor in state.items()}
        save_file(stored, path, {"format": "pt"} if form == "metadata" else None)
    digest = sha256(path.read_bytes())
    rewrite(folder, lambda entry: entry.update(weights=f"weights/{path.name}", sha256=digest))
    if not signed:
        rewrite(folder, lambda entry: entry.pop("sha256"))
    opened = Population.load(folder)
    assert opened[0].fingerprint == sha256(tensors_to_bytes(state))
    assert (opened[0].fingerprint == digest) == (form == "plain")
    assert opened.fingerprint == in_memory(opened).fingerprint
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DynamoError, match="is not the file that was saved"):
        _ = opened[0].model


class Choosy(nn.Module):
    """A module that looks at values while it is built, as none without memory can."""

    def __init__(self):
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = "inputs", "outputs", ((3,),)
        self.weight = nn.Parameter(torch.zeros(3))
        if self.weight.sum() != 0:
            raise ValueError


def test_a_module_that_looks_at_values_is_refused_and_not_built_for_real():
    """Whatever keeps it from being built without memory: absurd sizes do too."""
    built = []

    def build():
        if torch.empty(0).is_meta:
            return Choosy()
        return built.append("for real")

    for fault in (partial(Form.of, build), partial(load_module, build, {})):
        with pytest.raises(DynamoError, match=r"here cannot be built without memory.*must not look at the values"):
            fault(where="here")
    assert not built


def test_sizes_that_torch_itself_refuses_take_no_room(folder):
    rewrite(folder, lambda entry: entry["architecture"].update(hidden_size=2**31))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DynamoError):
        Population.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2e5


def test_modules_without_end_are_refused():
    def build():
        return nn.Sequential(*(nn.Linear(1, 1) for _ in range(10**9)))

    with pytest.raises(DynamoError, match=r"here: it has more than 65,536 modules and parameters"):
        Form.of(build, "here")


def test_a_population_on_disk_can_be_saved_elsewhere(folder, tmp_path, alive):
    Population.load(folder).save(tmp_path / "copy")
    assert not alive
    one, other = (Population.load(place) for place in (folder, tmp_path / "copy"))
    assert one.fingerprint == other.fingerprint


def test_a_changed_model_takes_the_place_of_one_on_disk(folder):
    base = Population.load(folder)[0]
    changed = base.model
    changed.readout_layer.bias.data += 1
    mine = attrs.evolve(base, model=changed)
    assert isinstance(mine, BaseModel)
    assert mine.model is changed
    assert mine.fingerprint != base.fingerprint
