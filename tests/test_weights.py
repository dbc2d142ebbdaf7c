"""Base models of a saved population: opened without their weights, read when they are needed, and let go of."""

import io
import pickle
import resource
import tomllib
import weakref
from copy import copy
from functools import partial
from zipfile import ZipFile

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
from dynamo.system.storage import load_plain, read_tensors, tensors_to_bytes, write_toml
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


def test_a_network_of_many_parts_is_read_where_its_weights_are_as_many(monkeypatch, tmp_path):
    """As the emulator of a large population is."""
    state = Bare().state_dict()
    monkeypatch.setattr(weights, "MOST_PARTS", 5)
    with pytest.raises(DynamoError, match="more than 5 modules and parameters"):
        Form.of(Bare, "here")
    assert_equal(load_module(Bare, state, "here").state_dict(), state, rtol=0, atol=0)
    with pytest.raises(DynamoError, match="more than 16 modules and parameters"):
        load_module(lambda: nn.Sequential(*(nn.Linear(1, 1) for _ in range(10**9))), {"w": torch.zeros(1)}, "here")


# Files of weights as training tools leave them, and as somebody who means harm makes them


class Bare(nn.Module):
    """A module with a buffer of real and one of whole numbers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in Bare().state_dict().items()
    }


def read_back(tmp_path, content):
    """What is loaded of a file that torch has written."""
    torch.save(content, tmp_path / "w.pt")
    return load_module(Bare, read_tensors(tmp_path / "w.pt"), "here").state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {key.replace("layer.", "layer._orig_mod."): value for key, value in state.items()},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}, "args": None},
        lambda state: {"model_state_dict": state, "loss": torch.tensor(1.0)},
    ],
    ids=range(9),
)
def test_a_state_dict_is_found_as_training_tools_leave_it(tmp_path, state, wrap):
    assert_equal(read_back(tmp_path, wrap(state)), state, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {f"model.{key}": value for key, value in s.items()},
            r"begin with 'model\.'; save the state_dict\(\) of",
        ),
        (
            lambda s: {**s, "position_ids": torch.arange(3)},
            r"position_ids is not expected: take what is not expected out",
        ),
        (lambda s: {key: s[key] for key in s if "running" not in key}, r"running_mean is missing.*with its buffers"),
        (
            lambda s: {**s, "layer.bias": torch.zeros(3)},
            r"shape \(3,\) instead of \(2,\).*architecture and its options",
        ),
        (lambda s: {"a": s, "b": s}, r"holds no state dict: save the model's state_dict\(\) alone"),
        (lambda s: {"model": s, "state_dict": s}, r"holds several of them \(state_dict, model\)"),
        (lambda s: {}, "holds no state dict"),
        (lambda s: list(s.values()), "holds no state dict"),
        (lambda s: {**s, "\x1b[2J": torch.zeros(1)}, r"\\x1b\[2J is not expected"),
    ],
    ids=range(9),
)
def test_what_does_not_fit_is_named_with_what_to_do(tmp_path, state, change, message):
    with pytest.raises(DynamoError, match=message) as error:
        read_back(tmp_path, change(state))
    assert "\x1b" not in str(error.value)


def test_a_saved_population_may_name_its_tensors_as_data_parallel_does(folder):
    state = on_digits("a", 0).model.state_dict()
    path = folder / "weights" / "a.safetensors"
    save_file({f"module.{key}": tensor for key, tensor in state.items()}, path)
    rewrite(folder, lambda entry: entry.update(sha256=sha256(path.read_bytes())))
    assert Population.load(folder)[0].fingerprint == sha256(tensors_to_bytes(state))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_real_numbers_of_another_precision_are_converted(tmp_path, state, dtype):
    other = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    wanted = {key: value.to(state[key].dtype) for key, value in other.items()}
    assert_equal(read_back(tmp_path, other), wanted, rtol=0, atol=0)


def test_a_state_dict_that_was_made_half_precision_whole_keeps_its_counts(tmp_path, state):
    state["norm.num_batches_tracked"] += 7
    found = read_back(tmp_path, {key: value.half() for key, value in state.items()})
    assert found["norm.num_batches_tracked"].item() == 7
    assert found["norm.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "layer.weight",
            torch.ones(2, 3) * 1j,
            "complex64, the architecture float32: its imaginary part would be lost",
        ),
        (
            "layer.weight",
            torch.ones(2, 3, dtype=torch.int8),
            "int8, the architecture float32: whole numbers may be codes",
        ),
        ("layer.weight", torch.ones(2, 3, dtype=torch.bool), "bool, the architecture float32"),
        ("layer.weight", torch.full((2, 3), 1e300, dtype=torch.float64), "beyond the range"),
        ("norm.num_batches_tracked", torch.tensor(1.5), "float32, the architecture int64: its values are not whole"),
        ("norm.num_batches_tracked", torch.tensor(float("nan")), "its values are not whole"),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_numbers_that_would_be_lost_are_refused(tmp_path, state, key, value, message, suffix):
    path = tmp_path / f"w.{suffix}"
    (torch.save if suffix == "pt" else save_file)({**state, key: value}, path)
    with pytest.raises(DynamoError, match=rf"here: {key} has the type .*{message}"):
        load_module(Bare, read_tensors(path), "here")


def tensor_of_another_kind(kind):
    dense = torch.ones(2, 3)
    if kind == "nested":
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    makers = {
        "sparse": dense.to_sparse,
        "sparse_csr": dense.to_sparse_csr,
        "sparse_csc": dense.to_sparse_csc,
        "quantised": lambda: torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
        "meta": lambda: dense.to("meta"),
        "stride 0": lambda: torch.zeros(1).expand(2, 3),
        "overlapping": lambda: torch.zeros(4).unfold(0, 3, 1),
    }
    return makers[kind]()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sparse", r"in the layout sparse_coo: save it as tensor\.to_dense\(\)"),
        ("sparse_csr", r"in the layout sparse_csr"),
        ("sparse_csc", r"in the layout sparse_csc"),
        ("quantised", r"a quantised tensor: save it as tensor\.dequantize\(\)"),
        ("nested", "a nested tensor|asks for more than tensors"),
        ("meta", "without values, on the device 'meta'"),
        ("stride 0", r"of shape \(2, 3\) whose numbers lie one over the other: save it as tensor\.clone\(\)"),
        ("overlapping", "lie one over the other"),
    ],
)
@pytest.mark.parametrize("place", ["weights", "checkpoint"])
def test_tensors_that_are_no_arrays_are_refused(tmp_path, state, kind, message, place):
    found = {**state, "layer.weight": tensor_of_another_kind(kind)}
    buffer = io.BytesIO()
    torch.save(found if place == "weights" else {"deep": [{"in": (found,)}]}, buffer)
    with pytest.raises(ValueError, match=message):
        load_plain(buffer.getvalue())
    (tmp_path / "w.pt").write_bytes(buffer.getvalue())
    with pytest.raises(DynamoError, match=rf"w\.pt holds no readable tensors: .*({message})"):
        read_tensors(tmp_path / "w.pt")


def test_a_small_file_takes_little_memory(tmp_path):
    """Tensors of stride 0, and many that share one memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large = torch.zeros(2**18)
    for content in ({"w": torch.zeros(1).expand(2**31)}, {str(n): large for n in range(2000)}):
        torch.save(content, tmp_path / "w.pt")
        assert (tmp_path / "w.pt").stat().st_size < 2e6
        with pytest.raises(DynamoError, match=r"one over the other|share their memory"):
            read_tensors(tmp_path / "w.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3e5


def test_layers_that_share_their_weights_are_read(tmp_path):
    shared = torch.randn(100, 100)
    torch.save({f"{n}.weight": shared for n in range(24)}, tmp_path / "w.pt")
    assert len(read_tensors(tmp_path / "w.pt")) == 24


def test_parts_of_a_file_that_lie_one_over_the_other_are_refused(tmp_path):
    """A zip file whose directory names one part many times."""
    torch.save({"w": torch.zeros(10**5)}, tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    with ZipFile(io.BytesIO(content)) as file:
        data = next(part for part in file.infolist() if part.filename.endswith("data/0"))
    buffer = io.BytesIO(content)
    with ZipFile(buffer, "a") as file:
        for number in range(1, 50):
            copied = copy(data)
            copied.filename = data.filename[:-1] + str(number)
            file.filelist.append(copied)
        file._didModify = True
    with pytest.raises(ValueError, match="its parts lie one over the other"):
        load_plain(buffer.getvalue())


def test_older_and_other_forms_of_pt_are_named_with_what_to_do(tmp_path, state):
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(DynamoError, match=r"before version 1\.6: load it with torch\.load.* save it again"):
        read_tensors(tmp_path / "old.pt")
    torch.save(torch.load(tmp_path / "old.pt", weights_only=True), tmp_path / "new.pt")
    assert_equal(read_tensors(tmp_path / "new.pt"), state, rtol=0, atol=0)
    torch.save(Bare(), tmp_path / "whole.pt")
    with pytest.raises(DynamoError, match=r"a whole model and no state_dict\(\)"):
        read_tensors(tmp_path / "whole.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_of_torchscript_is_named(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(DynamoError, match=r"a TorchScript program: save the model's state_dict\(\)"):
        read_tensors(tmp_path / "w.pt")
