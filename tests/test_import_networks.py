"""``dynamo import FOLDER``: populations from files of weights that were made elsewhere."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from command_line import dynamo
from dynamo import DynamoError, Population, import_networks
from dynamo.contracts.files import read_bytes
from dynamo.population.base_model import weights_of
from dynamo.population.doors import networks as door
from test_hostile import bombs

#: A file of the user's own, with a class whose sizes are arguments.
CLASS = """
from torch import nn
from beside import OUTPUTS

class Reader(nn.Module):
    def __init__(self, units=6, layers=1):
        super().__init__()
        self.rnn = nn.GRU(3, units, layers, batch_first=True)
        self.head = nn.Linear(units, OUTPUTS)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])
"""


class Reader(nn.Module):
    """What CLASS holds."""

    def __init__(self, units=6, layers=1, kind=nn.GRU, both=False, outputs=2):
        super().__init__()
        self.rnn = kind(3, units, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(units * (1 + both), outputs)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with probes, three state dicts in ``nets``, and the class of these in ``own.py``."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    np.savez("probes.npz", inputs=np.random.default_rng(0).normal(size=(30, 5, 3)).astype("f"))
    Path("nets").mkdir()
    for name in ("a-2", "a-10", "b"):
        torch.save(Reader().state_dict(), f"nets/{name}.pt")
    Path("own.py").write_text(CLASS)
    Path("beside.py").write_text("OUTPUTS = 2\n")
    return tmp_path


def module(units=6, **options):
    return {"module": "own.py:Reader", "module_options": {"units": str(units)}, **options}


def probes():
    return torch.from_numpy(np.load("probes.npz")["inputs"])


def answers(base, inputs):
    """What a model of an import did on these inputs, by the inputs."""
    data = Population([base]).dataset(base)
    found = {}
    for part, run in ((data.probes(), base.trajectories.probe), (data.test.inputs, base.trajectories.held_out)):
        found |= {row.numpy().tobytes(): (run.states[0][n], run.outputs[n]) for n, row in enumerate(part.values)}
    states, outputs = zip(*(found[row.numpy().tobytes()] for row in inputs), strict=True)
    return torch.stack(states), torch.stack(outputs)


# What is recorded is what the networks do ----------------------------------------------------------------------------


def test_networks_of_ones_own_class_are_recorded_as_they_are(here):
    found = import_networks("nets", "made", "probes.npz", **module(), outputs="classes")
    assert found.left_out == {}
    assert found.population.names == ["a-2", "a-10", "b"]  # as people count
    for base in found.population:
        network = Reader()
        network.load_state_dict(torch.load(f"nets/{base.name}.pt"))
        with torch.no_grad():
            states, _ = network.rnn(probes())
            wanted = network.head(states)
        mine = answers(base, probes())
        torch.testing.assert_close(mine[0], states)
        torch.testing.assert_close(mine[1], wanted)
        assert (base.outputs.kind, base.outputs.size, base.outputs.readout) == ("classes", 2, "last")


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (1, True), (3, True)])
def test_recurrent_networks_are_told_by_the_names_of_their_parameters(here, kind, layers, both):
    network = Reader(5, layers, kind, both, outputs=4)
    shutil.rmtree("nets")
    Path("nets").mkdir()
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, "nets/one.pth")
    for readout in ("last", "every"):
        base = import_networks("nets", readout, "probes.npz", readout=readout).population[0]
        states, outputs = answers(base, probes())
        with torch.no_grad():
            output, last = network.rnn(probes())
            last = last[0] if isinstance(last, tuple) else last
            ends = torch.cat(list(last[-2:] if both else last[-1:]), dim=-1)
            wanted = network.head(ends) if readout == "last" else network.head(output)
        torch.testing.assert_close(outputs[:, -1] if readout == "last" else outputs, wanted)
        assert base.outputs.readout == readout
        per_unit = 2 if kind is nn.LSTM else 1
        assert states.shape == (30, 5, 5 * layers * (1 + both) * per_unit)
        assert not base.is_stored or base.is_recording


def test_an_embedding_and_padding_are_told_too(here):
    torch.manual_seed(1)
    network = nn.ModuleDict({"words": nn.Embedding(11, 4), "lstm": nn.LSTM(4, 4, batch_first=True)})
    torch.save(network.state_dict(), "tokens.pt")
    ids, lengths = np.random.default_rng(0).integers(11, size=(20, 6)), np.arange(20) % 5 + 2
    mask = np.arange(6) < lengths[:, None]
    np.savez("ids.npz", input_ids=ids, attention_mask=mask)
    base = import_networks("tokens.pt", "made", "ids.npz", readout="every").population[0]
    assert base.inputs.kind == "tokens"
    assert base.inputs.size == 11
    data = Population.load("made").dataset(base)
    run = base.trajectories.probe
    for row, (values, own) in enumerate(zip(data.probes().values, data.probes().mask, strict=True)):
        with torch.no_grad():
            hidden = network["lstm"](network["words"](values[own][None]))[0][0]
        torch.testing.assert_close(run.outputs[row][own], hidden)


def test_a_registered_architecture_makes_a_population_that_runs(here):
    from dynamo import InputSpace, OutputSpace
    from dynamo.contracts.protocols import DynamicalModel
    from dynamo.registry import make

    shutil.rmtree("nets")
    Path("nets/run").mkdir(parents=True)
    spaces = InputSpace("real", (3,)), OutputSpace("classes", 2)
    networks = [make("architecture", "gru:hidden_size=6", DynamicalModel, *spaces) for _ in range(2)]
    for number, network in enumerate(networks):
        torch.save({"model_state_dict": network.state_dict(), "epoch": 7, "optimizer": {}}, f"nets/run/{number}.pt")
    options = {"architecture": "gru:hidden_size=6", "outputs": "classes:2"}
    population = import_networks("nets", "made", "probes.npz", **options).population
    for base, network in zip(population, networks, strict=True):
        base.check_runs()
        assert all(torch.equal(base.model.state_dict()[key], value) for key, value in network.state_dict().items())
        assert base.metadata == {"epoch": 7}
    with pytest.raises(DynamoError, match=r"what its outputs are: give a registered data set .* or --outputs classes"):
        import_networks("nets", "other", "probes.npz", architecture="gru:hidden_size=6")
    assert not Path("other").exists()


def test_a_registered_data_set_says_what_the_outputs_are(here):
    from dynamo import train_population

    trained = train_population("trained", ["gru:hidden_size=4"], "digits-rows", seeds=[0, 1])
    Path("plain").mkdir()
    for base in trained:
        torch.save(base.model.state_dict(), f"plain/{base.name}.pt")
    again = import_networks("plain", "made", "digits-rows", architecture="gru:hidden_size=4").population
    assert again.fingerprint == trained.fingerprint
    assert [base.outputs for base in again] == [base.outputs for base in trained]


def test_a_data_set_of_arrays_may_lie_in_another_folder(here):
    Path("data").mkdir()
    x, y = probes().numpy(), np.arange(30) % 2
    np.savez("data/a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    found = import_networks("nets", "made", "arrays:path=data/a.npz", **module())
    assert found.left_out == {}
    assert len(found.population.dataset(found.population[0]).test) == 30
    torch.save(Reader().state_dict(), "nets/c.pt")
    np.savez("data/b.npz", x_train=x + 1, y_train=y, x_test=x, y_test=y)
    with pytest.raises(DynamoError, match="made holds a population with other inputs or data"):
        import_networks("nets", "made", "arrays:path=data/b.npz", **module())


def test_labels_in_the_file_of_probes_become_a_task(here):
    labels = np.arange(30) % 2
    np.savez("labelled.npz", inputs=probes().numpy(), labels=labels)
    population = import_networks("nets", "made", "labelled.npz", **module()).population
    data = population.dataset(population[0])
    assert data.outputs == population[0].outputs
    assert (data.task.kind, data.task.size) == ("classes", 2)
    assert sorted(data.train.labels.tolist() + data.test.labels.tolist()) == sorted(labels.tolist())


# Names in files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.model."])
def test_prefixes_of_training_tools_are_taken_off(here, prefix):
    from safetensors.torch import save_file

    plain = import_networks("nets", "plain", "probes.npz", **module()).population
    Path("other").mkdir()
    for base in plain:
        state = {f"{prefix}{key}": value for key, value in torch.load(f"nets/{base.name}.pt").items()}
        save_file(state, f"other/{base.name}.safetensors")
    assert import_networks("other", "made", "probes.npz", **module()).population.fingerprint == plain.fingerprint


def test_a_part_under_a_prefix_is_found_among_others(here):
    state = torch.load("nets/b.pt")
    whole = {f"model.{key}": value for key, value in state.items()} | {"loss.weight": torch.ones(2)}
    torch.save(whole, "nets/b.pt")
    found = import_networks("nets", "made", "probes.npz", **module())
    assert found.left_out == {}
    assert all(torch.equal(stored(found.population["b"])[key], value) for key, value in state.items())


def stored(base):
    from safetensors.torch import load

    return load(base.recorded.weights_content())


def test_a_weight_that_several_names_share_may_be_there_once(here):
    Path("tied.py").write_text(
        "from torch import nn\n"
        "class Tied(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.rnn, self.one, self.two = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "        self.two.weight = self.one.weight\n"
        "    def forward(self, x):\n"
        "        return self.two(self.one(self.rnn(x)[0][:, -1]))\n"
    )
    shutil.rmtree("nets")
    Path("nets").mkdir()
    rnn, one, two = nn.GRU(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    state = nn.ModuleDict({"rnn": rnn, "one": one, "two": two}).state_dict()
    torch.save({key: value for key, value in state.items() if key != "two.weight"}, "nets/tied.pt")
    base = import_networks("nets", "made", "probes.npz", module="tied.py:Tied").population[0]
    assert torch.equal(stored(base)["two.weight"], one.weight)


def test_files_of_one_name_are_called_after_their_folders(here):
    for folder in ("x", "y/z"):
        Path(f"many/{folder}").mkdir(parents=True)
        shutil.copy("nets/b.pt", f"many/{folder}/best.pt")
    Path("many/.hidden").mkdir()
    shutil.copy("nets/b.pt", "many/.hidden/best.pt")
    found = import_networks("many", "many/made", "probes.npz", **module())
    assert found.population.names == ["x-best", "y-z-best"]
    again = import_networks("many", "many/made", "probes.npz", **module())  # the population itself is no source
    assert again.population.names == ["x-best", "y-z-best"]
    shutil.copy("nets/b.pt", "many/x-best.pt")
    with pytest.raises(DynamoError, match=r"would both be called 'x-best': rename one"):
        import_networks("many", "other", "probes.npz", **module())


# Metadata ------------------------------------------------------------------------------------------------------------


def test_the_columns_of_a_table_are_typed(here):
    Path("table.csv").write_text("name,lr,kind,old,run\nb,0.1,x,true,007\na-10,,y,false,008\na-2,2,z,true,1e-3\n")
    population = import_networks("nets", "made", "probes.npz", **module(), metadata=Path("table.csv")).population
    assert population["b"].metadata == {"lr": 0.1, "kind": "x", "old": True, "run": "007"}
    assert population["a-10"].metadata == {"kind": "y", "old": False, "run": "008"}
    assert population["a-2"].metadata["lr"] == 2


def test_names_that_do_not_match_are_told_both_ways_before_work_starts(here):
    Path("table.csv").write_text("name,lr\nb,0.1\na-1,0.1\na-2,2\n")
    with pytest.raises(DynamoError, match=r"has 'a-1', which no model is called; .* no row for the models 'a-10'"):
        import_networks("nets", "made", "probes.npz", **module(), metadata=Path("table.csv"))
    assert not Path("made").exists()


def test_arguments_may_be_what_is_known_of_each_network(here):
    torch.save(Reader(9).state_dict(), "nets/b.pt")
    Path("table.csv").write_text("name,units\nb,9\na-10,6\na-2,6\n")
    options = {"module": "own.py:Reader", "module_options": {"units": "@units"}, "metadata": Path("table.csv")}
    population = import_networks("nets", "made", "probes.npz", **options).population
    assert [base.state_shapes for base in population] == [((6,),), ((6,),), ((9,),)]
    with pytest.raises(DynamoError, match="nothing is known of it under 'size', which units=@size asks for: it has un"):
        import_networks("nets", "other", "probes.npz", **{**options, "module_options": {"units": "@size"}})


def test_the_table_may_say_what_each_network_answers(here):
    Path("table.csv").write_text("name,outputs,readout\nb,classes,every\na-10,real,last\na-2,real,last\n")
    population = import_networks("nets", "made", "probes.npz", metadata=Path("table.csv")).population
    spaces = [(base.outputs.kind, base.outputs.readout) for base in population]
    assert spaces == [("real", "last"), ("real", "last"), ("classes", "every")]
    assert len({base.outputs.group for base in population}) == 2


def test_a_checkpoint_of_lightning_tells_its_hyper_parameters(here):
    """As Lightning writes it; its own package is tried in test_lightning_itself."""
    shutil.rmtree("nets")
    Path("nets").mkdir()
    network = Reader(7)
    content = {
        "epoch": 3,
        "global_step": 400,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{key}": value for key, value in network.state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "x.ckpt"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"units": 7, "lr": 1e-3, "tags": ["a"], "layers": 1},
    }
    torch.save(content, "nets/epoch=3-step=400.ckpt")
    options = {"module": "own.py:Reader", "module_options": {"units": "@units", "layers": "@layers"}}
    base = import_networks("nets", "made", "probes.npz", **options).population[0]
    assert base.name == "epoch-3-step-400"
    assert base.metadata == {"epoch": 3, "global_step": 400, "units": 7, "lr": 1e-3, "layers": 1}
    assert torch.equal(stored(base)["head.weight"], network.head.weight)


def test_lightning_itself(here):
    lightning = pytest.importorskip("pytorch_lightning")

    class Task(lightning.LightningModule):
        def __init__(self, units, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.model = Reader(units)

        def training_step(self, batch):
            return self.model(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), self.hparams.lr)

    task = Task(units=4)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    trainer.fit(task, torch.utils.data.DataLoader(probes(), batch_size=10))
    trainer.save_checkpoint("last.ckpt")
    options = {"module": "own.py:Reader", "module_options": {"units": "@units"}}
    base = import_networks("last.ckpt", "made", "probes.npz", **options).population[0]
    assert base.metadata["units"] == 4
    assert base.metadata["lr"] == 0.1
    assert base.metadata["global_step"] == 6
    assert torch.equal(stored(base)["head.weight"], task.model.head.weight)


# What goes wrong -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_imported_is_listed_and_the_rest_goes_on(here, capsys):
    torch.save(Reader(9).state_dict(), "nets/large.pt")
    torch.save(Reader().state_dict() | {"head.bias": torch.tensor([1, float("nan")])}, "nets/nan.pt")
    Path("nets/text.pt").write_text("nothing")
    torch.save({"optimizer": {}}, "nets/none.pt")
    torch.save(Reader().state_dict() | {"more": torch.zeros(1)}, "nets/zz.pt")
    line = ("import", "nets", "--out", "made", "--data", "probes.npz", "--module", "own.py:Reader")
    assert dynamo(*line) == 1
    said = capsys.readouterr()
    assert "3 networks in made, 5 left out" in said.out
    told = dict(text.removeprefix("left out ").split(": ", 1) for text in said.err.splitlines() if "left out" in text)
    assert "head.weight has shape (2, 9) instead of (2, 6)" in told["large"]
    assert "NaN or infinite values in 'head.bias'" in told["nan"]
    assert "holds no readable tensors" in told["text"]
    assert "holds no state dict" in told["none"]
    assert "more is not expected" in told["zz"]
    assert Population.load("made").names == ["a-2", "a-10", "b"]
    assert dynamo("--json", *line) == 1
    assert json.loads(capsys.readouterr().out)["command"] == "import"


@pytest.mark.parametrize("form", range(3))
@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
def test_code_in_files_is_not_run(here, form, suffix):
    trace = here / "run"
    Path(f"nets/evil{suffix}").write_bytes(bombs(trace)[form])
    for options in (module(), {}):
        found = import_networks("nets", f"made-{len(options)}", "probes.npz", **options)
        assert list(found.left_out) == ["evil"]
    assert not trace.exists()


def test_sizes_that_a_file_claims_take_no_room(here):
    for key, shape in (("rnn.weight_hh_l0", (3 * 2**20, 2**20)), ("rnn.weight_ih_l999", (18, 6))):
        state = Reader().state_dict()
        state[key] = torch.zeros(1).expand(shape)
        torch.save(state, "nets/evil.pt")
        shutil.rmtree("made", ignore_errors=True)
        assert list(import_networks("nets", "made", "probes.npz").left_out) == ["evil"]


def test_nothing_is_left_where_nothing_can_be_imported(here):
    with pytest.raises(DynamoError, match=r"none of the 3 networks in nets could be imported: a-2: .*--module-options"):
        import_networks("nets", "made", "probes.npz", **module(units="many"))
    assert not Path("made").exists()


def test_an_import_that_was_cut_off_goes_on(here, monkeypatch):
    whole = import_networks("nets", "whole", "probes.npz", **module()).population
    wrap, count = door.wrap, []

    def interrupted(*arguments, **options):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return wrap(*arguments, **options)

    monkeypatch.setattr(door, "wrap", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_networks("nets", "made", "probes.npz", **module())
    assert Population.load("made").names == ["a-2"]
    before = read_bytes(Path("made/recordings/a-2.safetensors"))
    count.clear()
    monkeypatch.setattr(door, "wrap", lambda *arguments, **options: count.append(1) or wrap(*arguments, **options))
    found = import_networks("nets", "made", "probes.npz", **module())
    assert (found.already, len(count)) == (1, 2)
    assert read_bytes(Path("made/recordings/a-2.safetensors")) == before
    assert found.population.fingerprint == whole.fingerprint
    assert found.population.data_fingerprints == whole.data_fingerprints


def test_a_folder_that_was_made_otherwise_is_refused(here):
    import_networks("nets", "made", "probes.npz", **module())
    torch.save(Reader().state_dict(), "nets/c.pt")
    np.savez("others.npz", inputs=probes().numpy() + 1)
    for options in ({"data": "others.npz"}, {"seed": 1}, {"held_out": 0.5}):
        with pytest.raises(DynamoError, match="made holds a population with other inputs or data"):
            import_networks("nets", "made", **{"data": "probes.npz", **module(), **options})
    with pytest.raises(DynamoError, match="made has another model called 'a-2', or one that was imported otherwise"):
        import_networks("nets", "made", "probes.npz")
    torch.save(Reader().state_dict(), "nets/b.pt")
    with pytest.raises(DynamoError, match="made has another model called 'b'"):
        import_networks("nets", "made", "probes.npz", **module())
    assert Population.load("made").names == ["a-2", "a-10", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": "own.py"}, "write path/to/file.py:Class"),
        ({"module": "none.py:Reader"}, "cannot read none.py: No such file"),
        ({"module": "own.py:Raeder"}, "own.py has no class 'Raeder': did you mean 'Reader'"),
        ({"module": "broken.py:Reader"}, "broken.py fails: ZeroDivisionError: division by zero"),
        ({"module": "own.py:OUTPUTS"}, "own.py has no class 'OUTPUTS'"),
        ({"architecture": "gruu"}, "did you mean 'gru'"),
        ({"architecture": "gru", "module": "own.py:Reader"}, "an architecture or a module, not both"),
        ({"module_options": {"units": "3"}}, "module_options are those of a module"),
        ({"architecture": "gru", "states": ["rnn"]}, "says itself what its states are"),
        ({"outputs": "class"}, "write classes, real, classes:10"),
        ({"readout": "first"}, "the readout is 'first'"),
        ({"source": "nowhere"}, "there is nothing at nowhere"),
        ({"source": "own.py"}, "holds no networks: files .pt"),
        ({"data": "none.npz"}, "cannot read none.npz: No such file"),
        ({"data": "wrong.npz"}, "has the array 'input_id', which nothing would read: did you mean 'input_ids'"),
        ({"data": "nan.npz"}, "nan.npz has NaN or infinite inputs"),
        ({"data": "split.npz"}, "write --data arrays:path=split.npz"),
        ({"held_out": 0.0}, "give a number between 0 and 1"),
    ],
)
def test_what_was_asked_for_is_checked_before_work_starts(here, options, message):
    Path("broken.py").write_text("1 / 0")
    np.savez("wrong.npz", input_id=np.zeros((4, 2), int))
    np.savez("nan.npz", inputs=np.full((4, 2, 3), np.nan, "f"))
    np.savez("split.npz", x_train=np.zeros((4, 2, 3)))
    with pytest.raises(DynamoError, match=message):
        import_networks(**{"source": "nets", "out": "made", "data": "probes.npz", **options})
    assert not Path("made").exists()


def test_flags_of_the_other_kind_are_refused(here, capsys):
    assert dynamo("import", "nets", "-o", "made", "--data", "probes.npz", "--units", "shared") != 0
    assert "--units is for recordings" in capsys.readouterr().err
    assert dynamo("import", "probes.npz", "-o", "made", "--recordings", "--data", "probes.npz") != 0
    assert "--data is for networks" in capsys.readouterr().err
    assert dynamo("import", "nets", "-o", "made") != 0
    assert "say what nets is: --recordings for a file" in capsys.readouterr().err


# The whole way -------------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_is_not_self_contained(here):
    import_networks("nets", "made", "probes.npz", **module())
    text = Path("made/population.toml").read_text()
    assert 'module = "own.py:Reader"' in text
    assert "self_contained = false" in text
    assert str(here) not in text


def test_import_fit_and_questions_on_the_command_line(here, capsys):
    assert dynamo("import", "nets", "--out", "made", "--data", "probes.npz", "--outputs", "classes") == 0
    assert "3 networks in made, 0 left out\nnext: dynamo fit made --preset laptop" in capsys.readouterr().out
    small = ["--meta-model", "gru:hidden_size=6", "--theta-dim", "3", "--steps", "3", "--batch-size", "12"]
    assert dynamo("fit", "made", "--preset", "laptop", "--out", "run", *small, "--output-steps", "readout") == 0
    assert dynamo("show", "run") == 0
    assert dynamo("analyse", "distances", "run") == 0
    assert dynamo("report", "run") == 0
    torch.save(Reader().state_dict(), "new.pt")
    assert dynamo("import", "new.pt", "--out", "new", "--data", "probes.npz", "--outputs", "classes") == 0
    assert dynamo("embed", "run", "new", "--steps", "2", "--map-steps", "2") == 0


# transformers --------------------------------------------------------------------------------------------------------


def test_models_of_transformers_and_checkpoints_of_a_run(here):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=30, max_position_embeddings=12, num_labels=3, **sizes)
    model = transformers.BertForSequenceClassification(config).eval()
    for step in (500, 1000):
        with torch.no_grad():
            model.classifier.bias += step
        model.save_pretrained(f"run/checkpoint-{step}")
    ids = np.random.default_rng(0).integers(30, size=(20, 6))
    mask = (np.arange(6) < (np.arange(20) % 4 + 3)[:, None]).astype(int)
    np.savez("texts.npz", input_ids=ids, attention_mask=mask)
    found = import_networks("run", "made", "texts.npz")
    assert found.left_out == {}
    population = found.population
    assert population.names == ["checkpoint-500", "checkpoint-1000"]
    assert [base.metadata["step"] for base in population] == [500, 1000]
    base, data = population[1], population.dataset(population[1])
    assert (base.outputs.kind, base.outputs.size, base.outputs.readout) == ("classes", 3, "last")
    with torch.no_grad():
        own = data.probes()
        wanted = model(input_ids=own.values, attention_mask=own.mask.long())
    last = own.mask.int().sum(1) - 1
    rows = torch.arange(len(last))
    torch.testing.assert_close(base.trajectories.probe.outputs[rows, last], wanted.logits, atol=1e-4, rtol=1e-4)
    assert len(stored(base)) == len(model.state_dict())


def test_a_model_with_tied_weights_and_code_in_its_folder(here):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained("gpt")
    evil = Path("evil")
    shutil.copytree("gpt", evil)
    table = json.loads((evil / "config.json").read_text())
    table |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (evil / "config.json").write_text(json.dumps(table))
    (evil / "own.py").write_text(f"open({str(here / 'trace')!r}, 'w')")
    np.savez("ids.npz", input_ids=np.random.default_rng(0).integers(20, size=(20, 6)))
    assert import_networks("gpt", "made", "ids.npz").population[0].outputs.size == 20
    with pytest.raises(DynamoError, match=r"transformers cannot read its config.json"):
        import_networks("evil", "other", "ids.npz")
    table = json.loads(Path("gpt/config.json").read_text()) | {"architectures": ["pipeline"]}
    (evil / "config.json").write_text(json.dumps(table))
    with pytest.raises(DynamoError, match=r"names the class 'pipeline', which transformers .* does not have"):
        import_networks("evil", "other", "ids.npz")
    table |= {"architectures": ["GPT2LMHeadModel"], "n_embd": 2**16, "n_layer": 50}
    (evil / "config.json").write_text(json.dumps(table))
    with pytest.raises(DynamoError, match="do not fit the architecture"):
        import_networks("evil", "other", "ids.npz")
    assert not (here / "trace").exists()


def test_without_transformers_its_models_are_told(here, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    Path("nets/bert").mkdir()
    Path("nets/bert/config.json").write_text("{}")
    shutil.copy("nets/b.pt", "nets/bert/model.safetensors")
    from safetensors.torch import save_file

    save_file(Reader().state_dict(), "nets/bert/model.safetensors")
    left_out = import_networks("nets", "made", "probes.npz").left_out
    assert list(left_out) == ["bert"]
    assert "which cannot be imported" in left_out["bert"]
    assert "dynamo-embedding[transformers]" in left_out["bert"]


# torchvision ---------------------------------------------------------------------------------------------------------


def test_checkpoints_of_torchvision(here):
    import torchvision

    torch.manual_seed(0)
    Path("vision").mkdir()
    network = torchvision.models.squeezenet1_1(num_classes=4)
    torch.save(network.state_dict(), "vision/one.pth")
    images = np.random.default_rng(0).random((12, 3, 32, 32)).astype("f")
    np.savez("images.npz", inputs=images)
    spec = "taps:model=squeezenet1_1,points=features.5+features.9"
    base = import_networks("vision", "made", "images.npz", architecture=spec, outputs="classes:4").population[0]
    with torch.no_grad():
        wanted = copy.deepcopy(network).eval()(torch.from_numpy(images))
        from dynamo import Inputs

        found = base.model.trajectory(Inputs(torch.from_numpy(images), torch.ones(12, 1, dtype=torch.bool)))
    torch.testing.assert_close(found.outputs[:, 0], wanted)
    assert all(key.removeprefix("module.") in network.state_dict() for key in weights_of(base.model))
