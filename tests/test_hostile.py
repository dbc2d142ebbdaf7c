"""Populations, runs and checkpoints made by somebody who means harm: refused, and nothing of theirs is run."""

import copy
import io
import json
import os
import pickle
import resource
import sys
import tomllib
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamo import DynamoError, Fit, InputSpace, OutputSpace, Population, Trainer
from dynamo.cli import main
from dynamo.contracts.files import sha256
from dynamo.fit.run_folder import add_file
from dynamo.population.weights import _Unvalued
from dynamo.registry import registry
from dynamo.system.storage import read_tensors, read_toml, write_toml
from dynamo.training.checkpoint import read_checkpoint
from problems import fitted
from test_population import on_digits
from test_trainer import SMALL, population

MANIFEST, RUN = "population.toml", "run.toml"

#: The tables of a sound population and of a sound run.
SOUND = {}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A population and a run."""
    root = tmp_path_factory.mktemp("hostile")
    Population([on_digits("a", 0, fraction=0.25), on_digits("b", 1)]).save(root / "population")
    fit, _ = fitted()
    fit.save(root / "run")
    for name, path in (("population", root / "population" / MANIFEST), ("run", root / "run" / RUN)):
        SOUND[name] = without_digest(tomllib.loads(path.read_text()))
    return root


@pytest.fixture
def folder(made):
    """The population's folder; its manifest is mended afterwards."""
    yield made / "population"
    write_toml(made / "population" / MANIFEST, SOUND["population"])


@pytest.fixture
def run(made):
    """The run's folder, likewise."""
    yield made / "run"
    write_toml(made / "run" / RUN, SOUND["run"])


def without_digest(table):
    return {key: value for key, value in table.items() if key != "digest"}


def attack(path, change):
    """Change a table and sign it anew, as anybody can."""
    table = tomllib.loads(path.read_text())
    change(table)
    write_toml(path, without_digest(table))


# Code in files of weights


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (exec, (f"open({self.path!r}, 'w')",))


def bombs(path):
    """Pickles that make a file, in the forms that torch reads."""
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.zeros(2), "x": Bomb(path)}, zipped)
    torch.save({"w": torch.zeros(2), "x": Bomb(path)}, legacy, _use_new_zipfile_serialization=False)
    return [pickle.dumps(Bomb(path)), zipped.getvalue(), legacy.getvalue()]


