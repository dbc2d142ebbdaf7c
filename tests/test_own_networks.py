"""Networks that people bring: populations of any modules, inputs of any form, metadata as tables, files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import dynamo
from command_line import dynamo as command
from dynamo import DynamoError, Fit, FitOptions, Inputs, OutputSpace, Population, Trainer, analysis, measure_fidelity
from dynamo.population.examples import examples_of
from dynamo.population.metadata import tables_of
from problems import dataset, sequences
from test_wrap import Reader

OPTIONS = FitOptions(meta_model="gru:hidden_size=6", theta_dim=4, models_per_step=None, batch_size=12, steps=3)
LENGTHS = (3, 1, 5, 2, 4, 5, 1, 3, 2, 5, 4, 2)


def readers(count=3, **options):
    torch.manual_seed(0)
    return {f"m{n}": Reader(**options) for n in range(count)}


def tokens(left=False):
    """Token ids of different lengths, with their mask, padded on one side."""
    ids, mask = torch.zeros(12, 5, dtype=torch.long), torch.zeros(12, 5, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        place = slice(5 - length, 5) if left else slice(0, length)
        ids[row, place], mask[row, place] = torch.arange(length) + row % 6, 1
    return ids, mask


class Rows(TorchDataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


class Duck:
    """A data set of rows that derives from nothing."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.full((n, 3), float(n)), n % 2) for n in LENGTHS])


class Columns:
    """As much of a data set of Hugging Face as is used."""

    def __init__(self, **columns):
        self.columns, self.column_names, self.features = columns, list(columns), {}

    def __getitem__(self, name):
        return self.columns[name]


def same(examples, inputs, targets=None):
    real = inputs.mask
    assert torch.equal(examples.inputs.mask, real)
    assert torch.equal(examples.inputs.values[real], inputs.values[real])
    assert (examples.targets is None) == (targets is None)
    assert targets is None or torch.equal(examples.targets, targets)


def test_tensors_arrays_pairs_and_loaders_are_the_same_inputs():
    x, y = torch.randn(12, 5, 3), torch.arange(12) % 3
    every = Inputs(x, torch.ones(12, 5, dtype=torch.bool))
    for given in (x, x.numpy(), x.numpy().astype(">f8"), every, x.tolist(), {"inputs": x}, Rows(list(x))):
        same(examples_of(given), every)
    masked = Inputs(x, torch.arange(5) < torch.tensor(LENGTHS)[:, None])
    for given in ((x, masked.mask), (x.numpy(), masked.mask.numpy()), {"x": x, "mask": masked.mask.int()}):
        same(examples_of(given), masked)
    pairs = [(x, y), [x, y.numpy()], TensorDataset(x, y), DataLoader(TensorDataset(x, y), batch_size=5)]
    pairs += [{"inputs": x, "labels": y}, Rows([{"x": a, "y": int(b)} for a, b in zip(x, y, strict=True)])]
    for given in pairs:
        same(examples_of(given), every, y)
    same(examples_of((x, masked.mask, y)), masked, y)
    same(examples_of(DataLoader(TensorDataset(x), batch_size=5)), every)


def test_sequences_of_different_lengths_are_padded():
    wanted = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    for given in (Stream(), Rows(list(Stream())), Duck(list(Stream()))):
        found = examples_of(given)
        assert torch.equal(found.inputs.mask, wanted)
        assert torch.equal(found.targets, torch.tensor(LENGTHS) % 2)
        assert torch.equal(found.inputs.values[:, 0, 0], torch.tensor(LENGTHS).float())
    batches = DataLoader(Stream(), batch_size=None, collate_fn=lambda row: (row[0][None], torch.tensor([row[1]])))
    found = examples_of(batches)
    assert torch.equal(found.inputs.mask, wanted)


@pytest.mark.parametrize("left", [False, True])
def test_padding_on_either_side_is_one(left):
    ids, mask = tokens(left)
    right, real = tokens()
    found = examples_of(Columns(input_ids=ids.tolist(), attention_mask=mask.tolist(), label=list(range(12))))
    same(found, Inputs(right, real == 1), torch.arange(12))
    same(examples_of(DataLoader([{"input_ids": a, "attention_mask": b} for a, b in zip(ids, mask, strict=True)], 4)),
         Inputs(right, real == 1))  # fmt: skip
    ragged = [row[one == 1].tolist() for row, one in zip(ids, mask, strict=True)]
    same(examples_of(Columns(input_ids=ragged)), Inputs(right, real == 1))


