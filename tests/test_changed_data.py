"""Data sets that have changed since: noticed when models are added, fitted, put on a map or analysed."""

import random
import tomllib

import numpy as np
import pytest
import torch

from command_line import dynamo
from dynamo import DynamoError, Population, Trainer
from dynamo.population.entries import MANIFEST
from dynamo.system.storage import write_toml
from problems import base_model, dataset
from test_damaged_files import mutated, seen_dataset
from test_trainer import SMALL

FIT = ["--meta-model", "gru:hidden_size=4", "--theta-dim", "2", "--models-per-step", "none", "--steps", "3"]
COMPARE = ["--by", "architecture", "--methods", "cka", "--examples", "8"]


def write_data(root, shift=0, rows=40):
    """Sequences of one number a step, and whether their sum is above zero."""
    x = np.random.default_rng(0).normal(size=(rows, 4, 1)).astype("f4")
    y = (x.sum((1, 2)) > 0).astype(int)
    np.savez(root / "data.npz", x_train=x, y_train=np.roll(y, shift), x_test=x[:9], y_test=y[:9])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A population of two kinds of networks with its run, in a folder with their data."""
    root = tmp_path_factory.mktemp("changed")
    write_data(root)
    assert train(root, "p") == 0
    assert dynamo("fit", root / "p", "-o", root / "run", *FIT) == 0
    return root


def train(root, name, *more):
    kinds = ["-a", "gru:hidden_size=3", "-a", "rnn:hidden_size=3", "--seeds", "2", "--epochs", "1"]
    return dynamo("train", root / name, *kinds, "-d", f"arrays:path={root / 'data.npz'}", *more)


@pytest.fixture
def root(made):
    """That folder; the data are mended afterwards."""
    yield made
    write_data(made)


def edited(path, change):
    """The table with a change, as a user makes it who takes its digest out."""
    table = tomllib.loads(path.read_text())
    change(table)
    write_toml(path, {key: value for key, value in table.items() if key != "digest"})


def without_fingerprints(root, path):
    """The population as it was written before manifests had fingerprints of data."""
    edited(path / MANIFEST, lambda table: [entry.pop("data_fingerprint") for entry in table["models"]])


@pytest.mark.parametrize("change", [{"shift": 1}, {"rows": 41}], ids=["labels", "examples"])
def test_a_changed_data_set_is_told_by_every_command_that_reads_it(root, tmp_path, capsys, change):
    write_data(root, **change)
    commands = {
        "fit": ["fit", root / "p", "-o", tmp_path / "run", *FIT],
        "embed": ["embed", root / "run", root / "p", "-o", tmp_path / "embed"],
        "compare": ["analyse", "compare", root / "run", *COMPARE, "-o", tmp_path / "compare"],
    }
    for name, command in commands.items():
        assert dynamo(*command) == 2
        told = capsys.readouterr().err.splitlines()
        assert told[-1].startswith("error: the data set 'arrays' has changed since model 'data-gru-100-s0' was trained")
        assert not (tmp_path / name).exists()
    assert train(root, "p", "--prefix", "more") == 2
    assert "'arrays' has changed since 'data-gru-100-s0'" in capsys.readouterr().err
    assert len(Population.load(root / "p")) == 4
    assert dynamo("show", root / "run") == 0  # needs no data


def test_data_that_have_not_changed_are_taken(root, tmp_path):
    write_data(root)
    assert train(root, "p", "--skip-existing") == 0
    assert dynamo("fit", root / "p", "-o", tmp_path / "run", *FIT) == 0
    assert dynamo("embed", root / "run", root / "p", "-o", tmp_path / "embed", "--steps", "1") == 0
    assert dynamo("analyse", "compare", root / "run", *COMPARE, "-o", tmp_path / "compare") == 0


def test_a_run_knows_its_data_where_its_population_does_not(root, tmp_path, capsys):
    """The run's own record is compared, with populations that were made before manifests had one."""
    copy, run = tmp_path / "p", tmp_path / "run"
    Population.load(root / "p").save(copy)
    without_fingerprints(root, copy)
    assert dynamo("fit", copy, "-o", run, *FIT) == 0
    write_data(root, shift=1)
    capsys.readouterr()
    compare = ["analyse", "compare", run, *COMPARE, "-o", tmp_path / "compare"]
    assert dynamo(*compare) == 2
    assert f"a data set of the population {copy} has changed since this run was fitted" in capsys.readouterr().err
    edited(run / "run.toml", lambda table: table["population"].pop("data"))  # as the message says
    assert dynamo(*compare) == 0
    assert dynamo("fit", copy, "-o", tmp_path / "again", *FIT) == 0  # a population without a record still opens


def test_a_fingerprint_is_kept_when_a_population_is_saved_again(root, tmp_path):
    first = Population.load(root / "p")
    first.save(tmp_path / "q")
    assert [base.data_fingerprint for base in Population.load(tmp_path / "q")] == first.data_fingerprints * 4


def test_a_changed_vocabulary_or_corpus_is_another_data_set_or_refused(tmp_path):
    """Texts carry no checksum: what has changed has another fingerprint, a changed vocabulary is another input."""
    generator = random.Random(0)
    (tmp_path / "vocabulary.txt").write_text("".join(f"word{n}\n" for n in range(20)))
    for part in ("train", "test"):
        rows = "".join(f'"{1 + n % 4}","word{n % 9}","word{n % 4} and word{n % 11}"\n' for n in range(30))
        (tmp_path / f"{part}.csv").write_text(rows)
    whole = seen_dataset("ag-news", root="", vocabulary="vocabulary.txt")(tmp_path)
    outcomes = set()
    for name in ("vocabulary.txt", "train.csv"):
        content = (tmp_path / name).read_bytes()
        for _ in range(30):
            (tmp_path / name).write_bytes(mutated(content, generator))
            try:
                found = seen_dataset("ag-news", root="", vocabulary="vocabulary.txt")(tmp_path)
            except DynamoError:
                outcomes.add((name, "refused"))
                continue
            if name == "vocabulary.txt" and found.tokens != whole.tokens:
                assert found.inputs != whole.inputs
                outcomes.add((name, "another input"))
            same = torch.equal(found.train.inputs.values, whole.train.inputs.values) and found.inputs == whole.inputs
            assert not (found.fingerprint() == whole.fingerprint() and not same)
        (tmp_path / name).write_bytes(content)
    assert outcomes == {("vocabulary.txt", "refused"), ("vocabulary.txt", "another input"), ("train.csv", "refused")}


def test_a_checkpoint_of_changed_data_is_refused(tmp_path):
    data = dataset()
    Trainer(Population([base_model("a", data)]), SMALL).save(tmp_path / "c.pt")
    data.train.inputs.values[0, 0, 0] += 1
    with pytest.raises(DynamoError, match="other data"):
        Trainer(Population([base_model("a", data)]), SMALL).resume(tmp_path / "c.pt")