@pytest.mark.parametrize("form", range(3))
def test_code_in_weights_or_in_a_checkpoint_is_not_run(folder, tmp_path, form):
    content = bombs(tmp_path / "executed")[form]
    if form == 1:
        torch.load(io.BytesIO(content), weights_only=False)  # the bomb works
        (tmp_path / "executed").unlink()
    for name in ("weights/bomb.pt", "weights/bomb.safetensors"):
        (folder / name).write_bytes(content)
        attack(
            folder / MANIFEST, lambda table, name=name: table["models"][0].update(weights=name, sha256=sha256(content))
        )
        with pytest.raises(DynamoError, match="holds no readable tensors"):
            Population.load(folder)
    (tmp_path / "checkpoint.pt").write_bytes(sha256(content).encode() + content)
    with pytest.raises(DynamoError, match="is no checkpoint"):
        Trainer(population(), SMALL).resume(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_that_is_signed_but_nonsense_is_refused(tmp_path):
    trainer = Trainer(population(), SMALL)
    path = tmp_path / "checkpoint.pt"
    trainer.save(path)
    sound = {"format": 1, **read_checkpoint(path)}
    nonsense = sha256(b"nonsense")
    path.with_name(f"{path.name}-{nonsense}").write_bytes(b"nonsense")
    changes = [
        {"step": 3},
        {"step": -1},
        {"step": "0"},
        {"history": torch.zeros(7)},
        {"rng": torch.zeros(3)},
        {"rng": torch.zeros(5056, dtype=torch.uint8)},
        {"emulator": {}},
        {"emulator": {**sound["emulator"], "thetas.0": torch.zeros(10**6)}},
        {"emulator": {**sound["emulator"], "thetas.0": "text"}},
        {"optimizer": {}},
        {"optimizer": {**sound["optimizer"], "param_groups": []}},
        {"optimizer": {**sound["optimizer"], "state": {0: {"exp_avg": torch.zeros(3, 3, 3)}}}},
        {"format": 3},
        {"format": 2, "shares": []},
        {"format": 2, "shares": {"../../x": [0]}},
        {"format": 2, "shares": {3: [0]}},
        {"format": 2, "shares": {nonsense: 3}},
        {"format": 2, "shares": {nonsense: ["0"]}},
        {"format": 2, "shares": {nonsense: [0]}},
        {"format": 2, "shares": {"0" * 64: [0]}},
        {"options": {}},
    ]
    for change in changes:
        buffer = io.BytesIO()
        torch.save({**sound, **change}, buffer)
        path.write_bytes(sha256(buffer.getvalue()).encode() + buffer.getvalue())
        with pytest.raises(DynamoError):
            Trainer(population(), SMALL).resume(path)
    for whole in ([], 3, "text", None):
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        path.write_bytes(sha256(buffer.getvalue()).encode() + buffer.getvalue())
        with pytest.raises(DynamoError, match="is no checkpoint"):
            read_checkpoint(path)


def test_only_installed_components_can_be_named(folder, run):
    """No name imports a module."""
    for name in ("dynamo_rnn.models.GRU", "this", "os.system", "builtins:eval", "../gru", "__import__('this')", ""):
        attack(folder / MANIFEST, lambda table, name=name: table["models"][0]["architecture"].update(name=name))
        with pytest.raises(DynamoError, match="no architecture is called"):
            Population.load(folder)
        attack(run / RUN, lambda table, name=name: table["emulator"]["meta_model"].update(name=name))
        with pytest.raises(DynamoError, match="no meta-model is called"):
            Fit.load(run)
    assert "this" not in sys.modules


# Places


@pytest.mark.parametrize(
    "place", ["../b.safetensors", "/etc/passwd", "weights/../../x", "weights/link", "weights/loop"]
)
def test_weights_lie_inside_the_folder(folder, tmp_path, place):
    (tmp_path / "secret").write_text("secret")
    for name, target in (("link", tmp_path / "secret"), ("loop", folder / "weights" / "loop")):
        if not (folder / "weights" / name).is_symlink():
            (folder / "weights" / name).symlink_to(target)
    attack(folder / MANIFEST, lambda table: table["models"][0].update(weights=place))
    with pytest.raises(DynamoError, match=r"must lie inside|cannot read") as error:
        Population.load(folder)
    assert "secret" not in str(error.value)


def test_a_link_inside_the_folder_is_followed(folder):
    (folder / "weights" / "inner.safetensors").symlink_to("a.safetensors")
    attack(folder / MANIFEST, lambda table: table["models"][0].update(weights="weights/inner.safetensors"))
    assert [base.name for base in Population.load(folder)] == ["a", "b"]


def test_pipes_devices_and_folders_are_no_files(folder, tmp_path):
    os.mkfifo(folder / "weights" / "pipe")
    for place in ("weights/pipe", "weights", "."):
        attack(folder / MANIFEST, lambda table, place=place: table["models"][0].update(weights=place))
        with pytest.raises(DynamoError, match="is no regular file"):
            Population.load(folder)
    (tmp_path / MANIFEST).symlink_to("/dev/zero")
    with pytest.raises(DynamoError, match="is a link that leaves its folder"):
        Population.load(tmp_path)


# Sizes


def peak():
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


@pytest.mark.parametrize("size", [2000, 10**5, 10**9, 2**63, 10**30])
def test_absurd_sizes_are_refused_before_room_is_made(folder, run, size):
    before = peak()
    changes = [
        lambda table: table["models"][0]["architecture"].update(hidden_size=size),
        lambda table: table["models"][0]["inputs"].update(shape=[size]),
        lambda table: table["models"][0]["inputs"].update(kind="image", shape=[3, size, size]),
        lambda table: table["models"][0]["outputs"].update(size=size),
        lambda table: table["models"][0].update(
            architecture={"name": "cifar-resnet", "width": size}, inputs={"kind": "image", "shape": [3, 8, 8]}
        ),
        lambda table: table["models"][0].update(
            architecture={"name": "cifar-resnet", "depth": 6 * size + 2}, inputs={"kind": "image", "shape": [3, 8, 8]}
        ),
    ]
    for change in changes:
        attack(folder / MANIFEST, change)
        with pytest.raises(DynamoError):
            Population.load(folder)
        write_toml(folder / MANIFEST, SOUND["population"])
    changes = [
        lambda table: table["emulator"].update(theta_dim=size),
        lambda table: table["emulator"]["meta_model"].update(hidden_size=size),
        lambda table: table["emulator"]["subjects"][0].update(state_shapes=[[size]]),
        lambda table: table["emulator"]["heads"][0]["outputs"].update(size=size),
        lambda table: table["emulator"].update(head={"name": "mlp", "hidden_size": size}),
        lambda table: table["emulator"].update(state_map={"name": "mlp", "depth": size}),
    ]
    for change in changes:
        attack(run / RUN, change)
        with pytest.raises(DynamoError):
            Fit.load(run)
        write_toml(run / RUN, SOUND["run"])
    assert peak() - before < 200


def test_all_built_in_modules_show_their_sizes_without_memory():
    """So none is built before its weights are known to fit it."""
    spaces = [InputSpace("tokens", (20,)), InputSpace("real", (5,)), InputSpace("image", (3, 32, 32))]
    outputs, shapes = OutputSpace("classes", 4), [((6,), (6,)), ((6, 8, 8), (6, 8, 8)), ((6, 8, 8), (5, 6))]
    arguments = {
        "architecture": [(space, outputs) for space in spaces],
        "meta-model": [(space, 4) for space in spaces],
        "state-map": shapes,
        "head": [(6, outputs)],
    }
    for component in (owned.component for owned in registry().owned() if owned.component.kind in arguments):
        built = 0
        for own in arguments[component.kind]:
            with suppress(DynamoError):
                state = component.make({}, *own).state_dict()
                with torch.device("meta"), _Unvalued():
                    sizes = component.make({}, *own).state_dict()
                assert all(tensor.is_meta for tensor in sizes.values()), component
                assert {key: tensor.shape for key, tensor in sizes.items()} == {
                    key: tensor.shape for key, tensor in state.items()
                }
                built += 1
        assert built, component


def test_a_header_that_claims_petabytes_is_refused(tmp_path):
    before = peak()
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**15 // 4], "data_offsets": [0, 10**15]}}).encode()
    for claimed in (len(header), 2**62, 10**9):
        (tmp_path / "w.safetensors").write_bytes(claimed.to_bytes(8, "little") + header + bytes(64))
        with pytest.raises(DynamoError, match="no readable tensors"):
            read_tensors(tmp_path / "w.safetensors")
    assert peak() - before < 200


# Tables


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 50_000,
        "x = " + "{a=" * 50_000,
        "x = " + "[" * 50_000 + "]" * 50_000,
        "a." * 50_000 + "b = 1",
        "x = " + "9" * 10_000,
        "format = 1\nx = 1e999999",
        "x = 0x" + "f" * 100_000,
        "\x00",
        "\ufeffformat = 1",
        "format = 1\nmodels = 1979-05-27",
        "format = nan",
        "format = true",
    ],
    ids=range(12),
)
def test_strange_tables_are_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DynamoError):
        Population.load(tmp_path)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 10**30, "\x1b[2J", "a\nb", "\u202ereversed", "\x9b31m", [1], {"a": 1}],
    ids=repr,
)
def test_labels_are_plain(folder, run, value):
    attack(folder / MANIFEST, lambda table: table["models"][0].update(metadata={"fraction": value}))
    with pytest.raises(DynamoError, match=r"label|control characters"):
        Population.load(folder)
    attack(run / RUN, lambda table: table["metadata"][0].update(number=value))
    with pytest.raises(DynamoError, match=r"label|control characters"):
        Fit.load(run)
    with pytest.raises(DynamoError, match="give a text"):
        Population([on_digits("a", 0, x=value)])