def test_texts_need_a_tokenizer_that_takes_all_or_one():
    pandas = pytest.importorskip("pandas")
    texts = ["".join("abcde"[:n]) for n in LENGTHS]
    ids = [[ord(letter) - 97 for letter in text] for text in texts]
    wanted = torch.arange(5) < torch.tensor(LENGTHS)[:, None]

    def one(text):
        if not isinstance(text, str):
            raise TypeError("one text at a time")
        return [ord(letter) - 97 for letter in text]

    frame = pandas.DataFrame({"review": texts, "label": [n % 2 for n in LENGTHS]})
    tokenizers = [
        one,
        lambda texts: [one(text) for text in texts],
        lambda texts: {"input_ids": [one(t) for t in texts]},
    ]
    tokenizers.append(lambda text: {"input_ids": one(text), "attention_mask": [1] * len(text)})
    for tokenizer in tokenizers:
        for given in (frame, texts, Columns(text=texts)):
            found = examples_of(given, tokenizer)
            assert torch.equal(found.inputs.mask, wanted)
            assert [row[real].tolist() for row, real in zip(found.inputs.values, wanted, strict=True)] == ids
    assert torch.equal(examples_of(frame, one).targets, torch.tensor(LENGTHS) % 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a b", "c"], "holds texts: give tokenizer="),
        ({"frames": torch.zeros(3, 2, 2)}, "the inputs have the columns frames; inputs are called one of input_ids"),
        (Rows([]), "no examples"),
        (DataLoader([], batch_size=2), "no batches"),
        ((torch.zeros(3, 2, 2), torch.zeros(4)), "there are 3 inputs and 4 targets"),
        ((torch.zeros(3, 2, 2),) * 4, "a tuple of 4: give inputs"),
        (Rows([torch.zeros(2, 3), torch.zeros(2, 4)]), r"different shapes: \(2, 3\), \(2, 4\)"),
        (torch.zeros(2, 2, 2, 2, 2), "has shape"),
        (object(), "give a tensor or an array"),
    ],
)
def test_inputs_that_cannot_be_used_say_so(given, message):
    with pytest.raises(DynamoError, match=message):
        examples_of(given)


def test_five_lines_from_state_dicts_to_a_map():
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "own-models.md").read_text()
    block = page.split("<!-- five lines -->")[1].split("```python\n")[1].split("```")[0]
    assert "load_state_dict(" in block
    assert "fit_population(" in block
    assert len([line for line in block.splitlines() if line.strip()]) <= 5


def test_all_inputs_of_networks_trained_elsewhere_serve_the_meta_model():
    x = torch.randn(50, 7, 3)
    population = Population.of(readers(), x)
    data = population.dataset(population[0])
    assert all(population.dataset(base) is data for base in population)
    assert (data.probe_size, len(data.test), data.outputs) == (40, 10, None)
    both = torch.cat([data.probes().values, data.test.inputs.values])
    assert torch.equal(both[both[:, 0, 0].argsort()], x[x[:, 0, 0].argsort()])
    other = Population.of(readers(), x, held_out=0.5, seed=3)
    assert len(other.dataset(other[0]).test) == 25


def test_targets_make_scores():
    x = torch.randn(40, 7, 3)
    nets = readers(2)
    right = nets["m0"](x).argmax(1)
    population = Population.of(nets, (x, right))
    assert population[0].outputs == OutputSpace("classes", 2)
    trainer = Trainer(population, OPTIONS)
    trainer.run()
    measured = measure_fidelity(Fit.of(trainer), population)
    assert measured.models[0].base_score == 1
    assert Population.of(nets, x, outputs="classes")[0].outputs == OutputSpace("classes", 2)
    real = Population.of(nets, (x, nets["m0"](x).detach()))
    assert real[0].outputs == OutputSpace("real", 2)
    column = Population.of({"a": Reader(nn.RNN)}, (x, x[:, 0, :2]))
    assert column.dataset(column[0]).train.labels.shape == (32, 2)