@pytest.mark.parametrize("where", ["key", "name", "spec", "group", "path"])
def test_escape_sequences_do_not_reach_the_terminal(folder, run, tmp_path, capsys, where):
    """\\x1b[2J clears a screen, and others can retype what stands there."""
    bad = "\x1b[2J"
    changes = {
        "key": lambda table: table.update({bad: 1}),
        "name": lambda table: table["models"][0].update(name=bad),
        "spec": lambda table: table["models"][0]["architecture"].update(name=bad),
        "group": lambda table: table["models"][0]["outputs"].update(group=bad),
        "path": lambda table: None,
    }
    attack(folder / MANIFEST, changes[where])
    target = tmp_path / bad if where == "path" else folder
    with pytest.raises(SystemExit) as stop:
        main(["fit", str(target), "-o", str(tmp_path / "run")])
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert "\x1b" not in told.err + told.out
    assert "x1b[2J" in told.err
    assert len(told.err.splitlines()) == 1


def test_names_are_no_markup(run, capsys):
    """Rich takes [/] for the end of a colour, and raises where none has begun."""
    columns = "name,hidden_r2,output_divergence,agreement,base_score,emulator_score"
    (run / "fidelity.csv").write_text(f"{columns}\n[/]m0,0.5,0,0,0,0\n(mean),0.5,0,0,0,0\n")
    add_file(run, "fidelity.csv")
    main(["show", str(run)])
    assert "[/]m0" in capsys.readouterr().out
    (run / "fidelity.csv").write_text(f"{columns}\n\x1b[2Jm0,0.5,0,0,0,0\n(mean),0.5,0,0,0,0\n")
    add_file(run, "fidelity.csv")
    with pytest.raises(SystemExit):
        main(["show", str(run)])
    assert "\x1b" not in capsys.readouterr().err