def test_networks_of_different_outputs_get_heads_of_their_own():
    differ = Population.of({"a": Reader(), "b": Reader(last=False), "c": Reader()}, sequences(40, 7, 3))
    fit = fitted(differ)
    assert [fit.emulator.group_of(number) for number in range(3)] == ["real-2-last", "real-2-every", "real-2-last"]


def test_modules_are_wrapped_for_a_data_set_too():
    data = dataset(features=3, classes=2)
    population = Population.of(readers(), data)
    assert population[0].outputs == data.outputs
    assert population.dataset(population[0]) is data
    mixed = Population.of(
        {"plain": Reader(), "wrapped": dynamo.wrap(Reader(), inputs=data.inputs, outputs=data.outputs)}, data
    )
    assert len(mixed) == 2


def test_what_cannot_be_wrapped_without_being_told_names_the_call():
    told = r"model 'a' is a Sequential.*write \{'a': dynamo\.wrap\(network, inputs=…, states="
    with pytest.raises(DynamoError, match=told):
        Population.of({"a": nn.Sequential(nn.Linear(3, 4), nn.ReLU())}, torch.randn(20, 5, 3))
    with pytest.raises(DynamoError, match="give a dict of name and network"):
        Population.of([Reader()], torch.randn(20, 5, 3))
    differ = {"a": Reader(), "b": Reader(last=False)}
    with pytest.raises(DynamoError, match="the models have different outputs"):
        Population.of(differ, (torch.randn(20, 5, 3), torch.zeros(20, dtype=torch.long)))


# Metadata. ------------------------------------------------------------------------------------------------------------