def test_an_unknown_key_is_named(folder):
    attack(folder / MANIFEST, lambda table: table.update(model=[]))
    with pytest.raises(DynamoError, match="has the unknown key 'model': did you mean 'models'"):
        Population.load(folder)


def test_an_empty_run_table_is_refused(run):
    for change in (
        lambda table: table["emulator"].update(subjects=[]),
        lambda table: table["emulator"]["subjects"][0].update(head=-1),
        lambda table: table["emulator"]["subjects"][0].update(head=True),
        lambda table: table["emulator"]["subjects"][1].update(name=table["emulator"]["subjects"][0]["name"]),
        lambda table: table.update(metadata=[]),
        lambda table: table.update(options=3),
        lambda table: table.update(seconds="long"),
    ):
        attack(run / RUN, change)
        with pytest.raises(DynamoError):
            Fit.load(run)
        write_toml(run / RUN, SOUND["run"])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["none", "gru", "last", "image", "tokens", "weights/b.safetensors", "weights", "a"])
    | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(table, prefix=()):
    """The ways to all values of a table."""
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in items:
        yield (*prefix, key)
        yield from places(value, (*prefix, key))


@st.composite
def changed(draw, name):
    """A sound table with one to three values replaced, taken away, or put beside."""
    table = copy.deepcopy(SOUND[name])
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(sorted(places(table), key=repr)))
        inner = table
        for key in way:
            inner = inner[key]
        kind = draw(st.sampled_from(["replace", "replace", "delete", "add"]))
        if kind == "replace":
            inner[last] = draw(VALUES)
        elif kind == "delete":
            del inner[last]
        elif isinstance(inner, dict):
            inner[draw(st.text(max_size=5))] = draw(VALUES)
    return table


def try_to_read(path, table, read):
    try:
        write_toml(path, table)
    except (TypeError, ValueError, AttributeError, OverflowError, UnicodeEncodeError):
        return  # no TOML
    with suppress(DynamoError):
        read(path.parent)


FUZZ = settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@FUZZ
@given(data=st.data())
def test_any_manifest_is_read_or_refused(folder, data):
    try_to_read(folder / MANIFEST, data.draw(changed("population")), Population.load)


@FUZZ
@given(data=st.data())
def test_any_run_is_read_or_refused(run, data):
    try_to_read(run / RUN, data.draw(changed("run")), Fit.load)


@settings(FUZZ, max_examples=200)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_read_or_refused(tmp_path, content):
    for name in ("a.toml", "a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with suppress(DynamoError):
            if name == "a.toml":
                read_toml(tmp_path / name, what="table", format_version=1, known=())
            else:
                read_tensors(tmp_path / name)