def test_metadata_in_all_its_forms_is_one(tmp_path):
    names = ["a", "b"]
    wanted = {"a": {"lr": 0.1, "task": "x", "ok": True}, "b": {"lr": 2, "task": "007", "ok": False}}
    (tmp_path / "table.csv").write_text("task,name,lr,ok\n007,b,2,false\nx,a,0.1,true\n")
    forms = [
        wanted,
        [wanted["a"], wanted["b"]],
        [{"name": "b", **wanted["b"]}, {"name": "a", **wanted["a"]}],
        {"lr": [0.1, 2], "task": ["x", "007"], "ok": [True, False]},
        {"model": ["b", "a"], "lr": [2, 0.1], "task": ["007", "x"], "ok": [False, True]},
        tmp_path / "table.csv",
        str(tmp_path / "table.csv"),
    ]
    for form in forms:
        assert tables_of(form, names) == wanted
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"lr": [2, 0.1], "task": ["007", "x"], "ok": [False, True]}, index=["b", "a"])
    for given in (frame, frame.reset_index(names="name")):
        assert tables_of(given, names) == wanted
    frame.loc["b", "task"] = None
    assert "task" not in tables_of(frame, names)["b"]
    assert tables_of(None, names) == {}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"name": ["a", "c"], "k": [1, 2]}, r"the metadata has 'c', which no model is called; "
         r"the metadata has no row for the models 'b'.*known: a, b"),
        ({"c": {"k": 1}}, "there is metadata for 'c', but no such model"),
        ({"k": [1, 2, 3]}, "'k' has 3 values, and there are 2 models"),
        ([{"k": 1}], "in their order, or by name: there are 1"),
        ({"name": ["a", "a", "b"], "k": [1, 2, 3]}, "two rows for 'a'"),
        ([1, 2], "must be a table for each of the 2 models"),
    ],
)  # fmt: skip
def test_metadata_that_does_not_match_is_told_both_ways(metadata, message):
    with pytest.raises(DynamoError, match=message):
        tables_of(metadata, ["a", "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k,l\n1,2\n", "one of them 'name' or 'model'"),
        ("name\n", "a line for each model"),
        ("name,k,k\na,1,2\n", "two columns of one name"),
        ("name,k\na,1,2\nb,1\n", "line 2 has 3 cells; there are 2 columns"),
        ("name,k\na,1\n", r"table .*table\.csv has no row for the models 'b'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DynamoError, match=message):
        tables_of(path, ["a", "b"])
    with pytest.raises(DynamoError, match="cannot read"):
        tables_of(tmp_path / "none.csv", ["a", "b"])


# Saving. --------------------------------------------------------------------------------------------------------------


def fitted(population):
    trainer = Trainer(population, OPTIONS)
    trainer.run()
    return Fit.of(trainer)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
def test_a_population_of_ones_own_networks_is_saved_without_registering_anything(tmp_path, options):
    live = Population.of(readers(**options), sequences(40, 7, 3), metadata={"seed": [0, 1, 2]})
    fit = fitted(live)
    live.save(tmp_path / "population")
    again = Population.load(tmp_path / "population")
    assert [(base.name, base.metadata, base.state_shapes) for base in again] == [
        (base.name, base.metadata, base.state_shapes) for base in live
    ]
    assert all(base.is_recording for base in again)
    assert torch.equal(fitted(again).theta, fit.theta)
    fit.check_population(again)  # the same weights and the same data
    one, other = measure_fidelity(fit, live), measure_fidelity(fit, again)
    for name in ("hidden_r2", "output_divergence", "agreement"):
        assert one.mean(name) == pytest.approx(other.mean(name), abs=1e-6)
    again.save(tmp_path / "copy")
    for path in (tmp_path / "population").rglob("*.safetensors"):
        assert (tmp_path / "copy" / path.relative_to(tmp_path / "population")).read_bytes() == path.read_bytes()


def test_what_must_run_a_network_whose_code_is_not_here_says_where_its_weights_are(tmp_path):
    networks = readers()
    live = Population.of(networks, sequences(40, 7, 3))
    live.save(tmp_path)
    again = Population.load(tmp_path)
    weights = tmp_path / "weights" / "m1.safetensors"
    with pytest.raises(
        DynamoError, match=r"model 'm1' is a recording: it cannot be run.*m1\.safetensors.*dynamo\.wrap"
    ):
        again[1].model.trajectory(sequences(2, 7, 3))
    network = Reader()
    network.load_state_dict(load_file(weights))  # its own names, as the error says
    for name, value in networks["m1"].state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    back = Population.of({"m1": network}, again.dataset(again[1]))
    assert torch.equal(
        back[0].model.trajectory(sequences(2, 7, 3)).states[0], live[1].model.trajectory(sequences(2, 7, 3)).states[0]
    )
    assert back[0].fingerprint == again[1].fingerprint == live[1].fingerprint


def test_saved_networks_can_be_mapped_and_compared(tmp_path):
    live = Population.of(readers(4), sequences(40, 7, 3), metadata={"group": ["a", "a", "b", "b"]})
    live.save(tmp_path)
    again = Population.load(tmp_path)
    fit = fitted(again)
    assert fit.distances("theta").matrix.shape == (4, 4)
    _, rows = analysis.compare(fit, again, "group", examples=20).table()
    assert rows
    with pytest.raises(DynamoError, match="cannot be run"):
        analysis.conjugacy(fit, again, fit.values_of("group"))


def test_a_damaged_recording_is_refused(tmp_path):
    Population.of(readers(), sequences(40, 7, 3)).save(tmp_path)
    path = tmp_path / "recordings" / "m1.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(DynamoError, match=r"m1\.safetensors is not the file that was saved"):
        fitted(Population.load(tmp_path))


def test_weights_that_are_missing_are_told_when_the_population_is_opened(tmp_path):
    Population.of(readers(), sequences(40, 7, 3)).save(tmp_path)
    (tmp_path / "weights" / "m2.safetensors").unlink()
    with pytest.raises(DynamoError, match=r"cannot read .*m2\.safetensors"):
        Population.load(tmp_path)


def test_commands_answer_for_networks_whose_code_is_not_here(tmp_path, capsys):
    population, run = tmp_path / "population", tmp_path / "run"
    Population.of(readers(), sequences(40, 7, 3), metadata={"group": ["a", "b", "b"]}).save(population)
    dynamo.fit_population(Population.load(population), OPTIONS, run)
    assert command("show", str(run)) == 0
    assert command("analyse", "distances", str(run)) == 0
    capsys.readouterr()
    assert command("analyse", "fixed-points", str(run), "--at", "m1", "--base") != 0
    assert "is a recording: it cannot be run" in " ".join(capsys.readouterr().err.split())


def test_double_precision_is_fitted():
    nets = {name: net.double() for name, net in readers().items()}
    single = Population.of(readers(), sequences(40, 7, 3))
    assert torch.allclose(fitted(Population.of(nets, sequences(40, 7, 3))).theta, fitted(single).theta, atol=1e-3)
